//! Compares the files in a table's folder with its state: those of ours that one of them lacks, and those of others.

use super::Gatherer;
use crate::error::{Error, Result};
use crate::partition::Partition;
use crate::run::event::Event;

impl Gatherer {
    /// A reader's glob takes all files in the folder for ours, and counts their rows, too. Those that stand where ours would are
    /// looked at like others whose run was killed. What is not there is noted as lost.
    pub(super) async fn compare_folders(&mut self) -> Result<()> {
        for index in 0..self.tables.len() {
            let name = self.tables[index].resource.name.clone();
            let found = self.setup.lake.data_files(&name).await?;
            let (mut unnamed, mut strangers) = (Vec::new(), Vec::new());
            for path in &found {
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
            let named = table.state.partitions.keys().filter_map(|folder| Partition::parse(folder));
            let missing: Vec<Partition> =
                named.filter(|partition| found.binary_search(&partition.path(&name)).is_err()).collect();
            let mut is_changed = !unnamed.is_empty();
            table.state.begun.extend(unnamed);
            for partition in missing {
                is_changed |= self.note_missing(index, partition).await?;
            }
            if is_changed {
                self.tables[index].write_state(&self.setup).await?;
            }
        }
        Ok(())
    }

    /// Takes note of a file that the state names and no list does. Returns whether the state has changed by that.
    async fn note_missing(&mut self, index: usize, partition: Partition) -> Result<bool> {
        let table = &mut self.tables[index];
        let path = partition.path(&table.resource.name);
        let is_local = self.setup.lake.local_path(&path).is_some();
        match (self.setup.lake.exists(&path).await?, is_local) {
            // Behind a link to a folder, which is not followed.
            (true, true) => return Ok(false),
            (true, false) => {
                let what = format!("{path}: expected it in the list of its folder, and it is not there");
                return Err(Error::destination(what)
                    .hint("the file itself is there: the store's list cannot be trusted; try again later"));
            }
            (false, _) => {}
        }
        let (partitions, folder) = (&mut table.state.partitions, partition.to_string());
        if partitions.get(&folder).is_some_and(|file| file.rows > 0) {
            self.gone.insert((index, partition));
            return Ok(false);
        }
        // An empty one is made again where the table needs it.
        Ok(partitions.remove(&folder).is_some())
    }

    /// After everything was committed: what was lost is whole again only where all of it was listed.
    pub(super) async fn tell_lost(&mut self) -> Result<()> {
        for (index, partition) in std::mem::take(&mut self.gone) {
            let is_listed = self.is_listing && self.lists_all_of(&partition);
            let table = &mut self.tables[index];
            let path = partition.path(&table.resource.name);
            match self.setup.lake.exists(&path).await? && (is_listed || !self.is_listing) {
                true => {
                    let message = format!(
                        "{path} was lost and is made anew; what was deleted in Stripe, or not imported now, is not in it"
                    );
                    (self.setup.on_event)(Event::Warning { message });
                }
                false => table.report.lost.push(path),
            }
        }
        Ok(())
    }

    fn lists_all_of(&self, partition: &Partition) -> bool {
        let span = partition.span();
        let files = self.tables[0].state.partitions.values();
        let newest = files.filter_map(|file| Some(file.created?.1)).max().unwrap_or(i64::MAX);
        self.listing.start <= span.start && self.listing.end > newest.min(span.end - 1)
    }
}
