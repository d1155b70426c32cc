//! Turns the progress of an earlier run into what is left, and the rows that it has kept into rows that wait.

use arrow::datatypes::SchemaRef;
use tokio::task::spawn_blocking;

use super::grain::Undecided;
use super::scope::Listing;
use super::seconds::Seconds;
use super::{Gatherer, waiting};
use crate::commit::Version;
use crate::commit::state::{Extent, FileState, Progress, WaitingFile};
use crate::decode::rows::with_partition_at;
use crate::decode::schema::{arrow_schema, schema_version};
use crate::error::{Error, Result};
use crate::fetch::slice::LATE_SECS;
use crate::partition::Partition;
use crate::plan::coverage::Coverage;
use crate::run::event::Event;
use crate::run::gather::rejected::RejectedObjects;
use crate::run::partition_commit::is_described;
use crate::run::report::Continued;
use crate::run::table::Table;

/// Older progress says too little about an account that goes on.
const LONGEST_SECS: i64 = 29 * 86_400;

impl Gatherer {
    /// Finds out what an earlier run has read of this listing. Nothing is written.
    pub(super) async fn continue_from_state(&mut self, listing: &Listing) -> Result<()> {
        let Some(new) = self.new_progress(listing) else { return Ok(()) };
        // Where a longer listing waits to be continued, this one leaves it alone.
        let longest = self.tables[0].state.progress.as_ref();
        if longest.is_some_and(|old| is_fit(old, &new) && is_more(old, &new)) {
            self.course.extent = Extent::Window;
        }
        match self.continuable(&new, listing.starts_over).await? {
            Some((old, rejected)) => self.take_over(old, rejected, new),
            None => self.course.progress = Some(new),
        }
        Ok(())
    }

    /// That of a listing which begins now.
    fn new_progress(&self, listing: &Listing) -> Option<Progress> {
        let table = &self.tables[0];
        // Without a filter on `created` there are no seconds to leave out.
        let now = listing.now.filter(|_| table.resource.created_filter)?;
        Some(Progress {
            began: now,
            listed_at: now,
            span: (listing.span.start, listing.span.end),
            stripe_version: listing.stripe_version.clone(),
            schema_version: self.schema_versions(),
            read: Vec::new(),
            kept: Vec::new(),
            waiting: Vec::new(),
            began_here: self.setup.started_at.as_microsecond(),
            run: self.setup.run_id.clone(),
            rejected: Vec::new(),
            from_nothing: table.state.n_rows() == 0 && table.state.begun.is_empty(),
        })
    }

    /// What an earlier run has left of the same listing, with the objects that could not be rows.
    async fn continuable(
        &mut self,
        new: &Progress,
        starts_over: bool,
    ) -> Result<Option<(Progress, RejectedObjects)>> {
        let old = self.tables[0].state.progress_of(self.course.extent).clone();
        let is_same = |old: &Progress| old.span.0 == new.span.0 && old.span.1 <= new.span.1;
        let Some(old) = old.filter(|old| !starts_over && is_fit(old, new) && is_same(old)) else {
            return Ok(None);
        };
        let rejected = RejectedObjects::read(&self.setup.lake, &old.rejected).await?;
        let Some(rejected) = rejected else { return Ok(None) };
        let (mut read, mut kept) = (Coverage::from_pairs(&old.read), Coverage::from_pairs(&old.kept));
        let both: Coverage = read.ranges().into_iter().chain(kept.ranges()).collect();
        for (partition, is_gone) in self.changed_partitions(&both).await? {
            read.remove(&partition.span());
            // What was read before a loss says nothing of what is lost.
            if is_gone {
                kept.remove(&partition.span());
            }
        }
        Ok(Some((Progress { read: read.pairs(), kept: kept.pairs(), ..old }, rejected)))
    }

