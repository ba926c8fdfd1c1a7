//! Google in one line each.

use grantflow::Error;
use grantflow::google::{DefaultCredentials, Found};

use crate::Transport;

impl Transport {
    /// Searches for Google's application default credentials, and returns where they were and which project they are
    /// for.
    ///
    /// # Errors
    ///
    /// If there are none: the error lists every place that was looked at. If a place is named or present, but wrong.
    pub fn google_search(&self) -> Result<Found, Error> {
        self.run(DefaultCredentials::new(self.platform()))
    }
}

#[cfg(feature = "manager")]
pub use managers::Google;

#[cfg(feature = "manager")]
mod managers {
    use std::path::PathBuf;

    use grantflow::google::{Found, GoogleCredential, Looked, MetadataServer, ServiceAccount};
    use grantflow::source::Want;
    use grantflow::{Error, Scopes};

    use crate::{TokenManager, TokenPool, TokenRef, Transport};

    /// Google's application default credentials, found once: tokens for any scopes, and the result of the search.
    ///
    /// ```no_run
    /// # fn main_() -> Result<(), grantflow_ureq::grantflow::Error> {
    /// let google = grantflow_ureq::Transport::new()?.google()?;
    /// let token = google.token("https://www.googleapis.com/auth/devstorage.read_only")?;
    /// println!("for project {:?}", google.project_id());
    /// # let _ = token;
    /// # Ok(()) }
    /// ```
    #[derive(Clone, Debug)]
    pub struct Google {
        found: Found,
        pool: TokenPool,
    }

    /// The name of the one credential, which errors show.
    const NAME: &str = "Google's default";

    impl Google {
        /// A token for these scopes: see [`TokenManager::token`].
        ///
        /// # Errors
        ///
        /// If there is no valid token, and no new one can be obtained.
        pub fn token(&self, scopes: impl Into<Scopes>) -> Result<TokenRef, Error> {
            self.pool.token(NAME, &Want::access_token(scopes))
        }

        /// The manager of a want, such as an ID token for an audience.
        ///
        /// # Errors
        ///
        /// Those of [`TokenPool::manager`].
        pub fn manager(&self, want: Want) -> Result<TokenManager, Error> {
            self.pool.manager(NAME, want)
        }

        /// The project to work in, if anything names one.
        pub fn project_id(&self) -> Option<&str> {
            self.found.project_id.as_deref()
        }

        /// The credential that was found.
        pub fn source(&self) -> &GoogleCredential {
            &self.found.credential
        }

        /// Every place that was looked at, in order. The credential was at the last one.
        pub fn looked(&self) -> &[Looked] {
            &self.found.looked
        }
    }

    impl Transport {
        /// Google's application default credentials as one object, for tokens of several scopes.
        ///
        /// # Errors
        ///
        /// Those of [`google_search`](Self::google_search).
        pub fn google(&self) -> Result<Google, Error> {
            let (found, pool) = (self.google_search()?, TokenPool::new(self));
            pool.add(NAME, found.credential.clone())?;
            Ok(Google { found, pool })
        }

        /// A manager of access tokens from Google's application default credentials: the file that
        /// `GOOGLE_APPLICATION_CREDENTIALS` names, the file that `gcloud auth application-default login` writes, or the
        /// account that this machine runs as on Google Cloud.
        ///
        /// # Errors
        ///
        /// Those of [`google_search`](Self::google_search).
        pub fn google_default(&self, scopes: impl Into<Scopes>) -> Result<TokenManager, Error> {
            Ok(TokenManager::new(self, self.google_search()?.credential, Want::access_token(scopes)))
        }

        /// A manager of access tokens from a credential file of any type. Only for a file that you trust, since the
        /// file chooses its type. `GOOGLE_CLOUD_QUOTA_PROJECT` is heeded, as the search does.
        ///
        /// # Errors
        ///
        /// If the file cannot be read, or is wrong.
        pub fn google_file(&self, path: impl Into<PathBuf>, scopes: impl Into<Scopes>) -> Result<TokenManager, Error> {
            let credential =
                self.run(GoogleCredential::read(path))?.quota_project_from_env(|name| std::env::var_os(name))?;
            Ok(TokenManager::new(self, credential, Want::access_token(scopes)))
        }

        /// A manager of access tokens from the text of such a file, for example from a variable.
        ///
        /// # Errors
        ///
        /// If the text is wrong.
        pub fn google_json(&self, json: impl AsRef<[u8]>, scopes: impl Into<Scopes>) -> Result<TokenManager, Error> {
            let credential = GoogleCredential::from_json_of_any_type(json)?;
            let credential = credential.quota_project_from_env(|name| std::env::var_os(name))?;
            Ok(TokenManager::new(self, credential, Want::access_token(scopes)))
        }

        /// A manager of access tokens of a service account, by its key file.
        ///
        /// # Errors
        ///
        /// If the file cannot be read, or is no such key.
        pub fn google_service_account(
            &self,
            path: impl Into<PathBuf>,
            scopes: impl Into<Scopes>,
        ) -> Result<TokenManager, Error> {
            let account = self.run(ServiceAccount::read(path))?;
            Ok(TokenManager::new(self, account, Want::access_token(scopes)))
        }

        /// A manager of access tokens of the account that this machine runs as on Google Cloud.
        pub fn google_metadata_server(&self, scopes: impl Into<Scopes>) -> TokenManager {
            TokenManager::new(self, MetadataServer::new(), Want::access_token(scopes))
        }
    }
}
