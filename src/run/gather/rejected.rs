//! Turns objects that cannot be rows into files of lines, and such files of earlier runs into objects again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Deserialize;

use crate::commit::state::rejected_path;
use crate::commit::{Lake, Version};
use crate::decode::Rejected;
use crate::decode::rows::LAST_CREATED;
use crate::error::{Error, Kind, Result};
use crate::redact::shown;

/// Rejected objects kept at most, in bytes; more is not an odd object but a wrong server.
const MAX_BYTES: usize = 32 << 20;

/// What one listing, by one run or several, could not make rows of.
#[derive(Debug, Default)]
pub struct RejectedObjects {
    /// Of this run. Each object once: where slices were cut, a page may be read twice.
    own: BTreeSet<Rejected>,
    /// Of earlier runs of the same listing.
    earlier: BTreeSet<Rejected>,
    earlier_files: Vec<String>,
    n_bytes: usize,
    /// The files of this run, which grow with it.
    written: BTreeMap<String, Version>,
    /// Objects that stand in them.
    n_written: usize,
}

/// A line of a file: the object as text, or as bytes where it is none.
#[derive(Deserialize)]
struct Line {
    reason: String,
    text: Option<String>,
    bytes: Option<Vec<u8>>,
}

/// Of an object.
#[derive(Deserialize)]
struct Created {
    created: i64,
}

impl RejectedObjects {
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.earlier.is_empty()
    }

    /// Whether one of them may be an object of `resource` from these seconds. Those that do not say when they were created, or belong
    /// to another object, may be of any.
    pub fn may_be_of(&self, resource: &str, seconds: &Range<i64>) -> bool {
        // Another one may be why the object is no row.
        let is_time = |created| (0..LAST_CREATED).contains(&created);
        let may_be = |object: &Rejected| match serde_json::from_slice::<Created>(&object.raw) {
            Ok(Created { created }) if object.resource == resource && is_time(created) => {
                seconds.contains(&created)
            }
            _ => true,
        };
        self.own.iter().chain(&self.earlier).any(may_be)
    }

    /// Whether the object is new; an earlier run, or another slice, may have met it.
    pub fn add(&mut self, object: Rejected) -> bool {
        let n_bytes = object.raw.len();
        let is_new = !self.earlier.contains(&object) && self.own.insert(object);
        self.n_bytes += if is_new { n_bytes } else { 0 };
        is_new
    }

    /// Fails when there are more than odd objects can be.
    pub fn check_size(&self) -> Result<()> {
        let reason = self.own.first().map_or("", |object| &object.reason);
        match self.n_bytes > MAX_BYTES {
            true => {
                let what = format!("too many objects cannot be rows, one because: {reason}");
                Err(Error::new(Kind::Partial, what).hint(
                    "look at some of them in _stripelake/rejected: is it Stripe that answers, and in this version of its API?",
                ))
            }
            false => Ok(()),
        }
    }

    pub fn n_of(&self, resource: &str) -> u64 {
        self.of(resource).count() as u64
    }

    /// Why one of them is no row.
    pub fn reason_of(&self, resource: &str) -> Option<String> {
        self.of(resource).next().map(|object| shown(&object.reason, 300))
    }

    fn of<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = &'a Rejected> {
        self.own.iter().chain(&self.earlier).filter(move |object| object.resource == resource)
    }

    /// Where the objects are kept, as far as they have been written.
    pub fn files(&self) -> Vec<String> {
        self.earlier_files.iter().chain(self.written.keys()).cloned().collect()
    }

    /// The files with objects of one resource.
    pub fn files_of(&self, resource: &str) -> Vec<String> {
        let mut files = self.files();
        files.retain(|path| resource_of(path) == resource);
        files
    }

    /// Writes what is not written yet. Earlier runs have files of their own.
    pub async fn write(&mut self, lake: &Lake, run_id: &str) -> Result<()> {
        if self.own.len() == self.n_written {
            return Ok(());
        }
        let mut lines: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for object in &self.own {
            let line = match std::str::from_utf8(&object.raw) {
                Ok(text) => serde_json::json!({"reason": object.reason, "text": text}),
                Err(_) => serde_json::json!({"reason": object.reason, "bytes": object.raw}),
            };
            let lines = lines.entry(&object.resource).or_default();
            lines.extend(line.to_string().into_bytes());
            lines.push(b'\n');
        }
        for (resource, bytes) in lines {
            let path = rejected_path(run_id, resource);
            let seen = self.written.get(&path).cloned().unwrap_or(Version::Absent);
            let version = lake.write_bytes(&path, &bytes, &seen).await?;
            self.written.insert(path, version);
        }
        self.n_written = self.own.len();
        Ok(())
    }

    /// Takes up what earlier runs have kept. `None` where a file has gone or is not what they wrote: then
    /// its objects have to be met again.
    pub async fn read(lake: &Lake, files: &[String]) -> Result<Option<RejectedObjects>> {
        let mut objects = RejectedObjects { earlier_files: files.to_vec(), ..RejectedObjects::default() };
        for path in files {
            let Some((bytes, _)) = lake.read_bytes(path).await? else { return Ok(None) };
            let lines = serde_json::Deserializer::from_slice(&bytes).into_iter::<Line>();
            for line in lines {
                let Ok(Line { reason, text, bytes }) = line else { return Ok(None) };
                let Some(raw) = text.map(String::into_bytes).or(bytes) else { return Ok(None) };
                objects.n_bytes += raw.len();
                objects.earlier.insert(Rejected::new(resource_of(path), reason, &raw));
            }
        }
        Ok(Some(objects))
    }
}

fn resource_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".ndjson").unwrap_or(name)
}
