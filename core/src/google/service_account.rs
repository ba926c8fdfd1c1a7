//! Service accounts: a key signs an assertion, which is exchanged for a token, or is one itself.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::file::{File, ReadFile};
use super::hosts::{self, Trust};
use super::{DEFAULT_UNIVERSE, check_quota_project, id_token_of, quota_header};
use crate::crypto::{Algorithm, Signer, SigningKey};
use crate::exchange::Within;
use crate::jose::{JwtSigner, SignJwt};
use crate::machine::ask;
use crate::source::{GrantState, Mint, Minting, TokenSource, Want, WantKind, cannot};
use crate::{
    Cx, Error, ErrorKind, Exchange, Machine, Now, Reply, Secret, ServerMetadata, Step, Timestamp, Token, TokenRequest,
};

/// How long a remote signer may take.
const SIGNING: Duration = Duration::from_secs(30);
/// How long an assertion and what is signed for oneself is good for; Google takes no longer.
const LIFE: Duration = Duration::from_secs(3600);
/// Google refuses an assertion from the future: ours are made a little in the past.
const BACKDATED: Duration = Duration::from_secs(10);

/// A service account, from its key file.
///
/// | want | what happens |
/// |---|---|
/// | [`Want::access_token`] with scopes | an assertion is exchanged at the token endpoint |
/// | the same with a [subject](Want::subject) | on behalf of that user (domain-wide delegation) |
/// | [`Want::id_token`] | an ID token for that audience, from the token endpoint |
/// | [`Want::self_signed`] with scopes or an [audience](Want::audience) | a token that the key signs itself; no request |
///
/// In a universe other than `googleapis.com` there is no token endpoint: access tokens are signed by the
/// key itself.
#[derive(Clone)]
pub struct ServiceAccount(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    email: String,
    server: ServerMetadata,
    jwt: JwtSigner,
    project_id: Option<String>,
    quota_project: Option<String>,
    universe_domain: String,
}

impl ServiceAccount {
    /// Reads a key file. Its `token_uri` must be Google's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`], with the name of the member that is missing or wrong.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Nothing)
    }

    /// Reads a key file, and accepts any token endpoint in it: only for a file that you trust. That server gets signed
    /// assertions, which are good for it alone.
    pub fn from_json_with_any_server(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Server)
    }

    /// The machine that reads the file at this path, by the rules of [`from_json`](Self::from_json).
    pub fn read(path: impl Into<std::path::PathBuf>) -> ReadFile<Self> {
        ReadFile::new(path, Self::parse_json)
    }

    fn parse_json(json: &[u8], trust: Trust) -> Result<Self, Error> {
        Self::parse(&File::parse("the key file", json)?, trust)
    }

    /// An account whose key is elsewhere: `signer` signs for `email`.
    pub fn with_signer(email: &str, signer: impl Signer + 'static) -> Self {
        Self(Arc::new(Inner {
            email: email.to_owned(),
            server: ServerMetadata::google(),
            jwt: JwtSigner::new("JWT", Arc::new(signer)),
            project_id: None,
            quota_project: None,
            universe_domain: DEFAULT_UNIVERSE.to_owned(),
        }))
    }

    pub(super) fn parse(file: &File<'_>, trust: Trust) -> Result<Self, Error> {
        file.demand_type("service_account")?;
        let key = SigningKey::from_pem(Algorithm::RS256, file.need("private_key")?)
            .map_err(|e| file.wrong("private_key", "cannot be used").with_source(e))?;
        let key = match file.text("private_key_id")? {
            Some(key_id) => key.with_key_id(key_id),
            None => key,
        };
        let universe_domain = file.text("universe_domain")?.unwrap_or(DEFAULT_UNIVERSE).to_owned();
        Ok(Self(Arc::new(Inner {
            email: file.need("client_email")?.to_owned(),
            server: match &*universe_domain {
                DEFAULT_UNIVERSE => file.token_server(trust)?,
                // Nothing is ever sent to the token endpoint that a file of another universe names.
                _ => ServerMetadata::google(),
            },
            jwt: JwtSigner::new("JWT", Arc::new(key)),
            project_id: file.text("project_id")?.map(str::to_owned),
            quota_project: file.quota_project()?,
            universe_domain,
        })))
    }

    /// Charges quota to this project, by the header `x-goog-user-project`.
    pub fn quota_project(mut self, project: &str) -> Self {
        Arc::make_mut(&mut self.0).quota_project = Some(project.to_owned());
        self
    }

    /// Puts the account into another universe than `googleapis.com`, for an account [with a signer](Self::with_signer);
    /// a key file names its universe itself.
    ///
    /// # Errors
    ///
    /// If the text is no domain.
    pub fn with_universe_domain(mut self, domain: &str) -> Result<Self, Error> {
        if !hosts::is_domain(domain) {
            return Err(Error::config("the universe is no domain"));
        }
        Arc::make_mut(&mut self.0).universe_domain = domain.to_owned();
        Ok(self)
    }

    /// The account's address.
    pub fn email(&self) -> &str {
        &self.0.email
    }

    /// The project that the account belongs to.
    pub fn project_id(&self) -> Option<&str> {
        self.0.project_id.as_deref()
    }

    /// The universe that the account belongs to: `googleapis.com`, but for sovereign clouds.
    pub fn universe_domain(&self) -> &str {
        &self.0.universe_domain
    }

    /// The machine that signs the assertion for a want (RFC 7523, section 3), made at this moment.
    pub fn assertion(
        &self,
        want: &Want,
        now: Timestamp,
    ) -> Result<impl Machine<Output = Secret> + Send + use<>, Error> {
        self.0.sign(want, Use::Exchanged, now)
    }

    /// The machine that signs bytes with the account's key, or has its [signer](Self::with_signer) sign them
    /// (RSASSA-PKCS1-v1_5 with SHA-256): for example those of a V4 URL of Cloud Storage.
    pub fn sign_blob(&self, bytes: &[u8]) -> impl Machine<Output = Vec<u8>> + Send + use<> {
        self.0.jwt.sign_bytes(bytes)
    }
}

