//! The credentials of the standard grants, as sources of tokens.

use super::{Change, GrantState, Mint, Minting, Refusal, TokenSource, Want, WantKind, cannot};
use crate::machine::ask;
use crate::{
    Client, Cx, Discovery, Error, Issuer, Machine, Reply, Rotation, Scopes, Secret, ServerMetadata, Step, Token,
    TokenExchange, TokenRequest,
};

/// An authorization server, by its metadata or by its issuer alone. From the issuer, the metadata is
/// [discovered](Discovery), once a day for all users of the same transport.
#[derive(Clone, Debug)]
pub enum Server {
    /// The server's metadata.
    Known(ServerMetadata),
    /// The issuer; the metadata is to be discovered.
    Issuer(Issuer),
}

impl From<ServerMetadata> for Server {
    fn from(metadata: ServerMetadata) -> Self {
        Self::Known(metadata)
    }
}

impl From<&ServerMetadata> for Server {
    fn from(metadata: &ServerMetadata) -> Self {
        Self::Known(metadata.clone())
    }
}

impl From<&Issuer> for Server {
    fn from(issuer: &Issuer) -> Self {
        issuer.clone().into()
    }
}

impl From<Issuer> for Server {
    fn from(issuer: Issuer) -> Self {
        Self::Issuer(issuer)
    }
}

impl Server {
    /// The server's issuer.
    pub fn issuer(&self) -> &Issuer {
        match self {
            Self::Known(metadata) => metadata.issuer(),
            Self::Issuer(issuer) => issuer,
        }
    }

    /// What is known of it, unless it is to be discovered first.
    pub(crate) fn known(&self) -> Result<ServerMetadata, Box<Discovery>> {
        match self {
            Self::Known(metadata) => Ok(metadata.clone()),
            Self::Issuer(issuer) => Err(Box::new(Discovery::new(issuer))),
        }
    }
}

/// A credential of one of the standard grants, as a source of tokens.
///
/// ```
/// use grantflow::source::{Credential, TokenSource, Want};
/// use grantflow::{Client, ClientAuthentication, Issuer};
///
/// let client = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("s3cret"));
/// let credential = Credential::client_credentials(Issuer::new("https://as.example")?, &client);
/// let machine = credential.mint(&Want::access_token("read"), &credential.first_state());
/// # let _ = machine;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Credential(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Server {
        server: Server,
        client: Client,
        by: By,
        /// The token of the sign-in.
        first: Option<Box<Token>>,
    },
    Fixed(Token),
}

/// What the client shows beside its own authentication.
#[derive(Clone)]
enum By {
    Itself,
    Password { username: String, password: Secret },
    RefreshToken { refresh_token: Secret, scopes: Scopes, rotation: Rotation, rapt: Option<Secret>, names_scopes: bool },
}

impl std::fmt::Debug for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Itself => f.write_str("Itself"),
            Self::Password { username, .. } => {
                f.debug_struct("Password").field("username", &crate::Shown::name(username)).finish_non_exhaustive()
            }
            Self::RefreshToken { scopes, rotation, .. } => f
                .debug_struct("RefreshToken")
                .field("scopes", scopes)
                .field("rotation", rotation)
                .finish_non_exhaustive(),
        }
    }
}

impl Credential {
    /// The client's own credentials (RFC 6749, section 4.4).
    pub fn client_credentials(server: impl Into<Server>, client: &Client) -> Self {
        Self(Kind::Server { server: server.into(), client: client.clone(), by: By::Itself, first: None })
    }

    /// A user's password (RFC 6749, section 4.3): only where a server offers nothing else.
    pub fn password(
        server: impl Into<Server>,
        client: &Client,
        username: impl Into<String>,
        password: impl Into<Secret>,
    ) -> Self {
        let by = By::Password { username: username.into(), password: password.into() };
        Self(Kind::Server { server: server.into(), client: client.clone(), by, first: None })
    }

