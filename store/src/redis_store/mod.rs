//! Grants kept in Redis.

mod blocking;
#[cfg(feature = "redis-tokio")]
mod on_tokio;

use std::time::Duration;

use grantflow::machine::FailureKind;
use grantflow::store::{MAX_RECORD, RecordKey, Stored};
use grantflow::{Error, ErrorKind, Failure, Timestamp};
use redis::{Client, Cmd, ErrorKind as Kind, RedisError, ServerErrorKind};

use crate::tries::{SHORTEST_LEASE, Tries, owner, until};

pub use blocking::RedisStore;
#[cfg(feature = "redis-tokio")]
pub use on_tokio::AsyncRedisStore;

/// Writes version and value if the version is ARGV[1], or if nothing is there and that is empty. A try that is
/// not the first also counts as done if what is there is what was to be written.
const SAVE: &str = "
local found = redis.call('HMGET', KEYS[1], 'version', 'value')
local same = found[1] == ARGV[1] or (ARGV[1] == '' and redis.call('EXISTS', KEYS[1]) == 0)
if same then redis.call('HSET', KEYS[1], 'version', ARGV[2], 'value', ARGV[3]) end
return (same or (ARGV[4] == 'again' and found[1] == ARGV[2] and found[2] == ARGV[3])) and 1 or 0";

/// Deletes if the version is ARGV[1]. A try that is not the first also counts as done if nothing is there.
const DELETE: &str = "
local version = redis.call('HGET', KEYS[1], 'version')
if version == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return (ARGV[2] == 'again' and not version) and 1 or 0";

/// Takes the lease for owner ARGV[1], for ARGV[2] milliseconds. An earlier try may have got it.
const LEASE: &str = "
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0";

/// Gives the lease of owner ARGV[1] back. It may have ended, and be another's by now.
const RELEASE: &str = "
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0";

/// How a store is made and shown. It is a pair of parentheses around an `Arc` of what has `settings`.
macro_rules! builder {
    ($store:ident) => {
        impl $store {
            /// The Redis at this address, such as `redis://user:password@host:6379/0`. No request is sent yet.
            ///
            /// # Errors
            ///
            /// Of kind [`ErrorKind::Config`](grantflow::ErrorKind::Config) if the text is no such address.
            pub fn new(address: &str) -> Result<Self, grantflow::Error> {
                Settings::open(address).map(Self::of)
            }

            /// The Redis of this client, for settings that no address holds, such as certificates.
            pub fn with_client(client: redis::Client) -> Self {
                Self::of(Settings::new(client))
            }

            /// Sets the prefix of all keys; `grantflow:` by default.
            #[must_use]
            pub fn prefix(self, prefix: &str) -> Self {
                Self::of(Settings { prefix: prefix.to_owned(), ..self.0.settings.clone() })
            }

            /// Sets the time to connect and sign in at Redis; 3 s by default.
            #[must_use]
            pub fn connect_timeout(self, time: Duration) -> Self {
                Self::of(Settings { connect_timeout: time, ..self.0.settings.clone() })
            }

            /// Sets the time for one answer; 3 s by default.
            #[must_use]
            pub fn response_timeout(self, time: Duration) -> Self {
                Self::of(Settings { response_timeout: time, ..self.0.settings.clone() })
            }
        }

        impl std::fmt::Debug for $store {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($store)).finish_non_exhaustive()
            }
        }
    };
}
use builder;

