//! Turns pages that are too large or too slow into smaller ones, and what fits in none into an exit by name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::Value;
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Asked, Rewrite, Rule, Scripted};
use stripelake::fetch::{Request, Response, Transport, TransportError};
use stripelake::run::event::Event;
use stripelake::run::sync::Options;

use crate::harness::{TestLake, account, check_kind, scripted_table, with_long_subscriptions};
use crate::table::{Table, text};

const CHARGES: &str = "/v1/charges";
const ITEMS: &str = "/v1/subscription_items";

/// What a server does whose bodies may be at most so large: the charges of `fat` weigh ten, the others one.
fn heavy(fat: BTreeSet<String>, most: usize) -> Rewrite {
    Arc::new(move |_, response| {
        let page: Value = serde_json::from_slice(&response.body).unwrap();
        let ids = page["data"].as_array().unwrap().iter().map(|object| text(&object["id"]));
        let weight: usize = ids.map(|id| if fat.contains(id) { 10 } else { 1 }).sum();
        match weight > most {
            true => Response { status: TOO_LARGE, ..response },
            false => response,
        }
    })
}

/// Stands for a body over the limit: a rewriting rule cannot fail, so the transport around it does.
const TOO_LARGE: u16 = 999;

#[derive(Debug)]
struct Capped(Arc<Scripted>);

impl Transport for Capped {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        Box::pin(async move {
            let response = self.0.get(request).await?;
            match response.status {
                TOO_LARGE => {
                    let start = response.body.slice(..response.body.len().min(1024));
                    Err(TransportError::TooLarge { limit: 64, start })
                }
                _ => Ok(response),
            }
        })
    }
}

fn limits(asked: &[Asked]) -> Vec<usize> {
    let limit = |asked: &Asked| {
        let (_, limit) = asked.request.query.iter().find(|(name, _)| name == "limit").unwrap();
        limit.parse().unwrap()
    };
    asked.iter().map(limit).collect()
}

#[tokio::test(start_paused = true)]
async fn n16_a_page_that_is_too_large_is_halved_and_grows_again() {
    let table = Table::charges(49, 700);
    let script = scripted_table(&table);
    let fat = table.list("charges")[300..330].iter().map(|c| text(&c["id"]).to_owned()).collect();
    script.rules.add(Rule::new(CHARGES, Action::Rewrite(heavy(fat, 120))));
    let lake = TestLake::new();
    let options = Options { concurrency: 1, ..lake.options_for(&["charges"]) };
    let report = lake.sync_with(options, Arc::new(Capped(script.clone()))).await.unwrap();
    check_kind(&report, None);
    lake.check_table_equals(&table, "charges").await;
    let limits = limits(&script.asked(CHARGES));
    assert!(limits.contains(&12) && limits.ends_with(&[100]), "{limits:?}");
    assert!(limits.len() < 40, "{} requests: {limits:?}", limits.len());
}

#[tokio::test(start_paused = true)]
async fn n16_an_object_that_no_page_can_hold_is_named_and_the_rest_is_kept() {
    check_unreadable(130).await;
}

#[tokio::test(start_paused = true)]
async fn n16_behind_the_last_object_of_a_list_nothing_is_missed() {
    check_unreadable(349).await;
}

async fn check_unreadable(at: usize) {
    let table = Table::of(&account(49, 350));
    let script = scripted_table(&table);
    let fat = text(&table.list("charges")[at]["id"]).to_owned();
    script.rules.add(Rule::new(CHARGES, Action::Rewrite(heavy([fat.clone()].into(), 8))));
    let lake = TestLake::new();
    let report = lake.sync(Arc::new(Capped(script.clone()))).await.unwrap();
    check_kind(&report, Some(Kind::Partial));
    lake.check_intact().await;
    let events = lake.events.lock().unwrap().clone();
    let says = |event: &Event| matches!(event, Event::Warning { message } if message.contains(&fat));
    assert!(events.iter().any(says), "{fat} is not named");
    let mut ids = lake.ids("charges").await;
    assert!(ids.insert(fat), "the object that came from nowhere");
    assert_eq!(ids.len(), 350);
    for resource in lake.catalog.listed().filter(|resource| resource.name != "charges") {
        lake.check_table_equals(&table, &resource.name).await;
    }
    script.rules.clear();
    lake.sync_completely(script).await;
    lake.check_equals(&table).await;
}

