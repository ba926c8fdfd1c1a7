//! The rules for ID tokens (OpenID Connect Core 1.0, section 3.1.3.7), one by one, at a sign-in and at
//! a refresh.

use std::time::Duration;

use grantflow::{
    Advice, AuthorizationRequest, Client, Deviation, Error, ErrorKind, ServerMetadata, Token, TokenRequest,
};
use grantflow_tests::demo::{self, REDIRECT, client};
use grantflow_tests::server::{Alter, Iss};
use grantflow_tests::{Server, World, at_once};
use serde_json::{Value, json};

const NOW: i64 = 1_795_176_000;

/// A sign-in at a server that makes such ID tokens.
fn sign_in(header: Alter, claims: Alter) -> (World, Result<Token, Error>) {
    sign_in_as(header, claims, |request| request)
}

fn sign_in_as(
    header: Alter,
    claims: Alter,
    ask: impl FnOnce(AuthorizationRequest) -> AuthorizationRequest,
) -> (World, Result<Token, Error>) {
    let mut world = World::with(Server::demo().with(|settings| {
        settings.alter_id_header = header;
        settings.alter_id_claims = claims;
    }));
    // Answers come at the very second, so that limits are tried exactly.
    world.latency = Duration::ZERO;
    let request = ask(demo::request(world.server(), "openid email"));
    let result = world.sign_in(request, &client());
    (world, result)
}

fn refused(result: Result<Token, Error>, why: &str, case: &str) -> Error {
    let error = result.expect_err(case);
    assert_eq!(error.kind(), ErrorKind::IdToken, "{case}: {error}");
    assert!(error.to_string().contains(why), "{case}: {error}");
    error
}

/// Claims one by one: what to set it to (null removes it), and the word that the refusal must have, or
/// none if it is fine.
fn table() -> Vec<(&'static str, Value, Option<&'static str>)> {
    vec![
        // Rule 2.
        ("iss", json!(null), Some("iss")),
        ("iss", json!(""), Some("iss")),
        ("iss", json!("https://as.example/"), Some("iss")),
        ("iss", json!("HTTPS://AS.example"), Some("iss")),
        ("iss", json!("as.example"), Some("iss")),
        ("iss", json!("https://evil.example"), Some("iss")),
        ("iss", json!(["https://as.example"]), Some("iss")),
        // Section 2.
        ("sub", json!(null), Some("sub")),
        ("sub", json!(""), Some("sub")),
        ("sub", json!(7), Some("sub")),
        ("sub", json!("x".repeat(256)), Some("sub")),
        ("sub", json!("x".repeat(255)), None),
        // Rule 3.
        ("aud", json!(null), Some("aud")),
        ("aud", json!([]), Some("aud")),
        ("aud", json!("other"), Some("aud")),
        ("aud", json!("DEMO"), Some("aud")),
        ("aud", json!(["other"]), Some("aud")),
        ("aud", json!(["demo", "other"]), Some("aud")),
        ("aud", json!(["demo", 1]), Some("aud")),
        ("aud", json!({"demo": 1}), Some("aud")),
        ("aud", json!(["demo"]), None),
        ("aud", json!(["demo", "demo"]), None),
        // Rules 4 and 5.
        ("azp", json!("demo"), None),
        ("azp", json!("other"), Some("azp")),
        ("azp", json!(["demo"]), Some("azp")),
        ("azp", json!(1), Some("azp")),
        // Rule 9, with a minute for clocks that differ.
        ("exp", json!(null), Some("exp")),
        ("exp", json!("9999999999"), Some("exp")),
        ("exp", json!([]), Some("exp")),
        ("exp", json!(-1), Some("exp")),
        ("exp", json!(true), Some("exp")),
        ("exp", json!(0), Some("expired")),
        ("exp", json!(NOW - 60), Some("expired")),
        ("exp", json!(NOW - 59), None),
        ("exp", json!(NOW + 1), None),
        ("exp", json!(NOW as f64 + 0.5), None),
        ("exp", json!(1e300), Some("exp")),
        // Rule 10.
        ("iat", json!(null), Some("iat")),
        ("iat", json!("1795176000"), Some("iat")),
        ("iat", json!(NOW + 60), None),
        ("iat", json!(NOW + 61), Some("future")),
        ("iat", json!(NOW - 660), None),
        ("iat", json!(NOW - 661), Some("too old")),
        ("nbf", json!(NOW + 60), None),
        ("nbf", json!(NOW + 61), Some("not valid yet")),
        ("nbf", json!("soon"), Some("not valid yet")),
        // Rule 11.
        ("nonce", json!(null), Some("nonce")),
        ("nonce", json!(""), Some("nonce")),
        ("nonce", json!("another"), Some("nonce")),
        ("nonce", json!(1), Some("nonce")),
        // Section 3.1.3.6.
        ("at_hash", json!(null), None),
        ("at_hash", json!(""), Some("at_hash")),
        ("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ"), Some("at_hash")),
        ("at_hash", json!(1), Some("at_hash")),
        // What nobody knows is nobody's business.
        ("made_up", json!({"x": [1]}), None),
    ]
}