/// How to talk to Redis.
#[derive(Clone)]
struct Settings {
    client: Client,
    prefix: String,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl Settings {
    fn open(address: &str) -> Result<Self, Error> {
        let wrong = |error: RedisError| {
            // The address may hold a password: it is not shown.
            let why = error.category();
            let such = "such as redis://host:6379/0; rediss:// needs a feature of crate redis for TLS";
            Error::new(ErrorKind::Config, format!("the address of Redis cannot be used: {why} ({such})"))
        };
        Ok(Self::new(Client::open(address).map_err(wrong)?))
    }

    fn new(client: Client) -> Self {
        Self {
            client,
            prefix: "grantflow:".to_owned(),
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(3),
        }
    }

    fn record(&self, key: &RecordKey) -> String {
        format!("{}{}", self.prefix, key.name())
    }

    fn load(&self, key: &RecordKey) -> Cmd {
        let mut command = redis::cmd("HMGET");
        command.arg(self.record(key)).arg("version").arg("value");
        command
    }

    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored, again: bool) -> Cmd {
        let mut command = script(SAVE, &self.record(key));
        command.arg(expected.map(|version| version.to_string()).unwrap_or_default());
        command.arg(stored.version.to_string()).arg(&stored.value[..]).arg(word(again));
        command
    }

    fn delete(&self, key: &RecordKey, expected: u64, again: bool) -> Cmd {
        let mut command = script(DELETE, &self.record(key));
        command.arg(expected.to_string()).arg(word(again));
        command
    }

    fn ask_lease(&self, key: &RecordKey, time: Duration) -> Result<LeaseAsked, Failure> {
        let time = time.max(SHORTEST_LEASE);
        let name = format!("{}:lease", self.record(key));
        let owner = format!("{:032x}", owner()?);
        let mut take = script(LEASE, &name);
        take.arg(&owner).arg(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let mut release = script(RELEASE, &name);
        release.arg(&owner);
        let until = until(time);
        Ok(LeaseAsked {
            take,
            release,
            #[cfg(feature = "redis-tokio")]
            time,
            until,
        })
    }
}

struct LeaseAsked {
    take: Cmd,
    release: Cmd,
    /// How long it lasts at the most.
    #[cfg(feature = "redis-tokio")]
    time: Duration,
    until: Timestamp,
}

fn script(text: &str, key: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(1).arg(key);
    command
}

fn word(again: bool) -> &'static str {
    if again { "again" } else { "" }
}

/// The reply to [`Settings::load`].
type Found = (Option<String>, Option<Vec<u8>>);

fn read(key: &RecordKey, (version, value): Found) -> Result<Option<Stored>, Failure> {
    if version.is_none() && value.is_none() {
        return Ok(None);
    }
    let version = version.and_then(|text| text.parse().ok());
    match (version, value.filter(|value| value.len() <= MAX_RECORD)) {
        (Some(version), Some(value)) => Ok(Some(Stored::new(version, value))),
        _ => Err(Failure::not_sent(FailureKind::Store, format!("what Redis has of {key} is no record"))),
    }
}

/// Whether the same may well succeed in a moment, over another connection: what has become a replica stays one.
fn is_transient(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly, TryAgain};
    error.is_io_error()
        || matches!(error.kind(), Kind::Server(BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain))
}

/// How long to wait after this error, if the same is to be tried again.
fn pause(tries: &mut Tries, error: &RedisError) -> Result<Duration, Failure> {
    is_transient(error).then(|| tries.pause()).flatten().ok_or_else(|| failure(error))
}

/// What Redis says of an error may hold what was sent: only its code is told.
fn failure(error: &RedisError) -> Failure {
    let (kind, what) = match (error.is_io_error(), error.is_timeout()) {
        (true, true) => (FailureKind::Timeout, "Redis did not answer in time".to_owned()),
        (true, false) => (FailureKind::Connect, format!("Redis: {error}")),
        _ => {
            let what = format!("Redis: {} {}", error.category(), error.code().unwrap_or_default());
            (FailureKind::Store, what.trim_end().to_owned())
        }
    };
    Failure::not_sent(if is_transient(error) && kind == FailureKind::Store { FailureKind::Connect } else { kind }, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_used_is_told_without_its_password() {
        for address in ["localhost:6379", "http://user:canary@localhost", "redis://user:canary@localhost:x"] {
            let error = RedisStore::new(address).unwrap_err();
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains("redis://host"), "{error}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }
}
