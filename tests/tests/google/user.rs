//! Users of Google: refresh, the files that keep their refresh tokens, and what is said of tokens.

use std::time::Duration;

use grantflow::google::{AuthorizedUser, MetadataServer, api_key, scopes};
use grantflow::machine::{Repeat, Rules};
use grantflow::source::{TokenSource, Want};
use grantflow::{
    Advice, AuthorizationRequest, Client, ClientAuthentication, DeviceAuthorization, Effect, ErrorKind, Machine, Reply,
    Revocation, Rotation, Scopes, ServerMetadata, Step, Token, TokenRequest, TokenType,
};
use grantflow_tests::google::{
    ALICE, API_KEY, CLIENT_ID, CLIENT_SECRET, GRANTED, Place, REFRESH_TOKEN, UserTrouble, world,
};
use grantflow_tests::server::Wire;
use grantflow_tests::{Fault, World, at_once, canary};
use serde_json::{Value, json};

use super::{NOW, user, user_with};

pub(super) fn client() -> Client {
    Client::new(CLIENT_ID).authentication(ClientAuthentication::client_secret_post(CLIENT_SECRET))
}

/// A form's pairs, sorted: their order means nothing to Google.
fn pairs(form: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = url::form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    pairs.sort();
    pairs
}

#[test]
fn the_forms_are_the_known_ones_apart_from_the_order_of_their_fields() {
    let (google, mut world) = (ServerMetadata::google(), World::default());
    let form = |request: TokenRequest| {
        String::from_utf8(request.into_parts().0.to_http(&mut World::default().cx()).unwrap().into_body()).unwrap()
    };
    let refresh = TokenRequest::refresh_token(&google, &client(), &REFRESH_TOKEN.into()).unwrap();
    let refresh = refresh.scopes("openid https://www.googleapis.com/auth/userinfo.email");
    // 21.31: a code is sent as it was before it was percent-encoded in the redirect.
    let authorization =
        at_once(AuthorizationRequest::new(&google, &client(), "http://127.0.0.1:47715").start(), &mut world.cx())
            .unwrap();
    let stored = |name: &str| {
        let pairs = pairs(authorization.url.split_once('?').unwrap().1);
        pairs.into_iter().find(|(key, _)| key == name).unwrap().1
    };
    let redirect = format!("http://127.0.0.1:47715/?state={}&code=4%2F0Ademo-Code_xyz&scope=x", stored("state"));
    let mut finish = authorization.pending.finish(&client(), &redirect);
    let Step::Do(Effect::Http(call)) = finish.resume(&mut world.cx(), Reply::Start) else { panic!("no request") };
    let code = String::from_utf8_lossy(call.open(Rules::V1).unwrap().request.body()).into_owned();
    // The verifier is random: here it is set to the one of RFC 7636, appendix B.
    let verifier = pairs(&code).into_iter().find(|(name, _)| name == "code_verifier").unwrap().1;
    let code = code.replace(&verifier, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let assertion = TokenRequest::jwt_bearer(&google, None, &"a.b.c".into(), Scopes::default()).unwrap();
    let revocation = Revocation::new(&google, &client(), &"1//0gDemoRefresh".into()).unwrap().exchange();
    let revocation =
        String::from_utf8(revocation.request().to_http(&mut World::default().cx()).unwrap().into_body()).unwrap();
    for (ours, known) in [
        (
            form(refresh),
            "grant_type=refresh_token&client_id=1234567890-demo.apps.googleusercontent.com&client_secret=GOCSPX-demo_secret&refresh_token=1%2F%2F0gDemoRefresh%2FToken-x_y&scope=openid+https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fuserinfo.email",
        ),
        (
            code,
            "client_id=1234567890-demo.apps.googleusercontent.com&client_secret=GOCSPX-demo_secret&code=4%2F0Ademo-Code_xyz&code_verifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk&grant_type=authorization_code&redirect_uri=http%3A%2F%2F127.0.0.1%3A47715",
        ),
        (form(assertion), "assertion=a.b.c&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"),
        (revocation, "token=1%2F%2F0gDemoRefresh"),
    ] {
        assert_same_form(&ours, known);
    }
}

#[track_caller]
fn assert_same_form(ours: &str, known: &str) {
    assert_eq!(pairs(ours), pairs(known));
    // Each pair is encoded the same, to the byte.
    let bytes = |form: &str| {
        let mut parts: Vec<_> = form.split('&').map(str::to_owned).collect();
        parts.sort();
        parts
    };
    assert_eq!(bytes(ours), bytes(known));
}

#[test]
fn a_devices_form_is_the_known_one_too() {
    let (google, mut world) = (ServerMetadata::google(), World::default());
    let client = Client::new("1234567890-tv.apps.googleusercontent.com")
        .authentication(ClientAuthentication::client_secret_post(CLIENT_SECRET));
    let mut asking = DeviceAuthorization::new(&google, &client).unwrap().exchange();
    let Step::Do(_) = asking.resume(&mut world.cx(), Reply::Start) else { panic!("it asks") };
    let answer = br#"{"device_code":"AH-1Ng-demo","user_code":"GQVQ-JKEC","expires_in":1800,"interval":5,
                      "verification_url":"https://www.google.com/device"}"#;
    let answer = Reply::Http(http::Response::new(answer.to_vec()));
    let Step::Done(code) = asking.resume(&mut world.cx(), answer) else { panic!("it has the code") };
    let mut polling = code.unwrap().poll(&google, &client).unwrap();
    let mut reply = Reply::Start;
    let call = loop {
        reply = match polling.resume(&mut world.cx(), reply) {
            Step::Do(Effect::Http(call)) => break call.open(Rules::V1).unwrap(),
            Step::Do(Effect::Sleep(_)) => Reply::Slept,
            step => panic!("{step:?}"),
        };
    };
    assert_same_form(
        std::str::from_utf8(call.request.body()).unwrap(),
        "client_id=1234567890-tv.apps.googleusercontent.com&client_secret=GOCSPX-demo_secret&device_code=AH-1Ng-demo&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code",
    );
}

