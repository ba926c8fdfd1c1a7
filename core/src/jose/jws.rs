//! Signed tokens in compact form (RFC 7515, section 7.1): taken apart, and their headers looked at, before any key is.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::claims::Claims;
use super::jwk::{Jwk, JwkSet};
use crate::crypto::{Algorithm, MacKey};
use crate::{Error, ErrorKind};

/// The longest token to read.
const MAX: usize = 64 * 1024;
/// The longest signature, in base64url: one by an RSA key of 8192 bits.
const MAX_SIGNATURE: usize = 1366;
/// The longest name of a key.
const MAX_KEY_ID: usize = 512;

/// The most keys that are tried for one signature, where its header does not say which one it is of.
const MAX_TRIES: usize = 8;

/// What the keys of a set say of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verified {
    Yes,
    /// The key that it names does not vouch for it.
    No,
    /// Its key is not here: the set may be old.
    NoKey,
}

/// A JWS in compact form, taken apart and not verified: its payload is handed out only by the verification. `Debug`
/// shows its header's `alg`.
///
/// Keys come from the caller alone. `jwk`, `jku`, `x5c` and `x5u` of the header are ignored, `kid` is only the name to
/// look a key up by, and `alg` must be one that the caller allows (RFC 8725, section 3.1).
///
/// ```
/// use grantflow::crypto::Algorithm;
/// use grantflow::jose::{JwkSet, Jws};
///
/// # const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
/// # const TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
/// let keys = JwkSet::from_json(KEYS.as_bytes())?;
/// # #[cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "rust-crypto"))]
/// let payload = Jws::read(TOKEN)?.verify(&keys, &[Algorithm::ES256, Algorithm::EdDSA])?;
/// # #[cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "rust-crypto"))]
/// assert_eq!(payload, b"Example of Ed25519 signing");
/// # Ok::<(), grantflow::Error>(())
/// ```
pub struct Jws<'a> {
    header: Claims,
    /// Header and payload as they came, with the dot between them.
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Jws<'a> {
    /// Takes a token of at most 64 KiB apart.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Signature`] if the text is no such token: it has not three parts, is a JWE, its header is no JSON
    /// object or has a member twice, has no `alg`, has `crit`, `b64` or `zip`, since no extension is known here, or has
    /// a `kid` that is no text of at most 512 bytes.
    pub fn read(token: &'a str) -> Result<Self, Error> {
        if token.len() > MAX {
            return Err(invalid("the token is longer than 64 KiB"));
        }
        let mut parts = token.split('.');
        let (header, payload, signature) = match (parts.next(), parts.next(), parts.next(), parts.take(3).count()) {
            (Some(header), Some(payload), Some(signature), 0) => (header, payload, signature),
            (.., 2) => {
                // RFC 7516, section 3.1: a JWE in compact form has five parts.
                let why = "the token is encrypted (JWE), which is not supported: register the client for signed \
                           tokens alone";
                return Err(invalid(why).with_advice(crate::Advice::FixConfiguration));
            }
            _ => return Err(invalid("the token has not the three parts of a JWT")),
        };
        let end = header.len().saturating_add(payload.len()).saturating_add(1);
        let signed = token.get(..end).unwrap_or_default();
        let header = object(header, "the token's header is no JSON object in base64url, or has a member twice")?;
        if ["crit", "b64", "zip"].into_iter().any(|name| header.has(name)) {
            return Err(invalid("the token asks for an extension that is not understood (crit, b64, zip)"));
        }
        if header.has("kid") && header.str("kid").is_none_or(|kid| kid.len() > MAX_KEY_ID) {
            return Err(invalid("the token names its key by something that is no text of at most 512 bytes (kid)"));
        }
        if header.has("typ") && header.str("typ").is_none() {
            return Err(invalid("the token's typ is no text"));
        }
        if header.str("alg").is_none() {
            return Err(invalid("the token names no alg"));
        }
        Ok(Self { header, signed, payload, signature })
    }

    /// `alg`, if it is an algorithm with a public key that is known here.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.header.str("alg").and_then(Algorithm::from_name)
    }

    /// `kid`: a name to look a key up by, and nothing else.
    pub fn key_id(&self) -> Option<&str> {
        self.header.str("kid")
    }

    /// Whether `typ` is this media type, without `application/` (RFC 7515, section 4.1.9).
    pub fn is_of_type(&self, media_type: &str) -> bool {
        self.typ().is_some_and(|typ| typ.eq_ignore_ascii_case(media_type))
    }

    /// `typ`, without the `application/` that may be left out (RFC 7515, section 4.1.9).
    pub(crate) fn typ(&self) -> Option<&str> {
        const PREFIX: &str = "application/";
        let typ = self.header.str("typ")?;
        match typ.split_at_checked(PREFIX.len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) && !rest.contains('/') => Some(rest),
            _ => Some(typ),
        }
    }

    /// Checks the signature by the keys of a set, and returns the payload.
    ///
    /// The key is the one that `kid` names; if several have that name, any of them. Without `kid`, each key that fits
    /// `alg` is tried, at most 8 of them. A key that is for another `alg`, `use` or operation is never used.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Signature`] if `alg` is none of `allowed`, if no key of the set fits, or if the signature is by
    /// none that fits; [`ErrorKind::Config`] if no library that this crate was built with has the algorithm.
    pub fn verify(&self, keys: &JwkSet, allowed: &[Algorithm]) -> Result<Vec<u8>, Error> {
        match self.verify_by(keys, self.allowed(allowed)?, |_| true) {
            Verified::Yes => self.payload(),
            Verified::NoKey => Err(invalid("no key of the set is the one of the token's signature")),
            Verified::No => Err(invalid("the token's signature is wrong")),
        }
    }

    /// Checks the authentication code by a shared secret, and returns the payload.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Signature`] if `alg` is not the secret's own algorithm, or if the code is wrong.
    pub fn verify_mac(&self, key: &MacKey) -> Result<Vec<u8>, Error> {
        if self.header.str("alg") != Some(key.algorithm().name()) {
            return Err(self.refused());
        }
        self.with_signature(|signature| key.verify(self.signed.as_bytes(), signature))
            .filter(|right| *right)
            .ok_or_else(|| invalid("the token's signature is wrong"))?;
        self.payload()
    }

    /// The algorithm, if it is one of these, and a library has it.
    pub(crate) fn allowed(&self, allowed: &[Algorithm]) -> Result<Algorithm, Error> {
        let algorithm = self.algorithm().filter(|algorithm| allowed.contains(algorithm));
        let algorithm = algorithm.ok_or_else(|| self.refused())?;
        algorithm.demand()?;
        Ok(algorithm)
    }

    /// Checks the signature by the key that the header names, or where it names none, by each that it may be of: those
    /// alone that may sign such a token.
    pub(crate) fn verify_by(&self, keys: &JwkSet, algorithm: Algorithm, may: impl Fn(&Jwk) -> bool) -> Verified {
        let named = |key: &&Jwk| self.key_id().is_none_or(|id| key.key_id() == Some(id)) && may(key);
        let keys = keys.keys().iter().filter(named);
        let mut keys = keys.filter_map(|key| key.ready(algorithm)).take(MAX_TRIES).peekable();
        if keys.peek().is_none() {
            return Verified::NoKey;
        }
        let signed = self.signed.as_bytes();
        match self.with_signature(|signature| keys.any(|key| key.verifies(algorithm, signed, signature))) {
            Some(true) => Verified::Yes,
            Some(false) if self.key_id().is_none() => Verified::NoKey,
            Some(false) | None => Verified::No,
        }
    }

    fn refused(&self) -> Error {
        match self.header.str("alg") {
            Some(none) if none.eq_ignore_ascii_case("none") => invalid("the token is not signed (alg none)"),
            _ => invalid("the token is signed by an algorithm that is not allowed here (alg)"),
        }
    }

    /// The decoded signature; `None` if it is none in base64url, or longer than any.
    fn with_signature<T>(&self, run: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let mut room = [0; decoded_len(MAX_SIGNATURE)];
        let text = Some(self.signature).filter(|text| text.len() <= MAX_SIGNATURE)?;
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut room).ok()?;
        room.get(..length).map(run)
    }

    fn payload(&self) -> Result<Vec<u8>, Error> {
        URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| invalid("the token's payload is not base64url"))
    }

    /// The members of the header.
    pub(crate) fn header(&self) -> &Claims {
        &self.header
    }

    /// The claims (RFC 7519, section 4), which nothing vouches for yet.
    pub(crate) fn unverified_claims(&self) -> Result<Claims, Error> {
        object(self.payload, "the token's claims are no JSON object in base64url, or have a member twice")
    }
}

impl fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jws").field("alg", &self.algorithm()).finish_non_exhaustive()
    }
}

/// Takes an ID token apart, whose signature is not checked here.
pub(crate) fn unverified_id_token(jwt: &str) -> Result<(Jws<'_>, Claims), Error> {
    let decode = || Jws::read(jwt).and_then(|jws| jws.unverified_claims().map(|claims| (jws, claims)));
    decode().map_err(|error| error.of_kind(ErrorKind::IdToken))
}

const fn decoded_len(base64: usize) -> usize {
    base64.div_ceil(4).saturating_mul(3)
}

fn object(part: &str, why: &'static str) -> Result<Claims, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid(why))?;
    Claims::parse(bytes).ok_or_else(|| invalid(why))
}

fn invalid(why: &'static str) -> Error {
    Error::new(ErrorKind::Signature, why)
}
