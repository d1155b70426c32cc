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
    let mut walk = Walk::behind(open.after.clone());
    let mut rejected = Vec::new();
    loop {
        let page = match walk.page(fetcher, &base).await {
            Ok(page) => page,
            Err(FetchError::CursorGone) => {
                fetcher.note_another(&child.path, Reason::CursorGone);
                walk.begin_again_for_a_cursor(child)?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let failed = |what: String| {
            let error = Error::new(Kind::Partial, format!("{}: {what}", child.path)).hint(AGAIN);
            error.request_id(page.request_id.as_deref())
        };
        if let Some(what) = is_of_another(child, open, &page) {
            return Err(failed(what).foreign());
        }
        match walk.judge(&page.envelope) {
            Verdict::Fits => {}
            Verdict::Doubtful => {
                fetcher.note_another(&child.path, Reason::Doubtful);
                continue;
            }
            Verdict::Stuck => return Err(failed("expected new objects on a page that has more".to_owned())),
            Verdict::Foreign => {
                let parent = &open.parent.id;
                return Err(failed(format!("expected more of the list of {parent}, got its end")).foreign());
            }
        }
        let pushed = decoder
            .push_child_page(open.child, &open.parent, &page.content, page.observed_at)
            .map_err(|e| {
                let error = Error::new(Kind::Partial, format!("{}: {e}", child.path));
                if matches!(e, PageError::WrongObject { .. }) { error.foreign() } else { error }
            })?;
        rejected.extend(pushed.rejected);
        if !walk.advance(page.envelope) {
            return Ok(rejected);
        }
    }
}

/// What a page is worth behind the part of a list that has come.
enum Verdict {
    Fits,
    /// Ask once more, where the walk stands now.
    Doubtful,
    Stuck,
    Foreign,
}

/// How far a list has been read, and what was odd about it.
struct Walk {
    cursor: Option<String>,
    /// The ends of the pages since its start was asked for.
    ends: HashSet<String>,
    /// Those of all pages.
    known: HashSet<String>,
    size: PageSize,
    restarts: u32,
    was_empty: bool,
    had_cursor: bool,
    n_looks_back: u32,
}

impl Walk {
    /// `cursor` is the last object that was embedded.
    fn behind(cursor: Option<String>) -> Walk {
        let ends: HashSet<String> = cursor.iter().cloned().collect();
        let (known, size) = (ends.clone(), PageSize::FULL);
        Walk { cursor, ends, known, size, restarts: 0, was_empty: false, had_cursor: false, n_looks_back: 0 }
    }

    async fn page(&mut self, fetcher: &Fetcher, base: &Request) -> std::result::Result<Page, FetchError> {
        let ask = |limit| page_of(base, limit, self.cursor.as_deref());
        let (page, came) = fetcher.smaller_page(self.size.limit(), ask).await?;
        self.size.note(came);
        Ok(page)
    }

    fn begin_again(&mut self) {
        self.cursor = None;
        self.ends.clear();
    }

    fn begin_again_for_a_cursor(&mut self, child: &Resource) -> Result<()> {
        self.restarts += 1;
        if self.restarts > RESTARTS {
            let what = format!("{}: objects vanish faster than they are listed", child.path);
            return Err(Error::stripe(what).hint(AGAIN));
        }
        self.begin_again();
        Ok(())
    }

    /// Behind what has more there is something. Where it has vanished, the list from its start ends before it.
    fn judge(&mut self, envelope: &Envelope) -> Verdict {
        let Envelope { n_objects, has_more, ids, .. } = envelope;
        let is_behind = self.cursor.is_some() || self.n_looks_back > 0;
        let holds_cursor = self.cursor.as_ref().is_some_and(|cursor| ids.contains(cursor));
        let is_new = || ids.last().is_some_and(|last| !self.ends.contains(last));
        match (n_objects, has_more) {
            (0, _) if is_behind && !self.was_empty => {
                self.was_empty = true;
                Verdict::Doubtful
            }
            (_, true) => {
                if is_new() {
                    Verdict::Fits
                } else {
                    Verdict::Stuck
                }
            }
            (0, false) if is_behind && self.n_looks_back < LOOKS_BACK => {
                self.n_looks_back += 1;
                self.begin_again();
                Verdict::Doubtful
            }
            (_, false) if holds_cursor && !self.had_cursor => {
                self.had_cursor = true;
                Verdict::Doubtful
            }
            (0, false) if is_behind => Verdict::Foreign,
            (_, false) if holds_cursor => Verdict::Foreign,
            (_, false) => Verdict::Fits,
        }
    }

    /// Whether the list goes on behind the page.
    fn advance(&mut self, envelope: Envelope) -> bool {
        let last = envelope.ids.last().cloned();
        self.ends.extend(last.clone());
        if last.as_ref().is_some_and(|last| self.known.insert(last.clone())) {
            self.restarts = 0;
        }
        self.cursor = last;
        envelope.has_more
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
