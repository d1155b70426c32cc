//! Turns resolved settings into what a run of the library needs.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use stripelake::catalog::Catalog;
use stripelake::commit::Lake;
use stripelake::config::Settings;
use stripelake::config::value::parse_duration;
use stripelake::encode;
use stripelake::error::{Error, Result};
use stripelake::run::{Setup, location};

use crate::cli::{Global, Writing, given};
use crate::limits;
use crate::progress::{self, receiver};

/// The lake that the settings name, with `AWS_*` of the environment, at a place where its tables can be read.
pub fn lake(settings: &Settings, catalog: &Catalog) -> Result<Lake> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    // What is no text is skipped: it may be anybody's.
    let variables = std::env::vars_os().filter_map(text);
    let aws: Vec<_> = variables.filter(|(name, _)| name.starts_with("AWS_")).collect();
    let lake = Lake::open(settings.lake(), &aws)?;
    location::check(&lake, catalog)?;
    Ok(lake)
}

/// A run that begins now.
pub fn setup(global: &Global, settings: &Settings, writing: &Writing) -> Result<Setup> {
    let Writing { lake: _, wait_lock, zstd_level, memory, json, progress } = writing;
    let started_at = Timestamp::now();
    let catalog = Catalog::embedded()?;
    for name in settings.resources.keys() {
        let resource = catalog.resolve(name).map_err(|error| error.context(format!("[resources.{name}]")))?;
        if let Some(parent) = &resource.parent {
            let (what, parent) =
                (format!("[resources.{name}]: it lies as its {0} do", parent.resource), &parent.resource);
            return Err(Error::usage(what).hint(format!("set [resources.{parent}]")));
        }
    }
    let lake = lake(settings, &catalog)?;
    Ok(Setup {
        catalog: Arc::new(catalog),
        lake: Arc::new(lake),
        owner: None,
        run_id: run_id(started_at),
        started_at,
        encode: encode::Options { zstd_level: *zstd_level, ..encode::Options::default() },
        memory: (*memory as usize) << 20,
        temporary: std::env::temp_dir(),
        grains: settings.grains()?,
        wait_lock: wait_lock
            .as_deref()
            .map(|text| parse_duration(text).map_err(|e| e.context(given("--wait-lock"))))
            .transpose()?
            .unwrap_or(Duration::ZERO),
        on_event: receiver(*progress, *json, global),
    })
}

/// Sorts by time and differs between runs of one second.
pub fn run_id(now: Timestamp) -> String {
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    format!("{time}-{:08x}", now.subsec_nanosecond() as u32 ^ std::process::id().rotate_left(16))
}

/// Runs the asynchronous side of the process. Blocking work that nobody waits for any more, such as a merge
/// after a signal or a read from a silent pipe, ends with the process.
pub fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    limits::check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| limits::failed("runtime", e))?;
    let outcome = runtime.block_on(async {
        survive_file_limits();
        work.await
    });
    runtime.shutdown_background();
    progress::end();
    outcome
}

/// With a limit on the size of files, a write over it fails then, and is told, instead of ending the process.
fn survive_file_limits() {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use tokio::signal::unix::{SignalKind, signal};
        /// SIGXFSZ where this program runs.
        const FILE_SIZE_EXCEEDED: i32 = 25;
        let _ = signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED));
    }
}
