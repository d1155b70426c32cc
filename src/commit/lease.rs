//! Keeps other runs away from a lake on an object store.
//!
//! A lease is an object with an expiry, which its holder renews and others may take over once it has passed. The holder asks
//! before each write whether it still is one: it may have been stopped, or cut off from the store, for longer than the lease
//! lasts. The etags of the files cover what is left between that question and the write.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::commit::remote::RemoteLake;
use crate::commit::{META, Version};
use crate::error::{Error, Kind, Result};
use crate::redact::shown;

/// A lease not renewed for this long may be taken over.
const LEASE: Duration = Duration::from_secs(30);
/// How often it is renewed, how long that may take, and how much of it is left where a write begins.
const RENEWAL: Duration = Duration::from_secs(10);
/// A lease that ends later than this was written by a clock that was wrong, or is read by one.
const LONGEST: Duration = Duration::from_secs(300);
/// Until the next try where a renewal failed.
const AGAIN: Duration = Duration::from_secs(1);

/// What helps where entity tags are not what they were.
pub(super) const NO_CONDITIONS: &str = "without it no write can have a condition: let no proxy change ETag (as nginx and Apache do where they compress), or choose another --lake";

/// What stands in the object.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Lease {
    run_id: String,
    /// Counts the holders.
    epoch: u64,
    expires_at: Timestamp,
}

/// The lease of a lake, as far as this process holds it.
#[derive(Debug, Default)]
pub struct Holding {
    held: Mutex<Option<Held>>,
    /// Writes without a condition that may land at any time.
    n_landing: AtomicUsize,
}

/// A write without a condition, on its way. Where nobody waits for its end, as after a signal, the lease is not given back but
/// runs out: the next run does not begin before the write has had time to land.
pub struct Landing<'a>(&'a AtomicUsize);

impl Landing<'_> {
    /// It has landed, or never will. One that is dropped instead may still land.
    pub fn is_over(self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    version: Version,
    is_lost: bool,
}

/// What came of one try to take it.
pub enum Attempt {
    Taken,
    /// By whom, in words; empty where that is not known.
    HeldBy {
        holder: String,
        has_odd_end: bool,
    },
}

impl Attempt {
    /// That was faster.
    const HELD_BY_ANOTHER: Attempt = Attempt::HeldBy { holder: String::new(), has_odd_end: false };
}

fn path() -> String {
    format!("{META}/lease.json")
}

fn json(lease: &Lease) -> Vec<u8> {
    serde_json::to_vec(lease).expect("our own types are JSON")
}

/// The error of a store that refuses a write whose condition is met.
pub(super) fn refused_in_vain(path: &str, seen: &Version, said: &str) -> Error {
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    match seen.etag() {
        Some(_) => Error::destination(format!(
            "{path}: a write is refused although the object has the entity tag that it asks for{said}"
        ))
        .hint(NO_CONDITIONS),
        None => Error::destination(format!("{path}: a new object is refused although there is none{said}"))
            .hint("run the same command again; choose another --lake where the store never takes If-None-Match: *"),
    }
}

impl Holding {
    pub async fn take(&self, lake: &RemoteLake, run_id: &str) -> Result<Attempt> {
        let (epoch, seen) = match lake.read_bytes(&path()).await? {
            None => (0, Version::Absent),
            Some((bytes, version)) => match serde_json::from_slice::<Lease>(&bytes) {
                Ok(lease) if lease.expires_at > Timestamp::now() => {
                    let Lease { run_id, expires_at, .. } = lease;
                    let holder = format!("run {run_id}, its lease ends at {expires_at:.0} unless renewed");
                    let has_odd_end = expires_at > Timestamp::now() + LONGEST;
                    return Ok(Attempt::HeldBy { holder: shown(&holder, 200), has_odd_end });
                }
                Ok(lease) => (lease.epoch, version),
                Err(_) => (0, version),
            },
        };
        let expires_at = Timestamp::now() + LEASE;
        let lease = Lease { run_id: run_id.to_owned(), epoch: epoch + 1, expires_at };
        let Some(version) = lake.put_if(&path(), json(&lease), &seen).await? else {
            // Nobody else has taken it.
            if lake.read_bytes(&path()).await?.is_some_and(|(_, version)| version == seen) {
                return Err(refused_in_vain(&path(), &seen, ""));
            }
            return Ok(Attempt::HELD_BY_ANOTHER);
        };
        let mut held = Held { lease, version, is_lost: false };
        if let Err(error) = lake.prove_conditions(&path(), &json(&held.lease), &held.version).await {
            held.give_back(lake).await;
            return Err(error);
        }
        // That was about conditions that are not met; one that is met must not be refused.
        match held.write(lake, Timestamp::now() + LEASE).await {
            Ok(()) => {}
            Err(_) if held.is_lost => return Ok(Attempt::HELD_BY_ANOTHER),
            Err(error) => {
                held.give_back(lake).await;
                return Err(error);
            }
        }
        *self.held.lock().await = Some(held);
        Ok(Attempt::Taken)
    }

