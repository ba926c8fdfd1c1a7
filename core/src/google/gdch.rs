//! Service accounts of Google Distributed Cloud, air-gapped: a key signs an assertion, which the cloud's own server
//! exchanges.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::file::{File, ReadFile};
use super::hosts::Trust;
use super::{check_quota_project, quota_header};
use crate::crypto::{Algorithm, SigningKey};
use crate::exchange::Request;
use crate::jose::{JwtSigner, SignJwt};
use crate::machine::{Repeat, ask};
use crate::server::{Endpoint, Issuer};
use crate::source::{GrantState, Mint, Minting, Refusal, TokenSource, Want, cannot};
use crate::token::Asked;
use crate::{Cx, Deviations, Error, Exchange, Machine, Reply, Secret, Shown, Step, Timestamp, Token};

/// How long an assertion is good for.
const LIFE: Duration = Duration::from_secs(3600);
/// As an assertion's server may be slow to follow the clock.
const BACKDATED: Duration = Duration::from_secs(10);

/// A service account of Google Distributed Cloud (`gdch_service_account`).
///
/// Its wants name an [audience](Want::audience), the API, and nothing else. The cloud's server has a certificate of the
/// cloud's own authority ([`ca_cert_path`](Self::ca_cert_path)): give that to the builder of the transport as a root.
#[derive(Clone)]
pub struct GdchServiceAccount(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    name: String,
    project: String,
    endpoint: Endpoint,
    issuer: Issuer,
    jwt: JwtSigner,
    ca_cert_path: Option<PathBuf>,
    quota_project: Option<String>,
}

impl GdchServiceAccount {
    /// Reads a key file, whose server is none of Google's public ones: only for a file that you trust. The server gets
    /// signed assertions, which are good for it alone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the name of the member that is missing or wrong.
    pub fn from_json_with_any_server(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Server)
    }

    /// The machine that reads the file at this path. It needs [`with_any_server`](ReadFile::with_any_server).
    pub fn read(path: impl Into<PathBuf>) -> ReadFile<Self> {
        ReadFile::new(path, Self::parse_json)
    }

    fn parse_json(json: &[u8], trust: Trust) -> Result<Self, Error> {
        Self::parse(&File::parse("the key file", json)?, trust)
    }

    pub(super) fn parse(file: &File<'_>, trust: Trust) -> Result<Self, Error> {
        file.demand_type("gdch_service_account")?;
        if file.need("format_version")? != "1" {
            return Err(file.wrong("format_version", "is a version that this library does not know"));
        }
        let address = file.need("token_uri")?;
        if trust < Trust::Server {
            let why = "is of no public server of Google; only a file that you trust may name it (`with_any_server`)";
            return Err(file.wrong("token_uri", why));
        }
        let endpoint = Endpoint::new(address).map_err(|e| file.wrong("token_uri", "cannot be used").with_source(e))?;
        let key = SigningKey::from_pem(Algorithm::ES256, file.need("private_key")?)
            .map_err(|e| file.wrong("private_key", "cannot be used").with_source(e))?
            .with_key_id(file.need("private_key_id")?);
        Ok(Self(Arc::new(Inner {
            name: file.need("name")?.to_owned(),
            project: file.need("project")?.to_owned(),
            issuer: Issuer::of_origin(endpoint.as_str())?,
            endpoint,
            jwt: JwtSigner::new("JWT", Arc::new(key)),
            ca_cert_path: file.text("ca_cert_path")?.map(PathBuf::from),
            quota_project: file.quota_project()?,
        })))
    }

    /// Charges quota to this project, by the header `x-goog-user-project`.
    pub fn quota_project(mut self, project: &str) -> Self {
        Arc::make_mut(&mut self.0).quota_project = Some(project.to_owned());
        self
    }

    /// The project that the account belongs to.
    pub fn project(&self) -> &str {
        &self.0.project
    }

    /// The path of the certificate of the authority that signed the certificate of the cloud's server.
    pub fn ca_cert_path(&self) -> Option<&Path> {
        self.0.ca_cert_path.as_deref()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

#[derive(Serialize)]
struct Body<'a> {
    /// Its name for the grant is that of a kind of token.
    grant_type: &'static str,
    audience: &'a str,
    requested_token_type: &'static str,
    subject_token: &'a str,
    subject_token_type: &'static str,
}

