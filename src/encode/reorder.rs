//! Turns the values of several arrays into one array, in another order.
//!
//! Rows come in stretches, mostly: a list is read from its newest object to its oldest and written the other way
//! round. What is the same for all rows of a stretch is done once here, where `interleave` does it for each.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, PrimitiveArray, StringArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};

/// Copying so many bytes, of which all but the value's are then forgotten, is faster than copying the value.
const WINDOW: usize = 32;

/// Rows of one batch that follow each other, forwards or backwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    batch: usize,
    rows: Range<usize>,
    is_backwards: bool,
}

/// Rows in an order of their own, by stretches.
#[derive(Debug, Clone, Default)]
pub struct Stretches {
    stretches: Vec<Stretch>,
    /// How many rows come before each.
    starts: Vec<usize>,
}

impl Stretches {
    /// `rows`, each `(batch, row)`, in their order.
    pub fn of(rows: &[(usize, usize)]) -> Stretches {
        let mut all = Stretches::default();
        let mut at = 0;
        while let Some((batch, first)) = rows.get(at) {
            let follows = |(n, row): (usize, &(usize, usize))| *row == (*batch, first + n);
            let leads = |(n, row): (usize, &(usize, usize))| row.0 == *batch && row.1 + n == *first;
            let forwards = rows[at..].iter().enumerate().take_while(|row| follows(*row)).count();
            let backwards = rows[at..].iter().enumerate().take_while(|row| leads(*row)).count();
            let (rows, is_backwards) = match backwards > forwards {
                true => (first + 1 - backwards..first + 1, true),
                false => (*first..first + forwards, false),
            };
            all.starts.push(at);
            at += rows.len();
            all.stretches.push(Stretch { batch: *batch, rows, is_backwards });
        }
        all
    }

    /// The part that rows `rows` of all of them are.
    pub fn part(&self, rows: Range<usize>) -> Vec<Stretch> {
        let first = self.starts.partition_point(|start| *start <= rows.start).saturating_sub(1);
        let with_start = self.stretches.iter().zip(&self.starts).skip(first);
        let within = with_start.take_while(|(_, start)| **start < rows.end);
        within
            .map(|(stretch, start)| stretch.part(rows.start.max(*start) - start..rows.end - start))
            .collect()
    }

    /// The same with the batches that it is in, few of many: the stretches count among those.
    pub fn piece(&self, rows: Range<usize>) -> Piece {
        let mut stretches = self.part(rows);
        let mut batches: Vec<usize> = stretches.iter().map(|stretch| stretch.batch).collect();
        batches.sort_unstable();
        batches.dedup();
        for stretch in &mut stretches {
            stretch.batch = batches.partition_point(|batch| *batch < stretch.batch);
        }
        Piece { batches, stretches }
    }
}

/// Some rows, and the batches that they are in.
#[derive(Debug)]
pub struct Piece {
    pub batches: Vec<usize>,
    pub stretches: Vec<Stretch>,
}

impl Piece {
    /// The rows, each `(batch, row)`, in their order.
    pub fn rows(&self) -> Vec<(usize, usize)> {
        self.stretches.iter().flat_map(Stretch::places).collect()
    }
}

impl Stretch {
    /// Its rows from one to another, counted in their order; it may end before.
    fn part(&self, wanted: Range<usize>) -> Stretch {
        let wanted = wanted.start..wanted.end.min(self.rows.len());
        let rows = match self.is_backwards {
            true => self.rows.end - wanted.end..self.rows.end - wanted.start,
            false => self.rows.start + wanted.start..self.rows.start + wanted.end,
        };
        Stretch { rows, ..self.clone() }
    }

    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let Stretch { batch, rows, is_backwards } = self;
        let (last, n_rows) = (rows.end - 1, rows.len());
        (0..n_rows).map(move |n| (*batch, if *is_backwards { last - n } else { rows.start + n }))
    }
}

/// One array of the rows of `stretches`; `None` for types that are seldom.
///
/// Text comes as bytes: it was checked to be UTF-8 when its array was made.
pub fn reordered(arrays: &[&dyn Array], stretches: &[Stretch]) -> Option<ArrayRef> {
    match arrays.first()?.data_type() {
        DataType::Utf8 => text(arrays, stretches),
        DataType::Boolean => Some(flags(arrays, stretches)),
        DataType::Int64 => Some(fixed::<Int64Type>(arrays, stretches)),
        DataType::Float64 => Some(fixed::<Float64Type>(arrays, stretches)),
        DataType::Decimal128(_, _) => Some(fixed::<Decimal128Type>(arrays, stretches)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Some(fixed::<TimestampMicrosecondType>(arrays, stretches))
        }
        _ => None,
    }
}

fn fixed<T: ArrowPrimitiveType>(arrays: &[&dyn Array], stretches: &[Stretch]) -> ArrayRef {
    let sources: Vec<&PrimitiveArray<T>> = arrays.iter().map(|array| array.as_primitive()).collect();
    let mut values: Vec<T::Native> = Vec::with_capacity(n_rows(stretches));
    for Stretch { batch, rows, is_backwards } in stretches {
        let from = &sources[*batch].values()[rows.clone()];
        match is_backwards {
            true => values.extend(from.iter().rev()),
            false => values.extend_from_slice(from),
        }
    }
    let array = PrimitiveArray::<T>::new(values.into(), nulls(arrays, stretches));
    Arc::new(array.with_data_type(arrays[0].data_type().clone()))
}

