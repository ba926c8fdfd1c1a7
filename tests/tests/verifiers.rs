//! Tokens of others, verified by the keys of their issuers: rules, rotation, hosts that are down.

use std::time::Duration;

use grantflow::crypto::{Algorithm, MacAlgorithm};
use grantflow::jose::{AccessToken, IdToken, JwkSet, KeySet, Verdict};
use grantflow::{Client, Error, ErrorKind, Issuer, Now, Secret, Verifier};
use grantflow_tests::demo::{self, batch};
use grantflow_tests::{Fault, IssuerKey, Place, Server, World, at_once};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const API: &str = "https://api.example";

fn issuer() -> Issuer {
    Issuer::new("https://as.example").unwrap()
}

fn with_keys(keys: impl IntoIterator<Item = IssuerKey>) -> World {
    World::with(Server::demo().with(|settings| settings.keys = keys.into_iter().collect()))
}

fn asked(world: &mut World) -> usize {
    world.server().seen_at(Place::Keys).len()
}

/// The claims of an ID token for `demo`, of this moment.
fn id_claims(now: Now) -> Value {
    let now = now.wall.as_unix();
    json!({"iss": "https://as.example", "sub": "alice", "aud": "demo", "iat": now, "exp": now + 3600})
}

fn access_claims(now: Now) -> Value {
    let mut claims = id_claims(now);
    for (name, value) in
        [("aud", json!(API)), ("client_id", json!("demo")), ("jti", json!("1")), ("scope", json!("read write"))]
    {
        claims[name] = value;
    }
    claims
}

fn changed(mut claims: Value, changes: &[(&str, Value)]) -> Value {
    for (name, value) in changes {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(*name)),
            value => claims[*name] = value.clone(),
        }
    }
    claims
}

/// What this verifier makes of a token that this key signs, with the key's set at hand.
fn judge(verifier: &Verifier<IdToken>, key: &IssuerKey, claims: &Value, now: Now) -> Result<IdToken, Error> {
    let keys = JwkSet::from_json(IssuerKey::set([key]).to_string().as_bytes()).unwrap();
    match verifier.verify_with(&key.sign("JWT", claims), &KeySet::fixed(keys), now) {
        Verdict::Done(result) => result,
        Verdict::Ask(error) => panic!("{error}"),
    }
}

#[test]
fn an_id_token_from_elsewhere_is_verified_by_the_keys_that_the_metadata_names() {
    for (nth, key) in
        [IssuerKey::es256("a"), IssuerKey::rs256("b"), IssuerKey::es256("c").without_kid()].into_iter().enumerate()
    {
        let mut world = with_keys([key.clone()]);
        let token = demo::signed_in(&mut world, "openid email");
        let text = token.id_token().unwrap().as_secret().expose().to_owned();
        let nonce: Secret = token.id_token().unwrap().claims().str("nonce").unwrap().into();
        let verifier = Verifier::id_tokens(&issuer(), "demo");
        let verified = world.run(verifier.verify_with_nonce(&text, &nonce)).unwrap();
        assert_eq!((verified.subject(), verified.verified_email()), ("alice", Some("alice@example.com")));
        assert_eq!(verified.as_secret().expose(), text);
        // One bit of the signature, of the claims, of the header.
        let parts: Vec<_> = text.split('.').collect();
        let other = key.sign("JWT", &id_claims(world.now));
        let others: Vec<_> = other.split('.').collect();
        for forged in [
            format!("{}.{}.{}", parts[0], parts[1], others[2]),
            format!("{}.{}.{}", parts[0], others[1], parts[2]),
            format!("{}.{}.", parts[0], parts[1]),
        ] {
            let error = world.run(verifier.clone().any_nonce().verify(&forged)).unwrap_err();
            // A token that names no key may be by one that is not known yet.
            assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Signature, nth == 2), "{error}");
        }
        let error = world.run(verifier.verify(&text)).unwrap_err();
        assert!(error.to_string().contains("nonce"), "{error}");
        assert_eq!((asked(&mut world), world.server().seen_at(Place::OpenIdMetadata).len()), (1, 1));
    }
}

