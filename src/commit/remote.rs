//! Turns staged files into objects of a store: one PUT or one completed multipart upload, fenced by etag.

mod client;
mod failed;
mod parts;
mod patience;
mod proof;
mod settings;
mod tags;

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
use tokio::time::Instant;

use crate::commit::lease::{Holding, refused_in_vain};
use crate::commit::remote::client::Repeats;
use crate::commit::remote::failed::is_missing_object;
use crate::commit::remote::parts::Abandoned;
pub use crate::commit::remote::patience::Delay;
use crate::commit::remote::patience::{ANSWER, Patience};
use crate::commit::remote::tags::Tags;
use crate::commit::state::LAKE;
use crate::commit::{ReplaceError, Staged, StagedFile, Version};
use crate::error::{Error, Result};
use crate::redact::Secrets;

/// A file up to this size is one PUT, which the store checks against the etag itself.
const ONE_PUT: u64 = 64 << 20;

/// What a lake needs of an object store.
pub trait Store: ObjectStore + MultipartStore {}

impl<S: ObjectStore + MultipartStore> Store for S {}

/// A lake under a prefix of an object store.
#[derive(Clone)]
pub struct RemoteLake {
    pub store: Arc<dyn Store>,
    /// The same without repetitions of its own.
    once: Arc<dyn Store>,
    prefix: Path,
    pub location: String,
    /// Asked before each write.
    pub lease: Arc<Holding>,
    tags: Arc<Tags>,
    abandoned: Arc<Abandoned>,
    patience: Arc<Patience>,
    secrets: Secrets,
}

impl fmt::Debug for RemoteLake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteLake").field("location", &self.location).finish_non_exhaustive()
    }
}

impl RemoteLake {
    /// A lake in any store; tests give one in memory.
    pub fn new(store: Arc<dyn Store>, prefix: Path, location: &str) -> RemoteLake {
        let location = location.to_owned();
        RemoteLake {
            once: store.clone(),
            store,
            prefix,
            location,
            lease: Arc::default(),
            tags: Arc::default(),
            abandoned: Arc::default(),
            patience: Arc::default(),
            secrets: Secrets::default(),
        }
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
        let store = client::client(&location, bucket, environment, Repeats::Itself)?;
        let once = client::client(&location, bucket, environment, Repeats::Never)?;
        let secret = environment.iter().filter(|(name, _)| settings::is_secret(name));
        let secrets = Secrets::new(secret.map(|(_, value)| value.trim().to_owned()));
        let lake = RemoteLake::new(Arc::new(store), prefix, &location);
        Ok(RemoteLake { secrets, once: Arc::new(once), ..lake })
    }

    pub fn on_delay(&self, tell: impl Fn(Delay) + Send + Sync + 'static) {
        let secrets = self.secrets.clone();
        self.patience.on_delay(move |delay| {
            tell(match delay {
                Delay::Outage(message) => Delay::Outage(failed::without(&message, &secrets)),
                silence => silence,
            });
        });
    }

    /// An outage is waited for within so much time from now.
    pub fn limit_patience(&self, time: Duration) {
        // One that is too far away is none.
        if let Some(deadline) = Instant::now().checked_add(time) {
            self.patience.until(deadline);
        }
    }

    /// Whether an outage was waited for in vain.
    pub fn is_given_up(&self) -> bool {
        self.patience.is_given_up()
    }

    fn path(&self, path: &str) -> Path {
        below(&self.prefix, path)
    }

    /// The lake above this one, as far as the credentials let it be seen.
    pub async fn outer(&self) -> Option<String> {
        let parts: Vec<_> = self.prefix.parts().collect();
        let mut location = self.location.trim_end_matches('/');
        for n in (0..parts.len()).rev() {
            location = location.rsplit_once('/')?.0;
            let above = Path::from_iter(parts[..n].iter().cloned());
            if self.patience.within(ANSWER, self.store.head(&below(&above, LAKE))).await.is_ok() {
                return Some(location.to_owned());
            }
        }
        None
    }

    /// Asks for one object that need not exist; the answer shows whether bucket and key are right.
    pub async fn check_reachable(&self) -> Result<()> {
        for pause in [Duration::from_secs(1), Duration::ZERO] {
            let read = self.read_bytes(LAKE).await?;
            if !read.is_some_and(|(bytes, _)| bytes.trim_ascii_start().starts_with(b"<")) {
                return Ok(());
            }
            // It may have been one odd answer.
            tokio::time::sleep(pause).await;
        }
        Err(Error::destination(format!("{}/{LAKE}: expected JSON, got a page of HTML or XML", self.location))
            .hint("what answers there is no S3: check AWS_ENDPOINT_URL"))
    }

