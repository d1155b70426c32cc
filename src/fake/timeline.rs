//! Turns an index into the second in which that object was created.

use super::chance::{Scramble, mix};

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// The `created` of objects `0..len`, oldest first; it never decreases.
///
/// Newer months are denser, nights are sparse, gaps are irregular, and here and there up to 150 objects share a second.
/// The floats are only added, multiplied, divided and rooted, so every machine computes the same seconds.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    pub key: u64,
    pub len: u64,
    /// Places before the first object that stay empty: everything happens later by so much.
    pub lead: u64,
    pub start: i64,
    pub span_secs: i64,
    pub has_bursts: bool,
}

/// Objects among which there is one burst.
const BURST_BLOCK: u64 = 256;

/// Share of the density that does not grow with time.
const STEADY: f64 = 0.35;

impl Timeline {
    pub fn created(&self, index: u64) -> i64 {
        let head = if self.has_bursts { self.burst_head(index) } else { index };
        // The first object starts the span: whatever refers to it is then never older.
        let jitter = if head == 0 { 0.0 } else { (mix(self.key, head) >> 11) as f64 / (1_u64 << 53) as f64 };
        let share = ((head + self.lead) as f64 + jitter) / (self.len + self.lead) as f64;
        self.start + by_day(grown(share) * self.span_secs as f64) as i64
    }

    /// How many objects were created before `second`.
    pub fn len_before(&self, second: i64) -> u64 {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.created(middle) < second {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// How many of `others` objects, spread over the same span, surely exist when `index` is created; at least one.
    pub fn older_of(&self, index: u64, others: u64) -> u64 {
        let head = if self.has_bursts { self.burst_head(index) } else { index };
        ((head + self.lead) * others / (self.len + self.lead)).max(1)
    }

    fn burst_head(&self, index: u64) -> u64 {
        let block = index / BURST_BLOCK;
        let draw = mix(self.key ^ 0xb175, block);
        let len = if draw.is_multiple_of(8) { 50 + (draw >> 8) % 101 } else { 1 + (draw >> 8) % 5 };
        let offset = (draw >> 32) % (BURST_BLOCK - len + 1);
        if (offset..offset + len).contains(&(index % BURST_BLOCK)) {
            block * BURST_BLOCK + offset
        } else {
            index
        }
    }
}

/// The place in the span at which `share` of all objects exist: the inverse of `STEADY * x + (1 - STEADY) * x^2`.
fn grown(share: f64) -> f64 {
    let rise = 1.0 - STEADY;
    ((STEADY * STEADY + 4.0 * rise * share).sqrt() - STEADY) / (2.0 * rise)
}

/// Moves each second towards the middle of its day, in order.
fn by_day(second: f64) -> f64 {
    let day = (second / DAY as f64).floor();
    let off_noon = second / DAY as f64 - day - 0.5;
    (day + 0.5 + 0.3 * off_noon + 2.8 * off_noon * off_noon * off_noon) * DAY as f64
}

/// Which charge each refund (or dispute) is about, and the way back.
///
/// The charges are cut into `len + lag` strata, of which the first `len` own one follow-up each. Follow-ups happen in
/// blocks of `lag`, one block later than their strata and in another order, so each is younger than its charge.
#[derive(Debug, Clone)]
pub(super) struct Followups {
    pub key: u64,
    pub len: u64,
    pub lag: u64,
    pub charges: u64,
}

impl Followups {
    /// At most every second charge has a follow-up, about `lag_days` later.
    pub fn new(key: u64, wanted: u64, charges: u64, lag_days: u64, span_days: u64) -> Self {
        let len = wanted.min(charges / 2);
        let lag = (len * lag_days / span_days.max(1)).clamp(1, (charges - len).max(1));
        Self { key, len, lag, charges }
    }

    /// The stratum of a follow-up.
    pub fn stratum(&self, index: u64) -> u64 {
        let (first, len) = self.block(index);
        first + self.order(first).forward_within(len, index - first)
    }

    /// The follow-up of a stratum below `len`.
    pub fn of_stratum(&self, stratum: u64) -> u64 {
        let (first, len) = self.block(stratum);
        first + self.order(first).backward_within(len, stratum - first)
    }

    /// The stratum in which a charge lies, if that one owns a follow-up.
    pub fn stratum_of_charge(&self, charge: u64) -> Option<u64> {
        let stratum = ((charge + 1) * (self.len + self.lag) - 1) / self.charges;
        (stratum < self.len).then_some(stratum)
    }

    /// The charge of a stratum that has the follow-up.
    pub fn charge(&self, stratum: u64) -> u64 {
        let strata = self.len + self.lag;
        let first = stratum * self.charges / strata;
        let end = (stratum + 1) * self.charges / strata;
        first + mix(self.key, stratum) % (end - first)
    }

    fn block(&self, index: u64) -> (u64, u64) {
        let first = index / self.lag * self.lag;
        (first, self.lag.min(self.len - first))
    }

    fn order(&self, first: u64) -> Scramble {
        Scramble::covering(mix(self.key, first), self.lag.min(self.len - first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(len: u64, lead: u64) -> Timeline {
        Timeline { key: 7, len, lead, start: 1_700_000_000, span_secs: 365 * DAY, has_bursts: true }
    }

    #[test]
    fn created_never_decreases_and_stays_in_the_span() {
        for (len, lead) in [(1, 0), (2, 1), (50, 0), (20_000, 300)] {
            let line = timeline(len, lead);
            let mut last = line.start;
            for index in 0..len {
                let created = line.created(index);
                assert!(
                    created >= last && created < line.start + line.span_secs,
                    "{index}: {created} after {last}"
                );
                last = created;
            }
        }
    }

    #[test]
    fn seconds_are_shared_by_few_and_by_many_and_newer_halves_are_denser() {
        let line = timeline(20_000, 0);
        let mut group = 1;
        let mut largest = 1;
        for index in 1..line.len {
            group = if line.created(index) == line.created(index - 1) { group + 1 } else { 1 };
            largest = largest.max(group);
        }
        assert!((100..=160).contains(&largest), "{largest}");
        let older = line.len_before(line.start + line.span_secs / 2);
        assert!(older * 3 < (line.len - older) * 2, "{older}");
    }

    #[test]
    fn len_before_is_the_first_index_at_that_second() {
        let line = timeline(3_000, 0);
        for index in (0..line.len).step_by(7) {
            let created = line.created(index);
            let first = line.len_before(created);
            assert_eq!(line.created(first), created);
            assert!(first == 0 || line.created(first - 1) < created);
        }
        assert_eq!(line.len_before(i64::MAX), line.len);
        assert_eq!(line.len_before(i64::MIN), 0);
    }

    #[test]
    fn a_follow_up_and_its_charge_know_each_other_and_it_is_younger() {
        for (wanted, charges) in
            [(0, 0), (1, 1), (1, 2), (5, 9), (50, 1_000), (4_000, 8_000), (9_000, 10_000)]
        {
            let follow = Followups::new(3, wanted, charges, 12, 365);
            let line = timeline(charges, 0);
            let later = timeline(follow.len, follow.lag);
            for index in 0..follow.len {
                let stratum = follow.stratum(index);
                assert_eq!(follow.of_stratum(stratum), index);
                let charge = follow.charge(stratum);
                assert_eq!(follow.stratum_of_charge(charge), Some(stratum));
                assert!(line.created(charge) <= later.created(index), "{wanted}/{charges}: {index}");
            }
        }
    }
}
