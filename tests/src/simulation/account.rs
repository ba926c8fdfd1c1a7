//! The servers, one for each account: functions from a time and a request to an answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grantflow::exchange::{Received, Request as Form};
use grantflow::source::{Credential, GrantState, Mint, TokenSource, Want};
use grantflow::{Client, ClientAuthentication, Endpoint, Issuer, Rotation, ServerMetadata, Token};
use http::{Request, Response, StatusCode};
use url::form_urlencoded;

use super::life::Unclear;
use super::rng::Rng;

/// What kind of credential it is, and how its server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Client,
    /// Known by its issuer alone.
    DiscoveredClient,
    Password,
    /// Refresh tokens that are replaced at each use; whether that is known beforehand.
    Rotating {
        grace: Duration,
        known: bool,
        discovered: bool,
    },
    /// A refresh token that stays; whether that is known beforehand.
    Staying {
        known: bool,
    },
    /// Hands out the same token again until 5 minutes before its end, as Google's metadata server.
    Metadata,
}

impl Kind {
    pub(super) fn random(rng: &mut Rng) -> Self {
        let grace = Duration::from_secs(rng.pick(&[0, 30, 60]));
        match rng.below(10) {
            0 => Self::Client,
            1 => Self::DiscoveredClient,
            2 => Self::Password,
            3 => Self::Staying { known: true },
            4 => Self::Staying { known: false },
            5 => Self::Metadata,
            6 => Self::Rotating { grace, known: false, discovered: true },
            nth => Self::Rotating { grace, known: nth == 7, discovered: false },
        }
    }
}

#[derive(Debug)]
pub(super) struct Account {
    pub(super) name: usize,
    pub(super) kind: Kind,
    /// The life of its tokens in seconds, if it says so.
    pub(super) lifetime: Option<u64>,
    /// Whether the person took back what they allowed, or a refresh token was used twice.
    pub(super) revoked: bool,
    /// Whether its refresh token was given up as lost.
    pub(super) lost: bool,
    /// Whether it refuses refreshes as long as the last access token of the same want is good.
    pub(super) early: bool,
    /// Whether its refresh tokens were not replaced once.
    pub(super) stayed: bool,
    pub(super) refresh_tokens: BTreeMap<String, Refresh>,
    access_tokens: Vec<Access>,
    /// The last access token of each want.
    last: BTreeMap<String, String>,
    /// The metadata server's token of each scope.
    same: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct Refresh {
    replaced: Option<Duration>,
    /// How often it was sent so that it may have been used.
    pub(super) sent: u32,
    /// The uses of it whose fate nobody knows.
    pub(super) unclear: Option<Unclear>,
}

#[derive(Debug)]
struct Access {
    ends: Option<Duration>,
    revoked: bool,
}

impl Account {
    pub(super) fn new(name: usize, kind: Kind, lifetime: Option<u64>) -> Self {
        let mut account = Self {
            name,
            kind,
            lifetime,
            revoked: false,
            lost: false,
            early: false,
            stayed: false,
            last: BTreeMap::new(),
            refresh_tokens: BTreeMap::new(),
            access_tokens: Vec::new(),
            same: BTreeMap::new(),
        };
        account.new_refresh_token();
        account
    }

