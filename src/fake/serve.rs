//! Turns connections on a listener into answers of an account, with or without faults.
//!
//! HTTP/1.1 is spoken here and not by a library, since a library would not let half of the faults pass: resets, bodies
//! that stop, dripping bytes. Every connection is a task that ends with its client or after ten minutes of a fault.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::account::{Account, Resource};
use super::connection::{Asked, read_request};
use super::fault::{Change, Fault, Faults, HeldBack, Refusal};
use super::request::{Request, Response};
use super::traffic::Traffic;
use super::wire;
use crate::fetch;

/// Connections at once; the next ones wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// Answers what was asked so far, as JSON; it counts itself not.
const STATS: &str = "/_fake/stats";

/// Serves the account until `shutdown` is done. From then on the account's clock runs.
pub async fn serve(
    listener: TcpListener,
    account: Arc<Account>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    serve_with(listener, account, Faults::default(), shutdown).await
}

/// Serves the account and does what the faults say.
pub async fn serve_with(
    listener: TcpListener,
    account: Arc<Account>,
    faults: Faults,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    account.start_clock();
    for HeldBack { path, n, newest } in &faults.held_back {
        if let Some(resource) = resource_of(path) {
            account.hold_back(resource, *n, *newest);
        }
    }
    let traffic = Traffic::new(faults.rates);
    let server = Arc::new(Server { account, faults, traffic, bombs: Mutex::default() });
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                // A client that is gone before it was accepted is no failure of the server.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(server.clone().converse(stream));
                }
            }
        }
    }
}

fn resource_of(path: &str) -> Option<Resource> {
    path.strip_prefix("/v1/")?.parse().ok()
}

struct Server {
    account: Arc<Account>,
    faults: Faults,
    traffic: Traffic,
    /// By megabytes; they take a moment to make.
    bombs: Mutex<HashMap<usize, Bytes>>,
}

impl Server {
    /// Answers the requests of one connection; its errors are the client's.
    async fn converse(self: Arc<Server>, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut buffer = Vec::new();
        while let Ok(Some(Asked { request, keeps_open })) = read_request(&mut stream, &mut buffer).await {
            if request.path == STATS {
                let body = serde_json::to_vec_pretty(&self.traffic.counts()).unwrap_or_default();
                let headers = vec![("Content-Type", "application/json".to_owned())];
                let response = Response { status: 200, headers, body: Bytes::from(body) };
                if wire::send(&mut stream, &response, keeps_open).await.is_err() || !keeps_open {
                    return;
                }
                continue;
            }
            let too_fast = self.traffic.begin(&request.path);
            tokio::time::sleep(self.faults.latency).await;
            let asked = fetch::Request { query: request.query.clone(), ..fetch::Request::new(&request.path) };
            let fault = match too_fast {
                Some(reason) => Some(Fault::Refuse(too_many(reason))),
                None => self.faults.rules.take(&asked),
            };
            if let Some(fault) = &fault {
                self.traffic.note(&name(fault));
            }
            let (response, breaks) = self.answer(&request, fault.as_ref()).await;
            let sent = match &fault {
                Some(fault) if breaks => wire::send_badly(&mut stream, &response, fault).await,
                _ => wire::send(&mut stream, &response, keeps_open).await,
            };
            let status = (!breaks).then_some(response.status);
            self.traffic.end(status);
            if breaks || sent.is_err() || !keeps_open {
                return;
            }
        }
    }

    /// The response, and whether the fault lies in how it is sent.
    async fn answer(&self, request: &Request, fault: Option<&Fault>) -> (Response, bool) {
        match fault {
            Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
            Some(Fault::Change(change)) => self.change(request, change),
            _ => {}
        }
        let mut response = self.account.respond(&Request { accepts_gzip: false, ..request.clone() });
        let mut bad_gzip = None;
        match fault {
            Some(Fault::Refuse(refusal)) => wire::refuse(&mut response, refusal),
            Some(Fault::Html(status)) => wire::web_page(&mut response, *status),
            Some(Fault::Redirect { status, to }) => {
                response.status = *status;
                response.headers.push(("Location", to.clone()));
            }
            Some(Fault::Page(damage)) => wire::damage(&mut response, *damage),
            Some(Fault::Gzip(bad)) => bad_gzip = Some(*bad),
            Some(Fault::Bomb(megabytes)) => {
                response.headers.push(("Content-Encoding", "gzip".to_owned()));
                response.body = self.bomb(*megabytes);
                return (response, false);
            }
            Some(
                Fault::Hang
                | Fault::Reset(_)
                | Fault::ShortBody
                | Fault::NoLastChunk
                | Fault::Drip { .. }
                | Fault::Endless(_),
            ) => return (response, true),
            Some(Fault::Delay(_) | Fault::Change(_)) | None => {}
        }
        if request.accepts_gzip {
            wire::pack(&mut response, bad_gzip);
        }
        (response, false)
    }

    fn change(&self, request: &Request, change: &Change) {
        let cursor = request.query.iter().find(|(name, _)| name == "starting_after");
        if let Some(resource) = resource_of(&request.path) {
            self.account.change(resource, change, cursor.map(|(_, id)| id.as_str()));
        }
    }

    fn bomb(&self, megabytes: usize) -> Bytes {
        let mut bombs = self.bombs.lock().expect("no one panics while building");
        bombs.entry(megabytes).or_insert_with(|| Bytes::from(wire::bomb(megabytes))).clone()
    }
}

/// What Stripe's limiter says.
fn too_many(reason: &str) -> Refusal {
    Refusal {
        status: 429,
        code: Some("rate_limit".to_owned()),
        message: Some("Request rate limit exceeded.".to_owned()),
        reason: Some(reason.to_owned()),
        ..Refusal::default()
    }
}

/// The fault in one word, for the counts.
fn name(fault: &Fault) -> String {
    let text = format!("{fault:?}");
    text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_lowercase()
}
