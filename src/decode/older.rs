//! Turns rows of another catalog's schema into rows of the present one, with nothing lost on the way.
//!
//! A column that is the same in both stays as it is. What a row has in any other is written as the JSON
//! that it was made of, merged with `_extra`, and decoded by the plain decoder: it goes where the present
//! catalog has a column for it, and else into `_extra`, under its own path.

mod json;
mod value;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{Field, Fields, Schema, SchemaRef};

use crate::catalog::{self, ColumnKind, Resource};
use crate::decode::builders::Text;
use crate::decode::columns::{Column, Table};
use crate::decode::findings::Findings;
use crate::decode::json_text::{ObjectText, Reject};
use crate::decode::older::json::Json;
use crate::decode::older::value::{common_type, json_of, with_common_types};
use crate::decode::plain::Walk;
use crate::decode::schema::{EXTRA, PATH, arrow_schema, is_json, json_path};
use crate::decode::shape::Shape;
use crate::error::{Error, MADE_AGAIN, Result};
use crate::nulls::is_null;

/// The way from one old schema to a resource's present one.
pub struct Older {
    schema: SchemaRef,
    /// The fields of the catalog's columns, which come first in the schema.
    fields: Fields,
    shape: Shape,
    /// For each field of the schema, the old column that is the same.
    same: Vec<Option<usize>>,
    leaving: Vec<Leaving>,
    extra: Option<usize>,
    /// Whether the catalog has columns that the old schema has not; `_extra` may hold their values.
    has_new: bool,
    is_same: bool,
}

/// An old column that the present schema has not, or has otherwise.
struct Leaving {
    index: usize,
    path: Vec<String>,
    form: Form,
    /// What the present catalog has at the same path.
    becomes: Option<ColumnKind>,
}

/// How the values of a column are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Typed,
    Json,
    /// JSON of members that stood beside the typed ones of a union.
    Rest,
}

impl Older {
    /// `old` is the schema of a file of the resource, or of its batches.
    pub fn new(old: &Schema, resource: &Resource) -> Older {
        let schema = arrow_schema(resource);
        let is_same = old.fields().len() == schema.fields().len()
            && old
                .fields()
                .iter()
                .zip(schema.fields())
                .all(|(old, new)| old.data_type() == new.data_type() && is_same_column(old, new));
        let mut same: Vec<Option<usize>> = Vec::new();
        for new in schema.fields() {
            let found = old.fields().iter().position(|old| is_same_column(old, new));
            same.push(found.filter(|_| new.name() != EXTRA));
        }
        let columns = &resource.columns;
        take_out_unions(old, columns, &mut same);
        let has_new = columns.iter().zip(&same).any(|(_, same)| same.is_none());
        Older {
            fields: schema.fields()[..columns.len()].to_vec().into(),
            shape: Shape::new(columns, &[]),
            leaving: leaving(old, columns, &same),
            extra: old.fields().iter().position(|field| field.name() == EXTRA),
            same,
            has_new,
            is_same,
            schema,
        }
    }

    /// The rows of an old batch in the present schema.
    ///
    /// Fails with [`crate::error::Kind::Integrity`] where a JSON column holds no JSON.
    pub fn present(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let arrays = if self.is_same { batch.columns().to_vec() } else { self.converted(batch)? };
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(|e| damaged(&e.to_string()))
    }

    fn converted(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let batch = &with_common_types(batch).map_err(|e| damaged(&e.to_string()))?;
        let extra = self.extra.map(|index| batch.column(index));
        let extra = match extra.map(|extra| extra.as_string_opt::<i32>()) {
            Some(None) => return Err(damaged("expected text in _extra")),
            Some(Some(extra)) => extra.clone(),
            None => StringArray::new_null(batch.num_rows()),
        };
        let has_values = |array: &dyn Array| !is_null(array);
        let moves = self.leaving.iter().any(|leaving| has_values(batch.column(leaving.index)))
            || self.has_new && has_values(&extra);
        let mut table = Table::new(&self.fields);
        let extra = if moves { self.decode_again(batch, &extra, &mut table)? } else { extra };
        table.n_rows = batch.num_rows();
        let mut made = table.finish().into_iter();
        let columns = self.schema.fields().iter().zip(&self.same).map(|(field, same)| {
            let made = made.next();
            match same {
                Some(index) => batch.column(*index).clone(),
                None if field.name() == EXTRA => Arc::new(extra.clone()),
                None => made.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows())),
            }
        });
        Ok(columns.collect())
    }

    /// Returns the new `_extra`.
    fn decode_again(
        &self,
        batch: &RecordBatch,
        extras: &StringArray,
        table: &mut Table,
    ) -> Result<StringArray> {
        let mut beside = Text::default();
        for row in 0..batch.num_rows() {
            table.n_rows = row;
            let extra = extras.is_valid(row).then(|| extras.value(row));
            let result = self.decode_row(batch, row, extra, table);
            let text = result.map_err(|Reject(why)| damaged(&format!("row {row}: {why}")))?;
            if let Some(text) = text.as_deref() {
                beside.put(row, text);
            }
        }
        Ok(beside.finish(batch.num_rows()))
    }

    /// Puts what columns can take into the row under construction, and returns the rest.
    fn decode_row(
        &self,
        batch: &RecordBatch,
        row: usize,
        extra: Option<&str>,
        table: &mut Table,
    ) -> std::result::Result<Option<String>, Reject> {
        let mut object = Json::Object(Vec::new());
        let mut moves = self.has_new && extra.is_some();
        for Leaving { index, path, form, becomes } in &self.leaving {
            let array = batch.column(*index);
            if array.is_valid(row) {
                let value = match form {
                    Form::Typed => json_of(array, row, becomes.as_ref())?,
                    Form::Json | Form::Rest => Json::parse(text_of(array, row)?)?,
                };
                object.add(value.under(path));
                moves = true;
            }
        }
        if !moves {
            return Ok(extra.map(str::to_owned));
        }
        if let Some(extra) = extra {
            object.add(Json::parse(extra)?);
        }
        for (column, same) in table.columns.iter_mut().zip(&self.same) {
            if same.is_some() {
                occupy(column, row);
            }
        }
        let mut beside = ObjectText::default();
        let (mut findings, mut embedded) = (Findings::default(), Vec::new());
        let mut walk = Walk {
            shape: &self.shape,
            table,
            extra: &mut beside,
            findings: &mut findings,
            embedded: &mut embedded,
            path: Vec::new(),
        };
        walk.object(&object.to_string(), 0)?;
        Ok(beside.take())
    }
}

