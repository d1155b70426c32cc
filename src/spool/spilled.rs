//! Turns sorted rows into temporary files, and these back into runs.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
#[cfg(unix)]
use std::os::unix::fs::FileExt;
#[cfg(windows)]
use std::os::windows::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use parquet::file::reader::{ChunkReader, Length};

use crate::encode::merge::absent::Absent;
use crate::encode::merge::age::OldAge;
use crate::encode::merge::{Merge, Run};
use crate::encode::picked::Picked;
use crate::encode::{self, Home, Notes, Options, Written, old};
use crate::error::{Error, Result, temporary_failed};
use crate::ipc;

/// So many runs of one level become one of the next: a merge reads all runs at once, and so never more than
/// a few times this many.
const RUNS_PER_LEVEL: usize = 16;

/// Bytes after which the next run begins a new file.
const BYTES_PER_FILE: u64 = 64 << 20;

/// Makes nameless temporary files, which vanish with the process. Runs share them, so that many small runs
/// need few; a file is gone with the last of its runs.
pub struct Files {
    dir: PathBuf,
    last: Option<(Arc<File>, u64)>,
}

impl Files {
    pub fn new(dir: PathBuf) -> Files {
        Files { dir, last: None }
    }

    fn append(&mut self) -> Result<Appender> {
        let (file, at) = match self.last.take().filter(|(_, at)| *at < BYTES_PER_FILE) {
            Some(last) => last,
            None => {
                (Arc::new(tempfile::tempfile_in(&self.dir).map_err(|e| temporary_failed(&self.dir, &e))?), 0)
            }
        };
        Ok(Appender { file, at })
    }

    /// Appends a finished Parquet file.
    pub fn seal(
        &mut self,
        schema: &SchemaRef,
        home: &Home,
        rows: Picked,
        options: Options,
    ) -> Result<Sealed> {
        let appender = self.append()?;
        let start = appender.at;
        let mut sink = BufWriter::with_capacity(1 << 16, appender);
        let n_rows = rows.len() as u64;
        let notes = Notes { home: home.clone(), ..Notes::default() };
        let written = encode::write(&mut sink, schema, &notes, std::iter::once(Ok(rows)), n_rows, options);
        let written = written.map_err(|error| error.context("temporary file"))?;
        let appender = sink.into_inner().map_err(failed)?;
        Ok(Sealed { segment: self.close(start, appender), home: notes.home, written })
    }

    /// The bytes that were appended, and room for the next run behind them.
    fn close(&mut self, start: u64, appender: Appender) -> Segment {
        let Appender { file, at } = appender;
        self.last = Some((file.clone(), at));
        Segment { file, at: start, end: at }
    }
}

/// The end of a file, which grows.
struct Appender {
    file: Arc<File>,
    at: u64,
}

impl Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = write_at(&self.file, bytes, self.at)?;
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One run's bytes.
#[derive(Clone)]
struct Segment {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Segment {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = (self.end - self.at).min(bytes.len() as u64) as usize;
        let n = read_at(&self.file, &mut bytes[..most], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Length for Segment {
    fn len(&self) -> u64 {
        self.end - self.at
    }
}

impl ChunkReader for Segment {
    type T = BufReader<Segment>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<BufReader<Segment>> {
        Ok(BufReader::new(Segment { at: self.at + start, ..self.clone() }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let mut bytes = vec![0; length];
        Segment { at: self.at + start, ..self.clone() }.read_exact(&mut bytes)?;
        Ok(Bytes::from(bytes))
    }
}

/// A partition's rows as the Parquet file that they make unless more of them come.
#[derive(Clone)]
pub struct Sealed {
    segment: Segment,
    /// What it says of itself.
    pub home: Home,
    pub written: Written,
}

impl Sealed {
    /// The bytes of the file.
    pub fn reader(&self) -> impl Read {
        self.segment.clone()
    }

    /// The rows.
    pub fn run(&self) -> Result<Run> {
        Ok(old::open_known(self.segment.clone())?.run)
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    file.read_at(bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek_read(bytes, at)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    file.write_at(bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    file.seek_write(bytes, at)
}

/// Sorted runs in temporary files (Arrow IPC), oldest observation first.
#[derive(Default)]
pub struct Spilled {
    /// Levels never rise.
    stored: Vec<Stored>,
}

/// One run.
struct Stored {
    /// How often its rows were merged.
    level: u32,
    /// The columns that have values, the only ones that are written: most of Stripe's columns hold nothing.
    columns: Vec<usize>,
    segment: Segment,
}

impl Spilled {
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// Adds a run that was observed after the others, with values in these columns at most.
    pub fn push(
        &mut self,
        schema: &SchemaRef,
        files: &mut Files,
        rows_per_batch: usize,
        columns: Vec<usize>,
        run: impl Iterator<Item = Result<RecordBatch>>,
    ) -> Result<()> {
        let segment = write(schema, files, rows_per_batch, &columns, run)?;
        self.stored.push(Stored { level: 0, columns, segment });
        while let Some(first) = self.full_level() {
            let full = &self.stored[first..];
            let level = full[0].level + 1;
            let columns: BTreeSet<usize> = full.iter().flat_map(|run| &run.columns).copied().collect();
            let columns = Vec::from_iter(columns);
            // Neighbours only, so that of two equal times the later run still wins.
            let merged = Merge::new(None, runs(full, schema)?, Absent::default(), OldAge::at_least())?;
            let merged = merged.map(|rows| rows?.gathered());
            let segment = write(schema, files, rows_per_batch, &columns, merged)?;
            self.stored.truncate(first);
            self.stored.push(Stored { level, columns, segment });
        }
        Ok(())
    }

    /// Where the last level begins, if it is full.
    fn full_level(&self) -> Option<usize> {
        let level = self.stored.last()?.level;
        let n_runs = self.stored.iter().rev().take_while(|run| run.level == level).count();
        (n_runs >= RUNS_PER_LEVEL).then(|| self.stored.len() - n_runs)
    }

    /// All runs. May be called again.
    pub fn runs(&self, schema: &SchemaRef) -> Result<Vec<Run>> {
        runs(&self.stored, schema)
    }
}

fn runs(stored: &[Stored], schema: &SchemaRef) -> Result<Vec<Run>> {
    stored.iter().map(|run| read(run, schema.clone())).collect()
}

fn read(run: &Stored, schema: SchemaRef) -> Result<Run> {
    let reader = StreamReader::try_new(BufReader::new(run.segment.clone()), None).map_err(failed)?;
    Ok(Box::new(reader.map(move |batch| ipc::widen(&batch.map_err(failed)?, &schema).map_err(failed))))
}

fn write(
    schema: &SchemaRef,
    files: &mut Files,
    rows_per_batch: usize,
    columns: &[usize],
    run: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<Segment> {
    let appender = files.append()?;
    let start = appender.at;
    let mut writer = ipc::begin(BufWriter::new(appender), schema, columns).map_err(failed)?;
    // The first row stands alone: until a merge comes to it, it is all that is held of the run.
    let mut n_next = 1;
    for batch in run {
        let batch = batch?.project(columns).map_err(failed)?;
        let mut at = 0;
        while at < batch.num_rows() {
            let n_rows = n_next.min(batch.num_rows() - at);
            writer.write(&batch.slice(at, n_rows)).map_err(failed)?;
            at += n_rows;
            n_next = rows_per_batch;
        }
    }
    let buffer = writer.into_inner().map_err(failed)?;
    Ok(files.close(start, buffer.into_inner().map_err(failed)?))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::destination(format!("temporary file: {error}"))
        .hint("free space, or set TMPDIR to a folder with more")
}
