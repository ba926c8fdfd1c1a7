//! From a resource to access: the machine that finds a server and a client there.

use sha2::{Digest as _, Sha256};

use super::discovery::is_none_here;
use super::{Access, Demand, ProtectedResource, ResourceDiscovery, ResourceMetadata, Way};
use crate::grant::device::GRANT_TYPE as DEVICE_GRANT;
use crate::machine::ask;
use crate::register::{ClientMetadata, RegisteredClient, Registration};
use crate::server::Namer;
use crate::store::RegistrationInStore;
use crate::{
    Client, Cx, Deviation, Discovery, Error, ErrorKind, Exchange, InstalledApp, Issuer, Machine, Reply, Scopes,
    ServerMetadata, Step,
};

/// The most authorization servers to try.
const SERVERS: usize = 4;

/// The machine that finds access to a resource: its metadata, one of its authorization servers, and a client there.
///
/// ```text
/// Resource ─▶ Server ─▶ (Register, where no client is known and there may be one) ─▶ done
///               ▲  │ it cannot be used, and there is another
///               └──┘
/// ```
///
/// A server is used only if its metadata is its own and, where a person signs in with a browser, says that it accepts PKCE
/// with S256 (`code_challenge_methods_supported`), or, where by a device's code, that it issues such codes. A server that
/// fails for a while is passed over too, unless the program has chosen it or had access by it. The store that the run is
/// bound to keeps a registration, for all clients of the same server; without a store the registration is made anew.
#[derive(Debug)]
pub struct FindAccess {
    resource: ProtectedResource,
    demand: Option<Demand>,
    stage: Stage,
    /// What was found before.
    before: Option<Access>,
    /// Whether the server that is tried was chosen, or had access before.
    is_wanted: bool,
    /// Servers that were not tried yet, the last one first.
    servers: Vec<Issuer>,
    /// Why the servers before cannot be used.
    failed: Option<Error>,
}

#[allow(clippy::large_enum_variant, reason = "it is this large for all but its first and last moment")]
#[derive(Debug)]
enum Stage {
    Resource(ResourceDiscovery),
    Server(Box<Discovery>, ResourceMetadata),
    Register(Registering, Box<Registration>, ResourceMetadata),
    Ended,
}

/// A registration that is looked for in the store, or made.
#[derive(Debug)]
enum Registering {
    Kept(Box<RegistrationInStore>),
    Made(Box<Exchange<RegisteredClient>>),
}

impl FindAccess {
    pub(super) fn new(resource: &ProtectedResource, demand: Option<&Demand>, before: Option<&Access>) -> Self {
        Self {
            resource: resource.clone(),
            demand: demand.cloned(),
            stage: Stage::Resource(ResourceDiscovery::new(resource, demand)),
            before: before.cloned(),
            is_wanted: false,
            servers: Vec::new(),
            failed: None,
        }
    }

    /// With the resource's metadata, or with what is assumed where there is none and that is tolerated.
    fn described(&mut self, found: Result<ResourceMetadata, Error>) -> Result<Stage, Error> {
        let may_lack = self.resource.tolerated.contains(Deviation::NoResourceMetadata);
        let metadata = match found {
            Err(error) if may_lack && is_none_here(&error) => {
                let issuer = Issuer::of_origin(self.resource.endpoint.as_str())?;
                ResourceMetadata::assumed(self.resource.address(), issuer)
            }
            found => found?,
        };
        let known = |issuer: &Issuer| self.resource.rank(issuer);
        let mut servers = metadata.authorization_servers().to_vec();
        // A secret, or what proves a workload, would be the next one's to use: no resource says who is shown it.
        if matches!(self.resource.way, Way::Source(_)) {
            servers.retain(|issuer| self.resource.is_chosen(issuer));
            if servers.is_empty() && !metadata.authorization_servers().is_empty() {
                return Err(not_named(&metadata));
            }
        }
        servers.sort_by_key(known);
        servers.truncate(SERVERS);
        servers.reverse();
        self.servers = servers;
        self.next(metadata)
    }

    /// Asks the next server, if there is one.
    fn next(&mut self, metadata: ResourceMetadata) -> Result<Stage, Error> {
        let Some(issuer) = self.servers.pop() else {
            return Err(self.failed.take().unwrap_or_else(|| metadata.no_server()));
        };
        let discovery = Discovery::mcp(&issuer).tolerate(self.resource.tolerated);
        let discovery = discovery.named_by(self.resource.server_namer(&issuer));
        let had_access = self.before.as_ref().is_some_and(|before| *before.server().issuer() == issuer);
        self.is_wanted = had_access || self.resource.is_chosen(&issuer);
        Ok(Stage::Server(Box::new(discovery), metadata))
    }

