//! Turns the policy of retries and limits into a table and into properties.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use stripelake::fake::script::refusal;
use stripelake::fetch::Request;
use stripelake::fetch::answer::{Answer, judge};
use stripelake::fetch::limit::{Limits, Rate};
use stripelake::fetch::retry::{Next, Policy, Reason, Sent, Spent, Tries};
use tokio::time::Instant;

/// One line of the table: why, attempts, broken answers, seconds since the first, requests of the run, repeated ones.
struct Case(Reason, u32, u32, u64, u64, u64);

fn next(case: &Case, seed: u64) -> Next {
    let Case(reason, attempts, broken, elapsed, requests, repeated) = case;
    let elapsed = Duration::from_secs(*elapsed);
    let tries = Tries { attempts: *attempts, broken: *broken, elapsed, ..Tries::default() };
    Policy::new(seed).next(reason, &tries, Sent { requests: *requests, repeated: *repeated })
}

fn limited(after: Option<u64>) -> Reason {
    Reason::RateLimited("global-rate".to_owned(), after)
}

#[test]
fn a_wait_is_within_its_bounds() {
    let table: [(Case, f64, f64); 18] = [
        (Case(Reason::Network, 1, 0, 0, 1, 0), 0.25, 0.5),
        (Case(Reason::Network, 2, 0, 1, 2, 1), 0.25, 1.0),
        (Case(Reason::Network, 7, 0, 100, 9, 6), 0.25, 30.0),
        (Case(Reason::Unreachable, 3, 0, 3, 3, 2), 0.25, 2.0),
        (Case(Reason::Server(500, None), 1, 0, 0, 1, 0), 0.25, 0.5),
        (Case(Reason::Server(503, Some(7)), 1, 0, 0, 1, 0), 7.0, 7.0),
        (Case(Reason::Server(503, Some(86_400)), 1, 0, 0, 1, 0), 60.0, 60.0),
        (Case(Reason::ServerFinal(500, None), 1, 0, 0, 1, 0), 5.0, 5.0),
        (Case(Reason::ServerFinal(500, Some(8)), 1, 0, 0, 1, 0), 8.0, 8.0),
        (Case(Reason::ServerFinal(500, Some(600)), 1, 0, 0, 1, 0), 60.0, 60.0),
        (Case(Reason::Broken, 1, 1, 0, 1, 0), 0.25, 0.5),
        (Case(Reason::Broken, 2, 2, 0, 2, 1), 0.25, 1.0),
        // What Stripe asks to repeat is repeated whatever the run has spent.
        (Case(limited(None), 40, 0, 299, 40, 5_000), 0.25, 30.0),
        (Case(limited(Some(3)), 1, 0, 0, 1, 0), 3.0, 3.0),
        (Case(Reason::LockTimeout(None), 20, 0, 200, 20, 5_000), 0.25, 30.0),
        (Case(Reason::LockTimeout(Some(4)), 1, 0, 0, 1, 0), 4.0, 4.0),
        (Case(Reason::TooLarge, 1, 0, 0, 1, 0), 0.25, 0.25),
        (Case(Reason::TooLarge, 9, 0, 60, 9, 5_000), 0.25, 0.25),
    ];
    for (case, least, most) in &table {
        for seed in 0..200 {
            let Next::Wait(wait) = next(case, seed) else { panic!("{:?} is given up", case.0) };
            assert!((*least..=*most).contains(&wait.as_secs_f64()), "{:?}: {wait:?}", case.0);
        }
    }
}

#[test]
fn what_stripe_asks_to_repeat_uses_up_no_attempts() {
    let mut tries = Tries { attempts: 8, ..Tries::default() };
    (0..7).for_each(|_| tries.count(&limited(None)));
    let sent = Sent { requests: 100, repeated: 1 };
    for reason in [Reason::Network, Reason::Broken, Reason::Server(500, None)] {
        let mut tries = tries;
        tries.count(&reason);
        assert!(matches!(Policy::new(1).next(&reason, &tries, sent), Next::Wait(_)), "{reason:?}");
    }
    // Attempts of its own count as ever.
    tries.attempts += 8;
    assert_eq!(Policy::new(1).next(&Reason::Network, &tries, sent), Next::GiveUp(Spent::Attempts(16)));
}

