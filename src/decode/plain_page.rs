//! Turns a page into its objects' text, the plain way, and those into rows.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decode::plain_object::{Object, Refused};
use crate::decode::rows::ParentRow;
use crate::decode::tables::Tables;
use crate::decode::{PageError, Pushed, Rejected, malformed, malformed_at};
use crate::utf8::same_length_text;

/// What the objects of a text are.
pub enum Source<'a> {
    /// The `data` of a list page.
    Page,
    /// Objects, one after the other.
    Objects,
    /// The `data` of a page of a child's own list.
    ChildPage(usize, &'a ParentRow),
}

/// Decodes every object of `body`. On an error nothing of it is kept.
pub fn push(
    tables: &mut Tables,
    body: &[u8],
    observed_at: i64,
    source: &Source,
) -> Result<Pushed, PageError> {
    let mark = tables.mark();
    let findings = tables.findings.clone();
    push_all(tables, body, observed_at, source).inspect_err(|_| {
        tables.reset(&mark);
        tables.findings = findings;
    })
}

fn push_all(
    tables: &mut Tables,
    body: &[u8],
    observed_at: i64,
    source: &Source,
) -> Result<Pushed, PageError> {
    let text = same_length_text(body);
    let objects = objects(&text, source)?;
    check_between(body, &text, &objects)?;
    let mut pushed = Pushed::default();
    for (row, raw) in objects.into_iter().enumerate() {
        let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        let original = &body[start..start + raw.get().len()];
        let text = std::str::from_utf8(original).unwrap_or(raw.get());
        let object = Object { row, text, original, observed_at };
        let (added, resource) = match source {
            Source::Page | Source::Objects => (tables.add(&object), &tables.rows.resource),
            Source::ChildPage(child, parent) => {
                let added = tables.add_child(*child, parent, &object);
                (added.map(|()| Vec::new()), &tables.children[*child].0.resource)
            }
        };
        match added {
            Ok(open_lists) => {
                pushed.n_rows += 1;
                pushed.open_lists.extend(open_lists);
            }
            Err(Refused::Object(reason)) => {
                pushed.rejected.push(Rejected::new(&resource.name, reason.0, original));
            }
            Err(Refused::Page(error)) => return Err(error),
        }
    }
    Ok(pushed)
}

/// What is no text within an object is a matter of that object, and elsewhere one of the page.
fn check_between(body: &[u8], text: &str, objects: &[&RawValue]) -> Result<(), PageError> {
    let spans = objects.iter().map(|raw| {
        let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        start..start + raw.get().len()
    });
    let mut from = 0;
    for Range { start, end } in spans.chain(std::iter::once(body.len()..body.len())) {
        if let Err(error) = std::str::from_utf8(&body[from..start]) {
            return Err(malformed_at(text, from + error.valid_up_to(), "expected UTF-8".to_owned()));
        }
        from = end;
    }
    Ok(())
}

fn objects<'a>(text: &'a str, source: &Source) -> Result<Vec<&'a RawValue>, PageError> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        data: Vec<&'a RawValue>,
    }
    match source {
        // serde reads a struct from an array, too.
        Source::Page | Source::ChildPage(..) if !text.trim_start().starts_with('{') => {
            Err(PageError::Malformed { what: "expected a list page".to_owned(), line: 1 })
        }
        Source::Page | Source::ChildPage(..) => {
            serde_json::from_str::<Page>(text).map(|page| page.data).map_err(|e| malformed(text, &e))
        }
        Source::Objects => {
            let values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
            let values: Vec<&RawValue> = values.collect::<Result<_, _>>().map_err(|e| malformed(text, &e))?;
            match values.iter().find(|value| !value.get().starts_with('{')) {
                None => Ok(values),
                Some(value) => {
                    let before = value.get().as_ptr() as usize - text.as_ptr() as usize;
                    let line = 1 + text[..before].matches('\n').count();
                    Err(PageError::Malformed { what: "expected an object".to_owned(), line })
                }
            }
        }
    }
}
