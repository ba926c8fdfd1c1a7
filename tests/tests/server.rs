//! The pretend server is strict: what passes there passes elsewhere.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grantflow::Timestamp;
use grantflow_tests::demo::REDIRECT;
use grantflow_tests::server::{Consent, RefreshTokens, Wire};
use grantflow_tests::{Front, Place, Registered, Server, person};
use http::{Request, Response};
use serde_json::Value;

const NOW: Timestamp = Timestamp::from_unix(1_795_176_000);
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// Of [`VERIFIER`] (RFC 7636, appendix B).
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const STATE: &str = "a-state-that-is-hard-to-guess";

fn server() -> Server {
    Server::demo().client(Registered::post("posting", "posting-secret")).client(Registered::public("other"))
}

fn answer(server: &mut Server, now: Timestamp, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    match server.answer(now, &request).wire {
        Wire::Whole(response) => response,
        other => panic!("{other:?}"),
    }
}

fn authorize(server: &mut Server, pairs: &[(&str, &str)]) -> Response<Vec<u8>> {
    let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let request = Request::get(format!("{}?{query}", server.address(Place::Authorize))).body(Vec::new()).unwrap();
    answer(server, NOW, request)
}

fn post(server: &mut Server, now: Timestamp, place: Place, pairs: &[(&str, &str)]) -> (u16, Value) {
    let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let request = Request::post(server.address(place)).header("content-type", "application/x-www-form-urlencoded");
    let response = answer(server, now, request.body(body.into_bytes()).unwrap());
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or(Value::Null))
}

const GOOD: [(&str, &str); 7] = [
    ("response_type", "code"),
    ("client_id", "demo"),
    ("redirect_uri", REDIRECT),
    ("scope", "read"),
    ("state", STATE),
    ("code_challenge", CHALLENGE),
    ("code_challenge_method", "S256"),
];

/// The good parameters with one set to another value, or left out.
fn with<'a>(good: &[(&'a str, &'a str)], name: &'a str, value: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let rest = good.iter().copied().filter(|(other, _)| *other != name);
    rest.chain(value.map(|value| (name, value))).collect()
}

fn code(server: &mut Server) -> String {
    let response = authorize(server, &GOOD);
    let location = response.headers()["location"].to_str().unwrap();
    let (_, query) = location.split_once('?').unwrap();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "code").expect("a code").1.into_owned()
}

