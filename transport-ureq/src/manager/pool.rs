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

/// Holds the tokens of many credentials, each by its name, for any number of wants. Clones are handles of one
/// and the same.
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
/// Each credential and want has a token of its own, as a [`TokenManager`] has it; no two different wants share
/// one. While one is fetched, all others are served.
#[derive(Clone)]
pub struct TokenPool {
    handle: Arc<Handle>,
}

impl TokenPool {
    pub(crate) fn made(shared: Arc<Shared>, max_wants: Option<usize>) -> Self {
        let wants = Wants::new(max_wants);
        Self { handle: Arc::new(Handle { shared, holds: Holds::Pool(wants) }) }
    }

    /// Adds a credential, unless there is one of this name, which stays as it is: it may have a newer refresh token
    /// than the one that is given here. Says whether it was added.
    ///
    /// So a server for many users calls this for each request, with what it has kept of the user, and
    /// [`replace`](Self::replace) when one has signed in anew.
    ///
    /// # Errors
    ///
    /// Of kind [`Cancelled`](ErrorKind::Cancelled) after the end.
    pub fn add(&self, name: &str, source: impl TokenSource + 'static) -> Result<bool, Error> {
        self.wants().add(name, || Credential::new(&self.handle.shared, name.into(), Arc::new(source)))
    }

    /// Forgets a credential and all its tokens. Its managers get errors from now on. Says whether there was
    /// one.
    pub fn remove(&self, name: &str) -> bool {
        let Some(entry) = self.wants().remove(name) else { return false };
        entry.slots.iter().for_each(|slot| slot.close(Closed::Removed));
        handle::save(vec![entry.credential]);
        true
    }

    /// Puts a credential in the place of the one of this name, as after a new sign-in: its tokens are forgotten, and so
    /// is a failure for good. If there is none, it is added. Says whether there was one.
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

    /// The manager of a want. It stands for what the pool holds, and keeps the pool from forgetting it.
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

    /// What changed of a credential as it was used: a program that keeps refresh tokens keeps this one's.
    ///
    /// # Errors
    ///
    /// If there is none of this name.
    pub fn grant_state(&self, name: &str) -> Result<GrantState, Error> {
        let wants = self.wants();
        Ok(wants.entry(&*wants.read()?, name)?.credential.state())
    }

    /// How many wants are held.
    pub fn len(&self) -> usize {
        self.wants().len()
    }

    /// Whether no want is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells every new token and every failure of all wants from now on: see [`TokenManager::subscribe`].
    pub fn subscribe(&self) -> Changes {
        self.handle.shared.subscribe()
    }

    /// Ends it for all handles: see [`TokenManager::shutdown`].
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
