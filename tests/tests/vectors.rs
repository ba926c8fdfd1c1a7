//! The standards' own vectors, from `data/`.

use std::time::Duration;

use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::machine::Rules;
use grantflow::{
    AuthorizationRequest, Client, ClientAuthentication, Discovery, Effect, Issuer, Machine as _, Reply, ServerMetadata,
    Step, TokenRequest,
};
use grantflow_tests::demo::REDIRECT;
use grantflow_tests::google::jwt_parts;
use grantflow_tests::kms::Es256;
use grantflow_tests::{Server, World, at_once};
use serde_json::{Value, json};

fn rfc6749() -> Value {
    serde_json::from_str(include_str!("../data/rfc6749.json")).unwrap()
}

fn server() -> ServerMetadata {
    Server::demo().metadata()
}

#[test]
fn appendix_b_of_rfc_6749_holds_for_the_form_encoder() {
    let vector = &rfc6749()["form_encoding"];
    let client = Client::new("a");
    let request = TokenRequest::password(&server(), &client, vector["text"].as_str().unwrap(), "x").unwrap();
    let body = request.exchange().request().to_http(&mut World::default().cx()).unwrap().into_body();
    let expected = format!("&username={}&", vector["encoded"].as_str().unwrap());
    assert!(String::from_utf8(body).unwrap().contains(&expected));
}

#[test]
fn basic_headers_are_encoded_as_section_2_3_1_says() {
    for vector in rfc6749()["basic"].as_array().unwrap() {
        let secret = vector["client_secret"].as_str().unwrap();
        let client = Client::new(vector["client_id"].as_str().unwrap())
            .authentication(ClientAuthentication::client_secret_basic(secret));
        let request = TokenRequest::client_credentials(&server(), &client).unwrap().exchange();
        let request = request.request().to_http(&mut World::default().cx()).unwrap();
        let header = &request.headers()["authorization"];
        assert_eq!(header.to_str().unwrap(), vector["header"].as_str().unwrap(), "{}", vector["section"]);
        assert!(header.is_sensitive());
        assert_eq!(request.body(), b"grant_type=client_credentials");
    }
}

#[test]
fn basic_without_encoding_is_there_by_name() {
    let client = Client::new("client 1").authentication(ClientAuthentication::client_secret_basic_unencoded("p@ss+%"));
    let request = TokenRequest::client_credentials(&server(), &client).unwrap().exchange();
    let request = request.request().to_http(&mut World::default().cx()).unwrap();
    assert_eq!(request.headers()["authorization"], "Basic Y2xpZW50IDE6cEBzcysl");
}

#[test]
fn pkce_challenges_are_those_of_rfc_7636() {
    for vector in rfc6749()["pkce"].as_array().unwrap() {
        let request = AuthorizationRequest::new(&server(), &Client::new("a"), REDIRECT)
            .code_verifier(vector["code_verifier"].as_str().unwrap());
        let url = at_once(request.start(), &mut World::default().cx()).unwrap().url;
        let challenge =
            format!("&code_challenge={}&code_challenge_method=S256", vector["code_challenge"].as_str().unwrap());
        assert!(url.contains(&challenge), "{url}");
    }
}

#[test]
fn metadata_is_looked_for_where_the_standards_put_it() {
    let data: Value = serde_json::from_str(include_str!("../data/metadata_paths.json")).unwrap();
    for vector in data["vectors"].as_array().unwrap() {
        let issuer = Issuer::new(vector["issuer"].as_str().unwrap()).unwrap();
        for (name, discovery) in [("oauth", Discovery::oauth(&issuer)), ("openid", Discovery::openid(&issuer))] {
            let mut world = World::with(Server::new(issuer.as_str()));
            world.run(discovery).unwrap();
            assert_eq!(world.sent()[0].request.uri().to_string(), vector[name].as_str().unwrap());
        }
    }
}

/// The vector of this section, and its claims.
fn request_object(section: &str) -> (Value, Value) {
    let data: Value = serde_json::from_str(include_str!("../data/jose/request_objects.json")).unwrap();
    let vector = data.as_array().unwrap().iter().find(|it| it["section"].as_str().unwrap().starts_with(section));
    let claims = serde_json::from_str(vector.unwrap()["payload"].as_str().unwrap()).unwrap();
    (vector.unwrap().clone(), claims)
}

