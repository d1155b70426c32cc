//! Turns batches that arrive in any order into sorted runs, one partition at a time, in bounded memory.
//!
//! A partition is gathered here until its span is complete. When all partitions together take half of their budget,
//! those that have had no rows for a while are sealed: written to a temporary file as the Parquet file that they
//! will probably be. When they outgrow it, rows of the largest that stand in a file anyway are let go, as many as it takes, and others
//! are sorted and moved to a temporary file. So memory is bounded by the budget and not by the account.

pub mod away;
mod order;
mod spilled;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::encode::memory::slice_bytes_of;
use crate::encode::merge::Source;
use crate::encode::picked::Picked;
use crate::encode::{Home, Options};
use crate::error::Result;
use crate::ipc::with_values;
use crate::partition::Partition;
use crate::spool::away::{Away, FileCopy};
use crate::spool::order::order;
pub use crate::spool::order::sorted;
use crate::spool::spilled::{Files, Sealed, Spilled};

/// Bytes of a batch in a spilled run, about. A merge holds one of every run.
const BYTES_PER_SPILLED_BATCH: usize = 400 << 10;

/// Rows in files that overlap in time come into memory together. What takes more than this part of the budget is sorted
/// into runs before.
const TOGETHER: usize = 8;

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
        self.excess() > 0
    }

    fn excess(&self) -> usize {
        self.used.load(Ordering::Relaxed).saturating_sub(self.limit)
    }

    fn is_half_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit / 2
    }
}

/// Rows in memory.
struct Held {
    rows: RecordBatch,
    n_bytes: usize,
    /// Where they stand as well.
    copy: Option<FileCopy>,
}

/// What has been gathered for one partition.
#[derive(Default)]
struct Part {
    held: Vec<Held>,
    /// Of what is held.
    n_bytes: usize,
    n_rows: u64,
    /// The first rows, if they are sealed.
    sealed: Option<Sealed>,
    spilled: Spilled,
    away: Vec<Away>,
    last_push: u64,
}

/// The rows of one table that wait for their partition to be complete.
pub struct Spool {
    /// Its name, which is in the path of each of its files.
    table: String,
    /// Whose lake it is, where that is known.
    pub owner: Option<Arc<str>>,
    schema: SchemaRef,
    /// With rows of a child, by how often their parent's list had been read before them.
    parts: BTreeMap<(Partition, usize), Part>,
    budget: Budget,
    /// Where spilled runs go.
    files: Files,
    /// How sealed files are written.
    options: Options,
    /// Partitions of which the lake has a file. Their rows are merged with it, so that a file of these alone is of no use.
    pub with_files: BTreeSet<Partition>,
    n_pushes: u64,
}

/// Everything that was gathered for one partition. What is in memory counts until this is dropped.
pub struct Gathered {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    n_bytes: usize,
    sealed: Option<Sealed>,
    spilled: Spilled,
    /// In the order of their time.
    away: Vec<Vec<Away>>,
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
        if !self.away.is_empty() {
            let schema = self.schema.clone();
            let step = move |cluster: Vec<Away>| {
                let batches = away::read_all(&cluster, &schema)?;
                let order = order(&batches);
                Ok((batches, order))
            };
            sources.push(Source::Steps(Box::new(self.away.clone().into_iter().map(step))));
        }
        if !self.batches.is_empty() {
            sources.push(Source::Sorted((self.batches.clone(), order(&self.batches))));
        }
        Ok(sources)
    }
}

impl Gathered {
    /// The file that holds all of the rows and says that it belongs there, if there is one already: whose the lake is may have
    /// become known since it was made.
    pub fn finished(&self, home: &Home) -> Option<&Sealed> {
        let is_all = self.batches.is_empty() && self.spilled.is_empty() && self.away.is_empty();
        self.sealed.as_ref().filter(|sealed| is_all && sealed.home == *home)
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.budget.give_back(self.n_bytes);
    }
}

