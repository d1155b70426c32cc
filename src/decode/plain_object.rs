//! Turns one object's text into rows of its table and of its children, or says why it cannot.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decode::closed::ClosedList;
use crate::decode::findings::Findings;
use crate::decode::json_text::{ObjectText, Reject, depth};
use crate::decode::plain::{Embedded, Walk, members};
use crate::decode::rows::{ParentRow, Rows};
use crate::decode::shape::{MAX_DEPTH, Shape};
use crate::decode::tables::Tables;
use crate::decode::{OpenList, Options, PageError};

/// Why an object did not become a row.
pub enum Refused {
    Object(Reject),
    Page(PageError),
}

impl Refused {
    /// The same of an item of an object: it is the object then that cannot be a row.
    fn of_item(self, child: &str) -> Refused {
        let why = match self {
            Refused::Page(PageError::WrongObject { expected, got, .. }) => {
                format!("expected objects \"{expected}\", got \"{got}\"")
            }
            Refused::Object(Reject(why)) => why,
            other => return other,
        };
        Refused::Object(Reject::new(format!("{child}: {why}")))
    }
}

impl From<Reject> for Refused {
    fn from(reject: Reject) -> Refused {
        Refused::Object(reject)
    }
}

/// One object of a page, on its way into a row.
pub struct Object<'a> {
    /// Its place in the page.
    pub row: usize,
    pub text: &'a str,
    /// The bytes as sent; they differ from `text` where they are no UTF-8.
    pub original: &'a [u8],
    /// Microseconds since 1970.
    pub observed_at: i64,
}

impl Tables {
    /// Decodes an object and its embedded lists. When it is refused, nothing of it remains.
    pub fn add(&mut self, object: &Object) -> Result<Vec<OpenList>, Refused> {
        let mark = self.mark();
        let mut findings = Findings::default();
        let result = self.try_add(object, &mut findings);
        match &result {
            Ok(_) => self.findings.merge(findings),
            Err(_) => self.reset(&mark),
        }
        result
    }

    /// Decodes an object of a child's own list.
    pub fn add_child(&mut self, child: usize, parent: &ParentRow, object: &Object) -> Result<(), Refused> {
        let mark = self.mark();
        let mut findings = Findings::default();
        let (rows, shape) = &mut self.children[child];
        let result = object.decode(rows, shape, &mut findings, &mut Vec::new(), self.options, Some(parent));
        match &result {
            Ok(_) => self.findings.merge(findings),
            Err(_) => self.reset(&mark),
        }
        result.map(drop)
    }

    fn try_add(&mut self, object: &Object, findings: &mut Findings) -> Result<Vec<OpenList>, Refused> {
        let mut embedded = Vec::new();
        let at = object.decode(&mut self.rows, &self.shape, findings, &mut embedded, self.options, None)?;
        let mut open_lists = Vec::new();
        for Embedded { child, raw } in embedded {
            open_lists.extend(self.embedded_list(child, &at, &raw, object, findings)?);
        }
        Ok(open_lists)
    }

    /// Decodes the embedded page of a child table; `Some` when the list goes on.
    fn embedded_list(
        &mut self,
        child: usize,
        parent: &ParentRow,
        raw: &str,
        object: &Object,
        findings: &mut Findings,
    ) -> Result<Option<OpenList>, Refused> {
        #[derive(Deserialize)]
        struct List<'a> {
            #[serde(borrow)]
            data: Vec<&'a RawValue>,
            has_more: bool,
            #[serde(default)]
            url: String,
        }
        let (rows, shape) = &mut self.children[child];
        let list: List =
            serde_json::from_str(raw).map_err(|e| Reject::new(format!("{}: {e}", rows.resource.name)))?;
        let begin = rows.table.n_rows;
        for item in &list.data {
            let item = Object { text: item.get(), original: item.get().as_bytes(), ..*object };
            item.decode(rows, shape, findings, &mut Vec::new(), self.options, Some(parent))
                .map_err(|refused| refused.of_item(&rows.resource.name))?;
        }
        if !list.has_more {
            let rows = Some(begin..rows.table.n_rows);
            let observed_at = object.observed_at;
            self.closed[child].push(ClosedList { parent: parent.clone(), observed_at, rows });
            return Ok(None);
        }
        Ok(Some(OpenList { child, parent: parent.clone(), url: list.url, embedded: rows.ids_from(begin) }))
    }
}

impl Object<'_> {
    fn decode(
        &self,
        rows: &mut Rows,
        shape: &Shape,
        findings: &mut Findings,
        embedded: &mut Vec<Embedded>,
        options: Options,
        parent: Option<&ParentRow>,
    ) -> Result<ParentRow, Refused> {
        let is_unicode = self.text.as_bytes() == self.original;
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
        let created = rows.end_row(options.livemode, self.observed_at, self.is_deleted(), parent)?;
        let id = rows.last_id().to_owned();
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
                let expected = expected.clone();
                Err(Refused::Page(PageError::WrongObject { row: self.row, expected, got }))
            }
            _ => Ok(()),
        }
    }

    /// A text member of the object itself.
    fn member(&self, name: &str) -> Option<String> {
        let members = members(self.text).ok()?;
        let (_, value) = members.into_iter().rev().find(|(key, _)| key == name)?;
        serde_json::from_str(value.get()).ok()
    }

    /// Whether this is what is left of a deleted object: `{"id", "object", "deleted": true}`.
    fn is_deleted(&self) -> bool {
        let members = members(self.text).unwrap_or_default();
        members.iter().any(|(key, value)| key == "deleted" && value.get() == "true")
    }
}
