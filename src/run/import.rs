//! Turns files of list pages or objects into the lake, through the same stages as a sync.
//!
//! Everything is decoded before anything is committed: a file that is not what it should be leaves the
//! lake as it was.

mod source;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::catalog::Resource;
use crate::commit::state::{FORMAT, LAKE, LakeInfo};
use crate::commit::{Version, lock};
use crate::decode::{self, Decoder, PageError, Pushed};
use crate::error::{Error, Kind, Result};
use crate::run::event::Event;
use crate::run::gather::{Gatherer, Message};
use crate::run::import::source::{Chunk, Chunks};
use crate::run::report::Report;
use crate::run::sync::{finish, read_lake};
use crate::run::{Setup, sql};
use crate::spool::Budget;

/// Decoded JSON that is handed on at once.
const FLUSH_BYTES: usize = 8 << 20;

/// One input of an import.
pub struct Input {
    /// As the user named it.
    pub name: String,
    pub content: Content,
    /// When the objects were observed, microseconds; rows of the lake that are newer stay.
    pub observed_at: i64,
}

/// Where the bytes are.
pub enum Content {
    File(PathBuf),
    Stdin,
}

/// Imports objects of one resource.
pub async fn import(setup: &Setup, resource: &Arc<Resource>, inputs: Vec<Input>) -> Result<Report> {
    let started = Instant::now();
    setup.lake.check_writable().await.map_err(|e| e.lake("untouched"))?;
    let livemode = read_lake(&setup.lake).await?.and_then(|(info, _)| info.livemode);
    let budget = Budget::new(setup.memory);
    let mut gatherer = Gatherer::open(setup, resource, None, &budget).await?;
    let (sender, mut messages) = mpsc::channel(2);
    let reading = {
        let options =
            decode::Options { livemode, refuse_other_mode: livemode.is_some(), ..Default::default() };
        let decoder = Decoder::new(resource, &setup.children_of(resource), options);
        let setup = setup.clone();
        let resource = resource.clone();
        spawn_blocking(move || Reading { setup, resource, decoder, sender }.all(inputs))
    };
    while let Some(message) = messages.recv().await {
        gatherer.take(message).await?;
    }
    let read = reading.await.map_err(|e| Error::bug(format!("import: {e}")))?;
    read.map_err(|error| error.lake("as it was"))?;

    let guard = lock::acquire(&setup.lake, &setup.run_id, setup.wait_lock).await?;
    let committed = commit(setup, &mut gatherer).await;
    let mut report = Report { run_id: setup.run_id.clone(), ..Report::default() };
    report.failures.extend(committed.err().map(|error| (resource.name.clone(), error)));
    report.tables = gatherer.reports();
    report.secs = started.elapsed().as_secs_f64();
    finish(setup, guard, report, "import", 1).await
}

async fn commit(setup: &Setup, gatherer: &mut Gatherer) -> Result<()> {
    gatherer.reload_states().await?;
    let known = read_lake(&setup.lake).await?;
    if known.is_none() {
        let stripe_version = setup.catalog.stripe_version.clone();
        let info = LakeInfo { format: FORMAT, account: None, livemode: None, stripe_version };
        setup.lake.write_json(LAKE, &info, &Version::Absent).await?;
    }
    gatherer.take(Message::Complete).await?;
    sql::write_views(&setup.lake, &setup.catalog).await
}

/// The blocking half: reads, decodes and hands on.
struct Reading {
    setup: Setup,
    resource: Arc<Resource>,
    decoder: Decoder,
    sender: mpsc::Sender<Message>,
}

impl Reading {
    fn all(mut self, inputs: Vec<Input>) -> Result<()> {
        for input in inputs {
            let Input { name, content, observed_at } = input;
            self.one(content, observed_at).map_err(|error| error.context(name))?;
        }
        self.flush();
        Ok(())
    }

    /// A file without a single row is not what it was taken for; one with some odd objects is.
    fn one(&mut self, content: Content, observed_at: i64) -> Result<()> {
        let (mut n_rows, mut first_reject) = (0, None);
        let reader: Box<dyn Read> = match content {
            Content::File(path) => {
                Box::new(std::fs::File::open(path).map_err(|e| Error::usage(e.to_string()))?)
            }
            Content::Stdin => Box::new(std::io::stdin().lock()),
        };
        let mut chunks = Chunks::new(source::plain(reader)?);
        while let Some(chunk) = chunks.next()? {
            let pushed = match &chunk {
                Chunk::Page { body, .. } => self.decoder.push_page(body, observed_at),
                Chunk::Objects { body, .. } => self.decoder.push_objects(body, observed_at),
            };
            let Pushed { n_rows: rows, rejected, open_lists } =
                pushed.map_err(|e| self.refused(e, chunk.line()))?;
            n_rows += rows;
            if let Some(open) = open_lists.first() {
                let message = format!(
                    "{}: the file holds only the first part of its {}; the rest is not in the lake",
                    open.parent.id, open.url
                );
                (self.setup.on_event)(Event::Warning { message });
            }
            (self.setup.on_event)(Event::Rows {
                resource: self.resource.name.clone(),
                rows: rows as u64,
                share: None,
            });
            if let Some(object) = rejected.first() {
                first_reject.get_or_insert(object.reason.clone());
                let _ = self.sender.blocking_send(Message::Rejected(rejected));
            }
            if self.decoder.n_bytes() >= FLUSH_BYTES {
                self.flush();
            }
        }
        match first_reject {
            Some(reason) if n_rows == 0 => Err(Error::usage(format!(
                "expected objects of {}, got none that can be a row: {reason}",
                self.resource.name
            ))
            .hint("nothing was imported")),
            _ => Ok(()),
        }
    }

    /// A gatherer that has failed is gone; its own error is the one to report.
    fn flush(&mut self) {
        let _ = self.sender.blocking_send(Message::Rows(self.decoder.flush()));
    }

    fn refused(&self, error: PageError, line: usize) -> Error {
        match error {
            PageError::Malformed { what, line: within } => {
                Error::usage(format!("line {}: {what}", line + within.saturating_sub(1)))
                    .hint("expected list pages or objects as JSON, one after the other; nothing was imported")
            }
            PageError::WrongObject { expected, got, .. } => {
                let other = self.setup.catalog.resources.iter().find(|r| r.object == got);
                let hint = match other {
                    Some(other) => format!("import the file as {}", other.name),
                    None => "nothing was imported".to_owned(),
                };
                Error::usage(format!("expected objects \"{expected}\", got \"{got}\"")).hint(hint)
            }
            error @ PageError::WrongMode { .. } => {
                Error::new(Kind::Auth, error.to_string()).hint("use another --lake for each mode and account")
            }
        }
    }
}
