//! Turns budgets and signals into the moment after which a run sends no further request.
//!
//! A budget lets the answers in flight come, if they come soon; a signal does not wait for them.

use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{Error, Kind};

/// How long the answer to a request may still take when the run's time is over: as long as a run has to end after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// What a run may ask for at most.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budgets {
    /// Requests of the run, retries and the account's among them.
    pub requests: Option<u64>,
    /// From the start of the run.
    pub duration: Option<Duration>,
}

/// Counts what is left, and knows whether the run has ended early.
#[derive(Debug)]
pub struct Allowance {
    budgets: Budgets,
    deadline: Option<Instant>,
    n_left: Mutex<u64>,
    /// The signal that ended the run.
    signal: watch::Sender<Option<Kind>>,
    /// Whether a request was refused because of a budget.
    is_spent: AtomicBool,
}

impl Allowance {
    /// `started` is when the run began.
    pub fn new(budgets: Budgets, started: Instant) -> Allowance {
        Allowance {
            budgets,
            deadline: budgets.duration.and_then(|duration| started.checked_add(duration)),
            n_left: Mutex::new(budgets.requests.unwrap_or(u64::MAX)),
            signal: watch::Sender::new(None),
            is_spent: AtomicBool::new(false),
        }
    }

    /// Whether requests must be economised.
    pub fn is_counted(&self) -> bool {
        self.budgets.requests.is_some()
    }

    /// `None` where they are not counted.
    pub fn requests_left(&self) -> Option<u64> {
        self.is_counted().then(|| *self.n_left.lock().expect("no panic while counting"))
    }

    /// Lets one more request be sent, or fails with [`Kind::Budget`].
    pub fn take(&self) -> Result<(), Error> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(self.spent());
        }
        let mut left = self.n_left.lock().expect("no panic while counting");
        match left.checked_sub(1) {
            Some(less) => *left = less,
            None => return Err(self.spent()),
        }
        Ok(())
    }

    /// Until the end of the budget of time.
    pub fn time_left(&self) -> Duration {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        self.deadline.map_or(Duration::MAX, left)
    }

    /// Waits for `wait`, no longer than there is time.
    pub async fn wait<T>(&self, wait: impl Future<Output = T>) -> Result<T, Error> {
        self.wait_until(self.deadline, wait).await
    }

    /// Waits for an answer in flight, a little longer than there is time: it is paid for.
    pub async fn wait_for_answer<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        self.wait_until(self.deadline.and_then(|deadline| deadline.checked_add(GRACE)), answer).await
    }

    async fn wait_until<T>(&self, end: Option<Instant>, wait: impl Future<Output = T>) -> Result<T, Error> {
        match end {
            None => Ok(wait.await),
            Some(end) => tokio::time::timeout_at(end, wait).await.map_err(|_| self.spent()),
        }
    }

    /// Drops the requests in flight, too.
    pub fn close(&self, signal: Kind) {
        self.signal.send_replace(Some(signal));
    }

    /// The signal, once there is one.
    pub async fn closed(&self) -> Error {
        let mut signal = self.signal.subscribe();
        let kind = signal.wait_for(Option::is_some).await.map(|kind| *kind);
        interrupted(kind.ok().flatten().expect("the sender lives as long as this"))
    }

    /// Why no further request is sent; `None` while there may be one.
    pub fn ended(&self) -> Option<Error> {
        let signal = *self.signal.borrow();
        signal.map(interrupted).or_else(|| self.is_spent.load(Ordering::SeqCst).then(|| self.spent()))
    }

    fn spent(&self) -> Error {
        self.is_spent.store(true, Ordering::SeqCst);
        let Budgets { requests, duration } = self.budgets;
        let is_late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let what = match (requests, duration) {
            (_, Some(duration)) if is_late => format!("--max-duration of {} s", duration.as_secs_f64()),
            (requests, _) => format!("--max-requests of {}", requests.unwrap_or(0)),
        };
        Error::new(Kind::Budget, format!("{what} reached"))
    }
}

fn interrupted(signal: Kind) -> Error {
    Error::new(signal, "interrupted by a signal")
}
