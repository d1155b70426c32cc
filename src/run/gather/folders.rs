//! Compares the files in a table's folder with its state: those of ours that one of them lacks, and those of others.

use std::collections::BTreeSet;

use super::Gatherer;
use crate::commit::state::FileState;
use crate::error::{Error, Result};
use crate::partition::Partition;
use crate::run::Setup;
use crate::run::event::Event;
use crate::run::report::named;
use crate::run::table::Table;

impl Gatherer {
    /// A reader's glob takes all files in the folder for ours, and counts their rows, too. Those that stand where ours would are
    /// looked at like others whose run was killed. What is not there is noted as lost. Returns the partitions with a file
    /// that is another than its state says.
    pub(super) async fn compare_folders(&mut self) -> Result<BTreeSet<Partition>> {
        let mut others = BTreeSet::new();
        for index in 0..self.tables.len() {
            let name = self.tables[index].resource.name.clone();
            let found = self.setup.lake.data_versions(&name).await?;
            let (mut unnamed, mut strangers) = (Vec::new(), Vec::new());
            for path in found.keys() {
                match Partition::of_path(path, &name) {
                    Some(partition) if self.tables[index].state.names(&partition.to_string()) => {}
                    Some(partition) if Some(partition.grain) == self.grain => {
                        unnamed.push(partition.to_string())
                    }
                    _ => strangers.push(path.clone()),
                }
            }
            let table = &mut self.tables[index];
            table.report.strangers = strangers;
            let mut is_changed = !unnamed.is_empty();
            table.state.begun.extend(unnamed);
            let mut lost = Vec::new();
            for (folder, known) in table.state.partitions.clone() {
                let Some(partition) = Partition::parse(&folder) else { continue };
                let path = partition.path(&name);
                if let Some(version) = found.get(&path) {
                    let Some(etag) = version.etag().filter(|etag| !known.is_of(etag)) else { continue };
                    match self.is_unchanged(&path, &known).await? {
                        // The lake was copied. The next run need not read the file again.
                        true => {
                            let known = FileState { etag: Some(etag.to_owned()), ..known };
                            self.tables[index].state.partitions.insert(folder, known);
                            is_changed = true;
                        }
                        false => _ = others.insert(partition),
                    }
                } else if is_there(&self.setup, &path).await? {
                    continue;
                } else if known.rows > 0 {
                    lost.push(partition);
                } else {
                    // An empty one is made again where the table needs it.
                    self.tables[index].state.partitions.remove(&folder);
                    is_changed = true;
                }
            }
            self.note_lost(index, &lost).await?;
            if is_changed {
                self.tables[index].write_state(&self.setup).await?;
            }
        }
        Ok(others)
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
        let n_before = table.state.lost.len();
        table.state.lost.extend(partitions.iter().map(Partition::to_string));
        match table.state.lost.len() > n_before {
            true => table.write_state(&self.setup).await,
            false => Ok(()),
        }
    }

    /// After everything was committed: what was lost is whole again only where all of it was listed, or imported.
    pub(super) async fn tell_lost(&mut self) -> Result<()> {
        let (mut made_anew, mut forgotten) = (Vec::new(), Vec::new());
        for index in 0..self.tables.len() {
            for (partition, path) in self.lost(index) {
                let is_listed = self.is_listing && self.has_listed_all_of(&partition);
                let folder = partition.to_string();
                match self.setup.lake.exists(&path).await? {
                    true if is_listed || self.is_imported(&partition) => made_anew.push(path),
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
            (
                made_anew,
                "was lost and is made anew; what was deleted in Stripe, or not imported now, is not in it",
            ),
            (forgotten, "was lost, and Stripe lists nothing of it any longer"),
        ] {
            if !paths.is_empty() {
                (self.setup.on_event)(Event::Warning { message: format!("{} {what}", named(&paths)) });
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
        let partitions = state.lost.iter().filter_map(|folder| Partition::parse(folder));
        partitions.map(|partition| (partition, partition.path(&resource.name))).collect()
    }

    /// Whether rows of this import went into a partition: they may be those that were lost.
    fn is_imported(&self, partition: &Partition) -> bool {
        !self.is_listing && self.filled.contains(partition)
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
        // It may be behind a link to a folder, which is not followed.
        (is_there, _) => Ok(is_there),
    }
}