    /// Renews it again and again, until another run has it.
    pub async fn keep(&self, lake: &RemoteLake) {
        let mut wait = RENEWAL;
        loop {
            sleep(wait).await;
            let mut held = self.held.lock().await;
            let Some(held) = held.as_mut() else { return };
            wait = if held.renew(lake).await.is_ok() { RENEWAL } else { AGAIN };
            if held.is_lost {
                return;
            }
        }
    }

    /// Fails with [`Kind::Locked`] where another run has taken it over. Where none was taken, everything may be written.
    pub async fn check(&self, lake: &RemoteLake) -> Result<()> {
        match self.check_once(lake).await {
            Err(error) if error.kind() != Kind::Locked && !lake.is_given_up() => {
                self.wait_out(lake).await?;
                self.check_once(lake).await
            }
            checked => checked,
        }
    }

    /// It has run out in an outage, which is waited for as long as any other. When that is over, it may have run out again.
    async fn wait_out(&self, lake: &RemoteLake) -> Result<()> {
        let mut held = self.held.lock().await;
        let held = held.as_mut().filter(|held| !held.is_lost && held.lease.expires_at <= Timestamp::now());
        let Some(held) = held else { return Ok(()) };
        held.write(lake, Timestamp::now() + LEASE).await
    }

    async fn check_once(&self, lake: &RemoteLake) -> Result<()> {
        let mut held = self.held.lock().await;
        let Some(held) = held.as_mut() else { return Ok(()) };
        if !held.is_lost && held.lease.expires_at > Timestamp::now() + RENEWAL {
            return Ok(());
        }
        match held.renew(lake).await {
            Err(_) if !held.is_lost && held.lease.expires_at > Timestamp::now() => Ok(()),
            renewed => renewed,
        }
    }

    /// Call it right before a write without a condition.
    pub fn landing(&self) -> Landing<'_> {
        self.n_landing.fetch_add(1, Ordering::Relaxed);
        Landing(&self.n_landing)
    }

    /// Lets others take it at once. It is not removed: that has no condition, and might meet the lease of another run.
    pub async fn release(&self, lake: &RemoteLake) {
        let held = self.held.lock().await.take();
        if self.n_landing.load(Ordering::Relaxed) > 0 {
            return;
        }
        if let Some(mut held) = held {
            held.give_back(lake).await;
        }
    }

    /// The run is over, however it ended.
    pub fn forget(&self) {
        if let Ok(mut held) = self.held.try_lock() {
            *held = None;
        }
    }
}

impl Held {
    async fn renew(&mut self, lake: &RemoteLake) -> Result<()> {
        match timeout(RENEWAL, self.write(lake, Timestamp::now() + LEASE)).await {
            Ok(written) => written,
            Err(_) => Err(Error::destination(format!("{}: no answer within {RENEWAL:?}", path()))),
        }
    }

    /// Where that fails, it ends by itself.
    async fn give_back(&mut self, lake: &RemoteLake) {
        let _ = timeout(RENEWAL, self.write(lake, Timestamp::UNIX_EPOCH)).await;
    }

    async fn write(&mut self, lake: &RemoteLake, expires_at: Timestamp) -> Result<()> {
        let lease = Lease { expires_at, ..self.lease.clone() };
        while !self.is_lost {
            if let Some(version) = lake.put_if(&path(), json(&lease), &self.version).await? {
                (self.lease, self.version) = (lease, version);
                return Ok(());
            }
            match lake.read_bytes(&path()).await? {
                // Somebody has removed it. If no run has taken it since, it is still ours.
                None => self.version = Version::Absent,
                Some((bytes, _)) if !self.is_own(&bytes) => self.is_lost = true,
                // The answer to an earlier renewal may have been lost.
                Some((_, version)) if version != self.version => self.version = version,
                Some(_) => return Err(refused_in_vain(&path(), &self.version, "")),
            }
        }
        Err(Error::new(
            Kind::Locked,
            format!("another run has taken the lake over: this one did not renew its lease for {LEASE:?}"),
        )
        .lake("as that run leaves it")
        .hint("run this one again"))
    }

    fn is_own(&self, bytes: &[u8]) -> bool {
        let Lease { run_id, epoch, .. } = &self.lease;
        serde_json::from_slice::<Lease>(bytes)
            .is_ok_and(|lease| lease.run_id == *run_id && lease.epoch == *epoch)
    }
}
