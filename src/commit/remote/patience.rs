//! Turns requests that are not answered, or break off, into repeated ones.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};
use object_store::{Error, Result};
use tokio::time::{Instant, sleep, timeout};

use crate::commit::remote::failed::{chain, status};
use crate::error::causes;

/// Stores answer within a second. After so long without an answer, or without a byte of one, a connection is given up: it
/// may have been forgotten by something on the way, and a new one works.
pub const ANSWER: Duration = Duration::from_secs(30);
/// A store that puts the parts of a large object together may take minutes.
pub const COMPLETION: Duration = Duration::from_secs(600);
/// How slowly a body may go, in bytes per second: a line of 1 Mbit/s that four files share. Nothing tells how much of one has
/// gone, so this is also what a silent connection costs: half an hour for the largest single PUT.
const SLOWEST: u64 = 32 << 10;

/// So often at least, and for so long after the first failure, it is tried again.
const FEWEST_TRIES: u32 = 3;
const RETRIES: Duration = Duration::from_secs(20);
/// For so long where a store that has answered does no longer: it may be started anew.
const OUTAGE: Duration = Duration::from_secs(180);
/// And for so long for each further write behind one that was waited for in vain.
const LAST_ANSWER: Duration = Duration::from_secs(3);
/// No failure for so long is the end of an outage of writes, where none has been tried.
const QUIET: Duration = Duration::from_secs(60);
/// So often it is told that a write is still on its way.
const SILENCE: Duration = Duration::from_secs(10);
/// How the codes begin by which a store says that it may do later what it does not now. A removal is refused with status 200 and
/// such a code.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>
const PASSING: [&str; 4] = ["InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"];
const NO_ANSWER: &str = "no answer within";
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Of doublings of the wait.
const MOST_DOUBLINGS: u32 = 6;

/// How long sending so many bytes may take.
fn sending(n_bytes: u64) -> Duration {
    Duration::from_secs(n_bytes / SLOWEST)
}

/// What of a store takes long.
#[derive(Debug)]
pub enum Delay {
    /// It is asked again and again; why.
    Outage(String),
    /// A write is on its way for so long.
    Silence { path: String, time: Duration },
}

#[derive(Debug, Clone, Copy)]
struct Unwritten {
    since: Instant,
    failed: Instant,
    /// Whether no write but the lease's has failed.
    is_of_lease: bool,
}

impl Unwritten {
    /// Whether it may have lasted until then. Of a failure long before nothing is known.
    fn lasts(&self, until: Instant) -> bool {
        until.duration_since(self.failed) < QUIET
    }
}

type Tell = Box<dyn Fn(Delay) + Send + Sync>;

/// For how long one store is asked again, by all who ask it.
#[derive(Default)]
pub struct Patience {
    has_answered: AtomicBool,
    /// An outage has lasted for too long: until it ends, who asks is not patient any more.
    is_given_up: AtomicBool,
    /// Since when no write has succeeded, and when the last one has failed.
    unwritten: Mutex<Option<Unwritten>>,
    /// When an outage was told.
    told: Mutex<Option<Instant>>,
    tell: OnceLock<Tell>,
    deadline: OnceLock<Instant>,
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience").field("is_given_up", &self.is_given_up).finish_non_exhaustive()
    }
}

impl Patience {
    /// Whom delays are told.
    pub fn on_delay(&self, tell: impl Fn(Delay) + Send + Sync + 'static) {
        let _ = self.tell.set(Box::new(tell));
    }

    /// The answer, or an error where none comes in time.
    pub async fn within<T>(&self, limit: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let answer = timeout(limit, answer).await.unwrap_or_else(|_| {
            Err(Error::Generic { store: "S3", source: format!("{NO_ANSWER} {limit:?}").into() })
        });
        if !answer.as_ref().is_err_and(may_pass) {
            self.has_answered.store(true, Ordering::Relaxed);
            self.is_given_up.store(false, Ordering::Relaxed);
        }
        answer
    }