    /// A refresh token (RFC 6749, section 6) of which nothing else is known.
    pub fn refresh_token(server: impl Into<Server>, client: &Client, refresh_token: impl Into<Secret>) -> Self {
        let refresh_token = refresh_token.into();
        let by = By::RefreshToken {
            refresh_token,
            scopes: Scopes::default(),
            rotation: Rotation::Unknown,
            rapt: None,
            names_scopes: true,
        };
        Self(Kind::Server { server: server.into(), client: client.clone(), by, first: None })
    }

    /// The refresh token that came with `token` when a user signed in. Token managers begin with `token` itself, and
    /// use the refresh token when `token` comes due.
    ///
    /// ```
    /// use grantflow::source::Credential;
    /// use grantflow::{Client, Error, ServerMetadata, Token};
    ///
    /// /// For a token manager, or for a pool under the user's name.
    /// fn credential(server: ServerMetadata, client: &Client, token: &Token) -> Result<Credential, Error> {
    ///     Credential::signed_in(server, client, token)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If `token` has no refresh token, or is of another server.
    pub fn signed_in(server: impl Into<Server>, client: &Client, token: &Token) -> Result<Self, Error> {
        let server = server.into();
        token.check_issuer(server.issuer())?;
        let by = By::RefreshToken {
            refresh_token: token.need_refresh_token()?.clone(),
            scopes: token.scopes().clone(),
            rotation: token.rotation(),
            rapt: None,
            names_scopes: true,
        };
        let first = Some(Box::new(token.clone()));
        Ok(Self(Kind::Server { server, client: client.clone(), by, first }))
    }

    /// Shows with each refresh the proof of a reauthentication, as Google calls it.
    pub(crate) fn with_rapt(mut self, proof: Option<Secret>) -> Self {
        if let Kind::Server { by: By::RefreshToken { rapt, .. }, .. } = &mut self.0 {
            *rapt = proof;
        }
        self
    }

    /// Says whether a refresh names the scopes that are wanted (RFC 6749, section 6): a server may refuse one that was
    /// not granted, and another one that names none.
    pub(crate) fn with_scopes_named(mut self, named: bool) -> Self {
        if let Kind::Server { by: By::RefreshToken { names_scopes, .. }, .. } = &mut self.0 {
            *names_scopes = named;
        }
        self
    }

    /// A token that cannot be renewed. It serves any scopes, since only its servers know what it is good for; a want
    /// that names anything else is refused.
    pub fn fixed(token: Token) -> Self {
        Self(Kind::Fixed(token))
    }
}

impl TokenSource for Credential {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        match &self.0 {
            Kind::Fixed(_) if !is_plain(want) => {
                Box::new(Refusal(cannot("is a fixed token, of which nothing else is known than what it is good for")))
            }
            Kind::Fixed(token) => Box::new(Given(Some(token.clone()))),
            Kind::Server { server, client, by, .. } => Box::new(ServerMint {
                stage: Stage::Begin,
                server: server.clone(),
                client: client.clone(),
                by: by.clone(),
                want: want.clone(),
                state: state.clone(),
                change: Change::default(),
            }),
        }
    }

    fn first_state(&self) -> GrantState {
        match &self.0 {
            Kind::Server { by: By::RefreshToken { refresh_token, scopes, rotation, .. }, server, .. } => GrantState {
                refresh_token: Some(refresh_token.clone()),
                scopes: scopes.clone(),
                rotation: match (rotation, server) {
                    (Rotation::Unknown, Server::Known(server)) => server.rotation(),
                    _ => *rotation,
                },
                ..GrantState::default()
            },
            _ => GrantState::default(),
        }
    }

    fn first_token(&self) -> Option<Token> {
        match &self.0 {
            Kind::Server { first, .. } => first.as_deref().cloned(),
            Kind::Fixed(_) => None,
        }
    }

    fn may_change(&self, state: &GrantState) -> bool {
        match &self.0 {
            Kind::Fixed(_) => false,
            Kind::Server { by, .. } => matches!(by, By::RefreshToken { .. }) && state.may_be_replaced(),
        }
    }
}

