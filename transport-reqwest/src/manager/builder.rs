//! The settings of managers and pools.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use grantflow::source::{TokenSource, Waiting, Want};

use tokio::runtime::Handle;

use super::change::{Callback, Change, OnWait};
use super::hub::{Hub, Options};
use super::pool::TokenPool;
use super::token_manager::TokenManager;
use crate::Transport;

/// The settings of a [`TokenManager`] or a [`TokenPool`].
#[must_use = "build() makes the manager, build_pool() a pool"]
pub struct ManagerBuilder {
    transport: Transport,
    options: Options,
    on_change: Option<Callback>,
    on_wait: Option<OnWait>,
}

impl TokenManager {
    /// A manager with the defaults. No request is sent before the first token is asked for.
    pub fn new(transport: &Transport, source: impl TokenSource + 'static, want: Want) -> Self {
        Self::builder(transport).build(source, want)
    }

    /// The settings of a manager or a pool, to be built.
    pub fn builder(transport: &Transport) -> ManagerBuilder {
        ManagerBuilder::new(transport)
    }
}

impl TokenPool {
    /// A pool with the defaults, without bounds.
    pub fn new(transport: &Transport) -> Self {
        ManagerBuilder::new(transport).build_pool()
    }
}

impl ManagerBuilder {
    pub(super) fn new(transport: &Transport) -> Self {
        let options = Options { margin: None, background: true, max_wants: None, runtime: None };
        Self { transport: transport.clone(), options, on_change: None, on_wait: None }
    }

    /// Sets how long before its end a token is due, which is never before half of its life. By default it is a quarter
    /// of its life, and at most 5 minutes. A source that knows better decides.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.options.margin = Some(margin);
        self
    }

    /// Sets whether tokens that are in use are refreshed before a caller asks for them; they are by default. A token
    /// that no caller asked for since it was fetched is left to expire.
    pub fn background_refresh(mut self, on: bool) -> Self {
        self.options.background = on;
        self
    }

    /// Calls this function with every new token and every failure, after it has come into effect. It should be quick:
    /// it runs on the task of the refresh. It may panic.
    pub fn on_change(mut self, callback: impl Fn(&Change) + Send + Sync + 'static) -> Self {
        self.on_change = Some(Box::new(callback));
        self
    }

    /// Calls this function when a refresh begins to wait for another process, as it may for half a minute if that
    /// process died while it refreshed. The arguments are the credential's name in its pool, which is empty without a
    /// pool, and what the refresh waits for. It should be quick: it runs on the task of the refresh.
    /// [`Status::waiting`](crate::Status::waiting) says so too.
    pub fn on_wait(mut self, callback: impl Fn(&str, Waiting) + Send + Sync + 'static) -> Self {
        self.on_wait = Some(Box::new(callback));
        self
    }

    /// Sets the most wants that a pool holds, at least one. When there are more, one that was not used in a long time
    /// is forgotten, the oldest of each few. A want that a manager holds, or that a caller waits for, is kept. The cost
    /// of that does not grow with the pool.
    pub fn max_wants(mut self, max: usize) -> Self {
        self.options.max_wants = Some(max.max(1));
        self
    }

    /// Runs refreshes in this runtime, which must be driven as long as the manager is in use: a runtime of several
    /// threads is. By default each refresh runs in the runtime of the caller that asked for it. A program that makes a
    /// runtime for each call, or one for each thread, gives one here that lasts; callers then need none of their own.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.options.runtime = Some(runtime);
        self
    }

    /// A manager of one want of one credential.
    pub fn build(self, source: impl TokenSource + 'static, want: Want) -> TokenManager {
        TokenManager::alone(self.hub(), Arc::new(source), want)
    }

    /// A pool without credentials.
    pub fn build_pool(self) -> TokenPool {
        TokenPool::of(self.hub())
    }

    fn hub(self) -> Hub {
        Hub::new(&self.transport, self.options, self.on_change, self.on_wait)
    }
}

impl fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerBuilder").field("options", &self.options).finish_non_exhaustive()
    }
}
