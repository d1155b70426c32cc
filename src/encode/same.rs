//! Tells whether two rows hold the same values.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};

use crate::decode::schema::SYNCED_AT;

/// Whether row `i` of `a` equals row `j` of `b` in every column but `_synced_at`.
///
/// The batches have the same schema.
pub fn rows_are_same(a: &RecordBatch, i: usize, b: &RecordBatch, j: usize) -> bool {
    let fields = a.schema_ref().fields();
    let columns = a.columns().iter().zip(b.columns()).zip(fields);
    columns.filter(|(_, field)| field.name() != SYNCED_AT).all(|((a, b), _)| values_are_same(a, i, b, j))
}

fn values_are_same(a: &ArrayRef, i: usize, b: &ArrayRef, j: usize) -> bool {
    match (a.is_null(i), b.is_null(j)) {
        (true, true) => return true,
        (false, false) => {}
        _ => return false,
    }
    match a.data_type() {
        DataType::Utf8 => a.as_string::<i32>().value(i) == b.as_string::<i32>().value(j),
        DataType::Int64 => a.as_primitive::<Int64Type>().value(i) == b.as_primitive::<Int64Type>().value(j),
        DataType::Boolean => a.as_boolean().value(i) == b.as_boolean().value(j),
        DataType::Float64 => {
            let (a, b) = (a.as_primitive::<Float64Type>(), b.as_primitive::<Float64Type>());
            a.value(i).to_bits() == b.value(j).to_bits()
        }
        DataType::Timestamp(_, _) => {
            let (a, b) =
                (a.as_primitive::<TimestampMicrosecondType>(), b.as_primitive::<TimestampMicrosecondType>());
            a.value(i) == b.value(j)
        }
        DataType::Decimal128(_, _) => {
            a.as_primitive::<Decimal128Type>().value(i) == b.as_primitive::<Decimal128Type>().value(j)
        }
        _ => a.slice(i, 1) == b.slice(j, 1),
    }
}
