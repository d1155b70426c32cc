//! Turns files that went away with their rows, and what comes in their place, into whether the lake is whole.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use stripelake::error::Kind;
use stripelake::partition::Grain;
use stripelake::run::Setup;
use stripelake::run::report::Report;
use stripelake::run::sync::{Options, sync};

use crate::archives;
use crate::damage::{failure, forget, put};
use crate::harness::{TestLake, check_kind};
use crate::table::{Table, created};

/// A lake whose newest month has lost its file, which had the month's first objects. The others come only then.
struct Lost {
    table: Arc<Table>,
    lake: TestLake,
    path: String,
    file: Bytes,
    first: Vec<Value>,
    others: Vec<Value>,
}

impl Lost {
    async fn new(seed: u64) -> Lost {
        let (table, lake) = (Table::charges(seed, 1_000), TestLake::new());
        let all = table.list("charges");
        let newest = all.iter().map(created).max().unwrap();
        let month = Grain::Month.partition_of(newest);
        let within: Vec<Value> = all.iter().filter(|c| month.span().contains(&created(c))).cloned().collect();
        let middle = created(&within[within.len() / 2]);
        let (first, others): (Vec<Value>, Vec<Value>) = within.into_iter().partition(|c| created(c) < middle);
        assert!(first.len() > 10 && others.len() > 10, "{} and {}", first.len(), others.len());
        table.edit("charges", |charges| charges.retain(|charge| created(charge) < middle));
        let mut lost = Lost { table, lake, path: String::new(), file: Bytes::new(), first, others };
        check_kind(&lost.sync(None).await, None);
        let (path, (file, _)) = lost.lake.parquet("charges").await.pop_last().unwrap();
        forget(&lost.lake, &[&path]).await;
        (lost.path, lost.file) = (path, file);
        lost
    }

    async fn sync(&self, since: Option<i64>) -> Report {
        let setup = Setup { grains: [("charges".to_owned(), Grain::Month)].into(), ..self.lake.setup() };
        let options = Options { since, ..self.lake.options_for(&["charges"]) };
        sync(&setup, options, self.table.clone()).await.unwrap()
    }

    /// A sync of the seconds in which the other objects lie.
    async fn sync_others(&self) -> Report {
        self.sync(self.others.iter().map(created).min()).await
    }

    /// Of none that is there.
    async fn sync_nothing(&self) -> Report {
        self.sync(self.others.iter().map(created).max().map(|last| last + 1)).await
    }

    fn let_others_come(&self) {
        let others = self.others.iter().cloned();
        self.table.edit("charges", |charges| {
            charges.extend(others);
            charges.sort_by_key(|charge| -created(charge));
        });
    }

    async fn restore(&self) {
        put(&self.lake, &self.path, self.file.clone()).await;
    }

    async fn import(&self, objects: &[Value]) -> Report {
        archives::import(&self.lake, objects, jiff::Timestamp::now().as_microsecond()).await
    }
}

#[tokio::test(start_paused = true)]
async fn s7_a_copy_that_is_restored_over_newer_rows_is_a_loss_of_these() {
    let lost = Lost::new(71).await;
    lost.let_others_come();
    check_kind(&lost.sync_others().await, Some(Kind::Integrity));
    lost.restore().await;
    for _ in 0..2 {
        check_kind(&lost.sync_nothing().await, Some(Kind::Integrity));
    }
    check_kind(&lost.sync_others().await, None);
    lost.lake.check_table_equals(&lost.table, "charges").await;
    check_kind(&lost.sync_nothing().await, None);
}

#[tokio::test(start_paused = true)]
async fn s7_a_restored_file_is_there_again_also_where_new_objects_come_into_it() {
    for is_between in [false, true] {
        let lost = Lost::new(72).await;
        if is_between {
            lost.let_others_come();
        }
        check_kind(&lost.sync_others().await, Some(Kind::Integrity));
        lost.restore().await;
        if !is_between {
            lost.let_others_come();
        }
        check_kind(&lost.sync_others().await, None);
        lost.lake.check_table_equals(&lost.table, "charges").await;
        check_kind(&lost.sync_nothing().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn s7_a_lost_file_is_not_found_again_in_other_objects_nor_in_some_that_come_twice() {
    let lost = Lost::new(73).await;
    let (first, behind) = (&lost.first, created(&lost.others[0]));
    let other = |(n, charge): (usize, &Value)| {
        let mut charge = charge.clone();
        charge["id"] = format!("ch_other{n}").into();
        charge["created"] = behind.into();
        charge
    };
    let others: Vec<Value> = first.iter().enumerate().map(other).collect();
    check_kind(&lost.import(&others).await, Some(Kind::Integrity));
    let half = &first[..first.len() / 2];
    check_kind(&lost.import(&[half, half, &first[..1]].concat()).await, Some(Kind::Integrity));
    // The rest, by itself.
    check_kind(&lost.import(&first[first.len() / 2..]).await, None);
    check_kind(&lost.sync_nothing().await, None);
}

#[tokio::test(start_paused = true)]
async fn s7_half_a_copy_is_damaged_and_the_file_still_lost() {
    let lost = Lost::new(75).await;
    let half = lost.file.slice(..lost.file.len() / 2);
    put(&lost.lake, &lost.path, half).await;
    for _ in 0..2 {
        let report = lost.sync_nothing().await;
        let (kind, said) = failure(&report).unwrap();
        assert!(kind == Kind::Integrity && said.contains(&lost.path), "{kind:?} {said}");
    }
    lost.restore().await;
    check_kind(&lost.sync_nothing().await, None);
}

#[tokio::test(start_paused = true)]
async fn s7_a_lost_file_is_made_anew_by_a_listing_of_its_seconds_alone() {
    let lost = Lost::new(74).await;
    let oldest = lost.first.iter().map(created).min().unwrap();
    check_kind(&lost.sync(Some(oldest + 1)).await, Some(Kind::Integrity));
    check_kind(&lost.sync(Some(oldest)).await, None);
    lost.lake.check_table_equals(&lost.table, "charges").await;
}
