//! Turns a fake account behind loopback HTTP into a lake: the whole program but its command line.

mod support;

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use secrecy::SecretString;
use stripelake::catalog::Catalog;
use stripelake::commit::Lake;
use stripelake::fetch::http::Http;
use stripelake::fetch::limit::Rate;
use stripelake::run::Setup;
use stripelake::run::sync::{Options, sync};
use stripelake::{encode, fake};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const N_CHARGES: u64 = 10_000;

/// Syncs everything that can be listed into a new folder; returns the rows.
async fn first_sync(address: &str) -> u64 {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let catalog = Arc::new(Catalog::embedded().expect("the catalog is checked by tests"));
    let setup = Setup {
        catalog: catalog.clone(),
        lake: Arc::new(Lake::open(&dir.path().display().to_string(), &[]).expect("a new folder")),
        run_id: "bench".to_owned(),
        started_at: jiff::Timestamp::now(),
        encode: encode::Options::default(),
        owner: None,
        memory: 256 << 20,
        temporary: std::env::temp_dir(),
        grains: Default::default(),
        wait_lock: Duration::ZERO,
        on_event: Arc::new(|_| {}),
    };
    let key = SecretString::from(support::KEY);
    let http = Http::new(address, &key, &catalog.stripe_version).expect("loopback is allowed");
    let (_sender, interrupted) = tokio::sync::watch::channel(None);
    let options = Options {
        resources: catalog.listed().cloned().collect(),
        livemode: false,
        since: None,
        until: None,
        rate: Rate::Unlimited,
        budgets: Default::default(),
        starts_over: false,
        stripe_version: catalog.stripe_version.clone(),
        concurrency: 8,
        jitter_seed: 0,
        interrupted,
    };
    let report = sync(&setup, options, Arc::new(http)).await.expect("the fake answers");
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    report.tables.iter().map(|table| table.rows).sum()
}

fn run(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let address = runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        tokio::spawn(fake::serve(listener, Arc::new(support::account(N_CHARGES)), std::future::pending()));
        address
    });
    let n_rows = runtime.block_on(first_sync(&address));
    let mut group = criterion.benchmark_group("run");
    group.throughput(Throughput::Elements(n_rows));
    group.warm_up_time(Duration::from_secs(2)).measurement_time(Duration::from_secs(10)).sample_size(10);
    group.bench_function(format!("first sync of {n_rows} rows, server included"), |bencher| {
        bencher.iter(|| runtime.block_on(first_sync(&address)));
    });
    group.finish();
    runtime.shutdown_background();
}

criterion_group!(benches, run);
criterion_main!(benches);
