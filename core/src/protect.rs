//! A protected resource: the token of a request, the demands of the resource on it, and the challenge of a refusal (RFC
//! 6750, RFC 9470, RFC 9728). Pure: the counterpart of [`Challenge`](crate::Challenge), which reads what this writes.

use std::fmt;
use std::time::Duration;

use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};

use crate::jose::AccessToken;
use crate::{Error, ErrorKind, Scopes, Timestamp};

/// The longest token to look at.
const MAX_TOKEN: usize = 64 * 1024;

/// The demands of a protected resource on its requests. Cheap to make; one for each set of scopes.
///
/// ```
/// use grantflow::Protection;
///
/// let protection = Protection::new().realm("api").scopes("notes.read");
/// let refusal = protection.token(&http::HeaderMap::new(), &"/notes".parse()?).unwrap_err();
/// assert_eq!(refusal.status(), 401);
/// assert_eq!(refusal.headers()["www-authenticate"], r#"Bearer realm="api", scope="notes.read""#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Protection {
    realm: Option<Box<str>>,
    scopes: Scopes,
    resource_metadata: Option<Box<str>>,
    acr_values: Vec<Box<str>>,
    max_age: Option<Duration>,
    takes_bound: bool,
}

impl Protection {
    /// Demands a good token, and nothing more.
    pub fn new() -> Self {
        Self::default()
    }

    /// `realm`: what is protected, for challenges (RFC 9110, section 11.5).
    pub fn realm(mut self, realm: &str) -> Self {
        self.realm = Some(shown(realm).into());
        self
    }

