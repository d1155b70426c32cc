//! Turns an object store that is silent, breaks off or takes every write into whole lakes, or into the right refusal.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use stripelake::commit::remote::{Delay, RemoteLake};
use stripelake::commit::{Lake, Version, lock};
use stripelake::error::{Error, Kind};
use stripelake::fetch::allowance::Budgets;
use stripelake::run::event::Event;
use stripelake::run::sync::Options;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{TestLake, account};
use crate::table::Table;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Put,
    /// A PUT on the present entity tag.
    Renewal,
    Get,
    /// What follows the head of a GET's answer.
    Body,
    Head,
    List,
    Delete,
    Begin,
    Part,
    Complete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// No answer, ever.
    Silent,
    /// The connection breaks; in a body after its first half.
    Broken,
    /// The store calls the body too slow, as S3 does.
    Impatient,
    /// The role may not do that.
    Denied,
    /// So long before an answer, or between any two pieces of a body.
    Slow(Duration),
    /// A condition is not looked at.
    Blind,
    /// Another body comes, or a list that begins anew behind its end.
    Other,
    /// The entity tag is changed on its way.
    Tagged,
    /// Another run's lease is there first.
    Taken,
    /// From now on, for so long, no request at all is answered as it should.
    Outage(Duration),
    /// From now on no request at all is answered.
    Dead,
}

/// What befalls requests for paths that hold a text, so many times.
#[derive(Debug, Clone, Copy)]
struct Fault {
    request: Request,
    path: &'static str,
    manner: Manner,
    left: u32,
}

/// A store in memory with faults.
#[derive(Debug, Clone, Default)]
pub struct Odd {
    pub inner: Arc<InMemory>,
    faults: Arc<Mutex<Vec<Fault>>>,
    out_until: Arc<Mutex<Option<Instant>>>,
    is_dead: Arc<AtomicBool>,
    /// Uploads that were begun, and neither completed nor aborted.
    pub n_unfinished: Arc<AtomicUsize>,
}

