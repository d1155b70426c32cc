//! Turns values that arrive row by row into Arrow arrays; a column is touched only when it has a value.
//!
//! Every builder pads with nulls lazily: `put(row, value)` first catches up to `row`. A value that
//! arrives a second time for one row (a duplicate key) is refused with `false`, and the caller keeps
//! it elsewhere. `truncate(row)` takes back what a rejected object had already written.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, MapArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Fields};

use crate::decode::builders::{Fixed, Spans, Text};
use crate::nulls::NullArrays;

/// Digits before and after the point of a decimal column: `Decimal128(38, 12)`, since Stripe's decimal
/// strings have at most 12 decimals.
pub const DECIMAL: (u8, i8) = (38, 12);

/// A list of texts.
#[derive(Default)]
pub struct TextList {
    pub spans: Spans,
    pub items: Text,
    pub n_items: usize,
}

/// A map of text to text.
#[derive(Default)]
pub struct TextMap {
    pub spans: Spans,
    pub keys: Text,
    pub values: Text,
    pub n_entries: usize,
}

/// A list of structs: the items are the rows of a table of their own.
pub struct StructList {
    pub spans: Spans,
    pub items: Table,
}

/// One column under construction.
pub enum Column {
    Text(Text),
    Int64(Fixed<i64>),
    Float64(Fixed<f64>),
    Bool(Fixed<bool>),
    Timestamp(Fixed<i64>),
    Decimal(Fixed<i128>),
    TextList(TextList),
    TextMap(TextMap),
    StructList(StructList),
}

impl Column {
    /// The builder for a field of a resource's schema.
    pub fn new(field: &Field) -> Column {
        match field.data_type() {
            DataType::Utf8 => Column::Text(Text::default()),
            DataType::Int64 => Column::Int64(Fixed::default()),
            DataType::Float64 => Column::Float64(Fixed::default()),
            DataType::Boolean => Column::Bool(Fixed::default()),
            DataType::Timestamp(_, _) => Column::Timestamp(Fixed::default()),
            DataType::Decimal128(_, _) => Column::Decimal(Fixed::default()),
            DataType::Map(_, _) => Column::TextMap(TextMap::default()),
            DataType::List(item) => match item.data_type() {
                DataType::Struct(fields) => {
                    Column::StructList(StructList { spans: Spans::default(), items: Table::new(fields) })
                }
                _ => Column::TextList(TextList::default()),
            },
            other => unreachable!("the catalog has no column of type {other}"),
        }
    }

    /// Whether no value was put since the last [`Column::finish`].
    fn is_untouched(&self) -> bool {
        match self {
            Column::Text(c) => c.is_untouched(),
            Column::Int64(c) | Column::Timestamp(c) => c.is_untouched(),
            Column::Float64(c) => c.is_untouched(),
            Column::Bool(c) => c.is_untouched(),
            Column::Decimal(c) => c.is_untouched(),
            Column::TextList(c) => c.spans.is_untouched(),
            Column::TextMap(c) => c.spans.is_untouched(),
            Column::StructList(c) => c.spans.is_untouched(),
        }
    }

    fn truncate(&mut self, row: usize) {
        match self {
            Column::Text(c) => c.truncate(row),
            Column::Int64(c) | Column::Timestamp(c) => c.truncate(row),
            Column::Float64(c) => c.truncate(row),
            Column::Bool(c) => c.truncate(row),
            Column::Decimal(c) => c.truncate(row),
            Column::TextList(c) => {
                c.n_items = c.spans.truncate(row);
                c.items.truncate(c.n_items);
            }
            Column::TextMap(c) => {
                c.n_entries = c.spans.truncate(row);
                c.keys.truncate(c.n_entries);
                c.values.truncate(c.n_entries);
            }
            Column::StructList(c) => {
                let n_items = c.spans.truncate(row);
                c.items.truncate(n_items);
            }
        }
    }

