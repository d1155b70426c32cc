//! Turns older copies in the place of files, and listings of parts behind a loss, into whether the lake is whole.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;
use stripelake::commit::state::{ResourceState, state_path};
use stripelake::error::Kind;
use stripelake::fetch::allowance::Budgets;
use stripelake::partition::{Grain, Partition};
use stripelake::run::Setup;
use stripelake::run::event::Event;
use stripelake::run::report::Report;
use stripelake::run::sync::{Options, sync};

use crate::archives::import;
use crate::damage::{failure, forget, put};
use crate::harness::{TestLake, account, check_kind};
use crate::table::{Table, created};

/// A lake by month of one resource, whose newest file is in question.
struct ByMonth {
    name: &'static str,
    table: Arc<Table>,
    lake: TestLake,
    path: String,
}

impl ByMonth {
    async fn new(name: &'static str, n_charges: u64) -> ByMonth {
        let table = Table::some_of(&account(81, n_charges), |list| list == name);
        let mut lake = ByMonth { name, table, lake: TestLake::new(), path: String::new() };
        check_kind(&lake.sync().await, None);
        lake.path = lake.lake.parquet(name).await.pop_last().unwrap().0;
        lake
    }

    fn setup(&self) -> Setup {
        Setup { grains: [(self.name.to_owned(), Grain::Month)].into(), ..self.lake.setup() }
    }

    async fn sync_as(&self, change: impl FnOnce(Options) -> Options) -> Report {
        sync(&self.setup(), change(self.lake.options_for(&[self.name])), self.table.clone()).await.unwrap()
    }

    async fn sync(&self) -> Report {
        self.sync_as(|options| options).await
    }

    /// Of seconds in which nothing was created.
    async fn sync_nothing(&self) -> Report {
        let last = self.table.list(self.name).iter().map(created).max().unwrap();
        self.sync_as(|options| Options { since: Some(last + 1), ..options }).await
    }

    async fn bytes(&self, path: &str) -> Bytes {
        let table = path.split_once('/').unwrap().0;
        self.lake.parquet(table).await[path].0.clone()
    }

    fn is_within(&self, object: &Value) -> bool {
        Partition::of_path(&self.path, self.name).unwrap().span().contains(&created(object))
    }

    /// The objects of the file's month, changed, without those for which `change` says so.
    fn edit(&self, change: impl Fn(usize, &mut Value) -> bool) {
        self.table.edit(self.name, |objects| {
            let mut n = 0;
            objects.retain_mut(|object| {
                let is_within = self.is_within(object);
                n += usize::from(is_within);
                !is_within || change(n, object)
            });
        });
    }

    /// New charges of a clock that is some days ahead.
    fn create_ahead(&self, days: i64, n: usize) {
        let ahead = self.table.now() + days * 86_400;
        self.table.edit(self.name, |objects| {
            for n in 0..n {
                let mut new = objects[objects.len() - 1].clone();
                new["id"] = format!("ch_ahead{days}x{n}").into();
                new["created"] = ahead.into();
                objects.insert(0, new);
            }
        });
    }

    fn change_all(&self) {
        self.edit(|_, object| {
            object["description"] = "changed".into();
            true
        });
    }

    /// A loss that is named by each run until everything is listed.
    async fn check_lost(&self) {
        self.check_lost_child().await;
        self.lake.check_table_equals(&self.table, self.name).await;
    }

