//! Turns what was read so far into progress that a later run continues.
//!
//! A second counts as read when all its objects, and what belongs to them, stand in files that the states or the
//! progress name. So files come first, then their states, then the progress.

use super::Gatherer;
use crate::commit::state::{Extent, Progress};
use crate::error::Result;
use crate::partition::Partition;
use crate::plan::Slices;
use crate::plan::coverage::Coverage;

/// The course of a listing over several runs.
#[derive(Default)]
pub struct Course {
    /// What the state will say of it when it ends early; `None` where it cannot be continued.
    pub progress: Option<Progress>,
    /// Where the state keeps that.
    pub extent: Extent,
    /// Whether an earlier run has begun it.
    pub is_continued: bool,
    /// Where begins what that run could not have seen.
    pub news_from: Option<i64>,
    /// Why the rows that it has kept are not taken up.
    pub let_go: Option<&'static str>,
    /// Whether something was settled that the state does not know of.
    pub has_unsaved: bool,
    /// Rows of the resource itself since the progress was last written.
    pub n_unsaved: u64,
    /// Whether everything was committed, and the state still says how far it was read.
    pub is_closed: bool,
}

impl Course {
    /// Whether it began with an empty table: all rows are its own.
    fn is_from_nothing(&self) -> bool {
        self.progress.as_ref().is_some_and(|progress| progress.from_nothing)
    }

    /// Never, where no earlier run has begun it: nothing is news then.
    fn news_from(&self) -> i64 {
        self.news_from.unwrap_or(i64::MAX)
    }
}

impl Gatherer {
    /// The seconds that have to be listed.
    pub fn left(&self) -> Vec<std::ops::Range<i64>> {
        self.seconds.covered.missing_in(&self.scope.span)
    }

    /// What has to be listed: older gaps first, since what is new comes with every run.
    pub fn slices(&self) -> Slices {
        let can_cut = self.tables[0].resource.created_filter;
        let slices = Slices::new(self.left(), can_cut, self.scope.first_object);
        slices.with_news_from(self.course.news_from()).with_end(self.scope.span.end, self.scope.asked_until)
    }

    /// Whether something was settled since the progress was last written.
    pub fn has_unsaved(&self) -> bool {
        self.course.has_unsaved && self.course.progress.is_some()
    }

    /// Rows that were read since the progress was last written.
    pub fn n_unsaved(&self) -> u64 {
        self.course.n_unsaved
    }

    /// Writes down what need not be read again.
    pub async fn note(&mut self) -> Result<()> {
        // Without a grain no row is in a file.
        match self.undecided.is_empty() || self.keeps_waiting() {
            true => self.record_progress().await,
            false => Ok(()),
        }
    }

    /// Whether rows are kept that wait for their partition. Not where the file of before may hold some that have vanished:
    /// then a partition is told apart by one run from its beginning to its end.
    pub(super) fn keeps_waiting(&self) -> bool {
        self.course.is_from_nothing() || self.course.progress.is_some() && !self.scope.marks_vanished
    }

    /// The seconds of which rows wait.
    fn waits(&self) -> Coverage {
        match self.undecided.is_empty() {
            true => self.gathered().iter().map(Partition::span).collect(),
            false => std::iter::once(self.scope.span.clone()).collect(),
        }
    }

    /// Commits what has been gathered, complete or not, and writes down what need not be read again.
    async fn save(&mut self) -> Result<()> {
        self.choose_grain_at_end();
        self.place_undecided()?;
        let mut partitions = self.gathered();
        partitions.extend(self.known().filter(|partition| !self.committed.contains(partition)));
        partitions.sort_unstable();
        partitions.dedup();
        for partition in partitions.into_iter().rev() {
            self.commit_partition(partition).await?;
        }
        self.record_progress().await?;
        self.catch_up().await
    }

    /// Writes the states that lack committed files.
    pub(super) async fn catch_up(&mut self) -> Result<()> {
        for table in &mut self.tables {
            table.catch_up(&self.setup).await?;
        }
        Ok(())
    }

    /// Known partitions of which this run has listed seconds that may say that rows have vanished.
    fn known(&self) -> impl Iterator<Item = Partition> {
        let partitions = self.tables[0].partitions_with_rows_or_begun();
        partitions.filter(|partition| !self.listed_anew(partition).is_empty())
    }

