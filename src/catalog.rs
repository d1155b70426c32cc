//! Turns the files of `data/` into resources and their columns.
//!
//! A resource is one file in `data/resources`; its name is the table's name. The files are compiled in,
//! so a wrong one is a bug, reported with file and line. This file holds what a resource is;
//! `catalog/file.rs` reads one file, `catalog/types.rs` knows the type names, `catalog/check.rs` holds what
//! must be true of all of them; `catalog/from_spec.rs` and `catalog/leaves.rs` write `[columns]` from Stripe's
//! specification.

mod file;
mod types;

mod check;

pub mod from_spec;
mod leaves;

use std::sync::Arc;

use crate::error::{Error, Result};

/// In bytes. Stripe's schema allows 5,000 characters, and prices may be named by the user.
pub const LONGEST_ID: usize = 20_000;

include!(concat!(env!("OUT_DIR"), "/resources.rs"));

/// Every resource that can be exported, in the order of the files.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// The API version that the columns were made from and that requests are pinned to.
    pub stripe_version: String,
    pub resources: Vec<Arc<Resource>>,
}

/// One kind of Stripe object, which is one endpoint and one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// The table's name, e.g. `charges`.
    pub name: String,
    /// The value of the member `object`, e.g. `charge`.
    pub object: String,
    /// The list endpoint, e.g. `/v1/charges`; one object is at `<path>/<id>`.
    pub path: String,
    /// The list takes `created[gte]` and `created[lt]`.
    pub created_filter: bool,
    /// Objects carry `created`. A table with it is partitioned by it; a child by its parent's.
    pub has_created: bool,
    /// An object can vanish from Stripe.
    pub deletable: bool,
    /// What a restricted key needs, in the words of Stripe's error, e.g. `rak_charge_read`.
    pub permission: Option<String>,
    /// The event types whose `data.object` is an object of this resource.
    pub events: Vec<String>,
    /// Query parameters of each pass over the list. Only all passes together show every row.
    /// A child has one pass without parameters.
    pub passes: Vec<Vec<(String, String)>>,
    /// Set if the objects come inside the objects of another resource.
    pub parent: Option<Parent>,
    /// Stripe's page about the resource.
    pub docs: String,
    /// `id`, `object`, `created`, then the others by path.
    pub columns: Vec<Column>,
}

/// Where a child's objects are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The parent's table name, e.g. `subscriptions`.
    pub resource: String,
    /// The parent's embedded list, e.g. `items`; what it has no room for is read from the child's own path.
    pub path: Vec<String>,
    /// The child's member, and the query parameter, that hold the parent's id, e.g. `subscription`.
    pub key: String,
}

/// One column and the JSON member that it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The path joined by `_`, with `_other` behind it for [`ColumnKind::Rest`].
    pub name: String,
    /// The keys that lead to the member, from the object, or from the item inside [`ColumnKind::Structs`].
    pub path: Vec<String>,
    pub kind: ColumnKind,
}

/// What a column holds. The names in the files stand in `catalog/types.rs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    Text,
    /// A reference: its id, whether Stripe sends the id or the object.
    Ref,
    /// Money in minor units, or a count.
    Int64,
    Float64,
    Bool,
    /// Seconds since 1970, UTC.
    Timestamp,
    /// A decimal number that Stripe sends as a string, with up to 12 decimals.
    Decimal,
    /// An object of strings.
    Map,
    /// Any JSON, kept as text.
    Json,
    ListText,
    ListRef,
    /// An array of plain objects.
    Structs(Vec<Column>),
    /// All members of the object at `path` that no other column names, as one JSON object.
    Rest,
}

/// When this form of the object was observed.
pub const SYNCED_AT: &str = "_synced_at";
/// Whether Stripe no longer has the object.
pub const DELETED: &str = "_deleted";
/// What no column names, as JSON.
pub const EXTRA: &str = "_extra";
/// Columns that every table has besides those of its file.
pub const SYSTEM_COLUMNS: [&str; 3] = [SYNCED_AT, DELETED, EXTRA];

impl Catalog {
    /// The catalog that is compiled in.
    pub fn embedded() -> Result<Catalog> {
        Catalog::parse(COMMON, RESOURCES)
    }

    /// Reads `catalog.toml` and one file per resource, each given as file name and text.
    ///
    /// Fails with [`Kind::Bug`](crate::error::Kind::Bug), file and line for everything that `catalog/check.rs` lists.
    pub fn parse(common: (&str, &str), files: &[(&str, &str)]) -> Result<Catalog> {
        let stripe_version = file::parse_common(common)?;
        let mut parsed = Vec::new();
        for file in files {
            parsed.push(file::parse_resource(*file)?);
        }
        check::check_all(&parsed)?;
        let resources = parsed.into_iter().map(|p| Arc::new(p.resource)).collect();
        Ok(Catalog { stripe_version, resources })
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.resources.iter().find(|r| r.name == name)
    }

    /// The resource that a user named.
    ///
    /// Fails with [`Kind::Usage`](crate::error::Kind::Usage), the nearest name, and all names as the hint.
    pub fn resolve(&self, name: &str) -> Result<&Arc<Resource>> {
        if let Some(resource) = self.get(name) {
            return Ok(resource);
        }
        let mut message = format!("expected a resource, got \"{name}\"");
        if let Some(nearest) = self.nearest(name) {
            message.push_str(&format!("; did you mean \"{nearest}\"?"));
        }
        let names: Vec<&str> = self.resources.iter().map(|r| r.name.as_str()).collect();
        Err(Error::usage(message).hint(format!("resources: {}", names.join(", "))))
    }

    /// The resources that have a list of their own.
    pub fn listed(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter().filter(|r| r.parent.is_none())
    }

    /// The resources whose objects come inside those of `name`.
    pub fn children_of(&self, name: &str) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter().filter(move |r| r.parent.as_ref().is_some_and(|p| p.resource == name))
    }

    fn nearest(&self, name: &str) -> Option<&str> {
        let name = name.to_lowercase();
        let mut nearest = None;
        let mut best = 0.7; // below this, a guess confuses more than it helps
        for resource in &self.resources {
            let score = strsim::jaro_winkler(&name, &resource.name);
            if score > best {
                best = score;
                nearest = Some(resource.name.as_str());
            }
        }
        nearest
    }
}

#[cfg(test)]
mod tests;
