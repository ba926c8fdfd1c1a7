//! Google's STS and IAM Credentials, and the metadata of an AWS instance: strict, and in the words of the real ones.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grantflow::{Scopes, Timestamp};
use http::{Method, Request, Response, StatusCode, header};
use ring::hmac;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Google, Refusal, Whose, bearer, form, json_answer, only, page, refuse, text_answer};
use crate::server::ClientCertificate;

const CLOUD: &str = "https://www.googleapis.com/auth/cloud-platform";
const IAM: &str = "https://www.googleapis.com/auth/iam";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// How far AWS's clock and a signature may be apart.
const WINDOW: Duration = Duration::from_secs(900);

/// A provider of a pool, whose subject tokens STS takes.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name, as the audience of an exchange.
    pub audience: String,
    /// Of which kind its tokens are.
    pub subject_token_type: String,
    /// What it takes.
    pub takes: Takes,
    /// The client that must authenticate, with its secret.
    pub client: Option<(String, String)>,
}

/// What a provider takes.
#[derive(Clone, Debug)]
pub enum Takes {
    /// This token.
    Token(String),
    /// A request that AWS would answer: signed by one of these keys, by their id.
    Aws(BTreeMap<String, AwsKey>),
    /// The certificate that the client shows to STS, as the first of an array: one of this name, which this authority has
    /// signed.
    Certificate(ClientCertificate, String),
}

/// A key of AWS.
#[derive(Clone, Debug)]
pub struct AwsKey {
    /// Its secret.
    pub secret: String,
    /// The session that it is good in, if it is temporary.
    pub session_token: Option<String>,
}

/// The metadata of an EC2 instance.
#[derive(Clone, Debug)]
pub struct Imds {
    /// Whether the first version is answered too, which asks for no session.
    pub v1: bool,
    /// Whether there is a second version.
    pub v2: bool,
    /// The zone.
    pub zone: String,
    /// The role's name, and the key that it has.
    pub role: Option<(String, String, AwsKey)>,
}

impl Imds {
    /// An instance in `us-east-2b` that must be asked by the second version.
    pub fn new(role: &str, id: &str, key: AwsKey) -> Self {
        Self { v1: false, v2: true, zone: "us-east-2b".into(), role: Some((role.into(), id.into(), key)) }
    }

    pub(super) fn answer(&self, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        const SESSION: &str = "AQAEADemoSession==";
        let headers = request.headers();
        let path = request.uri().path().strip_prefix("/latest/").unwrap_or_default();
        if path == "api/token" {
            let seconds =
                headers.get("x-aws-ec2-metadata-token-ttl-seconds").and_then(|it| it.to_str().ok()?.parse().ok());
            return match (self.v2, request.method(), seconds) {
                (true, &Method::PUT, Some(1..=21_600_u32)) => text_answer(200, SESSION),
                (true, &Method::PUT, _) => page(StatusCode::BAD_REQUEST),
                (true, ..) => page(StatusCode::METHOD_NOT_ALLOWED),
                (false, ..) => page(StatusCode::NOT_FOUND),
            };
        }
        match headers.get("x-aws-ec2-metadata-token") {
            Some(session) if !self.v2 || session != SESSION => return page(StatusCode::UNAUTHORIZED),
            None if !self.v1 => return page(StatusCode::UNAUTHORIZED),
            _ => {}
        }
        if request.method() != Method::GET {
            return page(StatusCode::METHOD_NOT_ALLOWED);
        }
        let credentials = path.strip_prefix("meta-data/iam/security-credentials");
        match (path, credentials, &self.role) {
            ("meta-data/placement/availability-zone", ..) => text_answer(200, &self.zone),
            (_, Some("" | "/"), Some((role, ..))) => text_answer(200, role),
            (_, Some(name), Some((role, id, key))) if name.strip_prefix('/') == Some(role) => json_answer(
                200,
                &json!({"Code": "Success", "LastUpdated": "2026-11-20T11:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": id,
                        "SecretAccessKey": key.secret, "Token": key.session_token, "Expiration": "2026-11-20T18:00:00Z"}),
            ),
            _ => page(StatusCode::NOT_FOUND),
        }
    }
}

