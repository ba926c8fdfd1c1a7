//! Signing in once and being remembered, against the pretend server over TCP and a store of files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use grantflow_tests::server::{Alter, Consent, RefreshTokens};
use grantflow_tests::{Fault, Front, Place, Server, person};
use grantflow_ureq::grantflow::source::{GrantStatus, TokenSource as _, Waiting, Want};
use grantflow_ureq::grantflow::store::{LoadGrant, SavedGrant, SharedGrant, Stored};
use grantflow_ureq::grantflow::{Advice, Client, ErrorKind, Event, InstalledApp, Reply, Revocation, ServerMetadata};
use grantflow_ureq::grantflow_store::{FileStore, Store as _};
use grantflow_ureq::{Cancel, Limit, TokenManager, Transport};

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

    fn kept(&self) -> Option<SavedGrant> {
        self.program().run(LoadGrant::new(self.app().record_key(""), Want::default())).unwrap()
    }

    /// Signs in, and lets the access token end.
    fn signed_in_long_ago(&self) {
        self.front.server().settings.lifetime = 1;
        self.program().load_or_sign_in(&self.app(), "").unwrap();
        self.front.server().settings.lifetime = 3600;
        thread::sleep(Duration::from_millis(1100));
    }

    /// The next start of the program must ask nobody and get a token that works.
    fn assert_remembered(&self) {
        let opened = self.opened();
        let tokens = self.program().load_or_sign_in(&self.app(), "").unwrap();
        let now = self.program().now().wall;
        assert!(self.front.server().accepts(tokens.token().unwrap().access_token(), now));
        assert_eq!(self.opened(), opened);
    }
}

#[test]
fn the_first_run_asks_and_the_second_sends_no_request() {
    let stage = Stage::new("second");
    let tokens = stage.program().load_or_sign_in(&stage.app(), "").unwrap();
    assert_eq!(tokens.token().unwrap().scopes().as_str(), "openid read");
    let requests = stage.requests();
    stage.assert_remembered();
    assert_eq!((stage.opened(), stage.requests()), (1, requests));
    // Another person's grant is another one.
    stage.program().load_or_sign_in(&stage.app(), "bob").unwrap();
    assert_eq!(stage.opened(), 2);
}

#[test]
fn a_device_is_remembered_too() {
    let stage = Stage::new("device");
    stage.front.server().settings.device_interval = Some(1);
    let entered = stage.opened.clone();
    let device = stage.app().show_code(move |code| {
        entered.fetch_add(1, SeqCst);
        drop(person::enter_code_in_background(code.verification_uri(), code.user_code()));
    });
    stage.program().load_or_sign_in(&device, "").unwrap();
    let requests = stage.requests();
    stage.program().load_or_sign_in(&device, "").unwrap();
    assert_eq!((stage.opened(), stage.requests()), (1, requests));
    // However the person signed in, it is the same grant.
    stage.assert_remembered();
    stage.program().sign_out(&device, "").unwrap();
    assert!(stage.kept().is_none());
}

#[test]
fn an_expired_token_is_refreshed_and_the_new_one_kept() {
    for refresh_tokens in [RefreshTokens::Stay, RefreshTokens::Rotate { grace: Duration::ZERO }] {
        let stage = Stage::new("expired");
        stage.front.server().settings.refresh_tokens = refresh_tokens;
        stage.signed_in_long_ago();
        let before = stage.refreshes();
        for _ in 0..3 {
            stage.assert_remembered();
        }
        assert_eq!((stage.opened(), stage.refreshes()), (1, before + 1), "{refresh_tokens:?}");
        let tokens = stage.program().load_or_sign_in(&stage.app(), "").unwrap();
        tokens.force_refresh().unwrap();
        let requests = stage.requests();
        stage.assert_remembered();
        assert_eq!(stage.requests(), requests, "what the manager refreshed is kept too");
    }
}