fn flags(arrays: &[&dyn Array], stretches: &[Stretch]) -> ArrayRef {
    let mut values = Bits::default();
    for Stretch { batch, rows, is_backwards } in stretches {
        let array = arrays[*batch].as_boolean();
        match array.null_count() == array.len() {
            true => values.fill(0, rows.len()),
            false => values.copy(&array.values().slice(rows.start, rows.len()), *is_backwards),
        }
    }
    Arc::new(BooleanArray::new(values.buffer(), nulls(arrays, stretches)))
}

/// `None` where one array cannot hold as many bytes.
fn text(arrays: &[&dyn Array], stretches: &[Stretch]) -> Option<ArrayRef> {
    let sources: Vec<&StringArray> = arrays.iter().map(|array| array.as_string()).collect();
    let ends_of =
        |Stretch { batch, rows, .. }: &Stretch| &sources[*batch].value_offsets()[rows.start..=rows.end];
    let n_bytes = |stretch: &Stretch| ends_of(stretch)[stretch.rows.len()] - ends_of(stretch)[0];
    let n_bytes: usize = stretches.iter().map(|stretch| n_bytes(stretch) as usize).sum();
    i32::try_from(n_bytes).ok()?;
    // Made of zeros and filled: growing them value by value takes as long as copying.
    let mut bytes = vec![0u8; n_bytes + WINDOW];
    let mut offsets = vec![0i32; n_rows(stretches) + 1];
    let (mut n_bytes, mut n_rows) = (0, 0);
    for stretch in stretches {
        let (from, ends) = (sources[stretch.batch].value_data(), ends_of(stretch));
        let (start, end) = (ends[0] as usize, ends[stretch.rows.len()] as usize);
        let offsets = &mut offsets[n_rows + 1..][..stretch.rows.len()];
        n_rows += stretch.rows.len();
        if start == end {
            offsets.fill(n_bytes as i32);
        } else if stretch.is_backwards {
            for (value, offset) in ends.windows(2).rev().zip(offsets) {
                n_bytes = put(&mut bytes, n_bytes, from, value[0] as usize..value[1] as usize);
                *offset = n_bytes as i32;
            }
        } else {
            bytes[n_bytes..][..end - start].copy_from_slice(&from[start..end]);
            let shift = n_bytes as i32 - start as i32;
            ends[1..].iter().zip(offsets).for_each(|(end, offset)| *offset = end + shift);
            n_bytes += end - start;
        }
    }
    bytes.truncate(n_bytes);
    let offsets = OffsetBuffer::new(offsets.into());
    Some(Arc::new(BinaryArray::new(offsets, bytes.into(), nulls(arrays, stretches))))
}

/// Returns where the value ends.
#[inline(always)]
fn put(bytes: &mut [u8], at: usize, from: &[u8], value: Range<usize>) -> usize {
    let end = at + value.len();
    match (from[value.start..].first_chunk::<WINDOW>(), bytes[at..].first_chunk_mut::<WINDOW>()) {
        (Some(window), Some(place)) if value.len() <= WINDOW => *place = *window,
        _ => bytes[at..end].copy_from_slice(&from[value]),
    }
    end
}

fn nulls(arrays: &[&dyn Array], stretches: &[Stretch]) -> Option<NullBuffer> {
    if stretches.iter().all(|stretch| arrays[stretch.batch].null_count() == 0) {
        return None;
    }
    let mut valid = Bits::default();
    for Stretch { batch, rows, is_backwards } in stretches {
        match arrays[*batch].nulls() {
            None => valid.fill(u64::MAX, rows.len()),
            Some(nulls) if nulls.null_count() == nulls.len() => valid.fill(0, rows.len()),
            Some(nulls) => valid.copy(&nulls.inner().slice(rows.start, rows.len()), *is_backwards),
        }
    }
    Some(NullBuffer::new(valid.buffer()))
}

/// Bits one after the other, 64 at a time.
#[derive(Default)]
struct Bits {
    words: Vec<u64>,
    n_bits: usize,
}

impl Bits {
    fn buffer(self) -> BooleanBuffer {
        BooleanBuffer::new(self.words.into(), 0, self.n_bits)
    }

    /// Adds the lowest `n` bits, 1 to 64; the others are 0.
    fn push(&mut self, bits: u64, n: usize) {
        let at = self.n_bits % 64;
        match self.words.last_mut() {
            Some(last) if at > 0 => {
                *last |= bits << at;
                if at + n > 64 {
                    self.words.push(bits >> (64 - at));
                }
            }
            _ => self.words.push(bits),
        }
        self.n_bits += n;
    }

    /// Adds `n` equal bits.
    fn fill(&mut self, word: u64, n: usize) {
        let (n_words, n_rest) = (n / 64, n % 64);
        (0..n_words).for_each(|_| self.push(word, 64));
        if n_rest > 0 {
            self.push(word >> (64 - n_rest), n_rest);
        }
    }

