//! Turns files that were moved or copied to the places of others into errors that say both places, and never into rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use stripelake::commit::Lake;
use stripelake::commit::state::state_path;
use stripelake::encode::PLACE;
use stripelake::error::Kind;
use stripelake::partition::{Grain, Partition};
use stripelake::run::Setup;
use stripelake::run::event::Event;
use stripelake::run::report::Report;
use stripelake::run::sync::{Options, sync};

use crate::damage::{failure, forget, put};
use crate::harness::{TestLake, account, check_kind};
use crate::table::{Table, created};

/// As long as the key of a file's place, and unknown.
const NO_PLACE: &str = "stripelake.none";
const FOOTER: &str = "stripelake.footer";

async fn sync_by_month(lake: &TestLake, table: &Arc<Table>, names: &[&str]) -> Report {
    let grains = names.iter().map(|name| ((*name).to_owned(), Grain::Month)).collect();
    let setup = Setup { grains, ..lake.setup() };
    sync(&setup, lake.options_for(names), table.clone()).await.unwrap()
}

/// The bytes of a table's files by their paths.
async fn files(lake: &TestLake, table: &str) -> BTreeMap<String, Bytes> {
    lake.parquet(table).await.into_iter().map(|(path, (bytes, _))| (path, bytes)).collect()
}

/// A sync of `names` in months fails with 8 and says all of `texts`, and the files at `paths` stay as they are.
async fn check_named(lake: &TestLake, table: &Arc<Table>, names: &[&str], paths: &[&str], texts: &[&str]) {
    let before = lake.files().await;
    let report = sync_by_month(lake, table, names).await;
    let (kind, text) = failure(&report).unwrap_or_else(|| panic!("{paths:?} {:?}", report.tables));
    assert!(kind == Kind::Integrity && texts.iter().all(|part| text.contains(part)), "{texts:?} {text}");
    let after = lake.files().await;
    assert!(paths.iter().all(|path| before[*path] == after[*path]), "{paths:?}");
}

/// Once the files at `paths` are away, a sync of `names` in months makes the lake whole.
async fn check_repaired(lake: &TestLake, table: &Arc<Table>, names: &[&str], paths: &[&str]) {
    forget(lake, paths).await;
    check_kind(&sync_by_month(lake, table, names).await, None);
    for name in names {
        lake.check_table_equals(table, name).await;
    }
    lake.check_intact().await;
}

