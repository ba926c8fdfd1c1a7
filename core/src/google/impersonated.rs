//! Tokens of a service account that another credential may act for (IAM Credentials, AIP-4115).
//!
//! ```text
//! Base ─▶ generateAccessToken, or generateIdToken ─▶ done
//!   └──▶ signJwt ─▶ Exchange (on behalf of a user: domain-wide delegation) ─▶ done
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::file::File;
use super::hosts;
use super::scopes::CLOUD_PLATFORM;
use super::{DEFAULT_UNIVERSE, bearer_jwt, check_quota_project, quota_header};
use crate::exchange::{Received, Request, error_under_success};
use crate::machine::{Repeat, ask};
use crate::server::Endpoint;
use crate::source::{Again, Base, GrantState, Mint, Minting, Refusal, TokenSource, Want, WantKind, cannot};
use crate::{
    Advice, Cx, Error, ErrorKind, Exchange, Machine, Reply, Secret, ServerMetadata, Shown, Step, Timestamp, Token,
    TokenExchange, TokenRequest, json,
};

const DOING: &str = "impersonating a service account";
/// How long a token is good for by default; longer than an hour needs a policy of the organization.
const LIFETIME: Duration = Duration::from_secs(3600);
const LIFETIMES: std::ops::RangeInclusive<u64> = 600..=43_200;
/// How long an assertion on behalf of a user is good for.
const ASSERTION: Duration = Duration::from_secs(3600);
/// Google refuses an assertion from the future.
const BACKDATED: Duration = Duration::from_secs(10);

/// A service account, whose tokens IAM gives to a credential that may impersonate it.
///
/// | want | what happens |
/// |---|---|
/// | [`Want::access_token`] with scopes | `generateAccessToken` |
/// | the same with a [subject](Want::subject) | on behalf of that user: `signJwt`, and an exchange (domain-wide delegation without a key) |
/// | [`Want::id_token`] | `generateIdToken`, with the account's address |
///
/// The base's token needs the scope `https://www.googleapis.com/auth/cloud-platform` or that of IAM. It is kept for all
/// wants.
///
/// ```
/// use grantflow::google::{Impersonated, MetadataServer, scopes};
/// use grantflow::source::{TokenSource, Want};
///
/// let source = Impersonated::new(MetadataServer::new(), "reader@demo-project.iam.gserviceaccount.com")?
///     .delegates(["middle@demo-project.iam.gserviceaccount.com"])?;
/// let machine = source.mint(&Want::access_token(scopes::CLOUD_PLATFORM), &source.first_state());
/// # let _ = machine;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct Impersonated {
    base: Base,
    base_want: Want,
    target: Arc<Target>,
    quota_project: Option<String>,
}

/// Whom to impersonate, and how.
#[derive(Clone)]
struct Target {
    email: Box<str>,
    access_token: Endpoint,
    universe_domain: Box<str>,
    delegates: Vec<String>,
    lifetime: Duration,
}

impl Impersonated {
    /// The service account of this address, by a credential that has the role
    /// `roles/iam.serviceAccountTokenCreator` on it.
    ///
    /// # Errors
    ///
    /// If the text is no address of a service account.
    pub fn new(base: impl Into<Base>, service_account: &str) -> Result<Self, Error> {
        let endpoint = hosts::iam(DEFAULT_UNIVERSE, service_account, "generateAccessToken")?;
        Self::at(base, &endpoint, DEFAULT_UNIVERSE)
    }

    pub(super) fn at(base: impl Into<Base>, endpoint: &Endpoint, universe_domain: &str) -> Result<Self, Error> {
        let target = Target {
            email: account_of(endpoint)?.into(),
            access_token: endpoint.clone(),
            universe_domain: universe_domain.into(),
            delegates: Vec::new(),
            lifetime: LIFETIME,
        };
        let base_want = Want::access_token(CLOUD_PLATFORM);
        Ok(Self { base: base.into(), base_want, target: Arc::new(target), quota_project: None })
    }

    /// Sets the accounts between, from the one that the base may impersonate to the one that may impersonate this
    /// account. Each of them needs the role `roles/iam.serviceAccountTokenCreator` on the next.
    ///
    /// # Errors
    ///
    /// If one of the texts is no address of a service account.
    pub fn delegates<S: AsRef<str>>(mut self, delegates: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        Arc::make_mut(&mut self.target).delegates = delegate_names(delegates)?;
        Ok(self)
    }

