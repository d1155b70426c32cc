//! Walks over a JSON value, strictly and in one pass, and hands its tokens on.

use crate::tokens::{skip_space, string_run_end};

/// Objects and arrays that may be open at once.
const LEVELS: u32 = 64;

/// A value that was walked over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// The index behind the value.
    pub end: usize,
    /// How deep objects and arrays are nested in it.
    pub depth: usize,
}

/// What becomes of the tokens.
pub trait Sink {
    /// Whether strings may have escapes.
    const TAKES_ESCAPES: bool;

    /// Takes a token as it stands in the page; white space is none.
    fn put(&mut self, token: &str);

    /// Whether the walk may go on behind this key, which is as in the page.
    fn takes(&self, key: &str) -> bool;
}

/// Nothing: the value is only checked.
pub struct Skip;

impl Sink for Skip {
    const TAKES_ESCAPES: bool = true;

    fn put(&mut self, _: &str) {}

    fn takes(&self, _: &str) -> bool {
        true
    }
}

/// Walks over the value that begins at `at`.
///
/// `None` for what is not JSON, for what the sink does not take, and where more than 64 levels are open.
pub fn walk(page: &str, at: usize, sink: &mut impl Sink) -> Option<Walked> {
    Walk { page, at, sink, open: Open::default() }.value()
}

/// What is open around a token: one bit for each level, set for an object.
#[derive(Default)]
struct Open {
    objects: u64,
    depth: u32,
    deepest: u32,
}

impl Open {
    fn push(&mut self, is_object: bool) -> Option<()> {
        self.objects = self.objects << 1 | u64::from(is_object);
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        (self.depth < LEVELS).then_some(())
    }

    fn pop(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    fn is_in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

struct Walk<'a, S> {
    page: &'a str,
    at: usize,
    sink: &'a mut S,
    open: Open,
}

impl<S: Sink> Walk<'_, S> {
    fn value(mut self) -> Option<Walked> {
        loop {
            let is_opened = match self.peek()? {
                b'"' => self.string().map(|()| false)?,
                byte @ (b'{' | b'[') => self.opening(byte == b'{')?,
                b't' => self.word("true").map(|()| false)?,
                b'f' => self.word("false").map(|()| false)?,
                b'n' => self.word("null").map(|()| false)?,
                _ => self.number().map(|()| false)?,
            };
            if is_opened {
                continue;
            }
            if !self.is_followed()? {
                // What touches the value is no separator: `1true`.
                matches!(self.peek(), None | Some(b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t'))
                    .then_some(())?;
                return Some(Walked { end: self.at, depth: self.open.deepest as usize });
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.page.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        self.at = skip_space(self.page.as_bytes(), self.at);
    }

    /// An opening bracket; whether a value of its own comes next.
    fn opening(&mut self, is_object: bool) -> Option<bool> {
        self.open.push(is_object)?;
        self.sink.put(if is_object { "{" } else { "[" });
        self.at += 1;
        self.space();
        if self.peek()? == closing(is_object) {
            self.close();
            return Some(false);
        }
        if is_object {
            self.key()?;
        }
        Some(true)
    }

    fn close(&mut self) {
        self.sink.put(if self.open.is_in_object() { "}" } else { "]" });
        self.at += 1;
        self.open.pop();
    }

    /// What stands behind a value; whether another value comes.
    fn is_followed(&mut self) -> Option<bool> {
        while self.open.depth > 0 {
            self.space();
            match self.peek()? {
                b',' => {
                    self.sink.put(",");
                    self.at += 1;
                    self.space();
                    if self.open.is_in_object() {
                        self.key()?;
                    }
                    return Some(true);
                }
                byte if byte == closing(self.open.is_in_object()) => self.close(),
                _ => return None,
            }
        }
        Some(false)
    }

    fn key(&mut self) -> Option<()> {
        let start = self.at + 1;
        (self.peek()? == b'"').then_some(())?;
        self.string()?;
        self.sink.takes(&self.page[start..self.at - 1]).then_some(())?;
        self.space();
        (self.peek()? == b':').then_some(())?;
        self.sink.put(":");
        self.at += 1;
        self.space();
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        let bytes = self.page.as_bytes();
        let start = self.at;
        let mut end = string_run_end(bytes, start + 1)?;
        while bytes[end] != b'"' {
            let behind = escape_end(bytes, end).filter(|_| S::TAKES_ESCAPES)?;
            end = string_run_end(bytes, behind)?;
        }
        self.sink.put(&self.page[start..=end]);
        self.at = end + 1;
        Some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.page.as_bytes()[self.at..].starts_with(word.as_bytes()).then_some(())?;
        self.sink.put(word);
        self.at += word.len();
        Some(())
    }

    /// `-? (0 | [1-9] [0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`, from RFC 8259.
    fn number(&mut self) -> Option<()> {
        let bytes = self.page.as_bytes();
        let digits = |at: usize| at + bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let start = self.at + usize::from(self.peek()? == b'-');
        let mut end = digits(start);
        if end == start || (bytes[start] == b'0' && end > start + 1) {
            return None;
        }
        if bytes.get(end) == Some(&b'.') {
            let fraction = digits(end + 1);
            (fraction > end + 1).then_some(())?;
            end = fraction;
        }
        if let Some(b'e' | b'E') = bytes.get(end) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            (exponent > end + 1 + sign).then_some(())?;
            end = exponent;
        }
        self.sink.put(&self.page[self.at..end]);
        self.at = end;
        Some(())
    }
}

fn closing(is_object: bool) -> u8 {
    if is_object { b'}' } else { b']' }
}

/// The index behind the escape that begins at `at`; any four hexadecimal digits are one, as in RFC 8259.
fn escape_end(bytes: &[u8], at: usize) -> Option<usize> {
    match (bytes[at], bytes.get(at + 1)?) {
        (b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Some(at + 2),
        (b'\\', b'u') => {
            let digits = bytes.get(at + 2..at + 6)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(at + 6)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::raw_value;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_is_skipped_only_where_serde_json_takes_it(
            page in r#"([\[{}\],: \n]|"(ab|é|\\\\|\\u00[0-9a-g]{2}|\\[bnq"])?":?|-?(0|12|01)(\.|\.5)?([eE][+-]?3?)?|true|null|fals){1,12}[,}\] ]"#
        ) {
            if let Some(walked) = walk(&page, 0, &mut Skip) {
                prop_assert_eq!(raw_value(&page, 0).map(|(_, end)| end), Ok(walked.end));
            }
        }

        #[test]
        fn usual_values_are_skipped(text in ".{0,40}", number in any::<f64>(), depth in 0usize..60) {
            let value = serde_json::json!({ "a": [text, number, null, true, { "b": text }], "c": {}, "d": [] });
            for value in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                let page = format!("{}{value}{}", "[".repeat(depth), "]".repeat(depth));
                prop_assert_eq!(walk(&page, 0, &mut Skip).map(|walked| walked.end), Some(page.len()));
            }
        }
    }
}
