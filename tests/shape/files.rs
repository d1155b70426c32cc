//! Turns rows into Parquet files, and expects readers to find order, row groups, pages and bloom filters.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use bytes::Bytes;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use proptest::prelude::*;
use stripelake::catalog::Resource;
use stripelake::decode::schema::arrow_schema;
use stripelake::decode::{Decoder, Options};
use stripelake::encode::{self, Home, Notes, Written, old};
use stripelake::error::Kind;
use stripelake::partition::Grain;
use stripelake::spool::sorted;

use crate::decoders::OBSERVED_AT;
use crate::lake;
use crate::objects::{cases, catalog};

fn refunds() -> Arc<Resource> {
    catalog().get("refunds").unwrap().clone()
}

/// Refunds with these seconds of creation, as one unsorted batch without the in-memory column.
fn batch(created: &[i64]) -> RecordBatch {
    let mut decoder = Decoder::new(&refunds(), &[], Options::default());
    for (n, created) in created.iter().enumerate() {
        let id = n.wrapping_mul(7919) % 10_000;
        let body = format!(r#"{{"id":"re_{id}_{n}","object":"refund","created":{created},"amount":{n}}}"#);
        decoder.push_objects(body.as_bytes(), OBSERVED_AT).unwrap();
    }
    let batch = decoder.flush().parent.unwrap();
    batch.project(&(0..batch.num_columns() - 1).collect::<Vec<_>>()).unwrap()
}

fn write(batch: &RecordBatch, rows_per_group: usize) -> (Bytes, Written) {
    let mut bytes = Vec::new();
    let options = encode::Options { rows_per_group, ..encode::Options::default() };
    // A schema of its own each time: the order of its metadata must not reach the file.
    let schema = arrow_schema(&refunds());
    let rows = sorted(vec![batch.clone()]);
    let written = encode::write(
        &mut bytes,
        &schema,
        &lake::notes("refunds/refunds.parquet"),
        rows,
        batch.num_rows() as u64,
        options,
    )
    .unwrap();
    (bytes.into(), written)
}

fn metadata(bytes: &Bytes) -> ParquetMetaData {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    reader.parse_and_finish(bytes).unwrap()
}

fn column_named(metadata: &ParquetMetaData, name: &str) -> usize {
    let columns = metadata.file_metadata().schema_descr().columns();
    columns.iter().position(|c| c.path().string() == name).unwrap()
}

/// `created` and `id` of every row, in the order of the file.
fn keys(batch: &RecordBatch) -> Vec<(i64, String)> {
    let created = batch.column_by_name("created").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
    let ids = batch.column_by_name("id").unwrap().as_string::<i32>().clone();
    (0..batch.num_rows()).map(|row| (created.value(row), ids.value(row).to_owned())).collect()
}

proptest! {
    #![proptest_config(cases(30))]

    #[test]
    fn a_file_is_sorted_complete_and_the_same_bytes_every_time(
        created in prop::collection::vec(1_600_000_000i64..1_600_000_400, 1..400),
        rows_per_group in 10usize..200,
    ) {
        let batch = batch(&created);
        let (bytes, written) = write(&batch, rows_per_group);
        prop_assert_eq!(&bytes, &write(&batch, rows_per_group).0);
        prop_assert_eq!(written.n_rows as usize, created.len());
        prop_assert_eq!(written.n_bytes as usize, bytes.len());
        prop_assert_eq!(written.crc32, format!("{:08x}", crc32fast::hash(&bytes)));
        let (min, max) = (created.iter().min().unwrap(), created.iter().max().unwrap());
        prop_assert_eq!(written.created, Some((min * 1_000_000, max * 1_000_000)));

        let mut expected = keys(&batch);
        expected.sort();
        prop_assert_eq!(keys(&lake::read(&bytes)), expected);
    }

    #[test]
    fn row_groups_hold_narrow_ranges_of_created(
        created in prop::collection::vec(1_600_000_000i64..1_600_000_400, 1..400),
        rows_per_group in 10usize..200,
    ) {
        let (bytes, _) = write(&batch(&created), rows_per_group);
        let metadata = metadata(&bytes);
        prop_assert_eq!(metadata.num_row_groups(), created.len().div_ceil(rows_per_group));
        let at = column_named(&metadata, "created");
        let mut last = i64::MIN;
        for group in metadata.row_groups() {
            prop_assert!(group.num_rows() as usize <= rows_per_group);
            let Some(parquet::file::statistics::Statistics::Int64(range)) = group.column(at).statistics() else {
                panic!("created has statistics");
            };
            prop_assert!(last <= *range.min_opt().unwrap());
            last = *range.max_opt().unwrap();
        }
    }
}

#[test]
fn readers_find_the_order_the_pages_and_the_bloom_filter() {
    let created: Vec<i64> = (0..3000).map(|n| 1_600_000_000 + n % 700).collect();
    let (bytes, _) = write(&batch(&created), 1000);
    let metadata = metadata(&bytes);
    let (id, at) = (column_named(&metadata, "id"), column_named(&metadata, "created"));
    for (n, group) in metadata.row_groups().iter().enumerate() {
        let order: Vec<i32> = group.sorting_columns().unwrap().iter().map(|c| c.column_idx).collect();
        assert_eq!(order, [at as i32, id as i32]);
        assert!(metadata.offset_index().unwrap()[n].iter().all(|pages| !pages.page_locations().is_empty()));
        let index = &metadata.column_index().unwrap()[n];
        for column in [id, at] {
            assert!(!matches!(
                index[column],
                parquet::file::page_index::column_index::ColumnIndexMetaData::NONE
            ));
        }
    }
    check_bloom_filter(&bytes, id);
}

/// Expects every id that is there to be found, and of those that are not only few.
fn check_bloom_filter(bytes: &Bytes, id: usize) {
    let properties = ReaderProperties::builder().set_read_bloom_filter(true).build();
    let options = ReadOptionsBuilder::new().with_reader_properties(properties).build();
    let reader = SerializedFileReader::new_with_options(bytes.clone(), options).unwrap();
    let rows = lake::read(bytes);
    let ids = rows.column_by_name("id").unwrap().as_string::<i32>().clone();
    let mut n_wrong = 0;
    for group in 0..reader.num_row_groups() {
        let reader = reader.get_row_group(group).unwrap();
        let filter = reader.get_column_bloom_filter(id).expect("id has a bloom filter");
        for row in group * 1000..(group + 1) * 1000 {
            assert!(filter.check(&ids.value(row)));
        }
        n_wrong += (0..10_000).filter(|n| filter.check(&format!("re_absent_{n}").as_str())).count();
    }
    assert!(n_wrong < 600, "expected about 1 % of 30,000 absent ids, got {n_wrong}");
    assert_eq!(ids.null_count(), 0);
}

#[test]
fn a_file_of_every_resource_has_the_full_schema_even_without_rows() {
    for resource in catalog().resources {
        let schema = arrow_schema(&resource);
        let mut bytes = Vec::new();
        encode::write(
            &mut bytes,
            &schema,
            &lake::notes(&Grain::Whole.partition_of(0).path(&resource.name)),
            std::iter::empty::<Result<RecordBatch, _>>(),
            0,
            encode::Options::default(),
        )
        .unwrap();
        let read = lake::read(&bytes.into());
        assert_eq!(read.num_rows(), 0);
        assert_eq!(read.schema().fields(), schema.fields(), "{}", resource.name);
    }
}

/// [S7] The bytes of the rows have a checksum in the footer, and the footer has its own.
#[test]
fn s7_a_flipped_bit_is_found_wherever_it_is() {
    let (bytes, _) = write(&batch(&(0..300).map(|n| 1_600_000_000 + n).collect::<Vec<_>>()), 1_000);
    let open = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        old::open(file, false, &lake::home("refunds/refunds.parquet")).map(|old| old.n_rows)
    };
    assert_eq!(open(&bytes).unwrap(), 300);
    let rows_end =
        bytes.len() - u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap()) as usize;
    // All of the footer, and some of what is before it.
    let places = (rows_end - 8..bytes.len()).chain((0..rows_end).step_by(97));
    for at in places {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at % 8);
        let error = open(&damaged).expect_err(&format!("at {at} of {}", bytes.len()));
        assert!(error.is_damage(), "{at}: {error}");
    }
}