impl Google {
    /// `POST /v1/token` of STS: an exchange, or a token that is good for less.
    pub(super) fn sts(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Refusal> {
        let asked = form(request)?;
        let get = |name: &str| asked.get(name).map(String::as_str);
        if get("grant_type") != Some("urn:ietf:params:oauth:grant-type:token-exchange") {
            return refuse(400, "unsupported_grant_type", "Invalid grant_type");
        }
        if get("requested_token_type") != Some(ACCESS_TOKEN) {
            return refuse(400, "invalid_request", "Invalid value for \"requested_token_type\"");
        }
        let Some(audience) = get("audience") else { return self.downscope(now, &asked) };
        let known = [
            "grant_type",
            "audience",
            "scope",
            "requested_token_type",
            "subject_token",
            "subject_token_type",
            "options",
        ];
        only(&asked, &known)?;
        let Some(provider) = self.providers.iter().find(|provider| provider.audience == audience).cloned() else {
            let why = "The target service indicated by the \"audience\" parameters is invalid.";
            return refuse(400, "invalid_target", why);
        };
        let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let expected =
            provider.client.as_ref().map(|(id, secret)| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))));
        if shown != expected.as_deref() {
            return refuse(401, "invalid_client", "The OAuth client was not found.");
        }
        if get("subject_token_type") != Some(&provider.subject_token_type) {
            return refuse(400, "invalid_request", "Invalid value for \"subject_token_type\"");
        }
        let Some(scope) = get("scope") else {
            return refuse(400, "invalid_request", "Missing required parameter: scope");
        };
        let subject = get("subject_token").unwrap_or_default();
        let sound = match &provider.takes {
            Takes::Token(token) => subject == token,
            Takes::Aws(keys) => is_signed(subject, audience, keys, now).is_some(),
            Takes::Certificate(authority, name) => {
                let named: Vec<String> = serde_json::from_str(subject).unwrap_or_default();
                let named = named.first().and_then(|base64| STANDARD.decode(base64).ok());
                ClientCertificate::of(request).is_some_and(|shown| {
                    named.is_some_and(|der| *shown == ClientCertificate::new(&der))
                        && shown.is_signed_by(authority, name, now)
                })
            }
        };
        if !sound {
            return refuse(400, "invalid_grant", "The subject token is not accepted by the provider.");
        }
        let user_project = get("options").map(|text| serde_json::from_str::<Value>(text).unwrap_or_default());
        if user_project
            .is_some_and(|options| !options["userProject"].is_string() || !audience.contains("/workforcePools/"))
        {
            return refuse(400, "invalid_request", "Invalid value for \"options\"");
        }
        let token = self.hand_out(now, Whose::Federated(audience.to_owned()), Scopes::from(scope));
        Ok(json_answer(
            200,
            &json!({"access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 3599}),
        ))
    }

    fn downscope(&mut self, now: Timestamp, asked: &BTreeMap<String, String>) -> Result<Response<Vec<u8>>, Refusal> {
        only(asked, &["grant_type", "requested_token_type", "subject_token", "subject_token_type", "options"])?;
        if asked.get("subject_token_type").map(String::as_str) != Some(ACCESS_TOKEN) {
            return refuse(400, "invalid_request", "Invalid value for \"subject_token_type\"");
        }
        let subject = asked.get("subject_token").cloned().unwrap_or_default();
        let Some(access) = self.accepted(&subject, now).cloned() else {
            return refuse(400, "invalid_grant", "The subject token is expired or revoked.");
        };
        let options: Value = serde_json::from_str(asked.get("options").map_or("", String::as_str)).unwrap_or_default();
        let rules = options["accessBoundary"]["accessBoundaryRules"].as_array().cloned().unwrap_or_default();
        let sound = |rule: &Value| {
            let permissions = rule["availablePermissions"].as_array();
            rule["availableResource"]
                .as_str()
                .is_some_and(|name| name.starts_with("//storage.googleapis.com/projects/_/buckets/"))
                && permissions.is_some_and(|all| {
                    !all.is_empty() && all.iter().all(|it| it.as_str().is_some_and(|it| it.starts_with("inRole:")))
                })
                && (rule["availabilityCondition"].is_null() || rule["availabilityCondition"]["expression"].is_string())
        };
        if !access.scopes.contains(CLOUD) || rules.is_empty() || rules.len() > 10 || !rules.iter().all(sound) {
            return refuse(400, "invalid_request", "Invalid value for \"options\"");
        }
        let token = format!("ya29.dr.{}", self.fresh());
        let mut answer = json!({"access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer"});
        // Of some sources' tokens it does not say when they end.
        if !matches!(access.whose, Whose::Account(..)) {
            answer["expires_in"] = access.ends.since(now).as_secs().into();
        }
        self.access.insert(token, super::Access { scopes: Scopes::default(), ..access });
        Ok(json_answer(200, &answer))
    }

    /// `POST /v1/oauthtoken` of STS: a user of a workforce, whose refresh token is replaced.
    pub(super) fn workforce(
        &mut self,
        now: Timestamp,
        request: &Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, Refusal> {
        let asked = form(request)?;
        only(&asked, &["grant_type", "refresh_token"])?;
        if asked.get("grant_type").map(String::as_str) != Some("refresh_token") {
            return refuse(400, "unsupported_grant_type", "Invalid grant_type");
        }
        let shown =
            request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let shown = shown.strip_prefix("Basic ").and_then(|it| STANDARD.decode(it).ok()).unwrap_or_default();
        let Some((id, secret, newest)) = self.workforce_user.clone() else {
            return refuse(400, "invalid_grant", "Unknown");
        };
        if shown != format!("{id}:{secret}").as_bytes() {
            return refuse(401, "invalid_client", "The OAuth client was not found.");
        }
        if asked.get("refresh_token") != Some(&newest) {
            return refuse(400, "invalid_grant", "The refresh token is invalid, expired or was used before.");
        }
        let next = format!("rotated-{}", self.fresh());
        self.workforce_user = Some((id, secret, next.clone()));
        let token = self.hand_out(now, Whose::Federated("workforce".into()), Scopes::from(CLOUD));
        Ok(json_answer(
            200,
            &json!({"access_token": token, "expires_in": 3600, "refresh_token": next, "token_type": "Bearer"}),
        ))
    }

    /// The refresh token that is good, of the user of a workforce.
    pub fn workforce_refresh_token(&self) -> Option<&str> {
        self.workforce_user.as_ref().map(|(_, _, token)| token.as_str())
    }

    /// IAM Credentials: `…/serviceAccounts/{email}:{method}`.
    pub(super) fn iam(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let told = |status: u16, name: &str, message: &str| {
            json_answer(status, &json!({"error": {"code": status, "message": message, "status": name}}))
        };
        let denied = |method: &str| {
            let message =
                format!("Permission 'iam.serviceAccounts.{method}' denied on resource (or it may not exist).");
            told(403, "PERMISSION_DENIED", &message)
        };
        let wrong = |why: &str| told(400, "INVALID_ARGUMENT", why);
        let Some(access) = bearer(request).and_then(|token| self.accepted(token, now)).cloned() else {
            return told(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.");
        };
        if !access.scopes.contains(CLOUD) && !access.scopes.contains(IAM) {
            return told(403, "PERMISSION_DENIED", "Request had insufficient authentication scopes.");
        }
        let path = request.uri().path().strip_prefix("/v1/projects/-/serviceAccounts/");
        let (email, method) = path.and_then(|path| path.split_once(':')).unwrap_or_default();
        let Ok(body) = serde_json::from_slice::<Value>(request.body()) else { return wrong("Invalid JSON payload") };
        let delegates: Vec<&str> =
            body["delegates"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut acting = access.whose.name(self);
        for next in delegates.iter().map(|name| name.rsplit('/').next().unwrap_or_default()).chain([email]) {
            if acting != next && !self.impersonators.contains(&(acting.clone(), next.to_owned())) {
                return denied(method);
            }
            acting = next.to_owned();
        }
        if !self.accounts.iter().any(|account| account.email == email) {
            return told(404, "NOT_FOUND", &format!("Gaia id not found for email {email}"));
        }
        match method {
            "generateAccessToken" => {
                let lifetime = body["lifetime"].as_str().and_then(|text| text.strip_suffix('s')?.parse::<u64>().ok());
                let scopes: Scopes = body["scope"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let Some(lifetime @ 1..=3600) = lifetime else { return wrong("The token lifetime is not allowed.") };
                if scopes.is_empty() {
                    return wrong("At least one scope is required.");
                }
                let token = self.hand_out(now, Whose::Account(email.into(), None), scopes);
                let ends = now + Duration::from_secs(lifetime);
                self.access.get_mut(&token).expect("just made").ends = ends;
                json_answer(200, &json!({"accessToken": token, "expireTime": ends.to_string()}))
            }
            "generateIdToken" => match body["audience"].as_str() {
                Some(audience) => json_answer(200, &json!({"token": self.id_token(now, audience, email, None)})),
                None => wrong("The audience is required."),
            },
            "signJwt" => match body["payload"].as_str() {
                Some(claims) if serde_json::from_str::<Value>(claims).is_ok() => {
                    let signed = super::demo::signed_by_google(claims);
                    json_answer(200, &json!({"keyId": super::KEY_ID, "signedJwt": signed}))
                }
                _ => wrong("The payload is not a JWT claims set."),
            },
            "signBlob" => match body["payload"].as_str().and_then(|text| STANDARD.decode(text).ok()) {
                Some(bytes) => {
                    let signature = STANDARD.encode(super::demo::rs256(&bytes));
                    json_answer(200, &json!({"keyId": super::KEY_ID, "signedBlob": signature}))
                }
                None => wrong("The payload is no base64."),
            },
            _ => page(StatusCode::NOT_FOUND),
        }
    }
}

impl Google {
    /// `GET …/allowedLocations` of IAM Credentials: the regional access boundary of an account or a pool, for itself.
    pub(super) fn allowed_locations(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let name = request.uri().path().strip_prefix("/v1/").and_then(|path| path.strip_suffix("/allowedLocations"));
        let Some(access) = bearer(request).and_then(|token| self.accepted(token, now)) else {
            return page(StatusCode::UNAUTHORIZED);
        };
        let own = access.whose.name(self);
        let Some(name) = name.filter(|name| name.rsplit('/').next() == Some(&own) || own.contains(name)) else {
            return page(StatusCode::FORBIDDEN);
        };
        match self.boundaries.get(name) {
            Some(encoded) => json_answer(200, &json!({"locations": ["europe-west1"], "encodedLocations": encoded})),
            None => page(StatusCode::NOT_FOUND),
        }
    }
}

/// Whether AWS would take this request, as STS would repeat it: the id of the key that signed it.
fn is_signed(subject: &str, audience: &str, keys: &BTreeMap<String, AwsKey>, now: Timestamp) -> Option<String> {
    let json = percent_decoded(subject)?;
    let request: Value = serde_json::from_str(&json).ok()?;
    let mut headers = BTreeMap::new();
    for header in request["headers"].as_array()? {
        let (key, value) = (header["key"].as_str()?, header["value"].as_str()?);
        // Each once.
        if headers.insert(key.to_ascii_lowercase(), value.to_owned()).is_some() {
            return None;
        }
    }
    let url = Url::parse(request["url"].as_str()?).ok()?;
    let host = url.host_str()?;
    let region = host.strip_prefix("sts.")?.strip_suffix(".amazonaws.com")?;
    let pairs: Vec<_> = url.query_pairs().collect();
    let sound = request["method"] == "POST"
        && url.scheme() == "https"
        && pairs.contains(&("Action".into(), "GetCallerIdentity".into()))
        && headers.get("host")? == host
        && headers.get("x-goog-cloud-target-resource")? == audience;
    if !sound {
        return None;
    }
    let at = headers.get("x-amz-date")?;
    let (date, time) = at.strip_suffix('Z')?.split_once('T')?;
    let signed_at = Timestamp::from_unix(unix(date, time)?);
    if signed_at.since(now) > WINDOW || now.since(signed_at) > WINDOW {
        return None;
    }
    let authorization = headers.get("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?;
    let parts: BTreeMap<&str, &str> = authorization.split(", ").filter_map(|part| part.split_once('=')).collect();
    let scope = format!("{date}/{region}/sts/aws4_request");
    let id = parts.get("Credential")?.strip_suffix(&scope)?.strip_suffix('/')?;
    let key = keys.get(id)?;
    if headers.get("x-amz-security-token") != key.session_token.as_ref() {
        return None;
    }
    let names: Vec<&str> = parts.get("SignedHeaders")?.split(';').collect();
    if !names.is_sorted() || !names.contains(&"host") || !names.contains(&"x-amz-date") {
        return None;
    }
    let mut canonical = format!("POST\n{}\n{}\n", url.path(), url.query()?);
    for name in &names {
        canonical.push_str(&format!("{name}:{}\n", headers.get(*name)?));
    }
    canonical.push_str(&format!("\n{}\n{}", names.join(";"), hex(&Sha256::digest(b""))));
    let text = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{}", hex(&Sha256::digest(&canonical)));
    let mut mac = format!("AWS4{}", key.secret).into_bytes();
    for part in [date, region, "sts", "aws4_request", &text] {
        mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &mac), part.as_bytes()).as_ref().to_vec();
    }
    (*parts.get("Signature")? == hex(&mac)).then(|| id.to_owned())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => u8::from_str_radix(std::str::from_utf8(&[bytes.next()?, bytes.next()?]).ok()?, 16).ok()?,
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Seconds since 1970 of a date and a time without marks between.
pub(super) fn unix(date: &str, time: &str) -> Option<i64> {
    let number = |text: Option<&str>| text?.parse::<i64>().ok();
    let (year, month, day) = (number(date.get(..4))?, number(date.get(4..6))?, number(date.get(6..8))?);
    // Days from 1970 to the first of that month, by counting.
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let of_year: i64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let months = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let of_month: i64 = months.iter().take(usize::try_from(month - 1).ok()?).sum();
    let days = of_year + of_month + day - 1;
    let (h, m, s) = (number(time.get(..2))?, number(time.get(2..4))?, number(time.get(4..6))?);
    Some(days * 86_400 + h * 3600 + m * 60 + s)
}
