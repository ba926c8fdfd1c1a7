//! FAPI 2.0 Message Signing: requests that are signed and pushed, answers that are signed, of clients that are held to the profile.

use grantflow::InstalledApp;

use super::*;

#[test]
fn a_client_that_signs_its_messages_sends_no_other_request_and_takes_no_other_answer() {
    let keyed = Registered::private_key_jwt("bank", [Es256::default().public()]).request_key(Es256::default().public());
    let mut world = world_of(keyed, |settings| settings.dpop_nonce = None);
    for (member, value) in [
        ("response_modes_supported", json!(["query"])),
        ("response_modes_supported", Value::Null),
        ("jwks_uri", Value::Null),
        ("authorization_signing_alg_values_supported", json!(["RS256"])),
        ("request_object_signing_alg_values_supported", json!(["RS256", "none"])),
        ("code_challenge_methods_supported", Value::Null),
    ] {
        let lacking = world.server().metadata().member(member, value);
        let error = plain().fapi2_message_signing(&lacking).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(member), "{error}");
    }
    let server = world.server().metadata();
    let registered = plain().authorization_signed_response_alg(Algorithm::EdDSA);
    assert!(registered.fapi2_message_signing(&server).unwrap_err().to_string().contains("EdDSA"));
    let client = plain().fapi2_message_signing(&server).unwrap();
    let request = || AuthorizationRequest::new(&server, &client, REDIRECT).scopes("openid");
    for (request, why) in
        [(request().signed_response(), "request is signed"), (request().sign(Es256::default()), "answer is signed")]
    {
        let error = world.run(request.start()).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(why), "{error}");
    }
    assert!(world.server().seen().is_empty());
    let rs256 = SigningKey::from_pem(Algorithm::RS256, &private_key()).unwrap();
    let error = world.run(request().sign(rs256).signed_response().start()).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("RS256"), "{error}");
    assert!(world.server().seen().is_empty());
}

/// A server of the profile that takes signed requests alone, and a client that signs its messages.
fn message_signing(change: impl FnOnce(&mut Settings)) -> (World, Client) {
    let keyed = Registered::private_key_jwt("bank", [Es256::default().public()]).request_key(Es256::default().public());
    let mut world = world_of(keyed.redirect_uri("http://127.0.0.1/"), |settings| {
        settings.alter_metadata = Alter::by(|document| {
            document["require_signed_request_object"] = true.into();
            document["request_object_signing_alg_values_supported"] = json!(["PS256", "ES256"]);
        });
        change(settings);
    });
    let client = plain().fapi2_message_signing(&world.server().metadata()).unwrap();
    (world, client)
}

#[test]
fn a_request_that_is_signed_and_pushed_and_an_answer_that_is_signed_get_a_token_that_a_resource_takes() {
    let (mut world, client) = message_signing(|_| {});
    let asked = request(&mut world, &client).sign(Es256::default()).signed_response();
    let authorization = world.run(asked.start()).unwrap();
    let (_, query) = authorization.url.split_once('?').unwrap();
    let names: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["client_id", "request_uri"]);
    let pushed = world.server().seen_at(Place::PushedRequest)[0].clone();
    let (header, claims) = jwt_parts(&pushed.param("request").unwrap());
    assert_eq!((&header["typ"], &header["alg"]), (&json!("oauth-authz-req+jwt"), &json!("ES256")));
    assert_eq!((&claims["aud"], &claims["response_mode"]), (&json!("https://as.example"), &json!("jwt")));
    assert!(claims["code_challenge"].is_string() && claims["dpop_jkt"].is_string() && claims["state"].is_string());
    let [now, nbf, exp] = [json!(world.now.wall.as_unix()), claims["nbf"].clone(), claims["exp"].clone()]
        .map(|moment| moment.as_i64().unwrap());
    assert!(nbf <= now && now - nbf <= 3600 && exp - nbf <= 3600, "Message Signing, section 5.3.1: {claims}");
    assert!(pushed.param("state").is_none() && pushed.param("client_assertion").is_some());
    let redirect = world.person(&authorization.url);
    assert!(redirect.starts_with(&format!("{REDIRECT}?response=")) && !redirect.contains('&'), "{redirect}");
    let token = world.run(authorization.pending.finish(&client, &redirect)).unwrap();
    assert!(token.id_token().is_some());
    let mut nonces = DpopNonces::default();
    assert_eq!(resource(&mut world, &token, None, &mut nonces), (401, true));
    assert_eq!(resource(&mut world, &token, None, &mut nonces), (200, false));
    // So does an installed application.
    let app = InstalledApp::new(&world.server().metadata(), &client).scopes("openid").sign(Es256::default());
    let mut receiver = world.run(app.signed_response().start(50123)).unwrap();
    let (redirect, now) = (world.person(receiver.url()), world.now.wall);
    receiver.paste(&redirect, now).unwrap();
    assert!(world.run(receiver.finish()).unwrap().dpop_key().is_some());
}

type Change = Box<dyn FnOnce(&mut Settings)>;

#[test]
fn an_answer_that_the_profile_does_not_permit_is_refused_though_it_is_signed() {
    let claim = |name, value: &str| {
        let value = json!(value);
        Box::new(move |settings: &mut Settings| settings.alter_answer_claims = Alter::set(name, value)) as Change
    };
    let changes = [
        (
            Box::new(|settings: &mut Settings| settings.keys = vec![IssuerKey::rs256("rs-1")]) as Change,
            ErrorKind::Signature,
        ),
        (
            Box::new(|settings: &mut Settings| settings.signs_with = Some(IssuerKey::es256("es-1"))),
            ErrorKind::Signature,
        ),
        (claim("iss", "https://other.example"), ErrorKind::InvalidRedirect),
        (claim("aud", "another"), ErrorKind::InvalidRedirect),
    ];
    for (change, kind) in changes {
        let (mut world, client) = message_signing(|_| {});
        let asked = request(&mut world, &client).sign(Es256::default()).signed_response();
        change(&mut world.server().settings);
        let error = world.sign_in(asked, &client).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(world.server().seen_at(Place::Token).is_empty());
    }
}
