//! Turns flags, environment and file into one resolved configuration.
//!
//! Precedence: flag, environment, profile, file, default. (Flags and environment arrive here as one,
//! since the command line reads `STRIPELAKE_*` for every flag.)

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use secrecy::SecretString;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::fetch::limit::Rate;
use crate::partition::Grain;

/// Read from the working directory when it is there and no other is named.
pub const DEFAULT_FILE: &str = "stripelake.toml";
pub const DEFAULT_API_BASE: &str = "https://api.stripe.com";
pub const DEFAULT_LAKE: &str = "./lake";
/// The share of Stripe's documented limits that a run takes; the rest is for the merchant's own traffic.
const DEFAULT_SHARE: f64 = 0.8;

/// Settings as the user gave them, in the file or in one profile of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub lake: Option<String>,
    pub api_base: Option<String>,
    pub api_key_file: Option<PathBuf>,
    /// A program and its arguments that print the key.
    pub key_command: Option<Vec<String>>,
    pub api_version: Option<String>,
    pub rate: Option<String>,
    pub concurrency: Option<usize>,
    pub timeout: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub resources: BTreeMap<String, ResourceSettings>,
}

/// `[resources.charges]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceSettings {
    /// `year`, `month` or `day`.
    pub partition: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    profile: BTreeMap<String, Settings>,
    #[serde(flatten)]
    settings: toml::Table,
}

impl Settings {
    /// The file and, over it, the profile. Without `file` the default one is read if it exists.
    pub fn read(file: Option<&Path>, profile: Option<&str>) -> Result<Settings> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && file.is_none() => String::new(),
            Err(e) => {
                return Err(Error::usage(format!("config {}: {e}", path.display()))
                    .hint("name a file that can be read with --config, or leave it out"));
            }
        };
        let wrong =
            |e: toml::de::Error| Error::usage(format!("config {}: {}", path.display(), e.to_string().trim()));
        let parsed: ConfigFile = toml::from_str(&text).map_err(wrong)?;
        let base: Settings = parsed.settings.try_into().map_err(wrong)?;
        let Some(name) = profile else { return Ok(base) };
        match parsed.profile.get(name) {
            Some(profile) => Ok(profile.clone().over(base)),
            None => {
                let known: Vec<&str> = parsed.profile.keys().map(String::as_str).collect();
                let hint = match known.is_empty() {
                    true => format!("add [profile.{name}] to {}, or leave out --profile", path.display()),
                    false => format!("profiles: {}", known.join(", ")),
                };
                let place = path.display();
                Err(Error::usage(format!("config {place}: expected [profile.{name}], found none")).hint(hint))
            }
        }
    }

    /// These settings, and those of `below` where these say nothing.
    pub fn over(self, below: Settings) -> Settings {
        let mut resources = below.resources;
        resources.extend(self.resources);
        Settings {
            lake: self.lake.or(below.lake),
            api_base: self.api_base.or(below.api_base),
            api_key_file: self.api_key_file.or(below.api_key_file),
            key_command: self.key_command.or(below.key_command),
            api_version: self.api_version.or(below.api_version),
            rate: self.rate.or(below.rate),
            concurrency: self.concurrency.or(below.concurrency),
            timeout: self.timeout.or(below.timeout),
            ca_file: self.ca_file.or(below.ca_file),
            resources,
        }
    }

    pub fn lake(&self) -> &str {
        self.lake.as_deref().unwrap_or(DEFAULT_LAKE)
    }

    pub fn api_base(&self) -> &str {
        self.api_base.as_deref().unwrap_or(DEFAULT_API_BASE)
    }

    pub fn rate(&self) -> Result<Rate> {
        self.rate.as_deref().map_or(Ok(Rate::Share(DEFAULT_SHARE)), parse_rate)
    }

    /// The partition grain by resource, where the user chose one.
    pub fn grains(&self) -> Result<std::collections::HashMap<String, Grain>> {
        let chosen =
            self.resources.iter().filter_map(|(name, settings)| Some((name, settings.partition.as_ref()?)));
        chosen.map(|(name, partition)| Ok((name.clone(), Grain::parse(partition)?))).collect()
    }
}

/// `80%` of the documented limits, `50` requests per second, or `unlimited`.
pub fn parse_rate(text: &str) -> Result<Rate> {
    let wrong = || Error::usage(format!("expected --rate like 80%, 50 or unlimited, got \"{text}\""));
    if text == "unlimited" {
        return Ok(Rate::Unlimited);
    }
    let (number, is_share) = text.strip_suffix('%').map_or((text, false), |number| (number, true));
    let number: f64 = number.parse().map_err(|_| wrong())?;
    match is_share {
        true if number > 0.0 && number <= 1000.0 => Ok(Rate::Share(number / 100.0)),
        false if number > 0.0 && number <= 100_000.0 => Ok(Rate::PerSecond(number)),
        _ => Err(wrong()),
    }
}

