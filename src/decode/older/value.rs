//! Turns a column's value back into the JSON that it was made of, in the form that the new column takes.
//!
//! A number becomes text, and text or a decimal a number, only where nothing is lost, so that it reads
//! back as the very same. Where it would not, the value keeps a form that its new column refuses, and the
//! decoder puts it into `_extra`.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Field, Fields, Float64Type, Int64Type, Schema, TimeUnit,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;

use crate::catalog::{Column, ColumnKind};
use crate::decode::json_text::Reject;
use crate::decode::number::decimal;
use crate::decode::older::json::Json;
use crate::decode::schema::{is_json, json_path};

/// Whole numbers up to this size are exact in a 64-bit float.
const EXACT_IN_FLOAT: u64 = 1 << 53;

/// The value of `row`, which is not null. `becomes` is what will have it.
pub fn json_of(array: &ArrayRef, row: usize, becomes: Option<&ColumnKind>) -> Result<Json, Reject> {
    Ok(match array.data_type() {
        DataType::Utf8 => of_text(array.as_string::<i32>().value(row), becomes),
        DataType::Int64 => of_int(array.as_primitive::<Int64Type>().value(row), becomes),
        DataType::Float64 => of_float(array.as_primitive::<Float64Type>().value(row), becomes),
        DataType::Boolean => Json::Scalar(array.as_boolean().value(row).to_string()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            of_micros(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Decimal128(_, scale) => {
            of_decimal(array.as_primitive::<Decimal128Type>().value(row), *scale, becomes)
        }
        DataType::Map(_, _) => of_map(array, row)?,
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let items = (0..items.len()).map(|item| of_item(&items, item, becomes));
            Json::Array(items.collect::<Result<_, _>>()?)
        }
        other => return Err(Reject::new(format!("expected a type of this program's files, got {other}"))),
    })
}

fn of_text(value: &str, becomes: Option<&ColumnKind>) -> Json {
    let is_exact = match becomes {
        Some(ColumnKind::Int64 | ColumnKind::Timestamp) => {
            value.parse::<i64>().is_ok_and(|number| number.to_string() == value)
        }
        Some(ColumnKind::Float64) => value.parse::<f64>().is_ok_and(|number| number.to_string() == value),
        _ => false,
    };
    if is_exact { Json::Scalar(value.to_owned()) } else { Json::of_text(value) }
}

fn of_int(value: i64, becomes: Option<&ColumnKind>) -> Json {
    let is_exact = value.unsigned_abs() <= EXACT_IN_FLOAT;
    match becomes {
        Some(ColumnKind::Text | ColumnKind::Decimal) => quoted(&value.to_string()),
        Some(ColumnKind::Float64) if !is_exact => quoted(&value.to_string()),
        _ => Json::Scalar(value.to_string()),
    }
}

fn of_float(value: f64, becomes: Option<&ColumnKind>) -> Json {
    let is_whole = value.fract() == 0.0 && value.abs() <= EXACT_IN_FLOAT as f64;
    let is_minus_zero = value == 0.0 && value.is_sign_negative();
    let digits = value.to_string();
    match becomes {
        Some(ColumnKind::Int64 | ColumnKind::Timestamp) if is_whole && !is_minus_zero => Json::Scalar(digits),
        Some(ColumnKind::Text) => quoted(&digits),
        Some(ColumnKind::Decimal) if decimal(&digits).is_some() => quoted(&digits),
        _ => Json::Scalar(format!("{value:?}")),
    }
}

/// Stripe's times are whole seconds.
fn of_micros(value: i64) -> Json {
    let (secs, micros) = (value.div_euclid(1_000_000), value.rem_euclid(1_000_000));
    Json::Scalar(match micros {
        0 => secs.to_string(),
        _ => plain_decimal(i128::from(value), 6),
    })
}

fn of_decimal(value: i128, scale: i8, becomes: Option<&ColumnKind>) -> Json {
    let digits = plain_decimal(value, scale);
    let is_exact = match becomes {
        Some(ColumnKind::Int64) => digits.parse::<i64>().is_ok(),
        Some(ColumnKind::Float64) => digits.parse::<f64>().is_ok_and(|float| float.to_string() == digits),
        _ => false,
    };
    if is_exact { Json::Scalar(digits) } else { quoted(&digits) }
}

/// Without zeros at the end.
fn plain_decimal(value: i128, scale: i8) -> String {
    let (sign, digits) = (if value < 0 { "-" } else { "" }, value.unsigned_abs().to_string());
    let Ok(scale @ 1..) = usize::try_from(scale) else {
        return format!("{sign}{digits}{}", "0".repeat(usize::from(scale.unsigned_abs())));
    };
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    match part.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        part => format!("{sign}{whole}.{part}"),
    }
}

