//! Turns text that repeats the key of this process, in whatever form, into text without it.

use std::ops::Range;
use std::sync::RwLock;

/// What each text is searched for: letters and digits, in lower case.
static FORMS: RwLock<Vec<Vec<u8>>> = RwLock::new(Vec::new());

/// What a person may tell the key by.
static ENDING: RwLock<Option<String>> = RwLock::new(None);

/// Fewer letters and digits in a row stand in any text by chance.
const LEAST: usize = 8;
/// Four characters are little of a key of so many.
const LONG: usize = 24;
/// At the end of a text these many are rather a key that was cut than a word (`.../stripelake`).
const LEAST_OF_A_CUT_ONE: usize = 12;

/// From now on, no text that is shown or written has the key in it.
pub fn hide(key: &str) {
    let last = key.get(key.len().saturating_sub(4)..).filter(|_| key.len() >= LONG);
    *ENDING.write().expect("no panic while setting") = last.map(str::to_owned);
    let mut known = FORMS.write().expect("no panic while adding");
    for form in forms(key) {
        if !known.contains(&form) {
            known.push(form);
        }
    }
}

/// The last four characters of the key, as Stripe's dashboard shows them; `None` where they would be much of it.
pub fn ending() -> Option<String> {
    ENDING.read().expect("no panic while setting").clone()
}

/// Replaces what the key is secret for by dots: also where it is in base64, is percent-encoded, or is cut by white space or
/// by characters that nobody sees. A text may end in the middle of it.
pub fn without_own_key(text: &str) -> String {
    without(&FORMS.read().expect("no panic while adding"), text)
}

fn without(forms: &[Vec<u8>], text: &str) -> String {
    if forms.is_empty() {
        return text.to_owned();
    }
    let letters = letters(text);
    let mut out = String::with_capacity(text.len());
    let (mut copied, mut at) = (0, 0);
    while at < letters.len() {
        match forms.iter().filter_map(|form| n_equal(form, &letters[at..])).max() {
            Some(n) => {
                out.push_str(&text[copied..letters[at].1.start]);
                out.push_str("...");
                copied = letters[at + n - 1].1.end;
                at += n;
            }
            None => at += 1,
        }
    }
    out.push_str(&text[copied..]);
    out
}

/// How many letters the text begins with of the form: all of them, or as many as the text has left.
fn n_equal(form: &[u8], text: &[(u8, Range<usize>)]) -> Option<usize> {
    let n = form.len().min(text.len());
    let is_equal = form.iter().zip(text).all(|(ours, (theirs, _))| ours == theirs);
    (is_equal && (n == form.len() || n >= LEAST_OF_A_CUT_ONE)).then_some(n)
}

/// The forms in which a server may say the key. What comes before the last part (`rk_live_`) is no secret.
fn forms(key: &str) -> Vec<Vec<u8>> {
    let only_letters = |text: &str| letters(text).into_iter().map(|(letter, _)| letter).collect::<Vec<u8>>();
    let body = only_letters(key.splitn(3, '_').nth(2).unwrap_or(key));
    let plain = if body.len() < LEAST { only_letters(key) } else { body };
    let in_base64 = (0..3).map(|n_before| only_letters(&base64(key, n_before)));
    std::iter::once(plain).chain(in_base64).filter(|form| form.len() >= LEAST).collect()
}

/// The base64 of a text that has the key behind so many bytes: the digits that nothing but the key decides.
fn base64(key: &str, n_before: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |at: usize| usize::from(key.as_bytes()[at / 8 - n_before] >> (7 - at % 8) & 1);
    let digit = |n: usize| DIGITS[(6 * n..6 * n + 6).fold(0, |sum, at| 2 * sum + bit(at))] as char;
    ((8 * n_before).div_ceil(6)..8 * (n_before + key.len()) / 6).map(digit).collect()
}

/// The letters and digits of a text, in lower case, and where they stand. Quotes are among them, so that nothing reaches from
/// one string of JSON into the next.
fn letters(text: &str) -> Vec<(u8, Range<usize>)> {
    let bytes = text.as_bytes();
    let mut letters = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let (byte, n) = escaped(&bytes[at..]).unwrap_or((bytes[at], 1));
        if byte.is_ascii_alphanumeric() || byte == b'"' {
            letters.push((byte.to_ascii_lowercase(), at..at + n));
        }
        at += n;
    }
    letters
}

