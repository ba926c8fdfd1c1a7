//! Tokens that a program prints: [`ProgramToken`].
//!
//! ```text
//! Begin ─▶ Exec ─▶ done: the token, or why there is none
//! ```

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{GrantState, Mint, Minting, TokenSource, Want, cannot};
use crate::Shown;
use crate::error::struck_out;
use crate::machine::{Exited, FailureKind, Machine, Program};
use crate::shown::printable;
use crate::{Advice, Cx, Effect, Error, ErrorKind, Failure, Reply, Secret, Step, Timestamp, Token, json};

/// When to ask again for a token of which nobody knows how long it is good.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// The most characters of standard error to show.
const MAX_SHOWN: usize = 300;
/// The members that a token is read from, in this order.
const TOKENS: [&str; 4] = ["access_token", "accessToken", "token", "id_token"];
/// The members that its end is read from: moments, in seconds since 1970 or as RFC 3339 writes them.
const ENDS: [&str; 7] =
    ["expires_at", "expires_on", "expiry", "token_expiry", "expiration_time", "expirationTimestamp", "expiration"];
/// The members in which a token may lie: gcloud's `config-helper`, Kubernetes' `ExecCredential`.
const AROUND: [&str; 2] = ["credential", "status"];

/// A source whose token a program prints, such as `gcloud auth print-access-token`. The driver must allow programs: see
/// `allow_programs` at the builder of its transport.
///
/// The program prints to standard output the token itself, or a JSON object:
///
/// | | read from |
/// |---|---|
/// | the token | `access_token`, `accessToken`, `token`, `id_token` |
/// | its end | `expires_in` (seconds), or a moment (RFC 3339 or seconds since 1970): `expires_at`, `expires_on`, `expiry`, `token_expiry`, `expiration_time`, `expirationTimestamp`, `expiration` |
/// | either, in an object inside | `credential` (`gcloud config config-helper --format=json`), `status` (an `ExecCredential` of Kubernetes) |
///
/// A token whose end is not known is asked for again after 5 minutes, and used until another one comes or a server
/// refuses it. It serves any scopes, since the program does not learn of them; a want that names anything else is
/// refused.
///
/// ```
/// use grantflow::machine::Program;
/// use grantflow::source::ProgramToken;
///
/// let gcloud = ProgramToken::new(Program::new("gcloud").args(["auth", "print-access-token"]));
/// // For the `TokenManager` of an adapter whose transport was built with `allow_programs()`.
/// # let _ = gcloud;
/// ```
#[derive(Clone, Debug)]
pub struct ProgramToken {
    program: Program,
    lifetime: Option<Duration>,
}

impl ProgramToken {
    /// A source that runs this program.
    pub fn new(program: Program) -> Self {
        Self { program, lifetime: None }
    }

    /// Sets how long a token is good for, counted from the program's start, where the program does not say.
    pub fn lifetime(mut self, time: Duration) -> Self {
        self.lifetime = Some(time);
        self
    }
}

impl TokenSource for ProgramToken {
    fn mint(&self, want: &Want, _: &GrantState) -> Mint {
        let plain = *want == Want::access_token(want.scopes());
        Box::new(Run { source: self.clone(), stage: if plain { Stage::Begin } else { Stage::Unfit } })
    }
}

/// Runs the program once.
struct Run {
    source: ProgramToken,
    stage: Stage,
}

enum Stage {
    Unfit,
    Begin,
    Exec { begun: Timestamp },
    Ended,
}

impl Minting for Run {}

impl Machine for Run {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Token> {
        let now = cx.now().wall;
        let result = match (std::mem::replace(&mut self.stage, Stage::Ended), reply) {
            (Stage::Unfit, Reply::Start) => Err(cannot("is what a program prints, which learns of no want")),
            (Stage::Begin, Reply::Start) => {
                self.stage = Stage::Exec { begun: now };
                return Step::Do(Effect::Exec(self.source.program.clone()));
            }
            (Stage::Exec { begun }, Reply::Exec(exited)) => self.token(&exited, begun, now),
            (Stage::Exec { .. }, Reply::Failed(failure)) => Err(Report(&self.source.program).failed(&failure)),
            (Stage::Exec { .. }, Reply::Refused) => Err(Error::refused("Exec")),
            _ => return Step::Done(Err(Error::misuse("a program's token"))),
        };
        Step::Done(result.map_err(|error| error.during("asking a program for a token", None)))
    }
}

