//! What must be kept until the user is back, and the check of the redirect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::answer::{Answer, Came, Parameters, RequestId, not_the_answer};
use super::{VERSION, signed};
use crate::client::CERTIFICATE_BOUND;
use crate::error::struck_out;
use crate::exchange::vschar;
use crate::jose::{SignIn, SignInTerms};
use crate::secret::stored;
use crate::server::{Endpoint, Issuer};
use crate::token::{Deviations, Rotation};
use crate::{Client, DpopKey, Error, ErrorKind, Scopes, Secret, ServerMetadata, Shown, Timestamp, TokenRequest};

/// An authorization under way: what was sent, and where its answer may go. It is made before the user leaves, and the
/// answer is checked against it when they come back.
///
/// It is opaque and can be serialized, for a session at the server or an encrypted cookie. It holds secrets: a party
/// that can read it can finish the sign-in, and one that can write it can choose the server.
/// Keep it bound to the browser that began, use it once, then delete it. If another release wrote it in another format,
/// it is refused when it is read.
#[derive(Serialize, Deserialize)]
pub struct PendingAuthorization {
    #[serde(deserialize_with = "known_version")]
    pub(super) version: u8,
    #[serde(with = "stored")]
    pub(super) state: Secret,
    #[serde(with = "stored::option")]
    pub(super) nonce: Option<Secret>,
    #[serde(with = "stored")]
    pub(super) code_verifier: Secret,
    pub(super) issuer: Issuer,
    pub(super) issuer_aliases: Arc<[String]>,
    pub(super) iss_required: bool,
    pub(super) token_endpoint: Endpoint,
    pub(super) client_id: Arc<str>,
    /// The thumbprint of the key that the code is bound to (RFC 9449, section 10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dpop_jkt: Option<Box<str>>,
    /// Whether the server binds tokens to certificates (RFC 8705, section 3.3).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) certificate_bound: bool,
    pub(super) redirect_uri: Arc<str>,
    pub(super) scopes: Scopes,
    pub(super) terms: SignInTerms,
    /// Where the keys are that the ID token is verified by, if it is.
    pub(super) jwks_uri: Option<Endpoint>,
    /// Where the keys are that the answer is signed by, if it is to be signed (JARM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answer_keys: Option<Endpoint>,
    /// Whether another site posts the answer.
    pub(super) form_post: bool,
    pub(super) resources: Vec<Box<str>>,
    pub(super) rotation: Rotation,
    pub(super) tolerated: Deviations,
    pub(super) made_at: Timestamp,
    pub(super) lifetime: Duration,
    /// Until when the URL can be opened, of a request that was left at the server.
    pub(super) url_expires_at: Option<Timestamp>,
}

/// Refuses what another release wrote in another format, before anything else of it is looked at: a newer one may hold
/// checks that this one would leave out.
fn known_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let version = u64::deserialize(deserializer)?;
    if version == u64::from(VERSION) {
        return Ok(VERSION);
    }
    let whose = if version > u64::from(VERSION) { "a newer" } else { "an older" };
    Err(de::Error::custom(format!(
        "this authorization was begun by {whose} release of grantflow (format {version}; this release reads format \
         {VERSION}): finish it with the release that began it, or start the sign-in again"
    )))
}

fn too_late() -> Error {
    Error::new(ErrorKind::Expired, "the sign-in took longer than allowed")
}

/// What a redirect is to a pending authorization.
pub(crate) enum Verdict {
    /// It has another `state` or none: whatever it says, it is not about this request.
    Stray(Error),
    /// It has the right `state`, and parameters that no answer has.
    Broken(Error),
    /// It is the answer, good or bad.
    Answer(Result<Answer, Error>),
}

impl PendingAuthorization {
    /// Checks a redirect, without using this authorization up: requests that are no answer to it may come first. `now`
    /// is the wall clock's time. The signature of a signed answer is checked when the authorization is finished.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRedirect`] if the redirect is not the answer to this request, [`ErrorKind::Expired`] if it
    /// comes too late, [`ErrorKind::Authorization`] if it is the server's own error.
    pub fn receive(&self, redirect: &str, now: Timestamp) -> Result<Answer, Error> {
        match self.judge(redirect, now) {
            Verdict::Stray(error) | Verdict::Broken(error) => Err(error),
            Verdict::Answer(answer) => answer,
        }
    }

