//! The arguments of `login`.

use std::path::PathBuf;

use grantflow::{Client, InstalledApp, Secret, ServerMetadata};

use super::{Args, client};

/// What `login` is told.
#[derive(Debug)]
pub struct LoginArgs {
    /// The client file from Google's console.
    pub client_secrets: Option<PathBuf>,
    /// Any server that publishes metadata.
    pub issuer: Option<String>,
    /// Where to keep what is granted.
    pub store: Option<PathBuf>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scopes: Vec<String>,
    no_browser: bool,
    paste: bool,
}

impl LoginArgs {
    /// What they mean.
    pub const HELP: &str = "\
Usage:
  login                                        at a pretend server on this machine, where a pretend person consents
  login --client-secrets FILE --scope S        at Google, with the client file from its console
  login --issuer URL --client-id ID [--client-secret S] [--scope S]
                                               at any server that publishes metadata
Options:
  --scope S    what to ask for; may be given several times
  --store DIR  keep what is granted there: the next time nobody is asked
  --no-browser print the URL only
  --paste      the browser is on another machine: take its last address from the terminal
  --help       this text";

    /// Reads them.
    ///
    /// # Errors
    ///
    /// If they do not fit together.
    pub fn parse(args: &mut Args) -> Result<Self, String> {
        let store = args.value("--store")?.map(Into::into);
        let pretend = args.is_empty();
        let parsed = Self {
            client_secrets: args.value("--client-secrets")?.map(Into::into),
            issuer: args.value("--issuer")?,
            store,
            client_id: args.value("--client-id")?,
            client_secret: args.value("--client-secret")?.map(Into::into),
            scopes: args.values("--scope")?,
            no_browser: args.flag("--no-browser"),
            paste: args.flag("--paste"),
        };
        match (&parsed.client_secrets, &parsed.issuer, &parsed.client_id) {
            (Some(_), None, None) if parsed.scopes.is_empty() => Err("Google needs a --scope, such as openid".into()),
            (Some(_), None, None) | (None, Some(_), Some(_)) => Ok(parsed),
            (None, None, None) if pretend => Ok(parsed),
            _ => Err("Give --client-secrets, or --issuer and --client-id, or none of these".into()),
        }
    }

    /// The application as it is to sign in.
    pub fn configure(&self, app: InstalledApp) -> InstalledApp {
        app.scopes(self.scopes.join(" ")).paste(self.paste).open_browser(!self.no_browser)
    }

    /// The client at this server.
    pub fn client(&self, server: &ServerMetadata) -> Client {
        client(server, self.client_id.as_deref().unwrap_or_default(), self.client_secret.as_ref())
    }
}
