//! Requests that carry a token: [`AuthorizedClient`].

use std::fmt;

use grantflow::machine::Identity;
use grantflow::{Challenge, Error, ErrorKind, Hosts, Token};
use http::Uri;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, LOCATION, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Method, Request, RequestBuilder, Response, Url};

use crate::TokenManager;
use crate::proving::Proving;

/// How many redirects are followed.
const REDIRECTS: usize = 10;

/// An HTTP client whose requests carry a token: only to these hosts, over https, and on no redirect to other hosts. A
/// request whose token is [refused](Challenge::rejects_token) is sent once more with a new token, if its body can be
/// sent again: a stream cannot.
///
/// ```no_run
/// # async fn main_(tokens: grantflow_reqwest::TokenManager) -> Result<(), Box<dyn std::error::Error>> {
/// use grantflow_reqwest::AuthorizedClient;
///
/// let api = AuthorizedClient::new(tokens, ["storage.googleapis.com"])?;
/// let response = api.send(api.get("https://storage.googleapis.com/storage/v1/b?project=demo")).await?;
/// println!("{}", response.status());
/// # Ok(()) }
/// ```
///
/// [`Challenge::all`] of the answer's headers says why a server refuses. If it asks for more scope or another sign-in,
/// the token stays and the caller gets the answer. If no other token can be obtained, the caller gets the refusal, with
/// the reason as an [`Error`] among its extensions.
///
/// With a token that is bound to a key (RFC 9449) each request has a proof of its own. If a server wants a nonce in the
/// proof, the request is sent once more, if its body can be sent again; the server's nonces are kept, for its origin
/// alone.
#[derive(Clone, Debug)]
pub struct AuthorizedClient {
    public: Client,
    /// For requests in cleartext, which go to this machine alone, and so through no proxy.
    local: Client,
    tokens: TokenManager,
    hosts: Hosts,
    proving: Proving,
}

/// Why an authorized request did not succeed.
#[derive(Debug)]
pub enum AuthorizedError {
    /// There is no token, or it may not be sent to this address.
    Token(Error),
    /// The request failed.
    Http(reqwest::Error),
}

impl AuthorizedClient {
    /// A client for requests with these tokens to these hosts (see [`Hosts`]), with the TLS, the proxies and the user
    /// agent of the manager's transport.
    ///
    /// # Errors
    ///
    /// If the HTTP client cannot be made.
    pub fn new(tokens: TokenManager, hosts: impl Into<Hosts>) -> Result<Self, AuthorizedError> {
        Self::with_builder(tokens, hosts, |builder| builder)
    }

    /// A client whose builder is adjusted: `adjust` gets the builder of
    /// [`Transport::client_builder`](crate::Transport::client_builder), and is called once for each of the HTTP clients
    /// inside. It cannot set which redirects are followed, nor a proxy for requests to this machine, which have none.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use grantflow_reqwest::{AuthorizedClient, AuthorizedError, TokenManager};
    ///
    /// fn client(tokens: TokenManager) -> Result<AuthorizedClient, AuthorizedError> {
    ///     AuthorizedClient::with_builder(tokens, "api.example", |builder| builder.timeout(Duration::from_secs(10)))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If the HTTP client cannot be made.
    pub fn with_builder(
        tokens: TokenManager,
        hosts: impl Into<Hosts>,
        adjust: impl Fn(ClientBuilder) -> ClientBuilder,
    ) -> Result<Self, AuthorizedError> {
        let builder = || adjust(tokens.transport().client_builder());
        Self::of([builder(), builder()], tokens, hosts.into())
    }

    /// A client that presents this certificate, which the tokens are bound to (RFC 8705, section 3): see
    /// [`Transport::client_builder_presenting`](crate::Transport::client_builder_presenting).
    ///
    /// ```no_run
    /// use grantflow_reqwest::grantflow::machine::Identity;
    /// use grantflow_reqwest::{AuthorizedClient, AuthorizedError, TokenManager};
    ///
    /// async fn client(tokens: TokenManager) -> Result<AuthorizedClient, AuthorizedError> {
    ///     AuthorizedClient::presenting(tokens, "api.example", &Identity::named("batch")).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If the certificate cannot be used, or the HTTP client cannot be made.
    pub async fn presenting(
        tokens: TokenManager,
        hosts: impl Into<Hosts> + Send,
        identity: &Identity,
    ) -> Result<Self, AuthorizedError> {
        let hosts = hosts.into();
        let transport = tokens.transport().clone();
        let builder = || transport.client_builder_presenting(identity);
        let builders =
            [builder().await.map_err(AuthorizedError::Token)?, builder().await.map_err(AuthorizedError::Token)?];
        Self::of(builders, tokens, hosts)
    }

    fn of(builders: [ClientBuilder; 2], tokens: TokenManager, hosts: Hosts) -> Result<Self, AuthorizedError> {
        // It would log the token.
        let quiet = |builder: ClientBuilder| builder.redirect(Policy::none()).referer(false).connection_verbose(false);
        let [public, local] = builders.map(quiet);
        let (public, local) = (public.https_only(true).build()?, local.no_proxy().build()?);
        Ok(Self { public, local, tokens, hosts, proving: Proving::default() })
    }

