//! Turns a lake of one catalog into a lake of another, and expects to find what no list shows any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use stripelake::catalog::{Catalog, Column, ColumnKind};
use stripelake::error::Kind;
use stripelake::fetch::allowance::Budgets;
use stripelake::run::sync::Options;

use crate::harness::{TestLake, account, check_kind};
use crate::table::{Table, created, text};

impl TestLake {
    /// Another catalog for the next runs: `change` gets the columns of one table.
    fn change_columns(&mut self, table: &str, change: impl FnOnce(&mut Vec<Column>)) {
        let mut catalog = Catalog::clone(&self.catalog);
        let resource = catalog.resources.iter_mut().find(|resource| resource.name == table).unwrap();
        change(&mut Arc::make_mut(resource).columns);
        self.catalog = Arc::new(catalog);
    }

    /// The columns of every file of a table, as often as they differ.
    async fn schemas(&self, table: &str) -> BTreeSet<Vec<String>> {
        let mut schemas = BTreeSet::new();
        for (bytes, _) in self.parquet(table).await.into_values() {
            let schema = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().schema().clone();
            let column =
                |field: &Arc<arrow::datatypes::Field>| format!("{} {}", field.name(), field.data_type());
            schemas.insert(schema.fields().iter().map(column).collect());
        }
        schemas
    }
}

fn columns(paths: &[(&str, ColumnKind)]) -> Vec<Column> {
    let column = |(path, kind): &(&str, ColumnKind)| {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        Column { name: path.join("_"), path, kind: kind.clone() }
    };
    paths.iter().map(column).collect()
}

/// Charges without two of their columns, with an amount in text and two columns for what was unknown.
fn next_columns(columns_of_charges: &mut Vec<Column>) {
    columns_of_charges.retain(|column| !["amount_captured", "metadata"].contains(&column.name.as_str()));
    let amount = columns_of_charges.iter_mut().find(|column| column.name == "amount").unwrap();
    amount.kind = ColumnKind::Text;
    columns_of_charges
        .extend(columns(&[("loyalty.points", ColumnKind::Int64), ("loyalty.tier", ColumnKind::Text)]));
}

/// Charges with members that the catalog does not know, over several years.
fn charges() -> Arc<Table> {
    let table = Table::charges(61, 300);
    table.edit("charges", |charges| {
        for (n, charge) in charges.iter_mut().enumerate() {
            charge["loyalty"] = json!({"points": n, "tier": format!("tier{n}"), "since": [n]});
        }
    });
    table
}

/// What every charge of the account has, wherever the second catalog has it.
async fn check_values(lake: &TestLake, table: &Table) {
    let rows = lake.rows("charges").await;
    let charges = table.list("charges");
    assert_eq!(rows.len(), charges.len());
    for charge in charges {
        let row = &rows[text(&charge["id"])];
        let extra: serde_json::Value = serde_json::from_str(row["_extra"].as_str().unwrap()).unwrap();
        assert_eq!(row["amount"], charge["amount"].to_string().as_str());
        assert_eq!(extra["amount_captured"], charge["amount_captured"]);
        assert_eq!(extra["metadata"], charge["metadata"]);
        assert_eq!(row["loyalty_points"], charge["loyalty"]["points"]);
        assert_eq!(row["loyalty_tier"], charge["loyalty"]["tier"]);
        assert_eq!(extra["loyalty"], json!({"since": charge["loyalty"]["since"]}));
    }
}

