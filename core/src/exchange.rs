//! The one place where core makes an HTTP request: a [`Request`] value, a parse function, and
//! [`Exchange`], the machine that carries the one to a server and its answer to the other.
//!
//! ```text
//! Ready ─Start─▶ Sent ─answer─▶ Ended (parsed, or the server's error)
//!                 │ ▲
//!         failure │ │ Slept                 only if it may be sent again, within its total time,
//!                 ▼ │                       and never longer than the server asks to wait
//!               Waiting ─Refused─▶ Ended (the error that led here)
//! ```

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Response};
use serde_json::Value;
use url::form_urlencoded;
use zeroize::{Zeroize, Zeroizing};

use crate::machine::Repeat;
use crate::server::Endpoint;
use crate::{Call, Client, Cx, Effect, Error, ErrorKind, Machine, Now, Reply, Secret, ServerError, Step, Timestamp};

/// The media type of requests with parameters (RFC 6749, appendix B).
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
/// The total time of an exchange, its repetitions included.
const TOTAL: Duration = Duration::from_secs(30);
/// How often one exchange sends its request at the most.
const TRIES: u32 = 4;
/// The first pause before sending again; it doubles from one to the next.
const PAUSE: Duration = Duration::from_millis(500);
/// The most bytes of a token answer.
const MAX_BODY: usize = 1024 * 1024;

/// A request as a value: a form to post or an address to get, ready to become an
/// [`http::Request`] or, with a parse function, an [`Exchange`].
///
/// Parameters without a value are left out (RFC 6749, section 3.1), a repeated one is an error.
/// Such an error is kept and comes out where the request is made.
pub struct Request {
    doing: &'static str,
    method: Method,
    endpoint: Endpoint,
    headers: HeaderMap,
    form: Zeroizing<String>,
    secrets: Vec<Secret>,
    repeat: Repeat,
    max_body: usize,
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
            repeat: Repeat::OnlyIfUnsent,
            max_body: MAX_BODY,
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

    /// Adds what tells the server which client this is (RFC 6749, section 2.3).
    pub fn authenticate(mut self, client: &Client) -> Self {
        use crate::client::Method::{Basic, None, Post};
        let id = client.id();
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
        if !self.form.is_empty() {
            self.form.push('&');
        }
        self.form.extend(form_urlencoded::byte_serialize(name.as_bytes()));
        self.form.push('=');
        self.form.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    }

    /// The request for whoever sends it themselves. Follow no redirect with it, and hand the answer to
    /// the parse function of its kind.
    pub fn to_http(&self) -> Result<http::Request<Vec<u8>>, Error> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let mut request = http::Request::new(self.form.as_bytes().to_vec());
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
            state: State::Ready,
        }
    }
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
    if value.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return Ok(());
    }
    Err(Error::config(format!("{name} holds a character outside of printable ASCII")))
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

/// A successful answer (status 2xx), with the moments that its times are counted from.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// The answer. Its body is wiped after parsing.
    pub response: &'a Response<Vec<u8>>,
    /// When the request was sent: lifetimes count from here.
    pub sent: Timestamp,
    /// When the answer was there.
    pub now: Timestamp,
}

impl fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({}, {} bytes)", self.response.status(), self.response.body().len())
    }
}

/// One round trip to a server, with whatever it takes: back-off, `Retry-After`, the OAuth error body,
/// a bound on its total time. Every other machine makes its requests through this one.
pub struct Exchange<T> {
    request: Request,
    parse: Parse<T>,
    rescue: fn(Error) -> Result<T, Error>,
    total: Duration,
    start_before: Option<Timestamp>,
    deadline: Duration,
    tries: u32,
    most: u32,
    state: State,
}

