//! Turns a schema and the first rows of a file into the way its columns are written.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;

use crate::decode::schema::{EXTRA, is_json};
use crate::encode::picked::Picked;
use crate::encode::{Options, SCHEMA_VERSION, WORTH_SHARING, n_leaves};
use crate::error::{Error, Result};

/// Values of a column that tell how many different ones there are.
const SAMPLE: usize = 1024;
/// A dictionary pays where each of its values stands this often, on the average.
const WORTH_A_DICTIONARY: f64 = 3.0;

/// What is known of a file before it is written.
pub struct Sample<'a> {
    /// The first rows, or all of them.
    pub rows: &'a [Picked],
    pub is_all: bool,
    pub n_rows_at_most: u64,
}

/// The settings of one file.
pub fn properties(
    schema: &Schema,
    version: &str,
    sample: &Sample,
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
    // How often an object was read must not change how its file is written.
    let n_rows = if sample.is_all { n_rows_of(sample.rows) } else { usize::MAX };
    let n_rows = n_rows.min(options.rows_per_group) as u64;
    let n_rows_at_most = sample.n_rows_at_most.min(options.rows_per_group as u64);
    for (field, found) in schema.fields().iter().zip(found_in_all(schema, sample, n_rows)) {
        builder = column_properties(builder, field, n_rows_at_most);
        builder = for_values(builder, field, found, sample.is_all);
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
    let is_json = is_json(field);
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
        // Rows are in the order of `created`, so its differences are small.
        ("created", DataType::Timestamp(_, _)) => builder
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED)
            .set_column_statistics_enabled(path, EnabledStatistics::Page),
        (_, DataType::Timestamp(_, _) | DataType::Int64) => {
            builder.set_column_statistics_enabled(path, EnabledStatistics::Page)
        }
        _ => builder,
    }
}

/// What the first rows hold of a column.
enum Found {
    Nothing,
    /// Values that hardly repeat, in this leaf.
    Different(ColumnPath),
    Other,
}

/// What each column holds, several columns at once: everything else waits for it.
fn found_in_all(schema: &Schema, sample: &Sample, n_rows: u64) -> Vec<Found> {
    let places = places(sample.rows);
    let find = |(column, field): (usize, &Arc<Field>)| find(field, column, sample.rows, &places, n_rows);
    let fields = schema.fields();
    match places.len() * fields.len() < WORTH_SHARING {
        true => fields.iter().enumerate().map(find).collect(),
        false => fields.par_iter().enumerate().map(find).collect(),
    }
}

fn find(
    field: &Field,
    column: usize,
    rows: &[Picked],
    places: &[(&RecordBatch, usize)],
    n_rows: u64,
) -> Found {
    if rows.iter().all(|rows| rows.is_null(column)) {
        return Found::Nothing;
    }
    let (path, values) = match field.data_type() {
        DataType::Utf8 | DataType::Int64 | DataType::Timestamp(_, _) => {
            (ColumnPath::from(field.name().as_str()), sampled(places, column))
        }
        DataType::Map(entries, _) => match map_values(entries, field, rows, column) {
            Some(found) => found,
            None => return Found::Other,
        },
        _ => return Found::Other,
    };
    match repetition(values, n_rows) {
        Some(repetition) if repetition < WORTH_A_DICTIONARY => Found::Different(path),
        _ => Found::Other,
    }
}

/// No dictionary where values hardly repeat: it would be made, outgrown and thrown away, or stand beside as many
/// numbers as it has values. Neither that nor a compressor for a column without values.
fn for_values(
    builder: WriterPropertiesBuilder,
    field: &Field,
    found: Found,
    is_all: bool,
) -> WriterPropertiesBuilder {
    match found {
        Found::Nothing if is_all && !field.data_type().is_nested() => {
            let path = ColumnPath::from(field.name().as_str());
            builder
                .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
                .set_column_dictionary_enabled(path, false)
        }
        Found::Different(path) => builder.set_column_dictionary_enabled(path, false),
        Found::Nothing | Found::Other => builder,
    }
}

/// Some of a column's values, from all over the rows, and by how many rows one of them comes.
struct Values {
    hashes: Vec<u64>,
    n_looked_at: usize,
}

fn n_rows_of(rows: &[Picked]) -> usize {
    rows.iter().map(Picked::len).sum()
}

