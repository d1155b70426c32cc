//! Turns sorted batches into one finished Parquet file.
//!
//! zstd, one schema per resource, rows sorted by `created` then `id`, row groups of up to 262,144
//! rows or 64 MB with statistics where a filter can use them, a page index, and a bloom filter on `id`. Files
//! made of the same rows in the same pieces, and from the same file before, are the same bytes.

mod columns;
mod footer;
pub mod gather;
pub mod ids;
pub mod lineage;
pub mod memory;
pub mod merge;
pub mod old;
pub mod picked;
mod reorder;
pub mod same;
pub mod settings;
pub mod shift;

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;

use crate::crc;
use crate::decode::schema::schema_version;
use crate::encode::columns::Groups;
use crate::encode::footer::{BLANK, FOOTER};
use crate::encode::ids::Ids;
use crate::encode::lineage::Lineage;
use crate::encode::picked::Picked;
use crate::encode::settings::{Sample, properties};
use crate::error::{Error, Result, disk_hint};

/// A file of up to this many rows, if they are not wide, is one row group, which a reader holds consistent when the file
/// is replaced under it; a larger file has several, each over a narrow range of `created`.
pub const ROWS_PER_GROUP: usize = 262_144;

/// One that comes to more than this when it is written ends before: memory is bounded by bytes, not by rows.
const BYTES_PER_GROUP: usize = 64 << 20;

/// Rows that are looked at before the columns' settings are chosen.
const FIRST_ROWS: usize = 8_192;
/// Less where they are large, in bytes.
const FIRST_BYTES: usize = 16 << 20;

/// Fewer values than this are not worth waking other cores for.
const WORTH_SHARING: usize = 20_000;

/// The key of the number of bytes before a file's footer and their CRC-32, in its metadata.
pub const CONTENT: &str = "stripelake.content";

/// The key of the path, relative to the lake, that a file is made for, in its metadata.
pub const PLACE: &str = "stripelake.file";
/// The metadata key for whose lake the file is made for.
pub const OWNER: &str = "stripelake.account";

/// The key of the schema version in a file's metadata.
pub const SCHEMA_VERSION: &str = "stripelake.schema_version";

/// How files are written.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// zstd level, 1 to 22. On Stripe's data a higher level than 1 costs time and saves nothing.
    pub zstd_level: i32,
    pub rows_per_group: usize,
    /// What a row group comes to at most, and the rows that end it.
    pub bytes_per_group: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { zstd_level: 1, rows_per_group: ROWS_PER_GROUP, bytes_per_group: BYTES_PER_GROUP }
    }
}

/// What a finished file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub n_rows: u64,
    pub n_bytes: u64,
    pub crc32: String,
    /// The first and last `created`, in microseconds.
    pub created: Option<(i64, i64)>,
    pub ids: Ids,
    pub schema_version: String,
}

/// Where a file belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Home {
    /// The path in the lake: one that was moved is found out.
    pub place: String,
    /// Whose lake it is, where that is known: nobody else's file is taken for one of its own.
    pub owner: Option<Arc<str>>,
}

/// What a file says of itself.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    pub home: Home,
    /// What it is made from.
    pub lineage: Lineage,
    /// How far behind its beginning it begins.
    pub shift: usize,
}

