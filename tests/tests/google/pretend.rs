//! The pretend Google is strict: what passes there passes at Google. And it is the same over TCP.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::crypto::{Algorithm, Signer, Signing, SigningKey};
use grantflow::google::{AuthorizedUser, MetadataServer, ServiceAccount, TokenInfo, scopes};
use grantflow::source::{TokenSource, Want};
use grantflow::{Client, Cx, Issuer, Now, Revocation, ServerMetadata, UserInfo};
use grantflow_tests::Front;
use grantflow_tests::front::wall_clock;
use grantflow_tests::google::{
    ALICE, API_KEY, CLIENT_ID, CLIENT_SECRET, Google, KEY_ID, Local, Metadata, Place, REFRESH_TOKEN, SERVICE_ACCOUNT,
    another_private_key, authorized_user_json, jwt_parts, private_key, service_account_json,
};
use grantflow_tests::server::Wire;
use http::{Request, Response};
use serde_json::{Value, json};

use super::{CLOUD, NOW, STORAGE, with};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

fn answer(google: &mut Google, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    match google.answer(NOW, &request).wire {
        Wire::Whole(response) => response,
        other => panic!("{other:?}"),
    }
}

fn post(google: &mut Google, place: Place, pairs: &[(&str, &str)]) -> (u16, Value) {
    let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let request = Request::post(google.address(place)).header("content-type", "application/x-www-form-urlencoded");
    let response = answer(google, request.body(body.into_bytes()).unwrap());
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or(Value::Null))
}

fn get(google: &mut Google, address: &str, headers: &[(&'static str, &str)]) -> Response<Vec<u8>> {
    let mut request = Request::get(address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(google, request.body(Vec::new()).unwrap())
}

fn sign(pem: &str, header: &Value, claims: &Value) -> String {
    let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", text(header), text(claims));
    let key = SigningKey::from_pem(Algorithm::RS256, pem).unwrap();
    match key.sign(signed.as_bytes(), &mut Cx::new(Now::default(), [7; 32])) {
        Signing::Done(signature) => format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap())),
        other => panic!("{other:?}"),
    }
}

fn header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID})
}

fn claims() -> Value {
    json!({"iss": SERVICE_ACCOUNT, "scope": STORAGE, "aud": "https://oauth2.googleapis.com/token",
           "iat": NOW.as_unix() - 10, "exp": NOW.as_unix() + 3590})
}

fn exchange(google: &mut Google, assertion: &str) -> (u16, Value) {
    post(google, Place::Token, &[("grant_type", JWT_BEARER), ("assertion", assertion)])
}

/// What an assertion was refused for.
fn refusal((status, body): (u16, Value)) -> String {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    format!("{status} {}: {}", text("error"), text("error_description"))
}