fn redemption(code: &str) -> [(&str, &str); 5] {
    [
        ("grant_type", "authorization_code"),
        ("client_id", "demo"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ]
}

#[test]
fn authorization_requests_are_judged_to_the_letter() {
    // No way back: a page. A way back: the error travels there, with state and iss.
    for (name, value) in [
        ("client_id", None),
        ("client_id", Some("unknown")),
        ("redirect_uri", None),
        ("redirect_uri", Some("https://evil.example/callback")),
        ("redirect_uri", Some("http://127.0.0.1:1/other")),
        ("redirect_uri", Some("http://127.0.0.1.evil.example:1/callback")),
        ("redirect_uri", Some("http://127.0.0.1:1/callback/")),
        ("redirect_uri", Some("http://127.0.0.1:1x/callback")),
        ("made_up", Some("x")),
        ("scope", Some("")),
    ] {
        let response = authorize(&mut server(), &with(&GOOD, name, value));
        assert!(response.status() == 400 && !response.headers().contains_key("location"), "{name} {value:?}");
    }
    let twice = [&GOOD[..], &[("state", STATE)]].concat();
    assert_eq!(authorize(&mut server(), &twice).status(), 400);
    for (name, value, error) in [
        ("response_type", None, "unsupported_response_type"),
        ("response_type", Some("token"), "unsupported_response_type"),
        ("code_challenge", None, "invalid_request"),
        ("code_challenge_method", None, "invalid_request"),
        ("code_challenge_method", Some("s256"), "invalid_request"),
        ("code_challenge", Some("short"), "invalid_request"),
        ("state", None, "invalid_request"),
        ("state", Some("short"), "invalid_request"),
        ("scope", Some("everything"), "invalid_scope"),
        ("scope", Some("openid"), "invalid_request"),
        ("nonce", Some("without openid"), "invalid_request"),
    ] {
        let response = authorize(&mut server(), &with(&GOOD, name, value));
        let location = response.headers()["location"].to_str().unwrap();
        assert!(location.starts_with(&format!("{REDIRECT}?error={error}&")), "{name} {value:?}: {location}");
        assert!(location.ends_with("iss=https%3A%2F%2Fas.example"), "{location}");
        assert_eq!(location.contains(&format!("state={STATE}")), name != "state", "{location}");
    }
}

#[test]
fn a_code_is_redeemed_once_by_whom_it_was_made_for() {
    let mut server = server();
    for (name, value, status, error) in [
        ("grant_type", None, 400, "invalid_request"),
        ("grant_type", Some("implicit"), 400, "unsupported_grant_type"),
        ("client_id", None, 400, "invalid_request"),
        ("client_id", Some("unknown"), 401, "invalid_client"),
        ("client_id", Some("other"), 400, "invalid_grant"),
        ("client_id", Some("batch"), 401, "invalid_client"),
        ("client_secret", Some("x"), 401, "invalid_client"),
        ("code", None, 400, "invalid_request"),
        ("code", Some("made-up"), 400, "invalid_grant"),
        ("redirect_uri", None, 400, "invalid_request"),
        ("redirect_uri", Some("http://127.0.0.1:49153/callback"), 400, "invalid_grant"),
        ("code_verifier", None, 400, "invalid_request"),
        ("code_verifier", Some(CHALLENGE), 400, "invalid_grant"),
        ("code_verifier", Some("short"), 400, "invalid_grant"),
        ("scope", Some("read"), 400, "invalid_request"),
        ("username", Some("x"), 400, "invalid_request"),
    ] {
        let code = code(&mut server);
        let (got, body) = post(&mut server, NOW, Place::Token, &with(&redemption(&code), name, value));
        assert_eq!((got, body["error"].as_str()), (status, Some(error)), "{name} {value:?}");
    }
    let code = code(&mut server);
    let (status, token) = post(&mut server, NOW, Place::Token, &redemption(&code));
    assert_eq!(status, 200);
    let token = token["access_token"].as_str().unwrap();
    assert!(server.accepts(token, NOW));
    assert!(!server.accepts(token, NOW + Duration::from_secs(3600)), "tokens end");
    let (status, body) = post(&mut server, NOW, Place::Token, &redemption(&code));
    assert_eq!((status, body["error"].as_str()), (400, Some("invalid_grant")));
    assert!(!server.accepts(token, NOW), "a code used twice ends what it gave (RFC 6749, section 4.1.2)");
}

#[test]
fn a_code_ends_after_a_minute() {
    let mut server = server();
    let code = code(&mut server);
    let late = NOW + Duration::from_secs(60);
    assert_eq!(post(&mut server, late, Place::Token, &redemption(&code)).1["error"], "invalid_grant");
}

#[test]
fn a_rotated_refresh_token_used_again_ends_the_family() {
    let mut server = server().with(|s| s.refresh_tokens = RefreshTokens::Rotate { grace: Duration::from_secs(10) });
    let code = code(&mut server);
    let (_, first) = post(&mut server, NOW, Place::Token, &redemption(&code));
    let refresh = |server: &mut Server, now, token: &Value| {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", "demo"),
            ("refresh_token", token["refresh_token"].as_str().unwrap()),
        ];
        post(server, now, Place::Token, &form)
    };
    let (_, second) = refresh(&mut server, NOW, &first);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!(refresh(&mut server, NOW + Duration::from_secs(10), &first).0, 200, "in the grace time");
    assert_eq!(refresh(&mut server, NOW + Duration::from_secs(11), &first).1["error"], "invalid_grant");
    assert_eq!(refresh(&mut server, NOW, &second).1["error"], "invalid_grant");
    assert!(!server.accepts(second["access_token"].as_str().unwrap(), NOW));
}

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A device of the client `demo` gets its codes: the answer.
fn device(server: &mut Server) -> Value {
    let (status, body) = post(server, NOW, Place::Device, &[("client_id", "demo"), ("scope", "read")]);
    assert_eq!(status, 200, "{body}");
    body
}

/// What the device is told this many seconds later, with one parameter set to another value, or left out.
fn poll(server: &mut Server, device: &Value, seconds: u64, name: &str, value: Option<&str>) -> (u16, Value) {
    let code = device["device_code"].as_str().unwrap();
    let good = [("grant_type", DEVICE), ("client_id", "demo"), ("device_code", code)];
    post(server, NOW + Duration::from_secs(seconds), Place::Token, &with(&good, name, value))
}

fn enter(server: &mut Server, seconds: u64, query: &str) -> u16 {
    let request = Request::get(server.address(Place::Verification) + query).body(Vec::new()).unwrap();
    answer(server, NOW + Duration::from_secs(seconds), request).status().as_u16()
}

