//! Turns decoded members into the rows of one table, system columns included.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};

use crate::catalog::{LONGEST_ID, Resource};
use crate::decode::columns::{Column, Table};
use crate::decode::json_text::Reject;
use crate::decode::schema::arrow_schema;

/// `created` in seconds from 1970 up to here (2200-01-01) is believed; anything else is a broken object.
pub const LAST_CREATED: i64 = 7_258_118_400;

/// In memory only: the second in which the object that decides the partition was created.
pub const PARTITION_AT: &str = "_partition_at";

/// The columns that every row needs, by index.
struct Required {
    id: usize,
    created: Option<usize>,
    livemode: usize,
    object: Option<usize>,
    /// For a child, the column that names its parent.
    parent_key: Option<usize>,
}

/// The parent of a child row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentRow {
    pub id: String,
    /// Seconds.
    pub created: i64,
}

/// The rows of one table under construction.
pub struct Rows {
    pub resource: Arc<Resource>,
    pub table: Table,
    pub extra: crate::decode::builders::Text,
    schema: SchemaRef,
    required: Required,
    synced_at: Vec<i64>,
    deleted: Vec<bool>,
    partition_at: Vec<i64>,
}

impl Rows {
    pub fn new(resource: &Arc<Resource>) -> Rows {
        let schema = arrow_schema(resource);
        let fields: Fields = schema.fields()[..resource.columns.len()].to_vec().into();
        let position = |name: &str| resource.columns.iter().position(|c| c.name == name);
        Rows {
            resource: resource.clone(),
            table: Table::new(&fields),
            extra: Default::default(),
            required: Required {
                id: position("id").expect("the catalog checks that id is a column"),
                created: position("created").filter(|_| resource.has_created),
                livemode: position("livemode").expect("the catalog adds livemode"),
                object: position("object"),
                parent_key: resource.parent.as_ref().and_then(|p| position(&p.key)),
            },
            schema,
            synced_at: Vec::new(),
            deleted: Vec::new(),
            partition_at: Vec::new(),
        }
    }

    /// Completes the row under construction and returns its `created`, in seconds (0 without one).
    ///
    /// Fails where the object has no proper `id` or `created`; the caller then takes the row back
    /// with [`Rows::truncate`].
    pub fn end_row(
        &mut self,
        livemode: Option<bool>,
        synced_at: i64,
        is_deleted: bool,
        parent: Option<&ParentRow>,
    ) -> Result<i64, Reject> {
        let row = self.table.n_rows;
        let id = self.text_at(self.required.id, row).map_or(0, <[u8]>::len);
        if !(1..=LONGEST_ID).contains(&id) {
            return Err(Reject::new(format!("expected an id of 1 to {LONGEST_ID} bytes")));
        }
        let created = self.created_at(row)?;
        let partition_at = match (parent, created) {
            (Some(parent), _) => parent.created,
            (None, Some(created)) => created,
            (None, None) => 0,
        };
        if let (Some(livemode), Column::Bool(column)) =
            (livemode, &mut self.table.columns[self.required.livemode])
        {
            column.put(row, livemode);
        }
        if let (Some(parent), Some(key)) = (parent, self.required.parent_key)
            && let Column::Text(column) = &mut self.table.columns[key]
        {
            column.put(row, &parent.id);
        }
        self.synced_at.push(synced_at);
        self.deleted.push(is_deleted);
        self.partition_at.push(partition_at);
        self.table.n_rows += 1;
        Ok(created.unwrap_or(0))
    }

    fn text_at(&self, column: usize, row: usize) -> Option<&[u8]> {
        match &self.table.columns[column] {
            Column::Text(text) => text.get_bytes(row),
            _ => None,
        }
    }

    /// The id of the row that was completed last.
    pub fn last_id(&self) -> &str {
        self.id(self.table.n_rows.checked_sub(1).expect("a row was completed"))
    }

    /// Those of the complete rows from `first` on.
    pub fn ids_from(&self, first: usize) -> Vec<String> {
        (first..self.table.n_rows).map(|row| self.id(row).to_owned()).collect()
    }

