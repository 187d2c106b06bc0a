//! Tests of this room's promises.

use super::*;

/// A frame as a node writes it: unmasked.
fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match content.len() {
        short @ 0..=125 => out.push(u8::try_from(short).unwrap()),
        medium @ 126..=65_535 => {
            out.push(126);
            out.extend_from_slice(&u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    out
}

/// Gives its bytes in portions of `step`.
struct Drip<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl Read for Drip<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.step.min(out.len()).min(self.bytes.len());
        out[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

fn messages(bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
    let mut frames = Frames::new();
    let mut source = Drip { bytes, step };
    let mut found = Vec::new();
    loop {
        while let Some(incoming) = frames.next().unwrap() {
            match incoming {
                Incoming::Message(text) => found.push(text.to_vec()),
                Incoming::Ping(content) => found.push([b"ping ", content].concat()),
                Incoming::Close(reason) => found.push(format!("close {reason}").into_bytes()),
            }
        }
        if frames.fill(&mut source).unwrap() == 0 {
            return found;
        }
    }
}

#[test]
fn messages_come_out_whole_however_the_bytes_arrive() {
    let long = vec![b'x'; 700_000];
    let mut bytes = frame(FIN | TEXT, b"one");
    bytes.extend(frame(FIN | PONG, b"ignored"));
    bytes.extend(frame(TEXT, b"two "));
    bytes.extend(frame(FIN | PING, b"now"));
    bytes.extend(frame(CONTINUATION, b"in "));
    bytes.extend(frame(FIN | CONTINUATION, b"parts"));
    bytes.extend(frame(FIN | TEXT, &long));
    bytes.extend(frame(FIN | TEXT, &[b'y'; 200]));
    bytes.extend(frame(FIN | CLOSE, b"\x03\xe8bye"));
    let expected: Vec<Vec<u8>> = vec![
        b"one".to_vec(),
        b"ping now".to_vec(),
        b"two in parts".to_vec(),
        long,
        vec![b'y'; 200],
        b"close bye".to_vec(),
    ];
    for step in [7, 4_096, 1_000_000] {
        assert_eq!(messages(&bytes, step), expected, "in steps of {step}");
    }
}

#[test]
fn a_frame_beyond_the_limit_is_refused_before_it_is_read() {
    let mut bytes = vec![FIN | TEXT, 127];
    bytes.extend_from_slice(&(MESSAGE_BYTES_MAX as u64 + 1).to_be_bytes());
    let mut frames = Frames::new();
    frames.fill(&mut bytes.as_slice()).unwrap();
    assert!(frames.next().is_err());
}

#[test]
fn masked_or_unknown_frames_of_a_node_are_refused() {
    for bytes in [[FIN | TEXT, 0x80], [FIN | 3, 0], [FIN | CONTINUATION, 0]] {
        let mut frames = Frames::new();
        frames.fill(&mut bytes.as_slice()).unwrap();
        assert!(frames.next().is_err(), "{bytes:?}");
    }
}

#[test]
fn outgoing_frames_have_the_length_form_that_the_protocol_asks_for() {
    for (length, header) in [(0, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
        let mut outgoing = Outgoing::default();
        outgoing.begin().extend(std::iter::repeat_n(b'z', length));
        let frame = outgoing.finish();
        assert_eq!(frame.len(), header + length);
        assert_eq!(frame[0], FIN | TEXT);
        assert_eq!(frame[1] & 0x80, 0x80, "masked");
        assert_eq!(frame[header - 4..header], [0; 4], "with zeros");
        assert!(frame[header..].iter().all(|byte| *byte == b'z'));
    }
}