#[tokio::test(start_paused = true)]
async fn n16_pages_that_are_always_too_large_are_no_endless_loop() {
    let table = Table::of(&account(49, 350));
    let (lake, script) = (TestLake::new(), scripted_table(&table));
    let bomb = TransportError::TooLarge { limit: 64, start: Bytes::from_static(b"{\"data\": [  ") };
    script.rules.add(Rule::new(CHARGES, Action::Fail(bomb)));
    let options = Options { concurrency: 1, ..lake.options_for(&["charges", "customers"]) };
    let report = lake.sync_with(options, script.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Partial));
    assert_eq!(limits(&script.asked(CHARGES)), [100, 50, 25, 12, 6, 3, 1]);
    let said = report.failures[0].1.to_string();
    assert!(said.contains("at most 64 bytes"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn p7_pages_that_keep_timing_out_get_smaller_until_they_come() {
    let table = Table::of(&account(50, 350));
    let (lake, script) = (TestLake::new(), scripted_table(&table));
    // A server that cannot make more than 25 objects in its time.
    for limit in ["100", "50"] {
        let slow = Action::Fail(TransportError::Network("operation timed out".to_owned()));
        script.rules.add(Rule::new(CHARGES, slow).with("limit", limit).times(6));
    }
    let options = Options { concurrency: 1, ..lake.options_for(&["charges"]) };
    let report = lake.sync_with(options, script.clone()).await.unwrap();
    check_kind(&report, None);
    lake.check_table_equals(&table, "charges").await;
    assert!(limits(&script.asked(CHARGES)).starts_with(&[100, 100, 50, 25]));
}

#[tokio::test(start_paused = true)]
async fn n16_p7_an_embedded_list_that_goes_on_is_halved_as_other_lists_are() {
    let table = Table::of(&with_long_subscriptions());
    let too_large = || TransportError::TooLarge { limit: 64, start: Bytes::from_static(b"{\"data\": [  ") };
    let too_slow = || TransportError::Network("operation timed out".to_owned());
    for (fault, first) in [(too_large(), [100, 50, 25]), (too_slow(), [100, 100, 50])] {
        let (lake, script) = (TestLake::new(), scripted_table(&table));
        for limit in ["100", "50", "25", "12"] {
            script.rules.add(Rule::new(ITEMS, Action::Fail(fault.clone())).with("limit", limit));
        }
        let options = Options { concurrency: 1, ..lake.options_for(&["subscriptions"]) };
        check_kind(&lake.sync_with(options, script.clone()).await.unwrap(), None);
        lake.check_table_equals(&table, "subscriptions").await;
        let limits = limits(&script.asked(ITEMS));
        assert!(limits.starts_with(&first) && limits.contains(&6), "{limits:?}");
        // Each list begins with a full page, and stays with what has come through for a while.
        let n_full = limits.iter().filter(|limit| **limit == 100).count();
        let n_lists = table.list("subscriptions").iter().filter(|s| s["items"]["has_more"] == true).count();
        let n_first = first.iter().filter(|limit| **limit == 100).count();
        assert_eq!(n_full, n_lists * n_first, "{limits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn n16_an_embedded_list_whose_objects_fit_in_no_page_is_left_out_by_name() {
    let table = Table::of(&with_long_subscriptions());
    let all = table.list("subscriptions");
    let one = all.iter().find(|one| one["items"]["has_more"] == true).unwrap();
    let (lake, script) = (TestLake::new(), scripted_table(&table));
    let bomb = TransportError::TooLarge { limit: 64, start: Bytes::new() };
    script.rules.add(Rule::new(ITEMS, Action::Fail(bomb)).with("subscription", text(&one["id"])));
    let options = Options { concurrency: 1, ..lake.options_for(&["subscriptions"]) };
    let report = lake.sync_with(options, script.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Partial));
    let mut asked = script.asked(ITEMS);
    asked.retain(|asked| asked.request.query.iter().any(|(_, value)| value == text(&one["id"])));
    assert_eq!(limits(&asked), [100, 50, 25, 12, 6, 3, 1]);
    assert_eq!(report.tables[0].rejected, 1);
    let is_told = |event: &Event| matches!(event, Event::Warning { message } if message.contains(ITEMS) && message.contains("at most 64 bytes"));
    assert!(lake.events.lock().unwrap().iter().any(is_told));
}

#[tokio::test(start_paused = true)]
async fn p7_what_a_list_bears_is_learnt_once_for_all_who_read_it() {
    let table = Table::of(&account(54, 12_000));
    let (lake, script) = (TestLake::new(), scripted_table(&table));
    let n_failed = Arc::new(AtomicUsize::new(0));
    let count = n_failed.clone();
    // A server that never makes more than 50 objects in its time.
    let gateway = Arc::new(move |request: &Request, response: Response| {
        let asked =
            request.query.iter().find(|(name, _)| name == "limit").and_then(|(_, limit)| limit.parse().ok());
        match asked.is_some_and(|asked: usize| asked > 50) {
            true => {
                count.fetch_add(1, Ordering::SeqCst);
                Response { status: 504, body: Bytes::new(), ..response }
            }
            false => response,
        }
    });
    for list in ["charges", "customers", "refunds", "balance_transactions", "subscriptions", "prices"] {
        script.rules.add(Rule::new(&format!("/v1/{list}"), Action::Rewrite(gateway.clone())));
    }
    let report = lake.sync_with(lake.options(), script.clone()).await.unwrap();
    check_kind(&report, None);
    for name in ["charges", "customers", "prices", "subscriptions", "subscription_items"] {
        lake.check_table_equals(&table, name).await;
    }
    let n_failed = n_failed.load(Ordering::SeqCst) as u64;
    assert!(
        n_failed >= 12 && n_failed * 8 < report.requests,
        "{n_failed} of {} requests failed",
        report.requests
    );
}
