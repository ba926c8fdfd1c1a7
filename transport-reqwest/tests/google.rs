//! Google in one line each, at a pretend Google behind TLS.

#[path = "common/tls_end.rs"]
mod tls_end;

use std::net::SocketAddr;
use std::path::Path;

use grantflow::source::Want;
use grantflow::{ErrorKind, Timestamp};
use grantflow_reqwest::{AuthorizedClient, Transport, reqwest};
use grantflow_tests::Front;
use grantflow_tests::front::{Site, wall_clock};
use grantflow_tests::google::{Google, Home, Local, Metadata, Place, SERVICE_ACCOUNT, service_account_json};
use grantflow_tests::server::Answer;
use http::Request;
use tls_end::TlsEnd;

const CLOUD: &str = "https://www.googleapis.com/auth/cloud-platform";
const HOSTS: [&str; 3] = ["oauth2.googleapis.com", "openidconnect.googleapis.com", "generativelanguage.googleapis.com"];

/// Google at its own addresses, whatever the port.
struct Real(Google);

impl Site for Real {
    fn move_to(&mut self, _: &str) {}
    fn answer(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Answer {
        let host = request.headers()["host"].to_str().unwrap();
        let origin = match HOSTS.contains(&host) {
            true => format!("https://{host}"),
            false => "http://metadata.google.internal".to_owned(),
        };
        let mut whole = request.clone();
        *whole.uri_mut() = format!("{origin}{}", request.uri()).parse().unwrap();
        self.0.answer(now, &whole)
    }
}

fn front() -> Front<Real> {
    Front::start(Real(Google::demo().local(Local::Server(Metadata::new(SERVICE_ACCOUNT))))).unwrap()
}

/// A transport that finds Google there, and nothing else by name.
fn transport(pem: &str, tls: SocketAddr, metadata: SocketAddr) -> Transport {
    let http = move || {
        let client = reqwest::Client::builder().resolve("metadata.google.internal", metadata);
        HOSTS.into_iter().fold(client, |client, host| client.resolve(host, tls))
    };
    Transport::builder().root_certificate_pem(pem.as_bytes()).http(http).build().unwrap()
}

fn home(name: &str) -> Home {
    Home::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("google").join(name))
}

#[tokio::test]
async fn every_credential_is_one_line() {
    let front = front();
    let tls = TlsEnd::new(&HOSTS, front.address()).await;
    let transport = transport(&tls.pem, tls.address, front.address());
    let Home { account, user, .. } = home("every");
    for (name, tokens) in [
        ("service account", transport.google_service_account(&account, CLOUD).await.unwrap()),
        ("file of an account", transport.google_file(&account, CLOUD).await.unwrap()),
        ("file of a user", transport.google_file(&user, CLOUD).await.unwrap()),
        ("text", transport.google_json(service_account_json().to_string(), CLOUD).unwrap()),
        ("metadata server", transport.google_metadata_server(CLOUD)),
    ] {
        let token = tokens.token().await.unwrap();
        let server = front.server();
        let scopes = server.0.scopes_of(token.access_token(), wall_clock()).unwrap();
        assert!(scopes.contains(CLOUD), "{name}");
    }
}

/// The environment of this process cannot be changed safely, so the test runs itself in another one.
#[tokio::test]
async fn the_default_credentials_are_one_object() {
    const CHILD: &str = "GRANTFLOW_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.env(CHILD, "1").env("GOOGLE_APPLICATION_CREDENTIALS", home("object").account);
        let child = child.args(["--exact", "the_default_credentials_are_one_object"]).output().unwrap();
        return assert!(child.status.success(), "{child:?}");
    }
    let front = front();
    let tls = TlsEnd::new(&HOSTS, front.address()).await;
    let google = transport(&tls.pem, tls.address, front.address()).google().await.unwrap();
    assert_eq!((google.source().kind(), google.project_id()), ("service_account", Some("demo-project")));
    assert!(google.looked()[0].to_string().starts_with("GOOGLE_APPLICATION_CREDENTIALS="), "{:?}", google.looked());
    let token = google.token(CLOUD).await.unwrap();
    let other = google.token("https://www.googleapis.com/auth/devstorage.read_only").await.unwrap();
    assert_ne!(token.access_token(), other.access_token());
    assert_eq!(google.token(CLOUD).await.unwrap().access_token(), token.access_token());
    let manager = google.manager(Want::access_token(CLOUD)).unwrap();
    assert_eq!(manager.token().await.unwrap().access_token(), token.access_token());
}

#[tokio::test]
async fn an_authorized_client_names_the_project_that_pays() {
    let front = front();
    let tls = TlsEnd::new(&HOSTS, front.address()).await;
    let Home { user, .. } = home("pays");
    let tokens = transport(&tls.pem, tls.address, front.address()).google_file(user, CLOUD).await.unwrap();
    let api =
        AuthorizedClient::with_builder(tokens, ["*.googleapis.com"], |builder| tls.find(HOSTS[2], builder)).unwrap();
    let response = api.send(api.get("https://generativelanguage.googleapis.com/v1beta/models")).await.unwrap();
    assert_eq!(response.status(), 200);
    let server = front.server();
    let [seen] = server.0.seen_at(Place::Models)[..] else { panic!("one request") };
    assert_eq!(seen.request.headers()["x-goog-user-project"], "demo-project");
}

#[tokio::test]
async fn a_file_that_is_not_there_or_is_another_one_is_an_error_that_says_so() {
    let Home { account, user, .. } = home("wrong");
    let transport = Transport::new().unwrap();
    let nowhere = account.with_extension("none");
    for error in [
        transport.google_file(&nowhere, CLOUD).await.unwrap_err(),
        transport.google_service_account(&nowhere, CLOUD).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::File, "{error}");
        assert!(error.to_string().contains("key.none"), "{error}");
    }
    let error = transport.google_service_account(&user, CLOUD).await.unwrap_err();
    assert!(error.to_string().contains("authorized_user"), "{error}");
    transport.google_json("{}", CLOUD).unwrap_err();
}

/// What the process that this test starts is told: the port with TLS, the port without, and the certificate.
const CHILD: [&str; 3] = ["GRANTFLOW_TEST_TLS", "GRANTFLOW_TEST_CLEARTEXT", "GRANTFLOW_TEST_PEM"];

/// It is started again as a process of its own for each environment.
#[tokio::test]
async fn default_credentials_come_from_the_environment() {
    if let [Ok(tls), Ok(cleartext), Ok(pem)] = CHILD.map(std::env::var) {
        let transport = transport(&pem, tls.parse().unwrap(), cleartext.parse().unwrap());
        match transport.google_search().await {
            Ok(found) => println!("found {} for {:?}", found.credential.kind(), found.project_id),
            Err(error) => println!("error {error}"),
        }
        if let Ok(tokens) = transport.google_default(CLOUD).await {
            tokens.token().await.unwrap();
            println!("a token is there");
        }
        return;
    }
    let front = front();
    let tls = TlsEnd::new(&HOSTS, front.address()).await;
    let cleartext = front.address().to_string();
    for environment in home("default").environments(&cleartext) {
        let mut child = environment.again("default_credentials_come_from_the_environment");
        child.envs(CHILD.into_iter().zip([tls.address.to_string(), cleartext.clone(), tls.pem.clone()]));
        let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
        let (text, says) = (String::from_utf8_lossy(&output.stdout), environment.says);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(says), "{says}: {text}");
        assert_eq!(text.contains("a token is there"), says.starts_with("found"), "{says}: {text}");
    }
}
