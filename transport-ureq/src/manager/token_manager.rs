//! [`TokenManager`]: one want of one credential.

use std::fmt;
use std::sync::Arc;

use grantflow::source::{GrantState, GrantStatus, TokenSource, Waiting, Want};
use grantflow::{Error, Secret, Timestamp};
use http::{HeaderMap, HeaderValue, Request};

use super::clock;
use super::handle::{Handle, Holds};
use super::shared::{Changes, Shared};
use super::slot::Slot;
use super::token_ref::TokenRef;
use crate::Transport;

/// The holder of one want's token, which it refreshes in time, for any number of threads. Clones are handles of the
/// same manager.
///
/// A token expires by the clock that says so first. Readers of a fresh token ask the wall clock alone. If that was set
/// back to before the moment when the token came, they ask both clocks; if it was set back by less, the background's
/// thread notices that within half a minute, and without one it is noticed when the wall clock shows the end.
///
/// ```no_run
/// use grantflow_ureq::grantflow::source::{Credential, Want};
/// use grantflow_ureq::grantflow::{Client, ClientAuthentication, Issuer};
/// use grantflow_ureq::{TokenManager, Transport};
///
/// let client = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("s3cret"));
/// let credential = Credential::client_credentials(Issuer::new("https://as.example")?, &client);
/// let manager = TokenManager::new(&Transport::new()?, credential, Want::access_token("read"));
/// let mut request = http::Request::get("https://api.example/things").body(())?;
/// manager.authorize(&mut request)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// - Without a token, the first caller fetches one on its own thread, and all others wait for it.
/// - A token that is due is still handed out at once, while the next is fetched in the background: see
///   [`ManagerBuilder::background_refresh`](super::ManagerBuilder::background_refresh).
/// - A refresh that fails never replaces a token that is valid. If there is none, every caller gets the refresh's error
///   at once, until it is time to try again.
/// - After a failure for good (`invalid_grant`) there is no further try until the credential is
///   [replaced](Self::replace).
/// - A change that the store of a grant does not take is used from memory, and saved later: after 5 s, and then ever
///   more seldom, but at least every 5 minutes. See [`Status::unsaved`].
/// - When the last handle is dropped, it waits at most 5 s for a refresh under way whose new refresh token would
///   otherwise be lost, and then at most 10 s for what is not saved yet. Nothing else holds the process up. A `static`
///   is never dropped: end its manager by [`shutdown`](Self::shutdown).
#[derive(Clone)]
pub struct TokenManager {
    slot: Arc<Slot>,
    handle: Arc<Handle>,
}

/// The status of a want's token.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Status {
    /// The end of the held token; `None` if there is none, or if the server did not say.
    pub expires_at: Option<Timestamp>,
    /// The last failure, if no refresh has succeeded since.
    pub last_error: Option<Error>,
    /// When the held token is refreshed next, if it is in use.
    pub next_refresh: Option<Timestamp>,
    /// Whether a refresh is under way.
    pub refreshing: bool,
    /// What a refresh with this credential waits for that another process does, if so.
    pub waiting: Option<Waiting>,
    /// The status of the credential's grant, as far as this process knows: whether its refresh token was used with an
    /// unknown outcome, since when and how often, or was refused.
    pub grant: GrantStatus,
    /// Why the newest refresh token could not be saved in the store, if so. It is in use all the same, and is lost if
    /// the program ends before it is saved.
    pub unsaved: Option<Error>,
}

impl TokenManager {
    pub(crate) fn alone(shared: Arc<Shared>, slot: Arc<Slot>) -> Self {
        let handle = Arc::new(Handle { shared, holds: Holds::One(slot.clone()) });
        Self { slot, handle }
    }

    pub(crate) fn of_pool(handle: &Arc<Handle>, slot: Arc<Slot>) -> Self {
        Self { slot, handle: handle.clone() }
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.handle.shared.transport
    }

    /// Fetches the first token, so that a program that cannot get one ends where it begins.
    ///
    /// # Errors
    ///
    /// Those of [`token`](Self::token).
    pub fn start(&self) -> Result<(), Error> {
        self.token().map(drop)
    }

    /// The token. While it is fresh, or due and being refreshed, this reads one clock, takes no lock and allocates
    /// nothing.
    ///
    /// # Errors
    ///
    /// If there is no valid token, and no new one can be obtained; after [`shutdown`](Self::shutdown), of kind
    /// [`Cancelled`](grantflow::ErrorKind::Cancelled).
    #[inline]
    pub fn token(&self) -> Result<TokenRef, Error> {
        match self.fresh() {
            Some(token) => Ok(token),
            None => self.slot.token(),
        }
    }

