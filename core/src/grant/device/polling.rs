//! A device's requests for its token, until the person has decided (RFC 8628, sections 3.4 and 3.5).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::DeviceCode;
use crate::grant::TokenRequest;
use crate::grant::signature::CheckSignature;
use crate::jose::{Expected, Occasion, SignIn, SignInTerms};
use crate::machine::{Effect, ask};
use crate::{
    Client, Cx, Error, ErrorKind, Issuer, Machine, Now, Reply, Scopes, Secret, ServerMetadata, Step, Timestamp, Token,
    TokenExchange,
};

/// The grant of a device's code (RFC 8628, section 3.4).
pub(crate) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// What a `slow_down` adds to it (section 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// The longest pause after failures of the network.
const LONGEST: Duration = Duration::from_secs(60);

/// A token that a person must allow elsewhere before it can be asked for.
#[derive(Debug)]
pub(in crate::grant) struct Deferred {
    /// What it is, in errors.
    pub(in crate::grant) what: &'static str,
    pub(in crate::grant) doing: &'static str,
    pub(in crate::grant) grant_type: &'static str,
    /// The parameter that names it, and its value.
    pub(in crate::grant) name: &'static str,
    pub(in crate::grant) secret: Secret,
    /// What proves that it was asked for here, if a challenge went along (RFC 7636).
    pub(in crate::grant) code_verifier: Option<Secret>,
    /// What is told when it ends.
    pub(in crate::grant) late: &'static str,
    /// Who asked for it where.
    pub(in crate::grant) issuer: Issuer,
    pub(in crate::grant) client_id: Arc<str>,
    pub(in crate::grant) expires_at: Timestamp,
    pub(in crate::grant) interval: Duration,
    pub(in crate::grant) scopes: Scopes,
    /// How the person must have signed in.
    pub(in crate::grant) terms: SignInTerms,
}

impl DeviceCode {
    /// The machine that asks for the token until the person has decided.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `token_endpoint`, or if another client or server got the code.
    pub fn poll(self, server: &ServerMetadata, client: &Client) -> Result<DevicePolling, Error> {
        let deferred = Deferred {
            what: "the device code",
            doing: "asking for the device's token",
            grant_type: GRANT_TYPE,
            name: "device_code",
            late: "nobody has entered the code in time",
            issuer: self.issuer,
            client_id: self.client_id,
            secret: self.device_code,
            code_verifier: self.code_verifier,
            expires_at: self.expires_at,
            interval: self.interval,
            scopes: self.scopes,
            terms: self.terms,
        };
        DevicePolling::new(deferred, server, client)
    }
}

/// The machine that asks for the token until the person has decided or the code has expired: for a device (RFC 8628),
/// or for a sign-in without a browser ([`PendingBackchannel`](crate::PendingBackchannel)).
///
/// The server's error code counts, and not the status: Google answers 428 and 403 where RFC 8628 says 400.
///
/// ```text
/// Begin ─▶ Wait ─▶ Ask ─▶ done (a token, a denial, the end of the code)
///           ▲       │ authorization_pending, slow_down, no connection
///           └───────┘
/// ```
#[derive(Debug)]
pub struct DevicePolling {
    deferred: Deferred,
    /// Whether the first question is asked without a pause.
    at_once: bool,
    server: ServerMetadata,
    client: Client,
    /// What each question says besides.
    parameters: Vec<Parameter>,
    interval: Duration,
    /// What the server wants to see in the proof of the next question (RFC 9449, section 8).
    nonce: Option<Box<str>>,
    /// Whether the signature of the ID token is checked, and by what: it has the keys after the first question.
    verifies: bool,
    signature: Option<Box<CheckSignature>>,
    /// Failures of the network, one after another.
    failures: u32,
    stage: Stage,
}

/// A parameter of a question that a caller asked for.
enum Parameter {
    Audience(String),
    Resource(String),
    Extra(String, String),
}

/// Shows no value.
impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Audience(_) => "audience",
            Self::Resource(_) => "resource",
            Self::Extra(name, _) => return fmt::Debug::fmt(&crate::Shown::name(name), f),
        })
    }
}

impl TokenRequest {
    fn with_all(self, parameters: &[Parameter]) -> Self {
        parameters.iter().fold(self, |request, parameter| match parameter {
            Parameter::Audience(audience) => request.audience(audience),
            Parameter::Resource(resource) => request.resource(resource),
            Parameter::Extra(name, value) => request.extra(name, value),
        })
    }
}

#[derive(Debug)]
enum Stage {
    Begin,
    Wait,
    Ask(Box<TokenExchange>),
    Ended,
}

impl Machine for DevicePolling {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        loop {
            let next = match (&mut self.stage, &reply) {
                (Stage::Begin, Reply::Start) if self.at_once => {
                    self.request().map(|exchange| Stage::Ask(Box::new(exchange)))
                }
                (Stage::Begin, Reply::Start) => return self.wait(cx.now(), self.interval, None),
                (Stage::Wait, Reply::Slept) => {
                    reply = Reply::Start;
                    self.request().map(|exchange| Stage::Ask(Box::new(exchange)))
                }
                (Stage::Wait, Reply::Refused) => Err(Error::refused("Sleep")),
                (Stage::Ask(exchange), _) => match ask!(&mut **exchange, cx, reply) {
                    Ok(token) => {
                        self.stage = Stage::Ended;
                        return Step::Done(Ok(token));
                    }
                    // There is no other token to be had with this code.
                    Err(error) if exchange.has_refused_a_token() => Err(error),
                    Err(error) => {
                        self.nonce = exchange.take_nonce();
                        self.signature = exchange.take_signature();
                        match self.patience(&error) {
                            Some(pause) => {
                                let trouble = Some(error).filter(|_| self.failures > 0);
                                return self.wait(cx.now(), pause, trouble);
                            }
                            None => Err(error),
                        }
                    }
                },
                _ => Err(Error::misuse("polling for a device")),
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(error) => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(error));
                }
            }
        }
    }
}

