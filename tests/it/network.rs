//! Turns bad answers and broken connections into complete lakes, or into the right exit.

use std::sync::Arc;
use std::time::Duration;

use stripelake::error::{Error, Kind};
use stripelake::fake::script::{Action, Asked, Rule, Scripted, answer, refusal};
use stripelake::fake::{Account, Spec};
use stripelake::fetch::allowance::Budgets;
use stripelake::fetch::limit::Rate;
use stripelake::fetch::{Response, TransportError};
use stripelake::run::event::Event;
use stripelake::run::sync::Options;
use tokio::time::Instant;

use crate::harness::{TestLake, account, check_kind, scripted, scripted_table};
use crate::table::Table;

const CHARGES: &str = "/v1/charges";

/// A lake, an account of some pages, and a script in front of it.
fn world(seed: u64) -> (TestLake, Arc<Table>, Arc<Scripted>) {
    let table = Table::of(&account(seed, 350));
    let script = scripted_table(&table);
    (TestLake::new(), table, script)
}

/// The fault passes, the run goes on, and nothing is lost.
async fn check_recovers(seed: u64, rules: Vec<Rule>) -> Arc<Scripted> {
    let (lake, table, script) = world(seed);
    rules.into_iter().for_each(|rule| script.rules.add(rule));
    lake.sync_completely(script.clone()).await;
    lake.check_equals(&table).await;
    script
}

/// The fault on charges lasts: all the others complete, charges say why not; a later run repairs it.
async fn check_one_fails(seed: u64, rule: Rule, kind: Kind, says: &str) -> Arc<Scripted> {
    let (lake, table, script) = world(seed);
    script.rules.add(rule);
    let report = lake.sync(script.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Partial));
    let [(name, error)] = report.failures.as_slice() else { panic!("{:?}", report.failures) };
    assert_eq!((name.as_str(), error.kind()), ("charges", kind), "{error}");
    assert!(error.to_string().contains(says), "expected \"{says}\", got \"{error}\"");
    lake.check_intact().await;
    for resource in lake.catalog.listed().filter(|resource| resource.name != "charges") {
        lake.check_table_equals(&table, &resource.name).await;
    }
    script.rules.clear();
    lake.sync_completely(script.clone()).await;
    lake.check_equals(&table).await;
    script
}

fn rate_limited(reason: Option<&str>) -> Response {
    let mut response = refusal(429, "rate_limit", None, "Request rate limit exceeded.");
    response.headers.rate_limited_reason = reason.map(str::to_owned);
    response
}

fn slow_options(lake: &TestLake) -> Options {
    Options { rate: Rate::Share(0.8), concurrency: 8, ..lake.options() }
}

/// The most requests that any span of `secs` seconds saw.
fn most_in(asked: &[Asked], secs: f64) -> usize {
    let until = |start: &Asked| start.at + Duration::from_secs_f64(secs);
    let count = |start: &Asked| asked.iter().filter(|a| a.at >= start.at && a.at < until(start)).count();
    asked.iter().map(count).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn n1_a_storm_of_429_slows_the_run_down_and_loses_nothing() {
    let table = Table::of(&account(31, 350));
    let script = scripted_table(&table);
    script
        .rules
        .add(Rule::new("/v1/*", Action::Answer(rate_limited(Some("global-rate")))).from_nth(4).times(60));
    let lake = TestLake::new();
    let report = lake.sync_with(slow_options(&lake), script.clone()).await.unwrap();
    check_kind(&report, None);
    lake.check_equals(&table).await;
    assert_eq!(report.slowdowns, 60);
    let log = script.log();
    let refused: Vec<Asked> = log.iter().filter(|asked| asked.status == Some(429)).cloned().collect();
    assert_eq!(refused.len(), 60);
    // 20 requests/s before; halved for every second of the storm after that.
    let late = refused.last().unwrap().at - Duration::from_secs(3);
    let storm: Vec<Asked> = refused.into_iter().filter(|asked| asked.at >= late).collect();
    assert!(most_in(&storm, 1.0) <= 3, "{} requests in a second", most_in(&storm, 1.0));
}

#[tokio::test(start_paused = true)]
async fn n2_an_endless_429_ends_the_run_after_its_patience() {
    let (lake, table, script) = world(32);
    script.rules.add(Rule::new(CHARGES, Action::Answer(rate_limited(Some("endpoint-rate")))));
    let report = lake.sync_with(lake.options_for(&["charges", "customers"]), script.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Partial));
    assert_eq!(report.failures[0].1.kind(), Kind::Stripe);
    lake.check_table_equals(&table, "customers").await;
    let last = script.asked(CHARGES).last().unwrap().at;
    assert!((300..400).contains(&last.as_secs()), "gave up after {last:?}");

    // With nothing else to complete, the run is Stripe's failure.
    let lake = TestLake::new();
    let report = lake.sync_with(lake.options_for(&["charges"]), script.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Stripe));
    lake.check_intact().await;
}

