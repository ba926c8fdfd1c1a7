//! Grants kept in files.

mod failed;
mod lock;
#[cfg(not(unix))]
mod other;
mod private;
#[cfg(unix)]
mod unix;

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use grantflow::machine::{FailureKind, Os, Platform};
use grantflow::store::{MAX_RECORD, RecordKey, Stored};
use grantflow::{Error, ErrorKind, Failure, Shown};

use self::failed::failed;
use self::lock::{Locks, lock_soon};
use crate::memory::Leases;
use crate::{Lease, Store};

pub use private::{read_private, write_private};

/// A store that keeps each grant in a file of its own, in a directory that is the user's alone. Any number of processes
/// of that user may share it.
///
/// - Files are made with mode 0600, the directory with 0700. A link, another user's file, or one that is open to others
///   is refused, and the error says how to mend it. On Windows the user's own profile keeps others out.
/// - A file is replaced as a whole, and is on the disk before a save counts. A file that cannot be read is an error
///   that names the file; it is never overwritten.
/// - Names of files are hashes ([`RecordKey::name`]). Beside `NAME.grant` lie two empty files that stay:
///   `NAME.lease` is locked by the process that refreshes the grant, `NAME.lock` for the moment of a change. The system
///   frees these locks when their holder ends, however it ends. Delete them only when no process uses the store.
/// - Files are not encrypted: a reader of the user's files can use the grants.
///
/// Locks must work where the directory lies; on some network file systems they do not. That is an error, unless
/// [`without_locks`](Self::without_locks) was called.
#[derive(Clone)]
pub struct FileStore {
    directory: PathBuf,
    /// Whether it looks like one, and not like a secret in the wrong place.
    is_path: bool,
    locks: Locks,
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStore").field("directory", &Shown::path(&self.directory)).finish_non_exhaustive()
    }
}

impl FileStore {
    /// A store in this directory, which is made when it is needed. Its parents must belong to users that can be
    /// trusted: root, and the user.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        let directory = directory.as_ref();
        // Wherever the program goes later, its grants stay where they are. What is no path stays as it is, to be refused.
        let is_path = !Shown::path(directory).is_hidden();
        let absolute = is_path.then(|| std::path::absolute(directory).ok()).flatten();
        Self { directory: absolute.unwrap_or_else(|| directory.to_owned()), is_path, locks: Locks::Files }
    }

    /// A store in the directory that the system has for the state of programs, for the program `app_name`: below
    /// `$XDG_STATE_HOME` or `~/.local/state`, on macOS `~/Library/Application Support`, on Windows `%LOCALAPPDATA%`,
    /// which does not roam: a grant that travels between machines without their locks would be used twice.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`] if `app_name` cannot be the name of a folder, or the user's home is unknown.
    pub fn default_for(app_name: &str, platform: &Platform) -> Result<Self, Error> {
        default_directory(app_name, platform, |name| std::env::var_os(name)).map(Self::new)
    }

    /// Uses no locks between processes: only for a directory that no second process uses. The clones of this value
    /// still keep the threads of this process apart.
    #[must_use]
    pub fn without_locks(mut self) -> Self {
        self.locks = Locks::Threads(Leases::default(), Arc::default());
        self
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn path(&self, key: &RecordKey, kind: &str) -> PathBuf {
        let mut name = key.name();
        name.extend([".", kind]);
        self.directory.join(name)
    }

    /// Whether the directory is there, and the user's alone.
    fn is_there(&self) -> Result<bool, Failure> {
        if !self.is_path {
            return Err(failed(&self.directory, "the path of a directory belongs here"));
        }
        private::check_directory(&self.directory)
    }

    /// Makes the directory if it is not there.
    fn make(&self) -> Result<(), Failure> {
        if !self.is_there()? {
            private::make_directory(&self.directory)?;
        }
        Ok(())
    }

    fn read(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        let path = self.path(key, "grant");
        let Some(bytes) = private::read(&path, MAX_RECORD)? else { return Ok(None) };
        let here = |error: Error| Failure::not_sent(FailureKind::Store, error.within(Shown::path(&path)));
        Stored::from_bytes(bytes).map(Some).map_err(here)
    }

    /// Changes a record if it has this version, while nobody else can.
    pub(crate) fn change(
        &self,
        key: &RecordKey,
        expected: Option<u64>,
        change: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        self.make()?;
        let _turn = match &self.locks {
            Locks::Files => (Some(lock_soon(&self.path(key, "lock"))?), None),
            Locks::Threads(_, turn) => (None, Some(turn.lock().unwrap_or_else(PoisonError::into_inner))),
        };
        let same = self.read(key)?.map(|found| found.version) == expected;
        if same {
            change()?;
        }
        Ok(same)
    }

    /// Replaces a record as a whole by what [`Stored::to_bytes`] made. The turn must be ours.
    pub(crate) fn replace(&self, key: &RecordKey, record: &[u8]) -> Result<(), Failure> {
        let path = self.path(key, "grant");
        let new = match self.locks {
            // The same each time, so that what a killed process left behind does not pile up.
            Locks::Files => path.with_extension("new"),
            Locks::Threads(..) => private::beside(&path),
        };
        private::replace(&path, &new, record)
    }

    /// Deletes a record. The turn must be ours.
    pub(crate) fn remove(&self, key: &RecordKey) -> Result<(), Failure> {
        private::remove(&self.path(key, "grant"))
    }
}

