//! What a store did not take, and what another process did: a manager by itself, while nobody asks it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use grantflow::machine::FailureKind;
use grantflow::source::{GrantStatus, Want};
use grantflow::store::{LoadGrant, RecordKey, Stored};
use grantflow::{Advice, Failure, Revocation};
use grantflow_tests::server::{Alter, RefreshTokens};
use grantflow_ureq::grantflow_store::{Lease, MemoryStore, Store};

use super::*;

/// A manager of either adapter.
pub(super) trait Tokens {
    fn token(&self) -> Result<Token, Error>;
    fn force_refresh(&self) -> Result<Token, Error>;
    fn grant(&self) -> GrantStatus;
    fn unsaved(&self) -> Option<Error>;
    fn shutdown(&self);
    /// Lets time pass, in which the background goes on.
    fn pass(&self, time: Duration);
}

impl Tokens for grantflow_ureq::TokenManager {
    fn token(&self) -> Result<Token, Error> {
        self.token().map(|token| Token::clone(&token))
    }
    fn force_refresh(&self) -> Result<Token, Error> {
        self.force_refresh().map(|token| Token::clone(&token))
    }
    fn grant(&self) -> GrantStatus {
        self.status().grant
    }
    fn unsaved(&self) -> Option<Error> {
        self.status().unsaved
    }
    fn shutdown(&self) {
        self.shutdown();
    }
    fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// One of reqwest's, in a runtime of its own that is driven only while something is asked.
pub(super) struct InRuntime(pub(super) grantflow_reqwest::TokenManager, pub(super) tokio::runtime::Runtime);

impl Tokens for InRuntime {
    fn token(&self) -> Result<Token, Error> {
        self.1.block_on(self.0.token()).map(|token| Token::clone(&token))
    }
    fn force_refresh(&self) -> Result<Token, Error> {
        self.1.block_on(self.0.force_refresh()).map(|token| Token::clone(&token))
    }
    fn grant(&self) -> GrantStatus {
        self.0.status().grant
    }
    fn unsaved(&self) -> Option<Error> {
        self.0.status().unsaved
    }
    fn shutdown(&self) {
        self.1.block_on(self.0.shutdown());
    }
    fn pass(&self, time: Duration) {
        self.1.block_on(async { tokio::time::sleep(time).await });
    }
}

/// A store that takes nothing while it is full.
#[derive(Clone, Default)]
struct Filling {
    store: MemoryStore,
    full: Arc<AtomicBool>,
    /// Whether it takes its time, and whether it does just now.
    slow: Arc<AtomicBool>,
    at_work: Arc<AtomicBool>,
}

impl Store for Filling {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        if self.slow.load(SeqCst) {
            self.at_work.store(true, SeqCst);
            std::thread::sleep(Duration::from_millis(300));
        }
        self.store.load(key)
    }
    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        if self.full.load(SeqCst) {
            return Err(Failure::not_sent(FailureKind::Store, "no space left on device"));
        }
        self.store.save(key, expected, stored)
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.store.delete(key, expected)
    }
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        self.store.try_lease(key, time)
    }
}

/// A server that replaces refresh tokens, whose user consents at once, and a program with a store.
fn stage<A: Adapter>() -> (Front, InstalledApp, Filling, A) {
    let server =
        Server::demo().with(|settings| settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO });
    let front = Front::start(server).unwrap();
    let app = app(&front).show(|url| drop(person::visit_in_background(url)));
    let store = Filling::default();
    let program = A::with_store(Arc::new(store.clone()));
    (front, app, store, program)
}

/// A manager whose last refresh could not be saved, though its intent could.
fn unsaved<A: Adapter>(front: &Front, app: &InstalledApp, store: &Filling, program: &A) -> A::Tokens {
    let tokens = program.tokens(app).unwrap();
    // From the moment when the server is asked, the store takes nothing.
    let full = store.full.clone();
    front.server().settings.alter_token = Alter::by(move |_| full.store(true, SeqCst));
    let token = tokens.force_refresh().unwrap();
    assert!(front.server().accepts(token.access_token(), program.cx().now().wall));
    assert!(tokens.unsaved().is_some(), "the status tells it");
    front.server().settings.alter_token = Alter::default();
    tokens
}

