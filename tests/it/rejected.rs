//! Turns objects that cannot be rows into runs that come to their end all the same, and say so.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Rule, refusal};
use stripelake::fake::{Account, Spec};
use stripelake::fetch::allowance::Budgets;
use stripelake::run::report::Report;
use stripelake::run::sync::Options;

use crate::harness::{TestLake, account, check_kind, scripted_table, with_long_subscriptions};
use crate::resume::{alone, killed_at, run};
use crate::table::{Table, text};

/// Runs with few requests each until one ends otherwise than by its budget.
fn run_in_parts(lake: &TestLake, table: &Arc<Table>, names: &[&str], requests: u64, at_most: u32) -> Report {
    for _ in 0..at_most {
        let budgets = Budgets { requests: Some(requests), ..Budgets::default() };
        let report = run(lake, table, Options { budgets, ..lake.options_for(names) }).0;
        if report.kind() != Some(Kind::Budget) {
            return report;
        }
    }
    panic!("no end after {at_most} runs of {requests} requests");
}

/// The reasons and objects that a lake keeps aside, by file.
pub fn kept(lake: &TestLake) -> Vec<(String, serde_json::Value)> {
    let files = alone(lake.files());
    let rejected = files.into_iter().filter(|(path, _)| path.starts_with("_stripelake/rejected/"));
    let lines = rejected.flat_map(|(path, (bytes, _))| {
        let lines: Vec<String> =
            String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned).collect();
        lines.into_iter().map(move |line| (path.clone(), serde_json::from_str(&line).unwrap()))
    });
    lines.collect()
}

fn break_created(table: &Table, list: &str, at: usize) -> String {
    let mut id = String::new();
    table.edit(list, |objects| {
        objects[at]["created"] = json!("soon");
        id = text(&objects[at]["id"]).to_owned();
    });
    id
}

#[test]
fn p3_runs_with_a_budget_come_to_the_end_of_a_list_with_a_rejected_object() {
    for at in [1, 300, 899] {
        let table = Table::charges(71, 900);
        let id = break_created(&table, "charges", at);
        let lake = TestLake::new();
        let report = run_in_parts(&lake, &table, &["charges"], 5, 20);
        check_kind(&report, Some(Kind::Partial));
        assert_eq!(report.tables[0].rejected, 1);
        // It is not, though all of the list was read.
        assert!(report.complete.is_empty(), "{:?}", report.complete);
        let kept = kept(&lake);
        assert_eq!(kept.len(), 1, "once: {kept:?}");
        assert!(kept[0].1["text"].as_str().unwrap().contains(&id));
        assert_eq!(report.tables[0].rejected_in, [kept[0].0.clone()]);
        let ids = alone(lake.ids("charges"));
        assert_eq!(ids.len(), 899, "everything else is there");
        let state = alone(lake.state("charges")).unwrap();
        assert_eq!((state.progress, state.complete_until), (None, None));

        // As long as Stripe sends it, every listing says so; then it is a row.
        check_kind(&run(&lake, &table, lake.options_for(&["charges"])).0, Some(Kind::Partial));
        table.edit("charges", |charges| charges[at]["created"] = charges[at.max(1) - 1]["created"].clone());
        check_kind(&run(&lake, &table, lake.options_for(&["charges"])).0, None);
        assert_eq!(alone(lake.ids("charges")).len(), 900);
    }
}

#[test]
fn p3_a_rejected_object_marks_no_row_deleted_in_any_run_of_its_listing() {
    let table = Table::of(&account(72, 400));
    let lake = TestLake::new();
    check_kind(&run(&lake, &table, lake.options()).0, None);
    let rejected = break_created(&table, "customers", 3);
    let mut gone = String::new();
    table.edit("customers", |customers| gone = text(&customers.pop().unwrap()["id"]).to_owned());
    let all = alone(lake.ids("customers"));
    let report = run_in_parts(&lake, &table, &["customers"], 5, 40);
    check_kind(&report, Some(Kind::Partial));
    assert_eq!(alone(lake.ids("customers")), all, "none is marked");

    table.edit("customers", |customers| customers.retain(|customer| customer["id"] != rejected.as_str()));
    let report = run_in_parts(&lake, &table, &["customers"], 5, 40);
    check_kind(&report, None);
    let ids = alone(lake.ids("customers"));
    let marked: BTreeSet<&String> = all.difference(&ids).collect();
    assert_eq!(marked, BTreeSet::from([&gone, &rejected]));
}

#[test]
fn p3_a_rejected_object_survives_kills_and_is_counted_once() {
    for n in 2..16 {
        let table = Table::charges(73, 900);
        let id = break_created(&table, "charges", 450);
        let lake = TestLake::new();
        let report = killed_at(&lake, &table, lake.options_for(&["charges"]), n);
        let report = report.unwrap_or_else(|| run(&lake, &table, lake.options_for(&["charges"])).0);
        check_kind(&report, Some(Kind::Partial));
        assert_eq!(report.tables[0].rejected, 1, "killed at {n}");
        let named: Vec<_> =
            kept(&lake).into_iter().filter(|(path, _)| report.tables[0].rejected_in.contains(path)).collect();
        assert_eq!(named.len(), 1, "killed at {n}");
        assert!(named[0].1["text"].as_str().unwrap().contains(&id));
        assert_eq!(alone(lake.ids("charges")).len(), 899);
    }
}

