//! Turns given objects into the lists of an account, by Stripe's rules, so that a test can change them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use stripelake::fake::script::{answer, refusal};
use stripelake::fake::{Account, Request as FakeRequest};
use stripelake::fetch::{Request, Response, Transport, TransportError};

/// The lists, and the parameters with which the fake account shows all of one.
const LISTS: [(&str, &str); 7] = [
    ("balance_transactions", ""),
    ("charges", ""),
    ("customers", ""),
    ("prices", "active=true&"),
    ("prices", "active=false&"),
    ("refunds", ""),
    ("subscriptions", "status=all&"),
];

/// An account whose objects a test may add, change and take away, also while it is read.
#[derive(Debug)]
pub struct Table {
    pub id: String,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    now: i64,
    /// In the order of the lists, which a test may upset.
    lists: BTreeMap<String, Vec<Value>>,
}

impl Table {
    /// An account without objects.
    pub fn new(id: &str, now: i64) -> Arc<Table> {
        let lists = LISTS.iter().map(|(name, _)| ((*name).to_owned(), Vec::new())).collect();
        let table = Table { id: id.to_owned(), inner: Mutex::new(Inner { now, lists }) };
        table.put("subscription_items", Vec::new());
        Arc::new(table)
    }

    /// All objects of a fake account.
    pub fn of(account: &Account) -> Arc<Table> {
        Table::some_of(account, |_| true)
    }

    /// So many charges and nothing else.
    pub fn charges(seed: u64, n: u64) -> Arc<Table> {
        Table::some_of(&crate::harness::account(seed, n), |name| name == "charges")
    }

    /// The lists of a fake account that are chosen; the others are empty.
    pub fn some_of(account: &Account, is_chosen: impl Fn(&str) -> bool) -> Arc<Table> {
        let table = Table::new(&account.id(), account.now());
        for (name, parameters) in LISTS.into_iter().filter(|(name, _)| is_chosen(name)) {
            let mut all = table.list(name);
            all.extend(walk(account, &format!("/v1/{name}?{parameters}")));
            all.sort_by_key(|object| -created(object));
            table.put(name, all);
        }
        let mut items = Vec::new();
        for subscription in table.list("subscriptions") {
            let url = format!("/v1/subscription_items?subscription={}&", text(&subscription["id"]));
            items.extend(walk(account, &url));
        }
        table.put("subscription_items", items);
        table
    }

    /// A copy of a list.
    pub fn list(&self, name: &str) -> Vec<Value> {
        self.inner.lock().unwrap().lists.get(name).cloned().unwrap_or_default()
    }

    pub fn put(&self, name: &str, objects: Vec<Value>) {
        self.inner.lock().unwrap().lists.insert(name.to_owned(), objects);
    }

    /// Changes a list in place.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<Value>)) {
        change(self.inner.lock().unwrap().lists.get_mut(name).expect("one of Stripe's lists"));
    }

    pub fn now(&self) -> i64 {
        self.inner.lock().unwrap().now
    }

    pub fn set_now(&self, now: i64) {
        self.inner.lock().unwrap().now = now;
    }

    fn respond(&self, request: &Request) -> Response {
        let inner = self.inner.lock().unwrap();
        let name = request.path.trim_start_matches("/v1/");
        let mut response = match inner.lists.get(name) {
            None if name == "account" => answer(200, json!({"id": self.id, "object": "account"}).to_string()),
            None => refusal(404, "url_invalid", None, "Unrecognized request URL"),
            Some(objects) => list(name, objects, request),
        };
        response.headers.date = Some(inner.now);
        response.headers.request_id = Some("req_table".to_owned());
        response
    }
}

impl Transport for Table {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        let response = self.respond(request);
        Box::pin(async move { Ok(response) })
    }
}

fn list(name: &str, objects: &[Value], request: &Request) -> Response {
    let parameter =
        |name: &str| request.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let second = |name: &str| parameter(name).map(|value| value.parse::<i64>().unwrap());
    let shown = |object: &&Value| {
        parameter("active").is_none_or(|active| object["active"] == (active == "true"))
            && parameter("subscription").is_none_or(|id| object["subscription"] == id)
    };
    let in_window = |object: &&Value| match object["created"].as_i64() {
        Some(created) => {
            second("created[gte]").is_none_or(|from| created >= from)
                && second("created[lt]").is_none_or(|before| created < before)
        }
        // What has no proper time is shown to everybody.
        None => true,
    };
    let visible: Vec<&Value> = objects.iter().filter(shown).collect();
    let first = match parameter("starting_after") {
        None => 0,
        Some(id) => match visible.iter().position(|object| object["id"] == id) {
            // One from outside of the window may lead nowhere.
            Some(at) if !in_window(&visible[at]) => visible.len(),
            Some(at) => at + 1,
            None => {
                let message = format!("No such {name}: '{id}'");
                return refusal(400, "resource_missing", Some("starting_after"), &message);
            }
        },
    };
    let limit: usize = parameter("limit").map_or(10, |limit| limit.parse().unwrap());
    let mut rest: Vec<&Value> = visible[first..].iter().copied().filter(in_window).collect();
    let has_more = rest.len() > limit;
    rest.truncate(limit);
    let page = json!({"object": "list", "data": rest, "has_more": has_more, "url": request.path});
    answer(200, page.to_string())
}

/// All objects of a list of the fake account.
pub fn walk(account: &Account, url: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after =
            all.last().map(|last| format!("&starting_after={}", text(&last["id"]))).unwrap_or_default();
        let mode = if account.spec.livemode { "live" } else { "test" };
        let key = account.spec.accepted_key.clone().unwrap_or_else(|| format!("rk_{mode}_fake"));
        let response = account.respond(&FakeRequest::get(&format!("{url}limit=100{after}"), &key));
        let mut page: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(response.status, 200, "{url}: {page}");
        all.append(page["data"].as_array_mut().unwrap());
        if page["has_more"] == false {
            return all;
        }
    }
}

pub fn created(object: &Value) -> i64 {
    object["created"].as_i64().unwrap()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a string, got {value}"))
}
