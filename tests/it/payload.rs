//! Turns pages that are not what they should be into errors by name, and odd objects into rejected ones.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use stripelake::error::Kind;
use stripelake::fake::script::{Action, Rewrite, Rule, Scripted, answer};
use stripelake::fetch::Response;
use stripelake::run::sync::Options;

use crate::harness::{TestLake, account, check_kind, scripted_table, with_long_subscriptions};
use crate::table::{Table, text};

const CHARGES: &str = "/v1/charges";

/// Changes the page as JSON.
fn rewrite(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Rewrite {
    Arc::new(move |_, response| {
        let mut page: Value = serde_json::from_slice(&response.body).unwrap();
        change(&mut page);
        Response { body: Bytes::from(page.to_string()), ..response }
    })
}

/// Charges fail with `kind` when their second page is so; nothing of it is taken, the rest is complete.
async fn check_page_is_refused(action: Action, kind: Kind) {
    let table = Table::of(&account(51, 250));
    let script = scripted_table(&table);
    let lake = TestLake::new();
    script.rules.add(Rule::new(CHARGES, action).from_nth(2));
    let report = lake.sync_with(lake.options_for(&["charges", "refunds"]), script.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Partial));
    assert_eq!((report.failures[0].0.as_str(), report.failures[0].1.kind()), ("charges", kind));
    lake.check_intact().await;
    lake.check_table_equals(&table, "refunds").await;
    assert_eq!(lake.state("charges").await.and_then(|state| state.complete_until), None);
}

#[tokio::test(start_paused = true)]
async fn p1_broken_json_is_asked_for_again_and_then_an_error() {
    let page = r#"{"object":"list","data":[{"id":"ch_1","object":"charge""#;
    for body in ["", "\0\0", "null", "[]", "not json"] {
        check_page_is_refused(Action::Answer(answer(200, body)), Kind::Stripe).await;
    }
    for body in [
        page.to_owned(),
        r#"{"object":"list","data":[],"has_more":false,"url":"/v1/charges"} more"#.to_owned(),
    ] {
        check_page_is_refused(Action::Answer(answer(200, body)), Kind::Partial).await;
    }
    let table = Table::of(&account(52, 250));
    let script = scripted_table(&table);
    script.rules.add(Rule::new(CHARGES, Action::Answer(answer(200, page))).from_nth(2).times(2));
    let lake = TestLake::new();
    lake.sync_completely(script).await;
    lake.check_equals(&table).await;
}

