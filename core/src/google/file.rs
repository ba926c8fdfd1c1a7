//! Reading credential files: every member checked, every error naming the member.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::hosts::{Trust, is_domain};
use super::{DEFAULT_UNIVERSE, check_quota_project};
use crate::json;
use crate::machine::FailureKind;
use crate::server::{Endpoint, Issuer};
use crate::shown::{Shown, content_slip, slip};
use crate::{Cx, Effect, Error, ErrorKind, Failure, Machine, Reply, Scopes, ServerMetadata, Step};

/// The most bytes of a file.
pub(super) const MAX: usize = 64 * 1024;
/// The endpoints that Google's own files name. Its hosts serve much else, that would keep what is sent there.
const GOOGLE_AUTHORIZATION: [&str; 2] =
    ["https://accounts.google.com/o/oauth2/auth", "https://accounts.google.com/o/oauth2/v2/auth"];
const GOOGLE_TOKEN: [&str; 4] = [
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://www.googleapis.com/oauth2/v3/token",
    "https://accounts.google.com/o/oauth2/token",
];

/// The machine that reads one of Google's files: a client file, a key, a user's credentials.
///
/// ```text
/// Ready ─Start─▶ Asked ─File─▶ Ended (parsed)
/// ```
///
/// ```
/// use grantflow::google::{ExternalAccount, ExternalUser, GdchServiceAccount, GoogleCredential, Impersonated};
///
/// let any_type = GoogleCredential::read("/etc/credential.json");
/// let federation = ExternalAccount::read("/etc/federation.json").with_any_source();
/// let (user, impersonated) = (ExternalUser::read("/etc/user.json"), Impersonated::read("/etc/impersonated.json"));
/// let air_gapped = GdchServiceAccount::read("/etc/gdch.json").with_any_server();
/// # let _ = (any_type, federation, user, impersonated, air_gapped);
/// ```
pub struct ReadFile<T> {
    path: PathBuf,
    state: State,
    trust: Trust,
    parse: fn(&[u8], Trust) -> Result<T, Error>,
}

enum State {
    Ready,
    Asked,
    Ended,
}

impl<T> ReadFile<T> {
    pub(super) fn new(path: impl Into<PathBuf>, parse: fn(&[u8], Trust) -> Result<T, Error>) -> Self {
        Self { path: path.into(), state: State::Ready, trust: Trust::Nothing, parse }
    }

    /// Obeys the `credential_source` of an external account, which names a file to read, an address to ask or a program
    /// to run. Only for files that no other user can write.
    pub fn with_any_source(mut self) -> Self {
        self.trust = self.trust.max(Trust::Source);
        self
    }

    /// Accepts any server that the file names, and any source besides. Only for files that no other user can write:
    /// such a server is sent secrets.
    pub fn with_any_server(mut self) -> Self {
        self.trust = Trust::Server;
        self
    }
}

impl<T> Machine for ReadFile<T> {
    type Output = T;

    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<T> {
        match (std::mem::replace(&mut self.state, State::Ended), &reply) {
            (State::Ready, Reply::Start) => {
                self.state = State::Asked;
                return Step::Do(Effect::ReadFile { path: self.path.clone(), max: MAX });
            }
            (State::Asked, _) => {}
            _ => return Step::Done(Err(Error::misuse("reading a file"))),
        }
        let here = |error: Error| error.within(Shown::path(&self.path));
        Step::Done(match reply {
            Reply::File(content) => {
                let content = zeroize::Zeroizing::new(content);
                (self.parse)(&content, self.trust).map_err(here)
            }
            Reply::Missing => Err(here(missing(&self.path))),
            Reply::Failed(failure) => Err(here(unreadable(failure))),
            Reply::Refused => Err(Error::refused("ReadFile")),
            _ => Err(Error::misuse("reading a file")),
        })
    }
}

