//! Saving what could not be saved before, apart from any mint: [`Saving`].

use std::time::Duration;

use super::record::Record;
use super::{RecordKey, Remembered, StoreOp, StoreReply, Stored};
use crate::machine::Effect;
use crate::source::Change;
use crate::{Cx, Error, ErrorKind, Machine, Now, Reply, Step, Timestamp};

/// How long the lease must hold.
const LEASE: Duration = Duration::from_secs(20);
/// How often a record may change under our hands before it is given up for this time.
const ROUNDS: u32 = 4;

/// Saves what a stored grant brought and the store did not take: [`Grant::save`](crate::source::Grant::save). It sends
/// nothing to any server, and waits for nobody.
///
/// ```text
/// Begin ─▶ Lease ─▶ Load ─▶ Save ─▶ Release ─▶ done
///                    ▲       │ conflict
///                    └───────┘
/// ```
pub struct Saving {
    remembered: Remembered,
    key: RecordKey,
    stage: Stage,
    rounds: u32,
    result: Result<(), Error>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Begin,
    Lease,
    Load,
    Save,
    Release,
    Ended,
}

impl Saving {
    /// Of what is not saved, if anything is.
    pub(crate) fn of(remembered: &Remembered) -> Option<Self> {
        let key = remembered.unsaved.as_ref()?.record.key.clone();
        Some(Self { remembered: remembered.clone(), key, stage: Stage::Begin, rounds: 0, result: Ok(()) })
    }

    /// What changed, for [`Grant::finish`](crate::source::Grant::finish): to be taken at the end, however that comes
    /// about.
    pub fn take_change(&mut self) -> Change {
        let mut change = Change::default();
        if !matches!(self.stage, Stage::Begin) {
            change.remembered(self.remembered.clone());
        }
        change
    }

    fn ask(&mut self, stage: Stage, op: StoreOp) -> Step<()> {
        self.stage = stage;
        Step::Do(Effect::Store(op))
    }

    fn load(&mut self) -> Step<()> {
        let op = StoreOp::Load { key: self.key.clone() };
        self.ask(Stage::Load, op)
    }

    fn release(&mut self, result: Result<(), Error>) -> Step<()> {
        self.result = result;
        let op = StoreOp::Release { key: self.key.clone() };
        self.ask(Stage::Release, op)
    }

    /// Saves over what lies there, unless that is newer.
    fn save(&mut self, found: Option<Stored>, now: Timestamp) -> Step<()> {
        match self.write(found, now) {
            Ok(Some(op)) => self.ask(Stage::Save, op),
            Ok(None) => {
                self.remembered.unsaved = None;
                self.release(Ok(()))
            }
            Err(error) => self.release(Err(error)),
        }
    }

    fn write(&mut self, found: Option<Stored>, now: Timestamp) -> Result<Option<StoreOp>, Error> {
        let Some(unsaved) = &mut self.remembered.unsaved else { return Ok(None) };
        let expected = match found {
            Some(found) => {
                let there = Record::read(&found, &self.key)?;
                if !unsaved.goes_over(&there, found.version) {
                    return Ok(None);
                }
                Some(found.version)
            }
            // Nobody had signed in here before.
            None if unsaved.used.is_none() => None,
            // Somebody has signed out.
            None => return Ok(None),
        };
        let first = || u64::try_from(now.as_unix_millis()).unwrap_or(1);
        let version = expected.map_or_else(first, |_| unsaved.version.saturating_add(1));
        let stored = unsaved.record.write(version)?;
        Ok(Some(StoreOp::Save { key: self.key.clone(), expected: expected.map(|_| unsaved.version), stored }))
    }

    fn end(&mut self, now: Now, result: Result<(), Error>) -> Step<()> {
        self.stage = Stage::Ended;
        if let (Err(error), Some(unsaved)) = (&result, &mut self.remembered.unsaved) {
            unsaved.fail(error.clone(), now);
        }
        Step::Done(result.map_err(|error| error.during("saving the grant", None)))
    }
}

impl Machine for Saving {
    type Output = ();

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<()> {
        let now = cx.now();
        match (self.stage, reply) {
            (Stage::Begin, Reply::Start) => {
                let op = StoreOp::Lease { key: self.key.clone(), time: LEASE };
                self.ask(Stage::Lease, op)
            }
            (Stage::Lease, Reply::Store(StoreReply::Leased(_))) => self.load(),
            (Stage::Lease, Reply::Store(StoreReply::Busy)) => {
                self.end(now, Err(Error::new(ErrorKind::Timeout, "another process works on this grant")))
            }
            (Stage::Load, Reply::Store(StoreReply::Loaded(found))) => self.save(found, now.wall),
            (Stage::Save, Reply::Store(StoreReply::Saved)) => {
                self.remembered.unsaved = None;
                self.release(Ok(()))
            }
            (Stage::Save, Reply::Store(StoreReply::Conflict)) if self.rounds < ROUNDS => {
                self.rounds = self.rounds.saturating_add(1);
                self.load()
            }
            (Stage::Load | Stage::Save, Reply::Failed(failure)) => self.release(Err(failure.into())),
            (Stage::Load | Stage::Save, _) => {
                self.release(Err(Error::new(ErrorKind::Store, "the stored grant keeps changing").transient()))
            }
            (Stage::Release, _) => {
                let result = std::mem::replace(&mut self.result, Ok(()));
                self.end(now, result)
            }
            (Stage::Lease, Reply::Failed(failure)) => self.end(now, Err(failure.into())),
            (Stage::Lease, Reply::Refused) => self.end(now, Err(Error::refused("Store"))),
            _ => Step::Done(Err(Error::misuse("saving a grant"))),
        }
    }
}

impl std::fmt::Debug for Saving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saving").field("key", &self.key).field("stage", &self.stage).finish_non_exhaustive()
    }
}
