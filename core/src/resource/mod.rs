//! Protected resources (RFC 9728): from an address, or from a refusal, to a sign-in at a server whose tokens the resource
//! takes. It is the whole of the Model Context Protocol's authorization.
//!
//! ```text
//!  address ─┐   FindAccess                                              Access
//!           ├─▶ the resource's metadata ─▶ its server's ─▶ a client ─▶  app()    ─▶ a person signs in
//!  Demand ──┘                                              there        source() ─▶ a token of no person
//! ```
//!
//! What a resource's documents name was chosen by nobody who configured the program. Requests to it go to global addresses
//! alone ([`Reach::Global`](crate::machine::Reach::Global)), but for the resource's own origin, for servers that the program
//! [names](ProtectedResource::authorization_server) or is registered at, and for this machine where the resource is on it.

mod access;
mod client_document;
mod demand;
mod discovery;
mod find;
mod metadata;

use std::fmt;
use std::sync::Arc;

use url::Url;

pub use access::Access;
pub use client_document::{ClientDocument, MAX_CLIENT_DOCUMENT};
pub use demand::{Demand, DemandKind, Demands};
pub use discovery::ResourceDiscovery;
pub use find::FindAccess;
pub use metadata::ResourceMetadata;

use crate::register::ClientMetadata;
use crate::source::TokenSource;
use crate::{Client, Deviation, Deviations, DpopKey, Endpoint, Error, Hosts, InstalledApp, Issuer, Scopes};

/// A protected resource by its address, and who asks for access to it: plain data, which an adapter's `load_or_sign_in_to`
/// and its client for resources carry out.
///
/// A client is found in this order: one that was [registered](Self::client) at the server before; one that a
/// [document](Self::client_document) describes, where the server reads such documents; one that [registers
/// itself](Self::register), where the server takes registrations; else the error says what to give.
///
/// ```
/// use grantflow::resource::ProtectedResource;
///
/// let resource = ProtectedResource::mcp("https://mcp.example.com/mcp")?
///     .client_document("https://tool.example.org/oauth/client.json");
/// # let _ = resource;
/// # Ok::<(), grantflow::Error>(())
/// ```
///
/// What a setter cannot take is an error of kind [`ErrorKind::Config`](crate::ErrorKind::Config) where access is looked for.
#[derive(Clone)]
pub struct ProtectedResource {
    /// As it was given.
    address: Arc<str>,
    endpoint: Endpoint,
    tolerated: Deviations,
    clients: Vec<Client>,
    document: Option<Arc<str>>,
    registration: Option<ClientMetadata>,
    chosen: Vec<Issuer>,
    scopes: Option<Scopes>,
    dpop: Option<DpopKey>,
    way: Way,
    error: Option<Error>,
}

/// How tokens are got.
#[derive(Clone)]
pub(crate) enum Way {
    /// A person signs in, to an application that this adjusts.
    Person(Option<Arc<Adjust>>),
    /// By no person: from what this makes.
    Source(Arc<Make>),
}

type Adjust = dyn Fn(InstalledApp) -> InstalledApp + Send + Sync;
type Make = dyn Fn(&Access) -> Result<Arc<dyn TokenSource>, Error> + Send + Sync;

impl ProtectedResource {
    /// The resource at this address: https, or http on this machine, without a fragment.
    ///
    /// # Errors
    ///
    /// If it is no such address.
    pub fn new(address: &str) -> Result<Self, Error> {
        Ok(Self {
            address: address.into(),
            endpoint: Endpoint::new(address)?,
            tolerated: Deviations::TOLERATED,
            clients: Vec::new(),
            document: None,
            registration: None,
            chosen: Vec::new(),
            scopes: None,
            dpop: None,
            way: Way::Person(None),
            error: None,
        })
    }

    /// A server of the Model Context Protocol at this address: its document may be that of a resource
    /// [above](Deviation::ResourceAbove) it, as such servers write it.
    ///
    /// # Errors
    ///
    /// If it is no such address.
    pub fn mcp(address: &str) -> Result<Self, Error> {
        Ok(Self::new(address)?.tolerate(Deviations::TOLERATED.with(Deviation::ResourceAbove)))
    }

    /// In which ways the resource's documents and its servers' answers may stray from the standards;
    /// [`Deviations::TOLERATED`] unless told.
    pub fn tolerate(mut self, deviations: Deviations) -> Self {
        self.tolerated = deviations;
        self
    }

    /// A client that was registered before; may be called several times, for several servers. It must be
    /// [bound](Client::registered_at) to its server, since nobody but the resource says which server is asked: that server
    /// counts as [chosen](Self::authorization_server).
    pub fn client(mut self, client: Client) -> Self {
        if client.issuer().is_none() {
            let why = "the client of a protected resource must be bound to its server (Client::registered_at)";
            self.error.get_or_insert(Error::config(why));
        }
        self.clients.push(client);
        self
    }

    /// The client that the document at this address describes, whose `client_id` the address is: see [`ClientDocument`]. It is
    /// used at servers that read such documents (`client_id_metadata_document_supported`).
    pub fn client_document(mut self, address: &str) -> Self {
        if let Err(error) = client_document::check_address(address) {
            self.error.get_or_insert(error);
        }
        self.document = Some(address.into());
        self
    }

