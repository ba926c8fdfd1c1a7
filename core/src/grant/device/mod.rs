//! The device authorization grant (RFC 8628): a device shows a code, and a person enters it elsewhere.
//!
//! ```text
//! DeviceAuthorization ─exchange─▶ DeviceCode (to show) ─poll─▶ DevicePolling ─▶ Token
//!                     code_challenge                       code_verifier
//! ```

mod polling;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(super) use polling::Deferred;
pub use polling::DevicePolling;
pub(crate) use polling::GRANT_TYPE;

use crate::exchange::{Received, Request, is_printable};
use crate::jose::SignInTerms;
use crate::loopback::openable;
use crate::machine::Repeat;
use crate::pkce::{random_text, s256};
use crate::server::GOOGLE;
use crate::shown::printable;
use crate::token::{Answer, Known, Scalar, Text, invalid};
use crate::{
    Client, Cx, Deviation, Deviations, Error, Exchange, Issuer, Machine, Reply, Scopes, Secret, ServerMetadata, Step,
    Timestamp,
};

/// The pause between two questions unless the server names another (RFC 8628, section 3.2).
pub(super) const INTERVAL: u64 = 5;
/// Lifetimes above this are cut to it.
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(86_400);
/// The longest device code to take.
const MAX_CODE: usize = 16 * 1024;
/// The most characters that a person is asked to type.
const MAX_USER_CODE: usize = 100;
/// The most bytes of an answer with codes.
const MAX_BODY: usize = 64 * 1024;
const DOING: &str = "asking for a device code";

/// A request for a code to show to a person (RFC 8628, section 3.1). Make it only when the person asks for it.
///
/// ```
/// use grantflow::{Client, DeviceAuthorization, Error, Machine, ServerMetadata};
///
/// # fn run<M: Machine>(_: M) -> Result<M::Output, Error> { Err(Error::new(grantflow::ErrorKind::Config, "")) }
/// # fn sign_in() -> Result<(), Error> {
/// let (server, client) = (ServerMetadata::google(), Client::new("1234567890-tv.apps.googleusercontent.com"));
/// let code = run(DeviceAuthorization::new(&server, &client)?.scopes("email profile").exchange())?;
/// println!("On any device, open {} and enter {}", code.verification_uri(), code.user_code());
/// let token = run(code.poll(&server, &client)?)?;
/// # drop(token);
/// # Ok(()) }
/// ```
pub struct DeviceAuthorization {
    request: Request,
    scopes: Scopes,
    terms: SignInTerms,
    lifetime: Duration,
    pkce: bool,
    tolerated: Deviations,
    issuer: Issuer,
    client_id: Arc<str>,
}

impl DeviceAuthorization {
    /// A request of `client`.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `device_authorization_endpoint`, or the client is registered at another server.
    pub fn new(server: &ServerMetadata, client: &Client) -> Result<Self, Error> {
        client.check_issuer(server.issuer())?;
        client.check_own_profile()?;
        let server = &*client.endpoints_of(server)?;
        let request = Request::post(DOING, server.device_authorization()?).repeat(Repeat::Freely);
        let request = request.max_body(MAX_BODY).authenticate(&*client.at(server)?, server.issuer());
        Ok(Self {
            request,
            scopes: Scopes::default(),
            terms: SignInTerms::default(),
            lifetime: MAX_LIFETIME,
            pkce: server.knows_s256() && server.issuer().as_str() != GOOGLE,
            tolerated: server.tolerated(),
            issuer: server.issuer().clone(),
            client_id: client.shared_id(),
        })
    }

