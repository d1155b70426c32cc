//! Turns a Stripe account into the lake: lists everything, gathers, commits, and says what it did.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::catalog::Resource;
use crate::commit::lock::{self, Guard};
use crate::commit::state::{FORMAT, LAKE, LakeInfo, run_path};
use crate::commit::{Lake, Version};
use crate::decode;
use crate::error::{Error, Kind, Result};
use crate::fetch::limit::{Limits, Rate};
use crate::fetch::retry::Policy;
use crate::fetch::{Fetcher, Notice, Request, Transport};
use crate::plan::{FIRST_OBJECT, Slices};
use crate::run::event::Event;
use crate::run::gather::{Gatherer, Message};
use crate::run::report::{Report, RunRecord, TableReport};
use crate::run::slices::{List, Shared};
use crate::run::{Setup, sql};
use crate::spool::Budget;

/// Messages that wait for a gatherer; a slow destination holds the readers back.
const WAITING: usize = 4;

/// What a sync needs besides its setup.
pub struct Options {
    /// In the order of the report; children come with their parents.
    pub resources: Vec<Arc<Resource>>,
    /// The mode that the key states.
    pub livemode: bool,
    /// Seconds; objects created before are left alone.
    pub since: Option<i64>,
    pub until: Option<i64>,
    pub rate: Rate,
    /// Slices in flight.
    pub concurrency: usize,
    pub jitter_seed: u64,
    /// Becomes the kind of the signal that ends the run.
    pub interrupted: watch::Receiver<Option<Kind>>,
}

/// Whose account it is, and what time it is there.
struct Account {
    id: Option<String>,
    /// `None` where answers carry no `Date`, as behind some proxies.
    now: Option<i64>,
    /// When the account was opened, for guessing where its objects begin.
    created: Option<i64>,
}

/// Lists the resources into the lake.
///
/// Fails only where nothing was done; everything after that is in the report.
pub async fn sync(setup: &Setup, options: Options, transport: Arc<dyn Transport>) -> Result<Report> {
    let started = Instant::now();
    setup.lake.check_writable().await.map_err(|e| e.lake("untouched"))?;
    let known = read_lake(&setup.lake).await?;
    check_mode(known.as_ref(), options.livemode)?;
    let fetcher = Arc::new(fetcher(setup, &options, transport));
    let account = account(&fetcher, setup).await.map_err(|e| e.lake("unchanged"))?;
    check_account(known.as_ref(), account.id.as_deref())?;
    let listing = listing(&options, account.now)?;
    let guard = lock::acquire(&setup.lake, &setup.run_id, setup.wait_lock).await?;
    let report = match locked(setup, &options, &fetcher, &account, listing).await {
        Ok(report) => Report { secs: started.elapsed().as_secs_f64(), ..report },
        Err(error) => {
            guard.release().await;
            return Err(error);
        }
    };
    finish(setup, guard, report, "sync").await
}

/// What a run does while it holds the lock.
async fn locked(
    setup: &Setup,
    options: &Options,
    fetcher: &Arc<Fetcher>,
    account: &Account,
    listing: Range<i64>,
) -> Result<Report> {
    claim(setup, account.id.clone(), options.livemode).await?;
    (setup.on_event)(Event::Start {
        lake: setup.lake.location(),
        account: account.id.clone(),
        livemode: Some(options.livemode),
        resources: options.resources.iter().map(|r| r.name.clone()).collect(),
    });
    let mut report =
        read_all(setup, options, fetcher, listing, account.created.unwrap_or(FIRST_OBJECT)).await?;
    if let Err(error) = sql::write_views(&setup.lake, &setup.catalog).await {
        report.failures.push(("views".to_owned(), error));
    }
    report.run_id = setup.run_id.clone();
    report.account = account.id.clone();
    report.requests = fetcher.counters.requests.load(Ordering::Relaxed);
    report.retries = fetcher.counters.retries.load(Ordering::Relaxed);
    report.slowdowns = fetcher.counters.slowdowns.load(Ordering::Relaxed);
    report.waited_secs = fetcher.counters.waited_ms.load(Ordering::Relaxed) as f64 / 1e3;
    Ok(report)
}

/// Records the run in the lake and gives the lock back.
pub async fn finish(setup: &Setup, guard: Guard, mut report: Report, command: &str) -> Result<Report> {
    let kind = report.kind();
    let record = RunRecord::new(&report, command, setup.started_at, kind);
    let written = setup.lake.write_json(&run_path(&setup.run_id), &record, &Version::Absent).await;
    if let Err(error) = written {
        report.failures.push(("run record".to_owned(), error));
    }
    guard.release().await;
    Ok(report)
}

