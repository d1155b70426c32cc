//! Makes columns without values; those of one type share one array.

use std::collections::HashMap;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::DataType;

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
