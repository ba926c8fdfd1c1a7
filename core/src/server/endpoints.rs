//! The endpoints that metadata names (RFC 8414, section 2, and the standards that add to it).

use serde_json::{Map, Value};

use super::address::{Namer, is_loopback_address};
use super::{Endpoint, Issuer, ServerMetadata};
use crate::{Deviation, Deviations, Error, ErrorKind};

/// The endpoints that were read, each with the reason if it cannot be used.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoints(Vec<(&'static str, Result<Endpoint, Error>)>);

impl Endpoints {
    /// Reads those that have a name here. Empty and null count as missing; one that cannot be used costs
    /// itself alone.
    ///
    /// # Errors
    ///
    /// If one leads to this machine, and the issuer does not: such a document wants secrets to be sent to
    /// whatever listens here.
    pub(super) fn read(
        members: &Map<String, Value>,
        issuer: &Issuer,
        tolerated: Deviations,
        found: &mut Deviations,
    ) -> Result<Self, Error> {
        let mut endpoints = Self::default();
        for name in NAMES {
            let Some(address) = members.get(*name).and_then(endpoint) else { continue };
            match &address {
                Ok(endpoint) if endpoint.is_local() && !is_loopback_address(issuer.as_str()) => {
                    tolerated.allow(Deviation::LoopbackEndpoint, found, "").map_err(|_| {
                        let why = format!("the metadata of {issuer} names a {name} on this machine");
                        Error::new(ErrorKind::InvalidResponse, why)
                    })?;
                }
                Ok(_) => {}
                Err(_) => *found = found.with(Deviation::OddMember),
            }
            endpoints.0.push((name, address));
        }
        Ok(endpoints)
    }

    /// Takes a member that was set by hand, if it is an endpoint.
    pub(super) fn write(&mut self, name: &str, value: &Value, namer: Namer) {
        let Some(name) = NAMES.iter().find(|known| **known == name) else { return };
        self.0.retain(|(other, _)| other != name);
        let endpoint = endpoint(value);
        let endpoint = endpoint.map(|it| it.and_then(|it| it.named_by(namer)));
        self.0.extend(endpoint.map(|endpoint| (*name, endpoint)));
    }

    /// The same ones, as this one names them.
    ///
    /// # Errors
    ///
    /// If one is known not to be global: such a document wants requests to be sent into the program's own network.
    pub(super) fn named_by(self, namer: Namer, issuer: &Issuer) -> Result<Self, Error> {
        let global = |(name, endpoint): (&'static str, Result<Endpoint, Error>)| match endpoint {
            Ok(endpoint) => match endpoint.named_by(namer) {
                Ok(endpoint) => Ok((name, Ok(endpoint))),
                Err(error) => {
                    let why = format!("the metadata of {issuer} names a {name} that is not global");
                    Err(Error::new(ErrorKind::InvalidResponse, why).with_source(error))
                }
            },
            Err(error) => Ok((name, Err(error))),
        };
        Ok(Self(self.0.into_iter().map(global).collect::<Result<_, _>>()?))
    }

    pub(super) fn set(&mut self, name: &'static str, endpoint: Endpoint) {
        self.0.retain(|(other, _)| *other != name);
        self.0.push((name, Ok(endpoint)));
    }

    pub(super) fn get(&self, name: &str) -> Option<&Result<Endpoint, Error>> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, endpoint)| endpoint)
    }

    /// Puts those of `others` in the place of these.
    pub(super) fn replaced_by(mut self, others: Self) -> Self {
        self.0.retain(|(name, _)| others.get(name).is_none());
        self.0.extend(others.0);
        self
    }

    /// Those that can be used.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Endpoint)> {
        self.0.iter().filter_map(|(name, endpoint)| Some((*name, endpoint.as_ref().ok()?)))
    }
}

/// The endpoint that a member names; none if it is empty.
fn endpoint(value: &Value) -> Option<Result<Endpoint, Error>> {
    match value {
        Value::Null => None,
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(text) => Some(Endpoint::new(text)),
        _ => Some(Err(Error::config("it is no text"))),
    }
}

macro_rules! endpoints {
    ($($(#[$doc:meta])* $name:ident, $get:ident;)*) => {
        /// The names of members that are endpoints.
        const NAMES: &[&str] = &[$(stringify!($name),)*];

        impl ServerMetadata {
            $(
                #[doc = concat!("Sets `", stringify!($name), "`.")]
                pub fn $name(mut self, address: &str) -> Result<Self, Error> {
                    let endpoint = Endpoint::new(address)?;
                    let inner = self.edit();
                    let endpoint = endpoint.named_by(inner.namer)?;
                    inner.members.insert(stringify!($name).to_owned(), endpoint.as_str().into());
                    inner.endpoints.set(stringify!($name), endpoint);
                    Ok(self)
                }

                $(#[$doc])*
                ///
                /// # Errors
                ///
                /// If the metadata names no such endpoint, or one that cannot be used.
                pub fn $get(&self) -> Result<&Endpoint, Error> {
                    self.need(stringify!($name))
                }
            )*
        }
    };
}

endpoints! {
    /// The endpoint where the user is sent to sign in (RFC 6749, section 3.1).
    authorization_endpoint, authorization;
    /// The endpoint of token requests (RFC 6749, section 3.2).
    token_endpoint, token;
    /// The endpoint that revokes tokens (RFC 7009).
    revocation_endpoint, revocation;
    /// The endpoint where a resource server asks about a token (RFC 7662).
    introspection_endpoint, introspection;
    /// The endpoint that tells who signed in (OpenID Connect Core 1.0, section 5.3).
    userinfo_endpoint, userinfo;
    /// The address of the keys that the server signs with (RFC 7517, section 5).
    jwks_uri, jwks;
    /// The endpoint where a device gets its codes (RFC 8628, section 3.1).
    device_authorization_endpoint, device_authorization;
    /// The endpoint where an authorization request is left before the user is sent (RFC 9126).
    pushed_authorization_request_endpoint, pushed_authorization_request;
    /// The endpoint where a sign-in without a browser begins (OpenID Connect CIBA Core 1.0).
    backchannel_authentication_endpoint, backchannel_authentication;
    /// The endpoint where clients register themselves (RFC 7591).
    registration_endpoint, registration;
    /// The endpoint where the user is sent to sign out (OpenID Connect RP-Initiated Logout 1.0).
    end_session_endpoint, end_session;
}