/// Whose lake this is, if it exists.
pub async fn read_lake(lake: &Lake) -> Result<Option<(LakeInfo, Version)>> {
    let known = lake.read_json::<LakeInfo>(LAKE).await?;
    if let Some((info, _)) = &known {
        info.check_format()?;
    }
    Ok(known)
}

fn fetcher(setup: &Setup, options: &Options, transport: Arc<dyn Transport>) -> Fetcher {
    let on_event = setup.on_event.clone();
    let on_notice = Arc::new(move |notice: &Notice| on_event(notice.into()));
    let limits = Limits::new(options.rate, options.livemode);
    Fetcher::new(transport, limits, Policy::new(options.jitter_seed), on_notice)
}

/// Asks for the account. A restricted key may not read it; the run then goes on without its id.
async fn account(fetcher: &Fetcher, setup: &Setup) -> Result<Account> {
    let warn = |message: String| (setup.on_event)(Event::Warning { message });
    let (id, created) = match fetcher.object(&Request::new("/v1/account")).await {
        Ok(account) => {
            let id = account.get("id").and_then(|id| id.as_str()).map(str::to_owned);
            (id, account.get("created").and_then(serde_json::Value::as_i64))
        }
        Err(error) if error.is_forbidden() || error.kind() == Kind::Partial => {
            warn(format!("the account is not known: {error}"));
            (None, None)
        }
        Err(error) => return Err(error),
    };
    let now = fetcher.server_date();
    let local = setup.started_at.as_second();
    match now {
        Some(now) if (now - local).abs() > 300 => {
            warn(format!("this machine's clock is {} s off Stripe's", local - now));
        }
        Some(_) => {}
        None => warn("Stripe's answer has no Date: everything is listed, whatever its time".to_owned()),
    }
    Ok(Account { id, now, created })
}

fn check_mode(known: Option<&(LakeInfo, Version)>, livemode: bool) -> Result<()> {
    let mode = |livemode: bool| if livemode { "live" } else { "test" };
    match known.and_then(|(info, _)| info.livemode) {
        Some(expected) if expected != livemode => Err(Error::new(
            Kind::Auth,
            format!("the lake holds {} data, got a {} key", mode(expected), mode(livemode)),
        )
        .lake("unchanged")
        .hint("use another --lake for each mode and account")),
        _ => Ok(()),
    }
}

fn check_account(known: Option<&(LakeInfo, Version)>, account: Option<&str>) -> Result<()> {
    let expected = known.and_then(|(info, _)| info.account.as_deref());
    match (expected, account) {
        (Some(expected), Some(got)) if expected != got => {
            Err(Error::new(Kind::Auth, format!("the lake belongs to account {expected}, got a key of {got}"))
                .lake("unchanged")
                .hint("use another --lake for each mode and account"))
        }
        (Some(expected), None) => Err(Error::new(
            Kind::Auth,
            format!("the lake belongs to account {expected}, and this key may not say whose it is"),
        )
        .lake("unchanged")
        .hint("let the key read /v1/account, or use another --lake")),
        _ => Ok(()),
    }
}

/// Writes down to whom the lake belongs, as far as it is known.
async fn claim(setup: &Setup, account: Option<String>, livemode: bool) -> Result<()> {
    let known = read_lake(&setup.lake).await?;
    // Another run may have made the lake its own while this one waited for the lock.
    check_mode(known.as_ref(), livemode)?;
    check_account(known.as_ref(), account.as_deref())?;
    let (before, seen) = known.map_or((None, Version::Absent), |(info, version)| (Some(info), version));
    let info = LakeInfo {
        format: FORMAT,
        account: account.or(before.as_ref().and_then(|info| info.account.clone())),
        livemode: Some(livemode),
        stripe_version: setup.catalog.stripe_version.clone(),
    };
    if before.as_ref() != Some(&info) {
        setup.lake.write_json(LAKE, &info, &seen).await?;
    }
    Ok(())
}

/// The seconds that this run lists; the upper bound is Stripe's clock. This machine's may be wrong, so
/// without Stripe's there is none.
fn listing(options: &Options, now: Option<i64>) -> Result<Range<i64>> {
    let start = options.since.unwrap_or(0).max(0);
    let end = options.until.unwrap_or(i64::MAX).min(now.map_or(i64::MAX, |now| now + 1));
    if start >= end {
        return Err(Error::usage(format!("expected --since before --until and now, got {start} and {end}")));
    }
    Ok(start..end)
}

