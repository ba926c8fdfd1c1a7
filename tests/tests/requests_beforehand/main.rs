//! Authorization requests that do not go through the browser as they are: pushed to the server (PAR, RFC 9126), signed
//! (JAR, RFC 9101), and both; and what a client does at a server before any request: it registers itself.

mod ciba;
mod jarm;
mod rar;
mod registration;
mod strict;

use std::time::Duration;

use grantflow::crypto::{Algorithm, Signer, SigningKey};
use grantflow::machine::{FailureKind, Rules};
use grantflow::{
    Authorization, AuthorizationRequest, Client, ClientAuthentication, Cx, Effect, Error, ErrorKind, Failure,
    InstalledApp, Machine as _, Now, Reply, Step, Token,
};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::demo::REDIRECT;
use grantflow_tests::google::jwt_parts;
use grantflow_tests::kms::{Es256, FarKey};
use grantflow_tests::server::{Alter, Settings};
use grantflow_tests::{Fault, Place, Registered, Server, World, at_once};
use serde_json::json;

fn client() -> Client {
    Client::new("app").authentication(ClientAuthentication::client_secret_basic("app-secret"))
}

fn registered() -> Registered {
    Registered::basic("app", "app-secret").redirect_uri(REDIRECT).redirect_uri("http://127.0.0.1/")
}

fn world(change: impl FnOnce(&mut Settings)) -> World {
    World::with(Server::demo().client(registered()).with(change))
}

/// A world with a client that signs its requests.
fn signing(change: impl FnOnce(&mut Settings)) -> World {
    World::with(Server::demo().client(registered().request_key(Es256::default().public())).with(change))
}

fn request(world: &mut World, client: &Client) -> AuthorizationRequest {
    AuthorizationRequest::new(&world.server().metadata(), client, REDIRECT).scopes("openid read")
}

fn start(world: &mut World, request: AuthorizationRequest) -> Result<Authorization, Error> {
    world.run(request.start())
}

fn finish(world: &mut World, client: &Client, authorization: Authorization) -> Result<Token, Error> {
    let redirect = world.person(&authorization.url);
    world.run(authorization.pending.finish(client, &redirect))
}

