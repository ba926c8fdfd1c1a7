//! Sign-ins without a browser: the server asks the person on a device of theirs (OpenID Connect Client-Initiated
//! Backchannel Authentication 1.0, CIBA).
//!
//! ```text
//! BackchannelAuthentication ─start─▶ PendingBackchannel ─poll─▶ DevicePolling ─▶ Token
//!                                             │  ▲
//!                                             ▼  │ the server's ping
//!                                         PingReceiver
//! ```

mod ping;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

pub use ping::{BackchannelHeard, PingReceiver};

use super::device::{Deferred, DevicePolling, INTERVAL, MAX_LIFETIME};
use crate::client::check_algorithm;
use crate::crypto::Signer;
use crate::exchange::{Received, Request, Within, is_printable};
use crate::jose::{IdToken, JwtSigner, SignInTerms, SignJwt};
use crate::machine::{Repeat, ask};
use crate::token::{Answer, Known, Scalar, invalid};
use crate::{
    Client, Cx, Deviations, Error, Exchange, Issuer, Machine, Reply, Scopes, Secret, ServerMetadata, Shown, Step,
    Timestamp,
};

/// The most bytes of an answer.
const MAX_BODY: usize = 64 * 1024;
/// The longest `auth_req_id` to take.
const LONGEST: usize = 4096;
/// How long a signed request is good for.
const SIGNED_LIFE: Duration = Duration::from_secs(300);
/// By how much clocks may differ without harm.
const BACKDATED: Duration = Duration::from_secs(10);
/// The parameters that are shown nowhere.
const SECRETS: [&str; 4] = ["login_hint_token", "id_token_hint", "user_code", "client_notification_token"];
/// The longest time that a signer may take.
const SIGNING: Duration = Duration::from_secs(30);
const DOING: &str = "asking for a sign-in without a browser";

/// A request to the server to have a person sign in on a device of their own (section 7.1). One of
/// [`login_hint`](Self::login_hint), [`login_hint_token`](Self::login_hint_token) and
/// [`id_token_hint`](Self::id_token_hint) says who that is.
///
/// ```
/// use grantflow::{BackchannelAuthentication, Client, Error, Machine, ServerMetadata, Token};
///
/// # fn run<M: Machine>(_: M) -> Result<M::Output, Error> { Err(Error::new(grantflow::ErrorKind::Config, "")) }
/// fn sign_in(server: &ServerMetadata, client: &Client) -> Result<Token, Error> {
///     let request = BackchannelAuthentication::new(server, client)?.scopes("openid").login_hint("alice");
///     let pending = run(request.binding_message("W4SCT").start())?;
///     run(pending.poll(server, client)?)
/// }
/// ```
pub struct BackchannelAuthentication {
    request: Request,
    /// The parameters, which are claims if the request is signed.
    parameters: Vec<(&'static str, Secret)>,
    extras: Vec<(String, String)>,
    hints: u8,
    scopes: Scopes,
    notification_token: Option<Secret>,
    signer: Option<JwtSigner>,
    /// Whether the client is held to the FAPI 2.0 Security Profile.
    fapi: bool,
    issuer: Issuer,
    client_id: Arc<str>,
    error: Option<Error>,
}

impl BackchannelAuthentication {
    /// A request of `client`.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `backchannel_authentication_endpoint`, or the client is registered at another
    /// server.
    pub fn new(server: &ServerMetadata, client: &Client) -> Result<Self, Error> {
        client.check_issuer(server.issuer())?;
        client.check_own_profile()?;
        let server = &*client.endpoints_of(server)?;
        // The person is asked once.
        let request = Request::post(DOING, server.backchannel_authentication()?).repeat(Repeat::OnlyIfUnsent);
        let request = request.max_body(MAX_BODY).authenticate(&*client.at(server)?, server.issuer());
        Ok(Self {
            request,
            parameters: Vec::new(),
            extras: Vec::new(),
            hints: 0,
            scopes: Scopes::from("openid"),
            notification_token: None,
            signer: None,
            fapi: client.is_fapi(),
            issuer: server.issuer().clone(),
            client_id: client.shared_id(),
            error: None,
        })
    }

    /// Asks for these scopes, which must include `openid`.
    pub fn scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.scopes = scopes.into();
        self
    }

