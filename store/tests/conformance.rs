//! Each store keeps its promises.

use std::time::Duration;

use grantflow_store::grantflow::store::{RecordKey, StoreOp, StoreReply, Stored};
use grantflow_store::grantflow::{Client, Failure, Issuer, Reply};
use grantflow_store::{AsyncStore, Awaited, FileStore, Held, Lease, MemoryStore, Store, conformance, perform};

#[test]
fn memory() {
    let store = MemoryStore::new();
    conformance::check(|| store.clone());
    conformance::check_listing(|| store.clone());
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

/// What a store may get wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    SavesOverAnything,
    SavesInTwoSteps,
    DeletesAnything,
    HasOnePlace,
    CutsBytes,
    CutsVersions,
    KeepsHandlesApart,
    LeasesToAll,
    KeepsLeases,
    LeasesTooShort,
    LeasesAllAtOnce,
}

struct Faulty(MemoryStore, Fault);

impl Faulty {
    fn key(&self, key: &RecordKey) -> RecordKey {
        if self.1 == Fault::HasOnePlace { crate::key() } else { key.clone() }
    }
}

impl Store for Faulty {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        let mut found = self.0.load(&self.key(key))?;
        if let Some(found) = &mut found {
            match self.1 {
                Fault::CutsBytes => drop(found.value.pop()),
                Fault::CutsVersions => found.version &= u64::from(u32::MAX),
                _ => {}
            }
        }
        Ok(found)
    }
    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        let key = &self.key(key);
        let found = self.0.load(key)?.map(|found| found.version);
        if self.1 == Fault::SavesInTwoSteps && found == expected {
            std::thread::sleep(Duration::from_micros(100));
        }
        let anyway = self.1 == Fault::SavesOverAnything || (self.1 == Fault::SavesInTwoSteps && found == expected);
        if !anyway {
            return self.0.save(key, expected, stored);
        }
        while !self.0.save(key, self.0.load(key)?.map(|found| found.version), stored)? {}
        Ok(true)
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        let found = self.0.load(&self.key(key))?.map(|found| found.version);
        let expected = found.filter(|_| self.1 == Fault::DeletesAnything).unwrap_or(expected);
        self.0.delete(&self.key(key), expected)
    }
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        let key = if self.1 == Fault::LeasesAllAtOnce { crate::key() } else { self.key(key) };
        Ok(match (self.1, self.0.try_lease(&key, time)?) {
            (Fault::LeasesToAll, None) => Some(Lease::new(None, ())),
            (Fault::KeepsLeases, Some(lease)) => Some(Lease::new(None, std::mem::ManuallyDrop::new(lease))),
            (Fault::LeasesTooShort, Some(lease)) => Some(Lease::new(Some(grantflow_tests::front::wall_clock()), lease)),
            (_, lease) => lease,
        })
    }
}

#[test]
fn a_store_that_breaks_a_promise_is_found_out() {
    for fault in [
        Fault::SavesOverAnything,
        Fault::SavesInTwoSteps,
        Fault::DeletesAnything,
        Fault::HasOnePlace,
        Fault::CutsBytes,
        Fault::CutsVersions,
        Fault::KeepsHandlesApart,
        Fault::LeasesToAll,
        Fault::KeepsLeases,
        Fault::LeasesTooShort,
        Fault::LeasesAllAtOnce,
    ] {
        let one = MemoryStore::new();
        let open = || Faulty(if fault == Fault::KeepsHandlesApart { MemoryStore::new() } else { one.clone() }, fault);
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| conformance::check(open)));
        assert!(checked.is_err(), "{fault:?}");
    }
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