fn query(url: &str) -> Vec<(String, String)> {
    let (_, query) = url.split_once('?').unwrap();
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn names(url: &str) -> Vec<String> {
    query(url).into_iter().map(|(name, _)| name).collect()
}

fn value(url: &str, name: &str) -> String {
    query(url).into_iter().find(|(known, _)| known == name).unwrap().1
}

#[test]
fn a_pushed_request_leaves_nothing_in_the_url_but_its_name() {
    let mut world = world(|_| {});
    for client in [client(), Client::new("demo")] {
        let request = request(&mut world, &client).max_age(Duration::from_secs(60)).login_hint("bob").push();
        let authorization = start(&mut world, request).unwrap();
        assert_eq!(names(&authorization.url), ["client_id", "request_uri"], "{}", authorization.url);
        assert_eq!(
            authorization.pending.url_expires_at(),
            Some(world.now.wall + Duration::from_secs(60) - Duration::from_millis(50))
        );
        let pushed = world.server().seen_at(Place::PushedRequest).last().unwrap().request.clone();
        assert_eq!(pushed.headers().contains_key("authorization"), client.id() == "app");
        let token = finish(&mut world, &client, authorization).unwrap();
        assert_eq!(token.id_token().unwrap().subject(), "bob");
    }
}

/// The same is drawn each time.
fn cx() -> Cx {
    Cx::new(Now::default(), [7; 32])
}

/// The parameters of a request in its URL, and those that are pushed of it.
fn both_ways(request: AuthorizationRequest) -> [Vec<(String, String)>; 2] {
    let url = at_once(request.clone().start(), &mut cx()).unwrap().url;
    let Step::Do(Effect::Http(call)) = request.push().start().resume(&mut cx(), Reply::Start) else {
        panic!("nothing is pushed")
    };
    let call = call.open(Rules::V1).unwrap();
    let pushed = url::form_urlencoded::parse(call.request.body()).into_owned().collect();
    [query(&url), pushed].map(|mut parameters: Vec<_>| {
        parameters.sort();
        parameters
    })
}

#[test]
fn a_pushed_request_holds_the_parameters_that_its_url_would() {
    let mut world = world(|_| {});
    let asked = request(&mut world, &client());
    let hint = world.sign_in(asked, &client()).unwrap();
    let server = world.server().metadata();
    let key = SigningKey::generate(Algorithm::ES256, &mut cx()).unwrap();
    let client = Client::new("a client & more");
    let plain = AuthorizationRequest::new(&server, &client, REDIRECT);
    let everything = AuthorizationRequest::new(&server, &client.clone().dpop(key.into()), REDIRECT)
        .scopes("openid read")
        .prompt("consent")
        .login_hint("bob@example.com")
        .ui_locales(["de", "en"])
        .max_age(Duration::from_secs(60))
        .acr_values(["urn:a", "urn:b"])
        .claims(&json!({"id_token": {"email": null}}))
        .id_token_hint(hint.id_token().unwrap())
        .form_post()
        .signed_response()
        .access_type("offline")
        .include_granted_scopes(true)
        .hd("example.com")
        .resource("https://a.example/?x=1&y=2")
        .resource("https://b.example/")
        .authorization_details(&json!([{"type": "payment", "purpose": "bread & butter"}]))
        .extra("own", "a+b c=d%")
        .code_verifier("v".repeat(43));
    for (request, count) in [
        (plain.clone(), 6),
        (plain.scopes("openid"), 8),
        (everything.clone(), 24),
        (everything.plain_code_challenge(), 24),
    ] {
        let [url, pushed] = both_ways(request);
        assert_eq!(url, pushed);
        assert_eq!(url.len(), count, "{url:?}");
    }
}

#[test]
fn a_server_that_demands_it_gets_pushed_requests_unasked() {
    let mut world = world(|settings| settings.require_pushed = true);
    let request = request(&mut world, &client());
    let authorization = start(&mut world, request).unwrap();
    assert_eq!(names(&authorization.url), ["client_id", "request_uri"]);
    finish(&mut world, &client(), authorization).unwrap();
    // And one that has no place for them is told before anything is sent.
    world.server().settings.alter_metadata = Alter::by(|document| {
        document.as_object_mut().unwrap().remove("pushed_authorization_request_endpoint");
    });
    let sent = world.sent().len();
    let request = AuthorizationRequest::new(&world.server().metadata(), &client(), REDIRECT);
    let error = start(&mut world, request).unwrap_err();
    assert!(error.to_string().contains("pushed_authorization_request_endpoint"), "{error}");
    assert_eq!(world.sent().len(), sent);
}

#[test]
fn each_start_of_a_request_has_a_name_a_state_and_a_verifier_of_its_own() {
    let mut world = world(|_| {});
    let request = request(&mut world, &client()).push();
    let [first, second] = [(); 2].map(|()| start(&mut world, request.clone()).unwrap());
    assert_ne!(value(&first.url, "request_uri"), value(&second.url, "request_uri"));
    for parameter in ["state", "code_challenge", "nonce"] {
        let seen = world.server().seen_at(Place::PushedRequest);
        assert_ne!(seen[0].param(parameter), seen[1].param(parameter), "{parameter}");
    }
    assert_ne!(first.pending.name(), second.pending.name());
    // Too late, one is started anew.
    world.pass(Duration::from_secs(61));
    assert!(first.pending.url_expires_at().unwrap() < world.now.wall);
    let third = start(&mut world, request).unwrap();
    finish(&mut world, &client(), third).unwrap();
}

#[test]
fn a_pushed_request_may_arrive_twice_and_its_pending_survives_being_stored() {
    let mut world = world(|_| {});
    world.server().fail(Place::PushedRequest, Fault::DropAfter);
    world.server().fail(Place::PushedRequest, Fault::status(503, ""));
    let request = request(&mut world, &client()).push();
    let authorization = start(&mut world, request).unwrap();
    assert_eq!(world.server().seen_at(Place::PushedRequest).len(), 3);
    let stored = serde_json::to_string(&authorization.pending).unwrap();
    let pending = serde_json::from_str(&stored).unwrap();
    finish(&mut world, &client(), Authorization { url: authorization.url, pending }).unwrap();
}

#[test]
fn what_the_server_says_of_a_pushed_request_is_told_without_its_secrets() {
    let mut world = world(|_| {});
    let refused = request(&mut world, &client()).scopes("unheard-of").push();
    let redirect = start(&mut world, refused).map(|authorization| world.person(&authorization.url)).unwrap();
    assert!(redirect.contains("error=invalid_scope"), "{redirect}");
    let wrong = Client::new("app").authentication(ClientAuthentication::client_secret_basic("wr0ng-secret"));
    let refused = request(&mut world, &wrong).push();
    let error = start(&mut world, refused).unwrap_err();
    assert_eq!((error.kind(), error.server().unwrap().error()), (ErrorKind::Server, "invalid_client"));
    assert!(error.to_string().starts_with("pushing the authorization request"), "{error}");
    hidden_in_error(&error, &["wr0ng-secret"]);
    // An ID token as a hint, in the form and in the signed object.
    let asked = request(&mut world, &client());
    let id_token = world.sign_in(asked, &client()).unwrap().id_token().unwrap().clone();
    for signs in [false, true] {
        let asked = request(&mut world, &client()).id_token_hint(&id_token).push();
        let asked = if signs { asked.sign(Es256::default()) } else { asked };
        let hint = id_token.as_secret().expose();
        let echo = json!({"error": "invalid_request", "error_description": format!("no {hint}")}).to_string();
        world.server().fail(Place::PushedRequest, Fault::status(400, &echo));
        hidden_in_error(&start(&mut world, asked).unwrap_err(), &[hint]);
    }
    for (answer, why) in [
        (json!({}), "no request_uri"),
        (json!({"request_uri": ""}), "no request_uri"),
        (json!({"request_uri": "urn:a b"}), "characters"),
        (json!({"request_uri": "urn:a\n"}), "characters"),
        (json!({"request_uri": "u".repeat(5000)}), "too long"),
        (json!({"request_uri": 7}), "request_uri"),
    ] {
        world.server().settings.alter_pushed = Alter::by(move |body| *body = answer.clone());
        let error = request(&mut world, &client()).push();
        let error = start(&mut world, error).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidResponse && error.to_string().contains(why), "{why}: {error}");
    }
    // Its life is for its user to know, and nothing depends on it.
    for life in [json!(null), json!("soon"), json!(-1)] {
        world.server().settings.alter_pushed = Alter::by(move |body| body["expires_in"] = life.clone());
        let request = request(&mut world, &client()).push();
        let authorization = start(&mut world, request).unwrap();
        assert_eq!(authorization.pending.url_expires_at(), None);
    }
}

