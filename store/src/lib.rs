//! Stores for the grants of [`grantflow`]: a person need not sign in again, and many processes share one refresh token
//! without using it twice.
//!
//! An adapter's `Transport::with_store` binds a transport to one of these stores. The features that some of them need
//! are this crate's: name it beside the adapter.
//!
//! | store | shared by | keeps away others until |
//! |---|---|---|
//! | [`MemoryStore`] | the threads of a process | the lease is given back |
//! | [`FileStore`] | the processes of a user on one machine | the lease is given back, or the process ends |
//! | `KeyringStore` (feature `keyring`) | the processes of a user on one machine | the same |
//! | `RedisStore` (feature `redis`), `AsyncRedisStore` (feature `redis-tokio`) | any machines | the lease is given back, or has run out |
//! | `PostgresStore`, `AsyncPostgresStore` (feature `postgres`) | any machines | the same |
//!
//! Your own store has four methods: see [`Store`], or [`AsyncStore`], and try it with [`conformance::check`].
//! [`MemoryStore`] and those in PostgreSQL also list and count grants, by label, person and session. [`Sealed`]
//! encrypts the records of any store.
//!
//! ```
//! use grantflow::{Client, Issuer};
//! use grantflow::store::{RecordKey, Stored};
//! use grantflow_store::{MemoryStore, Store as _};
//!
//! let store = MemoryStore::new();
//! let key = RecordKey::new(&Issuer::new("https://as.example")?, &Client::new("my-app"), "alice");
//! let stored = Stored::new(1, b"a grant");
//! assert!(store.save(&key, None, &stored)?);
//! assert!(!store.save(&key, None, &stored)?, "something lies there already");
//! # Ok::<(), grantflow::Error>(())
//! ```
//!
//! `load_or_sign_in` of the adapters does all that an installed application needs. A service for many people keeps the
//! grant of each of them, and any of its processes uses it:
//!
//! ```no_run
//! use grantflow::source::Want;
//! use grantflow::store::{RecordKey, SaveGrant, SharedGrant};
//! use grantflow::{Client, Error, ServerMetadata, Token};
//! use grantflow_ureq::{TokenManager, Transport};
//!
//! // The transport is bound to a store; the token is what Alice's sign-in brought.
//! fn keep(transport: &Transport, server: &ServerMetadata, client: &Client, token: &Token) -> Result<(), Error> {
//!     let key = RecordKey::new(server.issuer(), client, "alice");
//!     transport.run(SaveGrant::new(key, Want::default(), token))
//! }
//!
//! fn tokens(transport: &Transport, server: &ServerMetadata, client: &Client) -> TokenManager {
//!     let key = RecordKey::new(server.issuer(), client, "alice");
//!     TokenManager::new(transport, SharedGrant::new(key, server, client), Want::default())
//! }
//! ```
//!
//! # What a store may lose
//!
//! A store that many machines share confirms what its settings make durable; `RedisStore` and `PostgresStore` say what
//! each setting means. If a record is lost all the same:
//!
//! - **A lost grant** that was new: the person signs in again.
//! - **A lost refresh**, at a server that replaces refresh tokens: the store has the token before, whose use may end
//!   the whole grant; the person then signs in again. At a server that keeps them, such as Google, it costs nothing.
//! - **A lost lease**: two processes may send the same refresh token. A late process overwrites no newer record, since
//!   the version does not match.
//!
//! # Crates
//!
//! The number of crates that each feature adds to those that this one needs anyway, on Linux:
//!
//! | feature | crates |
//! |---|---|
//! | `redis` | 6 |
//! | `redis-tokio` | 19 |
//! | `postgres` | 47, of which a program on tokio has about twenty anyway |
//! | `keyring` | 79 |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod awaited;
pub mod conformance;
mod file;
#[cfg(feature = "keyring")]
mod keyring_store;
mod memory;
mod perform;
#[cfg(feature = "postgres")]
mod postgres_store;
#[cfg(feature = "redis")]
mod redis_store;
#[cfg(any(feature = "postgres", feature = "redis-tokio"))]
mod returning;
mod sealed;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod tries;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use grantflow::machine::FailureKind;
use grantflow::store::{Page, RecordKey, Stored, Which};
use grantflow::{Failure, Timestamp};

