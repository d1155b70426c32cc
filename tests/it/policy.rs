//! Turns the policy of retries and limits into a table and into properties.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use stripelake::fetch::limit::{Limits, Rate};
use stripelake::fetch::retry::{Policy, Reason};
use tokio::time::Instant;

/// One line of the table: why, how often, broken answers, elapsed, requests and retries of the run.
struct Case(Reason, u32, u32, u64, u64, u64);

fn wait(case: &Case, seed: u64) -> Option<Duration> {
    let Case(reason, attempt, broken, elapsed, requests, retries) = case;
    Policy::new(seed).wait(reason, *attempt, *broken, Duration::from_secs(*elapsed), *requests, *retries)
}

#[test]
fn a_wait_is_within_its_bounds() {
    let limited = |after| Reason::RateLimited("global-rate".to_owned(), after);
    let table: [(Case, f64, f64); 12] = [
        (Case(Reason::Network, 1, 0, 0, 1, 0), 0.25, 0.5),
        (Case(Reason::Network, 2, 0, 1, 2, 1), 0.25, 1.0),
        (Case(Reason::Network, 7, 0, 100, 9, 6), 0.25, 30.0),
        (Case(Reason::Server(500, None), 1, 0, 0, 1, 0), 0.25, 0.5),
        (Case(Reason::Server(503, Some(7)), 1, 0, 0, 1, 0), 7.0, 7.0),
        (Case(Reason::Server(503, Some(86_400)), 1, 0, 0, 1, 0), 60.0, 60.0),
        (Case(Reason::ServerFinal(500), 1, 0, 0, 1, 0), 5.0, 5.0),
        (Case(Reason::Broken, 1, 1, 0, 1, 0), 0.25, 0.5),
        (Case(Reason::Broken, 2, 2, 0, 2, 1), 0.25, 1.0),
        (Case(limited(None), 40, 0, 299, 40, 5_000), 0.25, 30.0),
        (Case(limited(Some(3)), 1, 0, 0, 1, 0), 3.0, 3.0),
        (Case(Reason::LockTimeout, 20, 0, 200, 20, 5_000), 0.25, 30.0),
    ];
    for (case, least, most) in &table {
        for seed in 0..200 {
            let wait = wait(case, seed).unwrap().as_secs_f64();
            assert!((*least..=*most).contains(&wait), "{:?}: {wait}", case.0);
        }
    }
}

#[test]
fn patience_ends() {
    let limited = Reason::RateLimited("global-rate".to_owned(), None);
    let table = [
        Case(Reason::Network, 8, 0, 0, 8, 7),
        Case(Reason::Server(500, None), 8, 0, 0, 8, 7),
        Case(Reason::Server(500, None), 2, 0, 300, 8, 7),
        // The whole run may repeat 50 requests and one in ten.
        Case(Reason::Server(500, None), 1, 0, 0, 100, 60),
        Case(Reason::Network, 1, 0, 0, 5, 50),
        Case(Reason::ServerFinal(500), 2, 0, 5, 2, 1),
        Case(Reason::Broken, 3, 3, 0, 3, 2),
        Case(limited, 9, 0, 300, 9, 8),
        Case(Reason::LockTimeout, 9, 0, 300, 9, 8),
    ];
    for case in &table {
        assert_eq!(wait(case, 1), None, "{:?}", case.0);
    }
}

#[test]
fn only_a_stated_rate_limit_slows_down() {
    assert!(Reason::RateLimited("endpoint-rate".to_owned(), None).is_slowdown());
    for reason in [Reason::LockTimeout, Reason::Server(503, None), Reason::Network, Reason::Broken] {
        assert!(!reason.is_slowdown(), "{reason}");
    }
}

/// Sends requests from many workers and returns when each one started, with its path.
async fn started(limits: Arc<Limits>, workers: Vec<(usize, u64, u32)>) -> Vec<(usize, Duration)> {
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (path, pause, n) in workers {
        let limits = limits.clone();
        tasks.spawn(async move {
            let mut starts = Vec::new();
            for _ in 0..n {
                limits.ready(&format!("/v1/{path}")).await;
                starts.push((path, begin.elapsed()));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            starts
        });
    }
    let mut all: Vec<(usize, Duration)> = tasks.join_all().await.into_iter().flatten().collect();
    all.sort_by_key(|(_, at)| *at);
    all
}

/// The most starts in any second.
fn most_in_a_second(starts: &[Duration]) -> usize {
    let in_second = |start: &Duration| {
        let end = *start + Duration::from_secs(1);
        starts.iter().filter(|at| *at >= start && **at < end).count()
    };
    starts.iter().map(in_second).max().unwrap_or(0)
}

/// A second's worth, what a bucket holds (a fifth of a second), and the first one.
fn allowed(rate: f64) -> usize {
    (rate * 1.2 + 1.0).ceil() as usize
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn no_second_sees_more_requests_than_the_rate_and_its_burst(
        share in 0.1f64..1.0,
        livemode in any::<bool>(),
        workers in proptest::collection::vec((0usize..6, 0u64..400, 1u32..40), 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let starts = runtime.block_on(started(Arc::new(Limits::new(Rate::Share(share), livemode)), workers));
        let all: Vec<Duration> = starts.iter().map(|(_, at)| *at).collect();
        let account = if livemode { 100.0 } else { 25.0 };
        prop_assert!(most_in_a_second(&all) <= allowed(account * share), "{} in a second", most_in_a_second(&all));
        for path in 0..6 {
            let own: Vec<Duration> = starts.iter().filter(|(p, _)| *p == path).map(|(_, at)| *at).collect();
            prop_assert!(most_in_a_second(&own) <= allowed(25.0 * share), "{} to one endpoint", most_in_a_second(&own));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_waits_does_not_hold_up_the_others() {
    let limits = Arc::new(Limits::new(Rate::Share(0.8), true));
    // A hundred requests to one endpoint are five seconds; the account has room for more.
    let mut workers = vec![(0, 0, 1); 100];
    workers.push((1, 0, 20));
    let starts = started(limits, workers).await;
    let last = starts.iter().filter(|(path, _)| *path == 1).map(|(_, at)| *at).max().unwrap();
    assert!(last < Duration::from_millis(1_300), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn n1_every_second_of_429_halves_the_rate_and_it_creeps_up_again() {
    let limits = Arc::new(Limits::new(Rate::Share(0.8), true));
    for _ in 0..4 {
        for _ in 0..5 {
            limits.ready("/v1/0").await;
            limits.slow_down("/v1/0");
        }
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    let begin = Instant::now();
    started(limits.clone(), vec![(0, 0, 4)]).await;
    assert!(begin.elapsed() > Duration::from_millis(700), "{:?}", begin.elapsed());
    tokio::time::sleep(Duration::from_secs(600)).await;
    let begin = Instant::now();
    started(limits, vec![(0, 0, 41)]).await;
    assert!(begin.elapsed() < Duration::from_millis(2_100), "{:?}", begin.elapsed());
}
