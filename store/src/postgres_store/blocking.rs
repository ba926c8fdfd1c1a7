//! [`PostgresStore`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use deadpool_postgres::tokio_postgres::Socket;
use deadpool_postgres::tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use grantflow::store::{Page, RecordKey, Stored, Which};
use grantflow::{Error, ErrorKind, Failure};
use tokio::runtime::{Builder, Handle, Runtime};

use super::AsyncPostgresStore;
use super::on_tokio::GiveBack;
use crate::returning::Release;
use crate::{AsyncStore as _, Lease, Store};

/// A store that keeps grants in PostgreSQL, beside the other data of a service. Cheap to clone; clones share
/// connections.
///
/// A program on tokio should use [`AsyncPostgresStore`]. This store has a tokio runtime of its own, which the thread
/// that waits for an answer drives; called from a task, it does so on a thread of its own.
///
/// ```no_run
/// let store = grantflow_store::PostgresStore::new("postgresql://grants@localhost/app")?;
/// # drop(store);
/// # Ok::<(), grantflow::Error>(())
/// ```
///
/// A grant is a row with a version; one statement compares the version and changes the row. A lease is a row beside it
/// with a random owner, which expires by the server's clock after the time asked for, and at least 60 s. All rows are
/// in one table, which [`create_table`](Self::create_table) makes, or a migration of yours:
///
/// ```sql
/// CREATE TABLE IF NOT EXISTS "grantflow" (
///     key         text COLLATE "C" PRIMARY KEY,
///     version     bigint,
///     value       bytea,
///     issuer      text,
///     client_id   text,
///     label       text COLLATE "C",
///     sub         text COLLATE "C",
///     sid         text COLLATE "C",
///     lease_owner bytea,
///     lease_until timestamptz
/// ) WITH (fillfactor = 70);
/// CREATE INDEX IF NOT EXISTS "grantflow_label" ON "grantflow" (label, key) WHERE label IS NOT NULL;
/// CREATE INDEX IF NOT EXISTS "grantflow_sub" ON "grantflow" (sub, key) WHERE sub IS NOT NULL;
/// CREATE INDEX IF NOT EXISTS "grantflow_sid" ON "grantflow" (sid, key) WHERE sid IS NOT NULL;
/// ```
///
/// The user of the database needs `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table. A reader of the table can see
/// labels, `issuer` and `client_id`; `sub` and `sid` are hashes ([`Tags`](grantflow::store::Tags)), and `Sealed`
/// encrypts the value. Leases that killed processes have left can be deleted at any time: `DELETE FROM grantflow WHERE
/// lease_until < now()`.
///
/// When a connection breaks or the server restarts, the operation is tried again for some seconds. If it is not known
/// whether a save was done, the store looks that up.
///
/// # The settings of PostgreSQL
///
/// A save counts when PostgreSQL has confirmed it. Its settings decide what of that is lost when it restarts, loses
/// power or fails over:
///
/// | setting | what is lost |
/// |---|---|
/// | `fsync on`, `synchronous_commit on` or `local` | nothing, on the machine that confirmed |
/// | `synchronous_commit off` | nothing: each save is made as with `on`, whatever the session, user or database says |
/// | `fsync off` | anything, if the power fails |
/// | a replica that takes over, `synchronous_standby_names` empty | what it has not got yet: replication is asynchronous |
/// | a replica that takes over, named in `synchronous_standby_names`, with `synchronous_commit on`, `remote_write` or `remote_apply` | nothing; with `remote_write` the saves of the last moments, if both lose power |
/// | the same, and no replica answers | nothing, and no save is confirmed: each ends with a timeout |
///
/// The consequences of a lost grant, a lost refresh and a lost lease stand [at the crate](crate#what-a-store-may-lose).
///
/// The server's clock decides when leases expire. If it jumps ahead, or a replica's goes wrong, a lease expires early:
/// two processes may send the same refresh token, and a late process overwrites no newer record, since the version does
/// not match.
///
/// # Why these crates
///
/// `tokio-postgres` speaks the protocol in Rust, with TLS of the caller's choice, and lets a statement be sent in one
/// piece; `deadpool-postgres` pools its connections, and many programs have such a pool. `postgres` is the former in a
/// runtime too, and cannot give up a statement that hangs; `sqlx` brings twice the crates, `diesel` a C library.
#[derive(Clone)]
pub struct PostgresStore {
    store: AsyncPostgresStore,
    runtime: Arc<Own>,
}

