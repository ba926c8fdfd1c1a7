//! Stores whose values are encrypted: each of them, with keys of its own and with a key service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use grantflow_store::grantflow::crypto::{CannotOpen, SealingKey, SealingKeys};
use grantflow_store::grantflow::machine::FailureKind;
use grantflow_store::grantflow::store::{RecordKey, Stored, Tags};
use grantflow_store::grantflow::{Client, Failure, Issuer};
use grantflow_store::{AsyncStore, Awaited, FileStore, KeyService, Lease, MemoryStore, Sealed, Store, conformance};
use zeroize::Zeroizing;

fn sealing_key(id: &str, byte: u8) -> SealingKey {
    let bytes: Vec<u8> = (0..32).map(|i| byte.wrapping_mul(17) ^ i).collect();
    SealingKey::new(id, &bytes).unwrap()
}

fn keys() -> SealingKeys {
    SealingKeys::new(sealing_key("a key", 7))
}

fn key(label: &str) -> RecordKey {
    RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new("app"), label)
}

fn why(failure: &Failure) -> CannotOpen {
    assert_eq!(failure.kind(), FailureKind::Store);
    let source = std::error::Error::source(failure);
    // A failure shows what it holds, and its source is that one's source.
    let text = failure.to_string();
    let known = [CannotOpen::NotSealed, CannotOpen::Newer, CannotOpen::Damaged, CannotOpen::OtherPurpose];
    let found = known.into_iter().find(|why| text.ends_with(&why.to_string()));
    assert!(source.is_none());
    found.unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn each_store_keeps_its_promises_sealed() {
    let memory = MemoryStore::new();
    conformance::check(|| Sealed::new(memory.clone(), keys()));
    conformance::check_listing(|| Sealed::new(memory.clone(), keys()));
    let folder = tempfile::tempdir().unwrap();
    conformance::check(|| Sealed::new(FileStore::new(folder.path().join("grants")), keys()));
    let service = Safe::default();
    conformance::check(|| Sealed::with_service(memory.clone(), service.clone()));
    conformance::check_listing(|| Sealed::with_service(memory.clone(), service.clone()));
}

/// A store in memory as an async one.
#[derive(Clone)]
struct Async(MemoryStore);

impl AsyncStore for Async {
    async fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        self.0.load(key)
    }
    async fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        self.0.save(key, expected, stored)
    }
    async fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.0.delete(key, expected)
    }
    async fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        self.0.try_lease(key, time)
    }
}

#[test]
fn an_async_store_keeps_its_promises_sealed_from_either_side() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Async(MemoryStore::new());
    let wait = |work: grantflow_store::Work<'_>| runtime.block_on(work);
    conformance::check(|| Awaited::new(Sealed::new(store.clone(), keys()), wait));
    conformance::check(|| Sealed::new(Awaited::new(store.clone(), wait), keys()));
}

#[cfg(feature = "keyring")]
#[test]
fn a_keyring_keeps_its_promises_sealed() {
    use grantflow_store::{KeyringStore, keyring_core::mock};
    let (folder, entries) = (tempfile::tempdir().unwrap(), mock::Store::new().unwrap());
    let store = || KeyringStore::with_entries("app", FileStore::new(folder.path().join("grants")), entries.clone());
    conformance::check(|| Sealed::new(store(), keys()));
    flip(store);
}

#[cfg(all(unix, feature = "redis-tokio"))]
#[test]
fn redis_keeps_its_promises_sealed() {
    let Some(server) = grantflow_tests::redis_server::RedisServer::start() else { return };
    let store = grantflow_store::RedisStore::new(&server.address()).unwrap();
    conformance::check(|| Sealed::new(store.clone(), keys()));
    let (runtime, waiting) =
        (tokio::runtime::Runtime::new().unwrap(), grantflow_store::AsyncRedisStore::new(&server.address()).unwrap());
    conformance::check(|| Awaited::new(Sealed::new(waiting.clone(), keys()), |work| runtime.block_on(work)));
    flip(|| store.clone());
}

#[cfg(all(unix, feature = "postgres"))]
#[test]
fn postgres_keeps_its_promises_sealed() {
    let Some(server) = grantflow_tests::postgres_server::PostgresServer::start() else { return };
    let store = grantflow_store::PostgresStore::new(&server.address()).unwrap();
    store.create_table().unwrap();
    conformance::check(|| Sealed::new(store.clone(), keys()));
    conformance::check_listing(|| Sealed::new(store.clone(), keys()));
    let (runtime, waiting) =
        (tokio::runtime::Runtime::new().unwrap(), grantflow_store::AsyncPostgresStore::new(&server.address()).unwrap());
    conformance::check(|| Awaited::new(Sealed::new(waiting.clone(), keys()), |work| runtime.block_on(work)));
    flip(|| store.clone());
}

#[test]
fn of_a_thousand_changed_bits_each_is_told_and_none_is_read() {
    let memory = MemoryStore::new();
    flip(|| memory.clone());
    let folder = tempfile::tempdir().unwrap();
    flip(|| FileStore::new(folder.path().join("grants")));
}

/// Changes random bits of what lies in a store.
fn flip<S: Store>(open: impl Fn() -> S) {
    let (store, sealed, key) = (open(), Sealed::new(open(), keys()), key("flipped"));
    let secret = Stored::new(1, r#"{"refresh_token":"the secret"}"#.repeat(10));
    assert!(sealed.save(&key, None, &secret).unwrap());
    let whole = store.load(&key).unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&whole.value).contains("secret"), "it lies there in the clear");
    for i in 0..1000_u64 {
        let mut flipped = whole.clone();
        let bit = usize::try_from(std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), i) >> 1).unwrap();
        let bit = bit % (flipped.value.len() * 8);
        flipped.value[bit / 8] ^= 1 << (bit % 8);
        flipped.version = i + 2;
        assert!(store.save(&key, Some(i + 1), &flipped).unwrap());
        let told = why(&sealed.load(&key).unwrap_err());
        let head = matches!(told, CannotOpen::NotSealed | CannotOpen::Newer);
        assert!(told == CannotOpen::Damaged || (head && bit < 20 * 8), "bit {bit}: {told}");
    }
    assert!(store.delete(&key, 1001).unwrap());
}

