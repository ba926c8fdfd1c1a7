//! Service accounts of Google Distributed Cloud.

use std::time::Duration;

use grantflow::google::{GdchServiceAccount, GoogleCredential};
use grantflow::source::{TokenSource, Want};
use grantflow::{Cx, Effect, ErrorKind, Machine, Now, Reply, Step};
use grantflow_tests::World;
use grantflow_tests::google::{gdch_json, jwt_parts};
use serde_json::{Value, json};

use super::{NOW, whole, with};

fn account() -> GdchServiceAccount {
    GdchServiceAccount::from_json_with_any_server(gdch_json().to_string()).unwrap()
}

#[test]
fn an_assertion_by_its_key_is_exchanged_as_json() {
    let want = Want::default().audience("https://storage.demo.example");
    let mut mint = account().mint(&want, &account().first_state());
    let mut cx = Cx::new(Now { wall: NOW + Duration::from_secs(10), mono: Duration::ZERO }, [1; 32]);
    let Step::Do(Effect::Http(call)) = mint.resume(&mut cx, Reply::Start) else { panic!("no request") };
    let request = call.open(grantflow::machine::Rules::V1).unwrap().request.clone();
    assert_eq!(request.uri(), "https://service-identity.demo.example/authenticate");
    assert_eq!(request.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    let (header, claims) = jwt_parts(body["subject_token"].as_str().unwrap());
    assert_eq!(header, json!({"alg": "ES256", "typ": "JWT", "kid": "1a2b3c"}));
    let name = "system:serviceaccount:demo-gdch:svc-name";
    let (iat, aud) = (NOW.as_unix(), "https://service-identity.demo.example/authenticate");
    assert_eq!(claims, json!({"iss": name, "sub": name, "aud": aud, "iat": iat, "exp": iat + 3600}));
    assert_eq!(
        with(body, &json!({"subject_token": null})),
        json!({"grant_type": "urn:ietf:params:oauth:token-type:token-exchange", "audience": "https://storage.demo.example",
               "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
               "subject_token_type": "urn:k8s:params:oauth:token-type:serviceaccount"})
    );
    let answer = json!({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}).to_string();
    let Step::Done(Ok(token)) = mint.resume(&mut cx, Reply::Http(http::Response::new(answer.into_bytes()))) else {
        panic!("no token")
    };
    assert_eq!(token.expires_at(), Some(NOW + Duration::from_secs(3610)));
    assert_eq!(account().ca_cert_path().unwrap().to_str(), Some("/etc/ssl/gdch-ca.pem"));
}

#[test]
fn only_an_audience_is_wanted() {
    for want in [Want::default(), Want::access_token("a").audience("x"), Want::id_token("x")] {
        let error = World::default().mint(&account(), &want).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{want:?}");
    }
}

#[test]
fn its_server_is_named_only_by_a_file_that_is_trusted() {
    let error = GoogleCredential::from_json_of_any_type(gdch_json().to_string()).unwrap_err();
    assert!(whole(&error).contains("`token_uri`") && whole(&error).contains("with_any_server"), "{}", whole(&error));
    for (name, value) in [
        ("format_version", json!("2")),
        ("name", Value::Null),
        ("project", Value::Null),
        ("private_key", json!("x")),
        ("private_key_id", Value::Null),
        ("token_uri", json!("http://service-identity.demo.example/authenticate")),
    ] {
        let file = with(gdch_json(), &json!({name: value}));
        let error = GdchServiceAccount::from_json_with_any_server(file.to_string()).unwrap_err();
        assert!(whole(&error).contains(&format!("`{name}`")), "{name}: {}", whole(&error));
    }
}
