//! Turns a value of the page into the text that is stored, in one pass, where nothing about it is odd.

use crate::decode::shape::SECRET_SUFFIX;
use crate::tokens::{skip_space, string_run_end};

/// Objects and arrays that may be open at once.
const LEVELS: u32 = 64;

/// A value that has been copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The index behind the value.
    pub end: usize,
    /// How deep objects and arrays are nested in it.
    pub depth: usize,
}

/// Appends the value that begins at `at` without the white space between its tokens.
///
/// `None` for what is not JSON, and for what needs a closer look: escapes, credentials, deep nesting.
/// Then `out` is as it was.
pub fn copy_plain(page: &str, at: usize, out: &mut String) -> Option<Copied> {
    let mark = out.len();
    let copied = Copy { page, at, out, open: Open::default() }.value();
    if copied.is_none() {
        out.truncate(mark);
    }
    copied
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

struct Copy<'a> {
    page: &'a str,
    at: usize,
    out: &'a mut String,
    open: Open,
}

impl Copy<'_> {
    fn value(mut self) -> Option<Copied> {
        loop {
            let is_opened = match self.peek()? {
                b'"' => self.string().map(|_| false)?,
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
                return Some(Copied { end: self.at, depth: self.open.deepest as usize });
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
        self.out.push(if is_object { '{' } else { '[' });
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
        self.out.push(char::from(closing(self.open.is_in_object())));
        self.at += 1;
        self.open.pop();
    }

    /// What stands behind a value; whether another value comes.
    fn is_followed(&mut self) -> Option<bool> {
        while self.open.depth > 0 {
            self.space();
            match self.peek()? {
                b',' => {
                    self.out.push(',');
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
        let key = (self.peek()? == b'"').then(|| self.string())??;
        if key.ends_with(SECRET_SUFFIX) {
            return None;
        }
        self.space();
        (self.peek()? == b':').then_some(())?;
        self.out.push(':');
        self.at += 1;
        self.space();
        Some(())
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&str> {
        let start = self.at;
        let end = string_run_end(self.page.as_bytes(), start + 1)?;
        if self.page.as_bytes()[end] != b'"' {
            return None;
        }
        self.out.push_str(&self.page[start..=end]);
        self.at = end + 1;
        Some(&self.page[start + 1..end])
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.page.as_bytes()[self.at..].starts_with(word.as_bytes()).then_some(())?;
        self.out.push_str(word);
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
        self.out.push_str(&self.page[self.at..end]);
        self.at = end;
        Some(())
    }
}

fn closing(is_object: bool) -> u8 {
    if is_object { b'}' } else { b']' }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json_text::{append_stored, depth};
    use crate::tokens::raw_value;
    use proptest::prelude::*;

    /// The obvious way: find the value, check it, take the white space out.
    fn oracle(page: &str) -> Option<(String, Copied)> {
        let (raw, end) = raw_value(page, 0).ok()?;
        let mut out = String::new();
        append_stored(raw, &mut out).ok()?;
        Some((out, Copied { end, depth: depth(raw) }))
    }

    proptest! {
        #[test]
        fn a_copy_is_what_the_oracle_stores_or_nothing(
            page in r#"([\[{}\],: \n]|"(ab|é|client_secret)?":?|"\\u0041"|-?(0|12|01)(\.|\.5)?([eE][+-]?3?)?|true|null|fals){1,12}[,}\] ]"#
        ) {
            let mut out = "before".to_owned();
            match copy_plain(&page, 0, &mut out) {
                Some(copied) => prop_assert_eq!(Some((out[6..].to_owned(), copied)), oracle(&page)),
                None => prop_assert_eq!(out, "before"),
            }
        }
    }

    #[test]
    fn usual_values_are_copied() {
        for (page, text) in [
            (
                "{ \"a\" : [ 1 , -2.5e+3 , { } , [ ] ] , \"b\" : null } ,",
                r#"{"a":[1,-2.5e+3,{},[]],"b":null}"#,
            ),
            ("\"Zoë\"}", "\"Zoë\""),
            ("true,", "true"),
            ("0]", "0"),
        ] {
            let mut out = String::new();
            let copied = copy_plain(page, 0, &mut out);
            assert_eq!(Some((out.clone(), copied.unwrap())), oracle(page));
            assert_eq!(out, text);
        }
    }

    #[test]
    fn escapes_and_credentials_and_depth_need_a_closer_look() {
        let deep = "[".repeat(64) + &"]".repeat(64);
        for page in [
            r#""\n","#,
            r#"{"x_client_secret":1},"#,
            deep.as_str(),
            "{\"a\":1",
            "nul",
            "1.,",
            "0true]",
            "\"a\u{1}\"",
        ] {
            let mut out = String::new();
            assert_eq!(copy_plain(page, 0, &mut out), None, "{page}");
            assert_eq!(out, "");
        }
    }
}
