//! The whole OpenID Connect relying party: the modules of the OpenID Foundation's tests for relying parties, each as a
//! test that has its name, and what they do not ask for.

mod apple;
mod basic;
mod conformance;
mod fapi;
mod logout;
mod requests;
mod signatures;
mod userinfo;

use std::time::Duration;

use grantflow::machine::{Cx, Machine, Reply, Step};
use grantflow::{AuthorizationRequest, Client, ClientAuthentication, Error, ErrorKind, PendingAuthorization, Token};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::server::{Alter, Settings};
use grantflow_tests::{IssuerKey, Place, Registered, Server, World};

/// A redirect URI of the client `web`.
const REDIRECT: &str = "https://app.example/callback";
/// Its secret, long enough for HS256.
const SECRET: &str = "the-secret-of-web-is-32-bytes-long";
const HOUR: Duration = Duration::from_secs(3600);

/// The client `web` of the server of [`world`].
fn client() -> Client {
    Client::new("web").authentication(ClientAuthentication::client_secret_basic(SECRET))
}

/// A server that signs by RS256, and a confidential client.
fn world() -> World {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut Settings)) -> World {
    let client = Registered::basic("web", SECRET).redirect_uri(REDIRECT);
    World::with(Server::demo().client(client).with(|settings| {
        settings.keys = vec![IssuerKey::rs256("rs-1")];
        change(settings);
    }))
}

/// What the client asks for, with the signature checked.
fn request(world: &mut World) -> AuthorizationRequest {
    AuthorizationRequest::new(&world.server().metadata(), &client(), REDIRECT)
        .scopes("openid email")
        .verify_id_token_signature()
}

fn sign_in(world: &mut World) -> Result<Token, Error> {
    let request = request(world);
    world.sign_in(request, &client())
}

/// A sign-in that is refused for its ID token: by an error of this kind that says this, holds no secret, and is followed
/// by no request. What was pending is used up, and so is the code.
fn refused(mut world: World, kind: ErrorKind, why: &str) -> Error {
    let request = request(&mut world);
    refused_of(&mut world, request, &client(), kind, why)
}

fn refused_of(world: &mut World, request: AuthorizationRequest, client: &Client, kind: ErrorKind, why: &str) -> Error {
    let authorization = world.run(request.start()).unwrap();
    let redirect = world.person(&authorization.url);
    let kept = serde_json::to_string(&authorization.pending).unwrap();
    let error = ended(world, authorization.pending.finish(client, &redirect));
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(why), "{error} says nothing of {why:?}");
    let seen = world.server().seen();
    let token = seen.iter().position(|seen| seen.place == Place::Token).expect("the code was redeemed");
    let after = seen[token + 1..].iter().filter(|seen| seen.place != Place::Keys).count();
    assert_eq!(after, 0, "no request follows a token that is refused");
    let secrets: Vec<String> = secrets(&kept, &redirect, world);
    hidden_in_error(&error, &secrets.iter().map(String::as_str).collect::<Vec<_>>());
    // The same redirect is of no use any more.
    let pending: PendingAuthorization = serde_json::from_str(&kept).unwrap();
    let again = world.run(pending.finish(client, &redirect)).unwrap_err();
    assert_eq!(again.server().map(|server| server.error()), Some("invalid_grant"), "{again}");
    error
}

/// Runs a machine to its end, which is an error, and after which it is over.
fn ended<M: Machine>(world: &mut World, mut machine: M) -> Error {
    let mut reply = Reply::Start;
    let error = loop {
        match machine.resume(&mut world.cx(), reply) {
            Step::Do(effect) => reply = world.carry_out(effect),
            Step::Done(Err(error)) => break error,
            Step::Done(Ok(_)) => panic!("it was taken"),
        }
    };
    let Step::Done(Err(over)) = machine.resume(&mut Cx::new(world.now, [0; 32]), Reply::Start) else {
        panic!("the machine goes on");
    };
    assert_eq!(over.kind(), ErrorKind::Misuse);
    error
}

/// All that nobody may see: what is kept until the redirect, its code, the client's secret.
fn secrets(kept: &str, redirect: &str, world: &mut World) -> Vec<String> {
    let kept: serde_json::Value = serde_json::from_str(kept).unwrap();
    let members = ["state", "nonce", "code_verifier"].iter().filter_map(|name| kept[name].as_str().map(str::to_owned));
    let code = redirect.split(['?', '&']).find_map(|part| part.strip_prefix("code=")).unwrap().to_owned();
    let sent = world.server().seen_at(Place::Token).iter().filter_map(|seen| seen.param("code")).collect::<Vec<_>>();
    members.chain([code, SECRET.to_owned()]).chain(sent).collect()
}

/// A claim of the ID token set to this; `null` removes it.
fn claim(name: &'static str, value: serde_json::Value) -> World {
    world_with(|settings| settings.alter_id_claims = Alter::set(name, value))
}
