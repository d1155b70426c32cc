//! Turns the signal that ends a run into its error.

use tokio::sync::watch;

use crate::error::{Error, Kind};

/// The error of a run that is interrupted before it has written anything; done when it is.
pub(super) async fn interrupted(signal: watch::Receiver<Option<Kind>>) -> Error {
    Error::new(signalled(signal).await, "interrupted").lake("unchanged")
}

/// What the signal makes of the run, once there is one.
pub(super) async fn signalled(mut signal: watch::Receiver<Option<Kind>>) -> Kind {
    match signal.wait_for(Option::is_some).await {
        Ok(kind) => kind.unwrap_or(Kind::Interrupted),
        // Nobody can interrupt it any longer.
        Err(_) => std::future::pending().await,
    }
}