impl Spool {
    /// `dir` is for temporary files, `options` are those of the files of the lake.
    pub fn new(table: String, schema: SchemaRef, budget: Budget, dir: PathBuf, options: Options) -> Spool {
        Spool {
            table,
            owner: None,
            schema,
            parts: BTreeMap::new(),
            budget,
            files: Files::new(dir),
            options,
            with_files: BTreeSet::new(),
            n_pushes: 0,
        }
    }

    /// Adds rows to a partition, which may stand in a file as well. `times` is 0, or for rows of a child how often their
    /// parent's list had been read before. Fails with [`crate::error::Kind::Destination`] when spilling does.
    pub fn push(
        &mut self,
        partition: Partition,
        times: usize,
        rows: RecordBatch,
        copy: Option<FileCopy>,
    ) -> Result<()> {
        let n_bytes = slice_bytes_of(&rows);
        self.n_pushes += 1;
        let part = self.parts.entry((partition, times)).or_default();
        part.last_push = self.n_pushes;
        part.n_bytes += n_bytes;
        part.n_rows += rows.num_rows() as u64;
        part.held.push(Held { rows, n_bytes, copy });
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
        let mut partitions: Vec<Partition> = self.parts.keys().map(|(partition, _)| *partition).collect();
        partitions.dedup();
        partitions
    }

    /// Hands over what was gathered for `partition`, with rows of a child by how often their parent's list had been read
    /// before. A partition that has outgrown memory is spilled to its last row, since merging it takes memory, too.
    pub fn take(&mut self, partition: &Partition) -> Result<Vec<Gathered>> {
        let last = self.parts.range((*partition, 0)..=(*partition, usize::MAX)).next_back();
        let n = last.map_or(0, |((_, times), _)| times + 1);
        (0..n).map(|times| self.take_part(*partition, times)).collect()
    }

    fn take_part(&mut self, partition: Partition, times: usize) -> Result<Gathered> {
        let mut part = self.parts.remove(&(partition, times)).unwrap_or_default();
        if !part.spilled.is_empty() {
            part.let_go(partition, usize::MAX, &self.budget);
        }
        let clusters = away::clusters(std::mem::take(&mut part.away));
        let n_bytes = |cluster: &[Away]| cluster.iter().map(|away| away.n_bytes).sum::<usize>();
        let is_large = |cluster: &Vec<Away>| n_bytes(cluster) > self.budget.limit / TOGETHER;
        let (large, away): (Vec<_>, Vec<_>) = clusters.into_iter().partition(is_large);
        for batch in large.iter().flatten() {
            let batches = vec![batch.read(&self.schema)?];
            part.spill_batches(batches, batch.n_bytes, &self.schema, &mut self.files)?;
        }
        if !part.spilled.is_empty() {
            part.spill(&self.schema, &mut self.files, &self.budget)?;
        }
        let Part { held, n_bytes, n_rows, sealed, spilled, .. } = part;
        Ok(Gathered {
            schema: self.schema.clone(),
            batches: held.into_iter().map(|held| held.rows).collect(),
            n_bytes,
            sealed,
            spilled,
            away,
            budget: self.budget.clone(),
            n_rows,
        })
    }

