//! Turns members and values into the pretty-printed JSON that the live API answers.
//!
//! Two spaces of indent, `[]` and `{}` for empty ones. The writer keeps the order of the calls: who calls it writes
//! `id` and `object` first and the other keys sorted.

use super::id::Id;

/// A JSON text that grows in place.
#[derive(Debug, Default)]
pub(super) struct Json {
    out: Vec<u8>,
    depth: usize,
    /// True once the innermost open object or array has a member.
    has_members: bool,
}

/// What can stand after a key or in an array.
pub(super) trait Value {
    fn write(self, json: &mut Json);
}

/// A number that is already written out, for decimals that must not pass through a float.
pub(super) struct Number(pub String);

const SPACES: &[u8] = &[b' '; 64];

impl Json {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), ..Self::default() }
    }

    pub fn into_bytes(mut self) -> Vec<u8> {
        self.out.push(b'\n');
        self.out
    }

    pub fn put(&mut self, key: &str, value: impl Value) {
        self.key(key);
        value.write(self);
    }

    pub fn null(&mut self, key: &str) {
        self.key(key);
        self.out.extend_from_slice(b"null");
    }

    /// A member that is an object.
    pub fn object(&mut self, key: &str, members: impl FnOnce(&mut Self)) {
        self.key(key);
        self.nest(b'{', b'}', members);
    }

    /// A member that is an array.
    pub fn array(&mut self, key: &str, elements: impl FnOnce(&mut Self)) {
        self.key(key);
        self.nest(b'[', b']', elements);
    }

    /// The text itself as an object.
    pub fn root(&mut self, members: impl FnOnce(&mut Self)) {
        self.nest(b'{', b'}', members);
    }

    /// An array's element that is an object.
    pub fn element(&mut self, members: impl FnOnce(&mut Self)) {
        self.next_line();
        self.nest(b'{', b'}', members);
    }

    /// An array's element that is a plain value.
    pub fn item(&mut self, value: impl Value) {
        self.next_line();
        value.write(self);
    }

    fn key(&mut self, key: &str) {
        self.next_line();
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\": ");
    }

    fn next_line(&mut self) {
        if self.has_members {
            self.out.push(b',');
        }
        self.has_members = true;
        self.indent();
    }

    fn indent(&mut self) {
        self.out.push(b'\n');
        self.out.extend_from_slice(&SPACES[..(2 * self.depth).min(SPACES.len())]);
    }

    fn nest(&mut self, open: u8, close: u8, inside: impl FnOnce(&mut Self)) {
        self.out.push(open);
        self.depth += 1;
        self.has_members = false;
        inside(self);
        self.depth -= 1;
        if self.has_members {
            self.indent();
        }
        self.out.push(close);
        self.has_members = true;
    }

    fn string(&mut self, text: &str) {
        self.out.push(b'"');
        let mut plain_from = 0;
        for (at, byte) in text.bytes().enumerate() {
            if byte >= b' ' && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.out.extend_from_slice(&text.as_bytes()[plain_from..at]);
            self.escape(byte);
            plain_from = at + 1;
        }
        self.out.extend_from_slice(&text.as_bytes()[plain_from..]);
        self.out.push(b'"');
    }

    fn escape(&mut self, byte: u8) {
        match byte {
            b'"' => self.out.extend_from_slice(b"\\\""),
            b'\\' => self.out.extend_from_slice(b"\\\\"),
            b'\n' => self.out.extend_from_slice(b"\\n"),
            b'\t' => self.out.extend_from_slice(b"\\t"),
            other => self.out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
    }

    fn integer(&mut self, value: i64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut left = value.unsigned_abs();
        loop {
            at -= 1;
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if value < 0 {
            self.out.push(b'-');
        }
        self.out.extend_from_slice(&digits[at..]);
    }
}

impl Value for i64 {
    fn write(self, json: &mut Json) {
        json.integer(self);
    }
}

impl Value for bool {
    fn write(self, json: &mut Json) {
        json.out.extend_from_slice(if self { b"true" } else { b"false" });
    }
}

impl Value for &str {
    fn write(self, json: &mut Json) {
        json.string(self);
    }
}

impl Value for String {
    fn write(self, json: &mut Json) {
        json.string(&self);
    }
}

impl Value for Id {
    fn write(self, json: &mut Json) {
        json.string(self.as_str());
    }
}

impl Value for Number {
    fn write(self, json: &mut Json) {
        json.out.extend_from_slice(self.0.as_bytes());
    }
}

impl<V: Value> Value for Option<V> {
    fn write(self, json: &mut Json) {
        match self {
            Some(value) => value.write(json),
            None => json.out.extend_from_slice(b"null"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_two_spaces_of_indent_and_closes_empty_ones_at_once() {
        let mut json = Json::default();
        json.root(|w| {
            w.put("id", "x");
            w.array("empty", |_| ());
            w.object("none", |_| ());
            w.array("list", |w| {
                w.item(1);
                w.element(|w| w.null("a"));
            });
        });
        let text = String::from_utf8(json.into_bytes()).unwrap();
        let expected = "{\n  \"id\": \"x\",\n  \"empty\": [],\n  \"none\": {},\n  \"list\": [\n    1,\n    {\n      \"a\": null\n    }\n  ]\n}\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn strings_and_numbers_survive_a_parser() {
        let text = "a\"b\\c\nd\te\u{1}é李🎉";
        let mut json = Json::default();
        json.root(|w| {
            w.put("text", text);
            w.put("least", i64::MIN);
            w.put("most", i64::MAX);
            w.put("zero", 0);
            w.put("rate", Number("0.25".to_owned()));
        });
        let parsed: serde_json::Value = serde_json::from_slice(&json.into_bytes()).unwrap();
        assert_eq!(parsed["text"], text);
        assert_eq!(parsed["least"], i64::MIN);
        assert_eq!(parsed["most"], i64::MAX);
        assert_eq!(parsed["zero"], 0);
        assert_eq!(parsed["rate"], 0.25);
    }
}
