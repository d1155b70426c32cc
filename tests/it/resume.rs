//! Turns runs that are killed, stopped or out of budget into lakes that equal the account after all.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use proptest::prelude::*;
use serde_json::json;
use stripelake::commit::Lake;
use stripelake::commit::state::{ResourceState, state_path};
use stripelake::error::{Error, Kind};
use stripelake::fake::script::{Action, Rewrite, Rule, answer, refusal};
use stripelake::fake::{Account, Spec};
use stripelake::fetch::allowance::Budgets;
use stripelake::fetch::{Request, Response, Transport, TransportError};
use stripelake::partition::Grain;
use stripelake::run::Setup;
use stripelake::run::event::Event;
use stripelake::run::report::Report;
use stripelake::run::sync::{Options, sync};
use tokio::sync::{Notify, watch};

use crate::harness::{TestLake, account, check_kind, scripted_table, with_long_subscriptions};
use crate::mixed_up;
use crate::order::older;
use crate::table::{Table, created, text};

/// An account whose answers take time, and that tells when a given number of requests has come.
#[derive(Debug)]
pub struct Slow {
    table: Arc<Table>,
    delay: Duration,
    n_requests: AtomicU64,
    /// Told at this request.
    at: AtomicU64,
    reached: Notify,
}

impl Slow {
    pub fn new(table: &Arc<Table>, delay: u64) -> Arc<Slow> {
        let delay = Duration::from_millis(delay);
        let (n_requests, at) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        Arc::new(Slow { table: table.clone(), delay, n_requests, at, reached: Notify::new() })
    }
}

impl Transport for Slow {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        Box::pin(async move {
            if self.n_requests.fetch_add(1, Ordering::SeqCst) + 1 == self.at.load(Ordering::SeqCst) {
                self.reached.notify_one();
            }
            tokio::time::sleep(self.delay).await;
            self.table.get(request).await
        })
    }
}

/// A runtime of its own for each run, with a clock of its own.
pub fn alone<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(run)
}

/// One run to its end, and its requests.
pub fn run(lake: &TestLake, table: &Arc<Table>, options: Options) -> (Report, u64) {
    let slow = Slow::new(table, 150);
    let report = alone(async {
        let report = lake.sync_with(options, slow.clone()).await.unwrap();
        lake.check_intact().await;
        report
    });
    (report, slow.n_requests.load(Ordering::SeqCst))
}

/// A run that dies at its `n`-th request, with all its tasks; `None` if it did.
pub fn killed_at(lake: &TestLake, table: &Arc<Table>, options: Options, n: u64) -> Option<Report> {
    // Slow enough for progress to be written on the way.
    let slow = Slow::new(table, 3_000);
    slow.at.store(n, Ordering::SeqCst);
    let report = alone(async {
        tokio::select! {
            biased;
            () = slow.reached.notified() => None,
            report = lake.sync_with(options, slow.clone()) => Some(report.unwrap()),
        }
    });
    alone(async {
        // The lease of a dead run would only expire.
        let _ = lake.lake.remove("_stripelake/lease.json").await;
        for resource in &lake.catalog.resources {
            lake.rows(&resource.name).await;
        }
    });
    report
}

/// So many pages of all resources need not be read again, by their states.
fn n_settled_pages(lake: &TestLake, table: &Table) -> u64 {
    let settled = lake.catalog.listed().map(|resource| {
        let state = alone(lake.state(&resource.name));
        let progress = state.and_then(|state| state.progress);
        let read = progress.map_or(Vec::new(), |progress| [progress.read, progress.kept].concat());
        let is_read = |second: i64| read.iter().any(|(start, end)| (*start..*end).contains(&second));
        let old = table.now() - 600;
        let objects = table.list(&resource.name);
        objects.iter().map(created).filter(|second| *second < old && is_read(*second)).count() as u64 / 100
    });
    settled.sum()
}

