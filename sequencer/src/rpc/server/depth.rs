//! How deep a request is nested, seen while it is read: brackets cost whoever parses them, and no call has many.

/// Deepest nesting that is taken. A batch of calls with lists of objects has five levels.
pub(super) const DEPTH_MAX: u32 = 32;

/// Counts the brackets of a text that comes in pieces. Says nothing of whether it is JSON.
#[derive(Debug, Default)]
pub(super) struct Depth {
    open: u32,
    in_string: bool,
    /// Whether the last byte escapes the next one.
    escaped: bool,
}

impl Depth {
    /// Goes on with the next piece. False once the text is nested too deep.
    pub(super) fn is_fine_with(&mut self, piece: &[u8]) -> bool {
        let mut at = 0;
        while let Some(byte) = piece.get(at) {
            at += 1;
            if self.escaped {
                self.escaped = false;
                continue;
            }
            if self.in_string {
                // Most of a request is the strings of its transactions.
                let Some(ends) = memchr::memchr2(b'"', b'\\', &piece[at - 1..]) else {
                    return true;
                };
                at += ends;
                self.escaped = piece[at - 1] == b'\\';
                self.in_string = self.escaped;
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'[' | b'{' => self.open = self.open.saturating_add(1),
                b']' | b'}' => self.open = self.open.saturating_sub(1),
                _ => {}
            }
            if self.open > DEPTH_MAX {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Byte by byte, as a slow connection brings it.
    fn is_fine(text: &str) -> bool {
        let mut depth = Depth::default();
        let in_pieces = text.bytes().all(|byte| depth.is_fine_with(&[byte]));
        assert_eq!(Depth::default().is_fine_with(text.as_bytes()), in_pieces, "{text}");
        in_pieces
    }

    #[test]
    fn nesting_is_bounded_and_strings_do_not_count() {
        assert!(is_fine(&"[".repeat(32)));
        assert!(!is_fine(&"[".repeat(33)));
        assert!(!is_fine(&r#"{"a":"#.repeat(33)));
        assert!(is_fine(&"[]{}".repeat(100)), "beside each other");
        let brackets = "[".repeat(100);
        assert!(is_fine(&format!("\"{brackets}\"")));
        assert!(
            is_fine(&format!(r#""a quote \" and {brackets}""#)),
            "an escaped quote ends nothing"
        );
        assert!(
            !is_fine(&format!(r#""ends in \\" {brackets}"#)),
            "an escaped backslash escapes nothing"
        );
    }
}
