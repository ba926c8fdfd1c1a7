//! Keys for ES256: one that is here, and one in a key store that signs for whoever shows its token.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grantflow::crypto::{Algorithm, Signer, Signing};
use grantflow::exchange::{Received, Request};
use grantflow::{Cx, Endpoint, Error, ErrorKind, Secret, Timestamp};
use http::{Method, Response, Uri};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::front::Site;
use crate::google;
use crate::jwt::PublicKey;
use crate::server::{Answer, Wire};

/// The `kid` of the key.
pub const KEY_ID: &str = "es-1";
/// What the key store wants to see.
pub const TOKEN: &str = "kms-t0ken/for-tests";
/// Where it signs.
const PATH: &str = "/v1/keys/es-1:sign";

/// A key for ES256 that is here.
#[derive(Clone)]
pub struct Es256(Arc<EcdsaKeyPair>);

impl Default for Es256 {
    fn default() -> Self {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &google::ec_key(), &SystemRandom::new());
        Self(Arc::new(key.expect("a key")))
    }
}

impl fmt::Debug for Es256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Es256(..)")
    }
}

impl Es256 {
    /// What its signatures are checked with.
    pub fn public(&self) -> PublicKey {
        PublicKey::Es256(self.0.public_key().as_ref().to_vec())
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec()
    }
}

impl Signer for Es256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
    fn key_id(&self) -> Option<&str> {
        Some(KEY_ID)
    }
    fn sign(&self, message: &[u8], _: &mut Cx) -> Signing {
        Signing::Done(Ok(self.signature(message)))
    }
}

/// The same key, one round trip away.
#[derive(Clone, Debug)]
pub struct FarKey(Endpoint);

impl FarKey {
    /// In the key store at this origin.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn at(origin: &str) -> Self {
        Self(Endpoint::new(&format!("{origin}{PATH}")).expect("an address"))
    }
}

impl Default for FarKey {
    fn default() -> Self {
        Self::at("https://kms.example")
    }
}

impl Signer for FarKey {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
    fn key_id(&self) -> Option<&str> {
        Some(KEY_ID)
    }
    fn sign(&self, message: &[u8], _: &mut Cx) -> Signing {
        let request = Request::post("asking the key store for a signature", &self.0)
            .repeat(grantflow::machine::Repeat::Freely)
            .secret_header("x-kms-token", &Secret::from(TOKEN))
            .json(&json!({"message": STANDARD.encode(message)}));
        Signing::Remote(Box::new(request.exchange(signature)))
    }
}

fn signature(received: Received<'_>) -> Result<Vec<u8>, Error> {
    let answer: Value = serde_json::from_slice(received.response.body()).unwrap_or_default();
    let signature = answer["signature"].as_str().and_then(|text| STANDARD.decode(text).ok());
    signature.ok_or_else(|| Error::new(ErrorKind::InvalidResponse, "the key store answers without a signature"))
}

/// The key store, a pure function but for the signature, which is another each time.
#[derive(Debug, Default)]
pub struct Kms {
    key: Es256,
    /// What it answers next, in place of a signature.
    pub faults: Vec<Response<Vec<u8>>>,
    /// How often it was asked.
    pub asked: usize,
}

impl Kms {
    pub(crate) fn serves(&self, uri: &Uri) -> bool {
        uri.host() == Some("kms.example")
    }

    fn handle(&mut self, request: &http::Request<Vec<u8>>) -> Response<Vec<u8>> {
        self.asked += 1;
        if !self.faults.is_empty() {
            return self.faults.remove(0);
        }
        let said = |status, body: &Value| {
            let response = Response::builder().status(status).header("content-type", "application/json");
            response.body(body.to_string().into_bytes()).expect("an answer")
        };
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let message = body["message"].as_str().and_then(|text| STANDARD.decode(text).ok());
        let headers = request.headers();
        match message {
            _ if headers.get("x-kms-token").is_none_or(|token| token != TOKEN) => {
                said(403, &json!({"error": "permission_denied"}))
            }
            Some(message)
                if request.method() == Method::POST
                    && request.uri().path() == PATH
                    && headers.get("content-type").is_some_and(|kind| kind == "application/json") =>
            {
                said(200, &json!({"signature": STANDARD.encode(self.key.signature(&message))}))
            }
            _ => said(400, &json!({"error": "bad_request"})),
        }
    }
}

impl Site for Kms {
    fn answer(&mut self, _: Timestamp, request: &http::Request<Vec<u8>>) -> Answer {
        Answer { delay: std::time::Duration::ZERO, wire: Wire::Whole(self.handle(request)) }
    }
    fn move_to(&mut self, _: &str) {}
}
