//! Turns page bytes into record batches.
//!
//! Every JSON leaf of an object ends in exactly one place: its typed column, the `_other` column of
//! its union, or `_extra`, where it stands under its own path. An object that cannot be kept this way
//! (no id, no `created`, text that is not Unicode, nested too deeply) is handed back as
//! [`Rejected`] bytes, and the rest of its page is kept.

pub mod columns;
pub mod findings;
pub mod json_text;
pub mod number;
mod plain;
pub mod rows;
pub mod schema;
pub mod shape;

use std::sync::Arc;

use arrow::array::RecordBatch;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::catalog::Resource;
use crate::decode::findings::Findings;
use crate::decode::json_text::{ObjectText, Reject, depth};
use crate::decode::plain::{Embedded, Walk};
use crate::decode::rows::{ParentRow, Rows};
use crate::decode::shape::{MAX_DEPTH, Shape};
use crate::utf8::same_length_text;

/// What a decoder needs to know besides the resource.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Put into `livemode` where Stripe leaves it out.
    pub livemode: Option<bool>,
    /// Refuse objects that state another mode than `livemode`.
    pub refuse_other_mode: bool,
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

fn malformed(error: serde_json::Error) -> PageError {
    PageError::Malformed { what: without_position(&error), line: error.line() }
}

/// What serde_json says, without the line and column of a text that the reader does not have.
pub fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.clone(), |end| text[..end].to_owned())
}

/// An object that cannot be a row, byte for byte as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub resource: String,
    pub reason: String,
    pub raw: Vec<u8>,
}

/// An embedded list that goes on behind its parent's page.
#[derive(Debug, Clone)]
pub struct OpenList {
    /// The index of the child table.
    pub child: usize,
    pub parent: ParentRow,
    /// Where Stripe says the list is, such as `/v1/subscription_items?subscription=sub_1`.
    pub url: String,
    /// The last id that was embedded.
    pub after: Option<String>,
}

/// What one page brought.
#[derive(Debug, Default)]
pub struct Pushed {
    pub n_rows: usize,
    pub rejected: Vec<Rejected>,
    pub open_lists: Vec<OpenList>,
}

/// All rows decoded since the last flush.
///
/// Batches end with the `_partition_at` column of [`rows::PARTITION_AT`].
#[derive(Debug, Default)]
pub struct Decoded {
    pub parent: Option<RecordBatch>,
    /// One entry per child table, in the order given to [`Decoder::new`].
    pub children: Vec<Option<RecordBatch>>,
    pub findings: Findings,
}

/// Decodes pages of one resource and the child tables embedded in it.
pub struct Decoder {
    options: Options,
    rows: Rows,
    shape: Shape,
    children: Vec<(Rows, Shape)>,
    findings: Findings,
    n_bytes: usize,
}

/// Decoding state at the start of a page, to return to when the page is refused.
struct Mark {
    n_rows: usize,
    n_children: Vec<usize>,
    findings: Findings,
}

impl Decoder {
    pub fn new(resource: &Arc<Resource>, children: &[Arc<Resource>], options: Options) -> Decoder {
        let paths: Vec<Vec<String>> =
            children.iter().filter_map(|c| c.parent.as_ref()).map(|p| p.path.clone()).collect();
        Decoder {
            options,
            rows: Rows::new(resource),
            shape: Shape::new(&resource.columns, &paths),
            children: children.iter().map(|c| (Rows::new(c), Shape::new(&c.columns, &[]))).collect(),
            findings: Findings::default(),
            n_bytes: 0,
        }
    }

