//! Turns a server that is away for a while into a run that waits for it, and one that stays away into an end in good time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;

use stripelake::error::Kind;
use stripelake::fake::script::{Action, Rule, answer};
use stripelake::fetch::allowance::Budgets;
use stripelake::fetch::limit::Rate;
use stripelake::fetch::{Request, Response, Transport, TransportError};
use stripelake::run::sync::Options;
use tokio::time::Instant;

use crate::harness::{TestLake, check_kind, scripted_table};
use crate::table::Table;

/// A server that takes its time, and answers 503 from the third second on, for so long.
#[derive(Debug)]
struct Server {
    table: Arc<Table>,
    away: Range<Instant>,
    n_refused: AtomicUsize,
}

impl Server {
    fn new(table: &Arc<Table>, secs_away: u64) -> Arc<Server> {
        let from = Instant::now() + Duration::from_secs(2);
        let away = from..from + Duration::from_secs(secs_away);
        Arc::new(Server { table: table.clone(), away, n_refused: AtomicUsize::new(0) })
    }
}

impl Transport for Server {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            if self.away.contains(&Instant::now()) && request.path != "/v1/account" {
                self.n_refused.fetch_add(1, Ordering::SeqCst);
                return Ok(answer(503, "down"));
            }
            self.table.get(request).await
        })
    }
}

fn options(lake: &TestLake, concurrency: usize) -> Options {
    Options { rate: Rate::Share(0.8), concurrency, ..lake.options_for(&["charges"]) }
}

#[tokio::test(start_paused = true)]
async fn n4_half_a_minute_without_a_server_is_outlasted_by_any_number_of_workers() {
    let table = Table::charges(131, 8_000);
    for concurrency in [1, 64] {
        let lake = TestLake::new();
        let server = Server::new(&table, 25);
        let report = lake.sync_with(options(&lake, concurrency), server.clone()).await.unwrap();
        check_kind(&report, None);
        lake.check_table_equals(&table, "charges").await;
        let n_refused = server.n_refused.load(Ordering::SeqCst);
        // Those at work find out, eight at 20 requests/s, and one of them asks again.
        assert!((2..20).contains(&n_refused), "{n_refused} of {concurrency} workers");
    }
}

#[tokio::test(start_paused = true)]
async fn n4_a_server_that_stays_away_ends_the_run_in_good_time() {
    let table = Table::charges(132, 5_000);
    for concurrency in [1, 64] {
        let lake = TestLake::new();
        let begin = Instant::now();
        let server = Server::new(&table, 1_000_000);
        let report = lake.sync_with(options(&lake, concurrency), server).await.unwrap();
        check_kind(&report, Some(Kind::Stripe));
        assert!(begin.elapsed() < Duration::from_secs(90), "{:?}", begin.elapsed());
        lake.check_intact().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_lists_is_no_spent_budget() {
    let table = Table::charges(133, 300);
    for budgets in [
        Budgets { requests: Some(12), ..Budgets::default() },
        Budgets { duration: Some(Duration::from_secs(15)), ..Budgets::default() },
    ] {
        let lake = TestLake::new();
        let script = scripted_table(&table);
        script.rules.add(Rule::new("/v1/charges", Action::Answer(answer(503, "down"))));
        let options = Options { budgets, ..options(&lake, 8) };
        let report = lake.sync_with(options, script).await.unwrap();
        check_kind(&report, Some(Kind::Stripe));
        assert!(report.failures[0].1.to_string().contains("503"), "{:?}", report.failures);
    }
}
