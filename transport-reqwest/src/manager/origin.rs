//! A credential in use, and the turns of those that mint with it.
//!
//! ```text
//! Flight: Queued ─▶ Given (its turn waits for it) ─▶ Minting ─▶ Over
//!            └────────────┴───── nobody drives it ──────┴─────▶ Over
//! ```
//!
//! Each flight runs in the runtime of the caller that asked for it, and that may be one that nobody drives any more. So each
//! shows that it is alive, and a waiter for one that is not leaves it behind: at once, as long as it has not begun
//! or may be repeated; else only when nothing of it can reach the server any more, as a use that nobody knows the
//! outcome of.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use grantflow::cell::Ticket;
use grantflow::machine::Repeat;
use grantflow::source::{
    Change, Grant, GrantState, Held, Mint, Minting as _, Outcome, TokenSource, Turn, Waiting, Want,
};
use grantflow::{Cx, Effect, Error, ErrorKind, Machine, Now, Reply, Step, Token};
use tokio::sync::Notify;

use super::background::At;
use super::hub::Hub;
use super::sync::lock;

/// How long a task may take to be polled for the first time, where a thread drives its runtime.
const FIRST: Duration = Duration::from_secs(1);
/// How long it may go without a beat.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a step of the store, or a file, may take.
const STEP: Duration = Duration::from_secs(60);

impl Drop for Origin {
    fn drop(&mut self) {
        let mut save_at = lock(&self.line).save_at.take();
        self.hub.timetable.remove(&mut save_at);
    }
}

/// A credential in use.
pub(super) struct Origin {
    pub(super) name: Arc<str>,
    pub(super) hub: Arc<Hub>,
    line: Mutex<Line>,
}

pub(super) struct Line {
    pub(super) grant: Grant<Arc<Flying>>,
    /// Whose turn it is, if all others wait for its end.
    holder: Weak<Flying>,
    /// The turn of a save under way, and since when, on the monotonic clock.
    pub(super) saving: Option<(Turn<()>, Duration)>,
    /// Where the next save stands in the timetable.
    pub(super) save_at: Option<At>,
}

impl Origin {
    pub(super) fn new(hub: Arc<Hub>, name: Arc<str>, source: Arc<dyn TokenSource>) -> Arc<Self> {
        let line = Line { grant: Grant::new(source), holder: Weak::new(), saving: None, save_at: None };
        let origin = Arc::new(Self { name, hub, line: Mutex::new(line) });
        origin.save_later(&mut origin.line());
        origin
    }

    pub(super) fn state(&self) -> GrantState {
        self.line().grant.state().clone()
    }

    pub(super) fn state_and_waiting(&self) -> (GrantState, Option<Waiting>) {
        let line = self.line();
        (line.grant.state().clone(), line.grant.waiting())
    }

    pub(super) fn replace(self: &Arc<Self>, source: Arc<dyn TokenSource>) {
        let mut line = self.line();
        line.grant.replace(source);
        self.save_later(&mut line);
    }

    /// The token that it came with, if this want is for that and no other has it.
    pub(super) fn take_first(&self, want: &Want) -> Option<Token> {
        self.line().grant.take_first(want, self.now())
    }

    /// Says whose error it is, where there are many.
    pub(super) fn named(&self, error: Error) -> Error {
        if self.name.is_empty() {
            error
        } else {
            error.within(format_args!("credential {:?}", grantflow::Shown::name(&self.name)))
        }
    }

    /// Puts a flight in line. When its turn has come, the flight finds it.
    pub(super) fn begin(&self, flying: &Arc<Flying>) {
        let mut line = self.line();
        let turn = line.grant.begin(flying.clone());
        self.give(&mut line, turn);
    }

    /// The machine of a flight whose turn it is, and whether it must not be torn off: a new refresh token would be lost.
    fn mint(&self, turn: &mut Turn<()>, want: &Want, held: Held) -> (bool, Result<Mint, Error>) {
        let line = self.line();
        (line.grant.is_delicate(), line.grant.mint(turn, want, self.now(), held))
    }

    /// Ends a turn, and gives the next one to the first in the queue who still wants it.
    fn finish(self: &Arc<Self>, turn: Turn<()>, change: Change, outcome: Outcome<'_>) {
        self.end(&mut self.line(), turn, change, outcome);
    }

    pub(super) fn end(self: &Arc<Self>, line: &mut Line, turn: Turn<()>, change: Change, outcome: Outcome<'_>) {
        let next = line.grant.finish(turn, self.now(), change, outcome);
        self.give(line, next);
        self.save_later(line);
    }

