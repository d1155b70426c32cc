//! Turns an embedded list that goes on into the rest of its rows.

use std::sync::Arc;

use serde_json::Value;

use crate::catalog::Resource;
use crate::decode::{Decoder, OpenList, PageError, Rejected};
use crate::error::{Error, Kind, Result};
use crate::fetch::envelope::Envelope;
use crate::fetch::retry::Reason;
use crate::fetch::size::PageSize;
use crate::fetch::slice::is_url_of;
use crate::fetch::trail::{End, Trail};
use crate::fetch::{FetchError, Fetcher, Page, Request};
use crate::redact::shown;

/// What helps where a list is not what it was a moment ago.
const AGAIN: &str = "run the same command again later";

/// Reads the list behind the embedded page to its end.
///
/// Without a cursor in the way of a vanished row, the list is read again from further up: a row that
/// comes twice is merged by its id.
pub async fn follow(
    fetcher: &Fetcher,
    child: &Arc<Resource>,
    open: &OpenList,
    decoder: &mut Decoder,
) -> Result<Vec<Rejected>> {
    let base = request(child, open)?;
    let mut walk = Walk::behind(&open.embedded);
    let mut rejected = Vec::new();
    loop {
        let page = match walk.page(fetcher, &base).await {
            Ok(page) => page,
            Err(FetchError::CursorGone) => {
                fetcher.note_another(&child.path, Reason::CursorGone);
                walk.step_back(&child.path)?;
                continue;
            }
            Err(error) => {
                return Err(Error::from(error).context(format!("{} of {}", child.name, open.parent.id)));
            }
        };
        let place = |error: Error| {
            let place = format!("{} of {}", child.path, open.parent.id);
            error.context(place).request_id(page.request_id.as_deref())
        };
        if let Some(what) = is_of_another(child, open, &page) {
            return Err(place(Error::new(Kind::Partial, what).foreign()));
        }
        match walk.judge(&page.envelope).map_err(place)? {
            Verdict::Fits => {}
            Verdict::Doubtful => {
                fetcher.note_another(&child.path, Reason::Doubtful);
                continue;
            }
        }
        let pushed = decoder
            .push_child_page(open.child, &open.parent, &page.content, page.observed_at)
            .map_err(|e| {
                let error = Error::new(Kind::Partial, format!("{}: {e}", child.path));
                match e {
                    PageError::WrongObject { .. } | PageError::WrongMode { .. } => error.foreign(),
                    PageError::Malformed { .. } => error,
                }
            })?;
        rejected.extend(pushed.rejected);
        if !walk.advance(&page.envelope, page.limit) {
            return Ok(rejected);
        }
    }
}

/// What a page is worth behind the part of a list that has come.
enum Verdict {
    Fits,
    /// Ask once more, where the walk stands now.
    Doubtful,
}

/// How far a list has been read.
struct Walk {
    trail: Trail,
    size: PageSize,
    doubts: Doubts,
}

/// What was odd about the answers at the present cursor. Each is asked about once.
#[derive(Default)]
struct Doubts {
    was_stuck: bool,
    was_odd_end: bool,
    was_before: bool,
}

impl Walk {
    fn behind(embedded: &[String]) -> Walk {
        Walk { trail: Trail::behind(embedded), size: PageSize::FULL, doubts: Doubts::default() }
    }

    async fn page(&mut self, fetcher: &Fetcher, base: &Request) -> std::result::Result<Page, FetchError> {
        let ask = |limit| page_of(base, limit, self.trail.cursor());
        let (page, came) = fetcher.smaller_page(self.size.limit(), ask).await?;
        self.size.note(came);
        Ok(page)
    }

    /// Goes back from a cursor that has vanished.
    fn step_back(&mut self, path: &str) -> Result<()> {
        self.doubts = Doubts::default();
        match self.trail.step_back() {
            true => Ok(()),
            false => self.trail.restart(path),
        }
    }

