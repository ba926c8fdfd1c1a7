//! Workload and workforce identity federation (AIP-4117): another platform's word about a program, for a token of
//! Google's.
//!
//! ```text
//! Begin ─▶ Subject (a file, an address, AWS, a program, a certificate, or the caller's own) ─▶ Exchange ─▶ done
//! ```
//!
//! Where a service account is to be impersonated, that token is the base of a chain: see
//! [`Impersonated`](super::Impersonated).

mod aws;
mod certificate;
mod executable;
mod imds;
mod sigv4;
mod sts;
mod subject;
mod token_file;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::certificate::Certificate;
use self::executable::Executable;
use self::sts::{Inner, Sts, sts_at};
use self::token_file::{TokenFile, TokenUrl};
use super::file::{File, ReadFile};
use super::hosts::{Service, Trust};
use super::impersonated::{self, Impersonated};
use super::{DEFAULT_UNIVERSE, check_quota_project, quota_header};
use crate::server::Endpoint;
use crate::source::{Again, GrantState, Mint, Refusal, TokenSource, Want};
use crate::{Client, ClientAuthentication, Error, ServerMetadata, Shown};

pub use aws::AwsIdentity;
pub use sigv4::AwsCredentials;
pub use subject::{SubjectToken, SubjectTokenContext, SubjectTokenMachine, SubjectTokens};

/// An account of another platform, or of a workforce, that Google knows by federation.
///
/// | want | what happens |
/// |---|---|
/// | [`Want::access_token`] with scopes | a subject token is exchanged at STS |
/// | the same, with a service account to [impersonate](Self::impersonate) | its token is asked for with that of STS |
/// | [`Want::id_token`], a [subject](Want::subject) | only with a service account: see [`Impersonated`] |
///
/// ```
/// use grantflow::google::{ExternalAccount, SubjectToken};
/// use grantflow::token_type;
///
/// let audience = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/oidc";
/// let own = || Ok(SubjectToken::new("a JWT of the platform"));
/// let source = ExternalAccount::new(audience, token_type::JWT, own)?;
/// # let _ = source;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct ExternalAccount {
    sts: Sts,
    impersonated: Option<Impersonated>,
    quota_project: Option<String>,
}

impl ExternalAccount {
    /// The type of the subject tokens of [`AwsIdentity`].
    pub const AWS: &str = "urn:ietf:params:aws:token-type:aws4_request";

    /// An account that this provider of a pool knows, by subject tokens of this type: see
    /// [`token_type`](crate::token_type).
    ///
    /// # Errors
    ///
    /// If the audience or the type cannot be sent.
    pub fn new(
        audience: &str,
        subject_token_type: &str,
        subject_tokens: impl SubjectTokens + 'static,
    ) -> Result<Self, Error> {
        let printable = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable(audience) || !printable(subject_token_type) {
            return Err(Error::config("the audience or the subject_token_type is empty, or holds a blank"));
        }
        let inner = Inner {
            audience: audience.into(),
            subject_token_type: subject_token_type.into(),
            subject_tokens: Arc::new(subject_tokens),
            server: sts_at("https://sts.googleapis.com/v1/token")?,
            client: None,
            user_project: None,
            token_info: None,
            impersonated: None,
            universe_domain: DEFAULT_UNIVERSE.into(),
        };
        Ok(Self { sts: Sts(Arc::new(inner)), impersonated: None, quota_project: None })
    }

