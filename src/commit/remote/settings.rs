//! Turns `AWS_*` into the settings of the S3 client, or tells which of them it cannot use.

use object_store::ClientConfigKey::AllowHttp;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};
use url::Url;

use crate::error::{Error, Result};

const SECRET: [&str; 5] = [
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_TOKEN",
    "AWS_SSE_CUSTOMER_KEY_BASE64",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
];

/// Whether nothing that is shown may hold the value of this variable. The client reads names in any case.
pub fn is_secret(name: &str) -> bool {
    SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

/// Whether what stands in a file, if it can be read, can be sent in a header: the client does not look.
fn is_header(file: &str) -> bool {
    std::fs::read_to_string(file).map_or(true, |text| !text.contains(char::is_control))
}

/// A variable that is set.
pub struct Setting {
    name: String,
    pub key: Key,
    pub value: String,
}

/// What the environment sets. White space around a value is no part of it (keys come from files with a last line end), and an
/// empty one is none, as for the tools of AWS.
pub fn settings(environment: &[(String, String)]) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for (name, value) in environment {
        match (name.to_ascii_lowercase().parse(), value.trim()) {
            // Other variables of the family, such as AWS_PROFILE, are not for this client; --lake names the bucket.
            (Err(_) | Ok(Key::Bucket), _) | (_, "") => {}
            (Ok(Key::ContainerAuthorizationTokenFile), file) if !is_header(file) => {
                return Err(Error::usage(format!("{name}: expected a token without line ends in {file}"))
                    .hint("write it there without one, as with printf"));
            }
            (Ok(key), value) => {
                settings.push(Setting { name: name.clone(), key, value: value.to_owned() });
            }
        }
    }
    let has = |key: Key| settings.iter().any(|set: &Setting| set.key == key);
    let (has_region, has_endpoint, has_key) = (has(Key::Region), has(Key::S3Endpoint), has(Key::AccessKeyId));
    settings.retain(|set| match set.key {
        Key::DefaultRegion => !has_region,
        Key::Endpoint => !has_endpoint,
        // Who has a key needs nobody to give one.
        Key::StsEndpoint | Key::MetadataEndpoint | Key::ContainerCredentialsFullUri => !has_key,
        _ => true,
    });
    let switch = settings.iter().find(|set| set.key == Key::Client(AllowHttp));
    let allows_http = switch.is_some_and(|set| is_on(&set.value));
    if let Some(Setting { name, value, .. }) = switch.filter(|set| !is_on(&set.value) && !is_off(&set.value))
    {
        return Err(Error::usage(format!("{name}: expected true or false, got \"{value}\""))
            .hint(format!("correct {name}, or unset it")));
    }
    settings.iter().try_for_each(|setting| setting.check(allows_http))?;
    Ok(settings)
}

/// As the client reads switches.
fn is_on(value: &str) -> bool {
    ["1", "true", "on", "yes", "y"].contains(&value.to_ascii_lowercase().as_str())
}

pub fn is_off(value: &str) -> bool {
    ["0", "false", "off", "no", "n"].contains(&value.to_ascii_lowercase().as_str())
}

/// The client takes for granted that its requests can be made of the name.
pub fn check_bucket(name: &str) -> Result<()> {
    match name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)) {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "expected a bucket of letters, digits, dots and hyphens, got \"{name}\""
        ))
        .hint("correct --lake s3://bucket/prefix")),
    }
}

/// Of settings that no client can be made of, the one that says what the client does not understand.
pub fn culprit(settings: &[Setting], bucket: &str, error: &str) -> Option<String> {
    let says_so = |setting: &&Setting| {
        let alone = AmazonS3Builder::new().with_bucket_name(bucket).with_config(setting.key, &setting.value);
        alone.build().is_err_and(|own| own.to_string() == error)
    };
    settings.iter().find(says_so).map(|setting| setting.name.clone())
}

impl Setting {
    /// The client takes for granted that its requests can be made of these.
    fn check(&self, allows_http: bool) -> Result<()> {
        match self.key {
            Key::AccessKeyId | Key::Token | Key::Region | Key::DefaultRegion => self.check_visible(),
            Key::Endpoint | Key::S3Endpoint => {
                self.check_url((!allows_http).then_some("set AWS_ALLOW_HTTP=true if that is meant"))
            }
            Key::StsEndpoint => self.check_url(Some("begin it with https://")),
            Key::MetadataEndpoint | Key::ContainerCredentialsFullUri => self.check_url(None),
            _ => Ok(()),
        }
    }

    fn check_visible(&self) -> Result<()> {
        match self.value.chars().all(|c| c.is_ascii_graphic()) {
            true => Ok(()),
            false => Err(Error::usage(format!(
                "{}: expected letters, digits and signs, got one that cannot be sent",
                self.name
            ))
            .hint(format!("set {} anew; it may have a line end or a blank within", self.name))),
        }
    }

