//! Turns the span of a resource into slices, and cuts the busiest one again when a worker is idle.
//!
//! Nothing is known about an account beforehand. The first slice is the whole span, or one for each part of it
//! that an earlier run has left; the pages that come back tell how dense it is, and the unread older part of
//! a slice is cut in two for as long as there are idle workers and enough left to read.

pub mod coverage;
pub mod estimate;

use std::ops::Range;

/// Stripe has no older objects. Only a guess for cutting, since an open slice has no lower bound.
pub const FIRST_OBJECT: i64 = 1_293_840_000;
/// A slice with fewer objects left (estimated) is not worth a request of its own.
const WORTH_CUTTING: f64 = 200.0;

/// A page so many times as dense as its slice says more of what follows than the slice does.
const SURGE: f64 = 4.0;

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
    /// How far the pass before the last one got, which settles nothing.
    unsettled: Unsettled,
    is_ordered: bool,
    is_started: bool,
    is_done: bool,
}

#[derive(Debug)]
struct Unsettled {
    n_pages: u32,
    reached: i64,
    is_ordered: bool,
}

impl Part {
    fn new(created: Range<i64>) -> Part {
        let created_end = created.end;
        Part {
            reached: created.end,
            asked: created.clone(),
            created,
            density: None,
            n_rows: 0,
            unsettled: Unsettled { n_pages: 0, reached: created_end, is_ordered: true },
            is_ordered: true,
            is_started: false,
            is_done: false,
        }
    }
}

/// The slices of one resource.
#[derive(Debug)]
pub struct Slices {
    parts: Vec<Part>,
    can_cut: bool,
    /// What was created from here on is new since the last run, which has begun the listing.
    news_from: i64,
    /// How often a slice has left its rest to another one.
    n_left: u32,
    /// Where objects probably begin; older ones are found all the same.
    first_object: i64,
}

impl Slices {
    /// One slice over each of these disjoint spans, to be read in this order. `can_cut` is false for lists
    /// that take no `created`. `first_object` is a guess, such as the age of the account or
    /// [`FIRST_OBJECT`]: older objects are found all the same.
    pub fn new(spans: Vec<Range<i64>>, can_cut: bool, first_object: i64) -> Slices {
        let spans = spans.into_iter().filter(|span| !span.is_empty());
        Slices {
            parts: spans.map(Part::new).collect(),
            can_cut,
            news_from: i64::MAX,
            n_left: 0,
            first_object,
        }
    }

    /// For a listing that is continued: where begins what the earlier run could not have seen.
    pub fn with_news_from(self, news_from: i64) -> Slices {
        Slices { news_from, ..self }
    }

    /// Whether nothing older is left to read than what is new in every run.
    pub fn has_only_news(&self) -> bool {
        self.parts.iter().all(|part| part.is_done || part.created.start >= self.news_from)
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
        let number = self.parts.len();
        self.parts.push(Part { density, is_started: true, ..Part::new(created.clone()) });
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
        if !settles {
            self.leave_the_rest(number, page);
            return end..end;
        }
        if !part.is_ordered {
            return end..end;
        }
        let before = part.reached;
        part.reached = part.reached.min(oldest.unwrap_or(part.reached));
        let secs = |from: i64| from.saturating_sub(part.reached).max(1) as f64;
        let (in_all, lately) = (part.n_rows as f64 / secs(part.created.end), n_rows as f64 / secs(before));
        // A slice that has come from quiet years into a busy month is busy.
        let density = if lately > SURGE * in_all { lately } else { in_all };
        part.density = (part.n_rows > 0).then_some(density);
        part.reached.saturating_add(1).max(part.created.start).min(end)..end
    }

    /// A pass before the last settles nothing, so a slice of such a list is short: one page, then two, four.
    /// What is below becomes a slice of its own, and a run that ends early keeps what it has settled.
    fn leave_the_rest(&mut self, number: usize, page: &PageRead) {
        let part = &mut self.parts[number];
        let Unsettled { n_pages, reached, is_ordered } = &mut part.unsettled;
        *n_pages += 1;
        // The first page of a third pass looks like another order, and is read like one.
        *is_ordered &= page.is_newest_first && page.newest.is_none_or(|newest| newest <= *reached);
        *reached = page.oldest.map_or(*reached, |oldest| oldest.min(*reached));
        let below = reached.saturating_add(1);
        let is_inside = part.created.start < below && below < part.created.end;
        if self.can_cut && *is_ordered && is_inside && *n_pages >= 1 << self.n_left.min(16) {
            let rest = part.created.start..below;
            part.created.start = below;
            self.n_left += 1;
            self.parts.push(Part::new(rest));
        }
    }

    /// Notes the end of a slice and returns the seconds that it has settled.
    pub fn finish(&mut self, number: usize) -> Range<i64> {
        let part = &mut self.parts[number];
        part.is_done = true;
        part.created.clone()
    }

