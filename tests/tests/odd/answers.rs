//! Answers with members that are empty or cannot be read: tokens, device codes, users.

use grantflow::google::{TokenInfo, sign_blob};
use grantflow::jose::JwkSet;
use grantflow::{
    Advice, AuthorizationRequest, Deviation, Deviations, DeviceAuthorization, Effect, Error, ErrorKind, Introspection,
    Machine, Reply, Revocation, Step, Token, TokenRequest, UserInfo,
};
use grantflow_tests::demo::{self, batch, client};
use grantflow_tests::server::{Iss, Place};
use grantflow_tests::{Fault, Server, World};
use serde_json::json;

use super::{rows, text};

/// An answer in JSON; `<E9>` is one byte of Latin-1.
fn answer(text: &str) -> Fault {
    let mut fault = Fault::status(200, "");
    if let Fault::Answer(response) = &mut fault {
        let mut parts = text.split("<E9>");
        let mut body = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            body.push(0xe9);
            body.extend_from_slice(part.as_bytes());
        }
        *response.body_mut() = body;
    }
    fault
}

#[test]
fn an_optional_member_that_cannot_be_read_never_costs_the_token() {
    for row in rows(include_str!("../../data/odd/answers.json"), "answers") {
        let mut world = World::with(Server::demo());
        world.server().fail(Place::Token, answer(text(&row, "text")));
        let request = TokenRequest::client_credentials(&world.server().metadata(), &batch()).unwrap();
        let token = world.run(request.scopes("a b").exchange()).unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!((token.access_token(), token.scopes().as_str()), ("t", text(&row, "scopes")), "{row}");
        let found: Vec<_> = token.deviations().iter().map(|found| format!("{found:?}")).collect();
        assert_eq!(json!(found), row["found"], "{row}");
        assert!(token.refresh_token().is_none());
    }
}

#[test]
fn a_refresh_keeps_what_was_granted_where_the_answer_says_nothing() {
    for scope in [json!(""), json!(null), json!(1), json!({})] {
        let mut world = World::with(Server::demo());
        let token = demo::signed_in(&mut world, "openid read");
        let body =
            json!({"access_token": "at-2", "refresh_token": "rt-2", "token_type": "", "scope": scope, "id_token": ""});
        world.server().fail(Place::Token, Fault::status(200, &body.to_string()));
        let refresh = TokenRequest::refresh(&world.server().metadata(), &client(), &token).unwrap();
        let refreshed = world.run(refresh.exchange()).unwrap();
        assert_eq!(refreshed.scopes(), token.scopes(), "{scope}");
        assert!(refreshed.refresh_token().unwrap().matches("rt-2"));
    }
}

