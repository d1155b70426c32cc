//! Turns a URL and a few headers into a [`Request`], and holds the [`Response`] and the errors of the API.

use bytes::Bytes;

use super::json::Json;

/// One request as the fake account sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Without the query: `/v1/charges`.
    pub path: String,
    /// Names and values, decoded, in the order of the URL.
    pub query: Vec<(String, String)>,
    /// The API key, from whichever form of `Authorization`.
    pub key: Option<String>,
    pub stripe_version: Option<String>,
    pub accepts_gzip: bool,
}

/// What the fake account answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

impl Request {
    /// A GET of `/path?query`, with the key and nothing else.
    pub fn get(url: &str, key: &str) -> Self {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            query: parse_query(query),
            key: Some(key.to_owned()),
            stripe_version: None,
            accepts_gzip: false,
        }
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Names and values of a URL's query, decoded.
pub fn parse_query(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let decoded = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(name), percent_decode(value))
    });
    decoded.collect()
}

/// The key in an `Authorization` header: a bearer token, or the user name of basic authentication.
pub fn parse_authorization(header: &str) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let user_and_password = String::from_utf8(decode_base64(value)?).ok()?;
    let (user, _) = user_and_password.split_once(':').unwrap_or((&user_and_password, ""));
    Some(user.to_owned())
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut n_bits) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = ALPHABET.iter().position(|symbol| *symbol == byte)?;
        bits = bits << 6 | digit as u32;
        n_bits += 6;
        if n_bits >= 8 {
            n_bits -= 8;
            out.push((bits >> n_bits) as u8);
            bits &= (1 << n_bits) - 1;
        }
    }
    Some(out)
}

/// An error in the API's shape.
#[derive(Debug)]
pub(super) struct ApiError {
    pub status: u16,
    pub code: Option<&'static str>,
    pub message: String,
    pub param: Option<String>,
}

impl ApiError {
    pub fn new(status: u16, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None }
    }

    /// A 400 about one parameter.
    pub fn parameter(code: Option<&'static str>, param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(400, code, message) }
    }

    /// What is asked for is not there, or not visible here.
    pub fn missing(status: u16, param: &str, what: &str, id: &str) -> Self {
        let message = format!("No such {what}: '{id}'");
        Self { status, ..Self::parameter(Some("resource_missing"), param, message) }
    }

    /// A parameter that the live API knows and this one does not.
    pub fn unsupported(param: &str) -> Self {
        Self::parameter(None, param, format!("The fake account does not support the parameter {param}"))
    }

    pub fn body(&self, request_id: &str, livemode: bool) -> Vec<u8> {
        let mut json = Json::default();
        json.root(|w| {
            w.object("error", |w| {
                if let Some(code) = self.code {
                    w.put("code", code);
                    w.put(
                        "doc_url",
                        format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")),
                    );
                }
                w.put("message", self.message.as_str());
                if let Some(param) = &self.param {
                    w.put("param", param.as_str());
                }
                let mode = if livemode { "" } else { "test/" };
                w.put("request_log_url", format!("https://dashboard.stripe.com/{mode}logs/{request_id}"));
                w.put("type", "invalid_request_error");
            });
        });
        json.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let expected = [("created[gte]", "5"), ("email", "a b+c@é"), ("bad", "%zz%"), ("flag", "")];
        let got = parse_query("created%5Bgte%5D=5&email=a+b%2Bc%40%C3%A9&bad=%zz%&flag");
        assert_eq!(got, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_key_comes_as_a_token_or_as_a_user_name() {
        assert_eq!(parse_authorization("Bearer sk_test_1").as_deref(), Some("sk_test_1"));
        // sk_test_abc:
        assert_eq!(parse_authorization("Basic c2tfdGVzdF9hYmM6").as_deref(), Some("sk_test_abc"));
        assert_eq!(parse_authorization("Digest x"), None);
        assert_eq!(parse_authorization("Basic !"), None);
    }
}
