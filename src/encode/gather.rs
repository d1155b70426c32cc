//! Turns rows of several batches into one batch.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;

use crate::error::{Error, Result};
use crate::nulls::{NullArrays, is_null};

/// The rows, each `(batch, row)`, in their order. The batches have one schema.
///
/// A column without values is not copied.
pub fn gather(batches: &[&RecordBatch], rows: &[(usize, usize)]) -> Result<RecordBatch> {
    let schema = batches[0].schema();
    let mut nulls = NullArrays::new(rows.len());
    let columns = schema.fields().iter().enumerate().map(|(column, field)| {
        let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
        match arrays.iter().all(|array| is_null(*array)) {
            true => Ok(nulls.of(field.data_type())),
            false => interleave(&arrays, rows),
        }
    });
    let columns: std::result::Result<Vec<ArrayRef>, _> = columns.collect();
    columns
        .and_then(|columns| RecordBatch::try_new(schema.clone(), columns))
        .map_err(|e| Error::bug(format!("gather: {e}")))
}
