//! The keys that a server signs with: where they are, how old they may be, and the machine that reads them.
//!
//! ```text
//! Discover ─jwks_uri─▶ Read ─▶ a new set
//!     ▲                 │
//!     └── gone, once ◀──┤
//!                       └─ failed ─▶ the old set as long as it may be used, else the error
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http::header::CACHE_CONTROL;

use super::jwk::JwkSet;
use crate::exchange::{Request, age};
use crate::machine::ask;
use crate::server::Issuer;
use crate::{Cx, Discovery, Endpoint, Error, ErrorKind, Exchange, Machine, Now, Reply, ServerMetadata, Step};

/// The most bytes of a key set.
const MAX_BODY: usize = 512 * 1024;
/// How long keys are good for where their server says nothing (RFC 9111, section 5.2.2.1), and within which bounds
/// its word counts.
const LIFE: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_secs(5 * 60);
/// How long keys are used after they were read for the last time.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How long nobody asks anew after keys were asked for.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a failure is shared with others who ask.
const SHARED: Duration = Duration::from_secs(1);
/// How long it may take to read them.
const TOTAL: Duration = Duration::from_secs(10);

/// Where the keys of an issuer are.
#[derive(Clone)]
pub(super) enum KeySource {
    /// Where its metadata says.
    Issuer { issuer: Issuer, stranger: bool },
    /// At this address.
    At(Endpoint),
    /// Here, and they never change.
    Here(KeySet),
}

/// The public keys of a server, as they were read at one moment. It is cheap to clone, and never changes: a driver
/// keeps the newest one, and reads it without a lock.
///
/// The keys are good for as long as the server says (`Cache-Control`, within 5 minutes and 24 hours; an hour by
/// default). If newer ones cannot be read, they are used for up to 24 hours. For a signature by a key that is not among
/// them, newer keys are read, at most once in 30 seconds.
#[derive(Clone)]
pub struct KeySet(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    keys: Arc<JwkSet>,
    /// When they were read; never, if they were given by hand.
    read: Option<Now>,
    life: Duration,
    /// When they were asked for the last time, and why that failed.
    asked: Now,
    failure: Option<Error>,
}

impl KeySet {
    /// Keys that were not read from a server, and never change.
    pub fn fixed(keys: JwkSet) -> Self {
        let asked = Now::default();
        Self(Arc::new(Inner { keys: Arc::new(keys), read: None, life: Duration::MAX, asked, failure: None }))
    }

    /// The keys.
    pub fn keys(&self) -> &JwkSet {
        &self.0.keys
    }

    /// The time since the keys were read, by the clock that says more.
    pub fn age(&self, now: Now) -> Duration {
        self.0.read.map_or(Duration::ZERO, |read| since(read, now))
    }

    /// Why newer keys could not be read, if the last try failed.
    pub fn failure(&self) -> Option<&Error> {
        self.0.failure.as_ref()
    }

    /// Whether it is time to read newer keys, while these are still good.
    pub fn is_due(&self, now: Now) -> bool {
        self.age(now) > self.0.life && self.may_ask(now).is_ok()
    }

    /// Whether the keys may still be used: for 24 hours after they were read.
    pub fn is_usable(&self, now: Now) -> bool {
        self.age(now) <= LONGEST
    }

    /// When they were read, if they were.
    pub(super) fn read_at(&self) -> Option<Now> {
        self.0.read
    }

    /// Whether newer ones may be asked for; if not, after which time.
    pub(super) fn may_ask(&self, now: Now) -> Result<(), Duration> {
        match self.0.read {
            None => Err(Duration::MAX),
            Some(_) => match PAUSE.saturating_sub(since(self.0.asked, now)) {
                Duration::ZERO => Ok(()),
                wait => Err(wait),
            },
        }
    }

    fn failed(&self, now: Now, error: Error) -> Self {
        Self(Arc::new(Inner { asked: now, failure: Some(error), ..(*self.0).clone() }))
    }
}

/// Shows how many keys there are.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { keys, read, failure, .. } = &*self.0;
        let mut shown = f.debug_struct("KeySet");
        shown.field("keys", &keys.keys().len()).field("read", read).field("failure", failure).finish_non_exhaustive()
    }
}

