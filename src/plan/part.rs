//! Turns the pages of one slice into how far it got, and how dense it is.

use std::ops::Range;

use super::PageRead;

/// A page so many times as dense as its slice says more of what follows than the slice does.
const SURGE: f64 = 4.0;
/// Such pages one after the other; one or two may be the edges of a burst.
const SURGE_PAGES: u32 = 3;
/// Objects in one second that are a burst: they say nothing about the seconds around them.
const BURST: usize = 10;

/// A slice and what is known of it.
#[derive(Debug)]
pub struct Part {
    /// What is left of the slice after others cut their part off.
    pub created: Range<i64>,
    /// What its requests ask for.
    pub asked: Range<i64>,
    /// The oldest second seen; everything newer has been read.
    pub reached: i64,
    /// Objects per second, as far as known.
    pub density: Option<f64>,
    /// Whether it was taken whole, since nothing was known.
    pub is_probe: bool,
    pub n_pages: u32,
    pub n_rows: u64,
    /// Those of pages that were no bursts.
    pub n_spread: u64,
    /// Rows when the slice was last given its size.
    pub n_sized: u64,
    pub surge: Surge,
    /// Where the seconds begin that its rows are counted in: for a slice that was taken whole at its newest object.
    pub counted_from: i64,
    /// The newest second seen.
    pub newest: Option<i64>,
    /// How far a pass before the last one has got, which settles nothing.
    pub unsettled: Unsettled,
    /// Rows of the densest of such passes that have ended, and the seconds in which there are so many.
    pub densest: Option<(f64, f64)>,
    /// Whether such passes have shown objects: whoever takes a part of the slice has to make them again.
    pub has_passes: bool,
    /// Pages that each of them should have.
    pub n_wanted: u32,
    pub is_ordered: bool,
    /// Whether objects that should have come are known to come later.
    pub is_distrusted: bool,
    /// Its last page has come.
    pub is_over: bool,
    pub is_done: bool,
}

#[derive(Debug)]
pub struct Unsettled {
    pub n_pages: u32,
    /// Those of pages that were no bursts.
    n_spread: u64,
    counted_from: i64,
    pub reached: i64,
    pub is_ordered: bool,
    /// What comes next is another pass, from the newest object on.
    pub is_over: bool,
}

impl Unsettled {
    pub fn below(end: i64) -> Unsettled {
        let counted_from = end;
        Unsettled { n_pages: 0, n_spread: 0, counted_from, reached: end, is_ordered: true, is_over: false }
    }

    /// Its rows, and the seconds in which there are so many.
    fn sample(&self) -> Option<(f64, f64)> {
        let n_secs = self.counted_from.saturating_sub(self.reached).max(1);
        (self.n_spread > 0 && self.is_ordered).then_some((self.n_spread as f64, n_secs as f64))
    }
}

/// Dense pages one after the other.
#[derive(Debug, Default)]
pub struct Surge {
    n_pages: u32,
    n_rows: u64,
    secs: i64,
}

impl Part {
    pub fn new(created: Range<i64>) -> Part {
        let created_end = created.end;
        Part {
            reached: created.end,
            asked: created.clone(),
            created,
            density: None,
            is_probe: false,
            n_pages: 0,
            n_rows: 0,
            n_spread: 0,
            n_sized: 0,
            surge: Surge::default(),
            counted_from: created_end,
            newest: None,
            unsettled: Unsettled::below(created_end),
            densest: None,
            has_passes: false,
            n_wanted: 0,
            is_ordered: true,
            is_distrusted: false,
            is_over: false,
            is_done: false,
        }
    }

    /// Where its objects can start; without a lower bound a guess, below which nothing more is expected.
    pub fn lowest(&self, first_object: i64) -> i64 {
        match self.created.start {
            0 => first_object.min(self.reached),
            start => start,
        }
    }

    /// Objects that it has yet to read, as far as is known.
    pub fn left(&self, first_object: i64) -> f64 {
        let secs = (self.reached - self.lowest(first_object)).max(0) as f64;
        self.density.map_or(0.0, |density| density * secs)
    }

    /// What lies behind the end of the slice, and was asked for, counts as if it were the newest of it.
    pub fn without_future(&self, page: &PageRead) -> PageRead {
        let cut = |second: i64| {
            if self.asked.end > self.created.end { second.min(self.created.end) } else { second }
        };
        PageRead { newest: page.newest.map(cut), reached: page.reached.map(cut), ..*page }
    }

