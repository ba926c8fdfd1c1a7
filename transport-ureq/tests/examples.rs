//! The examples as programs: each runs as a child process, against pretend servers of this one.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use grantflow_tests::examples::{Examples, assert_says, fails, run, succeeds};
use grantflow_tests::google::{self, API_KEY, Local, Metadata, SERVICE_ACCOUNT};
use grantflow_tests::{Front, Google, Place, Server, person};
use serde_json::Value;

const STORAGE: &str = "https://www.googleapis.com/auth/devstorage.read_only";

fn examples() -> &'static Examples {
    static BUILT: OnceLock<Examples> = OnceLock::new();
    BUILT.get_or_init(|| Examples::build(env!("CARGO_MANIFEST_DIR"), env!("CARGO_TARGET_TMPDIR")))
}

fn example(name: &str) -> Command {
    examples().example(name)
}

fn empty(name: &str) -> PathBuf {
    examples().empty(name)
}

fn google() -> Front<Google> {
    Front::start(Google::demo()).unwrap()
}

fn file(name: &str, json: Value, google: &Front<Google>) -> PathBuf {
    examples().file(name, json, google)
}

#[test]
fn a_key_is_proved_to_an_api_that_wants_its_nonce() {
    let said = succeeds(&mut example("dpop"));
    assert_says(&said, &["The API answers 200", "It saw 3 requests, one of them without its nonce"]);
}

#[test]
fn a_client_authenticates_by_its_key_and_by_its_certificate() {
    let said = succeeds(&mut example("private_key_jwt"));
    assert_says(&said, &["A token is here, for the scopes: read", "and no secret"]);
    let said = succeeds(&mut example("mtls"));
    assert_says(&said, &["answers 200 OK to the token with", "answers 401 Unauthorized to the token without"]);
}

#[test]
fn requests_are_signed_pushed_and_detailed_and_a_bank_has_all_of_it() {
    let said = succeeds(&mut example("signed_requests"));
    let names =
        ["?client_id=app&request_uri=urn", "/callback?response=ey", "Granted are 2 details", "Another token has 1"];
    assert_says(&said, &names);
    let said = succeeds(&mut example("fapi"));
    assert_says(&said, &["Not yet: the FAPI 2.0 Security Profile", "A token of the type DPoP is here"]);
}

#[test]
fn a_program_registers_itself_once_and_manages_that() {
    let said = succeeds(&mut example("register"));
    assert_says(&said, &["Its name is Diary now", "registered 1 time, managed 2 times"]);
}

#[test]
fn a_person_signs_in_without_a_browser_and_a_ping_has_the_program_ask_once() {
    let said = succeeds(&mut example("ciba"));
    assert_says(&said, &["shows W4SCT", "Signed in by a ping: openid", "asked 1 time for that token"]);
}

#[test]
fn the_second_login_opens_no_browser_and_sends_no_request() {
    examples().check_second_login();
}

#[test]
fn the_login_at_a_pretend_server_may_keep_its_grant_too() {
    let said = succeeds(example("login").arg("--store").arg(empty("pretend grants")));
    assert_eq!(said.matches("A pretend person opens").count(), 1, "{said}");
    assert_eq!(said.matches("it answers 200").count(), 2, "{said}");
}

#[test]
fn a_device_shows_a_code_that_is_entered_elsewhere() {
    let front = Front::start(Server::demo().with(|settings| settings.device_interval = Some(1))).unwrap();
    let mut command = example("device");
    command.args(["--issuer", &front.issuer(), "--client-id", "demo", "--scope", "openid", "--scope", "read"]);
    let mut device = command.stdout(Stdio::piped()).spawn().unwrap();
    let (mut said, mut entered) = (String::new(), 0);
    for line in BufReader::new(device.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if let Some(code) = line.strip_prefix("and enter this code: ") {
            entered += 1;
            let page = person::enter_code(&front.url(Place::Verification), code).unwrap();
            assert_eq!(page.status, 200, "{}", page.body);
        }
        said += &(line + "\n");
    }
    assert!(device.wait().unwrap().success() && entered == 1, "{said}");
    assert_says(&said, &["\u{2588}\u{2588}", &front.url(Place::Verification), "for the scopes: openid read"]);
    assert!(!said.contains("s left"), "nothing is counted where there is no terminal: {said}");
    let said = succeeds(&mut example("device"));
    assert_says(&said, &["A pretend person opens", "A token is here", "The server was asked 2 times"]);
}

#[test]
fn load_or_sign_in_asks_once() {
    let said = succeeds(example("load_or_sign_in").arg("--store").arg(empty("loaded grants")));
    assert_eq!(said.matches("a pretend person consents").count(), 1, "{said}");
    assert_says(&said, &["The second time", "the server saw 0 requests"]);
}

#[test]
fn default_credentials_are_found_wherever_they_are() {
    examples().check_default_credentials();
}

#[test]
fn a_file_that_leads_elsewhere_is_followed_only_if_that_is_allowed() {
    let google = google();
    let account = file("elsewhere.json", google::service_account_json(), &google);
    let said = fails(example("default_credentials").env("GOOGLE_APPLICATION_CREDENTIALS", &account));
    assert_says(&said, &["token_uri", "does not lead to Google"]);
    assert_says(&fails(example("service_account").arg(&account).args(["--scope", STORAGE])), &["token_uri"]);
    assert!(google.server().seen().is_empty());
}

