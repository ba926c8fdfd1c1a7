//! The userinfo endpoint (OpenID Connect Core 1.0, section 5.3).

use crate::exchange::Request;
use crate::jose::{Claims, IdToken};
use crate::server::Endpoint;
use crate::{Error, ErrorKind, Exchange, ServerMetadata, Token};

/// A request for what a server tells of the user who signed in.
#[derive(Debug)]
pub struct UserInfo {
    request: Request,
    subject: Option<String>,
}

impl UserInfo {
    /// Asks with this access token. If an ID token came with it, the answer must be about the same user.
    pub fn new(server: &ServerMetadata, token: &Token) -> Result<Self, Error> {
        let address = server.get("userinfo_endpoint").and_then(|value| value.as_str());
        let address = address
            .ok_or_else(|| Error::config(format!("{} is known without a userinfo_endpoint", server.issuer())))?;
        let request = Request::get("asking about the user", &Endpoint::new(address)?).bearer(token)?;
        Ok(Self { request, subject: token.id_token().map(|id_token| id_token.subject().to_owned()) })
    }

    /// Says which user it must be about, where the ID token came some other way.
    pub fn about(mut self, id_token: &IdToken) -> Self {
        self.subject = Some(id_token.subject().to_owned());
        self
    }

    /// The machine that asks. An answer about another user is refused (section 5.3.2).
    pub fn exchange(self) -> Exchange<Claims> {
        let Self { request, subject } = self;
        request.exchange(move |received| {
            let wrong = |why| Error::new(ErrorKind::InvalidResponse, why);
            let claims: Claims = serde_json::from_slice(received.response.body())
                .map_err(|_| wrong("the answer is no JSON object, or has a member twice"))?;
            match (claims.str("sub"), &subject) {
                (None, _) => Err(wrong("the answer has no sub")),
                (Some(found), Some(expected)) if found != expected => {
                    Err(wrong("the answer is about another user (sub)"))
                }
                _ => Ok(claims),
            }
        })
    }
}
