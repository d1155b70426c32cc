//! Turns rows of batches in memory into the order in which they are written, a column at a time.
//!
//! The rows are copied only when their column is encoded: what is copied is then still near the processor, and
//! no more of it is there than a piece of each column that is being encoded.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::interleave;
use arrow::error::ArrowError;

use crate::encode::gather::gather;
use crate::encode::memory::bytes_of;
use crate::encode::reorder::{Piece, Stretches, reordered};
use crate::error::Result;
use crate::nulls;

/// Rows of one column that are copied at once.
const ROWS_PER_PIECE: usize = 4096;

/// Rows in an order of their own. The batches have one schema.
#[derive(Debug, Clone)]
pub struct Picked {
    batches: Vec<RecordBatch>,
    /// `None` for the rows of the only batch as they stand.
    rows: Option<Order>,
}

#[derive(Debug, Clone)]
struct Order {
    /// Each `(batch, row)`.
    rows: Vec<(usize, usize)>,
    stretches: Stretches,
}

impl From<RecordBatch> for Picked {
    fn from(batch: RecordBatch) -> Picked {
        Picked { batches: vec![batch], rows: None }
    }
}

impl Picked {
    /// The rows, each `(batch, row)`, in their order.
    pub fn new(batches: Vec<RecordBatch>, rows: Vec<(usize, usize)>) -> Picked {
        let is_slice = rows.first().is_some_and(|(batch, first)| {
            rows.iter().enumerate().all(|(n, row)| *row == (*batch, first + n))
        });
        match rows.first() {
            Some((batch, first)) if is_slice => Picked::from(batches[*batch].slice(*first, rows.len())),
            _ => Picked { batches, rows: Some(Order { stretches: Stretches::of(&rows), rows }) },
        }
    }

    pub fn len(&self) -> usize {
        self.rows.as_ref().map_or_else(|| self.batches[0].num_rows(), |order| order.rows.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batch and the row that row `n` is.
    pub fn at(&self, n: usize) -> (&RecordBatch, usize) {
        match &self.rows {
            None => (&self.batches[0], n),
            Some(Order { rows, .. }) => (&self.batches[rows[n].0], rows[n].1),
        }
    }

    /// A column of text of each batch, and where the rows stand, in their order.
    pub fn texts(&self, column: &str) -> (Vec<&StringArray>, impl Iterator<Item = (usize, usize)>) {
        let text =
            |batch: &'_ RecordBatch| batch.schema_ref().index_of(column).expect("a column of the schema");
        let texts = self.batches.iter().map(|batch| batch.column(text(batch)).as_string()).collect();
        let place = |n: usize| self.rows.as_ref().map_or((0, n), |order| order.rows[n]);
        (texts, (0..self.len()).map(place))
    }

    /// The bytes of the batches that the rows are in.
    pub fn n_bytes(&self) -> usize {
        self.batches.iter().map(bytes_of).sum()
    }

    /// Copied into one batch.
    pub fn gathered(&self) -> Result<RecordBatch> {
        match &self.rows {
            None => Ok(self.batches[0].clone()),
            Some(Order { rows, .. }) => gather(&self.batches.iter().collect::<Vec<_>>(), rows),
        }
    }

    /// Whether a column holds nothing in any of the batches.
    pub fn is_null(&self, column: usize) -> bool {
        self.batches.iter().all(|batch| nulls::is_null(batch.column(column)))
    }

    /// The same for every column.
    pub fn part(&self, rows: Range<usize>) -> Part<'_> {
        let ranges = rows.clone().step_by(ROWS_PER_PIECE);
        let ranges = ranges.map(|start| start..rows.end.min(start + ROWS_PER_PIECE));
        let pieces = match &self.rows {
            Some(order) => ranges.map(|range| order.stretches.piece(range)).collect(),
            None => Vec::new(),
        };
        Part { picked: self, rows, pieces }
    }
}

/// Some of the rows, as pieces that are copied at once.
pub struct Part<'a> {
    picked: &'a Picked,
    rows: Range<usize>,
    /// None where the rows are those of the only batch as they stand.
    pieces: Vec<Piece>,
}

impl Part<'_> {
    /// Hands a column's values in these rows to `take`, piece by piece, and text as bytes where it is copied.
    pub fn each_piece<E: From<ArrowError>>(
        &self,
        column: usize,
        mut take: impl FnMut(ArrayRef) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let (batches, rows) = (&self.picked.batches, &self.rows);
        if self.picked.rows.is_none() {
            return take(batches[0].column(column).slice(rows.start, rows.len()));
        }
        if self.picked.is_null(column) {
            return take(new_null_array(batches[0].column(column).data_type(), rows.len()));
        }
        self.pieces.iter().try_for_each(|piece| {
            let array = |batch: &usize| batches[*batch].column(column).as_ref();
            let arrays: Vec<&dyn Array> = piece.batches.iter().map(array).collect();
            take(match reordered(&arrays, &piece.stretches) {
                Some(array) => array,
                None => interleave(&arrays, &piece.rows())?,
            })
        })
    }
}
