//! Knows columns without values, and makes them; those of one type share one array.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::DataType;

/// Whether no row of the column has a value.
pub fn is_null(column: &dyn Array) -> bool {
    column.null_count() == column.len()
}

/// The null arrays of one batch. Most columns of Stripe's objects hold nothing.
#[derive(Debug)]
pub struct NullArrays<'a> {
    n_rows: usize,
    by_type: HashMap<&'a DataType, ArrayRef>,
}

impl<'a> NullArrays<'a> {
    pub fn new(n_rows: usize) -> NullArrays<'a> {
        NullArrays { n_rows, by_type: HashMap::new() }
    }

    /// As many nulls as the batch has rows.
    pub fn of(&mut self, data_type: &'a DataType) -> ArrayRef {
        let make = |data_type: &&DataType| new_null_array(data_type, self.n_rows);
        self.by_type.entry(data_type).or_insert_with_key(make).clone()
    }
}
