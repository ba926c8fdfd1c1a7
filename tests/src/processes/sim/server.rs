//! The authorization server: a function from a time and a request to an answer, with one grant for each sign-in.

use std::collections::BTreeMap;
use std::time::Duration;

use grantflow::source::Server as Known;
use grantflow::{Client, Issuer, ServerMetadata};
use http::{Request, Response, StatusCode};
use url::form_urlencoded;

use super::plan::{ENDLESS, Plan};

#[derive(Debug)]
pub(super) struct Server {
    lifetime: Duration,
    rotates: bool,
    grace: Duration,
    /// Whether it refuses refreshes as long as the last access token of the same want is good.
    early: bool,
    padding: String,
    last: BTreeMap<(usize, String), usize>,
    families: Vec<Family>,
    refresh: BTreeMap<String, Refresh>,
    access: Vec<Access>,
}

#[derive(Debug, Default)]
struct Family {
    ended: bool,
    refresh_tokens: u64,
}

#[derive(Debug)]
struct Refresh {
    family: usize,
    parent: Option<String>,
    replaced: Option<Duration>,
}

#[derive(Debug)]
struct Access {
    family: usize,
    ends: Duration,
    resource: String,
}

/// What came of a request.
pub(super) struct Answer {
    pub(super) response: Response<Vec<u8>>,
    /// Whether it ended the grant.
    pub(super) ended: bool,
}

impl Server {
    pub(super) fn new(plan: &Plan) -> Self {
        let Plan { lifetime, rotates, grace, early, padding, .. } = *plan;
        let last = BTreeMap::new();
        Self {
            lifetime,
            rotates,
            grace,
            early,
            padding: "x".repeat(padding),
            last,
            families: Vec::new(),
            refresh: BTreeMap::new(),
            access: Vec::new(),
        }
    }

    pub(super) fn metadata(plan: &Plan) -> ServerMetadata {
        ServerMetadata::new(issuer())
            .token_endpoint("https://as.example/token")
            .expect("an address")
            .refresh_token_rotation(plan.known)
    }

    pub(super) fn as_known(plan: &Plan) -> Known {
        if plan.discovered { Known::Issuer(issuer()) } else { Known::Known(Self::metadata(plan)) }
    }

    /// A person signs in: a new refresh token, of a grant of its own.
    pub(super) fn new_grant(&mut self) -> String {
        self.families.push(Family::default());
        self.new_refresh_token(self.families.len() - 1, None)
    }

