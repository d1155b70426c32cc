//! Turns a file of the lake back into a sorted run.

use std::fs::File;
use std::io::{Read, Seek};

use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};

use crate::crc::crc32_of;
use crate::encode::CONTENT;
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

/// Opens a partition file. `is_known` says that its bytes are those that the state speaks of.
///
/// Fails with [`crate::error::Kind::Integrity`] where the file is damaged.
pub fn open(file: File, is_known: bool) -> Result<OldFile> {
    if !is_known {
        check_content(file.try_clone().map_err(damaged)?)?;
    }
    open_known(file)
}

/// The same for bytes that are what they should be.
pub fn open_known(bytes: impl ChunkReader + 'static) -> Result<OldFile> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(damaged)?;
    let n_rows = builder.metadata().file_metadata().num_rows().max(0) as u64;
    let schema = builder.schema().clone();
    let reader = builder.with_batch_size(ROWS_PER_BATCH).build().map_err(damaged)?;
    let run: Run = Box::new(reader.map(|batch| batch.map_err(damaged)));
    Ok(OldFile { run, schema, n_rows })
}

/// A file that the state does not speak of was left by a run that ended before it wrote the state, or somebody
/// has changed it. In the first case what its footer says of the bytes before holds.
fn check_content(mut file: File) -> Result<()> {
    let reader = SerializedFileReader::new(file.try_clone().map_err(damaged)?).map_err(damaged)?;
    let metadata = reader.metadata().file_metadata().key_value_metadata();
    let content = metadata.into_iter().flatten().find(|entry| entry.key == CONTENT);
    let Some(content) = content.and_then(|entry| entry.value.as_deref()) else { return Ok(()) };
    let (n_bytes, crc32) = content.split_once(' ').ok_or_else(|| damaged("its metadata"))?;
    let n_bytes = n_bytes.parse().map_err(damaged)?;
    file.rewind().map_err(damaged)?;
    match crc32_of(file.take(n_bytes)).map_err(damaged)? == crc32 {
        true => Ok(()),
        false => Err(damaged("its bytes are not those that were written")),
    }
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::integrity(format!("the file cannot be read: {error}"))
        .hint("move the file away; `stripelake sync --full` makes it again")
}
