//! Turns a gzip body that is there whole into the bytes that it says it holds.

use bytes::Bytes;
use libdeflater::Decompressor;

use crate::fetch::buffers::Buffers;

/// CRC-32 and size of the inflated bytes end a gzip member. <https://www.rfc-editor.org/rfc/rfc1952>
const TRAILER: usize = 8;

/// The inflated bytes, in half the time that inflating as a stream takes.
///
/// `None` where that says too little: more than `most` bytes, several members (but for one that is there twice),
/// bytes behind the end, or no proper gzip. Reading it as a stream then tells which.
pub fn gunzip(gzip: &[u8], most: usize, buffers: &Buffers) -> Option<Bytes> {
    let trailer = gzip.last_chunk::<TRAILER>()?;
    let (crc, size) = trailer.split_at(4);
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).expect("four of eight bytes");
    let size = word(size) as usize;
    if size > most {
        return None;
    }
    let mut out = buffers.take(size);
    let n = Decompressor::new().gzip_decompress(gzip, &mut out[..size]).ok()?;
    // The first member was inflated and checked. If it is not what the last bytes speak of, there is more.
    (n == size && crc32fast::hash(&out[..size]) == word(crc)).then(|| buffers.body(out, size))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flate2::read::MultiGzDecoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    proptest! {
        #[test]
        fn what_is_inflated_is_what_a_stream_reads(
            members in proptest::collection::vec(proptest::collection::vec(0u8..4, 0..2000), 1..3),
            level in 0u32..9,
            damage in proptest::option::of((any::<prop::sample::Index>(), 1u8..255)),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let mut body: Vec<u8> = members.iter().flat_map(|member| gzip(member, level)).collect();
            if let Some((at, bits)) = damage {
                let at = at.index(body.len());
                body[at] ^= bits;
            }
            body.truncate(cut.map_or(body.len(), |cut| cut.index(body.len())));
            let mut expected = Vec::new();
            let is_whole = MultiGzDecoder::new(body.as_slice()).read_to_end(&mut expected).is_ok();
            // What a buffer held before is not in the way.
            let buffers = Buffers::default();
            drop(buffers.body(vec![7; 5000], 5000));
            if let Some(out) = gunzip(&body, 1 << 20, &buffers) {
                prop_assert_eq!((out.to_vec(), true), (expected, is_whole));
            }
        }
    }

    #[test]
    fn a_usual_body_is_inflated_at_once() {
        let page = b"{\"object\": \"list\"}".repeat(1000);
        assert_eq!(gunzip(&gzip(&page, 6), page.len(), &Buffers::default()), Some(page.into()));
    }

    #[test]
    fn what_needs_a_stream_is_left_to_it() {
        let (one, two) = (gzip(b"one", 6), gzip(b"two", 6));
        for body in [[one.as_slice(), &two].concat(), [one.as_slice(), b"more"].concat(), Vec::new()] {
            assert_eq!(gunzip(&body, 1 << 20, &Buffers::default()), None);
        }
        assert_eq!(gunzip(&one, 2, &Buffers::default()), None);
    }
}
