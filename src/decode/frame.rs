//! Turns the walk over a page into what paging needs of it, where there is nothing odd about the page.
//!
//! A page with anything unusual has no frame: a member of the list twice or with escapes in its key, an
//! object that is no row or did not become one the fast way. Somebody has to look at such a page again.

use crate::decode::rows::Rows;

/// What paging needs of a page whose objects have all become rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub has_more: bool,
    /// One for each object, in the order sent; none is empty.
    pub ids: Vec<String>,
    /// Of each object that has one, in the order sent; unix seconds.
    pub created: Vec<i64>,
    /// The list that it says to be a page of.
    pub url: Option<String>,
}

/// What was seen of a page so far.
#[derive(Debug, Default)]
pub struct Seen {
    is_list: bool,
    has_more: Option<bool>,
    url: Option<String>,
    is_odd: bool,
}

impl Seen {
    /// The page has no frame.
    pub fn something_odd(&mut self) {
        self.is_odd = true;
    }

    /// A key of the list, in its quotes.
    pub fn key(&mut self, key: &str) {
        self.is_odd |= key.contains('\\');
    }

    /// A member of the list, both sides as they stand in the page.
    pub fn member(&mut self, key: &str, value: &str) {
        self.is_odd |= match (key, value) {
            ("\"object\"", "\"list\"") => std::mem::replace(&mut self.is_list, true),
            ("\"has_more\"", "true" | "false") => self.has_more.replace(value == "true").is_some(),
            ("\"url\"", text) if text.starts_with('"') && !text.contains('\\') => {
                self.url.replace(text.trim_matches('"').to_owned()).is_some()
            }
            ("\"url\"", _) => true,
            ("\"object\"" | "\"has_more\"", _) => true,
            _ => false,
        };
    }

    /// The frame of the page whose rows begin at `first`.
    pub fn frame(self, rows: &Rows, first: usize) -> Option<Frame> {
        let has_more = self.has_more?;
        if self.is_odd || !self.is_list {
            return None;
        }
        let created = rows.created_from(first)?.to_vec();
        let ids = (first..rows.table.n_rows).map(|row| rows.id(row).to_owned()).collect();
        Some(Frame { has_more, ids, created, url: self.url })
    }
}
