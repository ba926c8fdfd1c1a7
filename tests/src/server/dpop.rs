//! Proofs of possession as the pretend servers check them (RFC 9449, section 4.3), to the letter: none is taken twice, and
//! none that a comparison of texts could refuse.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::Timestamp;
use http::{Request, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Refusal, Server, answer, refuse, text};
use crate::jwt::{Jwt, PublicKey};

/// How old a proof may be, and how far in the future, in seconds.
const OLDEST: i64 = 60;
const AHEAD: i64 = 2;

impl Server {
    /// The thumbprint of the key that the proof of a token request is by, if there is one.
    pub(super) fn proven(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Result<Option<String>, Refusal> {
        if !request.headers().contains_key("dpop") {
            return match self.settings.dpop_required {
                true => refuse("invalid_dpop_proof", "a proof is needed"),
                false => Ok(None),
            };
        }
        let nonce = self.settings.dpop_nonce.clone();
        match self.check_proof(now, request, None, nonce.as_deref()) {
            Ok(thumbprint) => Ok(Some(thumbprint)),
            Err(Wrong::Nonce) => refuse("use_dpop_nonce", "a nonce is needed"),
            Err(Wrong::Proof(why)) => refuse("invalid_dpop_proof", why),
        }
    }

    /// What an access token with a proof is good for (RFC 9449, section 7.1).
    pub(super) fn bound_resource(
        &mut self,
        now: Timestamp,
        request: &Request<Vec<u8>>,
        token: &str,
    ) -> Response<Vec<u8>> {
        let challenge = |error: &str, why: &str| {
            let mut response = text(StatusCode::UNAUTHORIZED, why);
            let value = format!(r#"Bearer, DPoP realm="resource", algs="ES256 EdDSA", error="{error}""#);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value.parse().expect("a header value"));
            response
        };
        let nonce = self.settings.dpop_resource_nonce.clone();
        let thumbprint = match self.check_proof(now, request, Some(token), nonce.as_deref()) {
            Ok(thumbprint) => thumbprint,
            Err(Wrong::Nonce) => return challenge("use_dpop_nonce", "a nonce is needed"),
            Err(Wrong::Proof(why)) => return challenge("invalid_dpop_proof", why),
        };
        let access = self.access.get(token).filter(|_| self.accepts(token, now));
        match access {
            Some(access) if access.jkt.as_ref() == Some(&thumbprint) => {
                let grant = &self.grants[access.grant];
                answer(StatusCode::OK, &json!({"sub": grant.subject, "scope": access.scopes.as_str()}))
            }
            _ => challenge("invalid_token", "the token has ended, or is bound to another key"),
        }
    }

    /// Adds the nonce that this server or its resource wants to see from now on.
    pub(super) fn give_nonce(mut response: Response<Vec<u8>>, nonce: Option<&str>) -> Response<Vec<u8>> {
        if let Some(nonce) = nonce {
            response.headers_mut().insert("dpop-nonce", nonce.parse().expect("a header value"));
        }
        response
    }

    fn check_proof(
        &mut self,
        now: Timestamp,
        request: &Request<Vec<u8>>,
        access_token: Option<&str>,
        nonce: Option<&str>,
    ) -> Result<String, Wrong> {
        let wrong = |why| Err(Wrong::Proof(why));
        let proofs: Vec<_> = request.headers().get_all("dpop").iter().collect();
        let [proof] = proofs[..] else { return wrong("there is not exactly one proof") };
        let Some(jwt) = proof.to_str().ok().and_then(Jwt::parse) else { return wrong("it is no JWT") };
        let mut named: Vec<_> = jwt.header.keys().map(String::as_str).collect();
        named.sort_unstable();
        if named != ["alg", "jwk", "typ"] || jwt.header["typ"] != "dpop+jwt" {
            return wrong("its header is not typ, alg and jwk, or of another type");
        }
        let algorithm = jwt.header["alg"].as_str().unwrap_or_default();
        if !self.settings.dpop_algorithms.contains(&algorithm) {
            return wrong("its algorithm is not supported");
        }
        let Some((key, thumbprint)) = jwt.header["jwk"].as_object().and_then(key_of) else {
            return wrong("its key is no public key alone");
        };
        if !jwt.is_signed_by(&key) {
            return wrong("its key has not signed it");
        }
        let known = ["jti", "htm", "htu", "iat", "ath", "nonce"];
        if jwt.claims.keys().any(|name| !known.contains(&name.as_str())) {
            return wrong("it has a claim that none has");
        }
        let address = match (request.uri().scheme_str(), request.uri().authority()) {
            (Some(scheme), Some(authority)) => format!("{scheme}://{authority}{}", request.uri().path()),
            _ => format!("{}{}", self.origin(), request.uri().path()),
        };
        if jwt.text("htm") != Some(request.method().as_str()) || jwt.text("htu") != Some(&address) {
            return wrong("it is for another request");
        }
        let age = jwt.seconds("iat").map(|iat| now.as_unix() - iat);
        if age.is_none_or(|age| !(-AHEAD..=OLDEST).contains(&age)) {
            return wrong("it is too old, or from the future");
        }
        let ath = access_token.map(|token| URL_SAFE_NO_PAD.encode(Sha256::digest(token)));
        if jwt.claims.get("ath").map(|ath| ath.as_str().unwrap_or_default()) != ath.as_deref() {
            return wrong("it is for another access token, or for none");
        }
        if nonce.is_some() && jwt.text("nonce") != nonce {
            return Err(Wrong::Nonce);
        }
        match jwt.text("jti") {
            Some(jti) if jti.len() >= 16 && self.proofs.insert(jti.to_owned()) => Ok(thumbprint),
            _ => wrong("its jti is short, or was used before"),
        }
    }
}

enum Wrong {
    Proof(&'static str),
    Nonce,
}

/// A public key without any other member, and its thumbprint (RFC 7638).
fn key_of(jwk: &Map<String, Value>) -> Option<(PublicKey, String)> {
    let text = |name: &str| jwk.get(name)?.as_str();
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let (key, required) = match (text("kty")?, text("crv")?, jwk.len()) {
        ("EC", "P-256", 4) => {
            let point = [vec![4], bytes("x")?, bytes("y")?].concat();
            (PublicKey::Es256(point), json!({"crv": "P-256", "kty": "EC", "x": text("x")?, "y": text("y")?}))
        }
        ("OKP", "Ed25519", 3) => {
            (PublicKey::Ed25519(bytes("x")?), json!({"crv": "Ed25519", "kty": "OKP", "x": text("x")?}))
        }
        _ => return None,
    };
    // The members of a map are written in the order of their names.
    Some((key, URL_SAFE_NO_PAD.encode(Sha256::digest(required.to_string()))))
}
