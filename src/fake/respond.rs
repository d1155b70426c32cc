//! Turns a request into a response: key, version, path, page.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::account::{Account, Resource};
use super::chance::{Chance, topic};
use super::json::Json;
use super::query::{Query, unknown_parameter};
use super::request::{ApiError, Request, Response};
use super::wire;

/// The version that an account without one has, and whose shapes all objects have.
pub const API_VERSION: &str = "2026-05-27.dahlia";

/// Names of versions, and the day from which each is used.
const RELEASES: [(&str, &str); 5] = [
    ("acacia", "2024-09-30"),
    ("basil", "2025-03-31"),
    ("clover", "2025-09-30"),
    ("dahlia", "2026-03-25"),
    ("endive", "2026-09-30"),
];

impl Account {
    /// Answers one request. Does no I/O; what it changes is the count of requests.
    ///
    /// Scripted faults stand in front of it: they take a request and may answer in its place.
    pub fn respond(&self, request: &Request) -> Response {
        let number = self.count_request(counted_path(&request.path));
        let request_id = self.request_id(number);
        let mut headers = vec![
            ("Content-Type", "application/json".to_owned()),
            ("Date", httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.now().max(0) as u64))),
            ("Request-Id", request_id.clone()),
            ("Stripe-Version", request.stripe_version.as_deref().unwrap_or(API_VERSION).to_owned()),
        ];
        let (status, mut body) = match self.answer(request) {
            Ok(body) => (200, self.revised(body)),
            Err(error) => (error.status, error.body(&request_id, self.spec.livemode)),
        };
        if request.accepts_gzip {
            headers.push(("Content-Encoding", "gzip".to_owned()));
            body = wire::gzip(&body);
        }
        Response { status, headers, body: Bytes::from(body) }
    }

    fn answer(&self, request: &Request) -> Result<Vec<u8>, ApiError> {
        self.check_key(request.key.as_deref())?;
        if let Some(version) = request.stripe_version.as_deref().filter(|version| !is_version(version)) {
            return Err(ApiError::new(400, None, format!("Invalid Stripe API version: {version}")));
        }
        let unknown = |status| {
            let message = format!("Unrecognized request URL ({}: {})", request.method, request.path);
            Err(ApiError::new(status, None, message))
        };
        let Some(path) = request.path.strip_prefix("/v1/") else {
            return unknown(404);
        };
        let (name, id) = path.split_once('/').map_or((path, None), |(name, id)| (name, Some(id)));
        let resource = name.parse::<Resource>();
        if resource.is_err() && (name, id) != ("account", None)
            || id.is_some_and(|id| id.is_empty() || id.contains('/'))
        {
            return unknown(404);
        }
        if request.method != "GET" {
            return unknown(405);
        }
        let Ok(resource) = resource else {
            refuse_parameters(&request.query)?;
            return Ok(object(|w| self.write_profile(w)));
        };
        self.check_permission(resource, request.key.as_deref().unwrap_or_default())?;
        match id {
            Some(id) => self.retrieve(resource, id, &request.query),
            None if resource == Resource::SubscriptionItems => self.list_items(&request.query),
            None => self.list(resource, &request.query),
        }
    }

    fn list(&self, resource: Resource, params: &[(String, String)]) -> Result<Vec<u8>, ApiError> {
        let query = Query::parse(self, resource, params)?;
        let (rows, has_more) = self.page(resource, &query)?;
        let mut json = Json::with_capacity(256 + rows.len() * 4096);
        json.root(|w| {
            w.put("object", "list");
            w.array("data", |w| {
                for row in rows {
                    w.element(|w| self.write_row(w, resource, row));
                }
            });
            w.put("has_more", has_more);
            w.put("url", format!("/v1/{}", resource.name()));
        });
        Ok(json.into_bytes())
    }

    /// The items of one subscription, in the order in which it embeds the first of them.
    fn list_items(&self, params: &[(String, String)]) -> Result<Vec<u8>, ApiError> {
        let query = Query::parse(self, Resource::SubscriptionItems, params)?;
        let Some(id) = &query.subscription else {
            let message = "Missing required param: subscription.";
            return Err(ApiError::parameter(Some("parameter_missing"), "subscription", message));
        };
        let missing = || ApiError::missing(400, "subscription", "subscription", id);
        let row = self.find(Resource::Subscriptions, id).ok_or_else(missing)?;
        let subscription = self.subscription(row.index);
        let find = |param, id: &Option<String>| match id {
            None => Ok(None),
            Some(id) => match self.find_item(&subscription, id) {
                Some(item) => Ok(Some(item)),
                None => Err(ApiError::missing(400, param, "subscription_item", id)),
            },
        };
        let first = find("starting_after", &query.starting_after)?.map_or(0, |item| item + 1);
        let end = find("ending_before", &query.ending_before)?.unwrap_or(subscription.n_items);
        let limit = query.limit as u64;
        let range = match query.ending_before {
            Some(_) => end.saturating_sub(limit)..end,
            None => first..end.min(first + limit),
        };
        let has_more = range.end - range.start < end - first;
        let prices = self.item_prices(&subscription, subscription.n_items);
        Ok(object(|w| {
            w.put("object", "list");
            w.array("data", |w| {
                for item in range {
                    w.element(|w| self.write_item(w, &subscription, item, &prices[item as usize]));
                }
            });
            w.put("has_more", has_more);
            w.put("url", "/v1/subscription_items");
        }))
    }

    fn retrieve(
        &self,
        resource: Resource,
        id: &str,
        params: &[(String, String)],
    ) -> Result<Vec<u8>, ApiError> {
        refuse_parameters(params)?;
        let missing = || ApiError::missing(404, "id", resource.singular(), id);
        if resource == Resource::SubscriptionItems {
            let (subscription, item) = self.find_any_item(id).ok_or_else(missing)?;
            let prices = self.item_prices(&subscription, item + 1);
            return Ok(object(|w| self.write_item(w, &subscription, item, &prices[item as usize])));
        }
        let row = self.find(resource, id).ok_or_else(missing)?;
        Ok(object(|w| self.write_row(w, resource, row)))
    }

    fn check_key(&self, key: Option<&str>) -> Result<(), ApiError> {
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            return Err(ApiError::new(401, None, "You did not provide an API key."));
        };
        if key.starts_with("pk_") {
            let message = "This API call cannot be made with a publishable API key.";
            return Err(ApiError::new(401, Some("secret_key_required"), message));
        }
        if key.contains("expired") {
            let message = format!("Expired API Key provided: {}", masked(key));
            return Err(ApiError::new(401, Some("api_key_expired"), message));
        }
        let mode = if self.spec.livemode { "live" } else { "test" };
        let is_secret = ["sk", "rk"].iter().any(|kind| key.starts_with(&format!("{kind}_{mode}_")));
        let is_accepted = self.spec.accepted_key.as_deref().map_or(is_secret, |accepted| accepted == key);
        if is_accepted {
            return Ok(());
        }
        Err(ApiError::new(401, None, format!("Invalid API Key provided: {}", masked(key))))
    }

    fn check_permission(&self, resource: Resource, key: &str) -> Result<(), ApiError> {
        if !self.spec.denied.contains(&resource) {
            return Ok(());
        }
        let prefix = key.get(..8).unwrap_or_default();
        let message = format!(
            "The provided key '{prefix}***' does not have the required permissions for this endpoint on account '{}'. \
             Having the '{}' permission would allow this request to continue.",
            self.account_id(),
            permission(resource)
        );
        Err(ApiError::new(403, Some("more_permissions_required"), message))
    }

    fn request_id(&self, number: u64) -> String {
        format!("req_{}", Chance::of(self.spec.seed, topic("request"), number).letters(14))
    }
}

