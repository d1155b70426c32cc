//! Turns an input into what every decoder and the envelope make of it, and says where they differ.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use stripelake::decode::frame::Frame;
use stripelake::decode::{Decoded, Decoder, Options, PageError, Path, Pushed};
use stripelake::fetch::envelope::Envelope;

use crate::seeds::Seed;

/// How the objects of an input stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Page,
    Objects,
}

impl Form {
    pub fn name(self) -> &'static str {
        match self {
            Form::Page => "page",
            Form::Objects => "objects",
        }
    }

    pub fn parse(name: &str) -> Option<Form> {
        [Form::Page, Form::Objects].into_iter().find(|form| form.name() == name)
    }
}

pub struct Input {
    pub resource: String,
    pub form: Form,
    pub bytes: Vec<u8>,
}

/// Whether the input was taken. Fails with what is wrong.
///
/// A decoder sees the resource's first seed before the input, so that it has learnt something, and once
/// more behind it, so that it shows what it has learnt from the input.
pub fn check(input: &Input, seeds: &[Seed]) -> Result<bool, String> {
    let first = seeds.iter().find(|seed| seed.resource.name == input.resource);
    let first = first.ok_or_else(|| format!("no resource is called {}", input.resource))?;
    let fast = guarded("the fast decoder", || decode(input, first, Path::Fast))?;
    let plain = guarded("the plain decoder", || decode(input, first, Path::Plain))?;
    compare(&fast, &plain)?;
    let is_taken = matches!(plain.outcomes[1], Outcome::Taken { .. });
    let text = text_of(&input.bytes);
    if is_taken && !is_json(&text, input.form) {
        return Err("the decoders take what serde_json refuses".to_owned());
    }
    let envelope = guarded("the envelope", || Envelope::parse(&input.bytes))?;
    check_frame(fast.frame.as_ref(), &envelope)?;
    if let Ok(envelope) = envelope {
        check_envelope(&envelope, &text)?;
    }
    Ok(is_taken)
}

fn guarded<T>(who: &str, run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("{who} panics: {}", text.unwrap_or_default())
    })
}

/// What a decoder did with a page, as far as others can see. The wording of reasons is its own.
#[derive(Debug, PartialEq)]
enum Outcome {
    Taken { n_rows: usize, rejected: Vec<(String, Vec<u8>)>, open_lists: Vec<String> },
    Refused(std::mem::Discriminant<PageError>),
}

impl Outcome {
    fn of(result: Result<Pushed, PageError>) -> Outcome {
        match result {
            Ok(Pushed { n_rows, rejected, open_lists }) => Outcome::Taken {
                n_rows,
                rejected: rejected.into_iter().map(|r| (r.resource, r.raw)).collect(),
                open_lists: open_lists.iter().map(|open| format!("{open:?}")).collect(),
            },
            Err(error) => Outcome::Refused(std::mem::discriminant(&error)),
        }
    }
}

struct Seen {
    /// Of the input.
    frame: Option<Frame>,
    outcomes: [Outcome; 3],
    decoded: Decoded,
}

fn decode(input: &Input, first: &Seed, path: Path) -> Seen {
    let options = Options { livemode: Some(false), path, ..Options::default() };
    let mut decoder = Decoder::new(&first.resource, &first.children, options);
    let before = decoder.push_page(first.text.as_bytes(), 1);
    let result = match input.form {
        Form::Page => decoder.push_page(&input.bytes, 2),
        Form::Objects => decoder.push_objects(&input.bytes, 2),
    };
    let frame = decoder.take_frame();
    let after = decoder.push_page(first.text.as_bytes(), 3);
    Seen { frame, outcomes: [before, result, after].map(Outcome::of), decoded: decoder.flush() }
}

