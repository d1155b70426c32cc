//! Turns dry runs into checks: near what the account holds, nothing written, and what may not be read by name.

use std::sync::Arc;

use stripelake::error::Kind;
use stripelake::fake::{Account, InProcess, Resource, Spec};
use stripelake::plan::estimate::Precision;
use stripelake::run::estimate::{Estimate, estimate};
use stripelake::run::sync::Options;

use crate::harness::{TestLake, account, check_kind};
use crate::table::Table;

async fn dry_run(lake: &TestLake, options: Options, account: Account) -> Estimate {
    let before = lake.files().await;
    let transport = Arc::new(InProcess::new(Arc::new(account)));
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
        assert!(found.report.requests <= 1 + 8 * 6, "{} requests", found.report.requests);
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
