//! Making JWTs (RFC 7515, section 7.1): of claims as JSON, by a [`Signer`].

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::{Algorithm, MacKey, Signer, Signing};
use crate::machine::ask;
use crate::{Cx, Error, Machine, Reply, Secret, Step};

/// Signs claims again and again with one key: what does not change is encoded once.
#[derive(Clone)]
pub(crate) struct JwtSigner {
    by: By,
    typ: &'static str,
    /// The header in base64url, and the dot behind it.
    header: Arc<str>,
}

/// What signs.
#[derive(Clone)]
enum By {
    Key(Arc<dyn Signer>),
    Secret(Arc<MacKey>),
}

impl JwtSigner {
    /// Signs JWTs of this media type, without `application/` (RFC 7515, section 4.1.9).
    pub(crate) fn new(typ: &'static str, signer: Arc<dyn Signer>) -> Self {
        let header = header(typ, signer.algorithm().name(), signer.key_id());
        Self { by: By::Key(signer), typ, header: header.into() }
    }

    /// The same by a secret that the server has too (RFC 7518, section 3.2).
    pub(crate) fn by_secret(typ: &'static str, key: MacKey) -> Self {
        let header = header(typ, key.algorithm().name(), None);
        Self { by: By::Secret(Arc::new(key)), typ, header: header.into() }
    }

    /// The algorithm of its key; none of a secret.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        match &self.by {
            By::Key(signer) => Some(signer.algorithm()),
            By::Secret(_) => None,
        }
    }

    /// A machine that signs these claims, which are a JSON object.
    pub(crate) fn sign(&self, claims: &str) -> SignJwt {
        if let By::Key(signer) = &self.by
            && let Some(current) = signer.current()
        {
            return Self::new(self.typ, current).sign_by_it(claims);
        }
        self.sign_by_it(claims)
    }

    fn sign_by_it(&self, claims: &str) -> SignJwt {
        // Room for the header, the claims, and a signature of 4096 bits.
        let room = self.header.len().saturating_add(claims.len().saturating_mul(4).div_ceil(3)).saturating_add(700);
        let mut jwt = Zeroizing::new(String::with_capacity(room));
        jwt.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(claims, &mut jwt);
        SignJwt { jwt, stage: Stage::Begin(self.by.clone()) }
    }

    /// A machine that signs bytes which are no JWT.
    pub(crate) fn sign_bytes(&self, bytes: &[u8]) -> SignBytes {
        let current = match &self.by {
            By::Key(signer) => signer.current().map(By::Key),
            By::Secret(_) => None,
        };
        SignBytes { bytes: bytes.to_vec(), stage: Stage::Begin(current.unwrap_or_else(|| self.by.clone())) }
    }
}

/// A header in base64url, and the dot behind it.
fn header(typ: &str, algorithm: &str, key_id: Option<&str>) -> String {
    let mut header = format!(r#"{{"alg":"{algorithm}","typ":"{typ}""#);
    if let Some(key_id) = key_id {
        header.push_str(",\"kid\":");
        header.push_str(&serde_json::Value::from(key_id).to_string());
    }
    header.push('}');
    URL_SAFE_NO_PAD.encode(header) + "."
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
    Begin(By),
    Remote(Box<dyn Machine<Output = Vec<u8>> + Send>),
    Ended,
}

impl Stage {
    fn resume(&mut self, message: &[u8], cx: &mut Cx, mut reply: Reply) -> Step<Vec<u8>> {
        if let (Self::Begin(by), Reply::Start) = (&*self, &reply) {
            let signing = match by {
                By::Key(signer) => signer.sign(message, cx),
                By::Secret(key) => Signing::Done(Ok(key.sign(message))),
            };
            match signing {
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
        Self { jwt, stage: Stage::Begin(By::Key(signer)) }
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
