//! Turns batches into the order of their rows, each id once.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

use crate::decode::schema::SYNCED_AT;
use crate::encode::created_of;
use crate::encode::gather::gather;
use crate::error::Result;

/// Rows of a batch that comes out of a run, at most.
const ROWS_PER_BATCH: usize = 2048;

/// The rows of `batches` in order of `created` and `id`, the newest observation of each id.
///
/// Batches come in the order of their observation: of two equal times the later batch wins.
pub fn sorted(batches: Vec<RecordBatch>) -> impl Iterator<Item = Result<RecordBatch>> + Send {
    let order = order(&batches);
    let n_chunks = order.len().div_ceil(ROWS_PER_BATCH);
    (0..n_chunks).map(move |chunk| {
        let end = order.len().min((chunk + 1) * ROWS_PER_BATCH);
        let rows = &order[chunk * ROWS_PER_BATCH..end];
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        gather(&batches, rows)
    })
}

/// Where the rows stand, as `(batch, row)`, in order and each id once.
pub fn order(batches: &[RecordBatch]) -> Vec<(usize, usize)> {
    let columns: Vec<_> = batches
        .iter()
        .map(|batch| {
            let ids = batch.column_by_name("id").expect("every table has an id");
            let synced_at = batch.column_by_name(SYNCED_AT).expect("a system column");
            let synced_at = synced_at.as_primitive::<TimestampMicrosecondType>().clone();
            (created_of(batch), ids.as_string::<i32>().clone(), synced_at)
        })
        .collect();
    let mut keys = Vec::new();
    for (n, (created, ids, synced_at)) in columns.iter().enumerate() {
        for row in 0..ids.len() {
            let created = created.as_ref().map_or(0, |c| c.value(row));
            keys.push((created, ids.value(row), Newest(synced_at.value(row), n, row)));
        }
    }
    // Pages are in the opposite order, which this sort turns round at once.
    keys.sort();
    keys.dedup_by(|later, first| later.0 == first.0 && later.1 == first.1);
    keys.into_iter().map(|(_, _, Newest(_, batch, row))| (batch, row)).collect()
}

/// Orders observations from the newest to the oldest.
#[derive(PartialEq, Eq)]
struct Newest(i64, usize, usize);

impl Ord for Newest {
    fn cmp(&self, other: &Newest) -> std::cmp::Ordering {
        (other.0, other.1, other.2).cmp(&(self.0, self.1, self.2))
    }
}

impl PartialOrd for Newest {
    fn partial_cmp(&self, other: &Newest) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