#[tokio::test(start_paused = true)]
async fn d2_d3_an_upgrade_keeps_what_it_does_not_list_again() {
    let table = charges();
    let mut lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    assert!(lake.parquet("charges").await.len() > 1);
    let before = lake.rows("charges").await;

    lake.change_columns("charges", next_columns);
    // The newest second alone is listed: a new row comes into the newest file, and none into the others.
    let newest = table.list("charges").iter().map(created).max().unwrap();
    table.edit("charges", |charges| {
        let mut new = charges[0].clone();
        new["id"] = json!("ch_new");
        new["created"] = json!(newest);
        new["amount"] = json!("77");
        charges.insert(0, new);
    });
    let options = Options { since: Some(newest), ..lake.options_for(&["charges"]) };
    check_kind(&lake.sync_with(options, table.clone()).await.unwrap(), None);

    lake.check_intact().await;
    table.edit("charges", |charges| charges[0]["amount"] = json!(77));
    // What is listed anew is as it is now, and Stripe sends amounts as ever.
    let is_old = |id: &str| !table.list("charges").iter().any(|c| c["id"] == id && created(c) >= newest);
    let after = lake.rows("charges").await;
    for (id, row) in before.iter().filter(|(id, _)| is_old(id)) {
        assert_eq!(after[id]["_synced_at"], row["_synced_at"], "{id} is the same form");
        assert_eq!(after[id]["amount"], row["amount"].to_string().as_str());
    }
    assert_eq!(after["ch_new"]["amount"], "77");
    assert_eq!(lake.schemas("charges").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn d1_d2_d3_every_value_is_found_where_the_next_catalog_has_it() {
    let table = charges();
    let mut lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    lake.change_columns("charges", next_columns);
    let after_all = table.now();
    table.set_now(after_all + 10);
    let options = Options { since: Some(after_all + 5), ..lake.options_for(&["charges"]) };
    check_kind(&lake.sync_with(options, table.clone()).await.unwrap(), None);
    lake.check_intact().await;
    check_values(&lake, &table).await;

    // And back again.
    lake.catalog = Arc::new(Catalog::embedded().unwrap());
    let options = Options { since: Some(after_all + 5), ..lake.options_for(&["charges"]) };
    check_kind(&lake.sync_with(options, table.clone()).await.unwrap(), None);
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn all_files_have_the_new_columns_before_anything_else_and_after_every_end() {
    let table = Table::of(&account(62, 300));
    let mut lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    for name in ["charges", "subscription_items"] {
        lake.change_columns(name, |of| of.extend(columns(&[("brand.new", ColumnKind::Text)])));
    }
    // The least that is allowed, and spent before the lists are read.
    let budgets = Budgets { requests: Some(12), ..Budgets::default() };
    let options = Options { budgets, ..lake.options() };
    check_kind(&lake.sync_with(options, table.clone()).await.unwrap(), Some(Kind::Budget));
    for name in ["charges", "subscription_items"] {
        let schemas = lake.schemas(name).await;
        assert_eq!(schemas.len(), 1, "{name}");
        assert!(schemas.first().unwrap().contains(&"brand_new Utf8".to_owned()), "{name}");
    }
    lake.check_intact().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_gets_the_new_columns_too() {
    let table = Table::charges(63, 0);
    let mut lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    lake.change_columns("charges", |of| of.extend(columns(&[("brand.new", ColumnKind::Text)])));
    lake.sync_completely(table.clone()).await;
    let schemas = lake.schemas("charges").await;
    assert_eq!(schemas.len(), 1);
    assert!(schemas.first().unwrap().contains(&"brand_new Utf8".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_marked_deleted_keeps_its_values_through_an_upgrade() {
    let table = Table::of(&account(64, 40));
    let mut lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    let gone = table.list("customers")[0].clone();
    table.edit("customers", |customers| drop(customers.remove(0)));
    lake.sync_completely(table.clone()).await;
    lake.change_columns("customers", |of| of.retain(|column| column.name != "email"));
    lake.sync_completely(table.clone()).await;
    let row = lake.rows("customers").await[text(&gone["id"])].clone();
    assert_eq!(row["_deleted"], true);
    let extra: serde_json::Value = serde_json::from_str(row["_extra"].as_str().unwrap()).unwrap();
    assert_eq!(extra["email"], gone["email"]);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_done_once() {
    let table = Table::charges(65, 200);
    let mut lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    lake.change_columns("charges", next_columns);
    lake.sync_completely(table.clone()).await;
    let etags = |files: BTreeMap<String, (bytes::Bytes, Option<String>)>| {
        files.into_iter().map(|(path, (_, etag))| (path, etag)).collect::<Vec<_>>()
    };
    let before = etags(lake.parquet("charges").await);
    lake.sync_completely(table).await;
    assert_eq!(etags(lake.parquet("charges").await), before);
}
