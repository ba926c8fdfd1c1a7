//! The search for application default credentials (AIP-4110).

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::GoogleCredential;
use super::detect::{self, Detection, Environment};
use super::file::{self, File};
use super::hosts::Trust;
use crate::machine::{Effect, Os, Platform, ask};
use crate::shown::{Shown, slip};
use crate::{Cx, Error, Exchange, Machine, Reply, Step};

/// The result of the search.
#[derive(Clone, Debug)]
pub struct Found {
    /// The credential.
    pub credential: GoogleCredential,
    /// The project to work in, if anything names one.
    pub project_id: Option<String>,
    /// Every place that was looked at, in order. The credential was at the last one.
    pub looked: Vec<Looked>,
}

/// One place that was looked at.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The place.
    pub place: String,
    /// What was there, or why it was passed over.
    pub result: String,
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.result)
    }
}

const DOING: &str = "looking for Google's default credentials";
/// The variables that the search itself looks at.
const VARIABLES: [&str; 6] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "CLOUDSDK_CONFIG",
    "APPDATA",
    "GOOGLE_CLOUD_PROJECT",
    "GCLOUD_PROJECT",
    "GOOGLE_CLOUD_QUOTA_PROJECT",
];

/// The machine that searches for application default credentials, in Google's order: the file that
/// `GOOGLE_APPLICATION_CREDENTIALS` names, the file that `gcloud auth application-default login` writes, the metadata
/// server.
///
/// A place that is named or present, but wrong, ends the search with an error: a program must not work with other
/// credentials than its user thinks. If there are none, the error lists every place and why it was passed over.
///
/// ```text
/// Variables ─▶ File ─▶ Detect ─▶ Project ─▶ done
///               └────────────────▲
/// ```
pub struct DefaultCredentials {
    platform: Platform,
    trust: Trust,
    environment: Environment,
    looked: Vec<Looked>,
    credential: Option<GoogleCredential>,
    project_id: Option<String>,
    stage: Stage,
}

enum Stage {
    /// The variable with this number was asked for.
    Variables(usize),
    File {
        place: String,
        path: PathBuf,
        named: bool,
        asked: bool,
    },
    Detect(Box<Detection>),
    Project(Box<Exchange<String>>),
    Ended,
}

impl DefaultCredentials {
    /// A search on this kind of system.
    pub fn new(platform: Platform) -> Self {
        Self {
            platform,
            trust: Trust::Source,
            environment: Environment::default(),
            looked: Vec::new(),
            credential: None,
            project_id: None,
            stage: Stage::Variables(0),
        }
    }

    /// Follows any token endpoint that a file names: only where no other user can write those files.
    pub fn with_any_server(mut self) -> Self {
        self.trust = Trust::Server;
        self
    }

    fn look(&mut self, place: impl Into<String>, result: impl Into<String>) {
        self.looked.push(Looked { place: place.into(), result: result.into() });
    }

