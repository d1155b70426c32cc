//! Checks that rows come out of the spool as they went in, and that memory is bounded.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;

use super::*;
use crate::decode::schema::SYNCED_AT;
use crate::encode::gather::gather;
use crate::encode::merge::Merge;
use crate::encode::merge::absent::Absent;
use crate::encode::merge::age::OldAge;
use crate::encode::old;
use crate::error::Kind;
use crate::partition::Grain;

const DAY: i64 = 86_400;
const FIRST_DAY: &str = "table/created_day=1970-01-01/table.parquet";
const SECOND_DAY: &str = "table/created_day=1970-01-02/table.parquet";

/// A row of about a kilobyte.
fn row(id: &str, created: i64) -> RecordBatch {
    let time = |secs: i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![secs * 1_000_000]).with_timezone("UTC"))
    };
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let columns =
        [("id", text(id)), ("created", time(created)), ("note", text(&id.repeat(100))), (SYNCED_AT, time(0))];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn many_small_partitions_stay_within_the_budget_and_lose_nothing() {
    const LIMIT: usize = 256 << 10;
    let budget = Budget::new(LIMIT);
    let mut spool = Spool::new(
        "table".to_owned(),
        row("a", 0).schema(),
        budget.clone(),
        std::env::temp_dir(),
        Options::default(),
    );
    // Each day gets a row in turn, twenty times over, so that no partition ever holds much.
    for n in 0..20 {
        for day in 0..200 {
            let partition = Grain::Day.partition_of(day * DAY);
            spool.push(partition, 0, row(&format!("{n:04}_{day:04}"), day * DAY + n), None).unwrap();
            assert!(budget.used.load(Ordering::Relaxed) <= LIMIT, "{n} {day}");
        }
    }
    for partition in spool.partitions() {
        let gathered = spool.take(&partition).unwrap().remove(0);
        let rows = |source| match source {
            Source::Run(run) => run.map(|batch| batch.unwrap().num_rows()).sum::<usize>(),
            Source::Sorted((_, order)) => order.len(),
            Source::Steps(_) => unreachable!("nothing stands in a file"),
        };
        assert_eq!(gathered.sources().unwrap().into_iter().map(rows).sum::<usize>(), 20);
    }
    assert_eq!(budget.used.load(Ordering::Relaxed), 0);
}

