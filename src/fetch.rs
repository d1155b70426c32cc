//! Turns a slice into pages: cursor, retries, limits and the strict envelope around one GET.
//!
//! What a page is turned into is the caller's: it is asked while a page can still be refused and asked for again.

pub mod allowance;
pub mod answer;
pub mod envelope;
mod buffers;
mod gunzip;
pub mod http;
pub mod limit;
mod outage;
mod refusal;
pub mod retry;
pub mod size;
pub mod slice;
pub(crate) mod trail;
pub mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use crate::error::{Error, Kind};
use crate::fetch::allowance::Allowance;
use crate::fetch::answer::{Answer, Unfit, judge, judge_failure};
use crate::fetch::envelope::Envelope;
use crate::fetch::limit::Limits;
use crate::fetch::outage::{Outage, Turn};
use crate::fetch::retry::{Next, Policy, Reason, Sent, Spent, Tries};
use crate::fetch::size::{Came, PageSizes, halved};
pub use crate::fetch::transport::{Headers, Request, Response, Transport, TransportError};

/// What the caller is told while requests go on.
#[derive(Debug, Clone)]
pub enum Notice {
    /// The request is sent again after the wait; `said` is what went wrong, where the reason does not say it.
    Retry { path: String, reason: Reason, said: Option<String>, attempt: u32, wait: Duration },
    /// There has been no answer for so long.
    Silence { path: String, time: Duration },
}

/// Called for every notice.
pub type OnNotice = Arc<dyn Fn(&Notice) + Send + Sync>;

/// What helps where many requests break off while others are answered.
const FEWER_AT_ONCE: &str =
    "a proxy, or a slow line, may bear fewer requests at once: repeat with --concurrency 1";
const NOT_REACHED: &str = "see whether Stripe can be reached, then run the same command again";
/// A request without an answer is worth a notice after this time.
const SILENCE: Duration = Duration::from_secs(10);

/// Requests of this run so far.
#[derive(Debug, Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub retries: AtomicU64,
    /// Those of them that draw on what the run may repeat.
    pub repeated: AtomicU64,
    /// Answers that asked to slow down.
    pub slowdowns: AtomicU64,
    /// Pages that were taken.
    pub accepted: AtomicU64,
    /// Milliseconds that all requests together have waited before they were sent again.
    pub waited_ms: AtomicU64,
    /// Stripe's clock at the newest answer, unix seconds; 0 before the first.
    pub server_date: AtomicI64,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T = Bytes> {
    pub envelope: Envelope,
    /// What it was accepted as; its body unless the caller makes something else of it.
    pub content: T,
    /// When the answer came, microseconds since 1970.
    pub observed_at: i64,
    pub request_id: Option<String>,
    /// Set by the slice: only the last pass over a list settles what came before.
    pub is_last_pass: bool,
    /// The objects that it was asked for.
    pub limit: usize,
}

/// Why there is no page.
#[derive(Debug)]
pub enum FetchError {
    /// The object that `starting_after` names is not visible any more.
    CursorGone,
    /// Not even the smallest page is under the limit. With the start of what came.
    TooLarge(Error, Bytes),
    Failed(Error),
}

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Error {
        match error {
            FetchError::CursorGone => {
                Error::new(Kind::Partial, "expected an object, got resource_missing for starting_after")
            }
            FetchError::TooLarge(error, _) | FetchError::Failed(error) => error,
        }
    }
}

/// Why a request is not sent again.
enum Halt {
    /// By a signal or a budget.
    Ended(Error),
    GivenUp(Spent),
}

/// Sends requests within the limits and repeats what is worth repeating.
pub struct Fetcher {
    transport: Arc<dyn Transport>,
    limits: Limits,
    policy: Policy,
    outage: Outage,
    sizes: PageSizes,
    pub allowance: Allowance,
    pub counters: Counters,
    on_notice: OnNotice,
}

impl Fetcher {
    pub fn new(
        transport: Arc<dyn Transport>,
        limits: Limits,
        policy: Policy,
        allowance: Allowance,
        on_notice: OnNotice,
    ) -> Fetcher {
        let (counters, outage, sizes) = (Counters::default(), Outage::default(), PageSizes::default());
        Fetcher { transport, limits, policy, outage, sizes, allowance, counters, on_notice }
    }

    /// Whether reading one more slice of the list at `path` at a time would only wait for the limits.
    pub fn is_saturated(&self, path: &str) -> bool {
        self.limits.is_saturated(path)
    }

    /// One response of status 200, unless a signal comes first.
    async fn get<T>(
        &self,
        ask: impl Fn(u32) -> Request,
        accept: impl FnMut(&Response) -> Result<T, Unfit>,
    ) -> Result<(Response, T, Tries), FetchError> {
        tokio::select! {
            biased;
            signal = self.allowance.closed() => Err(FetchError::Failed(signal)),
            answer = self.attempts(ask, accept) => answer,
        }
    }

