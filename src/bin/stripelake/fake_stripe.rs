//! `stripelake fake-stripe`: the fake account as a server on loopback.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use stripelake::catalog::Catalog;
use stripelake::config::Settings;
use stripelake::config::value::parse_second;
use stripelake::error::{Error, Kind, Result};
use stripelake::fake::{self, Faults, Spec};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::cli::{Account, FakeStripe, given};
use crate::output::out;
use crate::{setup, signals};

/// A key that every fake account of the mode accepts. It opens nothing else.
pub fn key(livemode: bool) -> String {
    format!("rk_{}_stripelakefakeaccount", if livemode { "live" } else { "test" })
}

/// Stripe opened to all in 2011, and an account has two years behind it.
const PRESENTS: Range<&str> = "2014-01-01".."2200-01-01";

/// The account that the flags describe.
pub fn spec(account: &Account, livemode: bool, now: i64) -> Spec {
    Spec { seed: account.seed, charges: account.charges, livemode, now, ..Spec::default() }
}

/// The second of the account's present.
fn present(now: Option<&str>) -> Result<i64> {
    let Some(text) = now else { return Ok(Timestamp::now().as_second()) };
    let wrong = |e: Error| e.context(given("--now"));
    let second = parse_second(text).map_err(wrong)?;
    match (parse_second(PRESENTS.start)?..parse_second(PRESENTS.end)?).contains(&second) {
        true => Ok(second),
        false => {
            let Range { start, end } = PRESENTS;
            Err(wrong(Error::usage(format!("expected a time from {start} to {end}, got \"{text}\""))))
        }
    }
}

pub fn run(flags: FakeStripe) -> Result<Option<Kind>> {
    let FakeStripe {
        account,
        now,
        port,
        livemode,
        accept_key_file,
        deny,
        density,
        latency,
        rate_limit,
        faults,
        json,
        until_stdin_closes,
    } = flags;
    let faults = misbehaviour(faults.as_deref(), latency.as_deref(), rate_limit.as_deref())?;
    let mut spec = Spec { density, ..spec(&account, livemode, present(now.as_deref())?) };
    let mut shown_key = key(livemode);
    if accept_key_file.is_some() {
        let settings = Settings { api_key_file: accept_key_file, ..Settings::default() };
        let key = stripelake::config::key::find_key(None, &Default::default(), &settings)?;
        let secret = secrecy::ExposeSecret::expose_secret(&key.secret).to_owned();
        shown_key = "the key of --accept-key-file".to_owned();
        spec.accepted_key = Some(secret);
    }
    if !deny.is_empty() {
        spec.denied = denied(&deny)?;
    }
    setup::block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.map_err(|e| {
            Error::usage(format!("--port {port}: {e}")).hint("pass another --port; 0 takes a free one")
        })?;
        let address = listener.local_addr().map_err(|e| Error::bug(e.to_string()))?;
        let account = Arc::new(fake::Account::new(spec));
        let url = format!("http://{address}");
        // Whoever has read the line may end the server at once.
        let interrupted = signals::interruption(None)?;
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
        let shutdown = shutdown(interrupted, until_stdin_closes);
        fake::serve_with(listener, account, faults, shutdown).await.map_err(|e| Error::bug(e.to_string()))
    })?;
    Ok(None)
}

/// The resources that are refused, by name.
fn denied(names: &[String]) -> Result<Vec<fake::Resource>> {
    let catalog = Catalog::embedded()?;
    let denied = |name: &String| {
        let resource = catalog.resolve(name).map_err(|e| e.context("--deny"))?;
        resource.name.parse().map_err(|_| Error::usage(format!("--deny: {name} has no list")))
    };
    names.iter().map(denied).collect()
}

/// The faults of a file, and over them those of the flags.
fn misbehaviour(file: Option<&Path>, latency: Option<&str>, rate_limit: Option<&str>) -> Result<Faults> {
    let mut faults = Faults::default();
    if let Some(path) = file {
        let wrong = |e: Error| e.context(format!("--faults {}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| wrong(Error::usage(e.to_string())))?;
        faults = Faults::parse(&text).map_err(wrong)?;
    }
    if let Some(latency) = latency {
        faults.latency = fake::parse_duration(latency).map_err(|e| e.context("--latency"))?;
    }
    if let Some(rates) = rate_limit {
        faults.rates = Some(rates.parse().map_err(|e: Error| e.context("--rate-limit"))?);
    }
    Ok(faults)
}

/// Done at a signal, or when whoever started the server has gone.
async fn shutdown(mut interrupted: watch::Receiver<Option<Kind>>, until_stdin_closes: bool) {
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
