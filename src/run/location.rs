//! Turns a lake at a place where readers would find other rows, or none, into a refusal.

use crate::catalog::Catalog;
use crate::commit::Lake;
use crate::decode::schema::arrow_schema;
use crate::error::{Error, Result};
use crate::partition::Grain;

/// Readers give every row below a folder like `source=stripe` that value, in the place of the files' own.
/// <https://duckdb.org/docs/stable/data/partitioning/hive_partitioning>
pub fn check(lake: &Lake, catalog: &Catalog) -> Result<()> {
    let location = lake.absolute_location();
    if cfg!(unix) && lake.local_path("").is_some() && location.contains('\\') {
        let what = format!("expected a lake whose path has no backslash, got {location}");
        return Err(Error::usage(what).hint("choose another place: DuckDB finds no file behind one"));
    }
    let folders = location.split(std::path::is_separator);
    for name in folders.filter_map(|folder| folder.split_once('=')).map(|(name, _)| name) {
        let is_it = |column: &str| column.eq_ignore_ascii_case(name);
        let has_it = |schema: &arrow::datatypes::Schema| schema.fields().iter().any(|f| is_it(f.name()));
        let table = catalog.resources.iter().find(|resource| has_it(&arrow_schema(resource)));
        let is_partition = [Grain::Year, Grain::Month, Grain::Day].iter().any(|g| g.key().is_some_and(is_it));
        let what = match (table, is_partition) {
            (Some(resource), _) => format!("a column of {}", resource.name),
            (None, true) => "the folders of the lake itself".to_owned(),
            (None, false) => continue,
        };
        return Err(Error::usage(format!(
            "expected a lake outside of folders named like {what}, got {name}=... in {location}"
        ))
        .hint("choose another --lake: readers would take the folder's value for that of every row"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_named_like_a_column_is_refused() {
        let catalog = Catalog::embedded().unwrap();
        let check = |at: &str| check(&Lake::open(at, &[]).unwrap(), &catalog);
        for at in
            ["raw/source=stripe/lake", "Currency=eur", "/a/_deleted=no/b", "x/created_month=2026-01-01/y"]
        {
            let error = check(at).unwrap_err();
            assert!(error.to_string().contains(at), "{error}");
        }
        for at in ["raw/vendor=stripe/lake", "sources", "/a/b=c/d", "source"] {
            check(at).unwrap();
        }
        #[cfg(unix)]
        check("a\\b").unwrap_err();
    }
}
