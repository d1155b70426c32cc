//! Turns a file of faults into the rules of a misbehaving server.
//!
//! A key that a fault does not take is an error with its line, so that no test passes because of a slip of the pen.

use std::time::Duration;

use serde::Deserialize;
use toml::{Spanned, Table, Value};

use super::fault::{BadGzip, Change, Damage, Fault, Faults, HeldBack, Moment, Refusal};
use super::script::{Rule, Rules};
use super::traffic::Rates;
use crate::error::{Error, Result};

/// What `kind` may be.
const KINDS: &str = "status, delay, hang, reset, reset-in-body, reset-after-body, short-body, no-last-chunk, \
gzip-truncated, gzip-crc, gzip-plain, drip, drip-head, html, redirect, bomb, endless, no-has-more, has-more-text, \
has-more-null, has-more-always, no-more, no-data, data-object, no-list, garbage, nul, trailing, empty, other-mode, \
appear, late, edit, vanish or vanish-cursor";

/// The form of the file, for `fake-stripe --help`.
pub const FAULTS_HELP: &str = r#"A file for --faults:
  latency = "150ms"              # before every answer
  rate_limit = "25/100"          # 429 above so many requests/s, per endpoint and in all
  seed = 7                       # for chance

  [[fault]]                      # the first one that has something to do for a request does it
  kind = "status"                # what happens; all kinds are listed below
  path = "/v1/charges"           # or a beginning: "/v1/*", which is the default
  query = { starting_after = "*" }   # only requests with these parameters; * is any value
  from = 2                       # from the second such request on [default: 1]
  times = 3                      # so often [default: for ever]
  chance = 0.1                   # or on this share of them
  status = 429
  reason = "endpoint-rate"       # Stripe-Rate-Limited-Reason

Kinds:
  status              an error: status [500], type, code, message, param, reason, should_retry, retry_after
  delay               the right answer after time = "2s"
  hang                no answer, and an open connection
  reset, reset-in-body, reset-after-body       the connection is reset
  short-body, no-last-chunk                    the body stops, Content-Length or chunks promise more
  gzip-truncated, gzip-crc, gzip-plain         broken gzip; says gzip and is plain
  drip, drip-head     a byte of the body, or of the head, every time ["1s"]
  html                a web page with status [200]
  redirect            status [302], to = "URL"
  bomb, endless       a gzip body of megabytes [100]; a body that does not end before megabytes [1024]
  no-has-more, has-more-text, has-more-null, has-more-always, no-more, no-data, data-object, no-list
                      a page with a wrong frame
  garbage, nul, trailing, empty, other-mode    what is no page, or of the other mode
  appear, late        count [1] objects that were held back are there: the newest, or any
  edit, vanish        count [1] objects are edited; the newest are gone
  vanish-cursor       the object in starting_after is gone, and newer ones, count [1] in all

GET /_fake/stats answers what was asked so far: by path, status, fault and second."#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    latency: Option<String>,
    rate_limit: Option<String>,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    fault: Vec<Spanned<Table>>,
}

impl Faults {
    /// The faults of a file; errors begin with its line where there is one.
    pub fn parse(text: &str) -> Result<Faults> {
        let file: File = toml::from_str(text).map_err(|e| Error::usage(e.to_string().trim().to_owned()))?;
        let mut faults = Faults { rules: Rules::seeded(file.seed), ..Faults::default() };
        if let Some(latency) = &file.latency {
            faults.latency = parse_duration(latency).map_err(|e| e.context("latency"))?;
        }
        faults.rates = file.rate_limit.as_deref().map(str::parse::<Rates>).transpose()?;
        for entry in file.fault {
            let line = text[..entry.span().start].matches('\n').count() + 1;
            let fields = Fields { table: entry.into_inner(), kind: String::new() };
            let (rule, held) = fields.rule().map_err(|e| e.context(format!("line {line}")))?;
            faults.rules.add(rule);
            faults.held_back.extend(held);
        }
        Ok(faults)
    }
}

/// A time like `150ms`, `2s` or `1m`.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let span = text.parse::<jiff::SignedDuration>().ok();
    let time = span.and_then(|span| Duration::try_from(span).ok());
    time.ok_or_else(|| Error::usage(format!("expected a time like 150ms or 2s, got \"{text}\"")))
}

/// The keys of one `[[fault]]` that have not been taken yet.
struct Fields {
    table: Table,
    kind: String,
}

