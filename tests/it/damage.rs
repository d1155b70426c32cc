//! Turns damaged, lost and foreign files of a lake into errors that name them, and never into rows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Rule, refusal};
use stripelake::fetch::allowance::Budgets;
use stripelake::partition::{Grain, Partition};
use stripelake::plan::coverage::Coverage;
use stripelake::run::Setup;
use stripelake::run::event::Event;
use stripelake::run::report::Report;
use stripelake::run::sql::VIEWS;
use stripelake::run::sync::{Options, sync};

use crate::harness::{TestLake, account, check_kind, scripted, scripted_table};
use crate::resume::{Slow, alone};
use crate::table::{Table, created};

#[tokio::test(start_paused = true)]
async fn a_damaged_file_is_named_and_no_row_is_made_of_it() {
    let mut n_found = 0;
    for n in 0..60 {
        let table = Table::of(&account(41, 60));
        let lake = TestLake::new();
        lake.sync_with(lake.options_for(&["customers"]), table.clone()).await.unwrap();
        let (path, (whole, _)) = lake.parquet("customers").await.pop_first().unwrap();
        // The first column is the id; what follows is spread over the file.
        let at = if n < 30 { 50 + n * 20 } else { (n - 29) * (whole.len() - 12) / 31 };
        let mut damaged = whole.to_vec();
        damaged[at] ^= 0x10;
        lake.store.put(&Path::from(path.as_str()), damaged.clone().into()).await.unwrap();
        let report = lake.sync_with(lake.options_for(&["customers"]), table.clone()).await.unwrap();
        let files = lake.parquet("customers").await;
        match report.kind() {
            Some(Kind::Integrity) => {
                let (_, error) = &report.failures[0];
                assert!(error.to_string().contains(&path), "{at}: {error}");
                assert_eq!(files[&path].0, damaged, "{at}: the file is as it was");
                n_found += 1;
            }
            kind => panic!("{at}: {kind:?} {:?}", report.failures),
        }
    }
    assert_eq!(n_found, 60);
}

