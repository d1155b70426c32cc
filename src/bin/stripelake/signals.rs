//! Turns signals into the end of a run.

use std::process::exit;
use std::thread;
use std::time::Duration;

use stripelake::error::{Kind, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::limits;
use crate::progress::say_above;

/// What a run that writes a lake says at the first signal.
pub const KEEPING: &str = "stopping: keeping what was read so far, in at most 10 s; once more stops at once";

/// From a signal to the end of the process.
const LONGEST_STOP: Duration = Duration::from_secs(10);
/// How long the last words may take where stderr is a pipe that nobody reads.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Becomes the kind of the first SIGINT, SIGTERM or SIGHUP; the second one ends the process at once.
/// `first_words` are said at the first one.
///
/// A thread of its own waits for them, since all others may be stuck in writing to a pipe that nobody reads.
pub fn interruption(first_words: Option<&'static str>) -> Result<watch::Receiver<Option<Kind>>> {
    let wrong = |e| limits::failed("signals", e);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(wrong)?;
    let signals = Signals::catch(&runtime).map_err(wrong)?;
    let (sender, receiver) = watch::channel(None);
    let waiting = move || runtime.block_on(stop(signals, first_words, sender));
    thread::Builder::new().spawn(waiting).map_err(wrong)?;
    Ok(receiver)
}

async fn stop(mut signals: Signals, first_words: Option<&'static str>, sender: watch::Sender<Option<Kind>>) {
    let kind = signals.next().await;
    sender.send_replace(Some(kind));
    if let Some(words) = first_words {
        say_aside(words.to_owned());
    }
    tokio::select! {
        second = signals.next() => exit(second.exit_code()),
        () = sleep(LONGEST_STOP) => {}
    }
    // The run waits for something that does not come, such as a bucket. Whatever it is doing, a killed run leaves a lake
    // that the next one goes on with.
    let secs = LONGEST_STOP.as_secs();
    say_aside(format!("stopped after {secs} s, without waiting for what was not done by then"));
    sleep(LAST_WORDS).await;
    exit(kind.exit_code());
}

/// Says a line without waiting until somebody takes it.
fn say_aside(line: String) {
    // Without a thread it is not said.
    let _ = thread::Builder::new().spawn(move || say_above(&line));
}

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a run, caught from now on.
#[cfg(unix)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` where it stays as the caller has set it.
    hangup: Option<Signal>,
}

#[cfg(unix)]
impl Signals {
    fn catch(runtime: &Runtime) -> std::io::Result<Signals> {
        let _within = runtime.enter();
        // To catch it would undo `nohup`.
        let hangup = (!is_hangup_ignored()).then(|| signal(SignalKind::hangup())).transpose()?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Signals { interrupt, terminate: signal(SignalKind::terminate())?, hangup })
    }

    async fn next(&mut self) -> Kind {
        tokio::select! {
            _ = self.interrupt.recv() => Kind::Interrupted,
            _ = self.terminate.recv() => Kind::Terminated,
            Some(_) = async { self.hangup.as_mut()?.recv().await } => Kind::HungUp,
        }
    }
}

/// Whether SIGHUP is ignored, or may be: where nothing tells, it is left alone.
#[cfg(unix)]
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    // SIGHUP is signal 1, the lowest bit.
    ignored.is_none_or(|bits| bits & 1 != 0)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn catch(_: &Runtime) -> std::io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) -> Kind {
        let _ = tokio::signal::ctrl_c().await;
        Kind::Interrupted
    }
}
