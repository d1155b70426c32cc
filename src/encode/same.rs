//! Tells whether two rows hold the same values.

mod json;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Fields, Float64Type, Int64Type, TimestampMicrosecondType};

use crate::decode::schema::{SYNCED_AT, is_json as is_json_field};
use crate::encode::same::json::is_same;

/// Whether row `i` of `a` equals row `j` of `b` in every column but `_synced_at`. In what order the members of a map or a JSON
/// object stand, and how their text is escaped, makes no difference.
///
/// The batches have the same schema.
pub fn rows_are_same(a: &RecordBatch, i: usize, b: &RecordBatch, j: usize) -> bool {
    columns_are_same(a.schema_ref().fields(), (a.columns(), i), (b.columns(), j))
}

fn columns_are_same(fields: &Fields, (a, i): (&[ArrayRef], usize), (b, j): (&[ArrayRef], usize)) -> bool {
    let columns = a.iter().zip(b).zip(fields);
    columns
        .filter(|(_, field)| field.name() != SYNCED_AT)
        .all(|((a, b), field)| values_are_same(a, i, b, j, is_json_field(field)))
}

fn values_are_same(a: &ArrayRef, i: usize, b: &ArrayRef, j: usize, is_json: bool) -> bool {
    match (a.is_null(i), b.is_null(j)) {
        (true, true) => return true,
        (false, false) => {}
        _ => return false,
    }
    match a.data_type() {
        DataType::Utf8 => {
            let (a, b) = (a.as_string::<i32>().value(i), b.as_string::<i32>().value(j));
            a == b || is_json && is_same(a, b)
        }
        DataType::Map(_, _) => {
            let (a, b) = (a.as_map(), b.as_map());
            a.value(i) == b.value(j) || members(a, i) == members(b, j)
        }
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
        DataType::List(item) => {
            let (a, b) = (a.as_list::<i32>().value(i), b.as_list::<i32>().value(j));
            a.len() == b.len() && (0..a.len()).all(|at| values_are_same(&a, at, &b, at, is_json_field(item)))
        }
        DataType::Struct(fields) => {
            columns_are_same(fields, (a.as_struct().columns(), i), (b.as_struct().columns(), j))
        }
        _ => a.slice(i, 1) == b.slice(j, 1),
    }
}

/// The members of a map of texts, by their names.
fn members(map: &MapArray, row: usize) -> Vec<(String, Option<String>)> {
    let entries = map.value(row);
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    let mut members: Vec<_> = keys
        .iter()
        .zip(values)
        .map(|(key, value)| (key.unwrap_or_default().to_owned(), value.map(str::to_owned)))
        .collect();
    members.sort_unstable();
    members
}
