//! Whether this machine is one of Google Cloud's: by its environment, by its firmware, and by a request.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::metadata::{MetadataServer, ping};
use crate::machine::{Effect, Os, ask};
use crate::{Cx, Error, ErrorKind, Exchange, Machine, Reply, Step};

/// How long nobody may answer: on a laptop, nobody does.
const PATIENCE: Duration = Duration::from_millis(600);
/// The address by which the server is found without a name server.
const IP: &str = "169.254.169.254";
/// What the firmware of Google's machines calls itself.
const PRODUCT_NAME: &str = "/sys/class/dmi/id/product_name";
/// The certificate of an agent identity, to which Google's libraries have tokens bound.
const AGENT: &str = "/var/run/secrets/workload-spiffe-credentials/certificates.pem";

/// Environment variables that were asked for; `None` for those not set.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment(BTreeMap<&'static str, Option<OsString>>);

impl Environment {
    pub(super) fn set(&mut self, name: &'static str, value: Option<OsString>) {
        self.0.insert(name, value);
    }

    /// A variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(name)?.as_ref().filter(|value| !value.is_empty())
    }

    /// The same as a text, without blanks around it.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        Some(self.get(name)?.to_str()?.trim()).filter(|text| !text.is_empty())
    }
}

/// The variables that detection looks at.
pub(super) const VARIABLES: [&str; 8] = [
    "GCE_METADATA_HOST",
    "NO_GCE_CHECK",
    "METADATA_SERVER_DETECTION",
    "K_SERVICE",
    "FUNCTION_NAME",
    "CLOUD_RUN_JOB",
    "GCE_METADATA_MTLS_MODE",
    "GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN",
];

/// What was found.
pub(super) struct Detected {
    pub(super) server: Option<MetadataServer>,
    /// By which sign.
    pub(super) because: String,
}

/// Looks for the metadata server.
///
/// ```text
/// variables ─▶ firmware (Linux) ─▶ ping ─▶ agent identity (Linux, if the server is there) ─▶ done
///     └────────────┴──── as soon as one of them tells ───▲
/// ```
///
/// What is asked for and not built is an error that names it: mTLS towards the server, and tokens that are bound to a
/// certificate.
pub(super) struct Detection {
    environment: Environment,
    os: Os,
    stage: Stage,
}

enum Stage {
    Begin,
    Firmware,
    Ping(Box<Exchange<()>>),
    Agent(Option<Detected>),
}

impl Detection {
    pub(super) fn new(environment: Environment, os: Os) -> Self {
        Self { environment, os, stage: Stage::Begin }
    }

    /// What is said of a variable that Google's libraries would pass over in silence.
    fn note(&self) -> &'static str {
        let heeded = |value: &str| is_true(value) || value.eq_ignore_ascii_case("false");
        match self.environment.get("NO_GCE_CHECK") {
            Some(value) if !value.to_str().is_some_and(heeded) => {
                "; NO_GCE_CHECK is passed over, since it is set to something other than true"
            }
            _ => "",
        }
    }

    /// What the environment tells: where the server is, that there is none, or nothing.
    fn by_variables(&self) -> Option<Result<Detected, Error>> {
        let text = |name| self.environment.text(name);
        let found = |server, because: String| Some(Ok(Detected { server: Some(server), because }));
        let none = |because: &str| Some(Ok(Detected { server: None, because: because.to_owned() }));
        if let Some(host) = self.environment.get("GCE_METADATA_HOST") {
            // What is no text is no host either.
            return match MetadataServer::new().host(host.to_string_lossy().trim()) {
                Ok(server) => found(server, "GCE_METADATA_HOST names it".into()),
                Err(error) => Some(Err(Error::config("GCE_METADATA_HOST is no host").with_source(error))),
            };
        }
        if text("NO_GCE_CHECK").is_some_and(is_true) {
            return none("NO_GCE_CHECK is set");
        }
        match text("METADATA_SERVER_DETECTION") {
            Some("assume-present") => return found(MetadataServer::new(), "METADATA_SERVER_DETECTION says so".into()),
            Some("none") => return none("METADATA_SERVER_DETECTION says none"),
            Some("bios-only" | "ping-only") => {}
            // What is no text is no such word either.
            _ if self.environment.get("METADATA_SERVER_DETECTION").is_some() => {
                let known = "is none of assume-present, none, bios-only and ping-only";
                return Some(Err(Error::config(format!("METADATA_SERVER_DETECTION {known}"))));
            }
            _ => {}
        }
        let serverless =
            ["K_SERVICE", "FUNCTION_NAME", "CLOUD_RUN_JOB"].into_iter().find(|name| text(name).is_some())?;
        found(MetadataServer::new(), format!("{serverless} is set, as on Cloud Run"))
    }

    /// Refuses what the environment demands of tokens of the metadata server, and is not built.
    fn check_demands(&self) -> Result<(), Error> {
        let mode = self.environment.get("GCE_METADATA_MTLS_MODE").map(|mode| mode.to_string_lossy().to_lowercase());
        match mode.as_deref().map(str::trim) {
            // By default Google's libraries speak plain HTTP too, where there are no certificates.
            None | Some("none" | "default") => {}
            Some("strict") => {
                let why =
                    "GCE_METADATA_MTLS_MODE demands a metadata server that is asked by mTLS, which is not supported";
                return Err(Error::config(why));
            }
            Some(_) => return Err(Error::config("GCE_METADATA_MTLS_MODE is none of strict, none and default")),
        }
        if self.environment.text("GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN").is_some_and(is_true) {
            let why = "GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN demands tokens that are bound to the certificate of an agent \
                       identity, which are not supported";
            return Err(Error::config(why));
        }
        Ok(())
    }

    /// Goes on to look for an agent identity where there may be one.
    fn found(&mut self, found: Detected) -> Step<Detected> {
        let unbound = self.environment.text("GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN").is_some();
        if found.server.is_none() {
            return Step::Done(Ok(found));
        }
        if let Err(error) = self.check_demands() {
            return Step::Done(Err(error));
        }
        if unbound || self.os != Os::Unix {
            return Step::Done(Ok(found));
        }
        self.stage = Stage::Agent(Some(found));
        Step::Do(Effect::ReadFile { path: PathBuf::from(AGENT), max: super::file::MAX })
    }

    fn agent(&mut self, reply: &Reply) -> Step<Detected> {
        let Stage::Agent(found) = &mut self.stage else { return Step::Done(Err(Error::misuse("an agent identity"))) };
        let Some(mut found) = found.take() else { return Step::Done(Err(Error::misuse("an agent identity"))) };
        if matches!(reply, Reply::File(_)) {
            found.because.push_str("; this is an agent identity, to whose certificate tokens are not bound here");
        }
        Step::Done(Ok(found))
    }

    fn not_by_firmware(&self) -> Step<Detected> {
        let because = "the firmware does not say that this is Google's, and no request is permitted".to_owned();
        Step::Done(Ok(Detected { server: None, because }))
    }

    fn ping(&self) -> Result<Stage, Error> {
        Ok(Stage::Ping(Box::new(ping(IP, PATIENCE)?)))
    }
}

