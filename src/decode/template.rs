//! Knows the tree of members of a table, and which bytes led from one key to the next.
//!
//! Stripe prints `id`, `object`, then the other keys in a fixed order. For each object of the tree and
//! each key, the literal bytes from the end of its value to the start of the next one, such as
//! `,\n      "currency": `, are remembered with the key that they end in. White space, order and drift
//! are learnt, never assumed: where the literal does not match, the general path reads the key and
//! learns anew.

use std::collections::HashMap;

use crate::catalog::ColumnKind;
use crate::decode::jump::Jumps;
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
    /// The spot behind the key that leads here; the root has none.
    parent: Option<Spot>,
    /// The number of the first spot of this node.
    base: usize,
}

/// A place between two members of an object: behind the value of one of its keys, or behind its
/// opening brace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot(u16);

impl Spot {
    pub fn number(self) -> usize {
        usize::from(self.0)
    }
}

/// A value that has to be put somewhere: the spot behind it, and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub spot: Spot,
    pub goal: Goal,
}

/// Where a jump leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    Place(Place),
    /// Behind the brace that ends the row.
    End,
}

impl Node {
    pub fn find(&self, key: &str) -> Option<u16> {
        self.by_key.get(key).copied()
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
    /// By spot.
    slots: Vec<Slot>,
    jumps: Jumps,
    /// The node of each spot.
    node_of: Vec<u16>,
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
            nodes.push(Node { entries, by_key, rest: node.rest, path: Vec::new(), parent: None, base });
            base += n_slots;
        }
        for parent in 0..nodes.len() {
            for entry in 0..nodes[parent].entries.len() {
                if let (key, Goal::Node(child)) = nodes[parent].entries[entry].clone() {
                    let mut path = nodes[parent].path.clone();
                    path.push((child as usize, key.into_string()));
                    nodes[child as usize].path = path;
                    nodes[child as usize].parent = Some(Spot((nodes[parent].base + entry) as u16));
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
        let spots = nodes.iter().enumerate().flat_map(|(n, node)| vec![n as u16; node.entries.len() + 1]);
        let node_of = spots.collect();
        Template { nodes, slots: vec![empty; base], jumps: Jumps::new(base), node_of, items, levels_above }
    }

    /// The spot behind the brace that opens a row.
    pub fn start(&self) -> Spot {
        self.start_of(0)
    }

    /// The spot behind the brace that opens the object of a node.
    pub fn start_of(&self, node: u16) -> Spot {
        let node = &self.nodes[usize::from(node)];
        Spot((node.base + node.entries.len()) as u16)
    }

    pub fn is_start(&self, spot: Spot) -> bool {
        spot == self.start_of(self.node_of[spot.number()])
    }

    pub fn node_of(&self, spot: Spot) -> usize {
        usize::from(self.node_of[spot.number()])
    }

    /// Objects and arrays around a member of a node.
    pub fn levels_in(&self, node: usize) -> usize {
        self.levels_above + self.nodes[node].path.len() + 1
    }

    /// Objects and arrays around the value before a spot.
    pub fn levels_at(&self, spot: Spot) -> usize {
        self.levels_in(self.node_of(spot))
    }

    /// The spot behind another key of the same object.
    pub fn sibling(&self, spot: Spot, entry: u16) -> Spot {
        Spot(self.nodes[self.node_of(spot)].base as u16 + entry)
    }

    /// The spot behind the object that `spot` is in.
    pub fn parent(&self, spot: Spot) -> Option<Spot> {
        self.nodes[self.node_of(spot)].parent
    }

    /// The key before a spot that is no start.
    pub fn key(&self, spot: Spot) -> &str {
        &self.entry(spot).0
    }

    /// The kind of the column that the key before a spot leads to.
    pub fn kind(&self, spot: Spot) -> Option<Kind> {
        match self.entry(spot).1 {
            Goal::Column { kind, .. } => Some(kind),
            _ => None,
        }
    }

    fn entry(&self, spot: Spot) -> &(Box<str>, Goal) {
        let node = &self.nodes[self.node_of(spot)];
        &node.entries[spot.number() - node.base]
    }

    /// The key that follows a spot, if the bytes at `at` are those learnt, and the index behind them.
    #[inline]
    pub fn predict(&self, bytes: &[u8], at: usize, spot: Spot) -> Option<(Next, usize)> {
        let slot = &self.slots[spot.number()];
        let next = slot.next?;
        let end = at + slot.length;
        (bytes.get(at..end)? == slot.literal.get(..slot.length)?).then_some((next, end))
    }

    /// Remembers the bytes that led from a spot to `next`.
    pub fn learn(&mut self, spot: Spot, literal: &[u8], next: Next) {
        let slot = &mut self.slots[spot.number()];
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

    /// The next value that has to be put somewhere, if the bytes at `at` are those learnt.
    #[inline(always)]
    pub fn jump(&self, bytes: &[u8], at: usize, spot: Spot) -> Option<(Landing, usize)> {
        self.jumps.find(bytes, at, spot)
    }

    /// Remembers the bytes that led from a spot to `landing`.
    pub fn learn_jump(&mut self, spot: Spot, literal: &[u8], landing: Landing) {
        self.jumps.learn(spot, literal, landing);
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
