//! Service accounts: what is signed, to the byte, and what comes of it at a Google that checks it.

use std::time::Duration;

use grantflow::crypto::{Algorithm, Signer, Signing, SigningKey};
use grantflow::google::{GoogleCredential, ServiceAccount};
use grantflow::machine::{FailureKind, Repeat};
use grantflow::source::{TokenSource, Want};
use grantflow::{Advice, Cx, Effect, Error, ErrorKind, Exchange, Failure, Machine, Reply, Scopes, Step, Timestamp};
use grantflow_tests::google::{
    ALICE, KEY_ID, Place, SERVICE_ACCOUNT, another_private_key, bad_private_keys, jwt_parts, private_key,
    private_key_pkcs1, service_account_json, world,
};
use grantflow_tests::{Fault, World, canary};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_unix(1_795_176_000);
const CLOUD: &str = "https://www.googleapis.com/auth/cloud-platform";
const STORAGE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const JWT: &str = include_str!("../data/google/assertion.jwt");

fn account() -> ServiceAccount {
    ServiceAccount::from_json(service_account_json().to_string()).unwrap()
}

/// The key file with some members changed; those that become null are taken out.
fn file(changes: Value) -> String {
    let mut file = service_account_json();
    for (name, value) in changes.as_object().unwrap() {
        file[name] = value.clone();
    }
    file.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    file.to_string()
}

/// An error with all that led to it.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

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
fn every_form_of_the_key_gives_the_known_assertion() {
    // 21.12: line ends that a shell turned into a backslash and an n, or into spaces.
    let mangled =
        [private_key().replace('\n', "\\n"), private_key().replace('\n', " "), private_key().replace('\n', "\r\n")];
    for key in [private_key(), private_key_pkcs1(), private_key_pkcs1().replace('\n', "\\n")].iter().chain(&mangled) {
        let account = ServiceAccount::from_json(file(json!({"private_key": key}))).unwrap();
        let assertion = account.assertion(&Want::access_token(CLOUD), NOW + Duration::from_secs(10)).unwrap();
        assert_eq!(World::default().run(assertion).unwrap().expose(), JWT.trim());
    }
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
        let grantflow_tests::server::Wire::Whole(answer) = world.google().answer(NOW, &request).wire else {
            panic!("no answer")
        };
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
        let text = file(json!({"universe_domain": "apis-demo.goog", "token_uri": token_uri}));
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
    let usual = ServiceAccount::from_json(file(json!({"universe_domain": ""}))).unwrap();
    assert_eq!(usual.universe_domain(), "googleapis.com");
}

