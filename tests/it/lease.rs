//! Turns leases that are lost, removed or given back into one writer at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::path::Path;
use stripelake::commit::{Lake, Version};
use stripelake::error::Kind;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::store::{Manner, Odd, Request, acquire, lake, lease};

const LEASE: &str = "_stripelake/lease.json";

/// Whether a file is written that is too large for one PUT.
async fn upload(lake: &Lake, path: &str) -> bool {
    let mut staged = lake.stage(path).unwrap();
    staged.writer().set_len(65 << 20).unwrap();
    lake.replace(path, staged, &Version::Absent).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_removed_is_still_held() {
    let store = Odd::default();
    let (first, second) = (lake(&store), lake(&store));
    let guard = acquire(&first, "first").await.unwrap();
    store.delete(&Path::from(LEASE)).await.unwrap();
    sleep(Duration::from_secs(45)).await;
    assert_eq!(acquire(&second, "second").await.unwrap_err().kind(), Kind::Locked);
    first.write_bytes("file", b"file", &Version::Absent).await.unwrap();
    // Unless another run was faster.
    store.delete(&Path::from(LEASE)).await.unwrap();
    let theirs = acquire(&second, "second").await.unwrap();
    sleep(Duration::from_secs(45)).await;
    let refused = first.write_bytes("more", b"more", &Version::Absent).await.unwrap_err();
    assert!(refused.kind() == Kind::Locked && refused.to_string().contains("another run"), "{refused}");
    guard.release().await;
    theirs.release().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_in_years_was_written_by_a_wrong_clock() {
    let store = Odd::default();
    for (secs, is_odd) in [(25, false), (86_400, true)] {
        let text = lease("old", Duration::from_secs(secs));
        store.inner.put(&Path::from(LEASE), text.into()).await.unwrap();
        let refused = acquire(&lake(&store), "new").await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Locked);
        let hint = refused.hint_text().unwrap();
        assert_eq!(hint.contains("clock") && hint.contains(LEASE), is_odd, "{hint}");
    }
}

#[tokio::test(start_paused = true)]
async fn c3_a_lease_that_another_run_takes_while_it_is_proved_is_that_runs() {
    let store = Odd::default();
    store.set(Request::Renewal, LEASE, Manner::Taken, 1);
    let refused = acquire(&lake(&store), "ours").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Locked, "{refused}");
    store.check_all_met();
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_first_renewal_is_refused_is_given_back() {
    let store = Odd::default();
    store.set(Request::Renewal, LEASE, Manner::Denied, 1);
    let refused = acquire(&lake(&store), "ours").await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Destination, "{refused}");
    store.check_all_met();
    acquire(&lake(&store), "next").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_a_signal_ends_leaves_no_parts() {
    for request in [Request::Part, Request::Head] {
        let store = Odd::default();
        let ours = Arc::new(lake(&store));
        let guard = acquire(&ours, "ours").await.unwrap();
        store.set(request, "large", Manner::Silent, 1);
        let uploading = ours.clone();
        let upload = tokio::spawn(async move { upload(&uploading, "large").await });
        while store.is_left("large") {
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(store.n_unfinished.load(Ordering::Relaxed), 1);
        upload.abort();
        assert!(upload.await.is_err());
        guard.release().await;
        assert_eq!(store.n_unfinished.load(Ordering::Relaxed), 0, "{request:?}");
        // None of it can land any more.
        acquire(&lake(&store), "next").await.unwrap();
    }
}

/// Ends a run, as a signal does, after it has uploaded one large file, or while another one is being completed. Whether the
/// next run finds the lake free.
async fn is_free_after(has_quick: bool, has_slow: bool) -> bool {
    let store = Odd::default();
    let ours = Arc::new(lake(&store));
    let upload = |path: &'static str| -> JoinHandle<bool> {
        let ours = ours.clone();
        tokio::spawn(async move { upload(&ours, path).await })
    };
    let guard = acquire(&ours, "ours").await.unwrap();
    store.set(Request::Complete, "slow", Manner::Silent, u32::from(has_slow));
    let slow = has_slow.then(|| upload("slow"));
    while store.is_left("slow") {
        sleep(Duration::from_millis(20)).await;
    }
    if has_quick {
        assert!(upload("quick").await.unwrap());
    }
    if let Some(slow) = slow {
        slow.abort();
        let _ = slow.await;
    }
    guard.release().await;
    acquire(&lake(&store), "next").await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn s9_a_lease_is_not_given_back_while_a_completion_may_land() {
    assert!(is_free_after(true, false).await);
    assert!(!is_free_after(false, true).await);
    assert!(!is_free_after(true, true).await, "one of two has landed");
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_failed_and_was_taken_back_holds_nothing() {
    let store = Odd::default();
    let ours = lake(&store);
    let guard = acquire(&ours, "ours").await.unwrap();
    store.set(Request::Complete, "large", Manner::Broken, u32::MAX);
    assert!(!upload(&ours, "large").await);
    guard.release().await;
    acquire(&lake(&store), "next").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c3_a_put_is_not_sent_again_by_a_run_that_has_lost_its_lease() {
    let store = Odd::default();
    let ours = lake(&store);
    let _guard = acquire(&ours, "ours").await.unwrap();
    store.set(Request::Put, "small", Manner::Taken, 1);
    assert!(ours.write_bytes("small", b"small", &Version::Absent).await.is_err());
    store.check_all_met();
    assert!(!ours.exists("small").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn c3_a_completion_is_not_sent_again_by_a_run_that_has_lost_its_lease() {
    let store = Odd::default();
    let ours = lake(&store);
    let _guard = acquire(&ours, "ours").await.unwrap();
    store.set(Request::Complete, "large", Manner::Taken, 1);
    assert!(!upload(&ours, "large").await);
    store.check_all_met();
    assert!(!ours.exists("large").await.unwrap());
    assert_eq!(store.n_unfinished.load(Ordering::Relaxed), 0);
}
