//! Keeps other writers out of the lake while a run is at work.
//!
//! Locally an operating system lock on a file, which dies with the process. On an object store a lease.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::commit::lease;
use crate::commit::local::LocalLake;
use crate::commit::remote::RemoteLake;
use crate::commit::{LOCK, Lake, META};
use crate::error::{Error, Kind, Result, disk_hint};
use crate::redact::shown;

const WAIT: &str = "wait for it to end, or have this one wait with --wait-lock, like 10m";
const WAIT_LONGER: &str = "wait for it to end, or have this one wait longer: with --wait-lock, and in sync without a --max-duration that ends before";
const ODD_END: &str =
    "a clock was wrong, there or here: if no run is at work, remove _stripelake/lease.json from the lake";

/// How often a waiting run looks again.
const POLL: Duration = Duration::from_secs(1);

/// The lock, held until it is dropped or released.
#[derive(Debug)]
pub enum Guard {
    Local { _file: File },
    Remote { lake: RemoteLake, renewal: AbortHandle },
}

/// What came of one try.
enum Attempt {
    Taken(Guard),
    /// By whom, as far as known, and what to do.
    HeldBy(String, &'static str),
}

/// Takes the lock, waiting at most `wait`; `on_wait` is told once by whom it is held. Fails with [`Kind::Locked`], and while it
/// waits as soon as `stop` has an error. A try is never cut short: it may have taken a lease.
pub async fn acquire(
    lake: &Lake,
    run_id: &str,
    wait: Duration,
    on_wait: impl FnOnce(String),
    stop: impl Future<Output = Error>,
) -> Result<Guard> {
    tokio::pin!(stop);
    let mut on_wait = Some(on_wait);
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let attempt = match lake {
            Lake::Local(local) => try_file(local, run_id),
            Lake::Remote(remote) => try_lease(remote, run_id).await,
        };
        let (holder, hint) = match attempt.map_err(|error| error.lake("unchanged by this run"))? {
            Attempt::Taken(guard) => return Ok(guard),
            Attempt::HeldBy(holder, hint) => (holder, hint),
        };
        if tokio::time::Instant::now() >= deadline {
            let still =
                if wait.is_zero() { String::new() } else { format!(", still after {} s", wait.as_secs()) };
            let what =
                format!("another run holds the lake {}{}{still}", lake.location(), in_brackets(&holder));
            let hint = if hint == WAIT && !wait.is_zero() { WAIT_LONGER } else { hint };
            return Err(Error::new(Kind::Locked, what).lake("unchanged by this run").hint(hint));
        }
        if let Some(on_wait) = on_wait.take() {
            on_wait(holder);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            error = &mut stop => return Err(error),
        }
    }
}

/// Takes the lock of a folder, and writes into it who has it: for people only, what counts is the lock.
fn try_file(lake: &LocalLake, run_id: &str) -> Result<Attempt> {
    let path = lake.path(LOCK);
    let failed = |e: std::io::Error| {
        let hint = disk_hint(&e).unwrap_or("check the folder, or choose another --lake");
        Error::destination(format!("lock {}: {e}", path.display())).hint(hint)
    };
    lake.make_folder(&lake.path(META)).map_err(failed)?;
    let mut file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            lake.hold(&file).map_err(failed)?;
            let holder = format!("process {}, run {run_id}", std::process::id());
            // A disk that is full fails where it matters.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{holder}"));
            Ok(Attempt::Taken(Guard::Local { _file: file }))
        }
        Err(std::fs::TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            Ok(Attempt::HeldBy(shown(holder.trim(), 100), WAIT))
        }
        Err(std::fs::TryLockError::Error(e)) => Err(failed(e)),
    }
}

fn in_brackets(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" ({holder})") }
}

async fn try_lease(lake: &RemoteLake, run_id: &str) -> Result<Attempt> {
    if let lease::Attempt::HeldBy { holder, has_odd_end } = lake.lease.take(lake, run_id).await? {
        let hint = if has_odd_end { ODD_END } else { WAIT };
        return Ok(Attempt::HeldBy(holder, hint));
    }
    let lake = lake.clone();
    let renewing = lake.clone();
    let renewal = tokio::spawn(async move { renewing.lease.keep(&renewing).await }).abort_handle();
    Ok(Attempt::Taken(Guard::Remote { lake, renewal }))
}

impl Guard {
    /// Gives the lock back at once; a dropped lease would only expire. Then takes back what this run has left on its way.
    pub async fn release(self) {
        if let Guard::Remote { lake, renewal } = &self {
            renewal.abort();
            lake.lease.release(lake).await;
            lake.abort_abandoned().await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Guard::Remote { lake, renewal } = self {
            renewal.abort();
            lake.lease.forget();
        }
    }
}
