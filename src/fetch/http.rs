//! Turns a request into an HTTPS exchange with Stripe.
//!
//! The key travels only in the `Authorization` header, to one origin: redirects are not followed. The
//! body is asked for in gzip and inflated here, with a limit on both sizes.

mod authorities;
mod proxy;

use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use futures::StreamExt;
use futures::future::BoxFuture;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, HeaderMap, HeaderValue,
};
use reqwest::{Client, ClientBuilder, NoProxy, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::error::{Error, Result, causes};
use crate::fetch::buffers::Buffers;
use crate::fetch::gunzip::gunzip;
use crate::fetch::http::proxy::Proxy;
use crate::fetch::{Headers, Request, Response, Transport, TransportError};
use crate::redact::{hide, shown, without_userinfo};

pub use authorities::Authorities;

/// An inflated body larger than this is refused; 100 objects take about 0.4 MB.
pub const MAX_BODY: usize = 64 << 20;
/// For names, all addresses and TLS: at least so long, or a quarter of a request's time. A dead name server takes five seconds,
/// and a dead address before the good one as many.
const CONNECT: Duration = Duration::from_secs(10);
/// For one request in all, as in Stripe's own libraries.
pub const TOTAL: Duration = Duration::from_secs(80);
/// How long an HTTP/2 connection may be silent before it is asked whether it is alive, and may take to answer.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A slow line may take so long for the answer to that.
const LEAST_PONG: Duration = Duration::from_secs(2);
/// Bodies over this size are read by few requests at once.
const LARGE: usize = 8 << 20;
const LARGE_AT_ONCE: usize = 2;
/// What gzip may make of a body of [`LARGE`] bytes and more; Stripe's pages shrink to a tenth, a bomb to a
/// thousandth.
const MAX_RATIO: usize = 200;
/// What is kept of a body that is refused: enough to say whose it is.
const START: usize = 1024;

/// Stripe's API over HTTP.
#[derive(Debug)]
pub struct Http {
    client: Client,
    base: Url,
    /// Where the proxy is that requests go through.
    proxy: Option<String>,
    stripe_version: String,
    large: Semaphore,
    /// For bodies as they are sent, and as they are inflated.
    raw: Buffers,
    buffers: Buffers,
}

/// What a user may set about connections.
#[derive(Debug, Clone)]
pub struct Connection {
    /// For one request in all. Without a byte for three eighths of it, a connection is given up.
    pub timeout: Duration,
    /// Whom to trust besides the usual authorities.
    pub ca: Option<Authorities>,
}

impl Default for Connection {
    fn default() -> Connection {
        Connection { timeout: TOTAL, ca: None }
    }
}

impl Http {
    /// `base` is https, or http on a loopback address, without a path.
    pub fn new(base: &str, key: &SecretString, stripe_version: &str) -> Result<Http> {
        Http::with(base, key, stripe_version, &Connection::default())
    }

    /// The same with settings of the user's. From now on the key is in no text that is shown: an answer may
    /// repeat it.
    pub fn with(
        base: &str,
        key: &SecretString,
        stripe_version: &str,
        connection: &Connection,
    ) -> Result<Http> {
        let Connection { timeout, ca } = connection;
        hide(key.expose_secret());
        let base = parse_base(base).map_err(|e| e.context("--api-base"))?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
            .map_err(|_| Error::usage("expected a key of letters, digits and _, got other characters"))?;
        authorization.set_sensitive(true);
        let version = HeaderValue::from_str(stripe_version)
            .map_err(|_| Error::usage(format!("expected an API version, got \"{stripe_version}\"")))?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization);
        headers.insert("stripe-version", version);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        // A first page has the same URL in each run.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        let ping = PING_EVERY.min(*timeout / 4);
        let mut builder = Client::builder()
            .default_headers(headers)
            .user_agent(concat!("stripelake/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT.max(*timeout / 4).min(*timeout))
            .read_timeout(*timeout * 3 / 8)
            .timeout(*timeout)
            // A connection that has died in silence serves all requests of HTTP/2, and would fail each repeat, too.
            .http2_keep_alive_interval(ping)
            .http2_keep_alive_timeout(ping.max(LEAST_PONG));
        if let Some(ca) = ca {
            builder = ca.certificates()?.into_iter().fold(builder, ClientBuilder::add_root_certificate);
        }
        builder = builder.no_proxy();
        let mut proxy = None;
        if base.scheme() == "http" {
            // Nobody needs the system's certificates here, which take longer to read than a small account.
            builder = builder.tls_built_in_root_certs(false);
        } else {
            (builder, proxy) = through_proxy(builder.https_only(true))?;
        }
        let client = builder.build().map_err(|e| match ca {
            Some(ca) => ca.wrong(&with_causes(&e)),
            None => Error::bug(format!("http client: {}", with_causes(&e))),
        })?;
        Ok(Http {
            client,
            base,
            proxy,
            stripe_version: stripe_version.to_owned(),
            large: Semaphore::new(LARGE_AT_ONCE),
            raw: Buffers::default(),
            buffers: Buffers::default(),
        })
    }

    async fn exchange(&self, request: &Request) -> std::result::Result<Response, TransportError> {
        let mut url = self.base.clone();
        url.set_path(&request.path);
        url.query_pairs_mut().extend_pairs(&request.query);
        if request.query.is_empty() {
            url.set_query(None);
        }
        let failed = |error| self.failed(error);
        let response = self.client.get(url).send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let encoding =
            response.headers().get(CONTENT_ENCODING).map(|v| String::from_utf8_lossy(v.as_bytes()));
        let encoding = encoding.map_or_else(String::new, |text| text.trim().to_ascii_lowercase());
        // The same by another name. <https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.3>
        let is_gzip = matches!(encoding.as_str(), "gzip" | "x-gzip");
        if status == 200 && !is_gzip && !matches!(encoding.as_str(), "identity" | "") {
            return Err(TransportError::Encoding(encoding));
        }
        let answered = response.headers().get("stripe-version").and_then(|v| v.to_str().ok());
        if let Some(answered) = answered.filter(|answered| status == 200 && *answered != self.stripe_version)
        {
            let (asked, answered) = (self.stripe_version.clone(), answered.to_owned());
            return Err(TransportError::OtherVersion { asked, answered });
        }
        let headers = headers(response.headers());
        let mut raw = self.raw.take(0);
        raw.clear();
        let mut permit = None;
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            raw.extend_from_slice(&chunk.map_err(failed)?);
            if raw.len() > MAX_BODY {
                // Without inflating there is nothing to read in it.
                return Err(too_large(MAX_BODY, if is_gzip { &[] } else { &raw }));
            }
            if raw.len() > LARGE && permit.is_none() {
                permit = Some(self.large.acquire().await.expect("it is never closed"));
            }
        }
        if !is_gzip {
            return Ok(Response { status, headers, body: Bytes::from(raw) });
        }
        let body = inflate(&raw, &self.buffers)?;
        self.raw.keep(raw);
        Ok(Response { status, headers, body })
    }

    /// The whole chain of causes, since the first level only says that sending failed. Of the URL only
    /// the origin is named: a cursor is noise.
    fn failed(&self, error: reqwest::Error) -> TransportError {
        let error = error.without_url();
        let is_connect = error.is_connect();
        let said = with_causes(&error);
        let says = |what: &str| said.contains(what);
        let text = format!("{}: {said}", self.base.origin().ascii_serialization());
        if says("certificate") || says("UnknownIssuer") || says("CertificateRequired") {
            TransportError::Certificate(text)
        } else if let Some(named) = self.proxy.clone().filter(|_| says("tunnel error")) {
            let wants_password = says("authorization required");
            TransportError::Proxy { what: text, named, wants_password }
        } else if is_connect {
            // It may be one of those that are reached without it.
            let proxy = self.proxy.iter().map(|named| format!(" (a proxy is set: {named})"));
            TransportError::Unreachable(text + &proxy.collect::<String>())
        } else {
            TransportError::Network(text)
        }
    }
}

/// The error and what is behind it.
fn with_causes(error: &reqwest::Error) -> String {
    causes(error).fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl Transport for Http {
    fn get<'a>(
        &'a self,
        request: &'a Request,
    ) -> BoxFuture<'a, std::result::Result<Response, TransportError>> {
        Box::pin(self.exchange(request))
    }
}

