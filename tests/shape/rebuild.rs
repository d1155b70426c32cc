//! Turns rows into objects again, and both rows and what was sent into one form that can be compared.
//!
//! The rule: typed columns at their paths, `<union>_other` merged at the union's path, then `_extra`
//! merged in place, arrays of objects index by index. What comes out equals what was sent up to absent,
//! null or empty object; of duplicate keys the last counts; members that hold credentials are gone.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use stripelake::catalog::{Column, ColumnKind, Resource};

use crate::json::{Json, number, parse, text};

/// The object that a row was made of, in comparable form.
pub fn object_of(batch: &RecordBatch, row: usize, resource: &Resource) -> Json {
    let columns: Vec<(&Column, &ArrayRef)> = resource.columns.iter().zip(batch.columns()).collect();
    let mut object = Json::Object(Vec::new());
    for (column, array) in &columns {
        if column.kind != ColumnKind::Rest && array.is_valid(row) {
            object.set(&column.path, value(&column.kind, array, row));
        }
    }
    for (column, array) in &columns {
        if column.kind == ColumnKind::Rest && array.is_valid(row) {
            let mut rest = Json::Object(Vec::new());
            rest.set(&column.path, stored(array, row));
            merge(&mut object, rest);
        }
    }
    let extra = batch.column_by_name("_extra").unwrap();
    if extra.is_valid(row) {
        merge(&mut object, stored(extra, row));
    }
    comparable(object, &resource.columns)
}

/// JSON text as it was stored.
fn stored(array: &ArrayRef, row: usize) -> Json {
    let text = array.as_string::<i32>().value(row);
    without_duplicates(parse(text).unwrap_or_else(|| panic!("no JSON: {text}")))
}

fn value(kind: &ColumnKind, array: &ArrayRef, row: usize) -> Json {
    match kind {
        ColumnKind::Text | ColumnKind::Ref => text(array.as_string::<i32>().value(row)),
        ColumnKind::Json | ColumnKind::Rest => stored(array, row),
        ColumnKind::Int64 => number(array.as_primitive::<Int64Type>().value(row)),
        ColumnKind::Float64 => number(format!("{:?}", array.as_primitive::<Float64Type>().value(row))),
        ColumnKind::Bool => Json::Bool(array.as_boolean().value(row)),
        ColumnKind::Timestamp => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            assert_eq!(micros % 1_000_000, 0, "Stripe's times are whole seconds");
            number(micros / 1_000_000)
        }
        ColumnKind::Decimal => {
            let scaled = array.as_primitive::<Decimal128Type>().value(row);
            let (whole, part) =
                (scaled.unsigned_abs() / 10u128.pow(12), scaled.unsigned_abs() % 10u128.pow(12));
            text(&format!("{}{whole}.{part:012}", if scaled < 0 { "-" } else { "" }))
        }
        ColumnKind::Map => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
            let entry = |n: usize| match values.is_valid(n) {
                true => (keys.value(n).to_owned(), text(values.value(n))),
                false => (keys.value(n).to_owned(), Json::Null),
            };
            Json::Object((0..entries.len()).map(entry).collect())
        }
        ColumnKind::ListText | ColumnKind::ListRef => {
            let items = array.as_list::<i32>().value(row);
            Json::Array(items.as_string::<i32>().iter().map(|t| t.map_or(Json::Null, text)).collect())
        }
        ColumnKind::Structs(columns) => {
            let items = array.as_list::<i32>().value(row);
            let items = items.as_struct();
            Json::Array((0..items.len()).map(|n| item(items, n, columns)).collect())
        }
    }
}

fn item(items: &StructArray, n: usize, columns: &[Column]) -> Json {
    assert!(items.is_valid(n), "an item is never null");
    let mut item = Json::Object(Vec::new());
    for (column, array) in columns.iter().zip(items.columns()) {
        if array.is_valid(n) {
            item.set(&column.path, value(&column.kind, array, n));
        }
    }
    item
}

/// Merges what no column took into what the columns hold.
fn merge(base: &mut Json, beside: Json) {
    match (base, beside) {
        (Json::Object(members), Json::Object(others)) => {
            for (key, other) in others {
                match members.iter_mut().find(|(k, _)| *k == key) {
                    Some((_, value)) => merge(value, other),
                    None => members.push((key, other)),
                }
            }
        }
        // An array that runs beside a list column has an object, or a filler, for each item.
        (Json::Array(items), Json::Array(others)) if items.len() >= others.len() => {
            for (item, other) in items.iter_mut().zip(others) {
                if other != Json::Null {
                    merge(item, other);
                }
            }
        }
        // An expanded reference: the column has its id.
        (base @ Json::Text(_), Json::Object(others)) => {
            let id = std::mem::replace(base, Json::Null);
            let mut object = Json::Object(vec![("id".to_owned(), id)]);
            merge(&mut object, Json::Object(others));
            *base = object;
        }
        (base, beside) => *base = beside,
    }
}