    /// One response of status 200, after as many attempts as it takes, and how they went.
    ///
    /// `ask` makes the request with a page halved so often; it may make the same one every time. `accept`
    /// looks at the body; what it finds broken is asked for again.
    async fn attempts<T>(
        &self,
        ask: impl Fn(u32) -> Request,
        mut accept: impl FnMut(&Response) -> Result<T, Unfit>,
    ) -> Result<(Response, T, Tries), FetchError> {
        let started = Instant::now();
        let mut tries = Tries::default();
        let mut last = None;
        // Held while other requests wait for what becomes of this one.
        let mut asking = None;
        loop {
            let request = ask(tries.halvings());
            tries.attempts += 1;
            let answer = self.send(&request, &mut accept).await;
            let answer = answer.map_err(|ended| self.cause(ended, last.take(), &request))?;
            match &answer {
                Answer::Retry(reason, _) if reason.may_be_an_outage() => self.outage.failed(),
                Answer::Retry(Reason::ServerFinal(..), _) => {}
                _ => {
                    self.outage.answered();
                    asking = None;
                }
            }
            let (reason, error) = match answer {
                Answer::Accepted(response, value) => return Ok((response, value, tries)),
                Answer::CursorGone => return Err(FetchError::CursorGone),
                Answer::Refused(error) => return Err(FetchError::Failed(error)),
                Answer::Retry(reason, error) => (reason, error),
                Answer::TooLarge(error, start) => {
                    if ask(tries.halvings() + 1) == request {
                        return Err(FetchError::TooLarge(error.context(request.path), start));
                    }
                    (Reason::TooLarge, error)
                }
            };
            tries.count(&reason);
            tries.elapsed = started.elapsed();
            let is_of_line = matches!(reason, Reason::Unreachable | Reason::Network);
            match self.until_next(&request, reason, &error, &tries, &mut asking).await {
                Ok(()) => last = Some(error),
                Err(Halt::Ended(ended)) => return Err(self.cause(ended, Some(error), &request)),
                Err(Halt::GivenUp(spent)) => {
                    let error = error.context(format!("{} ({spent})", request.path));
                    return Err(FetchError::Failed(match spent {
                        Spent::Run(..) if is_of_line => error.hint(FEWER_AT_ONCE),
                        _ => error,
                    }));
                }
            }
        }
    }

