//! Signing in once and being remembered, against the pretend server over TCP and a store of files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use grantflow::source::{GrantStatus, Waiting, Want};
use grantflow::store::{LoadGrant, RecordKey, SaveGrant, SavedGrant, SharedGrant, StoreOp, Stored};
use grantflow::{
    Advice, Client, Cx, Effect, ErrorKind, Failure, InstalledApp, Machine, Reply, Revocation, ServerMetadata, Step,
    Token,
};
use grantflow_reqwest::{TokenManager, Transport};
#[cfg(unix)]
use grantflow_store::AsyncRedisStore;
use grantflow_store::{AsyncStore, FileStore, Lease, MemoryStore, Store};
#[cfg(unix)]
use grantflow_tests::redis_server::RedisServer;
use grantflow_tests::server::{Alter, Consent, RefreshTokens};
use grantflow_tests::{Fault, Front, Place, Server, person};
use tokio::sync::Notify;

/// A pretend server, a directory for grants, and how often a browser was opened.
struct Stage {
    front: Front,
    directory: PathBuf,
    opened: Arc<AtomicUsize>,
}

impl Stage {
    fn new(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stored").join(name);
        let _ = std::fs::remove_dir_all(&directory);
        Self { front: Front::start(Server::demo()).unwrap(), directory, opened: Arc::default() }
    }

    /// A program that was just started.
    fn program(&self) -> Transport {
        Transport::new().unwrap().with_store(Arc::new(FileStore::new(&self.directory)))
    }

    /// The application, whose user consents as soon as the browser opens.
    fn app(&self) -> InstalledApp {
        self.app_at(&self.front.metadata())
    }

    fn app_at(&self, server: &ServerMetadata) -> InstalledApp {
        let opened = self.opened.clone();
        let app = InstalledApp::new(server, &Client::new("demo")).scopes("openid read").open_browser(false);
        app.timeout(Duration::from_secs(20)).show(move |url| {
            opened.fetch_add(1, SeqCst);
            drop(person::visit_in_background(url));
        })
    }

    fn opened(&self) -> usize {
        self.opened.load(SeqCst)
    }

    fn requests(&self) -> usize {
        self.front.server().seen().len()
    }

    fn refreshes(&self) -> usize {
        let server = self.front.server();
        let grants = server.seen_at(Place::Token).into_iter().filter_map(|seen| seen.param("grant_type"));
        grants.filter(|grant| grant == "refresh_token").count()
    }

    async fn kept(&self) -> Option<SavedGrant> {
        self.program().run(LoadGrant::new(self.app().record_key(""), Want::default())).await.unwrap()
    }

    /// Signs in, and lets the access token end.
    async fn signed_in_long_ago(&self) {
        self.front.server().settings.lifetime = 1;
        self.program().load_or_sign_in(&self.app(), "").await.unwrap();
        self.front.server().settings.lifetime = 3600;
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }

    /// The next start of the program must ask nobody and get a token that works.
    async fn assert_remembered(&self) {
        let opened = self.opened();
        let tokens = self.program().load_or_sign_in(&self.app(), "").await.unwrap();
        let (now, token) = (self.program().now().wall, tokens.token().await.unwrap());
        assert!(self.front.server().accepts(token.access_token(), now));
        assert_eq!(self.opened(), opened);
    }
}

#[tokio::test]
async fn the_first_run_asks_and_the_second_sends_no_request() {
    let stage = Stage::new("second");
    let tokens = stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
    assert_eq!(tokens.token().await.unwrap().scopes().as_str(), "openid read");
    let requests = stage.requests();
    stage.assert_remembered().await;
    assert_eq!((stage.opened(), stage.requests()), (1, requests));
    // Another person's grant is another one.
    stage.program().load_or_sign_in(&stage.app(), "bob").await.unwrap();
    assert_eq!(stage.opened(), 2);
}

#[tokio::test]
async fn a_device_is_remembered_too() {
    let stage = Stage::new("device");
    stage.front.server().settings.device_interval = Some(1);
    let entered = stage.opened.clone();
    let device = stage.app().show_code(move |code| {
        entered.fetch_add(1, SeqCst);
        drop(person::enter_code_in_background(code.verification_uri(), code.user_code()));
    });
    stage.program().load_or_sign_in(&device, "").await.unwrap();
    let requests = stage.requests();
    stage.program().load_or_sign_in(&device, "").await.unwrap();
    assert_eq!((stage.opened(), stage.requests()), (1, requests));
    // However the person signed in, it is the same grant.
    stage.assert_remembered().await;
    stage.program().sign_out(&device, "").await.unwrap();
    assert!(stage.kept().await.is_none());
}

