//! A pretend protected resource: a pure function, as strict as the pretend authorization server.
//!
//! It describes itself (RFC 9728), refuses requests with challenges (RFC 6750, RFC 9470), and takes the tokens of its
//! authorization servers alone.

use grantflow::{Scopes, Timestamp};
use http::{Request, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::front::Site;
use crate::server::{Alter, Answer, Place, Server, Wire};

/// The resource, its settings, and what it has seen.
#[derive(Debug)]
pub struct Resource {
    address: String,
    /// The issuers whose tokens it takes, as its metadata lists them.
    pub servers: Vec<String>,
    /// `scopes_supported`.
    pub scopes: Option<Vec<&'static str>>,
    /// Which scopes requests need: for a path's last segment, these.
    pub needs: Vec<(&'static str, Scopes)>,
    /// Whether its challenges name the scopes.
    pub names_scopes: bool,
    /// Where its metadata is: the path behind the origin. `None`: nowhere.
    pub metadata_at: Option<String>,
    /// What its challenges say in `resource_metadata`; `None`: nothing.
    pub names_metadata: Option<String>,
    /// Changes the metadata before it is sent.
    pub alter_metadata: Alter,
    /// The answer in place of the metadata.
    pub metadata_answer: Option<Response<Vec<u8>>>,
    /// Its answer to each request with a token that it takes, if it serves none: status and challenge.
    pub refuses: Option<(u16, String)>,
    seen: Vec<Request<Vec<u8>>>,
}

impl Resource {
    /// The resource at this address, with the tokens of this issuer.
    pub fn new(address: &str, issuer: &str) -> Self {
        let mut resource = Self {
            address: String::new(),
            servers: vec![issuer.to_owned()],
            scopes: None,
            needs: Vec::new(),
            names_scopes: true,
            metadata_at: None,
            names_metadata: None,
            alter_metadata: Alter::default(),
            metadata_answer: None,
            refuses: None,
            seen: Vec::new(),
        };
        resource.settle(address);
        resource
    }

    fn settle(&mut self, address: &str) {
        self.address = address.to_owned();
        let at = format!("/.well-known/oauth-protected-resource{}", self.path());
        self.names_metadata = Some(format!("{}{at}", self.origin()));
        self.metadata_at = Some(at);
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &str {
        &self.address[..self.address.len() - self.path().len()]
    }

    fn path(&self) -> &str {
        let host = self.address.find("://").map_or(0, |at| at + 3);
        let end = self.address[host..].find('/').map_or(self.address.len(), |at| host + at);
        &self.address[end..]
    }

    /// Every request so far, in order.
    pub fn seen(&self) -> &[Request<Vec<u8>>] {
        &self.seen
    }

    /// Whether a request is for it.
    pub fn serves(&self, request: &Request<Vec<u8>>) -> bool {
        let uri = request.uri();
        let origin = uri.authority().map(|authority| format!("{}://{authority}", uri.scheme_str().unwrap_or_default()));
        let path = uri.path();
        let own = path == self.path() || path.strip_prefix(self.path()).is_some_and(|rest| rest.starts_with('/'));
        origin.as_deref() == Some(self.origin()) && (own || path.starts_with("/.well-known/oauth-protected-resource"))
    }

    /// Takes a request and answers it. `scopes` says what a token is good for, if it is good at all, and whose it is.
    pub fn answer(
        &mut self,
        request: &Request<Vec<u8>>,
        mut scopes: impl FnMut(&str) -> Option<(String, Scopes)>,
    ) -> Response<Vec<u8>> {
        self.seen.push(request.clone());
        let path = request.uri().path();
        if path.starts_with("/.well-known/oauth-protected-resource") {
            return match (&self.metadata_answer, self.metadata_at.as_deref() == Some(path)) {
                (Some(answer), true) => answer.clone(),
                (_, true) => json_answer(StatusCode::OK, &self.metadata()),
                (_, false) => json_answer(StatusCode::NOT_FOUND, &json!({"error": "not_found"})),
            };
        }
        let operation = path.rsplit('/').next().unwrap_or_default();
        let needed = self.needs.iter().find(|(name, _)| *name == operation).map(|(_, scopes)| scopes.clone());
        let needed = needed.unwrap_or_default();
        let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")) else {
            return self.refuse(401, None, &needed);
        };
        let taken = scopes(token).filter(|(issuer, _)| self.servers.contains(issuer));
        let Some((_, granted)) = taken else { return self.refuse(401, Some("invalid_token"), &needed) };
        if let Some((status, challenge)) = &self.refuses {
            return challenged(*status, challenge);
        }
        if !needed.is_subset(&granted) {
            return self.refuse(403, Some("insufficient_scope"), &needed);
        }
        json_answer(StatusCode::OK, &json!({"operation": operation, "scope": granted.as_str()}))
    }

    fn metadata(&self) -> Value {
        let mut metadata = json!({"resource": self.address, "authorization_servers": self.servers});
        if let Some(scopes) = &self.scopes {
            metadata["scopes_supported"] = json!(scopes);
        }
        self.alter_metadata.apply(&mut metadata);
        metadata
    }

    fn refuse(&self, status: u16, error: Option<&str>, needed: &Scopes) -> Response<Vec<u8>> {
        let scope = Some(needed.as_str()).filter(|scope| self.names_scopes && !scope.is_empty());
        let params = [("error", error), ("scope", scope), ("resource_metadata", self.names_metadata.as_deref())];
        let params: Vec<_> =
            params.iter().filter_map(|(name, value)| Some(format!("{name}=\"{}\"", (*value)?))).collect();
        challenged(status, format!("Bearer {}", params.join(", ")).trim_end())
    }
}

fn challenged(status: u16, challenge: &str) -> Response<Vec<u8>> {
    let mut response = json_answer(StatusCode::from_u16(status).expect("a status"), &json!({}));
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().expect("a header value"));
    response
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Vec<u8>> {
    let mut response = Response::new(body.to_string().into_bytes());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// A resource and its authorization server at one origin, to be served by a front.
#[derive(Debug)]
pub struct Protected {
    /// The authorization server.
    pub server: Server,
    /// The resource.
    pub resource: Resource,
}

impl Protected {
    /// The resource at `/mcp` of this server.
    pub fn new(server: Server) -> Self {
        let resource = Resource::new(&format!("{}/mcp", server.origin()), server.issuer());
        Self { server, resource }
    }
}

impl Site for Protected {
    fn move_to(&mut self, origin: &str) {
        self.server.move_to(origin);
        self.resource.settle(&format!("{origin}/mcp"));
        self.resource.servers = vec![self.server.issuer().to_owned()];
    }

    fn answer(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Answer {
        let Self { server, resource } = self;
        let whole = with_origin(request, resource.origin());
        if !resource.serves(&whole) {
            return server.answer(now, request);
        }
        let issuer = server.issuer().to_owned();
        let response = resource.answer(&whole, |token| Some((issuer.clone(), server.scopes_of(token, now)?)));
        Answer { delay: std::time::Duration::ZERO, wire: Wire::Whole(response) }
    }
}

/// A front gets the path alone.
fn with_origin(request: &Request<Vec<u8>>, origin: &str) -> Request<Vec<u8>> {
    let mut request = request.clone();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("{origin}{path}").parse().expect("an address");
    request
}

/// What the requests to a place named as their `resource`.
pub fn resources_named(server: &Server, place: Place) -> Vec<Vec<String>> {
    server.seen_at(place).iter().map(|seen| seen.params("resource")).collect()
}
