//! [`RedisStore`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use grantflow::store::{RecordKey, Stored};
use grantflow::{Error, Failure};
use redis::{Client, Cmd, Connection, FromRedisValue, RedisResult};

use super::{Found, PATIENCE, PAUSE, Settings, check_size, failure, is_transient, read};
use crate::{Lease, Store};

/// The most connections to keep open.
const MAX_IDLE: usize = 4;

/// Keeps grants in Redis, so that a fleet of machines shares them. Cheap to clone; clones share connections.
///
/// A grant is a hash of `version` and `value`; it is changed by a script that compares the version. A lease is a
/// key beside it with a random owner, taken by `SET NX PX`, which ends by itself after the time asked for and no
/// less than 60 s.
///
/// When the connection breaks or Redis restarts, it is tried again for some seconds. If it is not known whether a
/// save was done, that is found out by comparing.
///
/// # What Redis must be told
///
/// A server that rotates refresh tokens has forgotten the old one when the new one is saved: if Redis then loses
/// the new one, somebody must sign in again. So:
///
/// - `appendonly yes` and `appendfsync always`. With `everysec`, a loss of power loses up to two seconds of saves;
///   without an append-only file, a restart loses all since the last snapshot.
/// - `maxmemory-policy noeviction`, or Redis drops grants when memory is short. They have no time to live.
/// - Replication is asynchronous: a failover loses what the new primary has not got, grants and leases. Use one
///   instance that is durable by itself, or accept that.
/// - Whoever lost a lease, by its end or with Redis's memory, never overwrites what is newer: the version does not
///   match. But two may then send the same refresh token.
/// - What is kept is not encrypted. Give the program a user of its own (ACL) with rights to its prefix:
///   `+hmget +hget +hset +exists +del +get +set +eval`; and TLS (`rediss://`, with a feature of crate `redis` for
///   it) on any network but loopback.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    settings: Settings,
    idle: Mutex<Vec<Connection>>,
}

impl RedisStore {
    /// The Redis at this address, such as `redis://user:password@host:6379/0`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`](grantflow::ErrorKind::Config) if it is no such address.
    pub fn new(address: &str) -> Result<Self, Error> {
        Settings::open(address).map(Self::of)
    }

    /// The Redis of this client, for what no address can say, such as certificates.
    pub fn with_client(client: Client) -> Self {
        Self::of(Settings::new(client))
    }

    fn of(settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, idle: Mutex::default() }))
    }

    /// What all keys begin with; `grantflow:` unless told.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        Self::of(Settings { prefix: prefix.to_owned(), ..self.0.settings.clone() })
    }

    /// The time to connect and sign in at Redis; 3 s unless told.
    #[must_use]
    pub fn connect_timeout(self, time: Duration) -> Self {
        Self::of(Settings { connect_timeout: time, ..self.0.settings.clone() })
    }

    /// The time for one answer; 3 s unless told.
    #[must_use]
    pub fn response_timeout(self, time: Duration) -> Self {
        Self::of(Settings { response_timeout: time, ..self.0.settings.clone() })
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) -> RedisResult<Connection> {
        let Settings { client, connect_timeout, response_timeout, .. } = &self.settings;
        let connection = client.get_connection_with_timeout(*connect_timeout)?;
        connection.set_read_timeout(Some(*response_timeout))?;
        connection.set_write_timeout(Some(*response_timeout))?;
        Ok(connection)
    }

    fn ask_once<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let idle = self.idle().pop();
        let mut connection = idle.map_or_else(|| self.connect(), Ok)?;
        let result = command.query(&mut connection);
        let mut idle = self.idle();
        match &result {
            // The others have most likely broken too.
            Err(error) if error.is_io_error() => idle.clear(),
            _ if idle.len() < MAX_IDLE => idle.push(connection),
            _ => {}
        }
        result
    }

    /// Asks until there is an answer, for a while. `command` is told whether it may have been carried out before.
    fn ask<T: FromRedisValue>(&self, command: impl Fn(bool) -> Cmd) -> Result<T, Failure> {
        let start = Instant::now();
        let mut again = false;
        loop {
            match self.ask_once(&command(again)) {
                Ok(answer) => return Ok(answer),
                // Twice at least: a process that was suspended finds all its patience gone.
                Err(error) if is_transient(&error) && (!again || start.elapsed() < PATIENCE) => {
                    if again {
                        std::thread::sleep(PAUSE);
                    }
                    again = true;
                }
                Err(error) => return Err(failure(&error)),
            }
        }
    }
}

impl Store for RedisStore {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        let found: Found = self.0.ask(|_| self.0.settings.load(key))?;
        read(key, found)
    }

    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        check_size(stored)?;
        self.0.ask(|again| self.0.settings.save(key, expected, stored, again))
    }

    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.0.ask(|again| self.0.settings.delete(key, expected, again))
    }

    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        let asked = self.0.settings.ask_lease(key, time);
        let taken: bool = self.0.ask(|_| asked.take.clone())?;
        let guard = || Taken { inner: self.0.clone(), release: asked.release };
        Ok(taken.then(|| Lease::new(Some(asked.until), guard())))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("prefix", &self.0.settings.prefix).finish_non_exhaustive()
    }
}

struct Taken {
    inner: Arc<Inner>,
    release: Cmd,
}

impl Drop for Taken {
    fn drop(&mut self) {
        // If it fails, the lease ends by itself.
        let _: RedisResult<u64> = self.inner.ask_once(&self.release);
    }
}
