//! Making JWTs (RFC 7515, section 7.1): of claims as JSON, by a [`Signer`].

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::{Signer, Signing};
use crate::machine::ask;
use crate::{Cx, Error, Machine, Reply, Secret, Step};

/// Signs claims again and again with one key: what does not change is encoded once.
#[derive(Clone)]
pub(crate) struct JwtSigner {
    signer: Arc<dyn Signer>,
    /// The header in base64url, and the dot behind it.
    header: Arc<str>,
}

impl JwtSigner {
    /// Signs JWTs of this media type, without `application/` (RFC 7515, section 4.1.9).
    pub(crate) fn new(typ: &'static str, signer: Arc<dyn Signer>) -> Self {
        let mut header = format!(r#"{{"alg":"{}","typ":"{typ}""#, signer.algorithm().name());
        if let Some(key_id) = signer.key_id() {
            header.push_str(",\"kid\":");
            header.push_str(&serde_json::Value::from(key_id).to_string());
        }
        header.push('}');
        let header = URL_SAFE_NO_PAD.encode(header) + ".";
        Self { signer, header: header.into() }
    }

    /// A machine that signs these claims, which are a JSON object.
    pub(crate) fn sign(&self, claims: &str) -> SignJwt {
        // Room for the header, the claims, and a signature of 4096 bits.
        let room = self.header.len().saturating_add(claims.len().saturating_mul(4).div_ceil(3)).saturating_add(700);
        let mut jwt = Zeroizing::new(String::with_capacity(room));
        jwt.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(claims, &mut jwt);
        SignJwt { jwt, stage: Stage::Begin(self.signer.clone()) }
    }

    /// A machine that signs bytes which are no JWT.
    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> SignBytes {
        SignBytes { bytes: bytes.to_vec(), stage: Stage::Begin(self.signer.clone()) }
    }
}

/// Has one JWT signed.
///
/// ```text
/// Begin ─▶ (the signer's own machine, if it has one) ─▶ done
/// ```
pub(crate) struct SignJwt {
    jwt: Zeroizing<String>,
    stage: Stage,
}

enum Stage {
    Begin(Arc<dyn Signer>),
    Remote(Box<dyn Machine<Output = Vec<u8>> + Send>),
    Ended,
}

impl Stage {
    fn resume(&mut self, message: &[u8], cx: &mut Cx, mut reply: Reply) -> Step<Vec<u8>> {
        if let (Self::Begin(signer), Reply::Start) = (&*self, &reply) {
            match signer.sign(message, cx) {
                Signing::Done(signature) => return self.end(signature),
                Signing::Remote(machine) => *self = Self::Remote(machine),
            }
        }
        match self {
            Self::Remote(machine) => {
                let signature = ask!(machine, cx, reply);
                self.end(signature)
            }
            Self::Begin(_) | Self::Ended => {
                *self = Self::Ended;
                Step::Done(Err(Error::misuse("signing")))
            }
        }
    }

    fn end(&mut self, signature: Result<Vec<u8>, Error>) -> Step<Vec<u8>> {
        *self = Self::Ended;
        Step::Done(signature.map_err(Error::signing))
    }
}

impl SignJwt {
    /// Signs a JWT of which header and claims are encoded, with the dot between them.
    pub(crate) fn encoded(jwt: Zeroizing<String>, signer: Arc<dyn Signer>) -> Self {
        Self { jwt, stage: Stage::Begin(signer) }
    }
}

impl Machine for SignJwt {
    type Output = Secret;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Secret> {
        match self.stage.resume(self.jwt.as_bytes(), cx, reply) {
            Step::Do(effect) => Step::Do(effect),
            Step::Done(signature) => Step::Done(signature.map(|mut signature| {
                self.jwt.push('.');
                URL_SAFE_NO_PAD.encode_string(&signature, &mut self.jwt);
                signature.zeroize();
                std::mem::take(&mut *self.jwt).into()
            })),
        }
    }
}

/// Has bytes signed, in the same way.
pub(crate) struct SignBytes {
    bytes: Vec<u8>,
    stage: Stage,
}

impl Machine for SignBytes {
    type Output = Vec<u8>;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Vec<u8>> {
        self.stage.resume(&self.bytes, cx, reply)
    }
}