    /// Access at this server, or what is to be done there before.
    fn access(&self, metadata: ResourceMetadata, server: ServerMetadata) -> Result<Found, Error> {
        let resource = &self.resource;
        if matches!(resource.way, Way::Person(_)) {
            match resource.is_for_devices(&server) {
                true => drop(server.device_authorization()?),
                false => check_s256(&server)?,
            }
        }
        let known = self.before.as_ref().and_then(|before| before.client_of(server.issuer()));
        let (client, redirect_uri) = match known {
            Some((client, redirect_uri)) => (Some(client), redirect_uri),
            None => match resource.client_at(&server)? {
                At::Known(client) => (client, None),
                At::Register(registration) => {
                    let kept = Registering::Kept(Box::new(RegistrationInStore::new((*registration).clone())));
                    return Ok(Found::Next(Stage::Register(kept, registration, metadata)));
                }
            },
        };
        self.access_of(metadata, server, client, redirect_uri)
    }

    fn access_of(
        &self,
        metadata: ResourceMetadata,
        server: ServerMetadata,
        client: Option<Client>,
        redirect_uri: Option<Box<str>>,
    ) -> Result<Found, Error> {
        let resource = &self.resource;
        let client = match (&resource.dpop, metadata.dpop_bound_access_tokens_required()) {
            (Some(key), required) if required || server.get("dpop_signing_alg_values_supported").is_some() => {
                client.map(|client| client.dpop(key.clone()))
            }
            (None, true) => {
                let why =
                    "the resource takes tokens alone that are bound to a key: give it one (ProtectedResource::dpop)";
                return Err(Error::config(why));
            }
            _ => client,
        };
        let (scopes, needed) = resource.scopes_for(&metadata, &server, self.demand.as_ref());
        let access = Access::new(resource.clone(), metadata, server, client, (scopes, needed), self.demand.clone());
        let access = access.with_redirect_uri(redirect_uri);
        let here = self.before.as_ref().filter(|before| before.server().issuer() == access.server().issuer());
        Ok(Found::Access(Box::new(match here {
            Some(before) => access.and_scopes(before.scopes()),
            None => access,
        })))
    }

    fn registered(
        &mut self,
        found: Result<RegisteredClient, Error>,
        registration: &Registration,
        metadata: ResourceMetadata,
    ) -> Result<Found, Error> {
        let found = found.and_then(|registered| {
            let server = registered.server(registration.server())?;
            let redirect_uri = registration.metadata().list("redirect_uris").unwrap_or_default().first().copied();
            let redirect_uri = redirect_uri.map(Into::into);
            self.access_of(metadata.clone(), server, Some(registered.client()?), redirect_uri)
        });
        found.or_else(|error| self.passed_over(error, metadata))
    }

    /// What a server came to: access, or the next server.
    fn found(&mut self, found: Result<ServerMetadata, Error>, metadata: ResourceMetadata) -> Result<Found, Error> {
        let assumed = metadata.deviations().contains(Deviation::NoResourceMetadata);
        let found = match found {
            Err(error) if assumed && is_none_here(&error) => assumed_server(&metadata),
            // Nobody is asked to sign in elsewhere because this one is down.
            Err(error) if error.is_transient() && self.is_wanted => return Err(error),
            found => found,
        };
        found
            .and_then(|server| self.access(metadata.clone(), server))
            .or_else(|error| self.passed_over(error, metadata))
    }

    fn was_registered(&mut self, found: Result<RegisteredClient, Error>) -> Result<Found, Error> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Register(_, registration, metadata) => self.registered(found, &registration, metadata),
            _ => Err(Error::misuse("finding access")),
        }
    }

    /// The next server, after one that cannot be used.
    fn passed_over(&mut self, error: Error, metadata: ResourceMetadata) -> Result<Found, Error> {
        self.failed = Some(match self.failed.take() {
            Some(first) => first.beside(&error),
            None => error,
        });
        self.next(metadata).map(Found::Next)
    }
}

/// The client at a server: known, unless the source can do without, or to be registered.
enum At {
    Known(Option<Client>),
    Register(Box<Registration>),
}

