//! Takes credentials out of an object that is kept as it came, since it cannot be a row.

use crate::decode::shape::SECRET_SUFFIX;
use crate::tokens::{raw_value, skip_space, string_end};
use crate::utf8::same_length_text;

/// The object with `null` in the place of each credential, and else byte for byte. Where it goes on so that nobody can tell
/// where a credential ends, it ends before.
pub fn without_secrets(raw: &[u8]) -> Vec<u8> {
    let text = same_length_text(raw);
    if !text.contains(SECRET_SUFFIX) && !text.contains("\\u") {
        return raw.to_vec();
    }
    let bytes = text.as_bytes();
    let (mut kept, mut from, mut at) = (Vec::with_capacity(raw.len()), 0, 0);
    while let Some(quote) = bytes[at..].iter().position(|byte| *byte == b'"').map(|n| at + n) {
        let Ok((end, _)) = string_end(bytes, quote + 1) else { break };
        at = end + 1;
        let colon = skip_space(bytes, at);
        if bytes.get(colon) != Some(&b':') || !unescaped(&text[quote + 1..end]).ends_with(SECRET_SUFFIX) {
            continue;
        }
        let value = skip_space(bytes, colon + 1);
        kept.extend_from_slice(&raw[from..value]);
        let Ok((_, end)) = raw_value(&text, value) else { return kept };
        kept.extend_from_slice(b"null");
        (from, at) = (end, end);
    }
    kept.extend_from_slice(&raw[from..]);
    kept
}

/// What is between the quotes, also where half a surrogate pair stands in it.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\u");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match code.map(|code| char::from_u32(code).unwrap_or('?')) {
            Some(letter) => plain.extend(std::iter::once(letter).chain(part[4..].chars())),
            None => plain.push_str(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, kept: &str) {
        assert_eq!(String::from_utf8(without_secrets(raw.as_bytes())).unwrap(), kept);
    }

    #[test]
    fn credentials_go_and_nothing_else() {
        check(
            r#"{"id":"ch_1","client_secret" : "CANARY" ,"a":"\ud800"}"#,
            r#"{"id":"ch_1","client_secret" : null ,"a":"\ud800"}"#,
        );
        check(
            r#"{"intent":{"x_client_secret":{"a":["CANARY"]},"b":1}}"#,
            r#"{"intent":{"x_client_secret":null,"b":1}}"#,
        );
        check(r#"{"client\u005fsecret":"CANARY","\ud800":1}"#, r#"{"client\u005fsecret":null,"\ud800":1}"#);
        let untouched = r#"{"a":"client_secret","client_secret_at":"b","c":"\u0041","d":["client_secret"]}"#;
        check(untouched, untouched);
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        let raw = b"{\"a\":\"\xff\",\"client_secret\":\"C\xff\",\"b\":\"\xff\"}";
        assert_eq!(without_secrets(raw), b"{\"a\":\"\xff\",\"client_secret\":null,\"b\":\"\xff\"}");
    }

    #[test]
    fn what_is_cut_off_within_a_credential_ends_before_it() {
        check(r#"{"a":1,"client_secret":"CANA"#, r#"{"a":1,"client_secret":"#);
    }
}
