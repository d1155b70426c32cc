//! Turns accounts of all sizes into lakes and checks that nothing is missing, moved or written twice.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::ObjectStoreExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use stripelake::commit::Lake;
use stripelake::fake::script::{Action, Rule};
use stripelake::fake::{Account, Density, InProcess, Spec};
use stripelake::fetch::{Request, Response, Transport, TransportError};
use stripelake::partition::Grain;
use stripelake::run::Setup;
use stripelake::run::event::Event;
use stripelake::run::sync::{Options, sync};

use crate::harness::{TestLake, account, check_kind, scripted, scripted_table};
use crate::json::Row;
use crate::table::{Table, created, text};

/// A complete first sync of an account, and the account.
async fn synced(seed: u64, charges: u64) -> (TestLake, Arc<Table>) {
    let account = account(seed, charges);
    let table = Table::of(&account);
    let lake = TestLake::new();
    lake.sync_completely(Arc::new(InProcess::new(Arc::new(account)))).await;
    (lake, table)
}

async fn check_first_sync(seed: u64, charges: u64) {
    let (lake, table) = synced(seed, charges).await;
    assert_eq!(table.list("charges").len() as u64, charges);
    lake.check_equals(&table).await;
}

#[tokio::test(start_paused = true)]
async fn a_first_sync_holds_every_object_once() {
    for (seed, charges) in [(1, 0), (2, 1), (3, 99), (4, 100), (5, 101), (6, 450)] {
        check_first_sync(seed, charges).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_account_is_read_in_slices() {
    let account = account(11, 3_000);
    let table = Table::of(&account);
    let script = scripted(account);
    // Without a wait one worker would read all before another is asked.
    script.rules.add(Rule::new("*", Action::Delay(Duration::from_millis(100))));
    let lake = TestLake::new();
    // With workers to spare, whatever the others are at.
    let options = Options { concurrency: 16, ..lake.options() };
    check_kind(&lake.sync_with(options, script.clone()).await.unwrap(), None);
    lake.check_intact().await;
    lake.check_equals(&table).await;
    let bounds = script.asked("/v1/charges").into_iter().flat_map(|asked| asked.request.query);
    let upper: BTreeSet<String> = bounds.filter(|(name, _)| name == "created[lt]").map(|(_, v)| v).collect();
    assert!(upper.len() > 2, "too few slices: {upper:?}");
}

#[tokio::test(start_paused = true)]
async fn a_resource_without_objects_has_an_empty_file() {
    let full = Table::of(&account(8, 300));
    let table = Table::new(&full.id, full.now());
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    for resource in &lake.catalog.resources {
        assert_eq!(lake.parquet(&resource.name).await.len(), 1, "{}", resource.name);
    }
    // It makes room when there are objects, whatever their partitions are.
    for resource in &lake.catalog.resources {
        table.put(&resource.name, full.list(&resource.name));
    }
    let mut setup = lake.setup();
    setup.grains.insert("charges".to_owned(), Grain::Month);
    let report = sync(&setup, lake.options(), table.clone()).await.unwrap();
    check_kind(&report, None);
    lake.check_intact().await;
    lake.check_equals(&table).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_full_sync_leaves_the_same_bytes() {
    let (lake, _) = synced(21, 300).await;
    let mut before = lake.files().await;
    let report = lake.sync_completely(Arc::new(InProcess::new(Arc::new(account(21, 300))))).await;
    let mut after = lake.files().await;
    assert!(report.tables.iter().all(|table| table.files_written == 0), "{:?}", report.tables);
    let of_runs = ["_stripelake/runs/", "_stripelake/lease.json"];
    for files in [&mut before, &mut after] {
        files.retain(|path, _| !of_runs.iter().any(|own| path.starts_with(own)));
    }
    let names: Vec<&String> = after.keys().collect();
    assert_eq!(names, before.keys().collect::<Vec<_>>());
    // When everything was read last is what a state adds.
    let told = |bytes: &[u8]| {
        let mut state: Value = serde_json::from_slice(bytes).unwrap();
        state
            .as_object_mut()
            .unwrap()
            .retain(|key, _| !["listed", "written_by", "crc32"].contains(&key.as_str()));
        state
    };
    for (path, file) in before {
        match path.starts_with("_stripelake/state/") {
            true => assert_eq!(told(&after[&path].0), told(&file.0), "{path}"),
            false => assert_eq!(after[&path], file, "{path} was written again"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_object_rewrites_its_partition_only() {
    let table = Table::of(&account(22, 700));
    let lake = TestLake::new();
    let setup = |lake: &TestLake| {
        let mut setup = lake.setup();
        setup.grains.insert("charges".to_owned(), Grain::Month);
        setup
    };
    sync(&setup(&lake), lake.options(), table.clone()).await.unwrap();
    let before = lake.parquet("charges").await;
    table.edit("charges", |charges| charges[350]["description"] = "changed".into());
    let report = sync(&setup(&lake), lake.options(), table.clone()).await.unwrap();
    check_kind(&report, None);
    lake.check_intact().await;
    lake.check_equals(&table).await;
    let after = lake.parquet("charges").await;
    let n_changed = before.iter().filter(|(path, file)| after[*path] != **file).count();
    assert_eq!((n_changed, after.len()), (1, before.len()));
    let charges = report.tables.iter().find(|table| table.table == "charges").unwrap();
    assert_eq!((charges.new, charges.changed, charges.deleted, charges.files_written), (0, 1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn partitions_are_years_months_or_days() {
    for (grain, key) in
        [(Grain::Year, "created_year"), (Grain::Month, "created_month"), (Grain::Day, "created_day")]
    {
        let account = account(23, 20);
        let table = Table::of(&account);
        let lake = TestLake::new();
        let mut setup = lake.setup();
        for resource in lake.catalog.listed() {
            setup.grains.insert(resource.name.clone(), grain);
        }
        let report = sync(&setup, lake.options(), table.clone()).await.unwrap();
        check_kind(&report, None);
        lake.check_intact().await;
        lake.check_equals(&table).await;
        for resource in &lake.catalog.resources {
            for path in lake.parquet(&resource.name).await.keys() {
                assert!(path.starts_with(&format!("{}/{key}=", resource.name)), "{path}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn i1_readers_meet_one_kind_of_folders_also_when_an_empty_file_gives_way() {
    let table = Table::charges(26, 400);
    let folder = tempfile::tempdir().unwrap();
    let local = Arc::new(Lake::open(folder.path().to_str().unwrap(), &[]).unwrap());
    let lake = TestLake::new();
    for at in [lake.lake.clone(), local] {
        let setup = Setup { lake: at.clone(), ..lake.setup() };
        let empty = Table::new(&table.id, table.now());
        check_kind(&sync(&setup, lake.options_for(&["charges"]), empty).await.unwrap(), None);
        let met = Arc::new(Mutex::new(Vec::new()));
        let (look, listed) = (met.clone(), at.clone());
        let on_event = Arc::new(move |event: Event| {
            if matches!(event, Event::File { .. }) {
                let found = listed.data_versions("charges").now_or_never().unwrap().unwrap();
                let kinds: BTreeSet<String> =
                    found.keys().map(|path| path.split(['/', '=']).nth(1).unwrap().to_owned()).collect();
                look.lock().unwrap().push(kinds);
            }
        });
        let setup = Setup {
            on_event,
            grains: [("charges".to_owned(), Grain::Month)].into(),
            ..Setup { lake: at, ..lake.setup() }
        };
        check_kind(&sync(&setup, lake.options_for(&["charges"]), table.clone()).await.unwrap(), None);
        let met = std::mem::take(&mut *met.lock().unwrap());
        let expected = BTreeSet::from(["created_month".to_owned()]);
        assert!(met.len() > 3 && met.iter().all(|kinds| *kinds == expected), "{met:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_density_of_a_window_decides_the_partitions_where_the_size_of_the_account_is_not_known() {
    // 20,000 a month.
    let spec = Spec { seed: 35, charges: 6_000, span_days: 9, density: Density::Even, ..Spec::default() };
    let table = Table::of(&Account::new(spec));
    let two_days_ago = table.now() - 2 * 86_400;
    for (since, expected) in [(None, Grain::Year), (Some(two_days_ago), Grain::Month)] {
        let lake = TestLake::new();
        let options = Options { since, ..lake.options_for(&["charges"]) };
        check_kind(&lake.sync_with(options, table.clone()).await.unwrap(), None);
        assert_eq!(lake.state("charges").await.unwrap().grain, Some(expected), "{since:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_is_listed_and_the_rest_left_alone() {
    let table = Table::of(&account(24, 500));
    let lake = TestLake::new();
    let charges = table.list("charges");
    let (since, until) = (created(&charges[400]), created(&charges[100]));
    let window = |lake: &TestLake| Options {
        since: Some(since),
        until: Some(until),
        ..lake.options_for(&["charges"])
    };
    let report = lake.sync_with(window(&lake), table.clone()).await.unwrap();
    check_kind(&report, None);
    let in_window = |object: &&serde_json::Value| (since..until).contains(&created(object));
    let expected: BTreeSet<String> =
        charges.iter().filter(in_window).map(|c| text(&c["id"]).to_owned()).collect();
    assert_eq!(lake.ids("charges").await, expected);
    assert_eq!(lake.state("charges").await.unwrap().complete_until, None);

    // Everything changes, and only the window is looked at again.
    lake.sync_completely(table.clone()).await;
    let complete_until = lake.state("charges").await.unwrap().complete_until;
    table.edit("charges", |charges| {
        for charge in charges.iter_mut() {
            charge["description"] = "changed".into();
        }
    });
    let report = lake.sync_with(window(&lake), table.clone()).await.unwrap();
    check_kind(&report, None);
    lake.check_intact().await;
    let older = Options { until: Some(until), ..lake.options_for(&["charges"]) };
    lake.sync_with(older, table.clone()).await.unwrap();
    assert_eq!(lake.state("charges").await.unwrap().complete_until, complete_until, "nothing is taken back");
    for (id, row) in lake.rows("charges").await {
        let is_changed = row.get("description") == Some(&json!("changed"));
        assert_eq!(is_changed, row["created"].as_i64().unwrap() < until * 1_000_000, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_vanished_customer_is_marked_and_a_charge_left_alone() {
    let table = Table::of(&account(25, 300));
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    let customer = table.list("customers")[7].clone();
    let charge = table.list("charges")[7].clone();
    let before = lake.rows("customers").await[text(&customer["id"])].clone();
    let changed = table.list("customers")[8].clone();
    table.edit("customers", |list| list.retain(|c| *c != customer));
    table.edit("customers", |list| list[7]["name"] = "changed".into());
    table.edit("charges", |list| list.retain(|c| *c != charge));
    let report = lake.sync_completely(table.clone()).await;
    let deleted: u64 = report.tables.iter().map(|table| table.deleted).sum();
    assert_eq!(deleted, 1);

    let mut row = lake.rows("customers").await[text(&customer["id"])].clone();
    assert_eq!(row["_deleted"], true);
    let changed = lake.rows("customers").await[text(&changed["id"])].clone();
    let observed_at = |row: &Row| row["_synced_at"].as_i64().unwrap();
    // What was taken before its page was read may have it still, and is older.
    assert!(observed_at(&row) >= observed_at(&changed), "{row:?} {changed:?}");
    for column in ["_deleted", "_synced_at"] {
        row.insert(column.to_owned(), before[column].clone());
    }
    assert_eq!(row, before, "the other values stay");
    assert_eq!(lake.rows("charges").await[text(&charge["id"])]["_deleted"], false);

    // Marked once; and unmarked when it comes back.
    let report = lake.sync_completely(table.clone()).await;
    assert!(report.tables.iter().all(|table| table.files_written == 0));
    table.edit("customers", |list| list.insert(7, customer.clone()));
    lake.sync_completely(table.clone()).await;
    lake.check_table_equals(&table, "customers").await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_is_filled_by_the_same_rules() {
    let folder = tempfile::tempdir().unwrap();
    let account = account(26, 250);
    let table = Table::of(&account);
    let lake = TestLake::new();
    let mut setup = lake.setup();
    setup.lake = Arc::new(Lake::open(folder.path().to_str().unwrap(), &[]).unwrap());
    for _ in 0..2 {
        let report = sync(&setup, lake.options(), table.clone()).await.unwrap();
        check_kind(&report, None);
        // The record of a run is written once; a run has a name of its own.
        setup.run_id.push('x');
    }
    let copied = TestLake::copied_from(folder.path()).await;
    copied.check_intact().await;
    for resource in &lake.catalog.resources {
        let found = setup.lake.data_versions(&resource.name).await.unwrap();
        let known = copied.state(&resource.name).await.unwrap().partitions.into_values();
        assert!(
            known
                .zip(found.values())
                .all(|(known, found)| found.etag().is_some_and(|etag| known.is_of(etag)))
        );
    }
    copied.check_equals(&table).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn any_account_is_read_completely(seed in 0u64..1_000_000, charges in 0u64..300, concurrency in 1usize..9) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let account = account(seed, charges);
            let table = Table::of(&account);
            let lake = TestLake::new();
            let options = Options { concurrency, ..lake.options() };
            let report = lake.sync_with(options, scripted_table(&table)).await.unwrap();
            check_kind(&report, None);
            lake.check_intact().await;
            lake.check_equals(&table).await;
        });
    }
}

/// Activates a price as soon as a page of active ones has gone out.
#[derive(Debug)]
struct Activating {
    table: Arc<Table>,
    id: String,
}

impl Transport for Activating {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        let answer = self.table.get(request);
        if request.query.iter().any(|(name, value)| name == "active" && value == "true") {
            self.table.edit("prices", |prices| {
                prices
                    .iter_mut()
                    .filter(|price| price["id"] == *self.id)
                    .for_each(|price| price["active"] = true.into());
            });
        }
        answer
    }
}

#[tokio::test(start_paused = true)]
async fn a_price_that_is_activated_between_two_passes_is_not_lost() {
    let table = Table::of(&account(31, 300));
    let id = text(&table.list("prices")[0]["id"]).to_owned();
    table.edit("prices", |prices| prices[0]["active"] = false.into());
    let lake = TestLake::new();
    lake.sync_completely(Arc::new(Activating { table: table.clone(), id: id.clone() })).await;
    lake.check_equals(&table).await;
    // Nor is it taken for deleted later.
    table.edit("prices", |prices| prices[0]["active"] = false.into());
    lake.sync_completely(Arc::new(Activating { table: table.clone(), id })).await;
    lake.check_equals(&table).await;
}

/// A run may be killed between a file and the state: what the file holds must not stay for ever.
#[tokio::test(start_paused = true)]
async fn s6_a_file_that_only_a_killed_run_knew_of_is_looked_at_again() {
    let table = Table::of(&account(23, 60));
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    let path = "_stripelake/state/customers.json";
    let bytes = lake.store.get(&path.into()).await.unwrap().bytes().await.unwrap();
    let mut state: Value = serde_json::from_slice(&bytes).unwrap();
    let partitions = state["partitions"].as_object_mut().unwrap();
    let (folder, _) = partitions.remove_entry(&partitions.keys().next().unwrap().clone()).unwrap();
    state["begun"] = json!([folder]);
    lake.store.put(&path.into(), state.to_string().into()).await.unwrap();
    table.edit("customers", Vec::clear);
    lake.sync_completely(table.clone()).await;
    assert!(lake.ids("customers").await.is_empty());
    assert!(lake.state("customers").await.unwrap().begun.is_empty());
    lake.check_intact().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_of_a_window_says_in_its_record_which_one() {
    let table = Table::charges(75, 60);
    for since in [None, Some(table.now() - 86_400)] {
        let lake = TestLake::new();
        let options = Options { since, ..lake.options_for(&["charges"]) };
        let report = lake.sync_with(options, table.clone()).await.unwrap();
        check_kind(&report, None);
        let files = lake.files().await;
        let record =
            files.iter().find(|(path, _)| path.starts_with("_stripelake/runs/")).unwrap().1.0.clone();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let second = |time: &Value| time.as_str().map(|t| t.parse::<jiff::Timestamp>().unwrap().as_second());
        assert_eq!((second(&record["since"]), &record["until"]), (since, &Value::Null));
    }
}
