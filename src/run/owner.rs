//! Turns what a key, an account and a lake say of themselves into whose lake this is, or a refusal.

use serde_json::Value;

use crate::commit::state::{FORMAT, LAKE, LakeInfo, STATES};
use crate::commit::{Lake, Version};
use crate::error::{Error, Kind, Result};
use crate::fetch::{Fetcher, Request};
use crate::redact::without_keys;
use crate::run::Setup;
use crate::run::event::Event;
use crate::run::reading::nothing_read;
use crate::run::signal::interrupted;
use crate::run::sync::Options;

/// Whose account it is, and what time it is there.
pub(super) struct Account {
    pub id: Option<String>,
    /// `None` where answers carry no `Date`, as behind some proxies.
    pub now: Option<i64>,
    /// When the account was opened, for guessing where its objects begin.
    pub created: Option<i64>,
}

/// Whose lake this is, if it exists.
pub async fn read_lake(lake: &Lake) -> Result<Option<(LakeInfo, Version)>> {
    let mut known = lake.read_json::<LakeInfo>(LAKE).await?;
    let has_states = known.is_none() && lake.list(STATES).await?.iter().any(|path| path.ends_with(".json"));
    if has_states {
        // Another run may have made the lake in between.
        known = lake.read_json::<LakeInfo>(LAKE).await?;
    }
    match &known {
        Some((info, _)) => info.check_format()?,
        // It is written before any state.
        None if has_states => {
            return Err(Error::integrity(format!("{LAKE} is missing: nobody knows whose lake this is"))
                .lake("unchanged")
                .hint("restore it from a copy; or move _stripelake away, if the files are for certain of this account and mode"));
        }
        None => check_outer(lake).await?,
    }
    Ok(known)
}

async fn check_outer(lake: &Lake) -> Result<()> {
    let Some(outer) = lake.outer().await else { return Ok(()) };
    let what = format!("expected a lake that is in no other, got {} in {outer}", lake.absolute_location());
    Err(Error::usage(what)
        .hint(format!(
            "choose another --lake: a query over a table of the outer one might show the rows of both; if that one was a mistake, remove its tables and {outer}/_stripelake"
        )))
}

/// Asks for the account. Stripe refuses that to most restricted keys, and names the account in the refusal; where it does not,
/// the run goes on without knowing. An answer that is broken is no such refusal.
pub(super) async fn account(fetcher: &Fetcher, setup: &Setup, options: &Options) -> Result<Account> {
    let warn = |message: String| (setup.on_event)(Event::Warning { message });
    let request = Request::new("/v1/account");
    let answer = tokio::select! {
        answer = fetcher.object(&request, whose) => answer,
        error = interrupted(options.interrupted.clone()) => return Err(error),
    };
    let (id, created) = match answer {
        Ok((id, created)) => (Some(id), created),
        // Only the version of the API can be wrong in it.
        Err(error) if error.refusal() == Some(400) => {
            let asked = &options.stripe_version;
            return Err(Error::usage(format!("the account, asked for by API version {asked}: {error}"))
                .hint("correct api_version, or leave it out"));
        }
        Err(error) if error.refusal().is_some() => {
            let named = named_in(&error.to_string()).filter(|_| error.refusal() == Some(403));
            if named.is_none() {
                warn(format!(
                    "a key of another account would not be noticed, since the account is not known: {error}"
                ));
            }
            (named, None)
        }
        // Nothing was listed, so nothing is complete in part.
        Err(error) if error.kind() == Kind::Partial => {
            return Err(Error::stripe(format!("the account: {error}"))
                .hint("Stripe or the network is in trouble; run the same command again later"));
        }
        Err(error) if error.kind() == Kind::Budget => return Err(nothing_read(&error)),
        Err(error) => return Err(error),
    };
    let now = fetcher.server_date();
    let local = setup.started_at.as_second();
    match now {
        Some(now) if (now - local).abs() > 300 => {
            warn(format!("this machine's clock is {} s off Stripe's", local - now));
        }
        Some(_) => {}
        None => warn("Stripe's answer has no Date: everything is listed, whatever its time".to_owned()),
    }
    Ok(Account { id, now, created })
}

