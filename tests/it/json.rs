//! Turns record batches into rows of JSON, so that a test compares and prints them.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use serde_json::{Map, Value};

/// One row: its columns by name, those that are null left out.
pub type Row = Map<String, Value>;

pub fn rows(batch: &RecordBatch) -> Vec<Row> {
    let schema = batch.schema();
    let row = |n: usize| {
        let columns = schema.fields().iter().zip(batch.columns());
        let values = columns.map(|(field, column)| (field.name().clone(), value(column, n)));
        values.filter(|(_, value)| !value.is_null()).collect()
    };
    (0..batch.num_rows()).map(row).collect()
}

fn value(column: &ArrayRef, n: usize) -> Value {
    if column.is_null(n) {
        return Value::Null;
    }
    let list = |items: ArrayRef| (0..items.len()).map(|n| value(&items, n)).collect::<Vec<_>>();
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(n).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(n).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(n).into(),
        DataType::Boolean => column.as_boolean().value(n).into(),
        // Microseconds, as the file has them.
        DataType::Timestamp(_, _) => column.as_primitive::<TimestampMicrosecondType>().value(n).into(),
        DataType::Decimal128(_, _) => column.as_primitive::<Decimal128Type>().value_as_string(n).into(),
        DataType::List(_) => list(column.as_list::<i32>().value(n)).into(),
        DataType::Map(_, _) => {
            let entries = column.as_map().value(n);
            let text = |column: &ArrayRef, n| value(column, n).as_str().unwrap_or_default().to_owned();
            (0..entries.len())
                .map(|n| (text(entries.column(0), n), value(entries.column(1), n)))
                .collect::<Map<_, _>>()
                .into()
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(column.as_struct().columns());
            columns
                .map(|(field, column)| (field.name().clone(), value(column, n)))
                .collect::<Map<_, _>>()
                .into()
        }
        other => panic!("no column of ours is of type {other}"),
    }
}
