//! Turns what a server or a proxy says with a no into an error, and into what helps.

use serde::Deserialize;

use crate::error::{Error, Kind};
use crate::fetch::{Request, Response};
use crate::redact::{self, shown};

/// Stripe's error object. <https://docs.stripe.com/api/errors>
#[derive(Debug, Default, Deserialize)]
pub struct StripeError {
    #[serde(default)]
    pub code: Option<String>,
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default)]
    pub param: Option<String>,
}

/// What the body says of the error, as far as it is one of Stripe's.
pub fn stripe_error(response: &Response) -> StripeError {
    #[derive(Deserialize)]
    struct Body {
        error: StripeError,
    }
    serde_json::from_slice::<Body>(&response.body).map(|b| b.error).unwrap_or_default()
}

/// The error of an answer that says no, whatever may become of a repetition.
pub fn refusal(request: &Request, response: &Response, stripe: StripeError) -> Error {
    let said = shown(&stripe.message.clone().unwrap_or_else(|| first_words(response)), 300);
    let error = match response.status {
        401 => Error::new(Kind::Auth, format!("the key{} is not accepted: {said}", last_of_key()))
            .hint("make a new key at https://dashboard.stripe.com/apikeys"),
        403 => forbidden(&said),
        300..=399 => {
            let target = response.headers.location.as_deref().unwrap_or("nowhere");
            Error::usage(format!("expected an answer, got a redirect to {}", shown(target, 200)))
                .hint("redirects are not followed, since they would take the key along; correct --api-base")
        }
        407 => proxy_wants_password(&said, "HTTPS_PROXY=http://name:password@host:port"),
        status => Error::new(Kind::Partial, format!("{}: status {status}: {said}", request.path))
            .refused_with(status)
            .hint(hint(status, &stripe)),
    };
    match is_html(response) && !matches!(response.status, 300..=399 | 407) {
        true => error.hint(
            "this is no answer of Stripe's: a proxy or a filter may stand between this machine and Stripe",
        ),
        false => error,
    }
}

fn forbidden(said: &str) -> Error {
    let hint = match permission(said) {
        // A link that ticks it, for who would rather make a new key.
        Some(permission) => format!(
            "grant {permission} to the key in the dashboard, or make one that has it: https://dashboard.stripe.com/apikeys/create?name=stripelake&permissions[0]={permission}"
        ),
        None => {
            "grant read access to the key in the dashboard: https://dashboard.stripe.com/apikeys".to_owned()
        }
    };
    Error::new(Kind::Auth, format!("the key may not read this: {said}")).refused_with(403).hint(hint)
}

/// What helps where Stripe, or what stands before it, does not take a request.
fn hint(status: u16, stripe: &StripeError) -> String {
    let text = match (status, &stripe.param, stripe.code.as_deref()) {
        (_, _, Some("resource_missing")) => "what was asked for is gone; run the same command again",
        (400, Some(param), _) => {
            return format!("Stripe does not take {} here; a newer stripelake may", shown(param, 60));
        }
        (451, _, _) => "a proxy or the law where this machine is keeps it from you: try from another network",
        (413 | 414 | 421 | 424 | 431 | 499, _, _) => {
            "Stripe or a proxy before it does not take this request; run the same command again later"
        }
        _ => "if this account does not have the resource, leave it out with --exclude",
    };
    text.to_owned()
}

/// The error of a proxy that wants a password; `place` is where that belongs.
pub fn proxy_wants_password(said: &str, place: &str) -> Error {
    Error::usage(format!("a proxy wants to know who asks: {said}"))
        .hint(format!("give its name and password in {place}, or go around it with NO_PROXY"))
}

/// Which key it is, for those who have several.
fn last_of_key() -> String {
    redact::ending().map_or(String::new(), |last| format!(" that ends in {last}"))
}

/// The permission that Stripe's 403 text names, e.g. `rak_customer_read`.
fn permission(said: &str) -> Option<&str> {
    let start = said.find("rak_")?;
    let end = said[start..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    Some(&said[start..end.map_or(said.len(), |n| start + n)])
}

/// What helps by what is wrong with a certificate, as rustls names it.
pub fn certificate_hint(what: &str) -> &'static str {
    match what {
        _ if what.contains("Expired") || what.contains("NotValidYet") => {
            "see whether this machine's clock is right; if it is, the certificate has to be renewed"
        }
        _ if what.contains("CaUsedAsEndEntity") => {
            "the server shows the certificate of an authority itself: give it one of its own (CA:FALSE), and pass that, or its authority, with --ca-file"
        }
        _ if what.contains("CertificateRequired") => {
            "the server wants a certificate of its clients, which Stripe does not: go around what stands in between"
        }
        _ => {
            "a proxy may be intercepting TLS; if it is yours, pass its certificate with --ca-file, else go around it"
        }
    }
}

pub fn is_html(response: &Response) -> bool {
    response.body.trim_ascii_start().starts_with(b"<")
}

pub fn first_words(response: &Response) -> String {
    let start = &response.body[..response.body.len().min(400)];
    shown(&String::from_utf8_lossy(start), 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n5_a_hint_is_about_what_is_wrong_with_a_certificate() {
        for (what, hint) in [
            ("invalid peer certificate: Expired", "clock"),
            ("invalid peer certificate: NotValidYetContext { .. }", "clock"),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "CA:FALSE"),
            ("received fatal alert: CertificateRequired", "of its clients"),
            ("invalid peer certificate: UnknownIssuer", "--ca-file"),
        ] {
            assert!(certificate_hint(what).contains(hint), "{what}");
        }
    }
}
