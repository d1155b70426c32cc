//! Turns the memory of a body that is gone into that of the next one.
//!
//! A body of 0.4 MB that is made anew for each answer costs a hundred page faults, a twentieth of what a page costs in all.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

/// Larger bodies are rare, and their memory is given back.
const MOST_BYTES: usize = 1 << 20;
/// Bodies that are kept for others at most.
const MOST: usize = 16;

/// Memory that no body uses. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A body, which gives its memory back.
struct Body {
    bytes: Vec<u8>,
    len: usize,
    buffers: Buffers,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.buffers.keep(std::mem::take(&mut self.bytes));
    }
}

impl Buffers {
    /// At least so many bytes, of any value: the ones that were used last.
    pub fn take(&self, n_bytes: usize) -> Vec<u8> {
        let mut bytes = self.0.lock().expect("no panic while keeping").pop().unwrap_or_default();
        if bytes.len() < n_bytes {
            bytes.reserve_exact(n_bytes - bytes.len());
            bytes.resize(n_bytes, 0);
        }
        bytes
    }

    /// Gives memory back.
    pub fn keep(&self, bytes: Vec<u8>) {
        let mut kept = self.0.lock().expect("no panic while keeping");
        if bytes.capacity() <= MOST_BYTES && kept.len() < MOST {
            kept.push(bytes);
        }
    }

    /// The first `len` bytes as a body.
    pub fn body(&self, bytes: Vec<u8>, len: usize) -> Bytes {
        Bytes::from_owner(Body { bytes, len, buffers: self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_body_that_is_gone_is_that_of_the_next_one() {
        let buffers = Buffers::default();
        let mut first = buffers.take(1000);
        first[..4].copy_from_slice(b"page");
        let at = first.as_ptr();
        let body = buffers.body(first, 4);
        assert_eq!(&body[..], b"page");
        let part = body.slice(1..3);
        drop(body);
        let other = buffers.take(10);
        assert_ne!(other.as_ptr(), at, "a part of it is in use");
        assert_eq!(&part[..], b"ag");
        drop(part);
        let next = buffers.take(10);
        assert_eq!(next.as_ptr(), at);
    }

    #[test]
    fn not_more_is_kept_than_workers_need() {
        let buffers = Buffers::default();
        let bodies: Vec<Bytes> = (0..MOST + 5).map(|_| buffers.body(vec![0; 10], 10)).collect();
        drop(bodies);
        drop(buffers.body(vec![0; MOST_BYTES + 1], 1));
        let kept = buffers.0.lock().unwrap();
        assert_eq!(kept.len(), MOST);
        assert!(kept.iter().all(|bytes| bytes.len() == 10));
    }
}