/// The error of a file that is not there.
pub(super) fn missing(path: &Path) -> Error {
    Error::new(ErrorKind::File, format!("there is no such file{}", slip(path)))
}

/// The error of a file that cannot be read.
pub(super) fn unreadable(failure: Failure) -> Error {
    match failure.kind() {
        FailureKind::TooLarge => Error::new(ErrorKind::File, "the file is larger than 64 KiB"),
        _ => failure.into(),
    }
}

impl<T> std::fmt::Debug for ReadFile<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadFile").field("path", &Shown::path(&self.path)).finish_non_exhaustive()
    }
}

/// The members of a file, or of one of its members.
pub(super) struct File<'a> {
    /// What it is, and the way to these members: `the client file: installed.`.
    what: &'a str,
    path: &'a str,
    members: Cow<'a, Map<String, Value>>,
}

impl Drop for File<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(members) = &mut self.members {
            members.values_mut().for_each(crate::secret::wipe_json);
        }
    }
}

impl<'a> File<'a> {
    pub(super) fn parse(what: &'a str, json: &[u8]) -> Result<Self, Error> {
        if json.len() > MAX {
            return Err(Error::config(format!("{what} is larger than 64 KiB")));
        }
        if json.trim_ascii().is_empty() {
            return Err(Error::config(format!("{what} is no JSON object: it is empty")));
        }
        let text = match utf16(json) {
            Some(Ok(text)) => Some(text),
            Some(Err(())) => return Err(Error::config(format!("{what} is broken UTF-16: save it as UTF-8"))),
            None => None,
        };
        let object = json::object(text.as_ref().map_or(json, |text| text.as_bytes())).map_err(|e| {
            let (line, column, slip) = (e.line(), e.column(), content_slip(json));
            Error::config(format!("{what} is no JSON object (line {line}, column {column}){slip}"))
        })?;
        Ok(Self { what, path: "", members: Cow::Owned(object.members) })
    }

    /// The members of a member. `path` is its name and a dot.
    pub(super) fn inner<'b>(&'b self, name: &str, path: &'b str) -> Option<Result<File<'b>, Error>> {
        Some(match self.members.get(name)? {
            Value::Object(members) => Ok(File { what: self.what, path, members: Cow::Borrowed(members) }),
            _ => Err(self.wrong(name, "is no object")),
        })
    }

    pub(super) fn wrong(&self, name: &str, why: &str) -> Error {
        Error::config(format!("{}: `{}{name}` {why}", self.what, self.path))
    }