/// The time between two moments, by whichever clock says more.
fn since(earlier: Now, now: Now) -> Duration {
    now.mono.saturating_sub(earlier.mono).max(now.wall.since(earlier.wall))
}

/// The machine that reads the keys of a verifier's issuer: see [`Verifier::read_keys`](super::Verifier::read_keys).
///
/// Both the metadata that names their address and the keys themselves are [documents that may be
/// old](crate::Call::may_be_old), so that all verifiers of one issuer on a transport read them together.
#[derive(Debug)]
pub struct ReadKeys {
    issuer: Option<Issuer>,
    stranger: bool,
    old: Option<KeySet>,
    /// How old the keys may be that are read.
    oldest: Duration,
    /// Whether the metadata was read anew.
    anew: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Here(KeySet),
    Discover(Box<Discovery>),
    Read(Box<Exchange<Fetched>>, Endpoint),
    Ended,
}

#[derive(Debug)]
struct Fetched {
    keys: JwkSet,
    life: Duration,
    age: Duration,
}

impl ReadKeys {
    /// Keys in the place of these, if there are some: as old as those may be for a signature by a key that is not among
    /// them.
    pub(super) fn new(source: &KeySource, old: Option<&KeySet>, now: Option<Now>) -> Self {
        let oldest = match (old, now) {
            (Some(old), Some(now)) if old.age(now) > old.0.life => old.0.life,
            (Some(_), _) => PAUSE.saturating_sub(Duration::from_secs(1)),
            (None, _) => LONGEST,
        };
        let (issuer, stranger, stage) = match source {
            KeySource::Here(keys) => (None, false, Stage::Here(keys.clone())),
            KeySource::At(endpoint) => {
                (None, false, Stage::Read(read(endpoint, oldest, old.is_none()), endpoint.clone()))
            }
            KeySource::Issuer { issuer, stranger } => {
                (Some(issuer.clone()), *stranger, Stage::Discover(discovery(issuer, *stranger, false)))
            }
        };
        Self { issuer, stranger, old: old.cloned(), oldest, anew: false, stage }
    }

    /// The keys at this address, for a token that came from their server itself; `anew`: as they are at this moment, for
    /// one by a key that is not among those that were read before.
    pub(crate) fn at(endpoint: &Endpoint, anew: bool) -> Self {
        let oldest = if anew { Duration::ZERO } else { LONGEST };
        let stage = Stage::Read(read(endpoint, oldest, !anew), endpoint.clone());
        Self { issuer: None, stranger: false, old: None, oldest, anew, stage }
    }

    fn end(&mut self, now: Now, result: Result<Fetched, Error>) -> Step<KeySet> {
        self.stage = Stage::Ended;
        Step::Done(match result {
            Ok(Fetched { keys, life, age }) => {
                let read = Now {
                    wall: crate::Timestamp::from_unix_millis(
                        now.wall.as_unix_millis().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
                    ),
                    mono: now.mono.saturating_sub(age),
                };
                let asked = if self.old.is_some() { now } else { read };
                Ok(KeySet(Arc::new(Inner { keys: Arc::new(keys), read: Some(read), life, asked, failure: None })))
            }
            Err(error) if error.kind() == ErrorKind::Misuse => Err(error),
            Err(error) => match self.old.take() {
                Some(old) if old.is_usable(now) => Ok(old.failed(now, error)),
                Some(old) => Err(too_old(&old, now, error)),
                None => Err(error),
            },
        })
    }
}

