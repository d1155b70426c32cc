//! Turns lists that seem to end where they have more into complete ones, or into runs that are not.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::Value;
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Rewrite, Rule, Scripted, refusal};
use stripelake::fake::{Account, Spec};
use stripelake::fetch::{Request, Response, Transport, TransportError};
use stripelake::run::sync::Options;

use crate::harness::{TestLake, account, check_kind, scripted_table, with_long_subscriptions};
use crate::misplaced::list;
use crate::mixed_up::parameter;
use crate::table::{Table, created, text};

const LISTS: [&str; 2] = ["charges", "customers"];
const ITEMS: &str = "/v1/subscription_items";

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
        let id = after(request).unwrap();
        let at = all.iter().position(|object| text(&object["id"]) == id).unwrap();
        let page: Value = serde_json::from_slice(&response.body).unwrap();
        let lie = data(&all, page["data"].as_array().unwrap(), at);
        Response { body: list(&lie, &request.path, false), ..response }
    });
    Rule::new(path, Action::Rewrite(rewrite)).with("starting_after", "*")
}

/// Knows none of the cursors.
fn all_gone(path: &str) -> Rule<Action> {
    let gone = |_: &Request, _| refusal(400, "resource_missing", Some("starting_after"), "No such object");
    Rule::new(path, Action::Rewrite(Arc::new(gone))).with("starting_after", "*")
}

/// The objects that stand on the page before the one behind the object at a place.
fn up_to(at: usize) -> std::ops::RangeInclusive<usize> {
    (at + 1).saturating_sub(100)..=at
}

/// A sync behind the rules, on a lake that is empty or has everything already, and then one without them.
async fn check(
    name: &str,
    lies: impl Fn(Vec<Value>, &str) -> Vec<Rule<Action>>,
    is_full: bool,
    expected: Option<Kind>,
) {
    let table = Table::of(&account(151, 1_500));
    let script = scripted_table(&table);
    let lake = TestLake::new();
    if is_full {
        lake.sync_completely(script.clone()).await;
    }
    let before = lake.rows(name).await;
    lies(table.list(name), &format!("/v1/{name}")).into_iter().for_each(|rule| script.rules.add(rule));
    let options = || Options { concurrency: 1, ..lake.options_for(&[name]) };
    let report = lake.sync_with(options(), script.clone()).await.unwrap();
    check_kind(&report, expected);
    assert!(report.requests < 60, "{} requests", report.requests);
    if is_full {
        assert_eq!(lake.rows(name).await, before, "nobody has gone");
    }
    if expected.is_none() {
        lake.check_table_equals(&table, name).await;
    }
    script.rules.clear();
    check_kind(&lake.sync_with(options(), script).await.unwrap(), None);
    lake.check_table_equals(&table, name).await;
}

