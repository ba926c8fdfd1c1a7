//! A source that exchanges the token of another (RFC 8693): [`ExchangedToken`].

use super::chain::Base;
use super::{GrantState, Mint, Minting, Refusal, Server, TokenSource, Want, WantKind, cannot};
use crate::machine::ask;
use crate::{
    Client, Cx, Discovery, Error, Machine, Reply, Secret, ServerMetadata, Step, Token, TokenExchange, TokenRequest,
    token_type,
};

/// A source that has a server exchange the tokens of another source, its base, for its own (RFC 8693).
///
/// One token of the base serves all wants. It is kept with their grant, minted anew when it comes due, and replaced
/// once if the server refuses it.
///
/// ```
/// use grantflow::source::{Credential, ExchangedToken, TokenSource, Want};
/// use grantflow::{Client, ClientAuthentication, Issuer};
///
/// let client = Client::new("frontend").authentication(ClientAuthentication::client_secret_basic("s3cret"));
/// let issuer = Issuer::new("https://as.example")?;
/// let base = Credential::refresh_token(issuer.clone(), &client, "a user's refresh token");
/// let source = ExchangedToken::new(base, issuer, &client);
/// // For a `TokenManager`, or one of several wants in a `TokenPool`.
/// let machine = source.mint(&Want::access_token("orders.read").audience("orders"), &source.first_state());
/// # let _ = machine;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct ExchangedToken {
    base: Base,
    base_want: Want,
    server: Server,
    client: Client,
    subject_token_type: Box<str>,
    actor: Option<(Secret, Box<str>)>,
    requested: Option<Box<str>>,
}

impl ExchangedToken {
    /// A source of the tokens that this server gives this client for those of `base`.
    pub fn new(base: impl Into<Base>, server: impl Into<Server>, client: &Client) -> Self {
        Self {
            base: base.into(),
            base_want: Want::default(),
            server: server.into(),
            client: client.clone(),
            subject_token_type: token_type::ACCESS_TOKEN.into(),
            actor: None,
            requested: None,
        }
    }

    /// Sets what is wanted of the base; by default an access token with the scopes that the base has by itself.
    pub fn base_want(mut self, want: Want) -> Self {
        self.base_want = want;
        self
    }

    /// Sets the type of the base's tokens, as the server knows it: see [`token_type`];
    /// [`ACCESS_TOKEN`](token_type::ACCESS_TOKEN) by default.
    pub fn subject_token_type(mut self, kind: &str) -> Self {
        self.subject_token_type = kind.into();
        self
    }

    /// Sets who acts for the subject: see [`TokenRequest::actor_token`].
    pub fn actor_token(mut self, actor_token: impl Into<Secret>, actor_token_type: &str) -> Self {
        self.actor = Some((actor_token.into(), actor_token_type.into()));
        self
    }

    /// Sets the type of token to ask for: see [`TokenRequest::requested_token_type`].
    pub fn requested_token_type(mut self, kind: &str) -> Self {
        self.requested = Some(kind.into());
        self
    }

    fn request(&self, server: &ServerMetadata, subject: &Token, want: &Want) -> Result<TokenExchange, Error> {
        let subject = Secret::from(subject.access_token());
        let request = TokenRequest::token_exchange(server, &self.client, &subject, &self.subject_token_type)?;
        let request = match &self.actor {
            Some((token, kind)) => request.actor_token(token, kind),
            None => request,
        };
        let request = self.requested.iter().fold(request, |request, kind| request.requested_token_type(kind));
        Ok(request.wanted(want).exchange())
    }
}

impl TokenSource for ExchangedToken {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        if want.kind() != WantKind::AccessToken {
            return Box::new(Refusal(cannot("exchanges tokens for access tokens, or what its server takes for them")));
        }
        if want.wanted_subject().is_some() || want.wanted_account().is_some() {
            return Box::new(Refusal(cannot("exchanges the token of one account, and of no other subject")));
        }
        let (source, wanted) = (self.clone(), want.clone());
        let with = move |subject: &Token| -> Result<Mint, Error> {
            let (source, want, subject) = (source.clone(), wanted.clone(), subject.clone());
            let server = source.server.clone();
            let request = move |server: &ServerMetadata| source.request(server, &subject, &want);
            Ok(Box::new(Exchanging::new("a token exchange", server, request)))
        };
        self.base.mint(&self.base_want, state, Box::new(with))
    }

    fn first_state(&self) -> GrantState {
        self.base.first_state(&self.base_want)
    }

    fn may_change(&self, state: &GrantState) -> bool {
        state.must_mint_base()
    }
}

/// Exchanges one token, or shows one assertion, at a server whose metadata may have to be read before.
///
/// ```text
/// Begin ─▶ Discover (if the server's metadata is not known) ─▶ Exchange ─▶ done
/// ```
pub(super) struct Exchanging<F> {
    doing: &'static str,
    stage: Stage,
    server: Server,
    request: F,
}

impl<F: Fn(&ServerMetadata) -> Result<TokenExchange, Error>> Exchanging<F> {
    pub(super) fn new(doing: &'static str, server: Server, request: F) -> Self {
        Self { doing, stage: Stage::Begin, server, request }
    }
}

enum Stage {
    Begin,
    Discover(Box<Discovery>),
    Exchange(Box<TokenExchange>),
    Ended,
}

// Nothing changes of the base, and a refresh token that comes along is of no use: the base gives the next.
impl<F: Fn(&ServerMetadata) -> Result<TokenExchange, Error>> Minting for Exchanging<F> {}

impl<F: Fn(&ServerMetadata) -> Result<TokenExchange, Error>> Machine for Exchanging<F> {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        loop {
            let server = match (&mut self.stage, &reply) {
                (Stage::Begin, Reply::Start) => match self.server.known() {
                    Ok(server) => Ok(server),
                    Err(discovery) => {
                        self.stage = Stage::Discover(discovery);
                        continue;
                    }
                },
                (Stage::Discover(discovery), _) => ask!(&mut **discovery, cx, reply),
                (Stage::Exchange(exchange), _) => return exchange.resume(cx, reply),
                (Stage::Begin | Stage::Ended, _) => Err(Error::misuse(self.doing)),
            };
            match server.and_then(|server| (self.request)(&server)) {
                Ok(exchange) => self.stage = Stage::Exchange(Box::new(exchange)),
                Err(error) => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(error));
                }
            }
        }
    }
}

impl std::fmt::Debug for ExchangedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExchangedToken")
            .field("base", &self.base)
            .field("base_want", &self.base_want)
            .field("server", &self.server)
            .field("client", &self.client)
            .field("subject_token_type", &crate::Shown::name(&self.subject_token_type))
            .field("requested", &self.requested.as_deref().map(crate::Shown::name))
            .finish_non_exhaustive()
    }
}
