//! Turns the lists of an account into committed tables: workers that read, gatherers that commit, and their end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::catalog::Resource;
use crate::commit::state::WAITING;
use crate::decode;
use crate::error::{Error, Kind, Result};
use crate::fetch::Fetcher;
use crate::redact::shown;
use crate::run::Setup;
use crate::run::event::Event;
use crate::run::gather::scope::Listing;
use crate::run::gather::{Gatherer, Message};
use crate::run::report::{Report, TableReport, has_all_rows};
use crate::run::slices::{List, Shared};
use crate::run::sync::Options;
use crate::spool::Budget;

/// Messages that wait for a gatherer; a slow destination holds the readers back.
const MESSAGES: usize = 4;
/// How often progress is written: after this time, or so many rows, and for this share of the time at most.
const NOTE_EVERY: Duration = Duration::from_secs(1);
const NOTE_ROWS: u64 = 25_000;
const NOTE_SHARE: u32 = 10;
/// After a signal, for what was read to be committed.
const LAST_SECS: Duration = Duration::from_secs(8);
/// For a gatherer that was cut off to end.
const ABORTED: Duration = Duration::from_secs(1);

/// A gatherer at work; it ends when its channel does.
type Gathering = JoinHandle<(Gatherer, Result<()>)>;

/// How the reading ended.
struct End {
    /// Why no further request was sent, if that was so.
    early: Option<Error>,
    /// When everything must be over, after a signal.
    deadline: Option<Instant>,
}

/// What became of one resource.
struct Closed {
    name: String,
    /// Where everything was read: its progress goes when the whole run has come to its end.
    gatherer: Option<Gatherer>,
    tables: Vec<TableReport>,
    is_complete: bool,
    error: Option<Error>,
}

impl Closed {
    fn nothing(name: &str) -> Closed {
        Closed { name: name.to_owned(), gatherer: None, tables: Vec::new(), is_complete: false, error: None }
    }

    /// Call it when all resources are closed.
    async fn finish(&mut self, setup: &Setup) {
        let Some(mut gatherer) = self.gatherer.take() else { return };
        if let Err(error) = gatherer.finish().await {
            tell_failed(setup, &self.name, &error);
            self.error.get_or_insert(error);
        }
    }
}

/// Lists the resources, commits them, and tells how far each one got.
pub async fn read_all(
    setup: &Setup,
    options: &Options,
    fetcher: &Arc<Fetcher>,
    listing: Listing,
) -> Result<Report> {
    let budget = Budget::new(setup.memory);
    let (stop, _) = watch::channel(false);
    let found = setup.lake.list(WAITING).await?;
    let (mut gatherers, mut damaged) = (Vec::new(), Vec::new());
    for resource in &options.resources {
        let begun = async {
            let mut gatherer = Gatherer::open(setup, resource, Some(listing.clone()), &budget).await?;
            gatherer.take_up(&found).await.map(|()| gatherer)
        };
        match begun.await {
            Ok(gatherer) => gatherers.push((resource, gatherer)),
            Err(error) if error.is_damage() => damaged.push(unread(setup, resource, error)),
            Err(error) => return Err(error),
        }
    }
    let mut lists = Vec::new();
    let mut gatherings: Vec<Gathering> = Vec::new();
    for (resource, gatherer) in gatherers {
        let (rows, messages) = mpsc::channel(MESSAGES);
        let (slices, known) = (Mutex::new(gatherer.slices()), gatherer.known_seconds());
        gatherings.push(tokio::spawn(gather(gatherer, messages, stop.clone())));
        lists.push(Arc::new(List {
            resource: resource.clone(),
            children: setup.children_of(resource),
            slices,
            rows,
            failed: Mutex::new(None),
            decoders: Mutex::default(),
            has_failed: AtomicBool::new(false),
            has_outsiders: AtomicBool::new(false),
            n_unanswered: AtomicU32::new(0),
            known,
        }));
    }
    let shared = Arc::new(Shared {
        lists: lists.clone(),
        fetcher: fetcher.clone(),
        decode: decode::Options {
            livemode: Some(options.livemode),
            refuse_other_mode: true,
            ..Default::default()
        },
        on_event: setup.on_event.clone(),
        changed: Notify::new(),
        stop,
    });
    let deadline = work(&shared, options).await;
    drop(shared);
    let end = End { early: fetcher.allowance.ended(), deadline };
    let closing =
        lists.into_iter().zip(gatherings).map(|(list, gathering)| close(setup, list, gathering, &end));
    let mut closed = join_all(closing).await.into_iter().collect::<Result<Vec<Closed>>>()?;
    // After a budget or a signal the next run goes on with the others, and need not list again what is complete.
    if end.early.is_none() {
        join_all(closed.iter_mut().map(|closed| closed.finish(setup))).await;
    }
    closed.extend(damaged);
    Ok(summed(closed, end, fetcher))
}

