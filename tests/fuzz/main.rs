//! Turns real pages into millions of broken ones, and expects the same of every decoder.
//!
//! `cargo test` runs a second of it from a fixed seed; `make fuzz` runs longer from a new one. On every
//! input: nothing panics, the fast decoder gives what the plain one gives, and neither a decoder nor the
//! envelope takes what is no JSON. What fails is written to `target/fuzz` with the command that repeats it.

#[path = "../shape/json.rs"]
#[allow(dead_code, reason = "the shape tests use the rest")]
mod json;

mod check;
mod mutate;
mod seeds;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use check::{Form, Input};
use fastrand::Rng;
use seeds::{Seed, seeds};

const FIXED_SEED: u64 = 7;

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("expected a number in {name}, got {text:?}")))
}

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Keeps an input that failed, and says how to run it again.
fn fail(input: &Input, seed: u64, what: &str) -> ! {
    let folder = folder("target/fuzz");
    std::fs::create_dir_all(&folder).unwrap();
    let name = format!("{}-{}-{:08x}.json", input.resource, input.form.name(), crc32fast::hash(&input.bytes));
    std::fs::write(folder.join(&name), &input.bytes).unwrap();
    panic!(
        "{what}\nFUZZ_SEED was {seed}; the input alone: \
         FUZZ_INPUT=target/fuzz/{name} cargo test --locked --test fuzz the_input\n\
         once it is understood, move it to tests/fuzz/regressions"
    );
}

/// A file that [`fail`] has written: `<resource>-<form>-<sum>.json`.
fn kept(path: &Path) -> Input {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let mut parts = name.split('-');
    let resource = parts.next().unwrap().to_owned();
    let form = Form::parse(parts.next().unwrap_or_default())
        .unwrap_or_else(|| panic!("expected <resource>-page-<sum>.json or -objects-, got {name}"));
    Input { resource, form, bytes: std::fs::read(path).unwrap() }
}

fn one(rng: &mut Rng, seeds: &[Seed]) -> Input {
    let seed = rng.choice(seeds).expect("there are seeds");
    let bytes = mutate::mutated(rng, seed, seeds);
    Input { resource: seed.resource.name.clone(), form: seed.form, bytes }
}

#[test]
fn decoders_and_envelope_agree_on_mutated_pages() {
    let seeds = seeds();
    let secs = variable("FUZZ_SECS").unwrap_or(1.0);
    let seed = variable("FUZZ_SEED").unwrap_or(FIXED_SEED);
    let mut rng = Rng::with_seed(seed);
    let started = Instant::now();
    let (mut n_execs, mut n_taken) = (0_u64, 0_u64);
    while started.elapsed() < Duration::from_secs_f64(secs) {
        let input = one(&mut rng, &seeds);
        match check::check(&input, &seeds) {
            Ok(is_taken) => n_taken += u64::from(is_taken),
            Err(what) => fail(&input, seed, &what),
        }
        n_execs += 1;
    }
    let secs = started.elapsed().as_secs_f64();
    println!(
        "fuzz: {n_execs} inputs in {secs:.1} s, {:.0} a second, {} % taken, FUZZ_SEED={seed}",
        n_execs as f64 / secs,
        n_taken * 100 / n_execs.max(1)
    );
    assert!(n_taken > 0 && n_taken < n_execs, "expected that some inputs are taken and some refused");
}

#[test]
fn the_seeds_themselves_are_taken() {
    let seeds = seeds();
    for seed in &seeds {
        let (resource, form) = (seed.resource.name.clone(), seed.form);
        let input = Input { resource, form, bytes: seed.text.clone().into_bytes() };
        assert_eq!(check::check(&input, &seeds), Ok(true), "{} {}", input.resource, input.form.name());
    }
}

#[test]
fn what_once_failed_does_not_fail_again() {
    let seeds = seeds();
    for entry in std::fs::read_dir(folder("tests/fuzz/regressions")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let result = check::check(&kept(&path), &seeds);
            assert!(result.is_ok(), "{}: {}", path.display(), result.unwrap_err());
        }
    }
}

#[test]
fn the_input_of_fuzz_input_is_checked_alone() {
    let Some(path) = variable::<PathBuf>("FUZZ_INPUT") else { return };
    let result = check::check(&kept(&folder("").join(path)), &seeds());
    assert!(result.is_ok(), "{}", result.unwrap_err());
}
