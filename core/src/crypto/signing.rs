//! Signing, by a key that is here or by a remote one.

use std::fmt;
use std::sync::Arc;

use super::algorithm::Algorithm;
use super::backend::{self, Key};
use super::keys::PrivateKey;
use super::verifying::VerifyingKey;
use crate::machine::Machine;
use crate::{Cx, Error, ErrorKind};

/// A signer: a key that is here, or one in a key store, which may take a round trip.
///
/// A signer with a remote key gives a machine that asks for the signature. The machine that needs it hands that on to
/// its driver, within its own time. An error of the signer is the source of an error of kind
/// [`ErrorKind::Signing`](crate::ErrorKind::Signing). Here Google's Cloud KMS signs, by a token for its API:
/// token for its API:
///
/// ```
/// use base64::Engine as _;
/// use base64::engine::general_purpose::STANDARD;
/// use grantflow::crypto::{Algorithm, Signer, Signing};
/// use grantflow::exchange::{Received, Request};
/// use grantflow::machine::Repeat;
/// use grantflow::{Client, ClientAuthentication, Cx, Endpoint, Error, ErrorKind, Token};
/// use serde_json::{Value, json};
///
/// struct CloudKms {
///     sign: Endpoint,
///     token: Token,
/// }
///
/// impl Signer for CloudKms {
///     fn algorithm(&self) -> Algorithm {
///         Algorithm::RS256
///     }
///     fn key_id(&self) -> Option<&str> {
///         Some("signer/1")
///     }
///     fn sign(&self, message: &[u8], _: &mut Cx) -> Signing {
///         let request = Request::post("asking Cloud KMS for a signature", &self.sign)
///             .repeat(Repeat::Freely)
///             .json(&json!({"data": STANDARD.encode(message)}))
///             .bearer(&self.token);
///         match request {
///             Ok(request) => Signing::Remote(Box::new(request.exchange(read))),
///             Err(error) => Signing::Done(Err(error)),
///         }
///     }
/// }
///
/// /// A signature in the form of JWS. One for ES256 would come in DER, and has to be turned into it (RFC 7518, section 3.4).
/// fn read(received: Received<'_>) -> Result<Vec<u8>, Error> {
///     let answer: Value = serde_json::from_slice(received.response.body()).unwrap_or_default();
///     let signature = answer["signature"].as_str().and_then(|text| STANDARD.decode(text).ok());
///     signature.ok_or_else(|| Error::new(ErrorKind::InvalidResponse, "Cloud KMS answers without a signature"))
/// }
///
/// # let now = grantflow::Timestamp::default();
/// # let token = Token::bearer("ya29.demo", now, None)?;
/// const VERSION: &str = "projects/demo/locations/global/keyRings/a/cryptoKeys/signer/cryptoKeyVersions/1";
/// let sign = Endpoint::new(&format!("https://cloudkms.googleapis.com/v1/{VERSION}:asymmetricSign"))?;
/// let key = CloudKms { sign, token };
/// let client = Client::new("web-app").authentication(ClientAuthentication::private_key_jwt(key));
/// # use grantflow::{Effect, Issuer, Machine, Reply, ServerMetadata, Step, TokenRequest};
/// # let server = ServerMetadata::new(Issuer::new("https://as.example")?).token_endpoint("https://as.example/token")?;
/// # let mut exchange = TokenRequest::client_credentials(&server, &client)?.exchange();
/// # let cx = || Cx::new(Default::default(), [7; 32]);
/// # let Step::Do(Effect::Http(call)) = exchange.resume(&mut cx(), Reply::Start) else { panic!("no request") };
/// # assert!(format!("{call:?}").contains("asymmetricSign"));
/// # let answer = http::Response::new(br#"{"signature": "c2ln"}"#.to_vec());
/// # let Step::Do(Effect::Http(call)) = exchange.resume(&mut cx(), Reply::Http(answer)) else { panic!("no request") };
/// # let sent = String::from_utf8(call.open(grantflow::machine::Rules::V1).expect("plain").request.body().clone());
/// # assert!(sent.is_ok_and(|body| body.contains("&client_assertion=eyJ") && body.ends_with(".c2ln")));
/// # Ok::<(), Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no signer",
    note = "a key in PEM becomes one by `SigningKey::from_pem(algorithm, pem)`, a private JWK by `SigningKey::from_jwk`",
    note = "a key that Google keeps is an `IamSigner`; for another key service implement `Signer`"
)]
pub trait Signer: Send + Sync {
    /// The algorithm of the signatures (RFC 7518, section 3.1).
    fn algorithm(&self) -> Algorithm;

    /// The key's `kid`, for the header of signed texts.
    fn key_id(&self) -> Option<&str> {
        None
    }