/// What `%5F` or `\u005f` at the beginning stands for, and how long it is.
fn escaped(text: &[u8]) -> Option<(u8, usize)> {
    let (mark, digits) = match text {
        [b'%', rest @ ..] => (1, rest.get(..2)?),
        [b'\\', b'u', rest @ ..] => (2, rest.get(..4)?),
        _ => return None,
    };
    let code = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((u8::try_from(code).unwrap_or(b' '), mark + digits.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "51HabcDEF_ghijKLMNopqr0123";

    fn key() -> String {
        ["rk_", "live_", BODY].concat()
    }

    #[track_caller]
    fn check_hidden(text: &str, expected: &str) {
        assert_eq!(without(&forms(&key()), text), expected, "{text}");
    }

    #[test]
    fn the_key_is_found_whatever_stands_around_it() {
        for before in ["", "x", "\\n", "Bearer%20", "\\u0020", "[31m", "ä", "_", "&#32;"] {
            let text = format!("{before}{} then", key());
            check_hidden(&text, &format!("{before}rk_live_... then"));
        }
    }

    #[test]
    fn the_key_is_found_where_it_is_cut_or_encoded() {
        check_hidden("a rk%5Flive%5F51HabcDEF%5FghijKLMNopqr0123 b", "a rk%5Flive%5F... b");
        check_hidden("rk\\u005flive\\u005f51HabcDEF\\u005fghijKLMNopqr0123", "rk\\u005flive\\u005f...");
        check_hidden("rk_live_51HabcD\u{200b}EF_ghij \x07KLMNopqr0123 b", "rk_live_... b");
        check_hidden(&key().to_ascii_uppercase(), "RK_LIVE_...");
        // A text that was cut before it came here.
        check_hidden("at rk_live_51HabcDEF_ghi", "at rk_live_...");
        check_hidden("at rk_live_51HabcDEF_gh", "at rk_live_51HabcDEF_gh");
        // Two strings are not one.
        let two = r#"["51HabcDEF_","ghijKLMNopqr0123"]"#;
        check_hidden(two, two);
    }

    #[test]
    fn the_key_is_found_in_base64_wherever_it_begins() {
        // Made with Python's base64 of `...rk_live_51HabcDEF_ghijKLMNopqr0123:`.
        for (text, expected) in [
            ("Basic cmtfbGl2ZV81MUhhYmNERUZfZ2hpaktMTU5vcHFyMDEyMzo=", "Basic ...zo="),
            ("Ynlya19saXZlXzUxSGFiY0RFRl9naGlqS0xNTm9wcXIwMTIzOg==", "Ynl...Og=="),
            ("YnlycmtfbGl2ZV81MUhhYmNERUZfZ2hpaktMTU5vcHFyMDEyMzo=", "Ynly...zo="),
            ("eXJrX2xpdmVfNTFIYWJjREVGX2doaWpLTE1Ob3BxcjAxMjM6", "eX...M6"),
        ] {
            check_hidden(text, expected);
        }
    }

    #[test]
    fn what_is_no_key_stays() {
        for text in
            ["", "rk_live_", "charges: status 400: No such charge: 'ch_1HabcDEFghijKLMN'", "100 % of 5%"]
        {
            check_hidden(text, text);
        }
        assert_eq!(without(&[], "51HabcDEF_ghijKLMNopqr0123"), "51HabcDEF_ghijKLMNopqr0123");
    }

    #[test]
    fn a_key_that_was_hidden_is_in_no_text() {
        let key = ["sk_", "test_", "OnlyHereX1Y2Z3"].concat();
        hide(&key);
        hide(&key);
        let text = crate::redact::shown(&format!("a{key} {}", base64(&key, 0)), 200);
        assert_eq!(text, "ask_test_... ...");
        assert_eq!(crate::redact::without_keys(&key), "sk_test_...");
    }
}