#[test]
fn a_device_code_is_shown_whatever_is_wrong_with_what_comes_beside_it() {
    let good = r#""device_code":"d","user_code":"ABCD","expires_in":600"#;
    for (rest, found) in [
        (r#""verification_uri":"https://as.example/d","verification_uri_complete":"""#, None),
        (r#""verification_uri":"https://as.example/d","interval":"""#, None),
        (r#""verification_uri":"","verification_url":"https://as.example/d""#, None),
        (r#""verification_uri":"https://as.example/d","verification_uri_complete":7"#, Some(Deviation::OddMember)),
        (
            r#""verification_uri":"https://as.example/d","verification_uri_complete":"javascript:x""#,
            Some(Deviation::OddMember),
        ),
        (r#""verification_uri":7,"verification_url":"https://as.example/d""#, Some(Deviation::OddMember)),
        (r#""verification_uri":"https://as.example/d","message":"caf<E9>""#, Some(Deviation::BrokenText)),
        (r#""verification_uri":"https://as.example/d","message":"\udfff""#, Some(Deviation::OddMember)),
        (r#""verification_uri":"https://as.example/d","message":NaN"#, Some(Deviation::OddMember)),
        ("\"verification_uri\":\"https://as.example/d\",\"message\":\"two\nlines\"", Some(Deviation::OddMember)),
        (r#""verification_uri":"https://as.example/d","error":"""#, None),
        (r#""verification_uri":" https://as.example/d\n""#, None),
    ] {
        let mut world = World::with(Server::demo());
        world.server().fail(Place::Device, answer(&format!("{{{good},{rest}}}")));
        let request = DeviceAuthorization::new(&world.server().metadata(), &client()).unwrap();
        let code = world.run(request.exchange()).unwrap_or_else(|error| panic!("{rest}: {error}"));
        assert_eq!((code.user_code(), code.verification_uri()), ("ABCD", "https://as.example/d"), "{rest}");
        assert_eq!(code.verification_uri_complete(), None);
        assert_eq!(code.deviations().iter().collect::<Vec<_>>(), found.into_iter().collect::<Vec<_>>(), "{rest}");
    }
}

#[test]
fn a_code_that_a_server_writes_as_a_number_is_shown_as_its_digits() {
    let mut world = World::with(Server::demo());
    let body = r#"{"device_code":"d","user_code":40517733,"verification_uri":"https://as.example/d","expires_in":600}"#;
    let ask = |world: &mut World, server: &grantflow::ServerMetadata| {
        world.server().fail(Place::Device, answer(body));
        world.run(DeviceAuthorization::new(server, &client()).unwrap().exchange())
    };
    let server = world.server().metadata();
    let code = ask(&mut world, &server).unwrap();
    assert_eq!(code.user_code(), "40517733");
    assert!(code.deviations().contains(Deviation::OddMember));
    assert!(ask(&mut world, &server.tolerate(Deviations::NONE)).is_err());
}

#[test]
fn a_pushed_request_has_its_name_whatever_is_wrong_with_what_comes_beside_it() {
    for rest in [
        r#""expires_in":1e999"#,
        r#""expires_in":"soon""#,
        r#""expires_in":"","error":"""#,
        r#""note":NaN"#,
        r#""note":"caf<E9>""#,
        r#""note":"\ud800""#,
    ] {
        let mut world = World::with(Server::demo());
        world.server().fail(Place::PushedRequest, answer(&format!(r#"{{"request_uri":"urn:x:1",{rest}}}"#)));
        let server = world.server().metadata();
        let server = server.pushed_authorization_request_endpoint("https://as.example/par").unwrap();
        let request = AuthorizationRequest::new(&server, &client(), demo::REDIRECT).scopes("read").push();
        let begun = world.run(request.start()).unwrap_or_else(|error| panic!("{rest}: {error}"));
        assert!(begun.url.contains("request_uri=urn%3Ax%3A1"), "{rest}: {}", begun.url);
        assert_eq!(begun.pending.url_expires_at(), None, "{rest}");
    }
}

#[test]
fn a_users_name_in_broken_text_does_not_hide_the_user() {
    let userinfo = |body: &str| {
        let mut world = World::with(Server::demo());
        let token = demo::signed_in(&mut world, "read");
        let server = world.server().metadata().userinfo_endpoint("https://as.example/userinfo").unwrap();
        world.server().fail(Place::Elsewhere, answer(body));
        world.run(UserInfo::new(&server, &token).unwrap().exchange())
    };
    for body in
        [r#"{"sub":"alice","name":"Ren<E9>"}"#, r#"{"sub":"alice","picture":"\ud800"}"#, r#"{"x":1e999,"sub":"alice"}"#]
    {
        assert_eq!(userinfo(body).unwrap().str("sub"), Some("alice"), "{body}");
    }
    // Of a `sub` that is broken itself nobody knows whose it is.
    for body in [r#"{"sub":"ren<E9>"}"#, r#"{"sub":""}"#, r#"{"sub":1}"#, r#"{"sub":"a","sub":"b"}"#] {
        assert_eq!(userinfo(body).unwrap_err().kind(), ErrorKind::InvalidResponse, "{body}");
    }
}

#[test]
fn an_at_hash_by_sha_256_is_taken_only_where_the_server_is_known_for_it() {
    use base64::Engine as _;
    use sha2::{Digest, Sha256};
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let sha256 = engine.encode(&Sha256::digest("at-2")[..16]);
    for (tolerated, hash, extra, says) in [
        (Deviations::TOLERATED, &*sha256, "", Some("Deviation::AtHashBySha256")),
        (Deviations::TOLERATED.with(Deviation::AtHashBySha256), &*sha256, "", None),
        (Deviations::TOLERATED.with(Deviation::AtHashBySha256), "AAAA", "", Some("at_hash is of another access token")),
        (Deviations::TOLERATED, &*sha256, ".a.b", Some("encrypted")),
    ] {
        let mut world = World::with(Server::demo());
        let token = demo::signed_in(&mut world, "openid read");
        let subject = token.id_token().unwrap().subject().to_owned();
        let now = world.now.wall.as_unix();
        let claims = json!({"iss": "https://as.example", "sub": subject, "aud": client().id(), "iat": now,
            "exp": now + 600, "at_hash": hash});
        let jwt = format!("{}.{}.c2ln{extra}", engine.encode(r#"{"alg":"EdDSA"}"#), engine.encode(claims.to_string()));
        let body = json!({"access_token": "at-2", "token_type": "Bearer", "id_token": jwt});
        world.server().fail(Place::Token, Fault::status(200, &body.to_string()));
        let server = world.server().metadata().tolerate(tolerated);
        let result = world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange());
        match (result, says) {
            (Ok(token), None) => assert_eq!(token.deviations(), Deviations::NONE.with(Deviation::AtHashBySha256)),
            (Err(error), Some(says)) => {
                assert!(error.to_string().contains(says) && error.advice().is_some(), "{error}")
            }
            (result, says) => panic!("{result:?} {says:?}"),
        }
    }
}

#[test]
fn a_bare_error_status_has_advice() {
    for (status, advice) in [(400, Advice::AskProvider), (403, Advice::AskProvider), (404, Advice::FixConfiguration)] {
        for fault in [Fault::status(status, ""), Fault::html(status)] {
            let mut world = World::with(Server::demo());
            world.server().fail(Place::Token, fault);
            let request = TokenRequest::client_credentials(&world.server().metadata(), &batch()).unwrap();
            assert_eq!(world.run(request.exchange()).unwrap_err().advice(), Some(advice), "{status}");
        }
    }
}

/// What a machine makes of this answer to all that it asks.
fn answered<M: Machine>(mut machine: M, status: u16, body: &str) -> Result<M::Output, Error> {
    let mut world = World::default();
    let mut reply = Reply::Start;
    loop {
        reply = match machine.resume(&mut world.cx(), reply) {
            Step::Done(result) => return result,
            Step::Do(Effect::Http(_)) => {
                let Fault::Answer(mut response) = answer(body) else { unreachable!() };
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                Reply::Http(response)
            }
            Step::Do(_) => Reply::Refused,
        };
    }
}

#[test]
fn an_error_under_a_status_of_success_is_no_success() {
    let mut world = World::with(Server::demo());
    let token = demo::signed_in(&mut world, "read");
    let server = world.server().metadata().userinfo_endpoint("https://as.example/u").unwrap();
    let server = server.introspection_endpoint("https://as.example/i").unwrap();
    let bearer = Token::bearer("t", world.now.wall, None).unwrap();
    for (body, code) in [
        (r#"{"error":"unsupported_token_type"}"#, "unsupported_token_type"),
        (r#"{"ok":false,"error":"invalid_auth"}"#, "invalid_auth"),
        (r#"{"errcode":40001,"errmsg":"bad"}"#, "40001"),
        (r#"{"errors":[{"errorType":"invalid_client"}]}"#, "invalid_client"),
        (r#"{"error":{"code":403,"status":"PERMISSION_DENIED"}}"#, "PERMISSION_DENIED"),
    ] {
        for error in [
            answered(Revocation::new(&server, &client(), &"t".into()).unwrap().exchange(), 200, body).unwrap_err(),
            answered(UserInfo::new(&server, &token).unwrap().exchange(), 200, body).unwrap_err(),
            answered(Introspection::new(&server, &batch()).unwrap().of("t"), 200, body).unwrap_err(),
            answered(TokenInfo::of_access_token(&"t".into()).unwrap(), 200, body).unwrap_err(),
            answered(sign_blob("a@p.iam.gserviceaccount.com", &bearer, b"m").unwrap(), 200, body).unwrap_err(),
        ] {
            assert_eq!(error.server().map(|it| it.error()), Some(code), "{body}: {error}");
        }
    }
    // A token that is revoked, in all the words for it.
    for (status, body) in [
        (200, ""),
        (204, ""),
        (200, "<html>done</html>"),
        (200, r#"{"error":"","errors":[]}"#),
        (200, r#"{"errcode":0,"errmsg":"ok"}"#),
        (200, r#"{"code":200,"status":"success"}"#),
        (200, r#"{"error":"invalid_token"}"#),
        (400, r#"{"error":"invalid_token"}"#),
    ] {
        let revocation = Revocation::new(&server, &client(), &"t".into()).unwrap();
        answered(revocation.exchange(), status, body).unwrap_or_else(|error| panic!("{body}: {error}"));
    }
}

#[test]
fn what_is_empty_counts_as_missing_at_introspection_and_in_keys_too() {
    let mut world = World::with(Server::demo());
    let server = world.server().metadata().introspection_endpoint("https://as.example/i").unwrap();
    let ask = |body: &str| answered(Introspection::new(&server, &batch()).unwrap().of("t"), 200, body);
    for body in [
        r#"{"active":true,"scope":"","exp":"","nbf":null,"iss":"","aud":null}"#,
        r#"{"active":true,"iss":null,"exp":null,"username":"Ren<E9>"}"#,
        "\u{feff}{\"active\":true,\"exp\":99999999999.5,\"nbf\":1}",
        r#"{"active":true,"quota":NaN}"#,
    ] {
        ask(body).unwrap_or_else(|error| panic!("{body}: {error}"));
    }
    for body in [
        r#"{"active":true,"exp":"1"}"#,
        r#"{"active":true,"exp":"soon"}"#,
        r#"{"active":true,"exp":{}}"#,
        r#"{"active":true,"nbf":"99999999999"}"#,
        r#"{"active":true,"iss":"https://other.example"}"#,
        r#"{"active":true,"iss":7}"#,
    ] {
        assert_eq!(ask(body).unwrap_err().kind(), ErrorKind::AccessToken, "{body}");
    }
    let keys = |more: &str| {
        let point =
            r#""x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
        let set = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256",{point},{more}}}]}}"#);
        JwkSet::from_json(set.as_bytes()).unwrap().keys().len()
    };
    for more in [r#""kid":"","alg":"","use":"""#, r#""kid":null,"alg":null,"use":null,"key_ops":null"#] {
        assert_eq!(keys(more), 1, "{more}");
    }
    for more in [r#""use":"enc""#, r#""use":7"#, r#""alg":"none""#, r#""key_ops":[]"#] {
        assert_eq!(keys(more), 0, "{more}");
    }
}

#[test]
fn what_is_empty_in_a_redirect_counts_as_missing() {
    for (promises_iss, query, says) in [
        (true, "code=c&error=&error_description=&iss=ISSUER", None),
        (false, "code=c&iss=&error=%20", None),
        (true, "code=c&iss=", Some("does not say which server it comes from")),
        (true, "code=&error=&iss=ISSUER", Some("neither a code nor an error")),
        (true, "code=&error=access_denied&iss=ISSUER", Some("access_denied")),
        (true, "code=%C3%A9&iss=ISSUER", Some("its code holds a character")),
    ] {
        let iss = if promises_iss { Iss::Right } else { Iss::Absent };
        let mut world = World::with(Server::demo().with(|settings| settings.iss = iss));
        let request = demo::request(world.server(), "read");
        let authorization = world.run(request.start()).unwrap();
        let url = url::Url::parse(&authorization.url).unwrap();
        let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let query = format!("{query}&state={state}").replace("ISSUER", "https%3A%2F%2Fas.example");
        let received = authorization.pending.receive(&query, world.now.wall);
        match (received, says) {
            (Ok(_), None) => {}
            (Err(error), Some(says)) => assert!(error.to_string().contains(says), "{query}: {error}"),
            (received, _) => panic!("{query}: {received:?}"),
        }
    }
}