fn sign_with(world: &mut World, signer: impl Signer + 'static) -> Authorization {
    let request = request(world, &client()).max_age(Duration::from_secs(60)).resource("https://a.example/");
    let request = request.claims(&json!({"id_token": {"email": null}})).sign(signer);
    start(world, request).unwrap()
}

#[test]
fn a_signed_request_says_everything_in_one_object_for_its_server_alone() {
    for far in [false, true] {
        let mut world = signing(|_| {});
        let authorization = match far {
            false => sign_with(&mut world, Es256::default()),
            true => sign_with(&mut world, FarKey::default()),
        };
        assert_eq!(names(&authorization.url), ["client_id", "response_type", "scope", "request"]);
        let (header, claims) = jwt_parts(&value(&authorization.url, "request"));
        assert_eq!((&header["typ"], &header["alg"]), (&json!("oauth-authz-req+jwt"), &json!("ES256")));
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("app"), &json!("https://as.example")));
        assert_eq!((&claims["max_age"], &claims["resource"]), (&json!(60), &json!("https://a.example/")));
        assert_eq!(claims["claims"], json!({"id_token": {"email": null}}));
        // It is no assertion of the client.
        assert!(claims.get("sub").is_none() && claims["exp"].as_i64().unwrap() - claims["nbf"].as_i64().unwrap() < 600);
        finish(&mut world, &client(), authorization).unwrap();
    }
}