#[test]
fn an_assertion_is_judged_to_the_letter_in_googles_words() {
    let now = NOW.as_unix();
    let window = "400 invalid_grant: Invalid JWT: Token must be a short-lived token (60 minutes)";
    let signature = "400 invalid_grant: Invalid JWT Signature.";
    for (head, change, says) in [
        (json!({}), json!({}), "200 "),
        (json!({"kid": null, "typ": null}), json!({}), "200 "),
        (json!({}), json!({"iat": now, "exp": now + 3600}), "200 "),
        (json!({}), json!({"sub": SERVICE_ACCOUNT}), "200 "),
        (json!({}), json!({"sub": ALICE}), "200 "),
        (json!({"alg": "HS256"}), json!({}), signature),
        (json!({"alg": "none"}), json!({}), signature),
        (json!({"alg": null}), json!({}), signature),
        (json!({"kid": "another"}), json!({}), signature),
        (json!({}), json!({"iss": null}), "400 invalid_grant: Invalid grant: account not found"),
        (
            json!({}),
            json!({"iss": "another@x.iam.gserviceaccount.com"}),
            "400 invalid_grant: Invalid grant: account not found",
        ),
        (json!({}), json!({"iat": null}), "400 invalid_grant: Invalid JWT: iat (issued at) is not set."),
        (json!({}), json!({"exp": null}), "400 invalid_grant: Invalid JWT: exp (expiration time) is not set."),
        (json!({}), json!({"exp": now}), window),
        (json!({}), json!({"exp": now + 3591}), window),
        (json!({}), json!({"iat": now + 1, "exp": now + 3000}), window),
        (json!({}), json!({"scope": null}), "400 invalid_scope: Invalid OAuth scope or ID token audience provided."),
        (json!({}), json!({"scope": ""}), "400 invalid_scope: "),
        (json!({}), json!({"target_audience": "https://a.example"}), "400 invalid_scope: "),
        (json!({}), json!({"aud": null}), "400 invalid_grant: Invalid JWT: Failed audience check."),
        (
            json!({}),
            json!({"aud": "https://oauth2.googleapis.com/"}),
            "400 invalid_grant: Invalid JWT: Failed audience check.",
        ),
        (
            json!({}),
            json!({"aud": "https://accounts.google.com"}),
            "400 invalid_grant: Invalid JWT: Failed audience check.",
        ),
        (json!({}), json!({"sub": "nobody@example.com"}), "400 invalid_grant: Invalid email or User ID"),
        (json!({}), json!({"sub": "alice"}), "400 invalid_grant: Not a valid email"),
        (
            json!({}),
            json!({"sub": ALICE, "scope": CLOUD}),
            "401 unauthorized_client: Client is unauthorized to retrieve",
        ),
        (json!({}), json!({"sub": ALICE, "scope": format!("{STORAGE} {CLOUD}")}), "401 unauthorized_client: "),
    ] {
        let assertion = sign(&private_key(), &with(header(), &head), &with(claims(), &change));
        let said = refusal(exchange(&mut Google::demo(), &assertion));
        assert!(said.starts_with(says), "{head} {change}: {said}");
    }
}

#[test]
fn what_is_no_jwt_is_a_bad_request_and_what_is_signed_otherwise_has_no_signature() {
    let good = sign(&private_key(), &header(), &claims());
    let parts: Vec<&str> = good.split('.').collect();
    for (assertion, says) in [
        ("x".to_owned(), "400 invalid_request: Bad Request"),
        (format!("{}.{}", parts[0], parts[1]), "400 invalid_request: Bad Request"),
        (format!("{good}.x"), "400 invalid_request: Bad Request"),
        (format!("{}.{}.*", parts[0], parts[1]), "400 invalid_request: Bad Request"),
        (format!("W10.{}.{}", parts[1], parts[2]), "400 invalid_request: Bad Request"),
        (format!("{}.{}.", parts[0], parts[1]), "400 invalid_grant: Invalid JWT Signature."),
        (format!("{}.{}.AAAA", parts[0], parts[1]), "400 invalid_grant: Invalid JWT Signature."),
        (sign(&another_private_key(), &header(), &claims()), "400 invalid_grant: Invalid JWT Signature."),
    ] {
        assert_eq!(refusal(exchange(&mut Google::demo(), &assertion)), says, "{assertion}");
    }
    assert_eq!(
        refusal(post(&mut Google::demo(), Place::Token, &[("grant_type", JWT_BEARER)])),
        "400 invalid_request: Bad Request"
    );
}

#[test]
fn assertions_are_checked_in_the_recorded_order() {
    // Everything is wrong; one after another is put right.
    let wrong = json!({"iss": "x", "aud": "x", "scope": null, "iat": null, "exp": null});
    let right = claims();
    let mut claims = with(right.clone(), &wrong);
    let mut said = vec![
        refusal(exchange(&mut Google::demo(), "a.b")),
        refusal(exchange(&mut Google::demo(), &sign(&another_private_key(), &header(), &claims))),
    ];
    for name in ["", "iss", "iat", "exp", "exp", "scope", "aud"] {
        if !name.is_empty() {
            claims[name] = right[name].clone();
        }
        if name == "exp" && said.len() == 5 {
            claims["exp"] = 0.into();
        }
        said.push(refusal(exchange(&mut Google::demo(), &sign(&private_key(), &header(), &claims))));
    }
    let order = [
        "Bad Request",
        "Signature",
        "account not found",
        "iat",
        "exp (",
        "short-lived",
        "Invalid OAuth scope",
        "audience check",
        "200",
    ];
    assert_eq!(said.len(), order.len());
    for (said, expected) in said.iter().zip(order) {
        assert!(said.contains(expected), "{said} is not {expected}");
    }
}