    /// What its owner was given when they signed in.
    pub(super) fn source(&self) -> Arc<dyn TokenSource> {
        let client = Client::new(format!("client-{}", self.name))
            .authentication(ClientAuthentication::client_secret_basic("s3cret"));
        let origin = format!("https://a{}.example", self.name);
        let issuer = Issuer::new(origin.as_str()).expect("an address");
        let token = format!("{origin}/token");
        let server = ServerMetadata::new(issuer.clone()).token_endpoint(&token).expect("an address");
        let first = format!("rt-{}-0", self.name);
        let knows = |rotation| server.clone().refresh_token_rotation(rotation);
        Arc::new(match self.kind {
            Kind::Client => Credential::client_credentials(server, &client),
            Kind::DiscoveredClient => Credential::client_credentials(issuer, &client),
            Kind::Password => Credential::password(server, &client, "alice", "wonderland"),
            Kind::Rotating { discovered: true, .. } => Credential::refresh_token(issuer, &client, first),
            Kind::Rotating { known: true, .. } => Credential::refresh_token(knows(Rotation::Rotates), &client, first),
            Kind::Staying { known: true } => Credential::refresh_token(knows(Rotation::Never), &client, first),
            Kind::Rotating { .. } | Kind::Staying { .. } => Credential::refresh_token(server, &client, first),
            Kind::Metadata => return Arc::new(MetadataServer(origin)),
        })
    }

