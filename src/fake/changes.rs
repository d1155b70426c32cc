//! Turns what happens to an account while it is read into what its lists show.
//!
//! Objects are functions of their index, so only the exceptions are kept: the ones that do not show, and how often
//! one was edited. `appear` and `late` show objects that were held back from the start.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::account::{Account, Resource};
use super::chance::mix;
use super::fault::Change;
use super::list::Row;

/// What has happened so far.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Spares the lock where nothing ever happens.
    any: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    hidden: HashSet<(Resource, Row)>,
    /// Held back, in the order in which they come.
    newest: HashMap<Resource, VecDeque<Row>>,
    late: HashMap<Resource, VecDeque<Row>>,
    /// By id: how often an object was edited.
    revisions: HashMap<String, u64>,
    n_edits: u64,
}

impl Account {
    /// Keeps objects of a list back until [`Change::Appear`] or [`Change::Late`] shows them.
    pub fn hold_back(&self, resource: Resource, n: u64, newest: bool) {
        let Some(series) = resource.series().first().copied() else { return };
        let len = self.series_len(series);
        let n = n.min(len / 2);
        let mut inner = self.changes.inner.lock().expect("no one panics while changing");
        for k in 0..n {
            let index = if newest { len - n + k } else { len * (2 * k + 1) / (2 * n) };
            let row = Row { series, index };
            inner.hidden.insert((resource, row));
            let held = if newest { &mut inner.newest } else { &mut inner.late };
            held.entry(resource).or_default().push_back(row);
        }
        self.changes.any.store(true, Ordering::Release);
    }

    /// Lets something happen to a list; `cursor` is what the request names in `starting_after`.
    pub fn change(&self, resource: Resource, change: &Change, cursor: Option<&str>) {
        let Some(series) = resource.series().first().copied() else { return };
        let len = self.series_len(series);
        let row_of_cursor = cursor.and_then(|id| self.find(resource, id));
        let mut inner = self.changes.inner.lock().expect("no one panics while changing");
        match change {
            Change::Appear(n) => inner.show(resource, *n, true),
            Change::Late(n) => inner.show(resource, *n, false),
            Change::Edit(n) => {
                for _ in 0..*n.min(&len) {
                    inner.n_edits += 1;
                    let row = Row { series, index: mix(self.spec.seed, inner.n_edits) % len };
                    *inner.revisions.entry(self.row_id(resource, row).to_string()).or_default() += 1;
                }
            }
            Change::Vanish(n) => {
                let shown: Vec<u64> = (0..len).rev().collect();
                let shown = shown.into_iter().map(|index| (resource, Row { series, index }));
                let gone: Vec<_> =
                    shown.filter(|row| !inner.hidden.contains(row)).take(*n as usize).collect();
                inner.hidden.extend(gone);
            }
            Change::VanishCursor(n) => {
                // A list goes from new to old, so what came before the cursor is newer.
                for k in 0..if row_of_cursor.is_some() { *n } else { 0 } {
                    let row = row_of_cursor.expect("counted only with a cursor");
                    inner.hidden.insert((resource, Row { index: row.index + k, ..row }));
                }
            }
        }
        self.changes.any.store(true, Ordering::Release);
    }

    /// Whether an object is there, as far as changes go.
    pub(super) fn is_shown(&self, resource: Resource, row: Row) -> bool {
        if !self.changes.any.load(Ordering::Acquire) {
            return true;
        }
        !self.changes.inner.lock().expect("no one panics while changing").hidden.contains(&(resource, row))
    }

    /// The body with the edits that its objects have seen.
    pub(super) fn revised(&self, body: Vec<u8>) -> Vec<u8> {
        if !self.changes.any.load(Ordering::Acquire) {
            return body;
        }
        let inner = self.changes.inner.lock().expect("no one panics while changing");
        if inner.revisions.is_empty() {
            return body;
        }
        let Ok(mut page) = serde_json::from_slice::<Value>(&body) else { return body };
        let revise = |object: &mut Value| {
            let n_edits = object.get("id").and_then(Value::as_str).and_then(|id| inner.revisions.get(id));
            if let Some(n_edits) = n_edits {
                match object.get_mut("metadata") {
                    Some(Value::Object(metadata)) => {
                        drop(metadata.insert("revision".to_owned(), n_edits.to_string().into()))
                    }
                    _ => object["description"] = format!("revision {n_edits}").into(),
                }
            }
        };
        match page.get_mut("data") {
            Some(Value::Array(objects)) => objects.iter_mut().for_each(revise),
            _ => revise(&mut page),
        }
        serde_json::to_vec_pretty(&page).unwrap_or(body)
    }
}

impl Inner {
    fn show(&mut self, resource: Resource, n: u64, newest: bool) {
        let held = if newest { &mut self.newest } else { &mut self.late };
        let rows = held.entry(resource).or_default();
        let n = rows.len().min(n as usize);
        for row in rows.drain(..n) {
            self.hidden.remove(&(resource, row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Request, Spec};

    fn ids(account: &Account, query: &str) -> (u16, Vec<String>) {
        let response =
            account.respond(&Request::get(&format!("/v1/charges?limit=100{query}"), "rk_test_fake"));
        let page: Value = serde_json::from_slice(&response.body).unwrap();
        let data = page["data"].as_array().cloned().unwrap_or_default();
        (response.status, data.iter().map(|object| object["id"].as_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn objects_appear_come_late_change_and_vanish() {
        let account = Account::new(Spec { charges: 90, ..Spec::default() });
        let (_, all) = ids(&account, "");
        account.hold_back(Resource::Charges, 10, true);
        account.hold_back(Resource::Charges, 5, false);
        let (_, shown) = ids(&account, "");
        assert!(shown.len() >= 75 && shown.len() < 90, "{}", shown.len());
        account.change(Resource::Charges, &Change::Appear(10), None);
        account.change(Resource::Charges, &Change::Late(5), None);
        assert_eq!(ids(&account, "").1, all);

        account.change(Resource::Charges, &Change::Vanish(3), None);
        assert_eq!(ids(&account, "").1, all[3..]);
        let cursor = &all[50];
        account.change(Resource::Charges, &Change::VanishCursor(2), Some(cursor));
        let (status, _) = ids(&account, &format!("&starting_after={cursor}"));
        assert_eq!(status, 400);
        let (_, left) = ids(&account, "");
        assert_eq!((left.len(), left.contains(&all[49])), (85, false));

        account.change(Resource::Charges, &Change::Edit(1), None);
        let response = account.respond(&Request::get("/v1/charges?limit=100", "rk_test_fake"));
        let n = String::from_utf8_lossy(&response.body).matches("\"revision\": \"1\"").count();
        assert!(n <= 1, "{n}");
    }
}
