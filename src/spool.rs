//! Turns batches that arrive in any order into sorted runs, one partition at a time, in bounded memory.
//!
//! A partition is gathered here until its span is complete. When all partitions together outgrow
//! their budget, the largest is sorted and moved to a temporary file (Arrow IPC, LZ4), so memory is
//! bounded by the budget and not by the account.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::decode::schema::SYNCED_AT;
use crate::encode::created_of;
use crate::encode::merge::Run;
use crate::error::{Error, Result};
use crate::partition::Partition;

/// Rows of a batch that comes out of a run.
const ROWS_PER_BATCH: usize = 2048;

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
}

/// What has been gathered for one partition.
#[derive(Default)]
struct Part {
    batches: Vec<RecordBatch>,
    n_bytes: usize,
    n_rows: u64,
    spilled: Vec<File>,
}

/// The rows of one table that wait for their partition to be complete.
pub struct Spool {
    schema: SchemaRef,
    parts: BTreeMap<Partition, Part>,
    budget: Budget,
    /// Where spilled runs go; the files have no name and vanish with the process.
    dir: PathBuf,
}

/// Everything that was gathered for one partition.
#[derive(Default)]
pub struct Gathered {
    batches: Vec<RecordBatch>,
    spilled: Vec<File>,
    /// Rows, an object that was read twice counted twice.
    pub n_rows: u64,
}

impl Gathered {
    /// The rows as sorted runs, oldest observation first. May be called again for another attempt.
    pub fn runs(&self) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        for file in &self.spilled {
            let mut file = file.try_clone().map_err(spill_failed)?;
            file.rewind().map_err(spill_failed)?;
            let reader = StreamReader::try_new(BufReader::new(file), None).map_err(spill_failed)?;
            runs.push(Box::new(reader.map(|batch| batch.map_err(spill_failed))));
        }
        if !self.batches.is_empty() {
            runs.push(Box::new(sorted(self.batches.clone())));
        }
        Ok(runs)
    }
}

impl Spool {
    pub fn new(schema: SchemaRef, budget: Budget, dir: PathBuf) -> Spool {
        Spool { schema, parts: BTreeMap::new(), budget, dir }
    }

    /// Adds rows to a partition. Fails with [`crate::error::Kind::Destination`] when spilling does.
    pub fn push(&mut self, partition: Partition, batch: RecordBatch) -> Result<()> {
        let n_bytes = batch.get_array_memory_size();
        let part = self.parts.entry(partition).or_default();
        part.n_bytes += n_bytes;
        part.n_rows += batch.num_rows() as u64;
        part.batches.push(batch);
        self.budget.take(n_bytes);
        while self.budget.is_exceeded() && self.spill_largest()? {}
        Ok(())
    }

    /// The partitions that hold rows, oldest first.
    pub fn partitions(&self) -> Vec<Partition> {
        self.parts.keys().copied().collect()
    }

    /// Hands over what was gathered for `partition`.
    pub fn take(&mut self, partition: &Partition) -> Gathered {
        let part = self.parts.remove(partition).unwrap_or_default();
        self.budget.give_back(part.n_bytes);
        Gathered { batches: part.batches, spilled: part.spilled, n_rows: part.n_rows }
    }

    /// Returns false when there is nothing in memory here; the budget is then held by other spools.
    fn spill_largest(&mut self) -> Result<bool> {
        let largest = self.parts.values_mut().max_by_key(|part| part.n_bytes);
        let Some(part) = largest.filter(|part| part.n_bytes > self.budget.limit / 16) else {
            return Ok(false);
        };
        let file = tempfile::tempfile_in(&self.dir).map_err(spill_failed)?;
        let options = IpcWriteOptions::default()
            .try_with_compression(Some(CompressionType::LZ4_FRAME))
            .map_err(spill_failed)?;
        let mut writer = StreamWriter::try_new_with_options(BufWriter::new(file), &self.schema, options)
            .map_err(spill_failed)?;
        for batch in sorted(std::mem::take(&mut part.batches)) {
            writer.write(&batch?).map_err(spill_failed)?;
        }
        let file = writer.into_inner().map_err(spill_failed)?;
        part.spilled.push(file.into_inner().map_err(spill_failed)?);
        self.budget.give_back(std::mem::take(&mut part.n_bytes));
        Ok(true)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.budget.give_back(self.parts.values().map(|part| part.n_bytes).sum());
    }
}

fn spill_failed(error: impl std::fmt::Display) -> Error {
    Error::destination(format!("temporary file: {error}"))
        .hint("free space, or set TMPDIR to a folder with more")
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
        interleave_record_batch(&batches, rows).map_err(|e| Error::bug(format!("sort: {e}")))
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
    keys.sort_unstable();
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
