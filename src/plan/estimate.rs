//! Turns a few pages of a list, met at chosen seconds, into about how many objects it holds.
//!
//! A page of 100 objects below some second tells how dense the list is there. Between two pages the density
//! is taken to go straight from one to the other, and the next page is asked for where most is guessed, or least known.

use std::ops::Range;

use serde::Serialize;

/// Objects of a full page.
pub const PAGE: usize = 100;
/// Pages that tell enough of a list.
pub const N_PROBES: usize = 16;
const WEEK: i64 = 7 * 86_400;

/// How much a number is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    Exact,
    About,
    AtLeast,
}

/// A page of objects created before `below`.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    pub below: i64,
    pub n_objects: usize,
    /// The `created` of its oldest object.
    pub oldest: Option<i64>,
    pub has_more: bool,
}

impl Probe {
    /// Where the page ends; nothing is known of what is older.
    fn reached(&self, start: i64) -> i64 {
        match (self.has_more, self.oldest) {
            (true, Some(oldest)) => oldest.min(self.below - 1).max(start),
            _ => start,
        }
    }

    /// Objects per second right below `below`.
    fn density(&self) -> f64 {
        let oldest = self.oldest.unwrap_or(i64::MIN).min(self.below - 1);
        self.n_objects as f64 / self.below.saturating_sub(oldest) as f64
    }
}

/// The pages of one list, or of one pass over it.
#[derive(Debug)]
pub struct Survey {
    span: Range<i64>,
    n_probes: usize,
    /// Newest first.
    probes: Vec<Probe>,
}

impl Survey {
    /// `span` is where objects are expected, in unix seconds; `n_probes` is how many pages may be asked for.
    pub fn new(span: Range<i64>, n_probes: usize) -> Survey {
        Survey { span, n_probes, probes: Vec::new() }
    }

    /// Below which second to ask for the next page; `None` when enough is known.
    pub fn next(&self) -> Option<i64> {
        if self.probes.is_empty() {
            return Some(self.span.end);
        }
        let left = self.n_probes.saturating_sub(self.probes.len());
        let gaps = self.gaps();
        // Fewer requests than any that look further down, and they count what they show.
        if let Some((newest, _)) = gaps.first().filter(|_| left > 0 && n_pages(&gaps) <= left) {
            return Some(newest.end);
        }
        let open = gaps.into_iter().filter(|(gap, n)| gap.end - gap.start >= 2 && *n >= 1.0);
        // A month that holds most of the list may lie where little is guessed: now and then in the widest gap.
        let (gap, _) = match self.probes.len() % 4 {
            0 => open.max_by_key(|(gap, _)| gap.end - gap.start)?,
            _ => open.max_by(|a, b| a.1.total_cmp(&b.1))?,
        };
        (left > 0).then(|| self.place(&gap))
    }

    /// About the middle of a gap. A week in eight steps of 21 hours meets all times of the day.
    fn place(&self, gap: &Range<i64>) -> i64 {
        let middle = gap.start + (gap.end - gap.start) / 2;
        if gap.end - gap.start < 4 * WEEK {
            return middle;
        }
        let phase = (self.probes.len() as i64 * 3 % 8) * (WEEK / 8) + WEEK / 16;
        middle.div_euclid(WEEK) * WEEK + phase
    }

    pub fn note(&mut self, probe: Probe) {
        let at = self.probes.partition_point(|known| known.below > probe.below);
        self.probes.insert(at, probe);
    }

    /// About how many objects were created in these seconds. Exact where one page has shown them all, and
    /// these are all seconds.
    pub fn count(&self, within: &[Range<i64>]) -> (f64, Precision) {
        let is_all = within.iter().any(|range| range.start <= self.span.start && range.end >= self.span.end);
        if let Some(only) = self.probes.first().filter(|newest| is_all && !newest.has_more) {
            return (only.n_objects as f64, Precision::Exact);
        }
        let mut n = 0.0;
        for (segment, objects) in self.pages().into_iter().chain(self.gaps()) {
            let width = (segment.end - segment.start).max(1) as f64;
            let shared = |range: &Range<i64>| {
                (range.end.min(segment.end) - range.start.max(segment.start)).max(0) as f64
            };
            n += objects * within.iter().map(shared).sum::<f64>() / width;
        }
        (n, Precision::About)
    }

    /// The seconds below each page, as far as the next one, or the start.
    fn bounds(&self) -> impl Iterator<Item = (&Probe, i64, f64)> {
        self.probes.iter().enumerate().map(|(number, probe)| match self.probes.get(number + 1) {
            Some(next) => (probe, next.below, next.density()),
            None => (probe, self.span.start, probe.density()),
        })
    }

    /// What the pages themselves show.
    fn pages(&self) -> Vec<(Range<i64>, f64)> {
        let page = |(probe, next, _): (&Probe, i64, f64)| {
            let reached = probe.reached(self.span.start);
            let share = (probe.below - next.max(reached)) as f64 / (probe.below - reached).max(1) as f64;
            (next.max(reached)..probe.below, probe.n_objects as f64 * share)
        };
        self.bounds().map(page).collect()
    }

