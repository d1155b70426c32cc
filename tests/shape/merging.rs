//! Turns observations in any order and any portions into files, and expects what a map by id would hold.

use std::collections::HashMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;
use stripelake::catalog::Resource;
use stripelake::decode::{Decoder, Options};
use stripelake::encode::merge::absent::Absent;
use stripelake::encode::merge::age::OldAge;
use stripelake::encode::merge::{Changes, Merge, Run};
use stripelake::partition::{Grain, partition_at, split};

use crate::lake::{self, Files};
use crate::objects::{cases, catalog};

/// One object seen at one time. Its form follows from the time, and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Observation {
    id: u8,
    at: i64,
}

impl Observation {
    /// The amount changes every fourth microsecond; in between, an observation brings nothing new. After twelve it
    /// is what it was.
    fn amount(self) -> i64 {
        self.at / 4 % 3
    }

    /// Several objects share a second, and some lie in other years.
    fn created(self) -> i64 {
        1_577_836_800 + i64::from(self.id / 3) * 9_000_000
    }
}

fn observations(at_most: usize) -> impl Strategy<Value = Vec<Observation>> {
    let observation = (0u8..24, 0i64..40).prop_map(|(id, at)| Observation { id, at });
    prop::collection::vec(observation, 1..at_most)
}

fn refunds() -> std::sync::Arc<Resource> {
    catalog().get("refunds").unwrap().clone()
}

/// Decodes each observation, as a page of its own kind, into a batch of `n` rows at most.
fn batches(observations: &[Observation], n: usize) -> Vec<RecordBatch> {
    let mut decoder = Decoder::new(&refunds(), &[], Options::default());
    let mut batches = Vec::new();
    for chunk in observations.chunks(n) {
        for o in chunk {
            let (id, created, amount) = (o.id, o.created(), o.amount());
            let metadata = format!("{{\"amount\":\"{amount}\"}}");
            let body = format!(
                r#"{{"id":"re_{id}","object":"refund","created":{created},"amount":{amount},"metadata":{metadata},"~new":{amount}}}"#
            );
            assert_eq!(decoder.push_objects(body.as_bytes(), o.at).unwrap().n_rows, 1);
        }
        batches.extend(decoder.flush().parent);
    }
    batches
}

/// What the files hold: the amount and the time of observation by id.
fn held(files: &Files) -> HashMap<String, (i64, i64)> {
    let rows = lake::rows(files).into_iter();
    let held = rows.map(|(id, (batch, row))| {
        let amount = batch.column_by_name("amount").unwrap().as_primitive::<Int64Type>().value(row);
        let extra = batch.column_by_name("_extra").unwrap().as_string::<i32>().value(row).to_owned();
        assert_eq!(extra, format!("{{\"~new\":{amount}}}"), "a row is of one observation");
        let synced_at = batch.column_by_name("_synced_at").unwrap();
        (id, (amount, synced_at.as_primitive::<TimestampMicrosecondType>().value(row)))
    });
    held.collect()
}

/// The newest observation of each id, the obvious way.
fn newest(observations: &[Observation]) -> HashMap<String, Observation> {
    let mut newest: HashMap<String, Observation> = HashMap::new();
    for o in observations {
        let entry = newest.entry(format!("re_{}", o.id)).or_insert(*o);
        *entry = (*entry).max(*o);
    }
    newest
}

/// Expects each id as it was observed last, and that time.
fn check_newest(files: &Files, observations: &[Observation]) {
    let newest = newest(observations).into_iter();
    let expected: HashMap<_, _> = newest.map(|(id, o)| (id, (o.amount(), o.at))).collect();
    assert_eq!(held(files), expected);
}

/// Memory that forces most batches to disk, some, or none.
fn budgets() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1usize, 60_000, usize::MAX >> 1])
}

