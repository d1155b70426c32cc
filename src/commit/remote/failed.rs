//! Turns errors of an object store into ours, with what helps.

use object_store::Error as StoreError;

use crate::commit::remote::tags::ALTERED;
use crate::error::{Error, causes};
use crate::redact::Secrets;

/// What a request for `path` has come to.
pub fn failed(location: &str, path: &str, error: &StoreError, secrets: &Secrets) -> Error {
    let text = said(error, secrets);
    let hint = match error {
        StoreError::InvalidPath { .. } => {
            "a key there is no path, with an empty or dotted part or a control character: move that object away"
        }
        _ => hint(&text),
    };
    Error::destination(format!("{location}/{path}: {text}")).hint(hint)
}

/// What the store has said, or what has become of it on the way.
pub fn said(error: &StoreError, secrets: &Secrets) -> String {
    without(&chain(error), secrets)
}

pub fn without(text: &str, secrets: &Secrets) -> String {
    without_tokens(&secrets.without(text))
}

/// S3 tells a token that it refuses, also that of a role, which no variable holds; and the request that was signed, as text and
/// as bytes, with the token in its headers.
fn without_tokens(text: &str) -> String {
    ["Token-", "CanonicalRequest"]
        .iter()
        .fold(text.to_owned(), |text, element| without_element(&text, element))
}

/// Without what stands in the elements whose names begin so.
fn without_element(text: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}"), format!("</{name}"));
    let mut parts = text.split(&open);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(&format!("{open}..."));
        shown.push_str(part.split_once(&close).map_or("", |(_, rest)| rest));
    }
    shown
}

/// By the code in the store's answer, which says more than the status.
fn hint(text: &str) -> &'static str {
    let says = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
    if says(&["NoSuchBucket"]) {
        "create the bucket, or correct --lake"
    } else if says(&["RequestTimeTooSkewed"]) {
        "set this machine's clock"
    } else if says(&["ExpiredToken", "InvalidToken", "TokenRefreshRequired"]) {
        "renew the credentials: AWS_SESSION_TOKEN with the keys that belong to it, or those of the machine's or pod's role"
    } else if says(&["SignatureDoesNotMatch", "InvalidAccessKeyId"]) {
        "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    } else if says(&["QuotaExceeded", "InsufficientStorage"]) || status(text) == Some(507) {
        "make room in the store, or choose another --lake"
    } else if says(&[ALTERED]) {
        "something between here and the store changes what is sent: reach it by TLS and without that proxy; the object is damaged there, and the next run says how to make it anew"
    } else if says(&["invalid multipart response", "NoSuchUpload"]) {
        "the store has not put the parts of a large file together, or has no longer had them: run the same command again, and see the store's own log if that is no help"
    } else if says(&["SlowDown", "ServiceUnavailable", "InternalError"])
        || status(text).is_some_and(|status| matches!(status, 429 | 500 | 502..=504))
    {
        "the store is busy or in trouble: run the same command again later"
    } else if says(&["/latest/api/token", "/latest/meta-data"]) {
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine or pod a role: it has none that it may use"
    } else if says(&["AccessDenied"]) || status(text) == Some(403) {
        "allow s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket on the lake's prefix"
    } else {
        "check the AWS_* variables and AWS_ENDPOINT_URL, then run the same command again"
    }
}

/// The status of the answer, as object_store writes it.
pub fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// A missing bucket is "not found" too, but no reason to go on.
pub fn is_missing_object(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound { .. }) && !chain(error).contains("NoSuchBucket")
}

/// The error and its causes, each said once, on one line.
pub fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    for cause in causes(error) {
        let next = cause.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As object_store tells of an answer.
    fn said(status: &str, code: &str) -> String {
        let request = "Error performing GET http://127.0.0.1:14035/lake/x in 2ms";
        format!(
            "{request} - Server returned non-2xx status code: {status}: <Error><Code>{code}</Code></Error>"
        )
    }

    #[test]
    fn a_hint_is_about_what_the_store_has_said() {
        let cases = [
            ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
            ("403 Forbidden", "ExpiredToken", "renew the credentials"),
            ("400 Bad Request", "ExpiredToken", "renew the credentials"),
            ("400 Bad Request", "InvalidToken", "renew the credentials"),
            ("403 Forbidden", "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
            ("403 Forbidden", "AccessDenied", "s3:PutObject"),
            ("403 Forbidden", "", "s3:PutObject"),
            ("403 Forbidden", "PUT http://169.254.169.254/latest/api/token", "AWS_ACCESS_KEY_ID"),
            ("404 Not Found", "NoSuchBucket", "create the bucket"),
            // The port has the digits.
            ("501 Not Implemented", "NotImplemented", "AWS_ENDPOINT_URL"),
            ("503 Service Unavailable", "SlowDown", "busy"),
            ("503 Service Unavailable", "", "busy"),
            ("429 Too Many Requests", "", "busy"),
            ("403 Forbidden", "QuotaExceeded", "make room"),
            ("507 Insufficient Storage", "", "make room"),
            ("404 Not Found", "NoSuchUpload", "parts"),
            ("500 Internal Server Error", "InternalError", "later"),
        ];
        for (status, code, expected) in cases {
            let hint = hint(&said(status, code));
            assert!(hint.contains(expected), "{status} {code}: {hint}");
        }
    }

    #[test]
    fn a_token_that_the_store_tells_is_not_shown() {
        let text = "<Code>ExpiredToken</Code><Token-0>abc</Token-0><RequestId>7</RequestId><Token-1>d";
        assert_eq!(
            without_tokens(text),
            "<Code>ExpiredToken</Code><Token-...0><RequestId>7</RequestId><Token-..."
        );
        let text = "<CanonicalRequest>x-amz-security-token:abc</CanonicalRequest><CanonicalRequestBytes>61 62</CanonicalRequestBytes><HostId>";
        assert_eq!(without_tokens(text), "<CanonicalRequest...><CanonicalRequest...Bytes><HostId>");
    }

    #[test]
    fn a_key_that_is_no_path_is_named() {
        let source = object_store::path::Path::parse("lake/table//x.parquet").unwrap_err();
        let error = failed("s3://lake", "table", &source.into(), &Secrets::default());
        assert!(error.to_string().contains("lake/table//x.parquet"), "{error}");
        assert!(error.hint_text().unwrap().contains("move that object away"), "{:?}", error.hint_text());
    }
}
