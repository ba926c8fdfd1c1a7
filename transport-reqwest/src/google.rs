//! Google in one line each.

use grantflow::Error;
use grantflow::google::{DefaultCredentials, Found};

use crate::Transport;

impl Transport {
    /// Searches for Google's application default credentials, and tells where they were and which project they
    /// are for.
    ///
    /// # Errors
    ///
    /// If there are none: the error lists every place that was looked at. If a place is named, or there, and
    /// wrong.
    pub async fn google_search(&self) -> Result<Found, Error> {
        self.run(DefaultCredentials::new(self.platform())).await
    }
}

#[cfg(feature = "manager")]
mod managers {
    use std::path::PathBuf;

    use grantflow::google::{GoogleCredential, MetadataServer, ServiceAccount};
    use grantflow::source::Want;
    use grantflow::{Error, Scopes};

    use crate::{TokenManager, Transport};

    impl Transport {
        /// A manager of access tokens from Google's application default credentials: the file that
        /// `GOOGLE_APPLICATION_CREDENTIALS` names, what `gcloud auth application-default login` wrote, or the
        /// account that this machine runs as on Google Cloud.
        ///
        /// # Errors
        ///
        /// As [`google_search`](Self::google_search).
        pub async fn google_default(&self, scopes: impl Into<Scopes>) -> Result<TokenManager, Error> {
            let want = Want::access_token(scopes);
            Ok(TokenManager::new(self, self.google_search().await?.credential, want))
        }

        /// A manager of access tokens from a credential file of any type. Only for a file that you trust: it
        /// chooses what it is.
        ///
        /// # Errors
        ///
        /// If the file cannot be read, or is wrong.
        pub async fn google_file(
            &self,
            path: impl Into<PathBuf>,
            scopes: impl Into<Scopes>,
        ) -> Result<TokenManager, Error> {
            let want = Want::access_token(scopes);
            Ok(TokenManager::new(self, self.run(GoogleCredential::read(path)).await?, want))
        }

        /// The same from the text of such a file, as it may stand in a variable.
        ///
        /// # Errors
        ///
        /// If it is wrong.
        pub fn google_json(&self, json: impl AsRef<[u8]>, scopes: impl Into<Scopes>) -> Result<TokenManager, Error> {
            let credential = GoogleCredential::from_json_of_any_type(json)?;
            Ok(TokenManager::new(self, credential, Want::access_token(scopes)))
        }

        /// A manager of access tokens of a service account, by its key file.
        ///
        /// # Errors
        ///
        /// If the file cannot be read, or is no such key.
        pub async fn google_service_account(
            &self,
            path: impl Into<PathBuf>,
            scopes: impl Into<Scopes>,
        ) -> Result<TokenManager, Error> {
            let want = Want::access_token(scopes);
            Ok(TokenManager::new(self, self.run(ServiceAccount::read(path)).await?, want))
        }

        /// A manager of access tokens of the account that this machine runs as on Google Cloud.
        pub fn google_metadata_server(&self, scopes: impl Into<Scopes>) -> TokenManager {
            TokenManager::new(self, MetadataServer::new(), Want::access_token(scopes))
        }
    }
}
