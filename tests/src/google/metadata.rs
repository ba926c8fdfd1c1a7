//! The metadata server of a machine on Google Cloud, with its odd answers, and what else may answer there.

use std::collections::BTreeMap;
use std::time::Duration;

use grantflow::{Scopes, Timestamp};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::json;
use url::form_urlencoded;

use super::{Google, Place, Whose, json_answer, page, text_answer};
use crate::server::{Answer, Wire};

/// What answers where a metadata server would.
#[derive(Clone, Debug)]
pub enum Local {
    /// Nobody, ever: packets to it are lost, as on most laptops.
    Nobody,
    /// Nobody, and that is told at once.
    Closed,
    /// The portal of a guest network: a page of its own for any address, with this status.
    Portal(u16),
    /// The metadata server.
    Server(Metadata),
}

/// A metadata server.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The account that the machine runs as; `None` if there is none attached.
    pub email: Option<String>,
    /// The scopes that the machine was given.
    pub scopes: Scopes,
    /// Whether the scopes of a request are heeded, as on Cloud Run, or ignored, as on Compute Engine.
    pub heeds_scopes: bool,
    /// The project.
    pub project: String,
    /// The universe; older servers know of none.
    pub universe: Option<String>,
    /// It hands out the same token until less than this is left.
    pub margin: Duration,
    /// When it begins to answer: shortly after the machine starts.
    pub ready_from: Timestamp,
}

impl Metadata {
    /// That of a machine which runs as this account, as on Compute Engine.
    pub fn new(email: &str) -> Self {
        Self {
            email: Some(email.into()),
            scopes: "https://www.googleapis.com/auth/cloud-platform".into(),
            heeds_scopes: false,
            project: "demo-project".into(),
            universe: None,
            margin: Duration::from_secs(300),
            ready_from: Timestamp::default(),
        }
    }
}

/// Tokens that are handed out again, by what was asked.
pub(super) type Kept = BTreeMap<String, (String, Timestamp)>;

impl Google {
    pub(super) fn metadata(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Answer {
        let dropped = |delay| Answer { delay, wire: Wire::Dropped };
        let response = match self.local.clone() {
            Local::Nobody => return dropped(Duration::from_secs(3600)),
            Local::Closed => return dropped(Duration::ZERO),
            Local::Portal(status) => {
                let mut response = page(StatusCode::from_u16(status).expect("a status"));
                if response.status().is_redirection() {
                    let place = HeaderValue::from_static("http://portal.example/sign-in");
                    response.headers_mut().insert(header::LOCATION, place);
                }
                response
            }
            Local::Server(server) if now < server.ready_from => return dropped(Duration::ZERO),
            Local::Server(server) => {
                let mut response = self.metadata_answer(&server, now, request);
                let headers = response.headers_mut();
                headers.insert("metadata-flavor", HeaderValue::from_static("Google"));
                headers.insert(header::SERVER, HeaderValue::from_static("Metadata Server for VM"));
                response
            }
        };
        Answer { delay: Duration::ZERO, wire: Wire::Whole(response) }
    }

    fn metadata_answer(&mut self, server: &Metadata, now: Timestamp, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let headers = request.headers();
        if request.method() != Method::GET {
            return page(StatusCode::METHOD_NOT_ALLOWED);
        }
        let flavors: Vec<_> = headers.get_all("metadata-flavor").iter().collect();
        if flavors != ["Google"] || headers.contains_key("x-forwarded-for") {
            return page(StatusCode::FORBIDDEN);
        }
        if request.uri().path() == "/" {
            return text_answer(200, "computeMetadata/\n");
        }
        let path = request.uri().path().strip_prefix("/computeMetadata/v1/").unwrap_or_default();
        let query: BTreeMap<String, String> =
            form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
        match path {
            "project/project-id" => text_answer(200, &server.project),
            "project/numeric-project-id" => text_answer(200, "123456789012"),
            "universe/universe-domain" => match &server.universe {
                Some(universe) => text_answer(200, universe),
                None => page(StatusCode::NOT_FOUND),
            },
            "instance/zone" => text_answer(200, "projects/123456789012/zones/us-central1-a"),
            path => match (&server.email, path.strip_prefix("instance/service-accounts/")) {
                (Some(email), Some(rest)) => self.of_account(server, email, rest, &query, now),
                _ => page(StatusCode::NOT_FOUND),
            },
        }
    }

    fn of_account(
        &mut self,
        server: &Metadata,
        email: &str,
        rest: &str,
        query: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Response<Vec<u8>> {
        let (account, what) = rest.split_once('/').unwrap_or((rest, ""));
        if account != "default" && account != email {
            return page(StatusCode::NOT_FOUND);
        }
        match what {
            "email" => text_answer(200, email),
            "aliases" => text_answer(200, "default"),
            "scopes" => text_answer(200, &server.scopes.iter().map(|scope| format!("{scope}\n")).collect::<String>()),
            "token" => {
                let asked = query.get("scopes").filter(|_| server.heeds_scopes);
                let scopes = asked.map_or(server.scopes.clone(), |text| text.split(',').collect());
                let (token, ends) = self.kept(server, now, &format!("access {scopes}"), |google| {
                    google.hand_out(now, Whose::Account(email.into(), None), scopes.clone())
                });
                let left = ends.since(now).as_secs();
                json_answer(200, &json!({"access_token": token, "expires_in": left, "token_type": "Bearer"}))
            }
            "identity" => {
                let Some(audience) = query.get("audience").filter(|audience| !audience.is_empty()) else {
                    return text_answer(400, "non-empty audience parameter required");
                };
                let full = (query.get("format").map(String::as_str) == Some("full"))
                    .then(|| json!({"compute_engine": {"project_id": server.project, "instance_name": "demo"}}));
                let (token, _) = self.kept(server, now, &format!("identity {audience} {}", full.is_some()), |google| {
                    google.id_token(now, audience, email, full.as_ref())
                });
                let mut response = text_answer(200, &token);
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
                response
            }
            _ => page(StatusCode::NOT_FOUND),
        }
    }

    /// The token that was handed out for the same before, as long as it has some time left.
    fn kept(
        &mut self,
        server: &Metadata,
        now: Timestamp,
        what: &str,
        make: impl FnOnce(&mut Self) -> String,
    ) -> (String, Timestamp) {
        match self.kept.get(what) {
            Some((token, ends)) if ends.since(now) > server.margin => (token.clone(), *ends),
            _ => {
                let made = (make(self), now + super::LIFE);
                self.kept.insert(what.to_owned(), made.clone());
                made
            }
        }
    }

    /// How often the metadata server was asked for a token or an ID token.
    pub fn metadata_mints(&self) -> usize {
        let mint = |path: &str| path.ends_with("/token") || path.ends_with("/identity");
        self.seen_at(Place::Metadata).iter().filter(|seen| mint(seen.request.uri().path())).count()
    }
}
