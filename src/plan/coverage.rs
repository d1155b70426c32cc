//! Turns ranges of seconds that were read into the answer whether a partition is complete, and what is left.

use std::collections::BTreeMap;
use std::ops::Range;

/// The seconds of a resource that have been read completely.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Disjoint, start to end.
    ranges: BTreeMap<i64, i64>,
}

impl Coverage {
    /// Adds seconds, which may overlap what is there.
    pub fn add(&mut self, range: Range<i64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        let touching: Vec<i64> =
            self.ranges.range(..=end).filter(|(_, e)| **e >= start).map(|(s, _)| *s).collect();
        for s in touching {
            let e = self.ranges.remove(&s).expect("just seen");
            start = start.min(s);
            end = end.max(e);
        }
        self.ranges.insert(start, end);
    }

    /// Whether every second of `range` has been read.
    pub fn contains(&self, range: &Range<i64>) -> bool {
        if range.is_empty() {
            return true;
        }
        let before = self.ranges.range(..=range.start).next_back();
        before.is_some_and(|(_, end)| *end >= range.end)
    }

    /// The unbroken range that ends at `end`.
    pub fn ending_at(&self, end: i64) -> Option<Range<i64>> {
        self.ranges.iter().find(|(_, e)| **e == end).map(|(s, e)| *s..*e)
    }

    /// The ranges, oldest first.
    pub fn ranges(&self) -> Vec<Range<i64>> {
        self.ranges.iter().map(|(start, end)| *start..*end).collect()
    }

    /// What of `range` has been read, oldest first.
    pub fn within(&self, range: &Range<i64>) -> Vec<Range<i64>> {
        let cut = self.ranges.iter().map(|(start, end)| *start.max(&range.start)..*end.min(&range.end));
        cut.filter(|cut| !cut.is_empty()).collect()
    }

    /// What of `range` has not been read, oldest first.
    pub fn missing_in(&self, range: &Range<i64>) -> Vec<Range<i64>> {
        let mut missing = Vec::new();
        let mut from = range.start;
        for read in self.within(range) {
            missing.push(from..read.start);
            from = read.end;
        }
        missing.push(from..range.end);
        missing.retain(|range| !range.is_empty());
        missing
    }

    /// Takes seconds out again.
    pub fn remove(&mut self, range: &Range<i64>) {
        let span = i64::MIN..range.start;
        let behind = range.end..i64::MAX;
        let left = [self.within(&span), self.within(&behind)].concat();
        if !range.is_empty() {
            self.ranges = left.into_iter().map(|range| (range.start, range.end)).collect();
        }
    }

    /// What of both has been read.
    pub fn common(&self, other: &Coverage) -> Coverage {
        other.ranges().iter().flat_map(|range| self.within(range)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// As they are stored: start and end of each range, oldest first.
    pub fn pairs(&self) -> Vec<(i64, i64)> {
        self.ranges.iter().map(|(start, end)| (*start, *end)).collect()
    }

    pub fn from_pairs(pairs: &[(i64, i64)]) -> Coverage {
        pairs.iter().map(|(start, end)| *start..*end).collect()
    }

    pub fn n_secs(&self) -> i64 {
        self.ranges.iter().map(|(start, end)| end.saturating_sub(*start)).sum()
    }
}

impl FromIterator<Range<i64>> for Coverage {
    fn from_iter<T: IntoIterator<Item = Range<i64>>>(ranges: T) -> Coverage {
        let mut coverage = Coverage::default();
        ranges.into_iter().for_each(|range| coverage.add(range));
        coverage
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn coverage_agrees_with_a_set_of_seconds(
            ranges in proptest::collection::vec((0i64..60, 0i64..20, any::<bool>()), 0..20),
            probe in (0i64..60, 0i64..20),
        ) {
            let mut coverage = Coverage::default();
            let mut seconds = BTreeSet::new();
            for (start, length, is_added) in ranges {
                let range = start..start + length;
                if is_added {
                    coverage.add(range.clone());
                    seconds.extend(range);
                } else {
                    coverage.remove(&range);
                    seconds.retain(|s| !range.contains(s));
                }
            }
            let probe = probe.0..probe.0 + probe.1;
            let all = |ranges: Vec<Range<i64>>| ranges.into_iter().flatten().collect::<Vec<i64>>();
            prop_assert_eq!(coverage.contains(&probe), probe.clone().all(|s| seconds.contains(&s)));
            prop_assert_eq!(all(coverage.ranges()), seconds.iter().copied().collect::<Vec<_>>());
            let (inside, outside): (Vec<i64>, _) = probe.clone().partition(|s| seconds.contains(s));
            prop_assert_eq!(all(coverage.within(&probe)), inside);
            prop_assert_eq!(all(coverage.missing_in(&probe)), outside);
            prop_assert_eq!(coverage.n_secs(), seconds.len() as i64);
            prop_assert_eq!(coverage.ranges().into_iter().collect::<Coverage>(), coverage);
        }
    }
}
