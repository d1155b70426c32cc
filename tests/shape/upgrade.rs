//! Turns rows of one catalog into rows of another, and expects to find every value again.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, Float64Type, Int64Type, Schema};
use fastrand::Rng;
use proptest::prelude::*;
use stripelake::catalog::{Column, ColumnKind, Resource};
use stripelake::decode::older::Older;
use stripelake::decode::schema::{arrow_schema, schema_version};
use stripelake::error::Kind;

use crate::decoders::{DECODERS, decode_all};
use crate::edits::{HOSTILE, VALID};
use crate::json::{Json, Style, parse, text};
use crate::lake::{self, Files};
use crate::objects::{Page, begin, cases, catalog, embedded, pages};
use crate::rebuild::{assert_same, comparable, object_of, sent, sorted};
use crate::round_trip::{children, parents};

/// Columns that every catalog has as they are.
const FIXED: [&str; 4] = ["id", "object", "created", "livemode"];

fn kinds() -> [ColumnKind; 11] {
    let inner = |name: &str, kind| Column { name: name.to_owned(), path: vec![name.to_owned()], kind };
    [
        ColumnKind::Text,
        ColumnKind::Ref,
        ColumnKind::Int64,
        ColumnKind::Float64,
        ColumnKind::Bool,
        ColumnKind::Timestamp,
        ColumnKind::Decimal,
        ColumnKind::Map,
        ColumnKind::Json,
        ColumnKind::ListRef,
        ColumnKind::Structs(vec![inner("amount", ColumnKind::Decimal), inner("type", ColumnKind::Text)]),
    ]
}

/// The same resource as another catalog might have it: with columns left out, of other types, or with one
/// column in the place of an object's.
fn variant(resource: &Resource, seed: u64) -> Arc<Resource> {
    let mut rng = Rng::with_seed(seed);
    let parent_key = resource.parent.as_ref().map(|parent| parent.key.clone());
    let is_fixed =
        |column: &Column| FIXED.contains(&column.name.as_str()) || parent_key.as_ref() == Some(&column.name);
    let mut other = resource.clone();
    other.columns.retain(|column| is_fixed(column) || rng.u8(0..6) > 0);
    for at in 0..other.columns.len() {
        let Some(column) = other.columns.get(at).filter(|column| !is_fixed(column)).cloned() else {
            continue;
        };
        match (rng.u8(0..24), &column.kind) {
            (0..5, ColumnKind::Structs(inner)) => {
                let mut inner = inner.clone();
                let changed = rng.usize(..inner.len());
                // Which whole numbers are exact in a float is told of columns alone.
                let becomes = kinds()[rng.usize(..7)].clone();
                if ![&inner[changed].kind, &becomes].contains(&&ColumnKind::Float64) {
                    inner[changed].kind = becomes;
                }
                inner.remove(rng.usize(..inner.len()));
                other.columns[at].kind = ColumnKind::Structs(inner);
            }
            (_, ColumnKind::Rest) => {}
            (0..5, _) => other.columns[at].kind = kinds()[rng.usize(..11)].clone(),
            (5, _) if column.path.len() > 1 => replace_object(&mut other, &column, &mut rng),
            _ => {}
        }
    }
    Arc::new(other)
}

/// One column for the object around `column`, instead of all that it has.
fn replace_object(resource: &mut Resource, column: &Column, rng: &mut Rng) {
    let path = column.path[..column.path.len() - 1].to_vec();
    let name = path.join("_");
    let is_taken =
        |c: &Column| c.name == name || FIXED.contains(&c.name.as_str()) && c.path.starts_with(&path);
    if !resource.columns.iter().any(is_taken) {
        resource.columns.retain(|c| !c.path.starts_with(&path));
        resource.columns.push(Column { name, path, kind: kinds()[rng.usize(..11)].clone() });
    }
}

