//! Turns a page into rows in one pass; objects that are unusual take the plain way.

use crate::decode::closed::ClosedList;
use crate::decode::fast::{ChildAt, Reader};
use crate::decode::fast_list::{Embedded, end_row};
use crate::decode::frame::{Frame, Seen};
use crate::decode::plain_object::{Object, Refused};
use crate::decode::plain_page::{self, Source};
use crate::decode::rows::{ParentRow, Rows};
use crate::decode::step::Stop;
use crate::decode::tables::Tables;
use crate::decode::template::Template;
use crate::decode::unnamed::{Tally, Unnamed};
use crate::decode::{PageError, Pushed, Rejected, malformed_at};
use crate::tokens::{Broken, expect, next_in, raw_value, skip_space, string_end};

/// What has been learnt about the text of one resource and its children.
pub struct Fast {
    template: Template,
    children: Vec<Template>,
    tally: Tally,
    child_tallies: Vec<Tally>,
    unnamed: Unnamed,
    /// What the embedded items of one parent had without a column; counted when the parent is kept.
    child_unnamed: Vec<Unnamed>,
    lists: Vec<ChildAt>,
    /// Of the page that was read last.
    pub frame: Option<Frame>,
}

impl Fast {
    pub fn new(tables: &Tables) -> Fast {
        Fast {
            template: Template::new(&tables.shape, 0),
            children: tables.children.iter().map(|(rows, shape)| Template::new(shape, above(rows))).collect(),
            tally: Tally::default(),
            child_tallies: tables.children.iter().map(|_| Tally::default()).collect(),
            unnamed: Unnamed::default(),
            child_unnamed: tables.children.iter().map(|_| Unnamed::default()).collect(),
            lists: Vec::new(),
            frame: None,
        }
    }

    /// Adds what was found since the last call to the findings of `tables`.
    pub fn fold_findings(&mut self, tables: &mut Tables) {
        self.tally.fold(&self.template, &mut tables.findings);
        for (tally, template) in self.child_tallies.iter_mut().zip(&self.children) {
            tally.fold(template, &mut tables.findings);
        }
    }

    /// Takes back what was found since the last fold.
    pub fn forget_findings(&mut self) {
        self.tally = Tally::default();
        self.child_tallies.iter_mut().for_each(|tally| *tally = Tally::default());
    }

    /// Decodes every object of `page`. On an error nothing of it is kept.
    pub fn push(
        &mut self,
        tables: &mut Tables,
        page: &str,
        observed_at: i64,
        source: &Source,
    ) -> Result<Pushed, PageError> {
        self.fold_findings(tables);
        let mark = tables.mark();
        let findings = (!tables.findings.is_empty()).then(|| tables.findings.clone());
        let first = tables.rows.table.n_rows;
        let (pushed, seen) = (Pushed::default(), Seen::default());
        let mut run = Run { fast: self, tables, page, observed_at, source, pushed, seen };
        let result = match source {
            Source::Page | Source::ChildPage(..) => run.list_page(),
            Source::Objects => run.objects(),
        };
        let Run { pushed, seen, .. } = run;
        match result {
            Ok(()) => {
                self.frame =
                    matches!(source, Source::Page).then(|| seen.frame(&tables.rows, first)).flatten();
                Ok(pushed)
            }
            Err(error) => {
                tables.reset(&mark);
                tables.findings = findings.unwrap_or_default();
                self.forget_findings();
                match error {
                    PageStop::Broken(broken) => Err(malformed_at(page, broken.at, broken.what)),
                    // Objects of the wrong kind behind which the page is broken: broken counts.
                    PageStop::Refused => plain_page::push(tables, page.as_bytes(), observed_at, source),
                }
            }
        }
    }
}

/// Objects and arrays around an item of an embedded list.
fn above(rows: &Rows) -> usize {
    rows.resource.parent.as_ref().map_or(0, |parent| parent.path.len() + 2)
}

enum PageStop {
    Broken(Broken),
    /// The plain decoder refused the page because of an object.
    Refused,
}

impl From<Broken> for PageStop {
    fn from(broken: Broken) -> PageStop {
        PageStop::Broken(broken)
    }
}

/// One page being read.
struct Run<'a> {
    fast: &'a mut Fast,
    tables: &'a mut Tables,
    page: &'a str,
    observed_at: i64,
    source: &'a Source<'a>,
    pushed: Pushed,
    seen: Seen,
}

