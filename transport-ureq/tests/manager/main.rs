//! Managers and pools against a pretend server, by the real clock.

mod pool;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use grantflow_tests::demo::batch;
use grantflow_tests::server::{Alter, RefreshTokens};
use grantflow_tests::{Fault, Front, Place, Registered, Server};
use grantflow_ureq::grantflow::source::{Credential, GrantState, Mint, Minting, TokenSource, Want};
use grantflow_ureq::grantflow::{
    Advice, Cx, Effect, ErrorKind, Issuer, Machine, Reply, Step, Token, TokenRequest, TokenType,
};
use grantflow_ureq::{ManagerBuilder, TokenManager, TokenPool, TokenRef, Transport};

const AT_ONCE: Duration = Duration::from_millis(150);

fn front(server: Server) -> Front {
    Front::start(server).unwrap()
}

fn transport() -> Transport {
    Transport::new().unwrap()
}

fn builder() -> ManagerBuilder {
    TokenManager::builder(&transport())
}

/// Tokens that live for 2 s are due after 1 s.
fn short_lived() -> Front {
    front(Server::demo().with(|settings| settings.lifetime = 2))
}

fn early() -> ManagerBuilder {
    builder().margin(Duration::from_secs(60))
}

const UNTIL_DUE: Duration = Duration::from_millis(1_100);

fn credential(front: &Front) -> Credential {
    Credential::client_credentials(front.metadata(), &batch())
}

/// The credential of a user who signed in to a server that rotates refresh tokens.
fn rotating(front: &Front) -> Credential {
    front.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
    let (server, client) = (front.metadata(), batch());
    let request = TokenRequest::password(&server, &client, "alice", "wonderland").unwrap();
    let token = transport().run(request.scopes("read write").exchange()).unwrap();
    Credential::signed_in(server, &client, &token).unwrap()
}

fn read() -> Want {
    Want::access_token("read")
}

/// Fetches a token and uses it again: from then on it is refreshed before it ends.
fn in_use(manager: &TokenManager) -> TokenRef {
    manager.start().unwrap();
    manager.token().unwrap()
}

fn requests(front: &Front) -> usize {
    front.server().seen_at(Place::Token).len()
}

fn delay(front: &Front, time: u64) {
    front.server().fail(Place::Token, Fault::Delay(Duration::from_millis(time)));
}

/// Calls from so many threads, so often each; how long the longest of them took.
fn longest(threads: usize, calls: usize, call: impl Fn() + Sync) -> Duration {
    let longest = Mutex::new(Duration::ZERO);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..calls {
                    let start = Instant::now();
                    call();
                    let mut longest = longest.lock().unwrap();
                    *longest = longest.max(start.elapsed());
                }
            });
        }
    });
    longest.into_inner().unwrap()
}

