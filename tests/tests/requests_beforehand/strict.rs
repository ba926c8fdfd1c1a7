//! The pretend server takes no signed request that is not as it should be, pushed or of a sign-in without a browser.

use grantflow_tests::IssuerKey;
use grantflow_tests::jwt::PublicKey;
use grantflow_tests::server::Wire;
use http::Request;
use serde_json::Value;

use super::*;

/// What is asked of the server, and what it says.
struct Strict {
    world: World,
    key: IssuerKey,
}

impl Strict {
    fn new() -> Self {
        let key = IssuerKey::es256("k");
        let client = registered().request_key(PublicKey::Es256(key.public()));
        Self { world: World::with(Server::demo().client(client)), key }
    }

    /// The status and the error of a form that is posted there, in the client's name unless told.
    fn post(&mut self, place: Place, form: &[(&str, &str)], authorization: Option<&str>) -> (u16, String) {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request::post(self.world.server().address(place))
            .header("content-type", "application/x-www-form-urlencoded");
        let request = authorization.into_iter().fold(request, |request, value| request.header("authorization", value));
        let now = self.world.now.wall;
        match self.world.server().answer(now, &request.body(body.into_bytes()).unwrap()).wire {
            Wire::Whole(response) => {
                let body: Value = serde_json::from_slice(response.body()).unwrap_or_default();
                (response.status().as_u16(), body["error"].as_str().unwrap_or_default().to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    fn now(&self) -> i64 {
        self.world.now.wall.as_unix()
    }
}

/// `app:app-secret`.
const BASIC: Option<&str> = Some("Basic YXBwOmFwcC1zZWNyZXQ=");
const STATE: &str = "a-state-that-nobody-guesses";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// The claims with one set to another value, or left out.
fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

#[test]
fn a_pushed_request_object_is_judged_to_the_letter() {
    let mut it = Strict::new();
    let now = it.now();
    let good = json!({"iss": "app", "aud": "https://as.example", "client_id": "app", "nbf": now - 10, "exp": now + 300,
        "response_type": "code", "redirect_uri": REDIRECT, "scope": "read", "state": STATE,
        "code_challenge": CHALLENGE, "code_challenge_method": "S256"});
    let typ = "oauth-authz-req+jwt";
    let push = |it: &mut Strict, object: &str| {
        it.post(Place::PushedRequest, &[("client_id", "app"), ("request", object)], BASIC)
    };
    let object = it.key.sign(typ, &good);
    assert_eq!(push(&mut it, &object), (201, String::new()));
    for (name, value) in [
        ("iss", json!(null)),
        ("iss", json!("other")),
        ("aud", json!(null)),
        ("aud", json!("https://other.example")),
        ("aud", json!(["https://as.example"])),
        ("client_id", json!(null)),
        ("client_id", json!("demo")),
        ("nbf", json!(null)),
        ("nbf", json!(now + 1)),
        ("exp", json!(null)),
        ("exp", json!(now)),
        ("exp", json!(now + 3600)),
        ("sub", json!("app")),
        ("request", json!("a.b.c")),
        ("request_uri", json!("urn:x")),
        ("max_age", json!("60")),
        ("claims", json!("{}")),
        ("scope", json!(["read"])),
        ("state", json!("")),
        ("made_up", json!("x")),
    ] {
        let object = it.key.sign(typ, &with(&good, name, value.clone()));
        assert_eq!(push(&mut it, &object), (400, "invalid_request_object".into()), "{name} {value}");
    }
    let other = IssuerKey::es256("k");
    let none = it.key.sign_with(&json!({"typ": typ, "alg": "none"}), &good);
    for object in [it.key.sign("JWT", &good), other.sign(typ, &good), none, "no jwt".into(), "a.b.c".into()] {
        assert_eq!(push(&mut it, &object), (400, "invalid_request_object".into()), "{object}");
    }
    let stray = it.key.sign(typ, &with(&good, "redirect_uri", json!("https://evil.example/")));
    assert_eq!(push(&mut it, &stray), (400, "invalid_request".into()));
    // What stands beside it, and who pushes.
    let object = it.key.sign(typ, &good);
    for (form, authorization, status, error) in [
        (vec![("client_id", "app"), ("request", &*object), ("state", STATE)], BASIC, 400, "invalid_request"),
        (vec![("client_id", "app"), ("request", &object), ("request_uri", "urn:x")], BASIC, 400, "invalid_request"),
        (vec![("client_id", "app"), ("request", &object), ("request", &object)], BASIC, 400, "invalid_request"),
        (vec![("request", &object)], BASIC, 400, "invalid_request"),
        (vec![("client_id", "demo"), ("request", &object)], BASIC, 400, "invalid_request"),
        (vec![("client_id", "app"), ("request", &object)], None, 401, "invalid_client"),
        (vec![("client_id", "app"), ("request", &object)], Some("Basic YXBwOng="), 401, "invalid_client"),
        (vec![("client_id", "app"), ("response_type", "code"), ("state", STATE)], BASIC, 400, "invalid_request"),
    ] {
        let told = it.post(Place::PushedRequest, &form, authorization);
        assert_eq!(told, (status, error.to_owned()), "{form:?} {authorization:?}");
    }
}

#[test]
fn a_signed_request_for_a_sign_in_without_a_browser_is_judged_to_the_letter() {
    let mut it = Strict::new();
    let now = it.now();
    let good = json!({"iss": "app", "aud": "https://as.example", "iat": now, "nbf": now, "exp": now + 300,
        "jti": "0123456789012345678901", "scope": "openid", "login_hint": "alice"});
    let ask = |it: &mut Strict, form: &[(&str, &str)]| it.post(Place::Backchannel, form, BASIC);
    let object = it.key.sign("JWT", &good);
    assert_eq!(ask(&mut it, &[("request", &object)]), (200, String::new()));
    for (name, value, error) in [
        ("iss", json!(null), "invalid_request"),
        ("iss", json!("other"), "invalid_request"),
        ("aud", json!("https://other.example"), "invalid_request"),
        ("iat", json!(null), "invalid_request"),
        ("iat", json!(now + 1), "invalid_request"),
        ("nbf", json!(null), "invalid_request"),
        ("nbf", json!(now + 1), "invalid_request"),
        ("exp", json!(now), "invalid_request"),
        ("exp", json!(now + 3601), "invalid_request"),
        ("jti", json!("short"), "invalid_request"),
        ("scope", json!("read"), "invalid_request"),
        ("scope", json!(["openid"]), "invalid_request"),
        ("login_hint", json!(null), "invalid_request"),
        ("login_hint", json!("mallory"), "unknown_user_id"),
        ("login_hint_token", json!("x"), "invalid_request"),
        ("client_notification_token", json!("short"), "invalid_request"),
        ("binding_message", json!("x".repeat(21)), "invalid_binding_message"),
        ("requested_expiry", json!("60"), "invalid_request"),
        ("made_up", json!("x"), "invalid_request"),
    ] {
        let object = it.key.sign("JWT", &with(&good, name, value.clone()));
        assert_eq!(ask(&mut it, &[("request", &object)]), (400, error.to_owned()), "{name} {value}");
    }
    let (object, forged) = (it.key.sign("JWT", &good), IssuerKey::es256("k").sign("JWT", &good));
    let none = it.key.sign_with(&json!({"alg": "none"}), &good);
    for form in [
        vec![("request", &*forged)],
        vec![("request", &none)],
        vec![("request", "no jwt")],
        vec![("request", &object), ("binding_message", "1")],
        vec![("scope", "openid"), ("login_hint", "alice")],
    ] {
        assert_eq!(ask(&mut it, &form), (400, "invalid_request".into()), "{form:?}");
    }
    assert_eq!(it.post(Place::Backchannel, &[("request", &object)], None).0, 400, "nobody asks");
}