    pub async fn read_bytes(&self, path: &str) -> Result<Option<(Vec<u8>, Version)>> {
        self.read(path, || Ok(Vec::new())).await
    }

    /// Streams the object into a nameless temporary file.
    pub async fn read_to_temporary(&self, path: &str) -> Result<Option<(File, Version)>> {
        let Some((mut file, version)) = self.read(path, tempfile::tempfile).await? else { return Ok(None) };
        file.rewind().map_err(temporary_failed)?;
        Ok(Some((file, version)))
    }

    /// Reads an object into what `new` makes, from the beginning again where it breaks off.
    async fn read<W: Write>(
        &self,
        path: &str,
        new: impl Fn() -> io::Result<W>,
    ) -> Result<Option<(W, Version)>> {
        let mut tries = self.patience.tries();
        loop {
            let mut target = new().map_err(temporary_failed)?;
            match self.read_once(path, &mut target).await {
                Ok(version) => return Ok(Some((target, version))),
                Err(Broken::Store(error)) if is_missing_object(&error) => return Ok(None),
                Err(Broken::Store(error)) if tries.may_repeat(&error).await => {}
                Err(broken) => return Err(self.broken(path, broken)),
            }
        }
    }

    /// A large object may take as long as it likes, as long as bytes come.
    async fn read_once(&self, path: &str, target: &mut impl Write) -> std::result::Result<Version, Broken> {
        let result = self.patience.within(ANSWER, self.store.get(&self.path(path))).await?;
        let version = version(result.meta.e_tag.clone());
        let mut stream = result.into_stream();
        while let Some(bytes) = self.patience.within(ANSWER, stream.try_next()).await? {
            target.write_all(&bytes)?;
        }
        Ok(version)
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
        self.put(path, bytes.into(), seen, true).await
    }

    /// A PUT may land although its answer is lost or says something else, so after each failure the object is read: if it is
    /// byte for byte ours, it counts as written. If it is what it was, the PUT is repeated: object_store does so after an
    /// answer of 5xx, not after a broken connection, without an answer, or after a refusal without a reason. So it is where other
    /// bytes have landed than were sent. The lease is asked for before each further try, but for its own write.
    async fn put(
        &self,
        path: &str,
        bytes: Bytes,
        seen: &Version,
        asks_for_lease: bool,
    ) -> std::result::Result<Version, ReplaceError> {
        let at = self.path(path);
        let mut seen = seen.clone();
        let mut tries = self.patience.tries_to_write();
        loop {
            let store = if self.patience.writes_are_given_up() { &self.once } else { &self.store };
            let put = store.put_opts(&at, bytes.clone().into(), mode(&seen).into());
            let error = match self.patience.write(path, bytes.len() as u64, !asks_for_lease, put).await {
                Ok(result) => {
                    let written = version(result.e_tag);
                    if self.tags.fit(written.etag(), &bytes) {
                        return Ok(written);
                    }
                    seen = written;
                    tags::altered()
                }
                Err(error) => error,
            };
            use object_store::Error::{AlreadyExists, Generic, NotFound, Precondition};
            let is_refused = matches!(error, Precondition { .. } | AlreadyExists { .. } | NotFound { .. });
            if !is_refused && !matches!(error, Generic { .. }) {
                return Err(self.failed(path, &error).into());
            }
            let present = match self.read_bytes(path).await {
                Ok(Some((present, version))) if present == bytes => {
                    self.tags.are_of(version.etag(), &present);
                    return Ok(version);
                }
                Ok(present) => present.map_or(Version::Absent, |(_, version)| version),
                // Whether it is what was sent is not known then.
                Err(unread) if tags::is_altered(&error) => return Err(unread.into()),
                Err(_) => return Err(self.failed(path, &error).into()),
            };
            if present != seen {
                return Err(ReplaceError::Conflict);
            }
            if !tries.wait(&error).await {
                // Nobody else has written it.
                return Err(if is_refused {
                    refused_in_vain(path, &seen, &failed::said(&error, &self.secrets))
                } else {
                    self.failed(path, &error)
                }
                .into());
            }
            if asks_for_lease {
                // Which may come to a PUT of its own.
                Box::pin(self.lease.check(self)).await?;
            }
        }
    }

    pub async fn present_version(&self, path: &str) -> Result<Version> {
        let at = self.path(path);
        match self.repeated(|| self.store.head(&at)).await {
            Ok(meta) => Ok(version(meta.e_tag)),
            Err(error) if is_missing_object(&error) => Ok(Version::Absent),
            Err(error) => Err(self.failed(path, &error)),
        }
    }

