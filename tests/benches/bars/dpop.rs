//! A request to a resource with a token that is bound to a key: the proof, and the signature by the same library.

use std::time::Duration;

use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::{Client, Cx, DpopKey, Issuer, Machine as _, Now, Reply, ServerMetadata, Step, Token, TokenRequest};
use http::{HeaderMap, Method, Response, Uri};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use crate::harness::Work;

/// How much longer than its signature a proof may take.
pub(crate) const BAR: Duration = Duration::from_micros(2);

fn cx() -> Cx {
    Cx::new(Now::default(), [7; 32])
}

/// A token as it comes from a server.
fn token(client: &Client, kind: &str) -> Token {
    let server = ServerMetadata::new(Issuer::new("https://as.example").unwrap());
    let server = server.token_endpoint("https://as.example/token").unwrap();
    let mut exchange = TokenRequest::refresh_token(&server, client, &"rt".into()).unwrap().exchange();
    let body = format!(r#"{{"access_token":"{}","token_type":"{kind}","expires_in":3600}}"#, "a".repeat(300));
    let Step::Do(_) = exchange.resume(&mut cx(), Reply::Start) else { panic!("it asks for nothing") };
    match exchange.resume(&mut cx(), Reply::Http(Response::new(body.into_bytes()))) {
        Step::Done(token) => token.unwrap(),
        Step::Do(effect) => panic!("{effect:?}"),
    }
}

fn carry(token: Token) -> impl FnMut() -> HeaderMap {
    let (uri, mut cx): (Uri, Cx) = ("https://api.example/orders?page=2".parse().unwrap(), cx());
    move || {
        let mut headers = HeaderMap::with_capacity(2);
        token.authorize(&Method::GET, &uri, &mut headers, None, &mut cx).unwrap();
        headers
    }
}

/// The proof, beside its signature.
pub(crate) fn works() -> Vec<Work<'static>> {
    let key: DpopKey = SigningKey::generate(Algorithm::ES256, &mut cx()).unwrap().into();
    let token = token(&Client::new("app").dpop(key), "DPoP");
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let text = vec![b'x'; 500];
    let sign = move || key.sign(&random, &text).unwrap();
    vec![Work::new("grantflow", carry(token)), Work::new("the signature alone", sign)]
}