impl Inner {
    fn sign(&self, now: Timestamp) -> Result<SignJwt, Error> {
        let account = format!("system:serviceaccount:{}:{}", self.project, self.name);
        let iat = now - BACKDATED;
        let (iat, exp) = (iat.as_unix(), (iat + LIFE).as_unix());
        let claims = Claims { iss: &account, sub: &account, aud: self.endpoint.as_str(), iat, exp };
        let claims =
            serde_json::to_string(&claims).map_err(|e| Error::config("the claims are no JSON").with_source(e))?;
        Ok(self.jwt.sign(&claims))
    }

    fn exchange(&self, assertion: &Secret, audience: &str) -> Exchange<Token> {
        let body = Body {
            grant_type: "urn:ietf:params:oauth:token-type:token-exchange",
            audience,
            requested_token_type: crate::token_type::ACCESS_TOKEN,
            subject_token: assertion.expose(),
            subject_token_type: "urn:k8s:params:oauth:token-type:serviceaccount",
        };
        let asked = Asked { issuer: Some(self.issuer.clone()), tolerated: Deviations::TOLERATED, ..Asked::default() };
        Request::post("exchanging the assertion", &self.endpoint)
            .repeat(Repeat::Freely)
            .json(&body)
            .keeps_secret(assertion)
            .exchange(move |received| asked.parse(received)?.outcome)
    }
}

impl TokenSource for GdchServiceAccount {
    fn mint(&self, want: &Want, _: &GrantState) -> Mint {
        let audience = want.wanted_audience().unwrap_or_default();
        if audience.is_empty() || *want != Want::default().audience(audience) {
            return Box::new(Refusal(cannot("needs the audience of an API, and takes nothing else")));
        }
        match check_quota_project(self.0.quota_project.as_deref()) {
            Ok(()) => Box::new(GdchMint { account: self.0.clone(), audience: audience.into(), stage: Stage::Begin }),
            Err(error) => Box::new(Refusal(error)),
        }
    }

    fn request_headers(&self) -> http::HeaderMap {
        quota_header(self.0.quota_project.as_deref())
    }
}

impl std::fmt::Debug for GdchServiceAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GdchServiceAccount").field("name", &Shown::name(&self.0.name)).finish_non_exhaustive()
    }
}

/// ```text
/// Begin ─▶ Sign ─▶ Exchange ─▶ done
/// ```
struct GdchMint {
    account: Arc<Inner>,
    audience: Box<str>,
    stage: Stage,
}

enum Stage {
    Begin,
    Sign(SignJwt),
    Exchange(Box<Exchange<Token>>),
    Ended,
}

impl Minting for GdchMint {}

impl Machine for GdchMint {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        loop {
            let next = match (&mut self.stage, &reply) {
                (Stage::Begin, Reply::Start) => self.account.sign(cx.now().wall).map(Stage::Sign),
                (Stage::Sign(signing), _) => ask!(signing, cx, reply)
                    .map(|assertion| Stage::Exchange(Box::new(self.account.exchange(&assertion, &self.audience)))),
                (Stage::Exchange(exchange), _) => {
                    let result = ask!(&mut **exchange, cx, reply);
                    self.stage = Stage::Ended;
                    return Step::Done(result.map_err(Error::of_no_person));
                }
                (Stage::Begin | Stage::Ended, _) => Err(Error::misuse("a mint")),
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(error) => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(error.during("minting for a service account of GDCH", None)));
                }
            }
        }
    }
}
