//! Requests to a protected resource, which get a token when the resource demands one: [`ResourceClient`].
//!
//! ```text
//! request ─▶ answer ─▶ done
//!    ▲          │ it demands a token, more scope, another sign-in (a few times for each operation)
//!    └── found ◀┘
//! ```

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grantflow::resource::{Access, Demand, DemandKind, Demands, ProtectedResource};
use grantflow::source::Credential;
use grantflow::{Advice, Error, ErrorKind, InstalledApp, Token};
use http::{HeaderMap, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Request, RequestBuilder, Response};

use crate::{AuthorizedClient, AuthorizedError, TokenManager, TokenRef, Transport};

impl Transport {
    /// A manager of tokens for a protected resource, from its address alone. It finds the authorization server and a
    /// client there, and then does as [`load_or_sign_in`](Self::load_or_sign_in), or gets tokens without a person if
    /// the resource has [a source](ProtectedResource::source). `label` tells one person's grants apart.
    ///
    /// ```no_run
    /// # async fn main_() -> Result<(), grantflow_reqwest::grantflow::Error> {
    /// use std::sync::Arc;
    ///
    /// use grantflow_reqwest::Transport;
    /// use grantflow_reqwest::grantflow::resource::ProtectedResource;
    /// use grantflow_reqwest::grantflow_store::FileStore;
    ///
    /// let transport = Transport::new()?;
    /// let transport = transport.with_store(Arc::new(FileStore::default_for("my-tool", &transport.platform())?));
    /// let server = ProtectedResource::mcp("https://mcp.example.com/mcp")?.client_document("https://tool.example/client.json");
    /// let tokens = transport.load_or_sign_in_to(&server, "").await?;
    /// # let _ = tokens;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the discovery, and of [`load_or_sign_in`](Self::load_or_sign_in).
    #[cfg(feature = "store")]
    pub async fn load_or_sign_in_to(&self, resource: &ProtectedResource, label: &str) -> Result<TokenManager, Error> {
        let access = self.run(resource.find()).await?;
        match access.source()? {
            Some(source) => Ok(TokenManager::new(self, source, access.want())),
            None => self.load_or_sign_in(&access.app()?, label).await,
        }
    }
}

/// A client for one protected resource (RFC 9728), such as a server of the Model Context Protocol. The first request
/// goes without a token. From the refusal the client finds a server and its registration there, signs a person in or
/// loads the kept grant, and sends the request again. It does the same when the resource demands more scopes, another
/// sign-in (RFC 9470), or tokens of another server.
///
/// ```no_run
/// # async fn main_(transport: grantflow_reqwest::Transport) -> Result<(), Box<dyn std::error::Error>> {
/// use grantflow_reqwest::ResourceClient;
/// use grantflow_reqwest::grantflow::resource::ProtectedResource;
///
/// let server = ProtectedResource::mcp("https://mcp.example.com/mcp")?.client_document("https://tool.example/client.json");
/// let client = ResourceClient::new(&transport, server, "")?;
/// let request = client.post("https://mcp.example.com/mcp").body(r#"{"jsonrpc": "2.0"}"#);
/// println!("{}", client.send(request).await?.status());
/// # Ok(()) }
/// ```
///
/// The grant is kept if the transport is bound to a store, otherwise for as long as the client lives; if a grant ends,
/// the next refusal leads to another one. The demands of a resource that is never content are met [a few
/// times](Demands) for each operation; then its refusal is the answer. A request whose body is a stream is sent once,
/// and its refusal is the answer. Clones share all of this.
#[derive(Clone)]
pub struct ResourceClient(Arc<Inner>);

struct Inner {
    transport: Transport,
    public: Client,
    /// For requests in cleartext, which go to this machine alone, and so through no proxy.
    local: Client,
    resource: ProtectedResource,
    label: String,
    may: Option<May>,
    state: Mutex<State>,
    /// Held while an answer is judged and its demand is met, so that nobody is asked twice at a time, and requests at the same
    /// time count once.
    meeting: tokio::sync::Mutex<()>,
}

type May = Box<dyn Fn(&Demand) -> bool + Send + Sync>;

#[derive(Default)]
struct State {
    demands: Demands,
    signed_in: Option<SignedIn>,
    /// Which one it is.
    generation: u64,
}

#[derive(Clone)]
struct SignedIn {
    access: Access,
    tokens: TokenManager,
    api: AuthorizedClient,
}

