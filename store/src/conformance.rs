//! A test for stores, for the authors of one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use grantflow::machine::FailureKind;
use grantflow::store::{MAX_RECORD, Page, RecordKey, Stored, Tags, Which};
use grantflow::{Client, Failure, Issuer, Timestamp};

use crate::{Lease, Store};

/// How many threads race, and how often each of them.
const THREADS: u64 = 8;
const ROUNDS: u64 = 25;
const LEASE: Duration = Duration::from_secs(60);

/// Tries all that a [`Store`] promises, except what only crashes and power cuts show. Each call of `open` gives a
/// handle of its own on one and the same store, which may already hold other records.
///
/// ```
/// let store = grantflow_store::MemoryStore::new();
/// grantflow_store::conformance::check(|| store.clone());
/// ```
///
/// # Panics
///
/// If the store breaks a promise; the message says which.
pub fn check<S: Store>(open: impl Fn() -> S) {
    let [one, other] = [open(), open()];
    changes_by_version(&one, &other);
    keys_are_apart(&one);
    any_bytes_come_back(&one, &other);
    leases_exclude(&one, &other);
    nobody_overwrites_unseen(&open);
    one_works_at_a_time(&open);
}

/// Tries what a [`Store`] that lists its records promises, and all of [`check`].
///
/// # Panics
///
/// If the store breaks a promise; the message says which.
pub fn check_listing<S: Store>(open: impl Fn() -> S) {
    let [one, other] = [open(), open()];
    let issuer = issuer();
    // Each run has people of its own, whose labels no other one has.
    let run = unique();
    let key = |label: &str| RecordKey::new(&issuer, &Client::new("conformance"), &format!("{run}/{label}"));
    let people: Vec<_> = (0..25).map(|i| format!("{}{i:02}", ["a", "a%", "a_b", "a\0", "b\u{1}"][i % 5])).collect();
    for (i, label) in people.iter().enumerate() {
        let mut grant = stored(1, b"x");
        let (sub, sid) = (format!("{run}-{}", i % 3), (i % 2 == 0).then(|| format!("{run}-{i}")));
        grant.tags = Tags::new(&issuer, Some(&sub), sid.as_deref());
        assert!(ok("save", one.save(&key(label), None, &grant)), "did not save");
        let tags = ok("load", other.load(&key(label))).map(|found| found.tags);
        assert!(tags == Some(grant.tags), "the tags of a grant were lost");
    }
    let lease = ok("lease", one.try_lease(&key("a"), LEASE));
    let label = |prefix: &str| Which::label(format!("{run}/{prefix}"));
    for (which, expected) in [
        (label(""), 25),
        (label("a"), 20),
        (label("a%"), 5),
        (label("a_"), 5),
        (label("a\0"), 5),
        (label("b\u{1}"), 5),
        (label("b\0"), 0),
        (label("A"), 0),
        (Which::subject(&issuer, &format!("{run}-1")), 8),
        (Which::session(&issuer, &format!("{run}-4")), 1),
        (Which::session(&issuer, &format!("{run}-3")), 0),
        (Which::subject(&issuer, &format!("{run}-4")), 0),
    ] {
        let counted = ok("count", other.count(&which));
        assert!(counted == expected, "{which:?}: counted {counted} of {expected}");
        for most in [1, 4, 25, 1000] {
            let found = all(&other, &which, most);
            assert!(found.len() as u64 == expected, "{which:?}: listed {} of {expected}", found.len());
            assert!(found.iter().all(|key| which_has(&one, &which, key)), "{which:?}: listed another: {found:?}");
        }
    }
    // A changed grant is found by what it is now.
    let mut moved = stored(2, b"y");
    moved.tags = Tags::new(&issuer, Some(&format!("{run}-new")), None);
    assert!(ok("save", one.save(&key(&people[0]), Some(1), &moved)), "did not save");
    assert!(ok("count", other.count(&Which::subject(&issuer, &format!("{run}-new")))) == 1, "the tags stayed old");
    assert!(ok("count", other.count(&Which::session(&issuer, &format!("{run}-0")))) == 0, "the tags stayed old");
    for key in all(&other, &label(""), 10) {
        let version = ok("load", one.load(&key)).map(|found| found.version);
        assert!(version.is_some_and(|version| ok("delete", one.delete(&key, version))), "did not delete");
    }
    drop(lease);
    assert!(ok("count", other.count(&label(""))) == 0, "counted what was deleted");
}

