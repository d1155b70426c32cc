//! Turns files that a run has no rows for, and that are other than their states say, into errors or into what they are.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use stripelake::commit::state::state_path;
use stripelake::error::Kind;
use stripelake::partition::{Grain, Partition};
use stripelake::run::Setup;
use stripelake::run::event::Event;
use stripelake::run::report::Report;
use stripelake::run::sync::{Options, sync};

use crate::archives;
use crate::damage::{failure, put};
use crate::harness::{TestLake, account, check_kind};
use crate::table::{Table, created};

const NAMES: [&str; 2] = ["charges", "refunds"];

/// A run by months, of all or of the last weeks alone.
async fn run(lake: &TestLake, table: &Arc<Table>, is_whole: bool) -> Report {
    let setup = Setup { grains: [("charges".to_owned(), Grain::Month)].into(), ..lake.setup() };
    let since = (!is_whole).then(|| table.now() - 40 * 86_400);
    sync(&setup, Options { since, ..lake.options_for(&NAMES) }, table.clone()).await.unwrap()
}

/// The oldest files of charges, and the newest.
async fn paths(lake: &TestLake) -> [String; 3] {
    let mut paths = lake.parquet("charges").await.into_keys();
    let [oldest, second] = [paths.next(), paths.next()].map(Option::unwrap);
    [oldest, second, paths.next_back().unwrap()]
}

fn describe(table: &Table, text: &str) {
    table
        .edit("charges", |charges| charges.iter_mut().for_each(|charge| charge["description"] = text.into()));
}

#[tokio::test(start_paused = true)]
async fn s7_what_was_done_to_a_file_that_a_run_does_not_touch_is_named() {
    let table = Table::of(&account(61, 400));
    let lake = TestLake::new();
    check_kind(&run(&lake, &table, true).await, None);
    let [oldest, second, _] = paths(&lake).await;
    let files = lake.parquet("charges").await;
    let whole = files[&oldest].0.clone();
    let mut flipped = whole.to_vec();
    flipped[whole.len() / 2] ^= 1;
    for (n, other) in [whole.slice(..whole.len() / 2), Bytes::from(flipped), files[&second].0.clone()]
        .into_iter()
        .enumerate()
    {
        put(&lake, &oldest, other.clone()).await;
        let text = format!("changed {n}");
        describe(&table, &text);
        for _ in 0..2 {
            let report = run(&lake, &table, false).await;
            let (kind, said) = failure(&report).unwrap();
            assert!(kind == Kind::Integrity && said.contains(&oldest), "{n}: {said}");
            assert_eq!(report.complete, ["refunds"]);
            assert_eq!(lake.parquet("charges").await[&oldest].0, other);
        }
        put(&lake, &oldest, whole.clone()).await;
        check_kind(&run(&lake, &table, false).await, None);
        // What was listed had been committed all the same.
        let recent = table.list("charges").into_iter().filter(|c| created(c) > table.now() - 39 * 86_400);
        let rows = lake.rows("charges").await;
        recent.for_each(|charge| assert_eq!(rows[charge["id"].as_str().unwrap()]["description"], text));
    }
}

#[tokio::test(start_paused = true)]
async fn s7_an_older_version_of_a_file_that_a_run_does_not_touch_is_a_loss() {
    let table = Table::of(&account(62, 400));
    let lake = TestLake::new();
    let all = table.list("charges");
    let (_, some): (Vec<_>, Vec<_>) = all.iter().cloned().enumerate().partition(|(n, _)| n % 3 == 0);
    table.put("charges", some.into_iter().map(|(_, charge)| charge).collect());
    check_kind(&run(&lake, &table, true).await, None);
    let [oldest, ..] = paths(&lake).await;
    let before = lake.parquet("charges").await[&oldest].0.clone();
    table.put("charges", all);
    check_kind(&run(&lake, &table, true).await, None);
    put(&lake, &oldest, before).await;
    for n in 0..3 {
        let report = match n {
            // Of other rows.
            1 => import(&lake, &table.list("charges")[..1]).await,
            _ => run(&lake, &table, false).await,
        };
        let (kind, said) = failure(&report).unwrap();
        assert!(kind == Kind::Integrity && said.contains(&oldest), "{n}: {said}");
    }
    check_kind(&run(&lake, &table, true).await, None);
    lake.check_table_equals(&table, "charges").await;
    lake.check_intact().await;
}

