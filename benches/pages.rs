//! Turns the fake account into a file of list pages or of objects in lines, to feed an import.
//!
//! `cargo run --release --example pages -- charges 100000 pages > charges.json`; `lines` instead of
//! `pages` prints one compact object a line.

mod support;

use std::io::{BufWriter, Write};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [resource, n_charges, form] = arguments.as_slice() else {
        eprintln!("expected RESOURCE N_CHARGES pages|lines");
        std::process::exit(2);
    };
    let account = support::account(n_charges.parse().expect("expected a number of charges"));
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut result = Ok(());
    support::each_page(&account, resource, |body| {
        if result.is_ok() {
            result = if form == "lines" { lines(&mut out, body) } else { page(&mut out, body) };
        }
    });
    result.and_then(|()| out.flush())
}

fn page(out: &mut impl Write, body: &[u8]) -> std::io::Result<()> {
    out.write_all(body)?;
    out.write_all(b"\n")
}

fn lines(out: &mut impl Write, body: &[u8]) -> std::io::Result<()> {
    let page: serde_json::Value = serde_json::from_slice(body)?;
    for object in page["data"].as_array().into_iter().flatten() {
        writeln!(out, "{object}")?;
    }
    Ok(())
}