    /// JSON bytes taken since the last flush; a measure of the memory in use.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Decodes the objects of a list page. On an error nothing of the page is kept.
    ///
    /// `observed_at` is in microseconds since 1970.
    pub fn push_page(&mut self, body: &[u8], observed_at: i64) -> Result<Pushed, PageError> {
        #[derive(Deserialize)]
        struct Page<'a> {
            #[serde(borrow)]
            data: Vec<&'a RawValue>,
        }
        let text = Utf8Page::new(body);
        let page: Page = serde_json::from_str(&text.text).map_err(malformed)?;
        let items: Vec<(&str, &[u8])> = page.data.iter().map(|raw| text.item(raw)).collect();
        self.push_items(&items, observed_at, None)
    }

    /// Decodes objects that stand one after the other, as in an NDJSON file.
    pub fn push_objects(&mut self, body: &[u8], observed_at: i64) -> Result<Pushed, PageError> {
        let text = Utf8Page::new(body);
        let mut items = Vec::new();
        for raw in serde_json::Deserializer::from_str(&text.text).into_iter::<&RawValue>() {
            items.push(text.item(raw.map_err(malformed)?));
        }
        self.push_items(&items, observed_at, None)
    }

    /// Decodes a page of a child's own list, read to follow an embedded one to its end.
    pub fn push_child_page(
        &mut self,
        child: usize,
        parent: &ParentRow,
        body: &[u8],
        observed_at: i64,
    ) -> Result<Pushed, PageError> {
        #[derive(Deserialize)]
        struct Page<'a> {
            #[serde(borrow)]
            data: Vec<&'a RawValue>,
        }
        let text = Utf8Page::new(body);
        let page: Page = serde_json::from_str(&text.text).map_err(malformed)?;
        let items: Vec<(&str, &[u8])> = page.data.iter().map(|raw| text.item(raw)).collect();
        self.push_items(&items, observed_at, Some((child, parent)))
    }

    fn push_items(
        &mut self,
        items: &[(&str, &[u8])],
        observed_at: i64,
        child: Option<(usize, &ParentRow)>,
    ) -> Result<Pushed, PageError> {
        let mark = self.mark();
        let mut pushed = Pushed::default();
        for (row, (text, original)) in items.iter().enumerate() {
            let result = match child {
                None => self.parent_object(row, text, original, observed_at, &mut pushed),
                Some((child, parent)) => self.child_object(child, parent, row, text, original, observed_at),
            };
            match result {
                Ok(()) => pushed.n_rows += 1,
                Err(Refused::Object(reason)) => pushed.rejected.push(Rejected {
                    resource: self.resource_of(child).to_owned(),
                    reason: reason.0,
                    raw: original.to_vec(),
                }),
                Err(Refused::Page(error)) => {
                    self.reset(mark);
                    return Err(error);
                }
            }
            self.n_bytes += original.len();
        }
        Ok(pushed)
    }

    fn resource_of(&self, child: Option<(usize, &ParentRow)>) -> &str {
        match child {
            None => &self.rows.resource.name,
            Some((child, _)) => &self.children[child].0.resource.name,
        }
    }

    fn parent_object(
        &mut self,
        row: usize,
        text: &str,
        original: &[u8],
        observed_at: i64,
        pushed: &mut Pushed,
    ) -> Result<(), Refused> {
        let mark = self.mark();
        let result = self.try_parent_object(row, text, original, observed_at, pushed.open_lists.len());
        match result {
            Ok(open_lists) => {
                pushed.open_lists.extend(open_lists);
                Ok(())
            }
            Err(refused) => {
                self.reset(mark);
                Err(refused)
            }
        }
    }

    fn try_parent_object(
        &mut self,
        row: usize,
        text: &str,
        original: &[u8],
        observed_at: i64,
        _n_open: usize,
    ) -> Result<Vec<OpenList>, Refused> {
        let mut embedded = Vec::new();
        let object = Object { row, text, original, observed_at, parent: None };
        let at =
            object.decode(&mut self.rows, &self.shape, &mut self.findings, &mut embedded, self.options)?;
        let mut open_lists = Vec::new();
        for Embedded { child, raw } in embedded {
            open_lists.extend(self.embedded_list(child, &at, &raw, row, observed_at)?);
        }
        Ok(open_lists)
    }

    /// Decodes the embedded page of a child table; `Some` when the list goes on.
    fn embedded_list(
        &mut self,
        child: usize,
        parent: &ParentRow,
        raw: &str,
        row: usize,
        observed_at: i64,
    ) -> Result<Option<OpenList>, Refused> {
        #[derive(Deserialize)]
        struct List<'a> {
            #[serde(borrow)]
            data: Vec<&'a RawValue>,
            has_more: bool,
            #[serde(default)]
            url: String,
        }
        let list: List = serde_json::from_str(raw)
            .map_err(|e| Reject::new(format!("{}: {e}", self.children[child].0.resource.name)))?;
        let mut after = None;
        for item in &list.data {
            let object = Object {
                row,
                text: item.get(),
                original: item.get().as_bytes(),
                observed_at,
                parent: Some(parent),
            };
            let (rows, shape) = &mut self.children[child];
            let at = object.decode(rows, shape, &mut self.findings, &mut Vec::new(), self.options)?;
            after = Some(at.id);
        }
        let parent = parent.clone();
        Ok(list.has_more.then_some(OpenList { child, parent, url: list.url, after }))
    }

    fn child_object(
        &mut self,
        child: usize,
        parent: &ParentRow,
        row: usize,
        text: &str,
        original: &[u8],
        observed_at: i64,
    ) -> Result<(), Refused> {
        let mark = self.mark();
        let (rows, shape) = &mut self.children[child];
        let object = Object { row, text, original, observed_at, parent: Some(parent) };
        let result = object.decode(rows, shape, &mut self.findings, &mut Vec::new(), self.options);
        result.map(|_| ()).inspect_err(|_| self.reset(mark))
    }

    fn mark(&self) -> Mark {
        Mark {
            n_rows: self.rows.table.n_rows,
            n_children: self.children.iter().map(|(rows, _)| rows.table.n_rows).collect(),
            findings: self.findings.clone(),
        }
    }

    fn reset(&mut self, mark: Mark) {
        self.rows.truncate(mark.n_rows);
        for ((rows, _), n_rows) in self.children.iter_mut().zip(mark.n_children) {
            rows.truncate(n_rows);
        }
        self.findings = mark.findings;
    }

    /// Hands over everything decoded so far and starts anew.
    pub fn flush(&mut self) -> Decoded {
        self.n_bytes = 0;
        Decoded {
            parent: self.rows.finish(),
            children: self.children.iter_mut().map(|(rows, _)| rows.finish()).collect(),
            findings: std::mem::take(&mut self.findings),
        }
    }
}

