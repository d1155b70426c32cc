//! Turns a seed into a text that is nearly as good: another shape, another writing, broken bytes.

use fastrand::Rng;

use crate::check::Form;
use crate::json::{Json, Style, parse, text, write};
use crate::seeds::Seed;

/// Values, keys and pieces of text that have broken decoders before, here or elsewhere.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "1e2",
    "1E+2",
    "0.1",
    "1.0",
    "01",
    "-",
    "+1",
    ".5",
    "1.",
    "1e",
    "1e999",
    "-1e999",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "99999999999999999999999999999999999999999999",
    "0.123456789012345678901234567890",
    "253402300799",
    "253402300800",
    "-62135596801",
    "NaN",
    "nul",
    "tru",
    "\"\"",
    "\"0\"",
    "\"\\u0000\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\uD83D\\n\"",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\\"",
    "\"a\tb\"",
    "\"\u{7f}\u{2028}\u{10ffff}\"",
    "\"1.50\"",
    "\"abc\\/def\"",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "[{}]",
    "{\"\":null}",
    "[1,]",
    "{\"a\":1,}",
    "{\"a\" 1}",
    "[1 2]",
    "",
    "{\"id\":\"x_1\",\"object\":\"thing\"}",
    "{\"object\":\"list\",\"data\":[],\"has_more\":true,\"url\":\"/v1/x\"}",
];
const KEYS: &[&str] = &[
    "",
    "id",
    "object",
    "created",
    "livemode",
    "data",
    "has_more",
    "metadata",
    "currency",
    "type",
    "card",
    "client_secret",
    "_extra",
    "_synced_at",
    "a.b",
    "\u{e9}",
    "\u{1f600}",
    "items",
    "url",
];
const PIECES: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b" ",
    b"\n",
    b"\0",
    b"\x80",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\\u",
    b"\\ud800",
    b"null",
    b"-",
    b"e",
    b"//",
    b"\r\n",
    b"\"id\":",
    b"},{",
    b"]]]]",
];

/// Deeper than any reader follows.
const DEEP: usize = 400;

pub fn mutated(rng: &mut Rng, seed: &Seed, seeds: &[Seed]) -> Vec<u8> {
    let mut bytes = match rng.u8(0..8) {
        0 => seed.text.clone().into_bytes(),
        _ => reshaped(rng, seed, seeds).into_bytes(),
    };
    if rng.u8(0..3) == 0 {
        for _ in 0..rng.usize(1..5) {
            damage(rng, &mut bytes, seeds);
        }
    }
    bytes
}

