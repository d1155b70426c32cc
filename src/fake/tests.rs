//! Turns the promises of the fake account into checks, through the same door as any client.

mod errors;
mod lists;
mod objects;

use serde_json::Value;

use super::{Account, Request, Spec};

const KEY: &str = "sk_test_fake";

/// Every list with the parameters that show all of it.
const LISTS: [(&str, &str); 7] = [
    ("balance_transactions", ""),
    ("charges", ""),
    ("customers", ""),
    ("prices", "&active=true"),
    ("prices", "&active=false"),
    ("refunds", ""),
    ("subscriptions", "&status=all"),
];

fn account(charges: u64) -> Account {
    Account::new(Spec { charges, ..Spec::default() })
}

fn get(account: &Account, url: &str) -> Value {
    let response = account.respond(&Request::get(url, KEY));
    assert_eq!(response.status, 200, "{url}: {}", String::from_utf8_lossy(&response.body));
    serde_json::from_slice(&response.body).unwrap()
}

/// All objects of a list, page by page.
fn walk(account: &Account, url: &str, limit: usize) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after =
            all.last().map(|last| format!("&starting_after={}", text(&last["id"]))).unwrap_or_default();
        let mut page = get(account, &format!("{url}&limit={limit}{after}"));
        let data = page["data"].as_array_mut().unwrap();
        assert!(data.len() <= limit);
        all.append(data);
        if page["has_more"] == false {
            return all;
        }
    }
}

fn list_url(name: &str, params: &str) -> String {
    format!("/v1/{name}?{}", params.trim_start_matches('&'))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a string, got {value}"))
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("expected an integer, got {value}"))
}