type Parse<T> = Box<dyn FnMut(Received<'_>) -> Result<T, Error> + Send>;

enum State {
    Ready,
    Sent { at: Timestamp },
    Waiting { error: Error },
    Ended,
}

impl<T> Machine for Exchange<T> {
    type Output = T;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<T> {
        match (std::mem::replace(&mut self.state, State::Ended), reply) {
            (State::Ready, Reply::Start) => {
                self.deadline = cx.now().mono.saturating_add(self.total);
                self.send(cx.now())
            }
            (State::Sent { at }, Reply::Http(mut response)) => {
                let result = self.judge(&response, at, cx.now().wall);
                response.body_mut().zeroize();
                match result {
                    Err(error) if error.is_transient() => self.pause(cx, error, true),
                    // The server did what was asked, and its answer cannot be used.
                    Err(error) if response.status().is_success() && error.server().is_none() => {
                        self.end(Err(error.uncertain()))
                    }
                    result => self.end(result),
                }
            }
            (State::Sent { .. }, Reply::Failed(failure)) => {
                let maybe_sent = failure.may_have_been_sent();
                let error = Error::from(failure);
                self.pause(cx, if maybe_sent { error.uncertain() } else { error }, maybe_sent)
            }
            (State::Sent { .. }, Reply::Refused) => self.end(Err(Error::refused("Http"))),
            (State::Waiting { error }, Reply::Slept) => match self.deadline.saturating_sub(cx.now().mono) {
                Duration::ZERO => self.end(Err(error)),
                _ => self.send(cx.now()),
            },
            (State::Waiting { error }, Reply::Refused | Reply::Failed(_)) => self.end(Err(error)),
            _ => Step::Done(Err(Error::misuse("an exchange"))),
        }
    }
}

impl<T> Exchange<T> {
    /// The time it may take in all, pauses included; 30 s unless told.
    pub fn total_time(mut self, time: Duration) -> Self {
        self.total = time;
        self
    }

    /// Sends its request once, whatever comes of it.
    pub(crate) fn once(mut self) -> Self {
        self.most = 1;
        self
    }

    /// Never begins to send at or after this moment: it ends with an error of kind
    /// [`ErrorKind::Timeout`] instead.
    pub fn start_before(mut self, moment: Timestamp) -> Self {
        self.start_before = Some(moment);
        self
    }

    /// The request as a value, for whoever sends it themselves.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// What to make of an error: some are a success to some requests.
    pub(crate) fn rescue(mut self, rescue: fn(Error) -> Result<T, Error>) -> Self {
        self.rescue = rescue;
        self
    }

    fn send(&mut self, now: Now) -> Step<T> {
        if self.start_before.is_some_and(|moment| now.wall >= moment) {
            return self.end(Err(Error::new(ErrorKind::Timeout, "the time to begin has passed")));
        }
        let request = match self.request.to_http() {
            Ok(request) => request,
            Err(error) => return self.end(Err(error)),
        };
        self.tries = self.tries.saturating_add(1);
        self.state = State::Sent { at: now.wall };
        Step::Do(Effect::Http(Call {
            request,
            timeout: self.deadline.saturating_sub(now.mono),
            max_body: self.request.max_body,
            repeat: self.request.repeat,
            reach: self.request.endpoint.reach(),
            start_before: self.start_before,
        }))
    }

    /// Waits before the next try, if there may be one; else this error is the end.
    fn pause(&mut self, cx: &mut Cx, error: Error, maybe_sent: bool) -> Step<T> {
        let allowed = self.request.repeat == Repeat::Freely || !maybe_sent;
        if !allowed {
            return self.end(Err(error.uncertain()));
        }
        if !error.is_transient() || self.tries >= self.most {
            return self.end(Err(error));
        }
        // Half of the pause is fixed and half is random, so that many clients do not return in step.
        let longest = PAUSE.saturating_mul(1 << self.tries.saturating_sub(1).min(8));
        let random = cx.random::<1>("back-off").map_or(u8::MAX, |[byte]| byte);
        let pause = longest.mul_f64(0.5 + f64::from(random) / 512.0).max(error.retry_after().unwrap_or_default());
        if pause >= self.deadline.saturating_sub(cx.now().mono) {
            return self.end(Err(error));
        }
        self.state = State::Waiting { error };
        Step::Do(Effect::Sleep(pause))
    }

    fn judge(&mut self, response: &Response<Vec<u8>>, sent: Timestamp, now: Timestamp) -> Result<T, Error> {
        let status = response.status();
        if response.body().len() > self.request.max_body {
            return Err(Error::new(ErrorKind::InvalidResponse, "the answer is larger than allowed"));
        }
        if status.is_success() {
            // The server did what was asked, even if its answer cannot be used, unless it says that it did not.
            return (self.parse)(Received { response, sent, now }).map_err(|error| {
                let error = error.with_status(status.as_u16());
                if error.server().is_some() { error } else { error.uncertain() }
            });
        }
        Err(error_answer(response, now))
    }

    fn end(&mut self, result: Result<T, Error>) -> Step<T> {
        let Request { doing, endpoint, secrets, .. } = &self.request;
        Step::Done(result.or_else(|error| {
            let error = if self.request.repeat == Repeat::Freely { error.certain() } else { error };
            (self.rescue)(error.strike_out(secrets).during(doing, Some(endpoint.as_str())))
        }))
    }
}

impl<T> fmt::Debug for Exchange<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("request", &self.request).finish_non_exhaustive()
    }
}