/// Nothing that Stripe shows is missing or marked deleted, whatever its form.
fn check_all_there(lake: &TestLake, table: &Table) {
    for resource in lake.catalog.listed() {
        let ids = alone(lake.ids(&resource.name));
        for object in table.list(&resource.name) {
            assert!(ids.contains(text(&object["id"])), "I1: {} lacks {}", resource.name, object["id"]);
        }
    }
}

/// Nothing that Stripe shows is marked deleted.
fn check_none_is_marked(lake: &TestLake, table: &Table) {
    for name in ["customers", "prices"] {
        let rows = alone(lake.rows(name));
        for object in table.list(name) {
            let row = rows.get(text(&object["id"]));
            assert!(row.is_none_or(|row| row["_deleted"] == false), "{} is marked", object["id"]);
        }
    }
}

/// Something of everything happens to an account.
fn change(table: &Table, round: i64) {
    for name in ["charges", "customers", "prices", "refunds"] {
        table.edit(name, |objects| {
            let n = objects.len();
            if n < 8 {
                return;
            }
            objects[n / 3]["metadata"] = json!({"round": round.to_string()});
            objects[n - 2]["metadata"] = json!({"round": round.to_string()});
            if ["customers", "prices"].contains(&name) {
                objects.remove(n / 2);
                objects.remove(n / 5);
            }
            let mut new = objects[0].clone();
            new["id"] = format!("new_{name}{round}").into();
            new["created"] = (table_now(round) - 700).max(created(&objects[0])).into();
            objects.insert(0, new);
        });
    }
    table.set_now(table_now(round));
}

/// An hour passes with each change.
fn table_now(round: i64) -> i64 {
    1_780_000_000 + 3_600 * round
}

fn medium() -> Arc<Table> {
    Table::of(&account(31, 1_000))
}

#[test]
fn a_run_killed_at_any_request_is_continued_and_little_is_read_again() {
    let table = medium();
    let whole = TestLake::new();
    let (report, total) = run(&whole, &table, whole.options());
    check_kind(&report, None);
    assert!(total > 35, "{total}");
    let mut most_saved = 0;
    for n in (1..=total).step_by(7) {
        let lake = TestLake::new();
        killed_at(&lake, &table, lake.options(), n);
        let settled = n_settled_pages(&lake, &table);
        let (report, requests) = run(&lake, &table, lake.options());
        check_kind(&report, None);
        alone(lake.check_equals(&table));
        // The account, slices in flight, and for each list what is new, its passes and a page cut in two.
        let at_most = total - settled + 1 + 4 + 3 * 7;
        assert!(
            requests <= at_most,
            "killed at {n}: {requests} requests, {settled} of {total} pages settled"
        );
        most_saved = most_saved.max(total.saturating_sub(requests));
        // All of it has come to its end: the next run lists everything.
        let (_, requests) = run(&lake, &table, lake.options());
        assert!(requests + 5 >= total, "killed at {n}: {requests} requests of {total}");
    }
    assert!(most_saved * 3 > total, "at most {most_saved} of {total} requests were saved");
}

#[test]
fn a_run_that_is_killed_again_and_again_gets_to_its_end() {
    let table = medium();
    for n in [20, 28] {
        let lake = TestLake::new();
        let mut n_runs = 0;
        while killed_at(&lake, &table, lake.options(), n).is_none() {
            n_runs += 1;
            assert!(n_runs < 20, "{n} requests at a time get nowhere");
        }
        alone(lake.check_equals(&table));
    }
}

#[test]
fn what_changes_between_a_kill_and_the_next_run_comes_with_the_one_after() {
    for n in [12, 25, 38] {
        let table = medium();
        let lake = TestLake::new();
        killed_at(&lake, &table, lake.options(), n);
        change(&table, 1);
        let (report, _) = run(&lake, &table, lake.options());
        check_kind(&report, None);
        check_all_there(&lake, &table);
        let (report, _) = run(&lake, &table, lake.options());
        check_kind(&report, None);
        alone(lake.check_equals(&table));
    }
}

