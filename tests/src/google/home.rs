//! A home directory with credential files in it, and environments in which they are looked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{authorized_user_json, service_account_json};

/// A home directory with a service account's key file, and with what gcloud writes where gcloud writes it.
#[derive(Debug)]
pub struct Home {
    /// The directory.
    pub path: PathBuf,
    /// The key file.
    pub account: PathBuf,
    /// What gcloud writes.
    pub user: PathBuf,
}

/// An environment, and what a search for default credentials says in it.
#[derive(Debug)]
pub struct Environment {
    home: PathBuf,
    variables: Vec<(&'static str, String)>,
    /// What it says, among other things; it begins with `found` where there are credentials.
    pub says: &'static str,
}

impl Home {
    /// A new one in this place.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn new(path: &Path) -> Self {
        let gcloud = path.join(".config").join("gcloud");
        fs::create_dir_all(&gcloud).expect("a directory");
        let (account, user) = (path.join("key.json"), gcloud.join("application_default_credentials.json"));
        fs::write(&account, service_account_json().to_string()).expect("a file");
        fs::write(&user, authorized_user_json().to_string()).expect("a file");
        Self { path: path.to_owned(), account, user }
    }

    /// Environments of each kind: of a key file, of a user, of the metadata server at this host, and of nothing or
    /// something wrong.
    pub fn environments(&self, metadata_host: &str) -> [Environment; 5] {
        const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
        let home = || self.path.clone();
        let nowhere = || self.path.join("nowhere");
        let account = self.account.display().to_string();
        let environment = |home, variables, says| Environment { home, variables, says };
        [
            environment(home(), vec![(FILE, account)], "found service_account for Some(\"demo-project\")"),
            environment(home(), vec![], "found authorized_user for None"),
            environment(
                nowhere(),
                vec![("GCE_METADATA_HOST", metadata_host.into())],
                "found metadata server for Some(\"demo-project\")",
            ),
            environment(nowhere(), vec![("NO_GCE_CHECK", "true".into())], "no Google credentials were found"),
            environment(
                home(),
                vec![(FILE, "/nowhere.json".into())],
                "GOOGLE_APPLICATION_CREDENTIALS=/nowhere.json: there is no such file",
            ),
        ]
    }
}

impl Environment {
    /// This test as a process of its own in this environment.
    ///
    /// # Panics
    ///
    /// If the test's program cannot be found.
    pub fn again(&self, test: &str) -> Command {
        let mut child = Command::new(std::env::current_exe().expect("a program"));
        child.args(["--exact", test, "--nocapture"]);
        for name in ["GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "GCE_METADATA_HOST", "NO_GCE_CHECK"] {
            child.env_remove(name);
        }
        child.env("HOME", &self.home).envs(self.variables.iter().map(|(name, value)| (name, value)));
        child
    }
}
