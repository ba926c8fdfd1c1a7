//! The rules, kept apart from the cell: what is known of each want from what happened, and what must
//! therefore be so.

use std::sync::Arc;
use std::time::Duration;

use grantflow::cell::{Acquired, Issued};
use grantflow::{Error, Now, Token};

use super::account::Kind;
use super::life::LATE;
use super::manager::Run;
use super::{Season, Sim};

const SECOND: Duration = Duration::from_secs(1);
/// The longest pause between two tries of the cell's own making.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest `Retry-After` that is honoured.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// The most requests of one mint: four at each of two addresses for the metadata, four for the token.
const REQUESTS: u32 = 12;

/// Why a refresh begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody needs a token.
    Demand,
    /// The token that is there will end.
    Due,
    /// Somebody said so.
    Force,
}

/// What is known of a want.
#[derive(Debug)]
pub(super) struct Known {
    /// What its tokens begin with.
    prefix: String,
    pub(super) token: Option<Arc<Issued>>,
    /// The text of a token that was minted and that the cell must hold from now on.
    minted: Option<String>,
    pub(super) rejected: bool,
    /// How many rejections followed one another, and from when on the next one is believed.
    rejections: u32,
    rejectable: Duration,
    had_at: Duration,
    /// When the token ends, by the monotonic clock.
    pub(super) ends: Option<Duration>,
    /// Whether the refresh token was refused although this token was good.
    pub(super) refused_early: bool,
    /// Whether its last refresh failed so.
    waits_for_end: bool,
    in_flight: bool,
    failures: u32,
    pub(super) is_final: bool,
    /// Between these the next try becomes possible.
    earliest: Duration,
    latest: Duration,
    /// When somebody got a token for the first time after all trouble was over.
    pub(super) served: Option<Duration>,
}

impl Known {
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            token: None,
            minted: None,
            rejected: false,
            rejections: 0,
            rejectable: Duration::ZERO,
            had_at: Duration::ZERO,
            ends: None,
            refused_early: false,
            waits_for_end: false,
            in_flight: false,
            failures: 0,
            is_final: false,
            earliest: Duration::ZERO,
            latest: Duration::ZERO,
            served: None,
        }
    }

    /// Its credential is another one.
    pub(super) fn clear(&mut self, prefix: String) {
        *self = Self { served: self.served, ..Self::new(prefix) };
    }

    /// Whether its token does, by the wall clock, or by both.
    fn is_valid(&self, now: Now, both: bool) -> bool {
        let by_mono = !both || self.ends.is_none_or(|end| now.mono < end);
        by_mono && self.token.as_ref().is_some_and(|issued| !self.rejected && !issued.token.is_expired(now.wall))
    }

    fn fail(&mut self, now: Duration, error: Option<&Error>) {
        self.failures = self.failures.saturating_add(1);
        let pause = pause(self.failures);
        let asked = error.and_then(Error::retry_after).unwrap_or_default().min(LONGEST_RETRY_AFTER);
        self.earliest = now + (pause / 2).max(asked);
        self.latest = now + pause.max(asked);
        self.is_final = error.is_some_and(Error::ends_grant);
    }
}

/// The pause after so many failures or rejections in a row.
fn pause(times: u32) -> Duration {
    SECOND.saturating_mul(1 << (times - 1).min(16)).min(LONGEST_PAUSE)
}

impl Sim {
    /// What must hold after every event.
    pub(super) fn check(&mut self) {
        let mut why = None;
        for (nth, slot) in self.slots.iter().enumerate() {
            let epoch = self.credentials[slot.credential].epoch;
            let running = self.runs.values().filter(|run| run.slot == nth && run.epoch == epoch).count();
            let queued = self.credentials[slot.credential].queued;
            if running > 1 {
                why = Some(format!("slot {nth} has {running} refreshes in flight"));
            } else if slot.known.in_flight != slot.cell.is_refreshing() {
                why = Some(format!("slot {nth} and its cell do not agree whether it is being refreshed"));
            } else if slot.known.in_flight && running == 0 && queued == 0 {
                why = Some(format!("slot {nth} holds on to a ticket that nobody has"));
            } else if !slot.waiters.is_empty() && !slot.known.in_flight {
                why = Some(format!("{} callers wait for slot {nth}, and nobody refreshes", slot.waiters.len()));
            }
        }
        for (nth, credential) in self.credentials.iter().enumerate() {
            if credential.queued > 0 && credential.turns == 0 {
                why = Some(format!("{} jobs of credential {nth} wait, and nobody has a turn", credential.queued));
            }
        }
        why.into_iter().for_each(|why| self.breaks(why));
    }

