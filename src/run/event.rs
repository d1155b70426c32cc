//! What a run tells while it is at work; the command line shows it, tests read it.

use std::sync::Arc;

use serde::Serialize;

use crate::commit::remote::Delay;
use crate::fetch::Notice;

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run has begun.
    Start { lake: String, account: Option<String>, livemode: Option<bool>, resources: Vec<String> },
    /// Another run holds the lake, and this one waits for it to end.
    Waiting { holder: String, at_most_secs: f64 },
    /// A listing that an earlier run has begun is continued; `share` is the part of its time that was read.
    Continued { resource: String, began: jiff::Timestamp, share: f64 },
    /// Rows were read.
    Rows { resource: String, rows: u64 },
    /// So much of the files of an import was read, and of how much where that is known, in bytes as stored.
    Input { resource: String, bytes: u64, of: Option<u64> },
    /// A request is repeated after a wait.
    Retry { path: String, reason: String, attempt: u32, wait_secs: f64 },
    /// A request, or a write to the store, has had no answer for so long, and is waited for.
    Silence { path: String, secs: f64 },
    /// A partition file was written.
    File { table: String, path: String, rows: u64, bytes: u64 },
    /// All of a resource is in the lake, but for objects that cannot be rows.
    Done {
        resource: String,
        rows: u64,
        new: u64,
        changed: u64,
        deleted: u64,
        rejected: u64,
        files_written: u64,
    },
    /// A resource could not be read to its end.
    Failed { resource: String, error: String },
    /// Something the reader should know.
    Warning { message: String },
}

impl From<&Notice> for Event {
    fn from(notice: &Notice) -> Event {
        match notice {
            Notice::Retry { path, reason, said, attempt, wait } => Event::Retry {
                path: path.clone(),
                reason: said.iter().fold(reason.to_string(), |reason, said| format!("{reason} ({said})")),
                attempt: *attempt,
                wait_secs: wait.as_secs_f64(),
            },
            Notice::Silence { path, time } => Event::Silence { path: path.clone(), secs: time.as_secs_f64() },
        }
    }
}

impl From<Delay> for Event {
    fn from(delay: Delay) -> Event {
        match delay {
            Delay::Outage(message) => Event::Warning { message },
            Delay::Silence { path, time } => Event::Silence { path, secs: time.as_secs_f64() },
        }
    }
}

/// Receives events from any task, in no particular order across resources.
pub type OnEvent = Arc<dyn Fn(Event) + Send + Sync>;
