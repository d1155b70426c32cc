//! Turns lists that change or lie while they are read into complete lakes, or into an error by name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use serde_json::{Value, json};
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Hook, Rewrite, Rule, Scripted, answer, refusal};
use stripelake::fake::{Account, Spec};
use stripelake::fetch::allowance::Budgets;
use stripelake::fetch::{Response, TransportError};
use stripelake::run::sync::Options;

use crate::harness::{TestLake, account, check_kind, scripted, scripted_table, with_long_subscriptions};
use crate::table::{Table, created, text};

const CHARGES: &str = "/v1/charges";

fn hook(act: impl Fn() + Send + Sync + 'static) -> Action {
    let hook: Hook = Arc::new(move |_| act());
    Action::Hook(hook)
}

fn rewrite(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Action {
    let rewrite: Rewrite = Arc::new(move |_, response| {
        let mut page: Value = serde_json::from_slice(&response.body).unwrap();
        change(&mut page);
        Response { body: Bytes::from(page.to_string()), ..response }
    });
    Action::Rewrite(rewrite)
}

/// Only charges, with so many slices at once; expects exit 0.
async fn sync_charges(lake: &TestLake, script: &Arc<Scripted>, concurrency: usize) {
    let options = Options { concurrency, ..lake.options_for(&["charges"]) };
    let report = lake.sync_with(options, script.clone()).await.unwrap();
    check_kind(&report, None);
    lake.check_intact().await;
}

/// The run fails with `kind`, and after so few requests that it was no loop.
async fn check_charges_fail(script: &Arc<Scripted>, kind: Kind, at_most: usize) {
    let lake = TestLake::new();
    let options = Options { concurrency: 1, ..lake.options_for(&["charges"]) };
    let report = lake.sync_with(options, script.clone()).await.unwrap();
    check_kind(&report, Some(kind));
    lake.check_intact().await;
    let n = script.asked(CHARGES).len();
    assert!(n <= at_most, "{n} requests");
    script.rules.clear();
    lake.sync_completely(script.clone()).await;
}

/// New charges that look like an old one.
fn newer(table: &Table, n: i64, at: i64) -> Vec<Value> {
    let model = table.list("charges")[0].clone();
    let one = |number| {
        let mut charge = model.clone();
        charge["id"] = format!("ch_new{at}x{number}").into();
        charge["created"] = at.into();
        charge
    };
    (0..n).map(one).collect()
}

#[tokio::test(start_paused = true)]
async fn g1_objects_that_appear_at_the_head_come_with_the_next_run() {
    let table = Table::charges(81, 450);
    let script = scripted_table(&table);
    let before: BTreeSet<String> = table.list("charges").iter().map(|c| text(&c["id"]).to_owned()).collect();
    let clock = Arc::new(AtomicI64::new(table.now()));
    let (grown, at) = (table.clone(), clock.clone());
    // Some come in the very second in which the listing ends.
    let grow = hook(move || {
        let second = at.fetch_add(1, Ordering::Relaxed);
        let new = newer(&grown, if second % 2 == 0 { 150 } else { 1 }, second);
        grown.edit("charges", |charges| drop(charges.splice(0..0, new)));
        grown.set_now(second + 1);
    });
    script.rules.add(Rule::new(CHARGES, grow).times(5));
    let lake = TestLake::new();
    sync_charges(&lake, &script, 1).await;
    assert!(lake.ids("charges").await.is_superset(&before));
    script.rules.clear();
    sync_charges(&lake, &script, 4).await;
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn g2_objects_that_vanish_behind_the_cursor_are_marked_by_the_next_run() {
    let customers = Account::new(Spec { customers: Some(350), charges: 20, ..Spec::default() });
    let table = Table::some_of(&customers, |name| name == "customers");
    let script = scripted_table(&table);
    let shrunk = table.clone();
    let shrink = hook(move || shrunk.edit("customers", |customers| drop(customers.drain(10..20))));
    script.rules.add(Rule::new("/v1/customers", shrink).from_nth(2).times(1));
    let lake = TestLake::new();
    lake.sync_completely(script.clone()).await;
    lake.sync_completely(script).await;
    lake.check_equals(&table).await;
}

#[tokio::test(start_paused = true)]
async fn g7_a_list_that_ends_too_early_is_put_right_by_the_next_run() {
    let customers = Account::new(Spec { customers: Some(350), charges: 20, ..Spec::default() });
    let table = Table::some_of(&customers, |name| name == "customers");
    let script = scripted_table(&table);
    let lake = TestLake::new();
    lake.sync_completely(script.clone()).await;
    // One list cannot tell that the server lies; what it left out looks as if it had vanished.
    let too_early = rewrite(|page| {
        page["data"].as_array_mut().unwrap().truncate(60);
        page["has_more"] = false.into();
    });
    script.rules.add(Rule::new("/v1/customers", too_early));
    lake.sync_completely(script.clone()).await;
    script.rules.clear();
    lake.sync_completely(script).await;
    lake.check_equals(&table).await;
}

#[tokio::test(start_paused = true)]
async fn g7_a_full_page_is_the_last_one_only_where_nothing_follows() {
    for name in ["customers", "charges", "prices"] {
        let spec = Spec { customers: Some(350), charges: 320, prices: Some(350), ..Spec::default() };
        let table = Table::of(&Account::new(spec));
        let script = scripted_table(&table);
        let lake = TestLake::new();
        let path = format!("/v1/{name}");
        script.rules.add(Rule::new(&path, rewrite(|page| page["has_more"] = false.into())));
        for _ in 0..2 {
            let report = lake.sync_with(lake.options_for(&[name]), script.clone()).await.unwrap();
            check_kind(&report, None);
            lake.check_table_equals(&table, name).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn g7_a_list_of_full_pages_costs_one_request_more() {
    let account = Account::new(Spec { customers: Some(200), charges: 20, ..Spec::default() });
    let table = Table::some_of(&account, |name| name == "customers");
    let lake = TestLake::new();
    let report = lake.sync_completely(scripted_table(&table)).await;
    lake.check_equals(&table).await;
    let requests = report.requests;
    table.edit("customers", |customers| drop(customers.pop()));
    let report = TestLake::new().sync_completely(scripted_table(&table)).await;
    assert_eq!(requests, report.requests + 1, "and {} for one object less", report.requests);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_ends_behind_a_full_page_keeps_that_page() {
    for name in ["customers", "charges"] {
        let spec = Spec { customers: Some(100), charges: 100, ..Spec::default() };
        let table = Table::some_of(&Account::new(spec), |of| of == name);
        let lake = TestLake::new();
        let budgets = Budgets { requests: Some(2), ..Budgets::default() };
        let run = async || {
            let options = Options { budgets, ..lake.options_for(&[name]) };
            lake.sync_with(options, scripted_table(&table)).await.unwrap()
        };
        check_kind(&run().await, Some(Kind::Budget));
        // What has come since the first run takes one more.
        let mut n_runs = 1;
        while run().await.kind().is_some() {
            n_runs += 1;
            assert!(n_runs < 4, "{name}: it comes to no end");
        }
        lake.check_table_equals(&table, name).await;
    }
}

#[tokio::test(start_paused = true)]
async fn g9_an_object_that_shows_late_comes_with_the_next_run() {
    let table = Table::charges(83, 450);
    let script = scripted_table(&table);
    let (late, shown) = (table.list("charges")[5..200].to_vec(), table.clone());
    table.edit("charges", |charges| drop(charges.drain(5..200)));
    // Visible when the page that should have held them has been read.
    let show = hook(move || {
        let late = late.clone();
        shown.edit("charges", |charges| {
            if charges.len() < 450 {
                charges.splice(5..5, late);
            }
        });
    });
    script.rules.add(Rule::new(CHARGES, show).from_nth(2));
    let lake = TestLake::new();
    sync_charges(&lake, &script, 1).await;
    sync_charges(&lake, &script, 4).await;
    lake.check_table_equals(&table, "charges").await;
}

/// Takes so many charges away, the cursor last, when the `nth` page is asked for.
async fn check_cursor_vanishes(seed: u64, nth: u64, n_gone: usize, concurrency: usize) {
    let table = Table::charges(seed, 600);
    let script = scripted_table(&table);
    let vanishing = table.clone();
    let vanish: Hook = Arc::new(move |request| {
        let (_, cursor) = request.query.iter().find(|(name, _)| name == "starting_after").unwrap();
        vanishing.edit("charges", |charges| {
            let at = charges.iter().position(|charge| charge["id"] == cursor.as_str()).unwrap();
            charges.drain((at + 1).saturating_sub(n_gone)..=at);
        });
    });
    script
        .rules
        .add(Rule::new(CHARGES, Action::Hook(vanish)).with("starting_after", "*").from_nth(nth).times(1));
    let lake = TestLake::new();
    sync_charges(&lake, &script, concurrency).await;
    // What vanished was read before, and what is left is all there.
    let ids = lake.ids("charges").await;
    for charge in table.list("charges") {
        assert!(ids.contains(text(&charge["id"])), "{} is missing", charge["id"]);
    }
    assert!(script.asked(CHARGES).len() < 40, "{} requests", script.asked(CHARGES).len());
}

#[tokio::test(start_paused = true)]
async fn g3_a_cursor_that_vanishes_loses_nothing() {
    for (seed, nth, n_gone) in [(83, 1, 1), (84, 3, 1), (85, 3, 2), (86, 4, 30), (87, 2, 150)] {
        for concurrency in [1, 4] {
            check_cursor_vanishes(seed, nth, n_gone, concurrency).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn g4_a_page_that_vanishes_whole_restarts_the_slice() {
    // With the first page everything that was seen is gone.
    for (nth, n_gone) in [(1, 100), (4, 400)] {
        check_cursor_vanishes(88, nth, n_gone, 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn g3_a_cursor_that_is_always_refused_is_no_endless_loop() {
    let table = Table::charges(89, 450);
    let script = scripted_table(&table);
    let gone = refusal(400, "resource_missing", Some("starting_after"), "No such charge");
    script.rules.add(Rule::new(CHARGES, Action::Answer(gone.clone())).with("starting_after", "*"));
    // Every restart brings a page more, so this list is read to its end all the same.
    let lake = TestLake::new();
    sync_charges(&lake, &script, 1).await;
    lake.check_table_equals(&table, "charges").await;

    // In one second no restart gets on.
    let second = created(&table.list("charges")[0]);
    table.edit("charges", |charges| charges.iter_mut().for_each(|charge| charge["created"] = second.into()));
    let script = scripted_table(&table);
    script.rules.add(Rule::new(CHARGES, Action::Answer(gone)).with("starting_after", "*"));
    check_charges_fail(&script, Kind::Stripe, 60).await;
}

#[tokio::test(start_paused = true)]
async fn g3_a_cursor_that_is_listed_and_yet_refused_is_no_endless_loop() {
    let table = Table::charges(90, 450);
    let script = scripted_table(&table);
    let (list, stuck) = (table.list("charges"), table.list("charges")[99].clone());
    let gone = refusal(400, "resource_missing", Some("starting_after"), "No such charge");
    script.rules.add(Rule::new(CHARGES, Action::Answer(gone)).with("starting_after", text(&stuck["id"])));
    // Whatever else is asked for, the page ends at that object.
    let page = json!({"object": "list", "data": list[..100], "has_more": true, "url": CHARGES}).to_string();
    script.rules.add(Rule::new(CHARGES, Action::Answer(answer(200, page))));
    check_charges_fail(&script, Kind::Stripe, 100).await;
}

#[tokio::test(start_paused = true)]
async fn g5_pages_that_repeat_are_no_endless_loop() {
    let table = Table::charges(91, 1_000);
    let list = table.list("charges");
    let page = |n: usize| {
        let data = &list[n * 100..(n + 1) * 100];
        answer(200, json!({"object": "list", "data": data, "has_more": true, "url": CHARGES}).to_string())
    };
    // One page for ever.
    let script = scripted_table(&table);
    script.rules.add(Rule::new(CHARGES, Action::Answer(page(0))));
    check_charges_fail(&script, Kind::Partial, 3).await;
    // Circles of two pages and of many.
    for n_pages in [2, 9] {
        let script = scripted_table(&table);
        script.rules.add(Rule::new(CHARGES, Action::Answer(page(0))).times(1));
        for n in 0..n_pages {
            let cursor = list[n * 100 + 99]["id"].clone();
            let next = Action::Answer(page((n + 1) % n_pages));
            script.rules.add(Rule::new(CHARGES, next).with("starting_after", text(&cursor)));
        }
        check_charges_fail(&script, Kind::Partial, n_pages + 3).await;
    }
    // A server that does not know of cursors repeats once by accident.
    let script = scripted_table(&table);
    script.rules.add(Rule::new(CHARGES, Action::Answer(page(0))).times(2));
    let lake = TestLake::new();
    sync_charges(&lake, &script, 1).await;
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn g5_pages_that_repeat_behind_a_vanished_cursor_are_no_endless_loop() {
    let table = Table::charges(93, 1_000);
    let list = table.list("charges");
    let script = scripted_table(&table);
    let gone = refusal(400, "resource_missing", Some("starting_after"), "No such charge");
    let third = list[299]["id"].clone();
    script.rules.add(Rule::new(CHARGES, Action::Answer(gone)).with("starting_after", text(&third)).times(1));
    // From then on every page is the second.
    let page =
        json!({"object": "list", "data": list[100..200], "has_more": true, "url": CHARGES}).to_string();
    script.rules.add(Rule::new(CHARGES, Action::Answer(answer(200, page))).from_nth(5));
    check_charges_fail(&script, Kind::Partial, 20).await;
}

#[tokio::test(start_paused = true)]
async fn g6_an_empty_page_that_has_more_is_asked_for_again_and_then_an_error() {
    let empty = |page: &mut Value| {
        page["data"] = json!([]);
        page["has_more"] = true.into();
    };
    let table = Table::charges(92, 250);
    let script = scripted_table(&table);
    script.rules.add(Rule::new(CHARGES, rewrite(empty)).from_nth(2));
    check_charges_fail(&script, Kind::Partial, 3).await;
    let script = scripted_table(&table);
    script.rules.add(Rule::new(CHARGES, rewrite(empty)).from_nth(2).times(1));
    let lake = TestLake::new();
    sync_charges(&lake, &script, 1).await;
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn g10_thousands_of_objects_in_one_second_are_paged_through() {
    let table = Table::charges(97, 300);
    let second = created(&table.list("charges")[150]);
    let new = newer(&table, 1_200, second);
    table.edit("charges", |charges| drop(charges.splice(150..150, new)));
    let script = scripted_table(&table);
    let lake = TestLake::new();
    sync_charges(&lake, &script, 6).await;
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn g13_items_that_go_on_behind_a_subscription_are_followed_to_their_end() {
    let account = with_long_subscriptions();
    let table = Table::of(&account);
    let long = |s: &&Value| s["items"]["has_more"] == true;
    assert!(table.list("subscriptions").iter().any(|s| long(&s)));
    let script = scripted(account);
    let network = Action::Fail(TransportError::Network("reset".to_owned()));
    script.rules.add(Rule::new("/v1/subscription_items", network).times(1));
    script.rules.add(Rule::new("/v1/subscription_items", Action::Answer(answer(502, ""))).times(1));
    let gone = refusal(400, "resource_missing", Some("starting_after"), "No such subscription_item");
    script.rules.add(Rule::new("/v1/subscription_items", Action::Answer(gone)).times(1));
    let lake = TestLake::new();
    lake.sync_completely(script.clone()).await;
    lake.check_equals(&table).await;
    assert!(script.asked("/v1/subscription_items").len() > 3);
}

#[tokio::test(start_paused = true)]
async fn g13_items_that_go_round_in_circles_are_an_error() {
    let table = Table::of(&with_long_subscriptions());
    let script = scripted_table(&table);
    let items = table.list("subscription_items");
    let page = |n: usize| json!({"object": "list", "data": [items[n]], "has_more": true, "url": "/v1/subscription_items"});
    let (even, odd) = (answer(200, page(0).to_string()), answer(200, page(1).to_string()));
    script.rules.add(
        Rule::new("/v1/subscription_items", Action::Answer(even))
            .with("starting_after", text(&items[1]["id"])),
    );
    script.rules.add(Rule::new("/v1/subscription_items", Action::Answer(odd)));
    let lake = TestLake::new();
    let report = lake.sync(script.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Partial));
    assert!(script.asked("/v1/subscription_items").len() < 20);
}

#[tokio::test(start_paused = true)]
async fn g14_every_list_is_asked_for_what_it_hides() {
    let script = scripted(account(99, 400));
    let lake = TestLake::new();
    lake.sync_completely(script.clone()).await;
    let values = |path: &str, name: &str| -> Vec<Option<String>> {
        let value = |query: &[(String, String)]| {
            query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        };
        script.asked(path).iter().map(|asked| value(&asked.request.query)).collect()
    };
    assert!(values("/v1/subscriptions", "status").iter().all(|status| status.as_deref() == Some("all")));
    let active: BTreeSet<Option<String>> = values("/v1/prices", "active").into_iter().collect();
    assert_eq!(active, BTreeSet::from([Some("true".to_owned()), Some("false".to_owned())]));
    for asked in script.log().iter().filter(|asked| asked.request.path != "/v1/account") {
        let query = &asked.request.query;
        assert!(query.contains(&("limit".to_owned(), "100".to_owned())), "{query:?}");
        let names: BTreeSet<&String> = query.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), query.len(), "a parameter twice: {query:?}");
    }
}
