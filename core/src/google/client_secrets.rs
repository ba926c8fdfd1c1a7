//! The client file that Google's console gives out: `client_secret_<client id>.json`.

use std::path::PathBuf;

use serde_json::{Map, Value};
use url::Url;

use crate::machine::{Effect, Machine, Reply, Step};
use crate::server::Issuer;
use crate::{Client, ClientAuthentication, Cx, Error, ErrorKind, ServerMetadata};

/// The most bytes of a client file.
const MAX_FILE: usize = 64 * 1024;
/// The hosts that Google's own client files name.
const GOOGLE: [&str; 3] = ["accounts.google.com", "oauth2.googleapis.com", "www.googleapis.com"];

/// What a client file says: who the client is, and which server it belongs to.
///
/// ```
/// use grantflow::google::ClientSecrets;
///
/// let file = br#"{"installed": {
///     "client_id": "1234567890-demo.apps.googleusercontent.com",
///     "client_secret": "GOCSPX-demo_secret",
///     "auth_uri": "https://accounts.google.com/o/oauth2/auth",
///     "token_uri": "https://oauth2.googleapis.com/token",
///     "redirect_uris": ["http://localhost"]}}"#;
/// let secrets = ClientSecrets::from_json(file)?;
/// assert_eq!(secrets.client().id(), "1234567890-demo.apps.googleusercontent.com");
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClientSecrets {
    kind: ClientKind,
    client: Client,
    server: ServerMetadata,
    redirect_uris: Vec<String>,
    project_id: Option<String>,
}

/// For which kind of application a client is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// `installed`: a desktop application, which may use any loopback port.
    Installed,
    /// `web`: a web application, whose redirect URIs are fixed, port and slash included.
    Web,
}

impl ClientSecrets {
    /// Reads a file's content. Its endpoints must be Google's own.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`], with the name of the member that is missing or wrong.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse(json.as_ref(), false)
    }

    /// Reads a file's content, whatever server it names. Only for files that you wrote yourself: such
    /// a server is sent the client's secret and the user's codes.
    pub fn from_json_with_any_server(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse(json.as_ref(), true)
    }

    /// A machine that reads the file at this path, by the rules of [`from_json`](Self::from_json).
    pub fn read(path: impl Into<PathBuf>) -> ReadClientSecrets {
        ReadClientSecrets { path: path.into(), asked: false, any_server: false }
    }

    fn parse(json: &[u8], any_server: bool) -> Result<Self, Error> {
        let wrong = |why: &str| Error::config(format!("the client file: {why}"));
        if json.len() > MAX_FILE {
            return Err(wrong("it is larger than 64 KiB"));
        }
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        let members: Map<String, Value> = serde_json::from_slice(json)
            .map_err(|e| wrong(&format!("it is no JSON object (line {}, column {})", e.line(), e.column())))?;
        let found = [("web", ClientKind::Web), ("installed", ClientKind::Installed)]
            .into_iter()
            .find_map(|(name, kind)| Some((name, kind, members.get(name)?)));
        let Some((name, kind, value)) = found else {
            return Err(wrong(match members.get("type").and_then(Value::as_str) {
                Some("service_account") => "it is the key of a service account; an OAuth client is needed",
                Some(_) => "it holds other credentials; an OAuth client is needed",
                None => "it has neither `installed` nor `web`",
            }));
        };
        let text = |member: &str| match value.get(member) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
            Some(_) => Err(wrong(&format!("`{name}.{member}` is no text, or empty"))),
        };
        let need = |member: &str| text(member)?.ok_or_else(|| wrong(&format!("`{name}.{member}` is missing")));

        let client = Client::new(need("client_id")?);
        let client = match (text("client_secret")?, kind) {
            (Some(secret), _) => client.authentication(ClientAuthentication::client_secret_post(secret)),
            // Clients for phones have none (Google lists no other kinds without).
            (None, ClientKind::Installed) => client,
            (None, ClientKind::Web) => return Err(wrong("`web.client_secret` is missing")),
        };
        let (auth_uri, token_uri) = (need("auth_uri")?, need("token_uri")?);
        let server = server(auth_uri, token_uri, any_server)
            .map_err(|e| wrong(&format!("`{name}.auth_uri` or `{name}.token_uri`")).with_source(e))?;
        let redirect_uris = match value.get("redirect_uris") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => (list.iter().map(|uri| uri.as_str().map(str::to_owned)).collect::<Option<_>>())
                .ok_or_else(|| wrong(&format!("`{name}.redirect_uris` holds something that is no text")))?,
            Some(_) => return Err(wrong(&format!("`{name}.redirect_uris` is no list"))),
        };
        let project_id = text("project_id")?.map(str::to_owned);
        Ok(Self { kind, client, server, redirect_uris, project_id })
    }

    /// For which kind of application the client is.
    pub fn kind(&self) -> ClientKind {
        self.kind
    }

    /// The client, with its secret if it has one.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The server it is registered at.
    pub fn server(&self) -> &ServerMetadata {
        &self.server
    }

    /// The registered redirect URIs. An installed application may use others on loopback.
    pub fn redirect_uris(&self) -> &[String] {
        &self.redirect_uris
    }

    /// The Google Cloud project it belongs to.
    pub fn project_id(&self) -> Option<&str> {
        self.project_id.as_deref()
    }
}

