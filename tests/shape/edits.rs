//! Turns a number into one change of an object: a value, a wrong value, a member that nobody knows.

use proptest::prelude::*;
use stripelake::catalog::{ColumnKind, Resource};

use crate::json::{Json, number, object, text};
use crate::values::{any, expanded, improper, proper, string};

/// One change. Which place it touches is `at`, modulo the places that there are.
#[derive(Debug, Clone)]
pub struct Edit {
    pub what: What,
    pub at: u16,
    pub pick: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What {
    /// A value of the column's type.
    Proper,
    Null,
    Absent,
    /// A value of another type, or out of range.
    Improper,
    /// No object where the catalog has one.
    NoObject,
    /// A member without a column, inside any object.
    Unknown,
    /// A member without a column, or a wrong value, inside an item of a list of structs.
    OddItem,
    /// The object instead of its id.
    Expanded,
    /// Objects instead of some of the ids in a list.
    ExpandedItems,
    Secret,
    MixedMap,
    /// The same key a second time. Both values are the column's.
    Repeated,
}

pub const VALID: &[What] = &[What::Proper, What::Null, What::Absent];

pub const HOSTILE: &[What] = &[
    What::Proper,
    What::Null,
    What::Absent,
    What::Improper,
    What::NoObject,
    What::Unknown,
    What::OddItem,
    What::Expanded,
    What::ExpandedItems,
    What::Secret,
    What::MixedMap,
];

/// No wrong values here: beside a reference's id, `_extra` cannot tell a second value of the same key that is
/// an object without id from the rest of an expanded one.
pub const REPEATING: &[What] = &[What::Proper, What::Unknown, What::Repeated, What::Repeated];

pub fn edits(of: &'static [What], at_most: usize) -> impl Strategy<Value = Vec<Edit>> {
    let pick = prop_oneof![3 => 0u64..60, 1 => any_u32().prop_map(u64::from)];
    let edit = (prop::sample::select(of), any_u16(), pick);
    prop::collection::vec(edit.prop_map(|(what, at, pick)| Edit { what, at, pick }), 0..at_most)
}

fn any_u32() -> impl Strategy<Value = u32> {
    proptest::prelude::any::<u32>()
}

fn any_u16() -> impl Strategy<Value = u16> {
    proptest::prelude::any::<u16>()
}

/// Members without which an object is no row; edits leave them alone.
const KEPT: [&str; 3] = ["id", "object", "created"];

/// The paths of all objects that have columns inside, the root first.
pub fn nodes(resource: &Resource) -> Vec<Vec<String>> {
    let mut nodes = vec![Vec::new()];
    for column in &resource.columns {
        let last = if column.kind == ColumnKind::Rest { column.path.len() } else { column.path.len() - 1 };
        nodes.extend((1..=last).map(|n| column.path[..n].to_vec()));
    }
    nodes.sort();
    nodes.dedup();
    nodes
}

/// Changes an object of `resource`.
pub fn apply(edit: &Edit, resource: &Resource, target: &mut Json) {
    let Edit { what, at, pick } = edit;
    let fits = |kind: &ColumnKind| match what {
        What::OddItem => matches!(kind, ColumnKind::Structs(_)),
        What::Expanded => *kind == ColumnKind::Ref,
        What::ExpandedItems => *kind == ColumnKind::ListRef,
        What::MixedMap => *kind == ColumnKind::Map,
        What::Repeated => !matches!(
            kind,
            ColumnKind::Rest
                | ColumnKind::Json
                | ColumnKind::Map
                | ColumnKind::ListText
                | ColumnKind::ListRef
                | ColumnKind::Structs(_)
        ),
        _ => true,
    };
    let columns = resource.columns.iter().filter(|c| fits(&c.kind) && !KEPT.contains(&c.name.as_str()));
    let columns: Vec<_> = columns.collect();
    if columns.is_empty() {
        return;
    }
    let column = columns[*at as usize % columns.len()];
    let nodes = nodes(resource);
    let node = &nodes[*at as usize % nodes.len()];
    match what {
        What::Proper if column.kind == ColumnKind::Rest => unknown(target, &column.path, *pick),
        What::Proper => target.set(&column.path, proper(&column.kind, *pick)),
        What::Null => target.set(&column.path, Json::Null),
        What::Absent => target.remove(&column.path),
        What::Improper => target.set(&column.path, improper(&column.kind, *pick)),
        What::NoObject if node.is_empty() => {}
        What::NoObject => target.set(node, improper(&ColumnKind::Map, *pick)),
        What::Unknown => unknown(target, node, *pick),
        What::OddItem => target.set(&column.path, odd_items(&column.kind, *pick)),
        What::Expanded => target.set(&column.path, expanded(*pick)),
        What::ExpandedItems => target.set(&column.path, expanded_items(*pick)),
        What::Secret => secret(target, node, *pick),
        What::MixedMap => target.set(&column.path, mixed_map(*pick)),
        What::Repeated => repeated(target, &column.path, &column.kind, *pick),
    }
}

fn unknown(target: &mut Json, node: &[String], pick: u64) {
    // No column's name begins like this.
    target.add(node, &format!("~{}", string(pick / 3)), any(pick, 4));
}

fn secret(target: &mut Json, node: &[String], pick: u64) {
    let secret = object([("client_secret", text("s")), ("kept", number(1)), ("a_client_secret", number(2))]);
    match pick % 3 {
        0 => target.add(node, "client_secret", text("pi_1_secret_2")),
        1 => target.add(node, "~new", Json::Array(vec![secret])),
        _ => target.add(node, "setup_client_secret", secret),
    }
}

fn odd_items(kind: &ColumnKind, pick: u64) -> Json {
    let ColumnKind::Structs(columns) = kind else { unreachable!("only lists of structs are picked") };
    let Json::Array(mut items) = proper(kind, pick | 3) else { unreachable!("a list") };
    for (n, item) in items.iter_mut().enumerate() {
        let pick = pick.wrapping_add(n as u64);
        let column = &columns[pick as usize % columns.len()];
        match pick % 5 {
            0 => {}
            1 => item.set(&column.path, improper(&column.kind, pick / 5)),
            2 => unknown(item, &column.path[..column.path.len() - 1], pick / 5),
            3 => item.add(&[], "client_secret", text("x")),
            _ => unknown(item, &[], pick / 5),
        }
    }
    Json::Array(items)
}

fn expanded_items(pick: u64) -> Json {
    let item = |n: u64| match (pick + n) % 3 {
        0 => Json::Text(string(pick / 3 + n)),
        _ => expanded(pick / 3 + n),
    };
    Json::Array((0..pick % 5).map(item).collect())
}

fn mixed_map(pick: u64) -> Json {
    let entry = |n: u64| match (pick + n) % 3 {
        0 => (format!("text{n}"), Json::Text(string(pick / 3))),
        1 => (format!("any{n}"), any(pick, 2)),
        _ => (format!("{n}_client_secret"), number(n)),
    };
    Json::Object((0..1 + pick % 4).map(entry).collect())
}

/// Adds the key again, if its value so far is one that the column took.
fn repeated(target: &mut Json, path: &[String], kind: &ColumnKind, pick: u64) {
    let Some((key, node)) = path.split_last() else { return };
    let is_proper = matches!(
        (kind, target.at(path)),
        (ColumnKind::Text | ColumnKind::Ref, Some(Json::Text(_)))
            | (ColumnKind::Bool, Some(Json::Bool(_)))
            | (_, None | Some(Json::Null))
    );
    if is_proper {
        target.add(node, key, proper(kind, pick));
    }
}
