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

/// Holds the token of one want of one credential, and sees that a good one is there when it is asked for.
/// Cheap to clone; make one and share it.
///
/// A token that is fresh is handed out at once. One that is due, which is shortly before its end, is still
/// handed out at once and refreshed meanwhile. Only if there is none that is good do callers wait, all of
/// them for one request. A failure never replaces a good token.
///
/// Making one needs no runtime. Each refresh is a task of the tokio runtime in which it was asked for, so a
/// caller's future may be dropped at any moment. If nobody drives that runtime any more, a waiter in another one
/// takes over: a refresh that was not begun after a second, one that may be repeated after five, and a refresh token
/// that is replaced when it is used as soon as no request with it can be written or answered any more (20 seconds to
/// begin, and the time of the request), as a use of unknown outcome. A lease of a store's that such a task holds is not
/// taken from it. A program whose runtimes come and go gives the manager one that lasts:
/// [`ManagerBuilder::runtime`](super::ManagerBuilder::runtime). Dropping the last clone ends all that goes on in the
/// background; if a refresh token that changes with each use is just being used, it waits for that, for 5
/// seconds at the most. It cannot wait within a runtime of a single thread: there,
/// [`shutdown`](Self::shutdown) is the way.
///
/// What the store of a grant does not take is used from memory, and saved later: after 5 s, and then ever more seldom,
/// every 5 minutes at least, and once more at [`shutdown`](Self::shutdown) or when the last clone is dropped, which waits
/// for that for 10 seconds at the most. See [`Status::unsaved`].
///
/// A token ends by whichever clock says so first. Readers of a fresh one ask the wall clock alone: if that was set back
/// to before the moment when the token came, they ask both; if it was set back by less, that is noticed within half a
/// minute by the background's task, and without one not before the wall clock shows the end.
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

    /// Gets the first token now, so that a program fails as it starts and not at its first request.
    ///
    /// # Errors
    ///
    /// If no token can be obtained.
    pub async fn start(&self) -> Result<(), Error> {
        self.token().await.map(drop)
    }

    /// The token, without a copy. If it is fresh, or due and being refreshed, the future is ready at once, takes no lock and
    /// allocates nothing. Keep the token for one request, not longer.
    ///
    /// # Errors
    ///
    /// If there is no valid token, and no new one can be obtained: what the last try came to, at once if it is too early
    /// for another. Of kind [`Cancelled`](grantflow::ErrorKind::Cancelled) after the end, and
    /// [`Misuse`](grantflow::ErrorKind::Misuse) if a token must be fetched and there is no tokio runtime.
    #[inline]
    pub fn token(&self) -> impl Future<Output = Result<TokenRef, Error>> + Send + '_ {
        Fetch::new(&self.slot)
    }

    /// The token, if it is fresh, or due and already being refreshed; never waits, and begins no refresh. For where nothing can be awaited.
    #[inline]
    pub fn fresh(&self) -> Option<TokenRef> {
        self.slot.fresh()
    }

    /// The access token's text, as a copy. Fails as [`token`](Self::token) does.
    pub async fn access_token(&self) -> Result<Secret, Error> {
        Ok(Secret::from(self.token().await?.access_token()))
    }

    /// The value of an `Authorization` header. It shares the token's memory.
    ///
    /// # Errors
    ///
    /// As [`token`](Self::token), and of kind [`TokenType`](grantflow::ErrorKind::TokenType) if it is no
    /// bearer token.
    pub async fn authorization(&self) -> Result<HeaderValue, Error> {
        self.token().await?.authorization().cloned()
    }

    /// The headers of a request with the token, and what its source wants besides, such as
    /// `x-goog-user-project`. Fails as [`authorization`](Self::authorization) does.
    pub async fn headers(&self) -> Result<HeaderMap, Error> {
        let token = self.token().await?;
        token.authorization()?;
        let mut headers = HeaderMap::with_capacity(1);
        token.apply(&mut headers)?;
        Ok(headers)
    }

    /// Puts the token on a request, be it for bearers or an API key, and what its source wants besides. The
    /// request must go to a server that it is meant for. Fails as [`authorization`](Self::authorization)
    /// does, and leaves the request as it was.
    pub async fn authorize<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        self.token().await?.apply(request.headers_mut())
    }

    /// Gets a new token whatever is held. If one is being fetched already, that is the one.
    ///
    /// # Errors
    ///
    /// If no new token can be obtained; a valid one that is held stays. So it is when the server refuses the refresh token while
    /// that token is good: some servers do so until it has ended. A grant that was revoked is refused for good only
    /// after that; until then [`Status::grant`](crate::Status::grant) says
    /// [`Refused`](grantflow::source::GrantStatus::Refused), and `early`.
    pub async fn force_refresh(&self) -> Result<TokenRef, Error> {
        self.slot.force().await
    }

    /// Takes note that a server refused this token (status 401): it is not handed out again, and the next
    /// caller gets another. Nothing happens to a later token than this one, nor to another manager's. Returns whether another may be obtained:
    /// not if one after another is refused so fast that tokens do not seem to be the matter.
    pub fn invalidate(&self, token: &TokenRef) -> bool {
        self.slot.reject(token.issued())
    }

    /// What it holds tokens for.
    pub fn want(&self) -> &Want {
        &self.slot.want
    }

    /// How things are.
    pub fn status(&self) -> Status {
        self.slot.status()
    }

    /// Tells every new token and every failure from now on; a pool's manager, those of the whole pool.
    pub fn subscribe(&self) -> Changes {
        self.handle.0.hub.watchers.subscribe()
    }

    /// What changes as the credential is used: a program that keeps its refresh token must keep the newest.
    pub fn grant_state(&self) -> GrantState {
        self.slot.origin.state()
    }

    /// Puts another credential in place of this one, as after a new sign-in. What is held is forgotten, and
    /// so is what failed, in all wants of this credential.
    pub fn replace(&self, source: impl TokenSource + 'static) {
        self.handle.0.replace(&self.slot.origin, Arc::new(source));
    }

    /// Ends this manager and all its clones: from now on there are no tokens. Waits for a use of a refresh
    /// token that changes with each use, for 5 seconds at the most, and for a store that is to take what it could not take
    /// before, for 10; [`grant_state`](Self::grant_state) then has the newest. Of a pool, one want ends, and the pool goes on.
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