/// What became of a resource whose state, or what belongs to it, cannot be read.
fn unread(setup: &Setup, resource: &Resource, error: Error) -> Closed {
    tell_failed(setup, &resource.name, &error);
    Closed { error: Some(error), ..Closed::nothing(&resource.name) }
}

fn tell_failed(setup: &Setup, resource: &str, error: &Error) {
    let error = shown(&error.to_string(), 500);
    (setup.on_event)(Event::Failed { resource: resource.to_owned(), error });
}

/// What became of all of them.
fn summed(closed: Vec<Closed>, end: End, fetcher: &Fetcher) -> Report {
    let mut report = Report::default();
    let has_read = fetcher.counters.accepted.load(Ordering::Relaxed) > 0;
    let has_failed =
        closed.iter().any(|closed| closed.error.as_ref().is_some_and(|error| error.kind() == Kind::Stripe));
    match end.early {
        // The lists say why, and the budget would hide it.
        Some(early) if early.kind() == Kind::Budget && !has_read && has_failed => {}
        Some(early) if early.kind() == Kind::Budget && !has_read => {
            report.failures.push(("run".to_owned(), nothing_read(&early)));
        }
        Some(early) => report.failures.push(("run".to_owned(), how_far(&early, &closed))),
        None => {}
    }
    for Closed { name, tables, is_complete, error, .. } in closed {
        let is_whole = is_complete && has_all_rows(&tables);
        report.tables.extend(tables);
        match error {
            Some(error) => report.failures.push((name, error)),
            None if is_whole => report.complete.push(name),
            None => {}
        }
    }
    report
}

/// Runs the workers to their end. After a signal no request is sent, and what is decoded already is handed
/// on; returns until when the run must be over then.
async fn work(shared: &Arc<Shared>, options: &Options) -> Option<Instant> {
    let mut workers = JoinSet::new();
    for _ in 0..options.concurrency.max(1) {
        workers.spawn(shared.clone().work());
    }
    let mut interrupted = options.interrupted.clone();
    let mut deadline = None;
    loop {
        let is_late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = workers.join_next() => match done {
                None => return deadline,
                Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Some(_) => {}
            },
            Ok(kind) = interrupted.wait_for(Option::is_some), if deadline.is_none() => {
                deadline = Some(Instant::now() + LAST_SECS);
                shared.fetcher.allowance.close(kind.expect("waited for it"));
                shared.changed.notify_waiters();
            }
            () = is_late => workers.abort_all(),
        }
    }
}

/// Brings older files to the present columns, then takes messages as they come, and writes down from time to
/// time what need not be read again.
async fn gather(
    mut gatherer: Gatherer,
    mut messages: mpsc::Receiver<Message>,
    stop: watch::Sender<bool>,
) -> (Gatherer, Result<()>) {
    let mut done = gatherer.upgrade_files().await;
    let started = Instant::now();
    let mut due = started + NOTE_EVERY;
    let is_due = |at: Instant| Instant::now() >= at;
    let mut earliest = started;
    loop {
        if let Err(error) = done {
            if error.is_fatal() {
                stop.send_replace(true);
            }
            return (gatherer, Err(error));
        }
        done = tokio::select! {
            biased;
            message = messages.recv() => match message {
                None => return (gatherer, Ok(())),
                Some(message) => gatherer.take(message).await,
            },
            () = tokio::time::sleep_until(due), if gatherer.has_unsaved() => Ok(()),
        };
        if done.is_ok()
            && gatherer.has_unsaved()
            && (is_due(due) || is_due(earliest) && gatherer.n_unsaved() >= NOTE_ROWS)
        {
            let begun = Instant::now();
            done = gatherer.note().await;
            earliest = Instant::now() + begun.elapsed() * NOTE_SHARE;
            due = earliest.max(begun + NOTE_EVERY);
        }
    }
}