/// A runtime that may be dropped anywhere.
struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Own {
    fn wait<T: Send>(&self, work: impl Future<Output = T> + Send) -> Option<T> {
        let runtime = self.0.as_ref()?;
        if Handle::try_current().is_err() {
            return Some(runtime.block_on(work));
        }
        // A task may not wait for another runtime on its thread.
        std::thread::scope(|scope| scope.spawn(|| runtime.block_on(work)).join().ok())
    }
}

impl PostgresStore {
    fn of(store: Result<AsyncPostgresStore, Error>) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            Error::new(ErrorKind::Config, format!("the system gives no runtime for PostgreSQL: {error}"))
        })?;
        Ok(Self { store: store?, runtime: Arc::new(Own(Some(runtime))) })
    }

    /// The database at this address, such as `postgres://user:password@localhost/database`, without TLS. No request is
    /// sent yet.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`] if the text is no such address, or leads to another machine without
    /// `sslmode=disable`: see [`with_tls`](Self::with_tls).
    pub fn new(address: &str) -> Result<Self, Error> {
        Self::of(AsyncPostgresStore::new(address))
    }

    /// The database at this address, by TLS: see [`AsyncPostgresStore::with_tls`].
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`] if the text is no such address.
    pub fn with_tls<T>(address: &str, tls: T) -> Result<Self, Error>
    where
        T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
        T::Stream: Sync + Send,
        T::TlsConnect: Sync + Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        Self::of(AsyncPostgresStore::with_tls(address, tls))
    }

    /// The connections of this pool, which nothing else may use: the caller that waits for this store drives them.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`] if the system gives no runtime.
    pub fn with_pool(pool: Pool) -> Result<Self, Error> {
        Self::of(Ok(AsyncPostgresStore::with_pool(pool)))
    }

    /// See [`AsyncPostgresStore::table`].
    #[must_use]
    pub fn table(self, name: &str) -> Self {
        Self { store: self.store.table(name), ..self }
    }

    /// See [`AsyncPostgresStore::connect_timeout`].
    #[must_use]
    pub fn connect_timeout(self, time: Duration) -> Self {
        Self { store: self.store.connect_timeout(time), ..self }
    }

    /// See [`AsyncPostgresStore::response_timeout`].
    #[must_use]
    pub fn response_timeout(self, time: Duration) -> Self {
        Self { store: self.store.response_timeout(time), ..self }
    }

    /// See [`AsyncPostgresStore::table_sql`].
    pub fn table_sql(&self) -> &str {
        self.store.table_sql()
    }

    /// Makes the table, if it is not there. The database user needs the right to create it.
    ///
    /// # Errors
    ///
    /// If the table cannot be made.
    pub fn create_table(&self) -> Result<(), Error> {
        self.wait(async { Ok(self.store.create_table().await) })?
    }

    fn wait<T: Send>(&self, work: impl Future<Output = Result<T, Failure>> + Send) -> Result<T, Failure> {
        self.runtime.wait(work).unwrap_or_else(|| {
            let why = "what waits for PostgreSQL has panicked";
            Err(Failure::maybe_sent(grantflow::machine::FailureKind::Store, why))
        })
    }
}

impl Store for PostgresStore {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        self.wait(self.store.load(key))
    }
    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        self.wait(self.store.save(key, expected, stored))
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.wait(self.store.delete(key, expected))
    }
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        let taken = self.wait(self.store.take_lease(key, time))?;
        let guard = |release| Taken { store: self.clone(), release };
        Ok(taken.map(|(until, release)| Lease::new(Some(until), guard(release))))
    }
    fn list(&self, which: &Which, after: Option<&RecordKey>, most: usize) -> Result<Page, Failure> {
        self.wait(self.store.list(which, after, most))
    }
    fn count(&self, which: &Which) -> Result<u64, Failure> {
        self.wait(self.store.count(which))
    }
}

struct Taken {
    store: PostgresStore,
    release: Arc<Release<GiveBack>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let _ = self.store.runtime.wait(self.store.store.give_back(&self.release));
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}
