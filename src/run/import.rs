//! Turns files of list pages or objects into the lake, through the same stages as a sync.
//!
//! Everything is decoded before anything is committed: a file that is not what it should be leaves the
//! lake as it was.

mod between;
mod decoding;
mod scan;
mod source;

use std::io::{self, ErrorKind, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::catalog::Resource;
use crate::commit::lock;
use crate::commit::state::LakeInfo;
use crate::decode::rows::{first_mode_of, modes_of};
use crate::decode::{self, Decoded, Decoder, PageError, Pushed, Rejected};
use crate::error::{Error, Kind, Result, read_hint};
use crate::run::event::Event;
use crate::run::gather::{Gatherer, Message};
use crate::run::import::decoding::{Part, RefusedChunk, decode_all, push};
use crate::run::import::source::{Block, Blocks};
use crate::run::owner::{check_mode, read_lake, write_down};
use crate::run::report::{Report, has_all_rows};
use crate::run::signal::{interrupted, signalled};
use crate::run::sync::finish;
use crate::run::{Setup, sql};
use crate::spool::Budget;

/// Each decoder holds some blocks of a file and their rows; more of them than this only wait for each other.
pub const MOST_DECODERS: usize = 8;

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

/// Imports objects of one resource. `signal` becomes the kind of the signal that ends the run.
pub async fn import(
    setup: &Setup,
    resource: &Arc<Resource>,
    inputs: Vec<Input>,
    signal: watch::Receiver<Option<Kind>>,
) -> Result<Report> {
    let started = Instant::now();
    setup.tell_delays();
    setup.lake.check_writable().await.map_err(|e| e.lake("untouched"))?;
    let known = read_lake(&setup.lake).await.map_err(|e| e.lake("unchanged"))?;
    let owner = known.as_ref().and_then(|(info, _)| info.owner());
    let livemode = known.and_then(|(info, _)| info.livemode);
    let setup = &Setup { owner, ..setup.clone() };
    let budget = Budget::new(setup.memory);
    let mut gatherer = Gatherer::open(setup, resource, None, &budget).await?;
    let (sender, mut messages) = mpsc::channel(2);
    let reading = {
        let children = setup.children_of(resource);
        let n = std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_DECODERS));
        let decoders =
            (0..n).map(|_| Decoder::new(resource, &children, decode::Options::default())).collect();
        let setup = setup.clone();
        let resource = resource.clone();
        let (n_read, of) = (Arc::default(), size(&inputs));
        let is_of_mode = livemode.is_some();
        let reading =
            Reading { setup, resource, decoders, sender, cut_off: None, livemode, is_of_mode, n_read, of };
        spawn_blocking(move || reading.all(inputs))
    };
    let gathering = async {
        while let Some(message) = messages.recv().await {
            gatherer.take(message).await?;
        }
        reading.await.map_err(|e| Error::bug(format!("import: {e}")))?
    };
    let read = tokio::select! {
        read = gathering => read,
        error = interrupted(signal.clone()) => Err(error),
    };
    let Found { cut_off, livemode } = read.map_err(|error| error.lake("as it was"))?;

    let stop = interrupted(signal.clone());
    let wait = setup.wait_lock;
    let guard = lock::acquire(&setup.lake, &setup.run_id, wait, setup.on_wait(wait), stop).await?;
    let committed = tokio::select! {
        committed = commit(setup, &mut gatherer, livemode) => committed,
        kind = signalled(signal) => Err(Error::new(kind, "interrupted").hint("run the same command again")),
    };
    let tables = gatherer.reports();
    let mut report = Report { run_id: setup.run_id.clone(), tables, ..Report::default() };
    match (committed, cut_off) {
        (Err(error), _) => report.failures.push((resource.name.clone(), error)),
        (Ok(()), Some(error)) => report.failures.push((resource.name.clone(), error)),
        (Ok(()), None) if has_all_rows(&report.tables) => report.complete.push(resource.name.clone()),
        (Ok(()), None) => {}
    }
    report.secs = started.elapsed().as_secs_f64();
    finish(setup, guard, report, "import").await
}

async fn commit(setup: &Setup, gatherer: &mut Gatherer, livemode: Option<bool>) -> Result<()> {
    gatherer.reload_states().await?;
    setup.lake.remove_leftovers(setup.catalog.resources.iter().map(|resource| resource.name.as_str()))?;
    // A sync may have found out whose the lake is while this run read its files.
    gatherer.belong_to(claim(setup, livemode).await?.owner());
    gatherer.upgrade_files().await?;
    gatherer.take(Message::Complete).await?;
    match sql::write_views(&setup.lake, &setup.catalog).await?.into_iter().next() {
        Some((_, damaged)) => Err(damaged),
        None => Ok(()),
    }
}

