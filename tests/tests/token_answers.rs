//! Token answers as servers really send them: what is taken, what is tolerated and said so, what is refused.

use std::time::Duration;

use grantflow::{Deviation, Deviations, Error, ErrorKind, Scopes, Token, TokenRequest, TokenType};
use grantflow_tests::demo::{self, batch, client};
use grantflow_tests::{Fault, Place, Server, World};
use serde_json::json;

const JSON: &str = "application/json";
const YEARS: u64 = 10 * 365 * 86_400;

/// The answer to a request for the scopes `a b`, from a server of which these deviations are tolerated.
fn answer(tolerated: Deviations, status: u16, content_type: &str, body: &[u8]) -> Result<Token, Error> {
    let mut world = World::with(Server::demo());
    let server = world.server().metadata().tolerate(tolerated);
    let mut fault = Fault::with_type(status, content_type, "");
    if let Fault::Answer(response) = &mut fault {
        *response.body_mut() = body.to_vec();
    }
    world.server().fail(Place::Token, fault);
    let result = world.run(TokenRequest::client_credentials(&server, &batch()).unwrap().scopes("a b").exchange());
    assert_eq!(world.sent().len(), 1);
    result
}

fn json(body: impl AsRef<[u8]>) -> Result<Token, Error> {
    answer(Deviations::TOLERATED, 200, JSON, body.as_ref())
}

fn lifetime(token: &Token) -> Option<Duration> {
    token.expires_at().map(|end| end.since(token.issued_at()))
}

fn deviations(token: &Token) -> Vec<Deviation> {
    token.deviations().iter().collect()
}

