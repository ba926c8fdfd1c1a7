//! Many wants of many credentials.

use std::fmt;
use std::sync::Arc;

use grantflow::Error;
use grantflow::source::{GrantState, TokenSource, Want};

use super::asking::Look;
use super::book::Book;
use super::change::Changes;
use super::handle::Handle;
use super::hub::Hub;
use super::token_manager::TokenManager;
use super::token_ref::TokenRef;

/// The tokens of many credentials, each by its name, for any number of wants. No two different wants share a token, and
/// wants of one credential take turns where that is needed. Otherwise each want is served as by a [`TokenManager`], and
/// one task refreshes them all. Cheap to clone.
///
/// ```
/// use grantflow::source::{Credential, Want};
/// use grantflow::{Client, Issuer};
/// use grantflow_reqwest::{TokenPool, Transport};
///
/// let pool = TokenPool::new(&Transport::new()?);
/// let issuer = Issuer::new("https://as.example")?;
/// pool.add("alice", Credential::refresh_token(issuer, &Client::new("desk"), "her refresh token"))?;
///
/// # async fn handler(pool: TokenPool) -> Result<(), grantflow::Error> {
/// let token = pool.token("alice", &Want::access_token("read")).await?;
/// # let _ = token;
/// # Ok(())
/// # }
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct TokenPool(Arc<Handle>);

impl TokenPool {
    pub(super) fn of(hub: Hub) -> Self {
        Self(Arc::new(Handle(Book::new(hub))))
    }

    /// Adds a credential. If there is one of this name, that stays as it is, since it may have a newer refresh token
    /// than `source`. Returns whether the credential was added.
    ///
    /// So a server for many users calls this for each request, with the grant that it has kept of the user, and
    /// [`replace`](Self::replace) when a user has signed in anew.
    ///
    /// # Errors
    ///
    /// Of kind [`Cancelled`](grantflow::ErrorKind::Cancelled) after the end.
    pub fn add(&self, name: &str, source: impl TokenSource + 'static) -> Result<bool, Error> {
        self.0.0.add(name, Arc::new(source))
    }

    /// Forgets a credential and all its tokens. Its managers get errors from now on. Returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.0.0.remove(name)
    }

    /// Replaces the credential of this name, as after a new sign-in: see [`TokenManager::replace`]. If there is none,
    /// it is added. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// Of kind [`Cancelled`](grantflow::ErrorKind::Cancelled) after the end.
    pub fn replace(&self, name: &str, source: impl TokenSource + 'static) -> Result<bool, Error> {
        let source: Arc<dyn TokenSource> = Arc::new(source);
        loop {
            if let Ok(origin) = self.0.0.origin(name) {
                self.0.0.replace(&origin, source);
                return Ok(true);
            }
            // Unless another has added one meanwhile.
            if self.0.0.add(name, source.clone())? {
                return Ok(false);
            }
        }
    }

    /// The manager of a want. As long as it lives, the pool does not forget the want.
    ///
    /// # Errors
    ///
    /// Of kind [`Config`](grantflow::ErrorKind::Config) if there is no such credential.
    pub fn manager(&self, name: &str, want: Want) -> Result<TokenManager, Error> {
        let slot = self.0.0.slot(name, want)?;
        Ok(TokenManager::of_pool(&self.0, slot))
    }

    /// The token of a want: see [`TokenManager::token`].
    ///
    /// # Errors
    ///
    /// Those of [`TokenManager::token`]; and of kind [`Config`](grantflow::ErrorKind::Config) if there is no such
    /// credential.
    #[inline]
    pub fn token<'a>(
        &'a self,
        name: &'a str,
        want: &'a Want,
    ) -> impl Future<Output = Result<TokenRef, Error>> + Send + 'a {
        Look::new(&self.0.0, name, want)
    }

    /// The number of wants that the pool holds.
    pub fn len(&self) -> usize {
        self.0.0.len()
    }

    /// Whether the pool holds no want.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reports every new token and every failure from now on.
    pub fn subscribe(&self) -> Changes {
        self.0.0.hub.watchers.subscribe()
    }

    /// The state of a credential: what changes as it is used. A program that keeps refresh tokens itself keeps the one
    /// in this state.
    ///
    /// # Errors
    ///
    /// Of kind [`Config`](grantflow::ErrorKind::Config) if there is no such credential.
    pub fn grant_state(&self, name: &str) -> Result<GrantState, Error> {
        self.0.0.state(name)
    }

    /// Ends the pool and all its managers: see [`TokenManager::shutdown`].
    pub async fn shutdown(&self) {
        self.0.0.close();
        self.0.0.hub.settled().await;
        self.0.0.hub.save(self.0.0.origins()).await;
    }
}

impl fmt::Debug for TokenPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPool").field("wants", &self.len()).finish_non_exhaustive()
    }
}
