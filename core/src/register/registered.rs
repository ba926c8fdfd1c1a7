//! A client as its server has registered it (RFC 7591, section 3.2.1).

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::metadata::{ClientMetadata, OF_THE_SERVER, is_same};
use crate::client::ClientAuthentication;
use crate::crypto::{Algorithm, MacAlgorithm};
use crate::exchange::{Received, error_under_success, is_printable};
use crate::json::{self, Object};
use crate::machine::Reach;
use crate::secret::stored;
use crate::server::is_loopback_address;
use crate::{Client, Endpoint, Error, ErrorKind, Issuer, Secret, ServerMetadata, Shown, Timestamp};

/// A client as its server has registered it: its name, its secret, its metadata, and the access to its registration.
///
/// It can be serialized, and then holds secrets. It belongs to one server, and is refused at any other.
#[derive(Clone, Serialize, Deserialize)]
pub struct RegisteredClient {
    issuer: Issuer,
    client_id: Box<str>,
    #[serde(with = "stored::option", default, skip_serializing_if = "Option::is_none")]
    client_secret: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_id_issued_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_secret_expires_at: Option<Timestamp>,
    #[serde(with = "stored::option", default, skip_serializing_if = "Option::is_none")]
    registration_access_token: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registration_client_uri: Option<Endpoint>,
    asked: ClientMetadata,
    registered: ClientMetadata,
    /// Why it is not in the store, if it should be.
    #[serde(skip)]
    pub(super) save_error: Option<Error>,
}

/// A member that the server has registered in another way than the client asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change<'a> {
    /// The name of the member.
    pub name: &'a str,
    /// The value that the client asked for.
    pub asked: &'a Value,
    /// The value that was registered; `None` if the answer has none.
    pub registered: Option<&'a Value>,
}

impl RegisteredClient {
    /// Reads an answer. What cannot be read of it costs itself alone: the client is registered whatever else is wrong.
    pub(super) fn parse(
        received: Received<'_>,
        issuer: &Issuer,
        global: bool,
        asked: &ClientMetadata,
    ) -> Result<Self, Error> {
        let body = received.response.body();
        let invalid = |why: &'static str| Error::new(ErrorKind::InvalidResponse, why);
        let Object { mut members, .. } = json::object(body).map_err(|_| invalid("the answer is no JSON object"))?;
        let mut text = |name: &str| match members.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(Secret::from(text)),
            _ => None,
        };
        let client_id = text("client_id").filter(|id| is_printable(id.expose(), b' '));
        let Some(client_id) = client_id else {
            return Err(error_under_success(body).unwrap_or_else(|| invalid("the answer has no client_id")));
        };
        let client_secret = text("client_secret");
        let token = text("registration_access_token").filter(|token| is_printable(token.expose(), b'!'));
        let address = text("registration_client_uri").and_then(|address| {
            let (made, may_be_here) = match global {
                true => (Endpoint::of_stranger(address.expose()), false),
                false => (Endpoint::new(address.expose()), is_loopback_address(issuer.as_str())),
            };
            // One on this machine is believed of a server on this machine alone: the token goes there.
            made.ok().filter(|address| may_be_here || address.reach() != Reach::Local)
        });
        let mut moment = |name: &str| match members.remove(name)? {
            Value::Number(number) => number.as_i64().or_else(|| Some(number.as_f64()? as i64)),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let issued = moment("client_id_issued_at").map(Timestamp::from_unix);
        let expires = moment("client_secret_expires_at").filter(|&at| at != 0 && client_secret.is_some());
        members.retain(|name, value| !value.is_null() && !OF_THE_SERVER.contains(&&**name));
        Ok(Self {
            issuer: issuer.clone(),
            client_id: client_id.expose().into(),
            client_secret,
            client_id_issued_at: issued,
            client_secret_expires_at: expires.map(Timestamp::from_unix),
            registration_access_token: token,
            registration_client_uri: address,
            asked: asked.clone(),
            registered: ClientMetadata::of(members),
            save_error: None,
        })
    }

