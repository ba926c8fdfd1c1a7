//! Proofs of possession (RFC 9449): each request shows a JWT, signed by a key that its token is bound to.
//!
//! Give a [`DpopKey`] to a [`Client`](crate::Client::dpop): its token requests then carry proofs, its tokens are bound
//! to the key, and [`Token::authorize`](crate::Token::authorize) makes the proof for a request to a resource.
//! [`DpopNonces`] keeps the nonces of servers.

mod nonces;

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Uri};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use nonces::DpopNonces;

use crate::crypto::{Algorithm, Signer, SigningKey};
use crate::jose::{Jwk, SignJwt};
use crate::{Cx, Error, Machine, Reply, Secret, Step};

/// The header of a proof (RFC 9449, section 4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");
/// The header of a nonce (section 8).
const DPOP_NONCE: &str = "dpop-nonce";
/// The longest nonce to take from a server.
const MAX_NONCE: usize = 1024;

/// The key that signs proofs, with the parts of a proof that do not change: encoded once, shared by its clones.
///
/// With a key that is made anew at each start, the grants that were bound to the last one are lost. Keep it:
/// `DpopKeyInStore` makes one for all processes that share a store.
///
/// ```
/// use grantflow::crypto::{Algorithm, SigningKey};
/// use grantflow::{Client, Cx, DpopKey, Error};
///
/// fn client(cx: &mut Cx) -> Result<Client, Error> {
///     let key = SigningKey::generate(Algorithm::ES256, cx)?;
///     Ok(Client::new("native-app").dpop(key.into()))
/// }
/// ```
#[derive(Clone)]
pub struct DpopKey(Arc<Inner>);

struct Inner {
    signer: Arc<dyn Signer>,
    algorithm: Algorithm,
    /// The header in base64url, and the dot behind it.
    header: Box<str>,
    thumbprint: Box<str>,
}

impl DpopKey {
    /// A key that may be remote, with its public part.
    ///
    /// ```
    /// use grantflow::crypto::Signer;
    /// use grantflow::jose::Jwk;
    /// use grantflow::{DpopKey, Error};
    ///
    /// /// With a key in a key service, whose public part is in its console.
    /// fn key(service: impl Signer + 'static, public: &str) -> Result<DpopKey, Error> {
    ///     DpopKey::new(service, &Jwk::from_json(public.as_bytes())?)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the public key is not one for the signer's algorithm.
    pub fn new(signer: impl Signer + 'static, public: &Jwk) -> Result<Self, Error> {
        let algorithm = signer.algorithm();
        if public.ready(algorithm).is_none() {
            return Err(Error::config(format!("the public key of the DPoP key is not one for {algorithm}")));
        }
        Ok(Self::of(Arc::new(signer), public))
    }

    fn of(signer: Arc<dyn Signer>, public: &Jwk) -> Self {
        let algorithm = signer.algorithm();
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"{algorithm}","jwk":{}}}"#, public.required());
        let header = URL_SAFE_NO_PAD.encode(header) + ".";
        let thumbprint = public.thumbprint().into();
        Self(Arc::new(Inner { signer, algorithm, header: header.into(), thumbprint }))
    }

    /// The SHA-256 thumbprint of the public key: `jkt` in a token, `dpop_jkt` in an authorization request (RFC 9449,
    /// sections 6.1 and 10).
    pub fn thumbprint(&self) -> &str {
        &self.0.thumbprint
    }

    /// The algorithm of the proofs.
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }
}

impl From<SigningKey> for DpopKey {
    fn from(key: SigningKey) -> Self {
        let public = Jwk::from(key.verifying_key());
        Self::of(Arc::new(key), &public)
    }
}

impl PartialEq for DpopKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.thumbprint == other.0.thumbprint
    }
}

impl Eq for DpopKey {}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { algorithm, thumbprint, .. } = &*self.0;
        f.debug_struct("DpopKey").field("algorithm", algorithm).field("thumbprint", thumbprint).finish_non_exhaustive()
    }
}

/// What makes the proofs of one key, for one token or for none.
#[derive(Clone)]
pub(crate) struct Proofs {
    key: DpopKey,
    /// Header and claims, as far as they are the same in each proof, in base64url. Behind it more can be encoded.
    prefix: Arc<str>,
}

impl Proofs {
    /// Of a request without an access token.
    pub(crate) fn of_key(key: &DpopKey) -> Self {
        Self { key: key.clone(), prefix: (String::from(&*key.0.header) + &URL_SAFE_NO_PAD.encode("{  ")).into() }
    }

    /// Of requests with this access token (RFC 9449, section 4.2).
    pub(crate) fn of_token(key: &DpopKey, access_token: &str) -> Self {
        let ath = URL_SAFE_NO_PAD.encode(Sha256::digest(access_token));
        // 54 bytes: three at a time become four characters, and none is left over.
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"ath":"{ath}", "#));
        Self { key: key.clone(), prefix: (String::from(&*key.0.header) + &claims).into() }
    }

    pub(crate) fn key(&self) -> &DpopKey {
        &self.key
    }