fn user_code(device: &Value) -> String {
    format!("?user_code={}", device["user_code"].as_str().unwrap())
}

#[test]
fn a_device_gets_codes_in_the_name_of_a_known_client() {
    for (name, value, status, error) in [
        ("client_id", None, 400, "invalid_request"),
        ("client_id", Some("unknown"), 401, "invalid_client"),
        ("client_id", Some("batch"), 401, "invalid_client"),
        ("client_secret", Some("x"), 401, "invalid_client"),
        ("scope", Some("everything"), 400, "invalid_scope"),
        ("scope", Some(""), 400, "invalid_request"),
        ("nonce", Some("x"), 400, "invalid_request"),
    ] {
        let form = with(&[("client_id", "demo"), ("scope", "read")], name, value);
        let (got, body) = post(&mut server(), NOW, Place::Device, &form);
        assert_eq!((got, body["error"].as_str()), (status, Some(error)), "{name} {value:?}");
    }
    let mut server = server();
    let (first, second) = (device(&mut server), device(&mut server));
    for name in ["device_code", "user_code"] {
        assert_ne!(first[name], second[name], "{name}");
    }
    let uri = server.address(Place::Verification);
    assert_eq!(first["verification_uri"].as_str(), Some(&*uri));
    assert_eq!(first["verification_uri_complete"].as_str(), Some(&*(uri + &user_code(&first))));
    assert_eq!((first["expires_in"].as_u64(), first["interval"].as_u64()), (Some(1800), Some(5)));
    server.settings.device_interval = None;
    assert_eq!(device(&mut server)["interval"], Value::Null);
    let get = Request::get(server.address(Place::Device)).body(Vec::new()).unwrap();
    assert_eq!(answer(&mut server, NOW, get).status(), 405);
}

#[test]
fn a_device_gets_its_token_once_and_only_with_its_own_code() {
    let mut server = server();
    let asking = device(&mut server);
    assert_eq!(enter(&mut server, 1, &user_code(&asking)), 200);
    for (name, value, status, error) in [
        ("grant_type", None, 400, "invalid_request"),
        ("grant_type", Some("device_code"), 400, "unsupported_grant_type"),
        ("grant_type", Some("authorization_code"), 400, "invalid_request"),
        ("client_id", None, 400, "invalid_request"),
        ("client_id", Some("unknown"), 401, "invalid_client"),
        ("client_id", Some("other"), 400, "invalid_grant"),
        ("device_code", None, 400, "invalid_request"),
        ("device_code", Some("made-up"), 400, "invalid_grant"),
        ("scope", Some("read"), 400, "invalid_request"),
    ] {
        let (got, body) = poll(&mut server, &asking, 5, name, value);
        assert_eq!((got, body["error"].as_str()), (status, Some(error)), "{name} {value:?}");
    }
    let (status, token) = poll(&mut server, &asking, 5, "", None);
    assert_eq!(status, 200, "{token}");
    assert!(server.accepts(token["access_token"].as_str().unwrap(), NOW) && token["refresh_token"].is_string());
    let (status, body) = poll(&mut server, &asking, 10, "", None);
    assert_eq!((status, body["error"].as_str()), (400, Some("invalid_grant")));
}

#[test]
fn a_device_proves_by_pkce_what_it_has_promised_and_no_more() {
    let asked = |server: &mut Server, challenge: &[(&str, &str)]| {
        post(server, NOW, Place::Device, &[&[("client_id", "demo"), ("scope", "read")], challenge].concat())
    };
    let good = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
    for (name, value) in [
        ("code_challenge", None),
        ("code_challenge", Some("short")),
        ("code_challenge_method", None),
        ("code_challenge_method", Some("s256")),
        ("code_challenge_method", Some("plain")),
    ] {
        let (status, body) = asked(&mut server(), &with(&good, name, value));
        assert_eq!((status, body["error"].as_str()), (400, Some("invalid_request")), "{name} {value:?}");
    }
    let mut server = server().with(|settings| settings.device_pkce = true);
    assert_eq!(asked(&mut server, &[]).1["error"], "invalid_request", "it is demanded");
    server.settings.device_pkce = false;
    let (promised, plain) = (asked(&mut server, &good).1, device(&mut server));
    for asking in [&promised, &plain] {
        assert_eq!(enter(&mut server, 1, &user_code(asking)), 200);
    }
    for verifier in [None, Some(CHALLENGE), Some("short")] {
        assert_eq!(
            poll(&mut server, &promised, 5, "code_verifier", verifier).1["error"],
            "invalid_grant",
            "{verifier:?}"
        );
    }
    assert_eq!(poll(&mut server, &plain, 5, "code_verifier", Some(VERIFIER)).1["error"], "invalid_grant");
    for (asking, verifier) in [(&promised, Some(VERIFIER)), (&plain, None)] {
        assert_eq!(poll(&mut server, asking, 5, "code_verifier", verifier).0, 200);
    }
    // As at Google, where it is no parameter of a device.
    server.settings.device_like_google = true;
    assert_eq!(asked(&mut server, &good).1["error"], "invalid_request");
}

