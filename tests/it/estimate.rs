//! Turns dry runs into checks: near what the account holds, nothing written, and what may not be read by name.

use std::sync::Arc;
use std::time::Duration;

use stripelake::error::Kind;
use stripelake::fake::script::{Action, Rule};
use stripelake::fake::{Account, InProcess, Resource, Spec};
use stripelake::fetch::allowance::Budgets;
use stripelake::fetch::{Request, Transport};
use stripelake::plan::estimate::Precision;
use stripelake::run::estimate::{Estimate, estimate};
use stripelake::run::sync::Options;
use tokio::sync::watch;

use crate::harness::{TestLake, account, check_kind, scripted_table};
use crate::resume::{alone, run};
use crate::table::{Table, created};

async fn dry_run(lake: &TestLake, options: Options, account: Account) -> Estimate {
    dry_run_of(lake, options, Arc::new(InProcess::new(Arc::new(account)))).await
}

async fn dry_run_of(lake: &TestLake, options: Options, transport: Arc<dyn Transport>) -> Estimate {
    let before = lake.files().await;
    let estimate = estimate(&lake.setup(), options, transport).await.unwrap();
    assert_eq!(lake.files().await, before, "a dry run has written");
    estimate
}

fn objects(estimate: &Estimate, name: &str) -> (u64, Precision) {
    let found = estimate.resources.iter().find(|one| one.resource == name).unwrap();
    (found.objects, found.precision)
}

