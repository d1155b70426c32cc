//! Turns an answer's delay and a rate into the requests and the time that a list takes.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Deserialize;
use stripelake::fake::script::answer;
use stripelake::fake::{Account, Density, InProcess, Spec};
use stripelake::fetch::limit::Rate;
use stripelake::fetch::{Request, Response, Transport, TransportError};
use stripelake::run::event::Event;
use stripelake::run::sync::Options;

use crate::harness::{TestLake, check_kind};
use crate::resume::alone;
use crate::table::Table;

/// Requests a second.
const RATE: f64 = 20.0;

/// An account that answers after a while.
#[derive(Debug)]
struct Distant {
    table: Arc<Table>,
    delay: Duration,
    n_requests: AtomicU64,
}

impl Transport for Distant {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        Box::pin(async move {
            self.n_requests.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(self.delay).await;
            self.table.get(request).await
        })
    }
}

/// Requests and seconds of a first sync of one list.
fn first_sync(name: &str, table: &Arc<Table>, delay: Duration, concurrency: usize) -> (f64, f64) {
    let distant = Arc::new(Distant { table: table.clone(), delay, n_requests: AtomicU64::new(0) });
    let lake = TestLake::new();
    let options = Options { rate: Rate::PerSecond(RATE), concurrency, ..lake.options_for(&[name]) };
    let secs = alone(async {
        let started = tokio::time::Instant::now();
        check_kind(&lake.sync_with(options, distant.clone()).await.unwrap(), None);
        started.elapsed().as_secs_f64()
    });
    (distant.n_requests.load(Ordering::SeqCst) as f64, secs)
}

#[test]
fn a_list_takes_little_more_than_its_pages_in_requests_and_in_time() {
    for density in [Density::Growing, Density::Even, Density::Month] {
        let spec = Spec { seed: 5, charges: 6_000, span_days: 400, density, ..Spec::default() };
        let table = Table::of(&Account::new(spec));
        let n_pages = table.list("charges").len().div_ceil(100) as f64;
        for (delay, concurrency) in [(50, 32), (150, 16), (400, 16)] {
            let delay = Duration::from_millis(delay);
            let (n_requests, secs) = first_sync("charges", &table, delay, concurrency);
            eprintln!("{density:?} {delay:?}: {n_requests} requests, {secs:.1} s");
            // The account, and a page cut short for each slice. Of so small a list most slices are halves of
            // others, so each worker that the rate leaves room for reads the logarithm of its pages in slices.
            let n_workers = RATE * delay.as_secs_f64() + 3.0;
            let at_most = 1.0 + 1.02 * n_pages + n_workers * n_pages.log2();
            assert!(n_requests <= at_most, "{density:?} {delay:?}: {n_requests} requests, at most {at_most}");
            // Doubling takes a few answers until the rate is reached.
            let at_most = 1.05 * n_pages / RATE + 8.0 * delay.as_secs_f64() + 1.0;
            assert!(secs <= at_most, "{density:?} {delay:?}: {secs} s, at most {at_most}");
        }
    }
}

#[test]
fn a_list_in_passes_is_not_bound_by_one_cursor() {
    for (n_of, name) in [(0, "active"), (4, "one in four inactive"), (1, "inactive")] {
        let spec = Spec { prices: Some(8_000), seed: 33, charges: 10, ..Spec::default() };
        let table = Table::some_of(&Account::new(spec), |name| name == "prices");
        let is_active = |n: usize| n_of == 0 || !n.is_multiple_of(n_of);
        table.edit("prices", |prices| {
            prices.iter_mut().enumerate().for_each(|(n, price)| price["active"] = is_active(n).into());
        });
        let n_active = (0..8_000).filter(|n| is_active(*n)).count();
        // Active ones are listed twice.
        let n_pages = (2 * n_active.div_ceil(100) + (8_000 - n_active).div_ceil(100)) as f64;
        for delay in [50, 150, 500].map(Duration::from_millis) {
            let (n_requests, secs) = first_sync("prices", &table, delay, 16);
            eprintln!("{name} {delay:?}: {n_requests} requests of {n_pages}, {secs:.1} s");
            assert!(
                n_requests <= 1.05 * n_pages + 60.0,
                "{name} {delay:?}: {n_requests} requests of {n_pages}"
            );
            let at_most = 1.3 * n_requests / RATE + 16.0 * delay.as_secs_f64() + 1.0;
            assert!(secs <= at_most, "{name} {delay:?}: {secs} s, at most {at_most}");
        }
    }
}

