//! `stripelake resources`: what can be exported.

use stripelake::catalog::Catalog;
use stripelake::error::{Kind, Result};

use crate::cli::Resources;
use crate::output::out;

pub fn run(flags: &Resources) -> Result<Option<Kind>> {
    let catalog = Catalog::embedded()?;
    if flags.json {
        let resources: Vec<_> = catalog
            .resources
            .iter()
            .map(|r| {
                serde_json::json!({
                    "resource": r.name,
                    "object": r.object,
                    "path": r.path,
                    "parent": r.parent.as_ref().map(|p| &p.resource),
                    "permission": r.permission,
                    "columns": r.columns.len() + stripelake::catalog::SYSTEM_COLUMNS.len(),
                    "docs": r.docs,
                })
            })
            .collect();
        out(&format!("{}\n", serde_json::to_string_pretty(&resources).expect("text and numbers")));
        return Ok(None);
    }
    let mut text = String::new();
    for resource in &catalog.resources {
        let source = match &resource.parent {
            Some(parent) => format!("in each of {}", parent.resource),
            None => resource.path.clone(),
        };
        let permission = resource.permission.as_deref().unwrap_or("-");
        text.push_str(&format!("{:<22} {source:<30} {permission}\n", resource.name));
    }
    out(&text);
    Ok(None)
}
