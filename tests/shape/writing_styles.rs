//! Turns the same objects into differently written pages, and expects the same rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use proptest::prelude::*;
use stripelake::decode::{Decoded, Options};

use crate::decoders::{OBSERVED_AT, decode_all, for_each_decoder};
use crate::edits::HOSTILE;
use crate::json::{Json, Style, parse, write};
use crate::objects::{Page, cases, pages};
use crate::rebuild::{sorted, without_duplicates};

/// A batch whose JSON text is written in one form; the order of keys in it may follow the input.
fn in_one_form(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let columns = batch.columns().iter().zip(schema.fields()).map(|(array, field)| -> ArrayRef {
        if !field.metadata().contains_key("ARROW:extension:name") {
            return array.clone();
        }
        let one_form = |text: &str| write(&sorted(parse(text).unwrap()), Style::default());
        Arc::new(array.as_string::<i32>().iter().map(|t| t.map(one_form)).collect::<StringArray>())
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

fn assert_same_rows(a: &Decoded, b: &Decoded) {
    let one_form = |batch: &Option<RecordBatch>| batch.as_ref().map(in_one_form);
    assert_eq!(one_form(&a.parent), one_form(&b.parent));
    assert_eq!(
        a.children.iter().map(one_form).collect::<Vec<_>>(),
        b.children.iter().map(one_form).collect::<Vec<_>>()
    );
    assert_eq!(a.findings, b.findings);
}

/// Object members may come in any order, but the entries of a map and the keys of a list's objects
/// stand in the order sent; those are not shuffled.
fn styles() -> impl Strategy<Value = Style> {
    let seed = || proptest::option::of(proptest::prelude::any::<u64>());
    (seed(), seed()).prop_map(|(spaces, escapes)| Style { spaces, shuffle: None, escapes })
}

/// Shuffles the members of every object on the way to a column; maps keep their entries' order.
fn shuffled(page: &Page, seed: u64) -> Page {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut page = page.clone();
    for object in &mut page.objects {
        shuffle(object, &mut rng, false);
    }
    page
}

fn shuffle(value: &mut Json, rng: &mut fastrand::Rng, is_map: bool) {
    match value {
        Json::Object(members) => {
            if !is_map {
                rng.shuffle(members);
            }
            for (key, value) in members {
                shuffle(value, rng, key == "metadata" || key == "fraud_details");
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| shuffle(item, rng, false)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn white_space_order_and_escapes_change_no_row(
        page in pages(HOSTILE),
        style in styles(),
        seed in proptest::prelude::any::<u64>(),
    ) {
        let mut page = page;
        // The last of two equal keys would be another one after shuffling.
        page.objects = page.objects.into_iter().map(without_duplicates).collect();
        for_each_decoder(|make| {
            let plain = decode_all(make, &page, &page.list(Style::default()));
            assert_same_rows(&plain, &decode_all(make, &page, &page.list(style)));
            let shuffled = shuffled(&page, seed);
            assert_same_rows(&plain, &decode_all(make, &page, &shuffled.list(style)));
        });
    }

    #[test]
    fn objects_in_lines_give_the_rows_of_a_list_page(page in pages(HOSTILE), style in styles()) {
        for_each_decoder(|make| {
            let of_page = decode_all(make, &page, &page.list(style));
            let mut decoder = make(&page.resource, &page.children, Options::default());
            let pushed = decoder.push_objects(page.objects(style).as_bytes(), OBSERVED_AT).unwrap();
            assert_eq!(pushed.n_rows, page.objects.len());
            assert_same_rows(&of_page, &decoder.flush());
        });
    }
}