    /// What a cell says must fit what is known.
    pub(super) fn judge(&mut self, nth: usize, acquired: &Acquired) {
        let now = self.clock.now();
        let known = &self.slots[nth].known;
        let valid = known.is_valid(now, true);
        let by_wall = known.is_valid(now, false);
        let rests = self.is_unclear(nth);
        let why = match acquired {
            Acquired::Fresh(issued) | Acquired::Due(issued, _) => {
                let same = known.token.as_ref().is_some_and(|token| Arc::ptr_eq(token, issued));
                (!by_wall || !same).then_some("hands out a token that is expired, rejected or another")
            }
            Acquired::Refresh(_) | Acquired::Wait | Acquired::Failed(_) if valid => Some("withholds a valid token"),
            Acquired::Wait => (!known.in_flight).then_some("lets callers wait for nothing"),
            Acquired::Failed(_) if known.failures == 0 => Some("fails without a failure"),
            Acquired::Failed(_) if !known.is_final && !rests && now.mono >= known.latest => Some("pauses for too long"),
            _ => None,
        };
        why.into_iter().for_each(|why| self.breaks(format!("slot {nth} {why}: {acquired:?}")));
    }

    /// A token that a caller got, from the cell or without asking it.
    pub(super) fn judge_token(&mut self, nth: usize, issued: &Arc<Issued>) {
        let now = self.clock.now();
        let truth = self.clock.truth;
        let known = &mut self.slots[nth].known;
        known.served.get_or_insert(truth);
        let why = if issued.token.is_expired(now.wall) {
            "an expired token"
        } else if !issued.token.access_token().starts_with(&known.prefix) {
            "a token of another want or credential"
        } else if known.rejected || known.token.as_ref().is_none_or(|token| token.generation != issued.generation) {
            "a token that was rejected, or is not the last"
        } else {
            return;
        };
        self.breaks(format!("slot {nth} handed out {why}: {issued:?}"));
    }

    /// A caller was told of a failure.
    pub(super) fn judge_failure(&mut self, nth: usize) {
        let (credential, is_final) = (self.slots[nth].credential, self.slots[nth].known.is_final);
        if self.season == Season::Storm {
            return;
        }
        // A refresh whose answer was lost may turn out to be fatal only when the access token has expired. So does it that a
        // person has taken back what they allowed: nobody asks the server as long as there is a token.
        let account = &self.accounts[self.credentials[credential].account];
        let late = is_final && (matches!(account.kind, Kind::Rotating { .. }) || account.revoked);
        // One who was refused while a token was good asks again when the server must think that it has ended, too: not
        // when it has just ended for its client.
        let known = &self.slots[nth].known;
        let over = known.ends.map_or(Duration::MAX, |end| self.clock.mono.saturating_sub(end));
        let early = known.waits_for_end && !known.rejected && over <= LATE;
        let why = self.slots[nth].cell.error().map(ToString::to_string).unwrap_or_default();
        self.require(self.season == Season::Quiet || late || early, || {
            format!("slot {nth} fails although all is well: {why}")
        });
        if is_final {
            self.sign_in_later(credential);
        }
    }

    /// A caller has to wait.
    pub(super) fn judge_wait(&mut self, nth: usize) {
        let known = &self.slots[nth].known;
        let had = known.token.is_some() && !known.rejected && known.failures == 0;
        if self.season == Season::Steady && had && self.is_comfortable(nth) {
            self.breaks(format!("a caller has to wait for slot {nth} although all is well"));
        }
    }

