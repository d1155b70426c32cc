//! Turns sorted runs and the old file into one sorted sequence with the newest observation of each id.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;

use crate::decode::schema::{DELETED, SYNCED_AT};
use crate::encode::created_of;
use crate::encode::gather::gather;
use crate::encode::memory::bytes_of;
use crate::encode::same::rows_are_same;
use crate::error::{Error, Result};

/// Batches in ascending order of `created` and `id`, no id twice.
pub type Run = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Rows of a batch that goes to the writer at most.
const ROWS_PER_BATCH: usize = 4096;
/// Memory of the batches that one output batch may refer to, about.
const BYTES_HELD: usize = 8 << 20;

/// What happens to rows of the old file that the runs do not mention.
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
    pub replaced: Arc<HashSet<String>>,
    /// The old file has a newer observation of these: their rows in the runs are out of date.
    pub outdated: Arc<HashSet<String>>,
}

impl Parents {
    fn of<'a>(&self, batch: &'a RecordBatch, row: usize) -> &'a str {
        let parent = batch.column_by_name(&self.key).expect("the catalog checks the parent's key");
        parent.as_string::<i32>().value(row)
    }
}

/// How old the rows of the old file count as, against observations in the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldAge {
    /// The runs were listed just now, under the lake's lock: they are newer, whatever a clock said when
    /// the old rows were written.
    Superseded,
    /// The same, but rows observed between these times (microseconds) were listed by this run, too, and
    /// maybe after those in the runs.
    SupersededBut(i64, i64),
    /// As old as `_synced_at` says, but no older than this time (microseconds): a row that was found
    /// unchanged keeps its time, and yet was seen again by the last complete listing.
    AtLeast(i64),
}

/// What the merge changed, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
    pub deleted: u64,
}

impl Changes {
    /// Whether the result holds the very rows of the old file.
    pub fn is_none(&self) -> bool {
        self.new + self.changed + self.deleted == 0
    }

    pub fn add(&mut self, other: Changes) {
        self.new += other.new;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        self.deleted += other.deleted;
    }
}

/// One input and its place in it.
struct Input {
    run: Run,
    batch: RecordBatch,
    created: Option<TimestampMicrosecondArray>,
    ids: StringArray,
    synced_at: TimestampMicrosecondArray,
    row: usize,
    /// Where `batch` stands among the batches that the output refers to.
    held: Option<usize>,
}

impl Input {
    /// `None` when the run is empty.
    fn start(mut run: Run) -> Result<Option<Input>> {
        let Some(batch) = next_batch(&mut run)? else { return Ok(None) };
        let (created, ids, synced_at) = keys(&batch);
        Ok(Some(Input { run, batch, created, ids, synced_at, row: 0, held: None }))
    }

    fn key(&self) -> (i64, String) {
        let created = self.created.as_ref().map_or(0, |c| c.value(self.row));
        (created, self.ids.value(self.row).to_owned())
    }

    /// Whether there is another row.
    fn advance(&mut self) -> Result<bool> {
        self.row += 1;
        if self.row < self.batch.num_rows() {
            return Ok(true);
        }
        let Some(batch) = next_batch(&mut self.run)? else { return Ok(false) };
        (self.created, self.ids, self.synced_at) = keys(&batch);
        self.batch = batch;
        self.row = 0;
        self.held = None;
        Ok(true)
    }
}

