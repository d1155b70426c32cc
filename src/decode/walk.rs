//! Turns the bytes between two values into the place of the next one: the way that is not predicted yet.

use std::ops::Range;

use crate::decode::fast::Reader;
use crate::decode::step::{Step, Stop, literal, unescape};
use crate::decode::template::{Goal, Landing, Next, Place, Spot};
use crate::tokens::{expect, skip_space, string_end};

/// Where the walk from one value to the next has come to.
pub enum Arrival {
    /// Behind the brace that ends the row.
    End(usize),
    /// Before a value that has to be put somewhere.
    Value(usize, Place),
}

/// A key as the general path found it.
struct Key {
    next: Next,
    at: usize,
    /// Whether unknown members stood before it.
    is_behind_unknown: bool,
}

impl Reader<'_> {
    /// Goes key by key to the next value that is not null, through the ends and beginnings of objects,
    /// and learns the whole way for the next time.
    #[inline(never)]
    pub fn walk(&mut self, start: usize, before: Spot) -> Step<Arrival> {
        let bytes = self.page.as_bytes();
        let mut is_plain = !self.unnamed.is_open();
        let (mut at, mut spot) = (start, before);
        loop {
            let found = match self.template.predict(bytes, at, spot) {
                Some((next, at)) => Key { next, at, is_behind_unknown: false },
                None => self.read_key(at, spot)?,
            };
            is_plain &= !found.is_behind_unknown;
            at = found.at;
            let Next::Entry(entry, goal) = found.next else {
                if !self.unnamed.is_empty() {
                    self.close(self.template.node_of(spot))?;
                }
                match self.template.parent(spot) {
                    Some(parent) => spot = parent,
                    None => {
                        self.learn_jump(before, is_plain, start..at, Landing::End);
                        return Ok(Arrival::End(at));
                    }
                }
                continue;
            };
            spot = self.template.sibling(spot, entry);
            if bytes.get(at).is_some_and(|byte| *byte <= b' ') {
                at = skip_space(bytes, at);
            }
            match (bytes.get(at), goal) {
                (Some(b'n'), _) => at = literal(bytes, at, b"null")?,
                (Some(b'{'), Goal::Node(child)) => {
                    spot = self.template.start_of(child);
                    at += 1;
                }
                (_, Goal::Node(_)) => {
                    at = self.null_or_mistyped(at, spot)?;
                    is_plain = false;
                }
                _ => {
                    let place = Place { spot, goal };
                    self.learn_jump(before, is_plain, start..at, Landing::Place(place));
                    return Ok(Arrival::Value(at, place));
                }
            }
        }
    }

    fn learn_jump(&mut self, before: Spot, is_plain: bool, span: Range<usize>, landing: Landing) {
        if is_plain {
            self.template.learn_jump(before, &self.page.as_bytes()[span], landing);
        }
    }

    /// The general path: separator, key, colon; keeps unknown members on the way, and learns.
    #[cold]
    #[inline(never)]
    fn read_key(&mut self, at: usize, spot: Spot) -> Step<Key> {
        let bytes = self.page.as_bytes();
        let node = self.template.node_of(spot);
        let (mut at, mut from, mut is_first) = (at, Some(at), self.template.is_start(spot));
        loop {
            let mut key_at = skip_space(bytes, at);
            if bytes.get(key_at) == Some(&b'}') {
                let literal = from.map(|from| &bytes[from..=key_at]);
                self.learn(spot, literal, Next::End);
                return Ok(Key { next: Next::End, at: key_at + 1, is_behind_unknown: from.is_none() });
            }
            if !is_first {
                key_at = skip_space(bytes, expect(bytes, key_at, b',', "expected , or }")?);
            }
            is_first = false;
            let (key_end, has_escapes) = string_end(bytes, expect(bytes, key_at, b'"', "expected a key")?)?;
            let value_at = skip_space(bytes, key_end + 1);
            let value_at = skip_space(bytes, expect(bytes, value_at, b':', "expected :")?);
            let unescaped;
            let key = match has_escapes {
                false => &self.page[key_at + 1..key_end],
                true => {
                    unescaped = unescape(&self.page[key_at..=key_end]).ok_or(Stop::Unusual)?;
                    unescaped.as_str()
                }
            };
            if let Some(entry) = self.template.nodes[node].find(key) {
                let goal = self.template.nodes[node].entries[entry as usize].1;
                let literal = from.map(|from| &bytes[from..value_at]);
                let next = Next::Entry(entry, goal);
                self.learn(spot, literal, next);
                return Ok(Key { next, at: value_at, is_behind_unknown: from.is_none() });
            }
            at = self.keep_unknown(node, key, value_at)?;
            // A literal over an unknown member would skip it the next time.
            from = None;
        }
    }

    fn learn(&mut self, spot: Spot, literal: Option<&[u8]>, next: Next) {
        if let Some(literal) = literal {
            self.template.learn(spot, literal, next);
        }
    }
}