/// A gatherer at work; it ends when its channel does.
type Gathering = JoinHandle<(Gatherer, Result<()>)>;

async fn read_all(
    setup: &Setup,
    options: &Options,
    fetcher: &Arc<Fetcher>,
    listing: Range<i64>,
    first_object: i64,
) -> Result<Report> {
    let budget = Budget::new(setup.memory);
    let (stop, _) = watch::channel(false);
    let mut lists = Vec::new();
    let mut gatherings: Vec<Gathering> = Vec::new();
    for resource in &options.resources {
        let (rows, messages) = mpsc::channel(WAITING);
        let gatherer = Gatherer::open(setup, resource, Some(listing.clone()), &budget).await?;
        gatherings.push(tokio::spawn(gather(gatherer, messages, stop.clone())));
        lists.push(Arc::new(List {
            resource: resource.clone(),
            children: setup.children_of(resource),
            slices: Mutex::new(Slices::new(listing.clone(), resource.created_filter, first_object)),
            rows,
            failed: Mutex::new(None),
            has_failed: AtomicBool::new(false),
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
    let interruption = work(&shared, options).await;
    drop(shared);
    let mut report = Report::default();
    for (list, gathering) in lists.into_iter().zip(gatherings) {
        let is_read = list.slices.lock().expect("no panic while planning").is_done();
        let (name, tables, error) = close(setup, list, gathering, is_read, interruption).await?;
        report.tables.extend(tables);
        match error {
            Some(error) => report.failures.push((name, error)),
            None if is_read => report.complete.push(name),
            None => {}
        }
    }
    if let Some(kind) = interruption {
        report.failures.insert(0, ("run".to_owned(), Error::new(kind, "interrupted by a signal")));
    }
    Ok(report)
}

/// Runs the workers to their end, or until a signal.
async fn work(shared: &Arc<Shared>, options: &Options) -> Option<Kind> {
    let mut workers = JoinSet::new();
    for _ in 0..options.concurrency.max(1) {
        workers.spawn(shared.clone().work());
    }
    let mut interrupted = options.interrupted.clone();
    loop {
        tokio::select! {
            done = workers.join_next() => match done {
                None => return None,
                Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Some(_) => {}
            },
            Ok(kind) = interrupted.wait_for(Option::is_some) => {
                let kind = *kind;
                workers.shutdown().await;
                return kind;
            }
        }
    }
}

async fn gather(
    mut gatherer: Gatherer,
    mut messages: mpsc::Receiver<Message>,
    stop: watch::Sender<bool>,
) -> (Gatherer, Result<()>) {
    while let Some(message) = messages.recv().await {
        if let Err(error) = gatherer.take(message).await {
            if error.is_fatal() {
                stop.send_replace(true);
            }
            return (gatherer, Err(error));
        }
    }
    (gatherer, Ok(()))
}

/// Ends one resource: commits what is left if all of it was read.
async fn close(
    setup: &Setup,
    list: Arc<List>,
    gathering: Gathering,
    is_read: bool,
    interruption: Option<Kind>,
) -> Result<(String, Vec<TableReport>, Option<Error>)> {
    let resource = list.resource.clone();
    let failed = list.failed.lock().expect("no panic while storing").take();
    if failed.is_none() && is_read {
        // A gatherer that has failed is gone; its own error is the one to report.
        let _ = list.rows.send(Message::Complete).await;
    }
    drop(list);
    let (gatherer, gathered) = gathering.await.map_err(|e| Error::bug(format!("gather: {e}")))?;
    let error = match (gathered, failed) {
        (Err(error), _) | (Ok(()), Some(error)) => Some(error),
        (Ok(()), None) if !is_read && interruption.is_none() => {
            Some(Error::new(Kind::Partial, "not read, since the run was stopped by another failure"))
        }
        (Ok(()), None) => None,
    };
    let tables = gatherer.reports();
    match &error {
        Some(error) => {
            let message = error.to_string();
            (setup.on_event)(Event::Failed { resource: resource.name.clone(), error: message });
        }
        None if is_read => (setup.on_event)(done(&resource, &tables[0])),
        None => {}
    }
    Ok((resource.name.clone(), tables, error))
}

fn done(resource: &Resource, table: &TableReport) -> Event {
    Event::Done {
        resource: resource.name.clone(),
        rows: table.rows,
        new: table.new,
        changed: table.changed,
        deleted: table.deleted,
        files_written: table.files_written,
    }
}
