//! Google in one line each. A pretend Google stands where ureq would connect to the real one.

use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use grantflow_tests::front::wall_clock;
use grantflow_tests::google::{Google, Home, Local, Metadata, Place, SERVICE_ACCOUNT, service_account_json};
use grantflow_tests::server::Wire;
use grantflow_ureq::grantflow::ErrorKind;
use grantflow_ureq::grantflow::source::Want;
use grantflow_ureq::{AuthorizedAgent, Transport};
use http::{Request, Response};
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::{Agent, Body, Error, SendBody};

const CLOUD: &str = "https://www.googleapis.com/auth/cloud-platform";

#[derive(Clone)]
struct Pretend(Arc<Mutex<Google>>);

impl Middleware for Pretend {
    fn handle(&self, request: Request<SendBody>, _: MiddlewareNext) -> Result<Response<Body>, Error> {
        let (head, body) = request.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().read_to_end(&mut bytes)?;
        let answer = self.0.lock().unwrap().answer(wall_clock(), &Request::from_parts(head, bytes));
        let Wire::Whole(response) = answer.wire else { panic!("no answer") };
        Ok(response.map(|body| Body::builder().data(body)))
    }
}

fn google() -> Pretend {
    let local = Local::Server(Metadata::new(SERVICE_ACCOUNT));
    Pretend(Arc::new(Mutex::new(Google::demo().local(local))))
}

/// A transport that finds Google there, and nothing else.
fn transport(google: &Pretend) -> Transport {
    Transport::builder().http(Agent::config_builder().middleware(google.clone()).build()).build().unwrap()
}

fn home(name: &str) -> Home {
    Home::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("google").join(name))
}

#[test]
fn every_credential_is_one_line() {
    let google = google();
    let transport = transport(&google);
    let Home { account, user, .. } = home("every");
    for (name, tokens) in [
        ("service account", transport.google_service_account(&account, CLOUD).unwrap()),
        ("file of an account", transport.google_file(&account, CLOUD).unwrap()),
        ("file of a user", transport.google_file(&user, CLOUD).unwrap()),
        ("text", transport.google_json(service_account_json().to_string(), CLOUD).unwrap()),
        ("metadata server", transport.google_metadata_server(CLOUD)),
    ] {
        let token = tokens.token().unwrap();
        let google = google.0.lock().unwrap();
        let scopes = google.scopes_of(token.access_token(), wall_clock()).unwrap();
        assert!(scopes.contains(CLOUD), "{name}");
    }
    let google = google.0.lock().unwrap();
    assert_eq!((google.seen_at(Place::Token).len(), google.seen_at(Place::Metadata).len()), (4, 1));
}

/// The environment of this process cannot be changed safely, so the test runs itself in another one.
#[test]
fn the_default_credentials_are_one_object() {
    const CHILD: &str = "GRANTFLOW_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.env(CHILD, "1").env("GOOGLE_APPLICATION_CREDENTIALS", home("object").account);
        let child = child.args(["--exact", "the_default_credentials_are_one_object"]).output().unwrap();
        return assert!(child.status.success(), "{child:?}");
    }
    let google = transport(&google()).google().unwrap();
    assert_eq!((google.source().kind(), google.project_id()), ("service_account", Some("demo-project")));
    assert!(google.looked()[0].to_string().starts_with("GOOGLE_APPLICATION_CREDENTIALS="), "{:?}", google.looked());
    let token = google.token(CLOUD).unwrap();
    let other = google.token("https://www.googleapis.com/auth/devstorage.read_only").unwrap();
    assert_ne!(token.access_token(), other.access_token());
    assert_eq!(google.token(CLOUD).unwrap().access_token(), token.access_token());
    let manager = google.manager(Want::access_token(CLOUD)).unwrap();
    assert_eq!(manager.token().unwrap().access_token(), token.access_token());
}

#[test]
fn an_authorized_agent_names_the_project_that_pays() {
    let google = google();
    let tokens = transport(&google).google_file(home("pays").user, CLOUD).unwrap();
    let agent: Agent = Agent::config_builder().middleware(google.clone()).http_status_as_error(false).build().into();
    let api = AuthorizedAgent::new(agent, tokens, ["*.googleapis.com"]);
    let models = Request::get("https://generativelanguage.googleapis.com/v1beta/models").body(()).unwrap();
    assert_eq!(api.run(models).unwrap().status(), 200);
    let google = google.0.lock().unwrap();
    let [seen] = google.seen_at(Place::Models)[..] else { panic!("one request") };
    assert_eq!(seen.request.headers()["x-goog-user-project"], "demo-project");
}

#[test]
fn a_file_that_is_not_there_or_is_another_one_is_an_error_that_says_so() {
    let Home { account, user, .. } = home("wrong");
    let transport = Transport::new().unwrap();
    let nowhere = account.with_extension("none");
    for error in [
        transport.google_file(&nowhere, CLOUD).unwrap_err(),
        transport.google_service_account(&nowhere, CLOUD).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::File, "{error}");
        assert!(error.to_string().contains("key.none"), "{error}");
    }
    let error = transport.google_service_account(&user, CLOUD).unwrap_err();
    assert!(error.to_string().contains("authorized_user"), "{error}");
    transport.google_json("{}", CLOUD).unwrap_err();
}

/// It is started again as a process of its own for each environment.
#[test]
fn default_credentials_come_from_the_environment() {
    const CHILD: &str = "GRANTFLOW_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let transport = transport(&google());
        match transport.google_search() {
            Ok(found) => println!("found {} for {:?}", found.credential.kind(), found.project_id),
            Err(error) => println!("error {error}"),
        }
        if let Ok(tokens) = transport.google_default(CLOUD) {
            tokens.token().unwrap();
            println!("a token is there");
        }
        return;
    }
    for environment in home("default").environments("metadata.google.internal") {
        let mut child = environment.again("default_credentials_come_from_the_environment");
        let output = child.env(CHILD, "1").output().unwrap();
        let (text, says) = (String::from_utf8_lossy(&output.stdout), environment.says);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(says), "{says}: {text}");
        assert_eq!(text.contains("a token is there"), says.starts_with("found"), "{says}: {text}");
    }
}
