//! Turns a lake into DuckDB views.

use std::fmt::Write as _;

use crate::catalog::Catalog;
use crate::commit::state::{ResourceState, state_path};
use crate::commit::{Lake, Version};
use crate::error::{Error, Result};

/// Where the views are kept for `duckdb -init`.
pub const VIEWS: &str = "_stripelake/views.sql";

/// The views of a lake.
pub struct Views {
    /// One `CREATE VIEW` for each table that has a file.
    pub script: String,
    /// Resources whose state is damaged; whether they have files was asked of their folders.
    pub damaged: Vec<(String, Error)>,
}

/// What queries the tables of a lake.
///
/// A local lake is named by its absolute path, so the script works from any folder.
pub async fn views(lake: &Lake, catalog: &Catalog) -> Result<Views> {
    let location = lake.absolute_location();
    let mut script = String::new();
    if matches!(lake, Lake::Remote(_)) {
        script.push_str(
            "-- Needs: INSTALL httpfs; INSTALL aws; LOAD httpfs; LOAD aws; CREATE SECRET (TYPE s3, PROVIDER credential_chain);\n",
        );
    }
    let mut damaged = Vec::new();
    for resource in &catalog.resources {
        let has_files = match lake.read_json::<ResourceState>(&state_path(&resource.name)).await {
            Ok(state) => state.is_some_and(|(state, _)| !state.partitions.is_empty()),
            Err(error) if error.is_damage() => {
                damaged.push((resource.name.clone(), error));
                !lake.data_versions(&resource.name).await?.is_empty()
            }
            Err(error) => return Err(error),
        };
        if !has_files {
            continue;
        }
        let glob = format!("{}/{}/**/*.parquet", escape_glob(&location), resource.name);
        let (view, glob) = (identifier(&resource.name), literal(&glob));
        writeln!(
            script,
            "CREATE OR REPLACE VIEW {view} AS SELECT * FROM read_parquet({glob}, hive_partitioning = true);"
        )
        .expect("writing to a string");
    }
    Ok(Views { script, damaged })
}

/// Writes the views into the lake where they have changed, and says which resources' states are damaged.
pub async fn write_views(lake: &Lake, catalog: &Catalog) -> Result<Vec<(String, Error)>> {
    let Views { script, damaged } = views(lake, catalog).await?;
    let old = lake.read_bytes(VIEWS).await?;
    let seen = old.as_ref().map_or(Version::Absent, |(_, version)| version.clone());
    if old.is_none_or(|(bytes, _)| bytes != script.as_bytes()) {
        lake.write_bytes(VIEWS, script.as_bytes(), &seen).await?;
    }
    Ok(damaged)
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A folder may be named like a pattern; brackets make each special character stand for itself.
fn escape_glob(path: &str) -> String {
    let mut out = String::new();
    for c in path.chars() {
        match c {
            '*' | '?' | '[' => {
                out.push('[');
                out.push(c);
                out.push(']');
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_patterns_in_a_path_stand_for_themselves() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(escape_glob("a*[b]?"), "a[*][[]b][?]");
    }
}
