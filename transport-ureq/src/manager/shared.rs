//! What all slots of a manager or pool share: [`Shared`].

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use grantflow::cell::{Issued, TokenCell};
use grantflow::source::{GrantState, GrantStatus, Waiting, Want};
use grantflow::store::Saving;
use grantflow::{Error, Machine, Now, Shown, Token};

use super::sync::{Mutex, lock};
use super::task::{Task, Tend, Timer};
use super::worker::Worker;
use crate::Transport;

thread_local! {
    /// Whether this thread is inside of a callback.
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

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
    /// The outcome of the refresh. The refresh token to keep from now on is in the token
    /// ([`Token::refresh_token`](grantflow::Token::refresh_token)).
    pub outcome: Result<Arc<Issued>, Error>,
    /// The status of the grant since then: see [`Status::grant`](crate::Status::grant).
    pub grant: GrantStatus,
    /// Why the newest refresh token could not be saved in the store, if so: see
    /// [`Status::unsaved`](crate::Status::unsaved).
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

/// The changes of a manager or pool, as they happen: see [`TokenManager::subscribe`](crate::TokenManager::subscribe).
///
/// As an iterator it waits for each change, and ends with the manager.
pub struct Changes(Receiver<Change>);

impl Changes {
    /// The next change, if there is one within this time; zero does not wait.
    pub fn next_within(&mut self, time: Duration) -> Option<Change> {
        self.0.recv_timeout(time).ok()
    }
}

impl Iterator for Changes {
    type Item = Change;
    fn next(&mut self) -> Option<Change> {
        self.0.recv().ok()
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

pub(crate) type Callback = Box<dyn Fn(&Change) + Send + Sync>;
type OnWait = Box<dyn Fn(&str, Waiting) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) transport: Transport,
    pub(crate) settings: Settings,
    listeners: Mutex<Vec<Sender<Change>>>,
    worker: Mutex<Link>,
}

#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) margin: Option<Duration>,
    pub(crate) no_background: bool,
    pub(crate) callbacks: Vec<Callback>,
    pub(crate) on_wait: Vec<OnWait>,
}

enum Link {
    Unused,
    Used(Arc<Worker>),
    Left,
}

impl Shared {
    pub(crate) fn new(transport: &Transport, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            transport: transport.clone(),
            settings,
            listeners: Mutex::default(),
            worker: Mutex::new(Link::Unused),
        })
    }

    /// With a worker of its own.
    #[cfg(test)]
    pub(crate) fn on(worker: &Arc<Worker>) -> Arc<Self> {
        let Ok(transport) = Transport::new() else { panic!("a transport with the defaults") };
        let mut shared = Self::new(&transport, Settings::default());
        if let Some(shared) = Arc::get_mut(&mut shared) {
            shared.worker = Mutex::new(Link::Used(worker.clone()));
        }
        shared
    }

    pub(crate) fn now(&self) -> Now {
        self.transport.now()
    }

    /// An empty cell whose refreshes are spread by a number of its own.
    pub(crate) fn cell(&self) -> TokenCell {
        let cell = TokenCell::new(RandomState::new().hash_one(0));
        match self.settings.margin {
            Some(margin) => cell.margin(margin),
            None => cell,
        }
    }

    pub(crate) fn run(&self, mint: impl Machine<Output = Token>) -> Result<Token, Error> {
        self.transport.run(mint)
    }

    pub(crate) fn save(&self, saving: &mut Saving) -> Result<(), Error> {
        self.transport.run(saving)
    }

    /// Whether refreshes may go on by themselves.
    pub(crate) fn background(&self) -> bool {
        !self.settings.no_background
    }

    /// Does it in the background. If that cannot be, gives it back, perhaps with tasks of other credentials.
    pub(crate) fn later(&self, task: Box<dyn Task>) -> Result<(), Vec<Box<dyn Task>>> {
        match self.worker() {
            Some(worker) => worker.start(task),
            None => Err(vec![task]),
        }
    }

    /// Has it tended after this time, and not when it was to be before.
    pub(crate) fn arm(&self, what: &Arc<impl Tend + 'static>, timer: &mut Timer, time: Duration) {
        if let Some(worker) = self.worker() {
            worker.arm(what, timer, time);
        }
    }

    pub(crate) fn disarm(&self, what: &Arc<impl Tend + 'static>, timer: &mut Timer) {
        if *timer != 0
            && let Some(worker) = self.worker()
        {
            worker.disarm(what, timer);
        }
    }

    /// Tells the observers the outcome of a want of the credential with this name.
    pub(crate) fn tell(
        &self,
        credential: &Arc<str>,
        want: &Want,
        outcome: Result<Arc<Issued>, Error>,
        state: impl FnOnce() -> GrantState,
    ) {
        let mut listeners = lock(&self.listeners);
        if self.settings.callbacks.is_empty() && listeners.is_empty() {
            return;
        }
        let state = state();
        let change = Change {
            credential: credential.clone(),
            want: want.clone(),
            outcome,
            grant: state.status(),
            unsaved: state.save_error().cloned(),
        };
        listeners.retain(|listener| listener.send(change.clone()).is_ok());
        drop(listeners);
        let before = TELLING.replace(true);
        for callback in &self.settings.callbacks {
            // The panic's own message has been shown; nothing here depends on what the callback did.
            let _ = catch_unwind(AssertUnwindSafe(|| callback(&change)));
        }
        TELLING.set(before);
    }

    /// Tells that a mint of the credential with this name begins to wait.
    pub(crate) fn tell_waiting(&self, credential: &str, waiting: Waiting) {
        let before = TELLING.replace(true);
        for callback in &self.settings.on_wait {
            let _ = catch_unwind(AssertUnwindSafe(|| callback(credential, waiting)));
        }
        TELLING.set(before);
    }

    /// Whether this thread is inside of a callback, which must not wait for what waits for it.
    pub(crate) fn is_telling() -> bool {
        TELLING.get()
    }

    /// Every change from now on.
    pub(crate) fn subscribe(&self) -> Changes {
        let (sender, receiver) = channel();
        let mut listeners = lock(&self.listeners);
        if !matches!(*lock(&self.worker), Link::Left) {
            listeners.push(sender);
        }
        Changes(receiver)
    }

    /// Lets go of the worker, and of those who listen.
    pub(crate) fn leave(&self) {
        let link = std::mem::replace(&mut *lock(&self.worker), Link::Left);
        lock(&self.listeners).clear();
        if let Link::Used(worker) = link {
            worker.leave();
        }
    }

    fn worker(&self) -> Option<Arc<Worker>> {
        let mut link = lock(&self.worker);
        if let Link::Unused = *link {
            *link = Link::Used(Worker::current());
        }
        match &*link {
            Link::Used(worker) => Some(worker.clone()),
            _ => None,
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
