//! Turns a file, plain or gzip, into blocks of whole JSON values.

#[cfg(test)]
mod tests;

use std::io::{BufReader, Chain, Cursor, Read};
use std::ops::Range;

use flate2::read::MultiGzDecoder;
use memchr::{memchr_iter, memmem};
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::error::{Error, Result};
use crate::run::import::between::Between;
use crate::run::import::scan::Scan;

/// Bytes of JSON that are decoded together.
const BLOCK: usize = 2 << 20;
/// How a value of a usual file begins. Where a brace was closed before it, that is the end of a value: inside of one
/// there is a comma between two objects, and no line break in a text.
const BEGINNING: &[u8] = b"\n{";
/// What some programs write before UTF-8; a reader may ignore it. <https://www.rfc-editor.org/rfc/rfc8259#section-8.1>
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// A value that is larger than a block is read on by this much.
const GROWTH: usize = 16 << 20;
/// One value larger than this is not Stripe's.
const MAX_VALUE: usize = 256 << 20;

/// A part of a file, and the whole values in it.
pub struct Block {
    pub bytes: Vec<u8>,
    /// The line of the file that it begins in.
    pub line: usize,
    pub chunks: Vec<Chunk>,
}

/// Values that are decoded in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    pub span: Range<usize>,
    /// A list page; otherwise objects, one after the other.
    pub is_page: bool,
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
    Error::usage(format!("cannot be read: {error}")).hint("name files that can be read; nothing was imported")
}

/// Reads a file block by block; memory is bounded by the largest value.
pub struct Blocks {
    reader: Box<dyn Read + Send>,
    /// What was read behind the last whole value.
    rest: Vec<u8>,
    /// The line in which `rest` begins.
    line: usize,
    is_at_start: bool,
    is_at_end: bool,
    between: Between,
    /// The line in which the last array begins.
    array_line: usize,
    /// An array without values was passed, and nobody has been told: it says that there are no objects.
    passed_empty: bool,
    /// Bytes of a block.
    size: usize,
}

impl Blocks {
    pub fn new(reader: Box<dyn Read + Send>) -> Blocks {
        Blocks {
            reader,
            rest: Vec::new(),
            line: 1,
            is_at_start: true,
            is_at_end: false,
            between: Between::Outside,
            array_line: 1,
            passed_empty: false,
            size: BLOCK,
        }
    }

    /// The next block, in `bytes`, whose content is lost. Fails with [`crate::error::Kind::Usage`] and
    /// the line for anything but objects.
    pub fn next(&mut self, mut bytes: Vec<u8>) -> Result<Option<Block>> {
        let n_rest = self.rest.len();
        bytes.resize(bytes.len().max(n_rest), 0);
        bytes[..n_rest].copy_from_slice(&self.rest);
        self.rest.clear();
        self.fill(&mut bytes, n_rest, self.size)?;
        let mut block = Block { bytes, line: self.line, chunks: Vec::new() };
        let is_marked = self.is_at_start && block.bytes.starts_with(BYTE_ORDER_MARK);
        self.is_at_start = false;
        let mut at = if is_marked { BYTE_ORDER_MARK.len() } else { 0 };
        self.skip(&mut block, &mut at)?;
        if block.bytes.get(at) == Some(&b'{') && self.between == Between::Outside {
            at = self.line_by_line(&mut block, at);
        }
        let is_rest_small = 2 * (block.bytes.len() - at) < self.size;
        if block.chunks.is_empty() || self.is_at_end || !is_rest_small {
            at = self.one_by_one(&mut block, at)?;
        }
        self.line += memchr_iter(b'\n', &block.bytes[..at]).count();
        self.rest.extend_from_slice(&block.bytes[at..]);
        if block.chunks.is_empty() && self.between != Between::Outside {
            return Err(self.cut_off(format!("the array that begins in line {}", self.array_line)));
        }
        let is_answer = !block.chunks.is_empty() || std::mem::take(&mut self.passed_empty);
        Ok(is_answer.then_some(block))
    }

    /// Adds values that begin in a line of their own, but for the last one; returns where that begins.
    fn line_by_line(&self, block: &mut Block, mut at: usize) -> usize {
        let beginning = memmem::Finder::new(BEGINNING);
        let found: Vec<usize> = beginning.find_iter(&block.bytes[at..]).map(|found| at + found).collect();
        for line_break in found {
            let end = block.bytes[..line_break].trim_ascii_end().len();
            if block.bytes[..end].ends_with(b"}") {
                block.add(at..end);
                at = line_break + 1;
            }
        }
        at
    }

    /// Adds the values from `at` on, whatever stands between them; returns where the last one ends.
    fn one_by_one(&mut self, block: &mut Block, mut at: usize) -> Result<usize> {
        loop {
            self.skip(block, &mut at)?;
            let Some(first) = block.bytes.get(at) else { break };
            if *first != b'{' || self.between == Between::BehindValue {
                if block.chunks.is_empty() {
                    return Err(self.no_object(block, at));
                }
                // What stands before it may be refused for a reason of its own, and comes first.
                break;
            }
            let Some(end) = self.value_end(block, at)? else { break };
            block.add(at..end);
            self.between = self.between.behind_value();
            at = end;
        }
        Ok(at)
    }

