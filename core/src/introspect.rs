//! Token introspection (RFC 7662), for resource servers whose tokens are not JWTs; with signed answers (RFC 9701).
//!
//! ```text
//! Asking ─plain answer─▶ judged ─▶ Done
//!    └─signed answer─▶ Verifying ─▶ judged ─▶ Done
//! ```

use std::fmt;

use crate::exchange::{Request, error_under_success, signed_answer};
use crate::jose::access_token::wrong;
use crate::jose::{AccessToken, Claims, SignedIntrospection, Verifier, Verify};
use crate::machine::{Repeat, ask};
use crate::{Client, Cx, Endpoint, Error, ErrorKind, Exchange, Issuer, Machine, Reply, Secret, ServerMetadata, Step};
use crate::{Timestamp, protect};

/// The media type of a signed answer (RFC 9701, section 4).
const SIGNED: &str = "application/token-introspection+jwt";

/// The introspection of access tokens that were presented to a resource server. It is made once, and makes a machine
/// for each token. Cheap to clone.
///
/// No answer is kept: a token that is revoked is refused from then on (RFC 7662, section 4).
///
/// ```
/// use grantflow::{Client, ClientAuthentication, Introspection, Issuer, ServerMetadata};
///
/// let server = ServerMetadata::new(Issuer::new("https://as.example")?)
///     .introspection_endpoint("https://as.example/introspect")?;
/// let resource = Client::new("api").authentication(ClientAuthentication::client_secret_basic("s3cret"));
/// let introspection = Introspection::new(&server, &resource)?.audience("https://api.example");
/// let machine = introspection.of("the token of a request");
/// # let _ = machine;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct Introspection {
    issuer: Issuer,
    endpoint: Endpoint,
    client: Client,
    audiences: Vec<Box<str>>,
    signed: Option<Verifier<SignedIntrospection>>,
}

impl Introspection {
    /// Introspection at this server. `client` is the resource server, which must authenticate (RFC 7662, section 2.1).
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `introspection_endpoint`, or the client is registered at another server.
    pub fn new(server: &ServerMetadata, client: &Client) -> Result<Self, Error> {
        client.check_issuer(server.issuer())?;
        let server = &*client.endpoints_of(server)?;
        let (issuer, endpoint) = (server.issuer().clone(), server.introspection()?.clone());
        Ok(Self { issuer, endpoint, client: client.at(server)?.into_owned(), audiences: Vec::new(), signed: None })
    }

    /// Accepts tokens for this resource alone: the answer must have it in `aud`. Several may be named.
    pub fn audience(mut self, resource: &str) -> Self {
        self.audiences.push(resource.into());
        self
    }

    /// Asks for a signed answer (RFC 9701), and takes no other. The answer must be for the client, or for one of the
    /// [audiences](Self::audience) that were named before.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `jwks_uri`.
    pub fn signed(mut self, server: &ServerMetadata) -> Result<Self, Error> {
        let us = self.audiences.iter().cloned().chain([self.client.id().into()]);
        self.signed = Some(Verifier::introspection(server, us.collect())?);
        Ok(self)
    }

    /// The machine that asks about a token.
    ///
    /// # Errors
    ///
    /// The machine ends with an error of kind [`ErrorKind::AccessToken`] if the token is not good here, and otherwise
    /// with those of a request.
    pub fn of(&self, token: &str) -> Introspect {
        Introspect { introspection: self.clone(), stage: Stage::Begin(token.into()) }
    }

    fn exchange(&self, token: &Secret) -> Exchange<Answer> {
        let request = Request::post("asking about a token", &self.endpoint)
            .repeat(Repeat::Freely)
            .secret("token", token)
            .param("token_type_hint", "access_token")
            .authenticate(&self.client, &self.issuer);
        let signed = self.signed.is_some();
        let request = if signed { request.header("accept", SIGNED) } else { request };
        request.exchange(move |received| {
            let unasked = "the answer is signed, which was not asked for";
            if let Some(jwt) = signed_answer(received.response, SIGNED, signed, unasked)? {
                return Ok(Answer::Signed(jwt));
            }
            let body = received.response.body();
            match Claims::read(body) {
                Some(claims) if claims.has("active") => Ok(Answer::Plain(claims)),
                Some(claims) => error_under_success(body).map_or(Ok(Answer::Plain(claims)), Err),
                None => {
                    Err(Error::new(ErrorKind::InvalidResponse, "the answer is no JSON object, or has a member twice"))
                }
            }
        })
    }

