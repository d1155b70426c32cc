//! Turns a table without rows into one empty file, which gives way to the first real one.
//!
//! The state names the folder before the file is made and until it is gone, so that a run that is killed
//! in between leaves no empty file that nobody knows, whose folder may have another key than the real ones.

use std::sync::Arc;

use super::Gatherer;
use crate::commit::state::FileState;
use crate::error::Result;
use crate::partition::{Grain, Partition};
use crate::run::partition_commit::{Outcome, PartitionCommit, commit};

impl Gatherer {
    /// An empty file with the full schema, so that a glob and a view work for a resource without rows.
    pub(super) async fn write_placeholder(&mut self, index: usize) -> Result<()> {
        let now = self.setup.started_at.as_second();
        let grain = self.grain.unwrap_or(Grain::Year);
        let table = &mut self.tables[index];
        // One that was begun may be there already.
        let begun = table.state.placeholder.as_deref().and_then(Partition::parse);
        let partition = begun.unwrap_or_else(|| grain.partition_of(now));
        let folder = partition.to_string();
        if table.state.placeholder.as_ref() != Some(&folder) {
            table.state.placeholder = Some(folder.clone());
            table.write_state(&self.setup).await?;
        }
        let wanted = PartitionCommit::new(&self.setup, &table.resource, partition);
        let outcome = commit(wanted, &Arc::default()).await?;
        if let Some(Outcome { written: Some((written, version)), .. }) = outcome {
            table.state.partitions.insert(folder, FileState::new(&written, version.etag()));
            table.write_state(&self.setup).await?;
        }
        Ok(())
    }

    /// Takes the empty file away, once there is one with rows. In a folder of the same kind it may stay:
    /// it is a partition like any other.
    pub(super) async fn remove_placeholder(&mut self, index: usize) -> Result<()> {
        let table = &mut self.tables[index];
        let partitions = &mut table.state.partitions;
        let real = partitions.iter().find(|(_, file)| file.rows > 0);
        let Some(real) = real.and_then(|(folder, _)| Partition::parse(folder)) else { return Ok(()) };
        let is_other = |folder: &str| Partition::parse(folder).is_some_and(|p| p.grain != real.grain);
        let empty = partitions.iter().find(|(folder, file)| file.rows == 0 && is_other(folder));
        let Some(folder) = empty.map(|(folder, _)| folder.clone()).or(table.state.placeholder.clone()) else {
            return Ok(());
        };
        let partition = Partition::parse(&folder);
        if let Some(partition) = partition.filter(|_| is_other(&folder) || !partitions.contains_key(&folder))
        {
            partitions.remove(&folder);
            table.state.placeholder = Some(folder);
            table.write_state(&self.setup).await?;
            self.setup.lake.remove(&partition.path(&table.resource.name)).await?;
        }
        table.state.placeholder = None;
        table.write_state(&self.setup).await
    }
}
