//! A Google credential from a file of any type; and the files of type `impersonated_service_account`, which hold
//! another credential.

use std::ffi::OsString;
use std::path::PathBuf;

use super::file::{File, ReadFile};
use super::hosts::{Service, Trust};
use super::{
    AuthorizedUser, ExternalAccount, ExternalUser, GdchServiceAccount, Impersonated, MetadataServer, ServiceAccount,
    check_quota_project,
};
use crate::Error;
use crate::source::{Again, GrantState, Mint, TokenSource, Want};

/// A Google credential of any kind.
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "a program has one or two of them")]
#[derive(Clone, Debug)]
pub enum GoogleCredential {
    /// The key of a service account.
    ServiceAccount(ServiceAccount),
    /// A user who signed in.
    AuthorizedUser(AuthorizedUser),
    /// An account of another platform.
    ExternalAccount(ExternalAccount),
    /// A user of a workforce who signed in.
    ExternalUser(ExternalUser),
    /// A service account that another credential acts for.
    Impersonated(Impersonated),
    /// A service account of Google Distributed Cloud.
    Gdch(GdchServiceAccount),
    /// The account that this machine runs as.
    MetadataServer(MetadataServer),
}

/// The types of files that are understood.
const KINDS: [&str; 6] = [
    "service_account",
    "authorized_user",
    "external_account",
    "external_account_authorized_user",
    "impersonated_service_account",
    "gdch_service_account",
];

impl GoogleCredential {
    /// Reads a credential file of the type that it names itself. The author of the file thus chooses what happens: if
    /// the file comes from elsewhere, demand its type with [`ServiceAccount::from_json`] or
    /// [`AuthorizedUser::from_json`]. An external account's `credential_source` is obeyed only by
    /// [`ReadFile::with_any_source`] and [`ExternalAccount::from_json_with_any_source`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the name of the member that is missing or wrong.
    pub fn from_json_of_any_type(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Nothing)
    }

    /// The machine that reads the file at this path, by the rules of
    /// [`from_json_of_any_type`](Self::from_json_of_any_type).
    pub fn read(path: impl Into<PathBuf>) -> ReadFile<Self> {
        ReadFile::new(path, Self::parse_json)
    }

    fn parse_json(json: &[u8], trust: Trust) -> Result<Self, Error> {
        Self::parse(&File::parse("the credential file", json)?, trust)
    }

    pub(super) fn parse(file: &File<'_>, trust: Trust) -> Result<Self, Error> {
        file.is_no_client("a credential of another type, such as service_account or authorized_user,")?;
        match file.need("type")? {
            "service_account" => ServiceAccount::parse(file, trust).map(Self::ServiceAccount),
            "authorized_user" => AuthorizedUser::parse(file, trust).map(Self::AuthorizedUser),
            "external_account" => ExternalAccount::parse(file, trust).map(Self::ExternalAccount),
            "external_account_authorized_user" => ExternalUser::parse(file, trust).map(Self::ExternalUser),
            "impersonated_service_account" => Impersonated::parse(file, trust).map(Self::Impersonated),
            "gdch_service_account" => GdchServiceAccount::parse(file, trust).map(Self::Gdch),
            _ => Err(file.wrong("type", &format!("is unknown; {} are understood", KINDS.join(", ")))),
        }
    }

    /// The type of the credential, in the words of its file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ServiceAccount(_) => "service_account",
            Self::AuthorizedUser(_) => "authorized_user",
            Self::ExternalAccount(_) => "external_account",
            Self::ExternalUser(_) => "external_account_authorized_user",
            Self::Impersonated(_) => "impersonated_service_account",
            Self::Gdch(_) => "gdch_service_account",
            Self::MetadataServer(_) => "metadata server",
        }
    }

    fn source(&self) -> &dyn TokenSource {
        match self {
            Self::ServiceAccount(source) => source,
            Self::AuthorizedUser(source) => source,
            Self::ExternalAccount(source) => source,
            Self::ExternalUser(source) => source,
            Self::Impersonated(source) => source,
            Self::Gdch(source) => source,
            Self::MetadataServer(source) => source,
        }
    }

    /// Sets the project that requests are counted and paid for by (`x-goog-user-project`), in place of the file's.
    pub fn quota_project(self, project: &str) -> Self {
        match self {
            Self::ServiceAccount(source) => Self::ServiceAccount(source.quota_project(project)),
            Self::AuthorizedUser(source) => Self::AuthorizedUser(source.quota_project(project)),
            Self::ExternalAccount(source) => Self::ExternalAccount(source.quota_project(project)),
            Self::ExternalUser(source) => Self::ExternalUser(source.quota_project(project)),
            Self::Impersonated(source) => Self::Impersonated(source.quota_project(project)),
            Self::Gdch(source) => Self::Gdch(source.quota_project(project)),
            Self::MetadataServer(source) => Self::MetadataServer(source.quota_project(project)),
        }
    }

    /// Sets the quota project that the variable `GOOGLE_CLOUD_QUOTA_PROJECT` names, if it is set; `env` reads a
    /// variable, as `std::env::var_os` does: `|name| std::env::var_os(name)`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the variable names no project.
    pub fn quota_project_from_env(self, env: impl FnOnce(&str) -> Option<OsString>) -> Result<Self, Error> {
        const NAME: &str = "GOOGLE_CLOUD_QUOTA_PROJECT";
        let Some(value) = env(NAME) else { return Ok(self) };
        match value.to_str().map(str::trim) {
            Some("") => Ok(self),
            Some(project) if check_quota_project(Some(project)).is_ok() => Ok(self.quota_project(project)),
            _ => Err(Error::config(format!("{NAME} is no project"))),
        }
    }
}

