//! Turns one slice of a resource into its pages, one after the other, newest first.
//!
//! The window of a slice never changes while a cursor walks it: a cursor from another window can make
//! Stripe return an empty page and lose a second.

mod place;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::catalog::Resource;
use crate::error::{Error, Kind};
use crate::fetch::answer::{Unfit, first_id};
use crate::fetch::envelope::Envelope;
use crate::fetch::retry::Reason;
use crate::fetch::size::PageSize;
use crate::fetch::slice::place::{Doubts, Verdict, keeps_to};
use crate::fetch::trail::Trail;
use crate::fetch::{FetchError, Fetcher, Page, Request};

pub(crate) use place::is_url_of;

/// Objects of one slice that are left out; more is not an odd object but a wrong server.
const MOST_LEFT_OUT: usize = 20;
/// Objects become visible up to this many seconds after their `created`.
pub const LATE_SECS: i64 = 600;

/// Reads one slice: all passes of a resource over one range of `created`, or over the whole list.
pub struct SliceReader {
    resource: Arc<Resource>,
    window: Option<Range<i64>>,
    /// A restart of the present pass begins below this second.
    restart_below: Option<i64>,
    pass: usize,
    /// That of this pass.
    trail: Trail,
    /// Whether a page has said that there is more behind the cursor.
    is_promised: bool,
    /// Whether it is amid objects of one second, which nobody else can read in the meantime.
    is_in_burst: bool,
    /// Where the pass has begun, and how far it has come, odd objects aside.
    newest: Option<i64>,
    reached: Option<i64>,
    is_done: bool,
    /// What its objects leave room for.
    size: PageSize,
    n_left_out: usize,
    /// Whether newer objects are known to come behind older ones.
    is_other_order: bool,
    /// Objects that were not where the order would have them, so that they must come behind.
    passed_over: HashSet<String>,
    /// Whether there are such objects and none has come. One may be gone by then, but not all.
    none_came: bool,
    /// Where there are objects by what the lake knows: a second that the newest of them is not older than.
    expected: Option<i64>,
    /// Whether another size of page was asked for at the start.
    is_elsewhere: bool,
    /// Whether objects were created outside of what was asked for, until the caller takes it.
    pub is_outside: bool,
    /// Objects that could not be read, until the caller takes them.
    pub left_out: Vec<LeftOut>,
}

/// An object that could not be read as a whole.
#[derive(Debug)]
pub struct LeftOut {
    pub id: String,
    /// What came of it, as JSON.
    pub raw: Vec<u8>,
    pub why: Error,
}

/// One pass over a list, or over a window of it as in [`SliceReader::new`], from its newest object on.
pub fn list_request(
    resource: &Resource,
    pass: &[(String, String)],
    window: Option<&Range<i64>>,
    limit: usize,
) -> Request {
    let mut request = Request::new(&resource.path);
    request.query.extend(pass.iter().cloned());
    request = request.with("limit", limit.to_string());
    let Some(window) = window else { return request };
    if window.start > 0 {
        request = request.with("created[gte]", window.start.to_string());
    }
    if window.end < i64::MAX {
        request = request.with("created[lt]", window.end.to_string());
    }
    request
}

impl SliceReader {
    /// `window` is in unix seconds, half open; 0 and `i64::MAX` leave a side open. `None` reads the
    /// whole list of a resource whose list takes no `created`.
    pub fn new(resource: &Arc<Resource>, window: Option<Range<i64>>) -> SliceReader {
        SliceReader {
            resource: resource.clone(),
            window,
            restart_below: None,
            pass: 0,
            trail: Trail::default(),
            is_promised: false,
            is_in_burst: false,
            newest: None,
            reached: None,
            is_done: false,
            size: PageSize::FULL,
            n_left_out: 0,
            is_other_order: false,
            passed_over: HashSet::new(),
            none_came: false,
            expected: None,
            is_elsewhere: false,
            is_outside: false,
            left_out: Vec::new(),
        }
    }

    /// The same where the lake knows of objects within the window, of which the newest is not older than a second.
    pub fn expecting(self, expected: Option<i64>) -> SliceReader {
        SliceReader { expected, ..self }
    }

    fn has_one_pass(&self) -> bool {
        self.resource.passes.len() == 1
    }

    fn is_last_pass(&self) -> bool {
        self.pass + 1 >= self.resource.passes.len()
    }

