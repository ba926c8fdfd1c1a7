//! The device flow (RFC 8628) in virtual time: when a device asks, when it stops, and what it does not believe.

mod answers;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use grantflow::machine::FailureKind;
use grantflow::{
    Advice, Client, ClientAuthentication, Cx, Deviation, Deviations, DeviceAuthorization, DeviceCode, DevicePolling,
    Error, ErrorKind, Failure, InstalledApp, Issuer, Machine, Reply, Rotation, ServerMetadata, Step, Token,
    TokenRequest,
};
use grantflow_tests::canary::{hidden_in_debug, hidden_in_error};
use grantflow_tests::demo::{self, client, device_code};
use grantflow_tests::server::{Alter, Consent, Seen, Settings};
use grantflow_tests::world::Did;
use grantflow_tests::{Fault, Place, Registered, Server, World};
use serde_json::{Value, json};

fn world() -> World {
    world_with(|_| {})
}

/// A world in which no time passes on the way.
fn world_with(change: impl FnOnce(&mut Settings)) -> World {
    let mut world = World::with(Server::demo().with(change));
    world.latency = Duration::ZERO;
    world
}

fn poll(world: &mut World, code: DeviceCode) -> Result<Token, Error> {
    let machine = polling(world, code);
    world.run(machine)
}

fn polling(world: &mut World, code: DeviceCode) -> DevicePolling {
    code.poll(&world.server().metadata(), &client()).unwrap()
}

/// The person enters the code as soon as this many questions were asked.
fn poll_and_enter_after(world: &mut World, questions: usize, code: DeviceCode) -> Result<Token, Error> {
    let (uri, user_code) = (code.verification_uri().to_owned(), code.user_code().to_owned());
    let (machine, mut entered) = (polling(world, code), false);
    world.run_while(machine, |world| {
        if !entered && world.server().seen_at(Place::Token).len() >= questions {
            entered = true;
            assert!(world.enter_code(&uri, &user_code));
        }
    })
}

/// The server answers the next questions with these errors.
fn answers(world: &mut World, status: u16, errors: &[&str]) {
    for error in errors {
        let body = json!({"error": error}).to_string();
        world.server().fail(Place::Token, Fault::status(status, &body));
    }
}

/// The pauses before each question, in seconds.
fn pauses(world: &World) -> Vec<u64> {
    world.slept().iter().map(Duration::as_secs).collect()
}

/// What the device endpoint's answer, changed like this, is taken for.
fn answered(change: impl Fn(&mut Value) + Send + 'static) -> Result<DeviceCode, Error> {
    answered_to(&|server| server, change)
}

fn answered_to(
    known: &dyn Fn(ServerMetadata) -> ServerMetadata,
    change: impl Fn(&mut Value) + Send + 'static,
) -> Result<DeviceCode, Error> {
    let mut world = world_with(|settings| settings.alter_device = Alter::by(change));
    let server = known(world.server().metadata());
    world.run(DeviceAuthorization::new(&server, &client()).unwrap().exchange())
}

fn vector() -> Value {
    serde_json::from_str(include_str!("../../data/rfc8628.json")).unwrap()
}

// --- as it should be

#[test]
fn the_standards_own_example_is_asked_and_understood() {
    let vector = vector();
    let sorted = |body: &str| {
        let mut pairs: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        pairs.sort();
        pairs
    };
    let mut world = world();
    let server = world.server().metadata();
    let client = Client::new("1406020730");
    let answer = &vector["response"]["body"];
    world.server().fail(Place::Device, Fault::status(200, &answer.to_string()));
    let before = world.now.wall;
    let asking = DeviceAuthorization::new(&server, &client).unwrap().scopes("example_scope");
    let code = world.run(asking.pkce(false).exchange()).unwrap();
    assert_eq!(code.user_code(), answer["user_code"].as_str().unwrap());
    assert_eq!(code.verification_uri(), answer["verification_uri"].as_str().unwrap());
    assert_eq!(code.verification_uri_complete(), answer["verification_uri_complete"].as_str());
    assert_eq!(code.expires_at(), before + Duration::from_secs(1800));
    assert_eq!(code.interval(), Duration::from_secs(5));
    assert!(code.deviations().is_empty());
    world.run(code.poll(&server, &client).unwrap()).unwrap_err();
    for (sent, name) in world.sent().into_iter().zip(["request", "token_request"]) {
        let body = String::from_utf8(sent.request.body().clone()).unwrap();
        assert_eq!(sorted(&body), sorted(vector[name]["body"].as_str().unwrap()), "{name}");
    }
}

