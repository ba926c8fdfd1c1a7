//! A [`TokenManager`] as credentials of `object_store` for Google Cloud Storage:
//! `GoogleCloudStorageBuilder::new().with_credentials(Arc::new(Managed(tokens)))`.

use std::sync::Arc;

use grantflow_reqwest::TokenManager;
use object_store::CredentialProvider;
use object_store::gcp::GcpCredential;

/// The tokens of a manager. `object_store` keeps none of them, and asks for each request.
#[derive(Debug)]
pub struct Managed(pub TokenManager);

#[async_trait::async_trait]
impl CredentialProvider for Managed {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        let token = self.0.token().await;
        let token =
            token.map_err(|e| object_store::Error::Unauthenticated { path: String::new(), source: e.into() })?;
        Ok(Arc::new(GcpCredential { bearer: token.access_token().to_owned() }))
    }
}