    /// A refresh is wanted: for a reason, and not too soon.
    pub(super) fn know_refresh(&mut self, nth: usize, cause: Cause) {
        let (now, jumped) = (self.clock.now(), self.jumped);
        let known = &mut self.slots[nth].known;
        let valid = known.is_valid(now, true);
        let too_soon = known.failures > 0 && (known.is_final || now.mono < known.earliest);
        // The wall clock counts whole milliseconds.
        let just_had = now.mono + Duration::from_millis(1) < known.had_at + SECOND && jumped < known.had_at;
        let why = match cause {
            _ if known.in_flight => Some("a second refresh of"),
            Cause::Force => None,
            _ if too_soon => Some("no pause after a failure of"),
            Cause::Due if !valid => Some("nothing to refresh in"),
            Cause::Due if just_had => Some("a refresh right after another of"),
            Cause::Demand if valid => Some("no need for a refresh of"),
            _ => None,
        };
        known.in_flight = true;
        why.into_iter().for_each(|why| self.breaks(format!("{why} slot {nth} ({cause:?})")));
    }

    pub(super) fn know_rejection(&mut self, nth: usize, generation: u64, accepted: bool) {
        let now = self.clock.mono;
        let known = &mut self.slots[nth].known;
        let current = known.token.as_ref().is_some_and(|token| token.generation == generation);
        let too_soon = now < known.rejectable;
        let why = match accepted {
            true if current && !known.rejected => {
                known.rejected = true;
                let apart = now.saturating_sub(known.rejectable) > LONGEST_PAUSE;
                known.rejections = if apart { 1 } else { known.rejections + 1 };
                known.rejectable = now + pause(known.rejections);
                // Who was refused another token because of this one asks again.
                if known.waits_for_end {
                    (known.earliest, known.latest) = (now, now);
                }
                too_soon.then_some("is rejected again and again")
            }
            false if !current => Some("does not know that the rejected token is not its own any more"),
            false if known.rejected => Some("does not tell a second caller that another token is on its way"),
            false => (!too_soon).then_some("does not believe a rejection"),
            true => None,
        };
        why.into_iter().for_each(|why| self.breaks(format!("slot {nth} {why}")));
    }

    /// A request that may use up a rotating refresh token leaves this machine.
    pub(super) fn refresh_token_goes_out(&mut self, id: u64, account: usize, token: &str) {
        let now = self.clock.now();
        let run = &self.runs[&id];
        let slot = &self.slots[run.slot];
        let credential = &self.credentials[slot.credential];
        // Where refresh tokens stay, so far, many may use one. A use that began so goes on when the server begins to
        // replace them: nobody tells a run under way of what another has found out.
        let beside = run.beside;
        let current = run.epoch == credential.epoch;
        let in_need = !current || !slot.known.is_valid(now, true);
        let uses = |sent: &Option<(usize, String)>| sent.as_ref().is_some_and(|(a, t)| (*a, &**t) == (account, token));
        let others = !beside && self.runs.iter().any(|(other, run)| *other != id && !run.beside && uses(&run.sent));
        let record = self.accounts[account].refresh_token(token).expect("a refresh token of this account");
        record.sent += 1;
        let sent = record.sent;
        let why = others.then_some("two refreshes at the same time");
        why.into_iter().for_each(|why| self.breaks(format!("refresh token {token}: {why}")));
        if !beside {
            self.judge_use(id, account, token, sent, in_need);
        }
        if let Some(run) = self.runs.get_mut(&id) {
            run.sent = Some((account, token.to_owned()));
        }
    }

    /// The server said that it did nothing with the refresh token.
    pub(super) fn refresh_token_was_refused(&mut self, id: u64, account: usize, token: &str) {
        if let Some(record) = self.accounts[account].refresh_token(token) {
            record.sent -= 1;
        }
        if let Some(run) = self.runs.get_mut(&id) {
            run.sent = None;
        }
    }

    /// A refresh token is given up as lost.
    pub(super) fn know_lost(&mut self, id: u64) {
        let nth = self.slots[self.runs[&id].slot].credential;
        let credential = &self.credentials[nth];
        let account = &mut self.accounts[credential.account];
        let Some(token) = credential.grant.state().refresh_token() else { return };
        let stays = account.kind == Kind::Staying { known: true };
        let alive = account.is_alive(token.expose(), self.clock.truth);
        let sent = account.refresh_token(token.expose()).map_or(0, |record| record.sent);
        let first = !std::mem::replace(&mut account.lost, true);
        self.require(!stays, || format!("credential {nth} is lost although its refresh token stays"));
        if first {
            self.report.lost += 1;
            self.report.lost_though_alive += u64::from(alive);
            self.report.lost_though_unsent += u64::from(sent < 2);
            self.note("credential {a} is lost, after {b} uses", nth, sent.into());
        }
    }

