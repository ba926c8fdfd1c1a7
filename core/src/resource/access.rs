//! Access to a resource, once it is found: the server and the client of a sign-in, or a source of tokens without a
//! person.

use std::fmt;
use std::sync::Arc;

use super::{Demand, ProtectedResource, ResourceMetadata, Way};
use crate::source::{AssertedToken, Base, Credential, Server, TokenSource, Want};
use crate::{Client, Error, InstalledApp, Issuer, Scopes, ServerMetadata};

/// The access to a protected resource, as [`FindAccess`](super::FindAccess) found it.
#[derive(Clone)]
pub struct Access {
    resource: ProtectedResource,
    metadata: ResourceMetadata,
    server: ServerMetadata,
    client: Option<Client>,
    scopes: Scopes,
    needed: Scopes,
    demand: Option<Demand>,
    /// The redirect URI that the client was registered with, by itself.
    redirect_uri: Option<Box<str>>,
}

impl Access {
    pub(super) fn new(
        resource: ProtectedResource,
        metadata: ResourceMetadata,
        server: ServerMetadata,
        client: Option<Client>,
        (scopes, needed): (Scopes, Scopes),
        demand: Option<Demand>,
    ) -> Self {
        Self { resource, metadata, server, client, scopes, needed, demand, redirect_uri: None }
    }

    pub(super) fn with_redirect_uri(self, redirect_uri: Option<Box<str>>) -> Self {
        Self { redirect_uri, ..self }
    }

    /// The client that was found, if it is of this server, and its redirect URI.
    pub(super) fn client_of(&self, issuer: &Issuer) -> Option<(Client, Option<Box<str>>)> {
        let client = self.client.clone().filter(|client| client.issuer() == Some(issuer))?;
        Some((client, self.redirect_uri.clone()))
    }

    /// The metadata of the resource.
    pub fn metadata(&self) -> &ResourceMetadata {
        &self.metadata
    }

    /// The authorization server.
    pub fn server(&self) -> &ServerMetadata {
        &self.server
    }

    /// The client at that server.
    ///
    /// # Errors
    ///
    /// If no client is known, which is permitted only with a [source](ProtectedResource::source).
    pub fn client(&self) -> Result<&Client, Error> {
        let issuer = self.server.issuer();
        let none = || Error::config(format!("no client is known at {issuer}: give one (ProtectedResource::client)"));
        self.client.as_ref().ok_or_else(none)
    }

    /// The scopes to ask for.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Adds scopes to ask for: those that were asked for before, at the same server.
    #[must_use]
    pub fn and_scopes(mut self, scopes: &Scopes) -> Self {
        let new: Vec<_> = scopes.iter().filter(|scope| !self.scopes.contains(scope)).collect();
        self.scopes = self.scopes.iter().chain(new).collect();
        self
    }

    /// The want for a token manager: a token for the resource, with the [scopes](Self::scopes).
    pub fn want(&self) -> Want {
        Want::access_token(self.scopes.clone()).resource(self.metadata.resource())
    }

    /// The sign-in of a person. A store keeps its grant by server, client and resource.
    ///
    /// # Errors
    ///
    /// If no client is known.
    pub fn app(&self) -> Result<InstalledApp, Error> {
        let app = InstalledApp::new(&self.server, self.client()?);
        let app = self.resource.adjusted(app);
        let app = self.redirect_uri.iter().fold(app, |app, uri| app.redirect_uri(uri));
        let app = app.scopes(self.scopes.clone()).needs(self.needed.clone()).resource(self.metadata.resource());
        let Some(demand) = &self.demand else { return Ok(app) };
        let app = demand.acr_values().into_iter().fold(app, |app, values| app.extra("acr_values", values));
        Ok(demand.max_age().into_iter().fold(app, |app, seconds| app.extra("max_age", &seconds.to_string())))
    }

    /// For adapters: the source of tokens without a person, if the resource was given [one](ProtectedResource::source).
    ///
    /// # Errors
    ///
    /// Those of the function that makes the source.
    pub fn source(&self) -> Result<Option<Arc<dyn TokenSource>>, Error> {
        match &self.resource.way {
            Way::Person(_) => Ok(None),
            Way::Source(make) => make(self).map(Some),
        }
    }

    /// A source by the client's own credentials (RFC 6749, section 4.4): a secret or a signed assertion.
    ///
    /// # Errors
    ///
    /// If no client is known.
    pub fn client_credentials(&self) -> Result<Credential, Error> {
        Ok(Credential::client_credentials(&self.server, self.client()?))
    }

    /// A source of tokens for the assertions of `base`, such as a platform's tokens: see [`AssertedToken`].
    pub fn assertion(&self, base: impl Into<Base>) -> AssertedToken {
        let source = AssertedToken::new(base, &self.server);
        self.client.iter().fold(source, |source, client| source.client(client))
    }

    /// A source of tokens for what a company's identity provider says of a user: see
    /// [`AssertedToken::identity_assertion`].
    pub fn identity_assertion(
        &self,
        base: impl Into<Base>,
        subject_token_type: &str,
        idp: impl Into<Server>,
        idp_client: &Client,
    ) -> AssertedToken {
        let resource = self.metadata.resource();
        let source =
            AssertedToken::identity_assertion(base, subject_token_type, idp, idp_client, &self.server, resource);
        self.client.iter().fold(source, |source, client| source.client(client))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("metadata", &self.metadata)
            .field("server", &self.server)
            .field("client", &self.client)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}
