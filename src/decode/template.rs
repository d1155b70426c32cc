//! Learns which bytes stand between two values, so that the next key is compared and not parsed.
//!
//! Stripe prints `id`, `object`, then the other keys in a fixed order. For each object of the tree and
//! each key, the literal bytes from the end of its value to the start of the next one, such as
//! `,\n      "currency": `, are remembered with the key that they end in. White space, order and drift
//! are learnt, never assumed: where the literal does not match, the general path reads the key and
//! learns anew.

use std::collections::HashMap;

use crate::catalog::ColumnKind;
use crate::decode::shape::{Shape, Target};

/// Bytes of the longest literal; what is longer is always read by the general path.
const LITERAL: usize = 80;
/// A literal is replaced after this many misses, so that one odd object does not unlearn it.
const PATIENCE: u8 = 2;

/// What a key leads to, small enough to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    Column { column: u16, kind: Kind },
    Node(u16),
    Child(u16),
}

/// A column's kind without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Ref,
    Int64,
    Float64,
    Bool,
    Timestamp,
    Decimal,
    Map,
    Json,
    List,
    Structs,
}

impl Kind {
    fn of(kind: &ColumnKind) -> Kind {
        match kind {
            ColumnKind::Text => Kind::Text,
            ColumnKind::Ref => Kind::Ref,
            ColumnKind::Int64 => Kind::Int64,
            ColumnKind::Float64 => Kind::Float64,
            ColumnKind::Bool => Kind::Bool,
            ColumnKind::Timestamp => Kind::Timestamp,
            ColumnKind::Decimal => Kind::Decimal,
            ColumnKind::Map => Kind::Map,
            ColumnKind::Json | ColumnKind::Rest => Kind::Json,
            ColumnKind::ListText | ColumnKind::ListRef => Kind::List,
            ColumnKind::Structs(_) => Kind::Structs,
        }
    }
}

/// One object of the tree.
#[derive(Debug)]
pub struct Node {
    /// Key and goal; a key's number is its place.
    pub entries: Vec<(Box<str>, Goal)>,
    by_key: HashMap<Box<str>, u16>,
    pub rest: Option<usize>,
    /// The nodes from below the root to this one, and their keys.
    pub path: Vec<(usize, String)>,
    /// Where the slots of this node begin.
    base: usize,
}

impl Node {
    pub fn find(&self, key: &str) -> Option<u16> {
        self.by_key.get(key).copied()
    }

    /// The number of "no key yet", for the slot behind the opening brace.
    pub fn start(&self) -> usize {
        self.entries.len()
    }
}

/// Where a literal leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Entry(u16, Goal),
    /// The literal ends with the closing brace.
    End,
}

#[derive(Debug, Clone)]
struct Slot {
    literal: [u8; LITERAL],
    length: usize,
    next: Option<Next>,
    misses: u8,
}

/// The tree of members of one table, with everything learnt about its text.
#[derive(Debug)]
pub struct Template {
    /// Node 0 is the root.
    pub nodes: Vec<Node>,
    slots: Vec<Slot>,
    /// For lists of structs, by column.
    pub items: Vec<Option<Box<Template>>>,
    /// Objects and arrays around the root, counted at least as high as they are.
    pub levels_above: usize,
}

impl Template {
    pub fn new(shape: &Shape, levels_above: usize) -> Template {
        let mut nodes: Vec<Node> = Vec::new();
        let mut base = 0;
        for node in &shape.nodes {
            let mut entries: Vec<(Box<str>, Goal)> =
                node.members.iter().map(|(key, target)| (key.clone(), goal(shape, *target))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let by_key = entries.iter().enumerate().map(|(n, (key, _))| (key.clone(), n as u16)).collect();
            let n_slots = entries.len() + 1;
            nodes.push(Node { entries, by_key, rest: node.rest, path: Vec::new(), base });
            base += n_slots;
        }
        for parent in 0..nodes.len() {
            for entry in 0..nodes[parent].entries.len() {
                if let (key, Goal::Node(child)) = nodes[parent].entries[entry].clone() {
                    let mut path = nodes[parent].path.clone();
                    path.push((child as usize, key.into_string()));
                    nodes[child as usize].path = path;
                }
            }
        }
        let empty = Slot { literal: [0; LITERAL], length: 0, next: None, misses: 0 };
        let mut items: Vec<Option<Box<Template>>> = shape.items.iter().map(|_| None).collect();
        for node in &nodes {
            for (_, goal) in &node.entries {
                if let Goal::Column { column, kind: Kind::Structs } = goal {
                    let shape = shape.items[*column as usize].as_deref().expect("a struct list has a shape");
                    let above = levels_above + node.path.len() + 2;
                    items[*column as usize] = Some(Box::new(Template::new(shape, above)));
                }
            }
        }
        Template { nodes, slots: vec![empty; base], items, levels_above }
    }

    /// What follows the value of key number `previous`, if the bytes at `at` are those learnt: the goal
    /// and the index behind them.
    #[inline(always)]
    pub fn predict(&self, bytes: &[u8], at: usize, node: usize, previous: usize) -> Option<(Next, usize)> {
        let slot = &self.slots[self.nodes[node].base + previous];
        let next = slot.next?;
        let window: &[u8; LITERAL] = bytes.get(at..at + LITERAL)?.try_into().ok()?;
        is_prefix(window, &slot.literal, slot.length).then_some((next, at + slot.length))
    }

    /// Remembers the bytes that led from the value of `previous` to `next`.
    pub fn learn(&mut self, node: usize, previous: usize, literal: &[u8], next: Next) {
        let slot = &mut self.slots[self.nodes[node].base + previous];
        if literal.len() > LITERAL {
            return;
        }
        if slot.next.is_some() && slot.misses < PATIENCE {
            slot.misses += 1;
            return;
        }
        slot.literal[..literal.len()].copy_from_slice(literal);
        slot.length = literal.len();
        slot.next = Some(next);
        slot.misses = 0;
    }
}

/// The catalog has far fewer columns than `u16` can number.
fn goal(shape: &Shape, target: Target) -> Goal {
    match target {
        Target::Column(column) => {
            Goal::Column { column: column as u16, kind: Kind::of(&shape.kinds[column]) }
        }
        Target::Node(node) => Goal::Node(node as u16),
        Target::Child(child) => Goal::Child(child as u16),
    }
}

/// Whether the first `length` bytes of both are the same, eight at a time.
#[inline(always)]
fn is_prefix(a: &[u8; LITERAL], b: &[u8; LITERAL], length: usize) -> bool {
    let word = |bytes: &[u8; LITERAL], at: usize| {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    };
    let mut at = 0;
    while at + 8 <= length {
        if word(a, at) != word(b, at) {
            return false;
        }
        at += 8;
    }
    if at == length {
        return true;
    }
    let mask = (1u64 << ((length - at) * 8)) - 1;
    (word(a, at) ^ word(b, at)) & mask == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_compared_to_the_last_byte() {
        let mut a = [7u8; LITERAL];
        for length in 0..=LITERAL {
            let mut b = a;
            assert!(is_prefix(&a, &b, length));
            if length > 0 {
                b[length - 1] ^= 1;
                assert!(!is_prefix(&a, &b, length), "{length}");
            }
            if length < LITERAL {
                let mut c = a;
                c[length] ^= 1;
                assert!(is_prefix(&a, &c, length), "{length}");
            }
        }
        a[0] = 1;
        assert!(!is_prefix(&a, &[7; LITERAL], 8));
    }
}
