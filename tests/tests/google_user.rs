//! Users of Google: refresh, the files that keep their refresh tokens, and what is said of tokens.

use std::time::Duration;

use grantflow::google::{AuthorizedUser, GoogleCredential, TokenInfo, api_key, scopes};
use grantflow::machine::Repeat;
use grantflow::source::{Credential, TokenSource, Want};
use grantflow::{
    Advice, AuthorizationRequest, Client, ClientAuthentication, ErrorKind, Exchange, Revocation, Rotation, Scopes,
    Secret, ServerMetadata, Timestamp, Token, TokenRequest, TokenType, UserInfo,
};
use grantflow_tests::google::{
    ALICE, API_KEY, CLIENT_ID, CLIENT_SECRET, GRANTED, OAuthClient, Place, REFRESH_TOKEN, SERVICE_ACCOUNT, User,
    UserTrouble, authorized_user_json, service_account_json, world,
};
use grantflow_tests::server::Wire;
use grantflow_tests::{Fault, World, canary};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_unix(1_795_176_000);

fn user() -> AuthorizedUser {
    AuthorizedUser::from_json(authorized_user_json().to_string()).unwrap()
}

/// The file with some members changed; those that become null are taken out.
fn file(changes: Value) -> String {
    let mut file = authorized_user_json();
    for (name, value) in changes.as_object().unwrap() {
        file[name] = value.clone();
    }
    file.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    file.to_string()
}

fn client() -> Client {
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
    let form =
        |request: TokenRequest| String::from_utf8(request.into_parts().0.to_http().unwrap().into_body()).unwrap();
    let refresh = TokenRequest::refresh_token(&google, &client(), &REFRESH_TOKEN.into()).unwrap();
    let refresh = refresh.scopes("openid https://www.googleapis.com/auth/userinfo.email");
    // 21.31: a code is sent as it was before it was percent-encoded in the redirect.
    let authorization =
        AuthorizationRequest::new(&google, &client(), "http://127.0.0.1:47715").start(&mut world.cx()).unwrap();
    let stored = |name: &str| {
        let pairs = pairs(authorization.url.split_once('?').unwrap().1);
        pairs.into_iter().find(|(key, _)| key == name).unwrap().1
    };
    let redirect = format!("http://127.0.0.1:47715/?state={}&code=4%2F0Ademo-Code_xyz&scope=x", stored("state"));
    let code = form(authorization.pending.finish(&client(), &redirect, NOW).unwrap());
    // The verifier is random: here it is set to the one of RFC 7636, appendix B.
    let verifier = pairs(&code).into_iter().find(|(name, _)| name == "code_verifier").unwrap().1;
    let code = code.replace(&verifier, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    let assertion = TokenRequest::jwt_bearer(&google, None, &"a.b.c".into(), Scopes::default()).unwrap();
    let revocation = Revocation::new(&google, &client(), &"1//0gDemoRefresh".into()).unwrap().exchange();
    let revocation = String::from_utf8(revocation.request().to_http().unwrap().into_body()).unwrap();
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
        assert_eq!(pairs(&ours), pairs(known));
        // Each pair is encoded the same, to the byte.
        let bytes = |form: &str| {
            let mut parts: Vec<_> = form.split('&').map(str::to_owned).collect();
            parts.sort();
            parts
        };
        assert_eq!(bytes(&ours), bytes(known));
    }
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
        let request = request.to_http().unwrap();
        assert_eq!(request.headers()["authorization"], format!("Basic {value}"));
    }
}

