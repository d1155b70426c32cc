//! Turns rows of several batches into one batch.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::DataType;

use crate::error::{Error, Result};

/// The rows, each `(batch, row)`, in their order. The batches have one schema.
///
/// Most columns of Stripe's objects hold nothing: they are not copied, those of one type are one array.
pub fn gather(batches: &[&RecordBatch], rows: &[(usize, usize)]) -> Result<RecordBatch> {
    let schema = batches[0].schema();
    let mut nulls: HashMap<&DataType, ArrayRef> = HashMap::new();
    let columns = schema.fields().iter().enumerate().map(|(column, field)| {
        let arrays: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
        match arrays.iter().all(|array| array.null_count() == array.len()) {
            true => Ok(nulls
                .entry(field.data_type())
                .or_insert_with_key(|data_type| new_null_array(data_type, rows.len()))
                .clone()),
            false => interleave(&arrays, rows),
        }
    });
    let columns: std::result::Result<Vec<ArrayRef>, _> = columns.collect();
    columns
        .and_then(|columns| RecordBatch::try_new(schema.clone(), columns))
        .map_err(|e| Error::bug(format!("gather: {e}")))
}