#[test]
fn p3_a_resource_that_was_complete_but_for_an_object_makes_the_last_run_partial() {
    let table = Table::of(&account(74, 900));
    break_created(&table, "refunds", 2);
    let lake = TestLake::new();
    let report = run_in_parts(&lake, &table, &["charges", "refunds"], 6, 20);
    check_kind(&report, Some(Kind::Partial));
    let refunds = report.tables.iter().find(|of| of.table == "refunds").unwrap();
    assert_eq!(refunds.rejected, 1);
    assert_eq!(kept(&lake).len(), 1);
}

#[test]
fn p3_where_the_file_of_rejected_objects_has_gone_they_are_met_again() {
    let table = Table::charges(75, 900);
    break_created(&table, "charges", 1);
    let lake = TestLake::new();
    let budgets = Budgets { requests: Some(7), ..Budgets::default() };
    let parts = Options { budgets, ..lake.options_for(&["charges"]) };
    check_kind(&run(&lake, &table, parts).0, Some(Kind::Budget));
    let progress = alone(lake.state("charges")).unwrap().progress.unwrap();
    assert_eq!(progress.rejected.len(), 1);
    alone(lake.lake.remove(&progress.rejected[0])).unwrap();
    let report = run(&lake, &table, lake.options_for(&["charges"])).0;
    check_kind(&report, Some(Kind::Partial));
    assert_eq!((report.tables[0].rejected, kept(&lake).len()), (1, 1));
}

#[test]
fn p3_a_rejected_item_does_not_keep_its_subscriptions_from_ending() {
    let table = Table::of(&with_long_subscriptions());
    table.edit("subscriptions", |subscriptions| {
        let item = &mut subscriptions[5]["items"]["data"][0];
        item["id"] = json!("");
    });
    let lake = TestLake::new();
    let report = run_in_parts(&lake, &table, &["subscriptions"], 9, 60);
    check_kind(&report, Some(Kind::Partial));
    assert_eq!(report.tables.iter().map(|table| table.rejected).sum::<u64>(), 1);
    assert_eq!(kept(&lake).len(), 1);
}

#[test]
fn p3_an_item_that_says_it_is_another_object_rejects_its_subscription_and_no_other() {
    let table = Table::of(&with_long_subscriptions());
    table.edit("subscriptions", |subscriptions| {
        subscriptions[5]["items"]["data"][0]["object"] = json!("subscription_item2");
    });
    let lake = TestLake::new();
    let report = run(&lake, &table, lake.options_for(&["subscriptions"])).0;
    check_kind(&report, Some(Kind::Partial));
    assert_eq!(report.tables.iter().map(|table| table.rejected).sum::<u64>(), 1);
    let why = report.tables.iter().find_map(|table| table.rejected_because.clone()).unwrap();
    assert!(
        why.contains("subscription_items: expected objects") && why.contains("subscription_item2"),
        "{why}"
    );
    let (n_rows, n_all) = (alone(lake.ids("subscriptions")).len(), table.list("subscriptions").len());
    assert_eq!(n_rows, n_all - 1);
}

#[test]
fn what_vanished_is_marked_by_parts_of_a_listing_that_came_after_a_partial_one() {
    let account =
        Account::new(Spec { charges: 20, customers: Some(2_000), span_days: 400, ..Spec::default() });
    let table = Table::some_of(&account, |name| name == "customers");
    let rejected = break_created(&table, "customers", 0);
    let lake = TestLake::new();
    check_kind(&run(&lake, &table, lake.options_for(&["customers"])).0, Some(Kind::Partial));
    assert_eq!(alone(lake.state("customers")).unwrap().complete_until, None);
    let mut gone = BTreeSet::new();
    table.edit("customers", |customers| {
        customers.retain(|customer| customer["id"] != rejected.as_str());
        let mut number = 0;
        customers.retain(|customer| {
            number += 1;
            number % 7 > 0 || !gone.insert(text(&customer["id"]).to_owned())
        });
    });
    let all = alone(lake.ids("customers"));
    // Long enough for progress to be written in the middle of a file's rows.
    for requests in [8, 30] {
        let budgets = Budgets { requests: Some(requests), ..Budgets::default() };
        let options = Options { budgets, concurrency: 1, ..lake.options_for(&["customers"]) };
        let expected = (requests == 8).then_some(Kind::Budget);
        check_kind(&run(&lake, &table, options).0, expected);
    }
    let ids = alone(lake.ids("customers"));
    assert_eq!(all.difference(&ids).cloned().collect::<BTreeSet<_>>(), gone);
}

#[test]
fn what_was_read_but_for_a_row_is_read_beside_what_may_not_be() {
    let table = Table::of(&account(78, 40));
    break_created(&table, "charges", 3);
    let script = scripted_table(&table);
    let denied = refusal(403, "permission_missing", None, "The key may not read this.");
    script.rules.add(Rule::new("/v1/customers", Action::Answer(denied)));
    let lake = TestLake::new();
    let report = alone(lake.sync_with(lake.options_for(&["charges", "customers"]), script.clone())).unwrap();
    check_kind(&report, Some(Kind::Partial));
    assert!(report.complete.is_empty());
    let report = alone(lake.sync_with(lake.options_for(&["customers"]), script)).unwrap();
    check_kind(&report, Some(Kind::Auth));
}
