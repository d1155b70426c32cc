//! Turns objects into files and back, and expects nothing to be lost on the way.

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use proptest::prelude::*;
use stripelake::catalog::Resource;
use stripelake::decode::findings::Findings;

use crate::decoders::{Make, OBSERVED_AT, decode_all, for_each_decoder};
use crate::edits::{HOSTILE, REPEATING, VALID};
use crate::json::{Json, Style, number, object, parse, text};
use crate::lake::{self, Files};
use crate::objects::{Page, begin, cases, catalog, pages};
use crate::rebuild::{assert_same, object_of, sent};

/// What the embedded list itself says goes; its objects are rows of the child table.
const ENVELOPE: [&str; 5] = ["object", "data", "has_more", "total_count", "url"];

/// Sends a page through the stages and compares every row with the object it was made of.
fn check_round_trip(make: Make, page: &Page) -> Findings {
    let decoded = decode_all(make, page, &page.list(Style::default()));
    check_table(&page.resource, &parents(page), decoded.parent.as_ref());
    for (index, child) in page.children.iter().enumerate() {
        let batch = decoded.children[index].as_ref();
        check_table(child, &children(page, child), batch);
    }
    decoded.findings
}

pub fn parents(page: &Page) -> Vec<Json> {
    let mut objects = page.objects.clone();
    for object in &mut objects {
        for child in &page.children {
            let path = &child.parent.as_ref().unwrap().path;
            if matches!(object.at(path), Some(Json::Object(_))) {
                for key in ENVELOPE {
                    object.remove(&[path.as_slice(), &[key.to_owned()]].concat());
                }
            }
        }
    }
    objects
}

/// The embedded objects; they name their parent even where Stripe leaves that out.
pub fn children(page: &Page, child: &Resource) -> Vec<Json> {
    let parent = child.parent.as_ref().unwrap();
    let key = vec![parent.key.clone()];
    let mut items = Vec::new();
    for object in &page.objects {
        let list = object.at(&parent.path);
        let Some(Json::Array(data)) = list.and_then(|list| list.get("data")) else { continue };
        for item in data {
            let mut item = item.clone();
            let key_of_object = vec![parent.key.clone(), "id".to_owned()];
            let key = if matches!(item.at(&key), Some(Json::Object(_))) { &key_of_object } else { &key };
            if matches!(item.at(key), None | Some(Json::Null)) {
                item.set(key, object.get("id").unwrap().clone());
            }
            items.push(item);
        }
    }
    items
}

fn check_table(resource: &Resource, objects: &[Json], batch: Option<&arrow::array::RecordBatch>) {
    let mut files = Files::new();
    lake::add(&mut files, resource, &batch.cloned().into_iter().collect::<Vec<_>>(), 1);
    let rows = lake::rows(&files);
    assert_eq!(rows.len(), objects.len(), "every object is a row");
    for object in objects {
        let Some(Json::Text(id)) = object.get("id") else { panic!("objects have an id") };
        let (batch, row) = &rows[id];
        let synced_at = batch.column_by_name("_synced_at").unwrap();
        assert_eq!(synced_at.as_primitive::<TimestampMicrosecondType>().value(*row), OBSERVED_AT);
        assert!(!batch.column_by_name("_deleted").unwrap().as_boolean().value(*row));
        assert_same(&object_of(batch, *row, resource), &sent(object, &resource.columns), id);
    }
}

/// Whether no row has anything beside its columns.
fn has_no_extra(make: Make, page: &Page) -> bool {
    let decoded = decode_all(make, page, &page.list(Style::default()));
    let batches = decoded.parent.iter().chain(decoded.children.iter().flatten());
    batches.into_iter().all(|b| b.column_by_name("_extra").unwrap().null_count() == b.num_rows())
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn an_object_of_proper_values_is_found_in_its_columns_alone(page in pages(VALID)) {
        for_each_decoder(|make| {
            assert_eq!(check_round_trip(make, &page), Findings::default());
            assert!(has_no_extra(make, &page));
        });
    }

    #[test]
    fn no_odd_member_is_lost_or_changed(page in pages(HOSTILE)) {
        for_each_decoder(|make| {
            check_round_trip(make, &page);
        });
    }

    #[test]
    fn of_a_repeated_key_the_last_value_counts(page in pages(REPEATING)) {
        for_each_decoder(|make| {
            check_round_trip(make, &page);
        });
    }
}

