//! Turns the ids that a list has shown into where to go on, and whether it may end there.
//!
//! Objects vanish while a list is read, and answers get mixed up. An end that does not follow from what came before is
//! settled from an earlier object, whose address is another one.

mod places;

use std::collections::{HashSet, VecDeque};

use crate::error::{Error, Result};
use crate::fetch::trail::places::Places;

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
    /// It shows what comes before the object that was asked behind, and nothing else.
    Before,
}

/// How far a walk through a list has come.
#[derive(Debug, Default)]
pub struct Trail {
    cursor: Option<String>,
    /// The ids from the list's start up to the cursor in the order sent, as far as they are kept.
    order: VecDeque<String>,
    /// Where everything stands that was shown.
    places: Places,
    /// The places up to the cursor. Those behind it were shown before the walk went back.
    n_passed: u32,
    /// Those at the list's start.
    n_first: u32,
    /// The ids that pages ended at.
    ends: HashSet<String>,
    /// Pages one after the other that ended where one has ended before.
    n_known: usize,
    /// Steps back from cursors that had vanished.
    steps_back: usize,
    restarts: u32,
    /// Steps back for ends that were odd.
    looks_back: usize,
    /// The cursors where the list seemed to end, but for those that have vanished since.
    doubted: Vec<String>,
    /// Whether the list was begun again for such an end.
    has_begun_again: bool,
    /// Those of the doubted that may yet turn out to have vanished.
    unasked: Vec<String>,
    /// An end behind which a page from further up had room, and showed nothing.
    settled: Option<String>,
}

impl Trail {
    /// That of a list of which these ids have been shown already.
    pub fn behind(shown: &[String]) -> Trail {
        let mut trail = Trail { cursor: shown.last().cloned(), ..Trail::default() };
        trail.ends.extend(trail.cursor.clone());
        trail.keep(shown);
        trail.n_first = trail.n_passed;
        trail
    }

    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Whether the walk has not gone back since it has last shown something new.
    pub fn is_on_its_way(&self) -> bool {
        self.steps_back == 0 && self.restarts == 0 && !self.is_looking_back()
    }

    /// Whether it has gone back for an end that was odd.
    fn is_looking_back(&self) -> bool {
        self.looks_back > 0 || self.has_begun_again
    }

    /// Whether the list was begun again since the server knows none of the last objects any more, or none before which the list
    /// seemed to end: it may well be that nothing is left.
    pub fn has_lost_all(&self) -> bool {
        self.cursor.is_none() && self.restarts > 0 && self.doubted.is_empty()
    }

    /// The objects that were shown.
    pub fn n_shown(&self) -> u32 {
        self.places.n
    }

    /// Whether an object was shown.
    pub fn has_shown(&self, id: &str) -> bool {
        self.places.of(id).is_some()
    }

    /// Whether some of the objects stand up to the cursor.
    fn shows_before(&self, ids: &[String]) -> bool {
        ids.iter().any(|id| self.places.of(id).is_some_and(|place| place < self.n_passed))
    }

    /// Whether some of the objects are known to stand behind the cursor.
    pub fn shows_beyond(&self, ids: &[String]) -> bool {
        ids.iter().any(|id| self.places.of(id).is_some_and(|place| place >= self.n_passed))
    }

