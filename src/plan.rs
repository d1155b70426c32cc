//! Turns the span of a resource into slices, and cuts the busiest one again when a worker is idle.
//!
//! Nothing is known about an account beforehand. The first slice is the whole span; the pages that
//! come back tell how dense it is, and the unread older part of a slice is cut in two for as long as
//! there are idle workers and enough left to read.

use std::collections::BTreeMap;
use std::ops::Range;

/// Stripe has no older objects. Only a guess for cutting, since an open slice has no lower bound.
pub const FIRST_OBJECT: i64 = 1_293_840_000;
/// A slice with fewer objects left (estimated) is not worth a request of its own.
const WORTH_CUTTING: f64 = 200.0;

/// A part of a resource's list: objects created in these seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    pub number: usize,
    /// Unix seconds; a start of 0 has no lower bound.
    pub created: Range<i64>,
}

/// What a page tells about its slice.
#[derive(Debug, Clone, Copy)]
pub struct PageRead {
    pub n_rows: usize,
    /// The `created` of its newest and oldest object, unix seconds.
    pub newest: Option<i64>,
    pub oldest: Option<i64>,
    pub is_newest_first: bool,
    /// False in all passes over the list but the last.
    pub settles: bool,
}

#[derive(Debug)]
struct Part {
    /// What is left of the slice after others cut their part off.
    created: Range<i64>,
    /// What its requests ask for.
    asked: Range<i64>,
    /// The oldest second seen; everything newer has been read.
    reached: i64,
    /// Objects per second, as far as known.
    density: Option<f64>,
    n_rows: u64,
    is_ordered: bool,
    is_started: bool,
    is_done: bool,
}

/// The slices of one resource.
#[derive(Debug)]
pub struct Slices {
    parts: Vec<Part>,
    can_cut: bool,
    /// Where objects probably begin; older ones are found all the same.
    first_object: i64,
}

impl Slices {
    /// One slice over the whole span, newest first to be read. `can_cut` is false for lists that take
    /// no `created` or need several passes over few rows. `first_object` is a guess, such as the age of
    /// the account or [`FIRST_OBJECT`]: older objects are found all the same.
    pub fn new(span: Range<i64>, can_cut: bool, first_object: i64) -> Slices {
        let first = Part {
            reached: span.end,
            asked: span.clone(),
            created: span,
            density: None,
            n_rows: 0,
            is_ordered: true,
            is_started: false,
            is_done: false,
        };
        Slices { parts: vec![first], can_cut, first_object }
    }

    /// A slice for an idle worker: the first one, or the older half of what the busiest one has left.
    pub fn take(&mut self) -> Option<Slice> {
        if let Some(number) = self.parts.iter().position(|p| !p.is_started) {
            self.parts[number].is_started = true;
            return Some(Slice { number, created: self.parts[number].created.clone() });
        }
        let busiest = self.busiest()?;
        let first_object = self.first_object;
        let part = &mut self.parts[busiest];
        let middle = middle(part, first_object);
        let density = part.density;
        let created = part.created.start..middle;
        part.created.start = middle;
        let reached = created.end;
        let number = self.parts.len();
        self.parts.push(Part {
            asked: created.clone(),
            created: created.clone(),
            reached,
            density,
            n_rows: 0,
            is_ordered: true,
            is_started: true,
            is_done: false,
        });
        Some(Slice { number, created })
    }

    fn busiest(&self) -> Option<usize> {
        if !self.can_cut {
            return None;
        }
        let left = |part: &Part| {
            let secs = (part.reached - lowest(part, self.first_object)).max(0) as f64;
            part.density.map_or(0.0, |density| density * secs)
        };
        let open = self.parts.iter().enumerate().filter(|(_, part)| {
            // Both halves keep at least one second.
            !part.is_done
                && part.is_ordered
                && left(part) >= WORTH_CUTTING
                && part.reached - lowest(part, self.first_object) >= 2
        });
        open.max_by(|(_, a), (_, b)| left(a).total_cmp(&left(b))).map(|(number, _)| number)
    }

    /// Notes a page of slice `number` and returns the seconds of the slice that are settled with it:
    /// everything newer than the second the page ended in. Below the start of that range others read,
    /// or this slice still has to.
    ///
    /// A list that is not newest first, or shows what was not asked for, which Stripe's never do, says
    /// nothing about what is still to come: it is read by one worker to its end.
    pub fn page_read(&mut self, number: usize, page: &PageRead) -> Range<i64> {
        let PageRead { n_rows, newest, oldest, is_newest_first, settles } = *page;
        let part = &mut self.parts[number];
        part.n_rows += n_rows as u64;
        if settles {
            part.is_ordered &= is_newest_first
                && newest.is_none_or(|newest| newest <= part.reached)
                && oldest.is_none_or(|oldest| oldest >= part.asked.start);
        }
        let end = part.created.end;
        if !settles || !part.is_ordered {
            return end..end;
        }
        part.reached = part.reached.min(oldest.unwrap_or(part.reached));
        let read = part.created.end.saturating_sub(part.reached).max(1) as f64;
        part.density = (part.n_rows > 0).then_some(part.n_rows as f64 / read);
        part.reached.saturating_add(1).max(part.created.start).min(end)..end
    }

    /// Notes the end of a slice and returns the seconds that it has settled.
    pub fn finish(&mut self, number: usize) -> Range<i64> {
        let part = &mut self.parts[number];
        part.is_done = true;
        part.created.clone()
    }

    /// Whether slice `number` has read everything above the part that others took over.
    pub fn has_passed_its_start(&self, number: usize) -> bool {
        let part = &self.parts[number];
        part.is_ordered && part.reached < part.created.start
    }

