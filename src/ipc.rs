//! Turns batches into Arrow's stream format and back, without the columns that hold nothing.
//!
//! Most of Stripe's columns hold nothing in most batches. What is written here is read back by this program, soon and
//! on this machine, so it is not compressed: LZ4 took three times as long as writing the bytes.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;

use crate::nulls::{NullArrays, is_null};

/// The columns in which some row has a value.
pub fn with_values(batches: &[RecordBatch]) -> Vec<usize> {
    let has_values = |batch: &RecordBatch, column: usize| !is_null(batch.column(column));
    let n_columns = batches.first().map_or(0, RecordBatch::num_columns);
    (0..n_columns).filter(|column| batches.iter().any(|batch| has_values(batch, *column))).collect()
}

/// Begins a stream of batches that are projected to these columns.
pub fn begin<W: Write>(out: W, schema: &Schema, columns: &[usize]) -> Result<StreamWriter<W>, ArrowError> {
    StreamWriter::try_new(out, &schema.project(columns)?)
}

/// A batch of a stream with all columns of `schema`; those that were not written hold nothing.
pub fn widen(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let mut nulls = NullArrays::new(batch.num_rows());
    let written = batch.schema_ref().fields().iter().zip(batch.columns());
    let mut written = written.peekable();
    let arrays = schema.fields().iter().map(|field| {
        match written.next_if(|(written, _)| written.name() == field.name()) {
            Some((_, array)) => array.clone(),
            None => nulls.of(field.data_type()),
        }
    });
    RecordBatch::try_new(schema.clone(), arrays.collect())
}
