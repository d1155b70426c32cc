//! Turns a resource's columns into the tree of members that its objects have.

use std::collections::HashMap;

use crate::catalog::{Column, ColumnKind};

/// Nesting at which an object is refused, counting the object itself as 1; the same limit as
/// serde_json's, so that every JSON reader can follow.
pub const MAX_DEPTH: usize = 128;

/// Members of this name end hold credentials and are never stored.
pub const SECRET_SUFFIX: &str = "client_secret";

/// What a member of an object becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The column of this index.
    Column(usize),
    /// The object whose members are described by this node.
    Node(usize),
    /// The embedded list that is the child table of this index.
    Child(usize),
}

/// One object of the tree, the root being the resource's own.
#[derive(Debug, Default)]
pub struct Node {
    pub members: HashMap<Box<str>, Target>,
    /// The column that keeps members which have none of their own; else they go to `_extra`.
    pub rest: Option<usize>,
}

/// The tree of members of one table, or of the items of one list of structs.
#[derive(Debug)]
pub struct Shape {
    /// Node 0 is the root.
    pub nodes: Vec<Node>,
    pub kinds: Vec<ColumnKind>,
    /// For each list of structs, by column, the shape of its items.
    pub items: Vec<Option<Box<Shape>>>,
}

impl Shape {
    /// `children` are the paths of the embedded lists that become tables.
    ///
    /// The catalog has checked that no path is both a value and an object.
    pub fn new(columns: &[Column], children: &[Vec<String>]) -> Shape {
        let mut shape = Shape { nodes: vec![Node::default()], kinds: Vec::new(), items: Vec::new() };
        for (index, column) in columns.iter().enumerate() {
            shape.kinds.push(column.kind.clone());
            shape.items.push(match &column.kind {
                ColumnKind::Structs(items) => Some(Box::new(Shape::new(items, &[]))),
                _ => None,
            });
            match column.kind {
                ColumnKind::Rest => {
                    let node = shape.node(&column.path);
                    shape.nodes[node].rest = Some(index);
                }
                _ => shape.insert(&column.path, Target::Column(index)),
            }
        }
        for (index, path) in children.iter().enumerate() {
            shape.insert(path, Target::Child(index));
        }
        shape
    }

    fn insert(&mut self, path: &[String], target: Target) {
        let (last, parents) = path.split_last().expect("a path has at least one key");
        let node = self.node(parents);
        self.nodes[node].members.insert(last.as_str().into(), target);
    }

    /// The node at `path`, made where it is missing.
    fn node(&mut self, path: &[String]) -> usize {
        let mut node = 0;
        for key in path {
            node = match self.nodes[node].members.get(key.as_str()) {
                Some(Target::Node(next)) => *next,
                _ => {
                    let next = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[node].members.insert(key.as_str().into(), Target::Node(next));
                    next
                }
            };
        }
        node
    }
}
