//! Saving a change that could not be saved before, apart from any mint: [`Saving`].

use super::record::Record;
use super::remembered::Unsaved;
use super::{RecordKey, Remembered, StoreOp, StoreReply, Stored};
use crate::failure::FailureKind;
use crate::machine::Effect;
use crate::source::Change;
use crate::{Cx, Error, ErrorKind, Machine, Now, Reply, Step, Timestamp};

/// How often a record may change under our hands before it is given up for this time.
const ROUNDS: u32 = 8;

/// The machine that saves a change of a stored grant that the store did not take:
/// [`Grant::save`](crate::source::Grant::save). It sends nothing to any server, and does not wait, not for a lease
/// either: the version keeps it from overwriting a newer record, and the holder of the lease finds out in the same way.
///
/// ```text
/// Begin ─▶ Load ─▶ Save ─▶ done
///           ▲       │ conflict, or too large: without access tokens
///           └───────┘
/// ```
pub struct Saving {
    remembered: Remembered,
    key: RecordKey,
    stage: Stage,
    rounds: u32,
    /// Of how many chains the grant is the base.
    chains: u32,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Begin,
    Load,
    Save,
    Ended,
}

impl Saving {
    /// Of what is not saved, if anything is.
    pub(crate) fn of(remembered: &Remembered) -> Option<Self> {
        let key = remembered.unsaved.as_ref()?.record.key.clone();
        Some(Self { remembered: remembered.clone(), key, stage: Stage::Begin, rounds: 0, chains: 0 })
    }

    /// For the holder of a chain whose base the grant is.
    pub(crate) fn of_base(self) -> Self {
        Self { chains: self.chains.saturating_add(1), ..self }
    }

    /// Takes the change, for [`Grant::finish`](crate::source::Grant::finish): at the end, however the machine ends.
    pub fn take_change(&mut self) -> Change {
        let mut change = Change::default();
        if !matches!(self.stage, Stage::Begin) {
            change.remembered(self.remembered.clone());
        }
        (0..self.chains).fold(change, |change, _| change.of_base())
    }

    fn load(&mut self) -> Step<()> {
        self.stage = Stage::Load;
        Step::Do(Effect::Store(StoreOp::Load { key: self.key.clone() }))
    }

    fn again(&mut self, now: Now) -> Step<()> {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds > ROUNDS {
            return self.end(Err(Error::new(ErrorKind::Store, "the stored grant keeps changing").transient()), now);
        }
        self.load()
    }

    /// Saves over what lies there, unless that is newer.
    fn save(&mut self, found: Option<Stored>, now: Now) -> Step<()> {
        match self.write(found, now.wall) {
            Ok(Some(op)) => {
                self.stage = Stage::Save;
                Step::Do(Effect::Store(op))
            }
            Ok(None) => {
                self.remembered.unsaved = None;
                self.end(Ok(()), now)
            }
            Err(error) => self.end(Err(error), now),
        }
    }

    fn write(&mut self, found: Option<Stored>, now: Timestamp) -> Result<Option<StoreOp>, Error> {
        let there = found.map(|found| Record::read(&found, &self.key).map(|it| (it, found.version))).transpose()?;
        let Some(unsaved) = &mut self.remembered.unsaved else { return Ok(None) };
        let goes_over = match &there {
            Some((there, version)) => unsaved.goes_over(there, *version),
            // Nobody had signed in here before; or the person has signed out.
            None => {
                unsaved.begins(now);
                unsaved.signed_in
            }
        };
        if !goes_over {
            // It is newer; or this itself, whose save was not known to have come about.
            there.into_iter().for_each(|(there, version)| self.remembered.know(&there, version));
            return Ok(None);
        }
        let expected = there.map(|_| unsaved.over);
        let stored = unsaved.record.write(unsaved.over.saturating_add(1))?;
        Ok(Some(StoreOp::Save { key: self.key.clone(), expected, stored }))
    }

    fn saved(&mut self, now: Now) -> Step<()> {
        if let Some(unsaved) = self.remembered.unsaved.take() {
            self.remembered.know(&unsaved.record, unsaved.over.saturating_add(1));
        }
        self.end(Ok(()), now)
    }

    fn slim(&mut self) -> bool {
        self.remembered.unsaved.as_deref_mut().is_some_and(Unsaved::slim)
    }

    fn end(&mut self, result: Result<(), Error>, now: Now) -> Step<()> {
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
            (Stage::Begin, Reply::Start) => self.load(),
            (Stage::Load, Reply::Store(StoreReply::Loaded(found))) => self.save(found, now),
            (Stage::Save, Reply::Store(StoreReply::Saved)) => self.saved(now),
            (Stage::Save, Reply::Store(StoreReply::Conflict)) => self.again(now),
            // The access tokens give way.
            (Stage::Save, Reply::Failed(failure)) if failure.kind() == FailureKind::TooLarge && self.slim() => {
                self.again(now)
            }
            (Stage::Load | Stage::Save, Reply::Failed(failure)) => self.end(Err(failure.into()), now),
            (Stage::Load, Reply::Refused) => self.end(Err(Error::refused("Store")), now),
            _ => self.end(Err(Error::misuse("saving a grant")), now),
        }
    }
}

impl std::fmt::Debug for Saving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saving").field("key", &self.key).field("stage", &self.stage).finish_non_exhaustive()
    }
}
