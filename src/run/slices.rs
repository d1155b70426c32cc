//! Turns the lists of all resources into decoded rows: workers that take slices until none is left.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::catalog::Resource;
use crate::decode::{Decoder, Options, Pushed, Rejected};
use crate::error::{Error, Kind, Result};
use crate::fetch::envelope::Envelope;
use crate::fetch::slice::{LeftOut, SliceReader, list_request};
use crate::fetch::{Fetcher, Page};
use crate::plan::{PageRead, Slice, Slices};
use crate::redact::shown;
use crate::run::event::{Event, OnEvent};
use crate::run::follow::follow;
use crate::run::gather::Message;
use crate::run::taking::Taking;

/// A slice hands its rows on when it has decoded this much JSON, or after this time: a run that is killed
/// reads again what it had not handed on.
const FLUSH_BYTES: usize = 2 << 20;
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// What a slice of a list with several passes may take, where requests are counted.
const REQUESTS_IN_PASSES: u64 = 48;

/// Embedded lists of one resource without an answer that are taken for odd ones; with more, it is their endpoint that fails.
const MOST_UNANSWERED: u32 = 3;

/// One resource being listed.
pub struct List {
    pub resource: Arc<Resource>,
    pub children: Vec<Arc<Resource>>,
    pub slices: Mutex<Slices>,
    /// Of slices that are done: they know the keys' order and have memory, for which a next slice would pay again.
    pub decoders: Mutex<Vec<Decoder>>,
    pub rows: mpsc::Sender<Message>,
    /// The first failure; readers of other slices stop at their next page.
    pub failed: Mutex<Option<Error>>,
    pub has_failed: AtomicBool,
    /// Whether objects came that had not been asked for.
    pub has_outsiders: AtomicBool,
    /// Embedded lists that nobody has answered for.
    pub n_unanswered: AtomicU32,
    /// The seconds from the first to the last object of each file.
    pub known: Vec<Range<i64>>,
}

impl List {
    fn decoder(&self, options: Options) -> Decoder {
        let free = self.decoders.lock().expect("no panic while taking").pop();
        free.unwrap_or_else(|| Decoder::new(&self.resource, &self.children, options))
    }

    /// Returns the seconds that are settled with the slice; its decoder serves another one, if there is one.
    fn finish(&self, slice: &Slice, decoder: Option<Decoder>) -> Range<i64> {
        let mut slices = self.slices.lock().expect("no panic while planning");
        let settled = slices.finish(slice.number);
        let mut decoders = self.decoders.lock().expect("no panic while giving back");
        match slices.is_done() {
            true => decoders.clear(),
            false => decoders.extend(decoder),
        }
        settled
    }

    /// Where the lake has objects about there, a second that the newest of them is not older than: that of its own, if its file goes no further.
    fn expected(&self, seconds: &Range<i64>) -> Option<i64> {
        let about = self.known.iter().filter(|known| known.start < seconds.end && seconds.start < known.end);
        let end = about.map(|known| known.end).max()?;
        let is_within = end <= seconds.end && end < i64::MAX;
        Some(if is_within { end - 1 } else { i64::MIN })
    }

    fn is_mixed_up(&self) -> bool {
        self.failed.lock().expect("no panic while storing").as_ref().is_some_and(Error::is_foreign)
    }

    fn fail(&self, error: Error) {
        self.has_failed.store(true, Ordering::SeqCst);
        if self.rows.is_closed() {
            // The gatherer has failed first, and tells why.
            return;
        }
        let mut failed = self.failed.lock().expect("no panic while storing");
        match &*failed {
            // It says more of what was read than the first one.
            Some(first) if first.is_foreign() || !error.is_foreign() => {}
            _ => *failed = Some(error),
        }
    }
}

/// What all workers share.
pub struct Shared {
    pub lists: Vec<Arc<List>>,
    pub fetcher: Arc<Fetcher>,
    pub decode: Options,
    pub on_event: OnEvent,
    /// Told whenever there may be a new slice to take.
    pub changed: Notify,
    /// Set when the whole run must end.
    pub stop: watch::Sender<bool>,
}