#[test]
fn patience_ends() {
    let patience = Duration::from_secs(300);
    let sent = |requests, repeated| Sent { requests, repeated };
    let table = [
        (Case(Reason::Network, 8, 0, 0, 8, 7), Spent::Attempts(8)),
        (Case(Reason::Unreachable, 8, 0, 0, 8, 7), Spent::Attempts(8)),
        (Case(Reason::Server(500, None), 8, 0, 0, 8, 7), Spent::Attempts(8)),
        (Case(Reason::Server(500, None), 2, 0, 300, 8, 7), Spent::Patience(2, patience)),
        (Case(Reason::ServerFinal(500, None), 2, 0, 5, 2, 1), Spent::Attempts(2)),
        (Case(Reason::Broken, 3, 3, 0, 3, 2), Spent::Attempts(3)),
        (Case(limited(None), 9, 0, 300, 9, 8), Spent::Patience(9, patience)),
        (Case(Reason::LockTimeout(None), 9, 0, 300, 9, 8), Spent::Patience(9, patience)),
        (Case(Reason::TooLarge, 5, 0, 300, 9, 8), Spent::Patience(5, patience)),
        // The whole run may repeat 50 requests and one in ten.
        (Case(Reason::Server(500, None), 1, 0, 0, 100, 60), Spent::Run(1, sent(100, 60))),
        (Case(Reason::Network, 1, 0, 0, 5, 50), Spent::Run(1, sent(5, 50))),
        (Case(Reason::Unreachable, 1, 0, 0, 5, 50), Spent::Run(1, sent(5, 50))),
        (Case(Reason::Broken, 1, 1, 0, 5, 50), Spent::Run(1, sent(5, 50))),
        (Case(Reason::ServerFinal(500, None), 1, 0, 0, 5, 50), Spent::Run(1, sent(5, 50))),
    ];
    for (case, spent) in &table {
        assert_eq!(next(case, 1), Next::GiveUp(*spent), "{:?}", case.0);
    }
}

