//! Turns the sources into the assurance that the rules of ARCHITECTURE.md hold.

#[path = "house/rust_text.rs"]
mod rust_text;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rust_text::{Rust, paths};

/// Longer files are split by what they know.
const MOST_LINES: usize = 420;

/// Words that name a resource and may stand in a text: a query to paste is no rule about a resource.
const MAY_SAY_A_RESOURCE: &[&str] = &["src/bin/stripelake/demo.rs"];

struct Source {
    /// From the project's root, with `/`.
    path: String,
    text: String,
    rust: Rust,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// Every file of `src`, sorted; those that hold only tests are left out unless asked for.
fn sources(with_tests: bool) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let path = file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        if is_test && !with_tests {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let rust = Rust::parse(&text);
        sources.push(Source { path, text, rust });
    }
    assert!(sources.len() > 50, "expected the sources, found {} files", sources.len());
    sources
}

fn check(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} findings:\n  {}\n", findings.len(), findings.join("\n  "));
}

#[test]
fn every_file_starts_with_one_sentence_that_says_what_it_is() {
    let mut findings = Vec::new();
    for Source { path, text, .. } in sources(true) {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let sentence = first.strip_prefix("//! ").unwrap_or_default();
        let starts = sentence.starts_with(|c: char| c.is_uppercase() || c == '`');
        let goes_on = lines.next().is_some_and(|second| second.starts_with("//! "));
        if !starts || !sentence.ends_with('.') || sentence.contains(". ") || goes_on {
            findings.push(format!("{path}:1: expected one sentence after //!, got {first:?}"));
        }
    }
    check(findings);
}

#[test]
fn no_file_is_too_long_to_read_at_night() {
    let mut findings = Vec::new();
    for Source { path, text, .. } in sources(true) {
        let n_lines = text.lines().count();
        if n_lines > MOST_LINES {
            findings.push(format!("{path}: expected at most {MOST_LINES} lines, got {n_lines}"));
        }
    }
    check(findings);
}

#[test]
fn nothing_outside_tests_unwraps_or_is_left_to_do() {
    let mut findings = Vec::new();
    for Source { path, rust, .. } in sources(false) {
        for word in [".unwrap()", "todo!(", "unimplemented!(", "dbg!("] {
            for line in rust.lines_with(word) {
                findings.push(format!("{path}:{line}: {word}"));
            }
        }
    }
    check(findings);
}

/// The macros panic where a line cannot be written, which must change nothing.
#[test]
fn only_one_file_of_the_binary_prints_and_never_with_a_macro() {
    let mut findings = Vec::new();
    for Source { path, rust, .. } in sources(false) {
        // The build script talks to cargo.
        if path == "src/embed.rs" {
            continue;
        }
        for word in ["print!(", "println!(", "eprint!(", "eprintln!(", "io::stdout(", "io::stderr("] {
            let may_write = path == "src/bin/stripelake/output.rs" && word.starts_with("io::");
            for line in rust.lines_with(word).into_iter().filter(|_| !may_write) {
                findings.push(format!("{path}:{line}: {word}"));
            }
        }
    }
    check(findings);
}

#[test]
fn plan_decode_partition_and_encode_know_no_clock_no_environment_and_open_no_file() {
    let pure = ["catalog", "plan", "decode", "partition", "encode", "spool"];
    let mut findings = Vec::new();
    for Source { path, rust, .. } in sources(false) {
        let Some(module) = top_module(&path).filter(|module| pure.contains(module)) else { continue };
        let mut words = vec!["::now(", "env::var", "std::net", "std::process"];
        if module != "catalog" {
            words.extend(["fs::read", "fs::write", "File::open", "File::create", "OpenOptions"]);
        }
        for word in words {
            for line in rust.lines_with(word) {
                findings.push(format!("{path}:{line}: {word}"));
            }
        }
    }
    check(findings);
}

#[test]
fn no_code_is_unsafe() {
    for path in ["src/lib.rs", "src/bin/stripelake/main.rs"] {
        let rust = Rust::parse(&read(path));
        assert!(rust.code.contains("#![forbid(unsafe_code)]"), "{path}: expected #![forbid(unsafe_code)]");
    }
}

