//! The arguments of `default_credentials`.

use grantflow::google::{DefaultCredentials, Found, scopes};
use grantflow::machine::Platform;
use grantflow::source::Want;

use super::Args;

/// What `default_credentials` is told.
#[derive(Debug)]
pub struct DefaultCredentialsArgs {
    scopes: Vec<String>,
    trace: bool,
    any_server: bool,
}

impl DefaultCredentialsArgs {
    /// What they mean.
    pub const HELP: &str = "\
Usage:
  default_credentials [--scope S] [--trace] [--any-server]
It looks at GOOGLE_APPLICATION_CREDENTIALS, at what `gcloud auth application-default login` wrote (CLOUDSDK_CONFIG
names another folder), and for the metadata server (GCE_METADATA_HOST names another host).
Options:
  --scope S     what the token is for; may be given several times; all of Google Cloud unless told
  --trace       show every place that was looked at
  --any-server  follow whatever server a credential file names; only for files that nobody else can write
  --help        this text";

    /// Reads them.
    ///
    /// # Errors
    ///
    /// If one lacks its value.
    pub fn parse(args: &mut Args) -> Result<Self, String> {
        let scopes = args.values("--scope")?;
        Ok(Self { scopes, trace: args.flag("--trace"), any_server: args.flag("--any-server") })
    }

    /// The search.
    pub fn search(&self, platform: Platform) -> DefaultCredentials {
        let search = DefaultCredentials::new(platform);
        if self.any_server { search.with_any_server() } else { search }
    }

    /// Says what was found, and where.
    pub fn tell(&self, found: &Found) {
        if self.trace {
            println!("Looked at:");
            found.looked.iter().for_each(|looked| println!("  {looked}"));
        }
        let place = found.looked.last().map_or("", |looked| &looked.place);
        println!("Found: {}, by {place}", found.credential.kind());
        println!("Project: {}", found.project_id.as_deref().unwrap_or("none is named"));
    }

    /// What the token is for.
    pub fn want(&self) -> Want {
        let all = scopes::CLOUD_PLATFORM.to_owned();
        Want::access_token(if self.scopes.is_empty() { all } else { self.scopes.join(" ") })
    }
}
