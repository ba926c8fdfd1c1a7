//! The outcome of a use of the refresh token: its result is saved, its failure is written down.

use super::look::status;
use super::{LOOK_AGAIN, Next, ROUNDS, SharedRefresh, Stage, misused};
use crate::failure::FailureKind;
use crate::machine::Effect;
use crate::source::{Change, GrantStatus, is_hopeless};
use crate::store::record::{Intent, Mark, Record};
use crate::store::remembered::{Refused, Unsaved};
use crate::store::{StoreOp, StoreReply, Stored};
use crate::{Advice, Error, Now, Reply, Rotation, Step, Timestamp, Token};

impl SharedRefresh {
    pub(super) fn exchanged(&mut self, result: Result<Token, Error>, change: &Change, now: Now) -> Result<Next, Error> {
        match result {
            Ok(token) => {
                self.state.remembered.open = GrantStatus::Settled;
                self.state.remembered.refused = None;
                let (mut record, version) = self.current.take().ok_or_else(misused)?;
                record.refreshed(&self.want, &token, version.saturating_add(1));
                self.result = Some(Ok(token));
                self.save_new(record, version, now)
            }
            // The answer is of no use, and the refresh token that came with it is the one to use next.
            Err(error) if let Some(new) = change.refresh_token() => {
                let (mut record, version) = self.current.take().ok_or_else(misused)?;
                record.succeeded(new);
                self.result = Some(Err(error));
                self.save_new(record, version, now)
            }
            Err(error) if error.ends_grant() => {
                let error = error.during("refreshing the stored grant", None).look_again(LOOK_AGAIN);
                let (record, _) = self.current.as_ref().ok_or_else(misused)?;
                let refresh_token = record.refresh_token.clone();
                // It was good when the use began: that the answer comes late does not matter.
                let held = self.state.remembered.held_lasts(self.used_at);
                let early = held.is_some() || self.lasts(record, self.used_at).is_some();
                self.state.remembered.refused =
                    Some(Box::new(Refused { refresh_token, error: error.clone(), early, news: true, current: true }));
                self.result = Some(Err(error));
                self.load(Stage::LoadRejected)
            }
            Err(error) if error.is_uncertain() => self.unclear(error, now),
            Err(error) => {
                let (record, _) = self.current.as_mut().ok_or_else(misused)?;
                if record.intent.is_none() {
                    return self.release(Err(error));
                }
                // This use did nothing; an earlier one may have.
                record.intent = self.before;
                self.result = Some(Err(error));
                self.save_current(Stage::SaveFailure)
            }
        }
    }

    /// Nobody knows what became of a use: the intent stays, and nobody need wait for its end.
    fn unclear(&mut self, error: Error, now: Now) -> Result<Next, Error> {
        let (record, _) = self.current.as_mut().ok_or_else(misused)?;
        if record.rotation == Rotation::Never {
            return self.release(Err(error));
        }
        let new = Intent { since: now.wall, tries: 1, deadline: now.wall, used: None };
        let intent = record.intent.get_or_insert(new);
        intent.deadline = now.wall;
        if record.rotation == Rotation::Rotates && error.is_surely_used() {
            intent.used.get_or_insert(now.wall);
        }
        let hopeless = is_hopeless(intent.tries, now.wall.since(intent.since));
        self.state.remembered.open = status(*intent);
        self.state.remembered.watch(Some(*intent), now);
        self.result = Some(Err(if hopeless { error.with_advice(Advice::SignInAgain) } else { error }));
        self.save_current(Stage::SaveFailure)
    }

    fn save_new(&mut self, record: Record, version: u64, now: Now) -> Result<Next, Error> {
        let former = self.state.remembered.former();
        self.save_unsaved(Box::new(Unsaved::new(record, version, former)), false, now)
    }

    fn save_unsaved(&mut self, mut unsaved: Box<Unsaved>, anew: bool, now: Now) -> Result<Next, Error> {
        if anew {
            unsaved.begins(now.wall);
        }
        let (key, version) = (self.key(), unsaved.over);
        let stored = unsaved.record.write(version.saturating_add(1));
        self.state.remembered.unsaved = Some(unsaved);
        let expected = (!anew).then_some(version);
        Ok(Next::Ask(Stage::SaveResult, Effect::Store(StoreOp::Save { key, expected, stored: stored? })))
    }