fn rows(n: std::ops::Range<i64>, observed_at: i64) -> RecordBatch {
    let rows: Vec<RecordBatch> = n.rev().map(|n| row(&format!("{n:06}"), n)).collect();
    let batch = arrow::compute::concat_batches(&rows[0].schema(), &rows).unwrap();
    let mut columns = batch.columns().to_vec();
    let times = vec![observed_at; batch.num_rows()];
    columns[3] = Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"));
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

/// A spool in which the first day is quiet while the second one gets rows.
fn with_a_quiet_day(has_file: bool) -> (Spool, Budget) {
    let budget = Budget::new(2 << 20);
    let (schema, dir) = (row("a", 0).schema(), std::env::temp_dir());
    let mut spool = Spool::new("table".to_owned(), schema, budget.clone(), dir, Options::default());
    spool.with_files.extend(has_file.then(|| Grain::Day.partition_of(0)));
    for n in (0..12).rev().map(|n| n * 100) {
        spool.push(Grain::Day.partition_of(0), 0, rows(n..n + 100, 1), None).unwrap();
    }
    for n in 0..12 {
        spool
            .push(Grain::Day.partition_of(DAY), 0, rows(DAY + n * 100..DAY + n * 100 + 100, 1), None)
            .unwrap();
    }
    assert_eq!(spool.parts[&(Grain::Day.partition_of(0), 0)].sealed.is_some(), !has_file);
    (spool, budget)
}

fn home(place: &str) -> Home {
    Home { place: place.to_owned(), owner: None }
}

fn merged(gathered: &Gathered) -> RecordBatch {
    let sources = gathered.sources().unwrap();
    let merge = Merge::new(None, sources, Absent::default(), OldAge::at_least()).unwrap();
    let batches: Vec<RecordBatch> = merge.map(|rows| rows.unwrap().gathered().unwrap()).collect();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[test]
fn a_quiet_partition_becomes_a_file_that_needs_no_merge() {
    let (mut spool, budget) = with_a_quiet_day(false);
    let before = budget.used.load(Ordering::Relaxed);
    let quiet = spool.take(&Grain::Day.partition_of(0)).unwrap().remove(0);
    let sealed = quiet.finished(&home(FIRST_DAY)).expect("it is sealed");
    assert_eq!((sealed.written.n_rows, sealed.written.created), (1_200, Some((0, 1_199_000_000))));
    assert_eq!(std::io::copy(&mut sealed.reader(), &mut std::io::sink()).unwrap(), sealed.written.n_bytes);
    assert_eq!(merged(&quiet), rows_in_order(1_200));
    drop(quiet);
    assert_eq!(budget.used.load(Ordering::Relaxed), before, "a sealed partition takes no memory");
    let busy = spool.take(&Grain::Day.partition_of(DAY)).unwrap().remove(0);
    assert!(busy.finished(&home(SECOND_DAY)).is_none());
    assert_eq!(merged(&busy).num_rows(), 1_200);
}

#[test]
fn a_sealed_file_says_where_in_the_lake_it_belongs() {
    let (mut spool, _) = with_a_quiet_day(false);
    let gathered = spool.take(&Grain::Day.partition_of(0)).unwrap().remove(0);
    let open = |place: &str| {
        let mut file = tempfile::tempfile().unwrap();
        std::io::copy(&mut gathered.finished(&home(FIRST_DAY)).unwrap().reader(), &mut file).unwrap();
        old::open(file, false, &home(place)).map(|old| old.n_rows)
    };
    assert_eq!(open(FIRST_DAY).unwrap(), 1_200);
    for other in [SECOND_DAY, "other/created_day=1970-01-01/other.parquet"] {
        assert_eq!(open(other).unwrap_err().kind(), Kind::Integrity);
    }
}

#[test]
fn a_file_that_was_sealed_before_its_owner_was_known_is_written_anew() {
    let (mut spool, _) = with_a_quiet_day(false);
    let gathered = spool.take(&Grain::Day.partition_of(0)).unwrap().remove(0);
    let owned = Home { owner: Some("acct_1 test".into()), ..home(FIRST_DAY) };
    assert!(gathered.finished(&owned).is_none() && gathered.finished(&home(FIRST_DAY)).is_some());
    assert_eq!(merged(&gathered), rows_in_order(1_200));
}

#[test]
fn rows_that_come_after_the_sealing_are_merged_and_the_newest_observation_wins() {
    let (mut spool, _) = with_a_quiet_day(false);
    spool.push(Grain::Day.partition_of(0), 0, rows(1_100..1_300, 2), None).unwrap();
    let gathered = spool.take(&Grain::Day.partition_of(0)).unwrap().remove(0);
    assert!(gathered.finished(&home(FIRST_DAY)).is_none());
    let merged = merged(&gathered);
    assert_eq!(merged.num_rows(), 1_300);
    let observed = merged.column(3).as_primitive::<TimestampMicrosecondType>();
    assert!((0..1_300).all(|n| observed.value(n) == if n < 1_100 { 1 } else { 2 }));
}

fn rows_in_order(n: i64) -> RecordBatch {
    let descending = rows(0..n, 1);
    let order: Vec<(usize, usize)> = (0..n as usize).rev().map(|row| (0, row)).collect();
    gather(&[&descending], &order).unwrap()
}

#[test]
fn a_partition_whose_file_has_to_be_merged_is_not_sealed() {
    let (mut spool, _) = with_a_quiet_day(true);
    let gathered = spool.take(&Grain::Day.partition_of(0)).unwrap().remove(0);
    assert!(gathered.finished(&home(FIRST_DAY)).is_none());
    assert_eq!(merged(&gathered), rows_in_order(1_200));
}
