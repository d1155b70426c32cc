//! Turns rows into row groups, column after column, and several columns at once.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use rayon::prelude::*;

use crate::encode::picked::{Part, Picked};
use crate::encode::shift::filling;
use crate::encode::{WORTH_SHARING, n_leaves};

/// One field of the schema, and the writers of its leaves.
struct Column {
    field: Arc<Field>,
    /// The same field where text comes as bytes.
    as_bytes: Field,
    writers: Vec<ArrowColumnWriter>,
}

/// A Parquet file being written. Memory is one row group in its encoded form.
pub struct Groups<W: Write + Send> {
    file: SerializedFileWriter<W>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    rows_per_group: usize,
    bytes_per_group: usize,
    /// The columns of the group under construction, and its rows.
    group: Vec<Column>,
    n_rows: usize,
    n_groups: usize,
}

impl<W: Write + Send> Groups<W> {
    pub fn new(
        sink: W,
        schema: &SchemaRef,
        properties: WriterProperties,
        bytes_per_group: usize,
        shift: usize,
    ) -> Result<Groups<W>> {
        let rows_per_group = properties.max_row_group_row_count().unwrap_or(usize::MAX);
        let (mut file, factory) =
            ArrowWriter::try_new(sink, schema.clone(), Some(properties))?.into_serialized_writer()?;
        file.write_all(&filling(shift))?;
        let (group, schema) = (Vec::new(), schema.clone());
        Ok(Groups { file, factory, schema, rows_per_group, bytes_per_group, group, n_rows: 0, n_groups: 0 })
    }

    /// Adds rows to the group under construction, and ends it when it is full or these are the last rows.
    pub fn write(&mut self, picked: &Picked, are_last: bool) -> Result<()> {
        let mut at = 0;
        while at < picked.len() {
            if self.group.is_empty() {
                self.begin_group()?;
            }
            let rows = at..picked.len().min(at + self.rows_per_group - self.n_rows);
            at = rows.end;
            self.n_rows += rows.len();
            let is_full = self.n_rows == self.rows_per_group || (are_last && at == picked.len());
            match is_full {
                true => self.end_group(Some((picked, rows)))?,
                false => self.add(picked, rows)?,
            }
            if self.n_bytes() > self.bytes_per_group {
                self.end_group(None)?;
            }
        }
        Ok(())
    }

    /// What the group under construction will come to, about.
    fn n_bytes(&self) -> usize {
        let writers = self.group.iter().flat_map(|column| &column.writers);
        writers.map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    fn begin_group(&mut self) -> Result<()> {
        let mut writers = self.factory.create_column_writers(self.n_groups)?.into_iter();
        let column = |field: &Arc<Field>| Column {
            field: field.clone(),
            as_bytes: Field::new(field.name(), DataType::Binary, field.is_nullable()),
            writers: writers.by_ref().take(n_leaves(field.data_type())).collect(),
        };
        self.group = self.schema.fields().iter().map(column).collect();
        Ok(())
    }

    fn add(&mut self, picked: &Picked, rows: Range<usize>) -> Result<()> {
        let is_little = rows.len() * self.group.len() < WORTH_SHARING;
        let part = picked.part(rows);
        let write = |(at, column): (usize, &mut Column)| column.write(&part, at);
        match is_little {
            true => self.group.iter_mut().enumerate().try_for_each(write),
            false => self.group.par_iter_mut().enumerate().try_for_each(write),
        }
    }

    /// Writes the last rows of each column and closes it before the next one is begun: what a compressor
    /// takes while it is at work is then there once for each core, and not once for each column.
    fn end_group(&mut self, last: Option<(&Picked, Range<usize>)>) -> Result<()> {
        let last = last.map(|(picked, rows)| picked.part(rows));
        let end = |(at, mut column): (usize, Column)| {
            if let Some(part) = &last {
                column.write(part, at)?;
            }
            column.writers.into_iter().map(ArrowColumnWriter::close).collect::<Result<Vec<_>>>()
        };
        let columns = std::mem::take(&mut self.group);
        let chunks: Vec<Result<Vec<ArrowColumnChunk>, ParquetError>> =
            match self.n_rows * columns.len() < WORTH_SHARING {
                true => columns.into_iter().enumerate().map(end).collect(),
                false => columns.into_par_iter().enumerate().map(end).collect(),
            };
        let mut group = self.file.next_row_group()?;
        for column in chunks {
            column?.into_iter().try_for_each(|chunk| chunk.append_to_row_group(&mut group))?;
        }
        group.close()?;
        self.n_groups += 1;
        self.n_rows = 0;
        Ok(())
    }

    /// Writes the rest and the footer, with what `notes` makes of all that comes before it.
    pub fn close<N>(mut self, notes: impl FnOnce(&mut W) -> N) -> Result<()>
    where
        N: IntoIterator<Item = KeyValue>,
    {
        if self.n_rows > 0 {
            self.end_group(None)?;
        }
        self.file.flush()?;
        let notes = notes(self.file.inner_mut());
        notes.into_iter().for_each(|note| self.file.append_key_value_metadata(note));
        self.file.close().map(drop)
    }
}

impl Column {
    fn write(&mut self, part: &Part, at: usize) -> Result<()> {
        let Column { field, as_bytes, writers } = self;
        part.each_piece(at, |array| {
            let field = if *array.data_type() == DataType::Binary { &*as_bytes } else { field.as_ref() };
            let leaves = compute_leaves(field, &array)?;
            leaves.iter().zip(writers.iter_mut()).try_for_each(|(leaf, writer)| writer.write(leaf))
        })
    }
}