/// Why an object did not become a row.
enum Refused {
    Object(Reject),
    Page(PageError),
}

impl From<Reject> for Refused {
    fn from(reject: Reject) -> Refused {
        Refused::Object(reject)
    }
}

/// One object of a page, on its way into a row.
struct Object<'a> {
    row: usize,
    text: &'a str,
    original: &'a [u8],
    observed_at: i64,
    parent: Option<&'a ParentRow>,
}

impl Object<'_> {
    fn decode(
        &self,
        rows: &mut Rows,
        shape: &Shape,
        findings: &mut Findings,
        embedded: &mut Vec<Embedded>,
        options: Options,
    ) -> Result<ParentRow, Refused> {
        let is_unicode = self.text.len() == self.original.len() && std::str::from_utf8(self.original).is_ok();
        if !is_unicode {
            return Err(Reject::new("expected UTF-8").into());
        }
        if !self.text.starts_with('{') {
            return Err(Reject::new("expected an object").into());
        }
        if depth(self.text) > MAX_DEPTH {
            return Err(Reject::new(format!("expected at most {MAX_DEPTH} levels of nesting")).into());
        }
        self.check_object(rows)?;
        let mut extra = ObjectText::default();
        let table = &mut rows.table;
        Walk { shape, table, extra: &mut extra, findings, embedded, path: Vec::new() }
            .object(self.text, 0)?;
        if let Some(text) = extra.take() {
            rows.extra.put(rows.table.n_rows, &text);
        }
        let stated = rows.stated_livemode();
        let is_deleted = self.is_deleted();
        let (id, created) = rows.end_row(options.livemode, self.observed_at, is_deleted, self.parent)?;
        match (options.livemode, stated) {
            (Some(expected), Some(livemode)) if options.refuse_other_mode && expected != livemode => {
                Err(Refused::Page(PageError::WrongMode { row: self.row, id, livemode }))
            }
            _ => Ok(ParentRow { id, created }),
        }
    }

    fn check_object(&self, rows: &Rows) -> Result<(), Refused> {
        let expected = &rows.resource.object;
        match self.member("object") {
            Some(got) if got != *expected => {
                Err(Refused::Page(PageError::WrongObject { row: self.row, expected: expected.clone(), got }))
            }
            _ => Ok(()),
        }
    }

    /// A text member of the object itself.
    fn member(&self, name: &str) -> Option<String> {
        let members = plain::members(self.text).ok()?;
        let (_, value) = members.into_iter().rev().find(|(key, _)| key == name)?;
        serde_json::from_str(value.get()).ok()
    }

    /// Whether this is what is left of a deleted object: `{"id", "object", "deleted": true}`.
    fn is_deleted(&self) -> bool {
        let members = plain::members(self.text).unwrap_or_default();
        members.iter().any(|(key, value)| key == "deleted" && value.get() == "true")
    }
}

/// A page as text, and as sent.
struct Utf8Page<'a> {
    text: std::borrow::Cow<'a, str>,
    body: &'a [u8],
}

impl<'a> Utf8Page<'a> {
    fn new(body: &'a [u8]) -> Utf8Page<'a> {
        let text = same_length_text(body);
        Utf8Page { text, body }
    }

    /// An object as text, and its bytes as sent.
    fn item<'b>(&'b self, raw: &'b RawValue) -> (&'b str, &'b [u8]) {
        let start = raw.get().as_ptr() as usize - self.text.as_ptr() as usize;
        let original = &self.body[start..start + raw.get().len()];
        (std::str::from_utf8(original).unwrap_or(raw.get()), original)
    }
}
