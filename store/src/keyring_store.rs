//! Grants kept in the system's secret service.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use grantflow::machine::FailureKind;
use grantflow::store::{RecordKey, Stored};
use grantflow::{Error, ErrorKind, Failure};
use keyring_core::{CredentialStore, Entry, Error as KeyringError};
use zeroize::Zeroizing;

use crate::{FileStore, Lease, Store};

/// The most bytes of one entry: Windows takes no more than 2560.
const ENTRY: usize = if cfg!(windows) { 2048 } else { 256 * 1024 };
/// How often to look again if a record is replaced while it is read.
const ROUNDS: u32 = 8;

/// A store that keeps grants in the system's secret service: the Secret Service on Linux (GNOME Keyring, KWallet), the
/// keychain on macOS, the credential manager on Windows.
///
/// Such services have neither locks nor versions: these are in a [`FileStore`] beside the service, whose files hold no
/// secret. A grant is first written as new entries; then the file is replaced, which names them by the version; then
/// the old entries are deleted. A process that is killed in between leaves the old grant or the new one, and maybe
/// entries without a name in the file.
///
/// It never falls back to plain files: without such a service, [`new`](Self::new) is an error.
///
/// ```no_run
/// use grantflow_store::{FileStore, KeyringStore};
///
/// let store = KeyringStore::new("my-program", FileStore::new("/home/me/.local/state/my-program"))?;
/// # drop(store);
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct KeyringStore {
    service: String,
    entries: Arc<CredentialStore>,
    files: FileStore,
    entry: usize,
}

impl KeyringStore {
    /// The secret service of this system. It shows entries to the user as those of `service`, which is the program's
    /// name; locks and versions are in `files`.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Store`] if no service can be reached.
    pub fn new(service: &str, files: FileStore) -> Result<Self, Error> {
        let unreachable = |error: KeyringError| {
            let why = format!("there is no secret service to keep grants in: {error}");
            Error::new(ErrorKind::Store, why).with_source(error)
        };
        Ok(Self::with_entries(service, files, system().map_err(unreachable)?))
    }

    /// Any credential store of [`keyring_core`].
    pub fn with_entries(service: &str, files: FileStore, entries: Arc<CredentialStore>) -> Self {
        Self { service: service.to_owned(), entries, files, entry: ENTRY }
    }

    /// Sets the most bytes of one entry, for a service that takes less than the system's; a grant may need several
    /// entries.
    #[must_use]
    pub fn entry_size(mut self, bytes: usize) -> Self {
        self.entry = bytes.max(1);
        self
    }

    fn entry(&self, key: &RecordKey, version: u64, part: usize) -> Result<Entry, Failure> {
        let name = format!("{}.{version}.{part}", key.name());
        self.entries.build(&self.service, &name, None).map_err(|error| failed(key, &error))
    }

    /// Deletes what nobody names any more. What cannot be deleted stays, and does no harm.
    fn forget(&self, key: &RecordKey, version: u64, from: usize) {
        let delete = |part| self.entry(key, version, part).is_ok_and(|entry| entry.delete_credential().is_ok());
        let _ = (from..).take_while(|&part| delete(part)).last();
    }
}

impl Store for KeyringStore {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        let mut last = None;
        for _ in 0..ROUNDS {
            let Some(Stored { version, value, tags }) = self.files.load(key)? else { return Ok(None) };
            let wrong = |why| {
                let path = self.files.path(key, "grant");
                let why = format!(
                    "the secret service, for {key}: {why}; delete {} to sign in anew",
                    grantflow::Shown::path(&path)
                );
                Failure::not_sent(FailureKind::Store, why)
            };
            let parts = parts(&value).ok_or_else(|| wrong("the file beside it names no entries"))?;
            let read = |part| {
                self.entry(key, version, part)?.get_secret().map_err(|error| match error {
                    KeyringError::NoEntry => wrong("it no longer has the entries that were kept"),
                    error => failed(key, &error),
                })
            };
            let mut value = Zeroizing::new(Vec::with_capacity(parts.saturating_mul(self.entry).min(1 << 19)));
            let result = (0..parts).try_for_each(|part| {
                value.extend_from_slice(&Zeroizing::new(read(part)?));
                Ok(())
            });
            match result {
                Ok(()) => return Ok(Some(Stored { version, value, tags })),
                // Unless it was replaced while we read.
                Err(failure) if last == Some(version) => return Err(failure),
                Err(_) => last = Some(version),
            }
        }
        Err(Failure::not_sent(FailureKind::Timeout, format!("the stored grant {key} keeps changing")))
    }

    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        self.files.change(key, expected, || {
            let mut parts = 0;
            for part in stored.value.chunks(self.entry) {
                let entry = self.entry(key, stored.version, parts)?;
                entry.set_secret(part).map_err(|error| failed(key, &error))?;
                parts += 1;
            }
            let named = Stored::new(stored.version, parts.to_string().into_bytes());
            self.files.replace(key, &named.to_bytes())?;
            self.forget(key, stored.version, parts);
            expected.filter(|&old| old != stored.version).iter().for_each(|&old| self.forget(key, old, 0));
            Ok(())
        })
    }

    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        if self.files.load(key)?.is_none() {
            return Ok(false);
        }
        self.files.change(key, Some(expected), || {
            self.files.remove(key)?;
            self.forget(key, expected, 0);
            Ok(())
        })
    }

    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        self.files.try_lease(key, time)
    }
}

impl fmt::Debug for KeyringStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyringStore").field("files", &self.files).finish()
    }
}

/// How many entries the file names.
fn parts(value: &[u8]) -> Option<usize> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).filter(|&parts| parts <= 1 << 18)
}

fn failed(key: &RecordKey, error: &KeyringError) -> Failure {
    let kind = match error {
        KeyringError::TooLong(..) => FailureKind::TooLarge,
        _ => FailureKind::Store,
    };
    // The errors' own data may hold the secret; what they print does not.
    Failure::not_sent(kind, format!("the secret service, for {key}: {error}"))
}

#[cfg(target_os = "macos")]
fn system() -> Result<Arc<CredentialStore>, KeyringError> {
    Ok(apple_native_keyring_store::keychain::Store::new()?)
}

#[cfg(windows)]
fn system() -> Result<Arc<CredentialStore>, KeyringError> {
    Ok(windows_native_keyring_store::Store::new()?)
}

#[cfg(all(unix, not(target_os = "macos")))]
fn system() -> Result<Arc<CredentialStore>, KeyringError> {
    Ok(zbus_secret_service_keyring_store::Store::new()?)
}
