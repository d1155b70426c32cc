//! Turns a response, and what is wrong with it, into bytes on a connection.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fault::{BadGzip, Damage, Fault, Moment, Refusal};
use super::request::Response;

/// No fault keeps a connection longer.
const LONGEST: Duration = Duration::from_secs(600);
/// Until the other side has surely read what was sent.
const ARRIVAL: Duration = Duration::from_millis(50);
const MEGABYTE: usize = 1 << 20;

/// Sends a whole response.
pub(super) async fn send(stream: &mut TcpStream, response: &Response, keeps_open: bool) -> io::Result<()> {
    let mut bytes = head(response, &[("Content-Length", &response.body.len().to_string())], keeps_open);
    bytes.extend_from_slice(&response.body);
    stream.write_all(&bytes).await
}

/// Sends a response in the way of a fault of the connection; afterwards it is closed.
pub(super) async fn send_badly(stream: &mut TcpStream, response: &Response, fault: &Fault) -> io::Result<()> {
    let body = &response.body;
    let length = body.len().to_string();
    let whole = head(response, &[("Content-Length", &length)], true);
    match fault {
        Fault::Hang => wait_for_end(stream).await,
        Fault::Reset(Moment::BeforeHead) => stream.set_zero_linger(),
        Fault::Reset(Moment::InBody) => {
            stream.write_all(&whole).await?;
            stream.write_all(&body[..body.len() / 2]).await?;
            tokio::time::sleep(ARRIVAL).await;
            stream.set_zero_linger()
        }
        Fault::Reset(Moment::AfterBody) => {
            stream.write_all(&whole).await?;
            stream.write_all(body).await?;
            tokio::time::sleep(ARRIVAL).await;
            stream.set_zero_linger()
        }
        Fault::NoLastChunk => {
            stream.write_all(&head(response, &[("Transfer-Encoding", "chunked")], true)).await?;
            stream.write_all(format!("{:x}\r\n", body.len()).as_bytes()).await?;
            stream.write_all(body).await?;
            stream.write_all(b"\r\n").await
        }
        Fault::Drip { head: true, pause } => drip(stream, &whole, *pause).await,
        Fault::Drip { head: false, pause } => {
            stream.write_all(&whole).await?;
            drip(stream, body, *pause).await
        }
        Fault::Endless(megabytes) => endless(stream, response, *megabytes).await,
        _ => {
            stream.write_all(&whole).await?;
            stream.write_all(&body[..body.len() / 2]).await
        }
    }
}

fn head(response: &Response, more: &[(&str, &str)], keeps_open: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status)).into_bytes();
    let own = response.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let connection = (!keeps_open).then_some(("Connection", "close"));
    for (name, value) in own.chain(more.iter().copied()).chain(connection) {
        // A version or redirect that was given may hold anything; a header may not.
        if value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 | 302 | 303 | 307 | 308 => "Elsewhere",
        400..=499 => "Refused",
        500..=599 => "Failed",
        _ => "Odd",
    }
}

