//! The grants of many people: listed, counted, ended and written anew by the machines for it.

use std::sync::Arc;

use grantflow_store::grantflow::crypto::{SealingKey, SealingKeys};
use grantflow_store::grantflow::register::RegisteredClient;
use grantflow_store::grantflow::store::{
    CountGrants, DpopKeyInStore, EndGrants, ListGrants, Page, RecordKey, RegistrationInStore, RewriteGrant,
    RewriteGrants, Stored, Tags, Which,
};
use grantflow_store::grantflow::{Client, ErrorKind, Issuer};
use grantflow_store::{FileStore, MemoryStore, Sealed, Store};
use grantflow_tests::Server;
use grantflow_ureq::Transport;

fn issuer() -> Issuer {
    Issuer::new("https://as.example").unwrap()
}

fn key(label: &str) -> RecordKey {
    RecordKey::new(&issuer(), &Client::new("app"), label)
}

/// A store with more people than fit on a page: each third is of the same person, each has a session of its own.
fn people(count: usize) -> (MemoryStore, Transport) {
    let store = MemoryStore::new();
    for i in 0..count {
        let mut grant = Stored::new(1, "x");
        grant.tags = Tags::new(&issuer(), Some(&format!("person {}", i % 3)), Some(&format!("session {i}")));
        assert!(store.save(&key(&format!("{}/{i:04}", if i < 120 { "a" } else { "b" })), None, &grant).unwrap());
    }
    let transport = Transport::new().unwrap().with_store(Arc::new(store.clone()));
    (store, transport)
}

#[test]
fn all_pages_of_a_prefix_are_listed_one_after_another() {
    let (_, transport) = people(250);
    let (mut found, mut after) = (Vec::new(), None::<RecordKey>);
    loop {
        let mut list = ListGrants::new(Which::label("a/"), 50);
        list = after.iter().fold(list, |list, key| list.after(key));
        let Page { keys, more } = transport.run(list).unwrap();
        after = keys.last().cloned();
        found.extend(keys);
        if !more {
            break;
        }
    }
    found.dedup();
    assert_eq!(found.len(), 120);
    assert!(found.iter().all(|key| key.label().starts_with("a/") && key.client_id() == "app"));
    assert_eq!(transport.run(CountGrants::new(Which::label(""))).unwrap(), 250);
}

#[test]
fn a_dpop_key_is_no_grant_and_is_sealed_anew_as_grants_are() {
    let (store, transport) = people(3);
    let label = |prefix: &str| Which::label(prefix);
    let ours: Vec<_> = ["app", "other"].map(Client::new).into();
    let keys: Vec<_> =
        ours.iter().map(|client| transport.run(DpopKeyInStore::new(&issuer(), client)).unwrap()).collect();
    let count = |which| transport.run(CountGrants::new(which)).unwrap();
    assert_eq!(
        (store.count(&label("")).unwrap(), count(label("")), count(label("a/")), count(label("\n"))),
        (5, 3, 3, 0)
    );
    // Pages of one, of which the first ones may hold nothing but keys.
    for most in [1, 2, 100] {
        let (mut found, mut after) = (Vec::new(), None::<RecordKey>);
        loop {
            let list = after.iter().fold(ListGrants::new(label(""), most), |list, key| list.after(key));
            let page = transport.run(list).unwrap();
            after = page.keys.last().cloned();
            found.extend(page.keys);
            if !page.more || after.is_none() {
                break;
            }
        }
        assert!(found.len() == 3 && found.iter().all(|key| key.label().starts_with("a/")), "{most}: {found:?}");
    }
    let place = RecordKey::of_dpop_key(&issuer(), &ours[0]);
    let version = store.load(&place).unwrap().unwrap().version;
    assert_eq!(transport.run(RewriteGrants::new(label(""))).unwrap().done, 5);
    assert!(store.load(&place).unwrap().unwrap().version > version);
    assert_eq!(transport.run(EndGrants::delete(label(""))).unwrap().done, 3);
    assert_eq!(transport.run(DpopKeyInStore::new(&issuer(), &ours[1])).unwrap(), keys[1]);
}

#[test]
fn a_registration_is_no_grant_either() {
    let (store, transport) = people(3);
    let registered = serde_json::json!({"issuer": issuer(), "client_id": "c", "asked": {}, "registered": {}});
    let registered: RegisteredClient = serde_json::from_value(registered).unwrap();
    for label in ["", "second"] {
        transport.run(RegistrationInStore::keep(registered.clone()).label(label)).unwrap();
    }
    for prefix in ["", "\n", "\n(registration)", "\n(registration)sec"] {
        let (all, grants) = if prefix.is_empty() { (5, 3) } else { (2 - u64::from(prefix.ends_with("sec")), 0) };
        let which = Which::label(prefix);
        assert_eq!(store.count(&which).unwrap(), all, "{prefix:?}");
        assert_eq!(transport.run(CountGrants::new(which.clone())).unwrap(), grants, "{prefix:?}");
        assert_eq!(transport.run(ListGrants::new(which, 1)).unwrap().keys.len() as u64, grants.min(1), "{prefix:?}");
    }
    assert_eq!(transport.run(RewriteGrants::new(Which::label(""))).unwrap().done, 5);
    assert_eq!(transport.run(EndGrants::delete(Which::label(""))).unwrap().done, 3);
    let place = RecordKey::of_registration(&issuer(), "second");
    assert!(store.load(&place).unwrap().is_some());
}

