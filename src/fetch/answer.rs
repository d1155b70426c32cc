//! Turns one response, or the lack of one, into what to do about it.

use bytes::Bytes;

use crate::catalog::LONGEST_ID;
use crate::error::{Error, Kind};
use crate::fetch::refusal::{
    certificate_hint, first_words, is_html, proxy_wants_password, refusal, stripe_error,
};
use crate::fetch::retry::Reason;
use crate::fetch::{Request, Response, TransportError};
use crate::redact::shown;

const A_PROXY_MAY_CHANGE_IT: &str =
    "a proxy between this machine and Stripe may change what passes through it";
const IN_TROUBLE: &str = "Stripe or a proxy before it is in trouble; run the same command again later";

/// What to do about a response.
pub enum Answer<T> {
    Accepted(Response, T),
    /// `resource_missing` for `starting_after`.
    CursorGone,
    /// No use in asking again.
    Refused(Error),
    /// Ask again, and fail with the error when patience ends.
    Retry(Reason, Error),
    /// Ask for less. With the start of what came.
    TooLarge(Error, Bytes),
}

/// Why a body of status 200 was not taken.
#[derive(Debug)]
pub enum Unfit {
    /// It is broken, and this is what is wrong; the next answer may not be.
    Broken(String),
    /// It says something that asking again does not change.
    Refused(Error),
}

pub fn judge<T>(
    request: &Request,
    response: Response,
    accept: impl FnOnce(&Response) -> Result<T, Unfit>,
) -> Answer<T> {
    if response.status == 200 {
        return match accept(&response) {
            Ok(value) => Answer::Accepted(response, value),
            Err(Unfit::Broken(what)) => Answer::Retry(Reason::Broken, broken(&response, &what)),
            Err(Unfit::Refused(error)) => {
                Answer::Refused(error.request_id(response.headers.request_id.as_deref()))
            }
        };
    }
    // There is nothing here that could have changed protocols, or that a 304 could be about.
    if let status @ (100..=199 | 201..=299 | 304) = response.status {
        let error = Error::stripe(format!("expected status 200, got {status}")).hint(A_PROXY_MAY_CHANGE_IT);
        return Answer::Retry(Reason::Broken, error.request_id(response.headers.request_id.as_deref()));
    }
    let stripe = stripe_error(&response);
    let is_cursor = stripe.code.as_deref() == Some("resource_missing")
        && stripe.param.as_deref() == Some("starting_after");
    if is_cursor && matches!(response.status, 400 | 404) {
        return Answer::CursorGone;
    }
    if let Some(reason) = reason_to_retry(&response) {
        let said = stripe.message.unwrap_or_default();
        let error =
            Error::stripe(format!("status {} {}", response.status, shown(&said, 200)).trim().to_owned())
                .request_id(response.headers.request_id.as_deref())
                .hint("Stripe or the network is in trouble; run the same command again later");
        return Answer::Retry(reason, error);
    }
    Answer::Refused(refusal(request, &response, stripe).request_id(response.headers.request_id.as_deref()))
}

pub fn judge_failure<T>(error: TransportError) -> Answer<T> {
    match error {
        TransportError::Unreachable(what) => Answer::Retry(
            Reason::Unreachable,
            Error::stripe(format!("network: {}", shown(&what, 300)))
                .hint("check the connection, the name server and --api-base, then run the same command again"),
        ),
        TransportError::Network(what) => Answer::Retry(
            Reason::Network,
            Error::stripe(format!("network: {}", shown(&what, 300)))
                .hint("check the connection and --api-base, then run the same command again"),
        ),
        TransportError::Garbled(what) => Answer::Retry(
            Reason::Broken,
            Error::stripe(format!("expected a gzip body, got a damaged one: {}", shown(&what, 100)))
                .hint(A_PROXY_MAY_CHANGE_IT),
        ),
        TransportError::Encoding(encoding) => Answer::Retry(
            Reason::Broken,
            Error::stripe(format!("expected a body in gzip, got one in {}", shown(&encoding, 40)))
                .hint(A_PROXY_MAY_CHANGE_IT),
        ),
        TransportError::Proxy { what, named, wants_password: true } => {
            let place = format!("{}, as http://name:password@host:port", shown(&named, 200));
            Answer::Refused(proxy_wants_password(&shown(&what, 300), &place))
        }
        TransportError::Proxy { what, named, wants_password: false } => Answer::Retry(
            Reason::Unreachable,
            Error::stripe(format!("network: {}", shown(&what, 300))).hint(format!(
                "the proxy {} must let connections to Stripe through; it may want a name and a password there, http://name:password@host:port",
                shown(&named, 200)
            )),
        ),
        TransportError::OtherVersion { asked, answered } => Answer::Refused(
            Error::usage(format!(
                "expected answers of Stripe's API version {asked}, got {}",
                shown(&answered, 60)
            ))
            .hint("set api_version to that version if this program knows it, or use a newer stripelake"),
        ),
        TransportError::Certificate(what) => Answer::Refused(
            Error::usage(format!("certificate: {}", shown(&what, 300))).hint(certificate_hint(&what)),
        ),
        TransportError::TooLarge { limit, start } => Answer::TooLarge(
            Error::new(Kind::Partial, format!("expected a body of at most {limit} bytes, got more"))
                .hint("if it is Stripe that answers, please report the size of that object; else see what stands in between"),
            start,
        ),
    }
}