#[test]
fn a_continued_listing_counts_as_old_as_its_beginning() {
    let table = medium();
    let lake = TestLake::new();
    killed_at(&lake, &table, lake.options(), 28);
    let began =
        |name: &str| alone(lake.state(name)).and_then(|state| state.progress).map(|progress| progress.began);
    let kept: Vec<(String, i64)> =
        lake.catalog.listed().filter_map(|r| Some((r.name.clone(), began(&r.name)?))).collect();
    assert!(!kept.is_empty());
    change(&table, 30);
    check_kind(&run(&lake, &table, lake.options()).0, None);
    for (name, began) in kept {
        let complete_until = alone(lake.state(&name)).unwrap().complete_until;
        assert!(
            complete_until.is_some_and(|until| until <= began),
            "{name}: {complete_until:?}, began {began}"
        );
    }
}

#[test]
fn a_continued_refresh_marks_what_has_vanished_and_nothing_else() {
    for n in [8, 22, 33] {
        let table = medium();
        let lake = TestLake::new();
        check_kind(&run(&lake, &table, lake.options()).0, None);
        change(&table, 1);
        let mut rounds = 1;
        while killed_at(&lake, &table, lake.options(), n + rounds as u64 * 7).is_none() {
            check_none_is_marked(&lake, &table);
            rounds += 1;
            change(&table, rounds);
        }
        check_all_there(&lake, &table);
        check_kind(&run(&lake, &table, lake.options()).0, None);
        alone(lake.check_equals(&table));
    }
}

/// Runs with these budgets until one is complete; returns how many it took.
fn repeat(lake: &TestLake, table: &Arc<Table>, budgets: Budgets, names: &[&str]) -> u64 {
    for n_runs in 1..200 {
        let options = || if names.is_empty() { lake.options() } else { lake.options_for(names) };
        let (report, requests) = run(lake, table, Options { budgets, ..options() });
        assert!(requests <= budgets.requests.unwrap_or(u64::MAX), "{requests} requests");
        if report.kind().is_none() {
            return n_runs;
        }
        check_kind(&report, Some(Kind::Budget));
        check_all_known_files_are_read(lake);
    }
    panic!("{budgets:?} never come to an end");
}