    /// Begins to sign a proof for one request.
    pub(crate) fn sign(&self, method: &Method, uri: &Uri, nonce: Option<&str>, cx: &mut Cx) -> Result<SignJwt, Error> {
        let mut jti = [0; 22];
        // 16 bytes are always 22 characters.
        let _ = URL_SAFE_NO_PAD.encode_slice(cx.random::<16>("jti")?, &mut jti);
        let mut claims = String::with_capacity(256);
        for part in [r#""jti":""#, str::from_utf8(&jti).unwrap_or_default(), r#"","htm":""#, method.as_str()] {
            claims.push_str(part);
        }
        claims.push_str(r#"","htu":"#);
        push_htu(&mut claims, uri)?;
        claims.push_str(r#","iat":"#);
        let _ = fmt::Write::write_fmt(&mut claims, format_args!("{}", cx.now().wall.as_unix()));
        if let Some(nonce) = nonce {
            // A nonce holds nothing that JSON escapes (section 8.1).
            for part in [r#","nonce":""#, nonce, "\""] {
                claims.push_str(part);
            }
        }
        claims.push('}');
        // Room for the claims, and for a signature of 2048 bits.
        let room = self.prefix.len().saturating_add(claims.len().saturating_mul(4).div_ceil(3)).saturating_add(350);
        let mut jwt = Zeroizing::new(String::with_capacity(room));
        jwt.push_str(&self.prefix);
        URL_SAFE_NO_PAD.encode_string(&claims, &mut jwt);
        Ok(SignJwt::encoded(jwt, self.key.0.signer.clone()))
    }
}

impl fmt::Debug for Proofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proofs").field(&self.key).finish()
    }
}

/// `htu`: the address as it is sent, without query and fragment (RFC 9449, section 4.2), as JSON. Scheme and host are in
/// small letters, and a port that need not be said is left out, since some servers compare texts.
fn push_htu(json: &mut String, uri: &Uri) -> Result<(), Error> {
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(Error::config("a DPoP proof needs the whole address of its request"));
    };
    let begin = json.len();
    json.push('"');
    for part in [scheme, "://", host] {
        json.push_str(part);
    }
    if let Some(part) = json.get_mut(begin..) {
        part.make_ascii_lowercase();
    }
    match (uri.port_u16(), scheme) {
        (None, _) => {}
        (Some(443), scheme) if scheme.eq_ignore_ascii_case("https") => {}
        (Some(80), scheme) if scheme.eq_ignore_ascii_case("http") => {}
        (Some(port), _) => {
            let _ = fmt::Write::write_fmt(json, format_args!(":{port}"));
        }
    }
    match uri.path() {
        "" => json.push('/'),
        path if path.contains(['"', '\\']) || !path.is_ascii() => {
            let escaped = serde_json::Value::from(path).to_string();
            json.push_str(escaped.get(1..escaped.len().saturating_sub(1)).unwrap_or_default());
        }
        path => json.push_str(path),
    }
    json.push('"');
    Ok(())
}

/// The machine that makes the proof for one request: see [`Token::prove`](crate::Token::prove).
///
/// ```text
/// Begin ─▶ (the signer's own machine, if it has one) ─▶ done
/// ```
pub struct Prove(Stage);

enum Stage {
    Begin(Box<(Proofs, Method, Uri, Option<Box<str>>)>),
    Sign(Box<SignJwt>),
    Ended,
}

impl Prove {
    pub(crate) fn new(proofs: &Proofs, method: &Method, uri: &Uri, nonce: Option<&str>) -> Self {
        Self(Stage::Begin(Box::new((proofs.clone(), method.clone(), uri.clone(), nonce.map(Into::into)))))
    }
}

impl Machine for Prove {
    type Output = HeaderValue;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<HeaderValue> {
        let mut sign = match std::mem::replace(&mut self.0, Stage::Ended) {
            Stage::Begin(request) if matches!(reply, Reply::Start) => {
                let (proofs, method, uri, nonce) = *request;
                match proofs.sign(&method, &uri, nonce.as_deref(), cx) {
                    Ok(sign) => Box::new(sign),
                    Err(error) => return Step::Done(Err(error)),
                }
            }
            Stage::Sign(sign) => sign,
            Stage::Begin(_) | Stage::Ended => return Step::Done(Err(Error::misuse("a proof"))),
        };
        match sign.resume(cx, std::mem::take(&mut reply)) {
            Step::Do(effect) => {
                self.0 = Stage::Sign(sign);
                Step::Do(effect)
            }
            Step::Done(proof) => Step::Done(proof.and_then(|proof| header(&proof))),
        }
    }
}

impl fmt::Debug for Prove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prove(..)")
    }
}

/// A proof as a header's value.
pub(crate) fn header(proof: &Secret) -> Result<HeaderValue, Error> {
    let bytes = Bytes::copy_from_slice(proof.expose().as_bytes());
    let mut value = HeaderValue::from_maybe_shared(bytes).map_err(|_| Error::misuse("a proof"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Makes a proof by a key that is here.
pub(crate) fn prove_here(
    proofs: &Proofs,
    method: &Method,
    uri: &Uri,
    nonce: Option<&str>,
    cx: &mut Cx,
) -> Result<HeaderValue, Error> {
    match proofs.sign(method, uri, nonce, cx)?.resume(cx, Reply::Start) {
        Step::Done(proof) => header(&proof?),
        Step::Do(effect) => {
            Err(Error::config(format!("the DPoP key is remote ({}): run Token::prove for its proof", effect.name())))
        }
    }
}

/// The nonce that an answer gives for proofs, if it is one (RFC 9449, section 8.1).
pub(crate) fn nonce_in(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(DPOP_NONCE).iter();
    let nonce = values.next()?.to_str().ok()?;
    let legal = |byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
    let sound = !nonce.is_empty() && nonce.len() <= MAX_NONCE && nonce.bytes().all(legal) && values.next().is_none();
    sound.then_some(nonce)
}
