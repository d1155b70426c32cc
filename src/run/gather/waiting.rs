//! Turns rows that wait for their partition into files of the lake, and such files of an earlier run into rows again.
//!
//! A partition's file is written when its span has been read, which may take minutes. What would be lost with the process
//! until then stands in these files. They are read where that happens, and where memory is short. A file is a row of Arrow streams, one for each
//! batch; it holds what came in about a second, in the order in which it came. What came together has the same number.

mod frame;

use std::fs::File;
use std::io::{self, BufRead, BufWriter, Read, Seek, Write};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;

use crate::commit::state::{WaitingFile, is_waiting_path, waiting_path};
use crate::commit::{Lake, ReplaceError, Staged, Version};
use crate::crc::{self, crc32_of};
use crate::decode::Decoded;
use crate::decode::closed::ClosedList;
use crate::decode::rows::{PARTITION_AT, ParentRow};
use crate::encode::memory::slice_bytes_of;
use crate::error::{Error, Result, causes, disk_hint};
use crate::ipc;
use crate::partition::{partition_at, rows_at};
use crate::plan::coverage::Coverage;
use crate::spool::away::{FileCopy, Opener, Stretch};

/// Rows that are held until they are worth a file, in bytes: most runs are over before there are so many.
const HELD: usize = 2 << 20;
/// What a stream holds, in its schema: rows of the table of this number, or its lists that are closed.
const TABLE: &str = "stripelake.table";
const CLOSED: &str = "stripelake.closed";
const OBSERVED_AT: &str = "observed_at";
/// What a stream came with, in its schema.
const PART: &str = "stripelake.part";

/// The rows of one resource and its children that stand in no partition's file.
pub struct WaitingRows {
    resource: String,
    run_id: String,
    n_files: usize,
    n_parts: usize,
    /// Finished files, those of earlier runs first.
    pub files: Vec<WaitingFile>,
    forgotten: Vec<String>,
    open: Option<Open>,
    held: Vec<(RecordBatch, FileCopy)>,
    n_held: usize,
    /// When the objects were created whose rows are in no finished file, about.
    seconds: Coverage,
}

/// A file that grows.
struct Open {
    path: String,
    staged: Staged,
    /// Of the streams before the present one, and of that.
    sum: crc32fast::Hasher,
    stream_sum: crc32fast::Hasher,
    n_bytes: u64,
    /// What stands in it, where, and its checksum.
    copies: Vec<(FileCopy, Range<u64>, u32)>,
}

impl Write for Open {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.staged.writer().write(bytes)?;
        self.stream_sum.update(&bytes[..n]);
        self.n_bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Open {
    /// A batch as it is, which can be read again from where it stands.
    fn write_stream(&mut self, batch: &RecordBatch, copy: FileCopy) -> std::result::Result<(), ArrowError> {
        let begin = self.n_bytes;
        let mut out = BufWriter::with_capacity(1 << 16, &mut *self);
        write_stream(&mut out, batch)?;
        out.flush()?;
        drop(out);
        let sum = self.end_stream();
        self.copies.push((copy, begin..self.n_bytes, sum.finalize()));
        Ok(())
    }

    /// Batches that a slow line has to carry.
    fn write_frame<'a>(
        &mut self,
        mut batches: impl Iterator<Item = &'a RecordBatch>,
    ) -> std::result::Result<(), ArrowError> {
        let out = BufWriter::with_capacity(1 << 16, &mut *self);
        frame::framed(out, |frame| batches.try_for_each(|batch| write_stream(&mut *frame, batch)))?;
        self.end_stream();
        Ok(())
    }

    fn end_stream(&mut self) -> crc32fast::Hasher {
        let sum = std::mem::take(&mut self.stream_sum);
        self.sum.combine(&sum);
        sum
    }
}

impl WaitingRows {
    pub fn new(resource: &str, run_id: &str) -> WaitingRows {
        WaitingRows {
            resource: resource.to_owned(),
            run_id: run_id.to_owned(),
            n_files: 0,
            n_parts: 0,
            files: Vec::new(),
            forgotten: Vec::new(),
            open: None,
            held: Vec::new(),
            n_held: 0,
            seconds: Coverage::default(),
        }
    }

    /// Takes what was read. It is safe after [`WaitingRows::keep`]. Returns where the batches of the resource and of its
    /// children stand from then on.
    pub fn add(&mut self, lake: &Lake, decoded: &Decoded) -> Result<Vec<FileCopy>> {
        let Decoded { parent, children, closed, findings: _ } = decoded;
        let mut copies = Vec::new();
        self.n_parts += 1;
        for (index, batch) in std::iter::once(parent).chain(children).enumerate() {
            copies
                .push(batch.as_ref().map_or_else(FileCopy::default, |batch| self.hold(batch, TABLE, index)));
        }
        for (child, closed) in closed.iter().enumerate().filter(|(_, closed)| !closed.is_empty()) {
            self.hold(&batch_of(closed).map_err(failed)?, CLOSED, child + 1);
        }
        if self.n_held >= HELD {
            self.write(lake)?;
        }
        Ok(copies)
    }

