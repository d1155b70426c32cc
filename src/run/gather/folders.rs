//! Compares the files in a table's folder with its state: those of ours that one of them lacks, and those of others.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use super::Gatherer;
use crate::commit::Version;
use crate::commit::state::{FileState, ResourceState};
use crate::error::{Error, Result};
use crate::partition::Partition;
use crate::run::Setup;
use crate::run::event::Event;
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
            self.note_lost(index, &lost).await?;
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
                Some(partition) if Some(partition.grain) == self.grain => unnamed.push(partition.to_string()),
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

    /// Merges files that are other than their states say with what this run has for them, where it has not done so yet: one that
    /// is whole and stands in its place may come from a run that was killed. Returns the first damage.
    pub(super) async fn take_in(&mut self, others: BTreeSet<Partition>) -> Result<Option<Error>> {
        let mut first = None;
        for partition in others {
            if self.committed.contains(&partition) {
                continue;
            }
            match self.commit_partition(partition).await {
                Err(error) if error.is_damage() => _ = first.get_or_insert(error),
                done => done?,
            }
        }
        Ok(first)
    }

    /// Writes down that the files of these partitions have gone with their rows.
    pub(super) async fn note_lost(&mut self, index: usize, partitions: &[Partition]) -> Result<()> {
        self.read_again(partitions).await?;
        let table = &mut self.tables[index];
        let ResourceState { lost, partitions: files, .. } = &mut table.state;
        let n_before = lost.len();
        for folder in partitions.iter().map(Partition::to_string) {
            // Of several that went one after the other the first one is waited for: it was whole.
            if let (Entry::Vacant(entry), Some(file)) = (lost.entry(folder.clone()), files.get(&folder)) {
                entry.insert(file.clone());
            }
        }
        match lost.len() > n_before {
            true => table.write_state(&self.setup).await,
            false => Ok(()),
        }
    }

    /// After everything was committed: what was lost is whole again only where all of it was listed, imported or restored.
    pub(super) async fn tell_lost(&mut self) -> Result<()> {
        let (mut made_anew, mut restored, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..self.tables.len() {
            for (partition, path) in self.lost(index) {
                let is_listed = self.is_listing && self.has_listed_all_of(&partition);
                let folder = partition.to_string();
                match self.setup.lake.exists(&path).await? {
                    true if self.is_restored(index, &folder) => restored.push(path),
                    true if is_listed || self.is_imported(index, &partition) => made_anew.push(path),
                    // Had this run put rows into it, it would have gone again.
                    false if is_listed && !self.committed.contains(&partition) => {
                        self.tables[index].state.partitions.remove(&folder);
                        forgotten.push(path);
                    }
                    _ => continue,
                }
                self.tables[index].found_again(&folder);
            }
        }
        self.report_lost();
        for (paths, what) in [
            (restored, "lost, and there again"),
            (made_anew, "lost, and made anew without what was deleted in Stripe or not imported now"),
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

    /// Whether this import has brought as many rows as were lost, and as many are there: those are taken for them.
    fn is_imported(&self, index: usize, partition: &Partition) -> bool {
        let ResourceState { lost, partitions, .. } = &self.tables[index].state;
        let folder = partition.to_string();
        let (Some(lost), Some(file)) = (lost.get(&folder), partitions.get(&folder)) else { return false };
        let n_filled = self.filled.get(&(index, *partition)).copied().unwrap_or_default();
        !self.is_listing && n_filled.min(file.rows) >= lost.rows
    }

    /// Whether the lost file itself stands there again, brought back from a copy.
    fn is_restored(&self, index: usize, folder: &str) -> bool {
        let ResourceState { lost, partitions, .. } = &self.tables[index].state;
        let files = lost.get(folder).zip(partitions.get(folder));
        files.is_some_and(|(lost, file)| file.has_bytes_of(lost))
    }

    /// Whether this run itself has listed all of a partition in which objects may be.
    fn has_listed_all_of(&self, partition: &Partition) -> bool {
        let span = partition.span();
        let files = self.tables[0].state.partitions.values();
        let newest = files.filter_map(|file| Some(file.created?.1)).max().unwrap_or(i64::MAX);
        self.listing.start <= span.start
            && self.asked_until > newest.min(span.end - 1)
            && self.fresh.contains(&self.listed_part(partition))
    }
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