    pub(crate) fn judge(&self, redirect: &str, now: Timestamp) -> Verdict {
        match Parameters::parse(redirect) {
            Ok(found) if found.response.is_some() || self.answer_keys.is_some() => self.judge_signed(found, now),
            Ok(found) => self.judge_parameters(found, now),
            Err(error) => Verdict::Stray(error),
        }
    }

    /// Judges what may be a signed answer by what it says, which nothing vouches for yet.
    fn judge_signed(&self, found: Parameters, now: Timestamp) -> Verdict {
        let is_ours = |state: Option<&str>| state.is_some_and(|state| self.state.matches(state));
        let Some(jwt) = found.response.filter(|_| !found.repeated) else {
            let error = not_the_answer("it is not signed, and a signed answer was asked for (JARM)");
            let ours = is_ours(found.state.as_ref().map(Secret::expose));
            return if ours { Verdict::Broken(error) } else { Verdict::Stray(error) };
        };
        let claims = match signed::unverified(jwt.expose()) {
            Ok(claims) => claims,
            Err(error) => return Verdict::Stray(error),
        };
        if !is_ours(claims.str("state")) {
            return Verdict::Stray(not_the_answer("it belongs to another authorization request (state)"));
        }
        if self.answer_keys.is_none() {
            return Verdict::Broken(not_the_answer("it is signed, and no signed answer was asked for (JARM)"));
        }
        Verdict::Answer(match signed::check(&claims, &self.issuer, &self.client_id, now) {
            Err(error) => Err(error.during("reading the redirect", None)),
            Ok(()) if self.is_late(now) => Err(too_late()),
            Ok(()) => Ok(Answer { came: Came::Signed(jwt), request: self.id(), others: Vec::new() }),
        })
    }

    fn is_late(&self, now: Timestamp) -> bool {
        now.since(self.made_at) > self.lifetime
    }

    /// The code of an answer whose signature was checked.
    pub(super) fn code_of(&self, found: Parameters, now: Timestamp) -> Result<Secret, Error> {
        match self.judge_parameters(found, now) {
            Verdict::Answer(Ok(Answer { came: Came::Code(code), .. })) => Ok(code),
            Verdict::Stray(error) | Verdict::Broken(error) | Verdict::Answer(Err(error)) => Err(error),
            Verdict::Answer(Ok(_)) => Err(not_the_answer("a signed answer holds another one")),
        }
    }

    fn judge_parameters(&self, found: Parameters, now: Timestamp) -> Verdict {
        let secrets = |code: Option<&Secret>| -> Vec<Secret> {
            [&self.state, &self.code_verifier].into_iter().chain(&self.nonce).chain(code).cloned().collect()
        };
        // RFC 6749, section 4.1.2.
        match &found.state {
            Some(state) if self.state.matches(state.expose()) => {}
            Some(_) => {
                return Verdict::Stray(not_the_answer("it belongs to another authorization request (state)"));
            }
            None => return Verdict::Stray(not_the_answer("it has no state")),
        }
        // RFC 6749, section 3.1.
        if found.repeated {
            return Verdict::Broken(not_the_answer("it has a parameter twice"));
        }
        // RFC 9207, section 2.4: before anything else in it is believed.
        match &found.iss {
            Some(iss) if iss != self.issuer.as_str() => {
                let (shown, issuer) = (struck_out(iss, &secrets(found.code.as_ref())), &self.issuer);
                let why = format!("it comes from another server: its iss is {shown}, and {issuer} was asked");
                return Verdict::Answer(Err(not_the_answer(why)));
            }
            None if self.iss_required => {
                let why = "it does not say which server it comes from (iss), as this server says it always does";
                return Verdict::Answer(Err(not_the_answer(why)));
            }
            _ => {}
        }
        if self.is_late(now) {
            return Verdict::Answer(Err(too_late()));
        }
        match (found.code, found.error) {
            // RFC 6749, appendix A.11.
            (Some(code), None) if vschar("code", code.expose()).is_err() => {
                Verdict::Broken(not_the_answer("its code holds a character outside of printable ASCII"))
            }
            (Some(code), None) => {
                Verdict::Answer(Ok(Answer { came: Came::Code(code), request: self.id(), others: found.others }))
            }
            (None, Some(error)) => {
                let error = Error::from_server(ErrorKind::Authorization, error).strike_out(&secrets(None));
                Verdict::Answer(Err(error.during("asking the user to authorize", Some(self.issuer.as_str()))))
            }
            (Some(_), Some(_)) => Verdict::Broken(not_the_answer("it has both a code and an error")),
            (None, None) => Verdict::Broken(not_the_answer("it has neither a code nor an error")),
        }
    }

