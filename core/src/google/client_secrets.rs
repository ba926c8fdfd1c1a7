//! The client file that Google's console gives out: `client_secret_<client id>.json`.

use std::path::PathBuf;

use super::file::{File, ReadFile, is_google};
use super::hosts::Trust;
use crate::server::Issuer;
use crate::{Client, ClientAuthentication, Error, ServerMetadata};

/// The content of a client file: the client, and the server that it is registered at.
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
#[derive(Clone)]
pub struct ClientSecrets {
    kind: ClientKind,
    client: Client,
    server: ServerMetadata,
    redirect_uris: Vec<String>,
    project_id: Option<String>,
}

/// The kind of application that a client is registered for.
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
    /// Of kind [`ErrorKind::Config`](crate::ErrorKind::Config), with the name of the member that is missing or
    /// wrong.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse(json.as_ref(), Trust::Nothing)
    }

    /// Reads a file's content, and accepts any server in it. Only for files that you wrote yourself: such a server is
    /// sent the client's secret and the user's codes.
    pub fn from_json_with_any_server(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        Self::parse(json.as_ref(), Trust::Server)
    }

    /// The machine that reads the file at this path, by the rules of [`from_json`](Self::from_json).
    pub fn read(path: impl Into<PathBuf>) -> ReadFile<Self> {
        ReadFile::new(path, Self::parse)
    }

    fn parse(json: &[u8], trust: Trust) -> Result<Self, Error> {
        let file = File::parse("the client file", json)?;
        let web = file.inner("web", "web.").map(|inner| (inner, ClientKind::Web));
        let found = web.or_else(|| file.inner("installed", "installed.").map(|inner| (inner, ClientKind::Installed)));
        let Some((inner, kind)) = found else {
            return Err(Error::config(match file.text("type")? {
                Some("service_account") => "the client file is the key of a service account; an OAuth client is needed",
                Some(_) => "the client file holds other credentials; an OAuth client is needed",
                None => "the client file has neither `installed` nor `web`",
            }));
        };
        let inner = inner?;
        let client = Client::new(inner.need("client_id")?);
        let client = match (inner.text("client_secret")?, kind) {
            (Some(secret), _) => client.authentication(ClientAuthentication::client_secret_post(secret)),
            // Clients for phones have none.
            (None, ClientKind::Installed) => client,
            (None, ClientKind::Web) => return Err(inner.wrong("client_secret", "is missing or empty")),
        };
        let (auth_uri, token_uri) = (inner.need("auth_uri")?, inner.need("token_uri")?);
        for name in ["auth_uri", "token_uri"] {
            inner.endpoint(name, trust)?;
        }
        Ok(Self {
            kind,
            client,
            server: server(auth_uri, token_uri)?,
            redirect_uris: inner.texts("redirect_uris")?,
            project_id: inner.text("project_id")?.map(str::to_owned),
        })
    }

    /// The kind of application that the client is registered for.
    pub fn kind(&self) -> ClientKind {
        self.kind
    }

    /// The client, with its secret if it has one.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The server that the client is registered at.
    pub fn server(&self) -> &ServerMetadata {
        &self.server
    }

    /// The registered redirect URIs. An installed application may use others on loopback.
    pub fn redirect_uris(&self) -> &[String] {
        &self.redirect_uris
    }

    /// The Google Cloud project that the client belongs to.
    pub fn project_id(&self) -> Option<&str> {
        self.project_id.as_deref()
    }
}

/// Google's metadata with the file's endpoints, or a server of its own by the host of its `auth_uri`.
fn server(auth_uri: &str, token_uri: &str) -> Result<ServerMetadata, Error> {
    let server = if is_google("auth_uri", auth_uri) && is_google("token_uri", token_uri) {
        ServerMetadata::google()
    } else {
        ServerMetadata::new(Issuer::of_origin(auth_uri)?)
    };
    server.authorization_endpoint(auth_uri)?.token_endpoint(token_uri)
}

impl std::fmt::Debug for ClientSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientSecrets")
            .field("kind", &self.kind)
            .field("client", &self.client)
            .field("server", &self.server)
            .field("project_id", &self.project_id.as_deref().map(crate::Shown::name))
            .finish_non_exhaustive()
    }
}