impl std::fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccount").field("email", &crate::Shown::name(&self.0.email)).finish_non_exhaustive()
    }
}

/// What becomes of a signed JWT.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Exchanged,
    ByItself,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_audience: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    iat: i64,
    exp: i64,
}

impl Inner {
    fn is_default_universe(&self) -> bool {
        self.universe_domain == DEFAULT_UNIVERSE
    }

    /// How a token of this want is made.
    fn usage(&self, want: &Want) -> Result<Use, Error> {
        let by_itself = want.kind() == WantKind::SelfSigned || !self.is_default_universe();
        let scopes = want.scopes();
        scopes.check()?;
        check_quota_project(self.quota_project.as_deref())?;
        if want.names_resources() {
            return Err(cannot("has no use for a resource; name an audience or scopes"));
        }
        if want.wanted_account().is_some_and(|account| account != self.email) {
            return Err(cannot("is another account's"));
        }
        match (want.kind(), want.wanted_audience()) {
            (WantKind::IdToken, None) => Err(cannot("needs an audience to mint an ID token for")),
            (WantKind::IdToken, Some(_)) if !scopes.is_empty() => Err(cannot("mints ID tokens without scopes")),
            (WantKind::IdToken, Some(_)) if !self.is_default_universe() => Err(cannot(
                "is of another universe, where IAM alone has ID tokens: impersonate the account with itself for its base",
            )),
            (WantKind::IdToken, Some(_)) => Ok(Use::Exchanged),
            _ if by_itself && want.wanted_subject().is_some() => {
                Err(cannot("signs for itself alone: a subject needs the token endpoint of googleapis.com"))
            }
            (_, Some(_)) if !by_itself => Err(cannot("takes scopes for an access token, and no audience")),
            (_, Some(_)) if !scopes.is_empty() => Err(cannot("takes either scopes or an audience, not both")),
            (_, None) if scopes.is_empty() => Err(cannot("needs at least one scope")),
            _ => Ok(if by_itself { Use::ByItself } else { Use::Exchanged }),
        }
    }

