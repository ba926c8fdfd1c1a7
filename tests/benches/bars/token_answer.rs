//! A token answer of 1 KiB, without and with an ID token in it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use grantflow::exchange::Received;
use grantflow::{
    AuthorizationRequest, Client, Cx, Issuer, Machine as _, Now, Reply, ServerMetadata, Step, Timestamp, TokenRequest,
};
use http::{HeaderValue, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::harness::Work;

pub(crate) const NOW: i64 = 1_750_000_000;
const CLIENT: &str = "native-app";

pub(crate) fn answer(body: Value) -> Response<Vec<u8>> {
    let response = Response::builder().header("content-type", "application/json; charset=utf-8");
    response.body(serde_json::to_vec(&body).unwrap()).unwrap()
}

/// As a sign-in's answer, less the ID token.
pub(crate) fn body() -> Value {
    json!({
        "access_token": format!("ya29.{}", "aB3-_x9Z".repeat(127)),
        "token_type": "Bearer",
        "expires_in": 3599,
        "scope": "openid email profile",
        "refresh_token": format!("1//{}", "0gX9zQwE".repeat(12)),
    })
}

fn parse(request: TokenRequest) -> impl Fn(&Response<Vec<u8>>) -> grantflow::Token {
    let (_, parse) = request.into_parts();
    let now = Timestamp::from_unix(NOW);
    move |response| parse(Received { response, sent: now, now }).0.unwrap()
}

pub(crate) fn plain() -> Vec<Work<'static>> {
    let issuer = Issuer::new("https://as.example").unwrap();
    let server = ServerMetadata::new(issuer).token_endpoint("https://as.example/token").unwrap();
    let client = Client::new(CLIENT);
    let ours = parse(TokenRequest::refresh_token(&server, &client, &"1//old".into()).unwrap());
    let response = answer(body());
    let copy = response.clone();
    vec![Work::new("grantflow", move || ours(&response)), Work::new("floor", move || floor(&copy, ""))]
}

pub(crate) fn with_id_token() -> Vec<Work<'static>> {
    let issuer = Issuer::new("https://as.example").unwrap();
    let server = ServerMetadata::new(issuer)
        .authorization_endpoint("https://as.example/authorize")
        .and_then(|server| server.token_endpoint("https://as.example/token"))
        .unwrap();
    let client = Client::new(CLIENT);
    let now = Now { wall: Timestamp::from_unix(NOW), ..Now::default() };
    let authorization =
        AuthorizationRequest::new(&server, &client, "http://127.0.0.1:53682/").scopes("openid email profile");
    let authorization = grantflow_tests::at_once(authorization.start(), &mut Cx::new(now, [7; 32])).unwrap();
    let sent = |name: &str| {
        let (_, query) = authorization.url.split_once('?').unwrap();
        let (_, value) = url::form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name).unwrap();
        value.into_owned()
    };
    let mut body = body();
    let nonce = sent("nonce");
    body["id_token"] = id_token(&nonce).into();
    let response = answer(body);
    let redirect = format!("code=c0de&state={}", sent("state"));
    // The ID token of a refresh is read and checked as that of the sign-in.
    let mut finish = authorization.pending.finish(&client, &redirect);
    let mut cx = Cx::new(now, [7; 32]);
    assert!(matches!(finish.resume(&mut cx, Reply::Start), Step::Do(_)));
    let Step::Done(Ok(token)) = finish.resume(&mut cx, Reply::Http(response.clone())) else { panic!("no token") };
    let ours = parse(TokenRequest::refresh(&server, &client, &token).unwrap());
    let copy = response.clone();
    vec![Work::new("grantflow", move || ours(&response)), Work::new("floor", move || floor(&copy, &nonce))]
}

pub(crate) fn id_token(nonce: &str) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"alg": "RS256", "kid": "55c188a83546fc188e515766ef7c3b4fbb6ab7b6", "typ": "JWT"}));
    let claims = part(json!({
        "iss": "https://as.example",
        "azp": CLIENT,
        "aud": CLIENT,
        "sub": "110169484474386276334",
        "email": "alice@example.com",
        "email_verified": true,
        "nonce": nonce,
        "name": "Alice Example",
        "picture": "https://lh3.example/a/ACg8ocK-photo=s96-c",
        "given_name": "Alice",
        "family_name": "Example",
        "iat": NOW,
        "exp": NOW + 3600,
    }));
    format!("{header}.{claims}.{}", "s1G-".repeat(85) + "ab")
}

#[derive(Deserialize)]
struct Fields<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_in: u64,
    refresh_token: Option<&'a str>,
    scope: Option<&'a str>,
    id_token: Option<&'a str>,
}

#[allow(dead_code, reason = "it is there to be made and dropped")]
pub(crate) struct Made {
    header: HeaderValue,
    bearer: bool,
    expires_at: i64,
    scopes: Option<Box<str>>,
    refresh_token: Option<Zeroizing<Box<str>>>,
    id_token: Option<IdToken>,
}

type IdToken = (Zeroizing<Box<str>>, Map<String, Value>);

/// The same fields, wiped the same, in the same header value.
pub(crate) fn floor(response: &Response<Vec<u8>>, nonce: &str) -> Made {
    let fields: Fields<'_> = serde_json::from_slice(response.body()).unwrap();
    let mut text = Vec::with_capacity(7 + fields.access_token.len());
    text.extend_from_slice(b"Bearer ");
    text.extend_from_slice(fields.access_token.as_bytes());
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(Zeroizing::new(text))).unwrap();
    header.set_sensitive(true);
    let secret = |text: &str| Zeroizing::new(Box::<str>::from(text));
    Made {
        header,
        bearer: fields.token_type.eq_ignore_ascii_case("bearer"),
        expires_at: NOW + fields.expires_in as i64,
        scopes: fields.scope.map(Into::into),
        refresh_token: fields.refresh_token.map(secret),
        id_token: fields.id_token.map(|jwt| (secret(jwt), claims(jwt, nonce))),
    }
}

/// The claims, each that matters to whether the token is ours looked at once.
fn claims(jwt: &str, nonce: &str) -> Map<String, Value> {
    #[derive(Deserialize)]
    struct Header<'a> {
        alg: &'a str,
        typ: Option<&'a str>,
        crit: Option<IgnoredAny>,
    }
    let mut parts = jwt.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let header = parts.next().unwrap();
    let header: Header<'_> = serde_json::from_slice(&header).unwrap();
    assert!(header.alg != "none" && header.typ == Some("JWT") && header.crit.is_none());
    let claims: Map<String, Value> = serde_json::from_slice(&parts.next().unwrap()).unwrap();
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let time = |name: &str| claims.get(name).and_then(Value::as_i64);
    assert!(text("iss") == Some("https://as.example") && text("aud") == Some(CLIENT) && text("azp") == Some(CLIENT));
    assert!(text("nonce") == Some(nonce) && text("sub").is_some() && !claims.contains_key("at_hash"));
    assert!(time("iat") <= Some(NOW) && time("exp") > Some(NOW) && !claims.contains_key("nbf"));
    claims
}