#[test]
fn no_resource_is_named_outside_data_and_the_fake_account() {
    let names: BTreeSet<String> = fs::read_dir(root().join("data/resources"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(names.contains("charges"), "expected resources in data/resources, got {names:?}");
    let mut findings = Vec::new();
    for Source { path, rust, .. } in sources(false) {
        let is_fake = top_module(&path) == Some("fake");
        if is_fake || MAY_SAY_A_RESOURCE.contains(&path.as_str()) {
            continue;
        }
        for (line, literal) in &rust.literals {
            let mut words = literal.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            if let Some(name) = words.find(|word| names.contains(*word)) {
                findings.push(format!("{path}:{line}: the text {literal:?} names the resource {name}"));
            }
        }
    }
    check(findings);
}

/// Money is an integer in minor units: only rates and percentages are floats.
#[test]
fn no_money_is_a_float() {
    let mut findings = Vec::new();
    let mut files: Vec<_> = fs::read_dir(root().join("data/resources")).unwrap().collect();
    files.sort_by_key(|entry| entry.as_ref().unwrap().path());
    for entry in files {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("float64") {
            let before = text[..at].trim_end_matches([' ', '=', ':', '"']);
            let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && !"_.".contains(c)).next();
            let name = name.unwrap_or_default();
            if !["rate", "percent", "percentage"].iter().any(|end| name.ends_with(end)) {
                findings.push(format!(
                    "data/resources: {}: {name} is a float",
                    path.file_name().unwrap().display()
                ));
            }
        }
    }
    check(findings);
}

/// One row of the table: what the files under a path may name.
struct Row {
    /// `src/commit` stands for `src/commit.rs` and everything in `src/commit/`; `src/` for all.
    path: String,
    modules: Vec<String>,
    crates: Vec<String>,
}

impl Row {
    fn holds(&self, path: &str) -> bool {
        match path.strip_prefix(&self.path) {
            Some(rest) => self.path.ends_with('/') || rest == ".rs" || rest.starts_with('/'),
            None => false,
        }
    }
}

/// The table of ARCHITECTURE.md: its rows start with `| \`src/`.
fn table() -> Vec<Row> {
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut rows = Vec::new();
    for line in read("ARCHITECTURE.md").lines().filter(|line| line.starts_with("| `src/")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [path, modules, crates] = cells[..] else { panic!("expected three cells, got {line}") };
        let path = words(path).remove(0);
        rows.push(Row { path, modules: words(modules), crates: words(crates) });
    }
    assert!(rows.len() > 10, "expected the table of who may name whom in ARCHITECTURE.md");
    rows
}

/// `fetch` for `src/fetch.rs` and for everything in `src/fetch/`.
fn top_module(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    Some(rest.split('/').next()?.trim_end_matches(".rs"))
}

/// The crates of `[dependencies]`, as code writes them.
fn dependencies() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let section = manifest.split("[dependencies]\n").nth(1).and_then(|rest| rest.split("\n[").next());
    let lines = section.expect("Cargo.toml has [dependencies]").lines();
    let names = lines.filter_map(|line| Some(line.split_once([' ', '.'])?.0.replace('-', "_")));
    names.filter(|name| !name.is_empty()).collect()
}

/// What a file names: modules of the library, and crates. Starting tasks or threads counts as `tasks`.
fn named(source: &Source, dependencies: &[String]) -> (BTreeSet<String>, BTreeSet<String>) {
    let code = &source.rust.code;
    let own = top_module(&source.path).unwrap_or_default();
    let is_bin = own == "bin";
    let mut modules: BTreeSet<String> = paths(code, if is_bin { "stripelake" } else { "crate" });
    modules.retain(|path| path != own && !path.starts_with(&format!("{own}::")));
    let mut crates = BTreeSet::new();
    for name in dependencies {
        let used = paths(code, name);
        if !used.is_empty() {
            crates.insert(name.clone());
        }
        if name == "tokio" && used.iter().any(|p| p.starts_with("spawn") || p.starts_with("task::")) {
            crates.insert("tasks".to_owned());
        }
    }
    if paths(code, "std").iter().any(|p| p.starts_with("thread::")) {
        crates.insert("tasks".to_owned());
    }
    (modules, crates)
}

/// Whether `path` is `allowed` or lies in it.
fn is_in(path: &str, allowed: &str) -> bool {
    path.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn files_name_only_what_the_table_of_architecture_md_allows() {
    let (rows, dependencies) = (table(), dependencies());
    let mut findings = Vec::new();
    for source in sources(false) {
        let path = &source.path;
        let own: Vec<&Row> = rows.iter().filter(|row| row.holds(path)).collect();
        if own.len() < 2 {
            findings.push(format!("{path}: has no row in the table of ARCHITECTURE.md"));
        }
        let (modules, crates) = named(&source, &dependencies);
        for module in modules {
            if !own.iter().any(|row| row.modules.iter().any(|allowed| is_in(&module, allowed))) {
                findings.push(format!("{path}: may not name {module}"));
            }
        }
        for name in crates {
            if !own.iter().any(|row| row.crates.contains(&name)) {
                findings.push(format!("{path}: may not name the crate {name}"));
            }
        }
        // `super::` once stays in the module; twice may leave it.
        if source.rust.code.contains("super::super") {
            findings.push(format!("{path}: expected crate:: for a module so far away, got super::super"));
        }
    }
    check(findings);
}

#[test]
fn the_table_of_architecture_md_allows_nothing_that_nobody_uses() {
    let (rows, dependencies, sources) = (table(), dependencies(), sources(false));
    let mut findings = Vec::new();
    for row in rows {
        let held: Vec<_> = sources.iter().filter(|source| row.holds(&source.path)).collect();
        if held.is_empty() {
            findings.push(format!("{}: no such file", row.path));
        }
        let named: Vec<_> = held.iter().map(|source| named(source, &dependencies)).collect();
        for allowed in &row.modules {
            if !named.iter().any(|(modules, _)| modules.iter().any(|m| is_in(m, allowed))) {
                findings.push(format!("{}: nobody names {allowed}", row.path));
            }
        }
        for allowed in &row.crates {
            if !named.iter().any(|(_, crates)| crates.contains(allowed)) {
                findings.push(format!("{}: nobody names the crate {allowed}", row.path));
            }
        }
    }
    check(findings);
}
