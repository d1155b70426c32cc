//! Turns a handful of pages of each list into what a sync would cost, and writes nothing.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use serde::Serialize;
use tokio::time::Instant;

use crate::catalog::Resource;
use crate::error::{Error, Result};
use crate::fetch::limit::Limits;
use crate::fetch::slice::list_request;
use crate::fetch::{Fetcher, Transport};
use crate::plan::estimate::{N_PROBES, PAGE, Precision, Probe, Survey, n_requests};
use crate::run::Setup;
use crate::run::gather::Gatherer;
use crate::run::gather::scope::Listing;
use crate::run::report::Report;
use crate::run::sync::{self, Options};
use crate::run::{owner, signal};
use crate::spool::Budget;

/// Bytes of Parquet for a byte of inflated JSON, as measured with the fake account's charges; what objects have in
/// common decides it, so it is good for an order of magnitude.
const PARQUET_SHARE: f64 = 0.07;

/// What one resource is expected to cost.
#[derive(Debug, Clone, Serialize)]
pub struct ResourceEstimate {
    pub resource: String,
    pub precision: Precision,
    /// Objects that are left to read.
    pub objects: u64,
    pub requests: u64,
    /// Inflated JSON.
    pub json_bytes: u64,
    /// In the lake, about.
    pub parquet_bytes: u64,
}

/// What a sync is expected to cost.
#[derive(Debug)]
pub struct Estimate {
    /// Those that the key may read.
    pub resources: Vec<ResourceEstimate>,
    /// Requests of the sync, that for the account among them.
    pub requests: u64,
    /// What it takes at the run's rate.
    pub secs: f64,
    /// Failures, and the requests that the estimate itself took.
    pub report: Report,
}

impl Estimate {
    /// Inflated JSON of all lists.
    pub fn json_bytes(&self) -> u64 {
        self.resources.iter().map(|one| one.json_bytes).sum()
    }

    /// In the lake, about.
    pub fn parquet_bytes(&self) -> u64 {
        self.resources.iter().map(|one| one.parquet_bytes).sum()
    }
}

/// What the surveys of one run share.
struct Surveying<'a> {
    setup: &'a Setup,
    fetcher: &'a Fetcher,
    listing: Listing,
    /// Where objects are expected.
    expected: Range<i64>,
}

/// Asks each list for a few pages. Fails as [`sync::sync`] does before it lists.
pub async fn estimate(setup: &Setup, options: Options, transport: Arc<dyn Transport>) -> Result<Estimate> {
    let started = Instant::now();
    let known = owner::read_lake(&setup.lake).await?;
    owner::check_mode(known.as_ref(), options.livemode, "a key")?;
    let fetcher = sync::fetcher(setup, &options, transport, started);
    let surveyed = async {
        let account = owner::account(&fetcher, setup, &options).await.map_err(|e| e.lake("unchanged"))?;
        owner::check_account(known.as_ref(), account.id.as_deref())?;
        let listing = sync::listing(&options, &account)?;
        let now = account.now.unwrap_or(setup.started_at.as_second());
        let end = listing.span.end.min(now + 1);
        let expected = listing.span.start.max(listing.first_object.min(end - 1))..end;
        let surveying = Surveying { setup, fetcher: &fetcher, listing, expected };
        let surveys = options.resources.iter().map(|resource| surveying.resource(resource));
        Ok::<_, Error>(join_all(surveys).await)
    };
    let surveyed = tokio::select! {
        surveyed = surveyed => surveyed?,
        error = signal::interrupted(options.interrupted.clone()) => return Err(error),
    };
    Ok(sum(&options, &fetcher, surveyed, started))
}

fn sum(
    options: &Options,
    fetcher: &Fetcher,
    surveyed: Vec<Result<ResourceEstimate>>,
    started: Instant,
) -> Estimate {
    let mut report = Report::default();
    let mut resources = Vec::new();
    for (resource, result) in options.resources.iter().zip(surveyed) {
        match result {
            Ok(estimate) => resources.push(estimate),
            Err(error) => report.failures.push((resource.name.clone(), error)),
        }
    }
    report.complete = resources.iter().map(|estimate| estimate.resource.clone()).collect();
    report.requests = fetcher.counters.requests.load(Ordering::Relaxed);
    report.secs = started.elapsed().as_secs_f64();
    let requests = 1 + resources.iter().map(|estimate| estimate.requests).sum::<u64>();
    let most = resources.iter().map(|estimate| estimate.requests).max().unwrap_or(0);
    let (account, endpoint) = Limits::per_second(options.rate, options.livemode);
    let at = |requests: u64, rate: Option<f64>| rate.map_or(0.0, |rate| requests as f64 / rate);
    let secs = at(requests, account).max(at(most, endpoint));
    Estimate { resources, requests, secs, report }
}

impl Surveying<'_> {
    async fn resource(&self, resource: &Arc<Resource>) -> Result<ResourceEstimate> {
        let listing = Some(self.listing.clone());
        let gatherer = Gatherer::open(self.setup, resource, listing, &Budget::new(0)).await?;
        let left = gatherer.left();
        let mut sum = ResourceEstimate {
            resource: resource.name.clone(),
            precision: Precision::Exact,
            objects: 0,
            requests: 0,
            json_bytes: 0,
            parquet_bytes: 0,
        };
        // A list that is read twice has its objects once.
        let mut passes: Vec<_> = resource.passes.iter().collect();
        passes.sort();
        passes.dedup();
        for pass in &passes {
            let before = sum.requests;
            self.pass(resource, pass, N_PROBES / passes.len(), &left, &mut sum).await?;
            let n_again = resource.passes.iter().filter(|other| other == pass).count() - 1;
            sum.requests += n_again as u64 * (sum.requests - before);
        }
        sum.parquet_bytes = (sum.json_bytes as f64 * PARQUET_SHARE) as u64;
        Ok(sum)
    }

    /// Adds one pass over a list.
    async fn pass(
        &self,
        resource: &Resource,
        pass: &[(String, String)],
        n_probes: usize,
        left: &[Range<i64>],
        sum: &mut ResourceEstimate,
    ) -> Result<()> {
        let n_probes = if resource.created_filter { n_probes.max(1) } else { 1 };
        let mut survey = Survey::new(self.expected.clone(), n_probes);
        let (mut n_seen, mut n_bytes) = (0, 0);
        while let Some(below) = survey.next() {
            let window = resource.created_filter.then_some(self.listing.span.start..below);
            let ask = |limit| list_request(resource, pass, window.as_ref(), limit);
            let (page, _) = self.fetcher.smaller_page(PAGE, ask).await?;
            let envelope = &page.envelope;
            (n_seen, n_bytes) = (n_seen + envelope.n_objects, n_bytes + page.content.len());
            let (oldest, has_more) = (envelope.oldest, envelope.has_more);
            survey.note(Probe { below, n_objects: envelope.n_objects, oldest, has_more });
            if !resource.created_filter && has_more {
                sum.precision = Precision::AtLeast;
            }
        }
        let (n, precision) = match sum.precision {
            Precision::AtLeast => (n_seen as f64, Precision::AtLeast),
            _ => survey.count(left),
        };
        sum.precision = sum.precision.max(precision);
        sum.objects += n.round() as u64;
        sum.requests += n_requests(n);
        sum.json_bytes += (n * n_bytes as f64 / n_seen.max(1) as f64) as u64;
        Ok(())
    }
}
