//! Turns an account and a store in memory into a run, and the lake into what a test can compare.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::memory::InMemory;
use object_store::{ObjectStore as _, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use stripelake::catalog::Catalog;
use stripelake::commit::Lake;
use stripelake::commit::remote::{RemoteLake, Store};
use stripelake::commit::state::{ResourceState, state_path};
use stripelake::decode::rows::ParentRow;
use stripelake::decode::{self, Decoder};
use stripelake::encode;
use stripelake::error::{Kind, Result};
use stripelake::fake::script::Scripted;
use stripelake::fake::{Account, InProcess, Spec};
use stripelake::fetch::Transport;
use stripelake::fetch::allowance::Budgets;
use stripelake::fetch::limit::Rate;
use stripelake::partition::Partition;
use stripelake::run::Setup;
use stripelake::run::event::Event;
use stripelake::run::report::Report;
use stripelake::run::sync::{Options, sync};
use tokio::sync::watch;

use crate::json::{Row, rows};
use crate::table::Table;

/// Columns that say something about the row, not the object.
const OBSERVED: [&str; 2] = ["_synced_at", "_deleted"];

/// A lake in memory, and the runs that fill it.
pub struct TestLake {
    pub catalog: Arc<Catalog>,
    pub store: Arc<dyn Store>,
    pub lake: Arc<Lake>,
    pub events: Arc<Mutex<Vec<Event>>>,
    /// Then the files have other etags than those that the states speak of.
    is_copied: bool,
    n_runs: AtomicU32,
}

impl TestLake {
    pub fn new() -> TestLake {
        TestLake::on(Arc::new(InMemory::new()))
    }

    /// A lake in a store that a test has prepared.
    pub fn on(store: Arc<dyn Store>) -> TestLake {
        let lake = Lake::Remote(RemoteLake::new(store.clone(), Default::default(), "memory://lake"));
        TestLake {
            catalog: Arc::new(Catalog::embedded().unwrap()),
            store,
            lake: Arc::new(lake),
            events: Arc::default(),
            is_copied: false,
            n_runs: AtomicU32::new(0),
        }
    }

    /// A lake with the files of a folder.
    pub async fn copied_from(folder: &Path) -> TestLake {
        let lake = TestLake { is_copied: true, ..TestLake::new() };
        let mut folders = vec![folder.to_owned()];
        while let Some(at) = folders.pop() {
            for entry in std::fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                let bytes = std::fs::read(&path).unwrap();
                lake.store.put(&name.into(), bytes.into()).await.unwrap();
            }
        }
        lake
    }

    /// What a run of the command line would have.
    pub fn setup(&self) -> Setup {
        let events = self.events.clone();
        Setup {
            catalog: self.catalog.clone(),
            lake: self.lake.clone(),
            run_id: format!("run{}", self.n_runs.fetch_add(1, Ordering::Relaxed)),
            started_at: Timestamp::now(),
            encode: encode::Options::default(),
            owner: None,
            memory: 64 << 20,
            temporary: std::env::temp_dir(),
            grains: HashMap::new(),
            wait_lock: Duration::ZERO,
            on_event: Arc::new(move |event| events.lock().unwrap().push(event)),
        }
    }

    /// All resources in test mode, four slices at once, without a rate.
    pub fn options(&self) -> Options {
        let (sender, interrupted) = watch::channel(None);
        drop(sender);
        Options {
            resources: self.catalog.listed().cloned().collect(),
            livemode: false,
            since: None,
            until: None,
            rate: Rate::Unlimited,
            budgets: Budgets::default(),
            starts_over: false,
            stripe_version: self.catalog.stripe_version.clone(),
            concurrency: 4,
            jitter_seed: 7,
            interrupted,
        }
    }

    pub fn options_for(&self, names: &[&str]) -> Options {
        let resources = names.iter().map(|name| self.catalog.get(name).unwrap().clone()).collect();
        Options { resources, ..self.options() }
    }

    pub async fn sync_with(&self, options: Options, transport: Arc<dyn Transport>) -> Result<Report> {
        sync(&self.setup(), options, transport).await
    }

    pub async fn sync(&self, transport: Arc<dyn Transport>) -> Result<Report> {
        self.sync_with(self.options(), transport).await
    }

    /// Runs and expects exit 0, and an intact lake.
    pub async fn sync_completely(&self, transport: Arc<dyn Transport>) -> Report {
        let report = self.sync(transport).await.unwrap();
        check_kind(&report, None);
        self.check_intact().await;
        report
    }

    /// Every object of the store by its path, with its etag.
    pub async fn files(&self) -> BTreeMap<String, (Bytes, Option<String>)> {
        let mut files = BTreeMap::new();
        let listed: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        for meta in listed {
            let bytes = self.store.get(&meta.location).await.unwrap().bytes().await.unwrap();
            files.insert(meta.location.to_string(), (bytes, meta.e_tag));
        }
        files
    }

    /// The partition files of a table by their paths.
    pub async fn parquet(&self, table: &str) -> BTreeMap<String, (Bytes, Option<String>)> {
        let mut files = self.files().await;
        files.retain(|path, _| path.starts_with(&format!("{table}/")) && path.ends_with(".parquet"));
        files
    }

    /// All rows of a table by id. Fails where an id stands twice.
    pub async fn rows(&self, table: &str) -> BTreeMap<String, Row> {
        let mut all = BTreeMap::new();
        let is_child = Catalog::embedded().unwrap().get(table).unwrap().parent.is_some();
        for (path, (bytes, _)) in self.parquet(table).await {
            let partition = Partition::of_path(&path, table);
            let partition = partition.unwrap_or_else(|| panic!("{path} is no partition's"));
            for row in read(bytes) {
                let id = row["id"].as_str().unwrap().to_owned();
                // A child stands where its parent does.
                if !is_child {
                    check_partition(&partition, &row);
                }
                assert!(all.insert(id.clone(), row).is_none(), "I2: {id} stands twice in {table}");
            }
        }
        all
    }

    /// The ids of a table's rows that are not marked deleted.
    pub async fn ids(&self, table: &str) -> BTreeSet<String> {
        let rows = self.rows(table).await;
        rows.into_iter().filter(|(_, row)| row["_deleted"] == false).map(|(id, _)| id).collect()
    }

    pub async fn state(&self, table: &str) -> Option<ResourceState> {
        self.lake.read_json(&state_path(table)).await.unwrap().map(|(state, _)| state)
    }

    /// I2 and I4: ids are unique, and the state names exactly the files that there are, as they are.
    pub async fn check_intact(&self) {
        for resource in &self.catalog.resources {
            let table = &resource.name;
            self.rows(table).await;
            let files = self.parquet(table).await;
            let Some(state) = self.state(table).await else {
                assert!(files.is_empty(), "I4: {table} has files and no state");
                continue;
            };
            let named = state.partitions.keys();
            let named: Vec<String> = named.map(|f| Partition::parse(f).unwrap().path(table)).collect();
            assert_eq!(named, files.keys().cloned().collect::<Vec<_>>(), "I4: files of {table}");
            for (path, (known, (bytes, etag))) in
                named.iter().zip(state.partitions.values().zip(files.values()))
            {
                assert_eq!(known.bytes, bytes.len() as u64, "I4: bytes of {path}");
                assert_eq!(known.crc32, format!("{:08x}", crc32fast::hash(bytes)), "I4: crc32 of {path}");
                assert_eq!(known.rows, read(bytes.clone()).len() as u64, "I4: rows of {path}");
                if known.etag.is_some() && !self.is_copied {
                    assert_eq!(&known.etag, etag, "I4: etag of {path}");
                }
            }
        }
    }

    /// I1: the lake holds every object of the account as it is now, and nothing else that is not deleted.
    pub async fn check_equals(&self, account: &Table) {
        for resource in self.catalog.listed() {
            self.check_table_equals(account, &resource.name).await;
        }
    }

    /// I1 for one resource and its children.
    pub async fn check_table_equals(&self, account: &Table, name: &str) {
        let expected = self.expected(account, name);
        for (table, expected) in expected {
            let mut found = self.rows(&table).await;
            found.retain(|_, row| row["_deleted"] == false);
            for (id, row) in &expected {
                let found = found.remove(id).unwrap_or_else(|| panic!("I1: {table} lacks {id}"));
                assert_eq!(&without_observation(found), row, "I1: {table} has another form of {id}");
            }
            assert!(found.is_empty(), "I1: {table} holds what Stripe has not: {:?}", found.keys());
        }
    }

    /// The rows that a table and its children should hold, straight from the objects.
    fn expected(&self, account: &Table, name: &str) -> Vec<(String, BTreeMap<String, Row>)> {
        let resource = self.catalog.get(name).unwrap();
        let children: Vec<_> = self.catalog.children_of(name).cloned().collect();
        let options =
            decode::Options { livemode: Some(false), refuse_other_mode: true, ..Default::default() };
        let mut decoder = Decoder::new(resource, &children, options);
        let mut objects = account.list(name);
        let items: Vec<Vec<Value>> = children.iter().map(|child| account.list(&child.name)).collect();
        for object in &mut objects {
            let parent = ParentRow {
                id: object["id"].as_str().unwrap().to_owned(),
                created: object["created"].as_i64().unwrap(),
            };
            for (number, child) in children.iter().enumerate() {
                let own = child.parent.as_ref().unwrap();
                let own_items = items[number].iter().filter(|item| item[&own.key] == parent.id.as_str());
                let items: Vec<Value> = own_items.cloned().collect();
                decoder.push_child_page(number, &parent, &page(&items), 0).unwrap();
                // What came with the parent is among them.
                let embedded = object.get_mut(&own.path[0]).unwrap();
                embedded["data"] = Value::Array(Vec::new());
                embedded["has_more"] = false.into();
            }
        }
        let pushed = decoder.push_page(&page(&objects), 0).unwrap();
        assert_eq!(pushed.rejected, []);
        let decoded = decoder.flush();
        let tables = std::iter::once(resource).chain(&children).map(|r| r.name.clone());
        let batches = std::iter::once(decoded.parent).chain(decoded.children);
        let by_id = |batch: Option<arrow::array::RecordBatch>| {
            let rows = batch.iter().flat_map(rows).map(|mut row| {
                row.remove(decode::rows::PARTITION_AT);
                (row["id"].as_str().unwrap().to_owned(), without_observation(row))
            });
            rows.collect()
        };
        tables.zip(batches.map(by_id)).collect()
    }
}

