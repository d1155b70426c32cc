//! Turns blocks into decoded rows on several cores, handed on in the order of the file.
//!
//! The order matters: of two observations of one object at the same time the later one counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use serde::de::IgnoredAny;

use crate::decode::{Decoded, Decoder, PageError, Pushed};
use crate::error::{Error, Result};
use crate::run::import::source::{Block, Chunk};

/// A block and its place in the file.
struct Numbered {
    number: usize,
    block: Block,
}

/// What became of a block: its rows, and what its pages brought.
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

/// Decodes the blocks that `next` supplies with `decoders` at once, and gives the parts to `take` in
/// order. `next` gets the memory of a block that is done with.
///
/// Stops at the first error of `next`, of a decoder (as `refused` puts it) or of `take`.
pub fn decode_all(
    decoders: Vec<Decoder>,
    observed_at: i64,
    mut next: impl FnMut(Vec<u8>) -> Result<Option<Block>> + Send,
    refused: impl Fn(RefusedChunk) -> Error,
    mut take: impl FnMut(Part) -> Result<()>,
) -> Result<Vec<Decoder>> {
    let n = decoders.len();
    let (blocks, waiting) = sync_channel::<Numbered>(n);
    // It ends with the last decoder, whatever that dies of: else the reader would wait for ever.
    let waiting = Arc::new(Mutex::new(waiting));
    let (answers, answered) = sync_channel::<Answer>(2 * n);
    let (spares, spare) = channel::<Vec<u8>>();
    let is_stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_stopped = &is_stopped;
        let reading = scope.spawn(move || read(&mut next, &spare, &blocks, is_stopped));
        let mut working = Vec::new();
        for decoder in decoders {
            let (waiting, answers, spares) = (waiting.clone(), answers.clone(), spares.clone());
            let work = Work { decoder, observed_at, waiting, answers, spares, is_stopped };
            working.push(scope.spawn(move || work.run()));
        }
        drop((waiting, answers, spares));
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
    next: &mut impl FnMut(Vec<u8>) -> Result<Option<Block>>,
    spare: &Receiver<Vec<u8>>,
    blocks: &SyncSender<Numbered>,
    is_stopped: &AtomicBool,
) -> Result<()> {
    for number in 0.. {
        if is_stopped.load(Ordering::Relaxed) {
            break;
        }
        let Some(block) = next(spare.try_recv().unwrap_or_default())? else { break };
        if blocks.send(Numbered { number, block }).is_err() {
            break;
        }
    }
    Ok(())
}

/// One decoder at work.
struct Work<'a> {
    decoder: Decoder,
    observed_at: i64,
    waiting: Arc<Mutex<Receiver<Numbered>>>,
    answers: SyncSender<Answer>,
    spares: Sender<Vec<u8>>,
    is_stopped: &'a AtomicBool,
}

impl Work<'_> {
    /// Once stopped, blocks are still taken, so that the reader is never left waiting.
    fn run(mut self) -> Decoder {
        loop {
            let block = self.waiting.lock().expect("no panic while waiting").recv();
            let Ok(Numbered { number, block }) = block else { return self.decoder };
            if !self.is_stopped.load(Ordering::Relaxed) {
                let answer = self.decode(&block);
                // The reader may have come to its end.
                let _ = self.spares.send(block.bytes);
                if self.answers.send((number, answer)).is_err() {
                    self.is_stopped.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn decode(&mut self, block: &Block) -> std::result::Result<Part, RefusedChunk> {
        let mut pushed = Vec::new();
        for chunk in &block.chunks {
            match self.push(block, chunk) {
                Ok(one) => pushed.push(one),
                Err(error) => self.push_parts(block, chunk, error, &mut pushed)?,
            }
        }
        Ok(Part { decoded: self.decoder.flush(), pushed })
    }

    fn push(&mut self, block: &Block, chunk: &Chunk) -> std::result::Result<Pushed, PageError> {
        push(&mut self.decoder, block, chunk, self.observed_at)
    }

    /// A chunk that was refused, of which nothing was kept, may be several.
    #[cold]
    fn push_parts(
        &mut self,
        block: &Block,
        chunk: &Chunk,
        error: PageError,
        pushed: &mut Vec<Pushed>,
    ) -> std::result::Result<(), RefusedChunk> {
        let refused = |chunk: &Chunk, error| RefusedChunk { line: line_of(block, chunk, &error), error };
        let parts = block.split(chunk);
        if parts.len() < 2 {
            return Err(refused(chunk, error));
        }
        for part in &parts {
            pushed.push(self.push(block, part).map_err(|error| refused(part, error))?);
        }
        Ok(())
    }
}

/// The line in which the object begins that an error is about; of a page and of broken JSON, the page or the chunk itself.
fn line_of(block: &Block, chunk: &Chunk, error: &PageError) -> usize {
    let row = match error {
        PageError::WrongObject { row, .. } | PageError::WrongMode { row, .. } if !chunk.is_page => *row,
        _ => return block.line_at(chunk.span.start),
    };
    let body = &block.bytes[chunk.span.clone()];
    let mut objects = serde_json::Deserializer::from_slice(body).into_iter::<IgnoredAny>();
    objects.by_ref().take(row).for_each(drop);
    let before = objects.byte_offset();
    let blank = body[before..].len() - body[before..].trim_ascii_start().len();
    block.line_at(chunk.span.start + before + blank)
}

/// Decodes one chunk of a block.
pub fn push(
    decoder: &mut Decoder,
    block: &Block,
    chunk: &Chunk,
    observed_at: i64,
) -> std::result::Result<Pushed, PageError> {
    let body = &block.bytes[chunk.span.clone()];
    match chunk.is_page {
        true => decoder.push_page(body, observed_at),
        false => decoder.push_objects(body, observed_at),
    }
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
