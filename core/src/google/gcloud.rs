//! Tokens of gcloud: from its program, and from the file that it may be told to use.
//!
//! ```text
//! Begin ─▶ Variable (unless a path was given) ─▶ File ─▶ done: the token
//! ```

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::file;
use crate::machine::{Os, Platform, Program};
use crate::source::{GrantState, Mint, Minting, ProgramToken, TokenSource, Want, cannot};
use crate::{Cx, Effect, Error, ErrorKind, Machine, Reply, Shown, Step, Token};

/// What names the file, to gcloud and here.
const VARIABLE: &str = "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE";
/// When to read it again: nobody knows how long its token is good.
const READ_AGAIN: Duration = Duration::from_secs(300);
/// The most bytes of the file.
const MAX: usize = 64 * 1024;

/// A source of the tokens of the account that gcloud is signed in to, by `gcloud config config-helper`, which also says
/// when they expire. The driver must allow programs: see `allow_programs` at the builder of its transport.
///
/// gcloud's own account is another one than that of `gcloud auth application-default login`, which the search for
/// default credentials finds. This is for a person's own machine.
///
/// ```
/// use grantflow::google::gcloud;
/// use grantflow::machine::{Os, Platform};
///
/// let tokens = gcloud(&Platform { os: Os::Unix, home: None });
/// # let _ = tokens;
/// ```
pub fn gcloud(platform: &Platform) -> ProgramToken {
    // What is installed on Windows is a script.
    let name = if platform.os == Os::Windows { "gcloud.cmd" } else { "gcloud" };
    ProgramToken::new(Program::new(name).args(["config", "config-helper", "--format=json"]))
}

/// A source of the access token in a file, which another program writes anew before the token expires.
///
/// The file is read again every 5 minutes, since nothing says when its token expires, and once a server has refused the
/// token. It serves any scopes; a want that names anything else is refused.
///
/// ```
/// use grantflow::google::AccessTokenFile;
/// use grantflow::source::TokenSource;
///
/// let source = AccessTokenFile::new("/run/secrets/access-token");
/// # fn is_source(_: impl TokenSource) {}
/// # is_source(source);
/// # is_source(AccessTokenFile::of_gcloud());
/// ```
#[derive(Clone, Default)]
pub struct AccessTokenFile {
    path: Option<PathBuf>,
}

impl AccessTokenFile {
    /// The token of this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()) }
    }

    /// The token of the file that gcloud uses in place of its own account: `CLOUDSDK_AUTH_ACCESS_TOKEN_FILE` names it.
    pub fn of_gcloud() -> Self {
        Self::default()
    }
}

impl fmt::Debug for AccessTokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokenFile").field("path", &self.path.as_deref().map(Shown::path)).finish()
    }
}

impl TokenSource for AccessTokenFile {
    fn mint(&self, want: &Want, _: &GrantState) -> Mint {
        let plain = *want == Want::access_token(want.scopes());
        Box::new(Reading { path: self.path.clone(), stage: if plain { Stage::Begin } else { Stage::Unfit } })
    }
}

struct Reading {
    path: Option<PathBuf>,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Unfit,
    Begin,
    Variable,
    File,
    Ended,
}

impl Minting for Reading {}

impl Machine for Reading {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Token> {
        let result = match (std::mem::replace(&mut self.stage, Stage::Ended), reply) {
            (Stage::Unfit, Reply::Start) => Err(cannot("is what a file holds, which learns of no want")),
            (Stage::Begin, Reply::Start) => match &self.path {
                Some(path) => return self.read(path.clone()),
                None => {
                    self.stage = Stage::Variable;
                    return Step::Do(Effect::Env(VARIABLE));
                }
            },
            (Stage::Variable, Reply::Env(Some(path))) if !path.is_empty() => return self.read(path.into()),
            (Stage::Variable, Reply::Env(_)) => Err(Error::config(format!("{VARIABLE} is not set"))),
            (Stage::Variable, Reply::Refused) => Err(Error::refused("Env")),
            (Stage::File, Reply::File(content)) => {
                let content = zeroize::Zeroizing::new(content);
                self.here(token(&content, cx))
            }
            (Stage::File, Reply::Missing) => {
                let error = self.path.as_deref().map_or_else(|| Error::misuse("an access token's file"), file::missing);
                self.here(Err(error))
            }
            (Stage::File, Reply::Failed(failure)) => self.here(Err(file::unreadable(failure))),
            (Stage::File, Reply::Refused) => Err(Error::refused("ReadFile")),
            _ => return Step::Done(Err(Error::misuse("an access token's file"))),
        };
        Step::Done(result.map_err(|error| error.during("reading an access token", None)))
    }
}

impl Reading {
    fn read(&mut self, path: PathBuf) -> Step<Token> {
        self.stage = Stage::File;
        self.path = Some(path.clone());
        Step::Do(Effect::ReadFile { path, max: MAX })
    }

    fn here(&self, result: Result<Token, Error>) -> Result<Token, Error> {
        result.map_err(|error| match &self.path {
            Some(path) => error.within(Shown::path(path)),
            None => error,
        })
    }
}

fn token(content: &[u8], cx: &Cx) -> Result<Token, Error> {
    let text = std::str::from_utf8(content).map_err(|_| Error::new(ErrorKind::File, "it is no text"))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err(Error::new(ErrorKind::File, "it holds no token"));
    }
    let now = cx.now().wall;
    let token = Token::bearer(text, now, None);
    let token =
        token.map_err(|error| Error::new(ErrorKind::File, format!("it holds no token: {}", error.message())))?;
    Ok(token.with_refresh_after(now + READ_AGAIN))
}
