//! Turns an index into the second in which that object was created.

use super::chance::{Scramble, mix};
use super::density::Spread;

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// The `created` of objects `0..len`, oldest first; it never decreases.
///
/// The density says where they lie; gaps are irregular, and the objects of a burst share a second.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    pub key: u64,
    pub len: u64,
    /// Places before the first object that stay empty: everything happens later by so much.
    pub lead: u64,
    pub spread: Spread,
    pub has_bursts: bool,
}

impl Timeline {
    pub fn created(&self, index: u64) -> i64 {
        let head = self.head(index);
        // The first object starts the span: whatever refers to it is then never older.
        let jitter = if head == 0 { 0.0 } else { (mix(self.key, head) >> 11) as f64 / (1_u64 << 53) as f64 };
        self.spread.second(((head + self.lead) as f64 + jitter) / (self.len + self.lead) as f64)
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
        ((self.head(index) + self.lead) * others / (self.len + self.lead)).max(1)
    }

    /// The first object of the burst that `index` is in, or itself.
    fn head(&self, index: u64) -> u64 {
        let block_len = match self.has_bursts {
            true => self.spread.density.burst_block(),
            false => None,
        };
        let Some(block_len) = block_len else {
            return index;
        };
        let block = index / block_len;
        let draw = mix(self.key ^ 0xb175, block);
        let len = self.spread.density.burst_len(draw);
        let offset = (draw >> 32) % (block_len - len + 1);
        if (offset..offset + len).contains(&(index % block_len)) { block * block_len + offset } else { index }
    }
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
    use crate::fake::Density;

    const START: i64 = 1_700_000_000;

    fn timeline(density: Density, len: u64, lead: u64) -> Timeline {
        Timeline { key: 7, len, lead, spread: Spread::new(density, START, 365 * DAY), has_bursts: true }
    }

    #[test]
    fn created_never_decreases_and_stays_in_the_span() {
        for density in Density::ALL {
            for (len, lead) in [(1, 0), (2, 1), (50, 0), (20_000, 300)] {
                let line = timeline(density, len, lead);
                let mut last = START;
                for index in 0..len {
                    let created = line.created(index);
                    let is_in_order = created >= last && created < START + 365 * DAY;
                    assert!(is_in_order, "{density:?} {index}: {created} after {last}");
                    last = created;
                }
            }
        }
    }

    /// The most objects that share a second.
    fn largest_group(line: &Timeline) -> usize {
        let created: Vec<i64> = (0..line.len).map(|index| line.created(index)).collect();
        created.chunk_by(i64::eq).map(<[i64]>::len).max().unwrap()
    }

    #[test]
    fn seconds_are_shared_by_few_by_many_or_by_thousands() {
        for (density, expected) in [
            (Density::Growing, 100..=160),
            (Density::Even, 1..=1),
            (Density::Month, 100..=160),
            (Density::Bursts, 3_000..=6_010),
        ] {
            let largest = largest_group(&timeline(density, 20_000, 0));
            assert!(expected.contains(&largest), "{density:?}: {largest}");
        }
    }

    #[test]
    fn newer_halves_of_a_growing_account_are_denser() {
        let line = timeline(Density::Growing, 20_000, 0);
        let older = line.len_before(START + 365 * DAY / 2);
        assert!(older * 3 < (line.len - older) * 2, "{older}");
    }

    #[test]
    fn an_account_whose_density_nobody_chose_keeps_the_seconds_that_it_always_had() {
        let line = timeline(Density::default(), 20_000, 3);
        let since_start = [0, 1, 777, 9_999, 15_000, 19_999].map(|index| line.created(index) - START);
        assert_eq!(since_start, [24_466, 33_386, 2_983_404, 20_437_101, 26_428_984, 31_534_991]);
        assert_eq!(line.older_of(15_000, 4_000), 3_000);
        let sum = (0..line.len).fold(0_i64, |sum, n| sum.wrapping_mul(31).wrapping_add(line.created(n)));
        assert_eq!(sum, 5_171_773_782_827_682_706);
    }

    #[test]
    fn len_before_is_the_first_index_at_that_second() {
        for density in Density::ALL {
            let line = timeline(density, 3_000, 0);
            for index in (0..line.len).step_by(7) {
                let created = line.created(index);
                let first = line.len_before(created);
                assert_eq!(line.created(first), created);
                assert!(first == 0 || line.created(first - 1) < created);
            }
            assert_eq!(line.len_before(i64::MAX), line.len);
            assert_eq!(line.len_before(i64::MIN), 0);
        }
    }

    #[test]
    fn a_follow_up_and_its_charge_know_each_other_and_it_is_younger() {
        for (wanted, charges) in
            [(0, 0), (1, 1), (1, 2), (5, 9), (50, 1_000), (4_000, 8_000), (9_000, 10_000)]
        {
            let follow = Followups::new(3, wanted, charges, 12, 365);
            for density in Density::ALL {
                let line = timeline(density, charges, 0);
                let later = Timeline { has_bursts: false, ..timeline(density, follow.len, follow.lag) };
                for index in 0..follow.len {
                    let stratum = follow.stratum(index);
                    assert_eq!(follow.of_stratum(stratum), index);
                    let charge = follow.charge(stratum);
                    assert_eq!(follow.stratum_of_charge(charge), Some(stratum));
                    let is_younger = line.created(charge) <= later.created(index);
                    assert!(is_younger, "{density:?} {wanted}/{charges}: {index}");
                }
            }
        }
    }
}
