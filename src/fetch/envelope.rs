//! Turns a page's bytes into what paging needs, and refuses everything that is no proper list.
//!
//! The decoder tells the same of a usual page while it reads it; this is for all others, and says what is
//! wrong with them. A missing or mistyped `has_more` must never look like the last page.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::utf8::same_length_text;

/// A gap so many times as wide as others is a jump.
const JUMP: i64 = 20;

/// The frame of a list page. <https://docs.stripe.com/api/pagination>
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    pub has_more: bool,
    /// The ids in the order sent; objects without a proper id are left out.
    pub ids: Vec<String>,
    pub n_objects: usize,
    /// The `created` of the newest and oldest object, unix seconds.
    pub newest: Option<i64>,
    pub oldest: Option<i64>,
    /// The oldest but one, where there are several: how far the page goes, a single odd object aside.
    pub reached: Option<i64>,
    /// Whether no object is newer than the one before it.
    pub is_newest_first: bool,
    /// The `created` of each object that has one, in the order sent.
    pub created: Vec<i64>,
    /// How far the pages before have come, or where the window ends.
    pub before: Option<i64>,
    /// The list that it says to be a page of.
    pub url: Option<String>,
}

#[derive(Deserialize)]
struct List<'a> {
    object: String,
    #[serde(borrow)]
    data: Vec<Item<'a>>,
    has_more: bool,
    #[serde(borrow, default)]
    url: Option<&'a RawValue>,
}

/// What paging needs of one object; anything but an object is for the decoder to refuse.
#[derive(Default)]
struct Item<'a> {
    id: Option<&'a RawValue>,
    created: Option<&'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Item<'a>, D::Error> {
        deserializer.deserialize_any(ItemVisitor(PhantomData))
    }
}

struct ItemVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ItemVisitor<'a> {
    type Value = Item<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item<'a>, A::Error> {
        let mut item = Item::default();
        // Raw, since a name that is no Unicode makes its object odd, and not the page.
        while let Some(key) = map.next_key::<&RawValue>()? {
            match serde_json::from_str::<Cow<str>>(key.get()).unwrap_or_default().as_ref() {
                // As in the decoder, null is no value that could take the place of another.
                "id" => item.id = map.next_value::<Option<&RawValue>>()?.or(item.id),
                "created" => item.created = map.next_value::<Option<&RawValue>>()?.or(item.created),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(item)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Item<'a>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Item::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Item<'a>, E> {
        Ok(Item::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Item<'a>, E> {
        Ok(Item::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Item<'a>, E> {
        Ok(Item::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Item<'a>, E> {
        Ok(Item::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Item<'a>, E> {
        Ok(Item::default())
    }

    fn visit_unit<E>(self) -> Result<Item<'a>, E> {
        Ok(Item::default())
    }
}

impl Envelope {
    /// Checks every byte of the page. Fails with what is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Envelope, String> {
        let text = same_length_text(body);
        // serde reads a struct from an array, too.
        if !text.trim_start().starts_with('{') {
            return Err("expected a list object".to_owned());
        }
        let list: List = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        if list.object != "list" {
            return Err(format!("object is \"{}\", expected \"list\"", list.object));
        }
        let ids = list.data.iter().filter_map(|item| serde_json::from_str::<String>(item.id?.get()).ok());
        let created = list.data.iter().filter_map(|item| item.created?.get().parse().ok());
        let envelope = Envelope {
            has_more: list.has_more,
            ids: ids.filter(|id| !id.is_empty()).collect(),
            n_objects: list.data.len(),
            url: list.url.and_then(|raw| serde_json::from_str(raw.get()).ok()),
            ..Envelope::default()
        };
        Ok(envelope.with_created(created.collect()))
    }

    /// `created` is that of each object that has one, in the order sent.
    pub fn with_created(self, created: Vec<i64>) -> Envelope {
        let mut oldest_first = created.clone();
        oldest_first.sort_unstable();
        Envelope {
            newest: oldest_first.last().copied(),
            oldest: oldest_first.first().copied(),
            reached: oldest_first.get(1).or(oldest_first.first()).copied(),
            is_newest_first: created.is_sorted_by(|a, b| a >= b),
            created,
            ..self
        }
    }

    /// The seconds between two objects, one behind the other, that `second` is among, where they are many times as many as
    /// there usually are.
    pub fn jump_over(&self, second: i64) -> Option<Range<i64>> {
        let gaps = || self.created.windows(2).map(|two| two[1]..two[0]);
        let before = self.newest.zip(self.before).map(|(newest, before)| newest..before);
        let jump = gaps().chain(before).filter(|gap| gap.contains(&second)).max_by_key(secs_of)?;
        let widest = gaps().map(|gap| secs_of(&gap)).max().unwrap_or_default();
        let all = gaps().fold(0, |sum: i64, gap| sum.saturating_add(secs_of(&gap)));
        let usual = (all - widest) / (self.created.len() as i64 - 2).max(1);
        Some(jump).filter(|jump| is_jump(jump, usual))
    }
}

/// Whether so many seconds between two objects are many times as many as there usually are.
pub fn is_jump(gap: &Range<i64>, usual: i64) -> bool {
    secs_of(gap) > JUMP * usual.max(1)
}

fn secs_of(gap: &Range<i64>) -> i64 {
    gap.end.saturating_sub(gap.start).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_ids_and_the_range_of_created() {
        let body = br#"{"object":"list","data":[{"id":"b","created":9},{"id":"a","created":7,"x":[1]},3],"has_more":true,"url":"/v1/x"}"#;
        let envelope = Envelope::parse(body).unwrap();
        assert_eq!(envelope.ids, ["b", "a"]);
        assert_eq!((envelope.newest, envelope.oldest, envelope.reached), (Some(9), Some(7), Some(9)));
        assert_eq!((envelope.n_objects, envelope.has_more), (3, true));
        assert!(envelope.is_newest_first);
        assert_eq!(envelope.url.as_deref(), Some("/v1/x"));
        let body = br#"{"object":"list","data":[{"created":9},{"created":3},{"created":8}],"has_more":true}"#;
        assert!(!Envelope::parse(body).unwrap().is_newest_first);
    }

    #[test]
    fn p5_a_name_that_is_no_unicode_is_no_fault_of_the_page() {
        let body = br#"{"object":"list","data":[{"n\ud800":1,"\u0069d":"a","created":7}],"has_more":false}"#;
        let envelope = Envelope::parse(body).unwrap();
        assert_eq!((envelope.ids, envelope.newest), (vec!["a".to_owned()], Some(7)));
    }

    #[test]
    fn p2_a_mistyped_envelope_is_an_error_and_never_the_last_page() {
        for body in [
            r#"{"object":"list","data":[]}"#,
            r#"{"object":"list","data":[],"has_more":"true"}"#,
            r#"{"object":"list","data":[],"has_more":null}"#,
            r#"{"object":"list","data":{},"has_more":false}"#,
            r#"{"object":"list","has_more":false}"#,
            r#"{"object":"charge","data":[],"has_more":false}"#,
            r#"{"data":[],"has_more":false}"#,
            r#"["list",[],false]"#,
            r#"{"object":"list","data":[],"has_more":false} x"#,
            r#"{"object":"list","data":[{"id":"a"}],"has_more":fal"#,
            "",
        ] {
            assert!(Envelope::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
