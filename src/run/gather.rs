//! Turns the decoded batches of one resource into committed partitions, as soon as their spans are read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::catalog::Resource;
use crate::commit::Version;
use crate::commit::state::{FileState, rejected_path};
use crate::decode::findings::Findings;
use crate::decode::rows::ParentRow;
use crate::decode::schema::{arrow_schema, schema_version};
use crate::decode::{Decoded, Rejected};
use crate::encode::merge::OldAge;
use crate::error::{Error, Kind, Result};
use crate::partition::{Grain, Partition, ROWS_PER_FILE, partition_at, split};
use crate::plan::Coverage;
use crate::run::Setup;
use crate::run::event::Event;
use crate::run::partition_commit::{Job, commit};
use crate::run::report::TableReport;
use crate::run::table::Table;
use crate::spool::Budget;

/// Rows that wait at most for the grain to be chosen.
const UNDECIDED: u64 = 50_000;
/// Rejected objects kept at most, in bytes; more is not an odd object but a wrong server.
const MAX_REJECTED: usize = 32 << 20;

/// What readers tell the gatherer of their resource.
pub enum Message {
    Rows(Decoded),
    /// These seconds have been read, and their rows sent before.
    Settled(Range<i64>),
    Rejected(Vec<Rejected>),
    /// Everything has been read.
    Complete,
}

/// Gathers one resource and its children.
pub struct Gatherer {
    setup: Setup,
    /// The resource's own first.
    tables: Vec<Table>,
    /// The seconds that this run lists.
    listing: Range<i64>,
    /// Whether pages are listed now; otherwise files are imported.
    is_listing: bool,
    /// Whether absence from a complete listing means that Stripe has deleted the object.
    marks_vanished: bool,
    coverage: Coverage,
    grain: Option<Grain>,
    /// Batches that came before the grain was chosen.
    undecided: Vec<Decoded>,
    n_undecided: u64,
    /// Partitions that this run has committed. Absence from a second commit of one means nothing.
    committed: HashSet<Partition>,
    /// Parents observed, for replacing their children.
    parents: HashMap<(Partition, usize), HashSet<String>>,
    findings: Findings,
    /// Each object once: where slices were cut, a page may be read twice.
    rejected: BTreeSet<Rejected>,
    n_rejected_bytes: usize,
}

impl Gatherer {
    /// Reads the states of the tables. `listing` is what will be read, in seconds; `None` for an import,
    /// where absence means nothing.
    pub async fn open(
        setup: &Setup,
        resource: &Arc<Resource>,
        listing: Option<Range<i64>>,
        budget: &Budget,
    ) -> Result<Gatherer> {
        let mut tables = Vec::new();
        for resource in std::iter::once(resource.clone()).chain(setup.children_of(resource)) {
            tables.push(Table::open(setup, resource, budget).await?);
        }
        let grain = if resource.has_created { tables[0].state.grain } else { Some(Grain::Whole) };
        Ok(Gatherer {
            setup: setup.clone(),
            is_listing: listing.is_some(),
            marks_vanished: listing.is_some() && resource.deletable,
            listing: listing.unwrap_or(0..i64::MAX),
            grain: grain.or_else(|| setup.grains.get(&resource.name).copied()),
            tables,
            coverage: Coverage::default(),
            undecided: Vec::new(),
            n_undecided: 0,
            committed: HashSet::new(),
            parents: HashMap::new(),
            findings: Findings::default(),
            rejected: BTreeSet::new(),
            n_rejected_bytes: 0,
        })
    }

