//! Requests that carry a token: [`AuthorizedClient`].

use std::fmt;

use grantflow::{Error, Hosts};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Request, RequestBuilder, Response, StatusCode};

use crate::TokenManager;
use crate::tls::Roots;

/// An HTTP client whose requests carry a token: only to the hosts that it is meant for, over https, and on
/// no redirect to elsewhere. A request that is refused with status 401 is sent once more with a new token, if
/// its body can be sent again.
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
/// What a server asks for when it refuses is in [`Challenge::all`](grantflow::Challenge::all) of the answer's
/// headers.
#[derive(Clone, Debug)]
pub struct AuthorizedClient {
    client: Client,
    tokens: TokenManager,
    hosts: Hosts,
}

/// Why an authorized request did not succeed.
#[derive(Debug)]
pub enum AuthorizedError {
    /// There is no token, or it may not be sent there.
    Token(Error),
    /// The request failed.
    Http(reqwest::Error),
}

impl AuthorizedClient {
    /// A client with reqwest's defaults, for these hosts: see [`Hosts`].
    ///
    /// # Errors
    ///
    /// If the client cannot be made.
    pub fn new(tokens: TokenManager, hosts: impl Into<Hosts>) -> Result<Self, AuthorizedError> {
        let tls = crate::tls::config(Roots::default())?;
        Self::with_builder(Client::builder().tls_backend_preconfigured(tls), tokens, hosts)
    }

    /// A client of this builder. Redirects are followed to the same hosts only, whatever the builder says.
    ///
    /// # Errors
    ///
    /// If the client cannot be made.
    pub fn with_builder(
        builder: ClientBuilder,
        tokens: TokenManager,
        hosts: impl Into<Hosts>,
    ) -> Result<Self, AuthorizedError> {
        let hosts = hosts.into();
        let allowed = hosts.clone();
        let policy = Policy::custom(move |attempt| {
            let here = attempt.url().as_str().parse().is_ok_and(|uri| allowed.check(&uri).is_ok());
            // Elsewhere, the redirect itself is the answer.
            if here && attempt.previous().len() < 10 { attempt.follow() } else { attempt.stop() }
        });
        let client = builder.redirect(policy).referer(false).build().map_err(AuthorizedError::Http)?;
        Ok(Self { client, tokens, hosts })
    }

    /// The client itself, whose requests carry no token unless they go through [`send`](Self::send).
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Begins a GET request, for [`send`](Self::send).
    pub fn get(&self, url: &str) -> RequestBuilder {
        self.client.get(url)
    }

    /// Begins a POST request, for [`send`](Self::send).
    pub fn post(&self, url: &str) -> RequestBuilder {
        self.client.post(url)
    }

    /// Sends a request with a token.
    ///
    /// # Errors
    ///
    /// If there is no token, it may not be sent there, or the request fails. A status is no error.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, AuthorizedError> {
        self.execute(request.build()?).await
    }

    /// As [`send`](Self::send), with a request that is whole.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    pub async fn execute(&self, mut request: Request) -> Result<Response, AuthorizedError> {
        let uri = request.url().as_str().parse();
        self.hosts.check(&uri.map_err(|_| Error::new(grantflow::ErrorKind::Config, "the address is none"))?)?;
        let again = request.try_clone();
        let token = self.tokens.token().await?;
        token.apply(request.headers_mut())?;
        let response = self.client.execute(request).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let another = self.tokens.invalidate(&token);
        drop(token);
        let Some(mut request) = again.filter(|_| another) else { return Ok(response) };
        // Without another token, the refusal is the answer.
        let Ok(token) = self.tokens.token().await else { return Ok(response) };
        token.apply(request.headers_mut())?;
        Ok(self.client.execute(request).await?)
    }
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
