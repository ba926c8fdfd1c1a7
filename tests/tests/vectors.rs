//! The standards' own vectors, from `data/`.

use grantflow::{AuthorizationRequest, Client, ClientAuthentication, Discovery, Issuer, ServerMetadata, TokenRequest};
use grantflow_tests::demo::REDIRECT;
use grantflow_tests::{Server, World, at_once};
use serde_json::Value;

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
