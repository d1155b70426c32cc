//! Turns the share of objects that are older into the second of an object.

use std::ops::Range;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::timeline::DAY;
use crate::error::{Error, Result};

/// How the objects are spread over the account's span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Density {
    /// Newer months are denser, nights are sparse, and here and there up to 150 objects share a second.
    #[default]
    Growing,
    /// The same everywhere.
    Even,
    /// Four fifths lie in the calendar month of the span's middle, the others evenly before and after it.
    Month,
    /// As growing, but of each 8,192 objects 2,000 to 6,000 share one second.
    Bursts,
}

impl Density {
    pub const ALL: [Self; 4] = [Self::Growing, Self::Even, Self::Month, Self::Bursts];

    pub fn name(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Even => "even",
            Self::Month => "month",
            Self::Bursts => "bursts",
        }
    }

    /// Objects among which there is one burst.
    pub(super) fn burst_block(self) -> Option<u64> {
        match self {
            Self::Growing | Self::Month => Some(256),
            Self::Even => None,
            Self::Bursts => Some(8_192),
        }
    }

    /// How many objects of a block share a second; `draw` decides.
    pub(super) fn burst_len(self, draw: u64) -> u64 {
        match self {
            Self::Growing | Self::Month if draw.is_multiple_of(8) => 50 + (draw >> 8) % 101,
            Self::Growing | Self::Month => 1 + (draw >> 8) % 5,
            Self::Even => 1,
            Self::Bursts => 2_000 + (draw >> 8) % 4_001,
        }
    }
}

impl FromStr for Density {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|density| density.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::usage(format!("expected one of {names}, got \"{name}\""))
        })
    }
}

/// The account's span, and where in it things happen.
///
/// The floats are only added, multiplied, divided and rooted, so every machine computes the same seconds.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    pub density: Density,
    pub start: i64,
    pub span_secs: i64,
    /// The month of the span's middle, as far as it lies in the span, in seconds since its start.
    month: Range<f64>,
}

/// Share of the growing density that does not grow with time.
const STEADY: f64 = 0.35;

/// Share of all objects in the one month.
const CROWD: f64 = 0.8;

impl Spread {
    pub fn new(density: Density, start: i64, span_secs: i64) -> Self {
        let month = month_of(start + span_secs / 2);
        let within = |second: i64| (second - start).clamp(0, span_secs) as f64;
        Self { density, start, span_secs, month: within(month.start)..within(month.end) }
    }

    /// The second at which `share` of all objects exist; it grows with the share, which is in `0.0..1.0`.
    pub fn second(&self, share: f64) -> i64 {
        let span = self.span_secs as f64;
        let since_start = match self.density {
            Density::Growing | Density::Bursts => by_day(grown(share) * span),
            Density::Even => share * span,
            Density::Month => self.crowded(share),
        };
        self.start + since_start as i64
    }

    fn crowded(&self, share: f64) -> f64 {
        let (start, end, span) = (self.month.start, self.month.end, self.span_secs as f64);
        let outside = (1.0 - CROWD) / 2.0;
        // In a short account there may be no time before or after the month.
        let before = if start > 0.0 { outside } else { 0.0 };
        let after = if end < span { outside } else { 0.0 };
        if share < before {
            share / before * start
        } else if share < 1.0 - after {
            start + (share - before) / (1.0 - before - after) * (end - start)
        } else {
            end + (share - (1.0 - after)) / after * (span - end)
        }
    }
}

fn month_of(second: i64) -> Range<i64> {
    let noon = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
    let date = noon.to_zoned(TimeZone::UTC).date();
    let midnight = |date: jiff::civil::Date| {
        date.to_zoned(TimeZone::UTC).expect("UTC skips no midnight").timestamp().as_second()
    };
    midnight(date.first_of_month())..midnight(date.last_of_month()) + DAY
}

/// The place in the span at which `share` of all objects exist: the inverse of `STEADY * x + (1 - STEADY) * x^2`.
fn grown(share: f64) -> f64 {
    let rise = 1.0 - STEADY;
    ((STEADY * STEADY + 4.0 * rise * share).sqrt() - STEADY) / (2.0 * rise)
}

/// Moves each second towards the middle of its day, in order.
fn by_day(second: f64) -> f64 {
    let day = (second / DAY as f64).floor();
    let off_noon = second / DAY as f64 - day - 0.5;
    (day + 0.5 + 0.3 * off_noon + 2.8 * off_noon * off_noon * off_noon) * DAY as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_700_000_000;

    /// Of 1,000 objects, how many lie in the seconds.
    fn permille(density: Density, span_days: i64, seconds: Range<i64>) -> usize {
        let spread = Spread::new(density, START, span_days * DAY);
        (0..1_000).filter(|n| seconds.contains(&spread.second(f64::from(*n) / 1_000.0))).count()
    }

    #[test]
    fn even_objects_fill_each_tenth_of_the_span_alike() {
        for tenth in 0..10 {
            let start = START + tenth * 73 * DAY;
            assert_eq!(permille(Density::Even, 730, start..start + 73 * DAY), 100, "{tenth}");
        }
    }

    #[test]
    fn four_fifths_of_a_month_s_account_lie_in_one_calendar_month() {
        // 2024-11-01 and 2024-12-01.
        let november = 1_730_419_200..1_733_011_200;
        assert_eq!(month_of(START + 365 * DAY), november);
        assert_eq!(permille(Density::Month, 730, november.clone()), 800);
        assert_eq!(permille(Density::Month, 730, START..november.start), 100);
        assert_eq!(permille(Density::Month, 1, START..START + DAY), 1_000);
    }

    #[test]
    fn every_density_has_its_name_and_others_are_refused() {
        for density in Density::ALL {
            assert_eq!(density.name().parse::<Density>().unwrap(), density);
        }
        let refusal = "dense".parse::<Density>().unwrap_err().to_string();
        assert!(refusal.contains("expected one of growing, even, month, bursts, got \"dense\""), "{refusal}");
    }
}
