//! Signing in once at servers that name, grant and refresh in ways of their own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread::sleep;

use grantflow::Scopes;
use grantflow::source::{TokenSource, Want};
use grantflow::store::{LoadGrant, SavedGrant};
use grantflow_tests::server::{Alter, Consent, RefreshTokens};
use grantflow_ureq::grantflow_store::FileStore;
use serde_json::{Value, json};

use super::*;

/// A server whose user consents as soon as they are asked, and where its grants are kept.
struct Stage<A> {
    front: Front,
    folder: PathBuf,
    asked: Arc<AtomicUsize>,
    adapter: std::marker::PhantomData<A>,
}

impl<A: Adapter> Stage<A> {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kept").join(A::NAME).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let front = Front::start(Server::demo()).unwrap();
        Self { front, folder, asked: Arc::default(), adapter: std::marker::PhantomData }
    }

    fn app(&self, scopes: &str) -> InstalledApp {
        let asked = self.asked.clone();
        let app = InstalledApp::new(&self.front.metadata(), &client()).scopes(scopes).open_browser(false);
        app.timeout(Duration::from_secs(20)).show(move |url| {
            asked.fetch_add(1, SeqCst);
            drop(person::visit_in_background(url));
        })
    }

    /// A program that has just been started.
    fn program(&self) -> A {
        A::with_store(Arc::new(FileStore::new(&self.folder)))
    }

    fn start(&self, app: &InstalledApp) -> Result<Token, Error> {
        self.program().load_or_sign_in(app)
    }

    fn kept(&self, app: &InstalledApp) -> Option<SavedGrant> {
        self.program().run(LoadGrant::new(app.record_key(""), Want::default())).unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    /// `scope` of each refresh.
    fn refreshes(&self) -> Vec<Option<String>> {
        let server = self.front.server();
        let seen = server.seen_at(Place::Token);
        let refreshes = seen.iter().filter(|seen| seen.param("grant_type").as_deref() == Some("refresh_token"));
        refreshes.map(|seen| seen.param("scope")).collect()
    }
}

pub(crate) fn what_a_server_grants_in_its_own_words_is_asked_for_once_and_less_again<A: Adapter>() {
    let table: Value = serde_json::from_str(include_str!("../../data/odd/granted.json")).unwrap();
    for row in table["granted"].as_array().unwrap() {
        let text = |name: &str| row[name].as_str().unwrap();
        let stage = Stage::<A>::new("words");
        stage.front.server().settings.scopes = Scopes::from(text("asked"));
        stage.front.server().settings.alter_token = Alter::set("scope", row["granted"].clone());
        let app = stage.app(text("asked"));
        let app = if row["accept"] == true { app.accept_partial_consent() } else { app };
        for _ in 0..3 {
            let token = stage.start(&app).unwrap();
            assert_eq!(token.scopes(), &Scopes::from(text("granted").replace(',', " ")), "{row}");
        }
        assert_eq!(stage.asked(), row["asks"].as_u64().unwrap() as usize, "{row}");
        let kept = stage.kept(&app).unwrap();
        assert_eq!(kept.asked, Scopes::from(text("asked")), "{row}");
    }
}

pub(crate) fn a_scope_that_nobody_asked_for_yet_is_asked_for_whatever_was_accepted<A: Adapter>() {
    let stage = Stage::<A>::new("new scope");
    stage.front.server().settings.consent = Consent::Narrow("read".into());
    stage.start(&stage.app("read write").accept_partial_consent()).unwrap();
    stage.start(&stage.app("write").accept_partial_consent()).unwrap();
    assert_eq!(stage.asked(), 1);
    stage.start(&stage.app("read email").accept_partial_consent()).unwrap();
    assert_eq!(stage.asked(), 2);
    // Nor do words of the server's own stand for what was not asked for.
    stage.front.server().settings.alter_token = Alter::set("scope", json!("readonly"));
    stage.start(&stage.app("write")).unwrap();
    stage.start(&stage.app("write")).unwrap();
    assert_eq!(stage.asked(), 3);
    stage.start(&stage.app("read")).unwrap();
    assert_eq!(stage.asked(), 4);
}