#[tokio::test(start_paused = true)]
async fn s7_a_file_in_the_place_of_another_one_is_named() {
    let table = Table::charges(48, 400);
    let names = ["charges"];
    for says_its_place in [true, false] {
        let lake = TestLake::new();
        check_kind(&sync_by_month(&lake, &table, &names).await, None);
        if !says_its_place {
            take_places_out(&lake).await;
        }
        let files = files(&lake, "charges").await;
        let mut paths = files.keys();
        let (from, over) = (paths.next().unwrap(), paths.next().unwrap());
        // Where there was none, and in the place of another one.
        for to in ["charges/created_month=2019-01-01/charges.parquet", over] {
            put(&lake, to, files[from].clone()).await;
            let reason = if says_its_place { from } else { "another partition" };
            check_named(&lake, &table, &names, &[to], &[to, reason]).await;
            check_repaired(&lake, &table, &names, &[to]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn s7_a_file_of_a_child_in_the_place_of_another_one_is_named() {
    let table = Table::of(&account(46, 400));
    let names = ["subscriptions"];
    let lake = TestLake::new();
    check_kind(&sync_by_month(&lake, &table, &names).await, None);
    let files = files(&lake, "subscription_items").await;
    let mut paths = files.keys().map(String::as_str);
    let (first, second) = (paths.next().unwrap(), paths.next().unwrap());
    let nowhere = "subscription_items/created_month=2019-01-01/subscription_items.parquet";
    // Where there was none, in the place of another one, and two that have changed places.
    for moves in [vec![(first, nowhere)], vec![(first, second)], vec![(first, second), (second, first)]] {
        for (from, to) in &moves {
            put(&lake, to, files[*from].clone()).await;
        }
        let places: Vec<&str> = moves.iter().map(|(_, to)| *to).collect();
        check_named(&lake, &table, &names, &places, &[moves[0].0, moves[0].1]).await;
        check_repaired(&lake, &table, &names, &places).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s7_a_file_of_a_child_is_named_where_the_objects_have_none() {
    let table = Table::of(&account(53, 5_000));
    let names = ["subscriptions"];
    let month = Grain::Month.partition_of(created(&table.list("subscriptions")[0]));
    table.edit("subscriptions", |all| {
        for object in all.iter_mut().filter(|object| month.span().contains(&created(object))) {
            object["items"]["data"] = serde_json::json!([]);
        }
    });
    let listed = table.list("subscriptions");
    let is_of = |item: &serde_json::Value, object: &serde_json::Value| item["subscription"] == object["id"];
    table.edit("subscription_items", |all| {
        all.retain(|item| {
            !listed.iter().any(|object| is_of(item, object) && month.span().contains(&created(object)))
        });
    });
    let (objects, to) = (month.path("subscriptions"), month.path("subscription_items"));
    for is_there_before in [true, false] {
        let lake = TestLake::new();
        check_kind(&sync_by_month(&lake, &table, &names).await, None);
        assert!(lake.files().await.contains_key(&objects) && !lake.files().await.contains_key(&to));
        let (from, bytes) = files(&lake, "subscription_items").await.pop_first().unwrap();
        if is_there_before {
            put(&lake, &to, bytes).await;
            check_named(&lake, &table, &names, &[&to], &[&to, &from]).await;
            check_repaired(&lake, &table, &names, &[&to]).await;
            continue;
        }
        // Now the month is committed, and an older one after it.
        let lake = TestLake::new();
        let (store, place, objects) = (lake.store.clone(), Path::from(to.as_str()), objects.clone());
        let on_event = Arc::new(move |event: Event| {
            if matches!(event, Event::File { table, path, .. } if table == "subscriptions" && path != objects)
            {
                store.put(&place, bytes.clone().into()).now_or_never().unwrap().unwrap();
            }
        });
        let grains = [("subscriptions".to_owned(), Grain::Month)].into();
        let setup = Setup { grains, on_event, ..lake.setup() };
        let report = sync(&setup, lake.options_for(&names), table.clone()).await.unwrap();
        check_kind(&report, Some(Kind::Integrity));
        check_repaired(&lake, &table, &names, &[&to]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s7_a_file_of_another_table_is_named() {
    let table = Table::of(&account(47, 400));
    for (from, to, names) in [
        ("charges", "refunds", vec!["charges", "refunds"]),
        ("subscriptions", "subscription_items", vec!["subscriptions"]),
        ("subscription_items", "subscriptions", vec!["subscriptions"]),
    ] {
        let lake = TestLake::new();
        check_kind(&sync_by_month(&lake, &table, &names).await, None);
        let files = files(&lake, from).await;
        let there = lake.parquet(to).await.into_keys();
        let same_month = |to_path: String| {
            let partition = Partition::of_path(&to_path, to).unwrap();
            Some(partition.path(from)).filter(|path| files.contains_key(path)).map(|path| (path, to_path))
        };
        let (own, place) = there.filter_map(same_month).next().unwrap();
        put(&lake, &place, files[&own].clone()).await;
        check_named(&lake, &table, &names, &[&place], &[&place, &own]).await;
        check_repaired(&lake, &table, &names, &[&place]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s6_a_file_that_a_killed_run_has_left_in_its_place_is_taken() {
    let table = Table::of(&account(49, 400));
    let names = ["subscriptions"];
    let lake = TestLake::new();
    check_kind(&sync_by_month(&lake, &table, &names).await, None);
    let mut state = lake.state("subscription_items").await.unwrap();
    let (folder, file) = state.partitions.pop_first().unwrap();
    state.begun.insert(folder.clone());
    put(&lake, &state_path("subscription_items"), serde_json::to_vec(&state).unwrap().into()).await;
    // Nothing of it is listed.
    let window = Options { since: Some(table.now() - 40 * 86_400), ..lake.options_for(&names) };
    check_kind(&lake.sync_with(window, table.clone()).await.unwrap(), None);
    lake.check_intact().await;
    lake.check_table_equals(&table, "subscriptions").await;
    assert_eq!(lake.state("subscription_items").await.unwrap().partitions[&folder].rows, file.rows);
}

#[tokio::test(start_paused = true)]
async fn a_lake_that_was_moved_as_a_whole_is_the_same_lake() {
    let table = Table::of(&account(51, 250));
    let folder = tempfile::tempdir().unwrap();
    let lake = TestLake::new();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    let sync_in = async |at: &std::path::Path| {
        let at = Lake::open(at.to_str().unwrap(), &[]).unwrap();
        let setup = Setup { lake: Arc::new(at), ..lake.setup() };
        check_kind(&sync(&setup, lake.options(), table.clone()).await.unwrap(), None);
    };
    sync_in(&before).await;
    std::fs::rename(&before, &after).unwrap();
    // No file is what a state says, so each one has to say itself where it belongs.
    std::fs::remove_dir_all(after.join("_stripelake/state")).unwrap();
    sync_in(&after).await;
    let copied = TestLake::copied_from(&after).await;
    copied.check_intact().await;
    copied.check_equals(&table).await;
}

/// Makes the files of a lake, and what the states say of them, what they were when no file said its place.
async fn take_places_out(lake: &TestLake) {
    for resource in &lake.catalog.resources {
        let Some(mut state) = lake.state(&resource.name).await else { continue };
        for (path, bytes) in files(lake, &resource.name).await {
            let mut bytes = bytes.to_vec();
            let is_key = |window: &[u8]| window == PLACE.as_bytes();
            let at = bytes.windows(PLACE.len()).rposition(is_key).expect("the footer says the place");
            bytes[at..at + PLACE.len()].copy_from_slice(NO_PLACE.as_bytes());
            // Nor do they have a sum of their footers, or say so.
            while let Some(at) = bytes.windows(FOOTER.len()).position(|window| window == FOOTER.as_bytes()) {
                bytes[at..at + FOOTER.len()].fill(b' ');
            }
            let partition = Partition::of_path(&path, &resource.name).unwrap();
            let known = state.partitions.get_mut(&partition.to_string()).unwrap();
            known.crc32 = format!("{:08x}", crc32fast::hash(&bytes));
            known.etag = lake.store.put(&Path::from(path.as_str()), bytes.into()).await.unwrap().e_tag;
        }
        put(lake, &state_path(&resource.name), serde_json::to_vec(&state).unwrap().into()).await;
    }
}

async fn n_with_a_place(lake: &TestLake) -> usize {
    let files = lake.files().await.into_values();
    let says = |bytes: &Bytes| bytes.windows(PLACE.len()).any(|window| window == PLACE.as_bytes());
    files.filter(|(bytes, _)| says(bytes)).count()
}

#[tokio::test(start_paused = true)]
async fn a_lake_whose_files_do_not_say_their_places_is_read_as_ever() {
    let table = Table::of(&account(52, 250));
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    take_places_out(&lake).await;
    let report = lake.sync_completely(table.clone()).await;
    assert!(report.tables.iter().all(|table| table.files_written == 0));
    assert_eq!(n_with_a_place(&lake).await, 0);
    // Files that no state speaks of are made anew.
    for resource in &lake.catalog.resources {
        forget(&lake, &[&state_path(&resource.name)]).await;
    }
    lake.sync_completely(table.clone()).await;
    lake.check_equals(&table).await;
    assert!(n_with_a_place(&lake).await > 0);
}
