//! Turns answers that belong to other requests, as a broken proxy gives them, into runs that are not complete.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Rewrite, Rule};
use stripelake::fetch::Response;
use stripelake::run::event::Event;
use stripelake::run::report::Report;
use stripelake::run::sync::Options;

use crate::harness::{TestLake, account, check_kind, scripted_table};
use crate::table::{Table, created};

const CHARGES: &str = "/v1/charges";

/// The body of a page.
pub fn list(data: &[Value], url: &str, has_more: bool) -> Bytes {
    Bytes::from(json!({"object": "list", "data": data, "has_more": has_more, "url": url}).to_string())
}

/// Another request's page.
pub fn page(data: &[Value], url: &str, has_more: bool) -> Action {
    let body = list(data, url, has_more);
    let rewrite: Rewrite = Arc::new(move |_, response| Response { body: body.clone(), ..response });
    Action::Rewrite(rewrite)
}

pub fn empty(url: &str) -> Action {
    page(&[], url, false)
}

/// A sync of charges whose answers are misplaced by the rule, and one after it, without.
async fn check_misplaced(table: &Arc<Table>, rule: Rule, concurrency: usize, expected: Option<Kind>) {
    let script = scripted_table(table);
    let lake = TestLake::new();
    script.rules.add(rule);
    let options = || Options { concurrency, ..lake.options_for(&["charges"]) };
    let report = lake.sync_with(options(), script.clone()).await.unwrap();
    check_kind(&report, expected);
    lake.check_intact().await;
    script.rules.clear();
    check_kind(&lake.sync_with(options(), script.clone()).await.unwrap(), None);
    lake.check_table_equals(table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn a_page_of_newer_objects_in_the_midst_of_a_list_is_refused() {
    let table = Table::charges(121, 700);
    let newer = |has_more| page(&table.list("charges")[30..130], CHARGES, has_more);
    for (n, has_more) in [(3, true), (3, false), (5, true), (5, false), (7, true), (7, false)] {
        // One worker asks page after page, several ask for windows.
        for concurrency in [1, 6] {
            let rule = Rule::new(CHARGES, newer(has_more)).from_nth(n).times(1);
            check_misplaced(&table, rule, concurrency, Some(Kind::Partial)).await;
        }
    }
    check_misplaced(&table, Rule::new(CHARGES, newer(true)).from_nth(3), 1, Some(Kind::Partial)).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_page_of_another_window_does_not_end_this_one() {
    let table = Table::charges(126, 400);
    let charges = table.list("charges");
    let until = created(&charges[200]) + 1;
    let script = scripted_table(&table);
    for times in [1, u64::MAX] {
        let lake = TestLake::new();
        script.rules.clear();
        script.rules.add(Rule::new(CHARGES, page(&charges[30..130], CHARGES, false)).times(times));
        let options = Options { until: Some(until), concurrency: 1, ..lake.options_for(&["charges"]) };
        let report = lake.sync_with(options, script.clone()).await.unwrap();
        check_kind(&report, Some(Kind::Partial));
        assert!(lake.rows("charges").await.is_empty(), "{times}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_another_ones_each_time_ends_the_list() {
    let table = Table::charges(122, 700);
    let script = scripted_table(&table);
    let lake = TestLake::new();
    // A rule counts only what those before it let through.
    for from in [30, 40, 50, 60] {
        let newer = page(&table.list("charges")[from..from + 100], CHARGES, true);
        script.rules.add(Rule::new(CHARGES, newer).from_nth(3).times(1));
    }
    let options = Options { concurrency: 1, ..lake.options_for(&["charges"]) };
    let report = lake.sync_with(options, script.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Partial));
    script.rules.clear();
    lake.sync_completely(script).await;
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_page_of_another_list_is_not_the_end_of_this_one() {
    let table = Table::charges(123, 250);
    check_misplaced(&table, Rule::new(CHARGES, empty("/v1/refunds")).times(1), 1, Some(Kind::Partial)).await;
    check_misplaced(&table, Rule::new(CHARGES, empty("/v1/refunds")), 1, Some(Kind::Partial)).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_deleted_by_an_answer_to_another_request() {
    let table = Table::of(&account(124, 900));
    let script = scripted_table(&table);
    let lake = TestLake::new();
    lake.sync_completely(script.clone()).await;
    let before = lake.rows("customers").await;
    let sync = async |rule: Rule| -> Report {
        script.rules.clear();
        script.rules.add(rule);
        lake.sync_with(lake.options_for(&["customers"]), script.clone()).await.unwrap()
    };
    let customers = table.list("customers");
    let newest = page(&customers[..customers.len().min(60)], "/v1/customers", true);
    for (action, n) in [(empty("/v1/refunds"), 1), (newest, 2)] {
        let report = sync(Rule::new("/v1/customers", action).from_nth(n).times(1)).await;
        check_kind(&report, Some(Kind::Partial));
        assert_eq!(lake.rows("customers").await, before);
    }
}

#[tokio::test(start_paused = true)]
async fn g8_objects_from_outside_of_the_window_are_kept_if_others_are_from_within() {
    let table = Table::charges(125, 300);
    let script = scripted_table(&table);
    let lake = TestLake::new();
    let stray = table.list("charges").last().unwrap().clone();
    let (id, at) = (stray["id"].clone(), stray["created"].as_i64().unwrap());
    let with_stray: Rewrite = Arc::new(move |_, response| {
        let mut page: Value = serde_json::from_slice(&response.body).unwrap();
        page["data"].as_array_mut().unwrap().push(stray.clone());
        Response { body: Bytes::from(page.to_string()), ..response }
    });
    script.rules.add(Rule::new(CHARGES, Action::Rewrite(with_stray)).times(1));
    let options = Options { since: Some(at + 1), concurrency: 1, ..lake.options_for(&["charges"]) };
    check_kind(&lake.sync_with(options, script).await.unwrap(), None);
    assert!(lake.rows("charges").await.contains_key(id.as_str().unwrap()));
    let is_told =
        |event: &Event| matches!(event, Event::Warning { message } if message.contains("outside of what"));
    assert_eq!(lake.events.lock().unwrap().iter().filter(|event| is_told(event)).count(), 1);
}