/// Charges of which nothing is known but when they were created, behind a way that takes time.
#[derive(Debug)]
struct Bare {
    account: Arc<Table>,
    /// Newest first; the place is the id.
    created: Vec<i64>,
    delay: Duration,
    seen: Mutex<Seen>,
}

/// What was read so far.
#[derive(Debug)]
struct Seen {
    n_requests: usize,
    is_read: Vec<bool>,
    n_read: usize,
    /// All before it were read.
    n_first: usize,
    most_ahead: usize,
}

impl Bare {
    fn new(density: Density, n: u64, delay: Duration) -> Arc<Bare> {
        let spec = Spec { seed: 6, charges: n, span_days: 730, density, ..Spec::default() };
        let account = Account::new(spec);
        let table = Table::new(&account.id(), account.now());
        let created = seconds(account);
        let is_read = vec![false; created.len()];
        let seen = Seen { n_requests: 0, is_read, n_read: 0, n_first: 0, most_ahead: 0 };
        Arc::new(Bare { account: table, created, delay, seen: Mutex::new(seen) })
    }

    fn page(&self, request: &Request) -> Response {
        let parameter = |name: &str| {
            request
                .query
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.trim_start_matches("ch_"))
        };
        let number = |name: &str| parameter(name).map(|value| value.parse::<i64>().unwrap());
        let index = |second: i64| self.created.partition_point(|created| *created >= second);
        let end = number("created[gte]").map_or(self.created.len(), index);
        let first = number("created[lt]").map_or(0, index);
        let first = number("starting_after").map_or(first, |id| id as usize + 1);
        let shown = first..end.min(first + number("limit").unwrap() as usize);
        let mut data = String::new();
        for at in shown.clone() {
            let comma = if data.is_empty() { "" } else { "," };
            let second = self.created[at];
            write!(
                data,
                r#"{comma}{{"id":"ch_{at}","object":"charge","created":{second},"livemode":false}}"#
            )
            .unwrap();
        }
        self.seen.lock().unwrap().note(shown.clone());
        let has_more = shown.end < end;
        answer(
            200,
            format!(r#"{{"object":"list","data":[{data}],"has_more":{has_more},"url":"/v1/charges"}}"#),
        )
    }
}

impl Seen {
    fn note(&mut self, page: std::ops::Range<usize>) {
        self.n_requests += 1;
        for is_read in &mut self.is_read[page] {
            self.n_read += usize::from(!std::mem::replace(is_read, true));
        }
        while self.is_read.get(self.n_first) == Some(&true) {
            self.n_first += 1;
        }
        self.most_ahead = self.most_ahead.max(self.n_read - self.n_first);
    }
}

impl Transport for Bare {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            let mut response = self.account.get(&Request::new("/v1/account")).await?;
            if request.path == "/v1/charges" {
                response.body = self.page(request).body;
            }
            Ok(response)
        })
    }
}

/// When the charges were created, newest first.
fn seconds(account: Account) -> Vec<i64> {
    #[derive(Deserialize)]
    struct Page {
        data: Vec<Object>,
        has_more: bool,
    }
    #[derive(Deserialize)]
    struct Object {
        id: String,
        created: i64,
    }
    let account = InProcess::new(Arc::new(account));
    let mut created = Vec::new();
    let mut request = Request::new("/v1/charges").with("limit", "100");
    loop {
        let response = alone(account.get(&request)).unwrap();
        let page: Page = serde_json::from_slice(&response.body).unwrap();
        created.extend(page.data.iter().map(|object| object.created));
        if !page.has_more {
            return created;
        }
        let last = page.data.last().unwrap().id.clone();
        request = Request::new("/v1/charges").with("limit", "100").with("starting_after", last);
    }
}

