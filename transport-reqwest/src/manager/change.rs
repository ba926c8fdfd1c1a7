//! Reports on the life of tokens.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use grantflow::cell::Issued;
use grantflow::source::{GrantStatus, Waiting, Want};
use grantflow::{Error, Shown, Timestamp};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::sync::lock;

/// How many changes are kept for a subscriber that is slow.
const KEPT: usize = 64;

pub(super) type Callback = Box<dyn Fn(&Change) + Send + Sync>;
pub(super) type OnWait = Box<dyn Fn(&str, Waiting) + Send + Sync>;

/// A new token, or a failure to get one.
///
/// A refresh that waits is no change: [`on_wait`](crate::ManagerBuilder::on_wait) and
/// [`Status::waiting`](crate::Status::waiting) report that.
#[non_exhaustive]
#[derive(Clone)]
pub struct Change {
    /// The credential's name in its pool; empty if there is no pool.
    pub credential: Arc<str>,
    /// The want of the token.
    pub want: Want,
    /// The outcome of the refresh.
    pub outcome: Result<Arc<Issued>, Error>,
    /// The status of the grant since then: see [`Status::grant`].
    pub grant: GrantStatus,
    /// Why the newest refresh token could not be saved in the store, if so: see [`Status::unsaved`].
    pub unsaved: Option<Error>,
}

/// A name that looks like a secret is not shown.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("credential", &Shown::name(&self.credential))
            .field("want", &self.want)
            .field("outcome", &self.outcome)
            .field("grant", &self.grant)
            .field("unsaved", &self.unsaved)
            .finish()
    }
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

/// The changes of a manager or pool, as they happen: see [`TokenManager::subscribe`](super::TokenManager::subscribe).
pub struct Changes(Option<broadcast::Receiver<Change>>);

impl Changes {
    /// The next change; `None` at the end of the manager. A receiver that falls more than 64 changes behind misses
    /// the oldest.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            match self.0.as_mut()?.recv().await {
                Ok(change) => return Some(change),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => self.0 = None,
            }
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

/// Those who want to know.
pub(super) struct Watchers {
    callback: Option<Callback>,
    on_wait: Option<OnWait>,
    /// Made for the first subscriber.
    channel: Mutex<Channel>,
}

enum Channel {
    None,
    Open(broadcast::Sender<Change>),
    Closed,
}

impl Watchers {
    pub(super) fn new(callback: Option<Callback>, on_wait: Option<OnWait>) -> Self {
        Self { callback, on_wait, channel: Mutex::new(Channel::None) }
    }

    pub(super) fn subscribe(&self) -> Changes {
        let mut channel = lock(&self.channel);
        Changes(match &*channel {
            Channel::Closed => None,
            Channel::Open(sender) => Some(sender.subscribe()),
            Channel::None => {
                let (sender, receiver) = broadcast::channel(KEPT);
                *channel = Channel::Open(sender);
                Some(receiver)
            }
        })
    }

    /// Whether a task does.
    pub(super) fn listen(&self) -> bool {
        self.callback.is_some() || matches!(&*lock(&self.channel), Channel::Open(_))
    }

    pub(super) fn tell_waiting(&self, credential: &str, waiting: Waiting) {
        if let Some(callback) = &self.on_wait {
            let _ = catch_unwind(AssertUnwindSafe(|| callback(credential, waiting)));
        }
    }

    pub(super) fn tell(&self, change: Change) {
        if let Some(callback) = &self.callback {
            // Its panic has been reported by the hook; what it broke is its own.
            let _ = catch_unwind(AssertUnwindSafe(|| callback(&change)));
        }
        if let Channel::Open(sender) = &*lock(&self.channel) {
            // Nobody may be listening any more.
            let _ = sender.send(change);
        }
    }

    pub(super) fn close(&self) {
        *lock(&self.channel) = Channel::Closed;
    }
}