#[test]
fn the_rules_of_id_tokens_hold_one_by_one() {
    let (key, now) = (IssuerKey::es256("a"), World::default().now);
    let verifier = Verifier::id_tokens(&issuer(), "demo").client_id("app");
    let seconds = now.wall.as_unix();
    let max_age = verifier.clone().max_age(HOUR);
    type Case<'a> = (&'a Verifier<IdToken>, &'a [(&'a str, Value)], &'a str);
    let cases: &[Case<'_>] = &[
        (&verifier, &[], ""),
        (&verifier, &[("iss", json!("https://as.example/"))], "iss"),
        (&verifier, &[("iss", Value::Null)], "iss"),
        (&verifier, &[("sub", Value::Null)], "sub"),
        (&verifier, &[("sub", json!("x".repeat(256)))], "sub"),
        (&verifier, &[("aud", json!("other"))], "aud"),
        (&verifier, &[("aud", json!([]))], "aud"),
        (&verifier, &[("aud", json!(["demo", 1]))], "aud"),
        (&verifier, &[("aud", json!(["demo"]))], ""),
        (&verifier, &[("aud", json!(["demo", "other"])), ("azp", json!("demo"))], "others too"),
        (&verifier, &[("aud", json!(["demo", "app"]))], "azp"),
        (&verifier, &[("aud", json!(["demo", "app"])), ("azp", json!("app"))], ""),
        (&verifier, &[("azp", json!("app"))], ""),
        (&verifier, &[("azp", json!("other"))], "azp"),
        (&verifier, &[("azp", json!(7))], "azp"),
        (&verifier, &[("exp", json!(seconds - 59))], ""),
        (&verifier, &[("exp", json!(seconds - 60))], "expired"),
        (&verifier, &[("exp", json!("9999999999"))], "exp"),
        (&verifier, &[("exp", json!(-1))], "exp"),
        (&verifier, &[("exp", Value::Null)], "exp"),
        (&verifier, &[("iat", json!(seconds + 60))], ""),
        (&verifier, &[("iat", json!(seconds + 61))], "future"),
        (&verifier, &[("iat", Value::Null)], "iat"),
        (&verifier, &[("nbf", json!(seconds + 61))], "nbf"),
        (&verifier, &[("nbf", json!("now"))], "nbf"),
        (&verifier, &[("nonce", json!("n"))], "nonce"),
        (&max_age, &[], "auth_time"),
        (&max_age, &[("auth_time", json!(seconds - 3661))], "max_age"),
        (&max_age, &[("auth_time", json!(seconds - 3660))], ""),
    ];
    for (verifier, changes, why) in cases {
        let result = judge(verifier, &key, &changed(id_claims(now), changes), now);
        match (result, *why) {
            (Ok(_), "") => {}
            (Err(error), why) if !why.is_empty() => {
                assert!(error.kind() == ErrorKind::IdToken && error.to_string().contains(why), "{changes:?}: {error}");
            }
            (result, _) => panic!("{changes:?}: {result:?}"),
        }
    }
    let later = Now { wall: now.wall + Duration::from_secs(3600 + 299), ..now };
    judge(&verifier.clone().leeway(24 * HOUR), &key, &id_claims(now), later).unwrap();
    let later = Now { wall: now.wall + Duration::from_secs(3600 + 300), ..now };
    judge(&verifier.leeway(24 * HOUR), &key, &id_claims(now), later).unwrap_err();
}

#[test]
fn a_token_of_another_kind_is_no_id_token_and_none_is_an_access_token() {
    let (key, now) = (IssuerKey::es256("a"), World::default().now);
    let keys = KeySet::fixed(JwkSet::from_json(IssuerKey::set([&key]).to_string().as_bytes()).unwrap());
    let id_tokens = Verifier::id_tokens(&issuer(), API);
    let access_tokens = Verifier::access_tokens(&issuer(), API);
    let lenient = access_tokens.clone().without_profile();
    let claims = access_claims(now);
    for (typ, id, access, loose) in [
        (json!("JWT"), true, false, true),
        (json!("jwt"), true, false, true),
        (json!("at+jwt"), false, true, true),
        (json!("application/at+JWT"), false, true, true),
        (json!("logout+jwt"), false, false, false),
        (json!("client-authentication+jwt"), false, false, false),
        (json!(7), false, false, false),
    ] {
        let text = key.sign_with(&json!({"typ": typ}), &claims);
        let good = [
            matches!(id_tokens.verify_with(&text, &keys, now), Verdict::Done(Ok(_))),
            matches!(access_tokens.verify_with(&text, &keys, now), Verdict::Done(Ok(_))),
            matches!(lenient.verify_with(&text, &keys, now), Verdict::Done(Ok(_))),
        ];
        assert_eq!(good, [id, access, loose], "{typ}");
    }
}

