//! Decoders that the node keeps to itself, compiled from its own files: a public name for each would be there for
//! fuzzing alone.

use bytes::Bytes;

#[path = "../../sequencer/src/network/frame.rs"]
#[expect(dead_code, reason = "the rest of the file is the network's")]
mod frame;

#[path = "../../sequencer/src/store/index/run.rs"]
#[expect(dead_code, reason = "the rest of the file is the index's")]
mod run;

/// One stream of a connection: however its bytes are cut, the same frames come out of it, or the same fault.
pub fn frames(data: &[u8]) {
    let [class, limit, cut, stream @ ..] = data else { return };
    let class = frame::Class::of_tag(class % 4).expect("there are four");
    let limit = match limit % 4 {
        0 => class.frame_bytes_max(true).unwrap_or(1),
        1 => class.frame_bytes_max(false).unwrap_or(1),
        _ => usize::from(*limit),
    };
    let whole = assemble(class, limit, stream, stream.len().max(1));
    let pieces = assemble(class, limit, stream, usize::from(*cut).max(1));
    assert_eq!(whole, pieces);
    let framed: Vec<u8> = whole
        .0
        .iter()
        .flat_map(|payload| {
            assert!(!payload.is_empty() && payload.len() <= limit);
            let length = u32::try_from(payload.len()).expect("limits are below 4 GiB");
            [length.to_be_bytes().as_slice(), payload].concat()
        })
        .collect();
    assert!(
        stream.starts_with(&framed),
        "frames are the stream's bytes, one after the other"
    );
}

fn assemble(class: frame::Class, limit: usize, stream: &[u8], cut: usize) -> (Vec<Bytes>, bool, bool) {
    let mut assembler = frame::Assembler::new(class, limit);
    let mut found = Vec::new();
    for piece in stream.chunks(cut) {
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() {
            match assembler.feed(&mut piece) {
                Ok(frame) => found.extend(frame),
                Err(_) => return (found, true, false),
            }
        }
    }
    let inside = assembler.is_inside_frame();
    (found, false, inside)
}

/// A chunk of the index, as it lies in `sled`: first byte 1 for one whose checksum is made right, then the key, then
/// the bytes.
pub fn index_chunk(data: &[u8]) {
    let Some((mended, rest)) = data.split_first() else {
        return;
    };
    let Some((key, bytes)) = rest.split_at_checked(25) else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if mended % 2 == 1 {
        let crc = crc32c::crc32c_append(crc32c::crc32c(key), &bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
    }
    let Some(chunk) = run::Chunk::decode(key, &bytes) else {
        return;
    };
    let entries: Vec<_> = (0..chunk.len()).map_while(|at| chunk.entry(at)).collect();
    assert_eq!(entries.len(), chunk.len());
    assert_eq!(chunk.entry(chunk.len()), None);
    let sorted = entries.is_sorted_by_key(|(key, _)| *key);
    for probe in entries
        .iter()
        .map(|(key, _)| key)
        .chain([&run::FIRST, &run::LAST, &chunk.upper])
    {
        let floor = chunk.floor(probe);
        if sorted {
            let expected = entries.iter().rev().find(|(key, _)| key <= probe);
            assert_eq!(floor.as_ref(), expected);
        }
        let _ = (run::lane_of(probe), floor.map(|(_, value)| run::parts(value)));
    }
}
