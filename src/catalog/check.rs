//! Turns parsed catalog files into the assurance that no two columns meet, or into the line that is wrong.
//!
//! A file: names are `[a-z0-9_.]`; no path and no column name stands twice, also if letter case is ignored, as
//! DuckDB does, and also against the system columns; nothing lies below a typed path, `<union>.*` excepted;
//! there is an `id`. All files: a parent exists and has no column where its child's rows come from.

use std::collections::HashMap;

use super::file::{Checked, Fault, Located, Parsed, locate};
use super::{Column, ColumnKind, SYSTEM_COLUMNS};
use crate::error::Result;

/// What must be true of the columns of one file.
pub(super) fn check_columns(columns: &[Located]) -> Checked<()> {
    for located in columns {
        check_names(located)?;
        if let ColumnKind::Structs(members) = &located.column.kind {
            let line = located.line;
            let members: Vec<Located> = members.iter().map(|m| Located { column: m.clone(), line }).collect();
            for member in &members {
                check_names(member)?;
            }
            check_unique(&members, &[])?;
            check_prefixes(&members)?;
        }
    }
    check_unique(columns, &SYSTEM_COLUMNS)?;
    check_prefixes(columns)?;
    if !columns.iter().any(|l| l.column.name == "id" && l.column.kind == ColumnKind::Text) {
        return Err(Fault { line: 1, message: "expected a column id of type text, got none".to_owned() });
    }
    Ok(())
}

/// A union whose variants are cut must have the column that holds the others.
pub(super) fn check_union(columns: &[Located], union: &str, line: usize) -> Checked<()> {
    let is_rest = |c: &Column| c.kind == ColumnKind::Rest && c.path.join(".") == union;
    if columns.iter().any(|l| is_rest(&l.column)) {
        return Ok(());
    }
    Err(Fault { line, message: format!("expected a column {union}.* for this union, got none") })
}

/// What must be true across files: parents and their children fit together.
pub(super) fn check_all(parsed: &[Parsed]) -> Result<()> {
    for child in parsed {
        check_parent(child, parsed)
            .map_err(|message| locate(&child.file, Fault { line: child.parent_line, message }))?;
    }
    Ok(())
}

fn check_parent(child: &Parsed, all: &[Parsed]) -> std::result::Result<(), String> {
    let Some(link) = &child.resource.parent else {
        return Ok(());
    };
    let Some(parent) = all.iter().find(|p| p.resource.name == link.resource) else {
        return Err(format!("expected the parent to be a resource, got \"{}\"", link.resource));
    };
    if parent.resource.parent.is_some() {
        return Err(format!("expected a parent with a list of its own, got \"{}\"", link.resource));
    }
    if !child.resource.columns.iter().any(|c| c.name == link.key) {
        return Err(format!("expected the key to be a column, got \"{}\"", link.key));
    }
    let taken = parent.resource.columns.iter().find(|c| c.path.starts_with(&link.path));
    match taken {
        None => Ok(()),
        Some(column) => Err(format!(
            "expected {} to hold the child's rows only, got column {} of {}",
            link.path.join("."),
            column.name,
            link.resource
        )),
    }
}

/// A column name in two letter cases is two columns here and one column in DuckDB, hence lowercase only.
fn check_names(located: &Located) -> Checked<()> {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    for key in &located.column.path {
        if key.is_empty() || !key.bytes().all(is_plain) {
            let path = located.column.path.join(".");
            let message = format!("expected names of a-z, 0-9 and _, got \"{path}\"");
            return Err(Fault { line: located.line, message });
        }
    }
    Ok(())
}

fn check_unique(columns: &[Located], reserved: &[&str]) -> Checked<()> {
    let mut paths: HashMap<String, &str> = HashMap::new();
    for name in reserved {
        paths.insert(name.to_lowercase(), "a system column");
    }
    let texts: Vec<String> = columns.iter().map(|l| path_text(&l.column)).collect();
    for (located, path) in columns.iter().zip(&texts) {
        let Some(other) = paths.insert(located.column.name.to_lowercase(), path) else {
            continue;
        };
        let name = &located.column.name;
        let message = match other == path {
            true => format!("expected each path once, got {path} twice"),
            false => {
                format!("expected one path per column name, got {path} and {other} for {name}")
            }
        };
        return Err(Fault { line: located.line, message });
    }
    Ok(())
}

/// A member is either a value with a column or an object whose members have columns.
fn check_prefixes(columns: &[Located]) -> Checked<()> {
    let mut leaves: HashMap<&[String], usize> = HashMap::new();
    for located in columns {
        if located.column.kind != ColumnKind::Rest {
            leaves.insert(&located.column.path, located.line);
        }
    }
    for located in columns {
        let path = &located.column.path;
        // The `.*` of a union lies one key below the union's own path.
        let is_rest = located.column.kind == ColumnKind::Rest;
        for len in 1..path.len() + usize::from(is_rest) {
            if let Some(leaf_line) = leaves.get(&path[..len]) {
                let leaf = path[..len].join(".");
                let below = path_text(&located.column);
                let message = format!("expected nothing below {leaf}, which has a column, got {below}");
                return Err(Fault { line: located.line.max(*leaf_line), message });
            }
        }
    }
    Ok(())
}

/// The path as the files have it.
fn path_text(column: &Column) -> String {
    let star = if column.kind == ColumnKind::Rest { ".*" } else { "" };
    column.path.join(".") + star
}
