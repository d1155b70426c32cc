//! Turns text with codes for a terminal into the text that it would show.
//!
//! A key may be cut by such a code. <https://ecma-international.org/publications-and-standards/standards/ecma-48/>

use crate::redact::begins_as_key;

const ESC: char = '\u{1b}';
/// What begins a code: escape, and the one-character forms of what may follow it.
const INTRODUCERS: [char; 7] = [ESC, '\u{90}', '\u{98}', '\u{9b}', '\u{9d}', '\u{9e}', '\u{9f}'];
const BELL: char = '\u{7}';
const STRING_TERMINATOR: char = '\u{9c}';

/// The text without whole codes, control characters but white space, and characters that nobody sees.
pub fn without_codes(text: &str) -> String {
    let is_seen = |c: &char| {
        let is_part_of_code = INTRODUCERS.contains(c) || [BELL, STRING_TERMINATOR].contains(c);
        c.is_whitespace() || is_part_of_code || !(c.is_control() || is_invisible(*c))
    };
    let text: String = text.chars().filter(is_seen).collect();
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text.as_str());
    while let Some(at) = rest.find(INTRODUCERS) {
        plain.push_str(&rest[..at]);
        rest = behind_code(&rest[at..]);
    }
    plain.push_str(rest);
    plain.retain(|c| c.is_whitespace() || !c.is_control());
    plain
}

/// What follows the code that `text` begins with; where that is not whole, all but what introduces it.
fn behind_code(text: &str) -> &str {
    let mut behind = text.chars();
    let introducer = behind.next();
    let rest = behind.as_str();
    let next = (introducer == Some(ESC)).then(|| behind.next()).flatten();
    match (introducer, next) {
        (Some('\u{9b}'), _) => behind_sequence(rest),
        (Some(ESC), Some('[')) => behind_sequence(behind.as_str()),
        (Some(ESC), Some(']' | 'P' | 'X' | '^' | '_')) => behind_string(behind.as_str()),
        (Some(ESC), _) => behind_escape(rest),
        _ => behind_string(rest),
    }
}

/// Parameters and a final character, such as `1m`.
fn behind_sequence(text: &str) -> &str {
    let parameters = |c| matches!(c, '\u{20}'..='\u{3f}');
    behind_final(text.trim_start_matches(parameters), '\u{40}').unwrap_or(text)
}

/// A character set, or another single function, such as `(B`.
fn behind_escape(text: &str) -> &str {
    behind_final(text.trim_start_matches(|c| matches!(c, '\u{20}'..='\u{2f}')), '\u{30}').unwrap_or(text)
}

/// What follows the character that ends a code; the first one of a key does not count as that.
fn behind_final(text: &str, least: char) -> Option<&str> {
    match begins_as_key(text) {
        true => Some(text),
        false => text.strip_prefix(|c| (least..='\u{7e}').contains(&c)),
    }
}

/// Text for the terminal itself, such as its title. Another code ends it, too.
fn behind_string(text: &str) -> &str {
    match text.find(|c| [BELL, STRING_TERMINATOR].contains(&c) || INTRODUCERS.contains(&c)) {
        Some(at) => {
            let end = &text[at..];
            end.strip_prefix("\u{1b}\\").or(end.strip_prefix([BELL, STRING_TERMINATOR])).unwrap_or(end)
        }
        None => text,
    }
}

/// Whether it has no width, or turns the direction of what follows.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_of_codes_without_an_end_take_no_longer_the_more_there_are() {
        for begun in ["\u{1b}]", "\u{9d}", "\u{1b}[", "\u{1b}"] {
            let text = begun.repeat(1 << 20) + "rest";
            assert!(without_codes(&text).ends_with("est"), "{begun:?}");
        }
    }
}