#[test]
fn what_an_answer_brought_is_kept_though_the_run_is_cancelled_just_then() {
    let stage = Stage::new("cancelled-late");
    stage.front.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
    stage.signed_in_long_ago();
    let (cancel, before) = (Cancel::new(), stage.refreshes());
    let handle = cancel.clone();
    let transport = Transport::builder().watch(move |event| {
        if matches!(event, Event::Reply(Reply::Http(_))) {
            handle.cancel();
        }
    });
    let transport = transport.build().unwrap().with_store(Arc::new(FileStore::new(&stage.directory)));
    let app = stage.app();
    let source = SharedGrant::new(app.record_key(""), app.server(), app.client());
    let mint = source.mint(&Want::default(), &source.first_state());
    let minted = transport.run_until(mint, &Limit::new().cancel(&cancel)).unwrap();
    assert!(stage.kept().unwrap().refresh_token.unwrap().matches(minted.refresh_token().unwrap().expose()));
    stage.assert_remembered();
    assert_eq!((stage.opened(), stage.refreshes()), (1, before + 1));
}

#[test]
fn a_revoked_grant_is_asked_for_again() {
    let stage = Stage::new("revoked");
    stage.signed_in_long_ago();
    let (server, client) = (stage.front.metadata(), Client::new("demo"));
    let revocation = Revocation::new(&server, &client, &stage.kept().unwrap().refresh_token.unwrap()).unwrap();
    stage.program().run(revocation.exchange()).unwrap();
    // For as long as its server may take the token for valid, a refusal may be because of that.
    thread::sleep(Duration::from_secs(5));
    let before = stage.refreshes();
    stage.program().load_or_sign_in(&stage.app(), "").unwrap();
    assert_eq!(stage.opened(), 2);
    assert_eq!(stage.refreshes(), before + 1, "a refresh token that was refused is not tried again");
    stage.assert_remembered();
}

#[test]
fn who_waits_for_another_process_is_told_what_for() {
    let stage = Stage::new("waits");
    stage.signed_in_long_ago();
    let (store, key) = (FileStore::new(&stage.directory), stage.app().record_key(""));
    let lease = store.try_lease(&key, Duration::from_secs(60)).unwrap().unwrap();
    let (told, tells) = channel();
    let source = SharedGrant::new(key.clone(), stage.front.metadata(), &Client::new("demo"));
    let tokens = TokenManager::builder(&stage.program()).on_wait(move |name, waiting| {
        told.send((name.to_owned(), waiting)).unwrap();
    });
    let tokens = tokens.build(source, stage.app().want());
    thread::scope(|scope| {
        let asks = scope.spawn(|| tokens.token());
        assert_eq!(tells.recv().unwrap(), (String::new(), Waiting::Lease));
        assert_eq!(tokens.status().waiting, Some(Waiting::Lease));
        drop(lease);
        asks.join().unwrap().unwrap();
    });
    assert_eq!(tokens.status().waiting, None);
    // A process that died in the middle of a use: it is told when that is over.
    let until = stage.program().now().wall + Duration::from_secs(2);
    let stored = store.load(&key).unwrap().unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&stored.value).unwrap();
    let now = stage.program().now().wall.as_unix_millis();
    record["intent"] = serde_json::json!({"since": now, "tries": 1, "deadline": until.as_unix_millis()});
    let value = serde_json::to_vec(&record).unwrap().into();
    let version = stored.version;
    assert!(store.save(&key, Some(version), &Stored { version: version + 1, value, tags: stored.tags }).unwrap());
    tokens.force_refresh().unwrap();
    let Waiting::Use { until: told } = tells.recv().unwrap().1 else { panic!() };
    assert!(told.as_unix_millis().abs_diff(until.as_unix_millis()) < 500);
    assert!(stage.program().now().wall >= until && tells.try_recv().is_err());
}

#[test]
fn a_grant_that_is_revoked_while_in_use_does_until_its_token_has_ended() {
    let stage = Stage::new("revoked-in-use");
    let tokens = stage.program().load_or_sign_in(&stage.app(), "").unwrap();
    let (server, client) = (stage.front.metadata(), Client::new("demo"));
    let revocation = Revocation::new(&server, &client, &stage.kept().unwrap().refresh_token.unwrap()).unwrap();
    stage.program().run(revocation.exchange()).unwrap();
    // Who asks for a new token is told that there is none. The one that is held is still good, and stays: only once it
    // has ended is the refusal believed.
    let held = tokens.token().unwrap();
    let error = tokens.force_refresh().unwrap_err();
    assert_eq!((error.kind(), error.advice()), (ErrorKind::Server, Some(Advice::TryLater)), "{error}");
    assert_eq!(tokens.token().unwrap().access_token(), held.access_token());
    assert_eq!(tokens.status().grant, GrantStatus::Refused { early: true });
    // The token that lies there has not ended by its own time.
    stage.program().load_or_sign_in(&stage.app(), "").unwrap();
    assert_eq!(stage.opened(), 1);
}

