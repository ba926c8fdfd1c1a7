//! How the pretend server behaves.

use std::fmt;
use std::time::Duration;

use grantflow::Scopes;
use serde_json::Value;

use crate::jwt::PublicKey;
use crate::keys::IssuerKey;

/// What can be chosen of the server's behaviour.
#[derive(Debug)]
pub struct Settings {
    /// What the user says.
    pub consent: Consent,
    /// Who signs in when there is no `login_hint`.
    pub subject: String,
    /// The scopes it knows; any other is `invalid_scope`.
    pub scopes: Scopes,
    /// The audiences that it exchanges tokens for; any other is `invalid_target`.
    pub audiences: Vec<&'static str>,
    /// Parameters that its authorization and token endpoints know beside those of the standards.
    pub extra_params: Vec<&'static str>,
    /// The life of an access token in seconds, as `expires_in` tells.
    pub lifetime: u64,
    /// Whether and how it gives refresh tokens.
    pub refresh_tokens: RefreshTokens,
    /// Whether it names the scopes even if they are what was asked.
    pub always_scope: bool,
    /// Whether a refresh must name scopes, as at Microsoft Entra where an application asks for tokens for itself.
    pub scope_at_refresh: bool,
    /// `iss` in authorization answers (RFC 9207).
    pub iss: Iss,
    /// Whether a refresh of `openid` brings another ID token.
    pub id_token_on_refresh: bool,
    /// Whether revoking an unknown token is the error `invalid_token`, as at Google.
    pub revoke_like_google: bool,
    /// Whether authorization requests must be pushed (RFC 9126, section 5).
    pub require_pushed: bool,
    /// The life of a pushed request in seconds, as `expires_in` tells.
    pub pushed_lifetime: u64,
    /// Changes the answer to a pushed request before it is sent.
    pub alter_pushed: Alter,
    /// Changes the header of a signed authorization answer before it is signed.
    pub alter_answer_header: Alter,
    /// Changes its claims.
    pub alter_answer_claims: Alter,
    /// The types of `authorization_details` that it knows (RFC 9396).
    pub details: Vec<&'static str>,
    /// Whether clients may register themselves (RFC 7591).
    pub registration: bool,
    /// The token that they must show for it, if one is needed.
    pub initial_access_token: Option<String>,
    /// Whether each use of a registration's token brings another one (RFC 7592, section 3).
    pub rotate_registration_tokens: bool,
    /// The life of the secrets that it gives to clients in seconds; without one, they do not end.
    pub client_secret_lifetime: Option<i64>,
    /// The key of the party that it trusts for software statements.
    pub software_key: Option<PublicKey>,
    /// Changes what it says of a registration before that is sent.
    pub alter_registration: Alter,
    /// After how many seconds a person decides who is asked without a browser (CIBA).
    pub backchannel_delay: u64,
    /// How many seconds a client must leave it alone between two questions then; 5 if it does not say.
    pub backchannel_interval: Option<u64>,
    /// Changes the answer to a request for such a sign-in before it is sent.
    pub alter_backchannel: Alter,
    /// The life of a device's codes in seconds, as `expires_in` tells.
    pub device_lifetime: u64,
    /// How many seconds a device must leave it alone between two questions; 5 if it does not say.
    pub device_interval: Option<u64>,
    /// Whether devices must send a challenge (RFC 7636), as Keycloak may be told.
    pub device_pkce: bool,
    /// Whether devices are treated as by Google: `verification_url`, no complete address, the statuses 428 and
    /// 403, no public clients, and no PKCE.
    pub device_like_google: bool,
    /// Whether `/.well-known/openid-configuration` is there.
    pub openid_metadata: bool,
    /// Whether `/.well-known/oauth-authorization-server` is there.
    pub oauth_metadata: bool,
    /// Where its endpoints are for clients that present a certificate, such as `https://mtls.as.example`. If it has no
    /// such place, it asks for certificates at all of them.
    pub mtls_origin: Option<String>,
    /// Whether it refuses token requests without a proof (RFC 9449).
    pub dpop_required: bool,
    /// The algorithms of the proofs that it takes.
    pub dpop_algorithms: Vec<&'static str>,
    /// The nonce that it wants to see in proofs at its token endpoint, and hands out with each answer of that.
    pub dpop_nonce: Option<String>,
    /// The same at its resource.
    pub dpop_resource_nonce: Option<String>,
    /// The keys that it publishes. It signs with the first one; without any, its signatures are none.
    pub keys: Vec<IssuerKey>,
    /// The key that it signs with in the place of the first one that it publishes.
    pub signs_with: Option<IssuerKey>,
    /// `Cache-Control` of its keys.
    pub keys_cache_control: Option<&'static str>,
    /// The resource that its access tokens are for.
    pub resource: String,
    /// Whether its access tokens are JWTs (RFC 9068).
    pub jwt_access_tokens: bool,
    /// Changes what introspection says before it is sent.
    pub alter_introspection: Alter,
    /// Changes the metadata document before it is sent.
    pub alter_metadata: Alter,
    /// Changes the answer to a device before it is sent.
    pub alter_device: Alter,
    /// Changes a token answer before it is sent.
    pub alter_token: Alter,
    /// Changes the header of an ID token before it is signed.
    pub alter_id_header: Alter,
    /// Changes the claims of an ID token before it is signed.
    pub alter_id_claims: Alter,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consent: Consent::Grant,
            subject: "alice".into(),
            scopes: Scopes::from("openid email profile read write offline_access"),
            audiences: vec!["orders", "billing"],
            extra_params: Vec::new(),
            lifetime: 3600,
            refresh_tokens: RefreshTokens::Stay,
            always_scope: false,
            scope_at_refresh: false,
            iss: Iss::Right,
            id_token_on_refresh: true,
            revoke_like_google: false,
            require_pushed: false,
            pushed_lifetime: 60,
            alter_pushed: Alter::default(),
            alter_answer_header: Alter::default(),
            alter_answer_claims: Alter::default(),
            details: vec!["payment", "account"],
            registration: false,
            initial_access_token: None,
            rotate_registration_tokens: false,
            client_secret_lifetime: None,
            software_key: None,
            alter_registration: Alter::default(),
            backchannel_delay: 12,
            backchannel_interval: Some(5),
            alter_backchannel: Alter::default(),
            device_lifetime: 1800,
            device_interval: Some(5),
            device_pkce: false,
            device_like_google: false,
            openid_metadata: true,
            oauth_metadata: true,
            mtls_origin: None,
            dpop_required: false,
            dpop_algorithms: vec!["ES256", "EdDSA"],
            dpop_nonce: None,
            dpop_resource_nonce: None,
            keys: Vec::new(),
            signs_with: None,
            keys_cache_control: None,
            resource: "https://api.example".into(),
            jwt_access_tokens: false,
            alter_introspection: Alter::default(),
            alter_metadata: Alter::default(),
            alter_device: Alter::default(),
            alter_token: Alter::default(),
            alter_id_header: Alter::default(),
            alter_id_claims: Alter::default(),
        }
    }
}

