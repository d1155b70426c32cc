//! Turns a resource into the Arrow schema of its table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::catalog::{Column, ColumnKind, Resource};
pub use crate::catalog::{DELETED, EXTRA, SYNCED_AT};
use crate::decode::columns::DECIMAL;

/// The field metadata key that holds the exact JSON path of a column.
pub const PATH: &str = "stripelake.path";
/// The field metadata key, and its value, that mark a text as JSON.
const EXTENSION: &str = "ARROW:extension:name";
const JSON: &str = "arrow.json";

/// The columns of the resource in the catalog's order, then `_synced_at`, `_deleted` and `_extra`.
///
/// Every field is nullable, since an older API version may leave any member out.
pub fn arrow_schema(resource: &Resource) -> SchemaRef {
    let mut fields: Vec<Field> = resource.columns.iter().map(field).collect();
    fields.push(Field::new(SYNCED_AT, instant(), true));
    fields.push(Field::new(DELETED, DataType::Boolean, true));
    fields.push(json(Field::new(EXTRA, DataType::Utf8, true), None));
    Arc::new(Schema::new(fields))
}

/// A short fingerprint of names, types and paths, and of which text is JSON; files with another one are rewritten.
pub fn schema_version(schema: &Schema) -> String {
    let mut text = String::new();
    for field in schema.fields() {
        let path = json_path(field).unwrap_or_default();
        let json = if is_json(field) { " json" } else { "" };
        text.push_str(&format!("{} {}{json} {path}\n", field.name(), field.data_type()));
    }
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}

/// The keys that lead to a column's values, joined by dots; none for a system column.
pub fn json_path(field: &Field) -> Option<&str> {
    field.metadata().get(PATH).map(String::as_str)
}

/// Whether the texts of a column are JSON.
pub fn is_json(field: &Field) -> bool {
    field.metadata().get(EXTENSION).is_some_and(|name| name == JSON)
}

fn field(column: &Column) -> Field {
    let path = column.path.join(".");
    let field = Field::new(&column.name, data_type(&column.kind), true);
    match column.kind {
        ColumnKind::Json | ColumnKind::Rest => json(field, Some(path)),
        _ => field.with_metadata(HashMap::from([(PATH.to_owned(), path)])),
    }
}

/// Marks a text field as JSON: Parquet's logical type follows from Arrow's canonical extension type.
fn json(field: Field, path: Option<String>) -> Field {
    let mut metadata = HashMap::from([
        (EXTENSION.to_owned(), JSON.to_owned()),
        ("ARROW:extension:metadata".to_owned(), String::new()),
    ]);
    metadata.extend(path.map(|p| (PATH.to_owned(), p)));
    field.with_metadata(metadata)
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn data_type(kind: &ColumnKind) -> DataType {
    match kind {
        ColumnKind::Text | ColumnKind::Ref | ColumnKind::Json | ColumnKind::Rest => DataType::Utf8,
        ColumnKind::Int64 => DataType::Int64,
        ColumnKind::Float64 => DataType::Float64,
        ColumnKind::Bool => DataType::Boolean,
        ColumnKind::Timestamp => instant(),
        ColumnKind::Decimal => DataType::Decimal128(DECIMAL.0, DECIMAL.1),
        ColumnKind::Map => map(),
        ColumnKind::ListText | ColumnKind::ListRef => list(DataType::Utf8),
        ColumnKind::Structs(columns) => list(DataType::Struct(columns.iter().map(field).collect::<Fields>())),
    }
}

/// The names inside lists and maps are those of the Parquet specification, so that a schema survives
/// the way through a file unchanged.
fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, true)))
}

fn map() -> DataType {
    let fields = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(fields), false)), false)
}
