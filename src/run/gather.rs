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

use jiff::Timestamp;

use crate::catalog::Resource;
use crate::commit::state::{Extent, FileState, Progress, ResourceState};
use crate::decode::findings::Findings;
use crate::decode::{Decoded, Rejected};
use crate::encode::merge::absent::Replaced;
use crate::encode::merge::age::OldAge;
use crate::error::{Error, Kind, Result};
use crate::partition::{Grain, Partition};
use crate::plan::coverage::Coverage;
use crate::run::Setup;
use crate::run::event::Event;
use crate::run::gather::grain::stored_grain;
use crate::run::gather::rejected::RejectedObjects;
use crate::run::gather::waiting::WaitingRows;
use crate::run::partition_commit::{Committed, Outcome, PartitionCommit, commit};
use crate::run::table::Table;
use crate::spool::away::FileCopy;
use crate::spool::{Budget, Gathered};

/// What readers tell the gatherer of their resource.
pub enum Message {
    Rows(Decoded),
    /// These seconds have been read, and their rows sent before.
    Settled(Range<i64>),
    Rejected(Vec<Rejected>),
    /// Everything has been read.
    Complete(Outlook),
    /// Nothing more comes, and not everything has been read.
    Broken,
}

/// What becomes of the run when one of its resources is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// It goes to its end.
    Whole,
    /// A budget or a signal ended it: the next run goes on with the other resources and need not list this
    /// one again.
    EndedEarly,
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
        };
        if let Some(listing) = listing {
            gatherer.continue_from_state(&listing).await?;
        }
        Ok(gatherer)
    }

    /// Takes one message; commits the partitions that it completes.
    pub async fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Rows(decoded) => self.rows(decoded),
            Message::Settled(span) => {
                self.has_unsaved |= !self.covered.contains(&span);
                self.fresh.add(span.clone());
                self.covered.add(span);
                self.choose_grain(self.covered.contains(&self.listing));
                self.place_undecided()?;
                self.commit_settled().await
            }
            Message::Rejected(rejected) => self.reject(rejected),
            Message::Complete(outlook) => self.complete(outlook).await,
            Message::Broken => self.break_off().await,
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

    fn reject(&mut self, rejected: Vec<Rejected>) -> Result<()> {
        for object in rejected {
            let resource = object.resource.clone();
            if !self.rejected.add(object) {
                continue;
            }
            if let Some(table) = self.tables.iter_mut().find(|t| t.resource.name == resource) {
                table.report.rejected += 1;
            }
        }
        self.rejected.check_size()
    }

    /// Commits every partition in memory whose listed part has been read.
    async fn commit_settled(&mut self) -> Result<()> {
        for partition in self.tables[0].spool.partitions() {
            if self.covered.contains(&self.listed_part(&partition)) {
                self.commit_partition(partition).await?;
            }
        }
        Ok(())
    }

    /// Before the first file: a run that ends between a file and the state would leave a file of a grain
    /// that the next run may not choose again, and every object in it twice.
    async fn record_grain(&mut self) -> Result<()> {
        for table in &mut self.tables {
            if table.state.grain != self.grain {
                table.state.grain = self.grain;
                table.write_state(&self.setup).await?;
            }
        }
        Ok(())
    }

    /// Names a file that is about to be made, and those that will come soon: one that nobody knows of would never be
    /// looked at again.
    async fn begin_files(&mut self, table: usize, partition: &Partition) -> Result<()> {
        let table = &mut self.tables[table];
        let gathered = table.spool.partitions().into_iter().map(|partition| partition.to_string());
        let state = &mut table.state;
        let folder = partition.to_string();
        if state.partitions.contains_key(&folder) || state.begun.contains(&folder) {
            return Ok(());
        }
        let new = gathered.filter(|folder| !state.partitions.contains_key(folder));
        state.begun.extend(new.chain([folder]).collect::<Vec<_>>());
        table.write_state(&self.setup).await
    }

    /// Whether a killed run has left a file that the state does not know.
    async fn is_there(&self, table: usize, partition: &Partition) -> Result<bool> {
        let Table { state, resource, .. } = &self.tables[table];
        match state.begun.contains(&partition.to_string()) {
            true => self.setup.lake.exists(&partition.path(&resource.name)).await,
            false => Ok(false),
        }
    }

    fn listed_part(&self, partition: &Partition) -> Range<i64> {
        let span = partition.span();
        span.start.max(self.listing.start)..span.end.min(self.listing.end)
    }

    /// Merges what was gathered for a partition into its files. It need not be complete: a merge takes no
    /// row away but those that are known to be gone.
    async fn commit_partition(&mut self, partition: Partition) -> Result<()> {
        self.record_grain().await?;
        if !self.is_listing {
            // It may know older forms of what an unfinished listing has read, and objects that were gone by then.
            self.read_again(&[partition]).await?;
        }
        let mut outdated = Arc::new(HashSet::new());
        let is_first = self.committed.insert(partition);
        let vanished = if is_first { self.listed_anew(&partition) } else { Vec::new() };
        let n_tables = self.tables.len();
        for index in 0..n_tables {
            let replaced = self.parents.remove(&(partition, index)).unwrap_or_default();
            let old_age = self.old_age(index, &partition, is_first);
            let table = &mut self.tables[index];
            let gathered = table.spool.take(&partition)?;
            let folder = partition.to_string();
            let known = table.state.partitions.get(&folder).cloned();
            let is_child = index > 0;
            let has_rows = gathered.iter().any(|rows| rows.n_rows > 0);
            if !has_rows && known.is_none() && !self.is_there(index, &partition).await? {
                continue;
            }
            self.begin_files(index, &partition).await?;
            let table = &mut self.tables[index];
            let wanted = PartitionCommit {
                vanished: (!vanished.is_empty() && !is_child)
                    .then(|| (vanished.clone(), Timestamp::now().as_microsecond())),
                parents: table.parents(replaced, &outdated),
                old_age,
                has_children: !is_child && n_tables > 1,
                known,
                ..PartitionCommit::new(&self.setup, &table.resource, partition)
            };
            let outcome = self.commit_table(index, wanted, gathered).await?;
            let table = &mut self.tables[index];
            table.report.add(outcome.changes, is_first);
            if !is_child {
                outdated = Arc::new(outcome.outdated);
            }
            if let Some((written, version)) = outcome.written {
                table.add_file(&self.setup, partition, FileState::new(&written, version.etag())).await?;
                self.remove_placeholder(index).await?;
            }
        }
        Ok(())
    }

    /// Where the file that the state speaks of is not there, that is written down before another one stands in its place.
    async fn commit_table(
        &mut self,
        index: usize,
        wanted: PartitionCommit,
        gathered: Vec<Gathered>,
    ) -> Result<Outcome> {
        let (partition, gathered) = (wanted.partition, Arc::new(gathered));
        let outcome = match commit(wanted.clone(), &gathered).await? {
            Committed::Done(outcome) => outcome,
            Committed::Lost => {
                self.note_lost(index, &[partition]).await?;
                match commit(PartitionCommit { known: None, ..wanted }, &gathered).await? {
                    Committed::Done(outcome) => outcome,
                    Committed::Lost => unreachable!("nothing is known of the file"),
                }
            }
        };
        if outcome.was_other {
            self.read_again(&[partition]).await?;
        }
        Ok(outcome)
    }

    fn may_mark_vanished(&self) -> bool {
        self.marks_vanished && self.rejected.is_empty()
    }

    /// The seconds of a partition whose objects this run has listed, all of them; an old row of these that
    /// was not among them has vanished. That holds for the first commit alone, which has them all.
    ///
    /// An object that could not be a row is absent too, and yet not deleted, whichever run has met it.
    fn listed_anew(&self, partition: &Partition) -> Vec<Range<i64>> {
        match self.may_mark_vanished() {
            true => self.fresh.within(&self.listed_part(partition)),
            false => Vec::new(),
        }
    }

    /// What comes after a first commit of the partition may have been observed before it, and so may what an earlier run
    /// has kept: it may have been killed right after such a commit.
    fn old_age(&self, table: usize, partition: &Partition, is_first: bool) -> OldAge {
        let now = || Timestamp::now().as_microsecond();
        let began_here = self.progress.as_ref().map(|progress| progress.began_here);
        match self.is_listing {
            true if !self.taken_up.within(&partition.span()).is_empty() => {
                OldAge::SupersededBut(began_here.unwrap_or(i64::MIN), now())
            }
            true if is_first => OldAge::Superseded,
            true => OldAge::SupersededBut(self.setup.started_at.as_microsecond(), now()),
            // Rows of a child were read with their parent, which has told already whether it was read again.
            false if table > 0 => OldAge::AtLeast(Vec::new()),
            false => OldAge::AtLeast(self.tables[0].state.listed.within(&partition.span())),
        }
    }
}

/// Clocks, and answers on their way, may differ by so many seconds.
pub const CLOCKS_DIFFER: i64 = 60;

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
