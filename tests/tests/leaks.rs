//! Secrets stay where they are: no `Debug`, no `Display`, no error and no page shows one. (Logs: `logs.rs`.)

use grantflow::exchange::Received;
use grantflow::google::ClientSecrets;
use grantflow::machine::{FailureKind, Rules};
use grantflow::{
    AuthorizationRequest, Client, ClientAuthentication, DeviceAuthorization, Effect, Endpoint, Error, Event, Failure,
    InstalledApp, Issuer, Machine, Reply, Revocation, Secret, Step, TokenRequest,
};
use grantflow_tests::canary::{hidden, hidden_in_debug, hidden_in_error, shapes};
use grantflow_tests::demo::{self, REDIRECT, client};
use grantflow_tests::server::Alter;
use grantflow_tests::{Fault, Place, Registered, Server, World, at_once};
use serde_json::json;

fn world() -> World {
    World::with(Server::demo())
}

fn value(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?').unwrap();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

const CANARIES: [&str; 6] = [
    "c4n4ry-cl1ent-s3cret/+=",
    "c4n4ry-passw0rd &%",
    "c4n4ry-r3fresh",
    "c4n4ry-acc3ss",
    "c4n4ry-verif1er",
    "c4n4ry-c0de",
];

/// Everything public that holds a secret, by its `Debug`.
#[test]
fn no_public_type_shows_a_secret() {
    let [client_secret, password, refresh, access, verifier, code] = CANARIES;
    let verifier = verifier.repeat(3);
    let secrets = [client_secret, password, refresh, access, &verifier, code];
    let shown = |what: &str, value: &dyn std::fmt::Debug| hidden_in_debug(what, value, &secrets);
    let mut world = World::with(
        Server::new("https://as.example")
            .client(Registered::post("app", client_secret).redirect_uri(REDIRECT))
            .user("alice", password),
    );
    world.server().settings.alter_token = Alter::by(move |answer| {
        answer["access_token"] = access.into();
        answer["refresh_token"] = refresh.into();
        answer["unknown_secret"] = code.into();
    });
    world.server().settings.alter_id_claims = Alter::set("at_hash", json!(null));
    for authentication in [
        ClientAuthentication::client_secret_post(client_secret),
        ClientAuthentication::client_secret_basic(client_secret),
        ClientAuthentication::client_secret_basic_unencoded(client_secret),
    ] {
        shown("an authentication", &authentication);
        shown("a client", &Client::new("app").authentication(authentication));
    }
    let client = Client::new("app").authentication(ClientAuthentication::client_secret_post(client_secret));
    let server = world.server().metadata();
    shown("a server", &server);
    shown("a secret", &Secret::from(client_secret));
    shown("a context", &world.cx());

    let request = AuthorizationRequest::new(&server, &client, REDIRECT).scopes("openid").code_verifier(&*verifier);
    let request = request.login_hint("c4n4ry-h1nt").extra("logout_hint", access);
    shown("an authorization request", &request);
    hidden_in_debug("an authorization request", &request, &["c4n4ry-h1nt"]);
    let authorization = at_once(request.start(), &mut world.cx()).unwrap();
    hidden("the URL", &authorization.url, &[client_secret, password, refresh, &verifier, code]);
    let state = value(&authorization.url, "state").unwrap();
    let nonce = value(&authorization.url, "nonce").unwrap();
    hidden_in_debug("an authorization", &authorization, &[&*verifier, &*state, &*nonce, "c4n4ry-h1nt"]);
    let redirect = format!("code={code}&state={state}&iss=https%3A%2F%2Fas.example");
    shown("a code", &authorization.pending.receive(&redirect, world.now.wall).unwrap());
    let mut finish = authorization.pending.finish(&client, &redirect);
    shown("what finishes an authorization", &finish);
    let step = finish.resume(&mut world.cx(), Reply::Start);
    shown("what finishes an authorization", &finish);
    shown("a step", &step);
    let Step::Do(effect) = step else { panic!() };
    shown("an event", &Event::Effect(&effect));
    let Effect::Http(call) = effect else { panic!() };
    shown("a call", &call);
    let call = call.open(Rules::V1).unwrap();
    assert!(String::from_utf8_lossy(call.request.body()).contains(code), "it is in there");
    shown("an opened call", &call);

    let token = world.run(TokenRequest::password(&server, &client, "alice", password).unwrap().exchange()).unwrap();
    assert_eq!((token.access_token(), token.refresh_token().unwrap().expose()), (access, refresh));
    shown("a token", &token);
    shown("a header", token.authorization().unwrap());
    let request = TokenRequest::refresh(&server, &client, &token).unwrap();
    shown("a refresh", &request);
    let exchange = request.exchange();
    shown("an exchange", &exchange);
    shown("a request", exchange.request());
    shown("a password", &TokenRequest::password(&server, &client, "alice", password).unwrap());
    shown("a revocation", &Revocation::new(&server, &client, token.refresh_token().unwrap()).unwrap());
    let mut response = http::Response::new(format!("{{\"access_token\":\"{access}\"}}").into_bytes());
    response.headers_mut().insert("set-cookie", access.parse().unwrap());
    shown("an answer", &Received { response: &response, sent: world.now.wall, now: world.now.wall });
    let reply = Reply::Http(response);
    shown("a reply", &reply);
    shown("an event", &Event::Reply(&reply));
    world.server().settings.alter_device = Alter::set("device_code", json!(code));
    let asking = DeviceAuthorization::new(&server, &client).unwrap();
    shown("a request for a device", &asking);
    let device_code = world.run(asking.exchange()).unwrap();
    shown("a device's code", &device_code);
    shown("a device that waits", &device_code.poll(&server, &client).unwrap());
    shown("a file", &Reply::File(client_secret.into()));
    shown("a variable", &Reply::Env(Some(client_secret.into())));

    let file = json!({"web": {"client_id": "app", "client_secret": client_secret,
        "auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": "https://oauth2.googleapis.com/token"}});
    let secrets_file = ClientSecrets::from_json(file.to_string()).unwrap();
    shown("a client file", &secrets_file);
    let app = InstalledApp::google(&secrets_file).port(50123).login_hint("alice");
    shown("an installed application", &app);
    let receiver = at_once(app.start(50123), &mut world.cx()).unwrap();
    hidden_in_debug("a receiver", &receiver, &[&value(receiver.url(), "state").unwrap()]);
}

#[test]
fn an_id_token_and_its_claims_show_only_names() {
    let mut world =
        World::with(Server::demo().with(|s| s.alter_id_claims = Alter::set("email", json!("c4n4ry@x.example"))));
    let token = demo::signed_in(&mut world, "openid email");
    let id_token = token.id_token().unwrap();
    let text = id_token.as_secret().expose();
    for value in [id_token as &dyn std::fmt::Debug, id_token.claims(), &token] {
        hidden_in_debug("an ID token", value, &[text, "c4n4ry@x.example"]);
    }
}

#[test]
fn no_error_shows_what_a_server_sends_back() {
    let [client_secret, password, refresh, ..] = CANARIES;
    for secret in [client_secret, password, refresh] {
        for shape in shapes(secret).into_iter().take(2) {
            // In the middle, at both ends, with a character inside that no terminal shows.
            let split = format!("{}\u{200b}{}", &shape[..5], &shape[5..]);
            let texts = [shape.clone(), format!("before {shape} after {shape}"), "x".repeat(495) + &shape, split];
            for text in texts {
                for body in [
                    json!({"error": "invalid_grant", "error_description": text}),
                    json!({"error": text}),
                    json!({"error": "x", "error_uri": format!("https://x.example/?{text}")}),
                    json!({"error": {"message": text, "type": text}}),
                    json!({"error": "invalid_grant", "error_subtype": text}),
                    json!(text),
                    json!({"access_token": 1, "echo": text}),
                ] {
                    for status in [200, 400, 500] {
                        leak_nothing(secret, status, "application/json", &body.to_string());
                    }
                }
                leak_nothing(secret, 400, "text/html", &format!("<p>{text}"));
                let form: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
                let form = format!("error=invalid_grant&error_description={form}");
                leak_nothing(secret, 400, "application/x-www-form-urlencoded", &form);
            }
        }
    }
}

/// A request that holds the secret gets this answer; its error must not hold it.
fn leak_nothing(secret: &str, status: u16, content_type: &str, body: &str) {
    let mut world = world();
    let server = world.server().metadata();
    let by_secret = [
        ClientAuthentication::client_secret_post(secret),
        ClientAuthentication::client_secret_basic(secret),
        ClientAuthentication::client_secret_basic_unencoded(secret),
    ]
    .map(|authentication| TokenRequest::client_credentials(&server, &Client::new("a").authentication(authentication)));
    let others = [
        TokenRequest::password(&server, &client(), "alice", secret),
        TokenRequest::refresh_token(&server, &client(), &secret.into()),
    ];
    for request in by_secret.into_iter().chain(others) {
        for _ in 0..4 {
            world.server().fail(Place::Token, Fault::with_type(status, content_type, body));
        }
        silent(&world.run(request.unwrap().exchange()).unwrap_err(), secret);
        world = self::world();
    }
    // A device, with the secret as its code.
    let shown = secret.to_owned();
    world.server().settings.alter_device = Alter::by(move |answer| answer["device_code"] = shown.as_str().into());
    let polling = demo::device_code(&mut world, "read").poll(&server, &client()).unwrap();
    world.server().fail(Place::Token, Fault::with_type(status, content_type, body));
    silent(&world.run(polling).unwrap_err(), secret);
    // And one that asks for it.
    for _ in 0..4 {
        world.server().fail(Place::Device, Fault::with_type(status, content_type, body));
    }
    let client = Client::new("a").authentication(ClientAuthentication::client_secret_post(secret));
    silent(&world.run(DeviceAuthorization::new(&server, &client).unwrap().exchange()).unwrap_err(), secret);
}

fn silent(error: &Error, secret: &str) {
    let texts = error.server().map(|server| format!("{server:?} {server}")).unwrap_or_default();
    hidden("the server's words", &texts, &[secret]);
    hidden_in_error(error, &[secret]);
}

#[test]
fn no_error_shows_the_query_of_an_address() {
    let mut world = world();
    let endpoint = "https://as.example/elsewhere?api_key=c4n4ry-k3y";
    let server = world.server().metadata().token_endpoint(endpoint).unwrap();
    let machine = || TokenRequest::client_credentials(&server, &demo::batch()).unwrap().exchange();
    hidden_in_debug("a server", &server, &["c4n4ry-k3y"]);
    hidden_in_debug("an exchange", &machine(), &["c4n4ry-k3y"]);
    for failure in [None, Some(Failure::not_sent(FailureKind::Tls, "handshake"))] {
        failure.into_iter().for_each(|failure| world.fail(failure));
        let error = world.run(machine()).unwrap_err();
        assert!(error.to_string().contains("https://as.example/elsewhere"), "{error}");
        hidden_in_error(&error, &["c4n4ry-k3y"]);
    }
    for address in
        ["https://user:c4n4ry-k3y@as.example/", "http://as.example/?c4n4ry-k3y", "https://as.example/#c4n4ry-k3y"]
    {
        hidden_in_error(&Endpoint::new(address).unwrap_err(), &["c4n4ry-k3y"]);
        hidden_in_error(&Issuer::new(address).unwrap_err(), &["c4n4ry-k3y"]);
        let request = AuthorizationRequest::new(&Server::demo().metadata(), &client(), address);
        hidden_in_error(&at_once(request.start(), &mut World::default().cx()).unwrap_err(), &["c4n4ry-k3y"]);
    }
}

#[test]
fn no_client_file_error_shows_its_content() {
    for file in [
        r#"{"installed":{"client_secret":"c4n4ry-s3cret"}}"#,
        r#"{"installed":{"client_id":["c4n4ry-s3cret"],"client_secret":"c4n4ry-s3cret"}}"#,
        r#"{"installed":"c4n4ry-s3cret"}"#,
        r#"{"installed":{"client_id":"x","client_secret":{"a":"c4n4ry-s3cret"},"auth_uri":"https://accounts.google.com/","token_uri":"https://oauth2.googleapis.com/token"}}"#,
        r#"{"web":{"client_id":"x","client_secret":"c4n4ry-s3cret","auth_uri":"https://evil.example/?c4n4ry-s3cret","token_uri":"https://oauth2.googleapis.com/token"}}"#,
        r#"{"type":"service_account","private_key":"c4n4ry-s3cret"}"#,
        r#"{"c4n4ry-s3cret"#,
        r#"c4n4ry-s3cret"#,
        r#"["c4n4ry-s3cret"]"#,
    ] {
        hidden_in_error(&ClientSecrets::from_json(file).unwrap_err(), &["c4n4ry-s3cret"]);
    }
}

/// Compiles only if the type has not the trait: else the call is ambiguous.
macro_rules! assert_not_impl {
    ($($type:ty: $trait:path),*) => {$({
        trait Ambiguous<A> { fn check() {} }
        impl<T: ?Sized> Ambiguous<()> for T {}
        struct Marker;
        impl<T: ?Sized + $trait> Ambiguous<Marker> for T {}
        <$type as Ambiguous<_>>::check();
    })*};
}

#[test]
fn secrets_are_neither_compared_nor_printed_nor_stored_by_accident() {
    assert_not_impl!(
        Secret: PartialEq,
        Secret: std::fmt::Display,
        Secret: serde::Serialize,
        Secret: AsRef<str>,
        grantflow::Token: serde::Serialize,
        grantflow::Token: std::fmt::Display,
        grantflow::jose::IdToken: serde::Serialize,
        Client: serde::Serialize,
        ClientSecrets: serde::Serialize,
        grantflow::Cx: Clone,
        grantflow::PendingAuthorization: Clone
    );
    assert!(Secret::from("abc").matches("abc") && !Secret::from("abc").matches("abd"));
}