    /// Demands a token that has all of these scopes.
    pub fn scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.scopes = scopes.into();
        self
    }

    /// `resource_metadata`: the address of the resource's metadata, for challenges (RFC 9728, section 5.1).
    pub fn resource_metadata(mut self, address: &str) -> Self {
        self.resource_metadata = Some(shown(address).into());
        self
    }

    /// Demands that the user signed in in one of these ways, the preferred one first (`acr`; RFC 9470, section 3).
    pub fn acr_values<S: Into<String>>(mut self, values: impl IntoIterator<Item = S>) -> Self {
        self.acr_values = values.into_iter().map(|value| shown(&value.into()).into()).collect();
        self
    }

    /// Demands that the user signed in no longer ago than this (`auth_time`; RFC 9470, section 3).
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Accepts tokens that are bound to a key (`cnf`), whose proof another layer checks. By default they are refused: a
    /// thief could show such a token as a bearer token (RFC 8705, section 3; RFC 9449, section 7).
    pub fn binding_is_checked_elsewhere(mut self) -> Self {
        self.takes_bound = true;
        self
    }

    /// The bearer token of a request: from its one `Authorization` header, never from its address (RFC 6750, section
    /// 2.3).
    ///
    /// # Errors
    ///
    /// A refusal that asks for a token if there is none; of status 400 if there are several, if the header holds no
    /// bearer token, or if a token stands in the address.
    pub fn token<'a>(&self, headers: &'a HeaderMap, uri: &Uri) -> Result<&'a str, Refusal> {
        let malformed = |why| Err(self.challenge(StatusCode::BAD_REQUEST, "invalid_request", why));
        let query = uri.query().unwrap_or_default();
        if url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "access_token") {
            return malformed("tokens are not taken from the address");
        }
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), other) = (values.next(), values.next()) else {
            return Err(self.challenge(StatusCode::UNAUTHORIZED, "", ""));
        };
        if other.is_some() {
            return malformed("there are several Authorization headers");
        }
        let text = value.to_str().unwrap_or_default();
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("Bearer") {
            return Err(self.challenge(StatusCode::UNAUTHORIZED, "", ""));
        }
        let token = token.trim_matches(' ');
        if !is_token(token) {
            return malformed("the Authorization header holds no bearer token");
        }
        Ok(token)
    }

    /// Checks that a verified token meets these demands.
    ///
    /// # Errors
    ///
    /// A refusal with `insufficient_scope` (RFC 6750, section 3.1), `insufficient_user_authentication` (RFC 9470,
    /// section 3), or `invalid_token` if the token is bound to a key.
    pub fn check(&self, token: &AccessToken, now: Timestamp) -> Result<(), Refusal> {
        if token.claims().has("cnf") && !self.takes_bound {
            let why = "the token is bound to a key, of which there is no proof";
            return Err(self.challenge(StatusCode::UNAUTHORIZED, "invalid_token", why));
        }
        if !self.scopes.is_subset(token.scopes()) {
            return Err(self.challenge(StatusCode::FORBIDDEN, "insufficient_scope", "the token lacks scope"));
        }
        let as_wanted = self.acr_values.is_empty()
            || token.acr().is_some_and(|acr| self.acr_values.iter().any(|wanted| **wanted == *acr));
        let recent = self.max_age.is_none_or(|max_age| {
            token.auth_time().is_some_and(|then| now.since(then) <= max_age && then <= now + LEEWAY)
        });
        if as_wanted && recent {
            return Ok(());
        }
        let why = if as_wanted { "the user must sign in anew" } else { "the user must sign in in another way" };
        Err(self.challenge(StatusCode::UNAUTHORIZED, "insufficient_user_authentication", why))
    }

    /// The refusal of a token that could not be verified: `invalid_token` if it is not good, status 503 if the check
    /// failed for now, and 500 if the check cannot be made.
    pub fn refuse(&self, error: &Error) -> Refusal {
        match error.kind() {
            _ if error.is_transient() => Refusal {
                status: StatusCode::SERVICE_UNAVAILABLE,
                headers: HeaderMap::from_iter([(
                    RETRY_AFTER,
                    HeaderValue::from(error.retry_after().map_or(1, |time| time.as_secs().max(1))),
                )]),
                error: "",
            },
            ErrorKind::AccessToken | ErrorKind::Signature => {
                self.challenge(StatusCode::UNAUTHORIZED, "invalid_token", error.message())
            }
            _ => Refusal { status: StatusCode::INTERNAL_SERVER_ERROR, headers: HeaderMap::new(), error: "" },
        }
    }

    /// A refusal with a challenge (RFC 6750, section 3). Without an error it asks for a token.
    fn challenge(&self, status: StatusCode, error: &'static str, why: &str) -> Refusal {
        let mut value = String::from("Bearer");
        let mut param = |name: &str, text: &str| {
            value.push_str(if value.len() == "Bearer".len() { " " } else { ", " });
            value.push_str(name);
            value.push_str("=\"");
            value.push_str(text);
            value.push('"');
        };
        if let Some(realm) = &self.realm {
            param("realm", realm);
        }
        if !error.is_empty() {
            param("error", error);
            param("error_description", &shown(why));
        }
        // What is wanted helps with whatever leads to another token.
        if !self.scopes.is_empty() && status != StatusCode::BAD_REQUEST {
            param("scope", &shown(self.scopes.as_str()));
        }
        if error == "insufficient_user_authentication" {
            if !self.acr_values.is_empty() {
                param("acr_values", &self.acr_values.join(" "));
            }
            if let Some(max_age) = self.max_age {
                param("max_age", &max_age.as_secs().to_string());
            }
        }
        if let Some(address) = &self.resource_metadata {
            param("resource_metadata", address);
        }
        let value = HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        Refusal { status, headers: HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]), error }
    }
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Protection");
        shown.field("scopes", &self.scopes).field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

/// How far the server's clock may be behind the clock that wrote `auth_time`.
const LEEWAY: Duration = crate::jose::LEEWAY;

/// Whether a text may be a token in a header (RFC 6750, section 2.1).
pub(crate) fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && text.len() <= MAX_TOKEN && body.bytes().all(legal)
}

/// A text as it may stand in a challenge, between quotes (RFC 6750, section 3).
fn shown(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}

/// A refusal: the answer to a request that does not meet the demands.
#[derive(Clone)]
pub struct Refusal {
    status: StatusCode,
    headers: HeaderMap,
    error: &'static str,
}

impl Refusal {
    /// The status: 400, 401, 403, 500 or 503.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers: `WWW-Authenticate`, or `Retry-After`.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// `error` of the challenge, if there is one.
    pub fn error(&self) -> Option<&'static str> {
        Some(self.error).filter(|error| !error.is_empty())
    }

    /// The answer, with this body.
    pub fn into_response<B>(self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal({} {})", self.status.as_u16(), self.error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error() {
            Some(error) => write!(f, "the request is refused: {error} (status {})", self.status.as_u16()),
            None => write!(f, "the request is refused (status {})", self.status.as_u16()),
        }
    }
}

impl std::error::Error for Refusal {}