#[tokio::test]
async fn an_expired_token_is_refreshed_and_the_new_one_kept() {
    for refresh_tokens in [RefreshTokens::Stay, RefreshTokens::Rotate { grace: Duration::ZERO }] {
        let stage = Stage::new("expired");
        stage.front.server().settings.refresh_tokens = refresh_tokens;
        stage.signed_in_long_ago().await;
        let before = stage.refreshes();
        for _ in 0..3 {
            stage.assert_remembered().await;
        }
        assert_eq!((stage.opened(), stage.refreshes()), (1, before + 1), "{refresh_tokens:?}");
        let tokens = stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
        tokens.force_refresh().await.unwrap();
        let requests = stage.requests();
        stage.assert_remembered().await;
        assert_eq!(stage.requests(), requests, "what the manager refreshed is kept too");
    }
}

#[tokio::test]
async fn a_revoked_grant_is_asked_for_again() {
    let stage = Stage::new("revoked");
    stage.signed_in_long_ago().await;
    let (server, client) = (stage.front.metadata(), Client::new("demo"));
    let revocation = Revocation::new(&server, &client, &stage.kept().await.unwrap().refresh_token.unwrap()).unwrap();
    stage.program().run(revocation.exchange()).await.unwrap();
    // For as long as its server may take the token for valid, a refusal may be because of that.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = stage.refreshes();
    stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
    assert_eq!(stage.opened(), 2);
    assert_eq!(stage.refreshes(), before + 1, "a refresh token that was refused is not tried again");
    stage.assert_remembered().await;
}

#[tokio::test]
async fn who_waits_for_another_process_is_told_what_for() {
    let stage = Stage::new("waits");
    stage.signed_in_long_ago().await;
    let key = stage.app().record_key("");
    let lease = FileStore::new(&stage.directory).try_lease(&key, Duration::from_secs(60)).unwrap().unwrap();
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let source = SharedGrant::new(key, stage.front.metadata(), &Client::new("demo"));
    let tokens = TokenManager::builder(&stage.program()).on_wait(move |name, waiting| {
        told.send((name.to_owned(), waiting)).unwrap();
    });
    let tokens = tokens.build(source, stage.app().want());
    let frees = async {
        assert_eq!(tells.recv().await.unwrap(), (String::new(), Waiting::Lease));
        assert_eq!(tokens.status().waiting, Some(Waiting::Lease));
        drop(lease);
    };
    tokio::join!(tokens.token(), frees).0.unwrap();
    assert_eq!(tokens.status().waiting, None);
    assert!(tells.try_recv().is_err());
}

#[tokio::test]
async fn a_grant_that_is_revoked_while_in_use_does_until_its_token_has_ended() {
    let stage = Stage::new("revoked-in-use");
    let tokens = stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
    let (server, client) = (stage.front.metadata(), Client::new("demo"));
    let revocation = Revocation::new(&server, &client, &stage.kept().await.unwrap().refresh_token.unwrap()).unwrap();
    stage.program().run(revocation.exchange()).await.unwrap();
    // Who asks for a new token is told that there is none. The one that is held is still good, and stays: only once it
    // has ended is the refusal believed.
    let held = tokens.token().await.unwrap();
    let error = tokens.force_refresh().await.unwrap_err();
    assert_eq!((error.kind(), error.advice()), (ErrorKind::Server, Some(Advice::TryLater)), "{error}");
    assert_eq!(tokens.token().await.unwrap().access_token(), held.access_token());
    assert_eq!(tokens.status().grant, GrantStatus::Refused { early: true });
    // The token that lies there has not ended by its own time.
    stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
    assert_eq!(stage.opened(), 1);
}

#[tokio::test]
async fn trouble_at_the_server_is_an_error_and_asks_nobody() {
    let stage = Stage::new("trouble");
    stage.signed_in_long_ago().await;
    let key = stage.kept().await.unwrap().refresh_token.unwrap();
    let mut down = http::Response::new(b"down".to_vec());
    *down.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    down.headers_mut().insert("retry-after", "3600".parse().unwrap());
    stage.front.server().fail(Place::Token, Fault::Answer(down));
    let error = stage.program().load_or_sign_in(&stage.app(), "").await.unwrap_err();
    assert_eq!(error.advice(), Some(Advice::TryLater), "{error}");

    // Nobody answers there.
    let server = stage.front.metadata();
    let gone = server.token_endpoint("http://127.0.0.1:1/token").unwrap();
    let error = stage.program().load_or_sign_in(&stage.app_at(&gone), "").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(stage.opened(), 1);
    assert!(stage.kept().await.unwrap().refresh_token.unwrap().matches(key.expose()));
    stage.assert_remembered().await;
}

