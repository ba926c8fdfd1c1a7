//! Service accounts that another credential acts for, and signatures by keys that Google keeps.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grantflow::google::{IamSigner, Impersonated, MetadataServer, ServiceAccount, sign_blob};
use grantflow::source::{Credential, TokenSource, Want};
use grantflow::{Advice, Client, ErrorKind, Issuer};
use grantflow_tests::google::{
    ALICE, Account, Local, Metadata, Place, SERVICE_ACCOUNT, authorized_user_json, jwt_parts, service_account_json,
    world,
};
use grantflow_tests::{Fault, World};
use serde_json::{Value, json};

use super::{CLOUD, NOW, STORAGE, account, user, whole, with};

const TARGET: &str = "target@demo-project.iam.gserviceaccount.com";
const MIDDLE: &str = "middle@demo-project.iam.gserviceaccount.com";

/// A world in which the service account may act for the middle one, that one for the target, and Alice for the target.
fn allowing() -> World {
    let mut world = world();
    let known = |email: &str| Account { email: email.into(), ..world_account() };
    let google = world.google.take().unwrap().account(known(TARGET)).account(known(MIDDLE));
    world.google = Some(google);
    let pairs = [(SERVICE_ACCOUNT, MIDDLE), (MIDDLE, TARGET), (ALICE, TARGET)];
    world.google().impersonators = pairs.map(|(who, whom)| (who.to_owned(), whom.to_owned())).into();
    world
}

fn world_account() -> Account {
    world().google().account_mut(SERVICE_ACCOUNT).clone()
}

fn file(source: Value) -> Value {
    json!({
        "type": "impersonated_service_account",
        "service_account_impersonation_url":
            format!("https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken"),
        "delegates": [], "source_credentials": source, "quota_project_id": "demo-project",
    })
}

fn asked(world: &mut World) -> Value {
    serde_json::from_slice(world.google().seen_at(Place::Iam).last().unwrap().request.body()).unwrap()
}

#[test]
fn a_user_acts_for_an_account_as_gcloud_writes_it() {
    let mut world = allowing();
    let source = Impersonated::from_json(file(authorized_user_json()).to_string()).unwrap();
    assert_eq!(
        (source.email(), &source.request_headers()["x-goog-user-project"]),
        (TARGET, &"demo-project".parse().unwrap())
    );
    let token = world.mint(&source, &Want::access_token(STORAGE)).unwrap();
    assert!(token.access_token().starts_with("ya29.c."));
    assert_eq!(token.expires_at(), Some(NOW + Duration::from_secs(3600)));
    assert_eq!(asked(&mut world), json!({"scope": [STORAGE], "lifetime": "3600s"}));
    let seen = world.google().seen_at(Place::Iam)[0].request.clone();
    // The quota project is for the API that the token is for.
    assert!(!seen.headers().contains_key("x-goog-user-project"));
}

#[test]
fn an_impersonated_token_ends_when_iam_says() {
    let mut world = allowing();
    let source = Impersonated::new(user(), TARGET).unwrap().lifetime(Duration::from_secs(1800)).unwrap();
    let end = world.mint(&source, &Want::access_token(STORAGE)).unwrap().expires_at();
    assert_eq!(end, Some(NOW + Duration::from_secs(1800)), "and not with the user's token, which lives for an hour");
}

#[test]
fn delegates_stand_between_in_their_order() {
    let mut world = allowing();
    let source = Impersonated::new(account(), TARGET).unwrap();
    let error = world.mint(&source, &Want::access_token(STORAGE)).unwrap_err();
    assert_eq!((error.status(), error.advice()), (Some(403), Some(Advice::FixConfiguration)));
    assert!(whole(&error).contains("iam.serviceAccounts.generateAccessToken"), "{}", whole(&error));
    for name in [MIDDLE.to_owned(), format!("projects/-/serviceAccounts/{MIDDLE}")] {
        let source = source.clone().delegates([name]).unwrap().lifetime(Duration::from_secs(600)).unwrap();
        assert!(world.mint(&source, &Want::access_token(STORAGE)).is_ok());
        let delegates = json!([format!("projects/-/serviceAccounts/{MIDDLE}")]);
        assert_eq!(asked(&mut world), json!({"scope": [STORAGE], "lifetime": "600s", "delegates": delegates}));
    }
    assert!(source.clone().delegates(["a/b"]).is_err() && source.lifetime(Duration::from_secs(1)).is_err());
}

#[test]
fn an_id_token_is_the_accounts_with_its_address() {
    let mut world = allowing();
    let token =
        world.mint(&Impersonated::new(user(), TARGET).unwrap(), &Want::id_token("https://run.example")).unwrap();
    assert_eq!(asked(&mut world), json!({"audience": "https://run.example", "includeEmail": true}));
    let (_, claims) = jwt_parts(token.access_token());
    assert_eq!((&claims["aud"], &claims["email"]), (&json!("https://run.example"), &json!(TARGET)));
    assert_eq!(token.expires_at().unwrap().as_unix(), claims["exp"].as_i64().unwrap());
}