#[test]
fn s7_a_file_says_whose_it_is_and_is_nobody_elses() {
    let home = |owner: Option<&str>| Home { owner: owner.map(Arc::from), ..lake::home("charges.parquet") };
    let rows = batch(&[1_600_000_000]);
    let written = |owner| {
        let notes = Notes { home: home(owner), ..Notes::default() };
        let mut file = tempfile::tempfile().unwrap();
        let schema = arrow_schema(&refunds());
        encode::write(&mut file, &schema, &notes, sorted(vec![rows.clone()]), 1, Default::default()).unwrap();
        file
    };
    let (ours, theirs) = (Some("acct_1 live"), Some("acct_1 test"));
    for (owner, reader, is_taken) in [
        (ours, ours, true),
        (ours, theirs, false),
        (ours, None, true),
        (None, ours, true),
        (None, None, true),
    ] {
        let opened = old::open(written(owner), false, &home(reader));
        assert_eq!(opened.err().map(|error| error.kind()), (!is_taken).then_some(Kind::Integrity));
    }
}

#[test]
fn a_row_group_is_bounded_by_its_bytes_too() {
    let batch = batch(&(0..30_000).map(|n| 1_600_000_000 + n).collect::<Vec<_>>());
    let rows = sorted((0..batch.num_rows()).step_by(1_000).map(|at| batch.slice(at, 1_000)).collect());
    let mut bytes = Vec::new();
    let options = encode::Options { bytes_per_group: 50_000, ..encode::Options::default() };
    let schema = arrow_schema(&refunds());
    encode::write(&mut bytes, &schema, &lake::notes("refunds/refunds.parquet"), rows, 30_000, options)
        .unwrap();
    let bytes = Bytes::from(bytes);
    let groups = metadata(&bytes).num_row_groups();
    assert!((3..=30).contains(&groups), "{groups}");
    assert_eq!(keys(&lake::read(&bytes)).len(), 30_000);
}