#[tokio::test]
async fn scopes_that_lack_are_asked_for_and_fewer_are_not() {
    let stage = Stage::new("scopes");
    stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
    stage.program().load_or_sign_in(&stage.app().scopes("read"), "").await.unwrap();
    stage.program().load_or_sign_in(&stage.app().scopes("read offline_access"), "").await.unwrap();
    assert_eq!(stage.opened(), 1);
    let wider = stage.app().scopes("openid read write");
    let tokens = stage.program().load_or_sign_in(&wider, "").await.unwrap();
    assert_eq!((stage.opened(), tokens.token().await.unwrap().scopes().as_str()), (2, "openid read write"));
    stage.program().load_or_sign_in(&wider, "").await.unwrap();
    assert_eq!(stage.opened(), 2);
    // Whoever allows less is asked again the next time, and not at once.
    stage.front.server().settings.consent = Consent::Narrow("openid read".into());
    let widest = stage.app().scopes("openid read write email");
    let tokens = stage.program().load_or_sign_in(&widest, "").await.unwrap();
    assert_eq!((stage.opened(), tokens.token().await.unwrap().scopes().as_str()), (3, "openid read"));
    stage.program().load_or_sign_in(&widest, "").await.unwrap();
    assert_eq!(stage.opened(), 4);
}

#[tokio::test]
async fn of_many_programs_at_once_one_opens_a_browser() {
    let stage = Arc::new(Stage::new("many"));
    let programs = [(); 4].map(|()| {
        let stage = stage.clone();
        tokio::spawn(async move {
            let tokens = stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
            let (now, token) = (stage.program().now().wall, tokens.token().await.unwrap());
            assert!(stage.front.server().accepts(token.access_token(), now));
        })
    });
    for program in programs {
        program.await.unwrap();
    }
    assert_eq!(stage.opened(), 1);
    assert_eq!(stage.front.server().seen_at(Place::Token).len(), 1);
}

#[tokio::test]
async fn dropping_the_future_leaves_nothing_behind_and_the_next_one_asks() {
    let stage = Stage::new("dropped");
    let shown = Arc::new(Notify::new());
    let seen = shown.clone();
    let (program, silent) = (stage.program(), stage.app().show(move |_| seen.notify_one()));
    let first = tokio::spawn(async move { program.load_or_sign_in(&silent, "").await.map(drop) });
    shown.notified().await;
    // One that may not wait does not.
    let impatient = stage.app().timeout(Duration::from_millis(50));
    let error = stage.program().load_or_sign_in(&impatient, "").await.unwrap_err();
    assert_eq!((error.kind(), stage.opened()), (ErrorKind::Timeout, 0));
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let sign_in = stage.app().record_key("").for_sign_in();
    let lease = FileStore::new(&stage.directory).try_lease(&sign_in, Duration::from_secs(1)).unwrap();
    assert!(lease.is_some(), "the lease was given back");
    drop(lease);
    stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
    assert_eq!(stage.opened(), 1);
}

