//! Finds the files in a table's folder that the state does not name: ours of which it was lost, and those of others.

use super::Gatherer;
use crate::error::Result;
use crate::partition::Partition;

impl Gatherer {
    /// A reader's glob takes all of them for ours, and counts their rows, too. Those that stand where ours would are looked at
    /// like others whose run was killed.
    pub(super) async fn find_strangers(&mut self) -> Result<()> {
        for table in &mut self.tables {
            let name = &table.resource.name;
            let (mut lost, mut strangers) = (Vec::new(), Vec::new());
            for path in self.setup.lake.data_files(name).await? {
                match Partition::of_path(&path, name) {
                    Some(partition) if table.state.names(&partition.to_string()) => {}
                    Some(partition) if Some(partition.grain) == self.grain => {
                        lost.push(partition.to_string())
                    }
                    _ => strangers.push(path),
                }
            }
            table.report.strangers = strangers;
            if !lost.is_empty() {
                table.state.begun.extend(lost);
                table.write_state(&self.setup).await?;
            }
        }
        Ok(())
    }
}
