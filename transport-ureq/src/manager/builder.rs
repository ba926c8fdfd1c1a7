//! [`ManagerBuilder`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use grantflow::source::{TokenSource, Waiting, Want};

use super::credential::Credential;
use super::pool::TokenPool;
use super::shared::{Change, Settings, Shared};
use super::slot::Slot;
use super::token_manager::TokenManager;
use crate::Transport;

/// The settings of a [`TokenManager`] or a [`TokenPool`].
#[must_use = "build() makes a manager, build_pool() a pool"]
pub struct ManagerBuilder {
    transport: Transport,
    settings: Settings,
    max_wants: Option<usize>,
}

impl TokenManager {
    /// A manager with the defaults. No request is sent yet, and no thread started.
    pub fn new(transport: &Transport, source: impl TokenSource + 'static, want: Want) -> Self {
        Self::builder(transport).build(source, want)
    }

    /// The settings of a manager or a pool, to be built.
    pub fn builder(transport: &Transport) -> ManagerBuilder {
        ManagerBuilder::new(transport)
    }
}

impl TokenPool {
    /// A pool with the defaults, without credentials.
    pub fn new(transport: &Transport) -> Self {
        TokenManager::builder(transport).build_pool()
    }
}

impl ManagerBuilder {
    pub(crate) fn new(transport: &Transport) -> Self {
        Self { transport: transport.clone(), settings: Settings::default(), max_wants: None }
    }

    /// Sets how long before its end a token is due, which is never before half of its life. By default it is a quarter
    /// of its life, and at most 5 minutes. A source that knows better decides.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.settings.margin = Some(margin);
        self
    }

    /// Sets whether tokens are refreshed in the background; they are by default.
    ///
    /// One thread for all managers of the process sleeps until a token is due that was asked for since it was fetched;
    /// a token that no caller uses expires by itself. The thread starts with the first such token and ends with the
    /// last manager. A refresh has a thread for as long as it takes, and 8 run at a time: so many servers have to be
    /// slow at once before a refresh waits for another credential's. A clock that is set, and a suspend, are noticed
    /// within half a minute.
    ///
    /// Without it there are no threads: the first caller that asks for a token that is due refreshes it on the spot,
    /// while all others get the one that is there.
    pub fn background_refresh(mut self, on: bool) -> Self {
        self.settings.no_background = !on;
        self
    }

    /// Calls this function with every new token and every failure, on the thread that fetched it; other callers that
    /// waited for the token do not wait for this. It should be quick, and may panic. May be given several times.
    pub fn on_change(mut self, callback: impl Fn(&Change) + Send + Sync + 'static) -> Self {
        self.settings.callbacks.push(Box::new(callback));
        self
    }

    /// Calls this function when a refresh begins to wait for another process, as it may for half a minute if that
    /// process died while it refreshed. The arguments are the credential's name in its pool, which is empty without a
    /// pool, and what the refresh waits for. It should be quick: it runs on the thread of the refresh.
    /// [`Status::waiting`](crate::Status::waiting) says so too.
    pub fn on_wait(mut self, callback: impl Fn(&str, Waiting) + Send + Sync + 'static) -> Self {
        self.settings.on_wait.push(Box::new(callback));
        self
    }

    /// Sets the most wants that a pool holds, at least one; a manager has just one. When there are more, one that no
    /// caller asked for in a long time is forgotten, the oldest of each few, but none that has a [`TokenManager`]. The
    /// cost of that does not grow with the pool.
    pub fn max_wants(mut self, most: usize) -> Self {
        self.max_wants = Some(most.max(1));
        self
    }

    /// A manager of one want. No request is sent yet.
    pub fn build(self, source: impl TokenSource + 'static, want: Want) -> TokenManager {
        let shared = Shared::new(&self.transport, self.settings);
        let credential = Credential::new(&shared, "".into(), Arc::new(source));
        TokenManager::alone(shared, Slot::new(&credential, want))
    }

    /// A pool without credentials.
    pub fn build_pool(self) -> TokenPool {
        TokenPool::made(Shared::new(&self.transport, self.settings), self.max_wants)
    }
}

impl fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerBuilder").finish_non_exhaustive()
    }
}
