//! The parts that all wants of a pool, or the one of a manager, have in common.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use grantflow::Error;
use tokio::runtime::{Handle as Runtime, RuntimeFlavor};
use tokio::sync::watch;

use super::background::Timetable;
use super::change::{Callback, OnWait, Watchers};
use crate::{Transport, runtime};

/// How long the end waits for a use of a refresh token that changes with each use.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Options {
    pub(super) margin: Option<Duration>,
    pub(super) background: bool,
    pub(super) max_wants: Option<usize>,
    /// Where refreshes run; by default, where they are asked for.
    pub(super) runtime: Option<Runtime>,
}

pub(super) struct Hub {
    pub(super) transport: Transport,
    pub(super) options: Options,
    pub(super) watchers: Watchers,
    pub(super) timetable: Arc<Timetable>,
    pub(super) rotating: watch::Sender<Uses>,
    closed: AtomicBool,
    salt: AtomicU64,
}

/// How many uses of refresh tokens that change are under way.
#[derive(Default)]
pub(super) struct Uses {
    pub(super) all: usize,
    /// Those that go on while a thread is blocked.
    pub(super) threaded: usize,
}

impl Hub {
    pub(super) fn new(
        transport: &Transport,
        options: Options,
        on_change: Option<Callback>,
        on_wait: Option<OnWait>,
    ) -> Self {
        // A connection lives in the runtime that made it, and another may be the next to ask.
        let transport = transport.unpooled();
        Self {
            timetable: Arc::new(Timetable::new(&transport, options.runtime.clone())),
            transport,
            options,
            watchers: Watchers::new(on_change, on_wait),
            rotating: watch::Sender::default(),
            closed: AtomicBool::new(false),
            // It keeps fleets from refreshing in step; without entropy, they do.
            salt: AtomicU64::new(getrandom::u64().unwrap_or_default()),
        }
    }

    /// A salt that no other cell has.
    pub(super) fn salt(&self) -> u64 {
        self.salt.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    /// Where a refresh is to run.
    pub(super) fn runtime(&self) -> Result<Runtime, Error> {
        self.options.runtime.clone().map_or_else(runtime::current, Ok)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// No more refreshes by themselves.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.timetable.close();
    }

    /// Waits, not for long, until no refresh token that changes is being used.
    pub(super) async fn settled(&self) {
        let mut rotating = self.rotating.subscribe();
        let none = rotating.wait_for(|uses| uses.all == 0);
        let Ok(runtime) = self.runtime() else { return };
        // Without timers, nothing can be waited for.
        let _ = runtime::inside(&runtime, async { Ok(tokio::time::timeout(PATIENCE, none).await.is_ok()) }).await;
    }

    /// As [`settled`](Self::settled), for where nothing can be awaited. What runs on one thread only, and that
    /// may be this one, is not waited for.
    fn settled_blocking(&self) {
        let end = Instant::now() + PATIENCE;
        while self.rotating.borrow().threaded > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// As [`settled`](Self::settled), for the last handle, wherever it is dropped.
    pub(super) fn settled_at_last(&self) {
        if self.rotating.borrow().threaded > 0 {
            blocking(|| self.settled_blocking());
        }
    }
}

/// Waits, wherever this is.
pub(super) fn blocking(wait: impl FnOnce()) {
    match Runtime::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread && tokio::task::try_id().is_some() => {
            if WORKER.get() {
                // What is queued on this thread must go on elsewhere.
                return tokio::task::block_in_place(wait);
            }
            // A task of a `LocalSet`, whose thread has no such queue and must not be left, or a worker that never
            // ran a task of this crate: the next task takes the place that other workers cannot take from.
            runtime.spawn(async {});
            wait();
        }
        // Outside of any task, nothing is queued on this thread.
        _ => wait(),
    }
}

thread_local! {
    /// Whether this thread has run a task of ours in a runtime of several threads, and so is one of its workers.
    static WORKER: Cell<bool> = const { Cell::new(false) };
}

/// To be called at the beginning of each task that is spawned.
pub(super) fn mark_worker() {
    let flavor = Runtime::try_current().map(|runtime| runtime.runtime_flavor());
    if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        WORKER.set(true);
    }
}
