//! Turns a column's kind and a number into a value: the odd ones first, then random ones.

use fastrand::Rng;
use stripelake::catalog::{Column, ColumnKind};

use crate::json::{Json, number, object, text};

const TEXTS: [&str; 14] = [
    "a",
    "",
    "\u{0}",
    "quote \" backslash \\ slash / \\u0041",
    "tab\t line\n return\r bell\u{7} escape\u{1b} delete\u{7f}",
    "é ü ß",
    "日本語 €",
    "😀🏳️‍🌈",
    "\u{feff}\u{200d}\u{e000}\u{fffd}\u{10ffff}",
    "null",
    "{\"a\":1}",
    "client_secret",
    "  spaces  ",
    "'; drop table charges; --",
];

const INTEGERS: [i64; 9] =
    [0, 1, -1, i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1, 1_000_000_000_000];

/// Within the range of microseconds in 64 bits.
const SECONDS: [i64; 6] = [0, 1_679_090_500, -1, 253_402_300_799, 9_223_372_036_854, -9_223_372_036_854];

const DECIMALS: [&str; 9] = [
    "0",
    "12.5",
    "-0.000000000001",
    "99999999999999999999999999.999999999999",
    "-99999999999999999999999999.999999999999",
    "1.50",
    "1.000000000000",
    "100",
    "-3",
];

const FLOATS: [&str; 9] =
    ["0", "12.5", "-0.1", "1e3", "1E-7", "1.7976931348623157e308", "5e-324", "3", "-2.50"];

/// Picks by `pick`: the first values of a pool in order, so that a shrunk case is a plain one.
fn pooled<T: Clone>(pool: &[T], pick: u64, random: impl FnOnce(&mut Rng) -> T) -> T {
    match pool.get(pick as usize) {
        Some(value) => value.clone(),
        None if pick.is_multiple_of(2) => pool[(pick / 2) as usize % pool.len()].clone(),
        None => random(&mut Rng::with_seed(pick)),
    }
}

pub fn string(pick: u64) -> String {
    let pool: Vec<String> = TEXTS.iter().map(|t| t.to_string()).collect();
    pooled(&pool, pick, |rng| (0..rng.usize(0..40)).map(|_| rng.char('\0'..)).collect())
}

pub fn integer(pick: u64) -> i64 {
    pooled(&INTEGERS, pick, |rng| rng.i64(..) >> rng.u32(0..63))
}

/// A value that the column takes whole.
pub fn proper(kind: &ColumnKind, pick: u64) -> Json {
    match kind {
        ColumnKind::Text | ColumnKind::Ref => Json::Text(string(pick)),
        ColumnKind::Int64 => number(integer(pick)),
        ColumnKind::Float64 => Json::Number(pooled(&FLOATS, pick, |_| "0.25").to_owned()),
        ColumnKind::Bool => Json::Bool(pick.is_multiple_of(2)),
        ColumnKind::Timestamp => {
            number(pooled(&SECONDS, pick, |rng| rng.i64(-9_000_000_000_000..9_000_000_000_000)))
        }
        ColumnKind::Decimal => Json::Text(pooled(&DECIMALS, pick, |_| "7.125").to_owned()),
        ColumnKind::Map => map(pick),
        ColumnKind::Json | ColumnKind::Rest => any(pick, 4),
        ColumnKind::ListText | ColumnKind::ListRef => {
            Json::Array((0..pick % 4).map(|n| Json::Text(string(pick / 4 + n))).collect())
        }
        ColumnKind::Structs(columns) => {
            Json::Array((0..pick % 4).map(|n| item(columns, pick / 4 + n)).collect())
        }
    }
}

fn map(pick: u64) -> Json {
    let entry = |n: u64| (format!("{n}{}", string(pick / 4 + n)), Json::Text(string(pick / 3 + n)));
    Json::Object((0..pick % 4).map(entry).collect())
}

/// An item of a list of structs; some members are left out.
fn item(columns: &[Column], pick: u64) -> Json {
    let mut rng = Rng::with_seed(pick);
    let mut item = Json::Object(Vec::new());
    for column in columns {
        match rng.u8(0..4) {
            0 => {}
            1 => item.set(&column.path, Json::Null),
            _ => item.set(&column.path, proper(&column.kind, rng.u64(0..40))),
        }
    }
    item
}