/// Writes down the mode of the objects where the lake has none yet: a key of the other one is refused from then on.
async fn claim(setup: &Setup, livemode: Option<bool>) -> Result<LakeInfo> {
    let known = read_lake(&setup.lake).await?;
    if let Some(livemode) = livemode {
        // Another run may have made the lake its own while this one read its files.
        check_mode(known.as_ref(), livemode, "objects")?;
    }
    match known {
        Some((info, _)) if info.livemode.is_some() || livemode.is_none() => Ok(info),
        known => write_down(setup, known, None, livemode).await,
    }
}

/// What the files held.
struct Found {
    /// Where a list inside an object went on behind its file.
    cut_off: Option<Error>,
    /// The mode that objects stated.
    livemode: Option<bool>,
}

/// The blocking half: reads, decodes and hands on.
struct Reading {
    setup: Setup,
    resource: Arc<Resource>,
    decoders: Vec<Decoder>,
    sender: mpsc::Sender<Message>,
    cut_off: Option<Error>,
    livemode: Option<bool>,
    /// Whether the lake had one already.
    is_of_mode: bool,
    /// Bytes of all inputs.
    n_read: Arc<AtomicU64>,
    of: Option<u64>,
}

/// The mode of the objects so far, these included; a lake holds one.
fn one_mode(so_far: Option<bool>, decoded: &Decoded) -> Result<Option<bool>> {
    let stated = decoded.parent.as_ref().map_or([false; 2], modes_of);
    match (so_far, stated) {
        (_, [true, true]) | (Some(true), [true, _]) | (Some(false), [_, true]) => {
            Err(Error::new(Kind::Auth, "expected objects of live or of test mode, got both")
                .hint("import each into a lake of its own; nothing was imported"))
        }
        (None, [_, true]) => Ok(Some(true)),
        (None, [true, _]) => Ok(Some(false)),
        (so_far, _) => Ok(so_far),
    }
}

/// The mode that the first object of a block states of those that state one: what states none is of the same.
fn mode_of(decoder: &mut Decoder, block: &Block) -> Option<bool> {
    // What is no page or object is refused when it is read.
    let _ = block.chunks.iter().try_for_each(|chunk| push(decoder, block, chunk, 0).map(drop));
    decoder.flush().parent.as_ref().and_then(first_mode_of)
}

/// Whether what is no row says that it is such an object.
fn says(raw: &[u8], expected: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        object: String,
    }
    serde_json::from_slice::<Kind>(raw).is_ok_and(|kind| kind.object == expected)
}

/// The bytes of all inputs; `None` where one comes through a pipe.
fn size(inputs: &[Input]) -> Option<u64> {
    let size = |input: &Input| match &input.content {
        Content::File(path) => std::fs::metadata(path).ok().filter(|m| m.is_file()).map(|m| m.len()),
        Content::Stdin => None,
    };
    inputs.iter().map(size).sum()
}

