//! Tokens, codes and grants are shown to the server that they are of, and to no other.

use grantflow::google::AuthorizedUser;
use grantflow::source::{Credential, TokenSource, Want};
use grantflow::store::{RecordKey, SaveGrant, SharedGrant, SignOut};
use grantflow::{Client, Error, ErrorKind, Issuer, Revocation, ServerMetadata, Token, TokenRequest, UserInfo};
use grantflow_tests::demo::{batch, client, device_code, signed_in};
use grantflow_tests::processes::{Desk, Process, desk, late};
use grantflow_tests::{Server, World};

const OTHER: &str = "https://evil.example";

/// Another server, which offers everything.
fn other() -> ServerMetadata {
    let server = ServerMetadata::new(Issuer::new(OTHER).unwrap()).token_endpoint("https://evil.example/token").unwrap();
    let server = server.revocation_endpoint("https://evil.example/revoke").unwrap();
    server
        .member("userinfo_endpoint", "https://evil.example/userinfo".into())
        .member("device_authorization_endpoint", "https://evil.example/device".into())
}

/// A person who has signed in, and the server where they did.
fn arrived() -> (World, Token, ServerMetadata) {
    let mut world = World::with(Server::demo());
    let token = signed_in(&mut world, "openid read");
    let server = world.server().metadata();
    (world, token, server)
}

/// It names both servers.
fn refused<T: std::fmt::Debug>(what: &str, result: Result<T, Error>, own: &str) {
    let error = result.expect_err(what);
    assert_eq!(error.kind(), ErrorKind::Issuer, "{what}: {error}");
    let text = error.to_string();
    assert!(text.contains(own) && text.contains(OTHER), "{what}: {text}");
}

#[test]
fn a_token_is_shown_to_no_other_server() {
    let (_, token, server) = arrived();
    let own = server.issuer().as_str();
    refused("refresh", TokenRequest::refresh(&other(), &client(), &token), own);
    refused("credential", Credential::signed_in(other(), &client(), &token), own);
    refused("credential", Credential::signed_in(other().issuer().clone(), &client(), &token), own);
    refused("userinfo", UserInfo::new(&other(), &token), own);
    refused("revocation", Revocation::of(&other(), &client(), &token), own);
    // What it came with is known by it as well.
    let refreshed = {
        let (mut world, token, server) = arrived();
        world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap()
    };
    refused("a refreshed one", TokenRequest::refresh(&other(), &client(), &refreshed), own);
    for (what, result) in [
        ("refresh", TokenRequest::refresh(&server, &client(), &token).map(drop)),
        ("credential", Credential::signed_in(&server, &client(), &token).map(drop)),
        ("revocation", Revocation::of(&server, &client(), &token).map(drop)),
        ("userinfo", UserInfo::new(&other(), &unknown(&token)).map(drop)),
    ] {
        result.expect(what);
    }
}

#[test]
fn a_revocation_names_the_refresh_token_if_there_is_one() {
    let (_, token, server) = arrived();
    let form = |token: &Token| {
        let request = Revocation::of(&server, &client(), token)
            .unwrap()
            .exchange()
            .request()
            .to_http(&mut World::default().cx())
            .unwrap();
        let pairs: Vec<_> = url::form_urlencoded::parse(request.body()).into_owned().collect();
        pairs
    };
    let named = |form: Vec<(String, String)>, token: &str, hint: &str| {
        assert!(form.contains(&("token".into(), token.into())), "{form:?}");
        assert!(form.contains(&("token_type_hint".into(), hint.into())), "{form:?}");
    };
    named(form(&token), token.refresh_token().unwrap().expose(), "refresh_token");
    named(form(&unknown(&token)), token.access_token(), "access_token");
}

#[test]
fn a_token_knows_its_issuer_and_is_no_larger_for_it() {
    let (mut world, token, server) = arrived();
    assert_eq!(token.issuer(), Some(server.issuer()));
    let refreshed = world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap();
    assert_eq!(refreshed.issuer(), Some(server.issuer()));
    let credential = Credential::client_credentials(&server, &batch());
    let minted = world.run(credential.mint(&Want::access_token("read"), &credential.first_state())).unwrap();
    assert_eq!(minted.issuer(), Some(server.issuer()));
    assert_eq!(unknown(&token).issuer(), None);
    assert!(size_of::<Token>() <= 96, "{}", size_of::<Token>());
    assert!(size_of::<grantflow::cell::Issued>() <= 104, "{}", size_of::<grantflow::cell::Issued>());
    assert!(size_of::<grantflow::cell::TokenCell>() <= 80, "{}", size_of::<grantflow::cell::TokenCell>());
}

/// The same access token, of which nobody knows where it comes from.
fn unknown(token: &Token) -> Token {
    Token::bearer(token.access_token(), token.issued_at(), None).unwrap()
}

#[test]
fn a_user_of_google_has_a_token_of_google() {
    let (_, token, server) = arrived();
    let error = AuthorizedUser::signed_in(&client(), &token).expect_err("it is no token of Google's");
    assert_eq!(error.kind(), ErrorKind::Issuer, "{error}");
    assert!(error.to_string().contains(server.issuer().as_str()), "{error}");
}

#[test]
fn an_id_token_says_who_the_user_is_at_its_own_server_alone() {
    let (_, token, server) = arrived();
    let id_token = token.id_token().unwrap();
    let asked = UserInfo::new(&other(), &unknown(&token)).unwrap().about(id_token).exchange();
    refused("userinfo", World::default().run(asked), server.issuer().as_str());
}