    fn hold(&mut self, batch: &RecordBatch, what: &str, table: usize) -> FileCopy {
        let at = partition_at(batch);
        let at = at.values();
        if let (Some(first), Some(last)) = (at.iter().min(), at.iter().max()) {
            self.seconds.add(*first..*last + 1);
        }
        let mut schema = batch.schema().as_ref().clone();
        schema.metadata.insert(what.to_owned(), table.to_string());
        schema.metadata.insert(PART.to_owned(), self.n_parts.to_string());
        let columns = batch.columns().to_vec();
        let tagged =
            RecordBatch::try_new(Arc::new(schema), columns).expect("the columns of the batch itself");
        self.n_held += slice_bytes_of(&tagged);
        let copy = FileCopy::default();
        self.held.push((tagged, copy.clone()));
        copy
    }

    fn write(&mut self, lake: &Lake) -> Result<()> {
        if self.open.is_none() {
            self.n_files += 1;
            let path = waiting_path(&self.resource, &self.run_id, self.n_files);
            let staged = lake.stage(&path)?;
            let sum = crc32fast::Hasher::new();
            let stream_sum = sum.clone();
            self.open = Some(Open { path, staged, sum, stream_sum, n_bytes: 0, copies: Vec::new() });
        }
        let open = self.open.as_mut().expect("just opened");
        let held = std::mem::take(&mut self.held);
        self.n_held = 0;
        match lake.local_path(&open.path) {
            Some(_) => held.into_iter().try_for_each(|(batch, copy)| open.write_stream(&batch, copy)),
            None => open.write_frame(held.iter().map(|(batch, _)| batch)),
        }
        .map_err(failed)
    }

    /// Puts what was added into a finished file, unless none of it waits any longer.
    pub async fn keep(&mut self, lake: &Lake, waits: &Coverage) -> Result<()> {
        let seconds = std::mem::take(&mut self.seconds);
        if seconds.common(waits).is_empty() {
            (self.open, self.n_held) = (None, 0);
            self.held.clear();
            return Ok(());
        }
        self.write(lake)?;
        let Open { path, staged, sum, n_bytes, copies, .. } = self.open.take().expect("rows were added");
        lake.replace(&path, staged, &Version::Absent).await.map_err(|error| match error {
            ReplaceError::Failed(error) => error,
            ReplaceError::Conflict => Error::bug(format!("{path}: expected no file")),
        })?;
        if let Some(local) = lake.local_path(&path) {
            let file: Opener = Arc::new(move || File::open(&local));
            for (copy, Range { start: at, end }, crc32) in copies {
                copy.stands_at(Stretch { file: file.clone(), at, n_bytes: end - at, crc32 });
            }
        }
        let crc32 = crc::shown(sum);
        self.files.push(WaitingFile { path, bytes: n_bytes, crc32, seconds: seconds.pairs() });
        Ok(())
    }

    /// Forgets the files of which nothing waits any longer. They stay until no state names them.
    pub fn forget(&mut self, waits: &Coverage) {
        let is_done = |file: &mut WaitingFile| Coverage::from_pairs(&file.seconds).common(waits).is_empty();
        self.forgotten.extend(self.files.extract_if(.., is_done).map(|file| file.path));
    }

    /// Removes the files that were forgotten.
    pub async fn remove_forgotten(&mut self, lake: &Lake) -> Result<()> {
        for path in self.forgotten.drain(..) {
            lake.remove(&path).await?;
        }
        Ok(())
    }

    /// Removes those of the files found that are the resource's and that no state names: a run was killed before it could.
    pub async fn remove_unknown(&self, lake: &Lake, found: &[String]) -> Result<()> {
        for path in found {
            if is_waiting_path(path, &self.resource) && !self.files.iter().any(|file| file.path == *path) {
                lake.remove(path).await?;
            }
        }
        Ok(())
    }
}

/// Opens a file of an earlier run. `None` where it has gone or is not what was written: then its rows have to be read again.
pub async fn open(lake: &Lake, file: &WaitingFile) -> Result<Option<File>> {
    let Some((opened, _)) = lake.read(&file.path).await? else { return Ok(None) };
    Ok(checked(opened, file).unwrap_or(None))
}

fn checked(mut opened: File, file: &WaitingFile) -> io::Result<Option<File>> {
    let is_whole = opened.metadata()?.len() == file.bytes && crc32_of(&opened)? == file.crc32;
    opened.rewind()?;
    Ok(is_whole.then_some(opened))
}