/// What stands in the object while a run holds the lake.
pub fn lease(run_id: &str, lasts: Duration) -> String {
    let ends = jiff::Timestamp::now() + lasts;
    format!(r#"{{"run_id":"{run_id}","epoch":4,"expires_at":"{ends}"}}"#)
}

fn broken() -> object_store::Error {
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let source = Box::new(HttpError::new(HttpErrorKind::Interrupted, reset));
    object_store::Error::Generic { store: "test", source }
}

/// As object_store tells of a removal that S3 refuses, with status 200.
fn denied() -> object_store::Error {
    let said = "DeleteObjects request failed for key x: Access Denied (code: AccessDenied)";
    object_store::Error::Generic { store: "test", source: said.into() }
}

/// As object_store tells of it.
fn impatient() -> object_store::Error {
    let said =
        "Server returned non-2xx status code: 400 Bad Request: <Error><Code>RequestTimeout</Code></Error>";
    object_store::Error::Generic { store: "test", source: said.into() }
}

impl Odd {
    pub fn set(&self, request: Request, path: &'static str, manner: Manner, left: u32) {
        self.faults.lock().unwrap().push(Fault { request, path, manner, left });
    }

    pub fn clear(&self) {
        self.faults.lock().unwrap().clear();
    }

    pub fn check_all_met(&self) {
        for fault in self.faults.lock().unwrap().iter() {
            assert_eq!(fault.left, 0, "{fault:?} was not met so often");
        }
    }

    /// Whether a fault has still to be met.
    pub fn is_left(&self, path: &str) -> bool {
        self.faults.lock().unwrap().iter().any(|fault| fault.path == path && fault.left > 0)
    }

    fn take(&self, request: Request, at: &str) -> Option<Manner> {
        let mut faults = self.faults.lock().unwrap();
        let due = |f: &&mut Fault| f.request == request && at.contains(f.path) && f.left > 0;
        faults.iter_mut().find(due).map(|fault| {
            fault.left -= 1;
            fault.manner
        })
    }

    /// Another run takes the lease, and the next renewal tells so.
    async fn lease_to_others(&self) -> Result<()> {
        let theirs = lease("theirs", Duration::from_secs(25));
        self.inner.put(&Path::from("_stripelake/lease.json"), theirs.into()).await?;
        sleep(Duration::from_secs(15)).await;
        Ok(())
    }

    async fn meet(&self, request: Request, at: &str) -> Result<()> {
        let taken = self.take(request, at);
        if let Some(Manner::Outage(time)) = taken {
            *self.out_until.lock().unwrap() = Some(Instant::now() + time);
        }
        if self.is_dead.fetch_or(taken == Some(Manner::Dead), Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.out_until.lock().unwrap().is_some_and(|until| Instant::now() < until) {
            return Err(broken());
        }
        match taken {
            Some(Manner::Silent) => std::future::pending().await,
            Some(Manner::Broken) => Err(broken()),
            Some(Manner::Impatient) => Err(impatient()),
            Some(Manner::Denied) => Err(denied()),
            Some(Manner::Slow(time)) => {
                sleep(time).await;
                Ok(())
            }
            Some(Manner::Taken) => {
                self.lease_to_others().await?;
                Err(broken())
            }
            Some(Manner::Dead) => std::future::pending().await,
            Some(Manner::Blind | Manner::Other | Manner::Tagged | Manner::Outage(_)) | None => Ok(()),
        }
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Odd")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Odd {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let is_blind = |f: &Fault| match &options.mode {
            PutMode::Create => f.manner == Manner::Blind && f.path == "create",
            PutMode::Update(_) => f.manner == Manner::Blind && f.path == "update",
            PutMode::Overwrite => false,
        };
        if self.faults.lock().unwrap().iter().any(is_blind) {
            return self.inner.put(at, payload).await;
        }
        self.meet(Request::Put, at.as_ref()).await?;
        let present = self.inner.head(at).await.ok().and_then(|meta| meta.e_tag);
        if let PutMode::Update(seen) = &options.mode
            && seen.e_tag == present
        {
            match self.take(Request::Renewal, at.as_ref()) {
                Some(Manner::Taken) => {
                    self.inner.put(at, lease("theirs", Duration::from_secs(25)).into()).await?;
                }
                Some(Manner::Silent) => std::future::pending().await,
                Some(Manner::Denied) => {
                    let (path, source) = (at.to_string(), "AccessDenied".into());
                    return Err(object_store::Error::PermissionDenied { path, source });
                }
                _ => {}
            }
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
        let request = if options.head { Request::Head } else { Request::Get };
        self.meet(request, at.as_ref()).await?;
        let result = self.inner.get_opts(at, options).await?;
        let manner = (request == Request::Get).then(|| self.take(Request::Body, at.as_ref())).flatten();
        let Some(manner) = manner else { return Ok(result) };
        let (mut meta, range, attributes) =
            (result.meta.clone(), result.range.clone(), result.attributes.clone());
        let mut bytes = result.bytes().await?;
        match manner {
            Manner::Other => bytes = Bytes::from_static(b"<html>busy</html>"),
            Manner::Tagged => meta.e_tag = meta.e_tag.map(|tag| format!("W/{tag}")),
            _ => {}
        }
        let piece = bytes.len().div_ceil(if manner == Manner::Broken { 2 } else { 40 }).max(1);
        let pieces: Vec<Bytes> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        let odd = futures::stream::iter(pieces.into_iter().enumerate()).then(move |(n, piece)| async move {
            match manner {
                Manner::Slow(time) => sleep(time).await,
                Manner::Broken if n > 0 => return Err(broken()),
                Manner::Silent if n > 0 => std::future::pending().await,
                _ => {}
            }
            Ok(piece)
        });
        Ok(GetResult { payload: GetResultPayload::Stream(odd.boxed()), meta, range, attributes })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let met = paths.and_then(move |path| {
            let store = store.clone();
            async move { store.meet(Request::Delete, path.as_ref()).await.map(|()| path) }
        });
        self.inner.delete_stream(met.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, at) = (self.clone(), prefix.map(Path::to_string).unwrap_or_default());
        let found = self.inner.list(prefix);
        let is_odd = self.faults.lock().unwrap().iter().any(|fault| fault.manner == Manner::Other);
        let is_endless = is_odd && self.take(Request::List, &at).is_some();
        let again = match is_endless {
            true => self.inner.list(prefix).chain(self.inner.list(prefix)).boxed(),
            false => futures::stream::empty().boxed(),
        };
        let met = async move { store.meet(Request::List, &at).await.map(|()| found) };
        futures::stream::once(met).try_flatten().chain(again).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.meet(Request::List, prefix.map(Path::as_ref).unwrap_or_default()).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait::async_trait]
impl MultipartStore for Odd {
    async fn create_multipart(&self, at: &Path) -> Result<MultipartId> {
        self.meet(Request::Begin, at.as_ref()).await?;
        let id = self.inner.create_multipart(at).await?;
        self.n_unfinished.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    async fn put_part(&self, at: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        self.meet(Request::Part, at.as_ref()).await?;
        self.inner.put_part(at, id, part, data).await
    }

    async fn complete_multipart(&self, at: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        match self.take(Request::Complete, at.as_ref()) {
            Some(Manner::Taken) => {
                self.lease_to_others().await?;
                return Err(broken());
            }
            Some(Manner::Silent) => std::future::pending().await,
            Some(Manner::Broken) => return Err(broken()),
            Some(Manner::Impatient) => return Err(impatient()),
            // It lands, and its answer is lost.
            Some(Manner::Other) => {
                self.inner.complete_multipart(at, id, parts).await?;
                self.n_unfinished.fetch_sub(1, Ordering::Relaxed);
                return Err(broken());
            }
            _ => {}
        }
        let completed = self.inner.complete_multipart(at, id, parts).await?;
        self.n_unfinished.fetch_sub(1, Ordering::Relaxed);
        Ok(completed)
    }

    async fn abort_multipart(&self, at: &Path, id: &MultipartId) -> Result<()> {
        self.inner.abort_multipart(at, id).await?;
        self.n_unfinished.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }
}

/// What would go on for ever fails instead.
pub async fn ends<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(3600), work).await.expect("it ends within an hour")
}

pub fn lake(store: &Odd) -> Lake {
    Lake::Remote(RemoteLake::new(Arc::new(store.clone()), Path::default(), "memory://lake"))
}

pub async fn acquire(lake: &Lake, run_id: &str) -> std::result::Result<lock::Guard, Error> {
    ends(lock::acquire(lake, run_id, Duration::ZERO, drop, std::future::pending())).await
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_never_answered_or_breaks_off_is_repeated() {
    use Request::{Body, Get, List, Put};
    let places = [
        (Get, "lake.json"),
        (Get, "lease.json"),
        (Get, "/state/customers"),
        (Body, "/state/customers"),
        (Get, "customers/"),
        (Body, "customers/"),
        (List, "customers"),
        (List, "waiting"),
        (Put, "lease.json"),
        (Put, "customers/"),
        (Put, "/state/customers"),
    ];
    for (request, path) in places {
        for (manner, times) in [(Manner::Silent, 1), (Manner::Broken, 4)] {
            let table = Table::of(&account(131, 60));
            let store = Odd::default();
            let lake = TestLake::on(Arc::new(store.clone()));
            lake.sync_completely(table.clone()).await;
            table.edit("customers", |customers| customers[1]["description"] = "ours".into());
            store.set(request, path, manner, times);
            let began = Instant::now();
            let report = ends(lake.sync(table.clone()))
                .await
                .unwrap_or_else(|e| panic!("{request:?} {path} {manner:?}: {e}"));
            assert_eq!(report.kind(), None, "{request:?} {path} {manner:?}");
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{request:?} {path} {manner:?}: {:?}",
                began.elapsed()
            );
            store.check_all_met();
            lake.check_intact().await;
            lake.check_equals(&table).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_ends_a_run_within_minutes() {
    for request in [Request::Get, Request::Put] {
        let store = Odd::default();
        store.set(request, "", Manner::Silent, u32::MAX);
        let began = Instant::now();
        let table = Table::of(&account(132, 20));
        let error = ends(TestLake::on(Arc::new(store)).sync(table)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Destination);
        assert!(error.to_string().contains("no answer within"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(240), "{request:?}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn o1_an_outage_of_two_minutes_is_waited_for_and_told() {
    use Request::{Get, List, Put};
    for (request, path) in [
        (Get, "/state/customers"),
        (Get, "customers/"),
        (List, "customers"),
        (Put, "customers/"),
        (Put, "/state/customers"),
        (Put, "/runs/"),
    ] {
        for (secs, expected) in [(120, None), (400, Some(Kind::Destination))] {
            let table = Table::of(&account(133, 60));
            let store = Odd::default();
            let lake = TestLake::on(Arc::new(store.clone()));
            lake.sync_completely(table.clone()).await;
            table.edit("customers", |customers| customers[1]["description"] = "ours".into());
            store.set(request, path, Manner::Outage(Duration::from_secs(secs)), 1);
            let began = Instant::now();
            let kind = match ends(lake.sync(table.clone())).await {
                Ok(report) => report.kind(),
                Err(error) => Some(error.kind()),
            };
            assert_eq!(kind, expected, "{request:?} {path} {secs}");
            // The others do not wait as long once more for what has not come.
            assert!(began.elapsed() < Duration::from_secs(400), "{request:?} {path}: {:?}", began.elapsed());
            let events = std::mem::take(&mut *lake.events.lock().unwrap());
            let told = |event: &&Event| matches!(event, Event::Warning { message } if message.contains("does not answer as it should"));
            assert_eq!(events.iter().filter(told).count(), 1, "{request:?} {path} {secs}");
            store.check_all_met();
            tokio::time::sleep(Duration::from_secs(400)).await;
            // It could not be given back, and ends by a clock that does not stand still here.
            let _ = store.inner.delete(&Path::from("_stripelake/lease.json")).await;
            lake.sync_completely(table.clone()).await;
            lake.check_equals(&table).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn o1_a_store_that_dies_in_the_midst_of_a_run_ends_it_within_minutes() {
    for path in ["charges/", "/state/customers", "lease.json"] {
        let table = Table::of(&account(134, 60));
        let store = Odd::default();
        let lake = TestLake::on(Arc::new(store.clone()));
        lake.sync_completely(table.clone()).await;
        for list in ["charges", "customers", "refunds", "subscriptions", "prices"] {
            table.edit(list, |objects| objects[0]["metadata"] = serde_json::json!({"revised": "yes"}));
        }
        store.set(Request::Put, path, Manner::Dead, 1);
        let began = Instant::now();
        let kind = match ends(lake.sync(table.clone())).await {
            Ok(report) => report.kind(),
            Err(error) => Some(error.kind()),
        };
        assert_eq!(kind, Some(Kind::Destination), "{path}");
        assert!(began.elapsed() < Duration::from_secs(600), "{path}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn o1_an_outage_at_any_write_of_the_lease_is_waited_for() {
    for n_before in 0..6 {
        let store = Odd::default();
        let lake = lake(&store);
        store.set(Request::Put, "lease.json", Manner::Slow(Duration::ZERO), n_before);
        store.set(Request::Put, "lease.json", Manner::Outage(Duration::from_secs(100)), 1);
        let held = acquire(&lake, "ours").await;
        assert!(held.is_ok(), "{n_before}: {:?}", held.err());
        tokio::time::sleep(Duration::from_secs(400)).await;
        ends(lake.write_bytes("file", b"1", &Version::Absent)).await.unwrap();
        store.check_all_met();
    }
}

#[tokio::test(start_paused = true)]
async fn o1_an_outage_of_writes_that_does_not_end_is_waited_for_once() {
    // Each further write is one try, which may take as long as an answer.
    for (manner, at_most) in [(Manner::Broken, 260), (Manner::Silent, 280)] {
        let store = Odd::default();
        let lake = lake(&store);
        let told = Arc::new(AtomicUsize::new(0));
        let counted = told.clone();
        lake.on_delay(move |delay| {
            counted.fetch_add(usize::from(matches!(delay, Delay::Outage(_))), Ordering::Relaxed);
        });
        let held = acquire(&lake, "ours").await.unwrap();
        store.set(Request::Put, "", manner, u32::MAX);
        let began = Instant::now();
        for path in ["a", "b", "c", "d"] {
            assert!(ends(lake.write_bytes(path, b"1", &Version::Absent)).await.is_err(), "{path}");
            assert!(lake.exists("a").await.is_ok_and(|is_there| !is_there), "it can be read");
        }
        assert!((150..at_most).contains(&began.elapsed().as_secs()), "{manner:?}: {:?}", began.elapsed());
        assert_eq!(told.load(Ordering::Relaxed), 1, "{manner:?}");
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn o1_writes_side_by_side_that_nobody_answers_are_waited_for_once() {
    let store = Odd::default();
    let lake = lake(&store);
    let held = acquire(&lake, "ours").await.unwrap();
    store.set(Request::Put, "", Manner::Silent, u32::MAX);
    let began = Instant::now();
    // Each asks for the lease in between, one after the other.
    let paths = ["a", "b", "c", "d", "e", "f"];
    let writes = paths.map(|path| lake.write_bytes(path, b"1", &Version::Absent));
    for written in ends(futures::future::join_all(writes)).await {
        assert!(written.is_err());
    }
    assert!((150..290).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn o1_an_outage_of_all_writes_but_the_lease_is_waited_for_once() {
    let store = Odd::default();
    let lake = lake(&store);
    let held = acquire(&lake, "ours").await.unwrap();
    store.set(Request::Put, "data/", Manner::Broken, u32::MAX);
    let began = Instant::now();
    for path in ["data/a", "data/b", "data/c", "data/d"] {
        assert!(ends(lake.write_bytes(path, b"1", &Version::Absent)).await.is_err(), "{path}");
    }
    assert!((150..260).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // A failure much later is another one: it is waited for again.
    tokio::time::sleep(Duration::from_secs(400)).await;
    let began = Instant::now();
    store.clear();
    store.set(Request::Put, "data/", Manner::Broken, 5);
    assert!(ends(lake.write_bytes("data/e", b"1", &Version::Absent)).await.is_ok());
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn s2_a_removal_that_is_not_allowed_is_no_outage() {
    let store = Odd::default();
    let lake = lake(&store);
    lake.write_bytes("file", b"1", &Version::Absent).await.unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let counted = told.clone();
    lake.on_delay(move |_| _ = counted.fetch_add(1, Ordering::Relaxed));
    store.set(Request::Delete, "file", Manner::Denied, u32::MAX);
    let began = Instant::now();
    let error = ends(lake.remove("file")).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(error.hint_text().unwrap().contains("s3:DeleteObject"), "{:?}", error.hint_text());
    assert_eq!(told.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn o1_an_outage_is_not_waited_for_beyond_the_budget_of_time() {
    let table = Table::of(&account(135, 60));
    let store = Odd::default();
    let lake = TestLake::on(Arc::new(store.clone()));
    store.set(Request::Put, "customers/", Manner::Outage(Duration::from_secs(3_000)), 1);
    let budgets = Budgets { duration: Some(Duration::from_secs(30)), ..Budgets::default() };
    let options = Options { budgets, ..lake.options() };
    let began = Instant::now();
    let _ = ends(lake.sync_with(options, table)).await;
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_is_no_silent_one() {
    let store = Odd::default();
    let lake = lake(&store);
    let bytes = vec![7; 50 << 20];
    // 128 KB/s in one go, which nobody sees; and pieces that come seldom. Neither is given up, to be repeated.
    let began = Instant::now();
    store.set(Request::Put, "large", Manner::Slow(Duration::from_secs(400)), 1);
    let told = Arc::new(AtomicUsize::new(0));
    lake.on_delay({
        let told = told.clone();
        move |delay| {
            let is_of_large = matches!(&delay, Delay::Silence { path, .. } if path == "large");
            told.fetch_add(usize::from(is_of_large), Ordering::Relaxed);
        }
    });
    ends(lake.write_bytes("large", &bytes, &Version::Absent)).await.unwrap();
    assert!((35..=40).contains(&told.load(Ordering::Relaxed)), "{told:?}");
    assert!(began.elapsed() >= Duration::from_secs(400), "{:?}", began.elapsed());
    store.set(Request::Body, "large", Manner::Slow(Duration::from_secs(25)), 1);
    let (read, _) = ends(lake.read_bytes("large")).await.unwrap().unwrap();
    assert!(read == bytes && began.elapsed() >= Duration::from_secs(1400), "{:?}", began.elapsed());
    store.check_all_met();
    // One that is small has nothing to take so long for.
    store.set(Request::Put, "small", Manner::Slow(Duration::from_secs(400)), 1);
    let began = Instant::now();
    ends(lake.write_bytes("small", b"small", &Version::Absent)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_breaks_off_of_a_large_upload_is_sent_again() {
    use Request::{Begin, Complete, Head, Part};
    for request in [Begin, Part, Complete, Head] {
        for manner in [Manner::Silent, Manner::Broken, Manner::Impatient, Manner::Other] {
            if manner == Manner::Other && request != Complete {
                continue;
            }
            let store = Odd::default();
            let lake = lake(&store);
            store.set(request, "large", manner, 1);
            let mut staged = lake.stage("large").unwrap();
            staged.writer().set_len(70 << 20).unwrap();
            ends(lake.replace("large", staged, &Version::Absent)).await.unwrap();
            assert_eq!(lake.read("large").await.unwrap().unwrap().0.metadata().unwrap().len(), 70 << 20);
            assert_eq!(store.n_unfinished.load(Ordering::Relaxed), 0, "{request:?} {manner:?}");
            store.check_all_met();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_upload_that_cannot_be_completed_leaves_nothing() {
    let store = Odd::default();
    let lake = lake(&store);
    store.set(Request::Complete, "large", Manner::Broken, u32::MAX);
    let mut staged = lake.stage("large").unwrap();
    staged.writer().set_len(70 << 20).unwrap();
    ends(lake.replace("large", staged, &Version::Absent)).await.unwrap_err();
    assert!(!lake.exists("large").await.unwrap());
    assert_eq!(store.n_unfinished.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_removal_without_an_answer_is_repeated() {
    for manner in [Manner::Silent, Manner::Broken] {
        let store = Odd::default();
        let lake = lake(&store);
        lake.write_bytes("file", b"file", &Version::Absent).await.unwrap();
        store.set(Request::Delete, "file", manner, 1);
        ends(lake.remove("file")).await.unwrap();
        assert!(!lake.exists("file").await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_look_at_conditions_holds_no_lake() {
    for (condition, header) in [("create", "If-None-Match"), ("update", "If-Match")] {
        let store = Odd::default();
        store.set(Request::Put, condition, Manner::Blind, 0);
        let error = acquire(&lake(&store), "first").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Destination);
        assert!(error.to_string().contains(header), "{error}");
        assert!(error.hint_text().unwrap().contains("conditional"), "{:?}", error.hint_text());
        // It is given back: the next run is told the same, and not that another one holds the lake.
        assert_eq!(acquire(&lake(&store), "second").await.unwrap_err().kind(), Kind::Destination);
    }
}
