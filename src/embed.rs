//! Turns the files of `data/` into a table of their texts that is compiled into the program.

use std::path::Path;
use std::{env, fs};

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let data = Path::new(&root).join("data");

    let mut table = String::new();
    table.push_str(&format!("const COMMON: (&str, &str) = {};\n", entry("catalog.toml")));
    table.push_str("const RESOURCES: &[(&str, &str)] = &[\n");
    for name in toml_files(&data.join("resources")) {
        table.push_str(&format!("    {},\n", entry(&format!("resources/{name}"))));
    }
    table.push_str("];\n");
    fs::write(Path::new(&out).join("resources.rs"), table).expect("OUT_DIR is writable");

    // A folder stands for the files that are added to it or taken from it; include_str! covers their text.
    println!("cargo::rerun-if-changed=data");
    println!("cargo::rerun-if-changed=src/embed.rs");
}

/// The TOML files of a folder, sorted, so that the table does not depend on the file system.
fn toml_files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("data/resources is part of the project") {
        let name = entry.expect("data/resources is readable").file_name();
        let name = name.into_string().expect("resource files have plain names");
        if name.ends_with(".toml") {
            names.push(name);
        }
    }
    names.sort();
    names
}

/// `("data/<file>", <its text>)`; the path is relative, so that no build machine's folder is compiled in.
fn entry(file: &str) -> String {
    let include = format!("include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/data/{file}\"))");
    format!("(\"data/{file}\", {include})")
}