impl Run {
    fn token(&self, exited: &Exited, begun: Timestamp, now: Timestamp) -> Result<Token, Error> {
        let report = Report(&self.source.program);
        report.check(exited)?;
        let printed = std::str::from_utf8(exited.stdout()).map_err(|_| self.error("printed what is no text"))?;
        let printed = printed.trim_start_matches('\u{feff}').trim();
        let found = match printed {
            "" => return Err(self.error(&format!("printed no token{}", report.said(exited)))),
            json if json.starts_with('{') => self.read(json, begun)?,
            text => Found { token: text.into(), end: None },
        };
        let end = found.end.or_else(|| self.source.lifetime.map(|time| begun + time));
        if end.is_some_and(|end| now >= end) {
            return Err(self.error("printed a token that has expired"));
        }
        let token = Token::bearer(found.token.expose(), begun, end);
        let token = token.map_err(|error| self.error(&format!("printed no token: {}", error.message())))?;
        Ok(if end.is_none() { token.with_refresh_after(now + ASK_AGAIN) } else { token })
    }

    fn read(&self, text: &str, begun: Timestamp) -> Result<Found, Error> {
        let wrong = |what: &str| self.error(&format!("printed JSON {what}"));
        let object = json::object(text.as_bytes()).map_err(|error| {
            wrong(&format!("that cannot be read (line {}, column {})", error.line(), error.column()))
        })?;
        let whole = Wiped(object.members);
        if object.twice {
            return Err(wrong("with a member twice"));
        }
        if whole.0.get("success") == Some(&Value::Bool(false)) || whole.0.get("error").is_some_and(|e| !e.is_null()) {
            return Err(wrong("that is an error"));
        }
        let inside = AROUND.iter().filter_map(|name| whole.0.get(*name)?.as_object());
        let mut places = std::iter::once(&whole.0).chain(inside);
        let found = places.find_map(|place| Some((place, TOKENS.iter().find_map(|name| place.get(*name)?.as_str())?)));
        let (place, token) = found.ok_or_else(|| wrong("without a token"))?;
        if let Some(kind) = place.get("token_type").and_then(Value::as_str)
            && !kind.eq_ignore_ascii_case("bearer")
            && !kind.starts_with("urn:ietf:params:oauth:token-type:")
        {
            return Err(wrong("with a token of another type than Bearer"));
        }
        let end = end_of(place, begun).map_err(|name| wrong(&format!("whose {name} is no moment in time")))?;
        Ok(Found { token: token.into(), end })
    }

    fn error(&self, what: &str) -> Error {
        Report(&self.source.program).error(what)
    }
}

/// Tells of a program what went wrong with it, without any secret.
pub(crate) struct Report<'a>(pub(crate) &'a Program);

impl Report<'_> {
    pub(crate) fn error(&self, what: &str) -> Error {
        Error::new(ErrorKind::Program, format!("the program {} {what}", self.name()))
    }

    /// The error of one that could not be run to its end.
    pub(crate) fn failed(&self, failure: &Failure) -> Error {
        let error = match failure.kind() {
            FailureKind::Timeout => Error::new(
                ErrorKind::Timeout,
                format!("the program {} took longer than {:?}", self.name(), self.0.time()),
            ),
            FailureKind::TooLarge => self.error(&format!("printed more than {} bytes", self.0.most_output())),
            _ => return self.error(&format!("cannot be run: {failure}")).with_advice(Advice::FixConfiguration),
        };
        error.with_source(failure.clone())
    }

    /// The error of one that ended with another exit code than 0.
    pub(crate) fn check(&self, exited: &Exited) -> Result<(), Error> {
        Err(self.error(&match exited.code() {
            Some(0) => return Ok(()),
            Some(code) => format!("ended with exit code {code}{}", self.said(exited)),
            None => format!("was ended by a signal{}", self.said(exited)),
        }))
    }

    fn name(&self) -> Shown<'_> {
        Shown::path(self.0.path())
    }

    /// What it printed to standard error, without what may be a secret.
    pub(crate) fn said(&self, exited: &Exited) -> String {
        let text = String::from_utf8_lossy(exited.stderr());
        let known: Vec<_> = self.0.variables().map(|(_, value)| Secret::from(&*value.to_string_lossy())).collect();
        let shown = without_tokens(&struck_out(text.trim(), &known));
        if let Cow::Owned(copy) = text {
            drop(Secret::from(copy));
        }
        if shown.is_empty() { String::new() } else { format!(": {}", printable(&shown, MAX_SHOWN)) }
    }
}

