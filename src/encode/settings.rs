//! Turns a schema and the first rows of a file into the way its columns are written.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::decode::schema::EXTRA;
use crate::encode::{Options, SCHEMA_VERSION, n_leaves};
use crate::error::{Error, Result};

/// Values of a column that tell whether values repeat.
const SAMPLE: usize = 1024;
/// A column with fewer repetitions in its sample gains nothing from a dictionary.
const REPETITIONS: usize = SAMPLE / 50;

/// The first rows of a file, or all of them.
pub struct FirstRows<'a> {
    pub batches: &'a [RecordBatch],
    pub is_all: bool,
}

/// The settings of one file. `n_rows_at_most` sizes the bloom filters.
pub fn properties(
    schema: &Schema,
    version: &str,
    first: &FirstRows,
    n_rows_at_most: u64,
    options: Options,
) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(options.zstd_level).map_err(|e| Error::usage(e.to_string()))?;
    let mut builder = WriterProperties::builder()
        .set_created_by("stripelake".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(options.rows_per_group))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_sorting_columns(Some(sorting_columns(schema)))
        .set_key_value_metadata(Some(vec![KeyValue::new(SCHEMA_VERSION.to_owned(), version.to_owned())]));
    for (column, field) in schema.fields().iter().enumerate() {
        builder = column_properties(builder, field, n_rows_at_most.min(options.rows_per_group as u64));
        if first.is_all {
            builder = for_all_values(builder, field, column, first.batches);
        }
    }
    Ok(builder.build())
}

/// Page statistics where a query filters, none where they only cost; dictionaries where values may repeat.
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

/// In a small file the making of a dictionary or a compressor costs more than the values: none for a
/// column without values, no dictionary where values hardly repeat.
fn for_all_values(
    builder: WriterPropertiesBuilder,
    field: &Arc<Field>,
    column: usize,
    batches: &[RecordBatch],
) -> WriterPropertiesBuilder {
    if field.data_type().is_nested() {
        return builder;
    }
    let path = ColumnPath::from(field.name().as_str());
    let arrays = || batches.iter().map(|batch| batch.column(column));
    if arrays().all(|array| array.null_count() == array.len()) {
        return builder
            .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
            .set_column_dictionary_enabled(path, false);
    }
    let is_text = *field.data_type() == DataType::Utf8;
    if is_text && !values_repeat(arrays().flat_map(|array| array.as_string::<i32>().iter().flatten())) {
        return builder.set_column_dictionary_enabled(path, false);
    }
    builder
}

/// Looks no further than it takes to know.
fn values_repeat<'a>(values: impl Iterator<Item = &'a str>) -> bool {
    let (mut seen, mut n_repetitions) = (HashSet::new(), 0);
    for value in values.take(SAMPLE) {
        n_repetitions += usize::from(!seen.insert(value));
        if n_repetitions > REPETITIONS {
            return true;
        }
    }
    // A few values are few values, whatever their repetitions.
    seen.len() + n_repetitions < SAMPLE && n_repetitions > 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_all_different_do_not_repeat() {
        let texts: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
        assert!(!values_repeat(texts.iter().map(String::as_str)));
        assert!(!values_repeat(["a"].into_iter()));
        assert!(values_repeat(["a", "a"].into_iter()));
        let few = |n: usize| if n.is_multiple_of(10) { "usual" } else { &texts[n] };
        assert!(values_repeat((0..2_000).map(few)));
    }
}
