//! Holds requests back so that Stripe's rate limits are kept, and slows down when Stripe asks for it.
//!
//! Where Stripe says that too many are at work at once, fewer are, at the same rate.
//!
//! 25 requests/s per endpoint, 100/s per live account and 25/s per sandbox, shared with the merchant's
//! own traffic. <https://docs.stripe.com/rate-limits>

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Documented limits, in requests per second.
const PER_ENDPOINT: f64 = 25.0;
const PER_LIVE_ACCOUNT: f64 = 100.0;
const PER_SANDBOX: f64 = 25.0;
/// How much a bucket may hold, in seconds of its rate: enough to absorb the jitter of a busy machine.
const BURST_SECS: f64 = 0.2;
/// A second in which no more is sent than the rate, whatever the bucket holds: a server may count requests by the second.
/// The longer one is for those that arrive closer together than they were sent.
const SECOND: Duration = Duration::from_millis(1_020);
/// The share of the rate that was refused to which a slowed bucket soon gets back, since that was borne until then. As TCP
/// does (RFC 9438, section 4): one refusal by chance costs seconds and not minutes.
const NEARLY: f64 = 0.9;
/// In about so many seconds.
const WAY_BACK_SECS: f64 = 10.0;
/// Above it the bucket gains this many requests/s every second.
const CREEP: f64 = 0.1;
/// However often Stripe asks: at least one request in two seconds.
const SLOWEST: f64 = 0.5;

/// After so long one more request may be at work at once, where there were too many.
const ONE_MORE_EVERY: Duration = Duration::from_secs(10);
/// Refusals within this time are one sign: the requests in flight are refused together.
const TOGETHER: Duration = Duration::from_secs(1);

/// All that wait for a token wake at once. Who is not urgent looks again after so long.
const OVERTAKING: Duration = Duration::from_millis(2);

/// Requests that wait for one bucket, so that it gives no token later than it could.
const ENOUGH: usize = 2;

/// How fast a run may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// This share of the documented limits; 0.8 unless told otherwise.
    Share(f64),
    /// Requests per second in all; an endpoint gets at most 25, or a quarter if that is more.
    PerSecond(f64),
    /// No limit of ours, for a server that is not Stripe's.
    Unlimited,
}

/// One token bucket, kept as the time at which it would be full again, and what it gave in the last second.
#[derive(Debug)]
struct Bucket {
    full_rate: f64,
    rate: f64,
    /// When the next request may start if no burst were allowed.
    paced: Instant,
    /// When the last requests started, as many as may in a second.
    started: VecDeque<Instant>,
    /// The rate creeps up from here.
    adapted: Instant,
    /// Up to here it does so fast.
    nearly: f64,
    halved: Option<Instant>,
}

impl Bucket {
    fn new(rate: f64, now: Instant) -> Bucket {
        let started = VecDeque::new();
        Bucket { full_rate: rate, rate, paced: now, started, adapted: now, nearly: 0.0, halved: None }
    }

    /// When the next request may start.
    fn due(&self) -> Instant {
        let before = self.started.len().checked_sub(most_in_a_second(self.rate));
        let second_is_over = before.map(|first| self.started[first] + SECOND);
        second_is_over.map_or(self.paced, |over| over.max(self.paced))
    }

    /// Takes the token that is due; the caller has waited for it.
    fn take(&mut self, now: Instant) {
        self.creep(now);
        let earliest = now.checked_sub(Duration::from_secs_f64(BURST_SECS)).unwrap_or(now);
        self.paced = self.paced.max(earliest) + Duration::from_secs_f64(1.0 / self.rate);
        if self.started.len() >= most_in_a_second(self.full_rate) {
            self.started.pop_front();
        }
        self.started.push_back(now);
    }

    fn creep(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.adapted).as_secs_f64();
        let a_second = self.nearly * 0.5 / WAY_BACK_SECS;
        let fast = elapsed.min(((self.nearly - self.rate) / a_second).max(0.0));
        self.rate = (self.rate + a_second * fast + CREEP * (elapsed - fast)).min(self.full_rate);
        self.adapted = now;
    }

    fn halve(&mut self, now: Instant) {
        if self.halved.is_some_and(|halved| now.duration_since(halved) < TOGETHER) {
            return;
        }
        self.creep(now);
        self.nearly = self.rate * NEARLY;
        self.rate = (self.rate / 2.0).max(SLOWEST);
        self.halved = Some(now);
    }
}

