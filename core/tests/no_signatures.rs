//! Without a library for signatures, keys cannot be read, and signers of one's own work all the same.
#![cfg(not(any(feature = "ring", feature = "aws-lc-rs", feature = "rust-crypto")))]

use grantflow::crypto::{Algorithm, Signer, Signing, SigningKey};
use grantflow::google::ServiceAccount;
use grantflow::source::Want;
use grantflow::{Cx, ErrorKind, Machine, Now, Reply, Step, Timestamp};

struct Own;

impl Signer for Own {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
    fn sign(&self, _: &[u8], _: &mut Cx) -> Signing {
        Signing::Done(Ok(b"signature".to_vec()))
    }
}

#[test]
fn keys_need_a_library_and_signers_do_not() {
    let key = include_str!("../../tests/data/google/private_key.b64");
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}-----END PRIVATE KEY-----\n");
    let error = SigningKey::from_pem(Algorithm::RS256, &pem).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("turn on the feature ring"), "{error}");
    let account = ServiceAccount::with_signer("svc@demo.iam.gserviceaccount.com", Own);
    let mut signing = account.assertion(&Want::access_token("a"), Timestamp::default()).unwrap();
    match signing.resume(&mut Cx::new(Now::default(), [7; 32]), Reply::Start) {
        Step::Done(Ok(jwt)) => assert!(jwt.expose().ends_with(".c2lnbmF0dXJl")),
        other => panic!("{other:?}"),
    }
}
