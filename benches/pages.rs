//! Turns the fake account into a file of list pages or of objects in lines, to feed an import.
//!
//! `cargo run --release --example pages -- charges 100000 pages > charges.json`. Instead of `pages`:
//! `compact`, pages without white space; `lines`, one compact object a line; `changed`, a thousand objects
//! spread over the account as if they had changed since. `--one-month` as the last argument puts the whole
//! account into one month.

mod support;

use std::io::{BufWriter, Result, Write};

use stripelake::fake::{Account, Request, Spec};

/// The month of [`Spec`]'s `now`, which is a 28th.
const DAYS_OF_THE_MONTH: u32 = 27;
const N_CHANGED: i64 = 1000;

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_one_month = arguments.pop_if(|last| last == "--one-month").is_some();
    let [resource, n_charges, form] = arguments.as_slice() else {
        eprintln!("expected RESOURCE N_CHARGES pages|compact|lines|changed [--one-month]");
        std::process::exit(2);
    };
    let default = Spec::default();
    let spec = Spec {
        charges: n_charges.parse().expect("expected a number of charges"),
        span_days: if is_one_month { DAYS_OF_THE_MONTH } else { default.span_days },
        ..default
    };
    let (now, span_days) = (spec.now, spec.span_days);
    let account = Account::new(spec);
    let mut out = BufWriter::new(std::io::stdout().lock());
    if form == "changed" {
        changed(&mut out, &account, resource, now, i64::from(span_days) * 86_400)?;
        return out.flush();
    }
    let mut result = Ok(());
    support::each_page(&account, resource, |body| {
        if result.is_ok() {
            result = match form.as_str() {
                "lines" => lines(&mut out, body),
                "compact" => compact(&mut out, body),
                _ => page(&mut out, body),
            };
        }
    });
    result.and_then(|()| out.flush())
}

fn page(out: &mut impl Write, body: &[u8]) -> Result<()> {
    out.write_all(body)?;
    out.write_all(b"\n")
}

/// Every line but those inside texts begins with white space, and texts have no line breaks.
fn compact(out: &mut impl Write, body: &[u8]) -> Result<()> {
    for line in body.split(|byte| *byte == b'\n') {
        out.write_all(line.trim_ascii_start())?;
    }
    out.write_all(b"\n")
}

fn lines(out: &mut impl Write, body: &[u8]) -> Result<()> {
    let page: serde_json::Value = serde_json::from_slice(body)?;
    for object in page["data"].as_array().into_iter().flatten() {
        writeln!(out, "{object}")?;
    }
    Ok(())
}

/// The newest object before each of [`N_CHANGED`] moments, with another description.
fn changed(out: &mut impl Write, account: &Account, resource: &str, now: i64, span_secs: i64) -> Result<()> {
    for n in 0..N_CHANGED {
        let before = now - span_secs * n / N_CHANGED;
        let url = format!("/v1/{resource}?limit=1&created[lt]={before}");
        let body = account.respond(&Request::get(&url, support::KEY)).body;
        let mut page: serde_json::Value = serde_json::from_slice(&body)?;
        for object in page["data"].as_array_mut().into_iter().flatten() {
            object["description"] = format!("changed {n}").into();
            writeln!(out, "{object}")?;
        }
    }
    Ok(())
}
