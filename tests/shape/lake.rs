//! Turns batches into Parquet files in memory by the way that a run takes, and reads them back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use stripelake::catalog::Resource;
use stripelake::decode::older::Older;
use stripelake::decode::schema::arrow_schema;
use stripelake::encode::merge::absent::Absent;
use stripelake::encode::merge::age::OldAge;
use stripelake::encode::merge::{Changes, Merge, Run};
use stripelake::encode::{self, Home, Notes, old};
use stripelake::partition::{Grain, Partition, split};
use stripelake::spool::{Budget, Spool};

/// The files of one table, by partition.
pub type Files = BTreeMap<Partition, Bytes>;

/// Partitions, gathers, merges with the old files and encodes.
///
/// `budget` is what may wait in memory, in bytes.
pub fn add(files: &mut Files, resource: &Resource, batches: &[RecordBatch], budget: usize) -> Changes {
    let schema = arrow_schema(resource);
    let options = encode::Options::default();
    let mut spool =
        Spool::new(resource.name.clone(), schema.clone(), Budget::new(budget), std::env::temp_dir(), options);
    for batch in batches {
        for (partition, rows) in split(batch, Grain::Year) {
            spool.push(partition, 0, rows, None).unwrap();
        }
    }
    let mut changes = Changes::default();
    for partition in spool.partitions() {
        let gathered = spool.take(&partition).unwrap().remove(0);
        let place = partition.path(&resource.name);
        let old = files.get(&partition).map(|bytes| present(bytes, &place, resource));
        let mut merge =
            Merge::new(old, gathered.sources().unwrap(), Absent::default(), OldAge::at_least()).unwrap();
        let mut bytes = Vec::new();
        encode::write(&mut bytes, &schema, &notes(&place), &mut merge, gathered.n_rows, options).unwrap();
        changes.add(merge.changes());
        files.insert(partition, bytes.into());
    }
    changes
}

/// A place in a lake of which nobody knows whose it is.
pub fn home(place: &str) -> Home {
    Home { place: place.to_owned(), owner: None }
}

pub fn notes(place: &str) -> Notes {
    Notes { home: home(place), ..Notes::default() }
}

/// The rows of a file in the resource's columns, as a merge gets them.
fn present(bytes: &[u8], place: &str, resource: &Resource) -> Run {
    let old = old::open(file(bytes), false, &home(place)).unwrap();
    let older = Older::new(&old.schema, resource);
    Box::new(old.run.map(move |batch| older.present(&batch?)))
}

/// The same rows in files of the resource's columns.
pub fn upgraded(files: &Files, resource: &Resource) -> Files {
    let schema = arrow_schema(resource);
    let rewrite = |partition: &Partition, bytes: &Bytes| {
        let place = partition.path(&resource.name);
        let merge = Merge::new(
            Some(present(bytes, &place, resource)),
            Vec::<Run>::new(),
            Absent::default(),
            OldAge::at_least(),
        );
        let mut upgraded = Vec::new();
        encode::write(&mut upgraded, &schema, &notes(&place), merge.unwrap(), 1, encode::Options::default())
            .unwrap();
        upgraded.into()
    };
    files.iter().map(|(partition, bytes)| (*partition, rewrite(partition, bytes))).collect()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// All rows of a file.
pub fn read(bytes: &Bytes) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// All rows of all files, by id.
pub fn rows(files: &Files) -> BTreeMap<String, (RecordBatch, usize)> {
    let mut rows = BTreeMap::new();
    for bytes in files.values() {
        let batch = read(bytes);
        let ids = batch.column_by_name("id").unwrap().as_string::<i32>().clone();
        for (row, id) in ids.iter().enumerate() {
            let twice = rows.insert(id.unwrap().to_owned(), (batch.clone(), row));
            assert!(twice.is_none(), "an id stands in the lake twice");
        }
    }
    rows
}