impl Machine for ReadKeys {
    type Output = KeySet;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<KeySet> {
        loop {
            match &mut self.stage {
                Stage::Here(keys) if matches!(reply, Reply::Start) => {
                    let keys = keys.clone();
                    self.stage = Stage::Ended;
                    return Step::Done(Ok(keys));
                }
                Stage::Discover(discovery) => {
                    let found = ask!(discovery, cx, reply);
                    let endpoint = found.and_then(|server: ServerMetadata| server.jwks().cloned());
                    match endpoint {
                        Ok(endpoint) => {
                            let reading = read(&endpoint, self.oldest, self.old.is_none());
                            self.stage = Stage::Read(reading, endpoint);
                        }
                        Err(error) => return self.end(cx.now(), Err(error)),
                    }
                }
                Stage::Read(exchange, endpoint) => match ask!(exchange, cx, reply) {
                    // They are older than their server says: newer ones are read, meanwhile or now.
                    Ok(fetched) if fetched.age > fetched.life && self.oldest > fetched.life => {
                        self.oldest = fetched.life;
                        let endpoint = endpoint.clone();
                        self.stage = Stage::Read(read(&endpoint, self.oldest, self.old.is_none()), endpoint);
                    }
                    // What is remembered of the address is no reason to fail; but neither is it to ask all the time.
                    Err(_) if exchange.was_old() && self.oldest > SHARED => {
                        self.oldest = SHARED;
                        let endpoint = endpoint.clone();
                        self.stage = Stage::Read(read(&endpoint, SHARED, false), endpoint);
                    }
                    Err(error) if is_gone(&error) && !self.anew && self.issuer.is_some() => {
                        self.anew = true;
                        match &self.issuer {
                            Some(issuer) => self.stage = Stage::Discover(discovery(issuer, self.stranger, true)),
                            None => return self.end(cx.now(), Err(error)),
                        }
                    }
                    result => return self.end(cx.now(), result),
                },
                Stage::Here(_) | Stage::Ended => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(Error::misuse("reading keys")));
                }
            }
        }
    }
}

fn discovery(issuer: &Issuer, stranger: bool, anew: bool) -> Box<Discovery> {
    let discovery = if stranger { Discovery::of_stranger(issuer) } else { Discovery::new(issuer) };
    Box::new(if anew { discovery.anew() } else { discovery })
}

/// Whether there is nothing at the address any more: the metadata that named it may be old.
fn is_gone(error: &Error) -> bool {
    error.status().is_some_and(|status| matches!(status, 400..=499) && status != 429)
}

/// What reads the keys at this address. If there are none yet, old ones are taken where newer ones cannot be read.
fn read(endpoint: &Endpoint, oldest: Duration, are_first: bool) -> Box<Exchange<Fetched>> {
    let request = Request::get("reading the server's keys", endpoint)
        .header("accept", "application/jwk-set+json, application/json")
        .max_body(MAX_BODY)
        .may_be_old(oldest, if are_first { LONGEST } else { oldest });
    let exchange = request.exchange(|received| {
        let keys = JwkSet::from_json(received.response.body())?;
        let age = Some(age(received.response)).filter(|age| *age <= LONGEST).unwrap_or_default();
        Ok(Fetched { keys, life: life(received.response), age })
    });
    Box::new(exchange.total_time(TOTAL))
}

/// How long an answer is good for (RFC 9111, section 5.2.2), within bounds.
fn life(response: &Response<Vec<u8>>) -> Duration {
    let mut life = LIFE;
    for field in response.headers().get_all(CACHE_CONTROL) {
        for directive in field.to_str().unwrap_or_default().split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return SHORTEST,
                "max-age" => life = value.trim().trim_matches('"').parse().map_or(life, Duration::from_secs),
                _ => {}
            }
        }
    }
    life.clamp(SHORTEST, LONGEST)
}

fn too_old(keys: &KeySet, now: Now, error: Error) -> Error {
    let hours = keys.age(now).as_secs() / 3600;
    let why = format!(
        "the server's keys were read {hours} h ago and could not be read since; none are used for longer than 24 h"
    );
    let old = Error::new(error.kind(), why).with_retry_after(error.retry_after());
    let old = if error.is_transient() { old.transient() } else { old };
    old.with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_word_counts_within_bounds() {
        for (field, seconds) in [
            ("", 3600),
            ("public, max-age=19845, must-revalidate", 19845),
            ("MAX-AGE=\"600\"", 600),
            ("max-age=0", 300),
            ("max-age=31536000", 86400),
            ("max-age=99999999999999999999", 3600),
            ("max-age=-1", 3600),
            ("no-store, max-age=7200", 300),
            ("private", 3600),
        ] {
            let response = Response::builder().header("cache-control", field).body(Vec::new()).unwrap();
            assert_eq!(life(&response), Duration::from_secs(seconds), "{field}");
        }
    }
}
