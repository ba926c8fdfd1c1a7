//! What the process allows others by default does not count. The mask is the whole process's: one test only.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use grantflow_store::grantflow::store::{RecordKey, Stored};
use grantflow_store::grantflow::{Client, Issuer};
use grantflow_store::{FileStore, Store as _, write_private};
use rustix::fs::Mode;

#[test]
fn files_are_private_even_if_the_process_makes_its_files_for_all() {
    let folder = tempfile::tempdir().unwrap();
    rustix::process::umask(Mode::empty());
    let store = FileStore::new(folder.path().join("state/app/grants"));
    let key = RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new("app"), "alice");
    let _lease = store.try_lease(&key, Duration::from_secs(60)).unwrap().unwrap();
    assert!(store.save(&key, None, &Stored::new(1, b"secret".to_vec())).unwrap());
    write_private(store.directory().join("token.json"), b"{}").unwrap();
    let mut files = 0;
    for entry in fs::read_dir(store.directory()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.path());
        files += 1;
    }
    assert_eq!(files, 4, "a record, its two locks, and the other file");
    for directory in store.directory().ancestors().take(3) {
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o700, "{directory:?}");
    }
}
