//! `private_key_jwt`, `client_secret_jwt`: what a client signs to prove that it is itself (RFC 7523, section 3; RFC 10070);
//! and Apple's client secret, which is signed too.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::Client;
use crate::crypto::{Algorithm, MacAlgorithm, MacKey, Signer};
use crate::jose::{JwtSigner, SignJwt};
use crate::server::{Issuer, ServerMetadata};
use crate::{Cx, Error, ErrorKind, Secret};

/// The media type that says what it is, so that it is taken for nothing else (RFC 10070).
const TYP: &str = "client-authentication+jwt";
/// RFC 7523, section 2.2.
const ASSERTION: &str = "client_assertion";
/// Whom Apple's client secrets are for.
const APPLE: &str = "https://appleid.apple.com";
/// How long an assertion lives.
const LIFE: Duration = Duration::from_secs(120);
/// How much of that must be left as it is sent.
const LEFT: Duration = Duration::from_secs(60);
/// Servers refuse an assertion from the future: ours are made a little in the past.
const BACKDATED: Duration = Duration::from_secs(10);

/// In which order algorithms are taken, where the client has several.
fn rank(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::PS256 => 0,
        Algorithm::ES256 => 1,
        Algorithm::EdDSA => 2,
        Algorithm::RS512 => 4,
        Algorithm::RS384 => 5,
        Algorithm::RS256 => 6,
        _ => 3,
    }
}

/// The keys of a client, of which its server's metadata chooses.
#[derive(Clone)]
pub(crate) struct AssertionKeys(Arc<[(Algorithm, AssertionKey)]>);

impl AssertionKeys {
    pub(super) fn new(signers: impl Iterator<Item = Arc<dyn Signer>>) -> Self {
        let mut keys: Vec<_> = signers.map(|signer| (signer.algorithm(), AssertionKey::new(signer))).collect();
        keys.sort_by_key(|(algorithm, _)| rank(*algorithm));
        Self(keys.into())
    }

    /// The key by the best of the algorithms that the server names (RFC 8414, section 2). Where it names none, by RS256, which
    /// all know (RFC 7523, section 5), if there is one.
    pub(super) fn at(&self, server: &ServerMetadata) -> Result<&AssertionKey, Error> {
        let named = server.algorithms("token_endpoint_auth_signing_alg_values_supported");
        let found = match &named {
            Some(named) => {
                let named: Vec<_> = named.iter().filter_map(|name| Algorithm::from_name(name)).collect();
                self.0.iter().find(|(algorithm, _)| named.contains(algorithm))
            }
            None => self.0.iter().find(|(algorithm, _)| *algorithm == Algorithm::RS256).or(self.0.first()),
        };
        let why = "the server takes assertions by none of the client's keys (token_endpoint_auth_signing_alg_values_supported)";
        found.map(|(_, key)| key).ok_or_else(|| Error::config(why))
    }

    /// Those of these algorithms.
    pub(super) fn only(&self, algorithms: &[Algorithm]) -> Self {
        Self(self.0.iter().filter(|(algorithm, _)| algorithms.contains(algorithm)).cloned().collect())
    }

    /// Where nothing is known of the server but its name.
    pub(crate) fn first(&self) -> Result<&AssertionKey, Error> {
        self.0.first().map(|(_, key)| key).ok_or_else(|| Error::config("the client has no key for its assertions"))
    }
}

impl fmt::Debug for AssertionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(algorithm, _)| algorithm)).finish()
    }
}

/// The key of a client, and whom its assertions are for.
#[derive(Clone)]
pub(crate) struct AssertionKey {
    jwt: JwtSigner,
    /// The audience that was configured in the issuer's place.
    legacy: Option<Arc<str>>,
}

impl AssertionKey {
    pub(super) fn new(signer: Arc<dyn Signer>) -> Self {
        Self { jwt: JwtSigner::new(TYP, signer), legacy: None }
    }

    /// Servers that want another audience are older than the media type too.
    pub(super) fn legacy(signer: Arc<dyn Signer>, audience: Arc<str>) -> Self {
        Self { jwt: JwtSigner::new("JWT", signer), legacy: Some(audience) }
    }

    /// That of its signer; none of a secret.
    pub(super) fn algorithm(&self) -> Option<Algorithm> {
        self.jwt.algorithm()
    }

