//! Turns rows that wait for their partition when a run is killed into rows that are there, and no older than they may be.

use std::sync::Arc;

use serde_json::json;
use stripelake::commit::Version;
use stripelake::commit::state::{Progress, ResourceState, state_path};

use stripelake::run::estimate::estimate;
use stripelake::run::event::Event;

use crate::harness::{TestLake, account, check_kind};
use crate::resume::{alone, killed_at, run};
use crate::table::{Table, created, text};

const WAITING: &str = "_stripelake/waiting";

fn waiting(lake: &TestLake) -> Vec<String> {
    alone(lake.lake.list(WAITING)).unwrap()
}

fn state(lake: &TestLake, name: &str) -> ResourceState {
    alone(lake.state(name)).unwrap()
}

/// A first sync of one list that was killed when rows of it waited.
fn killed(table: &Arc<Table>, name: &str, n: u64) -> TestLake {
    let lake = TestLake::new();
    assert!(killed_at(&lake, table, lake.options_for(&[name]), n).is_none());
    let progress = state(&lake, name).progress.expect("progress was written");
    assert!(!progress.waiting.is_empty() && !progress.kept.is_empty(), "{progress:?}");
    assert_eq!(waiting(&lake).len(), progress.waiting.len());
    lake
}

#[test]
fn rows_that_waited_are_there_without_being_read_again() {
    let table = Table::charges(41, 2_000);
    let (_, total) = run(&TestLake::new(), &table, TestLake::new().options_for(&["charges"]));
    for n in [8, 14, 19] {
        let lake = killed(&table, "charges", n);
        let (report, requests) = run(&lake, &table, lake.options_for(&["charges"]));
        check_kind(&report, None);
        alone(lake.check_table_equals(&table, "charges"));
        // The account, four pages in flight and four that were not handed on, and what is new.
        assert!(
            requests + n <= total + 1 + 8 + 1,
            "killed at {n}: {requests} requests, {total} of a whole run"
        );
        assert_eq!(waiting(&lake), Vec::<String>::new());
    }
}

#[test]
fn rows_that_waited_are_kept_through_several_kills() {
    let table = Table::charges(42, 2_000);
    let lake = killed(&table, "charges", 9);
    let before = state(&lake, "charges").progress.unwrap();
    assert!(killed_at(&lake, &table, lake.options_for(&["charges"]), 9).is_none());
    let after = state(&lake, "charges").progress.unwrap();
    assert!(after.waiting.len() > before.waiting.len(), "{after:?}");
    assert_ne!(after.run, before.run);
    check_kind(&run(&lake, &table, lake.options_for(&["charges"])).0, None);
    alone(lake.check_table_equals(&table, "charges"));
}

#[test]
fn i3_rows_that_waited_do_not_replace_what_another_run_has_seen_since() {
    let table = Table::charges(43, 2_000);
    let lake = killed(&table, "charges", 12);
    table.edit("charges", |charges| {
        charges.iter_mut().for_each(|charge| charge["metadata"] = json!({"changed": "since"}));
    });
    // The window of another run holds some of them.
    let since = Some(created(&table.list("charges")[900]));
    let mut options = lake.options_for(&["charges"]);
    options.since = since;
    check_kind(&run(&lake, &table, options).0, None);
    check_kind(&run(&lake, &table, lake.options_for(&["charges"])).0, None);
    let events = lake.events.lock().unwrap().clone();
    let says_so =
        |event: &Event| matches!(event, Event::Warning { message } if message.contains("is read again"));
    assert!(events.iter().any(says_so), "nobody is told");
    let rows = alone(lake.rows("charges"));
    for charge in table.list("charges").iter().take(900) {
        let row = &rows[text(&charge["id"])];
        assert!(row["metadata"].to_string().contains("since"), "{row:?}");
    }
    assert_eq!(waiting(&lake), Vec::<String>::new());
}

#[test]
fn i3_rows_that_waited_do_not_replace_newer_ones_that_the_killed_run_had_committed() {
    let table = Table::charges(47, 2_000);
    let lake = killed(&table, "charges", 14);
    // The run lives on: what it commits is newer than what it has kept before, and it is killed before it says so.
    let path = state_path("charges");
    let progress = state(&lake, "charges").progress.unwrap();
    let kept = alone(async {
        let mut kept = Vec::new();
        for file in &progress.waiting {
            kept.push(lake.lake.read_bytes(&file.path).await.unwrap().unwrap().0);
        }
        let (mut state, version) = lake.lake.read_json::<ResourceState>(&path).await.unwrap().unwrap();
        state.progress = None;
        lake.lake.write_json(&path, &state, &version).await.unwrap();
        kept
    });
    table.edit("charges", |charges| {
        charges.iter_mut().for_each(|charge| charge["metadata"] = json!({"changed": "since"}));
    });
    check_kind(&run(&lake, &table, lake.options_for(&["charges"])).0, None);
    alone(async {
        for (file, bytes) in progress.waiting.iter().zip(&kept) {
            lake.lake.write_bytes(&file.path, bytes, &Version::Absent).await.unwrap();
        }
        let (mut state, version) = lake.lake.read_json::<ResourceState>(&path).await.unwrap().unwrap();
        let run = state.written_by.clone().unwrap();
        state.progress = Some(Progress { run, ..progress.clone() });
        lake.lake.write_json(&path, &state, &version).await.unwrap();
    });
    let (report, _) = run(&lake, &table, lake.options_for(&["charges"]));
    check_kind(&report, None);
    let continued = report.tables[0].continued.as_ref().expect("what was kept was taken up");
    assert!(continued.share > 0.1, "{continued:?}");
    alone(lake.check_table_equals(&table, "charges"));
}