fn damaged(why: &str) -> Error {
    Error::integrity(format!("the file cannot be brought to the present columns: {why}")).hint(MADE_AGAIN)
}

/// Name, type, and path, and whether text is JSON: everything that decides what a value means.
fn is_same_column(old: &Field, new: &Field) -> bool {
    old.name() == new.name()
        && common_type(old.data_type()).as_ref().unwrap_or(old.data_type()) == new.data_type()
        && json_path(old) == json_path(new)
        && is_json(old) == is_json(new)
}

/// What a union's `_other` holds depends on the columns below the union: where one of these came or went,
/// it is made anew.
fn take_out_unions(old: &Schema, columns: &[catalog::Column], same: &mut [Option<usize>]) {
    let is_kept = |index: usize| same.contains(&Some(index));
    let gone = (0..old.fields().len()).filter(|index| !is_kept(*index)).map(|index| path(old.field(index)));
    let came = columns.iter().zip(&*same).filter(|(_, same)| same.is_none()).map(|(new, _)| new.path.clone());
    let other: Vec<Vec<String>> = gone.chain(came).collect();
    for (column, same) in columns.iter().zip(same) {
        let is_above = |path: &Vec<String>| path.len() > column.path.len() && path.starts_with(&column.path);
        if column.kind == ColumnKind::Rest && other.iter().any(is_above) {
            *same = None;
        }
    }
}

fn leaving(old: &Schema, columns: &[catalog::Column], same: &[Option<usize>]) -> Vec<Leaving> {
    let mut leaving = Vec::new();
    for (index, field) in old.fields().iter().enumerate() {
        if same.contains(&Some(index)) || !field.metadata().contains_key(PATH) && field.name() == EXTRA {
            continue;
        }
        let path = path(field);
        let form = match (is_json(field), *field.name() == path.join("_")) {
            (false, _) => Form::Typed,
            (true, true) => Form::Json,
            (true, false) => Form::Rest,
        };
        let at_path = |column: &&catalog::Column| column.path == path && column.kind != ColumnKind::Rest;
        let becomes = columns.iter().find(at_path).map(|column| column.kind.clone());
        leaving.push(Leaving { index, path, form, becomes });
    }
    leaving
}

/// The keys that lead to a column's values; without a note of them its name is the only one.
fn path(field: &Field) -> Vec<String> {
    match json_path(field) {
        Some(path) => path.split('.').map(str::to_owned).collect(),
        None => vec![field.name().clone()],
    }
}

fn text_of(array: &ArrayRef, row: usize) -> std::result::Result<&str, Reject> {
    match array.as_string_opt::<i32>() {
        Some(texts) => Ok(texts.value(row)),
        None => Err(Reject::new(format!("expected JSON as text, got {}", array.data_type()))),
    }
}

/// Makes the column refuse any value for `row`: the old one stays, and what `_extra` has beside it, too.
fn occupy(column: &mut Column, row: usize) {
    match column {
        Column::Text(c) => {
            c.put(row, "");
        }
        Column::Int64(c) | Column::Timestamp(c) => {
            c.put(row, 0);
        }
        Column::Float64(c) => {
            c.put(row, 0.0);
        }
        Column::Bool(c) => {
            c.put(row, false);
        }
        Column::Decimal(c) => {
            c.put(row, 0);
        }
        Column::TextList(c) => c.spans.close(row, c.n_items),
        Column::TextMap(c) => c.spans.close(row, c.n_entries),
        Column::StructList(c) => c.spans.close(row, c.items.n_rows),
    }
}
