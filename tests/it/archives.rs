//! Turns archives between listings, and objects that are written otherwise, into rows that never go back and never seem to change.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use stripelake::commit::lock;
use stripelake::error::Kind;
use stripelake::fetch::allowance::Budgets;
use stripelake::run::Setup;
use stripelake::run::import::{Content, Input};
use stripelake::run::report::Report;
use stripelake::run::sync::Options;

use crate::harness::{TestLake, check_kind};
use crate::table::{Table, created, text};

/// Imports charges as they were at a time, in microseconds.
pub async fn import(lake: &TestLake, objects: &[Value], observed_at: i64) -> Report {
    let lines: Vec<String> = objects.iter().map(Value::to_string).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    let input =
        Input { name: "charges".to_owned(), content: Content::File(file.path().to_owned()), observed_at };
    let resource = lake.catalog.resolve("charges").unwrap().clone();
    let (_sender, signal) = tokio::sync::watch::channel(None);
    stripelake::run::import::import(&lake.setup(), &resource, vec![input], signal).await.unwrap()
}

/// A microsecond between what was before and what comes.
fn now() -> i64 {
    let microsecond = || Timestamp::now().as_microsecond();
    let between = microsecond() + 1;
    while microsecond() <= between {}
    between
}

async fn sync_charges(lake: &TestLake, table: &std::sync::Arc<Table>) -> Report {
    let report = lake.sync_with(lake.options_for(&["charges"]), table.clone()).await.unwrap();
    check_kind(&report, None);
    report
}

#[tokio::test(start_paused = true)]
async fn i3_an_archive_takes_no_row_back_that_a_listing_has_seen_later() {
    // Also one that was created a little later than Stripe's clock says.
    for secs_ahead in [-500_000, -10, 30, 7_000] {
        let table = Table::charges(161, 30);
        table.edit("charges", |charges| {
            let second = charges.iter().map(created).max().unwrap();
            charges[0]["created"] = second.into();
        });
        let second = table.now() + secs_ahead;
        let describe = |text: &str| {
            table.edit("charges", |charges| {
                charges[0]["created"] = second.into();
                charges[0]["description"] = text.into();
                charges.sort_by_key(|charge| -created(charge));
            });
        };
        let odd = text(&table.list("charges")[0]["id"]).to_owned();
        table.edit("charges", |charges| {
            charges.retain(|charge| created(charge) < second || charge["id"] == odd.as_str())
        });
        let lake = TestLake::new();
        describe("A");
        let place = table.list("charges").iter().position(|charge| charge["id"] == odd.as_str()).unwrap();
        sync_charges(&lake, &table).await;
        let between = now();
        let mut then = table.list("charges")[place].clone();
        then["description"] = "B".into();
        sync_charges(&lake, &table).await;
        import(&lake, &[then], between).await;
        lake.check_table_equals(&table, "charges").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_ahead_once_keeps_no_archive_out() {
    let table = Table::charges(162, 60);
    let lake = TestLake::new();
    sync_charges(&lake, &table).await;
    let ahead = Timestamp::from_second(now() / 1_000_000 + 365 * 86_400).unwrap();
    let setup = Setup { started_at: ahead, ..lake.setup() };
    let report =
        stripelake::run::sync::sync(&setup, lake.options_for(&["charges"]), table.clone()).await.unwrap();
    check_kind(&report, None);
    table.edit("charges", |charges| charges[1]["description"] = "as of now".into());
    let report = import(&lake, &table.list("charges")[..2], now()).await;
    assert_eq!(report.tables[0].changed, 1);
    lake.check_table_equals(&table, "charges").await;
    // An honest listing puts the state right, too.
    sync_charges(&lake, &table).await;
    let mut older = table.list("charges")[1].clone();
    older["description"] = "long ago".into();
    let before = Timestamp::from_second(1_700_000_000).unwrap().as_microsecond();
    import(&lake, &[older], before).await;
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_only_written_otherwise_has_not_changed() {
    let table = Table::charges(163, 60);
    let write = |is_otherwise: bool| {
        table.edit("charges", |charges| {
            for charge in charges.iter_mut() {
                let (metadata, unknown) = match is_otherwise {
                    false => (
                        json!({"order": "7", "note": "caf\u{e9}"}),
                        json!({"b": {"x": 1, "y": [1, 2]}, "a": null}),
                    ),
                    true => (
                        json!({"note": "caf\u{e9}", "order": "7"}),
                        json!({"a": null, "b": {"y": [1, 2], "x": 1}}),
                    ),
                };
                charge["metadata"] = metadata;
                charge["~unknown"] = unknown;
            }
        });
    };
    write(false);
    let lake = TestLake::new();
    sync_charges(&lake, &table).await;
    write(true);
    let report = sync_charges(&lake, &table).await;
    assert_eq!((report.tables[0].changed, report.tables[0].files_written), (0, 0));
    write(false);
    // What is in another place of an array, or under another name, has.
    table.edit("charges", |charges| charges[0]["~unknown"]["b"]["y"] = json!([2, 1]));
    table.edit("charges", |charges| charges[1]["metadata"] = json!({"note": "7", "order": "caf\u{e9}"}));
    let report = sync_charges(&lake, &table).await;
    assert_eq!(report.tables[0].changed, 2);
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_has_waited_forgets_no_listing_of_the_one_before() {
    let table = Table::charges(164, 60);
    let lake = TestLake::new();
    let waited = Setup { started_at: Timestamp::now() - jiff::SignedDuration::from_mins(30), ..lake.setup() };
    sync_charges(&lake, &table).await;
    let listed = async || lake.state("charges").await.unwrap().listed.within(&(0..i64::MAX), i64::MAX);
    let before = listed().await;
    let newest = Options { since: Some(table.now() - 1_000), ..lake.options_for(&["charges"]) };
    let report = stripelake::run::sync::sync(&waited, newest, table.clone()).await.unwrap();
    check_kind(&report, None);
    assert_eq!(listed().await, before);
}

#[tokio::test(start_paused = true)]
async fn c1_who_has_no_time_left_waits_for_no_other_run() {
    let table = Table::charges(165, 60);
    let lake = TestLake::new();
    let held =
        lock::acquire(&lake.lake, "other", Duration::ZERO, drop, std::future::pending()).await.unwrap();
    let setup = Setup { wait_lock: Duration::from_secs(3_600), ..lake.setup() };
    let budgets = Budgets { duration: Some(Duration::from_secs(90)), ..Budgets::default() };
    let options = Options { budgets, ..lake.options_for(&["charges"]) };
    let began = tokio::time::Instant::now();
    let error = stripelake::run::sync::sync(&setup, options, table.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Locked);
    assert!(began.elapsed() < Duration::from_secs(100), "{:?}", began.elapsed());
    held.release().await;
}
