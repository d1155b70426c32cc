//! Turns events into bars, plain lines or JSON.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use stripelake::redact::{shown, without_own_key};
use stripelake::run::event::{Event, OnEvent};

use crate::cli::{Global, Progress};
use crate::output::{is_on_terminal, out, say};

/// Without a terminal: a line at least this often, so that a log shows a run is alive.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A wait before a retry that somebody who looks on would wonder about.
const LONG_WAIT_SECS: f64 = 5.0;

/// The receiver of a run's events.
pub fn receiver(how: Progress, is_json: bool, global: &Global) -> OnEvent {
    let how = match how {
        Progress::Auto if is_on_terminal() => Progress::Bars,
        Progress::Auto => Progress::Plain,
        chosen => chosen,
    };
    // Where nothing can be drawn, lines are said: what is not drawn would be lost.
    let how = match how {
        Progress::Bars if DRAWN.get_or_init(MultiProgress::new).is_hidden() => Progress::Plain,
        how => how,
    };
    let how = if global.quiet { Progress::None } else { how };
    let bars = (how == Progress::Bars).then(Bars::new);
    let lines = (how == Progress::Plain).then(Lines::default);
    let verbose = global.verbose;
    let patience = Patience::default();
    Arc::new(move |event: Event| {
        if is_json {
            out(&format!("{}\n", serde_json::to_string(&event).expect("events are JSON")));
        }
        let verbose = verbose.max(u8::from(patience.is_worth_saying(&event)));
        if let Some(bars) = &bars {
            bars.show(&event, verbose);
        } else if let Some(lines) = &lines {
            lines.show(&event, verbose);
        } else if let Event::Warning { message } = &event {
            say(&format!("warning: {}", shown(message, 500)));
        }
    })
}

/// What is said of waits to those who did not ask: the first one, and then a long one at most every half minute.
#[derive(Default)]
struct Patience {
    said: Mutex<Option<Instant>>,
}

impl Patience {
    fn is_worth_saying(&self, event: &Event) -> bool {
        let is_long = match event {
            Event::Retry { wait_secs, .. } => *wait_secs >= LONG_WAIT_SECS,
            Event::Silence { .. } => true,
            _ => return false,
        };
        let mut said = self.said.lock().expect("no panic while deciding");
        let is_due = match *said {
            None => true,
            Some(last) => is_long && last.elapsed() >= HEARTBEAT,
        };
        if is_due {
            *said = Some(Instant::now());
        }
        is_due
    }
}

/// What is drawn on the terminal.
static DRAWN: OnceLock<MultiProgress> = OnceLock::new();