impl Fields {
    /// The rule, and what it holds back until then.
    fn rule(mut self) -> Result<(Rule<Fault>, Option<HeldBack>)> {
        self.kind = self.text("kind")?.ok_or_else(|| Error::usage("expected a kind, found none"))?;
        let path = self.text("path")?.unwrap_or_else(|| "/v1/*".to_owned());
        if !path.starts_with('/') {
            let what = format!("path: expected one like /v1/charges or /v1/*, got \"{path}\"");
            return Err(Error::usage(what));
        }
        let query = match self.table.remove("query") {
            None => Table::new(),
            Some(Value::Table(query)) => query,
            Some(other) => return Err(wrong("query", "{ NAME = \"VALUE\" }", &other)),
        };
        let (from, times, chance) = (self.count("from")?, self.count("times")?, self.share("chance")?);
        let fault = self.fault()?;
        if let Some(name) = self.table.keys().next() {
            return Err(Error::usage(format!("unexpected key {name} for kind \"{}\"", self.kind)));
        }
        let held = match &fault {
            Fault::Change(Change::Appear(n)) => Some((*n, true)),
            Fault::Change(Change::Late(n)) => Some((*n, false)),
            _ => None,
        };
        if held.is_some() && (path.ends_with('*') || times.is_none()) {
            return Err(Error::usage(format!("kind \"{}\" needs one path, and times", self.kind)));
        }
        let held = held.map(|(n, newest)| HeldBack { path: path.clone(), n: n * times.unwrap_or(1), newest });
        let mut rule = Rule::new(&path, fault).from_nth(from.unwrap_or(1));
        for (name, value) in query {
            match value {
                Value::String(value) => rule = rule.with(&name, &value),
                other => return Err(wrong(&name, "a text", &other)),
            }
        }
        rule = times.into_iter().fold(rule, Rule::times);
        Ok((chance.into_iter().fold(rule, Rule::chance), held))
    }

    fn fault(&mut self) -> Result<Fault> {
        let kind = self.kind.clone();
        Ok(match kind.as_str() {
            "status" => Fault::Refuse(self.refusal()?),
            "delay" => Fault::Delay(self.time("time", None)?),
            "hang" => Fault::Hang,
            "reset" => Fault::Reset(Moment::BeforeHead),
            "reset-in-body" => Fault::Reset(Moment::InBody),
            "reset-after-body" => Fault::Reset(Moment::AfterBody),
            "short-body" => Fault::ShortBody,
            "no-last-chunk" => Fault::NoLastChunk,
            "gzip-truncated" => Fault::Gzip(BadGzip::Truncated),
            "gzip-crc" => Fault::Gzip(BadGzip::Crc),
            "gzip-plain" => Fault::Gzip(BadGzip::Plain),
            "drip" | "drip-head" => {
                let pause = self.time("time", Some(Duration::from_secs(1)))?;
                Fault::Drip { head: kind == "drip-head", pause }
            }
            "html" => Fault::Html(self.status(200)?),
            "redirect" => {
                let to = self.text("to")?.ok_or_else(|| Error::usage("expected to = \"URL\", found none"))?;
                Fault::Redirect { status: self.status(302)?, to }
            }
            "bomb" => Fault::Bomb(self.count("megabytes")?.unwrap_or(100) as usize),
            "endless" => Fault::Endless(self.count("megabytes")?.unwrap_or(1024) as usize),
            "appear" => Fault::Change(Change::Appear(self.count("count")?.unwrap_or(1))),
            "late" => Fault::Change(Change::Late(self.count("count")?.unwrap_or(1))),
            "edit" => Fault::Change(Change::Edit(self.count("count")?.unwrap_or(1))),
            "vanish" => Fault::Change(Change::Vanish(self.count("count")?.unwrap_or(1))),
            "vanish-cursor" => Fault::Change(Change::VanishCursor(self.count("count")?.unwrap_or(1))),
            _ => Fault::Page(damage(&kind)?),
        })
    }

    fn refusal(&mut self) -> Result<Refusal> {
        Ok(Refusal {
            status: self.status(500)?,
            kind: self.text("type")?,
            code: self.text("code")?,
            message: self.text("message")?,
            param: self.text("param")?,
            reason: self.text("reason")?,
            should_retry: match self.table.remove("should_retry") {
                None => None,
                Some(Value::Boolean(flag)) => Some(flag),
                Some(other) => return Err(wrong("should_retry", "true or false", &other)),
            },
            retry_after: self.count("retry_after")?,
        })
    }

