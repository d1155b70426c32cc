//! Turns a value of the page into the text that is stored, in one pass, where nothing about it is odd.

use crate::decode::shape::SECRET_SUFFIX;
use crate::walk::{Sink, Walked, walk};

/// The text that is stored.
struct Stored<'a>(&'a mut String);

impl Sink for Stored<'_> {
    // How they are stored is for a closer look.
    const TAKES_ESCAPES: bool = false;

    fn put(&mut self, token: &str) {
        self.0.push_str(token);
    }

    fn takes(&self, key: &str) -> bool {
        !key.ends_with(SECRET_SUFFIX)
    }
}

/// Appends the value that begins at `at` without the white space between its tokens.
///
/// `None` for what is not JSON, and for what needs a closer look: escapes, credentials, deep nesting.
/// Then `out` is as it was.
pub fn copy_plain(page: &str, at: usize, out: &mut String) -> Option<Walked> {
    let mark = out.len();
    let copied = walk(page, at, &mut Stored(out));
    if copied.is_none() {
        out.truncate(mark);
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json_text::{append_stored, depth};
    use crate::tokens::raw_value;
    use proptest::prelude::*;

    /// The obvious way: find the value, check it, take the white space out.
    fn oracle(page: &str) -> Option<(String, Walked)> {
        let (raw, end) = raw_value(page, 0).ok()?;
        let mut out = String::new();
        append_stored(raw, &mut out).ok()?;
        Some((out, Walked { end, depth: depth(raw) }))
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