    fn take_over(&mut self, old: Progress, rejected: RejectedObjects, new: Progress) {
        for table in &mut self.tables {
            table.report.rejected = rejected.n_of(&table.resource.name);
        }
        self.rejected = rejected;
        // Another run that has written a state since may have seen newer rows than those that wait, and has files that
        // are not of this listing.
        let is_own = |table: &Table| table.state.written_by.as_ref() == Some(&old.run);
        let is_own = self.tables.iter().all(is_own);
        let news_from = old.listed_at - LATE_SECS;
        self.course.news_from = Some(news_from);
        let before = |pairs: &[(i64, i64)]| {
            let mut read = Coverage::from_pairs(pairs);
            read.remove(&(news_from..i64::MAX));
            read
        };
        let read = before(&old.read);
        let taken_up = if is_own { before(&old.kept) } else { Coverage::default() };
        if !is_own && !old.kept.is_empty() {
            self.course.let_go = Some("another run has written the lake since");
        }
        self.waiting.files = old.waiting.iter().filter_map(|file| of_these(file, &taken_up)).collect();
        let Progress { began, began_here, rejected, from_nothing, .. } = old;
        self.course.progress = Some(Progress {
            began,
            began_here,
            rejected,
            from_nothing: from_nothing && is_own,
            read: read.pairs(),
            kept: taken_up.pairs(),
            waiting: self.waiting.files.clone(),
            ..new
        });
        self.seconds = Seconds::continued(&read, taken_up);
    }

    /// Takes up the rows that an earlier run has kept, and writes down that they are no other run's any longer. Call it
    /// with the lock, before anything is listed. `found` are the files of waiting rows in the lake.
    pub async fn take_up(&mut self, found: &[String]) -> Result<()> {
        if !self.place_kept().await? {
            self.let_kept_go()?;
            self.course.let_go = Some("its files have gone or are damaged");
        }
        if let Some(why) = self.course.let_go {
            let resource = &self.tables[0].resource.name;
            let what = "what a killed run had kept of its listing is read again";
            (self.setup.on_event)(Event::Warning { message: format!("{resource}: {what}: {why}") });
        }
        if let Some(progress) = self.course.progress.as_ref().filter(|_| !self.seconds.covered.is_empty()) {
            let began = progress.began;
            // Every state that this run writes says from now on that the rows that wait are its own.
            *self.tables[0].state.progress_of(self.course.extent) = Some(progress.clone());
            self.tell_continued(began);
        }
        self.disown_kept().await?;
        match self.course.progress.is_some() {
            true => self.waiting.remove_unknown(&self.setup.lake, found).await,
            // They may be those of another listing.
            false => Ok(()),
        }
    }

    /// Where an earlier run has kept rows that this one does not take up, no later one may do so: they might be older
    /// than what this one sees.
    pub(super) async fn disown_kept(&mut self) -> Result<()> {
        let table = &mut self.tables[0];
        let writer = table.state.written_by.as_ref();
        let is_kept = |progress: &Progress| !progress.kept.is_empty() && writer == Some(&progress.run);
        let mut kept = table.state.progress.iter().chain(&table.state.window).filter(|old| is_kept(old));
        match kept.any(|progress| progress.run != self.setup.run_id) {
            true => table.write_state(&self.setup).await,
            false => Ok(()),
        }
    }

    /// Whether the rows could be read.
    async fn place_kept(&mut self) -> Result<bool> {
        let schemas = self.tables.iter().map(|table| with_partition_at(&arrow_schema(&table.resource)));
        let schemas: Vec<SchemaRef> = schemas.collect();
        for file in self.waiting.files.clone() {
            let Some(opened) = waiting::open(&self.setup.lake, &file).await? else { return Ok(false) };
            let wanted = Coverage::from_pairs(&file.seconds);
            let Ok(rows) = waiting::read(opened, &schemas, wanted) else { return Ok(false) };
            for decoded in rows {
                let Ok(decoded) = decoded else { return Ok(false) };
                self.place(decoded, Vec::new())?;
            }
        }
        Ok(true)
    }

    /// Their seconds have to be listed again.
    fn let_kept_go(&mut self) -> Result<()> {
        self.undecided = Undecided::default();
        self.parents.clear();
        for table in &mut self.tables {
            for partition in table.spool.partitions() {
                table.spool.take(&partition)?;
            }
        }
        self.seconds.let_go();
        self.waiting.files.clear();
        if let Some(progress) = &mut self.course.progress {
            progress.kept.clear();
            progress.waiting.clear();
        }
        Ok(())
    }