    /// Registers a client (RFC 7591) at servers where none is known and that take registrations. What the sign-in determines is
    /// told besides: the redirect URI, the grants, the kind `native`, and how the client authenticates, unless `metadata` says
    /// that. A registration is kept in the store, for all programs that tell the same of themselves.
    ///
    /// ```
    /// use grantflow::register::ClientMetadata;
    /// use grantflow::resource::ProtectedResource;
    ///
    /// let resource = ProtectedResource::mcp("https://mcp.example.com/mcp")?
    ///     .register(ClientMetadata::new().client_name("My tool"));
    /// # let _ = resource;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    ///
    /// Since some servers compare redirect URIs letter by letter, the port is a fixed one for each server, unless
    /// [`app`](Self::app) says which.
    pub fn register(mut self, metadata: ClientMetadata) -> Self {
        self.registration = Some(metadata);
        self
    }

    /// A server that the program has chosen: it may be in a private network. Where the resource takes tokens of several
    /// servers, those that were chosen come first, in this order.
    pub fn authorization_server(mut self, issuer: Issuer) -> Self {
        self.chosen.push(issuer);
        self
    }

    /// Asks for these scopes, and for those that a challenge names besides. Unless told, for those that the challenge names;
    /// without one, for all that the resource's document lists (`scopes_supported`), or for none. `offline_access` is asked
    /// for where the server lists it, and only there.
    pub fn scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.scopes = Some(scopes.into());
        self
    }

    /// Has the tokens bound to this key (RFC 9449), where the server takes proofs or the resource demands them. A grant in a
    /// store is of no use without it: see [`DpopKeyInStore`](crate::store::DpopKeyInStore).
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.dpop = Some(key);
        self
    }

    /// Adjusts how a person signs in: by a device's code, with a pasted address, in which browser, on which port. What the
    /// resource determines, such as scopes and `resource`, is set afterwards.
    ///
    /// ```
    /// use grantflow::resource::ProtectedResource;
    ///
    /// let resource = ProtectedResource::new("https://api.example/")?.app(|app| app.paste(true).port(8765));
    /// # let _ = resource;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    pub fn app(mut self, adjust: impl Fn(InstalledApp) -> InstalledApp + Send + Sync + 'static) -> Self {
        self.way = Way::Person(Some(Arc::new(adjust)));
        self
    }

    /// Gets tokens of no person: from the source that this makes for the access that was found. See
    /// [`Access::client_credentials`], [`Access::assertion`] and [`Access::identity_assertion`].
    ///
    /// ```
    /// use grantflow::resource::{Access, ProtectedResource};
    /// use grantflow::{Client, ClientAuthentication, Issuer};
    ///
    /// let client = Client::new("batch")
    ///     .authentication(ClientAuthentication::client_secret_basic("s3cret"))
    ///     .registered_at(Issuer::new("https://as.example")?);
    /// let resource = ProtectedResource::mcp("https://mcp.example.com/mcp")?
    ///     .client(client)
    ///     .source(|access| access.client_credentials());
    /// # let _ = resource;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    pub fn source<S: TokenSource + 'static>(
        mut self,
        make: impl Fn(&Access) -> Result<S, Error> + Send + Sync + 'static,
    ) -> Self {
        self.way = Way::Source(Arc::new(move |access| Ok(Arc::new(make(access)?))));
        self
    }

    /// The address, as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether an address lies within the resource, so that requests to it may carry the resource's tokens: the same origin,
    /// and its path begins with the resource's.
    pub fn holds(&self, address: &str) -> bool {
        metadata::is_above(self.endpoint.as_str(), address)
    }

    /// The host that the resource's tokens may be sent to.
    pub fn hosts(&self) -> Hosts {
        let origin = Url::parse(self.endpoint.as_str()).map(|url| url.origin().ascii_serialization());
        Hosts::from(origin.unwrap_or_default())
    }

    /// For adapters: whether a request to this address may be made with the resource's tokens.
    ///
    /// # Errors
    ///
    /// If the address does not lie [within](Self::holds) the resource.
    pub fn check(&self, address: &str) -> Result<(), Error> {
        if self.holds(address) {
            return Ok(());
        }
        let (address, own) = (crate::shown::without_query(address), &self.endpoint);
        Err(Error::config(format!("{address} does not lie within the resource {own:?}: no token is sent there")))
    }

    /// The machine that finds a server and a client there, from the address alone.
    pub fn find(&self) -> FindAccess {
        FindAccess::new(self, None, None)
    }

    /// The same, after the resource has refused a request with this demand. Its metadata is read anew, since a refusal may mean
    /// that it has changed (RFC 9728, section 5.2).
    pub fn find_for(&self, demand: &Demand) -> FindAccess {
        FindAccess::new(self, Some(demand), None)
    }

    /// As [`find_for`](Self::find_for), after access was found and has led to this demand: at the same server it is for the same
    /// client, and for the scopes that were asked for before too.
    pub fn find_again(&self, demand: &Demand, before: &Access) -> FindAccess {
        FindAccess::new(self, Some(demand), Some(before))
    }

    /// An application, as it is to be for people.
    fn adjusted(&self, app: InstalledApp) -> InstalledApp {
        match &self.way {
            Way::Person(Some(adjust)) => adjust(app),
            _ => app,
        }
    }

    /// Whether two addresses are of one origin.
    fn is_of_origin(&self, address: &str) -> bool {
        let origin = |address: &str| Some(Url::parse(address).ok()?.origin());
        origin(address).is_some_and(|other| Some(other) == origin(self.endpoint.as_str()))
    }
}

/// Shows the clients' names and no key.
impl fmt::Debug for ProtectedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectedResource")
            .field("address", &self.endpoint)
            .field("clients", &self.clients)
            .field("client_document", &self.document.as_deref().map(crate::Shown::name))
            .field("authorization_servers", &self.chosen)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}