impl Store for FileStore {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        if self.is_there()? { self.read(key) } else { Ok(None) }
    }

    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        let record = stored.to_bytes();
        let size = record.len();
        if size > MAX_RECORD {
            let why = format!("the record has {size} bytes; no more than {MAX_RECORD} can be kept");
            return Err(Failure::not_sent(FailureKind::TooLarge, why));
        }
        self.change(key, expected, || self.replace(key, &record))
    }

    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        Ok(self.is_there()? && self.change(key, Some(expected), || self.remove(key))?)
    }

    fn try_lease(&self, key: &RecordKey, _: Duration) -> Result<Option<Lease>, Failure> {
        self.make()?;
        match &self.locks {
            Locks::Files => Ok(lock::try_lock(&self.path(key, "lease"))?.map(|locked| Lease::new(None, locked))),
            Locks::Threads(leases, _) => Ok(leases.take(key)),
        }
    }
}

fn default_directory(
    app_name: &str,
    platform: &Platform,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, Error> {
    let config = |what: &str| Error::new(ErrorKind::Config, what.to_owned());
    let mut parts = Path::new(app_name).components();
    let sound = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == app_name);
    if !sound || app_name.contains(|c: char| c.is_control() || r#"\/:*?"<>|"#.contains(c)) {
        return Err(config("the program's name cannot be the name of a folder"));
    }
    let home = || platform.home.clone().ok_or_else(|| config("the user's home directory is not known"));
    // A relative path is to be ignored (XDG Base Directory Specification).
    let named = |name| env(name).map(PathBuf::from).filter(|path| path.has_root());
    let base = match platform.os {
        Os::MacOs => home()?.join("Library").join("Application Support"),
        Os::Windows => match named("LOCALAPPDATA") {
            Some(path) => path,
            None => home()?.join("AppData").join("Local"),
        },
        _ => match named("XDG_STATE_HOME") {
            Some(path) => path,
            None => home()?.join(".local").join("state"),
        },
    };
    Ok(base.join(app_name).join("grants"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_directory_is_where_each_system_wants_it() {
        let set = |name: &str| -> Option<OsString> { Some(format!("/{}", name.to_lowercase()).into()) };
        let unset = |_: &str| -> Option<OsString> { None };
        let relative = |_: &str| -> Option<OsString> { Some("here".into()) };
        type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;
        let cases: [(Os, Env<'_>, &str); 7] = [
            (Os::Unix, &unset, "/home/u/.local/state/app/grants"),
            (Os::Unix, &set, "/xdg_state_home/app/grants"),
            (Os::Unix, &relative, "/home/u/.local/state/app/grants"),
            (Os::MacOs, &set, "/home/u/Library/Application Support/app/grants"),
            (Os::Windows, &set, "/localappdata/app/grants"),
            (Os::Windows, &unset, "/home/u/AppData/Local/app/grants"),
            (Os::Windows, &relative, "/home/u/AppData/Local/app/grants"),
        ];
        for (os, env, expected) in cases {
            let platform = Platform { os, home: Some("/home/u".into()) };
            assert_eq!(default_directory("app", &platform, env).unwrap(), Path::new(expected), "{os:?}");
        }
        let lost = Platform { os: Os::Unix, home: None };
        assert_eq!(default_directory("app", &lost, unset).unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn a_program_s_name_must_be_one_folder() {
        let platform = Platform { os: Os::Unix, home: Some("/home/u".into()) };
        for name in ["", ".", "..", "a/b", "a/", "/a", r"a\b", "C:", "a\0b", "a\nb", "a*"] {
            let error = default_directory(name, &platform, |_| None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{name:?}");
        }
    }
}