#[test]
fn the_basic_header_is_the_known_one() {
    let google = ServerMetadata::google();
    for (authentication, id, value) in [
        (
            ClientAuthentication::client_secret_basic(CLIENT_SECRET),
            CLIENT_ID,
            "MTIzNDU2Nzg5MC1kZW1vLmFwcHMuZ29vZ2xldXNlcmNvbnRlbnQuY29tOkdPQ1NQWC1kZW1vX3NlY3JldA==",
        ),
        // Unencoded, as Google's own libraries send it.
        (
            ClientAuthentication::client_secret_basic_unencoded("s3cr3t/+="),
            "demo-client",
            "ZGVtby1jbGllbnQ6czNjcjN0Lys9",
        ),
    ] {
        let client = Client::new(id).authentication(authentication);
        let request = TokenRequest::refresh_token(&google, &client, &"r".into()).unwrap().into_parts().0;
        let request = request.to_http(&mut World::default().cx()).unwrap();
        assert_eq!(request.headers()["authorization"], format!("Basic {value}"));
    }
}

#[test]
fn a_users_refresh_token_mints_and_stays() {
    let mut world = world();
    let user = user();
    let mut mint = user.mint(&Want::default(), &user.first_state());
    let token = world.run(&mut mint).unwrap();
    assert_eq!((token.scopes(), token.rotation()), (&Scopes::from(GRANTED), Rotation::Never));
    assert_eq!(token.expires_at(), Some(NOW + Duration::from_secs(3599)));
    assert!(mint.take_change().is_empty());
    // 21.32: the secret is sent although it is none.
    let sent = world.google().seen_at(Place::Token)[0].clone();
    assert_eq!(sent.param("client_secret").as_deref(), Some(CLIENT_SECRET));
    // 21.39: Google does not replace refresh tokens, so that refreshes go side by side and again.
    assert!(!user.may_change(&user.first_state()));
    assert_eq!(world.sent()[0].repeat, Repeat::Freely);
    // No scope is named, however few are wanted and whether or not they were granted: the token has what was.
    for want in ["openid", scopes::GMAIL] {
        let token = world.mint(&user, &Want::access_token(want)).unwrap();
        assert_eq!(token.scopes(), &Scopes::from(GRANTED));
    }
    assert!(world.google().seen_at(Place::Token).iter().all(|seen| seen.param("scope").is_none()));
    // Unless told: fewer scopes than granted, and more.
    let user = user.scopes_at_refresh();
    let token = world.mint(&user, &Want::access_token("openid")).unwrap();
    assert_eq!(token.scopes().as_str(), "openid");
    let error = world.mint(&user, &Want::access_token(scopes::GMAIL)).unwrap_err();
    assert_eq!((error.server().unwrap().error(), error.advice()), ("invalid_scope", Some(Advice::FixConfiguration)));
}

#[test]
fn a_users_credential_mints_no_other_tokens() {
    for want in [
        Want::id_token("https://a.example"),
        Want::access_token("openid").self_signed(),
        Want::access_token("openid").subject(ALICE),
        Want::access_token("openid").account("b@example.com"),
    ] {
        let mut world = world();
        let error = world.mint(&user(), &want).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{want:?}: {error}");
        assert!(world.did().is_empty());
    }
}

