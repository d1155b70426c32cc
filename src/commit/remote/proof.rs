//! Turns a store's answers into whether a lake can rely on its conditions.

use std::time::Duration;

use object_store::{PutMode, UpdateVersion};

use crate::commit::Version;
use crate::commit::lease::NO_CONDITIONS;
use crate::commit::remote::RemoteLake;
use crate::error::{Error, Result};
use crate::redact::shown;

/// How long the proof of conditions may wait for a refusal. A lease goes on meanwhile.
const PROOF: Duration = Duration::from_secs(5);
/// The entity tag of nothing.
const NO_ETAG: &str = "\"00000000000000000000000000000000\"";

impl RemoteLake {
    /// Fails where the store takes a write although its condition is not met, or does not know its own entity tags. What stands at
    /// `path` has to be these bytes in this version, so that such a write changes nothing.
    pub async fn prove_conditions(&self, path: &str, bytes: &[u8], written: &Version) -> Result<()> {
        let at = self.path(path);
        // An answer may be an old one.
        for pause in [Duration::from_secs(1), Duration::ZERO] {
            let read = self.read_bytes(path).await?.map_or(Version::Absent, |(_, version)| version);
            let seen = self.present_version(path).await?;
            if written.etag().is_some() && [&read, &seen] == [written; 2] {
                self.tags.are_of(written.etag(), bytes);
                break;
            }
            if pause.is_zero() {
                let shown = |version: &Version| shown(version.etag().unwrap_or("none"), 60);
                let what = format!(
                    "{}: expected a GET and a HEAD to give the entity tag of the PUT, {}, got {} and {}",
                    self.location,
                    shown(written),
                    shown(&read),
                    shown(&seen)
                );
                return Err(Error::destination(what).hint(NO_CONDITIONS));
            }
            tokio::time::sleep(pause).await;
        }
        let never = UpdateVersion { e_tag: Some(NO_ETAG.to_owned()), version: None };
        for (condition, mode) in [("If-None-Match: *", PutMode::Create), ("If-Match", PutMode::Update(never))]
        {
            let put = self.store.put_opts(&at, bytes.to_vec().into(), mode.into());
            // Any other answer proves nothing: the store may only be busy.
            if self.patience.within(PROOF, put).await.is_ok() {
                let what = format!(
                    "{}: expected the store to refuse a PUT with {condition}, got success",
                    self.location
                );
                return Err(Error::destination(what).hint(
                    "this store has no conditional writes, so it cannot hold a lake that several runs may write: choose another --lake",
                ));
            }
        }
        Ok(())
    }
}