    /// Seals what is quiet. That costs nothing if no more rows come, since a file has to be made of these anyway. Rows that
    /// stand in a file can be let go when room is needed, and are waited for: their partition is still being read.
    fn seal(&mut self) -> Result<()> {
        let n_in_memory = self.parts.values().filter(|part| !part.held.is_empty()).count() as u64;
        let quiet_since = self.n_pushes.saturating_sub(QUIET * n_in_memory);
        let is_quiet = |part: &Part| !part.is_busy(quiet_since) && !part.stands_in_files();
        let is_of_use = |partition: &Partition| !self.with_files.contains(partition);
        let parts =
            self.parts.iter_mut().filter(|((partition, _), part)| is_of_use(partition) && is_quiet(part));
        for ((partition, _), part) in parts {
            let home = Home { place: partition.path(&self.table), owner: self.owner.clone() };
            part.seal(&home, &self.schema, &mut self.files, &self.budget, self.options)?;
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
        let parts = self.parts.iter_mut().map(|((partition, _), part)| (partition, part));
        let mut by_size: Vec<(&Partition, &mut Part)> = parts.collect();
        by_size.sort_unstable_by_key(|(_, part)| Reverse(part.n_bytes));
        let mut n_freed = 0;
        for (partition, part) in by_size {
            if n_freed >= worthwhile && !self.budget.is_exceeded() {
                break;
            }
            let wanted = worthwhile.saturating_sub(n_freed).max(self.budget.excess());
            let n_let_go = part.let_go(*partition, wanted, &self.budget);
            n_freed += n_let_go;
            // The rest is about to stand in a file as well, or is little.
            if n_let_go >= wanted || (n_let_go > 0 && part.n_bytes < worthwhile) {
                continue;
            }
            n_freed += part.n_bytes;
            let is_busy = part.is_busy(self.n_pushes.saturating_sub(QUIET_ENOUGH));
            let home = Home { place: partition.path(&self.table), owner: self.owner.clone() };
            match is_busy || self.with_files.contains(partition) {
                true => part.spill(&self.schema, &mut self.files, &self.budget)?,
                false => part.seal(&home, &self.schema, &mut self.files, &self.budget, self.options)?,
            }
        }
        Ok(())
    }
}

impl Part {
    /// Whether more rows will probably come, or have come before when none were expected.
    fn is_busy(&self, quiet_since: u64) -> bool {
        let was_moved = self.sealed.is_some() || !self.spilled.is_empty() || !self.away.is_empty();
        was_moved || self.n_rows < WORTH_SEALING || self.last_push > quiet_since
    }

    /// Whether its rows in memory stand in files, too, or will when these are written.
    fn stands_in_files(&self) -> bool {
        self.held.iter().all(|held| held.copy.is_some())
    }

    /// Writes the rows in memory as the Parquet file that belongs there.
    fn seal(
        &mut self,
        home: &Home,
        schema: &SchemaRef,
        files: &mut Files,
        budget: &Budget,
        options: Options,
    ) -> Result<()> {
        let batches = self.take_held();
        let order = order(&batches);
        self.sealed = Some(files.seal(schema, home, Picked::new(batches, order), options)?);
        budget.give_back(std::mem::take(&mut self.n_bytes));
        Ok(())
    }

    /// Lets go of rows that stand in a file, the first ones first: each has to be read again, so of no more than are
    /// wanted, in bytes. Returns how many these were.
    fn let_go(&mut self, partition: Partition, wanted: usize, budget: &Budget) -> usize {
        let mut n_let_go = 0;
        for Held { rows, n_bytes, copy } in std::mem::take(&mut self.held) {
            match copy {
                Some(copy) if n_let_go < wanted && copy.is_there() => {
                    self.away.push(Away::new(copy, partition, &rows, n_bytes));
                    n_let_go += n_bytes;
                }
                copy => self.held.push(Held { rows, n_bytes, copy }),
            }
        }
        self.n_bytes -= n_let_go;
        budget.give_back(n_let_go);
        n_let_go
    }

    fn take_held(&mut self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.held).into_iter().map(|held| held.rows).collect()
    }

    /// Moves the rows in memory to a file.
    fn spill(&mut self, schema: &SchemaRef, files: &mut Files, budget: &Budget) -> Result<()> {
        let batches = self.take_held();
        self.spill_batches(batches, self.n_bytes, schema, files)?;
        budget.give_back(std::mem::take(&mut self.n_bytes));
        Ok(())
    }

    fn spill_batches(
        &mut self,
        batches: Vec<RecordBatch>,
        n_bytes: usize,
        schema: &SchemaRef,
        files: &mut Files,
    ) -> Result<()> {
        let n_rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if n_rows == 0 {
            return Ok(());
        }
        let rows_per_batch = (BYTES_PER_SPILLED_BATCH * n_rows / n_bytes.max(1)).max(1);
        let columns = with_values(&batches);
        self.spilled.push(schema, files, rows_per_batch, columns, sorted(batches))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.budget.give_back(self.parts.values().map(|part| part.n_bytes).sum());
    }
}
