//! Lets one request at a time find out whether a server that fails is there again.
//!
//! Sixteen workers that repeat their requests side by side would use up what the run may repeat within seconds.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Mutex, MutexGuard};

/// Failures one after the other, of whatever requests, that are taken for an outage.
const SIGNS: u32 = 3;

/// What all requests together know of the server.
#[derive(Debug, Default)]
pub struct Outage {
    /// Failures since the last answer.
    failed: AtomicU32,
    /// How often a request has given up that was asking for the others.
    given_up: AtomicU32,
    asking: Mutex<()>,
}

/// What a request that has failed does next.
pub enum Turn<'a> {
    /// There is no outage: it waits and is sent again.
    Own,
    /// It waits and is sent again, and the others wait for its answer as long as it holds this.
    Asking(MutexGuard<'a, ()>),
    /// The server has answered another request: it is sent again at once.
    Over,
    /// Another request has found out that the server stays away.
    GivenUp,
}

impl Outage {
    pub fn answered(&self) {
        self.failed.store(0, Ordering::SeqCst);
    }

    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::SeqCst);
    }

    pub fn give_up(&self) {
        self.given_up.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits while another request asks.
    pub async fn turn(&self) -> Turn<'_> {
        if self.failed.load(Ordering::SeqCst) < SIGNS {
            return Turn::Own;
        }
        let given_up = self.given_up.load(Ordering::SeqCst);
        let asking = self.asking.lock().await;
        if self.failed.load(Ordering::SeqCst) < SIGNS {
            return Turn::Over;
        }
        match self.given_up.load(Ordering::SeqCst) == given_up {
            true => Turn::Asking(asking),
            false => Turn::GivenUp,
        }
    }
}