    /// The next page, or `None` after the last.
    ///
    /// An object may come twice (after a cursor vanished, or in several passes); none is left out. `accept` is
    /// that of [`Fetcher::page_as`]: what it made of any page but the one that is returned does not count.
    pub async fn next<T>(
        &mut self,
        fetcher: &Fetcher,
        mut accept: impl FnMut(&Bytes, i64) -> Result<(Envelope, T), Unfit>,
    ) -> Result<Option<Page<T>>, Error> {
        let mut doubts = Doubts::default();
        let resource = self.resource.clone();
        while !self.is_done {
            let pass = &resource.passes[self.pass];
            let mut is_of_pass = true;
            let look = |body: &Bytes, at| {
                is_of_pass = keeps_to(body, pass);
                accept(body, at)
            };
            let (mut page, came) =
                match fetcher.page_as(self.size.limit(), |limit| self.request(limit), look).await {
                    Ok(answer) => answer,
                    Err(FetchError::CursorGone) => {
                        doubts = Doubts::default();
                        self.step_back()?;
                        fetcher.note_another(&resource.path, Reason::CursorGone);
                        continue;
                    }
                    Err(FetchError::TooLarge(error, start)) => {
                        doubts = Doubts::default();
                        self.step_over(error, &start)?;
                        continue;
                    }
                    Err(FetchError::Failed(error)) => return Err(self.after(error)),
                };
            let verdict = match self.judge(&page.envelope, is_of_pass, &mut doubts) {
                Ok(Verdict::Fits) => self.judge_jump(fetcher, &page.envelope, &mut doubts).await,
                other => other,
            };
            match verdict {
                Ok(Verdict::Fits) => {}
                Ok(Verdict::Unlikely) => continue,
                Ok(Verdict::Doubtful) => {
                    fetcher.note_another(&resource.path, Reason::Doubtful);
                    continue;
                }
                Err(error) => {
                    let error = error.request_id(page.request_id.as_deref());
                    return Err(error.context(self.resource.path.clone()));
                }
            }
            self.size.note(came);
            if self.is_full_end(&page) && self.goes_on_behind(fetcher, &page.envelope).await? {
                // Where nothing more may be asked, nobody has asked.
                if fetcher.allowance.ended().is_none() {
                    fetcher.note_another(&resource.path, Reason::Doubtful);
                }
                page.envelope.has_more = true;
            }
            page.is_last_pass = self.is_last_pass();
            self.advance(&mut page.envelope, page.limit);
            return Ok(Some(page));
        }
        Ok(None)
    }

    /// Ends the slice before its lower bound, since others read the rest.
    pub fn stop(&mut self) {
        if self.is_last_pass() {
            self.is_done = true;
        } else {
            self.next_pass();
        }
    }

    /// Whether there are objects that were created in these seconds and have not been listed, though pages have gone beyond them.
    pub async fn has_passed_over(&mut self, fetcher: &Fetcher, seconds: &Range<i64>) -> Result<bool, Error> {
        let pass = &self.resource.passes[self.pass];
        let ask = |limit| list_request(&self.resource, pass, Some(seconds), limit);
        match fetcher.smaller_page(self.size.limit(), ask).await {
            Ok((page, _)) => {
                let Envelope { ids, has_more, oldest, .. } = page.envelope;
                // What has just become visible does not come behind the cursor.
                let is_late =
                    oldest.zip(fetcher.server_date()).is_some_and(|(oldest, now)| oldest > now - LATE_SECS);
                self.passed_over = ids.into_iter().filter(|id| !self.trail.has_shown(id)).collect();
                // Between two requests an object may come into one pass from another, which has listed it or will.
                let may_move = !self.has_one_pass();
                self.none_came = !self.passed_over.is_empty() && !is_late && !may_move;
                Ok(has_more || !self.passed_over.is_empty())
            }
            Err(FetchError::Failed(error)) => Err(error),
            // Then nobody knows.
            Err(FetchError::CursorGone | FetchError::TooLarge(..)) => Ok(true),
        }
    }

    /// Whether a last page has no room for more: nothing but its word says that nothing follows.
    fn is_full_end<T>(&self, page: &Page<T>) -> bool {
        !page.envelope.has_more && page.envelope.n_objects >= self.limit_asked(page.limit)
    }

