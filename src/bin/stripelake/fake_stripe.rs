//! `stripelake fake-stripe`: the fake account as a server on loopback.

use std::sync::Arc;

use stripelake::config::Settings;
use stripelake::error::{Error, Kind, Result};
use stripelake::fake::{self, Spec};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::cli::{Account, FakeStripe};
use crate::output::out;
use crate::setup;

/// A key that every fake account of the mode accepts. It opens nothing else.
pub fn key(livemode: bool) -> String {
    format!("rk_{}_stripelakefakeaccount", if livemode { "live" } else { "test" })
}

/// The account that the flags describe, as of today.
pub fn spec(account: &Account, livemode: bool) -> Spec {
    Spec {
        seed: account.seed,
        charges: account.charges,
        livemode,
        now: jiff::Timestamp::now().as_second(),
        ..Spec::default()
    }
}

pub fn run(flags: FakeStripe) -> Result<Option<Kind>> {
    let FakeStripe { account, port, livemode, accept_key_file, deny, json, until_stdin_closes } = flags;
    let mut spec = spec(&account, livemode);
    let mut shown_key = key(livemode);
    if accept_key_file.is_some() {
        let settings = Settings { api_key_file: accept_key_file, ..Settings::default() };
        let key = stripelake::config::find_key(None, &Default::default(), &settings)?;
        let secret = secrecy::ExposeSecret::expose_secret(&key.secret).to_owned();
        shown_key = "the key of --accept-key-file".to_owned();
        spec.accepted_key = Some(secret);
    }
    for name in deny {
        let resource =
            name.parse().map_err(|_| Error::usage(format!("--deny: no resource \"{name}\" here")))?;
        spec.denied.push(resource);
    }
    setup::runtime()?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.map_err(|e| Error::usage(format!("--port {port}: {e}")))?;
        let address = listener.local_addr().map_err(|e| Error::bug(e.to_string()))?;
        let account = Arc::new(fake::Account::new(spec));
        let url = format!("http://{address}");
        out(&match json {
            true => {
                let hello = serde_json::json!({"url": url, "key": shown_key, "account": account.id()});
                format!("{hello}\n")
            }
            false => format!(
                "Fake Stripe account {} on {url}\n  STRIPE_API_KEY={shown_key} stripelake sync --api-base {url} --rate unlimited\n",
                account.id()
            ),
        });
        let shutdown = shutdown(until_stdin_closes);
        fake::serve(listener, account, shutdown).await.map_err(|e| Error::bug(e.to_string()))
    })?;
    Ok(None)
}

/// Done at a signal, or when whoever started the server has gone.
async fn shutdown(until_stdin_closes: bool) {
    let mut interrupted = setup::interruption();
    let (closed, stdin_closed) = oneshot::channel::<()>();
    if until_stdin_closes {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            drop(closed);
        });
        tokio::select! {
            _ = interrupted.wait_for(Option::is_some) => {}
            _ = stdin_closed => {}
        }
    } else {
        let _ = interrupted.wait_for(Option::is_some).await;
    }
}
