//! The times at which wants are due, and the one task that refreshes them.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use grantflow::Now;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::sync::lock;
use crate::{Transport, runtime};

/// The longest sleep. A jump of the wall clock, or a suspend, is noticed then.
const LOOK: Duration = Duration::from_secs(30);
/// By how many milliseconds one clock must leave the other to count as a jump.
const JUMP: u64 = 1000;

/// By how much later than it should the task may wake, before its runtime counts as one that nobody drives.
const LATE: Duration = Duration::from_secs(5);

/// What is looked after at its time.
pub(super) trait Tend: Send + Sync {
    /// Its turn, which was at `at`.
    fn tend(self: Arc<Self>, at: At);
    /// A clock was set.
    fn look_again(self: Arc<Self>);
}

/// The wants that wait to be refreshed, each at most once. The task runs only while there are any.
pub(super) struct Timetable {
    transport: Transport,
    runtime: Option<Handle>,
    inner: Mutex<Inner>,
    sooner: Notify,
}

#[derive(Default)]
struct Inner {
    /// By the monotonic clock.
    entries: BTreeMap<At, Weak<dyn Tend>>,
    task: Option<AbortHandle>,
    /// When the task is awake again, if a thread drives it.
    awake: Duration,
    closed: bool,
}

/// A moment of the monotonic clock in nanoseconds, rounded up. No two entries have the same.
pub(super) type At = NonZeroU64;

fn nanos(time: Duration) -> At {
    At::MIN.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

impl Timetable {
    /// An empty one, whose task runs in this runtime, or in that of the caller that sets a time.
    pub(super) fn new(transport: &Transport, runtime: Option<Handle>) -> Self {
        Self { transport: transport.clone(), runtime, inner: Mutex::default(), sooner: Notify::new() }
    }

    /// Moves a slot, whose place is `place`, to the moment `at`.
    pub(super) fn set(self: &Arc<Self>, slot: &Arc<impl Tend + 'static>, place: &mut Option<At>, at: Option<Duration>) {
        self.remove(place);
        let now = self.transport.now().mono;
        let mut inner = lock(&self.inner);
        let Some(mut at) = at.map(nanos).filter(|at| *at < At::MAX && !inner.closed) else { return };
        while inner.entries.contains_key(&at) {
            at = at.saturating_add(1);
        }
        *place = Some(at);
        let slot = Arc::downgrade(slot) as Weak<dyn Tend>;
        inner.entries.insert(at, slot);
        let late = now > inner.awake.saturating_add(LATE);
        if let Some(task) = inner.task.take_if(|task| late || task.is_finished()) {
            task.abort();
        }
        if inner.task.is_none() {
            let runtime = self.runtime.clone().or_else(|| runtime::current().ok());
            inner.awake = now;
            // In a runtime that is shutting down, it ends at once, and the next `set` tries again.
            inner.task = runtime.map(|runtime| runtime.spawn(run(self.clone())).abort_handle());
        } else if inner.entries.first_key_value().is_some_and(|(first, _)| *first == at) {
            self.sooner.notify_one();
        }
    }

    /// Takes out the slot whose place this is.
    pub(super) fn remove(&self, place: &mut Option<At>) {
        if let Some(at) = place.take() {
            lock(&self.inner).entries.remove(&at);
        }
    }

    /// Ends the task.
    pub(super) fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        inner.entries.clear();
        if let Some(task) = inner.task.take() {
            task.abort();
        }
    }

    /// How long until the next is due; `None` if there is none, which ends the task.
    fn wait(&self, now: Duration) -> Option<Duration> {
        let mut inner = lock(&self.inner);
        let Some((first, _)) = inner.entries.first_key_value() else {
            inner.task = None;
            return None;
        };
        let wait = Duration::from_nanos(first.get()).saturating_sub(now).min(LOOK);
        inner.awake = now.saturating_add(wait);
        Some(wait)
    }

    /// Takes out what is due.
    fn due(&self, now: Duration) -> Vec<(At, Weak<dyn Tend>)> {
        let (mut inner, now) = (lock(&self.inner), nanos(now));
        std::iter::from_fn(|| inner.entries.first_entry().filter(|first| *first.key() < now)?.remove_entry().into())
            .collect()
    }

    fn all(&self) -> Vec<Arc<dyn Tend>> {
        lock(&self.inner).entries.values().filter_map(Weak::upgrade).collect()
    }
}

/// The task.
async fn run(table: Arc<Timetable>) {
    let mut ahead = wall_ahead(table.transport.now());
    while let Some(wait) = table.wait(table.transport.now().mono) {
        // Either is a reason to look.
        let look = async { Ok(tokio::time::timeout(wait, table.sooner.notified()).await.is_ok()) };
        if runtime::within(look).await.is_err() {
            return;
        }
        let now = table.transport.now();
        if wall_ahead(now).abs_diff(ahead) > JUMP {
            ahead = wall_ahead(now);
            table.all().into_iter().for_each(Tend::look_again);
        }
        for (at, slot) in table.due(now.mono) {
            if let Some(slot) = slot.upgrade() {
                slot.tend(at);
            }
        }
    }
}

/// How far the wall clock is ahead of the monotonic one, in milliseconds.
fn wall_ahead(now: Now) -> i64 {
    now.wall.as_unix_millis().saturating_sub(i64::try_from(now.mono.as_millis()).unwrap_or(i64::MAX))
}
