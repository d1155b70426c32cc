//! Turns values into the buffers of one array; what is passed over is null, and costs nothing.

use std::ops::Range;

use arrow::array::StringArray;
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

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

    /// Whether no value was put since the last [`Text::finish`].
    pub fn is_untouched(&self) -> bool {
        self.offsets.len() == 1
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

    pub fn truncate(&mut self, row: usize) {
        if self.offsets.len() > row + 1 {
            self.offsets.truncate(row + 1);
            self.bytes.truncate(self.offsets[row] as usize);
            self.gaps.truncate(row);
        }
    }

    pub fn finish(&mut self, n_rows: usize) -> StringArray {
        if self.n_rows() < n_rows {
            self.pad(n_rows);
        }
        let offsets = std::mem::replace(&mut self.offsets, first_offset(n_rows));
        let next = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 16);
        let bytes = std::mem::replace(&mut self.bytes, next);
        StringArray::new(
            OffsetBuffer::new(ScalarBuffer::from(tight(offsets))),
            Buffer::from_vec(tight(bytes)),
            self.gaps.finish(n_rows),
        )
    }
}

/// The values without much room behind them: a batch may wait for long until its partition is complete.
fn tight<T>(mut values: Vec<T>) -> Vec<T> {
    // Less than that is lost to the allocator's size classes anyway, and giving it back means a copy.
    if values.capacity() > values.len() + values.len() / 4 {
        values.shrink_to_fit();
    }
    values
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

    /// Whether no value was put since the last [`Fixed::finish`].
    pub fn is_untouched(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of `row`, if one was put.
    pub fn get(&self, row: usize) -> Option<T> {
        self.values.get(row).copied().filter(|_| !self.gaps.contains(row))
    }

    pub fn truncate(&mut self, row: usize) {
        if self.values.len() > row {
            self.values.truncate(row);
            self.gaps.truncate(row);
        }
    }

    pub fn finish(&mut self, n_rows: usize) -> (Vec<T>, Option<NullBuffer>) {
        if self.values.len() < n_rows {
            self.pad(n_rows);
        }
        let values = std::mem::take(&mut self.values);
        self.values.reserve(n_rows);
        (tight(values), self.gaps.finish(n_rows))
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
    /// Whether no list was put since the last [`Spans::finish`].
    pub fn is_untouched(&self) -> bool {
        self.offsets.len() == 1
    }

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
    pub fn truncate(&mut self, row: usize) -> usize {
        if self.offsets.len() > row + 1 {
            self.offsets.truncate(row + 1);
            self.gaps.truncate(row);
        }
        *self.offsets.last().expect("offsets start with 0") as usize
    }

    pub fn finish(&mut self, n_rows: usize) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        self.pad(n_rows);
        let offsets = std::mem::replace(&mut self.offsets, first_offset(n_rows));
        (OffsetBuffer::new(ScalarBuffer::from(tight(offsets))), self.gaps.finish(n_rows))
    }
}