/// Waits until it is so, for 5 s at the most.
fn eventually(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: not within 5 s");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A source that is a function.
struct By<F>(F);

impl<F: Fn() -> Mint + Send + Sync> TokenSource for By<F> {
    fn mint(&self, _: &Want, _: &GrantState) -> Mint {
        (self.0)()
    }
}

fn by<F: Fn() -> Mint + Send + Sync>(make: F) -> By<F> {
    By(make)
}

/// A machine that is a function.
struct Once<F>(F);

impl<F: FnMut(&mut Cx) -> Step<Token>> Machine for Once<F> {
    type Output = Token;
    fn resume(&mut self, cx: &mut Cx, _: Reply) -> Step<Token> {
        (self.0)(cx)
    }
}

impl<F: FnMut(&mut Cx) -> Step<Token>> Minting for Once<F> {}

fn done(token: &str, cx: &Cx) -> Step<Token> {
    Step::Done(Token::bearer(token, cx.now().wall, None))
}

#[test]
fn a_thousand_calls_without_a_token_make_one_request() {
    for threads in [8, 100] {
        let front = front(Server::demo());
        delay(&front, 200);
        let manager = TokenManager::new(&transport(), credential(&front), read());
        let tokens = Mutex::new(Vec::new());
        longest(threads, 1_000 / threads, || {
            let token = manager.token().unwrap().access_token().to_owned();
            tokens.lock().unwrap().push(token);
        });
        let mut tokens = tokens.into_inner().unwrap();
        assert_eq!(tokens.len(), 1_000);
        tokens.dedup();
        assert_eq!(tokens.len(), 1);
        assert_eq!(requests(&front), 1);
    }
}

#[test]
fn a_token_that_is_due_is_refreshed_once_and_nobody_waits() {
    let front = short_lived();
    let manager = early().build(credential(&front), read());
    let first = in_use(&manager);
    eventually("a refresh by the background", || requests(&front) == 2);
    // The second was not used: the first of these calls is the one that finds it due.
    thread::sleep(UNTIL_DUE);
    assert_eq!(requests(&front), 2);
    delay(&front, 300);
    let longest = longest(8, 100, || assert!(manager.token().unwrap().generation() < 3));
    assert!(longest < AT_ONCE, "{longest:?}");
    eventually("the refresh", || manager.token().unwrap().generation() == 3);
    assert_eq!(requests(&front), 3);
    assert_ne!(first.access_token(), manager.token().unwrap().access_token());
}

#[test]
fn what_is_used_is_refreshed_before_anybody_asks_and_what_is_not_is_left_to_end() {
    let front = short_lived();
    let used = early().build(credential(&front), read());
    in_use(&used);
    let once = early().build(credential(&front), Want::access_token("write"));
    once.token().unwrap();
    eventually("a refresh", || requests(&front) == 3);
    eventually("the end of its time", || once.fresh().is_none());
    assert!(once.status().last_error.is_none());
    // The refreshed one is not used either.
    thread::sleep(UNTIL_DUE * 2);
    assert_eq!(requests(&front), 3);
    assert_eq!((used.token().unwrap().generation(), once.token().unwrap().generation()), (3, 2));
    assert_eq!(requests(&front), 5);
}

#[test]
fn without_the_background_the_first_who_asks_refreshes_and_all_others_are_served() {
    let front = short_lived();
    let manager = early().background_refresh(false).build(credential(&front), read());
    manager.token().unwrap();
    thread::sleep(UNTIL_DUE);
    assert_eq!(requests(&front), 1);
    delay(&front, 300);
    thread::scope(|scope| {
        let first = scope.spawn(|| manager.token().unwrap().generation());
        thread::sleep(Duration::from_millis(100));
        assert_eq!(manager.token().unwrap().generation(), 1);
        assert_eq!(first.join().unwrap(), 2);
    });
    assert_eq!(requests(&front), 2);
}

#[test]
fn a_failed_refresh_never_replaces_a_valid_token() {
    let front = front(Server::demo());
    let manager = TokenManager::new(&transport(), credential(&front), read());
    let token = manager.token().unwrap();
    let refusal = Fault::status(400, r#"{"error":"invalid_client"}"#);
    front.server().fail(Place::Token, refusal);
    let error = manager.force_refresh().unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_client");
    assert_eq!(manager.token().unwrap().access_token(), token.access_token());
    assert!(manager.status().last_error.is_some());
    assert_eq!(manager.force_refresh().unwrap().generation(), 2);
    assert!(manager.status().last_error.is_none());
}

#[test]
fn while_it_fails_the_error_comes_at_once_and_not_by_a_request() {
    let front = front(Server::demo());
    front.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_client"}"#));
    let manager = TokenManager::new(&transport(), credential(&front), read());
    assert!(manager.start().is_err());
    let longest = longest(8, 10, || drop(manager.token().unwrap_err()));
    assert!(longest < AT_ONCE, "{longest:?}");
    assert_eq!(requests(&front), 1);
    thread::sleep(UNTIL_DUE);
    manager.start().unwrap();
}

#[test]
fn a_failure_for_good_is_told_at_once_until_the_credential_is_replaced() {
    let front = front(Server::demo());
    let gone = Credential::refresh_token(front.metadata(), &batch(), "no-such-token");
    let manager = TokenManager::new(&transport(), gone, read());
    for _ in 0..20 {
        let error = manager.token().unwrap_err();
        assert_eq!(error.advice(), Some(Advice::SignInAgain));
    }
    assert_eq!(requests(&front), 1);
    manager.replace(rotating(&front));
    manager.token().unwrap();
    assert!(manager.grant_state().refresh_token().is_some());
}

#[test]
fn a_401_rejects_one_generation_only() {
    let front = front(Server::demo());
    let manager = TokenManager::new(&transport(), credential(&front), read());
    let first = manager.token().unwrap();
    assert!(manager.invalidate(&first));
    let second = manager.token().unwrap();
    assert_ne!(first.access_token(), second.access_token());
    // The late ones change nothing.
    longest(8, 10, || assert!(manager.invalidate(&first)));
    assert_eq!(manager.token().unwrap().access_token(), second.access_token());
    assert_eq!(requests(&front), 2);
    // Refused again so soon, it is not the token's fault.
    assert!(!manager.invalidate(&second));
    assert_eq!(manager.token().unwrap().access_token(), second.access_token());
    // Nor does another manager's token concern this one.
    let other = TokenManager::new(&transport(), credential(&front), read());
    other.token().unwrap();
    let foreign = other.force_refresh().unwrap();
    assert_eq!(foreign.generation(), second.generation());
    manager.invalidate(&foreign);
    assert_eq!(manager.token().unwrap().access_token(), second.access_token());
}

#[test]
fn the_last_handle_waits_for_an_exchange_whose_refresh_token_would_be_lost() {
    let front = short_lived();
    let source = rotating(&front);
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let manager = early()
        .on_change(move |change| {
            let token = &change.outcome.as_ref().unwrap().token;
            *keep.lock().unwrap() = token.refresh_token().cloned();
        })
        .build(source, read());
    in_use(&manager);
    let before = requests(&front);
    delay(&front, 500);
    eventually("a refresh", || requests(&front) > before);
    let (clone, start) = (manager.clone(), Instant::now());
    drop(manager);
    assert!(start.elapsed() < AT_ONCE);
    let old = kept.lock().unwrap().clone().unwrap();
    drop(clone);
    assert!(start.elapsed() > Duration::from_millis(300), "{:?}", start.elapsed());
    let new = kept.lock().unwrap().clone().unwrap();
    assert!(!old.matches(new.expose()));
    // It is good: nothing was lost.
    let next = Credential::refresh_token(front.metadata(), &batch(), new);
    TokenManager::new(&transport(), next, read()).start().unwrap();
}

#[test]
fn the_last_handle_does_not_wait_for_what_can_be_had_again() {
    let front = short_lived();
    let manager = early().build(credential(&front), read());
    in_use(&manager);
    delay(&front, 1_000);
    eventually("a refresh", || requests(&front) == 2);
    let start = Instant::now();
    drop(manager);
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
}

#[test]
fn a_panicking_callback_changes_nothing() {
    let front = front(Server::demo());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let manager = builder()
        .on_change(|_| panic!("a callback panics, as this test wants it to"))
        .on_change(move |_| {
            counted.fetch_add(1, SeqCst);
        })
        .build(credential(&front), read());
    let changes = manager.subscribe();
    manager.token().unwrap();
    assert_eq!(manager.force_refresh().unwrap().generation(), 2);
    assert_eq!(calls.load(SeqCst), 2);
    drop(manager);
    assert_eq!(changes.count(), 2);
}

#[test]
fn a_callback_may_use_and_end_its_manager() {
    let front = short_lived();
    let source = rotating(&front);
    let place: Arc<Mutex<Option<TokenManager>>> = Arc::default();
    let inside = place.clone();
    let manager = early()
        .on_change(move |change| {
            let Some(manager) = inside.lock().unwrap().take() else { return };
            assert_eq!(manager.token().unwrap().generation(), change.outcome.as_ref().unwrap().generation);
            manager.shutdown();
        })
        .build(source, read());
    *place.lock().unwrap() = Some(manager.clone());
    let start = Instant::now();
    manager.force_refresh().ok();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(manager.token().unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn a_panicking_source_is_an_error_for_all_who_wait_and_recovers() {
    type Make = fn() -> Mint;
    let sources: [(&str, Make); 2] = [
        ("as it makes the machine", || panic!("a source panics, as this test wants it to")),
        ("in the machine", || {
            Box::new(Once(|_: &mut Cx| {
                thread::sleep(Duration::from_millis(100));
                panic!("a machine panics, as this test wants it to")
            }))
        }),
    ];
    for (name, broken) in sources {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let source = by(move || match counted.fetch_add(1, SeqCst) {
            0 => broken(),
            _ => Box::new(Once(|cx: &mut Cx| done("t", cx))),
        });
        let manager = TokenManager::new(&transport(), source, read());
        longest(8, 1, || assert_eq!(manager.token().unwrap_err().kind(), ErrorKind::Misuse, "{name}"));
        assert_eq!(calls.load(SeqCst), 1, "{name}");
        assert_eq!(manager.force_refresh().unwrap().access_token(), "t", "{name}");
        manager.token().unwrap();
        manager.shutdown();
    }
}

#[test]
fn a_token_without_an_end_is_good_until_it_is_refused() {
    let front = front(Server::demo().with(|settings| settings.alter_token = Alter::set("expires_in", ().into())));
    let manager = TokenManager::new(&transport(), credential(&front), read());
    let token = manager.token().unwrap();
    let status = manager.status();
    assert!((status.expires_at, status.next_refresh) == (None, None), "{status:?}");
    assert_eq!(manager.fresh().unwrap().access_token(), token.access_token());
    assert!(manager.invalidate(&token));
    assert!(manager.fresh().is_none());
    assert_eq!(manager.token().unwrap().generation(), 2);
}

#[test]
fn after_shutdown_there_are_only_errors() {
    let front = front(Server::demo());
    let manager = TokenManager::new(&transport(), rotating(&front), read());
    let mut changes = manager.subscribe();
    manager.token().unwrap();
    delay(&front, 400);
    thread::scope(|scope| {
        let before = requests(&front);
        let refresh = scope.spawn(|| manager.force_refresh());
        eventually("the refresh", || requests(&front) > before);
        let start = Instant::now();
        manager.shutdown();
        assert!(start.elapsed() > Duration::from_millis(200), "{:?}", start.elapsed());
        assert_eq!(refresh.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    });
    for error in [manager.token().unwrap_err(), manager.clone().force_refresh().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
    assert!(manager.fresh().is_none());
    // What the exchange brought was told nevertheless, and then no more.
    let tokens: Vec<_> = changes.by_ref().map(|change| change.outcome.unwrap().generation).collect();
    assert_eq!(tokens, [1, 2]);
    assert!(manager.grant_state().refresh_token().is_some());

    let pool = TokenPool::new(&transport());
    pool.add("batch", credential(&front)).unwrap();
    let (one, other) = (pool.manager("batch", read()).unwrap(), Want::access_token("write"));
    one.token().unwrap();
    one.shutdown();
    assert_eq!(one.token().unwrap_err().kind(), ErrorKind::Cancelled);
    pool.token("batch", &read()).unwrap();
    pool.token("batch", &other).unwrap();
    pool.shutdown();
    for error in [
        pool.token("batch", &other).unwrap_err(),
        pool.manager("batch", read()).unwrap_err(),
        pool.add("new", credential(&front)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}

#[test]
fn headers_are_for_bearer_tokens() {
    let front = front(Server::demo());
    let manager = TokenManager::new(&transport(), credential(&front), read());
    let bearer = format!("Bearer {}", manager.access_token().unwrap().expose());
    assert!(manager.authorization().unwrap().is_sensitive());
    assert_eq!(manager.headers().unwrap()["authorization"], bearer.as_str());
    let mut request = http::Request::get("/").header("authorization", "old").body(()).unwrap();
    manager.authorize(&mut request).unwrap();
    assert_eq!(request.headers().get_all("authorization").iter().collect::<Vec<_>>(), [bearer.as_str()]);

    front.server().settings.alter_token = Alter::set("token_type", "pop".into());
    let Ok(other) = manager.force_refresh() else {
        // The exchange itself may refuse what it did not ask for.
        return assert!(manager.headers().is_ok());
    };
    assert!(matches!(other.token_type(), TokenType::Other(_)));
    for error in [manager.headers().unwrap_err(), manager.authorize(&mut request).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::TokenType);
    }
}

#[test]
fn status_tells_how_things_are() {
    let front = front(Server::demo());
    let manager = TokenManager::new(&transport(), credential(&front), read());
    let status = manager.status();
    assert!(status.expires_at.is_none() && status.next_refresh.is_none() && !status.refreshing);
    let token = manager.token().unwrap();
    let status = manager.status();
    assert_eq!(status.expires_at, token.expires_at());
    let left = status.expires_at.unwrap().since(status.next_refresh.unwrap());
    assert!((300..=361).contains(&left.as_secs()), "{left:?}");
    delay(&front, 300);
    thread::scope(|scope| {
        let refresh = scope.spawn(|| manager.force_refresh().unwrap());
        eventually("a refresh", || manager.status().refreshing);
        refresh.join().unwrap();
    });
    assert!(!manager.status().refreshing);
    assert!(!format!("{manager:?} {:?}", manager.token()).contains(token.access_token()));
}

#[test]
fn a_token_ref_stays_as_it_is_and_goes_to_other_threads() {
    fn shared<T: Send + Sync + 'static>(value: T) -> T {
        value
    }
    let front = front(Server::demo());
    let manager = shared(TokenManager::new(&transport(), credential(&front), read()));
    let first = shared(manager.token().unwrap());
    let text = first.access_token().to_owned();
    manager.force_refresh().unwrap();
    // More at a time than cost nothing.
    let many: Vec<TokenRef> = (0..20).map(|_| manager.token().unwrap()).collect();
    let moved = thread::spawn(move || first.clone()).join().unwrap();
    drop(shared(TokenPool::new(&transport())));
    drop(manager);
    assert_eq!((moved.access_token(), moved.generation()), (&*text, 1));
    assert!(many.iter().all(|token| token.generation() == 2));
}

#[test]
fn a_machine_that_sleeps_keeps_nobody_from_being_woken() {
    let source = by(|| {
        let mut asleep = false;
        Box::new(Once(move |cx: &mut Cx| {
            if std::mem::replace(&mut asleep, true) { done("t", cx) } else { Step::Do(Effect::Sleep(AT_ONCE)) }
        }))
    });
    let manager = TokenManager::new(&transport(), source, read());
    let longest = longest(50, 1, || assert_eq!(manager.token().unwrap().access_token(), "t"));
    assert!(longest < AT_ONCE * 3, "{longest:?}");
}
