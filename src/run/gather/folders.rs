//! Compares the files in a table's folder with its state: those of ours that one of them lacks, and those of others.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::Gatherer;
use super::scope::Scope;
use crate::commit::Version;
use crate::commit::state::{FileState, LostFile, ResourceState};
use crate::encode::{Home, old};
use crate::error::{Error, Result};
use crate::partition::Partition;
use crate::run::Setup;
use crate::run::event::Event;
use crate::run::partition_commit::{ids_of, is_described};
use crate::run::report::named;
use crate::run::table::Table;

/// What a file is by the list of its folder, beside what its state says.
enum Compared {
    Same,
    /// The same bytes by another entity tag: the lake was copied.
    Copied(String),
    Other,
    Gone,
}

/// How a file was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Gone,
    /// Another one stood in its place that was not made from it.
    Overwritten,
}

/// What became of a file that was lost.
enum Fate {
    ThereAgain,
    MadeAnew,
    Missed,
}

impl Gatherer {
    /// A reader's glob takes all files in the folder for ours, and counts their rows, too. Those that stand where ours would are
    /// looked at like others whose run was killed. What is not there is noted as lost. Returns the partitions with a file
    /// that is another than its state says.
    pub(super) async fn compare_folders(&mut self) -> Result<BTreeSet<Partition>> {
        let mut others = BTreeSet::new();
        for index in 0..self.tables.len() {
            let name = self.tables[index].resource.name.clone();
            let found = self.setup.lake.data_versions(&name).await?;
            let mut is_changed = self.name_files(index, found.keys());
            let mut lost = Vec::new();
            for (folder, known) in self.tables[index].state.partitions.clone() {
                let Some(partition) = Partition::parse(&folder) else { continue };
                let path = partition.path(&name);
                let compared = self.compared(&path, &known, found.get(&path)).await?;
                let partitions = &mut self.tables[index].state.partitions;
                match compared {
                    Compared::Same => {}
                    // The next run need not read the file again.
                    Compared::Copied(etag) => {
                        partitions.insert(folder, FileState { etag: Some(etag), ..known });
                        is_changed = true;
                    }
                    Compared::Other => _ = others.insert(partition),
                    Compared::Gone if known.rows > 0 => lost.push(partition),
                    // An empty one is made again where the table needs it.
                    Compared::Gone => is_changed |= partitions.remove(&folder).is_some(),
                }
            }
            for partition in &lost {
                self.forget_earlier(partition, !self.committed.contains(partition));
            }
            self.note_lost(index, &lost, Loss::Gone).await?;
            if is_changed {
                self.tables[index].write_state(&self.setup).await?;
            }
        }
        Ok(others)
    }