impl DevicePolling {
    pub(in crate::grant) fn new(deferred: Deferred, server: &ServerMetadata, client: &Client) -> Result<Self, Error> {
        client.check_issuer(server.issuer())?;
        let Deferred { what, issuer, client_id, .. } = &deferred;
        if issuer != server.issuer() {
            let why = format!("{what} was issued by {issuer}, and {} is another server", server.issuer());
            return Err(Error::new(ErrorKind::Issuer, why));
        }
        if **client_id != *client.id() {
            return Err(Error::config(format!("{what} was issued to the client {client_id}, not this one")));
        }
        client.endpoints_of(server)?.token()?;
        Ok(Self {
            interval: deferred.interval,
            server: server.clone(),
            client: client.clone(),
            deferred,
            at_once: false,
            parameters: Vec::new(),
            nonce: None,
            verifies: false,
            signature: None,
            failures: 0,
            stage: Stage::Begin,
        })
    }

    /// Makes the first request without a pause: after the server's [ping](crate::PingReceiver).
    pub fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }

    /// Sets what the token is for, by the name that the server gives it.
    pub fn audience(mut self, audience: &str) -> Self {
        self.parameters.push(Parameter::Audience(audience.to_owned()));
        self
    }

    /// Adds a resource that the token is for, by its address; may be called several times (RFC 8707, section 2.2).
    pub fn resource(mut self, resource: &str) -> Self {
        self.parameters.push(Parameter::Resource(resource.to_owned()));
        self
    }

    /// Checks the signature of the ID token by the server's keys, which are read before the first request: see
    /// [`TokenRequest::verify_id_token_signature`]. The server's metadata must have a `jwks_uri`.
    pub fn verify_id_token_signature(mut self) -> Self {
        self.verifies = true;
        self
    }

    /// Adds a parameter of the server's own to each request.
    pub fn extra(mut self, name: &str, value: &str) -> Self {
        self.parameters.push(Parameter::Extra(name.to_owned(), value.to_owned()));
        self
    }

    /// Waits, unless the code ends meanwhile. If the network was the trouble, that is told then.
    fn wait(&mut self, now: Now, pause: Duration, trouble: Option<Error>) -> Step<Token> {
        if now.wall + pause >= self.deferred.expires_at {
            self.stage = Stage::Ended;
            let error = match trouble {
                Some(error) => Error::new(ErrorKind::Expired, "the server could not be asked until the code ended")
                    .with_source(error),
                None => Error::new(ErrorKind::Expired, self.deferred.late),
            };
            return Step::Done(Err(error.during("waiting for a person", None)));
        }
        self.stage = Stage::Wait;
        Step::Do(Effect::Sleep(pause))
    }

    /// One question, which is sent once: the next comes after a pause. Should it have brought the token in an answer
    /// that got lost, the server says so at the next.
    fn request(&mut self) -> Result<TokenExchange, Error> {
        let Deferred { doing, grant_type, name, secret, code_verifier, scopes, .. } = &self.deferred;
        let request = TokenRequest::new(doing, grant_type, &self.server, &self.client)?.secret(name, secret);
        let request = code_verifier.iter().fold(request, |request, verifier| request.secret("code_verifier", verifier));
        let mut request = request.granted(scopes.clone()).with_all(&self.parameters);
        if self.deferred.scopes.contains("openid") {
            let asked = SignIn { terms: self.deferred.terms.clone(), ..SignIn::default() };
            let occasion = Occasion::SignIn(Box::new(asked));
            request.asked.id_token = Some(Expected::new(&self.server, &self.client, occasion)?);
        }
        request.asked.rotation = self.server.rotation();
        if self.verifies && self.signature.is_none() {
            request = request.verify_id_token_signature();
        }
        Ok(request.exchange().once().nonce(self.nonce.take()).signature(self.signature.take()))
    }

    /// How long to wait after this error, if it is none that ends it all.
    fn patience(&mut self, error: &Error) -> Option<Duration> {
        let asked = error.retry_after().unwrap_or_default();
        match error.server().map(|server| server.error()) {
            Some("authorization_pending") => self.failures = 0,
            Some("slow_down") => {
                self.failures = 0;
                self.interval = self.interval.saturating_add(SLOW_DOWN);
            }
            _ if error.is_transient() => {
                // RFC 8628, section 3.5: ever more slowly while the connection fails.
                self.failures = self.failures.saturating_add(1);
                let longer = self.interval.saturating_mul(1 << self.failures.min(5));
                return Some(longer.min(LONGEST.max(self.interval)).max(asked));
            }
            _ => return None,
        }
        Some(self.interval.max(asked))
    }
}