    /// Asks again while an answer is broken or does not come; for what may happen twice.
    pub async fn repeated<T, F: Future<Output = Result<T>>>(&self, ask: impl Fn() -> F) -> Result<T> {
        self.tries().repeated(ask).await
    }

    pub fn tries(&self) -> Tries<'_> {
        let (outage, others) = (Failures::default(), Failures::default());
        Tries { patience: self, are_of_write: false, outage, others }
    }

    /// Those of a write are over as soon as no write has succeeded for as long as an outage is waited for.
    pub fn tries_to_write(&self) -> Tries<'_> {
        Tries { are_of_write: true, ..self.tries() }
    }

    /// Whether another try may go better. Where nothing has ever listened, the client has tried for long enough.
    pub fn may_pass(&self, error: &Error) -> bool {
        may_pass(error) && (!could_not_connect(error) || self.has_answered.load(Ordering::Relaxed))
    }

    /// An outage is not waited for beyond this time.
    pub fn until(&self, deadline: Instant) {
        let _ = self.deadline.set(deadline);
    }

    pub fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// Whether no write has succeeded for as long as an outage is waited for, although the store may be read: each further one is
    /// a single request.
    pub fn writes_are_given_up(&self) -> bool {
        self.unwritten_since().is_some_and(|since| since.elapsed() > OUTAGE)
    }

    fn unwritten_since(&self) -> Option<Instant> {
        let unwritten = *self.unwritten.lock().expect("no panic while writing");
        unwritten.filter(|unwritten| unwritten.lasts(Instant::now())).map(|unwritten| unwritten.since)
    }

    /// Notes what became of a write that began then. The lease's may succeed where no other does: a store may refuse by names. Then
    /// it ends no outage but its own.
    fn note_write(&self, began: Instant, has_failed: bool, is_lease: bool) {
        let mut unwritten = self.unwritten.lock().expect("no panic while writing");
        let now = Instant::now();
        let before = unwritten.filter(|unwritten| unwritten.lasts(began));
        *unwritten = match (has_failed, is_lease) {
            (true, _) => Some(Unwritten {
                since: before.map_or(now, |before| before.since),
                failed: now,
                is_of_lease: is_lease && before.is_none_or(|before| before.is_of_lease),
            }),
            (false, true) => unwritten.filter(|unwritten| !unwritten.is_of_lease),
            (false, false) => None,
        };
    }

    /// Whether a store that has answered does no longer.
    pub fn has_ended(&self, error: &Error) -> bool {
        is_outage(error) && self.has_answered.load(Ordering::Relaxed)
    }

    fn how_long(&self, error: &Error) -> Duration {
        let has_time = self.deadline.get().is_none_or(|deadline| Instant::now() < *deadline);
        if has_time && self.has_ended(error) { OUTAGE } else { RETRIES }
    }

    fn tell_outage(&self, error: &Error) {
        let mut told = self.told.lock().expect("no panic while telling");
        if let Some(tell) = self.tell.get().filter(|_| told.is_none_or(|told| told.elapsed() >= OUTAGE)) {
            let now = Instant::now();
            *told = Some(now);
            let left = self.deadline.get().map_or(OUTAGE, |deadline| deadline.duration_since(now));
            tell(Delay::Outage(format!(
                "the store does not answer as it should, and is asked again for up to {} s: {}",
                left.min(OUTAGE).as_secs(),
                chain(error)
            )));
        }
    }

    /// What becomes of the write of so many bytes, of the lease or of something else. That it takes long is told again and again;
    /// that no write succeeds, once.
    pub async fn write<T>(
        &self,
        path: &str,
        n_bytes: u64,
        is_lease: bool,
        write: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut trying = Trying { patience: self, began: Instant::now(), is_lease, has_failed: true };
        let answer = if self.writes_are_given_up() { LAST_ANSWER } else { ANSWER };
        let written = self.within(answer + sending(n_bytes), self.told(path, write)).await;
        let failed = written.as_ref().err().filter(|error| self.has_ended(error));
        trying.has_failed = failed.is_some();
        drop(trying);
        let since = self.unwritten_since();
        // A store that can be read may be out for writes: each waits for the lease, and none of them long enough to tell.
        let is_long = since.is_some_and(|since| (RETRIES..OUTAGE).contains(&since.elapsed()));
        if let Some(error) = failed.filter(|error| is_long && self.how_long(error) == OUTAGE) {
            self.tell_outage(error);
        }
        written
    }

    async fn told<T>(&self, path: &str, write: impl Future<Output = T>) -> T {
        tokio::pin!(write);
        let mut time = Duration::ZERO;
        loop {
            if let Ok(written) = timeout(SILENCE, &mut write).await {
                return written;
            }
            time += SILENCE;
            if let Some(tell) = self.tell.get() {
                tell(Delay::Silence { path: path.to_owned(), time });
            }
        }
    }
}

