//! Protected resources (RFC 9728): from an address, or from a refusal, to a sign-in at a server whose tokens the
//! resource accepts. It is the whole of the Model Context Protocol's authorization.
//!
//! ```text
//!  address ─┐   FindAccess                                              Access
//!           ├─▶ the resource's metadata ─▶ its server's ─▶ a client ─▶  app()    ─▶ a person signs in
//!  Demand ──┘                                              there        source() ─▶ a token of no person
//! ```
//!
//! The program's configuration has not chosen what a resource's documents name. Requests to it go to global addresses
//! alone ([`Reach::Global`](crate::machine::Reach::Global)), except to the resource's own origin, to servers that the
//! program [names](ProtectedResource::authorization_server) or is registered at, and to this machine if the resource is
//! on it.

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

/// A protected resource by its address, and the client that asks for access to it: plain data, which an adapter's
/// `load_or_sign_in_to` and its client for resources carry out.
///
/// The client is found in this order: one that was [registered](Self::client) at the server before; one that a
/// [document](Self::client_document) describes, if the server reads such documents; one that [registers
/// itself](Self::register), if the server accepts registrations. Otherwise the error says what to give.
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
/// A value that a setter cannot take is an error of kind [`ErrorKind::Config`](crate::ErrorKind::Config) where access
/// is looked for.
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
    /// If the address is none of these.
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

    /// A server of the Model Context Protocol at this address. Its document may be that of a resource
    /// [above](Deviation::ResourceAbove) it, as such servers write it.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn mcp(address: &str) -> Result<Self, Error> {
        Ok(Self::new(address)?.tolerate(Deviations::TOLERATED.with(Deviation::ResourceAbove)))
    }

    /// Sets which deviations from the standards to tolerate in the resource's documents and its servers' answers;
    /// [`Deviations::TOLERATED`] by default.
    pub fn tolerate(mut self, deviations: Deviations) -> Self {
        self.tolerated = deviations;
        self
    }

    /// Adds a client that was registered before; may be called several times, for several servers. The client must be
    /// [bound](Client::registered_at) to its server, since the resource alone says which server is asked. That server
    /// counts as [chosen](Self::authorization_server).
    pub fn client(mut self, client: Client) -> Self {
        if client.issuer().is_none() {
            let why = "the client of a protected resource must be bound to its server (Client::registered_at)";
            self.error.get_or_insert(Error::config(why));
        }
        self.clients.push(client);
        self
    }

    /// Sets the client by the document that describes it, whose address is the `client_id`: see [`ClientDocument`]. It
    /// is used at servers that read such documents (`client_id_metadata_document_supported`).
    pub fn client_document(mut self, address: &str) -> Self {
        if let Err(error) = client_document::check_address(address) {
            self.error.get_or_insert(error);
        }
        self.document = Some(address.into());
        self
    }

    /// Registers a client (RFC 7591) at servers where none is known and that accept registrations. The sign-in adds its
    /// own members: the redirect URI, the grants, the kind `native`, and how the client authenticates, unless
    /// `metadata` says that. The store keeps a registration for all programs that have the same metadata.
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
    /// Since some servers compare redirect URIs character by character, each server has one fixed port, unless
    /// [`app`](Self::app) sets it.
    pub fn register(mut self, metadata: ClientMetadata) -> Self {
        self.registration = Some(metadata);
        self
    }

    /// Adds a server that the program has chosen, which may be in a private network. If the resource accepts tokens of
    /// several servers, the chosen ones come first, in this order.
    pub fn authorization_server(mut self, issuer: Issuer) -> Self {
        self.chosen.push(issuer);
        self
    }

    /// Asks for these scopes, and for those that a challenge names. By default it asks for those that the challenge
    /// names; without a challenge, for all that the resource's document lists (`scopes_supported`), or for none.
    /// `offline_access` is asked for where the server lists it, and only there.
    pub fn scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.scopes = Some(scopes.into());
        self
    }

    /// Binds the tokens to this key (RFC 9449), if the server accepts proofs or the resource demands them. A grant in a
    /// store is of no use without the key: see [`DpopKeyInStore`](crate::store::DpopKeyInStore).
    pub fn dpop(mut self, key: DpopKey) -> Self {
        self.dpop = Some(key);
        self
    }

    /// Adjusts the sign-in of a person: by a device's code, with a pasted address, in which browser, on which port. The
    /// values that the resource determines, such as scopes and `resource`, are set afterwards.
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

    /// Gets tokens without a person: from the source that this function makes for the access that was found. See
    /// [`Access::client_credentials`], [`Access::assertion`] and [`Access::identity_assertion`]. Of the servers that the
    /// resource names, only those count that the program names too, by a [`client`](Self::client) or as an
    /// [`authorization_server`](Self::authorization_server): another one could use elsewhere what it is shown.
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

    /// The address of the resource, as it was given.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether an address lies within the resource, so that requests to it may carry the resource's tokens: it has the
    /// same origin, and its path begins with the resource's.
    pub fn holds(&self, address: &str) -> bool {
        metadata::is_above(self.endpoint.as_str(), address)
    }

    /// The host that the resource's tokens may be sent to.
    pub fn hosts(&self) -> Hosts {
        let origin = Url::parse(self.endpoint.as_str()).map(|url| url.origin().ascii_serialization());
        Hosts::from(origin.unwrap_or_default())
    }

    /// For adapters: checks that requests to this address may carry the resource's tokens.
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

    /// The machine that finds access after the resource has refused a request with this demand. The metadata is read
    /// anew, since a refusal may mean that it has changed (RFC 9728, section 5.2).
    pub fn find_for(&self, demand: &Demand) -> FindAccess {
        FindAccess::new(self, Some(demand), None)
    }

    /// The machine that finds access after the access `before` has led to this demand: at the same server it is for the
    /// same client, and for the scopes that were asked for before too.
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
