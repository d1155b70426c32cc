//! Turns rows of parents that were read more than once into parts, each with one list of every parent.

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{AsArray, RecordBatch};

use crate::decode::Decoded;
use crate::decode::rows::{ParentRow, rows_where};

/// The list of a parent, read to its end: the rows are all that the parent has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedList {
    pub parent: ParentRow,
    /// Microseconds since 1970.
    pub observed_at: i64,
    /// Its rows in the child's table, if it was embedded as a whole.
    pub rows: Option<Range<usize>>,
}

impl Decoded {
    /// The same in parts, none of which has two lists of one parent, in the order in which they were read. Rows that cannot be
    /// told apart are in the last one: none is lost. `keys` are the columns of the parent's id, for each child.
    pub fn once_each(mut self, keys: &[&str]) -> Vec<Decoded> {
        let mut later: Vec<Decoded> = Vec::new();
        for (child, key) in keys.iter().enumerate().take(self.closed.len()) {
            let mut lists_of: HashMap<&str, Vec<usize>> = HashMap::with_capacity(self.closed[child].len());
            for (number, list) in self.closed[child].iter().enumerate() {
                lists_of.entry(&list.parent.id).or_default().push(number);
            }
            let n_parts = lists_of.values().map(Vec::len).max().unwrap_or(1);
            if n_parts == 1 {
                continue;
            }
            let batch = self.children[child].as_ref();
            let part_of_row = batch.map(|batch| part_of_rows(batch, key, &lists_of, &self.closed[child]));
            let mut part_of_list = vec![0; self.closed[child].len()];
            for (part, number) in lists_of.values().flat_map(|lists| lists.iter().enumerate()) {
                part_of_list[*number] = part;
            }
            let (closed, batch) = (std::mem::take(&mut self.closed[child]), self.children[child].take());
            let like_this = || Decoded {
                children: vec![None; keys.len()],
                closed: vec![Vec::new(); keys.len()],
                ..Decoded::default()
            };
            later.resize_with(later.len().max(n_parts - 1), like_this);
            let mut parts: Vec<&mut Decoded> = std::iter::once(&mut self).chain(&mut later).collect();
            for (list, part) in closed.into_iter().zip(part_of_list) {
                parts[part].closed[child].push(list);
            }
            for (number, part) in parts.into_iter().enumerate().take(n_parts) {
                let rows = batch.as_ref().zip(part_of_row.as_ref());
                part.children[child] =
                    rows.map(|(batch, parts)| rows_where(batch, parts.iter().map(|part| *part == number)));
            }
        }
        std::iter::once(self).chain(later).collect()
    }
}

fn part_of_rows(
    batch: &RecordBatch,
    key: &str,
    lists_of: &HashMap<&str, Vec<usize>>,
    closed: &[ClosedList],
) -> Vec<usize> {
    let parents = batch.column_by_name(key).expect("the catalog checks the parent's key").as_string::<i32>();
    let last_part = |parent: Option<&str>| {
        parent.and_then(|parent| lists_of.get(parent)).map_or(0, |lists| lists.len() - 1)
    };
    let mut part_of_row: Vec<usize> = parents.iter().map(last_part).collect();
    for (part, number) in lists_of.values().flat_map(|lists| lists.iter().enumerate()) {
        part_of_row[closed[*number].rows.clone().unwrap_or_default()].fill(part);
    }
    part_of_row
}