/// One charge with these members.
fn charge_with(members: &str) -> Page {
    object_with("charges", members)
}

fn object_with(resource: &str, members: &str) -> Page {
    let resource = catalog().get(resource).unwrap().clone();
    let mut charge = begin(&resource, "ch_1", 1_679_090_500, None);
    let Some(Json::Object(more)) = parse(&format!("{{{members}}}")) else { panic!("members: {members}") };
    for (key, value) in more {
        charge.add(&[], &key, value);
    }
    Page { resource, children: Vec::new(), objects: vec![charge] }
}

/// Sends a charge with these members through the stages.
fn check_charge(members: &str) {
    let page = charge_with(members);
    for_each_decoder(|make| {
        check_round_trip(make, &page);
    });
}

#[test]
fn numbers_that_do_not_fit_stay_beside_their_columns() {
    check_charge(r#""amount":9223372036854775808,"amount_refunded":1e400,"amount_captured":1.0"#);
    check_charge(r#""amount":-9223372036854775808,"outcome":{"risk_score":1e2}"#);
    for decimal in
        ["1.0000000000001", "0.000000000001", "100000000000000000000000000", "1e5", "-00.10", "0001.50", "-0"]
    {
        let page = object_with("prices", &format!("\"unit_amount_decimal\":\"{decimal}\""));
        for_each_decoder(|make| {
            check_round_trip(make, &page);
        });
    }
}

#[test]
fn an_expanded_reference_is_its_id_and_the_rest_stays_beside_it() {
    check_charge(r#""customer":{"object":"customer","id":"cus_1","name":"N","metadata":{"a":"b"}}"#);
    check_charge(r#""customer":{"object":"customer","name":"no id"},"invoice":{"id":"in_1"}"#);
    check_charge(r#""customer":{"id":7,"name":"N"},"invoice":{}"#);
}

#[test]
fn credentials_are_absent_at_any_depth() {
    check_charge(r#""client_secret":"s","metadata":{"client_secret":"s","a_client_secret":1,"b":"c"}"#);
    check_charge(r#""billing_details":{"client_secret":"s"},"x":{"y":[{"client_secret":"s","z":1}]}"#);
    check_charge(r#""payment_method_details":{"x_client_secret":{},"new":{"client_secret":"s","z":1}}"#);
    check_charge(r#""customer":{"id":"cus_1","client_secret":"s","x":{"client_secret":[]}}"#);
}

#[test]
fn credentials_are_absent_however_their_name_is_written() {
    let page = charge_with(r#""new":{"kept":1}"#);
    let body = page.list(Style::default()).replace(r#""kept":1"#, r#""client\u005fsecret":"hush","kept":1"#);
    for_each_decoder(|make| {
        let batch = decode_all(make, &page, &body).parent.unwrap();
        let extra = batch.column_by_name("_extra").unwrap().as_string::<i32>().value(0).to_owned();
        assert_eq!(extra, r#"{"new":{"kept":1}}"#);
    });
}

#[test]
fn an_embedded_list_keeps_what_it_says_beyond_its_page_but_no_credentials() {
    let catalog = catalog();
    let resource = catalog.get("subscriptions").unwrap().clone();
    let children: Vec<_> = catalog.children_of("subscriptions").cloned().collect();
    let mut list = crate::objects::embedded(vec![], false);
    list.set(&["more".to_owned()], object([("a", number(1))]));
    list.set(&["client_secret".to_owned()], text("hush"));
    let mut subscription = begin(&resource, "sub_1", 1_679_090_500, None);
    subscription.set(&children[0].parent.as_ref().unwrap().path, list);
    let page = Page { resource, children, objects: vec![subscription] };
    for_each_decoder(|make| {
        check_round_trip(make, &page);
    });
}
