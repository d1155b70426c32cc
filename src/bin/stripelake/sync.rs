//! `stripelake sync`: the account into the lake.

use std::sync::Arc;
use std::time::Duration;

use stripelake::catalog::{Catalog, Resource};
use stripelake::config::Settings;
use stripelake::config::key::{KeyEnvironment, find_key};
use stripelake::config::value::{parse_duration, parse_second};
use stripelake::error::{Error, Kind, Result};
use stripelake::fetch::allowance::Budgets;
use stripelake::fetch::http::{Authorities, Connection, Http, parse_base};
use stripelake::run::estimate::{Estimate, estimate};
use stripelake::run::event::Event;
use stripelake::run::report::Report;
use stripelake::run::sync::{Options, sync};

use crate::cli::{Global, Sync, given};
use crate::{output, setup, signals};

/// What a sync, or a dry run, has come to.
enum Outcome {
    Expected(Estimate),
    Reported(Report),
}

pub fn run(global: &Global, flags: Sync) -> Result<Option<Kind>> {
    let Sync {
        resources,
        exclude,
        full,
        dry_run,
        since,
        until,
        rate,
        concurrency,
        max_requests,
        max_duration,
        timeout,
        ca_file,
        writing,
    } = flags;
    let lake = writing.lake.lake.clone();
    let flags = Settings { lake, rate, concurrency, timeout, ca_file, ..Settings::default() };
    let settings = global.settings(flags)?;
    let setup = setup::setup(global, &settings, &writing)?;
    let environment = KeyEnvironment {
        stripe_api_key: std::env::var("STRIPE_API_KEY").ok(),
        credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY").map(Into::into),
    };
    let selected = select(&setup.catalog, &resources, &exclude)?;
    let (since, until) = window(since.as_deref(), until.as_deref())?;
    let budgets =
        Budgets { requests: max_requests, duration: max_duration.as_deref().map(longest).transpose()? };
    let key = find_key(global.api_key_file.as_deref(), &environment, &settings)?;
    if key.is_all_powerful {
        let message = "the key (sk_live_) may do everything in the account: one that may only read (rk_live_) is enough; stripelake resources names the permissions";
        (setup.on_event)(Event::Warning { message: message.to_owned() });
    }
    let version = settings.api_version.as_deref().unwrap_or(&setup.catalog.stripe_version);
    parse_base(settings.api_base()).map_err(|e| e.context(given("--api-base")))?;
    let http = Http::with(settings.api_base(), &key.secret, version, &connection(&settings)?)?;
    let rate = settings.rate().map_err(|e| e.context(given("--rate")))?;
    let concurrency = settings.concurrency().map_err(|e| e.context(given("--concurrency")))?;
    let outcome = setup::block_on(async {
        let options = Options {
            resources: selected,
            livemode: key.livemode,
            since,
            until,
            rate,
            budgets,
            starts_over: full,
            stripe_version: version.to_owned(),
            concurrency,
            jitter_seed: setup.started_at.as_nanosecond() as u64,
            interrupted: signals::interruption(Some(signals::KEEPING))?,
        };
        match dry_run {
            true => estimate(&setup, options, Arc::new(http)).await.map(Outcome::Expected),
            false => sync(&setup, options, Arc::new(http)).await.map(Outcome::Reported),
        }
    })?;
    Ok(match outcome {
        Outcome::Expected(expected) => crate::estimate::show(&expected, writing.json, global.quiet),
        Outcome::Reported(report) => output::report(&report, writing.json, global.quiet),
    })
}

/// The first second of the listing, and the first one behind it.
fn window(since: Option<&str>, until: Option<&str>) -> Result<(Option<i64>, Option<i64>)> {
    let second_of = |flag: &'static str, text| parse_second(text).map_err(|e| e.context(given(flag)));
    let since = since.map(|text| second_of("--since", text)).transpose()?;
    let until = until.map(|text| second_of("--until", text)).transpose()?;
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        let what = if since == until { "one time for both" } else { "them the other way round" };
        let (since, until) = (given("--since"), given("--until"));
        return Err(Error::usage(format!("expected {since} before {until}, got {what}"))
            .hint(format!("what was created at {until} is not listed")));
    }
    Ok((since, until))
}

fn longest(text: &str) -> Result<Duration> {
    let duration = parse_duration(text).map_err(|e| e.context(given("--max-duration")))?;
    match duration.is_zero() {
        true => {
            Err(Error::usage(format!("expected {} of more than nothing, got 0", given("--max-duration")))
                .hint("leave it out for a run that takes as long as it takes"))
        }
        false => Ok(duration),
    }
}

fn connection(settings: &Settings) -> Result<Connection> {
    let mut connection = Connection::default();
    let timeout = settings.timeout().map_err(|e| e.context(given("--timeout")))?;
    if let Some(timeout) = timeout {
        connection.timeout = timeout;
    }
    if let Some(path) = &settings.ca_file {
        let wrong =
            |e: std::io::Error| Error::usage(format!("{} {}: {e}", given("--ca-file"), path.display()));
        connection.ca = Some(Authorities { file: path.clone(), pem: std::fs::read(path).map_err(wrong)? });
    }
    Ok(connection)
}

/// The resources that were named, or all that have a list, less those excluded.
pub fn select(catalog: &Catalog, named: &[String], excluded: &[String]) -> Result<Vec<Arc<Resource>>> {
    let mut excluded_names = Vec::new();
    for name in excluded {
        let resource = catalog.resolve(name).map_err(|e| e.context(given("--exclude")))?;
        if let Some(parent) = &resource.parent {
            let what =
                format!("{}: {} come with their {}", given("--exclude"), resource.name, parent.resource);
            return Err(Error::usage(what).hint(format!("exclude {}", parent.resource)));
        }
        excluded_names.push(resource.name.clone());
    }
    let mut selected: Vec<Arc<Resource>> = match named {
        [] => catalog.listed().cloned().collect(),
        names => names.iter().map(|name| listed(catalog, name)).collect::<Result<_>>()?,
    };
    selected.retain(|resource| !excluded_names.contains(&resource.name));
    let mut seen = std::collections::HashSet::new();
    selected.retain(|resource| seen.insert(resource.name.clone()));
    if selected.is_empty() {
        return Err(Error::usage("expected a resource to sync, got none after --exclude"));
    }
    Ok(selected)
}

/// A child comes with its parent: naming it means its parent.
fn listed(catalog: &Catalog, name: &str) -> Result<Arc<Resource>> {
    let resource = catalog.resolve(name)?;
    match &resource.parent {
        Some(parent) => Ok(catalog.resolve(&parent.resource)?.clone()),
        None => Ok(resource.clone()),
    }
}