/// Takes every row of a page from one catalog's columns to another's, and compares it with its object.
fn check_upgrade(page: &Page, seeds: (u64, u64)) {
    let (old, new) = (variant(&page.resource, seeds.0), variant(&page.resource, seeds.1));
    let child = |seed| page.children.iter().map(move |child| variant(child, seed)).collect::<Vec<_>>();
    let (old_children, new_children) = (child(seeds.0), child(seeds.1));
    let old_page =
        Page { resource: old.clone(), children: old_children.clone(), objects: page.objects.clone() };
    for (name, make) in DECODERS {
        let decoded = decode_all(*make, &old_page, &page.list(Style::default()));
        check_table(&old, &new, &parents(page), decoded.parent.as_ref(), name);
        for (index, (old, new)) in old_children.iter().zip(&new_children).enumerate() {
            check_table(old, new, &children(page, old), decoded.children[index].as_ref(), name);
        }
    }
}

fn check_table(old: &Resource, new: &Resource, objects: &[Json], batch: Option<&RecordBatch>, decoder: &str) {
    let mut files = Files::new();
    lake::add(&mut files, old, &batch.cloned().into_iter().collect::<Vec<_>>(), 1);
    let rows = lake::rows(&lake::upgraded(&files, new));
    assert_eq!(rows.len(), objects.len(), "every row is still there");
    for object in objects {
        let Some(Json::Text(id)) = object.get("id") else { panic!("objects have an id") };
        let (batch, row) = &rows[id];
        let found = exact(comparable(object_of(batch, *row, new), &old.columns));
        let new_columns: Vec<Column> =
            new.columns.iter().filter(|new| !is_whole_number(object, new, old)).cloned().collect();
        let expected = exact(comparable(sent(object, &old.columns), &new_columns));
        assert_same(&found, &expected, &format!("{decoder} {id}"));
    }
}

/// Whether an old column has had this value as a whole number: a float then takes it exactly or not at all.
fn is_whole_number(object: &Json, new: &Column, old: &Resource) -> bool {
    let old = old.columns.iter().find(|column| column.path == new.path);
    let is_integer = matches!(object.at(&new.path), Some(Json::Number(n)) if n.parse::<i64>().is_ok());
    new.kind == ColumnKind::Float64 && old.is_some_and(|old| old.kind == ColumnKind::Int64) && is_integer
}

/// Numbers, and texts that are numbers, in one form.
fn exact(value: Json) -> Json {
    match value {
        Json::Number(digits) | Json::Text(digits) => Json::Text(exact_number(&digits).unwrap_or(digits)),
        Json::Array(items) => Json::Array(items.into_iter().map(exact).collect()),
        Json::Object(members) => {
            sorted(Json::Object(members.into_iter().map(|(key, value)| (key, exact(value))).collect()))
        }
        other => other,
    }
}