#[tokio::test(start_paused = true)]
async fn n3_a_lock_timeout_does_not_slow_the_run_down() {
    let (lake, table, script) = world(33);
    script
        .rules
        .add(Rule::new(CHARGES, Action::Answer(refusal(429, "lock_timeout", None, "locked"))).times(3));
    script.rules.add(
        Rule::new(CHARGES, Action::Answer(refusal(409, "lock_timeout", None, "locked"))).from_nth(2).times(2),
    );
    let report = lake.sync_with(slow_options(&lake), script).await.unwrap();
    check_kind(&report, None);
    assert_eq!((report.slowdowns, report.retries), (0, 5));
    lake.check_equals(&table).await;
}

#[tokio::test(start_paused = true)]
async fn n4_a_server_error_is_asked_again() {
    let rule = |status| Rule::new("/v1/*", Action::Answer(answer(status, "oops"))).from_nth(3).times(4);
    for (seed, status) in [(34, 500), (35, 502), (36, 503), (37, 520)] {
        let script = check_recovers(seed, vec![rule(status)]).await;
        assert_eq!(script.log().iter().filter(|asked| asked.status == Some(status)).count(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn n4_a_final_server_error_is_asked_again_once_and_late() {
    let mut response = answer(500, "oops");
    response.headers.should_retry = Some(false);
    let script =
        check_recovers(38, vec![Rule::new(CHARGES, Action::Answer(response.clone())).times(1)]).await;
    let asked = script.asked(CHARGES);
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(5));
    let script =
        check_one_fails(39, Rule::new(CHARGES, Action::Answer(response)), Kind::Stripe, "status 500").await;
    assert_eq!(script.asked(CHARGES).iter().filter(|asked| asked.status == Some(500)).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn n4_a_refusal_that_stripe_says_to_repeat_is_repeated() {
    let mut response = refusal(400, "odd", None, "try again");
    response.headers.should_retry = Some(true);
    check_recovers(40, vec![Rule::new(CHARGES, Action::Answer(response)).times(2)]).await;
}

#[tokio::test(start_paused = true)]
async fn n6_n7_a_connection_that_breaks_is_made_anew() {
    let broken = || Action::Fail(TransportError::Network("connection reset".to_owned()));
    let rules = vec![
        Rule::new("/v1/account", broken()).times(2),
        Rule::new(CHARGES, broken()).from_nth(2).times(3),
        Rule::new("/v1/customers", broken()).times(1),
        Rule::new("/v1/prices", broken()).with("active", "false").times(1),
    ];
    check_recovers(41, rules).await;
}

#[tokio::test(start_paused = true)]
async fn n5_a_network_that_stays_away_fails_after_eight_attempts() {
    let (lake, _, script) = world(42);
    script
        .rules
        .add(Rule::new("/v1/*", Action::Fail(TransportError::Unreachable("connection refused".to_owned()))));
    let error = lake.sync(script.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Stripe, "{error}");
    assert_eq!(script.log().len(), 8);
    assert!(lake.files().await.is_empty(), "nothing was written");
    // What it was is said each time: a name, a refusal and silence are different things to look after.
    let says_it = |event: &&Event| matches!(event, Event::Retry { reason, .. } if reason.contains("connection refused"));
    assert_eq!(lake.events.lock().unwrap().iter().filter(says_it).count(), 7);
}

#[tokio::test(start_paused = true)]
async fn n5_a_certificate_that_is_not_trusted_ends_the_run_at_once() {
    let (lake, _, script) = world(43);
    script
        .rules
        .add(Rule::new("/v1/*", Action::Fail(TransportError::Certificate("unknown issuer".to_owned()))));
    let error = lake.sync(script.clone()).await.unwrap_err();
    assert_eq!((error.kind(), script.log().len()), (Kind::Usage, 1));
}

#[tokio::test(start_paused = true)]
async fn n11_a_web_page_is_never_data() {
    let mut html = answer(200, "\n<!DOCTYPE html><html>Please log in\u{1b}[31m</html>");
    html.headers.content_type = Some("text/html".to_owned());
    check_one_fails(
        44,
        Rule::new(CHARGES, Action::Answer(html.clone())),
        Kind::Stripe,
        "got HTML (text/html)",
    )
    .await;
    let (lake, _, script) = world(45);
    script.rules.add(Rule::new("/v1/*", Action::Answer(html)));
    let error = lake.sync(script).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Stripe);
    assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn n12_a_redirect_is_refused_and_its_target_named() {
    for status in [301, 302, 307, 308] {
        let mut response = answer(status, "");
        response.headers.location = Some("http://elsewhere.example/v1/charges".to_owned());
        let (lake, _, script) = world(46);
        script.rules.add(Rule::new(CHARGES, Action::Answer(response.clone())));
        let report = lake.sync(script.clone()).await.unwrap();
        assert_eq!(report.kind(), Some(Kind::Usage));
        assert_eq!(script.asked(CHARGES).len(), 1);
        let said: Vec<String> = report.failures.iter().map(|(_, error)| error.to_string()).collect();
        assert!(said.iter().any(|said| said.contains("elsewhere.example")), "{said:?}");
        lake.check_intact().await;
    }
}

#[tokio::test(start_paused = true)]
async fn n13_a_list_that_the_account_has_not_fails_by_name() {
    let response = refusal(404, "url_invalid", None, "Unrecognized request URL");
    check_one_fails(
        47,
        Rule::new(CHARGES, Action::Answer(response)),
        Kind::Partial,
        "status 404: Unrecognized",
    )
    .await;
    let response = refusal(400, "feature_off", None, "Your account is not set up to use Charges.");
    check_one_fails(48, Rule::new(CHARGES, Action::Answer(response)), Kind::Partial, "not set up").await;
}

#[tokio::test(start_paused = true)]
async fn n10_a_request_without_an_answer_is_noticed() {
    let (lake, _, script) = world(51);
    script.rules.add(Rule::new(CHARGES, Action::Delay(Duration::from_secs(25))).times(1));
    lake.sync_completely(script).await;
    let events = lake.events.lock().unwrap().clone();
    let silent = events.iter().filter(|event| matches!(event, Event::Silence { .. })).count();
    assert_eq!(silent, 1);
}

#[tokio::test(start_paused = true)]
async fn n10_a_silent_server_does_not_outlast_the_budget_of_time() {
    for (from, kind) in [(3, Kind::Budget), (1, Kind::Stripe)] {
        let (lake, _, script) = world(51);
        script.rules.add(Rule::new(CHARGES, Action::Delay(Duration::from_secs(3_600))).from_nth(from));
        let budgets = Budgets { duration: Some(Duration::from_secs(30)), ..Budgets::default() };
        let options = Options { budgets, ..lake.options_for(&["charges"]) };
        let started = Instant::now();
        let report = lake.sync_with(options, script).await.unwrap();
        check_kind(&report, Some(kind));
        assert_eq!(started.elapsed().as_secs(), 40, "ten seconds for an answer that is on its way");
    }
}

#[tokio::test(start_paused = true)]
async fn n2_a_run_repeats_fifty_requests_and_one_in_ten_and_says_so() {
    let (lake, script) = (TestLake::new(), scripted(account(52, 3_000)));
    // Every request gets through in the end, but there are too many of them that do not at once.
    script.rules.add(Rule::new("/v1/*", Action::Answer(answer(500, "oops"))).from_nth(2).chance(0.6));
    let report = lake.sync_with(slow_options(&lake), script.clone()).await.unwrap();
    assert!(matches!(report.kind(), Some(Kind::Stripe | Kind::Partial)), "{:?}", report.failures);
    // As many as the workers had in flight may come on top.
    assert!((50..=100).contains(&report.retries), "{} retries", report.retries);
    let said = report.failures.iter().map(|(_, error)| error.to_string()).collect::<Vec<_>>().join("\n");
    assert!(said.contains("more than 50 and a tenth"), "{said}");
    assert!(report.waited_secs > 10.0, "{}", report.waited_secs);
}

#[tokio::test(start_paused = true)]
async fn n5_where_many_connections_are_refused_and_others_are_not_fewer_at_once_are_advised() {
    let (lake, script) = (TestLake::new(), scripted(account(52, 3_000)));
    let refused = Action::Fail(TransportError::Unreachable("connection refused".to_owned()));
    script.rules.add(Rule::new("/v1/*", refused).from_nth(2).chance(0.6));
    let report = lake.sync_with(slow_options(&lake), script.clone()).await.unwrap();
    let spent = |error: &&Error| error.to_string().contains("more than 50 and a tenth");
    let spent = report.failures.iter().map(|(_, error)| error).find(spent).expect("too many are repeated");
    assert!(spent.hint_text().unwrap().contains("--concurrency 1"), "{:?}", spent.hint_text());
}

#[tokio::test(start_paused = true)]
async fn a7_several_lists_together_reach_the_share_of_the_account() {
    // 150 ms per answer, and four lists of about as many pages.
    let account = Account::new(Spec {
        charges: 6_000,
        customers: Some(6_000),
        subscriptions: Some(4_000),
        livemode: true,
        ..Spec::default()
    });
    let script = scripted(account);
    script.rules.add(Rule::new("/v1/*", Action::Delay(Duration::from_millis(150))));
    let lake = TestLake::new();
    let names = ["charges", "customers", "subscriptions", "balance_transactions", "prices"];
    let options =
        Options { rate: Rate::Share(0.8), livemode: true, concurrency: 16, ..lake.options_for(&names) };
    let report = lake.sync_with(options, script.clone()).await.unwrap();
    check_kind(&report, None);
    let log = script.log();
    let at_most = most_in(&log, 1.0);
    assert!((60..=97).contains(&at_most), "{at_most} requests in the busiest second");
    let charges = most_in(&script.asked(CHARGES), 1.0);
    assert!(charges <= 25, "{charges} requests to one list");
}