    fn give(&self, line: &mut Line, mut next: Option<Turn<Arc<Flying>>>) {
        while let Some(turn) = next.take() {
            let (flying, turn) = turn.split();
            let holder = turn.is_exclusive().then(|| Arc::downgrade(&flying));
            match flying.put(turn) {
                Ok(()) => {
                    line.holder = holder.unwrap_or_else(|| std::mem::take(&mut line.holder));
                    next = line.grant.next_turn();
                }
                Err(turn) => {
                    next = line.grant.finish(turn, self.now(), Change::default(), Outcome::Failed(&mut unused()));
                }
            }
        }
    }

    /// Tells what a mint waits for from now on.
    fn wait_for(&self, waiting: Option<Waiting>) {
        self.line().grant.wait_for(waiting);
        if let Some(waiting) = waiting {
            self.hub.watchers.tell_waiting(&self.name, waiting);
        }
    }

    /// Sees to it that nobody waits for a turn that nobody takes, or that does not end.
    pub(super) fn relieve(self: &Arc<Self>) {
        self.relieve_saving();
        let holder = self.line().holder.upgrade();
        if let Some(holder) = holder.filter(|holder| holder.is_left(self.now())) {
            self.leave_behind(&holder);
        }
    }

    /// Leaves a flight behind that nobody drives, and gives its turn to the next. `false` if that must not be yet.
    pub(super) fn leave_behind(&self, flying: &Arc<Flying>) -> bool {
        let now = self.now();
        let mut line = self.line();
        let mut place = lock(&flying.place);
        let next = match std::mem::replace(&mut *place, Place::Over) {
            Place::Queued | Place::Over => None,
            Place::Given(turn) => line.grant.finish(turn, now, Change::default(), Outcome::Failed(&mut unused())),
            Place::Minting { delicate: true, .. } if !flying.is_past(now) => {
                *place = Place::Minting { delicate: true, exclusive: true };
                return false;
            }
            Place::Minting { exclusive: false, .. } => None,
            Place::Minting { exclusive: true, .. } if !std::ptr::eq(line.holder.as_ptr(), Arc::as_ptr(flying)) => None,
            Place::Minting { exclusive: true, .. } => line.grant.overtake(now),
        };
        drop(place);
        self.give(&mut line, next);
        true
    }

    pub(super) fn line(&self) -> MutexGuard<'_, Line> {
        lock(&self.line)
    }

    pub(super) fn now(&self) -> Now {
        self.hub.transport.now()
    }
}

/// Why a turn ended that nobody used: nothing was sent.
fn unused() -> Error {
    Error::new(ErrorKind::Cancelled, "the refresh did not begin")
}

/// One refresh, as all see it who wait for it.
pub(super) struct Flying {
    /// Taken by the task that ends the flight: its task, or one that leaves it behind.
    ticket: Mutex<Option<Ticket>>,
    place: Mutex<Place>,
    /// It has its turn.
    given: Notify,
    /// Whether its task was polled.
    begun: AtomicBool,
    /// When it last showed that it is alive, in milliseconds of the monotonic clock.
    beat: AtomicU64,
    /// When the step under way is over whatever comes of it, on the same clock.
    over: AtomicU64,
}

/// Where a flight stands.
enum Place {
    Queued,
    Given(Turn<()>),
    Minting { delicate: bool, exclusive: bool },
    Over,
}

impl Flying {
    pub(super) fn new(ticket: Ticket, now: Now) -> Arc<Self> {
        Arc::new(Self {
            ticket: Mutex::new(Some(ticket)),
            place: Mutex::new(Place::Queued),
            given: Notify::new(),
            begun: AtomicBool::new(false),
            beat: AtomicU64::new(millis(now.mono)),
            over: AtomicU64::new(0),
        })
    }

    /// Its task's first poll. `false` if it was left behind before.
    pub(super) fn begin(&self, now: Now) -> bool {
        let ticket = lock(&self.ticket);
        self.beat(now);
        self.begun.store(true, Ordering::Relaxed);
        ticket.is_some()
    }

    pub(super) fn beat(&self, now: Now) {
        self.beat.store(millis(now.mono), Ordering::Relaxed);
    }

    /// Whether nobody seems to drive it.
    pub(super) fn is_left(&self, now: Now) -> bool {
        let limit = if self.begun.load(Ordering::Relaxed) { SILENCE } else { FIRST };
        millis(now.mono).saturating_sub(self.beat.load(Ordering::Relaxed)) >= millis(limit)
    }

    /// Whether nothing of it can reach the server any more.
    fn is_past(&self, now: Now) -> bool {
        millis(now.mono) > self.over.load(Ordering::Relaxed)
    }

    /// The right to end it, once.
    pub(super) fn take_ticket(&self) -> Option<Ticket> {
        lock(&self.ticket).take()
    }

    fn put(&self, turn: Turn<()>) -> Result<(), Turn<()>> {
        let mut place = lock(&self.place);
        if !matches!(*place, Place::Queued) {
            return Err(turn);
        }
        *place = Place::Given(turn);
        self.given.notify_one();
        Ok(())
    }

