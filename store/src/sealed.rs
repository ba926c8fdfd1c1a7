//! Stores whose values are encrypted: [`Sealed`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use grantflow::crypto::{self, CannotOpen, SealingKey, SealingKeys};
use grantflow::machine::FailureKind;
use grantflow::store::{Page, RecordKey, Stored, Which};
use grantflow::{Cx, Error, Failure, Now};
use zeroize::Zeroizing;

use crate::memory::lock;
use crate::{AsyncStore, Lease, Store};

/// How long a data key is used to seal.
const DATA_KEY_LIFE: Duration = Duration::from_secs(3600);
/// How many data keys are remembered.
const DATA_KEYS: usize = 1024;

/// A store whose values are encrypted, in any other store. Each value is bound to its key: a value in another's place
/// does not open. The store below sees keys, versions and tags: labels can be read there.
///
/// A load or a save of 4 KiB takes some 5 us more (`benches/stores.rs`). A value grows by 102 bytes and the key's id;
/// with a [key service](KeyService) by the data key's encrypted form too. [`SealingKeys`] says how keys are used and
/// rotated, and that they do not wear out. [`RewriteGrants`](grantflow::store::RewriteGrants) seals all records anew
/// while the service runs, and [`set_keys`](Self::set_keys) gives a running process other keys.
///
/// A record that cannot be opened is a failure of kind `Store`, whose source is [`CannotOpen`]: a missing key, a wrong
/// one and damage are told apart. It is never overwritten unseen.
///
/// ```
/// use grantflow::crypto::{SealingKey, SealingKeys};
/// use grantflow_store::{FileStore, Sealed};
/// # fn main_(secret: &[u8]) -> Result<(), grantflow::Error> {
///
/// let keys = SealingKeys::new(SealingKey::new("2026-11", secret)?);
/// let store = Sealed::new(FileStore::new("/var/lib/my-service/grants"), keys);
/// # let _ = store;
/// # Ok(()) }
/// ```
pub struct Sealed<S, K = OwnKeys> {
    store: S,
    keys: Arc<K>,
    plain: bool,
}

impl<S: Clone, K> Clone for Sealed<S, K> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), keys: self.keys.clone(), plain: self.plain }
    }
}

impl<S> Sealed<S> {
    /// This store, with values encrypted by these keys.
    pub fn new(store: S, keys: SealingKeys) -> Self {
        Self { store, keys: Arc::new(OwnKeys(RwLock::new(Arc::new(keys)))), plain: false }
    }

    /// Replaces the keys, for all clones of this store.
    pub fn set_keys(&self, keys: SealingKeys) {
        *self.keys.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

impl<S, T: KeyService> Sealed<S, Envelope<T>> {
    /// This store, with values encrypted by data keys, which a key service has encrypted. Each process makes a new data
    /// key every hour, and remembers a thousand of other processes.
    pub fn with_service(store: S, service: T) -> Self {
        let (newest, known) = Default::default();
        Self { store, keys: Arc::new(Envelope { service, newest, known }), plain: false }
    }
}

impl<S, K> Sealed<S, K> {
    /// Also reads records that were never sealed; every record that is written is sealed. A writer to the store can
    /// meanwhile put a grant of their own into it: have all [sealed anew](grantflow::store::RewriteGrants), and take
    /// this call away.
    #[must_use]
    pub fn reads_plain(self) -> Self {
        Self { plain: true, ..self }
    }
}

impl<S, K: Keys> Sealed<S, K> {
    fn seal(&self, key: &RecordKey, stored: &Stored) -> Result<Stored, Failure> {
        let value = self.keys.seal(key.name().as_bytes(), &stored.value)?;
        Ok(Stored { version: stored.version, value: value.into(), tags: stored.tags.clone() })
    }

    fn open(&self, key: &RecordKey, found: Option<Stored>) -> Result<Option<Stored>, Failure> {
        let Some(mut stored) = found else { return Ok(None) };
        let value = match self.keys.open(key.name().as_bytes(), &stored.value) {
            Ok(value) => value,
            Err(Closed::Cannot(CannotOpen::NotSealed)) if self.plain => return Ok(Some(stored)),
            Err(Closed::Cannot(why)) => return Err(Failure::not_sent(FailureKind::Store, why)),
            Err(Closed::Service(failure)) => return Err(failure),
        };
        // What is encrypted need not be wiped.
        drop(std::mem::take(&mut *stored.value));
        Ok(Some(Stored { value, ..stored }))
    }
}

impl<S: Store, K: Keys> Store for Sealed<S, K> {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        self.open(key, self.store.load(key)?)
    }
    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        self.store.save(key, expected, &self.seal(key, stored)?)
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.store.delete(key, expected)
    }
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        self.store.try_lease(key, time)
    }
    fn list(&self, which: &Which, after: Option<&RecordKey>, most: usize) -> Result<Page, Failure> {
        self.store.list(which, after, most)
    }
    fn count(&self, which: &Which) -> Result<u64, Failure> {
        self.store.count(which)
    }
}

/// With keys that are here; with a key service, which may have to be waited for, seal an [`Awaited`](crate::Awaited).
impl<S: AsyncStore> AsyncStore for Sealed<S> {
    async fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        self.open(key, self.store.load(key).await?)
    }
    async fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        self.store.save(key, expected, &self.seal(key, stored)?).await
    }
    async fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.store.delete(key, expected).await
    }
    async fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        self.store.try_lease(key, time).await
    }
    async fn list(&self, which: &Which, after: Option<&RecordKey>, most: usize) -> Result<Page, Failure> {
        self.store.list(which, after, most).await
    }
    async fn count(&self, which: &Which) -> Result<u64, Failure> {
        self.store.count(which).await
    }
}

