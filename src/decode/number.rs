//! Turns number text into exact values, or says that it does not fit.

use crate::decode::columns::DECIMAL;

/// A JSON integer that fits 64 bits; `1.0` and `1e3` are not integers here.
pub fn int64(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A JSON number within the range of a 64-bit float.
pub fn float(text: &str) -> Option<f64> {
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return None;
    }
    let value: f64 = text.parse().ok().filter(|v: &f64| v.is_finite())?;
    // What becomes nothing, or another integer, is kept as text.
    let is_nothing = value == 0.0 && mantissa(text).bytes().any(|b| matches!(b, b'1'..=b'9'));
    let is_other = text.parse::<i128>().is_ok_and(|integer| value as i128 != integer);
    (!is_nothing && !is_other).then_some(value)
}

fn mantissa(text: &str) -> &str {
    text.split(['e', 'E']).next().unwrap_or_default()
}

/// Unix seconds as microseconds.
pub fn micros(text: &str) -> Option<i64> {
    int64(text)?.checked_mul(1_000_000)
}

/// A decimal string such as `-12.5` as an integer scaled by 10^12; `None` when it has more than 12
/// decimals, more than 26 digits before the point, or anything but digits. What begins with a needless zero is a
/// number to nobody, and as one it would lose that, as a zero would its sign.
pub fn decimal(text: &str) -> Option<i128> {
    let scale = DECIMAL.1 as usize;
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let is_number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > scale {
        return None;
    }
    let has_needless_zero = whole.len() > 1 && whole.starts_with('0');
    if has_needless_zero || whole.len() > DECIMAL.0 as usize - scale {
        return None;
    }
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        value = value * 10 + i128::from(digit - b'0');
    }
    value *= 10i128.pow((scale - fraction.len()) as u32);
    match is_negative {
        true => Some(-value).filter(|value| *value != 0),
        false => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p4_numbers_never_wrap_or_round() {
        assert_eq!(int64("9223372036854775807"), Some(i64::MAX));
        assert_eq!(int64("9223372036854775808"), None);
        assert_eq!(int64("-9223372036854775808"), Some(i64::MIN));
        for text in ["1.0", "1e3", "", "-", "true", "\"1\""] {
            assert_eq!(int64(text), None, "{text}");
        }
        assert_eq!(float("1e400"), None);
        assert_eq!(float("1e-400"), None);
        assert_eq!(float("0e-400"), Some(0.0));
        assert_eq!(float("9007199254740993"), None);
        assert_eq!(float("9007199254740992"), Some(9_007_199_254_740_992.0));
        assert_eq!(float("-2.5"), Some(-2.5));
        assert_eq!(micros("9223372036854"), Some(9_223_372_036_854_000_000));
        assert_eq!(micros("9223372036855"), None);
    }

    #[test]
    fn decimals_are_exact_to_twelve_places() {
        assert_eq!(decimal("0.000000000001"), Some(1));
        assert_eq!(decimal("-1.5"), Some(-1_500_000_000_000));
        assert_eq!(decimal("99999999999999999999999999.999999999999"), Some(10i128.pow(38) - 1));
        assert_eq!((decimal("0"), decimal("0.50")), (Some(0), Some(500_000_000_000)));
        let odd = ["1e5", ".5", "5.", "", "-", "+1", " 1", "000554", "00.5", "-0", "-0.00"];
        for text in ["100000000000000000000000000", "1.0000000000001"].into_iter().chain(odd) {
            assert_eq!(decimal(text), None, "{text}");
        }
    }
}
