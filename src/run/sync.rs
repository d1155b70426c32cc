//! Turns a Stripe account into the lake: lists everything, gathers, commits, and says what it did.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::catalog::Resource;
use crate::commit::lock::{self, Guard};
use crate::commit::state::{FORMAT, LAKE, LakeInfo, STATES, WAITING, run_path};
use crate::commit::{Lake, Version};
use crate::error::{Error, Kind, Result};
use crate::fetch::allowance::{Allowance, Budgets};
use crate::fetch::limit::{Limits, Rate};
use crate::fetch::retry::Policy;
use crate::fetch::{Fetcher, Notice, Request, Transport};
use crate::plan::FIRST_OBJECT;
use crate::redact::without_keys;
use crate::run::event::Event;
use crate::run::gather::Listing;
use crate::run::reading::{nothing_read, read_all};
use crate::run::report::{Report, RunRecord};
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

/// Whose account it is, and what time it is there.
pub(super) struct Account {
    pub id: Option<String>,
    /// `None` where answers carry no `Date`, as behind some proxies.
    pub now: Option<i64>,
    /// When the account was opened, for guessing where its objects begin.
    pub created: Option<i64>,
}

/// Lists the resources into the lake.
///
/// Fails only where nothing was done; everything after that is in the report.
pub async fn sync(setup: &Setup, options: Options, transport: Arc<dyn Transport>) -> Result<Report> {
    let started = Instant::now();
    check_budgets(&options)?;
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
    let guard = lock::acquire(&setup.lake, &setup.run_id, wait, setup.on_wait(), stop).await?;
    let report = match locked(setup, &options, &fetcher, account.id, listing).await {
        Ok(report) => Report { secs: started.elapsed().as_secs_f64(), ..report },
        Err(error) => {
            guard.release().await;
            return Err(error);
        }
    };
    finish(setup, guard, report, "sync").await
}

/// The error of a run that is interrupted before it has written anything; done when it is.
pub(super) async fn interrupted(signal: watch::Receiver<Option<Kind>>) -> Error {
    Error::new(signalled(signal).await, "interrupted").lake("unchanged")
}

/// What the signal makes of the run, once there is one.
pub(super) async fn signalled(mut signal: watch::Receiver<Option<Kind>>) -> Kind {
    match signal.wait_for(Option::is_some).await {
        Ok(kind) => kind.unwrap_or(Kind::Interrupted),
        // Nobody can interrupt it any longer.
        Err(_) => std::future::pending().await,
    }
}