/// What the user says when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Yes.
    Grant,
    /// Yes, but only to these scopes.
    Narrow(Scopes),
    /// No, and this is the error, such as `access_denied`.
    Deny(&'static str),
}

/// Whether and how refresh tokens are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshTokens {
    /// Not at all.
    None,
    /// One, which stays; a refresh does not name it again.
    Stay,
    /// One, which stays; a refresh sends the same again.
    Repeat,
    /// A new one at each refresh. The old one is still good for the grace time; used later, it ends the
    /// whole grant (RFC 9700, section 4.14.2).
    Rotate {
        /// How long the direct predecessor stays good.
        grace: Duration,
    },
}

/// What the server says of itself in authorization answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Iss {
    /// The issuer, as its metadata promises.
    Right,
    /// Nothing, and its metadata promises nothing.
    Absent,
    /// Nothing, although its metadata promises it.
    Stripped,
    /// Another issuer.
    Wrong(String),
}

/// A change to a JSON value before it is sent.
#[derive(Default)]
pub struct Alter(Option<Change>);

type Change = Box<dyn Fn(&mut Value) + Send>;

impl Alter {
    /// Makes this change each time.
    pub fn by(change: impl Fn(&mut Value) + Send + 'static) -> Self {
        Self(Some(Box::new(change)))
    }

    /// Sets a member to this value; with `null`, removes it.
    pub fn set(name: &'static str, value: Value) -> Self {
        Self::by(move |object| {
            if value.is_null() {
                object.as_object_mut().expect("an object").remove(name);
            } else {
                object[name] = value.clone();
            }
        })
    }

    pub(crate) fn apply(&self, value: &mut Value) {
        if let Some(change) = &self.0 {
            change(value);
        }
    }
}

impl fmt::Debug for Alter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Alter(..)" } else { "Alter(none)" })
    }
}
