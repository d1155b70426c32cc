//! Turns a run, or rows in memory, into rows that a merge takes one after the other.

use arrow::array::{AsArray, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;

use crate::decode::schema::SYNCED_AT;
use crate::encode::created_of;
use crate::encode::merge::Run;
use crate::encode::picked::Picked;
use crate::error::{Error, Result};

/// Rows of one table, oldest observation of an id first.
pub enum Source {
    Run(Run),
    /// Rows in memory, in ascending order of `created` and `id`, no id twice.
    Sorted(Sorted),
    /// Such rows, those of one step before those of the next, which come into memory one after the other.
    Steps(Steps),
}

/// Rows of batches, each `(batch, row)`, in their order.
pub type Sorted = (Vec<RecordBatch>, Vec<(usize, usize)>);
pub type Steps = Box<dyn Iterator<Item = Result<Sorted>> + Send>;

impl From<Run> for Source {
    fn from(run: Run) -> Source {
        Source::Run(run)
    }
}

impl Source {
    /// The rows of which this is not true.
    pub fn without(self, is_out: impl Fn(&RecordBatch, usize) -> bool + Clone + Send + 'static) -> Source {
        let sorted_without = {
            let is_out = is_out.clone();
            move |(batches, mut order): Sorted| {
                order.retain(|(batch, row)| !is_out(&batches[*batch], *row));
                (batches, order)
            }
        };
        let batch_without = move |batch: RecordBatch| {
            let mask: BooleanArray = (0..batch.num_rows()).map(|row| Some(!is_out(&batch, row))).collect();
            filter_record_batch(&batch, &mask).map_err(|e| Error::bug(format!("merge: {e}")))
        };
        match self {
            Source::Run(run) => Source::Run(Box::new(run.map(move |batch| batch_without(batch?)))),
            Source::Sorted(sorted) => Source::Sorted(sorted_without(sorted)),
            Source::Steps(steps) => Source::Steps(Box::new(steps.map(move |step| step.map(&sorted_without)))),
        }
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
    rest: Rest,
    pub batches: Vec<Keyed>,
    /// `None` for the rows of the only batch as they stand.
    order: Option<Vec<(usize, usize)>>,
    pub at: usize,
}

/// What comes behind the batches of an input.
enum Rest {
    Nothing,
    Run(Run),
    Steps(Steps),
}

impl Input {
    /// `None` when there are no rows.
    pub fn start(source: Source) -> Result<Option<Input>> {
        let (rest, first) = match source {
            Source::Run(run) => (Rest::Run(run), None),
            Source::Steps(steps) => (Rest::Steps(steps), None),
            Source::Sorted(sorted) => (Rest::Nothing, Some(sorted)),
        };
        let mut input = Input { rest, batches: Vec::new(), order: None, at: 0 };
        let has_rows = match first.filter(|(_, order)| !order.is_empty()) {
            Some(sorted) => input.stand_in(sorted),
            None => input.load()?,
        };
        Ok(has_rows.then_some(input))
    }

    /// Whether its batches give way to others.
    pub fn is_passing(&self) -> bool {
        !matches!(self.rest, Rest::Nothing)
    }

    fn stand_in(&mut self, (batches, order): Sorted) -> bool {
        self.batches = batches.into_iter().map(keyed).collect();
        (self.order, self.at) = (Some(order), 0);
        true
    }

    /// Goes on to the next rows behind the batches.
    fn load(&mut self) -> Result<bool> {
        match &mut self.rest {
            Rest::Nothing => Ok(false),
            Rest::Run(run) => {
                let Some(batch) = next_batch(run)? else { return Ok(false) };
                (self.batches, self.at) = (vec![keyed(batch)], 0);
                Ok(true)
            }
            Rest::Steps(steps) => {
                let is_empty = |step: &Result<Sorted>| step.as_ref().is_ok_and(|(_, order)| order.is_empty());
                let Some(step) = steps.find(|step| !is_empty(step)).transpose()? else { return Ok(false) };
                Ok(self.stand_in(step))
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
        self.load()
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
