//! The limit of a run: a deadline, and a handle that ends it from another thread.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use grantflow::{Effect, Error, ErrorKind};

/// The longest single wait, so that no sum of times overflows.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The limit of a run. Without any setting, a run ends with its machine, whose requests have limits of their own.
///
/// ```
/// use grantflow_ureq::{Cancel, Limit};
/// use std::time::Duration;
///
/// let cancel = Cancel::new();
/// let limit = Limit::within(Duration::from_secs(20)).cancel(&cancel);
/// # let _ = limit;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Limit {
    deadline: Option<Instant>,
    cancel: Cancel,
}

impl Limit {
    /// No limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// A limit of this time from now.
    pub fn within(time: Duration) -> Self {
        Self::new().deadline(Instant::now() + time.min(LONGEST))
    }

    /// Sets a deadline. A run that is not done then ends with an error of kind [`ErrorKind::Timeout`].
    pub fn deadline(mut self, moment: Instant) -> Self {
        self.deadline = Some(moment);
        self
    }

    /// Sets a handle that ends the run. A run that is not done then ends with an error of kind
    /// [`ErrorKind::Cancelled`].
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// The error to end with, if it is time. It says what was being done.
    pub(crate) fn over(&self, doing: &str) -> Option<Error> {
        if self.cancel.is_cancelled() {
            return Some(Error::new(ErrorKind::Cancelled, format!("the run was cancelled {doing}")));
        }
        let late = self.left().is_zero();
        late.then(|| Error::new(ErrorKind::Timeout, format!("the deadline of the run has passed {doing}")))
    }

    /// What an effect does, for [`over`](Self::over); nothing for a run that no limit ends.
    pub(crate) fn doing(&self, effect: &Effect) -> String {
        if self.is_none() {
            return String::new();
        }
        match effect {
            Effect::Http(call) => {
                let shown = format!("{call:?}");
                format!("at the request {}", shown.split(" headers").next().unwrap_or_default())
            }
            Effect::Sleep(_) => "in a pause before the next request".to_owned(),
            Effect::Env(name) => format!("before the variable {name} was read"),
            Effect::ReadFile { .. } => "while a file was read".to_owned(),
            Effect::Exec(_) => "while a program ran".to_owned(),
            Effect::Store(_) => "at a step of the store".to_owned(),
            _ => String::new(),
        }
    }

    /// Whether nothing ends the run.
    pub(crate) fn is_none(&self) -> bool {
        self.deadline.is_none() && Arc::strong_count(&self.cancel.0) == 1
    }

    pub(crate) fn left(&self) -> Duration {
        self.deadline.map_or(LONGEST, |moment| moment.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn handle(&self) -> &Cancel {
        &self.cancel
    }

    /// Lets time pass, but no more than is left.
    pub(crate) fn sleep(&self, time: Duration) {
        self.cancel.sleep(time.min(self.left()));
    }
}

/// A handle that ends runs, from any thread. Clones are the same handle; once used, it stays used.
///
/// - A run that waits (a back-off, a `Retry-After`, a browser) ends at once.
/// - A request that is being written or read is cut: its connection is closed. The server may have received it all the
///   same; if it was a refresh whose refresh token the server replaces, the new one is lost.
/// - A name lookup or TCP connect under way cannot be cut. It ends by the connect timeout (10 s by default) or by the
///   request's own, whichever is first.
/// - The result of a machine that is already done is handed out. The content of an answer is still written to the
///   store.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    next: u64,
    /// The requests under way: each has an agent of its own.
    agents: BTreeMap<u64, ureq::Agent>,
}

impl Cancel {
    /// A handle that was not used yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the runs.
    pub fn cancel(&self) {
        let mut state = self.state();
        state.cancelled = true;
        let agents = std::mem::take(&mut state.agents);
        drop(state);
        self.0.wake.notify_all();
        agents.into_values().for_each(ureq::Agent::shutdown);
    }

    /// Whether the handle was used.
    pub fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// Has this agent shut down on cancelling, until the guard is dropped.
    pub(crate) fn guard(&self, agent: &ureq::Agent) -> Guard<'_> {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        if state.cancelled {
            agent.clone().shutdown();
        } else {
            state.agents.insert(id, agent.clone());
        }
        Guard { cancel: self, id }
    }

    /// Lets time pass, unless cancelled.
    pub(crate) fn sleep(&self, time: Duration) {
        let state = self.state();
        // A panic elsewhere does not concern the flag.
        drop(self.0.wake.wait_timeout_while(state, time, |state| !state.cancelled));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish()
    }
}

pub(crate) struct Guard<'a> {
    cancel: &'a Cancel,
    id: u64,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.cancel.state().agents.remove(&self.id);
    }
}