/// What a program printed.
struct Found {
    token: Secret,
    end: Option<Timestamp>,
}

/// Members whose texts are wiped on drop.
struct Wiped(Map<String, Value>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.values_mut().for_each(crate::secret::wipe_json);
    }
}

/// The end that is named, if one is; the error is the name of the member that cannot be read.
fn end_of(place: &Map<String, Value>, begun: Timestamp) -> Result<Option<Timestamp>, &'static str> {
    let named = |name: &&'static str| Some((*name, place.get(*name).filter(|value| !value.is_null())?));
    if let Some((name, value)) = named(&"expires_in") {
        let seconds = seconds(value).and_then(|seconds| u64::try_from(seconds).ok()).ok_or(name)?;
        // A century is as good as no end, and does not overflow.
        return Ok(Some(begun + Duration::from_secs(seconds.min(100 * 366 * 86_400))));
    }
    let ends = ENDS.iter().filter_map(named);
    let mut wrong = None;
    for (name, value) in ends {
        let moment = match value.as_str() {
            Some(text) => Timestamp::from_rfc3339(text).or_else(|| seconds(value).map(Timestamp::from_unix)),
            None => seconds(value).map(Timestamp::from_unix),
        };
        match moment {
            Some(moment) => return Ok(Some(moment)),
            None => wrong = wrong.or(Some(name)),
        }
    }
    wrong.map_or(Ok(None), Err)
}

fn seconds(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        // A fraction of a second more or less is of no matter.
        #[allow(clippy::cast_possible_truncation, reason = "it saturates")]
        value => value.as_i64().or_else(|| value.as_f64().map(|number| number as i64)),
    }
}

/// A text with each word struck out that may be a token, a key or a password.
pub(crate) fn without_tokens(text: &str) -> String {
    let words = text.split_whitespace().map(|word| if may_be_secret(word) { "***" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a part of a word is as long as tokens are, and has a digit or is longer than names are.
fn may_be_secret(word: &str) -> bool {
    let has = |text: &str, class: fn(&u8) -> bool| text.as_bytes().iter().any(class);
    let mixed = |text: &str| has(text, u8::is_ascii_uppercase) && has(text, u8::is_ascii_lowercase);
    let part_is = |part: &str| {
        (part.len() >= 16 && has(part, u8::is_ascii_digit)) || (part.len() >= 28 && mixed(part)) || part.len() >= 64
    };
    let is_address = word.starts_with('/') || word.contains("://");
    word.split(|c: char| !(c.is_ascii_alphanumeric() || "_~+=%-".contains(c))).any(part_is)
        || (word.len() >= 24 && !is_address && mixed(word) && has(word, u8::is_ascii_digit))
        || ["ya29.", "1//", "Bearer", "GOCSPX-", "AIza"].iter().any(|begin| word.contains(begin) && word.len() > 12)
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("source", &self.source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_may_be_secrets_are_struck_out_and_others_stay() {
        for secret in [
            "ya29.a0AfH6SMBx",
            "eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
            "token=c4n4ry-S3cret-c4n4ry",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "(gho_aBcDeFgHiJkLmNoPqRsTuVwXyZaB)",
            "1//0gDemoRefresh",
            "4f3c2a1b0d9e8f7a6b5c",
            "https://as.example/?code=4%2F0AX4XfWhDemo9Demo9",
        ] {
            assert_eq!(without_tokens(&format!("no {secret} here")), "no *** here", "{secret}");
        }
        let told = "ERROR: (gcloud.auth.print-access-token) There was a problem refreshing your current auth tokens: \
                    invalid_grant. Please run: $ gcloud auth login, see https://cloud.google.com/docs/authentication";
        assert_eq!(without_tokens(told), told);
        assert_eq!(
            without_tokens("PermissionDeniedException at /usr/lib/gcloud/lib.py:12"),
            "PermissionDeniedException at /usr/lib/gcloud/lib.py:12"
        );
    }
}
