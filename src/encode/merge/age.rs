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
    /// beside them: a row that was found unchanged keeps its time, and yet was seen again by a complete listing.
    AtLeast(Vec<(Range<i64>, i64)>),
}

impl OldAge {
    /// When a row counts as observed. Times are in microseconds.
    pub fn observed_at(&self, synced_at: i64, created: i64) -> i64 {
        match self {
            OldAge::Superseded => i64::MIN,
            OldAge::SupersededBut(from, to) if (from..=to).contains(&&synced_at) => synced_at,
            OldAge::SupersededBut(..) => i64::MIN,
            OldAge::AtLeast(seen) => {
                let created = created.div_euclid(1_000_000);
                let seen = seen.iter().find(|(seconds, _)| seconds.contains(&created));
                seen.map_or(synced_at, |(_, at)| synced_at.max(*at))
            }
        }
    }
}
