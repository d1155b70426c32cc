//! Turns lists that seem to end where they have more into complete ones, or into runs that are not.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Rewrite, Rule, Scripted};
use stripelake::fetch::{Request, Response, Transport, TransportError};
use stripelake::run::sync::Options;

use crate::harness::{TestLake, account, check_kind, scripted_table, with_long_subscriptions};
use crate::misplaced::list;
use crate::mixed_up::parameter;
use crate::table::{Table, text};

const LISTS: [&str; 2] = ["charges", "customers"];

fn after(request: &Request) -> Option<&str> {
    parameter(request, "starting_after")
}

/// What stands in the place of each page of a list that a cursor asks for; `all` is the whole list, newest first.
fn behind_a_cursor(
    all: Vec<Value>,
    path: &str,
    data: impl Fn(&[Value], &[Value], usize) -> Vec<Value> + Send + Sync + 'static,
) -> Rule<Action> {
    let rewrite: Rewrite = Arc::new(move |request, response| {
        let at = after(request).and_then(|id| all.iter().position(|object| text(&object["id"]) == id));
        let Some(at) = at else { return response };
        let page: Value = serde_json::from_slice(&response.body).unwrap();
        let lie = data(&all, page["data"].as_array().unwrap(), at);
        Response { body: list(&lie, &request.path, false), ..response }
    });
    Rule::new(path, Action::Rewrite(rewrite))
}

/// A sync behind the rule, on a lake that is empty or has everything already, and then one without it.
async fn check(
    name: &str,
    rule: impl Fn(Vec<Value>, &str) -> Rule<Action>,
    is_full: bool,
    expected: Option<Kind>,
) {
    let table = Table::of(&account(151, 900));
    let script = scripted_table(&table);
    let lake = TestLake::new();
    if is_full {
        lake.sync_completely(script.clone()).await;
    }
    let before = lake.rows(name).await;
    script.rules.add(rule(table.list(name), &format!("/v1/{name}")));
    let options = || Options { concurrency: 1, ..lake.options_for(&[name]) };
    let report = lake.sync_with(options(), script.clone()).await.unwrap();
    check_kind(&report, expected);
    assert!(report.requests < 60, "{} requests", report.requests);
    if is_full {
        assert_eq!(lake.rows(name).await, before, "nobody has gone");
    }
    script.rules.clear();
    check_kind(&lake.sync_with(options(), script).await.unwrap(), None);
    lake.check_table_equals(&table, name).await;
}

