//! Turns batches that arrive in any order into sorted runs, one partition at a time, in bounded memory.
//!
//! A partition is gathered here until its span is complete. When all partitions together take half of their budget,
//! those that have had no rows for a while are sealed: written to a temporary file as the Parquet file that they
//! will probably be. When they outgrow it, the largest is sorted and moved to a temporary file. So memory is bounded
//! by the budget and not by the account.

mod spilled;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};

use crate::decode::schema::SYNCED_AT;
use crate::encode::gather::gather;
use crate::encode::memory::slice_bytes_of;
use crate::encode::merge::Source;
use crate::encode::picked::Picked;
use crate::encode::{Options, created_of};
use crate::error::Result;
use crate::ipc::with_values;
use crate::partition::Partition;
use crate::spool::spilled::{Files, Sealed, Spilled};

/// Rows of a batch that comes out of a run, at most.
const ROWS_PER_BATCH: usize = 2048;
/// Bytes of a batch in a spilled run, about. A merge holds one of every run.
const BYTES_PER_SPILLED_BATCH: usize = 400 << 10;

/// What is spilled at once is at least this part of the budget.
const WORTHWHILE: usize = 16;

/// A partition is quiet when each of those with rows in memory could have had so many pushes since its last one.
const QUIET: u64 = 4;
/// Where room is needed, so many pushes to others are enough.
const QUIET_ENOUGH: u64 = 2;
/// Fewer rows are not worth a file of their own.
const WORTH_SEALING: u64 = 1024;

/// Memory that all spools of a run share.
#[derive(Debug, Clone)]
pub struct Budget {
    used: Arc<AtomicUsize>,
    /// Bytes.
    pub limit: usize,
}

impl Budget {
    pub fn new(limit: usize) -> Budget {
        Budget { used: Arc::default(), limit }
    }

    fn take(&self, n_bytes: usize) {
        self.used.fetch_add(n_bytes, Ordering::Relaxed);
    }

    fn give_back(&self, n_bytes: usize) {
        self.used.fetch_sub(n_bytes, Ordering::Relaxed);
    }

    fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit
    }

    fn is_half_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit / 2
    }
}

/// What has been gathered for one partition.
#[derive(Default)]
struct Part {
    batches: Vec<RecordBatch>,
    n_bytes: usize,
    n_rows: u64,
    /// The first rows, if they are sealed.
    sealed: Option<Sealed>,
    spilled: Spilled,
    last_push: u64,
}

/// The rows of one table that wait for their partition to be complete.
pub struct Spool {
    schema: SchemaRef,
    parts: BTreeMap<Partition, Part>,
    budget: Budget,
    /// Where spilled runs go.
    files: Files,
    /// How sealed files are written.
    options: Options,
    n_pushes: u64,
}

/// Everything that was gathered for one partition. What is in memory counts until this is dropped.
pub struct Gathered {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    n_bytes: usize,
    sealed: Option<Sealed>,
    spilled: Spilled,
    budget: Budget,
    /// Rows, an object that was read twice counted twice.
    pub n_rows: u64,
}

impl Gathered {
    /// The rows, each source sorted, oldest observation first. May be called again for another attempt.
    pub fn sources(&self) -> Result<Vec<Source>> {
        let sealed = self.sealed.as_ref().map(Sealed::run).transpose()?;
        let runs = sealed.into_iter().chain(self.spilled.runs(&self.schema)?);
        let mut sources: Vec<Source> = runs.map(Source::from).collect();
        if !self.batches.is_empty() {
            sources.push(Source::Sorted(self.batches.clone(), order(&self.batches)));
        }
        Ok(sources)
    }
}

impl Gathered {
    /// The file that holds all of the rows, if there is one already.
    pub fn finished(&self) -> Option<&Sealed> {
        self.sealed.as_ref().filter(|_| self.batches.is_empty() && self.spilled.is_empty())
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.budget.give_back(self.n_bytes);
    }
}

impl Spool {
    /// `dir` is for temporary files, `options` are those of the files of the lake.
    pub fn new(schema: SchemaRef, budget: Budget, dir: PathBuf, options: Options) -> Spool {
        Spool { schema, parts: BTreeMap::new(), budget, files: Files::new(dir), options, n_pushes: 0 }
    }

    /// Adds rows to a partition. Fails with [`crate::error::Kind::Destination`] when spilling does.
    pub fn push(&mut self, partition: Partition, batch: RecordBatch) -> Result<()> {
        let n_bytes = slice_bytes_of(&batch);
        self.n_pushes += 1;
        let part = self.parts.entry(partition).or_default();
        part.last_push = self.n_pushes;
        part.n_bytes += n_bytes;
        part.n_rows += batch.num_rows() as u64;
        part.batches.push(batch);
        self.budget.take(n_bytes);
        if self.budget.is_half_used() {
            self.seal()?;
        }
        if self.budget.is_exceeded() {
            self.spill()?;
        }
        Ok(())
    }

    /// The partitions that hold rows, oldest first.
    pub fn partitions(&self) -> Vec<Partition> {
        self.parts.keys().copied().collect()
    }

    /// Hands over what was gathered for `partition`. A partition that has outgrown memory is spilled to
    /// its last row, since merging it takes memory, too.
    pub fn take(&mut self, partition: &Partition) -> Result<Gathered> {
        let mut part = self.parts.remove(partition).unwrap_or_default();
        if !part.spilled.is_empty() {
            part.spill(&self.schema, &mut self.files, &self.budget)?;
        }
        let Part { batches, n_bytes, n_rows, sealed, spilled, .. } = part;
        Ok(Gathered {
            schema: self.schema.clone(),
            batches,
            n_bytes,
            sealed,
            spilled,
            budget: self.budget.clone(),
            n_rows,
        })
    }