#[test]
fn s7_rows_that_waited_in_a_damaged_file_are_read_again() {
    let table = Table::charges(44, 2_000);
    for is_gone in [true, false] {
        let lake = killed(&table, "charges", 14);
        let path = state(&lake, "charges").progress.unwrap().waiting.last().unwrap().path.clone();
        alone(async {
            let (mut bytes, _) = lake.lake.read_bytes(&path).await.unwrap().unwrap();
            lake.lake.remove(&path).await.unwrap();
            if !is_gone {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                lake.lake.write_bytes(&path, &bytes, &Version::Absent).await.unwrap();
            }
        });
        let (report, requests) = run(&lake, &table, lake.options_for(&["charges"]));
        check_kind(&report, None);
        assert!(requests > 20, "{requests}");
        alone(lake.check_table_equals(&table, "charges"));
        assert_eq!(waiting(&lake), Vec::<String>::new());
    }
}

#[test]
fn s6_files_of_rows_that_no_progress_names_are_removed_and_no_others() {
    let table = Table::charges(45, 300);
    let lake = TestLake::new();
    let paths = ["charges-run9-1.arrows", "refunds-run9-1.arrows"].map(|name| format!("{WAITING}/{name}"));
    alone(async {
        for path in &paths {
            lake.lake.write_bytes(path, b"left", &Version::Absent).await.unwrap();
        }
    });
    check_kind(&run(&lake, &table, lake.options_for(&["charges"])).0, None);
    assert_eq!(waiting(&lake), [paths[1].clone()]);
}

#[test]
fn items_that_went_before_a_kill_do_not_come_back() {
    let table = Table::some_of(&account(46, 30_000), |name| name == "subscriptions");
    let lake = TestLake::new();
    let options = || lake.options_for(&["subscriptions"]);
    check_kind(&run(&lake, &table, options()).0, None);
    // Each subscription with several items loses one.
    let mut gone = Vec::new();
    table.edit("subscriptions", |subscriptions| {
        for subscription in subscriptions {
            let items = subscription["items"]["data"].as_array_mut().unwrap();
            if items.len() > 1 {
                gone.push(text(&items.pop().unwrap()["id"]).to_owned());
            }
        }
    });
    table.edit("subscription_items", |items| {
        items.retain(|item| !gone.iter().any(|id| *id == text(&item["id"])))
    });
    assert!(gone.len() > 5, "{}", gone.len());
    let total = table.list("subscriptions").len() as u64 / 100;
    assert!(killed_at(&lake, &table, options(), total - 2).is_none());
    let progress = state(&lake, "subscriptions").progress.unwrap();
    assert!(!progress.waiting.is_empty(), "{progress:?}");
    let (report, requests) = run(&lake, &table, options());
    check_kind(&report, None);
    assert!(requests < total, "{requests} of {total}");
    alone(lake.check_table_equals(&table, "subscriptions"));
    let rows = alone(lake.ids("subscription_items"));
    assert!(gone.iter().all(|id| !rows.contains(id)), "items came back");
}

#[test]
fn what_went_between_two_kills_does_not_come_back_with_the_third_run() {
    // All in one month that waits for its end. Each kill leaves rows of seconds that the next run reads again.
    let table = Table::some_of(&account(48, 3_000), |name| name == "customers");
    let now = table.now();
    table.edit("customers", |customers| {
        (0..).zip(customers).for_each(|(at, customer)| customer["created"] = (now - 5_000 - at).into());
    });
    let n_pages = table.list("customers").len() as u64 / 100;
    for n in 3..n_pages {
        let lake = TestLake::new();
        killed_at(&lake, &table, lake.options_for(&["customers"]), n);
        let progress = alone(lake.state("customers")).and_then(|state| state.progress);
        let settled = progress.map_or(Vec::new(), |progress| [progress.read, progress.kept].concat());
        // Every third one goes, also where it was read and not settled.
        let changed = Table::new(&table.id, now);
        let rest = table.list("customers").into_iter().enumerate().filter(|(at, _)| at % 3 > 0);
        changed.put("customers", rest.map(|(_, customer)| customer).collect());
        killed_at(&lake, &changed, lake.options_for(&["customers"]), n);
        check_kind(&run(&lake, &changed, lake.options_for(&["customers"])).0, None);
        let there = alone(lake.ids("customers"));
        for customer in table.list("customers").iter().step_by(3) {
            let was_settled = settled.iter().any(|(start, end)| (*start..*end).contains(&created(customer)));
            let id = text(&customer["id"]);
            assert!(was_settled || !there.contains(id), "killed at {n}: {id} came back");
        }
    }
}