#[tokio::test(start_paused = true)]
async fn a_large_account_that_grows_in_bursts_is_estimated_within_a_quarter() {
    for (seed, span_days) in [(81, 400), (82, 1_500), (83, 3_000)] {
        let spec = Spec { seed, charges: 60_000, span_days, ..Spec::default() };
        let lake = TestLake::new();
        let found = dry_run(&lake, lake.options(), Account::new(spec)).await;
        check_kind(&found.report, None);
        for (name, expected) in [("charges", 60_000.0), ("customers", 10_000.0), ("refunds", 3_000.0)] {
            let (n, precision) = objects(&found, name);
            assert_eq!(precision, Precision::About);
            assert!((n as f64 / expected - 1.0).abs() < 0.25, "{name}: expected {expected}, got {n}");
        }
        assert!(found.report.requests <= 1 + 16 * 6, "{} requests", found.report.requests);
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_account_is_counted() {
    let table = Table::of(&account(84, 60));
    let lake = TestLake::new();
    let found = dry_run(&lake, lake.options(), account(84, 60)).await;
    for name in ["charges", "customers", "prices", "refunds", "subscriptions"] {
        assert_eq!(objects(&found, name), (table.list(name).len() as u64, Precision::Exact), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a2_a_dry_run_names_what_the_key_may_not_read() {
    let spec = Spec { seed: 85, charges: 350, denied: vec![Resource::Customers], ..Spec::default() };
    let lake = TestLake::new();
    let found = dry_run(&lake, lake.options(), Account::new(spec)).await;
    check_kind(&found.report, Some(Kind::Partial));
    let [(name, error)] = found.report.failures.as_slice() else { panic!("{:?}", found.report.failures) };
    assert_eq!(name, "customers");
    assert!(error.hint_text().unwrap().contains("rak_customer_read"));
}

#[tokio::test(start_paused = true)]
async fn a5_a_dry_run_refuses_the_key_of_another_account() {
    let lake = TestLake::new();
    lake.sync_completely(Arc::new(InProcess::new(Arc::new(account(86, 50))))).await;
    let other = Arc::new(InProcess::new(Arc::new(account(87, 50))));
    let error = estimate(&lake.setup(), lake.options(), other).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Auth);
}

#[test]
fn a_dry_run_counts_what_an_earlier_run_has_left() {
    let table = Table::charges(88, 2_000);
    let lake = TestLake::new();
    let budgets = Budgets { requests: Some(12), ..Budgets::default() };
    let parts = Options { budgets, concurrency: 1, ..lake.options_for(&["charges"]) };
    check_kind(&run(&lake, &table, parts).0, Some(Kind::Budget));
    let found = alone(dry_run_of(&lake, lake.options_for(&["charges"]), table.clone()));
    let progress = alone(lake.state("charges")).unwrap().progress.unwrap();
    let is_read = |second: &i64| progress.read.iter().any(|(start, end)| (*start..*end).contains(second));
    let left = table.list("charges").iter().map(created).filter(|second| !is_read(second)).count() as f64;
    let (n, precision) = objects(&found, "charges");
    assert!((300.0..1_200.0).contains(&left) && precision == Precision::About);
    assert!((n as f64 / left - 1.0).abs() < 0.2, "expected about {left}, got {n}");
    // The dry run changed nothing: the next run goes on, and sends about as many requests.
    let options = Options { concurrency: 1, ..lake.options_for(&["charges"]) };
    let (report, requests) = run(&lake, &table, options);
    check_kind(&report, None);
    assert!(requests.abs_diff(found.requests) < 6, "{requests} requests, {} expected", found.requests);
}

#[test]
fn a_dry_run_counts_nothing_of_a_short_list_that_has_been_read() {
    let table = Table::of(&account(89, 2_000));
    table.edit("refunds", |refunds| refunds.truncate(60));
    let old = table.now() - 1_000;
    table.edit("refunds", |refunds| refunds.retain(|refund| created(refund) < old));
    let lake = TestLake::new();
    // Enough for the refunds and not for the charges.
    let budgets = Budgets { requests: Some(9), ..Budgets::default() };
    let parts = Options { budgets, ..lake.options_for(&["refunds", "charges"]) };
    check_kind(&run(&lake, &table, parts).0, Some(Kind::Budget));
    let found = alone(dry_run_of(&lake, lake.options_for(&["refunds"]), table.clone()));
    assert_eq!(objects(&found, "refunds"), (0, Precision::About));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_a_window_counts_the_window() {
    let table = Table::charges(90, 400);
    let lake = TestLake::new();
    let all: Vec<i64> = table.list("charges").iter().map(created).collect();
    let since = all[49];
    let options = Options { since: Some(since), ..lake.options_for(&["charges"]) };
    let found = dry_run_of(&lake, options, table.clone()).await;
    let n = all.iter().filter(|second| **second >= since).count() as u64;
    assert_eq!(objects(&found, "charges"), (n, Precision::Exact));
    let options = Options { until: Some(since), since: Some(all[99]), ..lake.options_for(&["charges"]) };
    let n = all.iter().filter(|second| (all[99]..since).contains(*second)).count() as u64;
    assert_eq!(objects(&dry_run_of(&lake, options, table).await, "charges"), (n, Precision::Exact));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_ends_at_a_signal_and_has_written_nothing() {
    for kind in [Kind::Interrupted, Kind::Terminated] {
        let (lake, (sender, interrupted)) = (TestLake::new(), watch::channel(None));
        let script = scripted_table(&Table::charges(91, 2_000));
        let signal = move |_: &Request| {
            sender.send_replace(Some(kind));
        };
        script.rules.add(Rule::new("/v1/charges", Action::Hook(Arc::new(signal))).from_nth(3).times(1));
        script.rules.add(Rule::new("/v1/charges", Action::Delay(Duration::from_secs(1))));
        let options = Options { interrupted, ..lake.options_for(&["charges"]) };
        let error = estimate(&lake.setup(), options, script.clone()).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(lake.files().await.is_empty());
        assert!(script.asked("/v1/charges").len() < 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a2_a_dry_run_of_what_the_key_may_not_read_at_all_fails_as_a_sync_does() {
    let spec = Spec { seed: 92, charges: 350, denied: vec![Resource::Customers], ..Spec::default() };
    let lake = TestLake::new();
    let options = || lake.options_for(&["customers"]);
    let found = dry_run(&lake, options(), Account::new(spec.clone())).await;
    let transport = Arc::new(InProcess::new(Arc::new(Account::new(spec))));
    let synced = lake.sync_with(options(), transport).await.unwrap();
    check_kind(&found.report, Some(Kind::Auth));
    assert_eq!(synced.kind(), found.report.kind());
}