/// What the progress says was read has a grain, and so files.
fn check_all_known_files_are_read(lake: &TestLake) {
    for resource in lake.catalog.listed() {
        let Some(state) = alone(lake.state(&resource.name)) else { continue };
        if let Some(progress) = state.progress {
            assert!(!progress.read.is_empty());
            assert!(progress.read.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", progress.read);
        }
    }
}

#[test]
fn budgets_of_requests_come_to_the_end_in_several_runs() {
    for requests in [12, 14, 30] {
        let table = Table::of(&account(31, 1_500));
        let lake = TestLake::new();
        let budgets = Budgets { requests: Some(requests), ..Budgets::default() };
        let n_runs = repeat(&lake, &table, budgets, &[]);
        alone(lake.check_equals(&table));
        assert!(n_runs > 1, "{requests} requests are enough");
        // A refresh in as many parts marks what has vanished.
        change(&table, 1);
        repeat(&lake, &table, budgets, &[]);
        alone(lake.check_equals(&table));
    }
}

#[test]
fn thousands_of_inactive_prices_come_to_the_end_with_few_requests_a_run() {
    let account =
        Account::new(Spec { prices: Some(3_000), ..Spec { seed: 32, charges: 10, ..Spec::default() } });
    let table = Table::some_of(&account, |name| name == "prices");
    table.edit("prices", |prices| {
        prices.iter_mut().enumerate().for_each(|(n, price)| price["active"] = (n % 20 == 0).into());
    });
    let lake = TestLake::new();
    let budgets = Budgets { requests: Some(12), ..Budgets::default() };
    let n_runs = repeat(&lake, &table, budgets, &["prices"]);
    alone(lake.check_table_equals(&table, "prices"));
    assert!(n_runs < 30, "{n_runs} runs for 33 full pages");
}

#[test]
fn the_fewest_requests_settle_something_in_each_run_while_time_goes_on() {
    let account =
        Account::new(Spec { prices: Some(1_000), ..Spec { seed: 36, charges: 10, ..Spec::default() } });
    for requests in 7..=9 {
        let table = Table::some_of(&account, |name| name == "prices");
        table.edit("prices", |prices| prices.iter_mut().for_each(|price| price["active"] = false.into()));
        let lake = TestLake::new();
        let budgets = Budgets { requests: Some(requests), ..Budgets::default() };
        let n_runs = (1..60).find(|_| {
            table.set_now(table.now() + 60);
            let options = Options { budgets, concurrency: 16, ..lake.options_for(&["prices"]) };
            run(&lake, &table, options).0.kind().is_none()
        });
        eprintln!("{requests} requests: {n_runs:?} runs");
        alone(lake.check_table_equals(&table, "prices"));
        assert!(n_runs.is_some(), "{requests} requests never come to the end");
    }
}

#[test]
fn a_budget_of_time_comes_to_the_end_in_several_runs() {
    let table = medium();
    let lake = TestLake::new();
    let budgets = Budgets { duration: Some(Duration::from_millis(900)), ..Budgets::default() };
    let n_runs = repeat(&lake, &table, budgets, &[]);
    alone(lake.check_equals(&table));
    assert!((2..20).contains(&n_runs), "{n_runs}");
}

#[test]
fn the_uninterrupted_run_is_the_oracle_of_the_parts() {
    let table = medium();
    let (whole, parts) = (TestLake::new(), TestLake::new());
    run(&whole, &table, whole.options());
    repeat(&parts, &table, Budgets { requests: Some(17), ..Budgets::default() }, &[]);
    for resource in &whole.catalog.resources {
        let mut rows = [alone(whole.rows(&resource.name)), alone(parts.rows(&resource.name))];
        rows.iter_mut().for_each(|rows| rows.values_mut().for_each(|row| drop(row.remove("_synced_at"))));
        assert!(rows[0] == rows[1], "{} differs", resource.name);
    }
}

#[test]
fn g13_items_behind_a_subscription_are_not_lost_with_the_budget() {
    let table = Table::of(&with_long_subscriptions());
    for requests in [9, 13, 40] {
        let lake = TestLake::new();
        let budgets = Budgets { requests: Some(requests), ..Budgets::default() };
        for n in 0..400 {
            let options = Options { budgets, ..lake.options_for(&["subscriptions"]) };
            if run(&lake, &table, options).0.kind().is_none() {
                break;
            }
            assert!(n < 399, "{requests} requests get nowhere");
        }
        alone(lake.check_table_equals(&table, "subscriptions"));
    }
}

#[test]
fn g13_a_run_that_ends_early_shows_no_part_of_a_list_of_items() {
    let table = Table::of(&with_long_subscriptions());
    let (_, total) = run(&TestLake::new(), &table, TestLake::new().options_for(&["subscriptions"]));
    let mut n_whole = 0;
    for requests in (3..total).step_by(2) {
        let lake = TestLake::new();
        let budgets = Budgets { requests: Some(requests), ..Budgets::default() };
        run(&lake, &table, Options { budgets, ..lake.options_for(&["subscriptions"]) });
        n_whole += check_items_are_whole(&lake, &table);
    }
    assert!(n_whole > 100, "{n_whole}");
}

#[test]
fn g13_a_page_in_doubt_that_nobody_answers_for_shows_no_part_of_a_list_of_items() {
    let table = Table::of(&with_long_subscriptions());
    table.edit("subscriptions", |subscriptions| older(subscriptions, 298..300, 300));
    let script = scripted_table(&table);
    let n_asked = Arc::new(AtomicU64::new(0));
    let n = n_asked.clone();
    let refused: Rewrite = Arc::new(move |request, response| {
        let has = |name: &str| request.query.iter().any(|(key, _)| key == name);
        match has("created[gte]") && has("created[lt]") && !has("starting_after") {
            true => {
                n.fetch_add(1, Ordering::SeqCst);
                answer(500, String::new())
            }
            false => response,
        }
    });
    script.rules.add(Rule::new("/v1/subscriptions", Action::Rewrite(refused)));
    let lake = TestLake::new();
    let options = Options { concurrency: 6, ..lake.options_for(&["subscriptions"]) };
    check_kind(
        &alone(lake.sync_with(options, Arc::new(mixed_up::Slow(script)))).unwrap(),
        Some(Kind::Stripe),
    );
    assert!(n_asked.load(Ordering::SeqCst) > 0, "no page was in doubt");
    assert!(check_items_are_whole(&lake, &table) > 100);
}

/// Each subscription in the lake has all of its items, and no item is without one. Returns how many there are.
fn check_items_are_whole(lake: &TestLake, table: &Table) -> usize {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, row) in alone(lake.rows("subscription_items")) {
        found.entry(text(&row["subscription"]).to_owned()).or_default().insert(id);
    }
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for item in table.list("subscription_items") {
        expected
            .entry(text(&item["subscription"]).to_owned())
            .or_default()
            .insert(text(&item["id"]).to_owned());
    }
    let subscriptions = alone(lake.ids("subscriptions"));
    for id in &subscriptions {
        assert_eq!(found.remove(id), expected.remove(id), "{id}");
    }
    assert!(found.is_empty(), "items without a subscription: {found:?}");
    subscriptions.len()
}

