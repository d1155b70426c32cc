//! Turns two writers and broken-off runs into one right lake.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use stripelake::commit::remote::RemoteLake;
use stripelake::commit::{Lake, Version, lock};
use stripelake::error::Kind;
use stripelake::fake::{Account, Spec};
use stripelake::partition::Grain;
use stripelake::run::sync::sync;

use crate::damage::failure;
use crate::harness::{TestLake, account, check_kind};
use crate::table::{Table, text};

type Intrude = Box<dyn Fn(Arc<InMemory>, Path) -> BoxFuture<'static, ()> + Send + Sync>;

/// What happens at a PUT.
enum Fault {
    /// Another writer is faster, so many times.
    Intrusion(AtomicU32, Intrude),
    /// The process dies: from this PUT on nothing arrives any more.
    Death(AtomicU32),
    /// The PUT lands and its answer is lost.
    LostAnswer(AtomicU32),
    /// The connection breaks at a PUT to such a path, once; before or behind its landing.
    Broken { path: &'static str, lands: bool, left: AtomicU32 },
    /// A PUT to such a path is refused so often, though nobody else has written there.
    Refused { path: &'static str, left: AtomicU32 },
    /// None: PUTs to such a path are counted.
    Counted { path: &'static str, n: AtomicU32 },
}

/// A store in memory with a fault at some of its PUTs.
struct FaultyStore {
    inner: Arc<InMemory>,
    fault: Mutex<Option<Arc<Fault>>>,
}

impl FaultyStore {
    fn new() -> Arc<FaultyStore> {
        Arc::new(FaultyStore { inner: Arc::default(), fault: Mutex::default() })
    }

    fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault.map(Arc::new);
    }
}

fn dead() -> object_store::Error {
    object_store::Error::Generic { store: "test", source: "the process has died".into() }
}

/// Counts down and tells whether the count has reached its end.
fn is_due(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

#[async_trait::async_trait]
impl MultipartStore for FaultyStore {
    async fn create_multipart(&self, at: &Path) -> Result<MultipartId> {
        self.inner.create_multipart(at).await
    }

    async fn put_part(&self, at: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        self.inner.put_part(at, id, part, data).await
    }

    async fn complete_multipart(&self, at: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        self.inner.complete_multipart(at, id, parts).await
    }

    async fn abort_multipart(&self, at: &Path, id: &MultipartId) -> Result<()> {
        self.inner.abort_multipart(at, id).await
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = self.fault.lock().unwrap().clone();
        let is_data = at.as_ref().ends_with(".parquet");
        match fault.as_deref() {
            Some(Fault::Intrusion(left, intrude)) if is_data && !is_due(left) => {
                intrude(self.inner.clone(), at.clone()).await;
            }
            Some(Fault::Death(left)) if is_due(left) => return Err(dead()),
            Some(Fault::LostAnswer(left)) if is_data && !is_due(left) => {
                self.inner.put_opts(at, payload.clone(), options.clone()).await?;
            }
            Some(Fault::Broken { path, lands, left }) if at.as_ref().contains(path) && !is_due(left) => {
                if *lands {
                    self.inner.put_opts(at, payload, options).await?;
                }
                return Err(object_store::Error::Generic { store: "test", source: "reset by peer".into() });
            }
            Some(Fault::Refused { path, left }) if at.as_ref().contains(path) && !is_due(left) => {
                let (path, source) = (at.to_string(), "ConditionalRequestConflict".into());
                return Err(object_store::Error::Precondition { path, source });
            }
            Some(Fault::Counted { path, n }) if at.as_ref().contains(path) => {
                n.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// The newest partition of charges.
async fn newest_charges(lake: &TestLake) -> (String, Bytes) {
    let (path, (bytes, _)) = lake.parquet("charges").await.pop_last().unwrap();
    (path, bytes)
}

#[tokio::test(start_paused = true)]
async fn o3_a_file_that_another_writer_replaced_is_merged_again() {
    // Another lake of the same account holds the file as it is after a charge more.
    let table = Table::of(&account(121, 60));
    let mut more = table.list("charges")[0].clone();
    more["id"] = "ch_more".into();
    table.edit("charges", |charges| charges.insert(0, more));
    let other = TestLake::new();
    other.sync_completely(table.clone()).await;
    let (path, theirs) = newest_charges(&other).await;
    table.edit("charges", |charges| drop(charges.remove(0)));

    let store = FaultyStore::new();
    let lake = TestLake::on(store.clone());
    lake.sync_completely(table.clone()).await;
    table.edit("charges", |charges| charges[1]["description"] = "ours".into());
    let intrude: Intrude = Box::new(move |store, at| {
        let (theirs, is_theirs) = (theirs.clone(), at.as_ref() == path);
        Box::pin(async move {
            assert!(is_theirs, "only one partition has changed");
            store.put(&at, theirs.into()).await.unwrap();
        })
    });
    store.set(Some(Fault::Intrusion(AtomicU32::new(1), intrude)));
    let report = lake.sync_with(lake.options_for(&["charges"]), table.clone()).await.unwrap();
    check_kind(&report, None);
    lake.check_intact().await;
    let rows = lake.rows("charges").await;
    assert!(rows.contains_key("ch_more"), "theirs is lost");
    let ours = table.list("charges")[1].clone();
    assert_eq!(rows[text(&ours["id"])]["description"], "ours");
}

#[tokio::test(start_paused = true)]
async fn o4_a_put_that_landed_without_an_answer_is_ours() {
    let store = FaultyStore::new();
    let lake = TestLake::on(store.clone());
    let table = Table::of(&account(122, 60));
    store.set(Some(Fault::LostAnswer(AtomicU32::new(1000))));
    lake.sync_completely(table.clone()).await;
    lake.check_equals(&table).await;
}

#[tokio::test(start_paused = true)]
async fn o4_o5_a_broken_connection_or_an_odd_refusal_at_a_put_is_no_end() {
    let table = Table::of(&account(125, 60));
    for path in [".parquet", "/state/", "lease.json", "lake.json", "/runs/", "views.sql"] {
        let left = || AtomicU32::new(1);
        let faults = [
            Fault::Broken { path, lands: false, left: left() },
            Fault::Broken { path, lands: true, left: left() },
            Fault::Refused { path, left: left() },
        ];
        for fault in faults {
            let store = FaultyStore::new();
            let lake = TestLake::on(store.clone());
            store.set(Some(fault));
            lake.sync_completely(table.clone()).await;
            lake.check_equals(&table).await;
            let fault = store.fault.lock().unwrap().clone();
            let (Some(Fault::Broken { left, .. }) | Some(Fault::Refused { left, .. })) = fault.as_deref()
            else {
                unreachable!("it was set")
            };
            assert_eq!(left.load(Ordering::SeqCst), 0, "{path}: nothing was hit");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn o5_a_store_that_refuses_what_fits_is_no_other_writer() {
    let table = Table::of(&account(125, 60));
    for path in [".parquet", "/state/"] {
        let store = FaultyStore::new();
        let lake = TestLake::on(store.clone());
        store.set(Some(Fault::Refused { path, left: AtomicU32::new(u32::MAX) }));
        let (kind, text) = match lake.sync(table.clone()).await {
            Ok(report) => failure(&report).unwrap(),
            Err(error) => (error.kind(), error.to_string()),
        };
        // A schedule takes 11 for good.
        assert!(kind == Kind::Destination && text.contains("refused although"), "{path}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_is_not_written_after_each_of_many_files() {
    let store = FaultyStore::new();
    let lake = TestLake::on(store.clone());
    let table = Table::charges(128, 2_000);
    let mut setup = lake.setup();
    setup.grains = [("charges".to_owned(), Grain::Day)].into();
    store.set(Some(Fault::Counted { path: "/state/charges", n: AtomicU32::new(0) }));
    check_kind(&sync(&setup, lake.options_for(&["charges"]), table.clone()).await.unwrap(), None);
    lake.check_intact().await;
    lake.check_table_equals(&table, "charges").await;
    let n_files = lake.parquet("charges").await.len();
    let fault = store.fault.lock().unwrap().clone();
    let Some(Fault::Counted { n, .. }) = fault.as_deref() else { unreachable!("it was set") };
    let n = n.load(Ordering::SeqCst) as usize;
    assert!(n_files > 300 && n < n_files / 4, "{n} states for {n_files} files");
}

#[tokio::test(start_paused = true)]
async fn c3_a_run_whose_lease_another_one_has_writes_nothing_more() {
    const LEASE: &str = "_stripelake/lease.json";
    let lake = TestLake::new();
    let guard =
        lock::acquire(&lake.lake, "first", Duration::ZERO, drop, std::future::pending()).await.unwrap();
    let written = |n: &'static str| lake.lake.write_bytes(n, b"data", &Version::Absent);
    written("before").await.unwrap();
    // It is renewed: nobody else gets it, however long that takes.
    tokio::time::sleep(Duration::from_secs(100)).await;
    let other = Lake::Remote(RemoteLake::new(lake.store.clone(), Path::default(), "memory://lake"));
    let refused =
        lock::acquire(&other, "second", Duration::ZERO, drop, std::future::pending()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Locked);
    assert!(refused.to_string().contains("run first"), "{refused}");

    let (bytes, _) = lake.lake.read_bytes(LEASE).await.unwrap().unwrap();
    let expired = String::from_utf8(bytes).unwrap().replace("\"expires_at\":\"20", "\"expires_at\":\"19");
    lake.store.put(&Path::from(LEASE), expired.into()).await.unwrap();
    let theirs = lock::acquire(&other, "second", Duration::ZERO, drop, std::future::pending()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    for n in ["after", "_stripelake/state/charges.json"] {
        assert_eq!(written(n).await.unwrap_err().kind(), Kind::Locked, "{n}");
        assert!(!lake.lake.exists(n).await.unwrap(), "{n}");
    }
    assert_eq!(lake.lake.remove("before").await.unwrap_err().kind(), Kind::Locked);
    // Nor does it give back what is not its own.
    guard.release().await;
    let refused =
        lock::acquire(&lake.lake, "third", Duration::ZERO, drop, std::future::pending()).await.unwrap_err();
    assert!(refused.to_string().contains("run second"), "{refused}");
    theirs.release().await;
    lock::acquire(&lake.lake, "third", Duration::ZERO, drop, std::future::pending())
        .await
        .unwrap()
        .release()
        .await;
}

#[tokio::test(start_paused = true)]
async fn i4_a_run_that_dies_at_any_put_is_repaired_by_the_next() {
    let spec = Spec { charges: 30, span_days: 40, ..Spec::default() };
    let table = Table::some_of(&Account::new(spec), |name| ["charges", "subscriptions"].contains(&name));
    let options = |lake: &TestLake| lake.options_for(&["charges", "subscriptions"]);
    for n in 0.. {
        let store = FaultyStore::new();
        let lake = TestLake::on(store.clone());
        let mut has_died = false;
        // The first run dies on the way, and then one that has something to change.
        for text in [format!("first {n}"), format!("second {n}")] {
            table.edit("charges", |charges| charges[20]["description"] = text.into());
            store.set(Some(Fault::Death(AtomicU32::new(n))));
            let died = lake.sync_with(options(&lake), table.clone()).await;
            has_died |= died.is_err() || died.is_ok_and(|report| report.kind().is_some());
            store.set(None);
            // No reader sees anything twice or half, whatever was written.
            for resource in &lake.catalog.resources {
                lake.rows(&resource.name).await;
            }
            // The lease of a dead run is taken over once it has expired.
            let _ = lake.lake.remove("_stripelake/lease.json").await;
            // The user changes the grain in between: where something is written, it stays as it is.
            let mut setup = lake.setup();
            setup.grains.insert("charges".to_owned(), Grain::Month);
            let report = sync(&setup, options(&lake), table.clone()).await.unwrap();
            check_kind(&report, None);
            lake.check_intact().await;
            lake.check_table_equals(&table, "charges").await;
            lake.check_table_equals(&table, "subscriptions").await;
        }
        if !has_died {
            assert!(n > 8, "only {n} PUTs were hit");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c1_a_state_that_another_run_wrote_meanwhile_is_not_overwritten() {
    let store = FaultyStore::new();
    let lake = TestLake::on(store.clone());
    let table = Table::of(&account(124, 60));
    let intrude: Intrude = Box::new(|store, _| {
        Box::pin(async move {
            let path = Path::from("_stripelake/state/charges.json");
            if let Ok(found) = store.get(&path).await {
                let bytes = found.bytes().await.unwrap();
                store.put(&path, bytes.into()).await.unwrap();
            }
        })
    });
    lake.sync_completely(table.clone()).await;
    table.edit("charges", |charges| charges[1]["description"] = "ours".into());
    store.set(Some(Fault::Intrusion(AtomicU32::new(1000), intrude)));
    let report = lake.sync_with(lake.options_for(&["charges"]), table.clone()).await.unwrap();
    assert_eq!(report.kind(), Some(Kind::Locked));
    store.set(None);
    lake.sync_completely(table.clone()).await;
    lake.check_equals(&table).await;
}
