//! What the lake remembers between runs, as JSON under `_stripelake`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::commit::listed::Listed;
use crate::encode::Written;
use crate::encode::ids::Ids;
use crate::error::{Error, Result};
use crate::partition::Grain;

/// The version of the lake's layout that this program writes.
pub const FORMAT: u32 = 1;

pub const LAKE: &str = "_stripelake/lake.json";

/// The folder of rows that wait for their partition.
pub const WAITING: &str = "_stripelake/waiting";

/// The folder of the states.
pub const STATES: &str = "_stripelake/state";

/// Where a resource's state is.
pub fn state_path(resource: &str) -> String {
    format!("{STATES}/{resource}.json")
}

/// Where a run's report is.
pub fn run_path(run_id: &str) -> String {
    format!("_stripelake/runs/{run_id}.json")
}

/// Where a run keeps the objects of a resource that could not be rows.
pub fn rejected_path(run_id: &str, resource: &str) -> String {
    format!("_stripelake/rejected/{run_id}/{resource}.ndjson")
}

/// Where the `n`-th file of a run stands with rows of a resource that wait for their partition.
pub fn waiting_path(resource: &str, run_id: &str, n: usize) -> String {
    format!("{WAITING}/{resource}-{run_id}-{n}.arrows")
}

/// Whether such a file is one of the resource.
pub fn is_waiting_path(path: &str, resource: &str) -> bool {
    let name = path.strip_prefix(WAITING).and_then(|name| name.strip_prefix('/'));
    name.and_then(|name| name.strip_prefix(resource)).is_some_and(|rest| rest.starts_with('-'))
}

/// `lake.json`: to whom the lake belongs. Account and mode are unknown until a sync with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LakeInfo {
    pub format: u32,
    pub account: Option<String>,
    pub livemode: Option<bool>,
    pub stripe_version: String,
}

impl LakeInfo {
    /// As its files say it: `None` until the account is known.
    pub fn owner(&self) -> Option<Arc<str>> {
        let mode = if self.livemode? { "live" } else { "test" };
        Some(format!("{} {mode}", self.account.as_ref()?).into())
    }

    /// Refuses a lake that a newer program wrote.
    pub fn check_format(&self) -> Result<()> {
        check_format("the lake", self.format)
    }
}

fn check_format(what: &str, format: u32) -> Result<()> {
    if format > FORMAT {
        return Err(Error::usage(format!("{what} has format {format}, expected at most {FORMAT}"))
            .hint("use the newer stripelake that wrote it"));
    }
    Ok(())
}

/// `state/<resource>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceState {
    pub format: u32,
    pub resource: String,
    /// Chosen at the first sync that saw rows; `None` while there were none.
    pub grain: Option<Grain>,
    /// Everything that was created before this second (Stripe's clock) has been listed.
    pub complete_until: Option<i64>,
    /// When complete listings, also of a window, have read which objects.
    #[serde(default, skip_serializing_if = "Listed::is_empty")]
    pub listed: Listed,
    pub schema_version: String,
    /// The run that wrote this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_by: Option<String>,
    /// What a listing that has not come to its end has read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The same of a listing for less, while a longer one waits to be continued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Progress>,
    /// The folder of an empty file that is being made or taken away, or is all there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<String>,
    /// Folders whose file may be there already, though `partitions` does not name it: a run may be killed between a file and
    /// the state.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub begun: BTreeSet<String>,
    /// Folders whose files went away with their rows, or were overwritten, and those files: what stands there now is not all, until
    /// all of it is listed or restored or, if it went away, imported.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lost: BTreeMap<String, Vec<LostFile>>,
    /// By folder name; `""` is the only file of a resource without partitions.
    pub partitions: BTreeMap<String, FileState>,
}

impl ResourceState {
    pub fn new(resource: &str, schema_version: &str) -> ResourceState {
        ResourceState {
            format: FORMAT,
            resource: resource.to_owned(),
            grain: None,
            complete_until: None,
            listed: Listed::default(),
            schema_version: schema_version.to_owned(),
            written_by: None,
            progress: None,
            window: None,
            placeholder: None,
            begun: BTreeSet::new(),
            lost: BTreeMap::new(),
            partitions: BTreeMap::new(),
        }
    }

    /// Refuses a state that a newer program wrote.
    pub fn check_format(&self) -> Result<()> {
        check_format(&state_path(&self.resource), self.format)
    }

