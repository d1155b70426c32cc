//! Turns what was gathered for a partition into its files: the resource's own, and those of what belongs to it.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use super::Gatherer;
use super::folders::Loss;
use crate::commit::state::FileState;
use crate::encode::merge::age::OldAge;
use crate::error::Result;
use crate::partition::Partition;
use crate::run::partition_commit::{Outcome, PartitionCommit, commit};
use crate::spool::Gathered;

impl Gatherer {
    /// Commits every partition in memory whose listed part has been read.
    pub(super) async fn commit_settled(&mut self) -> Result<()> {
        for partition in self.tables[0].spool.partitions() {
            if self.seconds.covered.contains(&self.scope.part_of(&partition)) {
                self.commit_partition(partition).await?;
            }
        }
        Ok(())
    }

    /// Before the first file: a run that ends between a file and the state would leave a file of a grain
    /// that the next run may not choose again, and every object in it twice.
    pub(super) async fn record_grain(&mut self) -> Result<()> {
        for table in &mut self.tables {
            if table.state.grain != self.grain {
                table.state.grain = self.grain;
                table.write_state(&self.setup).await?;
            }
        }
        Ok(())
    }

    /// Names a file that is about to be made, and those that will come soon: one that nobody knows of would never be
    /// looked at again.
    async fn begin_files(&mut self, table: usize, partition: &Partition) -> Result<()> {
        let table = &mut self.tables[table];
        let gathered = table.spool.partitions().into_iter().map(|partition| partition.to_string());
        let state = &mut table.state;
        let folder = partition.to_string();
        if state.partitions.contains_key(&folder) || state.begun.contains(&folder) {
            return Ok(());
        }
        let new = gathered.filter(|folder| !state.partitions.contains_key(folder));
        state.begun.extend(new.chain([folder]).collect::<Vec<_>>());
        table.write_state(&self.setup).await
    }

    /// Merges what was gathered for a partition into its files. It need not be complete: a merge takes no
    /// row away but those that are known to be gone.
    pub(super) async fn commit_partition(&mut self, partition: Partition) -> Result<()> {
        self.record_grain().await?;
        if !self.scope.is_listing {
            // It may know older forms of what an unfinished listing has read, and objects that were gone by then.
            self.read_again(&[partition]).await?;
        }
        let mut outdated = Arc::new(HashSet::new());
        let is_first = self.committed.insert(partition);
        let vanished = if is_first { self.listed_anew(&partition) } else { Vec::new() };
        let n_tables = self.tables.len();
        for index in 0..n_tables {
            let replaced = self.parents.remove(&(partition, index)).unwrap_or_default();
            let old_age = self.old_age(index, &partition, is_first);
            let table = &mut self.tables[index];
            let gathered = table.spool.take(&partition)?;
            let folder = partition.to_string();
            let known = table.state.partitions.get(&folder).cloned();
            let is_child = index > 0;
            let n_rows: u64 = gathered.iter().map(|rows| rows.n_rows).sum();
            let path = partition.path(&table.resource.name);
            // A killed run, or somebody else, may have left a file that the state does not know.
            if n_rows == 0 && known.is_none() && !self.setup.lake.exists(&path).await? {
                continue;
            }
            self.begin_files(index, &partition).await?;
            let table = &mut self.tables[index];
            let wanted = PartitionCommit {
                vanished: (!vanished.is_empty() && !is_child)
                    .then(|| (vanished.clone(), Timestamp::now().as_microsecond())),
                parents: table.parents(replaced, &outdated),
                old_age,
                has_children: !is_child && n_tables > 1,
                known,
                lost: table.lost_files(&folder),
                empty: table.empty_beside(&partition),
                ..PartitionCommit::new(&self.setup, &table.resource, partition)
            };
            let outcome = self.commit_table(index, wanted, gathered, is_first).await?;
            let table = &mut self.tables[index];
            table.report.add(outcome.changes, is_first);
            if !is_child {
                outdated = Arc::new(outcome.outdated);
            }
            if let Some((written, version)) = outcome.written {
                if outcome.lacked_known {
                    self.forget_earlier(&partition, is_first);
                    self.note_lost(index, &[partition], Loss::Overwritten).await?;
                }
                let table = &mut self.tables[index];
                table.add_file(&self.setup, partition, FileState::new(&written, version.etag())).await?;
                self.remove_placeholder(index).await?;
            }
        }
        Ok(())
    }

    /// Where the file that the state speaks of is not there, that is written down before another one stands in its place.
    async fn commit_table(
        &mut self,
        index: usize,
        wanted: PartitionCommit,
        gathered: Vec<Gathered>,
        is_first: bool,
    ) -> Result<Outcome> {
        let (partition, gathered) = (wanted.partition, Arc::new(gathered));
        let outcome = match commit(wanted.clone(), &gathered).await? {
            Some(outcome) => outcome,
            None => {
                self.forget_earlier(&partition, is_first);
                self.note_lost(index, &[partition], Loss::Gone).await?;
                let lost = self.tables[index].lost_files(&partition.to_string());
                let outcome = commit(PartitionCommit { known: None, lost, ..wanted }, &gathered).await?;
                outcome.expect("nothing is known of the file")
            }
        };
        if outcome.was_other {
            self.read_again(&[partition]).await?;
        }
        Ok(outcome)
    }

    /// What this run has put into a file that is lost has to be read again. What a first commit puts there comes behind the loss.
    pub(super) fn forget_earlier(&mut self, partition: &Partition, is_first: bool) {
        if !is_first {
            self.seconds.fresh.remove(&partition.span());
            self.seconds.lost_behind.insert(*partition);
        }
    }

    pub(super) fn may_mark_vanished(&self) -> bool {
        self.scope.marks_vanished && self.rejected.is_empty()
    }

    /// The seconds of a partition whose objects this run has listed, all of them; an old row of these that
    /// was not among them has vanished. That holds for the first commit alone, which has them all.
    ///
    /// An object that could not be a row is absent too, and yet not deleted, whichever run has met it.
    pub(super) fn listed_anew(&self, partition: &Partition) -> Vec<Range<i64>> {
        match self.may_mark_vanished() {
            true => self.seconds.fresh.within(&self.scope.part_of(partition)),
            false => Vec::new(),
        }
    }

    /// What comes after a first commit of the partition may have been observed before it, and so may what an earlier run
    /// has kept: it may have been killed right after such a commit.
    fn old_age(&self, table: usize, partition: &Partition, is_first: bool) -> OldAge {
        let now = Timestamp::now().as_microsecond();
        let began_here = self.course.progress.as_ref().map(|progress| progress.began_here);
        match self.scope.is_listing {
            true if !self.seconds.taken_up.within(&partition.span()).is_empty() => {
                OldAge::SupersededBut(began_here.unwrap_or(i64::MIN), now)
            }
            true if is_first => OldAge::Superseded,
            true => OldAge::SupersededBut(self.setup.started_at.as_microsecond(), now),
            // Rows of a child were read with their parent, which has told already whether it was read again.
            false if table > 0 => OldAge::at_least(),
            false => {
                let listed = self.tables[0].state.listed.within(&partition.span(), now);
                OldAge::AtLeast { listed, now }
            }
        }
    }
}
