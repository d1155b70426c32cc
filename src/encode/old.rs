//! Turns a file of the lake back into a sorted run.

use std::fs::File;

use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::encode::merge::Run;
use crate::error::{Error, Result};

const ROWS_PER_BATCH: usize = 2048;

/// A partition file that was there before.
pub struct OldFile {
    /// In the file's own schema.
    pub run: Run,
    /// That of the catalog which the file was written with.
    pub schema: SchemaRef,
    pub n_rows: u64,
}

/// Opens a partition file.
///
/// Fails with [`crate::error::Kind::Integrity`] where the file is damaged.
pub fn open(file: File) -> Result<OldFile> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged)?;
    let n_rows = builder.metadata().file_metadata().num_rows().max(0) as u64;
    let schema = builder.schema().clone();
    let reader = builder.with_batch_size(ROWS_PER_BATCH).build().map_err(damaged)?;
    let run: Run = Box::new(reader.map(|batch| batch.map_err(damaged)));
    Ok(OldFile { run, schema, n_rows })
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::integrity(format!("the file cannot be read: {error}"))
        .hint("move the file away; `stripelake sync --full` makes it again")
}
