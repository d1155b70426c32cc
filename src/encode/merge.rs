//! Turns sorted runs and the old file into one sorted sequence with the newest observation of each id.

pub mod absent;
pub mod age;
mod input;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;

use crate::decode::schema::{DELETED, SYNCED_AT};
use crate::encode::memory::bytes_of;
use crate::encode::merge::absent::Absent;
use crate::encode::merge::age::OldAge;
use crate::encode::merge::input::Input;
pub use crate::encode::merge::input::Source;
use crate::encode::picked::Picked;
use crate::encode::same::rows_are_same;
use crate::error::{Error, Result};

/// Batches in ascending order of `created` and `id`, no id twice.
pub type Run = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Rows that go to the writer at once, at most.
const ROWS_AT_ONCE: usize = 16_384;
/// Memory of the batches that one output batch may refer to, about.
const BYTES_HELD: usize = 8 << 20;

/// What the merge changed, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
    pub deleted: u64,
    /// Of the unchanged ones, those that an import has seen later than the old file says.
    pub seen_later: u64,
}

impl Changes {
    /// Whether the result holds the very rows of the old file.
    pub fn is_none(&self) -> bool {
        self.new + self.changed + self.deleted + self.seen_later == 0
    }

    pub fn add(&mut self, other: Changes) {
        self.new += other.new;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        self.deleted += other.deleted;
        self.seen_later += other.seen_later;
    }
}

/// The sorted sequence; after the last batch, [`Merge::changes`] is final.
pub struct Merge {
    inputs: Vec<Option<Input>>,
    /// Input 0 is the old file.
    heap: BinaryHeap<Reverse<(i64, String, usize)>>,
    absent: Absent,
    old_age: OldAge,
    /// Ids that the old file has in a newer form than the runs; `None` where nobody asks for them.
    outdated: Option<HashSet<String>>,
    changes: Changes,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    /// Those of them that would be gone otherwise.
    n_passing: usize,
    rows: Vec<(usize, usize)>,
    vanished_rows: Vec<usize>,
    is_done: bool,
}

impl Merge {
    /// `runs` in the order of their observation: of two equal times the later run wins.
    pub fn new(
        old: Option<Run>,
        runs: Vec<impl Into<Source>>,
        absent: Absent,
        old_age: OldAge,
    ) -> Result<Merge> {
        let mut inputs = vec![old.map(|run| Input::start(Source::Run(run))).transpose()?.flatten()];
        for run in runs {
            inputs.push(Input::start(run.into())?);
        }
        let mut heap = BinaryHeap::new();
        for (index, input) in inputs.iter().enumerate() {
            if let Some(input) = input {
                let (created, id) = input.key();
                heap.push(Reverse((created, id.to_owned(), index)));
            }
        }
        Ok(Merge {
            inputs,
            heap,
            absent,
            old_age,
            outdated: None,
            changes: Changes::default(),
            held: Vec::new(),
            held_bytes: 0,
            n_passing: 0,
            rows: Vec::new(),
            vanished_rows: Vec::new(),
            is_done: false,
        })
    }

    /// The same, and notes the ids that the old file has in a newer form: as many as there are.
    pub fn noting_outdated(self) -> Merge {
        Merge { outdated: Some(HashSet::new()), ..self }
    }

    /// Those ids, once the last batch was handed out.
    pub fn take_outdated(&mut self) -> HashSet<String> {
        self.outdated.take().unwrap_or_default()
    }

    /// What has changed in the rows that were handed out so far.
    pub fn changes(&self) -> Changes {
        self.changes
    }

    /// Takes all rows of the next id and keeps one, or none.
    fn step(&mut self) -> Result<bool> {
        let Some(Reverse((created, id, first))) = self.heap.pop() else { return Ok(false) };
        let mut candidates = vec![first];
        while self.heap.peek().is_some_and(|Reverse((c, i, _))| *c == created && *i == id) {
            let Reverse((_, _, index)) = self.heap.pop().expect("just peeked");
            candidates.push(index);
        }
        if candidates.len() == 1 {
            return self.lone(first, created).map(|()| true);
        }
        candidates.sort_unstable();
        if self.is_outdated(&candidates) {
            // What the old file has of the parent is newer, whether it has this row or not.
            if candidates[0] == 0 {
                self.changes.unchanged += 1;
                self.keep(0);
            }
        } else {
            let newest = self.newest(&candidates);
            if let (Some(outdated), 0) = (&mut self.outdated, newest)
                && self.old_age != OldAge::Superseded
            {
                outdated.insert(id.clone());
            }
            let kept = self.compare_with_old(&candidates, newest);
            self.keep(kept);
        }
        for index in candidates {
            self.advance(index)?;
        }
        Ok(true)
    }

