//! `stripelake schema`: the columns of a table.

use serde_json::{Value, json};
use stripelake::catalog::{Catalog, Column, ColumnKind, Resource};
use stripelake::decode::schema::{DELETED, EXTRA, SYNCED_AT, arrow_schema};
use stripelake::error::{Kind, Result};

use crate::cli::Schema;
use crate::output::out;

pub fn run(flags: &Schema) -> Result<Option<Kind>> {
    let catalog = Catalog::embedded()?;
    let resources = match &flags.resource {
        Some(name) => vec![catalog.resolve(name)?.clone()],
        None => catalog.resources.clone(),
    };
    if flags.json {
        let mut tables: Vec<Value> = resources.iter().map(|resource| table(resource)).collect();
        let document = match flags.resource {
            Some(_) => tables.remove(0),
            None => json!({ "resources": tables }),
        };
        out(&format!("{}\n", serde_json::to_string_pretty(&document).expect("text and numbers")));
        return Ok(None);
    }
    for resource in resources {
        let mut text = format!("{}  ({})\n", resource.name, resource.docs);
        for column in &resource.columns {
            text.push_str(&format!("  {:<60} {}\n", column.name, duckdb(&column.kind)));
        }
        for (name, duckdb) in system() {
            text.push_str(&format!("  {name:<60} {duckdb}\n"));
        }
        out(&text);
    }
    Ok(None)
}

fn system() -> [(&'static str, &'static str); 3] {
    [(SYNCED_AT, "TIMESTAMP WITH TIME ZONE"), (DELETED, "BOOLEAN"), (EXTRA, "JSON")]
}

fn table(resource: &Resource) -> Value {
    let arrow = arrow_schema(resource);
    let arrow_type = |name: &str| arrow.field_with_name(name).map(|f| f.data_type().to_string()).ok();
    let mut columns: Vec<Value> = Vec::new();
    for column in &resource.columns {
        let mut description = describe(column);
        description["arrow"] = json!(arrow_type(&column.name));
        columns.push(description);
    }
    for (name, duckdb) in system() {
        let kind = match name {
            SYNCED_AT => "timestamp",
            DELETED => "bool",
            _ => "json",
        };
        columns.push(
            json!({"name": name, "path": "", "type": kind, "duckdb": duckdb, "arrow": arrow_type(name)}),
        );
    }
    json!({"resource": resource.name, "columns": columns})
}

fn describe(column: &Column) -> Value {
    let mut description = json!({
        "name": column.name,
        "path": column.path.join("."),
        "type": if column.kind == ColumnKind::Rest { "rest".to_owned() } else { column.kind.to_string() },
        "duckdb": duckdb(&column.kind),
    });
    if let ColumnKind::Structs(fields) = &column.kind {
        description["fields"] = fields.iter().map(describe).collect();
    }
    description
}

/// The type that DuckDB gives the column.
fn duckdb(kind: &ColumnKind) -> String {
    match kind {
        ColumnKind::Text | ColumnKind::Ref => "VARCHAR".to_owned(),
        ColumnKind::Int64 => "BIGINT".to_owned(),
        ColumnKind::Float64 => "DOUBLE".to_owned(),
        ColumnKind::Bool => "BOOLEAN".to_owned(),
        ColumnKind::Timestamp => "TIMESTAMP WITH TIME ZONE".to_owned(),
        ColumnKind::Decimal => "DECIMAL(38,12)".to_owned(),
        ColumnKind::Map => "MAP(VARCHAR, VARCHAR)".to_owned(),
        ColumnKind::Json | ColumnKind::Rest => "JSON".to_owned(),
        ColumnKind::ListText | ColumnKind::ListRef => "VARCHAR[]".to_owned(),
        ColumnKind::Structs(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|f| format!("{} {}", quoted(&f.name), duckdb(&f.kind))).collect();
            format!("STRUCT({})[]", fields.join(", "))
        }
    }
}

/// DuckDB quotes names in types where they are keywords of its own.
fn quoted(name: &str) -> String {
    match name {
        "end" => format!("\"{name}\""),
        _ => name.to_owned(),
    }
}
