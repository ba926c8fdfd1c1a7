//! Service accounts: what is signed, to the byte, and what comes of it at a Google that checks it.

use std::time::Duration;

use grantflow::google::ServiceAccount;
use grantflow::machine::Repeat;
use grantflow::source::{TokenSource, Want};
use grantflow::{Advice, ErrorKind, Scopes, ServerMetadata, Timestamp, TokenRequest};
use grantflow_tests::google::{ALICE, KEY_ID, Place, SERVICE_ACCOUNT, jwt_parts, world};
use grantflow_tests::server::Wire;
use grantflow_tests::{Fault, World};
use serde_json::{Value, json};

use super::{CLOUD, JWT, NOW, STORAGE, account, key_with};

/// The claims of the assertion that was sent last.
fn last_claims(world: &mut World) -> Value {
    jwt_parts(&world.google().seen_at(Place::Token).last().unwrap().param("assertion").unwrap()).1
}

#[test]
fn the_assertion_is_the_known_one_to_the_byte() {
    // It is dated back by ten seconds.
    let now = NOW + Duration::from_secs(10);
    let assertion = account().assertion(&Want::access_token(CLOUD), now).unwrap();
    assert_eq!(World::default().run(assertion).unwrap().expose(), JWT.trim());
}

#[test]
fn an_access_token_comes_of_an_assertion_alone() {
    let mut world = world();
    let token = world.mint(&account(), &Want::access_token([STORAGE, CLOUD])).unwrap();
    assert!(token.access_token().starts_with("ya29.c."));
    // 21.26: a lifetime is what the answer says; it counts from when the request was sent.
    assert_eq!(token.expires_at(), Some(NOW + Duration::from_secs(3599)));
    assert_eq!(*token.scopes(), Scopes::from([CLOUD, STORAGE]));
    assert!(token.refresh_token().is_none());
    let sent = world.sent()[0].clone();
    assert_eq!(sent.request.uri(), "https://oauth2.googleapis.com/token");
    assert_eq!(sent.repeat, Repeat::Freely);
    // No scope, no client, no quota project: the assertion says it all.
    let body = String::from_utf8(sent.request.body().clone()).unwrap();
    let assertion = body.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=");
    let (header, claims) = jwt_parts(assertion.expect("these two fields"));
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID}));
    // 21.4: dated back by 10 s, and good for no more than an hour.
    let iat = NOW.as_unix() - 10;
    assert_eq!(
        claims,
        json!({"iss": SERVICE_ACCOUNT, "scope": format!("{CLOUD} {STORAGE}"), "aud": "https://oauth2.googleapis.com/token",
               "iat": iat, "exp": iat + 3600})
    );
    let mut names: Vec<_> = sent.request.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "content-type"]);
}

#[test]
fn a_subject_is_acted_for_where_an_administrator_allowed_it() {
    let mut world = world();
    let token = world.mint(&account(), &Want::access_token(STORAGE).subject(ALICE)).unwrap();
    assert_eq!(last_claims(&mut world)["sub"], ALICE);
    assert_eq!(world.google().acts_for(token.access_token()), Some(ALICE));
    // 21.10: each scope must be allowed; one that is not spoils all of them.
    let error = world.mint(&account(), &Want::access_token([STORAGE, CLOUD]).subject(ALICE)).unwrap_err();
    assert_eq!((error.status(), error.advice()), (Some(401), Some(Advice::FixConfiguration)));
    assert_eq!(error.server().unwrap().error(), "unauthorized_client");
    let error = world.mint(&account(), &Want::access_token(STORAGE).subject("nobody@example.com")).unwrap_err();
    assert_eq!(error.server().unwrap().error_description(), Some("Invalid email or User ID"));
    assert_eq!(error.advice(), Some(Advice::FixConfiguration));
}