/// All pages, one after another.
fn all(store: &impl Store, which: &Which, most: usize) -> BTreeSet<RecordKey> {
    let (mut found, mut after) = (BTreeSet::new(), None);
    loop {
        let Page { keys, more } = ok("list", store.list(which, after.as_ref(), most));
        assert!(keys.len() <= most, "a page is larger than asked for");
        after = keys.last().cloned();
        for key in keys {
            assert!(found.insert(key), "a grant stands on two pages");
        }
        if !more {
            return found;
        }
    }
}

fn which_has(store: &impl Store, which: &Which, key: &RecordKey) -> bool {
    ok("load", store.load(key)).is_some_and(|found| which.has(key, &found.tags))
}

fn issuer() -> Issuer {
    Issuer::new("https://as.example").expect("a good issuer")
}

/// What no other run has used.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{}-{since}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn key(label: &str) -> RecordKey {
    RecordKey::new(&issuer(), &Client::new("conformance"), &format!("{label}/{}", unique()))
}

fn stored(version: u64, value: &[u8]) -> Stored {
    Stored::new(version, value.to_vec())
}

#[track_caller]
fn ok<T>(what: &str, result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|failure| panic!("{what}: {failure}"))
}

#[track_caller]
fn lies(store: &impl Store, key: &RecordKey, expected: Option<(u64, &[u8])>) {
    let found = ok("load", store.load(key));
    let found = found.as_ref().map(|found| (found.version, &found.value[..]));
    assert!(found == expected, "the store holds something else than was written: {:?}", found.map(|found| found.0));
}

fn changes_by_version(one: &impl Store, other: &impl Store) {
    let key = &key("version");
    let save = |store: &dyn Store, expected, version, value: &[u8]| {
        ok("save", store.save(key, expected, &stored(version, value)))
    };
    lies(one, key, None);
    assert!(!save(one, Some(1), 2, b"x"), "saved over a version where nothing lay");
    assert!(!ok("delete", one.delete(key, 1)), "deleted nothing");
    lies(other, key, None);
    assert!(save(one, None, 1, b"first"), "did not save where nothing lay");
    lies(other, key, Some((1, b"first")));
    assert!(!save(other, None, 1, b"x"), "saved as new where something lay");
    assert!(!save(other, Some(2), 3, b"x"), "saved over another version");
    assert!(!save(other, Some(0), 1, b"x"), "saved over another version");
    lies(one, key, Some((1, b"first")));
    assert!(save(other, Some(1), 2, b"second"), "did not save over the version that lay there");
    lies(one, key, Some((2, b"second")));
    assert!(!save(one, Some(1), 2, b"late"), "a late writer overwrote what was newer");
    assert!(!ok("delete", one.delete(key, 1)), "deleted what was newer");
    let far = i64::MAX.unsigned_abs();
    assert!(save(one, Some(2), far, b"third"), "did not save a high version");
    lies(other, key, Some((far, b"third")));
    assert!(!save(one, Some(far - 1), far, b"x"), "took one high version for another");
    assert!(ok("delete", other.delete(key, far)), "did not delete");
    lies(one, key, None);
    assert!(save(one, None, 1, b"again"), "did not save where something was deleted");
    assert!(ok("delete", one.delete(key, 1)), "did not delete");
}

fn keys_are_apart(store: &impl Store) {
    let plain = key("a");
    let keys = [plain.clone(), plain.for_sign_in(), key("../../a"), key("CON"), key("a\0b"), key(&"x".repeat(300))];
    for (version, key) in (1..).zip(&keys) {
        assert!(ok("save", store.save(key, None, &stored(version, key.label().as_bytes()))), "keys share a place");
    }
    for (version, key) in (1..).zip(&keys) {
        lies(store, key, Some((version, key.label().as_bytes())));
        assert!(ok("delete", store.delete(key, version)), "did not delete");
        lies(store, key, None);
    }
}