/// A smaller number (1973) is rather a year, or a date with a digit too few, than unix seconds.
const FIRST_UNIX_SECS: i64 = 100_000_000;
/// A larger one (5138) is rather milliseconds.
const END_OF_UNIX_SECS: i64 = 100_000_000_000;

/// A time on the command line: `2026-11-23`, `2026-11-23T02:00:00Z`, or unix seconds.
pub fn parse_time(text: &str) -> Result<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_second());
    }
    // A date is its midnight.
    let time = text.parse::<jiff::civil::DateTime>().ok();
    if let Some(time) = time.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok()) {
        return Ok(time.timestamp().as_second());
    }
    let secs = text.parse::<i64>().ok();
    let secs = secs.filter(|secs| *secs == 0 || (FIRST_UNIX_SECS..END_OF_UNIX_SECS).contains(secs));
    secs.ok_or_else(|| {
        let what = format!("expected a time like 2026-11-23 or 2026-11-23T02:00:00Z, got \"{text}\"");
        Error::usage(what).hint("times are UTC; unix seconds are taken, too")
    })
}

/// The key and where it came from.
#[derive(Debug)]
pub struct Key {
    pub secret: SecretString,
    pub source: String,
    pub livemode: bool,
}

/// The environment variables that can supply a key.
#[derive(Debug, Default)]
pub struct KeyEnvironment {
    pub stripe_api_key: Option<String>,
    /// systemd's `$CREDENTIALS_DIRECTORY`, where `LoadCredential=stripe_key:...` puts the key.
    pub credentials_directory: Option<PathBuf>,
}

/// Finds the key: `--api-key-file`, `STRIPE_API_KEY`, then the file's `api_key_file` and
/// `key_command`, then a systemd credential.
///
/// `flag` is the flag's file. Fails with [`crate::error::Kind::Usage`] and never shows the key.
pub fn find_key(flag: Option<&Path>, environment: &KeyEnvironment, settings: &Settings) -> Result<Key> {
    let credential = environment.credentials_directory.as_ref().map(|dir| dir.join("stripe_key"));
    let (text, source) = if let Some(path) = flag {
        (read_key_file(path)?, path.display().to_string())
    } else if let Some(key) = &environment.stripe_api_key {
        (key.clone(), "STRIPE_API_KEY".to_owned())
    } else if let Some(path) = &settings.api_key_file {
        (read_key_file(path)?, path.display().to_string())
    } else if let Some(command) = &settings.key_command {
        (run_key_command(command)?, "key_command".to_owned())
    } else if let Some(path) = credential.filter(|path| path.exists()) {
        (read_key_file(&path)?, "systemd credential stripe_key".to_owned())
    } else {
        return Err(Error::usage("expected a Stripe API key, found none")
            .hint("export STRIPE_API_KEY=rk_..., or pass --api-key-file PATH, or set key_command in stripelake.toml"));
    };
    let livemode = check_key(&text).map_err(|e| e.context(source.clone()))?;
    Ok(Key { secret: SecretString::from(text), source, livemode })
}

/// Whether the key is of live mode. Refuses everything that cannot be a secret or restricted key.
fn check_key(key: &str) -> Result<bool> {
    let refuse = |what: &str, hint: &str| Err(Error::usage(what).hint(hint));
    if key.trim().is_empty() {
        return refuse(
            "expected a key, got an empty one",
            "set it to a restricted key, rk_live_... or rk_test_...",
        );
    }
    if key.starts_with(['"', '\'']) || key.ends_with(['"', '\'']) {
        return refuse("expected a key, got one in quotes", "leave the quotes out");
    }
    if key.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse("expected a key, got one with white space", "remove blanks and line breaks");
    }
    if key.starts_with("pk_") {
        return refuse(
            "expected a secret or restricted key, got a publishable key (pk_)",
            "make a restricted key (rk_) with read permissions in the dashboard",
        );
    }
    for (prefix, livemode) in
        [("sk_live_", true), ("rk_live_", true), ("sk_test_", false), ("rk_test_", false)]
    {
        if key.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()) {
            return Ok(livemode);
        }
    }
    refuse(
        "expected a key that starts with rk_live_, rk_test_, sk_live_ or sk_test_, got another form",
        "copy the whole key from the dashboard",
    )
}

const KEY_FILE: &str =
    "write the key alone into a file that only you can read (chmod 600), and name that file";