/// The id of the first object of a page of which only the start is known.
pub fn first_id(start: &[u8]) -> Option<String> {
    let after = |text: &[u8], word: &[u8]| {
        let at = text.windows(word.len()).position(|part| part == word)?;
        Some(text[at + word.len()..].trim_ascii_start().to_vec())
    };
    let data = after(&after(start, b"\"data\"")?, b"[")?;
    let id = after(&after(&data, b"\"id\"")?, b"\"")?;
    let id = &id[..id.iter().position(|byte| *byte == b'"')?];
    let is_id = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (!id.is_empty() && id.len() <= LONGEST_ID && id.iter().all(is_id))
        .then(|| String::from_utf8_lossy(id).into_owned())
}

/// The order is that of Stripe's own libraries: what the server asks for goes first.
fn reason_to_retry(response: &Response) -> Option<Reason> {
    let headers = &response.headers;
    let after = headers.retry_after_secs;
    match (response.status, &headers.rate_limited_reason, headers.should_retry) {
        (429, Some(reason), _) => Some(Reason::RateLimited(shown(reason, 40), after)),
        (429, None, _) | (409 | 423, _, _) => Some(Reason::LockTimeout(after)),
        (500..=599, _, Some(false)) => Some(Reason::ServerFinal(response.status, after)),
        (408 | 425 | 500..=599, _, _) => Some(Reason::Server(response.status, after)),
        (status, _, Some(true)) => Some(Reason::Server(status, after)),
        _ => None,
    }
}

/// A body that is no page: says what came, and whether a proxy may have sent it.
fn broken(response: &Response, what: &str) -> Error {
    let id = response.headers.request_id.as_deref();
    if is_html(response) {
        let kind = shown(response.headers.content_type.as_deref().unwrap_or("no content type"), 40);
        return Error::stripe(format!("expected JSON, got HTML ({kind}): {}", first_words(response)))
            .request_id(id)
            .hint("a proxy or login page may stand between this machine and Stripe");
    }
    if response.body.trim_ascii().is_empty() || !response.body.trim_ascii_start().starts_with(b"{") {
        let got = match response.body.is_empty() {
            true => "nothing".to_owned(),
            false => first_words(response),
        };
        return Error::stripe(format!("expected JSON, got: {got}")).request_id(id).hint(IN_TROUBLE);
    }
    if let Some(message) = stripe_error(response).message {
        return Error::new(
            Kind::Partial,
            format!("expected a page or an object, got an error: {}", shown(&message, 200)),
        )
        .request_id(id)
        .hint(IN_TROUBLE);
    }
    Error::new(Kind::Partial, format!("expected a page or an object, got a broken one: {}", shown(what, 200)))
        .request_id(id)
        .hint("nothing of the page was taken; run the same command again")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said about an answer that is not taken, and the hint.
    fn said(status: u16, body: &str) -> (String, String) {
        let response =
            Response { status, body: Bytes::copy_from_slice(body.as_bytes()), ..Response::default() };
        let accept = |_: &Response| Err::<(), _>(Unfit::Broken("no page".to_owned()));
        let (Answer::Refused(error) | Answer::Retry(_, error)) =
            judge(&Request::new("/v1/charges"), response, accept)
        else {
            panic!("{status}: not an error");
        };
        (error.to_string(), error.hint_text().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_hint_is_about_who_has_answered() {
        for status in [400, 401, 403, 404, 451] {
            let hint = said(status, "\n<html>Blocked").1;
            assert!(hint.contains("filter"), "{status}: {hint}");
        }
        for (status, hint) in
            [(401, "apikeys"), (403, "grant"), (404, "--exclude"), (413, "later"), (301, "--api-base")]
        {
            let (_, got) = said(status, r#"{"error":{"message":"No."}}"#);
            assert!(got.contains(hint), "{status}: {got}");
        }
        let (what, hint) = said(200, r#"{"error":{"message":"Sorry, we are closed."}}"#);
        assert!(what.contains("we are closed") && hint.contains("later"), "{what}, {hint}");
    }
}
