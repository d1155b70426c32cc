//! Turns Stripe's OpenAPI document into the `[columns]` of a catalog file.
//!
//! What a person knows (facts, unions, legacy members) stays as it is written; what the specification knows is
//! written anew, so that an upgrade of the API version is a diff of `[columns]`. `catalog/leaves.rs` walks the schema.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::Value;

use super::file::{self, Fault};
use super::leaves;
use crate::error::{Error, Result};

const COLUMNS_LINE: &str =
    "[columns]                       # made by `stripelake catalog` from the specification";

/// Paths up to this length have their `=` in one column; a longer one does not move the others.
const PATH_WIDTH: usize = 40;

/// The text of the file of resource `name`, with the columns that `spec`, an OpenAPI document in JSON, gives it.
///
/// Everything above `[columns]` of an existing file stays, byte for byte. Without one, a whole file is proposed.
/// Its facts are worth a second look: the specification does not say which rows a list hides.
/// Fails with [`Kind::Usage`](crate::error::Kind::Usage) if `spec` lacks what is asked of it, and with
/// [`Kind::Bug`](crate::error::Kind::Bug) if the existing file cannot be read.
pub fn regenerate(existing: Option<&str>, spec: &str, name: &str) -> Result<String> {
    let spec: Value = serde_json::from_str(spec)
        .map_err(|e| Error::usage(format!("expected an OpenAPI document in JSON, got {e}")))?;
    let file = format!("{name}.toml");
    let head = match existing {
        Some(text) => head_of(text).map_err(|fault| file::locate(&file, fault))?.to_owned(),
        None => propose_head(&spec, name)?,
    };
    let facts: Facts = file::read_toml(&head).map_err(|fault| file::locate(&file, fault))?;
    let schema = list_schema(&spec, &facts.path)?;
    let mut columns = leaves::leaves(&spec, schema, &facts.unions)?;
    columns.retain(|(path, _)| !is_legacy(path, &facts.legacy));

    let mut text = head;
    text.push_str(COLUMNS_LINE);
    text.push('\n');
    for (path, kind) in &columns {
        let quoted = format!("\"{path}\"");
        text.push_str(&format!("{quoted:PATH_WIDTH$} = \"{kind}\"\n"));
    }
    Ok(text)
}

/// What of a file's head decides over its columns.
#[derive(Deserialize)]
struct Facts {
    path: String,
    #[serde(default)]
    unions: IndexMap<String, Vec<String>>,
    #[serde(default)]
    legacy: IndexMap<String, String>,
}

/// All lines before `[columns]`. A table behind it would be lost, so there must be none.
fn head_of(text: &str) -> file::Checked<&str> {
    let mut head = None;
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if head.is_some() && line.starts_with('[') {
            let message = format!("expected [columns] to be the last table, got {}", line.trim());
            return Err(Fault { line: index + 1, message });
        }
        if line.starts_with("[columns]") {
            head = Some(&text[..offset]);
        }
        offset += line.len();
    }
    let missing = Fault { line: 1, message: "expected a table [columns], got none".to_owned() };
    head.ok_or(missing)
}

/// A member that the file names by hand keeps that type, also when the specification comes to know it.
fn is_legacy(path: &str, legacy: &IndexMap<String, String>) -> bool {
    let below = |outer: &str| path.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
    legacy.keys().any(|named| named == path || below(named))
}

/// The schema of the objects that `GET path` lists.
fn list_schema<'a>(spec: &'a Value, path: &str) -> Result<&'a Value> {
    let escaped = path.replace('~', "~0").replace('/', "~1");
    let list = format!("/paths/{escaped}/get/responses/200/content/application~1json/schema");
    spec.pointer(&list)
        .and_then(|schema| leaves::follow(spec, schema).pointer("/properties/data/items"))
        .ok_or_else(|| Error::usage(format!("expected a list at {path} in the specification, got none")))
}

/// The facts that the specification knows, in the order of the committed files.
fn propose_head(spec: &Value, name: &str) -> Result<String> {
    let path = list_path(spec, name)?;
    let schema = leaves::follow(spec, list_schema(spec, &path)?);
    let object = schema.pointer("/properties/object/enum/0").and_then(Value::as_str);
    let object = object.ok_or_else(|| {
        Error::usage(format!("expected the objects of {path} to have a member object, got none"))
    })?;
    if let Some(parameter) = parameters(spec, &path).iter().find(|p| p["required"] == true) {
        let parameter = parameter["name"].as_str().unwrap_or("a parameter without name");
        return Err(Error::usage(format!(
            "expected {path} to list everything, got one list per {parameter}"
        ))
        .hint("write the head of the file by hand, with [parent]"));
    }
    let created_filter = parameters(spec, &path).iter().any(|p| p["name"] == "created");
    let deletable = spec.pointer(&format!("/components/schemas/deleted_{object}")).is_some();
    let created = schema.pointer("/properties/created/type");
    let partition = if created.is_some_and(|t| t == "integer") { "partition_by = \"created\"\n" } else { "" };

    let mut events = String::new();
    for event in events_of(spec, object) {
        events.push_str(&format!("    \"{event}\",\n"));
    }
    let events = if events.is_empty() { "[]".to_owned() } else { format!("[\n{events}]") };
    Ok(format!(
        "# {object}: https://docs.stripe.com/api/{name}\n\
         object = \"{object}\"\n\
         path = \"{path}\"\n\
         created_filter = {created_filter}\n\
         deletable = {deletable}\n\
         events = {events}\n\
         passes = [{{}}]\n\
         {partition}\n"
    ))
}

/// The list endpoint whose path gives the table name, e.g. `/v1/checkout/sessions` for `checkout_sessions`.
fn list_path(spec: &Value, name: &str) -> Result<String> {
    let paths = spec["paths"].as_object().into_iter().flatten();
    for (path, _) in paths {
        let table = path.strip_prefix("/v1/").map(|p| p.replace('/', "_"));
        if table.as_deref() == Some(name) && list_schema(spec, path).is_ok() {
            return Ok(path.clone());
        }
    }
    Err(Error::usage(format!("expected a list endpoint for {name} in the specification, got none")))
}

fn parameters<'a>(spec: &'a Value, path: &str) -> &'a [Value] {
    spec["paths"][path]["get"]["parameters"].as_array().map_or(&[], Vec::as_slice)
}

/// Event types that start with the object's name and say nothing about a smaller object inside it.
fn events_of<'a>(spec: &'a Value, object: &str) -> Vec<&'a str> {
    let form =
        "/paths/~1v1~1webhook_endpoints/post/requestBody/content/application~1x-www-form-urlencoded/schema";
    let types = spec.pointer(form).and_then(|form| form.pointer("/properties/enabled_events/items/enum"));
    let mut events = Vec::new();
    for event in types.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let verb = event.strip_prefix(object).and_then(|rest| rest.strip_prefix('.'));
        if verb.is_some_and(|verb| !verb.contains('.')) {
            events.push(event);
        }
    }
    events.sort_unstable();
    events
}

#[cfg(test)]
mod tests;