/// A value of a type that the column does not have, or out of its range.
pub fn improper(kind: &ColumnKind, pick: u64) -> Json {
    if *kind == ColumnKind::Json {
        return any(pick, 3); // nothing is improper
    }
    let mut pool = vec![
        text("high"),
        number(5),
        Json::Bool(true),
        Json::Array(vec![]),
        Json::Array(vec![number(1), Json::Null, text("x"), object([("a", number(1))])]),
        object([("deep", object([("er", number("1.50"))]))]),
        object([]),
        number("9223372036854775808"),
        number("-9223372036854775809"),
        number("1e400"),
        number("-1E+999"),
        number("0.5"),
        number("1.0"),
        number("1e2"),
        number("123456789012345678901234567890.123456789"),
        text("1.0000000000001"),
        text("1e5"),
        text("100000000000000000000000000"),
        text(""),
        Json::Array(vec![object([("id", number(7))])]),
        Json::Array(vec![object([("amount", text("x"))]), number(1)]),
        object([("id", Json::Null), ("name", text("no id"))]),
    ];
    pool.retain(|value| !takes(kind, value));
    pooled(&pool, pick, |rng| pool[rng.usize(..pool.len())].clone())
}

/// Whether a column of this kind holds the value, at least in part.
fn takes(kind: &ColumnKind, value: &Json) -> bool {
    let is_integer = |n: &str| n.parse::<i64>().is_ok();
    match (kind, value) {
        (ColumnKind::Text | ColumnKind::Ref, Json::Text(_)) => true,
        (ColumnKind::Int64, Json::Number(n)) => is_integer(n),
        (ColumnKind::Timestamp, Json::Number(n)) => n.parse().is_ok_and(|n: i64| n.abs() < 9_223_372_036_855),
        (ColumnKind::Float64, Json::Number(n)) => n.parse().is_ok_and(f64::is_finite),
        (ColumnKind::Bool, Json::Bool(_)) => true,
        (ColumnKind::Decimal, Json::Text(t)) => DECIMALS.contains(&t.as_str()),
        (ColumnKind::Map | ColumnKind::Rest, Json::Object(_)) => true,
        (ColumnKind::Json, _) => true,
        (ColumnKind::ListText | ColumnKind::ListRef, Json::Array(items)) => items.is_empty(),
        (ColumnKind::Structs(_), Json::Array(items)) => items.is_empty(),
        _ => false,
    }
}

/// A reference with the object behind it.
pub fn expanded(pick: u64) -> Json {
    let mut members = vec![("object".to_owned(), text("thing")), ("id".to_owned(), Json::Text(string(pick)))];
    if pick.is_multiple_of(3) {
        members.remove(0);
    }
    if pick % 2 == 1 {
        members.push(("more".to_owned(), any(pick, 2)));
        members.push(("nothing".to_owned(), Json::Null));
    }
    Json::Object(members)
}

/// Any JSON, at most `depth` levels of it.
pub fn any(pick: u64, depth: usize) -> Json {
    let mut rng = Rng::with_seed(pick);
    random(&mut rng, depth)
}

fn random(rng: &mut Rng, depth: usize) -> Json {
    let kinds = if depth == 0 { 5 } else { 8 };
    match rng.u8(0..kinds) {
        0 => Json::Null,
        1 => Json::Bool(rng.bool()),
        2 => Json::Text(string(rng.u64(0..60))),
        3 => number(integer(rng.u64(0..60))),
        4 => number(["1e400", "1.50", "-0.0", "18446744073709551616", "1E5"][rng.usize(..5)]),
        5 => Json::Array((0..rng.usize(0..4)).map(|_| random(rng, depth - 1)).collect()),
        _ => {
            let n_members = rng.usize(0..4);
            let member = |n| (format!("{n}{}", string(rng.u64(0..30))), random(rng, depth - 1));
            Json::Object((0..n_members).map(member).collect())
        }
    }
}

/// `depth` levels of arrays or objects around nothing.
pub fn nested(depth: usize, is_array: bool) -> Json {
    let (open, close) = if is_array { ("[", "]") } else { ("{\"a\":", "}") };
    let inner = if is_array { "" } else { "null" };
    Json::Raw(format!("{}{inner}{}", open.repeat(depth), close.repeat(depth)))
}