#[test]
fn a_device_that_asks_too_soon_is_slowed_down_each_time_by_five_seconds() {
    let mut server = server();
    let asking = device(&mut server);
    for (seconds, error) in [
        (4, "slow_down"), // Now 10 s.
        (14, "authorization_pending"),
        (23, "slow_down"), // Now 15 s, and it counts from here.
        (37, "slow_down"), // Now 20 s.
        (57, "authorization_pending"),
    ] {
        let (status, body) = poll(&mut server, &asking, seconds, "", None);
        assert_eq!((status, body["error"].as_str()), (400, Some(error)), "at {seconds}");
    }
    enter(&mut server, 60, &user_code(&asking));
    assert_eq!(poll(&mut server, &asking, 61, "", None).1["error"], "slow_down", "whatever was decided");
    server.settings.device_interval = None;
    let asking = device(&mut server);
    assert_eq!(poll(&mut server, &asking, 4, "", None).1["error"], "slow_down", "5 s, unless told (section 3.2)");
}

#[test]
fn a_device_is_told_that_the_person_said_no_or_never_came() {
    let mut server = server();
    let (denied, late) = (device(&mut server), device(&mut server));
    server.settings.consent = Consent::Deny("access_denied");
    assert_eq!(enter(&mut server, 1, &user_code(&denied)), 200);
    for seconds in [5, 10] {
        assert_eq!(poll(&mut server, &denied, seconds, "", None).1["error"], "access_denied");
    }
    assert_eq!(poll(&mut server, &late, 1799, "", None).1["error"], "authorization_pending");
    assert_eq!(enter(&mut server, 1800, &user_code(&late)), 404, "the code has ended");
    assert_eq!(poll(&mut server, &late, 1805, "", None).1["error"], "expired_token");
}

#[test]
fn a_persons_code_is_taken_once_as_it_is_shown() {
    let mut server = server();
    let asking = device(&mut server);
    let code = user_code(&asking);
    assert_eq!(enter(&mut server, 1, ""), 200, "the page to enter it");
    for wrong in [code.to_lowercase(), code.replace('-', ""), format!("{code}{code}"), "?user_code=".into()] {
        assert!(matches!(enter(&mut server, 1, &wrong), 400 | 404), "{wrong}");
    }
    assert_eq!(enter(&mut server, 1, &code), 200);
    assert_eq!(enter(&mut server, 2, &code), 409, "a second time");
    assert_eq!(poll(&mut server, &asking, 5, "", None).0, 200);
}

#[test]
fn google_treats_devices_in_its_own_way() {
    let mut server = server().with(|settings| settings.device_like_google = true);
    let (_, public) = post(&mut server, NOW, Place::Device, &[("client_id", "demo")]);
    assert_eq!(poll(&mut server, &public, 5, "", None).1["error"], "invalid_request", "a secret is needed");
    let client = [("client_id", "posting"), ("client_secret", "posting-secret")];
    let (_, asking) = post(&mut server, NOW, Place::Device, &client);
    let uri = server.address(Place::Verification);
    assert_eq!(asking["verification_url"].as_str(), Some(&*uri));
    assert!(asking["verification_uri"].is_null() && asking["verification_uri_complete"].is_null());
    let good =
        [&client[..], &[("grant_type", DEVICE), ("device_code", asking["device_code"].as_str().unwrap())]].concat();
    server.settings.consent = Consent::Deny("access_denied");
    for (seconds, status, error) in [
        (5, 428, "authorization_pending"),
        (6, 403, "slow_down"),
        (16, 403, "access_denied"),
        (1800, 400, "expired_token"),
    ] {
        let (got, body) = post(&mut server, NOW + Duration::from_secs(seconds), Place::Token, &good);
        assert_eq!((got, body["error"].as_str()), (status, Some(error)), "at {seconds}");
        enter(&mut server, seconds, &user_code(&asking));
    }
}