fn next_batch(run: &mut Run) -> Result<Option<RecordBatch>> {
    for batch in run {
        let batch = batch?;
        if batch.num_rows() > 0 {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}

fn keys(batch: &RecordBatch) -> (Option<TimestampMicrosecondArray>, StringArray, TimestampMicrosecondArray) {
    let ids = batch.column_by_name("id").expect("every table has an id").as_string::<i32>().clone();
    let synced_at = batch.column_by_name(SYNCED_AT).expect("a system column");
    (created_of(batch), ids, synced_at.as_primitive::<TimestampMicrosecondType>().clone())
}

/// The sorted sequence; after the last batch, [`Merge::changes`] is final.
pub struct Merge {
    inputs: Vec<Option<Input>>,
    /// Input 0 is the old file.
    heap: BinaryHeap<Reverse<(i64, String, usize)>>,
    absent: Absent,
    old_age: OldAge,
    /// Ids that the old file has in a newer form than the runs.
    outdated: HashSet<String>,
    changes: Changes,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    rows: Vec<(usize, usize)>,
    vanished_rows: Vec<usize>,
    is_done: bool,
}

impl Merge {
    /// `runs` in the order of their observation: of two equal times the later run wins.
    pub fn new(old: Option<Run>, runs: Vec<Run>, absent: Absent, old_age: OldAge) -> Result<Merge> {
        let mut inputs = vec![old.map(Input::start).transpose()?.flatten()];
        for run in runs {
            inputs.push(Input::start(run)?);
        }
        let mut heap = BinaryHeap::new();
        for (index, input) in inputs.iter().enumerate() {
            if let Some(input) = input {
                let (created, id) = input.key();
                heap.push(Reverse((created, id, index)));
            }
        }
        Ok(Merge {
            inputs,
            heap,
            absent,
            old_age,
            outdated: HashSet::new(),
            changes: Changes::default(),
            held: Vec::new(),
            held_bytes: 0,
            rows: Vec::new(),
            vanished_rows: Vec::new(),
            is_done: false,
        })
    }

    /// The ids that the old file has in a newer form, once the last batch was handed out.
    pub fn take_outdated(&mut self) -> HashSet<String> {
        std::mem::take(&mut self.outdated)
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
        candidates.sort_unstable();
        if candidates == [0] {
            self.keep_absent(created);
        } else if self.is_outdated(&candidates) {
            // What the old file has of the parent is newer, whether it has this row or not.
            if candidates[0] == 0 {
                self.changes.unchanged += 1;
                self.keep(0);
            }
        } else {
            let newest = self.newest(&candidates);
            if newest == 0 && self.old_age != OldAge::Superseded {
                self.outdated.insert(id.clone());
            }
            let kept = self.compare_with_old(&candidates, newest);
            self.keep(kept);
        }
        for index in candidates {
            let input = self.inputs[index].as_mut().expect("inputs in the heap are live");
            if input.advance()? {
                let (created, id) = input.key();
                self.heap.push(Reverse((created, id, index)));
            } else {
                self.inputs[index] = None;
            }
        }
        Ok(true)
    }

    /// The rest of a batch as it is, where nothing else is left that could come between: a first run has
    /// one input more often than not.
    fn pass_on(&mut self) -> Result<Option<RecordBatch>> {
        let Some(Reverse((_, _, index))) = self.heap.peek() else { return Ok(None) };
        let (index, is_alone) = (*index, self.heap.len() == 1);
        let is_judged = self.absent.parents.as_ref().is_some_and(|parents| !parents.outdated.is_empty());
        if index == 0 || !is_alone || is_judged || !self.rows.is_empty() {
            return Ok(None);
        }
        self.heap.clear();
        let input = self.inputs[index].as_mut().expect("inputs in the heap are live");
        let batch = input.batch.slice(input.row, input.batch.num_rows() - input.row);
        self.changes.new += batch.num_rows() as u64;
        input.row = input.batch.num_rows() - 1;
        if input.advance()? {
            let (created, id) = input.key();
            self.heap.push(Reverse((created, id, index)));
        } else {
            self.inputs[index] = None;
        }
        Ok(Some(batch))
    }

    fn is_outdated(&self, candidates: &[usize]) -> bool {
        let Some(parents) = &self.absent.parents else { return false };
        let input = self.input(candidates[candidates.len() - 1]);
        parents.outdated.contains(parents.of(&input.batch, input.row))
    }

    fn input(&self, index: usize) -> &Input {
        self.inputs[index].as_ref().expect("candidates are live")
    }

    /// The candidate observed last; the later run among equals.
    fn newest(&self, candidates: &[usize]) -> usize {
        let observed = |index: &usize| {
            let input = self.input(*index);
            let synced_at = input.synced_at.value(input.row);
            let synced_at = match (index, self.old_age) {
                (0, OldAge::Superseded) => i64::MIN,
                (0, OldAge::SupersededBut(from, to)) if !(from..=to).contains(&synced_at) => i64::MIN,
                (0, OldAge::AtLeast(time)) => synced_at.max(time),
                _ => synced_at,
            };
            (synced_at, *index)
        };
        candidates.iter().copied().max_by_key(observed).expect("at least one candidate")
    }

    /// Counts the change, and prefers the old row where nothing but the time of observation differs:
    /// `_synced_at` says when this form was first seen, and unchanged files stay the same bytes.
    fn compare_with_old(&mut self, candidates: &[usize], newest: usize) -> usize {
        if candidates[0] != 0 {
            self.changes.new += 1;
            return newest;
        }
        let (old, new) = (self.input(0), self.input(newest));
        if newest == 0 || rows_are_same(&old.batch, old.row, &new.batch, new.row) {
            self.changes.unchanged += 1;
            return 0;
        }
        self.changes.changed += 1;
        newest
    }

    fn keep_absent(&mut self, created: i64) {
        let old = self.input(0);
        let parents = self.absent.parents.as_ref();
        if parents.is_some_and(|parents| parents.replaced.contains(parents.of(&old.batch, old.row))) {
            self.changes.deleted += 1;
            return;
        }
        let is_marked = old.batch.column_by_name(DELETED).is_some_and(|d| d.as_boolean().value(old.row));
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
        let held = *input.held.get_or_insert_with(|| {
            self.held_bytes += bytes_of(&input.batch);
            self.held.push(input.batch.clone());
            self.held.len() - 1
        });
        self.rows.push((held, input.row));
    }

    fn take_batch(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        for input in self.inputs.iter_mut().flatten() {
            input.held = None;
        }
        let (first_batch, first_row) = rows[0];
        let is_slice = rows.iter().enumerate().all(|(n, row)| *row == (first_batch, first_row + n));
        let batch = if is_slice {
            held[first_batch].slice(first_row, rows.len())
        } else {
            let batches: Vec<&RecordBatch> = held.iter().collect();
            gather(&batches, &rows)?
        };
        self.mark_vanished(batch)
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
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        if let Some(batch) = self.pass_on().transpose() {
            return Some(batch);
        }
        // The batches that the inputs stand in are in memory anyway; what counts is what they have left behind.
        while !self.is_done
            && self.rows.len() < ROWS_PER_BATCH
            && (self.held_bytes < BYTES_HELD || self.held.len() <= self.heap.len())
        {
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
        (!self.rows.is_empty()).then(|| self.take_batch())
    }
}