fn quoted(digits: &str) -> Json {
    Json::Scalar(format!("\"{digits}\""))
}

fn of_map(array: &ArrayRef, row: usize) -> Result<Json, Reject> {
    let entries = array.as_map().value(row);
    let (Some(keys), values) = (entries.column(0).as_string_opt::<i32>(), entries.column(1)) else {
        return Err(Reject::new(format!("expected a map of text, got {}", array.data_type())));
    };
    let members = (0..entries.len()).map(|entry| {
        let value = if values.is_null(entry) { null() } else { json_of(values, entry, None)? };
        Ok((keys.value(entry).to_owned(), value))
    });
    Ok(Json::Object(members.collect::<Result<_, _>>()?))
}

/// An item of a list: a text, or an object with a column for each of its members.
fn of_item(items: &ArrayRef, item: usize, becomes: Option<&ColumnKind>) -> Result<Json, Reject> {
    if items.is_null(item) {
        return Ok(null());
    }
    let DataType::Struct(fields) = items.data_type() else { return json_of(items, item, None) };
    let become_columns: &[Column] = match becomes {
        Some(ColumnKind::Structs(columns)) => columns,
        _ => &[],
    };
    let mut object = Json::Object(Vec::new());
    for (field, array) in fields.iter().zip(items.as_struct().columns()) {
        if array.is_null(item) {
            continue;
        }
        let path: Vec<String> =
            json_path(field).unwrap_or(field.name()).split('.').map(str::to_owned).collect();
        let becomes = become_columns.iter().find(|column| column.path == path).map(|column| &column.kind);
        let value = match array.as_string_opt::<i32>() {
            Some(texts) if is_json(field) => Json::parse(texts.value(item))?,
            _ => json_of(array, item, becomes)?,
        };
        object.add(value.under(&path));
    }
    Ok(object)
}

fn null() -> Json {
    Json::Scalar("null".to_owned())
}

/// The type of ours that holds every value of a type that another writer may have chosen.
pub fn common_type(data_type: &DataType) -> Option<DataType> {
    use DataType::{
        Dictionary, Float16, Float32, Int8, Int16, Int32, LargeUtf8, UInt8, UInt16, UInt32, Utf8View,
    };
    Some(match data_type {
        Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 => DataType::Int64,
        Float16 | Float32 => DataType::Float64,
        LargeUtf8 | Utf8View => DataType::Utf8,
        Dictionary(_, values) => common_type(values).unwrap_or_else(|| values.as_ref().clone()),
        _ => return None,
    })
}

/// The batch with types of ours wherever there is one for the same values.
pub fn with_common_types(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    if schema.fields().iter().all(|field| common_type(field.data_type()).is_none()) {
        return Ok(batch.clone());
    }
    let mut fields: Vec<Field> = Vec::new();
    let mut arrays = Vec::new();
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let data_type = common_type(field.data_type()).unwrap_or_else(|| field.data_type().clone());
        arrays.push(cast(array, &data_type)?);
        fields.push(field.as_ref().clone().with_data_type(data_type));
    }
    RecordBatch::try_new(Schema::new(Fields::from(fields)).into(), arrays)
}
