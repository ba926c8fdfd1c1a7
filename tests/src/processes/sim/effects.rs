//! What the drivers of the processes do: each effect begins, is done and comes back, and between any two of these
//! its process may die or be stopped.

use std::time::Duration;

use grantflow::documents::Look;
use grantflow::machine::FailureKind;
use grantflow::store::{StoreOp, StoreReply};
use grantflow::{Call, Effect, Failure, Reply, Timestamp};

use super::network::{Trouble, Wire};
use super::process::key;
use super::weather::Season;
use super::{Event, Place, Sim};
use crate::processes::Moment;

/// Something that a run has asked for.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) run: u64,
    pub(super) process: usize,
    pub(super) what: What,
    pub(super) reply: Option<Reply>,
    /// How it ends at the store.
    fate: Fate,
    /// How long until it is done, and from then until its reply is there.
    there: Duration,
    back: Duration,
    /// Whether it is out of its process's hands.
    pub(super) sent: bool,
}

#[derive(Debug)]
pub(super) enum What {
    Store(Option<StoreOp>, Timestamp),
    Http(Option<Call>),
    Wire(Wire),
    Sleep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Good,
    /// It is not done, and its process knows.
    Fails,
    /// It is done, and its process does not know.
    Lost,
}

impl Sim {
    pub(super) fn begin_op(&mut self, run: u64, effect: Effect) {
        self.judge_effect(run, &effect);
        if let Effect::Http(call) = &effect
            && let Some(reply) = self.look(run, call)
        {
            return self.resume(run, reply);
        }
        let process = self.runs[&run].process;
        let wall = self.now(process).wall;
        let word = match &effect {
            Effect::Store(StoreOp::Load { .. }) => "load",
            Effect::Store(StoreOp::Save { .. }) => "save",
            Effect::Store(StoreOp::Lease { .. }) => "lease",
            Effect::Store(StoreOp::Release { .. }) => "release",
            other => other.name(),
        };
        let (what, there, back) = match effect {
            Effect::Store(op) => (What::Store(Some(op), wall), self.store_time(), self.store_time()),
            Effect::Http(call) => (What::Http(Some(call)), self.rng.time(MILLI, 500 * MILLI), 50 * MILLI),
            Effect::Sleep(time) => (What::Sleep, time, Duration::ZERO),
            other => return self.breaks(format!("a run asks for {other:?}")),
        };
        let storm = self.season == Season::Storm;
        let fate = match &what {
            What::Store(..) if storm && self.rng.one_in(80) => self.rng.pick(&[Fate::Fails, Fate::Lost]),
            What::Store(Some(StoreOp::Save { .. }), _) if storm && self.full => Fate::Fails,
            _ => Fate::Good,
        };
        let id = self.id();
        self.ops.insert(id, Op { run, process, what, reply: None, fate, there, back, sent: false });
        self.runs.get_mut(&run).expect("a run").op = Some(id);
        let mut soon = Duration::from_micros(self.rng.next() % 2000);
        if storm && word == "Http" && self.trouble == Trouble::Connecting {
            soon = self.rng.time(100 * MILLI, 8_000 * MILLI);
            // People do not wait for a network that does not answer.
            if self.rng.chance(30) {
                let life = self.processes[process].life;
                self.after(soon / 2, Event::Die { process, life, at: (word, "before it is sent") });
            }
        }
        self.after(soon, Event::Send(id));
        if storm && self.rng.one_in(self.plan.deadly) {
            let (when, wait) = match self.rng.below(3) {
                0 => ("before it is sent", soon / 2),
                1 => ("before it is done", soon + there / 2),
                _ => ("after it is done", soon + there + back / 2),
            };
            self.end_or_stop(process, (word, when), wait);
        }
    }

    /// The answer to a call for a public document that is there.
    fn look(&mut self, run: u64, call: &Call) -> Option<Reply> {
        let process = self.runs[&run].process;
        let now = self.now(process);
        let documents = &mut self.processes[process].documents;
        match documents.look(call, now) {
            Look::Have(document) => Some(Reply::Http(document.response(now))),
            Look::Old(document, ticket) => {
                documents.abandon(ticket);
                Some(Reply::Http(document.response(now)))
            }
            Look::Failed(failure) => Some(Reply::Failed(failure)),
            Look::Fetch(ticket) => {
                self.runs.get_mut(&run).expect("a run").ticket = Some(ticket);
                None
            }
            _ => None,
        }
    }

