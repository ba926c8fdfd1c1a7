//! The examples of a package as programs: each runs as a child process, against pretend servers of its test.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::google::{self, Google, Local, Metadata, SERVICE_ACCOUNT};
use crate::{Front, Server, person};

/// The examples of a package.
#[derive(Debug)]
pub struct Examples {
    directory: PathBuf,
}

impl Examples {
    /// Builds those of the package in this directory, and keeps them in another: cargo builds none when only their
    /// test is asked for.
    ///
    /// # Panics
    ///
    /// If they cannot be built.
    pub fn build(package: &str, directory: &str) -> Self {
        let this = Self { directory: Path::new(directory).join("examples") };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--examples", "--message-format=json", "--manifest-path"]);
        let output = cargo.arg(Path::new(package).join("Cargo.toml")).output().expect("cargo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let programs = this.empty("programs");
        fs::create_dir_all(&programs).expect("a directory");
        for line in output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let message: Value = serde_json::from_slice(line).expect("JSON of cargo's");
            if let Some(program) = message["executable"].as_str().map(Path::new) {
                fs::hard_link(program, programs.join(program.file_name().expect("a name"))).expect("a link");
            }
        }
        this
    }

    /// An example, without anything in its environment that it might find. Of a package whose examples are async, it
    /// may be named without `async_`.
    pub fn example(&self, name: &str) -> Command {
        let programs = self.directory.join("programs");
        let same = programs.join(format!("async_{name}{}", std::env::consts::EXE_SUFFIX));
        let mut command = Command::new(if same.exists() { same } else { programs.join(name) });
        let system = std::env::var_os("SystemRoot");
        command.env_clear().envs(system.map(|value| ("SystemRoot", value)));
        command.env("HOME", self.empty("home")).env("APPDATA", self.empty("appdata")).env("NO_GCE_CHECK", "true");
        command.stdin(Stdio::null());
        command
    }

