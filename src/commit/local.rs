//! Turns staged files into files of a local folder: write, sync, rename, sync the folder.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use crate::commit::state::{LAKE, WAITING};
use crate::commit::{LOCK, META, Staged, StagedFile, Version};
use crate::error::{Error, Result, disk_hint, read_hint};

/// Temporary files start so and never end in `.parquet`, so no reader's glob matches them.
const TEMPORARY: &str = ".stripelake-";
const SUFFIX: &str = ".tmp";

/// A lake in a folder of the local file system.
#[derive(Debug)]
pub struct LocalLake {
    pub root: PathBuf,
    /// Folders that are on the disk for certain: this process has synced those that hold them.
    lasting: Mutex<HashSet<PathBuf>>,
    /// The file that this process has locked, by device and number.
    locked: Mutex<Option<(u64, u64)>>,
}

impl LocalLake {
    pub fn new(root: impl Into<PathBuf>) -> LocalLake {
        LocalLake { root: root.into(), lasting: Mutex::default(), locked: Mutex::default() }
    }

    /// Where a file of the lake is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The lake above this one.
    pub fn outer(&self) -> Option<String> {
        let root = std::path::absolute(&self.root).ok()?;
        // Of what exists; links lead elsewhere, and `..` leads above that.
        let found = root.ancestors().find_map(|folder| Some((folder, fs::canonicalize(folder).ok()?)));
        let (folder, found) = found?;
        let mut above = found.ancestors().skip(usize::from(folder == root));
        above.find(|folder| folder.join(LAKE).is_file()).map(|outer| outer.display().to_string())
    }

