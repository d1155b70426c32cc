//! Turns a file, plain or gzip, into chunks of whole JSON values.

use std::io::{BufReader, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};

/// Objects that are decoded together, in bytes of JSON.
const GROUP: usize = 1 << 20;
const READ: usize = 1 << 20;
/// One value larger than this is not Stripe's.
const MAX_VALUE: usize = 256 << 20;

/// Whole values from a file, and the line they begin in.
pub enum Chunk {
    /// A list page.
    Page { body: Vec<u8>, line: usize },
    /// Objects, one after the other.
    Objects { body: Vec<u8>, line: usize },
}

impl Chunk {
    pub fn body(&self) -> &[u8] {
        match self {
            Chunk::Page { body, .. } | Chunk::Objects { body, .. } => body,
        }
    }

    pub fn line(&self) -> usize {
        match self {
            Chunk::Page { line, .. } | Chunk::Objects { line, .. } => *line,
        }
    }
}

type Start = Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

/// Inflates what begins like gzip.
pub fn plain(mut reader: Box<dyn Read + Send>) -> Result<Box<dyn Read + Send>> {
    let mut magic = Vec::new();
    reader.by_ref().take(2).read_to_end(&mut magic).map_err(unreadable)?;
    let is_gzip = magic == [0x1f, 0x8b];
    let start: Start = Cursor::new(magic).chain(reader);
    Ok(if is_gzip { Box::new(MultiGzDecoder::new(BufReader::new(start))) } else { Box::new(start) })
}

fn unreadable(error: std::io::Error) -> Error {
    Error::usage(format!("cannot be read: {error}")).hint("nothing was imported")
}

/// Reads a file value by value; memory is bounded by the largest value.
pub struct Chunks {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// What has been handed out already.
    taken: usize,
    line: usize,
    is_at_end: bool,
    /// A page that ended a group of objects.
    page: Option<Chunk>,
}

impl Chunks {
    pub fn new(reader: Box<dyn Read + Send>) -> Chunks {
        Chunks { reader, buffer: Vec::new(), taken: 0, line: 1, is_at_end: false, page: None }
    }

    /// The next chunk. Fails with [`crate::error::Kind::Usage`] and the line for anything but objects.
    pub fn next(&mut self) -> Result<Option<Chunk>> {
        if let Some(page) = self.page.take() {
            return Ok(Some(page));
        }
        let mut group: Option<(Vec<u8>, usize)> = None;
        while let Some((body, line)) = self.value()? {
            if is_list(&body) {
                let page = Chunk::Page { body, line };
                return Ok(Some(match group {
                    None => page,
                    Some((body, line)) => {
                        self.page = Some(page);
                        Chunk::Objects { body, line }
                    }
                }));
            }
            let (objects, first_line) = group.get_or_insert_with(|| (Vec::new(), line));
            // Line breaks between objects are kept, so that an error can name its line.
            let n_breaks = objects.iter().filter(|b| **b == b'\n').count();
            objects.resize(objects.len() + (line - *first_line).saturating_sub(n_breaks), b'\n');
            objects.extend_from_slice(&body);
            if objects.len() >= GROUP {
                break;
            }
        }
        Ok(group.map(|(body, line)| Chunk::Objects { body, line }))
    }

    /// The next whole value and the line it begins in.
    fn value(&mut self) -> Result<Option<(Vec<u8>, usize)>> {
        self.skip_white_space()?;
        let Some(first) = self.buffer.get(self.taken) else { return Ok(None) };
        if *first != b'{' {
            let got: String = String::from_utf8_lossy(&self.buffer[self.taken..]).chars().take(40).collect();
            let got = crate::redact::shown(&got, 20);
            return Err(Error::usage(format!("line {}: expected a JSON object, got \"{got}\"", self.line))
                .hint("expected list pages or objects as JSON, one after the other; nothing was imported"));
        }
        let mut scan = Scan::default();
        loop {
            if let Some(length) = scan.end(&self.buffer[self.taken..]) {
                let body = self.buffer[self.taken..self.taken + length].to_vec();
                let line = self.line;
                self.line += body.iter().filter(|b| **b == b'\n').count();
                self.taken += length;
                return Ok(Some((body, line)));
            }
            if self.buffer.len() - self.taken > MAX_VALUE || !self.fill()? {
                return Err(self.unfinished());
            }
        }
    }

    /// A value that does not end is broken inside, or the file is cut off.
    fn unfinished(&self) -> Error {
        let rest = &self.buffer[self.taken..];
        let error = match serde_json::from_slice::<IgnoredAny>(rest) {
            Err(error) if !error.is_eof() => {
                let what = crate::decode::without_position(&error);
                Error::usage(format!("line {}: {what}", self.line + error.line().saturating_sub(1)))
            }
            _ => Error::usage(format!("truncated: the value that begins in line {} does not end", self.line)),
        };
        error.hint("nothing was imported")
    }

    fn skip_white_space(&mut self) -> Result<()> {
        loop {
            while let Some(byte) = self.buffer.get(self.taken) {
                match byte {
                    b'\n' => self.line += 1,
                    b' ' | b'\r' | b'\t' => {}
                    _ => return Ok(()),
                }
                self.taken += 1;
            }
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    /// Reads on; false at the end of the file.
    fn fill(&mut self) -> Result<bool> {
        if self.is_at_end {
            return Ok(false);
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let before = self.buffer.len();
        self.reader.by_ref().take(READ as u64).read_to_end(&mut self.buffer).map_err(unreadable)?;
        self.is_at_end = self.buffer.len() == before;
        Ok(!self.is_at_end)
    }
}

/// Finds the end of a value that begins with a brace, going on where the last bytes ended.
#[derive(Default)]
struct Scan {
    at: usize,
    depth: usize,
    is_in_string: bool,
}

impl Scan {
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        while self.at < bytes.len() {
            let byte = bytes[self.at];
            if self.is_in_string {
                match byte {
                    // The escaped byte may not have been read yet.
                    b'\\' if self.at + 1 >= bytes.len() => return None,
                    b'\\' => self.at += 1,
                    b'"' => self.is_in_string = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.is_in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => {
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            return Some(self.at + 1);
                        }
                    }
                    _ => {}
                }
            }
            self.at += 1;
        }
        None
    }
}

/// Whether the value says `"object": "list"` of itself. Stripe prints the member first, so this rarely
/// looks further.
fn is_list(body: &[u8]) -> bool {
    struct FindObject<'a>(&'a mut Option<String>);
    impl<'de> Visitor<'de> for FindObject<'_> {
        type Value = ();
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
            while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                if key == "object" {
                    *self.0 = map.next_value()?;
                    return Ok(());
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }
    let mut object = None;
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    // Members behind `object` are left unread, which serde reports as an error that does not matter.
    let _ = serde::Deserializer::deserialize_map(&mut deserializer, FindObject(&mut object));
    object.as_deref() == Some("list")
}
