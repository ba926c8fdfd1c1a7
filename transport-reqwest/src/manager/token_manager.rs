//! [`TokenManager`]: one want of one credential.

use std::fmt;
use std::sync::Arc;

use grantflow::source::{GrantState, TokenSource, Want};
use grantflow::{Error, Secret};
use http::{HeaderMap, HeaderValue, Request};

use super::asking::Fetch;
use super::book::Book;
use super::change::{Changes, Status};
use super::handle::Handle;
use super::hub::Hub;
use super::slot::{Ended, Slot};
use super::token_ref::TokenRef;
use crate::Transport;

/// The holder of one want's token, which it refreshes in time. Cheap to clone; make one and share it.
///
/// A fresh token is handed out at once. One that is due, which is shortly before its end, is handed out at once too,
/// and refreshed meanwhile. Only if there is no good token do callers wait, all of them for one request. A failure
/// never replaces a good token.
///
/// Making a manager needs no runtime. Each refresh is a task of the tokio runtime in which it was asked for, so that a
/// caller's future may be dropped at any moment. If that runtime is not driven any more, a waiter in another runtime
/// takes over: a refresh that was not begun, after one second; one that may be repeated, after five; and the use of a
/// refresh token that the server replaces, as soon as no request with it can be written or answered any more (20
/// seconds to begin, and the time of the request), as a use of unknown outcome. A lease that such a task holds is not
/// taken from it. If the runtimes of a program come and go, give the manager one that lasts:
/// [`ManagerBuilder::runtime`](super::ManagerBuilder::runtime).
///
/// Dropping the last clone ends all work in the background. If a refresh token that the server replaces is just being
/// used, the drop waits for that, at most 5 seconds. It cannot wait within a runtime of a single thread: call
/// [`shutdown`](Self::shutdown) there.
///
/// A change that the store of a grant does not take is used from memory, and saved later: after 5 s, and then ever more
/// seldom, but at least every 5 minutes. It is tried once more at [`shutdown`](Self::shutdown) or when the last clone
/// is dropped, which waits for that at most 10 seconds. See [`Status::unsaved`].
///
/// A token expires by the clock that says so first. Readers of a fresh token ask the wall clock alone. If that was set
/// back to before the moment when the token came, they ask both clocks; if it was set back by less, the background's
/// task notices that within half a minute, and without one it is noticed when the wall clock shows the end.
///
/// ```
/// use grantflow::source::{Credential, Want};
/// use grantflow::{Client, ClientAuthentication, Issuer};
/// use grantflow_reqwest::{TokenManager, Transport};
///
/// let client = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("s3cret"));
/// let credential = Credential::client_credentials(Issuer::new("https://as.example")?, &client);
/// let manager = TokenManager::new(&Transport::new()?, credential, Want::access_token("read"));
///
/// # async fn handler(manager: TokenManager) -> Result<(), grantflow::Error> {
/// // Wherever a request is made, in any clone:
/// let mut request = http::Request::new("a body");
/// manager.authorize(&mut request).await?;
/// # Ok(())
/// # }
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct TokenManager {
    slot: Arc<Slot>,
    handle: Arc<Handle>,
    /// Whether it belongs to a pool, which goes on without it.
    pooled: bool,
}

impl TokenManager {
    pub(super) fn alone(hub: Hub, source: Arc<dyn TokenSource>, want: Want) -> Self {
        let book = Book::new(hub);
        let slot = book.begin(source, want);
        Self { slot, handle: Arc::new(Handle(book)), pooled: false }
    }

    pub(super) fn of_pool(handle: &Arc<Handle>, slot: Arc<Slot>) -> Self {
        Self { slot, handle: handle.clone(), pooled: true }
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.handle.0.hub.transport
    }

    /// Fetches the first token, so that a program that cannot get one ends where it begins.
    ///
    /// # Errors
    ///
    /// If no token can be obtained.
    pub async fn start(&self) -> Result<(), Error> {
        self.token().await.map(drop)
    }

