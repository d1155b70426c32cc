//! Turns files with the columns of another catalog into files with the present ones, before anything is added.

use std::sync::Arc;

use super::Gatherer;
use super::folders::Loss;
use crate::commit::state::FileState;
use crate::decode::schema::{arrow_schema, schema_version};
use crate::error::Result;
use crate::partition::Partition;
use crate::run::partition_commit::{PartitionCommit, commit};

impl Gatherer {
    /// Files of one table have one schema: a reader that takes the columns from the first file would not
    /// see, or misread, those of the others. So this comes first, and also where nothing is listed of a
    /// partition.
    ///
    /// Oldest first: until it is done, readers find the new columns in the first file and fail loudly at
    /// the next, where the other way round they would leave out what is new without a word.
    pub async fn upgrade_files(&mut self) -> Result<()> {
        for index in 0..self.tables.len() {
            let version = schema_version(&arrow_schema(&self.tables[index].resource));
            let partitions = self.tables[index].state.partitions.iter();
            let older = partitions.filter(|(_, file)| file.schema_version != version);
            let older: Vec<Partition> = older.filter_map(|(folder, _)| Partition::parse(folder)).collect();
            for partition in older {
                self.upgrade_file(index, partition).await?;
            }
            self.tables[index].catch_up(&self.setup).await?;
        }
        Ok(())
    }

    async fn upgrade_file(&mut self, index: usize, partition: Partition) -> Result<()> {
        let table = &self.tables[index];
        let known = table.state.partitions.get(&partition.to_string()).cloned();
        let wanted =
            PartitionCommit { known, ..PartitionCommit::new(&self.setup, &table.resource, partition) };
        // Rows may wait already for their own commit; they are not for this one.
        let outcome = commit(wanted, &Arc::default()).await?;
        // A file that somebody took away is made anew by the listing, and not as an empty one here.
        let Some(outcome) = outcome else { return Ok(()) };
        if outcome.lacked_known {
            self.note_lost(index, &[partition], Loss::Overwritten).await?;
        }
        if let Some((written, version)) = outcome.written {
            let table = &mut self.tables[index];
            table.add_file(&self.setup, partition, FileState::new(&written, version.etag())).await?;
        }
        Ok(())
    }
}