    fn copy(&mut self, from: &BooleanBuffer, is_backwards: bool) {
        let chunks = from.bit_chunks();
        let (rest, n_rest) = (chunks.remainder_bits(), chunks.remainder_len());
        if is_backwards {
            if n_rest > 0 {
                self.push(rest.reverse_bits() >> (64 - n_rest), n_rest);
            }
            let words: Vec<u64> = chunks.iter().collect();
            words.iter().rev().for_each(|word| self.push(word.reverse_bits(), 64));
        } else {
            chunks.iter().for_each(|word| self.push(word, 64));
            if n_rest > 0 {
                self.push(rest, n_rest);
            }
        }
    }
}

fn n_rows(stretches: &[Stretch]) -> usize {
    stretches.iter().map(|stretch| stretch.rows.len()).sum()
}

#[cfg(test)]
mod tests {
    use arrow::compute::{cast, interleave};
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;

    use super::*;

    /// Values by column type, made of one number each; sliced, so that they begin behind the start of their buffers.
    fn array(data_type: &DataType, values: &[Option<u16>], cut: usize) -> ArrayRef {
        let text = |value: &Option<u16>| value.map(|n| "é".repeat(usize::from(n % 40)) + &n.to_string());
        let array: ArrayRef = match data_type {
            DataType::Utf8 => Arc::new(values.iter().map(text).collect::<StringArray>()),
            DataType::Boolean => {
                Arc::new(values.iter().map(|value| value.map(|n| n % 3 == 0)).collect::<BooleanArray>())
            }
            other => {
                let numbers: PrimitiveArray<Int64Type> = values.iter().map(|n| n.map(i64::from)).collect();
                cast(&numbers, other).unwrap()
            }
        };
        array.slice(cut, array.len() - cut)
    }

    fn types() -> impl Strategy<Value = DataType> {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        prop_oneof![
            Just(DataType::Utf8),
            Just(DataType::Boolean),
            Just(DataType::Int64),
            Just(DataType::Float64),
            Just(DataType::Decimal128(38, 12)),
            Just(time),
        ]
    }

    /// A piece of a batch, forwards or backwards; its numbers are shares of what is there.
    fn pieces() -> impl Strategy<Value = Vec<(prop::sample::Index, prop::sample::Index, usize, bool)>> {
        let piece = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..150, any::<bool>());
        proptest::collection::vec(piece, 1..12)
    }

    proptest! {
        #[test]
        fn rows_are_those_that_interleave_takes(
            data_type in types(),
            batches in proptest::collection::vec(
                (proptest::collection::vec(proptest::option::weighted(0.7, any::<u16>()), 3..200), 0usize..3),
                1..4,
            ),
            pieces in pieces(),
            within in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let arrays: Vec<ArrayRef> =
                batches.iter().map(|(values, cut)| array(&data_type, values, *cut)).filter(|a| !a.is_empty()).collect();
            prop_assume!(!arrays.is_empty());
            let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
            let mut rows = Vec::new();
            for (batch, first, n, is_backwards) in pieces {
                let batch = batch.index(arrays.len());
                let first = first.index(arrays[batch].len());
                let last = (first + n).min(arrays[batch].len());
                let mut piece: Vec<(usize, usize)> = (first..last).map(|row| (batch, row)).collect();
                if is_backwards {
                    piece.reverse();
                }
                rows.extend(piece);
            }
            let (from, to) = (within.0.index(rows.len() + 1), within.1.index(rows.len() + 1));
            let within = from.min(to)..from.max(to);
            prop_assume!(!within.is_empty());
            let Piece { batches, stretches } = Stretches::of(&rows).piece(within.clone());
            let of_piece: Vec<&dyn Array> = batches.iter().map(|batch| arrays[*batch]).collect();
            let got = reordered(&of_piece, &stretches).unwrap();
            let got = if data_type == DataType::Utf8 { cast(&got, &data_type).unwrap() } else { got };
            prop_assert_eq!(&got, &interleave(&arrays, &rows[within]).unwrap());
        }
    }

    #[test]
    fn a_list_read_from_its_newest_object_is_one_stretch_a_batch() {
        let rows: Vec<(usize, usize)> = [(1, 0..50), (0, 0..100)]
            .into_iter()
            .flat_map(|(batch, rows)| rows.rev().map(move |row| (batch, row)))
            .collect();
        let stretch = |batch, rows| Stretch { batch, rows, is_backwards: true };
        assert_eq!(Stretches::of(&rows).part(0..150), [stretch(1, 0..50), stretch(0, 0..100)]);
        assert_eq!(Stretches::of(&rows).part(40..60), [stretch(1, 0..10), stretch(0, 90..100)]);
        let piece = Stretches::of(&rows).piece(10..30);
        assert_eq!((&piece.batches[..], &piece.stretches[..]), (&[1][..], &[stretch(0, 20..40)][..]));
        assert_eq!(piece.rows(), (20..40).rev().map(|row| (0, row)).collect::<Vec<_>>());
    }
}
