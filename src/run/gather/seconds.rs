//! Says which seconds of a listing have been read, and by which run.

use std::collections::HashSet;
use std::ops::Range;

use crate::partition::Partition;
use crate::plan::coverage::Coverage;

/// The words are those of the gatherer.
#[derive(Default)]
pub struct Seconds {
    pub fresh: Coverage,
    pub covered: Coverage,
    /// Those of the rows that were taken up.
    pub taken_up: Coverage,
    /// What the listing has not read at its end: it was lost in the meantime.
    pub unread: Vec<Range<i64>>,
    /// Partitions whose file was lost after this run had put rows into it, whatever their seconds.
    pub lost_behind: HashSet<Partition>,
}

impl Seconds {
    /// Of an earlier run of the same listing.
    pub fn continued(read: &Coverage, taken_up: Coverage) -> Seconds {
        let covered = read.ranges().into_iter().chain(taken_up.ranges()).collect();
        Seconds { covered, taken_up, ..Seconds::default() }
    }

    /// This run has read them. Whether they had not counted as read.
    pub fn settle(&mut self, span: Range<i64>) -> bool {
        let is_new = !self.covered.contains(&span);
        self.fresh.add(span.clone());
        self.covered.add(span);
        is_new
    }

    /// They have to be read again, but for what this run has read.
    pub fn read_again(&mut self, span: &Range<i64>) {
        self.covered.remove(span);
        self.fresh.within(span).into_iter().for_each(|fresh| self.covered.add(fresh));
    }

    /// The rows are not there that were taken up.
    pub fn let_go(&mut self) {
        for range in std::mem::take(&mut self.taken_up).ranges() {
            self.covered.remove(&range);
        }
    }
}
