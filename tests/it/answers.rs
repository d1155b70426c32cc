//! Turns a store's answers that are not what stands in it into what does, or into a refusal.

use std::sync::Arc;

use serde_json::Value;
use stripelake::error::Kind;
use stripelake::fetch::allowance::Budgets;
use stripelake::run::sync::Options;

use crate::damage::{failure, put};
use crate::harness::{TestLake, account, check_kind};
use crate::resume::alone;
use crate::store::{Manner, Odd, Request, ends};
use crate::table::Table;

#[tokio::test(start_paused = true)]
async fn o8_one_wrong_answer_is_no_damage() {
    for (times, expected) in [(1, None), (1_000, Some(Kind::Integrity))] {
        for path in ["/state/customers", "customers/"] {
            let table = Table::of(&account(151, 60));
            let store = Odd::default();
            let lake = TestLake::on(Arc::new(store.clone()));
            lake.sync_completely(table.clone()).await;
            table.edit("customers", |customers| customers[1]["description"] = "ours".into());
            store.set(Request::Body, path, Manner::Other, times);
            let report = ends(lake.sync(table.clone())).await.unwrap();
            assert_eq!(report.kind(), expected, "{path} {times}: {:?}", report.failures);
            if expected.is_none() {
                store.check_all_met();
                lake.check_equals(&table).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn o8_entity_tags_that_change_on_their_way_are_named_by_the_first_run() {
    let table = Table::of(&account(152, 60));
    let store = Odd::default();
    store.set(Request::Body, "lease.json", Manner::Tagged, 1_000);
    let lake = TestLake::on(Arc::new(store.clone()));
    let error = ends(lake.sync(table.clone())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Destination, "{error}");
    assert!(error.to_string().contains("entity tag"), "{error}");
    // Nor is it another run that holds an older lake: schedules take that for good.
    let store = Odd::default();
    let lake = TestLake::on(Arc::new(store.clone()));
    lake.sync_completely(table.clone()).await;
    store.set(Request::Body, "lease.json", Manner::Tagged, 1_000);
    let error = ends(lake.sync(table.clone())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Destination, "{error}");
    assert!(error.to_string().contains("entity tag"), "{error}");
    // One old answer is none of that.
    let store = Odd::default();
    store.set(Request::Body, "lease.json", Manner::Tagged, 1);
    let lake = TestLake::on(Arc::new(store.clone()));
    lake.sync_completely(table.clone()).await;
    store.check_all_met();
}

#[tokio::test(start_paused = true)]
async fn o8_a_list_that_begins_anew_ends() {
    let table = Table::of(&account(153, 60));
    let store = Odd::default();
    let lake = TestLake::on(Arc::new(store.clone()));
    lake.sync_completely(table.clone()).await;
    store.set(Request::List, "customers", Manner::Other, 1_000);
    let report = ends(lake.sync(table.clone())).await.unwrap();
    let (kind, text) = failure(&report).unwrap();
    assert!(kind == Kind::Destination && text.contains("twice"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn s7_a_flipped_bit_of_the_progress_is_noticed() {
    let table = Table::charges(154, 1_000);
    let lake = TestLake::new();
    let budgets = Budgets { requests: Some(7), ..Budgets::default() };
    let part = Options { budgets, concurrency: 1, ..lake.options_for(&["charges"]) };
    check_kind(&lake.sync_with(part, table.clone()).await.unwrap(), Some(Kind::Budget));
    let path = "_stripelake/state/charges.json";
    let whole = lake.files().await[path].0.clone();
    let state: Value = serde_json::from_slice(&whole).unwrap();
    let first = state["progress"]["read"][0][0].to_string();
    let at = whole.windows(first.len()).rposition(|window| window == first.as_bytes()).unwrap();
    for digit in 0..first.len() {
        let mut flipped = whole.to_vec();
        flipped[at + digit] ^= 1;
        put(&lake, path, flipped.into()).await;
        let report = lake.sync_with(lake.options_for(&["charges"]), table.clone()).await.unwrap();
        let (kind, text) = failure(&report).unwrap();
        assert!(kind == Kind::Integrity && text.contains(path), "{text}");
    }
    put(&lake, path, whole).await;
    check_kind(&lake.sync_with(lake.options_for(&["charges"]), table.clone()).await.unwrap(), None);
    lake.check_table_equals(&table, "charges").await;
}

#[test]
fn the_least_number_of_requests_is_enough_again_and_again() {
    // Without inactive prices one pass is empty, and as odd as an empty one where the lake knows some.
    let table = Table::of(&account(158, 60));
    table.edit("prices", |prices| prices.iter_mut().for_each(|price| price["active"] = true.into()));
    let lake = TestLake::new();
    let options = |requests| {
        let budgets = Budgets { requests: Some(requests), ..Budgets::default() };
        Options { budgets, ..lake.options_for(&["prices"]) }
    };
    let refused = alone(lake.sync_with(options(6), table.clone())).unwrap_err();
    assert!(refused.to_string().contains("at least 7"), "{refused}");
    for _ in 0..3 {
        let mut runs = (0..4).map(|_| alone(lake.sync_with(options(7), table.clone())).unwrap().kind());
        assert!(runs.any(|kind| kind.is_none()));
        alone(lake.check_table_equals(&table, "prices"));
    }
}