/// Writes rows, which are sorted and have the schema `schema`, to `sink`.
///
/// `n_rows_at_most` sizes the bloom filters. Memory is bounded by one row group in its encoded form.
/// Fails with [`crate::error::Kind::Destination`] where the sink does, or with the first failed batch.
pub fn write<W: Write + Send, P: Into<Picked>>(
    sink: W,
    schema: &SchemaRef,
    notes: &Notes,
    rows: impl Iterator<Item = Result<P>>,
    n_rows_at_most: u64,
    options: Options,
) -> Result<Written> {
    let version = schema_version(schema);
    let mut rows = rows.map(|rows| rows.map(Into::<Picked>::into)).peekable();
    let first = first_rows(&mut rows)?;
    let sample = Sample { rows: &first, is_all: rows.peek().is_none(), n_rows_at_most };
    let properties = properties(schema, &version, &sample, options)?;
    let mut sink = Summed { sink, n_bytes: 0, crc32: crc32fast::Hasher::new(), tail: None };
    let mut groups =
        Groups::new(&mut sink, schema, properties, options.bytes_per_group, notes.shift).map_err(failed)?;
    let (mut n_rows, mut ids) = (0, Ids::default());
    let mut created: Option<(i64, i64)> = None;
    let mut rows = first.into_iter().map(Ok).chain(rows).peekable();
    while let Some(picked) = rows.next().transpose()? {
        n_rows += picked.len() as u64;
        ids.add_all(&picked);
        created = widen(created, &picked);
        groups.write(&picked, rows.peek().is_none()).map_err(failed)?;
    }
    let Home { place, owner } = &notes.home;
    let place = KeyValue::new(PLACE.to_owned(), place.clone());
    let owner = owner.as_ref().map(|owner| KeyValue::new(OWNER.to_owned(), owner.to_string()));
    let footer = KeyValue::new(FOOTER.to_owned(), BLANK.to_owned());
    let notes = [place, notes.lineage.note()].into_iter().chain(owner);
    groups.close(|sink| notes.chain([sink.begin_tail(), footer])).map_err(failed)?;
    sink.end_tail().map_err(|e| failed(ParquetError::External(Box::new(e))))?;
    sink.flush().map_err(|e| failed(ParquetError::External(Box::new(e))))?;
    let (n_bytes, crc32) = (sink.n_bytes, crc::shown(sink.crc32));
    Ok(Written { n_rows, n_bytes, crc32, created, ids, schema_version: version })
}

/// What is looked at before anything is written.
fn first_rows(rows: &mut impl Iterator<Item = Result<Picked>>) -> Result<Vec<Picked>> {
    let (mut first, mut n_rows, mut n_bytes) = (Vec::new(), 0, 0);
    while n_rows < FIRST_ROWS
        && n_bytes < FIRST_BYTES
        && let Some(picked) = rows.next().transpose()?
    {
        n_rows += picked.len();
        n_bytes += if n_rows < FIRST_ROWS { picked.n_bytes() } else { 0 };
        first.push(picked);
    }
    Ok(first)
}

fn failed(error: ParquetError) -> Error {
    let shown = Error::destination(format!("writing parquet: {error}"));
    let hint = match &error {
        ParquetError::External(cause) => cause.downcast_ref::<io::Error>().and_then(disk_hint),
        _ => None,
    };
    match hint {
        Some(hint) => shown.hint(hint),
        None => shown,
    }
}

/// The rows are sorted, so the first and the last one tell.
fn widen(range: Option<(i64, i64)>, picked: &Picked) -> Option<(i64, i64)> {
    let last = picked.len().checked_sub(1)?;
    let created = |n: usize| {
        let (batch, row) = picked.at(n);
        created_of(batch).map(|created| created.value(row))
    };
    let (min, max) = (created(0)?, created(last)?);
    Some(range.map_or((min, max), |(first, last)| (first.min(min), last.max(max))))
}

/// The `created` column, if the resource has one.
pub fn created_of(batch: &RecordBatch) -> Option<TimestampMicrosecondArray> {
    batch.column_by_name("created")?.as_any().downcast_ref::<TimestampMicrosecondArray>().cloned()
}

fn n_leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(item) | DataType::Map(item, _) => n_leaves(item.data_type()),
        DataType::Struct(fields) => fields.iter().map(|f| n_leaves(f.data_type())).sum(),
        _ => 1,
    }
}

/// Counts and sums what passes through.
struct Summed<W> {
    sink: W,
    n_bytes: u64,
    crc32: crc32fast::Hasher,
    /// What comes behind the row groups, until it has its own sum.
    tail: Option<Vec<u8>>,
}

impl<W: Write> Summed<W> {
    /// What tells a damaged file from one that the state does not know of yet. It says that there is a sum of the rest, too:
    /// one flipped bit is then never taken for a file of an older program.
    fn begin_tail(&mut self) -> KeyValue {
        self.tail = Some(Vec::new());
        let content = format!("{} {} {FOOTER}", self.n_bytes, crc::shown(self.crc32.clone()));
        KeyValue::new(CONTENT.to_owned(), content)
    }

    fn end_tail(&mut self) -> io::Result<()> {
        let mut tail = self.tail.take().unwrap_or_default();
        match footer::seal(&mut tail) {
            true => self.write_all(&tail),
            false => Err(io::Error::other("the footer has no place for its checksum")),
        }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(tail) = &mut self.tail {
            tail.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let n = self.sink.write(bytes)?;
        self.crc32.update(&bytes[..n]);
        self.n_bytes += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