#[test]
fn a_users_refresh_token_mints_and_stays() {
    let mut world = world();
    let user = user();
    let minted = world.run(user.mint(&Want::default(), &user.first_state())).unwrap();
    assert_eq!((minted.token.scopes(), minted.token.rotation()), (&Scopes::from(GRANTED), Rotation::Never));
    assert_eq!(minted.token.expires_at(), Some(NOW + Duration::from_secs(3599)));
    assert!(minted.state.is_none_or(|state| state.refresh_token().unwrap().matches(REFRESH_TOKEN)));
    // 21.32: the secret is sent although it is none.
    let sent = world.google().seen_at(Place::Token)[0].clone();
    assert_eq!(sent.param("client_secret").as_deref(), Some(CLIENT_SECRET));
    // 21.39: Google does not replace refresh tokens, so that refreshes go side by side and again.
    assert!(!user.may_change(&user.first_state()));
    assert_eq!(world.sent()[0].repeat, Repeat::Freely);
    // Fewer scopes than granted, and more.
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
        let token = world.mint(&user(), &Want::access_token(asked.clone())).unwrap();
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
fn a_file_is_checked_member_by_member() {
    for (change, says) in [
        (json!({"type": "service_account"}), "`type` is service_account, and authorized_user is needed"),
        (json!({"type": "external_account"}), "`type` is external_account, and authorized_user is needed"),
        (json!({"type": 1}), "`type` is no text"),
        (json!({"client_id": null}), "`client_id` is missing"),
        (json!({"client_id": {}}), "`client_id` is no text"),
        (json!({"client_secret": 1}), "`client_secret` is no text"),
        (json!({"refresh_token": null}), "`refresh_token` is missing"),
        (json!({"refresh_token": ""}), "`refresh_token` is missing or empty"),
        (json!({"universe_domain": "apis-demo.goog"}), "`universe_domain` is not googleapis.com"),
        (json!({"quota_project_id": 1}), "`quota_project_id` is no text"),
        (json!({"account": 1}), "`account` is no text"),
        (json!({"scopes": 1}), "`scopes` is no list"),
        (json!({"scopes": ["a", 1]}), "`scopes` holds something that is no text"),
        (json!({"token": "t", "expiry": "tomorrow"}), "`expiry` is no moment in time"),
        (json!({"token": "a b", "expiry": "2026-11-20T12:59:59Z"}), "`token` cannot be used"),
    ] {
        let error = AuthorizedUser::from_json(file(change.clone())).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(says), "{change}: {error}");
        canary::hidden("the error", &format!("{error:?}"), &[REFRESH_TOKEN, CLIENT_SECRET]);
    }
    // A loader of any type reads the type first.
    for (kind, says) in [
        ("external_account", "external_account, which is not supported yet"),
        ("external_account_authorized_user", "not supported yet"),
        ("impersonated_service_account", "not supported yet"),
        ("gdch_service_account", "not supported yet"),
        ("made_up", "is unknown; service_account and authorized_user are understood"),
    ] {
        let error = GoogleCredential::from_json_of_any_type(file(json!({"type": kind}))).unwrap_err();
        assert!(error.to_string().contains("`type`") && error.to_string().contains(says), "{error}");
    }
    let error = GoogleCredential::from_json_of_any_type(file(json!({"type": null}))).unwrap_err();
    assert!(error.to_string().contains("`type` is missing"), "{error}");
    assert_eq!(GoogleCredential::from_json_of_any_type(file(json!({}))).unwrap().kind(), "authorized_user");
    let key = GoogleCredential::from_json_of_any_type(service_account_json().to_string()).unwrap();
    assert_eq!(key.kind(), "service_account");
}

#[test]
fn a_files_token_uri_is_not_followed_unless_the_file_is_trusted() {
    let text = file(json!({"token_uri": "https://attacker.example/token"}));
    for source in [
        Box::new(AuthorizedUser::from_json(&text).unwrap()) as Box<dyn TokenSource>,
        Box::new(GoogleCredential::from_json_of_any_type(&text).unwrap()),
    ] {
        let mut world = world();
        world.mint(&*source, &Want::default()).unwrap();
        assert_eq!(world.sent()[0].request.uri(), "https://oauth2.googleapis.com/token");
    }
    let mut world = world();
    let trusting = AuthorizedUser::from_json_with_any_server(&text).unwrap();
    world.mint(&trusting, &Want::default()).unwrap_err();
    assert_eq!(world.sent()[0].request.uri(), "https://attacker.example/token");
    let cleartext = file(json!({"token_uri": "http://attacker.example/token"}));
    AuthorizedUser::from_json_with_any_server(cleartext).unwrap_err();
}

#[test]
fn the_quota_project_goes_with_a_users_tokens() {
    // 21.17
    for (user, project) in [
        (user(), Some("demo-project")),
        (user().quota_project("another"), Some("another")),
        (AuthorizedUser::from_json(file(json!({"quota_project_id": null}))).unwrap(), None),
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
    for key in ["", "a\nb", "ä"] {
        api_key(key).unwrap_err();
    }
}

const TOKEN_JSON: &str = r#"{"token": "ya29.a0demo", "refresh_token": "1//0gDemoRefresh/Token-x_y",
 "token_uri": "https://oauth2.googleapis.com/token",
 "client_id": "1234567890-demo.apps.googleusercontent.com",
 "client_secret": "GOCSPX-demo_secret",
 "scopes": ["openid", "https://www.googleapis.com/auth/userinfo.email"],
 "universe_domain": "googleapis.com", "account": "", "expiry": "2026-11-20T12:59:59Z"}"#;