pub(crate) fn a_token_that_does_not_end_is_kept_without_a_refresh_token<A: Adapter>() {
    let stage = Stage::<A>::new("no end");
    stage.front.server().settings.refresh_tokens = RefreshTokens::None;
    stage.front.server().settings.alter_token = Alter::set("expires_in", Value::Null);
    let app = stage.app("read write");
    let first = stage.start(&app).unwrap();
    let requests = stage.front.server().seen().len();
    for _ in 0..3 {
        assert_eq!(stage.start(&app).unwrap().access_token(), first.access_token());
    }
    assert_eq!((stage.asked(), stage.front.server().seen().len()), (1, requests));
    assert!(stage.kept(&app).unwrap().refresh_token.is_none());
    // What is kept is revoked, though it is no refresh token.
    let program = stage.program();
    program.sign_out(&app).unwrap();
    assert!(!stage.front.server().accepts(first.access_token(), program.cx().now().wall));
    assert!(stage.kept(&app).is_none());
}

pub(crate) fn a_token_that_ends_is_kept_until_then_without_a_refresh_token<A: Adapter>() {
    let stage = Stage::<A>::new("end");
    stage.front.server().settings.refresh_tokens = RefreshTokens::None;
    stage.front.server().settings.lifetime = 2;
    let app = stage.app("read");
    let first = stage.start(&app).unwrap();
    assert_eq!(stage.start(&app).unwrap().access_token(), first.access_token());
    assert_eq!((stage.asked(), first.refresh_token().is_none()), (1, true));
    sleep(Duration::from_millis(2100));
    assert_ne!(stage.start(&app).unwrap().access_token(), first.access_token());
    assert_eq!(stage.asked(), 2);
    // A program that goes on then is told why, and what helps.
    sleep(Duration::from_millis(2100));
    let error = stage.program().run(mint(&app.kept(app.record_key("")))).unwrap_err();
    assert_eq!((error.kind(), error.advice()), (ErrorKind::NotSignedIn, Some(grantflow::Advice::SignInAgain)));
    for word in ["offline_access", "prompt(\"consent\")", "has ended"] {
        assert!(error.to_string().contains(word), "{error}");
    }
}

pub(crate) fn a_refresh_names_scopes_where_the_server_must_be_told_them<A: Adapter>() {
    for (consent, named) in [(Consent::Grant, "read write offline_access"), (Consent::Narrow("read".into()), "read")] {
        let stage = Stage::<A>::new("names");
        stage.front.server().settings.scope_at_refresh = true;
        stage.front.server().settings.lifetime = 1;
        stage.front.server().settings.consent = consent;
        let asked = if named == "read" { "read write" } else { "read write offline_access" };
        let plain = stage.app(asked).accept_partial_consent();
        stage.start(&plain).unwrap();
        sleep(Duration::from_millis(1100));
        assert!(stage.start(&plain).unwrap_err().to_string().contains("AADSTS90009"));
        stage.front.server().settings.lifetime = 3600;
        let token = stage.start(&plain.scopes_at_refresh()).unwrap();
        assert_eq!((token.scopes(), stage.asked()), (&Scopes::from(named), 1));
        assert_eq!(stage.refreshes(), [None, Some(named.to_owned())]);
    }
}

