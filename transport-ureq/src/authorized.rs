//! Requests that carry a token: [`AuthorizedAgent`], and [`Authorize`] as a middleware.

use grantflow::{Challenge, Hosts, Token};
use http::{Request, Response};
use ureq::middleware::{Middleware, MiddlewareNext};
use ureq::{Agent, AsSendBody, Body, Error, SendBody};

use crate::proving::Proving;
use crate::{TokenManager, TokenRef};

/// An agent whose requests carry a token: only to these hosts, over https, and not on redirects. A request whose token
/// is [refused](Challenge::rejects_token) is sent once more with a new token.
///
/// ```no_run
/// # fn main_(transport: grantflow_ureq::Transport) -> Result<(), Box<dyn std::error::Error>> {
/// use grantflow_ureq::AuthorizedAgent;
///
/// let tokens = transport.google_default("https://www.googleapis.com/auth/devstorage.read_only")?;
/// let api = AuthorizedAgent::new(transport.agent()?, tokens, ["storage.googleapis.com"]);
/// let request = http::Request::get("https://storage.googleapis.com/storage/v1/b?project=demo").body(())?;
/// println!("{}", api.run(request)?.status());
/// # Ok(()) }
/// ```
///
/// [`Challenge::all`] of the answer's headers says why a server refuses. If it asks for more scope or another sign-in,
/// the token stays and the caller gets the answer. If no other token can be obtained, the caller gets the refusal, with
/// the reason as a [`grantflow::Error`] among its extensions.
///
/// With a token that is bound to a key (RFC 9449) each request has a proof of its own. If a server wants a nonce in the
/// proof, the request is sent once more; the server's nonces are kept, for its origin alone.
#[derive(Clone, Debug)]
pub struct AuthorizedAgent {
    agent: Agent,
    tokens: TokenManager,
    hosts: Hosts,
    proving: Proving,
}

/// A body that can be sent twice: none, or one in memory. A file is not such a body: it would go on where it ended.
pub trait Repeatable: AsSendBody + Clone {}

impl Repeatable for () {}
impl Repeatable for &str {}
impl Repeatable for String {}
impl Repeatable for &String {}
impl Repeatable for &[u8] {}
impl<const N: usize> Repeatable for &[u8; N] {}
impl Repeatable for Vec<u8> {}
impl Repeatable for &Vec<u8> {}

impl AuthorizedAgent {
    /// An agent for requests with these tokens to these hosts: see [`Hosts`].
    pub fn new(agent: Agent, tokens: TokenManager, hosts: impl Into<Hosts>) -> Self {
        Self { agent, tokens, hosts: hosts.into(), proving: Proving::default() }
    }

    /// Sends a request with a token. A status is no error, redirects are not followed, and requests in cleartext, which
    /// go to loopback alone, go through no proxy, whatever the agent's configuration says.
    ///
    /// # Errors
    ///
    /// If there is no token, if it may not be sent there, or if the request fails. An error of grantflow's own is
    /// inside of [`ureq::Error::Other`].
    pub fn run<B: Repeatable>(&self, request: Request<B>) -> Result<Response<Body>, Error> {
        let refused = self.token_for(&request)?;
        let mut response = self.proven(request.clone(), &refused)?;
        if !rejects(&response, &refused) || !self.tokens.invalidate(&refused) {
            return Ok(response);
        }
        match self.tokens.token() {
            Ok(token) if token.access_token() != refused.access_token() => self.proven(request, &token),
            // Without another token, the refusal is the answer.
            Ok(_) => Ok(response),
            Err(error) => {
                response.extensions_mut().insert(error);
                Ok(response)
            }
        }
    }