    /// The same client by a later answer, which need not say again what stays (RFC 7592, section 3).
    pub(super) fn renewed(&self, newer: Self) -> Result<Self, Error> {
        if newer.client_id != self.client_id {
            return Err(Error::new(ErrorKind::InvalidResponse, "the answer is about another client (client_id)"));
        }
        let expires =
            if newer.client_secret.is_some() { newer.client_secret_expires_at } else { self.client_secret_expires_at };
        Ok(Self {
            client_secret: newer.client_secret.or_else(|| self.client_secret.clone()),
            client_secret_expires_at: expires,
            client_id_issued_at: newer.client_id_issued_at.or(self.client_id_issued_at),
            registration_access_token: newer
                .registration_access_token
                .or_else(|| self.registration_access_token.clone()),
            registration_client_uri: newer.registration_client_uri.or_else(|| self.registration_client_uri.clone()),
            ..newer
        })
    }

    /// The same with another token for its registration.
    pub(super) fn with_token(mut self, token: Secret) -> Self {
        self.registration_access_token = Some(token);
        self
    }

    /// Whether its registration is accessed by the same token.
    pub(crate) fn has_the_token_of(&self, other: &Self) -> bool {
        match (&self.registration_access_token, &other.registration_access_token) {
            (Some(own), Some(other)) => own.matches(other.expose()),
            (own, other) => own.is_some() == other.is_some(),
        }
    }

    /// Says why it is not in the store.
    pub(crate) fn with_save_error(mut self, error: Option<Error>) -> Self {
        self.save_error = error;
        self
    }

    /// The server that the client is registered at.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The `client_id`.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The secret, if the server gave one.
    pub fn client_secret(&self) -> Option<&Secret> {
        self.client_secret.as_ref()
    }

    /// When the client was registered, if the server says so.
    pub fn client_id_issued_at(&self) -> Option<Timestamp> {
        self.client_id_issued_at
    }

    /// When the secret expires. `None` if it does not, or there is none.
    pub fn client_secret_expires_at(&self) -> Option<Timestamp> {
        self.client_secret_expires_at
    }

