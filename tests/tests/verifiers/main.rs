//! Tokens of others, verified by the keys of their issuers: rules, rotation, hosts that are down.

mod keys;

use std::time::Duration;

use grantflow::crypto::MacAlgorithm;
use grantflow::jose::{AccessToken, IdToken, JwkSet, KeySet, Verdict};
use grantflow::{Error, ErrorKind, Issuer, Now, Secret, Verifier};
use grantflow_tests::{IssuerKey, Place, Server, World, demo};
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
    // A signed answer, an assertion and a logout token, whose typ says nothing.
    let issued = now.wall.as_unix();
    let (iss, exp) = ("https://as.example", issued + 120);
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for claims in [
        json!({"iss": iss, "aud": API, "exp": exp, "code": "c", "state": "s"}),
        json!({"iss": API, "sub": API, "aud": iss, "jti": "1", "iat": issued, "exp": exp}),
        json!({"iss": iss, "sub": "alice", "aud": API, "jti": "1", "iat": issued, "exp": exp, "events": {event: {}}}),
    ] {
        let text = key.sign("JWT", &claims);
        assert!(matches!(id_tokens.verify_with(&text, &keys, now), Verdict::Done(Err(_))), "{claims}");
        assert!(matches!(access_tokens.verify_with(&text, &keys, now), Verdict::Done(Err(_))), "{claims}");
        let refused = matches!(lenient.verify_with(&text, &keys, now), Verdict::Done(Err(_)));
        // Without its profile, an access token is any JWT of its issuer for this resource, but for a logout token.
        assert!(refused || claims["code"].is_string(), "{claims}");
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
    let by = |claims: &Value, secret: &[u8]| {
        use base64::Engine as _;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.to_string().as_bytes()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        format!("{signed}.{}", encode(ring::hmac::sign(&key, signed.as_bytes()).as_ref()))
    };
    let hs256 = |claims: &Value, secret: &str| by(claims, secret.as_bytes());
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
    let (der, jwk) = (key.public(), key.jwk().to_string());
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &der);
    let pem = format!("-----BEGIN RSA PUBLIC KEY-----\n{body}\n-----END RSA PUBLIC KEY-----\n");
    for secret in [set.as_bytes(), jwk.as_bytes(), &der, pem.as_bytes(), pem.trim_end().as_bytes(), &[]] {
        let Verdict::Done(Err(error)) = public.verify_with(&by(&id_claims(now), secret), &keys, now) else { panic!() };
        assert!(error.kind() == ErrorKind::Signature && error.to_string().contains("not allowed"), "{error}");
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