/// Whether a program that starts now is served without asking anybody: an older refresh token would be refused.
fn is_saved<A: Adapter>(app: &InstalledApp, store: &Filling) -> bool {
    let next = A::with_store(Arc::new(store.store.clone()));
    let kept = next.run(LoadGrant::new(app.record_key(""), Want::default())).unwrap().unwrap();
    let tokens = next.tokens(&app.clone().show(|_| panic!("somebody was asked"))).unwrap();
    kept.refresh_token.is_some() && tokens.force_refresh().is_ok()
}

pub(super) fn what_could_not_be_saved_is_saved_by_itself_once_that_can_be<A: Adapter>() {
    let (front, app, store, program) = stage::<A>();
    let tokens = unsaved(&front, &app, &store, &program);
    store.full.store(false, SeqCst);
    let begin = Instant::now();
    while tokens.unsaved().is_some() && begin.elapsed() < Duration::from_secs(20) {
        tokens.pass(Duration::from_millis(100));
    }
    assert!(tokens.unsaved().is_none(), "nobody asked, and it was not saved");
    assert!(is_saved::<A>(&app, &store));
}

pub(super) fn what_could_not_be_saved_is_saved_at_the_end<A: Adapter>() {
    for shut_down in [true, false] {
        let (front, app, store, program) = stage::<A>();
        let tokens = unsaved(&front, &app, &store, &program);
        store.full.store(false, SeqCst);
        let requests = front.server().seen().len();
        if shut_down {
            tokens.shutdown();
        } else {
            drop(tokens);
        }
        assert_eq!(front.server().seen().len(), requests);
        assert!(is_saved::<A>(&app, &store), "shut down: {shut_down}");
    }
}

pub(super) fn a_save_that_is_under_way_at_the_end_is_not_lost<A: Adapter>() {
    for shut_down in [true, false] {
        let (front, app, store, program) = stage::<A>();
        let tokens = unsaved(&front, &app, &store, &program);
        store.slow.store(true, SeqCst);
        store.full.store(false, SeqCst);
        let begin = Instant::now();
        while !store.at_work.load(SeqCst) && begin.elapsed() < Duration::from_secs(20) {
            tokens.pass(Duration::from_millis(10));
        }
        assert!(store.at_work.load(SeqCst) && tokens.unsaved().is_some(), "it is under way");
        if shut_down {
            tokens.shutdown();
        } else {
            drop(tokens);
        }
        assert!(is_saved::<A>(&app, &store), "shut down: {shut_down}");
    }
}

pub(super) fn a_sign_in_that_could_not_be_saved_is_saved_later<A: Adapter>() {
    let (front, app, store, program) = stage::<A>();
    store.full.store(true, SeqCst);
    let tokens = program.tokens(&app).unwrap();
    assert!(tokens.unsaved().is_some());
    let token = tokens.token().unwrap();
    assert_eq!(front.server().seen_at(Place::Token).len(), 1, "nothing is refreshed that is good");
    store.full.store(false, SeqCst);
    drop(tokens);
    // The next start asks nobody.
    let again = program.tokens(&app.clone().show(|_| panic!("somebody was asked"))).unwrap();
    assert_eq!(again.token().unwrap().access_token(), token.access_token());
}

pub(super) fn who_was_refused_goes_on_when_somebody_has_signed_in_elsewhere<A: Adapter>() {
    let (front, app, store, program) = stage::<A>();
    front.server().settings.lifetime = 1;
    let daemon = program.tokens(&app).unwrap();
    let kept = program.run(LoadGrant::new(app.record_key(""), Want::default())).unwrap().unwrap();
    let revocation = Revocation::new(&front.metadata(), app.client(), &kept.refresh_token.unwrap()).unwrap();
    program.run(revocation.exchange()).unwrap();
    // As long as there may be a good token, a refusal may only be early.
    daemon.pass(Duration::from_millis(6200));
    let refused = daemon.token().unwrap_err();
    assert_eq!(refused.advice(), Some(Advice::SignInAgain), "{refused}");
    assert_eq!(daemon.grant(), GrantStatus::Refused { early: false });
    let requests = front.server().seen_at(Place::Token).len();
    daemon.force_refresh().unwrap_err();
    assert_eq!(front.server().seen_at(Place::Token).len(), requests, "it is not asked again");

    front.server().settings.lifetime = 3600;
    let elsewhere = A::with_store(Arc::new(store.clone())).load_or_sign_in(&app).unwrap();
    daemon.pass(Duration::from_millis(5100));
    assert_eq!(daemon.token().unwrap().access_token(), elsewhere.access_token());
    assert_eq!(daemon.grant(), GrantStatus::Settled);
}
