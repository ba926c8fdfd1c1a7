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

/// Holds a token and gets the next one in time, for any number of threads. Clones are handles of one and the
/// same.
///
/// A token ends by whichever clock says so first. Readers of a fresh one ask the wall clock alone: if that was set back
/// to before the moment when the token came, they ask both; if it was set back by less, that is noticed within half a
/// minute by the background's thread, and without one not before the wall clock shows the end.
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
/// - Without a token, the first who asks fetches one on its own thread, and all others wait for it.
/// - A token that is due is still handed out at once, while the next is fetched in the background: see
///   [`ManagerBuilder::background_refresh`](super::ManagerBuilder::background_refresh).
/// - A refresh that fails never replaces a token that is valid. When there is none, its error is everyone's,
///   at once, until it is time to try again.
/// - After a failure for good (`invalid_grant`) nothing is tried until the credential is
///   [replaced](Self::replace).
/// - What the store of a grant does not take is used from memory, and saved later: after 5 s, and then ever more seldom,
///   every 5 minutes at least. See [`Status::unsaved`].
/// - The last handle to be dropped waits, for 5 s at the most, for a refresh under way whose new refresh token
///   would be lost with it, and then for 10 s at the most for what is not saved yet. Nothing else keeps the process. What is in a `static` is never dropped: end it by
///   [`shutdown`](Self::shutdown).
#[derive(Clone)]
pub struct TokenManager {
    slot: Arc<Slot>,
    handle: Arc<Handle>,
}

/// How a want's token is doing.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Status {
    /// The end of the token that is held; `None` if there is none, or if the server did not say.
    pub expires_at: Option<Timestamp>,
    /// The last failure, if nothing succeeded since.
    pub last_error: Option<Error>,
    /// When the token that is held is refreshed next, if it is in use.
    pub next_refresh: Option<Timestamp>,
    /// Whether a refresh is under way.
    pub refreshing: bool,
    /// What a refresh with this credential waits for that another process does, if so.
    pub waiting: Option<Waiting>,
    /// How it stands with the grant that the credential is, as far as this process knows: whether its refresh token was
    /// used without a known end, since when and how often, or was refused.
    pub grant: GrantStatus,
    /// Why the newest refresh token could not be saved in the store, if so. It is in use all the same, and lost if the program ends
    /// before it is saved.
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

    /// Fetches the first token, so that a program that cannot have one ends where it begins.
    ///
    /// # Errors
    ///
    /// Those of [`token`](Self::token).
    pub fn start(&self) -> Result<(), Error> {
        self.token().map(drop)
    }

    /// The token. While it is fresh, or due and being refreshed, this reads one clock, takes no lock and allocates nothing.
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

    /// The value of an `Authorization` header. It shares the token's memory.
    ///
    /// # Errors
    ///
    /// Those of [`token`](Self::token), and of kind [`TokenType`](grantflow::ErrorKind::TokenType) if the
    /// token is not for bearers.
    pub fn authorization(&self) -> Result<HeaderValue, Error> {
        self.token()?.authorization().cloned()
    }

    /// The headers of a request with the token, and what its source wants besides, such as
    /// `x-goog-user-project`.
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

    /// Puts the token on a request, be it for bearers or an API key, and what its source wants besides. Where
    /// the request goes is the caller's to know.
    ///
    /// # Errors
    ///
    /// Those of [`authorization`](Self::authorization); the request is then as it was.
    pub fn authorize<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        self.token()?.apply(request.headers_mut())
    }

    /// A new token, whatever is held: one is fetched now, unless that is being done already. All others are
    /// served meanwhile. No pause after a failure is kept.
    ///
    /// # Errors
    ///
    /// If it did not succeed; the token that was there is kept then. So it is when the server refuses the refresh token
    /// while that token is good: some servers do so until it has ended. A grant that was revoked is refused for good only
    /// after that; until then [`Status::grant`](crate::Status::grant) says
    /// [`Refused`](grantflow::source::GrantStatus::Refused), and `early`.
    pub fn force_refresh(&self) -> Result<TokenRef, Error> {
        self.slot.force()
    }

    /// Takes note that a server refused this token (status 401), so that the next call gets another. A later
    /// one is not touched, nor another manager's. Returns whether another may be obtained: not if a new one is refused again so soon that
    /// tokens do not seem to be the matter; the token then stays.
    pub fn invalidate(&self, token: &TokenRef) -> bool {
        self.slot.reject(token.issued())
    }

    /// What is known at this moment. Fetches nothing.
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

    /// Tells every new token and every failure from now on; a pool's manager, those of the whole pool. What is
    /// not read is kept: drop it when it is not wanted any more. See also [`ManagerBuilder::on_change`](crate::ManagerBuilder::on_change).
    pub fn subscribe(&self) -> Changes {
        self.handle.shared.subscribe()
    }

    /// What changed of the credential as it was used: a program that keeps refresh tokens keeps this one's.
    pub fn grant_state(&self) -> GrantState {
        self.slot.home.state()
    }

    /// What this manager's tokens are good for.
    pub fn want(&self) -> &Want {
        &self.slot.want
    }

    /// Puts another credential in the place of this one, as after a new sign-in. The token held is forgotten,
    /// and so is a failure for good. In a pool this is the same as [`TokenPool::replace`](crate::TokenPool::replace).
    pub fn replace(&self, source: impl TokenSource + 'static) {
        self.slot.home.replace(Arc::new(source));
        match &self.handle.holds {
            Holds::One(slot) => slot.clear(),
            Holds::Pool(wants) => wants.clear(&self.slot),
        }
    }

    /// Ends it for all handles: from now on they get errors. Waits, for 5 s at the most, for a refresh under
    /// way whose new refresh token would be lost, and for 10 s at the most for a store that is to take what it could not
    /// take before. In a pool it ends this want, which the pool then forgets.
    pub fn shutdown(&self) {
        self.handle.end(&self.slot);
    }
}

impl fmt::Debug for TokenManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenManager").field("want", &self.slot.want).field("status", &self.status()).finish()
    }
}