    /// `login_hint`: the person, by a name that the person or the application uses.
    pub fn login_hint(self, hint: &str) -> Self {
        self.hint("login_hint", hint)
    }

    /// `login_hint_token`: the person, by a token of a form that the server and the client have agreed on.
    pub fn login_hint_token(self, token: &Secret) -> Self {
        self.hint("login_hint_token", token.expose())
    }

    /// `id_token_hint`: the person, by an ID token of an earlier sign-in.
    pub fn id_token_hint(self, id_token: &IdToken) -> Self {
        self.hint("id_token_hint", id_token.as_secret().expose())
    }

    fn hint(mut self, name: &'static str, hint: &str) -> Self {
        self.hints = self.hints.saturating_add(1);
        self.set(name, hint)
    }

    /// `binding_message`: a text that both devices show, so that the person knows what they allow.
    pub fn binding_message(self, message: &str) -> Self {
        self.set("binding_message", message)
    }

    /// `user_code`: a code that only the person knows, so that no other party can have them asked.
    pub fn user_code(self, code: &Secret) -> Self {
        self.set("user_code", code.expose())
    }

    /// `acr_values`: how the person must sign in, the best first.
    pub fn acr_values(self, values: &str) -> Self {
        self.set("acr_values", values)
    }

    /// `requested_expiry`: how long the person may take.
    pub fn requested_expiry(self, time: Duration) -> Self {
        self.set("requested_expiry", &time.as_secs().to_string())
    }

    /// `authorization_details`: what is asked for in detail (RFC 9396).
    pub fn authorization_details(mut self, details: &Value) -> Self {
        let text = details.to_string();
        match super::check_details(&text) {
            Ok(()) => self.set("authorization_details", &text),
            Err(error) => {
                self.error.get_or_insert(error);
                self
            }
        }
    }

    /// `client_notification_token`: has the server tell the client when the person has decided (section 5, the mode
    /// `ping`); the server then shows this token. It must hold 128 random bits, be good for this one request, and have
    /// at most 1024 characters of a bearer token.
    pub fn notification_token(mut self, token: impl Into<Secret>) -> Self {
        let token = token.into();
        self = self.set("client_notification_token", token.expose());
        self.notification_token = Some(token);
        self
    }

    /// Signs the request (section 7.1.1). The server must have the public key; the signer may be remote.
    pub fn sign(mut self, signer: impl Signer + 'static) -> Self {
        self.signer = Some(JwtSigner::new("JWT", Arc::new(signer)));
        self
    }

    /// Adds a parameter of the server's own.
    pub fn extra(mut self, name: &str, value: &str) -> Self {
        self.extras.push((name.to_owned(), value.to_owned()));
        self
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.parameters.retain(|(known, _)| *known != name);
        self.parameters.push((name, value.into()));
        self
    }

    /// The machine that makes the request. The person may be asked as soon as it has ended.
    pub fn start(self) -> StartBackchannel {
        StartBackchannel(Stage::Begin(Box::new(self)))
    }

    fn check(&self) -> Result<(), Error> {
        self.error.clone().map_or(Ok(()), Err)?;
        self.scopes.check()?;
        if let Some(algorithm) = self.signer.as_ref().and_then(JwtSigner::algorithm).filter(|_| self.fapi) {
            check_algorithm("authentication requests", algorithm)?;
        }
        if !self.scopes.contains("openid") {
            return Err(Error::config(
                "the scope openid is needed for a sign-in without a browser (CIBA, section 7.1)",
            ));
        }
        if self.hints != 1 {
            let why = "exactly one of login_hint, login_hint_token and id_token_hint is needed (CIBA, section 7.1)";
            return Err(Error::config(why));
        }
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let right =
            |token: &Secret| (22..=1024).contains(&token.expose().len()) && token.expose().bytes().all(is_token);
        if !self.notification_token.as_ref().is_none_or(right) {
            let why =
                "the client_notification_token is not 22 to 1024 characters of a bearer token (CIBA, section 7.1)";
            return Err(Error::config(why));
        }
        Ok(())
    }

