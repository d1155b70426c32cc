//! Turns bytes that may not be UTF-8 into text of the same length.

use std::borrow::Cow;

/// The bytes as text. Where they are no UTF-8, every byte outside ASCII becomes a question mark, so
/// that the structure of the JSON around the damage can still be read at the same offsets.
pub fn same_length_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => {
            bytes.iter().map(|b| if b.is_ascii() { *b as char } else { '?' }).collect::<String>().into()
        }
    }
}