/// The port of the redirect URI that a program registers at a server: always the same, since some servers compare it; another one
/// than other programs', which may wait for an answer at the same time; and below those that systems give to connections (from
/// 32768 on).
fn port_at(issuer: &Issuer, metadata: &ClientMetadata) -> u16 {
    let client = serde_json::to_string(metadata).unwrap_or_default();
    let [first, second, ..]: [u8; 32] = Sha256::digest(format!("{issuer}\n{client}")).into();
    0x5000_u16.saturating_add(u16::from_be_bytes([first, second]) % 0x3000)
}

#[allow(clippy::large_enum_variant, reason = "it lives for a moment")]
enum Found {
    Access(Box<Access>),
    Next(Stage),
}

/// Why nothing is shown to the servers of this resource.
fn not_named(metadata: &ResourceMetadata) -> Error {
    let servers = metadata.authorization_servers();
    Error::config(format!(
        "the program has named none of the servers whose tokens the resource takes, {servers:?}: without a person nothing is shown \
         to a server that the resource alone names; name it (ProtectedResource::client, ProtectedResource::authorization_server)"
    ))
}

/// The endpoints that MCP of 2025-03-26 gives a server without metadata.
fn assumed_server(metadata: &ResourceMetadata) -> Result<ServerMetadata, Error> {
    let none = || Error::misuse("finding access");
    let issuer = metadata.authorization_servers().first().ok_or_else(none)?;
    let at = |path: &str| format!("{}{path}", issuer.as_str());
    let server = ServerMetadata::new(issuer.clone())
        .authorization_endpoint(&at("/authorize"))?
        .token_endpoint(&at("/token"))?
        .registration_endpoint(&at("/register"))?;
    Ok(server.member("code_challenge_methods_supported", vec!["S256"].into()))
}

/// Whether the server says that it takes PKCE with S256: one that does not say so may not check it at all.
fn check_s256(server: &ServerMetadata) -> Result<(), Error> {
    if server.knows_s256() {
        return Ok(());
    }
    let issuer = server.issuer();
    Err(Error::config(format!(
        "{issuer} does not say that it takes PKCE with S256 (code_challenge_methods_supported): no sign-in is begun there"
    )))
}

impl ProtectedResource {
    /// In which order servers are tried: those that were chosen, those that a client is registered at, all others.
    fn rank(&self, issuer: &Issuer) -> usize {
        let chosen = self.chosen.iter().chain(self.clients.iter().filter_map(Client::issuer));
        chosen.take_while(|known| *known != issuer).count()
    }

    fn server_namer(&self, issuer: &Issuer) -> Namer {
        if self.is_chosen(issuer) { Namer::Configured } else { self.namer(issuer.as_str()) }
    }

    fn is_chosen(&self, issuer: &Issuer) -> bool {
        self.chosen.contains(issuer) || self.clients.iter().any(|client| client.issuer() == Some(issuer))
    }

    fn is_for_devices(&self, server: &ServerMetadata) -> bool {
        self.adjusted(InstalledApp::new(server, &Client::new(""))).is_for_devices()
    }

    /// The client at this server.
    fn client_at(&self, server: &ServerMetadata) -> Result<At, Error> {
        let issuer = server.issuer();
        if let Some(client) = self.clients.iter().find(|client| client.issuer() == Some(issuer)) {
            return Ok(At::Known(Some(client.clone())));
        }
        let reads_documents = server.get("client_id_metadata_document_supported") == Some(&true.into());
        if let Some(address) = self.document.as_ref().filter(|_| reads_documents) {
            return Ok(At::Known(Some(Client::new(address.clone()).registered_at(issuer.clone()))));
        }
        if matches!(self.way, Way::Source(_)) {
            return Ok(At::Known(None));
        }
        let takes_registrations = server.registration().is_ok();
        if let Some(metadata) = self.registration.as_ref().filter(|_| takes_registrations) {
            return Ok(At::Register(Box::new(self.registration_at(server, metadata)?)));
        }
        let mut why = format!("no client is known at {issuer}, whose tokens the resource takes: register one there");
        if let Some(other) = self.clients.iter().find_map(Client::issuer) {
            why.push_str(&format!(" (the one that was given is registered at {other})"));
        }
        why.push_str(" and give it (ProtectedResource::client)");
        if reads_documents {
            why.push_str(", or publish a document of it, which that server reads (ProtectedResource::client_document)");
        }
        if takes_registrations {
            why.push_str(", or let the program register itself (ProtectedResource::register)");
        }
        Err(Error::config(why))
    }

