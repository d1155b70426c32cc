//! Turns a large file into one object: parts that no reader sees until all of them are there.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Mutex;
use std::time::Duration;

use futures::future::join_all;
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{MultipartId, PutPayload};
use tokio::time::timeout;

use crate::commit::remote::patience::{ANSWER, COMPLETION, could_not_connect, is_odd_completion};
use crate::commit::remote::tags::{altered, is_altered};
use crate::commit::remote::{Broken, RemoteLake, temporary_failed, version};
use crate::commit::{ReplaceError, Version};
use crate::error::Result;

/// Size of a part; 10,000 of them make 160 GB.
const PART: usize = 16 << 20;
/// Of one part, where other bytes seem to arrive each time.
const MOST_SENDS: usize = 3;

/// How long a run that ends waits until the store has let go of the parts that it leaves.
const FAREWELL: Duration = Duration::from_secs(5);

/// Uploads that nobody goes on with, as after a signal. A store keeps their parts, and charges for them, until they are
/// aborted; <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>.
#[derive(Debug, Default)]
pub struct Abandoned(Mutex<Vec<(Path, MultipartId)>>);

/// An upload that has not been completed; one that is dropped is abandoned.
struct Unfinished<'a> {
    at: Path,
    id: MultipartId,
    parts: Vec<PartId>,
    lake: &'a RemoteLake,
    /// Until its completion begins.
    may_be_aborted: bool,
    /// Whether other bytes may have arrived.
    is_doubtful: bool,
}

impl Unfinished<'_> {
    /// From now on nobody else may abort it: a store might take parts away that it is putting together.
    fn will_be_completed(&mut self) {
        self.may_be_aborted = false;
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.lake.patience.within(ANSWER, self.lake.store.abort_multipart(&self.at, &self.id)).await?;
        self.may_be_aborted = false;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let (true, Ok(mut abandoned)) = (self.may_be_aborted, self.lake.abandoned.0.lock()) {
            abandoned.push((self.at.clone(), self.id.clone()));
        }
    }
}

impl RemoteLake {
    /// Multipart uploads cannot be made conditional here, so the etag is compared right before the
    /// upload becomes visible; the lease keeps other writers away in between.
    pub(super) async fn upload_parts(
        &self,
        path: &str,
        file: &mut File,
        seen: &Version,
    ) -> std::result::Result<Version, ReplaceError> {
        let mut upload = self.put_parts(path, file).await.map_err(|broken| self.broken(path, broken))?;
        if let Err(error) = self.check_unchanged(path, seen).await {
            let _ = upload.abort().await;
            return Err(error);
        }
        let landing = self.lease.landing();
        upload.will_be_completed();
        let completed = self.complete(path, file, seen, &mut upload).await;
        // What was aborted never lands.
        if completed.is_ok() || upload.abort().await.is_ok() {
            landing.is_over();
        }
        completed
    }

    /// Uploads the whole file, invisibly.
    async fn put_parts(&self, path: &str, file: &mut File) -> std::result::Result<Unfinished<'_>, Broken> {
        file.rewind()?;
        let at = self.path(path);
        let id = self.repeated(|| self.store.create_multipart(&at)).await?;
        let mut upload =
            Unfinished { at, id, parts: Vec::new(), lake: self, may_be_aborted: true, is_doubtful: false };
        loop {
            let mut part = Vec::with_capacity(PART);
            (&mut *file).take(PART as u64).read_to_end(&mut part)?;
            if part.is_empty() {
                return Ok(upload);
            }
            match self.put_part(path, &mut upload, part.into()).await {
                Ok(sent) => upload.parts.push(sent),
                Err(error) => {
                    let _ = upload.abort().await;
                    return Err(error.into());
                }
            }
        }
    }

    /// Uploads the next part, again where other bytes have arrived.
    async fn put_part(
        &self,
        path: &str,
        upload: &mut Unfinished<'_>,
        part: PutPayload,
    ) -> object_store::Result<PartId> {
        let number = upload.parts.len();
        let send = || self.store.put_part(&upload.at, &upload.id, number, part.clone());
        let mut n_sends = 0;
        loop {
            // When all tags are others, the store may make them otherwise.
            let tries = self.patience.tries_to_write();
            let sent = tries.repeated(|| self.patience.write(path, PART as u64, false, send())).await?;
            n_sends += 1;
            let fits = self.tags.fit_part(&sent.content_id, &part);
            if fits || n_sends == MOST_SENDS {
                upload.is_doubtful |= !fits;
                return Ok(sent);
            }
        }
    }

    async fn check_unchanged(&self, path: &str, seen: &Version) -> std::result::Result<(), ReplaceError> {
        self.lease.check(self).await?;
        if &self.present_version(path).await? != seen {
            return Err(ReplaceError::Conflict);
        }
        // This process may have been stopped meanwhile.
        Ok(self.lease.check(self).await?)
    }

    /// Each try is made with the lease in hand and the file as it was: between two of them this process may have been stopped, and
    /// another run have written.
    async fn complete(
        &self,
        path: &str,
        file: &File,
        seen: &Version,
        upload: &mut Unfinished<'_>,
    ) -> std::result::Result<Version, ReplaceError> {
        let mut tries = self.patience.tries_to_write();
        loop {
            let parts = upload.parts.clone();
            let complete = self.once.complete_multipart(&upload.at, &upload.id, parts);
            let error = match self.patience.within(COMPLETION, complete).await {
                Ok(result) if !upload.is_doubtful => return Ok(version(result.e_tag)),
                Ok(_) => altered(),
                Err(error) => error,
            };
            // It may be complete although the answer was lost.
            match self.written(path, file, seen).await {
                Ok(Some(version)) => {
                    if upload.is_doubtful {
                        self.tags.are_no_sums_of_parts();
                    }
                    return Ok(version);
                }
                Ok(None) if is_altered(&error) => return Err(self.failed(path, &error).into()),
                // Whether it is what was sent is not known then.
                Err(unread) if is_altered(&error) => return Err(unread.into()),
                _ => {}
            }
            let may_pass =
                self.patience.may_pass(&error) || could_not_connect(&error) || is_odd_completion(&error);
            if !may_pass || !tries.wait(&error).await {
                return Err(self.failed(path, &error).into());
            }
            self.check_unchanged(path, seen).await?;
        }
    }

    /// The version of the object where it is the file, and no longer what was seen.
    async fn written(&self, path: &str, file: &File, seen: &Version) -> Result<Option<Version>> {
        if &self.present_version(path).await? == seen {
            return Ok(None);
        }
        let Some((present, version)) = self.read_to_temporary(path).await? else { return Ok(None) };
        Ok(is_same(&present, file).map_err(temporary_failed)?.then_some(version))
    }

    /// Has the store let go of the parts of uploads that nobody goes on with. What it does not do in time it keeps.
    pub async fn abort_abandoned(&self) {
        let abandoned = match self.abandoned.0.lock() {
            Ok(mut abandoned) => std::mem::take(&mut *abandoned),
            Err(_) => return,
        };
        let aborts = abandoned.iter().map(|(at, id)| self.store.abort_multipart(at, id));
        let _ = timeout(FAREWELL, join_all(aborts)).await;
    }
}

fn is_same(mut a: &File, mut b: &File) -> io::Result<bool> {
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
}