    /// Sets how long access tokens are to be good for: 10 minutes to 12 hours; an hour by default. More than an hour
    /// needs the policy `iam.allowServiceAccountCredentialLifetimeExtension`.
    ///
    /// # Errors
    ///
    /// If the time is shorter or longer.
    pub fn lifetime(mut self, time: Duration) -> Result<Self, Error> {
        if !LIFETIMES.contains(&time.as_secs()) {
            return Err(Error::config("an impersonated token lives from 600 to 43200 seconds"));
        }
        Arc::make_mut(&mut self.target).lifetime = time;
        Ok(self)
    }

    /// Asks IAM of another universe than `googleapis.com`.
    ///
    /// # Errors
    ///
    /// If the text is no domain.
    pub fn with_universe_domain(mut self, domain: &str) -> Result<Self, Error> {
        if !hosts::is_domain(domain) {
            return Err(Error::config("the universe is no domain"));
        }
        let target = Arc::make_mut(&mut self.target);
        target.access_token = hosts::iam(domain, &target.email, "generateAccessToken")?;
        target.universe_domain = domain.into();
        Ok(self)
    }

    /// Sets what is wanted of the base; by default an access token with the scope of all of Google Cloud.
    pub fn base_want(mut self, want: Want) -> Self {
        self.base_want = want;
        self
    }

    /// Charges quota to this project, by the header `x-goog-user-project`.
    pub fn quota_project(mut self, project: &str) -> Self {
        self.quota_project = Some(project.to_owned());
        self
    }

    /// The address of the account.
    pub fn email(&self) -> &str {
        &self.target.email
    }

    /// The universe that the account belongs to: `googleapis.com`, but for sovereign clouds.
    pub fn universe_domain(&self) -> &str {
        &self.target.universe_domain
    }
}

/// Delegates by the names that IAM knows them by.
pub(super) fn delegate_names<S: AsRef<str>>(delegates: impl IntoIterator<Item = S>) -> Result<Vec<String>, Error> {
    const NAME: &str = "projects/-/serviceAccounts/";
    let name = |delegate: S| {
        let email = delegate.as_ref().strip_prefix(NAME).unwrap_or(delegate.as_ref());
        if !hosts::is_email(email) {
            let shown = Shown::name(email);
            return Err(Error::config(format!("{shown} among the delegates is no address of a service account")));
        }
        Ok(format!("{NAME}{email}"))
    };
    delegates.into_iter().map(name).collect()
}

/// The account that an endpoint of `generateAccessToken` is for.
pub(super) fn account_of(endpoint: &Endpoint) -> Result<String, Error> {
    let email = hosts::impersonated(endpoint.as_str(), ":generateAccessToken");
    let email = email.ok_or_else(|| Error::config("the service account to impersonate has no address that is one"))?;
    Ok(email.to_owned())
}

/// A lifetime in seconds.
pub(super) fn lifetime(file: &File<'_>, name: &str) -> Result<Option<Duration>, Error> {
    let Some(value) = file.get(name) else { return Ok(None) };
    let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok()).filter(|seconds| LIFETIMES.contains(seconds));
    let seconds = seconds.ok_or_else(|| file.wrong(name, "is no number of seconds from 600 to 43200"))?;
    Ok(Some(Duration::from_secs(seconds)))
}

impl TokenSource for Impersonated {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        let checked = check_quota_project(self.quota_project.as_deref()).and_then(|()| self.target.check(want));
        if let Err(error) = checked {
            return Box::new(Refusal(error));
        }
        let (target, want) = (self.target.clone(), want.clone());
        let with = move |token: &Token| -> Result<Mint, Error> {
            let (target, want, token) = (target.clone(), want.clone(), token.clone());
            Ok(Box::new(Impersonating { stage: Stage::Begin, target, want, token }))
        };
        self.base.mint(&self.base_want, state, Box::new(with))
    }

    fn first_state(&self) -> GrantState {
        self.base.first_state(&self.base_want)
    }

    fn again(&self, _: &Error) -> Again {
        Again::Usual
    }

    fn may_change(&self, state: &GrantState) -> bool {
        state.must_mint_base()
    }

    fn request_headers(&self) -> http::HeaderMap {
        quota_header(self.quota_project.as_deref())
    }
}

