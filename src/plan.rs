//! Turns the span of a resource into slices, newest first, and cuts the busiest one when nothing else is left.
//!
//! Nothing is known about an account beforehand. The first slice is the whole span; the pages that come back
//! tell how dense it is. From then on it ends about [`SLICE_ROWS`] objects further on, and idle workers take the
//! next so many of what is older. So whole months are complete one after the other, and few rows wait for others.
//! A slice that turns out far denser gives its older part back. What is left at the end is cut in two for as long
//! as there are idle workers and enough left to read.

pub mod coverage;
pub mod estimate;
mod part;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::ops::Range;

use crate::plan::part::{Part, Unsettled};

/// Stripe has no older objects. Only a guess for cutting, since an open slice has no lower bound.
pub const FIRST_OBJECT: i64 = 1_293_840_000;
/// Objects of a slice while much is left. Its last page is half empty, so that of 48 pages costs a request in 96.
const SLICE_ROWS: f64 = 4_800.0;
/// And at the least: a few large ones at the end would leave workers without any.
const LEAST_ROWS: f64 = 3_200.0;
/// Of what is left a slice takes one part in so many.
const SHARES: f64 = 8.0;
/// Objects of a slice that is read in several passes, at the most and, while so many are left, at the least: it settles nothing before
/// the last of them.
const MOST_IN_PASSES: f64 = 1_600.0;
const LEAST_IN_PASSES: f64 = 700.0;
/// Pages in each pass of the largest.
const MOST_PAGES: u32 = 16;
/// And of the first such slice; the next ones have twice as many, and more, so that a run that ends early has settled some.
const FIRST_IN_PASSES: f64 = 100.0;
/// A rest no larger than this many of the least slices is one slice.
const WHOLE: f64 = 1.5;
/// A slice that has so many times as much to read as the least gives the rest back.
const FAR_DENSER: f64 = 3.0;
/// Pages before that is believed of a slice whose size was chosen.
const PAGES_TO_BELIEVE: u32 = 3;
/// Objects of a full page.
const PAGE: f64 = 100.0;
/// Rows that tell how dense their neighbourhood is.
const ENOUGH: f64 = 100.0;
/// A slice with fewer objects left (estimated) is not cut: both halves end in a page that is not full.
const WORTH_CUTTING: f64 = 600.0;

/// A part of a resource's list: objects created in these seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    pub number: usize,
    /// Unix seconds; a start of 0 has no lower bound.
    pub created: Range<i64>,
    /// Where what its requests ask for ends; not before the slice.
    pub asked_until: i64,
}

/// What a page tells about its slice.
#[derive(Debug, Clone, Copy)]
pub struct PageRead {
    pub n_rows: usize,
    /// The `created` of its newest object, unix seconds.
    pub newest: Option<i64>,
    /// How far into the past it goes, a single odd object aside.
    pub reached: Option<i64>,
    pub is_newest_first: bool,
    /// Whether the pass goes on behind it.
    pub has_more: bool,
    /// False in all passes over the list but the last.
    pub settles: bool,
}

/// The slices of one resource.
#[derive(Debug)]
pub struct Slices {
    parts: Vec<Part>,
    /// What is part of no slice yet, in the order in which it is read: newest first, but what is new last.
    rest: Vec<Range<i64>>,
    can_cut: bool,
    /// What was created from here on is new since the last run, which has begun the listing.
    news_from: i64,
    /// Whether there are passes that settle nothing.
    has_passes: bool,
    /// Of a list with passes: how often a slice was cut from the rest, or has left it.
    n_cut: u32,
    /// Where objects probably begin; older ones are found all the same.
    first_object: i64,
    /// A slice that ends at the first asks for objects up to the second.
    end: Option<(i64, i64)>,
}

impl Slices {
    /// Slices over these disjoint spans, newest first. `can_cut` is false for lists that take no `created`:
    /// then each span is one slice. `first_object` is a guess, such as the age of the account or
    /// [`FIRST_OBJECT`]: older objects are found all the same.
    pub fn new(spans: Vec<Range<i64>>, can_cut: bool, first_object: i64) -> Slices {
        let rest = spans.into_iter().filter(|span| !span.is_empty()).collect();
        let mut slices = Slices {
            parts: Vec::new(),
            rest,
            can_cut,
            news_from: i64::MAX,
            has_passes: false,
            n_cut: 0,
            first_object,
            end: None,
        };
        slices.order_rest();
        slices
    }

    /// For a listing that is continued: where begins what the earlier run could not have seen. It is read last.
    pub fn with_news_from(self, news_from: i64) -> Slices {
        let mut slices = Slices { news_from, ..self };
        slices.order_rest();
        slices
    }

    /// The newest slice, which ends at `end`, asks for objects up to `asked`: what a clock takes for the future is there already.
    pub fn with_end(self, end: i64, asked: i64) -> Slices {
        Slices { end: Some((end, asked)), ..self }
    }

