//! Turns the lists of all resources into decoded rows: workers that take slices until none is left.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_blocking;

use crate::catalog::Resource;
use crate::decode::{Decoder, Options, Pushed, Rejected};
use crate::error::{Error, Kind, Result};
use crate::fetch::envelope::Envelope;
use crate::fetch::slice::SliceReader;
use crate::fetch::{Fetcher, Page};
use crate::plan::{PageRead, Slice, Slices};
use crate::run::event::{Event, OnEvent};
use crate::run::follow::follow;
use crate::run::gather::Message;

/// A slice hands its rows on when it has decoded this much JSON.
const FLUSH_BYTES: usize = 2 << 20;

/// One resource being listed.
pub struct List {
    pub resource: Arc<Resource>,
    pub children: Vec<Arc<Resource>>,
    pub slices: Mutex<Slices>,
    pub rows: mpsc::Sender<Message>,
    /// The first failure; readers of other slices stop at their next page.
    pub failed: Mutex<Option<Error>>,
    pub has_failed: AtomicBool,
}

impl List {
    fn fail(&self, error: Error) {
        self.has_failed.store(true, Ordering::SeqCst);
        self.failed.lock().expect("no panic while storing").get_or_insert(error);
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
    /// Takes a slice of the resource that has the fewest workers; waits while others may still be cut.
    async fn next(&self) -> Option<(Arc<List>, Slice)> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut open: Vec<(usize, &Arc<List>)> = Vec::new();
            for list in self.lists.iter().filter(|list| !list.has_failed.load(Ordering::SeqCst)) {
                let slices = list.slices.lock().expect("no panic while planning");
                if !slices.is_done() {
                    open.push((slices.n_active(), list));
                }
            }
            if open.is_empty() {
                return None;
            }
            open.sort_by_key(|(n_active, _)| *n_active);
            for (_, list) in open {
                if let Some(slice) = list.slices.lock().expect("no panic while planning").take() {
                    return Some((list.clone(), slice));
                }
            }
            changed.await;
        }
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
        let window = list.resource.created_filter.then(|| slice.created.clone());
        let mut reader = SliceReader::new(&list.resource, window);
        let mut decoder = Decoder::new(&list.resource, &list.children, self.decode);
        let mut page = reader.next(&self.fetcher).await?;
        while let Some(present) = page {
            if list.has_failed.load(Ordering::SeqCst) {
                return Ok(());
            }
            let (settled, is_passed) = self.note_page(list, slice, &present);
            if is_passed {
                reader.stop();
            }
            let request_id = present.request_id.clone();
            // The next page is in flight while this one is decoded.
            let (next, decoded) = tokio::join!(reader.next(&self.fetcher), decode(decoder, present));
            let (back, pushed) = decoded?;
            decoder = back;
            let pushed = pushed.map_err(|error| error.request_id(request_id.as_deref()))?;
            self.rest(list, &mut decoder, pushed).await?;
            self.leave_out(list, &mut reader).await?;
            if decoder.n_bytes() >= FLUSH_BYTES {
                self.send(list, Message::Rows(decoder.flush())).await?;
                self.send(list, Message::Settled(settled)).await?;
            }
            page = next?;
        }
        self.leave_out(list, &mut reader).await?;
        self.send(list, Message::Rows(decoder.flush())).await?;
        let settled = list.slices.lock().expect("no panic while planning").finish(slice.number);
        self.send(list, Message::Settled(settled)).await
    }

    /// Returns the seconds of the slice that are settled once this page's rows have been handed on, and
    /// whether the slice has got to what others read.
    fn note_page(&self, list: &List, slice: &Slice, page: &Page) -> (Range<i64>, bool) {
        let envelope = &page.envelope;
        let mut slices = list.slices.lock().expect("no panic while planning");
        let Envelope { n_objects, newest, oldest, is_newest_first, .. } = page.envelope;
        let settles = page.is_last_pass;
        let read = PageRead { n_rows: n_objects, newest, oldest, is_newest_first, settles };
        let settled = slices.page_read(slice.number, &read);
        let is_passed = slices.has_passed_its_start(slice.number);
        drop(slices);
        self.changed.notify_waiters();
        let n_rows = envelope.n_objects as u64;
        if n_rows > 0 {
            (self.on_event)(Event::Rows { resource: list.resource.name.clone(), rows: n_rows, share: None });
        }
        (settled, is_passed)
    }

    /// Follows the embedded lists that go on, and hands on what could not be a row.
    async fn rest(&self, list: &List, decoder: &mut Decoder, pushed: Pushed) -> Result<()> {
        let mut rejected = pushed.rejected;
        for open in &pushed.open_lists {
            rejected.extend(follow(&self.fetcher, &list.children[open.child], open, decoder).await?);
            decoder.close_list(open.child, open.parent.clone());
        }
        if rejected.is_empty() {
            return Ok(());
        }
        self.send(list, Message::Rejected(rejected)).await
    }

    /// Names what no page could hold; the resource is not complete without it.
    async fn leave_out(&self, list: &List, reader: &mut SliceReader) -> Result<()> {
        let resource = &list.resource.name;
        let mut rejected = Vec::new();
        for (id, reason) in reader.unreadable.drain(..) {
            (self.on_event)(Event::Warning { message: format!("{resource}: {id} is left out: {reason}") });
            let raw = serde_json::json!({ "id": id }).to_string().into_bytes();
            rejected.push(Rejected { resource: resource.clone(), reason, raw });
        }
        match rejected.is_empty() {
            true => Ok(()),
            false => self.send(list, Message::Rejected(rejected)).await,
        }
    }

    async fn send(&self, list: &List, message: Message) -> Result<()> {
        // The gatherer's own failure is the one to report; it is found when its task is joined.
        let gone = |_| Error::new(Kind::Partial, "the resource was stopped by a failure elsewhere");
        list.rows.send(message).await.map_err(gone)
    }
}

async fn decode(mut decoder: Decoder, page: Page) -> Result<(Decoder, Result<Pushed>)> {
    let task = spawn_blocking(move || {
        let pushed = decoder.push_page(&page.body, page.observed_at).map_err(|e| match e {
            crate::decode::PageError::WrongMode { .. } => Error::new(Kind::Auth, e.to_string())
                .hint("the key and the objects are of different modes, test and live"),
            other => Error::new(Kind::Partial, other.to_string()),
        });
        (decoder, pushed)
    });
    task.await.map_err(|e| Error::bug(format!("decode: {e}")))
}