/// A first sync of 100,000 charges takes so few requests, and reads at most so many slices of 48 pages ahead of
/// the newest charge that is missing, for each worker that the rate leaves room for. `most_time` is to that of the
/// full pages at that rate.
fn check_large_list(density: Density, least_fill: f64, most_ahead: f64, most_time: f64) {
    const N: u64 = 100_000;
    let delay = Duration::from_millis(300);
    let bare = Bare::new(density, N, delay);
    let lake = TestLake::new();
    let options = Options { rate: Rate::PerSecond(RATE), concurrency: 16, ..lake.options_for(&["charges"]) };
    let secs = alone(async {
        let started = tokio::time::Instant::now();
        check_kind(&lake.sync_with(options, bare.clone()).await.unwrap(), None);
        started.elapsed().as_secs_f64()
    });
    let seen = bare.seen.lock().unwrap();
    let Seen { n_requests, n_read, most_ahead: ahead, .. } = *seen;
    let fill = N as f64 / (100 * n_requests) as f64;
    eprintln!(
        "{density:?}: {n_requests} requests, {:.1} % full, {ahead} rows ahead, {secs:.1} s",
        100.0 * fill
    );
    let files = alone(lake.parquet("charges")).len();
    let events = lake.events.lock().unwrap();
    let n_written = events.iter().filter(|event| matches!(event, Event::File { .. })).count();
    // Slices in flight end in partitions that are not complete; what they have read is kept all the same.
    assert!(n_written <= 3 * files + 12, "{density:?}: {n_written} files written, {files} there");
    assert_eq!(n_read as u64, N);
    assert!(
        n_requests <= 1_050 + 40 && fill >= least_fill,
        "{density:?}: {n_requests} requests, {fill:.3} full"
    );
    let n_workers = RATE * delay.as_secs_f64() + 3.0;
    let at_most = most_ahead * n_workers * 4_800.0;
    assert!(ahead as f64 <= at_most, "{density:?}: {ahead} rows ahead, at most {at_most}");
    assert!(secs <= most_time * N as f64 / 100.0 / RATE, "{density:?}: {secs} s");
}

#[test]
fn a_large_even_list_is_read_newest_first_in_full_pages() {
    check_large_list(Density::Even, 0.98, 1.2, 1.08);
    check_large_list(Density::Growing, 0.975, 1.5, 1.08);
}

#[test]
fn a_large_list_with_one_dense_month_is_read_newest_first_in_full_pages() {
    check_large_list(Density::Month, 0.975, 2.0, 1.08);
}

#[test]
fn a_large_list_with_bursts_is_read_newest_first_in_full_pages() {
    // A burst is a second of up to 60 pages, which nobody can cut; at the end the others have nothing else to do.
    // This account has pages 96.5 % full, twelve others 97.4 on the average.
    check_large_list(Density::Bursts, 0.96, 4.0, 1.25);
}

/// Requests for a first sync of 100,000 charges that was killed after so many seconds, and for the one that continues it.
fn killed_and_continued(density: Density, secs: u64) -> (usize, usize) {
    let bare = Bare::new(density, 100_000, Duration::from_millis(300));
    let lake = TestLake::new();
    let options =
        || Options { rate: Rate::PerSecond(RATE), concurrency: 16, ..lake.options_for(&["charges"]) };
    alone(async {
        let sync = lake.sync_with(options(), bare.clone());
        assert!(tokio::time::timeout(Duration::from_secs(secs), sync).await.is_err(), "{secs} s are enough");
        let _ = lake.lake.remove("_stripelake/lease.json").await;
    });
    let before = bare.seen.lock().unwrap().n_requests;
    check_kind(&alone(lake.sync_with(options(), bare.clone())).unwrap(), None);
    let state = alone(lake.state("charges")).unwrap();
    assert_eq!(state.n_rows(), 100_000, "{density:?}, killed after {secs} s");
    assert!(alone(lake.lake.list("_stripelake/waiting")).unwrap().is_empty());
    (before, bare.seen.lock().unwrap().n_requests - before)
}

#[test]
fn a_large_list_that_is_killed_at_any_time_reads_again_what_was_in_flight() {
    for density in [Density::Even, Density::Month] {
        for secs in [3, 9, 20, 33, 47] {
            let (before, after) = killed_and_continued(density, secs);
            // Slices hand on what they have after a second, and progress is written every second. A gap is read by one
            // worker from its newest end, and each one costs a page that is not full.
            let at_most = 1_015 + (2.0 * RATE) as usize;
            assert!(before + after <= at_most, "{density:?}, {secs} s: {before} and {after} requests");
        }
    }
}
