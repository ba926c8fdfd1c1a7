//! The metadata server of Google Cloud: tokens of the service account that a machine runs as.

use std::sync::Arc;
use std::time::Duration;

use http::Response;

use super::{bearer_jwt, check_quota_project, quota_header};
use crate::exchange::{Received, Request, push_encoded};
use crate::machine::ask;
use crate::server::Endpoint;
use crate::source::{GrantState, Mint, Minting, TokenSource, Want, WantKind, cannot};
use crate::token::Asked;
use crate::{Cx, Deviations, Error, ErrorKind, Exchange, Machine, Reply, Step, Token};

/// Where it answers on every machine of Google Cloud.
const HOST: &str = "metadata.google.internal";
/// It hands out the same token until less than this is left (4 minutes on Cloud Run, 5 on Compute Engine);
/// asked sooner, it would be asked in vain.
const CACHED: Duration = Duration::from_secs(225);
/// The most bytes of one of its answers.
const MAX_BODY: usize = 64 * 1024;

/// The service account that a machine on Google Cloud runs as: Compute Engine, Kubernetes Engine, Cloud Run,
/// Functions, App Engine.
///
/// The machine determines the scopes; Cloud Run and Kubernetes Engine heed those of the want. [`Want::account`] names
/// another account that is attached to the machine.
#[derive(Clone)]
pub struct MetadataServer {
    host: Arc<str>,
    quota_project: Option<String>,
}

impl Default for MetadataServer {
    fn default() -> Self {
        Self { host: HOST.into(), quota_project: None }
    }
}

impl MetadataServer {
    /// The metadata server of this machine.
    pub fn new() -> Self {
        Self::default()
    }

    /// The metadata server at another host, with a port or without one (`GCE_METADATA_HOST`). Requests to it are in
    /// cleartext: name only a host that is this machine's own.
    pub fn host(mut self, host: &str) -> Result<Self, Error> {
        if host.contains('/') {
            return Err(Error::config("the metadata server's host is no host, with a port or without"));
        }
        Endpoint::metadata_server(&format!("http://{host}/"))?;
        self.host = host.into();
        Ok(self)
    }

    /// Charges quota to this project, by the header `x-goog-user-project`.
    pub fn quota_project(mut self, project: &str) -> Self {
        self.quota_project = Some(project.to_owned());
        self
    }

    /// The machine that reads the address of the default account.
    pub fn email(&self) -> Result<Exchange<String>, Error> {
        self.text("instance/service-accounts/default/email")
    }

    /// The machine that reads the scopes of the default account.
    pub fn scopes(&self) -> Result<Exchange<crate::Scopes>, Error> {
        Ok(self
            .get("instance/service-accounts/default/scopes", &[])?
            .exchange(|received| Ok(text(received)?.lines().collect())))
    }

    /// The machine that reads the project that this machine belongs to.
    pub fn project_id(&self) -> Result<Exchange<String>, Error> {
        self.text("project/project-id")
    }

    /// The machine that reads the universe that this machine belongs to; `googleapis.com` if the server knows of no
    /// other.
    pub fn universe_domain(&self) -> Result<Exchange<String>, Error> {
        let request = self.get("universe/universe-domain", &[])?;
        let exchange = request.exchange(|received| {
            let domain = text(received)?;
            Ok(if domain.is_empty() { super::DEFAULT_UNIVERSE.to_owned() } else { domain })
        });
        Ok(exchange
            .rescue(|error| if is_not_there(&error) { Ok(super::DEFAULT_UNIVERSE.to_owned()) } else { Err(error) }))
    }

