//! RS256 by ring.

use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

use super::key::{Der, Form, failed, refused};
use crate::{Cx, Error};

pub(super) struct Key(RsaKeyPair);

impl Key {
    pub(super) fn rs256(der: &Der) -> Result<Self, Error> {
        let pair = match der.form {
            Form::Pkcs8 => RsaKeyPair::from_pkcs8(&der.bytes),
            Form::Pkcs1 => RsaKeyPair::from_der(&der.bytes),
        };
        pair.map(Self).map_err(refused)
    }

    /// ring draws the randomness that blinds the operation itself; the signature does not depend on it.
    pub(super) fn sign(&self, message: &[u8], _: &mut Cx) -> Result<Vec<u8>, Error> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map_err(|_| failed())?;
        Ok(signature)
    }
}