    /// Reads a file of type `external_account` that need not be trusted. Its servers must be Google's, and its source
    /// must be AWS, at the addresses that AWS has: any other source names a file to read, an address to ask or a
    /// program to run.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the name of the member that is missing or wrong.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Nothing)
    }

    /// Reads such a file with any `credential_source`: the writer of the file chooses which file is read and sent to
    /// Google, which address is asked, which program is run. Only for a file that you trust.
    pub fn from_json_with_any_source(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Source)
    }

    /// Reads such a file, and sends subject tokens to any server that it names: only for a file that you trust with
    /// them.
    pub fn from_json_with_any_server(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Server)
    }

    /// The machine that reads the file at this path, by the rules of [`from_json`](Self::from_json) or those that are
    /// set.
    pub fn read(path: impl Into<PathBuf>) -> ReadFile<Self> {
        ReadFile::new(path, Self::parse_json)
    }

    fn parse_json(json: &[u8], trust: Trust) -> Result<Self, Error> {
        Self::parse(&File::parse("the credential file", json)?, trust)
    }

    pub(super) fn parse(file: &File<'_>, trust: Trust) -> Result<Self, Error> {
        file.demand_type("external_account")?;
        let universe_domain = file.universe_domain(trust)?;
        let audience = file.need("audience")?;
        let kind = file.need("subject_token_type")?;
        let source = file.inner("credential_source", "credential_source.").transpose()?;
        let source = source.ok_or_else(|| file.wrong("credential_source", "is missing"))?;
        let (subject_tokens, host) = Self::source(&source, kind, trust)?;
        let mut inner = Inner {
            audience: audience.into(),
            subject_token_type: kind.into(),
            subject_tokens,
            server: ServerMetadata::google(),
            client: None,
            user_project: None,
            token_info: None,
            impersonated: None,
            universe_domain: universe_domain.into(),
        };
        if !audience.bytes().chain(kind.bytes()).all(|byte| byte.is_ascii_graphic()) {
            return Err(file.wrong("audience", "or `subject_token_type` holds a blank"));
        }
        let token_url = match file.text("token_url")? {
            Some(address) => address.to_owned(),
            None => format!("https://{host}.{universe_domain}/v1/token"),
        };
        let wrong = |name: &'static str| move |why| file.wrong(name, why);
        let token_url = Service::Sts("/v1/token").endpoint(&token_url, trust).map_err(wrong("token_url"))?;
        inner.server = sts_at(token_url.as_str())?;
        if let Some(address) = file.text("token_info_url")? {
            let endpoint = Service::Sts("/v1/introspect").endpoint(address, trust);
            inner.token_info = Some(endpoint.map_err(wrong("token_info_url"))?);
        }
        if let Some(id) = file.text("client_id")? {
            let client = Client::new(id);
            inner.client = Some(match file.text("client_secret")? {
                Some(secret) => client.authentication(ClientAuthentication::client_secret_basic_unencoded(secret)),
                None => client,
            });
        }
        inner.user_project = match file.text("workforce_pool_user_project")? {
            Some(_) if !is_workforce(audience) => {
                return Err(file.wrong("workforce_pool_user_project", "is for the audience of a workforce pool alone"));
            }
            project => project.map(Into::into),
        };
        let account = Self { sts: Sts(Arc::new(inner)), impersonated: None, quota_project: file.quota_project()? };
        let Some(address) = file.text("service_account_impersonation_url")? else { return Ok(account) };
        let endpoint = Service::GenerateAccessToken.endpoint(address, trust);
        let endpoint = endpoint.map_err(wrong("service_account_impersonation_url"))?;
        let lifetime =
            match file.inner("service_account_impersonation", "service_account_impersonation.").transpose()? {
                Some(settings) => impersonated::lifetime(&settings, "token_lifetime_seconds")?,
                None => None,
            };
        account.impersonate_at(&endpoint, lifetime)
    }

    /// The source of a file, and the first label of the STS host that it goes to.
    fn source(source: &File<'_>, kind: &str, trust: Trust) -> Result<(Arc<dyn SubjectTokens>, &'static str), Error> {
        let named = |name: &str| source.get(name).is_some();
        let trusted = |name: &str| match trust {
            Trust::Nothing => Err(source.wrong(
                name,
                "says what to read, to ask or to run: only a file that you trust may (`with_any_source`)",
            )),
            _ => Ok(()),
        };
        if kind == Self::AWS || named("environment_id") {
            return Ok((Arc::new(AwsIdentity::parse(source, trust)?), "sts"));
        }
        let kinds = ["executable", "file", "url", "certificate"];
        let found: Vec<_> = kinds.into_iter().filter(|name| named(name)).collect();
        match *found {
            ["executable", ..] => {
                trusted("executable")?;
                let inner = source.inner("executable", "credential_source.executable.").transpose()?;
                let inner = inner.ok_or_else(|| source.wrong("executable", "is missing"))?;
                Ok((Arc::new(Executable::parse(&inner)?), "sts"))
            }
            // As Google's own: a file comes before an address.
            ["file"] | ["file", "url"] => {
                trusted("file")?;
                Ok((Arc::new(TokenFile::parse(source)?), "sts"))
            }
            ["url"] => {
                trusted("url")?;
                Ok((Arc::new(TokenUrl::parse(source)?), "sts"))
            }
            ["certificate"] => {
                trusted("certificate")?;
                let inner = source.inner("certificate", "credential_source.certificate.").transpose()?;
                let inner = inner.ok_or_else(|| source.wrong("certificate", "is missing"))?;
                Ok((Arc::new(Certificate::parse(&inner)?), "sts.mtls"))
            }
            [] => {
                Err(source.wrong("file", "is missing, as are `url`, `environment_id`, `executable` and `certificate`"))
            }
            _ => Err(source.wrong("certificate", "excludes `file` and `url`")),
        }
    }

    /// Sets the client that authenticates to STS.
    pub fn client(mut self, client: &Client) -> Self {
        self.change(|inner| inner.client = Some(client.clone()));
        self
    }

    /// Charges the exchange to this project. A user of a workforce pool needs it if no client says whom to charge.
    ///
    /// # Errors
    ///
    /// If the audience is not that of a workforce pool.
    pub fn workforce_pool_user_project(mut self, project: &str) -> Result<Self, Error> {
        if !is_workforce(&self.sts.0.audience) {
            return Err(Error::config("workforce_pool_user_project is for the audience of a workforce pool alone"));
        }
        self.change(|inner| inner.user_project = Some(project.into()));
        Ok(self)
    }

    /// Impersonates this service account. For more settings, make an [`Impersonated`] with this account for its base.
    ///
    /// # Errors
    ///
    /// If the text is no address of a service account.
    pub fn impersonate(self, service_account: &str) -> Result<Self, Error> {
        let endpoint = super::hosts::iam(&self.sts.0.universe_domain, service_account, "generateAccessToken")?;
        self.impersonate_at(&endpoint, None)
    }

    fn impersonate_at(mut self, endpoint: &Endpoint, lifetime: Option<Duration>) -> Result<Self, Error> {
        let universe = self.sts.0.universe_domain.clone();
        let email = impersonated::account_of(endpoint)?;
        self.change(|inner| inner.impersonated = Some(email.as_str().into()));
        let base = self.sts.clone();
        let impersonated = Impersonated::at(base, endpoint, &universe)?;
        self.impersonated = Some(match lifetime {
            Some(lifetime) => impersonated.lifetime(lifetime)?,
            None => impersonated,
        });
        Ok(self)
    }

    /// Charges quota to this project, by the header `x-goog-user-project`.
    pub fn quota_project(mut self, project: &str) -> Self {
        self.quota_project = Some(project.to_owned());
        self
    }

    /// The service account that is impersonated.
    pub fn service_account(&self) -> Option<&str> {
        self.sts.0.impersonated.as_deref()
    }

    /// The number of the project that the pool belongs to, or that a workforce's use is charged to.
    pub fn project_number(&self) -> Option<&str> {
        let inner = &self.sts.0;
        let of_pool = || inner.audience.split_once("/projects/")?.1.split('/').next().filter(|it| !it.is_empty());
        inner.user_project.as_deref().or_else(of_pool)
    }

    /// The endpoint that tells about tokens of this account (`token_info_url`), if the file names it.
    pub fn token_info_endpoint(&self) -> Option<&Endpoint> {
        self.sts.0.token_info.as_ref()
    }

    /// The universe that the account belongs to: `googleapis.com`, but for sovereign clouds.
    pub fn universe_domain(&self) -> &str {
        &self.sts.0.universe_domain
    }

    fn change(&mut self, change: impl FnOnce(&mut Inner)) {
        change(Arc::make_mut(&mut self.sts.0));
    }

    fn source_of_tokens(&self) -> &dyn TokenSource {
        match &self.impersonated {
            Some(impersonated) => impersonated,
            None => &self.sts,
        }
    }
}