#[tokio::test(start_paused = true)]
async fn a_lake_that_was_copied_is_looked_at_once() {
    let table = Table::of(&account(63, 400));
    let lake = TestLake::new();
    check_kind(&run(&lake, &table, true).await, None);
    for (path, (bytes, _)) in lake.parquet("charges").await {
        put(&lake, &path, bytes).await;
    }
    check_kind(&run(&lake, &table, false).await, None);
    // The state says what the files are called now.
    lake.check_intact().await;
    let files = lake.parquet("charges").await;
    for (folder, known) in lake.state("charges").await.unwrap().partitions {
        assert_eq!(known.etag, files[&Partition::parse(&folder).unwrap().path("charges")].1);
    }
}

#[tokio::test(start_paused = true)]
async fn s6_a_file_that_a_killed_run_has_written_is_taken_without_being_listed() {
    let table = Table::of(&account(64, 400));
    let lake = TestLake::new();
    check_kind(&run(&lake, &table, true).await, None);
    let before = lake.files().await[&state_path("charges")].0.clone();
    describe(&table, "changed");
    check_kind(&run(&lake, &table, true).await, None);
    put(&lake, &state_path("charges"), before).await;
    check_kind(&run(&lake, &table, false).await, None);
    lake.check_intact().await;
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn s7_an_older_version_of_a_file_is_a_loss_also_where_new_rows_come() {
    let table = Table::of(&account(65, 400));
    let lake = TestLake::new();
    let all = table.list("charges");
    let without =
        |n: usize| all.iter().enumerate().filter(|(at, _)| at % 10 != n).map(|(_, c)| c.clone()).collect();
    table.put("charges", without(0));
    check_kind(&run(&lake, &table, true).await, None);
    let files = lake.parquet("charges").await;
    let (path, (before, _)) = files.into_iter().max_by_key(|(_, (bytes, _))| bytes.len()).unwrap();
    table.put("charges", without(1));
    check_kind(&run(&lake, &table, true).await, None);
    put(&lake, &path, before).await;
    // As many new ones as were lost, and more.
    let partition = Partition::of_path(&path, "charges").unwrap();
    let there: Vec<Value> = all.iter().filter(|c| partition.span().contains(&created(c))).cloned().collect();
    let (_, new): (Vec<_>, Vec<_>) = there.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    let new: Vec<Value> = new.into_iter().map(|(n, charge)| renamed(charge, n)).collect();
    // They are not as many as the file had: an import of some rows does not end the matter.
    for _ in 0..2 {
        check_kind(&import(&lake, &new).await, Some(Kind::Integrity));
        let lost = lake.state("charges").await.unwrap().lost;
        assert!(lost.contains_key(&partition.to_string()), "{lost:?}");
    }
    check_kind(&import(&lake, &all[..1]).await, Some(Kind::Integrity));
    // Nor does one of more than were lost, of which nobody knows whether they are those.
    check_kind(&import(&lake, &all).await, Some(Kind::Integrity));
    check_kind(&run(&lake, &table, true).await, None);
    let lost = lake.state("charges").await.unwrap().lost;
    assert!(lost.is_empty(), "{lost:?}");
    let is_told = |event: &Event| matches!(event, Event::Warning { message } if message.starts_with("lost, and made anew"));
    assert!(lake.events.lock().unwrap().iter().any(is_told));
    check_kind(&import(&lake, &all[..1]).await, None);
}

fn renamed(mut charge: Value, n: usize) -> Value {
    charge["id"] = format!("ch_new{n}").into();
    charge
}

/// Imports objects as they are now.
async fn import(lake: &TestLake, objects: &[Value]) -> Report {
    archives::import(lake, objects, jiff::Timestamp::now().as_microsecond()).await
}