/// Says nothing until the client leaves.
async fn wait_for_end(stream: &mut TcpStream) -> io::Result<()> {
    let mut rest = [0; 64];
    let gone = async { while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
    let _ = tokio::time::timeout(LONGEST, gone).await;
    Ok(())
}

async fn drip(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> io::Result<()> {
    let all = async {
        for byte in bytes {
            stream.write_all(&[*byte]).await?;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    };
    tokio::time::timeout(LONGEST, all).await.unwrap_or(Ok(()))
}

/// White space in the middle of a page, for as long as the client reads it.
async fn endless(stream: &mut TcpStream, response: &Response, megabytes: usize) -> io::Result<()> {
    stream.write_all(&head(response, &[("Transfer-Encoding", "chunked")], true)).await?;
    let start = br#"{"object": "list", "data": ["#;
    stream.write_all(format!("{:x}\r\n", start.len()).as_bytes()).await?;
    stream.write_all(start).await?;
    let mut chunk = b"\r\n100000\r\n".to_vec();
    chunk.resize(chunk.len() + MEGABYTE, b' ');
    for _ in 0..megabytes {
        stream.write_all(&chunk).await?;
    }
    Ok(())
}

/// The error that a rule asks for, with the headers of the answer it takes the place of.
pub(super) fn refuse(response: &mut Response, refusal: &Refusal) {
    let Refusal { status, kind, code, message, param, reason, should_retry, retry_after } = refusal;
    let usual = match status {
        429 => "rate_limit_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let mut error = json!({
        "type": kind.as_deref().unwrap_or(usual),
        "message": message.as_deref().unwrap_or("The script of the fake account says so."),
    });
    for (name, value) in [("code", code), ("param", param)] {
        if let Some(value) = value {
            error[name] = value.as_str().into();
        }
    }
    response.status = *status;
    response.body = Bytes::from(serde_json::to_vec_pretty(&json!({ "error": error })).unwrap_or_default());
    let should_retry = should_retry.map(|flag| flag.to_string());
    let retry_after = retry_after.map(|secs| secs.to_string());
    for (name, value) in [
        ("Stripe-Rate-Limited-Reason", reason),
        ("Stripe-Should-Retry", &should_retry),
        ("Retry-After", &retry_after),
    ] {
        response.headers.extend(value.clone().map(|value| (name, value)));
    }
}

/// What a proxy or a login page would send.
pub(super) fn web_page(response: &mut Response, status: u16) {
    response.status = status;
    response.headers.retain(|(name, _)| *name != "Content-Type" && *name != "Request-Id");
    response.headers.push(("Content-Type", "text/html".to_owned()));
    let page = "<!DOCTYPE html>\n<html><body>Welcome to our Wi-Fi. \u{1b}[31mPlease log in.</body></html>\n";
    response.body = Bytes::from_static(page.as_bytes());
}

/// Puts something wrong into a page.
pub(super) fn damage(response: &mut Response, damage: Damage) {
    let body = &response.body;
    let text = match damage {
        Damage::Garbage => b"{\"object\": \"list\", \"data\": [{\"id\": \"ch_1\", ".to_vec(),
        Damage::Empty => Vec::new(),
        Damage::Nul => [&body[..body.len() / 2], b"\0\0", &body[body.len() / 2..]].concat(),
        Damage::Trailing => [body, &b" and more"[..]].concat(),
        _ => match serde_json::from_slice::<Value>(body) {
            Ok(mut page) => {
                damage_value(&mut page, damage);
                serde_json::to_vec_pretty(&page).unwrap_or_default()
            }
            Err(_) => body.to_vec(),
        },
    };
    response.body = Bytes::from(text);
}

fn damage_value(page: &mut Value, damage: Damage) {
    let Value::Object(members) = page else { return };
    let mut put = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    match damage {
        Damage::HasMoreText => put("has_more", "true".into()),
        Damage::HasMoreNull => put("has_more", Value::Null),
        Damage::HasMoreAlways => put("has_more", true.into()),
        Damage::NoMore => put("has_more", false.into()),
        Damage::DataObject => put("data", json!({})),
        Damage::NoList => put("object", "page".into()),
        Damage::NoHasMore => drop(members.shift_remove("has_more")),
        Damage::NoData => drop(members.shift_remove("data")),
        _ => {
            for object in members.get_mut("data").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(livemode) = object.get_mut("livemode") {
                    *livemode = (!livemode.as_bool().unwrap_or_default()).into();
                }
            }
        }
    }
}

/// Compresses the body, properly or not.
pub(super) fn pack(response: &mut Response, bad: Option<BadGzip>) {
    response.headers.push(("Content-Encoding", "gzip".to_owned()));
    let mut gzip = match bad {
        Some(BadGzip::Plain) => return,
        _ => gzip(&response.body),
    };
    match bad {
        Some(BadGzip::Truncated) => gzip.truncate(gzip.len() - 9),
        Some(BadGzip::Crc) => {
            let crc = gzip.len() - 6;
            gzip[crc] ^= 1;
        }
        _ => {}
    }
    response.body = Bytes::from(gzip);
}

pub(super) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4 + 64), Compression::fast());
    encoder.write_all(body).expect("a vector takes every byte");
    encoder.finish().expect("a vector takes every byte")
}

/// So many megabytes of white space in a page, compressed to about a thousandth.
pub(super) fn bomb(megabytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let space = vec![b' '; MEGABYTE];
    encoder.write_all(br#"{"object": "list", "data": ["#).expect("a vector takes every byte");
    for _ in 0..megabytes {
        encoder.write_all(&space).expect("a vector takes every byte");
    }
    encoder.write_all(br#"], "has_more": false}"#).expect("a vector takes every byte");
    encoder.finish().expect("a vector takes every byte")
}
