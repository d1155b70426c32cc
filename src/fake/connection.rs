//! Turns the bytes of a connection into requests.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::request::{Request, parse_authorization, parse_query};

/// Room for a request's head.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 64;
/// A body that is sent along is read and forgotten, up to here.
const MAX_BODY: usize = 1 << 20;
/// A connection on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(120);

/// One request, and whether another may follow on its connection.
pub(super) struct Asked {
    pub request: Request,
    pub keeps_open: bool,
}

/// The next request; `None` when the client has left. `buffer` holds what was read too far.
pub(super) async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Asked>> {
    loop {
        if let Some((head_len, body_len, asked)) = parse(buffer)? {
            let end = head_len + body_len;
            while buffer.len() < end {
                if !read_some(stream, buffer).await? {
                    return Ok(None);
                }
            }
            buffer.drain(..end);
            return Ok(Some(asked));
        }
        if buffer.len() > MAX_HEAD {
            return Err(invalid("expected a request of at most 64 KiB"));
        }
        if !read_some(stream, buffer).await? {
            return Ok(None);
        }
    }
}

async fn read_some(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<bool> {
    match tokio::time::timeout(IDLE, stream.read_buf(buffer)).await {
        Ok(n) => Ok(n? > 0),
        Err(_) => Ok(false),
    }
}

/// The request in the buffer with the lengths of its head and body, once its head is complete.
fn parse(buffer: &[u8]) -> io::Result<Option<(usize, usize, Asked)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let status = head.parse(buffer).map_err(|e| invalid(&e.to_string()))?;
    let httparse::Status::Complete(head_len) = status else { return Ok(None) };
    let text = |name: &str| {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let target = head.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        method: head.method.unwrap_or("GET").to_owned(),
        path: path.to_owned(),
        query: parse_query(query),
        key: text("authorization").and_then(parse_authorization),
        stripe_version: text("stripe-version").map(str::to_owned),
        accepts_gzip: text("accept-encoding").is_some_and(|codings| codings.contains("gzip")),
    };
    let says_close = text("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let body_len = text("content-length").map_or(Ok(0), str::parse::<usize>);
    let body_len = body_len.map_err(|_| invalid("expected a number in Content-Length"))?;
    // What cannot be skipped ends the connection after the answer.
    let is_odd = text("transfer-encoding").is_some() || text("expect").is_some() || body_len > MAX_BODY;
    let keeps_open = !says_close && !is_odd && head.version == Some(1);
    Ok(Some((head_len, if is_odd { 0 } else { body_len }, Asked { request, keeps_open })))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_follow_each_other_on_one_connection() {
        let bytes = b"GET /v1/charges?limit=2 HTTP/1.1\r\nAuthorization: Bearer rk_test_1\r\nAccept-Encoding: gzip\r\n\r\n\
            POST /v1/charges HTTP/1.1\r\nContent-Length: 3\r\n\r\na=bGET /v1/account HTTP/1.1\r\nConnection: close\r\n\r\n";
        let (mut stream, mut buffer) = (&bytes[..], Vec::new());
        let first = read_request(&mut stream, &mut buffer).await.unwrap().unwrap();
        assert_eq!(
            (first.request.path.as_str(), first.request.key.as_deref()),
            ("/v1/charges", Some("rk_test_1"))
        );
        assert!(first.request.accepts_gzip && first.keeps_open);
        let second = read_request(&mut stream, &mut buffer).await.unwrap().unwrap();
        assert_eq!((second.request.method.as_str(), second.keeps_open), ("POST", true));
        let third = read_request(&mut stream, &mut buffer).await.unwrap().unwrap();
        assert_eq!((third.request.path.as_str(), third.keeps_open), ("/v1/account", false));
        assert!(read_request(&mut stream, &mut buffer).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_no_http_is_an_error() {
        let (mut stream, mut buffer) = (&b"\x16\x03\x01 hello"[..], Vec::new());
        assert!(read_request(&mut stream, &mut buffer).await.is_err());
    }
}