    /// Whether objects follow behind a page that was called the last one.
    async fn goes_on_behind(&self, fetcher: &Fetcher, page: &Envelope) -> Result<bool, Error> {
        let Some(last) = page.ids.last() else { return Ok(false) };
        let (pass, window) = (&self.resource.passes[self.pass], self.asked_window());
        let ask =
            |limit| list_request(&self.resource, pass, window.as_ref(), limit).with("starting_after", last);
        match fetcher.smaller_page(self.size.limit(), ask).await {
            Ok((behind, _)) => {
                let is_new = |id: &String| !page.ids.contains(id) && !self.trail.has_shown(id);
                Ok(behind.envelope.ids.iter().any(is_new))
            }
            // What has come is kept, and the next run asks.
            Err(FetchError::Failed(error)) if error.kind() == Kind::Budget => Ok(true),
            Err(FetchError::Failed(error)) => Err(self.after(error)),
            Err(FetchError::CursorGone) => Ok(false),
            // The walk itself finds a way around such objects.
            Err(FetchError::TooLarge(..)) => Ok(true),
        }
    }

    fn asked_window(&self) -> Option<Range<i64>> {
        let window = self.window.as_ref()?;
        Some(window.start..window.end.min(self.restart_below.unwrap_or(i64::MAX)))
    }

    fn request(&self, limit: usize) -> Request {
        let window = self.asked_window();
        let pass = &self.resource.passes[self.pass];
        let ask = |limit| list_request(&self.resource, pass, window.as_ref(), limit);
        match self.trail.cursor() {
            Some(cursor) => {
                let request = ask(limit).with("starting_after", cursor);
                Request { is_urgent: self.is_in_burst, ..request }
            }
            None => ask(self.limit_of_start(limit)),
        }
    }

    fn limit_of_start(&self, limit: usize) -> usize {
        if self.is_elsewhere && limit > 1 { limit - 1 } else { limit }
    }

    /// What was asked for, where a page of so many was wanted.
    fn limit_asked(&self, limit: usize) -> usize {
        if self.trail.cursor().is_none() { self.limit_of_start(limit) } else { limit }
    }

    fn advance(&mut self, envelope: &mut Envelope, limit: usize) {
        let limit = self.limit_asked(limit);
        envelope.before = self.reached.or_else(|| self.asked_window().map(|window| window.end));
        if !self.trail.is_on_its_way() {
            // What is read again is no sign of another order.
            envelope.newest = envelope.newest.min(self.reached.or(envelope.newest));
        }
        self.is_other_order |= !envelope.is_newest_first;
        self.newest = self.newest.or(envelope.newest);
        self.reached = self.reached.into_iter().chain(envelope.reached).min();
        self.is_promised = envelope.has_more;
        self.is_in_burst =
            envelope.has_more && envelope.newest.is_some() && envelope.newest == envelope.reached;
        self.trail.advance(&envelope.ids, envelope.has_more, envelope.n_objects < limit);
        if !envelope.has_more {
            self.stop();
        }
    }

    /// Leaves out the one object that is too large for any page. Its id, which stands at the start of what
    /// came, is the cursor to what follows.
    fn step_over(&mut self, error: Error, start: &[u8]) -> Result<(), Error> {
        let Some(id) = first_id(start).filter(|id| self.trail.cursor() != Some(id)) else {
            return Err(self.after(error));
        };
        self.size.shrink();
        let raw = serde_json::json!({ "id": id }).to_string().into_bytes();
        self.leave_out(LeftOut { id: id.clone(), raw, why: error })?;
        self.trail.step_over(id);
        self.is_promised = false;
        Ok(())
    }

    /// Goes on without an object, by name, as long as there are few of them.
    pub fn leave_out(&mut self, object: LeftOut) -> Result<(), Error> {
        if self.n_left_out == MOST_LEFT_OUT {
            let hint = "more than a few objects are like that; a proxy may change what Stripe sends";
            return Err(if object.why.kind() == Kind::Partial { object.why.hint(hint) } else { object.why });
        }
        self.n_left_out += 1;
        self.left_out.push(object);
        Ok(())
    }

    /// Where in the list an error happened.
    fn after(&self, error: Error) -> Error {
        match self.trail.cursor() {
            Some(cursor) => error.context(format!("the page after {cursor}")),
            None => error,
        }
    }

    fn next_pass(&mut self) {
        self.pass += 1;
        self.trail = Trail::default();
        self.is_promised = false;
        (self.newest, self.reached) = (None, None);
        self.restart_below = None;
        self.passed_over.clear();
    }

    /// Any earlier id that is still visible is at or before the lost position: going on from it reads
    /// some objects again and skips none. When none is left, the slice starts again at the last second
    /// seen, or at its top.
    fn step_back(&mut self) -> Result<(), Error> {
        if self.trail.step_back() {
            return Ok(());
        }
        self.restart_below = self.reached.filter(|_| !self.is_other_order).map(|reached| reached + 1);
        self.trail.restart(&self.resource.path)
    }
}