#[test]
fn what_was_granted_is_read_from_the_answer() {
    // 21.6, 21.7, 21.8: fewer scopes, more, others' names, another order: no error, and no guess.
    for granted in ["openid", "", "https://www.googleapis.com/auth/userinfo.profile openid x", "email"] {
        let mut world = world();
        let body = json!({"access_token": "ya29.a", "expires_in": 3599, "scope": granted, "token_type": "Bearer"});
        world.google().fail(Place::Token, Fault::status(200, &body.to_string()));
        let asked = Scopes::from("email openid");
        let token = world.mint(&user().scopes_at_refresh(), &Want::access_token(asked.clone())).unwrap();
        // Empty is not said.
        let granted = if granted.is_empty() { "email openid" } else { granted };
        assert_eq!(*token.scopes(), Scopes::from(granted));
        assert_eq!(asked.missing_from(token.scopes()).is_empty(), asked.is_subset(&Scopes::from(granted)));
    }
}

#[test]
fn lifetimes_are_numbers_fractions_or_texts_and_may_be_missing() {
    for (value, seconds) in
        [(json!(3599), Some(3599)), (json!(3599.9), Some(3599)), (json!("3599"), Some(3599)), (Value::Null, None)]
    {
        let mut world = world();
        let body = json!({"access_token": "ya29.a", "expires_in": value, "token_type": "Bearer"});
        world.google().fail(Place::Token, Fault::status(200, &body.to_string()));
        let token = world.mint(&user(), &Want::default()).unwrap();
        assert_eq!(token.expires_at(), seconds.map(|seconds| NOW + Duration::from_secs(seconds)));
    }
}

#[test]
fn a_refresh_token_with_an_end_says_when() {
    // 21.2: 7 days, of an application in testing.
    let mut world = world();
    let body = json!({"access_token": "ya29.a", "expires_in": 3599, "token_type": "Bearer",
                      "refresh_token": "1//new", "refresh_token_expires_in": 604_799});
    world.google().fail(Place::Token, Fault::status(200, &body.to_string()));
    let token = world.mint(&user(), &Want::default()).unwrap();
    assert_eq!(token.refresh_token_expires_at(), Some(NOW + Duration::from_secs(604_799)));
    // Should one come after all, it is the one to keep.
    assert!(token.refresh_token().unwrap().matches("1//new"));
}

#[test]
fn each_error_of_a_refresh_says_what_to_do() {
    use Advice::{FixConfiguration, SignInAgain, TryLater};
    let rapt = |subtype| {
        json!({"error": "invalid_grant", "error_description": "reauth related error (invalid_rapt)",
        "error_uri": "https://support.google.com/a/answer/9368756", "error_subtype": subtype})
    };
    let plain = |error: &str, description: &str| json!({"error": error, "error_description": description});
    // 21.3: the words of invalid_grant are not looked at. 21.19, 21.34, 21.40
    for (status, body, advice, tries) in [
        (400, plain("invalid_grant", "Token has been expired or revoked."), SignInAgain, 1),
        (400, plain("invalid_grant", "Bad Request"), SignInAgain, 1),
        (400, plain("invalid_grant", "Account has been deleted"), SignInAgain, 1),
        (400, plain("invalid_grant", "in other words"), SignInAgain, 1),
        (400, rapt("invalid_rapt"), SignInAgain, 1),
        (400, rapt("rapt_required"), SignInAgain, 1),
        (400, plain("admin_policy_enforced", "restricted"), FixConfiguration, 1),
        (400, plain("invalid_scope", "Bad Request"), FixConfiguration, 1),
        (401, plain("unauthorized_client", "Unauthorized"), FixConfiguration, 1),
        (401, plain("invalid_client", "The OAuth client was not found."), FixConfiguration, 1),
        (401, plain("deleted_client", "The OAuth client was deleted."), FixConfiguration, 1),
        (401, plain("disabled_client", "The OAuth client was disabled."), FixConfiguration, 1),
        (403, plain("org_internal", "only for its own organisation"), FixConfiguration, 1),
        // 21.35
        (400, plain("internal_failure", "Backend Error"), TryLater, 4),
        (500, plain("internal_failure", "Backend Error"), TryLater, 4),
        (400, json!({"error": "unhandled_canonical_code_14"}), TryLater, 4),
        (500, json!("<html>"), TryLater, 4),
        (503, json!({}), TryLater, 4),
    ] {
        let mut world = world();
        for _ in 0..4 {
            world.google().fail(Place::Token, Fault::status(status, &body.to_string()));
        }
        let error = world.mint(&user(), &Want::default()).unwrap_err();
        assert_eq!((error.status(), error.advice()), (Some(status), Some(advice)), "{body}: {error}");
        assert_eq!((world.sent().len(), error.is_transient()), (tries, tries > 1), "{body}: {error}");
        let code = body.get("error").and_then(Value::as_str);
        assert_eq!(error.server().map(|server| server.error()), code);
        let subtype = body.get("error_subtype").and_then(Value::as_str);
        assert_eq!(error.server().and_then(|server| server.error_subtype()), subtype);
    }
}

