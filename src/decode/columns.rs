//! Turns values that arrive row by row into Arrow arrays; a column is touched only when it has a value.
//!
//! Every builder pads with nulls lazily: `put(row, value)` first catches up to `row`. A value that
//! arrives a second time for one row (a duplicate key) is refused with `false`, and the caller keeps
//! it elsewhere. `truncate(row)` takes back what a rejected object had already written.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, MapArray,
    StringArray, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields};

/// Digits before and after the point of a decimal column: `Decimal128(38, 12)`, since Stripe's decimal
/// strings have at most 12 decimals.
pub const DECIMAL: (u8, i8) = (38, 12);

/// The rows without a value, as ranges: a value costs nothing here, and a column without nulls has
/// none.
#[derive(Default)]
struct Gaps {
    /// In order and apart from each other.
    rows: Vec<Range<usize>>,
}

impl Gaps {
    fn add(&mut self, rows: Range<usize>) {
        self.rows.push(rows);
    }

    fn contains(&self, row: usize) -> bool {
        let behind = self.rows.partition_point(|gap| gap.start <= row);
        behind.checked_sub(1).is_some_and(|last| self.rows[last].contains(&row))
    }

    /// Forgets the gaps from `row` on.
    fn truncate(&mut self, row: usize) {
        while self.rows.last().is_some_and(|gap| gap.start >= row) {
            self.rows.pop();
        }
        if let Some(last) = self.rows.last_mut() {
            last.end = last.end.min(row);
        }
    }

    fn finish(&mut self, n_rows: usize) -> Option<NullBuffer> {
        if self.rows.is_empty() {
            return None;
        }
        let mut valid = vec![u64::MAX; n_rows.div_ceil(64)];
        for gap in self.rows.drain(..) {
            clear_bits(&mut valid, gap);
        }
        Some(NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(valid), 0, n_rows)))
    }
}

fn clear_bits(words: &mut [u64], bits: Range<usize>) {
    let (first, last) = (bits.start / 64, (bits.end - 1) / 64);
    let from_start = u64::MAX << (bits.start % 64);
    let to_end = u64::MAX >> (63 - (bits.end - 1) % 64);
    if first == last {
        words[first] &= !(from_start & to_end);
        return;
    }
    words[first] &= !from_start;
    words[first + 1..last].fill(0);
    words[last] &= !to_end;
}

/// UTF-8 text.
pub struct Text {
    bytes: Vec<u8>,
    offsets: Vec<i32>,
    gaps: Gaps,
}

impl Default for Text {
    fn default() -> Text {
        Text { bytes: Vec::new(), offsets: vec![0], gaps: Gaps::default() }
    }
}

impl Text {
    #[inline]
    pub fn put(&mut self, row: usize, value: &str) -> bool {
        self.put_bytes(row, value.as_bytes())
    }

    /// Bytes that are UTF-8; [`Text::finish`] makes sure of it.
    #[inline]
    pub fn put_bytes(&mut self, row: usize, value: &[u8]) -> bool {
        if !self.is_at(row) {
            return false;
        }
        self.bytes.extend_from_slice(value);
        self.end();
        true
    }

    /// The first `n` bytes of `window`. Copying all of it, whose size is known, and forgetting the rest
    /// is faster than copying `n` bytes.
    #[inline(always)]
    pub fn put_start_of<const N: usize>(&mut self, row: usize, window: &[u8; N], n: usize) -> bool {
        if !self.is_at(row) {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(window);
        self.bytes.truncate(start + n);
        self.end();
        true
    }

    /// Whether `row` is the next one to get a value, with nulls for those that were passed over.
    #[inline(always)]
    fn is_at(&mut self, row: usize) -> bool {
        if self.offsets.len() <= row {
            self.pad(row);
        }
        self.offsets.len() == row + 1
    }

    #[inline(never)]
    fn pad(&mut self, row: usize) {
        self.gaps.add(self.n_rows()..row);
        self.offsets.resize(row + 1, self.bytes.len() as i32);
    }

    #[inline(always)]
    fn end(&mut self) {
        self.offsets.push(self.bytes.len() as i32);
    }

    fn n_rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The bytes of `row`, if a value was put.
    pub fn get_bytes(&self, row: usize) -> Option<&[u8]> {
        let (start, end) = (*self.offsets.get(row)?, *self.offsets.get(row + 1)?);
        (!self.gaps.contains(row)).then(|| &self.bytes[start as usize..end as usize])
    }

    /// The value of `row`, if one was put.
    pub fn get(&self, row: usize) -> Option<&str> {
        self.get_bytes(row).map(|bytes| std::str::from_utf8(bytes).expect("put takes text"))
    }

    pub(super) fn truncate(&mut self, row: usize) {
        if self.offsets.len() > row + 1 {
            self.offsets.truncate(row + 1);
            self.bytes.truncate(self.offsets[row] as usize);
            self.gaps.truncate(row);
        }
    }

    pub(super) fn finish(&mut self, n_rows: usize) -> StringArray {
        if self.n_rows() < n_rows {
            self.pad(n_rows);
        }
        let offsets = std::mem::replace(&mut self.offsets, first_offset(n_rows));
        let next = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 8);
        let bytes = std::mem::replace(&mut self.bytes, next);
        StringArray::new(
            OffsetBuffer::new(ScalarBuffer::from(offsets)),
            Buffer::from_vec(bytes),
            self.gaps.finish(n_rows),
        )
    }
}

