//! JSON Web Keys (RFC 7517): public keys as servers publish them, and private ones as programs hold them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::claims::Claims;
use crate::crypto::{Algorithm, Curve, PrivateKey, PublicKey, SigningKey, VerifyingKey};
use crate::{Cx, Error, ErrorKind, Secret};

/// The longest key set to read.
const MAX_SET: usize = 512 * 1024;
/// The most keys of a set that are looked at.
const MAX_KEYS: usize = 100;
/// Members that only private and secret keys have.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A public key with its owner's information about it (RFC 7517, section 4).
#[derive(Clone, PartialEq, Eq)]
pub struct Jwk {
    key: PublicKey,
    algorithm: Option<Algorithm>,
    key_id: Option<Box<str>>,
    issuer: Option<Box<str>>,
    /// Ready to verify, by one of the algorithms that it is for; `None` if no library here has it.
    verifying: Option<VerifyingKey>,
}

impl Jwk {
    /// Reads a public key for signatures: of kind `RSA`, `EC` (P-256, P-384, P-521) or `OKP` (Ed25519).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the text is anything else: it has a member twice, a number in a longer form than need
    /// be, a private key, or a key that is not for signatures.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let members: Claims = serde_json::from_slice(json)
            .map_err(|_| Error::config("the JWK is no JSON object, or has a member twice"))?;
        Self::read(&members).map_err(|why| Error::config(format!("the JWK {why}")))
    }

    fn read(members: &Claims) -> Result<Self, &'static str> {
        if PRIVATE.iter().any(|name| members.get(name).is_some()) {
            return Err("is a private or secret key");
        }
        // What is empty counts as missing.
        let member = |name| members.get(name).filter(|it| !it.is_null() && it.as_str() != Some(""));
        if member("use").is_some_and(|it| it.as_str() != Some("sig")) {
            return Err("is not for signatures (use)");
        }
        if let Some(operations) = member("key_ops") {
            let listed = operations.is_array().then(|| members.list("key_ops")).flatten();
            if !listed.is_some_and(|listed| listed.contains(&"verify")) {
                return Err("is not for verifying (key_ops)");
            }
        }
        let key = public(members)?;
        let algorithm = match member("alg") {
            None => None,
            Some(name) => {
                let named = name.as_str().and_then(Algorithm::from_name).filter(|it| key.fits(*it));
                Some(named.ok_or("is for an algorithm that is not known, or not one of its kind (alg)")?)
            }
        };
        let key_id = match member("kid") {
            None => None,
            Some(Value::String(text)) => Some(text.as_str().into()),
            Some(_) => return Err("has a kid that is no text"),
        };
        let issuer = match member("issuer") {
            None => None,
            Some(Value::String(text)) => Some(text.as_str().into()),
            Some(_) => return Err("has an issuer that is no text"),
        };
        let first = algorithm.or_else(|| Algorithm::ALL.into_iter().find(|it| key.fits(*it)));
        let verifying = first.and_then(|algorithm| VerifyingKey::of(algorithm, key.clone()).ok());
        Ok(Self { key, algorithm, key_id, issuer, verifying })
    }

    /// `kid`, the key's name, if its owner gave it one.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// `issuer`, if the owner says whose tokens the key signs, as Microsoft Entra does of keys that its tenants share:
    /// the name of an issuer, or one with a part in braces for the tenant. It counts where a
    /// [verifier](super::Verifier::id_tokens_of_tenants) accepts the tokens of many tenants.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// `alg`, if the owner says that the key is for this algorithm alone.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// The key, to verify by this algorithm. `None` if the key is not for that algorithm, or if no library that this
    /// crate was built with has the algorithm.
    pub fn verifying_key(&self, algorithm: Algorithm) -> Option<VerifyingKey> {
        self.ready(algorithm)?.by(algorithm)
    }

    /// The same without a clone, ready to verify by the algorithm.
    pub(crate) fn ready(&self, algorithm: Algorithm) -> Option<&VerifyingKey> {
        let meant = self.algorithm.is_none_or(|own| own == algorithm) && self.key.fits(algorithm);
        self.verifying.as_ref().filter(|_| meant)
    }

    /// The key's SHA-256 thumbprint in base64url (RFC 7638). It depends on the key alone, and not on what is said of
    /// it.
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.required()))
    }

    /// The members that it cannot be without, in the order of a thumbprint (RFC 7638, section 3).
    pub(crate) fn required(&self) -> String {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.key {
            PublicKey::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, encode(e), encode(n)),
            PublicKey::Ec { curve, point } => {
                let (x, y) = coordinates(*curve, point);
                format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, curve.name(), encode(x), encode(y))
            }
            PublicKey::Ed25519(point) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(point)),
        }
    }

    /// The key's thumbprint as a URI (RFC 9278).
    pub fn thumbprint_uri(&self) -> String {
        format!("urn:ietf:params:oauth:jwk-thumbprint:sha-256:{}", self.thumbprint())
    }

    /// The key as JSON, with `kid`, `issuer`, `alg` and `use` as far as they are known.
    pub fn to_json(&self) -> String {
        let mut members = Map::new();
        let mut set = |name: &str, value: &str| drop(members.insert(name.to_owned(), value.into()));
        match &self.key {
            PublicKey::Rsa { n, e } => {
                set("kty", "RSA");
                set("n", &URL_SAFE_NO_PAD.encode(n));
                set("e", &URL_SAFE_NO_PAD.encode(e));
            }
            PublicKey::Ec { curve, point } => {
                let (x, y) = coordinates(*curve, point);
                set("kty", "EC");
                set("crv", curve.name());
                set("x", &URL_SAFE_NO_PAD.encode(x));
                set("y", &URL_SAFE_NO_PAD.encode(y));
            }
            PublicKey::Ed25519(point) => {
                set("kty", "OKP");
                set("crv", "Ed25519");
                set("x", &URL_SAFE_NO_PAD.encode(point));
            }
        }
        if let Some(algorithm) = self.algorithm {
            set("alg", algorithm.name());
            set("use", "sig");
        }
        if let Some(key_id) = &self.key_id {
            set("kid", key_id);
        }
        if let Some(issuer) = &self.issuer {
            set("issuer", issuer);
        }
        Value::Object(members).to_string()
    }
}