/// Ends one resource: commits what is left if all of it was read, and what can be kept if not.
async fn close(setup: &Setup, list: Arc<List>, mut gathering: Gathering, end: &End) -> Result<Closed> {
    let resource = list.resource.clone();
    let name = resource.name.clone();
    let is_read = list.slices.lock().expect("no panic while planning").is_done();
    let failed = list.failed.lock().expect("no panic while storing").take();
    let is_complete = failed.is_none() && is_read;
    let last = if is_complete { Message::Complete } else { Message::Broken };
    let ending = async {
        // A gatherer that has failed is gone.
        let _ = list.rows.send(last).await;
        drop(list);
        (&mut gathering).await
    };
    let ended = match end.deadline {
        None => Ok(ending.await),
        Some(deadline) => tokio::time::timeout_at(deadline, ending).await,
    };
    let Ok(ended) = ended else {
        gathering.abort();
        // It may be writing, and the lake is another run's after this one. The process has a little time left.
        let _ = tokio::time::timeout(ABORTED, gathering).await;
        return Ok(Closed::nothing(&name));
    };
    let (gatherer, gathered) = ended.map_err(|e| Error::bug(format!("gather: {e}")))?;
    let error = match (gathered, failed) {
        // What could not be kept is a second failure, and the first one its cause, unless no run can go on.
        (Err(error), Some(_)) if error.is_fatal() || error.is_damage() => Some(error),
        (Err(error), None) | (_, Some(error)) => Some(error),
        (Ok(()), None) if !is_read && end.early.is_none() => {
            Some(Error::new(Kind::Partial, "not read, since the run was stopped by another failure"))
        }
        (Ok(()), None) => None,
    };
    let tables = gatherer.reports();
    match &error {
        Some(error) => tell_failed(setup, &name, error),
        None if is_read => (setup.on_event)(done(&resource, &tables[0])),
        None => {}
    }
    Ok(Closed { name, gatherer: Some(gatherer).filter(|_| is_complete), tables, is_complete, error })
}

/// The error of a run whose budget was spent before any list had answered: a schedule that takes the exit code of a budget
/// for a success would never tell that nothing comes.
pub(super) fn nothing_read(early: &Error) -> Error {
    Error::stripe(format!("{early} before any list had answered"))
        .hint("see whether Stripe can be reached, or allow more, then run the same command again")
}

/// The error of a run that ended early, with what its resources have come to.
fn how_far(early: &Error, closed: &[Closed]) -> Error {
    let mut shares = Vec::new();
    let mut is_further = false;
    for Closed { name, tables, is_complete, error, .. } in closed {
        let own = tables.first();
        let kept = own.and_then(|table| table.kept).unwrap_or(0.0);
        is_further |= own.is_some_and(|table| table.is_further || (*is_complete && table.new > 0));
        shares.push(match is_complete {
            true if has_all_rows(tables) => format!("{name} complete"),
            true => format!("{name} all but what could not be rows"),
            false if own.is_some_and(|table| table.lacks_only_news) => format!("{name} all but its newest"),
            false if own.is_none() && error.is_some() => format!("{name} not at all"),
            // What it has come to was not known when the time for that was over.
            false if own.is_none() => format!("{name} as its state says"),
            false => format!("{name} {:.0} %", (kept * 100.0).floor()),
        });
    }
    let hint = match is_further || early.kind() != Kind::Budget {
        true => "run the same command again: it continues where this run ended",
        false => "this run got no further than the one before: allow more requests or more time",
    };
    Error::new(early.kind(), format!("{early}; read so far: {}", shares.join(", "))).hint(hint)
}

fn done(resource: &Resource, table: &TableReport) -> Event {
    Event::Done {
        resource: resource.name.clone(),
        rows: table.rows,
        new: table.new,
        changed: table.changed,
        deleted: table.deleted,
        rejected: table.rejected,
        files_written: table.files_written,
    }
}