/// What a request says that is made of these claims: signed by an own key, in its URL.
fn made_of(claims: &Value) -> Value {
    let text = |name: &str| claims[name].as_str().unwrap().to_owned();
    let server = ServerMetadata::new(Issuer::new(text("aud")).unwrap());
    let server = server.authorization_endpoint("https://server.example.com/authorize").unwrap();
    let server = server.token_endpoint("https://server.example.com/token").unwrap();
    let request = AuthorizationRequest::new(&server, &Client::new(text("client_id")), text("redirect_uri"));
    let seconds = claims["max_age"].as_u64().map(Duration::from_secs);
    let request = seconds.into_iter().fold(request.scopes(text("scope")), AuthorizationRequest::max_age);
    let url = at_once(request.sign(Es256::default()).start(), &mut World::default().cx()).unwrap().url;
    let (_, query) = url.split_once('?').unwrap();
    let object = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "request").unwrap().1;
    jwt_parts(&object).1
}

#[test]
fn a_request_object_says_what_those_of_rfc_9101_and_rfc_9126_say() {
    for (section, drawn) in [
        ("RFC 9101, 4", &["state", "nonce"][..]),
        ("RFC 9126, 3 (a request object)", &["state", "code_challenge", "exp"]),
    ] {
        let (_, claims) = request_object(section);
        let own = made_of(&claims);
        for (name, value) in claims.as_object().unwrap() {
            match name.as_str() {
                // Tokens come from the token endpoint alone.
                "response_type" => assert_eq!(own[name], "code"),
                // Drawn anew, or of the moment.
                name if drawn.contains(&name) => assert!(own[name].is_string() || own[name].is_u64(), "{name}"),
                name => assert_eq!(own[name], *value, "{section}: {name}"),
            }
        }
        assert!(own.get("sub").is_none() && own.get("request").is_none(), "{own}");
    }
}

#[test]
fn a_pushed_request_authenticates_as_the_example_of_rfc_9126() {
    let (vector, claims) = request_object("RFC 9126, 3 (a client assertion)");
    let (_, request) = request_object("RFC 9126, 3 (a request object)");
    let text = |claims: &Value, name: &str| claims[name].as_str().unwrap().to_owned();
    let key = SigningKey::from_jwk(Algorithm::RS256, &vector["jwk"].to_string().into()).unwrap().with_key_id("k2bdc");
    let client = Client::new(text(&claims, "sub")).authentication(ClientAuthentication::private_key_jwt(key.clone()));
    let server = ServerMetadata::new(Issuer::new(text(&claims, "aud")).unwrap())
        .member("pushed_authorization_request_endpoint", "https://server.example.com/as/par".into())
        .authorization_endpoint("https://server.example.com/authorize")
        .and_then(|server| server.token_endpoint("https://server.example.com/token"))
        .unwrap();
    let pushed = AuthorizationRequest::new(&server, &client, text(&request, "redirect_uri"));
    let mut machine = pushed.scopes(text(&request, "scope")).sign(key).push().start();
    let mut world = World::default();
    let Step::Do(Effect::Http(call)) = machine.resume(&mut world.cx(), Reply::Start) else {
        panic!("nothing is pushed")
    };
    let call = call.open(Rules::V1).unwrap();
    assert_eq!(call.request.uri(), "https://server.example.com/as/par");
    let form: Vec<_> = url::form_urlencoded::parse(call.request.body()).into_owned().collect();
    let mut names: Vec<_> = form.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["client_assertion", "client_assertion_type", "client_id", "request"], "section 3");
    let value = |name: &str| &form.iter().find(|(known, _)| known == name).unwrap().1;
    assert_eq!(value("client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    for (name, vector) in [("client_assertion", &claims), ("request", &request)] {
        let (header, own) = jwt_parts(value(name));
        assert_eq!((&header["alg"], &header["kid"]), (&json!("RS256"), &json!("k2bdc")));
        for claim in ["iss", "aud", "sub", "client_id", "response_type", "redirect_uri", "scope"] {
            assert_eq!(own.get(claim), vector.get(claim), "{name}: {claim}");
        }
    }
}