#[test]
fn a_scope_in_the_form_and_a_quota_project_do_not_belong_to_a_token_request() {
    let assertion = sign(&private_key(), &header(), &claims());
    let form = [("grant_type", JWT_BEARER), ("assertion", &*assertion)];
    let mut google = Google::demo();
    let said = refusal(post(&mut google, Place::Token, &[&form[..], &[("scope", STORAGE)]].concat()));
    assert_eq!(said, "400 invalid_scope: Invalid downscoping, scopes should not be specified as a request parameter.");
    for extra in [("client_id", CLIENT_ID), ("made_up", "x"), ("assertion", "again"), ("empty", "")] {
        assert_eq!(post(&mut google, Place::Token, &[&form[..], &[extra]].concat()).0, 400, "{extra:?}");
    }
    let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    for (kind, quota) in [("application/json", false), ("application/x-www-form-urlencoded", true)] {
        let mut request = Request::post(google.address(Place::Token)).header("content-type", kind);
        if quota {
            request = request.header("x-goog-user-project", "demo-project");
        }
        assert_eq!(answer(&mut google, request.body(body.clone().into_bytes()).unwrap()).status(), 400);
    }
    // A wrong method or path is a page, and never 405.
    let page = get(&mut google, "https://oauth2.googleapis.com/token", &[]);
    assert_eq!((page.status().as_u16(), &page.headers()["content-type"].as_bytes()[..9]), (404, &b"text/html"[..]));
    assert_eq!(get(&mut google, "https://oauth2.googleapis.com/revoke?token=x", &[]).status(), 404);
}

#[test]
fn an_unknown_scope_is_taken_for_an_audience() {
    for (change, audience) in [
        (json!({"scope": "made-up"}), "made-up".to_owned()),
        (json!({"scope": format!("{STORAGE} made-up")}), format!("{STORAGE} made-up")),
        (json!({"scope": null, "target_audience": "https://a.example"}), "https://a.example".to_owned()),
    ] {
        let (status, body) = exchange(&mut Google::demo(), &sign(&private_key(), &header(), &with(claims(), &change)));
        let members: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((status, members), (200, vec!["id_token"]));
        assert_eq!(jwt_parts(body["id_token"].as_str().unwrap()).1["aud"], audience);
    }
}

#[test]
fn a_refresh_is_judged_to_the_letter() {
    let good = [
        ("grant_type", "refresh_token"),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
        ("refresh_token", REFRESH_TOKEN),
    ];
    assert_eq!(post(&mut Google::demo(), Place::Token, &good).0, 200);
    for (name, value, says) in [
        ("grant_type", None, "400 invalid_request: "),
        ("grant_type", Some("password"), "400 unsupported_grant_type: "),
        ("client_id", None, "401 invalid_client: The OAuth client was not found."),
        ("client_id", Some("x"), "401 invalid_client: The OAuth client was not found."),
        ("client_secret", None, "400 invalid_request: client_secret is missing."),
        ("client_secret", Some("x"), "401 invalid_client: The provided client secret is invalid."),
        ("refresh_token", None, "400 invalid_grant: Bad Request"),
        ("refresh_token", Some("x"), "400 invalid_grant: Bad Request"),
        ("scope", Some("https://mail.google.com/"), "400 invalid_scope: "),
        ("audience", Some("x"), "400 invalid_request: "),
    ] {
        let rest = good.iter().copied().filter(|(other, _)| *other != name);
        let form: Vec<_> = rest.chain(value.map(|value| (name, value))).collect();
        let said = refusal(post(&mut Google::demo(), Place::Token, &form));
        assert!(said.starts_with(says), "{name} {value:?}: {said}");
    }
    let mut google = Google::demo().client(grantflow_tests::google::OAuthClient::new("other", None, "p"));
    let others = [("grant_type", "refresh_token"), ("client_id", "other"), ("refresh_token", REFRESH_TOKEN)];
    assert_eq!(refusal(post(&mut google, Place::Token, &others)), "401 unauthorized_client: Unauthorized");
    google.client_mut(CLIENT_ID).gone = Some("deleted_client");
    assert!(refusal(post(&mut google, Place::Token, &good)).starts_with("401 deleted_client: "));
}

