//! Turns a bucket's name and `AWS_*` into a client of S3.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use crate::commit::remote::settings::{check_bucket, culprit, is_off, settings};
use crate::error::{Error, Result};

/// For so long the client itself repeats what was refused for a moment. It ends before `patience.rs` gives an answer up,
/// so that its reason is told.
const RETRIES: Duration = Duration::from_secs(15);
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// Whether a client repeats requests by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    Itself,
    Never,
}

/// A client for the bucket of `location`. It has no time limit of its own: how long an answer may take depends on what
/// was asked for.
pub fn client(
    location: &str,
    bucket: &str,
    environment: &[(String, String)],
    repeats: Repeats,
) -> Result<AmazonS3> {
    let backoff = BackoffConfig { max_backoff: LONGEST_WAIT, ..BackoffConfig::default() };
    let max_retries = if repeats == Repeats::Itself { 8 } else { 0 };
    let retry = RetryConfig { max_retries, retry_timeout: RETRIES, backoff };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_retry(retry)
        .with_client_options(ClientOptions::new().with_timeout_disabled());
    check_bucket(bucket)?;
    let settings = settings(environment)?;
    for setting in &settings {
        builder = builder.with_config(setting.key, &setting.value);
    }
    check_endpoint(bucket, &builder)?;
    builder.build().map_err(|error| {
        let error = error.to_string();
        let hint = match culprit(&settings, bucket, &error) {
            _ if error.contains("Missing SecretAccessKey") => "set AWS_SECRET_ACCESS_KEY, too".to_owned(),
            _ if error.contains("Missing AccessKeyId") => "set AWS_ACCESS_KEY_ID, too".to_owned(),
            Some(name) => format!("correct {name}, or unset it"),
            None => "check the AWS_* variables".to_owned(),
        };
        Error::usage(format!("lake {location}: {error}")).hint(hint)
    })
}

/// With virtual hosts the client takes the endpoint as it is, and asks whatever bucket that stands for.
fn check_endpoint(bucket: &str, builder: &AmazonS3Builder) -> Result<()> {
    use AmazonS3ConfigKey::{Endpoint, S3Endpoint, VirtualHostedStyleRequest};
    let value = |key| builder.get_config_value(&key);
    let Some(endpoint) = value(S3Endpoint).or_else(|| value(Endpoint)) else { return Ok(()) };
    let host = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, host)| host);
    if value(VirtualHostedStyleRequest).is_none_or(|text| is_off(&text))
        || host.starts_with(&format!("{bucket}."))
    {
        return Ok(());
    }
    let what = format!(
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST: expected an endpoint like https://{bucket}.host, got {endpoint}"
    );
    Err(Error::usage(what).hint(format!(
        "unset AWS_VIRTUAL_HOSTED_STYLE_REQUEST, or begin the host of AWS_ENDPOINT_URL with {bucket}."
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn made(variables: &[(&str, &str)]) -> Result<AmazonS3> {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        client("s3://lake/x", "lake", &variables, Repeats::Itself)
    }

    #[test]
    fn the_lake_names_the_bucket() {
        for name in ["AWS_BUCKET", "AWS_BUCKET_NAME"] {
            assert_eq!(made(&[(name, "other")]).unwrap().to_string(), "AmazonS3(lake)", "{name}");
        }
    }

    #[test]
    fn half_of_a_pair_of_keys_asks_for_the_other() {
        for (given, missing) in
            [("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")]
        {
            let error = made(&[(given, "x")]).unwrap_err();
            assert!(error.hint_text().unwrap().contains(missing), "{error} {:?}", error.hint_text());
        }
    }

    #[test]
    fn an_endpoint_that_leaves_the_bucket_out_is_refused() {
        let virtual_hosts = ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "TRUE");
        for (name, url) in
            [("AWS_ENDPOINT_URL", "http://host:9000"), ("AWS_ENDPOINT_URL_S3", "https://lakes.host")]
        {
            let http = ("AWS_ALLOW_HTTP", "true");
            let error = made(&[http, virtual_hosts, (name, url)]).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains(url) && error.hint_text().is_some(), "{error}");
            made(&[http, ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "false"), (name, url)]).unwrap();
            made(&[virtual_hosts, (name, "https://lake.host")]).unwrap();
        }
        made(&[virtual_hosts]).unwrap();
    }
}
