//! Turns currencies and chance into amounts in minor units, and amounts of one currency into another.

use super::chance::{Chance, mix};
use super::json::Number;
use super::timeline::DAY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Currency {
    Usd,
    Eur,
    Gbp,
    Aud,
    Cad,
    /// No minor unit.
    Jpy,
    /// A thousand minor units.
    Kwd,
}

use Currency::{Aud, Cad, Eur, Gbp, Jpy, Kwd, Usd};

pub(super) const CURRENCIES: [Currency; 7] = [Usd, Eur, Gbp, Aud, Cad, Jpy, Kwd];

impl Currency {
    pub fn code(self) -> &'static str {
        match self {
            Usd => "usd",
            Eur => "eur",
            Gbp => "gbp",
            Aud => "aud",
            Cad => "cad",
            Jpy => "jpy",
            Kwd => "kwd",
        }
    }

    pub fn of_code(code: &str) -> Option<Self> {
        CURRENCIES.into_iter().find(|currency| currency.code() == code)
    }

    /// The currency in which the account is paid out; the others are converted.
    pub fn settlement(self) -> Self {
        match self {
            Usd | Eur | Gbp => self,
            Aud | Cad | Jpy | Kwd => Usd,
        }
    }

    /// What so many US cents are in a usual price of this currency.
    pub fn amount(self, usd_cents: i64) -> i64 {
        match self {
            Usd | Eur | Gbp => usd_cents,
            Aud | Cad => usd_cents * 7 / 5,
            Jpy => usd_cents * 3 / 2,
            // The last digit of a three-decimal amount is always 0.
            Kwd => usd_cents * 3 / 10 * 10,
        }
    }

    fn minor_units(self) -> i128 {
        match self {
            Usd | Eur | Gbp | Aud | Cad => 100,
            Jpy => 1,
            Kwd => 1000,
        }
    }
}

/// US cents as customers pay them: price points, and odd sums.
pub(super) fn usd_cents(chance: &mut Chance) -> i64 {
    match chance.below(10) {
        0..=4 => chance.pick(&[900, 999, 1_900, 1_999, 2_900, 4_900, 9_900, 19_900]),
        5..=8 => 300 + chance.below(25_000) as i64,
        _ => 5_000 + chance.below(400_000) as i64,
    }
}

/// A conversion of one day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Units of the target for a million units of the source.
    micro: i64,
    from: Currency,
    to: Currency,
}

/// The rate at which an amount is settled at `second`, none if it is settled as it is.
pub(super) fn settlement_rate(seed: u64, from: Currency, second: i64) -> Option<Rate> {
    let base = match from {
        Usd | Eur | Gbp => return None,
        Aud => 655_000,
        Cad => 727_000,
        Jpy => 6_710,
        Kwd => 3_252_000,
    };
    let drift = 960 + (mix(seed ^ from as u64, second.div_euclid(DAY) as u64) % 81) as i64;
    Some(Rate { micro: base * drift / 1000, from, to: from.settlement() })
}

impl Rate {
    /// The amount in the target's minor units, rounded half away from zero.
    pub fn convert(self, amount: i64) -> i64 {
        let product = i128::from(amount) * i128::from(self.micro) * self.to.minor_units();
        let divisor = self.from.minor_units() * 1_000_000;
        ((product + product.signum() * divisor / 2) / divisor) as i64
    }

    /// The rate as Stripe prints it, between the major units.
    pub fn number(self) -> Number {
        Number(decimal(self.micro, 6))
    }
}

/// `mantissa / 10^scale` without trailing zeros: `decimal(1250, 2)` is `12.5`.
pub(super) fn decimal(mantissa: i64, scale: u32) -> String {
    let unit = 10_u64.pow(scale);
    let sign = if mantissa < 0 { "-" } else { "" };
    let (whole, part) = (mantissa.unsigned_abs() / unit, mantissa.unsigned_abs() % unit);
    if part == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{part:0width$}", width = scale as usize);
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversion_heeds_the_decimals_of_both_currencies() {
        let rate = |micro, from| Rate { micro, from, to: Usd };
        assert_eq!(rate(6_700, Jpy).convert(1_000), 670);
        assert_eq!(rate(3_250_000, Kwd).convert(1_000), 325);
        assert_eq!(rate(655_000, Aud).convert(-1_001), -656);
        assert!(settlement_rate(1, Eur, 0).is_none());
    }

    #[test]
    fn a_decimal_has_no_needless_zeros() {
        assert_eq!(decimal(1_250, 2), "12.5");
        assert_eq!(decimal(6_701, 6), "0.006701");
        assert_eq!(decimal(-5, 1), "-0.5");
        assert_eq!(decimal(3_000_000, 6), "3");
    }
}