    /// The names of all members.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// A text that need not be there; an empty one counts as missing, and blanks around it, as of pasting, are no
    /// part of it.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.wrong(name, "is no text")),
        }
    }

    pub(super) fn need(&self, name: &str) -> Result<&str, Error> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "is missing or empty"))
    }

    /// The project to charge, which goes into a header.
    pub(super) fn quota_project(&self) -> Result<Option<String>, Error> {
        let project = self.text("quota_project_id")?;
        check_quota_project(project).map_err(|_| self.wrong("quota_project_id", "fits in no header"))?;
        Ok(project.map(str::to_owned))
    }

    /// The universe. Only a file that is trusted with secrets may name another one than Google's own, where its servers
    /// are.
    pub(super) fn universe_domain(&self, trust: Trust) -> Result<&str, Error> {
        match self.text("universe_domain")? {
            None | Some(DEFAULT_UNIVERSE) => Ok(DEFAULT_UNIVERSE),
            Some(_) if trust < Trust::Server => {
                let why = "is not googleapis.com; only a file that you trust may name another (`with_any_server`)";
                Err(self.wrong("universe_domain", why))
            }
            Some(domain) if is_domain(domain) => Ok(domain),
            Some(_) => Err(self.wrong("universe_domain", "is no domain")),
        }
    }

    /// Scopes as a list or as one text.
    pub(super) fn scopes(&self, name: &str) -> Result<Scopes, Error> {
        match self.get(name) {
            None => Ok(Scopes::default()),
            Some(Value::String(text)) => Ok(Scopes::from(text.as_str())),
            Some(_) => Ok(self.texts(name)?.into_iter().collect()),
        }
    }

    /// A list of texts; empty if it is not there.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Error> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list
                .iter()
                .map(|text| text.as_str().map(|text| text.trim().to_owned()))
                .collect::<Option<_>>()
                .ok_or_else(|| self.wrong(name, "holds something that is no text")),
            Some(_) => Err(self.wrong(name, "is no list")),
        }
    }

    /// An endpoint, which must be Google's own unless any server will do: the author of the file says
    /// where secrets go.
    pub(super) fn endpoint(&self, name: &str, trust: Trust) -> Result<Option<Endpoint>, Error> {
        let Some(address) = self.text(name)? else { return Ok(None) };
        if trust < Trust::Server && !is_google(name, address) {
            return Err(self.wrong(name, "does not lead to Google; only a file that you trust may name another server"));
        }
        Endpoint::new(address).map(Some).map_err(|e| self.wrong(name, "cannot be used").with_source(e))
    }

    /// The server of `token_uri`: Google, unless any server will do.
    pub(super) fn token_server(&self, trust: Trust) -> Result<ServerMetadata, Error> {
        match self.endpoint("token_uri", trust)? {
            None => Ok(ServerMetadata::google()),
            Some(endpoint) if is_google("token_uri", endpoint.as_str()) => {
                ServerMetadata::google().token_endpoint(endpoint.as_str())
            }
            Some(endpoint) => {
                ServerMetadata::new(Issuer::of_origin(endpoint.as_str())?).token_endpoint(endpoint.as_str())
            }
        }
    }

    /// Demands that the file says it is of this type.
    /// Refuses an OAuth client, which has no type, for where a credential of a type is needed.
    pub(super) fn is_no_client(&self, needed: &str) -> Result<(), Error> {
        if self.get("installed").or(self.get("web")).is_none() {
            return Ok(());
        }
        let why = "is missing: this is an OAuth client, which a user must sign in with first";
        Err(self.wrong("type", &format!("{why}; {needed} is needed")))
    }

    pub(super) fn demand_type(&self, expected: &str) -> Result<(), Error> {
        self.is_no_client(&format!("the file of type {expected}"))?;
        match self.need("type")? {
            found if found == expected => Ok(()),
            found => {
                let found = Shown::name(found);
                Err(self.wrong("type", &format!("is {found}, and {expected} is needed")))
            }
        }
    }
}

/// Whether an address is the one that Google's files have in this member.
pub(super) fn is_google(name: &str, address: &str) -> bool {
    let known: &[&str] = if name == "auth_uri" { &GOOGLE_AUTHORIZATION } else { &GOOGLE_TOKEN };
    Endpoint::new(address).is_ok_and(|endpoint| known.contains(&endpoint.as_str()))
}

/// The text of a file in UTF-16, as PowerShell writes it: by its byte order mark, or by the zero in its first
/// character, which in JSON is ASCII.
fn utf16(bytes: &[u8]) -> Option<Result<Zeroizing<String>, ()>> {
    let (unit, rest): (fn([u8; 2]) -> u16, _) = match bytes {
        [0xff, 0xfe, rest @ ..] => (u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => (u16::from_be_bytes, rest),
        [first, 0, ..] if *first != 0 => (u16::from_le_bytes, bytes),
        [0, second, ..] if *second != 0 => (u16::from_be_bytes, bytes),
        _ => return None,
    };
    let (pairs, left) = rest.as_chunks::<2>();
    if !left.is_empty() {
        return Some(Err(()));
    }
    let mut text = Zeroizing::new(String::with_capacity(rest.len().saturating_mul(2)));
    for unit in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        match unit {
            Ok(c) => text.push(c),
            Err(_) => return Some(Err(())),
        }
    }
    Some(Ok(text))
}
