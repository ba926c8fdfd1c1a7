//! Tokens of others: what is verified says what was signed, and whatever else comes is refused.

use std::sync::OnceLock;
use std::time::Duration;

use grantflow::dpop::DpopNonces;
use grantflow::jose::{Claims, JwkSet, KeySet, LogoutToken, Verdict};
use grantflow::{
    Client, ClientAuthentication, Introspection, Issuer, LogoutReplays, Machine as _, Now, Protection, Reply, Step,
    Verifier,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::{CANARY, NOW, cx, server, splice};
use crate::canary::{hidden_in_debug, hidden_in_error};
use crate::keys::IssuerKey;

const NOW_BOTH: Now = Now { wall: NOW, mono: Duration::from_secs(1000) };

/// The key of the issuer, and its set.
fn key() -> &'static (IssuerKey, KeySet) {
    static KEY: OnceLock<(IssuerKey, KeySet)> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = IssuerKey::es256("a");
        let keys = JwkSet::from_json(IssuerKey::set([&key]).to_string().as_bytes()).expect("a set");
        (key, KeySet::fixed(keys))
    })
}

fn issuer() -> Issuer {
    server().issuer().clone()
}

fn logout_tokens() -> Verifier<LogoutToken> {
    let server = server().jwks_uri("https://as.example/keys").expect("an address");
    Verifier::logout_tokens_of(&server, &Client::new("app")).expect("a verifier")
}

/// An ID token that is right, for a user of this name.
pub(super) fn id_token(sub: &str) -> String {
    let now = NOW.as_unix();
    let claims = json!({"iss": issuer().as_str(), "sub": sub, "aud": "app", "iat": now, "exp": now + 3600});
    key().0.sign("JWT", &claims)
}

/// Verified claims are those that were signed.
fn same(claims: &Claims, signed: &Value) {
    let Value::Object(signed) = signed else { panic!("no object") };
    assert!(claims.iter().map(|(name, _)| name).eq(signed.keys()));
    for (name, value) in signed {
        assert_eq!(claims.str(name), value.as_str());
        assert_eq!(claims.get(name).is_some_and(Value::is_number), value.is_number());
    }
}

/// Any claims, signed by the right key: they are verified if they follow the rules, and then nothing else than what was
/// signed. The first byte chooses the kind, and whether the claims are added to good ones.
pub fn signed_token(data: &[u8]) {
    let Some((&choice, json)) = data.split_first() else { return };
    let Ok(mut claims @ Value::Object(_)) = serde_json::from_slice::<Value>(json) else { return };
    if choice % 2 == 0 {
        let now = NOW.as_unix();
        let good = json!({"iss": issuer().as_str(), "sub": "s", "aud": "app", "iat": now, "exp": now + 9, "client_id": "c",
            "jti": "j"});
        let (Value::Object(own), Value::Object(good)) = (&mut claims, good) else { return };
        for (name, value) in good {
            own.entry(name).or_insert(value);
        }
    }
    let (key, keys) = key();
    if choice / 2 % 2 == 0 {
        let verifier = Verifier::id_tokens(&issuer(), "app");
        let text = key.sign("JWT", &claims);
        match verifier.verify_with(&text, keys, NOW_BOTH) {
            Verdict::Done(Ok(token)) => {
                same(token.claims(), &claims);
                assert!(token.issuer() == issuer().as_str() && !token.subject().is_empty());
                assert_eq!(token.as_secret().expose(), text);
                hidden_in_debug("an ID token", &token, &[&text]);
            }
            Verdict::Done(Err(error)) | Verdict::Ask(error) => hidden_in_error(&error, &[CANARY]),
        }
        return;
    }
    if choice / 8 % 2 == 1 {
        let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
        claims.as_object_mut().expect("an object").entry("events").or_insert(event);
        match logout_tokens().verify_with(&key.sign("logout+jwt", &claims), keys, NOW_BOTH) {
            Verdict::Done(Ok(token)) => {
                same(token.claims(), &claims);
                assert!(token.claims().get("nonce").is_none() && !token.id().is_empty());
                assert!(token.subject().or(token.session()).is_some_and(|whose| !whose.is_empty()));
                let mut seen = LogoutReplays::default();
                assert!(seen.take(&token, NOW).is_ok() && seen.take(&token, NOW).is_err(), "taken twice");
            }
            Verdict::Done(Err(error)) | Verdict::Ask(error) => hidden_in_error(&error, &[CANARY]),
        }
        return;
    }
    let verifier = Verifier::access_tokens(&issuer(), "app");
    let verifier = if choice / 4 % 2 == 0 { verifier } else { verifier.without_profile() };
    match verifier.verify_with(&key.sign("at+jwt", &claims), keys, NOW_BOTH) {
        Verdict::Done(Ok(token)) => {
            same(token.claims(), &claims);
            let protection = Protection::new().scopes("a").acr_values(["b"]).max_age(Duration::from_secs(9));
            let _ = protection.check(&token, NOW).map_err(|refusal| refusal.into_response(()));
        }
        Verdict::Done(Err(error)) | Verdict::Ask(error) => hidden_in_error(&error, &[CANARY]),
    }
}

