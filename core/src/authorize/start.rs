//! The machine that makes the URL of an authorization request.
//!
//! ```text
//! Begin ─Start─▶ Ended (the URL and what to remember)
//!   └─ it is signed or pushed ─▶ Steps ─▶ Ended
//! ```

use std::fmt;
use std::sync::Arc;

use super::request::AuthorizationRequest;
use super::way::{Steps, Way};
use super::{Authorization, PendingAuthorization};
use crate::crypto::Signer;
use crate::jose::JwtSigner;
use crate::{Cx, Error, Machine, Reply, Step};

/// What is being done, in errors.
const DOING: &str = "making the authorization request";

impl AuthorizationRequest {
    /// Leaves the request at the server before the user is sent, so that the URL only names it: nobody in between can
    /// read or change it (Pushed Authorization Requests, RFC 9126). The client authenticates as it does for tokens. It
    /// is done without this call if the metadata says `require_pushed_authorization_requests`.
    ///
    /// The URL is good for one visit within [`PendingAuthorization::url_expires_at`]; for another one, start anew.
    ///
    /// ```
    /// # use grantflow::{AuthorizationRequest, Client, Issuer, ServerMetadata};
    /// # let server = ServerMetadata::new(Issuer::new("https://as.example")?);
    /// # let client = Client::new("web-app");
    /// let request = AuthorizationRequest::new(&server, &client, "https://app.example/callback").push();
    /// # let _ = request;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    pub fn push(mut self) -> Self {
        self.pushed = true;
        self
    }

    /// Signs the request, so that its server knows that nobody has changed it and who made it (JWT-Secured
    /// Authorization Requests, RFC 9101). It goes into the URL as one object, or is [pushed](Self::push) as one. The
    /// server must have the public key; the signer may be remote.
    ///
    /// The signed request is good for five minutes.
    pub fn sign(self, signer: impl Signer + 'static) -> Self {
        self.signed_by(Arc::new(signer))
    }

    pub(crate) fn signed_by(mut self, signer: Arc<dyn Signer>) -> Self {
        self.signer = Some(JwtSigner::new("oauth-authz-req+jwt", signer));
        self
    }

    /// The machine that draws `state`, verifier and nonce, and makes the URL. Unless the request is
    /// [pushed](Self::push) or [signed](Self::sign), the machine asks for no effect and is done at once: a caller
    /// without a driver resumes it once, with [`Reply::Start`].
    #[inline]
    pub fn start(self) -> StartAuthorization {
        StartAuthorization(Stage::Begin(self))
    }
}

/// The machine that makes the URL of an authorization request: see [`AuthorizationRequest::start`].
pub struct StartAuthorization(Stage);

// What is begun with is taken out at once: a box of its own would cost more than the room.
#[allow(clippy::large_enum_variant)]
enum Stage {
    Begin(AuthorizationRequest),
    Steps(Box<Steps>, Box<PendingAuthorization>),
    Ended,
}

impl Machine for StartAuthorization {
    type Output = Authorization;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Authorization> {
        let (mut steps, mut pending) = match (&mut self.0, &reply) {
            // It is not moved, which would take a while.
            (Stage::Begin(request), Reply::Start) => {
                let begun = request.begin(cx);
                self.0 = Stage::Ended;
                match begun {
                    Ok((Way::Url(url), pending)) => return Step::Done(Ok(Authorization { url, pending })),
                    Ok((Way::Steps(steps), pending)) => (steps, Box::new(pending)),
                    Err(error) => return Step::Done(Err(error.during(DOING, None))),
                }
            }
            (stage, _) => match std::mem::replace(stage, Stage::Ended) {
                Stage::Steps(steps, pending) => (steps, pending),
                Stage::Begin(_) | Stage::Ended => return Step::Done(Err(Error::misuse("starting an authorization"))),
            },
        };
        match steps.resume(cx, reply) {
            Step::Do(effect) => {
                self.0 = Stage::Steps(steps, pending);
                Step::Do(effect)
            }
            Step::Done(Ok((url, until))) => {
                pending.url_expires_at = until;
                Step::Done(Ok(Authorization { url, pending: *pending }))
            }
            Step::Done(Err(error)) => Step::Done(Err(error.during(DOING, None))),
        }
    }
}

/// Shows how far it is.
impl fmt::Debug for StartAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Stage::Begin(request) => f.debug_tuple("StartAuthorization").field(request).finish(),
            Stage::Steps(_, pending) => f.debug_tuple("StartAuthorization").field(pending).finish(),
            Stage::Ended => f.write_str("StartAuthorization(ended)"),
        }
    }
}
