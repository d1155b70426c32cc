//! Turns what the states say, or the rows that came first, into the grain of a resource's partitions.

use std::collections::HashSet;
use std::ops::Range;

use arrow::array::RecordBatch;

use super::Gatherer;
use crate::decode::Decoded;
use crate::encode::memory::slice_bytes_of;
use crate::error::{Error, Result};
use crate::partition::{Grain, ROWS_PER_FILE, partition_at};
use crate::run::table::{LOST_STATE, Table};
use crate::spool::away::FileCopy;

/// Rows that wait at most for the grain to be chosen.
const UNDECIDED: u64 = 25_000;
/// Rows that say something about the density.
const ENOUGH: usize = 1_000;
/// A few rows of one busy hour say nothing about a day.
const LEAST_SECS: u64 = 86_400;

/// What the states of a resource and of its children say: a child's rows are in the partition of their parent.
pub(super) fn stored_grain(tables: &[Table]) -> Result<Option<Grain>> {
    let has_files = |table: &&Table| !table.state.partitions.is_empty() || !table.state.begun.is_empty();
    let with_files: HashSet<Grain> =
        tables.iter().filter(has_files).filter_map(|table| table.state.grain).collect();
    if with_files.len() > 1 {
        let name = &tables[0].resource.name;
        let what =
            format!("{name}: its files and those of what belongs to it are by several kinds of partitions");
        return Err(Error::integrity(what).hint(LOST_STATE));
    }
    Ok(with_files.into_iter().next().or(tables[0].state.grain))
}

/// Batches that came before the grain was chosen.
#[derive(Default)]
pub struct Undecided {
    pub batches: Vec<(Decoded, Vec<FileCopy>)>,
    n_rows: u64,
    n_bytes: usize,
}

impl Undecided {
    pub fn push(&mut self, decoded: Decoded, copies: Vec<FileCopy>) {
        self.n_rows += decoded.parent.as_ref().map_or(0, RecordBatch::num_rows) as u64;
        let batches = decoded.parent.iter().chain(decoded.children.iter().flatten());
        self.n_bytes += batches.map(slice_bytes_of).sum::<usize>();
        self.batches.push((decoded, copies));
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// When the rows of this span were created, newest first.
    fn created_in(&self, span: &Range<i64>) -> Vec<i64> {
        let batches = self.batches.iter().filter_map(|(decoded, _)| decoded.parent.as_ref());
        let created = batches.flat_map(|batch| {
            let at = partition_at(batch);
            at.values().iter().copied().filter(|second| span.contains(second)).collect::<Vec<_>>()
        });
        let mut created: Vec<i64> = created.collect();
        created.sort_unstable_by(|a, b| b.cmp(a));
        created
    }
}

impl Gatherer {
    /// Chooses the grain from the newest rows whose span is read without a gap.
    pub(super) fn choose_grain(&mut self, is_complete: bool) {
        if self.grain.is_some() || self.undecided.n_rows == 0 {
            return;
        }
        let newest_span = match self.seconds.covered.ending_at(self.scope.span.end) {
            Some(span) if !is_complete => span,
            _ if is_complete || self.must_decide() => self.scope.span.clone(),
            _ => return,
        };
        let created = self.undecided.created_in(&newest_span);
        let n_rows = created.len() as u64;
        if n_rows < ROWS_PER_FILE && !is_complete && !self.must_decide() {
            return;
        }
        let is_small = match is_complete {
            true => n_rows < ROWS_PER_FILE && self.scope.is_everything(),
            false => created.len() < ENOUGH,
        };
        self.grain = Some(if is_small { Grain::Year } else { grain_of(&created) });
    }

    /// Whether no more rows can wait.
    fn must_decide(&self) -> bool {
        self.undecided.n_rows >= UNDECIDED || self.undecided.n_bytes >= self.setup.memory
    }

    /// Chooses it from what rows there are, since the run ends.
    pub(super) fn choose_grain_at_end(&mut self) {
        if self.grain.is_some() || self.undecided.n_rows == 0 {
            return;
        }
        let newest_span = self.seconds.covered.ending_at(self.scope.span.end);
        let mut created = newest_span.map(|span| self.undecided.created_in(&span)).unwrap_or_default();
        if created.is_empty() {
            created = self.undecided.created_in(&self.scope.span);
        }
        self.grain = Some(grain_of(&created));
    }
}

/// By the newest rows, as many as one file should hold.
fn grain_of(created: &[i64]) -> Grain {
    let least_secs = if created.len() >= ENOUGH { 0 } else { LEAST_SECS };
    let newest = &created[..created.len().min(ROWS_PER_FILE as usize)];
    let secs = match (newest.first(), newest.last()) {
        (Some(newest), Some(oldest)) => (newest - oldest) as u64,
        _ => 0,
    };
    Grain::for_density(newest.len() as u64, secs.max(least_secs))
}
