//! Turns streams into a zstd frame where they go over a network to a store, and a file of either form into streams.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use zstd::zstd_safe::{CompressionLevel, MAGICNUMBER};
use zstd::{Decoder, Encoder};

/// The fastest of zstd's usual ones: rows come to three tenths of their bytes.
const LEVEL: CompressionLevel = 1;
const CAPACITY: usize = 1 << 16;

/// Writes a frame of what `write` writes. Frames that follow each other are read as one.
pub fn framed<W: Write, E: From<io::Error>>(
    out: W,
    write: impl FnOnce(&mut Encoder<'static, W>) -> Result<(), E>,
) -> Result<(), E> {
    let mut frame = Encoder::new(out, LEVEL)?;
    write(&mut frame)?;
    frame.finish()?.flush()?;
    Ok(())
}

/// The streams of a file, be they in frames or not: a stream of Arrow begins otherwise.
pub fn streams_of(file: File) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::with_capacity(CAPACITY, file);
    match file.fill_buf()?.starts_with(&MAGICNUMBER.to_le_bytes()) {
        true => Ok(Box::new(BufReader::with_capacity(CAPACITY, Decoder::with_buffer(file)?))),
        false => Ok(Box::new(file)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    /// What is read of a file into which `write` writes.
    fn read_back(write: impl FnOnce(&mut File) -> io::Result<()>) -> Vec<u8> {
        let mut file = tempfile::tempfile().unwrap();
        write(&mut file).unwrap();
        file.rewind().unwrap();
        let mut read = Vec::new();
        streams_of(file).unwrap().read_to_end(&mut read).unwrap();
        read
    }

    #[test]
    fn streams_are_read_from_files_with_frames_and_without() {
        let streams: Vec<Vec<u8>> = vec![vec![255; 100_000], (0..=255).cycle().take(90_000).collect()];
        let together = streams.concat();
        let framed = read_back(|file| {
            for stream in &streams {
                framed::<_, io::Error>(&mut *file, |frame| frame.write_all(stream))?;
            }
            assert!(file.metadata()?.len() < 10_000, "expected frames to be compressed");
            Ok(())
        });
        assert_eq!(framed, together);
        assert_eq!(read_back(|file| file.write_all(&together)), together);
        assert_eq!(read_back(|_| Ok(())), b"");
    }
}