#[test]
fn the_quota_project_goes_with_the_tokens_requests_and_not_with_googles() {
    let named = ServiceAccount::from_json(file(json!({"quota_project_id": "of-the-file"}))).unwrap();
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
fn a_key_file_that_is_wrong_is_told_by_the_member() {
    let [short, ec] = bad_private_keys();
    for (change, says) in [
        (json!({"type": null}), "`type` is missing"),
        (json!({"type": "authorized_user"}), "`type` is authorized_user, and service_account is needed"),
        (json!({"type": "made_up"}), "`type` is made_up"),
        (json!({"type": 1}), "`type` is no text"),
        (json!({"client_email": null}), "`client_email` is missing"),
        (json!({"client_email": ""}), "`client_email` is missing or empty"),
        (json!({"client_email": ["a"]}), "`client_email` is no text"),
        (json!({"private_key": null}), "`private_key` is missing"),
        (json!({"private_key": 7}), "`private_key` is no text"),
        (json!({"private_key": "AAEC"}), "`private_key` cannot be used"),
        (json!({"private_key": short}), "`private_key` cannot be used"),
        (json!({"private_key": ec}), "`private_key` cannot be used"),
        (
            json!({"private_key": "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----"}),
            "`private_key` cannot be used",
        ),
        (json!({"private_key_id": 1}), "`private_key_id` is no text"),
        (json!({"token_uri": 1}), "`token_uri` is no text"),
        (json!({"project_id": {}}), "`project_id` is no text"),
        (json!({"quota_project_id": false}), "`quota_project_id` is no text"),
        (json!({"universe_domain": 3}), "`universe_domain` is no text"),
    ] {
        let error = ServiceAccount::from_json(file(change.clone())).unwrap_err();
        assert_eq!((error.kind(), error.advice()), (ErrorKind::Config, Some(Advice::FixConfiguration)));
        assert!(error.to_string().starts_with(&format!("the key file: {says}")), "{change}: {error}");
        assert!(!whole(&error).contains("MIIE"), "{error}");
    }
    for text in ["", "[]", "{", "null", "\"service_account\""] {
        let error = ServiceAccount::from_json(text).unwrap_err();
        assert!(error.to_string().contains("the key file is no JSON object"), "{text}: {error}");
    }
    assert!(ServiceAccount::from_json(vec![b' '; 70_000]).unwrap_err().to_string().contains("64 KiB"));
    // Neither of these need be there.
    ServiceAccount::from_json(file(json!({"private_key_id": null, "token_uri": null, "project_id": null}))).unwrap();
}

#[test]
fn a_hostile_token_uri_is_refused_before_anything_is_sent() {
    for token_uri in [
        "https://attacker.example/token",
        "https://oauth2.googleapis.com.attacker.example/token",
        "https://oauth2.googleapis.com@attacker.example/token",
        "https://attacker.example/?oauth2.googleapis.com",
        "https://attacker.example#oauth2.googleapis.com",
        "https://xoauth2.googleapis.com/token",
        "https://oauth2.googleapis.com.:443@attacker.example/",
        "http://oauth2.googleapis.com/token",
        "http://127.0.0.1:8080/token",
        "https:/oauth2.googleapis.com/token",
        "https://user@oauth2.googleapis.com/token",
        "//oauth2.googleapis.com/token",
        "file:///etc/passwd",
        "token",
    ] {
        let text = file(json!({"token_uri": token_uri}));
        for error in [ServiceAccount::from_json(&text).err(), GoogleCredential::from_json_of_any_type(&text).err()] {
            let error = error.unwrap_or_else(|| panic!("{token_uri} was taken"));
            assert!(error.to_string().contains("`token_uri`"), "{token_uri}: {error}");
        }
    }
    // Who trusts the file says so; cleartext leaves this machine for nobody.
    let elsewhere = file(json!({"token_uri": "https://token.example/token"}));
    let account = ServiceAccount::from_json_with_any_server(elsewhere).unwrap();
    let mut world = World::default();
    world.mint(&account, &Want::access_token(CLOUD)).unwrap_err();
    assert_eq!(world.sent()[0].request.uri(), "https://token.example/token");
    ServiceAccount::from_json_with_any_server(file(json!({"token_uri": "http://token.example/token"}))).unwrap_err();
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
        let request = grantflow::TokenRequest::jwt_bearer(
            &grantflow::ServerMetadata::google(),
            None,
            &assertion,
            Scopes::from(CLOUD),
        );
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

/// Signs in a key store, one round trip away.
#[derive(Debug)]
struct KeyStore(Option<SigningKey>);

impl Signer for KeyStore {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
    fn key_id(&self) -> Option<&str> {
        Some(KEY_ID)
    }
    fn sign(&self, message: &[u8], cx: &mut Cx) -> Signing {
        let signature = self.0.as_ref().map(|key| match key.sign(message, cx) {
            Signing::Done(signature) => signature.unwrap(),
            other => panic!("{other:?}"),
        });
        Signing::Remote(Box::new(RoundTrip { signature, asked: false }))
    }
}

struct RoundTrip {
    signature: Option<Vec<u8>>,
    asked: bool,
}

impl Machine for RoundTrip {
    type Output = Vec<u8>;
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<Vec<u8>> {
        match (self.asked, reply) {
            (false, Reply::Start) => {
                self.asked = true;
                Step::Do(Effect::Sleep(Duration::from_millis(30)))
            }
            (true, Reply::Slept) => Step::Done(self.signature.take().ok_or_else(|| {
                Error::new(ErrorKind::Transport, "the key store is closed")
                    .with_source(std::io::Error::other("no route to the key store"))
            })),
            (_, reply) => panic!("{reply:?}"),
        }
    }
}

#[test]
fn a_signer_may_take_a_round_trip() {
    let key = SigningKey::rs256_from_pem(&private_key()).unwrap();
    let account = ServiceAccount::with_signer(SERVICE_ACCOUNT, KeyStore(Some(key)));
    let mut world = world();
    let token = world.mint(&account, &Want::access_token(CLOUD)).unwrap();
    assert!(token.access_token().starts_with("ya29.c."));
    assert_eq!((world.slept().len(), world.sent().len()), (1, 1));
    // What it signs is the same, byte for byte.
    let assertion = account.assertion(&Want::access_token(CLOUD), NOW + Duration::from_secs(10)).unwrap();
    assert_eq!(world.run(assertion).unwrap().expose(), JWT.trim());
    // By itself, too.
    let token = world.mint(&account, &Want::access_token(CLOUD).self_signed()).unwrap();
    assert_eq!(jwt_parts(token.access_token()).0["kid"], KEY_ID);
}

#[test]
fn a_signer_that_fails_is_the_error() {
    let account = ServiceAccount::with_signer(SERVICE_ACCOUNT, KeyStore(None));
    for want in
        [Want::access_token(CLOUD), Want::access_token(CLOUD).self_signed(), Want::id_token("https://a.example")]
    {
        let mut world = world();
        let error = world.mint(&account, &want).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transport);
        let text = whole(&error);
        assert!(text.contains("minting for a service account: the key store is closed"), "{text}");
        assert!(text.contains("no route to the key store"), "{text}");
        assert!(world.sent().is_empty());
    }
    // A key that Google does not know signs, and Google says so.
    let key = SigningKey::rs256_from_pem(&another_private_key()).unwrap().with_key_id(KEY_ID);
    let error =
        world().mint(&ServiceAccount::with_signer(SERVICE_ACCOUNT, key), &Want::access_token(CLOUD)).unwrap_err();
    assert_eq!(error.server().unwrap().error_description(), Some("Invalid JWT Signature."));
}

#[test]
fn replies_that_do_not_fit_end_in_an_error_at_any_stage() {
    let account = account();
    for steps in 0..3 {
        let mut world = world();
        let mut mint = account.mint(&Want::access_token(CLOUD), &account.first_state());
        let mut reply = Reply::Start;
        for _ in 0..steps {
            match mint.resume(&mut world.cx(), reply) {
                Step::Do(effect) => reply = world.carry_out(effect),
                Step::Done(result) => {
                    result.unwrap();
                    break;
                }
            }
            if matches!(reply, Reply::Start) {
                break;
            }
        }
        let _ = mint.resume(&mut world.cx(), Reply::Slept);
        match mint.resume(&mut world.cx(), Reply::Slept) {
            Step::Done(Err(error)) => assert_eq!(error.kind(), ErrorKind::Misuse, "{steps}: {error}"),
            other => panic!("{steps}: {other:?}"),
        }
    }
}

#[test]
fn refused_requests_and_broken_ones_are_told() {
    let mut refusing = world();
    refusing.refuse = vec!["Http"];
    let error = refusing.mint(&account(), &Want::access_token(CLOUD)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let mut broken = world();
    broken.fail(Failure::not_sent(FailureKind::Tls, "the certificate is somebody else's"));
    let error = broken.mint(&account(), &Want::access_token(CLOUD)).unwrap_err();
    assert_eq!((error.kind(), broken.sent().len()), (ErrorKind::Transport, 1));
}

#[test]
fn nothing_shows_the_key_or_what_it_signs() {
    let key = private_key();
    let line = key.lines().nth(3).unwrap().to_owned();
    let account = account();
    let mut world = world();
    let token = world.mint(&account, &Want::access_token(CLOUD)).unwrap();
    let sent = world.google().seen_at(Place::Token)[0].param("assertion").unwrap();
    let signature = sent.rsplit('.').next().unwrap().to_owned();
    let secrets = [&*line, &*signature, token.access_token()];
    canary::hidden_in_debug("the account", &account, &secrets);
    canary::hidden_in_debug(
        "any credential",
        &GoogleCredential::from_json_of_any_type(file(json!({}))).unwrap(),
        &secrets,
    );
    canary::hidden_in_debug("its state", &account.first_state(), &secrets);
    canary::hidden_in_debug("its token", &token, &secrets);
    canary::hidden_in_debug("the key", &SigningKey::rs256_from_pem(&key).unwrap(), &secrets);
    let signing = SigningKey::rs256_from_pem(&key).unwrap().sign(b"x", &mut world.cx());
    assert_eq!(format!("{signing:?}"), "Signing::Done(..)");
    // A server that sends the assertion back does not get it into an error.
    let body = json!({"error": "invalid_grant", "error_description": format!("bad: {sent}")}).to_string();
    world.google().fail(Place::Token, Fault::status(400, &body));
    let assertion: Exchange<_> = grantflow::TokenRequest::jwt_bearer(
        &grantflow::ServerMetadata::google(),
        None,
        &sent.as_str().into(),
        Scopes::default(),
    )
    .unwrap()
    .exchange();
    canary::hidden("an error", &whole(&world.run(assertion).unwrap_err()), &secrets);
}
