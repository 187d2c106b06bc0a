//! What key files promise.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn written(kind: KeyKind, password: Option<&str>) -> (tempfile::TempDir, std::path::PathBuf, SigningKey) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k.json");
    let key = generate().unwrap();
    write(
        kind,
        &path,
        &key,
        password.map(|text| Password::new(text.to_owned())).as_ref(),
    )
    .unwrap();
    (folder, path, key)
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn password_file(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join("password");
    std::fs::write(&path, text).unwrap();
    chmod(&path, 0o600);
    path
}

#[test]
fn plain_file_reads_back_and_is_private() {
    let (_folder, path, key) = written(KeyKind::Peer, None);
    assert_eq!(read(KeyKind::Peer, &path, &mut PasswordSource::new(None)).unwrap(), key);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn bare_hex_reads_with_or_without_prefix() {
    let (_folder, path, _) = written(KeyKind::Peer, None);
    for text in ["0x".to_owned() + &"11".repeat(32) + "\n", "11".repeat(32)] {
        std::fs::write(&path, text).unwrap();
        let key = read(KeyKind::Consensus, &path, &mut PasswordSource::new(None)).unwrap();
        assert_eq!(key.to_bytes(), [0x11; 32]);
    }
}

#[test]
fn encrypted_file_opens_with_its_password_alone() {
    let (folder, path, key) = written(KeyKind::Consensus, Some("correct horse"));
    assert!(!std::fs::read_to_string(&path).unwrap().contains(&hex(&key)));
    let right = password_file(folder.path(), "correct horse\n");
    assert_eq!(
        read(KeyKind::Consensus, &path, &mut PasswordSource::new(Some(&right))).unwrap(),
        key
    );
    let wrong = password_file(folder.path(), "wrong\n");
    let problem = read(KeyKind::Consensus, &path, &mut PasswordSource::new(Some(&wrong))).unwrap_err();
    assert_eq!(problem, "the password is wrong, or the file is damaged");
}

fn hex(key: &SigningKey) -> String {
    alloy_primitives::hex::encode(key.to_bytes())
}

#[test]
fn encrypted_file_binds_kind_and_public_part() {
    let (folder, path, _) = written(KeyKind::Consensus, Some("p"));
    let right = password_file(folder.path(), "p");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("\"consensus\"", "\"peer\"");
    std::fs::write(&path, text).unwrap();
    read(KeyKind::Peer, &path, &mut PasswordSource::new(Some(&right))).unwrap_err();
}

#[test]
fn costly_parameters_are_refused_before_they_cost() {
    let (folder, path, _) = written(KeyKind::Consensus, Some("p"));
    let right = password_file(folder.path(), "p");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("65536", "4294967295")).unwrap();
    let problem = read(KeyKind::Consensus, &path, &mut PasswordSource::new(Some(&right))).unwrap_err();
    assert_eq!(problem, "encrypted.memoryKib is 4294967295, limit is 1048576");
}

#[test]
fn only_the_owner_or_a_secret_volume_may_read() {
    let (_folder, path, _) = written(KeyKind::Peer, None);
    for mode in [0o600, 0o400, 0o440] {
        chmod(&path, mode);
        read(KeyKind::Peer, &path, &mut PasswordSource::new(None)).unwrap();
    }
    for mode in [0o640, 0o644, 0o660, 0o604, 0o444, 0o700, 0o666] {
        chmod(&path, mode);
        let problem = read(KeyKind::Peer, &path, &mut PasswordSource::new(None)).unwrap_err();
        assert!(
            problem.contains(&format!("mode is {mode:04o}")) && problem.contains("chmod 600"),
            "{problem}"
        );
    }
}

#[test]
fn kind_is_checked() {
    let (_folder, path, _) = written(KeyKind::Peer, None);
    let problem = read(KeyKind::Consensus, &path, &mut PasswordSource::new(None)).unwrap_err();
    assert_eq!(problem, "holds a peer key where a consensus key is wanted");
}

#[test]
fn swapped_secret_is_noticed() {
    let (_folder, path, key) = written(KeyKind::Peer, None);
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace(&hex(&key), &"11".repeat(32));
    std::fs::write(&path, text).unwrap();
    assert!(
        read(KeyKind::Peer, &path, &mut PasswordSource::new(None))
            .unwrap_err()
            .contains("is damaged")
    );
}

#[test]
fn existing_file_is_never_overwritten() {
    let (_folder, path, key) = written(KeyKind::Peer, None);
    let error = write(KeyKind::Peer, &path, &generate().unwrap(), None).unwrap_err();
    assert_eq!(error.exit, crate::exit::Exit::Config);
    assert_eq!(read(KeyKind::Peer, &path, &mut PasswordSource::new(None)).unwrap(), key);
}

#[test]
fn no_secret_in_debug() {
    let keys = Keys {
        consensus: None,
        peer: SigningKey::from_bytes(&[0x11; 32]),
    };
    assert!(!format!("{keys:?}").contains("1111"));
}

#[test]
fn damaged_files_are_refused_without_panic() {
    let (_folder, path, _) = written(KeyKind::Peer, None);
    for text in [
        "",
        "{",
        "{}",
        "xyz",
        "[1]",
        "{\"version\":1}",
        &"1".repeat(10_000),
        &"1".repeat(63),
    ] {
        std::fs::write(&path, text).unwrap();
        read(KeyKind::Peer, &path, &mut PasswordSource::new(None)).unwrap_err();
    }
}
