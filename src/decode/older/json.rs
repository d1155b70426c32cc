//! Turns the columns of a row and its `_extra` into one object, as they were before they were parted.

use std::fmt;

use serde_json::value::RawValue;

use crate::decode::json_text::{Members, Reject, append_key};

/// A JSON value; numbers and strings as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    Scalar(String),
    /// The text of a column, which may be the id of a reference whose other members stand in `_extra`.
    Id(String),
    /// In order; a key may stand twice.
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
}

impl Json {
    /// The value of a text column.
    pub fn of_text(value: &str) -> Json {
        Json::Id(serde_json::to_string(value).expect("a string is always JSON"))
    }

    pub fn parse(raw: &str) -> Result<Json, Reject> {
        let raw = raw.trim();
        let failed = |e: serde_json::Error| Reject::new(format!("expected JSON: {e}"));
        Ok(match raw.as_bytes().first() {
            Some(b'{') => {
                let members: Members = serde_json::from_str(raw).map_err(failed)?;
                let members = members.0.into_iter();
                Json::Object(
                    members
                        .map(|(key, value)| Ok((key, Json::parse(value.get())?)))
                        .collect::<Result<_, _>>()?,
                )
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(failed)?;
                Json::Array(items.into_iter().map(|item| Json::parse(item.get())).collect::<Result<_, _>>()?)
            }
            _ => Json::Scalar(serde_json::from_str::<&RawValue>(raw).map_err(failed)?.get().to_owned()),
        })
    }

    /// An object that has this value at `path`.
    pub fn under(self, path: &[String]) -> Json {
        path.iter().rev().fold(self, |value, key| Json::Object(vec![(key.clone(), value)]))
    }

    /// Adds what is known to fit, such as the members of another object.
    pub fn add(&mut self, other: Json) {
        let left = self.merge(other);
        debug_assert!(left.is_none(), "expected two parts of one value");
    }

    /// Puts together what the decoder has parted: members of one object, an expanded reference and its id,
    /// an array and the array that runs beside it. Hands back anything else.
    fn merge(&mut self, other: Json) -> Option<Json> {
        match (&mut *self, other) {
            (Json::Object(members), Json::Object(others)) => {
                // Of a key that stands twice only the first is the other part of a member.
                let mut parts = vec![true; members.len()];
                for (key, other) in others {
                    let found = (0..parts.len()).find(|at| parts[*at] && members[*at].0 == key);
                    let left = match found {
                        Some(at) => members[at].1.merge(other),
                        None => Some(other),
                    };
                    found.into_iter().for_each(|at| parts[at] = false);
                    members.extend(left.map(|left| (key, left)));
                }
                None
            }
            (Json::Id(raw), Json::Object(others)) if is_without_id(&others) => {
                let mut members = vec![("id".to_owned(), Json::Scalar(std::mem::take(raw)))];
                members.extend(others);
                *self = Json::Object(members);
                None
            }
            (Json::Array(items), Json::Array(others)) if run_side_by_side(items, &others) => {
                for (item, other) in items.iter_mut().zip(others) {
                    if !other.is_null() {
                        item.add(other);
                    }
                }
                None
            }
            (_, other) => Some(other),
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Json::Scalar(raw) if raw == "null")
    }
}

fn is_without_id(members: &[(String, Json)]) -> bool {
    members.iter().all(|(key, _)| key != "id")
}

fn run_side_by_side(items: &[Json], others: &[Json]) -> bool {
    let fit = |(item, other): (&Json, &Json)| match (item, other) {
        (_, other) if other.is_null() => true,
        (Json::Object(_), Json::Object(_)) => true,
        (Json::Id(_), Json::Object(members)) => is_without_id(members),
        _ => false,
    };
    items.len() == others.len() && items.iter().zip(others).all(fit)
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.append(&mut text);
        f.write_str(&text)
    }
}

impl Json {
    fn append(&self, out: &mut String) {
        match self {
            Json::Scalar(raw) | Json::Id(raw) => out.push_str(raw),
            Json::Object(members) => {
                out.push('{');
                for (key, value) in members {
                    append_key(key, out);
                    value.append(out);
                }
                out.push('}');
            }
            Json::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.append(out);
                }
                out.push(']');
            }
        }
    }
}