#[test]
fn each_leniency_has_its_switch_and_is_reported_when_used() {
    use Deviation::*;
    type Check = fn(&Token) -> bool;
    let hour: Check = |token| lifetime(token) == Some(Duration::from_secs(3600));
    let two: Check = |token| *token.scopes() == Scopes::from("x y");
    let cases: [(Deviation, bool, &str, &str, Check); 14] = [
        (NumberAsText, true, JSON, r#"{"access_token":"t","token_type":"Bearer","expires_in":"3600"}"#, hour),
        (NumberAsText, true, JSON, r#"{"access_token":"t","token_type":"Bearer","expires_in":3600.5}"#, hour),
        (ScopeAsList, true, JSON, r#"{"access_token":"t","token_type":"Bearer","scope":["x","y"]}"#, two),
        (ScopeWithCommas, true, JSON, r#"{"access_token":"t","token_type":"Bearer","scope":"x,y"}"#, two),
        (JsonCalledText, true, "text/plain", r#"{"access_token":"t","token_type":"Bearer","scope":"x y"}"#, two),
        (JsonCalledText, true, "text/html", r#"{"access_token":"t","token_type":"Bearer","scope":"x y"}"#, two),
        (JsonCalledText, true, "", r#"{"access_token":"t","token_type":"Bearer","scope":"x y"}"#, two),
        (
            ByteOrderMark,
            true,
            JSON,
            "\u{feff}{\"access_token\":\"t\",\"token_type\":\"Bearer\",\"scope\":\"x y\"}",
            two,
        ),
        (NoTokenType, true, JSON, r#"{"access_token":"t"}"#, |token| *token.token_type() == TokenType::Bearer),
        (NoTokenType, true, JSON, r#"{"access_token":"t","token_type":null}"#, |token| token.authorization().is_ok()),
        (
            FormBody,
            false,
            "application/x-www-form-urlencoded; charset=utf-8",
            "access_token=t&token_type=bearer&scope=x+y&more=1",
            |token| *token.scopes() == Scopes::from("x y") && token.get("more") == Some(&json!("1")),
        ),
        (ZeroMeansNever, false, JSON, r#"{"access_token":"t","token_type":"Bearer","expires_in":0}"#, |token| {
            token.expires_at().is_none()
        }),
        (OddTokenType, false, JSON, r#"{"access_token":"t","token_type":"User Access Token"}"#, |token| {
            token.authorization().is_ok()
        }),
        (OddLifetime, true, JSON, r#"{"access_token":"t","token_type":"Bearer","expires_in":"1h"}"#, |token| {
            token.expires_at().is_none()
        }),
    ];
    for (deviation, by_default, content_type, body, check) in cases {
        assert_eq!(Deviations::TOLERATED.contains(deviation), by_default, "{deviation:?}");
        let token = answer(Deviations::NONE.with(deviation), 200, content_type, body.as_bytes()).unwrap();
        assert_eq!(deviations(&token), [deviation], "{body}");
        assert!(check(&token), "{deviation:?}: {token:?}");
        let without = Deviations::TOLERATED.without(deviation);
        match answer(without, 200, content_type, body.as_bytes()) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{deviation:?}"),
            // These two are read as the standard reads them: the token has expired, or is of an unknown type.
            Ok(token) => {
                assert!(matches!(deviation, ZeroMeansNever | OddTokenType), "{deviation:?}");
                assert!(token.deviations().is_empty() && !check(&token), "{deviation:?}");
            }
        }
    }
}

#[test]
fn an_error_under_success_is_told_as_an_error_either_way() {
    for body in [r#"{"error":"bad_verification_code"}"#, r#"{"ok":false,"error":"invalid_code","access_token":"t"}"#] {
        let error = json(body).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Server, Some(200)));
        let strict = answer(Deviations::TOLERATED.without(Deviation::ErrorUnderSuccess), 200, JSON, body.as_bytes());
        assert_eq!(strict.unwrap_err().kind(), ErrorKind::InvalidResponse);
    }
    assert_eq!(json(r#"{"ok":false,"access_token":"t"}"#).unwrap_err().kind(), ErrorKind::InvalidResponse);
    assert!(json(r#"{"error":null,"access_token":"t","token_type":"Bearer"}"#).is_ok());
}

#[test]
fn several_deviations_are_all_named() {
    let body = "\u{feff}{\"access_token\":\"t\",\"expires_in\":\"60\",\"scope\":\"x,y\"}";
    let token = answer(Deviations::TOLERATED, 200, "text/plain", body.as_bytes()).unwrap();
    use Deviation::*;
    assert_eq!(deviations(&token), [NumberAsText, ScopeWithCommas, JsonCalledText, ByteOrderMark, NoTokenType]);
}

#[test]
fn a_standard_answer_has_no_deviations_whatever_its_spelling() {
    for (content_type, body) in [
        (JSON, r#"{"access_token":"t","token_type":"Bearer"}"#),
        ("Application/JSON; charset=UTF-8", r#" {"token_type":"bEaReR" , "access_token":"t"} "#),
        ("application/vnd.x+json", r#"{"access_token":"\u0074","token_type":"bearer","x":[{"y":null}]}"#),
        ("application/json;charset=utf-8", "{\n\"access\\u005ftoken\":\"t\",\t\"token_type\":\"BEARER\"}\r\n"),
    ] {
        let token = answer(Deviations::NONE, 200, content_type, body.as_bytes()).unwrap();
        assert_eq!((token.access_token(), token.token_type()), ("t", &TokenType::Bearer), "{body}");
        assert_eq!((token.scopes(), token.expires_at()), (&Scopes::from("a b"), None), "as asked, and not known");
        assert!(token.deviations().is_empty() && token.refresh_token().is_none());
    }
}

#[test]
fn every_lifetime_has_a_defined_meaning() {
    for (value, seconds, deviates) in [
        ("3600", Some(3600), false),
        ("1", Some(1), false),
        ("0", Some(0), false),
        ("null", None, false),
        ("315360000", Some(YEARS), false),
        ("315360001", Some(YEARS), false),
        ("9223372036854775808", Some(YEARS), false),
        ("18446744073709551615", Some(YEARS), false),
        ("18446744073709551616", Some(YEARS), true),
        ("1e300", Some(YEARS), true),
        ("\"3600\"", Some(3600), true),
        ("\"0\"", Some(0), true),
        ("\"99999999999999999999999999\"", Some(YEARS), true),
        ("3600.9", Some(3600), true),
        ("3.6e3", Some(3600), true),
        ("-1", None, true),
        ("-1.5", None, true),
        ("-9223372036854775809", None, true),
        ("\"-1\"", None, true),
        ("\"+1\"", Some(1), true),
        ("\"1h\"", None, true),
        ("\"\"", None, false),
        ("\"3600.5\"", Some(3600), true),
        // Not even JSON readers agree on this one.
        ("1e309", None, true),
        ("true", None, true),
        ("[]", None, true),
        ("{\"seconds\":1}", None, true),
    ] {
        for name in ["expires_in", "refresh_token_expires_in"] {
            let body = format!(r#"{{"access_token":"t","token_type":"Bearer","refresh_token":"r","{name}":{value}}}"#);
            let token = json(&body).unwrap();
            let end = if name == "expires_in" { token.expires_at() } else { token.refresh_token_expires_at() };
            assert_eq!(end.map(|end| end.since(token.issued_at()).as_secs()), seconds, "{body}");
            assert_eq!(!token.deviations().is_empty(), deviates, "{body}");
        }
    }
}

#[test]
fn an_expired_token_is_seen_as_such() {
    let token = json(r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#).unwrap();
    let sent = token.issued_at();
    assert!(
        !token.is_expired(sent + Duration::from_millis(59_999)) && token.is_expired(sent + Duration::from_secs(60))
    );
    let forever = json(r#"{"access_token":"t","token_type":"Bearer"}"#).unwrap();
    assert!(!forever.is_expired(sent + Duration::from_secs(YEARS * 10)));
}

#[test]
fn every_scope_has_a_defined_meaning() {
    for (value, scopes) in [
        ("null", "a b"),
        // Not said: as asked.
        ("\"\"", "a b"),
        ("[]", "a b"),
        ("\"x\"", "x"),
        ("\"x  y x\"", "x y"),
        ("\"https://s.example/a,b c\"", "https://s.example/a,b c"),
        ("[\"x\",\"y z\"]", "x y z"),
        // Not read: as asked.
        ("1", "a b"),
        ("true", "a b"),
        ("{}", "a b"),
        ("[1]", "a b"),
        ("[[\"x\"]]", "a b"),
    ] {
        let token = json(format!(r#"{{"access_token":"t","token_type":"Bearer","scope":{value}}}"#)).unwrap();
        assert_eq!(token.scopes(), &Scopes::from(scopes), "{value}");
    }
}

#[test]
fn a_token_that_no_header_can_carry_is_refused() {
    let long = "t".repeat(64 * 1024);
    for (value, good) in [
        (r#""t""#, true),
        (r#""~t!./+-_==""#, true),
        (&format!("\"{long}\""), true),
        (&format!("\"{long}t\""), false),
        (r#""""#, false),
        ("null", false),
        ("1", false),
        (r#"["t"]"#, false),
        (r#"{"t":1}"#, false),
        (r#""a b""#, false),
        (r#""a\r\nx: y""#, false),
        (r#""a\nb""#, false),
        (r#""a\u0000b""#, false),
        (r#""a\u007f""#, false),
        (r#""tökén""#, false),
        (r#""\ud83d\ude00""#, false),
        (r#""\ud800""#, false),
    ] {
        let result = json(format!(r#"{{"access_token":{value},"token_type":"Bearer"}}"#));
        assert_eq!(result.is_ok(), good, "{}", &value[..value.len().min(40)]);
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::InvalidResponse);
        }
    }
    assert!(json(r#"{"token_type":"Bearer"}"#).is_err());
}

#[test]
fn a_token_type_that_is_not_understood_is_never_used_as_a_bearer_token() {
    for (name, expected) in
        [("DPoP", TokenType::DPoP), ("mac", TokenType::Other("mac".into())), ("N_A", TokenType::NotApplicable)]
    {
        let token = json(format!(r#"{{"access_token":"t","token_type":"{name}"}}"#)).unwrap();
        assert_eq!((token.token_type(), token.access_token()), (&expected, "t"));
        assert_eq!(token.authorization().unwrap_err().kind(), ErrorKind::TokenType);
    }
    assert!(json(r#"{"access_token":"t","token_type":1}"#).is_err());
}

#[test]
fn a_refresh_token_is_kept_unless_another_comes() {
    for (value, expected) in [
        (None, Some("old-one")),
        (Some("null"), Some("old-one")),
        (Some("\"\""), Some("old-one")),
        (Some("\"old-one\""), Some("old-one")),
        (Some("\"new one\""), Some("new one")),
        // What cannot be sent back is left out, by name.
        (Some("1"), Some("old-one")),
        (Some("\"a\\nb\""), Some("old-one")),
        (Some("\"ä\""), Some("old-one")),
    ] {
        let mut world = World::with(Server::demo());
        let server = world.server().metadata();
        let member = value.map(|value| format!(r#","refresh_token":{value}"#)).unwrap_or_default();
        let body = format!(r#"{{"access_token":"t","token_type":"Bearer"{member}}}"#);
        world.server().fail(Place::Token, Fault::status(200, &body));
        let request = TokenRequest::refresh_token(&server, &client(), &"old-one".into()).unwrap();
        match (world.run(request.exchange()), expected) {
            (Ok(token), Some(text)) => assert!(token.refresh_token().unwrap().matches(text), "{value:?}"),
            (Err(error), None) => assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{value:?}"),
            (result, _) => panic!("{value:?}: {result:?}"),
        }
    }
}

#[test]
fn a_member_twice_is_refused() {
    for body in [
        r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#,
        r#"{"access_token":"a","access\u005ftoken":"b","token_type":"Bearer"}"#,
        r#"{"access_token":"a","token_type":"Bearer","token_type":"mac"}"#,
        r#"{"access_token":"a","token_type":"Bearer","x":1,"x":1}"#,
        r#"{"access_token":"a","token_type":"Bearer","expires_in":null,"expires_in":1}"#,
    ] {
        assert_eq!(json(body).unwrap_err().kind(), ErrorKind::InvalidResponse, "{body}");
    }
    let lenient = Deviations::TOLERATED.with(Deviation::FormBody);
    for body in ["access_token=a&access_token=b&token_type=bearer", "access_token=a&token_type=bearer&x=1&x=2"] {
        assert!(answer(lenient, 200, "application/x-www-form-urlencoded", body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn what_is_no_token_answer_at_all_is_told_without_its_words() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let long = format!(r#"{{"access_token":"canary","token_type":"Bearer","x":"{}"}}"#, "x".repeat(1 << 20));
    let cases: [(&str, Vec<u8>); 20] = [
        ("empty", Vec::new()),
        ("space", b" ".into()),
        ("null", b"null".into()),
        ("array", b"[\"canary\"]".into()),
        ("text", b"\"canary\"".into()),
        ("number", b"12345".into()),
        ("true", b"true".into()),
        ("words", b"canary".into()),
        ("truncated", br#"{"access_token":"canary"#.into()),
        ("two documents", br#"{"access_token":"canary","token_type":"Bearer"}{}"#.into()),
        ("comma", br#"{"access_token":"canary","token_type":"Bearer",}"#.into()),
        ("single quotes", b"{'access_token':'canary'}".into()),
        ("comment", br#"{"access_token":"canary"/*x*/}"#.into()),
        ("invalid UTF-8", b"{\"access_token\":\"canary\xff\",\"token_type\":\"Bearer\"}".to_vec()),
        ("NUL", b"{\"access_token\":\"canary\0\",\"token_type\":\"Bearer\"}".to_vec()),
        ("lone surrogate", br#"{"access_token":"canary\udc00","token_type":"Bearer"}"#.into()),
        ("deep arrays", deep("[", "]").into()),
        ("deep objects", deep("{\"a\":", "}").into()),
        ("deep member", format!(r#"{{"access_token":{}}}"#, deep("[", "]")).into()),
        ("too large", long.into()),
    ];
    for (name, body) in cases {
        for content_type in [JSON, "text/plain", "text/html"] {
            let error = answer(Deviations::TOLERATED, 200, content_type, &body).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{name}: {error}");
            assert!(!format!("{error:?} {error}").contains("canary"), "{name}: {error}");
        }
    }
}

#[test]
fn a_web_page_is_called_one() {
    for status in [200, 400, 403, 501] {
        let body = b"<!doctype html><title>Sign in</title><p>canary";
        let lenient = Deviations::TOLERATED.with(Deviation::FormBody);
        let error = answer(lenient, status, "text/html", body).unwrap_err();
        assert!(!error.to_string().contains("canary"));
        match status {
            200 => assert!(error.to_string().contains("web page"), "{error}"),
            _ => assert_eq!((error.kind(), error.status()), (ErrorKind::Http, Some(status))),
        }
    }
}

#[test]
fn errors_are_understood_in_every_shape_they_come_in() {
    for (status, content_type, body, code, description) in [
        (
            400,
            JSON,
            r#"{"error":"invalid_grant","error_description":"expired"}"#,
            Some("invalid_grant"),
            Some("expired"),
        ),
        (400, "text/plain", r#"{"error":"invalid_grant"}"#, Some("invalid_grant"), None),
        (401, "", "\u{feff}{\"error\":\"invalid_client\"}", Some("invalid_client"), None),
        (200, JSON, r#"{"ok":false,"error":"invalid_code"}"#, Some("invalid_code"), None),
        (
            400,
            "application/x-www-form-urlencoded",
            "error=bad_verification_code&error_description=The+code+passed+is+incorrect",
            Some("bad_verification_code"),
            Some("The code passed is incorrect"),
        ),
        // Facebook.
        (
            400,
            JSON,
            r#"{"error":{"message":"Invalid code","type":"OAuthException","code":100,"fbtrace_id":"x"}}"#,
            Some("OAuthException"),
            Some("Invalid code"),
        ),
        // Google's APIs.
        (
            403,
            JSON,
            r#"{"error":{"code":403,"message":"no","status":"PERMISSION_DENIED"}}"#,
            Some("PERMISSION_DENIED"),
            Some("no"),
        ),
        // Google's device endpoint.
        (403, JSON, r#"{"error_code":"rate_limit_exceeded"}"#, Some("rate_limit_exceeded"), None),
        // TikTok, under status 200.
        (200, JSON, r#"{"error":40001,"message":"no"}"#, Some("40001"), Some("no")),
        // Twitch: no code, only its status and words for people.
        (
            400,
            JSON,
            r#"{"status":400,"message":"Invalid authorization code"}"#,
            Some("400"),
            Some("Invalid authorization code"),
        ),
        // Fitbit.
        (400, JSON, r#"{"errors":[{"errorType":"invalid_grant","message":"x"}]}"#, Some("invalid_grant"), Some("x")),
        (400, JSON, r#"{"error":"","message":""}"#, None, None),
        (400, JSON, r#"{"error":""}"#, None, None),
        (400, JSON, r#"{"error":true}"#, None, None),
        (400, JSON, r#"["invalid_grant"]"#, None, None),
        (400, JSON, "", None, None),
        (501, "text/html", "<h1>Error</h1>", None, None),
    ] {
        let error = answer(Deviations::TOLERATED, status, content_type, body.as_bytes()).unwrap_err();
        assert_eq!(error.status(), Some(status), "{body}");
        assert_eq!(error.server().map(|server| server.error()), code, "{body}");
        assert_eq!(error.server().and_then(|server| server.error_description()), description, "{body}");
        assert_eq!(error.kind(), if code.is_some() { ErrorKind::Server } else { ErrorKind::Http }, "{body}");
    }
}

#[test]
fn a_servers_words_cannot_steer_a_terminal_or_fill_a_log() {
    let body = json!({
        "error": "invalid_grant\u{1b}[31m",
        "error_description": format!("\u{1b}]0;title\u{7}\r\nforged line\u{202e}{}", "x".repeat(100_000)),
        "error_uri": "javascript:alert(1)\u{0}",
    });
    let error = answer(Deviations::TOLERATED, 400, JSON, body.to_string().as_bytes()).unwrap_err();
    let server = error.server().unwrap();
    assert_eq!(server.error(), "invalid_grant[31m");
    assert!(server.error_description().unwrap().starts_with("]0;titleforged linexxx"));
    let shown = format!("{error} {error:?} {:?}", server);
    assert!(shown.len() < 4000 && !shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown}");
}

// --- servers by name

#[test]
fn githubs_answers() {
    let token = json(r#"{"access_token":"gho_16C7e42F292c6912E7","scope":"repo,gist","token_type":"bearer"}"#).unwrap();
    assert_eq!(token.scopes(), &Scopes::from("repo gist"));
    assert_eq!((lifetime(&token), deviations(&token)), (None, vec![Deviation::ScopeWithCommas]));
    let form = b"access_token=gho_16C7e42F292c6912E7&scope=repo%2Cgist&token_type=bearer";
    let lenient = Deviations::TOLERATED.with(Deviation::FormBody);
    let token = answer(lenient, 200, "application/x-www-form-urlencoded; charset=utf-8", form).unwrap();
    assert_eq!(token.scopes(), &Scopes::from("repo gist"));
    let app = r#"{"access_token":"ghu_16","expires_in":28800,"refresh_token":"ghr_1B",
        "refresh_token_expires_in":15897600,"scope":"","token_type":"bearer"}"#;
    let token = json(app).unwrap();
    assert_eq!(lifetime(&token), Some(Duration::from_secs(28_800)));
    assert_eq!(token.refresh_token_expires_at().unwrap().since(token.issued_at()).as_secs(), 15_897_600);
    assert!(*token.scopes() == Scopes::from("a b") && token.deviations().is_empty(), "an empty scope is not said");
    let error = json(
        r#"{"error":"bad_verification_code","error_description":"The code passed is incorrect or expired.",
        "error_uri":"https://docs.github.com/apps/#bad-verification-code"}"#,
    );
    let error = error.unwrap_err();
    assert_eq!(error.server().unwrap().error(), "bad_verification_code");
    assert!(error.server().unwrap().error_uri().is_some() && !error.is_transient());
}

#[test]
fn slacks_answers() {
    let body = r#"{"ok":true,"access_token":"xoxb-17653672481","token_type":"bot","scope":"commands,incoming-webhook",
        "bot_user_id":"U0KRQLJ9H","team":{"name":"Slack","id":"T9TK3CUKW"},"authed_user":{"id":"U1234"}}"#;
    let token = json(body).unwrap();
    assert!(matches!(token.token_type(), TokenType::Other(name) if &**name == "bot") && token.authorization().is_err());
    let token = answer(Deviations::TOLERATED.with(Deviation::OddTokenType), 200, JSON, body.as_bytes()).unwrap();
    assert_eq!(token.authorization().unwrap().as_bytes(), b"Bearer xoxb-17653672481");
    assert_eq!(token.scopes(), &Scopes::from("commands incoming-webhook"));
    assert_eq!(token.get("authed_user").unwrap()["id"], "U1234");
    assert_eq!(json(r#"{"ok":false,"error":"invalid_code"}"#).unwrap_err().server().unwrap().error(), "invalid_code");
}

#[test]
fn answers_of_other_servers() {
    // Facebook.
    let token = json(r#"{"access_token":"EAAB","token_type":"bearer","expires_in":5183944}"#).unwrap();
    assert_eq!(lifetime(&token), Some(Duration::from_secs(5_183_944)));
    // Twitch.
    let body = r#"{"access_token":"rfx2uswq","expires_in":14124,"refresh_token":"5b93chm6",
        "scope":["channel:moderate","chat:edit"],"token_type":"bearer"}"#;
    let token = json(body).unwrap();
    assert_eq!(token.scopes(), &Scopes::from("channel:moderate chat:edit"));
    assert_eq!(deviations(&token), [Deviation::ScopeAsList]);
    // Mailchimp: no end, told as zero.
    let body = r#"{"access_token":"5c6ccc561059aa386da9d112215bae55","expires_in":0,"scope":null}"#;
    assert_eq!(lifetime(&json(body).unwrap()), Some(Duration::ZERO));
    let token = answer(Deviations::TOLERATED.with(Deviation::ZeroMeansNever), 200, JSON, body.as_bytes()).unwrap();
    assert_eq!(deviations(&token), [Deviation::NoTokenType, Deviation::ZeroMeansNever]);
    assert_eq!((lifetime(&token), token.scopes()), (None, &Scopes::from("a b")));
    // Salesforce: no lifetime, and the moment of issue in milliseconds as a text.
    let body = r#"{"access_token":"00DB0000000TfcR!AQQAQFhoK8vTMg","signature":"2P7nLvE=","scope":"refresh_token api",
        "instance_url":"https://example.my.salesforce.com","id":"https://login.salesforce.com/id/00D/005",
        "token_type":"Bearer","issued_at":"1278448384422"}"#;
    let token = answer(Deviations::NONE, 200, "application/json;charset=UTF-8", body.as_bytes()).unwrap();
    assert_eq!((lifetime(&token), token.access_token()), (None, "00DB0000000TfcR!AQQAQFhoK8vTMg"));
    assert_eq!(token.get("instance_url").unwrap(), "https://example.my.salesforce.com");
    assert_eq!(token.get("issued_at").unwrap(), "1278448384422");
    // eBay.
    let body = r#"{"access_token":"v^1.1#i^1#p^3","expires_in":7200,"refresh_token":"v^1.1#i^1",
        "refresh_token_expires_in":47304000,"token_type":"User Access Token"}"#;
    let token = answer(Deviations::TOLERATED.with(Deviation::OddTokenType), 200, JSON, body.as_bytes()).unwrap();
    assert!(token.authorization().is_ok());
    // Keycloak.
    let body = r#"{"access_token":"eyJ.x.y","expires_in":300,"refresh_expires_in":1800,"refresh_token":"eyJ.r.r",
        "token_type":"Bearer","not-before-policy":0,"session_state":"9e","scope":"profile email"}"#;
    let token = answer(Deviations::NONE, 200, JSON, body.as_bytes()).unwrap();
    assert_eq!(token.get("refresh_expires_in"), Some(&json!(1800)));
    // Google.
    let body = r#"{"access_token":"ya29.a0","expires_in":3599,"refresh_token":"1//0g",
        "scope":"https://www.googleapis.com/auth/drive openid","token_type":"Bearer","id_token":"a.b.c",
        "refresh_token_expires_in":604799}"#;
    let token = answer(Deviations::NONE, 200, "application/json; charset=utf-8", body.as_bytes()).unwrap();
    assert!(token.id_token().is_none(), "no openid was asked, so nobody checked it");
    assert_eq!(token.refresh_token_expires_at().unwrap().since(token.issued_at()).as_secs(), 604_799);
}

#[test]
fn answers_that_only_a_leniency_for_the_sign_in_takes() {
    let mut world = World::with(Server::demo().with(|settings| {
        settings.alter_token = grantflow_tests::server::Alter::set("id_token", json!(null));
    }));
    for (tolerated, good) in [(Deviations::TOLERATED, false), (Deviations::NONE.with(Deviation::NoIdToken), true)] {
        let server = world.server().metadata().tolerate(tolerated);
        let request = grantflow::AuthorizationRequest::new(&server, &client(), demo::REDIRECT).scopes("openid");
        match world.sign_in(request, &client()) {
            Ok(token) => assert!(good && token.id_token().is_none() && deviations(&token) == [Deviation::NoIdToken]),
            Err(error) => assert!(!good && error.kind() == ErrorKind::IdToken, "{error}"),
        }
    }
}
