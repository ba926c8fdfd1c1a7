//! Reading, changing and deleting a registration (RFC 7592).
//!
//! ```text
//! Begin ─▶ Asked ─▶ Ended (the client as it is registered then)
//! ```
//!
//! Each answer may bring another token for the registration. It replaces the one that was used, even if the answer is
//! an error.

use std::fmt;

use http::Method;
use serde_json::Value;

use super::request::{MAX_ANSWER, bearer};
use super::{ClientMetadata, RegisteredClient};
use crate::exchange::{Received, Request, is_printable};
use crate::json;
use crate::machine::{Reach, Repeat, ask};
use crate::{Cx, Error, Exchange, Machine, Reply, Secret, Step};

impl RegisteredClient {
    /// The machine that reads the registration (RFC 7592, section 2.1). The answer may bring another secret.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the server gave no token or address to manage the
    /// registration.
    pub fn read(&self) -> Result<ManageRegistration, Error> {
        let request = self.managing("reading the client's registration", Method::GET)?.repeat(Repeat::Freely);
        Ok(ManageRegistration::new(self, request, self.asked().clone()))
    }

    /// The machine that replaces the registered metadata (RFC 7592, section 2.2): a member that `metadata` lacks is
    /// then not registered any more. The request is sent once, unless it surely did not arrive.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read) and of [`Registration::new`](super::Registration::new).
    pub fn update(&self, metadata: ClientMetadata) -> Result<ManageRegistration, Error> {
        metadata.check()?;
        let request = self.managing("changing the client's registration", Method::PUT)?;
        let whole = metadata.clone().member("client_id", self.client_id().into());
        let secret = self.client_secret().map_or(Value::Null, |secret| secret.expose().into());
        let mut whole = whole.member("client_secret", secret);
        let request = self.client_secret().into_iter().fold(request.json(&whole), Request::keeps_secret);
        whole.wipe();
        Ok(ManageRegistration::new(self, request, metadata))
    }

    /// The machine that deletes the registration (RFC 7592, section 2.3). The client, its grants and this value are
    /// then of no use any more.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub fn delete(&self) -> Result<Exchange<()>, Error> {
        Ok(self.managing("deleting the client's registration", Method::DELETE)?.exchange(|_| Ok(())))
    }

    fn managing(&self, doing: &'static str, method: Method) -> Result<Request, Error> {
        let why = "the registration cannot be managed: the server gave no registration_access_token or registration_client_uri";
        let (endpoint, token) = self.management().ok_or_else(|| Error::config(why))?;
        Ok(bearer(Request::new(doing, method, endpoint).max_body(MAX_ANSWER), token))
    }
}

/// The machine that reads or changes a registration: see [`RegisteredClient::read`] and [`RegisteredClient::update`].
/// It yields the client as it is then registered. After an error too, [`newest`](Self::newest) has the token to use
/// from then on.
pub struct ManageRegistration {
    known: RegisteredClient,
    stage: Stage,
}

enum Stage {
    Asked(Box<Exchange<Answered>>),
    Ended,
}

/// What an answer brought.
struct Answered {
    outcome: Result<RegisteredClient, Error>,
    /// The token for the registration, if another one came.
    token: Option<Secret>,
}

impl ManageRegistration {
    fn new(known: &RegisteredClient, request: Request, asked: ClientMetadata) -> Self {
        let issuer = known.issuer().clone();
        let global = known.management().is_some_and(|(endpoint, _)| endpoint.reach() == Reach::Global);
        let exchange = request.exchange(move |received: Received<'_>| {
            let outcome = RegisteredClient::parse(received, &issuer, global, &asked);
            Ok(Answered { outcome, token: token_in(received.response.body()) })
        });
        Self { known: known.clone(), stage: Stage::Asked(Box::new(exchange)) }
    }

    /// The client with all that is known of it: keep this, however the machine ends.
    pub fn newest(&self) -> &RegisteredClient {
        &self.known
    }
}

/// The token in an answer, whatever else is wrong with it.
fn token_in(body: &[u8]) -> Option<Secret> {
    match json::object(body).ok()?.members.remove("registration_access_token") {
        Some(Value::String(token)) if !token.is_empty() && is_printable(&token, b'!') => Some(token.into()),
        _ => None,
    }
}

impl Machine for ManageRegistration {
    type Output = RegisteredClient;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<RegisteredClient> {
        let answered = match &mut self.stage {
            Stage::Asked(exchange) => ask!(&mut **exchange, cx, reply),
            Stage::Ended => Err(Error::misuse("managing a registration")),
        };
        self.stage = Stage::Ended;
        let Answered { outcome, token } = match answered {
            Ok(answered) => answered,
            Err(error) => return Step::Done(Err(error)),
        };
        if let Some(token) = token {
            self.known = self.known.clone().with_token(token);
        }
        Step::Done(outcome.and_then(|newer| self.known.renewed(newer)).inspect(|newer| self.known = newer.clone()))
    }
}

/// Shows which client it is about.
impl fmt::Debug for ManageRegistration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManageRegistration").field(&self.known).finish()
    }
}
