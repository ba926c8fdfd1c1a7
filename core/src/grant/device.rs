//! The device authorization grant (RFC 8628): a device shows a code, a person enters it elsewhere.
//!
//! ```text
//! DeviceAuthorization ─exchange─▶ DeviceCode (to show) ─poll─▶ DevicePolling ─▶ Token
//! ```

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::TokenRequest;
use crate::error::printable;
use crate::exchange::{Received, Request};
use crate::jose::{Expected, Occasion};
use crate::loopback::openable;
use crate::machine::{Effect, Repeat, ask};
use crate::server::Endpoint;
use crate::{
    Client, Cx, Error, ErrorKind, Exchange, Machine, Now, Reply, Scopes, Secret, ServerMetadata, Step, Timestamp, Token,
};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The pause between two questions unless the server names another (RFC 8628, section 3.2).
const INTERVAL: u64 = 5;
/// What a `slow_down` adds to it (section 3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);
/// The longest pause after failures of the network.
const LONGEST: Duration = Duration::from_secs(60);

/// A request for a code to show to a person (RFC 8628, section 3.1). Begin only when the person asked for it.
#[derive(Debug)]
pub struct DeviceAuthorization {
    request: Request,
    scopes: Scopes,
}

impl DeviceAuthorization {
    /// Asks on behalf of `client`.
    ///
    /// # Errors
    ///
    /// If the server is known without a `device_authorization_endpoint`.
    pub fn new(server: &ServerMetadata, client: &Client) -> Result<Self, Error> {
        client.check_issuer(server.issuer())?;
        let address = server.get("device_authorization_endpoint").and_then(|value| value.as_str());
        let address = address.ok_or_else(|| {
            Error::config(format!("{} is known without a device_authorization_endpoint", server.issuer()))
        })?;
        let request = Request::post("asking for a device code", &Endpoint::new(address)?).repeat(Repeat::Freely);
        Ok(Self { request: request.authenticate(client), scopes: Scopes::default() })
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

    /// Adds a parameter of the server's own.
    pub fn extra(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.extra(name, value);
        self
    }

    /// The machine that gets the code.
    pub fn exchange(self) -> Exchange<DeviceCode> {
        let scopes = self.scopes;
        self.request.exchange(move |received| DeviceCode::parse(received, &scopes))
    }
}

/// What to show to the person, and what to ask the server with meanwhile.
///
/// Show [`verification_uri`](Self::verification_uri) and [`user_code`](Self::user_code), unchanged; if there
/// is a complete address, for a QR code perhaps, show the code beside it all the same, so that the person can
/// compare (RFC 8628, section 5.4).
#[derive(Clone)]
pub struct DeviceCode {
    device_code: Secret,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_at: Timestamp,
    interval: Duration,
    scopes: Scopes,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    device_code: Cow<'a, str>,
    #[serde(borrow)]
    user_code: Cow<'a, str>,
    /// Google's name for it.
    #[serde(borrow, alias = "verification_url")]
    verification_uri: Cow<'a, str>,
    #[serde(borrow, default, alias = "verification_url_complete")]
    verification_uri_complete: Option<Cow<'a, str>>,
    expires_in: f64,
    #[serde(default)]
    interval: Option<f64>,
}

impl DeviceCode {
    fn parse(received: Received<'_>, scopes: &Scopes) -> Result<Self, Error> {
        let invalid = |why: &'static str| Error::new(ErrorKind::InvalidResponse, why);
        let answer: Answer<'_> = serde_json::from_slice(received.response.body()).map_err(|e| {
            let place = format!("the answer is no device code in JSON (line {}, column {})", e.line(), e.column());
            Error::new(ErrorKind::InvalidResponse, place)
        })?;
        let seconds = |number: f64, most: f64| Duration::from_secs_f64(number.clamp(0.0, most));
        let address = |text: &str| {
            openable(text).map_err(|e| invalid("the address to show is none that may be opened").with_source(e))?;
            Ok::<_, Error>(text.to_owned())
        };
        if answer.device_code.is_empty() || answer.user_code.is_empty() || answer.expires_in.is_nan() {
            return Err(invalid("the answer has an empty code"));
        }
        // What a terminal would take for a command is not what the person must type.
        if printable(&answer.user_code, 100) != answer.user_code {
            return Err(invalid("the code to show cannot be shown"));
        }
        let interval = answer.interval.filter(|number| *number > 0.0).unwrap_or(INTERVAL as f64);
        Ok(Self {
            device_code: (&*answer.device_code).into(),
            user_code: answer.user_code.into_owned(),
            verification_uri: address(&answer.verification_uri)?,
            verification_uri_complete: answer.verification_uri_complete.as_deref().map(address).transpose()?,
            expires_at: received.sent + seconds(answer.expires_in, 86_400.0),
            interval: seconds(interval, 60.0).max(Duration::from_secs(1)),
            scopes: scopes.clone(),
        })
    }

    /// What the person types.
    pub fn user_code(&self) -> &str {
        &self.user_code
    }

    /// Where the person goes.
    pub fn verification_uri(&self) -> &str {
        &self.verification_uri
    }

    /// The same with the code in it, if the server has such an address.
    pub fn verification_uri_complete(&self) -> Option<&str> {
        self.verification_uri_complete.as_deref()
    }

    /// When the code ends.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// How long the server wants to be left alone between two questions.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The machine that asks until the person has decided.
    ///
    /// # Errors
    ///
    /// If the server is known without a `token_endpoint`.
    pub fn poll(self, server: &ServerMetadata, client: &Client) -> Result<DevicePolling, Error> {
        server.token()?;
        Ok(DevicePolling {
            interval: self.interval,
            server: server.clone(),
            client: client.clone(),
            code: self,
            failures: 0,
            stage: Stage::Begin,
        })
    }
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