impl Run<'_> {
    /// `{"object": "list", "data": [...], ...}`: what is not `data` is only checked to be JSON.
    fn list_page(&mut self) -> Result<(), PageStop> {
        let bytes = self.page.as_bytes();
        let mut at = expect(bytes, skip_space(bytes, 0), b'{', "expected a list page")?;
        let mut has_data = false;
        let mut is_first = true;
        loop {
            at = skip_space(bytes, at);
            if bytes.get(at) == Some(&b'}') {
                break;
            }
            if !is_first {
                at = skip_space(bytes, expect(bytes, at, b',', "expected , or }")?);
            }
            is_first = false;
            let key_at = expect(bytes, at, b'"', "expected a key")?;
            let (key_end, _) = string_end(bytes, key_at)?;
            let (key, _) = raw_value(self.page, at)?;
            self.seen.key(key);
            at = skip_space(bytes, key_end + 1);
            at = skip_space(bytes, expect(bytes, at, b':', "expected :")?);
            if serde_json::from_str::<String>(key).is_ok_and(|key| key == "data") {
                if has_data {
                    return Err(Broken::new(key_at, "expected data once").into());
                }
                has_data = true;
                at = self.array(at)?;
            } else {
                let (value, end) = raw_value(self.page, at)?;
                self.seen.member(key, value);
                at = end;
            }
        }
        if !has_data {
            return Err(Broken::new(at, "expected data in a list page").into());
        }
        let end = skip_space(bytes, at + 1);
        if end < bytes.len() {
            return Err(Broken::new(end, "expected nothing behind the page").into());
        }
        Ok(())
    }

    fn array(&mut self, at: usize) -> Result<usize, PageStop> {
        let bytes = self.page.as_bytes();
        let mut at = skip_space(bytes, expect(bytes, at, b'[', "expected data to be an array")?);
        if bytes.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        for row in 0.. {
            let has_more;
            (at, has_more) = next_in(bytes, self.item(at, row)?, b']')?;
            if !has_more {
                break;
            }
        }
        Ok(at + 1)
    }

    fn objects(&mut self) -> Result<(), PageStop> {
        let bytes = self.page.as_bytes();
        let mut at = skip_space(bytes, 0);
        let mut row = 0;
        while at < bytes.len() {
            if bytes[at] != b'{' {
                return Err(Broken::new(at, "expected an object").into());
            }
            at = skip_space(bytes, self.item(at, row)?);
            row += 1;
        }
        Ok(())
    }

    /// One object, the fast way if it is usual; returns the index behind it.
    fn item(&mut self, at: usize, row: usize) -> Result<usize, PageStop> {
        let mark = self.tables.mark();
        let stopped = match self.page.as_bytes().get(at) {
            Some(b'{') => self.fast_item(at),
            _ => Err(Stop::Unusual),
        };
        match stopped {
            Ok(end) => {
                self.pushed.n_rows += 1;
                Ok(end)
            }
            Err(Stop::Unusual) => {
                self.tables.reset(&mark);
                self.seen.something_odd();
                self.plain_item(at, row)
            }
            Err(Stop::Broken(broken)) => Err(broken.into()),
        }
    }

    fn fast_item(&mut self, at: usize) -> Result<usize, Stop> {
        let Fast { template, children, tally, child_tallies, unnamed, child_unnamed, lists, .. } =
            &mut *self.fast;
        let Tables { options, rows, children: child_rows, closed, .. } = &mut *self.tables;
        unnamed.clear();
        child_unnamed.iter_mut().for_each(Unnamed::clear);
        lists.clear();
        if let Source::ChildPage(child, parent) = self.source {
            let (rows, template) = (&mut child_rows[*child].0, &mut children[*child]);
            let mut reader =
                Reader { page: self.page, template, table: &mut rows.table, unnamed, children: lists };
            let end = reader.row(at + 1)?;
            end_row(rows, unnamed, *options, self.observed_at, Some(*parent))?;
            child_tallies[*child].add(unnamed);
            return Ok(end);
        }
        let mut reader =
            Reader { page: self.page, template, table: &mut rows.table, unnamed, children: lists };
        let end = reader.row(at + 1)?;
        let created = end_row(rows, unnamed, *options, self.observed_at, None)?;
        let n_open = self.pushed.open_lists.len();
        if !lists.is_empty() {
            let parent = ParentRow { id: rows.last_id().to_owned(), created };
            for list in lists.iter() {
                let child = list.child;
                let mut embedded = Embedded {
                    page: self.page,
                    rows: &mut child_rows[child].0,
                    template: &mut children[child],
                    unnamed: &mut child_unnamed[child],
                    options: *options,
                    observed_at: self.observed_at,
                };
                let begin = embedded.rows.table.n_rows;
                match embedded.list(list, &parent) {
                    Ok(Some(open)) => self.pushed.open_lists.push(open),
                    Ok(None) => {
                        let rows = Some(begin..embedded.rows.table.n_rows);
                        let (parent, observed_at) = (parent.clone(), self.observed_at);
                        closed[child].push(ClosedList { parent, observed_at, rows });
                    }
                    Err(stop) => {
                        self.pushed.open_lists.truncate(n_open);
                        return Err(stop);
                    }
                }
            }
        }
        if unnamed.found.iter().any(|(node, key, _)| *node == 0 && matches!(key.as_str(), "id" | "created")) {
            // It stands there a second time, with a value of another type.
            self.seen.something_odd();
        }
        tally.add(unnamed);
        for (tally, unnamed) in child_tallies.iter_mut().zip(child_unnamed) {
            tally.add(unnamed);
        }
        Ok(end)
    }

    /// The plain decoder decides about an object.
    fn plain_item(&mut self, at: usize, row: usize) -> Result<usize, PageStop> {
        let (text, end) = raw_value(self.page, at)?;
        let object = Object { row, text, original: text.as_bytes(), observed_at: self.observed_at };
        let (added, resource) = match self.source {
            Source::ChildPage(child, parent) => {
                let added = self.tables.add_child(*child, parent, &object);
                (added.map(|()| Vec::new()), &self.tables.children[*child].0.resource)
            }
            _ => (self.tables.add(&object), &self.tables.rows.resource),
        };
        match added {
            Ok(open_lists) => {
                self.pushed.n_rows += 1;
                self.pushed.open_lists.extend(open_lists);
            }
            Err(Refused::Object(reason)) => {
                self.pushed.rejected.push(Rejected::new(&resource.name, reason.0, text.as_bytes()));
            }
            Err(Refused::Page(_)) => return Err(PageStop::Refused),
        }
        Ok(end)
    }
}
