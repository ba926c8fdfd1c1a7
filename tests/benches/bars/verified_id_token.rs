//! An ID token from elsewhere, verified with keys that are known, beside its signature alone by the same library, and by
//! two threads beside one.

use std::sync::Barrier;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cpu_time::ThreadTime;
use grantflow::jose::{IdToken, JwkSet, KeySet, Verdict};
use grantflow::{Issuer, Now, Timestamp, Verifier};
use grantflow_tests::IssuerKey;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::json;

use crate::harness::Work;

/// 0.92 of the signature's own rate must be left, by either algorithm: to decode and read a token takes less than 2 µs,
/// beside 24 µs of a signature by RS256 and 60 µs of one by ES256.
pub(crate) const BAR: f64 = 1.0 / 0.92;
/// How many times the work of one thread two threads must do.
pub(crate) const SCALE: f64 = 1.8;

pub(crate) const ISSUER: &str = "https://as.example";
pub(crate) const CLIENT: &str = "demo";

/// A token, and the keys of its issuer as JSON. The claims are as Google's.
pub(crate) struct Case {
    pub(crate) token: String,
    pub(crate) keys: String,
    public: Vec<u8>,
    by: &'static dyn VerificationAlgorithm,
}

impl Case {
    pub(crate) fn rs256() -> Self {
        Self::new(&IssuerKey::rs256("5fe1"), &RSA_PKCS1_2048_8192_SHA256)
    }

    pub(crate) fn es256() -> Self {
        Self::new(&IssuerKey::es256("5fe1"), &ECDSA_P256_SHA256_FIXED)
    }

    fn new(key: &IssuerKey, by: &'static dyn VerificationAlgorithm) -> Self {
        // It ends long after: other crates read the system's clock.
        let claims = json!({
            "iss": ISSUER, "azp": CLIENT, "aud": CLIENT, "sub": "110169484474386276334",
            "email": "somebody@example.com", "email_verified": true, "at_hash": "77QmUPtjPfzWtF2AnpK9RQ",
            "name": "Some Body", "given_name": "Some", "family_name": "Body", "iat": 1_795_176_000, "exp": 4_000_000_000_u64,
        });
        Self { token: key.sign("JWT", &claims), keys: IssuerKey::set([key]).to_string(), public: key.public(), by }
    }

    fn verify(&self) -> impl Fn() -> IdToken + use<> {
        let now = Now { wall: Timestamp::from_unix(1_795_176_010), ..Now::default() };
        let keys = KeySet::fixed(JwkSet::from_json(self.keys.as_bytes()).unwrap());
        let verifier = Verifier::id_tokens(&Issuer::new(ISSUER).unwrap(), CLIENT);
        let token = self.token.clone();
        move || match verifier.verify_with(&token, &keys, now) {
            Verdict::Done(result) => result.unwrap(),
            Verdict::Ask(error) => panic!("{error}"),
        }
    }

    pub(crate) fn works(self) -> Vec<Work<'static>> {
        let ours = self.verify();
        let (signed, signature) = self.token.rsplit_once('.').unwrap();
        let (signed, signature) = (signed.to_owned(), URL_SAFE_NO_PAD.decode(signature).unwrap());
        let floor =
            move || UnparsedPublicKey::new(self.by, &self.public).verify(signed.as_bytes(), &signature).unwrap();
        vec![Work::new("grantflow", ours), Work::new("the signature alone", floor)]
    }

    /// How many times the work of one thread two threads do, each in the same time of its own processor. The best of
    /// several rounds, since noise only ever takes.
    #[allow(dead_code, reason = "not beside other crates")]
    pub(crate) fn scale(&self) -> f64 {
        let verify = &self.verify();
        let busy = |threads: usize| {
            let begin = &Barrier::new(threads);
            let times = std::thread::scope(|scope| {
                let one = || {
                    begin.wait();
                    let start = ThreadTime::now();
                    (0..1000).for_each(|_| drop(std::hint::black_box(verify())));
                    start.elapsed()
                };
                let all: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
                all.into_iter().map(|thread| thread.join().unwrap()).max()
            });
            times.unwrap()
        };
        let best = |threads| (0..9).map(|_| busy(threads)).min().unwrap();
        2.0 * best(1).as_secs_f64() / best(2).as_secs_f64()
    }
}