    /// Whether the secret has expired at this moment, so that the client must register anew.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.client_secret_expires_at.is_some_and(|end| now >= end)
    }

    /// Whether the registration can be read, changed and deleted (RFC 7592).
    pub fn can_be_managed(&self) -> bool {
        self.registration_access_token.is_some() && self.registration_client_uri.is_some()
    }

    pub(super) fn management(&self) -> Option<(&Endpoint, &Secret)> {
        Some((self.registration_client_uri.as_ref()?, self.registration_access_token.as_ref()?))
    }

    /// The registered metadata, as far as the server names it.
    pub fn metadata(&self) -> &ClientMetadata {
        &self.registered
    }

    /// The metadata that the client asked for.
    pub fn asked(&self) -> &ClientMetadata {
        &self.asked
    }

    /// Why the store does not have the registration, if it should: see
    /// [`RegistrationInStore`](crate::store::RegistrationInStore).
    pub fn save_error(&self) -> Option<&Error> {
        self.save_error.as_ref()
    }

    /// The members that the server has registered in another way than the client asked for, or does not name in its
    /// answer (RFC 7591, section 3.2.1): look at them before the client is used.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.asked.iter().filter_map(|(name, asked)| {
            let registered = self.registered.get(name);
            let same = registered.is_some_and(|registered| is_same(name, asked, registered));
            (!same).then_some(Change { name, asked, registered })
        })
    }

    /// A member as it was registered, or as it was asked for where the server does not say.
    fn member(&self, name: &str) -> Option<&Value> {
        self.registered.get(name).or_else(|| self.asked.get(name))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.member(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The registered method of the client's authentication.
    pub fn token_endpoint_auth_method(&self) -> &str {
        let unless_told = if self.client_secret.is_some() { "client_secret_basic" } else { "none" };
        self.text("token_endpoint_auth_method").unwrap_or(unless_told)
    }

    /// The client, bound to its server, if it authenticates by the secret that the server gave, or not at all.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the client authenticates by a key or a certificate: see
    /// [`client_with`](Self::client_with). Also if the server gave no secret, though it registered a method that needs
    /// one.
    pub fn client(&self) -> Result<Client, Error> {
        let secret = || {
            let why = "the server has registered a client with a secret, and gave none";
            self.client_secret.clone().ok_or_else(|| Error::new(ErrorKind::InvalidResponse, why))
        };
        self.client_with(match self.token_endpoint_auth_method() {
            "none" => ClientAuthentication::none(),
            "client_secret_basic" => ClientAuthentication::client_secret_basic(secret()?),
            "client_secret_post" => ClientAuthentication::client_secret_post(secret()?),
            "client_secret_jwt" => ClientAuthentication::client_secret_jwt(secret()?),
            other => {
                let other = Shown::name(other);
                return Err(Error::config(format!(
                    "the client is registered for {other}: give RegisteredClient::client_with its key or certificate"
                )));
            }
        })
    }

    /// The client, bound to its server, with this authentication, which must be of the registered method.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the authentication is of another method; if ID tokens are signed by an algorithm that
    /// is not known.
    pub fn client_with(&self, authentication: ClientAuthentication) -> Result<Client, Error> {
        let method = self.token_endpoint_auth_method();
        if authentication.name() != method {
            let (own, method) = (authentication.name(), Shown::name(method));
            return Err(Error::config(format!("the client is registered for {method}, and not for {own}")));
        }
        let client = Client::new(&*self.client_id).authentication(authentication).registered_at(self.issuer.clone());
        let client = match self.text("authorization_signed_response_alg").and_then(Algorithm::from_name) {
            Some(algorithm) => client.authorization_signed_response_alg(algorithm),
            None => client,
        };
        let Some(name) = self.text("id_token_signed_response_alg") else { return Ok(client) };
        if let Some(algorithm) = Algorithm::from_name(name) {
            return Ok(client.id_token_signed_response_alg(algorithm));
        }
        match [MacAlgorithm::HS256, MacAlgorithm::HS384, MacAlgorithm::HS512].into_iter().find(|it| it.name() == name) {
            Some(algorithm) => Ok(client.id_token_signed_by_secret(algorithm)),
            None => {
                let name = Shown::name(name);
                Err(Error::config(format!("the client is registered for ID tokens by {name}, which is not known here")))
            }
        }
    }

    /// The server's metadata as it is for this client: the demands of the registration on the client's requests are
    /// added.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Issuer`] if the metadata is of another server.
    pub fn server(&self, server: &ServerMetadata) -> Result<ServerMetadata, Error> {
        self.check_issuer(server.issuer())?;
        let demanded = ["require_pushed_authorization_requests", "require_signed_request_object"].into_iter();
        let demanded = demanded.filter(|name| self.member(name) == Some(&Value::Bool(true)));
        Ok(demanded.fold(server.clone(), |server, name| server.member(name, true.into())))
    }

    /// Whether it may be used at that server.
    pub(crate) fn check_issuer(&self, issuer: &Issuer) -> Result<(), Error> {
        if self.issuer == *issuer {
            return Ok(());
        }
        let own = &self.issuer;
        Err(Error::new(ErrorKind::Issuer, format!("the client is registered at {own} and not at {issuer}")))
    }
}

/// Shows no secret.
impl fmt::Debug for RegisteredClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredClient")
            .field("issuer", &self.issuer)
            .field("client_id", &Shown::name(&self.client_id))
            .field("client_secret", &self.client_secret)
            .field("client_secret_expires_at", &self.client_secret_expires_at)
            .field("metadata", &self.registered)
            .finish_non_exhaustive()
    }
}
