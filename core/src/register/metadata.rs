//! The metadata of a client, for its registration (RFC 7591, section 2; OpenID Connect Dynamic Client Registration 1.0,
//! section 2, and the standards that add to them).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::authorize::check_redirect_uri;
use crate::crypto::Algorithm;
use crate::jose::Jwk;
use crate::{Error, Scopes, Shown};

/// Members that the server gives, or that only say which client is meant: none of them is the client's to choose.
pub(super) const OF_THE_SERVER: [&str; 6] = [
    "client_id",
    "client_secret",
    "client_id_issued_at",
    "client_secret_expires_at",
    "registration_access_token",
    "registration_client_uri",
];

/// The metadata of a client: each member by its name in the standards, any other by [`member`](Self::member).
///
/// ```
/// use grantflow::register::ClientMetadata;
///
/// let metadata = ClientMetadata::new()
///     .client_name("Calendar")
///     .client_name_in("de", "Kalender")
///     .application_type("native")
///     .redirect_uris(["http://127.0.0.1/callback"])
///     .token_endpoint_auth_method("none");
/// assert_eq!(metadata.str("client_name#de"), Some("Kalender"));
/// ```
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientMetadata(Map<String, Value>);

macro_rules! members {
    ($($(#[$doc:meta])* $name:ident: $kind:ident;)*) => {
        impl ClientMetadata {
            $(members!(@ $(#[$doc])* $name $kind);)*
        }
    };
    (@ $(#[$doc:meta])* $name:ident text) => {
        $(#[$doc])*
        pub fn $name(self, value: &str) -> Self {
            self.member(stringify!($name), value.into())
        }
    };
    (@ $(#[$doc:meta])* $name:ident texts) => {
        $(#[$doc])*
        pub fn $name<S: AsRef<str>>(self, values: impl IntoIterator<Item = S>) -> Self {
            let values: Vec<_> = values.into_iter().map(|value| Value::from(value.as_ref())).collect();
            self.member(stringify!($name), values.into())
        }
    };
    (@ $(#[$doc:meta])* $name:ident flag) => {
        $(#[$doc])*
        pub fn $name(self, is: bool) -> Self {
            self.member(stringify!($name), is.into())
        }
    };
    (@ $(#[$doc:meta])* $name:ident algorithm) => {
        $(#[$doc])*
        pub fn $name(self, algorithm: Algorithm) -> Self {
            self.member(stringify!($name), algorithm.name().into())
        }
    };
}

members! {
    /// The redirect URIs, where users come back to. They are needed for the grant `authorization_code`, which is the
    /// default.
    redirect_uris: texts;
    /// How the client authenticates: `none` for a public one; `client_secret_basic` by default.
    token_endpoint_auth_method: text;
    /// The algorithm of the client's assertions.
    token_endpoint_auth_signing_alg: algorithm;
    /// The grants that the client uses; `authorization_code` by default.
    grant_types: texts;
    /// The response types that the client uses; `code` by default.
    response_types: texts;
    /// The client's name for people.
    client_name: text;
    /// The address of the client's page for people.
    client_uri: text;
    /// The address of the client's logo.
    logo_uri: text;
    /// The people to contact about the client, mostly by e-mail addresses.
    contacts: texts;
    /// The address of the client's terms of service.
    tos_uri: text;
    /// The address of the client's privacy policy.
    policy_uri: text;
    /// The address of the client's public keys. Not together with [`jwks`](Self::jwks).
    jwks_uri: text;
    /// The identifier of the client's software, the same for each client of it.
    software_id: text;
    /// The version of the client's software.
    software_version: text;
    /// A JWT about the software by a party that the server trusts. Its members win over those beside it.
    software_statement: text;
    /// `web`, which is the default, or `native`: only that may have redirect URIs on loopback addresses and with schemes of
    /// its own (OpenID Connect Dynamic Client Registration 1.0, section 2).
    application_type: text;
    /// Whether `sub` is the same for all clients (`public`), or not (`pairwise`).
    subject_type: text;
    /// The address of a list of the redirect URIs of all clients that share their `pairwise` subjects.
    sector_identifier_uri: text;
    /// The algorithm of the client's ID tokens; RS256 by default.
    id_token_signed_response_alg: algorithm;
    /// The algorithm of signed answers of the userinfo endpoint.
    userinfo_signed_response_alg: algorithm;
    /// The algorithm of the client's signed authorization requests.
    request_object_signing_alg: algorithm;
    /// Whether ID tokens must say when the user signed in.
    require_auth_time: flag;
    /// The `acr_values` of requests that name none.
    default_acr_values: texts;
    /// The address where other sites may send a user to begin a sign-in.
    initiate_login_uri: text;
    /// The addresses from which the server may read the client's requests.
    request_uris: texts;
    /// The addresses where users come back to after a sign-out (OpenID Connect RP-Initiated Logout 1.0, section 3.1).
    post_logout_redirect_uris: texts;
    /// The address to which the server posts its logout tokens (OpenID Connect Back-Channel Logout 1.0, section 2.2).
    backchannel_logout_uri: text;
    /// Whether logout tokens must have a `sid`.
    backchannel_logout_session_required: flag;
    /// The address that the server opens in a frame to sign a user out (OpenID Connect Front-Channel Logout 1.0,
    /// section 2).
    frontchannel_logout_uri: text;
    /// Whether the server must add `iss` and `sid` to that address.
    frontchannel_logout_session_required: flag;
    /// Whether the client pushes all of its authorization requests (RFC 9126, section 6).
    require_pushed_authorization_requests: flag;
    /// Whether the client signs all of its authorization requests (RFC 9101, section 10.5).
    require_signed_request_object: flag;
    /// The algorithm of signed authorization answers (JARM, section 3).
    authorization_signed_response_alg: algorithm;
    /// The types of `authorization_details` that the client uses (RFC 9396, section 10).
    authorization_details_types: texts;
    /// Whether the client's tokens are always bound to a key (RFC 9449, section 5.2).
    dpop_bound_access_tokens: flag;
    /// Whether the client's tokens are bound to its certificate (RFC 8705, section 3.4).
    tls_client_certificate_bound_access_tokens: flag;
    /// The subject of the client's certificate (RFC 8705, section 2.1.2). Set this, or one of the four alternative
    /// names.
    tls_client_auth_subject_dn: text;
    /// A DNS name in the client's certificate.
    tls_client_auth_san_dns: text;
    /// A URI in the client's certificate.
    tls_client_auth_san_uri: text;
    /// An IP address in the client's certificate.
    tls_client_auth_san_ip: text;
    /// An e-mail address in the client's certificate.
    tls_client_auth_san_email: text;
    /// Whether the client uses the endpoints for certificates for all of its requests (FAPI 2.0 Security Profile,
    /// section 5.2.2.1.1).
    use_mtls_endpoint_aliases: flag;
    /// How the client learns the result of a sign-in without a browser: `poll`, `ping` or `push` (OpenID Connect CIBA
    /// Core 1.0, section 4).
    backchannel_token_delivery_mode: text;
    /// The address where the server notifies the client, in the modes `ping` and `push`.
    backchannel_client_notification_endpoint: text;
    /// The algorithm of the client's signed CIBA requests.
    backchannel_authentication_request_signing_alg: algorithm;
    /// Whether CIBA requests may hold a code of the user's.
    backchannel_user_code_parameter: flag;
}

impl ClientMetadata {
    /// Metadata without members: a missing member has the meaning that the standards give it.
    pub fn new() -> Self {
        Self::default()
    }

    /// `scope`: the scopes that the client may ask for.
    pub fn scope(self, scopes: impl Into<Scopes>) -> Self {
        let scopes = scopes.into();
        self.member("scope", scopes.as_str().into())
    }

    /// `jwks`: the client's public keys, by value. Not together with [`jwks_uri`](Self::jwks_uri).
    ///
    /// ```
    /// # use grantflow::crypto::SigningKey;
    /// # use grantflow::jose::Jwk;
    /// # use grantflow::register::ClientMetadata;
    /// fn metadata(key: &SigningKey) -> ClientMetadata {
    ///     ClientMetadata::new().token_endpoint_auth_method("private_key_jwt").jwks([Jwk::from(key.verifying_key())])
    /// }
    /// ```
    pub fn jwks(self, keys: impl IntoIterator<Item = Jwk>) -> Self {
        let keys = keys.into_iter().filter_map(|key| serde_json::from_str::<Value>(&key.to_json()).ok());
        let set = Map::from_iter([("keys".to_owned(), keys.collect::<Vec<_>>().into())]);
        self.member("jwks", set.into())
    }

    /// `default_max_age`: how long ago users may have signed in, to the second.
    pub fn default_max_age(self, age: Duration) -> Self {
        self.member("default_max_age", age.as_secs().into())
    }

    /// [`client_name`](Self::client_name) in a language, by its tag of BCP 47 (RFC 7591, section 2.2). Other members for people
    /// are set by their whole name, as in `member("tos_uri#fr", ...)`.
    pub fn client_name_in(self, language: &str, name: &str) -> Self {
        self.member(&format!("client_name#{language}"), name.into())
    }

    /// Sets any member; `null` removes it. A member that the server gives, such as `client_id`, cannot be set: that is
    /// an error where the client is registered.
    pub fn member(mut self, name: &str, value: Value) -> Self {
        match value {
            Value::Null => drop(self.0.remove(name)),
            value => drop(self.0.insert(name.to_owned(), value)),
        }
        self
    }

    /// A member by its name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A member that is a text and not empty.
    pub fn str(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The texts of a member that is a list.
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.get(name)?.as_array()?.iter().filter_map(Value::as_str).collect())
    }

    /// Whether a member is true.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Bool(true))
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    pub(super) fn of(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// Wipes all texts of a copy that held a secret.
    pub(super) fn wipe(&mut self) {
        self.0.values_mut().for_each(crate::secret::wipe_json);
    }

    /// Whether it can be registered, as far as that can be told here.
    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |why: String| Err(Error::config(format!("the metadata of the client: {why}")));
        if let Some(name) = OF_THE_SERVER.iter().find(|name| self.0.contains_key(**name)) {
            return wrong(format!("{name} is the server's to give"));
        }
        if self.0.contains_key("jwks") && self.0.contains_key("jwks_uri") {
            return wrong("jwks and jwks_uri cannot be there together (RFC 7591, section 2)".into());
        }
        if has_private_key(self.get("jwks")) {
            return wrong("jwks holds a private or secret key".into());
        }
        let redirect_uris = self.list("redirect_uris").unwrap_or_default();
        redirect_uris.iter().try_for_each(|uri| check_redirect_uri(uri))?;
        let redirects = self.list("grant_types").is_none_or(|grants| grants.contains(&"authorization_code"));
        if redirects && redirect_uris.is_empty() && self.str("software_statement").is_none() {
            let why = "redirect_uris are needed for the grant authorization_code, which is there unless grant_types says otherwise";
            return wrong(why.into());
        }
        Ok(())
    }
}

/// Whether a set holds what must not leave.
fn has_private_key(jwks: Option<&Value>) -> bool {
    let keys = jwks.and_then(|set| set.get("keys")).and_then(Value::as_array);
    keys.into_iter().flatten().any(|key| ["d", "k", "p", "q"].iter().any(|name| key.get(name).is_some()))
}

/// Whether two values of a member mean the same: lists and scopes have no order.
pub(super) fn is_same(name: &str, one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Array(one), Value::Array(other)) => {
            let within = |one: &[Value], other: &[Value]| one.iter().all(|each| other.contains(each));
            within(one, other) && within(other, one)
        }
        (Value::String(one), Value::String(other)) if name == "scope" => {
            let (one, other) = (Scopes::from(&**one), Scopes::from(&**other));
            one.is_subset(&other) && other.is_subset(&one)
        }
        _ => one == other,
    }
}

/// Shows the names of the members.
impl fmt::Debug for ClientMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys().map(|name| Shown::name(name))).finish()
    }
}
