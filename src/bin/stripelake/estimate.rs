//! Turns an estimate into what a person or a program reads.

use indicatif::{HumanBytes, HumanCount};
use serde_json::json;
use stripelake::error::Kind;
use stripelake::plan::estimate::Precision;
use stripelake::run::estimate::{Estimate, ResourceEstimate};

use crate::output::{failure, failures, out};

/// Shows what a sync would cost and what the key may not read, and says what the exit code is.
pub fn show(estimate: &Estimate, is_json: bool, is_quiet: bool) -> Option<Kind> {
    let kind = estimate.report.kind();
    if is_json {
        out(&events(estimate, kind));
    } else if !is_quiet {
        out(&table(estimate));
    }
    failures(&estimate.report.failures);
    kind
}

fn table(estimate: &Estimate) -> String {
    let Estimate { resources, requests, secs, report } = estimate;
    let mut text = String::new();
    for one in resources {
        let ResourceEstimate { resource, precision, objects, requests, parquet_bytes, .. } = one;
        let word = match precision {
            Precision::Exact => "",
            Precision::About => "about",
            Precision::AtLeast => "at least",
        };
        text.push_str(&format!(
            "  {resource:<20} {word:>8} {:>11} objects {:>7} requests {:>11}\n",
            HumanCount(*objects).to_string(),
            HumanCount(*requests).to_string(),
            HumanBytes(*parquet_bytes).to_string()
        ));
    }
    let time = if *secs < 90.0 { format!("{:.0} s", secs.ceil()) } else { format!("{:.1} min", secs / 60.0) };
    text.push_str(&format!(
        "A sync would send about {} requests, in about {time} at this rate, for {} of\nJSON, which are about {} of Parquet. Asked {} requests; nothing was written.\n",
        HumanCount(*requests),
        HumanBytes(estimate.json_bytes()),
        HumanBytes(estimate.parquet_bytes()),
        HumanCount(report.requests)
    ));
    text
}

/// One line for each resource and one for all.
fn events(estimate: &Estimate, kind: Option<Kind>) -> String {
    let Estimate { resources, requests, secs, report } = estimate;
    let mut lines = Vec::new();
    for resource in resources {
        let mut event = serde_json::to_value(resource).expect("text and numbers");
        event["event"] = "estimate".into();
        lines.push(event);
    }
    lines.push(json!({
        "event": "estimate_end",
        "exit_code": kind.map_or(0, Kind::exit_code),
        "requests": requests,
        "secs": secs,
        "json_bytes": estimate.json_bytes(),
        "parquet_bytes": estimate.parquet_bytes(),
        "probing_requests": report.requests,
        "failures": report.failures.iter().map(|(name, error)| failure(Some(name), error)).collect::<Vec<_>>(),
    }));
    lines.iter().map(|line| format!("{line}\n")).collect()
}