/// Google's metadata with the file's endpoints, or a server of its own by the host of its `auth_uri`.
fn server(auth_uri: &str, token_uri: &str, any_server: bool) -> Result<ServerMetadata, Error> {
    let host = |uri: &str| Url::parse(uri).ok().and_then(|url| url.host_str().map(str::to_owned));
    let hosts = [host(auth_uri), host(token_uri)];
    let google = hosts.iter().all(|host| host.as_deref().is_some_and(|host| GOOGLE.contains(&host)));
    let server = if google {
        ServerMetadata::google()
    } else if any_server {
        let url = Url::parse(auth_uri).map_err(|e| Error::config("it is no address").with_source(e))?;
        ServerMetadata::new(Issuer::new(url.origin().ascii_serialization())?)
    } else {
        return Err(Error::config("it does not lead to Google"));
    };
    server.authorization_endpoint(auth_uri)?.token_endpoint(token_uri)
}

/// Reads a client file.
///
/// ```text
/// ─Start─▶ ReadFile ─File─▶ parsed
/// ```
#[derive(Debug)]
pub struct ReadClientSecrets {
    path: PathBuf,
    asked: bool,
    any_server: bool,
}

impl ReadClientSecrets {
    /// Takes whatever server the file names: see [`ClientSecrets::from_json_with_any_server`].
    pub fn with_any_server(mut self) -> Self {
        self.any_server = true;
        self
    }
}

impl Machine for ReadClientSecrets {
    type Output = ClientSecrets;

    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<ClientSecrets> {
        if !std::mem::replace(&mut self.asked, true) {
            return match reply {
                Reply::Start => Step::Do(Effect::ReadFile { path: self.path.clone(), max: MAX_FILE }),
                _ => Step::Done(Err(Error::misuse("reading a client file"))),
            };
        }
        let here = |error: Error| Error::new(error.kind(), format!("{}", self.path.display())).with_source(error);
        Step::Done(match reply {
            Reply::File(content) => {
                let content = zeroize::Zeroizing::new(content);
                ClientSecrets::parse(&content, self.any_server).map_err(here)
            }
            Reply::Missing => Err(here(Error::new(ErrorKind::File, "there is no such file"))),
            Reply::Failed(failure) => Err(here(failure.into())),
            Reply::Refused => Err(Error::refused("ReadFile")),
            _ => Err(Error::misuse("reading a client file")),
        })
    }
}