impl From<&VerifyingKey> for Jwk {
    fn from(key: &VerifyingKey) -> Self {
        let algorithm = Some(key.algorithm());
        Self { key: key.public().clone(), algorithm, key_id: None, issuer: None, verifying: Some(key.clone()) }
    }
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key_id = self.key_id().map(crate::Shown::name);
        f.debug_struct("Jwk").field("algorithm", &self.algorithm).field("key_id", &key_id).finish_non_exhaustive()
    }
}

/// The keys of a server (RFC 7517, section 5): all that are readable public keys for signatures.
#[derive(Clone, Debug, Default)]
pub struct JwkSet {
    keys: Vec<Jwk>,
    left_out: usize,
}

impl JwkSet {
    /// Reads a set of at most 512 KiB, and of it the first 100 keys. Keys of another kind or for another use, private
    /// and secret ones, and those that are wrong in any way are left out: one bad key does not spoil the others.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidResponse`] if the text is no object with an array `keys`.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let wrong = |why: &'static str| Error::new(ErrorKind::InvalidResponse, why);
        if json.len() > MAX_SET {
            return Err(wrong("the key set is larger than 512 KiB"));
        }
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        // An array in the place of the object would be read too, its members in order.
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(wrong("the key set is no JSON object with an array of keys"));
        }
        #[derive(serde::Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let set: Set<'_> =
            serde_json::from_slice(json).map_err(|_| wrong("the key set is no JSON object with an array of keys"))?;
        let all = set.keys.len();
        let read = |key: &RawValue| Jwk::from_json(key.get().as_bytes()).ok();
        let keys: Vec<_> = set.keys.into_iter().take(MAX_KEYS).filter_map(read).collect();
        Ok(Self { left_out: all.saturating_sub(keys.len()), keys })
    }

    /// The keys.
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    /// How many keys were left out.
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

impl FromIterator<Jwk> for JwkSet {
    fn from_iter<I: IntoIterator<Item = Jwk>>(keys: I) -> Self {
        Self { keys: keys.into_iter().collect(), left_out: 0 }
    }
}

impl SigningKey {
    /// A private key from a JWK (RFC 7517; RFC 7518, section 6; RFC 8037, section 2), with its `kid`. An RSA key must
    /// have the numbers of the Chinese remainder theorem (`p`, `q`, `dp`, `dq`, `qi`), as all programs write them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the text is no private key for this algorithm, if its public part belongs to another
    /// key, or if its `alg` is another one.
    pub fn from_jwk(algorithm: Algorithm, jwk: &Secret) -> Result<Self, Error> {
        let wrong = |why: &str| Error::config(format!("the private JWK {why}"));
        let json = serde_json::from_str(jwk.expose());
        let mut members: Claims = json.map_err(|_| wrong("is no JSON object, or has a member twice"))?;
        let made = Self::read_jwk(algorithm, &members).map_err(wrong);
        let own = public(&members);
        members.wipe();
        let (key, key_id) = made?;
        let key = Self::of(algorithm, &key)?;
        // A public part of another key would turn signatures into a way to the private one.
        if own.is_ok_and(|own| own != *key.verifying_key().public()) {
            return Err(wrong("has a public part that belongs to another key"));
        }
        Ok(match key_id {
            Some(key_id) => key.with_key_id(key_id),
            None => key,
        })
    }

