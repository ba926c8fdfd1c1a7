//! The server's ping, which says that a person has decided (CIBA, section 10.2): bytes of a request in, bytes of an
//! answer out.

use std::fmt;

use serde_json::Value;

use crate::{Secret, json};

/// The most bytes of a request, its body included.
const MAX: usize = 16 * 1024;
/// The most header fields of a request.
const MAX_FIELDS: usize = 100;

/// The receiver of a server's ping for one sign-in, at the client's notification endpoint. It is pure: the program that
/// listens there gives it the bytes of a connection, or the parts of a request.
///
/// A ping without the right bearer token is answered with status 401, and changes nothing.
pub struct PingReceiver {
    token: Secret,
    auth_req_id: Secret,
}

/// What to do with a connection: the answer of [`PingReceiver::hear`].
#[derive(Debug)]
pub enum BackchannelHeard {
    /// Read more.
    More,
    /// Write this, close the connection, and go on waiting.
    Reply(Vec<u8>),
    /// Write this, close the connection, then ask for the token [at once](crate::DevicePolling::at_once).
    Pinged(Vec<u8>),
}

impl PingReceiver {
    pub(super) fn new(token: Secret, auth_req_id: Secret) -> Self {
        Self { token, auth_req_id }
    }

    /// Judges the bytes that came so far on one connection. Any path counts as the endpoint.
    pub fn hear(&self, so_far: &[u8]) -> BackchannelHeard {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let body = match request.parse(so_far) {
            Ok(httparse::Status::Complete(length)) => so_far.get(length..).unwrap_or_default(),
            Ok(httparse::Status::Partial) if so_far.len() < MAX => return BackchannelHeard::More,
            Ok(_) | Err(_) => return BackchannelHeard::Reply(answer("400 Bad Request")),
        };
        let field = |name: &str| {
            let mut values = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            let value = std::str::from_utf8(values.next()?.value).ok()?;
            values.next().is_none().then_some(value)
        };
        if request.method != Some("POST") {
            return BackchannelHeard::Reply(answer("405 Method Not Allowed"));
        }
        let Some(length) = field("content-length").and_then(|length| length.trim().parse::<usize>().ok()) else {
            return BackchannelHeard::Reply(answer("411 Length Required"));
        };
        if length > MAX {
            return BackchannelHeard::Reply(answer("413 Content Too Large"));
        }
        let Some(body) = body.get(..length) else { return BackchannelHeard::More };
        match self.take(field("authorization"), body) {
            204 => BackchannelHeard::Pinged(answer("204 No Content")),
            401 => BackchannelHeard::Reply(answer("401 Unauthorized")),
            _ => BackchannelHeard::Reply(answer("400 Bad Request")),
        }
    }

    /// Judges a request by its `Authorization` header and its body, and returns the status to answer with. Only 204
    /// means a ping; with any other status nothing changes.
    pub fn take(&self, authorization: Option<&str>, body: &[u8]) -> u16 {
        let shown = authorization.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        if !shown.is_some_and(|shown| self.token.matches(shown)) {
            return 401;
        }
        let members = json::object(body).map(|object| object.members).unwrap_or_default();
        match members.get("auth_req_id") {
            Some(Value::String(id)) if self.auth_req_id.matches(id) => 204,
            _ => 400,
        }
    }
}

fn answer(status: &str) -> Vec<u8> {
    let challenge = if status.starts_with("401") { "WWW-Authenticate: Bearer\r\n" } else { "" };
    format!("HTTP/1.1 {status}\r\n{challenge}Cache-Control: no-store\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

impl fmt::Debug for PingReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PingReceiver(..)")
    }
}
