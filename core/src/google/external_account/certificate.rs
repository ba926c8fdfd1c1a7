//! A certificate as a subject token (AIP-4118): the client's certificate, which it presents to STS as well.
//!
//! ```text
//! Begin ─▶ Variables ─▶ Config ─▶ Files (certificate, key, trust chain) ─▶ done: the certificates, and whom to be
//!              └──────────▲ (skipped if the file says where the configuration lies)
//! ```

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::subject::{SubjectToken, SubjectTokenContext, SubjectTokenMachine, SubjectTokens};
use crate::google::file::{self, File};
use crate::machine::Identity;
use crate::{Cx, Effect, Error, ErrorKind, Machine, Reply, Secret, Shown, Step};

const DOING: &str = "reading the certificate";
/// What says where the configuration lies, or the directory of gcloud that it lies in.
const VARIABLES: [&str; 4] = ["GOOGLE_API_CERTIFICATE_CONFIG", "CLOUDSDK_CONFIG", "APPDATA", "HOME"];
const NAME: &str = "certificate_config.json";
/// The most certificates of a chain.
const MAX_CERTIFICATES: usize = 16;

/// The certificate of a workload, by the configuration that says where its files lie.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    /// Where the configuration lies; where gcloud puts it if nothing is said.
    config: Option<PathBuf>,
    trust_chain: Option<PathBuf>,
}

impl Certificate {
    pub(super) fn parse(source: &File<'_>) -> Result<Self, Error> {
        let location = source.text("certificate_config_location")?;
        let by_default = match source.get("use_default_certificate_config") {
            None => false,
            Some(value) => value
                .as_bool()
                .ok_or_else(|| source.wrong("use_default_certificate_config", "is neither true nor false"))?,
        };
        if by_default == location.is_some() {
            let why = "and `use_default_certificate_config` exclude each other, and one of them is needed";
            return Err(source.wrong("certificate_config_location", why));
        }
        Ok(Self {
            config: location.map(PathBuf::from),
            trust_chain: source.text("trust_chain_path")?.map(PathBuf::from),
        })
    }
}

impl SubjectTokens for Certificate {
    fn subject_token(&self, _: &SubjectTokenContext<'_>) -> SubjectTokenMachine {
        Box::new(Reading {
            source: self.clone(),
            stage: Stage::Begin,
            variables: Default::default(),
            certificate_path: PathBuf::new(),
            key_path: PathBuf::new(),
            certificate: None,
            key: None,
        })
    }
}

struct Reading {
    source: Certificate,
    stage: Stage,
    variables: [Option<PathBuf>; VARIABLES.len()],
    certificate_path: PathBuf,
    key_path: PathBuf,
    certificate: Option<String>,
    key: Option<Secret>,
}

enum Stage {
    Begin,
    /// The variable with this number was asked for.
    Variables(usize),
    Reading(What, PathBuf),
    Ended,
}

#[derive(Clone, Copy)]
enum What {
    Config,
    Certificate,
    Key,
    TrustChain,
}

impl Machine for Reading {
    type Output = SubjectToken;

    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<SubjectToken> {
        match self.go_on(reply) {
            Ok(step) => step,
            Err(error) => Step::Done(Err(error.during(DOING, None))),
        }
    }
}

impl Reading {
    fn go_on(&mut self, reply: Reply) -> Result<Step<SubjectToken>, Error> {
        match (std::mem::replace(&mut self.stage, Stage::Ended), reply) {
            (Stage::Begin, Reply::Start) => match self.source.config.clone() {
                Some(path) => Ok(self.read(What::Config, path)),
                None => self.variable(0),
            },
            (Stage::Variables(nth), Reply::Env(value)) => {
                if let Some(variable) = self.variables.get_mut(nth) {
                    *variable = value.filter(|value| !value.is_empty()).map(PathBuf::from);
                }
                self.variable(nth.saturating_add(1))
            }
            (Stage::Variables(nth), Reply::Refused) => self.variable(nth.saturating_add(1)),
            (Stage::Reading(what, path), reply) => {
                let content = match reply {
                    Reply::File(content) => Ok(zeroize::Zeroizing::new(content)),
                    Reply::Missing => Err(file::missing(&path)),
                    Reply::Failed(failure) => Err(file::unreadable(failure)),
                    Reply::Refused => Err(Error::refused("ReadFile")),
                    _ => return Err(Error::misuse("reading a certificate")),
                };
                let next = content.and_then(|content| self.taken(what, &content));
                next.map_err(|error| error.within(Shown::path(&path)))
            }
            _ => Err(Error::misuse("reading a certificate")),
        }
    }

