//! Turns the same bytes into batches with every decoder, and expects the first one's.

use arrow::array::RecordBatch;
use proptest::prelude::*;
use stripelake::catalog::Resource;
use stripelake::decode::{Decoded, Options};

use crate::decoders::{DECODERS, Make, OBSERVED_AT};
use crate::edits::{HOSTILE, REPEATING};
use crate::json::Style;
use crate::objects::{Page, cases, pages};

/// What a decoder did with a page, as far as others can see. The wording of reasons is its own.
#[derive(Debug, PartialEq)]
enum Outcome {
    Taken {
        n_rows: usize,
        rejected: Vec<(String, Vec<u8>)>,
        open_lists: Vec<String>,
    },
    /// What kind of refusal it was.
    Refused(std::mem::Discriminant<stripelake::decode::PageError>),
}

fn run(make: Make, page: &Page, bodies: &[Vec<u8>], options: Options) -> (Vec<Outcome>, Decoded) {
    let mut decoder = make(&page.resource, &page.children, options);
    let outcomes = bodies.iter().zip(OBSERVED_AT..).map(|(body, observed_at)| {
        match decoder.push_page(body, observed_at) {
            Ok(pushed) => Outcome::Taken {
                n_rows: pushed.n_rows,
                rejected: pushed.rejected.into_iter().map(|r| (r.resource, r.raw)).collect(),
                open_lists: pushed.open_lists.iter().map(|open| format!("{open:?}")).collect(),
            },
            Err(error) => Outcome::Refused(std::mem::discriminant(&error)),
        }
    });
    (outcomes.collect(), decoder.flush())
}

fn check_agreement(page: &Page, bodies: &[Vec<u8>], options: Options) {
    let (first, make) = DECODERS[0];
    let (outcomes, decoded) = run(make, page, bodies, options);
    assert_full_schema(&page.resource, &decoded);
    for (name, make) in &DECODERS[1..] {
        let (other_outcomes, other) = run(*make, page, bodies, options);
        assert_eq!(outcomes, other_outcomes, "{first} and {name}");
        check_same(decoded.parent.as_ref(), other.parent.as_ref(), first, name);
        for (child, other_child) in decoded.children.iter().zip(&other.children) {
            check_same(child.as_ref(), other_child.as_ref(), first, name);
        }
        assert_eq!(decoded.findings, other.findings, "{first} and {name}");
    }
}

/// Names the column and the row in which two batches differ.
fn check_same(ours: Option<&RecordBatch>, theirs: Option<&RecordBatch>, first: &str, second: &str) {
    if ours == theirs {
        return;
    }
    let n_rows = |batch: Option<&RecordBatch>| batch.map_or(0, RecordBatch::num_rows);
    assert_eq!(n_rows(ours), n_rows(theirs), "rows of {first} and {second}");
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return };
    for (index, field) in ours.schema().fields().iter().enumerate() {
        for row in 0..ours.num_rows() {
            let (a, b) = (ours.column(index).slice(row, 1), theirs.column(index).slice(row, 1));
            assert_eq!(&a, &b, "{} in row {row}: {first} and {second}", field.name());
        }
    }
    panic!("{first} and {second} differ in their schemas");
}

fn assert_full_schema(resource: &Resource, decoded: &Decoded) {
    if let Some(batch) = &decoded.parent {
        assert_eq!(batch.num_columns(), resource.columns.len() + 4);
    }
}

/// A change of the bytes of a page, mostly one that breaks it.
#[derive(Debug, Clone)]
pub enum Damage {
    Replace(u16, u8),
    Insert(u16, u8),
    Remove(u16, u8),
    Repeat(u16, u8),
    Cut(u16),
}

pub fn damage() -> impl Strategy<Value = Damage> {
    let at = || proptest::prelude::any::<u16>();
    let byte = || {
        prop_oneof![
            prop::sample::select(b"{}[],:\"\\ntf0123456789.-eE \x00\x80\xff\xc3".to_vec()),
            proptest::prelude::any::<u8>()
        ]
    };
    prop_oneof![
        (at(), byte()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (at(), byte()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        (at(), 1u8..40).prop_map(|(at, n)| Damage::Remove(at, n)),
        (at(), 1u8..40).prop_map(|(at, n)| Damage::Repeat(at, n)),
        at().prop_map(Damage::Cut),
    ]
}

pub fn damaged(mut body: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for change in damage {
        let len = body.len();
        if len == 0 {
            break;
        }
        let place = |at: &u16| *at as usize * 7 % len;
        match change {
            Damage::Replace(at, byte) => body[place(at)] = *byte,
            Damage::Insert(at, byte) => body.insert(place(at), *byte),
            Damage::Remove(at, n) => drop(body.drain(place(at)..(place(at) + *n as usize).min(len))),
            Damage::Repeat(at, n) => {
                let part = body[place(at)..(place(at) + *n as usize).min(len)].to_vec();
                body.splice(place(at)..place(at), part);
            }
            Damage::Cut(at) => body.truncate(place(at)),
        }
    }
    body
}

fn options() -> impl Strategy<Value = Options> {
    let livemode = proptest::option::of(proptest::prelude::any::<bool>());
    (livemode, proptest::prelude::any::<bool>()).prop_map(|(livemode, refuse_other_mode)| Options {
        livemode,
        refuse_other_mode,
        ..Options::default()
    })
}

/// The page written several times over, as successive pages of one list look alike.
fn bodies(page: &Page, styles: &[Style]) -> Vec<Vec<u8>> {
    styles.iter().map(|style| page.list(*style).into_bytes()).collect()
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn all_decoders_agree_on_odd_pages(
        page in pages(HOSTILE),
        seed in proptest::prelude::any::<u64>(),
        options in options(),
    ) {
        let odd = Style { spaces: Some(seed), shuffle: Some(seed), escapes: Some(seed) };
        let styles = [Style::default(), Style::default(), odd, Style::default()];
        check_agreement(&page, &bodies(&page, &styles), options);
    }

    #[test]
    fn all_decoders_agree_on_repeated_keys(page in pages(REPEATING), options in options()) {
        check_agreement(&page, &bodies(&page, &[Style::default(); 2]), options);
    }

    #[test]
    fn all_decoders_agree_on_damaged_bytes(
        page in pages(HOSTILE),
        damage in prop::collection::vec(damage(), 1..4),
        options in options(),
    ) {
        let mut bodies = bodies(&page, &[Style::default(); 3]);
        bodies[1] = damaged(std::mem::take(&mut bodies[1]), &damage);
        check_agreement(&page, &bodies, options);
    }
}