/// Any text as a token, as the header that it comes in, and as the nonce that the next proof is to hold.
pub fn presented_token(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let (_, keys) = key();
    let id = matches!(Verifier::id_tokens(&issuer(), "app").verify_with(&text, keys, NOW_BOTH), Verdict::Done(Ok(_)));
    let access = Verifier::access_tokens(&issuer(), "app").verify_with(&text, keys, NOW_BOTH);
    let logout = matches!(logout_tokens().verify_with(&text, keys, NOW_BOTH), Verdict::Done(Ok(_)));
    assert!(!id && !logout && !matches!(access, Verdict::Done(Ok(_))), "nobody has signed it");
    let (mut headers, mut given) = (HeaderMap::new(), HeaderMap::new());
    for value in data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::try_from(line).ok()) {
        headers.append("authorization", value.clone());
        given.append("www-authenticate", value.clone());
        given.append("dpop-nonce", value);
    }
    let (mut nonces, uri) = (DpopNonces::default(), "https://api.example/".parse().expect("an address"));
    let asks = nonces.learn(&uri, StatusCode::UNAUTHORIZED, &given);
    match nonces.get(&uri) {
        // RFC 9449, section 8.1.
        Some(nonce) => assert!(
            given.get_all("dpop-nonce").iter().eq([nonce])
                && (1..=1024).contains(&nonce.len())
                && nonce.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
        ),
        None => assert!(!asks, "without a nonce there is nothing to send once more"),
    }
    let protection = Protection::new().realm(&text).resource_metadata(&text).acr_values([text.as_str()]);
    match protection.token(&headers, &"/".parse().expect("an address")) {
        Ok(token) => assert!(headers.len() == 1 && !token.contains([' ', ','])),
        Err(refusal) => assert!(matches!(refusal.status().as_u16(), 400 | 401) && refusal.headers().len() == 1),
    }
}

/// The answer of an introspection endpoint. The first byte chooses how it calls itself, and whether a signed one was
/// asked for.
pub fn introspection_answer(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let server = server().introspection_endpoint("https://as.example/introspect").expect("an address");
    let server = server.jwks_uri("https://as.example/keys").expect("an address");
    let resource = Client::new("api").authentication(ClientAuthentication::client_secret_post(CANARY));
    let introspection = Introspection::new(&server, &resource).expect("an introspection");
    let signed = choice % 2 == 1;
    let introspection = if signed { introspection.signed(&server).expect("keys") } else { introspection };
    let mut response = Response::new(splice(body, ""));
    let types = ["application/json", "application/token-introspection+jwt", "text/html", ""];
    if let Ok(value) = types[usize::from(choice / 2) % 4].parse() {
        response.headers_mut().insert("content-type", value);
    }
    let mut machine = introspection.of(CANARY_TOKEN);
    let Step::Do(_) = machine.resume(&mut cx(), Reply::Start) else { panic!("no request") };
    match machine.resume(&mut cx(), Reply::Http(response)) {
        Step::Done(Ok(token)) => {
            assert!(!signed && token.claims().get("active") == Some(&Value::Bool(true)));
            assert!(token.expires_at().is_none_or(|end| end + Duration::from_secs(60) > NOW));
        }
        Step::Done(Err(error)) => hidden_in_error(&error, &[CANARY, CANARY_TOKEN]),
        Step::Do(effect) => assert!(signed, "{effect:?}"),
    }
}

/// The token that is asked about.
const CANARY_TOKEN: &str = "c4n4ry-acc3ss-t0ken";
