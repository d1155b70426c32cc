//! Turns 5,000 charges and all around them into checks that objects agree with each other and with the API.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::*;
use crate::fake::Density;

/// One account, read once for all tests of this file.
static ALL: LazyLock<Lake> = LazyLock::new(|| {
    let account = account(5_000);
    let mut lists: HashMap<&'static str, Vec<Value>> = HashMap::new();
    for (name, params) in LISTS {
        lists.entry(name).or_default().extend(walk(&account, &list_url(name, params), 100));
    }
    Lake { account, lists }
});

struct Lake {
    account: Account,
    lists: HashMap<&'static str, Vec<Value>>,
}

impl Lake {
    fn by_id(&self, name: &str) -> HashMap<&str, &Value> {
        self.lists[name].iter().map(|object| (text(&object["id"]), object)).collect()
    }
}

#[test]
fn every_object_has_the_members_of_the_api_and_no_others() {
    let expected: HashMap<&str, Vec<&str>> = include_str!("members.txt")
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(node, members)| (node, members.split(' ').collect()))
        .collect();
    let mut seen = HashSet::new();
    for (name, objects) in &ALL.lists {
        for object in objects {
            check_members(object, name, &expected, &mut seen);
        }
    }
    let unseen: Vec<_> = expected.keys().filter(|node| !seen.contains(**node)).collect();
    assert!(unseen.is_empty(), "never made: {unseen:?}");
}

/// `id` and `object` first, the others sorted, all of them known, none but the optional ones missing.
fn check_members(value: &Value, path: &str, expected: &HashMap<&str, Vec<&str>>, seen: &mut HashSet<String>) {
    if let Value::Array(elements) = value {
        elements.iter().for_each(|element| check_members(element, path, expected, seen));
    }
    let Value::Object(members) = value else {
        return;
    };
    let own = members.get("object").and_then(Value::as_str).filter(|own| *own != "list");
    let path = own.unwrap_or(path);
    let keys: Vec<&str> = members.keys().map(String::as_str).collect();
    let head = keys.iter().take_while(|key| matches!(**key, "id" | "object")).count();
    assert!(keys[head..].is_sorted() && !keys[head..].contains(&"id"), "{path}: {keys:?}");
    if path.ends_with(".metadata") || !expected.contains_key(path) && members.is_empty() {
        return;
    }
    seen.insert(path.to_owned());
    let names = expected.get(path).unwrap_or_else(|| panic!("{path}: {keys:?} is no object of the API"));
    for key in &keys {
        let is_known = names.iter().any(|name| name.trim_end_matches('?') == *key);
        assert!(is_known, "{path}.{key} is no member of the API");
        check_members(&members[*key], &format!("{path}.{key}"), expected, seen);
    }
    for name in names.iter().filter(|name| !name.ends_with('?')) {
        assert!(keys.contains(name), "{path}.{name} is missing");
    }
}

#[test]
fn a_charge_agrees_with_its_refunds_and_its_transaction() {
    let transactions = ALL.by_id("balance_transactions");
    let customers = ALL.by_id("customers");
    let mut refunds: HashMap<&str, Vec<&Value>> = HashMap::new();
    for refund in &ALL.lists["refunds"] {
        refunds.entry(text(&refund["charge"])).or_default().push(refund);
    }
    let mut n_twice = 0;
    for charge in &ALL.lists["charges"] {
        let id = text(&charge["id"]);
        let own = refunds.remove(id).unwrap_or_default();
        n_twice += usize::from(own.len() == 2);
        let counted = own.iter().filter(|refund| refund["status"] != "failed");
        let sum: i64 = counted.map(|refund| number(&refund["amount"])).sum();
        assert_eq!(charge["amount_refunded"], sum, "{id}");
        assert!(sum <= number(&charge["amount_captured"]));
        assert_eq!(charge["refunded"], sum == number(&charge["amount"]), "{id}");
        for refund in own {
            assert!(
                number(&refund["created"]) > number(&charge["created"]),
                "{id}: refunded before it was paid"
            );
            assert_eq!(
                (&refund["payment_intent"], &refund["currency"]),
                (&charge["payment_intent"], &charge["currency"])
            );
            assert!(number(&refund["amount"]) > 0);
        }
        assert_eq!(charge["balance_transaction"].is_string(), charge["captured"] == true);
        if let Some(transaction) = charge["balance_transaction"].as_str() {
            let transaction = transactions[transaction];
            assert_eq!(transaction["source"], charge["id"]);
            assert_eq!(transaction["created"], charge["created"]);
            if transaction["exchange_rate"].is_null() {
                assert_eq!(
                    (&transaction["amount"], &transaction["currency"]),
                    (&charge["amount"], &charge["currency"])
                );
            }
        }
        if let Some(customer) = charge["customer"].as_str() {
            assert!(
                number(&customers[customer]["created"]) <= number(&charge["created"]),
                "{id}: before its customer"
            );
        }
        check_state(charge);
    }
    assert!(refunds.is_empty() && n_twice > 3, "{n_twice} charges with two refunds");
}