#[test]
fn a_budget_that_cannot_do_is_refused_or_told() {
    let table = medium();
    let lake = TestLake::new();
    let few = |requests| Budgets { requests: Some(requests), ..Budgets::default() };
    let error = alone(lake.sync_with(Options { budgets: few(7), ..lake.options() }, table.clone()));
    assert_eq!(error.unwrap_err().kind(), Kind::Usage);

    // 500 charges of one second are settled together or not at all.
    let table = Table::charges(32, 500);
    let second = table.now() - 5_000;
    table.edit("charges", |charges| charges.iter_mut().for_each(|charge| charge["created"] = second.into()));
    let options = |requests| Options { budgets: few(requests), ..lake.options_for(&["charges"]) };
    for _ in 0..2 {
        let (report, _) = run(&lake, &table, options(4));
        check_kind(&report, Some(Kind::Budget));
        let (_, error) = &report.failures[0];
        assert!(error.to_string().contains("--max-requests of 4"), "{error}");
    }
    let (report, _) = run(&lake, &table, options(4));
    let hint = report.failures[0].1.hint_text().unwrap();
    assert!(hint.contains("no further"), "{hint}");
    check_kind(&run(&lake, &table, options(60)).0, None);
    alone(lake.check_table_equals(&table, "charges"));
}

#[test]
fn a_run_that_starts_over_continues_nothing() {
    let table = Table::charges(38, 2_000);
    let lake = TestLake::new();
    let budgets = Budgets { requests: Some(12), ..Budgets::default() };
    run(&lake, &table, Options { budgets, ..lake.options_for(&["charges"]) });
    let options = Options { starts_over: true, ..lake.options_for(&["charges"]) };
    let (report, requests) = run(&lake, &table, options);
    check_kind(&report, None);
    assert!(requests >= 21 && report.tables[0].continued.is_none(), "{requests}");
    alone(lake.check_table_equals(&table, "charges"));
}

/// An account that nobody reaches, but for what the key may not read.
#[derive(Debug)]
struct Nowhere {
    is_forbidden: bool,
}

impl Transport for Nowhere {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        let is_forbidden = self.is_forbidden && request.path == "/v1/account";
        Box::pin(async move {
            match is_forbidden {
                true => Ok(refusal(403, "more_permissions_required", None, "not with this key")),
                false => Err(TransportError::Unreachable("connection refused".to_owned())),
            }
        })
    }
}

