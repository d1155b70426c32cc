//! Turns creation times into partitions: spans, paths, and the splitting of batches.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use crate::decode::rows::{PARTITION_AT, rows_where};
use crate::error::{Error, Result};

/// A file should hold at least this many rows: it costs about 5 ms and 65 KB whatever it holds, which is then a
/// thirtieth of it.
pub const ROWS_PER_FILE: u64 = 10_000;

/// Partitions that a batch is sliced into; rows for more of them are copied, so that each can be let go.
const SLICES: usize = 4;

/// How much time one partition of a resource spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grain {
    /// One file, for resources whose objects have no `created`.
    Whole,
    Year,
    Month,
    Day,
}

impl Grain {
    /// The grain that the user named, as in `partition = "day"`.
    pub fn parse(text: &str) -> Result<Grain> {
        match text {
            "year" => Ok(Grain::Year),
            "month" => Ok(Grain::Month),
            "day" => Ok(Grain::Day),
            other => Err(Error::usage(format!("expected partition year, month or day, got \"{other}\""))),
        }
    }

    /// The finest grain whose files hold [`ROWS_PER_FILE`] rows when `n_rows` objects were created
    /// within `secs` seconds; years for anything sparser.
    pub fn for_density(n_rows: u64, secs: u64) -> Grain {
        let rows_in = |span: u64| n_rows as u128 * u128::from(span) / u128::from(secs.max(1));
        if rows_in(86_400) >= u128::from(ROWS_PER_FILE) {
            Grain::Day
        } else if rows_in(30 * 86_400) >= u128::from(ROWS_PER_FILE) {
            Grain::Month
        } else {
            Grain::Year
        }
    }

    /// The partition that holds an object created in this second.
    pub fn partition_of(self, created: i64) -> Partition {
        let date = Timestamp::from_second(created)
            .expect("decode lets only years from 1970 to 2199 through")
            .to_zoned(TimeZone::UTC)
            .date();
        let start = match self {
            Grain::Whole => Date::constant(1970, 1, 1),
            Grain::Year => date.first_of_year(),
            Grain::Month => date.first_of_month(),
            Grain::Day => date,
        };
        Partition { grain: self, start }
    }

    pub fn key(self) -> Option<&'static str> {
        match self {
            Grain::Whole => None,
            Grain::Year => Some("created_year"),
            Grain::Month => Some("created_month"),
            Grain::Day => Some("created_day"),
        }
    }
}

/// One partition of a resource: the objects created in one year, month or day, UTC.
///
/// Ordered by time. Displays as its folder's name, e.g. `created_month=2026-11-01`; the value is a
/// date, so that readers type the hive column as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    pub grain: Grain,
    start: Date,
}

impl Partition {
    /// Reads a folder's name back. `""` is the only partition of a resource without `created`.
    pub fn parse(folder: &str) -> Option<Partition> {
        if folder.is_empty() {
            return Some(Grain::Whole.partition_of(0));
        }
        let (key, value) = folder.split_once('=')?;
        let grain = [Grain::Year, Grain::Month, Grain::Day].into_iter().find(|g| g.key() == Some(key))?;
        // As few years as objects may be of; others have no place in what follows.
        let start = value.parse::<Date>().ok().filter(|start| (1970..2200).contains(&start.year()))?;
        let partition = Partition { grain, start };
        (partition.to_string() == folder && grain.partition_of(partition.span().start) == partition)
            .then_some(partition)
    }

    /// The partition whose file of the resource this is.
    pub fn of_path(path: &str, resource: &str) -> Option<Partition> {
        let folder = path.split('/').nth_back(1).filter(|folder| *folder != resource).unwrap_or_default();
        Partition::parse(folder).filter(|partition| partition.path(resource) == path)
    }

    /// The seconds of `created` that fall into the partition.
    pub fn span(&self) -> Range<i64> {
        let secs =
            |date: Date| date.to_zoned(TimeZone::UTC).expect("UTC has every date").timestamp().as_second();
        let end = match self.grain {
            Grain::Whole => return 0..i64::MAX,
            Grain::Year => self.start.saturating_add(1.year()),
            Grain::Month => self.start.saturating_add(1.month()),
            Grain::Day => self.start.saturating_add(1.day()),
        };
        secs(self.start)..secs(end)
    }

