//! Finds the files in a table's folder that are not of the lake.

use std::collections::HashSet;

use super::Gatherer;
use crate::error::Result;
use crate::partition::Partition;

impl Gatherer {
    /// A reader's glob takes them for ours, and counts their rows, too.
    pub(super) async fn find_strangers(&mut self) -> Result<()> {
        for table in &mut self.tables {
            let (name, state) = (&table.resource.name, &table.state);
            let folders = state.partitions.keys().chain(&state.begun).chain(&state.placeholder);
            let own: HashSet<String> =
                folders.filter_map(|folder| Some(Partition::parse(folder)?.path(name))).collect();
            let mut found = self.setup.lake.data_files(name).await?;
            found.retain(|path| !own.contains(path));
            table.report.strangers = found;
        }
        Ok(())
    }
}