#[test]
fn an_error_is_read_whatever_its_content_type() {
    for kind in ["", "text/plain", "application/json", "application/json; charset=utf-8"] {
        let mut world = world();
        let body = r#"{"error":"invalid_grant","error_description":"Bad Request"}"#;
        world.google().fail(Place::Token, Fault::with_type(400, kind, body));
        let error = world.mint(&user(), &Want::default()).unwrap_err();
        assert_eq!(error.server().unwrap().error(), "invalid_grant");
    }
}

#[test]
fn what_became_of_a_user_is_told() {
    for (trouble, error, subtype) in [
        (UserTrouble::Deleted, "invalid_grant", None),
        (UserTrouble::AdminPolicy, "admin_policy_enforced", None),
        (UserTrouble::Reauthentication, "invalid_grant", Some("invalid_rapt")),
    ] {
        let mut world = world();
        world.google().user_mut(ALICE).trouble = Some(trouble);
        let got = world.mint(&user(), &Want::default()).unwrap_err();
        let server = got.server().unwrap();
        assert_eq!((server.error(), server.error_subtype()), (error, subtype));
        assert!(!got.is_transient() && world.sent().len() == 1);
    }
}

#[test]
fn the_quota_project_goes_with_a_users_tokens() {
    // 21.17
    for (user, project) in [
        (user(), Some("demo-project")),
        (user().quota_project("another"), Some("another")),
        (AuthorizedUser::from_json(user_with(json!({"quota_project_id": null}))).unwrap(), None),
    ] {
        let headers = user.request_headers();
        assert_eq!(headers.get("x-goog-user-project").map(|value| value.to_str().unwrap()), project);
        let mut world = world();
        let token = world.mint(&user, &Want::default()).unwrap();
        assert!(!world.sent()[0].request.headers().contains_key("x-goog-user-project"));
        let expected = match project {
            Some("demo-project") => 200,
            Some(_) | None => 403,
        };
        assert_eq!(models(&mut world, Some(&token), headers), expected);
    }
}

#[test]
fn a_quota_project_that_fits_in_no_header_is_an_error_and_not_left_out() {
    let wrong = "a\nb";
    let mut world = world();
    let machine = MetadataServer::new().quota_project(wrong);
    let user = user().quota_project(wrong);
    let account = super::account().quota_project(wrong);
    let sources: [&dyn TokenSource; 3] = [&machine, &user, &account];
    for source in sources {
        let want = Want::access_token("https://www.googleapis.com/auth/cloud-platform");
        let error = world.run(source.mint(&want, &source.first_state())).map(drop).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("quota project"), "{error}");
    }
    assert!(world.sent().is_empty());
}

/// The status with which the models are listed.
fn models(world: &mut World, token: Option<&Token>, headers: http::HeaderMap) -> u16 {
    let mut request = http::Request::get(world.google().address(Place::Models)).body(Vec::new()).unwrap();
    *request.headers_mut() = headers;
    token.into_iter().for_each(|token| token.apply(request.headers_mut()).unwrap());
    let now = world.now.wall;
    match world.google().answer(now, &request).wire {
        Wire::Whole(answer) => answer.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_api_key_goes_into_a_header_of_its_own() {
    let key = api_key(API_KEY).unwrap();
    let mut world = world();
    let token = world.mint(&key, &Want::default()).unwrap();
    assert_eq!(*token.token_type(), TokenType::Header(http::HeaderName::from_static("x-goog-api-key")));
    assert_eq!(models(&mut world, Some(&token), http::HeaderMap::new()), 200);
    token.authorization().unwrap_err();
    canary::hidden_in_debug("the key", &(&key, &token), &[API_KEY]);
    for key in ["", "a\nb", "ä", "from a file\n"] {
        let error = api_key(key).unwrap_err();
        assert_eq!(error.advice(), Some(Advice::FixConfiguration), "no server has a part in it: {error}");
        assert!(error.to_string().starts_with("the key "), "{error}");
    }
}

#[test]
fn scopes_have_names() {
    for (name, scope) in [
        ("cloud_platform", "https://www.googleapis.com/auth/cloud-platform"),
        ("generative_language", "https://www.googleapis.com/auth/generative-language"),
        ("tuning", "https://www.googleapis.com/auth/generative-language.tuning"),
        ("retriever", "https://www.googleapis.com/auth/generative-language.retriever"),
        ("retrieval", "https://www.googleapis.com/auth/generative-language.retriever"),
        ("userinfo_email", "https://www.googleapis.com/auth/userinfo.email"),
        ("openid", "openid"),
        ("https://mail.google.com/", "https://mail.google.com/"),
    ] {
        assert_eq!(scopes::by_name(name), scope);
    }
}
