//! Turns the bytes of a file into the checksum that our states and footers name them by.

use std::io::{self, BufRead, BufReader, Read};

/// CRC-32 of all that comes, as eight hexadecimal digits.
pub fn crc32_of(bytes: impl Read) -> io::Result<String> {
    let mut sum = crc32fast::Hasher::new();
    let mut bytes = BufReader::with_capacity(1 << 16, bytes);
    loop {
        let buffer = bytes.fill_buf()?;
        if buffer.is_empty() {
            return Ok(shown(sum));
        }
        sum.update(buffer);
        let n = buffer.len();
        bytes.consume(n);
    }
}

/// A finished checksum.
pub fn shown(sum: crc32fast::Hasher) -> String {
    format!("{:08x}", sum.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_gzip_and_zip() {
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(crc32_of(&b"123456789"[..]).unwrap(), "cbf43926");
    }
}