#[test]
fn a_user_is_acted_for_without_any_key() {
    let mut world = allowing();
    world.google().impersonators.push((ALICE.into(), SERVICE_ACCOUNT.into()));
    let source = Impersonated::new(user(), SERVICE_ACCOUNT).unwrap();
    let token = world.mint(&source, &Want::access_token(STORAGE).subject(ALICE)).unwrap();
    assert_eq!(world.google().acts_for(token.access_token()), Some(ALICE));
    let claims: Value = serde_json::from_str(asked(&mut world)["payload"].as_str().unwrap()).unwrap();
    let iat = NOW.as_unix() - 10;
    assert_eq!(
        claims,
        json!({"iss": SERVICE_ACCOUNT, "sub": ALICE, "scope": STORAGE, "aud": "https://oauth2.googleapis.com/token",
               "iat": iat, "exp": iat + 3600})
    );
    // A domain that does not allow it says nothing of the base's token.
    let error = world.mint(&source, &Want::access_token(CLOUD).subject(ALICE)).unwrap_err();
    assert_eq!(error.advice(), Some(Advice::FixConfiguration));
    assert!(
        error.to_string().contains("administrator") && error.to_string().contains("unauthorized_client"),
        "{error}"
    );
    assert_eq!(world.google().seen_at(Place::Iam).len(), 2, "the base's token was not taken for refused");
}

