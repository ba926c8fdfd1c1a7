//! What becomes of a use of the refresh token: its result is saved, its failure is written down.

use std::time::Duration;

use super::{Next, ROUNDS, SharedRefresh, Stage, misused};
use crate::source::Change;
use crate::store::record::Record;
use crate::store::remembered::Unsaved;
use crate::store::{StoreReply, Stored};
use crate::{Error, Now, Reply, Step, Timestamp, Token};

/// When to try again to save what could not be saved.
const SAVE_AGAIN: Duration = Duration::from_secs(10);

impl SharedRefresh {
    pub(super) fn exchanged(&mut self, result: Result<Token, Error>, change: &Change, now: Now) -> Result<Next, Error> {
        match result {
            Ok(token) => {
                let (mut record, version) = self.current.take().ok_or_else(misused)?;
                let used = record.refresh_token.clone();
                record.refreshed(&self.want, &token, version.saturating_add(1));
                let unsaved = Unsaved { record, version, used, error: None };
                self.result = Some(Ok((token, version.saturating_add(1))));
                self.save_unsaved(Box::new(unsaved))
            }
            // The answer is of no use, and the refresh token that came with it is the one to use next.
            Err(error) if let Some(new) = change.refresh_token() => {
                let (mut record, version) = self.current.take().ok_or_else(misused)?;
                let used = record.succeeded(new);
                self.result = Some(Err(error));
                self.save_unsaved(Box::new(Unsaved { record, version, used, error: None }))
            }
            Err(error) if error.ends_grant() => {
                self.result = Some(Err(error));
                self.load(Stage::LoadRejected)
            }
            Err(error) => {
                let (record, _) = self.current.as_mut().ok_or_else(misused)?;
                let Some(intent) = &mut record.intent else { return self.release(Err(error)) };
                if error.is_uncertain() {
                    // Nobody knows what became of it: the intent stays, and nobody need wait for its end.
                    intent.deadline = now.wall;
                } else {
                    // This use did nothing; an earlier one may have.
                    record.intent = self.before;
                }
                self.result = Some(Err(error));
                self.save_current(Stage::SaveFailure)
            }
        }
    }

    fn save_unsaved(&mut self, unsaved: Box<Unsaved>) -> Result<Next, Error> {
        let saving = self.save(Stage::SaveResult, &unsaved.record, unsaved.version);
        self.state.remembered.unsaved = Some(unsaved);
        saving
    }

    /// Saves what is not saved yet over what lies there, unless that is newer.
    pub(super) fn save_result(&mut self, found: Option<Stored>, now: Now) -> Result<Next, Error> {
        let mut unsaved = self.state.remembered.unsaved.take().ok_or_else(misused)?;
        let goes_over = match &found {
            Some(there) => Record::read(there, &self.grant.key).map(|it| unsaved.goes_over(&it, there.version)),
            // Somebody has signed out.
            None => Ok(false),
        };
        match goes_over {
            Ok(true) => self.save_unsaved(unsaved),
            Ok(false) => match self.result.take() {
                // Another sign-in, perhaps: that stays, and so does our token.
                Some(Ok((token, _))) => self.release(Ok((token, unsaved.version))),
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
                self.state.remembered.unsaved = None;
                match self.result.take() {
                    Some(result) => self.release(result),
                    None => self.again(),
                }
            }
            Reply::Store(StoreReply::Conflict) => self.again(),
            Reply::Failed(failure) => Err(failure.into()),
            _ => Err(Error::refused("Store")),
        }
    }

    /// What comes of a failure: what is not saved is handed out all the same, and saved later.
    pub(super) fn failed(&mut self, error: Error, now: Timestamp) -> Result<(Token, u64), Error> {
        let Some(unsaved) = &mut self.state.remembered.unsaved else { return Err(error) };
        unsaved.error = Some(error.clone());
        self.result.take().unwrap_or_else(|| unsaved.record.token(&self.want, now).ok_or(error))
    }

    /// After `invalid_grant`.
    pub(super) fn loaded_rejected(&mut self, found: Option<Stored>, now: Now) -> Result<Next, Error> {
        let (record, version) = self.current.as_mut().ok_or_else(misused)?;
        if let Some(found) = found.filter(|found| found.version > *version) {
            let newer = Record::read(&found, &self.grant.key)?;
            if !newer.refresh_token.matches(record.refresh_token.expose()) && self.rounds < ROUNDS {
                // Another process won: what it has got is used, and never deleted.
                self.rounds = self.rounds.saturating_add(1);
                self.result = None;
                return self.loaded_leased(Some(found), now);
            }
            (*record, *version) = (newer, found.version);
        }
        // The access tokens of a grant that ended have ended too.
        record.forget_tokens();
        if let Some(intent) = &mut record.intent {
            intent.deadline = now.wall;
        }
        self.save_current(Stage::SaveFailure)
    }

    pub(super) fn finish(&mut self, now: Timestamp) -> Step<Token> {
        Step::Done(match self.result.take() {
            Some(Ok((mut token, version))) => {
                let remembered = &mut self.state.remembered;
                match remembered.error() {
                    // To be asked again means to save it, and not that the token will not do.
                    Some(_) => token = token.with_refresh_after(now + SAVE_AGAIN),
                    None => remembered.hand_out(&self.want, version),
                }
                Ok(token)
            }
            Some(Err(error)) => Err(error.during("refreshing the stored grant", None)),
            None => Err(misused()),
        })
    }
}
