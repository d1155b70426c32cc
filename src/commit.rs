//! Turns finished files into the lake: replace a file whole, keep the state, hold the lock.
//!
//! The order of a commit is partition files first, state last, so a crash in between costs work and
//! never data. No reader ever sees half a file: locally a temporary file of the same folder is synced
//! and renamed; on an object store one PUT or one completed multipart upload appears at once, fenced
//! by the etag that the file had when it was read.

pub mod lease;
pub mod listed;
pub mod local;
pub mod lock;
pub mod remote;
pub mod state;
mod sum;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::commit::local::LocalLake;
use crate::commit::remote::{Delay, RemoteLake};
use crate::commit::state::STATES;
use crate::error::{Error, Kind, Result, disk_hint, temporary_failed};

/// Folder of everything that is not data. The leading underscore keeps it out of readers' globs.
pub const META: &str = "_stripelake";

/// The file whose lock is that of a lake in a folder.
const LOCK: &str = "_stripelake/lock";

/// Where the lake is.
#[derive(Debug)]
pub enum Lake {
    Local(LocalLake),
    Remote(RemoteLake),
}

/// What a file looked like when it was read or written; the fence of the next replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// The file does not exist.
    Absent,
    /// The object's entity tag, or what a local file has instead.
    Etag(String),
    /// Nothing that could be compared: only the lake's lock, or lease, stands before a replacement.
    Unfenced,
}

impl Version {
    pub fn etag(&self) -> Option<&str> {
        match self {
            Version::Etag(etag) => Some(etag),
            _ => None,
        }
    }
}

/// A file under construction, invisible to readers; it vanishes unless it is committed.
#[derive(Debug)]
pub struct Staged {
    file: StagedFile,
}

#[derive(Debug)]
enum StagedFile {
    /// In the folder where it will be, and gone unless it is.
    Beside(tempfile::NamedTempFile),
    /// What is uploaded needs no name; it is gone with the process, however that ends.
    Nameless(File),
}

impl Staged {
    /// Where the bytes go.
    pub fn writer(&mut self) -> &mut File {
        match &mut self.file {
            StagedFile::Beside(file) => file.as_file_mut(),
            StagedFile::Nameless(file) => file,
        }
    }
}

/// Why a replacement was refused.
#[derive(Debug)]
pub enum ReplaceError {
    /// Another writer replaced the file since it was read: read it again, merge again.
    Conflict,
    Failed(Error),
}

impl From<Error> for ReplaceError {
    fn from(error: Error) -> ReplaceError {
        ReplaceError::Failed(error)
    }
}

