//! [`AsyncRedisStore`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use grantflow::Failure;
use grantflow::store::{RecordKey, Stored};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisResult};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{Settings, builder, is_transient, pause, read};
use crate::memory::lock;
use crate::returning::{Release, Returning};
use crate::tries::{Tries, check_size};
use crate::{AsyncStore, Lease};

/// [`RedisStore`](crate::RedisStore) for programs on tokio. It has the same grants and leases under the same keys, so
/// that programs with the one and with the other may share them. What is said there of Redis's settings holds here too.
///
/// Cheap to clone; clones share one connection, which carries many commands at once. TLS comes with feature
/// `tokio-rustls-comp` of crate `redis`. The runtime must have I/O and time enabled.
///
/// ```no_run
/// # fn main_() -> Result<(), grantflow::Error> {
/// use grantflow_store::AsyncRedisStore;
///
/// let store = AsyncRedisStore::new("redis://127.0.0.1:6379")?.prefix("my-program:");
/// // With grantflow-reqwest: transport.with_async_store(store)
/// # let _ = store;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AsyncRedisStore(Arc<Inner>);

struct Inner {
    settings: Settings,
    connection: Mutex<Option<Arc<MultiplexedConnection>>>,
    /// Held while connecting, so that many at once make one connection. The task that holds it may lie on a runtime
    /// that nobody drives: nobody waits for it longer than connecting may take.
    connecting: tokio::sync::Mutex<()>,
    returning: Returning<Cmd>,
}

builder!(AsyncRedisStore);

impl AsyncRedisStore {
    fn of(settings: Settings) -> Self {
        let (connection, connecting, returning) = Default::default();
        Self(Arc::new(Inner { settings, connection, connecting, returning }))
    }
}

impl Inner {
    async fn connection(&self) -> RedisResult<Arc<MultiplexedConnection>> {
        if let Some(connection) = &*lock(&self.connection) {
            return Ok(connection.clone());
        }
        let Settings { client, connect_timeout, response_timeout, .. } = &self.settings;
        let _connecting = timeout(*connect_timeout, self.connecting.lock()).await;
        if let Some(connection) = &*lock(&self.connection) {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(*connect_timeout))
            .set_response_timeout(Some(*response_timeout));
        let new = Arc::new(client.get_multiplexed_async_connection_with_config(&config).await?);
        Ok(lock(&self.connection).insert(new).clone())
    }

    async fn ask_once<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let connection = self.connection().await?;
        let result = command.query_async(&mut MultiplexedConnection::clone(&connection)).await;
        if result.as_ref().is_err_and(is_transient) {
            // Unless another task has a new one by now.
            lock(&self.connection).take_if(|now| Arc::ptr_eq(now, &connection));
        }
        result
    }

    /// Gives a lease back, also while Redis restarts. If that takes too long, the lease ends by itself.
    async fn release(&self, release: &Arc<Release<Cmd>>) {
        let done: Result<u64, Failure> = self.ask(|_| release.command.clone()).await;
        drop(done);
        self.returning.end(release);
    }

    /// Asks until there is an answer, for a while. `command` is told whether it may have been carried out before.
    async fn ask<T: FromRedisValue>(&self, command: impl Fn(bool) -> Cmd) -> Result<T, Failure> {
        let mut tries = Tries::new();
        loop {
            match self.ask_once(&command(tries.again)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tokio::time::sleep(pause(&mut tries, &error)?).await,
            }
        }
    }
}

impl AsyncStore for AsyncRedisStore {
    async fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        read(key, self.0.ask(|_| self.0.settings.load(key)).await?)
    }

    async fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        check_size(stored)?;
        self.0.ask(|again| self.0.settings.save(key, expected, stored, again)).await
    }

    async fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.0.ask(|again| self.0.settings.delete(key, expected, again)).await
    }

    async fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        for lease in self.0.returning.of(key) {
            self.0.release(&lease).await;
        }
        let asked = self.0.settings.ask_lease(key, time)?;
        let release = Arc::new(Release::new(key, asked.release, asked.time));
        let taken: bool = self.0.ask(|_| asked.take.clone()).await?;
        let guard = || Taken { inner: self.0.clone(), release, runtime: Handle::current() };
        Ok(taken.then(|| Lease::new(Some(asked.until), guard())))
    }
}

struct Taken {
    inner: Arc<Inner>,
    release: Arc<Release<Cmd>>,
    runtime: Handle,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let (inner, release) = (self.inner.clone(), self.release.clone());
        inner.returning.begin(release.clone());
        self.runtime.spawn(async move { inner.release(&release).await });
    }
}
