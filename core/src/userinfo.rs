//! The userinfo endpoint (OpenID Connect Core 1.0, section 5.3).

use crate::exchange::{Request, error_under_success};
use crate::jose::{Claims, IdToken};
use crate::machine::Identity;
use crate::{Error, ErrorKind, Exchange, ServerMetadata, Token};

/// A request for what a server tells of the user who signed in.
#[derive(Debug)]
pub struct UserInfo {
    request: Request,
    server: ServerMetadata,
    subject: Option<String>,
}

impl UserInfo {
    /// Asks with this access token. If an ID token came with it, the answer must be about the same user.
    ///
    /// # Errors
    ///
    /// If the server is known without a `userinfo_endpoint`, or the token is another server's, or not for bearers.
    pub fn new(server: &ServerMetadata, token: &Token) -> Result<Self, Error> {
        token.check_issuer(server.issuer())?;
        let request = Request::get("asking about the user", server.userinfo()?).bearer(token)?;
        let subject = token.id_token().map(|id_token| id_token.subject().to_owned());
        Ok(Self { request, server: server.clone(), subject })
    }

    /// Presents the certificate that the access token is bound to (RFC 8705, section 3), at the endpoint that the server
    /// has for that (section 5).
    pub fn identity(mut self, identity: Identity) -> Self {
        let endpoint = self.server.with_mtls_endpoint_aliases().and_then(|server| server.userinfo().cloned());
        self.request = match endpoint {
            Ok(endpoint) => self.request.at(endpoint).identity(identity),
            Err(error) => self.request.fail(error),
        };
        self
    }

    /// Says which user it must be about, where the ID token came some other way. It must be the same server's:
    /// a `sub` means nothing at another (section 5.7).
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

    /// The machine that asks. An answer about another user is refused (section 5.3.2).
    pub fn exchange(self) -> Exchange<Claims> {
        let Self { request, subject, .. } = self;
        request.exchange(move |received| {
            let wrong = |why| Error::new(ErrorKind::InvalidResponse, why);
            let claims = Claims::read(received.response.body())
                .ok_or_else(|| wrong("the answer is no JSON object, or has a member twice"))?;
            // Of a `sub` in broken text nobody knows whose it is.
            let sub = claims.str("sub").filter(|sub| !sub.is_empty() && !sub.contains('\u{fffd}'));
            match (sub, &subject) {
                (None, _) => {
                    let said = error_under_success(received.response.body());
                    Err(said.unwrap_or_else(|| wrong("the answer has no sub")))
                }
                (Some(found), Some(expected)) if found != expected => {
                    Err(wrong("the answer is about another user (sub)"))
                }
                _ => Ok(claims),
            }
        })
    }
}