/// Whether an audience is a provider of a workforce pool.
fn is_workforce(audience: &str) -> bool {
    let rest = audience.split_once("//iam.googleapis.com/locations/").map(|(_, rest)| rest);
    let pool = rest.and_then(|rest| rest.split_once("/workforcePools/"));
    pool.is_some_and(|(location, _)| !location.is_empty() && !location.contains('/'))
}

impl TokenSource for ExternalAccount {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        match check_quota_project(self.quota_project.as_deref()) {
            Ok(()) => self.source_of_tokens().mint(want, state),
            Err(error) => Box::new(Refusal(error)),
        }
    }

    fn first_state(&self) -> GrantState {
        self.source_of_tokens().first_state()
    }

    fn again(&self, error: &Error) -> Again {
        self.source_of_tokens().again(error)
    }

    fn may_change(&self, state: &GrantState) -> bool {
        self.source_of_tokens().may_change(state)
    }

    fn request_headers(&self) -> http::HeaderMap {
        quota_header(self.quota_project.as_deref())
    }
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalAccount")
            .field("audience", &Shown::name(&self.sts.0.audience))
            .field("service_account", &self.service_account().map(Shown::name))
            .field("quota_project", &self.quota_project.as_deref().map(Shown::name))
            .finish_non_exhaustive()
    }
}