fn compare(fast: &Seen, plain: &Seen) -> Result<(), String> {
    if fast.outcomes != plain.outcomes {
        return Err(format!("fast: {:?}\nplain: {:?}", fast.outcomes, plain.outcomes));
    }
    let (a, b) = (&fast.decoded, &plain.decoded);
    let tables = |decoded: &Decoded| {
        let children = decoded.children.iter().cloned();
        std::iter::once(decoded.parent.clone()).chain(children).collect::<Vec<_>>()
    };
    for (fast, plain) in tables(a).into_iter().zip(tables(b)) {
        let (Some(fast), Some(plain)) = (&fast, &plain) else {
            if fast == plain {
                continue;
            }
            return Err("one decoder has rows where the other has none".to_owned());
        };
        let mut columns = fast.schema_ref().fields().iter().zip(fast.columns()).zip(plain.columns());
        if let Some(((field, ours), theirs)) = columns.find(|((_, ours), theirs)| ours != theirs) {
            return Err(format!("{}: fast: {ours:?}\nplain: {theirs:?}", field.name()));
        }
    }
    if a.findings != b.findings {
        return Err(format!("findings: fast: {:?}\nplain: {:?}", a.findings, b.findings));
    }
    if format!("{:?}", a.closed) != format!("{:?}", b.closed) {
        return Err(format!("closed lists: fast: {:?}\nplain: {:?}", a.closed, b.closed));
    }
    Ok(())
}

/// The bytes as text; where they are no UTF-8, with a question mark for every byte outside ASCII.
fn text_of(bytes: &[u8]) -> String {
    let marked = || bytes.iter().map(|b| if b.is_ascii() { char::from(*b) } else { '?' }).collect();
    String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| marked())
}

fn is_json(text: &str, form: Form) -> bool {
    match form {
        Form::Page => serde_json::from_str::<IgnoredAny>(text).is_ok(),
        Form::Objects => {
            serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>().all(|value| value.is_ok())
        }
    }
}

/// Where the decoder tells the frame of a page, it is what the envelope says.
fn check_frame(frame: Option<&Frame>, envelope: &Result<Envelope, String>) -> Result<(), String> {
    let Some(Frame { has_more, ids, created, url }) = frame.cloned() else {
        return Ok(());
    };
    let n_objects = ids.len();
    let told = Envelope { has_more, ids, n_objects, url, ..Envelope::default() }.with_created(created);
    match Ok(&told) == envelope.as_ref() {
        true => Ok(()),
        false => Err(format!("the frame is {told:?}, the envelope {envelope:?}")),
    }
}

/// The obvious reading of a page is the oracle of the envelope, where a tree of values can be had at all.
fn check_envelope(envelope: &Envelope, text: &str) -> Result<(), String> {
    if !is_json(text, Form::Page) {
        return Err("the envelope takes what serde_json refuses".to_owned());
    }
    let Ok(page) = serde_json::from_str::<Value>(text) else { return Ok(()) };
    let data = page["data"].as_array().map_or(&[][..], Vec::as_slice);
    let ids: Vec<String> = ids_of(text);
    let is_list = page["object"] == "list" && page["data"].is_array();
    let has_more = Value::Bool(envelope.has_more);
    if !is_list || page["has_more"] != has_more || envelope.n_objects != data.len() || envelope.ids != ids {
        return Err(format!("the envelope is {envelope:?}"));
    }
    Ok(())
}

/// The members of an object, repeated keys and all.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// The ids of the objects: of two in one object the last that is not null.
fn ids_of(page: &str) -> Vec<String> {
    let Ok(Members(members)) = serde_json::from_str(page) else { return Vec::new() };
    let Some((_, data)) = members.iter().find(|(key, _)| key == "data") else { return Vec::new() };
    let objects: Vec<&RawValue> = serde_json::from_str(data.get()).unwrap_or_default();
    let id = |object: &&RawValue| {
        let Members(members) = serde_json::from_str(object.get()).ok()?;
        let (_, id) = members.iter().rfind(|(key, value)| key == "id" && value.get() != "null")?;
        serde_json::from_str::<String>(id.get()).ok().filter(|id| !id.is_empty())
    };
    objects.iter().filter_map(id).collect()
}