/// What a file holds of objects that were created in these seconds, as it was added. `schemas` are those of the resource's
/// table and of its children's. Fails where another version of this program wrote it in another form.
pub fn read(
    file: File,
    schemas: &[SchemaRef],
    wanted: Coverage,
) -> Result<impl Iterator<Item = Result<Decoded>>> {
    let mut file = frame::streams_of(file).map_err(failed)?;
    let mut streams = std::iter::from_fn(move || match file.fill_buf().map(<[u8]>::is_empty) {
        Ok(true) => None,
        Ok(false) => Some(read_one(&mut file, schemas, &wanted).map_err(failed)),
        Err(error) => Some(Err(failed(error))),
    })
    .peekable();
    Ok(std::iter::from_fn(move || {
        let (part, mut whole) = match streams.next()? {
            Ok(first) => first,
            Err(error) => return Some(Err(error)),
        };
        // Rows alone do not say that the list which they are of is out of date.
        while let Some(Ok((_, more))) = streams.next_if(|next| next.as_ref().is_ok_and(|(of, _)| *of == part))
        {
            whole.parent = whole.parent.or(more.parent);
            let children = whole.children.iter_mut().zip(more.children);
            children.for_each(|(rows, more)| *rows = rows.take().or(more));
            whole.closed.iter_mut().zip(more.closed).for_each(|(lists, more)| lists.extend(more));
        }
        Some(Ok(whole))
    }))
}

/// A stream, and the number of what it came with.
fn read_one(
    file: &mut impl Read,
    schemas: &[SchemaRef],
    wanted: &Coverage,
) -> std::result::Result<(usize, Decoded), ArrowError> {
    let mut stream = StreamReader::try_new(file, None)?;
    let mut decoded = Decoded::default();
    decoded.children.resize(schemas.len() - 1, None);
    decoded.closed.resize(schemas.len() - 1, Vec::new());
    let metadata = stream.schema().metadata().clone();
    let number = |what: &str| metadata.get(what).and_then(|number| number.parse::<usize>().ok());
    let other = || ArrowError::IpcError("expected rows of another form".to_owned());
    let part = number(PART).ok_or_else(other)?;
    for batch in &mut stream {
        let batch = batch?;
        let at = batch.column_by_name(PARTITION_AT).and_then(|at| at.as_primitive_opt::<Int64Type>());
        at.ok_or_else(other)?;
        let batch = rows_at(&batch, |second| wanted.contains(&(second..second + 1)));
        match (number(TABLE), number(CLOSED)) {
            (Some(0), _) => decoded.parent = Some(ipc::widen(&batch, &schemas[0])?),
            (Some(table @ 1..), _) if table < schemas.len() => {
                decoded.children[table - 1] = Some(ipc::widen(&batch, &schemas[table])?);
            }
            (_, Some(table @ 1..)) if table < schemas.len() => {
                decoded.closed[table - 1] = closed_of(&batch).ok_or_else(other)?;
            }
            _ => return Err(other()),
        }
    }
    Ok((part, decoded))
}

fn write_stream(out: impl Write, batch: &RecordBatch) -> std::result::Result<(), ArrowError> {
    let columns = ipc::with_values(std::slice::from_ref(batch));
    let mut stream = ipc::begin(out, batch.schema_ref(), &columns)?;
    stream.write(&batch.project(&columns)?)?;
    stream.finish()
}

fn batch_of(closed: &[ClosedList]) -> std::result::Result<RecordBatch, ArrowError> {
    let ids = StringArray::from_iter_values(closed.iter().map(|list| &list.parent.id));
    let created = Int64Array::from_iter_values(closed.iter().map(|list| list.parent.created));
    let observed_at = Int64Array::from_iter_values(closed.iter().map(|list| list.observed_at));
    RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as ArrayRef),
        (OBSERVED_AT, Arc::new(observed_at)),
        (PARTITION_AT, Arc::new(created)),
    ])
}

fn closed_of(batch: &RecordBatch) -> Option<Vec<ClosedList>> {
    let ids = batch.column_by_name("id")?.as_string_opt::<i32>()?;
    let observed_at = batch.column_by_name(OBSERVED_AT)?.as_primitive_opt::<Int64Type>()?;
    let created = partition_at(batch);
    let lists = ids.iter().zip(created.values()).zip(observed_at.values());
    let list = |((id, created), observed_at): ((Option<&str>, &i64), &i64)| {
        let parent = ParentRow { id: id?.to_owned(), created: *created };
        Some(ClosedList { parent, observed_at: *observed_at, rows: None })
    };
    lists.map(list).collect()
}

fn failed(error: impl std::error::Error + 'static) -> Error {
    let this: &(dyn std::error::Error + 'static) = &error;
    let io =
        std::iter::once(this).chain(causes(this)).find_map(|cause| cause.downcast_ref::<std::io::Error>());
    Error::destination(format!("rows that wait for their partition: {error}"))
        .hint(io.and_then(disk_hint).unwrap_or("check the disk, then run the same command again"))
}