    /// The id of a complete row.
    pub fn id(&self, row: usize) -> &str {
        match &self.table.columns[self.required.id] {
            Column::Text(text) => text.get(row).expect("end_row checks the id"),
            _ => unreachable!("the id is a text column"),
        }
    }

    /// When the objects of the rows from `row` on were created, in seconds; `None` for a table whose rows do
    /// not have that of their own.
    pub fn created_from(&self, row: usize) -> Option<&[i64]> {
        let is_own = self.required.created.is_some() && self.required.parent_key.is_none();
        is_own.then(|| &self.partition_at[row..])
    }

    /// What the object of the row under construction says it is.
    pub fn stated_object(&self) -> Option<&[u8]> {
        self.text_at(self.required.object?, self.table.n_rows)
    }

    /// The livemode that the object of the row under construction stated itself.
    pub fn stated_livemode(&self) -> Option<bool> {
        match &self.table.columns[self.required.livemode] {
            Column::Bool(column) => column.get(self.table.n_rows),
            _ => None,
        }
    }

    fn created_at(&self, row: usize) -> Result<Option<i64>, Reject> {
        let Some(column) = self.required.created else { return Ok(None) };
        let micros = match &self.table.columns[column] {
            Column::Timestamp(column) => column.get(row),
            _ => None,
        };
        match micros.map(|us| us.div_euclid(1_000_000)) {
            Some(secs) if (0..LAST_CREATED).contains(&secs) => Ok(Some(secs)),
            Some(secs) => {
                Err(Reject::new(format!("expected created from 1970 to 2199 in unix seconds, got {secs}")))
            }
            None => Err(Reject::new("expected created in unix seconds")),
        }
    }

    /// Takes back every row from `row` on, the unfinished one included.
    pub fn truncate(&mut self, row: usize) {
        self.table.truncate(row);
        self.extra.truncate(row);
        self.synced_at.truncate(row);
        self.deleted.truncate(row);
        self.partition_at.truncate(row);
    }

    /// All complete rows: the table's schema and, last, `_partition_at` (seconds, `Int64`).
    pub fn finish(&mut self) -> Option<RecordBatch> {
        let n_rows = self.table.n_rows;
        if n_rows == 0 {
            return None;
        }
        let mut arrays = self.table.finish();
        let synced_at = std::mem::take(&mut self.synced_at);
        let synced_at = TimestampMicrosecondArray::from(synced_at).with_timezone("UTC");
        let system: [ArrayRef; 4] = [
            Arc::new(synced_at),
            Arc::new(BooleanArray::from(std::mem::take(&mut self.deleted))),
            Arc::new(self.extra.finish(n_rows)),
            Arc::new(Int64Array::from(std::mem::take(&mut self.partition_at))),
        ];
        arrays.extend(system);
        Some(
            RecordBatch::try_new(with_partition_at(&self.schema), arrays)
                .expect("builders follow the schema"),
        )
    }
}

/// The schema of decoded batches: a table's, and `_partition_at`.
pub fn with_partition_at(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(PARTITION_AT, DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}

/// Whether rows say that they are of test mode, and whether rows say that they are of live mode.
pub fn modes_of(batch: &RecordBatch) -> [bool; 2] {
    let Some(livemode) = batch.column_by_name("livemode") else { return [false; 2] };
    let livemode = livemode.as_boolean();
    [livemode.false_count() > 0, livemode.true_count() > 0]
}

/// The mode that the first row states of those that state one.
pub fn first_mode_of(batch: &RecordBatch) -> Option<bool> {
    batch.column_by_name("livemode")?.as_boolean().iter().flatten().next()
}

/// The rows of which this is true. Where all are, that is the batch itself.
pub fn rows_where(batch: &RecordBatch, is_wanted: impl Iterator<Item = bool>) -> RecordBatch {
    let wanted: BooleanArray = is_wanted.map(Some).collect();
    match wanted.true_count() == wanted.len() {
        true => batch.clone(),
        false => filter_record_batch(batch, &wanted).expect("as many as there are rows"),
    }
}
