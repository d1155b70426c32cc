//! Turns an embedded list that goes on into the rest of its rows.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use crate::catalog::Resource;
use crate::decode::{Decoder, OpenList, PageError, Rejected};
use crate::error::{Error, Kind, Result};
use crate::fetch::envelope::Envelope;
use crate::fetch::retry::Reason;
use crate::fetch::size::PageSize;
use crate::fetch::slice::is_url_of;
use crate::fetch::{FetchError, Fetcher, Page, Request};
use crate::redact::shown;

/// Restarts of one list that bring nothing new.
const RESTARTS: u32 = 5;
/// Times that a list is read again from its start since it ended before what should come.
const LOOKS_BACK: u32 = 2;
/// What helps where a list is not what it was a moment ago.
const AGAIN: &str = "run the same command again later";

/// Reads the list behind the embedded page to its end.
///
/// Without a cursor in the way of a vanished row, the list is read again from its start: a row that
/// comes twice is merged by its id.
pub async fn follow(
    fetcher: &Fetcher,
    child: &Arc<Resource>,
    open: &OpenList,
    decoder: &mut Decoder,
) -> Result<Vec<Rejected>> {
    let base = request(child, open)?;
    let mut cursor = open.after.clone();
    let mut rejected = Vec::new();
    let mut restarts = 0;
    let mut size = PageSize::FULL;
    let mut ends: HashSet<String> = cursor.iter().cloned().collect();
    // The ends of all pages, whatever was read before them.
    let mut known = ends.clone();
    let mut doubts = Doubts::default();
    loop {
        let ask = |limit| page_of(&base, limit, cursor.as_deref());
        let page = match fetcher.smaller_page(size.limit(), ask).await {
            Ok((page, came)) => {
                size.note(came);
                page
            }
            Err(FetchError::CursorGone) if restarts < RESTARTS => {
                fetcher.note_another(&child.path, Reason::CursorGone);
                restarts += 1;
                cursor = None;
                ends.clear();
                continue;
            }
            Err(FetchError::CursorGone) => {
                return Err(Error::stripe(format!(
                    "{}: objects vanish faster than they are listed",
                    child.path
                ))
                .hint(AGAIN));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(what) = is_of_another(child, open, &page) {
            let error = Error::new(Kind::Partial, format!("{}: {what}", child.path));
            return Err(error.request_id(page.request_id.as_deref()).foreign());
        }
        match doubts.judge(&page.envelope, cursor.as_deref()) {
            Verdict::Fits => {}
            Verdict::AskAgain => {
                fetcher.note_another(&child.path, Reason::Doubtful);
                continue;
            }
            Verdict::BeginAgain => {
                fetcher.note_another(&child.path, Reason::Doubtful);
                cursor = None;
                ends.clear();
                continue;
            }
            Verdict::Refused => {
                let parent = &open.parent.id;
                let what = format!("{}: expected more of the list of {parent}, got an end", child.path);
                let error = Error::new(Kind::Partial, what).hint(AGAIN);
                return Err(error.request_id(page.request_id.as_deref()).foreign());
            }
        }
        let last = page.envelope.ids.last().cloned();
        if page.envelope.has_more && last.as_ref().is_none_or(|last| !ends.insert(last.clone())) {
            let what = format!("{}: expected new objects on a page that has more", child.path);
            let error = Error::new(Kind::Partial, what).hint(AGAIN);
            return Err(error.request_id(page.request_id.as_deref()));
        }
        let pushed = decoder
            .push_child_page(open.child, &open.parent, &page.content, page.observed_at)
            .map_err(|e| {
                let error = Error::new(Kind::Partial, format!("{}: {e}", child.path));
                if matches!(e, PageError::WrongObject { .. }) { error.foreign() } else { error }
            })?;
        rejected.extend(pushed.rejected);
        if last.as_ref().is_some_and(|last| known.insert(last.clone())) {
            restarts = 0;
        }
        if !page.envelope.has_more {
            return Ok(rejected);
        }
        cursor = last;
    }
}

/// What a page is worth behind the part of a list that has come.
enum Verdict {
    Fits,
    AskAgain,
    BeginAgain,
    Refused,
}

/// What was odd about the pages of one list so far.
#[derive(Default)]
struct Doubts {
    was_empty: bool,
    had_cursor: bool,
    n_looks_back: u32,
}

impl Doubts {
    /// Behind what has more there is something. Where it has vanished, the list from its start ends before it.
    fn judge(&mut self, envelope: &Envelope, cursor: Option<&str>) -> Verdict {
        let Envelope { n_objects, has_more, ids, .. } = envelope;
        let is_behind = cursor.is_some() || self.n_looks_back > 0;
        let holds_cursor = cursor.is_some_and(|cursor| ids.iter().any(|id| id == cursor));
        match (n_objects, has_more) {
            (0, _) if is_behind && !std::mem::replace(&mut self.was_empty, true) => Verdict::AskAgain,
            (0, false) if is_behind && self.n_looks_back < LOOKS_BACK => {
                self.n_looks_back += 1;
                Verdict::BeginAgain
            }
            (0, false) if is_behind => Verdict::Refused,
            (_, false) if holds_cursor && !std::mem::replace(&mut self.had_cursor, true) => Verdict::AskAgain,
            (_, false) if holds_cursor => Verdict::Refused,
            _ => Verdict::Fits,
        }
    }
}

/// What says that a page answers another request.
fn is_of_another(child: &Resource, open: &OpenList, page: &Page) -> Option<String> {
    let Envelope { n_objects, url, .. } = &page.envelope;
    let url = url.as_deref().unwrap_or_default();
    if *n_objects == 0 && !is_url_of(url, &open.url) && !is_url_of(url, &child.path) {
        return Some(format!(
            "expected the end of the list of {}, got an empty page of {url}",
            open.parent.id
        ));
    }
    let key = &child.parent.as_ref()?.key;
    let list: Value = serde_json::from_slice(&page.content).ok()?;
    let parents = list["data"].as_array()?.iter().filter_map(|item| item[key].as_str());
    let other = parents.into_iter().find(|parent| *parent != open.parent.id)?;
    Some(format!("expected what belongs to {}, got what belongs to {}", open.parent.id, shown(other, 60)))
}

fn page_of(list: &Request, limit: usize, after: Option<&str>) -> Request {
    let request = list.clone().with("limit", limit.to_string());
    match after {
        Some(after) => request.with("starting_after", after),
        None => request,
    }
}

/// The list's own URL, as long as it stays within the API; else the child's list. Either way with the
/// parent's id.
fn request(child: &Resource, open: &OpenList) -> Result<Request> {
    let parent = child.parent.as_ref().ok_or_else(|| Error::bug("only a child's list is followed"))?;
    let base = url::Url::parse("https://list.invalid").expect("a constant URL");
    let url = base.join(&open.url).ok().filter(|url| url.origin() == base.origin());
    let mut request = match url.filter(|url| url.path().starts_with("/v1/")) {
        Some(url) => {
            let paging = ["limit", "starting_after", "ending_before"];
            let query = url.query_pairs().filter(|(name, _)| !paging.contains(&name.as_ref()));
            let query = query.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
            Request { path: url.path().to_owned(), query }
        }
        None => Request::new(&child.path),
    };
    if request.path == child.path && request.query.iter().all(|(name, _)| *name != parent.key) {
        request = request.with(&parent.key, open.parent.id.clone());
    }
    Ok(request)
}