    /// Begins a request, for [`send`](Self::send). If it is sent by itself, it carries no token.
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder {
        self.public.request(method, url)
    }

    /// Begins a GET request, for [`send`](Self::send).
    pub fn get(&self, url: &str) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Begins a POST request, for [`send`](Self::send).
    pub fn post(&self, url: &str) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Sends a request with a token. Redirects are followed, with the token, as long as they lead to the hosts that it
    /// is for; a redirect to another host is the answer.
    ///
    /// # Errors
    ///
    /// If there is no token, if it may not be sent there, or if the request fails. A status is no error.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, AuthorizedError> {
        self.execute(request.build()?).await
    }

    /// Sends a whole request, as [`send`](Self::send) does.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    pub async fn execute(&self, request: Request) -> Result<Response, AuthorizedError> {
        self.check(request.url())?;
        let again = request.try_clone();
        let refused = self.tokens.token().await?;
        let mut response = self.follow(request, &refused).await?;
        let rejects = Challenge::rejects_token(response.status(), response.headers(), &refused);
        if !rejects || !self.tokens.invalidate(&refused) {
            return Ok(response);
        }
        let Some(request) = again else { return Ok(response) };
        match self.tokens.token().await {
            Ok(token) if token.access_token() != refused.access_token() => self.follow(request, &token).await,
            // Without another token, the refusal is the answer.
            Ok(_) => Ok(response),
            Err(error) => {
                response.extensions_mut().insert(error);
                Ok(response)
            }
        }
    }

    /// Sends a request with this token, and follows where it is sent on.
    async fn follow(&self, mut request: Request, token: &Token) -> Result<Response, AuthorizedError> {
        for _ in 0..REDIRECTS {
            let again = request.try_clone();
            let response = self.proven(request, token).await?;
            let next = again.and_then(|again| redirected(again, &response));
            let Some(next) = next.filter(|next| self.check(next.url()).is_ok()) else { return Ok(response) };
            request = next;
        }
        self.proven(request, token).await
    }

    /// Sends a request, and once more if the server wants to see its nonce in the proof (RFC 9449, section 9).
    async fn proven(&self, request: Request, token: &Token) -> Result<Response, AuthorizedError> {
        let again = token.dpop_key().and_then(|_| request.try_clone());
        match (self.once(request, token).await?, again) {
            ((_, true), Some(again)) => Ok(self.once(again, token).await?.0),
            ((response, _), _) => Ok(response),
        }
    }

    /// The answer, and whether it asks for the request once more.
    async fn once(&self, mut request: Request, token: &Token) -> Result<(Response, bool), AuthorizedError> {
        let (method, uri) = (request.method().clone(), uri(request.url())?);
        let transport = self.tokens.transport();
        self.proving.authorize(transport, token, (&method, &uri), request.headers_mut()).await?;
        let client = if request.url().scheme() == "https" { &self.public } else { &self.local };
        let response = client.execute(request).await?;
        let asks = self.proving.learn(token, &uri, response.status(), response.headers());
        Ok((response, asks))
    }

    fn check(&self, url: &Url) -> Result<(), Error> {
        self.hosts.check(&uri(url)?)
    }
}

fn uri(url: &Url) -> Result<Uri, Error> {
    url.as_str().parse().map_err(|_| Error::new(ErrorKind::Config, "the request's address is no URI"))
}

/// The request that follows a redirect (RFC 9110, section 15.4), if the answer is one.
fn redirected(mut request: Request, response: &Response) -> Option<Request> {
    let to_get = match (response.status().as_u16(), request.method()) {
        (301 | 302, &Method::POST) => true,
        (303, method) => method != Method::HEAD,
        (301 | 302 | 307 | 308, _) => false,
        _ => return None,
    };
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let next = request.url().join(location).ok()?;
    let headers = request.headers_mut();
    headers.remove(HOST);
    if to_get {
        for name in [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING] {
            headers.remove(name);
        }
        *request.method_mut() = Method::GET;
        *request.body_mut() = None;
    }
    if request.url().origin() != next.origin() {
        request.headers_mut().remove(COOKIE);
        request.headers_mut().remove(PROXY_AUTHORIZATION);
    }
    *request.url_mut() = next;
    Some(request)
}

impl From<Error> for AuthorizedError {
    fn from(error: Error) -> Self {
        Self::Token(error)
    }
}

impl From<reqwest::Error> for AuthorizedError {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error)
    }
}

impl fmt::Display for AuthorizedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(error) => write!(f, "the request got no token: {error}"),
            Self::Http(error) => write!(f, "the request failed: {error}"),
        }
    }
}

impl std::error::Error for AuthorizedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Token(error) => Some(error),
            Self::Http(error) => Some(error),
        }
    }
}
