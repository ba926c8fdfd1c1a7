//! An authorization URL with PKCE, `state` and `nonce`, and what has to be remembered of it.

use std::hint::black_box;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::{AuthorizationRequest, Client, Cx, Issuer, Now, ServerMetadata};
use sha2::{Digest, Sha256};
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use crate::harness::Work;

pub(crate) const REDIRECT_URI: &str = "http://127.0.0.1:53682/";
pub(crate) const SCOPES: &str = "openid email profile";

pub(crate) fn works() -> Vec<Work<'static>> {
    let server = ServerMetadata::google();
    let client = Client::new("1234567890-demo.apps.googleusercontent.com");
    let ours = move || {
        let mut cx = Cx::new(Now::default(), [7; 32]);
        grantflow_tests::at_once(
            AuthorizationRequest::new(&server, &client, REDIRECT_URI).scopes(SCOPES).start(),
            &mut cx,
        )
        .unwrap()
    };
    let server = ServerMetadata::google();
    let known = Known {
        endpoint: server.authorization().unwrap().as_str().into(),
        issuer: server.issuer().clone(),
        client_id: "1234567890-demo.apps.googleusercontent.com".into(),
        token_endpoint: server.token().unwrap().as_str().into(),
    };
    assert_eq!(ours().url, floor(&known, [7; 32]).url);
    vec![Work::new("grantflow", ours), Work::new("floor", move || floor(black_box(&known), black_box([7; 32])))]
}

struct Known {
    endpoint: Arc<str>,
    issuer: Issuer,
    client_id: Arc<str>,
    token_endpoint: Arc<str>,
}

#[allow(dead_code, reason = "it is there to be made and dropped")]
struct Made {
    url: String,
    state: Zeroizing<String>,
    nonce: Zeroizing<String>,
    code_verifier: Zeroizing<String>,
    issuer: Issuer,
    client_id: Arc<str>,
    token_endpoint: Arc<str>,
    redirect_uri: Box<str>,
    scopes: Box<str>,
}

/// The same values by the shortest way, and nothing checked.
fn floor(known: &Known, seed: [u8; 32]) -> Made {
    let seed = Zeroizing::new(seed);
    let draw = |nth: u32, label: &str| {
        let hash = Sha256::new().chain_update(*seed).chain_update(nth.to_be_bytes());
        let hash = hash.chain_update([0, label.len() as u8]).chain_update(label);
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(hash.finalize().into());
        Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes))
    };
    let (code_verifier, state, nonce) = (draw(0, "pkce verifier"), draw(1, "state"), draw(2, "nonce"));
    let mut challenge = [0; 43];
    URL_SAFE_NO_PAD.encode_slice(Sha256::digest(&*code_verifier), &mut challenge).unwrap();
    let mut url = String::with_capacity(512);
    url.push_str(&known.endpoint);
    url.push_str("?response_type=code&client_id=");
    url.extend(byte_serialize(known.client_id.as_bytes()));
    url.push_str("&redirect_uri=");
    url.extend(byte_serialize(REDIRECT_URI.as_bytes()));
    url.push_str("&scope=");
    url.extend(byte_serialize(SCOPES.as_bytes()));
    url.push_str("&state=");
    url.push_str(&state);
    url.push_str("&code_challenge=");
    url.push_str(std::str::from_utf8(&challenge).unwrap());
    url.push_str("&code_challenge_method=S256&nonce=");
    url.push_str(&nonce);
    Made {
        url,
        state,
        nonce,
        code_verifier,
        issuer: known.issuer.clone(),
        client_id: known.client_id.clone(),
        token_endpoint: known.token_endpoint.clone(),
        redirect_uri: REDIRECT_URI.into(),
        scopes: SCOPES.into(),
    }
}
