//! The rules about the life of a grant, and what is known of each: what its server said, and what became of the uses
//! of its refresh token.

use std::collections::BTreeMap;
use std::time::Duration;

use grantflow::{Advice, Error, Now, Rotation};

use super::account::Kind;
use super::manager::Run;
use super::{Rule, Season, Sim};

/// How long a refresh token may be sent again although its want has a valid access token, and how long the
/// successor of one that was surely used may still be had.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// The shortest time between two uses of a refresh token of which nobody knows whether it is still good.
const SHORTEST: Duration = Duration::from_secs(30);
/// The longest, and what a cell's own pause and a use may add.
const LONGEST: Duration = Duration::from_secs(900 + 60 + 30);
/// How much later than its client a server may think that a token ends: the client counts from the request.
pub(super) const LATE: Duration = Duration::from_secs(5);
/// When the advice becomes to sign in again, and after how many uses.
const HOPELESS: (Duration, u32) = (Duration::from_secs(3600), 5);
/// After so many refreshes without a successor the server does not replace refresh tokens.
const LEARNED: u32 = 5;
/// How old metadata may be that nobody can read any more.
const OLDEST: Duration = Duration::from_secs(29 * 86_400);
/// How long metadata that was read once may keep a refresh waiting.
const METADATA: Duration = Duration::from_secs(10);
/// How far a timer may be off.
const SLACK: Duration = Duration::from_secs(1);

/// What is known of a credential since it is there.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Its server has refused it when there was no valid access token.
    refused: bool,
    /// When the server surely used the refresh token up, by the monotonic clock.
    used_up: Option<Duration>,
    /// When a refresh that had read the metadata came to a token.
    metadata: Option<Now>,
    /// How many refreshes followed one another that brought no successor.
    staying: u32,
    /// Since when callers are told of a failure, by want, and nothing was asked for.
    waiting: BTreeMap<usize, Duration>,
    signed_out: bool,
}

/// Uses of a refresh token after which nobody knows whether it is still good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unclear {
    since: Now,
    last: Now,
    /// How many there were.
    uses: u32,
}

impl Life {
    /// Whether the metadata has been read, and not too long ago by any clock.
    pub(super) fn has_metadata(&self, now: Now) -> bool {
        self.metadata.is_some_and(|read| !now.has_reached(read + OLDEST))
    }
}

impl Unclear {
    /// After another use that ended now.
    fn after(before: Option<Self>, now: Now) -> Self {
        let uses = before.map_or(1, |before| before.uses + 1);
        Self { since: before.map_or(now, |before| before.since), last: now, uses }
    }

    fn lasts(&self, now: Now) -> (Duration, Duration) {
        (now.wall.since(self.since.wall), now.mono.saturating_sub(self.since.mono))
    }
}

