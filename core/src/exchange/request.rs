//! Requests as values: those of the grants and endpoints of the standards, and those of a caller's own.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Response, Uri};
use serde::Serialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::prepare::{MakePart, Part, Place};
use super::text::{CLIENTS_HEADERS, RESERVED, Size, is_encoded, push_encoded, vschar, write_pair};
use super::{Exchange, FORM, Received, State, TOTAL, TRIES};
use crate::machine::{Identity, Repeat};
use crate::server::Endpoint;
use crate::{Cx, Error, Secret, Shown};

static FORM_TYPE: HeaderValue = HeaderValue::from_static(FORM);
static JSON_TYPE: HeaderValue = HeaderValue::from_static("application/json");
/// The most bytes of a token answer.
const MAX_BODY: usize = 1024 * 1024;

/// What the answer to a request may refuse, so that a person must sign in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusable {
    Nothing,
    RefreshToken,
    Password,
}

/// A request as a value: a form to post, JSON, or an address to get. With a parse function it becomes an [`Exchange`];
/// a caller that sends it itself makes an [`http::Request`] of it.
///
/// Parameters without a value are left out (RFC 6749, section 3.1), and a repeated one is an error. Such an error is
/// kept and reported where the request is made.
///
/// Sources and signers of your own make their requests by it:
///
/// ```
/// use grantflow::exchange::Request;
/// use grantflow::{Endpoint, Error, ErrorKind, Exchange, Secret};
/// use serde_json::{Value, json};
///
/// fn lookup(token: &Secret) -> Result<Exchange<String>, Error> {
///     let request = Request::post("looking up a lease", &Endpoint::new("https://vault.example/v1/sys/leases/lookup")?)
///         .secret_header("x-vault-token", token)
///         .json(&json!({"lease_id": "database/creds/readonly/abc"}));
///     Ok(request.exchange(|received| {
///         let answer: Value = serde_json::from_slice(received.response.body())
///             .map_err(|_| Error::new(ErrorKind::InvalidResponse, "the answer is no JSON"))?;
///         let until = answer["data"]["expire_time"].as_str();
///         Ok(until.ok_or_else(|| Error::new(ErrorKind::InvalidResponse, "the lease does not end"))?.to_owned())
///     }))
/// }
/// # let request = lookup(&"hvs.x".into())?.request().to_http(&mut grantflow::Cx::without_entropy(Default::default()))?;
/// # assert_eq!(request.headers()["content-type"], "application/json");
/// # Ok::<(), Error>(())
/// ```
pub struct Request(pub(super) Box<Inner>);

/// What a request is made of, in a box: it is handed on with each part that it gets.
pub(super) struct Inner {
    pub(super) doing: &'static str,
    pub(super) method: Method,
    pub(super) endpoint: Endpoint,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Zeroizing<String>,
    /// What the body is.
    kind: Kind,
    pub(super) secrets: Vec<Secret>,
    /// What makes the parts that are new at each try.
    pub(super) parts: Vec<Arc<dyn MakePart>>,
    pub(super) repeat: Repeat,
    pub(super) max_body: usize,
    pub(super) identity: Option<Identity>,
    /// Whether it uses a refresh token, whose refusal has many words.
    pub(super) refusable: Refusable,
    /// How old the answer may be, and how old where a newer one cannot be obtained.
    pub(super) oldest: Option<(Duration, Duration)>,
    /// Another address that such a document may be at.
    pub(super) other: Option<Uri>,
    pub(super) genuine: fn(&Response<Vec<u8>>) -> Result<(), Error>,
    error: Option<Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Form,
    Json,
}

impl Request {
    /// A form or JSON to post. `doing` names the purpose in errors, as in "refreshing a token". The request may reach
    /// the server twice only if [`repeat`](Self::repeat) says so.
    pub fn post(doing: &'static str, endpoint: &Endpoint) -> Self {
        Self::made(doing, Method::POST, Kind::Form, Repeat::OnlyIfUnsent, endpoint)
    }

    fn made(doing: &'static str, method: Method, kind: Kind, repeat: Repeat, endpoint: &Endpoint) -> Self {
        let room = if kind == Kind::Form { 1024 } else { 0 };
        Self(Box::new(Inner {
            doing,
            method,
            endpoint: endpoint.clone(),
            headers: Vec::new(),
            body: Zeroizing::new(String::with_capacity(room)),
            kind,
            secrets: Vec::new(),
            parts: Vec::new(),
            repeat,
            max_body: MAX_BODY,
            identity: None,
            refusable: Refusable::Nothing,
            oldest: None,
            other: None,
            genuine: |_| Ok(()),
            error: None,
        }))
    }

