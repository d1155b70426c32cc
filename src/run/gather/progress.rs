//! Turns what was read so far into progress that a later run continues, and such progress into what is left.
//!
//! A second counts as read when all its objects, and what belongs to them, stand in files that the states
//! name. So files come first, then their states, then the progress.

use arrow::datatypes::SchemaRef;

use super::{Gatherer, Listing, waiting};
use crate::commit::state::Progress;
use crate::decode::rows::with_partition_at;
use crate::decode::schema::{arrow_schema, schema_version};
use crate::error::Result;
use crate::partition::Partition;
use crate::plan::Slices;
use crate::plan::coverage::Coverage;
use crate::run::event::Event;
use crate::run::gather::rejected::RejectedObjects;
use crate::run::report::Continued;
use crate::run::table::Table;

/// Objects become visible up to this many seconds after their `created`.
const LATE_SECS: i64 = 600;
/// Older progress says too little about an account that goes on.
const LONGEST_SECS: i64 = 29 * 86_400;

impl Gatherer {
    /// Takes up the listing that an earlier run has begun, if it is this one.
    pub(super) async fn continue_from_state(&mut self, listing: &Listing) -> Result<()> {
        let table = &self.tables[0];
        // Without a filter on `created` there are no seconds to leave out.
        let (Some(now), true) = (listing.now, table.resource.created_filter) else { return Ok(()) };
        let new = Progress {
            began: now,
            listed_at: now,
            span: (listing.span.start, listing.span.end),
            stripe_version: listing.stripe_version.clone(),
            schema_version: self.schema_versions(),
            read: Vec::new(),
            run: self.setup.run_id.clone(),
            waits: Vec::new(),
            waiting: Vec::new(),
            rejected: Vec::new(),
            from_nothing: table.state.n_rows() == 0,
        };
        let Some(old) = table.state.progress.clone().filter(|old| is_fit(old, &new)) else {
            self.progress = Some(new);
            return self.waiting.remove_unknown(&self.setup.lake).await;
        };
        if old.span.0 != new.span.0 || old.span.1 > new.span.1 {
            // A longer listing waits to be continued; this one is for its window alone.
            let is_other = old.span.0 <= new.span.0;
            self.progress = (!is_other).then_some(new);
            return Ok(());
        }
        let lacks_a_file = self.lacks_a_file().await?;
        let rejected = RejectedObjects::read(&self.setup.lake, &old.rejected).await?;
        let Some(rejected) = rejected.filter(|_| !lacks_a_file) else {
            self.progress = Some(new);
            return self.waiting.remove_unknown(&self.setup.lake).await;
        };
        for table in &mut self.tables {
            table.report.rejected = rejected.n_of(&table.resource.name);
        }
        self.rejected = rejected;
        let mut read = coverage(&old.read);
        let news_from = old.listed_at - LATE_SECS;
        read.remove(&(news_from..i64::MAX));
        self.news_from = Some(news_from);
        if !self.take_up_waiting(&old, &read).await? {
            old.waits.iter().for_each(|(start, end)| read.remove(&(*start..*end)));
        }
        self.is_continued = !read.ranges().is_empty();
        self.covered = read;
        let read = pairs(&self.covered);
        let waiting = self.waiting.files.clone();
        let waits = if waiting.is_empty() { Vec::new() } else { old.waits };
        let Progress { began, rejected, from_nothing, .. } = old;
        let progress = Progress { began, rejected, from_nothing, read, waits, waiting, ..new };
        // Every state that this run writes says from now on that the rows that wait are its own.
        self.tables[0].state.progress = Some(progress.clone());
        self.progress = Some(progress);
        self.tell_continued(began);
        self.waiting.remove_unknown(&self.setup.lake).await
    }

