//! The path of the value that stands at a place in a JSON text, so that an error can name its field.

/// One level of nesting.
enum Level {
    /// In an object, at this key.
    Key(String),
    /// In a list, at this place.
    Index(usize),
}

/// The path (`header.l1Origin.hash`, `laneProof.siblings[2]`) of what stands just before `line` and `column`, both from
/// 1, as `serde_json` reports them. `the document` at the top level.
pub(super) fn of_place(text: &str, line: usize, column: usize) -> String {
    let start: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    let end = start.saturating_add(column).min(text.len());
    let path = render(&walk(&text.as_bytes()[..end]));
    if path.is_empty() {
        "the document".to_owned()
    } else {
        path
    }
}

/// Follows the text up to its end; tolerant, because the text is wrong somewhere.
fn walk(text: &[u8]) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    // A string is a key when it is the first thing in an object or follows a comma there.
    let mut key_next = false;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'{' => {
                levels.push(Level::Key(String::new()));
                key_next = true;
            }
            b'[' => {
                levels.push(Level::Index(0));
                key_next = false;
            }
            // The last bracket stays open: the error is about what it closes.
            b'}' | b']' if at + 1 < text.len() => {
                levels.pop();
                key_next = false;
            }
            b',' => match levels.last_mut() {
                Some(Level::Index(index)) => *index += 1,
                Some(Level::Key(_)) => key_next = true,
                None => {}
            },
            b'"' => {
                let end = string_end(text, at + 1);
                if let (true, Some(Level::Key(key))) = (key_next, levels.last_mut()) {
                    *key = String::from_utf8_lossy(&text[at + 1..end]).into_owned();
                    key_next = false;
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    levels
}

/// Where the string that starts at `from` has its closing quote, or the end of the text.
fn string_end(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at.min(text.len())
}

fn render(levels: &[Level]) -> String {
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Key(key) if key.is_empty() => {}
            Level::Key(key) if path.is_empty() => path.push_str(key),
            Level::Key(key) => {
                path.push('.');
                path.push_str(key);
            }
            Level::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_by_its_keys_and_list_indices() {
        let text = "{\"a\": 1,\n \"b\": {\"c\": [\"x\", {\"d\": \"y, {\\\"\"}]}, \"e\": 2}";
        let path_after = |needle: &str| {
            let end = text.find(needle).unwrap() + needle.len();
            let line = text[..end].matches('\n').count() + 1;
            let column = end - text[..end].rfind('\n').map_or(0, |at| at + 1);
            of_place(text, line, column)
        };
        assert_eq!(path_after("1"), "a");
        assert_eq!(path_after("\"x\""), "b.c[0]");
        assert_eq!(path_after("\\\"\""), "b.c[1].d");
        assert_eq!(path_after("2"), "e");
        assert_eq!(of_place("", 0, 0), "the document");
        assert_eq!(of_place("[[[", 9, 9), "[0][0][0]");
    }
}
