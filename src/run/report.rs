//! What a run did, for the result table, the exit code and the lake's own record.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::catalog::Catalog;
use crate::encode::merge::Changes;
use crate::error::{Error, Kind};
use crate::redact::{shown, without_keys};

/// So many files are named in an error.
const FILES_NAMED: usize = 3;

/// One table of the lake after the run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TableReport {
    pub table: String,
    pub rows: u64,
    pub files: u64,
    pub bytes: u64,
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
    pub deleted: u64,
    pub files_written: u64,
    /// Objects that could not be rows; kept under `_stripelake/rejected`.
    pub rejected: u64,
    /// Why one of them could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected_because: Option<String>,
    /// The files that these are in; a listing of several runs has some of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected_in: Vec<String>,
    /// Files in its folder that are not of the lake.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<String>,
    /// Files of the lake that have gone and were not made again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// The listing that was continued, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continued: Option<Continued>,
    /// The part of the listing's time that the next run need not read, where this one ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<f64>,
    /// Whether that is more than before this run, news aside.
    #[serde(skip)]
    pub is_further: bool,
    /// Whether nothing is left to read but what is new since the run that has begun the listing.
    #[serde(skip)]
    pub lacks_only_news: bool,
    /// Members that the catalog does not name, by path; their values are in `_extra`.
    #[serde(serialize_with = "by_path")]
    pub unknown: BTreeMap<String, u64>,
    /// Values of another type than their column's, by path; they are in `_extra`.
    #[serde(serialize_with = "by_path")]
    pub mistyped: BTreeMap<String, u64>,
}

/// Paths are made of names that a server has chosen.
fn by_path<S: Serializer>(counts: &BTreeMap<String, u64>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(counts.iter().map(|(path, n)| (without_keys(path), n)))
}

/// A listing that an earlier run has begun.
#[derive(Debug, Clone, Serialize)]
pub struct Continued {
    pub began: jiff::Timestamp,
    /// The part of its time that was read before, 0 to 1.
    pub share: f64,
}

/// The first of them, and how many there are.
pub fn named(paths: &[String]) -> String {
    let first = paths.iter().take(FILES_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match paths.len().checked_sub(FILES_NAMED) {
        Some(more @ 1..) => format!("{first} and {more} more"),
        _ => first,
    }
}

impl TableReport {
    /// Adds what a commit changed; `is_first` is false where the partition was committed by this run before.
    pub fn add(&mut self, changes: Changes, is_first: bool) {
        self.new += changes.new;
        self.changed += changes.changed;
        self.deleted += changes.deleted;
        self.unchanged = match is_first {
            true => self.unchanged + changes.unchanged,
            false => self.unchanged.saturating_sub(changes.changed + changes.deleted),
        };
    }
}

/// Of which objects a run lists those that were created then; of all without either.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Window {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<jiff::Timestamp>,
}

/// The whole run.
#[derive(Debug, Default)]
pub struct Report {
    pub run_id: String,
    pub window: Window,
    pub account: Option<String>,
    pub tables: Vec<TableReport>,
    /// Resources that are in the lake completely.
    pub complete: Vec<String>,
    pub failures: Vec<(String, Error)>,
    pub requests: u64,
    pub retries: u64,
    /// Answers that asked to slow down.
    pub slowdowns: u64,
    /// What all requests together have waited before they were sent again.
    pub waited_secs: f64,
    pub secs: f64,
}

/// Whether no object of a resource, or of what comes inside of them, has been left out as no row.
pub fn has_all_rows(tables: &[TableReport]) -> bool {
    tables.iter().all(|table| table.rejected == 0)
}

