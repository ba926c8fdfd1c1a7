//! A Google with one of everything, and the files that go with it. The key is for tests only.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use grantflow::source::{TokenSource, Want};
use grantflow::{Error, Scopes, Timestamp, Token};
use serde_json::{Value, json};

use super::{Account, Google, OAuthClient, User};
use crate::World;

/// The service account's address.
pub const SERVICE_ACCOUNT: &str = "svc-demo@demo-project.iam.gserviceaccount.com";
/// The id of its key.
pub const KEY_ID: &str = "3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a";
/// A user.
pub const ALICE: &str = "alice@example.com";
/// The client that Alice signed in to.
pub const CLIENT_ID: &str = "1234567890-demo.apps.googleusercontent.com";
/// Its secret.
pub const CLIENT_SECRET: &str = "GOCSPX-demo_secret";
/// Alice's refresh token.
pub const REFRESH_TOKEN: &str = "1//0gDemoRefresh/Token-x_y";
/// The proof that Alice has signed in again, where that was asked of her.
pub const RAPT: &str = "AEjHL4DemoRapt_x-y";
/// An API key.
pub const API_KEY: &str = "AIzaSyDemo-key_0123456789";
/// What Alice granted.
pub const GRANTED: &str = "openid https://www.googleapis.com/auth/userinfo.email \
                           https://www.googleapis.com/auth/cloud-platform";

fn base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text.split_whitespace().collect::<String>()).expect("base64")
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The service account's private key, in PKCS#8 without PEM.
pub fn private_key_der() -> Vec<u8> {
    base64(include_str!("../../data/google/private_key.b64"))
}

/// The service account's private key, in PKCS#8 as Google writes it.
pub fn private_key() -> String {
    pem("PRIVATE KEY", &base64(include_str!("../../data/google/private_key.b64")))
}

/// The same key in PKCS#1: what PKCS#8 wraps, behind 26 bytes.
pub fn private_key_pkcs1() -> String {
    pem("RSA PRIVATE KEY", &base64(include_str!("../../data/google/private_key.b64"))[26..])
}

/// [`another_private_key`] in DER.
pub fn another_private_key_der() -> Vec<u8> {
    base64(include_str!("../../data/google/another_private_key.b64"))
}

/// Another key, which Google does not know.
pub fn another_private_key() -> String {
    pem("PRIVATE KEY", &base64(include_str!("../../data/google/another_private_key.b64")))
}

/// Keys that are not good enough: RSA of 1024 bits, and one for ES256.
pub fn bad_private_keys() -> [String; 2] {
    [pem("PRIVATE KEY", &base64(include_str!("../../data/google/short_private_key.b64"))), ec_private_key()]
}

/// A private key for ES256, in PKCS#8.
pub fn ec_private_key() -> String {
    pem("PRIVATE KEY", &ec_key())
}

/// The same without PEM.
pub fn ec_key() -> Vec<u8> {
    base64(include_str!("../../data/google/ec_private_key.b64"))
}

/// The public key of the service account, in PKCS#1.
pub fn public_key() -> Vec<u8> {
    base64(include_str!("../../data/google/public_key.b64"))
}

/// What the key of the service account makes of these bytes: RSASSA-PKCS1-v1_5 with SHA-256.
pub(super) fn rs256(bytes: &[u8]) -> Vec<u8> {
    let der = base64(include_str!("../../data/google/private_key.b64"));
    let key = ring::rsa::KeyPair::from_pkcs8(&der).expect("a key");
    let mut signature = vec![0; key.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    key.sign(&ring::signature::RSA_PKCS1_SHA256, &random, bytes, &mut signature).expect("a signature");
    signature
}

/// A JWT with these claims, by that key.
pub(super) fn signed_by_google(claims: &str) -> String {
    let header = json!({"alg": "RS256", "kid": KEY_ID, "typ": "JWT"}).to_string();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(rs256(signed.as_bytes())))
}

/// The service account's key file, to be changed.
pub fn service_account_json() -> Value {
    json!({
        "type": "service_account",
        "project_id": "demo-project",
        "private_key_id": KEY_ID,
        "private_key": private_key(),
        "client_email": SERVICE_ACCOUNT,
        "client_id": "112233445566778899001",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "client_x509_cert_url":
            "https://www.googleapis.com/robot/v1/metadata/x509/svc-demo%40demo-project.iam.gserviceaccount.com",
        "universe_domain": "googleapis.com",
    })
}

/// The key file of a service account of Google Distributed Cloud, to be changed.
pub fn gdch_json() -> Value {
    json!({
        "type": "gdch_service_account", "format_version": "1", "project": "demo-gdch", "private_key_id": "1a2b3c",
        "private_key": bad_private_keys()[1], "name": "svc-name", "ca_cert_path": "/etc/ssl/gdch-ca.pem",
        "token_uri": "https://service-identity.demo.example/authenticate",
    })
}

/// What `gcloud auth application-default login` writes, to be changed.
pub fn authorized_user_json() -> Value {
    json!({
        "type": "authorized_user",
        "account": "",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "refresh_token": REFRESH_TOKEN,
        "quota_project_id": "demo-project",
        "universe_domain": "googleapis.com",
    })
}

impl Google {
    /// A Google that knows the service account, Alice, her client and what she granted.
    pub fn demo() -> Self {
        let mut google = Self::new()
            .account(Account {
                email: SERVICE_ACCOUNT.into(),
                number: "112233445566778899001".into(),
                keys: vec![(KEY_ID.into(), public_key())],
                delegated: Scopes::from("https://www.googleapis.com/auth/devstorage.read_only"),
                known_from: Timestamp::default(),
            })
            .user(User::new(ALICE, "110000000000000000001"))
            .client(OAuthClient::new(CLIENT_ID, Some(CLIENT_SECRET), "1234567890"))
            .grant(REFRESH_TOKEN, CLIENT_ID, ALICE, GRANTED);
        google.scopes = Scopes::from([
            GRANTED,
            "https://www.googleapis.com/auth/userinfo.profile",
            "https://www.googleapis.com/auth/devstorage.read_only",
            "https://www.googleapis.com/auth/generative-language.retriever",
            "https://mail.google.com/",
        ]);
        google.projects = vec!["demo-project".into()];
        google
    }
}

/// A world with that Google in it.
pub fn world() -> World {
    let mut world = World::default();
    world.google = Some(Google::demo());
    world
}

impl World {
    /// The Google that is in it.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn google(&mut self) -> &mut Google {
        self.google.as_mut().expect("a world with Google")
    }

    /// Mints one token of a source that was never used before.
    pub fn mint(&mut self, source: &dyn TokenSource, want: &Want) -> Result<Token, Error> {
        self.run(source.mint(want, &source.first_state()))
    }
}

/// Header and claims of a JWT.
///
/// # Panics
///
/// If it is none.
pub fn jwt_parts(jwt: &str) -> (Value, Value) {
    let mut parts = jwt.split('.').take(2).map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url"));
    let mut object = || serde_json::from_slice(&parts.next().expect("a part")).expect("JSON");
    (object(), object())
}
