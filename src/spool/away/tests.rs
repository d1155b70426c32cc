//! Checks that rows which were let go come back as they went, once and in order.

use std::fs;

use arrow::array::{AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use proptest::prelude::*;

use super::*;
use crate::decode::rows::PARTITION_AT;
use crate::decode::schema::SYNCED_AT;
use crate::encode::Options;
use crate::encode::merge::Merge;
use crate::encode::merge::absent::Absent;
use crate::encode::merge::age::OldAge;
use crate::partition::{Grain, split};
use crate::spool::{Budget, Spool};

const DAY: i64 = 86_400;

/// Rows as a decoder makes them: id, created, observation, and a text to make them large.
fn decoded(rows: &[(i64, i64)], n_text: usize) -> RecordBatch {
    let time = |secs: Vec<i64>| {
        let micros = secs.into_iter().map(|secs| secs * 1_000_000);
        TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC")
    };
    let created = || rows.iter().map(|(created, _)| *created);
    let columns: [(&str, arrow::array::ArrayRef); 6] = [
        ("id", Arc::new(StringArray::from_iter_values(created().map(|created| format!("id{created}"))))),
        ("created", Arc::new(time(created().collect()))),
        ("text", Arc::new(StringArray::from_iter_values(created().map(|_| "x".repeat(n_text))))),
        ("nothing", Arc::new(StringArray::new_null(rows.len()))),
        (SYNCED_AT, Arc::new(time(rows.iter().map(|(_, observed)| *observed).collect()))),
        (PARTITION_AT, Arc::new(Int64Array::from_iter_values(created()))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Gives each batch to the spool, and to a file where `stands` says so.
fn pushed(
    batches: &[RecordBatch],
    stands: impl Fn(usize) -> bool,
    limit: usize,
) -> (Spool, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let columns: Vec<usize> = (0..batches[0].num_columns() - 1).collect();
    let schema = Arc::new(batches[0].schema().project(&columns).unwrap());
    let mut spool =
        Spool::new("table".to_owned(), schema, Budget::new(limit), folder.path().into(), Options::default());
    for (n, batch) in batches.iter().enumerate() {
        let copy = stands(n).then(FileCopy::default);
        if let Some(copy) = &copy {
            let path = folder.path().join(n.to_string());
            let columns = ipc::with_values(std::slice::from_ref(batch));
            let mut bytes = b"before".to_vec();
            let mut stream = ipc::begin(&mut bytes, batch.schema_ref(), &columns).unwrap();
            stream.write(&batch.project(&columns).unwrap()).unwrap();
            stream.finish().unwrap();
            let (n_bytes, crc32) = (bytes.len() as u64 - 6, crc32fast::hash(&bytes[6..]));
            bytes.extend(b"behind");
            fs::write(&path, bytes).unwrap();
            copy.stands_at(Stretch { file: Arc::new(move || File::open(&path)), at: 6, n_bytes, crc32 });
        }
        for (partition, rows) in split(batch, Grain::Day) {
            spool.push(partition, 0, rows, copy.clone()).unwrap();
        }
    }
    (spool, folder)
}

/// The rows of all partitions, as `(created, observed)`.
fn merged(spool: &mut Spool) -> Vec<(i64, i64)> {
    let mut rows = Vec::new();
    for partition in spool.partitions() {
        let gathered = spool.take(&partition).unwrap().remove(0);
        let merge =
            Merge::new(None, gathered.sources().unwrap(), Absent::default(), OldAge::at_least()).unwrap();
        for batch in merge.map(|picked| picked.unwrap().gathered().unwrap()) {
            let secs = |name: &str| -> Vec<i64> {
                let column = batch.column_by_name(name).unwrap();
                let micros = column.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
                micros.values().iter().map(|micros| micros / 1_000_000).collect()
            };
            assert_eq!(batch.column_by_name("nothing").unwrap().null_count(), batch.num_rows());
            rows.extend(secs("created").into_iter().zip(secs(SYNCED_AT)));
        }
    }
    rows
}

#[test]
fn rows_that_stand_in_files_are_let_go_and_not_written_again() {
    // Ten slices of half a day, newest first, as a sync reads them.
    let batches: Vec<RecordBatch> = (0..10)
        .rev()
        .map(|n| decoded(&(n * DAY / 2..n * DAY / 2 + 500).rev().map(|at| (at, 1)).collect::<Vec<_>>(), 1000))
        .collect();
    let (mut spool, folder) = pushed(&batches, |_| true, 2 << 20);
    let n_away: usize = spool.parts.values().map(|part| part.away.len()).sum();
    assert!(n_away >= 3, "{n_away}");
    assert!(spool.parts.values().all(|part| part.spilled.is_empty()));
    let expected: Vec<(i64, i64)> =
        (0..10).flat_map(|n| (n * DAY / 2..n * DAY / 2 + 500).map(|at| (at, 1))).collect();
    assert_eq!(merged(&mut spool), expected);
    drop(folder);
}

#[test]
fn a_quiet_partition_that_stands_in_files_is_waited_for() {
    // Half of one day, then another one; the other half of the first comes when the second is read.
    let pages = |day: i64| {
        (0..12).map(move |n| {
            let rows: Vec<(i64, i64)> = (n * 100..n * 100 + 100).map(|at| (day * DAY + at, 1)).collect();
            decoded(&rows, 1_000)
        })
    };
    for stand in [true, false] {
        let batches: Vec<RecordBatch> = pages(0).chain(pages(1)).collect();
        let (mut spool, _folder) = pushed(&batches, |_| stand, 2 << 20);
        let n_away: usize = spool.parts.values().map(|part| part.away.len()).sum();
        let n_sealed = spool.parts.values().filter(|part| part.sealed.is_some()).count();
        assert_eq!((n_away > 0, n_sealed > 0), (stand, !stand));
        assert_eq!(merged(&mut spool).len(), 2_400);
    }
}

#[test]
fn s7_a_file_that_has_gone_or_is_damaged_is_an_error() {
    for is_gone in [true, false] {
        let batches: Vec<RecordBatch> = (0..4)
            .map(|n| decoded(&(n * 500..n * 500 + 500).map(|at| (at, 1)).collect::<Vec<_>>(), 1000))
            .collect();
        let (mut spool, folder) = pushed(&batches, |_| true, 1 << 20);
        let path = folder.path().join("0");
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&path).unwrap();
        if !is_gone {
            fs::write(&path, bytes).unwrap();
        }
        let merged = spool.take(&Grain::Day.partition_of(0)).and_then(|gathered| {
            let merge = Merge::new(None, gathered[0].sources()?, Absent::default(), OldAge::at_least())?;
            merge.collect::<Result<Vec<_>>>()
        });
        assert_eq!(merged.unwrap_err().kind(), crate::error::Kind::Destination);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_comes_back_is_the_newest_of_each_id_wherever_it_stood(
        batches in proptest::collection::vec(
            (proptest::collection::vec((0i64..3 * DAY / 600, 1i64..9), 1..40), any::<bool>()), 1..30
        ),
        limit in 2usize..200,
        n_text in 0usize..3_000,
    ) {
        let stands: Vec<bool> = batches.iter().map(|(_, stands)| *stands).collect();
        let mut expected = std::collections::BTreeMap::new();
        let batches: Vec<RecordBatch> = batches.into_iter().map(|(rows, _)| {
            // Each id once in a batch, and seldom in one second with another.
            let rows: std::collections::BTreeMap<i64, i64> = rows.into_iter().map(|(at, o)| (at * 600, o)).collect();
            for (at, observed) in &rows {
                let newest = expected.entry(*at).or_insert(*observed);
                *newest = (*newest).max(*observed);
            }
            decoded(&rows.into_iter().rev().collect::<Vec<_>>(), n_text)
        }).collect();
        let (mut spool, _folder) = pushed(&batches, |n| stands[n], limit << 10);
        prop_assert_eq!(merged(&mut spool), expected.into_iter().collect::<Vec<_>>());
    }
}
