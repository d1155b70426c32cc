//! Turns the text of a flag or setting into a rate, a time, a duration or a version.

use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::fetch::limit::Rate;

/// A request in a quarter of an hour: with fewer, no run comes to an end.
const LEAST_RATE: f64 = 0.001;

/// `80%` of the documented limits, `50` requests per second, or `unlimited`.
pub fn parse_rate(text: &str) -> Result<Rate> {
    let wrong = || Error::usage(format!("expected a rate like 80%, 50 or unlimited, got \"{text}\""));
    if text == "unlimited" {
        return Ok(Rate::Unlimited);
    }
    let (number, is_share) = text.strip_suffix('%').map_or((text, false), |number| (number, true));
    let number: f64 = number.parse().map_err(|_| wrong())?;
    match is_share {
        true if (LEAST_RATE..=1000.0).contains(&number) => Ok(Rate::Share(number / 100.0)),
        false if (LEAST_RATE..=100_000.0).contains(&number) => Ok(Rate::PerSecond(number)),
        _ => Err(wrong()),
    }
}

/// Versions of Stripe's API begin with their date. <https://docs.stripe.com/api/versioning>
pub fn check_version(text: &str) -> Result<()> {
    let date = text.get(..10).unwrap_or(text);
    match date.parse::<jiff::civil::Date>() {
        Ok(_) if text.chars().all(|c| c.is_ascii_graphic()) => Ok(()),
        _ => Err(Error::usage(format!("expected a version like 2026-09-30.endive, got \"{text}\""))
            .hint("leave it out for the version that this program is made for")),
    }
}

/// No run waits longer for anything; clocks cannot count what is much longer.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
/// Less than this no server far away can keep.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

/// `90s`, `10m`, `1h30m`, or seconds.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let span = || Duration::try_from(text.parse::<jiff::SignedDuration>().ok()?).ok();
    let duration = seconds.or_else(span).filter(|duration| *duration <= LONGEST);
    duration.ok_or_else(|| {
        Error::usage(format!("expected a time like 90s, 10m or 1h30m, a year at most, got \"{text}\""))
    })
}

pub fn parse_timeout(text: &str) -> Result<Duration> {
    match parse_duration(text)? {
        timeout if timeout < SHORTEST_TIMEOUT => {
            Err(Error::usage(format!("expected at least 1s, got \"{text}\"")))
        }
        timeout => Ok(timeout),
    }
}

/// A smaller number (1973) is rather a year, or a date with a digit too few, than unix seconds.
const FIRST_UNIX_SECS: i64 = 100_000_000;
/// A larger one (5138) is rather milliseconds.
const END_OF_UNIX_SECS: i64 = 100_000_000_000;

/// A time on the command line: `2026-11-23`, `2026-11-23T02:00:00Z`, or unix seconds.
pub fn parse_time(text: &str) -> Result<Timestamp> {
    // A time zone's name would go unheard, and a leap second would be the one before it.
    let is_plain = !text.contains(['[', ']']) && !text.contains(":60") && !text.contains("5960");
    if let Some(time) = text.parse::<Timestamp>().ok().filter(|_| is_plain) {
        return Ok(time);
    }
    // A date is its midnight.
    let time = text.parse::<jiff::civil::DateTime>().ok().filter(|_| is_plain);
    if let Some(time) = time.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok()) {
        return Ok(time.timestamp());
    }
    let secs = text.parse::<i64>().ok();
    let secs = secs.filter(|secs| *secs == 0 || (FIRST_UNIX_SECS..END_OF_UNIX_SECS).contains(secs));
    let time = secs.and_then(|secs| Timestamp::from_second(secs).ok());
    time.ok_or_else(|| {
        let what = format!("expected a time like 2026-11-23 or 2026-11-23T02:00:00Z, got \"{text}\"");
        Error::usage(what).hint("times are UTC; unix seconds since 1973 are taken, too")
    })
}

/// The first second that is not before a time on the command line. What has whole seconds is before the time if it is before that.
pub fn parse_second(text: &str) -> Result<i64> {
    let time = parse_time(text)?;
    Ok(time.as_second() + i64::from(time.subsec_nanosecond() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shares_numbers_or_unlimited() {
        assert_eq!(parse_rate("100%").unwrap(), Rate::Share(1.0));
        assert_eq!(parse_rate("12.5").unwrap(), Rate::PerSecond(12.5));
        assert_eq!(parse_rate("unlimited").unwrap(), Rate::Unlimited);
        for text in ["", "fast", "0", "-1", "0%", "NaN", "1e-20", "1e-9%", "1e9"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_dates_instants_or_seconds() {
        assert_eq!(parse_second("2026-11-23").unwrap(), 1_795_392_000);
        assert_eq!(parse_second("2026-11-23T01:00:00Z").unwrap(), 1_795_395_600);
        assert_eq!(parse_second("20261123").unwrap(), 1_795_392_000);
        assert_eq!(parse_second("2026-11-23T01:00:00").unwrap(), 1_795_395_600);
        assert_eq!(parse_second("2026-11-23T02:00:00+01:00").unwrap(), 1_795_395_600);
        assert_eq!(parse_second("1795392000").unwrap(), 1_795_392_000);
        assert_eq!(parse_second("0").unwrap(), 0);
        assert_eq!(parse_second("2026-11-23T01:00:00.5Z").unwrap(), 1_795_395_601);
        assert_eq!(parse_second("1960-01-01T00:00:00.5Z").unwrap(), -315_619_199);
        assert_eq!(parse_time("2026-11-23T01:00:00.9Z").unwrap().as_microsecond(), 1_795_395_600_900_000);
        for text in ["yesterday", "2026", "2026112", "20261323", "2026-13-01", "-5", "1795392000000"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        for text in [
            "2026-11-01[Europe/Berlin]",
            "2026-11-01T02:00:00+01:00[Europe/Berlin]",
            "2016-12-31T23:59:60Z",
            "20161231T235960Z",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_spans_or_seconds() {
        for (text, secs) in
            [("90s", 90), ("10m", 600), ("1h30m", 5_400), ("1h 30m", 5_400), ("5", 5), ("366d", 0)]
        {
            match parse_duration(text) {
                Ok(duration) => assert_eq!(duration.as_secs(), secs, "{text}"),
                Err(error) => assert!(secs == 0, "{error}"),
            }
        }
        for text in ["", "soon", "-5m", "9000h", "1e9"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_timeout("1s").is_ok() && parse_timeout("999ms").is_err());
    }

    #[test]
    fn versions_begin_with_their_date() {
        for text in ["2024-06-20", "2026-09-30.endive", "2026-03-25.preview"] {
            assert!(check_version(text).is_ok(), "{text}");
        }
        for text in ["", "latest", "2024-13-01", "2024-06-2", "2024-06-20 beta", "é024-06-20"] {
            assert!(check_version(text).is_err(), "{text}");
        }
    }
}