    /// Takes an id that no other input has, and those that follow it in the same input before any of another's.
    fn lone(&mut self, index: usize, mut created: i64) -> Result<()> {
        loop {
            if index == 0 {
                self.keep_absent(created);
            } else if !self.is_outdated(&[index]) {
                self.changes.new += 1;
                self.keep(index);
            }
            let input = self.inputs[index].as_mut().expect("inputs in the heap are live");
            if !input.advance()? {
                self.inputs[index] = None;
                return Ok(());
            }
            let input = self.input(index);
            let next = input.key();
            let is_first = |Reverse((c, i, _)): &Reverse<(i64, String, usize)>| next < (*c, i.as_str());
            if self.is_full(self.heap.len() + 1) || !self.heap.peek().is_none_or(is_first) {
                let (created, id) = (next.0, next.1.to_owned());
                self.heap.push(Reverse((created, id, index)));
                return Ok(());
            }
            created = next.0;
        }
    }

    fn advance(&mut self, index: usize) -> Result<()> {
        let input = self.inputs[index].as_mut().expect("inputs in the heap are live");
        if input.advance()? {
            let (created, id) = input.key();
            self.heap.push(Reverse((created, id.to_owned(), index)));
        } else {
            self.inputs[index] = None;
        }
        Ok(())
    }

    /// Whether the rows that were kept should go to the writer. The batches that the inputs stand in are in memory
    /// anyway; what counts is what they have left behind.
    fn is_full(&self, n_inputs: usize) -> bool {
        self.rows.len() >= ROWS_AT_ONCE || (self.held_bytes >= BYTES_HELD && self.n_passing > n_inputs)
    }

    /// What an input has in memory as it is, where nothing else is left that could come between: a first run
    /// has one input more often than not.
    fn pass_on(&mut self) -> Result<Option<Picked>> {
        let Some(Reverse((_, _, index))) = self.heap.peek() else { return Ok(None) };
        let (index, is_alone) = (*index, self.heap.len() == 1);
        let is_judged = self.absent.parents.as_ref().is_some_and(|parents| !parents.outdated.is_empty());
        if index == 0 || !is_alone || is_judged || !self.rows.is_empty() {
            return Ok(None);
        }
        self.heap.clear();
        let input = self.inputs[index].as_mut().expect("inputs in the heap are live");
        let rest = input.rest();
        self.changes.new += rest.len() as u64;
        input.at = input.n_rows() - 1;
        self.advance(index)?;
        Ok(Some(rest))
    }

    fn is_outdated(&self, candidates: &[usize]) -> bool {
        let Some(parents) = &self.absent.parents else { return false };
        let (keyed, row) = self.input(candidates[candidates.len() - 1]).row();
        parents.outdated.contains(parents.of(&keyed.batch, row))
    }

    fn input(&self, index: usize) -> &Input {
        self.inputs[index].as_ref().expect("candidates are live")
    }

    /// The candidate observed last; the later run among equals.
    fn newest(&self, candidates: &[usize]) -> usize {
        let observed = |index: &usize| {
            let (keyed, row) = self.input(*index).row();
            let synced_at = keyed.synced_at.value(row);
            match index {
                0 => (self.old_age.observed_at(synced_at, self.input(0).key().0), 0),
                index => (synced_at, *index),
            }
        };
        candidates.iter().copied().max_by_key(observed).expect("at least one candidate")
    }

    /// Counts the change. Where nothing but the time of observation differs a listing prefers the old row: `_synced_at` says
    /// when this form was first seen, and unchanged files stay the same bytes. An import takes the later time, which tells
    /// the next one what is older, in whatever order they come.
    fn compare_with_old(&mut self, candidates: &[usize], newest: usize) -> usize {
        if candidates[0] != 0 {
            self.changes.new += 1;
            return newest;
        }
        let ((old, old_row), (new, new_row)) = (self.input(0).row(), self.input(newest).row());
        if newest == 0 || rows_are_same(&old.batch, old_row, &new.batch, new_row) {
            let is_later = new.synced_at.value(new_row) > old.synced_at.value(old_row);
            let is_seen_later = is_later && matches!(self.old_age, OldAge::AtLeast { .. });
            self.changes.unchanged += 1;
            self.changes.seen_later += u64::from(is_seen_later);
            return if is_seen_later { newest } else { 0 };
        }
        self.changes.changed += 1;
        newest
    }

