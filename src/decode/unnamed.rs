//! Keeps the members that no column names, while a row is under construction, and counts them.

use crate::decode::findings::Findings;
use crate::decode::template::Template;

/// Members that no column named, while a row is under construction.
#[derive(Debug, Default)]
pub struct Unnamed {
    /// The `_extra` object so far, without its last braces.
    pub extra: String,
    /// The nodes that are open in `extra`.
    pub open: Vec<usize>,
    /// Text of `.*` columns, by node.
    pub rest: Vec<(usize, String)>,
    /// What to count if the row is kept: node, key, and whether it was mistyped.
    pub found: Vec<(usize, String, bool)>,
    /// A text that is free for use, so that not every one is allocated.
    pub spare: String,
}

impl Unnamed {
    /// Ready for another row; what was found is kept.
    pub fn clear_row(&mut self) {
        self.extra.clear();
        self.open.clear();
        self.rest.clear();
    }

    pub fn clear(&mut self) {
        self.clear_row();
        self.found.clear();
    }

    /// An empty text.
    pub fn take_spare(&mut self) -> String {
        let mut text = std::mem::take(&mut self.spare);
        text.clear();
        text
    }

    /// The finished `_extra` object, if there is anything in it.
    pub fn take_extra(&mut self) -> Option<&str> {
        if self.extra.is_empty() {
            return None;
        }
        self.extra.push('}');
        Some(&self.extra)
    }

    /// Whether some object's end has still to close what it gathered.
    #[inline]
    pub fn is_open(&self) -> bool {
        !(self.open.is_empty() && self.rest.is_empty())
    }

    pub fn is_empty(&self) -> bool {
        self.extra.is_empty() && self.rest.is_empty()
    }
}

/// Counts of unknown and mistyped members by node and key, folded into [`Findings`] at the end: paths
/// are put together once per batch and not once per member.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Vec<(usize, String, bool, u64)>,
}

impl Tally {
    pub fn add(&mut self, unnamed: &mut Unnamed) {
        for (node, key, is_mistyped) in unnamed.found.drain(..) {
            let same = |c: &(usize, String, bool, u64)| c.0 == node && c.2 == is_mistyped && c.1 == key;
            match self.counts.iter().position(same) {
                Some(at) => self.counts[at].3 += 1,
                None if self.counts.len() < 1000 => self.counts.push((node, key, is_mistyped, 1)),
                None => {}
            }
        }
    }

    pub fn fold(&mut self, template: &Template, findings: &mut Findings) {
        for (node, key, is_mistyped, n) in self.counts.drain(..) {
            let path: Vec<String> = template.nodes[node].path.iter().map(|(_, key)| key.clone()).collect();
            findings.add(&path, &key, is_mistyped, n);
        }
    }
}
