//! Turns the ids that a list has shown into where to go on, and whether it may end there.
//!
//! Objects vanish while a list is read, and answers get mixed up. An end that does not follow from what came before is
//! settled from an earlier object, whose address is another one.

use std::collections::{HashSet, VecDeque};

use crate::error::{Error, Result};

/// Ids kept for the way back.
const KEPT: usize = 300;
/// How far to step back, one time after the other, in ids.
const STEPS_BACK: [usize; 4] = [1, 3, 16, 80];
/// Times that a list is begun again for a cursor that has vanished, without a new object since.
const RESTARTS: u32 = 5;

/// What a page is worth as the last one behind the present cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Plausible,
    /// There was more a moment ago.
    Odd,
    /// No list shows what comes before the object that was asked behind.
    Impossible,
}

/// How far a walk through a list has come.
#[derive(Debug, Default)]
pub struct Trail {
    cursor: Option<String>,
    /// The ids from the list's start up to the cursor in the order sent, as far as they are kept.
    order: VecDeque<String>,
    /// Those that were shown last, also where they have vanished since.
    shown: VecDeque<String>,
    /// Those at its start.
    first: Vec<String>,
    /// Those that were shown and stand behind the cursor since it was put back.
    beyond: HashSet<String>,
    /// The ids that pages ended at.
    ends: HashSet<String>,
    /// Pages one after the other that ended where one has ended before.
    n_known: usize,
    steps_back: usize,
    restarts: u32,
    is_looking_back: bool,
    /// The cursor where the list seemed to end.
    doubted: Option<String>,
    /// Whether the list was begun again for that end.
    has_begun_again: bool,
    /// An end behind which a page from further up had room, and showed nothing.
    settled: Option<String>,
}

impl Trail {
    /// That of a list of which these ids have been shown already.
    pub fn behind(shown: Vec<String>) -> Trail {
        let cursor = shown.last().cloned();
        Trail {
            ends: cursor.iter().cloned().collect(),
            order: shown.iter().cloned().collect(),
            shown: shown.iter().cloned().collect(),
            first: shown,
            cursor,
            ..Trail::default()
        }
    }

    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Whether nothing is read again.
    pub fn is_on_its_way(&self) -> bool {
        self.steps_back == 0 && self.restarts == 0 && !self.is_looking_back
    }

    /// Whether the list was begun again since the server knows none of the last objects any more: it may well be
    /// that nothing is left.
    pub fn has_lost_all(&self) -> bool {
        self.cursor.is_none() && self.restarts > 0 && !self.is_looking_back
    }

    /// Whether an object was shown lately.
    pub fn has_shown(&self, id: &String) -> bool {
        self.shown.contains(id)
    }

    /// Whether some of the objects are known to stand behind the cursor.
    pub fn shows_beyond(&self, ids: &[String]) -> bool {
        ids.iter().any(|id| self.beyond.contains(id))
    }

    /// Whether the list may end with a page of so many objects, which have these ids, though there was more behind what
    /// came before it.
    pub fn may_end(&self, ids: &[String], n_objects: usize) -> End {
        let plausible_if = |is_plausible| if is_plausible { End::Plausible } else { End::Odd };
        let shows_doubted = self.doubted.as_ref().map(|doubted| ids.contains(doubted));
        let Some(cursor) = &self.cursor else {
            // What stands at the start of a list is there until it vanishes, which not all of it does.
            let shows_first = self.first.is_empty() || ids.iter().any(|id| self.first.contains(id));
            return plausible_if(shows_first && shows_doubted != Some(false));
        };
        if n_objects == 0 {
            return plausible_if(self.settled.as_ref() == Some(cursor));
        }
        let is_before = |id: &String| id == cursor || self.has_shown(id) && !self.beyond.contains(id);
        let shows_new = n_objects > ids.len() || ids.iter().any(|id| !self.has_shown(id));
        match (shows_new, ids.iter().any(is_before)) {
            // Pages may overlap. If they do, those from further up do, too.
            (true, shows_before) => plausible_if(!shows_before || !self.is_on_its_way()),
            (false, true) => End::Impossible,
            (false, false) => plausible_if(shows_doubted == Some(true)),
        }
    }

    /// Whether a page that has more and ends at `last` gets on. What is read again may end where pages have ended before, as
    /// often as there are such ends.
    pub fn gets_on(&mut self, last: &str) -> bool {
        if !self.ends.contains(last) {
            self.n_known = 0;
            return true;
        }
        self.n_known += 1;
        !self.is_on_its_way() && self.n_known <= self.ends.len() + 1
    }

    /// Goes on behind a page, which may be short of what was asked for.
    pub fn advance(&mut self, ids: &[String], has_more: bool, is_short: bool) {
        let last = ids.last();
        if self.cursor.is_none() && self.first.is_empty() {
            self.first = ids.to_vec();
        }
        let is_old = |id: &String| self.beyond.contains(id);
        let ends_as_before = self.cursor.is_some() && last.is_some() && last == self.doubted.as_ref();
        if ends_as_before && is_short && ids.iter().all(is_old) {
            self.settled = last.cloned();
        }
        if last.is_some_and(|last| !self.ends.contains(last) && !is_old(last)) {
            (self.steps_back, self.restarts) = (0, 0);
            (self.is_looking_back, self.doubted, self.has_begun_again) = (false, None, false);
            self.beyond.clear();
        }
        if has_more {
            self.ends.extend(last.cloned());
            self.cursor = last.cloned();
        }
        ids.iter().for_each(|id| _ = self.beyond.remove(id));
        self.keep(ids);
    }