#[tokio::test(start_paused = true)]
async fn p1_a_broken_answer_about_the_account_is_not_one_that_may_not_be_read() {
    let table = Table::of(&account(55, 60));
    let with_id = |id: &str| json!({"id": id, "object": "account"}).to_string();
    let long = "a".repeat(251);
    // The last one would be written down as whose the lake is.
    let key = ["acct_rk_", "test_", "51HabcdefghWXYZ01"].concat();
    let mut bodies = vec![r#"{"id":"acct_1","object":"account""#.to_owned(), r#"{"id":"acct_1"}"#.to_owned()];
    bodies.extend(["{}", "[]", r#"{"error":{"type":"api_error"}}"#, r#"{"id":null}"#].map(str::to_owned));
    bodies.push(r#"{"id":"acct_1","object":"customer"}"#.to_owned());
    bodies.extend(["", "cus_1", "acct_", "acct_1\u{7}", "acct_ä", "acct_1 2", &key].map(with_id));
    bodies.push(with_id(&format!("acct_{long}")));
    for body in bodies {
        let rule = || Rule::new("/v1/account", Action::Answer(answer(200, &body)));
        let script = scripted_table(&table);
        script.rules.add(rule());
        let lake = TestLake::new();
        let error = lake.sync(script).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Stripe, "{error}");
        assert!(lake.files().await.is_empty(), "nothing was written");

        let script = scripted_table(&table);
        script.rules.add(rule().times(2));
        let report = lake.sync_completely(script).await;
        assert!(report.account.is_some(), "{body}");
    }
    let script = scripted_table(&table);
    let longest = with_id(&format!("acct_{}", &long[1..]));
    script.rules.add(Rule::new("/v1/account", Action::Answer(answer(200, &longest))));
    let lake = TestLake::new();
    assert_eq!(lake.sync_completely(script).await.account.map(|id| id.len()), Some(255));
    // Where there is none, as in some imitations of Stripe, the run goes on without.
    let script = scripted_table(&table);
    script.rules.add(Rule::new("/v1/account", Action::Answer(answer(404, "{}"))));
    let report = TestLake::new().sync_completely(script).await;
    assert_eq!(report.account, None);
}

#[tokio::test(start_paused = true)]
async fn p2_a_broken_envelope_is_never_the_last_page() {
    type Change = fn(&mut Value);
    let changes: [Change; 8] = [
        |page| drop(page.as_object_mut().unwrap().remove("data")),
        |page| page["data"] = json!({}),
        |page| page["data"] = Value::Null,
        |page| drop(page.as_object_mut().unwrap().remove("has_more")),
        |page| page["has_more"] = "true".into(),
        |page| page["has_more"] = Value::Null,
        |page| page["object"] = "search_result".into(),
        |page| drop(page.as_object_mut().unwrap().remove("object")),
    ];
    for change in changes {
        check_page_is_refused(Action::Rewrite(rewrite(change)), Kind::Partial).await;
    }
}

#[tokio::test(start_paused = true)]
async fn p2_objects_of_another_kind_are_refused() {
    let change = |page: &mut Value| {
        if let Some(object) = page["data"].get_mut(3) {
            object["object"] = "refund".into();
        }
    };
    check_page_is_refused(Action::Rewrite(rewrite(change)), Kind::Partial).await;
}

/// Only a page that is refused shows this charge.
const GHOST: &str = "ch_ghost";

fn haunt(page: &mut Value) {
    let mut ghost = page["data"][0].clone();
    ghost["id"] = GHOST.into();
    ghost["unheard_of"] = 1.into();
    page["data"].as_array_mut().unwrap().insert(0, ghost);
}

/// A sync whose second page of charges is so at first. Nothing of it is taken, and it costs one request more.
async fn check_page_is_asked_for_again(action: Action) {
    let table = Table::charges(58, 350);
    let sync = async |script: &Arc<Scripted>| {
        let lake = TestLake::new();
        let options = Options { concurrency: 1, ..lake.options_for(&["charges"]) };
        let report = lake.sync_with(options, script.clone()).await.unwrap();
        check_kind(&report, None);
        (lake, report, script.asked(CHARGES).len())
    };
    let (_, _, n_pages) = sync(&scripted_table(&table)).await;
    let script = scripted_table(&table);
    script.rules.add(Rule::new(CHARGES, action).from_nth(2).times(1));
    let (lake, report, n_asked) = sync(&script).await;
    assert!(!lake.rows("charges").await.contains_key(GHOST), "a row of a refused page");
    lake.check_table_equals(&table, "charges").await;
    assert_eq!(n_asked, n_pages + 1);
    assert!(report.tables[0].unknown.is_empty(), "{:?}", report.tables[0].unknown);
    assert_eq!(report.tables[0].rejected, 0);
}

#[tokio::test(start_paused = true)]
async fn p1_nothing_is_taken_of_a_page_that_is_asked_for_again() {
    let damages: [fn(String) -> String; 6] = [
        |body| body[..body.len() - 1].to_owned(),
        |body| body.replacen("\"has_more\":", "\"has_less\":", 1),
        |body| body.replacen("\"object\":\"list\"", "\"object\":\"search_result\"", 1),
        |body| body.replacen("{", "{\"object\":\"list\",", 1),
        // In the last object.
        |body| {
            body.chars().rev().collect::<String>().replacen(":\"di\"", "\"di\"", 1).chars().rev().collect()
        },
        // Behind an object that is no row.
        |body| body.replacen("\"data\":[", "\"data\":[7,", 1) + "]",
    ];
    for damage in damages {
        let change: Rewrite = Arc::new(move |_, response| {
            let mut page: Value = serde_json::from_slice(&response.body).unwrap();
            haunt(&mut page);
            Response { body: Bytes::from(damage(page.to_string())), ..response }
        });
        check_page_is_asked_for_again(Action::Rewrite(change)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn g5_nothing_is_taken_of_a_page_that_repeats_another() {
    let first = Table::charges(58, 350).list("charges")[..100].to_vec();
    let mut page = json!({"object": "list", "data": first, "has_more": true, "url": CHARGES});
    haunt(&mut page);
    check_page_is_asked_for_again(Action::Answer(answer(200, page.to_string()))).await;
}

#[tokio::test(start_paused = true)]
async fn p2_objects_of_another_kind_are_not_asked_for_again() {
    for (key, value, kind) in
        [("object", json!("refund"), Kind::Partial), ("livemode", json!(true), Kind::Auth)]
    {
        let table = Table::charges(59, 250);
        let script = scripted_table(&table);
        let change = rewrite(move |page| page["data"][3][key] = value.clone());
        script.rules.add(Rule::new(CHARGES, Action::Rewrite(change)));
        let lake = TestLake::new();
        let options = Options { concurrency: 1, ..lake.options_for(&["charges"]) };
        let report = lake.sync_with(options, script.clone()).await.unwrap();
        assert_eq!(report.failures[0].1.kind(), kind);
        assert!(report.failures[0].1.request_id_text().is_some(), "{:?}", report.failures);
        assert_eq!(script.asked(CHARGES).len(), 1);
        assert_eq!(lake.rows("charges").await.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn p3_odd_objects_are_kept_aside_and_their_rows_stay() {
    let table = Table::of(&account(53, 600));
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    let before = lake.rows("customers").await;
    let good = table.list("customers");
    assert!(good.len() >= 90, "{}", good.len());
    table.edit("customers", |customers| {
        customers[3].as_object_mut().unwrap().remove("id");
        customers[20]["id"] = 7.into();
        customers[30].as_object_mut().unwrap().remove("created");
        customers[40]["created"] = (-5).into();
        customers[50]["created"] = "yesterday".into();
        customers[60]["created"] = 253_402_300_799_i64.into();
        customers[70] = json!(["no object"]);
        customers[80]["name"] = "changed".into();
    });
    // A time far off is not in the window that a slice asks for, and yet it comes.
    let script = scripted_table(&table);
    let odd = table.list("customers");
    let pages = odd.clone();
    let all = rewrite(move |page| {
        page["data"] = Value::Array(pages.clone());
        page["has_more"] = false.into();
    });
    script.rules.add(Rule::new("/v1/customers", Action::Rewrite(all)));
    let report = lake.sync(script).await.unwrap();
    check_kind(&report, Some(Kind::Partial));
    lake.check_intact().await;
    let customers = report.tables.iter().find(|table| table.table == "customers").unwrap();
    assert_eq!((customers.rejected, customers.deleted, customers.changed), (7, 0, 1));

    let after = lake.rows("customers").await;
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (id, row) in &after {
        let is_changed = *id == text(&odd[80]["id"]);
        assert_eq!(row == &before[id], !is_changed, "{id}");
    }
    let (bytes, _) = &lake.files().await["_stripelake/rejected/run1/customers.ndjson"];
    let lines: Vec<Value> = bytes
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    let kept: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str(text(&line["text"])).unwrap()).collect();
    for at in [3, 20, 30, 40, 50, 60, 70] {
        assert!(kept.contains(&odd[at]), "object {at} is not kept");
    }
    assert_eq!(kept.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn p3_an_odd_time_at_the_end_of_a_page_does_not_end_a_slice() {
    for odd in [json!(-5), json!(3), json!(253_402_300_799_i64)] {
        let table = Table::charges(54, 700);
        let script = scripted_table(&table);
        let lake = TestLake::new();
        let last = table.list("charges")[99].clone();
        let id = text(&last["id"]).to_owned();
        let change = rewrite(move |page| {
            for object in page["data"].as_array_mut().unwrap() {
                if object["id"] == id.as_str() {
                    object["created"] = odd.clone();
                }
            }
        });
        script.rules.add(Rule::new(CHARGES, Action::Rewrite(change)));
        let report = lake.sync_with(lake.options_for(&["charges"]), script).await.unwrap();
        assert!(matches!(report.kind(), None | Some(Kind::Partial)));
        lake.check_intact().await;
        let mut ids = lake.ids("charges").await;
        ids.insert(text(&last["id"]).to_owned());
        assert_eq!(ids.len(), 700, "objects behind the odd one are missing");
    }
}

#[tokio::test(start_paused = true)]
async fn p3_an_odd_item_of_a_long_subscription_keeps_its_row() {
    let table = Table::of(&with_long_subscriptions());
    let lake = TestLake::new();
    lake.sync_completely(table.clone()).await;
    let n_rows = lake.rows("subscription_items").await.len();
    let long = table.list("subscriptions").into_iter().find(|s| s["items"]["has_more"] == true).unwrap();
    table.edit("subscription_items", |items| {
        let items = items.iter_mut().filter(|item| item["subscription"] == long["id"]);
        items.last().unwrap()["created"] = "yesterday".into();
    });
    let report = lake.sync(table.clone()).await.unwrap();
    check_kind(&report, Some(Kind::Partial));
    lake.check_intact().await;
    let items = report.tables.iter().find(|table| table.table == "subscription_items").unwrap();
    assert_eq!((items.rejected, items.deleted), (1, 0));
    assert_eq!(lake.rows("subscription_items").await.len(), n_rows);
}

#[tokio::test(start_paused = true)]
async fn p9_an_object_that_comes_twice_is_one_row_in_its_newest_form() {
    let table = Table::charges(56, 350);
    let script = scripted_table(&table);
    let lake = TestLake::new();
    let charges = table.list("charges");
    // The second page begins with the end of the first; one of them has changed meanwhile.
    let mut again = charges[98..100].to_vec();
    again[0]["description"] = "newer".into();
    let mut twice = charges[150].clone();
    twice["description"] = "newer still".into();
    let repeated = (again.clone(), twice.clone());
    let change = rewrite(move |page| {
        let (again, twice) = repeated.clone();
        let data = page["data"].as_array_mut().unwrap();
        data.splice(0..0, again);
        data.push(twice);
        let last = data.len() - 1;
        data.swap(last, last - 1);
    });
    script.rules.add(
        Rule::new(CHARGES, Action::Rewrite(change)).with("starting_after", text(&charges[99]["id"])).times(1),
    );
    let options = Options { concurrency: 1, ..lake.options_for(&["charges"]) };
    let report = lake.sync_with(options, script).await.unwrap();
    check_kind(&report, None);
    table.edit("charges", |charges| {
        charges[98] = again[0].clone();
        charges[150] = twice;
    });
    lake.check_table_equals(&table, "charges").await;
}

#[tokio::test(start_paused = true)]
async fn p10_objects_of_the_other_mode_stop_the_run() {
    let table = Table::of(&account(57, 250));
    table.edit("charges", |charges| charges[120]["livemode"] = true.into());
    let lake = TestLake::new();
    let report = lake.sync(table).await.unwrap();
    assert_eq!(report.kind(), Some(Kind::Auth), "{:?}", report.failures);
    lake.check_intact().await;
}