#[test]
fn a_device_code_is_shown_to_the_server_and_by_the_client_that_got_it() {
    let mut world = World::with(Server::demo());
    let code = device_code(&mut world, "read");
    let own = world.server().metadata();
    refused("another server", code.clone().poll(&other(), &client()), own.issuer().as_str());
    let error = code.clone().poll(&own, &Client::new("another")).expect_err("another client");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    code.poll(&own, &client()).expect("its own");
}

#[test]
fn a_stored_grant_is_used_at_its_own_server_by_its_own_client() {
    let (mut desk, source) = late();
    let key = source.key().clone();
    let server = desk.world.server().metadata();
    let own = server.issuer().as_str().to_owned();
    let before = desk.version(&key);
    let shared = SharedGrant::new(key.clone(), other(), &client());
    refused("a mint", Process::of(&shared).mint(&mut desk), &own);
    let shared = SharedGrant::new(key.clone(), other().issuer().clone(), &client());
    refused("a mint with discovery", Process::of(&shared).mint(&mut desk), &own);
    refused("a sign-out", desk.run(SignOut::new(key.clone(), &other(), &client())), &own);
    let stranger = Client::new("stranger");
    for error in [
        Process::of(&SharedGrant::new(key.clone(), &server, &stranger)).mint(&mut desk).unwrap_err(),
        desk.run(SignOut::new(key.clone(), &server, &stranger)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("stranger") && error.to_string().contains("demo"), "{error}");
    }
    assert!(desk.did.is_empty(), "not even the store is asked: {:?}", desk.did);
    assert_eq!(desk.version(&key), before);
    Process::of(&source).mint(&mut desk).expect("its own");
}

#[test]
fn a_token_is_kept_under_a_key_of_its_own_server() {
    let mut desk = Desk::new(World::with(Server::demo()));
    let token = signed_in(&mut desk.world, "read");
    let own = desk.world.server().metadata();
    let key = RecordKey::new(other().issuer(), &client(), "alice");
    refused("saving", desk.run(SaveGrant::new(key, Want::default(), &token)), own.issuer().as_str());
    assert!(desk.did.is_empty(), "{:?}", desk.did);
}

#[test]
fn what_comes_out_of_a_store_belongs_where_it_did() {
    let (mut desk, source) = desk();
    let own = desk.world.server().metadata();
    let token = Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["load"]);
    refused("refresh", TokenRequest::refresh(&other(), &client(), &token), own.issuer().as_str());
}

#[test]
fn no_account_s_token_is_handed_out_as_another_s() {
    for want in [Want::access_token("read").account("bob@example.com"), Want::access_token("read").account("Alice")] {
        let (mut desk, source) = desk();
        let mut process = Process::of(&source);
        process.want = want;
        let error = process.mint(&mut desk).expect_err("it is alice's");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(desk.did.is_empty(), "{:?}", desk.did);
    }
    let (mut desk, source) = desk();
    let mut process = Process::of(&source);
    process.want = Want::access_token("read").account("alice");
    process.mint(&mut desk).expect("hers by name");
}

#[test]
fn a_fixed_token_serves_no_want_that_names_more_than_scopes() {
    let mut world = World::default();
    let source = Credential::fixed(Token::bearer("fixed", world.now.wall, None).unwrap());
    let mut mint = |want: Want| world.run(source.mint(&want, &source.first_state()));
    for want in [
        Want::default().account("a"),
        Want::default().subject("s"),
        Want::default().audience("b"),
        Want::default().resource("https://api.example"),
        Want::id_token("b"),
        Want::default().self_signed(),
    ] {
        let error = mint(want.clone()).map(drop).expect_err("it is not known to be that");
        assert_eq!(error.kind(), ErrorKind::Config, "{want:?}: {error}");
    }
    mint(Want::access_token("read")).expect("an access token");
}

#[test]
fn a_user_of_google_serves_no_audience_and_no_resource_which_google_would_ignore() {
    let json = r#"{"type":"authorized_user","client_id":"c","refresh_token":"r"}"#;
    let user = AuthorizedUser::from_json(json).unwrap();
    let mut world = World::default();
    for want in [Want::access_token("read").audience("b"), Want::access_token("read").resource("https://api.example")] {
        let error = world.run(user.mint(&want, &user.first_state())).map(drop).expect_err("Google ignores it");
        assert_eq!(error.kind(), ErrorKind::Config, "{want:?}: {error}");
    }
    assert!(world.sent().is_empty());
}

#[test]
fn public_clients_name_themselves_where_revocation_takes_no_authentication() {
    let body = |server: &ServerMetadata, client: &Client| {
        let request = Revocation::new(server, client, &"rt".into()).unwrap().exchange();
        let request = request.request().to_http(&mut World::default().cx()).unwrap();
        assert!(!request.headers().contains_key("authorization"));
        String::from_utf8(request.into_body()).unwrap()
    };
    let secret = grantflow::ClientAuthentication::client_secret_post("s3cret");
    for methods in [serde_json::json!(["none"]), serde_json::json!([])] {
        let server = other().member("revocation_endpoint_auth_methods_supported", methods.clone());
        for client in [Client::new("native-app"), Client::new("native-app").authentication(secret.clone())] {
            assert_eq!(body(&server, &client), "token=rt&client_id=native-app", "{methods}");
        }
    }
    // Google takes the token and nothing besides.
    assert_eq!(body(&ServerMetadata::google(), &client()), "token=rt");
}