fn read_key_file(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::usage(format!("key file {}: {e}", path.display())).hint(KEY_FILE))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map(|m| m.permissions().mode()).unwrap_or(0);
        if mode & 0o007 != 0 {
            return Err(Error::usage(format!(
                "key file {}: everyone on this machine can read it",
                path.display()
            ))
            .hint(format!("chmod 600 {}", path.display())));
        }
    }
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

const KEY_COMMAND: &str =
    "run it by hand: it must print the key alone and end with 0; key_command = [\"program\", \"argument\"]";

fn run_key_command(command: &[String]) -> Result<String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::usage("key_command: expected a program, got an empty list").hint(KEY_COMMAND));
    };
    let failed = |what: String| Error::usage(format!("key_command {program}: {what}")).hint(KEY_COMMAND);
    let command = Command::new(program).args(arguments).env_remove("STRIPE_API_KEY").output();
    let output = command.map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        let said = crate::redact::shown(String::from_utf8_lossy(&output.stderr).trim(), 200);
        return Err(failed(match said.is_empty() {
            true => output.status.to_string(),
            false => format!("{}: {said}", output.status),
        }));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("expected text".to_owned()))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Refuses arguments that hold a key: other users can read them in `ps`.
pub fn refuse_keys_in_arguments<'a>(arguments: impl Iterator<Item = &'a str>) -> Result<()> {
    for argument in arguments {
        if crate::redact::without_keys(argument) != argument {
            return Err(Error::usage(
                "API keys are not accepted on the command line: other users can read them in `ps`, and they stay in your shell history",
            )
            .hint("STRIPE_API_KEY=...  |  --api-key-file PATH  |  key_command in stripelake.toml"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a4_only_secret_and_restricted_keys_pass() {
        assert!(check_key("rk_live_abcdefgh").unwrap());
        assert!(!check_key("sk_test_abcdefgh").unwrap());
        for key in
            ["", " ", "\"rk_test_a\"", "'rk_test_a'", "rk_test_a\n", "pk_test_abcdefgh", "rk_test_", "hello"]
        {
            assert!(check_key(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn rates_are_shares_numbers_or_unlimited() {
        assert_eq!(parse_rate("100%").unwrap(), Rate::Share(1.0));
        assert_eq!(parse_rate("12.5").unwrap(), Rate::PerSecond(12.5));
        assert_eq!(parse_rate("unlimited").unwrap(), Rate::Unlimited);
        for text in ["", "fast", "0", "-1", "0%", "NaN"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_dates_instants_or_seconds() {
        assert_eq!(parse_time("2026-11-23").unwrap(), 1_795_392_000);
        assert_eq!(parse_time("2026-11-23T01:00:00Z").unwrap(), 1_795_395_600);
        assert_eq!(parse_time("20261123").unwrap(), 1_795_392_000);
        assert_eq!(parse_time("2026-11-23T01:00:00").unwrap(), 1_795_395_600);
        assert_eq!(parse_time("2026-11-23T02:00:00+01:00").unwrap(), 1_795_395_600);
        assert_eq!(parse_time("1795392000").unwrap(), 1_795_392_000);
        assert_eq!(parse_time("0").unwrap(), 0);
        for text in ["yesterday", "2026", "2026112", "20261323", "2026-13-01", "-5", "1795392000000"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_among_the_arguments_is_refused_and_not_repeated() {
        let error = refuse_keys_in_arguments(["sync", "--x=sk_live_abcdefghijkl"].into_iter()).unwrap_err();
        assert!(!error.to_string().contains("abcdefgh"));
        assert!(refuse_keys_in_arguments(["sync", "task_list", "sk_live_"].into_iter()).is_ok());
    }

    #[test]
    fn what_cannot_be_read_says_what_would_help() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stripelake.toml");
        std::fs::write(&path, "[profile.staging]\n[profile.live]\n").unwrap();
        let hint = |file, profile| {
            let error = Settings::read(Some(file), profile).unwrap_err();
            error.hint_text().map(str::to_owned).unwrap_or_default()
        };
        assert_eq!(hint(&path, Some("prod")), "profiles: live, staging");
        assert!(hint(&folder.path().join("none.toml"), None).contains("--config"));
    }

    #[test]
    fn a_key_command_that_fails_is_quoted_without_the_key() {
        let script = "echo 'no vault, last was rk_live_abcdefghijkl' >&2; exit 3";
        let command = ["sh", "-c", script].map(str::to_owned);
        let error = run_key_command(&command).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no vault") && text.contains('3') && !text.contains("abcdefgh"), "{text}");
        assert!(error.hint_text().is_some());
    }
}
