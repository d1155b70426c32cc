//! Finds the end of a JSON object in bytes that arrive piece by piece.
//!
//! Brackets and strings are looked at, nothing else: decoding checks the rest. Sixty-four bytes at a
//! time become one bit each; where the strings are follows from the parity of the quotes before a byte
//! (Langdale and Lemire, "Parsing gigabytes of JSON per second", section 3.1).

use wide::u8x16;

use crate::tokens::bits_of;

/// Finds the end of a value that begins with a brace, going on where the last bytes ended.
#[derive(Debug, Default)]
pub struct Scan {
    at: usize,
    depth: usize,
    is_in_string: bool,
}

/// One bit for each of sixty-four bytes.
struct Marks {
    quotes: u64,
    backslashes: u64,
    opening: u64,
    closing: u64,
}

impl Marks {
    #[inline(always)]
    fn of(bytes: &[u8; 64]) -> Marks {
        // A square bracket and its brace differ in one bit.
        let brace = |quarter: u8x16| quarter | u8x16::splat(0x20);
        Marks {
            quotes: marks(bytes, |quarter| quarter.simd_eq(u8x16::splat(b'"'))),
            backslashes: marks(bytes, |quarter| quarter.simd_eq(u8x16::splat(b'\\'))),
            opening: marks(bytes, |quarter| brace(quarter).simd_eq(u8x16::splat(b'{'))),
            closing: marks(bytes, |quarter| brace(quarter).simd_eq(u8x16::splat(b'}'))),
        }
    }
}

/// One bit for each byte that `is_marked` makes 255, and not 0.
#[inline(always)]
fn marks(bytes: &[u8; 64], is_marked: impl Fn(u8x16) -> u8x16) -> u64 {
    let (quarters, _) = bytes.as_chunks::<16>();
    let quarter = |n: usize| is_marked(u8x16::from(quarters[n]));
    bits_of([quarter(0), quarter(1), quarter(2), quarter(3)])
}

/// Whether the number of bits at or below each bit is odd.
fn parity(bits: u64) -> u64 {
    [1, 2, 4, 8, 16, 32].iter().fold(bits, |bits, shift| bits ^ bits << shift)
}

impl Scan {
    /// The length of the value, once `bytes`, which begin with it, hold all of it.
    pub fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(block) = bytes.get(self.at..).and_then(|bytes| bytes.first_chunk()) {
            let marks = Marks::of(block);
            // Escapes are rare, and which byte they escape depends on the bytes before.
            let end = match marks.backslashes == 0 {
                true => self.block(&marks),
                false => self.bytes(bytes, self.at + 64),
            };
            if end.is_some() {
                return end;
            }
        }
        self.bytes(bytes, bytes.len())
    }

    fn block(&mut self, marks: &Marks) -> Option<usize> {
        let strings = parity(marks.quotes) ^ if self.is_in_string { u64::MAX } else { 0 };
        let (opening, closing) = (marks.opening & !strings, marks.closing & !strings);
        let n_closing = closing.count_ones() as usize;
        if self.depth <= n_closing {
            let mut brackets = opening | closing;
            let mut depth = self.depth;
            while brackets != 0 {
                let bit = brackets & brackets.wrapping_neg();
                depth = if opening & bit != 0 { depth + 1 } else { depth.saturating_sub(1) };
                if depth == 0 {
                    return Some(self.at + bit.trailing_zeros() as usize + 1);
                }
                brackets ^= bit;
            }
        }
        self.depth = self.depth + opening.count_ones() as usize - n_closing;
        self.is_in_string = strings >> 63 == 1;
        self.at += 64;
        None
    }

    /// Byte by byte, up to `until` or a byte further.
    fn bytes(&mut self, bytes: &[u8], until: usize) -> Option<usize> {
        while self.at < until {
            let byte = bytes[self.at];
            match (self.is_in_string, byte) {
                // The escaped byte may not have been read yet.
                (true, b'\\') if self.at + 1 >= bytes.len() => return None,
                (true, b'\\') => self.at += 1,
                (_, b'"') => self.is_in_string = !self.is_in_string,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.at + 1);
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The obvious way.
    fn oracle(bytes: &[u8]) -> Option<usize> {
        Scan::default().bytes(bytes, bytes.len())
    }

    proptest! {
        #[test]
        fn blocks_end_where_bytes_do_however_they_arrive(
            text in r#"\{([\[{}\]]|"([ -~]|\\\\|\\")*"|[a-z0-9:,\n ]{1,40}|\\){0,40}"#,
            cut in 0usize..400,
        ) {
            let bytes = text.as_bytes();
            let mut scan = Scan::default();
            let early = scan.end(&bytes[..cut.min(bytes.len())]);
            let end = early.or_else(|| scan.end(bytes));
            prop_assert_eq!(end, oracle(bytes));
        }
    }
}