    fn order_rest(&mut self) {
        let news_from = self.news_from;
        self.rest.sort_by_key(|span| (span.start >= news_from, Reverse(span.start)));
        self.rest.dedup_by(|older, newer| {
            let is_one = older.end == newer.start && older.start < news_from && newer.start < news_from;
            if is_one {
                newer.start = older.start;
            }
            is_one
        });
    }

    /// Whether nothing older is left to read than what is new in every run.
    pub fn has_only_news(&self) -> bool {
        let is_new = |span: &Range<i64>| span.start >= self.news_from;
        self.parts.iter().all(|part| part.is_done || is_new(&part.created)) && self.rest.iter().all(is_new)
    }

    /// A slice for an idle worker: the newest that nobody reads, or the older half of what the busiest one has
    /// left. `None` also while the first pages of the first slice have not told how to cut.
    pub fn take(&mut self) -> Option<Slice> {
        let mut part = match self.rest.is_empty() {
            false => self.cut_rest()?,
            true => self.cut_busiest()?,
        };
        part.asked.end = self.end.map_or(part.created.end, |(end, asked)| match part.created.end == end {
            true => asked.max(end),
            false => part.created.end,
        });
        let slice =
            Slice { number: self.parts.len(), created: part.created.clone(), asked_until: part.asked.end };
        self.parts.push(part);
        Some(slice)
    }

    /// The next slice of what nobody reads. It is whole where nothing is known, and behind an empty one: its first
    /// page finds the next object wherever it is, and tells where to cut.
    fn cut_rest(&mut self) -> Option<Part> {
        let span = self.rest.first()?.clone();
        let density = self.density_at(span.end);
        let is_probe = self.can_cut && (density.is_none() || self.begins_empty(span.end));
        if is_probe && self.has_probe() {
            return None;
        }
        let lowest = Part::new(span.clone()).lowest(self.first_object);
        let left = density.unwrap_or(0.0) * (span.end - lowest) as f64;
        let n_rows = self.rows_of_slice(left);
        let least = if self.has_passes { n_rows.max(LEAST_IN_PASSES) } else { LEAST_ROWS };
        let is_whole = left <= WHOLE * least;
        let start = match density.filter(|_| self.can_cut && !is_probe && !is_whole) {
            Some(density) => (span.end - secs_of(n_rows, density)).max(span.start),
            None => span.start,
        };
        match span.start < start {
            true => self.rest[0].end = start,
            false => drop(self.rest.remove(0)),
        }
        // Of a probe nothing is known: as few pages as of the next slice, whatever others cut in the meantime.
        let n_wanted = match is_probe {
            true => (1 << self.n_cut.min(16)).min(MOST_PAGES),
            false => (n_rows / PAGE).ceil() as u32,
        };
        self.n_cut += u32::from(self.has_passes);
        Some(Part { density, is_probe, n_wanted, ..Part::new(start..span.end) })
    }

    /// How many objects a slice should have where so many are left.
    fn rows_of_slice(&self, left: f64) -> f64 {
        match self.has_passes {
            true => {
                let first = FIRST_IN_PASSES * 2f64.powi(self.n_cut.min(16) as i32);
                (left / SHARES).clamp(LEAST_IN_PASSES, MOST_IN_PASSES).min(first)
            }
            false => (left / SHARES).clamp(LEAST_ROWS, SLICE_ROWS),
        }
    }

    /// Whether the slice next to `second` was empty. Then a whole one finds the next object with its first page.
    fn begins_empty(&self, second: i64) -> bool {
        let read = self.parts.iter().filter(|part| part.is_done && part.created.start >= second);
        let next = read.min_by_key(|part| part.created.start);
        next.is_some_and(|part| part.n_rows == 0 && !part.has_passes)
    }

    /// Whether the first page of a slice that was taken whole has still to come.
    fn has_probe(&self) -> bool {
        self.parts.iter().any(|part| part.is_probe && !part.is_done && !part.has_pages())
    }

    /// Objects per second before `second`, by the slices that are next to it; of those with few objects several.
    fn density_at(&self, second: i64) -> Option<f64> {
        let mut samples: Vec<(i64, (f64, f64))> = self
            .parts
            .iter()
            .filter_map(|part| Some(((part.created.start - second).abs(), part.sample()?)))
            .collect();
        samples.sort_unstable_by_key(|(distance, _)| *distance);
        let (mut n_rows, mut n_secs) = (0.0, 0.0);
        for (_, (rows, secs)) in samples {
            n_rows += rows;
            n_secs += secs;
            if n_rows >= ENOUGH {
                break;
            }
        }
        (n_rows > 0.0).then(|| n_rows / n_secs)
    }

    fn cut_busiest(&mut self) -> Option<Part> {
        let first_object = self.first_object;
        let busiest = self.busiest()?;
        let part = &mut self.parts[busiest];
        let low = part.lowest(first_object);
        let middle = low + (part.reached - low) / 2;
        let created = part.created.start..middle;
        part.created.start = middle;
        Some(Part { density: part.density, n_wanted: MOST_PAGES, ..Part::new(created) })
    }

