//! Turns sorted batches into temporary files, and these back into runs.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::encode::merge::{Absent, Merge, OldAge, Run};
use crate::error::{Error, Result};

/// So many files of one level become one of the next: a merge opens all files, and so never more than a
/// few times this many.
const FILES_PER_LEVEL: usize = 16;

/// Sorted runs in nameless temporary files (Arrow IPC, LZ4), oldest observation first.
#[derive(Default)]
pub struct Spilled {
    /// How often the rows of a file were merged, and the file; levels never rise.
    files: Vec<(u32, File)>,
}

impl Spilled {
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Adds a run that was observed after the others.
    pub fn push(
        &mut self,
        schema: &SchemaRef,
        dir: &Path,
        rows_per_batch: usize,
        run: impl Iterator<Item = Result<RecordBatch>>,
    ) -> Result<()> {
        self.files.push((0, write(schema, dir, rows_per_batch, run)?));
        while let Some(first) = self.full_level() {
            let level = self.files[first].0;
            let runs = runs(&self.files[first..])?;
            // Neighbours only, so that of two equal times the later run still wins.
            let merged = Merge::new(None, runs, Absent::default(), OldAge::AtLeast(i64::MIN))?;
            let file = write(schema, dir, rows_per_batch, merged)?;
            self.files.truncate(first);
            self.files.push((level + 1, file));
        }
        Ok(())
    }

    /// Where the last level begins, if it is full.
    fn full_level(&self) -> Option<usize> {
        let level = self.files.last()?.0;
        let n_files = self.files.iter().rev().take_while(|(other, _)| *other == level).count();
        (n_files >= FILES_PER_LEVEL).then(|| self.files.len() - n_files)
    }

    /// All runs. May be called again.
    pub fn runs(&self) -> Result<Vec<Run>> {
        runs(&self.files)
    }
}

fn runs(files: &[(u32, File)]) -> Result<Vec<Run>> {
    files.iter().map(|(_, file)| read(file)).collect()
}

fn read(file: &File) -> Result<Run> {
    let mut file = file.try_clone().map_err(failed)?;
    file.rewind().map_err(failed)?;
    let reader = StreamReader::try_new(BufReader::new(file), None).map_err(failed)?;
    Ok(Box::new(reader.map(|batch| batch.map_err(failed))))
}

fn write(
    schema: &SchemaRef,
    dir: &Path,
    rows_per_batch: usize,
    run: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<File> {
    let file = tempfile::tempfile_in(dir).map_err(failed)?;
    let options =
        IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).map_err(failed)?;
    let mut writer =
        StreamWriter::try_new_with_options(BufWriter::new(file), schema, options).map_err(failed)?;
    // The first row stands alone: until a merge comes to it, it is all that is held of the run.
    let mut n_next = 1;
    for batch in run {
        let batch = batch?;
        let mut at = 0;
        while at < batch.num_rows() {
            let n_rows = n_next.min(batch.num_rows() - at);
            writer.write(&batch.slice(at, n_rows)).map_err(failed)?;
            at += n_rows;
            n_next = rows_per_batch;
        }
    }
    let file = writer.into_inner().map_err(failed)?;
    file.into_inner().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::destination(format!("temporary file: {error}"))
        .hint("free space, or set TMPDIR to a folder with more")
}
