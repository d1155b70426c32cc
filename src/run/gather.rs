//! Turns the decoded batches of one resource into committed partitions, as soon as their spans are read.
//!
//! | word | of seconds or rows |
//! |---|---|
//! | fresh | seconds that this run has listed |
//! | covered | these, and those that an earlier run of the same listing has read, or kept and this one took up |
//! | settled | seconds whose rows have all been handed to the gatherer |
//! | waits | a row without a partition's file |
//! | kept | a row that waits and is written down under `_stripelake/waiting` |
//! | taken up | a row that an earlier run had kept and that waits in this one |

mod committing;
mod continuing;
mod ending;
mod folders;
mod grain;
mod placeholder;
mod placing;
mod progress;
mod rejected;
pub mod scope;
mod seconds;
mod upgrade;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::catalog::Resource;
use crate::decode::findings::Findings;
use crate::decode::{Decoded, Rejected};
use crate::encode::merge::absent::Replaced;
use crate::error::{Error, Kind, Result};
use crate::partition::{Grain, Partition};
use crate::run::Setup;
use crate::run::event::Event;
use crate::run::gather::grain::{Undecided, stored_grain};
use crate::run::gather::progress::Course;
use crate::run::gather::rejected::RejectedObjects;
use crate::run::gather::scope::{Listing, Scope, without_a_wrong_end};
use crate::run::gather::seconds::Seconds;
use crate::run::gather::waiting::WaitingRows;
use crate::run::table::Table;
use crate::spool::Budget;

/// What readers tell the gatherer of their resource.
pub enum Message {
    Rows(Decoded),
    /// These seconds have been read, and their rows sent before.
    Settled(Range<i64>),
    Rejected(Vec<Rejected>),
    /// Everything has been read.
    Complete,
    /// Nothing more comes, and not everything has been read.
    Broken,
    /// The same, and what came may have been answers to other requests.
    MixedUp,
}

/// Gathers one resource and its children.
pub struct Gatherer {
    setup: Setup,
    /// The resource's own first.
    tables: Vec<Table>,
    scope: Scope,
    seconds: Seconds,
    course: Course,
    grain: Option<Grain>,
    undecided: Undecided,
    /// Partitions that this run has committed. Absence from a second commit of one means nothing.
    committed: HashSet<Partition>,
    /// Parents whose lists were read, for replacing their children.
    parents: HashMap<(Partition, usize), HashMap<String, Replaced>>,
    findings: Findings,
    rejected: RejectedObjects,
    /// What this listing has read and not committed, kept for the case that the run is killed.
    waiting: WaitingRows,
    /// Whether answers to other requests came: nothing is taken any longer.
    is_mixed_up: bool,
}

impl Gatherer {
    /// Reads the states of the tables. `listing` is what will be read; `None` for an import, where absence
    /// means nothing.
    pub async fn open(
        setup: &Setup,
        resource: &Arc<Resource>,
        listing: Option<Listing>,
        budget: &Budget,
    ) -> Result<Gatherer> {
        let mut tables = Vec::new();
        for resource in std::iter::once(resource.clone()).chain(setup.children_of(resource)) {
            tables.push(Table::open(setup, resource, budget).await?);
        }
        let listing = listing.map(|listing| without_a_wrong_end(setup, listing, &mut tables[0].state));
        let grain = if resource.has_created { stored_grain(&tables)? } else { Some(Grain::Whole) };
        let chosen = setup.grains.get(&resource.name).copied();
        if let (Some(grain), Some(chosen), true) = (grain, chosen, listing.is_some())
            && grain != chosen
        {
            let message = format!(
                "{}: its files are by {}, and stay so: another partition is for a new lake",
                resource.name,
                format!("{grain:?}").to_lowercase()
            );
            (setup.on_event)(Event::Warning { message });
        }
        let mut gatherer = Gatherer {
            setup: setup.clone(),
            scope: Scope::of(resource, listing.as_ref()),
            seconds: Seconds::default(),
            course: Course::default(),
            grain: grain.or(chosen),
            tables,
            undecided: Undecided::default(),
            committed: HashSet::new(),
            parents: HashMap::new(),
            findings: Findings::default(),
            rejected: RejectedObjects::default(),
            waiting: WaitingRows::new(&resource.name, &setup.run_id),
            is_mixed_up: false,
        };
        if let Some(listing) = listing {
            gatherer.continue_from_state(&listing).await?;
        }
        Ok(gatherer)
    }

    /// Whose the files are that will be written.
    pub fn belong_to(&mut self, owner: Option<Arc<str>>) {
        self.tables.iter_mut().for_each(|table| table.spool.owner = owner.clone());
        self.setup.owner = owner;
    }

    /// Takes one message; commits the partitions that it completes.
    pub async fn take(&mut self, message: Message) -> Result<()> {
        match message {
            _ if self.is_mixed_up => Ok(()),
            Message::Rows(decoded) => self.rows(decoded),
            Message::Settled(span) => {
                self.course.has_unsaved |= self.seconds.settle(span);
                self.choose_grain(self.seconds.covered.contains(&self.scope.span));
                self.place_undecided()?;
                self.commit_settled().await
            }
            Message::Rejected(rejected) => self.reject(rejected).await,
            Message::Complete => self.complete().await,
            Message::Broken => self.break_off().await,
            Message::MixedUp => self.forget_reading().await,
        }
    }

    /// Reads the states again once the lock is held; another run may have ended in between.
    pub async fn reload_states(&mut self) -> Result<()> {
        for table in &mut self.tables {
            table.reload(&self.setup).await?;
        }
        let stored = stored_grain(&self.tables)?;
        self.grain = self.grain.or(stored);
        if self.grain.is_some()
            && stored.is_some()
            && stored != self.grain
            && self.tables[0].resource.has_created
        {
            return Err(Error::new(
                Kind::Locked,
                "another run chose the partitions of this resource meanwhile",
            )
            .hint("run the same command again"));
        }
        self.disown_kept().await
    }

    async fn reject(&mut self, rejected: Vec<Rejected>) -> Result<()> {
        for object in rejected {
            let resource = object.resource.clone();
            if !self.rejected.add(object) {
                continue;
            }
            if let Some(table) = self.tables.iter_mut().find(|t| t.resource.name == resource) {
                table.report.rejected += 1;
            }
        }
        let Err(error) = self.rejected.check_size() else { return Ok(()) };
        if !self.scope.is_listing {
            // An import has no lock yet, and may write nothing.
            return Err(error.hint("is it a file of this resource, and of this version of its API?"));
        }
        // Whoever looks into it needs some of them.
        let _ = self.rejected.write(&self.setup.lake, &self.setup.run_id).await;
        Err(error)
    }
}
