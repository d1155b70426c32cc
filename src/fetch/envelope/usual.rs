//! Turns a usual page into its envelope; whatever is odd about a page is left to the careful way.

use crate::fetch::envelope::Envelope;
use crate::tokens::{expect, next_in, short_int, skip_space, string_run_end};
use crate::walk::{Skip, walk};

/// `None` for what is not a proper list page, and for any that needs a closer look: a key twice or with
/// escapes, an item that is no object, an id that is no plain text, a `created` that is no plain integer.
pub fn parse(page: &str) -> Option<Envelope> {
    let bytes = page.as_bytes();
    let mut at = expect(bytes, skip_space(bytes, 0), b'{', "").ok()?;
    at = skip_space(bytes, at);
    let mut envelope = Envelope { is_newest_first: true, ..Envelope::default() };
    let (mut is_list, mut has_data, mut has_more) = (false, false, None);
    loop {
        let (key, value_at) = key(page, at)?;
        at = match key {
            "object" => {
                let (object, end) = plain_text(page, value_at)?;
                (object == "list" && !std::mem::replace(&mut is_list, true)).then_some(end)?
            }
            "data" => {
                (!std::mem::replace(&mut has_data, true)).then_some(())?;
                items(page, value_at, &mut envelope)?
            }
            "has_more" => {
                let (value, end) = flag(bytes, value_at)?;
                has_more.replace(value).is_none().then_some(end)?
            }
            _ => walk(page, value_at, &mut Skip)?.end,
        };
        let is_followed;
        (at, is_followed) = next_in(bytes, at, b'}').ok()?;
        if !is_followed {
            break;
        }
    }
    envelope.has_more = has_more?;
    (is_list && has_data && skip_space(bytes, at + 1) == bytes.len()).then_some(envelope)
}

/// The items of `data`, and the index behind its bracket.
fn items(page: &str, at: usize, envelope: &mut Envelope) -> Option<usize> {
    let bytes = page.as_bytes();
    let mut at = skip_space(bytes, expect(bytes, at, b'[', "").ok()?);
    if bytes.get(at) == Some(&b']') {
        return Some(at + 1);
    }
    loop {
        envelope.n_objects += 1;
        at = item(page, at, envelope)?;
        let is_followed;
        (at, is_followed) = next_in(bytes, at, b']').ok()?;
        if !is_followed {
            return Some(at + 1);
        }
    }
}

/// One object, and the index behind its brace.
fn item(page: &str, at: usize, envelope: &mut Envelope) -> Option<usize> {
    let bytes = page.as_bytes();
    let mut at = skip_space(bytes, expect(bytes, at, b'{', "").ok()?);
    let (mut id, mut created) = (None, None);
    loop {
        let (key, value_at) = key(page, at)?;
        at = match key {
            "id" => {
                let (text, end) = plain_text(page, value_at)?;
                id.replace(text).is_none().then_some(end)?
            }
            "created" => {
                let (secs, end) = short_int(bytes, value_at)?;
                created.replace(secs).is_none().then_some(end)?
            }
            _ => walk(page, value_at, &mut Skip)?.end,
        };
        let is_followed;
        (at, is_followed) = next_in(bytes, at, b'}').ok()?;
        if !is_followed {
            break;
        }
    }
    envelope.ids.extend(id.filter(|id| !id.is_empty()).map(str::to_owned));
    created.into_iter().for_each(|created| envelope.note_created(created));
    Some(at + 1)
}

/// A key and where its value begins.
fn key(page: &str, at: usize) -> Option<(&str, usize)> {
    let bytes = page.as_bytes();
    let (key, end) = plain_text(page, at)?;
    let colon = skip_space(bytes, end);
    Some((key, skip_space(bytes, expect(bytes, colon, b':', "").ok()?)))
}

/// A string without escapes, and the index behind it.
fn plain_text(page: &str, at: usize) -> Option<(&str, usize)> {
    let bytes = page.as_bytes();
    let start = expect(bytes, at, b'"', "").ok()?;
    let end = string_run_end(bytes, start)?;
    (bytes[end] == b'"').then(|| (&page[start..end], end + 1))
}

fn flag(bytes: &[u8], at: usize) -> Option<(bool, usize)> {
    let rest = bytes.get(at..)?;
    match rest.starts_with(b"true") {
        true => Some((true, at + 4)),
        false => rest.starts_with(b"false").then_some((false, at + 5)),
    }
}
