//! Decides whether and when a request is sent again.
//!
//! Every request is a GET, so everything is safe to repeat. Waits grow exponentially with full jitter
//! (AWS Architecture Blog, "Exponential Backoff And Jitter").

use std::sync::Mutex;
use std::time::Duration;

const FIRST: f64 = 0.5;
const LONGEST: f64 = 30.0;
const SHORTEST: Duration = Duration::from_millis(250);
/// A server may ask for at most this much patience.
const LONGEST_ASKED: u64 = 60;

/// Why a request is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// 429 with `Stripe-Rate-Limited-Reason`.
    RateLimited(String, Option<u64>),
    /// 429 or 409 without that header: two requests met at one object.
    LockTimeout,
    /// 5xx and the like.
    Server(u16, Option<u64>),
    /// Stripe said not to repeat this 5xx; one late repetition is spent on it all the same.
    ServerFinal(u16),
    Network,
    /// A body that is not what a page of Stripe's looks like.
    Broken,
}

impl Reason {
    /// Whether requests come too fast.
    pub fn is_slowdown(&self) -> bool {
        matches!(self, Reason::RateLimited(_, _))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::RateLimited(reason, _) => write!(f, "rate limited ({reason})"),
            Reason::LockTimeout => f.write_str("lock timeout"),
            Reason::Server(status, _) | Reason::ServerFinal(status) => write!(f, "status {status}"),
            Reason::Network => f.write_str("network"),
            Reason::Broken => f.write_str("broken answer"),
        }
    }
}

/// How patient a run is.
#[derive(Debug)]
pub struct Policy {
    pub attempts: u32,
    /// For one request, waits included.
    pub patience: Duration,
    /// Broken answers of one request.
    pub broken_attempts: u32,
    rng: Mutex<fastrand::Rng>,
}

impl Policy {
    /// 8 attempts in 5 minutes; `seed` fixes the jitter.
    pub fn new(seed: u64) -> Policy {
        Policy {
            attempts: 8,
            patience: Duration::from_secs(300),
            broken_attempts: 3,
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// How long to wait before attempt `attempt + 1`, or `None` to give up.
    ///
    /// All requests of a run together may be repeated 50 times plus 10 % of their number, so that a
    /// dead server is not stormed.
    pub fn wait(
        &self,
        reason: &Reason,
        attempt: u32,
        broken: u32,
        elapsed: Duration,
        requests: u64,
        retries: u64,
    ) -> Option<Duration> {
        let is_spent = match reason {
            Reason::RateLimited(_, _) | Reason::LockTimeout => elapsed >= self.patience,
            Reason::ServerFinal(_) => attempt >= 2,
            Reason::Broken => broken >= self.broken_attempts,
            Reason::Server(_, _) | Reason::Network => {
                attempt >= self.attempts || elapsed >= self.patience || retries >= 50 + requests / 10
            }
        };
        if is_spent {
            return None;
        }
        let backoff = (FIRST * 2f64.powi(attempt.min(16) as i32 - 1)).min(LONGEST);
        let jittered = self.rng.lock().expect("no panic while drawing").f64() * backoff;
        let wait = match reason {
            Reason::ServerFinal(_) => Duration::from_secs(5),
            _ => Duration::from_secs_f64(jittered).max(SHORTEST),
        };
        let asked = match reason {
            Reason::RateLimited(_, asked) | Reason::Server(_, asked) => asked.unwrap_or(0).min(LONGEST_ASKED),
            _ => 0,
        };
        Some(wait.max(Duration::from_secs(asked)))
    }
}
