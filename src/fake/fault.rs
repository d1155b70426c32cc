//! Names what can be wrong with an answer, and with the account behind it.

use std::time::Duration;

use super::script::Rules;
use super::traffic::Rates;

/// What is wrong with the answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// An error in Stripe's shape.
    Refuse(Refusal),
    /// The right answer, later.
    Delay(Duration),
    /// No answer, and an open connection.
    Hang,
    /// The connection is reset.
    Reset(Moment),
    /// Half of the body that `Content-Length` announces, and an end.
    ShortBody,
    /// A chunked body whose last chunk is missing.
    NoLastChunk,
    Gzip(BadGzip),
    /// A byte of the head, or of the body, at a time.
    Drip {
        head: bool,
        pause: Duration,
    },
    /// A page of a proxy.
    Html(u16),
    Redirect {
        status: u16,
        to: String,
    },
    /// So many megabytes of a page, in a thousandth of that.
    Bomb(usize),
    /// A body that does not end before this many megabytes.
    Endless(usize),
    /// The page with something wrong in it.
    Page(Damage),
    /// The right answer, of an account in which something has happened.
    Change(Change),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    BeforeHead,
    InBody,
    AfterBody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadGzip {
    Truncated,
    Crc,
    /// It says gzip and is not.
    Plain,
}

/// How a page is spoiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    NoHasMore,
    HasMoreText,
    HasMoreNull,
    HasMoreAlways,
    NoData,
    DataObject,
    NoList,
    NoMore,
    Garbage,
    Nul,
    Trailing,
    Empty,
    OtherMode,
}

/// What happens to the list that is asked for, right before the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// So many objects that were held back, the newest, are there.
    Appear(u64),
    /// So many objects that were held back, from anywhere in the list, are there.
    Late(u64),
    /// So many objects have another `metadata.revision`.
    Edit(u64),
    /// So many of the newest objects are gone.
    Vanish(u64),
    /// The object that `starting_after` names is gone, and those before it, so many in all.
    VanishCursor(u64),
}

/// An error of the API and the headers that go with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Refusal {
    pub status: u16,
    pub kind: Option<String>,
    pub code: Option<String>,
    pub message: Option<String>,
    pub param: Option<String>,
    /// `Stripe-Rate-Limited-Reason`
    pub reason: Option<String>,
    /// `Stripe-Should-Retry`
    pub should_retry: Option<bool>,
    /// `Retry-After`, seconds.
    pub retry_after: Option<u64>,
}

/// How a server misbehaves.
#[derive(Debug, Default)]
pub struct Faults {
    pub rules: Rules<Fault>,
    /// Before every answer.
    pub latency: Duration,
    pub rates: Option<Rates>,
    /// What `appear` and `late` will show.
    pub held_back: Vec<HeldBack>,
}

/// Objects of a list that are not there at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBack {
    pub path: String,
    pub n: u64,
    /// The newest ones, or any.
    pub newest: bool,
}