#[test]
fn the_metadata_server_wants_its_header_and_has_odd_answers() {
    let base = "http://169.254.169.254";
    let token = format!("{base}/computeMetadata/v1/instance/service-accounts/default/token");
    let identity = format!("{base}/computeMetadata/v1/instance/service-accounts/default/identity");
    let mut google = Google::demo().local(Local::Server(Metadata::new(SERVICE_ACCOUNT)));
    let flavor = ("metadata-flavor", "Google");
    for (address, headers, status) in [
        (&*token, &[flavor][..], 200),
        (&token, &[], 403),
        (&token, &[("metadata-flavor", "Vanilla")], 403),
        (&token, &[flavor, flavor], 403),
        (&token, &[flavor, ("x-forwarded-for", "10.0.0.1")], 403),
        (&format!("{base}/"), &[flavor], 200),
        (&format!("{base}/computeMetadata/v1/instance/service-accounts/other@x/token"), &[flavor], 404),
        (&format!("{base}/computeMetadata/v1/made-up"), &[flavor], 404),
        (&format!("{base}/computeMetadata/v1/universe/universe-domain"), &[flavor], 404),
        (&identity, &[flavor], 400),
        (&format!("{identity}?audience=a"), &[flavor], 200),
    ] {
        let response = get(&mut google, address, headers);
        assert_eq!(response.status().as_u16(), status, "{address} {headers:?}");
        assert_eq!(response.headers()["metadata-flavor"], "Google");
    }
    let response = get(&mut google, &format!("{identity}?audience=a"), &[flavor]);
    assert_eq!(response.headers()["content-type"], "text/html");
    // The same token again, with what it has left.
    let tokens: Vec<Value> = [0, 100, 3298, 3300]
        .into_iter()
        .map(|seconds| {
            let request = Request::get(&token).header("metadata-flavor", "Google").body(Vec::new()).unwrap();
            let Wire::Whole(response) = google.answer(NOW + Duration::from_secs(seconds), &request).wire else {
                panic!("no answer")
            };
            serde_json::from_slice(response.body()).unwrap()
        })
        .collect();
    let left: Vec<_> = tokens.iter().map(|token| token["expires_in"].as_u64().unwrap()).collect();
    assert_eq!(left, [3599, 3499, 301, 3599]);
    assert!(
        tokens[0]["access_token"] == tokens[2]["access_token"]
            && tokens[2]["access_token"] != tokens[3]["access_token"]
    );
}

#[test]
fn an_api_wants_a_token_with_scope_and_a_users_project() {
    let mut google = Google::demo();
    let address = google.address(Place::Models);
    let mut user = |scope| {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_ID),
            ("client_secret", CLIENT_SECRET),
            ("refresh_token", REFRESH_TOKEN),
            ("scope", scope),
        ];
        let (_, body) = post(&mut google, Place::Token, &form);
        format!("Bearer {}", body["access_token"].as_str().unwrap())
    };
    let (cloud, narrow) = (user(CLOUD), user("openid"));
    let project = ("x-goog-user-project", "demo-project");
    for (headers, status, reason) in [
        (&[][..], 401, "CREDENTIALS_MISSING"),
        (&[("authorization", "Bearer ya29.x")], 401, ""),
        (&[("authorization", &*cloud), project], 200, ""),
        (&[("authorization", &cloud)], 403, "SERVICE_DISABLED"),
        (&[("authorization", &cloud), ("x-goog-user-project", "x")], 403, "USER_PROJECT_DENIED"),
        (&[("authorization", &narrow), project], 403, "ACCESS_TOKEN_SCOPE_INSUFFICIENT"),
        (&[("x-goog-api-key", API_KEY)], 200, ""),
        (&[("x-goog-api-key", "x")], 401, "CREDENTIALS_MISSING"),
        (&[("x-goog-api-key", API_KEY), ("authorization", &cloud)], 401, "CREDENTIALS_MISSING"),
    ] {
        let response = get(&mut google, &address, headers);
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(response.status().as_u16(), status, "{headers:?}: {body}");
        assert_eq!(body["error"]["details"][0]["reason"].as_str().unwrap_or_default(), reason, "{body}");
        let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap());
        assert_eq!(challenge.is_some(), status == 401 || reason.contains("SCOPE"), "{challenge:?}");
    }
}