/// Status, `Stripe-Rate-Limited-Reason`, `Stripe-Should-Retry`, `Retry-After`, and what they mean.
#[test]
fn what_the_server_says_decides_what_is_repeated() {
    type Line = (u16, Option<&'static str>, Option<bool>, Option<u64>, Option<Reason>);
    let rate = || Some("endpoint-rate");
    let limited = |after| Some(Reason::RateLimited("endpoint-rate".to_owned(), after));
    let table: [Line; 25] = [
        (429, rate(), None, None, limited(None)),
        (429, rate(), Some(false), Some(9), limited(Some(9))),
        (429, None, None, None, Some(Reason::LockTimeout(None))),
        (429, None, Some(true), Some(2), Some(Reason::LockTimeout(Some(2)))),
        (409, None, None, None, Some(Reason::LockTimeout(None))),
        (423, None, None, Some(3), Some(Reason::LockTimeout(Some(3)))),
        (101, None, None, None, Some(Reason::Broken)),
        (304, None, None, None, Some(Reason::Broken)),
        (408, None, None, None, Some(Reason::Server(408, None))),
        (425, None, None, None, Some(Reason::Server(425, None))),
        (500, None, None, None, Some(Reason::Server(500, None))),
        (500, None, Some(true), Some(5), Some(Reason::Server(500, Some(5)))),
        (500, None, Some(false), None, Some(Reason::ServerFinal(500, None))),
        (503, None, Some(false), Some(5), Some(Reason::ServerFinal(503, Some(5)))),
        (502, None, None, None, Some(Reason::Server(502, None))),
        (504, None, None, None, Some(Reason::Server(504, None))),
        (520, None, None, None, Some(Reason::Server(520, None))),
        (529, None, None, None, Some(Reason::Server(529, None))),
        (400, None, Some(true), None, Some(Reason::Server(400, None))),
        (400, None, None, None, None),
        (401, None, None, None, None),
        (402, None, None, Some(9), None),
        (403, None, Some(false), None, None),
        (404, None, None, None, None),
        (302, None, None, None, None),
    ];
    for (status, reason, should_retry, retry_after_secs, expected) in table {
        let mut response = refusal(status, "odd", None, "told");
        response.headers.rate_limited_reason = reason.map(str::to_owned);
        response.headers.should_retry = should_retry;
        response.headers.retry_after_secs = retry_after_secs;
        let answer = judge(&Request::new("/v1/charges"), response, |_| Ok(()));
        let got = match answer {
            Answer::Retry(reason, _) => Some(reason),
            Answer::Refused(_) => None,
            _ => panic!("{status}: neither repeated nor refused"),
        };
        assert_eq!(got, expected, "{status} {should_retry:?}");
    }
}

#[test]
fn eight_attempts_end_with_a_page_of_one_object() {
    let mut tries = Tries::default();
    let mut limits = Vec::new();
    for reason in [Reason::Network, Reason::Server(500, None)].iter().cycle().take(8) {
        limits.push(100 >> tries.halvings());
        tries.count(reason);
    }
    assert_eq!(limits, [100, 100, 50, 25, 12, 6, 3, 1]);
    // Neither a refusal nor a name that is not known has to do with the page.
    let mut tries = Tries::default();
    for reason in [limited(None), Reason::LockTimeout(None), Reason::Unreachable, Reason::Broken] {
        tries.count(&reason);
        tries.count(&reason);
    }
    assert_eq!(tries.halvings(), 0);
}

/// Sends requests from many workers and returns when each one started, with its path.
async fn started(limits: Arc<Limits>, workers: Vec<(usize, u64, u32)>) -> Vec<(usize, Duration)> {
    let workers = workers.into_iter().map(|worker| (worker, false));
    started_in_turn(limits, workers.collect()).await
}

/// The same, of workers whose requests are urgent or not.
async fn started_in_turn(
    limits: Arc<Limits>,
    workers: Vec<((usize, u64, u32), bool)>,
) -> Vec<(usize, Duration)> {
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for ((path, pause, n), is_urgent) in workers {
        let limits = limits.clone();
        tasks.spawn(async move {
            let mut starts = Vec::new();
            for _ in 0..n {
                drop(limits.ready(&format!("/v1/{path}"), is_urgent).await);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn no_second_sees_more_requests_than_the_rate(
        share in 0.1f64..1.0,
        livemode in any::<bool>(),
        workers in proptest::collection::vec(((0usize..6, 0u64..400, 1u32..40), any::<bool>()), 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let starts = runtime.block_on(started_in_turn(Arc::new(Limits::new(Rate::Share(share), livemode)), workers));
        let all: Vec<Duration> = starts.iter().map(|(_, at)| *at).collect();
        let account = if livemode { 100.0 } else { 25.0 };
        prop_assert!(most_in_a_second(&all) <= (account * share).ceil() as usize, "{} in a second", most_in_a_second(&all));
        for path in 0..6 {
            let own: Vec<Duration> = starts.iter().filter(|(p, _)| *p == path).map(|(_, at)| *at).collect();
            prop_assert!(most_in_a_second(&own) <= (25.0 * share).ceil() as usize, "{} to one endpoint", most_in_a_second(&own));
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
async fn an_urgent_request_overtakes_those_that_wait_and_costs_the_rate_nothing() {
    let limits = Arc::new(Limits::new(Rate::PerSecond(10.0), true));
    let others = tokio::spawn(started(limits.clone(), vec![(0, 0, 40); 5]));
    let urgent = started_in_turn(limits, vec![((0, 300, 30), true)]).await;
    // Each waits for one token at most, which is a tenth of a second, and its worker for 300 ms.
    let last = urgent.last().unwrap().1;
    assert!(last <= Duration::from_millis(30 * 400), "{last:?}");
    // All 230 take the time that the rate gives, with 20 ms more in each second.
    let last = others.await.unwrap().last().unwrap().1;
    assert!((22.0..23.8).contains(&last.as_secs_f64()), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn n1_every_second_of_429_halves_the_rate_and_it_creeps_up_again() {
    let limits = Arc::new(Limits::new(Rate::Share(0.8), true));
    for _ in 0..4 {
        for _ in 0..5 {
            drop(limits.ready("/v1/0", false).await);
            limits.slow_down("/v1/0", "global-rate");
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

#[tokio::test(start_paused = true)]
async fn n1_one_429_by_chance_costs_seconds_and_several_have_the_last_word() {
    let took = async |limits: &Arc<Limits>, n: u32| {
        let begin = Instant::now();
        started(limits.clone(), vec![(0, 0, n)]).await;
        begin.elapsed().as_secs_f64()
    };
    let limits = Arc::new(Limits::new(Rate::Share(0.8), true));
    limits.slow_down("/v1/0", "endpoint-rate");
    let first = took(&limits, 20).await;
    assert!((1.5..2.1).contains(&first), "20 at ten a second, and a little more each second: {first}");
    let more = took(&limits, 180).await;
    assert!((10.0..13.0).contains(&more), "180 on the way to 18 a second: {more}");
    // What it gets back to quickly is less than what was refused last.
    for _ in 0..3 {
        limits.slow_down("/v1/0", "endpoint-rate");
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    let slow = took(&limits, 60).await;
    assert!(slow > 10.0, "60 at three to six a second: {slow}");
}

#[tokio::test(start_paused = true)]
async fn n1_a_limit_of_one_endpoint_does_not_slow_the_others_down() {
    for (reason, others) in [("endpoint-rate", 1_100), ("global-rate", 2_100), ("resource-specific", 1_100)] {
        let limits = Arc::new(Limits::new(Rate::Share(0.2), true));
        limits.slow_down("/v1/0", reason);
        let begin = Instant::now();
        // Twenty requests/s in all, five to each of four endpoints.
        started(limits, vec![(1, 0, 5), (2, 0, 5), (3, 0, 5), (4, 0, 5)]).await;
        let took = begin.elapsed();
        assert!(took <= Duration::from_millis(others), "{reason}: {took:?}");
        assert_eq!(took > Duration::from_millis(1_200), reason == "global-rate", "{reason}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn n1_too_many_at_once_are_fewer_at_the_same_rate() {
    for (reason, path, other) in
        [("endpoint-concurrency", "/v1/0", true), ("global-concurrency", "/v1/1", false)]
    {
        let limits = Arc::new(Limits::new(Rate::Share(0.8), true));
        let mut at_work = Vec::new();
        for _ in 0..7 {
            at_work.push(limits.ready("/v1/0", false).await);
        }
        limits.slow_down("/v1/0", reason);
        at_work.truncate(4);
        let in_a_second =
            |path: &'static str| tokio::time::timeout(Duration::from_secs(1), limits.ready(path, false));
        // Half of eight are at work.
        assert!(in_a_second(path).await.is_err(), "{reason}");
        assert_eq!(in_a_second("/v1/2").await.is_ok(), other, "{reason}");
        at_work.pop();
        at_work.push(in_a_second(path).await.expect("one has ended"));
        // One more after a while.
        tokio::time::sleep(Duration::from_secs(10)).await;
        at_work.push(in_a_second(path).await.expect("one more may be at work"));
        drop(at_work);
        // The rate is what it was: a second's worth takes a second.
        let begin = Instant::now();
        for _ in 0..21 {
            drop(limits.ready(path, false).await);
        }
        assert!(begin.elapsed() < Duration::from_millis(1_100), "{:?}", begin.elapsed());
    }
}
