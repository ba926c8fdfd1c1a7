//! Requests as values.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Response};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::prepare::{MakePart, Part, Place};
use super::{Exchange, FORM, Received, State, TOTAL, TRIES};
use crate::machine::Repeat;
use crate::server::{Endpoint, Issuer};
use crate::{Client, Cx, Error, Secret};

/// RFC 7523, section 2.2.
const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The most bytes of a token answer.
const MAX_BODY: usize = 1024 * 1024;

/// A request as a value: a form to post or an address to get, ready to become an
/// [`http::Request`] or, with a parse function, an [`Exchange`].
///
/// Parameters without a value are left out (RFC 6749, section 3.1), a repeated one is an error.
/// Such an error is kept and comes out where the request is made.
pub struct Request {
    pub(super) doing: &'static str,
    pub(super) method: Method,
    pub(super) endpoint: Endpoint,
    headers: HeaderMap,
    form: Zeroizing<String>,
    pub(super) secrets: Vec<Secret>,
    /// What makes the parts that are new at each try.
    pub(super) parts: Vec<Arc<dyn MakePart>>,
    pub(super) repeat: Repeat,
    pub(super) max_body: usize,
    pub(super) genuine: fn(&Response<Vec<u8>>) -> Result<(), Error>,
    error: Option<Error>,
}

impl Request {
    /// A form to post. `doing` names the purpose in errors, as in "refreshing a token".
    /// It may reach the server twice only if [`repeat`](Self::repeat) says so.
    pub fn post(doing: &'static str, endpoint: &Endpoint) -> Self {
        Self {
            doing,
            method: Method::POST,
            endpoint: endpoint.clone(),
            headers: HeaderMap::new(),
            form: Zeroizing::new(String::with_capacity(1024)),
            secrets: Vec::new(),
            parts: Vec::new(),
            repeat: Repeat::OnlyIfUnsent,
            max_body: MAX_BODY,
            genuine: |_| Ok(()),
            error: None,
        }
    }

    /// An address to get, any number of times.
    pub fn get(doing: &'static str, endpoint: &Endpoint) -> Self {
        Self { method: Method::GET, repeat: Repeat::Freely, ..Self::post(doing, endpoint) }
    }

    /// Whether the request may reach the server twice.
    pub fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// The most bytes to take from the answer's body; 1 MiB unless told.
    pub fn max_body(mut self, max: usize) -> Self {
        self.max_body = max;
        self
    }

    /// Whether an answer is the server's own, and not of somebody in its place. What is not is an error, whatever
    /// it says; if it says "later", the request is made again.
    pub(crate) fn genuine(mut self, check: fn(&Response<Vec<u8>>) -> Result<(), Error>) -> Self {
        self.genuine = check;
        self
    }