#[test]
fn a_dry_run_takes_nothing_away_from_a_run_at_work() {
    let table = Table::charges(49, 2_000);
    let lake = killed(&table, "charges", 14);
    let unnamed = format!("{WAITING}/charges-run0-999.arrows");
    alone(lake.lake.write_bytes(&unnamed, b"just begun", &Version::Absent)).unwrap();
    let before = alone(lake.files());
    let (_, total) = run(&TestLake::new(), &table, TestLake::new().options_for(&["charges"]));
    let estimate = alone(estimate(&lake.setup(), lake.options_for(&["charges"]), table.clone())).unwrap();
    assert!(estimate.requests < total, "{} of {total}: what was kept counts as read", estimate.requests);
    assert!(alone(lake.files()) == before, "the dry run has changed the lake");
}

#[test]
fn i3_a_run_that_has_only_looked_is_newer_than_rows_that_wait() {
    let table = Table::charges(50, 2_000);
    let lake = TestLake::new();
    // All in one partition, of which the killed run commits nothing.
    let now = table.now();
    table.edit("charges", |charges| {
        (0..).zip(charges).for_each(|(at, charge)| charge["created"] = (now - 5_000 - at).into());
    });
    let first = table.list("charges");
    check_kind(&run(&lake, &table, lake.options_for(&["charges"])).0, None);
    // A killed refresh has seen another form, which is gone again when a run for a window looks, and finds nothing new.
    table.edit("charges", |charges| {
        charges.iter_mut().for_each(|charge| charge["metadata"] = json!({"form": "for a moment"}));
    });
    assert!(killed_at(&lake, &table, lake.options_for(&["charges"]), 14).is_none());
    assert!(!state(&lake, "charges").progress.unwrap().kept.is_empty());
    table.put("charges", first);
    let mut options = lake.options_for(&["charges"]);
    options.since = Some(1);
    options.until = Some(table.now() - 1);
    check_kind(&run(&lake, &table, options).0, None);
    check_kind(&run(&lake, &table, lake.options_for(&["charges"])).0, None);
    alone(lake.check_table_equals(&table, "charges"));
}

/// Some of the newest customers vanish; runs that are killed, and one that is not, mark them.
fn check_vanished_are_marked(lake: &TestLake, table: &Arc<Table>) {
    table.edit("customers", |customers| drop(customers.drain(20..320)));
    let total = table.list("customers").len() as u64 / 100;
    let mut n = 5;
    while n < total && killed_at(lake, table, lake.options_for(&["customers"]), n).is_none() {
        n += 3;
    }
    check_kind(&run(lake, table, lake.options_for(&["customers"])).0, None);
    alone(lake.check_table_equals(table, "customers"));
}

#[test]
fn rows_of_another_run_that_vanish_are_marked_though_the_listing_began_with_nothing() {
    let table = Table::some_of(&account(51, 6_000), |name| name == "customers");
    let lake = TestLake::new();
    assert!(killed_at(&lake, &table, lake.options_for(&["customers"]), 6).is_none());
    // Another run brings all of them into the lake; then the newest vanish.
    let mut options = lake.options_for(&["customers"]);
    options.until = Some(table.now() - 1);
    options.since = Some(1);
    check_kind(&run(&lake, &table, options).0, None);
    check_vanished_are_marked(&lake, &table);
}

#[test]
fn files_that_the_state_only_knows_as_begun_are_not_of_the_listings_own_making() {
    let table = Table::some_of(&account(52, 6_000), |name| name == "customers");
    let lake = TestLake::new();
    check_kind(&run(&lake, &table, lake.options_for(&["customers"])).0, None);
    // As if the run had been killed before its first state with files.
    let mut known = state(&lake, "customers");
    known.begun = std::mem::take(&mut known.partitions).into_keys().collect();
    known.complete_until = None;
    let path = state_path("customers");
    let (_, version) = alone(lake.lake.read_json::<ResourceState>(&path)).unwrap().unwrap();
    alone(lake.lake.write_json(&path, &known, &version)).unwrap();
    check_vanished_are_marked(&lake, &table);
}