#[test]
fn a_client_proves_itself_in_its_own_way_only() {
    let basic = |id: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    for (header, id, secret, status) in [
        (Some(basic("batch", "batch-secret")), None, None, 200),
        (Some(basic("batch", "batch%2Dsecret")), None, None, 200),
        (Some(basic("batch", "wrong")), None, None, 401),
        (Some(basic("demo", "")), None, None, 401),
        (Some("Bearer x".into()), None, None, 401),
        (Some("Basic !".into()), None, None, 401),
        (Some(basic("batch", "batch-secret")), Some("batch"), None, 400),
        (Some(basic("batch", "batch-secret")), None, Some("batch-secret"), 400),
        (None, Some("batch"), Some("batch-secret"), 401),
        (None, Some("posting"), Some("posting-secret"), 200),
        (None, Some("posting"), Some("wrong"), 401),
        (None, Some("posting"), None, 401),
        (Some(basic("posting", "posting-secret")), None, None, 401),
        (None, None, None, 400),
        (None, Some("demo"), None, 400),
    ] {
        let mut form = url::form_urlencoded::Serializer::new(String::from("grant_type=client_credentials"));
        form.extend_pairs(id.map(|id| ("client_id", id)));
        form.extend_pairs(secret.map(|secret| ("client_secret", secret)));
        let mut server = server();
        let mut request =
            Request::post(server.address(Place::Token)).header("content-type", "application/x-www-form-urlencoded");
        if let Some(header) = &header {
            request = request.header("authorization", header);
        }
        let response = answer(&mut server, NOW, request.body(form.finish().into_bytes()).unwrap());
        assert_eq!(response.status(), status, "{header:?} {id:?} {secret:?}");
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
    }
}

#[test]
fn a_form_is_posted_as_one_and_nowhere_else() {
    let body = b"grant_type=client_credentials&client_id=posting&client_secret=posting-secret".to_vec();
    let form = "application/x-www-form-urlencoded";
    for (method, types, query, status) in [
        ("POST", &[form][..], "", 200),
        ("POST", &[], "", 400),
        ("POST", &["application/json"], "", 400),
        ("POST", &[form, form], "", 400),
        ("POST", &[form], "?x=y", 400),
        ("GET", &[form], "", 405),
        ("PUT", &[form], "", 405),
    ] {
        let mut server = server();
        let mut request = Request::builder().method(method).uri(server.address(Place::Token) + query);
        for kind in types {
            request = request.header("content-type", *kind);
        }
        let response = answer(&mut server, NOW, request.body(body.clone()).unwrap());
        assert_eq!(response.status(), status, "{method} {types:?} {query}");
    }
    let mut server = server();
    let twice = [body, b"&grant_type=client_credentials".to_vec()].concat();
    let request = Request::post(server.address(Place::Token)).header("content-type", form).body(twice).unwrap();
    assert_eq!(answer(&mut server, NOW, request).status(), 400);
}

#[test]
fn the_resource_wants_a_token_that_lives() {
    let mut server = server();
    let code = code(&mut server);
    let (_, token) = post(&mut server, NOW, Place::Token, &redemption(&code));
    let token = token["access_token"].as_str().unwrap();
    let mut get = |authorization: Option<String>| {
        let mut request = Request::get(server.address(Place::Resource));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let response = answer(&mut server, NOW, request.body(Vec::new()).unwrap());
        let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), challenge.unwrap_or_default())
    };
    assert_eq!(get(Some(format!("Bearer {token}"))), (200, String::new()));
    assert_eq!(get(None), (401, "Bearer realm=\"resource\"".into()), "no error where no token was shown");
    assert!(get(Some("Bearer other".into())).1.contains("invalid_token"));
    let (status, _) = post(&mut server, NOW, Place::Revoke, &[("client_id", "demo"), ("token", token)]);
    assert_eq!(status, 200);
    let request = Request::get(server.address(Place::Resource)).header("authorization", format!("Bearer {token}"));
    assert_eq!(answer(&mut server, NOW, request.body(Vec::new()).unwrap()).status(), 401);
}

#[test]
fn over_tcp_it_is_the_same_server() {
    let front = Front::start(server()).unwrap();
    let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(GOOD).finish();
    let redirect = person::answer(&format!("{}?{query}", front.url(Place::Authorize))).unwrap();
    assert!(redirect.starts_with(REDIRECT) && redirect.contains("code="), "{redirect}");
    assert_eq!(person::get(&front.url(Place::Elsewhere)).unwrap().status, 404);
    assert_eq!((front.server().seen().len(), front.connections()), (2, 2));
    let address = front.address();
    drop(front);
    assert!(std::net::TcpStream::connect(address).is_err(), "it is gone with its front");
}
