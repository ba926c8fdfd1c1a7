//! Keys that come and go, and hosts of keys that are down.

use grantflow::Client;
use grantflow::crypto::Algorithm;
use grantflow_tests::{Fault, at_once};

use super::*;

#[test]
fn a_key_that_was_not_known_yet_is_asked_for_once_in_half_a_minute() {
    let (old, new) = (IssuerKey::es256("old"), IssuerKey::es256("new"));
    let mut world = with_keys([old.clone()]);
    let verifier = Verifier::id_tokens(&issuer(), "demo");
    let keys = world.run(verifier.read_keys(None, world.now)).unwrap();
    let text = |key: &IssuerKey, world: &World| key.sign("JWT", &id_claims(world.now));
    // Within half a minute nobody asks: the key may be a newer one.
    world.pass(10 * SECOND);
    let Verdict::Done(Err(error)) = verifier.verify_with(&text(&new, &world), &keys, world.now) else { panic!() };
    assert!(error.is_transient() && error.retry_after() == Some(20 * SECOND), "{error}");
    assert!(error.kind() == ErrorKind::Signature && !error.to_string().contains("signature is wrong"), "{error}");
    // One that was issued long before the keys were read is by none of them.
    let long_ago = id_claims(Now { wall: world.now.wall + Duration::ZERO, ..world.now });
    let long_ago = changed(long_ago, &[("iat", json!(world.now.wall.as_unix() - 300))]);
    let Verdict::Done(Err(error)) = verifier.verify_with(&new.sign("JWT", &long_ago), &keys, world.now) else {
        panic!()
    };
    assert!(!error.is_transient(), "{error}");
    // Then one asks, and finds it, or not.
    world.pass(20 * SECOND);
    let Verdict::Ask(error) = verifier.verify_with(&text(&new, &world), &keys, world.now) else { panic!() };
    assert!(error.is_transient());
    let newer = world.run(verifier.read_keys(Some(&keys), world.now)).unwrap();
    assert_eq!(asked(&mut world), 2);
    let Verdict::Done(Err(_)) = verifier.verify_with(&text(&new, &world), &newer, world.now) else { panic!() };
    world.server().settings.keys.insert(0, new.clone());
    world.pass(30 * SECOND);
    assert!(matches!(verifier.verify_with(&text(&old, &world), &newer, world.now), Verdict::Done(Ok(_))));
    let newest = world.run(verifier.read_keys(Some(&newer), world.now)).unwrap();
    for key in [&old, &new] {
        assert!(matches!(verifier.verify_with(&text(key, &world), &newest, world.now), Verdict::Done(Ok(_))));
    }
}

#[test]
fn a_rotation_just_before_signing_is_followed_at_once() {
    let (old, new) = (IssuerKey::es256("old"), IssuerKey::es256("new"));
    let mut world = with_keys([old.clone()]);
    let verifier = Verifier::id_tokens(&issuer(), "demo");
    world.run(verifier.verify(&old.sign("JWT", &id_claims(world.now)))).unwrap();
    world.pass(HOUR / 2);
    world.server().settings.keys = vec![new.clone()];
    world.run(verifier.verify(&new.sign("JWT", &id_claims(world.now)))).unwrap();
    assert_eq!(asked(&mut world), 2);
    // The old key is gone with it.
    let error = world.run(verifier.verify(&old.sign("JWT", &id_claims(world.now)))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Signature);
}

#[test]
fn a_key_that_its_issuer_has_taken_away_is_believed_until_newer_ones_are_read_which_is_when_its_set_ends() {
    let (old, new) = (IssuerKey::es256("old"), IssuerKey::es256("new"));
    let verifier = Verifier::id_tokens(&issuer(), "demo");
    let text = |world: &World| old.sign("JWT", &id_claims(world.now));
    let mut world = with_keys([old.clone()]);
    let keys = world.run(verifier.read_keys(None, world.now)).unwrap();
    world.server().settings.keys = vec![new.clone()];
    world.pass(HOUR - 2 * SECOND);
    assert!(!keys.is_due(world.now));
    assert!(matches!(verifier.verify_with(&text(&world), &keys, world.now), Verdict::Done(Ok(_))));
    world.pass(3 * SECOND);
    assert!(keys.is_due(world.now));
    let newer = world.run(verifier.read_keys(Some(&keys), world.now)).unwrap();
    let Verdict::Done(Err(error)) = verifier.verify_with(&text(&world), &newer, world.now) else { panic!() };
    assert_eq!((error.kind(), asked(&mut world)), (ErrorKind::Signature, 2), "{error}");
    // A machine that holds no keys: the first that finds them too old has newer ones read beside it.
    let mut world = with_keys([old.clone()]);
    world.run(verifier.verify(&text(&world))).unwrap();
    world.server().settings.keys = vec![new];
    world.pass(HOUR + SECOND);
    world.run(verifier.verify(&text(&world))).ok();
    let error = world.run(verifier.verify(&text(&world))).unwrap_err();
    assert_eq!((error.kind(), asked(&mut world)), (ErrorKind::Signature, 2), "{error}");
}

