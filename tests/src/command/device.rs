//! The arguments of `device`.

use grantflow::{Client, ClientAuthentication, Secret, ServerMetadata};

use super::{Args, client};

/// What `device` is told.
#[derive(Debug)]
pub struct DeviceArgs {
    /// Any server that publishes metadata; Google if there is none.
    pub issuer: Option<String>,
    /// Nothing: at a pretend server.
    pub client_id: Option<String>,
    /// What to ask for.
    pub scopes: Vec<String>,
    client_secret: Option<Secret>,
}

impl DeviceArgs {
    /// What they mean.
    pub const HELP: &str = "\
Usage:
  device                                       at a pretend server on this machine, with a pretend person
  device --google --client-id ID --client-secret S --scope S
                                               at Google, as a client of the kind TVs and Limited Input devices
  device --issuer URL --client-id ID [--client-secret S] [--scope S]
                                               at any server that publishes metadata
Options:
  --scope S    what to ask for; may be given several times
  --help       this text";

    /// Reads them.
    ///
    /// # Errors
    ///
    /// If they do not fit together.
    pub fn parse(args: &mut Args) -> Result<Self, String> {
        let (pretend, google) = (args.is_empty(), args.flag("--google"));
        let parsed = Self {
            issuer: args.value("--issuer")?,
            client_id: args.value("--client-id")?,
            client_secret: args.value("--client-secret")?.map(Into::into),
            scopes: args.values("--scope")?,
        };
        match (google, &parsed.issuer, &parsed.client_id) {
            (true, None, Some(_)) if parsed.client_secret.is_none() || parsed.scopes.is_empty() => {
                Err("Google needs --client-secret, and a --scope such as email".into())
            }
            (true, None, Some(_)) | (false, Some(_), Some(_)) => Ok(parsed),
            (false, None, None) if pretend => Ok(parsed),
            _ => Err("Give --client-id and either --google or --issuer, or nothing".into()),
        }
    }

    /// The client at this server. Google takes the secret of a device in the body.
    pub fn client(&self, server: &ServerMetadata) -> Client {
        let id = self.client_id.as_deref().unwrap_or_default();
        match &self.client_secret {
            Some(secret) if self.issuer.is_none() => {
                Client::new(id).authentication(ClientAuthentication::client_secret_post(secret.clone()))
            }
            secret => client(server, id, secret.as_ref()),
        }
    }
}
