//! An ID token from elsewhere, verified with keys that are known, beside its signature alone by the same library.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::jose::{IdToken, JwkSet, KeySet, Verdict};
use grantflow::{Issuer, Now, Timestamp, Verifier};
use grantflow_tests::IssuerKey;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::json;

use crate::harness::Work;

/// 0.92 of the signature's own rate must be left, by either algorithm: to decode and read a token takes less than 2 µs,
/// beside 24 µs of a signature by RS256 and 60 µs of one by ES256.
pub(crate) const BAR: f64 = 1.0 / 0.92;

pub(crate) fn rs256() -> Vec<Work<'static>> {
    works(&IssuerKey::rs256("5fe1"), &RSA_PKCS1_2048_8192_SHA256)
}

pub(crate) fn es256() -> Vec<Work<'static>> {
    works(&IssuerKey::es256("5fe1"), &ECDSA_P256_SHA256_FIXED)
}

fn works(key: &IssuerKey, algorithm: &'static dyn VerificationAlgorithm) -> Vec<Work<'static>> {
    let now = Now { wall: Timestamp::from_unix(1_795_176_010), ..Now::default() };
    // As Google's.
    let claims = json!({
        "iss": "https://as.example", "azp": "demo", "aud": "demo", "sub": "110169484474386276334",
        "email": "somebody@example.com", "email_verified": true, "at_hash": "77QmUPtjPfzWtF2AnpK9RQ",
        "name": "Some Body", "given_name": "Some", "family_name": "Body", "iat": 1_795_176_000, "exp": 1_795_179_600,
    });
    let text = key.sign("JWT", &claims);
    let (signed, signature) = text.rsplit_once('.').unwrap();
    let (signed, signature) = (signed.to_owned(), URL_SAFE_NO_PAD.decode(signature).unwrap());
    let public = key.public();
    let keys = KeySet::fixed(JwkSet::from_json(IssuerKey::set([key]).to_string().as_bytes()).unwrap());
    let verifier = Verifier::id_tokens(&Issuer::new("https://as.example").unwrap(), "demo");
    let ours = move || -> IdToken {
        match verifier.verify_with(&text, &keys, now) {
            Verdict::Done(result) => result.unwrap(),
            Verdict::Ask(error) => panic!("{error}"),
        }
    };
    let floor = move || UnparsedPublicKey::new(algorithm, &public).verify(signed.as_bytes(), &signature).unwrap();
    vec![Work::new("grantflow", ours), Work::new("the signature alone", floor)]
}
