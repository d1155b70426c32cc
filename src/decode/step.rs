//! Turns one token of the page into one value of a builder, and tells usual from unusual.

use crate::decode::builders::Text;
use crate::decode::columns::Column;
use crate::tokens::{Broken, chunk_at, raw_value, special_marks, string_end, string_run_end};

/// Why a row was not finished.
#[derive(Debug)]
pub enum Stop {
    /// The object is unusual: let the plain decoder see to it.
    Unusual,
    /// The page is no JSON.
    Broken(Broken),
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Stop {
        Stop::Broken(broken)
    }
}

/// What a step of the fast decoder comes to.
pub type Step<T> = Result<T, Stop>;

/// A claim that holds for all but unusual objects.
#[inline(always)]
pub fn must(holds: bool) -> Step<bool> {
    if holds { Ok(true) } else { Err(Stop::Unusual) }
}

/// `Ok(false)` when there is no value of the column's type; a second value for one row is unusual.
pub fn put_if<T>(value: Option<T>, put: impl FnOnce(T) -> bool) -> Step<bool> {
    value.map_or(Ok(false), |value| must(put(value)))
}

#[inline(always)]
pub fn put_int(column: &mut Column, row: usize, value: i64, end: usize) -> Step<usize> {
    match column {
        Column::Int64(builder) | Column::Timestamp(builder) => must(builder.put(row, value)).map(|_| end),
        _ => unreachable!("an integer column has an integer builder"),
    }
}

#[inline(always)]
pub fn put_bool(column: &mut Column, row: usize, value: bool, end: usize) -> Step<usize> {
    match column {
        Column::Bool(builder) => must(builder.put(row, value)).map(|_| end),
        _ => unreachable!("a flag column has a flag builder"),
    }
}

/// Bytes of a string that is scanned and copied in one piece; most of Stripe's are shorter.
const SHORT: usize = 32;

/// Puts the string that opens at `at`, and returns the index behind it.
#[inline(always)]
pub fn put_string(page: &str, at: usize, text: &mut Text, row: usize) -> Step<usize> {
    let bytes = page.as_bytes();
    if let Some(window) = chunk_at::<SHORT>(bytes, at + 1) {
        let n = string_run(window);
        if n < SHORT && window[n] == b'"' {
            must(text.put_start_of(row, window, n))?;
            return Ok(at + 1 + n + 1);
        }
    }
    put_long_string(page, at, text, row)
}

/// How many bytes at the start of `window` are plain bytes of a string.
#[inline(always)]
fn string_run(window: &[u8; SHORT]) -> usize {
    let (halves, _) = window.as_chunks::<16>();
    // Without a branch between the halves: where a string ends is hard to predict.
    (special_marks(&halves[0]) | special_marks(&halves[1]) << 16).trailing_zeros() as usize
}

#[inline(never)]
fn put_long_string(page: &str, at: usize, text: &mut Text, row: usize) -> Step<usize> {
    let bytes = page.as_bytes();
    let Some(end) = string_run_end(bytes, at + 1) else {
        return Err(Broken::new(bytes.len(), "expected the end of a string").into());
    };
    if bytes[end] == b'"' {
        must(text.put_bytes(row, &bytes[at + 1..end]))?;
        return Ok(end + 1);
    }
    put_escaped(page, at, text, row)
}

#[cold]
#[inline(never)]
pub fn put_escaped(page: &str, at: usize, text: &mut Text, row: usize) -> Step<usize> {
    let (end, _) = string_end(page.as_bytes(), at + 1)?;
    match unescape(&page[at..=end]) {
        Some(value) => must(text.put(row, &value)).map(|_| end + 1),
        // Half a surrogate pair, or an escape that JSON does not have: serde_json tells them apart.
        None => {
            raw_value(page, at)?;
            Err(Stop::Unusual)
        }
    }
}

pub fn unescape(quoted: &str) -> Option<String> {
    serde_json::from_str(quoted).ok()
}

#[inline(always)]
pub fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Step<usize> {
    match bytes.get(at..at + word.len()) {
        Some(found) if found == word => Ok(at + word.len()),
        _ => Err(Broken::new(at, "expected a value").into()),
    }
}