/// What a run does while it holds the lock.
async fn locked(
    setup: &Setup,
    options: &Options,
    fetcher: &Arc<Fetcher>,
    account: Option<String>,
    listing: Listing,
) -> Result<Report> {
    claim(setup, account.clone(), options.livemode).await?;
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

/// Whose lake this is, if it exists.
pub async fn read_lake(lake: &Lake) -> Result<Option<(LakeInfo, Version)>> {
    let mut known = lake.read_json::<LakeInfo>(LAKE).await?;
    let has_states = known.is_none() && lake.list(STATES).await?.iter().any(|path| path.ends_with(".json"));
    if has_states {
        // Another run may have made the lake in between.
        known = lake.read_json::<LakeInfo>(LAKE).await?;
    }
    match &known {
        Some((info, _)) => info.check_format()?,
        // It is written before any state.
        None if has_states => {
            return Err(Error::integrity(format!("{LAKE} is missing: nobody knows whose lake this is"))
                .lake("unchanged")
                .hint("restore it from a copy; or move _stripelake away, if the files are for certain of this account and mode"));
        }
        None => {}
    }
    Ok(known)
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

/// Asks for the account. A restricted key may not read it; the run then goes on without its id. An answer that is broken
/// does not say so: the next key might be of another account, and nobody would notice.
pub(super) async fn account(fetcher: &Fetcher, setup: &Setup, options: &Options) -> Result<Account> {
    let warn = |message: String| (setup.on_event)(Event::Warning { message });
    let request = Request::new("/v1/account");
    let answer = tokio::select! {
        answer = fetcher.object(&request, whose) => answer,
        error = interrupted(options.interrupted.clone()) => return Err(error),
    };
    let (id, created) = match answer {
        Ok((id, created)) => (Some(id), created),
        Err(error) if error.is_refusal() => {
            warn(format!("the account is not known: {error}"));
            (None, None)
        }
        // Nothing was listed, so nothing is complete in part.
        Err(error) if error.kind() == Kind::Partial => {
            return Err(Error::stripe(format!("the account: {error}"))
                .hint("Stripe or the network is in trouble; run the same command again later"));
        }
        Err(error) if error.kind() == Kind::Budget => return Err(nothing_read(&error)),
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

/// Id and time of opening. The lake is the account's for ever, so anything else that an answer may hold is a broken one.
fn whose(account: &Value) -> std::result::Result<(String, Option<i64>), String> {
    let text = |name| account.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_id = |id: &str| {
        let name = id.strip_prefix("acct_").unwrap_or_default();
        !name.is_empty() && id.len() <= 255 && name.chars().all(is_part) && without_keys(id) == id
    };
    match (text("object"), text("id")) {
        ("account", id) if is_id(id) => Ok((id.to_owned(), account.get("created").and_then(Value::as_i64))),
        (object, id) => Err(format!(
            "expected an account with an id like acct_1abc, got object \"{object}\", id \"{id}\""
        )),
    }
}

/// `what` is of the mode `livemode`: a key, or objects.
pub(super) fn check_mode(known: Option<&(LakeInfo, Version)>, livemode: bool, what: &str) -> Result<()> {
    let mode = |livemode: bool| if livemode { "live" } else { "test" };
    match known.and_then(|(info, _)| info.livemode) {
        Some(expected) if expected != livemode => Err(Error::new(
            Kind::Auth,
            format!("the lake holds {} data, got {what} of {} mode", mode(expected), mode(livemode)),
        )
        .lake("unchanged")
        .hint("use another --lake for each mode and account")),
        _ => Ok(()),
    }
}

pub(super) fn check_account(known: Option<&(LakeInfo, Version)>, account: Option<&str>) -> Result<()> {
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
    check_mode(known.as_ref(), livemode, "a key")?;
    check_account(known.as_ref(), account.as_deref())?;
    write_down(setup, known, account, Some(livemode)).await
}

/// Adds what is known now of the account and the mode to what the lake knows.
pub(super) async fn write_down(
    setup: &Setup,
    known: Option<(LakeInfo, Version)>,
    account: Option<String>,
    livemode: Option<bool>,
) -> Result<()> {
    let (before, seen) = known.map_or((None, Version::Absent), |(info, version)| (Some(info), version));
    let info = LakeInfo {
        format: FORMAT,
        account: account.or(before.as_ref().and_then(|info| info.account.clone())),
        livemode: livemode.or(before.as_ref().and_then(|info| info.livemode)),
        stripe_version: setup.catalog.stripe_version.clone(),
    };
    if before.as_ref() != Some(&info) {
        setup.lake.write_summed_json(LAKE, &info, &seen).await?;
    }
    Ok(())
}

/// What this run lists; its seconds end at Stripe's clock. This machine's may be wrong, so
/// without Stripe's there is none.
pub(super) fn listing(options: &Options, account: &Account) -> Result<Listing> {
    let start = options.since.unwrap_or(0).max(0);
    let asked_until = options.until.unwrap_or(i64::MAX);
    let end = asked_until.min(account.now.map_or(i64::MAX, |now| now + 1));
    if start >= end {
        let shown = |secs| Timestamp::from_second(secs).map_or(format!("{secs}"), |time| time.to_string());
        let what =
            format!("expected --since before --until and now, got {} and {}", shown(start), shown(end));
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