    /// Writes the lease, on a condition; `None` when it is not met.
    pub async fn put_if(&self, path: &str, bytes: Vec<u8>, seen: &Version) -> Result<Option<Version>> {
        match self.put(path, bytes.into(), seen, false).await {
            Ok(version) => Ok(Some(version)),
            Err(ReplaceError::Conflict) => Ok(None),
            Err(ReplaceError::Failed(error)) => Err(error),
        }
    }

    pub async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = self.path(folder);
        let found =
            self.patience.repeated(|| self.list_all(&prefix)).await.map_err(|e| self.failed(folder, &e))?;
        let depth = prefix.parts_count() + 1;
        let direct = found.iter().filter(|object| object.location.parts_count() == depth);
        let names = direct.filter_map(|object| object.location.filename());
        Ok(names.map(|name| format!("{folder}/{name}")).collect())
    }

    pub async fn files_below(&self, folder: &str) -> Result<Vec<(String, Version)>> {
        let prefix = self.path(folder);
        let found =
            self.patience.repeated(|| self.list_all(&prefix)).await.map_err(|e| self.failed(folder, &e))?;
        let below = |object: &ObjectMeta| {
            let parts: Vec<_> =
                object.location.prefix_match(&prefix)?.map(|part| part.as_ref().to_owned()).collect();
            Some((format!("{folder}/{}", parts.join("/")), version(object.e_tag.clone())))
        };
        Ok(found.iter().filter_map(below).collect())
    }

    async fn list_all(&self, prefix: &Path) -> object_store::Result<Vec<ObjectMeta>> {
        let mut stream = self.store.list(Some(prefix));
        // A store that begins anew each time would never come to an end.
        let (mut found, mut locations) = (Vec::new(), HashSet::new());
        while let Some(object) = self.patience.within(ANSWER, stream.try_next()).await? {
            if !locations.insert(object.location.clone()) {
                let what = format!("the list of {prefix} names {} twice", object.location);
                return Err(object_store::Error::Generic { store: "S3", source: what.into() });
            }
            found.push(object);
        }
        Ok(found)
    }

    /// A removal has no condition, so the lease is looked at before each try.
    pub async fn remove(&self, path: &str) -> Result<()> {
        let at = self.path(path);
        let mut tries = self.patience.tries();
        loop {
            self.lease.check(self).await?;
            match self.patience.within(ANSWER, self.store.delete(&at)).await {
                Ok(()) => return Ok(()),
                Err(error) if is_missing_object(&error) => return Ok(()),
                Err(error) if tries.may_repeat(&error).await => {}
                Err(error) => return Err(self.failed(path, &error)),
            }
        }
    }

    /// For what may happen twice, and has little to say.
    async fn repeated<T, F: Future<Output = object_store::Result<T>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> object_store::Result<T> {
        self.patience.repeated(|| self.patience.within(ANSWER, ask())).await
    }

    fn broken(&self, path: &str, broken: Broken) -> Error {
        match broken {
            Broken::Store(error) => self.failed(path, &error),
            Broken::Temporary(error) => temporary_failed(error),
        }
    }

    fn failed(&self, path: &str, error: &object_store::Error) -> Error {
        let failed = failed::failed(&self.location, path, error, &self.secrets);
        match self.patience.has_ended(error) {
            true => failed.hint("the store had answered before: run the same command again later"),
            false => failed,
        }
    }
}

/// On the condition that what stands there is what was seen.
fn mode(seen: &Version) -> PutMode {
    match seen {
        Version::Etag(etag) => PutMode::Update(UpdateVersion { e_tag: Some(etag.clone()), version: None }),
        Version::Absent => PutMode::Create,
        Version::Unfenced => PutMode::Overwrite,
    }
}

fn below(prefix: &Path, path: &str) -> Path {
    path.split('/').filter(|part| !part.is_empty()).fold(prefix.clone(), |at, part| at.join(part))
}

/// What can break between a store and a temporary file.
enum Broken {
    Store(object_store::Error),
    Temporary(io::Error),
}

impl From<object_store::Error> for Broken {
    fn from(error: object_store::Error) -> Broken {
        Broken::Store(error)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Temporary(error)
    }
}

fn version(e_tag: Option<String>) -> Version {
    e_tag.map_or(Version::Unfenced, Version::Etag)
}

fn temporary_failed(error: std::io::Error) -> Error {
    crate::error::temporary_failed(&std::env::temp_dir(), &error)
}
