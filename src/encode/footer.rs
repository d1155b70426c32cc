//! Sums the end of a Parquet file, which nothing else in the file is the sum of.
//!
//! The sum stands in what it is the sum of: it is taken with zeros in its own place.

use crate::crc;

/// The footer's metadata key for the checksum of everything behind the row groups.
pub const FOOTER: &str = "stripelake.footer";
/// What stands in its place while it is taken.
pub const BLANK: &str = "00000000";

/// Puts the checksum into the end of a file that was written with [`BLANK`] in its place.
pub fn seal(tail: &mut [u8]) -> bool {
    let Some(at) = place(tail, BLANK) else { return false };
    let sum = sum_of(tail);
    tail[at..at + BLANK.len()].copy_from_slice(sum.as_bytes());
    true
}

/// Whether the end of a file is what was written, by the checksum that its metadata has.
pub fn is_whole(mut tail: Vec<u8>, sum: &str) -> bool {
    let Some(at) = place(&tail, sum) else { return false };
    tail[at..at + BLANK.len()].copy_from_slice(BLANK.as_bytes());
    sum_of(&tail) == sum
}

fn sum_of(tail: &[u8]) -> String {
    let mut sum = crc32fast::Hasher::new();
    sum.update(tail);
    crc::shown(sum)
}

/// Where the value of our key begins: a byte for its type and one for its length stand between.
fn place(tail: &[u8], value: &str) -> Option<usize> {
    let key = tail.windows(FOOTER.len()).rposition(|window| window == FOOTER.as_bytes())?;
    let at = key + FOOTER.len() + 2;
    (value.len() == BLANK.len() && tail.get(at..at + value.len())? == value.as_bytes()).then_some(at)
}
