//! Keeps other writers out of the lake while a run is at work.
//!
//! Locally an operating system lock on a file, which dies with the process. On an object store a lease:
//! an object with an expiry that its holder renews and that others may take over once it has passed.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use crate::commit::remote::RemoteLake;
use crate::commit::{Lake, META, Version};
use crate::error::{Error, Kind, Result};
use crate::redact::shown;

/// A lease not renewed for this long may be taken over.
const LEASE: Duration = Duration::from_secs(30);
/// How often a waiting run looks again.
const POLL: Duration = Duration::from_secs(1);

/// The lock, held until it is dropped or released.
#[derive(Debug)]
pub enum Guard {
    Local { _file: File },
    Remote { lake: RemoteLake, run_id: String, renewal: AbortHandle },
}

/// What came of one try.
enum Attempt {
    Taken(Guard),
    /// By whom, as an addition to a sentence.
    HeldBy(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Lease {
    run_id: String,
    /// Counts the holders.
    epoch: u64,
    expires_at: Timestamp,
}

fn lease_path() -> String {
    format!("{META}/lease.json")
}

/// Takes the lock, waiting at most `wait`. Fails with [`Kind::Locked`].
pub async fn acquire(lake: &Lake, run_id: &str, wait: Duration) -> Result<Guard> {
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let attempt = match lake {
            Lake::Local(local) => try_file(&local.path(&format!("{META}/lock")), run_id)?,
            Lake::Remote(remote) => try_lease(remote, run_id).await?,
        };
        let holder = match attempt {
            Attempt::Taken(guard) => return Ok(guard),
            Attempt::HeldBy(holder) => holder,
        };
        if tokio::time::Instant::now() >= deadline {
            let what = format!("another run holds the lake {}{holder}", lake.location());
            return Err(Error::new(Kind::Locked, what)
                .lake("unchanged by this run")
                .hint("wait for it to end, or pass --wait-lock 10m"));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Takes the lock of a folder, and writes into it who has it: for people only, what counts is the lock.
fn try_file(path: &Path, run_id: &str) -> Result<Attempt> {
    let failed = |e: std::io::Error| Error::destination(format!("lock {}: {e}", path.display()));
    std::fs::create_dir_all(path.parent().expect("the lock is in a folder")).map_err(failed)?;
    let mut file = File::options().create(true).append(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            let holder = format!("process {}, run {run_id}", std::process::id());
            // A disk that is full fails where it matters.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{holder}"));
            Ok(Attempt::Taken(Guard::Local { _file: file }))
        }
        Err(std::fs::TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(path).unwrap_or_default();
            Ok(Attempt::HeldBy(in_brackets(shown(holder.trim(), 100))))
        }
        Err(std::fs::TryLockError::Error(e)) => Err(failed(e)),
    }
}

fn in_brackets(holder: String) -> String {
    if holder.is_empty() { holder } else { format!(" ({holder})") }
}

async fn try_lease(lake: &RemoteLake, run_id: &str) -> Result<Attempt> {
    let (epoch, seen) = match lake.read_bytes(&lease_path()).await? {
        None => (0, Version::Absent),
        Some((bytes, version)) => match serde_json::from_slice::<Lease>(&bytes) {
            Ok(lease) if lease.expires_at > Timestamp::now() => {
                let Lease { run_id, expires_at, .. } = lease;
                let holder = format!("run {run_id}, its lease ends at {expires_at:.0} unless renewed");
                return Ok(Attempt::HeldBy(in_brackets(shown(&holder, 200))));
            }
            Ok(lease) => (lease.epoch, version),
            Err(_) => (0, version),
        },
    };
    let Some(version) = lake.put_if(&lease_path(), lease(run_id, epoch + 1), &seen).await? else {
        return Ok(Attempt::HeldBy(String::new()));
    };
    let renewal = tokio::spawn(renew(lake.clone(), run_id.to_owned(), epoch + 1, version)).abort_handle();
    Ok(Attempt::Taken(Guard::Remote { lake: lake.clone(), run_id: run_id.to_owned(), renewal }))
}

fn lease(run_id: &str, epoch: u64) -> Vec<u8> {
    let lease = Lease { run_id: run_id.to_owned(), epoch, expires_at: Timestamp::now() + LEASE };
    serde_json::to_vec(&lease).expect("our own types are JSON")
}

/// Stops when another holder took over; the etag fence then refuses this run's commits.
async fn renew(lake: RemoteLake, run_id: String, epoch: u64, mut version: Version) {
    loop {
        tokio::time::sleep(LEASE / 3).await;
        match lake.put_if(&lease_path(), lease(&run_id, epoch), &version).await {
            Ok(Some(next)) => version = next,
            // The answer to an earlier renewal may have been lost: then the lease is still ours.
            Ok(None) => match held(&lake, &run_id).await {
                Ok(Some(present)) => version = present,
                Ok(None) => return,
                Err(_) => {}
            },
            Err(_) => {}
        }
    }
}

/// The version of the lease, if this run holds it.
async fn held(lake: &RemoteLake, run_id: &str) -> Result<Option<Version>> {
    let Some((bytes, version)) = lake.read_bytes(&lease_path()).await? else { return Ok(None) };
    let is_ours = serde_json::from_slice::<Lease>(&bytes).is_ok_and(|lease| lease.run_id == run_id);
    Ok(is_ours.then_some(version))
}

impl Guard {
    /// Gives the lock back at once; a dropped lease would only expire.
    pub async fn release(self) {
        if let Guard::Remote { lake, run_id, renewal } = &self {
            renewal.abort();
            if let Ok(Some(_)) = held(lake, run_id).await {
                let _ = lake.remove(&lease_path()).await;
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Guard::Remote { renewal, .. } = self {
            renewal.abort();
        }
    }
}