#[test]
fn a_thousand_tokens_by_unknown_keys_cost_one_request() {
    let key = IssuerKey::es256("known");
    let mut world = with_keys([key.clone()]);
    let verifier = Verifier::id_tokens(&issuer(), "demo");
    world.run(verifier.verify(&key.sign("JWT", &id_claims(world.now)))).unwrap();
    world.pass(60 * SECOND);
    let before = asked(&mut world);
    for n in 0..1000 {
        let stranger = key.named(&format!("stranger {n}"));
        let error = world.run(verifier.verify(&stranger.sign("JWT", &id_claims(world.now)))).unwrap_err();
        assert!(error.is_transient() && error.retry_after().is_some(), "{error}");
        world.run(verifier.verify(&key.sign("JWT", &id_claims(world.now)))).unwrap();
    }
    assert_eq!(asked(&mut world) - before, 1);
}

#[test]
fn keys_do_for_a_day_while_their_host_is_down_and_then_the_error_says_so() {
    let key = IssuerKey::es256("a");
    let mut world = with_keys([key.clone()]);
    let verifier = Verifier::id_tokens(&issuer(), "demo");
    let mut keys = world.run(verifier.read_keys(None, world.now)).unwrap();
    let read = world.now;
    let text = |world: &World| key.sign("JWT", &id_claims(world.now));
    world.pass(SECOND);
    for hour in 1..=25 {
        world.pass(HOUR);
        for _ in 0..10 {
            world.server().fail(Place::Keys, Fault::DropBefore);
        }
        let by_machine = world.run(verifier.verify(&text(&world)));
        if hour <= 23 {
            by_machine.unwrap();
            assert!(keys.is_usable(world.now) && keys.is_due(world.now), "{hour}");
            keys = world.run(verifier.read_keys(Some(&keys), world.now)).unwrap();
            assert!(keys.failure().is_some() && !keys.is_due(world.now));
            assert!(matches!(verifier.verify_with(&text(&world), &keys, world.now), Verdict::Done(Ok(_))), "{hour}");
            continue;
        }
        if hour == 24 {
            continue;
        }
        assert!(by_machine.unwrap_err().is_transient());
        let error = world.run(verifier.read_keys(Some(&keys), world.now)).unwrap_err();
        assert!(!keys.is_usable(world.now) && keys.age(world.now) >= world.now.mono - read.mono);
        assert!(error.to_string().contains("read 25 h ago and could not be read since"), "{error}");
        assert!(error.kind() == ErrorKind::Transport && error.is_transient(), "{error:?}");
    }
}

#[test]
fn a_servers_word_on_how_long_its_keys_are_good_counts() {
    let key = IssuerKey::es256("a");
    for (said, again, not_yet) in [
        (Some("max-age=7200"), 2 * HOUR, 2 * HOUR - 2 * SECOND),
        (None, HOUR, HOUR - 2 * SECOND),
        (Some("no-store"), HOUR / 12, HOUR / 12 - 2 * SECOND),
        (Some("max-age=31536000"), 24 * HOUR, 24 * HOUR - 2 * SECOND),
    ] {
        let mut world = with_keys([key.clone()]);
        world.server().settings.keys_cache_control = said;
        let verifier = Verifier::id_tokens(&issuer(), "demo");
        for (pass, requests) in [(Duration::ZERO, 1), (not_yet, 1), (again - not_yet + SECOND, 2)] {
            world.pass(pass);
            world.run(verifier.verify(&key.sign("JWT", &id_claims(world.now)))).unwrap();
            assert_eq!(asked(&mut world), requests, "{said:?} {pass:?}");
        }
    }
}