    /// Whether slice `number` has read everything above the part that others took over; in a pass that
    /// does not settle, everything of that pass.
    pub fn has_passed_its_start(&self, number: usize, settles: bool) -> bool {
        let part = &self.parts[number];
        let Unsettled { reached, is_ordered, .. } = part.unsettled;
        let (reached, is_ordered) =
            if settles { (part.reached, part.is_ordered) } else { (reached, is_ordered) };
        is_ordered && reached < part.created.start
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

#[cfg(test)]
mod tests {
    use super::coverage::Coverage;
    use super::*;
    use proptest::prelude::*;

    fn page(n_rows: usize, newest: Option<i64>, oldest: Option<i64>) -> PageRead {
        PageRead { n_rows, newest, oldest, is_newest_first: true, settles: true }
    }

    fn one(span: Range<i64>) -> Slices {
        Slices::new(std::iter::once(span).collect(), true, FIRST_OBJECT)
    }

    #[test]
    fn g8_a_slice_that_shows_an_odd_order_is_neither_settled_nor_cut_nor_left() {
        let odd = [
            PageRead { is_newest_first: false, ..page(100, Some(1_700_000_900), Some(1_700_000_100)) },
            page(100, Some(1_700_000_900), Some(1_699_999_999)),
            page(100, Some(1_700_001_001), Some(1_700_000_100)),
        ];
        for odd in odd {
            let mut slices = one(1_700_000_000..1_700_001_000);
            let slice = slices.take().unwrap();
            assert!(slices.page_read(slice.number, &odd).is_empty(), "{odd:?}");
            assert_eq!(slices.take(), None, "{odd:?}");
            assert!(!slices.has_passed_its_start(slice.number, true), "{odd:?}");
        }
    }

    #[test]
    fn a_tiny_account_is_one_slice() {
        let mut slices = one(0..1_800_000_000);
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
        let mut slices = one(1_700_000_000..1_700_000_002);
        let slice = slices.take().unwrap();
        slices.page_read(slice.number, &page(5_000, Some(1_700_000_001), Some(1_700_000_001)));
        assert_eq!(slices.take(), None);
    }

    proptest! {
        /// Reads objects at random seconds with random interleaving, in one or two passes, after an earlier
        /// run that has read some of the span: whatever is cut, the slices that are read to their ends
        /// cover all seconds that were left, and none of the others is asked for.
        #[test]
        fn slices_cover_what_is_left_of_the_span_without_a_gap(
            mut objects in proptest::collection::vec((0i64..100_000, any::<bool>()), 0..2_000),
            read_before in proptest::collection::vec((0i64..100_000, 0i64..30_000), 0..4),
            has_two_passes in any::<bool>(),
            choices in proptest::collection::vec(any::<u8>(), 400),
        ) {
            let span = 1_700_000_000..1_700_100_000;
            objects.iter_mut().for_each(|(second, _)| *second += span.start);
            objects.sort_unstable_by(|a, b| b.cmp(a));
            let before = read_before.into_iter().map(|(from, n)| span.start + from..span.start + from + n);
            let before: Coverage = before.collect();
            let mut left = before.missing_in(&span);
            left.reverse();
            let mut slices = Slices::new(left.clone(), true, FIRST_OBJECT);
            // Slice, pass and the place of the next object.
            let mut active: Vec<(Slice, bool, usize)> = Vec::new();
            let mut read = vec![false; objects.len()];
            let mut coverage = Coverage::default();
            let mut choices = choices.into_iter().cycle();
            loop {
                if active.len() < 6 && let Some(slice) = slices.take() {
                    prop_assert!(before.within(&slice.created).is_empty(), "{:?} was read before", slice.created);
                    active.push((slice, !has_two_passes, 0));
                }
                if active.is_empty() {
                    break;
                }
                let chosen = usize::from(choices.next().unwrap()) % active.len();
                let (slice, is_last_pass, at) = active[chosen].clone();
                let is_shown = |i: &usize| {
                    let (second, is_second_pass) = objects[*i];
                    slice.created.contains(&second) && (!has_two_passes || is_second_pass == is_last_pass)
                };
                let page: Vec<usize> = (at..objects.len()).filter(is_shown).take(100).collect();
                for i in &page {
                    read[*i] = true;
                }
                let second = |i: &usize| objects[*i].0;
                let page_read = PageRead {
                    settles: is_last_pass,
                    ..super::tests::page(page.len(), page.first().map(second), page.last().map(second))
                };
                let settled = slices.page_read(slice.number, &page_read);
                let next = page.last().map_or(objects.len(), |i| i + 1);
                let has_more = (next..objects.len()).any(|i| is_shown(&i));
                let is_over = !has_more || slices.has_passed_its_start(slice.number, is_last_pass);
                coverage.add(settled);
                match (is_over, is_last_pass) {
                    (true, true) => {
                        coverage.add(slices.finish(slice.number));
                        active.remove(chosen);
                    }
                    (true, false) => (active[chosen].1, active[chosen].2) = (true, 0),
                    (false, _) => active[chosen].2 = next,
                }
                let settled = |i: usize| coverage.contains(&(objects[i].0..objects[i].0 + 1));
                prop_assert!((0..objects.len()).all(|i| read[i] || !settled(i)), "a second was settled too early");
            }
            prop_assert!(slices.is_done());
            left.reverse();
            prop_assert_eq!(coverage.ranges(), left);
            prop_assert!((0..objects.len()).all(|i| read[i] || before.contains(&(objects[i].0..objects[i].0 + 1))));
        }
    }
}
