//! Turns staged files into objects of a store: one PUT or one completed multipart upload, fenced by etag.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig, UpdateVersion,
};

use tokio::time::{Instant, sleep};

use crate::commit::lease::Holding;
use crate::commit::{ReplaceError, Staged, StagedFile, Version};
use crate::error::{Error, Result};
use crate::redact::Secrets;

/// A file up to this size is one PUT, which the store checks against the etag itself.
const ONE_PUT: u64 = 64 << 20;
/// Part size of larger files; 10,000 parts make 160 GB.
const PART: usize = 16 << 20;

/// A PUT that came to nothing is repeated for so long, beside what object_store repeats itself.
const RETRIES: Duration = Duration::from_secs(20);
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// A lake under a prefix of an object store.
#[derive(Debug, Clone)]
pub struct RemoteLake {
    pub store: Arc<dyn ObjectStore>,
    prefix: Path,
    pub location: String,
    /// Asked before each write.
    pub lease: Arc<Holding>,
    secrets: Secrets,
}

impl RemoteLake {
    /// A lake in any store; tests give one in memory.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, location: &str) -> RemoteLake {
        let location = location.to_owned();
        RemoteLake { store, prefix, location, lease: Arc::default(), secrets: Secrets::default() }
    }

    /// `rest` is `bucket` or `bucket/prefix`; credentials, region and endpoint come from `AWS_*`.
    pub fn s3(rest: &str, environment: &[(String, String)]) -> Result<RemoteLake> {
        let location = format!("s3://{rest}");
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || prefix.starts_with('/') {
            return Err(Error::usage(format!("expected s3://bucket/prefix, got \"{location}\"")));
        }
        // As the user names it, so that readers find it by the same name.
        let prefix = Path::parse(prefix)
            .map_err(|e| Error::usage(format!("expected s3://bucket/prefix, got \"{location}\": {e}")))?;
        let retry =
            RetryConfig { max_retries: 8, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_retry(retry)
            .with_client_options(ClientOptions::new().with_timeout(Duration::from_secs(300)));
        for (key, value) in environment {
            // Other variables of the AWS family, such as AWS_PROFILE, are not for this client.
            if let Ok(key) = key.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let store = builder
            .build()
            .map_err(|e| Error::usage(format!("lake {location}: {e}")).hint("set the AWS_* variables"))?;
        let is_secret = |name: &str| ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"].contains(&name);
        let secret = environment.iter().filter(|(name, _)| is_secret(name));
        let secrets = Secrets::new(secret.map(|(_, value)| value.clone()));
        Ok(RemoteLake { secrets, ..RemoteLake::new(Arc::new(store), prefix, &location) })
    }

    fn path(&self, path: &str) -> Path {
        path.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |at, part| at.join(part))
    }

    /// Asks for one object that need not exist; the answer shows whether bucket and key are right.
    pub async fn check_reachable(&self) -> Result<()> {
        self.read_bytes(&format!("{}/lake.json", crate::commit::META)).await.map(drop)
    }

    async fn get(&self, path: &str) -> Result<Option<object_store::GetResult>> {
        match self.store.get_opts(&self.path(path), GetOptions::default()).await {
            Ok(result) => Ok(Some(result)),
            Err(error) if is_missing_object(&error) => Ok(None),
            Err(error) => Err(self.failed(path, &error)),
        }
    }

    pub async fn read_bytes(&self, path: &str) -> Result<Option<(Vec<u8>, Version)>> {
        let Some(result) = self.get(path).await? else { return Ok(None) };
        let version = version(result.meta.e_tag.clone());
        let bytes = result.bytes().await.map_err(|e| self.failed(path, &e))?;
        Ok(Some((bytes.to_vec(), version)))
    }

    /// Streams the object into a nameless temporary file.
    pub async fn read_to_temporary(&self, path: &str) -> Result<Option<(File, Version)>> {
        let Some(result) = self.get(path).await? else { return Ok(None) };
        let version = version(result.meta.e_tag.clone());
        let mut file = tempfile::tempfile().map_err(temporary_failed)?;
        let mut stream = result.into_stream();
        while let Some(bytes) = stream.next().await {
            let bytes = bytes.map_err(|e| self.failed(path, &e))?;
            file.write_all(&bytes).map_err(temporary_failed)?;
        }
        file.rewind().map_err(temporary_failed)?;
        Ok(Some((file, version)))
    }

    pub async fn replace(
        &self,
        path: &str,
        staged: Staged,
        seen: &Version,
    ) -> std::result::Result<Version, ReplaceError> {
        self.lease.check(self).await?;
        let StagedFile::Nameless(mut file) = staged.file else {
            unreachable!("what is uploaded has no name")
        };
        file.rewind().map_err(temporary_failed)?;
        let n_bytes = file.metadata().map_err(temporary_failed)?.len();
        if n_bytes > ONE_PUT {
            return self.upload_parts(path, &mut file, seen).await;
        }
        let mut bytes = Vec::with_capacity(n_bytes as usize);
        file.read_to_end(&mut bytes).map_err(temporary_failed)?;
        self.put(path, bytes.into(), seen).await
    }

    /// A PUT may land although its answer is lost or says something else, so after each failure the object is read: if it is
    /// byte for byte ours, it counts as written. If it is what it was, the PUT is repeated: object_store does so after an
    /// answer of 5xx, not after a broken connection or a refusal without a reason.
    async fn put(
        &self,
        path: &str,
        bytes: Bytes,
        seen: &Version,
    ) -> std::result::Result<Version, ReplaceError> {
        let mode = match seen {
            Version::Etag(etag) => {
                PutMode::Update(UpdateVersion { e_tag: Some(etag.clone()), version: None })
            }
            Version::Absent => PutMode::Create,
            Version::Locked => PutMode::Overwrite,
        };
        let until = Instant::now() + RETRIES;
        let mut wait = FIRST_WAIT;
        loop {
            let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
            let payload = PutPayload::from_bytes(bytes.clone());
            let error = match self.store.put_opts(&self.path(path), payload, options).await {
                Ok(result) => return Ok(version(result.e_tag)),
                Err(error) => error,
            };
            use object_store::Error::{AlreadyExists, Generic, NotFound, Precondition};
            let is_refused = matches!(error, Precondition { .. } | AlreadyExists { .. } | NotFound { .. });
            if !is_refused && !matches!(error, Generic { .. }) {
                return Err(self.failed(path, &error).into());
            }
            let present = match self.read_bytes(path).await {
                Ok(Some((present, version))) if present == bytes => return Ok(version),
                Ok(present) => present.map_or(Version::Absent, |(_, version)| version),
                Err(_) => return Err(self.failed(path, &error).into()),
            };
            if &present != seen {
                return Err(ReplaceError::Conflict);
            }
            if Instant::now() + wait > until {
                return Err(if is_refused {
                    ReplaceError::Conflict
                } else {
                    self.failed(path, &error).into()
                });
            }
            sleep(wait).await;
            wait *= 2;
        }
    }

    /// Multipart uploads cannot be made conditional here, so the etag is compared right before the
    /// upload becomes visible; the lease keeps other writers away in between.
    async fn upload_parts(
        &self,
        path: &str,
        file: &mut File,
        seen: &Version,
    ) -> std::result::Result<Version, ReplaceError> {
        file.seek(SeekFrom::Start(0)).map_err(temporary_failed)?;
        let target = self.path(path);
        let mut upload = self.store.put_multipart(&target).await.map_err(|e| self.failed(path, &e))?;
        let completed = match self.put_parts(path, file, upload.as_mut()).await {
            Ok(()) => self.complete(path, file, seen, upload.as_mut()).await,
            Err(error) => Err(error),
        };
        if completed.is_err() {
            let _ = upload.abort().await;
        }
        completed
    }

    async fn put_parts(
        &self,
        path: &str,
        file: &File,
        upload: &mut dyn MultipartUpload,
    ) -> std::result::Result<(), ReplaceError> {
        loop {
            let mut part = Vec::with_capacity(PART);
            file.take(PART as u64).read_to_end(&mut part).map_err(temporary_failed)?;
            if part.is_empty() {
                return Ok(());
            }
            upload.put_part(part.into()).await.map_err(|error| self.failed(path, &error))?;
        }
    }

    async fn complete(
        &self,
        path: &str,
        file: &File,
        seen: &Version,
        upload: &mut dyn MultipartUpload,
    ) -> std::result::Result<Version, ReplaceError> {
        self.lease.check(self).await?;
        if &self.present_version(path).await? != seen {
            return Err(ReplaceError::Conflict);
        }
        match upload.complete().await {
            Ok(result) => Ok(version(result.e_tag)),
            // It may be complete although the answer was lost.
            Err(error) => match self.read_to_temporary(path).await {
                Ok(Some((present, version))) if is_same(&present, file)? => Ok(version),
                _ => Err(self.failed(path, &error).into()),
            },
        }
    }

    pub async fn present_version(&self, path: &str) -> Result<Version> {
        match self.store.head(&self.path(path)).await {
            Ok(meta) => Ok(version(meta.e_tag)),
            Err(error) if is_missing_object(&error) => Ok(Version::Absent),
            Err(error) => Err(self.failed(path, &error)),
        }
    }

    /// Writes a small object on a condition; `None` when it is not met.
    pub async fn put_if(&self, path: &str, bytes: Vec<u8>, seen: &Version) -> Result<Option<Version>> {
        match self.put(path, bytes.into(), seen).await {
            Ok(version) => Ok(Some(version)),
            Err(ReplaceError::Conflict) => Ok(None),
            Err(ReplaceError::Failed(error)) => Err(error),
        }
    }

    pub async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let found = self.store.list_with_delimiter(Some(&self.path(folder))).await;
        let found = found.map_err(|e| self.failed(folder, &e))?;
        let names = found.objects.iter().filter_map(|object| object.location.filename());
        Ok(names.map(|name| format!("{folder}/{name}")).collect())
    }

    pub async fn files_below(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = self.path(folder);
        let found: Vec<ObjectMeta> =
            self.store.list(Some(&prefix)).try_collect().await.map_err(|e| self.failed(folder, &e))?;
        let below = |object: &ObjectMeta| {
            let parts: Vec<_> =
                object.location.prefix_match(&prefix)?.map(|part| part.as_ref().to_owned()).collect();
            Some(format!("{folder}/{}", parts.join("/")))
        };
        Ok(found.iter().filter_map(below).collect())
    }

    pub async fn remove(&self, path: &str) -> Result<()> {
        self.lease.check(self).await?;
        match self.store.delete(&self.path(path)).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing_object(&error) => Ok(()),
            Err(error) => Err(self.failed(path, &error)),
        }
    }

    fn failed(&self, path: &str, error: &object_store::Error) -> Error {
        let text = self.secrets.without(&chain(error));
        let hint = if text.contains("NoSuchBucket") {
            "create the bucket, or correct --lake"
        } else if text.contains("SignatureDoesNotMatch") || text.contains("InvalidAccessKeyId") {
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        } else if text.contains("AccessDenied") || text.contains("403") {
            "allow s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket on the lake's prefix"
        } else if text.contains("RequestTimeTooSkewed") {
            "set this machine's clock"
        } else {
            "check the AWS_* variables and AWS_ENDPOINT_URL, then run the same command again"
        };
        Error::destination(format!("{}/{path}: {text}", self.location)).hint(hint)
    }
}

fn is_same(a: &File, b: &File) -> std::result::Result<bool, Error> {
    let is_same = || -> io::Result<bool> {
        let (mut a, mut b) = (a, b);
        if a.metadata()?.len() != b.metadata()?.len() {
            return Ok(false);
        }
        a.rewind()?;
        b.rewind()?;
        let (mut x, mut y) = (Vec::with_capacity(PART), Vec::with_capacity(PART));
        loop {
            x.clear();
            y.clear();
            a.take(PART as u64).read_to_end(&mut x)?;
            b.take(PART as u64).read_to_end(&mut y)?;
            if x != y || x.is_empty() {
                return Ok(x == y);
            }
        }
    };
    is_same().map_err(temporary_failed)
}

fn version(e_tag: Option<String>) -> Version {
    e_tag.map_or(Version::Locked, Version::Etag)
}

/// A missing bucket is "not found" too, but no reason to go on.
fn is_missing_object(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && !chain(error).contains("NoSuchBucket")
}

/// The error and its causes, each said once, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn temporary_failed(error: std::io::Error) -> Error {
    Error::destination(format!("temporary file: {error}"))
        .hint("free space, or set TMPDIR to a folder with more")
}
