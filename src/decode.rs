//! Turns page bytes into record batches.
//!
//! Every JSON leaf of an object ends in exactly one place: its typed column, the `_other` column of
//! its union, or `_extra`, where it stands under its own path. An object that cannot be kept this way
//! (no id, no `created`, text that is not Unicode, nested too deeply) is handed back as
//! [`Rejected`] bytes, and the rest of its page is kept.

pub mod builders;
pub mod closed;
pub mod columns;
mod copy;
mod fast;
mod fast_list;
mod fast_page;
pub mod findings;
pub mod frame;
mod jump;
pub mod json_text;
pub mod number;
pub mod older;
mod place;
mod plain;
mod plain_object;
mod plain_page;
pub mod rows;
pub mod schema;
mod secrets;
pub mod shape;
mod step;
mod tables;
mod template;
#[cfg(all(test, feature = "fake"))]
mod tests;
mod unnamed;
mod walk;

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::catalog::Resource;
use crate::decode::closed::ClosedList;
use crate::decode::fast_page::Fast;
use crate::decode::findings::Findings;
use crate::decode::frame::Frame;
use crate::decode::place::path_to;
use crate::decode::plain_page::Source;
use crate::decode::rows::ParentRow;
use crate::decode::secrets::without_secrets;
use crate::decode::tables::{Mark as TablesMark, Tables};
use crate::tokens::without_position;

/// What a decoder needs to know besides the resource.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Put into `livemode` where Stripe leaves it out.
    pub livemode: Option<bool>,
    /// Refuse objects that state another mode than `livemode`.
    pub refuse_other_mode: bool,
    pub path: Path,
}

/// How pages are decoded. Both give the same rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Path {
    /// One pass with predicted keys.
    #[default]
    Fast,
    /// Member by member; the oracle.
    Plain,
}

/// Why a page was not taken. The decoder holds nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageError {
    /// Not the JSON that was promised: broken syntax, or a broken envelope.
    Malformed { what: String, line: usize },
    /// Objects of another resource.
    WrongObject { row: usize, expected: String, got: String },
    /// Objects of the other mode: the key and the lake are mixed up.
    WrongMode { row: usize, id: String, livemode: bool },
}

impl std::fmt::Display for PageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PageError::Malformed { what, line } => write!(f, "line {line}: {what}"),
            PageError::WrongObject { row, expected, got } => {
                write!(f, "row {row}: expected object \"{expected}\", got \"{got}\"")
            }
            PageError::WrongMode { row, id, livemode } => {
                write!(f, "row {row}: {id} has livemode {livemode}, expected {}", !livemode)
            }
        }
    }
}

fn malformed(text: &str, error: &serde_json::Error) -> PageError {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let at = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
    malformed_at(text, at, without_position(error))
}

fn malformed_at(text: &str, at: usize, what: String) -> PageError {
    let bytes = text.as_bytes();
    let line = 1 + bytes[..at.min(bytes.len())].iter().filter(|byte| **byte == b'\n').count();
    let path = path_to(bytes, at);
    let what = if path.is_empty() { what } else { format!("{path}: {what}") };
    PageError::Malformed { what, line }
}

/// An object that cannot be a row, byte for byte as sent but for credentials.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rejected {
    pub resource: String,
    pub reason: String,
    pub raw: Vec<u8>,
}

impl Rejected {
    pub fn new(resource: &str, reason: String, raw: &[u8]) -> Rejected {
        Rejected { resource: resource.to_owned(), reason, raw: without_secrets(raw) }
    }
}

/// An embedded list that goes on behind its parent's page.
#[derive(Debug, Clone)]
pub struct OpenList {
    /// The index of the child table.
    pub child: usize,
    pub parent: ParentRow,
    /// Where Stripe says the list is, such as `/v1/subscription_items?subscription=sub_1`.
    pub url: String,
    /// The ids that were embedded.
    pub embedded: Vec<String>,
}

/// What one page brought.
#[derive(Debug, Default)]
pub struct Pushed {
    pub n_rows: usize,
    pub rejected: Vec<Rejected>,
    pub open_lists: Vec<OpenList>,
}

