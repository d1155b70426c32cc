//! Turns one catalog file into a resource that remembers its lines.

use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;

use super::{Column, ColumnKind, Parent, Resource, check, types};
use crate::error::{Error, Result};

/// What a step inside one file yields, before the file's name is added to the fault.
pub(super) type Checked<T> = std::result::Result<T, Fault>;

/// A resource, and where its file says what the checks across files ask about.
pub(super) struct Parsed {
    pub resource: Resource,
    pub file: String,
    /// Line of `[parent]`; 1 for a resource without.
    pub parent_line: usize,
}

/// A column and the line that names it.
pub(super) struct Located {
    pub column: Column,
    pub line: usize,
}

/// What is wrong, and in which line. The file's name is added by [`locate`].
pub(super) struct Fault {
    pub line: usize,
    pub message: String,
}

/// Reads `catalog.toml`: the pinned API version.
pub(super) fn parse_common((file, text): (&str, &str)) -> Result<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Common {
        stripe_version: String,
    }
    let common: Common = read_toml(text).map_err(|fault| locate(file, fault))?;
    Ok(common.stripe_version)
}

/// Reads the file of one resource; the file's name without `.toml` is the resource's name.
pub(super) fn parse_resource((file, text): (&str, &str)) -> Result<Parsed> {
    let base = file.rsplit('/').next().expect("a split yields at least one part");
    let name = base.strip_suffix(".toml").unwrap_or(base);
    parse_file(name, text)
        .map(|(resource, parent_line)| Parsed { resource, file: file.to_owned(), parent_line })
        .map_err(|fault| locate(file, fault))
}

/// The file as it is written. `unions` serves [`super::from_spec`] alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceFile {
    object: String,
    path: String,
    created_filter: bool,
    deletable: bool,
    permission: Option<String>,
    events: Vec<String>,
    passes: Option<Vec<IndexMap<String, String>>>,
    partition_by: Option<Spanned<String>>,
    docs: Option<String>,
    parent: Option<Spanned<ParentFile>>,
    #[serde(default)]
    unions: Unions,
    #[serde(default)]
    legacy: IndexMap<Spanned<String>, Spanned<String>>,
    columns: IndexMap<Spanned<String>, Spanned<String>>,
}

type Unions = IndexMap<Spanned<String>, Vec<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParentFile {
    resource: String,
    path: String,
    key: String,
}

fn parse_file(name: &str, text: &str) -> Checked<(Resource, usize)> {
    let ResourceFile {
        object,
        path,
        created_filter,
        deletable,
        permission,
        events,
        passes,
        partition_by,
        docs,
        parent,
        unions,
        legacy,
        columns: from_spec,
    } = read_toml(text)?;

    let mut columns = read_columns(text, &legacy)?;
    columns.extend(read_columns(text, &from_spec)?);
    check_columns(text, &columns, &unions)?;
    let has_created = columns.iter().any(|c| is_created(&c.column));
    let parent_line = parent.as_ref().map_or(1, |p| line_of(text, p.span().start));
    let parent = parent.map(|p| read_parent(p.into_inner()));
    check_partition(text, partition_by.as_ref(), has_created && parent.is_none())?;

    let resource = Resource {
        name: name.to_owned(),
        object,
        path,
        created_filter,
        has_created,
        deletable,
        permission,
        events,
        passes: read_passes(passes, parent.is_some())?,
        parent,
        docs: docs.unwrap_or_else(|| format!("https://docs.stripe.com/api/{name}")),
        columns: order_columns(columns),
    };
    Ok((resource, parent_line))
}

fn check_columns(text: &str, columns: &[Located], unions: &Unions) -> Checked<()> {
    check::check_columns(columns)?;
    for union in unions.keys() {
        let line = line_of(text, union.span().start);
        check::check_union(columns, union.get_ref(), line)?;
    }
    Ok(())
}

fn read_parent(file: ParentFile) -> Parent {
    Parent { resource: file.resource, path: file.path.split('.').map(str::to_owned).collect(), key: file.key }
}

fn read_columns(text: &str, table: &IndexMap<Spanned<String>, Spanned<String>>) -> Checked<Vec<Located>> {
    let mut columns = Vec::new();
    for (path, kind) in table {
        let line = line_of(text, path.span().start);
        let fault = |message| Fault { line, message };
        let path = path.get_ref();
        let kind = types::parse(kind.get_ref()).map_err(fault)?;
        let column = match path.strip_suffix(".*") {
            None => Column::new(path, kind),
            Some(union) if kind == ColumnKind::Json => Column::new(union, ColumnKind::Rest),
            Some(_) => return Err(fault(format!("expected type json for {path}, got {kind}"))),
        };
        columns.push(Located { column, line });
    }
    Ok(columns)
}

/// Rows that no pass shows are lost in silence, so a list must say its passes, if only `[{}]`.
fn read_passes(
    passes: Option<Vec<IndexMap<String, String>>>,
    is_child: bool,
) -> Checked<Vec<Vec<(String, String)>>> {
    match passes {
        None if is_child => Ok(vec![Vec::new()]),
        Some(passes) if !passes.is_empty() && !is_child => {
            Ok(passes.into_iter().map(|p| p.into_iter().collect()).collect())
        }
        None => Err(Fault { line: 1, message: "missing field `passes`".to_owned() }),
        Some(_) if is_child => {
            Err(Fault { line: 1, message: "expected no passes beside [parent]".to_owned() })
        }
        Some(_) => Err(Fault { line: 1, message: "expected at least one pass, got none".to_owned() }),
    }
}

/// `partition_by` repeats what the columns say, so that a reader of the file sees it; it must not differ.
fn check_partition(text: &str, stated: Option<&Spanned<String>>, expected: bool) -> Checked<()> {
    match stated {
        Some(key) if key.get_ref() != "created" || !expected => Err(Fault {
            line: line_of(text, key.span().start),
            message: match expected {
                true => format!("expected partition_by = \"created\", got \"{}\"", key.get_ref()),
                false => "expected no partition_by without a list and a timestamp created".to_owned(),
            },
        }),
        None if expected => {
            let message = "missing field `partition_by`: the list has a timestamp created".to_owned();
            Err(Fault { line: 1, message })
        }
        _ => Ok(()),
    }
}

fn is_created(column: &Column) -> bool {
    column.name == "created" && column.kind == ColumnKind::Timestamp
}

/// `id`, `object`, `created`, then by path, with `livemode` added where the file leaves it out.
fn order_columns(located: Vec<Located>) -> Vec<Column> {
    let mut columns: Vec<Column> = located.into_iter().map(|l| l.column).collect();
    if !columns.iter().any(|c| c.name == "livemode") {
        columns.push(Column::new("livemode", ColumnKind::Bool));
    }
    let first = ["id", "object", "created"];
    columns.sort_by_cached_key(|c| {
        let rank = first.iter().position(|name| *name == c.name).unwrap_or(first.len());
        (rank, c.path.clone())
    });
    columns
}

pub(super) fn read_toml<T: DeserializeOwned>(text: &str) -> Checked<T> {
    toml::from_str(text).map_err(|error| Fault {
        line: error.span().map_or(1, |span| line_of(text, span.start)),
        message: error.message().to_owned(),
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

pub(super) fn locate(file: &str, fault: Fault) -> Error {
    Error::bug(fault.message).context(format!("{file}:{}", fault.line))
}