/// A write that is on its way. One that nobody waits for any longer, such as a renewal, has failed, too.
struct Trying<'a> {
    patience: &'a Patience,
    began: Instant,
    is_lease: bool,
    has_failed: bool,
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        self.patience.note_write(self.began, self.has_failed, self.is_lease);
    }
}

/// Whether an error is that of a store which is out, and may come back. An answer that makes no sense is no outage.
fn is_outage(error: &Error) -> bool {
    let text = chain(error);
    let is_of_line =
        || causes(error).any(|cause| cause.downcast_ref::<HttpError>().is_some()) || text.contains(NO_ANSWER);
    may_pass(error)
        && match status(&text) {
            Some(status) => !matches!(status, 501 | 505 | 507),
            None => is_of_line() || removal_code(&text).is_some(),
        }
}

/// Why the store has not removed an object, by its own code.
fn removal_code(text: &str) -> Option<&str> {
    let (_, refusal) = text.split_once("DeleteObjects request failed")?;
    Some(refusal.rsplit_once("(code: ")?.1.split_once(')')?.0)
}

/// Whether nothing has listened, the connection broke, no answer came, or the server has a fault or lost patience with the body.
fn may_pass(error: &Error) -> bool {
    let text = chain(error);
    matches!(error, Error::Generic { .. })
        && (status(&text).is_none_or(|status| matches!(status, 408 | 429 | 500..))
            || text.contains("<Code>RequestTimeout</Code>"))
        && removal_code(&text).is_none_or(|code| PASSING.iter().any(|passing| code.starts_with(passing)))
        && !is_odd_completion(error)
}

/// Whether a completion was answered with an error that the client does not tell.
pub fn is_odd_completion(error: &Error) -> bool {
    chain(error).contains("invalid multipart response")
}

/// Whether nothing has listened.
pub fn could_not_connect(error: &Error) -> bool {
    let mut causes = causes(error).filter_map(|cause| cause.downcast_ref::<HttpError>());
    causes.any(|cause| cause.kind() == HttpErrorKind::Connect)
}

/// The tries of one request.
#[derive(Debug)]
pub struct Tries<'a> {
    patience: &'a Patience,
    are_of_write: bool,
    outage: Failures,
    /// Refusals, and what is no outage. An outage before them does not count.
    others: Failures,
}

#[derive(Debug, Default)]
struct Failures {
    n: u32,
    first: Option<Instant>,
}

