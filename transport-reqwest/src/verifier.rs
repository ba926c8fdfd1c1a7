//! [`TokenVerifier`]: a verifier that keeps its issuer's keys.
//!
//! ```text
//! verify ─ the keys that are there, without a lock ─▶ the verdict; if they are due, newer ones are read behind it
//!    ▲  └─ no key yet, or none of use ─▶ wait for one reading of all who need it ─┐
//!    └────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use grantflow::jose::{IdToken, KeySet, Verdict, Verifiable, Verifier};
use grantflow::{Error, Now, Secret};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Transport, runtime};

/// How long a reading is waited for before another one takes its place.
const PATIENCE: Duration = Duration::from_secs(12);

/// A verifier of tokens that reads, keeps and renews the keys of their issuer. Cheap to clone; make one for each kind
/// of token and issuer, and share it.
///
/// With a known key, verifying takes no lock and waits for nothing, also while newer keys are read. Keys that are due
/// are renewed in the background. If a key is not known yet, all callers that need it wait for one request, of which
/// there is one in 30 seconds; in between, the error says to try again. While the issuer's keys cannot be read, the old
/// ones are used for up to 24 hours. See [`KeySet`].
///
/// ```
/// use grantflow::Verifier;
/// use grantflow_reqwest::{TokenVerifier, Transport};
///
/// let google = Verifier::google_id_tokens(["1234-web.apps.googleusercontent.com"]).hosted_domain("example.com");
/// let verifier = TokenVerifier::new(&Transport::new()?, google);
///
/// # async fn handler(verifier: TokenVerifier<grantflow::jose::IdToken>, credential: &str) -> Result<(), grantflow::Error> {
/// let id_token = verifier.verify(credential).await?;
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
    landed: Notify,
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
        let (busy, desk, landed) = (AtomicU64::new(0), Mutex::default(), Notify::new());
        Self(Arc::new(Shared { verifier, transport: transport.clone(), keys, busy, desk, landed }))
    }

    /// Reads the keys now, so that a program fails as it starts and not at its first token.
    ///
    /// # Errors
    ///
    /// If the keys cannot be read.
    pub async fn start(&self) -> Result<(), Error> {
        match self.0.keys.load_full() {
            Some(keys) if keys.is_usable(self.0.transport.now()) => Ok(()),
            seen => self.0.newer(seen).await,
        }
    }

    /// Verifies a token. With a known key the future is ready at once.
    ///
    /// # Errors
    ///
    /// Those of [`Verifier::verify`](grantflow::Verifier::verify). A [transient](grantflow::Error::is_transient) error
    /// says nothing about the token. Of kind [`Misuse`](grantflow::ErrorKind::Misuse) if keys must be read and there is
    /// no tokio runtime.
    pub async fn verify(&self, token: &str) -> Result<T, Error> {
        self.run(|verifier, keys, now| verifier.verify_with(token, keys, now)).await
    }

    /// The keys that are held.
    pub fn keys(&self) -> Option<KeySet> {
        self.0.keys.load().as_deref().cloned()
    }

    #[cfg(feature = "tower")]
    pub(crate) fn transport(&self) -> &Transport {
        &self.0.transport
    }

    async fn run(&self, judge: impl Fn(&Verifier<T>, &KeySet, Now) -> Verdict<T>) -> Result<T, Error> {
        loop {
            let now = self.0.transport.now();
            let seen = {
                let held = self.0.keys.load();
                match &*held {
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
                }
            };
            self.0.newer(seen).await?;
        }
    }
}

impl TokenVerifier<IdToken> {
    /// Verifies an ID token, and that it was made for this `nonce`, which it uses up.
    ///
    /// # Errors
    ///
    /// Those of [`verify`](Self::verify).
    pub async fn verify_with_nonce(&self, token: &str, nonce: &Secret) -> Result<IdToken, Error> {
        self.run(|verifier, keys, now| verifier.verify_nonce_with(token, nonce, keys, now)).await
    }
}

impl<T: Verifiable> Shared<T> {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until other keys than these are there.
    async fn newer(self: &Arc<Self>, seen: Option<Arc<KeySet>>) -> Result<(), Error> {
        let runtime = runtime::current()?;
        runtime::within(async {
            let before = self.desk().ended;
            loop {
                let mut landed = pin!(self.landed.notified());
                landed.as_mut().enable();
                {
                    let mut desk = self.desk();
                    if !self.still_has(seen.as_ref()) {
                        return Ok(());
                    }
                    if desk.ended != before
                        && let Some(failure) = &desk.failure
                    {
                        return Err(failure.clone());
                    }
                    let reading = self.begin(&mut desk);
                    drop(desk);
                    spawn(&runtime, reading);
                }
                // Should the runtime that reads be driven no more, another one reads.
                let _ = tokio::time::timeout(PATIENCE, landed).await;
            }
        })
        .await
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
        if let Ok(runtime) = Handle::try_current() {
            let mut desk = self.desk();
            // One that has just ended brought what is needed.
            let due = self.keys.load().as_ref().is_some_and(|keys| keys.is_due(now));
            let reading = due.then(|| self.begin(&mut desk)).flatten();
            drop(desk);
            spawn(&runtime, reading);
        }
    }

    /// The right to read, unless that is under way.
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

/// Nobody may be at the desk: a runtime that has ended drops the reading at once.
fn spawn<T: Verifiable>(runtime: &Handle, reading: Option<Reading<T>>) {
    if let Some(reading) = reading {
        drop(runtime.spawn(async move { reading.read().await }));
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
    async fn read(self) {
        let shared = &self.shared;
        let old = shared.keys.load_full();
        let machine = shared.verifier.read_keys(old.as_deref(), shared.transport.now());
        let read = shared.transport.run(machine).await;
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
        self.shared.landed.notify_waiters();
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
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn known_keys_verify_without_a_lock_while_newer_ones_are_read() {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let (verifier, token) = stage(&host);
        assert_eq!(verifier.verify(&token).await.unwrap().subject(), "alice");
        let _asked = tokio::task::spawn_blocking(move || host.accept().unwrap()).await.unwrap();
        let (runtime, (done, wait)) = (Handle::current(), channel());
        let other = verifier.clone();
        tokio::task::spawn_blocking(move || {
            let desk = verifier.0.desk();
            thread::spawn(move || {
                runtime.block_on(async {
                    for _ in 0..100 {
                        drop(other.verify(&token).await.unwrap());
                    }
                });
                done.send(()).unwrap();
            });
            wait.recv_timeout(Duration::from_secs(5)).expect("nobody waits while keys are read");
            assert!(desk.since.is_some(), "they are still read");
        })
        .await
        .unwrap();
    }

    /// It drops at once what is spawned on it.
    #[test]
    fn a_runtime_that_has_ended_reads_no_keys_and_holds_nobody_up() {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let (verifier, token) = stage(&host);
        let ended = tokio::runtime::Runtime::new().unwrap();
        let handle = ended.handle().clone();
        ended.shutdown_background();
        let (done, wait) = channel();
        thread::spawn(move || {
            let _entered = handle.enter();
            let mut verifying = std::pin::pin!(verifier.verify(&token));
            let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
            let ready = verifying.as_mut().poll(cx);
            done.send(matches!(ready, std::task::Poll::Ready(Ok(_)))).unwrap();
        });
        assert!(wait.recv_timeout(Duration::from_secs(5)).expect("nobody waits"));
    }
}