    fn busiest(&self) -> Option<usize> {
        if !self.can_cut {
            return None;
        }
        let left = |part: &Part| part.left(self.first_object);
        let open = self.parts.iter().enumerate().filter(|(_, part)| {
            // Both halves keep at least one second, and only what was seen is cut.
            !part.is_over
                && !part.is_done
                && part.n_pages > 0
                && part.is_ordered
                && !part.has_passes
                && left(part) >= WORTH_CUTTING
                && part.reached - part.lowest(self.first_object) >= 2
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
        let part = &mut self.parts[number];
        let end = part.created.end;
        let page = &part.without_future(page);
        part.is_over |= page.settles && !page.has_more;
        if !page.settles {
            self.leave_the_rest(number, page);
            return end..end;
        }
        part.is_ordered &= page.is_newest_first
            && page.newest.is_none_or(|newest| newest <= part.reached)
            && page.reached.is_none_or(|reached| reached >= part.asked.start);
        if !part.is_ordered {
            return end..end;
        }
        part.note(page);
        if page.has_more {
            self.give_back(number);
        }
        let part = &self.parts[number];
        part.reached.saturating_add(1).max(part.created.start).min(end)..end
    }

    /// A slice that was taken whole, or is far denser than was thought, keeps as much as a slice should have.
    /// What is older goes back to the rest, so that others do not run ahead of it into the past.
    fn give_back(&mut self, number: usize) {
        let part = &mut self.parts[number];
        let left = part.left(self.first_object);
        let n_read = (part.n_rows - part.n_sized) as f64;
        let (is_too_large, density) = match part.density {
            Some(density) if part.is_probe => (left > WHOLE * LEAST_ROWS, density),
            Some(density) if left > FAR_DENSER * LEAST_ROWS => (part.n_pages >= PAGES_TO_BELIEVE, density),
            _ => (n_read > FAR_DENSER * LEAST_ROWS, part.full_density()),
        };
        if !self.can_cut || !is_too_large || part.has_passes {
            return;
        }
        let n_rows = self.rows_of_slice(left);
        let part = &mut self.parts[number];
        let start = part.reached - secs_of(n_rows, density);
        if start <= part.created.start {
            return;
        }
        let rest = part.created.start..start;
        part.created.start = start;
        part.is_probe = false;
        part.n_sized = part.n_rows;
        self.rest.push(rest);
        self.order_rest();
    }

    /// A pass before the last settles nothing, so a slice of such a list is short: what is below goes back to the rest, and a
    /// run that ends early keeps what it has settled.
    fn leave_the_rest(&mut self, number: usize, page: &PageRead) {
        self.has_passes = true;
        let part = &mut self.parts[number];
        part.note_unsettled(page);
        let Unsettled { n_pages, reached, is_ordered, .. } = part.unsettled;
        let below = reached.saturating_add(1);
        let is_inside = part.created.start < below && below < part.created.end;
        // One whose size was chosen may have some more.
        let is_long = match part.is_probe {
            true => n_pages >= part.n_wanted,
            false => n_pages > part.n_wanted + part.n_wanted / 2,
        };
        if self.can_cut && page.has_more && is_ordered && !part.is_distrusted && is_inside && is_long {
            let rest = part.created.start..below;
            part.created.start = below;
            self.n_cut += 1;
            self.rest.push(rest);
            self.order_rest();
        }
        let has_passed = self.has_passed_its_start(number, false);
        self.parts[number].unsettled.is_over = !page.has_more || has_passed;
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
        is_ordered && !part.is_distrusted && reached < part.created.start
    }

    /// Where slice `number` begins now: others read what is older.
    pub fn start_of(&self, number: usize) -> i64 {
        self.parts[number].created.start
    }

    /// Slice `number` is read to the end of its list in this pass and all others, since what it has left may come
    /// behind what is older.
    pub fn distrust_order(&mut self, number: usize) {
        let part = &mut self.parts[number];
        part.is_distrusted = true;
        part.is_ordered = false;
        // It had seemed to be, by the page that is in doubt.
        part.unsettled.is_over = false;
    }

    pub fn is_done(&self) -> bool {
        self.rest.is_empty() && self.parts.iter().all(|part| part.is_done)
    }

    /// Slices being read.
    pub fn n_active(&self) -> usize {
        self.parts.iter().filter(|part| !part.is_done).count()
    }

    /// Whether a slice was read to its end.
    pub fn has_settled(&self) -> bool {
        self.parts.iter().any(|part| part.is_done)
    }
}

/// The seconds in which there are so many objects.
fn secs_of(n_rows: f64, density: f64) -> i64 {
    // A float too large for an integer becomes the largest.
    ((n_rows / density).ceil() as i64).clamp(1, i64::MAX / 4)
}