fn check_state(charge: &Value) {
    let has_failed = charge["status"] == "failed";
    assert_eq!(charge["paid"], !has_failed);
    assert_eq!(charge["failure_code"].is_string(), has_failed);
    assert_eq!(charge["failure_message"].is_string(), has_failed);
    assert_eq!(charge["disputed"], charge["dispute"].is_string());
    let outcome = text(&charge["outcome"]["type"]);
    assert_eq!(outcome == "authorized", !has_failed);
    assert_eq!(outcome == "blocked", charge["outcome"]["network_status"] == "not_sent_to_network");
    assert_eq!(outcome == "blocked", charge["outcome"]["reason"] == "highest_risk_level");
    let captured = if charge["captured"] == true { number(&charge["amount"]) } else { 0 };
    assert_eq!(charge["amount_captured"], captured);
    let method = text(&charge["payment_method_details"]["type"]);
    assert!(charge["payment_method_details"][method].is_object());
    assert_eq!(text(&charge["id"]).starts_with("ch_3"), method == "card");
}

#[test]
fn nothing_is_older_than_what_it_refers_to_whatever_the_density() {
    for density in Density::ALL {
        let account = Account::new(Spec { charges: 9_000, density, ..Spec::default() });
        let created = |name, params| -> HashMap<String, i64> {
            let objects = walk(&account, &list_url(name, params), 100);
            objects.iter().map(|one| (text(&one["id"]).to_owned(), number(&one["created"]))).collect()
        };
        let (customers, charges) = (created("customers", ""), created("charges", ""));
        let check = |name, params, member: &str, older: &HashMap<String, i64>| {
            for object in walk(&account, &list_url(name, params), 100) {
                let Some(id) = object[member].as_str() else { continue };
                assert!(older[id] <= number(&object["created"]), "{density:?}: {} and {id}", object["id"]);
            }
        };
        check("charges", "", "customer", &customers);
        check("subscriptions", "&status=all", "customer", &customers);
        check("refunds", "", "charge", &charges);
    }
}

#[test]
fn a_transaction_adds_up_and_points_back_at_its_source() {
    let charges = ALL.by_id("charges");
    let refunds = ALL.by_id("refunds");
    let mut kinds = HashSet::new();
    for transaction in &ALL.lists["balance_transactions"] {
        let id = &transaction["id"];
        let kind = text(&transaction["type"]);
        kinds.insert(kind);
        let fees: i64 =
            transaction["fee_details"].as_array().unwrap().iter().map(|fee| number(&fee["amount"])).sum();
        assert_eq!(transaction["fee"], fees, "{id}");
        assert_eq!(number(&transaction["amount"]) - fees, number(&transaction["net"]), "{id}");
        let is_pending = number(&transaction["available_on"]) > ALL.account.spec.now;
        assert_eq!(transaction["status"], if is_pending { "pending" } else { "available" });
        let is_gain = matches!(kind, "charge" | "payment" | "refund_failure");
        assert_eq!(number(&transaction["amount"]) > 0, is_gain, "{id}");
        let member =
            if kind == "refund_failure" { "failure_balance_transaction" } else { "balance_transaction" };
        match kind {
            "charge" | "payment" => assert_eq!(charges[text(&transaction["source"])][member], *id),
            "refund" | "payment_refund" | "refund_failure" => {
                assert_eq!(refunds[text(&transaction["source"])][member], *id);
            }
            _ => {}
        }
    }
    let all = [
        "adjustment",
        "charge",
        "payment",
        "payment_refund",
        "payout",
        "refund",
        "refund_failure",
        "stripe_fee",
    ];
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_unstable();
    assert_eq!(kinds, all);
}

