//! One error for the whole program: a kind per exit code, and what the reader needs to act.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

/// What the caller does about an error. Each kind is one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A broken invariant of ours; exit 1.
    Bug,
    /// A wrong flag, file or combination; exit 2.
    Usage,
    /// Something was left out by name, the rest is committed; exit 3.
    Partial,
    /// The key is bad, lacks a permission, or belongs to another lake; exit 4.
    Auth,
    /// Stripe or the network did not answer properly after all retries; exit 5.
    Stripe,
    /// The lake cannot be read or written; exit 6.
    Destination,
    /// A schema contract of the user's is violated; exit 7.
    Schema,
    /// The lake is not what its state says; exit 8.
    Integrity,
    /// `--max-requests` or `--max-duration` was reached; exit 9.
    Budget,
    /// Another run holds the lake; exit 11.
    Locked,
    /// SIGHUP: the terminal has gone; exit 129.
    HungUp,
    /// SIGINT; exit 130.
    Interrupted,
    /// SIGTERM; exit 143.
    Terminated,
}

impl Kind {
    /// The process exit code, as documented in the README.
    pub fn exit_code(self) -> i32 {
        match self {
            Kind::Bug => 1,
            Kind::Usage => 2,
            Kind::Partial => 3,
            Kind::Auth => 4,
            Kind::Stripe => 5,
            Kind::Destination => 6,
            Kind::Schema => 7,
            Kind::Integrity => 8,
            Kind::Budget => 9,
            Kind::Locked => 11,
            Kind::HungUp => 129,
            Kind::Interrupted => 130,
            Kind::Terminated => 143,
        }
    }
}

/// An error with its kind, the layers it passed through, and the way out.
///
/// `Display` prints `context: context: message`; the hint, the request id and the state of the lake
/// are separate, so that a terminal and a JSON log can each show them in their own way.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    context: Vec<String>,
    request_id: Option<String>,
    hint: Option<String>,
    lake: Option<String>,
    refused_with: Option<u16>,
    is_foreign: bool,
    is_loss: bool,
}

/// What is behind an error, from its own cause on.
pub fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |cause| cause.source())
}

/// What helps where a file of the lake is damaged.
pub const MADE_AGAIN: &str =
    "move the file out of the lake and sync again: that makes it anew; or restore it from a copy";

/// What helps where no thread or process can be started.
pub const MORE_THREADS: &str = "allow more processes and threads (ulimit -u), or raise the container's limit of processes, then run the same command again";

/// What helps where no more files may be open, if that is what the error says.
pub fn files_hint(error: &impl fmt::Display) -> Option<&'static str> {
    // EMFILE and ENFILE have no kind of their own, and libraries hide the number: the text alone is always there.
    let text = error.to_string();
    let is_limit =
        cfg!(unix) && ["(os error 23)", "(os error 24)"].iter().any(|number| text.contains(number));
    is_limit.then_some("allow more open files (ulimit -n), then run the same command again")
}

/// What helps where a file could not be read.
pub fn read_hint(error: &io::Error) -> &'static str {
    files_hint(error).unwrap_or(match error.kind() {
        ErrorKind::PermissionDenied => {
            "let this user read it, and enter the folders above it; then run the same command again"
        }
        _ => "check the disk, then run the same command again",
    })
}

/// The error of a temporary file that could not be made in a folder that the environment names.
pub fn temporary_failed(folder: &Path, error: &io::Error) -> Error {
    use ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    let hint = match error.kind() {
        NotFound | NotADirectory | PermissionDenied | ReadOnlyFilesystem => {
            "set TMPDIR to a folder that is there and that this user may write"
        }
        _ => "free space, or set TMPDIR to a folder with more",
    };
    Error::destination(format!("temporary file in {}: {error}", folder.display()))
        .hint(files_hint(error).unwrap_or(hint))
}

/// What helps where a file could not be written, if the error tells.
pub fn disk_hint(error: &io::Error) -> Option<&'static str> {
    if let Some(hint) = files_hint(error) {
        return Some(hint);
    }
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Some(
            "free space, raise the limits on it (quota, ulimit -f) or choose another --lake, then run the same command again",
        ),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Some("make the folder writable for this user, or choose another --lake")
        }
        _ => None,
    }
}

/// The result of everything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            context: Vec::new(),
            request_id: None,
            hint: None,
            lake: None,
            refused_with: None,
            is_foreign: false,
            is_loss: false,
        }))
    }
    pub fn bug(message: impl Into<String>) -> Error {
        Error::new(Kind::Bug, message)
    }
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(Kind::Usage, message)
    }
    pub fn stripe(message: impl Into<String>) -> Error {
        Error::new(Kind::Stripe, message)
    }
    pub fn destination(message: impl Into<String>) -> Error {
        Error::new(Kind::Destination, message)
    }
    pub fn integrity(message: impl Into<String>) -> Error {
        Error::new(Kind::Integrity, message)
    }

    /// Adds the outer layer's view, e.g. `charges` around `page 17`.
    pub fn context(mut self, layer: impl Into<String>) -> Error {
        self.0.context.push(layer.into());
        self
    }
    /// Names the flag, permission or command that helps.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }
    pub fn request_id(mut self, id: Option<&str>) -> Error {
        self.0.request_id = id.map(str::to_owned);
        self
    }
    /// Says what state the lake is in, e.g. `unchanged`. The innermost statement stays.
    pub fn lake(mut self, state: impl Into<String>) -> Error {
        self.0.lake.get_or_insert(state.into());
        self
    }

    /// The status of an answer that says no to this request, whatever may become of others.
    pub fn refused_with(mut self, status: u16) -> Error {
        self.0.refused_with = Some(status);
        self
    }

    /// The status of the answer that said no; others are broken or do not come.
    pub fn refusal(&self) -> Option<u16> {
        self.0.refused_with
    }

    /// An answer came that belongs to another request: others may have done so unseen.
    pub fn foreign(mut self) -> Error {
        self.0.is_foreign = true;
        self.hint(
            "something between this machine and Stripe mixes answers up, or keeps old ones; go around it, then run the same command again",
        )
    }

    /// Whether what was read beside it may belong elsewhere, too.
    pub fn is_foreign(&self) -> bool {
        self.0.is_foreign
    }

    /// Part of a table is lost, which a listing may bring back.
    pub fn loss(message: impl Into<String>) -> Error {
        let mut error = Error::integrity(message);
        error.0.is_loss = true;
        error
    }

    /// Whether the run must end, since no other resource can do better. A 403 is about one resource, a
    /// 401 about all. A file or a state that is damaged is one resource's.
    pub fn is_fatal(&self) -> bool {
        match self.0.kind {
            Kind::Auth => self.refusal() != Some(403),
            Kind::Partial | Kind::Stripe | Kind::Integrity => false,
            _ => true,
        }
    }

    /// Whether a table is not what it should be.
    pub fn is_damage(&self) -> bool {
        self.0.kind == Kind::Integrity
    }

    /// Whether a person must look at the lake: no later run can do better before.
    pub fn needs_a_person(&self) -> bool {
        self.is_damage() && !self.0.is_loss
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
    pub fn request_id_text(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }
    /// The same for each request that fails like this.
    pub fn without_request_id(&self) -> String {
        let layers = self.0.context.iter().rev().chain([&self.0.message]);
        layers.map(String::as_str).collect::<Vec<_>>().join(": ")
    }
    pub fn lake_text(&self) -> Option<&str> {
        self.0.lake.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_request_id())?;
        if let Some(id) = &self.0.request_id {
            write!(f, " ({id})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