pub use awaited::{AsyncStore, Awaited, Work};
#[cfg(feature = "postgres")]
pub use deadpool_postgres::{self, tokio_postgres};
pub use file::{FileStore, read_private, write_private};
pub use grantflow;
#[cfg(feature = "keyring")]
pub use keyring_core;
#[cfg(feature = "keyring")]
pub use keyring_store::KeyringStore;
pub use memory::MemoryStore;
pub use perform::{Held, perform};
#[cfg(feature = "postgres")]
pub use postgres_store::{AsyncPostgresStore, PostgresStore};
#[cfg(feature = "redis")]
pub use redis;
#[cfg(feature = "redis-tokio")]
pub use redis_store::AsyncRedisStore;
#[cfg(feature = "redis")]
pub use redis_store::RedisStore;
pub use sealed::{Envelope, KeyService, Keys, OwnKeys, Sealed};

/// A place where grants are kept, for blocking programs. Good for any number of threads at once.
///
/// A change is made only if the version that the caller has seen still lies there, whatever other process changes it,
/// with a lease or without. A lease keeps others from beginning; the version keeps those who were late from
/// overwriting what is newer.
///
/// A [`Failure`] is of [kind](grantflow::machine::FailureKind) `Connect`, `Broken` or `Timeout` if the same may well
/// succeed later, and `TooLarge` if there is no room for so many bytes: the access tokens in a record then give way, so that
/// the refresh token is kept. Else it is of kind `Store`. Where there is room for one text only, [`Stored::to_bytes`] makes one of
/// version and value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no store",
    note = "a directory of files is `FileStore::new(path)`",
    note = "a store whose methods are async is given to `with_async_store`, or becomes one by `Awaited`"
)]
pub trait Store: Send + Sync {
    /// Reads the record under the key, if there is one.
    ///
    /// # Errors
    ///
    /// If the record cannot be read, or is damaged. That is not the same as no record: it is never overwritten unseen.
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure>;

    /// Writes the record under the key if the one there has this version, or if there is none and `expected` is `None`.
    /// Then it returns `true`, and the record stays, even if the power fails. `false`: nothing was changed.
    ///
    /// # Errors
    ///
    /// If the record cannot be written, or it is unknown whether it was.
    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure>;

    /// Deletes the record under the key if it has this version; otherwise it returns `false`.
    ///
    /// # Errors
    ///
    /// If the record cannot be deleted, or it is unknown whether it was.
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure>;

    /// Tries, without waiting, to be the only process that works on the key; `None` if another process does. A lease
    /// that expires by itself must hold for at least `time`.
    ///
    /// # Errors
    ///
    /// If it cannot be known whether another process works on the key.
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure>;

    /// Lists at most this many of these grants: those after `after`, in an order of the store's own. A grant that
    /// changes meanwhile may be in the list or not.
    ///
    /// # Errors
    ///
    /// Of kind `Unsupported` if this store cannot list, as by default.
    fn list(&self, which: &Which, after: Option<&RecordKey>, most: usize) -> Result<Page, Failure> {
        let _ = (which, after, most);
        Err(cannot_list())
    }

    /// Counts these grants.
    ///
    /// # Errors
    ///
    /// Of kind `Unsupported` if this store cannot count, as by default.
    fn count(&self, which: &Which) -> Result<u64, Failure> {
        let _ = which;
        Err(cannot_list())
    }
}

fn cannot_list() -> Failure {
    Failure::not_sent(FailureKind::Unsupported, "this store cannot list what it keeps")
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        (**self).load(key)
    }
    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        (**self).save(key, expected, stored)
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        (**self).delete(key, expected)
    }
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        (**self).try_lease(key, time)
    }
    fn list(&self, which: &Which, after: Option<&RecordKey>, most: usize) -> Result<Page, Failure> {
        (**self).list(which, after, most)
    }
    fn count(&self, which: &Which) -> Result<u64, Failure> {
        (**self).count(which)
    }
}

/// The right to be the only process that works on a key. Dropping it gives it back.
#[must_use = "a lease is given back when it is dropped"]
pub struct Lease {
    until: Option<Timestamp>,
    _guard: Box<dyn Send>,
}

impl Lease {
    /// A lease that expires by itself at `until`, if that is set, and that dropping `guard` gives back.
    pub fn new(until: Option<Timestamp>, guard: impl Send + 'static) -> Self {
        Self { until, _guard: Box::new(guard) }
    }

    /// When the lease expires by itself, if it does.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("until", &self.until).finish_non_exhaustive()
    }
}
