//! [`TokenVerifier`]: a verifier that keeps its issuer's keys.
//!
//! ```text
//! verify ─ the keys that are there, without a lock ─▶ the verdict; if they are due, newer ones are read behind it
//!    ▲  └─ no key yet, or none of use ─▶ read them, or wait for the one thread that does ─┐
//!    └────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use grantflow::jose::{IdToken, KeySet, Verdict, Verifiable, Verifier};
use grantflow::{Error, Now, Secret};

use crate::{Limit, Transport};

/// How long a reading is waited for before another one takes its place.
const PATIENCE: Duration = Duration::from_secs(12);
/// How often one who waits looks whether that was cancelled.
const GLANCE: Duration = Duration::from_millis(50);

/// A verifier of tokens that reads, keeps and renews the keys of their issuer. It is cheap to clone, and any number of
/// threads may use it; make one for each kind of token and issuer, and share it.
///
/// With a known key, verifying takes no lock and waits for nothing, also while newer keys are read. Keys that are due
/// are renewed by a thread of their own. If a key is not known yet, all callers that need it wait for one request, of
/// which there is one in 30 seconds; in between, the error says to try again. While the issuer's keys cannot be read,
/// the old ones are used for up to 24 hours. See [`KeySet`].
///
/// ```
/// use grantflow::Verifier;
/// use grantflow_ureq::{TokenVerifier, Transport};
///
/// let google = Verifier::google_id_tokens(["1234-web.apps.googleusercontent.com"]).hosted_domain("example.com");
/// let verifier = TokenVerifier::new(&Transport::new()?, google);
///
/// # fn handler(verifier: &TokenVerifier<grantflow::jose::IdToken>, credential: &str) -> Result<(), grantflow::Error> {
/// let id_token = verifier.verify(credential)?;
/// println!("{} at {}", id_token.subject(), id_token.issuer());
/// # Ok(()) }
/// # Ok::<(), grantflow::Error>(())
/// ```
pub struct TokenVerifier<T: Verifiable>(Arc<Shared<T>>);

struct Shared<T: Verifiable> {
    verifier: Verifier<T>,
    transport: Transport,
    keys: ArcSwapOption<KeySet>,
    /// Until when newer keys are being read, in milliseconds of the transport's clock. Before, a verification that has its
    /// key does not look at the desk.
    busy: AtomicU64,
    desk: Mutex<Desk>,
    landed: Condvar,
}

/// The one reading that is under way.
#[derive(Default)]
struct Desk {
    since: Option<Instant>,
    /// How many readings have ended, and why the last one brought nothing.
    ended: u64,
    failure: Option<Error>,
}

impl<T: Verifiable> TokenVerifier<T> {
    /// A verifier by these rules. The keys are read when the first token comes, or by [`start`](Self::start).
    pub fn new(transport: &Transport, verifier: Verifier<T>) -> Self {
        let keys = ArcSwapOption::new(verifier.own_keys().map(Arc::new));
        let (busy, desk, landed) = (AtomicU64::new(0), Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { verifier, transport: transport.clone(), keys, busy, desk, landed }))
    }

    /// Reads the keys now, so that a program fails as it starts and not at its first token.
    ///
    /// # Errors
    ///
    /// If the keys cannot be read.
    pub fn start(&self) -> Result<(), Error> {
        match self.0.keys.load_full() {
            Some(keys) if keys.is_usable(self.0.transport.now()) => Ok(()),
            seen => self.0.newer(seen.as_ref(), &Limit::new()),
        }
    }

    /// Verifies a token. With a known key it waits for nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Verifier::verify`](grantflow::Verifier::verify). A [transient](grantflow::Error::is_transient) error
    /// says nothing about the token.
    pub fn verify(&self, token: &str) -> Result<T, Error> {
        self.verify_until(token, &Limit::new())
    }

    /// Verifies a token as [`verify`](Self::verify) does, but waits for keys no longer than the limit allows.
    ///
    /// # Errors
    ///
    /// Those of [`verify`](Self::verify); and of kind [`Timeout`](grantflow::ErrorKind::Timeout) or
    /// [`Cancelled`](grantflow::ErrorKind::Cancelled), which say nothing about the token.
    pub fn verify_until(&self, token: &str, limit: &Limit) -> Result<T, Error> {
        self.run(limit, |verifier, keys, now| verifier.verify_with(token, keys, now))
    }

    /// The keys that are held.
    pub fn keys(&self) -> Option<KeySet> {
        self.0.keys.load().as_deref().cloned()
    }

    fn run(&self, limit: &Limit, judge: impl Fn(&Verifier<T>, &KeySet, Now) -> Verdict<T>) -> Result<T, Error> {
        loop {
            let now = self.0.transport.now();
            let seen = match &*self.0.keys.load() {
                Some(keys) if keys.is_usable(now) => match judge(&self.0.verifier, keys, now) {
                    Verdict::Done(result) => {
                        if keys.is_due(now) {
                            self.0.renew(now);
                        }
                        return result;
                    }
                    Verdict::Ask(_) => Some(keys.clone()),
                },
                keys => keys.clone(),
            };
            self.0.newer(seen.as_ref(), limit)?;
        }
    }
}