    fn sign(&self, want: &Want, usage: Use, now: Timestamp) -> Result<SignJwt, Error> {
        let scopes = want.scopes();
        let iat = now - BACKDATED;
        let id_token = want.kind() == WantKind::IdToken;
        let (sub, aud) = match usage {
            Use::Exchanged => (want.wanted_subject(), Some(self.server.token()?.as_str())),
            Use::ByItself => (Some(&*self.email), want.wanted_audience()),
        };
        let claims = Claims {
            iss: &self.email,
            sub,
            scope: Some(scopes.as_str()).filter(|scopes| !scopes.is_empty()),
            target_audience: want.wanted_audience().filter(|_| id_token),
            aud,
            iat: iat.as_unix(),
            exp: (iat + LIFE).as_unix(),
        };
        let mut json = Vec::with_capacity(512);
        serde_json::to_writer(&mut json, &claims)
            .map_err(|e| Error::config("the claims are no JSON").with_source(e))?;
        Ok(self.jwt.sign(std::str::from_utf8(&json).unwrap_or_default()))
    }
}

impl TokenSource for ServiceAccount {
    fn mint(&self, want: &Want, _: &GrantState) -> Mint {
        Box::new(AssertionMint { account: self.0.clone(), want: want.clone(), stage: Stage::Begin })
    }

    fn request_headers(&self) -> http::HeaderMap {
        quota_header(self.0.quota_project.as_deref())
    }
}

/// Mints by an assertion.
///
/// ```text
/// Begin ─▶ Sign ─▶ Exchange ─▶ done
///            └───▶ done (a token that the key signs itself)
/// ```
struct AssertionMint {
    account: Arc<Inner>,
    want: Want,
    stage: Stage,
}

enum Stage {
    Begin,
    Sign { signing: Within<SignJwt>, usage: Use, began: Timestamp },
    Exchange(Box<Exchange<Token>>),
    Ended,
}

impl Machine for AssertionMint {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        loop {
            let next = match (&mut self.stage, &reply) {
                (Stage::Begin, Reply::Start) => self.begin(cx.now()),
                (Stage::Begin | Stage::Ended, _) => Err(Error::misuse("a mint")),
                (Stage::Sign { signing, usage, began }, _) => {
                    let (usage, began) = (*usage, *began);
                    match (ask!(signing, cx, reply), usage) {
                        (Ok(jwt), Use::Exchanged) => self.exchange(&jwt),
                        (Ok(jwt), Use::ByItself) => {
                            let end = began - BACKDATED + LIFE;
                            let token = Token::bearer(jwt.expose(), began, Some(end));
                            self.stage = Stage::Ended;
                            return Step::Done(token.map(|token| token.with_scopes(self.want.scopes())));
                        }
                        (Err(error), _) => Err(error),
                    }
                }
                (Stage::Exchange(exchange), _) => {
                    let result = ask!(exchange, cx, reply);
                    return Step::Done(result.map_err(Error::of_no_person));
                }
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(error) => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(error.during("minting for a service account", None)));
                }
            }
        }
    }
}

impl Minting for AssertionMint {}

impl AssertionMint {
    fn begin(&self, now: Now) -> Result<Stage, Error> {
        let (usage, began) = (self.account.usage(&self.want)?, now.wall);
        let signing = self.account.sign(&self.want, usage, began)?;
        Ok(Stage::Sign { signing: Within::new(signing, now.mono.saturating_add(SIGNING)), usage, began })
    }

    fn exchange(&self, assertion: &Secret) -> Result<Stage, Error> {
        let asked = TokenRequest::jwt_bearer(&self.account.server, None, assertion, self.want.scopes())?;
        let (request, parse) = asked.into_parts();
        let exchange = if self.want.kind() == WantKind::IdToken {
            let issuer = self.account.server.issuer().clone();
            request.exchange(move |received| Ok(id_token_of(received)?.issued_by(&issuer)))
        } else {
            request.exchange(move |received| {
                parse(received).0.map_err(|error| match id_token_of(received) {
                    // Google takes a scope that it does not know for the audience of an ID token.
                    Ok(_) => Error::new(
                        ErrorKind::Config,
                        "Google knows none of the scopes, or not all: it answered with an ID token for them",
                    ),
                    Err(_) => error,
                })
            })
        };
        Ok(Stage::Exchange(Box::new(exchange)))
    }
}