#[tokio::test(start_paused = true)]
async fn g5_a_page_that_ends_at_its_own_cursor_is_not_the_end_of_the_list() {
    let again = |all: Vec<Value>, path: &str| {
        behind_a_cursor(all, path, |all, _, at| all[at.saturating_sub(99)..=at].to_vec())
    };
    for name in LISTS {
        for is_full in [false, true] {
            check(name, again, is_full, Some(Kind::Partial)).await;
            check(name, |all, path| again(all, path).times(1), is_full, None).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_end_behind_what_has_more_is_settled_by_the_objects_before_it() {
    let empty = |all: Vec<Value>, path: &str| behind_a_cursor(all, path, |_, _, _| Vec::new());
    for name in LISTS {
        for is_full in [false, true] {
            check(name, empty, is_full, Some(Kind::Partial)).await;
            // A copy in a cache is of one address: the object before it has another one.
            for times in [1, 2, 3] {
                check(name, |all, path| empty(all, path).times(times), is_full, None).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p9_the_cursor_once_more_before_new_objects_changes_nothing() {
    let with_cursor = |all: Vec<Value>, path: &str| {
        behind_a_cursor(all, path, |all, page, at| [&all[at..=at], page].concat()).times(1)
    };
    for name in LISTS {
        check(name, with_cursor, true, None).await;
    }
}

/// All objects behind the first page vanish when they are asked for.
#[derive(Debug)]
struct Vanishing {
    table: Arc<Table>,
    name: &'static str,
}

impl Transport for Vanishing {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        if after(request).is_some() && request.path == format!("/v1/{}", self.name) {
            self.table.edit(self.name, |objects| objects.truncate(100));
        }
        self.table.get(request)
    }
}

#[tokio::test(start_paused = true)]
async fn g3_all_objects_behind_a_page_that_has_more_may_vanish() {
    let table = Table::of(&account(152, 900));
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    let n_before = table.list("customers").len();
    let vanishing = Arc::new(Vanishing { table: table.clone(), name: "customers" });
    let options = Options { concurrency: 1, ..lake.options_for(&["customers"]) };
    check_kind(&lake.sync_with(options, vanishing).await.unwrap(), None);
    assert!(table.list("customers").len() < n_before);
    lake.check_table_equals(&table, "customers").await;
    let rows = lake.rows("customers").await;
    let n_deleted = rows.values().filter(|row| row["_deleted"] == true).count();
    assert_eq!(n_deleted, n_before - 100);
}

/// Says that there is more behind each full page, as a server does that does not look.
fn full_pages_have_more(path: &str) -> Rule<Action> {
    let rewrite: Rewrite = Arc::new(|request, response| {
        let page: Value = serde_json::from_slice(&response.body).unwrap();
        let objects = page["data"].as_array().unwrap();
        let limit = parameter(request, "limit").unwrap().parse::<usize>().unwrap();
        Response { body: list(objects, &request.path, objects.len() == limit), ..response }
    });
    Rule::new(path, Action::Rewrite(rewrite))
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_last_page_is_full_and_says_that_it_has_more_is_complete() {
    for n in [100, 200] {
        let table = Table::charges(153, 300);
        table.edit("charges", |charges| charges.truncate(n));
        let script = scripted_table(&table);
        script.rules.add(full_pages_have_more("/v1/charges"));
        let lake = TestLake::new();
        let options = Options { concurrency: 1, ..lake.options_for(&["charges"]) };
        check_kind(&lake.sync_with(options, script).await.unwrap(), None);
        lake.check_table_equals(&table, "charges").await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_pass_over_a_list_that_has_objects_in_another_is_no_repetition() {
    let table = Table::of(&account(154, 60));
    table.edit("prices", |prices| prices.retain(|price| price["active"] == true));
    assert!(!table.list("prices").is_empty());
    let lake = TestLake::new();
    for _ in 0..2 {
        let options = Options { concurrency: 1, ..lake.options_for(&["prices"]) };
        let report = lake.sync_with(options, table.clone()).await.unwrap();
        check_kind(&report, None);
        assert_eq!(report.retries, 0);
    }
}

async fn check_items(script: &Arc<Scripted>, table: &Arc<Table>, lie: Rule<Action>, expected: Option<Kind>) {
    let lake = TestLake::new();
    script.rules.clear();
    script.rules.add(lie);
    let options = || Options { concurrency: 1, ..lake.options_for(&["subscriptions"]) };
    let report = lake.sync_with(options(), script.clone()).await.unwrap();
    check_kind(&report, expected);
    assert!(report.requests < 400, "{} requests", report.requests);
    script.rules.clear();
    check_kind(&lake.sync_with(options(), script.clone()).await.unwrap(), None);
    lake.check_table_equals(table, "subscriptions").await;
}

#[tokio::test(start_paused = true)]
async fn g13_items_that_end_before_what_has_more_are_not_complete() {
    let table = Table::of(&with_long_subscriptions());
    let embedded = |table: &Table, id: &str| -> Vec<Value> {
        let subscriptions = table.list("subscriptions");
        let one = subscriptions.iter().find(|subscription| text(&subscription["id"]) == id).unwrap();
        one["items"]["data"].as_array().unwrap().clone()
    };
    type Lie = fn(Vec<Value>) -> Vec<Value>;
    let first_again: Lie = |items| items;
    let none: Lie = |_| Vec::new();
    let last_again: Lie = |items| items[items.len() - 1..].to_vec();
    let script = scripted_table(&table);
    for (lie, is_always, times, expected) in [
        (first_again, false, u64::MAX, Some(Kind::Partial)),
        (last_again, false, u64::MAX, Some(Kind::Partial)),
        (none, true, u64::MAX, Some(Kind::Partial)),
        // The list from its start has all of them.
        (none, false, u64::MAX, None),
        (first_again, false, 1, None),
        (none, false, 1, None),
    ] {
        let table_of_lie = table.clone();
        let rewrite: Rewrite = Arc::new(move |request, response| {
            if !is_always && after(request).is_none() {
                return response;
            }
            let parent = parameter(request, "subscription").unwrap();
            let lie = lie(embedded(&table_of_lie, parent));
            Response { body: list(&lie, &request.path, false), ..response }
        });
        let rule = Rule::new("/v1/subscription_items", Action::Rewrite(rewrite)).times(times);
        check_items(&script, &table, rule, expected).await;
    }
}
