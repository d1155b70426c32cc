//! Turns an OpenAPI schema into the paths and types of its leaves.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::{Column, ColumnKind};
use crate::error::{Error, Result};

/// Where an array's item is taken to contain itself; real ones end at 3.
const MAX_ITEM_DEPTH: usize = 8;

/// All leaves of `schema`, sorted by path, as the catalog files write them: a path (`<union>.*` for the rest of a
/// union) and its type.
///
/// `unions` says which variants of a union have columns; `["*"]` is all of them. Fails with
/// [`Kind::Usage`](crate::error::Kind::Usage) for a union or variant that the schema does not have.
pub(super) fn leaves(
    spec: &Value,
    schema: &Value,
    unions: &IndexMap<String, Vec<String>>,
) -> Result<Vec<(String, ColumnKind)>> {
    let mut walk = Walk { spec, unions, found: Vec::new(), leaves: Vec::new() };
    walk.object("", schema, &mut Vec::new())?;
    if let Some(union) = unions.keys().find(|union| !walk.found.contains(union)) {
        return Err(Error::usage(format!("expected the union {union} in the specification, got none")));
    }
    walk.leaves.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(walk.leaves)
}

/// Resolves `$ref`.
pub(super) fn follow<'a>(spec: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    while let Some(reference) = schema["$ref"].as_str() {
        match spec.pointer(reference.trim_start_matches('#')) {
            Some(target) => schema = target,
            None => return schema,
        }
    }
    schema
}

/// What becomes of a member.
enum Shape<'a> {
    Leaf(ColumnKind),
    /// An object whose members have columns of their own.
    Plain(&'a Map<String, Value>),
    /// An array of objects.
    Array(&'a Value),
    /// A list object (`data`, `has_more`): rows of another table, or absent unless expanded.
    List,
}

struct Walk<'a> {
    spec: &'a Value,
    unions: &'a IndexMap<String, Vec<String>>,
    found: Vec<&'a String>,
    leaves: Vec<(String, ColumnKind)>,
}

impl<'a> Walk<'a> {
    /// Adds the leaves below `path`. `open` holds the schemas that are being walked, for those that contain themselves.
    fn object(&mut self, path: &str, schema: &'a Value, open: &mut Vec<&'a Value>) -> Result<()> {
        let schema = self.unwrap(schema);
        let Shape::Plain(members) = self.shape(path, schema) else {
            return Err(Error::usage(format!("expected an object with members at \"{path}\", got none")));
        };
        open.push(schema);
        let variants = self.variants(path, members)?;
        if variants.is_some() {
            self.leaves.push((format!("{path}.*"), ColumnKind::Json));
        }
        for (key, member) in members {
            let is_object = self.unwrap(member)["type"] == "object";
            if is_object && variants.is_some_and(|v| *v != ["*"] && !v.contains(key)) {
                continue;
            }
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            self.member(path, key, member, open)?;
        }
        open.pop();
        Ok(())
    }

    fn member(
        &mut self,
        path: String,
        key: &str,
        schema: &'a Value,
        open: &mut Vec<&'a Value>,
    ) -> Result<()> {
        match self.shape(key, schema) {
            Shape::Leaf(kind) => self.leaves.push((path, kind)),
            Shape::Plain(_) if open.iter().any(|o| std::ptr::eq(*o, self.unwrap(schema))) => {
                self.leaves.push((path, ColumnKind::Json));
            }
            Shape::Plain(_) => self.object(&path, schema, open)?,
            Shape::Array(item) => self.leaves.push((path, self.array(item))),
            Shape::List => {}
        }
        Ok(())
    }

