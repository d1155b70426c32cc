//! Turns text from elsewhere into text that may be shown: no credentials, no control characters.

mod own_key;
mod terminal;

pub use own_key::{ending, hide, without_own_key};

use crate::redact::terminal::without_codes;

/// What API keys and their kin start with.
const KEY_KINDS: [&str; 6] = ["sk_", "rk_", "pk_", "rkcs_", "whsec_", "ek_"];
/// So many letters and digits in a row are in every key, and in no name that ends as a kind of keys does (`risk_test_...`).
const LEAST_IN_A_ROW: usize = 16;

/// The text on one line, without credentials, control characters and those that nobody sees, cut after `max_chars`.
///
/// Remote text may hold terminal escapes, line breaks that forge log lines, or the key itself.
pub fn shown(text: &str, max_chars: usize) -> String {
    let line = without_codes(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let line = without_keys(&line);
    match line.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// Whether a text begins as keys do.
fn begins_as_key(text: &str) -> bool {
    KEY_KINDS.iter().any(|kind| text.starts_with(kind))
}

/// Replaces the key of this process, and everything else that looks like an API key by its kind and last four characters.
pub fn without_keys(text: &str) -> String {
    let text = &without_own_key(text);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let starts_word = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let is_key = |kind: &&&str| rest.starts_with(**kind) && (starts_word || is_key_in_word(rest, kind));
        match KEY_KINDS.iter().find(is_key) {
            Some(kind) => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
                out.push_str(&masked(&rest[..end], kind));
                at += end;
            }
            None => {
                let c = rest.chars().next().expect("at is before the end");
                out.push(c);
                at += c.len_utf8();
            }
        }
    }
    out
}

/// Whether a key begins here, though a letter or digit stands before it, as in `Bearer%20rk_live_...` or `\nrk_live_...`.
fn is_key_in_word(text: &str, kind: &str) -> bool {
    let rest = &text[kind.len()..];
    let in_mode = rest.strip_prefix("live_").or(rest.strip_prefix("test_"));
    let body = in_mode.or((kind == "whsec_").then_some(rest));
    body.is_some_and(|body| body.bytes().take_while(u8::is_ascii_alphanumeric).count() >= LEAST_IN_A_ROW)
}

/// `rk_live_...abcd` for a key, the word itself for anything too short to be one.
fn masked(word: &str, kind: &str) -> String {
    let body = word[kind.len()..].trim_start_matches("live_").trim_start_matches("test_");
    if body.len() < 8 {
        return word.to_owned();
    }
    let prefix = &word[..word.len() - body.len()];
    format!("{prefix}...{}", &body[body.len() - 4..])
}

/// A URL without the name and the password in front of its host.
pub fn without_userinfo(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((before, rest)) => {
            let scheme = before.find("://").map_or("", |end| &before[..end + "://".len()]);
            format!("{scheme}...@{rest}")
        }
        None => url.to_owned(),
    }
}

/// Values that are in no text that is shown, nor in their own debugging form.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    pub fn new(values: impl Iterator<Item = String>) -> Secrets {
        Secrets(values.filter(|value| value.len() >= 8).collect())
    }

    pub fn without(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "..."))
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p11_escapes_and_line_breaks_are_not_shown() {
        assert_eq!(shown("a\u{1b}[31mb\r\nc\u{9b}md\u{1b}[1;", 80), "ab cd1;");
        assert_eq!(shown("\u{1b}]0;title\u{7}a\u{1b}]8;;x\u{1b}\\b\u{1b}(Bc\u{1b}7d\u{1b}", 80), "abcd");
        for code in [
            "\u{1b}[1m",
            "\u{9b}0m",
            "\u{1b}]0;a\u{7}",
            "\u{1b}(B",
            "\u{1b}\u{1b}[1m",
            "\u{9d}0;a\u{9c}",
            "\u{90}a\u{1b}\\",
            "\u{1b}[3\u{0}1m",
            "\u{1b}\u{200b}[31m",
            "\u{8}",
        ] {
            assert_eq!(
                shown(&format!("rk_live_51Habcd{code}efgh{code}WXYZ01"), 80),
                "rk_live_...YZ01",
                "{code:?}"
            );
        }
        for before in
            ["\u{1b}", "\u{9b}", "\u{1b}[", "\u{1b}[3", "\u{1b}(", "\u{1b} ", "\u{1b}]", "\u{1b}]0;\u{1b}"]
        {
            for key in ["sk_live_51HabcdefghWXYZ01", "whsec_51HabcdefghWXYZ01"] {
                let shown = shown(&format!("{before}{key}"), 80);
                assert!(shown.ends_with("_...YZ01") && !shown.contains("abcd"), "{before:?}: {shown}");
            }
        }
        assert_eq!(shown("0123456789", 4), "0123...");
        assert_eq!(shown("abc \u{202e}gnp.exe \u{200b}\u{2066}x\u{2028}y\u{feff}", 80), "abc gnp.exe x y");
    }

    #[test]
    fn keys_are_masked_wherever_they_stand() {
        let text = "key rk_live_51HabcdefghWXYZ, (sk_test_abcdefgh1234) task_list whsec_abcdefghijkl";
        let shown = without_keys(text);
        assert_eq!(shown, "key rk_live_...WXYZ, (sk_test_...1234) task_list whsec_...ijkl");
    }

    #[test]
    fn names_and_passwords_in_a_url_are_not_shown() {
        for (url, expected) in [
            ("https://joe:s3cretpw@host:1/x", "https://...@host:1/x"),
            ("https://joe:s3/cr@t#pw@host", "https://...@host"),
            ("joe:s3cretpw@host", "...@host"),
            ("https://host:1", "https://host:1"),
        ] {
            assert_eq!(without_userinfo(url), expected);
        }
    }

    #[test]
    fn keys_are_masked_inside_of_words() {
        for before in ["x", "Bearer%20", "\\n", "\\u0020", "[31m"] {
            for key in ["rk_live_51HabcdefghWXYZ01", "ek_test_51HabcdefghWXYZ01", "whsec_51HabcdefghWXYZ01"] {
                let shown = without_keys(&format!("{before}{key}."));
                assert!(shown.ends_with("_...YZ01.") && shown.starts_with(before), "{shown}");
            }
        }
        for name in [
            "task_1NabcdEFGHijklmnop",
            "risk_test_transactions_of_yesterday",
            "disk_live_capacity_bytes",
            "desk_test_20261127",
            "ask_live_",
            "week_2026",
        ] {
            assert_eq!(without_keys(name), name);
        }
    }
}
