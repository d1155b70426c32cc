//! Turns what was gathered for one partition into its committed file.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek};
use std::ops::Range;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::catalog::Resource;
use crate::commit::state::{FileState, LostFile};
use crate::commit::{Lake, ReplaceError, Staged, Version};
use crate::crc::crc32_of;
use crate::decode::older::Older;
use crate::decode::schema::{arrow_schema, schema_version};
use crate::encode::ids::{Ids, ids_within};
use crate::encode::lineage::Lineage;
use crate::encode::merge::absent::{Absent, Parents};
use crate::encode::merge::age::OldAge;
use crate::encode::merge::{Changes, Merge, Run, Source};
use crate::encode::old::{self, OldFile};
use crate::encode::shift;
use crate::encode::{self, Home, Notes, Written};
use crate::error::{Error, Kind, Result, read_hint};
use crate::partition::Partition;
use crate::run::Setup;
use crate::spool::Gathered;

/// Merges again this often when other writers keep replacing the file.
const CONFLICTS: u32 = 5;
/// One row of so many may be read twice by slices that others have cut.
const READ_TWICE: u64 = 50;
/// Bytes.
const COPIED_AT_ONCE: usize = 1 << 18;

/// One table's part of a commit.
#[derive(Clone)]
pub struct PartitionCommit {
    pub lake: Arc<Lake>,
    pub owner: Option<Arc<str>>,
    pub resource: Arc<Resource>,
    pub partition: Partition,
    pub options: encode::Options,
    /// Seconds that were listed completely, and when; absent rows have vanished.
    pub vanished: Option<(Vec<Range<i64>>, i64)>,
    /// For a child: what became of its parents.
    pub parents: Option<Parents>,
    pub old_age: OldAge,
    /// Whether tables of children have to know which objects the old file has in a newer form.
    pub has_children: bool,
    /// What the state knows of the file.
    pub known: Option<FileState>,
    /// Files that stood there and are lost.
    pub lost: Vec<LostFile>,
    /// The path of an empty file in a folder of another kind, which gives way to the first one with rows.
    pub empty: Option<String>,
}

impl PartitionCommit {
    /// A commit that takes nothing away: of one partition of a resource's table.
    pub fn new(setup: &Setup, resource: &Arc<Resource>, partition: Partition) -> PartitionCommit {
        PartitionCommit {
            lake: setup.lake.clone(),
            owner: setup.owner.clone(),
            resource: resource.clone(),
            partition,
            options: setup.encode,
            vanished: None,
            parents: None,
            old_age: OldAge::at_least(),
            has_children: false,
            known: None,
            lost: Vec::new(),
            empty: None,
        }
    }
}

/// What became of the file.
pub struct Outcome {
    pub changes: Changes,
    /// The ids that the old file has in a newer form, where [`PartitionCommit::has_children`].
    pub outdated: HashSet<String>,
    /// Whether another file than that which the state speaks of was there.
    pub was_other: bool,
    /// Whether that one was not made from the file which the state speaks of: it may lack some of it.
    pub lacked_known: bool,
    /// `None` when the file stayed as it was.
    pub written: Option<(Written, Version)>,
}

struct Merged {
    changes: Changes,
    was_other: bool,
    lacked_known: bool,
    outdated: HashSet<String>,
    /// `None` where the old file holds the same, and is what the state says.
    new: Option<(Written, Staged)>,
}

/// Merges, encodes and replaces. Nothing is written where nothing has changed. `gathered` are the rows of a resource; those of a
/// child by how often their parent's list had been read before them. `None`, and nothing is done, where the file that the state
/// speaks of, with its rows, is not there.
pub async fn commit(wanted: PartitionCommit, gathered: &Arc<Vec<Gathered>>) -> Result<Option<Outcome>> {
    let path = wanted.partition.path(&wanted.resource.name);
    let wanted = Arc::new(wanted);
    // A store, or a proxy before it, may send something else once.
    let mut may_pass = wanted.lake.local_path(&path).is_none();
    // One look more is for what is damaged.
    for _ in 0..=CONFLICTS {
        let old = wanted.lake.read(&path).await?;
        if old.is_none() && wanted.known.as_ref().is_some_and(|known| known.rows > 0) {
            return Ok(None);
        }
        let seen = old.as_ref().map_or(Version::Absent, |(_, version)| version.clone());
        let merged = {
            let (wanted, gathered) = (wanted.clone(), gathered.clone());
            let old = old.map(|(file, _)| file);
            let is_same =
                wanted.known.as_ref().zip(seen.etag()).is_some_and(|(known, etag)| known.is_of(etag));
            spawn_blocking(move || merge(&wanted, &gathered, old, is_same)).await
        };
        let merged = merged.map_err(|e| Error::bug(format!("{path}: {e}")))?;
        let merged = match merged {
            Err(error) if error.is_damage() && may_pass => {
                may_pass = false;
                continue;
            }
            merged => merged.map_err(|error| error.context(path.clone()))?,
        };
        let Merged { changes, was_other, lacked_known, outdated, new } = merged;
        let done = |written| Some(Outcome { changes, outdated, was_other, lacked_known, written });
        let Some((written, staged)) = new else { return Ok(done(None)) };
        if let Some(empty) = wanted.empty.as_ref().filter(|_| written.n_rows > 0) {
            wanted.lake.give_way(empty, &path).await?;
        }
        match wanted.lake.replace(&path, staged, &seen).await {
            Ok(version) => return Ok(done(Some((written, version)))),
            Err(ReplaceError::Conflict) => {}
            Err(ReplaceError::Failed(error)) => return Err(error),
        }
    }
    Err(Error::new(Kind::Locked, format!("{path}: another writer keeps replacing the file"))
        .hint("run one stripelake per lake at a time"))
}

