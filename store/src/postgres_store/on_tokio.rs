//! [`AsyncPostgresStore`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use deadpool_postgres::tokio_postgres::types::{ToSql, Type};
use deadpool_postgres::tokio_postgres::{Config, NoTls, Row, Socket};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use grantflow::machine::FailureKind;
use grantflow::store::{Page, RecordKey, Stored, Which};
use grantflow::{Error, ErrorKind, Failure, Timestamp};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::statements::{Statements, check_label, escaped, key, number, pattern, stored};
use super::{Trouble, config};
use crate::returning::{Release, Returning};
use crate::tries::{SHORTEST_LEASE, Tries, check_size, owner, until};
use crate::{AsyncStore, Lease};

/// How many connections a store opens that makes its own.
const CONNECTIONS: usize = 8;

/// A statement's parameters with their types: it is sent in one piece, without being prepared before, so that it needs
/// one round trip and no state in the session, which a pooler such as PgBouncer may hand to others.
type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];
/// What gives a lease back: its name and its owner.
pub(super) type GiveBack = (String, Vec<u8>);

/// [`PostgresStore`](crate::PostgresStore) for programs on tokio. It uses the same table, so that programs with the one
/// and with the other may share it, and all that is said there holds here too.
///
/// Cheap to clone; clones share connections. The runtime must have I/O and time enabled.
///
/// ```no_run
/// # async fn main_() -> Result<(), grantflow::Error> {
/// use grantflow_store::AsyncPostgresStore;
///
/// let store = AsyncPostgresStore::new("postgres://app:password@localhost/app")?;
/// store.create_table().await?;
/// // With grantflow-reqwest: transport.with_async_store(store)
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AsyncPostgresStore(Arc<Inner>);

struct Inner {
    pool: Pool,
    statements: Arc<Statements>,
    connect_timeout: Duration,
    response_timeout: Duration,
    returning: Returning<GiveBack>,
}

impl AsyncPostgresStore {
    /// The database at this address, such as `postgres://user:password@localhost/database`, without TLS. No request is
    /// sent yet.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`] if the text is no such address, or leads to another machine without
    /// `sslmode=disable`: see [`with_tls`](Self::with_tls).
    pub fn new(address: &str) -> Result<Self, Error> {
        Self::connecting(config(address, false)?, NoTls)
    }

    /// The database at this address, over TLS by a crate of the program's choice, such as `tokio-postgres-rustls`.
    /// Other machines are reached in no other way, unless the address says `sslmode=disable`.
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
        Self::connecting(config(address, true)?, tls)
    }

    fn connecting<T>(config: Config, tls: T) -> Result<Self, Error>
    where
        T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
        T::Stream: Sync + Send,
        T::TlsConnect: Sync + Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(config, tls, manager)).max_size(CONNECTIONS).build();
        let wrong = |_| Error::new(ErrorKind::Config, "a pool of connections to PostgreSQL cannot be made");
        Ok(Self::with_pool(pool.map_err(wrong)?))
    }

    /// The connections of this pool, which the program may use for other things too.
    ///
    /// Each connection must lead to a server that may be written to. When one breaks, the idle ones are closed.
    pub fn with_pool(pool: Pool) -> Self {
        let time = Duration::from_secs(3);
        Self(Arc::new(Inner {
            pool,
            statements: Arc::new(Statements::new("grantflow")),
            connect_timeout: time,
            response_timeout: time,
            returning: Returning::default(),
        }))
    }

    fn with(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let Inner { pool, statements, connect_timeout, response_timeout, .. } = &*self.0;
        let mut inner = Inner {
            pool: pool.clone(),
            statements: statements.clone(),
            connect_timeout: *connect_timeout,
            response_timeout: *response_timeout,
            returning: Returning::default(),
        };
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// Sets the table, with its schema as in `auth.grants` if that is not the first of the `search_path`; `grantflow`
    /// by default.
    #[must_use]
    pub fn table(self, name: &str) -> Self {
        self.with(|inner| inner.statements = Arc::new(Statements::new(name)))
    }

    /// Sets the time to get a connection, from the pool or a new one; 3 s by default.
    #[must_use]
    pub fn connect_timeout(self, time: Duration) -> Self {
        self.with(|inner| inner.connect_timeout = time)
    }

    /// Sets the time for one answer; 3 s by default.
    #[must_use]
    pub fn response_timeout(self, time: Duration) -> Self {
        self.with(|inner| inner.response_timeout = time)
    }

    /// The SQL that makes the table and its indexes, for a migration.
    pub fn table_sql(&self) -> &str {
        &self.0.statements.create
    }

    /// Makes the table, if it is not there. The database user needs the right to create it.
    ///
    /// # Errors
    ///
    /// If the table cannot be made.
    pub async fn create_table(&self) -> Result<(), Error> {
        // Of several processes that begin at once, one after another: or else some of them fail.
        let sql = format!("SELECT pg_advisory_xact_lock(7236475903);\n{}", self.0.statements.create);
        let client = self.0.connection().await.map_err(|trouble| trouble.failure(false))?;
        match timeout(self.0.response_timeout, client.batch_execute(&sql)).await {
            Ok(made) => made.map_err(|error| Trouble::Asking(error).failure(false).into()),
            Err(_) => {
                drop(Object::take(client));
                Err(Trouble::NoAnswer.failure(false).into())
            }
        }
    }

    /// What [`AsyncStore::try_lease`] does, without its guard.
    pub(super) async fn take_lease(
        &self,
        key: &RecordKey,
        time: Duration,
    ) -> Result<Option<(Timestamp, Arc<Release<GiveBack>>)>, Failure> {
        for lease in self.0.returning.of(key) {
            self.give_back(&lease).await;
        }
        let time = time.max(SHORTEST_LEASE);
        let (name, owner) = (format!("{}:lease", key.name()), owner()?.to_be_bytes().to_vec());
        let (until, millis) = (until(time), i64::try_from(time.as_millis()).unwrap_or(i64::MAX >> 20));
        let release = Arc::new(Release::new(key, (name.clone(), owner.clone()), time));
        let parameters: Parameters<'_> = &[(&name, Type::TEXT), (&owner, Type::BYTEA), (&millis, Type::INT8)];
        // An earlier try may have got it, which counts.
        let (taken, _) = self.0.change(&self.0.statements.lease, parameters).await?;
        Ok(taken.then_some((until, release)))
    }

    /// Gives a lease back, also while the server restarts. If that takes too long, the lease ends by itself.
    pub(super) async fn give_back(&self, release: &Arc<Release<GiveBack>>) {
        let (name, owner) = &release.command;
        let parameters: Parameters<'_> = &[(name, Type::TEXT), (owner, Type::BYTEA)];
        drop(self.0.rows(&self.0.statements.release, parameters).await);
        self.0.returning.end(release);
    }
}

