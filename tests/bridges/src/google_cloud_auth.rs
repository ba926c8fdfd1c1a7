//! A [`TokenManager`] as credentials of `google-cloud-auth`, which the clients of `google-cloud-rust` take:
//! `Storage::builder().with_credentials(Managed::credentials(tokens))`.

use std::sync::{Mutex, PoisonError};

use google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use grantflow_reqwest::TokenManager;
use grantflow_reqwest::grantflow::Error;
use http::{Extensions, HeaderMap};

/// The tokens of a manager, with the quota project of its credential.
#[derive(Debug)]
pub struct Managed {
    tokens: TokenManager,
    universe_domain: Option<String>,
    /// The newest token that was asked for, by its number, and how `google-cloud-auth` names it.
    newest: Mutex<Option<(u64, EntityTag)>>,
}

impl Managed {
    /// Credentials for a client.
    pub fn credentials(tokens: TokenManager) -> Credentials {
        Self::in_universe(tokens, None)
    }

    /// Credentials for a client of this universe, if it is not `googleapis.com`.
    pub fn in_universe(tokens: TokenManager, universe_domain: Option<&str>) -> Credentials {
        let universe_domain = universe_domain.map(str::to_owned);
        Credentials::from(Self { tokens, universe_domain, newest: Mutex::default() })
    }

    /// What the token of this number is named by: as before, if it is the newest one still.
    fn tag(&self, generation: u64) -> EntityTag {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.take_if(|(known, _)| *known != generation);
        newest.get_or_insert_with(|| (generation, EntityTag::new())).1.clone()
    }
}

impl CredentialsProvider for Managed {
    async fn headers(&self, extensions: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let told = |error: Error| CredentialsError::from_source(error.is_transient(), error);
        let token = self.tokens.token().await.map_err(told)?;
        let entity_tag = self.tag(token.generation());
        if extensions.get::<EntityTag>() == Some(&entity_tag) {
            return Ok(CacheableResource::NotModified);
        }
        let mut data = HeaderMap::new();
        token.apply(&mut data).map_err(told)?;
        Ok(CacheableResource::New { entity_tag, data })
    }

    async fn universe_domain(&self) -> Option<String> {
        self.universe_domain.clone()
    }
}
