//! Begins each version of a file at another byte than the one before.
//!
//! A reader may open a file twice, once for its footer and once for its rows, and meet another version the second time. The first
//! column would begin at the same byte in both: DuckDB takes the pages of the one for those of the other, without a word. So there are
//! bytes before it, which begin no page; a reader of the file itself passes over them.

use parquet::file::metadata::ParquetMetaData;

/// Behind the magic number at its beginning.
const FIRST: usize = 4;
const STEP: usize = 16;
/// So many versions begin at different bytes.
const STEPS: usize = 64;

/// Bytes before the first column, none of which may begin the header of a page.
pub fn filling(shift: usize) -> Vec<u8> {
    vec![u8::MAX; shift]
}

/// Those of a file.
pub fn of(metadata: &ParquetMetaData) -> usize {
    let first = metadata.row_groups().first().and_then(|group| group.columns().first());
    first.map_or(0, |column| (column.byte_range().0 as usize).saturating_sub(FIRST))
}

/// Those of the version that follows it.
pub fn behind(shift: usize) -> usize {
    (shift / STEP + 1) % STEPS * STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_follow_each_other_begin_at_different_bytes() {
        let mut shifts = vec![0];
        shifts.extend((1..STEPS).scan(0, |shift, _| {
            *shift = behind(*shift);
            Some(*shift)
        }));
        shifts.sort_unstable();
        shifts.dedup();
        assert_eq!((shifts.len(), behind(shifts[STEPS - 1])), (STEPS, 0));
    }
}
