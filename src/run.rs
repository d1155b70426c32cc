//! The story of the program: the only place that calls the stages, and the only one with tasks.
//!
//! `sync` lists every resource in slices, several at once: a page is decoded where its answer came,
//! batches gather by partition, and a partition is merged with its old file, encoded and
//! committed as soon as its span has been read. `import` does the same with files instead of pages.

pub mod estimate;
pub mod event;
mod follow;
mod gather;
pub mod import;
pub mod location;
pub mod owner;
mod partition_commit;
mod reading;
pub mod report;
mod signal;
mod slices;
pub mod sql;
pub mod sync;
mod table;
mod taking;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::catalog::{Catalog, Resource};
use crate::commit::Lake;
use crate::encode;
use crate::partition::Grain;
use crate::run::event::{Event, OnEvent};

/// What every command that writes a lake needs.
#[derive(Clone)]
pub struct Setup {
    pub catalog: Arc<Catalog>,
    pub lake: Arc<Lake>,
    /// Whose lake it is, as its files say it; `None` until that is known.
    pub owner: Option<Arc<str>>,
    /// Names this run in the lake.
    pub run_id: String,
    pub started_at: Timestamp,
    pub encode: encode::Options,
    /// Bytes of decoded rows that may wait in memory for their partition to be complete.
    pub memory: usize,
    /// Where rows wait that do not fit.
    pub temporary: PathBuf,
    /// Grains that the user chose, by resource.
    pub grains: HashMap<String, Grain>,
    /// How long to wait for the lock.
    pub wait_lock: std::time::Duration,
    pub on_event: OnEvent,
}

impl Setup {
    /// Tells that this run waits for another one, for so long at most.
    fn on_wait(&self, wait: std::time::Duration) -> impl FnOnce(String) {
        let (on_event, at_most_secs) = (self.on_event.clone(), wait.as_secs_f64());
        move |holder| on_event(Event::Waiting { holder, at_most_secs })
    }

    /// Has it told where the lake's store takes long.
    fn tell_delays(&self) {
        let on_event = self.on_event.clone();
        self.lake.on_delay(move |delay| on_event(delay.into()));
    }

    fn children_of(&self, resource: &Resource) -> Vec<Arc<Resource>> {
        self.catalog.children_of(&resource.name).cloned().collect()
    }
}
