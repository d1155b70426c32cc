//! Turns walks over the lists into checks that they show each object once, in order.

use std::collections::HashSet;

use super::*;
use crate::fake::{Density, Resource};

/// What a plain walk must find, made without the code that lists.
fn expected_len(account: &Account, resource: Resource) -> usize {
    let all = account.len(resource) as usize;
    if resource != Resource::BalanceTransactions {
        return all;
    }
    let uncaptured = (0..account.len(Resource::Charges)).filter(|index| !account.charge(*index).is_captured);
    let not_failed = (0..account.len(Resource::Refunds)).filter(|index| !account.is_failed_refund(*index));
    all - uncaptured.count() - not_failed.count()
}

fn check_walk(account: &Account, limit: usize) {
    for resource in Resource::ALL {
        let lists = LISTS.iter().filter(|(name, _)| *name == resource.name());
        let mut seen = HashSet::new();
        for (name, params) in lists.clone() {
            let objects = walk(account, &list_url(name, params), limit);
            let created: Vec<i64> = objects.iter().map(|object| number(&object["created"])).collect();
            assert!(created.is_sorted_by(|newer, older| newer >= older), "{name}: not newest first");
            assert!(created.iter().all(|second| *second < account.spec.now), "{name}: in the future");
            for object in &objects {
                assert!(seen.insert(text(&object["id"]).to_owned()), "{name}: {} twice", object["id"]);
            }
        }
        if lists.count() > 0 {
            assert_eq!(seen.len(), expected_len(account, resource), "{}, limit {limit}", resource.name());
        }
    }
}

#[test]
fn a_walk_gives_every_object_once_and_newest_first() {
    let account = account(2_500);
    for limit in [100, 37] {
        check_walk(&account, limit);
    }
}

#[test]
fn accounts_of_every_small_size_can_be_walked() {
    for charges in [0, 1, 2, 3, 7, 13, 40] {
        check_walk(&account(charges), 7);
    }
    assert!(account(0).is_empty());
    assert_eq!(account(1).len(Resource::Charges), 1);
}

#[test]
fn seconds_that_several_kinds_of_transactions_share_lose_none() {
    let account =
        Account::new(Spec { charges: 4_000, refunds: Some(2_000), span_days: 1, ..Spec::default() });
    check_walk(&account, 9);
}

#[test]
fn a_walk_gives_every_object_once_whatever_the_density() {
    for density in Density::ALL {
        check_walk(&Account::new(Spec { charges: 9_000, density, ..Spec::default() }), 100);
    }
}

#[test]
fn a_density_moves_objects_of_every_list_and_changes_no_number_of_them() {
    let by_default = account(9_000);
    let middle = by_default.spec.now - 365 * 86_400;
    for density in [Density::Even, Density::Month] {
        let account = Account::new(Spec { charges: 9_000, density, ..Spec::default() });
        for resource in Resource::ALL {
            assert_eq!(account.len(resource), by_default.len(resource), "{density:?}");
        }
        for name in ["charges", "customers", "subscriptions", "refunds", "balance_transactions"] {
            let newest = |account| get(account, &format!("/v1/{name}?limit=1&created[lt]={middle}"));
            let created = |account| newest(account)["data"][0]["id"].clone();
            assert_ne!(created(&account), created(&by_default), "{name} {density:?}");
        }
    }
}

#[test]
fn counts_can_be_set_one_by_one() {
    let spec = Spec {
        charges: 100,
        customers: Some(1),
        prices: Some(2),
        subscriptions: Some(300),
        refunds: Some(1_000),
        span_days: 1,
        ..Spec::default()
    };
    let account = Account::new(spec);
    assert_eq!(account.len(Resource::Subscriptions), 300);
    assert_eq!(account.len(Resource::Refunds), 50);
    check_walk(&account, 100);
}

#[test]
fn a_walk_backwards_gives_the_same_objects() {
    let account = account(700);
    for (name, params) in LISTS {
        let url = list_url(name, params);
        let forwards = walk(&account, &url, 100);
        let mut backwards = vec![forwards.last().unwrap().clone()];
        loop {
            let before = text(&backwards[0]["id"]);
            let page = get(&account, &format!("{url}&limit=33&ending_before={before}"));
            backwards.splice(0..0, page["data"].as_array().unwrap().iter().cloned());
            if page["has_more"] == false {
                break;
            }
        }
        assert_eq!(backwards, forwards, "{name}");
    }
}