/// Whether it names no more than scopes.
fn is_plain(want: &Want) -> bool {
    *want == Want::access_token(want.scopes())
}

/// Hands out what is there.
struct Given(Option<Token>);

impl Minting for Given {}

impl Machine for Given {
    type Output = Token;
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Token> {
        Step::Done(match (self.0.take(), reply) {
            (Some(token), Reply::Start) if token.is_expired(cx.now().wall) => {
                Err(cannot("is a fixed token, which has expired").with_advice(crate::Advice::SignInAgain))
            }
            (Some(token), Reply::Start) => Ok(token),
            _ => Err(Error::misuse("a fixed token")),
        })
    }
}

/// Mints at a server.
///
/// ```text
/// Begin ─▶ Discover (if the metadata is not known) ─▶ Exchange ─▶ done
/// ```
struct ServerMint {
    stage: Stage,
    server: Server,
    client: Client,
    by: By,
    want: Want,
    state: GrantState,
    change: Change,
}

enum Stage {
    Begin,
    Discover(Box<Discovery>),
    Exchange(Box<TokenExchange>),
    Ended,
}

impl Machine for ServerMint {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        loop {
            let next = match (&mut self.stage, &reply) {
                (Stage::Begin, Reply::Start) => self.begin(),
                (Stage::Begin | Stage::Ended, _) => Err(Error::misuse("a mint")),
                (Stage::Discover(discovery), _) => {
                    let found = ask!(discovery, cx, reply);
                    found.and_then(|server| self.request(&server))
                }
                (Stage::Exchange(exchange), _) => {
                    let result = ask!(exchange, cx, reply);
                    self.change = exchange.take_change();
                    self.stage = Stage::Ended;
                    return Step::Done(result);
                }
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(error) => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(error));
                }
            }
        }
    }
}

impl ServerMint {
    fn begin(&mut self) -> Result<Stage, Error> {
        match self.server.known() {
            Ok(server) => self.request(&server),
            Err(discovery) => Ok(Stage::Discover(discovery)),
        }
    }

    fn request(&self, server: &ServerMetadata) -> Result<Stage, Error> {
        let want = &self.want;
        if want.kind() != WantKind::AccessToken {
            return Err(cannot("mints access tokens only"));
        }
        if want.wanted_subject().is_some() || want.wanted_account().is_some() {
            return Err(cannot("has one account and no other subject"));
        }
        let request = match &self.by {
            By::Itself => TokenRequest::client_credentials(server, &self.client)?,
            By::Password { username, password } => {
                TokenRequest::password(server, &self.client, username, password.clone())?
            }
            By::RefreshToken { refresh_token, rapt, names_scopes, .. } => {
                let current = self.state.refresh_token.as_ref().unwrap_or(refresh_token);
                let request = TokenRequest::refresh_token(server, &self.client, current)?;
                let request = rapt
                    .iter()
                    .fold(request, |request, rapt| request.secret("rapt", rapt))
                    .granted(self.state.scopes.clone())
                    .rotation(self.state.rotation);
                if !names_scopes {
                    return Ok(Stage::Exchange(Box::new(request.wanted_for(want).exchange())));
                }
                request
            }
        };
        Ok(Stage::Exchange(Box::new(request.wanted(want).exchange())))
    }
}

impl Minting for ServerMint {
    fn take_change(&mut self) -> Change {
        match &mut self.stage {
            Stage::Ended => std::mem::take(&mut self.change),
            Stage::Exchange(exchange) => exchange.take_change().unless_sent(),
            Stage::Begin | Stage::Discover(_) => Change::default().unless_sent(),
        }
    }
}