/// Takes the bars from the terminal, for what is said from now on: bars that are not done would be drawn over it once more.
pub fn end() {
    if let Some(drawn) = DRAWN.get() {
        let _ = drawn.clear();
        drawn.set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// Says a line above the bars, if there are any: they would be drawn over it.
pub fn say_above(line: &str) {
    match DRAWN.get().filter(|drawn| !drawn.is_hidden()) {
        Some(drawn) => _ = drawn.println(without_own_key(line)),
        None => say(line),
    }
}

/// One bar per resource.
struct Bars {
    all: MultiProgress,
    by_resource: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    fn new() -> Bars {
        Bars { all: DRAWN.get_or_init(MultiProgress::new).clone(), by_resource: Mutex::default() }
    }

    fn show(&self, event: &Event, verbose: u8) {
        match event {
            Event::Rows { resource, rows } => self.bar(resource).inc(*rows),
            Event::Input { resource, bytes, of: Some(of) } => {
                let share = *bytes as f64 / (*of).max(1) as f64;
                self.bar(resource).set_message(gauge(share, *of));
            }
            Event::Done { resource, rows, rejected, .. } => {
                let bar = self.bar(resource);
                bar.set_position(*rows);
                match rejected {
                    0 => bar.finish_with_message("done"),
                    n => bar.abandon_with_message(format!("without {n} that cannot be rows")),
                }
            }
            Event::Failed { resource, .. } => self.bar(resource).abandon_with_message("failed"),
            other => {
                if let Some(line) = line(other, verbose) {
                    let _ = self.all.println(without_own_key(&line));
                }
            }
        }
    }

    fn bar(&self, resource: &str) -> ProgressBar {
        let mut bars = self.by_resource.lock().expect("no panic while drawing");
        let new = || {
            let style = ProgressStyle::with_template("{prefix:22} {spinner} {human_pos:>12} rows {msg}");
            let bar = ProgressBar::new_spinner().with_style(style.expect("a constant template"));
            self.all.add(bar.with_prefix(resource.to_owned()))
        };
        let bar = bars.entry(resource.to_owned()).or_insert_with(new).clone();
        bar.tick();
        bar
    }
}

/// How much of so many bytes was read.
fn gauge(share: f64, of: u64) -> String {
    const WIDTH: usize = 24;
    let share = share.clamp(0.0, 1.0);
    let done = (share * WIDTH as f64) as usize;
    let (done, left) = ("=".repeat(done), " ".repeat(WIDTH - done));
    format!("[{done}{left}] {:.0} % of {}", (share * 100.0).floor(), HumanBytes(of))
}

/// One line per resource, and a heartbeat.
#[derive(Default)]
struct Lines {
    state: Mutex<LinesState>,
}

struct LinesState {
    rows: HashMap<String, u64>,
    last: Instant,
}

impl Default for LinesState {
    fn default() -> LinesState {
        LinesState { rows: HashMap::new(), last: Instant::now() }
    }
}

impl Lines {
    fn show(&self, event: &Event, verbose: u8) {
        let mut state = self.state.lock().expect("no panic while printing");
        if let Event::Rows { resource, rows } = event {
            *state.rows.entry(resource.clone()).or_default() += rows;
            if state.last.elapsed() < HEARTBEAT {
                return;
            }
            let mut counts: Vec<String> = state.rows.iter().map(|(name, n)| format!("{name}={n}")).collect();
            counts.sort();
            print(&format!("read {}", counts.join(" ")));
            state.last = Instant::now();
        } else if let Some(line) = line(event, verbose) {
            print(&line);
            state.last = Instant::now();
        }
    }
}

fn print(line: &str) {
    say(&format!("{} {line}", jiff::Timestamp::now().round(jiff::Unit::Second).expect("seconds are a unit")));
}

/// An event in words; `None` where it is not asked for.
fn line(event: &Event, verbose: u8) -> Option<String> {
    match event {
        Event::Start { lake, account, livemode, resources } => Some(format!(
            "sync start lake={} account={} livemode={} resources={}",
            shown(lake, 200),
            shown(account.as_deref().unwrap_or("unknown"), 60),
            livemode.map_or("unknown".to_owned(), |l| l.to_string()),
            resources.len()
        )),
        Event::Waiting { holder, at_most_secs } => Some(format!(
            "waiting for another run to end, {at_most_secs:.0} s at most ({})",
            shown(holder, 200)
        )),
        Event::Continued { resource, began, share } => Some(format!(
            "{resource} continues the listing of {began}, {:.0} % of its time read",
            (share * 100.0).floor()
        )),
        Event::Done { resource, rows, new, changed, deleted, rejected, files_written } => {
            let rejected = if *rejected > 0 { format!(" rejected={rejected}") } else { String::new() };
            Some(format!(
                "{resource} done rows={rows} new={new} changed={changed} deleted={deleted}{rejected} files={files_written}"
            ))
        }
        Event::Failed { resource, error } => Some(format!("{resource} failed: {}", shown(error, 500))),
        Event::Warning { message } => Some(format!("warning: {}", shown(message, 500))),
        Event::Retry { path, reason, attempt, wait_secs } if verbose > 0 => {
            Some(format!("retry {path} after {wait_secs:.1} s: {reason} (attempt {attempt})"))
        }
        Event::Silence { path, secs } if verbose > 0 => {
            Some(format!("waiting for {path}: no answer for {secs:.0} s"))
        }
        Event::File { path, rows, bytes, .. } if verbose > 0 => {
            Some(format!("wrote {path} rows={rows} bytes={bytes}"))
        }
        _ => None,
    }
}