    /// Takes one message; commits the partitions that it completes.
    pub async fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Rows(decoded) => self.rows(decoded),
            Message::Settled(span) => {
                self.coverage.add(span);
                self.choose_grain(false);
                self.place_undecided()?;
                self.commit_settled().await
            }
            Message::Rejected(rejected) => self.reject(rejected),
            Message::Complete => self.complete().await,
        }
    }

    /// Reads the states again once the lock is held; another run may have ended in between.
    pub async fn reload_states(&mut self) -> Result<()> {
        for table in &mut self.tables {
            table.reload(&self.setup).await?;
        }
        let stored = self.tables[0].state.grain;
        self.grain = self.grain.or(stored);
        if self.grain.is_some()
            && stored.is_some()
            && stored != self.grain
            && self.tables[0].resource.has_created
        {
            return Err(Error::new(
                Kind::Locked,
                "another run chose the partitions of this resource meanwhile",
            )
            .hint("run the same command again"));
        }
        Ok(())
    }

    fn rows(&mut self, decoded: Decoded) -> Result<()> {
        let n_rows = decoded.parent.as_ref().map_or(0, RecordBatch::num_rows) as u64;
        self.tables[0].report.rows += n_rows;
        self.n_undecided += n_rows;
        self.undecided.push(decoded);
        self.choose_grain(false);
        self.place_undecided()
    }

    fn reject(&mut self, rejected: Vec<Rejected>) -> Result<()> {
        for object in rejected {
            let (resource, n_bytes) = (object.resource.clone(), object.raw.len());
            if !self.rejected.insert(object) {
                continue;
            }
            self.n_rejected_bytes += n_bytes;
            if let Some(table) = self.tables.iter_mut().find(|t| t.resource.name == resource) {
                table.report.rejected += 1;
            }
        }
        if self.n_rejected_bytes > MAX_REJECTED {
            let reason = self.rejected.first().map_or("", |object| &object.reason);
            return Err(Error::new(
                Kind::Partial,
                format!("too many objects cannot be rows, one because: {reason}"),
            ));
        }
        Ok(())
    }

    /// Chooses the grain from the newest rows whose span is read without a gap.
    fn choose_grain(&mut self, is_complete: bool) {
        if self.grain.is_some() || self.n_undecided == 0 {
            return;
        }
        let newest_span = match self.coverage.ending_at(self.listing.end) {
            Some(span) if !is_complete => span,
            _ if is_complete || self.n_undecided >= UNDECIDED => self.listing.clone(),
            _ => return,
        };
        let created = self.undecided.iter().filter_map(|d| d.parent.as_ref()).flat_map(|batch| {
            let at = partition_at(batch);
            at.values().iter().copied().filter(|s| newest_span.contains(s)).collect::<Vec<_>>()
        });
        let mut created: Vec<i64> = created.collect();
        created.sort_unstable_by(|a, b| b.cmp(a));
        let n_rows = created.len() as u64;
        if n_rows < ROWS_PER_FILE && !is_complete && self.n_undecided < UNDECIDED {
            return;
        }
        // The densest way to read "the newest rows": as many as one file should hold.
        created.truncate(ROWS_PER_FILE as usize);
        let secs = match (created.first(), created.last()) {
            (Some(newest), Some(oldest)) => (newest - oldest) as u64,
            _ => 0,
        };
        self.grain = Some(match n_rows {
            0..ROWS_PER_FILE => Grain::Year,
            _ => Grain::for_density(created.len() as u64, secs),
        });
    }

    /// Moves batches into the spools once the grain is known.
    fn place_undecided(&mut self) -> Result<()> {
        let Some(grain) = self.grain else { return Ok(()) };
        self.n_undecided = 0;
        for decoded in std::mem::take(&mut self.undecided) {
            self.findings.merge(decoded.findings);
            if let Some(batch) = decoded.parent {
                for (partition, rows) in split(&batch, grain) {
                    self.tables[0].spool.push(partition, rows)?;
                }
            }
            for (child, closed) in decoded.closed.into_iter().enumerate() {
                for ParentRow { id, created } in closed {
                    let key = (grain.partition_of(created), child + 1);
                    self.parents.entry(key).or_default().insert(id);
                }
            }
            for (child, batch) in decoded.children.into_iter().enumerate() {
                for (partition, rows) in batch.iter().flat_map(|batch| split(batch, grain)) {
                    self.tables[child + 1].spool.push(partition, rows)?;
                }
            }
        }
        Ok(())
    }

    /// Commits every partition in memory whose listed part has been read.
    async fn commit_settled(&mut self) -> Result<()> {
        for partition in self.tables[0].spool.partitions() {
            if self.coverage.contains(&self.listed_part(&partition)) {
                self.commit_partition(partition).await?;
            }
        }
        Ok(())
    }

    /// Before the first file: a run that ends between a file and the state would leave a file of a grain
    /// that the next run may not choose again, and every object in it twice.
    async fn record_grain(&mut self) -> Result<()> {
        for table in &mut self.tables {
            if table.state.grain != self.grain {
                table.state.grain = self.grain;
                table.write_state(&self.setup).await?;
            }
        }
        Ok(())
    }

    fn listed_part(&self, partition: &Partition) -> Range<i64> {
        let span = partition.span();
        span.start.max(self.listing.start)..span.end.min(self.listing.end)
    }

    async fn commit_partition(&mut self, partition: Partition) -> Result<()> {
        self.record_grain().await?;
        self.remove_placeholders().await?;
        let mut outdated = Arc::new(HashSet::new());
        let listed = self.listed_part(&partition);
        // An object that could not be a row is absent too, and yet not deleted.
        let is_first = self.committed.insert(partition);
        let may_mark =
            is_first && self.marks_vanished && self.rejected.is_empty() && self.coverage.contains(&listed);
        for index in 0..self.tables.len() {
            let replaced = self.parents.remove(&(partition, index)).unwrap_or_default();
            let table = &mut self.tables[index];
            let gathered = table.spool.take(&partition)?;
            let folder = partition.to_string();
            let known = table.state.partitions.get(&folder).cloned();
            let is_child = index > 0;
            if gathered.n_rows == 0 && known.is_none() {
                continue;
            }
            let job = Job {
                vanished: (may_mark && !is_child)
                    .then(|| (listed.clone(), self.setup.started_at.as_microsecond())),
                parents: table.parents(replaced, &outdated),
                // What came late, after a first commit of the partition, may be the older observation.
                old_age: match self.is_listing {
                    true if is_first => OldAge::Superseded,
                    true => OldAge::AtLeast(i64::MIN),
                    false => {
                        OldAge::AtLeast(table.state.complete_until.map_or(i64::MIN, |secs| secs * 1_000_000))
                    }
                },
                known,
                ..Job::new(&self.setup, &table.resource, partition)
            };
            let outcome = commit(Arc::new(job), gathered).await?;
            table.report.add(outcome.changes);
            if !is_child {
                outdated = Arc::new(outcome.outdated);
            }
            if let Some((written, version)) = outcome.written {
                let file = FileState::new(&written, version.etag());
                (self.setup.on_event)(Event::File {
                    table: table.resource.name.clone(),
                    path: partition.path(&table.resource.name),
                    rows: file.rows,
                    bytes: file.bytes,
                });
                table.report.files_written += 1;
                table.state.partitions.insert(folder, file);
                table.write_state(&self.setup).await?;
            }
        }
        Ok(())
    }

    /// Commits what is left, touches files that have no new rows, and closes the states.
    async fn complete(&mut self) -> Result<()> {
        self.coverage.add(self.listing.clone());
        self.choose_grain(true);
        self.place_undecided()?;
        let mut left: Vec<Partition> = self.tables[0].spool.partitions();
        for table in &self.tables[1..] {
            left.extend(table.spool.partitions());
        }
        left.extend(self.partitions_to_touch());
        left.sort_unstable();
        left.dedup();
        // The newest data lands first.
        for partition in left.into_iter().rev() {
            self.commit_partition(partition).await?;
        }
        self.write_rejected().await?;
        let is_whole_list = self.marks_everything();
        for index in 0..self.tables.len() {
            if self.tables[index].state.partitions.is_empty() {
                self.write_placeholder(index).await?;
            }
            let table = &mut self.tables[index];
            let before = table.state.clone();
            table.state.schema_version = schema_version(&arrow_schema(&table.resource));
            if is_whole_list {
                table.state.complete_until = Some(self.listing.end);
            }
            if table.state != before {
                table.write_state(&self.setup).await?;
            }
        }
        Ok(())
    }

    fn marks_everything(&self) -> bool {
        self.listing.start == 0 && self.listing.end < i64::MAX && self.rejected.is_empty()
    }

    /// Files without new rows that still need work: rows may have vanished, or the schema is older.
    fn partitions_to_touch(&self) -> Vec<Partition> {
        let mut touch = Vec::new();
        for table in &self.tables {
            let version = schema_version(&arrow_schema(&table.resource));
            for (folder, file) in &table.state.partitions {
                let Some(partition) = Partition::parse(folder) else { continue };
                let listed = self.listed_part(&partition);
                let may_have_vanished = self.marks_vanished && !listed.is_empty();
                let is_done = file.rows == 0
                    || Some(partition.grain) != self.grain
                    || self.committed.contains(&partition);
                if !is_done && (may_have_vanished || file.schema_version != version) {
                    touch.push(partition);
                }
            }
        }
        touch
    }

    /// An empty file with the full schema, so that a glob and a view work for a resource without rows.
    async fn write_placeholder(&mut self, index: usize) -> Result<()> {
        let now = self.setup.started_at.as_second();
        let partition = match self.grain {
            Some(grain) => grain.partition_of(now),
            None => Grain::Year.partition_of(now),
        };
        let table = &mut self.tables[index];
        let job = Job::new(&self.setup, &table.resource, partition);
        let nothing = table.spool.take(&partition)?;
        let outcome = commit(Arc::new(job), nothing).await?;
        if let Some((written, version)) = outcome.written {
            let file = FileState::new(&written, version.etag());
            table.state.partitions.insert(partition.to_string(), file);
        }
        Ok(())
    }

    /// The empty file gives way to the first real one, whose grain may differ.
    async fn remove_placeholders(&mut self) -> Result<()> {
        let grain = self.grain;
        for table in &mut self.tables {
            let is_placeholder = |folder: &str, file: &FileState| {
                file.rows == 0 && Partition::parse(folder).map(|p| Some(p.grain) != grain).unwrap_or(false)
            };
            let folders: Vec<String> = table
                .state
                .partitions
                .iter()
                .filter(|(folder, file)| is_placeholder(folder, file))
                .map(|(folder, _)| folder.clone())
                .collect();
            for folder in folders {
                let partition = Partition::parse(&folder).expect("just parsed");
                self.setup.lake.remove(&partition.path(&table.resource.name)).await?;
                table.state.partitions.remove(&folder);
            }
        }
        Ok(())
    }

    async fn write_rejected(&mut self) -> Result<()> {
        let mut lines: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for object in &self.rejected {
            let line = match std::str::from_utf8(&object.raw) {
                Ok(text) => serde_json::json!({"reason": object.reason, "text": text}),
                Err(_) => serde_json::json!({"reason": object.reason, "bytes": object.raw}),
            };
            let lines = lines.entry(&object.resource).or_default();
            lines.extend(line.to_string().into_bytes());
            lines.push(b'\n');
        }
        for (resource, bytes) in lines {
            let path = rejected_path(&self.setup.run_id, resource);
            self.setup.lake.write_bytes(&path, &bytes, &Version::Absent).await?;
        }
        Ok(())
    }

    /// What became of the tables. Call it also after an error: it tells what is in the lake.
    pub fn reports(self) -> Vec<TableReport> {
        let mut findings = Some(self.findings);
        let finish = |table: Table| {
            let mut report = table.report;
            report.table = table.resource.name.clone();
            report.rows = table.state.n_rows();
            report.files = table.state.partitions.len() as u64;
            report.bytes = table.state.n_bytes();
            if let Some(Findings { unknown, mistyped }) = findings.take() {
                report.unknown = unknown;
                report.mistyped = mistyped;
            }
            report
        };
        self.tables.into_iter().map(finish).collect()
    }
}