    pub(super) fn has_legacy_audience(&self) -> bool {
        self.legacy.is_some()
    }

    /// What makes assertions of this client for this server.
    pub(crate) fn assertion(&self, client: &Client, server: &Issuer) -> Result<Assertion, Error> {
        if self.legacy.is_some() && client.issuer().is_none() {
            return Err(Error::config(
                "a client with a legacy audience must be bound to its server by Client::registered_at",
            ));
        }
        let audience = self.legacy.clone().unwrap_or_else(|| server.as_str().into());
        let client_id = client.shared_id();
        Ok(Assertion { jwt: self.jwt.clone(), issuer: client_id.clone(), client_id, audience, param: ASSERTION })
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionKey")
            .field("legacy_audience", &self.legacy.as_deref().map(crate::Shown::name))
            .finish_non_exhaustive()
    }
}

/// The secret of a client that signs by it, and whom its assertions are for.
#[derive(Clone)]
pub(crate) struct AssertionSecret {
    pub(super) secret: Secret,
    pub(super) legacy: Option<Arc<str>>,
}

impl AssertionSecret {
    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// What makes assertions of this client for this server.
    pub(crate) fn assertion(&self, client: &Client, server: &Issuer) -> Result<Assertion, Error> {
        let key = MacKey::new(MacAlgorithm::HS256, self.secret.expose().as_bytes())?;
        let typ = if self.legacy.is_some() { "JWT" } else { TYP };
        AssertionKey { jwt: JwtSigner::by_secret(typ, key), legacy: self.legacy.clone() }.assertion(client, server)
    }
}

impl fmt::Debug for AssertionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionSecret")
            .field("legacy_audience", &self.legacy.as_deref().map(crate::Shown::name))
            .finish_non_exhaustive()
    }
}

/// The key of a team of developers at Apple, by which the client secrets of its applications are signed.
#[derive(Clone)]
pub(crate) struct AppleKey {
    pub(super) team_id: Arc<str>,
    pub(super) signer: Arc<dyn Signer>,
}

impl AppleKey {
    /// What makes secrets of this client.
    pub(crate) fn secret(&self, client: &Client, server: &Issuer) -> Result<Assertion, Error> {
        if server.as_str() != APPLE {
            let why = format!("the client secret is signed for {APPLE}, and would be shown to {server}");
            return Err(Error::new(ErrorKind::Issuer, why));
        }
        if self.signer.algorithm() != Algorithm::ES256 || self.signer.key_id().is_none() {
            return Err(Error::config("Apple takes client secrets by a key for ES256 that has its key_id"));
        }
        let (jwt, issuer) = (JwtSigner::new("JWT", self.signer.clone()), self.team_id.clone());
        Ok(Assertion { jwt, issuer, client_id: client.shared_id(), audience: APPLE.into(), param: "client_secret" })
    }
}

impl fmt::Debug for AppleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppleKey").field("team_id", &crate::Shown::name(&self.team_id)).finish_non_exhaustive()
    }
}

/// Makes assertions of one client for one audience.
pub(crate) struct Assertion {
    jwt: JwtSigner,
    issuer: Arc<str>,
    client_id: Arc<str>,
    audience: Arc<str>,
    /// The parameter that it is sent as.
    pub(crate) param: &'static str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    /// One text and no array: any other audience in it could use it too.
    aud: &'a str,
    jti: &'a str,
    iat: i64,
    exp: i64,
}

impl Assertion {
    /// Begins to sign one, and says how long it can be sent.
    pub(crate) fn sign(&self, cx: &mut Cx) -> Result<(SignJwt, Duration), Error> {
        let now = cx.now().wall;
        let jti = URL_SAFE_NO_PAD.encode(cx.random::<16>("jti")?);
        let claims = Claims {
            iss: &self.issuer,
            sub: &self.client_id,
            aud: &self.audience,
            jti: &jti,
            iat: (now - BACKDATED).as_unix(),
            exp: (now + LIFE).as_unix(),
        };
        let json =
            serde_json::to_string(&claims).map_err(|e| Error::config("the claims are no JSON").with_source(e))?;
        Ok((self.jwt.sign(&json), LIFE.saturating_sub(LEFT)))
    }
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertion").field("audience", &self.audience).finish_non_exhaustive()
    }
}
