//! User credentials: the file that `gcloud auth application-default login` writes, and the `token.json` of
//! Google's Python library.

use super::file::{File, ReadFile};
use super::hosts::Trust;
use super::{DEFAULT_UNIVERSE, check_quota_project, quota_header};
use crate::source::{Again, Credential, GrantState, Mint, Refusal, TokenSource, Want, cannot};
use crate::{Client, ClientAuthentication, Error, Scopes, Secret, ServerMetadata, Timestamp, Token};

/// A user's refresh token, with the client that it was granted to.
///
/// A `token_uri` in the file is not followed: the refresh token goes to Google, as with Google's own
/// libraries for Python and Node.
#[derive(Clone)]
pub struct AuthorizedUser {
    credential: Credential,
    client: Client,
    scopes: Scopes,
    account: Option<String>,
    quota_project: Option<String>,
    rapt: Option<Secret>,
    token: Option<Token>,
}

impl AuthorizedUser {
    /// Reads a file of type `authorized_user`, or a `token.json`, which names no type.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with the name of the member that is missing or wrong.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse_json(json.as_ref(), Trust::Nothing)
    }

    /// Reads such a file, and follows its `token_uri` to any server: only for a file that you trust.
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

    /// The credentials of a user who has signed in to this client, to be written with [`to_json`](Self::to_json).
    ///
    /// # Errors
    ///
    /// If the token has no refresh token, or is of another server than Google's.
    pub fn signed_in(client: &Client, token: &Token) -> Result<Self, Error> {
        Ok(Self {
            credential: Credential::signed_in(ServerMetadata::google(), client, token)?.with_scopes_named(false),
            client: client.clone(),
            scopes: token.scopes().clone(),
            account: None,
            quota_project: None,
            rapt: None,
            token: Some(token.clone()),
        })
    }

    pub(super) fn parse(file: &File<'_>, trust: Trust) -> Result<Self, Error> {
        file.is_no_client("the file of type authorized_user")?;
        if file.get("type").is_some() {
            file.demand_type("authorized_user")?;
        }
        match file.text("universe_domain")? {
            None | Some(DEFAULT_UNIVERSE) => {}
            Some(_) => return Err(file.wrong("universe_domain", "is not googleapis.com, where alone users sign in")),
        }
        let client = Client::new(file.need("client_id")?);
        // Google wants the secret in the body, and has clients without one.
        let client = match file.text("client_secret")? {
            Some(secret) => client.authentication(ClientAuthentication::client_secret_post(secret)),
            None => client,
        };
        // Without trust, the file's own endpoint is not even looked at.
        let server = if trust == Trust::Server { file.token_server(trust)? } else { ServerMetadata::google() };
        let token = saved_token(file)?.map(|token| token.issued_by(server.issuer()));
        let refresh_token = file.need("refresh_token")?;
        let credential = Credential::refresh_token(server, &client, refresh_token);
        let rapt = file.text("rapt_token")?.map(Secret::from);
        Ok(Self {
            credential: credential.with_rapt(rapt.clone()).with_scopes_named(false),
            client,
            scopes: file.scopes("scopes")?,
            account: file.text("account")?.map(str::to_owned),
            quota_project: file.quota_project()?,
            rapt,
            token,
        })
    }

    /// Charges quota to this project, by the header `x-goog-user-project`.
    pub fn quota_project(mut self, project: &str) -> Self {
        self.quota_project = Some(project.to_owned());
        self
    }

    /// Names the wanted scopes at each refresh, for a token that is good for less than was granted. By default none are
    /// named, as Google's own libraries do: Google refuses a scope that was not granted, and a refresh without scopes
    /// gives all that were.
    pub fn scopes_at_refresh(mut self) -> Self {
        self.credential = self.credential.with_scopes_named(true);
        self
    }

    /// The client that the user signed in to.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The user's address, if the file names it.
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    /// The access token that the file holds, if there is one; it may have expired.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// The granted scopes, if the file names them.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The `token.json` that Google's Python library reads (`Credentials.from_authorized_user_file`), with the newest
    /// refresh token and the newest access token. Any of Google's libraries also takes it in place of gcloud's
    /// `application_default_credentials.json`. Write it where no other user can read it.
    pub fn to_json(&self, state: &GrantState, token: Option<&Token>) -> Secret {
        let mut members = serde_json::Map::new();
        let mut put = |name: &str, value: Option<serde_json::Value>| {
            value.map(|value| members.insert(name.to_owned(), value));
        };
        let first = self.credential.first_state();
        let refresh_token = state.refresh_token().or(first.refresh_token()).map(Secret::expose);
        let token = token.or(self.token.as_ref());
        let scopes = token.map(Token::scopes).filter(|scopes| !scopes.is_empty()).unwrap_or(&self.scopes);
        put("type", Some("authorized_user".into()));
        put("token", token.map(|token| token.access_token().into()));
        put("refresh_token", refresh_token.map(Into::into));
        put("token_uri", Some("https://oauth2.googleapis.com/token".into()));
        put("client_id", Some(self.client.id().into()));
        put("client_secret", self.client.secret().map(|secret| secret.expose().into()));
        put("scopes", Some(scopes.iter().collect()));
        put("universe_domain", Some(DEFAULT_UNIVERSE.into()));
        put("account", Some(self.account.as_deref().unwrap_or_default().into()));
        put("rapt_token", self.rapt.as_ref().map(|proof| proof.expose().into()));
        put("quota_project_id", self.quota_project.as_deref().map(Into::into));
        put("expiry", token.and_then(Token::expires_at).map(|end| end.to_string().into()));
        let mut value = serde_json::Value::Object(members);
        let json = Secret::from(value.to_string());
        crate::secret::wipe_json(&mut value);
        json
    }
}