#[test]
fn trouble_at_the_server_is_an_error_and_asks_nobody() {
    let stage = Stage::new("trouble");
    stage.signed_in_long_ago();
    let key = stage.kept().unwrap().refresh_token.unwrap();
    let mut down = http::Response::new(b"down".to_vec());
    *down.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    down.headers_mut().insert("retry-after", "3600".parse().unwrap());
    stage.front.server().fail(Place::Token, Fault::Answer(down));
    let error = stage.program().load_or_sign_in(&stage.app(), "").unwrap_err();
    assert_eq!(error.advice(), Some(Advice::TryLater), "{error}");

    // Nobody answers there.
    let server = stage.front.metadata();
    let gone = server.token_endpoint("http://127.0.0.1:1/token").unwrap();
    let error = stage.program().load_or_sign_in(&stage.app_at(&gone), "").unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(stage.opened(), 1);
    assert!(stage.kept().unwrap().refresh_token.unwrap().matches(key.expose()));
    stage.assert_remembered();
}

#[test]
fn scopes_that_lack_are_asked_for_and_fewer_are_not() {
    let stage = Stage::new("scopes");
    stage.program().load_or_sign_in(&stage.app(), "").unwrap();
    stage.program().load_or_sign_in(&stage.app().scopes("read"), "").unwrap();
    stage.program().load_or_sign_in(&stage.app().scopes("read offline_access"), "").unwrap();
    assert_eq!(stage.opened(), 1);
    let wider = stage.app().scopes("openid read write");
    let tokens = stage.program().load_or_sign_in(&wider, "").unwrap();
    assert_eq!((stage.opened(), tokens.token().unwrap().scopes().as_str()), (2, "openid read write"));
    stage.program().load_or_sign_in(&wider, "").unwrap();
    assert_eq!(stage.opened(), 2);
    // Whoever allows less is asked again the next time, and not at once.
    stage.front.server().settings.consent = Consent::Narrow("openid read".into());
    let widest = stage.app().scopes("openid read write email");
    let tokens = stage.program().load_or_sign_in(&widest, "").unwrap();
    assert_eq!((stage.opened(), tokens.token().unwrap().scopes().as_str()), (3, "openid read"));
    stage.program().load_or_sign_in(&widest, "").unwrap();
    assert_eq!(stage.opened(), 4);
}

#[test]
fn of_many_programs_at_once_one_opens_a_browser() {
    const PROGRAMS: usize = 4;
    let stage = Stage::new("many");
    let barrier = Barrier::new(PROGRAMS);
    thread::scope(|scope| {
        for _ in 0..PROGRAMS {
            scope.spawn(|| {
                barrier.wait();
                let tokens = stage.program().load_or_sign_in(&stage.app(), "").unwrap();
                let now = stage.program().now().wall;
                assert!(stage.front.server().accepts(tokens.token().unwrap().access_token(), now));
            });
        }
    });
    assert_eq!(stage.opened(), 1);
    assert_eq!(stage.front.server().seen_at(Place::Token).len(), 1);
}

