//! The rows of a resource and of its children under construction, which are taken back together.

use std::sync::Arc;

use crate::catalog::Resource;
use crate::decode::closed::ClosedList;
use crate::decode::findings::Findings;
use crate::decode::rows::Rows;
use crate::decode::shape::Shape;
use crate::decode::{Decoded, Options};

/// The tables of one decoder.
pub struct Tables {
    pub options: Options,
    pub rows: Rows,
    pub shape: Shape,
    /// In the order of [`crate::decode::Decoder::new`].
    pub children: Vec<(Rows, Shape)>,
    pub findings: Findings,
    /// For each child, the embedded lists that have been read to their end.
    pub closed: Vec<Vec<ClosedList>>,
}

/// How many rows there were, to return to when an object or a page is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    n_rows: usize,
    n_children: Vec<usize>,
    n_closed: Vec<usize>,
}

impl Tables {
    pub fn new(resource: &Arc<Resource>, children: &[Arc<Resource>], options: Options) -> Tables {
        let paths: Vec<Vec<String>> =
            children.iter().filter_map(|c| c.parent.as_ref()).map(|p| p.path.clone()).collect();
        Tables {
            options,
            rows: Rows::new(resource),
            shape: Shape::new(&resource.columns, &paths),
            children: children.iter().map(|c| (Rows::new(c), Shape::new(&c.columns, &[]))).collect(),
            findings: Findings::default(),
            closed: vec![Vec::new(); children.len()],
        }
    }

    pub fn mark(&self) -> Mark {
        Mark {
            n_rows: self.rows.table.n_rows,
            n_children: self.children.iter().map(|(rows, _)| rows.table.n_rows).collect(),
            n_closed: self.closed.iter().map(Vec::len).collect(),
        }
    }

    pub fn reset(&mut self, mark: &Mark) {
        self.rows.truncate(mark.n_rows);
        for ((rows, _), n_rows) in self.children.iter_mut().zip(&mark.n_children) {
            rows.truncate(*n_rows);
        }
        for (closed, n) in self.closed.iter_mut().zip(&mark.n_closed) {
            closed.truncate(*n);
        }
    }

    /// All complete rows; empty afterwards.
    pub fn finish(&mut self) -> Decoded {
        Decoded {
            parent: self.rows.finish(),
            children: self.children.iter_mut().map(|(rows, _)| rows.finish()).collect(),
            closed: self.closed.iter_mut().map(std::mem::take).collect(),
            findings: std::mem::take(&mut self.findings),
        }
    }
}