    /// An address to get. The request may be repeated, and has no parameters but those in the address.
    pub fn get(doing: &'static str, endpoint: &Endpoint) -> Self {
        Self::made(doing, Method::GET, Kind::Nothing, Repeat::Freely, endpoint)
    }

    /// A request of any method, without a body unless one is added.
    pub fn new(doing: &'static str, method: Method, endpoint: &Endpoint) -> Self {
        Self::made(doing, method, Kind::Nothing, Repeat::OnlyIfUnsent, endpoint)
    }

    /// Sets whether the request may reach the server twice.
    pub fn repeat(mut self, repeat: Repeat) -> Self {
        self.0.repeat = repeat;
        self
    }

    /// Sets the most bytes to take from the answer's body; 1 MiB by default.
    pub fn max_body(mut self, max: usize) -> Self {
        self.0.max_body = max;
        self
    }

    /// Says that the answer is a public document, which may be old: see [`Call::may_be_old`](crate::Call::may_be_old).
    pub fn may_be_old(mut self, age: Duration, on_failure: Duration) -> Self {
        self.0.oldest = Some((age, on_failure));
        self
    }

    /// Says at which other address the document may be, too: see [`Call::or_at`](crate::Call::or_at).
    pub(crate) fn or_at(mut self, other: &Endpoint) -> Self {
        self.0.other = other.as_str().parse().ok();
        self
    }