    /// Sorts out the files that the state does not name; whether some of them are ours, and named now.
    fn name_files<'a>(&mut self, index: usize, found: impl Iterator<Item = &'a String>) -> bool {
        let table = &mut self.tables[index];
        let (mut unnamed, mut strangers) = (Vec::new(), Vec::new());
        for path in found {
            match Partition::of_path(path, &table.resource.name) {
                Some(partition) if table.state.names(&partition.to_string()) => {}
                // Where this run has been, it would have been found before.
                Some(partition)
                    if Some(partition.grain) == self.grain && !self.committed.contains(&partition) =>
                {
                    unnamed.push(partition.to_string())
                }
                _ => strangers.push(path.clone()),
            }
        }
        table.report.strangers = strangers;
        let has_unnamed = !unnamed.is_empty();
        table.state.begun.extend(unnamed);
        has_unnamed
    }

    async fn compared(&self, path: &str, known: &FileState, found: Option<&Version>) -> Result<Compared> {
        let Some(version) = found else {
            let is_there = is_there(&self.setup, path).await?;
            return Ok(if is_there { Compared::Same } else { Compared::Gone });
        };
        match version.etag().filter(|etag| !known.is_of(etag)) {
            None => Ok(Compared::Same),
            Some(etag) if self.is_unchanged(path, known).await? => Ok(Compared::Copied(etag.to_owned())),
            Some(_) => Ok(Compared::Other),
        }
    }

    /// Merges files that are other than their states say with what this run has for them: one that is whole and stands in its place
    /// may come from a run that was killed, or was put there after this run had made another. Returns the first damage.
    pub(super) async fn take_in(&mut self, others: BTreeSet<Partition>) -> Result<Option<Error>> {
        let mut first = None;
        for partition in others {
            match self.commit_partition(partition).await {
                Err(error) if error.is_damage() => _ = first.get_or_insert(error),
                done => done?,
            }
        }
        Ok(first)
    }

    /// Writes down that the files of these partitions are lost.
    pub(super) async fn note_lost(
        &mut self,
        index: usize,
        partitions: &[Partition],
        loss: Loss,
    ) -> Result<()> {
        self.read_again(partitions).await?;
        let table = &mut self.tables[index];
        let ResourceState { lost, partitions: files, .. } = &mut table.state;
        let is_overwritten = loss == Loss::Overwritten;
        let mut is_new = false;
        for folder in partitions.iter().map(Partition::to_string) {
            let Some(file) = files.get(&folder) else { continue };
            let lost = lost.entry(folder).or_default();
            match lost.iter_mut().find(|lost| lost.file.has_bytes_of(file)) {
                Some(lost) => is_new |= is_overwritten && !std::mem::replace(&mut lost.is_overwritten, true),
                None => {
                    lost.push(LostFile { file: file.clone(), is_overwritten });
                    is_new = true;
                }
            }
        }
        match is_new {
            true => table.write_state(&self.setup).await,
            false => Ok(()),
        }
    }

    /// After everything was committed: what was lost is whole again only where all of it was listed or restored, or, if it has
    /// gone, imported.
    pub(super) async fn tell_lost(&mut self) -> Result<()> {
        let (mut made_anew, mut restored, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..self.tables.len() {
            for (partition, path) in self.lost(index) {
                let folder = partition.to_string();
                let files = self.tables[index].lost_files(&folder);
                let is_listed = |lost: &LostFile| self.has_listed_all_of(index, &partition, &lost.file);
                let Some((now, _)) = self.setup.lake.read(&path).await? else {
                    // Had this run put rows into it, it would have gone again.
                    if files.iter().all(is_listed) && !self.committed.contains(&partition) {
                        self.tables[index].state.partitions.remove(&folder);
                        self.tables[index].still_lost(&folder, Vec::new());
                        forgotten.push(path);
                    }
                    continue;
                };
                let (now, mut left, mut is_made_anew) = (Arc::new(now), Vec::new(), false);
                for lost in files {
                    match self.fate(index, &partition, &lost, &now).await {
                        Fate::ThereAgain => {}
                        Fate::MadeAnew => is_made_anew = true,
                        Fate::Missed => left.push(lost),
                    }
                }
                match (left.is_empty(), is_made_anew) {
                    (true, true) => made_anew.push(path),
                    (true, false) => restored.push(path),
                    (false, _) => {}
                }
                self.tables[index].still_lost(&folder, left);
            }
        }
        self.report_lost();
        for (paths, what) in [
            (restored, "lost, and there again"),
            (made_anew, "lost, and made anew without what was deleted in Stripe"),
            (forgotten, "lost, and Stripe lists nothing of it any longer"),
        ] {
            if !paths.is_empty() {
                (self.setup.on_event)(Event::Warning { message: format!("{what}: {}", named(&paths)) });
            }
        }
        Ok(())
    }

    /// What is lost is no matter of one run: it is said until it is found again.
    pub(super) fn report_lost(&mut self) {
        for index in 0..self.tables.len() {
            self.tables[index].report.lost = self.lost(index).into_iter().map(|(_, path)| path).collect();
        }
    }

    pub(super) fn lost(&self, index: usize) -> Vec<(Partition, String)> {
        let Table { state, resource, .. } = &self.tables[index];
        let partitions = state.lost.keys().filter_map(|folder| Partition::parse(folder));
        partitions.map(|partition| (partition, partition.path(&resource.name))).collect()
    }

    /// What the file that stands there now has of a lost one.
    async fn fate(&self, index: usize, partition: &Partition, lost: &LostFile, now: &Arc<File>) -> Fate {
        let place = partition.path(&self.tables[index].resource.name);
        let home = Home { place, owner: self.setup.owner.clone() };
        match is_there_again(now, lost, home).await {
            Ok(true) => Fate::ThereAgain,
            Ok(false) if self.has_listed_all_of(index, partition, &lost.file) => Fate::MadeAnew,
            // One that cannot be read is named as damaged.
            Ok(false) | Err(_) => Fate::Missed,
        }
    }

    /// Whether all seconds from which a lost file had objects were listed since, or all of its partition where that is not known:
    /// what belongs to an object lies where that does. An object that could not be a row may be one of the lost.
    fn has_listed_all_of(&self, index: usize, partition: &Partition, lost: &FileState) -> bool {
        let Scope { span: listed, asked_until, is_listing, .. } = &self.scope;
        let (seconds, last) = match (index, lost.created) {
            (0, Some((first, last))) => (first..last + 1, last),
            _ => (partition.span(), self.newest().min(partition.span().end - 1)),
        };
        let within = seconds.start..seconds.end.min(listed.end);
        let is_read = |unread: &Range<i64>| unread.end <= within.start || within.end <= unread.start;
        // What has a clock of its own lies behind the seconds that are listed, and is shown with them.
        let is_shown = last < listed.end || !self.seconds.lost_behind.contains(partition);
        *is_listing
            && listed.start <= seconds.start
            && last < *asked_until
            && is_shown
            && self.seconds.covered.contains(&within)
            && self.seconds.unread.iter().all(is_read)
            && !self.rejected.may_be_of(&self.tables[0].resource.name, &seconds)
    }

    /// The last second of which the resource has, or had, an object.
    fn newest(&self) -> i64 {
        let ResourceState { partitions, lost, .. } = &self.tables[0].state;
        let files = partitions.values().chain(lost.values().flatten().map(|lost| &lost.file));
        files.filter_map(|file| Some(file.created?.1)).max().unwrap_or(i64::MAX)
    }
}

