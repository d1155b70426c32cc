//! Turns one object's JSON text into a row, the plain way: member by member, each value parsed on its own.
//!
//! This is the obvious decoder. It is kept as the oracle for every faster one, so it favours being
//! easy to check: nothing is predicted, nothing is shared with the fast path but the builders.

use std::collections::HashSet;

use serde_json::value::RawValue;

use crate::catalog::ColumnKind;
use crate::decode::columns::{Column, StructList, Table, TextList, TextMap};
use crate::decode::findings::Findings;
use crate::decode::json_text::{Members, ObjectText, Reject};
use crate::decode::number::{decimal, float, int64, micros};
use crate::decode::shape::{SECRET_SUFFIX, Shape, Target};

/// An embedded list that is a child table, as it stood in its parent.
pub struct Embedded {
    pub child: usize,
    pub raw: String,
}

/// Puts the members of one object into the row under construction of a table.
pub struct Walk<'a> {
    pub shape: &'a Shape,
    pub table: &'a mut Table,
    pub extra: &'a mut ObjectText,
    pub findings: &'a mut Findings,
    pub embedded: &'a mut Vec<Embedded>,
    /// The keys from the root to the object being walked.
    pub path: Vec<String>,
}

/// The members of an object, in the order sent.
pub fn members(raw: &str) -> Result<Vec<(String, &RawValue)>, Reject> {
    let members: Members = serde_json::from_str(raw).map_err(|e| Reject::new(e.to_string()))?;
    Ok(members.0)
}