#[test]
fn a_device_code_is_of_no_use_to_those_who_have_read_it() {
    let mut world = world();
    let code = device_code(&mut world, "read");
    answers(&mut world, 400, &["expired_token"]);
    poll(&mut world, code.clone()).unwrap_err();
    let read = world.server().seen_at(Place::Token)[0].param("device_code").unwrap();
    assert!(world.enter_code(code.verification_uri(), code.user_code()));
    let server = world.server().metadata();
    for pkce in [true, false] {
        // A stranger asks with the code that they read, and with the verifier of a request of their own or with none.
        world.server().settings.alter_device = Alter::set("device_code", json!(read));
        let stranger = DeviceAuthorization::new(&server, &client()).unwrap().pkce(pkce).exchange();
        let theirs = world.run(stranger).unwrap();
        let error = poll(&mut world, theirs).unwrap_err();
        assert_eq!((error.server().unwrap().error(), error.advice()), ("invalid_grant", Some(Advice::SignInAgain)));
    }
    answers(&mut world, 400, &["authorization_pending"]);
    assert!(poll(&mut world, code).unwrap().refresh_token().is_some());
    let seen = world.server().seen_at(Place::Token);
    let verifiers: Vec<_> = seen.iter().map(|seen| seen.param("code_verifier")).collect();
    assert!(verifiers[0].as_ref().is_some_and(|verifier| verifier.len() == 43), "{verifiers:?}");
    assert!(verifiers[3..] == [verifiers[0].clone(), verifiers[0].clone()], "with each question: {verifiers:?}");
    assert!(verifiers[1].is_some() && verifiers[1] != verifiers[0] && verifiers[2].is_none(), "{verifiers:?}");
}

#[test]
fn a_device_promises_a_verifier_where_the_server_knows_it_and_never_gives_that_up() {
    let google = ServerMetadata::google().issuer().clone();
    let address = Server::demo().address(Place::Device);
    let of_google = ServerMetadata::new(google).member("device_authorization_endpoint", address.into());
    let at = |methods: Value| Server::demo().metadata().member("code_challenge_methods_supported", methods);
    for (server, told, sent) in [
        (at(json!(["plain", "S256"])), None, true),
        (at(json!(["plain"])), None, false),
        (at(json!(null)), None, false),
        (at(json!(null)), Some(true), true),
        (at(json!(["S256"])), Some(false), false),
        (of_google.member("code_challenge_methods_supported", json!(["S256"])), None, false),
    ] {
        let mut world = world();
        // The request is sent twice, and says the same.
        world.server().fail(Place::Device, Fault::DropAfter);
        let asking = DeviceAuthorization::new(&server, &client()).unwrap();
        let asking = told.into_iter().fold(asking, DeviceAuthorization::pkce);
        world.run(asking.exchange()).unwrap();
        let seen = world.server().seen_at(Place::Device);
        let sent_at = |seen: &Seen| ["code_challenge", "code_challenge_method"].map(|name| seen.param(name));
        assert_eq!((seen.len(), sent_at(seen[0])), (2, sent_at(seen[1])));
        assert_eq!(sent_at(seen[0])[0].is_some(), sent, "{server:?} {told:?}");
        assert_eq!(sent_at(seen[0])[1].as_deref(), sent.then_some("S256"));
    }
    // A server that refuses it is not asked again without it.
    let mut world = world_with(|settings| settings.device_like_google = true);
    let server = world.server().metadata();
    let error = world.run(DeviceAuthorization::new(&server, &client()).unwrap().exchange()).unwrap_err();
    assert_eq!((error.server().unwrap().error(), world.sent().len()), ("invalid_request", 1));
    // And nothing begins without randomness.
    let mut asking = DeviceAuthorization::new(&server, &client()).unwrap().exchange();
    let step = asking.resume(&mut Cx::without_entropy(world.now), Reply::Start);
    assert!(matches!(step, Step::Done(Err(error)) if error.kind() == ErrorKind::Entropy));
    let step = asking.resume(&mut world.cx(), Reply::Start);
    assert!(matches!(step, Step::Done(Err(error)) if error.kind() == ErrorKind::Misuse), "it has ended");
}

