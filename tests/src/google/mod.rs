//! A pretend Google, a pure function: (state, time, request) to answer.
//!
//! It has a token endpoint, `tokeninfo`, revocation, `userinfo`, an API that lists models, and the metadata
//! server of the machine that the program runs on, or whatever stands in its place. It is strict, checks
//! assertions in the order that Google was seen to check them in, and says what Google says.

mod accounts;
mod assertion;
mod checks;
mod demo;
mod federation;
mod home;
mod metadata;
mod storage;
mod users;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::{Scopes, Timestamp};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::form_urlencoded;

pub use accounts::{Account, OAuthClient, User, UserTrouble};
pub use demo::*;
pub use federation::{AwsKey, Imds, Provider, Takes};
pub use home::{Environment, Home};
pub use metadata::{Local, Metadata};

use crate::front::Site;
use crate::server::{Answer, Fault, Wire};

/// How long an access token is good for, less the second that Google takes off.
const LIFE: Duration = Duration::from_secs(3599);

/// A part of Google, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `https://oauth2.googleapis.com/token`
    Token,
    /// `https://oauth2.googleapis.com/tokeninfo`
    TokenInfo,
    /// `https://oauth2.googleapis.com/revoke`
    Revoke,
    /// `https://openidconnect.googleapis.com/v1/userinfo`
    UserInfo,
    /// `https://generativelanguage.googleapis.com/v1beta/models`
    Models,
    /// `https://sts.googleapis.com/v1/token`, and its host for certificates.
    Sts,
    /// `https://sts.googleapis.com/v1/oauthtoken`
    Workforce,
    /// `https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/…`
    Iam,
    /// `https://storage.googleapis.com/bucket/…`
    Storage,
    /// `http://metadata.google.internal`, by any of its names.
    Metadata,
    /// `http://169.254.169.254/latest`, on an instance of AWS.
    Imds,
    /// Any other path.
    Elsewhere,
}

const PLACES: [(Place, &str, &str); 12] = [
    (Place::Token, "https://oauth2.googleapis.com", "/token"),
    (Place::TokenInfo, "https://oauth2.googleapis.com", "/tokeninfo"),
    (Place::Revoke, "https://oauth2.googleapis.com", "/revoke"),
    (Place::UserInfo, "https://openidconnect.googleapis.com", "/v1/userinfo"),
    (Place::Models, "https://generativelanguage.googleapis.com", "/v1beta/models"),
    (Place::Sts, "https://sts.googleapis.com", "/v1/token"),
    (Place::Sts, "https://sts.mtls.googleapis.com", "/v1/token"),
    (Place::Workforce, "https://sts.googleapis.com", "/v1/oauthtoken"),
    (Place::Iam, "https://iamcredentials.googleapis.com", "/v1/projects/-/serviceAccounts/"),
    (Place::Iam, "https://iamcredentials.googleapis.com", "/v1/projects/"),
    (Place::Iam, "https://iamcredentials.googleapis.com", "/v1/locations/"),
    (Place::Storage, "https://storage.googleapis.com", "/bucket/"),
];

const METADATA: [&str; 2] = ["http://metadata.google.internal", "http://169.254.169.254"];

/// Google: whom it knows, what it has handed out, and what it has seen.
#[derive(Debug)]
pub struct Google {
    /// Where everything was moved to, as behind a front.
    moved: Option<String>,
    /// What answers where a metadata server would.
    pub local: Local,
    /// An old `tokeninfo` names no `error`.
    pub old_tokeninfo: bool,
    /// Scopes that are known. Others are taken for the audience of an ID token.
    pub scopes: Scopes,
    /// Projects that whoever asks may charge.
    pub projects: Vec<String>,
    /// The providers of pools that STS knows.
    pub providers: Vec<Provider>,
    /// Who may act for which service account, by their addresses; a provider's is its audience.
    pub impersonators: Vec<(String, String)>,
    /// The user of a workforce: the client, its secret, and the refresh token that is good.
    pub workforce_user: Option<(String, String, String)>,
    /// The metadata of AWS, if that is where the program runs.
    pub imds: Option<Imds>,
    /// The regional access boundaries of service accounts and pools, by their names.
    pub boundaries: BTreeMap<String, String>,
    accounts: Vec<Account>,
    clients: Vec<OAuthClient>,
    users: Vec<User>,
    grants: Vec<Grant>,
    access: BTreeMap<String, Access>,
    id_tokens: BTreeMap<String, Timestamp>,
    kept: metadata::Kept,
    handed_out: u64,
    faults: VecDeque<(Place, Fault)>,
    seen: Vec<Seen>,
}

