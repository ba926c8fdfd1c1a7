//! The examples as programs: each runs as a child process, against pretend servers of this one.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use grantflow_tests::google::{self, API_KEY, Local, Metadata, SERVICE_ACCOUNT};
use grantflow_tests::{Front, Google, Server, person};
use serde_json::Value;

const STORAGE: &str = "https://www.googleapis.com/auth/devstorage.read_only";

/// The examples. They are built here, since cargo may have left those of another package under the same names, and
/// builds none when only this test is asked for.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--examples", "--message-format=json", "--manifest-path", manifest]);
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let directory = empty("programs");
        std::fs::create_dir_all(&directory).unwrap();
        for line in output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let message: Value = serde_json::from_slice(line).unwrap();
            if let Some(program) = message["executable"].as_str().map(Path::new) {
                std::fs::hard_link(program, directory.join(program.file_name().unwrap())).unwrap();
            }
        }
        directory
    })
}

/// An example, without anything in its environment that it might find.
fn example(name: &str) -> Command {
    let mut command = Command::new(built().join(name));
    let system = std::env::var_os("SystemRoot");
    command.env_clear().envs(system.map(|value| ("SystemRoot", value)));
    command.env("HOME", empty("home")).env("APPDATA", empty("appdata")).env("NO_GCE_CHECK", "true");
    command.stdin(Stdio::null());
    command
}

fn empty(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples").join(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(directory.parent().unwrap()).unwrap();
    directory
}

/// What a program says in the end, and whether that is success.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let (success, text) = run(command);
    assert!(success, "{text}");
    text
}

#[track_caller]
fn fails(command: &mut Command) -> String {
    let (success, text) = run(command);
    assert!(!success && text.contains("Error: "), "{text}");
    text
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

fn google() -> Front<Google> {
    Front::start(Google::demo()).unwrap()
}

/// A credential file that leads to the pretend Google.
fn file(name: &str, mut json: Value, google: &Front<Google>) -> PathBuf {
    json["token_uri"] = google.server().address(google::Place::Token).into();
    let path = empty(name);
    std::fs::write(&path, json.to_string()).unwrap();
    path
}

#[test]
fn the_second_login_opens_no_browser_and_sends_no_request() {
    let (front, store) = (Front::start(Server::demo()).unwrap(), empty("grants"));
    let login = || {
        let mut command = example("login");
        command.args(["--issuer", &front.issuer(), "--client-id", "demo", "--scope", "openid read", "--no-browser"]);
        command.arg("--store").arg(&store);
        command
    };
    let mut first = login().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap());
    let (mut line, mut opened) = (String::new(), 0);
    while lines.read_line(&mut line).unwrap() > 0 {
        let url = std::mem::take(&mut line);
        if url.starts_with(&format!("{}/authorize?", front.issuer())) {
            opened += 1;
            assert_eq!(person::visit(url.trim()).unwrap().status, 200);
        }
    }
    assert!(first.wait().unwrap().success());
    let requests = front.server().seen().len();
    assert!(opened == 1 && requests > 0);
    let said = succeeds(&mut login());
    assert_says(&said, &["A token is here, for the scopes: openid read"]);
    assert!(!said.contains("/authorize"), "{said}");
    assert_eq!(front.server().seen().len(), requests);
}

#[test]
fn the_login_at_a_pretend_server_may_keep_its_grant_too() {
    let said = succeeds(example("login").arg("--store").arg(empty("pretend grants")));
    assert_eq!(said.matches("A pretend person opens").count(), 1, "{said}");
    assert_eq!(said.matches("it answers 200").count(), 2, "{said}");
}

#[test]
fn load_or_sign_in_asks_once() {
    let said = succeeds(example("load_or_sign_in").arg("--store").arg(empty("loaded grants")));
    assert_eq!(said.matches("a pretend person consents").count(), 1, "{said}");
    assert_says(&said, &["The second time", "the server saw 0 requests"]);
}

#[test]
fn default_credentials_are_found_wherever_they_are() {
    let google = google();
    let any = || {
        let mut command = example("default_credentials");
        command.arg("--any-server");
        command
    };
    let account = file("account.json", google::service_account_json(), &google);
    let said = succeeds(any().args(["--trace", "--scope", STORAGE]).env("GOOGLE_APPLICATION_CREDENTIALS", &account));
    assert_says(&said, &["Found: service_account", SERVICE_ACCOUNT, "Project: demo-project", STORAGE, "it ends at 20"]);

    let gcloud = empty("gcloud");
    std::fs::create_dir_all(&gcloud).unwrap();
    let user = file("user.json", google::authorized_user_json(), &google);
    std::fs::rename(user, gcloud.join("application_default_credentials.json")).unwrap();
    let said = succeeds(any().arg("--trace").env("CLOUDSDK_CONFIG", &gcloud));
    assert_says(&said, &["GOOGLE_APPLICATION_CREDENTIALS: not set", "Found: authorized_user", "cloud-platform"]);

    google.server().local = Local::Server(Metadata::new(SERVICE_ACCOUNT));
    let said = succeeds(any().env("GCE_METADATA_HOST", google.address().to_string()));
    assert_says(&said, &["Found: metadata server", SERVICE_ACCOUNT, "Project: demo-project", "it ends at 20"]);
    assert_eq!(google.server().metadata_mints(), 1);
}

#[test]
fn without_default_credentials_the_error_lists_every_place() {
    let said = fails(&mut example("default_credentials"));
    assert_says(
        &said,
        &["GOOGLE_APPLICATION_CREDENTIALS: not set", "application_default_credentials.json", "NO_GCE_CHECK"],
    );
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
        ("gemini", &["--base-url", "--any-server"]),
        ("load_or_sign_in", &["extra"]),
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
