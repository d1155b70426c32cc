//! Turns rows that stand in a file of the lake, too, into rows in memory again when a merge comes to them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;

use crate::encode::created_of;
use crate::error::{Error, Result, files_hint};
use crate::ipc;
use crate::partition::{Partition, rows_at};

/// Where a decoded batch stands in a file, as soon as it does. The file stays until the rows are committed.
#[derive(Clone, Default)]
pub struct FileCopy(Arc<OnceLock<Stretch>>);

/// Opens a file that stays where it is. Open files are few, and there may be hundreds of these.
pub type Opener = Arc<dyn Fn() -> io::Result<File> + Send + Sync>;

/// One Arrow stream in a file.
pub struct Stretch {
    pub file: Opener,
    pub at: u64,
    pub n_bytes: u64,
    pub crc32: u32,
}

impl Stretch {
    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut file = (self.file)()?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = vec![0; self.n_bytes as usize];
        file.read_exact(&mut bytes)?;
        match crc32fast::hash(&bytes) == self.crc32 {
            true => Ok(bytes),
            false => Err(io::Error::other("its bytes are not those that were written")),
        }
    }
}

impl FileCopy {
    pub fn stands_at(&self, stretch: Stretch) {
        assert!(self.0.set(stretch).is_ok(), "a batch is written once");
    }

    pub fn is_there(&self) -> bool {
        self.0.get().is_some()
    }
}

/// Rows of one partition that were let go.
#[derive(Clone)]
pub struct Away {
    copy: FileCopy,
    partition: Partition,
    /// The first and the last `created`, in microseconds.
    created: (i64, i64),
    pub n_bytes: usize,
}

impl Away {
    /// The rows of `batch`, which the copy holds with those of other partitions.
    pub fn new(copy: FileCopy, partition: Partition, batch: &RecordBatch, n_bytes: usize) -> Away {
        let created = created_of(batch);
        let values = || created.iter().flat_map(|created| created.values().iter().copied());
        let created = (values().min().unwrap_or(0), values().max().unwrap_or(0));
        Away { copy, partition, created, n_bytes }
    }

    pub fn read(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        let stretch = self.copy.0.get().expect("what was let go stands in a file");
        let read = || -> std::result::Result<RecordBatch, ArrowError> {
            let bytes = stretch.bytes()?;
            let mut stream = StreamReader::try_new(bytes.as_slice(), None)?;
            let missing = || ArrowError::IpcError("expected rows, got none".to_owned());
            let batch = stream.next().ok_or_else(missing)??;
            let span = self.partition.span();
            ipc::widen(&rows_at(&batch, |second| span.contains(&second)), schema)
        };
        read().map_err(|e| {
            let hint = files_hint(&e)
                .unwrap_or("run the same command again: what has gone or is damaged is read anew");
            Error::destination(format!("rows that wait for their partition: {e}")).hint(hint)
        })
    }
}

/// In the order of their time; what overlaps is together.
pub fn clusters(mut away: Vec<Away>) -> Vec<Vec<Away>> {
    away.sort_by_key(|away| away.created);
    let mut clusters: Vec<Vec<Away>> = Vec::new();
    let mut end = i64::MIN;
    for away in away {
        let (first, last) = away.created;
        match clusters.last_mut().filter(|_| first <= end) {
            Some(cluster) => cluster.push(away),
            None => clusters.push(vec![away]),
        }
        end = end.max(last);
    }
    clusters
}

/// The rows of a cluster.
pub fn read_all(cluster: &[Away], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    cluster.iter().map(|away| away.read(schema)).collect()
}

#[cfg(test)]
mod tests;