fn page(objects: &[Value]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({"object": "list", "data": objects, "has_more": false})).unwrap()
}

fn without_observation(mut row: Row) -> Row {
    row.retain(|name, _| !OBSERVED.contains(&name.as_str()));
    row
}

/// The rows of a partition file.
pub fn read(bytes: Bytes) -> Vec<Row> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    reader.flat_map(|batch| rows(&batch.unwrap())).collect()
}

/// A row stands in the partition of its `created`.
fn check_partition(partition: &Partition, row: &Row) {
    if let Some(created) = row.get("created") {
        let created = created.as_i64().unwrap().div_euclid(1_000_000);
        assert!(partition.span().contains(&created), "{partition} holds an object of {created}");
    }
}

/// I8: the exit is what it should be, and nothing is missing without a word.
#[track_caller]
pub fn check_kind(report: &Report, expected: Option<Kind>) {
    let kind = report.kind();
    assert_eq!(kind, expected, "{:?}", report.failures);
    let rejected = report.tables.iter().any(|table| table.rejected > 0);
    assert_eq!(kind.is_none(), report.failures.is_empty() && !rejected, "I8");
}

/// A small account; the seed decides everything.
pub fn account(seed: u64, charges: u64) -> Account {
    Account::new(Spec { seed, charges, span_days: 400, ..Spec::default() })
}

/// An account some of whose subscriptions have more items than they embed.
pub fn with_long_subscriptions() -> Account {
    Account::new(Spec { charges: 20, customers: Some(100), subscriptions: Some(700), ..Spec::default() })
}

/// A transport to an account, with a script in front of it.
pub fn scripted(account: Account) -> Arc<Scripted> {
    Arc::new(Scripted::new(Arc::new(InProcess::new(Arc::new(account)))))
}

/// The same for objects that a test changes.
pub fn scripted_table(table: &Arc<Table>) -> Arc<Scripted> {
    Arc::new(Scripted::new(table.clone()))
}
