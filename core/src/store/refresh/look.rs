//! What the record says, and what this process knows besides: whether it has a token that does, and whether its refresh
//! token may be sent.

use std::time::Duration;

use super::{LOOK_AGAIN, SharedRefresh};
use crate::source::{GRACE, GrantStatus, LATE, is_hopeless, lost, pause, waits};
use crate::store::Stored;
use crate::store::record::{Intent, Mark, Record};
use crate::{Advice, Error, ErrorKind, Now, Timestamp, Token};

impl SharedRefresh {
    pub(super) fn read(&self, found: Option<Stored>) -> Result<(Record, u64), Error> {
        let found = found
            .ok_or_else(|| Error::new(ErrorKind::NotSignedIn, format!("nobody has signed in as {}", self.grant.key)))?;
        Ok((Record::read(&found, &self.grant.key)?.of_client(&self.grant.client)?, found.version))
    }

    /// The record's token, if it is another than the one that will not do any more, and not due itself.
    pub(super) fn fresh(&self, record: &Record, now: Timestamp) -> Option<Token> {
        record.token(&self.want, now).filter(|token| self.is_another(token) && !is_due(token, now, 1.0))
    }

    /// The record's token, if it does for want of a better: not one that was handed out, and was refused or has ended.
    pub(super) fn left(&self, record: &Record, now: Now) -> Option<Token> {
        // Cells ask a little earlier than they must, each at a moment of its own.
        let does = |token: &Token| self.may_do(Mark::of(token), is_due(token, now.wall, 1.2), now, Duration::ZERO);
        record.token(&self.want, now.wall).filter(does)
    }

    /// Takes note of what lies there. A refusal is of one refresh token, and says nothing of another.
    pub(super) fn learn(&mut self, record: &Record, version: u64, now: Now) {
        let remembered = &mut self.state.remembered;
        if let Some(refused) = remembered.refused.as_deref_mut() {
            refused.current = refused.refresh_token.matches(record.refresh_token.expose());
        }
        remembered.know(record, version);
        remembered.watch(record.intent, now);
        remembered.open = record.intent.map(status).unwrap_or_default();
    }

    /// What there is to tell if the server has refused the refresh token of this record.
    pub(super) fn refused(&mut self, record: &Record, now: Now) -> Option<Result<Token, Error>> {
        let refused = self.state.remembered.refused.as_deref_mut().filter(|refused| refused.current)?;
        refused.news = false;
        let refused = refused.clone();
        let left = self.left(record, now);
        let early = refused.early || left.is_some();
        if let Some(token) = left.filter(|token| !self.is_held(token)) {
            return Some(Ok(token));
        }
        if !early {
            return Some(Err(refused.error));
        }
        Some(Err(refused.error.refused_early(self.lasts(record, now)?)))
    }

    /// How long the server may still take the want's token for valid, if that was not refused.
    pub(super) fn lasts(&self, record: &Record, now: Now) -> Option<Duration> {
        let (lasts, mark) = record.lasts(&self.want, now.wall)?;
        let due = record.token(&self.want, now.wall).is_none_or(|token| is_due(&token, now.wall, 1.2));
        self.may_do(mark, due, now, LATE).then_some(lasts)
    }

    /// What there is to tell if a refresh token whose fate nobody knows is not used now.
    pub(super) fn rests(&self, intent: Intent, record: &Record, now: Now) -> Option<Result<Token, Error>> {
        let over = self.state.remembered.over(now);
        if intent.tries < 2 && over <= GRACE {
            return None;
        }
        // As long as there is a token that is good, it does.
        if let Some(token) = self.left(record, now) {
            return Some(if self.is_held(&token) { Err(waits()) } else { Ok(token) });
        }
        if let Some(since) = self.state.remembered.used_up(now) {
            return Some(Err(if since > GRACE {
                lost().look_again(LOOK_AGAIN)
            } else {
                unclear(GRACE.saturating_sub(since))
            }));
        }
        let salt = u32::try_from(intent.since.as_unix_millis().unsigned_abs() % 1000).unwrap_or_default();
        let rest = pause(intent.tries, salt).saturating_sub(over);
        (intent.tries >= 2 && !rest.is_zero()).then(|| {
            let error = unclear(rest);
            let hopeless = is_hopeless(intent.tries, now.wall.since(intent.since));
            Err(if hopeless { error.with_advice(Advice::SignInAgain) } else { error })
        })
    }

    fn may_do(&self, mark: Mark, due: bool, now: Now, late: Duration) -> bool {
        self.state.remembered.may_do(&self.want, mark, due, now, late)
    }

    pub(super) fn is_held(&self, token: &Token) -> bool {
        self.state.remembered.is_held(&self.want, Mark::of(token))
    }

    fn is_another(&self, token: &Token) -> bool {
        self.state.remembered.is_another(&self.want, Mark::of(token))
    }
}

/// Whether a token is to be replaced; `times` the usual margin before its end. One without a refresh token cannot be.
fn is_due(token: &Token, now: Timestamp, times: f64) -> bool {
    token.expires_at().filter(|_| token.refresh_token().is_some()).is_some_and(|end| {
        let margin = end.since(token.issued_at()).mul_f64(0.25).min(Duration::from_secs(300));
        end.since(now) <= margin.mul_f64(times)
    })
}

fn unclear(wait: Duration) -> Error {
    let why = "a refresh went out and no answer came; it is tried again after a pause";
    Error::new(ErrorKind::Timeout, why).transient().told_again(wait)
}

pub(super) fn status(intent: Intent) -> GrantStatus {
    GrantStatus::Unclear { since: intent.since, tries: intent.tries, used: intent.used.is_some() }
}