    /// Takes up the rows that an earlier run has kept, as far as their seconds count as read. Not if another run has
    /// written since: they might be older than what that one has seen.
    async fn take_up_waiting(&mut self, old: &Progress, read: &Coverage) -> Result<bool> {
        let is_own = |table: &Table| table.state.written_by.as_ref() == Some(&old.run);
        if !self.tables.iter().all(is_own) {
            return Ok(old.waits.is_empty());
        }
        let waits = coverage(&old.waits).ranges();
        let wanted: Coverage = waits.iter().flat_map(|span| read.within(span)).collect();
        let schemas = self.tables.iter().map(|table| with_partition_at(&arrow_schema(&table.resource)));
        let schemas: Vec<SchemaRef> = schemas.collect();
        for file in &old.waiting {
            let opened = waiting::open(&self.setup.lake, file).await?;
            let Some(mut rows) = opened.map(|file| waiting::read(file, &schemas, &wanted)) else {
                self.drop_rows()?;
                return Ok(false);
            };
            while let Some(decoded) = rows.next() {
                // Another version of this program may have written it.
                let Ok(decoded) = decoded else {
                    self.drop_rows()?;
                    return Ok(false);
                };
                self.place(decoded, Vec::new())?;
            }
        }
        self.waiting.files = old.waiting.clone();
        self.taken_up = wanted;
        Ok(true)
    }

    /// Lets go of what was taken up.
    fn drop_rows(&mut self) -> Result<()> {
        self.undecided.clear();
        self.parents.clear();
        (self.n_undecided, self.undecided_bytes) = (0, 0);
        for table in &mut self.tables {
            for partition in table.spool.partitions() {
                table.spool.take(&partition)?;
            }
        }
        Ok(())
    }

    fn tell_continued(&mut self, began: i64) {
        let Some(began) = jiff::Timestamp::from_second(began).ok().filter(|_| self.is_continued) else {
            return;
        };
        let share = self.share(&self.covered);
        self.tables[0].report.continued = Some(Continued { began, share });
        let resource = self.tables[0].resource.name.clone();
        (self.setup.on_event)(Event::Continued { resource, began, share });
    }

    /// The seconds that have to be listed.
    pub fn left(&self) -> Vec<std::ops::Range<i64>> {
        self.covered.missing_in(&self.listing)
    }

    /// What has to be listed: older gaps first, since what is new comes with every run.
    pub fn slices(&self) -> Slices {
        let can_cut = self.tables[0].resource.created_filter;
        let slices = Slices::new(self.left(), can_cut, self.first_object);
        slices.with_news_from(self.news_from.unwrap_or(i64::MAX))
    }

    /// Whether something was settled since the progress was last written.
    pub fn has_unsaved(&self) -> bool {
        self.has_unsaved && self.progress.is_some()
    }

    /// Rows that were read since the progress was last written.
    pub fn n_unsaved(&self) -> u64 {
        self.n_unsaved
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
        self.progress.as_ref().is_some_and(|progress| progress.from_nothing || !self.marks_vanished)
    }