#[test]
fn a_signed_request_is_pushed_as_one_object() {
    let mut world = signing(|settings| settings.require_pushed = true);
    let request = request(&mut world, &client()).resource("https://a.example/").resource("https://b.example/");
    let authorization = start(&mut world, request.sign(Es256::default())).unwrap();
    assert_eq!(names(&authorization.url), ["client_id", "request_uri"]);
    let pushed = world.server().seen_at(Place::PushedRequest)[0].clone();
    let names: Vec<String> =
        url::form_urlencoded::parse(pushed.request.body()).map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["client_id", "request"]);
    let (_, claims) = jwt_parts(&pushed.param("request").unwrap());
    assert_eq!(claims["resource"], json!(["https://a.example/", "https://b.example/"]));
    finish(&mut world, &client(), authorization).unwrap();
}

#[test]
fn a_server_that_takes_signed_requests_only_is_sent_no_other() {
    let mut world = signing(|settings| {
        settings.alter_metadata = Alter::by(|document| document["require_signed_request_object"] = true.into());
    });
    let request = request(&mut world, &client());
    let error = start(&mut world, request.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("AuthorizationRequest::sign"), "{error}");
    let authorization = start(&mut world, request.sign(Es256::default())).unwrap();
    finish(&mut world, &client(), authorization).unwrap();
}

#[test]
fn a_signer_that_fails_ends_the_start_and_nothing_is_pushed() {
    let mut world = signing(|_| {});
    let request = request(&mut world, &client()).sign(FarKey::default()).push();
    let mut machine = request.start();
    let Step::Do(_) = machine.resume(&mut world.cx(), Reply::Start) else { panic!("no signature is asked for") };
    let failure = Failure::not_sent(FailureKind::Forbidden, "no way");
    match machine.resume(&mut world.cx(), Reply::Failed(failure)) {
        Step::Done(Err(error)) => assert_eq!(error.kind(), ErrorKind::Signing, "{error}"),
        _ => panic!("it goes on"),
    }
    assert!(world.server().seen_at(Place::PushedRequest).is_empty());
}

#[test]
fn an_installed_application_pushes_and_signs_too() {
    let mut world = signing(|_| {});
    let app = InstalledApp::new(&world.server().metadata(), &client()).scopes("openid").push().sign(FarKey::default());
    let receiver = world.run(app.start(50123)).unwrap();
    assert_eq!(names(receiver.url()), ["client_id", "request_uri"]);
    let redirect = world.person(receiver.url());
    assert!(redirect.starts_with("http://127.0.0.1:50123/?code="), "{redirect}");
}

#[test]
fn the_pretend_server_takes_no_request_that_is_not_as_it_should_be() {
    let mut world = signing(|_| {});
    let pushed = request(&mut world, &client()).sign(Es256::default()).push();
    let url = start(&mut world, pushed).unwrap().url;
    let answer = |world: &mut World, url: &str| world.open(url).status().as_u16();
    // More beside the name, another client's, one that was made up; then the visit, and none after it.
    assert_eq!(answer(&mut world, &format!("{url}&scope=read")), 400);
    assert_eq!(answer(&mut world, &url.replace("client_id=app", "client_id=batch")), 400);
    let pushed = request(&mut world, &client()).sign(Es256::default()).push();
    let url = start(&mut world, pushed).unwrap().url;
    assert_eq!(answer(&mut world, &format!("{url}x")), 400);
    assert_eq!(answer(&mut world, &url), 302);
    assert_eq!(answer(&mut world, &url), 400);
    let late = request(&mut world, &client()).sign(Es256::default()).push();
    let url = start(&mut world, late).unwrap().url;
    world.pass(Duration::from_secs(61));
    assert_eq!(answer(&mut world, &url), 400);
    // A client that signs, and does not; another's key; an object that is too old; more beside it.
    let plain = request(&mut world, &client());
    let url = start(&mut world, plain).unwrap().url;
    assert_eq!(answer(&mut world, &url), 400);
    let signed = sign_with(&mut world, Es256::default()).url;
    assert_eq!(answer(&mut world, &format!("{signed}&state=other")), 400);
    assert_eq!(answer(&mut world, &signed.replace("scope=openid", "scope=write")), 400);
    let cut = signed.len() - 2;
    assert_eq!(answer(&mut world, &format!("{}AA", &signed[..cut])), 400);
    world.pass(Duration::from_secs(301));
    assert_eq!(answer(&mut world, &signed), 400);
}