    pub fn is_done(&self) -> bool {
        self.parts.iter().all(|part| part.is_done)
    }

    /// Slices being read.
    pub fn n_active(&self) -> usize {
        self.parts.iter().filter(|part| part.is_started && !part.is_done).count()
    }
}

/// Where objects can start, for a slice without lower bound a guess.
fn lowest(part: &Part, first_object: i64) -> i64 {
    match part.created.start {
        0 if part.reached > first_object => first_object,
        start => start,
    }
}

fn middle(part: &Part, first_object: i64) -> i64 {
    let low = lowest(part, first_object);
    low + (part.reached - low) / 2
}

/// The seconds of a resource that have been read completely.
#[derive(Debug, Default, Clone)]
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(n_rows: usize, newest: Option<i64>, oldest: Option<i64>) -> PageRead {
        PageRead { n_rows, newest, oldest, is_newest_first: true, settles: true }
    }

    #[test]
    fn g8_a_slice_that_shows_an_odd_order_is_neither_settled_nor_cut_nor_left() {
        let odd = [
            PageRead { is_newest_first: false, ..page(100, Some(1_700_000_900), Some(1_700_000_100)) },
            page(100, Some(1_700_000_900), Some(1_699_999_999)),
            page(100, Some(1_700_001_001), Some(1_700_000_100)),
        ];
        for odd in odd {
            let mut slices = Slices::new(1_700_000_000..1_700_001_000, true, FIRST_OBJECT);
            let slice = slices.take().unwrap();
            assert!(slices.page_read(slice.number, &odd).is_empty(), "{odd:?}");
            assert_eq!(slices.take(), None, "{odd:?}");
            assert!(!slices.has_passed_its_start(slice.number), "{odd:?}");
        }
    }

    #[test]
    fn a_tiny_account_is_one_slice() {
        let mut slices = Slices::new(0..1_800_000_000, true, FIRST_OBJECT);
        let slice = slices.take().unwrap();
        assert_eq!(slice.created, 0..1_800_000_000);
        assert_eq!(slices.take(), None, "nothing is known yet");
        slices.page_read(slice.number, &page(0, None, None));
        assert_eq!(slices.take(), None, "an empty list is not cut");
        slices.finish(slice.number);
        assert!(slices.is_done());
    }

    #[test]
    fn g10_a_slice_of_one_second_is_not_cut() {
        let mut slices = Slices::new(1_700_000_000..1_700_000_002, true, FIRST_OBJECT);
        let slice = slices.take().unwrap();
        slices.page_read(slice.number, &page(5_000, Some(1_700_000_001), Some(1_700_000_001)));
        assert_eq!(slices.take(), None);
    }

    proptest! {
        /// Reads objects at random seconds with random interleaving: whatever is cut, the slices that
        /// are read to their ends cover the span without a gap and each object is read once, but for
        /// those that a page overshoots.
        #[test]
        fn slices_cover_the_span_without_a_gap(
            mut seconds in proptest::collection::vec(0i64..100_000, 0..2_000),
            choices in proptest::collection::vec(any::<u8>(), 400),
        ) {
            let span = 1_700_000_000..1_700_100_000;
            seconds.iter_mut().for_each(|s| *s += span.start);
            seconds.sort_unstable_by(|a, b| b.cmp(a));
            let mut slices = Slices::new(span.clone(), true, FIRST_OBJECT);
            let mut active: Vec<(Slice, usize)> = Vec::new();
            let mut read = vec![false; seconds.len()];
            let mut coverage = Coverage::default();
            let mut choices = choices.into_iter().cycle();
            loop {
                if active.len() < 6
                    && let Some(slice) = slices.take() {
                        let first = seconds.iter().position(|s| slice.created.contains(s)).unwrap_or(seconds.len());
                        active.push((slice, first));
                    }
                if active.is_empty() {
                    break;
                }
                let chosen = usize::from(choices.next().unwrap()) % active.len();
                let (slice, at) = active[chosen].clone();
                let page: Vec<usize> = (at..seconds.len()).filter(|i| slice.created.contains(&seconds[*i])).take(100).collect();
                for i in &page {
                    read[*i] = true;
                }
                let oldest = page.last().map(|i| seconds[*i]);
                let newest = page.first().map(|i| seconds[*i]);
                let page_read = super::tests::page(page.len(), newest, oldest);
                coverage.add(slices.page_read(slice.number, &page_read));
                let next = page.last().map_or(seconds.len(), |i| i + 1);
                let has_more = seconds.get(next).is_some_and(|s| slice.created.contains(s));
                if !has_more || slices.has_passed_its_start(slice.number) {
                    coverage.add(slices.finish(slice.number));
                    active.remove(chosen);
                } else {
                    active[chosen].1 = next;
                }
            }
            prop_assert!(slices.is_done());
            prop_assert!(coverage.contains(&span));
            prop_assert!(read.iter().all(|r| *r));
        }

        #[test]
        fn coverage_agrees_with_a_set_of_seconds(
            ranges in proptest::collection::vec((0i64..60, 0i64..20), 0..20),
            probe in (0i64..60, 0i64..20),
        ) {
            let mut coverage = Coverage::default();
            let mut seconds = std::collections::BTreeSet::new();
            for (start, length) in ranges {
                coverage.add(start..start + length);
                seconds.extend(start..start + length);
            }
            let probe = probe.0..probe.0 + probe.1;
            prop_assert_eq!(coverage.contains(&probe), probe.clone().all(|s| seconds.contains(&s)));
        }
    }
}