    fn status(&mut self, default: u16) -> Result<u16> {
        match self.count("status")? {
            None => Ok(default),
            Some(status @ 200..=599) => Ok(status as u16),
            Some(other) => Err(Error::usage(format!("status: expected 200 to 599, got {other}"))),
        }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.table.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a text", &other)),
        }
    }

    fn count(&mut self, name: &str) -> Result<Option<u64>> {
        match self.table.remove(name) {
            None => Ok(None),
            Some(Value::Integer(n)) if n >= 1 => Ok(Some(n as u64)),
            Some(other) => Err(wrong(name, "a number of at least 1", &other)),
        }
    }

    fn share(&mut self, name: &str) -> Result<Option<f64>> {
        match self.table.remove(name) {
            None => Ok(None),
            Some(Value::Float(share)) if (0.0..=1.0).contains(&share) => Ok(Some(share)),
            Some(other) => Err(wrong(name, "a share like 0.1", &other)),
        }
    }

    fn time(&mut self, name: &str, default: Option<Duration>) -> Result<Duration> {
        match (self.text(name)?, default) {
            (Some(text), _) => parse_duration(&text),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(Error::usage(format!("expected {name} = \"2s\", found none"))),
        }
    }
}

fn wrong(name: &str, expected: &str, got: &Value) -> Error {
    let got = match got {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::String(text) => format!("\"{text}\""),
        other => other.type_str().to_owned(),
    };
    Error::usage(format!("{name}: expected {expected}, got {got}"))
}

fn damage(kind: &str) -> Result<Damage> {
    Ok(match kind {
        "no-has-more" => Damage::NoHasMore,
        "has-more-text" => Damage::HasMoreText,
        "has-more-null" => Damage::HasMoreNull,
        "has-more-always" => Damage::HasMoreAlways,
        "no-more" => Damage::NoMore,
        "no-data" => Damage::NoData,
        "data-object" => Damage::DataObject,
        "no-list" => Damage::NoList,
        "garbage" => Damage::Garbage,
        "nul" => Damage::Nul,
        "trailing" => Damage::Trailing,
        "empty" => Damage::Empty,
        "other-mode" => Damage::OtherMode,
        other => return Err(Error::usage(format!("kind: expected {KINDS}, got \"{other}\""))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::Request;

    #[test]
    fn a_file_gives_rules_latency_and_rates() {
        let text = r#"
            latency = "150ms"
            rate_limit = "25/100"
            seed = 3
            [[fault]]
            kind = "status"
            status = 429
            reason = "endpoint-rate"
            path = "/v1/charges"
            query = { starting_after = "*" }
            from = 2
            times = 1
        "#;
        let faults = Faults::parse(text).unwrap();
        assert_eq!(faults.latency, Duration::from_millis(150));
        let request = Request::new("/v1/charges").with("starting_after", "ch_1");
        let taken: Vec<_> = (0..3).map(|_| faults.rules.take(&request)).collect();
        let refusal = Refusal { status: 429, reason: Some("endpoint-rate".to_owned()), ..Refusal::default() };
        assert_eq!(taken, [None, Some(Fault::Refuse(refusal)), None]);
        assert_eq!(faults.rules.take(&Request::new("/v1/charges")), None);
    }

    #[test]
    fn every_kind_that_is_named_can_be_read() {
        for kind in KINDS.split([',', ' ']).filter(|word| !word.is_empty() && *word != "or") {
            let more = match kind {
                "delay" => "time = \"1s\"",
                "redirect" => "to = \"http://127.0.0.1:1\"",
                "appear" | "late" => "times = 1",
                _ => "",
            };
            let text = format!("[[fault]]\nkind = \"{kind}\"\npath = \"/v1/charges\"\n{more}\n");
            assert!(Faults::parse(&text).is_ok(), "{kind}: {:?}", Faults::parse(&text).err());
            assert!(
                FAULTS_HELP.contains(&format!("  {kind}"))
                    || FAULTS_HELP.contains(&format!(" {kind},"))
                    || FAULTS_HELP.contains(&format!(", {kind}")),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_an_error_with_its_line() {
        for (text, says) in [
            ("latency = \"fast\"", "like 150ms"),
            ("rate_limit = \"many\"", "like 25/100"),
            ("latence = \"1s\"", "line 1"),
            ("seed = 1\n[[fault]]\nkind = \"tired\"", "line 2: kind: expected status"),
            (
                "[[fault]]\nkind = \"hang\"\n\n[[fault]]\nkind = \"hang\"\nstatus = 500",
                "line 4: unexpected key status",
            ),
            ("[[fault]]\nkind = \"status\"\nstatus = 42", "expected 200 to 599"),
            ("[[fault]]\nkind = \"hang\"\nfrom = 0", "at least 1, got 0"),
            ("[[fault]]\nkind = \"hang\"\nfrom = [1]", "at least 1, got array"),
            ("[[fault]]\nkind = \"hang\"\npath = \"charges\"", "like /v1/charges or /v1/*, got \"charges\""),
            ("[[fault]]\nkind = \"appear\"\ntimes = 1", "needs one path"),
            ("[[fault]]\npath = \"/v1/charges\"", "expected a kind"),
        ] {
            let error = Faults::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: expected \"{says}\", got \"{error}\"");
        }
    }
}