    /// Notes a page that settles what it shows.
    pub fn note(&mut self, page: &PageRead) {
        if let (true, 0, Some(newest)) = (self.is_probe, self.n_pages, page.newest) {
            self.counted_from = newest.saturating_add(1).min(self.created.end);
        }
        let before = self.reached.min(self.counted_from);
        self.reached = before.min(page.reached.unwrap_or(before));
        self.newest = self.newest.max(page.newest);
        self.n_pages += 1;
        self.n_rows += page.n_rows as u64;
        if !is_burst(page) {
            self.n_spread += page.n_rows as u64;
            self.note_surge(page.n_rows as u64, before.saturating_sub(self.reached).max(1));
        }
        let is_surge = self.surge.n_pages >= SURGE_PAGES;
        self.density = match is_surge {
            true => Some(self.surge.n_rows as f64 / self.surge.secs as f64),
            false => self.mean().or(self.density),
        };
    }

    /// Notes a page that settles nothing.
    pub fn note_unsettled(&mut self, page: &PageRead) {
        if self.unsettled.is_over {
            self.densest = denser(self.densest, self.unsettled.sample());
            self.unsettled = Unsettled::below(self.created.end);
        }
        let Unsettled { n_pages, n_spread, counted_from, reached, is_ordered, .. } = &mut self.unsettled;
        if let (true, 0, Some(newest)) = (self.is_probe, *n_pages, page.newest) {
            *counted_from = newest.saturating_add(1).min(self.created.end);
        }
        *n_pages += 1;
        self.has_passes |= page.n_rows > 0;
        *n_spread += if is_burst(page) { 0 } else { page.n_rows as u64 };
        *is_ordered &= page.is_newest_first && page.newest.is_none_or(|newest| newest <= *reached);
        *reached = page.reached.map_or(*reached, |seen| seen.min(*reached));
    }

    /// Whether any page of it has come.
    pub fn has_pages(&self) -> bool {
        self.n_pages > 0 || self.unsettled.n_pages > 0
    }

    fn note_surge(&mut self, n_rows: u64, secs: i64) {
        let is_dense = self.mean().is_some_and(|mean| n_rows as f64 / secs as f64 > SURGE * mean);
        if !is_dense {
            self.surge = Surge::default();
            return;
        }
        self.surge.n_pages += 1;
        self.surge.n_rows += n_rows;
        self.surge.secs = self.surge.secs.saturating_add(secs);
    }

    /// Objects per second so far, without bursts if there is anything else. Of objects that share one second
    /// nothing follows.
    fn mean(&self) -> Option<f64> {
        let n_rows = if self.n_spread > 0 { self.n_spread } else { self.n_rows };
        let is_known = self.n_spread > 0 || self.newest.is_some_and(|newest| self.reached < newest);
        is_known.then(|| n_rows as f64 / self.secs_read() as f64)
    }

    /// Objects per second so far, all of them.
    pub fn full_density(&self) -> f64 {
        self.n_rows as f64 / self.secs_read() as f64
    }

    fn secs_read(&self) -> i64 {
        let start = if self.is_done && self.created.start > 0 { self.created.start } else { self.reached };
        self.counted_from.saturating_sub(start).max(1)
    }

    /// Rows, and the seconds in which there are so many, in its densest pass: what it tells about its neighbours.
    pub fn sample(&self) -> Option<(f64, f64)> {
        if !self.is_ordered {
            return None;
        }
        denser(self.settled_sample(), denser(self.densest, self.unsettled.sample()))
    }

    /// A slice that was read to its end tells of its bursts, too.
    fn settled_sample(&self) -> Option<(f64, f64)> {
        if self.n_pages == 0 {
            return None;
        }
        match self.density {
            _ if self.is_done => Some((self.n_rows as f64, self.secs_read() as f64)),
            Some(density) if density > 0.0 => {
                let n_rows = if self.n_spread > 0 { self.n_spread } else { self.n_rows } as f64;
                Some((n_rows, n_rows / density))
            }
            _ => None,
        }
    }
}

/// Of objects that share one second nothing follows.
fn is_burst(page: &PageRead) -> bool {
    page.n_rows >= BURST && page.newest == page.reached
}

fn denser(one: Option<(f64, f64)>, other: Option<(f64, f64)>) -> Option<(f64, f64)> {
    let density = |(rows, secs): &(f64, f64)| rows / secs;
    one.into_iter().chain(other).max_by(|a, b| density(a).total_cmp(&density(b)))
}