    /// Which rows of a file have vanished is told by its first commit, so that one waits until the
    /// partition is complete or the run ends. There is nothing to tell for a file that this listing made, and
    /// nothing is told once an object was rejected.
    fn must_wait(&self, partition: &Partition) -> bool {
        let state = &self.tables[0].state;
        let folder = partition.to_string();
        let has_rows =
            state.begun.contains(&folder) || state.partitions.get(&folder).is_some_and(|file| file.rows > 0);
        self.may_mark_vanished()
            && has_rows
            && !self.course.is_from_nothing()
            && !self.committed.contains(partition)
    }

    async fn record_progress(&mut self) -> Result<()> {
        // No run meets an object again that could not be a row, if its second counts as read: it is kept first.
        self.rejected.write(&self.setup.lake, &self.setup.run_id).await?;
        let Some(mut progress) = self.course.progress.clone() else { return Ok(()) };
        let mut read = self.seconds.covered.clone();
        let waits = self.waits();
        // Where rows wait for their file no second counts, not even one without any.
        waits.ranges().iter().for_each(|waiting| read.remove(waiting));
        // What was written down before had its rows in files then.
        Coverage::from_pairs(&progress.read).ranges().into_iter().for_each(|recorded| read.add(recorded));
        if self.keeps_waiting() {
            self.waiting.keep(&self.setup.lake, &waits).await?;
            self.waiting.forget(&waits);
            let mut kept = self.seconds.covered.common(&waits);
            read.ranges().iter().for_each(|read| kept.remove(read));
            progress.kept = if self.waiting.files.is_empty() { Vec::new() } else { kept.pairs() };
            progress.waiting = self.waiting.files.clone();
        }
        for partition in self.known().filter(|partition| self.must_wait(partition)) {
            self.listed_anew(&partition).iter().for_each(|waiting| read.remove(waiting));
        }
        progress.read = read.pairs();
        progress.rejected = self.rejected.files();
        self.course.progress = Some(progress.clone());
        (self.course.has_unsaved, self.course.n_unsaved) = (false, 0);
        let is_nothing = progress.read.is_empty() && progress.kept.is_empty();
        let stored = self.tables[0].state.progress_of(self.course.extent);
        if is_nothing || stored.as_ref() == Some(&progress) {
            return Ok(());
        }
        *stored = Some(progress);
        // Where another run has written one of the states since, rows that wait may be out of date.
        for index in (0..self.tables.len()).rev() {
            let table = &mut self.tables[index];
            match index == 0 || table.state.written_by.as_ref() != Some(&self.setup.run_id) {
                true => table.write_state(&self.setup).await?,
                false => table.catch_up(&self.setup).await?,
            }
        }
        self.waiting.remove_forgotten(&self.setup.lake).await
    }

    /// Commits what can be kept of a listing that has not come to its end.
    pub(super) async fn break_off(&mut self) -> Result<()> {
        self.rejected.write(&self.setup.lake, &self.setup.run_id).await?;
        self.save().await?;
        self.report_lost();
        let kept = self
            .course
            .progress
            .as_ref()
            .map(|progress| self.scope.share(&Coverage::from_pairs(&progress.read)));
        self.tables[0].report.kept = kept;
        let news_from = self.course.news_from();
        self.tables[0].report.lacks_only_news =
            kept.is_some() && self.left().iter().all(|range| range.start >= news_from);
        let older = i64::MIN..news_from;
        self.tables[0].report.is_further = kept.is_some() && !self.seconds.fresh.within(&older).is_empty();
        Ok(())
    }

    /// Nothing counts as read any longer. Rows that are in files are of this account nevertheless; the next listing is a whole one,
    /// and finds those again that were taken for deleted.
    pub(super) async fn forget_reading(&mut self) -> Result<()> {
        self.is_mixed_up = true;
        self.rejected.write(&self.setup.lake, &self.setup.run_id).await?;
        self.course.progress = None;
        // A longer listing may count on what this one has changed in its files.
        (self.tables[0].state.progress, self.tables[0].state.window) = (None, None);
        self.tables[0].write_state(&self.setup).await?;
        self.catch_up().await?;
        self.report_lost();
        self.waiting.forget(&Coverage::default());
        self.waiting.remove_forgotten(&self.setup.lake).await
    }

    /// From the first to the last object of each file.
    pub fn known_seconds(&self) -> Vec<std::ops::Range<i64>> {
        let files = self.tables[0].state.partitions.values().filter(|file| file.rows > 0);
        // Without `created` there is one file, and any second is as good as another.
        files.map(|file| file.created.map_or(0..i64::MAX, |(first, last)| first..last + 1)).collect()
    }
}
