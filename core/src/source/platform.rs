//! Tokens that a platform gives the programs that run on it: [`PlatformToken`].
//!
//! ```text
//! Begin ─▶ ReadFile, Env or Http ─▶ done: the token, and its end if it says so
//! ```

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{GrantState, Mint, Minting, TokenSource, Want, cannot};
use crate::exchange::{Received, Request};
use crate::machine::ask;
use crate::{
    Cx, Effect, Endpoint, Error, ErrorKind, Exchange, Machine, Reply, Secret, Shown, Step, Timestamp, Token, json,
};

/// The most bytes of a token.
const MAX: usize = 64 * 1024;
/// When to look again for a token of which nobody knows how long it is good.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// A source whose token a platform gives: the signed identity of a workload, in a file (Kubernetes, SPIFFE), a variable (a job
/// of a build server) or at an address (GitHub Actions, metadata servers). A program that prints one is a
/// [`ProgramToken`](super::ProgramToken); Google's metadata server has [a source of its own](crate::google::MetadataServer).
///
/// It is the base of an [`AssertedToken`](super::AssertedToken) or an [`ExchangedToken`](super::ExchangedToken). A JWT
/// is used until its `exp`; any other token is read again after 5 minutes. All wants get the same token, since the
/// platform does not learn of them.
///
/// ```
/// use grantflow::source::PlatformToken;
/// use grantflow::{Endpoint, Secret};
///
/// let pod = PlatformToken::file("/var/run/secrets/tokens/as-token");
/// let address = Endpoint::new("https://actions.example/token?audience=https%3A%2F%2Fas.example")?;
/// let job = PlatformToken::at(&address).secret_header("authorization", &Secret::from("Bearer job")).member("value");
/// # let _ = (pod, job);
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct PlatformToken {
    place: Place,
    /// The member of a JSON object in which it lies.
    member: Option<Box<str>>,
}

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Env(&'static str),
    Http { endpoint: Endpoint, headers: Vec<(Box<str>, Secret)> },
}

impl PlatformToken {
    /// A source that reads the token from this file, anew each time that one is wanted.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { place: Place::File(path.into()), member: None }
    }

    /// A source that reads the token from this environment variable.
    pub fn env(name: &'static str) -> Self {
        Self { place: Place::Env(name), member: None }
    }

    /// A source that gets the token from this address.
    pub fn at(endpoint: &Endpoint) -> Self {
        Self { place: Place::Http { endpoint: endpoint.clone(), headers: Vec::new() }, member: None }
    }

    /// Sends this header to the address, such as `Metadata: true`, or a token that the platform gave for it.
    pub fn secret_header(mut self, name: &str, value: &Secret) -> Self {
        if let Place::Http { headers, .. } = &mut self.place {
            headers.push((name.into(), value.clone()));
        }
        self
    }

    /// Takes the token from this member of a JSON object.
    pub fn member(mut self, name: &str) -> Self {
        self.member = Some(name.into());
        self
    }

    fn read(&self, content: &[u8], now: Timestamp) -> Result<Token, Error> {
        read(content, self.member.as_deref(), now)
    }
}

/// The token in what was read.
fn read(content: &[u8], member: Option<&str>, now: Timestamp) -> Result<Token, Error> {
    let wrong = |why: &'static str| Error::new(ErrorKind::InvalidResponse, why);
    let text = match member {
        None => {
            let text = std::str::from_utf8(content).map_err(|_| wrong("there is no token: it is no text"))?;
            Secret::from(text.trim_start_matches('\u{feff}').trim())
        }
        Some(name) => {
            let mut members = json::object(content).map_err(|_| wrong("there is no JSON object"))?.members;
            let token = members.get(name).and_then(Value::as_str).map(|text| Secret::from(text.trim()));
            members.values_mut().for_each(crate::secret::wipe_json);
            token.ok_or_else(|| wrong("the JSON object has no such member"))?
        }
    };
    if text.is_empty() {
        return Err(wrong("there is no token: it is empty"));
    }
    let end = end_of(text.expose());
    if end.is_some_and(|end| now >= end) {
        return Err(wrong("the platform's token has expired"));
    }
    let token = Token::bearer(text.expose(), now, end)?;
    Ok(if end.is_none() { token.with_refresh_after(now + LOOK_AGAIN) } else { token })
}

