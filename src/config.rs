//! Turns flags, environment and file into one resolved configuration.
//!
//! Precedence: flag, environment, profile, file, default. (Flags and environment arrive here as one,
//! since the command line reads `STRIPELAKE_*` for every flag.)

pub mod key;
pub mod value;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::config::value::{check_version, parse_rate, parse_timeout};
use crate::error::{Error, Result};
use crate::fetch::http::parse_base;
use crate::fetch::limit::Rate;
use crate::partition::Grain;

/// Read from the working directory when it is there and no other is named.
pub const DEFAULT_FILE: &str = "stripelake.toml";
pub const DEFAULT_API_BASE: &str = "https://api.stripe.com";
pub const DEFAULT_LAKE: &str = "./lake";
/// The share of Stripe's documented limits that a run takes; the rest is for the merchant's own traffic.
const DEFAULT_SHARE: f64 = 0.8;
/// Parts of lists that are read at once: with them the limits of Stripe are reached.
const DEFAULT_CONCURRENCY: usize = 16;
/// More would only wait for each other.
const CONCURRENCY: RangeInclusive<usize> = 1..=1_000;

/// Settings as the user gave them, in the file or in one profile of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "expected a table of settings")]
pub struct Settings {
    pub lake: Option<String>,
    pub api_base: Option<String>,
    pub api_key_file: Option<PathBuf>,
    /// A program and its arguments that print the key.
    pub key_command: Option<Vec<String>>,
    pub api_version: Option<String>,
    /// As on the command line; in the file also a number.
    #[serde(deserialize_with = "text_or_number")]
    pub rate: Option<String>,
    #[serde(deserialize_with = "count")]
    pub concurrency: Option<usize>,
    /// As on the command line; in the file also a number of seconds.
    #[serde(deserialize_with = "text_or_number")]
    pub timeout: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub resources: BTreeMap<String, ResourceSettings>,
    /// Of the file alone: settings by the name of a profile.
    pub profile: BTreeMap<String, Settings>,
}

/// `[resources.charges]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "expected a table like [resources.NAME]")]
pub struct ResourceSettings {
    /// `year`, `month` or `day`.
    pub partition: Option<String>,
}

fn text_or_number<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "expected a rate like \"80%\", 50 or \"unlimited\", or a time like \"90s\" or 90"
    )]
    enum TextOrNumber {
        Text(String),
        Number(f64),
    }
    Ok(Some(match TextOrNumber::deserialize(value)? {
        TextOrNumber::Text(text) => text,
        TextOrNumber::Number(number) => number.to_string(),
    }))
}

fn count<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<Option<usize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a whole number, like 16")]
    enum Count {
        Is(usize),
    }
    let Count::Is(n) = Count::deserialize(value)?;
    Ok(Some(n))
}

