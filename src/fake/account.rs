//! Turns a [`Spec`] into an account of objects that are made when they are asked for.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use super::chance::{Chance, mix, topic};
use super::changes::Changes;
use super::density::{Density, Spread};
use super::id::{Id, Ids};
use super::timeline::{DAY, Followups, Timeline};

/// What kind of account to make up.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The same seed gives the same bytes.
    pub seed: u64,
    pub livemode: bool,
    pub charges: u64,
    /// The account's present, in unix seconds; nothing is younger.
    pub now: i64,
    /// How far the oldest object lies back, in days; at least one.
    pub span_days: u32,
    pub density: Density,
    /// `None`: a sixth of the charges.
    pub customers: Option<u64>,
    /// `None`: 40 and one for each 2,000 charges; none in an account without charges.
    pub prices: Option<u64>,
    /// `None`: a twelfth of the charges. Without customers or prices there are none.
    pub subscriptions: Option<u64>,
    /// `None`: a twentieth of the charges. At most half of them.
    pub refunds: Option<u64>,
    /// The one key to accept; `None`: any secret or restricted key of the right mode.
    pub accepted_key: Option<String>,
    /// What the key may not read: the API answers 403 for them.
    pub denied: Vec<Resource>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            seed: 1,
            livemode: false,
            charges: 1000,
            now: 1_780_000_000,
            span_days: 730,
            density: Density::default(),
            customers: None,
            prices: None,
            subscriptions: None,
            refunds: None,
            accepted_key: None,
            denied: Vec::new(),
        }
    }
}

/// What the API lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    BalanceTransactions,
    Charges,
    Customers,
    Events,
    Prices,
    Refunds,
    SubscriptionItems,
    Subscriptions,
}

impl Resource {
    pub const ALL: [Self; 8] = [
        Self::BalanceTransactions,
        Self::Charges,
        Self::Customers,
        Self::Events,
        Self::Prices,
        Self::Refunds,
        Self::SubscriptionItems,
        Self::Subscriptions,
    ];

    /// The name in the path: `/v1/charges`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BalanceTransactions => "balance_transactions",
            Self::Charges => "charges",
            Self::Customers => "customers",
            Self::Events => "events",
            Self::Prices => "prices",
            Self::Refunds => "refunds",
            Self::SubscriptionItems => "subscription_items",
            Self::Subscriptions => "subscriptions",
        }
    }

    /// The name of one in messages: `No such balance_transaction: ...`.
    pub fn singular(self) -> &'static str {
        self.name().trim_end_matches('s')
    }

    /// What the list is merged from, all of them ordered by time.
    pub(super) fn series(self) -> &'static [Series] {
        match self {
            Self::BalanceTransactions => &[
                Series::Charges,
                Series::Refunds,
                Series::RefundFailures,
                Series::Disputes,
                Series::Payouts,
                Series::StripeFees,
            ],
            Self::Charges => &[Series::Charges],
            Self::Customers => &[Series::Customers],
            Self::Prices => &[Series::Prices],
            Self::Refunds => &[Series::Refunds],
            Self::Subscriptions => &[Series::Subscriptions],
            Self::Events | Self::SubscriptionItems => &[],
        }
    }
}

impl FromStr for Resource {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|resource| resource.name() == name);
        found.ok_or_else(|| format!("expected a resource of the fake account, got {name:?}"))
    }
}

/// Things that happen one after another, counted from the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Series {
    Charges,
    Refunds,
    Disputes,
    Payouts,
    StripeFees,
    Customers,
    Prices,
    Subscriptions,
    /// As many as refunds, but only those that failed are seen.
    RefundFailures,
}

/// A refund that fails does so after this time.
pub(super) const FAILURE_DELAY: i64 = 3 * DAY;

/// A made-up Stripe account. Only what was done to it is stored: the clock, the count of requests, changes.
#[derive(Debug)]
pub struct Account {
    pub spec: Spec,
    pub(super) ids: Ids,
    pub(super) start: i64,
    pub(super) refunds: Followups,
    pub(super) disputes: Followups,
    timelines: [Timeline; 8],
    clock: AtomicI64,
    running_since: OnceLock<Instant>,
    requests: Mutex<Requests>,
    pub(super) changes: Changes,
}

/// What a client has asked so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    pub total: u64,
    /// By path, with ids left out: `/v1/charges`, `/v1/charges/{id}`.
    pub by_path: BTreeMap<String, u64>,
}