#[test]
fn keys_are_rotated_while_others_read_and_a_wrong_one_is_no_damage() {
    let memory = MemoryStore::new();
    let sealed = |keys| Sealed::new(memory.clone(), keys);
    let [old, new] = [sealing_key("old", 1), sealing_key("new", 2)];
    let first = sealed(SealingKeys::new(old.clone()));
    let other = first.clone();
    assert!(first.save(&key("a"), None, &Stored::new(1, "a secret")).unwrap());
    let second = sealed(SealingKeys::new(new.clone()).and_open(old.clone()));
    assert_eq!(&second.load(&key("a")).unwrap().unwrap().value[..], b"a secret");
    assert!(second.save(&key("a"), Some(1), &Stored::new(2, "a secret")).unwrap());
    let failure = first.load(&key("a")).unwrap_err();
    assert!(failure.to_string().contains("the key \"new\", which is not among those given"), "{failure}");
    // All clones of a store have the new keys at once.
    first.set_keys(SealingKeys::new(new.clone()));
    assert_eq!(&other.load(&key("a")).unwrap().unwrap().value[..], b"a secret");
    let wrong = sealed(SealingKeys::new(sealing_key("new", 3)));
    let failure = wrong.load(&key("a")).unwrap_err();
    assert!(failure.to_string().contains("another key \"new\" than the one given"), "{failure}");
    assert!(!wrong.save(&key("a"), None, &Stored::new(1, "x")).unwrap(), "it is not overwritten unseen");
    assert!(!format!("{first:?} {wrong:?}").contains("secret"));
}

#[test]
fn a_value_in_the_place_of_another_does_not_open_and_what_was_never_sealed_only_if_that_is_allowed() {
    let memory = MemoryStore::new();
    let sealed = Sealed::new(memory.clone(), keys());
    let mut grant = Stored::new(1, "of a");
    grant.tags = Tags::new(key("a").issuer(), Some("sub"), None);
    assert!(sealed.save(&key("a"), None, &grant).unwrap());
    let there = memory.load(&key("a")).unwrap().unwrap();
    assert_eq!(there.tags, grant.tags, "the store below finds it by whose it is");
    assert!(memory.save(&key("b"), None, &there).unwrap());
    assert_eq!(why(&sealed.load(&key("b")).unwrap_err()), CannotOpen::OtherPurpose);
    assert!(memory.save(&key("c"), None, &Stored::new(1, "plain")).unwrap());
    assert_eq!(why(&sealed.load(&key("c")).unwrap_err()), CannotOpen::NotSealed);
    let reads = sealed.reads_plain();
    assert_eq!(&reads.load(&key("c")).unwrap().unwrap().value[..], b"plain");
    assert!(reads.save(&key("c"), Some(1), &Stored::new(2, "plain")).unwrap());
    assert!(memory.load(&key("c")).unwrap().unwrap().value.starts_with(b"grantflow sealed 1\n"));
}

/// A key service that turns bits around, and may be away.
#[derive(Clone, Default)]
struct Safe {
    asked: Arc<AtomicU32>,
    away: Arc<AtomicBool>,
}

impl Safe {
    fn turned(&self, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(Failure::not_sent(FailureKind::Connect, "the key service is away"));
        }
        Ok(bytes.iter().map(|byte| byte ^ 0xa5).collect())
    }
}

impl KeyService for Safe {
    fn encrypt(&self, data_key: &[u8]) -> Result<Vec<u8>, Failure> {
        self.turned(data_key)
    }
    fn decrypt(&self, encrypted: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.turned(encrypted).map(Zeroizing::new)
    }
}

#[test]
fn a_key_service_is_asked_once_for_each_data_key_and_its_absence_is_transient() {
    let (memory, service) = (MemoryStore::new(), Safe::default());
    let one = Sealed::with_service(memory.clone(), service.clone());
    for label in ["a", "b", "c"] {
        assert!(one.save(&key(label), None, &Stored::new(1, label)).unwrap());
        assert_eq!(&one.load(&key(label)).unwrap().unwrap().value[..], label.as_bytes());
    }
    assert_eq!(service.asked.load(Ordering::SeqCst), 1);
    // Another process has data keys of its own, and asks for those of others.
    let other = Sealed::with_service(memory.clone(), service.clone());
    service.away.store(true, Ordering::SeqCst);
    assert_eq!(other.load(&key("a")).unwrap_err().kind(), FailureKind::Connect);
    assert_eq!(other.save(&key("d"), None, &Stored::new(1, "d")).unwrap_err().kind(), FailureKind::Connect);
    assert_eq!(&one.load(&key("a")).unwrap().unwrap().value[..], b"a", "what it knows it needs not ask for");
    service.away.store(false, Ordering::SeqCst);
    let before = service.asked.load(Ordering::SeqCst);
    for label in ["a", "b", "c", "a"] {
        assert_eq!(&other.load(&key(label)).unwrap().unwrap().value[..], label.as_bytes());
    }
    assert_eq!(service.asked.load(Ordering::SeqCst), before + 1);
    let failure = Sealed::new(memory, keys()).load(&key("a")).unwrap_err();
    assert!(failure.to_string().contains("not among those given"), "{failure}");
}