#[test]
fn a_key_set_that_moved_or_cannot_be_read_is_looked_for_and_costs_nothing_that_was_there() {
    let key = IssuerKey::es256("a");
    let mut world = with_keys([key.clone()]);
    let verifier = Verifier::id_tokens(&issuer(), "demo");
    let keys = world.run(verifier.read_keys(None, world.now)).unwrap();
    for fault in [
        Fault::status(404, "gone"),
        Fault::html(200),
        Fault::status(200, "{}"),
        Fault::status(200, "[]"),
        Fault::status(302, "").header("location", "https://evil.example/keys"),
        Fault::Truncate,
        Fault::Endless,
    ] {
        world.pass(HOUR);
        for _ in 0..8 {
            world.server().fail(Place::Keys, fault.clone());
        }
        let kept = world.run(verifier.read_keys(Some(&keys), world.now)).unwrap();
        assert_eq!((kept.keys().keys().len(), kept.failure().is_some()), (1, true), "{fault:?}");
        for _ in 0..40 {
            world.run(verifier.read_keys(None, world.now)).ok();
        }
        world.pass(HOUR);
    }
    assert!(world.sent().iter().all(|sent| sent.request.uri().host() == Some("as.example")), "no redirect is followed");
    // Decoys do not spoil a set.
    let decoys = json!({"keys": [
        {"kty": "oct", "k": "AAAA", "kid": "a"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "a"}, 7, null,
        {"kty": "future", "kid": "a"}, key.jwk(), {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "a"},
    ]});
    world.pass(HOUR);
    world.server().fail(Place::Keys, Fault::status(200, &decoys.to_string()));
    let keys = world.run(verifier.read_keys(Some(&keys), world.now)).unwrap();
    let text = key.sign("JWT", &id_claims(world.now));
    assert!(matches!(verifier.verify_with(&text, &keys, world.now), Verdict::Done(Ok(_))));
}

#[test]
fn a_key_set_of_any_depth_is_read_or_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let key = IssuerKey::es256("a").jwk();
    for (text, keys) in [
        (format!(r#"{{"keys":[{deep},{key}]}}"#), 1),
        (format!(r#"{{"keys":[{{"kty":{deep}}},{key}]}}"#), 1),
        (format!(r#"{{"x":{deep},"keys":[{key}]}}"#), 1),
        (format!(r#"{{"keys":{deep}}}"#), 0),
    ] {
        assert_eq!(JwkSet::from_json(text.as_bytes()).unwrap().keys().len(), keys, "{}", &text[..20]);
    }
    let array = format!("[[{key}]]");
    for text in ["[".repeat(100_000), r#"{"keys":"#.repeat(50_000), r#"{"keys":["#.repeat(50_000), deep, array] {
        assert_eq!(JwkSet::from_json(text.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidResponse);
    }
}

#[test]
fn what_a_stranger_names_is_read_from_global_addresses_alone() {
    let key = IssuerKey::es256("a");
    let mut world = with_keys([key.clone()]);
    let verifier = Verifier::id_tokens(&issuer(), "demo").of_stranger().unwrap();
    world.run(verifier.verify(&key.sign("JWT", &id_claims(world.now)))).unwrap();
    assert!(world.sent().iter().all(|sent| sent.reach == grantflow::machine::Reach::Global));
    Verifier::id_tokens(&issuer(), "demo").jwks_uri("https://10.0.0.1/keys").unwrap().of_stranger().unwrap_err();
}

#[test]
fn given_keys_and_known_servers_ask_nobody_what_they_know() {
    let key = IssuerKey::es256("a");
    let mut world = with_keys([key.clone()]);
    let text = key.sign("JWT", &id_claims(world.now));
    let set = JwkSet::from_json(IssuerKey::set([&key]).to_string().as_bytes()).unwrap();
    let fixed = Verifier::id_tokens(&issuer(), "demo").with_keys(set).algorithms([Algorithm::ES256]);
    at_once(fixed.verify(&text), &mut world.cx()).unwrap();
    let error = at_once(fixed.verify(&key.named("b").sign("JWT", &id_claims(world.now))), &mut world.cx()).unwrap_err();
    assert!(!error.is_transient(), "{error}");
    let server = world.server().metadata();
    world.run(Verifier::id_tokens_of(&server, &Client::new("demo")).unwrap().verify(&text)).unwrap();
    assert_eq!((asked(&mut world), world.server().seen_at(Place::OpenIdMetadata).len()), (1, 0));
    let access = Verifier::access_tokens_of(&server, API).unwrap();
    world.run(access.verify(&key.sign("at+jwt", &access_claims(world.now)))).unwrap();
}