/// Changes the values, then writes them down in some way.
fn reshaped(rng: &mut Rng, seed: &Seed, seeds: &[Seed]) -> String {
    let lines: Vec<&str> = match seed.form {
        Form::Page => vec![&seed.text],
        Form::Objects => seed.text.lines().collect(),
    };
    let mut values: Vec<Json> = lines.iter().map(|line| parse(line).expect("seeds are JSON")).collect();
    for _ in 0..rng.usize(0..6) {
        let at = rng.usize(0..values.len());
        change(rng, &mut values[at], seeds);
    }
    let shuffle = (rng.u8(0..4) == 0).then(|| rng.u64(..));
    let escapes = (rng.u8(0..6) == 0).then(|| rng.u64(..));
    let spaces = (rng.u8(0..6) == 0).then(|| rng.u64(..));
    let is_pretty = spaces.is_none() && rng.bool();
    let texts = values.iter().map(|value| {
        let text = write(value, Style { spaces, shuffle, escapes });
        if is_pretty { pretty(&text) } else { text }
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// Walks down at random and changes what is there.
fn change(rng: &mut Rng, value: &mut Json, seeds: &[Seed]) {
    let goes_on = rng.u8(0..8) > 0;
    match value {
        Json::Object(members) if !members.is_empty() && goes_on => {
            let at = rng.usize(0..members.len());
            if rng.u8(0..3) > 0 { change(rng, &mut members[at].1, seeds) } else { member(rng, members, at) }
        }
        Json::Array(items) if !items.is_empty() && goes_on => {
            let at = rng.usize(0..items.len());
            match rng.u8(0..8) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => change(rng, &mut items[at], seeds),
            }
        }
        _ => *value = other(rng, value, seeds),
    }
}

fn member(rng: &mut Rng, members: &mut Vec<(String, Json)>, at: usize) {
    let key = members[at].0.clone();
    let some = |rng: &mut Rng| Json::Raw((*rng.choice(VALUES).expect("not empty")).to_owned());
    match rng.u8(0..7) {
        0 => drop(members.remove(at)),
        1 => members.insert(rng.usize(0..=members.len()), members[at].clone()),
        2 => members.insert(rng.usize(0..=members.len()), (key, some(rng))),
        3 => members[at].0 = (*rng.choice(KEYS).expect("not empty")).to_owned(),
        4 => members[at].0.push(rng.char('!'..'\u{2ff}')),
        5 => members.insert(at, ((*rng.choice(KEYS).expect("not empty")).to_owned(), some(rng))),
        _ => {
            let other = rng.usize(0..members.len());
            members.swap(at, other);
        }
    }
}

/// Something in the place of a value.
fn other(rng: &mut Rng, value: &Json, seeds: &[Seed]) -> Json {
    match rng.u8(0..8) {
        0 => {
            let (open, close) = if rng.bool() { ("[", "]") } else { ("{\"a\":", "}") };
            let depth = rng.usize(1..DEEP);
            Json::Raw(format!("{}1{}", open.repeat(depth), close.repeat(depth)))
        }
        1 => {
            let seed = rng.choice(seeds).expect("not empty");
            part(rng, &parse(&seed.text).unwrap_or(Json::Null))
        }
        2 => text(&rng.choice(seeds).expect("not empty").text[..rng.usize(0..2)]),
        3 => match value {
            Json::Text(old) => text(&old.repeat(rng.usize(0..40))),
            Json::Number(old) => text(old),
            _ => Json::Array(vec![value.clone()]),
        },
        4 => Json::Number(rng.i64(..).to_string()),
        _ => Json::Raw((*rng.choice(VALUES).expect("not empty")).to_owned()),
    }
}

/// A value from anywhere inside another.
fn part(rng: &mut Rng, value: &Json) -> Json {
    let inner = match value {
        Json::Object(members) if !members.is_empty() => &members[rng.usize(0..members.len())].1,
        Json::Array(items) if !items.is_empty() => &items[rng.usize(0..items.len())],
        _ => return value.clone(),
    };
    if rng.u8(0..4) == 0 { inner.clone() } else { part(rng, inner) }
}

fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, seeds: &[Seed]) {
    let at = rng.usize(0..=bytes.len());
    let end = bytes.len().min(at + rng.usize(1..60));
    match rng.u8(0..8) {
        0 => bytes.truncate(at),
        1 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
        2 if at < bytes.len() => bytes[at] = rng.u8(..),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
        5 => {
            // Two seeds in one: the beginning of this, the end of another.
            let tail = rng.choice(seeds).expect("not empty").text.as_bytes();
            bytes.truncate(at);
            bytes.extend_from_slice(&tail[rng.usize(0..tail.len())..]);
        }
        _ => drop(bytes.splice(at..at, rng.choice(PIECES).expect("not empty").iter().copied())),
    }
}

/// White space as Stripe sets it, between the tokens of a text without any.
fn pretty(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut is_in_string, mut is_escaped) = (0_usize, false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if is_in_string {
            out.push(c);
            is_in_string = is_escaped || c != '"';
            is_escaped = c == '\\' && !is_escaped;
            continue;
        }
        let is_empty = matches!(chars.peek(), Some('}' | ']'));
        let line =
            |out: &mut String, depth: usize| out.push_str(&format!("\n{}", "  ".repeat(depth.min(40))));
        match c {
            '{' | '[' => {
                depth += 1;
                out.push(c);
                if !is_empty {
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !out.ends_with(['{', '[']) {
                    line(&mut out, depth);
                }
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                is_in_string = c == '"';
                out.push(c);
            }
        }
    }
    out
}
