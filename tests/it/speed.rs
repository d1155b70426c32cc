//! Turns an answer's delay and a rate into the requests and the time that a list takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use stripelake::fake::{Account, Density, Spec};
use stripelake::fetch::limit::Rate;
use stripelake::fetch::{Request, Response, Transport, TransportError};
use stripelake::run::sync::Options;

use crate::harness::{TestLake, check_kind};
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

/// Requests and seconds of a first sync of the charges.
fn first_sync(table: &Arc<Table>, delay: Duration, concurrency: usize) -> (f64, f64) {
    let distant = Arc::new(Distant { table: table.clone(), delay, n_requests: AtomicU64::new(0) });
    let lake = TestLake::new();
    let options = Options { rate: Rate::PerSecond(RATE), concurrency, ..lake.options_for(&["charges"]) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let secs = runtime.unwrap().block_on(async {
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
            let (n_requests, secs) = first_sync(&table, delay, concurrency);
            eprintln!("{density:?} {delay:?}: {n_requests} requests, {secs:.1} s");
            // The account, and a page cut short for each slice. Slices are halved, so each worker that the rate
            // leaves room for reads the logarithm of the list's pages in slices.
            let n_workers = RATE * delay.as_secs_f64() + 3.0;
            let at_most = 1.0 + 1.02 * n_pages + n_workers * n_pages.log2();
            assert!(n_requests <= at_most, "{density:?} {delay:?}: {n_requests} requests, at most {at_most}");
            // Doubling takes a few answers until the rate is reached.
            let at_most = 1.05 * n_pages / RATE + 8.0 * delay.as_secs_f64() + 1.0;
            assert!(secs <= at_most, "{density:?} {delay:?}: {secs} s, at most {at_most}");
        }
    }
}