/// Offsets of a next batch, which will probably have as many rows.
fn first_offset(n_rows: usize) -> Vec<i32> {
    let mut offsets = Vec::with_capacity(n_rows + 1);
    offsets.push(0);
    offsets
}

/// Values of one fixed width.
#[derive(Default)]
pub struct Fixed<T> {
    values: Vec<T>,
    gaps: Gaps,
}

impl<T: Copy + Default> Fixed<T> {
    #[inline]
    pub fn put(&mut self, row: usize, value: T) -> bool {
        if self.values.len() < row {
            self.pad(row);
        }
        if self.values.len() > row {
            return false;
        }
        self.values.push(value);
        true
    }

    #[inline(never)]
    fn pad(&mut self, row: usize) {
        self.gaps.add(self.values.len()..row);
        self.values.resize(row, T::default());
    }

    /// The value of `row`, if one was put.
    pub fn get(&self, row: usize) -> Option<T> {
        self.values.get(row).copied().filter(|_| !self.gaps.contains(row))
    }

    fn truncate(&mut self, row: usize) {
        if self.values.len() > row {
            self.values.truncate(row);
            self.gaps.truncate(row);
        }
    }

    fn finish(&mut self, n_rows: usize) -> (Vec<T>, Option<NullBuffer>) {
        if self.values.len() < n_rows {
            self.pad(n_rows);
        }
        let values = std::mem::take(&mut self.values);
        self.values.reserve(n_rows);
        (values, self.gaps.finish(n_rows))
    }
}

/// Where each row's entries end, for lists and maps.
pub struct Spans {
    offsets: Vec<i32>,
    gaps: Gaps,
}

impl Default for Spans {
    fn default() -> Spans {
        Spans { offsets: vec![0], gaps: Gaps::default() }
    }
}

impl Spans {
    /// Whether `row` has no list yet.
    pub fn is_free(&self, row: usize) -> bool {
        self.offsets.len() <= row + 1
    }

    /// Records that the entries up to `end` belong to `row`; `end` counts all entries so far.
    pub fn close(&mut self, row: usize, end: usize) {
        self.pad(row);
        self.offsets.push(end as i32);
    }

    fn pad(&mut self, row: usize) {
        let n_rows = self.offsets.len() - 1;
        if n_rows < row {
            let start = *self.offsets.last().expect("offsets start with 0");
            self.gaps.add(n_rows..row);
            self.offsets.resize(row + 1, start);
        }
    }

    /// Returns how many entries remain.
    fn truncate(&mut self, row: usize) -> usize {
        if self.offsets.len() > row + 1 {
            self.offsets.truncate(row + 1);
            self.gaps.truncate(row);
        }
        *self.offsets.last().expect("offsets start with 0") as usize
    }

    fn finish(&mut self, n_rows: usize) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        self.pad(n_rows);
        let offsets = std::mem::replace(&mut self.offsets, first_offset(n_rows));
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), self.gaps.finish(n_rows))
    }
}

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
            Column::Text(c) => c.offsets.len() == 1,
            Column::Int64(c) | Column::Timestamp(c) => c.values.is_empty(),
            Column::Float64(c) => c.values.is_empty(),
            Column::Bool(c) => c.values.is_empty(),
            Column::Decimal(c) => c.values.is_empty(),
            Column::TextList(c) => c.spans.offsets.len() == 1,
            Column::TextMap(c) => c.spans.offsets.len() == 1,
            Column::StructList(c) => c.spans.offsets.len() == 1,
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
        let mut nulls: HashMap<&DataType, ArrayRef> = HashMap::new();
        let columns = self.columns.iter_mut().zip(&self.fields);
        let finish = |(column, field): (&mut Column, &'a Arc<Field>)| match column.is_untouched() {
            // Most columns of a batch have no value at all; those of one type are one array.
            true => nulls
                .entry(field.data_type())
                .or_insert_with_key(|data_type| new_null_array(data_type, n_rows))
                .clone(),
            false => column.finish(field, n_rows),
        };
        columns.map(finish).collect()
    }
}
