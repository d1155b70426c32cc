//! Turns wrong and unusual requests into checks of what the API answers, in process and over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use tokio::net::TcpListener;

use super::*;
use crate::fake::{API_VERSION, Resource, Response, serve};

/// The status and the error of a request that must fail.
fn refused(account: &Account, request: &Request) -> (u16, Value) {
    let response = account.respond(request);
    let mut body: Value = serde_json::from_slice(&response.body).unwrap();
    let error = body["error"].take();
    let request_id = response.header("Request-Id").unwrap();
    assert!(text(&error["request_log_url"]).ends_with(request_id) && request_id.starts_with("req_"));
    assert_eq!(error["type"], "invalid_request_error");
    let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert!(keys.is_sorted(), "{keys:?}");
    (response.status, error)
}

fn check_refused(url: &str, status: u16, code: &str, param: &str, message: &str) {
    let (got_status, error) = refused(&account(60), &Request::get(url, KEY));
    let member = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    let got = (got_status, member("code"), member("param"), member("message"));
    assert_eq!(got, (status, code.to_owned(), param.to_owned(), message.to_owned()), "{url}");
}

#[test]
fn wrong_parameters_are_named() {
    let integer = "parameter_invalid_integer";
    let too_big = "This value must be less than or equal to 100 (it currently is '101').";
    check_refused("/v1/charges?limit=101", 400, integer, "limit", too_big);
    let too_small = "This value must be greater than or equal to 1 (it currently is '0').";
    check_refused("/v1/charges?limit=0", 400, integer, "limit", too_small);
    check_refused("/v1/charges?limit=x", 400, integer, "limit", "Invalid integer: x");
    check_refused("/v1/refunds?created[gte]=1.5", 400, integer, "created[gte]", "Invalid integer: 1.5");
    check_refused("/v1/charges?foo=1", 400, "parameter_unknown", "foo", "Received unknown parameter: foo");
    check_refused(
        "/v1/charges?status=all",
        400,
        "parameter_unknown",
        "status",
        "Received unknown parameter: status",
    );
    check_refused(
        "/v1/charges?created[foo]=1",
        400,
        "parameter_unknown",
        "created[foo]",
        "Received unknown parameter: created[foo]",
    );
    let message = "The fake account does not support the parameter expand[]";
    check_refused("/v1/charges?expand[]=data.refunds", 400, "", "expand[]", message);
    let message = "Missing required param: subscription.";
    check_refused("/v1/subscription_items", 400, "parameter_missing", "subscription", message);
    let message = "starting_after and ending_before exclude each other";
    check_refused(
        "/v1/charges?starting_after=a&ending_before=b",
        400,
        "parameters_exclusive",
        "starting_after",
        message,
    );
}

#[test]
fn what_is_missing_is_named() {
    let code = "resource_missing";
    check_refused("/v1/charges?starting_after=ch_x", 400, code, "starting_after", "No such charge: 'ch_x'");
    check_refused("/v1/events?ending_before=evt_1", 400, code, "ending_before", "No such event: 'evt_1'");
    check_refused("/v1/charges/ch_x", 404, code, "id", "No such charge: 'ch_x'");
    check_refused("/v1/charges?customer=cus_x", 400, code, "customer", "No such customer: 'cus_x'");
    check_refused("/v1/balance_transactions/txn_1", 404, code, "id", "No such balance_transaction: 'txn_1'");
    check_refused("/v1/nothing", 404, "", "", "Unrecognized request URL (GET: /v1/nothing)");
    check_refused("/v1/charges/a/b", 404, "", "", "Unrecognized request URL (GET: /v1/charges/a/b)");
    check_refused("/", 404, "", "", "Unrecognized request URL (GET: /)");
    let post = Request { method: "POST".to_owned(), ..Request::get("/v1/charges", KEY) };
    assert_eq!(refused(&account(1), &post).0, 405);
}

#[test]
fn a_cursor_that_the_filters_hide_is_missing() {
    let account = account(3_000);
    let canceled = get(&account, "/v1/subscriptions?status=canceled&limit=1");
    let id = text(&canceled["data"][0]["id"]);
    let (status, error) =
        refused(&account, &Request::get(&format!("/v1/subscriptions?starting_after={id}"), KEY));
    assert_eq!((status, text(&error["param"])), (400, "starting_after"));
    get(&account, &format!("/v1/subscriptions?status=all&starting_after={id}"));
    let archived = get(&account, "/v1/prices?active=false&limit=1");
    let id = text(&archived["data"][0]["id"]);
    assert_eq!(refused(&account, &Request::get(&format!("/v1/prices?ending_before={id}"), KEY)).0, 400);
}

#[test]
fn only_a_good_key_opens_the_account() {
    let test = account(1);
    let with = |account: &Account, key: Option<&str>| {
        let request = Request { key: key.map(str::to_owned), ..Request::get("/v1/charges", KEY) };
        let (status, error) = refused(account, &request);
        (status, error["code"].as_str().map(str::to_owned), text(&error["message"]).to_owned())
    };
    let message = "Invalid API Key provided: rk_live_****abcd".to_owned();
    assert_eq!(with(&test, Some("rk_live_0123456789abcd")), (401, None, message));
    assert_eq!(with(&test, None).0, 401);
    assert_eq!(with(&test, Some("é")).0, 401);
    assert_eq!(with(&test, Some("pk_test_1")).1.as_deref(), Some("secret_key_required"));
    assert_eq!(with(&test, Some("sk_test_expired9")).1.as_deref(), Some("api_key_expired"));
    let live = Account::new(Spec {
        livemode: true,
        accepted_key: Some("rk_live_right".to_owned()),
        ..Spec::default()
    });
    assert_eq!(with(&live, Some("rk_live_wrong")).0, 401);
    let charges = live.respond(&Request::get("/v1/charges", "rk_live_right"));
    let charges: Value = serde_json::from_slice(&charges.body).unwrap();
    assert_eq!(charges["data"][0]["livemode"], true);
}

