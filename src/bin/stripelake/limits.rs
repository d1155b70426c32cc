//! Turns a system that allows too few threads or open files into an error, before anything begins.

use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::thread::{Builder, available_parallelism, scope};

use stripelake::error::{Error, MORE_THREADS, Result, files_hint};
use stripelake::run::import::MOST_DECODERS;

/// Threads that wait for disks and for the addresses of names; what finds none waits for one.
const BLOCKING: usize = 8;
/// The reader of an import, the one that waits for signals, the one that says so, and one for what is forgotten here.
const OTHERS: usize = 4;
/// What two runtimes and their signals open, in pairs.
const PAIRS: usize = 6;

/// Fails where the process may not have the threads and files that every run needs. Without this check what needs the first
/// thread too many would panic, or wait for it for ever.
pub fn check() -> Result<()> {
    open_at_once(PAIRS).map_err(|e| failed("open files", e))?;
    let n_cores = available_parallelism().map_or(1, |n| n.get());
    // A runtime's workers and the encoders; the decoders of an import.
    let n = 2 * n_cores + n_cores.min(MOST_DECODERS) + BLOCKING + OTHERS;
    start_at_once(n, None).map_err(|e| failed(&format!("{n} threads"), e))
}

/// The error of a process that could not begin.
pub fn failed(what: &str, error: io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::OutOfMemory => Some(MORE_THREADS),
        _ => files_hint(&error),
    };
    match hint {
        Some(hint) => Error::destination(format!("{what}: {error}")).hint(hint).lake("untouched"),
        None => Error::bug(format!("{what}: {error}")),
    }
}

/// Starts so many threads, which wait for each other, and ends them.
fn start_at_once(n: usize, stack_bytes: Option<usize>) -> io::Result<()> {
    let gate = Mutex::new(());
    scope(|scope| {
        let closed = gate.lock();
        let mut threads = Vec::with_capacity(n);
        let started = (0..n).try_for_each(|_| {
            let builder = stack_bytes.into_iter().fold(Builder::new(), Builder::stack_size);
            threads.push(builder.spawn_scoped(scope, || drop(gate.lock()))?);
            Ok(())
        });
        drop(closed);
        // They count until they are gone.
        threads.into_iter().for_each(|thread| _ = thread.join());
        started
    })
}

#[cfg(unix)]
fn open_at_once(n: usize) -> io::Result<()> {
    (0..n).map(|_| std::os::unix::net::UnixStream::pair()).collect::<io::Result<Vec<_>>>().map(drop)
}

#[cfg(not(unix))]
fn open_at_once(_: usize) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_the_system_does_not_give_are_told_with_what_helps() {
        start_at_once(40, None).unwrap();
        // No address space has room for their stacks.
        let error = failed("2 threads", start_at_once(2, Some(1 << 50)).unwrap_err());
        assert_eq!(error.kind().exit_code(), 6, "{error}");
        assert_eq!(error.hint_text(), Some(MORE_THREADS));
    }
}
