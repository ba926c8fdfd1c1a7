//! [`RedisStore`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use grantflow::Failure;
use grantflow::store::{RecordKey, Stored};
use redis::{Cmd, Connection, FromRedisValue, RedisResult};

use super::{Settings, builder, is_transient, pause, read};
use crate::memory::lock;
use crate::tries::{Tries, check_size};
use crate::{Lease, Store};

/// The most connections to keep open.
const MAX_IDLE: usize = 4;

/// A store that keeps grants in Redis, so that a fleet of machines shares them. Cheap to clone; clones share
/// connections.
///
/// A program on tokio should use `AsyncRedisStore` (feature `redis-tokio`). If a run is dropped in the middle, this
/// store gives its lease back at once, and waits for Redis there.
///
/// A grant is a hash of `version` and `value`; a script compares the version and changes the hash. A lease is a key
/// beside it with a random owner, taken by `SET NX PX`. It expires by itself after the time asked for, and at least 60
/// s.
///
/// When the connection breaks or Redis restarts, the operation is tried again for some seconds. If it is not known
/// whether a save was done, the store finds out by comparing.
///
/// # The settings of Redis
///
/// A save counts when Redis has confirmed it. Its settings decide what of that is lost when it restarts, loses power or
/// fails over:
///
/// | setting | what is lost |
/// |---|---|
/// | `appendonly yes`, `appendfsync always`, `no-appendfsync-on-rewrite no` | nothing |
/// | `appendonly yes`, `appendfsync everysec` | the saves of the last two seconds, if the power fails |
/// | `appendonly no` | all saves since the last snapshot |
/// | replicas that take over (Sentinel, Cluster) | what they have not got yet, however durable each is: replication is asynchronous, and `min-replicas-to-write` makes the loss smaller, not impossible |
/// | a `maxmemory-policy` other than `noeviction` | any grant, when memory is short: they have no time to live |
///
/// The consequences of a lost grant, a lost refresh and a lost lease stand [at the crate](crate#what-a-store-may-lose).
/// So choose the first line of the table, `noeviction`, and one instance that is durable by itself rather than a
/// failover, unless you accept that a user may have to sign in again after one.
///
/// Records are not encrypted. Give the program a Redis user of its own (ACL) with rights to its prefix: `+hmget +hget
/// +hset +exists +del +get +set +eval`; and TLS (`rediss://`, with a feature of crate `redis` for it, such as
/// `tls-rustls`) on any network but loopback.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    settings: Settings,
    idle: Mutex<Vec<Connection>>,
}

builder!(RedisStore);

impl RedisStore {
    fn of(settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, idle: Mutex::default() }))
    }
}

impl Inner {
    fn connect(&self) -> RedisResult<Connection> {
        let Settings { client, connect_timeout, response_timeout, .. } = &self.settings;
        let connection = client.get_connection_with_timeout(*connect_timeout)?;
        connection.set_read_timeout(Some(*response_timeout))?;
        connection.set_write_timeout(Some(*response_timeout))?;
        Ok(connection)
    }

    fn ask_once<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let idle = lock(&self.idle).pop();
        let mut connection = idle.map_or_else(|| self.connect(), Ok)?;
        let result = command.query(&mut connection);
        let mut idle = lock(&self.idle);
        match &result {
            // The others have most likely broken too.
            Err(error) if is_transient(error) => idle.clear(),
            _ if idle.len() < MAX_IDLE => idle.push(connection),
            _ => {}
        }
        result
    }

    /// Asks until there is an answer, for a while. `command` is told whether it may have been carried out before.
    fn ask<T: FromRedisValue>(&self, command: impl Fn(bool) -> Cmd) -> Result<T, Failure> {
        let mut tries = Tries::new();
        loop {
            match self.ask_once(&command(tries.again)) {
                Ok(answer) => return Ok(answer),
                Err(error) => std::thread::sleep(pause(&mut tries, &error)?),
            }
        }
    }
}

impl Store for RedisStore {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        read(key, self.0.ask(|_| self.0.settings.load(key))?)
    }

    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        check_size(stored)?;
        self.0.ask(|again| self.0.settings.save(key, expected, stored, again))
    }

    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.0.ask(|again| self.0.settings.delete(key, expected, again))
    }

    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        let asked = self.0.settings.ask_lease(key, time)?;
        let taken: bool = self.0.ask(|_| asked.take.clone())?;
        let guard = || Taken { inner: self.0.clone(), release: asked.release };
        Ok(taken.then(|| Lease::new(Some(asked.until), guard())))
    }
}

struct Taken {
    inner: Arc<Inner>,
    release: Cmd,
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Others wait for it, also while Redis restarts. If that takes too long, the lease ends by itself.
        let _: Result<u64, Failure> = self.inner.ask(|_| self.release.clone());
    }
}
