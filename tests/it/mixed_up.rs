//! Turns runs that have met answers to other requests into ones that nothing is built on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Rewrite, Rule, Scripted};
use stripelake::fetch::allowance::Budgets;
use stripelake::fetch::{Request, Response, Transport, TransportError};
use stripelake::run::sync::Options;

use crate::damage::forget;
use crate::harness::{TestLake, account, check_kind, scripted_table, with_long_subscriptions};
use crate::misplaced::{empty, list, page};
use crate::table::{Table, created, text};

const ITEMS: &str = "/v1/subscription_items";

pub fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Takes its time, so that several windows are read at once.
#[derive(Debug)]
pub struct Slow(pub Arc<Scripted>);

impl Transport for Slow {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.0.get(request).await
        })
    }
}

/// The first answer of which this is true becomes an empty last page of the same list, as if it were another one's.
fn emptied(is_it: impl Fn(&Request, &Value) -> bool + Send + Sync + 'static) -> Action {
    let is_done = AtomicBool::new(false);
    let rewrite: Rewrite = Arc::new(move |request, response| {
        let page: Value = serde_json::from_slice(&response.body).unwrap();
        match is_it(request, &page) && !is_done.swap(true, Ordering::SeqCst) {
            true => Response { body: list(&[], &request.path, false), ..response },
            false => response,
        }
    });
    Action::Rewrite(rewrite)
}