    /// The request as it is, or the signing of its claims.
    fn begin(mut self, cx: &mut Cx) -> Result<Stage, Error> {
        self.check()?;
        let scopes = self.scopes.clone();
        let parameters =
            [("scope", Secret::from(scopes.as_str()))].into_iter().chain(std::mem::take(&mut self.parameters));
        let asking = Asking {
            issuer: self.issuer,
            client_id: self.client_id,
            scopes,
            notification_token: self.notification_token,
        };
        let request = self.extras.iter().fold(self.request, |request, (name, value)| request.extra(name, value));
        let Some(signer) = self.signer else {
            let request = parameters.fold(request, |request, (name, value)| match SECRETS.contains(&name) {
                true => request.unicode_secret(name, &value),
                false => request.param(name, value.expose()),
            });
            return Ok(Stage::Ask(Box::new(asking.exchange(request))));
        };
        let mut claims = Map::new();
        let mut request = request;
        for (name, value) in parameters {
            if SECRETS.contains(&name) {
                request = request.keeps_secret(&value);
            }
            let value = match name {
                "authorization_details" => serde_json::from_str(value.expose()).unwrap_or_default(),
                "requested_expiry" => value.expose().parse::<u64>().map_or(Value::Null, Value::from),
                _ => value.expose().into(),
            };
            claims.insert(name.to_owned(), value);
        }
        let (now, jti) = (cx.now(), URL_SAFE_NO_PAD.encode(cx.random::<16>("jti")?));
        let iat = (now.wall - BACKDATED).as_unix();
        for (name, value) in [
            ("iss", Value::from(&*asking.client_id)),
            ("aud", asking.issuer.as_str().into()),
            ("iat", iat.into()),
            ("nbf", iat.into()),
            ("exp", (now.wall + SIGNED_LIFE).as_unix().into()),
            ("jti", jti.into()),
        ] {
            claims.insert(name.to_owned(), value);
        }
        let mut claims = Value::Object(claims);
        let signing = signer.sign(&zeroize::Zeroizing::new(claims.to_string()));
        crate::secret::wipe_json(&mut claims);
        let signing = Within::new(signing, now.mono.saturating_add(SIGNING));
        Ok(Stage::Sign(Box::new(signing), Box::new((asking, request))))
    }
}

/// What is asked, and by whom.
struct Asking {
    issuer: Issuer,
    client_id: Arc<str>,
    scopes: Scopes,
    notification_token: Option<Secret>,
}

impl Asking {
    fn exchange(self, request: Request) -> Exchange<PendingBackchannel> {
        request.exchange(move |received| PendingBackchannel::parse(received, &self))
    }
}

/// The machine that asks for a sign-in: see [`BackchannelAuthentication::start`].
///
/// ```text
/// Begin ─▶ [Sign ─▶] Ask ─▶ Ended
/// ```
pub struct StartBackchannel(Stage);

enum Stage {
    Begin(Box<BackchannelAuthentication>),
    Sign(Box<Within<SignJwt>>, Box<(Asking, Request)>),
    Ask(Box<Exchange<PendingBackchannel>>),
    Ended,
}

impl Machine for StartBackchannel {
    type Output = PendingBackchannel;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<PendingBackchannel> {
        loop {
            let next = match (std::mem::replace(&mut self.0, Stage::Ended), &reply) {
                (Stage::Begin(request), Reply::Start) => request.begin(cx),
                (Stage::Sign(mut signing, asked), _) => match signing.resume(cx, std::mem::take(&mut reply)) {
                    Step::Do(effect) => {
                        self.0 = Stage::Sign(signing, asked);
                        return Step::Do(effect);
                    }
                    Step::Done(signed) => signed.map(|object| {
                        let (asking, request) = *asked;
                        Stage::Ask(Box::new(asking.exchange(request.secret("request", &object))))
                    }),
                },
                (Stage::Ask(exchange), _) => {
                    self.0 = Stage::Ask(exchange);
                    let Stage::Ask(exchange) = &mut self.0 else { return Step::Done(Err(Error::misuse(DOING))) };
                    let answer = ask!(&mut **exchange, cx, reply);
                    self.0 = Stage::Ended;
                    return Step::Done(answer);
                }
                _ => Err(Error::misuse(DOING)),
            };
            match next {
                Ok(stage) => self.0 = stage,
                Err(error) => return Step::Done(Err(error.during(DOING, None))),
            }
        }
    }
}

/// A sign-in without a browser that is under way (section 7.3).
#[derive(Clone)]
pub struct PendingBackchannel {
    issuer: Issuer,
    client_id: Arc<str>,
    auth_req_id: Secret,
    notification_token: Option<Secret>,
    expires_at: Timestamp,
    interval: Duration,
    scopes: Scopes,
}