    /// Waits until the request may be sent again; `asking` says whether others wait for its answer.
    async fn until_next<'a>(
        &'a self,
        request: &Request,
        reason: Reason,
        error: &Error,
        tries: &Tries,
        asking: &mut Option<MutexGuard<'a, ()>>,
    ) -> Result<(), Halt> {
        let wait = match self.policy.next(&reason, tries, self.sent()) {
            Next::Wait(wait) => wait,
            Next::GiveUp(spent) => {
                if asking.is_some() {
                    self.outage.give_up();
                }
                return Err(Halt::GivenUp(spent));
            }
        };
        if asking.is_none() && reason.may_be_an_outage() {
            let since = Instant::now();
            match self.turn().await.map_err(Halt::Ended)? {
                Turn::Own => {}
                Turn::Asking(guard) => *asking = Some(guard),
                Turn::GivenUp => return Err(Halt::GivenUp(Spent::Others(tries.attempts))),
                Turn::Over => {
                    self.note_repeat(request, reason, Some(error), tries.attempts, since.elapsed());
                    return Ok(());
                }
            }
        }
        self.wait(request, reason, error, tries.attempts, wait).await.map_err(Halt::Ended)
    }

    /// Whose turn it is to ask, where nothing gets through; others wait for the answer.
    async fn turn(&self) -> Result<Turn<'_>, Error> {
        let turn = self.allowance.wait(self.outage.turn()).await?;
        // The one that asked before has met the end of a budget: so would this one, after its wait.
        let ended = matches!(turn, Turn::Asking(_)).then(|| self.allowance.ended()).flatten();
        ended.map_or(Ok(turn), Err)
    }

    /// Why there is no answer when the run ends while a request is repeated. Where no page has come so far, a
    /// budget is not the cause: a schedule that takes its exit code for a success would never tell of an outage.
    fn cause(&self, ended: Error, last: Option<Error>, request: &Request) -> FetchError {
        let is_silent = ended.kind() == Kind::Budget && self.counters.accepted.load(Ordering::Relaxed) == 0;
        FetchError::Failed(match last.filter(|_| is_silent) {
            Some(last) => {
                let what = format!("{}: {last} ({ended}, and nothing could be read)", request.path);
                let hint = last.hint_text().unwrap_or(NOT_REACHED).to_owned();
                Error::new(Kind::Stripe, what).hint(hint)
            }
            None => ended,
        })
    }

    /// One attempt, when limits and budgets allow it.
    async fn send<T>(
        &self,
        request: &Request,
        accept: impl FnMut(&Response) -> Result<T, Unfit>,
    ) -> Result<Answer<T>, Error> {
        let _at_work = self.allowance.wait(self.limits.ready(&request.path, request.is_urgent)).await?;
        self.allowance.take()?;
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let answer = self.allowance.wait_for_answer(self.exchange(request)).await?;
        Ok(match answer {
            Ok(response) => {
                let date = response.headers.date.unwrap_or(0);
                self.counters.server_date.fetch_max(date, Ordering::Relaxed);
                judge(request, response, accept)
            }
            Err(error) => judge_failure(error),
        })
    }

    /// What the transport answers; that it is silent is told.
    async fn exchange(&self, request: &Request) -> Result<Response, TransportError> {
        let mut answer = self.transport.get(request);
        match tokio::time::timeout(SILENCE, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                (self.on_notice)(&Notice::Silence { path: request.path.clone(), time: SILENCE });
                answer.await
            }
        }
    }

    async fn wait(
        &self,
        request: &Request,
        reason: Reason,
        error: &Error,
        attempt: u32,
        wait: Duration,
    ) -> Result<(), Error> {
        let counters = &self.counters;
        if let Reason::RateLimited(scope, _) = &reason {
            self.limits.slow_down(&request.path, scope);
            counters.slowdowns.fetch_add(1, Ordering::Relaxed);
        }
        counters.repeated.fetch_add(u64::from(reason.draws_on_the_run()), Ordering::Relaxed);
        self.note_repeat(request, reason, Some(error), attempt, wait);
        self.allowance.wait(tokio::time::sleep(wait)).await
    }

    /// What the caller asks for once more is a repetition, too.
    pub fn note_another(&self, path: &str, reason: Reason) {
        self.note_repeat(&Request::new(path), reason, None, 1, Duration::ZERO);
    }

    fn note_repeat(
        &self,
        request: &Request,
        reason: Reason,
        error: Option<&Error>,
        attempt: u32,
        wait: Duration,
    ) {
        self.counters.retries.fetch_add(1, Ordering::Relaxed);
        self.counters.waited_ms.fetch_add(wait.as_millis() as u64, Ordering::Relaxed);
        let said = error.filter(|_| reason.is_vague()).map(Error::to_string);
        (self.on_notice)(&Notice::Retry { path: request.path.clone(), reason, said, attempt, wait });
    }

    fn sent(&self) -> Sent {
        Sent {
            requests: self.counters.requests.load(Ordering::Relaxed),
            repeated: self.counters.repeated.load(Ordering::Relaxed),
        }
    }

    /// Stripe's clock at the newest answer, unix seconds.
    pub fn server_date(&self) -> Option<i64> {
        Some(self.counters.server_date.load(Ordering::Relaxed)).filter(|date| *date > 0)
    }

    /// One page of a list, with its envelope checked, of as many objects as the list bears.
    ///
    /// `most` is what its objects leave room for; `ask` makes the request for so many.
    pub async fn smaller_page(
        &self,
        most: usize,
        ask: impl Fn(usize) -> Request,
    ) -> Result<(Page, Came), FetchError> {
        let accept = |body: &Bytes, _| Ok((Envelope::parse(body).map_err(Unfit::Broken)?, body.clone()));
        self.page_as(most, ask, accept).await
    }

    /// As [`Fetcher::smaller_page`]; `accept` checks the page, and makes its content of the body and of when
    /// it came. It is called for each answer of status 200, and only what it made of the last one counts.
    pub async fn page_as<T>(
        &self,
        most: usize,
        ask: impl Fn(usize) -> Request,
        mut accept: impl FnMut(&Bytes, i64) -> Result<(Envelope, T), Unfit>,
    ) -> Result<(Page<T>, Came), FetchError> {
        let accept = |response: &Response| {
            let observed_at = Timestamp::now().as_microsecond();
            let (envelope, content) = accept(&response.body, observed_at)?;
            let request_id = response.headers.request_id.clone();
            Ok(Page { envelope, content, observed_at, request_id, is_last_pass: true, limit: 0 })
        };
        let path = ask(most).path;
        let asked = self.sizes.next(&path).min(most);
        let (_, page, tries) = self.get(|times| ask(halved(asked, times)), accept).await?;
        let page = Page { limit: halved(asked, tries.halvings()), ..page };
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.sizes.note(&path, Came { asked, got: halved(asked, tries.heavy_halvings()) });
        let n_halvings = if tries.too_large > 0 { tries.halvings() } else { 0 };
        Ok((page, Came { asked, got: halved(asked, n_halvings) }))
    }

    /// What is wanted of one object of Stripe's. `take` may say what is wrong with it; then it is asked for again.
    pub async fn object<T>(
        &self,
        request: &Request,
        take: impl Fn(&serde_json::Value) -> Result<T, String>,
    ) -> Result<T, Error> {
        let accept = |response: &Response| {
            let value = serde_json::from_slice(&response.body).map_err(|e| Unfit::Broken(e.to_string()))?;
            take(&value).map_err(Unfit::Broken)
        };
        let (_, taken, _) = self.get(|_| request.clone(), accept).await?;
        Ok(taken)
    }
}