/// `is_same` says that the store takes the file for the one that the state speaks of.
fn merge(
    wanted: &PartitionCommit,
    gathered: &[Gathered],
    old: Option<File>,
    is_same: bool,
) -> Result<Merged> {
    let PartitionCommit { resource, partition, parents, known, .. } = wanted;
    let home = Home { place: partition.path(&resource.name), owner: wanted.owner.clone() };
    let is_known = match (&old, known) {
        (Some(file), Some(known)) => is_described(file, known)?,
        _ => false,
    };
    let was_other = old.is_some() && known.is_some() && !is_known;
    if was_other && is_same {
        return Err(old::not_as_written());
    }
    let schema = arrow_schema(resource);
    let n_rows = gathered.iter().map(|rows| rows.n_rows).sum::<u64>();
    // What may stay as it is.
    let current = known.as_ref().filter(|known| is_known && known.schema_version == schema_version(&schema));
    // Most files of a list that is read again do, which costs no encoding to find out. Where there are many more rows than
    // before, some are new; a few may have been read twice.
    let may_stay = current.is_some_and(|known| n_rows <= known.rows + known.rows / READ_TWICE);
    if let Some(file) = old.as_ref().filter(|_| may_stay) {
        let file = file.try_clone().map_err(unreadable)?;
        let mut merge = merged(wanted, gathered, Some(old::open(file, is_known, &home)?))?;
        while merge.changes().is_none() && merge.next().transpose()?.is_some() {}
        if merge.changes().is_none() {
            let (changes, outdated) = (merge.changes(), merge.take_outdated());
            return Ok(Merged { changes, was_other, lacked_known: false, outdated, new: None });
        }
    }
    let mut staged = wanted.lake.stage(&home.place)?;
    let is_judged =
        parents.as_ref().is_some_and(|parents| !parents.outdated.is_empty() || parents.most_times() > 1);
    let finished = if let [gathered] = gathered { gathered.finished(&home) } else { None };
    // That one says that it is made from nothing, and knows of no loss.
    let is_noted = known.is_some() || !wanted.lost.is_empty();
    if let (None, Some(sealed), false) = (&old, finished, is_judged || is_noted) {
        let mut sealed_bytes = BufReader::with_capacity(COPIED_AT_ONCE, sealed.reader());
        let copied = io::copy(&mut sealed_bytes, &mut staged.writer());
        copied.map_err(|e| Error::destination(format!("copying a temporary file: {e}")))?;
        let written = sealed.written.clone();
        let changes = Changes { new: written.n_rows, ..Changes::default() };
        let (outdated, new) = (HashSet::new(), Some((written, staged)));
        return Ok(Merged { changes, was_other, lacked_known: false, outdated, new });
    }
    let was = old.as_ref().map(File::try_clone).transpose().map_err(unreadable)?;
    let from = was.as_ref().map(|was| identity(was, known.as_ref().filter(|_| is_known))).transpose()?;
    let old = old.map(|file| old::open(file, is_known, &home)).transpose()?;
    let lineage = old.as_ref().and_then(|old| old.lineage.clone());
    let lacked_known = match was.as_ref().filter(|_| was_other) {
        Some(was) => lacks_known(wanted, was, lineage.as_ref())?,
        None => false,
    };
    let lineage = match (from, known) {
        (Some((n_bytes, crc32)), _) => lineage.unwrap_or_default().behind(n_bytes, &crc32),
        // One without rows has gone.
        (None, Some(known)) => Lineage::default().behind(known.bytes, &known.crc32),
        (None, None) => Lineage::default(),
    };
    let lost = wanted.lost.iter().map(|lost| &lost.file);
    let lineage = lost.fold(lineage, |lineage, lost| lineage.beside_lost(lost.bytes, &lost.crc32));
    let shift = old.as_ref().map_or(0, |old| shift::behind(old.shift));
    let notes = Notes { home, lineage, shift };
    let n_rows = n_rows + old.as_ref().map_or(0, |old| old.n_rows);
    let mut merge = merged(wanted, gathered, old)?;
    let written =
        encode::write(BufWriter::new(staged.writer()), &schema, &notes, &mut merge, n_rows, wanted.options)?;
    let (changes, outdated) = (merge.changes(), merge.take_outdated());
    let is_same = changes.is_none() && current.is_some();
    Ok(Merged { changes, was_other, lacked_known, outdated, new: (!is_same).then_some((written, staged)) })
}

