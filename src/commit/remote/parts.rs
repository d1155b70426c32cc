//! Turns a large file into one object: parts that no reader sees until all of them are there.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Mutex;
use std::time::Duration;

use futures::future::join_all;
use object_store::{MultipartUpload, ObjectStoreExt};
use tokio::time::timeout;

use crate::commit::remote::patience::{ANSWER, COMPLETION, Tries, may_pass, sending, within};
use crate::commit::remote::{Broken, RemoteLake, temporary_failed, version};
use crate::commit::{ReplaceError, Version};

/// Size of a part; 10,000 of them make 160 GB.
const PART: usize = 16 << 20;

/// How long a run that ends waits until the store has let go of the parts that it leaves.
const FAREWELL: Duration = Duration::from_secs(5);

/// Uploads that nobody goes on with, as after a signal. A store keeps their parts, and charges for them, until they are
/// aborted; <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>.
#[derive(Debug, Default)]
pub struct Abandoned(Mutex<Vec<Box<dyn MultipartUpload>>>);

/// An upload that has not been completed; one that is dropped is abandoned.
struct Unfinished<'a> {
    upload: Option<Box<dyn MultipartUpload>>,
    abandoned: &'a Abandoned,
}

impl Unfinished<'_> {
    fn upload(&mut self) -> &mut dyn MultipartUpload {
        self.upload.as_deref_mut().expect("it is taken out once, at the end")
    }

    /// Nobody may abort it any longer: a store might take parts away that it is putting together.
    fn into_completion(mut self) -> Box<dyn MultipartUpload> {
        self.upload.take().expect("it is taken out once, at the end")
    }

    async fn abort(mut self) {
        if within(ANSWER, self.upload().abort()).await.is_ok() {
            self.upload = None;
        }
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let (Some(upload), Ok(mut abandoned)) = (self.upload.take(), self.abandoned.0.lock()) {
            abandoned.push(upload);
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
        let mut tries = Tries::default();
        let upload = loop {
            match self.put_parts(path, file).await {
                Ok(upload) => break upload,
                Err(Broken::Store(error)) if may_pass(&error) && tries.wait().await => {}
                Err(broken) => return Err(self.broken(path, broken).into()),
            }
        };
        match self.check_unchanged(path, seen).await {
            Ok(()) => self.complete(path, file, upload).await,
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    /// Uploads the whole file, invisibly. A part cannot be repeated alone: object_store gives it another number.
    async fn put_parts(&self, path: &str, file: &mut File) -> std::result::Result<Unfinished<'_>, Broken> {
        file.rewind()?;
        let upload = within(ANSWER, self.store.put_multipart(&self.path(path))).await?;
        let mut unfinished = Unfinished { upload: Some(upload), abandoned: &self.abandoned };
        loop {
            let mut part = Vec::with_capacity(PART);
            (&mut *file).take(PART as u64).read_to_end(&mut part)?;
            if part.is_empty() {
                return Ok(unfinished);
            }
            let sent = within(sending(PART as u64), unfinished.upload().put_part(part.into())).await;
            if let Err(error) = sent {
                unfinished.abort().await;
                return Err(error.into());
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

    async fn complete(
        &self,
        path: &str,
        file: &File,
        upload: Unfinished<'_>,
    ) -> std::result::Result<Version, ReplaceError> {
        let landing = self.lease.landing();
        let mut upload = upload.into_completion();
        let error = match within(COMPLETION, upload.complete()).await {
            Ok(result) => {
                landing.is_over();
                return Ok(version(result.e_tag));
            }
            Err(error) => error,
        };
        // It may be complete although the answer was lost.
        if let Ok(Some((present, version))) = self.read_to_temporary(path).await
            && is_same(&present, file).map_err(temporary_failed)?
        {
            landing.is_over();
            return Ok(version);
        }
        if within(ANSWER, upload.abort()).await.is_ok() {
            landing.is_over();
        }
        Err(self.failed(path, &error).into())
    }

    /// Has the store let go of the parts of uploads that nobody goes on with. What it does not do in time it keeps.
    pub async fn abort_abandoned(&self) {
        let mut abandoned = match self.abandoned.0.lock() {
            Ok(mut abandoned) => std::mem::take(&mut *abandoned),
            Err(_) => return,
        };
        let _ = timeout(FAREWELL, join_all(abandoned.iter_mut().map(|upload| upload.abort()))).await;
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