    /// Presents this certificate to the server (RFC 8446, section 4.4.2; RFC 8705, section 2). It needs https and a
    /// driver that obeys [`Rules::IDENTITY`](crate::machine::Rules::IDENTITY): another driver sends nothing.
    ///
    /// ```
    /// use grantflow::Endpoint;
    /// use grantflow::exchange::Request;
    /// use grantflow::machine::Identity;
    ///
    /// let endpoint = Endpoint::new("https://mtls.as.example/token")?;
    /// let request = Request::post("getting a token", &endpoint)
    ///     .param("grant_type", "client_credentials")
    ///     .param("client_id", "demo")
    ///     .identity(Identity::named("demo"));
    /// # let _ = request;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    pub fn identity(mut self, identity: Identity) -> Self {
        self.0.identity = Some(identity);
        self
    }

    /// Sends it there instead.
    pub(crate) fn at(mut self, endpoint: Endpoint) -> Self {
        self.0.endpoint = endpoint;
        self
    }

    /// Whether an answer is the server's own, and not of another in its place. What is not is an error, whatever
    /// it says; if it says "later", the request is made again.
    pub(crate) fn genuine(mut self, check: fn(&Response<Vec<u8>>) -> Result<(), Error>) -> Self {
        self.0.genuine = check;
        self
    }

    /// It uses what a server may refuse so that a person must sign in again.
    pub(crate) fn refuses(mut self, what: Refusable) -> Self {
        self.0.refusable = what;
        self
    }

    /// Adds a form parameter. An empty value is left out.
    pub fn param(mut self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            return self;
        }
        match self.0.kind {
            Kind::Form => {}
            Kind::Nothing if self.0.method != Method::GET && self.0.method != Method::HEAD => self.0.kind = Kind::Form,
            Kind::Nothing | Kind::Json => {
                let why = "it belongs into the address, or into the JSON";
                return self.fail(Error::config(format!("the parameter {} needs a form: {why}", Shown::name(name))));
            }
        }
        // RFC 8707 and RFC 8693 let these two repeat.
        if !matches!(name, "resource" | "audience") && self.has(name) {
            return self.fail(Error::config(format!("the parameter {} is given twice", Shown::name(name))));
        }
        self.push(name, value);
        self
    }

    /// Adds a form parameter that is a secret, which is struck out of the server's errors. It must be of printable
    /// ASCII (RFC 6749, appendix A).
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

    /// Adds a parameter of the caller's own. Parameters of grants and of client authentication cannot be set by this.
    pub fn extra(self, name: &str, value: &str) -> Self {
        if RESERVED.contains(&name) {
            return self
                .fail(Error::config(format!("the parameter {} cannot be set as an extra one", Shown::name(name))));
        }
        self.param(name, value)
    }

    /// Sends this value as JSON. Secrets in it are struck out of the server's errors only if they are
    /// [named](Self::keeps_secret).
    pub fn json(mut self, value: &impl Serialize) -> Self {
        if self.0.kind == Kind::Json || !self.0.body.is_empty() {
            return self.fail(Error::config("a request has one body: a form, or one value as JSON"));
        }
        // Written where there is room for it, so that no copy of a secret is left behind by growth.
        let mut size = Size(0);
        let written = serde_json::to_writer(&mut size, value).and_then(|()| {
            let mut json = Zeroizing::new(Vec::with_capacity(size.0));
            serde_json::to_writer(&mut *json, value).map(|()| json)
        });
        match written.map(|mut json| String::from_utf8(std::mem::take(&mut *json))) {
            Ok(Ok(json)) => self.0.body = Zeroizing::new(json),
            Ok(Err(_)) | Err(_) => return self.fail(Error::config("the value cannot be written as JSON")),
        }
        self.0.kind = Kind::Json;
        self
    }

    /// Adds a header that is no secret. A header that the HTTP client sets, and one that is there already, is an error;
    /// `content-type` and `accept` may be set where `application/json` will not do.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.named_header(name, value, false)
    }

    /// Adds a header that is a secret, which is struck out of the server's errors.
    pub fn secret_header(mut self, name: &str, value: &Secret) -> Self {
        self.keep_secret(value.expose());
        // As in "Bearer abc": what is secret stands behind the scheme.
        if let Some((_, credentials)) = value.expose().split_once(' ') {
            self.keep_secret(credentials);
        }
        self.named_header(name, value.expose(), true)
    }

    /// Names a secret that is sent within JSON, to be struck out of the server's errors.
    pub fn keeps_secret(mut self, secret: &Secret) -> Self {
        self.keep_secret(secret.expose());
        self
    }

    /// Adds a bearer token (RFC 6750, section 2.1).
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::TokenType`](crate::ErrorKind::TokenType) if the token is no bearer token.
    pub fn bearer(mut self, token: &crate::Token) -> Result<Self, Error> {
        if self.has_header(&AUTHORIZATION) {
            return Ok(self.fail(twice(&AUTHORIZATION)));
        }
        self.0.headers.push((AUTHORIZATION, token.authorization()?.clone()));
        self.keep_secret(token.access_token());
        Ok(self)
    }

    /// Adds an access token: a bearer token (RFC 6750, section 2.1), or one that is bound to a key, with a proof that
    /// is made anew at each try (RFC 9449, section 7.1).
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::TokenType`](crate::ErrorKind::TokenType) if the token is of another kind.
    pub fn token(mut self, token: &crate::Token) -> Result<Self, Error> {
        let Some((header, proofs)) = token.bound() else { return self.bearer(token) };
        if self.has_header(&AUTHORIZATION) {
            return Ok(self.fail(twice(&AUTHORIZATION)));
        }
        self.0.headers.push((AUTHORIZATION, header.clone()));
        self.keep_secret(token.access_token());
        Ok(self.part(Arc::new(proofs.clone())))
    }

    fn named_header(self, name: &str, value: &str, sensitive: bool) -> Self {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return self.fail(Error::config("a header has a name that none can have"));
        };
        if CLIENTS_HEADERS.contains(&name.as_str()) {
            return self.fail(Error::config(format!("the header {name} is the HTTP client's to set")));
        }
        self.add_header(name, value, sensitive)
    }

    pub(super) fn add_header(mut self, name: HeaderName, value: &str, sensitive: bool) -> Self {
        let made = match sensitive {
            true => self::sensitive(value),
            false => HeaderValue::from_str(value).map_err(|_| Error::config("")),
        };
        match made {
            Ok(value) if !self.has_header(&name) => {
                self.0.headers.push((name, value));
                self
            }
            Ok(_) => self.fail(twice(&name)),
            Err(_) => self.fail(Error::config(format!("{name} cannot hold this value"))),
        }
    }

    pub(crate) fn fail(mut self, error: Error) -> Self {
        self.0.error.get_or_insert(error);
        self
    }

    /// What must not be shown, should the server send it back.
    pub(crate) fn secrets(&self) -> &[Secret] {
        &self.0.secrets
    }

    pub(super) fn keep_secret(&mut self, text: &str) {
        self.0.secrets.push(text.into());
        if !is_encoded(text) {
            let mut encoded = Zeroizing::new(String::with_capacity(text.len().saturating_mul(3)));
            push_encoded(&mut encoded, text);
            self.0.secrets.push(encoded.as_str().into());
        }
    }

    fn has_header(&self, name: &HeaderName) -> bool {
        self.0.headers.iter().any(|(other, _)| other == name)
    }

    /// Whether it has a parameter of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        let name = match is_encoded(name) {
            true => Cow::Borrowed(name),
            false => form_urlencoded::byte_serialize(name.as_bytes()).collect(),
        };
        let mut pairs = self.0.body.split('&').filter_map(|pair| pair.split_once('='));
        pairs.any(|(other, _)| other == name)
    }

    /// Writes a pair where there is room for it, so that no copy of a secret is left behind by growth.
    fn push(&mut self, name: &str, value: &str) {
        let needed = name.len().saturating_add(value.len()).saturating_mul(3).saturating_add(2);
        if self.0.body.capacity().saturating_sub(self.0.body.len()) < needed {
            let room = self.0.body.capacity().saturating_mul(2).saturating_add(needed);
            let mut larger = Zeroizing::new(String::with_capacity(room));
            larger.push_str(&self.0.body);
            self.0.body = larger;
        }
        write_pair(&mut self.0.body, name, value);
    }

    /// The request for a caller that sends it itself. Follow no redirect with it, and hand the answer to the parse
    /// function of its kind.
    ///
    /// Signatures are made at this moment: call this once for each try.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`](crate::ErrorKind::Config) if something in the request cannot be sent, or if a
    /// remote key signs it: only an [`Exchange`] can ask for that signature.
    pub fn to_http(&self, cx: &mut Cx) -> Result<http::Request<Vec<u8>>, Error> {
        self.check()?;
        self.build(&self.parts_made_here(cx)?)
    }

    /// The first thing that was wrong with it.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.0.error.clone().map_or(Ok(()), Err)
    }

    /// Its address, as HTTP has it.
    pub(super) fn uri(&self) -> Result<Uri, Error> {
        let uri = self.0.endpoint.as_str().parse();
        uri.map_err(|e| Error::config("the endpoint is not an address that HTTP can use").with_source(e))
    }

    /// The request with the parts that were made for this try.
    pub(super) fn build(&self, parts: &[Part]) -> Result<http::Request<Vec<u8>>, Error> {
        let mut request = http::Request::new(self.body(parts));
        *request.method_mut() = self.0.method.clone();
        *request.uri_mut() = self.uri()?;
        let media_type = match self.0.kind {
            Kind::Nothing => None,
            Kind::Form => Some(&FORM_TYPE),
            Kind::Json => Some(&JSON_TYPE),
        };
        let headers = request.headers_mut();
        for (name, value) in media_type.map(|value| (&CONTENT_TYPE, value)).into_iter().chain([(&ACCEPT, &JSON_TYPE)]) {
            if !self.has_header(name) {
                headers.insert(name, value.clone());
            }
        }
        for (name, value) in &self.0.headers {
            headers.insert(name, value.clone());
        }
        for part in parts {
            if let Place::Header(name) = &part.place {
                headers.insert(name, sensitive(part.value.expose())?);
            }
        }
        Ok(request)
    }

    /// The body with its parts, written where there is room for all, so that no copy is left behind by growth.
    fn body(&self, parts: &[Part]) -> Vec<u8> {
        let encoded = |text: &str| text.len().saturating_mul(3);
        let params = parts.iter().filter_map(|Part { place, value, .. }| match place {
            Place::Param(name) => Some((*name, value.expose())),
            Place::Header(_) => None,
        });
        let room = params.clone().map(|(name, value)| encoded(name).saturating_add(encoded(value)).saturating_add(2));
        let mut body = String::with_capacity(room.fold(self.0.body.len(), usize::saturating_add));
        body.push_str(&self.0.body);
        params.for_each(|(name, value)| write_pair(&mut body, name, value));
        body.into_bytes()
    }

    /// The machine that makes this request and parses its answer.
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
            was_old: false,
            anew: false,
            state: State::Ready,
        }
    }
}

/// A secret as a header's value, whose memory is wiped with its last clone.
fn sensitive(value: &str) -> Result<HeaderValue, Error> {
    let value = HeaderValue::from_maybe_shared(Bytes::from_owner(Zeroizing::new(value.as_bytes().to_vec())));
    let mut value = value.map_err(|_| Error::config("a header cannot hold this value"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn twice(header: &HeaderName) -> Error {
    Error::config(format!("the header {header} is given twice"))
}

/// Shows where it goes and no parameter.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({}: {} {:?})", self.0.doing, self.0.method, self.0.endpoint)
    }
}
