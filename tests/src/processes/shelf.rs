//! A store as a model: what lay there and when, and who has a lease.

use std::collections::BTreeMap;
use std::time::Duration;

use grantflow::Timestamp;
use grantflow::store::{RecordKey, StoreOp, StoreReply, Stored};

/// A store. Whoever asks has a number; time is given with each question.
#[derive(Debug, Default)]
pub struct Shelf {
    /// Whether leases end by themselves, as Redis's do. Those of files end with their process.
    pub expiring: bool,
    /// The longest lease it gives, if that is shorter than what is asked.
    pub longest: Option<Duration>,
    records: BTreeMap<RecordKey, Vec<(Duration, Option<Stored>)>>,
    leases: BTreeMap<RecordKey, Leased>,
}

#[derive(Clone, Copy, Debug)]
struct Leased {
    owner: u64,
    until: Option<Duration>,
}

/// When somebody asks a store for something.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By a clock that all share.
    pub truth: Duration,
    /// By the wall clock of whoever asks, when they asked.
    pub wall: Timestamp,
    /// How old the answer to a load may be.
    pub lag: Duration,
}

impl Shelf {
    /// An empty store.
    pub fn new(expiring: bool) -> Self {
        Self { expiring, ..Self::default() }
    }

    /// What lies there now.
    pub fn peek(&self, key: &RecordKey) -> Option<&Stored> {
        self.records.get(key)?.last()?.1.as_ref()
    }

    /// Puts something there, past all rules.
    pub fn put(&mut self, key: &RecordKey, truth: Duration, stored: Option<Stored>) {
        self.records.entry(key.clone()).or_default().push((truth, stored));
    }

    /// Does what `owner` asks for.
    ///
    /// # Panics
    ///
    /// At an operation that it does not know.
    pub fn perform(&mut self, owner: u64, at: Moment, op: StoreOp) -> StoreReply {
        match op {
            StoreOp::Load { key } => StoreReply::Loaded(self.load(&key, at.truth.saturating_sub(at.lag))),
            StoreOp::Save { key, expected, stored } => self.change(&key, expected, at.truth, Some(stored)),
            StoreOp::Delete { key, expected } => self.change(&key, Some(expected), at.truth, None),
            StoreOp::Lease { key, time } => self.lease(key, owner, at, time),
            StoreOp::Release { key } => {
                self.leases.retain(|other, lease| *other != key || lease.owner != owner);
                StoreReply::Released
            }
            other => panic!("what is {other:?}?"),
        }
    }

    /// What lay there at a moment, or the first that did.
    fn load(&self, key: &RecordKey, truth: Duration) -> Option<Stored> {
        let history = self.records.get(key)?;
        let then = history.iter().rev().find(|(at, _)| *at <= truth).or_else(|| history.first());
        then.and_then(|(_, stored)| stored.clone())
    }

    fn change(&mut self, key: &RecordKey, expected: Option<u64>, truth: Duration, to: Option<Stored>) -> StoreReply {
        if self.peek(key).map(|stored| stored.version) != expected {
            return StoreReply::Conflict;
        }
        self.put(key, truth, to);
        StoreReply::Saved
    }

    fn lease(&mut self, key: RecordKey, owner: u64, at: Moment, time: Duration) -> StoreReply {
        let time = self.longest.unwrap_or(time).min(time);
        if self.leases.get(&key).is_some_and(|lease| lease.until.is_none_or(|until| at.truth < until)) {
            return StoreReply::Busy;
        }
        let until = self.expiring.then_some(at.truth + time);
        self.leases.insert(key, Leased { owner, until });
        StoreReply::Leased(self.expiring.then_some(at.wall + time))
    }

    /// Whose lease it is, if it has not ended.
    pub fn leased_by(&self, key: &RecordKey, truth: Duration) -> Option<u64> {
        let lease = self.leases.get(key)?;
        lease.until.is_none_or(|until| truth < until).then_some(lease.owner)
    }

    /// A key whose lease is this one's, ended or not.
    pub(super) fn leased_by_any(&self, owner: u64) -> Option<&RecordKey> {
        self.leases.iter().find(|(_, lease)| lease.owner == owner).map(|(key, _)| key)
    }

    /// Whoever asked under this number is dead. Its leases go with it, unless they end by themselves.
    pub fn died(&mut self, owner: u64) {
        if !self.expiring {
            self.give_back(owner);
        }
    }

    /// Takes back all leases of a number, as a driver does at the end of a run.
    pub fn give_back(&mut self, owner: u64) {
        self.leases.retain(|_, lease| lease.owner != owner);
    }

    /// Another copy takes over, which has what lay there at a moment and knows of no lease.
    pub fn fall_back(&mut self, truth: Duration, to: Duration) {
        for history in self.records.values_mut() {
            let then = history.iter().rev().find(|(at, _)| *at <= to).or_else(|| history.first());
            if let Some((_, stored)) = then.cloned() {
                history.push((truth, stored));
            }
        }
        self.leases.clear();
    }

    /// Forgets all leases, as a server does that restarts.
    pub fn forget_leases(&mut self) {
        self.leases.clear();
    }
}
