//! Users of a workforce pool who signed in: the file that `gcloud auth application-default login` writes for them.

use super::authorized_user::saved_token;
use super::file::{File, ReadFile};
use super::hosts::{Service, Trust};
use super::{check_quota_project, quota_header};
use crate::server::{Endpoint, Issuer};
use crate::source::{Again, Credential, GrantState, Mint, Refusal, TokenSource, Want, cannot};
use crate::store::{RecordKey, SharedGrant};
use crate::{Client, ClientAuthentication, Error, Rotation, ServerMetadata, Shown, Token};

/// A user of a workforce pool, by a refresh token of Google's STS (`external_account_authorized_user`).
///
/// A file may hold a token and nothing to refresh it with: that token serves until it expires.
///
/// STS may replace the refresh token at each use, and this type does not write the file. If the newest refresh token
/// must outlive the program, keep the grant in a store: the first token is minted and saved, and from then on the
/// store's grant is the source of tokens, for all programs that share it:
///
/// ```
/// use grantflow::google::ExternalUser;
/// use grantflow::source::Want;
/// use grantflow::store::{SaveGrant, SharedGrant};
/// use grantflow::{Error, Token};
///
/// /// To be run once, with the first token that the user's own `mint` gave.
/// fn keep(user: &ExternalUser, first: &Token) -> Result<SaveGrant, Error> {
///     Ok(SaveGrant::new(user.record_key("workforce")?, Want::default(), first))
/// }
///
/// fn kept(user: &ExternalUser) -> Result<SharedGrant, Error> {
///     user.kept(user.record_key("workforce")?)
/// }
/// ```
#[derive(Clone)]
pub struct ExternalUser {
    credential: Credential,
    server: ServerMetadata,
    client: Option<Client>,
    token: Option<Token>,
    token_info: Option<Endpoint>,
    quota_project: Option<String>,
}

impl ExternalUser {
    /// Reads a file of type `external_account_authorized_user`. Its servers must be Google's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the name of the member that is missing or wrong.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Nothing)
    }

    /// Reads such a file, and accepts any server in it: only for a file that you trust with the refresh token.
    pub fn from_json_with_any_server(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Server)
    }

    /// The machine that reads the file at this path, by the rules of [`from_json`](Self::from_json).
    pub fn read(path: impl Into<std::path::PathBuf>) -> ReadFile<Self> {
        ReadFile::new(path, Self::parse_json)
    }

    fn parse_json(json: &[u8], trust: Trust) -> Result<Self, Error> {
        Self::parse(&File::parse("the credential file", json)?, trust)
    }

    pub(super) fn parse(file: &File<'_>, trust: Trust) -> Result<Self, Error> {
        file.demand_type("external_account_authorized_user")?;
        let universe_domain = file.universe_domain(trust)?;
        let token_url = match file.text("token_url")? {
            Some(address) => address.to_owned(),
            None => format!("https://sts.{universe_domain}/v1/oauthtoken"),
        };
        let endpoint = |name: &'static str, path: &'static str, address: &str| {
            Service::Sts(path).endpoint(address, trust).map_err(|why| file.wrong(name, why))
        };
        let token_endpoint = endpoint("token_url", "/v1/oauthtoken", &token_url)?;
        let mut server = ServerMetadata::new(Issuer::of_origin(token_endpoint.as_str())?)
            .refresh_token_rotation(Rotation::Rotates)
            .token_endpoint(token_endpoint.as_str())?;
        if let Some(address) = file.text("revoke_url")? {
            server = server.revocation_endpoint(endpoint("revoke_url", "/v1/revoke", address)?.as_str())?;
        }
        let token_info = match file.text("token_info_url")? {
            Some(address) => Some(endpoint("token_info_url", "/v1/introspect", address)?),
            None => None,
        };
        let token = saved_token(file)?.map(|token| token.issued_by(server.issuer()));
        let refreshes = ["client_id", "client_secret", "refresh_token"].iter().any(|name| file.get(name).is_some());
        let (credential, client) = match &token {
            Some(token) if !refreshes => (Credential::fixed(token.clone()), None),
            _ => {
                let secret = file.need("client_secret")?;
                let client = Client::new(file.need("client_id")?)
                    .authentication(ClientAuthentication::client_secret_basic_unencoded(secret));
                let user = Credential::refresh_token(server.clone(), &client, file.need("refresh_token")?);
                (user.with_scopes_named(false), Some(client))
            }
        };
        let quota_project = file.quota_project()?;
        Ok(Self { credential, server, client, token, token_info, quota_project })
    }

    /// Charges quota to this project, by the header `x-goog-user-project`.
    pub fn quota_project(mut self, project: &str) -> Self {
        self.quota_project = Some(project.to_owned());
        self
    }

    /// The client that the user signed in to, unless the file has a token and nothing to refresh it with.
    pub fn client(&self) -> Option<&Client> {
        self.client.as_ref()
    }

    /// The key under which a store keeps the grant, with a label of the program's choice.
    ///
    /// # Errors
    ///
    /// If the file has nothing to refresh with.
    pub fn record_key(&self, label: &str) -> Result<RecordKey, Error> {
        Ok(RecordKey::new(self.server.issuer(), self.need_client()?, label))
    }

    /// The grant that a store keeps under this key, as a source of tokens for all programs that share the store.
    ///
    /// # Errors
    ///
    /// Those of [`record_key`](Self::record_key).
    pub fn kept(&self, key: RecordKey) -> Result<SharedGrant, Error> {
        Ok(SharedGrant::new(key, self.server.clone(), self.need_client()?).no_scopes_at_refresh())
    }

    fn need_client(&self) -> Result<&Client, Error> {
        self.client().ok_or_else(|| Error::config("the user's file has a token alone, and nothing to refresh it with"))
    }

    /// Google's STS, as the file describes it: for example, to revoke the refresh token.
    pub fn server(&self) -> &ServerMetadata {
        &self.server
    }

    /// The endpoint that tells about the user's tokens (`token_info_url`), if the file names it.
    pub fn token_info_endpoint(&self) -> Option<&Endpoint> {
        self.token_info.as_ref()
    }
}

impl TokenSource for ExternalUser {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        if *want != Want::access_token(want.scopes()) {
            return Box::new(Refusal(cannot("is a user of a workforce, where scopes alone say what a token is for")));
        }
        match check_quota_project(self.quota_project.as_deref()) {
            Ok(()) => self.credential.mint(want, state),
            Err(error) => Box::new(Refusal(error)),
        }
    }

    fn first_state(&self) -> GrantState {
        self.credential.first_state()
    }

    fn first_token(&self) -> Option<Token> {
        check_quota_project(self.quota_project.as_deref()).ok().and(self.token.clone())
    }

    fn again(&self, error: &Error) -> Again {
        self.credential.again(error)
    }

    fn may_change(&self, state: &GrantState) -> bool {
        self.credential.may_change(state)
    }

    fn request_headers(&self) -> http::HeaderMap {
        quota_header(self.quota_project.as_deref())
    }
}

impl std::fmt::Debug for ExternalUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalUser")
            .field("credential", &self.credential)
            .field("quota_project", &self.quota_project.as_deref().map(Shown::name))
            .finish_non_exhaustive()
    }
}