    /// Where the partition's file is, relative to the lake.
    pub fn path(&self, resource: &str) -> String {
        match self.grain {
            Grain::Whole => format!("{resource}/{resource}.parquet"),
            _ => format!("{resource}/{self}/{resource}.parquet"),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.grain.key() {
            None => Ok(()),
            Some(key) => write!(f, "{key}={}", self.start),
        }
    }
}

/// Splits a decoded batch by partition and takes the `_partition_at` column off.
pub fn split(batch: &RecordBatch, grain: Grain) -> Vec<(Partition, RecordBatch)> {
    let at = partition_at(batch);
    let mut ranges_of: BTreeMap<Partition, Vec<Range<usize>>> = BTreeMap::new();
    let mut current: Option<(Range<i64>, Partition)> = None;
    for (row, created) in at.values().iter().enumerate() {
        let partition = match &current {
            Some((span, partition)) if span.contains(created) => *partition,
            _ => {
                let partition = grain.partition_of(*created);
                current = Some((partition.span(), partition));
                partition
            }
        };
        let ranges = ranges_of.entry(partition).or_default();
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end = row + 1,
            _ => ranges.push(row..row + 1),
        }
    }
    let columns: Vec<usize> = (0..batch.num_columns() - 1).collect();
    let plain = batch.project(&columns).expect("columns of the batch itself");
    // A few slices keep the whole batch in memory only until the last of them is committed.
    let is_sliced = ranges_of.len() <= SLICES;
    let take = |ranges: Vec<Range<usize>>| match ranges.as_slice() {
        [range] if is_sliced => plain.slice(range.start, range.len()),
        _ => {
            let rows: Vec<u32> = ranges.into_iter().flatten().map(|row| row as u32).collect();
            take_record_batch(&plain, &UInt32Array::from(rows)).expect("rows of the batch itself")
        }
    };
    ranges_of.into_iter().map(|(partition, ranges)| (partition, take(ranges))).collect()
}

/// The second that decides each row's partition.
pub fn partition_at(batch: &RecordBatch) -> Arc<Int64Array> {
    let column = batch.column_by_name(PARTITION_AT).expect("decode adds the column");
    Arc::new(column.as_any().downcast_ref::<Int64Array>().expect("seconds").clone())
}

/// The rows whose second is wanted. Where all are, that is the batch itself.
pub fn rows_at(batch: &RecordBatch, is_wanted: impl Fn(i64) -> bool) -> RecordBatch {
    rows_where(batch, partition_at(batch).values().iter().map(|second| is_wanted(*second)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_partition_is_named_by_its_first_day() {
        let created = 1_795_465_845; // 2026-11-23T21:10:45Z
        assert_eq!(Grain::Day.partition_of(created).to_string(), "created_day=2026-11-23");
        assert_eq!(Grain::Month.partition_of(created).to_string(), "created_month=2026-11-01");
        assert_eq!(
            Grain::Year.partition_of(created).path("charges"),
            "charges/created_year=2026-01-01/charges.parquet"
        );
        assert_eq!(Grain::Whole.partition_of(created).path("plans"), "plans/plans.parquet");
    }

    #[test]
    fn names_that_no_partition_has_are_refused() {
        let sentinels = ["created_day=9999-12-31", "created_year=9999-01-01", "created_day=-009999-01-01"];
        let others = ["created_month=2026-11-02", "created_week=2026-11-01", "created_year=2026", "x"];
        for name in sentinels.into_iter().chain(others) {
            assert_eq!(Partition::parse(name), None, "{name}");
        }
    }

    #[test]
    fn dense_resources_get_small_partitions() {
        assert_eq!(Grain::for_density(10_000, 86_400), Grain::Day);
        assert_eq!(Grain::for_density(10_000, 86_401), Grain::Month);
        assert_eq!(Grain::for_density(10_000, 31 * 86_400), Grain::Year);
        assert_eq!(Grain::for_density(1, 0), Grain::Day);
        assert_eq!(Grain::for_density(0, 0), Grain::Year);
    }

    proptest! {
        #[test]
        fn every_second_lies_in_exactly_the_span_of_its_partition(
            created in 0i64..7_258_118_400,
            grain in prop_oneof![Just(Grain::Year), Just(Grain::Month), Just(Grain::Day)],
        ) {
            let partition = grain.partition_of(created);
            prop_assert!(partition.span().contains(&created));
            prop_assert_eq!(Partition::parse(&partition.to_string()), Some(partition));
            let next = grain.partition_of(partition.span().end);
            prop_assert_eq!(next.span().start, partition.span().end);
        }
    }
}
