//! Turns a Stripe account into the lake: lists everything, gathers, commits, and says what it did.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::catalog::Resource;
use crate::commit::Version;
use crate::commit::lock::{self, Guard};
use crate::commit::state::{WAITING, run_path};
use crate::error::{Error, Kind, Result};
use crate::fetch::allowance::{Allowance, Budgets};
use crate::fetch::limit::{Limits, Rate};
use crate::fetch::retry::Policy;
use crate::fetch::{Fetcher, Notice, Transport};
use crate::plan::FIRST_OBJECT;
use crate::run::event::Event;
use crate::run::gather::scope::Listing;
use crate::run::owner::{Account, account, check_account, check_mode, claim, read_lake};
use crate::run::reading::read_all;
use crate::run::report::{Report, RunRecord, Window};
use crate::run::signal::interrupted;
use crate::run::{Setup, sql};

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
    pub budgets: Budgets,
    /// Nothing that an earlier run has read is continued.
    pub starts_over: bool,
    /// What the transport asks for; progress of another version is not continued.
    pub stripe_version: String,
    /// Slices in flight.
    pub concurrency: usize,
    pub jitter_seed: u64,
    /// Becomes the kind of the signal that ends the run.
    pub interrupted: watch::Receiver<Option<Kind>>,
}

/// Lists the resources into the lake.
///
/// Fails only where nothing was done; everything after that is in the report.
pub async fn sync(setup: &Setup, options: Options, transport: Arc<dyn Transport>) -> Result<Report> {
    let started = Instant::now();
    check_budgets(&options)?;
    setup.tell_delays();
    if let Some(time) = options.budgets.duration {
        setup.lake.limit_patience(time);
    }
    setup.lake.check_writable().await.map_err(|e| e.lake("untouched"))?;
    let known = read_lake(&setup.lake).await.map_err(|e| e.lake("unchanged"))?;
    check_mode(known.as_ref(), options.livemode, "a key")?;
    let fetcher = Arc::new(fetcher(setup, &options, transport, started));
    let account = account(&fetcher, setup, &options).await.map_err(|e| e.lake("unchanged"))?;
    check_account(known.as_ref(), account.id.as_deref())?;
    let listing = listing(&options, &account)?;
    let stop = interrupted(options.interrupted.clone());
    // Who has no time left is not to find the lake free.
    let wait = setup.wait_lock.min(fetcher.allowance.time_left());
    let guard = lock::acquire(&setup.lake, &setup.run_id, wait, setup.on_wait(wait), stop).await?;
    let report = match locked(setup, &options, &fetcher, account.id, listing).await {
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
    account: Option<String>,
    listing: Listing,
) -> Result<Report> {
    let info = claim(setup, account.clone(), options.livemode).await?;
    let setup = &Setup { owner: info.owner(), ..setup.clone() };
    setup.lake.remove_leftovers(setup.catalog.resources.iter().map(|resource| resource.name.as_str()))?;
    (setup.on_event)(Event::Start {
        lake: setup.lake.location(),
        account: account.clone(),
        livemode: Some(options.livemode),
        resources: options.resources.iter().map(|r| r.name.clone()).collect(),
    });
    let mut report = read_all(setup, options, fetcher, listing).await?;
    match sql::write_views(&setup.lake, &setup.catalog).await {
        Ok(damaged) => {
            let is_said = |name: &str| report.failures.iter().any(|(said, _)| said == name);
            let unsaid: Vec<_> = damaged.into_iter().filter(|(name, _)| !is_said(name)).collect();
            report.failures.extend(unsaid);
        }
        Err(error) => report.failures.push(("views".to_owned(), error)),
    }
    report.run_id = setup.run_id.clone();
    let time = |second| Timestamp::from_second(second).ok();
    report.window = Window { since: options.since.and_then(time), until: options.until.and_then(time) };
    report.account = account;
    report.requests = fetcher.counters.requests.load(Ordering::Relaxed);
    report.retries = fetcher.counters.retries.load(Ordering::Relaxed);
    report.slowdowns = fetcher.counters.slowdowns.load(Ordering::Relaxed);
    report.waited_secs = fetcher.counters.waited_ms.load(Ordering::Relaxed) as f64 / 1e3;
    Ok(report)
}

/// Records the run in the lake and gives the lock back.
pub async fn finish(setup: &Setup, guard: Guard, mut report: Report, command: &str) -> Result<Report> {
    report.fail_for_files(&setup.catalog);
    let kind = report.kind();
    let record = RunRecord::new(&report, command, setup.started_at, kind);
    let written = setup.lake.write_json(&run_path(&setup.run_id), &record, &Version::Absent).await;
    if let Err(error) = written {
        report.failures.push(("run record".to_owned(), error));
    }
    setup.lake.remove_empty_folder(WAITING);
    guard.release().await;
    Ok(report)
}

/// With fewer requests than these no run would ever come to its end. Several passes are made in one run, and each may usually ask
/// twice for an empty page; a list in one pass does so only where all of its objects have gone.
fn check_budgets(options: &Options) -> Result<()> {
    let least_of = |resource: &Arc<Resource>| match resource.passes.len() {
        1 => 1,
        n => 2 * n as u64,
    };
    let least = 1 + options.resources.iter().map(least_of).sum::<u64>();
    match options.budgets.requests {
        Some(requests) if requests < least => Err(Error::usage(format!(
            "expected --max-requests of at least {least}, one for the account and one for each list, or two for each pass over one that takes several, got {requests}"
        ))
        .hint("allow more requests, or name fewer resources")),
        _ => Ok(()),
    }
}

pub(super) fn fetcher(
    setup: &Setup,
    options: &Options,
    transport: Arc<dyn Transport>,
    started: Instant,
) -> Fetcher {
    let on_event = setup.on_event.clone();
    let on_notice = Arc::new(move |notice: &Notice| on_event(notice.into()));
    let limits = Limits::new(options.rate, options.livemode);
    let allowance = Allowance::new(options.budgets, started);
    Fetcher::new(transport, limits, Policy::new(options.jitter_seed), allowance, on_notice)
}

/// What this run lists; its seconds end at Stripe's clock. This machine's may be wrong, so
/// without Stripe's there is none.
pub(super) fn listing(options: &Options, account: &Account) -> Result<Listing> {
    let start = options.since.unwrap_or(0).max(0);
    let asked_until = options.until.unwrap_or(i64::MAX);
    let end = asked_until.min(account.now.map_or(i64::MAX, |now| now + 1));
    if start >= end {
        let shown = |secs| Timestamp::from_second(secs).map_or(format!("{secs}"), |time| time.to_string());
        let what = match options.since {
            Some(_) => {
                format!("expected --since before --until and now, got {} and {}", shown(start), shown(end))
            }
            None => format!("expected --until after {}, got {}", shown(start), shown(end)),
        };
        let hint = match options.until {
            Some(_) => "times are UTC; leave --until out for all that there is",
            None => "times are UTC, and now is Stripe's; choose an earlier --since",
        };
        return Err(Error::usage(what).hint(hint));
    }
    Ok(Listing {
        span: start..end,
        asked_until,
        now: account.now,
        stripe_version: options.stripe_version.clone(),
        first_object: account.created.filter(|created| (0..end).contains(created)).unwrap_or(FIRST_OBJECT),
        starts_over: options.starts_over,
    })
}
