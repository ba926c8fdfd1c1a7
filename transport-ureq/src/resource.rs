//! Requests to a protected resource, which get a token when the resource demands one: [`ResourceAgent`].
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
use http::{HeaderMap, Request, Response, StatusCode};
use ureq::{Agent, Body};

use crate::{AuthorizedAgent, Repeatable, TokenManager, TokenRef, Transport};

impl Transport {
    /// A manager of tokens for a protected resource, from its address alone. It finds the authorization server and a
    /// client there, and then does as [`load_or_sign_in`](Self::load_or_sign_in), or gets tokens without a person if
    /// the resource has [a source](ProtectedResource::source). `label` tells one person's grants apart.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    ///
    /// use grantflow_ureq::Transport;
    /// use grantflow_ureq::grantflow::resource::ProtectedResource;
    /// use grantflow_ureq::grantflow_store::FileStore;
    ///
    /// let transport = Transport::new()?;
    /// let transport = transport.with_store(Arc::new(FileStore::default_for("my-tool", &transport.platform())?));
    /// let server = ProtectedResource::mcp("https://mcp.example.com/mcp")?.client_document("https://tool.example/client.json");
    /// let tokens = transport.load_or_sign_in_to(&server, "")?;
    /// # let _ = tokens;
    /// # Ok::<(), grantflow_ureq::grantflow::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the discovery, and of [`load_or_sign_in`](Self::load_or_sign_in).
    #[cfg(feature = "store")]
    pub fn load_or_sign_in_to(&self, resource: &ProtectedResource, label: &str) -> Result<TokenManager, Error> {
        let access = self.run(resource.find())?;
        match access.source()? {
            Some(source) => Ok(TokenManager::new(self, source, access.want())),
            None => self.load_or_sign_in(&access.app()?, label),
        }
    }
}

/// An agent for one protected resource (RFC 9728), such as a server of the Model Context Protocol. The first request
/// goes without a token. From the refusal the agent finds a server and a client there, signs a person in or loads the
/// kept grant, and sends the request again. It does the same when the resource demands more scopes, another sign-in
/// (RFC 9470), or tokens of another server.
///
/// ```no_run
/// # fn main_(transport: grantflow_ureq::Transport) -> Result<(), Box<dyn std::error::Error>> {
/// use grantflow_ureq::ResourceAgent;
/// use grantflow_ureq::grantflow::resource::ProtectedResource;
///
/// let server = ProtectedResource::mcp("https://mcp.example.com/mcp")?.client_document("https://tool.example/client.json");
/// let agent = ResourceAgent::new(&transport, server, "")?;
/// let request = http::Request::post("https://mcp.example.com/mcp").body(r#"{"jsonrpc": "2.0"}"#)?;
/// println!("{}", agent.run(request)?.status());
/// # Ok(()) }
/// ```
///
/// The grant is kept if the transport is bound to a store, otherwise for as long as the agent lives; if a grant ends,
/// the next refusal leads to another one. The demands of a resource that is never content are met [a few
/// times](Demands) for each operation; then its refusal is the answer. Clones share all of this.
#[derive(Clone)]
pub struct ResourceAgent(Arc<Inner>);

struct Inner {
    transport: Transport,
    agent: Agent,
    resource: ProtectedResource,
    label: String,
    may: Option<May>,
    state: Mutex<State>,
    /// Held while an answer is judged and its demand is met, so that nobody is asked twice at a time, and requests at the same
    /// time count once.
    meeting: Mutex<()>,
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
    api: AuthorizedAgent,
}

impl ResourceAgent {
    /// An agent for requests to this resource. `label` tells one person's grants apart.
    ///
    /// # Errors
    ///
    /// If the agent cannot be made: see [`Transport::agent`].
    pub fn new(transport: &Transport, resource: ProtectedResource, label: &str) -> Result<Self, Error> {
        Self::made(transport, resource, label, None)
    }