    /// The signer to use at this moment, where keys are rotated while they are in use. It is asked once for each JWT,
    /// and its own `current` is not asked. `None`, the default, means this signer itself.
    ///
    /// ```
    /// use std::sync::{Arc, RwLock};
    ///
    /// use grantflow::Cx;
    /// use grantflow::crypto::{Algorithm, Signer, Signing};
    ///
    /// /// A key that another thread replaces, with its `kid`.
    /// struct Rotating(Arc<RwLock<Arc<dyn Signer>>>);
    ///
    /// impl Rotating {
    ///     fn newest(&self) -> Arc<dyn Signer> {
    ///         self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    ///     }
    /// }
    ///
    /// impl Signer for Rotating {
    ///     fn algorithm(&self) -> Algorithm {
    ///         self.newest().algorithm()
    ///     }
    ///     fn current(&self) -> Option<Arc<dyn Signer>> {
    ///         Some(self.newest())
    ///     }
    ///     fn sign(&self, message: &[u8], cx: &mut Cx) -> Signing {
    ///         self.newest().sign(message, cx)
    ///     }
    /// }
    /// ```
    fn current(&self) -> Option<Arc<dyn Signer>> {
        None
    }

    /// Signs the message, or gives a machine that has it signed.
    fn sign(&self, message: &[u8], cx: &mut Cx) -> Signing;
}

/// The result of asking for a signature.
pub enum Signing {
    /// The signature, in the form of JWS (RFC 7518, section 3).
    Done(Result<Vec<u8>, Error>),
    /// A machine that yields the signature.
    Remote(Box<dyn Machine<Output = Vec<u8>> + Send>),
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done(_) => "Signing::Done(..)",
            Self::Remote(_) => "Signing::Remote(..)",
        })
    }
}

/// A private key for one algorithm, parsed once and shared by its clones. `Debug` shows its algorithm and its `kid`.
#[derive(Clone)]
pub struct SigningKey {
    key: Arc<Key>,
    algorithm: Algorithm,
    public: VerifyingKey,
    key_id: Option<Arc<str>>,
}

impl SigningKey {
    /// A key from PEM, unencrypted: PKCS#8, PKCS#1 for RSA, SEC1 for elliptic curves. Line ends that a shell turned
    /// into the two characters `\n` are understood.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the text holds no private key, one of another kind than the algorithm needs, or an RSA
    /// key of less than 2048 or more than 8192 bits; also if no library that this crate was built with has the
    /// algorithm.
    pub fn from_pem(algorithm: Algorithm, pem: &str) -> Result<Self, Error> {
        Self::of(algorithm, &PrivateKey::from_pem(pem)?)
    }

    /// The key of a PEM text for each algorithm that fits it: RS256, PS256 and so on for RSA, one algorithm for any
    /// other.
    ///
    /// # Errors
    ///
    /// Those of [`from_pem`](Self::from_pem).
    pub fn each_from_pem(pem: &str) -> Result<Vec<Self>, Error> {
        let private = PrivateKey::from_pem(pem)?;
        let fits = |algorithm: &Algorithm| private.fits(*algorithm);
        Algorithm::ALL.into_iter().filter(fits).map(|algorithm| Self::of(algorithm, &private)).collect()
    }

    /// A new key. The randomness is that of `cx` with the feature `rust-crypto`; the other libraries draw their own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] for RSA, whose keys are made elsewhere, and if no library that this crate was built with
    /// has the algorithm; [`ErrorKind::Entropy`] if there is no randomness.
    pub fn generate(algorithm: Algorithm, cx: &mut Cx) -> Result<Self, Error> {
        Self::of(algorithm, &backend::generate(algorithm, cx)?)
    }

    /// The same, and its private part.
    pub(crate) fn generate_both(algorithm: Algorithm, cx: &mut Cx) -> Result<(Self, PrivateKey), Error> {
        let private = backend::generate(algorithm, cx)?;
        Ok((Self::of(algorithm, &private)?, private))
    }

    pub(crate) fn of(algorithm: Algorithm, key: &PrivateKey) -> Result<Self, Error> {
        if !key.fits(algorithm) {
            let kind = key.kind();
            return Err(Error::config(format!("the private key is {kind}, and not one for {}", algorithm.name())));
        }
        let unusable = || Error::config("the private key is not one of 2048 to 8192 bits, or is damaged");
        let public = match key {
            PrivateKey::Rsa(der) => Some(PrivateKey::rsa_public(der).ok_or_else(unusable)?),
            PrivateKey::Ec { .. } | PrivateKey::Ed25519(_) => None,
        };
        let key = Key::new(algorithm, key)?;
        let public = public.or_else(|| key.public()).ok_or_else(unusable)?;
        let public = VerifyingKey::of(algorithm, public)?;
        Ok(Self { key: Arc::new(key), algorithm, public, key_id: None })
    }

    /// Sets the key's `kid`.
    pub fn with_key_id(mut self, key_id: impl Into<Arc<str>>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// The public key of this private key.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }
}

impl Signer for SigningKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    fn sign(&self, message: &[u8], cx: &mut Cx) -> Signing {
        let signature = self.key.sign(message, cx);
        // The libraries do not say whether it was for want of randomness.
        Signing::Done(signature.ok_or_else(|| match cx.random::<1>("signature") {
            Err(error) => error,
            Ok(_) => Error::new(ErrorKind::Config, "signing with the private key failed"),
        }))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key_id = self.key_id.as_deref().map(crate::Shown::name);
        let mut shown = f.debug_struct("SigningKey");
        shown.field("algorithm", &self.algorithm).field("key_id", &key_id).finish_non_exhaustive()
    }
}