    /// Behind what has more there is something. Where it has vanished, the list from further up ends before it.
    fn judge(&mut self, envelope: &Envelope) -> Result<Verdict> {
        let Envelope { n_objects, has_more, ids, .. } = envelope;
        let foreign = |what: &str| Err(Error::new(Kind::Partial, what).foreign());
        let Walk { trail, doubts, .. } = self;
        let doubt = |was: &mut bool| !std::mem::replace(was, true);
        if *has_more {
            return match ids.last().is_some_and(|last| trail.gets_on(last)) {
                true => Ok(Verdict::Fits),
                false if doubt(&mut doubts.was_stuck) => Ok(Verdict::Doubtful),
                false => {
                    let what = "expected new objects on a page that has more";
                    Err(Error::new(Kind::Partial, what).hint(AGAIN))
                }
            };
        }
        match trail.may_end(ids, *n_objects) {
            End::Plausible => Ok(Verdict::Fits),
            End::Odd if doubt(&mut doubts.was_odd_end) => Ok(Verdict::Doubtful),
            End::Odd if trail.has_lost_all() => Ok(Verdict::Fits),
            End::Odd if trail.look_back() => {
                *doubts = Doubts::default();
                Ok(Verdict::Doubtful)
            }
            End::Odd => foreign("expected more of the list, or what was listed before, got neither"),
            End::Before if doubt(&mut doubts.was_before) => Ok(Verdict::Doubtful),
            End::Before => foreign("expected objects behind the last one, got those before it"),
        }
    }

