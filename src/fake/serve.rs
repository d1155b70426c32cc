//! Turns HTTP requests on a listener into calls of [`Account::respond`].

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{self, HeaderMap, HeaderValue, StatusCode, header};
use tokio::net::TcpListener;

use super::account::Account;
use super::request::{Request, Response, parse_authorization, parse_query};

/// Serves the account until `shutdown` is done. From then on the account's clock runs.
pub async fn serve(
    listener: TcpListener,
    account: Arc<Account>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    account.start_clock();
    let router = Router::new().fallback(answer).with_state(account);
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

/// A page takes about a millisecond, so it is made where the request arrives.
async fn answer(State(account): State<Arc<Account>>, request: http::Request<Body>) -> http::Response<Body> {
    let (parts, _) = request.into_parts();
    into_http(account.respond(&from_http(&parts)))
}

fn from_http(parts: &http::request::Parts) -> Request {
    let text = |name: &str| text_of(&parts.headers, name);
    Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parse_query(parts.uri.query().unwrap_or_default()),
        key: text("authorization").and_then(parse_authorization),
        stripe_version: text("stripe-version").map(str::to_owned),
        accepts_gzip: text("accept-encoding").is_some_and(|codings| codings.contains("gzip")),
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn into_http(response: Response) -> http::Response<Body> {
    let Response { status, headers, body } = response;
    let length = body.len();
    let mut http = http::Response::new(Body::from(body));
    *http.status_mut() = StatusCode::from_u16(status).expect("the account answers with real statuses");
    for (name, value) in headers {
        // A version that was sent may hold anything; what fits no header was refused before.
        if let Ok(value) = HeaderValue::from_str(&value) {
            http.headers_mut().insert(name_of(name), value);
        }
    }
    http.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    http
}

fn name_of(name: &'static str) -> header::HeaderName {
    name.parse().expect("the account names real headers")
}
