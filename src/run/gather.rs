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
mod upgrade;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::catalog::Resource;
use crate::commit::state::{Extent, Progress, ResourceState};
use crate::decode::findings::Findings;
use crate::decode::{Decoded, Rejected};
use crate::encode::merge::absent::Replaced;
use crate::error::{Error, Kind, Result};
use crate::partition::{Grain, Partition};
use crate::plan::coverage::Coverage;
use crate::run::Setup;
use crate::run::event::Event;
use crate::run::gather::grain::stored_grain;
use crate::run::gather::rejected::RejectedObjects;
use crate::run::gather::waiting::WaitingRows;
use crate::run::table::Table;
use crate::spool::Budget;
use crate::spool::away::FileCopy;

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

/// What is listed, and how.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Seconds of `created`.
    pub span: Range<i64>,
    /// What is there already and was created behind the span, but before this second, is taken along.
    pub asked_until: i64,
    /// Stripe's clock, unix seconds. Without it the progress is not kept.
    pub now: Option<i64>,
    pub stripe_version: String,
    /// About when the account's objects begin.
    pub first_object: i64,
    /// Nothing that an earlier run has read is continued.
    pub starts_over: bool,
}

/// Gathers one resource and its children.
pub struct Gatherer {
    setup: Setup,
    /// The resource's own first.
    tables: Vec<Table>,
    /// The seconds that this run lists.
    listing: Range<i64>,
    asked_until: i64,
    /// Whether pages are listed now; otherwise files are imported.
    is_listing: bool,
    /// Whether absence from a complete listing means that Stripe has deleted the object.
    marks_vanished: bool,
    /// Seconds that this run has read.
    fresh: Coverage,
    /// Those, and what an earlier run of the same listing has read and committed.
    covered: Coverage,
    /// What the state will say of the listing when it ends early; `None` where it cannot be continued.
    progress: Option<Progress>,
    /// Where the state keeps that.
    extent: Extent,
    /// Whether an earlier run has begun the listing.
    is_continued: bool,
    /// Where begins what it could not have seen.
    news_from: Option<i64>,
    /// Whether something was settled that the state does not know of.
    has_unsaved: bool,
    /// Rows of the resource itself since the progress was last written.
    n_unsaved: u64,
    first_object: i64,
    grain: Option<Grain>,
    /// Batches that came before the grain was chosen.
    undecided: Vec<(Decoded, Vec<FileCopy>)>,
    n_undecided: u64,
    undecided_bytes: usize,
    /// Partitions that this run has committed. Absence from a second commit of one means nothing.
    committed: HashSet<Partition>,
    /// Parents whose lists were read, for replacing their children.
    parents: HashMap<(Partition, usize), HashMap<String, Replaced>>,
    findings: Findings,
    rejected: RejectedObjects,
    /// What this listing has read and not committed, kept for the case that the run is killed.
    waiting: WaitingRows,
    /// The seconds of which an earlier run's rows were taken up.
    taken_up: Coverage,
    /// Why rows that an earlier run has kept are not.
    lost: Option<&'static str>,
    /// Whether answers to other requests came: nothing is taken any longer.
    is_mixed_up: bool,
    /// Whether everything was committed, and the state still says how far it was read.
    is_closed: bool,
    /// What the listing has not read at its end: it was lost in the meantime.
    unread: Vec<Range<i64>>,
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
            is_listing: listing.is_some(),
            marks_vanished: listing.is_some() && resource.deletable,
            listing: listing.as_ref().map_or(0..i64::MAX, |listing| listing.span.clone()),
            asked_until: listing.as_ref().map_or(i64::MAX, |listing| listing.asked_until),
            grain: grain.or(chosen),
            tables,
            fresh: Coverage::default(),
            covered: Coverage::default(),
            progress: None,
            extent: Extent::Longest,
            is_continued: false,
            news_from: None,
            has_unsaved: false,
            n_unsaved: 0,
            first_object: listing.as_ref().map_or(0, |listing| listing.first_object),
            undecided: Vec::new(),
            n_undecided: 0,
            undecided_bytes: 0,
            committed: HashSet::new(),
            parents: HashMap::new(),
            findings: Findings::default(),
            rejected: RejectedObjects::default(),
            waiting: WaitingRows::new(&resource.name, &setup.run_id),
            taken_up: Coverage::default(),
            lost: None,
            is_mixed_up: false,
            is_closed: false,
            unread: Vec::new(),
        };
        if let Some(listing) = listing {
            gatherer.continue_from_state(&listing).await?;
        }
        Ok(gatherer)
    }

    /// Takes one message; commits the partitions that it completes.
    pub async fn take(&mut self, message: Message) -> Result<()> {
        match message {
            _ if self.is_mixed_up => Ok(()),
            Message::Rows(decoded) => self.rows(decoded),
            Message::Settled(span) => {
                self.has_unsaved |= !self.covered.contains(&span);
                self.fresh.add(span.clone());
                self.covered.add(span);
                self.choose_grain(self.covered.contains(&self.listing));
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
        if !self.is_listing {
            // An import has no lock yet, and may write nothing.
            return Err(error.hint("is it a file of this resource, and of this version of its API?"));
        }
        // Whoever looks into it needs some of them.
        let _ = self.rejected.write(&self.setup.lake, &self.setup.run_id).await;
        Err(error)
    }
}

/// Clocks, and answers on their way, may differ by so many seconds.
const CLOCKS_DIFFER: i64 = 60;

/// Stripe's clock cannot be earlier than what has been listed by it, or was created by it. Where it is, and this machine's says
/// otherwise, it is wrong, and would leave out what is new: nothing is left out then.
fn without_a_wrong_end(setup: &Setup, listing: Listing, state: &mut ResourceState) -> Listing {
    let Some(now) = listing.now.filter(|now| listing.span.end == now + 1) else { return listing };
    // Stripe has more than one clock, and an unfinished listing may have begun by a faster one.
    let begun = state.progress.iter().chain(&state.window).map(|progress| progress.listed_at);
    let now = begun.filter(|begun| (now..=now + CLOCKS_DIFFER).contains(begun)).max().unwrap_or(now);
    let listing = Listing { span: listing.span.start..now + 1, now: Some(now), ..listing };
    let is_later = |time: i64| time > now + CLOCKS_DIFFER;
    let newest = state.partitions.values().filter_map(|file| Some(file.created?.1)).max();
    if !state.complete_until.is_some_and(is_later) && !newest.is_some_and(is_later) {
        return listing;
    }
    if (now - setup.started_at.as_second()).abs() <= CLOCKS_DIFFER {
        // Then it was wrong before.
        state.complete_until = None;
        return listing;
    }
    let message = format!(
        "{}: Stripe's clock is behind what was listed by it before: everything is listed, whatever its time",
        state.resource
    );
    (setup.on_event)(Event::Warning { message });
    Listing { span: listing.span.start..i64::MAX, now: None, ..listing }
}
