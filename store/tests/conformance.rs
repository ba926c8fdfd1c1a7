//! Each store keeps its promises.

use std::time::Duration;

use grantflow_store::grantflow::store::{RecordKey, StoreOp, StoreReply};
use grantflow_store::grantflow::{Client, Issuer, Reply};
use grantflow_store::{FileStore, Held, MemoryStore, conformance, perform};

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
