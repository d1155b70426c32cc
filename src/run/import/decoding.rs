//! Turns chunks into decoded rows on several cores, handed on in the order of the file.
//!
//! The order matters: of two observations of one object at the same time the later one counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::decode::{Decoded, Decoder, PageError, Pushed};
use crate::error::{Error, Result};
use crate::run::import::source::Chunk;

/// JSON bytes that one decoder takes at a time.
const GROUP_BYTES: usize = 4 << 20;

/// Chunks that are decoded together.
struct Group {
    number: usize,
    chunks: Vec<Chunk>,
    observed_at: i64,
}

/// What became of a group: its rows, and what its pages brought.
pub struct Part {
    pub decoded: Decoded,
    pub pushed: Vec<Pushed>,
}

/// A chunk that was refused, and the line it begins in.
pub struct RefusedChunk {
    pub error: PageError,
    pub line: usize,
}

type Answer = (usize, std::result::Result<Part, RefusedChunk>);

/// Decodes what `next` supplies with `decoders` at once, and gives the parts to `take` in order.
///
/// Stops at the first error of `next`, of a decoder (as `refused` puts it) or of `take`.
pub fn decode_all(
    decoders: Vec<Decoder>,
    observed_at: i64,
    mut next: impl FnMut() -> Result<Option<Chunk>> + Send,
    refused: impl Fn(RefusedChunk) -> Error,
    mut take: impl FnMut(Part) -> Result<()>,
) -> Result<Vec<Decoder>> {
    let n = decoders.len();
    let (groups, waiting) = sync_channel::<Group>(n);
    let waiting = Mutex::new(waiting);
    let (answers, answered) = sync_channel::<Answer>(2 * n);
    let is_stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (waiting, is_stopped) = (&waiting, &is_stopped);
        let reading = scope.spawn(move || read(&mut next, observed_at, &groups, is_stopped));
        let mut working = Vec::new();
        for decoder in decoders {
            let answers = answers.clone();
            working.push(scope.spawn(move || work(decoder, waiting, &answers, is_stopped)));
        }
        drop(answers);
        let taken = in_order(&answered, refused, &mut take);
        is_stopped.store(true, Ordering::Relaxed);
        drop(answered);
        let decoders = working.into_iter().map(|w| w.join().expect("a decoder does not panic")).collect();
        taken?;
        reading.join().expect("reading does not panic")?;
        Ok(decoders)
    })
}

fn read(
    next: &mut impl FnMut() -> Result<Option<Chunk>>,
    observed_at: i64,
    groups: &SyncSender<Group>,
    is_stopped: &AtomicBool,
) -> Result<()> {
    let mut number = 0;
    while !is_stopped.load(Ordering::Relaxed) {
        let (mut chunks, mut n_bytes, mut failure) = (Vec::new(), 0, None);
        while n_bytes < GROUP_BYTES {
            match next() {
                Ok(Some(chunk)) => {
                    n_bytes += chunk.body().len();
                    chunks.push(chunk);
                }
                Ok(None) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let is_end = chunks.is_empty();
        if !is_end && groups.send(Group { number, chunks, observed_at }).is_err() {
            return Ok(());
        }
        number += 1;
        match failure {
            Some(error) => return Err(error),
            None if is_end => return Ok(()),
            None => {}
        }
    }
    Ok(())
}

/// Once stopped, groups are still taken, so that the reader is never left waiting.
fn work(
    mut decoder: Decoder,
    waiting: &Mutex<Receiver<Group>>,
    answers: &SyncSender<Answer>,
    is_stopped: &AtomicBool,
) -> Decoder {
    loop {
        let group = waiting.lock().expect("no panic while waiting").recv();
        let Ok(Group { number, chunks, observed_at }) = group else { return decoder };
        if !is_stopped.load(Ordering::Relaxed) {
            let answer = decode(&mut decoder, &chunks, observed_at);
            if answers.send((number, answer)).is_err() {
                is_stopped.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn decode(
    decoder: &mut Decoder,
    chunks: &[Chunk],
    observed_at: i64,
) -> std::result::Result<Part, RefusedChunk> {
    let mut pushed = Vec::new();
    for chunk in chunks {
        let result = match chunk {
            Chunk::Page { body, .. } => decoder.push_page(body, observed_at),
            Chunk::Objects { body, .. } => decoder.push_objects(body, observed_at),
        };
        pushed.push(result.map_err(|error| RefusedChunk { error, line: chunk.line() })?);
    }
    Ok(Part { decoded: decoder.flush(), pushed })
}

fn in_order(
    answered: &Receiver<Answer>,
    refused: impl Fn(RefusedChunk) -> Error,
    take: &mut impl FnMut(Part) -> Result<()>,
) -> Result<()> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    for (number, answer) in answered {
        early.insert(number, answer);
        while let Some(answer) = early.remove(&next) {
            take(answer.map_err(&refused)?)?;
            next += 1;
        }
    }
    Ok(())
}