#[derive(Default)]
struct Members<'a> {
    auth_req_id: Scalar<'a>,
    expires_in: Scalar<'a>,
    interval: Scalar<'a>,
}

impl<'a> Known<'a> for Members<'a> {
    const WHAT: &'static str = "acknowledgement";

    fn member(&mut self, name: &str) -> Option<(&mut Scalar<'a>, u8)> {
        Some(match name {
            "auth_req_id" => (&mut self.auth_req_id, 1),
            "expires_in" => (&mut self.expires_in, 2),
            "interval" => (&mut self.interval, 4),
            _ => return None,
        })
    }
}

impl PendingBackchannel {
    fn parse(received: Received<'_>, asking: &Asking) -> Result<Self, Error> {
        let (mut found, tolerated) = (Deviations::NONE, Deviations::TOLERATED);
        let mut answer = Answer::<Members<'_>>::default();
        answer.read(received, tolerated, &mut found)?;
        let Members { auth_req_id, expires_in, interval } = answer.known;
        let auth_req_id = auth_req_id.text("auth_req_id")?.filter(|id| !id.is_empty());
        let auth_req_id = auth_req_id.ok_or_else(|| invalid("the answer has no auth_req_id"))?;
        if auth_req_id.len() > LONGEST || !is_printable(&auth_req_id, b'!') {
            return Err(invalid("auth_req_id is too long or holds characters that it may not"));
        }
        let lifetime =
            expires_in.seconds(tolerated, &mut found)?.ok_or_else(|| invalid("the answer has no expires_in"))?;
        let lifetime = Duration::from_secs(lifetime).min(MAX_LIFETIME);
        let interval = interval.seconds(tolerated, &mut found)?.filter(|seconds| *seconds > 0);
        Ok(Self {
            issuer: asking.issuer.clone(),
            client_id: asking.client_id.clone(),
            auth_req_id: (&*auth_req_id).into(),
            notification_token: asking.notification_token.clone(),
            expires_at: received.sent + lifetime,
            interval: Duration::from_secs(interval.unwrap_or(INTERVAL)),
            scopes: asking.scopes.clone(),
        })
    }

    /// When the sign-in expires, whatever the person does.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The pause that the server demands between two requests for the token.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The receiver of the server's ping, if a [notification token](BackchannelAuthentication::notification_token) was
    /// given.
    pub fn ping_receiver(&self) -> Option<PingReceiver> {
        Some(PingReceiver::new(self.notification_token.clone()?, self.auth_req_id.clone()))
    }

    /// The machine that asks for the token until the person has decided, for the first time after one interval. After a
    /// ping, let it ask [at once](DevicePolling::at_once). To cancel, drop it: the server forgets the request when it
    /// expires.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `token_endpoint`, or if this is a sign-in of another client or server.
    pub fn poll(self, server: &ServerMetadata, client: &Client) -> Result<DevicePolling, Error> {
        let deferred = Deferred {
            what: "the sign-in without a browser",
            doing: "asking for the token of a sign-in without a browser",
            grant_type: "urn:openid:params:grant-type:ciba",
            name: "auth_req_id",
            late: "the person has not decided in time",
            issuer: self.issuer,
            client_id: self.client_id,
            secret: self.auth_req_id,
            code_verifier: None,
            expires_at: self.expires_at,
            interval: self.interval,
            scopes: self.scopes,
            terms: SignInTerms::default(),
        };
        DevicePolling::new(deferred, server, client)
    }
}

impl fmt::Debug for PendingBackchannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingBackchannel")
            .field("issuer", &self.issuer)
            .field("client_id", &Shown::name(&self.client_id))
            .field("expires_at", &self.expires_at)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for BackchannelAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackchannelAuthentication")
            .field("request", &self.request)
            .field("scopes", &self.scopes)
            .field("client_id", &Shown::name(&self.client_id))
            .finish_non_exhaustive()
    }
}

/// Shows how far it is.
impl fmt::Debug for StartBackchannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Stage::Begin(_) => "StartBackchannel(begin)",
            Stage::Sign(..) => "StartBackchannel(signing)",
            Stage::Ask(_) => "StartBackchannel(asking)",
            Stage::Ended => "StartBackchannel(ended)",
        })
    }
}