    /// `no_http` says what to do where it has to have TLS.
    fn check_url(&self, no_http: Option<&str>) -> Result<()> {
        let Setting { name, value, .. } = self;
        let url = Url::parse(value).ok().filter(Url::has_host);
        match (url.as_ref().map(Url::scheme), no_http) {
            (Some("http"), Some(hint)) => Err(Error::usage(format!("{name}: {value} has no TLS")).hint(hint)),
            (Some("http" | "https"), _) => Ok(()),
            _ => Err(Error::usage(format!("{name}: expected a URL like https://host:9000, got \"{value}\""))
                .hint(format!("begin {name} with https://, or http:// and set AWS_ALLOW_HTTP=true"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn set(variables: &[(&str, &str)]) -> Result<Vec<Setting>> {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        settings(&variables)
    }

    #[test]
    fn what_no_request_can_be_made_of_is_named() {
        let http = ("AWS_ALLOW_HTTP", "true");
        for (name, value) in [
            ("AWS_ENDPOINT_URL", "localhost:9000"),
            ("AWS_ENDPOINT_URL", "minio:9000"),
            ("AWS_ENDPOINT_URL_S3", "http://"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:99999"),
            ("AWS_ENDPOINT_URL", "http://ho st"),
            ("AWS_ENDPOINT_URL", "ftp://host"),
            ("AWS_ACCESS_KEY_ID", "AK\nIA"),
            ("AWS_REGION", "eu west"),
            ("AWS_DEFAULT_REGION", "eu-wést"),
            ("AWS_SESSION_TOKEN", "a\r\nb"),
        ] {
            let Err(error) = set(&[http, (name, value)]) else { panic!("{name}={value}") };
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().starts_with(name), "{error}");
            assert!(error.hint_text().is_some_and(|hint| hint.contains(name)), "{error}");
        }
    }

    #[test]
    fn a_token_with_a_line_end_is_named_before_the_client_meets_it() {
        use std::io::Write;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let name = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
        let path = file.path().to_str().unwrap().to_owned();
        file.write_all(b"token").unwrap();
        assert_eq!(set(&[(name, &path)]).unwrap().len(), 1);
        file.write_all(b"\n").unwrap();
        let Err(error) = set(&[(name, &path)]) else { panic!("expected a refusal") };
        assert!(error.to_string().starts_with(name) && !error.to_string().contains("token\n"), "{error}");
    }

    #[test]
    fn what_is_empty_or_around_a_value_is_not_there() {
        let found =
            set(&[("AWS_ENDPOINT_URL", ""), ("AWS_ALLOW_HTTP", " "), ("AWS_ACCESS_KEY_ID", "AKIA\n")])
                .unwrap();
        assert_eq!(
            found.iter().map(|set| (set.key, set.value.as_str())).collect::<Vec<_>>(),
            [(Key::AccessKeyId, "AKIA")]
        );
    }

    #[test]
    fn an_endpoint_without_tls_has_to_be_meant() {
        let endpoint = ("AWS_ENDPOINT_URL", "http://host:9000");
        let Err(error) = set(&[endpoint]) else { panic!("it was not meant") };
        assert!(error.hint_text().unwrap().contains("AWS_ALLOW_HTTP=true"), "{error}");
        assert!(set(&[endpoint, ("AWS_ALLOW_HTTP", "False")]).is_err());
        assert!(set(&[endpoint, ("AWS_ALLOW_HTTP", "TRUE")]).is_ok());
        assert!(set(&[("AWS_ENDPOINT_URL", "https://host")]).is_ok());
    }

    #[test]
    fn what_is_not_used_is_not_looked_at() {
        for variables in [
            [("AWS_ENDPOINT_URL_S3", "https://host"), ("AWS_ENDPOINT_URL", "http://other:4566")],
            [("AWS_REGION", "eu-west-1"), ("AWS_DEFAULT_REGION", "eu west")],
            [("AWS_ACCESS_KEY_ID", "x"), ("AWS_ENDPOINT_URL_STS", "sts")],
        ] {
            let found = set(&variables).unwrap();
            assert_eq!(found.len(), 1, "{variables:?}");
            assert_eq!(found[0].name, variables[0].0);
        }
        assert!(set(&[("AWS_ENDPOINT_URL_STS", "http://sts")]).is_err());
        assert!(set(&[("AWS_METADATA_ENDPOINT", "http://169.254.169.254")]).is_ok());
        let Err(error) = set(&[("AWS_ALLOW_HTTP", "perhaps"), ("AWS_ENDPOINT_URL", "http://host")]) else {
            panic!("it is neither on nor off")
        };
        assert!(error.to_string().starts_with("AWS_ALLOW_HTTP"), "{error}");
    }

    #[test]
    fn a_switch_that_is_neither_on_nor_off_is_found() {
        let found = set(&[("AWS_REGION", "eu-west-1"), ("AWS_SKIP_SIGNATURE", "perhaps")]).unwrap();
        let made = found.iter().fold(AmazonS3Builder::new().with_bucket_name("lake"), |builder, set| {
            builder.with_config(set.key, &set.value)
        });
        let error = made.build().unwrap_err().to_string();
        assert_eq!(culprit(&found, "lake", &error).as_deref(), Some("AWS_SKIP_SIGNATURE"));
    }
}
