//! Turns requests that are not answered, or break off, into repeated ones.

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
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// How long a request with a body of so many bytes may take.
pub fn sending(n_bytes: u64) -> Duration {
    ANSWER + Duration::from_secs(n_bytes / SLOWEST)
}

/// The answer, or an error where none comes in time.
pub async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Generic { store: "S3", source: format!("no answer within {limit:?}").into() }),
    }
}

/// Asks again while an answer is broken or does not come; for what may happen twice.
pub async fn repeated<T, F: Future<Output = Result<T>>>(ask: impl Fn() -> F) -> Result<T> {
    let mut tries = Tries::default();
    loop {
        match ask().await {
            Err(error) if may_pass(&error) && tries.wait().await => {}
            answer => return answer,
        }
    }
}

/// Whether another try may go better: the connection broke, no answer came, or the server has a fault or lost patience
/// with the body. Where nothing listens, the client has tried for long enough.
pub fn may_pass(error: &Error) -> bool {
    let text = chain(error);
    matches!(error, Error::Generic { .. })
        && (status(&text).is_none_or(|status| matches!(status, 408 | 429 | 500..))
            || text.contains("<Code>RequestTimeout</Code>"))
        && !could_not_connect(error)
}

/// Whether nothing has listened.
pub fn could_not_connect(error: &Error) -> bool {
    let mut causes = causes(error).filter_map(|cause| cause.downcast_ref::<HttpError>());
    causes.any(|cause| cause.kind() == HttpErrorKind::Connect)
}

/// The tries of one request.
#[derive(Debug, Default)]
pub struct Tries {
    n_failed: u32,
    first_failure: Option<Instant>,
}

impl Tries {
    /// After a failure: waits for the next try, longer each time; `false` if there is none.
    pub async fn wait(&mut self) -> bool {
        let first = *self.first_failure.get_or_insert_with(Instant::now);
        let wait = FIRST_WAIT * 2_u32.pow(self.n_failed.min(10));
        self.n_failed += 1;
        let may_go_on = self.n_failed < FEWEST_TRIES || first.elapsed() + wait <= RETRIES;
        if may_go_on {
            sleep(wait).await;
        }
        may_go_on
    }
}