/// Counts what is read through it.
struct Counted {
    reader: Box<dyn Read + Send>,
    n_read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(bytes)?;
        self.n_read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl Reading {
    fn all(mut self, mut inputs: Vec<Input>) -> Result<Found> {
        // What was read later supersedes what is older, as it does among the objects of one file.
        inputs.sort_by_key(|input| input.observed_at);
        for input in inputs {
            let Input { name, content, observed_at } = input;
            self.one(content, observed_at).map_err(|error| error.context(name))?;
        }
        Ok(Found { cut_off: self.cut_off, livemode: self.livemode })
    }

    /// A file without a single row is not what it was taken for, unless its objects say that they are; one with some odd
    /// objects is.
    fn one(&mut self, content: Content, observed_at: i64) -> Result<()> {
        let reader: Box<dyn Read + Send> = match content {
            Content::File(path) => {
                let unreadable = |e: io::Error| match e.kind() {
                    ErrorKind::PermissionDenied => Error::usage(e.to_string()).hint(read_hint(&e)),
                    _ => Error::usage(e.to_string()),
                };
                Box::new(std::fs::File::open(path).map_err(unreadable)?)
            }
            Content::Stdin => Box::new(std::io::stdin()),
        };
        let reader = Box::new(Counted { reader, n_read: self.n_read.clone() });
        let mut blocks = Blocks::new(source::plain(reader)?);
        let mut decoders = std::mem::take(&mut self.decoders);
        let mut first = blocks.next(Vec::new())?;
        if let (None, Some(block)) = (self.livemode, &first) {
            self.livemode = mode_of(&mut decoders[0], block);
        }
        if let Some(livemode) = self.livemode {
            decoders.iter_mut().for_each(|decoder| decoder.expect_livemode(livemode));
        }
        let next = |spare| first.take().map_or_else(|| blocks.next(spare), |block| Ok(Some(block)));
        let (mut is_known, mut first_reject) = (false, None);
        let refused = |chunk: RefusedChunk| self.refused(chunk);
        let mut cut_off = None;
        let mut livemode = self.livemode;
        let mut is_empty = true;
        let take = |part: Part| {
            is_empty = false;
            livemode = one_mode(livemode, &part.decoded)?;
            self.take(part, &mut is_known, &mut first_reject, &mut cut_off)
        };
        let decoders = decode_all(decoders, observed_at, next, refused, take)?;
        self.decoders = decoders;
        self.livemode = livemode;
        self.cut_off = self.cut_off.take().or(cut_off);
        match first_reject {
            None if is_empty => Err(Error::usage("expected list pages or objects, got an empty file")
                .hint("name the file that has them, a page without objects is fine; nothing was imported")),
            Some(reason) if !is_known => Err(Error::usage(format!(
                "expected objects of {}, got none that can be a row: {reason}",
                self.resource.name
            ))
            .hint("name the files to import; nothing was imported")),
            _ => Ok(()),
        }
    }

    fn take(
        &self,
        part: Part,
        is_known: &mut bool,
        first_reject: &mut Option<String>,
        cut_off: &mut Option<Error>,
    ) -> Result<()> {
        for Pushed { n_rows: rows, rejected, open_lists } in part.pushed {
            let is_such = |object: &Rejected| says(&object.raw, &self.resource.object);
            *is_known = *is_known || rows > 0 || rejected.iter().any(is_such);
            if let Some(open) = open_lists.first() {
                let what = format!("{}: the file holds only the first part of {}", open.parent.id, open.url);
                cut_off.get_or_insert(
                    Error::new(Kind::Partial, what).hint("the rest is read by stripelake sync"),
                );
            }
            let resource = self.resource.name.clone();
            (self.setup.on_event)(Event::Rows { resource, rows: rows as u64 });
            if let Some(object) = rejected.first() {
                first_reject.get_or_insert_with(|| object.reason.clone());
                self.send(Message::Rejected(rejected))?;
            }
        }
        let (resource, bytes) = (self.resource.name.clone(), self.n_read.load(Ordering::Relaxed));
        (self.setup.on_event)(Event::Input { resource, bytes, of: self.of });
        self.send(Message::Rows(part.decoded))
    }

    /// A gatherer that has failed is gone; its own error is the one to report.
    fn send(&self, message: Message) -> Result<()> {
        let gone = |_| Error::new(Kind::Destination, "the import was stopped by a failure elsewhere");
        self.sender.blocking_send(message).map_err(gone)
    }

    fn refused(&self, RefusedChunk { error, line }: RefusedChunk) -> Error {
        match error {
            PageError::Malformed { what, line: within } => {
                Error::usage(format!("line {}: {what}", line + within.saturating_sub(1)))
                    .hint("expected list pages or objects as JSON, one after the other or in an array; nothing was imported")
            }
            PageError::WrongObject { expected, got, .. } => {
                let other = self.setup.catalog.resources.iter().find(|r| r.object == got);
                let hint = match other {
                    Some(other) => format!("import the file as {}", other.name),
                    None => "import the file as what it holds; nothing was imported".to_owned(),
                };
                Error::usage(format!("line {line}: expected objects \"{expected}\", got \"{got}\"")).hint(hint)
            }
            PageError::WrongMode { id, livemode, .. } => {
                let what = format!("line {line}: {id} has livemode {livemode}");
                match self.is_of_mode {
                    true => Error::new(Kind::Auth, format!("{what}, the lake has {}", !livemode))
                        .hint("use another --lake for each mode and account"),
                    false => Error::new(Kind::Auth, format!("{what}, objects before it have {}", !livemode))
                        .hint("import live and test objects each into a lake of its own; nothing was imported"),
                }
            }
        }
    }
}