#[test]
fn pythons_token_json_is_read() {
    let user = AuthorizedUser::from_json(TOKEN_JSON).unwrap();
    let token = user.token().unwrap();
    assert_eq!((token.access_token(), token.expires_at()), ("ya29.a0demo", Some(NOW + Duration::from_secs(3599))));
    assert_eq!(user.scopes().as_str(), "openid https://www.googleapis.com/auth/userinfo.email");
    assert_eq!(user.account(), None);
    let state = user.first_state();
    assert!(state.refresh_token().unwrap().matches(REFRESH_TOKEN) && state.scopes() == user.scopes());
    assert!(world().mint(&user, &Want::default()).is_ok());
    let with = |name: &str, value: Value| {
        let mut file: Value = serde_json::from_str(TOKEN_JSON).unwrap();
        file[name] = value;
        AuthorizedUser::from_json(file.to_string()).unwrap()
    };
    for (expiry, end) in [
        (json!("2026-11-20T12:59:59.123456Z"), Some(3599)),
        (json!("2026-11-20T12:59:59"), Some(3599)),
        (json!("2026-11-20T13:59:59+01:00"), Some(3599)),
        // Without an end it counts as expired: there is no token to use.
        (Value::Null, None),
        (json!(""), None),
    ] {
        let ends = with("expiry", expiry.clone()).token().map(|token| token.expires_at().unwrap().since(NOW).as_secs());
        assert_eq!(ends, end, "{expiry}");
    }
    // Scopes are a list, or one text.
    assert_eq!(with("scopes", json!("openid a b")).scopes().as_str(), "openid a b");
    assert!(with("scopes", Value::Null).scopes().is_empty());
    assert_eq!(with("account", json!(ALICE)).account(), Some(ALICE));
    assert_eq!(with("quota_project_id", json!("p")).request_headers()["x-goog-user-project"], "p");
    // What a library has added since is passed over.
    with("trust_boundary", json!({"locations": []}));
    with("rapt_token", json!("rapt"));
}