#[test]
fn windows_partition_a_list_exactly() {
    let account = account(1_500);
    for (name, params) in LISTS {
        let url = list_url(name, params);
        let whole = walk(&account, &url, 100);
        let now = account.spec.now;
        // A second that objects share lies on a bound, and is a window of its own.
        let shared = number(&whole[whole.len() / 2]["created"]);
        let bounds = [0, now - 400 * 86_400, shared, shared + 1, now - 86_400, now];
        let mut parts = Vec::new();
        for bound in bounds.windows(2).rev() {
            let window = format!("{url}&created[gte]={}&created%5Blt%5D={}", bound[0], bound[1]);
            parts.extend(walk(&account, &window, 50));
        }
        assert_eq!(parts, whole, "{name}");
        type Claim = fn(&i64, &i64) -> bool;
        let claims: [(&str, Claim); 5] = [
            ("created", i64::eq),
            ("created[gt]", i64::gt),
            ("created[gte]", i64::ge),
            ("created[lt]", i64::lt),
            ("created[lte]", i64::le),
        ];
        for (param, claim) in claims {
            let expected = whole.iter().filter(|object| claim(&number(&object["created"]), &shared));
            let expected: Vec<Value> = expected.cloned().collect();
            assert_eq!(walk(&account, &format!("{url}&{param}={shared}"), 100), expected, "{name} {param}");
        }
    }
}

#[test]
fn a_cursor_and_a_window_both_apply() {
    let account = account(300);
    let all = walk(&account, "/v1/charges?", 100);
    let cursor = text(&all[200]["id"]);
    let newer = number(&all[100]["created"]);
    // The cursor is older than the window: the page is empty, which is no error.
    let page = get(&account, &format!("/v1/charges?created[gte]={newer}&starting_after={cursor}"));
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (0, &Value::Bool(false)));
    // The cursor is newer than the window: the page starts with the window.
    let page =
        get(&account, &format!("/v1/charges?created[lt]={newer}&starting_after={}", text(&all[0]["id"])));
    assert!(number(&page["data"][0]["created"]) < newer);
}

#[test]
fn the_envelope_says_what_the_list_is() {
    let account = account(30);
    let page = get(&account, "/v1/charges");
    let keys: Vec<&String> = page.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["object", "data", "has_more", "url"]);
    assert_eq!((&page["object"], &page["url"]), (&Value::from("list"), &Value::from("/v1/charges")));
    assert_eq!(page["data"].as_array().unwrap().len(), 10);
    assert_eq!(get(&account, "/v1/charges?limit=29")["has_more"], true);
    assert_eq!(get(&account, "/v1/charges?limit=30")["has_more"], false);
    let events = account.respond(&Request::get("/v1/events?limit=5&created[gte]=1", KEY));
    let expected =
        "{\n  \"object\": \"list\",\n  \"data\": [],\n  \"has_more\": false,\n  \"url\": \"/v1/events\"\n}\n";
    assert_eq!(events.body, expected.as_bytes());
}

#[test]
fn canceled_subscriptions_and_archived_prices_are_hidden_until_asked_for() {
    let account = account(3_000);
    let all = walk(&account, "/v1/subscriptions?status=all", 100);
    let shown = walk(&account, "/v1/subscriptions?", 100);
    let canceled = walk(&account, "/v1/subscriptions?status=canceled", 100);
    assert!(!canceled.is_empty() && shown.iter().all(|subscription| subscription["status"] != "canceled"));
    assert_eq!(all.len(), shown.len() + canceled.len());
    let active = walk(&account, "/v1/prices?active=true", 100);
    assert_eq!(walk(&account, "/v1/prices?", 100), active);
    assert!(active.iter().all(|price| price["active"] == true));
    assert!(!walk(&account, "/v1/prices?active=false", 100).is_empty());
}