    /// A refresh has ended.
    pub(super) fn know_end(&mut self, run: &Run, error: Option<&Error>) {
        self.note(
            "the refresh of slot {a} ends; error: {b}",
            run.slot,
            error.map_or(0, |error| error.kind() as u64 + 1),
        );
        self.require(run.requests <= REQUESTS, || format!("{} requests of one refresh", run.requests));
        if let Some(error) = error {
            self.know_uncertain(run);
            self.judge_metadata_failure(run, error);
        }
    }

    /// Nobody knows what became of the refresh token that was sent, if one was.
    pub(super) fn know_uncertain(&mut self, run: &Run) {
        if let Some((account, token)) = &run.sent {
            self.know_unclear(*account, token);
        }
    }

    pub(super) fn know_abandoned(&mut self, run: &Run) {
        self.know_uncertain(run);
        if run.epoch == self.credentials[self.slots[run.slot].credential].epoch {
            self.slots[run.slot].known.in_flight = false;
        }
    }

    pub(super) fn know_settled(&mut self, of: (usize, u64), brought: (bool, bool), result: &Result<Token, Error>) {
        let (nth, epoch) = of;
        let now = self.clock.now();
        let credential = self.slots[nth].credential;
        if epoch != self.credentials[credential].epoch {
            return;
        }
        let known = &mut self.slots[nth].known;
        known.in_flight = false;
        // Whichever want of the grant was refused.
        let refused = |error: &Error| !error.ends_grant() && error.to_string().contains("invalid_grant");
        known.waits_for_end = result.as_ref().is_err_and(refused);
        match result {
            Ok(token) if token.is_expired(now.wall) => known.fail(now.mono, None),
            Ok(token) => {
                known.minted = Some(token.access_token().to_owned());
                known.failures = 0;
                known.is_final = false;
                known.rejected = false;
                known.had_at = now.mono;
                known.ends = token.expires_at().map(|end| now.mono + end.since(now.wall));
            }
            Err(error) => known.fail(now.mono, Some(error)),
        }
        match result {
            Ok(_) => self.know_refreshed(nth, brought),
            Err(error) if self.slots[nth].known.is_final => self.judge_sign_out(nth, error),
            Err(error) => self.judge_advice(nth, error),
        }
        if self.slots[nth].known.is_final {
            self.sign_in_later(credential);
        }
    }

    /// A new token is in the cell, and a failure has changed nothing.
    pub(super) fn compare_with_cell(&mut self, nth: usize) {
        let slot = &mut self.slots[nth];
        let (before, held) = (slot.known.token.as_ref(), slot.cell.held());
        let right = match (slot.known.minted.take(), held) {
            (Some(minted), Some(held)) => {
                held.token.access_token() == minted && before.is_none_or(|token| token.generation < held.generation)
            }
            (Some(_), None) => false,
            (None, held) => before.map(Arc::as_ptr) == held.map(Arc::as_ptr),
        };
        slot.known.token = held.cloned();
        self.require(right, || format!("slot {nth} does not hold what it was given"));
    }

    /// The state of a credential is its own, and holds the newest refresh token.
    pub(super) fn know_state(&mut self, nth: usize) {
        let credential = &self.credentials[nth];
        let account = &self.accounts[credential.account];
        let token = credential.grant.state().refresh_token().map(|token| token.expose());
        let own = token.is_none_or(|token| token.starts_with(&format!("rt-{}-", account.name)));
        let why = format!("credential {nth} has the refresh token {token:?} of another");
        self.require(own, || why);
    }

    /// The time has passed in which everybody must have been served.
    pub(super) fn judge_recovery(&mut self) {
        for nth in 0..self.slots.len() {
            match self.slots[nth].known.served {
                Some(at) => self.report.recovery = self.report.recovery.max(at.saturating_sub(self.season_began)),
                None => self.breaks(format!("slot {nth} is not served again after all trouble was over")),
            }
        }
    }
}
