//! Stores that are given a secret in the place of an address or a name show none of it.

use std::sync::Arc;

use grantflow_store::grantflow::store::RecordKey;
use grantflow_store::grantflow::{Client, Issuer};
use grantflow_store::keyring_core::mock;
use grantflow_store::{
    AsyncPostgresStore, AsyncRedisStore, FileStore, KeyringStore, PostgresStore, RedisStore, Store as _,
};
use grantflow_tests::canary::{hidden_in_debug, hidden_in_error};

const MARKER: &str = "c4n4ryM4rk3r";

fn contents() -> Vec<String> {
    vec![
        format!("{{\"client_secret\": \"{MARKER}\"}}"),
        format!("-----BEGIN PRIVATE KEY-----\n{MARKER}\n-----END PRIVATE KEY-----\n"),
        format!("ya29.a0{MARKER}"),
        format!("GOCSPX-{MARKER}"),
        format!("redis://user:{MARKER}@127.0.0.1:1/0"),
        format!("redis://127.0.0.1:1/{MARKER}"),
        format!("http://user:{MARKER}@host"),
        format!("postgres://user:{MARKER}@127.0.0.1:1/db"),
        format!("postgres://user:{MARKER}@db.example/db"),
        format!("host=127.0.0.1 port=1 password={MARKER}"),
    ]
}

/// A store that does not answer takes its time to say so: all are asked at once.
#[test]
fn no_store_shows_a_secret_that_stands_in_the_wrong_place() {
    std::thread::scope(|scope| {
        for text in contents() {
            for store in [redis, prefix_of_redis, postgres, table_of_postgres, keyring] {
                let text = text.clone();
                scope.spawn(move || store(&text));
            }
        }
    });
    if let Err(error) = KeyringStore::new(MARKER, FileStore::new("/nowhere")) {
        hidden_in_error(&error, &[MARKER]);
    }
}

fn key(text: &str) -> RecordKey {
    RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new(text), text)
}

fn redis(text: &str) {
    match RedisStore::new(text) {
        Err(error) => hidden_in_error(&error, &[MARKER]),
        Ok(store) => {
            hidden_in_debug("a store", &store, &[MARKER]);
            let store = store.prefix(text);
            hidden_in_debug("a store", &store, &[MARKER]);
            let failure = store.load(&key(text)).unwrap_err();
            hidden_in_debug("a failure", &failure, &[MARKER]);
            hidden_in_error(&grantflow_store::grantflow::Error::from(failure), &[MARKER]);
        }
    }
    match AsyncRedisStore::new(text) {
        Err(error) => hidden_in_error(&error, &[MARKER]),
        Ok(store) => hidden_in_debug("a store", &store.prefix(text), &[MARKER]),
    }
}

fn prefix_of_redis(text: &str) {
    let store = RedisStore::new("redis://127.0.0.1:1").unwrap().prefix(text);
    hidden_in_debug("a store", &store, &[MARKER]);
    hidden_in_error(&store.load(&key(text)).unwrap_err(), &[MARKER]);
}

fn postgres(text: &str) {
    match PostgresStore::new(text) {
        Err(error) => hidden_in_error(&error, &[MARKER]),
        Ok(store) => {
            let store = store.table(text);
            hidden_in_debug("a store", &store, &[MARKER]);
            hidden_in_error(&store.load(&key(text)).unwrap_err(), &[MARKER]);
        }
    }
    match AsyncPostgresStore::new(text) {
        Err(error) => hidden_in_error(&error, &[MARKER]),
        Ok(store) => hidden_in_debug("a store", &store, &[MARKER]),
    }
}

fn table_of_postgres(text: &str) {
    if let Ok(store) = PostgresStore::new(text) {
        hidden_in_error(&store.table(text).create_table().unwrap_err(), &[MARKER]);
    }
}

fn keyring(text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let files = FileStore::new(folder.path().join("grants"));
    let store = KeyringStore::with_entries(text, files, mock::Store::new().unwrap() as Arc<_>);
    hidden_in_debug("a store", &store, &[MARKER]);
    assert!(store.load(&key(text)).unwrap().is_none());
}
