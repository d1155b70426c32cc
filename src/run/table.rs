//! One table of the lake while a run works on it: its state, the rows that wait, and what became of it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::catalog::Resource;
use crate::commit::Version;
use crate::commit::state::{ResourceState, state_path};
use crate::decode::schema::{arrow_schema, schema_version};
use crate::encode::merge::absent::{Parents, Replaced};
use crate::error::Result;
use crate::partition::Partition;
use crate::run::Setup;
use crate::run::report::TableReport;
use crate::spool::away::FileCopy;
use crate::spool::{Budget, Gathered, Spool};

/// One table: the resource's own, or a child's.
pub struct Table {
    pub resource: Arc<Resource>,
    /// Rows that wait for their partition. For a child, by how often their parent's list had been read before them.
    spools: Vec<Spool>,
    budget: Budget,
    pub state: ResourceState,
    state_version: Version,
    pub report: TableReport,
}

impl Table {
    /// Reads the state that the lake holds.
    pub async fn open(setup: &Setup, resource: Arc<Resource>, budget: &Budget) -> Result<Table> {
        let state = ResourceState::new(&resource.name, &schema_version(&arrow_schema(&resource)));
        let (state_version, report) = (Version::Absent, TableReport::default());
        let (spools, budget) = (Vec::new(), budget.clone());
        let mut table = Table { resource, spools, budget, state, state_version, report };
        table.reload(setup).await?;
        Ok(table)
    }

    /// The column of the parent's id; empty for a resource.
    pub fn parent_key(&self) -> &str {
        self.resource.parent.as_ref().map_or("", |parent| &parent.key)
    }

    /// Adds rows that wait for their partition, and that may stand in a file as well.
    pub fn push(
        &mut self,
        setup: &Setup,
        partition: Partition,
        rows: RecordBatch,
        times: usize,
        copy: Option<FileCopy>,
    ) -> Result<()> {
        while self.spools.len() <= times {
            let schema = arrow_schema(&self.resource);
            self.spools.push(Spool::new(schema, self.budget.clone(), setup.temporary.clone(), setup.encode));
        }
        self.spools[times].push(partition, rows, copy)
    }

    /// The partitions for which rows wait.
    pub fn partitions(&self) -> BTreeSet<Partition> {
        self.spools.iter().flat_map(Spool::partitions).collect()
    }

    /// Hands over the rows that wait for a partition.
    pub fn take(&mut self, partition: &Partition) -> Result<Vec<Gathered>> {
        self.spools.iter_mut().map(|spool| spool.take(partition)).collect()
    }

    /// For a child: what became of its parents. A row that was refused is absent and yet not gone, so
    /// nothing is taken away then.
    pub fn parents(
        &self,
        replaced: HashMap<String, Replaced>,
        outdated: &Arc<HashSet<String>>,
    ) -> Option<Parents> {
        let parent = self.resource.parent.as_ref()?;
        let mut replaced = if self.report.rejected == 0 { replaced } else { HashMap::new() };
        replaced.retain(|id, _| !outdated.contains(id));
        Some(Parents { key: parent.key.clone(), replaced: Arc::new(replaced), outdated: outdated.clone() })
    }

    /// Reads the state again; another run may have ended since.
    pub async fn reload(&mut self, setup: &Setup) -> Result<()> {
        let stored = setup.lake.read_json::<ResourceState>(&state_path(&self.resource.name)).await?;
        if let Some((state, version)) = stored {
            (self.state, self.state_version) = (state, version);
        }
        Ok(())
    }

    pub async fn write_state(&mut self, setup: &Setup) -> Result<()> {
        let path = state_path(&self.resource.name);
        self.state.written_by = Some(setup.run_id.clone());
        self.state_version = setup.lake.write_json(&path, &self.state, &self.state_version).await?;
        Ok(())
    }
}