pub(crate) fn a_refresh_that_is_refused_in_unknown_words_asks_the_person<A: Adapter>() {
    for (status, body, asks) in [
        (400, r#"{"error":"something_new"}"#, true),
        (403, r#"{"error":{"code":"E_1234","message":"no"}}"#, true),
        (200, r#"{"code":4711,"message":"no"}"#, true),
        (400, r#"{"message":"Bad Request"}"#, true),
        (422, "Unprocessable", true),
        (400, r#"{"message":"Too many requests"}"#, false),
        (401, r#"{"error":"invalid_client"}"#, false),
        (400, r#"{"error":"invalid_request"}"#, false),
        (503, r#"{"error":"something_new"}"#, false),
        (403, "<html>Just a moment...</html>", false),
    ] {
        let stage = Stage::<A>::new("unknown words");
        stage.front.server().settings.lifetime = 1;
        let app = stage.app("read");
        stage.start(&app).unwrap();
        sleep(Duration::from_millis(1100));
        stage.front.server().settings.lifetime = 3600;
        for _ in 0..if status == 503 { 10 } else { 1 } {
            stage.front.server().fail(Place::Token, Fault::status(status, body));
        }
        let result = stage.start(&app);
        assert_eq!((result.is_ok(), stage.asked()), (asks, if asks { 2 } else { 1 }), "{body}: {result:?}");
    }
}

pub(crate) fn a_resource_is_named_at_every_request_of_a_sign_in_that_is_kept<A: Adapter>() {
    let stage = Stage::<A>::new("resource");
    stage.front.server().settings.lifetime = 1;
    let resources = ["https://a.example/mcp", "https://b.example/"];
    let app = resources.iter().fold(stage.app("read").extra("response_mode", "query"), |app, it| app.resource(it));
    stage.start(&app).unwrap();
    sleep(Duration::from_millis(1100));
    stage.front.server().settings.lifetime = 3600;
    stage.start(&app).unwrap();
    assert_eq!((stage.asked(), stage.refreshes().len()), (1, 1));
    let server = stage.front.server();
    for place in [Place::Authorize, Place::Token] {
        for seen in server.seen_at(place) {
            assert_eq!(seen.params("resource"), resources, "{place:?}");
        }
    }
    assert_eq!(server.seen_at(Place::Authorize)[0].param("response_mode").as_deref(), Some("query"));
    assert_eq!(server.seen_at(Place::Token).len(), 2);
}

pub(crate) fn details_of_a_sign_in_are_granted_kept_and_asked_for_at_a_refresh<A: Adapter>() {
    let stage = Stage::<A>::new("details");
    stage.front.server().settings.lifetime = 1;
    let details = json!([{"type": "payment", "amount": "123.50"}, {"type": "account"}]);
    let app = stage.app("read").authorization_details(&details);
    for pause in [1100, 0] {
        let token = stage.start(&app).unwrap();
        assert_eq!(token.authorization_details().unwrap(), details.as_array().unwrap());
        sleep(Duration::from_millis(pause));
        stage.front.server().settings.lifetime = 3600;
    }
    assert_eq!((stage.asked(), stage.refreshes().len()), (1, 1));
    // Other details are asked of the person.
    let less = stage.app("read").authorization_details(&json!([{"type": "account"}]));
    assert_eq!(stage.start(&less).unwrap().authorization_details().map(<[_]>::len), Some(1));
    let server = stage.front.server();
    let asked = |place: Place, at: usize| -> Option<Value> {
        server.seen_at(place)[at].param("authorization_details").map(|text| serde_json::from_str(&text).unwrap())
    };
    assert_eq!((asked(Place::Authorize, 0), asked(Place::Token, 1)), (Some(details.clone()), Some(details)));
}

fn mint(source: &impl TokenSource) -> impl Machine<Output = Token> + Send {
    source.mint(&Want::default(), &source.first_state())
}

/// The issuer that the other process signs in at, and where its grants are kept.
const THERE: &str = "GRANTFLOW_TEST_KEPT";

pub(crate) fn when_a_sign_in_ends_is_told_once_on_the_standard_error<A: Adapter>() {
    let name = "when_a_sign_in_ends_is_told_once_on_the_standard_error";
    if let Some((issuer, folder)) = std::env::var(THERE).ok().as_deref().and_then(|there| there.split_once(' ')) {
        let adapter = A::with_store(Arc::new(FileStore::new(folder)));
        let server = adapter.run(Discovery::new(&Issuer::new(issuer).unwrap())).unwrap();
        let app = InstalledApp::new(&server, &client()).scopes("read").open_browser(false);
        let app = app.show(|url| drop(person::visit_in_background(url)));
        (0..2).for_each(|_| drop(adapter.load_or_sign_in(&app).unwrap()));
        return;
    }
    let stage = Stage::<A>::new(name);
    stage.front.server().settings.alter_token = Alter::set("authorization_expires_in", 86_400.into());
    let test = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{}::{name}", A::NAME), "--nocapture"])
        .env(THERE, format!("{} {}", stage.front.issuer(), stage.folder.display()))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&test.stderr).into_owned();
    assert!(test.status.success() && told.matches("This sign-in signs out on 20").count() == 1, "{told}");
}