    /// The registration of a client that signs people in as this program does (RFC 7591, section 2.1).
    fn registration_at(&self, server: &ServerMetadata, metadata: &ClientMetadata) -> Result<Registration, Error> {
        let app = self.adjusted(InstalledApp::new(server, &Client::new("")));
        let methods = server.algorithms("token_endpoint_auth_methods_supported").unwrap_or_default();
        // In the server's order: some list `client_secret_basic` last, and want a `client_id` in the form all the same.
        let of_secrets = |method: &&str| matches!(*method, "client_secret_basic" | "client_secret_post");
        let first = methods.iter().copied().find(of_secrets);
        let method = if methods.contains(&"none") { Some("none") } else { first };
        let own = metadata.str("token_endpoint_auth_method").map(str::to_owned);
        let told = metadata
            .clone()
            .application_type("native")
            .token_endpoint_auth_method(own.as_deref().or(method).unwrap_or("client_secret_basic"));
        let metadata = if app.is_for_devices() {
            told.grant_types([DEVICE_GRANT, "refresh_token"]).response_types([] as [&str; 0])
        } else {
            told.redirect_uris([app.redirect_uri_to_register(port_at(server.issuer(), metadata))?])
                .grant_types(["authorization_code", "refresh_token"])
                .response_types(["code"])
        };
        Registration::new(server, metadata)
    }

    /// The scopes to ask for, and those of them that a grant must have.
    fn scopes_for(
        &self,
        metadata: &ResourceMetadata,
        server: &ServerMetadata,
        demand: Option<&Demand>,
    ) -> (Scopes, Scopes) {
        let challenged = demand.map(Demand::scopes).filter(|scopes| !scopes.is_empty());
        let needed: Scopes = self.scopes.iter().chain(challenged).flat_map(Scopes::iter).collect();
        let named = self.scopes.is_some() || challenged.is_some();
        let asked = if named { needed.clone() } else { metadata.scopes_supported().cloned().unwrap_or_default() };
        // What is listed for resources is no word of the server.
        let lists_offline = server.algorithms("scopes_supported").is_some_and(|listed| listed.contains(&OFFLINE));
        let offline = (lists_offline && matches!(self.way, Way::Person(_))).then_some(OFFLINE);
        let asked = asked.iter().filter(|scope| *scope != OFFLINE).chain(offline).collect();
        (asked, needed)
    }
}

/// The scope that asks for a refresh token (OpenID Connect Core 1.0, section 11).
pub(super) const OFFLINE: &str = "offline_access";

impl Machine for FindAccess {
    type Output = Access;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Access> {
        loop {
            let next = match &mut self.stage {
                Stage::Resource(discovery) => {
                    let found = ask!(discovery, cx, reply);
                    self.described(found).map(Found::Next)
                }
                Stage::Server(discovery, _) => {
                    let found = ask!(&mut **discovery, cx, reply);
                    let Stage::Server(_, metadata) = std::mem::replace(&mut self.stage, Stage::Ended) else {
                        return Step::Done(Err(Error::misuse("finding access")));
                    };
                    self.found(found, metadata)
                }
                Stage::Register(Registering::Kept(kept), registration, _) => match ask!(&mut **kept, cx, reply) {
                    // There is no store.
                    Err(error) if error.kind() == ErrorKind::Unsupported => {
                        let made = Registering::Made(Box::new((**registration).clone().exchange()));
                        let Stage::Register(_, registration, metadata) =
                            std::mem::replace(&mut self.stage, Stage::Ended)
                        else {
                            return Step::Done(Err(Error::misuse("finding access")));
                        };
                        Ok(Found::Next(Stage::Register(made, registration, metadata)))
                    }
                    found => self.was_registered(found),
                },
                Stage::Register(Registering::Made(exchange), ..) => {
                    let found = ask!(&mut **exchange, cx, reply);
                    self.was_registered(found)
                }
                Stage::Ended => Err(Error::misuse("finding access")),
            };
            match next {
                Ok(Found::Access(access)) => {
                    self.stage = Stage::Ended;
                    return Step::Done(Ok(*access));
                }
                Ok(Found::Next(stage)) => self.stage = stage,
                Err(error) => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(error));
                }
            }
        }
    }
}