    /// What `gcloud auth application-default login` writes, as a path or a reason why there is none.
    fn well_known_file(&self) -> Result<PathBuf, &'static str> {
        const NAME: &str = "application_default_credentials.json";
        if let Some(directory) = self.environment.get("CLOUDSDK_CONFIG") {
            return Ok(PathBuf::from(directory).join(NAME));
        }
        if self.platform.os == Os::Windows {
            let data = self.environment.get("APPDATA").ok_or("APPDATA is not set")?;
            return Ok(PathBuf::from(data).join("gcloud").join(NAME));
        }
        let home = self.platform.home.as_ref().ok_or("the home directory is not known")?;
        Ok(home.join(".config").join("gcloud").join(NAME))
    }

    /// After the variables: the file that is named, or the one that gcloud writes.
    fn first_file(&mut self) -> Stage {
        if let Some(path) = self.environment.get("GOOGLE_APPLICATION_CREDENTIALS") {
            let path = PathBuf::from(path);
            let place = format!("GOOGLE_APPLICATION_CREDENTIALS={}", Shown::path(&path));
            return Stage::File { place, path, named: true, asked: false };
        }
        self.look("GOOGLE_APPLICATION_CREDENTIALS", "not set");
        match self.well_known_file() {
            Ok(path) => {
                let place = format!("gcloud's {}", Shown::path(&path));
                Stage::File { place, path, named: false, asked: false }
            }
            Err(why) => {
                self.look("gcloud's application_default_credentials.json", why);
                self.detection()
            }
        }
    }

    fn detection(&self) -> Stage {
        Stage::Detect(Box::new(Detection::new(self.environment.clone(), self.platform.os)))
    }

    fn file(&mut self, place: String, path: &Path, named: bool, reply: Reply) -> Result<Stage, Error> {
        let here = |error: Error| error.within(&place);
        match reply {
            Reply::File(content) => {
                let content = zeroize::Zeroizing::new(content);
                let file = File::parse("the credential file", &content).map_err(here)?;
                let credential = GoogleCredential::parse(&file, self.trust).map_err(here)?;
                self.project_id = file.text("project_id").ok().flatten().map(str::to_owned);
                self.look(place, credential.kind());
                self.credential = Some(credential);
                Ok(Stage::Ended)
            }
            Reply::Missing if named => Err(here(file::missing(path))),
            Reply::Refused if named => Err(here(Error::refused("ReadFile"))),
            Reply::Failed(failure) => Err(here(file::unreadable(failure))),
            Reply::Missing => {
                self.look(place, format!("there is no such file{}", slip(path)));
                Ok(self.detection())
            }
            Reply::Refused => {
                self.look(place, "the driver reads no files");
                Ok(self.detection())
            }
            _ => Err(Error::misuse("the search for credentials")),
        }
    }

    fn detected(&mut self, found: detect::Detected) -> Result<Stage, Error> {
        self.look("the metadata server", &*found.because);
        let server = found.server.ok_or_else(|| self.nothing())?;
        // It may be missing: nobody waits for it for long.
        let project = server.project_id()?.total_time(Duration::from_secs(5));
        self.credential = Some(GoogleCredential::MetadataServer(server));
        Ok(if self.named_project().is_some() { Stage::Ended } else { Stage::Project(Box::new(project)) })
    }

    fn named_project(&self) -> Option<&str> {
        ["GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"].into_iter().find_map(|name| self.environment.text(name))
    }

    fn nothing(&self) -> Error {
        let looked: Vec<_> = self.looked.iter().map(|looked| format!("\n  - {looked}")).collect();
        Error::config(format!(
            "no Google credentials were found. Places looked at:{}\nRun `gcloud auth application-default login`, or set \
             GOOGLE_APPLICATION_CREDENTIALS to the path of a key file",
            looked.concat()
        ))
    }

    fn finish(&mut self) -> Step<Found> {
        let Some(credential) = self.credential.take() else {
            return Step::Done(Err(Error::misuse("the search for credentials")));
        };
        let quota_project = |name: &str| self.environment.get(name).map(ToOwned::to_owned);
        let credential = match credential.quota_project_from_env(quota_project) {
            Ok(credential) => credential,
            Err(error) => return Step::Done(Err(error.during(DOING, None))),
        };
        let project_id = self.named_project().map(str::to_owned).or(self.project_id.take());
        Step::Done(Ok(Found { credential, project_id, looked: std::mem::take(&mut self.looked) }))
    }

    /// Takes the reply for one variable and asks for the next.
    fn variable(&mut self, nth: usize, reply: Reply) -> Result<Option<Effect>, Error> {
        let mut names = VARIABLES.into_iter().chain(detect::VARIABLES);
        let last = nth.checked_sub(1).and_then(|last| names.clone().nth(last));
        match (last, reply) {
            (None, Reply::Start) | (Some(_), Reply::Refused) => {}
            (Some(name), Reply::Env(value)) => self.environment.set(name, value),
            _ => return Err(Error::misuse("the search for credentials")),
        }
        self.stage = Stage::Variables(nth.saturating_add(1));
        Ok(names.nth(nth).map(Effect::Env))
    }
}

impl Machine for DefaultCredentials {
    type Output = Found;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Found> {
        loop {
            let next = match &mut self.stage {
                Stage::Variables(nth) => {
                    let nth = *nth;
                    match self.variable(nth, std::mem::take(&mut reply)) {
                        Ok(Some(effect)) => return Step::Do(effect),
                        Ok(None) => Ok(self.first_file()),
                        Err(error) => Err(error),
                    }
                }
                Stage::File { path, asked: asked @ false, .. } => {
                    *asked = true;
                    return Step::Do(Effect::ReadFile { path: path.clone(), max: file::MAX });
                }
                Stage::File { place, path, named, .. } => {
                    let (place, path, named) = (std::mem::take(place), std::mem::take(path), *named);
                    self.file(place, &path, named, std::mem::take(&mut reply))
                }
                Stage::Detect(detection) => match ask!(&mut **detection, cx, reply) {
                    Ok(found) => self.detected(found),
                    Err(error) => Err(error),
                },
                Stage::Project(exchange) => {
                    // A machine need not belong to a project that it may know.
                    self.project_id = ask!(&mut **exchange, cx, reply).ok();
                    Ok(Stage::Ended)
                }
                Stage::Ended => return self.finish(),
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(error) => {
                    self.stage = Stage::Ended;
                    self.credential = None;
                    return Step::Done(Err(error.during(DOING, None)));
                }
            }
        }
    }
}

impl fmt::Debug for DefaultCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DefaultCredentials").field("looked", &self.looked).finish_non_exhaustive()
    }
}
