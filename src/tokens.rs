//! Finds the ends of JSON tokens in bytes, strictly, without building anything.
//!
//! What is rare goes to serde_json, which checks every rule of the grammar; what is common is done
//! here, sixteen bytes at a time.

use serde_json::value::RawValue;
use wide::u8x16;

/// Where the bytes are not JSON, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub at: usize,
    pub what: String,
}

impl Broken {
    pub fn new(at: usize, what: &str) -> Broken {
        Broken { at, what: what.to_owned() }
    }
}

/// The index of the first byte at or after `at` that is no white space.
#[inline]
pub fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// The index behind `byte`, which must be at `at`.
pub fn expect(bytes: &[u8], at: usize, byte: u8, what: &str) -> Result<usize, Broken> {
    if bytes.get(at) == Some(&byte) { Ok(at + 1) } else { Err(Broken::new(at, what)) }
}

/// Behind an item of an array or a member of an object, which ends with `close`: where the next one
/// begins, or where the whole ends.
pub fn next_in(bytes: &[u8], at: usize, close: u8) -> Result<(usize, bool), Broken> {
    let at = skip_space(bytes, at);
    match bytes.get(at) {
        Some(b',') => Ok((skip_space(bytes, at + 1), true)),
        Some(byte) if *byte == close => Ok((at, false)),
        _ => Err(Broken::new(at, &format!("expected , or {}", close as char))),
    }
}

/// One bit for every byte that ends a plain run of string bytes: a quote, a backslash, or a control
/// character.
#[inline(always)]
pub fn special_marks(sixteen: &[u8; 16]) -> u32 {
    let bytes = u8x16::from(*sixteen);
    let quote = bytes.simd_eq(u8x16::splat(b'"'));
    let backslash = bytes.simd_eq(u8x16::splat(b'\\'));
    let control = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    (quote | backslash | control).to_bitmask()
}

/// One bit for each of sixty-four bytes, from one byte of 0 or 255 for each.
#[inline(always)]
pub fn bits_of([a, b, c, d]: [u8x16; 4]) -> u64 {
    let bits = |quarter: u8x16| u64::from(quarter.to_bitmask());
    bits(a) | bits(b) << 16 | bits(c) << 32 | bits(d) << 48
}

/// The `N` bytes at `at`.
#[inline(always)]
pub fn chunk_at<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// The index of the first quote, backslash or control character at or after `at`.
#[inline]
pub fn string_run_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(sixteen) = chunk_at(bytes, at) {
        let marks = special_marks(sixteen);
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize);
        }
        at += 16;
    }
    let tail = bytes.get(at..)?;
    tail.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).map(|n| at + n)
}

/// The string whose content begins at `at`: its end (the closing quote) and whether it has escapes.
///
/// Escapes are not checked; decoding the string does that.
pub fn string_end(bytes: &[u8], mut at: usize) -> Result<(usize, bool), Broken> {
    let mut has_escapes = false;
    loop {
        match string_run_end(bytes, at) {
            Some(end) if bytes[end] == b'"' => return Ok((end, has_escapes)),
            Some(end) if bytes[end] == b'\\' => {
                has_escapes = true;
                at = end + 2;
            }
            Some(end) => return Err(Broken::new(end, "control character in a string")),
            None => return Err(Broken::new(bytes.len(), "expected the end of a string")),
        }
    }
}

/// The index behind the object or array that opens at `at`; only brackets and strings are looked at.
pub fn balanced_end(bytes: &[u8], mut at: usize) -> Result<usize, Broken> {
    let mut depth = 0usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at + 1)?.0,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err(Broken::new(bytes.len(), "expected the end of an object"))
}

/// An integer of at most 18 digits that begins at `at`, and its end. Anything else, such as a fraction,
/// is `None` and looked at with more care.
#[inline]
pub fn short_int(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let is_negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(is_negative);
    let (mut value, mut end) = (0u64, start);
    while let Some(digit) = bytes.get(end).map(|b| b.wrapping_sub(b'0')).filter(|d| *d <= 9) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        end += 1;
    }
    let n_digits = end - start;
    let is_plain = !matches!(bytes.get(end), None | Some(b'.' | b'e' | b'E'));
    let has_leading_zero = n_digits > 1 && bytes[start] == b'0';
    if n_digits == 0 || n_digits > 18 || !is_plain || has_leading_zero {
        return None;
    }
    Some((if is_negative { -(value as i64) } else { value as i64 }, end))
}

/// The text of the value that begins at `at`, checked by serde_json, and its end.
pub fn raw_value(page: &str, at: usize) -> Result<(&str, usize), Broken> {
    let mut values = serde_json::Deserializer::from_str(&page[at..]).into_iter::<&RawValue>();
    match values.next() {
        Some(Ok(raw)) => Ok((raw.get(), at + values.byte_offset())),
        Some(Err(error)) => Err(Broken {
            at: at + offset_of(&page[at..], error.line(), error.column()),
            what: without_position(&error),
        }),
        None => Err(Broken::new(at, "expected a value")),
    }
}

/// What serde_json says, without the line and column of a text that the reader does not have.
pub fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.clone(), |end| text[..end].to_owned())
}

/// Line and column, both from 1, as an offset.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column.saturating_sub(1)).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_string_ends_where_serde_json_says(text in ".{0,60}", tail in "[ -~]{0,20}") {
            let quoted = serde_json::to_string(&text).unwrap();
            let page = format!("{quoted}{tail}");
            let (end, has_escapes) = string_end(page.as_bytes(), 1).unwrap();
            prop_assert_eq!(end, quoted.len() - 1);
            prop_assert_eq!(has_escapes, quoted.contains('\\'));
        }

        #[test]
        fn short_integers_agree_with_the_standard_library(value in -10i64.pow(18) + 1..10i64.pow(18)) {
            let page = format!("{value},");
            prop_assert_eq!(short_int(page.as_bytes(), 0), Some((value, page.len() - 1)));
        }
    }

    #[test]
    fn odd_numbers_are_left_to_the_careful_path() {
        for text in ["-", "01,", "1.5,", "1e3,", "1234567890123456789,", "1", "x"] {
            assert_eq!(short_int(text.as_bytes(), 0), None, "{text}");
        }
        assert_eq!(short_int(b"0]", 0), Some((0, 1)));
    }

    #[test]
    fn control_characters_and_open_strings_are_broken() {
        assert_eq!(string_end(b"abc\ndef\"", 0).unwrap_err().at, 3);
        assert!(string_end(b"abcdefghijk", 0).is_err());
        assert!(string_end(b"abc\\\"", 0).is_err());
    }

    #[test]
    fn raw_values_are_checked() {
        assert_eq!(raw_value(r#" {"a":[1,2]} ,"#, 0).unwrap(), (r#"{"a":[1,2]}"#, 12));
        for text in ["01", "tru", "[1,]", "{\"a\" 1}", "\"\\x\"", ""] {
            assert!(
                raw_value(text, 0).map(|(raw, end)| raw.len() == text.len() && end == text.len()) != Ok(true),
                "{text}"
            );
        }
    }
}
