//! Turns numbers into pages of objects with the columns of any resource of the catalog.

use std::sync::Arc;

use fastrand::Rng;
use proptest::prelude::*;
use stripelake::catalog::{Catalog, ColumnKind, Resource};

use crate::edits::{Edit, What, apply, edits};
use crate::json::{Json, Style, number, text, write};
use crate::values::{any, integer, proper};

/// Some objects of one resource.
#[derive(Clone)]
pub struct Page {
    pub resource: Arc<Resource>,
    pub children: Vec<Arc<Resource>>,
    pub objects: Vec<Json>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:\n{}", self.resource.name, self.objects(Style::default()))
    }
}

impl Page {
    /// As Stripe's list endpoint answers.
    pub fn list(&self, style: Style) -> String {
        let page = crate::json::object([
            ("object", text("list")),
            ("data", Json::Array(self.objects.clone())),
            ("has_more", Json::Bool(false)),
            ("url", text(&self.resource.path)),
        ]);
        write(&page, style)
    }

    /// One object after the other.
    pub fn objects(&self, style: Style) -> String {
        let lines: Vec<String> = self.objects.iter().map(|object| write(object, style)).collect();
        lines.join("\n")
    }
}

/// How an object begins, before it is edited.
#[derive(Debug, Clone)]
struct Seed {
    /// `None`: only what every object must have.
    full: Option<u64>,
    created: usize,
    edits: Vec<Edit>,
    items: Vec<(Option<u64>, Vec<Edit>)>,
}

/// Seconds that decode believes.
pub const CREATED: [i64; 6] = [1_679_090_500, 0, 1_795_392_000, 1_795_392_001, 951_782_399, 7_258_118_399];

pub fn catalog() -> Catalog {
    Catalog::embedded().unwrap()
}

/// Failing cases become tests of their own here, not files.
pub fn cases(n: u32) -> ProptestConfig {
    ProptestConfig { cases: n, failure_persistence: None, ..ProptestConfig::default() }
}

/// A page of 1 to 4 objects of any listed resource, with edits of the given sorts.
pub fn pages(of: &'static [What]) -> impl Strategy<Value = Page> {
    let full = || prop_oneof![Just(None), (0u64..1000).prop_map(Some)];
    let item = (full(), edits(of, 4));
    let seed = (full(), 0..CREATED.len(), edits(of, 9), prop::collection::vec(item, 0..3));
    let seed = seed.prop_map(|(full, created, edits, items)| Seed { full, created, edits, items });
    (proptest::prelude::any::<u16>(), prop::collection::vec(seed, 1..5)).prop_map(page)
}

fn page((at, seeds): (u16, Vec<Seed>)) -> Page {
    let catalog = catalog();
    let listed: Vec<_> = catalog.listed().collect();
    let resource = listed[at as usize % listed.len()].clone();
    let children: Vec<_> = catalog.children_of(&resource.name).cloned().collect();
    let objects = seeds.iter().enumerate().map(|(n, seed)| {
        let created = CREATED[seed.created];
        let mut object = begin(&resource, &format!("{n}_id"), created, seed.full);
        for (child, index) in children.iter().zip(0..) {
            let items = seed.items.iter().enumerate().map(|(m, (full, edits))| {
                let mut item = begin(child, &format!("{n}_{index}_{m}"), (created - m as i64).max(0), *full);
                edits.iter().for_each(|edit| apply(edit, child, &mut item));
                item
            });
            let path = &child.parent.as_ref().unwrap().path;
            object.set(path, embedded(items.collect(), false));
        }
        seed.edits.iter().for_each(|edit| apply(edit, &resource, &mut object));
        object
    });
    Page { objects: objects.collect(), resource, children }
}

/// An embedded list.
pub fn embedded(data: Vec<Json>, has_more: bool) -> Json {
    crate::json::object([
        ("object", text("list")),
        ("data", Json::Array(data)),
        ("has_more", Json::Bool(has_more)),
        ("total_count", number(1)),
        ("url", text("/v1/things?of=this")),
    ])
}

/// An object of `resource`; with a seed it has most columns.
pub fn begin(resource: &Resource, id: &str, created: i64, full: Option<u64>) -> Json {
    let mut object = crate::json::object([("id", text(id)), ("object", text(&resource.object))]);
    if resource.has_created {
        object.set(&["created".to_owned()], number(created));
    }
    let Some(seed) = full else { return object };
    let mut rng = Rng::with_seed(seed);
    for column in &resource.columns {
        if ["id", "object", "created"].contains(&column.name.as_str()) {
            continue;
        }
        let pick = rng.u64(0..40);
        match (rng.u8(0..8), &column.kind) {
            (0, _) => {}
            (1, ColumnKind::Rest) => {}
            (1, _) => object.set(&column.path, Json::Null),
            (_, ColumnKind::Rest) => object.add(&column.path, "~variant", any(pick, 3)),
            (_, ColumnKind::Int64) => object.set(&column.path, number(integer(pick))),
            (_, kind) => object.set(&column.path, proper(kind, pick)),
        }
    }
    object
}
