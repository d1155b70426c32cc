//! Decides whether and when a request is sent again.
//!
//! Every request is a GET, so everything is safe to repeat. Waits grow exponentially with full jitter, or equal jitter where a
//! server is down (AWS Architecture Blog, "Exponential Backoff And Jitter").

use std::sync::Mutex;
use std::time::Duration;

const FIRST: f64 = 0.5;
const LONGEST: f64 = 30.0;
const SHORTEST: Duration = Duration::from_millis(250);
/// Before the one repetition of what Stripe says not to repeat.
const LATE: Duration = Duration::from_secs(5);
/// A server may ask for at most this much patience.
const LONGEST_ASKED: u64 = 60;
/// What a whole run may repeat, besides one request in ten.
const RUN_REPEATS: u64 = 50;

/// Why a request is sent again; some with what `Retry-After` asks for, in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// 429 with `Stripe-Rate-Limited-Reason`.
    RateLimited(String, Option<u64>),
    /// 429 or 409 without that header: two requests met at one object.
    LockTimeout(Option<u64>),
    /// 5xx and the like.
    Server(u16, Option<u64>),
    /// Stripe said not to repeat this 5xx; one late repetition is spent on it all the same.
    ServerFinal(u16, Option<u64>),
    /// No connection.
    Unreachable,
    /// A connection that broke off or said nothing.
    Network,
    /// A body that is not what a page of Stripe's looks like.
    Broken,
    /// A body over the limit; a smaller page may be under it.
    TooLarge,
    /// A page that fits what was asked for, and does not fit what is known of the list.
    Doubtful,
    /// The object behind which the page begins is not visible any more.
    CursorGone,
}

impl Reason {
    /// Whether a smaller page might have come through. Stripe's advice for a 500 on a page of 100.
    pub fn is_heavy(&self) -> bool {
        matches!(self, Reason::Network | Reason::Server(500.., _))
    }

    /// Whether there is more to say of what went wrong than this.
    pub fn is_vague(&self) -> bool {
        matches!(self, Reason::Unreachable | Reason::Network | Reason::Broken)
    }

    /// Whether the server, or the way to it, may be down for all.
    pub fn may_be_an_outage(&self) -> bool {
        matches!(self, Reason::Unreachable | Reason::Network | Reason::Server(500.., _))
    }

    /// Whether repeating it draws on what the whole run may repeat. What Stripe asks to repeat does not: a
    /// minute of 429 would leave nothing for the rest of the run.
    pub fn draws_on_the_run(&self) -> bool {
        use Reason::{CursorGone, Doubtful, LockTimeout, RateLimited, TooLarge};
        !matches!(self, RateLimited(_, _) | LockTimeout(_) | TooLarge | Doubtful | CursorGone)
    }

    fn asked_secs(&self) -> u64 {
        match self {
            Reason::RateLimited(_, asked)
            | Reason::LockTimeout(asked)
            | Reason::Server(_, asked)
            | Reason::ServerFinal(_, asked) => asked.unwrap_or(0).min(LONGEST_ASKED),
            _ => 0,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::RateLimited(reason, _) => write!(f, "Stripe asked to slow down ({reason})"),
            Reason::LockTimeout(_) => f.write_str("lock timeout"),
            Reason::Server(status, _) | Reason::ServerFinal(status, _) => write!(f, "status {status}"),
            Reason::Unreachable => f.write_str("no connection"),
            Reason::Network => f.write_str("the connection broke off or said nothing"),
            Reason::Broken => f.write_str("broken answer"),
            Reason::TooLarge => f.write_str("answer too large"),
            Reason::Doubtful => f.write_str("a page that does not fit the list"),
            Reason::CursorGone => f.write_str("the object before the page has vanished"),
        }
    }
}

/// The attempts at one request so far, the failed one included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    pub attempts: u32,
    /// Attempts after which Stripe asked for another, or for a smaller page; they say nothing about faults.
    pub asked: u32,
    /// Answers that were no page.
    pub broken: u32,
    /// Failures that a smaller page might have avoided.
    pub heavy: u32,
    pub too_large: u32,
    /// Since the first one began.
    pub elapsed: Duration,
}

impl Tries {
    pub fn count(&mut self, reason: &Reason) {
        self.asked += u32::from(!reason.draws_on_the_run());
        self.broken += u32::from(*reason == Reason::Broken);
        self.heavy += u32::from(reason.is_heavy());
        self.too_large += u32::from(*reason == Reason::TooLarge);
    }

    /// How often to halve the page: at once where it was too large, from the second failure on where its
    /// size is only suspected. Eight attempts at 100 objects end with a page of one.
    pub fn halvings(&self) -> u32 {
        self.too_large + self.heavy_halvings()
    }

    /// Those of them for what the list bears, whatever its objects.
    pub fn heavy_halvings(&self) -> u32 {
        self.heavy.saturating_sub(1)
    }
}

/// What a run has sent so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    pub requests: u64,
    /// Repetitions that draw on the run.
    pub repeated: u64,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Wait(Duration),
    GiveUp(Spent),
}

/// What there is no more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    Attempts(u32),
    /// Attempts within the patience for one request.
    Patience(u32, Duration),
    /// Attempts; another request was repeated in vain for all.
    Others(u32),
    /// Attempts; the run has repeated as much as it may.
    Run(u32, Sent),
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Spent::Attempts(n) => write!(f, "tried {}", times(*n)),
            Spent::Patience(n, time) => write!(f, "tried {} in {} s", times(*n), time.as_secs()),
            Spent::Others(n) => write!(f, "tried {}; nothing else got through either", times(*n)),
            Spent::Run(n, Sent { requests, repeated }) => write!(
                f,
                "tried {}; the run has sent {requests} requests and repeated {repeated}, more than {RUN_REPEATS} and a tenth",
                times(*n)
            ),
        }
    }
}

fn times(n: u32) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
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

    /// Whether to try again, and when.
    ///
    /// What Stripe asks to repeat is repeated until patience ends, anything else also until it was tried
    /// often enough or the run has repeated 50 requests and one in ten, so that a dead server is not stormed.
    pub fn next(&self, reason: &Reason, tries: &Tries, sent: Sent) -> Next {
        let attempts = match reason {
            reason if !reason.draws_on_the_run() => u32::MAX,
            Reason::ServerFinal(..) => 2,
            _ => self.attempts,
        };
        if tries.attempts - tries.asked >= attempts || tries.broken >= self.broken_attempts {
            return Next::GiveUp(Spent::Attempts(tries.attempts));
        }
        if tries.elapsed >= self.patience {
            return Next::GiveUp(Spent::Patience(tries.attempts, self.patience));
        }
        if reason.draws_on_the_run() && sent.repeated >= RUN_REPEATS + sent.requests / 10 {
            return Next::GiveUp(Spent::Run(tries.attempts, sent));
        }
        let backoff = (FIRST * 2f64.powi(tries.attempts.min(16) as i32 - 1)).min(LONGEST);
        let random = self.rng.lock().expect("no panic while drawing").f64();
        // What Stripe asks to repeat must not come back in step; an outage has to be outlasted by few attempts.
        let share = if reason.may_be_an_outage() { 0.5 + random / 2.0 } else { random };
        let wait = match reason {
            Reason::ServerFinal(..) => LATE,
            // Another page is asked for: there is nothing to wait for.
            Reason::TooLarge => SHORTEST,
            _ => Duration::from_secs_f64(share * backoff).max(SHORTEST),
        };
        Next::Wait(wait.max(Duration::from_secs(reason.asked_secs())))
    }
}