/// Id and time of opening. The lake is the account's for ever, so anything else that an answer may hold is a broken one.
fn whose(account: &Value) -> std::result::Result<(String, Option<i64>), String> {
    let text = |name| account.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("object"), text("id")) {
        ("account", id) if is_id(id) => Ok((id.to_owned(), account.get("created").and_then(Value::as_i64))),
        (object, id) => Err(format!(
            "expected an account with an id like acct_1abc, got object \"{object}\", id \"{id}\""
        )),
    }
}

/// The account that Stripe's text of a 403 names, as in `... for this endpoint on account 'acct_1abc'.`
fn named_in(said: &str) -> Option<String> {
    let named = said.split_once("on account '")?.1.split_once('\'')?.0;
    is_id(named).then(|| named.to_owned())
}

fn is_id(id: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = id.strip_prefix("acct_").unwrap_or_default();
    !name.is_empty() && id.len() <= 255 && name.chars().all(is_part) && without_keys(id) == id
}

/// `what` is of the mode `livemode`: a key, or objects.
pub(super) fn check_mode(known: Option<&(LakeInfo, Version)>, livemode: bool, what: &str) -> Result<()> {
    let mode = |livemode: bool| if livemode { "live" } else { "test" };
    match known.and_then(|(info, _)| info.livemode) {
        Some(expected) if expected != livemode => Err(Error::new(
            Kind::Auth,
            format!("the lake holds {} data, got {what} of {} mode", mode(expected), mode(livemode)),
        )
        .lake("unchanged")
        .hint("use another --lake for each mode and account")),
        _ => Ok(()),
    }
}

pub(super) fn check_account(known: Option<&(LakeInfo, Version)>, account: Option<&str>) -> Result<()> {
    let expected = known.and_then(|(info, _)| info.account.as_deref());
    match (expected, account) {
        (Some(expected), Some(got)) if expected != got => {
            Err(Error::new(Kind::Auth, format!("the lake belongs to account {expected}, got a key of {got}"))
                .lake("unchanged")
                .hint("use another --lake for each mode and account"))
        }
        (Some(expected), None) => Err(Error::new(
            Kind::Auth,
            format!("the lake belongs to account {expected}, and this key may not say whose it is"),
        )
        .lake("unchanged")
        .hint("use a key that may read /v1/account, or another --lake")),
        _ => Ok(()),
    }
}

/// Writes down to whom the lake belongs, as far as it is known.
pub(super) async fn claim(setup: &Setup, account: Option<String>, livemode: bool) -> Result<LakeInfo> {
    let known = read_lake(&setup.lake).await?;
    // Another run may have made the lake its own while this one waited for the lock.
    check_mode(known.as_ref(), livemode, "a key")?;
    check_account(known.as_ref(), account.as_deref())?;
    write_down(setup, known, account, Some(livemode)).await
}

/// Adds what is known now of the account and the mode to what the lake knows.
pub(super) async fn write_down(
    setup: &Setup,
    known: Option<(LakeInfo, Version)>,
    account: Option<String>,
    livemode: Option<bool>,
) -> Result<LakeInfo> {
    let (before, seen) = known.map_or((None, Version::Absent), |(info, version)| (Some(info), version));
    let info = LakeInfo {
        format: FORMAT,
        account: account.or(before.as_ref().and_then(|info| info.account.clone())),
        livemode: livemode.or(before.as_ref().and_then(|info| info.livemode)),
        stripe_version: setup.catalog.stripe_version.clone(),
    };
    if before.as_ref() != Some(&info) {
        setup.lake.write_summed_json(LAKE, &info, &seen).await?;
    }
    Ok(info)
}