#[test]
fn an_id_token_is_for_its_audience_and_ends_when_it_says() {
    let mut world = world();
    let token = world.mint(&account(), &Want::id_token("https://demo-abc123-uc.a.run.app")).unwrap();
    let iat = NOW.as_unix() - 10;
    assert_eq!(
        last_claims(&mut world),
        json!({"iss": SERVICE_ACCOUNT, "aud": "https://oauth2.googleapis.com/token", "iat": iat, "exp": iat + 3600,
               "target_audience": "https://demo-abc123-uc.a.run.app"})
    );
    let (_, claims) = jwt_parts(token.access_token());
    assert_eq!(
        (&claims["aud"], &claims["email"]),
        (&json!("https://demo-abc123-uc.a.run.app"), &json!(SERVICE_ACCOUNT))
    );
    assert_eq!(token.expires_at().unwrap().as_unix(), claims["exp"].as_i64().unwrap());
}

#[test]
fn an_unknown_scope_is_told_and_not_stumbled_over() {
    // 21.9: Google answers with status 200 and an ID token for the text of the scopes.
    for scopes in ["https://www.googleapis.com/auth/no-such-scope", "a,b"] {
        for scopes in [scopes.to_owned(), format!("{CLOUD} {scopes}")] {
            let error = world().mint(&account(), &Want::access_token(&*scopes)).unwrap_err();
            assert_eq!((error.kind(), error.advice()), (ErrorKind::Config, Some(Advice::FixConfiguration)));
            assert!(error.to_string().contains("knows none of the scopes, or not all"), "{error}");
        }
    }
}

#[test]
fn a_token_is_signed_for_scopes_or_an_audience_without_a_request() {
    let iat = NOW.as_unix() - 10;
    // 21.27: the audience is taken as it is, slash included.
    for (want, name, value) in [
        (Want::access_token(CLOUD).self_signed(), "scope", CLOUD),
        (
            Want::access_token("").audience("https://pubsub.googleapis.com/").self_signed(),
            "aud",
            "https://pubsub.googleapis.com/",
        ),
    ] {
        let mut world = world();
        let token = world.mint(&account(), &want).unwrap();
        let (header, claims) = jwt_parts(token.access_token());
        let mut expected = json!({"iss": SERVICE_ACCOUNT, "sub": SERVICE_ACCOUNT, "iat": iat, "exp": iat + 3600});
        expected[name] = value.into();
        assert_eq!((claims, &header["kid"]), (expected, &json!(KEY_ID)));
        assert_eq!(token.expires_at(), Some(Timestamp::from_unix(iat + 3600)));
        assert!(world.did().is_empty());
    }
}

#[test]
fn a_self_signed_token_is_taken_by_an_api() {
    let host = "https://generativelanguage.googleapis.com";
    for (want, status) in [
        (Want::access_token(CLOUD).self_signed(), 200),
        (Want::access_token(STORAGE).self_signed(), 403),
        (Want::access_token("").audience(&format!("{host}/")).self_signed(), 200),
        // 21.27: without the slash it is another audience.
        (Want::access_token("").audience(host).self_signed(), 401),
    ] {
        let mut world = world();
        let token = world.mint(&account(), &want).unwrap();
        let mut request = http::Request::get(world.google().address(Place::Models)).body(Vec::new()).unwrap();
        token.apply(request.headers_mut()).unwrap();
        let Wire::Whole(answer) = world.google().answer(NOW, &request).wire else { panic!("no answer") };
        assert_eq!(answer.status(), status, "{want:?}");
    }
}