#[test]
fn each_claim_is_checked_at_a_sign_in() {
    for (name, value, why) in table() {
        let case = format!("{name} = {value}");
        let (_, result) = sign_in(Alter::default(), Alter::set(name, value));
        match why {
            None => drop(result.unwrap_or_else(|error| panic!("{case}: {error}")).id_token().expect("an ID token")),
            Some(why) => drop(refused(result, why, &case)),
        }
    }
}

#[test]
fn no_token_gets_out_when_the_id_token_is_wrong() {
    let (mut world, result) = sign_in(Alter::default(), Alter::set("nonce", json!("another")));
    let error = refused(result, "nonce", "nonce");
    // The error knows no token, and the code is used up: it is not sent again.
    assert_eq!(world.server().seen_at(grantflow_tests::Place::Token).len(), 1);
    assert!(!error.is_transient() && error.to_string().starts_with("redeeming the authorization code"), "{error}");
}

#[test]
fn times_that_do_not_fit_advise_to_set_the_clock() {
    for (name, value) in [("exp", NOW - 3600), ("iat", NOW + 3600), ("iat", NOW - 3600), ("nbf", NOW + 3600)] {
        let (_, result) = sign_in(Alter::default(), Alter::set(name, json!(value)));
        assert_eq!(result.unwrap_err().advice(), Some(Advice::SetClock), "{name} {value}");
    }
}

#[test]
fn each_header_is_checked() {
    for (name, value, why) in [
        // Rule 7: what is signed by nothing is refused; the rest is TLS's to vouch for (rule 6).
        ("alg", json!("none"), Some("alg none")),
        ("alg", json!("None"), Some("alg none")),
        ("alg", json!("NONE"), Some("alg none")),
        ("alg", json!("nOnE"), Some("alg none")),
        ("alg", json!(null), Some("alg")),
        ("alg", json!(["RS256"]), Some("alg")),
        // at_hash with an alg of which no hash is known fails closed.
        ("alg", json!("XY999"), Some("at_hash")),
        ("alg", json!("rs256"), Some("at_hash")),
        ("alg", json!(""), Some("at_hash")),
        ("alg", json!("ES256"), None),
        ("crit", json!(["bork"]), Some("crit")),
        ("crit", json!([]), Some("crit")),
        ("crit", json!("x"), Some("crit")),
        ("crit", json!(["alg"]), Some("crit")),
        ("typ", json!("JWT"), None),
        ("typ", json!("jwt"), None),
        ("typ", json!("at+jwt"), Some("typ")),
        ("typ", json!("logout+jwt"), Some("typ")),
        ("typ", json!("oauth-authz-req+jwt"), Some("typ")),
        ("typ", json!(1), Some("typ")),
        ("kid", json!("../../dev/null"), None),
        ("jku", json!("https://evil.example/keys"), None),
    ] {
        let case = format!("{name} = {value}");
        let (world, result) = sign_in(Alter::set(name, value), Alter::default());
        assert_eq!(world.sent().len(), 1, "{case}: nothing in a header makes a request");
        match why {
            None => drop(result.unwrap_or_else(|error| panic!("{case}: {error}"))),
            Some(why) => drop(refused(result, why, &case)),
        }
    }
}

#[test]
fn what_is_no_jwt_is_refused_before_anything_is_made_of_it() {
    let dots = ".".repeat(10 << 20);
    for text in
        ["", "a", "a.b", "a.b.c", "a.b.c.d", "..", "e30.e30.", "!.!.!", "e30=.e30=.x", &dots[..60_000], &dots[..70_000]]
    {
        let (_, result) = with_id_token(json!(text));
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IdToken, "{}", &text[..text.len().min(20)]);
    }
    for value in [json!(1), json!(["a.b.c"]), json!({"a": 1})] {
        assert_eq!(with_id_token(value).1.unwrap_err().kind(), ErrorKind::InvalidResponse);
    }
    let (_, result) = with_id_token(json!(null));
    refused(result, "no id_token", "none at all");
}

fn with_id_token(value: Value) -> (World, Result<Token, Error>) {
    let mut world = World::with(Server::demo().with(|settings| settings.alter_token = Alter::set("id_token", value)));
    let request = demo::request(world.server(), "openid");
    let result = world.sign_in(request, &client());
    (world, result)
}

