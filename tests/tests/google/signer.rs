//! Signers that take a round trip, and what becomes of an assertion that does not get through.

use std::time::Duration;

use grantflow::crypto::{Algorithm, Signer, Signing, SigningKey};
use grantflow::google::{GoogleCredential, ServiceAccount};
use grantflow::machine::FailureKind;
use grantflow::source::{TokenSource, Want};
use grantflow::{Cx, Effect, Error, ErrorKind, Failure, Machine, Reply, Scopes, ServerMetadata, Step, TokenRequest};
use grantflow_tests::google::{KEY_ID, Place, SERVICE_ACCOUNT, another_private_key, jwt_parts, private_key, world};
use grantflow_tests::{Fault, canary};
use serde_json::json;

use super::{CLOUD, JWT, NOW, account, key_with, whole};

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
    let key = SigningKey::from_pem(Algorithm::RS256, &private_key()).unwrap();
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
        assert_eq!(error.kind(), ErrorKind::Signing);
        let text = whole(&error);
        assert!(text.contains("minting for a service account: the request could not be signed"), "{text}");
        assert!(text.contains("the key store is closed"), "{text}");
        assert!(text.contains("no route to the key store"), "{text}");
        assert!(world.sent().is_empty());
    }
    // A key that Google does not know signs, and Google says so.
    let key = SigningKey::from_pem(Algorithm::RS256, &another_private_key()).unwrap().with_key_id(KEY_ID);
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
        &GoogleCredential::from_json_of_any_type(key_with(json!({}))).unwrap(),
        &secrets,
    );
    canary::hidden_in_debug("its state", &account.first_state(), &secrets);
    canary::hidden_in_debug("its token", &token, &secrets);
    canary::hidden_in_debug("the key", &SigningKey::from_pem(Algorithm::RS256, &key).unwrap(), &secrets);
    let signing = SigningKey::from_pem(Algorithm::RS256, &key).unwrap().sign(b"x", &mut world.cx());
    assert_eq!(format!("{signing:?}"), "Signing::Done(..)");
    // A server that sends the assertion back does not get it into an error.
    let body = json!({"error": "invalid_grant", "error_description": format!("bad: {sent}")}).to_string();
    world.google().fail(Place::Token, Fault::status(400, &body));
    let assertion = TokenRequest::jwt_bearer(&ServerMetadata::google(), None, &sent.as_str().into(), Scopes::default())
        .unwrap()
        .exchange();
    canary::hidden("an error", &whole(&world.run(assertion).unwrap_err()), &secrets);
}
