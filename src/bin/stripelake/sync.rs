//! `stripelake sync`: the account into the lake.

use std::sync::Arc;

use stripelake::catalog::{Catalog, Resource};
use stripelake::config::{KeyEnvironment, Settings, find_key, parse_time};
use stripelake::error::{Error, Kind, Result};
use stripelake::fetch::allowance::Budgets;
use stripelake::fetch::http::Http;
use stripelake::run::sync::{Options, sync};

use crate::cli::{Global, Sync};
use crate::{output, setup};

const DEFAULT_CONCURRENCY: usize = 16;

pub fn run(global: &Global, flags: Sync) -> Result<Option<Kind>> {
    // Without a state to build on, every sync lists everything; --full says so explicitly.
    let Sync {
        resources,
        exclude,
        full: _,
        since,
        until,
        rate,
        concurrency,
        max_requests,
        max_duration,
        writing,
    } = flags;
    let flags = Settings { lake: writing.lake.lake.clone(), rate, concurrency, ..Settings::default() };
    let settings = global.settings(flags)?;
    let setup = setup::setup(global, &settings, &writing)?;
    let environment = KeyEnvironment {
        stripe_api_key: std::env::var("STRIPE_API_KEY").ok(),
        credentials_directory: std::env::var_os("CREDENTIALS_DIRECTORY").map(Into::into),
    };
    let selected = select(&setup.catalog, &resources, &exclude)?;
    let since = since.as_deref().map(parse_time).transpose()?;
    let until = until.as_deref().map(parse_time).transpose()?;
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Err(Error::usage("expected --since before --until, got them the other way round"));
    }
    let budgets = Budgets {
        requests: max_requests,
        duration: max_duration.map(|text| setup::duration("--max-duration", &text)).transpose()?,
    };
    let key = find_key(global.api_key_file.as_deref(), &environment, &settings)?;
    let version = settings.api_version.as_deref().unwrap_or(&setup.catalog.stripe_version);
    let http = Http::new(settings.api_base(), &key.secret, version)?;
    let rate = settings.rate()?;
    let report = setup::runtime()?.block_on(async {
        let options = Options {
            resources: selected,
            livemode: key.livemode,
            since,
            until,
            rate,
            budgets,
            stripe_version: version.to_owned(),
            concurrency: settings.concurrency.unwrap_or(DEFAULT_CONCURRENCY),
            jitter_seed: setup.started_at.as_nanosecond() as u64,
            interrupted: setup::interruption(),
        };
        sync(&setup, options, Arc::new(http)).await
    })?;
    Ok(output::report(&report, writing.json, global.quiet))
}

/// The resources that were named, or all that have a list, less those excluded.
pub fn select(catalog: &Catalog, named: &[String], excluded: &[String]) -> Result<Vec<Arc<Resource>>> {
    let mut excluded_names = Vec::new();
    for name in excluded {
        excluded_names.push(listed(catalog, name)?.name.clone());
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