    /// The same where what belongs to an object was lost, which the table does not have by itself.
    async fn check_lost_child(&self) {
        for _ in 0..2 {
            check_kind(&self.sync_nothing().await, Some(Kind::Integrity));
        }
        check_kind(&self.sync().await, None);
        check_kind(&self.sync_nothing().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn s7_an_older_copy_with_the_same_objects_is_a_loss_of_what_has_changed() {
    for name in ["charges", "customers"] {
        let lake = ByMonth::new(name, 600).await;
        let older = lake.bytes(&lake.path).await;
        lake.change_all();
        check_kind(&lake.sync().await, None);
        put(&lake.lake, &lake.path, older).await;
        lake.check_lost().await;
    }
}

#[tokio::test(start_paused = true)]
async fn s7_an_older_copy_with_as_many_other_objects_is_a_loss_of_those_that_came_since() {
    let lake = ByMonth::new("customers", 3_000).await;
    let all = lake.table.list("customers");
    // They are marked as deleted, and left out where the file is made anew.
    lake.edit(|n, _| n % 2 == 0);
    check_kind(&lake.sync().await, None);
    let older = lake.bytes(&lake.path).await;
    forget(&lake.lake, &[&lake.path]).await;
    check_kind(&lake.sync().await, None);
    let mut n = 0;
    lake.table.edit("customers", |customers| {
        let gone = all.iter().filter(|customer| lake.is_within(customer) && !customers.contains(customer));
        let new: Vec<Value> = gone
            .map(|customer| {
                n += 1;
                let mut new = customer.clone();
                new["id"] = format!("cus_new{n}").into();
                new
            })
            .collect();
        customers.extend(new.into_iter().skip(5));
        customers.sort_by_key(|customer| -created(customer));
    });
    assert!(n > 10, "{n}");
    check_kind(&lake.sync().await, None);
    put(&lake.lake, &lake.path, older).await;
    lake.check_lost().await;
}

#[tokio::test(start_paused = true)]
async fn s7_an_older_copy_of_what_belongs_to_a_resource_is_a_loss() {
    let lake = ByMonth::new("subscriptions", 600).await;
    let path = lake.path.replace("subscriptions", "subscription_items");
    let older = lake.bytes(&path).await;
    lake.edit(|_, subscription| {
        for item in subscription["items"]["data"].as_array_mut().unwrap() {
            item["quantity"] = 77.into();
        }
        true
    });
    check_kind(&lake.sync().await, None);
    assert_ne!(lake.bytes(&path).await, older);
    put(&lake.lake, &path, older).await;
    lake.check_lost_child().await;
}

#[tokio::test(start_paused = true)]
async fn s7_an_older_copy_is_a_loss_also_where_its_columns_are_upgraded() {
    let lake = ByMonth::new("charges", 600).await;
    let older = lake.bytes(&lake.path).await;
    lake.change_all();
    check_kind(&lake.sync().await, None);
    put(&lake.lake, &lake.path, older).await;
    let path = state_path("charges");
    let (mut state, version) = lake.lake.lake.read_json::<ResourceState>(&path).await.unwrap().unwrap();
    state.partitions.values_mut().for_each(|file| file.schema_version = "of another catalog".to_owned());
    lake.lake.lake.write_summed_json(&path, &state, &version).await.unwrap();
    lake.check_lost().await;
}

#[tokio::test(start_paused = true)]
async fn s7_a_lost_file_is_not_made_anew_by_a_window_that_ends_within_it() {
    let lake = ByMonth::new("charges", 600).await;
    let within: Vec<i64> = lake.table.list("charges").iter().map(created).collect();
    forget(&lake.lake, &[&lake.path]).await;
    // The second to last charge of all.
    let until = Some(within[1]);
    check_kind(&lake.sync_as(|options| Options { until, ..options }).await, Some(Kind::Integrity));
    lake.check_lost().await;
}

#[tokio::test(start_paused = true)]
async fn s7_a_lost_file_of_what_belongs_to_a_resource_is_not_made_anew_by_a_window_that_ends_within_it() {
    let lake = ByMonth::new("subscriptions", 600).await;
    let newest = lake.table.list("subscriptions").iter().map(created).max();
    forget(&lake.lake, &[&lake.path.replace("subscriptions", "subscription_items")]).await;
    check_kind(&lake.sync_as(|options| Options { until: newest, ..options }).await, Some(Kind::Integrity));
    lake.check_lost().await;
}

#[tokio::test(start_paused = true)]
async fn s7_a_lost_file_is_not_made_anew_where_an_object_could_not_be_a_row() {
    let lake = ByMonth::new("charges", 600).await;
    forget(&lake.lake, &[&lake.path]).await;
    let whole = lake.table.list("charges");
    lake.edit(|n, charge| {
        if n == 2 {
            charge["created"] = "yesterday".into();
        }
        true
    });
    let report = lake.sync().await;
    assert!(
        report.failures.iter().any(|(_, error)| error.kind() == Kind::Integrity),
        "{:?}",
        report.failures
    );
    lake.table.put("charges", whole);
    lake.check_lost().await;
}

#[tokio::test(start_paused = true)]
async fn s7_a_lost_file_is_made_anew_by_many_runs_with_a_budget() {
    let lake = ByMonth::new("customers", 6_000).await;
    lake.edit(|n, _| n % 20 != 0);
    check_kind(&lake.sync().await, None);
    forget(&lake.lake, &[&lake.path]).await;
    let budgets = Budgets { requests: Some(4), ..Budgets::default() };
    let mut n_runs = 0;
    loop {
        n_runs += 1;
        let report = lake.sync_as(|options| Options { budgets, ..options }).await;
        match report.kind() {
            Some(Kind::Budget) if n_runs < 60 => {}
            kind => break assert_eq!(kind, None, "{n_runs} runs: {:?}", report.failures),
        }
    }
    assert!(n_runs > 3, "{n_runs}");
    lake.lake.check_table_equals(&lake.table, "customers").await;
    check_kind(&lake.sync_nothing().await, None);
}

#[tokio::test(start_paused = true)]
async fn s7_a_file_of_another_account_is_no_row_of_this_one() {
    let lake = ByMonth::new("charges", 600).await;
    let other =
        ByMonth { table: Table::some_of(&account(82, 600), |list| list == "charges"), ..lake_of_none() };
    check_kind(&other.sync().await, None);
    put(&lake.lake, &lake.path, other.bytes(&lake.path).await).await;
    for _ in 0..2 {
        let (kind, text) = failure(&lake.sync().await).unwrap();
        assert!(kind == Kind::Integrity && text.contains("got one of acct_"), "{text}");
    }
    forget(&lake.lake, &[&lake.path]).await;
    check_kind(&lake.sync().await, None);
    lake.lake.check_table_equals(&lake.table, "charges").await;
    // Nobody knows any longer whose lake that is, but the files do.
    for (path, _) in lake.lake.files().await {
        if path.starts_with("_stripelake/") {
            forget(&lake.lake, &[&path]).await;
        }
    }
    let (kind, text) = failure(&ByMonth { table: other.table.clone(), ..lake }.sync().await).unwrap();
    assert!(kind == Kind::Integrity && text.contains("got one of acct_"), "{text}");
}

fn lake_of_none() -> ByMonth {
    ByMonth { name: "charges", table: Table::charges(0, 1), lake: TestLake::new(), path: String::new() }
}

#[tokio::test(start_paused = true)]
async fn s7_a_lost_file_is_made_anew_though_an_object_of_another_time_could_not_be_a_row() {
    let lake = ByMonth::new("charges", 600).await;
    let whole = lake.table.list("charges");
    for is_of_the_file in [true, false] {
        forget(&lake.lake, &[&lake.path]).await;
        lake.table.edit("charges", |charges| {
            let odd = charges.iter_mut().filter(|charge| lake.is_within(charge) == is_of_the_file).nth(1);
            odd.unwrap()["id"] = Value::Null;
        });
        // It is not there again either.
        lake.edit(|n, _| n != 5);
        let report = lake.sync().await;
        let lost = &lake.lake.state("charges").await.unwrap().lost;
        assert_eq!(
            (lost.is_empty(), report.kind()),
            match is_of_the_file {
                true => (false, Some(Kind::Integrity)),
                false => (true, Some(Kind::Partial)),
            }
        );
        lake.table.put("charges", whole.clone());
        check_kind(&lake.sync().await, None);
        lake.lake.check_table_equals(&lake.table, "charges").await;
    }
}

#[tokio::test(start_paused = true)]
async fn s7_a_lost_file_with_what_has_a_clock_of_its_own_is_made_anew() {
    let lake = ByMonth::new("customers", 600).await;
    let ahead = lake.table.now() + 3 * 86_400;
    lake.table.edit("customers", |customers| {
        customers[..3].iter_mut().for_each(|customer| customer["created"] = ahead.into());
    });
    // The machine's clock is Stripe's.
    let started_at = jiff::Timestamp::from_second(lake.table.now()).unwrap();
    let sync = || async {
        let setup = Setup { started_at, ..lake.setup() };
        sync(&setup, lake.lake.options_for(&["customers"]), lake.table.clone()).await.unwrap()
    };
    check_kind(&sync().await, None);
    let path = lake.lake.parquet("customers").await.pop_last().unwrap().0;
    forget(&lake.lake, &[&path]).await;
    lake.table.edit("customers", |customers| drop(customers.remove(1)));
    check_kind(&sync().await, None);
    lake.lake.check_table_equals(&lake.table, "customers").await;
}

#[tokio::test(start_paused = true)]
async fn i4_an_import_that_was_killed_behind_a_loss_is_repeated() {
    let lake = lake_of_none();
    let charges = Table::charges(83, 40).list("charges");
    let observed_at = jiff::Timestamp::now().as_microsecond() - 1_000_000;
    check_kind(&import(&lake.lake, &charges, observed_at).await, None);
    let path = lake.lake.parquet("charges").await.pop_last().unwrap().0;
    forget(&lake.lake, &[&path]).await;
    check_kind(&import(&lake.lake, &charges[30..], observed_at).await, Some(Kind::Integrity));
    forget(&lake.lake, &[&path]).await;
    check_kind(&import(&lake.lake, &charges[30..], observed_at).await, Some(Kind::Integrity));
    let state = state_path("charges");
    let before = lake.lake.files().await[&state].0.clone();
    check_kind(&import(&lake.lake, &charges, observed_at).await, None);
    // As it stands where the last run is killed between the file and its state.
    put(&lake.lake, &state, before).await;
    check_kind(&import(&lake.lake, &charges, observed_at).await, None);
}

#[tokio::test(start_paused = true)]
async fn s7_an_older_copy_that_comes_behind_the_commit_of_its_file_is_a_loss() {
    let lake = ByMonth::new("charges", 3_000).await;
    let older = lake.bytes(&lake.path).await;
    lake.change_all();
    check_kind(&lake.sync().await, None);
    lake.edit(|_, charge| {
        charge["description"] = "once more".into();
        true
    });
    let (store, path) = (lake.lake.store.clone(), lake.path.clone());
    let on_event = Arc::new(move |event: Event| {
        if matches!(event, Event::File { path: written, .. } if written == path) {
            store.put(&Path::from(path.as_str()), older.clone().into()).now_or_never().unwrap().unwrap();
        }
    });
    let setup = Setup { on_event, ..lake.setup() };
    let report = sync(&setup, lake.lake.options_for(&["charges"]), lake.table.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Integrity));
    lake.check_lost().await;
}

#[tokio::test(start_paused = true)]
async fn s7_an_older_copy_in_the_place_of_an_empty_file_is_a_loss() {
    let lake = ByMonth::new("subscriptions", 600).await;
    let path = lake.path.replace("subscriptions", "subscription_items");
    let older = lake.bytes(&path).await;
    lake.edit(|_, subscription| {
        subscription["items"]["data"] = Value::Array(Vec::new());
        true
    });
    check_kind(&lake.sync().await, None);
    let folder = Partition::of_path(&path, "subscription_items").unwrap().to_string();
    assert_eq!(lake.lake.state("subscription_items").await.unwrap().partitions[&folder].rows, 0);
    put(&lake.lake, &path, older).await;
    lake.check_lost_child().await;
    assert_eq!(lake.lake.state("subscription_items").await.unwrap().partitions[&folder].rows, 0);
}

#[tokio::test(start_paused = true)]
async fn s7_a_lost_file_is_not_there_again_where_that_of_another_folder_stands() {
    let lake = ByMonth::new("charges", 600).await;
    let mut files = lake.lake.parquet("charges").await;
    let (path, _) = files.pop_last().unwrap();
    let (_, (other, _)) = files.pop_last().unwrap();
    forget(&lake.lake, &[&path]).await;
    check_kind(&lake.sync_nothing().await, Some(Kind::Integrity));
    put(&lake.lake, &path, other).await;
    for _ in 0..2 {
        let report = lake.sync_nothing().await;
        let said: Vec<_> = report.failures.iter().map(|(_, error)| error.to_string()).collect();
        assert!(said.iter().any(|text| text.contains("got that of charges/")), "{said:?}");
        assert!(said.iter().any(|text| text.contains("lost: ")), "{said:?}");
    }
    forget(&lake.lake, &[&path]).await;
    lake.check_lost().await;
}

#[tokio::test(start_paused = true)]
async fn s7_what_has_a_clock_of_its_own_and_is_lost_behind_its_commit_is_a_loss() {
    for is_overwritten in [false, true] {
        let lake = ByMonth::new("charges", 3_000).await;
        lake.create_ahead(70, 20);
        let started_at = jiff::Timestamp::from_second(lake.table.now()).unwrap();
        let setup = || Setup { started_at, ..lake.setup() };
        let options = || lake.lake.options_for(&["charges"]);
        check_kind(&sync(&setup(), options(), lake.table.clone()).await.unwrap(), None);
        let (path, (older, _)) = lake.lake.parquet("charges").await.pop_last().unwrap();
        lake.table.edit("charges", |charges| {
            charges[..20].iter_mut().for_each(|charge| charge["description"] = "changed".into());
        });
        let (store, at) = (lake.lake.store.clone(), path.clone());
        let on_event = Arc::new(move |event: Event| {
            if matches!(event, Event::File { path: written, .. } if written == at) {
                let place = Path::from(at.as_str());
                match is_overwritten {
                    true => _ = store.put(&place, older.clone().into()).now_or_never().unwrap().unwrap(),
                    false => store.delete(&place).now_or_never().unwrap().unwrap(),
                }
            }
        });
        let report = sync(&Setup { on_event, ..setup() }, options(), lake.table.clone()).await.unwrap();
        let is_there = lake.lake.parquet("charges").await.contains_key(&path);
        check_kind(&report, Some(Kind::Integrity));
        assert!(is_there == is_overwritten && !lake.lake.state("charges").await.unwrap().lost.is_empty());
        check_kind(&sync(&setup(), options(), lake.table.clone()).await.unwrap(), None);
        lake.lake.check_table_equals(&lake.table, "charges").await;
    }
}

#[tokio::test(start_paused = true)]
async fn s7_what_has_a_clock_of_its_own_and_is_no_row_now_may_be_what_was_lost() {
    let lake = ByMonth::new("charges", 600).await;
    let started_at = jiff::Timestamp::from_second(lake.table.now()).unwrap();
    let sync = || async {
        let setup = Setup { started_at, ..lake.setup() };
        sync(&setup, lake.lake.options_for(&["charges"]), lake.table.clone()).await.unwrap()
    };
    // The first time that is none is that of the year 2200.
    for (days, odd) in [
        (0, 7_258_118_400_i64.into()),
        (1, 99_999_999_999_999_i64.into()),
        (2, Value::Null),
        (70, Value::Null),
    ] {
        lake.create_ahead(days, 1);
        let whole = lake.table.list("charges");
        check_kind(&sync().await, None);
        let path = lake.lake.parquet("charges").await.pop_last().unwrap().0;
        forget(&lake.lake, &[&path]).await;
        lake.table.edit("charges", |charges| match odd.is_null() {
            true => charges[0]["id"] = Value::Null,
            false => charges[0]["created"] = odd.clone(),
        });
        check_kind(&sync().await, Some(Kind::Integrity));
        assert!(!lake.lake.state("charges").await.unwrap().lost.is_empty(), "{days} {odd}");
        lake.table.put("charges", whole);
        check_kind(&sync().await, None);
        lake.lake.check_table_equals(&lake.table, "charges").await;
    }
}
