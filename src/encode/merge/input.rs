//! Turns a run, or rows in memory, into rows that a merge takes one after the other.

use arrow::array::{AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;

use crate::decode::schema::SYNCED_AT;
use crate::encode::created_of;
use crate::encode::merge::Run;
use crate::encode::picked::Picked;
use crate::error::Result;

/// Rows of one table, oldest observation of an id first.
pub enum Source {
    Run(Run),
    /// Rows in memory, in ascending order of `created` and `id`, no id twice.
    Sorted(Vec<RecordBatch>, Vec<(usize, usize)>),
}

impl From<Run> for Source {
    fn from(run: Run) -> Source {
        Source::Run(run)
    }
}

/// A batch, and what its rows are compared by.
pub struct Keyed {
    pub batch: RecordBatch,
    created: Option<TimestampMicrosecondArray>,
    ids: StringArray,
    pub synced_at: TimestampMicrosecondArray,
    /// Where it stands among the batches that the output refers to.
    pub held: Option<usize>,
}

/// One input and its place in it.
pub struct Input {
    /// What comes behind these batches.
    pub run: Option<Run>,
    pub batches: Vec<Keyed>,
    /// `None` for the rows of the only batch as they stand.
    order: Option<Vec<(usize, usize)>>,
    pub at: usize,
}

impl Input {
    /// `None` when there are no rows.
    pub fn start(source: Source) -> Result<Option<Input>> {
        match source {
            Source::Run(mut run) => {
                let Some(batch) = next_batch(&mut run)? else { return Ok(None) };
                Ok(Some(Input { run: Some(run), batches: vec![keyed(batch)], order: None, at: 0 }))
            }
            Source::Sorted(_, order) if order.is_empty() => Ok(None),
            Source::Sorted(batches, order) => {
                let batches = batches.into_iter().map(keyed).collect();
                Ok(Some(Input { run: None, batches, order: Some(order), at: 0 }))
            }
        }
    }

    pub fn place(&self) -> (usize, usize) {
        self.order.as_ref().map_or((0, self.at), |order| order[self.at])
    }

    pub fn row(&self) -> (&Keyed, usize) {
        let (batch, row) = self.place();
        (&self.batches[batch], row)
    }

    pub fn n_rows(&self) -> usize {
        self.order.as_ref().map_or_else(|| self.batches[0].batch.num_rows(), Vec::len)
    }

    pub fn key(&self) -> (i64, &str) {
        let (keyed, row) = self.row();
        (keyed.created.as_ref().map_or(0, |c| c.value(row)), keyed.ids.value(row))
    }

    /// Whether there is another row.
    pub fn advance(&mut self) -> Result<bool> {
        self.at += 1;
        if self.at < self.n_rows() {
            return Ok(true);
        }
        let Some(batch) = self.run.as_mut().map(next_batch).transpose()?.flatten() else { return Ok(false) };
        (self.batches[0], self.at) = (keyed(batch), 0);
        Ok(true)
    }

    /// The rows from here on that are in memory.
    pub fn rest(&self) -> Picked {
        match &self.order {
            None => Picked::from(self.batches[0].batch.slice(self.at, self.n_rows() - self.at)),
            Some(order) => {
                let batches = self.batches.iter().map(|keyed| keyed.batch.clone()).collect();
                Picked::new(batches, order[self.at..].to_vec())
            }
        }
    }
}

fn next_batch(run: &mut Run) -> Result<Option<RecordBatch>> {
    for batch in run {
        let batch = batch?;
        if batch.num_rows() > 0 {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}

fn keyed(batch: RecordBatch) -> Keyed {
    let ids = batch.column_by_name("id").expect("every table has an id").as_string::<i32>().clone();
    let synced_at = batch.column_by_name(SYNCED_AT).expect("a system column");
    let synced_at = synced_at.as_primitive::<TimestampMicrosecondType>().clone();
    Keyed { created: created_of(&batch), ids, synced_at, batch, held: None }
}