    /// Makes a nameless file in the lake's folder, or in the nearest folder above that exists.
    pub fn check_writable(&self) -> Result<()> {
        let mut folder: &Path = &self.root;
        loop {
            match fs::metadata(folder) {
                Ok(metadata) if metadata.is_dir() => break,
                Ok(_) => {
                    return Err(Error::destination(format!(
                        "lake {}: expected a folder, got a file",
                        self.root.display()
                    ))
                    .hint("choose another --lake"));
                }
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    folder = match folder.parent() {
                        Some(parent) if !parent.as_os_str().is_empty() => parent,
                        _ => Path::new("."),
                    };
                }
                Err(e) => return Err(self.failed("", e)),
            }
        }
        tempfile::tempfile_in(folder).map(drop).map_err(|e| self.failed("", e))
    }

    pub fn read(&self, path: &str) -> Result<Option<File>> {
        self.check_is_file(path)?;
        match File::open(self.path(path)) {
            Ok(file) => Ok(Some(file)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound) => Ok(None),
            Err(e) => Err(self.unreadable(path, e)),
        }
    }

    pub fn read_bytes(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.check_is_file(path)?;
        match fs::read(self.path(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound) => Ok(None),
            Err(e) => Err(self.unreadable(path, e)),
        }
    }

    /// To open a pipe would wait for ever, and to read some devices, too.
    fn check_is_file(&self, path: &str) -> Result<()> {
        let target = self.path(path);
        // What is not there, or cannot be looked at, is found out by the one who opens it.
        let Ok(metadata) = fs::metadata(&target) else { return Ok(()) };
        let got = match metadata.is_dir() {
            _ if metadata.is_file() => return Ok(()),
            true => "a folder",
            false => "a pipe or a device",
        };
        let what = format!("lake file {}: expected a file, got {got}", target.display());
        Err(Error::integrity(what).hint("move that out of the lake, then run the same command again"))
    }

    /// Remembers what the lake's lock is while this process holds it.
    #[cfg(unix)]
    pub fn hold(&self, lock: &File) -> io::Result<()> {
        *self.locked.lock().expect("nobody panics with it") = Some(number_of(&lock.metadata()?));
        Ok(())
    }

    /// Elsewhere a folder cannot go while a file in it is open.
    #[cfg(not(unix))]
    pub fn hold(&self, _lock: &File) -> io::Result<()> {
        Ok(())
    }

    /// Fails where the folder was moved or removed while a run is at work: what is written then would be a lake of which a part
    /// is missing, or another's.
    fn check_held(&self) -> Result<()> {
        #[cfg(unix)]
        if let Some(locked) = *self.locked.lock().expect("nobody panics with it") {
            let present = match fs::metadata(self.path(LOCK)) {
                Ok(metadata) => Some(number_of(&metadata)),
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
                Err(e) => return Err(self.failed(LOCK, e)),
            };
            if present != Some(locked) {
                let what = format!(
                    "lake {}: its folder, or {LOCK} in it, was moved, removed or replaced",
                    self.root.display()
                );
                return Err(Error::destination(what)
                    .lake("not what this run has begun with")
                    .hint("put the folder back, then run the same command again"));
            }
        }
        Ok(())
    }

    /// A temporary file beside `path`, on the same file system.
    pub fn stage(&self, path: &str) -> Result<Staged> {
        self.check_held()?;
        let target = self.path(path);
        let folder = folder_of(&target);
        self.make_folder(folder).map_err(|e| self.failed(path, e))?;
        Ok(Staged { file: StagedFile::Beside(temporary_in(folder).map_err(|e| self.failed(path, e))?) })
    }

    /// Also the folders above the lake are on the disk then; those in it are synced with their first file.
    pub fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = self.root.ancestors().take_while(|above| !above.exists()).collect();
        fs::create_dir_all(folder)?;
        missing.into_iter().filter_map(Path::parent).try_for_each(sync_folder)
    }

    /// Survives a power loss once it returns.
    pub fn replace(&self, path: &str, staged: Staged) -> Result<Version> {
        let target = self.path(path);
        let failed = |e| self.failed(path, e);
        let StagedFile::Beside(file) = staged.file else {
            unreachable!("a local lake stages beside the target")
        };
        file.as_file().sync_all().map_err(failed)?;
        self.check_held()?;
        let file = file.persist(&target).map_err(|e| failed(e.error))?;
        let folder = folder_of(&target);
        sync_folder(folder).and_then(|()| self.make_lasting(folder)).map_err(failed)?;
        file.metadata().map(|metadata| version_of(&metadata)).map_err(failed)
    }

    /// A folder may be there and yet not on the disk, if a run was killed that had made it.
    fn make_lasting(&self, folder: &Path) -> io::Result<()> {
        let mut lasting = self.lasting.lock().expect("nobody panics with it");
        for folder in folder.ancestors().take_while(|above| *above != self.root) {
            if !lasting.contains(folder) {
                folder.parent().map_or(Ok(()), sync_folder)?;
                lasting.insert(folder.to_owned());
            }
        }
        Ok(())
    }

    pub fn remove(&self, path: &str) -> Result<()> {
        self.take_away(path, |target| fs::remove_file(target))
    }

    /// From one folder into another that is there.
    pub fn rename(&self, path: &str, new: &str) -> Result<()> {
        self.take_away(path, |target| fs::rename(target, self.path(new)))
    }

    fn take_away(&self, path: &str, take: impl FnOnce(&Path) -> io::Result<()>) -> Result<()> {
        self.check_held()?;
        let target = self.path(path);
        match take(&target) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(self.failed(path, e)),
        }
        // A partition's folder without its file would only puzzle; one that holds more stays. In our own somebody else
        // may be about to begin a file.
        if !path.starts_with(META) {
            let folder = folder_of(&target);
            self.lasting.lock().expect("nobody panics with it").remove(folder);
            let is_left = fs::remove_dir(folder).is_err();
            // A file that came back after a power loss would be one that no state knows.
            let changed = if is_left { Some(folder) } else { folder.parent() };
            changed.map_or(Ok(()), sync_folder).map_err(|e| self.failed(path, e))?;
        }
        Ok(())
    }

    pub fn list(&self, folder: &str) -> Result<Vec<String>> {
        let found = entries(&self.path(folder)).map_err(|e| self.unreadable(folder, e))?;
        let names = found.iter().filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(|name| format!("{folder}/{name}")).collect())
    }

    /// A link to a folder, which may lead anywhere, also back, is named with a slash behind it.
    pub fn files_below(&self, folder: &str) -> Result<Vec<(String, Version)>> {
        let (mut found, mut folders) = (Vec::new(), vec![(folder.to_owned(), self.path(folder))]);
        while let Some((folder, path)) = folders.pop() {
            for path in entries(&path).map_err(|e| self.unreadable(&folder, e))? {
                // No file of ours has a name that is no text; readers take it nevertheless.
                let name = format!("{folder}/{}", path.file_name().unwrap_or_default().to_string_lossy());
                match fs::symlink_metadata(&path) {
                    Ok(metadata) if metadata.is_dir() => folders.push((name, path)),
                    Ok(metadata) if metadata.is_file() => found.push((name, version_of(&metadata))),
                    Err(e) if e.kind() != ErrorKind::NotFound => return Err(self.unreadable(&name, e)),
                    _ if path.is_dir() => found.push((name + "/", Version::Unfenced)),
                    _ => found.push((name, Version::Unfenced)),
                }
            }
        }
        Ok(found)
    }

    /// Only files whose names are those of our temporary ones.
    pub fn remove_leftovers<'a>(&self, tables: impl Iterator<Item = &'a str>) -> Result<()> {
        let meta = self.path(META);
        let mut folders = vec![meta.join("state"), meta.join("runs"), self.path(WAITING)];
        folders.extend(entries(&meta.join("rejected")).map_err(|e| self.failed(META, e))?);
        folders.push(meta);
        for table in tables {
            let folder = self.path(table);
            folders.extend(entries(&folder).map_err(|e| self.failed(table, e))?);
            folders.push(folder);
        }
        for folder in folders {
            for file in entries(&folder).map_err(|e| self.failed(META, e))? {
                let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if name.starts_with(TEMPORARY) && name.ends_with(SUFFIX) && file.is_file() {
                    fs::remove_file(&file).map_err(|e| self.failed(name, e))?;
                }
            }
        }
        Ok(())
    }

    fn unreadable(&self, path: &str, error: io::Error) -> Error {
        Error::destination(format!("lake file {}: {error}", self.path(path).display()))
            .hint(read_hint(&error))
    }

    fn failed(&self, path: &str, error: io::Error) -> Error {
        let hint = disk_hint(&error).unwrap_or("check the folder, or choose another --lake");
        Error::destination(format!("lake file {}: {error}", self.path(path).display())).hint(hint)
    }
}

#[cfg(unix)]
fn number_of(metadata: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// What tells a file from the one that took its place, without reading either.
fn version_of(metadata: &fs::Metadata) -> Version {
    let Ok(modified) = metadata.modified() else { return Version::Unfenced };
    let modified = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    #[cfg(unix)]
    let number = number_of(metadata).1;
    #[cfg(not(unix))]
    let number = 0;
    Version::Etag(format!("{number:x}-{modified:x}-{:x}", metadata.len()))
}

/// What a folder holds; nothing where there is no folder.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().expect("a file of the lake is in a folder")
}

fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY).suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The process's umask decides who may read the lake, as for any other file.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}
