//! Turns JSON text into a value that keeps what a checker needs (number text, duplicate keys, order), and back.

use fastrand::Rng;

/// A JSON value. Numbers keep their text, objects their order and their duplicates.
#[derive(Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    /// Written as it is; for what no writer of JSON would produce.
    Raw(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

pub fn text(value: &str) -> Json {
    Json::Text(value.to_owned())
}

pub fn number(value: impl ToString) -> Json {
    Json::Number(value.to_string())
}

pub fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
    Json::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&write(self, Style::default()))
    }
}

impl Json {
    /// The last member of this name.
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// Puts a value at a path, in place of what was there, making the objects on the way.
    pub fn set(&mut self, path: &[String], value: Json) {
        let Some((key, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self, Json::Object(_)) {
            *self = Json::Object(Vec::new());
        }
        let Json::Object(members) = self else { unreachable!() };
        let at = members.iter().rposition(|(k, _)| k == key).unwrap_or_else(|| {
            members.push((key.clone(), Json::Object(Vec::new())));
            members.len() - 1
        });
        members[at].1.set(rest, value);
    }

    /// Adds a member to the object at a path, beside one of the same name.
    pub fn add(&mut self, path: &[String], key: &str, value: Json) {
        if !matches!(self.at(path), Some(Json::Object(_))) {
            self.set(path, Json::Object(Vec::new()));
        }
        if let Some(Json::Object(members)) = self.at_mut(path) {
            members.push((key.to_owned(), value));
        }
    }

    pub fn remove(&mut self, path: &[String]) {
        let Some((key, parents)) = path.split_last() else { return };
        if let Some(Json::Object(members)) = self.at_mut(parents) {
            members.retain(|(k, _)| k != key);
        }
    }

    pub fn at(&self, path: &[String]) -> Option<&Json> {
        path.iter().try_fold(self, |value, key| value.get(key))
    }

    fn at_mut(&mut self, path: &[String]) -> Option<&mut Json> {
        path.iter().try_fold(self, |value, key| match value {
            Json::Object(members) => members.iter_mut().rev().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        })
    }
}

/// How a value is written down; the meaning is the same for all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Random white space between tokens instead of none.
    pub spaces: Option<u64>,
    /// Members in random order; only for objects without duplicates.
    pub shuffle: Option<u64>,
    /// Characters escaped that need not be.
    pub escapes: Option<u64>,
}

pub fn write(value: &Json, style: Style) -> String {
    let rng = |seed: Option<u64>| seed.map(Rng::with_seed);
    let mut writer = Writer {
        out: String::new(),
        spaces: rng(style.spaces),
        shuffle: rng(style.shuffle),
        escapes: rng(style.escapes),
    };
    writer.value(value);
    writer.out
}

struct Writer {
    out: String,
    spaces: Option<Rng>,
    shuffle: Option<Rng>,
    escapes: Option<Rng>,
}

impl Writer {
    fn space(&mut self) {
        if let Some(rng) = &mut self.spaces {
            for _ in 0..rng.usize(0..4) {
                self.out.push(rng.choice([' ', '\n', '\t', '\r']).expect("not empty"));
            }
        }
    }

    fn token(&mut self, token: char) {
        self.space();
        self.out.push(token);
        self.space();
    }

    fn value(&mut self, value: &Json) {
        match value {
            Json::Null => self.out.push_str("null"),
            Json::Bool(flag) => self.out.push_str(if *flag { "true" } else { "false" }),
            Json::Number(number) => self.out.push_str(number),
            Json::Raw(raw) => self.out.push_str(raw),
            Json::Text(text) => self.string(text),
            Json::Array(items) => {
                self.token('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.token(',');
                    }
                    self.value(item);
                }
                self.token(']');
            }
            Json::Object(members) => {
                let mut members: Vec<&(String, Json)> = members.iter().collect();
                if let Some(rng) = &mut self.shuffle {
                    rng.shuffle(&mut members);
                }
                self.token('{');
                for (index, (key, value)) in members.into_iter().enumerate() {
                    if index > 0 {
                        self.token(',');
                    }
                    self.string(key);
                    self.token(':');
                    self.value(value);
                }
                self.token('}');
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            let escapes = self.escapes.as_mut().is_some_and(|rng| rng.u8(0..4) == 0);
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' if escapes => self.out.push_str("\\n"),
                '/' if escapes => self.out.push_str("\\/"),
                c if escapes || c < ' ' => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// Reads JSON. `None` where the text is none, or holds half of a surrogate pair.
pub fn parse(text: &str) -> Option<Json> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value()?;
    reader.skip_space();
    (reader.at == text.len()).then_some(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn take(&mut self, token: u8) -> Option<()> {
        self.skip_space();
        (self.peek()? == token).then(|| self.at += 1)
    }

    fn value(&mut self) -> Option<Json> {
        self.skip_space();
        match self.peek()? {
            b'"' => self.string().map(Json::Text),
            b'{' => self.object(),
            b'[' => self.array(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Option<Json> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| ",]}: \n\r\t".contains(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        self.at += end;
        match word {
            "null" => Some(Json::Null),
            "true" => Some(Json::Bool(true)),
            "false" => Some(Json::Bool(false)),
            _ => word.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then(|| number(word)),
        }
    }

    fn object(&mut self) -> Option<Json> {
        self.take(b'{')?;
        let mut members = Vec::new();
        while self.take(b'}').is_none() {
            if !members.is_empty() {
                self.take(b',')?;
            }
            self.skip_space();
            let key = self.string()?;
            self.take(b':')?;
            members.push((key, self.value()?));
        }
        Some(Json::Object(members))
    }

    fn array(&mut self) -> Option<Json> {
        self.take(b'[')?;
        let mut items = Vec::new();
        while self.take(b']').is_none() {
            if !items.is_empty() {
                self.take(b',')?;
            }
            items.push(self.value()?);
        }
        Some(Json::Array(items))
    }

    fn string(&mut self) -> Option<String> {
        self.take(b'"')?;
        let mut units: Vec<u16> = Vec::new();
        loop {
            let c = self.text[self.at..].chars().next()?;
            self.at += c.len_utf8();
            match c {
                '"' => return String::from_utf16(&units).ok(),
                '\\' => {
                    let escape = self.peek()?;
                    self.at += 1;
                    units.push(match escape {
                        b'u' => {
                            let digits = self.text.get(self.at..self.at + 4)?;
                            self.at += 4;
                            u16::from_str_radix(digits, 16).ok()?
                        }
                        b'n' => 10,
                        b'r' => 13,
                        b't' => 9,
                        b'b' => 8,
                        b'f' => 12,
                        other => u16::from(other),
                    });
                }
                c => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
            }
        }
    }
}
