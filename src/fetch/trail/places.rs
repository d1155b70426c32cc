//! Turns the ids that a list has shown into where each object stands in it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// So many are remembered, in 9 MB (14 while that grows); a list that is longer forgets its first ones.
const MOST: usize = 1 << 18;

/// Places count from 0. A list keeps its order, so what has vanished from it has a place nevertheless.
#[derive(Debug, Default)]
pub struct Places {
    by_id: HashMap<u64, u32>,
    /// Places so far.
    pub n: u32,
}

impl Places {
    pub fn of(&self, id: &str) -> Option<u32> {
        self.by_id.get(&hash(id)).copied()
    }

    /// Notes a page that comes behind the first `n_passed` places, and says behind how many the next one comes.
    ///
    /// What is new at the end of the page comes behind all that is known, also where the rest of that has vanished. What is new before
    /// something known takes the place of that.
    pub fn note(&mut self, ids: &[String], n_passed: u32) -> u32 {
        let last_known = ids.iter().rposition(|id| self.of(id).is_some());
        let n_up_to_known = last_known.map_or(0, |at| at + 1);
        let (up_to_known, behind) = ids.split_at(n_up_to_known);
        let mut n_passed_now = n_passed;
        let mut place = 0;
        for id in up_to_known.iter().rev() {
            place = *self.by_id.entry(hash(id)).or_insert(place);
            n_passed_now = n_passed_now.max(place + 1);
        }
        for id in behind {
            self.by_id.insert(hash(id), self.n);
            self.n += 1;
            n_passed_now = self.n;
        }
        self.forget();
        n_passed_now
    }

    fn forget(&mut self) {
        if self.by_id.len() > MOST {
            let kept = self.n.saturating_sub(MOST as u32 / 2);
            self.by_id.retain(|_, place| *place >= kept);
        }
    }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(letters: &str) -> Vec<String> {
        letters.chars().map(String::from).collect()
    }

    #[test]
    fn what_comes_anew_within_what_is_known_takes_no_place_of_its_own() {
        let mut places = Places::default();
        assert_eq!(places.note(&ids("abcde"), 0), 5);
        // The list is read again from its start; X and Y are new.
        let n = places.note(&ids("XaYc"), 0);
        assert_eq!((n, places.of("X"), places.of("Y"), places.n), (3, Some(0), Some(2), 5));
        // "b" has vanished, and stands before "c" all the same.
        assert_eq!((places.of("b"), places.of("d")), (Some(1), Some(3)));
        // So have "d" and "e".
        assert_eq!((places.note(&ids("fg"), n), places.of("f")), (7, Some(5)));
    }

    #[test]
    fn a_long_list_forgets_its_first_objects() {
        let mut places = Places::default();
        let mut n = 0;
        for page in 0..=MOST / 1000 {
            let page: Vec<String> = (0..1001).map(|at| format!("{page}-{at}")).collect();
            n = places.note(&page, n);
        }
        assert!(places.by_id.len() <= MOST && places.of("0-0").is_none());
        assert_eq!(places.of(&format!("{}-1000", MOST / 1000)), Some(n - 1));
    }
}
