//! `stripelake import`: files into the lake.

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use stripelake::config::Settings;
use stripelake::config::value::parse_time;
use stripelake::error::{Error, Kind, Result};
use stripelake::run::import::{Content, Input, import};

use crate::cli::{Global, Import, given};
use crate::{output, setup, signals};

const INPUTS: &str = "name files of list pages or of objects in lines, plain or gzip, or - for stdin: stripelake import RESOURCE pages/*.json.gz";

pub fn run(global: &Global, flags: Import) -> Result<Option<Kind>> {
    let Import { resource, files, observed_at, writing } = flags;
    let settings = global.settings(Settings { lake: writing.lake.lake.clone(), ..Settings::default() })?;
    let setup = setup::setup(global, &settings, &writing)?;
    let resource = setup.catalog.resolve(&resource)?.clone();
    if let Some(parent) = &resource.parent {
        return Err(Error::usage(format!("{} come with their {}", resource.name, parent.resource))
            .hint(format!("import {}", parent.resource)));
    }
    let observed_at = observed_at.as_deref().map(observed).transpose()?;
    let inputs = files.into_iter().map(|file| input(file, observed_at)).collect::<Result<Vec<_>>>()?;
    let work = async { import(&setup, &resource, inputs, signals::interruption(None)?).await };
    let report = setup::block_on(work)?;
    Ok(output::report(&report, writing.json, global.quiet))
}

/// In microseconds; nothing is observed in the future.
fn observed(text: &str) -> Result<i64> {
    let time = Some(parse_time(text).map_err(|e| e.context(given("--observed-at")))?)
        .filter(|time| *time <= Timestamp::now());
    let time = time.ok_or_else(|| {
        Error::usage(format!("expected {} in the past, got a time to come", given("--observed-at")))
    });
    Ok(time?.as_microsecond())
}

/// A file's own time is the best guess of when its objects were read, so that importing an archive
/// never takes a row back in time. What comes through a pipe has none, and counts as read now.
fn input(file: PathBuf, observed_at: Option<i64>) -> Result<Input> {
    let name = file.display().to_string();
    let now = Timestamp::now().as_microsecond();
    let seen = |metadata: Option<Metadata>| {
        let changed = metadata.filter(Metadata::is_file).and_then(|metadata| metadata.modified().ok());
        observed_at.or(changed.map(micros)).unwrap_or(now).min(now)
    };
    if file == Path::new("-") {
        return Ok(Input {
            name: "stdin".to_owned(),
            content: Content::Stdin,
            observed_at: seen(of_stdin()),
        });
    }
    let wrong = |what: String| Error::usage(format!("{name}: {what}")).hint(INPUTS).lake("unchanged");
    let metadata = std::fs::metadata(&file).map_err(|e| wrong(e.to_string()))?;
    if metadata.is_dir() {
        return Err(wrong("expected a file, got a folder".to_owned()));
    }
    Ok(Input { name, content: Content::File(file), observed_at: seen(Some(metadata)) })
}

/// A time before 1970 is older than any object, and no reason to count as new.
fn micros(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// Of a file that a shell has opened for us.
#[cfg(unix)]
fn of_stdin() -> Option<Metadata> {
    use std::os::fd::AsFd;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    File::from(stdin).metadata().ok()
}

#[cfg(not(unix))]
fn of_stdin() -> Option<Metadata> {
    None
}
