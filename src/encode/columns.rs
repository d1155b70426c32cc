//! Turns batches into row groups, the columns of a group in parallel.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use rayon::prelude::*;

use crate::encode::n_leaves;

/// Batches below this many values are not worth waking other cores for.
const WORTH_SHARING: usize = 20_000;

/// A Parquet file being written. Memory is one row group in its encoded form.
pub struct Groups<W: Write + Send> {
    file: SerializedFileWriter<W>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    rows_per_group: usize,
    /// The columns of the group under construction, and its rows.
    group: Vec<ArrowColumnWriter>,
    n_rows: usize,
    n_groups: usize,
}

impl<W: Write + Send> Groups<W> {
    pub fn new(sink: W, schema: &SchemaRef, properties: WriterProperties) -> Result<Groups<W>> {
        let rows_per_group = properties.max_row_group_row_count().unwrap_or(usize::MAX);
        let (file, factory) =
            ArrowWriter::try_new(sink, schema.clone(), Some(properties))?.into_serialized_writer()?;
        let (group, schema) = (Vec::new(), schema.clone());
        Ok(Groups { file, factory, schema, rows_per_group, group, n_rows: 0, n_groups: 0 })
    }

    /// Adds rows to the group under construction, and ends it when it is full.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < batch.num_rows() {
            if self.group.is_empty() {
                self.group = self.factory.create_column_writers(self.n_groups)?;
            }
            let n_rows = (batch.num_rows() - at).min(self.rows_per_group - self.n_rows);
            self.add(&batch.slice(at, n_rows))?;
            at += n_rows;
            self.n_rows += n_rows;
            if self.n_rows == self.rows_per_group {
                self.end_group()?;
            }
        }
        Ok(())
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut columns: Vec<(&Arc<Field>, &ArrayRef, &mut [ArrowColumnWriter])> = Vec::new();
        let mut writers = self.group.as_mut_slice();
        for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
            let (own, rest) = writers.split_at_mut(n_leaves(field.data_type()));
            columns.push((field, array, own));
            writers = rest;
        }
        let write = |(field, array, writers): (&Arc<Field>, &ArrayRef, &mut [ArrowColumnWriter])| {
            let leaves = compute_leaves(field, array)?;
            leaves.iter().zip(writers).try_for_each(|(leaf, writer)| writer.write(leaf))
        };
        match batch.num_rows() * columns.len() < WORTH_SHARING {
            true => columns.into_iter().try_for_each(write),
            false => columns.into_par_iter().try_for_each(write),
        }
    }

    fn end_group(&mut self) -> Result<()> {
        let writers = std::mem::take(&mut self.group);
        let chunks: Vec<Result<ArrowColumnChunk, ParquetError>> =
            writers.into_par_iter().map(ArrowColumnWriter::close).collect();
        let mut group = self.file.next_row_group()?;
        for chunk in chunks {
            chunk?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        self.n_groups += 1;
        self.n_rows = 0;
        Ok(())
    }

    /// Writes the rest and the footer, with what `content` makes of all that comes before it.
    pub fn close(mut self, content: impl FnOnce(&W) -> KeyValue) -> Result<()> {
        if self.n_rows > 0 {
            self.end_group()?;
        }
        self.file.flush()?;
        let content = content(self.file.inner());
        self.file.append_key_value_metadata(content);
        self.file.close().map(drop)
    }
}