impl fmt::Debug for Impersonated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Impersonated")
            .field("base", &self.base)
            .field("email", &Shown::name(&self.target.email))
            .field("quota_project", &self.quota_project.as_deref().map(Shown::name))
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccessTokenBody<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    delegates: &'a [String],
    scope: Vec<&'a str>,
    lifetime: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdTokenBody<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    delegates: &'a [String],
    audience: &'a str,
    include_email: bool,
}

#[derive(Serialize)]
struct SignJwtBody<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    delegates: &'a [String],
    payload: String,
}

impl Target {
    fn check(&self, want: &Want) -> Result<(), Error> {
        let scopes = want.scopes();
        scopes.check()?;
        if want.names_resources() {
            return Err(cannot("has no use for a resource; name an audience or scopes"));
        }
        if want.wanted_account().is_some_and(|account| account != &*self.email) {
            return Err(cannot("is another account's"));
        }
        match (want.kind(), want.wanted_audience(), want.wanted_subject()) {
            (WantKind::SelfSigned, ..) => Err(cannot("has no key here to sign with")),
            (WantKind::IdToken, None, _) => Err(cannot("needs an audience to mint an ID token for")),
            (WantKind::IdToken, _, Some(_)) => Err(cannot("mints ID tokens of its own, and for no subject")),
            (WantKind::IdToken, ..) if !scopes.is_empty() => Err(cannot("mints ID tokens without scopes")),
            (WantKind::IdToken, ..) => Ok(()),
            (_, Some(_), _) => Err(cannot("takes scopes for an access token, and no audience")),
            _ if scopes.is_empty() => Err(cannot("needs at least one scope")),
            (_, _, Some(_)) if &*self.universe_domain != DEFAULT_UNIVERSE => {
                Err(cannot("acts for no user outside of the universe googleapis.com"))
            }
            _ => Ok(()),
        }
    }

    /// Another method of IAM Credentials for the same account.
    fn endpoint(&self, method: &str) -> Result<Endpoint, Error> {
        let address = self.access_token.as_str();
        let account = address.strip_suffix("generateAccessToken").unwrap_or(address);
        Endpoint::new(&format!("{account}{method}"))
    }

    fn request(&self, endpoint: &Endpoint, token: &Token) -> Result<Request, Error> {
        Request::post(DOING, endpoint).repeat(Repeat::Freely).bearer(token)
    }

    fn generate_access_token(&self, want: &Want, token: &Token) -> Result<Exchange<Token>, Error> {
        let scopes = want.scopes();
        let body = AccessTokenBody {
            delegates: &self.delegates,
            scope: scopes.iter().collect(),
            lifetime: format!("{}s", self.lifetime.as_secs()),
        };
        let request = self.request(&self.access_token, token)?.json(&body);
        let scopes = scopes.clone();
        Ok(request.exchange(move |received| {
            let members = Members::read(received)?;
            let end = members.text("expireTime").and_then(Timestamp::from_rfc3339);
            let end = end.ok_or_else(|| members.without("an expireTime"))?;
            let token = members.text("accessToken").ok_or_else(|| members.without("an accessToken"))?;
            Ok(Token::bearer(token, received.sent, Some(end))?.with_scopes(scopes.clone()))
        }))
    }

    fn generate_id_token(&self, audience: &str, token: &Token) -> Result<Exchange<Token>, Error> {
        let body = IdTokenBody { delegates: &self.delegates, audience, include_email: true };
        let request = self.request(&self.endpoint("generateIdToken")?, token)?.json(&body);
        Ok(request.exchange(|received| {
            let members = Members::read(received)?;
            bearer_jwt(members.text("token").ok_or_else(|| members.without("a token"))?, received.sent)
        }))
    }