impl Account {
    pub fn new(mut spec: Spec) -> Self {
        spec.span_days = spec.span_days.max(1);
        let days = u64::from(spec.span_days);
        let (seed, n) = (spec.seed, spec.charges);
        let refunds =
            Followups::new(mix(seed, topic("refunds")), spec.refunds.unwrap_or(n / 20), n, 12, days);
        let disputes = Followups::new(mix(seed, topic("disputes")), n / 250, n, 25, days);
        let customers = spec.customers.unwrap_or(n.div_ceil(6));
        let prices = spec.prices.unwrap_or(if n == 0 { 0 } else { 40 + n / 2000 });
        let subscriptions =
            if customers == 0 || prices == 0 { 0 } else { spec.subscriptions.unwrap_or(n.div_ceil(12)) };
        let span_secs = i64::from(spec.span_days) * DAY;
        // What follows something by a second must still be in the past.
        let start = spec.now - span_secs - 60;
        let spread = Spread::new(spec.density, start, span_secs);
        let timeline = |series: Series, len, lead, has_bursts| Timeline {
            key: mix(seed, topic("timeline") + series as u64),
            len,
            lead,
            spread: spread.clone(),
            has_bursts,
        };
        let timelines = [
            timeline(Series::Charges, n, 0, true),
            timeline(Series::Refunds, refunds.len, refunds.lag, false),
            timeline(Series::Disputes, disputes.len, disputes.lag, false),
            timeline(Series::Payouts, days.min(n / 10), 1, false),
            timeline(Series::StripeFees, (days / 30).min(n / 20), 1, false),
            timeline(Series::Customers, customers, 0, true),
            timeline(Series::Prices, prices, 0, false),
            // Later by one, so that the first subscription has a customer and a price.
            timeline(Series::Subscriptions, subscriptions, 1, true),
        ];
        Self {
            ids: Ids::new(seed),
            start,
            refunds,
            disputes,
            timelines,
            clock: AtomicI64::new(spec.now),
            running_since: OnceLock::new(),
            requests: Mutex::default(),
            changes: Changes::default(),
            spec,
        }
    }

    /// How many objects a list has when nothing is filtered out; balance transactions are counted before
    /// uncaptured charges and refunds that did not fail are left out.
    pub fn len(&self, resource: Resource) -> u64 {
        resource.series().iter().map(|series| self.series_len(*series)).sum()
    }

    pub fn is_empty(&self) -> bool {
        Resource::ALL.into_iter().all(|resource| self.len(resource) == 0)
    }

    /// `acct_...`
    pub fn id(&self) -> String {
        self.account_id().to_string()
    }

    /// The time that answers carry in `Date`.
    pub fn now(&self) -> i64 {
        let elapsed = self.running_since.get().map_or(0, |since| since.elapsed().as_secs() as i64);
        self.clock.load(Ordering::Relaxed) + elapsed
    }

    /// Sets the clock. The objects stay as they were at [`Spec::now`].
    pub fn set_now(&self, second: i64) {
        let elapsed = self.now() - self.clock.load(Ordering::Relaxed);
        self.clock.store(second - elapsed, Ordering::Relaxed);
    }

    /// What was asked so far.
    pub fn requests(&self) -> Requests {
        self.requests.lock().expect("no one panics while counting").clone()
    }

    pub(super) fn start_clock(&self) {
        self.running_since.get_or_init(Instant::now);
    }

    /// Counts a request and returns its number.
    pub(super) fn count_request(&self, path: String) -> u64 {
        let mut requests = self.requests.lock().expect("no one panics while counting");
        requests.total += 1;
        *requests.by_path.entry(path).or_default() += 1;
        requests.total
    }

    pub(super) fn account_id(&self) -> Id {
        self.ids.account(self.start)
    }

    pub(super) fn chance(&self, topic: u64, index: u64) -> Chance {
        Chance::of(self.spec.seed, topic, index)
    }

    pub(super) fn timeline(&self, series: Series) -> &Timeline {
        match series {
            Series::RefundFailures => &self.timelines[Series::Refunds as usize],
            other => &self.timelines[other as usize],
        }
    }

    pub(super) fn series_len(&self, series: Series) -> u64 {
        self.timeline(series).len
    }

    pub(super) fn created(&self, series: Series, index: u64) -> i64 {
        self.timeline(series).created(index) + delay(series)
    }

    /// How many of a series were created before `second`.
    pub(super) fn len_before(&self, series: Series, second: i64) -> u64 {
        self.timeline(series).len_before(second.saturating_sub(delay(series)))
    }

    /// The place of a second in the account's span, in thousandths.
    pub(super) fn progress(&self, second: i64) -> u64 {
        ((second - self.start) * 1000 / (i64::from(self.spec.span_days) * DAY)).clamp(0, 1000) as u64
    }

    /// Seconds that have passed since `created`.
    pub(super) fn age(&self, created: i64) -> i64 {
        self.spec.now - created
    }
}

fn delay(series: Series) -> i64 {
    match series {
        // A follow-up may fall into its charge's second.
        Series::Refunds | Series::Disputes => 1,
        Series::RefundFailures => 1 + FAILURE_DELAY,
        _ => 0,
    }
}