    /// The token, if it is fresh, or due and already being refreshed; never waits, and begins no refresh.
    #[inline]
    pub fn fresh(&self) -> Option<TokenRef> {
        self.slot.fresh(clock::millis())
    }

    /// The access token, copied.
    ///
    /// # Errors
    ///
    /// Those of [`token`](Self::token).
    pub fn access_token(&self) -> Result<Secret, Error> {
        Ok(self.token()?.access_token().into())
    }

    /// The value of the header `Authorization`. It shares the token's memory.
    ///
    /// # Errors
    ///
    /// Those of [`token`](Self::token); and of kind [`TokenType`](grantflow::ErrorKind::TokenType) if the token is no
    /// bearer token.
    pub fn authorization(&self) -> Result<HeaderValue, Error> {
        self.token()?.authorization().cloned()
    }

    /// The headers of a request with the token, and those that its source adds, such as `x-goog-user-project`.
    ///
    /// # Errors
    ///
    /// Those of [`authorization`](Self::authorization).
    pub fn headers(&self) -> Result<HeaderMap, Error> {
        let token = self.token()?;
        token.authorization()?;
        let mut headers = HeaderMap::with_capacity(1);
        token.apply(&mut headers)?;
        Ok(headers)
    }

    /// Puts the token, a bearer token or an API key, on a request, and the headers that its source adds. The caller
    /// must know that the request goes to a server that the token is for.
    ///
    /// # Errors
    ///
    /// Those of [`authorization`](Self::authorization); the request is then as it was.
    pub fn authorize<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        self.token()?.apply(request.headers_mut())
    }

    /// Fetches a new token now, whatever token is held. If one is being fetched already, that is the one. All other
    /// callers are served meanwhile. No pause after a failure is kept.
    ///
    /// # Errors
    ///
    /// If no new token can be obtained; the held token is then kept. That is so, too, if the server refuses the refresh
    /// token while the held token is good: some servers do so until it has expired. Only after that is a grant that was
    /// revoked refused for good; until then [`Status::grant`](crate::Status::grant) says
    /// [`Refused`](grantflow::source::GrantStatus::Refused), and `early`.
    pub fn force_refresh(&self) -> Result<TokenRef, Error> {
        self.slot.force()
    }

    /// Notes that a server refused this token (status 401), so that the next caller gets another one. A later token is
    /// not touched, nor another manager's. Returns whether another one may be obtained: not if a new token is refused
    /// so soon again that tokens do not seem to be the cause; the token then stays.
    pub fn invalidate(&self, token: &TokenRef) -> bool {
        self.slot.reject(token.issued())
    }

    /// The status of the want's token at this moment. No request is sent.
    pub fn status(&self) -> Status {
        let now = self.handle.shared.now();
        let (seen, grant) = (self.slot.see(now), self.slot.home.state());
        Status {
            expires_at: seen.held.and_then(|held| held.token.expires_at()),
            last_error: seen.error,
            next_refresh: seen.next_refresh.map(|time| now.wall + time),
            refreshing: seen.refreshing,
            waiting: self.slot.home.waiting(),
            grant: grant.status(),
            unsaved: grant.save_error().cloned(),
        }
    }

    /// Reports every new token and every failure from now on; a pool's manager reports those of the whole pool. Changes
    /// that are not read are kept in memory: drop the value when it is not needed any more. See also
    /// [`ManagerBuilder::on_change`](crate::ManagerBuilder::on_change).
    pub fn subscribe(&self) -> Changes {
        self.handle.shared.subscribe()
    }

    /// The state of the credential: what changes as it is used. A program that keeps refresh tokens itself keeps the
    /// one in this state.
    pub fn grant_state(&self) -> GrantState {
        self.slot.home.state()
    }

    /// The want of this manager's tokens.
    pub fn want(&self) -> &Want {
        &self.slot.want
    }

    /// Replaces the credential, as after a new sign-in. The held token is forgotten, and so is a failure for good. In a
    /// pool this is the same as [`TokenPool::replace`](crate::TokenPool::replace).
    pub fn replace(&self, source: impl TokenSource + 'static) {
        self.slot.home.replace(Arc::new(source));
        match &self.handle.holds {
            Holds::One(slot) => slot.clear(),
            Holds::Pool(wants) => wants.clear(&self.slot),
        }
    }

    /// Ends the manager for all handles: from now on they get errors. It waits at most 5 s for a refresh under way
    /// whose new refresh token would otherwise be lost, and at most 10 s for a store that is to take what it could not
    /// take before. In a pool this ends the want, which the pool then forgets.
    pub fn shutdown(&self) {
        self.handle.end(&self.slot);
    }
}

impl fmt::Debug for TokenManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenManager").field("want", &self.slot.want).field("status", &self.status()).finish()
    }
}