impl Inner {
    async fn connection(&self) -> Result<Object, Trouble> {
        let connecting = timeout(self.connect_timeout, self.pool.get()).await;
        connecting.map_err(|_| Trouble::NoConnection)?.map_err(Trouble::of_pool)
    }

    async fn ask_once(&self, statement: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, Trouble> {
        let client = self.connection().await?;
        let asking = timeout(self.response_timeout, client.query_typed(statement, parameters)).await;
        let result = asking.map_or(Err(Trouble::NoAnswer), |answer| answer.map_err(Trouble::Asking));
        if result.as_ref().is_err_and(Trouble::is_transient) {
            // The others have most likely broken too.
            drop(Object::take(client));
            self.pool.retain(|_, _| false);
        }
        result
    }

    /// Asks until there is an answer, for a while: rows, and whether an earlier try may have been carried out.
    async fn ask(&self, statement: &str, parameters: Parameters<'_>) -> Result<(Vec<Row>, bool), Failure> {
        let mut tries = Tries::new();
        loop {
            let trouble = match self.ask_once(statement, parameters).await {
                Ok(rows) => return Ok((rows, tries.again)),
                Err(trouble) => trouble,
            };
            let again = tries.again;
            match tries.pause().filter(|_| trouble.is_transient()) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(trouble.failure(again)),
            }
        }
    }

    async fn rows(&self, statement: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, Failure> {
        Ok(self.ask(statement, parameters).await?.0)
    }

    /// Changes a row: whether it did, and whether an earlier try may have done so.
    async fn change(&self, statement: &str, parameters: Parameters<'_>) -> Result<(bool, bool), Failure> {
        let (rows, again) = self.ask(statement, parameters).await?;
        Ok((!rows.is_empty(), again))
    }

    async fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        let rows = self.rows(&self.statements.load, &[(&key.name(), Type::TEXT)]).await?;
        rows.first().map(|row| stored(key, row)).transpose()
    }
}