    /// What is between them, and how many objects that may be.
    fn gaps(&self) -> Vec<(Range<i64>, f64)> {
        let gap = |(probe, next, density): (&Probe, i64, f64)| {
            let gap = next..probe.reached(self.span.start);
            let n = (gap.end - gap.start) as f64 * (probe.density() + density) / 2.0;
            (gap, n)
        };
        self.bounds().map(gap).filter(|(gap, _)| !gap.is_empty()).collect()
    }
}

/// Pages that these gaps may have.
fn n_pages(gaps: &[(Range<i64>, f64)]) -> usize {
    gaps.iter().map(|(_, n)| (n / PAGE as f64).ceil() as usize).sum()
}

/// Requests for so many objects: one at least, which finds an empty list empty.
pub fn n_requests(n_objects: f64) -> u64 {
    (n_objects / PAGE as f64).ceil().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_600_000_000;
    const YEAR: i64 = 365 * 86_400;

    /// Surveys a list of these seconds, which is the oracle, too: how many there are, and after how many pages.
    fn survey(mut created: Vec<i64>, span: Range<i64>) -> ((f64, Precision), usize) {
        created.sort_unstable();
        let mut survey = Survey::new(span.clone(), N_PROBES);
        let mut n_asked = 0;
        while let Some(below) = survey.next() {
            n_asked += 1;
            let end = created.partition_point(|second| *second < below);
            let first = end.saturating_sub(100);
            let oldest = created[first..end].first().copied();
            survey.note(Probe { below, n_objects: end - first, oldest, has_more: first > 0 });
        }
        assert!(n_asked <= N_PROBES);
        (survey.count(std::slice::from_ref(&span)), n_asked)
    }

    #[track_caller]
    fn check_about(created: Vec<i64>, span: Range<i64>) {
        let n = created.len() as f64;
        let ((estimate, precision), _) = survey(created, span);
        assert_eq!(precision, Precision::About);
        assert!((estimate / n - 1.0).abs() < 0.25, "expected about {n}, got {estimate}");
    }

    /// So many seconds, where `grown` says how far in time each share of them is.
    fn list(n: i64, grown: impl Fn(f64) -> f64) -> Vec<i64> {
        (0..n).map(|i| START + (grown(i as f64 / n as f64) * 2.0 * YEAR as f64) as i64).collect()
    }

    #[test]
    fn an_even_list_is_estimated() {
        check_about(list(60_000, |share| share), START..START + 2 * YEAR);
    }

    #[test]
    fn a_growing_list_is_estimated() {
        check_about(list(60_000, f64::sqrt), START..START + 2 * YEAR);
        check_about(list(60_000, |share| (1.0 + 19.0 * share).ln() / 20f64.ln()), START..START + 2 * YEAR);
    }

    #[test]
    fn a_list_with_bursts_is_estimated() {
        let bursts = list(60_000, |share| (share * 600.0).floor() / 600.0 + share.fract() * 1e-9);
        let steady = list(60_000, |share| share);
        check_about([bursts, steady].concat(), START..START + 2 * YEAR);
    }

    #[test]
    fn a_list_that_begins_long_after_the_span_is_estimated() {
        check_about(list(60_000, |share| share), START - 8 * YEAR..START + 2 * YEAR);
    }

    #[test]
    fn a_list_with_most_in_one_month_is_estimated() {
        const MONTH: i64 = 30 * 86_400;
        for begun in [1, 7, 12, 19] {
            let steady = list(2_000, |share| share);
            let month = (0..8_000).map(|i| START + begun * MONTH + i * MONTH / 8_000).collect();
            check_about([steady, month].concat(), START..START + 2 * YEAR);
        }
    }

    #[test]
    fn a_list_that_has_just_begun_is_estimated() {
        let day = (0..20_000).map(|i| START + 12 * YEAR - 86_400 + i * 86_400 / 20_000).collect();
        check_about(day, START..START + 12 * YEAR);
    }

    #[test]
    fn a_list_of_one_page_is_counted() {
        for n in [0, 1, 99, 100] {
            let (counted, _) = survey(list(n, |share| share), START..START + 2 * YEAR);
            assert_eq!(counted, (n as f64, Precision::Exact));
        }
    }

    #[test]
    fn a_list_of_few_pages_is_walked() {
        for n in [101, 350, 700] {
            let span = START..START + 2 * YEAR;
            let ((estimate, _), n_asked) = survey(list(n, f64::sqrt), span);
            assert!(
                (estimate - n as f64).abs() < 2.0 && n_asked <= n as usize / 90 + 1,
                "{n}: {estimate}, {n_asked} pages"
            );
        }
    }

    #[test]
    fn an_empty_list_costs_a_request() {
        assert_eq!([0.0, 1.0, 100.0, 100.5].map(n_requests), [1, 1, 1, 2]);
    }
}