/// `-1.50e3` and `-1500` as `-15e2`.
fn exact_number(digits: &str) -> Option<String> {
    let (number, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{part}");
    if number.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let exponent = exponent.parse::<i64>().ok()? - part.len() as i64;
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    let n_zeros = digits.len() - digits.trim_end_matches('0').len();
    Some(match significant {
        "" => format!("{sign}0"),
        _ => format!("{sign}{significant}e{}", exponent + n_zeros as i64),
    })
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn every_value_of_an_old_row_is_found_again(page in pages(VALID), old in 0u64..10_000, new in 0u64..10_000) {
        check_upgrade(&page, (old, new));
    }

    #[test]
    fn what_old_rows_have_in_extra_is_found_again(page in pages(HOSTILE), old in 0u64..10_000, new in 0u64..10_000) {
        check_upgrade(&page, (old, new));
    }

    #[test]
    fn rows_of_the_same_catalog_stay_as_they_are(page in pages(HOSTILE)) {
        let batch = decode_all(DECODERS[0].1, &page, &page.list(Style::default())).parent.unwrap();
        let batch = batch.project(&(0..batch.num_columns() - 1).collect::<Vec<_>>()).unwrap();
        let older = Older::new(&batch.schema(), &page.resource);
        prop_assert_eq!(&older.present(&batch).unwrap(), &batch);
    }
}

/// Refunds with their fixed columns and these.
fn refunds(columns: &[(&str, ColumnKind)]) -> Arc<Resource> {
    let mut refunds = Resource::clone(catalog().get("refunds").unwrap());
    refunds.columns.retain(|column| FIXED.contains(&column.name.as_str()));
    for (path, kind) in columns {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        let other = if *kind == ColumnKind::Rest { "_other" } else { "" };
        refunds.columns.push(Column { name: path.join("_") + other, path, kind: kind.clone() });
    }
    Arc::new(refunds)
}

#[test]
fn an_item_whose_parent_is_an_object_without_an_id_is_that_of_its_parent() {
    let catalog = catalog();
    let subscriptions = catalog.get("subscriptions").unwrap().clone();
    let items: Vec<_> = catalog.children_of("subscriptions").cloned().collect();
    let mut subscription = begin(&subscriptions, "sub_1", 1_679_090_500, None);
    let mut item = begin(&items[0], "si_1", 1_679_090_500, None);
    item.add(&[], "subscription", parse(r#"{"deep": {"er": 1.50}}"#).unwrap());
    subscription.set(&items[0].parent.as_ref().unwrap().path, embedded(vec![item], false));
    check_upgrade(&Page { resource: subscriptions, children: items, objects: vec![subscription] }, (0, 0));
}

/// One refund with these members, decoded with the old columns.
fn row(old: &Arc<Resource>, members: &str) -> RecordBatch {
    let mut refund = begin(old, "re_1", 1_679_090_500, None);
    let Some(Json::Object(more)) = parse(&format!("{{{members}}}")) else { panic!("members: {members}") };
    more.into_iter().for_each(|(key, value)| refund.add(&[], &key, value));
    let page = Page { resource: old.clone(), children: Vec::new(), objects: vec![refund] };
    let batch = decode_all(DECODERS[0].1, &page, &page.list(Style::default())).parent.unwrap();
    batch.project(&(0..batch.num_columns() - 1).collect::<Vec<_>>()).unwrap()
}

/// The same refund with the new columns.
fn upgraded(members: &str, old: &[(&str, ColumnKind)], new: &[(&str, ColumnKind)]) -> RecordBatch {
    let batch = row(&refunds(old), members);
    Older::new(&batch.schema(), &refunds(new)).present(&batch).unwrap()
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a ArrayRef {
    batch.column_by_name(name).unwrap()
}

fn text_in<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a str> {
    column(batch, name).as_string::<i32>().iter().next().unwrap()
}

use ColumnKind::{Decimal, Float64, Int64, Rest, Text, Timestamp};

#[test]
fn d2_a_column_that_the_catalog_has_no_more_goes_into_extra() {
    let old = [("amount", Int64), ("reason.code", Text), ("metadata", ColumnKind::Map)];
    let members = r#""amount":5,"reason":{"code":"x","new":[1]},"metadata":{"a":"b","n":7},"seen":true"#;
    let batch = upgraded(members, &old, &[]);
    let extra = r#"{"amount":5,"reason":{"code":"x","new":[1]},"metadata":{"a":"b","n":7},"seen":true}"#;
    assert_eq!(text_in(&batch, "_extra"), Some(extra));
    assert_eq!(text_in(&batch, "id"), Some("re_1"));
}

#[test]
fn a_column_that_is_new_takes_its_values_out_of_extra_where_they_fit() {
    let new = [("amount", Int64), ("reason.code", Text), ("due", Timestamp)];
    let members = r#""amount":5,"reason":{"code":7,"new":1},"due":1700000000"#;
    let batch = upgraded(members, &[], &new);
    assert_eq!(column(&batch, "amount").as_primitive::<Int64Type>().value(0), 5);
    assert_eq!(column(&batch, "due").null_count(), 0);
    assert!(column(&batch, "reason_code").is_null(0));
    assert_eq!(text_in(&batch, "_extra"), Some(r#"{"reason":{"code":7,"new":1}}"#));
}

#[test]
fn d3_a_value_of_a_column_with_another_type_is_converted_where_nothing_is_lost() {
    let number = |members: &str, old, new| upgraded(members, &[("a", old)], &[("a", new)]);
    assert_eq!(text_in(&number(r#""a":-7"#, Int64, Text), "a"), Some("-7"));
    assert_eq!(text_in(&number(r#""a":"1.50""#, Decimal, Text), "a"), Some("1.5"));
    assert_eq!(text_in(&number(r#""a":0.1"#, Float64, Text), "a"), Some("0.1"));
    for (members, old) in [(r#""a":"12""#, Text), (r#""a":"12.00""#, Decimal), (r#""a":12.0"#, Float64)] {
        let batch = number(members, old, Int64);
        assert_eq!(column(&batch, "a").as_primitive::<Int64Type>().value(0), 12, "{members}");
        assert_eq!(text_in(&batch, "_extra"), None, "{members}");
    }
    for (members, old) in [(r#""a":"0.5""#, Text), (r#""a":"0.50""#, Decimal)] {
        let batch = number(members, old, Float64);
        assert_eq!(column(&batch, "a").as_primitive::<Float64Type>().value(0), 0.5, "{members}");
    }
    for (members, old) in [(r#""a":"3.5""#, Text), (r#""a":3.5"#, Float64)] {
        let batch = number(members, old, Decimal);
        assert_eq!(column(&batch, "a").as_primitive::<Decimal128Type>().value(0), 3_500_000_000_000);
    }
}

#[test]
fn d3_a_value_that_its_column_would_change_goes_into_extra() {
    let cases = [
        (r#""a":"012""#, Text, Int64, r#"{"a":"012"}"#),
        (r#""a":"1.50""#, Text, Float64, r#"{"a":"1.50"}"#),
        (r#""a":"high""#, Text, Decimal, r#"{"a":"high"}"#),
        (r#""a":9007199254740993"#, Int64, Float64, r#"{"a":"9007199254740993"}"#),
        (r#""a":"0.5""#, Decimal, Int64, r#"{"a":"0.5"}"#),
        (r#""a":0.5"#, Float64, Int64, r#"{"a":0.5}"#),
        (r#""a":1e-20"#, Float64, Decimal, r#"{"a":1e-20}"#),
        (r#""a":true"#, ColumnKind::Bool, Text, r#"{"a":true}"#),
        (r#""a":{"b":"c"}"#, ColumnKind::Map, Text, r#"{"a":{"b":"c"}}"#),
        (r#""a":["b",null]"#, ColumnKind::ListText, ColumnKind::Map, r#"{"a":["b",null]}"#),
    ];
    for (members, old, new, extra) in cases {
        let batch = upgraded(members, &[("a", old)], &[("a", new)]);
        assert!(column(&batch, "a").is_null(0), "{members}");
        assert_eq!(text_in(&batch, "_extra"), Some(extra), "{members}");
    }
}

#[test]
fn text_that_becomes_json_is_a_string_of_it_and_the_other_way_round() {
    let json = upgraded(r#""a":"x\"y""#, &[("a", Text)], &[("a", ColumnKind::Json)]);
    assert_eq!(text_in(&json, "a"), Some(r#""x\"y""#));
    let plain = upgraded(r#""a":"x\"y""#, &[("a", ColumnKind::Json)], &[("a", Text)]);
    assert_eq!(text_in(&plain, "a"), Some("x\"y"));
    let other = upgraded(r#""a":{"b":[1]}"#, &[("a", ColumnKind::Json)], &[("a", Text)]);
    assert_eq!(text_in(&other, "_extra"), Some(r#"{"a":{"b":[1]}}"#));
    let version = |kind| schema_version(&arrow_schema(&refunds(&[("a", kind)])));
    assert_ne!(version(Text), version(ColumnKind::Json), "or no file would be rewritten");
}

#[test]
fn a_variant_of_a_union_that_gets_columns_moves_out_of_other_and_back() {
    let few = [("method.card.brand", Text), ("method", Rest)];
    let more = [("method.card.brand", Text), ("method.paypal.country", Text), ("method", Rest)];
    let members = r#""method":{"paypal":{"country":"NL","fee":1},"wallet":{"id":"w"},"card":{"brand":5}}"#;
    let batch = upgraded(members, &few, &more);
    assert_eq!(text_in(&batch, "method_paypal_country"), Some("NL"));
    assert_eq!(text_in(&batch, "method_other"), Some(r#"{"wallet":{"id":"w"}}"#));
    assert_eq!(text_in(&batch, "_extra"), Some(r#"{"method":{"paypal":{"fee":1},"card":{"brand":5}}}"#));
    let batch = upgraded(members, &more, &few);
    let other = r#"{"paypal":{"country":"NL","fee":1},"wallet":{"id":"w"}}"#;
    assert_eq!(text_in(&batch, "method_other"), Some(other));
    assert_eq!(text_in(&batch, "_extra"), Some(r#"{"method":{"card":{"brand":5}}}"#));
}

#[test]
fn an_expanded_reference_is_whole_again_where_its_column_goes() {
    let members = r#""a":{"id":"cus_1","name":"N"},"b":["x",{"id":"y","z":1}]"#;
    let old = [("a", ColumnKind::Ref), ("b", ColumnKind::ListRef)];
    let batch = upgraded(members, &old, &[("a.id", Text)]);
    assert_eq!(text_in(&batch, "a_id"), Some("cus_1"));
    assert_eq!(text_in(&batch, "_extra"), Some(r#"{"a":{"name":"N"},"b":["x",{"id":"y","z":1}]}"#));
}

#[test]
fn what_stood_beside_a_column_that_stays_stays_beside_it() {
    let refund = refunds(&[("amount", Int64)]);
    let batch = row(&refund, r#""amount":5,"new":1"#);
    let mut arrays = batch.columns().to_vec();
    let extra = batch.schema().index_of("_extra").unwrap();
    arrays[extra] = Arc::new(arrow::array::StringArray::from(vec![r#"{"amount":7,"new":1}"#]));
    let batch = RecordBatch::try_new(batch.schema(), arrays).unwrap();
    let new = refunds(&[("amount", Int64), ("new", Int64)]);
    let batch = Older::new(&batch.schema(), &new).present(&batch).unwrap();
    assert_eq!(column(&batch, "amount").as_primitive::<Int64Type>().value(0), 5);
    assert_eq!(column(&batch, "new").as_primitive::<Int64Type>().value(0), 1);
    assert_eq!(text_in(&batch, "_extra"), Some(r#"{"amount":7}"#));
}

#[test]
fn columns_as_other_writers_store_them_are_read_as_ours() {
    let resource = refunds(&[("amount", Int64), ("reason", Text)]);
    let batch = row(&resource, r#""amount":5,"reason":"duplicate""#);
    let dictionary = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let types = [("amount", DataType::Int32), ("reason", dictionary), ("_extra", DataType::LargeUtf8)];
    let (mut fields, mut arrays): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let other = types.iter().find(|(name, _)| name == field.name());
        let data_type = other.map_or(field.data_type(), |(_, data_type)| data_type);
        arrays.push(cast(array, data_type).unwrap());
        fields.push(field.as_ref().clone().with_data_type(data_type.clone()));
    }
    let foreign = RecordBatch::try_new(Schema::new(fields).into(), arrays).unwrap();
    assert_eq!(Older::new(&foreign.schema(), &resource).present(&foreign).unwrap(), batch);
}

#[test]
fn d3_a_json_column_without_json_is_a_damaged_file() {
    let mut batch = row(&refunds(&[("a", Text)]), r#""a":"x""#);
    let extra = batch.schema().index_of("_extra").unwrap();
    let mut arrays = batch.columns().to_vec();
    arrays[extra] = Arc::new(arrow::array::StringArray::from(vec!["{no json"]));
    batch = RecordBatch::try_new(batch.schema(), arrays).unwrap();
    let error = Older::new(&batch.schema(), &refunds(&[])).present(&batch).unwrap_err();
    assert_eq!(error.kind(), Kind::Integrity, "{error}");
}

#[test]
fn the_checker_tells_numbers_apart() {
    assert_eq!(exact_number("-1.50e3"), exact_number("-1500"));
    assert_ne!(exact_number("9007199254740993"), exact_number("9007199254740992"));
    assert_eq!(exact(text("x")), text("x"));
}
