//! Turns captured JSON text into the form that is stored: no white space, no credentials, readable by all.

use crate::decode::shape::SECRET_SUFFIX;

/// Why an object cannot be stored; it is kept aside as raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject(pub String);

impl Reject {
    pub fn new(reason: impl Into<String>) -> Reject {
        Reject(reason.into())
    }
}

/// Appends `raw`, a valid JSON value, without the white space between tokens and without members
/// whose name ends in `client_secret`.
///
/// Strings keep their escapes as sent. Fails where a string holds half of a surrogate pair, since no
/// reader could decode it.
pub fn append_stored(raw: &str, out: &mut String) -> Result<(), Reject> {
    if raw.contains("\\u") && has_lone_surrogate(raw) {
        return Err(Reject::new("half of a surrogate pair in a string"));
    }
    // A name may be spelled with escapes.
    if raw.contains(SECRET_SUFFIX) || raw.contains("\\u") {
        return append_without_secrets(raw, out);
    }
    minify(raw, out);
    Ok(())
}

/// Appends `"key":` to an object that is open in `out`, with the comma that it may need.
pub fn append_key(key: &str, out: &mut String) {
    if !out.ends_with('{') {
        out.push(',');
    }
    if key.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(key);
        out.push_str("\":");
        return;
    }
    out.push_str(&serde_json::to_string(key).expect("a string is always JSON"));
    out.push(':');
}

/// An object under construction: members that no column names, each in its place.
///
/// Nested objects are opened only when something is put into them, so an object without unknown
/// members leaves no trace.
#[derive(Default)]
pub struct ObjectText {
    text: String,
    levels: Vec<(String, bool)>,
}

impl ObjectText {
    /// Goes into the member `key`; what is put next belongs there.
    pub fn enter(&mut self, key: &str) {
        self.levels.push((key.to_owned(), false));
    }

    /// Goes back to the object around.
    pub fn leave(&mut self) {
        if let Some((_, true)) = self.levels.pop() {
            self.text.push('}');
        }
    }

    /// Keeps the member `key` with the value `raw`, unless it is a credential.
    pub fn put(&mut self, key: &str, raw: &str) -> Result<(), Reject> {
        if key.ends_with(SECRET_SUFFIX) {
            return Ok(());
        }
        if self.text.is_empty() {
            self.text.push('{');
        }
        for (level, is_open) in self.levels.iter_mut().filter(|(_, is_open)| !is_open) {
            append_key(level, &mut self.text);
            self.text.push('{');
            *is_open = true;
        }
        append_key(key, &mut self.text);
        append_stored(raw, &mut self.text)
    }

    /// The object, if anything was put; empty afterwards.
    pub fn take(&mut self) -> Option<String> {
        self.levels.clear();
        if self.text.is_empty() {
            return None;
        }
        self.text.push('}');
        Some(std::mem::take(&mut self.text))
    }
}

fn minify(raw: &str, out: &mut String) {
    let bytes = raw.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' => {
                at = string_end(bytes, at);
                out.push_str(&raw[start..at]);
            }
            b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            _ => {
                while at < bytes.len() && !matches!(bytes[at], b'"' | b' ' | b'\n' | b'\r' | b'\t') {
                    at += 1;
                }
                out.push_str(&raw[start..at]);
            }
        }
    }
}

/// The index after the closing quote of the string that opens at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    at += 1;
    while bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// How deep objects and arrays are nested in `raw`, a valid JSON value.
pub fn depth(raw: &str) -> usize {
    let bytes = raw.as_bytes();
    let (mut at, mut open, mut deepest) = (0, 0usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = string_end(bytes, at);
                continue;
            }
            b'{' | b'[' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' => open -= 1,
            _ => {}
        }
        at += 1;
    }
    deepest
}

fn has_lone_surrogate(raw: &str) -> bool {
    let bytes = raw.as_bytes();
    let mut at = 0;
    while at + 1 < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        if bytes[at + 1] != b'u' {
            at += 2;
            continue;
        }
        match code_unit(raw, at) {
            Some(0xd800..=0xdbff) => match code_unit(raw, at + 6) {
                Some(0xdc00..=0xdfff) => at += 12,
                _ => return true,
            },
            Some(0xdc00..=0xdfff) => return true,
            _ => at += 6,
        }
    }
    false
}

fn code_unit(raw: &str, at: usize) -> Option<u32> {
    let digits = raw.get(at..at + 6)?.strip_prefix("\\u")?;
    u32::from_str_radix(digits, 16).ok()
}

fn append_without_secrets(raw: &str, out: &mut String) -> Result<(), Reject> {
    if depth(raw) > crate::decode::shape::MAX_DEPTH {
        return Err(Reject::new("nested too deeply"));
    }
    match raw.trim_start().as_bytes()[0] {
        b'{' => {
            let members: Members = serde_json::from_str(raw).map_err(|e| Reject::new(e.to_string()))?;
            out.push('{');
            for (key, value) in members.0 {
                if !key.ends_with(SECRET_SUFFIX) {
                    append_key(&key, out);
                    append_without_secrets(value.get(), out)?;
                }
            }
            out.push('}');
        }
        b'[' => {
            let items: Vec<&serde_json::value::RawValue> =
                serde_json::from_str(raw).map_err(|e| Reject::new(e.to_string()))?;
            out.push('[');
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                append_without_secrets(item.get(), out)?;
            }
            out.push(']');
        }
        _ => minify(raw, out),
    }
    Ok(())
}

/// The members of one object in the order sent, duplicates included, values as raw text.
pub struct Members<'a>(pub Vec<(String, &'a serde_json::value::RawValue)>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(raw: &str) -> Result<String, Reject> {
        let mut out = String::new();
        append_stored(raw, &mut out).map(|()| out)
    }

    #[test]
    fn white_space_goes_and_strings_stay_as_sent() {
        let raw = "{ \"a b\" : [ 1.50 , \"x \\u00e9 \\\" y\" ,\n null ] }";
        assert_eq!(stored(raw).unwrap(), r#"{"a b":[1.50,"x \u00e9 \" y",null]}"#);
    }

    #[test]
    fn credentials_are_dropped_at_any_depth() {
        let raw = r#"{"a":[{"client_secret":"x","b":1}],"setup_client_secret":{"c":2},"d":"client_secret"}"#;
        assert_eq!(stored(raw).unwrap(), r#"{"a":[{"b":1}],"d":"client_secret"}"#);
    }

    #[test]
    fn p5_half_a_surrogate_pair_is_refused_and_a_whole_one_is_not() {
        assert!(stored(r#""\ud83d\ude00 \\ud800""#).is_ok());
        assert!(stored(r#""\ud83d""#).is_err());
        assert!(stored(r#""\ude00""#).is_err());
        assert!(stored(r#""\ud83d\u0041""#).is_err());
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert_eq!(depth("1"), 0);
        assert_eq!(depth(r#"{"a":"[[[","b":[{}]}"#), 3);
    }
}
