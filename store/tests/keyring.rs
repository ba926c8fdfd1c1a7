//! Grants in a secret service.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use grantflow_store::grantflow::store::{RecordKey, Stored};
use grantflow_store::grantflow::{Client, ErrorKind, Issuer};
use grantflow_store::keyring_core::mock;
use grantflow_store::{FileStore, KeyringStore, Store as _, conformance};

fn key() -> RecordKey {
    RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new("app"), "alice")
}

fn stored(version: u64, value: &[u8]) -> Stored {
    Stored::new(version, value.to_vec())
}

fn store(folder: &Path, entries: &Arc<mock::Store>) -> KeyringStore {
    KeyringStore::with_entries("app", FileStore::new(folder.join("grants")), entries.clone())
}

/// The secrets of all entries that are there.
fn secrets(entries: &mock::Store) -> Vec<Vec<u8>> {
    let mut inner = entries.inner.lock().unwrap();
    let secret = |cred: &Arc<mock::Cred>| cred.inner.lock().unwrap().get_mut().secret.clone();
    inner.get_mut().iter().filter_map(secret).collect()
}

#[test]
fn it_keeps_its_promises() {
    let folder = tempfile::tempdir().unwrap();
    let entries = mock::Store::new().unwrap();
    conformance::check(|| store(folder.path(), &entries));
    assert!(secrets(&entries).is_empty(), "what was deleted is gone from the service too");
}

#[test]
fn a_grant_larger_than_an_entry_has_several_and_none_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let entries = mock::Store::new().unwrap();
    let store = store(folder.path(), &entries).entry_size(10);
    let mut before = None;
    for (version, length) in (1..).zip([100, 10, 11, 0, 9]) {
        assert!(store.save(&key(), before, &stored(version, &vec![b'x'; length])).unwrap());
        assert_eq!(store.load(&key()).unwrap().unwrap().value.len(), length);
        assert_eq!(secrets(&entries).len(), length.div_ceil(10));
        before = Some(version);
    }
}

#[test]
fn no_file_holds_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), &mock::Store::new().unwrap());
    assert!(store.save(&key(), None, &stored(1, b"canary")).unwrap());
    for entry in fs::read_dir(folder.path().join("grants")).unwrap() {
        let content = fs::read(entry.unwrap().path()).unwrap();
        assert!(!content.windows(6).any(|part| part == b"canary"));
    }
}

#[test]
fn an_entry_that_is_gone_is_an_error_and_not_an_empty_store() {
    let folder = tempfile::tempdir().unwrap();
    assert!(store(folder.path(), &mock::Store::new().unwrap()).save(&key(), None, &stored(1, b"x")).unwrap());
    let other = store(folder.path(), &mock::Store::new().unwrap());
    let failure = other.load(&key()).unwrap_err();
    assert!(failure.to_string().contains("secret service"), "{failure}");
    let file = folder.path().join("grants").join(key().name()).with_extension("grant");
    assert!(
        file.exists() && failure.to_string().contains(&format!("delete {} to sign in", file.display())),
        "{failure}"
    );
    assert!(!other.save(&key(), None, &stored(1, b"y")).unwrap());
    assert!(other.delete(&key(), 1).unwrap(), "but it can be deleted");
    assert!(other.load(&key()).unwrap().is_none());
}

#[test]
fn a_service_that_refuses_leaves_the_record_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let entries = mock::Store::new().unwrap();
    let store = store(folder.path(), &entries);
    assert!(store.save(&key(), None, &stored(1, b"first")).unwrap());
    use grantflow_store::keyring_core::Error;
    use grantflow_store::keyring_core::api::CredentialStoreApi as _;
    let next = entries.build("app", &format!("{}.2.0", key().name()), None).unwrap();
    next.as_any().downcast_ref::<mock::Cred>().unwrap().set_error(Error::NoStorageAccess("it is locked".into()));
    let failure = store.save(&key(), Some(1), &stored(2, b"second")).unwrap_err();
    assert!(failure.to_string().contains("it is locked") && !failure.to_string().contains("second"), "{failure}");
    assert_eq!(&store.load(&key()).unwrap().unwrap().value[..], b"first");
    assert!(store.save(&key(), Some(1), &stored(2, b"second")).unwrap());
}