impl Sim {
    /// A rule about the life of a grant.
    fn rule(&mut self, rule: Rule, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.breaks(format!("{rule}: {}", why()));
        }
    }

    /// The server's answer to a use says that the credential is no good.
    pub(super) fn know_refusal(&mut self, id: u64) {
        let Some(run) = self.runs.get(&id) else { return };
        let (nth, credential) = (run.slot, self.slots[run.slot].credential);
        if run.epoch != self.credentials[credential].epoch {
            return;
        }
        let early = run.ends.is_some_and(|end| !run.began.has_reached(end + LATE));
        self.slots[nth].known.refused_early = early;
        self.credentials[credential].life.refused |= !early;
        self.report.refused_early += u64::from(early);
        // That is an answer.
        if early {
            let sent = self.runs.get(&id).and_then(|run| run.sent.clone());
            let record = sent.as_ref().and_then(|(account, token)| self.accounts[*account].refresh_token(token));
            if let Some(record) = record {
                record.unclear = None;
                record.sent = 1;
            }
        }
    }

    /// The server has surely used the refresh token, and what it gave for it is lost.
    pub(super) fn know_used_up(&mut self, id: u64) {
        let Some(run) = self.runs.get(&id) else { return };
        let credential = &mut self.credentials[self.slots[run.slot].credential];
        if run.epoch == credential.epoch && credential.grant.state().rotation() == Rotation::Rotates {
            credential.life.used_up.get_or_insert(self.clock.mono);
        }
    }

    /// A want has failed so that its credential must be another one: its server has said so, or surely used it up.
    pub(super) fn judge_sign_out(&mut self, nth: usize, error: &Error) {
        let (credential, mono) = (self.slots[nth].credential, self.clock.mono);
        let here = &self.credentials[credential];
        let account = &self.accounts[here.account];
        let token = here.grant.state().refresh_token().map(|token| token.expose().to_owned());
        let alive = token.as_ref().map_or(!account.revoked, |token| account.is_alive(token, self.clock.truth));
        let gone = here.life.used_up.is_some_and(|since| mono.saturating_sub(since) + SLACK >= GRACE);
        let refused = here.life.refused;
        if !std::mem::replace(&mut self.credentials[credential].life.signed_out, true) {
            self.report.signed_out += 1;
            self.report.refused += u64::from(refused);
            self.report.used_up += u64::from(!refused && gone);
            self.report.alive += u64::from(alive && !gone && !refused);
            self.report.alive_by_limit += u64::from(alive && (gone || refused));
        }
        self.rule(Rule::ServerEnds, refused || gone, || {
            let alive = if alive { "the server would take it" } else { "the server does not know that" };
            format!("slot {nth} of credential {credential} must be signed in again, and {alive}: {error}")
        });
    }

    /// A refresh token leaves this machine once more.
    pub(super) fn judge_use(&mut self, id: u64, account: usize, token: &str, sent: u32, in_need: bool) {
        let now = self.clock.now();
        let run = &self.runs[&id];
        let (nth, forced) = (run.slot, run.forced);
        let credential = self.slots[nth].credential;
        if run.epoch != self.credentials[credential].epoch {
            return;
        }
        let life = &self.credentials[credential].life;
        let again = !forced && (life.refused || (self.slots[nth].known.refused_early && !in_need));
        self.rule(Rule::RefusedOnce, !again, || format!("{token} is sent again though it was refused"));
        let unclear = self.accounts[account].refresh_token(token).and_then(|record| record.unclear);
        let why = match unclear {
            _ if sent < 2 => None,
            None => Some("a second use without a reason"),
            // The wall clock alone counted until now.
            Some(unclear) if sent == 2 && unclear.lasts(now).0.min(unclear.lasts(now).1) <= GRACE => None,
            Some(_) if !in_need => Some("a use without need"),
            Some(unclear) if sent > 2 && !(now + SLACK).has_reached(unclear.last + SHORTEST) => {
                Some("a use without a pause")
            }
            Some(_) => None,
        };
        self.rule(Rule::Pauses, why.is_none(), || {
            format!("refresh token {token} is sent for the {sent}th time: {}", why.unwrap_or_default())
        });
    }

    /// Nobody knows what became of a refresh token.
    pub(super) fn know_unclear(&mut self, account: usize, token: &str) {
        let now = self.clock.now();
        if let Some(record) = self.accounts[account].refresh_token(token) {
            record.unclear = Some(Unclear::after(record.unclear, now));
        }
    }

    /// The uses so far of the refresh token of a want whose fate nobody knows.
    fn unclear(&self, nth: usize) -> Option<Unclear> {
        let credential = &self.credentials[self.slots[nth].credential];
        let token = credential.grant.state().refresh_token()?;
        self.accounts[credential.account].refresh_tokens.get(token.expose())?.unclear
    }

    pub(super) fn is_unclear(&self, nth: usize) -> bool {
        self.unclear(nth).is_some()
    }

    /// Somebody needs a token, and is told of a failure that is not the end.
    pub(super) fn judge_told(&mut self, nth: usize, error: &Error) {
        let now = self.clock.now();
        let Some(unclear) = self.unclear(nth) else { return };
        let asked = error.retry_after().is_some_and(|time| time > LONGEST);
        let life = &mut self.credentials[self.slots[nth].credential].life;
        let since = (*life.waiting.entry(nth).or_insert(now.mono)).max(unclear.last.mono);
        let idle = now.mono.saturating_sub(since);
        let late = !asked && !self.slots[nth].known.is_final && idle > LONGEST;
        self.rule(Rule::GoesOn, !late, || {
            format!("slot {nth} fails though its refresh token was not tried for {idle:?}: {error}")
        });
    }

    /// Somebody is served: a token that had ended by the wall clock may be good once more when that is set back.
    pub(super) fn know_served(&mut self, nth: usize) {
        self.credentials[self.slots[nth].credential].life.waiting.remove(&nth);
    }

    /// A refresh has failed, and that is not the end.
    pub(super) fn judge_advice(&mut self, nth: usize, error: &Error) {
        let now = self.clock.now();
        let advice = error.advice() == Some(Advice::SignInAgain);
        let (by_wall, by_mono, uses) = self.unclear(nth).map_or_else(Default::default, |unclear| {
            let (by_wall, by_mono) = unclear.lasts(now);
            (by_wall, by_mono, unclear.uses)
        });
        // Nothing else is judged than what was sent of a refresh token that is replaced from the beginning.
        let account = &self.accounts[self.credentials[self.slots[nth].credential].account];
        if !matches!(account.kind, Kind::Rotating { .. }) || account.stayed {
            return;
        }
        let may = by_wall.max(by_mono) + SLACK >= HOPELESS.0 && uses >= HOPELESS.1;
        let must = error.is_uncertain() && by_wall.min(by_mono) > HOPELESS.0 + SLACK && uses >= HOPELESS.1;
        self.rule(Rule::Advice, !advice || may, || format!("slot {nth} says too soon to sign in again: {error}"));
        self.rule(Rule::Advice, advice || !must, || {
            format!("slot {nth} does not say to sign in again after {uses} uses in {by_mono:?}: {error}")
        });
    }

    /// A refresh has come to a token, perhaps after the metadata was read, and with another refresh token.
    pub(super) fn know_refreshed(&mut self, nth: usize, (metadata, successor): (bool, bool)) {
        let (credential, now) = (self.slots[nth].credential, self.clock.now());
        let here = &mut self.credentials[credential];
        here.life.metadata = here.life.metadata.filter(|_| !metadata).or(metadata.then_some(now));
        here.life.refused = false;
        // The server has thought better of it.
        for slot in self.slots.iter_mut().filter(|slot| slot.credential == credential) {
            slot.known.refused_early = false;
        }
        let here = &mut self.credentials[credential];
        let (kind, rotation) = (self.accounts[here.account].kind, here.grant.state().rotation());
        let learned = match kind {
            // It may have begun to replace refresh tokens after it answered.
            Kind::Staying { .. } | Kind::Rotating { .. } if !successor => {
                here.life.staying = here.life.staying.saturating_add(1);
                here.life.staying < LEARNED || rotation == Rotation::Never
            }
            Kind::Staying { .. } | Kind::Rotating { .. } => {
                here.life.used_up = None;
                here.life.staying = 0;
                rotation == Rotation::Rotates
            }
            _ => true,
        };
        let times = here.life.staying;
        self.rule(Rule::RotationLearned, learned, || {
            format!("credential {credential} takes its server for {rotation:?} after {times} refreshes: {kind:?}")
        });
    }

    /// A refresh asks its server for something, whatever comes of it.
    pub(super) fn know_try(&mut self, id: u64) {
        let run = &self.runs[&id];
        let credential = &mut self.credentials[self.slots[run.slot].credential];
        if run.epoch == credential.epoch {
            credential.life.waiting.clear();
        }
    }

    /// A request for a token goes out, after whatever its run did before.
    pub(super) fn judge_metadata_wait(&mut self, id: u64) {
        let run = &self.runs[&id];
        let (nth, credential) = (run.slot, self.slots[run.slot].credential);
        let took = run.metadata.map_or(Duration::ZERO, |(since, _)| self.clock.mono.saturating_sub(since));
        let current = run.epoch == self.credentials[credential].epoch;
        let had = run.metadata.is_some_and(|(_, had)| had) && current && run.requests_for_token == 0;
        self.rule(Rule::OldMetadata, !had || took <= METADATA, || {
            format!("metadata that was read once keeps slot {nth} waiting for {took:?}")
        });
    }

    /// A refresh has failed that had the metadata and never asked for a token.
    pub(super) fn judge_metadata_failure(&mut self, run: &Run, error: &Error) {
        let credential = &self.credentials[self.slots[run.slot].credential];
        let had = run.epoch == credential.epoch && run.metadata.is_some_and(|(_, had)| had);
        self.rule(Rule::OldMetadata, !had || run.requests_for_token > 0, || {
            format!("slot {} fails for want of metadata that was read once: {error}", run.slot)
        });
    }

    /// A token is handed out, from the cell or, published at that moment, without asking it.
    pub(super) fn judge_clocks(&mut self, nth: usize, published: Option<grantflow::Timestamp>) {
        let now = self.clock.now();
        let known = &self.slots[nth].known;
        let over = known.ends.map_or(Duration::ZERO, |end| now.mono.saturating_sub(end));
        let ended = over > Duration::from_millis(2);
        // Who reads one clock cannot see that it was set back by less than it has gone since.
        let unseen = published.is_some_and(|at| now.wall >= at);
        self.report.ended_by_limit += u64::from(ended && unseen);
        self.rule(Rule::BothClocks, !ended || unseen, || {
            format!("slot {nth} hands out a token that ended {over:?} ago: the wall clock was set back")
        });
    }

    /// A server that kept refresh tokens replaces them from now on.
    pub(super) fn begin_to_rotate(&mut self) {
        let credential = self.rng.below(self.credentials.len());
        let account = self.credentials[credential].account;
        if self.season == Season::Storm && self.accounts[account].kind == (Kind::Staying { known: false }) {
            self.note("the server of credential {a} replaces refresh tokens from now on", credential, 0);
            let grace = Duration::from_secs(60);
            self.accounts[account].stayed = true;
            self.accounts[account].kind = Kind::Rotating { grace, known: false, discovered: false };
        }
    }
}
