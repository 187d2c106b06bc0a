//! A damaged log is mended with blocks of other nodes, or stays as it is.

use std::path::Path;

use fusion_types::{DecidedBlock, Height, encode};

use super::chain::Chain;
use super::damage::{Image, assert_nothing_wrong, fixture, open_log, places};
use super::scratch;
use crate::store::frame::{Kind, Write};
use crate::store::segment::Decision;
use crate::store::{LocalVolume, RepairError, Repaired, check, repair};

/// Repairs with the blocks of `chain`.
fn mend(home: &Path, chain: &Chain) -> Result<Repaired, RepairError> {
    let mut fetch = |height| block_of(chain, height);
    repair(&LocalVolume, home, &chain.genesis, &mut fetch, &mut |_, _| {})
}

fn block_of(chain: &Chain, height: Height) -> Result<DecidedBlock, String> {
    Ok((*chain.blocks[usize::try_from(height.0).unwrap() - 1]).clone())
}

#[test]
fn any_flipped_bit_is_mended_and_nothing_else_changes() {
    let (chain, image) = fixture();
    let home = scratch();
    let dir = home.path().join("log");
    std::fs::create_dir(&dir).unwrap();
    let mut mended = 0;
    for (name, place) in places(image).into_iter().step_by(5) {
        image.put(&dir);
        let path = dir.join(&name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[place] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let repaired = mend(home.path(), chain).unwrap();
        assert_eq!(
            check(&LocalVolume, home.path(), &chain.genesis, &mut |_, _| {}).unwrap(),
            repaired.report
        );
        for (other, bytes) in &image.0 {
            let written_again = repaired.files.contains(&dir.join(other));
            assert!(written_again || other == &name || std::fs::read(dir.join(other)).unwrap() == *bytes);
        }
        let is_last = image.0.last().is_some_and(|(last, _)| *last == name);
        let opened = open_log(&dir, chain).unwrap();
        let tip = opened.log.tip().0.0;
        assert!(is_last || tip == 24, "{} at {place}: tip {tip}", name.display());
        assert!(is_last || opened.bodies.len() == 1, "the undecided body is kept");
        assert_eq!(assert_nothing_wrong(&dir, chain, opened) as u64, tip);
        mended += repaired.fetched.len();
    }
    assert!(mended > 20, "{mended}");
}

#[test]
fn a_body_that_is_no_block_is_refused_by_start_and_check_alike_and_left_out_by_the_repair() {
    let chain = Chain::of(1);
    let home = scratch();
    let dir = home.path().join("log");
    std::fs::create_dir(&dir).unwrap();
    let mut log = open_log(&dir, &chain).unwrap().log;
    let mut batch = log.batch();
    batch.write.push(Kind::Body, Height(1), &[b"no block"]).unwrap();
    log.reserve(&batch).unwrap();
    log.write(&batch).unwrap().unwrap();
    drop(log);
    assert!(open_log(&dir, &chain).is_err());
    assert!(check(&LocalVolume, home.path(), &chain.genesis, &mut |_, _| {}).is_err());
    assert_eq!(mend(home.path(), &chain).unwrap().files.len(), 1);
    let report = check(&LocalVolume, home.path(), &chain.genesis, &mut |_, _| {}).unwrap();
    assert_eq!((report.blocks, report.undecided), (0, 0));
    assert!(open_log(&dir, &chain).is_ok());
}

#[test]
fn a_decision_that_names_no_body_before_it_is_refused_by_start_and_check_alike_and_mended() {
    let chain = Chain::of(1);
    let (body, certificate) = (chain.blocks[0].block.encoded(), encode(&chain.blocks[0].certificate));
    let length = u32::try_from(body.len()).unwrap();
    for is_before in [true, false] {
        let home = scratch();
        let dir = home.path().join("log");
        std::fs::create_dir(&dir).unwrap();
        let mut log = open_log(&dir, &chain).unwrap().log;
        let mut batch = log.batch();
        let decide = |write: &mut Write, place: u64, length: u32| {
            let pointer = Decision::pointer(place, length);
            write
                .push(Kind::Decision, Height(1), &[&pointer[..], &certificate[..]])
                .unwrap();
        };
        if is_before {
            // Where it says, but of another length.
            let place = batch.write.push(Kind::Body, Height(1), &[body]).unwrap();
            decide(&mut batch.write, place, length + 1);
        } else {
            let mut alone = Write::new(batch.write.start(), 0);
            decide(&mut alone, 0, length);
            decide(&mut batch.write, alone.end(), length);
            batch.write.push(Kind::Body, Height(1), &[body]).unwrap();
        }
        log.reserve(&batch).unwrap();
        log.write(&batch).unwrap().unwrap();
        drop(log);
        assert!(open_log(&dir, &chain).is_err());
        assert!(check(&LocalVolume, home.path(), &chain.genesis, &mut |_, _| {}).is_err());
        assert_eq!(mend(home.path(), &chain).unwrap().files.len(), 1);
        let report = check(&LocalVolume, home.path(), &chain.genesis, &mut |_, _| {}).unwrap();
        assert_eq!((report.blocks, report.undecided), (1, 0));
        let opened = open_log(&dir, &chain).unwrap();
        assert_eq!(assert_nothing_wrong(&dir, &chain, opened), 1);
    }
}

#[test]
fn a_lost_file_is_mended() {
    let (chain, image) = fixture();
    let home = scratch();
    let dir = home.path().join("log");
    std::fs::create_dir(&dir).unwrap();
    image.put(&dir);
    std::fs::remove_file(dir.join("00000002.seg")).unwrap();
    let repaired = mend(home.path(), chain).unwrap();
    assert_eq!(repaired.report.blocks, 24);
    assert_eq!(repaired.files, [dir.join("00000002.seg")]);
}

#[test]
fn a_block_that_nobody_gives_or_that_is_wrong_leaves_the_log_as_it_was() {
    let (chain, image) = fixture();
    let home = scratch();
    let dir = home.path().join("log");
    std::fs::create_dir(&dir).unwrap();
    image.put(&dir);
    let path = dir.join("00000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2000] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let before = Image::of(&dir);
    let mut nobody = |_| Err("nobody answers".to_owned());
    let mut another_height = |height: Height| block_of(chain, height.next());
    let mut forged = |height| {
        let mut block = block_of(chain, height)?;
        block.certificate.signatures[0].signature.0[7] ^= 1;
        Ok(block)
    };
    let answers: [&mut dyn FnMut(Height) -> Result<DecidedBlock, String>; 3] =
        [&mut nobody, &mut another_height, &mut forged];
    for answer in answers {
        let refused = repair(&LocalVolume, home.path(), &chain.genesis, answer, &mut |_, _| {});
        assert!(matches!(refused, Err(RepairError::Fetch { .. })), "{refused:?}");
        assert_eq!(Image::of(&dir).0, before.0);
    }
    assert!(mend(home.path(), chain).is_ok());
}