    /// Goes on behind an object that no page could hold.
    pub fn step_over(&mut self, id: String) {
        self.keep(std::slice::from_ref(&id));
        self.ends.insert(id.clone());
        self.cursor = Some(id);
    }

    fn keep(&mut self, ids: &[String]) {
        for kept in [&mut self.order, &mut self.shown] {
            kept.extend(ids.iter().cloned());
            let n_old = kept.len().saturating_sub(KEPT);
            kept.drain(..n_old);
        }
    }

    /// Goes back to an object further up, if there is one: what is read again from there leaves nothing out.
    pub fn step_back(&mut self) -> bool {
        self.n_known = 0;
        while let Some(n_back) = STEPS_BACK.get(self.steps_back) {
            self.steps_back += 1;
            if let Some(at) = self.order.len().checked_sub(n_back + 1) {
                self.cursor = Some(self.order[at].clone());
                self.beyond.extend(self.order.drain(at + 1..));
                return true;
            }
        }
        false
    }

    /// Goes back to the start of the list at `path` for a cursor that has vanished, as often as that may help.
    pub fn restart(&mut self, path: &str) -> Result<()> {
        self.restarts += 1;
        self.steps_back = 0;
        self.go_to_start();
        match self.restarts <= RESTARTS {
            true => Ok(()),
            false => Err(Error::stripe(format!("{path}: objects vanish faster than they are listed"))
                .hint("run the same command again later")),
        }
    }

    /// Goes back for an end that is odd, to the list's start at last: what stands before it has to be shown again. False
    /// where it was not, from anywhere.
    pub fn look_back(&mut self) -> bool {
        if self.has_begun_again {
            return false;
        }
        if !std::mem::replace(&mut self.is_looking_back, true) {
            self.doubted = self.cursor.clone();
        }
        if !self.step_back() {
            self.has_begun_again = true;
            self.go_to_start();
        }
        true
    }

    /// Whether the list was begun again for an end that was odd.
    pub fn has_begun_again(&self) -> bool {
        self.has_begun_again
    }

    fn go_to_start(&mut self) {
        self.n_known = 0;
        self.cursor = None;
        self.beyond.extend(self.order.drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id for each letter.
    fn ids(letters: &str) -> Vec<String> {
        letters.chars().map(String::from).collect()
    }

    #[track_caller]
    fn check(trail: &Trail, last_page: &str, end: End) {
        assert_eq!(trail.may_end(&ids(last_page), last_page.len()), end, "{last_page}");
    }

    #[test]
    fn a_list_ends_with_what_is_new_and_not_with_what_came_before() {
        let trail = Trail::behind(ids("abc"));
        for (last_page, end) in [
            ("d", End::Plausible),
            ("", End::Odd),
            ("cd", End::Odd),
            ("bcd", End::Odd),
            ("c", End::Impossible),
            ("ab", End::Impossible),
        ] {
            check(&trail, last_page, end);
        }
    }

    #[test]
    fn an_end_that_is_odd_is_settled_by_the_object_before_it_or_by_new_ones() {
        let mut trail = Trail::behind(ids("abcde"));
        assert!(trail.look_back());
        assert_eq!(trail.cursor(), Some("d"));
        for (last_page, end) in [
            ("e", End::Plausible),
            ("ef", End::Plausible),
            ("cdef", End::Plausible),
            ("", End::Odd),
            ("d", End::Impossible),
        ] {
            check(&trail, last_page, end);
        }
        assert!(trail.look_back());
        assert_eq!(trail.cursor(), Some("a"));
        check(&trail, "bcd", End::Odd);
        check(&trail, "be", End::Plausible);
        assert!(trail.look_back(), "the list's start");
        assert_eq!(trail.cursor(), None);
        check(&trail, "abc", End::Odd);
        check(&trail, "ae", End::Plausible);
        assert!(!trail.look_back());
    }

    #[test]
    fn an_end_is_settled_by_a_page_that_has_room_for_more() {
        for (is_short, end) in [(true, End::Plausible), (false, End::Odd)] {
            let mut trail = Trail::behind(ids("abc"));
            assert!(trail.look_back());
            trail.advance(&ids("c"), true, is_short);
            check(&trail, "", end);
        }
    }

    #[test]
    fn what_has_vanished_ends_nothing_where_the_list_is_begun_again() {
        let mut trail = Trail::behind(ids("abcde"));
        while trail.step_back() {}
        trail.restart("/v1/charges").unwrap();
        assert!(trail.has_lost_all());
        trail.advance(&ids("bc"), true, false);
        check(&trail, "a", End::Odd);
        check(&trail, "d", End::Odd);
        check(&trail, "f", End::Plausible);
        trail.advance(&ids("fg"), true, false);
        // Nor where it has gone on since.
        check(&trail, "a", End::Impossible);
    }
}