    /// A place where nothing is.
    ///
    /// # Panics
    ///
    /// If there is no place for it.
    pub fn empty(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&self.directory).expect("a directory");
        path
    }

    /// A credential file that leads to the pretend Google.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn file(&self, name: &str, mut json: Value, google: &Front<Google>) -> PathBuf {
        json["token_uri"] = google.server().address(google::Place::Token).into();
        let path = self.empty(name);
        fs::write(&path, json.to_string()).expect("a file");
        path
    }

    /// Runs `login` twice with one store, and is the person the first time.
    ///
    /// # Panics
    ///
    /// If the second run opens a browser or sends a request.
    pub fn check_second_login(&self) {
        let (front, store) = (Front::start(Server::demo()).expect("a port"), self.empty("grants"));
        let login = || {
            let mut command = self.example("login");
            command.args(["--issuer", &front.issuer(), "--client-id", "demo", "--scope", "openid read"]);
            command.args(["--no-browser", "--store"]).arg(&store);
            command
        };
        let mut first = login().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a program");
        let mut opened = 0;
        for line in BufReader::new(first.stderr.take().expect("its output")).lines().map_while(Result::ok) {
            if line.starts_with(&format!("{}/authorize?", front.issuer())) {
                opened += 1;
                assert_eq!(person::visit(line.trim()).expect("an answer").status, 200);
            }
        }
        assert!(first.wait().expect("an end").success());
        let requests = front.server().seen().len();
        assert!(opened == 1 && requests > 0);
        let said = succeeds(&mut login());
        assert_says(&said, &["A token is here, for the scopes: openid read"]);
        assert!(!said.contains("/authorize"), "{said}");
        assert_eq!(front.server().seen().len(), requests);
    }

    /// Runs `login` twice at once, where no browser can be opened, and reads what each says to its person.
    ///
    /// # Panics
    ///
    /// If one does not say what it should, or not on the standard error.
    pub fn check_what_people_are_told(&self) {
        let (front, store) = (Front::start(Server::demo()).expect("a port"), self.empty("two-logins"));
        let login = || {
            let mut command = self.example("login");
            command.args(["--issuer", &front.issuer(), "--client-id", "demo", "--scope", "openid read", "--store"]);
            let mut child =
                command.arg(&store).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a program");
            let said = BufReader::new(child.stderr.take().expect("its output")).lines().map_while(Result::ok);
            (child, said)
        };
        let authorize = format!("{}/authorize?", front.issuer());
        let (first, mut said) = login();
        let url = said.by_ref().find(|line| line.starts_with(&authorize)).expect("it shows where to sign in");
        said.by_ref().find(|line| line.starts_with("No browser could be opened: ")).expect("it says why none opens");
        let (second, mut waits) = login();
        let waiting = "Another program is signing in for the same account. Waiting for it to end.";
        waits.by_ref().find(|line| line == waiting).expect("it says what it waits for");
        assert_eq!(person::visit(url.trim()).expect("an answer").status, 200);
        for (child, mut rest) in [(first, said), (second, waits)] {
            assert!(!rest.any(|line| line.contains("/authorize")), "it asks a second time");
            let output = child.wait_with_output().expect("an end");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && !said.contains("/authorize") && !said.contains("browser"), "{said}");
            assert_says(&said, &["A token is here, for the scopes: openid read"]);
        }
    }

    /// Runs `default_credentials` with each kind of credentials.
    ///
    /// # Panics
    ///
    /// If it does not say what it should.
    pub fn check_default_credentials(&self) {
        const STORAGE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
        let google = Front::start(Google::demo()).expect("a port");
        let any = || {
            let mut command = self.example("default_credentials");
            command.arg("--any-server");
            command
        };
        let account = self.file("account.json", google::service_account_json(), &google);
        let mut command = any();
        command.args(["--trace", "--scope", STORAGE]).env("GOOGLE_APPLICATION_CREDENTIALS", &account);
        let named = format!("GOOGLE_APPLICATION_CREDENTIALS={}: service_account", account.display());
        assert_says(
            &succeeds(&mut command),
            &[&named, "Found: service_account", SERVICE_ACCOUNT, "Project: demo-project", STORAGE, "it ends at 20"],
        );

        let gcloud = self.empty("gcloud");
        fs::create_dir_all(&gcloud).expect("a directory");
        let user = self.file("user.json", google::authorized_user_json(), &google);
        let known = gcloud.join("application_default_credentials.json");
        fs::rename(user, &known).expect("a file");
        let said = succeeds(any().arg("--trace").env("CLOUDSDK_CONFIG", &gcloud));
        let known = format!("gcloud's {}: authorized_user", known.display());
        assert_says(
            &said,
            &["GOOGLE_APPLICATION_CREDENTIALS: not set", &known, "Found: authorized_user", "cloud-platform"],
        );

        google.server().local = Local::Server(Metadata::new(SERVICE_ACCOUNT));
        let host = google.address().to_string();
        let said = succeeds(any().arg("--trace").env("GCE_METADATA_HOST", host));
        assert_says(
            &said,
            &[
                "application_default_credentials.json: there is no such file",
                "the metadata server: GCE_METADATA_HOST names it",
                "Found: metadata server",
                SERVICE_ACCOUNT,
                "Project: demo-project",
                "it ends at 20",
            ],
        );
        assert_eq!(google.server().metadata_mints(), 1);

        let said = fails(&mut self.example("default_credentials"));
        assert_says(
            &said,
            &["GOOGLE_APPLICATION_CREDENTIALS: not set", "application_default_credentials.json", "NO_GCE_CHECK"],
        );
    }
}

/// What a program says in the end, and whether that is success.
///
/// # Panics
///
/// If it cannot be run.
pub fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("a program");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("text"))
}

/// What a program says that ends well.
///
/// # Panics
///
/// If it does not.
#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let (success, text) = run(command);
    assert!(success, "{text}");
    text
}

/// What a program says that ends with an error.
///
/// # Panics
///
/// If it does not.
#[track_caller]
pub fn fails(command: &mut Command) -> String {
    let (success, text) = run(command);
    assert!(!success && text.contains("Error: "), "{text}");
    text
}

/// Demands all these parts.
///
/// # Panics
///
/// If one is missing.
#[track_caller]
pub fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}
