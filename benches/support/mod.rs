//! Turns the fake account into pages and batches that the benchmarks share.
#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::sync::Arc;

use arrow::array::RecordBatch;
use serde_json::Value;
use stripelake::catalog::{Catalog, Resource};
use stripelake::decode::{Decoder, Options};
use stripelake::fake::{Account, Request, Spec};
use stripelake::fetch::envelope::Envelope;

/// The key that the fake account accepts.
pub const KEY: &str = "rk_test_stripelakebench";

/// The account of every benchmark: the same seed, so the same bytes.
pub fn account(n_charges: u64) -> Account {
    Account::new(Spec { charges: n_charges, ..Spec::default() })
}

pub fn charges() -> Arc<Resource> {
    Catalog::embedded().expect("the catalog is checked by tests").get("charges").expect("is listed").clone()
}

/// Calls `take` with every page of a resource, as Stripe would send it, newest first.
pub fn each_page(account: &Account, resource: &str, mut take: impl FnMut(&[u8])) {
    let mut after = String::new();
    loop {
        let url = format!("/v1/{resource}?limit=100{after}");
        let body = account.respond(&Request::get(&url, KEY)).body;
        take(&body);
        let Envelope { has_more, ids, .. } = Envelope::parse(&body).expect("the fake sends lists");
        if !has_more {
            return;
        }
        after = format!("&starting_after={}", ids.last().expect("a page that goes on has rows"));
    }
}

/// Pages of charges, pretty-printed as Stripe prints them.
pub fn pretty_pages(n_charges: u64) -> Vec<Vec<u8>> {
    let mut pages = Vec::new();
    each_page(&account(n_charges), "charges", |body| pages.push(body.to_vec()));
    pages
}

/// The same pages without white space.
pub fn compact_pages(pages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let compact = |page: &Vec<u8>| {
        let value: Value = serde_json::from_slice(page).expect("pages are JSON");
        value.to_string().into_bytes()
    };
    pages.iter().map(compact).collect()
}

/// The same pages with the members of every object in an order of its own.
pub fn shuffled_pages(pages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(1);
    let shuffled = pages.iter().map(|page| {
        let mut value: Value = serde_json::from_slice(page).expect("pages are JSON");
        shuffle(&mut value, &mut rng);
        serde_json::to_vec_pretty(&value).expect("a value is JSON")
    });
    shuffled.collect()
}

fn shuffle(value: &mut Value, rng: &mut fastrand::Rng) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| shuffle(item, rng)),
        Value::Object(members) => {
            members.values_mut().for_each(|member| shuffle(member, rng));
            let mut in_order: Vec<(String, Value)> = std::mem::take(members).into_iter().collect();
            rng.shuffle(&mut in_order);
            members.extend(in_order);
        }
        _ => {}
    }
}

/// Decodes pages the product's way, a batch for every `pages_per_batch` pages, without the in-memory column.
pub fn batches(pages: &[Vec<u8>], pages_per_batch: usize) -> Vec<RecordBatch> {
    let mut decoder = Decoder::new(&charges(), &[], Options::default());
    let mut batches = Vec::new();
    for pages in pages.chunks(pages_per_batch) {
        for page in pages {
            decoder.push_page(page, 1).expect("the fake sends proper pages");
        }
        let batch = decoder.flush().parent.expect("pages have rows");
        let columns: Vec<usize> = (0..batch.num_columns() - 1).collect();
        batches.push(batch.project(&columns).expect("columns of the batch itself"));
    }
    batches
}