    /// Sends a request as [`run`](Self::run) does, with a body that cannot be sent twice: a refusal is the answer, and
    /// the next request has another token, or the nonce that the server demands.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn run_once<B: AsSendBody>(&self, request: Request<B>) -> Result<Response<Body>, Error> {
        let token = self.token_for(&request)?;
        let (response, _) = self.send(request, &token)?;
        if rejects(&response, &token) {
            self.tokens.invalidate(&token);
        }
        Ok(response)
    }

    fn token_for<B>(&self, request: &Request<B>) -> Result<TokenRef, Error> {
        self.hosts.check(request.uri()).map_err(other)?;
        self.tokens.token().map_err(other)
    }

    /// Sends a request, and once more if the server wants to see its nonce in the proof (RFC 9449, section 9).
    fn proven<B: Repeatable>(&self, request: Request<B>, token: &Token) -> Result<Response<Body>, Error> {
        if token.dpop_key().is_none() {
            return Ok(self.send(request, token)?.0);
        }
        match self.send(request.clone(), token)? {
            (_, true) => Ok(self.send(request, token)?.0),
            (response, false) => Ok(response),
        }
    }

    /// The answer, and whether it asks for the request once more.
    fn send<B: AsSendBody>(&self, mut request: Request<B>, token: &Token) -> Result<(Response<Body>, bool), Error> {
        self.proving.authorize(self.tokens.transport(), token, &mut request).map_err(other)?;
        let uri = request.uri().clone();
        let cleartext = request.uri().scheme_str() == Some("http");
        let mut request = self.agent.configure_request(request).max_redirects(0).http_status_as_error(false);
        if cleartext {
            request = request.proxy(None);
        }
        let response = self.agent.run(request.build())?;
        let asks = self.proving.learn(token, &uri, response.status(), response.headers());
        Ok((response, asks))
    }
}

/// A middleware for agents: puts a token on requests to these hosts, over https, and leaves all others alone. If the
/// token is [refused](Challenge::rejects_token), the next request gets another one, or the error that says why there is
/// none. The refused request is not sent again, which only [`AuthorizedAgent`] can do.
///
/// An agent for which a status is an error shows no challenge: each 401 then counts as a refusal of the token.
///
/// The agent's configuration decides the rest. The agent takes the token off when it follows a redirect, unless it is
/// told to keep it; requests in cleartext, which carry a token to loopback alone, go through its proxy if it has one.
/// With a token that is bound to a key (RFC 9449), a status must be no error, or the nonces of servers are not seen; if
/// a server asks for a request once more with a nonce, the caller must send it again.
///
/// ```
/// use grantflow_ureq::{Authorize, TokenManager, ureq};
///
/// fn agent(tokens: TokenManager) -> ureq::Agent {
///     ureq::Agent::config_builder().middleware(Authorize::new(tokens, "api.example")).build().new_agent()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Authorize {
    tokens: TokenManager,
    hosts: Hosts,
    proving: Proving,
}

impl Authorize {
    /// A middleware for these hosts: see [`Hosts`].
    pub fn new(tokens: TokenManager, hosts: impl Into<Hosts>) -> Self {
        Self { tokens, hosts: hosts.into(), proving: Proving::default() }
    }
}

impl Middleware for Authorize {
    fn handle(&self, mut request: Request<SendBody<'_>>, next: MiddlewareNext<'_>) -> Result<Response<Body>, Error> {
        if self.hosts.check(request.uri()).is_err() {
            return next.handle(request);
        }
        let token = self.tokens.token().map_err(other)?;
        // A key in a header of its own would go along on redirects; a proof is good for nothing there.
        if token.dpop_key().is_none() {
            token.authorization().map_err(other)?;
        }
        self.proving.authorize(self.tokens.transport(), &token, &mut request).map_err(other)?;
        let uri = request.uri().clone();
        let result = next.handle(request);
        let refused = match &result {
            Ok(response) => {
                self.proving.learn(&token, &uri, response.status(), response.headers());
                rejects(response, &token)
            }
            Err(Error::StatusCode(status)) => *status == 401,
            Err(_) => false,
        };
        if refused {
            self.tokens.invalidate(&token);
        }
        result
    }
}

fn rejects(response: &Response<Body>, token: &TokenRef) -> bool {
    Challenge::rejects_token(response.status(), response.headers(), token)
}

fn other(error: grantflow::Error) -> Error {
    Error::Other(Box::new(error))
}
