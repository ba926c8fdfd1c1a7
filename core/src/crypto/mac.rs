//! Message authentication by a shared secret: HMAC with SHA-2 (RFC 7518, section 3.2).

use std::fmt;

use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::Error;

/// An algorithm of JOSE with a shared secret (RFC 7518, section 3.2). A token's header never chooses a value of this
/// type.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MacAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

impl MacAlgorithm {
    /// The algorithm's name, as in a header's `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
        }
    }

    /// The fewest bytes that a secret for this algorithm may have: as many as the hash has (RFC 7518, section 3.2).
    pub fn shortest_secret(self) -> usize {
        match self {
            Self::HS256 => 32,
            Self::HS384 => 48,
            Self::HS512 => 64,
        }
    }
}

/// A secret that is shared with a server, for one algorithm. It is wiped on drop; `Debug` shows the algorithm.
///
/// ```
/// use grantflow::crypto::{MacAlgorithm, MacKey};
///
/// let key = MacKey::new(MacAlgorithm::HS256, b"a secret of 32 bytes or more ...")?;
/// let code = key.sign(b"a message");
/// assert!(key.verify(b"a message", &code) && !key.verify(b"another one", &code));
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct MacKey {
    algorithm: MacAlgorithm,
    secret: Zeroizing<Vec<u8>>,
}

impl MacKey {
    /// A key of these bytes, such as those of a `client_secret`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the secret has fewer bytes than the algorithm demands, or is
    /// a key in PEM or a JWK, which is no shared secret.
    pub fn new(algorithm: MacAlgorithm, secret: &[u8]) -> Result<Self, Error> {
        let least = algorithm.shortest_secret();
        if secret.len() < least {
            let name = algorithm.name();
            return Err(Error::config(format!("a secret for {name} has {least} bytes at the least (RFC 7518, 3.2)")));
        }
        // The mistake behind tokens that anyone can sign who has the public key.
        let holds = |part: &[u8]| secret.windows(part.len()).any(|window| window == part);
        if holds(b"-----BEGIN ") || (secret.trim_ascii_start().starts_with(b"{") && holds(b"\"kty\"")) {
            return Err(Error::config("a key in PEM or a JWK is no shared secret"));
        }
        Ok(Self { algorithm, secret: Zeroizing::new(secret.to_vec()) })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> MacAlgorithm {
        self.algorithm
    }

    /// The authentication code of a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self.algorithm {
            MacAlgorithm::HS256 => hmac::<Sha256, 64>(&self.secret, message),
            MacAlgorithm::HS384 => hmac::<Sha384, 128>(&self.secret, message),
            MacAlgorithm::HS512 => hmac::<Sha512, 128>(&self.secret, message),
        }
    }

    /// Whether this is the authentication code of the message; it is compared in constant time.
    pub fn verify(&self, message: &[u8], code: &[u8]) -> bool {
        Zeroizing::new(self.sign(message)).ct_eq(code).into()
    }
}

/// HMAC with SHA-256, of a secret of any length, for what is not of JOSE.
pub(crate) fn hmac_sha256(secret: &[u8], message: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(hmac::<Sha256, 64>(secret, message))
}

/// HMAC (RFC 2104, section 2), of a hash function whose blocks have so many bytes. A crate for it would be three.
pub(super) fn hmac<D: Digest, const BLOCK: usize>(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let mut key = Zeroizing::new([0; BLOCK]);
    let hashed = Zeroizing::new(if secret.len() > BLOCK { D::digest(secret).to_vec() } else { Vec::new() });
    let secret = if hashed.is_empty() { secret } else { &hashed };
    key.iter_mut().zip(secret).for_each(|(byte, secret)| *byte = *secret);
    let padded = |pad: u8| {
        let mut block = Zeroizing::new([0; BLOCK]);
        block.iter_mut().zip(key.iter()).for_each(|(byte, key)| *byte = key ^ pad);
        D::new().chain_update(*block)
    };
    let inner = padded(0x36).chain_update(message).finalize();
    padded(0x5c).chain_update(inner).finalize().to_vec()
}

/// Bytes as lower-case hexadecimal digits, which names and signatures are made of.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit =
        |value: u8| char::from(if value < 10 { value.saturating_add(b'0') } else { value.saturating_add(b'a' - 10) });
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MacKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