fn is_true(value: &str) -> bool {
    value.eq_ignore_ascii_case("true")
}

/// Why it is taken not to be there.
fn absent(error: &Error) -> String {
    match (error.kind(), error.status()) {
        (ErrorKind::InvalidResponse, Some(status)) => {
            format!("something else answers in its place: status {status}, and no Metadata-Flavor: Google")
        }
        _ => format!("it does not answer: {error}"),
    }
}

impl Machine for Detection {
    type Output = Detected;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Detected> {
        if matches!(self.stage, Stage::Agent(_)) {
            return self.agent(&reply);
        }
        match self.look(cx, reply) {
            Step::Done(Ok(mut found)) => {
                found.because.push_str(self.note());
                self.found(found)
            }
            step => step,
        }
    }
}

impl Detection {
    fn look(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Detected> {
        loop {
            let next = match &mut self.stage {
                Stage::Begin => match self.by_variables() {
                    Some(told) => return Step::Done(told),
                    None => match (self.environment.text("METADATA_SERVER_DETECTION"), self.os) {
                        (Some("bios-only"), Os::MacOs | Os::Windows) => return self.not_by_firmware(),
                        (Some("ping-only"), _) | (_, Os::MacOs | Os::Windows) => self.ping(),
                        (_, Os::Unix) => {
                            self.stage = Stage::Firmware;
                            return Step::Do(Effect::ReadFile { path: PathBuf::from(PRODUCT_NAME), max: 4096 });
                        }
                    },
                },
                Stage::Firmware => match std::mem::take(&mut reply) {
                    Reply::File(name) if name.starts_with(b"Google") => {
                        let because = format!("{PRODUCT_NAME} says Google");
                        return Step::Done(Ok(Detected { server: Some(MetadataServer::new()), because }));
                    }
                    Reply::File(_) | Reply::Missing | Reply::Failed(_) | Reply::Refused => {
                        match self.environment.text("METADATA_SERVER_DETECTION") {
                            Some("bios-only") => return self.not_by_firmware(),
                            _ => self.ping(),
                        }
                    }
                    _ => Err(Error::misuse("looking for the metadata server")),
                },
                Stage::Agent(_) => Err(Error::misuse("looking for the metadata server")),
                Stage::Ping(exchange) => {
                    return Step::Done(Ok(match ask!(&mut **exchange, cx, reply) {
                        Ok(()) => Detected {
                            server: Some(MetadataServer::new()),
                            because: format!("{IP} answers as it does"),
                        },
                        Err(error) => Detected { server: None, because: absent(&error) },
                    }));
                }
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(error) => return Step::Done(Err(error)),
            }
        }
    }
}