    /// The token, without a copy. If it is fresh, or due and being refreshed, the future is ready at once, takes no
    /// lock and allocates nothing. Keep the token for one request, not longer.
    ///
    /// # Errors
    ///
    /// If there is no valid token, and no new one can be obtained: the error is that of the last try, and comes at once
    /// if it is too early for another try. Of kind [`Cancelled`](grantflow::ErrorKind::Cancelled) after
    /// [`shutdown`](Self::shutdown), and [`Misuse`](grantflow::ErrorKind::Misuse) if a token must be fetched and there
    /// is no tokio runtime.
    #[inline]
    pub fn token(&self) -> impl Future<Output = Result<TokenRef, Error>> + Send + '_ {
        Fetch::new(&self.slot)
    }

    /// The token, if it is fresh, or due and already being refreshed; this never waits, and begins no refresh. It is
    /// for code that cannot await.
    #[inline]
    pub fn fresh(&self) -> Option<TokenRef> {
        self.slot.fresh()
    }

    /// The access token, copied. Fails as [`token`](Self::token) does.
    pub async fn access_token(&self) -> Result<Secret, Error> {
        Ok(Secret::from(self.token().await?.access_token()))
    }

    /// The value of the header `Authorization`. It shares the token's memory.
    ///
    /// # Errors
    ///
    /// Those of [`token`](Self::token); and of kind [`TokenType`](grantflow::ErrorKind::TokenType) if the token is no
    /// bearer token.
    pub async fn authorization(&self) -> Result<HeaderValue, Error> {
        self.token().await?.authorization().cloned()
    }

    /// The headers of a request with the token, and those that its source adds, such as `x-goog-user-project`. Fails as
    /// [`authorization`](Self::authorization) does.
    pub async fn headers(&self) -> Result<HeaderMap, Error> {
        let token = self.token().await?;
        token.authorization()?;
        let mut headers = HeaderMap::with_capacity(1);
        token.apply(&mut headers)?;
        Ok(headers)
    }

    /// Puts the token, a bearer token or an API key, on a request, and the headers that its source adds. The caller
    /// must know that the request goes to a server that the token is for. Fails as
    /// [`authorization`](Self::authorization) does, and leaves the request as it was.
    pub async fn authorize<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        self.token().await?.apply(request.headers_mut())
    }

    /// Fetches a new token now, whatever token is held. If one is being fetched already, that is the one.
    ///
    /// # Errors
    ///
    /// If no new token can be obtained; the held token is then kept. That is so, too, if the server refuses the refresh
    /// token while the held token is good: some servers do so until it has expired. Only after that is a grant that was
    /// revoked refused for good; until then [`Status::grant`](crate::Status::grant) says
    /// [`Refused`](grantflow::source::GrantStatus::Refused), and `early`.
    pub async fn force_refresh(&self) -> Result<TokenRef, Error> {
        self.slot.force().await
    }

    /// Notes that a server refused this token (status 401), so that the next caller gets another one. A later token is
    /// not touched, nor another manager's. Returns whether another one may be obtained: not if a new token is refused
    /// so soon again that tokens do not seem to be the cause.
    pub fn invalidate(&self, token: &TokenRef) -> bool {
        self.slot.reject(token.issued())
    }

    /// The want of this manager's tokens.
    pub fn want(&self) -> &Want {
        &self.slot.want
    }

    /// The status of the want's token at this moment. No request is sent.
    pub fn status(&self) -> Status {
        self.slot.status()
    }

    /// Reports every new token and every failure from now on; a pool's manager reports those of the whole pool.
    pub fn subscribe(&self) -> Changes {
        self.handle.0.hub.watchers.subscribe()
    }

    /// The state of the credential: what changes as it is used. A program that keeps refresh tokens itself keeps the
    /// one in this state.
    pub fn grant_state(&self) -> GrantState {
        self.slot.origin.state()
    }

    /// Replaces the credential, as after a new sign-in. Held tokens and failures are forgotten, for all wants of this
    /// credential.
    pub fn replace(&self, source: impl TokenSource + 'static) {
        self.handle.0.replace(&self.slot.origin, Arc::new(source));
    }

    /// Ends this manager and all its clones: from now on they get errors. It waits at most 5 seconds for a refresh
    /// under way whose new refresh token would otherwise be lost, and at most 10 for a store that is to take what it
    /// could not take before; [`grant_state`](Self::grant_state) then has the newest refresh token. In a pool this ends
    /// the want, and the pool goes on.
    pub async fn shutdown(&self) {
        if self.pooled {
            self.handle.0.forget(&self.slot);
            self.slot.end(Ended::ShutDown);
        } else {
            self.handle.0.close();
        }
        self.handle.0.hub.settled().await;
        self.handle.0.hub.save(vec![self.slot.origin.clone()]).await;
    }
}

impl fmt::Debug for TokenManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenManager").field("want", self.want()).field("status", &self.status()).finish()
    }
}
