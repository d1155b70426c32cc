//! Turns the published samples and pages of the fake account into the texts that mutations start from.

use std::sync::Arc;

use serde_json::Value;
use stripelake::catalog::{Catalog, Resource};
use stripelake::fake::{Account, Request, Spec};

use crate::check::Form;

const KEY: &str = "rk_test_stripelakefuzz";
/// Objects of a page: enough that one follows another, few enough to be quick.
const N_OBJECTS: usize = 3;

pub struct Seed {
    pub resource: Arc<Resource>,
    pub children: Vec<Arc<Resource>>,
    pub form: Form,
    pub text: String,
}

/// For each resource that is listed: a page as Stripe prints it (the first), one without white space, the
/// published sample as a page, and all of them as bare objects.
pub fn seeds() -> Vec<Seed> {
    let catalog = Catalog::embedded().unwrap();
    let account = Account::new(Spec { charges: 2_000, ..Spec::default() });
    let mut seeds = Vec::new();
    for resource in catalog.listed() {
        let children: Vec<_> = catalog.children_of(&resource.name).cloned().collect();
        let mut add = |form, text| {
            let (resource, children) = (resource.clone(), children.clone());
            seeds.push(Seed { resource, children, form, text });
        };
        let url = format!("{}?limit={N_OBJECTS}", resource.path);
        let body = account.respond(&Request::get(&url, KEY)).body;
        let pretty = String::from_utf8(body.to_vec()).unwrap();
        let page: Value = serde_json::from_str(&pretty).unwrap();
        let objects = page["data"].as_array().unwrap();
        assert_eq!(objects.len(), N_OBJECTS, "{url}");
        add(Form::Page, pretty);
        add(Form::Page, page.to_string());
        let sample: Value = serde_json::from_str(&sample(&resource.object)).unwrap();
        let list =
            serde_json::json!({ "object": "list", "data": [sample], "has_more": false, "url": "/v1/x" });
        add(Form::Page, serde_json::to_string_pretty(&list).unwrap());
        let lines: Vec<String> = objects.iter().chain([&sample]).map(Value::to_string).collect();
        add(Form::Objects, lines.join("\n"));
    }
    seeds
}

fn sample(object: &str) -> String {
    let path = format!("{}/tests/data/samples/{object}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}
