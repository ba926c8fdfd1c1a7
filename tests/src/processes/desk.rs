//! The virtual [`World`] with a store in it, for one machine at a time.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use grantflow::machine::FailureKind;
use grantflow::store::{RecordKey, StoreReply, Stored};
use grantflow::{Effect, Error, Failure, Machine, Reply, Step};
use serde_json::Value;

use super::shelf::{Moment, Shelf};
use crate::World;

/// A machine that goes on for longer than this does not end.
const STEPS: usize = 10_000;

/// A world with a store.
#[derive(Debug, Default)]
pub struct Desk {
    /// The world.
    pub world: World,
    /// The store.
    pub shelf: Shelf,
    /// How old what is read may be, as from a replica.
    pub lag: Duration,
    /// What was done in the last run, by a word each: `load`, `save`, `delete`, `lease`, `release`, `http`, `sleep`.
    pub did: Vec<&'static str>,
    /// How many runs there were: each has a number of its own at the store.
    pub runs: u64,
    trips: VecDeque<(&'static str, Trip)>,
}

/// Something that gets in the way.
pub enum Trip {
    /// The driver does not do such things.
    Refuse,
    /// It is not done.
    Fail,
    /// It is not done: there is too much to keep.
    TooLarge,
    /// It is done, and nobody knows.
    Lose,
    /// It is done after this.
    After(Box<dyn FnOnce(&mut Desk)>),
    /// Not at all: goes well.
    Pass,
}

impl fmt::Debug for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trip")
    }
}

impl Desk {
    /// A desk in this world.
    pub fn new(world: World) -> Self {
        Self { world, ..Self::default() }
    }

    /// The next time that this is done, something gets in the way. Said several times of the same word, it is
    /// the next one of these times.
    pub fn trip(&mut self, word: &'static str, trip: Trip) {
        self.trips.push_back((word, trip));
    }

    /// The next time that this is done, this happens before.
    pub fn before(&mut self, word: &'static str, then: impl FnOnce(&mut Desk) + 'static) {
        self.trip(word, Trip::After(Box::new(then)));
    }

    /// Drives a machine to its end.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn run<M: Machine>(&mut self, machine: M) -> Result<M::Output, Error> {
        self.run_until(machine, |_| false).expect("the machine ends")
    }

    /// Drives a machine until it asks for this, which is not done; then its process dies.
    ///
    /// # Panics
    ///
    /// If it does not ask for that.
    pub fn die_before<M: Machine>(&mut self, machine: M, word: &'static str) {
        assert!(self.run_until(machine, |next| next == word).is_none(), "no {word} in {:?}", self.did);
    }

    fn run_until<M: Machine>(
        &mut self,
        mut machine: M,
        end: impl Fn(&'static str) -> bool,
    ) -> Option<Result<M::Output, Error>> {
        self.runs += 1;
        let owner = self.runs;
        let mut did = Vec::new();
        let mut reply = Reply::Start;
        for _ in 0..STEPS {
            let mut cx = self.world.cx();
            let effect = match machine.resume(&mut cx, reply) {
                Step::Do(effect) => effect,
                Step::Done(result) => {
                    assert!(self.shelf.leased_by_any(owner).is_none(), "a lease was not given back");
                    self.did = did;
                    return Some(result);
                }
            };
            let word = word(&effect);
            if end(word) {
                self.shelf.died(owner);
                self.did = did;
                return None;
            }
            did.push(word);
            reply = self.carry_out(owner, word, effect);
        }
        panic!("the machine does not end");
    }

    fn carry_out(&mut self, owner: u64, word: &'static str, effect: Effect) -> Reply {
        let found = self.trips.iter().position(|(at, _)| *at == word).and_then(|nth| self.trips.remove(nth));
        let lost = || Reply::Failed(Failure::maybe_sent(FailureKind::Store, "the store does not answer"));
        match found {
            Some((_, Trip::Refuse)) => return Reply::Refused,
            Some((_, Trip::Fail)) => {
                return Reply::Failed(Failure::not_sent(FailureKind::Store, "no space left on device"));
            }
            Some((_, Trip::TooLarge)) => {
                return Reply::Failed(Failure::not_sent(FailureKind::TooLarge, "the record has too many bytes"));
            }
            Some((_, Trip::Lose)) => {
                self.do_it(owner, effect);
                if word == "lease" {
                    self.shelf.give_back(owner);
                }
                return lost();
            }
            Some((_, Trip::After(then))) => then(self),
            Some((_, Trip::Pass)) | None => {}
        }
        self.do_it(owner, effect)
    }

    fn do_it(&mut self, owner: u64, effect: Effect) -> Reply {
        match effect {
            Effect::Store(op) => {
                let at = self.moment();
                Reply::Store(self.shelf.perform(owner, at, op))
            }
            other => self.world.carry_out(other),
        }
    }

    /// Now.
    pub fn moment(&self) -> Moment {
        Moment { truth: self.world.now.mono, wall: self.world.now.wall, lag: self.lag }
    }

    /// Somebody else takes the lease, and says so.
    pub fn lease(&mut self, key: &RecordKey, owner: u64) {
        let op = grantflow::store::StoreOp::Lease { key: key.clone(), time: Duration::from_secs(60) };
        let at = self.moment();
        assert!(matches!(self.shelf.perform(owner, at, op), StoreReply::Leased(_)), "the lease is somebody's already");
    }

    /// What lies there, as JSON.
    ///
    /// # Panics
    ///
    /// If nothing does, or something else.
    pub fn record(&self, key: &RecordKey) -> Value {
        let stored = self.shelf.peek(key).expect("something lies there");
        serde_json::from_slice(&stored.value).expect("a record is JSON")
    }

    /// The version of what lies there; 0 if nothing does.
    pub fn version(&self, key: &RecordKey) -> u64 {
        self.shelf.peek(key).map_or(0, |stored| stored.version)
    }

    /// Changes what lies there, past all rules, as another program might.
    pub fn edit(&mut self, key: &RecordKey, change: impl FnOnce(&mut Value)) {
        let mut record = self.record(key);
        change(&mut record);
        let stored = Stored::new(self.version(key) + 1, record.to_string().into_bytes());
        self.shelf.put(key, self.world.now.mono, Some(stored));
    }
}

fn word(effect: &Effect) -> &'static str {
    use grantflow::store::StoreOp;
    match effect {
        Effect::Store(StoreOp::Load { .. }) => "load",
        Effect::Store(StoreOp::Save { .. }) => "save",
        Effect::Store(StoreOp::Delete { .. }) => "delete",
        Effect::Store(StoreOp::Lease { .. }) => "lease",
        Effect::Store(StoreOp::Release { .. }) => "release",
        Effect::Http(_) => "http",
        Effect::Sleep(_) => "sleep",
        other => other.name(),
    }
}