    pub(super) fn id(&self) -> RequestId {
        RequestId::of(&self.state)
    }

    /// The server as it was when this began: endpoints that change in between do not matter to what is under way.
    pub(super) fn server(&self) -> ServerMetadata {
        let server = ServerMetadata::recorded(
            &self.issuer,
            &self.issuer_aliases,
            &self.token_endpoint,
            self.jwks_uri.as_ref(),
            self.rotation,
            self.tolerated,
        );
        if self.certificate_bound { server.member(CERTIFICATE_BOUND, true.into()) } else { server }
    }

    /// The token request, but for its code and its resources.
    pub(super) fn token_request(&self, client: &Client) -> Result<TokenRequest, Error> {
        if client.id() != &*self.client_id {
            return Err(Error::config(format!(
                "the code was asked by the client {}, not this one",
                Shown::name(&self.client_id)
            )));
        }
        if client.dpop_key().map(DpopKey::thumbprint) != self.dpop_jkt.as_deref() {
            return Err(Error::config("the code was asked with another DPoP key, or with none, and is bound to that"));
        }
        let server = self.server();
        let request = TokenRequest::authorization_code(&server, client, &self.redirect_uri, &self.code_verifier)?;
        let asked = SignIn { nonce: self.nonce.clone(), code: None, terms: self.terms.clone() };
        let request = request.signing_in((&server, client), &self.scopes, asked)?;
        Ok(if self.jwks_uri.is_some() { request.verify_id_token_signature() } else { request })
    }

    /// A name for the place that keeps this until the user is back, such as a cookie or a row of a table: 64
    /// hexadecimal digits. Each request has its own, so that two sign-ins in two tabs of one browser do not overwrite
    /// each other. [`name_in`](Self::name_in) makes the same name of the redirect. It is no secret.
    pub fn name(&self) -> String {
        self.id().name()
    }

    /// The [`name`](Self::name) of the request that a redirect claims to answer. It tells where to look for the
    /// pending authorization and is no proof of anything: [`finish`](Self::finish) checks.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRedirect`] if the redirect has no `state`, or several.
    pub fn name_in(redirect: &str) -> Result<String, Error> {
        let found = Parameters::parse(redirect)?;
        let state = match &found.response {
            Some(jwt) => signed::unverified(jwt.expose())?.str("state").map(Secret::from),
            None => found.state,
        };
        Ok(RequestId::of(&state.ok_or_else(|| not_the_answer("it has no state"))?).name())
    }

    /// The redirect URI of the request, with its real port.
    pub fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    /// The server of the request.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Until when the URL must be opened, if the request was [pushed](super::AuthorizationRequest::push) and the server
    /// forgets it. Afterwards, or if the user begins once more, start anew (RFC 9126, section 4).
    pub fn url_expires_at(&self) -> Option<Timestamp> {
        self.url_expires_at
    }

    /// The moment after which no answer is taken any more.
    pub fn expires_at(&self) -> Timestamp {
        self.made_at + self.lifetime
    }
}

impl fmt::Debug for PendingAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingAuthorization")
            .field("issuer", &self.issuer)
            .field("client_id", &Shown::name(&self.client_id))
            .field("redirect_uri", &Shown::name(&self.redirect_uri))
            .field("scopes", &self.scopes)
            .field("made_at", &self.made_at)
            .finish_non_exhaustive()
    }
}