    /// As [`from_jwk`](Self::from_jwk), of a JWK that says its algorithm.
    pub(crate) fn from_own_jwk(jwk: &Secret) -> Result<Self, Error> {
        #[derive(serde::Deserialize)]
        struct Named<'a> {
            alg: &'a str,
        }
        let named = serde_json::from_str::<Named<'_>>(jwk.expose()).ok();
        let algorithm = named.and_then(|named| Algorithm::from_name(named.alg));
        Self::from_jwk(algorithm.ok_or_else(|| Error::config("the private JWK does not say its algorithm (alg)"))?, jwk)
    }

    /// A new key as a private JWK, to be kept and [read](Self::from_jwk) again. The randomness is that of
    /// [`generate`](Self::generate).
    ///
    /// ```
    /// use grantflow::crypto::{Algorithm, SigningKey};
    /// use grantflow::{Cx, Error};
    ///
    /// fn keep(cx: &mut Cx) -> Result<SigningKey, Error> {
    ///     let jwk = SigningKey::generate_jwk(Algorithm::ES256, cx)?;
    ///     // Write `jwk` where no other user can read it.
    ///     SigningKey::from_jwk(Algorithm::ES256, &jwk)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`generate`](Self::generate).
    pub fn generate_jwk(algorithm: Algorithm, cx: &mut Cx) -> Result<Secret, Error> {
        let (key, private) = Self::generate_both(algorithm, cx)?;
        let (PrivateKey::Ec { number: d, .. } | PrivateKey::Ed25519(d) | PrivateKey::Rsa(d)) = &private;
        let d = Zeroizing::new(URL_SAFE_NO_PAD.encode(d.as_slice()));
        let public = Jwk::from(key.verifying_key()).required();
        let members = public.strip_prefix('{').unwrap_or_default();
        let begin = format!(r#"{{"alg":"{algorithm}","#);
        let mut text =
            String::with_capacity(begin.len().saturating_add(members.len()).saturating_add(d.len()).saturating_add(6));
        for part in [&*begin, r#""d":""#, &d, "\",", members] {
            text.push_str(part);
        }
        Ok(Secret::from(text))
    }

    fn read_jwk(algorithm: Algorithm, members: &Claims) -> Result<(PrivateKey, Option<String>), &'static str> {
        if members.get("alg").is_some_and(|it| it.as_str().and_then(Algorithm::from_name) != Some(algorithm)) {
            return Err("is for another algorithm (alg)");
        }
        let number = |name| bytes(members, name).map(Zeroizing::new).ok_or("lacks a number, or it is not base64url");
        let key = match public(members)? {
            PublicKey::Rsa { n, e } => {
                let [d, p, q, dp, dq, qi] = ["d", "p", "q", "dp", "dq", "qi"].map(number);
                let (d, p, q, dp, dq, qi) = (d?, p?, q?, dp?, dq?, qi?);
                PrivateKey::rsa([&n, &e, &d, &p, &q, &dp, &dq, &qi])
            }
            PublicKey::Ec { curve, point } => {
                let number = number("d")?;
                let fits = number.len() == curve.width();
                let key = PrivateKey::ec(curve, &number, Some(&point)).filter(|_| fits);
                key.ok_or("has a number that is not as wide as its curve (d)")?
            }
            PublicKey::Ed25519(_) => PrivateKey::Ed25519(number("d")?),
        };
        Ok((key, members.str("kid").map(str::to_owned)))
    }
}

/// The public key among the members.
fn public(members: &Claims) -> Result<PublicKey, &'static str> {
    let number = |name| bytes(members, name).ok_or("lacks a number, or it is not base64url");
    match (members.str("kty"), members.str("crv")) {
        (Some("RSA"), _) => {
            PublicKey::rsa(&number("n")?, &number("e")?).ok_or("is not of 2048 to 8192 bits with an odd exponent")
        }
        (Some("EC"), Some(name)) => {
            let curve = Curve::ALL.into_iter().find(|curve| curve.name() == name);
            let curve = curve.ok_or("is on a curve that is not known (crv)")?;
            let (x, y) = (number("x")?, number("y")?);
            if x.len() != curve.width() || y.len() != curve.width() {
                return Err("has a coordinate that is not as wide as its curve");
            }
            PublicKey::ec(curve, &[&[4], &*x, &*y].concat()).ok_or("has a coordinate that is not as wide as its curve")
        }
        (Some("OKP"), Some("Ed25519")) => PublicKey::ed25519(&number("x")?).ok_or("is not 32 bytes long"),
        _ => Err("is of a kind that is not known (kty, crv)"),
    }
}

fn bytes(members: &Claims, name: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(members.str(name)?).ok()
}

/// The coordinates of a point in uncompressed form.
fn coordinates(curve: Curve, point: &[u8]) -> (&[u8], &[u8]) {
    point.get(1..).and_then(|both| both.split_at_checked(curve.width())).unwrap_or_default()
}