#[test]
fn a_denied_resource_names_the_permission() {
    let account = Account::new(Spec { denied: vec![Resource::Customers], ..Spec::default() });
    let (status, error) = refused(&account, &Request::get("/v1/customers", "rk_test_12345"));
    assert_eq!(status, 403);
    let message = text(&error["message"]);
    assert!(message.contains("'rk_test_***'") && message.contains(&account.id()), "{message}");
    assert!(message.contains("Having the 'rak_customer_read' permission"), "{message}");
    get(&account, "/v1/charges");
}

#[test]
fn headers_say_version_date_and_request() {
    let account = account(1);
    let ask = |version: Option<&str>| {
        let request =
            Request { stripe_version: version.map(str::to_owned), ..Request::get("/v1/charges", KEY) };
        account.respond(&request)
    };
    let response = ask(None);
    assert_eq!(response.header("Stripe-Version"), Some(API_VERSION));
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    assert_eq!(response.header("Date"), Some("Thu, 28 May 2026 20:26:40 GMT"));
    assert_ne!(response.header("Request-Id"), ask(None).header("Request-Id"));
    account.set_now(account.now() + 5);
    assert_eq!(ask(None).header("Date"), Some("Thu, 28 May 2026 20:26:45 GMT"));
    for good in ["2026-05-27.dahlia", "2024-06-20", "2025-03-31.basil"] {
        assert_eq!(ask(Some(good)).header("Stripe-Version"), Some(good));
    }
    for bad in ["", "latest", "2026-05-27", "2026-05-27.rose", "2026-05-2x.dahlia", "2024-01-01.basil"] {
        assert_eq!(ask(Some(bad)).status, 400, "{bad}");
    }
}

#[test]
fn a_gzipped_body_is_the_same_body() {
    let account = account(200);
    let plain = Request::get("/v1/charges?limit=100", KEY);
    let zipped = Request { accepts_gzip: true, ..plain.clone() };
    let (plain, zipped) = (account.respond(&plain), account.respond(&zipped));
    assert_eq!((plain.header("Content-Encoding"), zipped.header("Content-Encoding")), (None, Some("gzip")));
    assert!(zipped.body.len() * 3 < plain.body.len());
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_end(&mut body).unwrap();
    assert_eq!(body, plain.body);
}

#[test]
fn the_account_describes_itself() {
    let account = account(10);
    let profile = get(&account, "/v1/account");
    assert_eq!((text(&profile["id"]), text(&profile["object"])), (account.id().as_str(), "account"));
    assert!(profile.get("livemode").is_none());
    let oldest = walk(&account, "/v1/charges?", 100).last().unwrap()["created"].clone();
    assert!(number(&profile["created"]) <= number(&oldest));
}

#[test]
fn requests_are_counted_by_path() {
    let account = account(10);
    for url in ["/v1/charges?limit=1", "/v1/charges", "/v1/charges/ch_1", "/v1/charges/ch_2", "/v1/account"] {
        account.respond(&Request::get(url, KEY));
    }
    let requests = account.requests();
    assert_eq!(requests.total, 5);
    assert_eq!((requests.by_path["/v1/charges"], requests.by_path["/v1/charges/{id}"]), (2, 2));
}

/// One request over a connection of its own: the head and the body.
async fn over_http(address: SocketAddr, head: &str) -> (String, Vec<u8>) {
    let request = format!("{head}\r\nHost: fake\r\nConnection: close\r\n\r\n");
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    };
    let all = tokio::task::spawn_blocking(exchange).await.unwrap();
    let end = all.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    (String::from_utf8(all[..end].to_vec()).unwrap().to_lowercase(), all[end + 4..].to_vec())
}

#[tokio::test]
async fn the_server_answers_what_the_account_answers_and_stops() {
    let account = Arc::new(account(300));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, Arc::clone(&account), async { drop(stopped.await) }));
    let url = "/v1/charges?limit=3&created%5Blt%5D=1780000000";
    let plain: Response = account.respond(&Request::get(url, KEY));
    let bearer =
        format!("GET {url} HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nStripe-Version: 2026-04-22.dahlia");
    let (head, body) = over_http(address, &bearer).await;
    assert!(
        head.starts_with("http/1.1 200 ok") && head.contains("stripe-version: 2026-04-22.dahlia"),
        "{head}"
    );
    assert!(head.contains("date: thu, 28 may 2026") && head.contains("request-id: req_"), "{head}");
    assert_eq!(body, plain.body);
    // sk_test_fake:
    let basic =
        format!("GET {url} HTTP/1.1\r\nAuthorization: Basic c2tfdGVzdF9mYWtlOg==\r\nAccept-Encoding: gzip");
    let (head, body) = over_http(address, &basic).await;
    assert!(
        head.contains("content-encoding: gzip") && head.contains(&format!("content-length: {}", body.len()))
    );
    let mut unzipped = Vec::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut unzipped).unwrap();
    assert_eq!(unzipped, plain.body);
    let (head, _) = over_http(address, "POST /v1/charges HTTP/1.1\r\nAuthorization: Bearer sk_live_x").await;
    assert!(head.starts_with("http/1.1 401"), "{head}");
    assert_eq!(account.requests().total, 4);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