fn any_bytes_come_back(one: &impl Store, other: &impl Store) {
    let key = key("bytes");
    let every: Vec<u8> = (0..=u8::MAX).cycle().take(200 * 1024).collect();
    let values: [&[u8]; 5] = [b"", b"\n", b"\0\xff\n\r\n", b"grantflow record 1 version 7\n", &every];
    let mut before = None;
    for (version, value) in (1..).zip(values) {
        assert!(ok("save", one.save(&key, before, &stored(version, value))), "did not save");
        lies(other, &key, Some((version, value)));
        before = Some(version);
    }
    // There may be a limit; it has a kind of its own, since less may find room.
    let huge = vec![b'x'; 4 * MAX_RECORD];
    match one.save(&key, before, &stored(6, &huge)) {
        Ok(saved) => {
            assert!(saved, "did not save");
            lies(other, &key, Some((6, &huge)));
            before = Some(6);
        }
        Err(failure) => {
            let kind = failure.kind();
            assert!(kind == FailureKind::TooLarge, "what is too large is of kind TooLarge, not {kind:?}: {failure}");
            lies(other, &key, Some((5, &every)));
        }
    }
    assert!(ok("delete", one.delete(&key, before.unwrap_or(0))), "did not delete");
}

fn leases_exclude(one: &impl Store, other: &impl Store) {
    let plain = key("lease");
    let take = |store: &dyn Store, key: &RecordKey| ok("lease", store.try_lease(key, LEASE));
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let lease = take(one, &plain).expect("nobody has the lease");
    let least = Timestamp::from_unix_millis(i64::try_from(before).unwrap_or(0)) + LEASE;
    assert!(lease.until().is_none_or(|until| until >= least), "the lease ends before its time: {lease:?}");
    assert!(take(other, &plain).is_none(), "two have the lease");
    assert!(take(one, &plain).is_none(), "two have the lease through one handle");
    let sign_in = take(other, &plain.for_sign_in()).expect("the lease of another key is free");
    // The version counts, not the lease.
    assert!(ok("save", other.save(&plain, None, &stored(1, b"x"))), "a lease kept another from saving");
    assert!(ok("delete", other.delete(&plain, 1)), "a lease kept another from deleting");
    drop(lease);
    let again = take(other, &plain).expect("the lease was given back");
    assert!(take(one, &plain).is_none(), "two have the lease");
    drop((again, sign_in));
    let thrown: Option<Lease> = take(one, &plain);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _lease = thrown;
        std::panic::resume_unwind(Box::new("an end without order"));
    }));
    assert!(ended.is_err() && take(other, &plain).is_some(), "a panic kept the lease");
}

fn nobody_overwrites_unseen<S: Store>(open: &impl Fn() -> S) {
    let key = &key("race");
    let stores: Vec<S> = (0..THREADS).map(|_| open()).collect();
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    loop {
                        let found = ok("load", store.load(key)).map(|found| found.version);
                        let next = found.unwrap_or(0) + 1;
                        if ok("save", store.save(key, found, &stored(next, next.to_string().as_bytes()))) {
                            break;
                        }
                    }
                }
            });
        }
    });
    let all = THREADS * ROUNDS;
    lies(&stores[0], key, Some((all, all.to_string().as_bytes())));
    assert!(ok("delete", stores[0].delete(key, all)), "did not delete");
}

fn one_works_at_a_time<S: Store>(open: &impl Fn() -> S) {
    let key = &key("turns");
    let (working, turns) = (&AtomicBool::new(false), &AtomicU64::new(0));
    let stores: Vec<S> = (0..THREADS).map(|_| open()).collect();
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(move || {
                let mut left = ROUNDS;
                while left > 0 {
                    let Some(lease) = ok("lease", store.try_lease(key, LEASE)) else {
                        std::thread::sleep(Duration::from_micros(200));
                        continue;
                    };
                    assert!(!working.swap(true, Ordering::SeqCst), "two worked at once");
                    std::thread::yield_now();
                    working.store(false, Ordering::SeqCst);
                    turns.fetch_add(1, Ordering::SeqCst);
                    drop(lease);
                    left -= 1;
                }
            });
        }
    });
    assert_eq!(turns.load(Ordering::SeqCst), THREADS * ROUNDS, "a turn was lost");
}
