//! What happens to rows of the old file that the runs do not mention, and to rows of the runs that are out of date.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};

/// What has become of them.
#[derive(Debug, Clone, Default)]
pub struct Absent {
    /// Objects created in these seconds were all listed: an absent one has vanished and is marked
    /// deleted, observed at this time (microseconds).
    pub vanished: Option<(Vec<Range<i64>>, i64)>,
    /// For a child table, what became of the parents.
    pub parents: Option<Parents>,
}

/// The parents of a child table's rows, which are replaced together with them.
#[derive(Debug, Clone)]
pub struct Parents {
    /// The column of the parent's id.
    pub key: String,
    /// All rows of these are in the runs; an old one that is not is gone.
    pub replaced: Arc<HashMap<String, Replaced>>,
    /// The old file has a newer observation of these: their rows in the runs are out of date.
    pub outdated: Arc<HashSet<String>>,
}

/// How often the list of a parent was read, and when it was last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    pub times: usize,
    /// Microseconds since 1970.
    pub observed_at: i64,
}

impl Parents {
    /// How often the list of some parent was read, at most.
    pub fn most_times(&self) -> usize {
        self.replaced.values().map(|replaced| replaced.times).max().unwrap_or(0)
    }

    /// Whether a row is of a list that was read again later. `times` is how often its parent's had been read before it.
    pub fn is_superseded(&self, batch: &RecordBatch, row: usize, times: usize) -> bool {
        self.replaced.get(self.of(batch, row)).is_some_and(|replaced| times + 1 < replaced.times)
    }

    pub fn of<'a>(&self, batch: &'a RecordBatch, row: usize) -> &'a str {
        let parent = batch.column_by_name(&self.key).expect("the catalog checks the parent's key");
        parent.as_string::<i32>().value(row)
    }
}