#[test]
fn what_a_save_that_failed_left_behind_goes_with_the_next_one() {
    use grantflow_store::keyring_core::Error;
    use grantflow_store::keyring_core::api::CredentialStoreApi as _;
    let folder = tempfile::tempdir().unwrap();
    let entries = mock::Store::new().unwrap();
    let store = store(folder.path(), &entries).entry_size(2);
    let third = entries.build("app", &format!("{}.1.2", key().name()), None).unwrap();
    third.as_any().downcast_ref::<mock::Cred>().unwrap().set_error(Error::NoStorageAccess("it is locked".into()));
    assert!(store.save(&key(), None, &stored(1, b"canary")).is_err());
    assert!(store.load(&key()).unwrap().is_none());
    assert!(store.save(&key(), None, &stored(1, b"ok")).unwrap());
    assert_eq!(secrets(&entries), [b"ok"]);
}

#[test]
fn a_file_that_names_no_entries_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), &mock::Store::new().unwrap());
    assert!(!store.delete(&key(), 1).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made for nothing");
    let files = FileStore::new(folder.path().join("grants"));
    for (version, value) in (1..).zip([&b""[..], b"-1", b"x", b"262145", b"99999999999999999999"]) {
        assert!(files.save(&key(), (version > 1).then(|| version - 1), &stored(version, value)).unwrap());
        let failure = store.load(&key()).unwrap_err();
        assert!(failure.to_string().contains("names no entries"), "{failure}");
    }
}

#[test]
#[cfg(all(unix, not(target_os = "macos")))]
fn without_a_secret_service_there_is_a_clear_error_and_no_plain_file() {
    const NOWHERE: &str = "unix:path=/nonexistent/bus";
    const BUS: &str = "DBUS_SESSION_BUS_ADDRESS";
    if std::env::var(BUS).is_ok_and(|bus| bus == NOWHERE) {
        let folder = tempfile::tempdir().unwrap();
        let error = KeyringStore::new("app", FileStore::new(folder.path().join("grants"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("no secret service"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        return;
    }
    // The same again, in a process without one.
    let name = "without_a_secret_service_there_is_a_clear_error_and_no_plain_file";
    let status = Command::new(std::env::current_exe().unwrap()).args(["--exact", name]).env(BUS, NOWHERE).status();
    assert!(status.unwrap().success());
}

#[test]
#[cfg(target_os = "linux")]
fn it_keeps_its_promises_in_gnome_keyring() {
    const INSIDE: &str = "GRANTFLOW_TEST_KEYRING";
    if std::env::var_os(INSIDE).is_some() {
        let folder = tempfile::tempdir().unwrap();
        let store = KeyringStore::new("grantflow-test", FileStore::new(folder.path().join("grants"))).unwrap();
        conformance::check(|| store.clone());
        return;
    }
    let installed = |tool| Command::new(tool).arg("--version").output().is_ok();
    if !installed("dbus-run-session") || !installed("gnome-keyring-daemon") {
        eprintln!("\n*** dbus-run-session or gnome-keyring is not installed: NO REAL SECRET SERVICE WAS TESTED ***\n");
        return;
    }
    // The same again, with a bus, a keyring and a home of its own.
    let home = tempfile::tempdir().unwrap();
    let inside = r#"printf pw | gnome-keyring-daemon --unlock --components=secrets >/dev/null && exec "$0" "$@""#;
    let mut command = Command::new("dbus-run-session");
    command.args(["--", "sh", "-c", inside]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "it_keeps_its_promises_in_gnome_keyring"]).env(INSIDE, "1");
    for name in ["HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"] {
        command.env(name, home.path());
    }
    assert!(command.status().unwrap().success());
}
