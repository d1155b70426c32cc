//! Turns an object's bytes into a row in one pass, straight into the column builders.
//!
//! The next key of every object is predicted by its [`Template`]; values go from the page into their
//! column without anything in between. Unknown members and values of another type are captured as text
//! where they stand. What is rarer still (a duplicate key, an expanded reference, half a surrogate pair,
//! an odd item inside a list or map) stops the row, and the plain decoder decides about that object.

use crate::decode::columns::{Column, StructList, Table, TextList, TextMap};
use crate::decode::copy::copy_plain;
use crate::decode::json_text::{append_key, append_stored, depth};
use crate::decode::number;
use crate::decode::shape::{MAX_DEPTH, SECRET_SUFFIX};
use crate::decode::step::{Step, Stop, literal, must, put_bool, put_if, put_int, put_string, unescape};
use crate::decode::template::{Goal, Kind, Landing, Spot, Template};
use crate::decode::unnamed::Unnamed;
use crate::decode::walk::Arrival;
use crate::tokens::{Broken, balanced_end, expect, next_in, raw_value, short_int, skip_space};

/// Keys of one map that are compared with each other.
const MOST_KEYS: usize = 100;

/// An embedded list that is a child table: where its value begins.
#[derive(Debug, Clone, Copy)]
pub struct ChildAt {
    pub child: usize,
    pub at: usize,
}

/// One object's way from bytes into a row of `table`.
pub struct Reader<'a> {
    pub page: &'a str,
    pub template: &'a mut Template,
    pub table: &'a mut Table,
    pub unnamed: &'a mut Unnamed,
    pub children: &'a mut Vec<ChildAt>,
}

