//! How many objects a page may ask for, where large pages fail.

use std::collections::HashMap;
use std::sync::Mutex;

/// Objects per page; Stripe allows 1 to 100.
pub const LIMIT: usize = 100;
/// Good pages after which a halved page grows, at most.
const SLOWEST_GROWTH: u32 = 64;

/// Objects to ask for. It halves where pages fail and grows again, more slowly each time that it had to halve.
#[derive(Debug, Clone, Copy)]
pub struct PageSize {
    limit: usize,
    good_pages: u32,
    grows_after: u32,
}

/// What became of a request for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    pub asked: usize,
    /// What came at last. For a list, of pages that were too heavy for the server; for a slice, of those too large for us.
    pub got: usize,
}

/// What is left of a page that was halved so often.
pub fn halved(limit: usize, times: u32) -> usize {
    limit.checked_shr(times).unwrap_or(0).max(1)
}

impl PageSize {
    pub const FULL: PageSize = PageSize { limit: LIMIT, good_pages: 0, grows_after: 1 };

    pub fn limit(&self) -> usize {
        self.limit
    }

    pub fn note(&mut self, came: Came) {
        self.learn(came);
        if self.claims_growth() {
            self.limit = self.larger();
        }
    }

    /// Not even a page of one came.
    pub fn shrink(&mut self) {
        *self = PageSize { limit: 1, good_pages: 0, grows_after: self.slower() };
    }

    fn learn(&mut self, Came { asked, got }: Came) {
        if got < asked {
            (self.limit, self.good_pages) = (self.limit.min(got), 0);
            self.grows_after = self.slower();
        } else if got > self.limit {
            (self.limit, self.good_pages) = (got, 0);
        } else if got == self.limit {
            self.good_pages += 1;
        }
    }

    /// Whether the next page may be larger; the one who is told so asks for it, and the others do not.
    fn claims_growth(&mut self) -> bool {
        let is_due = self.limit < LIMIT && self.good_pages >= self.grows_after;
        if is_due {
            self.good_pages = 0;
        }
        is_due
    }

    fn larger(&self) -> usize {
        (self.limit * 2).min(LIMIT)
    }

    fn slower(&self) -> u32 {
        (self.grows_after * 2).min(SLOWEST_GROWTH)
    }
}

/// What each list bears, for all who read it: a server that fails at large pages fails at those of every slice.
#[derive(Debug, Default)]
pub struct PageSizes(Mutex<HashMap<String, PageSize>>);

impl PageSizes {
    /// The objects to ask for at the list at `path`. Where it bears less than a full page, now and then one page asks for more.
    pub fn next(&self, path: &str) -> usize {
        let mut sizes = self.0.lock().expect("no panic while counting");
        let Some(size) = sizes.get_mut(path) else { return LIMIT };
        if size.claims_growth() { size.larger() } else { size.limit }
    }

    pub fn note(&self, path: &str, came: Came) {
        let mut sizes = self.0.lock().expect("no panic while counting");
        match sizes.get_mut(path) {
            Some(size) => size.learn(came),
            None if came.got < came.asked => {
                let mut size = PageSize::FULL;
                size.learn(came);
                sizes.insert(path.to_owned(), size);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages and failures of a list that bears `most` objects a page, read by `at_once` workers for `n` rounds.
    fn read(sizes: &PageSizes, most: usize, at_once: usize, n: usize) -> (usize, usize) {
        let (mut pages, mut failures) = (0, 0);
        for _ in 0..n {
            let asked: Vec<usize> = (0..at_once).map(|_| sizes.next("/v1/charges")).collect();
            for asked in asked {
                let mut got = asked;
                while got > most {
                    got = halved(got, 1);
                    failures += 1;
                }
                pages += 1;
                sizes.note("/v1/charges", Came { asked, got });
            }
        }
        (pages, failures)
    }

    #[test]
    fn what_one_has_learnt_of_a_list_the_others_need_not_find_out() {
        for most in [50, 25, 3] {
            let sizes = PageSizes::default();
            let halvings = read(&sizes, most, 1, 1).1;
            assert_eq!(sizes.next("/v1/charges"), halved(LIMIT, halvings as u32));
            let (pages, failures) = read(&sizes, most, 20, 100);
            assert!(failures * 50 < pages, "{most}: {failures} failures in {pages} pages");
            assert_eq!(sizes.next("/v1/refunds"), LIMIT);
        }
    }

    #[test]
    fn a_list_that_bears_full_pages_again_gets_them() {
        let sizes = PageSizes::default();
        read(&sizes, 12, 4, 20);
        let (_, failures) = read(&sizes, LIMIT, 4, 100);
        assert_eq!((failures, sizes.next("/v1/charges")), (0, LIMIT));
    }

    #[test]
    fn workers_that_fail_together_halve_once() {
        let sizes = PageSizes::default();
        read(&sizes, 50, 20, 1);
        assert_eq!(sizes.next("/v1/charges"), 50);
    }
}