#[test]
fn n5_a_budget_of_time_does_not_hide_that_nothing_was_answered() {
    for secs in [1, 5, 20] {
        let lake = TestLake::new();
        let budgets = Budgets { duration: Some(Duration::from_secs(secs)), ..Budgets::default() };
        let options = Options { budgets, ..lake.options_for(&["charges"]) };
        let check = |error: &Error| {
            assert_eq!(error.kind(), Kind::Stripe, "{error}");
            let text = error.to_string();
            assert!(text.contains("--max-duration") && text.contains("refused"), "{text}");
        };
        check(&alone(lake.sync_with(options, Arc::new(Nowhere { is_forbidden: false }))).unwrap_err());
        let options = Options { budgets, ..lake.options_for(&["charges", "refunds"]) };
        let report = alone(lake.sync_with(options, Arc::new(Nowhere { is_forbidden: true }))).unwrap();
        assert_eq!(report.kind(), Some(Kind::Stripe));
        report.failures.iter().for_each(|(_, error)| check(error));
    }
}

#[test]
fn s9_a_signal_keeps_what_was_read() {
    let table = medium();
    let lake = TestLake::new();
    let (_, total) = run(&TestLake::new(), &table, lake.options());
    let slow = Slow::new(&table, 150);
    slow.at.store(total / 2, Ordering::SeqCst);
    let (sender, interrupted) = watch::channel(None);
    let report = alone(async {
        let options = Options { interrupted, ..lake.options() };
        let signal = async {
            slow.reached.notified().await;
            sender.send_replace(Some(Kind::Terminated));
        };
        let (report, ()) = tokio::join!(lake.sync_with(options, slow.clone()), signal);
        report.unwrap()
    });
    check_kind(&report, Some(Kind::Terminated));
    assert!(slow.n_requests.load(Ordering::SeqCst) <= total / 2 + 4, "requests after the signal");
    let (report, requests) = run(&lake, &table, lake.options());
    check_kind(&report, None);
    assert!(requests < total / 2 + 20, "{requests} of {total}");
    alone(lake.check_equals(&table));
    let events = lake.events.lock().unwrap();
    let continued = events.iter().filter(|event| matches!(event, Event::Continued { .. })).count();
    assert!(continued >= 4, "{continued}");
    assert!(report.tables.iter().filter(|table| table.continued.is_some()).count() == continued);
}

#[test]
fn p3_an_object_that_was_rejected_before_a_kill_is_not_forgotten() {
    let table = Table::charges(33, 900);
    table.edit("charges", |charges| charges[300]["created"] = json!("soon"));
    let lake = TestLake::new();
    let budgets = Budgets { requests: Some(6), ..Budgets::default() };
    let parts = run(&lake, &table, Options { budgets, ..lake.options_for(&["charges"]) }).0;
    check_kind(&parts, Some(Kind::Budget));
    let (report, _) = run(&lake, &table, lake.options_for(&["charges"]));
    check_kind(&report, Some(Kind::Partial));
    assert_eq!(report.tables[0].rejected, 1);
}

#[test]
fn g9_what_became_visible_late_is_not_missed_by_a_continued_run() {
    let table = Table::charges(36, 1_200);
    let lake = TestLake::new();
    let budgets = Budgets { requests: Some(9), ..Budgets::default() };
    let parts = Options { budgets, ..lake.options_for(&["charges"]) };
    check_kind(&run(&lake, &table, parts).0, Some(Kind::Budget));
    let mut late = table.list("charges")[0].clone();
    late["id"] = "ch_late".into();
    late["created"] = (table.now() - 500).into();
    table.edit("charges", |charges| charges.insert(0, late));
    table.edit("charges", |charges| charges.sort_by_key(|charge| -created(charge)));
    check_kind(&run(&lake, &table, lake.options_for(&["charges"])).0, None);
    alone(lake.check_table_equals(&table, "charges"));
}

#[test]
fn s6_what_killed_runs_left_is_removed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path().to_str().unwrap(), &[]).unwrap();
    let inside = folder.path().join("charges/created_year=2026-01-01");
    let outside = folder.path().join("mine");
    for at in [&inside, &outside] {
        std::fs::create_dir_all(at).unwrap();
        for name in [".stripelake-x1.tmp", ".stripelake-x1.txt", "x.tmp"] {
            std::fs::write(at.join(name), "").unwrap();
        }
    }
    lake.remove_leftovers(["charges", "refunds"].into_iter()).unwrap();
    let n_files = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    assert_eq!((n_files(&inside), n_files(&outside)), (2, 3));
    assert!(!inside.join(".stripelake-x1.tmp").exists());
}