    /// Takes a request at this true time.
    pub(super) fn answer(&mut self, at: Duration, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        if request.uri().path().contains("/.well-known/") {
            let origin = format!("https://a{}.example", self.name);
            let [authorize, token] = ["authorize", "token"].map(|path| format!("{origin}/{path}"));
            return json(
                200,
                format!(r#"{{"issuer":"{origin}","authorization_endpoint":"{authorize}","token_endpoint":"{token}"}}"#),
            );
        }
        let get = |name: &str| param(request, name).unwrap_or_default();
        let what = format!("{}-{}{}", get("scope").replace(' ', "+"), get("audience"), get("resource"));
        match self.kind {
            Kind::Client | Kind::DiscoveredClient => self.token(at, &what, None),
            Kind::Metadata => {
                let path = request.uri().path().trim_start_matches('/').to_owned();
                self.same_again(at, path)
            }
            _ if self.revoked => json(400, r#"{"error":"invalid_grant"}"#.into()),
            Kind::Password => self.token(at, &what, None),
            Kind::Staying { .. } | Kind::Rotating { .. } if self.early && self.is_good(at, &what) => {
                json(400, r#"{"error":"invalid_grant","error_description":"the access token is still good"}"#.into())
            }
            Kind::Staying { .. } => self.token(at, &what, None),
            Kind::Rotating { grace, .. } => self.rotate(at, grace, &get("refresh_token"), &what),
        }
    }

    fn rotate(&mut self, at: Duration, grace: Duration, used: &str, what: &str) -> Response<Vec<u8>> {
        let record = self.refresh_tokens.get_mut(used).expect("a refresh token of this account");
        if record.replaced.is_some_and(|replaced| at.saturating_sub(replaced) > grace || grace.is_zero()) {
            self.revoked = true;
            self.revoke_access_tokens();
            return json(400, r#"{"error":"invalid_grant","error_description":"used before"}"#.into());
        }
        record.replaced.get_or_insert(at);
        let next = self.new_refresh_token();
        self.token(at, what, Some(next))
    }

    fn token(&mut self, at: Duration, what: &str, refresh_token: Option<String>) -> Response<Vec<u8>> {
        let token = self.new_access_token(at, what);
        let life = self.lifetime.map(|life| format!(r#","expires_in":{life}"#)).unwrap_or_default();
        let refresh = refresh_token.map(|token| format!(r#","refresh_token":"{token}""#)).unwrap_or_default();
        json(200, format!(r#"{{"access_token":"{token}","token_type":"Bearer"{life}{refresh}}}"#))
    }

    fn same_again(&mut self, at: Duration, what: String) -> Response<Vec<u8>> {
        let early = Duration::from_secs(300);
        let left = |account: &Self, token: &str| {
            let access = account.access(token).filter(|access| !access.revoked)?;
            access.ends?.checked_sub(at)
        };
        let token = match self.same.get(&what) {
            Some(token) if left(self, token).is_some_and(|left| left > early) => token.clone(),
            _ => self.new_access_token(at, &what),
        };
        let left = left(self, &token).unwrap_or_default().as_secs();
        self.same.insert(what, token.clone());
        json(200, format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{left}}}"#))
    }

    fn new_access_token(&mut self, at: Duration, what: &str) -> String {
        let ends = self.lifetime.map(|life| at + Duration::from_secs(life));
        self.access_tokens.push(Access { ends, revoked: false });
        let token = format!("at-{}-{what}-{}", self.name, self.access_tokens.len() - 1);
        self.last.insert(what.to_owned(), token.clone());
        token
    }

    /// Whether the last access token of a want is good, and will end.
    fn is_good(&self, at: Duration, what: &str) -> bool {
        let last = self.last.get(what).and_then(|token| self.access(token));
        last.is_some_and(|last| !last.revoked && last.ends.is_some_and(|ends| at < ends))
    }

    fn new_refresh_token(&mut self) -> String {
        let token = format!("rt-{}-{}", self.name, self.refresh_tokens.len());
        self.refresh_tokens.insert(token.clone(), Refresh::default());
        token
    }

    pub(super) fn refresh_token(&mut self, token: &str) -> Option<&mut Refresh> {
        self.refresh_tokens.get_mut(token)
    }

    /// Whether this refresh token would bring another access token.
    pub(super) fn is_alive(&self, token: &str, at: Duration) -> bool {
        let Kind::Rotating { grace, .. } = self.kind else { return !self.revoked };
        let replaced = self.refresh_tokens.get(token).map(|record| record.replaced);
        !self.revoked
            && replaced.is_some_and(|at_| at_.is_none_or(|at_| !grace.is_zero() && at.saturating_sub(at_) <= grace))
    }

    fn access(&self, token: &str) -> Option<&Access> {
        let (_, nth) = token.rsplit_once('-')?;
        self.access_tokens.get(nth.parse::<usize>().ok()?)
    }

    /// Whether a resource takes this access token.
    pub(super) fn accepts(&self, token: &str, at: Duration) -> bool {
        self.access(token).is_some_and(|access| !access.revoked && access.ends.is_none_or(|ends| at < ends))
    }

    pub(super) fn revoke_access_tokens(&mut self) {
        self.access_tokens.iter_mut().for_each(|access| access.revoked = true);
    }
}

/// What every access token of this account and want begins with.
pub(super) fn prefix(account: usize, want: &Want) -> String {
    format!("at-{account}-{}-", what(want))
}

fn what(want: &Want) -> String {
    let scopes = want.scopes().as_str().replace(' ', "+");
    let [audience, resource] = [want.wanted_audience(), want.wanted_resources().next()].map(Option::unwrap_or_default);
    format!("{scopes}-{audience}{resource}")
}

pub(super) fn param(request: &Request<Vec<u8>>, name: &str) -> Option<String> {
    form_urlencoded::parse(request.body()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub(super) fn json(status: u16, body: String) -> Response<Vec<u8>> {
    let mut response = Response::new(body.into_bytes());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

/// A source that hands out the same token again until shortly before its end.
struct MetadataServer(String);

impl TokenSource for MetadataServer {
    fn mint(&self, want: &Want, _: &GrantState) -> Mint {
        let endpoint = Endpoint::new(&format!("{}/{}", self.0, what(want))).expect("an address");
        Box::new(Form::get("asking the metadata server", &endpoint).exchange(read))
    }
}

fn read(received: Received<'_>) -> Result<Token, grantflow::Error> {
    let invalid = || grantflow::Error::new(grantflow::ErrorKind::InvalidResponse, "no token");
    let body: serde_json::Value = serde_json::from_slice(received.response.body()).map_err(|_| invalid())?;
    let token = body["access_token"].as_str().ok_or_else(invalid)?;
    let left = body["expires_in"].as_u64().ok_or_else(invalid)?;
    let end = received.sent + Duration::from_secs(left);
    let token = Token::bearer(token, received.sent, Some(end))?;
    Ok(token.with_refresh_after(end - Duration::from_secs(300)))
}
