//! Learns which bytes stand between two values, so that the way to the next one is compared and not parsed.
//!
//! A third of the members of a usual object are null, and objects begin and end between values. All of
//! that is one literal: from the end of a value, over nulls, keys and braces, to the beginning of the
//! next value that has to be put somewhere. Objects of one kind differ in what is null, so two literals
//! are kept for each spot; what matches neither is walked key by key.

use wide::u8x16;

use crate::decode::template::{Landing, Spot};
use crate::tokens::bits_of;

/// Bytes that are compared in one piece.
const BLOCK: usize = 64;
/// Blocks of the longest literal; what is longer is always walked.
const BLOCKS: usize = 6;
/// The literal that was not used last is replaced after this many misses, so that one odd object does
/// not unlearn a usual one.
const PATIENCE: u8 = 3;

/// How a literal is compared and where it leads.
#[derive(Debug, Clone, Copy)]
struct Head {
    landing: Landing,
    /// 0 where nothing was learnt yet.
    length: u16,
}

/// The bytes of a literal; its blocks begin with cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Literal([[u8; BLOCK]; BLOCKS]);

/// When a literal is replaced.
#[derive(Debug, Clone, Copy, Default)]
struct Age {
    misses: u8,
    /// The way to replace next.
    oldest: u8,
}

/// The jumps of one table: two ways for each spot.
#[derive(Debug)]
pub struct Jumps {
    heads: Vec<[Head; 2]>,
    literals: Vec<[Literal; 2]>,
    ages: Vec<Age>,
}

impl Jumps {
    pub fn new(n_spots: usize) -> Jumps {
        Jumps {
            heads: vec![[Head { landing: Landing::End, length: 0 }; 2]; n_spots],
            literals: vec![[Literal([[0; BLOCK]; BLOCKS]); 2]; n_spots],
            ages: vec![Age::default(); n_spots],
        }
    }

    /// Where the bytes at `at` lead, and the index behind them, if they are known.
    #[inline(always)]
    pub fn find(&self, bytes: &[u8], at: usize, spot: Spot) -> Option<(Landing, usize)> {
        let heads = &self.heads[spot.number()];
        let literals = &self.literals[spot.number()];
        let window = bytes.get(at..)?;
        let found = |way: usize| {
            let Head { landing, length } = heads[way];
            let is_known = length > 0 && begins_with(window, &literals[way], usize::from(length));
            is_known.then(|| (landing, at + usize::from(length)))
        };
        found(0).or_else(|| found(1))
    }

    /// Remembers the bytes that led from `spot` to `landing`.
    pub fn learn(&mut self, spot: Spot, literal: &[u8], landing: Landing) {
        if literal.is_empty() || literal.len() > BLOCK * BLOCKS {
            return;
        }
        let heads = &mut self.heads[spot.number()];
        let age = &mut self.ages[spot.number()];
        let way = match heads.iter().position(|head| head.length == 0) {
            Some(empty) => empty,
            None if age.misses < PATIENCE => {
                age.misses += 1;
                return;
            }
            None => usize::from(age.oldest),
        };
        let bytes = self.literals[spot.number()][way].0.as_flattened_mut();
        bytes[..literal.len()].copy_from_slice(literal);
        heads[way] = Head { landing, length: literal.len() as u16 };
        *age = Age { misses: 0, oldest: 1 - way as u8 };
    }
}

/// Whether a text begins with the first `length` bytes of a literal, at least one. Texts that end less
/// than a block behind it are not compared.
#[inline(always)]
fn begins_with(mut text: &[u8], literal: &Literal, length: usize) -> bool {
    let mut left = length;
    for block in &literal.0 {
        let Some((bytes, behind)) = text.split_first_chunk() else { return false };
        let same = same_bytes(bytes, block);
        if left <= BLOCK {
            return !same << (BLOCK - left) == 0;
        }
        if same != u64::MAX {
            return false;
        }
        left -= BLOCK;
        text = behind;
    }
    false
}

/// One bit for every byte that is the same in both.
#[inline(always)]
fn same_bytes(a: &[u8; BLOCK], b: &[u8; BLOCK]) -> u64 {
    let (a, _) = a.as_chunks::<16>();
    let (b, _) = b.as_chunks::<16>();
    let same = |n: usize| u8x16::from(a[n]).simd_eq(u8x16::from(b[n]));
    bits_of([same(0), same(1), same(2), same(3)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_to_the_last_byte() {
        let literal = Literal([[7; BLOCK]; BLOCKS]);
        let text = [7u8; BLOCK * BLOCKS];
        for length in 1..=text.len() {
            assert!(begins_with(&text, &literal, length), "{length}");
            for at in 0..text.len() {
                let mut other = text;
                other[at] ^= 1;
                assert_eq!(begins_with(&other, &literal, length), at >= length, "{at} of {length}");
            }
        }
    }
}
