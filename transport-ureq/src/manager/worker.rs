//! The background of all managers of a process: [`Worker`].
//!
//! One thread sleeps until the next token is due. What is to be refreshed goes to threads that live only as
//! long as there is something to do, a few at a time, so that one slow server holds up none but its own.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use grantflow::Timestamp;

use super::sync::{lock, wait};
use super::task::{Task, Tend, Timer};
use crate::transport::wall;

/// How many refreshes run in the background at the same time.
const HELPERS: usize = 8;
/// The longest sleep: a wall clock that was set, or a suspend, is noticed so much later at the latest.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// By how much the wall clock may gain on the other without having been set.
const STEP: i64 = 100;

static CURRENT: Mutex<Weak<Worker>> = Mutex::new(Weak::new());

/// The timer and the threads that refresh. It ends with its last owner.
pub(crate) struct Worker {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    desk: Mutex<Desk>,
    wake: Condvar,
    /// Begins a thread, or says that none can be started.
    spawn: fn(&'static str, Body) -> io::Result<JoinHandle<()>>,
}

type Body = Box<dyn FnOnce() + Send>;

fn spawn(name: &'static str, body: Body) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(body)
}

struct Desk {
    ended: bool,
    clock: Clock,
    timers: BTreeSet<Entry>,
    tasks: VecDeque<Box<dyn Task>>,
    helpers: usize,
}

/// What is to be tended. By time, and by its address, which is nobody else's while this is here.
struct Entry {
    timer: Timer,
    what: Weak<dyn Tend>,
}

impl Entry {
    fn new(timer: Timer, what: &Arc<impl Tend + 'static>) -> Self {
        Self { timer, what: Arc::downgrade(what) as Weak<dyn Tend> }
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        let address = |entry: &Self| entry.what.as_ptr().cast::<()>();
        self.timer.cmp(&other.timer).then_with(|| address(self).cmp(&address(other)))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl Worker {
    /// The one of this process, made now if there is none.
    pub(crate) fn current() -> Arc<Self> {
        let mut current = lock(&CURRENT);
        if let Some(worker) = current.upgrade() {
            return worker;
        }
        let worker = Arc::new(Self::with(spawn));
        *current = Arc::downgrade(&worker);
        worker
    }

    fn with(spawn: fn(&'static str, Body) -> io::Result<JoinHandle<()>>) -> Self {
        let desk = Desk {
            ended: false,
            clock: Clock::new(wall(), Instant::now()),
            timers: BTreeSet::new(),
            tasks: VecDeque::new(),
            helpers: 0,
        };
        let inner = Arc::new(Inner { desk: Mutex::new(desk), wake: Condvar::new(), spawn });
        Self { inner, thread: Mutex::new(None) }
    }

    /// Gives up a share of it. The last one waits until the thread is gone, which must not be done under a
    /// lock that the thread may want.
    pub(crate) fn leave(self: Arc<Self>) {
        let Some(mut last) = Arc::into_inner(self) else { return };
        let thread = last.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        drop(last);
        // What the thread tended may have been the last to own a source that has a manager of its own.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }

    /// Sets or moves a timer.
    pub(crate) fn arm(&self, what: &Arc<impl Tend + 'static>, timer: &mut Timer, time: Duration) {
        let mut desk = lock(&self.inner.desk);
        desk.timers.remove(&Entry::new(*timer, what));
        // A part of a millisecond is a whole one: too early is for nothing.
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        *timer = desk.clock.tick(wall(), Instant::now()).saturating_add(millis);
        let entry = Entry::new(*timer, what);
        let first = desk.timers.first().is_none_or(|first| entry < *first);
        desk.timers.insert(entry);
        drop(desk);
        if first {
            self.inner.wake.notify_all();
        }
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            let inner = self.inner.clone();
            // Without a thread, tokens are refreshed when they are asked for; the next timer tries again.
            *thread = (self.inner.spawn)("grantflow-timer", Box::new(move || inner.tend())).ok();
        }
    }

    pub(crate) fn disarm(&self, what: &Arc<impl Tend + 'static>, timer: &mut Timer) {
        lock(&self.inner.desk).timers.remove(&Entry::new(std::mem::take(timer), what));
    }

    /// Has a task done. Where there is no thread for it, all that wait are given back: others' too, whose own threads
    /// could not be started in the same moment, and who went on in the belief that this one's was.
    pub(crate) fn start(&self, task: Box<dyn Task>) -> Result<(), Vec<Box<dyn Task>>> {
        let mut desk = lock(&self.inner.desk);
        desk.tasks.push_back(task);
        if desk.helpers == HELPERS {
            return Ok(());
        }
        desk.helpers += 1;
        drop(desk);
        let inner = self.inner.clone();
        if (self.inner.spawn)("grantflow-mint", Box::new(move || inner.help())).is_ok() {
            return Ok(());
        }
        let mut desk = lock(&self.inner.desk);
        desk.helpers -= 1;
        // A helper that is there, or about to be, does them; the last who fails gives them back.
        match desk.helpers {
            0 if !desk.tasks.is_empty() => Err(desk.tasks.drain(..).collect()),
            _ => Ok(()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        lock(&self.inner.desk).ended = true;
        self.inner.wake.notify_all();
    }
}

impl Inner {
    /// Tends one after the other, each at its time.
    fn tend(&self) {
        let mut desk = lock(&self.desk);
        while !desk.ended {
            let now = desk.clock.tick(wall(), Instant::now());
            if std::mem::take(&mut desk.clock.set_back) {
                let all: Vec<_> = desk.timers.iter().filter_map(|entry| entry.what.upgrade()).collect();
                drop(desk);
                all.into_iter().for_each(Tend::look_again);
                desk = lock(&self.desk);
                continue;
            }
            let next = desk.timers.first().map(|entry| entry.timer);
            desk = match next {
                None => wait(&self.wake, desk),
                Some(timer) if timer > now => {
                    let sleep = Duration::from_millis(timer - now).min(LONGEST_SLEEP);
                    self.wake.wait_timeout(desk, sleep).unwrap_or_else(PoisonError::into_inner).0
                }
                Some(timer) => {
                    let what = desk.timers.pop_first().and_then(|entry| entry.what.upgrade());
                    drop(desk);
                    if let Some(what) = what {
                        what.tend(timer);
                    }
                    lock(&self.desk)
                }
            };
        }
    }

    /// Does tasks as long as there are some.
    fn help(&self) {
        loop {
            let mut desk = lock(&self.desk);
            let Some(task) = desk.tasks.pop_front() else {
                desk.helpers -= 1;
                return;
            };
            drop(desk);
            let _ = catch_unwind(AssertUnwindSafe(|| task.run()));
        }
    }
}

/// Milliseconds that go on as both clocks do: whichever of them gains, this one does. So it goes on while the
/// machine is suspended, and never back.
struct Clock {
    wall: Timestamp,
    mono: Instant,
    time: u64,
    /// Whether the wall clock was set back since this was looked at.
    set_back: bool,
}

impl Clock {
    fn new(wall: Timestamp, mono: Instant) -> Self {
        Self { wall, mono, time: 1, set_back: false }
    }

    fn tick(&mut self, wall: Timestamp, mono: Instant) -> u64 {
        let millis = mono.saturating_duration_since(self.mono).as_millis();
        let passed = u64::try_from(millis).unwrap_or(u64::MAX);
        let shown = wall.as_unix_millis().saturating_sub(self.wall.as_unix_millis());
        let gained = shown.saturating_sub_unsigned(passed);
        if passed == 0 && gained <= STEP {
            return self.time;
        }
        self.time = self.time.saturating_add(passed);
        if gained > STEP {
            self.time = self.time.saturating_add(gained.unsigned_abs());
        }
        self.set_back |= gained < -STEP;
        // What is left of a millisecond counts at the next tick.
        (self.wall, self.mono) = (wall, self.mono + Duration::from_millis(passed));
        self.time
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::sync::mpsc::channel;
    use std::sync::{Barrier, LazyLock};

    use grantflow::Token;
    use grantflow::source::{Credential as Source, GrantState, Mint, TokenSource, Want};

    use super::*;
    use crate::manager::credential::Credential;
    use crate::manager::shared::Shared;
    use crate::manager::slot::Slot;

    /// A source whose mints take turns.
    struct InTurns(Source);

    impl TokenSource for InTurns {
        fn mint(&self, want: &Want, state: &GrantState) -> Mint {
            self.0.mint(want, state)
        }
        fn may_change(&self, _: &GrantState) -> bool {
            true
        }
    }

    static NO_THREADS: AtomicBool = AtomicBool::new(false);
    /// Both are refused in the same moment.
    static REFUSED: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));

    fn refusing(name: &'static str, body: Body) -> io::Result<JoinHandle<()>> {
        if name == "grantflow-mint" && !NO_THREADS.load(SeqCst) {
            return spawn(name, body);
        }
        if name == "grantflow-mint" {
            REFUSED.wait();
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn a_moment_without_threads_strands_no_task_and_no_credential() {
        let worker = Arc::new(Worker::with(refusing));
        let shared = Shared::on(&worker);
        let now = wall();
        let due = Token::bearer("t", now, Some(now + Duration::from_secs(3600))).unwrap();
        let due = due.with_refresh_after(now + Duration::from_millis(1));
        let slots = [(); 2].map(|()| {
            let source = InTurns(Source::fixed(due.clone()));
            Slot::new(&Credential::new(&shared, "".into(), Arc::new(source)), Want::default())
        });
        let in_time = |what: &str, act: fn(&Arc<Slot>)| {
            let (done, wait) = channel();
            for slot in slots.clone() {
                let done = done.clone();
                thread::spawn(move || {
                    act(&slot);
                    done.send(()).unwrap();
                });
            }
            slots.iter().for_each(|_| wait.recv_timeout(Duration::from_secs(5)).expect(what));
        };
        for _ in 0..3 {
            in_time("there are threads", |slot| drop(slot.force().unwrap()));
            NO_THREADS.store(true, SeqCst);
            in_time("nobody waits for the background", |slot| slot.refresh_behind());
            NO_THREADS.store(false, SeqCst);
            assert!(lock(&worker.inner.desk).tasks.is_empty(), "a task is stranded");
            in_time("each credential is free again", |slot| drop(slot.force().unwrap()));
        }
    }

    #[test]
    fn the_clock_goes_on_as_the_one_that_gains_does() {
        let start = Instant::now();
        let at = |wall, mono| (Timestamp::from_unix_millis(wall), start + Duration::from_micros(mono));
        let (wall, mono) = at(0, 0);
        let mut clock = Clock::new(wall, mono);
        for (what, wall, mono, time) in [
            ("nothing", 0, 0, 1),
            ("half a millisecond", 0, 500, 1),
            ("the other half", 1, 1_000, 2),
            ("ten seconds", 10_001, 10_001_000, 10_002),
            ("a suspend of an hour", 3_610_002, 10_002_000, 3_610_003),
            ("the clock is set back", 1_000, 10_003_000, 3_610_004),
            ("a suspend of a minute after that", 61_001, 10_004_000, 3_670_005),
            ("the clock is slewed a little", 61_052, 10_005_000, 3_670_006),
        ] {
            let (wall, mono) = at(wall, mono);
            assert_eq!(clock.tick(wall, mono), time, "{what}");
            assert_eq!(std::mem::take(&mut clock.set_back), what == "the clock is set back", "{what}");
        }
    }
}