    fn end_or_stop(&mut self, process: usize, at: Place, wait: Duration) {
        let life = self.processes[process].life;
        if self.rng.chance(60) {
            self.after(wait, Event::Die { process, life, at });
        } else {
            let time = self.rng.time(100 * MILLI, Duration::from_secs(900));
            self.after(wait, Event::Stop { process, life, at, time });
        }
    }

    fn store_time(&mut self) -> Duration {
        let longest = if self.season == Season::Storm && self.rng.one_in(100) { 20_000 } else { 20 };
        self.rng.time(MILLI / 2, longest * MILLI)
    }

    /// It leaves its process.
    pub(super) fn send(&mut self, id: u64) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        let there = op.there;
        if let What::Http(_) = op.what {
            return self.send_request(id);
        }
        op.sent = true;
        self.after(there, Event::Carry(id));
    }

    /// It is done: by the store, or by the process itself.
    pub(super) fn carry(&mut self, id: u64) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        let (process, run, fate, back) = (op.process, op.run, op.fate, op.back);
        let failed = |sent: bool| {
            let make: fn(FailureKind, &'static str) -> Failure = if sent {
                |kind, why| Failure::maybe_sent(kind, why)
            } else {
                |kind, why| Failure::not_sent(kind, why)
            };
            Reply::Failed(make(FailureKind::Store, "the store failed"))
        };
        let reply = match &mut op.what {
            What::Wire(_) => return self.arrive(id),
            What::Http(_) => return,
            What::Sleep => Reply::Slept,
            What::Store(..) if fate == Fate::Fails => failed(false),
            What::Store(asked, wall) => {
                let (asked, wall) = (asked.take().expect("it is done once"), *wall);
                let done = self.ask_store(run, process, wall, asked);
                if fate == Fate::Lost { failed(true) } else { Reply::Store(done) }
            }
        };
        if let Some(op) = self.ops.get_mut(&id) {
            op.reply = Some(reply);
            self.after(back, Event::Back(id));
        }
    }

    fn ask_store(&mut self, run: u64, process: usize, wall: Timestamp, op: StoreOp) -> StoreReply {
        let lag = if self.rng.chance(30) { self.plan.lag } else { Duration::ZERO };
        let at = Moment { truth: self.truth, wall, lag };
        let (word, new) = match &op {
            StoreOp::Save { stored, .. } => ("save", Some(stored.clone())),
            StoreOp::Load { .. } => ("load", None),
            _ => ("", None),
        };
        let old = self.shelf.peek(&key()).cloned();
        let lease = if let StoreOp::Lease { time, .. } = &op { Some(*time) } else { None };
        let reply = self.shelf.perform(run, at, op);
        if let (StoreReply::Leased(Some(_)), Some(seen)) = (&reply, self.runs.get_mut(&run).map(|run| &mut run.seen)) {
            seen.lease_ends = lease.map(|time| self.truth + time);
        }
        match (&reply, new) {
            (StoreReply::Saved, Some(new)) => {
                self.note("run {b} of process {a} saves", process, run);
                self.know_save(run, old, &new);
            }
            (StoreReply::Conflict, _) => {
                self.note("run {b} of process {a} has a conflict", process, run);
                self.know_conflict(run);
            }
            (StoreReply::Loaded(Some(found)), _) => self.know_load(run, found),
            (StoreReply::Leased(_), _) => self.note("run {b} of process {a} has the lease", process, run),
            _ => {}
        }
        self.require(word != "load" || !matches!(reply, StoreReply::Loaded(None)), || "the record is gone".into());
        reply
    }

    /// The reply is there, if anybody still waits for it.
    pub(super) fn back(&mut self, id: u64) {
        let Some(op) = self.ops.remove(&id) else { return };
        let Some(run) = self.runs.get_mut(&op.run).filter(|run| run.op == Some(id)) else { return };
        run.op = None;
        let reply = op.reply.unwrap_or(Reply::Refused);
        if let What::Store(..) = op.what {
            run.seen.store_time += op.there + op.back;
            self.know_store_time(op.process, op.there + op.back);
        }
        self.know_reply(op.run, &op.what, &reply);
        self.resume(op.run, reply);
    }

    /// Its process is dead.
    pub(super) fn drop_ops_of(&mut self, process: usize) {
        // What a store or server has got, it goes on with.
        let expiring = self.plan.expiring;
        let goes_on = |op: &Op| op.sent && (matches!(op.what, What::Wire(_)) || expiring);
        self.ops.retain(|_, op| op.process != process || goes_on(op));
    }
}

pub(super) const MILLI: Duration = Duration::from_millis(1);
