//! One table of the lake while a run works on it: its state, the rows that wait, and what became of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::catalog::Resource;
use crate::commit::Version;
use crate::commit::state::{FileState, LostFile, ResourceState, state_path};
use crate::decode::schema::{arrow_schema, schema_version};
use crate::encode::merge::absent::{Parents, Replaced};
use crate::error::{Error, Result};
use crate::partition::{Grain, Partition};
use crate::run::Setup;
use crate::run::event::Event;
use crate::run::report::TableReport;
use crate::spool::{Budget, Spool};

/// What helps where files and states contradict each other.
pub const LOST_STATE: &str = "restore _stripelake/state from a copy; or move the folders of the table and of what belongs to it away, with their states, and sync again";

/// How often the state is written while files come one after the other: it names all of them each time.
const STATE_EVERY: Duration = Duration::from_secs(1);

/// One table: the resource's own, or a child's.
pub struct Table {
    pub resource: Arc<Resource>,
    pub spool: Spool,
    pub state: ResourceState,
    state_version: Version,
    state_written: Instant,
    /// Whether files were committed since.
    is_behind: bool,
    pub report: TableReport,
}

impl Table {
    /// Reads the state that the lake holds.
    pub async fn open(setup: &Setup, resource: Arc<Resource>, budget: &Budget) -> Result<Table> {
        let schema = arrow_schema(&resource);
        let state = ResourceState::new(&resource.name, &schema_version(&schema));
        let name = resource.name.clone();
        let mut spool = Spool::new(name, schema, budget.clone(), setup.temporary.clone(), setup.encode);
        spool.owner = setup.owner.clone();
        let state_version = Version::Absent;
        let mut table = Table {
            resource,
            spool,
            state,
            state_version,
            state_written: Instant::now(),
            is_behind: false,
            report: TableReport::default(),
        };
        table.reload(setup).await?;
        Ok(table)
    }

    /// The path of an empty file whose folder is of another kind than this one.
    pub fn empty_beside(&self, partition: &Partition) -> Option<String> {
        let files = self.state.partitions.iter().filter(|(_, file)| file.rows == 0);
        let mut folders = files.map(|(folder, _)| folder).chain(&self.state.placeholder);
        let is_other = |other: &Partition| other.grain != partition.grain;
        let empty = folders.find_map(|folder| Partition::parse(folder).filter(is_other))?;
        Some(empty.path(&self.resource.name))
    }

    /// The files of a folder that are lost.
    pub fn lost_files(&self, folder: &str) -> Vec<LostFile> {
        self.state.lost.get(folder).cloned().unwrap_or_default()
    }

    /// The column of the parent's id; empty for a resource.
    pub fn parent_key(&self) -> &str {
        self.resource.parent.as_ref().map_or("", |parent| &parent.key)
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
            state.check_format()?;
            (self.state, self.state_version) = (state, version);
        } else {
            self.adopt(setup).await?;
        }
        self.spool.with_files = self.partitions_with_rows().collect();
        Ok(())
    }

    fn partitions_with_rows(&self) -> impl Iterator<Item = Partition> {
        let with_rows = self.state.partitions.iter().filter(|(_, file)| file.rows > 0);
        with_rows.filter_map(|(folder, _)| Partition::parse(folder))
    }

    /// The partitions that have rows, or may have some that a killed run did not write down.
    pub fn partitions_with_rows_or_begun(&self) -> impl Iterator<Item = Partition> {
        let begun = self.state.begun.iter().filter_map(|folder| Partition::parse(folder));
        self.partitions_with_rows().chain(begun)
    }

    /// Where the state was lost, files may be there nevertheless: another grain would have their rows twice.
    async fn adopt(&mut self, setup: &Setup) -> Result<()> {
        let name = &self.resource.name;
        let mut grains = HashSet::new();
        for path in setup.lake.data_files(name).await? {
            let Some(partition) = Partition::of_path(&path, name) else { continue };
            if self.resource.has_created && partition.grain == Grain::Whole {
                continue;
            }
            grains.insert(partition.grain);
            self.state.begun.insert(partition.to_string());
        }
        if grains.len() > 1 {
            let what =
                format!("{name}: its state is lost, and there are files of several kinds of partitions");
            return Err(Error::integrity(what).hint(LOST_STATE));
        }
        self.state.grain = grains.into_iter().next();
        Ok(())
    }

    pub async fn write_state(&mut self, setup: &Setup) -> Result<()> {
        let path = state_path(&self.resource.name);
        self.state.written_by = Some(setup.run_id.clone());
        self.state_version = setup.lake.write_summed_json(&path, &self.state, &self.state_version).await?;
        (self.state_written, self.is_behind) = (Instant::now(), false);
        Ok(())
    }

    /// Takes note of a committed file. A run that is killed before the state names it leaves one that the next run reads
    /// as any other of an unknown origin.
    pub async fn add_file(&mut self, setup: &Setup, partition: Partition, file: FileState) -> Result<()> {
        (setup.on_event)(Event::File {
            table: self.resource.name.clone(),
            path: partition.path(&self.resource.name),
            rows: file.rows,
            bytes: file.bytes,
        });
        self.report.files_written += 1;
        if file.rows > 0 {
            self.spool.with_files.insert(partition);
        }
        let folder = partition.to_string();
        self.state.begun.remove(&folder);
        self.state.partitions.insert(folder, file);
        self.is_behind = true;
        match self.state_written.elapsed() >= STATE_EVERY {
            true => self.write_state(setup).await,
            false => Ok(()),
        }
    }

    /// Takes note of which lost files are still missed. The state is written with the next ones.
    pub fn still_lost(&mut self, folder: &str, files: Vec<LostFile>) {
        self.is_behind |= self.state.lost.get(folder).is_some_and(|before| *before != files);
        match files.is_empty() {
            true => _ = self.state.lost.remove(folder),
            false => _ = self.state.lost.insert(folder.to_owned(), files),
        }
    }

    /// Writes the state if it lacks a committed file.
    pub async fn catch_up(&mut self, setup: &Setup) -> Result<()> {
        match self.is_behind {
            true => self.write_state(setup).await,
            false => Ok(()),
        }
    }
}