impl ResourceClient {
    /// A client for requests to this resource. `label` tells one person's grants apart.
    ///
    /// # Errors
    ///
    /// If the client cannot be made.
    pub fn new(transport: &Transport, resource: ProtectedResource, label: &str) -> Result<Self, AuthorizedError> {
        Self::made(transport, resource, label, None)
    }

    /// A client that calls this function before it asks a person, or gets a token. On `false` the refusal is the
    /// answer, and its headers have the demand ([`Demand::read`]). Other requests wait meanwhile: the function must not
    /// wait for a request of this client.
    ///
    /// ```no_run
    /// # fn main_(transport: grantflow_reqwest::Transport) -> Result<(), Box<dyn std::error::Error>> {
    /// use grantflow_reqwest::ResourceClient;
    /// use grantflow_reqwest::grantflow::resource::{DemandKind, ProtectedResource};
    ///
    /// let server = ProtectedResource::mcp("https://mcp.example.com/mcp")?.client_document("https://tool.example/client.json");
    /// let client = ResourceClient::asking(&transport, server, "", |demand| demand.kind() != DemandKind::Reauthenticate)?;
    /// # drop(client); Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn asking(
        transport: &Transport,
        resource: ProtectedResource,
        label: &str,
        may: impl Fn(&Demand) -> bool + Send + Sync + 'static,
    ) -> Result<Self, AuthorizedError> {
        Self::made(transport, resource, label, Some(Box::new(may)))
    }

    fn made(
        transport: &Transport,
        resource: ProtectedResource,
        label: &str,
        may: Option<May>,
    ) -> Result<Self, AuthorizedError> {
        let builder = || transport.client_builder().redirect(Policy::none()).referer(false);
        let public = builder().https_only(true).build()?;
        let local = builder().no_proxy().build()?;
        let (transport, label) = (transport.clone(), label.to_owned());
        let (state, meeting) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self(Arc::new(Inner { transport, public, local, resource, label, may, state, meeting })))
    }

    /// The manager of the client's tokens, once there is one.
    pub fn tokens(&self) -> Option<TokenManager> {
        self.state().signed_in.as_ref().map(|signed_in| signed_in.tokens.clone())
    }

    /// Begins a request, for [`send`](Self::send). If it is sent by itself, it carries no token.
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder {
        self.0.local.request(method, url)
    }

    /// Begins a GET request, for [`send`](Self::send).
    pub fn get(&self, url: &str) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Begins a POST request, for [`send`](Self::send).
    pub fn post(&self, url: &str) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Sends a request. One operation is the request's method and path.
    ///
    /// # Errors
    ///
    /// If the address does not lie within the resource, no access is found, a person does not sign in, or the request fails.
    /// A status is no error.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, AuthorizedError> {
        let request = request.build()?;
        let operation = format!("{} {}", request.method(), request.url().path());
        self.execute_as(&operation, request).await
    }

    /// Sends a request as [`send`](Self::send) does, for an operation that has a name of its own, such as that of a
    /// remote procedure.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    pub async fn send_as(&self, operation: &str, request: RequestBuilder) -> Result<Response, AuthorizedError> {
        self.execute_as(operation, request.build()?).await
    }

    async fn execute_as(&self, operation: &str, request: Request) -> Result<Response, AuthorizedError> {
        self.0.resource.check(request.url().as_str())?;
        let mut next = request;
        loop {
            let again = next.try_clone();
            let (signed_in, generation) = self.current();
            let (response, token) = match &signed_in {
                Some(it) => match it.api.execute(next).await {
                    // The answer to a request without a token says what is demanded now.
                    Err(AuthorizedError::Token(error)) if has_ended(&error) => {
                        let plain = again.as_ref().and_then(Request::try_clone);
                        (self.plain(plain.ok_or(error)?).await?, None)
                    }
                    answer => (answer?, it.tokens.token().await.ok()),
                },
                None => (self.plain(next).await?, None),
            };
            if Demand::read(response.status(), response.headers()).is_none() {
                self.judge(operation, response.status(), response.headers(), None);
                return Ok(response);
            }
            let Some(again) = again else { return Ok(response) };
            let answer = (response.status(), response.headers().clone());
            if !self.meet(operation, &answer, generation, signed_in.as_ref(), token.as_ref()).await? {
                return Ok(response);
            }
            next = again;
        }
    }

    async fn plain(&self, request: Request) -> Result<Response, AuthorizedError> {
        let client = if request.url().scheme() == "https" { &self.0.public } else { &self.0.local };
        Ok(client.execute(request).await?)
    }

    /// Gets what the resource demands with this answer, unless another task has just done so. Otherwise the answer is to be
    /// taken as it is.
    async fn meet(
        &self,
        operation: &str,
        (status, headers): &(StatusCode, HeaderMap),
        generation: u64,
        before: Option<&SignedIn>,
        refused: Option<&TokenRef>,
    ) -> Result<bool, AuthorizedError> {
        let _one = self.0.meeting.lock().await;
        if self.state().generation != generation {
            return Ok(true);
        }
        let demand = self.judge(operation, *status, headers, refused.map(|it| &**it));
        let Some(demand) = demand else { return Ok(false) };
        if self.0.may.as_ref().is_some_and(|may| !may(&demand)) {
            self.state().demands.not_met(operation);
            return Ok(false);
        }
        // Before a person was asked, and where a server will answer later, a failure is no try.
        let found = self.find(&demand, before).await;
        let access = found.inspect_err(|_| self.state().demands.not_met(operation))?;
        let begun = self.begin(access, &demand, before, refused).await;
        let later = |error: &Error| error.is_transient() && error.kind() != ErrorKind::Timeout;
        if matches!(&begun, Err(AuthorizedError::Token(error)) if later(error)) {
            self.state().demands.not_met(operation);
        }
        begun.map(|()| true)
    }

    async fn find(&self, demand: &Demand, before: Option<&SignedIn>) -> Result<Access, Error> {
        let Inner { transport, resource, .. } = &*self.0;
        let find = match before {
            Some(before) => resource.find_again(demand, &before.access),
            None => resource.find_for(demand),
        };
        transport.run(find).await
    }

    /// Gets tokens by this access, and begins with them.
    async fn begin(
        &self,
        access: Access,
        demand: &Demand,
        before: Option<&SignedIn>,
        refused: Option<&TokenRef>,
    ) -> Result<(), AuthorizedError> {
        let Inner { transport, resource, .. } = &*self.0;
        let is_here = before.is_some_and(|before| before.access.server().issuer() == access.server().issuer());
        let tokens = match access.source()? {
            Some(source) => TokenManager::new(transport, source, access.want()),
            None => {
                let anew = is_here && demand.kind() != DemandKind::Scope;
                self.sign_in(&access.app()?, refused.filter(|_| anew)).await?
            }
        };
        let api = AuthorizedClient::new(tokens.clone(), resource.hosts())?;
        let mut state = self.state();
        state.generation += 1;
        state.signed_in = Some(SignedIn { access, tokens, api });
        Ok(())
    }

    /// Loads what is kept, or has a person sign in, also where what is kept is of a token that was refused.
    async fn sign_in(&self, app: &InstalledApp, refused: Option<&TokenRef>) -> Result<TokenManager, Error> {
        let Inner { transport, label, .. } = &*self.0;
        #[cfg(feature = "store")]
        if transport.store().is_some() {
            return match refused {
                Some(token) => transport.sign_in_anew(app, label, token).await,
                None => transport.load_or_sign_in(app, label).await,
            };
        }
        let _ = (label, refused);
        let token = transport.sign_in(app).await?;
        unkept(transport, app, &token)
    }

    fn current(&self) -> (Option<SignedIn>, u64) {
        let state = self.state();
        (state.signed_in.clone(), state.generation)
    }

    fn judge(&self, operation: &str, status: StatusCode, headers: &HeaderMap, token: Option<&Token>) -> Option<Demand> {
        let now = self.0.transport.now();
        self.state().demands.judge(now, operation, status, headers, token)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The manager of a grant that is kept nowhere.
fn unkept(transport: &Transport, app: &InstalledApp, token: &Token) -> Result<TokenManager, Error> {
    match token.refresh_token() {
        Some(_) => {
            let credential = Credential::signed_in(app.server(), app.client(), token)?;
            Ok(TokenManager::new(transport, credential, app.want()))
        }
        None => Ok(TokenManager::new(transport, Credential::fixed(token.clone()), Default::default())),
    }
}

/// Whether there is no token any more without another sign-in.
fn has_ended(error: &Error) -> bool {
    error.advice() == Some(Advice::SignInAgain)
}

impl fmt::Debug for ResourceClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceClient").field("resource", &self.0.resource).finish_non_exhaustive()
    }
}