    pub(super) fn answer(&mut self, at: Duration, request: &Request<Vec<u8>>) -> Answer {
        let ok = |body: String| Answer { response: json(200, body), ended: false };
        if request.uri().path().contains("/.well-known/") {
            let [authorize, token] = ["authorize", "token"].map(|path| format!("https://as.example/{path}"));
            return ok(format!(
                r#"{{"issuer":"https://as.example","authorization_endpoint":"{authorize}","token_endpoint":"{token}"}}"#
            ));
        }
        let used = param(request, "refresh_token").expect("a refresh token");
        let record = self.refresh.get(&used).expect("a refresh token of this server");
        let family = record.family;
        let gone = |ended| Answer { response: json(400, r#"{"error":"invalid_grant"}"#.into()), ended };
        let [scope, resource] = ["scope", "resource"].map(|name| param(request, name).unwrap_or_default());
        let what = (format!("{scope} {resource}"), resource);
        if self.families[family].ended {
            return gone(false);
        }
        let last = self.last.get(&(family, what.0.clone())).copied();
        if last.is_some_and(|nth| self.early && at < self.access[nth].ends) {
            return gone(false);
        }
        if !self.rotates {
            return ok(self.token(at, family, what, None));
        }
        if !self.is_alive(&used, at) {
            self.families[family].ended = true;
            return gone(true);
        }
        self.refresh.get_mut(&used).expect("it was there").replaced.get_or_insert(at);
        let next = self.new_refresh_token(family, Some(used));
        ok(self.token(at, family, what, Some(next)))
    }

    /// Whether a refresh token would bring another access token: it was not replaced, or not long ago, and no
    /// successor was used.
    pub(super) fn is_alive(&self, token: &str, at: Duration) -> bool {
        let Some(record) = self.refresh.get(token) else { return false };
        let in_grace = |replaced: Duration| {
            let used = |child: &Refresh| child.parent.as_deref() == Some(token) && child.replaced.is_some();
            !self.grace.is_zero()
                && at.saturating_sub(replaced) <= self.grace
                && (self.grace == ENDLESS || !self.refresh.values().any(used))
        };
        !self.families[record.family].ended && record.replaced.is_none_or(in_grace)
    }

    /// Whether it was ever used.
    pub(super) fn was_used(&self, token: &str) -> bool {
        self.refresh.get(token).is_some_and(|record| record.replaced.is_some())
    }

    pub(super) fn parent(&self, token: &str) -> Option<&str> {
        self.refresh.get(token)?.parent.as_deref()
    }

    /// Whether one refresh token came of another, or of one that did.
    pub(super) fn descends(&self, token: &str, of: &str) -> bool {
        std::iter::successors(self.parent(token), |token| self.parent(token)).any(|token| token == of)
    }

    /// Whether a refresh token is of a later sign-in than another.
    pub(super) fn is_later_grant(&self, token: &str, of: &str) -> bool {
        let family = |token: &str| self.refresh.get(token).map(|record| record.family);
        family(token) > family(of)
    }

    /// Whether two refresh tokens are of one sign-in.
    pub(super) fn are_of_one_grant(&self, token: &str, other: &str) -> bool {
        let family = |token: &str| self.refresh.get(token).map(|record| record.family);
        family(token) == family(other)
    }

    /// All grants end, as when the user takes back what they allowed.
    pub(super) fn withdraw(&mut self) {
        self.families.iter_mut().for_each(|family| family.ended = true);
    }

    /// Whether a resource takes this access token.
    pub(super) fn accepts(&self, token: &str, at: Duration) -> bool {
        let nth = token.rsplit_once('-').and_then(|(_, nth)| nth.parse::<usize>().ok());
        nth.and_then(|nth| self.access.get(nth))
            .is_some_and(|access| at < access.ends && !self.families[access.family].ended)
    }

    /// Which resource an access token is for, and which access token that is of all.
    pub(super) fn resource(&self, token: &str) -> &str {
        let nth = token.rsplit_once('-').and_then(|(_, nth)| nth.parse::<usize>().ok());
        nth.and_then(|nth| self.access.get(nth)).map_or("", |access| &access.resource)
    }

    fn token(
        &mut self,
        at: Duration,
        family: usize,
        (what, resource): (String, String),
        refresh_token: Option<String>,
    ) -> String {
        self.access.push(Access { family, ends: at + self.lifetime, resource });
        self.last.insert((family, what), self.access.len() - 1);
        let (nth, life) = (self.access.len() - 1, self.lifetime.as_secs());
        let padding = &self.padding;
        let refresh = refresh_token.map(|token| format!(r#","refresh_token":"{token}""#)).unwrap_or_default();
        format!(r#"{{"access_token":"at{padding}-{nth}","token_type":"Bearer","expires_in":{life}{refresh}}}"#)
    }

    /// What a sign-in brings, as the token endpoint would answer.
    pub(super) fn first_answer(&mut self, at: Duration, refresh_token: String) -> Response<Vec<u8>> {
        let family = self.refresh[&refresh_token].family;
        json(200, self.token(at, family, ("read ".to_owned(), String::new()), Some(refresh_token)))
    }

    fn new_refresh_token(&mut self, family: usize, parent: Option<String>) -> String {
        let nth = self.families[family].refresh_tokens;
        self.families[family].refresh_tokens += 1;
        let token = format!("rt-{family}-{nth}");
        self.refresh.insert(token.clone(), Refresh { family, parent, replaced: None });
        token
    }
}

pub(super) fn issuer() -> Issuer {
    Issuer::new("https://as.example").expect("an address")
}

pub(super) fn client() -> Client {
    Client::new("fleet")
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