impl Shared {
    /// Takes a slice of the resource that has the fewest workers, and most to do of two; waits while others
    /// may still be cut, or the limits permit no more. `None` when nothing is left, or no further request may be sent.
    async fn next(&self) -> Option<(Arc<List>, Slice)> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.fetcher.allowance.ended().is_some() {
                return None;
            }
            let mut open: Vec<(usize, bool, &Arc<List>)> = Vec::new();
            for list in self.lists.iter().filter(|list| !list.has_failed.load(Ordering::SeqCst)) {
                let slices = list.slices.lock().expect("no panic while planning");
                if !slices.is_done() {
                    open.push((slices.n_active(), slices.has_only_news(), list));
                }
            }
            if open.is_empty() {
                return None;
            }
            // Where requests are few, those that come with every run must not take them all.
            if self.fetcher.allowance.is_counted() && open.iter().any(|(_, has_only_news, _)| !has_only_news)
            {
                open.retain(|(_, has_only_news, _)| !has_only_news);
            }
            open.sort_by_key(|(n_active, has_only_news, _)| (*n_active, *has_only_news));
            for (n_active, _, list) in open {
                // Each cut costs a page that is not full, and rows that wait in memory: none where the limits are
                // reached without it, or where rows come faster than they can be taken.
                let is_enough = self.fetcher.is_saturated(&list.resource.path)
                    || list.rows.capacity() == 0
                    || self.has_too_few_requests(list, n_active);
                if n_active > 0 && is_enough {
                    continue;
                }
                if let Some(slice) = list.slices.lock().expect("no panic while planning").take() {
                    return Some((list.clone(), slice));
                }
            }
            changed.await;
        }
    }

    /// Whether one more slice could take the requests with which those at work settle something: in passes, that comes late.
    fn has_too_few_requests(&self, list: &List, n_active: usize) -> bool {
        let Some(left) = self.fetcher.allowance.requests_left() else { return false };
        let has_settled = list.slices.lock().expect("no panic while planning").has_settled();
        let permitted = (left / REQUESTS_IN_PASSES).max(1 + u64::from(has_settled));
        list.resource.passes.len() > 1 && n_active as u64 >= permitted
    }

    /// Works until no slice is left or the run must end.
    pub async fn work(self: Arc<Shared>) {
        let mut stopped = self.stop.subscribe();
        tokio::select! {
            () = self.read_slices() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    /// A failure ends its resource, a fatal one everything.
    async fn read_slices(&self) {
        while let Some((list, slice)) = self.next().await {
            if let Err(error) = self.read(&list, &slice).await {
                if self.fetcher.allowance.ended().is_some_and(|ended| ended.kind() == error.kind()) {
                    break;
                }
                if error.is_fatal() {
                    self.stop.send_replace(true);
                }
                list.fail(error);
            }
            self.changed.notify_waiters();
        }
        self.changed.notify_waiters();
    }

    async fn read(&self, list: &Arc<List>, slice: &Slice) -> Result<()> {
        let window = list.resource.created_filter.then_some(slice.created.start..slice.asked_until);
        let mut reading = Reading {
            reader: SliceReader::new(&list.resource, window).expecting(list.expected(&slice.created)),
            taking: Taking::new(list.decoder(self.decode)),
            settled: slice.created.end..slice.created.end,
        };
        let read = self.read_pages(list, slice, &mut reading).await;
        if read.is_err() || list.has_failed.load(Ordering::SeqCst) {
            let is_mixed_up = read.as_ref().is_err_and(Error::is_foreign) || list.is_mixed_up();
            // What came before is whole: the run, or the resource, may end here and another run go on. The gatherer has to know at
            // once where nothing of it counts: the run may be killed.
            let _ = match is_mixed_up {
                true => self.send(list, Message::MixedUp).await,
                false => self.hand_on(list, &mut reading).await,
            };
            return read;
        }
        // A slice is done when its rows are on their way, not before.
        let lost = || Error::bug("decode: the decoder has failed before");
        self.send(list, Message::Rows(reading.taking.flush().ok_or_else(lost)?)).await?;
        let settled = list.finish(slice, reading.taking.into_decoder());
        self.send(list, Message::Settled(settled)).await
    }

    /// Reads a slice to its end, or until another one of the list has failed.
    async fn read_pages(&self, list: &Arc<List>, slice: &Slice, reading: &mut Reading) -> Result<()> {
        let mut handed_on = Instant::now();
        while let Some(page) = self.page(reading).await? {
            let Page { envelope, content: pushed, observed_at, is_last_pass, .. } = page;
            if list.has_failed.load(Ordering::SeqCst) {
                // What is embedded in it may go on, and nobody follows it now.
                reading.taking.take_back();
                return Ok(());
            }
            let (settled, is_passed) = self.note_page(list, slice, &envelope, is_last_pass);
            // After the last page of a pass the reader is in the next one already.
            let is_in_doubt = is_passed
                && envelope.has_more
                && self
                    .is_in_doubt(list, slice, &mut reading.reader, &envelope)
                    .await
                    .inspect_err(|_| reading.taking.take_back())?;
            if is_passed && envelope.has_more && !is_in_doubt {
                reading.reader.stop();
            }
            let rest = self.rest(list, reading, pushed, observed_at).await;
            // A part of an embedded list is no state that the account was in.
            rest.inspect_err(|_| reading.taking.take_back())?;
            self.name_left_out(list, &mut reading.reader).await?;
            self.warn_of_outsiders(list, &mut reading.reader);
            if !is_in_doubt {
                reading.settled = settled;
            }
            let n_bytes = reading.taking.decoder().map_or(0, |decoder| decoder.n_bytes());
            if n_bytes >= FLUSH_BYTES || handed_on.elapsed() >= FLUSH_TIME {
                self.hand_on(list, reading).await?;
                handed_on = Instant::now();
            }
        }
        self.name_left_out(list, &mut reading.reader).await
    }

    /// The next page of the slice, with its rows in the decoder.
    async fn page(&self, reading: &mut Reading) -> Result<Option<Page<Pushed>>> {
        let Reading { reader, taking, .. } = reading;
        taking.keep();
        let page = reader.next(&self.fetcher, |body, observed_at| taking.take(body, observed_at)).await;
        if !matches!(page, Ok(Some(_))) {
            taking.take_back();
        }
        page
    }

    /// Hands on the rows, and the seconds that are settled with them. A decoder that has failed has taken its
    /// rows along: then nothing of it is settled.
    async fn hand_on(&self, list: &List, reading: &mut Reading) -> Result<()> {
        let Some(decoded) = reading.taking.flush() else { return Ok(()) };
        self.send(list, Message::Rows(decoded)).await?;
        self.send(list, Message::Settled(reading.settled.clone())).await
    }

    /// Returns the seconds of the slice that are settled once this page's rows have been handed on, and
    /// whether the slice has got to what others read.
    fn note_page(&self, list: &List, slice: &Slice, page: &Envelope, settles: bool) -> (Range<i64>, bool) {
        let mut slices = list.slices.lock().expect("no panic while planning");
        let Envelope { has_more, n_objects, newest, reached, is_newest_first, .. } = *page;
        let read = PageRead { n_rows: n_objects, newest, reached, is_newest_first, has_more, settles };
        let settled = slices.page_read(slice.number, &read);
        let is_passed = slices.has_passed_its_start(slice.number, settles);
        drop(slices);
        // One at a time, so that the next one sees whether the first has to wait.
        self.changed.notify_one();
        let n_rows = n_objects as u64;
        if n_rows > 0 {
            (self.on_event)(Event::Rows { resource: list.resource.name.clone(), rows: n_rows });
        }
        (settled, is_passed)
    }

    /// Whether a page that goes beyond the start of its slice has jumped there over objects that come behind it: then
    /// the list is not newest first, and is read to its end.
    async fn is_in_doubt(
        &self,
        list: &List,
        slice: &Slice,
        reader: &mut SliceReader,
        page: &Envelope,
    ) -> Result<bool> {
        let start = list.slices.lock().expect("no panic while planning").start_of(slice.number);
        let Some(jump) = page.jump_over(start) else { return Ok(false) };
        let is_in_doubt = reader.has_passed_over(&self.fetcher, &(start..jump.end)).await?;
        if is_in_doubt {
            list.slices.lock().expect("no panic while planning").distrust_order(slice.number);
        }
        Ok(is_in_doubt)
    }

    /// Follows the embedded lists that go on, and hands on what could not be a row. An object whose list cannot be read is left
    /// out, or else it would hold up its neighbours in every run.
    async fn rest(
        &self,
        list: &List,
        reading: &mut Reading,
        mut pushed: Pushed,
        observed_at: i64,
    ) -> Result<()> {
        let Reading { reader, taking, .. } = reading;
        let mut left_out = HashSet::new();
        let rejected = loop {
            let n_before = left_out.len();
            let mut rejected = std::mem::take(&mut pushed.rejected);
            for open in &pushed.open_lists {
                // It has failed, and tells so where the slice ends.
                let Some(decoder) = taking.decoder() else { return Ok(()) };
                if left_out.contains(&open.parent.id) {
                    continue;
                }
                match follow(&self.fetcher, &list.children[open.child], open, decoder).await {
                    Ok(more) => {
                        rejected.extend(more);
                        decoder.close_list(open.child, open.parent.clone(), observed_at);
                    }
                    Err(why) if self.is_of_one(list, &why).await => {
                        let id = open.parent.id.clone();
                        left_out.insert(id.clone());
                        reader.leave_out(LeftOut { raw: taking.raw(&id)?, id, why })?;
                    }
                    Err(error) if error.is_foreign() => return Err(error),
                    Err(error) => return Err(self.fetcher.allowance.ended().unwrap_or(error)),
                }
            }
            if left_out.len() == n_before {
                break rejected;
            }
            pushed = taking.take_without(&left_out, observed_at)?;
        };
        if rejected.is_empty() {
            return Ok(());
        }
        self.send(list, Message::Rejected(rejected)).await
    }

    /// Whether an embedded list alone cannot be read. Where there was no answer, another request tells.
    async fn is_of_one(&self, list: &List, error: &Error) -> bool {
        let resource = &list.resource;
        let ask = |limit| list_request(resource, &resource.passes[0], None, limit);
        match error.kind() {
            _ if error.is_foreign() => false,
            Kind::Partial => true,
            Kind::Stripe => {
                list.n_unanswered.fetch_add(1, Ordering::Relaxed) < MOST_UNANSWERED
                    && self.fetcher.smaller_page(1, ask).await.is_ok()
            }
            _ => false,
        }
    }

    /// Names what could not be read; the resource is not complete without it.
    async fn name_left_out(&self, list: &List, reader: &mut SliceReader) -> Result<()> {
        let resource = &list.resource.name;
        let mut rejected = Vec::new();
        for LeftOut { id, raw, why } in reader.left_out.drain(..) {
            let message = shown(&format!("{resource}: {id} is left out: {why}"), 500);
            (self.on_event)(Event::Warning { message });
            // One object may be met twice, by other requests.
            rejected.push(Rejected::new(resource, why.without_request_id(), &raw));
        }
        match rejected.is_empty() {
            true => Ok(()),
            false => self.send(list, Message::Rejected(rejected)).await,
        }
    }

    /// Says once for a list that it does not keep to its filter.
    fn warn_of_outsiders(&self, list: &List, reader: &mut SliceReader) {
        if std::mem::take(&mut reader.is_outside) && !list.has_outsiders.swap(true, Ordering::Relaxed) {
            let resource = &list.resource.name;
            let message =
                format!("{resource}: some objects were created outside of what was asked for; they are kept");
            (self.on_event)(Event::Warning { message });
        }
    }

    async fn send(&self, list: &List, message: Message) -> Result<()> {
        let gone = |_| Error::new(Kind::Partial, "the resource was stopped by a failure elsewhere");
        list.rows.send(message).await.map_err(gone)
    }
}

/// A slice that is being read.
struct Reading {
    reader: SliceReader,
    taking: Taking,
    /// The seconds whose rows the decoder has, or has handed on.
    settled: Range<i64>,
}
