//! The userinfo endpoint (OpenID Connect Core 1.0, section 5.3).
//!
//! ```text
//! Asking ─JSON─▶ judged ─▶ Done
//!    └─signed─▶ Verifying ─▶ judged ─▶ Done
//! ```

use std::fmt;
use std::time::Duration;

use crate::exchange::{Request, error_under_success, signed_answer};
use crate::jose::{Claims, IdToken, SignedUserInfo, Verifier, Verify};
use crate::machine::{Identity, ask};
use crate::{Client, Cx, Error, ErrorKind, Exchange, Machine, Reply, Secret, ServerMetadata, Step, Token};

/// The media type of a signed answer (section 5.3.2).
const SIGNED: &str = "application/jwt";
const DOING: &str = "asking about the user";

/// A request for the server's information about the user who signed in.
///
/// ```
/// use grantflow::jose::Claims;
/// use grantflow::{Error, Machine, ServerMetadata, Token, UserInfo};
///
/// fn ask(server: &ServerMetadata, token: &Token) -> Result<impl Machine<Output = Claims>, Error> {
///     Ok(UserInfo::new(server, token)?.exchange())
/// }
///
/// fn address(user: &Claims) -> Option<&str> {
///     user.str("email")
/// }
/// # let _ = (ask, address);
/// ```
#[derive(Debug)]
pub struct UserInfo {
    request: Request,
    server: ServerMetadata,
    subject: Option<String>,
    signed: Option<Verifier<SignedUserInfo>>,
}

impl UserInfo {
    /// A request with this access token. If an ID token came with it, the answer must be about the same user.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `userinfo_endpoint`; if the token is another server's, or is neither a bearer
    /// token nor bound to a key that is known here.
    pub fn new(server: &ServerMetadata, token: &Token) -> Result<Self, Error> {
        token.check_issuer(server.issuer())?;
        let request = Request::get(DOING, server.userinfo()?).token(token)?;
        let subject = token.id_token().map(|id_token| id_token.subject().to_owned());
        Ok(Self { request, server: server.clone(), subject, signed: None })
    }

    /// Presents the certificate that the access token is bound to (RFC 8705, section 3), at the endpoint that the
    /// server has for that (section 5).
    pub fn identity(mut self, identity: Identity) -> Self {
        let endpoint = self.server.with_mtls_endpoint_aliases().and_then(|server| server.userinfo().cloned());
        self.request = match endpoint {
            Ok(endpoint) => self.request.at(endpoint).identity(identity),
            Err(error) => self.request.fail(error),
        };
        self
    }

    /// Sets the user that the answer must be about, where the ID token came some other way. The ID token must be of the
    /// same server: a `sub` means nothing at another (section 5.7).
    pub fn about(mut self, id_token: &IdToken) -> Self {
        let (own, server) = (id_token.issuer(), self.server.issuer());
        if own == server.as_str() || self.server.issuer_aliases().iter().any(|alias| alias == own) {
            self.subject = Some(id_token.subject().to_owned());
            return self;
        }
        let own = crate::shown::printable(own, 200);
        let why = format!("the ID token was issued by {own}, and {server} is another server");
        let request = self.request.fail(Error::new(ErrorKind::Issuer, why));
        Self { request, ..self }
    }

    /// Asks for a signed answer, and accepts no other: for clients that are registered for it
    /// (`userinfo_signed_response_alg`). The answer must be signed by the server's keys, and be for this client, if it
    /// names one.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `jwks_uri`.
    pub fn signed(mut self, client: &Client) -> Result<Self, Error> {
        self.signed = Some(Verifier::user_info(&self.server, client.id())?);
        self.request = self.request.header("accept", SIGNED);
        Ok(self)
    }

    /// The machine that makes the request. An answer about another user is refused (section 5.3.2).
    pub fn exchange(self) -> AskUserInfo {
        let Self { request, subject, signed, .. } = self;
        let (wants_signed, expected) = (signed.is_some(), subject.clone());
        let exchange = request.exchange(move |received| {
            let unasked = "the answer is signed: ask for it with `UserInfo::signed`";
            if let Some(jwt) = signed_answer(received.response, SIGNED, wants_signed, unasked)? {
                return Ok(Answer::Signed(jwt));
            }
            let body = received.response.body();
            let none = || Error::new(ErrorKind::InvalidResponse, "the answer is no JSON object, or has a member twice");
            about(Claims::read(body).ok_or_else(none)?, expected.as_deref())
                .map_err(|error| error_under_success(body).unwrap_or(error))
                .map(Answer::Plain)
        });
        AskUserInfo { subject, signed, stage: Stage::Asking(Box::new(exchange)) }
    }
}

enum Answer {
    Plain(Claims),
    Signed(Secret),
}

/// The machine that asks who has signed in: see [`UserInfo::exchange`].
pub struct AskUserInfo {
    subject: Option<String>,
    signed: Option<Verifier<SignedUserInfo>>,
    stage: Stage,
}

enum Stage {
    Asking(Box<Exchange<Answer>>),
    Verifying(Box<Verify<SignedUserInfo>>),
    Ended,
}

impl AskUserInfo {
    /// Sets the total time of the request, pauses included; 30 s by default.
    pub fn total_time(mut self, time: Duration) -> Self {
        self.stage = match self.stage {
            Stage::Asking(exchange) => Stage::Asking(Box::new(exchange.total_time(time))),
            other => other,
        };
        self
    }
}

/// The claims, if they are about the user who is expected.
fn about(claims: Claims, subject: Option<&str>) -> Result<Claims, Error> {
    let wrong = |why| Err(Error::new(ErrorKind::InvalidResponse, why));
    // Of a `sub` in broken text nobody knows whose it is.
    match claims.str("sub").filter(|sub| !sub.is_empty() && !sub.contains('\u{fffd}')) {
        None => wrong("the answer has no sub"),
        Some(found) if subject.is_some_and(|subject| subject != found) => {
            wrong("the answer is about another user (sub)")
        }
        Some(_) => Ok(claims),
    }
}

impl Machine for AskUserInfo {
    type Output = Claims;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Claims> {
        loop {
            let claims = match &mut self.stage {
                Stage::Asking(exchange) => match (ask!(&mut **exchange, cx, reply), &self.signed) {
                    (Ok(Answer::Signed(jwt)), Some(verifier)) => {
                        self.stage = Stage::Verifying(Box::new(verifier.verify(jwt.expose())));
                        continue;
                    }
                    (Ok(Answer::Plain(claims)), _) => Ok(claims),
                    (Ok(Answer::Signed(_)), None) => Err(Error::misuse(DOING)),
                    (Err(error), _) => Err(error),
                },
                Stage::Verifying(verify) => {
                    let verified = ask!(&mut **verify, cx, reply);
                    let claims = verified.and_then(|SignedUserInfo(claims)| about(claims, self.subject.as_deref()));
                    claims.map_err(|error| error.during(DOING, None))
                }
                Stage::Ended => Err(Error::misuse(DOING)),
            };
            self.stage = Stage::Ended;
            return Step::Done(claims);
        }
    }
}

/// Shows how far it is.
impl fmt::Debug for AskUserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Stage::Asking(exchange) => f.debug_tuple("AskUserInfo").field(exchange).finish(),
            Stage::Verifying(verify) => f.debug_tuple("AskUserInfo").field(verify).finish(),
            Stage::Ended => f.write_str("AskUserInfo(ended)"),
        }
    }
}