#[test]
fn google_is_one_line_with_several_clients_and_a_domain() {
    let (key, now) = (IssuerKey::rs256("a"), World::default().now);
    let verifier = Verifier::google_id_tokens(["web", "android"]).hosted_domain("example.com");
    let claims = |changes: &[(&str, Value)]| {
        let google = [("iss", json!("https://accounts.google.com")), ("aud", json!("web")), ("azp", json!("android"))];
        changed(changed(id_claims(now), &google), &[&[("hd", json!("example.com"))], changes].concat())
    };
    judge(&verifier, &key, &claims(&[]), now).unwrap();
    judge(&verifier, &key, &claims(&[("iss", json!("accounts.google.com"))]), now).unwrap();
    for (changes, why) in [
        ([("iss", json!("https://accounts.google.com.evil.example"))], "iss"),
        ([("hd", Value::Null)], "hd"),
        ([("hd", json!("example.com.evil.example"))], "hd"),
        ([("azp", json!("stranger"))], "azp"),
    ] {
        let error = judge(&verifier, &key, &claims(&changes), now).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    // A service account that calls a service.
    let robot = [("aud", json!("web")), ("azp", json!("robot@project.iam.gserviceaccount.com"))];
    judge(&verifier, &key, &claims(&robot), now).unwrap_err();
    let robots = verifier.clone().authorized_party("robot@project.iam.gserviceaccount.com");
    judge(&robots, &key, &claims(&robot), now).unwrap();
    judge(&verifier.clone().any_authorized_party(), &key, &claims(&robot), now).unwrap();
    // Another algorithm than Google's is not taken.
    assert_eq!(judge(&verifier, &IssuerKey::es256("a"), &claims(&[]), now).unwrap_err().kind(), ErrorKind::Signature);
    let mut world = World::default();
    let error = world.run(verifier.verify(&key.sign("JWT", &claims(&[])))).unwrap_err();
    assert!(error.to_string().contains("https://www.googleapis.com/oauth2/v3/certs"), "{error}");
}

#[test]
fn of_many_tenants_each_is_its_own_issuer() {
    let (key, now) = (IssuerKey::rs256("a"), World::default().now);
    let entra = Verifier::entra_id_tokens("demo");
    let claims = |iss: &str, tid: Value| changed(id_claims(now), &[("iss", json!(iss)), ("tid", tid)]);
    let of = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/v2.0");
    judge(&entra, &key, &claims(&of("a-1"), json!("a-1")), now).unwrap();
    for (iss, tid) in [
        (of("a-1"), json!("a-2")),
        (of("a-1"), Value::Null),
        (of(""), json!("")),
        (of("a/../b"), json!("a/../b")),
        ("https://login.microsoftonline.com.evil.example/a-1/v2.0".into(), json!("a-1")),
        ("https://login.microsoftonline.com/a-1".into(), json!("a-1")),
        ("https://sts.windows.net/a-1/".into(), json!("a-1")),
    ] {
        judge(&entra, &key, &claims(&iss, tid.clone()), now).expect_err(&iss);
    }
    let some = entra.tenants(["a-1", "a-2"]);
    judge(&some, &key, &claims(&of("a-2"), json!("a-2")), now).unwrap();
    judge(&some, &key, &claims(&of("a-3"), json!("a-3")), now).unwrap_err();
    let own =
        Verifier::id_tokens_of_tenants("https://{org}.login.example", "https://login.example/keys", "demo").unwrap();
    let claims = |org| changed(id_claims(now), &[("iss", json!("https://x.login.example")), ("org", json!(org))]);
    judge(&own, &key, &claims("x"), now).unwrap();
    judge(&own, &key, &claims("y"), now).unwrap_err();
    for template in ["https://login.example", "https://{}.example", "https://{a}.{b}.example", "http://{a}.example"] {
        Verifier::id_tokens_of_tenants(template, "https://login.example/keys", "demo").unwrap_err();
    }
}

/// As Entra has it: most keys are for all tenants, and some for one.
#[test]
fn a_key_that_tenants_share_signs_only_for_those_that_it_names() {
    let now = World::default().now;
    let of = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/v2.0");
    let verifier = Verifier::entra_id_tokens("demo").tenants(["a-1", "a-2"]);
    let named = Verifier::id_tokens_of(
        &grantflow::ServerMetadata::new(issuer())
            .jwks_uri("https://as.example/keys")
            .unwrap()
            .issuer_alias("https://login.microsoftonline.com/{tid}/v2.0"),
        &grantflow::Client::new("demo"),
    );
    for (key_issuer, tenant, good) in [
        (json!(of("{tenantid}")), "a-1", true),
        (json!(of("{tenantid}")), "a-2", true),
        (json!(of("a-1")), "a-1", true),
        (json!(of("a-1")), "a-2", false),
        (json!("https://login.partner.example/{tenantid}/v2.0"), "a-1", false),
        (json!("https://login.microsoftonline.com/{tenantid}"), "a-1", false),
        (json!(""), "a-1", true),
        (Value::Null, "a-1", true),
        (json!(17), "a-1", false),
    ] {
        let key = IssuerKey::rs256("a");
        let mut set = IssuerKey::set([&key]);
        set["keys"][0]["issuer"] = key_issuer.clone();
        let keys = KeySet::fixed(JwkSet::from_json(set.to_string().as_bytes()).unwrap());
        let claims = changed(id_claims(now), &[("iss", json!(of(tenant))), ("tid", json!(tenant))]);
        let token = key.sign("JWT", &claims);
        for verifier in [&verifier, named.as_ref().unwrap()] {
            match verifier.verify_with(&token, &keys, now) {
                Verdict::Done(Ok(_)) => assert!(good, "{key_issuer} {tenant}"),
                Verdict::Done(Err(error)) | Verdict::Ask(error) => {
                    assert!(!good && error.kind() == ErrorKind::Signature, "{key_issuer} {tenant}: {error}");
                }
            }
        }
        // Where one issuer's keys are, all are its own.
        let one = Verifier::id_tokens(&Issuer::new(of(tenant)).unwrap(), "demo");
        assert_eq!(matches!(one.verify_with(&token, &keys, now), Verdict::Done(Ok(_))), key_issuer != json!(17));
    }
}

#[test]
fn a_shared_secret_is_taken_only_where_it_was_registered_and_never_a_public_key_for_one() {
    let (world, secret) = (World::default(), Secret::from("a client_secret of 32 bytes or so"));
    let now = world.now;
    let verifier = Verifier::id_tokens(&issuer(), "demo").signed_by_secret(MacAlgorithm::HS256, &secret).unwrap();
    let hs256 = |claims: &Value, secret: &str| {
        use base64::Engine as _;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.to_string().as_bytes()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        format!("{signed}.{}", encode(ring::hmac::sign(&key, signed.as_bytes()).as_ref()))
    };
    let text = hs256(&id_claims(now), secret.expose());
    let mut world = world;
    world.run(verifier.verify(&text)).unwrap();
    assert!(world.sent().is_empty());
    world.run(verifier.verify(&hs256(&id_claims(now), "another secret of 32 bytes or so.."))).unwrap_err();
    let two = changed(id_claims(now), &[("aud", json!(["demo", "app"])), ("azp", json!("demo"))]);
    world.run(verifier.client_id("app").verify(&hs256(&two, secret.expose()))).unwrap_err();
    // The public key as the secret, in each form that is public.
    let key = IssuerKey::rs256("a");
    let set = IssuerKey::set([&key]).to_string();
    let keys = KeySet::fixed(JwkSet::from_json(set.as_bytes()).unwrap());
    let public = Verifier::id_tokens(&issuer(), "demo");
    for secret in [set.as_str(), &key.jwk().to_string(), &String::from_utf8_lossy(&key.public())] {
        let Verdict::Done(Err(error)) = public.verify_with(&hs256(&id_claims(now), secret), &keys, now) else {
            panic!()
        };
        assert_eq!(error.kind(), ErrorKind::Signature);
    }
}

#[test]
fn an_access_token_must_follow_its_profile() {
    let (key, now) = (IssuerKey::es256("a"), World::default().now);
    let keys = KeySet::fixed(JwkSet::from_json(IssuerKey::set([&key]).to_string().as_bytes()).unwrap());
    let strict = Verifier::access_tokens(&issuer(), API);
    let judge = |verifier: &Verifier<AccessToken>, changes: &[(&str, Value)]| match verifier.verify_with(
        &key.sign("at+jwt", &changed(access_claims(now), changes)),
        &keys,
        now,
    ) {
        Verdict::Done(result) => result,
        Verdict::Ask(error) => panic!("{error}"),
    };
    let token = judge(&strict, &[]).unwrap();
    assert_eq!(
        (token.subject(), token.client_id(), token.issuer()),
        (Some("alice"), Some("demo"), Some("https://as.example"))
    );
    assert!(token.scopes().contains("write") && token.expires_at().unwrap() == now.wall + HOUR);
    for name in ["iss", "aud", "exp", "iat", "sub", "client_id", "jti"] {
        let error = judge(&strict, &[(name, Value::Null)]).unwrap_err();
        assert!(error.kind() == ErrorKind::AccessToken && error.to_string().contains(name), "{name}: {error}");
    }
    judge(&strict, &[("aud", json!(["x", API]))]).unwrap();
    judge(&strict, &[("aud", json!(["x"]))]).unwrap_err();
    judge(&strict.clone().audience("x"), &[("aud", json!(["x"]))]).unwrap();
    // As Keycloak and Entra make them.
    let loose = strict.without_profile();
    let entra =
        [("jti", Value::Null), ("client_id", Value::Null), ("scope", Value::Null), ("scp", json!("Files.Read"))];
    assert_eq!(judge(&loose, &entra).unwrap().scopes().as_str(), "Files.Read");
    assert_eq!(judge(&loose, &[("scope", Value::Null), ("scp", json!(["a", "b"]))]).unwrap().scopes().as_str(), "a b");
    for changes in [("exp", Value::Null), ("iss", json!("https://x.example")), ("aud", json!("x")), ("nbf", json!("x"))]
    {
        judge(&loose, &[changes]).unwrap_err();
    }
}

// --- keys that come and go

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
    let _ = batch();
}
