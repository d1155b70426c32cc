//! Turns one request into a response, or into the reason why there is none.

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;

/// One GET of the Stripe API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Starts with `/v1/`.
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Whether it goes before others that wait for the limits.
    pub is_urgent: bool,
}

impl Request {
    pub fn new(path: &str) -> Request {
        Request { path: path.to_owned(), query: Vec::new(), is_urgent: false }
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
    /// No connection: no such name, or a refusal.
    Unreachable(String),
    /// A connection that was reset, said nothing for too long, or a body that broke off.
    Network(String),
    /// A body that is not the gzip that it says it is.
    Garbled(String),
    /// A body in an encoding that was not asked for.
    Encoding(String),
    /// The proxy lets nothing through: what it says, and where it is named.
    Proxy { what: String, named: String, wants_password: bool },
    /// Answered by another version of the API than was asked for: what it means is not known here.
    OtherVersion { asked: String, answered: String },
    /// The server's certificate is not trusted; repeating does not help.
    Certificate(String),
    /// The inflated body passed the limit, in bytes; with its first few.
    TooLarge { limit: usize, start: Bytes },
}

/// The way to Stripe: HTTP, or the fake account in memory.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends one GET. Credentials and version are the transport's own.
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>>;
}
