//! Verifiers that keep their issuer's keys: one reading for all, and nobody waits who need not.

use grantflow::Verifier;
use grantflow::jose::IdToken;
use grantflow_tests::IssuerKey;
use grantflow_tests::front::wall_clock;
use serde_json::json;

use super::*;

/// An ID token for `demo`, of this moment.
fn id_token(front: &Front, key: &IssuerKey) -> String {
    let now = wall_clock().as_unix();
    let claims = json!({"iss": front.issuer(), "sub": "alice", "aud": "demo", "iat": now, "exp": now + 3600});
    key.sign("JWT", &claims)
}

fn stage(keys: &[&IssuerKey]) -> (Front, Verifier<IdToken>) {
    let keys = keys.iter().copied().cloned().collect();
    let front = Front::start(Server::demo().with(|settings| settings.keys = keys)).unwrap();
    let verifier = Verifier::id_tokens(&Issuer::new(front.issuer()).unwrap(), "demo");
    (front, verifier)
}

fn asked(front: &Front) -> (usize, usize) {
    let server = front.server();
    (server.seen_at(Place::OpenIdMetadata).len(), server.seen_at(Place::Keys).len())
}

pub(super) fn a_thousand_tokens_at_once_read_the_keys_once_and_strangers_ask_for_none<A: Adapter>() {
    let key = IssuerKey::es256("a");
    let (front, verifier) = stage(&[&key]);
    let known = vec![id_token(&front, &key); 1000];
    let strange = (0..1000).map(|n| id_token(&front, &key.named(&format!("stranger {n}")))).collect();
    let results = A::new().verify_all(&verifier, [known, strange], &|| {});
    for (n, (result, _)) in results.into_iter().enumerate() {
        match result {
            Ok(token) if n < 1000 => assert_eq!(token.subject(), "alice"),
            Err(error) if n >= 1000 => {
                assert!(error.kind() == ErrorKind::Signature && error.is_transient(), "{error}");
                assert!(error.retry_after().is_some_and(|time| time <= Duration::from_secs(30)), "{error}");
            }
            result => panic!("{n}: {result:?}"),
        }
    }
    assert_eq!(asked(&front), (1, 1));
}

/// It takes half a minute, within which nobody asks for newer keys.
pub(super) fn a_new_key_is_asked_for_once_by_all_who_need_it_and_nobody_else_waits<A: Adapter>() {
    let (old, new) = (IssuerKey::es256("old"), IssuerKey::es256("new"));
    let (front, verifier) = stage(&[&old]);
    let with = |key: &IssuerKey, count| vec![id_token(&front, key); count];
    let slow = Duration::from_secs(2);
    let results = A::new().verify_all(&verifier, [with(&old, 1), [with(&new, 500), with(&old, 500)].concat()], &|| {
        if asked(&front).1 > 1 {
            return;
        }
        std::thread::sleep(Duration::from_secs(31));
        let mut server = front.server();
        server.settings.keys.push(new.clone());
        server.fail(Place::Keys, Fault::Delay(slow));
    });
    for (n, (result, took)) in results.into_iter().enumerate() {
        assert_eq!(result.unwrap().subject(), "alice", "{n}");
        // Known keys verify while the others are fetched.
        assert_eq!(took > slow / 2, (1..=500).contains(&n), "{n}: {took:?}");
    }
    assert_eq!(asked(&front), (1, 2));
}

pub(super) fn keys_that_cannot_be_read_are_an_error_for_all_who_wait_and_asked_for_again<A: Adapter>() {
    let key = IssuerKey::rs256("a");
    let (front, verifier) = stage(&[&key]);
    front.server().fail(Place::Keys, Fault::html(404));
    let tokens = || vec![id_token(&front, &key); 20];
    let results = A::new().verify_all(&verifier, [tokens(), tokens()], &|| std::thread::sleep(Duration::from_secs(2)));
    for (n, (result, _)) in results.into_iter().enumerate() {
        match result {
            Ok(_) if n >= 20 => {}
            Err(error) if n < 20 => assert_eq!((error.kind(), error.status()), (ErrorKind::Http, Some(404)), "{error}"),
            result => panic!("{n}: {result:?}"),
        }
    }
    // Newer metadata names the same address, whose answer is shared for a second.
    assert_eq!(asked(&front).1, 2, "once for all who wait, and once more for the second ones");
}