    /// Asks for these scopes.
    pub fn scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.scopes = scopes.into();
        self.request = match self.scopes.check() {
            Ok(()) => self.request.param("scope", self.scopes.as_str()),
            Err(error) => self.request.fail(error),
        };
        self
    }

    /// Adds a resource that the token is for, by its address; may be called several times (RFC 8707).
    pub fn resource(mut self, resource: &str) -> Self {
        self.request = match super::check_resource(resource) {
            Ok(()) => self.request.param("resource", resource),
            Err(error) => self.request.fail(error),
        };
        self
    }

    /// `authorization_details`: what the token is to be good for, in detail (RFC 9396).
    pub fn authorization_details(mut self, details: &serde_json::Value) -> Self {
        let text = details.to_string();
        self.request = match super::check_details(&text) {
            Ok(()) => self.request.param("authorization_details", &text),
            Err(error) => self.request.fail(error),
        };
        self
    }

    /// Sets how long the person may take at the most; by default as long as the code lives, up to a day.
    pub fn lifetime(mut self, time: Duration) -> Self {
        self.lifetime = time;
        self
    }

    /// Sets whether PKCE protects the device code (RFC 7636): a `code_challenge` goes with this request, and its
    /// `code_verifier` with each request for the token, so that a device code is of no use to others that have read it.
    ///
    /// By default it does at each server that lists `S256` in `code_challenge_methods_supported`, except at Google, which
    /// documents PKCE for browsers alone. Servers ignore parameters that they do not know (RFC 8628, section 3.1).
    pub fn pkce(mut self, protects: bool) -> Self {
        self.pkce = protects;
        self
    }

    /// Adds a parameter of the server's own. `max_age` and `acr_values` must be met, as with
    /// [`AuthorizationRequest::extra`](crate::AuthorizationRequest::extra): if there is an ID token, it is checked against them.
    pub fn extra(mut self, name: &str, value: &str) -> Self {
        match name {
            "max_age" => match value.parse() {
                Ok(seconds) => self.terms.max_age = Some(seconds),
                Err(_) => self.request = self.request.fail(Error::config("max_age is no whole number of seconds")),
            },
            "acr_values" => self.terms.acr_values = value.split_whitespace().map(Into::into).collect(),
            _ => {}
        }
        self.request = self.request.extra(name, value);
        self
    }

    /// The machine that gets the code.
    pub fn exchange(self) -> DeviceExchange {
        DeviceExchange(Stage::Begin(Box::new(self)))
    }

    fn begin(self, cx: &mut Cx) -> Result<Exchange<DeviceCode>, Error> {
        let Self { mut request, scopes, terms, lifetime, pkce, tolerated, issuer, client_id } = self;
        let code_verifier = if pkce { Some(random_text(cx, "pkce verifier")?) } else { None };
        if let Some(verifier) = &code_verifier {
            let challenge = &mut [0; 43];
            request = request.param("code_challenge", s256(verifier, challenge)).param("code_challenge_method", "S256");
        }
        Ok(request.exchange(move |received| {
            let mut code = DeviceCode::parse(received, &scopes, tolerated, (&issuer, &client_id))?;
            code.expires_at = code.expires_at.min(received.sent + lifetime);
            code.code_verifier.clone_from(&code_verifier);
            code.terms = terms.clone();
            Ok(code)
        }))
    }
}

/// The machine that gets a code to show: see [`DeviceAuthorization::exchange`].
///
/// ```text
/// Begin (draws the verifier) ─▶ Ask ─▶ Ended
/// ```
#[derive(Debug)]
pub struct DeviceExchange(Stage);

#[derive(Debug)]
enum Stage {
    Begin(Box<DeviceAuthorization>),
    Ask(Box<Exchange<DeviceCode>>),
    Ended,
}

impl Machine for DeviceExchange {
    type Output = DeviceCode;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<DeviceCode> {
        let mut exchange = match (std::mem::replace(&mut self.0, Stage::Ended), &reply) {
            (Stage::Begin(request), Reply::Start) => match request.begin(cx) {
                Ok(exchange) => Box::new(exchange),
                Err(error) => return Step::Done(Err(error.during(DOING, None))),
            },
            (Stage::Ask(exchange), _) => exchange,
            _ => return Step::Done(Err(Error::misuse(DOING))),
        };
        let step = exchange.resume(cx, reply);
        if matches!(step, Step::Do(_)) {
            self.0 = Stage::Ask(exchange);
        }
        step
    }
}

/// A code to show to the person, and the data to ask the server for the token meanwhile.
///
/// Show [`verification_uri`](Self::verification_uri) and [`user_code`](Self::user_code), unchanged. If there is a
/// complete address, perhaps for a QR code, show the code beside it all the same, so that the person can compare (RFC
/// 8628, section 5.4).
#[derive(Clone)]
pub struct DeviceCode {
    /// Who asked for it where.
    issuer: Issuer,
    client_id: Arc<str>,
    device_code: Secret,
    code_verifier: Option<Secret>,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_at: Timestamp,
    interval: Duration,
    scopes: Scopes,
    terms: SignInTerms,
    deviations: Deviations,
}

/// The members of the answer. Google's names for addresses end in `url`.
#[derive(Default)]
struct Codes<'a> {
    device_code: Scalar<'a>,
    user_code: Scalar<'a>,
    verification_uri: Scalar<'a>,
    verification_url: Scalar<'a>,
    verification_uri_complete: Scalar<'a>,
    verification_url_complete: Scalar<'a>,
    expires_in: Scalar<'a>,
    interval: Scalar<'a>,
}

impl<'a> Known<'a> for Codes<'a> {
    const WHAT: &'static str = "device code";

    fn member(&mut self, name: &str) -> Option<(&mut Scalar<'a>, u8)> {
        Some(match name {
            "device_code" => (&mut self.device_code, 1),
            "user_code" => (&mut self.user_code, 2),
            "verification_uri" => (&mut self.verification_uri, 4),
            "verification_url" => (&mut self.verification_url, 8),
            "verification_uri_complete" => (&mut self.verification_uri_complete, 16),
            "verification_url_complete" => (&mut self.verification_url_complete, 32),
            "expires_in" => (&mut self.expires_in, 64),
            "interval" => (&mut self.interval, 128),
            _ => return None,
        })
    }
}