    /// What an answer means (RFC 7662, section 2.2).
    fn judge(&self, claims: Claims, now: Timestamp) -> Result<AccessToken, Error> {
        match claims.get("active").and_then(serde_json::Value::as_bool) {
            Some(true) => {}
            Some(false) => return Err(wrong("the access token is not active")),
            None => {
                return Err(Error::new(
                    ErrorKind::InvalidResponse,
                    "the answer does not say whether the token is active",
                ));
            }
        }
        // What is empty counts as missing.
        let says = |name: &str| match claims.get(name) {
            None => claims.has(name),
            Some(serde_json::Value::Null) => false,
            Some(value) => value.as_str().is_none_or(|text| !text.trim().is_empty()),
        };
        if says("iss") && claims.str("iss") != Some(self.issuer.as_str()) {
            return Err(wrong("the access token is another issuer's (iss)"));
        }
        let is_ours = |aud: &&str| self.audiences.iter().any(|ours| **ours == **aud);
        if !self.audiences.is_empty() && !claims.list("aud").is_some_and(|aud| aud.iter().any(is_ours)) {
            return Err(wrong("the access token is for another resource (aud)"));
        }
        // The server looks at its own clock; one that says "active" of a token that has ended is not believed.
        if says("exp") && claims.time("exp").is_none_or(|exp| now >= exp + crate::jose::LEEWAY) {
            return Err(wrong("the access token has expired (exp)"));
        }
        if says("nbf") && claims.time("nbf").is_none_or(|nbf| nbf > now + crate::jose::LEEWAY) {
            return Err(wrong("the access token is not valid yet (nbf)"));
        }
        Ok(AccessToken::of(claims))
    }
}

/// Shows whom it asks.
impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

enum Answer {
    Plain(Claims),
    Signed(Secret),
}

/// The machine that asks about one token: see [`Introspection::of`].
pub struct Introspect {
    introspection: Introspection,
    stage: Stage,
}

enum Stage {
    Begin(Secret),
    Asking(Box<Exchange<Answer>>),
    Verifying(Box<Verify<SignedIntrospection>>),
    Ended,
}

impl Machine for Introspect {
    type Output = AccessToken;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<AccessToken> {
        loop {
            match &mut self.stage {
                Stage::Begin(token) if matches!(reply, Reply::Start) => {
                    if !protect::is_token(token.expose()) {
                        self.stage = Stage::Ended;
                        return Step::Done(Err(wrong("what was presented is no access token")));
                    }
                    self.stage = Stage::Asking(Box::new(self.introspection.exchange(token)));
                }
                Stage::Asking(exchange) => {
                    let answer = ask!(exchange, cx, reply);
                    self.stage = Stage::Ended;
                    match answer {
                        Ok(Answer::Plain(claims)) => {
                            return Step::Done(self.introspection.judge(claims, cx.now().wall));
                        }
                        Ok(Answer::Signed(jwt)) => match &self.introspection.signed {
                            Some(verifier) => {
                                self.stage = Stage::Verifying(Box::new(verifier.verify(jwt.expose())));
                            }
                            None => return Step::Done(Err(Error::misuse("introspection"))),
                        },
                        Err(error) => return Step::Done(Err(error)),
                    }
                }
                Stage::Verifying(verify) => {
                    let answer = ask!(verify, cx, reply);
                    self.stage = Stage::Ended;
                    return Step::Done(answer.and_then(|SignedIntrospection(claims)| {
                        let said = claims.object("token_introspection").ok_or_else(|| {
                            Error::new(ErrorKind::InvalidResponse, "the signed answer says nothing of the token")
                        })?;
                        self.introspection.judge(said, cx.now().wall)
                    }));
                }
                Stage::Begin(_) | Stage::Ended => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(Error::misuse("introspection")));
                }
            }
        }
    }
}

impl fmt::Debug for Introspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspect").field("introspection", &self.introspection).finish_non_exhaustive()
    }
}