/// The credential files, their endpoints on the front.
fn files(front: &Front<Google>) -> (String, String) {
    let (mut account, mut user) = (service_account_json(), authorized_user_json());
    let token_uri = front.server().address(Place::Token);
    account["token_uri"] = token_uri.clone().into();
    user["token_uri"] = token_uri.into();
    (account.to_string(), user.to_string())
}

fn front() -> Front<Google> {
    Front::start(Google::demo().local(Local::Server(Metadata::new(SERVICE_ACCOUNT)))).unwrap()
}

fn metadata(front: &Front<Google>) -> ServerMetadata {
    let origin = format!("http://{}", front.address());
    ServerMetadata::new(Issuer::new(origin.as_str()).unwrap())
        .revocation_endpoint(&format!("{origin}/revoke"))
        .unwrap()
        .member("userinfo_endpoint", format!("{origin}/v1/userinfo").into())
}

#[test]
fn every_credential_works_over_tcp_from_a_blocking_program() {
    let front = front();
    let transport = grantflow_ureq::Transport::new().unwrap();
    let mint = |source: &dyn TokenSource, want: &Want| transport.run(source.mint(want, &source.first_state())).unwrap();
    let (account, user) = files(&front);
    let account = ServiceAccount::from_json_with_any_server(account).unwrap();
    let user = AuthorizedUser::from_json_with_any_server(user).unwrap();
    let server = MetadataServer::new().host(&front.address().to_string()).unwrap();
    let audience = "https://demo-abc123-uc.a.run.app";
    for token in [
        mint(&account, &Want::access_token(CLOUD)),
        mint(&account, &Want::access_token(STORAGE).subject(ALICE)),
        mint(&user, &Want::default()),
        mint(&server, &Want::default()),
    ] {
        assert!(front.server().scopes_of(token.access_token(), wall_clock()).is_some());
    }
    for source in [&account as &dyn TokenSource, &server] {
        let (_, claims) = jwt_parts(mint(source, &Want::id_token(audience)).access_token());
        assert_eq!(claims["aud"], audience);
    }
    assert_eq!(transport.run(server.project_id().unwrap()).unwrap(), "demo-project");
    let token = mint(&user, &Want::default());
    let tokeninfo = front.server().address(Place::TokenInfo);
    let info = || TokenInfo::at(&tokeninfo, "access_token", &token.access_token().into()).unwrap();
    assert_eq!(transport.run(info()).unwrap().verified_email(), Some(ALICE));
    let about = transport.run(UserInfo::new(&metadata(&front), &token).unwrap().exchange()).unwrap();
    assert_eq!(about.str("email"), Some(ALICE));
    let revocation = Revocation::new(&metadata(&front), &Client::new(CLIENT_ID), &token.access_token().into());
    // It wants no client: that is known of Google, and of no server whose metadata was written by hand.
    assert_eq!(transport.run(revocation.unwrap().exchange()).unwrap_err().status(), Some(400));
    let anonymous = ServerMetadata::google().revocation_endpoint(&front.server().address(Place::Revoke)).unwrap();
    let revocation = Revocation::new(&anonymous, &Client::new(CLIENT_ID), &token.access_token().into());
    transport.run(revocation.unwrap().exchange()).unwrap();
    assert_eq!(transport.run(info()).unwrap_err().server().unwrap().error(), "invalid_token");
}

#[test]
fn every_credential_works_over_tcp_from_an_async_program() {
    let front = front();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let transport = grantflow_reqwest::Transport::new().unwrap();
        let (account, user) = files(&front);
        let account = ServiceAccount::from_json_with_any_server(account).unwrap();
        let user = AuthorizedUser::from_json_with_any_server(user).unwrap();
        let server = MetadataServer::new().host(&front.address().to_string()).unwrap();
        for source in [&account as &dyn TokenSource, &user, &server] {
            let want = Want::access_token(scopes::CLOUD_PLATFORM);
            let token = transport.run(source.mint(&want, &source.first_state())).await.unwrap();
            assert!(front.server().scopes_of(token.access_token(), wall_clock()).is_some());
        }
    });
}
