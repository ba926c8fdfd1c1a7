//! Verifiers, introspection, and what a protected resource wants.

use std::future::Future;

use grantflow::crypto::MacAlgorithm;
use grantflow::jose::{Claims, JwkSet, KeySet, Verdict, Verifiable};
use grantflow::{Client, ClientAuthentication, Introspection, Issuer, Protection, ServerMetadata, Verifier};
use grantflow_tests::demo::{self, batch};
use grantflow_tests::{IssuerKey, Server, World};
use http::HeaderMap;

use super::{Entry, MARKER, Seen};

fn issuer() -> Issuer {
    Issuer::new("https://as.example").unwrap()
}

fn server() -> ServerMetadata {
    Server::demo().metadata()
}

fn world() -> World {
    World::with(Server::demo().with(|settings| settings.keys = vec![IssuerKey::es256("a")]))
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A verifier, and what it makes of a text, and of a token that is right for nobody.
fn verifier<T: Verifiable>(seen: &mut Seen, verifier: &Verifier<T>, text: &str) {
    seen.debug("a verifier", verifier);
    let mut world = world();
    let forged = IssuerKey::es256("a").sign("JWT", &serde_json::json!({"iss": "x", "aud": text, "sub": text}));
    for token in [text, &forged] {
        let machine = verifier.verify(token);
        seen.debug("a machine", &machine);
        seen.run(&mut world, machine);
    }
}

fn judged<T>(seen: &mut Seen, verdict: Verdict<T>) {
    match verdict {
        Verdict::Done(Ok(_)) => {}
        Verdict::Done(Err(error)) | Verdict::Ask(error) => seen.error(&error),
    }
}

pub(super) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core Verifier::id_tokens",
                "core Verifier::client_id",
                "core Verifier::authorized_party",
                "core Verifier::hosted_domain",
                "core Verifier::entra_id_tokens",
                "core Verifier::google_id_tokens",
                "core Verifier::tenants",
            ],
            try_it: |text, seen| {
                verifier(seen, &Verifier::id_tokens(&issuer(), text), text);
                verifier(seen, &Verifier::id_tokens(&issuer(), "x").client_id(text).authorized_party(text), text);
                verifier(seen, &Verifier::google_id_tokens([text]).hosted_domain(text), text);
                verifier(seen, &Verifier::entra_id_tokens(text).tenants([text]), text);
            },
        },
        Entry {
            names: &[
                "core Verifier::id_tokens_of_tenants",
                "core Verifier::jwks_uri",
                "core Verifier::signed_by_secret",
            ],
            try_it: |text, seen| {
                let made = Verifier::id_tokens_of_tenants(text, text, text);
                seen.result("a verifier", made);
                let template = "https://{tid}.example";
                seen.result("a verifier", Verifier::id_tokens_of_tenants(template, text, text));
                let plain = || Verifier::id_tokens(&issuer(), "x");
                if let Some(made) = seen.result("a verifier", plain().jwks_uri(text)) {
                    verifier(seen, &made, text);
                }
                if let Some(made) =
                    seen.result("a verifier", plain().signed_by_secret(MacAlgorithm::HS256, &text.into()))
                {
                    verifier(seen, &made, text);
                }
            },
        },
        Entry {
            names: &["core Verifier::access_tokens", "core Verifier::access_tokens_of", "core Verifier::audience"],
            try_it: |text, seen| {
                verifier(seen, &Verifier::access_tokens(&issuer(), text).audience(text), text);
                verifier(seen, &Verifier::access_tokens_of(&server(), text).unwrap(), text);
            },
        },
        Entry {
            names: &[
                "core Verifier::verify",
                "core Verifier::verify_with",
                "core Verifier::verify_with_nonce",
                "core Verifier::verify_nonce_with",
            ],
            try_it: |text, seen| {
                let ids = Verifier::id_tokens(&issuer(), "demo");
                let now = World::default().now;
                let keys = KeySet::fixed(JwkSet::default());
                judged(seen, ids.verify_with(text, &keys, now));
                judged(seen, ids.verify_nonce_with(text, &text.into(), &keys, now));
                let mut world = world();
                let token = demo::signed_in(&mut world, "openid").id_token().unwrap().as_secret().expose().to_owned();
                for token in [&token, text] {
                    let machine = ids.verify_with_nonce(token, &text.into());
                    seen.debug("a machine", &machine);
                    seen.run(&mut world, machine);
                }
            },
        },
        Entry {
            names: &["core Introspection::audience", "core Introspection::of"],
            try_it: |text, seen| {
                let introspection = Introspection::new(&server(), &batch()).unwrap().audience(text);
                seen.debug("an introspection", &introspection);
                let secret = Client::new("x").authentication(ClientAuthentication::client_secret_post(text));
                let theirs = Introspection::new(&server(), &secret).unwrap();
                seen.debug("an introspection", &theirs);
                let mut world = world();
                for machine in [introspection.of(text), introspection.of("x"), theirs.of(text)] {
                    seen.debug("a machine", &machine);
                    seen.run(&mut world, machine);
                }
            },
        },
        Entry {
            names: &[
                "core Protection::realm",
                "core Protection::resource_metadata",
                "core Protection::scopes",
                "core Protection::acr_values",
                "core Protection::token",
            ],
            try_it: |text, seen| {
                let protection = Protection::new().realm(text).resource_metadata(text).scopes(text).acr_values([text]);
                seen.debug("a protection", &protection);
                let mut headers = HeaderMap::new();
                if let Ok(value) = format!("Bearer {text}").parse() {
                    headers.insert("authorization", value);
                }
                for headers in [&headers, &HeaderMap::new()] {
                    if let Err(refusal) = protection.token(headers, &"/".parse().unwrap()) {
                        seen.debug("a refusal", &refusal);
                        seen.text("a refusal", &refusal);
                    }
                }
            },
        },
        Entry {
            names: &["core Claims::From<Map<String, Value>>"],
            try_it: |text, seen| {
                let claims: serde_json::Map<_, _> = [("sub".to_owned(), text.into())].into_iter().collect();
                seen.debug("claims", &Claims::from(claims));
            },
        },
        Entry {
            names: &[
                "ureq TokenVerifier::verify",
                "ureq TokenVerifier::verify_until",
                "ureq TokenVerifier::verify_with_nonce",
                "ureq TokenVerifier::verify_with_nonce_until",
            ],
            try_it: |text, seen| {
                let transport = grantflow_ureq::Transport::new().unwrap();
                let keys = Verifier::id_tokens(&issuer(), text).with_keys(JwkSet::default());
                let verifier = grantflow_ureq::TokenVerifier::new(&transport, keys);
                let limit = grantflow_ureq::Limit::new();
                seen.result("a token", verifier.verify(text));
                seen.result("a token", verifier.verify_until(text, &limit));
                seen.result("a token", verifier.verify_with_nonce(text, &text.into()));
                seen.result("a token", verifier.verify_with_nonce_until(text, &text.into(), &limit));
                seen.debug("a verifier", &verifier);
            },
        },
        Entry {
            names: &["reqwest TokenVerifier::verify", "reqwest TokenVerifier::verify_with_nonce"],
            try_it: |text, seen| {
                let transport = grantflow_reqwest::Transport::new().unwrap();
                let keys = Verifier::id_tokens(&issuer(), text).with_keys(JwkSet::default());
                let verifier = grantflow_reqwest::TokenVerifier::new(&transport, keys);
                seen.result("a token", wait(verifier.verify(text)));
                seen.result("a token", wait(verifier.verify_with_nonce(text, &text.into())));
                seen.debug("a verifier", &verifier);
                assert!(!format!("{verifier:?}").contains(MARKER));
            },
        },
    ]
}
