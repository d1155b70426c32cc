//! Turns a file of the lake back into a sorted run.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};

use crate::crc::crc32_of;
use crate::encode::footer::{FOOTER, is_whole};
use crate::encode::lineage::Lineage;
use crate::encode::merge::Run;
use crate::encode::shift;
use crate::encode::{CONTENT, Home, OWNER, PLACE, created_of};
use crate::error::{Error, MADE_AGAIN, Result, files_hint};

const ROWS_PER_BATCH: usize = 2048;
/// The metadata of a file whose notes cannot be found is looked for in so many bytes at its end.
const MAX_FOOTER: i64 = 16 << 20;
/// The page indexes of a hundred million rows are less; a damaged file may say anything of where they begin.
const MAX_TAIL: u64 = 64 << 20;

/// A partition file that was there before.
pub struct OldFile {
    /// In the file's own schema.
    pub run: Run,
    /// That of the catalog which the file was written with.
    pub schema: SchemaRef,
    pub n_rows: u64,
    /// What it was made from, if it says so.
    pub lineage: Option<Lineage>,
    /// How far behind its beginning it begins.
    pub shift: usize,
    /// Whether its bytes are those that the state speaks of.
    pub is_known: bool,
}

/// Opens the partition file that stands where `home` says. `is_known` says that its bytes are those that the state speaks of.
///
/// Fails with [`crate::error::Kind::Integrity`] where the file is damaged, or was made for another place or lake.
pub fn open(file: File, is_known: bool, home: &Home) -> Result<OldFile> {
    if is_known {
        return open_known(file);
    }
    check_notes(file.try_clone().map_err(|e| damaged(e.to_string()))?, home)?;
    Ok(OldFile { is_known: false, ..open_as(file, damaged)? })
}

/// The same for bytes that are what they should be: whatever fails now is no damage.
pub fn open_known(bytes: impl ChunkReader + 'static) -> Result<OldFile> {
    open_as(bytes, unreadable)
}

fn open_as(bytes: impl ChunkReader + 'static, failed: fn(String) -> Error) -> Result<OldFile> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| failed(e.to_string()))?;
    let metadata = builder.metadata().file_metadata();
    let n_rows = metadata.num_rows().max(0) as u64;
    let lineage = Lineage::of_notes(metadata.key_value_metadata());
    let shift = shift::of(builder.metadata());
    let schema = builder.schema().clone();
    let reader = builder.with_batch_size(ROWS_PER_BATCH).build().map_err(|e| failed(e.to_string()))?;
    let run: Run = Box::new(reader.map(move |batch| batch.map_err(|e| failed(e.to_string()))));
    Ok(OldFile { run, schema, n_rows, lineage, shift, is_known: true })
}

/// Fails at a row that was created outside of these seconds: a file in the place of another one would have its rows twice,
/// and one of an older program does not say its place.
pub fn within(run: Run, seconds: Range<i64>) -> Run {
    let is_within = move |batch: &RecordBatch| {
        let created = created_of(batch);
        created.is_none_or(|created| {
            created.values().iter().all(|at| seconds.contains(&at.div_euclid(1_000_000)))
        })
    };
    Box::new(run.map(move |batch| {
        let batch = batch?;
        match is_within(&batch) {
            true => Ok(batch),
            false => Err(Error::integrity("the file holds objects of another partition").hint(MADE_AGAIN)),
        }
    }))
}

/// A file that the state does not speak of was left by a run that ended before it wrote the state, or somebody
/// has changed or moved it. In the first case what its footer says of its place and of the bytes before holds.
fn check_notes(mut file: File, home: &Home) -> Result<()> {
    let reader = SerializedFileReader::new(file.try_clone().map_err(|e| damaged(e.to_string()))?)
        .map_err(|e| damaged(e.to_string()))?;
    let metadata = reader.metadata().file_metadata().key_value_metadata();
    let noted = |key| metadata.into_iter().flatten().find(|note| note.key == key)?.value.as_deref();
    // One without rows gives way to the first with some, and may have been moved there for that.
    let has_rows = reader.metadata().file_metadata().num_rows() > 0;
    if let Some(other) = noted(PLACE).filter(|noted| *noted != home.place && has_rows) {
        return Err(misplaced(other));
    }
    if let (Some(owner), Some(other)) = (home.owner.as_deref(), noted(OWNER))
        && owner != other
    {
        return Err(of_another(owner, other));
    }
    let failed = |e: io::Error| unreadable(e.to_string());
    let Some(content) = noted(CONTENT) else {
        // An older program wrote none. Of a newer one they may be there, and not be found.
        file.seek(SeekFrom::End(-MAX_FOOTER.min(file.metadata().map_err(failed)?.len() as i64)))
            .map_err(failed)?;
        let mut end = Vec::new();
        (&file).read_to_end(&mut end).map_err(failed)?;
        let is_named = |key: &str| end.windows(key.len()).any(|window| window == key.as_bytes());
        return if is_named(FOOTER) || is_named(CONTENT) { Err(not_as_written()) } else { Ok(()) };
    };
    let mut words = content.split_whitespace();
    let n_bytes = words.next().and_then(|n| n.parse::<u64>().ok()).ok_or_else(not_as_written)?;
    let (crc32, footer) = (words.next().ok_or_else(not_as_written)?, words.next());
    file.seek(SeekFrom::Start(n_bytes)).map_err(failed)?;
    let mut tail = Vec::new();
    (&file).take(MAX_TAIL).read_to_end(&mut tail).map_err(failed)?;
    let is_sealed = match (footer, noted(FOOTER)) {
        (None, None) => true,
        (Some(_), Some(sum)) => is_whole(tail, sum),
        _ => false,
    };
    file.rewind().map_err(failed)?;
    match is_sealed && crc32_of(file.take(n_bytes)).map_err(failed)? == crc32 {
        true => Ok(()),
        false => Err(not_as_written()),
    }
}

/// The error of a file that is another than it says of itself, or than its state says of the very same version.
pub fn not_as_written() -> Error {
    damaged("its bytes are not those that were written".to_owned())
}

fn unreadable(error: String) -> Error {
    let hint = files_hint(&error)
        .unwrap_or("the file is as it was written; check the disk, then run the same command again");
    Error::destination(format!("reading the old file: {error}")).hint(hint)
}

fn misplaced(own_place: &str) -> Error {
    Error::integrity(format!("expected the file that belongs here, got that of {own_place}")).hint(
        "move the file out of the lake, or to its own place if none is there, and sync again without a window: that makes anew what is missing",
    )
}

fn of_another(owner: &str, other: &str) -> Error {
    Error::integrity(format!("expected a file of {owner}, got one of {other}")).hint(
        "move the file out of the lake, and sync again without a window: that makes anew what is missing",
    )
}

fn damaged(error: String) -> Error {
    // That one could not be opened says nothing about it.
    if files_hint(&error).is_some() {
        return unreadable(error);
    }
    Error::integrity(format!("the file cannot be read: {error}")).hint(MADE_AGAIN)
}