/// The error of an answer whose status is not 2xx.
fn error_answer(response: &Response<Vec<u8>>, now: Timestamp) -> Error {
    let status = response.status();
    if status.is_redirection() {
        return Error::new(
            ErrorKind::InvalidResponse,
            "the server redirects, and a request with credentials is never sent on",
        )
        .with_status(status.as_u16());
    }
    let busy = matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504);
    let error = match server_error(response) {
        Some(server) => Error::from_server(ErrorKind::Server, server),
        None => Error::new(ErrorKind::Http, "the server answered with an error status"),
    };
    // A code that says what is wrong is worth more than a status that says "later".
    let error = if busy && error.advice().is_none() { error.transient() } else { error };
    // A gateway has lost the answer of a server that may have done its work.
    let error = if matches!(status.as_u16(), 502 | 504) { error.uncertain() } else { error };
    error.with_status(status.as_u16()).with_retry_after(retry_after(response, now))
}

/// `Retry-After`, in seconds or as a date, which counts from the server's own clock if it shows one.
fn retry_after(response: &Response<Vec<u8>>, now: Timestamp) -> Option<Duration> {
    let header = |name| response.headers().get(name)?.to_str().ok().map(str::trim);
    let value = header(RETRY_AFTER)?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let from = header(DATE).and_then(Timestamp::from_http_date).unwrap_or(now);
    Some(Timestamp::from_http_date(value)?.since(from))
}

/// The OAuth error in a body (RFC 6749, section 5.2), or what some servers send in its stead.
pub(crate) fn server_error(response: &Response<Vec<u8>>) -> Option<ServerError> {
    let body = response.body();
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let members = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return None,
        Err(_) if is_form(response) => {
            let pairs = form_urlencoded::parse(body);
            pairs.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect()
        }
        Err(_) => return None,
    };
    let found = server_error_in(&members);
    crate::secret::wipe_json(&mut Value::Object(members));
    found
}

/// Whether a body calls itself a form, as GitHub's does.
pub(crate) fn is_form(response: &Response<Vec<u8>>) -> bool {
    media_type(response).is_some_and(|text| text.eq_ignore_ascii_case(FORM))
}

/// The media type of a body, without its parameters.
pub(crate) fn media_type(response: &Response<Vec<u8>>) -> Option<&str> {
    let text = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    text.split(';').next().map(str::trim)
}

/// The OAuth error among the members of an answer: a string as the standard says, an object as
/// Google's and Facebook's APIs send, or `error_code` as Google's device endpoint does.
pub(crate) fn server_error_in(members: &serde_json::Map<String, Value>) -> Option<ServerError> {
    fn text(members: &serde_json::Map<String, Value>, name: &str) -> Option<String> {
        match members.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
    let first = |members, names: [&str; 3]| names.into_iter().find_map(|name| text(members, name));
    let (error, detail) = match members.get("error") {
        Some(Value::Object(inner)) => (first(inner, ["status", "type", "code"])?, first(inner, ["message"; 3])),
        _ => (first(members, ["error", "error_code", "error_code"])?, None),
    };
    Some(ServerError {
        error,
        error_description: first(members, ["error_description", "message", "error_message"]).or(detail),
        error_uri: text(members, "error_uri"),
        error_subtype: text(members, "error_subtype"),
    })
}