/// The `exp` of a JWT. Nothing is believed of it but when to look for the next.
fn end_of(jwt: &str) -> Option<Timestamp> {
    let mut parts = jwt.split('.');
    let claims = Zeroizing::new(URL_SAFE_NO_PAD.decode(parts.nth(1)?).ok()?);
    parts.next()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("exp")?.as_i64().map(Timestamp::from_unix)
}

impl TokenSource for PlatformToken {
    fn mint(&self, want: &Want, _: &GrantState) -> Mint {
        let plain = want.wanted_subject().is_none() && want.wanted_account().is_none();
        Box::new(Reading { source: self.clone(), stage: if plain { Stage::Begin } else { Stage::Unfit } })
    }
}

struct Reading {
    source: PlatformToken,
    stage: Stage,
}

enum Stage {
    Unfit,
    Begin,
    Asked,
    Http(Exchange<Token>),
    Ended,
}

impl Minting for Reading {}

impl Reading {
    fn begin(&mut self) -> Step<Token> {
        let effect = match &self.source.place {
            Place::File(path) => Effect::ReadFile { path: path.clone(), max: MAX },
            Place::Env(name) => Effect::Env(name),
            Place::Http { .. } => return Step::Done(Err(Error::misuse("a platform's token"))),
        };
        self.stage = Stage::Asked;
        Step::Do(effect)
    }

    fn exchange(&self) -> Option<Exchange<Token>> {
        let Place::Http { endpoint, headers } = &self.source.place else { return None };
        let request = Request::get(DOING, endpoint).max_body(MAX);
        let request = headers.iter().fold(request, |request, (name, value)| request.secret_header(name, value));
        let member = self.source.member.clone();
        Some(
            request.exchange(move |received: Received<'_>| {
                read(received.response.body(), member.as_deref(), received.sent)
            }),
        )
    }
}

const DOING: &str = "asking the platform for a token";

impl Machine for Reading {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        if matches!((&self.stage, &reply), (Stage::Begin, Reply::Start))
            && let Some(exchange) = self.exchange()
        {
            self.stage = Stage::Http(exchange);
        }
        if let Stage::Http(exchange) = &mut self.stage {
            let result = ask!(exchange, cx, reply);
            self.stage = Stage::Ended;
            return Step::Done(result);
        }
        let now = cx.now().wall;
        let missing = |what: String| Error::new(ErrorKind::File, what);
        let result = match (std::mem::replace(&mut self.stage, Stage::Ended), reply) {
            (Stage::Unfit, Reply::Start) => Err(cannot("is the platform's, which knows of no other subject")),
            (Stage::Begin, Reply::Start) => return self.begin(),
            (Stage::Asked, Reply::File(content)) => self.source.read(&Zeroizing::new(content), now),
            (Stage::Asked, Reply::Env(Some(value))) => self.variable(value, now),
            (Stage::Asked, Reply::Missing) => Err(missing("the file with the platform's token is missing".into())),
            (Stage::Asked, Reply::Env(None)) => Err(missing(format!("{} is not set", self.source.place_name()))),
            (Stage::Asked, Reply::Failed(failure)) => Err(failure.into()),
            (Stage::Asked, Reply::Refused) => Err(Error::refused("ReadFile or Env")),
            _ => return Step::Done(Err(Error::misuse("a platform's token"))),
        };
        let place = self.source.place_name();
        Step::Done(result.map_err(|error| error.within(place).during(DOING, None)))
    }
}

impl Reading {
    fn variable(&self, value: OsString, now: Timestamp) -> Result<Token, Error> {
        let bytes = Zeroizing::new(value.into_encoded_bytes());
        self.source.read(&bytes, now)
    }
}

impl PlatformToken {
    fn place_name(&self) -> String {
        match &self.place {
            Place::File(path) => Shown::path(path).to_string(),
            Place::Env(name) => format!("the variable {name}"),
            Place::Http { endpoint, .. } => format!("{endpoint:?}"),
        }
    }
}

/// Shows where it is.
impl fmt::Debug for PlatformToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlatformToken({})", self.place_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_says_its_end_and_nothing_else_does() {
        let jwt = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(end_of(&jwt(r#"{"exp": 7}"#)), Some(Timestamp::from_unix(7)));
        for other in ["", "a.b", "a.b.c", &jwt("{}"), &jwt(r#"{"exp": "7"}"#), &jwt("[]"), "e30.e30"] {
            assert_eq!(end_of(other), None, "{other}");
        }
    }
}