    /// The seconds of which rows wait.
    fn waits(&self) -> Coverage {
        match self.undecided.is_empty() {
            true => self.gathered().iter().map(Partition::span).collect(),
            false => std::iter::once(self.listing.clone()).collect(),
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
        self.record_progress().await
    }

    /// Known partitions of which this run has listed seconds that may say that rows have vanished.
    fn known(&self) -> impl Iterator<Item = Partition> {
        let state = &self.tables[0].state;
        let with_rows = state.partitions.iter().filter(|(_, file)| file.rows > 0);
        let partitions = with_rows.filter_map(|(folder, _)| Partition::parse(folder));
        partitions.filter(|partition| !self.listed_anew(partition).is_empty())
    }

    /// Which rows of a file have vanished is told by its first commit, so that one waits until the
    /// partition is complete or the run ends. There is nothing to tell for a file that this listing made, and
    /// nothing is told once an object was rejected.
    fn must_wait(&self, partition: &Partition) -> bool {
        let state = &self.tables[0].state;
        let is_of_this_listing = self.progress.as_ref().is_some_and(|progress| progress.from_nothing);
        let has_rows = state.partitions.get(&partition.to_string()).is_some_and(|file| file.rows > 0);
        let marks_vanished = self.marks_vanished && self.rejected.is_empty();
        marks_vanished && has_rows && !is_of_this_listing && !self.committed.contains(partition)
    }

    async fn record_progress(&mut self) -> Result<()> {
        // No run meets an object again that could not be a row, if its second counts as read: it is kept first.
        self.rejected.write(&self.setup.lake, &self.setup.run_id).await?;
        let Some(mut progress) = self.progress.clone() else { return Ok(()) };
        let mut read = self.covered.clone();
        let waits = self.waits();
        if self.keeps_waiting() {
            self.waiting.keep(&self.setup.lake, &waits).await?;
            self.waiting.forget(&waits);
            progress.waits = if self.waiting.files.is_empty() { Vec::new() } else { pairs(&waits) };
            progress.waiting = self.waiting.files.clone();
        } else {
            // Where rows wait for their file no second counts, not even one without any.
            waits.ranges().iter().for_each(|waiting| read.remove(waiting));
        }
        // What was written down before had its rows in files then.
        coverage(&progress.read).ranges().into_iter().for_each(|recorded| read.add(recorded));
        for partition in self.known().filter(|partition| self.must_wait(partition)) {
            self.listed_anew(&partition).iter().for_each(|waiting| read.remove(waiting));
        }
        progress.read = pairs(&read);
        progress.rejected = self.rejected.files();
        self.progress = Some(progress.clone());
        (self.has_unsaved, self.n_unsaved) = (false, 0);
        if progress.read.is_empty() || self.tables[0].state.progress.as_ref() == Some(&progress) {
            return Ok(());
        }
        self.tables[0].state.progress = Some(progress);
        // Where another run has written one of the states since, rows that wait may be out of date.
        for index in (0..self.tables.len()).rev() {
            if index == 0 || self.tables[index].state.written_by.as_ref() != Some(&self.setup.run_id) {
                self.tables[index].write_state(&self.setup).await?;
            }
        }
        self.waiting.remove_forgotten(&self.setup.lake).await
    }

    /// Commits what can be kept of a listing that has not come to its end.
    pub(super) async fn break_off(&mut self) -> Result<()> {
        self.rejected.write(&self.setup.lake, &self.setup.run_id).await?;
        self.save().await?;
        let kept = self.progress.as_ref().map(|progress| self.share(&coverage(&progress.read)));
        self.tables[0].report.kept = kept;
        let news_from = self.news_from.unwrap_or(i64::MAX);
        self.tables[0].report.lacks_only_news =
            kept.is_some() && self.left().iter().all(|range| range.start >= news_from);
        let older = i64::MIN..self.news_from.unwrap_or(i64::MAX);
        self.tables[0].report.is_further = kept.is_some() && !self.fresh.within(&older).is_empty();
        Ok(())
    }

    /// The part of the listing's time that these seconds are, as far as objects may be expected in it.
    fn share(&self, read: &Coverage) -> f64 {
        let start = self.listing.start.max(self.first_object.min(self.listing.end - 1));
        let span = start..self.listing.end;
        let read: Coverage = read.within(&span).into_iter().collect();
        read.n_secs() as f64 / (span.end - span.start) as f64
    }

    /// Of the resource and its children.
    fn schema_versions(&self) -> String {
        let versions = self.tables.iter().map(|table| schema_version(&arrow_schema(&table.resource)));
        versions.collect::<Vec<_>>().join(" ")
    }

    /// Whether a file has gone that the states name: then what was read is not all there.
    async fn lacks_a_file(&self) -> Result<bool> {
        for table in &self.tables {
            let partitions = table.state.partitions.keys().filter_map(|folder| Partition::parse(folder));
            for partition in partitions {
                if !self.setup.lake.exists(&partition.path(&table.resource.name)).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Whether progress can be continued by a listing that begins as `new`, if it lists the same.
fn is_fit(old: &Progress, new: &Progress) -> bool {
    let is_recent = (old.began..=old.began + LONGEST_SECS).contains(&new.began) && old.listed_at <= new.began;
    is_recent && old.stripe_version == new.stripe_version && old.schema_version == new.schema_version
}

fn coverage(pairs: &[(i64, i64)]) -> Coverage {
    pairs.iter().map(|(start, end)| *start..*end).collect()
}

fn pairs(coverage: &Coverage) -> Vec<(i64, i64)> {
    coverage.ranges().into_iter().map(|range| (range.start, range.end)).collect()
}
