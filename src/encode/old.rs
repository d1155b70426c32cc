//! Turns a file of the lake back into a sorted run.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::encode::merge::Run;
use crate::error::{Error, Result};

const ROWS_PER_BATCH: usize = 2048;

/// A partition file that was there before.
pub struct OldFile {
    pub run: Run,
    pub n_rows: u64,
}

/// Opens a partition file; rows come in the schema `schema`, whatever version they were written in.
///
/// A column that the file lacks is null. Fails with [`crate::error::Kind::Integrity`] where the file
/// is damaged.
pub fn open(file: File, schema: &SchemaRef) -> Result<OldFile> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
    let n_rows = builder.metadata().file_metadata().num_rows().max(0) as u64;
    let reader = builder.with_batch_size(ROWS_PER_BATCH).build().map_err(damaged)?;
    let schema = schema.clone();
    let run: Run = Box::new(reader.map(move |batch| conform(&batch.map_err(damaged)?, &schema)));
    Ok(OldFile { run, n_rows })
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::integrity(format!("the file cannot be read: {error}"))
        .hint("move the file away; `stripelake sync --full` makes it again")
}

fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => column.clone(),
            _ => new_null_array(field.data_type(), batch.num_rows()),
        })
        .collect();
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(damaged)
}
