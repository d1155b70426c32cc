//! Turns lists of seconds into slices, and expects every second once, newest first, in few requests.

use proptest::prelude::*;

use super::coverage::Coverage;
use super::*;

fn page(n_rows: usize, newest: Option<i64>, reached: Option<i64>) -> PageRead {
    PageRead { n_rows, newest, reached, is_newest_first: true, has_more: true, settles: true }
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
fn a_slice_whose_first_page_is_its_last_gives_nothing_back() {
    let mut slices = one(0..1_800_000_000);
    let slice = slices.take().unwrap();
    let only = PageRead { has_more: false, ..page(60, Some(1_799_999_900), Some(1_799_990_000)) };
    slices.page_read(slice.number, &only);
    assert_eq!(slices.take(), None, "there is nothing left of it");
    assert_eq!(slices.finish(slice.number), 0..1_800_000_000);
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
    /// Reads objects at random seconds with random interleaving, in one to three passes, after an earlier
    /// run that has read some of the span: whatever is cut, the slices that are read to their ends
    /// cover all seconds that were left, and none of the others is asked for.
    #[test]
    fn slices_cover_what_is_left_of_the_span_without_a_gap(
        groups in proptest::collection::vec(
            (0i64..100_000, any::<bool>(), prop_oneof![20 => Just(1usize), 1 => 2usize..800]), 0..700,
        ),
        news_from in proptest::option::of(0i64..120_000),
        read_before in proptest::collection::vec((0i64..100_000, 0i64..30_000), 0..4),
        n_passes in 1usize..4,
        choices in proptest::collection::vec(any::<u8>(), 400),
    ) {
        let span = 1_700_000_000..1_700_100_000;
        let of_group = |(second, pass, n): (i64, bool, usize)| std::iter::repeat_n((span.start + second, pass), n);
        let mut objects: Vec<(i64, bool)> = groups.into_iter().flat_map(of_group).collect();
        objects.sort_unstable_by(|a, b| b.cmp(a));
        let before = read_before.into_iter().map(|(from, n)| span.start + from..span.start + from + n);
        let before: Coverage = before.collect();
        let mut left = before.missing_in(&span);
        left.reverse();
        let mut slices = Slices::new(left.clone(), true, FIRST_OBJECT);
        let news_from = news_from.map_or(i64::MAX, |second| span.start + second);
        slices = slices.with_news_from(news_from);
        // Slice, pass and the place of the next object.
        let mut active: Vec<(Slice, usize, usize)> = Vec::new();
        let mut read = vec![false; objects.len()];
        let mut coverage = Coverage::default();
        let mut choices = choices.into_iter().cycle();
        loop {
            if active.len() < 6 && let Some(slice) = slices.take() {
                prop_assert!(before.within(&slice.created).is_empty(), "{:?} was read before", slice.created);
                active.push((slice, 1, 0));
            }
            if active.is_empty() {
                break;
            }
            let chosen = usize::from(choices.next().unwrap()) % active.len();
            let (slice, pass, at) = active[chosen].clone();
            let is_last_pass = pass == n_passes;
            let is_shown = |i: &usize| {
                let (second, is_second_pass) = objects[*i];
                slice.created.contains(&second) && (n_passes == 1 || is_second_pass == (pass == 2))
            };
            let page: Vec<usize> = (at..objects.len()).filter(is_shown).take(100).collect();
            for i in &page {
                read[*i] = true;
            }
            let second = |i: &usize| objects[*i].0;
            let next = page.last().map_or(objects.len(), |i| i + 1);
            let has_more = (next..objects.len()).any(|i| is_shown(&i));
            let page_read = PageRead {
                settles: is_last_pass,
                has_more,
                ..super::tests::page(page.len(), page.first().map(second), page.last().map(second))
            };
            let settled = slices.page_read(slice.number, &page_read);
            let is_over = !has_more || slices.has_passed_its_start(slice.number, is_last_pass);
            coverage.add(settled);
            match (is_over, is_last_pass) {
                (true, true) => {
                    coverage.add(slices.finish(slice.number));
                    active.remove(chosen);
                }
                (true, false) => (active[chosen].1, active[chosen].2) = (pass + 1, 0),
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

#[test]
fn a_slice_of_three_passes_is_short_whichever_of_them_has_the_objects() {
    // Every second has an object of the second pass, every hundredth one of the others.
    let mut slices = one(1_700_000_000..1_700_010_000);
    let slice = slices.take().unwrap();
    let mut n_pages = 0;
    for pass in 1..=3 {
        let step = if pass == 2 { 1 } else { 100 };
        let mut below = 1_700_010_000;
        loop {
            let oldest = (below - 100 * step).max(1_700_000_000);
            let has_more = oldest > 1_700_000_000;
            let read =
                PageRead { settles: pass == 3, has_more, ..page(100, Some(below - step), Some(oldest)) };
            slices.page_read(slice.number, &read);
            (n_pages, below) = (n_pages + 1, oldest);
            if !has_more || slices.has_passed_its_start(slice.number, pass == 3) {
                break;
            }
        }
    }
    assert!(n_pages <= 6, "{n_pages} pages before anything was settled");
}

const DAY: i64 = 86_400;
const START: i64 = 1_600_000_000;
const SPAN: Range<i64> = START..START + 730 * DAY;

/// What it took to read a list.
#[derive(Debug)]
struct Effort {
    n_requests: usize,
    n_rounds: usize,
    /// Most objects that were read while a newer one was not.
    most_ahead: usize,
}

/// Reads a list of these seconds, a page of each slice in each round.
fn read_all(mut created: Vec<i64>, n_workers: usize) -> Effort {
    created.sort_unstable_by(|a, b| b.cmp(a));
    let span = 0..SPAN.end + 1;
    let mut slices = Slices::new(vec![span], true, SPAN.start - DAY);
    // With what is left of each.
    let mut active: Vec<(Slice, Option<Range<usize>>)> = Vec::new();
    let mut is_read = vec![false; created.len()];
    let mut effort = Effort { n_requests: 0, n_rounds: 0, most_ahead: 0 };
    let (mut n_read, mut n_first) = (0, 0);
    while !slices.is_done() {
        while active.len() < n_workers
            && let Some(slice) = slices.take()
        {
            let index = |second: i64| created.partition_point(|created| *created >= second);
            let window = index(slice.created.end)..index(slice.created.start);
            active.push((slice, Some(window)));
        }
        for (slice, left) in &mut active {
            let Some(window) = left else { continue };
            let page = window.start..window.end.min(window.start + 100);
            window.start = page.end;
            effort.n_requests += 1;
            is_read[page.clone()]
                .iter_mut()
                .for_each(|is_read| n_read += usize::from(!std::mem::replace(is_read, true)));
            let seconds = &created[page];
            let read = super::tests::page(seconds.len(), seconds.first().copied(), seconds.last().copied());
            slices.page_read(slice.number, &read);
            if window.start >= window.end || slices.has_passed_its_start(slice.number, true) {
                slices.finish(slice.number);
                *left = None;
            }
            while n_first < is_read.len() && is_read[n_first] {
                n_first += 1;
            }
            effort.most_ahead = effort.most_ahead.max(n_read - n_first);
        }
        active.retain(|(_, left)| left.is_some());
        effort.n_rounds += 1;
    }
    assert_eq!(n_first, created.len());
    effort
}

/// So many objects, where `place` says how far in the span each share of them is.
fn list(n: usize, place: impl Fn(f64) -> f64) -> Vec<i64> {
    let secs = (SPAN.end - SPAN.start) as f64;
    (0..n).map(|i| SPAN.start + (place(i as f64 / n as f64) * secs) as i64).collect()
}

/// Four fifths in the month of the middle.
fn one_month(n: usize) -> Vec<i64> {
    list(n, |share| match share {
        share if share < 0.1 => share * 4.8,
        share if share < 0.9 => 0.48 + (share - 0.1) * 0.05,
        share => 0.52 + (share - 0.9) * 4.8,
    })
}

/// Of each 8,192 objects 2,000 to 6,000 share one second.
fn bursts(n: usize) -> Vec<i64> {
    let mut created = list(n, |share| share);
    for (number, block) in created.chunks_mut(8_192).enumerate() {
        let n_shared = 2_000 + number * 1_237 % 4_001;
        let first = block.len() / 3;
        let second = block[first];
        block.iter_mut().skip(first).take(n_shared).for_each(|created| *created = second);
    }
    created
}

/// Days are dense at noon, and the account has grown.
fn growing(n: usize) -> Vec<i64> {
    let by_day = |second: i64| {
        let noon = second.rem_euclid(DAY) as f64 / DAY as f64 - 0.5;
        second.div_euclid(DAY) * DAY + ((0.5 + 0.3 * noon + 2.8 * noon.powi(3)) * DAY as f64) as i64
    };
    list(n, f64::sqrt).into_iter().map(by_day).collect()
}

/// A few at both ends of the span.
fn quiet_years(n: usize) -> Vec<i64> {
    list(n, |share| if share < 0.5 { share * 0.02 } else { 0.99 + (share - 0.5) * 0.02 })
}

/// Imported from elsewhere, all within an hour.
fn one_hour(n: usize) -> Vec<i64> {
    list(n, |share| 0.3 + share * 3_600.0 / (SPAN.end - SPAN.start) as f64)
}

/// Workers; the limits leave room for 3 to 8.
const ALL: [usize; 5] = [1, 3, 5, 8, 16];

/// Reads 100,000 objects with so many workers. `most_ahead` is in slices for each worker.
fn check_effort(created: &[i64], n_workers: &[usize], fill: f64, most_ahead: f64) {
    for n_workers in n_workers.iter().copied() {
        let Effort { n_requests, n_rounds, most_ahead: ahead } = read_all(created.to_vec(), n_workers);
        let told =
            format!("{n_workers} workers: {n_requests} requests, {n_rounds} rounds, {ahead} rows ahead");
        assert!(n_requests <= 1_050 + 40, "{told}");
        assert!(created.len() as f64 / (100 * n_requests) as f64 >= fill, "{told}");
        let at_most = (n_workers - 1) as f64 * SLICE_ROWS * most_ahead + 100.0;
        assert!(ahead as f64 <= at_most, "{told}, at most {at_most}");
        // At the end the last slices are cut: a few pages are read by fewer workers.
        assert!(n_rounds <= n_requests.div_ceil(n_workers) + 8 || most_ahead > 2.0, "{told}");
    }
}

#[test]
fn an_even_list_is_read_newest_first_in_full_pages() {
    check_effort(&list(100_000, |share| share), &ALL, 0.97, 1.1);
    check_effort(&growing(100_000), &ALL, 0.97, 1.4);
}

#[test]
fn one_dense_month_is_not_one_long_slice() {
    check_effort(&one_month(100_000), &ALL, 0.97, 2.0);
}

#[test]
fn bursts_cost_no_requests() {
    // A second cannot be cut: others read on while one reads up to 60 pages of it.
    check_effort(&bursts(100_000), &ALL[..4], 0.97, 6.0);
}

#[test]
fn empty_years_cost_a_handful_of_requests() {
    check_effort(&quiet_years(100_000), &ALL, 0.97, 1.3);
    let few = [SPAN.end - 5, SPAN.start + 5];
    assert!(read_all(few.to_vec(), 8).n_requests <= 2);
}

#[test]
fn one_busy_hour_in_two_years_is_cut_like_any_other() {
    check_effort(&one_hour(100_000), &ALL, 0.95, 1.3);
}

#[test]
fn what_is_new_is_read_after_what_an_earlier_run_has_left() {
    let spans = vec![0..10, 50..60, 900..1_000];
    let mut slices = Slices::new(spans, true, 0).with_news_from(900);
    let mut taken = Vec::new();
    while let Some(slice) = slices.take() {
        slices.finish(slice.number);
        taken.push(slice.created);
    }
    assert_eq!(taken, [50..60, 0..10, 900..1_000]);
}
