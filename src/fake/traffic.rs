//! Turns requests into counts by path, status and second, and into refusals of those that come too fast.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::error::{Error, Result};

/// Requests that a server answers in any second, as `25/100`. Stripe may let bursts through; what keeps to this keeps to
/// any way of counting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    pub per_endpoint: f64,
    pub per_account: f64,
}

impl FromStr for Rates {
    type Err = Error;

    fn from_str(text: &str) -> Result<Rates> {
        let numbers = text.split_once('/').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match numbers {
            Some((per_endpoint, per_account)) if per_endpoint > 0.0 && per_account > 0.0 => {
                Ok(Rates { per_endpoint, per_account })
            }
            _ => Err(Error::usage(format!(
                "expected requests per second of an endpoint and of the account like 25/100, got \"{text}\""
            ))),
        }
    }
}

/// What a server was asked, for tests and benchmarks.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    pub requests: u64,
    pub by_path: BTreeMap<String, u64>,
    pub by_status: BTreeMap<u16, u64>,
    /// Requests that were not answered properly, by what became of them.
    pub by_fault: BTreeMap<String, u64>,
    /// The most that were being answered at once.
    pub most_at_once: u64,
    /// Requests in each second since the first one.
    pub per_second: Vec<u64>,
}

/// The traffic of one server.
#[derive(Debug)]
pub struct Traffic {
    rates: Option<Rates>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: Counts,
    first: Option<Instant>,
    at_once: u64,
    account: Window,
    endpoints: HashMap<String, Window>,
}

/// What was answered in the last second.
#[derive(Debug, Default)]
struct Window(VecDeque<Instant>);

impl Window {
    fn is_full(&mut self, rate: f64, now: Instant) -> bool {
        while self.0.front().is_some_and(|first| now.duration_since(*first) >= Duration::from_secs(1)) {
            self.0.pop_front();
        }
        self.0.len() as f64 >= rate
    }
}

impl Traffic {
    pub fn new(rates: Option<Rates>) -> Traffic {
        Traffic { rates, inner: Mutex::default() }
    }

    /// Counts a request that begins; `Some(reason)` where it comes too fast.
    pub fn begin(&self, path: &str) -> Option<&'static str> {
        let now = Instant::now();
        let mut inner = self.inner.lock().expect("no one panics while counting");
        let first = *inner.first.get_or_insert(now);
        let second = now.duration_since(first).as_secs() as usize;
        inner.at_once += 1;
        let at_once = inner.at_once;
        let counts = &mut inner.counts;
        counts.requests += 1;
        counts.most_at_once = counts.most_at_once.max(at_once);
        *counts.by_path.entry(path.to_owned()).or_default() += 1;
        counts.per_second.resize(counts.per_second.len().max(second + 1), 0);
        counts.per_second[second] += 1;
        let Rates { per_endpoint, per_account } = self.rates?;
        let Inner { account, endpoints, .. } = &mut *inner;
        let endpoint = endpoints.entry(path.to_owned()).or_default();
        if account.is_full(per_account, now) {
            return Some("global-rate");
        }
        if endpoint.is_full(per_endpoint, now) {
            return Some("endpoint-rate");
        }
        account.0.push_back(now);
        endpoint.0.push_back(now);
        None
    }

    /// Notes what is about to be done to a request.
    pub fn note(&self, fault: &str) {
        let mut inner = self.inner.lock().expect("no one panics while counting");
        *inner.counts.by_fault.entry(fault.to_owned()).or_default() += 1;
    }

    /// Notes a request that is over, with its status if it was answered.
    pub fn end(&self, status: Option<u16>) {
        let mut inner = self.inner.lock().expect("no one panics while counting");
        inner.at_once -= 1;
        if let Some(status) = status {
            *inner.counts.by_status.entry(status).or_default() += 1;
        }
    }

    pub fn counts(&self) -> Counts {
        self.inner.lock().expect("no one panics while counting").counts.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_holds_no_more_than_the_rate_and_a_refusal_says_whose() {
        let traffic = Traffic::new(Some("2/3".parse().unwrap()));
        let ask = |path| traffic.begin(path);
        assert_eq!([ask("/a"), ask("/a"), ask("/a")], [None, None, Some("endpoint-rate")]);
        assert_eq!([ask("/b"), ask("/b")], [None, Some("global-rate")]);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert_eq!([ask("/a"), ask("/a"), ask("/b")], [None, None, None]);
        let counts = traffic.counts();
        assert_eq!((counts.requests, counts.per_second), (8, vec![5, 3]));
    }
}
