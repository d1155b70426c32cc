//! Says which seconds a run looks at, and what it means that an object is absent from them.

use std::ops::Range;

use crate::catalog::Resource;
use crate::commit::state::ResourceState;
use crate::partition::Partition;
use crate::plan::coverage::Coverage;
use crate::run::Setup;
use crate::run::event::Event;

/// What is listed, and how.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Seconds of `created`.
    pub span: Range<i64>,
    /// What is there already and was created behind the span, but before this second, is taken along.
    pub asked_until: i64,
    /// Stripe's clock, unix seconds. Without it the progress is not kept.
    pub now: Option<i64>,
    pub stripe_version: String,
    /// About when the account's objects begin.
    pub first_object: i64,
    /// Nothing that an earlier run has read is continued.
    pub starts_over: bool,
}

/// What a run looks at: a listing, or files that are imported.
pub struct Scope {
    pub span: Range<i64>,
    pub asked_until: i64,
    pub first_object: i64,
    /// Whether pages are listed now; otherwise files are imported.
    pub is_listing: bool,
    /// Whether absence from a complete listing means that Stripe has deleted the object.
    pub marks_vanished: bool,
}

impl Scope {
    pub fn of(resource: &Resource, listing: Option<&Listing>) -> Scope {
        match listing {
            Some(Listing { span, asked_until, first_object, .. }) => Scope {
                span: span.clone(),
                asked_until: *asked_until,
                first_object: *first_object,
                is_listing: true,
                marks_vanished: resource.deletable,
            },
            None => Scope {
                span: 0..i64::MAX,
                asked_until: i64::MAX,
                first_object: 0,
                is_listing: false,
                marks_vanished: false,
            },
        }
    }

    /// The seconds of a partition that are looked at.
    pub fn part_of(&self, partition: &Partition) -> Range<i64> {
        let span = partition.span();
        span.start.max(self.span.start)..span.end.min(self.span.end)
    }

    /// Whether it is all that Stripe has.
    pub fn is_whole_list(&self) -> bool {
        self.span.start == 0 && self.span.end < i64::MAX
    }

    /// Whether no window was asked for.
    pub fn is_everything(&self) -> bool {
        self.span.start == 0 && self.asked_until == i64::MAX
    }

    /// The part of the time that these seconds are, as far as objects may be expected in it.
    pub fn share(&self, read: &Coverage) -> f64 {
        let start = self.span.start.max(self.first_object.min(self.span.end - 1));
        let span = start..self.span.end;
        let read: Coverage = read.within(&span).into_iter().collect();
        read.n_secs() as f64 / (span.end - span.start) as f64
    }
}

/// Clocks, and answers on their way, may differ by so many seconds.
const CLOCKS_DIFFER: i64 = 60;

/// Stripe's clock cannot be earlier than what has been listed by it, or was created by it. Where it is, and this machine's says
/// otherwise, it is wrong, and would leave out what is new: nothing is left out then.
pub fn without_a_wrong_end(setup: &Setup, listing: Listing, state: &mut ResourceState) -> Listing {
    let Some(now) = listing.now.filter(|now| listing.span.end == now + 1) else { return listing };
    // Stripe has more than one clock, and an unfinished listing may have begun by a faster one.
    let begun = state.progress.iter().chain(&state.window).map(|progress| progress.listed_at);
    let now = begun.filter(|begun| (now..=now + CLOCKS_DIFFER).contains(begun)).max().unwrap_or(now);
    let listing = Listing { span: listing.span.start..now + 1, now: Some(now), ..listing };
    let is_later = |time: i64| time > now + CLOCKS_DIFFER;
    let newest = state.partitions.values().filter_map(|file| Some(file.created?.1)).max();
    if !state.complete_until.is_some_and(is_later) && !newest.is_some_and(is_later) {
        return listing;
    }
    if (now - setup.started_at.as_second()).abs() <= CLOCKS_DIFFER {
        // Then it was wrong before.
        state.complete_until = None;
        return listing;
    }
    let message = format!(
        "{}: Stripe's clock is behind what was listed by it before: everything is listed, whatever its time",
        state.resource
    );
    (setup.on_event)(Event::Warning { message });
    Listing { span: listing.span.start..i64::MAX, now: None, ..listing }
}
