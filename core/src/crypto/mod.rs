//! Signatures: [`Signer`], which may be a key of ours or somebody's far away, and [`SigningKey`], by one of
//! three libraries.
//!
//! | feature | library | RSA-2048 signature | note |
//! |---|---|---|---|
//! | `ring` | [ring](https://docs.rs/ring) | fast | what the adapters turn on; draws randomness of its own |
//! | `aws-lc-rs` | [aws-lc-rs](https://docs.rs/aws-lc-rs) | twice as fast with AVX-512 | its first random byte takes some 20 ms; needs a C compiler |
//! | `rsa` | [rsa](https://docs.rs/rsa) | three times slower | pure Rust, where ring cannot be built; see RUSTSEC-2023-0071: its private-key operations may leak through timing, so blinding is always on, and it is not for keys whose signatures an attacker can time |
//!
//! With several of them, `aws-lc-rs` is used before `ring`, and `ring` before `rsa`.

#[cfg(feature = "aws-lc-rs")]
mod aws_lc_rs;
mod key;
mod pem;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
mod ring;
#[cfg(all(feature = "rsa", not(any(feature = "ring", feature = "aws-lc-rs"))))]
mod rsa;

use std::fmt;
use std::sync::Arc;

use crate::machine::Machine;
use crate::{Cx, Error};

#[cfg(feature = "aws-lc-rs")]
use self::aws_lc_rs::Key;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use self::ring::Key;
#[cfg(all(feature = "rsa", not(any(feature = "ring", feature = "aws-lc-rs"))))]
use self::rsa::Key;

/// What signs: a key that is here, or one in a key store, which may take a round trip.
///
/// A key store is asked by a machine of its own, which whoever needs the signature hands on to the driver, within the
/// time that it has itself. Its errors come as the source of one of kind [`ErrorKind::Signing`](crate::ErrorKind::Signing). Google's Cloud KMS, by a
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
pub trait Signer: Send + Sync {
    /// The algorithm, by its name in JOSE (RFC 7518, section 3.1).
    fn algorithm(&self) -> Algorithm;

    /// The key's `kid`, for the header of what it signs.
    fn key_id(&self) -> Option<&str> {
        None
    }

    /// Signs the message, or gives the machine that has it signed.
    fn sign(&self, message: &[u8], cx: &mut Cx) -> Signing;
}

/// What comes of asking for a signature.
pub enum Signing {
    /// The signature, in the form that JWS wants (RFC 7518, section 3).
    Done(Result<Vec<u8>, Error>),
    /// A machine that yields it.
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

/// A signature algorithm of JOSE (RFC 7518, section 3.1).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
}

impl Algorithm {
    /// Its name, as in a header's `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
        }
    }
}

/// A private key of ours, parsed once and shared by its clones. `Debug` shows its `kid`.
#[derive(Clone)]
pub struct SigningKey {
    #[cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "rsa"))]
    key: Arc<Key>,
    key_id: Option<Arc<str>>,
}

impl SigningKey {
    /// An RSA key for RS256 from PEM, in PKCS#8 or PKCS#1. Line ends that some shell turned into the two
    /// characters `\n` are understood.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config) if it is no such key, or of less than 2048 bits, or this was built without a
    /// library for signatures.
    pub fn rs256_from_pem(pem: &str) -> Result<Self, Error> {
        let der = pem::decode(pem)?;
        #[cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "rsa"))]
        return Ok(Self { key: Arc::new(Key::rs256(&der)?), key_id: None });
        #[cfg(not(any(feature = "ring", feature = "aws-lc-rs", feature = "rsa")))]
        {
            let _ = (&der.bytes, der.form);
            Err(Error::config("this was built without signatures: turn on the feature ring, aws-lc-rs or rsa"))
        }
    }

    /// Sets its `kid`.
    pub fn with_key_id(mut self, key_id: impl Into<Arc<str>>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }
}

impl Signer for SigningKey {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }

    fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    fn sign(&self, message: &[u8], cx: &mut Cx) -> Signing {
        #[cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "rsa"))]
        return Signing::Done(self.key.sign(message, cx));
        #[cfg(not(any(feature = "ring", feature = "aws-lc-rs", feature = "rsa")))]
        {
            let _ = (message, cx);
            Signing::Done(Err(Error::new(crate::ErrorKind::Misuse, "there is no key without a library for signatures")))
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key_id = self.key_id.as_deref().map(crate::Shown::name);
        f.debug_struct("SigningKey").field("key_id", &key_id).finish_non_exhaustive()
    }
}
