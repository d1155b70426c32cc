//! Turns a batch into the bytes that it keeps in memory.

use std::collections::HashSet;

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch};

use crate::nulls::is_null;

/// The bytes of the buffers that a batch refers to, each counted once.
///
/// Columns of a batch that was read from a file may be slices of one buffer;
/// `RecordBatch::get_array_memory_size` counts it whole for each of them.
pub fn bytes_of(batch: &RecordBatch) -> usize {
    let mut seen = HashSet::new();
    batch.columns().iter().map(|column| bytes_of_data(&column.to_data(), &mut seen)).sum()
}

/// What an array takes besides its values, about: itself, its buffers' owners, what the allocator rounds up.
const BYTES_PER_ARRAY: usize = 400;

/// The bytes that the rows of a batch take, without what lies around a slice. Columns without a value
/// share their arrays and count as nothing.
pub fn slice_bytes_of(batch: &RecordBatch) -> usize {
    let has_values = |column: &&ArrayRef| !is_null(column);
    let size = |column: &ArrayRef| column.to_data().get_slice_memory_size();
    // An array that cannot say counts whole.
    let columns = batch.columns().iter().filter(has_values);
    let whole = |column: &ArrayRef| column.get_array_memory_size();
    columns.map(|column| BYTES_PER_ARRAY + size(column).unwrap_or_else(|_| whole(column))).sum()
}

fn bytes_of_data(data: &ArrayData, seen: &mut HashSet<usize>) -> usize {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    let mut n_bytes = 0;
    for buffer in data.buffers().iter().chain(nulls) {
        if seen.insert(buffer.data_ptr().as_ptr() as usize) {
            n_bytes += buffer.capacity();
        }
    }
    n_bytes + data.child_data().iter().map(|child| bytes_of_data(child, seen)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn a_buffer_that_columns_share_counts_once() {
        let numbers = Int64Array::from_iter_values(0..1000);
        let column = |at: usize| -> ArrayRef { Arc::new(numbers.slice(at * 100, 100)) };
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let batch = RecordBatch::try_from_iter(names.iter().enumerate().map(|(at, n)| (*n, column(at))));
        assert_eq!(bytes_of(&batch.unwrap()), 8000);
    }
}