#[test]
fn a_subscription_has_a_customer_and_the_prices_that_are_listed() {
    let customers = ALL.by_id("customers");
    let prices = ALL.by_id("prices");
    for subscription in &ALL.lists["subscriptions"] {
        let id = &subscription["id"];
        let customer = customers[text(&subscription["customer"])];
        assert!(number(&customer["created"]) <= number(&subscription["created"]), "{id}");
        let items = subscription["items"]["data"].as_array().unwrap();
        for item in items {
            assert_eq!(item["price"], *prices[text(&item["price"]["id"])], "{id}");
            assert_eq!((&item["plan"]["id"], &item["subscription"]), (&item["price"]["id"], id));
            assert_eq!(item["price"]["currency"], subscription["currency"]);
            assert!(number(&item["price"]["created"]) <= number(&subscription["created"]), "{id}");
            assert_eq!(item.get("quantity").is_some(), item["plan"]["usage_type"] == "licensed");
        }
        let (plan, quantity) = match items.as_slice() {
            [item] => (item["plan"].clone(), item.get("quantity").cloned().unwrap_or_default()),
            _ => (Value::Null, Value::Null),
        };
        assert_eq!((&subscription["plan"], &subscription["quantity"]), (&plan, &quantity));
        let has_ended = matches!(text(&subscription["status"]), "canceled" | "incomplete_expired");
        assert_eq!(subscription["ended_at"].is_i64(), has_ended, "{id}");
        assert!(!has_ended || subscription["canceled_at"] == subscription["ended_at"]);
        assert!(!has_ended || number(&subscription["ended_at"]) > number(&subscription["created"]));
        assert!(!has_ended || number(&subscription["ended_at"]) <= ALL.account.spec.now);
    }
}

#[test]
fn every_id_leads_to_its_object_and_an_altered_one_to_none() {
    for (name, objects) in &ALL.lists {
        for object in objects.iter().step_by(17) {
            let id = text(&object["id"]);
            assert_eq!(get(&ALL.account, &format!("/v1/{name}/{id}")), *object);
            let mut other = id.to_owned();
            let last = other.pop().unwrap();
            other.push(if last == 'a' { 'b' } else { 'a' });
            let swapped = id.replacen('_', "_9", 1);
            for wrong in [other, swapped, id[..id.len() - 1].to_owned(), format!("{id}0"), format!("0{id}")] {
                let response = ALL.account.respond(&Request::get(&format!("/v1/{name}/{wrong}"), KEY));
                assert_eq!(response.status, 404, "{wrong} made from {id}");
            }
        }
    }
}

#[test]
fn everything_that_an_exporter_may_trip_over_is_there() {
    let has = |name: &str, test: &dyn Fn(&Value) -> bool| ALL.lists[name].iter().any(test);
    for status in ["succeeded", "pending", "failed"] {
        assert!(has("charges", &|charge| charge["status"] == status), "{status}");
    }
    for currency in ["usd", "eur", "gbp", "aud", "cad", "jpy", "kwd"] {
        assert!(has("charges", &|charge| charge["currency"] == currency), "{currency}");
    }
    for method in
        ["affirm", "afterpay_clearpay", "card", "klarna", "zip", "us_bank_account", "sepa_debit", "paypal"]
    {
        assert!(has("charges", &|charge| charge["payment_method_details"]["type"] == method), "{method}");
    }
    for wallet in ["apple_pay", "google_pay", "link"] {
        assert!(
            has("charges", &|charge| charge["payment_method_details"]["card"]["wallet"]["type"] == wallet)
        );
    }
    assert!(has("charges", &|charge| charge["paid"] == true && charge["captured"] == false));
    assert!(has("charges", &|charge| charge["disputed"] == true));
    assert!(has("charges", &|charge| charge["outcome"]["type"] == "blocked"));
    assert!(has("charges", &|charge| charge["metadata"].as_object().unwrap().len() == 6));
    assert!(has("charges", &|charge| charge["description"] == "Line one\nline two"));
    assert!(has("balance_transactions", &|transaction| { transaction["exchange_rate"].is_f64() }));
    assert!(has("balance_transactions", &|transaction| transaction["status"] == "pending"));
    assert!(has("prices", &|price| price["tiers_mode"].is_string()));
    assert!(
        has("prices", &|price| price["unit_amount"].is_null() && price["unit_amount_decimal"].is_string())
    );
    assert!(has("prices", &|price| price["recurring"]["usage_type"] == "metered"));
}

#[test]
fn pay_later_grows_over_time() {
    let share = |charges: &[Value]| {
        let is_later = |charge: &&Value| {
            matches!(
                text(&charge["payment_method_details"]["type"]),
                "affirm" | "afterpay_clearpay" | "klarna"
            )
        };
        charges.iter().filter(is_later).count() * 1000 / charges.len()
    };
    let charges = &ALL.lists["charges"];
    let (newer, older) = (share(&charges[..1_500]), share(&charges[3_500..]));
    assert!(newer > older * 3 / 2, "{older} then {newer} of 1,000");
}