    /// Saves what is not saved yet over what lies there, unless that is newer.
    pub(super) fn save_result(&mut self, found: Option<Stored>, now: Now) -> Result<Next, Error> {
        let mut unsaved = self.state.remembered.unsaved.take().ok_or_else(misused)?;
        let goes_over = match &found {
            Some(there) => Record::read(there, &self.grant.key).map(|it| unsaved.goes_over(&it, there.version)),
            // Nobody had signed in here before; or somebody has signed out.
            None => Ok(unsaved.signed_in),
        };
        match goes_over {
            Ok(true) => self.save_unsaved(unsaved, found.is_none(), now),
            Ok(false) => match self.result.take() {
                // Another sign-in, perhaps: that stays, and so does our token.
                Some(Ok(token)) => self.release(Ok(token)),
                _ => self.loaded_leased(found, now),
            },
            Err(error) => {
                self.state.remembered.unsaved = Some(unsaved);
                Err(error)
            }
        }
    }

    pub(super) fn saved_result(&mut self, reply: Reply) -> Result<Next, Error> {
        match reply {
            Reply::Store(StoreReply::Saved) => {
                self.saved();
                match self.result.take() {
                    Some(result) => self.release(result),
                    None => self.again(),
                }
            }
            Reply::Store(StoreReply::Conflict) => self.again(),
            // The access tokens give way.
            Reply::Failed(failure) if failure.kind() == FailureKind::TooLarge && self.slim() => self.again(),
            Reply::Failed(failure) => Err(failure.into()),
            _ => Err(Error::refused("Store")),
        }
    }

    fn saved(&mut self) {
        if let Some(unsaved) = self.state.remembered.unsaved.take() {
            self.state.remembered.know(&unsaved.record, unsaved.over.saturating_add(1));
        }
    }

    /// Whether what is to be saved can do with less room.
    fn slim(&mut self) -> bool {
        self.state.remembered.unsaved.as_deref_mut().is_some_and(Unsaved::slim)
    }

    /// The result after a failure: what is not saved is handed out all the same, and saved later.
    pub(super) fn failed(&mut self, error: Error, now: Now) -> Result<Token, Error> {
        let Some(unsaved) = &mut self.state.remembered.unsaved else { return Err(error) };
        unsaved.fail(error.clone(), now);
        self.result.take().unwrap_or_else(|| unsaved.record.token(&self.want, now.wall).ok_or(error))
    }

    /// After `invalid_grant`.
    pub(super) fn loaded_rejected(&mut self, found: Option<Stored>, now: Now) -> Result<Next, Error> {
        let (record, version) = self.current.as_mut().ok_or_else(misused)?;
        if let Some(found) = found.filter(|found| found.version > *version) {
            let newer = Record::read(&found, &self.grant.key)?.of_client(&self.grant.client)?;
            if !newer.refresh_token.matches(record.refresh_token.expose()) && self.rounds < ROUNDS {
                // Another process won: what it has got is used, and never deleted.
                self.rounds = self.rounds.saturating_add(1);
                self.result = None;
                return self.loaded_leased(Some(found), now);
            }
            (*record, *version) = (newer, found.version);
        }
        // That is an answer. What it says is not written down: a newcomer may ask once.
        record.intent = None;
        self.settle_refusal(now)?;
        self.save_current(Stage::SaveFailure)
    }

    /// Some servers refuse refreshes as long as the last access token is good: then that does, and counts for more. Who
    /// holds it already asked for another, and is told of the refusal.
    pub(super) fn settle_refusal(&mut self, now: Now) -> Result<(), Error> {
        let Some(Err(error)) = self.result.take() else { return Err(misused()) };
        let (record, _) = self.current.as_ref().ok_or_else(misused)?;
        let (lasts, left) = (self.lasts(record, now), self.left(record, now));
        self.state.remembered.open = GrantStatus::Settled;
        let early = self.state.remembered.refused.as_deref().is_some_and(|refused| refused.early);
        self.result = Some(match left {
            Some(token) if !self.is_held(&token) => Ok(token),
            left if early || left.is_some() => Err(error.refused_early(lasts.unwrap_or_default())),
            _ => {
                // The access tokens of a grant that ended have ended too.
                self.current.iter_mut().for_each(|(record, _)| record.forget_tokens());
                Err(error)
            }
        });
        Ok(())
    }

    pub(super) fn finish(&mut self, now: Timestamp) -> Step<Token> {
        Step::Done(match self.result.take() {
            Some(Ok(token)) => {
                // Until it is saved, to be asked again does not mean that the token will not do. One that has ended on its
                // way reaches nobody, and its server may take it for valid yet.
                if self.state.remembered.error().is_none() && !token.is_expired(now) {
                    self.state.remembered.hand_out(&self.want, Mark::of(&token));
                }
                Ok(token)
            }
            Some(Err(error)) => Err(error.during("refreshing the stored grant", None)),
            None => Err(misused()),
        })
    }
}