    /// The variants of the union at `path` that have columns, or none if it is no union.
    fn variants(&mut self, path: &str, members: &Map<String, Value>) -> Result<Option<&'a Vec<String>>> {
        let Some((union, variants)) = self.unions.get_key_value(path) else {
            return Ok(None);
        };
        self.found.push(union);
        for variant in variants {
            if variant != "*" && !members.contains_key(variant) {
                return Err(Error::usage(format!("expected a member of {union}, got variant \"{variant}\"")));
            }
        }
        Ok(Some(variants))
    }

    fn shape(&self, key: &str, schema: &'a Value) -> Shape<'a> {
        let schema = self.unwrap(schema);
        if schema.get("x-expansionResources").is_some() {
            return Shape::Leaf(ColumnKind::Ref);
        }
        Shape::Leaf(match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("string"), Some("decimal")) => ColumnKind::Decimal,
            (Some("string"), _) => ColumnKind::Text,
            (Some("integer"), Some("unix-time")) => ColumnKind::Timestamp,
            // The specification forgets the format of some, e.g. of a subscription item's.
            (Some("integer"), _) if key == "created" => ColumnKind::Timestamp,
            (Some("integer"), _) => ColumnKind::Int64,
            (Some("number"), _) => ColumnKind::Float64,
            (Some("boolean"), _) => ColumnKind::Bool,
            (Some("array"), _) => return self.array_shape(&schema["items"]),
            (Some("object"), _) => return self.object_shape(schema),
            // Several alternatives: an object of one of several resources.
            _ => ColumnKind::Json,
        })
    }

    fn array_shape(&self, item: &'a Value) -> Shape<'a> {
        match self.shape("", item) {
            Shape::Leaf(ColumnKind::Text) => Shape::Leaf(ColumnKind::ListText),
            Shape::Leaf(ColumnKind::Ref) => Shape::Leaf(ColumnKind::ListRef),
            Shape::Plain(_) => Shape::Array(item),
            _ => Shape::Leaf(ColumnKind::Json),
        }
    }

    fn object_shape(&self, schema: &'a Value) -> Shape<'a> {
        match schema["properties"].as_object() {
            Some(members) if members.contains_key("data") && members.contains_key("has_more") => Shape::List,
            Some(members) if !members.is_empty() => Shape::Plain(members),
            _ if schema["additionalProperties"]["type"] == "string" => Shape::Leaf(ColumnKind::Map),
            _ => Shape::Leaf(ColumnKind::Json),
        }
    }

    /// Structs if the items are plain, else JSON: an item with a resource or an array of objects inside is a table
    /// of its own, which no column can be.
    fn array(&self, item: &'a Value) -> ColumnKind {
        let mut columns = Vec::new();
        match self.item("", item, &mut columns) {
            true => {
                columns.sort_by(|a, b| a.path.cmp(&b.path));
                ColumnKind::Structs(columns)
            }
            false => ColumnKind::Json,
        }
    }

    /// Adds the members of an array's item. False if they cannot be columns of a struct.
    fn item(&self, path: &str, schema: &'a Value, columns: &mut Vec<Column>) -> bool {
        let Shape::Plain(members) = self.shape("", schema) else {
            return false;
        };
        if path.split('.').count() > MAX_ITEM_DEPTH {
            return false;
        }
        for (key, member) in members {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let is_resource = self.unwrap(member).get("x-resourceId").is_some();
            match self.shape(key, member) {
                Shape::Leaf(kind) => columns.push(Column::new(&path, kind)),
                Shape::Plain(_) if !is_resource && self.item(&path, member, columns) => {}
                _ => return false,
            }
        }
        true
    }

    /// Resolves `$ref`, and an `anyOf` that has one alternative besides the empty string and deleted objects.
    fn unwrap(&self, schema: &'a Value) -> &'a Value {
        let schema = follow(self.spec, schema);
        if schema.get("x-expansionResources").is_some() {
            return schema;
        }
        let Some(alternatives) = schema["anyOf"].as_array() else {
            return schema;
        };
        let mut real = alternatives.iter().map(|a| follow(self.spec, a)).filter(|a| !is_absence(a));
        match (real.next(), real.next()) {
            (Some(only), None) => self.unwrap(only),
            _ => schema,
        }
    }
}

/// An alternative that says that there is nothing: `""`, or an object that is deleted.
fn is_absence(alternative: &Value) -> bool {
    let is_empty = alternative["enum"].as_array().is_some_and(|values| values.iter().all(|v| v == ""));
    is_empty || alternative.pointer("/properties/deleted").is_some()
}
