//! `stripelake catalog`: a maintainer's command that writes a resource file from an OpenAPI document.

use std::path::PathBuf;

use stripelake::catalog::from_spec::regenerate;
use stripelake::error::{Error, Kind, Result};

use crate::cli::Catalog;
use crate::output::out;

pub fn run(flags: &Catalog) -> Result<Option<Kind>> {
    let Catalog { spec, resource, existing } = flags;
    let document =
        std::fs::read_to_string(spec).map_err(|e| Error::usage(format!("{}: {e}", spec.display())))?;
    let default = PathBuf::from(format!("data/resources/{resource}.toml"));
    let kept = match existing {
        Some(path) => Some(
            std::fs::read_to_string(path).map_err(|e| Error::usage(format!("{}: {e}", path.display())))?,
        ),
        None => std::fs::read_to_string(default).ok(),
    };
    out(&regenerate(kept.as_deref(), &document, resource)?);
    Ok(None)
}
