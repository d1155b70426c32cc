//! Turns embedded lists that cannot be read into runs that leave out the object they belong to, by name, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Rewrite, Rule, Scripted, answer, refusal};
use stripelake::fetch::TransportError;
use stripelake::run::event::Event;
use stripelake::run::report::Report;
use stripelake::run::sync::Options;

use crate::harness::{TestLake, check_kind, scripted_table, with_long_subscriptions};
use crate::rejected::kept;
use crate::resume::alone;
use crate::table::{Table, text};

const ITEMS: &str = "/v1/subscription_items";

fn sync(lake: &TestLake, script: &Arc<Scripted>) -> Report {
    let options = Options { concurrency: 1, ..lake.options_for(&["subscriptions"]) };
    alone(async {
        let report = lake.sync_with(options, script.clone()).await.unwrap();
        lake.check_intact().await;
        report
    })
}

/// The subscriptions that have more items than they embed.
fn long(table: &Table) -> Vec<Value> {
    let mut long = table.list("subscriptions");
    long.retain(|subscription| subscription["items"]["has_more"] == true);
    long
}

/// The account with other forms of one subscription and its items, or without them.
fn but_for(table: &Table, id: &str, other: Option<&Table>) -> Arc<Table> {
    let mixed = Table::new(&table.id, table.now());
    for (list, key) in [("subscriptions", "id"), ("subscription_items", "subscription")] {
        let mut objects = table.list(list);
        objects.retain(|object| object[key] != id);
        let others = other.map(|other| other.list(list)).unwrap_or_default();
        objects.extend(others.into_iter().filter(|object| object[key] == id));
        mixed.put(list, objects);
    }
    mixed
}

fn revise(table: &Table) {
    for list in ["subscriptions", "subscription_items"] {
        table.edit(list, |objects| {
            for object in objects {
                object["metadata"] = json!({"revised": "yes"});
                if list == "subscriptions" {
                    let items = object["items"]["data"].as_array_mut().unwrap();
                    items.iter_mut().for_each(|item| item["metadata"] = json!({"revised": "yes"}));
                }
            }
        });
    }
}

fn named(lake: &TestLake) -> Vec<String> {
    let events = lake.events.lock().unwrap();
    let warnings = events.iter().filter_map(|event| match event {
        Event::Warning { message } if message.contains("is left out") => Some(message.clone()),
        _ => None,
    });
    warnings.collect()
}

fn check_left_out(is_known: bool, fault: Action) {
    let table = Table::of(&with_long_subscriptions());
    let before = Table::of(&with_long_subscriptions());
    let script = scripted_table(&table);
    let long = long(&table);
    let stuck = text(&long[long.len() / 2]["id"]);
    let lake = TestLake::new();
    if is_known {
        check_kind(&sync(&lake, &script), None);
    }
    revise(&table);
    script.rules.add(Rule::new(ITEMS, fault).with("subscription", stuck));
    for _ in 0..2 {
        lake.events.lock().unwrap().clear();
        let report = sync(&lake, &script);
        check_kind(&report, Some(Kind::Partial));
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        assert_eq!(report.tables[0].rejected, 1);
        let expected = but_for(&table, stuck, is_known.then_some(&*before));
        alone(lake.check_table_equals(&expected, "subscriptions"));
        let named = named(&lake);
        assert!(named.len() == 1 && named[0].contains(stuck), "{named:?}");
    }
    let raw: Vec<Value> =
        kept(&lake).iter().map(|(_, line)| serde_json::from_str(text(&line["text"])).unwrap()).collect();
    assert!(raw.iter().all(|raw| raw["id"] == stuck && raw["metadata"]["revised"] == "yes"), "{raw:?}");
    script.rules.clear();
    check_kind(&sync(&lake, &script), None);
    alone(lake.check_table_equals(&table, "subscriptions"));
}