/// A sign-in whose ID token has this text, made of the nonce that was asked for.
fn by_hand(header: &str, payload: impl FnOnce(&str) -> String) -> Result<Token, Error> {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let mut world = World::with(Server::demo());
    world.latency = Duration::ZERO;
    let authorization = at_once(demo::request(world.server(), "openid").start(), &mut world.cx()).unwrap();
    let url = url::Url::parse(&authorization.url).unwrap();
    let nonce = url.query_pairs().find(|(name, _)| name == "nonce").unwrap().1.into_owned();
    let jwt = format!("{}.{}.c2ln", encode(header), encode(&payload(&nonce)));
    world.server().settings.alter_token = Alter::set("id_token", json!(jwt));
    let redirect = world.person(&authorization.url);
    world.run(authorization.pending.finish(&client(), &redirect))
}

const RS256: &str = r#"{"alg":"RS256"}"#;
const ISS: &str = r#""iss":"https://as.example""#;

/// Claims that are right, but for how these begin and end.
fn claims_with(begin: &str, exp: &str, nonce: &str) -> String {
    format!(r#"{{{begin},"sub":"alice","aud":"demo","exp":{exp},"iat":{NOW},"nonce":"{nonce}"}}"#)
}

#[test]
fn a_claim_twice_is_refused() {
    let later = (NOW + 60).to_string();
    let signed_in = |header: &str, begin: &str| by_hand(header, |nonce| claims_with(begin, &later, nonce));
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    // What makes it wrong is the one claim, and nothing besides; nor does one that nobody asks for cost anything.
    signed_in(RS256, ISS).unwrap();
    signed_in(RS256, &format!(r#"{ISS},"x":{deep}"#)).unwrap();
    for (header, begin) in [
        (r#"{"alg":"none","alg":"RS256"}"#, ISS.to_owned()),
        (r#"{"alg":"RS256","alg":"RS256"}"#, ISS.to_owned()),
        (RS256, format!(r#""iss":"https://evil.example",{ISS}"#)),
        (RS256, format!(r#"{ISS},"\u0073ub":"bob""#)),
        (RS256, format!(r#"{ISS},"nonce":"another""#)),
    ] {
        refused(signed_in(header, &begin), "twice", &begin);
    }
    for (header, payload) in [(RS256, &*deep), (RS256, "[]"), (r#"["RS256"]"#, "{}")] {
        let error = by_hand(header, |_| payload.to_owned()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IdToken, "{}", &payload[..payload.len().min(60)]);
        assert!(error.to_string().contains("no JSON object"), "{error}");
    }
}

#[test]
fn an_exp_that_is_no_number_or_beyond_all_numbers_is_refused() {
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    for exp in ["null", "1e400", "-1e400", "-1", "\"9999999999\"", "[1795179600]", "{}", "false", &*deep] {
        let result = by_hand(RS256, |nonce| claims_with(ISS, exp, nonce));
        refused(result, "no exp that is a number", &exp[..exp.len().min(20)]);
    }
}

#[test]
fn max_age_is_checked_against_auth_time() {
    let hour = Duration::from_secs(3600);
    for (auth_time, why) in [
        (json!(NOW), None),
        (json!(NOW - 3660), None),
        (json!(NOW - 3661), Some("max_age")),
        (json!(null), Some("auth_time")),
        (json!("1795176000"), Some("auth_time")),
    ] {
        let case = format!("auth_time = {auth_time}");
        let (_, result) =
            sign_in_as(Alter::default(), Alter::set("auth_time", auth_time), |request| request.max_age(hour));
        match why {
            None => drop(result.unwrap_or_else(|error| panic!("{case}: {error}"))),
            Some(why) => drop(refused(result, why, &case)),
        }
    }
}

#[test]
fn at_hash_vectors_hold() {
    let data: Value = serde_json::from_str(include_str!("../data/at_hash.json")).unwrap();
    for vector in data["vectors"].as_array().unwrap() {
        for alg in vector["algs"].as_array().unwrap() {
            for (at_hash, good) in [(vector["at_hash"].clone(), true), (json!("AAAA"), false)] {
                let mut world = World::with(Server::demo().with(|settings| {
                    settings.alter_id_header = Alter::set("alg", alg.clone());
                    settings.alter_id_claims = Alter::set("at_hash", at_hash);
                    settings.alter_token = Alter::set("access_token", vector["access_token"].clone());
                }));
                let request = demo::request(world.server(), "openid");
                let result = world.sign_in(request, &client());
                assert_eq!(result.is_ok(), good, "{}, {alg}: {result:?}", vector["section"]);
            }
        }
    }
}

/// A sign-in that is fine, then a refresh with this claim altered.
fn refresh(name: &'static str, value: Value) -> Result<Token, Error> {
    let mut world = World::with(Server::demo());
    let token = demo::signed_in(&mut world, "openid");
    world.server().settings.alter_id_claims = Alter::set(name, value);
    let server = world.server().metadata();
    world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange())
}

#[test]
fn at_a_refresh_the_user_issuer_and_client_must_be_the_same() {
    for (name, value, why) in [
        ("sub", json!("bob"), Some("sub")),
        ("sub", json!(null), Some("sub")),
        ("iss", json!("https://evil.example"), Some("iss")),
        ("aud", json!("other"), Some("aud")),
        ("azp", json!("other"), Some("azp")),
        ("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ"), Some("at_hash")),
        ("iat", json!(NOW - 1_000_000), Some("iat")),
        // The sign-in may be long ago.
        ("auth_time", json!(NOW - 1_000_000), None),
        ("made_up", json!(1), None),
    ] {
        let case = format!("{name} = {value}");
        match (refresh(name, value), why) {
            (result, Some(why)) => drop(refused(result, why, &case)),
            (result, None) => assert_eq!(result.unwrap().id_token().unwrap().subject(), "alice", "{case}"),
        }
    }
}

#[test]
fn at_a_refresh_a_clock_that_is_off_costs_the_claims_and_not_the_tokens() {
    for (name, value) in [("exp", json!(NOW - 3600)), ("iat", json!(NOW + 3600)), ("nbf", json!(NOW + 3600))] {
        let token = refresh(name, value).unwrap();
        assert!(token.id_token().is_none() && token.refresh_token().is_some(), "{name}");
        assert!(token.deviations().contains(Deviation::UntimelyIdToken), "{name}");
    }
}

#[test]
fn a_refresh_need_not_bring_an_id_token() {
    let mut world = World::with(Server::demo().with(|settings| settings.id_token_on_refresh = false));
    let token = demo::signed_in(&mut world, "openid");
    let server = world.server().metadata();
    let token = world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap();
    assert!(token.id_token().is_none() && token.deviations().is_empty());
}

#[test]
fn googles_two_spellings_of_its_issuer_are_one() {
    let spell = |server: ServerMetadata, iss: &'static str| {
        let mut world = World::with(Server::demo().with(|settings| {
            settings.alter_id_claims = Alter::set("iss", json!(iss));
        }));
        let own = world.server().metadata();
        let server = server
            .authorization_endpoint(own.authorization().unwrap().as_str())
            .unwrap()
            .token_endpoint(own.token().unwrap().as_str())
            .unwrap();
        world.server().settings.iss = Iss::Absent;
        let request = AuthorizationRequest::new(&server, &client(), REDIRECT).scopes("openid");
        world.sign_in(request, &client()).is_ok()
    };
    assert!(spell(ServerMetadata::google(), "https://accounts.google.com"));
    assert!(spell(ServerMetadata::google(), "accounts.google.com"));
    assert!(!spell(ServerMetadata::google(), "https://accounts.google.com/"));
    let other = Server::demo().with(|settings| settings.iss = Iss::Absent).metadata();
    assert!(!spell(other.clone(), "accounts.google.com"));
    assert!(spell(other.issuer_alias("accounts.google.com"), "accounts.google.com"));
}

#[test]
fn an_email_is_given_only_if_it_is_verified() {
    for (value, given) in [
        (json!(true), true),
        (json!("true"), true),
        (json!(false), false),
        (json!("false"), false),
        (json!(null), false),
        (json!(1), false),
        (json!("yes"), false),
    ] {
        let case = value.to_string();
        let (_, result) = sign_in(Alter::default(), Alter::set("email_verified", value));
        let token = result.unwrap();
        let id_token = token.id_token().unwrap();
        assert_eq!(id_token.verified_email().is_some(), given, "{case}");
        assert_eq!(id_token.claims().str("email"), Some("alice@example.com"), "the claim itself can be read");
    }
}

#[test]
fn without_openid_an_id_token_is_ignored() {
    let mut world =
        World::with(Server::demo().with(|settings| settings.alter_token = Alter::set("id_token", json!("garbage"))));
    assert!(demo::signed_in(&mut world, "read").id_token().is_none());
}

#[test]
fn another_clients_code_is_not_redeemed() {
    let mut world = World::with(Server::demo());
    let authorization = at_once(demo::request(world.server(), "openid").start(), &mut world.cx()).unwrap();
    let redirect = world.person(&authorization.url);
    let error = world.run(authorization.pending.finish(&Client::new("other"), &redirect)).unwrap_err();
    assert_eq!((error.kind(), world.sent().len()), (ErrorKind::Config, 0));
}