    /// Has it wait for another turn after one that it had. `false` if it was left behind.
    pub(super) fn wait_again(&self) -> bool {
        let mut place = lock(&self.place);
        let had_one = matches!(*place, Place::Minting { .. });
        if had_one {
            *place = Place::Queued;
        }
        had_one
    }

    /// Its turn, if it has come; an error if it was left behind.
    pub(super) fn take_turn(&self, origin: &Arc<Origin>) -> Result<Option<MyTurn>, ()> {
        let mut place = lock(&self.place);
        match std::mem::replace(&mut *place, Place::Over) {
            Place::Given(turn) => Ok(Some(MyTurn { origin: origin.clone(), turn: Some(turn), mint: None })),
            Place::Queued => {
                *place = Place::Queued;
                Ok(None)
            }
            Place::Minting { .. } | Place::Over => Err(()),
        }
    }

    /// Waits until its turn may have come.
    pub(super) async fn given(&self) {
        self.given.notified().await;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The right to mint with a credential, which goes back whatever happens, and with it what the machine changed.
pub(super) struct MyTurn {
    origin: Arc<Origin>,
    turn: Option<Turn<()>>,
    /// The machine, once it runs.
    mint: Option<Mint>,
}

impl MyTurn {
    /// Mints for a want, and says whether that may go on only in a turn of its own. `None` if it did not begin, since all
    /// is different by now. `delicate` is called before the
    /// machine runs if it must not be torn off.
    pub(super) async fn mint(
        mut self,
        flying: &Flying,
        want: &Want,
        held: Held,
        delicate: impl FnOnce(),
    ) -> Option<(Result<Token, Error>, bool)> {
        let hub = self.origin.hub.clone();
        let turn = self.turn.as_mut()?;
        let (is_delicate, machine) = self.origin.mint(turn, want, held);
        *lock(&flying.place) = Place::Minting { delicate: is_delicate, exclusive: turn.is_exclusive() };
        if is_delicate {
            delicate();
        }
        let machine = match machine {
            Ok(machine) => machine,
            // A use that was given up before, and must rest, is an error of that kind too.
            Err(error) if error.kind() == ErrorKind::Cancelled && !error.is_transient() => return None,
            Err(error) => return Some((Err(error), false)),
        };
        let mut result = hub
            .transport
            .run(Bounded {
                begin: hub.transport.time_to_begin(),
                mint: self.mint.insert(machine),
                flying,
                origin: &self.origin,
                waiting: None,
            })
            .await;
        let must_wait = self.mint.as_ref().is_some_and(|mint| mint.must_wait());
        self.end(Outcome::from(&mut result));
        Some((result, must_wait))
    }

    fn end(&mut self, outcome: Outcome<'_>) {
        let Some(turn) = self.turn.take() else { return };
        // A source that panics here has lost what it kept; this may be in the middle of another panic.
        let change = self.mint.as_mut().map(|mint| catch_unwind(AssertUnwindSafe(|| mint.take_change())));
        self.origin.finish(turn, change.and_then(Result::ok).unwrap_or_default(), outcome);
    }
}

impl Drop for MyTurn {
    fn drop(&mut self) {
        if self.mint.is_some() {
            self.end(Outcome::Abandoned);
        } else {
            self.end(Outcome::Failed(&mut unused()));
        }
    }
}

/// A mint whose steps are bounded, though nobody may drive it: a request that must not be repeated begins soon, or not at
/// all, and it is known when each step is over.
struct Bounded<'a> {
    mint: &'a mut Mint,
    flying: &'a Flying,
    /// How soon a request begins that must not be repeated, or not at all.
    begin: Duration,
    origin: &'a Origin,
    /// What it waits for, as far as that was told.
    waiting: Option<Waiting>,
}

impl Machine for Bounded<'_> {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Token> {
        let now = cx.now();
        let mut step = self.mint.resume(cx, reply);
        let waiting = self.mint.waiting();
        if waiting != self.waiting {
            self.waiting = waiting;
            self.origin.wait_for(waiting);
        }
        let mut time = STEP;
        if let Step::Do(Effect::Sleep(sleep)) = &step {
            time = *sleep;
        }
        if let Step::Do(Effect::Http(call)) = step {
            time = call.timeout();
            step = Step::Do(Effect::Http(match call.repeat() {
                Repeat::Freely => call,
                _ => {
                    time = time.saturating_add(self.begin);
                    let start_before = Now { wall: now.wall + self.begin, mono: now.mono.saturating_add(self.begin) };
                    call.with_start_before(start_before)
                }
            }));
        }
        self.flying.over.store(millis(now.mono.saturating_add(time)), Ordering::Relaxed);
        step
    }
}
