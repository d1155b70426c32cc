//! Turns a page into a tree of values and that into columns: the usual way, as a rival for decode.
//!
//! It looks every column up by its path. Unknown members outside unions are lost, which saves it work.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Decimal128Builder, Float64Builder, Int64Builder, ListBuilder,
    MapBuilder, StringBuilder, TimestampMicrosecondBuilder,
};
use serde_json::Value;
use stripelake::catalog::{ColumnKind, Resource};
use stripelake::decode::number::decimal;

pub enum Builder {
    Text(StringBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Bool(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Decimal(Decimal128Builder),
    Map(MapBuilder<StringBuilder, StringBuilder>),
    List(ListBuilder<StringBuilder>),
}

impl Builder {
    fn new(kind: &ColumnKind) -> Builder {
        match kind {
            ColumnKind::Int64 => Builder::Int64(Default::default()),
            ColumnKind::Float64 => Builder::Float64(Default::default()),
            ColumnKind::Bool => Builder::Bool(Default::default()),
            ColumnKind::Timestamp => Builder::Timestamp(Default::default()),
            ColumnKind::Decimal => Builder::Decimal(Default::default()),
            ColumnKind::Map => Builder::Map(MapBuilder::new(None, Default::default(), Default::default())),
            ColumnKind::ListText | ColumnKind::ListRef => Builder::List(Default::default()),
            _ => Builder::Text(Default::default()),
        }
    }

    fn append(&mut self, value: Option<&Value>, kind: &ColumnKind) {
        let value = value.filter(|v| !v.is_null());
        match self {
            Builder::Text(b) => match (value, kind) {
                (Some(Value::String(text)), ColumnKind::Text | ColumnKind::Ref) => b.append_value(text),
                (Some(other), ColumnKind::Json | ColumnKind::Structs(_)) => b.append_value(other.to_string()),
                _ => b.append_null(),
            },
            Builder::Int64(b) => b.append_option(value.and_then(Value::as_i64)),
            Builder::Float64(b) => b.append_option(value.and_then(Value::as_f64)),
            Builder::Bool(b) => b.append_option(value.and_then(Value::as_bool)),
            Builder::Timestamp(b) => b.append_option(value.and_then(Value::as_i64).map(|s| s * 1_000_000)),
            Builder::Decimal(b) => b.append_option(value.and_then(Value::as_str).and_then(decimal)),
            Builder::Map(b) => {
                for (key, value) in value.and_then(Value::as_object).into_iter().flatten() {
                    b.keys().append_value(key);
                    b.values().append_option(value.as_str());
                }
                b.append(value.is_some()).expect("as many keys as values");
            }
            Builder::List(b) => {
                for item in value.and_then(Value::as_array).into_iter().flatten() {
                    b.values().append_option(item.as_str());
                }
                b.append(value.is_some());
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Text(b) => Arc::new(b.finish()),
            Builder::Int64(b) => Arc::new(b.finish()),
            Builder::Float64(b) => Arc::new(b.finish()),
            Builder::Bool(b) => Arc::new(b.finish()),
            Builder::Timestamp(b) => Arc::new(b.finish()),
            Builder::Decimal(b) => ArrayBuilder::finish(b),
            Builder::Map(b) => ArrayBuilder::finish(b),
            Builder::List(b) => Arc::new(b.finish()),
        }
    }
}

pub struct ValueDecoder<'a> {
    resource: &'a Resource,
    builders: Vec<Builder>,
}

impl ValueDecoder<'_> {
    pub fn new(resource: &Resource) -> ValueDecoder<'_> {
        ValueDecoder { resource, builders: resource.columns.iter().map(|c| Builder::new(&c.kind)).collect() }
    }

    pub fn push_page(&mut self, body: &[u8]) {
        let page: Value = serde_json::from_slice(body).expect("pages are JSON");
        for object in page["data"].as_array().expect("pages have data") {
            for (column, builder) in self.resource.columns.iter().zip(&mut self.builders) {
                let value = column.path.iter().try_fold(object, |value, key| value.get(key));
                match (&column.kind, builder) {
                    (ColumnKind::Rest, Builder::Text(b)) => {
                        b.append_option(value.and_then(|v| rest(self.resource, &column.path, v)));
                    }
                    (kind, builder) => builder.append(value, kind),
                }
            }
        }
    }

    pub fn flush(&mut self) -> Vec<ArrayRef> {
        self.builders.iter_mut().map(Builder::finish).collect()
    }
}

/// The members of a union that have no column.
fn rest(resource: &Resource, path: &[String], union: &Value) -> Option<String> {
    let is_named = |key: &str| {
        resource
            .columns
            .iter()
            .any(|c| c.path.len() > path.len() && c.path.starts_with(path) && c.path[path.len()] == key)
    };
    let members = union.as_object()?.iter().filter(|(key, _)| !is_named(key));
    let rest: serde_json::Map<String, Value> = members.map(|(k, v)| (k.clone(), v.clone())).collect();
    (!rest.is_empty()).then(|| Value::Object(rest).to_string())
}