impl Tries<'_> {
    /// Asks again while that may go better.
    pub async fn repeated<T, F: Future<Output = Result<T>>>(mut self, ask: impl Fn() -> F) -> Result<T> {
        loop {
            match ask().await {
                Err(error) if self.may_repeat(&error).await => {}
                answer => return answer,
            }
        }
    }

    /// The same as [`Tries::wait`] where another try may go better, and `false` at once elsewhere.
    pub async fn may_repeat(&mut self, error: &Error) -> bool {
        self.patience.may_pass(error) && self.wait(error).await
    }

    /// After a failure: waits for the next try, longer each time; `false` if there is none.
    pub async fn wait(&mut self, error: &Error) -> bool {
        let is_outage = is_outage(error);
        if is_outage && self.patience.is_given_up() {
            return false;
        }
        let failures = if is_outage { &mut self.outage } else { &mut self.others };
        let of_all = if is_outage && self.are_of_write { self.patience.unwritten_since() } else { None };
        let first = *failures.first.get_or_insert_with(|| of_all.unwrap_or_else(Instant::now));
        let wait = FIRST_WAIT * 2_u32.pow(failures.n.min(MOST_DOUBLINGS));
        failures.n += 1;
        let limit = self.patience.how_long(error);
        let until_next = first.elapsed() + wait;
        let is_over = of_all.is_some_and(|since| since.elapsed() > limit);
        let may_go_on = !is_over && (failures.n < FEWEST_TRIES || until_next <= limit);
        if !may_go_on {
            self.patience.is_given_up.fetch_or(is_outage, Ordering::Relaxed);
            return false;
        }
        if limit == OUTAGE && until_next > RETRIES {
            self.patience.tell_outage(error);
        }
        sleep(wait).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn o1_only_a_store_that_is_out_has_an_outage() {
        let status = |status: &str| said(&format!("Server returned non-2xx status code: {status}: "));
        let removal =
            |code: &str| said(&format!("DeleteObjects request failed for key x: no (code: {code})"));
        let of_line = |kind| {
            let source = Box::new(HttpError::new(kind, std::io::Error::other("reset")));
            Error::Generic { store: "S3", source }
        };
        for error in [
            status("500 Internal Server Error"),
            status("503 Service Unavailable"),
            status("429 Too Many Requests"),
            said("no answer within 30s"),
            removal("InternalError"),
            removal("SlowDown"),
            removal("SlowDownWrite"),
            said("Server returned non-2xx status code: 503 Service Unavailable: again (code: 10001)"),
            of_line(HttpErrorKind::Connect),
            of_line(HttpErrorKind::Interrupted),
            of_line(HttpErrorKind::Decode),
        ] {
            assert!(may_pass(&error) && is_outage(&error), "{error:?}");
        }
        // These may pass, but nobody waits for long.
        for error in [
            status("507 Insufficient Storage"),
            said("ETag Header missing from response"),
            said("Got invalid list response: expected XML"),
            said("the list of x names y twice"),
        ] {
            assert!(may_pass(&error) && !is_outage(&error), "{error:?}");
        }
        for error in [status("400 Bad Request"), removal("AccessDenied"), removal("MalformedXML")] {
            assert!(!may_pass(&error) && !is_outage(&error), "{error:?}");
        }
    }

    /// What becomes of writes, one every ten seconds.
    async fn write(patience: &Patience, is_lease: bool, n: usize, error: Option<&str>) {
        for _ in 0..n {
            let answer = async { error.map_or(Ok(()), |error| Err(said(error))) };
            let _ = patience.write("path", 1, is_lease, answer).await;
            sleep(Duration::from_secs(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn o1_the_lease_ends_no_outage_but_its_own() {
        let out = Some("Server returned non-2xx status code: 503 Service Unavailable: ");
        for are_others_out in [false, true] {
            let patience = Patience { has_answered: AtomicBool::new(true), ..Patience::default() };
            write(&patience, true, 10, out).await;
            if are_others_out {
                write(&patience, false, 1, out).await;
            }
            write(&patience, true, 10, out).await;
            assert!(patience.writes_are_given_up());
            write(&patience, true, 1, None).await;
            assert_eq!(patience.writes_are_given_up(), are_others_out);
            write(&patience, false, 1, None).await;
            assert!(!patience.writes_are_given_up());
        }
    }
}
