//! Checks what becomes of rows of the old file that a list which was read does not have.

use arrow::array::{Int64Array, StringArray};

use super::*;
use crate::encode::merge::absent::{Parents, Replaced};

const CREATED: i64 = 1_790_000_000_000_000;

/// Items of one parent, each with the time at which it was observed.
fn items(rows: &[(&str, i64)]) -> RecordBatch {
    let times =
        |times: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as ArrayRef;
    RecordBatch::try_from_iter([
        ("id", Arc::new(StringArray::from_iter_values(rows.iter().map(|(id, _)| id))) as ArrayRef),
        ("created", times(vec![CREATED; rows.len()])),
        ("parent", Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "parent_1")))),
        ("amount", Arc::new(Int64Array::from(vec![1; rows.len()]))),
        (SYNCED_AT, times(rows.iter().map(|(_, at)| *at).collect())),
        (DELETED, Arc::new(BooleanArray::from(vec![false; rows.len()]))),
    ])
    .unwrap()
}

/// The ids that stay of `old` where the parent's list, read at a time, has `new`.
fn left(old: &[(&str, i64)], new: &[&str], read_at: i64, old_age: OldAge) -> Vec<String> {
    let new: Vec<(&str, i64)> = new.iter().map(|id| (*id, read_at)).collect();
    let run = |rows: &[(&str, i64)]| -> Run { Box::new(std::iter::once(Ok(items(rows)))) };
    let replaced = [("parent_1".to_owned(), Replaced { times: 1, observed_at: read_at })].into();
    let parents =
        Parents { key: "parent".to_owned(), replaced: Arc::new(replaced), outdated: Arc::default() };
    let absent = Absent { vanished: None, parents: Some(parents) };
    let merge = Merge::new(Some(run(old)), vec![run(&new)], absent, old_age).unwrap();
    let mut ids = Vec::new();
    for rows in merge {
        let batch = rows.unwrap().gathered().unwrap();
        ids.extend(batch["id"].as_string::<i32>().iter().map(|id| id.unwrap().to_owned()));
    }
    ids
}

#[test]
fn a_row_that_was_seen_after_the_list_without_it_stays() {
    let old = [("item_1", 10), ("item_2", 30)];
    // Before this run, whatever its time says.
    assert_eq!(left(&old, &["item_1"], 20, OldAge::Superseded), ["item_1"]);
    // By this run, which began at 25, from a list that was read later.
    assert_eq!(left(&old, &["item_1"], 27, OldAge::SupersededBut(25, 40)), ["item_1", "item_2"]);
    assert_eq!(left(&old, &["item_1"], 35, OldAge::SupersededBut(25, 40)), ["item_1"]);
    // In another archive.
    assert_eq!(left(&old, &["item_1"], 20, OldAge::at_least()), ["item_1", "item_2"]);
    assert_eq!(left(&old, &["item_1"], 35, OldAge::at_least()), ["item_1"]);
}

#[test]
fn what_the_old_file_has_in_a_newer_form_is_noted_on_demand() {
    let merged = |is_asked: bool| {
        let run = |rows: &[(&str, i64)]| -> Run { Box::new(std::iter::once(Ok(items(rows)))) };
        let (old, new) = (run(&[("item_1", 10), ("item_2", 30)]), run(&[("item_1", 20), ("item_2", 20)]));
        let merge = Merge::new(Some(old), vec![new], Absent::default(), OldAge::at_least()).unwrap();
        let mut merge = if is_asked { merge.noting_outdated() } else { merge };
        merge.by_ref().for_each(|rows| drop(rows.unwrap()));
        merge.take_outdated()
    };
    assert_eq!(merged(true), HashSet::from(["item_2".to_owned()]));
    assert_eq!(merged(false), HashSet::new());
}