    /// An agent that calls this function before it asks a person, or gets a token. On `false` the refusal is the
    /// answer, and its headers have the demand ([`Demand::read`]). Other requests wait meanwhile: the function must not
    /// wait for a request of this agent.
    ///
    /// ```no_run
    /// # fn main_(transport: grantflow_ureq::Transport) -> Result<(), Box<dyn std::error::Error>> {
    /// use grantflow_ureq::ResourceAgent;
    /// use grantflow_ureq::grantflow::resource::{DemandKind, ProtectedResource};
    ///
    /// let server = ProtectedResource::mcp("https://mcp.example.com/mcp")?.client_document("https://tool.example/client.json");
    /// let agent = ResourceAgent::asking(&transport, server, "", |demand| demand.kind() != DemandKind::Reauthenticate)?;
    /// # drop(agent); Ok(()) }
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
    ) -> Result<Self, Error> {
        Self::made(transport, resource, label, Some(Box::new(may)))
    }

    fn made(transport: &Transport, resource: ProtectedResource, label: &str, may: Option<May>) -> Result<Self, Error> {
        let (agent, transport) = (transport.agent()?, transport.clone());
        let (state, meeting) = (Mutex::default(), Mutex::default());
        Ok(Self(Arc::new(Inner { transport, agent, resource, label: label.to_owned(), may, state, meeting })))
    }

    /// The manager of the agent's tokens, once there is one.
    pub fn tokens(&self) -> Option<TokenManager> {
        self.state().signed_in.as_ref().map(|signed_in| signed_in.tokens.clone())
    }

    /// Sends a request. A status is no error, redirects are not followed. One operation is the request's method and
    /// path.
    ///
    /// # Errors
    ///
    /// If the address does not lie within the resource, no access is found, a person does not sign in, or the request fails.
    /// An error of grantflow's own is inside of [`ureq::Error::Other`].
    pub fn run<B: Repeatable>(&self, request: Request<B>) -> Result<Response<Body>, ureq::Error> {
        let operation = format!("{} {}", request.method(), request.uri().path());
        self.run_as(&operation, request)
    }

    /// Sends a request as [`run`](Self::run) does, for an operation that has a name of its own, such as that of a
    /// remote procedure.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn run_as<B: Repeatable>(&self, operation: &str, request: Request<B>) -> Result<Response<Body>, ureq::Error> {
        self.0.resource.check(&request.uri().to_string()).map_err(other)?;
        loop {
            let (signed_in, generation) = self.current();
            let (response, token) = match &signed_in {
                Some(it) => match it.api.run(request.clone()) {
                    // The answer to a request without a token says what is demanded now.
                    Err(error) if has_ended(&error) => (self.plain(request.clone())?, None),
                    answer => (answer?, it.tokens.token().ok()),
                },
                None => (self.plain(request.clone())?, None),
            };
            if Demand::read(response.status(), response.headers()).is_none() {
                self.judge(operation, response.status(), response.headers(), None);
                return Ok(response);
            }
            let met = self.meet(operation, &response, generation, signed_in.as_ref(), token.as_ref());
            if !met.map_err(other)? {
                return Ok(response);
            }
        }
    }

    fn plain<B: Repeatable>(&self, request: Request<B>) -> Result<Response<Body>, ureq::Error> {
        let cleartext = request.uri().scheme_str() == Some("http");
        let request = self.0.agent.configure_request(request).max_redirects(0).http_status_as_error(false);
        let request = if cleartext { request.proxy(None) } else { request };
        self.0.agent.run(request.build())
    }

    /// Gets what the resource demands with this answer, unless another thread has just done so. Otherwise the answer is to be
    /// taken as it is.
    fn meet(
        &self,
        operation: &str,
        response: &Response<Body>,
        generation: u64,
        before: Option<&SignedIn>,
        refused: Option<&TokenRef>,
    ) -> Result<bool, Error> {
        let _one = lock(&self.0.meeting);
        if self.state().generation != generation {
            return Ok(true);
        }
        let demand = self.judge(operation, response.status(), response.headers(), refused.map(|it| &**it));
        let Some(demand) = demand else { return Ok(false) };
        if self.0.may.as_ref().is_some_and(|may| !may(&demand)) {
            self.state().demands.not_met(operation);
            return Ok(false);
        }
        // Before a person was asked, and where a server will answer later, a failure is no try.
        let access = self.find(&demand, before).inspect_err(|_| self.state().demands.not_met(operation))?;
        let begun = self.begin(access, &demand, before, refused);
        if begun.as_ref().is_err_and(|error| error.is_transient() && error.kind() != ErrorKind::Timeout) {
            self.state().demands.not_met(operation);
        }
        begun.map(|()| true)
    }

    fn find(&self, demand: &Demand, before: Option<&SignedIn>) -> Result<Access, Error> {
        let Inner { transport, resource, .. } = &*self.0;
        transport.run(match before {
            Some(before) => resource.find_again(demand, &before.access),
            None => resource.find_for(demand),
        })
    }

    /// Gets tokens by this access, and begins with them.
    fn begin(
        &self,
        access: Access,
        demand: &Demand,
        before: Option<&SignedIn>,
        refused: Option<&TokenRef>,
    ) -> Result<(), Error> {
        let Inner { transport, resource, .. } = &*self.0;
        let is_here = before.is_some_and(|before| before.access.server().issuer() == access.server().issuer());
        let tokens = match access.source()? {
            Some(source) => TokenManager::new(transport, source, access.want()),
            None => {
                let anew = is_here && demand.kind() != DemandKind::Scope;
                self.sign_in(&access.app()?, refused.filter(|_| anew))?
            }
        };
        let api = AuthorizedAgent::new(self.0.agent.clone(), tokens.clone(), resource.hosts());
        let mut state = self.state();
        state.generation += 1;
        state.signed_in = Some(SignedIn { access, tokens, api });
        Ok(())
    }

    /// Loads what is kept, or has a person sign in, also where what is kept is of a token that was refused.
    fn sign_in(&self, app: &InstalledApp, refused: Option<&TokenRef>) -> Result<TokenManager, Error> {
        let Inner { transport, label, .. } = &*self.0;
        #[cfg(feature = "store")]
        if transport.store().is_some() {
            return match refused {
                Some(token) => transport.sign_in_anew(app, label, token),
                None => transport.load_or_sign_in(app, label),
            };
        }
        let _ = (label, refused);
        let token = transport.sign_in(app)?;
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
        lock(&self.0.state)
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn other(error: Error) -> ureq::Error {
    ureq::Error::Other(Box::new(error))
}

/// Whether there is no token any more without another sign-in.
fn has_ended(error: &ureq::Error) -> bool {
    let ureq::Error::Other(inner) = error else { return false };
    inner.downcast_ref::<Error>().is_some_and(|error| error.advice() == Some(Advice::SignInAgain))
}

impl fmt::Debug for ResourceAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceAgent").field("resource", &self.0.resource).finish_non_exhaustive()
    }
}
