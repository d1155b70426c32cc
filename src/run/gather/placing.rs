//! Puts decoded rows where they wait for their partition, and tells the lists of a parent apart that was read more than once.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};

use super::Gatherer;
use crate::decode::Decoded;
use crate::decode::closed::ClosedList;
use crate::decode::rows::rows_where;
use crate::encode::merge::Merge;
use crate::encode::merge::absent::{Absent, Replaced};
use crate::encode::merge::age::OldAge;
use crate::error::Result;
use crate::partition::{Grain, Partition, split};
use crate::run::partition_commit::sources;
use crate::run::table::Table;
use crate::spool::away::FileCopy;

/// Lists of one parent whose rows wait side by side.
const MOST_LISTS: usize = 8;

impl Gatherer {
    pub(super) fn rows(&mut self, decoded: Decoded) -> Result<()> {
        let n_rows = decoded.parent.as_ref().map_or(0, RecordBatch::num_rows) as u64;
        self.course.n_unsaved += n_rows;
        let keys: Vec<&str> = self.tables[1..].iter().map(Table::parent_key).collect();
        for decoded in decoded.once_each(&keys) {
            let copies = match self.keeps_waiting() {
                true => self.waiting.add(&self.setup.lake, &decoded)?,
                false => Vec::new(),
            };
            self.place(decoded, copies)?;
        }
        Ok(())
    }

    /// Puts rows where they wait for their partition. Those of each table may stand in a file, too.
    pub(super) fn place(&mut self, decoded: Decoded, copies: Vec<FileCopy>) -> Result<()> {
        match self.grain {
            Some(grain) => self.place_by(grain, decoded, copies),
            None => {
                self.undecided.push(decoded, copies);
                self.choose_grain(false);
                self.place_undecided()
            }
        }
    }

    /// Moves batches into the spools once the grain is known.
    pub(super) fn place_undecided(&mut self) -> Result<()> {
        let Some(grain) = self.grain else { return Ok(()) };
        let batches = std::mem::take(&mut self.undecided).batches;
        batches.into_iter().try_for_each(|(decoded, copies)| self.place_by(grain, decoded, copies))
    }

    fn place_by(&mut self, grain: Grain, decoded: Decoded, copies: Vec<FileCopy>) -> Result<()> {
        self.findings.merge(decoded.findings);
        if let Some(batch) = decoded.parent {
            for (partition, rows) in split(&batch, grain) {
                self.tables[0].spool.push(partition, 0, rows, copies.first().cloned())?;
            }
        }
        let lists = decoded.children.into_iter().zip(decoded.closed);
        for (table, (rows, closed)) in (1..).zip(lists) {
            self.place_lists(table, grain, rows, closed, copies.get(table).cloned())?;
        }
        Ok(())
    }

    /// Places rows of a child, and counts the lists that these are all of.
    fn place_lists(
        &mut self,
        table: usize,
        grain: Grain,
        rows: Option<RecordBatch>,
        mut closed: Vec<ClosedList>,
        copy: Option<FileCopy>,
    ) -> Result<()> {
        let is_outdated = |list: &mut ClosedList| self.is_outdated(table, grain, list);
        let outdated: HashSet<String> =
            closed.extract_if(.., is_outdated).map(|list| list.parent.id).collect();
        let is_kept = |parent: Option<&str>| parent.is_none_or(|parent| !outdated.contains(parent));
        // In the file are the others, too.
        let (rows, copy) = match outdated.is_empty() {
            true => (rows, copy),
            false => {
                (rows.map(|all| rows_where(&all, self.parents_of(table, &all).iter().map(is_kept))), None)
            }
        };
        for (partition, rows) in rows.iter().flat_map(|rows| split(rows, grain)) {
            self.place_child(table, partition, rows, copy.clone())?;
        }
        for ClosedList { parent, observed_at, .. } in closed {
            let key = (grain.partition_of(parent.created), table);
            let lists = self.parents.entry(key).or_default().entry(parent.id);
            let list = lists.or_insert(Replaced { times: 0, observed_at });
            list.times += 1;
            list.observed_at = list.observed_at.max(observed_at);
        }
        Ok(())
    }

    /// Rows of parents whose lists were read before are told apart from theirs, and supersede them.
    fn place_child(
        &mut self,
        table: usize,
        partition: Partition,
        rows: RecordBatch,
        copy: Option<FileCopy>,
    ) -> Result<()> {
        let mut times = self.times(table, &partition, &rows);
        if times.iter().max() >= Some(&MOST_LISTS) {
            self.keep_last_lists(table, &partition)?;
            times = self.times(table, &partition, &rows);
        }
        let mut each = times.clone();
        each.sort_unstable();
        each.dedup();
        for n in &each {
            let (rows, copy) = match each.len() {
                1 => (rows.clone(), copy.clone()),
                // In the file are the others, too.
                _ => (rows_where(&rows, times.iter().map(|times| times == n)), None),
            };
            self.tables[table].spool.push(partition, *n, rows, copy)?;
        }
        Ok(())
    }

    /// How often the list of each row's parent has been read already.
    fn times(&self, table: usize, partition: &Partition, rows: &RecordBatch) -> Vec<usize> {
        let parents = self.parents_of(table, rows);
        let known = self.parents.get(&(*partition, table));
        let times = |parent: Option<&str>| known?.get(parent?).map(|list| list.times);
        parents.iter().map(|parent| times(parent).unwrap_or(0)).collect()
    }

    /// The parent's id of each row.
    fn parents_of(&self, table: usize, rows: &RecordBatch) -> StringArray {
        let key = self.tables[table].parent_key();
        let parents = rows.column_by_name(key).expect("the catalog checks the parent's key");
        parents.as_string::<i32>().clone()
    }

    /// Whether the parent's list is there as it was later: slices that overlap hand on in any order.
    fn is_outdated(&self, table: usize, grain: Grain, list: &ClosedList) -> bool {
        let lists = self.parents.get(&(grain.partition_of(list.parent.created), table));
        let known = lists.and_then(|lists| lists.get(&list.parent.id));
        known.is_some_and(|known| known.observed_at > list.observed_at)
    }

    /// Lets go of the rows of all lists that were read again since. The lists that are left count as read once.
    fn keep_last_lists(&mut self, table: usize, partition: &Partition) -> Result<()> {
        let Some(lists) = self.parents.get_mut(&(*partition, table)) else { return Ok(()) };
        let table = &mut self.tables[table];
        let parents = table.parents(lists.clone(), &Arc::default());
        let gathered = table.spool.take(partition)?;
        let sources = sources(&gathered, parents.as_ref())?;
        for rows in Merge::new(None, sources, Absent::default(), OldAge::Superseded)? {
            table.spool.push(*partition, 0, rows?.gathered()?, None)?;
        }
        lists.values_mut().for_each(|list| list.times = 1);
        Ok(())
    }
}
