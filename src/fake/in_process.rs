//! Turns the fetch stage's requests into calls of [`Account::respond`], without a network.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::account::Account;
use super::request;
use crate::fetch::{Headers, Request, Response, Transport, TransportError};

/// The fake account as a [`Transport`]: the same answers as over HTTP, and no time passes.
#[derive(Debug, Clone)]
pub struct InProcess {
    pub account: Arc<Account>,
    /// Any that [`super::Spec::accepted_key`] lets in, or another to see it refused.
    pub key: String,
    pub stripe_version: String,
}

impl InProcess {
    /// With a key of the account's mode and the version whose shapes its objects have.
    pub fn new(account: Arc<Account>) -> InProcess {
        let mode = if account.spec.livemode { "live" } else { "test" };
        let key = account.spec.accepted_key.clone().unwrap_or_else(|| format!("rk_{mode}_fake"));
        InProcess { account, key, stripe_version: super::API_VERSION.to_owned() }
    }
}

impl Transport for InProcess {
    fn get<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Response, TransportError>> {
        let response = self.account.respond(&request::Request {
            method: "GET".to_owned(),
            path: request.path.clone(),
            query: request.query.clone(),
            key: Some(self.key.clone()),
            stripe_version: Some(self.stripe_version.clone()),
            accepts_gzip: false,
        });
        let headers = headers(&response);
        Box::pin(async move { Ok(Response { status: response.status, headers, body: response.body }) })
    }
}

fn headers(response: &request::Response) -> Headers {
    let text = |name: &str| response.header(name).map(str::to_owned);
    let date = text("Date").and_then(|date| httpdate::parse_http_date(&date).ok());
    let secs = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok());
    Headers {
        request_id: text("Request-Id"),
        date: secs.map(|secs| secs.as_secs() as i64),
        content_type: text("Content-Type"),
        ..Headers::default()
    }
}
