//! How old the rows of the old file count as, against observations in the runs.

use std::ops::Range;

/// How old the rows of the old file count as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldAge {
    /// The runs were listed just now, under the lake's lock: they are newer, whatever a clock said when
    /// the old rows were written.
    Superseded,
    /// The same, but rows observed between these times (microseconds) were listed by this run, too, and
    /// maybe after those in the runs.
    SupersededBut(i64, i64),
    /// As old as `_synced_at` says, but objects that were created in these seconds no older than the time (microseconds)
    /// beside them: a row that was found unchanged keeps its time, and yet was seen again by a complete listing. Such a
    /// listing is also what counts of a row whose own time is later than `now`: the clock was wrong then.
    AtLeast { listed: Vec<(Range<i64>, i64)>, now: i64 },
}

impl OldAge {
    /// As old as the rows themselves say.
    pub fn at_least() -> OldAge {
        OldAge::AtLeast { listed: Vec::new(), now: i64::MAX }
    }

    /// When a row counts as observed. Times are in microseconds.
    pub fn observed_at(&self, synced_at: i64, created: i64) -> i64 {
        match self {
            OldAge::Superseded => i64::MIN,
            OldAge::SupersededBut(from, to) if (from..=to).contains(&&synced_at) => synced_at,
            OldAge::SupersededBut(..) => i64::MIN,
            OldAge::AtLeast { listed, now } => {
                let created = created.div_euclid(1_000_000);
                let listed = listed.iter().find(|(seconds, _)| seconds.contains(&created)).map(|(_, at)| *at);
                match listed {
                    Some(at) if synced_at > *now => at,
                    Some(at) => synced_at.max(at),
                    None => synced_at,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_come_counts_for_nothing_where_a_listing_has_seen_the_row() {
        let age = OldAge::AtLeast { listed: vec![(0..10, 40)], now: 100 };
        let second = 1_000_000;
        assert_eq!(age.observed_at(30, second), 40);
        assert_eq!(age.observed_at(60, second), 60);
        assert_eq!(age.observed_at(101, second), 40);
        // Nobody knows better.
        assert_eq!(age.observed_at(101, 10 * second), 101);
    }
}
