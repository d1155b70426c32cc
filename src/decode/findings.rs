//! Counts what the catalog did not expect, by path.

use std::collections::BTreeMap;

/// Paths counted at most; an object with keys that are data cannot fill the memory.
const MAX_PATHS: usize = 1000;

/// How often a member without a column, or with another type than its column's, was seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    pub unknown: BTreeMap<String, u64>,
    pub mistyped: BTreeMap<String, u64>,
}

impl Findings {
    pub fn unknown(&mut self, path: &[String], key: &str) {
        count(&mut self.unknown, path, key, 1);
    }

    pub fn mistyped(&mut self, path: &[String], key: &str) {
        count(&mut self.mistyped, path, key, 1);
    }

    /// Adds `n` members of one path.
    pub fn add(&mut self, path: &[String], key: &str, is_mistyped: bool, n: u64) {
        count(if is_mistyped { &mut self.mistyped } else { &mut self.unknown }, path, key, n);
    }

    pub fn is_empty(&self) -> bool {
        self.unknown.is_empty() && self.mistyped.is_empty()
    }

    /// Adds what another decoder found.
    pub fn merge(&mut self, other: Findings) {
        for (mine, theirs) in [(&mut self.unknown, other.unknown), (&mut self.mistyped, other.mistyped)] {
            for (path, n) in theirs {
                if mine.len() < MAX_PATHS || mine.contains_key(&path) {
                    *mine.entry(path).or_default() += n;
                }
            }
        }
    }
}

fn count(counts: &mut BTreeMap<String, u64>, path: &[String], key: &str, n: u64) {
    let mut full = path.join(".");
    if !full.is_empty() {
        full.push('.');
    }
    full.push_str(key);
    if counts.len() < MAX_PATHS || counts.contains_key(&full) {
        *counts.entry(full).or_default() += n;
    }
}