impl TokenSource for GoogleCredential {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        self.source().mint(want, state)
    }
    fn first_state(&self) -> GrantState {
        self.source().first_state()
    }
    fn again(&self, error: &crate::Error) -> Again {
        self.source().again(error)
    }

    fn first_token(&self) -> Option<crate::Token> {
        self.source().first_token()
    }
    fn request_headers(&self) -> http::HeaderMap {
        self.source().request_headers()
    }
    fn may_change(&self, state: &GrantState) -> bool {
        self.source().may_change(state)
    }
}

impl Impersonated {
    /// Reads a file of type `impersonated_service_account`. Its source credentials may be of any type that names
    /// nothing but Google: see [`ExternalAccount::from_json`](super::ExternalAccount::from_json).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the name of the member that is missing or wrong.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Nothing)
    }

    /// Reads such a file, and obeys any `credential_source` of its source credentials: only for a file that you trust.
    pub fn from_json_with_any_source(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Source)
    }

    /// Reads such a file, and sends tokens to any server that it names: only for a file that you trust with them.
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
        file.demand_type("impersonated_service_account")?;
        let universe_domain = file.universe_domain(trust)?;
        let address = file.need("service_account_impersonation_url")?;
        let endpoint = Service::GenerateAccessToken.endpoint(address, trust);
        let endpoint = endpoint.map_err(|why| file.wrong("service_account_impersonation_url", why))?;
        let source = file.inner("source_credentials", "source_credentials.").transpose()?;
        let source = source.ok_or_else(|| file.wrong("source_credentials", "is missing"))?;
        if source.text("type")? == Some("impersonated_service_account") {
            let why = "is impersonated itself, which Google knows as delegates";
            return Err(source.wrong("type", why));
        }
        let base = GoogleCredential::parse(&source, trust)?;
        let impersonated = Self::at(base, &endpoint, universe_domain)
            .and_then(|it| it.delegates(file.texts("delegates")?))
            .map_err(|error| file.wrong("delegates", "or the address cannot be used").with_source(error))?;
        Ok(match file.quota_project()? {
            Some(project) => impersonated.quota_project(&project),
            None => impersonated,
        })
    }
}