/// How far a decoder had come.
pub struct Mark {
    tables: TablesMark,
    findings: Findings,
    n_bytes: usize,
}

/// All rows decoded since the last flush.
///
/// Batches end with the `_partition_at` column of [`rows::PARTITION_AT`].
#[derive(Debug, Default)]
pub struct Decoded {
    pub parent: Option<RecordBatch>,
    /// One entry per child table, in the order given to [`Decoder::new`].
    pub children: Vec<Option<RecordBatch>>,
    /// For each child table, the embedded lists that were there and read to their end.
    pub closed: Vec<Vec<ClosedList>>,
    pub findings: Findings,
}

/// Decodes pages of one resource and the child tables embedded in it.
pub struct Decoder {
    tables: Tables,
    fast: Fast,
    n_bytes: usize,
}

impl Decoder {
    pub fn new(resource: &Arc<Resource>, children: &[Arc<Resource>], options: Options) -> Decoder {
        let tables = Tables::new(resource, children, options);
        Decoder { fast: Fast::new(&tables), tables, n_bytes: 0 }
    }

    /// From now on objects of the other mode are refused.
    pub fn expect_livemode(&mut self, livemode: bool) {
        self.tables.options.livemode = Some(livemode);
        self.tables.options.refuse_other_mode = true;
    }

    /// JSON bytes taken since the last flush; a measure of the memory in use.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Decodes the objects of a list page. On an error nothing of the page is kept.
    ///
    /// `observed_at` is in microseconds since 1970.
    pub fn push_page(&mut self, body: &[u8], observed_at: i64) -> Result<Pushed, PageError> {
        self.push(body, observed_at, &Source::Page)
    }

    /// Decodes objects that stand one after the other, as in an NDJSON file.
    pub fn push_objects(&mut self, body: &[u8], observed_at: i64) -> Result<Pushed, PageError> {
        self.push(body, observed_at, &Source::Objects)
    }

    /// Decodes a page of a child's own list, read to follow an embedded one to its end.
    pub fn push_child_page(
        &mut self,
        child: usize,
        parent: &ParentRow,
        body: &[u8],
        observed_at: i64,
    ) -> Result<Pushed, PageError> {
        self.push(body, observed_at, &Source::ChildPage(child, parent))
    }

    /// Notes that an embedded list that went on has been read to its end.
    pub fn close_list(&mut self, child: usize, parent: ParentRow, observed_at: i64) {
        self.tables.closed[child].push(ClosedList { parent, observed_at, rows: None });
    }

    fn push(&mut self, body: &[u8], observed_at: i64, source: &Source) -> Result<Pushed, PageError> {
        self.n_bytes += body.len();
        self.fast.frame = None;
        match (self.tables.options.path, simdutf8::basic::from_utf8(body)) {
            (Path::Fast, Ok(page)) => self.fast.push(&mut self.tables, page, observed_at, source),
            _ => plain_page::push(&mut self.tables, body, observed_at, source),
        }
    }

    /// What paging needs of the list page that was pushed last, if nothing is odd about it.
    pub fn take_frame(&mut self) -> Option<Frame> {
        self.fast.frame.take()
    }

    /// How far it has come, to return to when a page is not to be kept after all.
    pub fn mark(&mut self) -> Mark {
        self.fast.fold_findings(&mut self.tables);
        let findings = self.tables.findings.clone();
        Mark { tables: self.tables.mark(), findings, n_bytes: self.n_bytes }
    }

    /// Takes back everything since `mark`, which was made after the last flush.
    pub fn reset(&mut self, mark: &Mark) {
        self.fast.forget_findings();
        self.tables.reset(&mark.tables);
        self.tables.findings = mark.findings.clone();
        self.n_bytes = mark.n_bytes;
    }

    /// Hands over everything decoded so far and starts anew.
    pub fn flush(&mut self) -> Decoded {
        self.n_bytes = 0;
        self.fast.fold_findings(&mut self.tables);
        self.tables.finish()
    }
}