    /// Adds a form parameter. An empty value is left out.
    pub fn param(mut self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            return self;
        }
        // RFC 8707 and RFC 8693 let these two repeat.
        if !matches!(name, "resource" | "audience") && self.has(name) {
            return self.fail(Error::config(format!("the parameter {name} is given twice")));
        }
        self.push(name, value);
        self
    }

    /// Adds a form parameter that is a secret, to be struck from whatever the server says. It must be of
    /// printable ASCII (RFC 6749, appendix A).
    pub fn secret(self, name: &'static str, value: &Secret) -> Self {
        match vschar(name, value.expose()) {
            Ok(()) => self.unicode_secret(name, value),
            Err(error) => self.fail(error),
        }
    }

    /// As [`secret`](Self::secret), of any characters.
    pub(crate) fn unicode_secret(mut self, name: &'static str, value: &Secret) -> Self {
        self.keep_secret(value.expose());
        self.param(name, value.expose())
    }

    /// Adds a parameter of the caller's own, which cannot be one that a grant or a client
    /// authentication sets.
    pub fn extra(self, name: &str, value: &str) -> Self {
        if RESERVED.contains(&name) {
            return self.fail(Error::config(format!("the parameter {name} cannot be set as an extra one")));
        }
        self.param(name, value)
    }

    /// Adds what tells this server which client this is (RFC 6749, section 2.3). A client that is
    /// [registered](Client::registered_at) at another is an error.
    pub fn authenticate(mut self, client: &Client, server: &Issuer) -> Self {
        use crate::client::Method::{Basic, None, Post, PrivateKeyJwt};
        let id = client.id();
        if let Err(error) = client.check_issuer(server) {
            return self.fail(error);
        }
        if let Err(error) = vschar("client_id", id) {
            return self.fail(error);
        }
        match client.method() {
            None => self.param("client_id", id),
            Post(secret) => self.param("client_id", id).secret("client_secret", secret),
            Basic { secret, raw } => {
                if let Err(error) = vschar("client_secret", secret.expose()) {
                    return self.fail(error);
                }
                let credentials = Zeroizing::new(if *raw {
                    format!("{id}:{}", secret.expose())
                } else {
                    format!("{}:{}", *userinfo(id), *userinfo(secret.expose()))
                });
                let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(credentials.as_bytes())));
                self.keep_secret(secret.expose());
                self.keep_secret(value.get(6..).unwrap_or_default());
                self.header_value(AUTHORIZATION, &value)
            }
            PrivateKeyJwt(key) => match key.assertion(client, server) {
                Ok(assertion) => (self.param("client_id", id))
                    .param("client_assertion_type", CLIENT_ASSERTION_TYPE)
                    .part(Arc::new(assertion)),
                Err(error) => self.fail(error),
            },
        }
    }

    /// Adds a header that is no secret.
    pub(crate) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(http::HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    /// Shows a bearer token (RFC 6750, section 2.1).
    pub(crate) fn bearer(mut self, token: &crate::Token) -> Result<Self, Error> {
        self.headers.insert(AUTHORIZATION, token.authorization()?.clone());
        self.keep_secret(token.access_token());
        Ok(self)
    }

    fn header_value(mut self, name: http::HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.insert(name, value);
                self
            }
            Err(_) => self.fail(Error::config(format!("{name} cannot hold this value"))),
        }
    }

    pub(crate) fn fail(mut self, error: Error) -> Self {
        self.error.get_or_insert(error);
        self
    }

    /// What must not be shown, should the server send it back.
    pub(crate) fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    fn keep_secret(&mut self, text: &str) {
        self.secrets.push(text.into());
        let encoded: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        if encoded != text {
            self.secrets.push(encoded.into());
        }
    }

    fn has(&self, name: &str) -> bool {
        form_urlencoded::parse(self.form.as_bytes()).any(|(other, _)| other == name)
    }

    /// Writes a pair where there is room for it, so that no copy of a secret is left behind by growth.
    fn push(&mut self, name: &str, value: &str) {
        let needed = name.len().saturating_add(value.len()).saturating_mul(3).saturating_add(2);
        if self.form.capacity().saturating_sub(self.form.len()) < needed {
            let room = self.form.capacity().saturating_mul(2).saturating_add(needed);
            let mut larger = Zeroizing::new(String::with_capacity(room));
            larger.push_str(&self.form);
            self.form = larger;
        }
        write_pair(&mut self.form, name, value);
    }

    /// The request for whoever sends it themselves. Follow no redirect with it, and hand the answer to
    /// the parse function of its kind.
    ///
    /// What it is signed with is made at this moment, so make one for each try.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`](crate::ErrorKind::Config) if something in the request cannot be sent, or it is
    /// signed by a key that is far away: only an [`Exchange`] can ask for its signature.
    pub fn to_http(&self, cx: &mut Cx) -> Result<http::Request<Vec<u8>>, Error> {
        self.check()?;
        self.build(&self.parts_made_here(cx)?)
    }

    /// The first thing that was wrong with it.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.error.clone().map_or(Ok(()), Err)
    }

    /// The request with the parts that were made for this try.
    pub(super) fn build(&self, parts: &[Part]) -> Result<http::Request<Vec<u8>>, Error> {
        let mut request = http::Request::new(self.body(parts));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = (self.endpoint.as_str().parse())
            .map_err(|e| Error::config("the endpoint is not an address that HTTP can use").with_source(e))?;
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if self.method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
        }
        Ok(request)
    }

    /// The form with its parts, written where there is room for all, so that no copy is left behind by growth.
    fn body(&self, parts: &[Part]) -> Vec<u8> {
        let encoded = |text: &str| text.len().saturating_mul(3);
        let room = parts.iter().map(|Part { place: Place::Param(name), value, .. }| {
            encoded(name).saturating_add(encoded(value.expose())).saturating_add(2)
        });
        let mut body = String::with_capacity(room.fold(self.form.len(), usize::saturating_add));
        body.push_str(&self.form);
        for Part { place: Place::Param(name), value, .. } in parts {
            write_pair(&mut body, name, value.expose());
        }
        body.into_bytes()
    }

    /// A machine that makes this request and parses its answer.
    pub fn exchange<T>(self, parse: impl FnMut(Received<'_>) -> Result<T, Error> + Send + 'static) -> Exchange<T> {
        Exchange {
            request: self,
            parse: Box::new(parse),
            rescue: Err,
            total: TOTAL,
            start_before: None,
            deadline: Duration::ZERO,
            tries: 0,
            most: TRIES,
            parts: Vec::new(),
            nonce: None,
            asked_for_nonce: false,
            state: State::Ready,
        }
    }
}

fn write_pair(form: &mut String, name: &str, value: &str) {
    if !form.is_empty() {
        form.push('&');
    }
    form.extend(form_urlencoded::byte_serialize(name.as_bytes()));
    form.push('=');
    form.extend(form_urlencoded::byte_serialize(value.as_bytes()));
}

/// Shows where it goes and no parameter.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({}: {} {:?})", self.doing, self.method, self.endpoint)
    }
}

/// Parameters that only grants and client authentications set.
const RESERVED: [&str; 19] = [
    "access_token",
    "assertion",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "device_code",
    "grant_type",
    "nonce",
    "password",
    "redirect_uri",
    "refresh_token",
    "response_type",
    "state",
    "token",
];

/// Whether a caller may not set this parameter of an authorization or token request.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Refuses text outside of %x20-7E (RFC 6749, appendix A): it would end up in headers and forms.
pub(crate) fn vschar(name: &str, value: &str) -> Result<(), Error> {
    if is_printable(value, b' ') {
        return Ok(());
    }
    Err(Error::config(format!("{name} holds a character outside of printable ASCII")))
}

/// Whether all is ASCII from `lowest` to `~`. It does not end at the first wrong byte, so that the compiler
/// can look at many at a time.
pub(crate) fn is_printable(text: &str, lowest: u8) -> bool {
    text.bytes().fold(true, |legal, byte| legal & (lowest..=b'~').contains(&byte))
}

/// Form-encodes for HTTP Basic. A space becomes `%20`: servers that do not decode `+` are
/// many, servers that do not decode `%20` were not met.
fn userinfo(text: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(text.len().saturating_mul(3)));
    for part in form_urlencoded::byte_serialize(text.as_bytes()) {
        encoded.push_str(if part == "+" { "%20" } else { part });
    }
    encoded
}
