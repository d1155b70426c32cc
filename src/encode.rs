//! Turns sorted batches into one finished Parquet file.
//!
//! zstd, one schema per resource, rows sorted by `created` then `id`, row groups of up to 262,144
//! rows with statistics where a filter can use them, a page index, and a bloom filter on `id`. Files
//! made of the same rows are the same bytes.

mod columns;
mod memory;
pub mod merge;
pub mod old;
pub mod same;

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::decode::schema::{EXTRA, schema_version};
use crate::encode::columns::Groups;
use crate::error::{Error, Result};

/// A file of up to this many rows is one row group, which a reader holds consistent when the file is
/// replaced under it; a larger file has several, each over a narrow range of `created`.
pub const ROWS_PER_GROUP: usize = 262_144;

/// The key of the schema version in a file's metadata.
pub const SCHEMA_VERSION: &str = "stripelake.schema_version";

/// How files are written.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// zstd level, 1 to 22. On Stripe's data a higher level than 1 costs time and saves nothing.
    pub zstd_level: i32,
    pub rows_per_group: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { zstd_level: 1, rows_per_group: ROWS_PER_GROUP }
    }
}

/// What a finished file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub n_rows: u64,
    pub n_bytes: u64,
    pub crc32: u32,
    /// The first and last `created`, in microseconds.
    pub created: Option<(i64, i64)>,
    pub schema_version: String,
}

/// Writes `batches`, which are sorted and have the schema `schema`, to `sink`.
///
/// `n_rows_at_most` sizes the bloom filters. Memory is bounded by one row group in its encoded form.
/// Fails with [`crate::error::Kind::Destination`] where the sink does, or with the first failed batch.
pub fn write<W: Write + Send>(
    sink: W,
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
    n_rows_at_most: u64,
    options: Options,
) -> Result<Written> {
    let version = schema_version(schema);
    let properties = properties(schema, &version, n_rows_at_most, options)?;
    let mut sink = Summed { sink, n_bytes: 0, crc32: crc32fast::Hasher::new() };
    let mut groups = Groups::new(&mut sink, schema, properties).map_err(failed)?;
    let mut n_rows = 0;
    let mut created: Option<(i64, i64)> = None;
    for batch in batches {
        let batch = batch?;
        n_rows += batch.num_rows() as u64;
        created = widen(created, &batch);
        groups.write(&batch).map_err(failed)?;
    }
    groups.close().map_err(failed)?;
    sink.flush().map_err(|e| Error::destination(e.to_string()))?;
    let (n_bytes, crc32) = (sink.n_bytes, sink.crc32.finalize());
    Ok(Written { n_rows, n_bytes, crc32, created, schema_version: version })
}

fn failed(error: parquet::errors::ParquetError) -> Error {
    Error::destination(format!("writing parquet: {error}"))
}

fn widen(range: Option<(i64, i64)>, batch: &RecordBatch) -> Option<(i64, i64)> {
    let created = created_of(batch)?;
    let (min, max) = (arrow::compute::min(&created)?, arrow::compute::max(&created)?);
    Some(range.map_or((min, max), |(first, last)| (first.min(min), last.max(max))))
}

/// The `created` column, if the resource has one.
pub fn created_of(batch: &RecordBatch) -> Option<TimestampMicrosecondArray> {
    batch.column_by_name("created")?.as_any().downcast_ref::<TimestampMicrosecondArray>().cloned()
}

/// How the columns of `schema` are written. Fails where `options` has no zstd level.
pub fn properties(schema: &Schema, version: &str, n_rows: u64, options: Options) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(options.zstd_level).map_err(|e| Error::usage(e.to_string()))?;
    let mut builder = WriterProperties::builder()
        .set_created_by("stripelake".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(options.rows_per_group))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_sorting_columns(Some(sorting_columns(schema)))
        .set_key_value_metadata(Some(vec![KeyValue::new(SCHEMA_VERSION.to_owned(), version.to_owned())]));
    for field in schema.fields() {
        builder = column_properties(builder, field, n_rows.min(options.rows_per_group as u64));
    }
    Ok(builder.build())
}

/// Page statistics where a query filters, none where they only cost; dictionaries where values repeat.
fn column_properties(
    builder: WriterPropertiesBuilder,
    field: &Arc<Field>,
    n_rows: u64,
) -> WriterPropertiesBuilder {
    let path = ColumnPath::from(field.name().as_str());
    let is_json = field.metadata().contains_key("ARROW:extension:name");
    match (field.name().as_str(), field.data_type()) {
        ("id", _) => builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_statistics_enabled(path.clone(), EnabledStatistics::Page)
            .set_column_bloom_filter_enabled(path.clone(), true)
            .set_column_bloom_filter_fpp(path.clone(), 0.01)
            .set_column_bloom_filter_max_ndv(path, n_rows.max(1)),
        (EXTRA, _) => builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_statistics_enabled(path, EnabledStatistics::None),
        (_, DataType::Utf8) if is_json => {
            builder.set_column_statistics_enabled(path, EnabledStatistics::None)
        }
        (_, DataType::Timestamp(_, _) | DataType::Int64) => {
            builder.set_column_statistics_enabled(path, EnabledStatistics::Page)
        }
        _ => builder,
    }
}

/// The order of rows, told to readers: `created`, then `id`.
fn sorting_columns(schema: &Schema) -> Vec<SortingColumn> {
    let leaf_of = |name: &str| {
        let at = schema.fields().iter().position(|f| f.name() == name)?;
        let before: usize = schema.fields()[..at].iter().map(|f| n_leaves(f.data_type())).sum();
        Some(SortingColumn { column_idx: before as i32, descending: false, nulls_first: true })
    };
    ["created", "id"].into_iter().filter_map(leaf_of).collect()
}

fn n_leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(item) | DataType::Map(item, _) => n_leaves(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|f| n_leaves(f.data_type())).sum(),
        _ => 1,
    }
}

/// Counts and sums what passes through.
struct Summed<W> {
    sink: W,
    n_bytes: u64,
    crc32: crc32fast::Hasher,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.sink.write(bytes)?;
        self.crc32.update(&bytes[..n]);
        self.n_bytes += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
