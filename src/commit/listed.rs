//! When complete listings have last read which objects: an import of older observations takes nothing of these back.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Hourly listings of the last month leave a piece an hour behind. Beyond this many the oldest ones become one.
const MOST_PIECES: usize = 64;

/// Disjoint seconds of `created`, oldest first, and beside each when the newest listing of it began, in microseconds by the
/// clock of the machine.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed(Vec<(i64, i64, i64)>);

impl Listed {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes that objects that were created in these seconds have all been read since `at`. What was noted with a time later
    /// than `now` was by a clock that was wrong, and is forgotten.
    pub fn add(&mut self, seconds: Range<i64>, at: i64, now: i64) {
        self.0.retain(|(_, _, then)| *then <= now);
        let mut pieces = Vec::new();
        let mut from = seconds.start;
        for (start, end, then) in self.0.drain(..) {
            if then >= at {
                pieces.push((from, start.min(seconds.end), at));
                pieces.push((start, end, then));
                from = from.max(end);
            } else {
                pieces.push((start, end.min(seconds.start), then));
                pieces.push((start.max(seconds.end), end, then));
            }
        }
        pieces.push((from, seconds.end, at));
        pieces.retain(|(start, end, _)| start < end);
        pieces.sort_unstable();
        for piece in pieces {
            match self.0.last_mut() {
                Some(last) if last.1 == piece.0 && last.2 == piece.2 => last.1 = piece.1,
                _ => self.0.push(piece),
            }
        }
        while self.0.len() > MOST_PIECES {
            let (start, end, at) = self.0.remove(0);
            // Where they do not touch, what is forgotten counts as never listed.
            if let Some(next) = self.0.first_mut().filter(|next| next.0 == end) {
                (next.0, next.2) = (start, next.2.min(at));
            }
        }
    }

    /// The pieces, cut to `span`, without those of a time later than `now`.
    pub fn within(&self, span: &Range<i64>, now: i64) -> Vec<(Range<i64>, i64)> {
        let cut = |(start, end, at): &(i64, i64, i64)| (*start.max(&span.start)..*end.min(&span.end), *at);
        self.0.iter().map(cut).filter(|(seconds, at)| !seconds.is_empty() && *at <= now).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_time_for_each_second(
            listings in proptest::collection::vec((0i64..40, 0i64..20, 0i64..8), 0..12),
        ) {
            let mut listed = Listed::default();
            let mut at_of = [None; 60];
            for (start, length, at) in listings {
                listed.add(start..start + length, at, i64::MAX);
                for second in start..start + length {
                    let known = &mut at_of[second as usize];
                    *known = (*known).max(Some(at));
                }
                for (second, at) in at_of.iter().enumerate() {
                    let second = second as i64;
                    let found = listed.within(&(second..second + 1), i64::MAX);
                    prop_assert_eq!(found.first().map(|(_, at)| *at), *at);
                    prop_assert!(found.len() < 2);
                }
                prop_assert!(listed.0.windows(2).all(|two| two[0].1 <= two[1].0));
            }
        }
    }

    #[test]
    fn what_is_forgotten_counts_as_older_and_never_as_newer() {
        let mut listed = Listed::default();
        listed.add(0..1_000, 5, i64::MAX);
        for hour in 0..500 {
            listed.add(100 + hour..1_001 + hour, 10 + hour, i64::MAX);
        }
        assert_eq!(listed.0.len(), MOST_PIECES);
        assert_eq!(listed.within(&(0..2), i64::MAX), [(0..2, 5)]);
        assert_eq!(listed.within(&(100..101), i64::MAX), [(100..101, 5)], "it was 10");
        assert_eq!(listed.within(&(600..601), i64::MAX), [(600..601, 509)]);
    }

    #[test]
    fn what_cannot_be_joined_is_forgotten() {
        let mut listed = Listed::default();
        for second in 0..=MOST_PIECES as i64 {
            listed.add(2 * second..2 * second + 1, 7, i64::MAX);
        }
        assert_eq!(listed.within(&(0..4), i64::MAX), [(2..3, 7)]);
    }

    #[test]
    fn a_time_to_come_is_that_of_a_wrong_clock() {
        let mut listed = Listed::default();
        listed.add(0..100, 1_000, 1_000);
        assert_eq!(listed.within(&(0..100), 50), []);
        listed.add(50..60, 40, 50);
        assert_eq!(listed.within(&(0..100), 50), [(50..60, 40)]);
    }
}