/// A client that goes through the proxy of the environment, if there is one, and where that is. Left to itself, the client
/// would pass over a proxy that it cannot use.
fn through_proxy(builder: ClientBuilder) -> Result<(ClientBuilder, Option<String>)> {
    let variable = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
    let Some(named) = Proxy::named(variable)? else { return Ok((builder, None)) };
    let wrong = |e: reqwest::Error| Error::usage(format!("{}: {}", named.place(), with_causes(&e)));
    let proxy = reqwest::Proxy::https(named.url.clone()).map_err(wrong)?.no_proxy(NoProxy::from_env());
    Ok((builder.proxy(proxy), Some(named.place())))
}

/// Accepts https, and http only where the key cannot leave the machine.
pub fn parse_base(base: &str) -> Result<Url> {
    let wrong = |why: &str| {
        Error::usage(format!(
            "expected https, or http on a loopback address, got \"{}\" ({why})",
            without_userinfo(base)
        ))
    };
    let url = Url::parse(base).map_err(|e| wrong(&e.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("credentials do not belong into a URL"));
    }
    let is_loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(wrong("a path does not belong there"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback => Ok(url),
        "http" => Err(wrong("the key would travel in the clear")),
        _ => Err(wrong("unknown scheme")),
    }
}

fn headers(map: &HeaderMap) -> Headers {
    let text = |name: &str| map.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let date = text("date").and_then(|text| unix_secs(&text));
    let local = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    Headers {
        request_id: text("request-id").map(|id| shown(&id, 60)),
        date,
        content_type: text("content-type"),
        location: text("location"),
        rate_limited_reason: text("stripe-rate-limited-reason"),
        should_retry: text("stripe-should-retry").and_then(|t| t.parse().ok()),
        retry_after_secs: text("retry-after").and_then(|text| {
            // The server's clock, since this machine's may be wrong.
            retry_after(&text, date.unwrap_or_else(local))
        }),
    }
}

/// `Retry-After` in seconds: a number of them, or a date. RFC 9110, section 10.2.3.
fn retry_after(text: &str, now: i64) -> Option<u64> {
    let text = text.trim();
    text.parse().ok().or_else(|| unix_secs(text).map(|at| at.saturating_sub(now).max(0) as u64))
}

fn unix_secs(date: &str) -> Option<i64> {
    let at = httpdate::parse_http_date(date).ok()?;
    at.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs() as i64)
}