#[tokio::test]
async fn a_person_who_says_no_is_an_error_and_nothing_is_kept() {
    let stage = Stage::new("no");
    stage.front.server().settings.consent = Consent::Deny("access_denied");
    let error = stage.program().load_or_sign_in(&stage.app(), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert!(stage.kept().await.is_none());
    stage.front.server().settings.consent = Consent::Grant;
    stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
    assert_eq!(stage.opened(), 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_and_is_not_overwritten() {
    let stage = Stage::new("torn");
    stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
    let file = stage.directory.join(format!("{}.grant", stage.app().record_key("").name()));
    std::fs::write(&file, "torn").unwrap();
    let error = stage.program().load_or_sign_in(&stage.app(), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(stage.program().sign_out(&stage.app(), "").await.is_err());
    assert_eq!((stage.opened(), std::fs::read(&file).unwrap()), (1, b"torn".to_vec()));
}

#[tokio::test]
async fn signing_out_revokes_and_forgets() {
    let stage = Stage::new("out");
    let tokens = stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
    let token = tokens.access_token().await.unwrap();
    let now = stage.program().now().wall;
    stage.program().sign_out(&stage.app(), "").await.unwrap();
    assert!(!stage.front.server().accepts(token.expose(), now));
    assert!(stage.kept().await.is_none());
    assert_eq!(stage.front.server().seen_at(Place::Revoke).len(), 1);
    stage.program().sign_out(&stage.app(), "").await.unwrap();
    assert_eq!(stage.front.server().seen_at(Place::Revoke).len(), 1, "nothing to revoke is no error");
    stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
    assert_eq!(stage.opened(), 2);
}

#[tokio::test]
async fn what_cannot_be_revoked_for_now_is_kept() {
    let stage = Stage::new("cannot revoke");
    stage.program().load_or_sign_in(&stage.app(), "").await.unwrap();
    let mut down = http::Response::new(b"down".to_vec());
    *down.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    down.headers_mut().insert("retry-after", "3600".parse().unwrap());
    stage.front.server().fail(Place::Revoke, Fault::Answer(down));
    assert_eq!(stage.program().sign_out(&stage.app(), "").await.unwrap_err().advice(), Some(Advice::TryLater));
    stage.assert_remembered().await;
    // A server without revocation cannot be told.
    stage.front.server().settings.alter_metadata = Alter::set("revocation_endpoint", serde_json::Value::Null);
    stage.program().sign_out(&stage.app(), "").await.unwrap();
    assert!(stage.kept().await.is_none());
}

#[tokio::test]
async fn without_a_store_the_error_says_what_is_missing() {
    let stage = Stage::new("none");
    let transport = Transport::new().unwrap();
    for error in [
        transport.load_or_sign_in(&stage.app(), "").await.unwrap_err(),
        transport.sign_out(&stage.app(), "").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("not bound to a store"), "{error}");
    }
    assert_eq!((stage.opened(), stage.requests()), (0, 0));
}

#[tokio::test]
async fn a_person_may_take_all_the_time_there_is() {
    let stage = Stage::new("forever");
    let start = Instant::now();
    stage.program().load_or_sign_in(&stage.app().timeout(Duration::MAX), "").await.unwrap();
    stage.assert_remembered().await;
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_futures_are_send() {
    fn send<T: Send>(_: T) {}
    let stage = Stage::new("send");
    let (program, app) = (stage.program(), stage.app());
    send(program.load_or_sign_in(&app, ""));
    send(program.sign_out(&app, ""));
}

/// A store in memory to which all ways take some time.
#[derive(Clone)]
struct Far(MemoryStore);

async fn travel() {
    tokio::time::sleep(Duration::from_millis(1)).await;
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

#[tokio::test]
async fn an_async_store_does_as_well() {
    let stage = Stage::new("async");
    let far = Far(MemoryStore::new());
    let transport = Transport::new().unwrap().with_async_store(far.clone());
    transport.load_or_sign_in(&stage.app(), "").await.unwrap();
    let tokens = transport.load_or_sign_in(&stage.app(), "").await.unwrap();
    tokens.force_refresh().await.unwrap();
    assert_eq!((stage.opened(), stage.refreshes()), (1, 1));
    let key = stage.app().record_key("");
    for key in [key.for_sign_in(), key] {
        assert!(far.0.try_lease(&key, Duration::ZERO).unwrap().is_some(), "all leases were given back");
    }
    transport.sign_out(&stage.app(), "").await.unwrap();
    assert!(far.0.load(&stage.app().record_key("")).unwrap().is_none());
}

#[cfg(unix)]
#[tokio::test]
async fn programs_that_share_a_grant_in_redis_refresh_it_once_even_if_redis_restarts() {
    let Some(mut redis) = RedisServer::start() else { return };
    let address = redis.address();
    let program = || Transport::new().unwrap().with_async_store(AsyncRedisStore::new(&address).unwrap());
    let stage = Stage::new("redis");
    stage.front.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
    stage.front.server().settings.lifetime = 1;
    let first = program();
    first.load_or_sign_in(&stage.app(), "").await.unwrap();
    stage.front.server().settings.lifetime = 3600;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let restarted = tokio::task::spawn_blocking(move || {
        redis.begin();
        redis
    });
    let (app, second) = (stage.app(), program());
    let (first_tokens, second_tokens) = tokio::join!(first.load_or_sign_in(&app, ""), second.load_or_sign_in(&app, ""));
    let (first_tokens, second_tokens) = (first_tokens.unwrap(), second_tokens.unwrap());
    let token = first_tokens.access_token().await.unwrap();
    assert!(token.matches(second_tokens.access_token().await.unwrap().expose()));
    assert_eq!((stage.opened(), stage.refreshes()), (1, 1));
    let _redis = restarted.await.unwrap();
    second.sign_out(&app, "").await.unwrap();
    assert!(!stage.front.server().accepts(token.expose(), first.now().wall));
    let kept = first.run(LoadGrant::new(app.record_key(""), Want::default())).await.unwrap();
    assert!(kept.is_none());
}

/// Takes a lease, and then never ends.
struct Holds(RecordKey, Arc<Notify>);

impl Machine for Holds {
    type Output = ();
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<()> {
        match reply {
            Reply::Start => {
                Step::Do(Effect::Store(StoreOp::Lease { key: self.0.clone(), time: Duration::from_secs(60) }))
            }
            _ => {
                self.1.notify_one();
                Step::Do(Effect::Sleep(Duration::from_secs(3600)))
            }
        }
    }
}

#[tokio::test]
async fn a_run_that_is_dropped_gives_its_lease_back() {
    let stage = Stage::new("lease");
    let memory = MemoryStore::new();
    let far = Far(memory.clone());
    let key = stage.app().record_key("");
    let plain = Transport::new().unwrap();
    for transport in [plain.with_store(Arc::new(memory.clone())), plain.with_async_store(far)] {
        let leased = Arc::new(Notify::new());
        let machine = Holds(key.clone(), leased.clone());
        let run = tokio::spawn(async move { transport.run(machine).await });
        leased.notified().await;
        assert!(memory.try_lease(&key, Duration::ZERO).unwrap().is_none(), "the run has it");
        run.abort();
        assert!(run.await.unwrap_err().is_cancelled());
        assert!(memory.try_lease(&key, Duration::ZERO).unwrap().is_some(), "it was given back");
    }
}

/// Notes on which thread leases are given back: it may have to wait there.
#[derive(Default)]
struct Noting(MemoryStore, Arc<Mutex<Vec<ThreadId>>>);

struct Noted(#[expect(dead_code, reason = "it is given back")] Lease, Arc<Mutex<Vec<ThreadId>>>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(thread::current().id());
    }
}

impl Store for Noting {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        self.0.load(key)
    }
    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        self.0.save(key, expected, stored)
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.0.delete(key, expected)
    }
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        let lease = self.0.try_lease(key, time)?;
        Ok(lease.map(|lease| Lease::new(lease.until(), Noted(lease, self.1.clone()))))
    }
}

#[tokio::test]
async fn leases_are_given_back_where_that_may_wait_whatever_comes_of_the_sign_in() {
    let stage = Stage::new("where");
    let store = Noting::default();
    let notes = store.1.clone();
    let transport = Transport::new().unwrap().with_store(Arc::new(store));
    let nobody = stage.app().show(|_| ()).timeout(Duration::from_millis(50));
    transport.load_or_sign_in(&nobody, "").await.unwrap_err();
    transport.load_or_sign_in(&stage.app(), "").await.unwrap();
    let notes = notes.lock().unwrap();
    assert!(notes.len() >= 3 && !notes.contains(&thread::current().id()), "{notes:?}");
}

/// A store that panics as it saves.
struct Panics(MemoryStore);

impl Store for Panics {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        self.0.load(key)
    }
    fn save(&self, _: &RecordKey, _: Option<u64>, _: &Stored) -> Result<bool, Failure> {
        std::panic::resume_unwind(Box::new("a secret"))
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.0.delete(key, expected)
    }
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        self.0.try_lease(key, time)
    }
}

#[tokio::test]
async fn a_store_that_panics_is_an_error_and_keeps_no_lease() {
    let stage = Stage::new("panics");
    let memory = MemoryStore::new();
    let store: Arc<dyn Store> = Arc::new(Panics(memory.clone()));
    let transport = Transport::new().unwrap();
    let token: Token = transport.sign_in(&stage.app()).await.unwrap();
    let key = stage.app().record_key("");
    let error = transport.run_with(&store, SaveGrant::new(key.clone(), Want::default(), &token)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("the store panicked"), "{error}");
    assert!(!format!("{error:?}").contains("a secret"));
    // What a person has just given is handed out all the same.
    let tokens = transport.with_store(store).load_or_sign_in(&stage.app(), "").await.unwrap();
    tokens.token().await.unwrap();
    for key in [key.for_sign_in(), key] {
        assert!(memory.try_lease(&key, Duration::ZERO).unwrap().is_some(), "the lease was given back");
    }
}
