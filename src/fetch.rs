//! Turns a slice into pages: cursor, retries, limits and the strict envelope around one GET.

pub mod allowance;
pub mod answer;
pub mod envelope;
pub mod http;
pub mod limit;
pub mod retry;
pub mod slice;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::error::{Error, Kind};
use crate::fetch::allowance::Allowance;
use crate::fetch::answer::{Answer, judge, judge_failure};
use crate::fetch::envelope::Envelope;
use crate::fetch::limit::Limits;
use crate::fetch::retry::{Policy, Reason};

/// One GET of the Stripe API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Starts with `/v1/`.
    pub path: String,
    pub query: Vec<(String, String)>,
}

impl Request {
    pub fn new(path: &str) -> Request {
        Request { path: path.to_owned(), query: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Request {
        self.query.push((name.to_owned(), value.into()));
        self
    }
}

/// What came back, whatever its status; the body is inflated.
#[derive(Debug, Clone, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Bytes,
}

/// The response headers that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    pub request_id: Option<String>,
    /// Stripe's clock, unix seconds.
    pub date: Option<i64>,
    pub content_type: Option<String>,
    pub location: Option<String>,
    pub rate_limited_reason: Option<String>,
    pub should_retry: Option<bool>,
    pub retry_after_secs: Option<u64>,
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportError {
    /// No connection: name, refusal, reset, time-out, or a body that broke off.
    Network(String),
    /// The server's certificate is not trusted; repeating does not help.
    Certificate(String),
    /// The inflated body passed the limit, in bytes.
    TooLarge(usize),
}

/// The way to Stripe: HTTP, or the fake account in memory.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends one GET. Credentials and version are the transport's own.
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>>;
}

/// What the caller is told while requests go on.
#[derive(Debug, Clone)]
pub struct Notice {
    pub path: String,
    pub reason: Reason,
    pub attempt: u32,
    pub wait: Duration,
}

/// Called for every retry.
pub type OnRetry = Arc<dyn Fn(&Notice) + Send + Sync>;

/// Requests of this run so far.
#[derive(Debug, Default)]
pub struct Counters {
    pub requests: AtomicU64,
    pub retries: AtomicU64,
    /// Answers that asked to slow down.
    pub slowdowns: AtomicU64,
    /// Stripe's clock at the newest answer, unix seconds; 0 before the first.
    pub server_date: AtomicI64,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page {
    pub body: Bytes,
    pub envelope: Envelope,
    /// When the answer came, microseconds since 1970.
    pub observed_at: i64,
    pub request_id: Option<String>,
    /// Set by the slice: only the last pass over a list settles what came before.
    pub is_last_pass: bool,
}

/// Why there is no page.
#[derive(Debug)]
pub enum FetchError {
    /// The object that `starting_after` names is not visible any more.
    CursorGone,
    Failed(Error),
}

/// Sends requests within the limits and repeats what is worth repeating.
pub struct Fetcher {
    transport: Arc<dyn Transport>,
    limits: Limits,
    policy: Policy,
    pub allowance: Allowance,
    pub counters: Counters,
    on_retry: OnRetry,
}

impl Fetcher {
    pub fn new(
        transport: Arc<dyn Transport>,
        limits: Limits,
        policy: Policy,
        allowance: Allowance,
        on_retry: OnRetry,
    ) -> Fetcher {
        Fetcher { transport, limits, policy, allowance, counters: Counters::default(), on_retry }
    }

    /// One response of status 200, unless a signal comes first.
    async fn get<T>(
        &self,
        request: &Request,
        accept: impl Fn(&Response) -> std::result::Result<T, String>,
    ) -> std::result::Result<(Response, T), FetchError> {
        tokio::select! {
            biased;
            signal = self.allowance.closed() => Err(FetchError::Failed(signal)),
            answer = self.attempts(request, accept) => answer,
        }
    }

    /// One response of status 200, after as many attempts as it takes.
    ///
    /// `accept` looks at the body; what it refuses counts as a broken answer and is asked for again.
    async fn attempts<T>(
        &self,
        request: &Request,
        accept: impl Fn(&Response) -> std::result::Result<T, String>,
    ) -> std::result::Result<(Response, T), FetchError> {
        let started = Instant::now();
        let mut attempt = 0;
        let mut broken = 0;
        loop {
            attempt += 1;
            let is_ready = self.allowance.wait(self.limits.ready(&request.path)).await;
            is_ready.and_then(|()| self.allowance.take()).map_err(FetchError::Failed)?;
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
            let answer = match self.transport.get(request).await {
                Ok(response) => {
                    let date = response.headers.date.unwrap_or(0);
                    self.counters.server_date.fetch_max(date, Ordering::Relaxed);
                    judge(request, response, &accept)
                }
                Err(error) => judge_failure(error),
            };
            let (reason, error) = match answer {
                Answer::Accepted(response, value) => return Ok((response, value)),
                Answer::CursorGone => return Err(FetchError::CursorGone),
                Answer::Refused(error) => return Err(FetchError::Failed(error)),
                Answer::Retry(reason, error) => (reason, error),
            };
            if reason.is_slowdown() {
                self.limits.slow_down(&request.path);
                self.counters.slowdowns.fetch_add(1, Ordering::Relaxed);
            }
            broken += u32::from(matches!(reason, Reason::Broken));
            let requests = self.counters.requests.load(Ordering::Relaxed);
            let retries = self.counters.retries.load(Ordering::Relaxed);
            let wait = self.policy.wait(&reason, attempt, broken, started.elapsed(), requests, retries);
            let Some(wait) = wait else {
                let times = if attempt == 1 { "once".to_owned() } else { format!("{attempt} times") };
                return Err(FetchError::Failed(error.context(format!("{} (tried {times})", request.path))));
            };
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
            (self.on_retry)(&Notice { path: request.path.clone(), reason, attempt, wait });
            self.allowance.wait(tokio::time::sleep(wait)).await.map_err(FetchError::Failed)?;
        }
    }

    /// Stripe's clock at the newest answer, unix seconds.
    pub fn server_date(&self) -> Option<i64> {
        Some(self.counters.server_date.load(Ordering::Relaxed)).filter(|date| *date > 0)
    }

    /// One page of a list, with its envelope checked.
    pub async fn page(&self, request: &Request) -> std::result::Result<Page, FetchError> {
        let (response, envelope) = self.get(request, |r| Envelope::parse(&r.body)).await?;
        Ok(Page {
            body: response.body,
            envelope,
            observed_at: Timestamp::now().as_microsecond(),
            request_id: response.headers.request_id,
            is_last_pass: true,
        })
    }

    /// One JSON object.
    pub async fn object(&self, request: &Request) -> Result<serde_json::Value, Error> {
        let parse = |r: &Response| serde_json::from_slice(&r.body).map_err(|e| e.to_string());
        match self.get(request, parse).await {
            Ok((_, value)) => Ok(value),
            Err(FetchError::Failed(error)) => Err(error),
            Err(FetchError::CursorGone) => {
                Err(Error::new(Kind::Partial, "expected an object, got resource_missing"))
            }
        }
    }
}