impl TokenVerifier<IdToken> {
    /// Verifies an ID token, and that it was made for this `nonce`, which it uses up.
    ///
    /// # Errors
    ///
    /// Those of [`verify`](Self::verify).
    pub fn verify_with_nonce(&self, token: &str, nonce: &Secret) -> Result<IdToken, Error> {
        self.verify_with_nonce_until(token, nonce, &Limit::new())
    }

    /// Verifies an ID token as [`verify_with_nonce`](Self::verify_with_nonce) does, but waits for keys no longer than
    /// the limit allows.
    ///
    /// # Errors
    ///
    /// Those of [`verify_until`](Self::verify_until).
    pub fn verify_with_nonce_until(&self, token: &str, nonce: &Secret, limit: &Limit) -> Result<IdToken, Error> {
        self.run(limit, |verifier, keys, now| verifier.verify_nonce_with(token, nonce, keys, now))
    }
}

impl<T: Verifiable> Shared<T> {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until other keys than these are there, or reads them.
    fn newer(self: &Arc<Self>, seen: Option<&Arc<KeySet>>, limit: &Limit) -> Result<(), Error> {
        let mut desk = self.desk();
        let before = desk.ended;
        loop {
            if !self.still_has(seen) {
                return Ok(());
            }
            if desk.ended != before
                && let Some(failure) = &desk.failure
            {
                return Err(failure.clone());
            }
            if let Some(error) = limit.over("while the issuer's keys were read") {
                return Err(error);
            }
            match self.begin(&mut desk) {
                Some(reading) => {
                    drop(desk);
                    reading.read(limit);
                    desk = self.desk();
                }
                None => {
                    let pause = if limit.is_none() { PATIENCE } else { GLANCE.min(limit.left()) };
                    let waited = self.landed.wait_timeout(desk, pause);
                    desk = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn still_has(&self, seen: Option<&Arc<KeySet>>) -> bool {
        match (&*self.keys.load(), seen) {
            (None, None) => true,
            (Some(held), Some(seen)) => Arc::ptr_eq(held, seen),
            _ => false,
        }
    }

    /// Reads newer keys, and waits for nothing. While they are read it takes no lock.
    fn renew(self: &Arc<Self>, now: Now) {
        if millis(now) < self.busy.load(Ordering::Relaxed) {
            return;
        }
        let mut desk = self.desk();
        // One that has just ended brought what is needed.
        if !self.keys.load().as_ref().is_some_and(|keys| keys.is_due(now)) {
            return;
        }
        if let Some(reading) = self.begin(&mut desk) {
            drop(desk);
            // Without a thread to be had, the next one who verifies tries again.
            let thread = std::thread::Builder::new().name("grantflow-keys".into());
            drop(thread.spawn(move || reading.read(&Limit::new())));
        }
    }

    /// The right to read, unless another thread does.
    fn begin(self: &Arc<Self>, desk: &mut Desk) -> Option<Reading<T>> {
        if desk.since.is_some_and(|since| since.elapsed() < PATIENCE) {
            return None;
        }
        let since = Instant::now();
        desk.since = Some(since);
        self.busy.store(millis(self.transport.now()).saturating_add(millis_of(PATIENCE)), Ordering::Relaxed);
        Some(Reading { shared: self.clone(), since })
    }
}

fn millis(now: Now) -> u64 {
    millis_of(now.mono)
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A reading, which is told to be over however it ends.
struct Reading<T: Verifiable> {
    shared: Arc<Shared<T>>,
    since: Instant,
}

impl<T: Verifiable> Reading<T> {
    fn read(self, limit: &Limit) {
        let shared = &self.shared;
        let old = shared.keys.load_full();
        let machine = shared.verifier.read_keys(old.as_deref(), shared.transport.now());
        let read = shared.transport.run_until(machine, limit);
        // That one was cancelled says nothing to the others: the next of them reads.
        let failed = read.as_ref().map_or(true, |keys| keys.failure().is_some());
        if failed && limit.over("while the issuer's keys were read").is_some() {
            return;
        }
        let mut desk = shared.desk();
        desk.ended += 1;
        match read {
            Ok(keys) => {
                shared.keys.store(Some(Arc::new(keys)));
                desk.failure = None;
            }
            Err(error) => desk.failure = Some(error),
        }
    }
}

impl<T: Verifiable> Drop for Reading<T> {
    fn drop(&mut self) {
        let mut desk = self.shared.desk();
        if desk.since == Some(self.since) {
            desk.since = None;
            self.shared.busy.store(0, Ordering::Relaxed);
        }
        drop(desk);
        self.shared.landed.notify_all();
    }
}

impl<T: Verifiable> Clone for TokenVerifier<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Verifiable> fmt::Debug for TokenVerifier<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").field("verifier", &self.0.verifier).field("keys", &self.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc::channel;
    use std::thread;

    use grantflow::ErrorKind;
    use grantflow::machine::Effect;
    use grantflow::{Cx, Issuer, Machine as _, Reply, Step};
    use grantflow_tests::IssuerKey;
    use serde_json::json;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A verifier with a key whose host takes connections and never answers, the key as it was read two hours ago, and a
    /// token by it.
    fn stage(host: &TcpListener) -> (TokenVerifier<IdToken>, String) {
        let (transport, key) = (Transport::new().unwrap(), IssuerKey::es256("a"));
        let now = transport.now();
        let address = format!("http://{}/keys", host.local_addr().unwrap());
        let issuer = Issuer::new("https://as.example").unwrap();
        let verifier = Verifier::id_tokens(&issuer, "demo").jwks_uri(&address).unwrap();
        let wall = grantflow::Timestamp::from_unix(now.wall.as_unix() - 2 * 3600);
        let mut cx = Cx::new(Now { wall, mono: Duration::ZERO }, [0; 32]);
        let mut reading = verifier.read_keys(None, cx.now());
        let Step::Do(Effect::Http(_)) = reading.resume(&mut cx, Reply::Start) else { panic!("no request") };
        let answer = http::Response::new(IssuerKey::set([&key]).to_string().into_bytes());
        let Step::Done(Ok(keys)) = reading.resume(&mut cx, Reply::Http(answer)) else { panic!("no keys") };
        assert!(keys.is_due(now) && keys.age(now) >= 2 * HOUR);
        let held = TokenVerifier::new(&transport, verifier);
        held.0.keys.store(Some(Arc::new(keys)));
        let (iat, exp) = (now.wall.as_unix(), now.wall.as_unix() + 3600);
        let claims = json!({"iss": "https://as.example", "sub": "alice", "aud": "demo", "iat": iat, "exp": exp});
        (held, key.sign("JWT", &claims))
    }

    /// A verification that took the desk's lock, or waited for the newer keys, would not end.
    #[test]
    fn known_keys_verify_without_a_lock_while_newer_ones_are_read() {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let (verifier, token) = stage(&host);
        assert_eq!(verifier.verify(&token).unwrap().subject(), "alice");
        let _asked = host.accept().unwrap();
        let desk = verifier.0.desk();
        let (done, wait) = channel();
        let other = verifier.clone();
        thread::spawn(move || {
            (0..100).for_each(|_| drop(other.verify(&token).unwrap()));
            done.send(()).unwrap();
        });
        wait.recv_timeout(Duration::from_secs(5)).expect("nobody waits while keys are read");
        assert!(desk.since.is_some(), "they are still read");
    }

    #[test]
    fn a_limit_ends_the_wait_for_keys_of_one_who_reads_and_of_one_who_waits() {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let (verifier, token) = stage(&host);
        verifier.0.keys.store(None);
        let verify = |limit: Limit| {
            let (begun, error) = (Instant::now(), verifier.verify_until(&token, &limit).unwrap_err());
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
            error.kind()
        };
        let cancel = crate::Cancel::new();
        thread::scope(|scope| {
            let reads = scope.spawn(|| verify(Limit::new().cancel(&cancel)));
            let _asked = host.accept().unwrap();
            assert_eq!(verify(Limit::within(Duration::from_millis(100))), ErrorKind::Timeout);
            cancel.cancel();
            assert_eq!(reads.join().unwrap(), ErrorKind::Cancelled);
        });
        let desk = verifier.0.desk();
        assert!(desk.since.is_none() && desk.ended == 0, "what one gave up says nothing to the others");
    }
}
