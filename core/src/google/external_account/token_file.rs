//! Subject tokens from a file or an address (AIP-4117), read anew each time that one is wanted.
//!
//! ```text
//! Begin ─▶ ReadFile, or Http ─▶ done: the token in it
//! ```

use std::fmt;
use std::path::PathBuf;

use super::subject::{SubjectToken, SubjectTokenContext, SubjectTokenMachine, SubjectTokens};
use crate::exchange::Request;
use crate::google::file::{self, File};
use crate::machine::ask;
use crate::server::Endpoint;
use crate::shown::without_query;
use crate::{Cx, Effect, Error, ErrorKind, Exchange, Machine, Reply, Secret, Shown, Step, json};

/// The most bytes of a file, and of an answer.
const MAX: usize = file::MAX;

/// How a subject token lies in a file or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Format {
    /// As all of it, but for blanks and line ends around it.
    Text,
    /// In the member of this name of a JSON object.
    Json(Box<str>),
}

impl Format {
    fn parse(source: &File<'_>) -> Result<Self, Error> {
        let Some(format) = source.inner("format", "credential_source.format.").transpose()? else {
            return Ok(Self::Text);
        };
        match format.text("type")? {
            None | Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json(format.need("subject_token_field_name")?.into())),
            Some(_) => Err(format.wrong("type", "is neither text nor json")),
        }
    }

    fn read(&self, content: &[u8]) -> Result<SubjectToken, Error> {
        let wrong = |why: String| Error::new(ErrorKind::InvalidResponse, why);
        match self {
            Self::Text => match std::str::from_utf8(content).map(|text| text.trim_start_matches('\u{feff}').trim()) {
                Ok("") => Err(wrong("there is no subject token: it is empty".into())),
                Ok(text) => Ok(SubjectToken::new(text)),
                Err(_) => Err(wrong("there is no subject token: it is no text".into())),
            },
            Self::Json(name) => {
                let object = json::object(content);
                let mut members = object
                    .map_err(|e| wrong(format!("there is no JSON object (line {}, column {})", e.line(), e.column())))?
                    .members;
                let token = members.get(&**name).and_then(|value| value.as_str()).map(str::trim);
                let token = token.filter(|text| !text.is_empty()).map(SubjectToken::new);
                members.values_mut().for_each(crate::secret::wipe_json);
                token.ok_or_else(|| wrong(format!("the JSON object has no text `{}`", Shown::name(name))))
            }
        }
    }
}

/// A subject token in a file, such as the projected token of a service account of Kubernetes.
#[derive(Clone, Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    format: Format,
}

impl TokenFile {
    pub(super) fn parse(source: &File<'_>) -> Result<Self, Error> {
        Ok(Self { path: source.need("file")?.into(), format: Format::parse(source)? })
    }
}

impl SubjectTokens for TokenFile {
    fn subject_token(&self, _: &SubjectTokenContext<'_>) -> SubjectTokenMachine {
        Box::new(Reading { source: self.clone(), stage: Stage::Begin })
    }
}

struct Reading {
    source: TokenFile,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Begin,
    Asked,
    Ended,
}

impl Machine for Reading {
    type Output = SubjectToken;

    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<SubjectToken> {
        let path = &self.source.path;
        let result = match (std::mem::replace(&mut self.stage, Stage::Ended), reply) {
            (Stage::Begin, Reply::Start) => {
                self.stage = Stage::Asked;
                return Step::Do(Effect::ReadFile { path: path.clone(), max: MAX });
            }
            (Stage::Asked, Reply::File(content)) => {
                let content = zeroize::Zeroizing::new(content);
                self.source.format.read(&content)
            }
            (Stage::Asked, Reply::Missing) => Err(file::missing(path)),
            (Stage::Asked, Reply::Failed(failure)) => Err(file::unreadable(failure)),
            (Stage::Asked, Reply::Refused) => Err(Error::refused("ReadFile")),
            _ => return Step::Done(Err(Error::misuse("a file's subject token"))),
        };
        Step::Done(result.map_err(|error| error.within(Shown::path(path)).during("reading the subject token", None)))
    }
}

/// A subject token that an address gives, such as that of Azure's metadata or of GitHub Actions.
#[derive(Clone)]
pub(super) struct TokenUrl {
    endpoint: Endpoint,
    headers: Vec<(Box<str>, Secret)>,
    format: Format,
}

impl TokenUrl {
    pub(super) fn parse(source: &File<'_>) -> Result<Self, Error> {
        let address = source.need("url")?;
        let endpoint = if is_link_local(address) { Endpoint::metadata_server } else { Endpoint::new };
        let endpoint = endpoint(address).map_err(|error| source.wrong("url", "cannot be used").with_source(error))?;
        let headers = match source.inner("headers", "credential_source.headers.").transpose()? {
            None => Vec::new(),
            Some(headers) => headers
                .names()
                .map(|name| Ok((name.into(), Secret::from(headers.text(name)?.unwrap_or_default()))))
                .collect::<Result<_, Error>>()?,
        };
        Ok(Self { endpoint, headers, format: Format::parse(source)? })
    }
}

/// Whether it is the cleartext address of a machine's own metadata, to which no other machine answers.
fn is_link_local(address: &str) -> bool {
    let Some(rest) = address.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(ip) => return ip.split(']').next().is_some_and(|ip| ip.to_ascii_lowercase().starts_with("fd00:ec2::")),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_link_local())
}

impl SubjectTokens for TokenUrl {
    fn subject_token(&self, _: &SubjectTokenContext<'_>) -> SubjectTokenMachine {
        let request = Request::get("asking for the subject token", &self.endpoint).max_body(MAX);
        let request = self.headers.iter().fold(request, |request, (name, value)| request.secret_header(name, value));
        let format = self.format.clone();
        Box::new(Asking(Box::new(request.exchange(move |received| format.read(received.response.body())))))
    }
}

impl fmt::Debug for TokenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenUrl({}, {:?})", without_query(self.endpoint.as_str()), self.format)
    }
}

struct Asking(Box<Exchange<SubjectToken>>);

impl Machine for Asking {
    type Output = SubjectToken;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<SubjectToken> {
        Step::Done(ask!(&mut *self.0, cx, reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_token_is_read_with_blanks_around_it_or_out_of_a_member() {
        let json = Format::Json("access_token".into());
        for (format, content, token) in [
            (&Format::Text, &b"abc.def\n"[..], Some("abc.def")),
            (&Format::Text, b"\xef\xbb\xbf  abc\r\n", Some("abc")),
            (&Format::Text, b" \n", None),
            (&Format::Text, b"\xff\xfe", None),
            (&json, br#"{"access_token":"abc\n","other":1}"#, Some("abc")),
            (&json, br#"{"access_token":1}"#, None),
            (&json, br#"{"id_token":"abc"}"#, None),
            (&json, b"abc", None),
        ] {
            let read = format.read(content).ok();
            assert_eq!(read.as_ref().map(|it| it.token.expose()), token, "{format:?}");
        }
    }

    #[test]
    fn cleartext_is_for_a_machines_own_metadata() {
        for (address, link_local) in [
            ("http://169.254.169.254/metadata/identity/oauth2/token?x", true),
            ("http://169.254.170.2:80/v2", true),
            ("http://[fd00:ec2::254]/latest", true),
            ("http://169.254.169.254.evil.example/", false),
            ("http://169.254.169.254@evil.example/", false),
            ("http://10.0.0.1/", false),
            ("https://169.254.169.254/", false),
        ] {
            assert_eq!(is_link_local(address), link_local, "{address}");
        }
    }
}