fn merged(observations: &[Observation], rows_per_batch: usize, budget: usize) -> Files {
    let mut files = Files::new();
    lake::add(&mut files, &refunds(), &batches(observations, rows_per_batch), budget);
    files
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn the_newest_observation_of_each_id_wins(
        observations in observations(60),
        rows_per_batch in 1usize..20,
        budget in budgets(),
    ) {
        check_newest(&merged(&observations, rows_per_batch, budget), &observations);
    }

    #[test]
    fn the_order_and_the_split_of_pages_do_not_matter(
        (observations, shuffled) in observations(60).prop_flat_map(|o| (Just(o.clone()), Just(o).prop_shuffle())),
        split in (1usize..20, 1usize..20),
        budget in (budgets(), budgets()),
    ) {
        prop_assert_eq!(
            merged(&observations, split.0, budget.0),
            merged(&shuffled, split.1, budget.1)
        );
    }

    #[test]
    fn merging_in_portions_is_merging_at_once(
        observations in observations(60),
        cut in 0usize..60,
        budget in budgets(),
    ) {
        let refunds = refunds();
        let (first, second) = observations.split_at(cut.min(observations.len()));
        let mut files = Files::new();
        for portion in [first, second] {
            lake::add(&mut files, &refunds, &batches(portion, 7), budget);
        }
        check_newest(&files, &observations);
        // The second portion first: a row does not go back in time.
        let mut backwards = Files::new();
        for portion in [second, first] {
            lake::add(&mut backwards, &refunds, &batches(portion, 7), budget);
        }
        check_newest(&backwards, &observations);
    }

    #[test]
    fn merging_the_same_again_changes_nothing(observations in observations(60), budget in budgets()) {
        let mut files = merged(&observations, 7, budget);
        let before = files.clone();
        let n_rows = newest(&observations).len() as u64;
        let changes = lake::add(&mut files, &refunds(), &batches(&observations, 5), budget);
        prop_assert_eq!(changes, Changes { unchanged: n_rows, ..Changes::default() });
        prop_assert!(changes.is_none());
        prop_assert_eq!(before, files, "unchanged files are the same bytes");
    }

    #[test]
    fn changes_are_counted_by_row(
        old in observations(40),
        new in observations(40),
    ) {
        let mut files = merged(&old, 7, 1);
        let changes = lake::add(&mut files, &refunds(), &batches(&new, 7), 1);
        let (old, new) = (newest(&old), newest(&new));
        // Only files that are touched are read.
        let is_touched = |id: &String| {
            let year = |o: &Observation| Grain::Year.partition_of(o.created());
            new.values().any(|n| year(n) == year(&old[id]))
        };
        let expected = Changes {
            new: new.keys().filter(|id| !old.contains_key(*id)).count() as u64,
            changed: new.iter().filter(|(id, o)| old.get(*id).is_some_and(|was| was.at < o.at && was.amount() != o.amount())).count() as u64,
            unchanged: old.iter().filter(|(id, was)| is_touched(id) && new.get(*id).is_none_or(|o| was.at >= o.at || was.amount() == o.amount())).count() as u64,
            seen_later: new.iter().filter(|(id, o)| old.get(*id).is_some_and(|was| was.at < o.at && was.amount() == o.amount())).count() as u64,
            deleted: 0,
        };
        prop_assert_eq!(changes, expected);
    }

    #[test]
    fn splitting_loses_no_row(
        observations in observations(60),
        grain in prop::sample::select(vec![Grain::Whole, Grain::Year, Grain::Month, Grain::Day]),
    ) {
        for batch in batches(&observations, 100) {
            let parts = split(&batch, grain);
            prop_assert_eq!(parts.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>(), batch.num_rows());
            for (partition, rows) in &parts {
                prop_assert!(rows.num_rows() > 0);
                prop_assert_eq!(rows.num_columns(), batch.num_columns() - 1);
                // The rows are those of the batch that belong here, in the batch's order.
                let at = partition_at(&batch);
                let here: arrow::array::UInt32Array = (0..batch.num_rows() as u32)
                    .filter(|row| partition.span().contains(&at.value(*row as usize)))
                    .collect();
                let expected = arrow::compute::take_record_batch(&batch, &here).unwrap();
                prop_assert_eq!(rows, &expected.project(&(0..rows.num_columns()).collect::<Vec<_>>()).unwrap());
            }
        }
    }
}

/// Two hundred and more spilled runs of a partition become a few; what they hold stays the same.
#[test]
fn more_spilled_runs_than_a_merge_opens_give_the_same_file() {
    let mut rng = fastrand::Rng::with_seed(3);
    // The newest first and every form once, so that no run is superseded by later ones.
    let observations = (0..700).rev().map(|n| Observation { id: rng.u8(0..24), at: n * 4 });
    let observations: Vec<Observation> = observations.collect();
    let files = merged(&observations, 1, 1);
    check_newest(&files, &observations);
    assert_eq!(held(&files), held(&merged(&observations, observations.len(), usize::MAX >> 1)));
}

/// Rows of 20 KB: a few hundred of them are more than a merge wants to hold.
#[test]
fn large_rows_are_merged_many_at_a_time() {
    let resource = refunds();
    let rows = |ids: std::ops::Range<u32>| {
        let mut decoder = Decoder::new(&resource, &[], Options::default());
        for id in ids {
            let note = "x".repeat(20_000);
            let created = 1_577_836_800 + id;
            let body = format!(
                r#"{{"id":"re_{id:04}","object":"refund","created":{created},"amount":1,"description":"{note}"}}"#
            );
            decoder.push_objects(body.as_bytes(), 1).unwrap();
        }
        split(&decoder.flush().parent.unwrap(), Grain::Whole).remove(0).1
    };
    let run = |batch: RecordBatch| -> Run { Box::new(std::iter::once(Ok(batch))) };
    let absent = Absent::default();
    let merge =
        Merge::new(Some(run(rows(0..1_000))), vec![run(rows(500..1_500))], absent, OldAge::at_least())
            .unwrap();
    let batches: Vec<usize> = merge.map(|rows| rows.unwrap().len()).collect();
    assert_eq!(batches.iter().sum::<usize>(), 1_500);
    assert!(batches.len() <= 3, "{} batches", batches.len());
}
