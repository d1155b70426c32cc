//! Turns the ids of rows into their number and a sum of their hashes, which tell whether two files hold the same objects.

use std::fs::File;

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::Result;
use twox_hash::XxHash64;

use crate::encode::picked::Picked;

/// Different ids in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ids {
    pub n: u64,
    /// Of XXH64, which does not change from one program to the next.
    pub sum: u64,
}

impl Ids {
    pub fn add(&mut self, id: &str) {
        self.n += 1;
        self.sum = self.sum.wrapping_add(XxHash64::oneshot(0, id.as_bytes()));
    }

    pub fn add_all(&mut self, rows: &Picked) {
        let (ids, places) = rows.texts("id");
        places.for_each(|(batch, row)| self.add(ids[batch].value(row)));
    }
}

/// Those of the rows of a file that were created from one second to another, both counted; of all where that is not said.
pub fn ids_within(file: File, created: Option<(i64, i64)>) -> Result<Ids> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["id", "created"]);
    let mut found = Ids::default();
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let Some(ids) = batch.column_by_name("id").and_then(|ids| ids.as_string_opt::<i32>()) else {
            continue;
        };
        let seconds = batch.column_by_name("created").map(|c| c.as_primitive::<TimestampMicrosecondType>());
        let is_within = |row: &usize| match (created, seconds) {
            (Some((first, last)), Some(at)) => (first..=last).contains(&at.value(*row).div_euclid(1_000_000)),
            _ => true,
        };
        (0..ids.len()).filter(is_within).for_each(|row| found.add(ids.value(row)));
    }
    Ok(found)
}