#[tokio::test(start_paused = true)]
async fn what_a_run_has_read_that_met_another_ones_answer_is_read_again() {
    let table = Table::charges(141, 4_500);
    let charges = table.list("charges");
    let script = scripted_table(&table);
    let lake = TestLake::new();
    // First pages of some windows come empty, and nobody can tell; then one comes with the objects of another.
    let n_first = Arc::new(AtomicUsize::new(0));
    let n = n_first.clone();
    let rewrite: Rewrite = Arc::new(move |request, response| {
        let is_first =
            parameter(request, "created[lt]").is_some() && parameter(request, "starting_after").is_none();
        match is_first && (2..5).contains(&n.fetch_add(1, Ordering::SeqCst)) {
            true => Response { body: list(&[], "/v1/charges", false), ..response },
            false => response,
        }
    });
    script.rules.add(Rule::new("/v1/charges", Action::Rewrite(rewrite)).times(24));
    script.rules.add(Rule::new("/v1/charges", page(&charges[..100], "/v1/charges", true)));
    // Another list goes on for long, and the run is killed before it ends.
    script.rules.add(Rule::new("/v1/refunds", Action::Delay(Duration::from_secs(600))));
    let options = || Options { concurrency: 7, ..lake.options_for(&["charges", "refunds"]) };
    let slow = Arc::new(Slow(script.clone()));
    let killed = tokio::time::timeout(Duration::from_secs(60), lake.sync_with(options(), slow)).await;
    assert!(killed.is_err());
    forget(&lake, &["_stripelake/lease.json"]).await;
    assert!(n_first.load(Ordering::SeqCst) > 4, "{n_first:?}");
    lake.check_intact().await;
    script.rules.clear();
    check_kind(&lake.sync_with(options(), script).await.unwrap(), None);
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_end_behind_a_page_that_has_more_is_asked_for_again() {
    let table = Table::charges(142, 700);
    let script = scripted_table(&table);
    let is_further = |request: &Request, page: &Value| {
        parameter(request, "starting_after").is_some() && page["has_more"] == true
    };
    script.rules.add(Rule::new("/v1/charges", emptied(is_further)));
    let lake = TestLake::new();
    let options = Options { concurrency: 1, ..lake.options_for(&["charges"]) };
    check_kind(&lake.sync_with(options, script).await.unwrap(), None);
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_deleted_by_one_empty_page() {
    let table = Table::of(&account(143, 900));
    let script = scripted_table(&table);
    let lake = TestLake::new();
    lake.sync_completely(script.clone()).await;
    let before = lake.rows("customers").await;
    script.rules.add(Rule::new("/v1/customers", emptied(|_, page| page["data"][0].is_object())));
    let options = Options { concurrency: 1, ..lake.options_for(&["customers"]) };
    check_kind(&lake.sync_with(options, script).await.unwrap(), None);
    assert_eq!(lake.rows("customers").await, before);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_deleted_by_one_address_or_one_answer() {
    let table = Table::of(&account(145, 300));
    let customers = table.list("customers");
    assert!((20..100).contains(&customers.len()));
    let script = scripted_table(&table);
    let lake = TestLake::new();
    lake.sync_completely(script.clone()).await;
    let before = lake.rows("customers").await;
    let sync = async |lie: Rule<Action>| {
        script.rules.clear();
        script.rules.add(lie);
        let options = Options { concurrency: 1, ..lake.options_for(&["customers"]) };
        check_kind(&lake.sync_with(options, script.clone()).await.unwrap(), None);
    };
    // A first page has the same address in each run.
    sync(Rule::new("/v1/customers", page(&[], "/v1/customers", false)).with("limit", "100")).await;
    assert_eq!(lake.rows("customers").await, before);
    // The list's last objects come first, once.
    let oldest = page(&customers[customers.len() - 3..], "/v1/customers", false);
    sync(Rule::new("/v1/customers", oldest).times(1)).await;
    assert_eq!(lake.rows("customers").await, before);
    // An account whose newest customers have gone is listed all the same, and so is one without any.
    for n_left in [customers.len() - 5, 0] {
        table.edit("customers", |customers| drop(customers.drain(..customers.len() - n_left)));
        sync(Rule::new("/v1/nothing", page(&[], "", false))).await;
        lake.check_table_equals(&table, "customers").await;
    }
}

#[tokio::test(start_paused = true)]
async fn g14_a_pass_that_shows_what_another_one_asks_for_is_refused() {
    let table = Table::of(&account(144, 600));
    let prices = table.list("prices");
    assert!(
        prices.iter().any(|price| price["active"] == false) && prices.iter().any(|p| p["active"] == true)
    );
    let active: Vec<Value> = prices.iter().filter(|price| price["active"] == true).cloned().collect();
    let active = page(&active[..active.len().min(100)], "/v1/prices", false);
    let script = scripted_table(&table);
    let lake = TestLake::new();
    let sync = async |is_through_a_proxy: bool| {
        script.rules.clear();
        if is_through_a_proxy {
            script.rules.add(Rule::new("/v1/prices", active.clone()).with("active", "false"));
        }
        lake.sync_with(lake.options_for(&["prices"]), script.clone()).await.unwrap()
    };
    check_kind(&sync(true).await, Some(Kind::Partial));
    check_kind(&sync(false).await, None);
    lake.check_table_equals(&table, "prices").await;
    let before = lake.rows("prices").await;
    check_kind(&sync(true).await, Some(Kind::Partial));
    assert_eq!(lake.rows("prices").await, before);
}

#[tokio::test(start_paused = true)]
async fn objects_that_a_page_has_jumped_over_and_that_never_come_are_missed() {
    check_jumped_over(None, false, Kind::Partial).await;
    // What is asked because the list ends far from there is no answer to that.
    check_jumped_over(None, true, Kind::Partial).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_settled_by_a_page_that_is_in_doubt() {
    for requests in 4..=7 {
        check_jumped_over(Some(requests), false, Kind::Budget).await;
    }
    // Its end, asked for again, is the same.
    check_jumped_over(Some(8), false, Kind::Partial).await;
}

/// One page of the newest slice is one from far down the list; the run may have no more requests a little later.
async fn check_jumped_over(requests: Option<u64>, ends_far: bool, expected: Kind) {
    let table = Table::charges(145, 4_500);
    if ends_far {
        table.edit("charges", |charges| {
            for charge in &mut charges[4_400..] {
                charge["created"] = (created(charge) - 300 * 86_400).into();
            }
        });
    }
    let charges = table.list("charges");
    let script = scripted_table(&table);
    let lake = TestLake::new();
    let is_done = AtomicBool::new(false);
    let rewrite: Rewrite = Arc::new(move |request, response| {
        let is_newest = parameter(request, "starting_after").is_some()
            && parameter(request, "created[gte]").is_none()
            && parameter(request, "created[lt]").is_none();
        match is_newest && !is_done.swap(true, Ordering::SeqCst) {
            true => Response { body: list(&charges[4_100..4_200], "/v1/charges", true), ..response },
            false => response,
        }
    });
    script.rules.add(Rule::new("/v1/charges", Action::Rewrite(rewrite)));
    let options = |requests| Options {
        concurrency: 6,
        budgets: Budgets { requests, ..Budgets::default() },
        ..lake.options_for(&["charges"])
    };
    let report = lake.sync_with(options(requests), script.clone()).await.unwrap();
    check_kind(&report, Some(expected));
    script.rules.clear();
    check_kind(&lake.sync_with(options(None), script).await.unwrap(), None);
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn g13_items_of_another_subscription_are_refused_and_an_odd_end_is_asked_for_again() {
    let table = Table::of(&with_long_subscriptions());
    let subscriptions = table.list("subscriptions");
    let stranger = subscriptions.iter().find(|s| s["items"]["has_more"] == false).unwrap();
    let items = stranger["items"]["data"].as_array().unwrap();
    let of_another = page(items, ITEMS, false);
    for (action, expected) in
        [(of_another, Some(Kind::Partial)), (empty("/v1/charges"), Some(Kind::Partial)), (empty(ITEMS), None)]
    {
        let script = scripted_table(&table);
        script.rules.add(Rule::new(ITEMS, action).times(1));
        let lake = TestLake::new();
        let options = || Options { concurrency: 1, ..lake.options_for(&["subscriptions"]) };
        check_kind(&lake.sync_with(options(), script.clone()).await.unwrap(), expected);
        script.rules.clear();
        check_kind(&lake.sync_with(options(), script).await.unwrap(), None);
        lake.check_table_equals(&table, "subscriptions").await;
        let ids: BTreeSet<String> = lake.ids("subscription_items").await;
        assert!(items.iter().all(|item| ids.contains(text(&item["id"]))));
    }
}

/// Archived prices, each alone between many active ones. One is activated when the seconds around it are asked for.
#[derive(Debug)]
struct Activating {
    table: Arc<Table>,
    is_done: AtomicBool,
}

impl Transport for Activating {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        let second = |name: &str| parameter(request, name).and_then(|text| text.parse::<i64>().ok());
        let is_of_active = parameter(request, "active") == Some("true");
        if let (Some(start), Some(end), true) = (second("created[gte]"), second("created[lt]"), is_of_active)
        {
            self.table.edit("prices", |prices| {
                let mut within: Vec<&mut Value> =
                    prices.iter_mut().filter(|price| (start..end).contains(&created(price))).collect();
                if let [alone] = within.as_mut_slice()
                    && !self.is_done.swap(true, Ordering::SeqCst)
                {
                    alone["active"] = true.into();
                }
            });
        }
        self.table.get(request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_price_that_is_activated_where_a_page_has_jumped_is_no_answer_to_another_request() {
    let table = Table::of(&account(146, 100));
    // A page ends with two objects of the next block, so that the slice is cut behind the gap.
    table.edit("prices", |prices| {
        let (pattern, now) = (prices[0].clone(), created(&prices[0]));
        let price = |at: i64, secs: i64, is_active: bool| {
            let mut price = pattern.clone();
            price["id"] = format!("price_{at}").into();
            price["created"] = (now - secs).into();
            price["active"] = is_active.into();
            price
        };
        *prices = (0..12 * 99)
            .map(|at| match (at / 99 * 8_640_000, at % 99) {
                (block, 98) => price(at, block + 4_320_000, false),
                (block, n) => price(at, block + 60 * n, true),
            })
            .collect();
    });
    let activating = Arc::new(Activating { table: table.clone(), is_done: AtomicBool::new(false) });
    let lake = TestLake::new();
    let options = Options { concurrency: 4, ..lake.options_for(&["prices"]) };
    check_kind(&lake.sync_with(options, activating.clone()).await.unwrap(), None);
    assert!(activating.is_done.load(Ordering::SeqCst), "no gap was asked for");
    lake.check_table_equals(&table, "prices").await;
}