#[test]
fn a_person_a_session_and_a_prefix_are_ended_and_nobody_else() {
    let (_, transport) = people(250);
    let count = |which| transport.run(CountGrants::new(which)).unwrap();
    let end = |which| transport.run(EndGrants::delete(which)).unwrap();
    let session = Which::session(&issuer(), "session 7");
    assert_eq!((end(session.clone()).done, count(session), count(Which::label(""))), (1, 0, 249));
    // Of the 84 of person 0, on one page; of the 83 of person 1 one is gone.
    let person = Which::subject(&issuer(), "person 0");
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = told.clone();
    let ending = EndGrants::delete(person.clone()).told(move |key| tell.lock().unwrap().push(key.label().to_owned()));
    assert_eq!((transport.run(ending).unwrap().done, count(person), count(Which::label(""))), (84, 0, 165));
    let told = told.lock().unwrap();
    assert!(told.len() == 84 && told.windows(2).all(|two| two[0] < two[1]), "each once: {told:?}");
    assert_eq!(count(Which::subject(&issuer(), "person 1")), 82);
    let elsewhere = Issuer::new("https://other.example").unwrap();
    assert_eq!(end(Which::subject(&elsewhere, "person 1")).done, 0, "a person is one of one server");
    let ended = end(Which::label(""));
    assert!(ended.done == 165 && ended.failed.is_empty() && count(Which::label("")) == 0);
}

#[test]
fn who_cannot_be_signed_out_is_told_and_the_others_are_all_the_same() {
    let (store, transport) = people(5);
    let server = Server::demo().metadata();
    // Grants of another client: they are not this one's to revoke.
    let ending = EndGrants::sign_out(Which::label(""), &server, &Client::new("other"));
    let outcome = transport.run(ending.told(|key| panic!("{key:?} has not ended"))).unwrap();
    assert_eq!((outcome.done, outcome.failed.len()), (0, 5));
    assert!(outcome.failed.iter().all(|(_, error)| error.kind() == ErrorKind::Config));
    assert_eq!(store.count(&Which::label("")).unwrap(), 5);
}

#[test]
fn a_store_that_cannot_list_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let transport = Transport::new().unwrap().with_store(Arc::new(FileStore::new(folder.path().join("grants"))));
    let errors = [
        transport.run(ListGrants::new(Which::label(""), 10)).unwrap_err(),
        transport.run(CountGrants::new(Which::label(""))).unwrap_err(),
        transport.run(EndGrants::delete(Which::label(""))).unwrap_err(),
    ];
    for error in errors {
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("cannot list"), "{error}");
    }
}

#[test]
fn all_grants_are_sealed_anew_with_their_tags_while_the_service_runs() {
    let (memory, plain) = people(250);
    let sealing_key = |id: &str, byte: u8| SealingKey::new(id, &(0..32).map(|i| i ^ byte).collect::<Vec<_>>()).unwrap();
    let [old, new] = [sealing_key("old", 1), sealing_key("new", 2)];
    let with = |store: Sealed<MemoryStore>| Transport::new().unwrap().with_store(Arc::new(store));
    // What was never sealed; then the key is replaced.
    for keys in [SealingKeys::new(old.clone()), SealingKeys::new(new.clone()).and_open(old)] {
        let outcome = with(Sealed::new(memory.clone(), keys.clone()).reads_plain());
        let outcome = outcome.run(RewriteGrants::new(Which::label(""))).unwrap();
        assert!(outcome.done == 250 && outcome.failed.is_empty());
        for key in memory.list(&Which::label(""), None, 1000).unwrap().keys {
            assert!(keys.is_newest(&memory.load(&key).unwrap().unwrap().value));
        }
    }
    let alone = Sealed::new(memory.clone(), SealingKeys::new(new));
    assert_eq!(&alone.load(&key("b/0200")).unwrap().unwrap().value[..], b"x");
    assert_eq!(plain.run(CountGrants::new(Which::subject(&issuer(), "person 1"))).unwrap(), 83);
    // One that another key has sealed is told, and left as it is.
    let stranger = Sealed::new(memory.clone(), SealingKeys::new(sealing_key("stranger", 3)));
    assert!(stranger.save(&key("c"), None, &Stored::new(1, "y")).unwrap());
    let outcome = with(alone.clone()).run(RewriteGrants::new(Which::label(""))).unwrap();
    assert!(outcome.done == 250 && outcome.failed.len() == 1 && outcome.failed[0].0 == key("c"), "{outcome:?}");
    assert!(with(alone).run(RewriteGrant::new(key("nobody"))).is_ok(), "nothing there is no error");
}