    fn read(&mut self, what: What, path: PathBuf) -> Step<SubjectToken> {
        self.stage = Stage::Reading(what, path.clone());
        Step::Do(Effect::ReadFile { path, max: file::MAX })
    }

    fn variable(&mut self, nth: usize) -> Result<Step<SubjectToken>, Error> {
        if let Some(name) = VARIABLES.get(nth) {
            self.stage = Stage::Variables(nth);
            return Ok(Step::Do(Effect::Env(name)));
        }
        let [config, gcloud, data, home] = std::mem::take(&mut self.variables);
        let path = config
            .or_else(|| Some(gcloud?.join(NAME)))
            .or_else(|| Some(data?.join("gcloud").join(NAME)))
            .or_else(|| Some(home?.join(".config").join("gcloud").join(NAME)))
            .ok_or_else(|| {
                Error::config("the certificate's configuration is nowhere: set GOOGLE_API_CERTIFICATE_CONFIG")
            })?;
        Ok(self.read(What::Config, path))
    }

    fn taken(&mut self, what: What, content: &[u8]) -> Result<Step<SubjectToken>, Error> {
        let text =
            || std::str::from_utf8(content).map_err(|_| Error::new(ErrorKind::File, "it is no text: PEM is needed"));
        match what {
            What::Config => {
                let file = File::parse("the certificate's configuration", content)?;
                let configs = file.inner("cert_configs", "cert_configs.").transpose()?;
                let configs = configs.ok_or_else(|| file.wrong("cert_configs", "is missing"))?;
                let workload = configs.inner("workload", "cert_configs.workload.").transpose()?;
                let workload =
                    workload.ok_or_else(|| configs.wrong("workload", "is missing: no other kind is supported"))?;
                self.certificate_path = workload.need("cert_path")?.into();
                self.key_path = workload.need("key_path")?.into();
                let path = self.certificate_path.clone();
                Ok(self.read(What::Certificate, path))
            }
            What::Certificate => {
                self.certificate = Some(text()?.to_owned());
                let path = self.key_path.clone();
                Ok(self.read(What::Key, path))
            }
            What::Key => {
                self.key = Some(text()?.into());
                match self.source.trust_chain.clone() {
                    Some(path) => Ok(self.read(What::TrustChain, path)),
                    None => self.subject_token(&[]),
                }
            }
            What::TrustChain => {
                let chain = certificates(text()?)?;
                self.subject_token(&chain)
            }
        }
    }

    /// The leaf, and what leads from it to the root, in which the leaf may come first once more.
    fn subject_token(&mut self, chain: &[String]) -> Result<Step<SubjectToken>, Error> {
        let (Some(certificate), Some(key)) = (self.certificate.take(), self.key.take()) else {
            return Err(Error::misuse("reading a certificate"));
        };
        let here = |error: Error| error.within(Shown::path(&self.certificate_path));
        let own = certificates(&certificate).map_err(here)?;
        let leaf = own.first().ok_or_else(|| here(Error::new(ErrorKind::File, "it holds no certificate")))?;
        let chain = chain.strip_prefix(std::slice::from_ref(leaf)).unwrap_or(chain);
        if chain.contains(leaf) {
            return Err(Error::new(
                ErrorKind::File,
                "the trust chain holds the client's certificate, and not at its beginning",
            ));
        }
        let all: Vec<&String> = std::iter::once(leaf).chain(chain).collect();
        let token = serde_json::to_string(&all).map_err(|e| Error::config("no JSON").with_source(e))?;
        Ok(Step::Done(Ok(SubjectToken::new(token).with_identity(Identity::pem(&certificate, key)))))
    }
}

/// The certificates of a text in PEM (RFC 7468), each as the base64 of its DER.
fn certificates(pem: &str) -> Result<Vec<String>, Error> {
    let wrong = |why: &'static str| Error::new(ErrorKind::File, why);
    let mut found = Vec::new();
    let mut rest = pem;
    while let Some((_, begun)) = rest.split_once("-----BEGIN CERTIFICATE-----") {
        let ended = begun.split_once("-----END CERTIFICATE-----");
        let (base64, after) = ended.ok_or_else(|| wrong("a certificate in it has no end"))?;
        let base64: String = base64.split_ascii_whitespace().collect();
        STANDARD.decode(&base64).map_err(|_| wrong("a certificate in it is no base64"))?;
        found.push(base64);
        if found.len() > MAX_CERTIFICATES {
            return Err(wrong("it holds more than 16 certificates"));
        }
        rest = after;
    }
    if found.is_empty() { Err(wrong("it holds no certificate in PEM")) } else { Ok(found) }
}
