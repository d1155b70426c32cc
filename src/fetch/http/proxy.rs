//! Turns what the environment says about a proxy into the one to go through, or into what is wrong with it.

use url::Url;

use crate::error::{Error, Result};
use crate::redact::without_userinfo;

/// Where a proxy to a server over TLS is named; the first that says something counts, as for curl.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// A proxy, with the name and the password that it wants.
pub struct Proxy {
    pub url: Url,
    variable: &'static str,
}

impl Proxy {
    /// The proxy that the variables name, if they do. One that cannot be used is an error: whoever has set it does not want
    /// the key to go another way.
    pub fn named(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>> {
        for name in VARIABLES {
            if let Some(text) = variable(name).filter(|text| !text.trim().is_empty()) {
                return Ok(Some(Proxy { url: parse(name, text.trim())?, variable: name }));
            }
        }
        Ok(None)
    }

    /// Where it is and who says so, without its password.
    pub fn place(&self) -> String {
        format!("{} (of {})", self.url.origin().ascii_serialization(), self.variable)
    }
}

fn parse(variable: &str, text: &str) -> Result<Url> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).ok();
    let usable = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    usable.ok_or_else(|| {
        let got = without_userinfo(text);
        Error::usage(format!("{variable}: expected a proxy like http://proxy.example.com:3128, got \"{got}\""))
            .hint(format!("correct {variable}, or unset it to go without; proxies of other kinds, such as socks5, are not supported"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(set: &[(&str, &str)]) -> Result<Option<Proxy>> {
        let value =
            |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        Proxy::named(value)
    }

    #[test]
    fn the_first_variable_that_says_something_names_the_proxy() {
        for (set, expected) in [
            (
                &[("HTTPS_PROXY", "http://a:1"), ("all_proxy", "http://b:2")][..],
                "http://a:1 (of HTTPS_PROXY)",
            ),
            (&[("HTTPS_PROXY", ""), ("all_proxy", "http://b:2")], "http://b:2 (of all_proxy)"),
            (&[("https_proxy", " a.example:3128 ")], "http://a.example:3128 (of https_proxy)"),
            (&[("ALL_PROXY", "https://joe:s3cret@a")], "https://a (of ALL_PROXY)"),
        ] {
            assert_eq!(named(set).unwrap().unwrap().place(), expected);
        }
        assert!(named(&[("HTTP_PROXY", "nonsense://"), ("NO_PROXY", "*")]).unwrap().is_none());
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_refused_by_its_variable() {
        for text in [
            "ftp://127.0.0.1:1",
            "::::x",
            "http://[bad",
            "socks5://joe:s3cret@127.0.0.1:1",
            "http://",
            "x:99999",
        ] {
            let error = named(&[("https_proxy", text)]).map(|_| ()).unwrap_err();
            let said = error.to_string();
            assert!(
                said.starts_with("https_proxy: expected a proxy like") && !said.contains("s3cret"),
                "{said}"
            );
            assert!(error.hint_text().is_some_and(|hint| hint.contains("unset it")));
        }
    }
}