fn most_in_a_second(rate: f64) -> usize {
    rate.ceil().max(1.0) as usize
}

/// The buckets of one key.
#[derive(Debug)]
pub struct Limits {
    per_endpoint: Option<f64>,
    buckets: Mutex<Buckets>,
    /// Told when a request is no longer at work.
    ended: Notify,
}

#[derive(Debug)]
struct Buckets {
    account: Option<Bucket>,
    endpoints: HashMap<String, Bucket>,
    waiting: HashMap<Wait, usize>,
    /// Requests that are at work.
    at_work: HashMap<Scarce, usize>,
    /// How many may be, where there were too many, and since when.
    most_at_work: HashMap<Scarce, (usize, Instant)>,
}

impl Buckets {
    fn has_room(&mut self, scarce: &Scarce, now: Instant) -> bool {
        let Some((most, since)) = self.most_at_work.get_mut(scarce) else { return true };
        while now.duration_since(*since) >= ONE_MORE_EVERY {
            *most += 1;
            *since += ONE_MORE_EVERY;
        }
        self.at_work.get(scarce).is_none_or(|n| n < most)
    }

    /// Lets half as many be at work; false where there is one already.
    fn halve_work(&mut self, scarce: &Scarce, now: Instant) -> bool {
        // The one that was refused is over.
        let at_work = self.at_work.get(scarce).copied().unwrap_or_default() + 1;
        let (most, since) = self
            .most_at_work
            .get(scarce)
            .copied()
            .unwrap_or((at_work, now.checked_sub(TOGETHER).unwrap_or(now)));
        if now.duration_since(since) >= TOGETHER {
            self.most_at_work.insert(scarce.clone(), ((most.min(at_work) / 2).max(1), now));
        }
        most > 1
    }
}

/// A request that is at work; no longer once this is dropped.
#[must_use]
pub struct AtWork<'a> {
    limits: &'a Limits,
    path: String,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut buckets = self.limits.buckets.lock().expect("no panic while counting");
        for scarce in [Scarce::Account, Scarce::Endpoint(std::mem::take(&mut self.path))] {
            *buckets.at_work.entry(scarce).or_default() -= 1;
        }
        self.limits.ended.notify_waiters();
    }
}

/// What holds a request back.
enum Hold {
    Until(Instant, Scarce),
    /// Until another one is no longer at work, or one more may be.
    Work(Instant, Scarce),
}

/// The bucket that holds a request back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scarce {
    Account,
    Endpoint(String),
}

/// What waiting requests are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Wait {
    For(Scarce),
    /// Those that go before others to this path.
    First(String),
}

/// A request that waits; no longer once this is dropped.
struct Waiting<'a> {
    limits: &'a Limits,
    wait: Wait,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut buckets = self.limits.buckets.lock().expect("no panic while counting");
        *buckets.waiting.entry(self.wait.clone()).or_default() -= 1;
    }
}

impl Limits {
    /// The limits for a key of this mode.
    pub fn new(rate: Rate, livemode: bool) -> Limits {
        let (account, endpoint) = Limits::per_second(rate, livemode);
        let now = Instant::now();
        let account = account.map(|rate| Bucket::new(rate, now));
        let buckets = Buckets {
            account,
            endpoints: HashMap::new(),
            waiting: HashMap::new(),
            at_work: HashMap::new(),
            most_at_work: HashMap::new(),
        };
        Limits { per_endpoint: endpoint, buckets: Mutex::new(buckets), ended: Notify::new() }
    }

    /// Requests per second of the account and of one endpoint; `None` without a limit.
    pub fn per_second(rate: Rate, livemode: bool) -> (Option<f64>, Option<f64>) {
        let account = if livemode { PER_LIVE_ACCOUNT } else { PER_SANDBOX };
        match rate {
            Rate::Share(share) => (Some(account * share), Some(PER_ENDPOINT * share)),
            // Where Stripe has raised the account's limit, that of its endpoints is raised with it.
            Rate::PerSecond(rate) => (Some(rate), Some(rate.min(PER_ENDPOINT.max(rate / 4.0)))),
            Rate::Unlimited => (None, None),
        }
    }

