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

/// Holds tokens of many credentials, which go by name, and of any want. No two wants share a token, and
/// wants of one credential take turns where that is needed. Otherwise each is what a [`TokenManager`] is,
/// and one task refreshes them all. Cheap to clone.
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

    /// Adds a credential, unless there is one of this name, which stays as it is: it may have a newer refresh token
    /// than the one that is given here. Says whether it was added.
    ///
    /// So a server for many users calls this for each request, with what it has kept of the user, and
    /// [`replace`](Self::replace) when one has signed in anew.
    ///
    /// # Errors
    ///
    /// Of kind [`Cancelled`](grantflow::ErrorKind::Cancelled) after the end.
    pub fn add(&self, name: &str, source: impl TokenSource + 'static) -> Result<bool, Error> {
        self.0.0.add(name, Arc::new(source))
    }

    /// Forgets a credential and all its tokens; its managers have no more. Says whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.0.0.remove(name)
    }

    /// Puts a credential in the place of the one of this name, as after a new sign-in: see [`TokenManager::replace`]. If
    /// there is none, it is added. Says whether there was one.
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

    /// A manager of one want. As long as it lives, the want is not forgotten.
    ///
    /// # Errors
    ///
    /// Of kind [`Config`](grantflow::ErrorKind::Config) if there is no such credential.
    pub fn manager(&self, name: &str, want: Want) -> Result<TokenManager, Error> {
        let slot = self.0.0.slot(name, want)?;
        Ok(TokenManager::of_pool(&self.0, slot))
    }

    /// A token: see [`TokenManager::token`].
    ///
    /// # Errors
    ///
    /// As there, and of kind [`Config`](grantflow::ErrorKind::Config) if there is no such credential.
    #[inline]
    pub fn token<'a>(
        &'a self,
        name: &'a str,
        want: &'a Want,
    ) -> impl Future<Output = Result<TokenRef, Error>> + Send + 'a {
        Look::new(&self.0.0, name, want)
    }

    /// How many wants it holds.
    pub fn len(&self) -> usize {
        self.0.0.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells every new token and every failure from now on.
    pub fn subscribe(&self) -> Changes {
        self.0.0.hub.watchers.subscribe()
    }

    /// What changes as a credential is used: a program that keeps its refresh token must keep the newest.
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
