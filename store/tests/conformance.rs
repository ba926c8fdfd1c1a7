//! Each store keeps its promises.

use std::time::Duration;

use grantflow_store::grantflow::store::{RecordKey, StoreOp, StoreReply, Stored};
use grantflow_store::grantflow::{Client, Failure, Issuer, Reply};
use grantflow_store::{AsyncStore, Awaited, FileStore, Held, Lease, MemoryStore, Store as _, conformance, perform};

#[test]
fn memory() {
    let store = MemoryStore::new();
    conformance::check(|| store.clone());
}

#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    conformance::check(|| FileStore::new(folder.path().join("grants")));
}

#[test]
fn files_without_locks_among_the_threads_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("grants")).without_locks();
    conformance::check(|| store.clone());
}

/// A store in memory to which all ways take some time.
#[derive(Clone)]
struct Far(MemoryStore);

async fn travel() {
    tokio::time::sleep(Duration::from_micros(100)).await;
}

impl AsyncStore for Far {
    async fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        travel().await;
        self.0.load(key)
    }
    async fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        travel().await;
        self.0.save(key, expected, stored)
    }
    async fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        travel().await;
        self.0.delete(key, expected)
    }
    async fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        travel().await;
        self.0.try_lease(key, time)
    }
}

#[test]
fn an_async_store_that_is_waited_for() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let far = Far(MemoryStore::new());
    conformance::check(|| {
        let handle = runtime.handle().clone();
        Awaited::new(far.clone(), move |work| handle.block_on(work))
    });
    let hasty = Awaited::new(far, |work| drop(work));
    let failure = hasty.load(&key()).unwrap_err();
    assert!(failure.to_string().contains("not waited for"), "{failure}");
}

fn key() -> RecordKey {
    RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new("app"), "alice")
}

#[test]
fn a_run_gives_its_leases_back_however_it_ends() {
    let store = MemoryStore::new();
    let lease = || StoreOp::Lease { key: key(), time: Duration::from_secs(60) };
    let (mut one, mut other) = (Held::new(), Held::new());
    assert!(matches!(perform(&store, &mut one, lease()), Reply::Store(StoreReply::Leased(None))));
    assert!(matches!(perform(&store, &mut other, lease()), Reply::Store(StoreReply::Busy)));
    drop(one);
    assert!(matches!(perform(&store, &mut other, lease()), Reply::Store(StoreReply::Leased(None))));
    let release = StoreOp::Release { key: key() };
    assert!(matches!(perform(&store, &mut other, release), Reply::Store(StoreReply::Released)));
    assert!(matches!(perform(&store, &mut Held::new(), lease()), Reply::Store(StoreReply::Leased(None))));
}