    /// Has an assertion signed on behalf of a user.
    fn sign_jwt(&self, want: &Want, token: &Token, now: Timestamp) -> Result<Exchange<Secret>, Error> {
        let iat = now - BACKDATED;
        let claims = serde_json::json!({
            "iss": self.email,
            "sub": want.wanted_subject(),
            "scope": want.scopes().as_str(),
            "aud": ServerMetadata::google().token()?.as_str(),
            "iat": iat.as_unix(),
            "exp": (iat + ASSERTION).as_unix(),
        });
        let body = SignJwtBody { delegates: &self.delegates, payload: claims.to_string() };
        let request = self.request(&self.endpoint("signJwt")?, token)?.json(&body);
        Ok(request.exchange(|received| {
            let members = Members::read(received)?;
            members.text("signedJwt").map(Secret::from).ok_or_else(|| members.without("a signedJwt"))
        }))
    }
}

/// An answer of IAM Credentials, wiped on drop.
pub(super) struct Members(serde_json::Map<String, Value>, Option<Error>);

impl Members {
    pub(super) fn read(received: Received<'_>) -> Result<Self, Error> {
        let object = json::object(received.response.body());
        let object = object.map_err(|_| Error::new(ErrorKind::InvalidResponse, "the answer is no JSON object"))?;
        Ok(Self(object.members, error_under_success(received.response.body())))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    pub(super) fn without(&self, what: &str) -> Error {
        let missing = || Error::new(ErrorKind::InvalidResponse, format!("the answer comes without {what}"));
        self.1.clone().unwrap_or_else(missing)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.0.values_mut().for_each(crate::secret::wipe_json);
    }
}

/// Mints with the base's token.
struct Impersonating {
    stage: Stage,
    target: Arc<Target>,
    want: Want,
    token: Token,
}

enum Stage {
    Begin,
    Iam(Box<Exchange<Token>>),
    SignJwt(Box<Exchange<Secret>>),
    Exchange(Box<TokenExchange>),
    Ended,
}

impl Minting for Impersonating {}

impl Machine for Impersonating {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        loop {
            let next = match (&mut self.stage, &reply) {
                (Stage::Begin, Reply::Start) => self.begin(cx.now().wall),
                (Stage::Iam(exchange), _) => {
                    let result = ask!(&mut **exchange, cx, reply);
                    return self.end(result);
                }
                (Stage::SignJwt(exchange), _) => {
                    let assertion = ask!(&mut **exchange, cx, reply);
                    assertion.and_then(|assertion| {
                        let google = ServerMetadata::google();
                        let request = TokenRequest::jwt_bearer(&google, None, &assertion, self.want.scopes())?;
                        Ok(Stage::Exchange(Box::new(request.exchange())))
                    })
                }
                (Stage::Exchange(exchange), _) => {
                    // A refusal is of the assertion, and says nothing of the base's token.
                    let result = ask!(&mut **exchange, cx, reply).map_err(delegation_refused);
                    return self.end(result);
                }
                (Stage::Begin | Stage::Ended, _) => Err(Error::misuse("an impersonation")),
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(error) => return self.end(Err(error)),
            }
        }
    }
}

impl Impersonating {
    fn begin(&self, now: Timestamp) -> Result<Stage, Error> {
        let (target, want, token) = (&self.target, &self.want, &self.token);
        Ok(match (want.wanted_audience(), want.wanted_subject()) {
            (Some(audience), _) => Stage::Iam(Box::new(target.generate_id_token(audience, token)?)),
            (None, Some(_)) => Stage::SignJwt(Box::new(target.sign_jwt(want, token, now)?)),
            (None, None) => Stage::Iam(Box::new(target.generate_access_token(want, token)?)),
        })
    }

    fn end(&mut self, result: Result<Token, Error>) -> Step<Token> {
        self.stage = Stage::Ended;
        Step::Done(result.map_err(|error| match (error.advice(), error.status()) {
            // What IAM refuses, roles and policies permit.
            (None, Some(400..=404)) => error.with_advice(Advice::FixConfiguration),
            _ => error.of_no_person(),
        }))
    }
}

/// The refusal of an assertion on behalf of a user. It says nothing of the base's token.
fn delegation_refused(error: Error) -> Error {
    if error.server().is_none() || error.is_transient() {
        return error;
    }
    let why =
        "Google does not let the account act for this user, unless the domain's administrator grants each scope to it";
    Error::new(ErrorKind::Server, format!("{why}: {error}")).with_source(error).with_advice(Advice::FixConfiguration)
}