#[test]
fn an_empty_file_that_a_killed_run_left_gives_way_whatever_its_folder() {
    let table = Table::charges(37, 60);
    for is_known in [false, true] {
        let lake = TestLake::new();
        let empty = Table::new(&table.id, table.now());
        check_kind(&run(&lake, &empty, lake.options_for(&["charges"])).0, None);
        alone(async {
            // The run has died between the file and its state.
            let path = state_path("charges");
            let (mut state, version) = lake.lake.read_json::<ResourceState>(&path).await.unwrap().unwrap();
            assert!(state.placeholder.is_some());
            if !is_known {
                state.partitions.clear();
            }
            lake.lake.write_json(&path, &state, &version).await.unwrap();
            let mut setup = lake.setup();
            setup.grains.insert("charges".to_owned(), Grain::Month);
            let report = sync(&setup, lake.options_for(&["charges"]), table.clone()).await.unwrap();
            check_kind(&report, None);
            lake.check_intact().await;
            lake.check_table_equals(&table, "charges").await;
            assert_eq!(lake.state("charges").await.unwrap().placeholder, None);
        });
    }
}

#[test]
fn a_window_leaves_the_progress_of_the_whole_alone() {
    let table = Table::charges(34, 2_000);
    let lake = TestLake::new();
    let (_, total) = run(&TestLake::new(), &table, lake.options_for(&["charges"]));
    let budgets = Budgets { requests: Some(20), ..Budgets::default() };
    run(&lake, &table, Options { budgets, ..lake.options_for(&["charges"]) });
    let progress = |lake: &TestLake| alone(lake.state("charges")).unwrap().progress;
    let before = progress(&lake);
    assert!(before.is_some());
    let since = Some(created(&table.list("charges")[300]));
    let window = Options { since, ..lake.options_for(&["charges"]) };
    check_kind(&run(&lake, &table, window).0, None);
    assert_eq!(progress(&lake), before);
    let (report, requests) = run(&lake, &table, lake.options_for(&["charges"]));
    check_kind(&report, None);
    assert!(requests + 8 < total, "{requests} of {total}");
    assert_eq!(progress(&lake), None);
    alone(lake.check_table_equals(&table, "charges"));
}

#[test]
fn a_window_is_continued_too_while_the_whole_waits() {
    for name in ["charges", "customers"] {
        let table = Table::of(&account(36, 6_000));
        let lake = TestLake::new();
        let (_, total) = run(&TestLake::new(), &table, lake.options_for(&[name]));
        let budget = |requests| Budgets { requests: Some(requests), ..Budgets::default() };
        run(&lake, &table, Options { budgets: budget(total / 4), ..lake.options_for(&[name]) });
        let whole = |lake: &TestLake| alone(lake.state(name)).unwrap().progress;
        let before = whole(&lake).expect("progress was written");
        let objects = table.list(name);
        let window = || Options {
            since: Some(created(&objects[objects.len() * 2 / 3])),
            concurrency: 1,
            ..lake.options_for(&[name])
        };
        let (_, at_once) = run(&TestLake::new(), &table, window());
        let (mut n_runs, mut asked) = (0, 0);
        loop {
            let in_part = Options { budgets: budget((at_once / 3).max(6)), ..window() };
            let (report, requests) = run(&lake, &table, in_part);
            (n_runs, asked) = (n_runs + 1, asked + requests);
            assert_eq!(whole(&lake).map(|whole| whole.read), Some(before.read.clone()), "{name}");
            if report.failures.is_empty() {
                break;
            }
            assert!(n_runs < 12, "{name}: {asked} requests, {at_once} at once, {total} in all");
        }
        assert!(
            n_runs > 1 && asked < 2 * at_once,
            "{name}: {asked} requests in {n_runs} runs, {at_once} at once"
        );
        assert_eq!(alone(lake.state(name)).unwrap().window, None, "{name}");
        let (report, requests) = run(&lake, &table, lake.options_for(&[name]));
        check_kind(&report, None);
        assert!(requests <= total, "{name}: {requests} of {total}");
        assert_eq!(whole(&lake), None);
        alone(lake.check_table_equals(&table, name));
    }
}