/// The permission of a restricted key that a list needs.
fn permission(resource: Resource) -> &'static str {
    match resource {
        Resource::BalanceTransactions => "rak_balance_transaction_source_read",
        Resource::Charges | Resource::Refunds => "rak_charge_read",
        Resource::Customers => "rak_customer_read",
        Resource::Events => "rak_event_read",
        Resource::Prices => "rak_plan_read",
        Resource::SubscriptionItems | Resource::Subscriptions => "rak_subscription_read",
    }
}

fn object(members: impl FnOnce(&mut Json)) -> Vec<u8> {
    let mut json = Json::with_capacity(8192);
    json.root(members);
    json.into_bytes()
}

fn refuse_parameters(params: &[(String, String)]) -> Result<(), ApiError> {
    match params.first() {
        None => Ok(()),
        Some((name, _)) if name.starts_with("expand") => Err(ApiError::unsupported(name)),
        Some((name, _)) => Err(unknown_parameter(name)),
    }
}

/// `rk_test_****abcd`: nobody needs more of it in a log.
fn masked(key: &str) -> String {
    let prefix_len = key.match_indices('_').nth(1).map_or(0, |(at, _)| at + 1);
    let last = key.char_indices().rev().nth(3).map_or(key.len(), |(at, _)| at).max(prefix_len);
    format!("{}****{}", &key[..prefix_len], &key[last..])
}

fn is_version(version: &str) -> bool {
    let (date, name) = version.split_once('.').unwrap_or((version, ""));
    let digits_and_dashes = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let first_day = RELEASES.iter().find(|(release, _)| *release == name).map(|(_, day)| *day);
    let is_in_time = match first_day {
        Some(day) => date >= day,
        None => name.is_empty() && ("2011-01-01"..RELEASES[0].1).contains(&date),
    };
    date.len() == 10 && digits_and_dashes && is_in_time
}

fn counted_path(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    if let [_, "v1", _, id] = parts.as_mut_slice() {
        *id = "{id}";
    }
    parts.join("/")
}