impl Reader<'_> {
    /// Reads the row whose members begin at `at`, behind the brace, and returns the index behind it.
    pub fn row(&mut self, mut at: usize) -> Step<usize> {
        let bytes = self.page.as_bytes();
        let mut before = self.template.start();
        loop {
            let jump = match self.unnamed.is_open() {
                false => self.template.jump(bytes, at, before),
                true => None,
            };
            let place;
            (at, place) = match jump {
                Some((Landing::Place(place), behind)) => (behind, place),
                Some((Landing::End, behind)) => return Ok(behind),
                None => match self.walk(at, before)? {
                    Arrival::Value(at, place) => (at, place),
                    Arrival::End(at) => return Ok(at),
                },
            };
            if bytes.get(at).is_some_and(|byte| *byte <= b' ') {
                // The literal was learnt where less white space stood behind the colon.
                at = skip_space(bytes, at);
            }
            at = match place.goal {
                Goal::Column { column, kind } => self.value(at, place.spot, column as usize, kind)?,
                Goal::Child(child) => self.child_list(at, place.spot, child as usize)?,
                Goal::Node(_) => unreachable!("a walk enters objects"),
            };
            before = place.spot;
        }
    }

    #[inline(always)]
    fn value(&mut self, at: usize, spot: Spot, column: usize, kind: Kind) -> Step<usize> {
        let bytes = self.page.as_bytes();
        let row = self.table.n_rows;
        let Some(first) = bytes.get(at) else { return Err(Broken::new(at, "expected a value").into()) };
        match (kind, first) {
            (_, b'n') => literal(bytes, at, b"null"),
            (Kind::Text | Kind::Ref, b'"') => self.text(at, column, row),
            (Kind::Int64, b'-' | b'0'..=b'9') => match short_int(bytes, at) {
                Some((value, end)) => put_int(&mut self.table.columns[column], row, value, end),
                None => self.careful(at, spot, column),
            },
            (Kind::Timestamp, b'-' | b'0'..=b'9') => {
                match short_int(bytes, at).and_then(|(v, end)| Some((v.checked_mul(1_000_000)?, end))) {
                    Some((value, end)) => put_int(&mut self.table.columns[column], row, value, end),
                    None => self.careful(at, spot, column),
                }
            }
            (Kind::Bool, b't') => {
                put_bool(&mut self.table.columns[column], row, true, literal(bytes, at, b"true")?)
            }
            (Kind::Bool, b'f') => {
                put_bool(&mut self.table.columns[column], row, false, literal(bytes, at, b"false")?)
            }
            (Kind::Map, b'{') => self.map(at + 1, column),
            (Kind::List, b'[') => self.text_list(at + 1, column),
            (Kind::Structs, b'[') => self.struct_list(at + 1, column),
            // An expanded reference, or a value of another type, or one that needs more care.
            (Kind::Ref, b'{') => Err(Stop::Unusual),
            _ => self.careful(at, spot, column),
        }
    }

    #[inline(always)]
    fn text(&mut self, at: usize, column: usize, row: usize) -> Step<usize> {
        let Column::Text(text) = &mut self.table.columns[column] else {
            unreachable!("a text column has a text builder")
        };
        put_string(self.page, at, text, row)
    }

    /// Numbers with fractions, decimals, JSON columns, and values of another type.
    #[cold]
    #[inline(never)]
    fn careful(&mut self, at: usize, spot: Spot, column: usize) -> Step<usize> {
        if self.template.kind(spot) == Some(Kind::Json) {
            return self.json(at, spot, column);
        }
        let (raw, end) = raw_value(self.page, at)?;
        let row = self.table.n_rows;
        let is_text = raw.starts_with('"');
        let is_put = match &mut self.table.columns[column] {
            Column::Int64(builder) => put_if(number::int64(raw), |v| builder.put(row, v))?,
            Column::Float64(builder) => put_if(number::float(raw), |v| builder.put(row, v))?,
            Column::Timestamp(builder) => put_if(number::micros(raw), |v| builder.put(row, v))?,
            Column::Decimal(builder) if is_text => {
                let text = unescape(raw).ok_or(Stop::Unusual)?;
                put_if(number::decimal(&text), |v| builder.put(row, v))?
            }
            _ => false,
        };
        if !is_put {
            self.keep_mistyped(spot, at)?;
        }
        Ok(end)
    }

    fn json(&mut self, at: usize, spot: Spot, column: usize) -> Step<usize> {
        let mut stored = self.unnamed.take_spare();
        let end = store(self.page, at, self.template.levels_at(spot), &mut stored)?;
        let Column::Text(text) = &mut self.table.columns[column] else {
            unreachable!("a JSON column has a text builder")
        };
        must(text.put(self.table.n_rows, &stored))?;
        self.unnamed.spare = stored;
        Ok(end)
    }

    pub fn null_or_mistyped(&mut self, at: usize, spot: Spot) -> Step<usize> {
        let bytes = self.page.as_bytes();
        if bytes.get(at) == Some(&b'n') {
            return literal(bytes, at, b"null");
        }
        self.keep_mistyped(spot, at)
    }

    fn child_list(&mut self, at: usize, spot: Spot, child: usize) -> Step<usize> {
        if self.page.as_bytes().get(at) != Some(&b'{') {
            return self.null_or_mistyped(at, spot);
        }
        // The plain decoder knows which of two lists of one name counts.
        must(self.children.iter().all(|other| other.child != child))?;
        // Only skipped here: its text is checked when its items are read.
        let end = balanced_end(self.page.as_bytes(), at)?;
        self.children.push(ChildAt { child, at });
        Ok(end)
    }

    fn map(&mut self, at: usize, column: usize) -> Step<usize> {
        let page = self.page;
        let bytes = page.as_bytes();
        let row = self.table.n_rows;
        let Column::TextMap(TextMap { spans, keys, values, n_entries }) = &mut self.table.columns[column]
        else {
            unreachable!("a map column has a map builder")
        };
        must(spans.is_free(row))?;
        let first = *n_entries;
        let mut at = skip_space(bytes, at);
        if bytes.get(at) != Some(&b'}') {
            loop {
                expect(bytes, at, b'"', "expected a key")?;
                at = skip_space(bytes, put_string(page, at, keys, *n_entries)?);
                let key = keys.get_bytes(*n_entries).unwrap_or_default();
                must(!key.ends_with(SECRET_SUFFIX.as_bytes()))?;
                must(*n_entries - first < MOST_KEYS)?;
                must((first..*n_entries).all(|other| keys.get_bytes(other) != Some(key)))?;
                at = skip_space(bytes, expect(bytes, at, b':', "expected :")?);
                at = match bytes.get(at) {
                    Some(b'"') => put_string(page, at, values, *n_entries)?,
                    Some(b'n') => literal(bytes, at, b"null")?,
                    _ => return Err(Stop::Unusual),
                };
                *n_entries += 1;
                let has_more;
                (at, has_more) = next_in(bytes, at, b'}')?;
                if !has_more {
                    break;
                }
            }
        }
        spans.close(row, *n_entries);
        Ok(at + 1)
    }

    fn text_list(&mut self, at: usize, column: usize) -> Step<usize> {
        let page = self.page;
        let bytes = page.as_bytes();
        let row = self.table.n_rows;
        let Column::TextList(TextList { spans, items, n_items }) = &mut self.table.columns[column] else {
            unreachable!("a list column has a list builder")
        };
        must(spans.is_free(row))?;
        let mut at = skip_space(bytes, at);
        if bytes.get(at) != Some(&b']') {
            loop {
                at = match bytes.get(at) {
                    Some(b'"') => put_string(page, at, items, *n_items)?,
                    Some(b'n') => literal(bytes, at, b"null")?,
                    _ => return Err(Stop::Unusual),
                };
                *n_items += 1;
                let has_more;
                (at, has_more) = next_in(bytes, at, b']')?;
                if !has_more {
                    break;
                }
            }
        }
        spans.close(row, *n_items);
        Ok(at + 1)
    }

    fn struct_list(&mut self, at: usize, column: usize) -> Step<usize> {
        let bytes = self.page.as_bytes();
        let row = self.table.n_rows;
        let Column::StructList(StructList { spans, items }) = &mut self.table.columns[column] else {
            unreachable!("a struct list column has a struct list builder")
        };
        must(spans.is_free(row))?;
        let mut at = skip_space(bytes, at);
        if bytes.get(at) != Some(&b']') {
            let mut unnamed = Unnamed::default();
            loop {
                must(bytes.get(at) == Some(&b'{'))?;
                let mut reader = Reader {
                    page: self.page,
                    template: self.template.items[column]
                        .as_deref_mut()
                        .expect("a struct list has a template"),
                    table: items,
                    unnamed: &mut unnamed,
                    children: &mut Vec::new(),
                };
                at = reader.row(at + 1)?;
                must(unnamed.is_empty())?;
                items.n_rows += 1;
                let has_more;
                (at, has_more) = next_in(bytes, at, b']')?;
                if !has_more {
                    break;
                }
            }
        }
        spans.close(row, items.n_rows);
        Ok(at + 1)
    }

    /// Keeps an unknown member whose value begins at `at`, and returns the index behind it.
    #[cold]
    pub fn keep_unknown(&mut self, node: usize, key: &str, at: usize) -> Step<usize> {
        if key.ends_with(SECRET_SUFFIX) {
            return Ok(raw_value(self.page, at)?.1);
        }
        if self.template.nodes[node].rest.is_none() {
            // What is left of a deleted object says so at its root.
            must(node != 0 || key != "deleted" || !self.page[at..].starts_with("true"))?;
            self.unnamed.found.push((node, key.to_owned(), false));
            return self.keep(node, key, at);
        }
        if self.unnamed.rest.last().is_none_or(|(last, _)| *last != node) {
            let mut text = self.unnamed.take_spare();
            text.push('{');
            self.unnamed.rest.push((node, text));
        }
        let (_, text) = self.unnamed.rest.last_mut().expect("just pushed");
        append_key(key, text);
        store(self.page, at, self.template.levels_in(node), text)
    }

    #[cold]
    fn keep_mistyped(&mut self, spot: Spot, at: usize) -> Step<usize> {
        let node = self.template.node_of(spot);
        let key = self.template.key(spot).to_owned();
        self.unnamed.found.push((node, key.clone(), true));
        self.keep(node, &key, at)
    }

    /// Puts a member into `_extra`, in its place.
    fn keep(&mut self, node: usize, key: &str, at: usize) -> Step<usize> {
        let Unnamed { extra, open, .. } = &mut *self.unnamed;
        if extra.is_empty() {
            extra.push('{');
        }
        for (level, level_key) in &self.template.nodes[node].path[open.len()..] {
            append_key(level_key, extra);
            extra.push('{');
            open.push(*level);
        }
        append_key(key, extra);
        store(self.page, at, self.template.levels_in(node), extra)
    }

    /// At the end of an object that may have had members without a column.
    #[cold]
    pub fn close(&mut self, node: usize) -> Step<()> {
        if self.unnamed.open.last() == Some(&node) {
            self.unnamed.extra.push('}');
            self.unnamed.open.pop();
        }
        if self.unnamed.rest.last().is_some_and(|(last, _)| *last == node) {
            let (_, mut text) = self.unnamed.rest.pop().expect("just seen");
            text.push('}');
            let column = self.template.nodes[node].rest.expect("only such nodes gather the rest");
            let Column::Text(builder) = &mut self.table.columns[column] else {
                unreachable!("a JSON column has a text builder")
            };
            must(builder.put(self.table.n_rows, &text))?;
            self.unnamed.spare = text;
        }
        Ok(())
    }
}

/// Appends the value that begins at `at`, with `levels` of objects and arrays around it, as it is stored.
fn store(page: &str, at: usize, levels: usize, out: &mut String) -> Step<usize> {
    if let Some(copied) = copy_plain(page, at, out) {
        must(levels + copied.depth <= MAX_DEPTH)?;
        return Ok(copied.end);
    }
    let (raw, end) = raw_value(page, at)?;
    must(raw.len() < MAX_DEPTH - levels || levels + depth(raw) <= MAX_DEPTH)?;
    append_stored(raw, out).map_err(|_| Stop::Unusual)?;
    Ok(end)
}
