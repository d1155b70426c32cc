//! Turns results and errors into what a person or a program reads.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use indicatif::{HumanBytes, HumanCount};
use stripelake::error::{Error, Kind};
use stripelake::redact::{shown, without_own_key};
use stripelake::run::report::{Continued, Report, TableReport, Window};

use crate::cli::help_of_process;

/// Why a result could not be printed.
static LOST: OnceLock<String> = OnceLock::new();

/// Prints a result to stdout. A reader that has gone away is no failure of ours. Any other failure is kept for [`lost`],
/// since a run goes on without its reader.
pub fn out(text: &str) {
    if let Err(e) = print(text)
        && e.kind() != ErrorKind::BrokenPipe
    {
        let _ = LOST.set(e.to_string());
    }
}

/// Prints what only people read: a run ends as it ends, whether they can or not.
pub fn show(text: &str) {
    let _ = print(text);
}

fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(without_own_key(text).as_bytes())?;
    stdout.flush()
}

/// The error of a command whose results could not all be printed.
pub fn lost() -> Option<Error> {
    let e = LOST.get()?;
    Some(
        Error::destination(format!("stdout: {e}"))
            .hint("results are printed there: write them to a disk with room"),
    )
}

/// Says a line on stderr. It is lost where it cannot be written: what is said never changes how a run ends.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", without_own_key(line));
}

/// Whether somebody may be looking at what is said.
pub fn is_on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Says an error with everything the reader needs for the next step.
pub fn error(error: &Error) {
    say(&format!("error: {}", shown(&error.to_string(), 1000)));
    if let Some(lake) = error.lake_text() {
        say(&format!("  your lake:   {lake}"));
    }
    fix(error);
}

/// Says what helps.
fn fix(error: &Error) {
    if let Some(hint) = hint(error) {
        say(&format!("  fix:         {}", shown(&hint, 500)));
    }
}

/// What helps against this error, or else against those of its kind.
fn hint(error: &Error) -> Option<String> {
    let of_kind = || match error.kind() {
        Kind::Usage => Some(format!("see {}", help_of_process())),
        Kind::Bug => Some(
            "this should not happen: please report it, with this message and stripelake --version".to_owned(),
        ),
        Kind::Destination => Some("check the disk or the store, then run the same command again".to_owned()),
        _ => None,
    };
    error.hint_text().map(str::to_owned).or_else(of_kind)
}

/// One line per table.
pub fn tables(tables: &[TableReport]) -> String {
    let mut text = String::new();
    for table in tables {
        let TableReport { table: name, rows, files, bytes, new, changed, deleted, .. } = table;
        let mut line = format!(
            "  {name:<22} {:>12} rows {:>6} files {:>12}",
            HumanCount(*rows).to_string(),
            HumanCount(*files).to_string(),
            HumanBytes(*bytes).to_string()
        );
        for (n, what) in [(new, "new"), (changed, "changed"), (deleted, "deleted")] {
            if *n > 0 {
                line.push_str(&format!("  {} {what}", HumanCount(*n)));
            }
        }
        // What was read when the listing began is as it was then.
        if let Some(Continued { began, .. }) = table.continued.as_ref().filter(|_| table.kept.is_none()) {
            line.push_str(&format!("  as of {}", began.strftime("%Y-%m-%d %H:%M UTC")));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The last line of a run that went well.
pub fn complete(report: &Report) -> String {
    let Window { since, until } = report.window;
    let of_what = match (since, until) {
        (None, None) => String::new(),
        (Some(since), None) => format!("; of what was created from {since} on"),
        (None, Some(until)) => format!("; of what was created before {until}"),
        (Some(since), Some(until)) => format!("; of what was created from {since} on and before {until}"),
    };
    format!(
        "Complete in {:.1} s: {} rows, {} tables, {} requests{of_what}.",
        report.secs,
        HumanCount(report.rows()),
        report.tables.len(),
        HumanCount(report.requests)
    )
}

/// What went on behind the requests; nothing where each of them was answered at once.
fn repeats(report: &Report) -> Option<String> {
    let Report { requests, retries, slowdowns, waited_secs, .. } = report;
    let slowed = match slowdowns {
        0 => String::new(),
        n => format!("; Stripe asked {n} times to slow down"),
    };
    let said = format!(
        "  repeated {retries} of {requests} requests, after waits of {waited_secs:.1} s in all{slowed}"
    );
    (*retries > 0).then_some(said)
}

/// Shows the outcome of a run that writes a lake, and says what its exit code is.
pub fn report(report: &Report, is_json: bool, is_quiet: bool) -> Option<Kind> {
    let kind = report.kind();
    for table in &report.tables {
        for (path, n) in &table.mistyped {
            let path = shown(path, 100);
            say(&format!("warning: {}.{path}: {n} values of another type; they are in _extra", table.table));
        }
    }
    let left_out = report.left_out();
    if is_json {
        out(&format!("{}\n", summary(report, &left_out, kind)));
    } else if !is_quiet {
        show(&tables(&report.tables));
        if let Some(repeats) = repeats(report) {
            show(&format!("{repeats}\n"));
        }
        if kind.is_none() {
            show(&format!("{}\n", complete(report)));
        }
    }
    failures(&left_out);
    failures(&report.failures);
    if let Some(kind) = kind {
        let lake = match report.complete.as_slice() {
            [] => "no resource was finished; partitions that were written are whole".to_owned(),
            names => format!("complete for {}", names.join(", ")),
        };
        say(&format!("  your lake:   {lake}"));
        say(&format!("  exit:        {}", kind.exit_code()));
    }
    kind
}

/// Says what went wrong with which resource, and what helps.
pub fn failures(failures: &[(String, Error)]) {
    for (name, failure) in failures {
        say(&format!("error: {name}: {}", shown(&failure.to_string(), 1000)));
        fix(failure);
    }
}

fn summary(report: &Report, left_out: &[(String, Error)], kind: Option<Kind>) -> serde_json::Value {
    let failures = report.failures.iter().chain(left_out);
    serde_json::json!({
        "event": "end",
        "run_id": report.run_id,
        "exit_code": kind.map_or(0, Kind::exit_code),
        "window": report.window,
        "secs": report.secs,
        "requests": report.requests,
        "retries": report.retries,
        "slowdowns": report.slowdowns,
        "waited_secs": report.waited_secs,
        "tables": report.tables,
        "complete": report.complete,
        "failures": failures.map(|(name, error)| failure(Some(name), error)).collect::<Vec<_>>(),
    })
}

/// Prints the last event of a run that has failed as a whole, in the form of any other run's.
pub fn end_early(event: &str, error: &Error) {
    let end = serde_json::json!({
        "event": event,
        "exit_code": error.kind().exit_code(),
        "complete": [],
        "failures": [failure(None, error)],
    });
    out(&format!("{end}\n"));
}

/// `resource` is `None` where the run has failed as a whole.
pub fn failure(resource: Option<&str>, error: &Error) -> serde_json::Value {
    serde_json::json!({
        "resource": resource,
        "error": shown(&error.to_string(), 1000),
        "fix": hint(error),
        "request_id": error.request_id_text(),
    })
}