    fn tell_continued(&mut self, began: i64) {
        let Ok(began) = jiff::Timestamp::from_second(began) else { return };
        self.course.is_continued = true;
        let share = self.scope.share(&self.seconds.covered);
        self.tables[0].report.continued = Some(Continued { began, share });
        let resource = self.tables[0].resource.name.clone();
        (self.setup.on_event)(Event::Continued { resource, began, share });
    }

    /// Of the resource and its children.
    fn schema_versions(&self) -> String {
        let versions = self.tables.iter().map(|table| schema_version(&arrow_schema(&table.resource)));
        versions.collect::<Vec<_>>().join(" ")
    }

    /// The partitions of which something was read, and whose files are not what the states say, or have gone, which is told:
    /// what was read of them is not all there.
    async fn changed_partitions(&self, read: &Coverage) -> Result<Vec<(Partition, bool)>> {
        let mut changed = Vec::new();
        for table in &self.tables {
            let found = self.setup.lake.data_versions(&table.resource.name).await?;
            for (folder, known) in &table.state.partitions {
                let Some(partition) = Partition::parse(folder) else { continue };
                let path = partition.path(&table.resource.name);
                // That says it without reading the file.
                let is_same = found.get(&path).and_then(Version::etag).is_some_and(|etag| known.is_of(etag));
                let is_read = !read.within(&partition.span()).is_empty();
                if is_read && !is_same && !self.is_unchanged(&path, known).await? {
                    let is_gone = !self.setup.lake.exists(&path).await?;
                    changed.push((partition, is_gone));
                }
            }
        }
        Ok(changed)
    }

    /// Whether a file is what its state says, by its bytes.
    pub(super) async fn is_unchanged(&self, path: &str, known: &FileState) -> Result<bool> {
        let Some((file, _)) = self.setup.lake.read(path).await? else { return Ok(false) };
        let known = known.clone();
        let compared = spawn_blocking(move || is_described(&file, &known)).await;
        compared.map_err(|e| Error::bug(format!("{path}: {e}")))?
    }

    /// The files of these partitions may lack what an unfinished listing has put into them: it must not end without having
    /// read their seconds again, unless this run has.
    pub(super) async fn read_again(&mut self, partitions: &[Partition]) -> Result<()> {
        partitions.iter().for_each(|partition| self.seconds.read_again(&partition.span()));
        let without = |read: &mut Vec<(i64, i64)>| {
            let mut left = Coverage::from_pairs(read);
            partitions.iter().for_each(|partition| left.remove(&partition.span()));
            let has_less = left.pairs() != *read;
            *read = left.pairs();
            has_less
        };
        self.course.progress.iter_mut().for_each(|progress| _ = without(&mut progress.read));
        let table = &mut self.tables[0];
        let stored = table.state.progress.iter_mut().chain(&mut table.state.window);
        let n_less = stored.filter_map(|progress| without(&mut progress.read).then_some(())).count();
        match n_less {
            0 => Ok(()),
            _ => table.write_state(&self.setup).await,
        }
    }
}

/// The file as far as these seconds go.
fn of_these(file: &WaitingFile, kept: &Coverage) -> Option<WaitingFile> {
    let seconds = Coverage::from_pairs(&file.seconds).common(kept).pairs();
    (!seconds.is_empty()).then(|| WaitingFile { seconds, ..file.clone() })
}

/// Whether one lists what the other one does, and more.
fn is_more(old: &Progress, new: &Progress) -> bool {
    old.span.0 <= new.span.0 && (old.span.0 < new.span.0 || old.span.1 > new.span.1)
}

/// Whether progress can be continued by a listing that begins as `new`, if it lists the same.
fn is_fit(old: &Progress, new: &Progress) -> bool {
    let is_recent = (old.began..=old.began + LONGEST_SECS).contains(&new.began) && old.listed_at <= new.began;
    is_recent && old.stripe_version == new.stripe_version && old.schema_version == new.schema_version
}
