//! Both bridges at a pretend Google, over real sockets.

use std::sync::Arc;

use ::google_cloud_auth::credentials::{CacheableResource, EntityTag};
use ::object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use ::object_store::{ClientOptions, ObjectStoreExt};
use grantflow_bridges::{google_cloud_auth, object_store};
use grantflow_reqwest::grantflow::google::{ServiceAccount, scopes};
use grantflow_reqwest::grantflow::source::Want;
use grantflow_reqwest::{TokenManager, Transport};
use grantflow_tests::google::{Place, SERVICE_ACCOUNT, service_account_json};
use grantflow_tests::{Front, Google};
use http::Extensions;

fn google() -> Front<Google> {
    Front::start(Google::demo()).unwrap()
}

fn manager(google: &Front<Google>) -> TokenManager {
    let mut key = service_account_json();
    key["token_uri"] = google.server().address(Place::Token).into();
    key["quota_project_id"] = "demo-project".into();
    let account = ServiceAccount::from_json_with_any_server(key.to_string()).unwrap();
    TokenManager::new(&Transport::new().unwrap(), account, Want::access_token(scopes::CLOUD_PLATFORM))
}

/// Cloud Storage, by the transport of `object_store`.
fn bucket_of(google: &Front<Google>) -> GoogleCloudStorage {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bucket = GoogleCloudStorageBuilder::new().with_bucket_name("bucket");
    let bucket = bucket.with_base_url(&format!("http://{}", google.address()));
    let bucket = bucket.with_client_options(ClientOptions::new().with_allow_http(true));
    bucket.with_credentials(Arc::new(object_store::Managed(manager(google)))).build().unwrap()
}

#[tokio::test]
async fn google_cloud_auth_gets_headers_and_learns_what_is_new() {
    let google = google();
    let tokens = manager(&google);
    let credentials = google_cloud_auth::Managed::credentials(tokens.clone());
    let headers = async |known: Option<&EntityTag>| {
        let mut extensions = Extensions::new();
        if let Some(tag) = known {
            extensions.insert(tag.clone());
        }
        credentials.headers(extensions).await.unwrap()
    };
    let CacheableResource::New { entity_tag, data } = headers(None).await else { panic!("nothing is known yet") };
    let token = tokens.token().await.unwrap();
    assert_eq!(data["authorization"], format!("Bearer {}", token.access_token()));
    assert_eq!(data["x-goog-user-project"], "demo-project");
    assert_eq!(headers(Some(&entity_tag)).await, CacheableResource::NotModified);
    // Whoever knows none gets all of it under the same tag.
    assert_eq!(headers(None).await, CacheableResource::New { entity_tag: entity_tag.clone(), data: data.clone() });
    tokens.force_refresh().await.unwrap();
    let CacheableResource::New { entity_tag: next, data: new } = headers(Some(&entity_tag)).await else {
        panic!("there is a new token")
    };
    assert!(next != entity_tag && new["authorization"] != data["authorization"]);
    assert_eq!(google.server().seen_at(Place::Token).len(), 2);
    // What cannot be had is told, with whether it may work later.
    google.server().account_mut(SERVICE_ACCOUNT).keys.clear();
    let credentials = google_cloud_auth::Managed::in_universe(manager(&google), Some("cloud.example"));
    assert_eq!(credentials.universe_domain().await.as_deref(), Some("cloud.example"));
    assert!(!credentials.headers(Extensions::new()).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn object_store_reads_an_object_with_a_token_of_the_manager() {
    let google = google();
    let bucket = bucket_of(&google);
    for _ in 0..2 {
        let read = bucket.get(&"hello".into()).await.unwrap();
        assert_eq!(&read.bytes().await.unwrap()[..], b"hello");
    }
    assert_eq!(google.server().seen_at(Place::Token).len(), 1, "one token does for both");
    // What cannot be had is its error.
    google.server().account_mut(SERVICE_ACCOUNT).keys.clear();
    let refused = bucket_of(&google).get(&"hello".into()).await.unwrap_err();
    assert!(matches!(refused, ::object_store::Error::Unauthenticated { .. }), "{refused}");
}