impl Settings {
    /// The file and, over it, the profile. Without `file` the default one is read if it exists.
    pub fn read(file: Option<&Path>, profile: Option<&str>) -> Result<Settings> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let (text, is_open_to_all) = match read(path) {
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && file.is_none() => match profile {
                None => Default::default(),
                Some(name) => {
                    let what = format!(
                        "--profile {name}: expected {DEFAULT_FILE} with [profile.{name}], found no such file"
                    );
                    return Err(Error::usage(what)
                        .hint("name the settings file with --config, or go to the folder that it is in"));
                }
            },
            Err(e) => {
                return Err(Error::usage(format!("config {}: {e}", path.display()))
                    .hint("name a file that can be read with --config, or leave it out"));
            }
        };
        let wrong = |e: toml::de::Error| {
            Error::usage(format!("config {}: {}", path.display(), e.to_string().trim()))
                .hint("correct the file; a profile is a table [profile.NAME], and what belongs to a resource [resources.NAME]")
        };
        let mut base: Settings = toml::from_str(&text).map_err(wrong)?;
        let mut profiles = std::mem::take(&mut base.profile);
        if let Some((name, _)) = profiles.iter().find(|(_, settings)| !settings.profile.is_empty()) {
            let what = format!("config {}: expected no profile within [profile.{name}]", path.display());
            return Err(Error::usage(what).hint("a profile is a table [profile.NAME]"));
        }
        let settings = match profile.map(|name| (name, profiles.remove(name))) {
            None => base,
            Some((_, Some(profile))) => profile.over(base),
            Some((name, None)) => {
                let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
                let hint = match known.is_empty() {
                    true => format!("add [profile.{name}] to {}, or leave out --profile", path.display()),
                    false => format!("profiles: {}", known.join(", ")),
                };
                let place = path.display();
                let what = format!("config {place}: expected [profile.{name}], found none");
                return Err(Error::usage(what).hint(hint));
            }
        };
        if let (true, Some(name)) = (is_open_to_all, settings.leads_the_key()) {
            let place = path.display();
            let what = format!("config {place}: has {name}, and everyone on this machine can write it");
            return Err(Error::usage(what).hint(format!("chmod o-w {place}")));
        }
        settings.check().map_err(|e| e.context(format!("config {}", path.display())))?;
        Ok(settings)
    }

    /// Fails where a text is not what it should be, while it is known to be the file's.
    fn check(&self) -> Result<()> {
        if let Some(rate) = &self.rate {
            parse_rate(rate).map_err(|e| e.context("rate"))?;
        }
        self.concurrency().map_err(|e| e.context("concurrency"))?;
        if let Some(timeout) = &self.timeout {
            parse_timeout(timeout).map_err(|e| e.context("timeout"))?;
        }
        if let Some(base) = &self.api_base {
            parse_base(base).map_err(|e| e.context("api_base"))?;
        }
        if let Some(version) = &self.api_version {
            check_version(version).map_err(|e| e.context("api_version"))?;
        }
        self.grains().map(drop)
    }

    /// A setting that gets the key for whoever writes it: as a command that runs as this user, or as a server that is
    /// trusted with it.
    fn leads_the_key(&self) -> Option<&'static str> {
        let named = [
            ("a key_command", self.key_command.is_some()),
            ("an api_base", self.api_base.is_some()),
            ("a ca_file", self.ca_file.is_some()),
        ];
        named.into_iter().find_map(|(name, is_there)| is_there.then_some(name))
    }

    /// These settings, and those of `below` where these say nothing.
    pub fn over(self, below: Settings) -> Settings {
        let mut resources = below.resources;
        resources.extend(self.resources);
        // A key is one setting, wherever it is kept: that of another account must not win by the way it is found.
        let has_key = self.api_key_file.is_some() || self.key_command.is_some();
        let (api_key_file, key_command) = match has_key {
            true => (self.api_key_file, self.key_command),
            false => (below.api_key_file, below.key_command),
        };
        Settings {
            lake: self.lake.or(below.lake),
            api_base: self.api_base.or(below.api_base),
            api_key_file,
            key_command,
            api_version: self.api_version.or(below.api_version),
            rate: self.rate.or(below.rate),
            concurrency: self.concurrency.or(below.concurrency),
            timeout: self.timeout.or(below.timeout),
            ca_file: self.ca_file.or(below.ca_file),
            resources,
            profile: BTreeMap::new(),
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

    /// How long a request may take, where the user says so.
    pub fn timeout(&self) -> Result<Option<Duration>> {
        self.timeout.as_deref().map(parse_timeout).transpose()
    }

    pub fn concurrency(&self) -> Result<usize> {
        let n = self.concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        let (least, most) = (CONCURRENCY.start(), CONCURRENCY.end());
        match CONCURRENCY.contains(&n) {
            true => Ok(n),
            false => Err(Error::usage(format!("expected a concurrency of {least} to {most}, got {n}")).hint(
                format!(
                    "leave it out for {DEFAULT_CONCURRENCY}: the limits of Stripe are reached with fewer"
                ),
            )),
        }
    }

    /// The partition grain by resource, where the user chose one.
    pub fn grains(&self) -> Result<std::collections::HashMap<String, Grain>> {
        let chosen =
            self.resources.iter().filter_map(|(name, settings)| Some((name, settings.partition.as_ref()?)));
        chosen
            .map(|(name, partition)| {
                let grain = Grain::parse(partition).map_err(|e| e.context(format!("[resources.{name}]")))?;
                Ok((name.clone(), grain))
            })
            .collect()
    }
}

/// The text of a file, and whether everyone on this machine may write it.
fn read(path: &Path) -> std::io::Result<(String, bool)> {
    let mut file = File::open(path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    #[cfg(unix)]
    let is_open_to_all = {
        use std::os::unix::fs::PermissionsExt;
        file.metadata()?.permissions().mode() & 0o002 != 0
    };
    #[cfg(not(unix))]
    let is_open_to_all = false;
    Ok((text, is_open_to_all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_profile_wins_however_each_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stripelake.toml");
        let command = r#"key_command = ["pass", "stripe"]"#;
        let file = r#"api_key_file = "/run/key""#;
        for (base, profile) in [(file, command), (command, file)] {
            std::fs::write(&path, format!("{base}\n[profile.test]\n{profile}\n[profile.other]\n")).unwrap();
            let kept = |profile| {
                let settings = Settings::read(Some(&path), Some(profile)).unwrap();
                (settings.api_key_file.is_some(), settings.key_command.is_some())
            };
            assert_eq!(kept("test"), (profile == file, profile == command));
            assert_eq!(kept("other"), (base == file, base == command));
        }
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stripelake.toml");
        for (text, line, said) in [
            ("lake = \"x\"\nrat = 5", 2, "profile"),
            ("\nlake = 5", 2, "string"),
            ("[profiles.test]", 1, "profile"),
            ("profile = 5", 1, "a map"),
            ("resources.charges = 1", 1, "[resources.NAME]"),
            ("[profile]\nlive = 1", 2, "a table of settings"),
            ("[profile.live]\nconcurrency = \"x\"", 2, "a whole number"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Settings::read(Some(&path), None).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}")) && error.contains(said), "{text}: {error}");
        }
        std::fs::write(&path, "[profile.a.profile.b]\nlake = \"x\"").unwrap();
        assert!(Settings::read(Some(&path), None).unwrap_err().to_string().contains("[profile.a]"));
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
}