/// Asks for the token until the person has decided, or the code has ended.
///
/// What the server says counts, and not its status: Google answers 428 and 403 where RFC 8628 says 400.
///
/// ```text
/// Begin ─▶ Wait ─▶ Ask ─▶ done (a token, a denial, the end of the code)
///           ▲       │ authorization_pending, slow_down, no connection
///           └───────┘
/// ```
#[derive(Debug)]
pub struct DevicePolling {
    code: DeviceCode,
    server: ServerMetadata,
    client: Client,
    interval: Duration,
    /// Failures of the network, one after another.
    failures: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Begin,
    Wait,
    Ask(Box<Exchange<Token>>),
    Ended,
}

impl Machine for DevicePolling {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        loop {
            let next = match (&mut self.stage, &reply) {
                (Stage::Begin, Reply::Start) => return self.wait(cx.now(), self.interval),
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
                    Err(error) => match self.patience(&error) {
                        Some(pause) => return self.wait(cx.now(), pause),
                        None => Err(error),
                    },
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
    fn wait(&mut self, now: Now, pause: Duration) -> Step<Token> {
        if now.wall + pause >= self.code.expires_at {
            self.stage = Stage::Ended;
            let error = Error::new(ErrorKind::Expired, "the code has ended before anybody entered it");
            return Step::Done(Err(error.during("waiting for a person", None)));
        }
        self.stage = Stage::Wait;
        Step::Do(Effect::Sleep(pause))
    }

    /// One question. A token that was handed out in an answer that did not arrive is gone: it is not
    /// asked for again behind our back.
    fn request(&self) -> Result<Exchange<Token>, Error> {
        let doing = "asking for the device's token";
        let mut request = TokenRequest::new(doing, GRANT_TYPE, &self.server, &self.client)?
            .secret("device_code", &self.code.device_code)
            .granted(self.code.scopes.clone());
        if self.code.scopes.contains("openid") {
            let occasion = Occasion::SignIn { nonce: None, max_age: None };
            request.asked.id_token = Some(Expected::new(&self.server, &self.client, occasion));
        }
        request.asked.rotation = self.server.rotation();
        Ok(request.exchange().once())
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