fn merged(wanted: &PartitionCommit, gathered: &[Gathered], old: Option<OldFile>) -> Result<Merge> {
    let PartitionCommit { resource, vanished, parents, old_age, has_children, .. } = wanted;
    let absent = Absent { vanished: vanished.clone(), parents: parents.clone() };
    let old = old.map(|old| {
        let is_known = old.is_known;
        let run = present(old, resource);
        // What belongs to an object lies where that does, whenever it was created itself.
        let is_by_created = resource.has_created && resource.parent.is_none();
        if is_known || !is_by_created { run } else { old::within(run, wanted.partition.span()) }
    });
    let merge = Merge::new(old, sources(gathered, parents.as_ref())?, absent, old_age.clone())?;
    Ok(if *has_children { merge.noting_outdated() } else { merge })
}

/// The rows, without those of lists that were read again later.
pub fn sources(gathered: &[Gathered], parents: Option<&Parents>) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    // The last list may have no rows.
    let most_times = parents.map_or(0, Parents::most_times);
    for (times, rows) in gathered.iter().enumerate() {
        let earlier = parents.filter(|_| times + 1 < most_times).cloned();
        for source in rows.sources()? {
            sources.push(match earlier.clone() {
                Some(p) => source.without(move |batch, row| p.is_superseded(batch, row, times)),
                None => source,
            });
        }
    }
    Ok(sources)
}

/// The rows of a file in the present schema, whatever catalog it was written with.
fn present(old: OldFile, resource: &Resource) -> Run {
    let older = Older::new(&old.schema, resource);
    Box::new(old.run.map(move |batch| older.present(&batch?)))
}

/// Whether the file is what the state says. It is not where a run ended between the file and the state;
/// the file is then written anew, so that the state tells the truth again. Nor where it is damaged.
pub fn is_described(file: &File, known: &FileState) -> Result<bool> {
    if file.metadata().map_err(unreadable)?.len() != known.bytes {
        return Ok(false);
    }
    Ok(sum_of(file)? == known.crc32)
}

/// Whether the file that is there may lack something of the one that the state speaks of. A killed run has made its file from
/// that, or knows that it is lost; any other is an older copy, or somebody else's.
///
/// Where the file does not say what it is made from, its ids tell. Rows of a child are taken away with their list, so of these only
/// a file that was lost is known to be older.
fn lacks_known(wanted: &PartitionCommit, file: &File, lineage: Option<&Lineage>) -> Result<bool> {
    let PartitionCommit { resource, known, lost, .. } = wanted;
    let Some(known) = known else { return Ok(false) };
    if let Some(lineage) = lineage {
        let is_noted = lost.iter().any(|lost| lost.file.has_bytes_of(known));
        let knows_it = is_noted && lineage.knows_lost(known.bytes, &known.crc32);
        return Ok(!knows_it && !lineage.has(known.bytes, &known.crc32));
    }
    let is_older = match resource.parent {
        None => true,
        Some(_) => {
            let is_it = lost.iter().map(|lost| Ok(lost.file.has_ids(ids_of(file, &lost.file)?)));
            is_it.collect::<Result<Vec<bool>>>()?.contains(&true)
        }
    };
    Ok(is_older && known.has_more_than(ids_of(file, known)?))
}

/// The length and the checksum of a file, which is the one that the state speaks of if that is given.
fn identity(file: &File, known: Option<&FileState>) -> Result<(u64, String)> {
    match known {
        Some(known) => Ok((known.bytes, known.crc32.clone())),
        None => Ok((file.metadata().map_err(unreadable)?.len(), sum_of(file)?)),
    }
}

fn sum_of(mut file: &File) -> Result<String> {
    file.rewind().map_err(unreadable)?;
    let sum = crc32_of(file).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    Ok(sum)
}

/// The ids in a file of those seconds from which another one has its rows.
pub fn ids_of(file: &File, other: &FileState) -> Result<Ids> {
    let file = file.try_clone().map_err(unreadable)?;
    ids_within(file, other.created).map_err(|e| Error::destination(format!("reading ids: {e}")))
}

fn unreadable(error: io::Error) -> Error {
    Error::destination(format!("reading the old file: {error}")).hint(read_hint(&error))
}