#[test]
fn wants_that_no_account_can_fulfil_are_refused_before_any_request() {
    let audience = "https://pubsub.googleapis.com/";
    for (want, why) in [
        (Want::access_token(""), "at least one scope"),
        (Want::access_token("").self_signed(), "at least one scope"),
        (Want::access_token(CLOUD).audience(audience).self_signed(), "either scopes or an audience"),
        (Want::access_token(CLOUD).audience(audience), "no audience"),
        (Want::access_token(CLOUD).subject(ALICE).self_signed(), "signs for itself alone"),
        (Want::access_token(CLOUD).resource(audience), "no use for a resource"),
        (Want::access_token(CLOUD).account("other@demo-project.iam.gserviceaccount.com"), "another account's"),
        (Want::access_token("a\"b"), "a quote"),
        (Want::id_token(""), "needs an audience"),
    ] {
        let mut world = world();
        let error = world.mint(&account(), &want).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(why), "{want:?}: {error}");
        assert!(world.did().is_empty());
    }
}

#[test]
fn in_another_universe_tokens_are_self_signed() {
    // Its token_uri is of no use and not looked at.
    for token_uri in ["https://oauth2.googleapis.com/token", "https://oauth2.apis-demo.goog/token"] {
        let text = key_with(json!({"universe_domain": "apis-demo.goog", "token_uri": token_uri}));
        let account = ServiceAccount::from_json(text).unwrap();
        assert_eq!(account.universe_domain(), "apis-demo.goog");
        let mut world = world();
        let token = world.mint(&account, &Want::access_token(CLOUD)).unwrap();
        assert_eq!(jwt_parts(token.access_token()).1["scope"], CLOUD);
        for (want, why) in [
            (Want::access_token(CLOUD).subject(ALICE), "signs for itself alone"),
            (Want::id_token("https://a.example"), "another universe"),
        ] {
            let error = world.mint(&account, &want).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(world.did().is_empty());
    }
    // An empty one is the usual one.
    let usual = ServiceAccount::from_json(key_with(json!({"universe_domain": ""}))).unwrap();
    assert_eq!(usual.universe_domain(), "googleapis.com");
}

#[test]
fn the_quota_project_goes_with_the_tokens_requests_and_not_with_googles() {
    let named = ServiceAccount::from_json(key_with(json!({"quota_project_id": "of-the-file"}))).unwrap();
    for (account, project) in [
        (account(), None),
        (named.clone(), Some("of-the-file")),
        (named.quota_project("of-the-program"), Some("of-the-program")),
    ] {
        let headers = account.request_headers();
        assert_eq!(headers.get("x-goog-user-project").map(|value| value.to_str().unwrap()), project);
        assert_eq!(headers.len(), usize::from(project.is_some()));
        let mut world = world();
        world.mint(&account, &Want::access_token(CLOUD)).unwrap();
        assert!(!world.sent()[0].request.headers().contains_key("x-goog-user-project"));
    }
}

#[test]
fn each_error_of_an_assertion_says_what_to_do() {
    use Advice::{FixConfiguration, SetClock};
    let clock = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.";
    // 21.3: a service account has nobody who could sign in again, whatever the code is.
    for (status, error, description, advice) in [
        (400, "invalid_request", "Bad Request", FixConfiguration),
        (400, "invalid_grant", "Invalid JWT Signature.", FixConfiguration),
        (400, "invalid_grant", "Invalid grant: account not found", FixConfiguration),
        (400, "invalid_grant", "Invalid JWT: iat (issued at) is not set.", FixConfiguration),
        // 21.4: the clock is told by these words alone, and by no more of them.
        (400, "invalid_grant", clock, SetClock),
        (400, "invalid_grant", &format!("{clock} Check your iat and exp values and use a clock with skew"), SetClock),
        (400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.", FixConfiguration),
        (400, "invalid_grant", "Invalid JWT: Failed audience check.", FixConfiguration),
        (400, "invalid_grant", "Invalid email or User ID", FixConfiguration),
        (400, "invalid_grant", "Not a valid email", FixConfiguration),
        (400, "invalid_grant", "Invalid JWT: No valid verifier found for issuer", FixConfiguration),
        (400, "invalid_request", "Invalid impersonation prn email address", FixConfiguration),
        (
            401,
            "unauthorized_client",
            "Client is unauthorized to retrieve access tokens using this method.",
            FixConfiguration,
        ),
        (400, "unauthorized_client", "Unauthorized client or scope in request.", FixConfiguration),
        (403, "access_denied", "Requested client not authorized", FixConfiguration),
        (
            400,
            "invalid_scope",
            "Invalid downscoping, scopes should not be specified as a request parameter.",
            FixConfiguration,
        ),
        (400, "invalid_grant", "in words that nobody has seen", FixConfiguration),
    ] {
        let mut world = world();
        let body = json!({"error": error, "error_description": description}).to_string();
        world.google().fail(Place::Token, Fault::status(status, &body));
        let got = world.mint(&account(), &Want::access_token(CLOUD)).unwrap_err();
        let server = got.server().expect("the server's words");
        assert_eq!((server.error(), server.error_description()), (error, Some(description)));
        assert_eq!((got.status(), got.advice(), got.is_transient()), (Some(status), Some(advice), false), "{got}");
        assert_eq!(world.sent().len(), 1);
    }
}

#[test]
fn a_clock_that_is_off_is_told_and_a_little_is_forgiven() {
    // 21.4: in both directions.
    for (off, right) in [(-3700, false), (-3580, true), (-5, true), (0, true), (9, true), (11, false), (3600, false)] {
        let mut world = world();
        let now = Timestamp::from_unix(NOW.as_unix() + off);
        let assertion = account().assertion(&Want::access_token(CLOUD), now).unwrap();
        let assertion = world.run(assertion).unwrap();
        let request = TokenRequest::jwt_bearer(&ServerMetadata::google(), None, &assertion, Scopes::from(CLOUD));
        world.latency = Duration::ZERO;
        let result = world.run(request.unwrap().exchange());
        assert_eq!(result.is_ok(), right, "{off}: {result:?}");
        assert!(right || result.unwrap_err().advice() == Some(Advice::SetClock));
    }
}

#[test]
fn an_account_that_was_just_made_may_be_tried_again() {
    // 21.11: it is not known for some seconds, as if it never would be.
    let mut world = world();
    let account = account();
    world.google().account_mut(SERVICE_ACCOUNT).known_from = NOW + Duration::from_secs(20);
    let mut cell = grantflow::cell::TokenCell::new(7);
    let mut tries = 0;
    let token = loop {
        match cell.acquire(world.now) {
            grantflow::cell::Acquired::Refresh(ticket) => {
                tries += 1;
                let result = world.mint(&account, &Want::access_token(CLOUD));
                cell.settle(ticket, world.now, result);
            }
            grantflow::cell::Acquired::Failed(error) => {
                assert_eq!(error.server().unwrap().error_description(), Some("Invalid grant: account not found"));
                world.pass(Duration::from_millis(500));
            }
            grantflow::cell::Acquired::Fresh(token) => break token,
            other => panic!("{other:?}"),
        }
    };
    assert!(token.token.access_token().starts_with("ya29.c."));
    assert!((4..=8).contains(&tries), "{tries}");
    assert!(world.now.wall.since(NOW) < Duration::from_secs(40));
}

#[test]
fn what_google_calls_a_bad_request_and_means_as_later_is_tried_again() {
    // 21.35
    for body in [
        r#"{"error":"internal_failure","error_description":"Backend Error"}"#,
        r#"{"error":"unhandled_canonical_code_14"}"#,
    ] {
        let mut world = world();
        world.google().fail(Place::Token, Fault::status(400, body));
        world.mint(&account(), &Want::access_token(CLOUD)).unwrap();
        assert_eq!((world.sent().len(), world.slept().len()), (2, 1));
    }
    let mut world = world();
    world.google().fail(Place::Token, Fault::html(503));
    world.google().fail(Place::Token, Fault::DropAfter);
    world.mint(&account(), &Want::access_token(CLOUD)).unwrap();
    assert_eq!(world.sent().len(), 3);
}