#[test]
fn progress_that_does_not_fit_is_not_continued() {
    let table = Table::charges(35, 2_000);
    let started = || {
        let lake = TestLake::new();
        let budgets = Budgets { requests: Some(12), ..Budgets::default() };
        run(&lake, &table, Options { budgets, ..lake.options_for(&["charges"]) });
        lake
    };
    // Twelve of 21 were made.
    let check_whole = |lake: &TestLake, options: Options, at_least: u64| {
        let (report, requests) = run(lake, &table, options);
        check_kind(&report, None);
        assert!(requests >= at_least, "{requests}");
        alone(lake.check_table_equals(&table, "charges"));
    };
    let lake = started();
    check_whole(
        &lake,
        Options { stripe_version: "2020-01-01".to_owned(), ..lake.options_for(&["charges"]) },
        21,
    );

    let lake = started();
    let path = alone(lake.parquet("charges")).into_keys().next().unwrap();
    alone(lake.lake.remove(&path)).unwrap();
    // Its own seconds are read again, and no others.
    check_whole(&lake, lake.options_for(&["charges"]), 14);

    let lake = started();
    let now = table.now();
    table.set_now(now + 30 * 86_400);
    check_whole(&lake, lake.options_for(&["charges"]), 21);
    table.set_now(now);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn any_chain_of_kills_and_budgets_ends_equal_to_the_account(
        seed in 0u64..1_000_000,
        charges in 0u64..900,
        concurrency in 1usize..9,
        ends in proptest::collection::vec((1u64..60, any::<bool>(), any::<bool>()), 1..7),
    ) {
        let table = Table::of(&account(seed, charges));
        let lake = TestLake::new();
        let mut rounds = 0;
        for (n, is_kill, changes) in ends {
            let options = Options { concurrency, ..lake.options() };
            if is_kill {
                killed_at(&lake, &table, options, n);
            } else {
                let budgets = Budgets { requests: Some(n + 11), ..Budgets::default() };
                run(&lake, &table, Options { budgets, ..options });
            }
            check_none_is_marked(&lake, &table);
            if changes {
                rounds += 1;
                change(&table, rounds);
            }
        }
        check_kind(&run(&lake, &table, lake.options()).0, None);
        check_all_there(&lake, &table);
        // The next one has nothing to continue and lists everything.
        check_kind(&run(&lake, &table, lake.options()).0, None);
        alone(lake.check_equals(&table));
    }
}

#[test]
fn a_run_that_is_killed_when_its_resources_are_closed_lists_none_of_them_anew() {
    let table = medium();
    let lake = TestLake::new();
    let is_killed = alone(async {
        let (told, slow) = (Arc::new(Notify::new()), Slow::new(&table, 3_000));
        let tell = told.clone();
        let on_event = Arc::new(move |event: Event| {
            if matches!(event, Event::Done { .. }) {
                tell.notify_one();
            }
        });
        let setup = Setup { on_event, ..lake.setup() };
        tokio::select! {
            biased;
            () = told.notified() => true,
            report = sync(&setup, lake.options(), slow) => {
                check_kind(&report.unwrap(), None);
                false
            }
        }
    });
    assert!(is_killed);
    alone(lake.lake.remove("_stripelake/lease.json")).unwrap();
    let (report, requests) = run(&lake, &table, lake.options());
    check_kind(&report, None);
    check_all_there(&lake, &table);
    let total = run(&TestLake::new(), &table, lake.options()).1;
    assert!(requests * 2 < total, "{requests} requests of {total}");
}