/// Two lists, each into an empty and into a full lake.
async fn check_all(lies: impl Fn(Vec<Value>, &str) -> Vec<Rule<Action>>, expected: Option<Kind>) {
    for name in LISTS {
        for is_full in [false, true] {
            check(name, &lies, is_full, expected).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn g5_a_page_that_ends_at_its_own_cursor_is_not_the_end_of_the_list() {
    let again =
        |all: Vec<Value>, path: &str| behind_a_cursor(all, path, |all, _, at| all[up_to(at)].to_vec());
    check_all(|all, path| vec![again(all, path)], Some(Kind::Partial)).await;
    check_all(|all, path| vec![again(all, path).times(1)], None).await;
    // Nor is it where the way back from a cursor that has vanished leads there.
    let gone_first = |all, path: &str| vec![all_gone(path).times(1), again(all, path)];
    check_all(gone_first, Some(Kind::Partial)).await;
    let empty_first = |all: Vec<Value>, path: &str| {
        vec![behind_a_cursor(
            all,
            path,
            |all, _, at| {
                if at == 99 { Vec::new() } else { all[up_to(at)].to_vec() }
            },
        )]
    };
    check_all(empty_first, Some(Kind::Partial)).await;
}

#[tokio::test(start_paused = true)]
async fn g5_a_last_page_of_nothing_but_objects_that_have_come_is_not_the_end() {
    type Lie = fn(&[Value], &[Value], usize) -> Vec<Value>;
    let all_before: Lie = |all, _, at| all[at.saturating_sub(99)..at].to_vec();
    let one_before: Lie = |all, _, at| all[at - 1..at].to_vec();
    let same_for_all: Lie = |all, _, _| all[30..90].to_vec();
    // Where objects from further up come once, and others when asked again, answers get mixed up.
    for (lie, once) in [(all_before, None), (one_before, None), (same_for_all, Some(Kind::Partial))] {
        check_all(|all, path| vec![behind_a_cursor(all, path, lie)], Some(Kind::Partial)).await;
        check_all(|all, path| vec![behind_a_cursor(all, path, lie).times(1)], once).await;
    }
    // An old copy at one address: those of the objects before it have none.
    let at_one_address: Lie = |all, page, at| if at == 199 { all[30..130].to_vec() } else { page.to_vec() };
    let lie = |all: Vec<Value>, path: &str| {
        let second = text(&all[199]["id"]).to_owned();
        vec![behind_a_cursor(all, path, at_one_address).with("starting_after", &second)]
    };
    check_all(lie, None).await;
}

#[tokio::test(start_paused = true)]
async fn g5_an_old_page_from_far_up_ends_nothing_on_the_way_back() {
    // Its objects came so long ago that nobody remembers their ids.
    let lies = |all: Vec<Value>, path: &str| {
        let id = |at: usize| text(&all[at]["id"]).to_owned();
        let gone = all_gone(path).with("starting_after", &id(599));
        let before = id(598);
        let old = behind_a_cursor(all, path, |all, _, _| all[10..60].to_vec());
        vec![gone, old.with("starting_after", &before)]
    };
    for is_full in [false, true] {
        check("charges", lies, is_full, Some(Kind::Partial)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_end_behind_what_has_more_is_settled_by_the_objects_before_it() {
    let empty = |all: Vec<Value>, path: &str| behind_a_cursor(all, path, |_, _, _| Vec::new());
    check_all(|all, path| vec![empty(all, path)], Some(Kind::Partial)).await;
    // A copy in a cache is of one address: the object before it has another one.
    for times in [1, 2, 4, 5] {
        check_all(|all, path| vec![empty(all, path).times(times)], None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn g3_an_empty_page_where_a_list_is_begun_again_is_no_end_either() {
    let empty: Rewrite =
        Arc::new(|request, response| Response { body: list(&[], &request.path, false), ..response });
    // The first page comes; then the server knows the last object no more, nor the three that are tried before it.
    let lies = |_, path: &str| {
        let empty = Rule::new(path, Action::Rewrite(empty.clone())).from_nth(2).times(1);
        vec![all_gone(path).times(4), empty]
    };
    check_all(lies, None).await;
}

/// Each page begins with so many of the objects before it, up to the cursor.
fn overlapping(all: Vec<Value>, path: &str, n: usize) -> Rule<Action> {
    let rewrite: Rewrite = Arc::new(move |request, response| {
        let id = after(request).unwrap();
        let at = all.iter().position(|object| text(&object["id"]) == id).unwrap();
        let page: Value = serde_json::from_slice(&response.body).unwrap();
        let data = [&all[(at + 1).saturating_sub(n)..=at], page["data"].as_array().unwrap()].concat();
        Response { body: list(&data, &request.path, page["has_more"] == true), ..response }
    });
    Rule::new(path, Action::Rewrite(rewrite)).with("starting_after", "*")
}

#[tokio::test(start_paused = true)]
async fn p9_pages_that_overlap_are_read_to_the_end() {
    for n in [1, 3, 100] {
        check_all(|all, path| vec![overlapping(all, path, n)], None).await;
        check_all(|all, path| vec![overlapping(all, path, n).times(1)], None).await;
    }
}

/// All but the newest objects vanish when a page behind a certain place is asked for.
#[derive(Debug)]
struct Vanishing {
    table: Arc<Table>,
    name: &'static str,
    /// The object that it is asked behind.
    at: String,
    n_left: usize,
}

impl Transport for Vanishing {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        if after(request) == Some(&self.at) {
            self.table.edit(self.name, |objects| objects.truncate(self.n_left));
        }
        self.table.get(request)
    }
}

#[tokio::test(start_paused = true)]
async fn g3_all_objects_behind_a_page_that_has_more_may_vanish() {
    // Also the whole page, and all that were before it.
    for (behind, n_left) in [(100, 100), (200, 100), (200, 1), (100, 0), (200, 0)] {
        let table = Table::of(&account(152, 1_500));
        let lake = TestLake::new();
        lake.sync_completely(table.clone()).await;
        let customers = table.list("customers");
        let at = text(&customers[behind - 1]["id"]).to_owned();
        let vanishing = Arc::new(Vanishing { table: table.clone(), name: "customers", at, n_left });
        let options = || Options { concurrency: 1, ..lake.options_for(&["customers"]) };
        check_kind(&lake.sync_with(options(), vanishing).await.unwrap(), None);
        assert_eq!(table.list("customers").len(), n_left);
        let n_deleted = async || {
            let rows = lake.rows("customers").await;
            rows.values().filter(|row| row["_deleted"] == true).count()
        };
        assert_eq!(
            n_deleted().await,
            customers.len() - behind,
            "those that were listed before they went are there"
        );
        check_kind(&lake.sync_with(options(), table.clone()).await.unwrap(), None);
        lake.check_table_equals(&table, "customers").await;
        assert_eq!(n_deleted().await, customers.len() - n_left);
    }
}

/// An account of customers, newest first, and a lake that has all of them.
async fn with_customers(seed: u64) -> (Arc<Table>, Vec<Value>, TestLake) {
    let spec = Spec { seed, charges: 20, customers: Some(500), span_days: 400, ..Spec::default() };
    let table = Table::some_of(&Account::new(spec), |name| name == "customers");
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    (table.clone(), table.list("customers"), lake)
}

/// A run in which one answer is another: that to a request, of those behind a cursor if one is given.
async fn check_one_answer(
    (table, lake): (&Arc<Table>, &TestLake),
    since: Option<i64>,
    after: Option<&Value>,
    page: Bytes,
) {
    let script = scripted_table(table);
    let rewrite: Rewrite = Arc::new(move |_, response| Response { body: page.clone(), ..response });
    let lie = Rule::new("/v1/customers", Action::Rewrite(rewrite)).times(1);
    script.rules.add(match after {
        Some(object) => lie.with("starting_after", text(&object["id"])),
        None => lie,
    });
    let options = Options { concurrency: 1, since, ..lake.options_for(&["customers"]) };
    check_kind(&lake.sync_with(options, script.clone()).await.unwrap(), None);
    lake.check_table_equals(table, "customers").await;
    assert_eq!(lake.ids("customers").await.len(), table.list("customers").len(), "nobody has gone");
}

#[tokio::test(start_paused = true)]
async fn an_old_first_page_that_has_more_is_asked_for_elsewhere() {
    let (table, all, lake) = with_customers(155).await;
    let old = list(&all[5..105], "/v1/customers", true);
    check_one_answer((&table, &lake), None, None, old).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_outside_of_the_window_is_another_lists() {
    let (table, all, lake) = with_customers(156).await;
    // Some of these are outside of the window.
    let end = list(&all[105..205], "/v1/customers", false);
    check_one_answer((&table, &lake), Some(created(&all[200])), Some(&all[99]), end).await;
}

#[tokio::test(start_paused = true)]
async fn a_last_page_from_far_below_is_not_the_end_of_what_is_above_it() {
    let (table, all, lake) = with_customers(157).await;
    for n_last in [1, 5, 60] {
        let last = list(&all[all.len() - n_last..], "/v1/customers", false);
        check_one_answer((&table, &lake), None, Some(&all[199]), last).await;
    }
}

/// Says that there is more behind each page of so many objects, as a server does that does not look.
fn pages_have_more(path: &str, is_enough: fn(usize, usize) -> bool) -> Rule<Action> {
    let rewrite: Rewrite = Arc::new(move |request, response| {
        let page: Value = serde_json::from_slice(&response.body).unwrap();
        let objects = page["data"].as_array().unwrap();
        let limit = parameter(request, "limit").unwrap().parse::<usize>().unwrap();
        Response { body: list(objects, &request.path, is_enough(objects.len(), limit)), ..response }
    });
    Rule::new(path, Action::Rewrite(rewrite))
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_last_page_says_that_it_has_more_is_complete() {
    let full: fn(usize, usize) -> bool = |n, limit| n == limit;
    let not_empty: fn(usize, usize) -> bool = |n, _| n > 0;
    for (n, is_enough) in
        [(100, full), (200, full), (200, not_empty), (250, not_empty), (1, not_empty), (2, not_empty)]
    {
        let table = Table::charges(153, 300);
        table.edit("charges", |charges| charges.truncate(n));
        let script = scripted_table(&table);
        script.rules.add(pages_have_more("/v1/charges", is_enough));
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

async fn check_items(
    script: &Arc<Scripted>,
    table: &Arc<Table>,
    lies: impl IntoIterator<Item = Rule<Action>>,
    expected: Option<Kind>,
) {
    let lake = TestLake::new();
    script.rules.clear();
    lies.into_iter().for_each(|rule| script.rules.add(rule));
    let options = || Options { concurrency: 1, ..lake.options_for(&["subscriptions"]) };
    let report = lake.sync_with(options(), script.clone()).await.unwrap();
    check_kind(&report, expected);
    assert!(report.requests < 400, "{} requests", report.requests);
    if expected.is_none() {
        lake.check_table_equals(table, "subscriptions").await;
    }
    script.rules.clear();
    check_kind(&lake.sync_with(options(), script.clone()).await.unwrap(), None);
    lake.check_table_equals(table, "subscriptions").await;
}

/// What an answer holds in the place of a subscription's items; `embedded` is what the subscription itself has of them.
fn items(
    table: &Arc<Table>,
    data: impl Fn(Vec<Value>) -> Vec<Value> + Send + Sync + 'static,
) -> Rule<Action> {
    let table = table.clone();
    let rewrite: Rewrite = Arc::new(move |request, response| {
        let id = parameter(request, "subscription").unwrap();
        let subscriptions = table.list("subscriptions");
        let one = subscriptions.iter().find(|subscription| text(&subscription["id"]) == id).unwrap();
        let embedded = one["items"]["data"].as_array().unwrap().clone();
        Response { body: list(&data(embedded), &request.path, false), ..response }
    });
    Rule::new(ITEMS, Action::Rewrite(rewrite))
}

#[tokio::test(start_paused = true)]
async fn g13_items_that_end_before_what_has_more_are_not_complete() {
    let table = Table::of(&with_long_subscriptions());
    let script = scripted_table(&table);
    type Lie = fn(Vec<Value>) -> Vec<Value>;
    let first_again: Lie = |items| items;
    let none: Lie = |_| Vec::new();
    let last_again: Lie = |items| items[items.len() - 1..].to_vec();
    let without_the_last: Lie = |items| items[..items.len() - 1].to_vec();
    let behind = |lie| items(&table, lie).with("starting_after", "*");
    for lie in [first_again, last_again, without_the_last] {
        check_items(&script, &table, [behind(lie)], Some(Kind::Partial)).await;
        check_items(&script, &table, [behind(lie).times(1)], None).await;
    }
    check_items(&script, &table, [items(&table, none)], Some(Kind::Partial)).await;
    check_items(&script, &table, [behind(none).times(1)], None).await;
    // The list from its start has all of them, or does not.
    check_items(&script, &table, [behind(none)], None).await;
    let some: Lie = |items| items[..items.len() / 2].to_vec();
    check_items(&script, &table, [behind(none), items(&table, some)], Some(Kind::Partial)).await;
    // No cursor is known, and the list seems empty from its start, once.
    let lies = [all_gone(ITEMS).times(3), items(&table, none).times(1)];
    check_items(&script, &table, lies, None).await;
    check_items(&script, &table, [pages_have_more(ITEMS, |n, _| n > 0)], None).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_of_few_prices_is_read_with_a_request_a_pass() {
    let table = Table::of(&account(158, 60));
    table.edit("prices", |prices| prices.truncate(5));
    for n in [5, 1, 0] {
        table.edit("prices", |prices| prices.truncate(n));
        let lake = TestLake::new();
        for _ in 0..2 {
            let report = lake.sync_with(lake.options_for(&["prices"]), table.clone()).await.unwrap();
            check_kind(&report, None);
            // One is for the account, and one may doubt a pass that is empty.
            assert!(report.requests <= 5, "{n}: {}", report.requests);
        }
    }
}
