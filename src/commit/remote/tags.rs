//! Turns an entity tag into whether the bytes that were sent have arrived.
//!
//! That of one PUT, or of one part, is the MD5 of its bytes, unless a key of KMS encrypts it
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html>). S3 also checks the sum that each request is signed with;
//! not every store does, and without TLS a byte may change on its way.

use std::sync::atomic::{AtomicBool, Ordering};

use md5::{Digest, Md5};
use object_store::{Error, PutPayload};

/// What it comes to where they have not.
pub const ALTERED: &str = "other bytes have arrived than were sent";

/// What is known of the tags of one store.
#[derive(Debug, Default)]
pub struct Tags {
    are_sums: AtomicBool,
    /// Those of parts are made otherwise.
    are_no_sums_of_parts: AtomicBool,
}

impl Tags {
    /// Notes the tag of bytes that are known to be there.
    pub fn are_of(&self, tag: Option<&str>, bytes: &[u8]) {
        self.are_sums.store(is_sum(tag, [bytes]), Ordering::Relaxed);
    }

    /// False where other bytes may have arrived.
    pub fn fit(&self, tag: Option<&str>, bytes: &[u8]) -> bool {
        !self.are_sums.load(Ordering::Relaxed) || is_sum(tag, [bytes])
    }

    /// The same for a part, which nobody can read.
    pub fn fit_part(&self, tag: &str, part: &PutPayload) -> bool {
        !self.are_sums.load(Ordering::Relaxed)
            || self.are_no_sums_of_parts.load(Ordering::Relaxed)
            || is_sum(Some(tag), part.iter().map(|bytes| &**bytes))
    }

    /// What was put together of parts whose tags do not fit is what was sent.
    pub fn are_no_sums_of_parts(&self) {
        self.are_no_sums_of_parts.store(true, Ordering::Relaxed);
    }
}

pub fn altered() -> Error {
    Error::Generic { store: "S3", source: ALTERED.into() }
}

pub fn is_altered(error: &Error) -> bool {
    matches!(error, Error::Generic { source, .. } if source.to_string() == ALTERED)
}

fn is_sum<'a>(tag: Option<&str>, pieces: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let mut sum = Md5::new();
    pieces.into_iter().for_each(|piece| sum.update(piece));
    let sum: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    tag.is_some_and(|tag| tag.trim_matches('"').eq_ignore_ascii_case(&sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1321, appendix A.5.
    const OF_ABC: &str = "\"900150983cd24fb0d6963f7d28e17f72\"";

    #[test]
    fn only_a_store_whose_tags_are_sums_is_told_by_them() {
        let tags = Tags::default();
        assert!(tags.fit(Some("\"1\""), b"abc"));
        tags.are_of(Some(OF_ABC), b"abc");
        assert!(tags.fit(Some(OF_ABC), b"abc") && !tags.fit(Some(OF_ABC), b"abd") && !tags.fit(None, b"abc"));
        assert!(tags.fit_part(&OF_ABC.replace('"', ""), &PutPayload::from_static(b"abc")));
        assert!(!tags.fit_part(OF_ABC, &PutPayload::from_static(b"abd")));
        tags.are_no_sums_of_parts();
        assert!(tags.fit_part(OF_ABC, &PutPayload::from_static(b"abd")) && !tags.fit(Some(OF_ABC), b"abd"));
        tags.are_of(Some("\"1\""), b"abc");
        assert!(tags.fit(Some("\"2\""), b"abc"));
    }
}
