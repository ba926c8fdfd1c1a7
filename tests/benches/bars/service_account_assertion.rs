//! The signed assertion of a service account, beside the RSA-2048 signature in it by the same library.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grantflow::google::ServiceAccount;
use grantflow::source::Want;
use grantflow::{Cx, Machine, Now, Reply, Secret, Step, Timestamp};
use grantflow_tests::google::{private_key, service_account_json};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

use crate::harness::Work;

pub(crate) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

pub(crate) fn works() -> Vec<Work<'static>> {
    let account = ServiceAccount::from_json(service_account_json().to_string()).unwrap();
    let want = Want::access_token(SCOPE);
    let ours = move || -> Secret {
        let now = Now { wall: Timestamp::from_unix(1_795_176_010), ..Now::default() };
        let mut signing = account.assertion(&want, now.wall).unwrap();
        match signing.resume(&mut Cx::new(now, [7; 32]), Reply::Start) {
            Step::Done(assertion) => assertion.unwrap(),
            Step::Do(effect) => panic!("{effect:?}"),
        }
    };
    let assertion = ours();
    let signed = assertion.expose().rsplit_once('.').unwrap().0.to_owned();
    vec![Work::new("grantflow", ours), signature_of(signed.into_bytes())]
}

/// The signature of a text of that size.
pub(crate) fn signature() -> Work<'static> {
    signature_of(vec![b'x'; 512])
}

fn signature_of(signed: Vec<u8>) -> Work<'static> {
    let pem = private_key();
    let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(lines).unwrap();
    let key = RsaKeyPair::from_pkcs8(&der).unwrap();
    Work::new("the signature alone", move || {
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &signed, &mut signature).unwrap();
        signature
    })
}