impl Lake {
    /// Opens a folder (made when the first file is written) or `s3://bucket/prefix`.
    ///
    /// `environment` supplies `AWS_*` for an object store. Nothing is read or written yet.
    pub fn open(location: &str, environment: &[(String, String)]) -> Result<Lake> {
        if location.trim().is_empty() {
            return Err(Error::usage("expected a folder or s3://bucket/prefix as lake, got nothing"));
        }
        if location.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:")) {
            return Ok(Lake::Local(LocalLake::new(folder_of_url(location)?)));
        }
        match location.split_once("://") {
            None if location.starts_with("s3:") => {
                Err(Error::usage(format!("expected s3://bucket/prefix, got \"{location}\"")))
            }
            // A shell would have put the folder there.
            None if location == "~" || location.starts_with("~/") => {
                Err(Error::usage(format!("expected a folder, got \"{location}\""))
                    .hint("write the whole path: ~ is known to shells alone, and only without quotes"))
            }
            None => Ok(Lake::Local(LocalLake::new(location))),
            Some(("s3", rest)) => Ok(Lake::Remote(RemoteLake::s3(rest, environment)?)),
            Some((scheme, _)) => Err(Error::usage(format!(
                "expected a folder or s3://bucket/prefix as lake, got scheme \"{scheme}\""
            ))
            .hint("name a folder, or a bucket of a store that speaks S3 with AWS_ENDPOINT_URL")),
        }
    }

    /// As the user would name it.
    pub fn location(&self) -> String {
        match self {
            Lake::Local(lake) => lake.root.display().to_string(),
            Lake::Remote(lake) => lake.location.clone(),
        }
    }

    /// The same for a reader in any folder.
    pub fn absolute_location(&self) -> String {
        match self {
            Lake::Local(lake) => {
                let absolute = std::path::absolute(&lake.root).unwrap_or_else(|_| lake.root.clone());
                absolute.display().to_string()
            }
            Lake::Remote(lake) => lake.location.trim_end_matches('/').to_owned(),
        }
    }

    /// The lake that this one would lie in, if there is one: its tables would show the files of this one, too.
    pub async fn outer(&self) -> Option<String> {
        match self {
            Lake::Local(lake) => lake.outer(),
            Lake::Remote(lake) => lake.outer().await,
        }
    }

    /// Where a file is in the local file system, if the lake is there.
    pub fn local_path(&self, path: &str) -> Option<PathBuf> {
        match self {
            Lake::Local(lake) => Some(lake.path(path)),
            Lake::Remote(_) => None,
        }
    }

    /// Whom it is told where a store takes long.
    pub fn on_delay(&self, tell: impl Fn(Delay) + Send + Sync + 'static) {
        if let Lake::Remote(lake) = self {
            lake.on_delay(tell);
        }
    }

    /// An outage of the store is waited for within so much time from now.
    pub fn limit_patience(&self, time: Duration) {
        if let Lake::Remote(lake) = self {
            lake.limit_patience(time);
        }
    }

    /// Finds out early that a local folder cannot be written, or that a bucket cannot be reached; whether
    /// a bucket may be written shows when the lease is taken.
    pub async fn check_writable(&self) -> Result<()> {
        match self {
            Lake::Local(lake) => lake.check_writable(),
            Lake::Remote(lake) => lake.check_reachable().await,
        }
    }

    /// A copy or handle of a file for reading, and the version to fence its replacement with.
    /// `None` when it does not exist.
    pub async fn read(&self, path: &str) -> Result<Option<(File, Version)>> {
        match self {
            Lake::Local(lake) => Ok(lake.read(path)?.map(|file| (file, Version::Unfenced))),
            Lake::Remote(lake) => lake.read_to_temporary(path).await,
        }
    }

    /// The whole of a small file.
    pub async fn read_bytes(&self, path: &str) -> Result<Option<(Vec<u8>, Version)>> {
        match self {
            Lake::Local(lake) => Ok(lake.read_bytes(path)?.map(|bytes| (bytes, Version::Unfenced))),
            Lake::Remote(lake) => lake.read_bytes(path).await,
        }
    }

    /// A JSON file of ours. Fails with [`Kind::Integrity`] when it is not what we wrote.
    pub async fn read_json<T: DeserializeOwned>(&self, path: &str) -> Result<Option<(T, Version)>> {
        // A store, or a proxy before it, may send something else once.
        let mut may_pass = self.local_path(path).is_none();
        loop {
            let Some((bytes, version)) = self.read_bytes(path).await? else { return Ok(None) };
            match parsed(path, &bytes) {
                Err(_) if may_pass => may_pass = false,
                value => return Ok(Some((value?, version))),
            }
        }
    }

    /// A new file that will become `path`.
    pub fn stage(&self, path: &str) -> Result<Staged> {
        match self {
            Lake::Local(lake) => lake.stage(path),
            Lake::Remote(_) => {
                let folder = std::env::temp_dir();
                let file = tempfile::tempfile_in(&folder).map_err(|e| temporary_failed(&folder, &e))?;
                Ok(Staged { file: StagedFile::Nameless(file) })
            }
        }
    }

    /// Puts a finished file in place of what `seen` describes, whole and durable.
    pub async fn replace(
        &self,
        path: &str,
        staged: Staged,
        seen: &Version,
    ) -> std::result::Result<Version, ReplaceError> {
        match self {
            Lake::Local(lake) => Ok(lake.replace(path, staged)?),
            Lake::Remote(lake) => lake.replace(path, staged, seen).await,
        }
    }

    /// Replaces a small file of ours.
    pub async fn write_bytes(&self, path: &str, bytes: &[u8], seen: &Version) -> Result<Version> {
        let mut staged = self.stage(path)?;
        let written = staged.writer().write_all(bytes);
        written.map_err(|e| {
            let hint = disk_hint(&e).unwrap_or("check the disk, then run the same command again");
            Error::destination(format!("lake file {path}: {e}")).hint(hint)
        })?;
        self.replace(path, staged, seen).await.map_err(|error| match error {
            ReplaceError::Failed(error) => error,
            ReplaceError::Conflict => Error::new(
                Kind::Locked,
                format!("{path}: expected the version that this run read, got one of another writer"),
            )
            .hint("run one stripelake per lake at a time; run this one again"),
        })
    }

    pub async fn write_json<T: Serialize>(&self, path: &str, value: &T, seen: &Version) -> Result<Version> {
        let mut bytes = serde_json::to_vec_pretty(value).expect("our own types are JSON");
        bytes.push(b'\n');
        self.write_bytes(path, &bytes, seen).await
    }

    /// Writes a JSON file of ours with a checksum, for what is believed without a look at anything else.
    pub async fn write_summed_json<T: Serialize>(
        &self,
        path: &str,
        value: &T,
        seen: &Version,
    ) -> Result<Version> {
        let bytes = serde_json::to_vec_pretty(value).expect("our own types are JSON");
        self.write_bytes(path, &sum::summed(bytes), seen).await
    }

    pub async fn exists(&self, path: &str) -> Result<bool> {
        match self {
            Lake::Local(lake) => Ok(lake.read(path)?.is_some()),
            Lake::Remote(lake) => Ok(lake.present_version(path).await? != Version::Absent),
        }
    }

    /// The files in a folder; nothing where there is none.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>> {
        match self {
            Lake::Local(lake) => lake.list(folder),
            Lake::Remote(lake) => lake.list(folder).await,
        }
    }

    /// The data files in a folder and in those below it: what a reader's glob finds.
    pub async fn data_files(&self, folder: &str) -> Result<Vec<String>> {
        Ok(self.data_versions(folder).await?.into_keys().collect())
    }

    /// The same with what each file looks like. Links to folders are among them, with a slash behind their names: readers
    /// differ in whether they follow those.
    pub async fn data_versions(&self, folder: &str) -> Result<BTreeMap<String, Version>> {
        let (found, has_links) = match self {
            Lake::Local(lake) => (lake.files_below(folder)?, true),
            Lake::Remote(lake) => (lake.files_below(folder).await?, false),
        };
        let is_read = |path: &str| path.ends_with(".parquet") || has_links && path.ends_with('/');
        Ok(found.into_iter().filter(|(path, _)| is_read(path)).collect())
    }

    /// Removes what killed runs have left unfinished in the folders of these tables and in our own. Call it
    /// with the lock. An object store has nothing of the kind: there a file appears whole.
    pub fn remove_leftovers<'a>(&self, tables: impl Iterator<Item = &'a str>) -> Result<()> {
        match self {
            Lake::Local(lake) => lake.remove_leftovers(tables),
            Lake::Remote(_) => Ok(()),
        }
    }

    /// Removes a folder of ours in which nothing is left. Call it when nobody begins a file there any longer.
    pub fn remove_empty_folder(&self, folder: &str) {
        if let Lake::Local(lake) = self {
            let _ = std::fs::remove_dir(lake.path(folder));
        }
    }

    /// Removes a file; it may be gone already.
    pub async fn remove(&self, path: &str) -> Result<()> {
        match self {
            Lake::Local(lake) => lake.remove(path),
            Lake::Remote(lake) => lake.remove(path).await,
        }
    }

    /// Takes an empty file away whose folder is of another kind than that of `path`, which is about to be written: readers meet
    /// no two kinds. In a folder they meet one of them at any time; in a store, for as long as the write takes, none.
    pub async fn give_way(&self, empty: &str, path: &str) -> Result<()> {
        match self {
            Lake::Local(lake) => lake.rename(empty, path),
            Lake::Remote(lake) => lake.remove(empty).await,
        }
    }
}

/// The folder of a `file:` URL. What a URL may have beside a path is no part of a folder's name.
fn folder_of_url(location: &str) -> Result<PathBuf> {
    let url = Url::parse(location).ok().filter(|_| location[5..].starts_with('/'));
    let is_path = |url: &Url| url.query().is_none() && url.fragment().is_none();
    url.filter(is_path).and_then(|url| url.to_file_path().ok()).ok_or_else(|| {
        Error::usage(format!("expected file:///folder, got \"{location}\""))
            .hint("name the folder by its path alone, or by its whole path in a URL")
    })
}

fn parsed<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T> {
    let damaged = |what: String| {
        Error::integrity(format!("{path}: {what}")).hint(match path.starts_with(STATES) {
            true => {
                "restore the file from a copy; or move it out of the lake, and sync again without a window"
            }
            false => "restore the file from a backup, or move the lake away and sync anew",
        })
    };
    match sum::holds(bytes) {
        true => serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string())),
        false => Err(damaged("its content is not what its crc32 says".to_owned())),
    }
}