#[test]
fn a_device_signs_in_once_the_person_has_entered_its_code() {
    for (interval, expected) in [(Some(1), 1), (Some(5), 5), (None, 5), (Some(7), 7), (Some(90), 90)] {
        let mut world = world_with(|settings| settings.device_interval = interval);
        // However long the way is: the server would say `slow_down`.
        world.latency = Duration::from_millis(300);
        let code = device_code(&mut world, "openid email read");
        let token = poll_and_enter_after(&mut world, 3, code).unwrap();
        assert_eq!(pauses(&world), [expected; 4], "the first question waits as the others do");
        assert_eq!(token.id_token().unwrap().verified_email(), Some("alice@example.com"));
        assert_eq!(token.scopes().as_str(), "openid email read");
        let (now, server) = (world.now.wall, world.server().metadata());
        assert!(world.server().accepts(token.access_token(), now));
        world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap();
    }
}

#[test]
fn questions_come_when_the_standard_says() {
    let vector = &vector()["timing"];
    let errors: Vec<_> = vector["answers"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut world = world_with(|settings| settings.device_interval = vector["interval"].as_u64());
    let code = device_code(&mut world, "read");
    let begin = world.now.wall;
    assert!(world.enter_code(code.verification_uri(), code.user_code()));
    answers(&mut world, 400, &errors[..errors.len() - 1]);
    poll(&mut world, code).unwrap();
    let asked =
        world.server().seen_at(Place::Token).iter().map(|seen| seen.at.since(begin).as_secs()).collect::<Vec<_>>();
    assert_eq!(json!(asked), vector["asked_at"]);
}

#[test]
fn what_the_person_leaves_out_is_missing_from_the_scopes() {
    let mut world = world_with(|settings| settings.consent = Consent::Narrow("read".into()));
    let code = device_code(&mut world, "read write");
    assert_eq!(poll_and_enter_after(&mut world, 1, code).unwrap().scopes().as_str(), "read");
}

#[test]
fn a_confidential_client_proves_itself_at_both_endpoints() {
    let mut world = world();
    let (server, client) = (world.server().metadata(), demo::batch());
    let code = world.run(DeviceAuthorization::new(&server, &client).unwrap().scopes("read").exchange()).unwrap();
    assert!(world.enter_code(code.verification_uri(), code.user_code()));
    let token = world.run(code.poll(&server.refresh_token_rotation(Rotation::Never), &client).unwrap()).unwrap();
    assert_eq!(token.rotation(), Rotation::Never, "what is known of the server goes on");
    assert!(world.sent().iter().all(|sent| sent.request.headers().contains_key("authorization")));
}

#[test]
fn a_server_that_takes_no_devices_is_told_before_any_request() {
    let mut world = world_with(|s| s.alter_metadata = Alter::set("device_authorization_endpoint", json!(null)));
    let server = world.server().metadata();
    assert_eq!(DeviceAuthorization::new(&server, &client()).unwrap_err().kind(), ErrorKind::Config);
    for address in [json!(1), json!("http://as.example/device"), json!("javascript:alert(1)")] {
        let server = server.clone().member("device_authorization_endpoint", address.clone());
        assert_eq!(DeviceAuthorization::new(&server, &client()).unwrap_err().kind(), ErrorKind::Config, "{address}");
    }
    let other = client().registered_at(Issuer::new("https://other.example").unwrap());
    assert_eq!(DeviceAuthorization::new(&Server::demo().metadata(), &other).unwrap_err().kind(), ErrorKind::Issuer);
    let code = device_code(&mut self::world(), "read");
    assert_eq!(code.poll(&Server::demo().metadata(), &other).unwrap_err().kind(), ErrorKind::Issuer);
}

// --- trouble on the way

#[test]
fn ever_fewer_questions_are_asked_while_the_connection_fails() {
    let mut world = world();
    let code = device_code(&mut world, "read");
    for _ in 0..5 {
        world.fail(Failure::not_sent(FailureKind::Connect, "no route"));
    }
    poll_and_enter_after(&mut world, 2, code).unwrap();
    assert_eq!(pauses(&world), [5, 10, 20, 40, 60, 60, 5, 5], "up to a minute, and as before once one got through");
}

#[test]
fn the_connection_is_trusted_again_after_each_answer() {
    for (answer, expected) in [("authorization_pending", [5, 10, 20, 5, 10, 5]), ("slow_down", [5, 10, 20, 10, 20, 10])]
    {
        let mut world = world();
        let code = device_code(&mut world, "read");
        world.fail(Failure::not_sent(FailureKind::Connect, "no route"));
        world.fail(Failure::not_sent(FailureKind::Connect, "no route"));
        answers(&mut world, 400, &[answer]);
        world.server().fail(Place::Token, Fault::DropBefore);
        poll_and_enter_after(&mut world, 3, code).unwrap();
        assert_eq!(pauses(&world), expected, "{answer}");
    }
    // And never sooner than the server wants it.
    let mut world = world_with(|settings| settings.device_interval = Some(90));
    let code = device_code(&mut world, "read");
    world.fail(Failure::not_sent(FailureKind::Connect, "no route"));
    poll_and_enter_after(&mut world, 1, code).unwrap();
    assert_eq!(pauses(&world), [90; 3]);
}

#[test]
fn a_request_for_a_code_may_arrive_twice() {
    let mut world = world();
    world.server().fail(Place::Device, Fault::DropAfter);
    device_code(&mut world, "read");
    assert_eq!(world.server().seen_at(Place::Device).len(), 2);
}

#[test]
fn a_question_that_may_have_arrived_is_asked_again_later() {
    for fault in [Fault::DropBefore, Fault::Truncate, Fault::Delay(Duration::from_secs(60)), Fault::html(502)] {
        let mut world = world();
        let code = device_code(&mut world, "read");
        world.server().fail(Place::Token, fault.clone());
        poll_and_enter_after(&mut world, 2, code).unwrap();
        assert_eq!(pauses(&world), [5, 10, 5], "{fault:?}");
    }
}

#[test]
fn a_token_that_was_lost_on_the_way_is_not_waited_for() {
    let mut world = world();
    let code = device_code(&mut world, "read");
    assert!(world.enter_code(code.verification_uri(), code.user_code()));
    world.server().fail(Place::Token, Fault::DropAfter);
    let error = poll(&mut world, code).unwrap_err();
    assert_eq!((error.server().unwrap().error(), error.advice()), ("invalid_grant", Some(Advice::SignInAgain)));
    assert_eq!(world.server().seen_at(Place::Token).len(), 2);
}

#[test]
fn a_busy_server_is_left_alone_as_long_as_it_asks() {
    for (status, body, wait, expected) in [
        (503, "", "100", [5, 100, 5]),
        (429, "", "1", [5, 10, 5]),
        (400, r#"{"error":"authorization_pending"}"#, "30", [5, 30, 5]),
        (400, r#"{"error":"slow_down"}"#, "30", [5, 30, 10]),
        (400, r#"{"error":"temporarily_unavailable"}"#, "0", [5, 10, 5]),
    ] {
        let mut world = world();
        let code = device_code(&mut world, "read");
        world.server().fail(Place::Token, Fault::status(status, body).header("retry-after", wait));
        poll_and_enter_after(&mut world, 2, code).unwrap();
        assert_eq!(pauses(&world), expected, "{status} {body} {wait}");
    }
    let mut world = world();
    let code = device_code(&mut world, "read");
    world.server().fail(Place::Token, Fault::status(503, "").header("retry-after", "99999999999999999999"));
    assert_eq!(poll(&mut world, code).unwrap_err().kind(), ErrorKind::Expired);
}

// --- the end

#[test]
fn nobody_is_waited_for_beyond_the_end_of_the_code() {
    let mut world = world_with(|settings| settings.device_lifetime = 32);
    let code = device_code(&mut world, "read");
    let ends = code.expires_at();
    let error = poll(&mut world, code).unwrap_err();
    assert_eq!((error.kind(), error.advice()), (ErrorKind::Expired, Some(Advice::SignInAgain)));
    assert_eq!(pauses(&world), [5; 6]);
    assert!(world.now.wall < ends, "there is nothing left to wait for");
    assert!(std::error::Error::source(&error).is_none(), "{error}");
    let mut world = world_with(|settings| settings.device_lifetime = 30);
    let code = device_code(&mut world, "read");
    assert_eq!(poll(&mut world, code).unwrap_err().kind(), ErrorKind::Expired);
    assert_eq!(pauses(&world), [5; 5], "at its very end there is no use in asking");
}

#[test]
fn a_server_that_cannot_be_reached_until_the_end_is_told_as_the_reason() {
    let mut world = world_with(|settings| settings.device_lifetime = 60);
    let code = device_code(&mut world, "read");
    for _ in 0..9 {
        world.fail(Failure::not_sent(FailureKind::Connect, "no route"));
    }
    let error = poll(&mut world, code).unwrap_err();
    let reason = std::error::Error::source(&error).expect("a reason").to_string();
    assert!(error.kind() == ErrorKind::Expired && reason.contains("no route"), "{error}: {reason}");
}

#[test]
fn after_a_suspend_the_server_has_the_last_word() {
    let mut world = world();
    let code = device_code(&mut world, "read");
    let machine = polling(&mut world, code);
    let error = world.run_while(machine, |world| {
        if matches!(world.did().last(), Some(Did::Sleep(_))) {
            world.pass(Duration::from_secs(3600));
        }
    });
    assert_eq!(error.unwrap_err().server().unwrap().error(), "expired_token");
    assert_eq!(world.server().seen_at(Place::Token).len(), 1);
}

#[test]
fn a_no_ends_it_at_once() {
    let mut world = world_with(|settings| settings.consent = Consent::Deny("access_denied"));
    let code = device_code(&mut world, "read");
    let error = poll_and_enter_after(&mut world, 2, code).unwrap_err();
    assert_eq!((error.kind(), error.server().unwrap().error()), (ErrorKind::Server, "access_denied"));
    assert_eq!((error.advice(), pauses(&world).len()), (Some(Advice::SignInAgain), 3));
}

#[test]
fn whatever_else_the_server_says_ends_it_too() {
    for status in [200, 400, 401, 403, 428] {
        for error in ["expired_token", "invalid_grant", "authorization_declined", "invalid_client", "made_up"] {
            let mut world = world();
            let code = device_code(&mut world, "read");
            answers(&mut world, status, &[error]);
            let told = poll(&mut world, code).unwrap_err();
            assert_eq!((told.server().unwrap().error(), pauses(&world).len()), (error, 1), "{status}");
        }
    }
    for (fault, kind) in [
        (Fault::status(200, "{}"), ErrorKind::InvalidResponse),
        (Fault::status(400, "{}"), ErrorKind::Http),
        (Fault::status(302, "").header("location", "https://as.example/"), ErrorKind::InvalidResponse),
        (Fault::html(200), ErrorKind::InvalidResponse),
        (Fault::Endless, ErrorKind::InvalidResponse),
    ] {
        let mut world = world();
        let code = device_code(&mut world, "read");
        world.server().fail(Place::Token, fault.clone());
        assert_eq!(poll(&mut world, code).unwrap_err().kind(), kind, "{fault:?}");
        assert_eq!(pauses(&world).len(), 1);
    }
}

#[test]
fn a_driver_that_cannot_wait_asks_nothing() {
    let mut world = world();
    let code = device_code(&mut world, "read");
    world.refuse = vec!["Sleep"];
    let error = poll(&mut world, code).unwrap_err();
    assert_eq!((error.kind(), world.server().seen_at(Place::Token).len()), (ErrorKind::Unsupported, 0));
}

// --- servers of their own ways

#[test]
fn an_installed_application_asks_for_what_it_was_told() {
    let mut world = world_with(|settings| settings.extra_params = vec!["login_hint", "audience", "prompt"]);
    let app = InstalledApp::new(&world.server().metadata(), &client()).scopes("read").token_audience("api");
    let app = app.extra("access_type", "offline").login_hint("alice").prompt("login").prompt("consent");
    assert!(app.device_authorization().unwrap().is_none(), "a browser, unless told");
    let app = app.device();
    let code = world.run(app.device_authorization().unwrap().unwrap().exchange()).unwrap();
    assert!(world.enter_code(code.verification_uri(), code.user_code()));
    world.run(app.poll(code).unwrap()).unwrap();
    let (device, token) =
        (world.server().seen_at(Place::Device)[0].clone(), world.server().seen_at(Place::Token)[0].clone());
    assert_eq!(
        [device.param("login_hint"), device.param("prompt")],
        ["alice", "consent"].map(|it| Some(it.to_owned()))
    );
    assert_eq!((token.param("audience").as_deref(), device.param("access_type")), (Some("api"), None));
}

#[test]
fn an_installed_application_shows_the_address_and_the_code() {
    let mut world = world();
    let app = InstalledApp::new(&world.server().metadata(), &client()).device();
    let code = device_code(&mut world, "read");
    let said = app.announce_code(&code).unwrap();
    assert!(said.contains("https://as.example/device\n") && said.contains(code.user_code()), "{said}");
    let own = app.clone().prompt_message(Some("{code} at {url}"));
    assert_eq!(own.announce_code(&code), Some(format!("{} at https://as.example/device", code.user_code())));
    let silent = app.prompt_message(None);
    assert_eq!(silent.device_authorization().unwrap_err().kind(), ErrorKind::Config, "nobody would know");
    let shown = Arc::new(Mutex::new(Vec::new()));
    let keep = shown.clone();
    let silent = silent.show_code(move |code| keep.lock().unwrap().push(code.user_code().to_owned()));
    assert!(silent.device_authorization().is_ok() && silent.announce_code(&code).is_none());
    assert_eq!(*shown.lock().unwrap(), [code.user_code()]);
}

#[test]
fn an_installed_application_waits_no_longer_than_it_was_told() {
    for (timeout, lifetime, questions) in [(32, 1800, 6), (600, 32, 6), (0, 1800, 0)] {
        let mut world = world_with(|settings| settings.device_lifetime = lifetime);
        world.latency = Duration::from_millis(300);
        let asked = world.now.wall;
        let app =
            InstalledApp::new(&world.server().metadata(), &client()).device().timeout(Duration::from_secs(timeout));
        let code = world.run(app.device_authorization().unwrap().unwrap().exchange()).unwrap();
        assert_eq!(code.expires_at(), asked + Duration::from_secs(timeout.min(lifetime)));
        assert_eq!(world.run(app.poll(code).unwrap()).unwrap_err().kind(), ErrorKind::Expired);
        assert_eq!(world.server().seen_at(Place::Token).len(), questions, "{timeout} {lifetime}");
    }
}

#[test]
fn what_an_installed_application_cannot_be_is_told_before_any_request() {
    let mut world = world();
    let app = InstalledApp::new(&world.server().metadata(), &client()).device();
    for app in [app.clone().redirect_uri("https://as.example/"), app.clone().host("as.example")] {
        assert_eq!(app.device_authorization().unwrap_err().kind(), ErrorKind::Config);
    }
    let reserved = app.extra("device_code", "x").device_authorization().unwrap().unwrap();
    assert_eq!(world.run(reserved.exchange()).unwrap_err().kind(), ErrorKind::Config);
    assert!(world.sent().is_empty());
}

// --- hostile answers

#[test]
fn the_device_code_is_shown_nowhere() {
    const SECRET: &str = "c4n4ry-d3vice/+=";
    let mut world = world_with(|settings| settings.alter_device = Alter::set("device_code", json!(SECRET)));
    let server = world.server().metadata();
    let mut asking = DeviceAuthorization::new(&server, &client()).unwrap().scopes("read").exchange();
    let Step::Do(effect) = asking.resume(&mut world.cx(), Reply::Start) else { panic!() };
    let reply = world.carry_out(effect);
    hidden_in_debug("a reply", &reply, &[SECRET]);
    let Step::Done(Ok(code)) = asking.resume(&mut world.cx(), reply) else { panic!() };
    hidden_in_debug("an exchange", &asking, &[SECRET]);
    let user_code = code.user_code().to_owned();
    hidden_in_debug("a code", &code, &[SECRET, &user_code]);
    for (status, body) in [
        (400, json!({"error": SECRET})),
        (400, json!({"error": "invalid_grant", "error_description": format!("no {SECRET}")})),
        (200, json!({"access_token": 1, "device_code": SECRET})),
        (503, json!({"error_description": SECRET})),
    ] {
        let mut polling = code.clone().poll(&server, &client()).unwrap();
        hidden_in_debug("polling", &polling, &[SECRET, &user_code]);
        world.server().fail(Place::Token, Fault::status(status, &body.to_string()));
        let mut reply = Reply::Start;
        let error = loop {
            match polling.resume(&mut world.cx(), reply) {
                Step::Done(result) => break result.unwrap_err(),
                Step::Do(effect) => {
                    hidden_in_debug("an effect", &effect, &[SECRET]);
                    hidden_in_debug("polling", &polling, &[SECRET]);
                    reply = world.carry_out(effect);
                }
            }
        };
        hidden_in_error(&error, &[SECRET]);
    }
    assert!(
        world.server().seen_at(Place::Token).iter().all(|seen| seen.param("device_code").as_deref() == Some(SECRET))
    );
    for bad in [json!({"device_code": [SECRET]}), json!({"device_code": SECRET}), json!({"error": 1, "x": SECRET})] {
        world.server().fail(Place::Device, Fault::status(200, &bad.to_string()));
        let asking = DeviceAuthorization::new(&server, &client()).unwrap().exchange();
        hidden_in_error(&world.run(asking).unwrap_err(), &[SECRET]);
    }
}
