//! Turns a resource that was read to its end into closed states, and what could not be rows into a file.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Gatherer;
use crate::commit::state::{Extent, Progress};
use crate::decode::findings::Findings;
use crate::decode::schema::{arrow_schema, schema_version};
use crate::error::Result;
use crate::partition::Partition;
use crate::plan::coverage::Coverage;
use crate::run::report::TableReport;
use crate::run::table::Table;

impl Gatherer {
    /// Commits what is left, touches files that have no new rows, and closes the states. What was read still counts as progress
    /// until [`Gatherer::finish`].
    pub(super) async fn complete(&mut self) -> Result<()> {
        self.seconds.unread = self.seconds.covered.missing_in(&self.scope.span);
        self.seconds.covered.add(self.scope.span.clone());
        self.choose_grain(true);
        self.place_undecided()?;
        let mut others = self.compare_folders().await?;
        let mut left = self.gathered();
        left.extend(self.partitions_to_touch());
        left.sort_unstable();
        left.dedup();
        // The newest data lands first.
        for partition in left.into_iter().rev() {
            self.commit_partition(partition).await?;
            // That has read what stood there.
            others.remove(&partition);
        }
        let damage = self.take_in(others).await?;
        self.tell_lost().await?;
        self.rejected.write(&self.setup.lake, &self.setup.run_id).await?;
        // What an earlier run has read of this listing is as old as its beginning.
        let began = self.continued().map(|progress| progress.began);
        let seen_until = began.map_or(self.scope.span.end, |began| began.min(self.scope.span.end));
        let listed_since = self.listed_since();
        self.catch_up().await?;
        let has_progress = self.course.progress.is_some();
        for index in 0..self.tables.len() {
            self.close(index, seen_until, listed_since).await?;
        }
        self.course.is_closed = has_progress;
        damage.map_or(Ok(()), Err)
    }

    /// The run has come to its end, and there is nothing to continue. Before that a kill would have a resource listed again that
    /// was complete, only because others were not.
    pub async fn finish(&mut self) -> Result<()> {
        // What could not be committed is continued.
        if !std::mem::take(&mut self.course.is_closed) {
            return Ok(());
        }
        *self.tables[0].state.progress_of(self.course.extent) = None;
        self.tables[0].write_state(&self.setup).await
    }

    async fn close(&mut self, index: usize, seen_until: i64, listed_since: Option<i64>) -> Result<()> {
        if self.tables[index].state.partitions.is_empty() {
            self.write_placeholder(index).await?;
        }
        self.remove_placeholder(index).await?;
        let is_whole_list = self.marks_everything();
        let read = self.listing_without_lost();
        let table = &mut self.tables[index];
        let before = table.state.clone();
        table.state.schema_version = schema_version(&arrow_schema(&table.resource));
        if is_whole_list {
            // A listing of what is older takes nothing back.
            table.state.complete_until = table.state.complete_until.max(Some(seen_until));
        }
        // What belongs to the objects is judged by them.
        if let Some(since) = listed_since.filter(|_| index == 0) {
            let now = Timestamp::now().as_microsecond();
            // What has a clock of its own is listed, too.
            let seconds = self.scope.span.start..self.scope.span.end.max(self.scope.asked_until);
            table.state.listed.add(seconds, since, now);
        }
        // Only the resource itself has progress; a listing for a window leaves that of a longer one alone.
        let is_own_progress = self.course.progress.is_some();
        if let Some(mut progress) = self.course.progress.take() {
            progress.read = read.pairs();
            progress.rejected = self.rejected.files();
            (progress.kept, progress.waiting) = (Vec::new(), Vec::new());
            *table.state.progress_of(self.course.extent) = Some(progress);
            if self.course.extent == Extent::Longest {
                table.state.window = None;
            }
        }
        if table.state != before {
            table.write_state(&self.setup).await?;
        }
        if is_own_progress {
            self.waiting.forget(&Coverage::default());
            self.waiting.remove_forgotten(&self.setup.lake).await?;
        }
        Ok(())
    }

    /// What the files hold of the listing.
    fn listing_without_lost(&self) -> Coverage {
        let mut read: Coverage = std::iter::once(self.scope.span.clone()).collect();
        let lost = (0..self.tables.len()).flat_map(|index| self.lost(index));
        lost.for_each(|(partition, _)| read.remove(&partition.span()));
        read
    }

    /// Since when all objects of the listing have been read, in microseconds by the clock of the machine.
    fn listed_since(&self) -> Option<i64> {
        let began = self.continued().map(|progress| progress.began_here);
        let is_whole = self.scope.is_listing && self.rejected.is_empty();
        is_whole.then(|| began.unwrap_or(self.setup.started_at.as_microsecond()))
    }

    /// The progress, where an earlier run has begun it.
    fn continued(&self) -> Option<&Progress> {
        self.course.progress.as_ref().filter(|_| self.course.is_continued)
    }

    fn marks_everything(&self) -> bool {
        self.scope.is_whole_list() && self.rejected.is_empty()
    }

    /// The partitions that hold rows, oldest first.
    pub(super) fn gathered(&self) -> Vec<Partition> {
        let partitions: BTreeSet<Partition> =
            self.tables.iter().flat_map(|table| table.spool.partitions()).collect();
        partitions.into_iter().collect()
    }

    /// Files without new rows of which rows may have vanished, or that nobody has looked at since they were begun.
    fn partitions_to_touch(&self) -> Vec<Partition> {
        let mut touch = Vec::new();
        for partition in self.tables.iter().flat_map(|table| table.partitions_with_rows_or_begun()) {
            let is_begun = self.tables.iter().any(|table| table.state.begun.contains(&partition.to_string()));
            let is_due = is_begun || !self.listed_anew(&partition).is_empty();
            let is_done = Some(partition.grain) != self.grain || self.committed.contains(&partition);
            if !is_done && is_due {
                touch.push(partition);
            }
        }
        touch
    }

    /// What became of the tables. Call it also after an error: it tells what is in the lake.
    pub fn reports(&self) -> Vec<TableReport> {
        let mut findings = Some(self.findings.clone());
        let finish = |table: &Table| {
            let mut report = table.report.clone();
            report.rejected_in = self.rejected.files_of(&table.resource.name);
            report.rejected_because = self.rejected.reason_of(&table.resource.name);
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
        self.tables.iter().map(finish).collect()
    }
}
