//! Turns the body of an answer into rows and what paging needs of it, in one walk.
//!
//! A page is decoded where it came, before the next one is asked for: it takes a third of a millisecond, and an
//! answer hundreds. So what the decoder finds broken is asked for again like any other broken answer.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::decode::frame::Frame;
use crate::decode::{Decoded, Decoder, Mark, PageError, Pushed};
use crate::error::{Error, Kind, Result};
use crate::fetch::answer::Unfit;
use crate::fetch::envelope::Envelope;

/// The decoder of a slice. Of the pages that are taken, the last one before [`Taking::keep`] counts.
pub struct Taking {
    decoder: Option<Decoder>,
    kept: Mark,
    /// The page that was taken last, if lists in it go on.
    page: Bytes,
}

/// As much of a page as leaving out objects takes.
#[derive(Deserialize)]
struct Objects<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
}

impl Taking {
    pub fn new(mut decoder: Decoder) -> Taking {
        let kept = decoder.mark();
        Taking { decoder: Some(decoder), kept, page: Bytes::new() }
    }

    /// `None` if it has failed: its rows have gone with it.
    pub fn decoder(&mut self) -> Option<&mut Decoder> {
        self.decoder.as_mut()
    }

    /// `None` if it has failed.
    pub fn into_decoder(self) -> Option<Decoder> {
        self.decoder
    }

    /// Takes a page in the place of the one before it. On an error nothing of it is there.
    pub fn take(&mut self, body: &Bytes, observed_at: i64) -> std::result::Result<(Envelope, Pushed), Unfit> {
        self.take_back();
        let Some(decoder) = &mut self.decoder else {
            return Err(Unfit::Refused(Error::bug("decode: the decoder has failed before")));
        };
        let taken = catch_unwind(AssertUnwindSafe(|| take(decoder, body, observed_at)));
        let Ok(taken) = taken else {
            self.decoder = None;
            return Err(Unfit::Refused(Error::bug("decode: the decoder has panicked")));
        };
        let (envelope, pushed) = taken.inspect_err(|_| self.take_back())?;
        self.page = if pushed.open_lists.is_empty() { Bytes::new() } else { body.clone() };
        Ok((envelope, pushed))
    }

    /// An object of the page that was taken last, some of whose lists go on, as it came.
    pub fn raw(&self, id: &str) -> Result<Vec<u8>> {
        let objects = self.objects()?;
        let found = objects.iter().find(|object| id_of(object).as_deref() == Some(id));
        Ok(found.map_or_else(Vec::new, |object| object.get().as_bytes().to_vec()))
    }

    /// Takes that page once more, without some of its objects.
    pub fn take_without(&mut self, left_out: &HashSet<String>, observed_at: i64) -> Result<Pushed> {
        self.take_back();
        let is_left_out = |object: &&RawValue| id_of(object).is_some_and(|id| left_out.contains(&*id));
        let others: Vec<&str> =
            self.objects()?.into_iter().filter(|object| !is_left_out(object)).map(RawValue::get).collect();
        let others = others.join("\n").into_bytes();
        let Some(decoder) = &mut self.decoder else { return Ok(Pushed::default()) };
        let pushed = decoder.push_objects(&others, observed_at);
        pushed.map_err(|error| {
            Error::bug(format!("decode: a page that was taken, without some objects: {error}"))
        })
    }

    fn objects(&self) -> Result<Vec<&RawValue>> {
        let page: Objects = serde_json::from_slice(&self.page)
            .map_err(|error| Error::new(Kind::Partial, format!("a page with lists that go on: {error}")))?;
        Ok(page.data)
    }

    /// The page that was taken last stays.
    pub fn keep(&mut self) {
        if let Some(decoder) = &mut self.decoder {
            self.kept = decoder.mark();
        }
    }

    /// The page that was taken last was refused after all.
    pub fn take_back(&mut self) {
        if let Some(decoder) = &mut self.decoder {
            decoder.reset(&self.kept);
        }
    }

    /// Everything that was kept.
    pub fn flush(&mut self) -> Option<Decoded> {
        let flushed = self.decoder.as_mut().map(Decoder::flush);
        self.keep();
        flushed
    }
}

fn id_of(object: &RawValue) -> Option<Cow<'_, str>> {
    let members: HashMap<String, &RawValue> = serde_json::from_str(object.get()).ok()?;
    serde_json::from_str(members.get("id")?.get()).ok()
}

fn take(
    decoder: &mut Decoder,
    body: &[u8],
    observed_at: i64,
) -> std::result::Result<(Envelope, Pushed), Unfit> {
    let careful = || Envelope::parse(body).map_err(Unfit::Broken);
    match decoder.push_page(body, observed_at) {
        Ok(pushed) => match decoder.take_frame() {
            Some(frame) => Ok((envelope_of(frame), pushed)),
            None => Ok((careful()?, pushed)),
        },
        Err(PageError::Malformed { what, line }) => Err(Unfit::Broken(format!("line {line}: {what}"))),
        // What is not even a list says nothing about the account.
        Err(other) => careful().and_then(|_| Err(Unfit::Refused(refusal(&other)))),
    }
}

fn refusal(error: &PageError) -> Error {
    match error {
        PageError::WrongMode { .. } => Error::new(Kind::Auth, error.to_string())
            .hint("the key and the objects are of different modes, test and live"),
        other => Error::new(Kind::Partial, other.to_string())
            .foreign()
            .hint("what stands between this program and Stripe answers with something else; check --api-base and proxies"),
    }
}

fn envelope_of(frame: Frame) -> Envelope {
    let Frame { has_more, ids, created, url } = frame;
    Envelope { has_more, n_objects: ids.len(), ids, url, ..Envelope::default() }.with_created(created)
}