    fn keep_absent(&mut self, created: i64) {
        let (old, row) = self.input(0).row();
        let parents = self.absent.parents.as_ref();
        let replaced = parents.and_then(|parents| parents.replaced.get(parents.of(&old.batch, row)));
        let observed_at = self.old_age.observed_at(old.synced_at.value(row), created);
        let is_newer = replaced.is_some_and(|replaced| observed_at > replaced.observed_at);
        if replaced.is_some() && !is_newer {
            self.changes.deleted += 1;
            return;
        }
        let is_marked = old.batch.column_by_name(DELETED).is_some_and(|d| d.as_boolean().value(row));
        let has_vanished = match &self.absent.vanished {
            Some((listed, _)) => {
                let created = created.div_euclid(1_000_000);
                !is_marked && listed.iter().any(|seconds| seconds.contains(&created))
            }
            None => false,
        };
        if has_vanished {
            self.changes.deleted += 1;
            self.vanished_rows.push(self.rows.len());
        } else {
            self.changes.unchanged += 1;
        }
        self.keep(0);
    }

    fn keep(&mut self, index: usize) {
        let input = self.inputs[index].as_mut().expect("candidates are live");
        let is_passing = input.is_passing();
        let (batch, row) = input.place();
        let keyed = &mut input.batches[batch];
        let held = *keyed.held.get_or_insert_with(|| {
            // What is in memory anyway is not held by the output.
            self.held_bytes += if is_passing { bytes_of(&keyed.batch) } else { 0 };
            self.n_passing += usize::from(is_passing);
            self.held.push(keyed.batch.clone());
            self.held.len() - 1
        });
        self.rows.push((held, row));
    }

    fn take_rows(&mut self) -> Result<Picked> {
        let rows = std::mem::take(&mut self.rows);
        let held = std::mem::take(&mut self.held);
        (self.held_bytes, self.n_passing) = (0, 0);
        for input in self.inputs.iter_mut().flatten() {
            input.batches.iter_mut().for_each(|keyed| keyed.held = None);
        }
        let picked = Picked::new(held, rows);
        match self.vanished_rows.is_empty() {
            true => Ok(picked),
            false => self.mark_vanished(picked.gathered()?).map(Picked::from),
        }
    }

    fn mark_vanished(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let vanished = std::mem::take(&mut self.vanished_rows);
        let Some((_, observed_at)) = self.absent.vanished.clone().filter(|_| !vanished.is_empty()) else {
            return Ok(batch);
        };
        let vanished: HashSet<usize> = vanished.into_iter().collect();
        let schema = batch.schema();
        let mut columns = batch.columns().to_vec();
        for (column, field) in columns.iter_mut().zip(schema.fields()) {
            if field.name() == DELETED {
                let old = column.as_boolean();
                let marked = (0..old.len()).map(|row| Some(vanished.contains(&row) || old.value(row)));
                *column = Arc::new(marked.collect::<BooleanArray>()) as ArrayRef;
            } else if field.name() == SYNCED_AT {
                let old = column.as_primitive::<TimestampMicrosecondType>();
                let times = (0..old.len())
                    .map(|row| if vanished.contains(&row) { observed_at } else { old.value(row) });
                let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
                *column = Arc::new(times) as ArrayRef;
            }
        }
        RecordBatch::try_new(schema, columns).map_err(|e| Error::bug(format!("merge: {e}")))
    }
}

impl Iterator for Merge {
    type Item = Result<Picked>;

    fn next(&mut self) -> Option<Result<Picked>> {
        if let Some(rest) = self.pass_on().transpose() {
            return Some(rest);
        }
        while !self.is_done && !self.is_full(self.heap.len()) {
            match self.step() {
                Ok(true) => {}
                Ok(false) => self.is_done = true,
                Err(error) => {
                    self.is_done = true;
                    self.rows.clear();
                    return Some(Err(error));
                }
            }
        }
        (!self.rows.is_empty()).then(|| self.take_rows())
    }
}