#[test]
fn a_401_of_iam_drops_the_bases_token_once() {
    let mut world = allowing();
    let source = Impersonated::new(user(), TARGET).unwrap();
    let refusal = || {
        let mut response =
            http::Response::new(br#"{"error":{"code":401,"message":"m","status":"UNAUTHENTICATED"}}"#.to_vec());
        *response.status_mut() = http::StatusCode::UNAUTHORIZED;
        Fault::Answer(response)
    };
    world.google().fail(Place::Iam, refusal());
    assert!(world.mint(&source, &Want::access_token(STORAGE)).is_ok());
    assert_eq!((world.google().seen_at(Place::Token).len(), world.google().seen_at(Place::Iam).len()), (2, 2));
    (0..5).for_each(|_| world.google().fail(Place::Iam, refusal()));
    let error = world.mint(&source, &Want::access_token(STORAGE)).unwrap_err();
    assert_eq!((error.status(), error.advice()), (Some(401), Some(Advice::FixConfiguration)));
    assert_eq!((world.google().seen_at(Place::Token).len(), world.google().seen_at(Place::Iam).len()), (4, 4));
}

#[test]
fn a_file_from_elsewhere_is_taken_only_if_it_leads_to_google() {
    let service = with(file(service_account_json()), &json!({"delegates": [MIDDLE]}));
    assert!(Impersonated::from_json(service.to_string()).is_ok());
    let external = json!({"type": "external_account", "audience": "x", "subject_token_type": "y", "credential_source": {"file": "/x"}});
    for (changes, told) in [
        (
            json!({"service_account_impersonation_url": "https://evil.example/v1/projects/-/serviceAccounts/a:generateAccessToken"}),
            "does not lead to Google",
        ),
        (json!({"service_account_impersonation_url": null}), "`service_account_impersonation_url` is missing"),
        (json!({"source_credentials": null}), "`source_credentials` is missing"),
        (json!({"source_credentials": {"type": "x"}}), "`source_credentials.type` is unknown"),
        (json!({"source_credentials": file(service_account_json())}), "delegates"),
        (json!({"source_credentials": external}), "only a file that you trust"),
        (json!({"delegates": ["a/b"]}), "`delegates`"),
        (json!({"universe_domain": "evil.example"}), "`universe_domain`"),
        (json!({"type": "external_account"}), "impersonated_service_account is needed"),
    ] {
        let error = Impersonated::from_json(with(service.clone(), &changes).to_string()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(whole(&error).contains(told), "{changes}: {}", whole(&error));
    }
    let trusted = with(service, &json!({"source_credentials": external}));
    assert!(Impersonated::from_json_with_any_source(trusted.to_string()).is_ok());
}

#[test]
fn wants_that_iam_does_not_know_are_refused_before_anything_is_asked() {
    let source = Impersonated::new(user(), TARGET).unwrap();
    for want in [
        Want::default(),
        Want::id_token(""),
        Want::access_token(CLOUD).audience("x"),
        Want::access_token(CLOUD).self_signed(),
        Want::id_token("x").subject(ALICE),
        Want::access_token(CLOUD).account("another@example.com"),
        Want::access_token(CLOUD).resource("https://x.example"),
    ] {
        let mut world = allowing();
        let error = world.mint(&source, &want).unwrap_err();
        assert_eq!((error.kind(), world.did().len()), (ErrorKind::Config, 0), "{want:?}: {error}");
    }
}

#[test]
fn what_iam_answers_without_a_token_is_told() {
    for (answer, told) in [
        (json!({"accessToken": "ya29.x"}), "without an expireTime"),
        (json!({"accessToken": "ya29.x", "expireTime": "soon"}), "without an expireTime"),
        (json!({"expireTime": "2026-11-20T13:00:00.5Z"}), "without an accessToken"),
        (json!([]), "no JSON object"),
    ] {
        let mut world = allowing();
        world.google().fail(Place::Iam, Fault::Answer(http::Response::new(answer.to_string().into_bytes())));
        let error = world.mint(&Impersonated::new(user(), TARGET).unwrap(), &Want::access_token(CLOUD)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse);
        assert!(whole(&error).contains(told), "{answer}: {}", whole(&error));
    }
}

#[test]
fn iam_signs_bytes_with_the_key_that_it_keeps() {
    let mut world = allowing();
    world.google().local = Local::Server(Metadata::new(SERVICE_ACCOUNT));
    let token = world.mint(&MetadataServer::new(), &Want::access_token(CLOUD)).unwrap();
    let signature = world.run(sign_blob(SERVICE_ACCOUNT, &token, b"hello").unwrap()).unwrap();
    assert_eq!(asked(&mut world), json!({"payload": STANDARD.encode("hello")}));
    assert_eq!(signature.len(), 256);
    assert!(sign_blob("a/b", &token, b"x").is_err());
    // It is the same as by the key itself.
    assert_eq!(world.run(account().sign_blob(b"hello")).unwrap(), signature);
    // A service account works without its key, also on behalf of users.
    let signer = IamSigner::new(MetadataServer::new(), SERVICE_ACCOUNT).unwrap();
    let keyless = ServiceAccount::with_signer(SERVICE_ACCOUNT, signer);
    let token = world.mint(&keyless, &Want::access_token(STORAGE).subject(ALICE)).unwrap();
    assert_eq!(world.google().acts_for(token.access_token()), Some(ALICE));
    assert_eq!(world.run(keyless.sign_blob(b"hello")).unwrap(), signature);
}

#[test]
fn iam_signs_by_delegates_and_in_another_universe() {
    let mut world = allowing();
    let signer = IamSigner::new(account(), TARGET).unwrap();
    let error = world.run(ServiceAccount::with_signer(TARGET, signer.clone()).sign_blob(b"hello")).unwrap_err();
    assert!(error.kind() == ErrorKind::Signing && whole(&error).contains("signBlob"), "{}", whole(&error));
    let signer = signer.delegates([MIDDLE]).unwrap();
    assert!(world.run(ServiceAccount::with_signer(TARGET, signer.clone()).sign_blob(b"hello")).is_ok());
    let delegates = json!([format!("projects/-/serviceAccounts/{MIDDLE}")]);
    assert_eq!(asked(&mut world), json!({"payload": STANDARD.encode("hello"), "delegates": delegates}));
    assert!(signer.clone().delegates(["a/b"]).is_err() && signer.clone().with_universe_domain("here").is_err());

    // There the key signs access tokens itself, and IAM has the key.
    world.google().local = Local::Server(Metadata::new(SERVICE_ACCOUNT));
    let signer = IamSigner::new(MetadataServer::new(), SERVICE_ACCOUNT).unwrap();
    let signer = signer.with_universe_domain("cloud.example").unwrap();
    let keyless = ServiceAccount::with_signer(SERVICE_ACCOUNT, signer.clone());
    assert!(keyless.clone().with_universe_domain("a/b").is_err());
    let keyless = keyless.with_universe_domain("cloud.example").unwrap();
    let token = world.mint(&MetadataServer::new(), &Want::access_token(CLOUD)).unwrap();
    let signs =
        format!("https://iamcredentials.cloud.example/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}:signBlob");
    for way in 0..2 {
        let result = match way {
            0 => world.mint(&keyless, &Want::access_token(CLOUD)).map(drop),
            _ => world.run(signer.sign_with(&token, b"hello").unwrap()).map(drop),
        };
        // Nobody is there to answer.
        assert!(result.is_err());
        assert_eq!(world.sent().last().unwrap().request.uri(), &*signs);
    }
}

#[test]
fn a_signer_takes_no_source_whose_refresh_token_it_would_lose() {
    let issuer = Issuer::new("https://as.example").unwrap();
    let rotating = Credential::refresh_token(issuer, &Client::new("x"), "r");
    assert!(IamSigner::new(rotating.clone(), SERVICE_ACCOUNT).is_err());
    assert!(IamSigner::new(Impersonated::new(rotating, TARGET).unwrap(), SERVICE_ACCOUNT).is_err());
    assert!(IamSigner::new(user(), SERVICE_ACCOUNT).is_ok());
    assert!(IamSigner::new(Impersonated::new(account(), TARGET).unwrap(), SERVICE_ACCOUNT).is_ok());
}