    fn text(&self, path: &str) -> Result<Exchange<String>, Error> {
        Ok(self.get(path, &[])?.exchange(text))
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Request, Error> {
        let mut address = format!("http://{}/computeMetadata/v1/{path}", self.host);
        for (nth, (name, value)) in query.iter().enumerate() {
            address.push(if nth == 0 { '?' } else { '&' });
            address.push_str(name);
            address.push('=');
            push_encoded(&mut address, value);
        }
        let endpoint = Endpoint::metadata_server(&address)?;
        Ok(request("asking the metadata server", &endpoint))
    }

    fn exchange(&self, want: &Want) -> Result<Exchange<Token>, Error> {
        if want.wanted_subject().is_some() || want.names_resources() {
            return Err(cannot("is the machine's own account, without subject or resource"));
        }
        check_quota_project(self.quota_project.as_deref())?;
        let account = want.wanted_account().unwrap_or("default");
        if !account.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@.-_".contains(&byte)) {
            return Err(Error::config("the account is no e-mail address"));
        }
        let path = |what| format!("instance/service-accounts/{account}/{what}");
        let scopes = want.scopes();
        scopes.check()?;
        let exchange = match (want.kind(), want.wanted_audience()) {
            (WantKind::IdToken, Some(audience)) if scopes.is_empty() => {
                let query = [("audience", audience), ("format", "full")];
                self.get(&path("identity"), &query)?.exchange(|received| {
                    let jwt = text(received)?;
                    bearer_jwt(&jwt, received.sent)
                })
            }
            (WantKind::IdToken, _) => return Err(cannot("needs an audience and no scopes for an ID token")),
            (WantKind::SelfSigned, _) => return Err(cannot("has no key here to sign with")),
            (_, Some(_)) => return Err(cannot("takes scopes for an access token, and no audience")),
            (_, None) => {
                let listed = scopes.iter().collect::<Vec<_>>().join(",");
                let query = [("scopes", &*listed)];
                let request = self.get(&path("token"), if listed.is_empty() { &[] } else { &query })?;
                let asked = Asked { scopes, tolerated: Deviations::TOLERATED, ..Asked::default() };
                request.exchange(move |received| asked.parse(received)?.outcome)
            }
        };
        Ok(exchange.rescue(|error| {
            Err(if is_not_there(&error) {
                Error::config("the metadata server knows no such service account: attach one to this machine")
                    .with_status(404)
            } else {
                error
            })
        }))
    }
}

fn request(doing: &'static str, endpoint: &Endpoint) -> Request {
    Request::get(doing, endpoint).max_body(MAX_BODY).header("metadata-flavor", "Google").genuine(check_genuine)
}

/// Refuses what a proxy or a captive portal answers in the metadata server's stead.
fn check_genuine(response: &Response<Vec<u8>>) -> Result<(), Error> {
    let flavor = response.headers().get("metadata-flavor");
    if flavor.is_some_and(|flavor| flavor.as_bytes().eq_ignore_ascii_case(b"Google")) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidResponse,
        "the answer does not come from the metadata server: it has no Metadata-Flavor: Google",
    ))
}

/// Whether the metadata server itself says so.
fn is_not_there(error: &Error) -> bool {
    error.status() == Some(404) && error.kind() != ErrorKind::InvalidResponse
}

fn text(received: Received<'_>) -> Result<String, Error> {
    let text = std::str::from_utf8(received.response.body());
    let text = text.map_err(|_| Error::new(ErrorKind::InvalidResponse, "the answer is no text"))?;
    Ok(text.trim().to_owned())
}

/// A machine that asks whether the metadata server is there: one request within this time, and no harm if
/// nobody answers.
pub(super) fn ping(host: &str, time: Duration) -> Result<Exchange<()>, Error> {
    let endpoint = Endpoint::metadata_server(&format!("http://{host}/"))?;
    Ok(request("looking for the metadata server", &endpoint).exchange(|_| Ok(())).total_time(time))
}

impl TokenSource for MetadataServer {
    fn mint(&self, want: &Want, _: &GrantState) -> Mint {
        let dated = want.kind() == WantKind::AccessToken;
        Box::new(MetadataMint { exchange: self.exchange(want), dated })
    }

    fn request_headers(&self) -> http::HeaderMap {
        quota_header(self.quota_project.as_deref())
    }
}

/// Mints by one request.
struct MetadataMint {
    exchange: Result<Exchange<Token>, Error>,
    /// Whether the token is one that the server keeps until shortly before its end.
    dated: bool,
}

impl Machine for MetadataMint {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        let exchange = match &mut self.exchange {
            Ok(exchange) => exchange,
            Err(error) => return Step::Done(Err(std::mem::replace(error, Error::misuse("a mint")))),
        };
        let result = ask!(exchange, cx, reply);
        Step::Done(result.map(|token| match token.expires_at() {
            Some(end) if self.dated => token.with_refresh_after(end - CACHED),
            _ => token,
        }))
    }
}

impl Minting for MetadataMint {}

impl std::fmt::Debug for MetadataServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetadataServer")
            .field("host", &crate::Shown::name(&self.host))
            .field("quota_project", &self.quota_project.as_deref().map(crate::Shown::name))
            .finish_non_exhaustive()
    }
}
