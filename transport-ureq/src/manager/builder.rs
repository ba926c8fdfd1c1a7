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

/// Configures a [`TokenManager`] or a [`TokenPool`].
#[must_use = "build() makes a manager, build_pool() a pool"]
pub struct ManagerBuilder {
    transport: Transport,
    settings: Settings,
    max_wants: Option<usize>,
}

impl TokenManager {
    /// A manager with the defaults. Nothing is fetched yet, and no thread started.
    pub fn new(transport: &Transport, source: impl TokenSource + 'static, want: Want) -> Self {
        Self::builder(transport).build(source, want)
    }

    /// A manager, or a pool, to be configured.
    pub fn builder(transport: &Transport) -> ManagerBuilder {
        ManagerBuilder::new(transport)
    }
}

impl TokenPool {
    /// A pool with the defaults, without credentials yet.
    pub fn new(transport: &Transport) -> Self {
        TokenManager::builder(transport).build_pool()
    }
}

impl ManagerBuilder {
    pub(crate) fn new(transport: &Transport) -> Self {
        Self { transport: transport.clone(), settings: Settings::default(), max_wants: None }
    }

    /// Makes tokens due this long before they end, but never before half of their life. By default it is a
    /// quarter of their life, and 5 minutes at the most. Where a source knows better, it is left to it.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.settings.margin = Some(margin);
        self
    }

    /// Whether tokens are refreshed in the background; they are by default.
    ///
    /// One thread for all managers of the process sleeps until a token is due that was asked for again since it
    /// was fetched; what nobody uses ends by itself. It starts with the first such token and ends with the last
    /// manager. A refresh gets a thread as long as it takes, 8 of them at a time: so many servers have to be
    /// slow at once before a refresh waits for another credential's. A clock that is set, and a suspend, are
    /// noticed within half a minute.
    ///
    /// Without it there are no threads: the first who asks for a token that is due refreshes it on the spot,
    /// while all others get the one that is there.
    pub fn background_refresh(mut self, on: bool) -> Self {
        self.settings.no_background = !on;
        self
    }

    /// Calls this with every new token and every failure, on the thread that fetched it; who else waited for
    /// the token does not wait for this. It should be quick, and may panic. May be given several times.
    pub fn on_change(mut self, callback: impl Fn(&Change) + Send + Sync + 'static) -> Self {
        self.settings.callbacks.push(Box::new(callback));
        self
    }

    /// Calls this when a refresh begins to wait for another process, as it may for half a minute where one has died while
    /// it refreshed: with the credential's name in its pool, which is empty if there is no pool, and what is waited for.
    /// It should be quick: it runs on the thread of the refresh. [`Status::waiting`](crate::Status::waiting) has it too.
    pub fn on_wait(mut self, callback: impl Fn(&str, Waiting) + Send + Sync + 'static) -> Self {
        self.settings.on_wait.push(Box::new(callback));
        self
    }

    /// The most wants that a pool holds, one at least; a manager has just one. When there are more, one that
    /// nobody asked for in a long time is forgotten, the oldest of each few, but none that a [`TokenManager`] stands for.
    /// What that costs does not grow with the pool.
    pub fn max_wants(mut self, most: usize) -> Self {
        self.max_wants = Some(most.max(1));
        self
    }

    /// A manager of one want. Nothing is fetched yet.
    pub fn build(self, source: impl TokenSource + 'static, want: Want) -> TokenManager {
        let shared = Shared::new(&self.transport, self.settings);
        let credential = Credential::new(&shared, "".into(), Arc::new(source));
        TokenManager::alone(shared, Slot::new(&credential, want))
    }

    /// A pool without credentials yet.
    pub fn build_pool(self) -> TokenPool {
        TokenPool::made(Shared::new(&self.transport, self.settings), self.max_wants)
    }
}

impl fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerBuilder").finish_non_exhaustive()
    }
}
