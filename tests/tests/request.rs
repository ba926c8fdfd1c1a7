//! Requests of one's own, as sources and signers of tokens make them.

use grantflow::exchange::Request;
use grantflow::{
    Client, ClientAuthentication, DeviceAuthorization, Effect, Endpoint, Error, ErrorKind, Exchange, Issuer, Machine,
    Reply, Revocation, Secret, Step, Timestamp, Token, TokenRequest,
};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::kms::Es256;
use grantflow_tests::{Server, World, canary};
use http::Method;
use serde_json::json;

fn endpoint() -> Endpoint {
    Endpoint::new("https://vault.example/v1/transit/sign/key?x=y").unwrap()
}

fn post() -> Request {
    Request::post("asking the vault", &endpoint())
}

fn sent(request: &Request) -> Result<http::Request<Vec<u8>>, Error> {
    request.to_http(&mut World::default().cx())
}

#[test]
fn a_request_is_of_any_method_with_json_or_a_form_or_nothing() {
    let json = sent(&post().json(&json!({"a": [1, "ü\n"]}))).unwrap();
    assert_eq!((json.method(), json.body().as_slice()), (&Method::POST, r#"{"a":[1,"ü\n"]}"#.as_bytes()));
    assert_eq!(
        (&json.headers()["content-type"], &json.headers()["accept"]),
        (&"application/json".parse().unwrap(), &"application/json".parse().unwrap())
    );
    assert_eq!(json.uri().to_string(), "https://vault.example/v1/transit/sign/key?x=y");

    let form = sent(&Request::new("x", Method::PUT, &endpoint()).param("a", "b c")).unwrap();
    assert_eq!((form.method(), form.body().as_slice()), (&Method::PUT, &b"a=b+c"[..]));
    assert_eq!(form.headers()["content-type"], "application/x-www-form-urlencoded");

    for method in [Method::DELETE, Method::from_bytes(b"LIST").unwrap()] {
        let bare = sent(&Request::new("x", method.clone(), &endpoint())).unwrap();
        assert!(bare.method() == method && bare.body().is_empty() && !bare.headers().contains_key("content-type"));
    }
    let patch = Request::new("x", Method::PATCH, &endpoint()).json(&1).header("content-type", "application/json-patch");
    assert_eq!(sent(&patch).unwrap().headers()["content-type"], "application/json-patch");
    let other = sent(&Request::get("x", &endpoint()).header("Accept", "text/plain")).unwrap();
    assert_eq!(other.headers().get_all("accept").iter().collect::<Vec<_>>(), ["text/plain"]);
}

#[test]
fn what_cannot_be_one_request_is_an_error_where_it_is_made() {
    let secret = Secret::from("s3cr3t-value");
    let token = Token::bearer("at", Timestamp::from_unix(0), None).unwrap();
    let basic = Client::new("c").authentication(ClientAuthentication::client_secret_basic("s3cr3t-value"));
    let issuer = Issuer::new("https://as.example").unwrap();
    for (name, request) in [
        ("json twice", post().json(&1).json(&2)),
        ("json after a form", post().param("a", "b").json(&1)),
        ("a form after json", post().json(&1).param("a", "b")),
        ("a form in a GET", Request::get("x", &endpoint()).param("a", "b")),
        ("a form in a HEAD", Request::new("x", Method::HEAD, &endpoint()).param("a", "b")),
        ("a parameter twice", post().param("a", "b").param("a", "c")),
        ("a secret twice", post().secret("a", &secret).secret("a", &secret)),
        ("a reserved parameter", post().extra("client_assertion", "x")),
        ("a header twice", post().header("x-a", "b").header("X-A", "c")),
        ("a secret header twice", post().secret_header("x-a", &secret).header("x-a", "c")),
        ("two authorizations", post().authenticate(&basic, &issuer).secret_header("authorization", &secret)),
        ("two authorizations", post().secret_header("authorization", &secret).authenticate(&basic, &issuer)),
        ("two authorizations", post().secret_header("authorization", &secret).bearer(&token).unwrap()),
        ("two authorizations", post().bearer(&token).unwrap().authenticate(&basic, &issuer)),
        ("a client in json", post().json(&1).authenticate(&Client::new("c"), &issuer)),
        ("a client in json", post().authenticate(&Client::new("c"), &issuer).json(&1)),
        ("no header", post().header("x a", "b")),
        ("no header", post().header("", "b")),
        ("a line end", post().header("x-a", "b\r\nx: y")),
        ("a line end", post().secret_header("x-a", &"s3cr3t-value\n".into())),
        ("a value that is no JSON", post().json(&std::collections::BTreeMap::from([(vec![1], 1)]))),
    ] {
        let error = sent(&request).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Config, "{name}");
        canary::hidden("an error", &format!("{error} {error:?}"), &["s3cr3t-value"]);
        // The same, before anything is sent.
        let mut world = World::default();
        assert_eq!(world.run(request.exchange(|_| Ok(()))).expect_err(name).kind(), ErrorKind::Config);
        assert!(world.did().is_empty(), "{name}");
    }
    for name in ["host", "Content-Length", "transfer-encoding", "connection", "accept-encoding", "te", "expect"] {
        assert_eq!(sent(&post().header(name, "x")).unwrap_err().kind(), ErrorKind::Config, "{name}");
        assert_eq!(sent(&post().secret_header(name, &secret)).unwrap_err().kind(), ErrorKind::Config, "{name}");
    }
}

fn answered(request: Request, status: u16, body: &str) -> Result<Vec<u8>, Error> {
    let mut world = World::default();
    let mut exchange: Exchange<Vec<u8>> = request.exchange(|received| Ok(received.response.body().clone()));
    let Step::Do(Effect::Http(_)) = exchange.resume(&mut world.cx(), Reply::Start) else { panic!("no request") };
    let response = http::Response::builder().status(status).body(body.as_bytes().to_vec()).unwrap();
    match exchange.resume(&mut world.cx(), Reply::Http(response)) {
        Step::Done(result) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_is_bytes_and_an_error_shows_no_secret_that_was_sent() {
    assert_eq!(answered(post().json(&1), 200, "\u{1}x").unwrap(), b"\x01x");
    let [header, bearer, inside] = ["hvs.c4n4ry-he4der", "c4n4ry/be4rer", "c4n4ry-ins1de"];
    let request = || {
        post()
            .secret_header("x-vault-token", &header.into())
            .secret_header("authorization", &format!("Bearer {bearer}").into())
            .json(&json!({"secret_id": inside}))
            .keeps_secret(&inside.into())
    };
    let http = sent(&request()).unwrap();
    for name in ["x-vault-token", "authorization"] {
        assert!(http.headers()[name].is_sensitive(), "{name}");
    }
    let body = json!({"error": "no", "error_description": format!("{header} {bearer} {inside} c4n4ry%2Fbe4rer")});
    for status in [400, 401, 500] {
        let error = answered(request().repeat(grantflow::machine::Repeat::OnlyIfUnsent), status, &body.to_string());
        let error = error.unwrap_err();
        hidden_in_error(&error, &[header, bearer, inside]);
        assert_eq!(error.server().unwrap().error_description(), Some("*** *** *** ***"));
    }
    canary::hidden_in_debug("a request", &request(), &[header, bearer, inside]);
}

#[test]
fn a_client_of_another_server_is_shown_to_none() {
    let issuer = |text| Issuer::new(text).unwrap();
    let secret = "c4n4ry-s3cret-of-more-than-32-bytes";
    let server = Server::demo().metadata();
    for authentication in [
        ClientAuthentication::none(),
        ClientAuthentication::client_secret_basic(secret),
        ClientAuthentication::client_secret_post(secret),
        ClientAuthentication::client_secret_jwt(secret),
        ClientAuthentication::private_key_jwt(Es256::default()),
        ClientAuthentication::apple("TEAM", Es256::default()),
    ] {
        let client = Client::new("c").authentication(authentication);
        for other in ["https://other.example", "https://as.example/", "https://as.example:8443"] {
            let client = client.clone().registered_at(issuer(other));
            let request = post().authenticate(&client, server.issuer());
            let error = sent(&request).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Issuer, "{other}");
            hidden_in_error(&error, &[secret]);
            let refresh = TokenRequest::refresh_token(&server, &client, &"rt".into());
            assert_eq!(refresh.unwrap_err().kind(), ErrorKind::Issuer);
            let code = DeviceAuthorization::new(&server, &client).map(drop).unwrap_err();
            assert_eq!(code.kind(), ErrorKind::Issuer);
            let revocation = Revocation::new(&server, &client, &secret.into()).map(|it| it.exchange());
            let refused = revocation.and_then(|it| it.request().to_http(&mut World::default().cx())).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Issuer);
        }
    }
}
