//! Turns the files that a file was made from into a note in its metadata, and back.
//!
//! A file that the state does not speak of was left by a run that was killed, or somebody has put it there, an older copy perhaps.
//! The first kind was made from the file that the state speaks of, or in the knowledge that this one is lost.

use std::fs::File;

use parquet::errors::Result;
use parquet::file::metadata::KeyValue;
use parquet::file::reader::{FileReader, SerializedFileReader};

/// The metadata key for the files that a file was made from.
const MADE_FROM: &str = "stripelake.made_from";
/// A run may be killed so often, one time after the other, before it has written down what it has made.
const MOST: usize = 32;

/// The files that took each other's place before this one, the last first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    files: Vec<String>,
}

fn named(n_bytes: u64, crc32: &str) -> String {
    format!("{n_bytes}-{crc32}")
}

fn lost(n_bytes: u64, crc32: &str) -> String {
    named(n_bytes, crc32) + "-lost"
}

impl Lineage {
    /// That of what is made from such a file, which has this lineage itself.
    pub fn behind(mut self, n_bytes: u64, crc32: &str) -> Lineage {
        self.files.truncate(MOST - 1);
        self.files.insert(0, named(n_bytes, crc32));
        self
    }

    /// The same of what is made where such a file is known to be lost.
    pub fn beside_lost(mut self, n_bytes: u64, crc32: &str) -> Lineage {
        let lost = lost(n_bytes, crc32);
        if !self.files.contains(&lost) {
            self.files.push(lost);
        }
        self
    }

    /// Whether such a file was known to be lost.
    pub fn knows_lost(&self, n_bytes: u64, crc32: &str) -> bool {
        self.files.contains(&lost(n_bytes, crc32))
    }

    /// Whether such a file is one of them.
    pub fn has(&self, n_bytes: u64, crc32: &str) -> bool {
        self.files.contains(&named(n_bytes, crc32))
    }

    pub fn note(&self) -> KeyValue {
        KeyValue::new(MADE_FROM.to_owned(), self.files.join(" "))
    }

    /// `None` where the metadata does not say it: a program wrote the file that noted none.
    pub fn of_notes(notes: Option<&Vec<KeyValue>>) -> Option<Lineage> {
        let note = notes?.iter().find(|note| note.key == MADE_FROM)?;
        let files = note.value.iter().flat_map(|files| files.split_whitespace()).map(str::to_owned);
        Some(Lineage { files: files.collect() })
    }

    pub fn of(file: File) -> Result<Option<Lineage>> {
        let reader = SerializedFileReader::new(file)?;
        Ok(Lineage::of_notes(reader.metadata().file_metadata().key_value_metadata()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lineage_is_read_as_it_was_noted_and_forgets_what_is_long_gone() {
        let mut lineage = Lineage::default();
        for n in 0..40 {
            assert_eq!(Lineage::of_notes(Some(&vec![lineage.note()])), Some(lineage.clone()));
            lineage = lineage.behind(n, "0a1b2c3d");
        }
        let has = |n| lineage.has(n, "0a1b2c3d");
        assert!(has(39) && has(8) && !has(7) && !lineage.has(39, "00000000"));
        let beside = lineage.beside_lost(40, "0a1b2c3d").beside_lost(40, "0a1b2c3d");
        assert_eq!(Lineage::of_notes(Some(&vec![beside.note()])), Some(beside.clone()));
        assert!(
            beside.knows_lost(40, "0a1b2c3d") && !beside.has(40, "0a1b2c3d") && beside.has(9, "0a1b2c3d")
        );
        assert!(!beside.knows_lost(39, "0a1b2c3d"));
        assert_eq!(Lineage::of_notes(Some(&Vec::new())), None);
        assert_eq!(Lineage::of_notes(None), None);
    }
}
