//! What is made of a request that does not go into the user's URL as it is: the form that is pushed (PAR, RFC 9126), and
//! the claims that are signed (JAR, RFC 9101).

use std::time::Duration;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::request::{AuthorizationRequest, Drawn};
use crate::exchange::Request;
use crate::machine::Repeat;
use crate::{Error, Timestamp};

/// How long a signed request is good for: as long as it takes to get to the server.
const SIGNED_LIFE: Duration = Duration::from_secs(300);
/// By how much clocks may differ without harm.
const BACKDATED: Duration = Duration::from_secs(10);
/// The most bytes of the answer to a pushed request.
const MAX_ANSWER: usize = 64 * 1024;

impl AuthorizationRequest {
    /// The request that leaves the parameters at the server; the signed ones are added to it (RFC 9126, section 2.1).
    pub(super) fn pushing(&self, drawn: &Drawn<'_>) -> Result<Request, Error> {
        let server = &*self.client.endpoints_of(&self.server)?;
        let endpoint = server.pushed_authorization_request()?;
        // One that is made twice is not used twice.
        let request = Request::post("pushing the authorization request", endpoint).repeat(Repeat::Freely);
        let request = request.max_body(MAX_ANSWER).authenticate(&*self.client.at(server)?, server.issuer());
        let mut request = drawn.nonce.into_iter().fold(request.keeps_secret(drawn.state), Request::keeps_secret);
        if self.plain {
            request = request.keeps_secret(drawn.code_verifier);
        }
        if let Some(hint) = self.get("id_token_hint") {
            request = request.keeps_secret(&hint.into());
        }
        if !request.has("client_id") {
            request = request.param("client_id", self.client.id());
        }
        if self.signer.is_none() {
            let mut request_with = Some(request);
            self.parameters(drawn, |name, value| {
                if name != "client_id" {
                    request_with = request_with.take().map(|request| request.param(name, value));
                }
            });
            request = request_with.ok_or_else(|| Error::misuse("pushing an authorization request"))?;
        }
        Ok(request)
    }

    /// The claims of the signed request (RFC 9101, section 4): its parameters, numbers and JSON as such.
    pub(super) fn signed_claims(&self, drawn: &Drawn<'_>, now: Timestamp) -> Result<Zeroizing<String>, Error> {
        let mut claims = Map::new();
        let mut resources = Vec::new();
        self.parameters(drawn, |name, value| {
            let value = match name {
                "max_age" => value.parse::<u64>().map_or_else(|_| value.into(), Value::from),
                "claims" | "authorization_details" => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
                "resource" => return resources.push(Value::from(value)),
                _ => Value::from(value),
            };
            claims.insert(name.to_owned(), value);
        });
        match resources.len() {
            0 => {}
            1 => claims.extend(resources.pop().map(|resource| ("resource".to_owned(), resource))),
            _ => claims.extend([("resource".to_owned(), resources.into())]),
        }
        let iat = (now - BACKDATED).as_unix();
        for (name, value) in [
            ("iss", Value::from(self.client.id())),
            ("aud", self.server.issuer().as_str().into()),
            ("iat", iat.into()),
            ("nbf", iat.into()),
            ("exp", (now + SIGNED_LIFE).as_unix().into()),
        ] {
            claims.insert(name.to_owned(), value);
        }
        let json = serde_json::to_string(&claims).map(Zeroizing::new);
        json.map_err(|e| Error::config("the request is no JSON").with_source(e))
    }
}