impl Report {
    /// 0 only when everything that was asked for is in the lake.
    ///
    /// A failure that stops everything (destination, key, signal, budget) decides alone, and after it what is damaged; before a budget
    /// does what no later run can mend. Otherwise a run that read some resources is partial, and one that read none fails as they did.
    pub fn kind(&self) -> Option<Kind> {
        let first_of = |is_such: fn(&Error) -> bool| {
            self.failures.iter().find(|(_, error)| is_such(error)).map(|(_, error)| error.kind())
        };
        let fatal = first_of(Error::is_fatal);
        let decisive = match fatal {
            Some(Kind::Budget) => first_of(Error::needs_a_person).or(fatal),
            _ => fatal.or(first_of(Error::is_damage)),
        };
        match (decisive, first_of(|_| true)) {
            (Some(kind), _) => Some(kind),
            (None, Some(kind)) if self.complete.is_empty() && has_all_rows(&self.tables) => Some(kind),
            (None, Some(_)) => Some(Kind::Partial),
            (None, None) if !has_all_rows(&self.tables) => Some(Kind::Partial),
            (None, None) => None,
        }
    }

    /// What has not become rows, by table, and why.
    pub fn left_out(&self) -> Vec<(String, Error)> {
        let error = |report: &TableReport| {
            let TableReport { rejected, rejected_because, rejected_in, .. } = report;
            let because = rejected_because.as_deref().unwrap_or("of what they are");
            let what = format!("{rejected} objects could not be rows, one because: {because}");
            let hint = match rejected_in.as_slice() {
                [] => "run the same command again".to_owned(),
                files => format!("see what they are in {}: they are kept there", named(files)),
            };
            Error::new(Kind::Partial, what).hint(hint)
        };
        let odd = self.tables.iter().filter(|table| table.rejected > 0);
        odd.map(|table| (table.table.clone(), error(table))).collect()
    }

    /// A glob over the table is not right where a file of somebody else stands in it, or one of ours has gone.
    pub fn fail_for_files(&mut self, catalog: &Catalog) {
        for TableReport { table, strangers, lost, .. } in &self.tables {
            if strangers.is_empty() && lost.is_empty() {
                continue;
            }
            let resource = catalog.resources.iter().find(|resource| resource.name == *table);
            let parent = resource.and_then(|resource| resource.parent.as_ref());
            let incomplete = parent.map_or(table, |parent| &parent.resource);
            self.complete.retain(|name| name != incomplete);
            let (links, files): (Vec<_>, Vec<_>) =
                strangers.iter().cloned().partition(|path| path.ends_with('/'));
            for (found, what) in [
                (files, "not written by stripelake, and read by every query"),
                (links, "a link to a folder, which some readers follow and DuckDB's ** does not"),
            ] {
                if !found.is_empty() {
                    let error = Error::integrity(format!("{what}: {}", named(&found)))
                        .hint("move that out of the table's folder, then run the same command again");
                    self.failures.push((table.clone(), error));
                }
            }
            if !lost.is_empty() {
                let error = Error::loss(format!("lost: {}", named(lost)))
                    .hint("list everything: stripelake sync, without --since and --until; what has gone can also be restored from a copy, or imported again");
                self.failures.push((table.clone(), error));
            }
        }
    }

    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// `runs/<run id>.json`.
#[derive(Debug, Serialize)]
pub struct RunRecord<'a> {
    pub run_id: &'a str,
    pub command: &'a str,
    pub version: &'static str,
    pub started_at: jiff::Timestamp,
    pub secs: f64,
    pub exit_code: i32,
    #[serde(flatten)]
    pub window: Window,
    pub requests: u64,
    pub retries: u64,
    pub slowdowns: u64,
    pub waited_secs: f64,
    pub tables: &'a [TableReport],
    pub failures: Vec<String>,
}

impl<'a> RunRecord<'a> {
    pub fn new(
        report: &'a Report,
        command: &'a str,
        started_at: jiff::Timestamp,
        kind: Option<Kind>,
    ) -> RunRecord<'a> {
        RunRecord {
            run_id: &report.run_id,
            command,
            version: env!("CARGO_PKG_VERSION"),
            started_at,
            secs: report.secs,
            exit_code: kind.map_or(0, Kind::exit_code),
            window: report.window,
            requests: report.requests,
            retries: report.retries,
            slowdowns: report.slowdowns,
            waited_secs: report.waited_secs,
            tables: &report.tables,
            failures: report
                .failures
                .iter()
                .chain(&report.left_out())
                .map(|(resource, error)| shown(&format!("{resource}: {error}"), 500))
                .collect(),
        }
    }
}