/// What was sent, in comparable form.
pub fn sent(object: &Json, columns: &[Column]) -> Json {
    comparable(without_secrets(without_duplicates(object.clone())), columns)
}

/// Fails with the first member that differs.
pub fn assert_same(rebuilt: &Json, sent: &Json, path: &str) {
    if let (Json::Object(rebuilt), Json::Object(sent)) = (rebuilt, sent) {
        for (key, value) in rebuilt {
            let other = sent.iter().find(|(k, _)| k == key);
            assert_same(value, other.map_or(&Json::Null, |(_, v)| v), &format!("{path}.{key}"));
        }
        for (key, value) in sent {
            assert!(rebuilt.iter().any(|(k, _)| k == key), "{path}.{key}: {value:?} is lost");
        }
    }
    assert!(rebuilt == sent, "{path}: from the row {rebuilt:?}, sent {sent:?}");
}

/// In the one form that both have under these columns.
pub fn comparable(mut object: Json, columns: &[Column]) -> Json {
    canonical(&mut object, columns);
    sorted(without_nothing(object))
}

fn map_members(value: Json, f: &impl Fn(Vec<(String, Json)>) -> Vec<(String, Json)>) -> Json {
    match value {
        Json::Object(members) => {
            let members = members.into_iter().map(|(key, value)| (key, map_members(value, f)));
            Json::Object(f(members.collect()))
        }
        Json::Array(items) => Json::Array(items.into_iter().map(|item| map_members(item, f)).collect()),
        other => other,
    }
}

/// Keeps the last member of each name, where it stands.
pub fn without_duplicates(value: Json) -> Json {
    map_members(value, &|members| {
        let is_last = |n: usize| !members[n + 1..].iter().any(|(key, _)| *key == members[n].0);
        (0..members.len()).filter(|n| is_last(*n)).map(|n| members[n].clone()).collect()
    })
}

fn without_secrets(value: Json) -> Json {
    map_members(value, &|members| {
        members.into_iter().filter(|(k, _)| !k.ends_with("client_secret")).collect()
    })
}

/// Drops members that are null or an empty object, from the inside out.
fn without_nothing(value: Json) -> Json {
    let is_nothing = |value: &Json| *value == Json::Null || *value == Json::Object(Vec::new());
    map_members(value, &|members| members.into_iter().filter(|(_, value)| !is_nothing(value)).collect())
}

pub fn sorted(value: Json) -> Json {
    map_members(value, &|mut members| {
        members.sort_by(|a, b| a.0.cmp(&b.0));
        members
    })
}

/// Writes values of typed columns in one form: `1e3` and `1000.0`, `"1.50"` and `"1.5"`, an expanded
/// reference with nothing but an id and the id.
fn canonical(object: &mut Json, columns: &[Column]) {
    for column in columns {
        let Some(mut value) = object.at(&column.path).cloned() else { continue };
        match (&column.kind, &mut value) {
            (ColumnKind::Ref, value) => collapse(value),
            (ColumnKind::ListRef, Json::Array(items)) => items.iter_mut().for_each(collapse),
            (ColumnKind::Structs(columns), Json::Array(items)) => {
                items.iter_mut().for_each(|item| canonical(item, columns));
            }
            (ColumnKind::Float64, Json::Number(n)) => {
                if let Some(float) = n.parse::<f64>().ok().filter(|f| f.is_finite()) {
                    *n = format!("{float:?}");
                }
            }
            (ColumnKind::Decimal, Json::Text(digits)) => {
                let is_plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
                if is_plain && digits.bytes().any(|b| b.is_ascii_digit()) {
                    *digits = short_decimal(digits);
                }
            }
            _ => continue,
        }
        object.set(&column.path, value);
    }
}

fn collapse(reference: &mut Json) {
    if let Json::Object(members) = without_nothing(reference.clone())
        && let [(key, Json::Text(id))] = members.as_slice()
        && key == "id"
    {
        *reference = text(id);
    }
}

fn short_decimal(digits: &str) -> String {
    let (sign, unsigned) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    format!("{sign}{}.{}", whole.trim_start_matches('0'), part.trim_end_matches('0'))
}
