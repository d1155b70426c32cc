//! Turns the type names of a catalog file into column kinds, and back.
//!
//! `text`, `ref`, `int64`, `float64`, `bool`, `timestamp`, `decimal`, `map`, `json`, `list<text>`, `list<ref>`,
//! and `list<{amount: int64, flat_amount.currency: text}>` for arrays of plain objects.

use std::fmt;

use super::{Column, ColumnKind};

/// Reads a type name. `Err` says what was expected and what came.
pub(super) fn parse(text: &str) -> Result<ColumnKind, String> {
    let Some(inner) = text.strip_prefix("list<{").and_then(|t| t.strip_suffix("}>")) else {
        return parse_simple(text);
    };
    let mut columns = Vec::new();
    for member in inner.split(',') {
        let (path, kind) = member
            .split_once(':')
            .ok_or_else(|| format!("expected \"member: type\", got \"{}\"", member.trim()))?;
        columns.push(Column::new(path.trim(), parse_simple(kind.trim())?));
    }
    columns.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(ColumnKind::Structs(columns))
}

fn parse_simple(text: &str) -> Result<ColumnKind, String> {
    Ok(match text {
        "text" => ColumnKind::Text,
        "ref" => ColumnKind::Ref,
        "int64" => ColumnKind::Int64,
        "float64" => ColumnKind::Float64,
        "bool" => ColumnKind::Bool,
        "timestamp" => ColumnKind::Timestamp,
        "decimal" => ColumnKind::Decimal,
        "map" => ColumnKind::Map,
        "json" => ColumnKind::Json,
        "list<text>" => ColumnKind::ListText,
        "list<ref>" => ColumnKind::ListRef,
        other => return Err(format!("expected a type, got \"{other}\"")),
    })
}

impl Column {
    /// A column at a dotted path, e.g. `billing_details.address.city`.
    pub(super) fn new(path: &str, kind: ColumnKind) -> Column {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        let mut name = path.join("_");
        if kind == ColumnKind::Rest {
            name.push_str("_other");
        }
        Column { name, path, kind }
    }
}

/// The type name, as the files have it. `Rest` is `json`: the files mark it by the path, `<union>.*`.
impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            ColumnKind::Text => "text",
            ColumnKind::Ref => "ref",
            ColumnKind::Int64 => "int64",
            ColumnKind::Float64 => "float64",
            ColumnKind::Bool => "bool",
            ColumnKind::Timestamp => "timestamp",
            ColumnKind::Decimal => "decimal",
            ColumnKind::Map => "map",
            ColumnKind::Json | ColumnKind::Rest => "json",
            ColumnKind::ListText => "list<text>",
            ColumnKind::ListRef => "list<ref>",
            ColumnKind::Structs(columns) => return write_structs(f, columns),
        };
        f.write_str(name)
    }
}

fn write_structs(f: &mut fmt::Formatter<'_>, columns: &[Column]) -> fmt::Result {
    f.write_str("list<{")?;
    for (index, column) in columns.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(f, "{comma}{}: {}", column.path.join("."), column.kind)?;
    }
    f.write_str("}>")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn simple() -> impl Strategy<Value = ColumnKind> {
        prop::sample::select(vec![
            ColumnKind::Text,
            ColumnKind::Ref,
            ColumnKind::Int64,
            ColumnKind::Float64,
            ColumnKind::Bool,
            ColumnKind::Timestamp,
            ColumnKind::Decimal,
            ColumnKind::Map,
            ColumnKind::Json,
            ColumnKind::ListText,
            ColumnKind::ListRef,
        ])
    }

    fn structs() -> impl Strategy<Value = ColumnKind> {
        let members = prop::collection::btree_map("[a-z_]{1,6}([.][a-z0-9_]{1,6}){0,2}", simple(), 1..8);
        members.prop_map(|members| {
            let mut columns: Vec<Column> = members.into_iter().map(|(p, k)| Column::new(&p, k)).collect();
            columns.sort_by(|a, b| a.path.cmp(&b.path));
            ColumnKind::Structs(columns)
        })
    }

    proptest! {
        #[test]
        fn a_type_that_is_written_is_read_as_the_same(kind in prop_oneof![simple(), structs()]) {
            prop_assert_eq!(parse(&kind.to_string()), Ok(kind));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z0-9<>{}:,. ]{0,40}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn members_of_a_struct_have_names_from_their_paths() {
        let ColumnKind::Structs(columns) = parse("list<{ a.b :int64,c: ref }>").unwrap() else {
            panic!("expected a list of structs");
        };
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["a_b", "c"]);
    }

    #[test]
    fn a_list_inside_a_struct_is_of_texts_or_references() {
        for text in ["list<{a: list<{b: text}>}>", "list<{}>", "list<int64>", "list<{a text}>"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("list<{a: list<text>, b: map}>").is_ok());
    }
}