/// What a user allowed a client.
#[derive(Clone, Debug)]
struct Grant {
    refresh_token: String,
    client_id: String,
    user: String,
    scopes: Scopes,
    revoked: bool,
}

/// An access token that was handed out.
#[derive(Clone, Debug)]
struct Access {
    whose: Whose,
    scopes: Scopes,
    ends: Timestamp,
}

#[derive(Clone, Debug)]
enum Whose {
    /// A service account, by its address, and the user it acts for.
    Account(String, Option<String>),
    /// A user's grant, by its number.
    Grant(usize),
    /// Somebody whom a provider of a pool knows, by its audience.
    Federated(String),
}

impl Whose {
    /// By what name IAM knows them.
    fn name(&self, google: &Google) -> String {
        match self {
            Self::Account(email, _) => email.clone(),
            Self::Grant(number) => google.grants[*number].user.clone(),
            Self::Federated(audience) => audience.clone(),
        }
    }
}

/// A request as Google saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where it went.
    pub place: Place,
    /// When.
    pub at: Timestamp,
    /// All of it.
    pub request: Request<Vec<u8>>,
}

impl Seen {
    /// The form, as names and values.
    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(self.request.body()).into_owned().collect()
    }

    /// A parameter of the form.
    pub fn param(&self, name: &str) -> Option<String> {
        self.form().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

impl Google {
    /// A Google that knows nobody, and nothing where a metadata server would be.
    pub fn new() -> Self {
        Self {
            moved: None,
            local: Local::Nobody,
            old_tokeninfo: false,
            scopes: Scopes::default(),
            projects: Vec::new(),
            providers: Vec::new(),
            impersonators: Vec::new(),
            workforce_user: None,
            imds: None,
            boundaries: BTreeMap::new(),
            accounts: Vec::new(),
            clients: Vec::new(),
            users: Vec::new(),
            grants: Vec::new(),
            access: BTreeMap::new(),
            id_tokens: BTreeMap::new(),
            kept: metadata::Kept::default(),
            handed_out: 0,
            faults: VecDeque::new(),
            seen: Vec::new(),
        }
    }

    /// Adds a service account.
    pub fn account(mut self, account: Account) -> Self {
        self.accounts.push(account);
        self
    }

    /// Registers an OAuth client.
    pub fn client(mut self, client: OAuthClient) -> Self {
        self.clients.push(client);
        self
    }

    /// Adds a user.
    pub fn user(mut self, user: User) -> Self {
        self.users.push(user);
        self
    }

    /// Remembers that a user allowed a client something, and gave it this refresh token.
    pub fn grant(mut self, refresh_token: &str, client_id: &str, email: &str, scopes: impl Into<Scopes>) -> Self {
        self.grants.push(Grant {
            refresh_token: refresh_token.into(),
            client_id: client_id.into(),
            user: email.into(),
            scopes: scopes.into(),
            revoked: false,
        });
        self
    }

    /// Sets what answers where a metadata server would.
    pub fn local(mut self, local: Local) -> Self {
        self.local = local;
        self
    }

    /// A service account that it knows, to change.
    ///
    /// # Panics
    ///
    /// If there is none of this address.
    pub fn account_mut(&mut self, email: &str) -> &mut Account {
        self.accounts.iter_mut().find(|account| account.email == email).expect("an account of this address")
    }

    /// A user that it knows, to change.
    ///
    /// # Panics
    ///
    /// If there is none of this address.
    pub fn user_mut(&mut self, email: &str) -> &mut User {
        self.users.iter_mut().find(|user| user.email == email).expect("a user of this address")
    }

    /// A client that it knows, to change.
    ///
    /// # Panics
    ///
    /// If there is none of this id.
    pub fn client_mut(&mut self, id: &str) -> &mut OAuthClient {
        self.clients.iter_mut().find(|client| client.id == id).expect("a client of this id")
    }

    /// Lets something go wrong at the next request to this place. Called several times, several requests go
    /// wrong, one after another.
    pub fn fail(&mut self, place: Place, fault: Fault) {
        self.faults.push_back((place, fault));
    }

    /// How many tokens it has given.
    pub fn handed_out(&self) -> u64 {
        self.handed_out
    }

    /// Forgets every access token that it has given.
    pub fn end_access_tokens(&mut self) {
        self.access.clear();
    }

    /// Forgets what it has seen, and ID tokens: a long run needs neither.
    pub fn forget(&mut self) {
        self.seen.clear();
        self.id_tokens.clear();
    }

    /// Every request so far, in order.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// The requests to one place so far.
    pub fn seen_at(&self, place: Place) -> Vec<&Seen> {
        self.seen.iter().filter(|seen| seen.place == place).collect()
    }

    /// The address of a place.
    pub fn address(&self, place: Place) -> String {
        let known = PLACES.into_iter().find(|(other, ..)| *other == place);
        let (origin, path) = known.map_or((METADATA[0], "/"), |(_, origin, path)| (origin, path));
        format!("{}{path}", self.moved.as_deref().unwrap_or(origin))
    }

    /// Whether an address is Google's to answer.
    pub fn serves(&self, uri: &Uri) -> bool {
        let Some(origin) = origin(uri) else { return self.moved.is_some() };
        match &self.moved {
            Some(moved) => *moved == origin,
            None => METADATA.contains(&&*origin) || PLACES.iter().any(|(_, own, _)| *own == origin),
        }
    }

    fn place(&self, uri: &Uri) -> Place {
        let origin = origin(uri);
        if uri.path().starts_with("/latest/") && (self.moved.is_some() || origin.as_deref() == Some(METADATA[1])) {
            return Place::Imds;
        }
        if origin.as_deref().is_some_and(|origin| METADATA.contains(&origin))
            || (self.moved.is_some() && (uri.path() == "/" || uri.path().starts_with("/computeMetadata")))
        {
            return Place::Metadata;
        }
        let here = |own: &str| self.moved.is_some() || origin.as_deref() == Some(own);
        let at = |path: &str| uri.path() == path || (path.ends_with('/') && uri.path().starts_with(path));
        let found = PLACES.into_iter().find(|(_, own, path)| here(own) && at(path));
        found.map_or(Place::Elsewhere, |(place, ..)| place)
    }

    /// Takes a request and answers it, with whatever fault was asked for.
    pub fn answer(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Answer {
        let place = self.place(request.uri());
        self.seen.push(Seen { place, at: now, request: request.clone() });
        let fault = self.faults.iter().position(|(at, _)| *at == place).and_then(|nth| self.faults.remove(nth));
        let whole = |wire| Answer { delay: Duration::ZERO, wire };
        match fault.map(|(_, fault)| fault) {
            None => self.handle(place, now, request),
            Some(Fault::Answer(response)) => whole(Wire::Whole(response)),
            Some(Fault::Delay(time)) => Answer { delay: time, ..self.handle(place, now, request) },
            Some(Fault::DropBefore) => whole(Wire::Dropped),
            Some(Fault::DropAfter) => {
                self.handle(place, now, request);
                whole(Wire::Dropped)
            }
            Some(Fault::Endless) => whole(Wire::Endless),
            Some(fault) => match (self.handle(place, now, request).wire, fault) {
                (Wire::Whole(response), Fault::Truncate) => whole(Wire::Truncated(response)),
                (Wire::Whole(response), Fault::Drip(pause)) => whole(Wire::Dripping(response, pause)),
                (wire, _) => whole(wire),
            },
        }
    }

    fn handle(&mut self, place: Place, now: Timestamp, request: &Request<Vec<u8>>) -> Answer {
        let response = match place {
            Place::Token if request.method() == Method::POST => self.token(now, request).unwrap_or_else(respond),
            Place::Revoke if request.method() == Method::POST => self.revoke(now, request).unwrap_or_else(respond),
            Place::TokenInfo => self.tokeninfo(now, request),
            Place::UserInfo => self.userinfo(now, request),
            Place::Models if request.method() == Method::GET => self.models(now, request),
            Place::Metadata => return self.metadata(now, request),
            Place::Sts if request.method() == Method::POST => self.sts(now, request).unwrap_or_else(respond),
            Place::Workforce if request.method() == Method::POST => {
                self.workforce(now, request).unwrap_or_else(respond)
            }
            Place::Iam if request.method() == Method::POST => self.iam(now, request),
            Place::Iam if request.method() == Method::GET => self.allowed_locations(now, request),
            Place::Storage if request.method() == Method::GET => self.storage(now, request),
            Place::Imds => match &self.imds {
                Some(imds) => imds.answer(request),
                None => return Answer { delay: Duration::from_secs(3600), wire: Wire::Dropped },
            },
            // Whatever is wrong with a path or a method is a page.
            _ => page(StatusCode::NOT_FOUND),
        };
        Answer { delay: Duration::ZERO, wire: Wire::Whole(response) }
    }

    fn token(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Refusal> {
        let form = form(request)?;
        match form.get("grant_type").map(String::as_str) {
            Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => self.jwt_bearer(now, &form),
            Some("refresh_token") => self.refresh(now, &form),
            Some(_) => refuse(400, "unsupported_grant_type", "Invalid grant_type"),
            None => refuse(400, "invalid_request", "Missing required parameter: grant_type"),
        }
    }

    /// Hands out an access token.
    fn hand_out(&mut self, now: Timestamp, whose: Whose, scopes: Scopes) -> String {
        let prefix = match whose {
            Whose::Account(..) => "ya29.c.",
            Whose::Grant(_) => "ya29.a0",
            Whose::Federated(_) => "ya29.d.",
        };
        let token = format!("{prefix}{}", self.fresh());
        self.access.insert(token.clone(), Access { whose, scopes, ends: now + LIFE });
        token
    }

    /// Makes an ID token for a service account. Nobody here has the key to check it by.
    fn id_token(&mut self, now: Timestamp, audience: &str, email: &str, full: Option<&Value>) -> String {
        let ends = now + Duration::from_secs(3600);
        let number = self.accounts.iter().find(|account| account.email == email).map(|account| account.number.clone());
        let mut claims = json!({
            "iss": "https://accounts.google.com", "aud": audience, "azp": email, "email": email,
            "email_verified": true, "sub": number, "iat": now.as_unix(), "exp": ends.as_unix(),
        });
        if let (Some(members), Some(full)) = (claims.as_object_mut(), full) {
            members.insert("google".into(), full.clone());
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "RS256", "kid": "87bb4374", "typ": "JWT"});
        let token = format!("{}.{}.{}", part(&header), part(&claims), self.fresh());
        self.id_tokens.insert(token.clone(), ends);
        token
    }

    /// A text that was never handed out before.
    fn fresh(&mut self) -> String {
        self.handed_out += 1;
        URL_SAFE_NO_PAD.encode(&Sha256::digest(format!("google {}", self.handed_out))[..24])
    }
}

impl Default for Google {
    fn default() -> Self {
        Self::new()
    }
}

impl Site for Google {
    fn move_to(&mut self, origin: &str) {
        self.moved = Some(origin.to_owned());
    }
    fn answer(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Answer {
        Google::answer(self, now, request)
    }
}

fn origin(uri: &Uri) -> Option<String> {
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

/// A refusal in Google's words.
#[derive(Debug)]
struct Refusal {
    status: u16,
    body: Value,
}

fn refuse<T>(status: u16, error: &str, description: &str) -> Result<T, Refusal> {
    Err(Refusal { status, body: json!({"error": error, "error_description": description}) })
}

fn respond(refusal: Refusal) -> Response<Vec<u8>> {
    json_answer(refusal.status, &refusal.body)
}

/// A form's parameters, each once and none of them empty.
fn form(request: &Request<Vec<u8>>) -> Result<BTreeMap<String, String>, Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind != "application/x-www-form-urlencoded" {
        return refuse(400, "invalid_request", "Bad Request");
    }
    // A token request has nothing to do with anybody's quota.
    if request.headers().contains_key("x-goog-user-project") {
        return refuse(400, "invalid_request", "x-goog-user-project does not belong here");
    }
    let mut found = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(request.body()).into_owned() {
        if value.is_empty() || found.insert(name, value).is_some() {
            return refuse(400, "invalid_request", "Bad Request");
        }
    }
    Ok(found)
}

/// Refuses parameters that do not belong there.
fn only(form: &BTreeMap<String, String>, known: &[&str]) -> Result<(), Refusal> {
    match form.keys().find(|name| !known.contains(&&***name)) {
        Some(name) => refuse(400, "invalid_request", &format!("Parameter not allowed for this message type: {name}")),
        None => Ok(()),
    }
}

fn json_answer(status: u16, body: &Value) -> Response<Vec<u8>> {
    let mut response = text_answer(status, &format!("{body:#}"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

fn text_answer(status: u16, body: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(body.as_bytes().to_vec());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn page(status: StatusCode) -> Response<Vec<u8>> {
    let mut response = text_answer(status.as_u16(), "<!DOCTYPE html><title>Error</title><p>That's all we know.");
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=UTF-8"));
    response
}

/// The bearer token of a request.
fn bearer(request: &Request<Vec<u8>>) -> Option<&str> {
    request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