#[test]
fn a_filter_keeps_what_its_member_says() {
    let account = account(1_200);
    let by_member = [
        ("charges", "customer", "", "customer"),
        ("charges", "payment_intent", "", "payment_intent"),
        ("customers", "email", "", "email"),
        ("prices", "currency", "", "currency"),
        ("prices", "product", "", "product"),
        ("prices", "type", "", "type"),
        ("refunds", "charge", "", "charge"),
        ("refunds", "payment_intent", "", "payment_intent"),
        ("balance_transactions", "type", "", "type"),
        ("balance_transactions", "source", "", "source"),
        ("balance_transactions", "currency", "", "currency"),
        ("subscriptions", "customer", "&status=all", "customer"),
        ("subscriptions", "collection_method", "&status=all", "collection_method"),
        ("subscriptions", "status", "", "status"),
    ];
    for (name, param, others, member) in by_member {
        let all = walk(
            &account,
            &format!("/v1/{name}?{}", if name == "subscriptions" { "status=all" } else { "" }),
            100,
        );
        let value = all.iter().rev().find_map(|object| object[member].as_str()).unwrap().to_owned();
        let kept: Vec<Value> = all.into_iter().filter(|object| object[member] == value).collect();
        let encoded = value.replace('+', "%2B");
        assert_eq!(
            walk(&account, &format!("/v1/{name}?{param}={encoded}{others}"), 3),
            kept,
            "{name} by {param}"
        );
    }
}

#[test]
fn the_rest_of_a_long_subscription_is_listed_apart() {
    let account = account(12_000);
    let all = walk(&account, "/v1/subscriptions?status=all", 100);
    let long: Vec<&Value> =
        all.iter().filter(|subscription| subscription["items"]["has_more"] == true).collect();
    assert!(!long.is_empty());
    for subscription in all.iter().take(20).chain(long) {
        let embedded = subscription["items"]["data"].as_array().unwrap();
        let n_items = number(&subscription["items"]["total_count"]) as usize;
        let url = text(&subscription["items"]["url"]);
        let listed = walk(&account, url, 7);
        assert_eq!(listed.len(), n_items);
        assert_eq!(embedded[..], listed[..n_items.min(10)]);
        let last = text(&embedded.last().unwrap()["id"]);
        let rest = get(&account, &format!("{url}&limit=100&starting_after={last}"));
        assert_eq!(rest["data"].as_array().unwrap()[..], listed[n_items.min(10)..]);
        let before = get(&account, &format!("{url}&limit=3&ending_before={last}"));
        let end = embedded.len() - 1;
        assert_eq!(before["data"].as_array().unwrap()[..], listed[end.saturating_sub(3)..end]);
        assert_eq!(before["has_more"], end > 3);
        assert_eq!(get(&account, &format!("/v1/subscription_items/{last}")), *embedded.last().unwrap());
        let altered = last.replacen('_', "_9", 1);
        let response = account.respond(&Request::get(&format!("{url}&starting_after={altered}"), KEY));
        assert_eq!(response.status, 400, "{altered}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let body = |seed, name: &str| {
        let account = Account::new(Spec { seed, charges: 500, ..Spec::default() });
        account.respond(&Request::get(&format!("/v1/{name}?limit=100"), KEY)).body
    };
    for (name, _) in LISTS {
        assert_eq!(body(5, name), body(5, name));
        let head = |seed| {
            let page: Value = serde_json::from_slice(&body(seed, name)).unwrap();
            (page["data"][0]["id"].clone(), page["data"][0]["created"].clone())
        };
        assert!(head(5).0 != head(6).0 && head(5).1 != head(6).1, "{name}");
    }
}

#[test]
fn a_million_charges_are_paged_at_both_ends_at_once() {
    let account = account(1_000_000);
    for name in ["charges", "balance_transactions", "refunds", "customers"] {
        let first = get(&account, &format!("/v1/{name}?limit=1"));
        let middle = account.spec.now - 300 * 86_400;
        let page = get(&account, &format!("/v1/{name}?limit=100&created[lt]={middle}"));
        assert!(number(&first["data"][0]["created"]) > middle);
        assert_eq!(page["has_more"], true);
    }
}