    /// Whether the list goes on behind the page.
    fn advance(&mut self, envelope: &Envelope, limit: usize) -> bool {
        self.trail.advance(&envelope.ids, envelope.has_more, envelope.n_objects < limit);
        self.doubts = Doubts::default();
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

/// The list's own URL, as long as it stays within the API and is one of the parent or of the child; else the child's list. Either
/// way with the parent's id.
fn request(child: &Resource, open: &OpenList) -> Result<Request> {
    let parent = child.parent.as_ref().ok_or_else(|| Error::bug("only a child's list is followed"))?;
    let base = url::Url::parse("https://list.invalid").expect("a constant URL");
    let url = base.join(&open.url).ok().filter(|url| url.origin() == base.origin());
    let is_own =
        |url: &url::Url| url.path() == child.path || url.path().split('/').any(|part| part == open.parent.id);
    let mut request = match url.filter(|url| url.path().starts_with("/v1/") && is_own(url)) {
        Some(url) => {
            let paging = ["limit", "starting_after", "ending_before"];
            let query = url.query_pairs().filter(|(name, _)| !paging.contains(&name.as_ref()));
            let query = query.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
            Request { query, ..Request::new(url.path()) }
        }
        None => Request::new(&child.path),
    };
    if request.path == child.path && request.query.iter().all(|(name, _)| *name != parent.key) {
        request = request.with(&parent.key, open.parent.id.clone());
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::catalog::Catalog;
    use crate::decode::rows::ParentRow;

    #[test]
    fn g13_a_list_is_asked_for_where_the_parent_or_the_child_is() {
        let catalog = Catalog::embedded().unwrap();
        let child = catalog.resources.iter().find(|resource| resource.name == "subscription_items").unwrap();
        let own = "/v1/subscription_items?subscription=sub_1";
        for (url, expected) in [
            (own, own),
            ("https://list.invalid/v1/subscription_items?subscription=sub_1&limit=3", own),
            ("/v1/subscriptions/sub_1/items?x=1", "/v1/subscriptions/sub_1/items?x=1"),
            ("/v1/charges", own),
            ("/v1/subscriptions/sub_2/items", own),
            ("/v2/subscription_items", own),
            ("//elsewhere.invalid/v1/subscription_items", own),
            ("", own),
        ] {
            let parent = ParentRow { id: "sub_1".to_owned(), created: 0 };
            let open = OpenList { child: 0, parent, url: url.to_owned(), embedded: Vec::new() };
            let request = request(child, &open).unwrap();
            let query: Vec<_> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(format!("{}?{}", request.path, query.join("&")), expected, "{url}");
        }
    }

    /// What becomes of the account, or of the answer, when a page is asked for.
    #[derive(Debug, Clone)]
    enum Event {
        Nothing,
        Vanish(Vec<prop::sample::Index>),
        /// So many of the last ones vanish.
        Last(usize),
        /// All vanish, and so many others are there.
        Exchange(usize),
        /// The answer is the last page of a list that is empty, or an old one of this list: so many of the objects that have come,
        /// up to the cursor or to one so far before it.
        Empty,
        Old {
            length: usize,
            before: usize,
        },
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let vanish = proptest::collection::vec(any::<prop::sample::Index>(), 1..12).prop_map(Event::Vanish);
        let old = (1usize..12, 0usize..12).prop_map(|(length, before)| Event::Old { length, before });
        let event = prop_oneof![6 => Just(Event::Nothing), 3 => vanish, 1 => Just(Event::Empty), 1 => old];
        proptest::collection::vec(event, 0..40)
    }

    /// `None` where the server does not know the cursor.
    fn answer(
        list: &[usize],
        shown: &BTreeSet<usize>,
        cursor: Option<&str>,
        limit: usize,
        event: &Event,
    ) -> Option<Envelope> {
        let at = cursor.map(|id| id.parse::<usize>().unwrap());
        if at.is_some_and(|at| !list.contains(&at)) {
            return None;
        }
        let behind: Vec<usize> = list.iter().copied().filter(|id| at.is_none_or(|at| *id > at)).collect();
        let (ids, has_more) = match (event, at) {
            (Event::Empty, Some(_)) => (Vec::new(), false),
            (Event::Old { length, before }, Some(at)) => {
                let end = (at + 1).saturating_sub(*before);
                let old: Vec<usize> = shown.range(..end).rev().copied().take(*length).collect();
                (old.into_iter().rev().collect(), false)
            }
            _ => (behind.iter().copied().take(limit).collect(), behind.len() > limit),
        };
        let n_objects = ids.len();
        let ids = ids.iter().map(usize::to_string).collect();
        Some(Envelope { ids, has_more, n_objects, ..Envelope::default() })
    }

    /// How a walk through a list has ended.
    struct Walked {
        /// Why it was not read to its end.
        failed: Option<Error>,
        shown: BTreeSet<usize>,
        left: Vec<usize>,
    }

    fn walk(n: usize, limit: usize, events: Vec<Event>) -> Walked {
        let (mut left, mut n_ever): (Vec<usize>, usize) = ((0..n).collect(), n);
        let embedded: Vec<String> = (0..10).map(|id: usize| id.to_string()).collect();
        let mut shown: BTreeSet<usize> = (0..10).collect();
        let mut walk = Walk::behind(&embedded);
        let mut events = events.into_iter();
        for _ in 0..1000 {
            let event = events.next().unwrap_or(Event::Nothing);
            if let Event::Last(n) = event {
                left.truncate(left.len().saturating_sub(n).max(1));
            }
            if let Event::Exchange(n) = event {
                left = (n_ever..n_ever + n).collect();
                n_ever += n;
            }
            if let Event::Vanish(which) = &event {
                which.iter().for_each(|index| {
                    if left.len() > 1 {
                        left.remove(index.index(left.len()));
                    }
                });
            }
            let envelope = answer(&left, &shown, walk.trail.cursor(), limit, &event);
            let verdict = match &envelope {
                None => walk.step_back("/v1/subscription_items").map(|()| Verdict::Doubtful),
                Some(envelope) => walk.judge(envelope),
            };
            match (verdict, envelope) {
                (Err(failed), _) => return Walked { failed: Some(failed), shown, left },
                (Ok(Verdict::Fits), Some(envelope)) => {
                    shown.extend(envelope.ids.iter().map(|id| id.parse::<usize>().unwrap()));
                    if !walk.advance(&envelope, limit) {
                        return Walked { failed: None, shown, left };
                    }
                }
                _ => {}
            }
        }
        panic!("it does not end");
    }

    proptest! {
        #[test]
        fn a_list_that_is_read_to_its_end_has_shown_all_that_is_left(
            n in 12usize..90,
            limit in 3usize..12,
            events in events(),
        ) {
            let Walked { failed, shown, left } = walk(n, limit, events);
            if failed.is_none() {
                let missing: Vec<_> = left.iter().filter(|id| !shown.contains(id)).collect();
                prop_assert!(missing.is_empty(), "{missing:?} of {left:?}");
            }
        }

        #[test]
        fn a_list_from_which_objects_vanish_is_read_to_its_end(
            n in 12usize..90,
            limit in 3usize..12,
            // The oldest vanish, or any.
            is_from_its_end in any::<bool>(),
            vanishing in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 0..4), 0..60),
        ) {
            let vanish = |which: Vec<prop::sample::Index>| match is_from_its_end {
                true => Event::Last(which.len()),
                false => Event::Vanish(which),
            };
            let Walked { failed, shown, left } = walk(n, limit, vanishing.into_iter().map(vanish).collect());
            prop_assert!(failed.is_none(), "{failed:?}");
            prop_assert!(left.iter().all(|id| shown.contains(id)));
        }

        #[test]
        fn a_list_that_loses_its_end_and_then_all_is_read_to_its_new_end(
            n in 12usize..90,
            limit in 3usize..12,
            (cut_at, n_cut) in (0usize..12, 0usize..90),
            (exchange_at, n_new) in (0usize..12, 1usize..30),
        ) {
            let mut events: Vec<Event> = std::iter::repeat_n(Event::Nothing, 12).collect();
            events.insert(exchange_at, Event::Exchange(n_new));
            events.insert(cut_at, Event::Last(n_cut));
            let Walked { failed, shown, left } = walk(n, limit, events);
            prop_assert!(failed.is_none(), "{failed:?}");
            prop_assert!(left.iter().all(|id| shown.contains(id)));
        }
    }
}