#[test]
fn a_subscription_whose_items_cannot_be_read_is_left_out_and_its_neighbours_are_not() {
    let faults = [
        Action::Answer(refusal(404, "resource_missing", Some("subscription"), "No such subscription")),
        Action::Answer(answer(502, "")),
        Action::Answer(answer(200, "{\"object\": \"list\", \"data\": [")),
        Action::Fail(TransportError::Network("reset".to_owned())),
    ];
    for fault in faults {
        check_left_out(false, fault.clone());
        check_left_out(true, fault);
    }
}

#[test]
fn where_nothing_is_answered_nothing_is_left_out() {
    let table = Table::of(&with_long_subscriptions());
    // Behind the items of the last one nothing is asked for.
    table.edit("subscriptions", |all| {
        let n = all.len();
        for (at, one) in all.iter_mut().enumerate() {
            one["items"]["has_more"] = json!(at + 1 == n);
        }
    });
    let script = scripted_table(&table);
    let outage: Rewrite = Arc::new({
        let script = Arc::downgrade(&script);
        move |_, _| {
            let all = Rule::new("/v1/*", Action::Answer(answer(502, "")));
            script.upgrade().unwrap().rules.add(all);
            answer(502, "")
        }
    });
    script.rules.add(Rule::new(ITEMS, Action::Rewrite(outage)).times(1));
    let lake = TestLake::new();
    let report = sync(&lake, &script);
    check_kind(&report, Some(Kind::Stripe));
    assert_eq!((named(&lake), report.tables[0].rejected), (Vec::new(), 0));
}

#[test]
fn where_no_items_can_be_read_the_list_ends_soon() {
    let table = Table::of(&with_long_subscriptions());
    table.edit("subscriptions", |all| {
        all.iter_mut().for_each(|one| one["items"]["has_more"] = true.into());
    });
    let script = scripted_table(&table);
    script.rules.add(Rule::new(ITEMS, Action::Answer(refusal(400, "", None, "Not here."))));
    let report = sync(&TestLake::new(), &script);
    check_kind(&report, Some(Kind::Partial));
    let asked = script.asked(ITEMS);
    let parents =
        asked.iter().flat_map(|asked| &asked.request.query).filter(|(name, _)| name == "subscription");
    let parents: BTreeSet<&String> = parents.map(|(_, parent)| parent).collect();
    assert!((20..100).contains(&parents.len()), "{} were tried", parents.len());
    let said = report.failures[0].1.to_string();
    assert!(parents.iter().any(|parent| said.contains(&format!("subscription_items of {parent}"))), "{said}");
}

#[test]
fn subscriptions_that_are_left_out_one_after_the_other_are_named_once_each() {
    let table = Table::of(&with_long_subscriptions());
    // Two more on one page embed all of their items but the last.
    table.edit("subscriptions", |all| {
        let n_items = |one: &Value| one["items"]["data"].as_array().map_or(0, Vec::len);
        for one in all[..100].iter_mut().filter(|one| n_items(one) > 1).take(2) {
            one["items"]["data"].as_array_mut().unwrap().pop();
            one["items"]["has_more"] = true.into();
        }
    });
    let script = scripted_table(&table);
    let long = long(&table);
    let stuck = [&long[0], &long[1]].map(|subscription| text(&subscription["id"]));
    let refused =
        Action::Answer(refusal(404, "resource_missing", Some("subscription"), "No such subscription"));
    script.rules.add(Rule::new(ITEMS, refused.clone()).with("subscription", stuck[0]));
    // The second one fails when the page is taken again without the first.
    script.rules.add(Rule::new(ITEMS, refused).with("subscription", stuck[1]).from_nth(2));
    let lake = TestLake::new();
    let report = sync(&lake, &script);
    check_kind(&report, Some(Kind::Partial));
    assert_eq!(report.tables[0].rejected, 2);
    let named = named(&lake);
    let names = |id: &str| named.iter().filter(|message| message.contains(id)).count();
    assert_eq!((named.len(), names(stuck[0]), names(stuck[1])), (2, 1, 1), "{named:?}");
    let expected = but_for(&but_for(&table, stuck[0], None), stuck[1], None);
    alone(lake.check_table_equals(&expected, "subscriptions"));
}