fn too_large(limit: usize, body: &[u8]) -> TransportError {
    let start = Bytes::copy_from_slice(&body[..body.len().min(START)]);
    TransportError::TooLarge { limit, start }
}

/// Runs without a pause, so at most one large body per processor is being made.
fn inflate(raw: &[u8], buffers: &Buffers) -> std::result::Result<Bytes, TransportError> {
    if let Some(body) = gunzip(raw, LARGE, buffers) {
        return Ok(body);
    }
    let mut body = Vec::with_capacity(raw.len().saturating_mul(6).min(LARGE));
    let limit = raw.len().saturating_mul(MAX_RATIO).clamp(LARGE, MAX_BODY);
    let mut decoder = MultiGzDecoder::new(raw).take(limit as u64 + 1);
    decoder.read_to_end(&mut body).map_err(|e| TransportError::Garbled(e.to_string()))?;
    if body.len() > limit {
        return Err(too_large(limit, &body));
    }
    Ok(Bytes::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n14_the_key_goes_only_to_https_or_this_machine() {
        for base in ["https://api.stripe.com", "http://127.0.0.1:80", "http://localhost:1", "http://[::1]:1"]
        {
            assert!(parse_base(base).is_ok(), "{base}");
        }
        for base in [
            "http://api.stripe.com",
            "http://10.0.0.1",
            "ftp://x",
            "api.stripe.com",
            "https://user:pw@x",
            "http://127.0.0.1.example.com",
        ] {
            assert!(parse_base(base).is_err(), "{base}");
        }
        for base in ["https://joe:s3cret@x", "https://joe:s3c#ret@x", "joe:s3cret@x"] {
            let said = parse_base(base).unwrap_err().to_string();
            assert!(said.contains("@x") && !said.contains("s3c"), "{said}");
        }
    }

    #[test]
    fn n1_retry_after_is_a_number_or_a_date_by_the_servers_clock() {
        let with = |pairs: &[(&'static str, &str)]| {
            let values = pairs.iter().map(|(name, value)| {
                (reqwest::header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            });
            headers(&values.collect()).retry_after_secs
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(with(&[("retry-after", "7")]), Some(7));
        assert_eq!(with(&[date, ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), Some(30));
        assert_eq!(with(&[date, ("retry-after", "Sunday, 06-Nov-94 08:49:38 GMT")]), Some(1));
        assert_eq!(with(&[date, ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")]), Some(0));
        // Without the server's clock, by this one.
        assert_eq!(with(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), Some(0));
        assert!(with(&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")]) > Some(1 << 30));
        for text in ["", "soon", "-1", "1.5", "Sun, 06 Nov 1994"] {
            assert_eq!(with(&[date, ("retry-after", text)]), None, "{text}");
        }
    }

    /// So many MiB of one text, then as many of noise, compressed.
    fn gzipped(n_plain: usize, n_noise: usize) -> Vec<u8> {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..n_plain {
            gzip.write_all(&vec![b' '; 1 << 20]).unwrap();
        }
        for _ in 0..n_noise {
            gzip.write_all(&std::iter::repeat_with(|| random.u8(..)).take(1 << 20).collect::<Vec<_>>())
                .unwrap();
        }
        gzip.finish().unwrap()
    }

    #[test]
    fn n16_a_body_that_inflates_over_the_limit_is_refused() {
        let limit = |raw: &[u8]| match inflate(raw, &Buffers::default()) {
            Ok(body) => Err(body.len()),
            Err(TransportError::TooLarge { limit, .. }) => Ok(limit),
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(limit(&gzipped(63, 2)), Ok(MAX_BODY));
        assert_eq!(limit(&gzipped(62, 1)), Err(63 << 20));
        // A bomb stops long before; small bodies may shrink as they like.
        assert_eq!(limit(&gzipped(63, 0)), Ok(gzipped(63, 0).len() * MAX_RATIO));
        assert_eq!(limit(&gzipped(9, 0)), Ok(LARGE));
        assert_eq!(limit(&gzipped(7, 0)), Err(7 << 20));
    }

    #[test]
    fn n8_a_truncated_or_false_gzip_body_is_refused() {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(br#"{"object":"list"}"#).unwrap();
        let whole = gzip.finish().unwrap();
        assert!(inflate(&whole, &Buffers::default()).is_ok());
        assert!(inflate(&whole[..whole.len() - 9], &Buffers::default()).is_err());
        let mut damaged = whole.clone();
        let crc = damaged.len() - 6;
        damaged[crc] ^= 1;
        assert!(inflate(&damaged, &Buffers::default()).is_err());
        assert!(inflate(br#"{"object":"list"}"#, &Buffers::default()).is_err());
    }
}