    /// Seals what is quiet. That costs nothing if no more rows come, since a file has to be made of these anyway.
    fn seal(&mut self) -> Result<()> {
        let n_in_memory = self.parts.values().filter(|part| !part.batches.is_empty()).count() as u64;
        let quiet_since = self.n_pushes.saturating_sub(QUIET * n_in_memory);
        for part in self.parts.values_mut().filter(|part| !part.is_busy(quiet_since)) {
            part.seal(&self.schema, &mut self.files, &self.budget, self.options)?;
        }
        Ok(())
    }

    /// Moves rows to files, the largest partitions first: so many that the next push need not do it again.
    /// Does nothing where others hold the budget; their next push does it.
    fn spill(&mut self) -> Result<()> {
        let worthwhile = self.budget.limit / WORTHWHILE;
        if self.parts.values().map(|part| part.n_bytes).sum::<usize>() < worthwhile {
            return Ok(());
        }
        let mut by_size: Vec<&mut Part> = self.parts.values_mut().collect();
        by_size.sort_unstable_by_key(|part| Reverse(part.n_bytes));
        let mut n_freed = 0;
        for part in by_size {
            if n_freed >= worthwhile && !self.budget.is_exceeded() {
                break;
            }
            n_freed += part.n_bytes;
            match part.is_busy(self.n_pushes.saturating_sub(QUIET_ENOUGH)) {
                true => part.spill(&self.schema, &mut self.files, &self.budget)?,
                false => part.seal(&self.schema, &mut self.files, &self.budget, self.options)?,
            }
        }
        Ok(())
    }
}

impl Part {
    /// Whether more rows will probably come, or have come before when none were expected.
    fn is_busy(&self, quiet_since: u64) -> bool {
        let was_moved = self.sealed.is_some() || !self.spilled.is_empty();
        was_moved || self.n_rows < WORTH_SEALING || self.last_push > quiet_since
    }

    /// Writes the rows in memory as a Parquet file.
    fn seal(
        &mut self,
        schema: &SchemaRef,
        files: &mut Files,
        budget: &Budget,
        options: Options,
    ) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        let order = order(&batches);
        self.sealed = Some(files.seal(schema, Picked::new(batches, order), options)?);
        budget.give_back(std::mem::take(&mut self.n_bytes));
        Ok(())
    }

    /// Moves the rows in memory to a file.
    fn spill(&mut self, schema: &SchemaRef, files: &mut Files, budget: &Budget) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        let n_rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if n_rows > 0 {
            let rows_per_batch = (BYTES_PER_SPILLED_BATCH * n_rows / self.n_bytes.max(1)).max(1);
            let columns = with_values(&batches);
            self.spilled.push(schema, files, rows_per_batch, columns, sorted(batches))?;
        }
        budget.give_back(std::mem::take(&mut self.n_bytes));
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.budget.give_back(self.parts.values().map(|part| part.n_bytes).sum());
    }
}

/// The rows of `batches` in order of `created` and `id`, the newest observation of each id.
///
/// Batches come in the order of their observation: of two equal times the later batch wins.
pub fn sorted(batches: Vec<RecordBatch>) -> impl Iterator<Item = Result<RecordBatch>> + Send {
    let order = order(&batches);
    let n_chunks = order.len().div_ceil(ROWS_PER_BATCH);
    (0..n_chunks).map(move |chunk| {
        let end = order.len().min((chunk + 1) * ROWS_PER_BATCH);
        let rows = &order[chunk * ROWS_PER_BATCH..end];
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        gather(&batches, rows)
    })
}

/// Where the rows stand, as `(batch, row)`, in order and each id once.
fn order(batches: &[RecordBatch]) -> Vec<(usize, usize)> {
    let columns: Vec<_> = batches
        .iter()
        .map(|batch| {
            let ids = batch.column_by_name("id").expect("every table has an id");
            let synced_at = batch.column_by_name(SYNCED_AT).expect("a system column");
            let synced_at = synced_at.as_primitive::<TimestampMicrosecondType>().clone();
            (created_of(batch), ids.as_string::<i32>().clone(), synced_at)
        })
        .collect();
    let mut keys = Vec::new();
    for (n, (created, ids, synced_at)) in columns.iter().enumerate() {
        for row in 0..ids.len() {
            let created = created.as_ref().map_or(0, |c| c.value(row));
            keys.push((created, ids.value(row), Newest(synced_at.value(row), n, row)));
        }
    }
    // Pages are in the opposite order, which this sort turns round at once.
    keys.sort();
    keys.dedup_by(|later, first| later.0 == first.0 && later.1 == first.1);
    keys.into_iter().map(|(_, _, Newest(_, batch, row))| (batch, row)).collect()
}

/// Orders observations from the newest to the oldest.
#[derive(PartialEq, Eq)]
struct Newest(i64, usize, usize);

impl Ord for Newest {
    fn cmp(&self, other: &Newest) -> std::cmp::Ordering {
        (other.0, other.1, other.2).cmp(&(self.0, self.1, self.2))
    }
}

impl PartialOrd for Newest {
    fn partial_cmp(&self, other: &Newest) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