#[test]
fn pythons_token_json_is_written_and_read_again() {
    let user = AuthorizedUser::from_json(TOKEN_JSON).unwrap();
    let written: Value = serde_json::from_str(user.to_json(&user.first_state(), None).expose()).unwrap();
    assert_eq!(written, serde_json::from_str::<Value>(TOKEN_JSON).unwrap());
    // After a refresh: the newest of everything.
    let mut world = world();
    world.google().fail(
        Place::Token,
        Fault::status(200, r#"{"access_token":"ya29.new","expires_in":60,"scope":"openid","token_type":"Bearer","refresh_token":"1//new"}"#),
    );
    let minted = world.run(user.mint(&Want::default(), &user.first_state())).unwrap();
    let state = minted.state.expect("another refresh token");
    let written = user.to_json(&state, Some(&minted.token));
    let members: Value = serde_json::from_str(written.expose()).unwrap();
    assert_eq!(
        members,
        json!({"token": "ya29.new", "refresh_token": "1//new", "token_uri": "https://oauth2.googleapis.com/token",
               "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "scopes": ["openid"],
               "universe_domain": "googleapis.com", "account": "", "expiry": "2026-11-20T12:01:00Z"})
    );
    let again = AuthorizedUser::from_json(written.expose()).unwrap();
    assert!(again.first_state().refresh_token().unwrap().matches("1//new"));
    assert_eq!(again.token().unwrap().access_token(), "ya29.new");
    // Whom Python's library would refuse is not written: its three members are always there.
    for name in ["refresh_token", "client_id", "client_secret"] {
        assert!(members[name].is_string());
    }
}

#[test]
fn who_has_just_signed_in_can_be_kept() {
    let token = |refresh: Option<&str>| {
        let mut world = world();
        let mut body = json!({"access_token": "ya29.a", "expires_in": 3599, "scope": GRANTED, "token_type": "Bearer"});
        refresh.into_iter().for_each(|token| body["refresh_token"] = token.into());
        world.google().fail(Place::Token, Fault::status(200, &body.to_string()));
        let request = TokenRequest::client_credentials(&ServerMetadata::google(), &client()).unwrap();
        world.run(request.exchange()).unwrap()
    };
    let user = AuthorizedUser::signed_in(CLIENT_ID, Some(CLIENT_SECRET.into()), &token(Some(REFRESH_TOKEN))).unwrap();
    let kept = AuthorizedUser::from_json(user.to_json(&user.first_state(), None).expose()).unwrap();
    assert!(world().mint(&kept, &Want::default()).is_ok());
    // 21.1: at the second sign-in none comes unless consent is asked again.
    for error in [
        AuthorizedUser::signed_in(CLIENT_ID, None, &token(None)).unwrap_err(),
        Credential::signed_in(ServerMetadata::google(), &client(), &token(None)).unwrap_err(),
    ] {
        assert!(error.to_string().contains("no refresh token: ask for offline access"), "{error}");
    }
}

#[test]
fn tokeninfo_reads_numbers_that_are_texts() {
    // 21.28, 21.36
    let mut world = world();
    let token = world.mint(&user(), &Want::default()).unwrap();
    world.pass(Duration::from_secs(100));
    let secret = Secret::from(token.access_token());
    let info = world.run(TokenInfo::of_access_token(&secret).unwrap()).unwrap();
    assert_eq!(info.audience(), Some(CLIENT_ID));
    assert_eq!(info.scopes(), Scopes::from(GRANTED));
    // Google counts from when it made the token, we from when we asked for it.
    assert!(info.expires_at().unwrap().since(token.expires_at().unwrap()) <= Duration::from_secs(1));
    assert_eq!((info.verified_email(), info.subject()), (Some(ALICE), Some("110000000000000000001")));
    assert_eq!(info.claims().str("access_type"), Some("offline"));
    // The token is in the body, and so in no log of addresses.
    let sent = world.sent().last().unwrap().request.clone();
    assert_eq!((sent.method().as_str(), sent.uri().query()), ("POST", None));
    // Without a scope for it, no address.
    let token = world.mint(&user(), &Want::access_token(scopes::CLOUD_PLATFORM)).unwrap();
    let info = world.run(TokenInfo::of_access_token(&token.access_token().into()).unwrap()).unwrap();
    assert_eq!((info.verified_email(), info.subject()), (None, None));
    canary::hidden_in_debug("tokeninfo", &info, &[token.access_token()]);
}

#[test]
fn tokeninfo_of_an_id_token_gives_its_claims() {
    let mut world = world();
    let account = grantflow::google::ServiceAccount::from_json(service_account_json().to_string()).unwrap();
    let token = world.mint(&account, &Want::id_token("https://a.example")).unwrap();
    let info = world.run(TokenInfo::of_id_token(&token.access_token().into()).unwrap()).unwrap();
    assert_eq!((info.audience(), info.verified_email()), (Some("https://a.example"), Some(SERVICE_ACCOUNT)));
    assert_eq!(info.expires_at(), token.expires_at());
    assert_eq!(info.claims().str("alg"), Some("RS256"));
}

#[test]
fn tokeninfo_of_the_first_version_is_understood() {
    let mut world = world();
    let body = json!({"issued_to": CLIENT_ID, "audience": CLIENT_ID, "user_id": "7", "scope": "openid", "expires_in": 3599,
                      "email": ALICE, "verified_email": true, "access_type": "offline"});
    world.google().fail(Place::TokenInfo, Fault::status(200, &body.to_string()));
    let info = world.run(TokenInfo::of_access_token(&"ya29.x".into()).unwrap()).unwrap();
    assert_eq!((info.audience(), info.subject(), info.verified_email()), (Some(CLIENT_ID), Some("7"), Some(ALICE)));
    assert_eq!(info.expires_at(), Some(NOW + Duration::from_secs(3599)));
}

#[test]
fn a_token_that_is_not_good_is_invalid_token_in_either_shape() {
    for old in [false, true] {
        let mut world = world();
        world.google().old_tokeninfo = old;
        for exchange in [TokenInfo::of_access_token(&"ya29.no".into()), TokenInfo::of_id_token(&"a.b.c".into())] {
            let error = world.run(exchange.unwrap()).unwrap_err();
            assert_eq!((error.kind(), error.status()), (ErrorKind::Server, Some(400)));
            assert_eq!((error.server().unwrap().error(), error.advice()), ("invalid_token", Some(Advice::SignInAgain)));
        }
        assert_eq!(world.sent().len(), 2);
    }
    let mut world = world();
    let token = world.mint(&user(), &Want::default()).unwrap();
    world.pass(Duration::from_secs(3600));
    world.run(TokenInfo::of_access_token(&token.access_token().into()).unwrap()).unwrap_err();
}

#[test]
fn userinfo_tells_of_the_user() {
    let mut world = world();
    let token = world.mint(&user(), &Want::default()).unwrap();
    let google = ServerMetadata::google();
    let ask = |token: &Token| -> Exchange<_> { UserInfo::new(&google, token).unwrap().exchange() };
    let claims = world.run(ask(&token)).unwrap();
    assert_eq!((claims.str("sub"), claims.str("email")), (Some("110000000000000000001"), Some(ALICE)));
    assert_eq!((claims.bool("email_verified"), claims.get("name")), (Some(true), None));
    let error = world.run(ask(&Token::bearer("ya29.no", NOW, None).unwrap())).unwrap_err();
    assert_eq!((error.status(), error.server().unwrap().error()), (Some(401), "invalid_request"));
}

#[test]
fn one_revocation_ends_all_that_was_granted_to_the_project() {
    // 21.29
    let mut world = world();
    let google = world.google.take().unwrap();
    world.google = Some(
        google
            .client(OAuthClient::new("sibling", None, "1234567890"))
            .client(OAuthClient::new("stranger", None, "another-project"))
            .user(User::new("bob@example.com", "2"))
            .grant("r-sibling", "sibling", ALICE, "openid")
            .grant("r-stranger", "stranger", ALICE, "openid")
            .grant("r-bob", CLIENT_ID, "bob@example.com", "openid"),
    );
    let refresh = |world: &mut World, id: &str, token: &str| {
        let changes = json!({"client_id": id, "refresh_token": token,
                             "client_secret": if id == CLIENT_ID { json!(CLIENT_SECRET) } else { Value::Null }});
        world.mint(&AuthorizedUser::from_json(file(changes)).unwrap(), &Want::default())
    };
    let token = refresh(&mut world, CLIENT_ID, REFRESH_TOKEN).unwrap();
    let revoke = |token: &str| Revocation::new(&ServerMetadata::google(), &client(), &token.into()).unwrap().exchange();
    world.run(revoke(token.access_token())).unwrap();
    // No client authentication goes along.
    assert_eq!(world.google().seen_at(Place::Revoke)[0].form(), [("token".into(), token.access_token().into())]);
    for (id, refresh_token, alive) in [
        (CLIENT_ID, REFRESH_TOKEN, false),
        ("sibling", "r-sibling", false),
        ("stranger", "r-stranger", true),
        (CLIENT_ID, "r-bob", true),
    ] {
        let result = refresh(&mut world, id, refresh_token);
        assert_eq!(result.is_ok(), alive, "{refresh_token}: {result:?}");
    }
    // What is revoked already is revoked.
    world.run(revoke(REFRESH_TOKEN)).unwrap();
    world.run(revoke("never-there")).unwrap();
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

#[test]
fn nothing_shows_a_users_secrets() {
    let secrets = [REFRESH_TOKEN, CLIENT_SECRET, "ya29.a0demo"];
    let user = AuthorizedUser::from_json(TOKEN_JSON).unwrap();
    canary::hidden_in_debug("the user", &user, &secrets);
    canary::hidden_in_debug("the state", &user.first_state(), &secrets);
    canary::hidden_in_debug("the file", &user.to_json(&user.first_state(), None), &secrets);
    let any = GoogleCredential::from_json_of_any_type(file(json!({}))).unwrap();
    canary::hidden_in_debug("any credential", &any, &secrets);
    let mut world = world();
    let body = json!({"error": "invalid_grant", "error_description": format!("{REFRESH_TOKEN} of {CLIENT_SECRET}")});
    world.google().fail(Place::Token, Fault::status(400, &body.to_string()));
    let error = world.mint(&user, &Want::default()).unwrap_err();
    canary::hidden_in_debug("an error", &error, &secrets);
}
