//! [`TokenVerifier`]: a verifier that keeps its issuer's keys.
//!
//! ```text
//! verify ─ the keys that are there, without a lock ─▶ the verdict; if they are due, newer ones are read behind it
//!    ▲  └─ no key yet, or none of use ─▶ read them, or wait for the one thread that does ─┐
//!    └────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use grantflow::jose::{IdToken, KeySet, Verdict, Verifiable, Verifier};
use grantflow::{Error, Now, Secret};

use crate::Transport;

/// How long a reading is waited for before another one takes its place.
const PATIENCE: Duration = Duration::from_secs(12);

/// Verifies tokens with the keys of their issuer, which it reads, keeps and renews. Cheap to clone, and good for any
/// number of threads; make one for each kind of token and issuer, and share it.
///
/// With keys that are known, verifying takes no lock and waits for nothing, also while newer ones are read. Keys that
/// are due are renewed by a thread of their own. For a key that is not known yet all who need it wait for one request,
/// of which there is one in 30 seconds; within these the error says to try again. While the issuer's keys cannot be
/// read the old ones are used for up to 24 hours. See [`KeySet`].
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
    /// Verifies by these rules. Nothing is read before the first token comes, or before [`start`](Self::start).
    pub fn new(transport: &Transport, verifier: Verifier<T>) -> Self {
        let keys = ArcSwapOption::new(verifier.own_keys().map(Arc::new));
        let (desk, landed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { verifier, transport: transport.clone(), keys, desk, landed }))
    }

    /// Reads the keys now, so that a program fails as it starts and not at its first token.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn start(&self) -> Result<(), Error> {
        match self.0.keys.load_full() {
            Some(keys) if keys.is_usable(self.0.transport.now()) => Ok(()),
            seen => self.0.newer(seen.as_ref()),
        }
    }

    /// Verifies a token. With keys that are known it waits for nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Verifier::verify`](grantflow::Verifier::verify): one that is
    /// [transient](grantflow::Error::is_transient) says nothing about the token.
    pub fn verify(&self, token: &str) -> Result<T, Error> {
        self.run(|verifier, keys, now| verifier.verify_with(token, keys, now))
    }

    /// The keys that are held.
    pub fn keys(&self) -> Option<KeySet> {
        self.0.keys.load().as_deref().cloned()
    }

    fn run(&self, judge: impl Fn(&Verifier<T>, &KeySet, Now) -> Verdict<T>) -> Result<T, Error> {
        loop {
            let now = self.0.transport.now();
            let seen = match &*self.0.keys.load() {
                Some(keys) if keys.is_usable(now) => match judge(&self.0.verifier, keys, now) {
                    Verdict::Done(result) => {
                        if keys.is_due(now) {
                            self.0.renew();
                        }
                        return result;
                    }
                    Verdict::Ask(_) => Some(keys.clone()),
                },
                keys => keys.clone(),
            };
            self.0.newer(seen.as_ref())?;
        }
    }
}

impl TokenVerifier<IdToken> {
    /// Verifies an ID token that was made for this `nonce`, which is used up by it.
    ///
    /// # Errors
    ///
    /// As [`verify`](Self::verify).
    pub fn verify_with_nonce(&self, token: &str, nonce: &Secret) -> Result<IdToken, Error> {
        self.run(|verifier, keys, now| verifier.verify_nonce_with(token, nonce, keys, now))
    }
}

impl<T: Verifiable> Shared<T> {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until other keys than these are there, or reads them.
    fn newer(self: &Arc<Self>, seen: Option<&Arc<KeySet>>) -> Result<(), Error> {
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
            match self.begin(&mut desk) {
                Some(reading) => {
                    drop(desk);
                    reading.read();
                    desk = self.desk();
                }
                None => {
                    let waited = self.landed.wait_timeout(desk, PATIENCE);
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

    /// Reads newer keys, and waits for nothing.
    fn renew(self: &Arc<Self>) {
        let mut desk = self.desk();
        // One that has just ended brought what is needed.
        if !self.keys.load().as_ref().is_some_and(|keys| keys.is_due(self.transport.now())) {
            return;
        }
        if let Some(reading) = self.begin(&mut desk) {
            drop(desk);
            // Without a thread to be had, the next one who verifies tries again.
            let thread = std::thread::Builder::new().name("grantflow-keys".into());
            drop(thread.spawn(move || reading.read()));
        }
    }

    /// The right to read, unless another thread does.
    fn begin(self: &Arc<Self>, desk: &mut Desk) -> Option<Reading<T>> {
        if desk.since.is_some_and(|since| since.elapsed() < PATIENCE) {
            return None;
        }
        let since = Instant::now();
        desk.since = Some(since);
        Some(Reading { shared: self.clone(), since })
    }
}

/// A reading, which is told to be over however it ends.
struct Reading<T: Verifiable> {
    shared: Arc<Shared<T>>,
    since: Instant,
}

impl<T: Verifiable> Reading<T> {
    fn read(self) {
        let shared = &self.shared;
        let old = shared.keys.load_full();
        let read = shared.transport.run(shared.verifier.read_keys(old.as_deref(), shared.transport.now()));
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