    /// The end of the value that begins at `start`. `None` where it goes on behind a block that holds other
    /// values.
    fn value_end(&mut self, block: &mut Block, start: usize) -> Result<Option<usize>> {
        let mut scan = Scan::default();
        loop {
            if let Some(length) = scan.end(&block.bytes[start..]) {
                return Ok(Some(start + length));
            }
            if !block.chunks.is_empty() {
                return Ok(None);
            }
            let n_bytes = block.bytes.len() - start;
            let before = block.bytes.len();
            if n_bytes > MAX_VALUE
                || !self.fill(&mut block.bytes, before, start + n_bytes + n_bytes.min(GROWTH))?
            {
                return Err(self.unfinished(block, start));
            }
        }
    }

    fn no_object(&self, block: &Block, at: usize) -> Error {
        let got: String = String::from_utf8_lossy(&block.bytes[at..]).chars().take(40).collect();
        let got = crate::redact::shown(&got, 20);
        Error::usage(format!("line {}: expected {}, got \"{got}\"", block.line_at(at), self.between.expected()))
            .hint("expected list pages or objects as JSON, one after the other or in an array; nothing was imported")
    }

    /// A value that does not end is broken inside, or the file is cut off.
    fn unfinished(&self, block: &Block, at: usize) -> Error {
        let line = block.line_at(at);
        match serde_json::from_slice::<IgnoredAny>(&block.bytes[at..]) {
            Err(error) if !error.is_eof() => {
                let what = crate::tokens::without_position(&error);
                Error::usage(format!("line {}: {what}", line + error.line().saturating_sub(1)))
                    .hint("correct the file and import it again; nothing was imported")
            }
            _ => self.cut_off(format!("the value that begins in line {line}")),
        }
    }

    fn cut_off(&self, what: String) -> Error {
        Error::usage(format!("truncated: {what} does not end"))
            .hint("correct the file and import it again; nothing was imported")
    }

    /// Goes over what stands between two values, and reads on where that fills a block.
    fn skip(&mut self, block: &mut Block, at: &mut usize) -> Result<()> {
        loop {
            while let Some(byte) = block.bytes.get(*at) {
                let Some(next) = self.between.over(*byte) else { return Ok(()) };
                if next == Between::Opened && self.between == Between::Outside {
                    self.array_line = block.line_at(*at);
                }
                self.passed_empty |= next == Between::Outside && self.between == Between::Opened;
                self.between = next;
                *at += 1;
            }
            if !block.chunks.is_empty() {
                return Ok(());
            }
            self.line += memchr_iter(b'\n', &block.bytes).count();
            (block.line, *at) = (self.line, 0);
            if !self.fill(&mut block.bytes, 0, self.size)? {
                return Ok(());
            }
        }
    }

    /// Reads on behind the first `before` bytes until there are `n_bytes`; false at the end of the file. What stood
    /// behind `before` is lost; memory that a reader writes over has to hold something, and so need not be cleared.
    fn fill(&mut self, bytes: &mut Vec<u8>, before: usize, n_bytes: usize) -> Result<bool> {
        let mut n_read = before;
        if !self.is_at_end {
            bytes.resize(n_bytes.max(before), 0);
        }
        while !self.is_at_end && n_read < bytes.len() {
            match self.reader.read(&mut bytes[n_read..]) {
                Ok(0) => self.is_at_end = true,
                Ok(n) => n_read += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        bytes.truncate(n_read);
        Ok(n_read > before)
    }
}

impl Block {
    /// Objects with nothing but white space between them are one chunk.
    fn add(&mut self, span: Range<usize>) {
        let is_page = is_list(&self.bytes[span.clone()]);
        let follows = |last: &Chunk| self.bytes[last.span.end..span.start].trim_ascii().is_empty();
        match self.chunks.last_mut() {
            Some(last) if !is_page && !last.is_page && follows(last) => last.span.end = span.end,
            _ => self.chunks.push(Chunk { span, is_page }),
        }
    }

    /// The line of the file that a byte is in.
    pub fn line_at(&self, at: usize) -> usize {
        self.line + memchr_iter(b'\n', &self.bytes[..at]).count()
    }

    /// The chunks of a chunk, found with more care: something else than a line break, such as the brackets of an array, may stand
    /// between its values. All of them are in one.
    pub fn split(&self, chunk: &Chunk) -> Vec<Chunk> {
        let bytes = self.bytes[chunk.span.clone()].to_vec();
        let mut inner = Block { bytes, line: 1, chunks: Vec::new() };
        let mut blocks = Blocks::new(Box::new(std::io::empty()));
        blocks.is_at_end = true;
        let Ok(end) = blocks.one_by_one(&mut inner, 0) else { return Vec::new() };
        if blocks.between != Between::Outside {
            // The array does not end here, so nobody can say what it would hold.
            return Vec::new();
        }
        // What is no whole object behind the others: as a page it is refused for sure, and named.
        let rest = end..inner.bytes.len();
        if !inner.bytes[rest.clone()].trim_ascii().is_empty() {
            inner.chunks.push(Chunk { span: rest, is_page: true });
        }
        let moved = |span: &Range<usize>| span.start + chunk.span.start..span.end + chunk.span.start;
        inner.chunks.iter().map(|part| Chunk { span: moved(&part.span), ..*part }).collect()
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