    fn finish(&mut self, field: &Field, n_rows: usize) -> ArrayRef {
        match self {
            Column::Text(c) => Arc::new(c.finish(n_rows)),
            Column::Int64(c) => {
                let (values, nulls) = c.finish(n_rows);
                Arc::new(Int64Array::new(values.into(), nulls))
            }
            Column::Float64(c) => {
                let (values, nulls) = c.finish(n_rows);
                Arc::new(Float64Array::new(values.into(), nulls))
            }
            Column::Bool(c) => {
                let (values, nulls) = c.finish(n_rows);
                Arc::new(BooleanArray::new(values.into(), nulls))
            }
            Column::Timestamp(c) => {
                let (values, nulls) = c.finish(n_rows);
                Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone("UTC"))
            }
            Column::Decimal(c) => {
                let (values, nulls) = c.finish(n_rows);
                let array = Decimal128Array::new(values.into(), nulls);
                Arc::new(array.with_precision_and_scale(DECIMAL.0, DECIMAL.1).expect("38 digits fit"))
            }
            Column::TextList(c) => {
                let items = c.items.finish(std::mem::take(&mut c.n_items));
                let (offsets, nulls) = c.spans.finish(n_rows);
                Arc::new(ListArray::new(list_item(field), offsets, Arc::new(items), nulls))
            }
            Column::TextMap(c) => map_array(c, field, n_rows),
            Column::StructList(c) => {
                let n_items = c.items.n_rows;
                let items = StructArray::new(struct_fields(field), c.items.finish(), None);
                debug_assert_eq!(items.len(), n_items);
                let (offsets, nulls) = c.spans.finish(n_rows);
                Arc::new(ListArray::new(list_item(field), offsets, Arc::new(items), nulls))
            }
        }
    }
}

fn list_item(field: &Field) -> Arc<Field> {
    match field.data_type() {
        DataType::List(item) => item.clone(),
        other => unreachable!("{other} is no list"),
    }
}

fn struct_fields(field: &Field) -> Fields {
    match list_item(field).data_type() {
        DataType::Struct(fields) => fields.clone(),
        other => unreachable!("{other} is no struct"),
    }
}

fn map_array(column: &mut TextMap, field: &Field, n_rows: usize) -> ArrayRef {
    let DataType::Map(entries, ordered) = field.data_type() else {
        unreachable!("{} is no map", field.data_type());
    };
    let DataType::Struct(fields) = entries.data_type() else {
        unreachable!("a map's entries are a struct");
    };
    let n_entries = std::mem::take(&mut column.n_entries);
    let keys: ArrayRef = Arc::new(column.keys.finish(n_entries));
    let values: ArrayRef = Arc::new(column.values.finish(n_entries));
    let structs = StructArray::new(fields.clone(), vec![keys, values], None);
    let (offsets, nulls) = column.spans.finish(n_rows);
    Arc::new(MapArray::new(entries.clone(), offsets, structs, nulls, *ordered))
}

/// The columns of one table under construction, all of the same length once finished.
pub struct Table {
    fields: Fields,
    pub columns: Vec<Column>,
    /// Rows that are complete; the row under construction has this number.
    pub n_rows: usize,
}

impl Table {
    pub fn new(fields: &Fields) -> Table {
        Table { fields: fields.clone(), columns: fields.iter().map(|f| Column::new(f)).collect(), n_rows: 0 }
    }

    /// Takes back every row from `row` on, the unfinished one included.
    pub fn truncate(&mut self, row: usize) {
        for column in &mut self.columns {
            column.truncate(row);
        }
        self.n_rows = row;
    }

    /// The arrays of all complete rows, in the order of the fields; the table is empty afterwards.
    pub fn finish<'a>(&'a mut self) -> Vec<ArrayRef> {
        let n_rows = std::mem::take(&mut self.n_rows);
        let mut nulls = NullArrays::new(n_rows);
        let columns = self.columns.iter_mut().zip(&self.fields);
        let finish = |(column, field): (&mut Column, &'a Arc<Field>)| match column.is_untouched() {
            true => nulls.of(field.data_type()),
            false => column.finish(field, n_rows),
        };
        columns.map(finish).collect()
    }
}
