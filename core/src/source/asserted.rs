//! The tokens that a server gives for assertions of another (RFC 7523, section 2.1): workload identity federation, and identity
//! assertions from one domain to another.

use super::exchanged::Exchanging;
use super::{Base, ExchangedToken, GrantState, Mint, Refusal, Server, TokenSource, Want, WantKind, cannot};
use crate::{Client, Error, Issuer, Scopes, Secret, ServerMetadata, Token, TokenExchange, TokenRequest, token_type};

/// A source that shows the assertions of its base to a server, and gets tokens for them (`jwt-bearer`). The base is a
/// platform's token ([`PlatformToken`](super::PlatformToken)) or an [identity assertion](Self::identity_assertion). An
/// assertion is used as long as it is good; one that the server refuses is replaced once, if the base has another.
///
/// ```
/// use grantflow::source::{AssertedToken, PlatformToken, TokenSource, Want};
/// use grantflow::{Client, Issuer};
///
/// let kubernetes = PlatformToken::file("/var/run/secrets/tokens/as-token");
/// let source = AssertedToken::new(kubernetes, Issuer::new("https://as.example")?).client(&Client::new("workload"));
/// let machine = source.mint(&Want::access_token("read"), &source.first_state());
/// # let _ = machine;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AssertedToken {
    base: Base,
    base_want: Want,
    server: Server,
    client: Option<Client>,
}

impl AssertedToken {
    /// A source of the tokens that this server gives for the assertions of `base`.
    pub fn new(base: impl Into<Base>, server: impl Into<Server>) -> Self {
        Self { base: base.into(), base_want: Want::default(), server: server.into(), client: None }
    }

    /// Sets the client that shows the assertions, where the server wants to know it (RFC 7523, section 3.1).
    pub fn client(mut self, client: &Client) -> Self {
        self.client = Some(client.clone());
        self
    }

    /// Sets what is wanted of the base; by default an access token with the scopes that the base has by itself.
    pub fn base_want(mut self, want: Want) -> Self {
        self.base_want = want;
        self
    }

    /// A source of this server's tokens for what a company's identity provider says of a user
    /// (draft-ietf-oauth-identity-assertion-authz-grant). A token of the user's sign-in at the provider, of the kind
    /// `subject_token_type`, is exchanged for an assertion that is good for `server` and `resource` alone
    /// ([`token_type::ID_JAG`]), and the assertion for a token. The user is not asked.
    ///
    /// `base` gives ID tokens or refresh tokens of the sign-in at the provider, where `idp_client` is registered.
    ///
    /// ```
    /// use grantflow::source::{AssertedToken, Credential};
    /// use grantflow::{Client, Issuer, Timestamp, Token, token_type};
    ///
    /// let id_token = Token::bearer("eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl", Timestamp::from_unix(1_795_176_000), None)?;
    /// let source = AssertedToken::identity_assertion(
    ///     Credential::fixed(id_token),
    ///     token_type::ID_TOKEN,
    ///     Issuer::new("https://idp.example")?,
    ///     &Client::new("at-the-provider"),
    ///     Issuer::new("https://as.example")?,
    ///     "https://mcp.example.com/mcp",
    /// )
    /// .client(&Client::new("at-the-server"));
    /// # let _ = source;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    pub fn identity_assertion(
        base: impl Into<Base>,
        subject_token_type: &str,
        idp: impl Into<Server>,
        idp_client: &Client,
        server: impl Into<Server>,
        resource: &str,
    ) -> Self {
        let server = server.into();
        let want = Want::default().audience(server.issuer().as_str()).resource(resource);
        let assertions = ExchangedToken::new(base, idp, idp_client)
            .subject_token_type(subject_token_type)
            .requested_token_type(token_type::ID_JAG);
        Self::new(assertions, server).base_want(want)
    }

    /// The issuer of the tokens.
    pub fn issuer(&self) -> &Issuer {
        self.server.issuer()
    }

    fn request(&self, server: &ServerMetadata, assertion: &Token, want: &Want) -> Result<TokenExchange, Error> {
        let assertion = Secret::from(assertion.access_token());
        let request = TokenRequest::jwt_bearer(server, self.client.as_ref(), &assertion, Scopes::default())?;
        Ok(request.wanted(want).exchange())
    }
}

impl TokenSource for AssertedToken {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        if want.kind() != WantKind::AccessToken {
            return Box::new(Refusal(cannot("gets access tokens for assertions")));
        }
        if want.wanted_subject().is_some() || want.wanted_account().is_some() {
            return Box::new(Refusal(cannot("has the subject that its assertions have, and no other")));
        }
        let (source, wanted) = (self.clone(), want.clone());
        let with = move |assertion: &Token| -> Result<Mint, Error> {
            let (source, want, assertion) = (source.clone(), wanted.clone(), assertion.clone());
            let server = source.server.clone();
            let request = move |server: &ServerMetadata| source.request(server, &assertion, &want);
            Ok(Box::new(Exchanging::new("showing an assertion", server, request)))
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
