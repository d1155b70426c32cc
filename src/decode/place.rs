//! Names the place in a JSON text at which it is broken.

use std::ops::Range;

use crate::tokens::string_end;

/// Levels that a path names; what is deeper is not there by accident, and only counted.
const MAX_LEVELS: usize = 16;
/// Bytes of a key that are shown.
const MAX_KEY: usize = 60;

/// What is around a place.
enum Level {
    Object {
        key: Range<usize>,
        is_key_next: bool,
    },
    /// How many values come before.
    Array(usize),
}

/// The path to the value in which `at` is, such as `data[56].fee_details[0].amount`; empty outside of any object.
pub fn path_to(text: &[u8], at: usize) -> String {
    let mut levels: Vec<Level> = Vec::new();
    let mut n_deeper = 0_usize;
    let text = &text[..at.min(text.len())];
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let is_deep = levels.len() == MAX_LEVELS;
        let level = levels.last_mut().filter(|_| n_deeper == 0);
        match (byte, level) {
            (b'"', level) => {
                let start = at + 1;
                at = string_end(text, start).map_or(text.len(), |(end, _)| end);
                if let Some(Level::Object { key, is_key_next: is_key_next @ true }) = level {
                    (*key, *is_key_next) = (start..at, false);
                }
            }
            (b'{' | b'[', _) if is_deep => n_deeper += 1,
            (b'}' | b']', _) if n_deeper > 0 => n_deeper -= 1,
            (b'{', _) => levels.push(Level::Object { key: 0..0, is_key_next: true }),
            (b'[', _) => levels.push(Level::Array(0)),
            (b'}' | b']', Some(_)) => _ = levels.pop(),
            (b',', Some(Level::Array(n))) => *n += 1,
            (b',', Some(Level::Object { key, is_key_next })) => (*key, *is_key_next) = (0..0, true),
            _ => {}
        }
        at += 1;
    }
    let mut path = String::new();
    for level in &levels {
        match level {
            Level::Array(n) => path.push_str(&format!("[{n}]")),
            Level::Object { key, .. } if key.is_empty() => {}
            Level::Object { key, .. } => {
                let dot = if path.is_empty() { "" } else { "." };
                let key = &text[key.start..key.end.min(key.start + MAX_KEY)];
                path = format!("{path}{dot}{}", String::from_utf8_lossy(key));
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_the_value() {
        for (text, path) in [
            (
                r#"{"data":[{"id":"a]}"},{"id":"b","fees":[{"amount":7},{"a\"b":1,"amount":!"#,
                "data[1].fees[1].amount",
            ),
            (r#"{"data":[{"id":"a"},!"#, "data[1]"),
            (r#"{"data":[{"id":"a",!"#, "data[0]"),
            (r#"{"object":"list","data":[],"url":!"#, "url"),
            (r#"{"id":1}{"id":2,"b":[[1,!"#, "b[0][1]"),
            ("!", ""),
            ("]}!", ""),
        ] {
            assert_eq!(path_to(text.as_bytes(), text.find('!').unwrap()), path, "{text}");
        }
    }

    #[test]
    fn any_text_has_a_path() {
        let text = br#"{"a":["b\"c",{"d\\":1}],"e":"\"#;
        for at in 0..=text.len() + 1 {
            path_to(text, at);
        }
        let deep = "[".repeat(100_000);
        assert_eq!(path_to(deep.as_bytes(), deep.len()).len(), 3 * MAX_LEVELS);
        let around = format!("[7,{}", "[".repeat(MAX_LEVELS - 2));
        let behind = format!(r#"{around}[[{{"a":1}}, 2]],{{"b":"#);
        assert_eq!(
            path_to(behind.as_bytes(), behind.len()),
            format!("[1]{}[1].b", "[0]".repeat(MAX_LEVELS - 3))
        );
        let within = format!(r#"{around}[[1, 2], {{"b":"#);
        assert_eq!(
            path_to(within.as_bytes(), within.len()),
            format!("[1]{}[1]", "[0]".repeat(MAX_LEVELS - 2))
        );
    }
}