/// Rows that are looked at, from all over the rows.
fn places(rows: &[Picked]) -> Vec<(&RecordBatch, usize)> {
    let n_rows = n_rows_of(rows);
    let n_looked_at = n_rows.min(SAMPLE);
    let (mut part, mut before) = (rows.iter(), 0);
    let mut present = part.next();
    let place = |n: usize| {
        let at = n * n_rows / n_looked_at;
        while let Some(picked) = present.filter(|picked| at >= before + picked.len()) {
            before += picked.len();
            present = part.next();
        }
        present.expect("fewer rows than there are").at(at - before)
    };
    (0..n_looked_at).map(place).collect()
}

fn sampled(places: &[(&RecordBatch, usize)], column: usize) -> Values {
    let hashes = places.iter().filter_map(|(batch, row)| hash(batch.column(column), *row)).collect();
    Values { hashes, n_looked_at: places.len() }
}

/// The values of a map, all keys together, are a column of their own in the file.
fn map_values(
    entries: &Field,
    field: &Field,
    rows: &[Picked],
    column: usize,
) -> Option<(ColumnPath, Values)> {
    let DataType::Struct(fields) = entries.data_type() else { return None };
    let path = [field.name(), entries.name(), fields[1].name()].map(|part| part.to_owned());
    let mut hashes = Vec::new();
    let mut n_looked_at = 0;
    let places = rows.iter().flat_map(|rows| (0..rows.len()).map(|n| rows.at(n)));
    for (batch, row) in places {
        if hashes.len() >= SAMPLE {
            break;
        }
        let map = batch.column(column).as_map();
        let entries = map.offsets()[row] as usize..map.offsets()[row + 1] as usize;
        hashes.extend(entries.filter_map(|entry| hash(map.values(), entry)));
        n_looked_at += 1;
    }
    Some((ColumnPath::new(path.to_vec()), Values { hashes, n_looked_at }))
}

fn hash(array: &ArrayRef, row: usize) -> Option<u64> {
    if array.is_null(row) {
        return None;
    }
    let number = |value: i64| crc32fast::hash(&value.to_le_bytes()).into();
    match array.data_type() {
        DataType::Utf8 => {
            let text = array.as_string::<i32>().value(row);
            Some(u64::from(crc32fast::hash(text.as_bytes())) | (text.len() as u64) << 32)
        }
        DataType::Int64 => Some(number(array.as_primitive::<Int64Type>().value(row))),
        DataType::Timestamp(_, _) => {
            Some(number(array.as_primitive::<TimestampMicrosecondType>().value(row)))
        }
        _ => None,
    }
}

/// How often each different value stands in so many rows, about; `None` where too few were seen to tell.
///
/// Of `s` values that were drawn, `r` were drawn before. Where `d` different ones are equally frequent, `r` is
/// about `s² / 2d` as long as that is a small part of `s` (the birthday problem).
fn repetition(values: Values, n_rows: u64) -> Option<f64> {
    let n_drawn = values.hashes.len();
    let mut different = values.hashes;
    different.sort_unstable();
    different.dedup();
    let n_different = different.len();
    let n_repeated = n_drawn - n_different;
    let n_values = n_rows as f64 * n_drawn as f64 / values.n_looked_at.max(1) as f64;
    if n_drawn < 2 {
        return None;
    }
    let by_chance = (n_drawn * n_drawn) as f64 / (2 * n_repeated) as f64;
    let different = if n_repeated * 4 > n_drawn { n_different as f64 } else { by_chance };
    Some(n_values / different)
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

    fn repetition_of(values: impl Iterator<Item = u64>, n_looked_at: usize, n_rows: u64) -> f64 {
        repetition(Values { hashes: values.collect(), n_looked_at }, n_rows).unwrap()
    }

    #[test]
    fn repetitions_in_a_file_are_told_from_a_sample() {
        let all_different = repetition_of(0..1024, 1024, 100_000);
        assert!(all_different < WORTH_A_DICTIONARY, "{all_different}");
        let few = repetition_of((0..1024).map(|n| n % 7), 1024, 100_000);
        assert!(few > 10_000.0, "{few}");
        // 2,000 customers of 100,000 charges.
        let mut random = fastrand::Rng::with_seed(7);
        let customers =
            repetition_of(std::iter::repeat_with(|| random.u64(..2_000)).take(1024), 1024, 100_000);
        assert!((30.0..80.0).contains(&customers), "{customers}");
        // The same, in a file of a month.
        let month = repetition_of(std::iter::repeat_with(|| random.u64(..2_000)).take(1024), 1024, 4_000);
        assert!(month < WORTH_A_DICTIONARY, "{month}");
        // A column with a value in every tenth row.
        let sparse = repetition_of(0..100, 1000, 10_000);
        assert!(sparse < WORTH_A_DICTIONARY, "{sparse}");
    }
}