pub async fn forget(lake: &TestLake, paths: &[&str]) {
    for path in paths {
        lake.store.delete(&Path::from(*path)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn files_whose_state_is_lost_keep_their_partitions() {
    let table = Table::charges(42, 400);
    for grain in [Grain::Day, Grain::Month] {
        let (lake, table) = (&TestLake::new(), &table);
        let sync_as = async |grain| {
            let report =
                sync(&by(lake, "charges", grain), lake.options_for(&["charges"]), table.clone()).await;
            check_kind(&report.unwrap(), None);
            lake.check_table_equals(table, "charges").await;
        };
        sync_as(grain).await;
        let files = lake.parquet("charges").await;
        forget(lake, &["_stripelake/state/charges.json"]).await;
        table.edit("charges", |charges| charges[7]["description"] = "changed".into());
        sync_as(Grain::Year).await;
        assert!(files.keys().eq(lake.parquet("charges").await.keys()));
        // Two kinds of partitions are nobody's.
        forget(lake, &["_stripelake/state/charges.json"]).await;
        let (path, (file, _)) = files.first_key_value().unwrap();
        let other = "charges/created_year=2001-01-01/charges.parquet";
        lake.store.put(&Path::from(other), file.clone().into()).await.unwrap();
        let failed = sync(&by(lake, "charges", grain), lake.options_for(&["charges"]), table.clone()).await;
        let (kind, text) = failure(&failed.unwrap()).expect("a failure");
        assert!(kind == Kind::Integrity && text.contains("several kinds"), "{path}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lake_of_which_nobody_knows_whose_it_is_is_left_alone() {
    let table = Table::of(&account(43, 60));
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    let about = lake.lake.read_bytes("_stripelake/lake.json").await.unwrap().unwrap().0;
    forget(&lake, &["_stripelake/lake.json"]).await;
    let before = lake.files().await;
    let error = lake.sync(table.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity);
    assert!(error.to_string().contains("lake.json"), "{error}");
    assert!(lake.files().await == before, "nothing was written");
    lake.store.put(&Path::from("_stripelake/lake.json"), about.into()).await.unwrap();
    lake.sync_completely(table).await;
}

#[tokio::test(start_paused = true)]
async fn s7_a_changed_account_in_the_lakes_own_file_is_damage_and_no_other_account() {
    let table = Table::of(&account(43, 60));
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    let mut about = lake.lake.read_bytes("_stripelake/lake.json").await.unwrap().unwrap().0;
    let at = about.windows(5).position(|bytes| bytes == b"acct_").unwrap() + 7;
    about[at] ^= 1;
    lake.store.put(&Path::from("_stripelake/lake.json"), about.into()).await.unwrap();
    let error = lake.sync(table).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity, "{error}");
    assert!(error.to_string().contains("lake.json"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn files_of_others_in_a_tables_folder_are_named() {
    let table = Table::of(&account(44, 60));
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    let (path, (file, _)) = lake.parquet("refunds").await.pop_first().unwrap();
    let copy = path.replace("refunds.parquet", "copy.parquet");
    // As other programs write what has no date.
    let undated = "refunds/created_day=9999-12-31/refunds.parquet".to_owned();
    for stranger in [&copy, &undated] {
        lake.store.put(&Path::from(stranger.as_str()), file.clone().into()).await.unwrap();
    }
    lake.store.put(&Path::from("refunds/notes.txt"), "notes".into()).await.unwrap();
    let report = lake.sync(table.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Integrity));
    let [(name, error)] = report.failures.as_slice() else { panic!("{:?}", report.failures) };
    let text = error.to_string();
    assert!(name == "refunds" && text.contains(&copy) && text.contains(&undated), "{text}");
    assert!(!text.contains("notes"), "{text}");
    forget(&lake, &[&copy, &undated]).await;
    lake.sync_completely(table).await;
}

pub async fn put(lake: &TestLake, path: &str, bytes: Bytes) {
    lake.store.put(&Path::from(path), bytes.into()).await.unwrap();
}

/// Kind and text of the first failure.
pub fn failure(report: &Report) -> Option<(Kind, String)> {
    report.failures.first().map(|(_, error)| (error.kind(), error.to_string()))
}

#[tokio::test(start_paused = true)]
async fn s7_damage_decides_also_where_a_budget_ends_the_run() {
    let table = Table::charges(49, 3_000);
    let lake = TestLake::new();
    let budgets = Budgets { requests: Some(5), ..Budgets::default() };
    let sync = |budgets| {
        let options = Options { budgets, ..lake.options_for(&["charges"]) };
        lake.sync_with(options, table.clone())
    };
    check_kind(&sync(Budgets::default()).await.unwrap(), None);
    check_kind(&sync(budgets).await.unwrap(), Some(Kind::Budget));
    let (path, (whole, _)) = lake.parquet("charges").await.pop_last().unwrap();
    put(&lake, &path, whole.slice(..whole.len() / 2)).await;
    for _ in 0..2 {
        let report = sync(budgets).await.unwrap();
        check_kind(&report, Some(Kind::Integrity));
        assert!(report.failures.iter().any(|(_, error)| error.to_string().contains(&path)));
        assert!(report.failures.iter().any(|(_, error)| error.kind() == Kind::Budget));
    }
}

#[tokio::test(start_paused = true)]
async fn s7_a_file_that_has_gone_is_made_anew_or_named() {
    let table = Table::charges(49, 400);
    let lake = TestLake::new();
    let setup = || by(&lake, "charges", Grain::Month);
    let options = || lake.options_for(&["charges"]);
    check_kind(&sync(&setup(), options(), table.clone()).await.unwrap(), None);
    let path = lake.parquet("charges").await.pop_first().unwrap().0;
    forget(&lake, &[&path]).await;
    // A window that does not reach it, and one that ends in it.
    let within = created(table.list("charges").last().unwrap()) + 86_400;
    for since in [table.now() - 40 * 86_400, within] {
        let report =
            sync(&setup(), Options { since: Some(since), ..options() }, table.clone()).await.unwrap();
        let (kind, text) = failure(&report).unwrap_or_else(|| panic!("{:?}", report.tables));
        assert!(kind == Kind::Integrity && text.contains(&path), "{text}");
    }
    forget(&lake, &[&path]).await;
    lake.events.lock().unwrap().clear();
    check_kind(&sync(&setup(), options(), table.clone()).await.unwrap(), None);
    lake.check_table_equals(&table, "charges").await;
    let is_told = |event: &Event| matches!(event, Event::Warning { message } if message.contains(&path));
    assert!(lake.events.lock().unwrap().iter().any(is_told));
}

#[tokio::test(start_paused = true)]
async fn the_empty_file_of_a_table_without_rows_is_made_again() {
    let table = Table::some_of(&account(50, 60), |name| name != "refunds");
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    let path = lake.parquet("refunds").await.pop_first().unwrap().0;
    forget(&lake, &[&path]).await;
    lake.sync_completely(table.clone()).await;
    assert!(lake.parquet("refunds").await.contains_key(&path));
}

#[tokio::test(start_paused = true)]
async fn s7_a_file_that_changed_between_two_parts_of_a_listing_is_read_again() {
    let table = Table::charges(51, 2_000);
    for is_whole in [true, false] {
        let lake = TestLake::new();
        let month = || by(&lake, "charges", Grain::Month);
        let options = || lake.options_for(&["charges"]);
        check_kind(&sync(&month(), options(), table.clone()).await.unwrap(), None);
        let before = lake.parquet("charges").await;
        table.edit("charges", |charges| {
            charges.iter_mut().for_each(|charge| charge["description"] = format!("changed {is_whole}").into())
        });
        let budgets = Budgets { requests: Some(14), ..Budgets::default() };
        let part = Options { budgets, concurrency: 1, ..options() };
        check_kind(&sync(&month(), part, table.clone()).await.unwrap(), Some(Kind::Budget));
        let after = lake.parquet("charges").await;
        let (path, (bytes, _)) = after.iter().find(|(path, file)| file.0 != before[*path].0).unwrap();
        // As it was before the listing, from a copy; or damaged.
        let other = if is_whole { before[path].0.clone() } else { bytes.slice(..bytes.len() / 2) };
        put(&lake, path, other).await;
        let report = sync(&month(), options(), table.clone()).await.unwrap();
        match is_whole {
            true => {
                check_kind(&report, None);
                lake.check_table_equals(&table, "charges").await;
            }
            false => assert!(
                failure(&report).is_some_and(|(kind, text)| kind == Kind::Integrity && text.contains(path))
            ),
        }
    }
}

/// A listing of 2,000 charges in months that was ended after some, and one of the files that it has made or found the same.
async fn unfinished(table: &Arc<Table>, lake: &TestLake) -> (String, Partition) {
    let month = || by(lake, "charges", Grain::Month);
    let options = || lake.options_for(&["charges"]);
    check_kind(&sync(&month(), options(), table.clone()).await.unwrap(), None);
    let budgets = Budgets { requests: Some(14), ..Budgets::default() };
    let part = Options { budgets, concurrency: 1, ..options() };
    check_kind(&sync(&month(), part, table.clone()).await.unwrap(), Some(Kind::Budget));
    let read = Coverage::from_pairs(&lake.state("charges").await.unwrap().progress.unwrap().read);
    let paths = lake.parquet("charges").await.into_keys();
    let partitions = paths.map(|path| (Partition::of_path(&path, "charges").unwrap(), path));
    let (partition, path) = partitions.rev().find(|(p, _)| read.contains(&p.span())).unwrap();
    (path, partition)
}

#[tokio::test(start_paused = true)]
async fn s7_a_file_that_has_gone_under_a_listing_that_waits_is_read_again_whoever_sees_it_first() {
    let table = Table::charges(52, 2_000);
    for is_older in [false, true] {
        let lake = TestLake::new();
        let month = || by(&lake, "charges", Grain::Month);
        let (path, partition) = unfinished(&table, &lake).await;
        table.edit("charges", |charges| {
            let is_there = |charge: &Value| partition.span().contains(&created(charge));
            let there = charges.iter_mut().filter(|charge| is_there(charge));
            there.for_each(|charge| charge["description"] = format!("changed {is_older}").into());
        });
        let middle = partition.span().start + 10 * 86_400;
        let within = || Options { since: Some(middle), ..lake.options_for(&["charges"]) };
        match is_older {
            false => forget(&lake, &[&path]).await,
            true => {
                let old = lake.parquet("charges").await[&path].0.clone();
                let since = Options { since: Some(partition.span().start), ..lake.options_for(&["charges"]) };
                check_kind(&sync(&month(), since, table.clone()).await.unwrap(), None);
                put(&lake, &path, old).await;
            }
        }
        // An older copy has the same objects, as they were.
        check_kind(&sync(&month(), within(), table.clone()).await.unwrap(), Some(Kind::Integrity));
        check_kind(&sync(&month(), lake.options_for(&["charges"]), table.clone()).await.unwrap(), None);
        lake.check_table_equals(&table, "charges").await;
    }
}

#[tokio::test(start_paused = true)]
async fn s7_a_loss_is_said_until_it_is_mended_even_by_a_run_that_ends_early() {
    let table = Table::charges(53, 1_000);
    let lake = TestLake::new();
    let run =
        async |options| sync(&by(&lake, "charges", Grain::Month), options, table.clone()).await.unwrap();
    let options = || lake.options_for(&["charges"]);
    check_kind(&run(options()).await, None);
    let path = lake.parquet("charges").await.into_keys().next_back().unwrap();
    let partition = Partition::of_path(&path, "charges").unwrap();
    let newest = table.list("charges").iter().map(created).max().unwrap();
    forget(&lake, &[&path]).await;
    let within = || Options { since: Some((partition.span().start + newest) / 2), ..options() };
    // The first page makes the file anew, and the second is not asked for.
    table.edit("charges", |charges| {
        let there = charges.iter_mut().filter(|charge| partition.span().contains(&created(charge)));
        there.for_each(|charge| charge["description"] = "changed".into());
    });
    let budgets = Budgets { requests: Some(2), ..Budgets::default() };
    let early =
        run(Options { budgets, since: Some(partition.span().start - 40 * 86_400), ..options() }).await;
    check_kind(&early, Some(Kind::Budget));
    assert!(lake.parquet("charges").await.contains_key(&path));
    assert_eq!(early.tables[0].lost, [path.as_str()]);
    for _ in 0..2 {
        let report = run(within()).await;
        let (kind, text) = failure(&report).unwrap_or_else(|| panic!("{:?}", report.tables));
        assert!(kind == Kind::Integrity && text.contains(&path), "{text}");
        assert!(report.complete.is_empty(), "{:?}", report.complete);
    }
    check_kind(&run(options()).await, None);
    lake.check_table_equals(&table, "charges").await;
    check_kind(&run(within()).await, None);
}

#[tokio::test(start_paused = true)]
async fn s7_a_lost_file_that_is_restored_from_a_copy_is_lost_no_longer() {
    let table = Table::charges(59, 1_000);
    let lake = TestLake::new();
    let run =
        async |options| sync(&by(&lake, "charges", Grain::Month), options, table.clone()).await.unwrap();
    check_kind(&run(lake.options_for(&["charges"])).await, None);
    let newest = table.list("charges").iter().map(created).max().unwrap();
    let files = lake.parquet("charges").await;
    let (path, (bytes, _)) = files.first_key_value().unwrap();
    forget(&lake, &[path]).await;
    // Without a look at its time.
    let within = || Options { since: Some(newest - 86_400), ..lake.options_for(&["charges"]) };
    for _ in 0..2 {
        check_kind(&run(within()).await, Some(Kind::Integrity));
    }
    let other = files.values().next_back().unwrap().0.clone();
    put(&lake, path, other).await;
    check_kind(&run(within()).await, Some(Kind::Integrity));
    put(&lake, path, bytes.clone()).await;
    check_kind(&run(within()).await, None);
    let is_told = |event: &Event| matches!(event, Event::Warning { message } if message == &format!("lost, and there again: {path}"));
    assert!(lake.events.lock().unwrap().iter().any(is_told));
    lake.check_table_equals(&table, "charges").await;
    check_kind(&run(within()).await, None);
}

#[test]
fn s7_a_damaged_file_that_is_moved_away_is_made_anew_by_one_run() {
    let table = Table::charges(58, 3_000);
    let lake = TestLake::new();
    // Slow enough for progress to be written on the way.
    let run = || {
        let options = Options { concurrency: 1, ..lake.options_for(&["charges"]) };
        alone(async { lake.sync_with(options, Slow::new(&table, 300)).await.unwrap() })
    };
    check_kind(&run(), None);
    for path in alone(lake.parquet("charges")).into_keys() {
        let mut bytes = alone(lake.parquet("charges"))[&path].0.to_vec();
        bytes[2_000] ^= 0x10;
        alone(put(&lake, &path, bytes.into()));
        check_kind(&run(), Some(Kind::Integrity));
        alone(forget(&lake, &[&path]));
        check_kind(&run(), None);
        alone(lake.check_table_equals(&table, "charges"));
    }
}

#[tokio::test(start_paused = true)]
async fn s7_a_lost_file_of_what_stripe_lists_no_longer_is_forgotten() {
    let table = Table::charges(54, 400);
    let lake = TestLake::new();
    let run = async || {
        let setup = by(&lake, "charges", Grain::Month);
        sync(&setup, lake.options_for(&["charges"]), table.clone()).await.unwrap()
    };
    check_kind(&run().await, None);
    let path = lake.parquet("charges").await.pop_first().unwrap().0;
    let partition = Partition::of_path(&path, "charges").unwrap();
    forget(&lake, &[&path]).await;
    table.edit("charges", |charges| charges.retain(|charge| !partition.span().contains(&created(charge))));
    for n_told in [1, 0] {
        lake.events.lock().unwrap().clear();
        check_kind(&run().await, None);
        lake.check_table_equals(&table, "charges").await;
        let is_told = |event: &&Event| matches!(event, Event::Warning { message } if message.contains(&path));
        assert_eq!(lake.events.lock().unwrap().iter().filter(is_told).count(), n_told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_a_newer_program_wrote_is_left_alone() {
    let table = Table::of(&account(45, 60));
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    let mut state = lake.state("charges").await.unwrap();
    state.format += 1;
    let path = Path::from("_stripelake/state/charges.json");
    lake.store.put(&path, serde_json::to_vec(&state).unwrap().into()).await.unwrap();
    let error = lake.sync(table).await.unwrap_err();
    assert!(error.to_string().contains("state/charges.json has format 2"), "{error}");
}

fn by(lake: &TestLake, name: &str, grain: Grain) -> Setup {
    Setup { grains: [(name.to_owned(), grain)].into(), ..lake.setup() }
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_a_resource_says_its_partitions_too() {
    let table = Table::of(&account(46, 400));
    let lake = TestLake::new();
    let names = ["subscriptions"];
    let month = by(&lake, "subscriptions", Grain::Month);
    check_kind(&sync(&month, lake.options_for(&names), table.clone()).await.unwrap(), None);
    let gone: Vec<String> = lake.parquet("subscriptions").await.into_keys().collect();
    let gone: Vec<&str> =
        gone.iter().map(String::as_str).chain(["_stripelake/state/subscriptions.json"]).collect();
    forget(&lake, &gone).await;
    let year = by(&lake, "subscriptions", Grain::Year);
    check_kind(&sync(&year, lake.options_for(&names), table.clone()).await.unwrap(), None);
    lake.check_table_equals(&table, "subscriptions").await;
    lake.check_table_equals(&table, "subscription_items").await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_an_older_state_does_not_name_is_no_strangers() {
    let table = Table::charges(47, 400);
    let lake = TestLake::new();
    let setup = || by(&lake, "charges", Grain::Month);
    let options = || lake.options_for(&["charges"]);
    check_kind(&sync(&setup(), options(), table.clone()).await.unwrap(), None);
    let mut state = lake.state("charges").await.unwrap();
    let (folder, _) = state.partitions.pop_first().unwrap();
    let path = Path::from("_stripelake/state/charges.json");
    lake.store.put(&path, serde_json::to_vec(&state).unwrap().into()).await.unwrap();
    // Nothing of it is listed.
    let window = Options { since: Some(table.now() - 40 * 86_400), ..options() };
    check_kind(&sync(&setup(), window, table.clone()).await.unwrap(), None);
    assert!(lake.state("charges").await.unwrap().partitions.contains_key(&folder));
    check_kind(&sync(&setup(), options(), table.clone()).await.unwrap(), None);
    lake.check_table_equals(&table, "charges").await;
    assert!(lake.state("charges").await.unwrap().partitions.contains_key(&folder));
}

#[tokio::test(start_paused = true)]
async fn s7_damage_fails_its_own_resource_and_no_other() {
    let table = Table::of(&account(55, 400));
    // The others have just begun when the damage is found.
    let script = scripted_table(&table);
    for list in ["charges", "refunds", "balance_transactions"] {
        script.rules.add(Rule::new(&format!("/v1/{list}"), Action::Delay(Duration::from_secs(20))));
    }
    for is_state in [false, true] {
        let lake = TestLake::new();
        lake.sync_completely(table.clone()).await;
        let path = match is_state {
            true => "_stripelake/state/customers.json".to_owned(),
            false => lake.parquet("customers").await.pop_first().unwrap().0,
        };
        let files = lake.files().await;
        let (whole, views) = (files[&path].0.clone(), &files[VIEWS].0);
        put(&lake, &path, whole.slice(..whole.len() / 2)).await;
        forget(&lake, &[VIEWS]).await;
        table.edit("charges", |charges| {
            charges.iter_mut().for_each(|charge| charge["description"] = format!("changed {is_state}").into())
        });
        let others = lake.catalog.listed().filter(|resource| resource.name != "customers");
        let others: Vec<String> = others.map(|resource| resource.name.clone()).collect();
        for _ in 0..2 {
            let report = lake.sync(script.clone()).await.unwrap();
            check_kind(&report, Some(Kind::Integrity));
            let [(name, error)] = report.failures.as_slice() else { panic!("{:?}", report.failures) };
            assert!(name == "customers" && error.to_string().contains(&path), "{name}: {error}");
            assert_eq!(report.complete, others);
            for name in &others {
                lake.check_table_equals(&table, name).await;
            }
            assert_eq!(lake.files().await[VIEWS].0, *views);
        }
        put(&lake, &path, whole).await;
        check_kind(&lake.sync(table.clone()).await.unwrap(), None);
        lake.check_equals(&table).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s7_damage_is_told_also_where_its_resource_could_not_be_read() {
    let script = scripted(account(57, 400));
    let lake = TestLake::new();
    let setup = || by(&lake, "charges", Grain::Month);
    let options = || lake.options_for(&["charges", "refunds"]);
    check_kind(&sync(&setup(), options(), script.clone()).await.unwrap(), None);
    for (path, (whole, _)) in lake.parquet("charges").await {
        put(&lake, &path, whole.slice(..whole.len() / 2)).await;
    }
    let denied = Action::Answer(refusal(403, "permission_error", None, "no"));
    script.rules.add(Rule::new("/v1/charges", denied).from_nth(2));
    let report = sync(&setup(), options(), script).await.unwrap();
    check_kind(&report, Some(Kind::Integrity));
    assert_eq!(report.complete, ["refunds"]);
}