#[test]
fn a_service_account_gets_each_kind_of_token() {
    let google = google();
    let account = file("key.json", google::service_account_json(), &google);
    let run = |args: &[&str]| {
        let said = succeeds(example("service_account").arg(&account).arg("--any-server").args(args));
        assert_says(&said, &[SERVICE_ACCOUNT, "demo-project", "A token is here"]);
        google.server().seen().len()
    };
    assert_eq!(run(&["--scope", STORAGE]), 1);
    assert_eq!(run(&["--scope", STORAGE, "--subject", google::ALICE]), 2);
    assert_eq!(run(&["--audience", "https://app.example", "--id-token"]), 3);
    assert_eq!(run(&["--audience", "https://storage.googleapis.com/"]), 3, "this one is made without a request");
}

#[test]
fn what_a_program_cannot_do_it_says_with_its_usage() {
    for (name, args) in [
        ("service_account", &["key.json"][..]),
        ("service_account", &["--scope", "a"]),
        ("service_account", &["key.json", "--scope", "a", "--id-token"]),
        ("service_account", &["key.json", "--scope"]),
        ("default_credentials", &["--wrong"]),
        ("login", &["--issuer", "https://as.example"]),
        ("device", &["--google", "--client-id", "tv"]),
        ("device", &["--google", "--issuer", "https://as.example", "--client-id", "tv"]),
        ("gemini", &["--base-url", "--any-server"]),
        ("load_or_sign_in", &["extra"]),
        ("sign_url", &["bucket", "--metadata"]),
        ("sign_url", &["bucket", "object", "--metadata", "--seconds", "0"]),
    ] {
        let (success, text) = run(example(name).args(args));
        assert!(!success && text.contains("Usage:"), "{name} {args:?}: {text}");
        assert_says(&succeeds(example(name).arg("--help")), &["Usage:"]);
    }
}

#[test]
fn gemini_lists_models_with_whatever_credentials_there_are() {
    let google = google();
    google.server().local = Local::Server(Metadata::new(SERVICE_ACCOUNT));
    let address = google.address().to_string();
    let gemini = || {
        let mut command = example("gemini");
        command.args(["--base-url", &format!("http://{address}"), "--any-server"]);
        command
    };
    let account = file("gemini account.json", google::service_account_json(), &google);
    let user = file("gemini user.json", google::authorized_user_json(), &google);
    let mut poor = google::authorized_user_json();
    poor.as_object_mut().unwrap().remove("quota_project_id");
    let poor = file("gemini poor user.json", poor, &google);
    const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    for command in [
        gemini().env(FILE, &account),
        gemini().env(FILE, &user),
        gemini().env(FILE, &poor).env("GOOGLE_CLOUD_QUOTA_PROJECT", "demo-project"),
        gemini().env("GCE_METADATA_HOST", &address),
        gemini().env("GEMINI_API_KEY", API_KEY),
    ] {
        assert_says(&succeeds(command), &["models/gemini-demo: Gemini Demo"]);
    }
    let seen = google.server().seen_at(google::Place::Models).len();
    assert_eq!(seen, 5);
    assert_says(&fails(gemini().env(FILE, &poor)), &["403", "SERVICE_DISABLED"]);
    assert_says(&fails(gemini().env("GEMINI_API_KEY", "AIzaWrong")), &["401", "Bearer"]);
}

#[test]
fn a_url_of_cloud_storage_is_signed_by_whoever_has_the_key() {
    let said = succeeds(&mut example("sign_url"));
    assert_eq!(said.matches("  it is answered 200: hello").count(), 3, "{said}");
    assert_eq!(said.matches("  for another object 403: <Error>").count(), 3, "{said}");
    let google = google();
    google.server().local = Local::Server(Metadata::new(SERVICE_ACCOUNT));
    let key = file("signing.json", google::service_account_json(), &google);
    std::fs::write(&key, google::service_account_json().to_string()).unwrap();
    let url = succeeds(example("sign_url").args(["demo-bucket", "a b/c", "--seconds", "60", "--key"]).arg(&key));
    assert!(
        url.starts_with("https://storage.googleapis.com/demo-bucket/a%20b/c?X-Goog-Algorithm=GOOG4-RSA-SHA256&"),
        "{url}"
    );
    assert!(google.server().seen().is_empty(), "a key needs no request");
}

#[cfg(unix)]
#[test]
fn a_token_that_another_program_prints_is_read_and_not_shown() {
    let said =
        succeeds(example("program_token").args(["/bin/sh", "-c", r#"echo '{"token":"t0ken","expires_in":60}'"#]));
    assert_says(&said, &["a token of 5 characters, until Some("]);
    let said = fails(example("program_token").args(["/bin/sh", "-c", "echo who are you >&2; exit 4"]));
    assert_says(&said, &["/bin/sh ended with exit code 4: who are you"]);
}

#[test]
#[cfg(target_os = "linux")]
fn people_are_told_on_the_standard_error_what_to_open_and_what_is_waited_for() {
    examples().check_what_people_are_told();
}
