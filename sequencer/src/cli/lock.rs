//! The lock of a home folder: held by the process that runs there, which writes its id into the file.
//!
//! Promises: the system lets go of the lock when the process ends, however it ends; so a lock that is held means a
//! process that lives, and the id in the file means nothing without it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::exit::{Exit, ExitError};
use crate::store::lock_soon;

/// The file in a home.
const FILE_NAME: &str = "lock";

/// Longest process id that is read, in bytes.
const ID_BYTES_MAX: u64 = 16;

/// Takes a home folder, which may not exist yet, for this process; held as long as the file is open.
pub(super) fn take(home: &Path) -> Result<File, ExitError> {
    let path = home.join(FILE_NAME);
    let failed = |error: &dyn std::fmt::Display| {
        ExitError::config(format_args!("node.home: cannot write {}: {error}", path.display()))
    };
    std::fs::create_dir_all(home).map_err(|error| failed(&error))?;
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| failed(&error))?;
    if lock_soon(&file).is_err() {
        return Err(ExitError::new(
            Exit::Locked,
            format_args!("{} is in use by process {}", home.display(), written(&file)),
        ));
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| failed(&error))?;
    Ok(file)
}

/// The process that runs in `home`, if one does.
pub(super) fn owner(home: &Path) -> Option<u32> {
    let file = File::open(home.join(FILE_NAME)).ok()?;
    // If nobody has it, it is ours until the file is closed below; a process that starts at this moment tries again.
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => written(&file).parse().ok(),
        _ => None,
    }
}

/// The process id in the file.
fn written(file: &File) -> String {
    let mut text = String::new();
    // Empty if it cannot be read: then nobody is named.
    drop(file.take(ID_BYTES_MAX).read_to_string(&mut text));
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_home_is_known_for_as_long_as_it_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(owner(folder.path()), None);
        let lock = take(folder.path()).unwrap();
        assert_eq!(owner(folder.path()), Some(std::process::id()));
        let refused = take(folder.path()).unwrap_err();
        assert!(refused.message.contains(&std::process::id().to_string()), "{refused}");
        drop(lock);
        assert_eq!(owner(folder.path()), None);
    }
}