    /// What an unfinished listing has read.
    pub fn progress_of(&mut self, extent: Extent) -> &mut Option<Progress> {
        match extent {
            Extent::Longest => &mut self.progress,
            Extent::Window => &mut self.window,
        }
    }

    /// Whether a file in this folder is, or may be, one of the lake.
    pub fn names(&self, folder: &str) -> bool {
        let is_placeholder = self.placeholder.as_deref() == Some(folder);
        self.partitions.contains_key(folder) || self.begun.contains(folder) || is_placeholder
    }

    pub fn n_rows(&self) -> u64 {
        self.partitions.values().map(|file| file.rows).sum()
    }

    pub fn n_bytes(&self) -> u64 {
        self.partitions.values().map(|file| file.bytes).sum()
    }
}

/// Which of two unfinished listings of one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extent {
    /// The one that lists most.
    #[default]
    Longest,
    /// One for a part of that.
    Window,
}

/// How far a listing got that ended early. Spans are half open, in unix seconds of Stripe's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When the listing began.
    pub began: i64,
    /// When its present run began; younger objects may not have been visible yet.
    pub listed_at: i64,
    /// What it lists.
    pub span: (i64, i64),
    pub stripe_version: String,
    pub schema_version: String,
    /// Disjoint seconds, oldest first. All of their objects, and what belongs to these, stand in files
    /// that the states name, or in those of `rejected`.
    pub read: Vec<(i64, i64)>,
    /// Other such seconds; what is missing in the files of the tables stands in those of `waiting`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<(i64, i64)>,
    /// Rows that wait for their partition, oldest observation first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingFile>,
    /// When the listing began by the clock of the machine, in microseconds since 1970.
    #[serde(default)]
    pub began_here: i64,
    /// The run that wrote this. Another one that has written one of the states since may have seen newer rows than those
    /// that wait.
    #[serde(default)]
    pub run: String,
    /// The files with those of their objects that could not be rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<String>,
    /// There were no rows when it began, so every file is of its own making.
    #[serde(default)]
    pub from_nothing: bool,
}

/// One file of rows that wait for their partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingFile {
    pub path: String,
    pub bytes: u64,
    pub crc32: String,
    /// Of its rows count those whose objects were created in these seconds, disjoint and oldest first.
    pub seconds: Vec<(i64, i64)>,
}

/// One partition file, as it was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    pub rows: u64,
    pub bytes: u64,
    pub crc32: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// First and last `created`, unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<(i64, i64)>,
    /// The sum of its ids, in hexadecimal digits; see [`Ids`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<String>,
    pub schema_version: String,
}

/// A file that was there, and is no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostFile {
    #[serde(flatten)]
    pub file: FileState,
    /// Whether another one stood in its place that was not made from it, such as an older copy: that may have the same objects as
    /// they were before.
    #[serde(default)]
    pub is_overwritten: bool,
}

fn shown(ids: Ids) -> String {
    format!("{:016x}", ids.sum)
}

impl FileState {
    pub fn new(written: &Written, etag: Option<&str>) -> FileState {
        let secs = |us: i64| us.div_euclid(1_000_000);
        FileState {
            rows: written.n_rows,
            bytes: written.n_bytes,
            crc32: written.crc32.clone(),
            etag: etag.map(str::to_owned),
            created: written.created.map(|(first, last)| (secs(first), secs(last))),
            ids: Some(shown(written.ids)),
            schema_version: written.schema_version.clone(),
        }
    }

    /// Whether this is the same file, wherever it was copied to.
    pub fn has_bytes_of(&self, other: &FileState) -> bool {
        (self.bytes, &self.crc32) == (other.bytes, &other.crc32)
    }

    /// Whether these, of the seconds in which its rows were created, are its ids, and no other ones.
    pub fn has_ids(&self, ids: Ids) -> bool {
        ids.n == self.rows && self.ids.as_ref() == Some(&shown(ids))
    }

    /// Whether these ids, of the same seconds, lack some of its own, as far as their number tells.
    pub fn has_more_than(&self, ids: Ids) -> bool {
        ids.n < self.rows || (ids.n == self.rows && self.ids.is_some() && !self.has_ids(ids))
    }

    /// Whether the object with this entity tag is the file.
    pub fn is_of(&self, etag: &str) -> bool {
        self.etag.as_deref() == Some(etag)
    }
}