    /// Waits until a request to `path` may start, before others to it if it is urgent; it is at work as long as what this returns.
    ///
    /// Both buckets give their tokens in the same instant: one taken early, to be used when the other
    /// bucket allows it, would let the requests that waited start together.
    pub async fn ready(&self, path: &str, is_urgent: bool) -> AtWork<'_> {
        let _first = is_urgent.then(|| self.waiting(Wait::First(path.to_owned())));
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            match self.take(path, is_urgent) {
                Ok(at_work) => return at_work,
                Err(Hold::Until(at, scarce)) => {
                    let _waiting = self.waiting(Wait::For(scarce));
                    tokio::time::sleep_until(at).await;
                }
                Err(Hold::Work(at, scarce)) => {
                    let _waiting = self.waiting(Wait::For(scarce));
                    let _ = tokio::time::timeout_at(at, ended).await;
                }
            }
        }
    }

    fn waiting(&self, wait: Wait) -> Waiting<'_> {
        let mut buckets = self.buckets.lock().expect("no panic while counting");
        *buckets.waiting.entry(wait.clone()).or_default() += 1;
        Waiting { limits: self, wait }
    }

    /// Whether so many requests wait for their turn that one more at a time to `path` would only wait, too.
    pub fn is_saturated(&self, path: &str) -> bool {
        let buckets = self.buckets.lock().expect("no panic while counting");
        let n_waiting = |scarce| buckets.waiting.get(&Wait::For(scarce)).copied().unwrap_or(0);
        n_waiting(Scarce::Account) >= ENOUGH || n_waiting(Scarce::Endpoint(path.to_owned())) >= ENOUGH
    }

    /// Takes a token of each bucket, or says what to wait for.
    fn take(&self, path: &str, is_urgent: bool) -> Result<AtWork<'_>, Hold> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().expect("no panic while counting");
        let both = || [Scarce::Account, Scarce::Endpoint(path.to_owned())];
        if let Some(scarce) = both().into_iter().find(|scarce| !buckets.has_room(scarce, now)) {
            let since = buckets.most_at_work.get(&scarce).map_or(now, |(_, since)| *since);
            return Err(Hold::Work(since + ONE_MORE_EVERY, scarce));
        }
        let Buckets { account, endpoints, waiting, .. } = &mut *buckets;
        let endpoint = self
            .per_endpoint
            .map(|rate| endpoints.entry(path.to_owned()).or_insert_with(|| Bucket::new(rate, now)));
        let account_due = account.as_ref().map(|bucket| bucket.due());
        let endpoint_due = endpoint.as_ref().map(|bucket| bucket.due());
        if let Some(due) = account_due.max(endpoint_due).filter(|due| *due > now) {
            let is_endpoint = endpoint_due > account_due;
            let scarce = if is_endpoint { Scarce::Endpoint(path.to_owned()) } else { Scarce::Account };
            return Err(Hold::Until(due, scarce));
        }
        let is_overtaken = || waiting.get(&Wait::First(path.to_owned())).is_some_and(|n| *n > 0);
        if !is_urgent && is_overtaken() {
            return Err(Hold::Until(now + OVERTAKING, Scarce::Endpoint(path.to_owned())));
        }
        account.iter_mut().chain(endpoint).for_each(|bucket| bucket.take(now));
        both().into_iter().for_each(|scarce| *buckets.at_work.entry(scarce).or_default() += 1);
        Ok(AtWork { limits: self, path: path.to_owned() })
    }

    /// Halves the rate of a refused request's endpoint, and the account's unless `reason`
    /// (`Stripe-Rate-Limited-Reason`) blames the endpoint alone. Where it blames the number at once, that is halved, as long
    /// as there are several.
    pub fn slow_down(&self, path: &str, reason: &str) {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().expect("no panic while counting");
        let rate = self.per_endpoint.unwrap_or(PER_ENDPOINT);
        let is_endpoint = reason.starts_with("endpoint-") || reason == "resource-specific";
        if reason.ends_with("-concurrency") {
            let scarce = if is_endpoint { Scarce::Endpoint(path.to_owned()) } else { Scarce::Account };
            if buckets.halve_work(&scarce, now) {
                return;
            }
        }
        let endpoints = &mut buckets.endpoints;
        endpoints.entry(path.to_owned()).or_insert_with(|| Bucket::new(rate, now)).halve(now);
        if let Some(account) = buckets.account.as_mut().filter(|_| !is_endpoint) {
            account.halve(now);
        }
    }
}