#[test]
fn if_the_first_program_gives_up_the_next_one_asks() {
    let stage = Stage::new("gives up");
    let (send, shown) = channel();
    thread::scope(|scope| {
        let (cancel, handle) = (Cancel::new(), Cancel::new());
        let first = stage.app().show(move |_| send.send(()).unwrap());
        let limit = Limit::new().cancel(&cancel);
        let program = stage.program();
        let given_up = scope.spawn(move || program.load_or_sign_in_until(&first, "", &limit).unwrap_err());
        shown.recv().unwrap();
        // One that may not wait does not; its limit is not the other's.
        let hasty = Limit::within(Duration::from_millis(50)).cancel(&handle);
        let error = stage.program().load_or_sign_in_until(&stage.app(), "", &hasty).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let impatient = stage.app().timeout(Duration::from_millis(50));
        let error = stage.program().load_or_sign_in(&impatient, "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(stage.opened(), 0);
        let next = scope.spawn(|| stage.program().load_or_sign_in(&stage.app(), "").map(drop));
        thread::sleep(Duration::from_millis(100));
        cancel.cancel();
        assert_eq!(given_up.join().unwrap().kind(), ErrorKind::Cancelled);
        next.join().unwrap().unwrap();
    });
    assert_eq!(stage.opened(), 1);
}

#[test]
fn a_person_who_says_no_is_an_error_and_nothing_is_kept() {
    let stage = Stage::new("no");
    stage.front.server().settings.consent = Consent::Deny("access_denied");
    let error = stage.program().load_or_sign_in(&stage.app(), "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert!(stage.kept().is_none());
    stage.front.server().settings.consent = Consent::Grant;
    stage.program().load_or_sign_in(&stage.app(), "").unwrap();
    assert_eq!(stage.opened(), 2);
}

#[test]
fn what_cannot_be_read_is_an_error_and_is_not_overwritten() {
    let stage = Stage::new("torn");
    stage.program().load_or_sign_in(&stage.app(), "").unwrap();
    let file = stage.directory.join(format!("{}.grant", stage.app().record_key("").name()));
    std::fs::write(&file, "torn").unwrap();
    let error = stage.program().load_or_sign_in(&stage.app(), "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(stage.program().sign_out(&stage.app(), "").is_err());
    assert_eq!((stage.opened(), std::fs::read(&file).unwrap()), (1, b"torn".to_vec()));
}

#[test]
fn signing_out_revokes_and_forgets() {
    let stage = Stage::new("out");
    let tokens = stage.program().load_or_sign_in(&stage.app(), "").unwrap();
    let token = tokens.access_token().unwrap();
    let now = stage.program().now().wall;
    stage.program().sign_out(&stage.app(), "").unwrap();
    assert!(!stage.front.server().accepts(token.expose(), now));
    assert!(stage.kept().is_none());
    assert_eq!(stage.front.server().seen_at(Place::Revoke).len(), 1);
    stage.program().sign_out(&stage.app(), "").unwrap();
    assert_eq!(stage.front.server().seen_at(Place::Revoke).len(), 1, "nothing to revoke is no error");
    stage.program().load_or_sign_in(&stage.app(), "").unwrap();
    assert_eq!(stage.opened(), 2);
}

#[test]
fn what_cannot_be_revoked_for_now_is_kept() {
    let stage = Stage::new("cannot revoke");
    stage.program().load_or_sign_in(&stage.app(), "").unwrap();
    let mut down = http::Response::new(b"down".to_vec());
    *down.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    down.headers_mut().insert("retry-after", "3600".parse().unwrap());
    stage.front.server().fail(Place::Revoke, Fault::Answer(down));
    assert_eq!(stage.program().sign_out(&stage.app(), "").unwrap_err().advice(), Some(Advice::TryLater));
    stage.assert_remembered();
    // A server without revocation cannot be told.
    stage.front.server().settings.alter_metadata = Alter::set("revocation_endpoint", serde_json::Value::Null);
    stage.program().sign_out(&stage.app(), "").unwrap();
    assert!(stage.kept().is_none());
}

#[test]
fn without_a_store_the_error_says_what_is_missing() {
    let stage = Stage::new("none");
    let transport = Transport::new().unwrap();
    for error in
        [transport.load_or_sign_in(&stage.app(), "").unwrap_err(), transport.sign_out(&stage.app(), "").unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("not bound to a store"), "{error}");
    }
    assert_eq!((stage.opened(), stage.requests()), (0, 0));
}

#[test]
fn a_person_may_take_all_the_time_there_is() {
    let stage = Stage::new("forever");
    let start = Instant::now();
    stage.program().load_or_sign_in(&stage.app().timeout(Duration::MAX), "").unwrap();
    stage.assert_remembered();
    assert!(start.elapsed() < Duration::from_secs(20));
}