impl Walk<'_> {
    /// Walks the object `raw`, which `node` describes.
    pub fn object(&mut self, raw: &str, node: usize) -> Result<(), Reject> {
        let shape = self.shape;
        let mut rest = ObjectText::default();
        for (key, value) in members(raw)? {
            let value = value.get();
            match shape.nodes[node].members.get(key.as_str()) {
                Some(Target::Column(column)) => self.column(*column, &key, value)?,
                Some(Target::Node(next)) => self.member_object(&key, value, *next)?,
                Some(Target::Child(child)) => self.embedded_list(*child, &key, value)?,
                None if key.ends_with(SECRET_SUFFIX) => {}
                None if shape.nodes[node].rest.is_some() => rest.put(&key, value)?,
                None => {
                    self.findings.unknown(&self.path, &key);
                    self.extra.put(&key, value)?;
                }
            }
        }
        if let (Some(column), Some(text)) = (shape.nodes[node].rest, rest.take()) {
            let row = self.table.n_rows;
            if let Column::Text(builder) = &mut self.table.columns[column]
                && !builder.put(row, &text)
            {
                // The union came twice: what no column took the first time stays beside it.
                for (key, value) in members(&text)? {
                    self.extra.put(&key, value.get())?;
                }
            }
        }
        Ok(())
    }

    fn member_object(&mut self, key: &str, value: &str, node: usize) -> Result<(), Reject> {
        match value.as_bytes()[0] {
            b'n' => Ok(()),
            b'{' => {
                self.extra.enter(key);
                self.path.push(key.to_owned());
                let result = self.object(value, node);
                self.path.pop();
                self.extra.leave();
                result
            }
            _ => self.mistyped(key, value),
        }
    }

    fn embedded_list(&mut self, child: usize, key: &str, value: &str) -> Result<(), Reject> {
        match value.as_bytes()[0] {
            b'n' => Ok(()),
            // The first one has the rows.
            b'{' if self.embedded.iter().any(|other| other.child == child) => self.extra.put(key, value),
            b'{' => {
                self.embedded.push(Embedded { child, raw: value.to_owned() });
                self.extra.enter(key);
                for (name, value) in members(value)? {
                    if !matches!(name.as_str(), "object" | "data" | "has_more" | "total_count" | "url") {
                        self.extra.put(&name, value.get())?;
                    }
                }
                self.extra.leave();
                Ok(())
            }
            _ => self.mistyped(key, value),
        }
    }

    fn column(&mut self, column: usize, key: &str, value: &str) -> Result<(), Reject> {
        if value == "null" {
            return Ok(());
        }
        let row = self.table.n_rows;
        let first = value.as_bytes()[0];
        let shape = self.shape;
        let is_put = match (&shape.kinds[column], first) {
            (ColumnKind::Text, b'"') => put_text(&mut self.table.columns[column], row, &string(value)?),
            (ColumnKind::Ref, b'"') => put_text(&mut self.table.columns[column], row, &string(value)?),
            (ColumnKind::Ref, b'{') => self.expanded(column, key, value)?,
            (ColumnKind::Json, _) => {
                let mut text = String::new();
                crate::decode::json_text::append_stored(value, &mut text)?;
                put_text(&mut self.table.columns[column], row, &text)
            }
            (ColumnKind::Map, b'{') => return self.map(column, key, value),
            (ColumnKind::ListText | ColumnKind::ListRef, b'[') => self.text_list(column, key, value)?,
            (ColumnKind::Structs(_), b'[') => self.struct_list(column, key, value)?,
            _ => put_scalar(&mut self.table.columns[column], row, value)?,
        };
        if is_put { Ok(()) } else { self.mistyped(key, value) }
    }

    /// Keeps a value that its column could not take.
    fn mistyped(&mut self, key: &str, value: &str) -> Result<(), Reject> {
        self.findings.mistyped(&self.path, key);
        self.extra.put(key, value)
    }

    /// An expanded reference: its id is the column, its other members stay beside it.
    fn expanded(&mut self, column: usize, key: &str, value: &str) -> Result<bool, Reject> {
        let members = members(value)?;
        let Some(at) = members.iter().position(|(k, v)| k == "id" && v.get().starts_with('"')) else {
            return Ok(false);
        };
        let row = self.table.n_rows;
        if !put_text(&mut self.table.columns[column], row, &string(members[at].1.get())?) {
            return Ok(false);
        }
        self.extra.enter(key);
        for (index, (name, value)) in members.iter().enumerate() {
            if index != at && !name.ends_with(SECRET_SUFFIX) {
                self.extra.put(name, value.get())?;
            }
        }
        self.extra.leave();
        Ok(true)
    }

    fn map(&mut self, column: usize, key: &str, value: &str) -> Result<(), Reject> {
        let row = self.table.n_rows;
        let Column::TextMap(TextMap { spans, keys, values, n_entries }) = &mut self.table.columns[column]
        else {
            unreachable!("a map column has a map builder");
        };
        if !spans.is_free(row) {
            return self.mistyped(key, value);
        }
        let mut seen: HashSet<String> = HashSet::new();
        let mut left_over = Vec::new();
        for (name, value) in members(value)? {
            if name.ends_with(SECRET_SUFFIX) {
                continue;
            }
            let is_text = value.get().starts_with('"');
            if seen.contains(&name) || !(is_text || value.get() == "null") {
                left_over.push((name, value));
                continue;
            }
            keys.put(*n_entries, &name);
            if is_text {
                values.put(*n_entries, &string(value.get())?);
            }
            *n_entries += 1;
            seen.insert(name);
        }
        spans.close(row, *n_entries);
        self.extra.enter(key);
        self.path.push(key.to_owned());
        for (name, value) in left_over {
            self.mistyped(&name, value.get())?;
        }
        self.path.pop();
        self.extra.leave();
        Ok(())
    }

    /// A list of texts or references. An expanded reference is its id; the rest of it stands at the
    /// same index of an array in `_extra`.
    fn text_list(&mut self, column: usize, key: &str, value: &str) -> Result<bool, Reject> {
        let items: Vec<&RawValue> = serde_json::from_str(value).map_err(|e| Reject::new(e.to_string()))?;
        let is_ref = matches!(self.shape.kinds[column], ColumnKind::ListRef);
        let mut texts = Vec::new();
        let mut beside = Vec::new();
        for item in items {
            match item.get().as_bytes()[0] {
                b'"' => texts.push(Some(string(item.get())?)),
                b'n' => texts.push(None),
                b'{' if is_ref => {
                    let mut members = members(item.get())?;
                    let Some(at) = members.iter().position(|(k, v)| k == "id" && v.get().starts_with('"'))
                    else {
                        return Ok(false);
                    };
                    texts.push(Some(string(members.remove(at).1.get())?));
                    let mut rest = ObjectText::default();
                    for (name, value) in members {
                        rest.put(&name, value.get())?;
                    }
                    beside.resize(texts.len() - 1, None);
                    beside.push(rest.take());
                }
                _ => return Ok(false),
            }
        }
        let row = self.table.n_rows;
        let Column::TextList(TextList { spans, items, n_items }) = &mut self.table.columns[column] else {
            unreachable!("a list column has a list builder");
        };
        if !spans.is_free(row) {
            return Ok(false);
        }
        beside.resize(if beside.is_empty() { 0 } else { texts.len() }, None);
        for text in texts {
            if let Some(text) = text {
                items.put(*n_items, &text);
            }
            *n_items += 1;
        }
        spans.close(row, *n_items);
        self.put_beside(key, &beside, "null")?;
        Ok(true)
    }

    /// A list of plain objects. What an item's columns cannot take stands at the same index of an
    /// array in `_extra`.
    fn struct_list(&mut self, column: usize, key: &str, value: &str) -> Result<bool, Reject> {
        let raw_items: Vec<&RawValue> =
            serde_json::from_str(value).map_err(|e| Reject::new(e.to_string()))?;
        let row = self.table.n_rows;
        let Column::StructList(StructList { spans, items }) = &mut self.table.columns[column] else {
            unreachable!("a struct list column has a struct list builder");
        };
        if !spans.is_free(row) || raw_items.iter().any(|item| !item.get().starts_with('{')) {
            return Ok(false);
        }
        let mut beside: Vec<Option<String>> = Vec::new();
        self.path.push(key.to_owned());
        for raw in &raw_items {
            let mut extra = ObjectText::default();
            let mut walk = Walk {
                shape: self.shape.items[column].as_deref().expect("a struct list has a shape"),
                table: items,
                extra: &mut extra,
                findings: self.findings,
                embedded: &mut Vec::new(),
                path: std::mem::take(&mut self.path),
            };
            let result = walk.object(raw.get(), 0);
            self.path = walk.path;
            result?;
            items.n_rows += 1;
            beside.push(extra.take());
        }
        self.path.pop();
        spans.close(row, items.n_rows);
        self.put_beside(key, &beside, "{}")?;
        Ok(true)
    }

    /// Keeps an array that runs beside a list column, if any item has something to keep.
    fn put_beside(&mut self, key: &str, items: &[Option<String>], empty: &str) -> Result<(), Reject> {
        if items.iter().all(Option::is_none) {
            return Ok(());
        }
        let items: Vec<&str> = items.iter().map(|item| item.as_deref().unwrap_or(empty)).collect();
        self.extra.put(key, &format!("[{}]", items.join(",")))
    }
}

fn string(raw: &str) -> Result<String, Reject> {
    serde_json::from_str(raw).map_err(|e| Reject::new(format!("string: {e}")))
}

fn put_text(column: &mut Column, row: usize, value: &str) -> bool {
    match column {
        Column::Text(column) => column.put(row, value),
        _ => unreachable!("a text column has a text builder"),
    }
}

/// Puts a number, flag, time or decimal, if `value` is exactly one.
fn put_scalar(column: &mut Column, row: usize, value: &str) -> Result<bool, Reject> {
    Ok(match column {
        Column::Int64(column) => int64(value).is_some_and(|v| column.put(row, v)),
        Column::Float64(column) => float(value).is_some_and(|v| column.put(row, v)),
        Column::Timestamp(column) => micros(value).is_some_and(|v| column.put(row, v)),
        Column::Bool(column) => match value {
            "true" => column.put(row, true),
            "false" => column.put(row, false),
            _ => false,
        },
        Column::Decimal(column) if value.starts_with('"') => {
            decimal(&string(value)?).is_some_and(|v| column.put(row, v))
        }
        _ => false,
    })
}