impl<S: fmt::Debug, K> fmt::Debug for Sealed<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sealed").field(&self.store).finish()
    }
}

/// The keys of [`Sealed`]: [`OwnKeys`] or an [`Envelope`].
pub trait Keys: Send + Sync + private::Keys {}

mod private {
    use super::{Closed, Failure, Zeroizing};

    pub trait Keys {
        fn seal(&self, purpose: &[u8], message: &[u8]) -> Result<Vec<u8>, Failure>;
        fn open(&self, purpose: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Closed>;
    }
}

/// Why a record did not open.
#[derive(Debug)]
pub enum Closed {
    /// The record cannot be opened.
    Cannot(CannotOpen),
    /// The key service failed.
    Service(Failure),
}

/// Keys that the program has itself. See [`Sealed::new`].
pub struct OwnKeys(RwLock<Arc<SealingKeys>>);

impl OwnKeys {
    fn get(&self) -> Arc<SealingKeys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Keys for OwnKeys {}

impl private::Keys for OwnKeys {
    fn seal(&self, purpose: &[u8], message: &[u8]) -> Result<Vec<u8>, Failure> {
        seal(&self.get(), purpose, message)
    }
    fn open(&self, purpose: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Closed> {
        self.get().open(purpose, sealed).map_err(Closed::Cannot)
    }
}

impl fmt::Debug for OwnKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnKeys").field(&self.get()).finish()
    }
}

/// A key service, such as Cloud KMS, AWS KMS or Vault: it encrypts and decrypts data keys, and its own key never leaves
/// it. Both methods are called on threads that may wait; run a machine of grantflow there with `transport.run`, or with
/// `Handle::current().block_on(transport.run(..))` of tokio.
pub trait KeyService: Send + Sync {
    /// Encrypts a data key of 32 bytes, into at most 4096. The result names the service's key, if the service has
    /// several.
    ///
    /// # Errors
    ///
    /// Of kind `Connect`, `Broken` or `Timeout` if the same may succeed later.
    fn encrypt(&self, data_key: &[u8]) -> Result<Vec<u8>, Failure>;

    /// Decrypts a data key that [`encrypt`](Self::encrypt) returned.
    ///
    /// # Errors
    ///
    /// Those of [`encrypt`](Self::encrypt).
    fn decrypt(&self, encrypted: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure>;
}

/// Data keys that a key service has encrypted. See [`Sealed::with_service`].
pub struct Envelope<T> {
    service: T,
    newest: Mutex<Option<(Instant, SealingKey)>>,
    /// By their encrypted forms.
    known: Mutex<BTreeMap<Vec<u8>, SealingKey>>,
}

/// The id of all data keys: it is the encrypted form that tells them apart.
const DATA_KEY: &str = "data";

impl<T: KeyService> Envelope<T> {
    fn newest(&self) -> Result<SealingKey, Failure> {
        let mut newest = lock(&self.newest);
        if let Some((_, key)) = newest.as_ref().filter(|(made, _)| made.elapsed() < DATA_KEY_LIFE) {
            return Ok(key.clone());
        }
        let bytes = Zeroizing::new(random()?);
        let encrypted = self.service.encrypt(bytes.as_slice())?;
        let key = SealingKey::wrapped(DATA_KEY, bytes.as_slice(), &encrypted).map_err(failed)?;
        self.remember(&encrypted, &key);
        Ok(newest.insert((Instant::now(), key)).1.clone())
    }

    fn remember(&self, encrypted: &[u8], key: &SealingKey) {
        let mut known = lock(&self.known);
        if known.len() >= DATA_KEYS {
            known.clear();
        }
        known.insert(encrypted.to_vec(), key.clone());
    }
}

impl<T: KeyService> Keys for Envelope<T> {}

impl<T: KeyService> private::Keys for Envelope<T> {
    fn seal(&self, purpose: &[u8], message: &[u8]) -> Result<Vec<u8>, Failure> {
        seal(&SealingKeys::new(self.newest()?), purpose, message)
    }

    fn open(&self, purpose: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Closed> {
        let parts = crypto::Sealed::parse(sealed).map_err(Closed::Cannot)?;
        let encrypted = parts.wrapped();
        if encrypted.is_empty() {
            return Err(Closed::Cannot(CannotOpen::UnknownKey(parts.key_id().to_owned())));
        }
        let known = lock(&self.known).get(encrypted).cloned();
        if let Some(key) = known {
            return parts.open(&key, purpose).map_err(Closed::Cannot);
        }
        let bytes = self.service.decrypt(encrypted).map_err(Closed::Service)?;
        let key = SealingKey::new(DATA_KEY, &bytes).map_err(|error| Closed::Service(failed(error)))?;
        let opened = parts.open(&key, purpose).map_err(Closed::Cannot)?;
        self.remember(encrypted, &key);
        Ok(opened)
    }
}

impl<T> fmt::Debug for Envelope<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope").finish_non_exhaustive()
    }
}

fn seal(keys: &SealingKeys, purpose: &[u8], message: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut cx = Cx::new(Now::default(), random()?);
    keys.seal(purpose, message, &mut cx).map_err(failed)
}

fn random() -> Result<[u8; 32], Failure> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| {
        Failure::not_sent(FailureKind::Store, format!("the system gives no randomness to seal with: {error}"))
    })?;
    Ok(random)
}

fn failed(error: Error) -> Failure {
    Failure::not_sent(FailureKind::Store, error)
}