    /// Whether the list may end with a page of so many objects, which have these ids, though there was more behind what
    /// came before it.
    ///
    /// A page from further up that shows what is known to stand behind its cursor is an answer to it. So where two places
    /// agree that nothing new follows, one answer that is another's ends no list.
    pub fn may_end(&self, ids: &[String], n_objects: usize) -> End {
        let plausible_if = |is_plausible| if is_plausible { End::Plausible } else { End::Odd };
        let Some(cursor) = &self.cursor else {
            // What stands at the start of a list is there until it vanishes, which not all of it does.
            let n_start = if self.is_looking_back() { self.places.n } else { self.n_first };
            let shows_start = ids.iter().any(|id| self.places.of(id).is_some_and(|place| place < n_start));
            let shows_doubted = self.doubted.is_empty() || ids.iter().any(|id| self.doubted.contains(id));
            return plausible_if(n_objects > 0 && (n_start == 0 || shows_start) && shows_doubted);
        };
        if n_objects == 0 {
            return plausible_if(self.settled.as_ref() == Some(cursor));
        }
        let shows_new = n_objects > ids.len() || ids.iter().any(|id| !self.has_shown(id));
        let shows_beyond = self.shows_beyond(ids);
        match (shows_new, self.shows_before(ids)) {
            (true, false) => End::Plausible,
            // Pages may overlap. If they do, those from further up do, too.
            (true, true) => plausible_if(shows_beyond),
            _ if shows_beyond => plausible_if(self.is_looking_back()),
            _ => End::Before,
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
        let is_start = self.cursor.is_none() && self.places.n == 0;
        let ends_as_before = last.is_some_and(|last| self.doubted.contains(last));
        if ends_as_before && is_short && !self.shows_before(ids) {
            self.settled = last.cloned();
        }
        if last.is_some_and(|last| !self.has_shown(last)) {
            (self.steps_back, self.restarts) = (0, 0);
            (self.looks_back, self.has_begun_again) = (0, false);
            self.doubted.clear();
            self.unasked.clear();
        }
        if has_more {
            self.ends.extend(last.cloned());
            self.cursor = last.cloned();
        }
        self.keep(ids);
        if is_start {
            self.n_first = self.n_passed;
        }
    }

    /// Goes on behind an object that no page could hold.
    pub fn step_over(&mut self, id: String) {
        self.keep(std::slice::from_ref(&id));
        self.ends.insert(id.clone());
        self.cursor = Some(id);
    }

    fn keep(&mut self, ids: &[String]) {
        self.n_passed = self.places.note(ids, self.n_passed);
        self.order.extend(ids.iter().cloned());
        let n_old = self.order.len().saturating_sub(KEPT);
        self.order.drain(..n_old);
    }

    /// Goes back from a cursor that has vanished to an object further up, if there is one: what is read again from there leaves
    /// nothing out.
    pub fn step_back(&mut self) -> bool {
        if let Some(cursor) = &self.cursor {
            self.doubted.retain(|doubted| doubted != cursor);
        }
        while let Some(n_back) = STEPS_BACK.get(self.steps_back) {
            self.steps_back += 1;
            if self.go_back(*n_back) {
                return true;
            }
        }
        false
    }

    fn go_back(&mut self, n_back: usize) -> bool {
        self.n_known = 0;
        let Some(at) = self.order.len().checked_sub(n_back + 1) else { return false };
        self.go_behind(self.order[at].clone());
        self.order.truncate(at + 1);
        true
    }

    fn go_behind(&mut self, id: String) {
        self.n_passed = self.places.of(&id).map_or(0, |place| place + 1);
        self.cursor = Some(id);
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

    /// Goes back for an end that is odd, to the list's start at last. What stood before that end has to be shown again, or to have
    /// vanished. False where it was neither, from anywhere.
    pub fn look_back(&mut self) -> bool {
        self.doubted.extend(self.cursor.clone());
        while let Some(n_back) = STEPS_BACK.get(self.looks_back) {
            self.looks_back += 1;
            if self.go_back(*n_back) {
                return true;
            }
        }
        if !std::mem::replace(&mut self.has_begun_again, true) {
            self.looks_back = 0;
            self.unasked = self.doubted.clone();
            self.go_to_start();
            return true;
        }
        let Some(doubted) = self.unasked.pop() else { return false };
        self.go_behind(doubted);
        self.order.clear();
        true
    }

    /// Whether the list was begun again for an end that was odd.
    pub fn has_begun_again(&self) -> bool {
        self.has_begun_again
    }

    fn go_to_start(&mut self) {
        self.n_known = 0;
        self.cursor = None;
        self.n_passed = 0;
        self.order.clear();
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
        let trail = Trail::behind(&ids("abc"));
        for (last_page, end) in [
            ("d", End::Plausible),
            ("", End::Odd),
            ("cd", End::Odd),
            ("bcd", End::Odd),
            ("c", End::Before),
            ("ab", End::Before),
        ] {
            check(&trail, last_page, end);
        }
    }

    #[test]
    fn an_end_that_is_odd_is_settled_by_the_object_before_it_or_by_new_ones() {
        let mut trail = Trail::behind(&ids("abcde"));
        assert!(trail.look_back());
        assert_eq!(trail.cursor(), Some("d"));
        for (last_page, end) in [
            ("e", End::Plausible),
            ("ef", End::Plausible),
            ("cdef", End::Plausible),
            ("", End::Odd),
            ("d", End::Before),
            ("cd", End::Before),
        ] {
            check(&trail, last_page, end);
        }
        assert!(trail.look_back());
        assert_eq!(trail.cursor(), Some("a"));
        // "e" may have vanished meanwhile.
        check(&trail, "bcd", End::Plausible);
        check(&trail, "ab", End::Plausible);
        check(&trail, "a", End::Before);
        assert!(trail.look_back(), "the list's start");
        assert_eq!(trail.cursor(), None);
        for (last_page, end) in [
            ("ab", End::Plausible),
            ("bd", End::Plausible),
            ("bc", End::Odd),
            ("", End::Odd),
            ("x", End::Odd),
        ] {
            check(&trail, last_page, end);
        }
        // It is nothing odd if those have vanished before which it seemed to end.
        for doubted in ["a", "d", "e"] {
            assert!(trail.look_back());
            assert_eq!(trail.cursor(), Some(doubted));
            assert!(!trail.step_back());
            trail.restart("/v1/charges").unwrap();
            check(&trail, "bc", if doubted == "e" { End::Plausible } else { End::Odd });
        }
        assert!(!trail.look_back());
    }

    #[test]
    fn an_end_is_settled_by_a_page_that_has_room_for_more() {
        for (is_short, end) in [(true, End::Plausible), (false, End::Odd)] {
            let mut trail = Trail::behind(&ids("abc"));
            assert!(trail.look_back());
            trail.advance(&ids("c"), true, is_short);
            check(&trail, "", end);
        }
    }

    #[test]
    fn what_has_vanished_ends_nothing_where_the_list_is_begun_again() {
        let mut trail = Trail::behind(&ids("abcde"));
        while trail.step_back() {}
        trail.restart("/v1/charges").unwrap();
        assert!(trail.has_lost_all());
        check(&trail, "c", End::Plausible);
        check(&trail, "x", End::Odd);
        trail.advance(&ids("bc"), true, false);
        check(&trail, "a", End::Before);
        check(&trail, "d", End::Odd);
        check(&trail, "f", End::Plausible);
        trail.advance(&ids("fg"), true, false);
        // Nor where it has gone on since.
        for before in ["a", "d", "f"] {
            check(&trail, before, End::Before);
        }
    }

    #[test]
    fn an_end_behind_a_vanished_cursor_is_settled_from_close_by() {
        let mut trail = Trail::behind(&ids("abcdef"));
        assert!(trail.step_back());
        check(&trail, "f", End::Odd);
        assert!(trail.look_back());
        assert_eq!(trail.cursor(), Some("d"));
        check(&trail, "ef", End::Plausible);
    }

    #[test]
    fn what_came_long_before_ends_no_list() {
        let page = |n: usize| -> Vec<String> { (n * 100..n * 100 + 100).map(|id| id.to_string()).collect() };
        let mut trail = Trail::default();
        (0..20).for_each(|n| trail.advance(&page(n), true, false));
        assert_eq!(trail.may_end(&page(0), 100), End::Before);
        assert!(trail.look_back());
        assert_eq!(trail.may_end(&page(0), 100), End::Before);
    }

    #[test]
    fn what_appears_where_a_list_is_read_again_is_no_progress() {
        let mut trail = Trail::behind(&ids("abcdef"));
        assert!(trail.look_back() && trail.look_back() && trail.look_back() && trail.has_begun_again());
        trail.advance(&ids("aXb"), true, false);
        assert!(trail.has_begun_again() && !trail.is_on_its_way());
        trail.advance(&ids("defg"), true, false);
        assert!(!trail.has_begun_again() && trail.is_on_its_way());
    }
}
