//! [`TokenPool`]: any want of any of many credentials.

use std::fmt;
use std::sync::Arc;

use grantflow::Error;
#[cfg(doc)]
use grantflow::ErrorKind;
use grantflow::source::{GrantState, TokenSource, Want};

use super::clock;
use super::credential::Credential;
use super::handle::{self, Handle, Holds};
use super::shared::{Changes, Shared};
use super::slot::Closed;
use super::token_manager::TokenManager;
use super::token_ref::TokenRef;
use super::wants::Wants;

/// The tokens of many credentials, each by its name, for any number of wants. Clones are handles of the same pool.
///
/// ```no_run
/// use grantflow_ureq::grantflow::source::{Credential, Want};
/// use grantflow_ureq::grantflow::{Client, ClientAuthentication, Issuer};
/// use grantflow_ureq::{TokenPool, Transport};
///
/// let pool = TokenPool::new(&Transport::new()?);
/// let client = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("s3cret"));
/// pool.add("batch", Credential::client_credentials(Issuer::new("https://as.example")?, &client))?;
/// let token = pool.token("batch", &Want::access_token("read"))?;
/// # let _ = token;
/// # Ok::<(), grantflow_ureq::grantflow::Error>(())
/// ```
///
/// Each credential and want has a token of its own, as with a [`TokenManager`]; no two different wants share one. While
/// one token is fetched, all others are served.
#[derive(Clone)]
pub struct TokenPool {
    handle: Arc<Handle>,
}

impl TokenPool {
    pub(crate) fn made(shared: Arc<Shared>, max_wants: Option<usize>) -> Self {
        let wants = Wants::new(max_wants);
        Self { handle: Arc::new(Handle { shared, holds: Holds::Pool(wants) }) }
    }

    /// Adds a credential. If there is one of this name, that stays as it is, since it may have a newer refresh token
    /// than `source`. Returns whether the credential was added.
    ///
    /// So a server for many users calls this for each request, with the grant that it has kept of the user, and
    /// [`replace`](Self::replace) when a user has signed in anew.
    ///
    /// # Errors
    ///
    /// Of kind [`Cancelled`](ErrorKind::Cancelled) after the end.
    pub fn add(&self, name: &str, source: impl TokenSource + 'static) -> Result<bool, Error> {
        self.wants().add(name, || Credential::new(&self.handle.shared, name.into(), Arc::new(source)))
    }

    /// Forgets a credential and all its tokens. Its managers get errors from now on. Returns whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let Some(entry) = self.wants().remove(name) else { return false };
        entry.slots.iter().for_each(|slot| slot.close(Closed::Removed));
        handle::save(vec![entry.credential]);
        true
    }

    /// Replaces the credential of this name, as after a new sign-in: its tokens are forgotten, and so is a failure for
    /// good. If there is none, it is added. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// Of kind [`Cancelled`](ErrorKind::Cancelled) after the end.
    pub fn replace(&self, name: &str, source: impl TokenSource + 'static) -> Result<bool, Error> {
        let source: Arc<dyn TokenSource> = Arc::new(source);
        loop {
            let names = self.wants().read()?;
            if let Ok(entry) = self.wants().entry(&names, name) {
                entry.credential.replace(source.clone());
                entry.slots.iter().for_each(|slot| slot.clear());
                return Ok(true);
            }
            drop(names);
            // Unless another has added one meanwhile.
            let make = || Credential::new(&self.handle.shared, name.into(), source.clone());
            if self.wants().add(name, make)? {
                return Ok(false);
            }
        }
    }

    /// The manager of a want. As long as it lives, the pool does not forget the want.
    ///
    /// # Errors
    ///
    /// If there is no credential of this name.
    pub fn manager(&self, name: &str, want: Want) -> Result<TokenManager, Error> {
        Ok(TokenManager::of_pool(&self.handle, self.wants().slot(name, want)?))
    }

    /// The token of a want: see [`TokenManager::token`].
    ///
    /// # Errors
    ///
    /// If there is no credential of this name, or no valid token, and no new one can be obtained.
    pub fn token(&self, name: &str, want: &Want) -> Result<TokenRef, Error> {
        let wants = self.wants();
        if let Some(slot) = wants.find(&*wants.read()?, name, want)
            && let Some(token) = slot.fresh(clock::millis())
        {
            return Ok(token);
        }
        wants.slot(name, want.clone())?.token()
    }

    /// The state of a credential: what changes as it is used. A program that keeps refresh tokens itself keeps the one
    /// in this state.
    ///
    /// # Errors
    ///
    /// If there is no credential of this name.
    pub fn grant_state(&self, name: &str) -> Result<GrantState, Error> {
        let wants = self.wants();
        Ok(wants.entry(&*wants.read()?, name)?.credential.state())
    }

    /// The number of wants that the pool holds.
    pub fn len(&self) -> usize {
        self.wants().len()
    }

    /// Whether the pool holds no want.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reports every new token and every failure of all wants from now on: see [`TokenManager::subscribe`].
    pub fn subscribe(&self) -> Changes {
        self.handle.shared.subscribe()
    }

    /// Ends the pool for all handles: see [`TokenManager::shutdown`].
    pub fn shutdown(&self) {
        self.handle.shutdown();
    }

    fn wants(&self) -> &Wants {
        match &self.handle.holds {
            Holds::Pool(wants) => wants,
            Holds::One(_) => unreachable!("a pool's handle holds a pool"),
        }
    }
}

impl fmt::Debug for TokenPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPool").field("wants", &self.len()).finish_non_exhaustive()
    }
}