/// Whether the file that stands there now is the lost one, is made from it, or has the same objects.
async fn is_there_again(now: &Arc<File>, lost: &LostFile, home: Home) -> Result<bool> {
    let (now, lost) = (now.clone(), lost.clone());
    let compared = spawn_blocking(move || {
        let LostFile { file, is_overwritten } = lost;
        if is_described(&now, &file)? {
            return Ok(true);
        }
        let opened = now.try_clone().map_err(|e| Error::destination(format!("{}: {e}", home.place)))?;
        let lineage = old::open(opened, false, &home)?.lineage;
        Ok(lineage.is_some_and(|lineage| lineage.has(file.bytes, &file.crc32))
            // An older copy may have the same objects as they were before.
            || (!is_overwritten && file.has_ids(ids_of(&now, &file)?)))
    });
    compared.await.map_err(|e| Error::bug(format!("reading ids: {e}")))?
}

/// Whether a file is there that no list of its folder has named.
async fn is_there(setup: &Setup, path: &str) -> Result<bool> {
    let is_local = setup.lake.local_path(path).is_some();
    match (setup.lake.exists(path).await?, is_local) {
        (true, false) => {
            let what = format!("{path}: expected it in the list of its folder, and it is not there");
            Err(Error::destination(what)
                .hint("the file itself is there: the store's list cannot be trusted; try again later"))
        }
        // It may be behind a link to a folder, which is named for itself.
        (is_there, _) => Ok(is_there),
    }
}