impl DeviceCode {
    /// Reads the answer (RFC 8628, section 3.2).
    fn parse(
        received: Received<'_>,
        scopes: &Scopes,
        tolerated: Deviations,
        (issuer, client_id): (&Issuer, &Arc<str>),
    ) -> Result<Self, Error> {
        let mut deviations = Deviations::NONE;
        let mut answer = Answer::<Codes<'_>>::default();
        let mut text;
        if let Err(error) = answer.read(received, tolerated, &mut deviations) {
            text = Text::of(received.response.body());
            answer.read_again(&mut text, error, received, tolerated, &mut deviations)?;
        }
        let codes = answer.known;
        let device_code = need("device_code", codes.device_code)?;
        let user_code = match codes.user_code {
            // A code of digits alone, as some write it.
            Scalar::Int(digits) => {
                tolerated.allow(Deviation::OddMember, &mut deviations, "user_code is a number")?;
                digits.to_string().into()
            }
            other => need("user_code", other)?,
        };
        if device_code.len() > MAX_CODE || !is_printable(&device_code, b' ') {
            return Err(invalid("device_code is too long or holds characters that it may not"));
        }
        // What a terminal would take for a command is not what the person must type.
        if printable(&user_code, MAX_USER_CODE) != user_code {
            return Err(invalid("user_code cannot be shown"));
        }
        let uri = address("verification_uri", codes.verification_uri);
        let url = address("verification_url", codes.verification_url);
        let complete_uri = address("verification_uri_complete", codes.verification_uri_complete);
        let complete_url = address("verification_url_complete", codes.verification_url_complete);
        // An address that nobody may open costs itself, if there is another to go to.
        if [&uri, &url, &complete_uri, &complete_url].into_iter().any(Result::is_err) {
            tolerated.allow(Deviation::OddMember, &mut deviations, "an address is none that may be opened")?;
        }
        let verification_uri = match (uri, url) {
            (Ok(Some(uri)), _) | (_, Ok(Some(uri))) => uri,
            (Err(error), _) | (_, Err(error)) => return Err(error),
            (Ok(None), Ok(None)) => return Err(invalid("the answer has no verification_uri")),
        };
        let lifetime = codes.expires_in.seconds(tolerated, &mut deviations)?;
        let lifetime = Duration::from_secs(lifetime.ok_or_else(|| invalid("the answer has no expires_in"))?);
        let lifetime = lifetime.min(MAX_LIFETIME);
        let interval = codes.interval.seconds(tolerated, &mut deviations)?.filter(|seconds| *seconds > 0);
        let interval = Duration::from_secs(interval.unwrap_or(INTERVAL));
        if interval >= lifetime {
            return Err(invalid("the code ends before its token may be asked for: see expires_in and interval"));
        }
        Ok(Self {
            issuer: issuer.clone(),
            client_id: client_id.clone(),
            device_code: (&*device_code).into(),
            code_verifier: None,
            user_code: user_code.into_owned(),
            verification_uri,
            verification_uri_complete: complete_uri.ok().flatten().or(complete_url.ok().flatten()),
            expires_at: received.sent + lifetime,
            interval,
            scopes: scopes.clone(),
            terms: SignInTerms::default(),
            deviations,
        })
    }

    /// The code that the person enters.
    pub fn user_code(&self) -> &str {
        &self.user_code
    }

    /// The address where the person enters the code.
    pub fn verification_uri(&self) -> &str {
        &self.verification_uri
    }

    /// The same address with the code in it, if the server has one.
    pub fn verification_uri_complete(&self) -> Option<&str> {
        self.verification_uri_complete.as_deref()
    }

    /// When the code expires, or its caller stops waiting.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The pause that the server demands between two requests for the token.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The deviations from the standard that were tolerated in the answer.
    pub fn deviations(&self) -> Deviations {
        self.deviations
    }
}

fn need<'a>(name: &'static str, value: Scalar<'a>) -> Result<Cow<'a, str>, Error> {
    let text = value.text(name)?.filter(|text| !text.is_empty());
    text.ok_or_else(|| invalid(format!("the answer has no {name}")))
}

/// An address that a person may be sent to.
fn address(name: &'static str, value: Scalar<'_>) -> Result<Option<String>, Error> {
    let Some(text) = value.text(name)?.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let text = text.trim();
    openable(text).map_err(|e| invalid(format!("{name} is none that may be opened")).with_source(e))?;
    Ok(Some(text.to_owned()))
}

impl fmt::Debug for DeviceCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCode")
            .field("verification_uri", &self.verification_uri)
            .field("expires_at", &self.expires_at)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DeviceAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceAuthorization")
            .field("request", &self.request)
            .field("scopes", &self.scopes)
            .field("client_id", &crate::Shown::name(&self.client_id))
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
