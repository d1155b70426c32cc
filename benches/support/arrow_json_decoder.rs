//! Turns a resource into the nested schema that arrow-json needs, as a rival for decode.
//!
//! arrow-json knows neither flattening, nor JSON text, nor unknown members: these columns are left out,
//! unknown members are skipped, and it gets objects instead of pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use stripelake::catalog::{Column, ColumnKind, Resource};
use stripelake::decode::schema::arrow_schema;

pub fn nested_schema(resource: &Resource) -> SchemaRef {
    let flat = arrow_schema(resource);
    let typed = resource.columns.iter().zip(flat.fields()).filter_map(|(column, field)| {
        let data_type = match column.kind {
            ColumnKind::Json | ColumnKind::Rest => return None,
            // Seconds; arrow-json would take them for microseconds.
            ColumnKind::Timestamp => DataType::Int64,
            _ => field.data_type().clone(),
        };
        Some((column, data_type))
    });
    Arc::new(Schema::new(nest(typed.collect(), 0)))
}

fn nest(columns: Vec<(&Column, DataType)>, depth: usize) -> Fields {
    let mut by_key: BTreeMap<&str, Vec<(&Column, DataType)>> = BTreeMap::new();
    for (column, data_type) in columns {
        by_key.entry(&column.path[depth]).or_default().push((column, data_type));
    }
    let fields = by_key.into_iter().map(|(key, columns)| {
        let is_leaf = columns[0].0.path.len() == depth + 1;
        let data_type =
            if is_leaf { columns[0].1.clone() } else { DataType::Struct(nest(columns, depth + 1)) };
        Field::new(key, data_type, true)
    });
    fields.collect()
}
