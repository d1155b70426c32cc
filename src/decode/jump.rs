//! Learns which bytes stand between two values, so that the way to the next one is compared and not parsed.
//!
//! A third of the members of a usual object are null, and objects begin and end between values. All of
//! that is one literal: from the end of a value, over nulls, keys and braces, to the beginning of the
//! next value that has to be put somewhere. Objects of one kind differ in what is null, so two literals
//! are kept for each spot; what matches neither is walked key by key.

use wide::u8x16;

use crate::decode::template::{Landing, Spot};

/// Bytes that are compared in one piece.
const BLOCK: usize = 64;
/// Blocks of the longest literal; what is longer is always walked.
const BLOCKS: usize = 6;
/// The literal that was not used last is replaced after this many misses, so that one odd object does
/// not unlearn a usual one.
const PATIENCE: u8 = 3;

/// One literal and where it leads.
#[derive(Debug, Clone)]
struct Jump {
    landing: Option<Landing>,
    length: u16,
    literal: [[u8; BLOCK]; BLOCKS],
}

/// What was learnt for one spot.
#[derive(Debug, Clone)]
struct Ways {
    ways: [Jump; 2],
    misses: u8,
    /// The way to replace next.
    oldest: u8,
}

/// The jumps of one table.
#[derive(Debug)]
pub struct Jumps {
    by_spot: Vec<Ways>,
}

impl Jumps {
    pub fn new(n_spots: usize) -> Jumps {
        let empty = Jump { landing: None, length: 0, literal: [[0; BLOCK]; BLOCKS] };
        let ways = Ways { ways: [empty.clone(), empty], misses: 0, oldest: 0 };
        Jumps { by_spot: vec![ways; n_spots] }
    }

    /// Where the bytes at `at` lead, and the index behind them, if they are known.
    #[inline(always)]
    pub fn find(&self, bytes: &[u8], at: usize, spot: Spot) -> Option<(Landing, usize)> {
        let ways = &self.by_spot[spot.number()].ways;
        ways[0].find(bytes, at).or_else(|| ways[1].find(bytes, at))
    }

    /// Remembers the bytes that led from `spot` to `landing`.
    pub fn learn(&mut self, spot: Spot, literal: &[u8], landing: Landing) {
        if literal.is_empty() || literal.len() > BLOCK * BLOCKS {
            return;
        }
        let ways = &mut self.by_spot[spot.number()];
        let way = match ways.ways.iter().position(|way| way.landing.is_none()) {
            Some(empty) => empty,
            None if ways.misses < PATIENCE => {
                ways.misses += 1;
                return;
            }
            None => usize::from(ways.oldest),
        };
        let jump = &mut ways.ways[way];
        jump.literal.as_flattened_mut()[..literal.len()].copy_from_slice(literal);
        jump.length = literal.len() as u16;
        jump.landing = Some(landing);
        ways.misses = 0;
        ways.oldest = 1 - way as u8;
    }
}

impl Jump {
    #[inline(always)]
    fn find(&self, bytes: &[u8], at: usize) -> Option<(Landing, usize)> {
        let landing = self.landing?;
        let mut left = usize::from(self.length);
        let mut window = bytes.get(at..)?;
        for literal in &self.literal {
            let (block, behind) = window.split_first_chunk()?;
            let same = same_bytes(block, literal);
            if left <= BLOCK {
                let is_same = (!same << (BLOCK - left)) == 0;
                return is_same.then_some((landing, at + usize::from(self.length)));
            }
            if same != u64::MAX {
                return None;
            }
            left -= BLOCK;
            window = behind;
        }
        None
    }
}

/// One bit for every byte that is the same in both.
#[inline(always)]
fn same_bytes(a: &[u8; BLOCK], b: &[u8; BLOCK]) -> u64 {
    let (a, _) = a.as_chunks::<16>();
    let (b, _) = b.as_chunks::<16>();
    let bits = |n: usize| u64::from(u8x16::from(a[n]).simd_eq(u8x16::from(b[n])).to_bitmask()) << (16 * n);
    bits(0) | bits(1) | bits(2) | bits(3)
}

/// Whether two texts of one length are the same, sixteen bytes at a time.
#[inline(always)]
pub fn is_same(a: &[u8], b: &[u8]) -> bool {
    let (a_words, a_tail) = a.as_chunks::<16>();
    let (b_words, b_tail) = b.as_chunks::<16>();
    if !a_words.iter().zip(b_words).all(|(a, b)| a == b) {
        return false;
    }
    match (a.last_chunk::<16>(), b.last_chunk::<16>()) {
        (Some(a), Some(b)) => a == b,
        _ => a_tail == b_tail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_to_the_last_byte() {
        let a = [7u8; 80];
        for length in 0..=80 {
            assert!(is_same(&a[..length], &a[..length]));
            for at in 0..length {
                let mut b = a;
                b[at] ^= 1;
                assert!(!is_same(&a[..length], &b[..length]), "{at} of {length}");
            }
        }
    }
}