impl AsyncStore for AsyncPostgresStore {
    async fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        self.0.load(key).await
    }

    async fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        check_size(stored)?;
        check_label(key)?;
        let (name, version, value) = (key.name(), number(stored.version)?, &stored.value[..]);
        let (sub, sid) = (&stored.tags.sub, &stored.tags.sid);
        let what: [(&(dyn ToSql + Sync), Type); 5] =
            [(&name, Type::TEXT), (&version, Type::INT8), (&value, Type::BYTEA), (sub, Type::TEXT), (sid, Type::TEXT)];
        let (changed, again) = match expected {
            // It cannot have been saved.
            Some(expected) if i64::try_from(expected).is_err() => return Ok(false),
            Some(expected) => {
                let expected = number(expected)?;
                let parameters = [&what[..], &[(&expected, Type::INT8)]].concat();
                self.0.change(&self.0.statements.update, &parameters).await?
            }
            None => {
                let (issuer, client, label) =
                    (escaped(key.issuer().as_str()), escaped(key.client_id()), escaped(key.label()));
                let whose: [(&(dyn ToSql + Sync), Type); 3] =
                    [(&issuer, Type::TEXT), (&client, Type::TEXT), (&label, Type::TEXT)];
                self.0.change(&self.0.statements.insert, &[&what[..], &whose].concat()).await?
            }
        };
        if changed || !again {
            return Ok(changed);
        }
        // An earlier try, whose answer was lost, may have done it.
        let found = self.0.load(key).await?;
        Ok(found.is_some_and(|found| found.version == stored.version && found.value == stored.value))
    }

    async fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        let Ok(expected) = number(expected) else { return Ok(false) };
        let parameters: Parameters<'_> = &[(&key.name(), Type::TEXT), (&expected, Type::INT8)];
        let (changed, again) = self.0.change(&self.0.statements.delete, parameters).await?;
        Ok(changed || (again && self.0.load(key).await?.is_none()))
    }

    async fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        let taken = self.take_lease(key, time).await?;
        let guard = |release| Taken { store: self.clone(), release, runtime: Handle::current() };
        Ok(taken.map(|(until, release)| Lease::new(Some(until), guard(release))))
    }

    async fn list(&self, which: &Which, after: Option<&RecordKey>, most: usize) -> Result<Page, Failure> {
        let Asked { statements: [list, _], begin, pattern } = self.0.asked(which)?;
        let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
        let after_label = after.map(|key| escaped(key.label())).unwrap_or_default();
        let after = after.map(RecordKey::name).unwrap_or_default();
        let rows = match &pattern {
            Some(pattern) => {
                let parameters: Parameters<'_> = &[
                    (&begin, Type::TEXT),
                    (pattern, Type::TEXT),
                    (&after_label, Type::TEXT),
                    (&after, Type::TEXT),
                    (&limit, Type::INT8),
                ];
                self.0.rows(list, parameters).await?
            }
            None => self.0.rows(list, &[(&begin, Type::TEXT), (&after, Type::TEXT), (&limit, Type::INT8)]).await?,
        };
        let keys = rows.iter().take(most).map(key).collect::<Result<_, _>>()?;
        Ok(Page { keys, more: rows.len() > most })
    }

    async fn count(&self, which: &Which) -> Result<u64, Failure> {
        let Asked { statements: [_, count], begin, pattern } = self.0.asked(which)?;
        let rows = match &pattern {
            Some(pattern) => self.0.rows(count, &[(&begin, Type::TEXT), (pattern, Type::TEXT)]).await?,
            None => self.0.rows(count, &[(&begin, Type::TEXT)]).await?,
        };
        let count: Option<i64> = rows.first().and_then(|row| row.try_get(0).ok());
        let wrong = || Failure::not_sent(FailureKind::Store, "PostgreSQL does not count");
        count.and_then(|count| u64::try_from(count).ok()).ok_or_else(wrong)
    }
}

/// The statements to list and to count, and what they ask for.
struct Asked<'a> {
    statements: [&'a str; 2],
    begin: String,
    pattern: Option<String>,
}

impl Inner {
    fn asked(&self, which: &Which) -> Result<Asked<'_>, Failure> {
        let (i, begin, pattern) = match which {
            Which::Label(prefix) => (0, escaped(prefix), Some(pattern(prefix))),
            Which::Subject(name) => (1, name.clone(), None),
            Which::Session(name) => (2, name.clone(), None),
            _ => return Err(crate::cannot_list()),
        };
        Ok(Asked { statements: [&self.statements.list[i], &self.statements.count[i]], begin, pattern })
    }
}

struct Taken {
    store: AsyncPostgresStore,
    release: Arc<Release<GiveBack>>,
    runtime: Handle,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let (store, release) = (self.store.clone(), self.release.clone());
        store.0.returning.begin(release.clone());
        self.runtime.spawn(async move { store.give_back(&release).await });
    }
}

impl fmt::Debug for AsyncPostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncPostgresStore").finish_non_exhaustive()
    }
}
