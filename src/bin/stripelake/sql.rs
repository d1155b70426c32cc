//! `stripelake sql`: DuckDB views over a lake.

use stripelake::catalog::Catalog;
use stripelake::config::Settings;
use stripelake::error::{Error, Kind, Result};
use stripelake::run::owner::read_lake;
use stripelake::run::sql::{Views, views};

use crate::cli::{Global, Sql};
use crate::output::out;
use crate::setup;

pub fn run(global: &Global, flags: &Sql) -> Result<Option<Kind>> {
    let settings = global.settings(Settings { lake: flags.lake.lake.clone(), ..Settings::default() })?;
    let catalog = Catalog::embedded()?;
    let lake = setup::lake(&settings, &catalog)?;
    let Views { script, damaged } = setup::block_on(async {
        if read_lake(&lake).await?.is_none() {
            return Err(Error::destination(format!("expected a lake at {}, found none", lake.location()))
                .hint("name it with --lake, or make it with stripelake sync"));
        }
        views(&lake, &catalog).await
    })?;
    if let Some((_, error)) = damaged.into_iter().next() {
        return Err(error);
    }
    out(&script);
    if !script.contains("VIEW") {
        out("-- No table has a file yet.\n");
    }
    Ok(None)
}