/// The access token of a `token.json`. One without `expiry` counts as expired, as with the library whose
/// file it is.
pub(super) fn saved_token(file: &File<'_>) -> Result<Option<Token>, Error> {
    let (Some(token), Some(expiry)) = (file.text("token")?, file.text("expiry")?) else { return Ok(None) };
    let end = Timestamp::from_rfc3339(expiry).ok_or_else(|| file.wrong("expiry", "is no moment in time"))?;
    let token = Token::bearer(token, end - std::time::Duration::from_secs(3600), Some(end));
    let token = token.map_err(|e| file.wrong("token", "cannot be used").with_source(e))?;
    Ok(Some(token.with_scopes(file.scopes("scopes")?)))
}

impl TokenSource for AuthorizedUser {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        if want.wanted_audience().is_some() || want.names_resources() {
            return Box::new(Refusal(cannot("is a user of Google's, where scopes alone say what a token is for")));
        }
        match check_quota_project(self.quota_project.as_deref()) {
            Ok(()) => self.credential.mint(want, state),
            Err(error) => Box::new(Refusal(error)),
        }
    }

    fn first_state(&self) -> GrantState {
        GrantState { scopes: self.scopes.clone(), ..self.credential.first_state() }
    }

    fn again(&self, error: &Error) -> Again {
        self.credential.again(error)
    }

    fn first_token(&self) -> Option<Token> {
        // One that no request may carry is left for the mint to refuse.
        check_quota_project(self.quota_project.as_deref()).ok().and(self.token.clone())
    }

    fn may_change(&self, state: &GrantState) -> bool {
        self.credential.may_change(state)
    }

    fn request_headers(&self) -> http::HeaderMap {
        quota_header(self.quota_project.as_deref())
    }
}

impl std::fmt::Debug for AuthorizedUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthorizedUser")
            .field("credential", &self.credential)
            .field("scopes", &self.scopes)
            .field("account", &self.account.as_deref().map(crate::Shown::name))
            .field("quota_project", &self.quota_project.as_deref().map(crate::Shown::name))
            .finish_non_exhaustive()
    }
}
