//! The rules about the life of a grant among processes, and what is known of it: what the server said to whom, who has
//! seen which refresh token answered, and what lies in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use grantflow::store::StoreOp;
use grantflow::{Advice, Effect, Error, Now, Rotation, Timestamp};

use super::oracle::{LATE, Seen};
use super::process::{Run, is_final, key};
use super::{Rule, Season, Sim};

const SECOND: Duration = Duration::from_secs(1);
/// How long the successor of a refresh token may be had once more.
const GRACE: Duration = Duration::from_secs(30);
/// The shortest time between two uses of a refresh token of which nobody knows whether it is still good.
const SHORTEST: Duration = Duration::from_secs(30);
/// How often one who was refused looks at the record again, and what a busy process may add.
const LOOK: Duration = Duration::from_millis(5_100);
/// How long metadata that was read once may keep a refresh waiting.
const METADATA: Duration = Duration::from_secs(10);
/// How long before the end of a token another is asked for, at the earliest.
const MARGIN: Duration = Duration::from_secs(360);
/// How old metadata may be that nobody can read any more.
const OLDEST: Duration = Duration::from_secs(29 * 86_400);
/// The shortest time for a use that was begun.
const SHORTEST_USE: Duration = Duration::from_secs(14);
/// By when a result is saved, if nothing fails meanwhile: the longest pause between two tries, and twice what waiting
/// for the lease may take.
const SAVED: Duration = Duration::from_secs(300 + 2 * 90 + 10);
/// How long something may be on its way to the store that its process has sent before it died.
pub(super) const ON_ITS_WAY: Duration = Duration::from_secs(20);

/// The most bytes of an access token in a record, and of all of them.
pub(super) const LARGEST: usize = 16 * 1024;
const LARGEST_SUM: usize = 64 * 1024;

/// What a process knows, from its beginning to its death.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Refresh tokens that were refused to it when it had no valid access token, and when it had one.
    refused: BTreeMap<String, Told>,
    refused_early: BTreeMap<String, Told>,
    /// Access tokens that were refused to it.
    rejected: BTreeSet<String>,
    /// When the server's metadata was asked for by a refresh that came to a token.
    metadata: Option<Now>,
    /// When it last asked the store for something.
    looked: Duration,
    /// Since when it has something that is not saved, and nothing has failed.
    unsaved: Option<Duration>,
    /// When it was asked for the first time after somebody had signed in elsewhere.
    revives: Option<Duration>,
}

/// A refusal: when a process was told so first, and the runs that were told.
#[derive(Debug, Default)]
struct Told {
    first: Duration,
    runs: BTreeSet<u64>,
}

impl Told {
    /// Whether a run knows of it. A mint goes by what was known when it began: the turn of a credential that was
    /// replaced may end beside it, and what that was told is for the next.
    fn is_known(&self, id: u64, run: &Run) -> bool {
        self.first <= run.began || self.runs.contains(&id)
    }
}

/// What all know together.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Refresh tokens that the server surely used up, and since when.
    used_up: BTreeMap<String, Duration>,
    /// When somebody saw that a refresh token was answered.
    answered: BTreeMap<String, Duration>,
    /// Those that were used once more within the grace time.
    again: BTreeSet<String>,
    /// When a successor was saved.
    superseded: BTreeMap<String, Duration>,
    /// When a refresh token was sent last.
    sent: BTreeMap<String, Duration>,
    /// When the store lost what was saved last.
    pub(super) fell_back: Option<Duration>,
    /// Since when the store is well.
    pub(super) well: Duration,
    /// When somebody signed in, last.
    signed_in: Duration,
    /// Whether somebody is about to sign in, somewhere.
    pub(super) sign_in_comes: bool,
}

impl Sim {
    /// A rule about the life of a grant.
    pub(super) fn rule(&mut self, rule: Rule, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.breaks(format!("{rule}: {}", why()));
        }
    }

    /// The refresh token that lies in the store.
    pub(super) fn kept(&self) -> String {
        self.shelf.peek(&key()).map(super::oracle::refresh_token).unwrap_or_default()
    }

    /// The server has refused a refresh token, and its sender knows.
    pub(super) fn know_refusal(&mut self, id: u64, token: &str) {
        let run = &self.runs[&id];
        let process = run.process;
        // By what it knows: what is refused for good while there seems to be a valid access token looks the same, and a
        // token whose request was under way for long is valid for longer than its client can know.
        let early = run.seen.valid;
        let life = &mut self.processes[process].known;
        let refused = if early { &mut life.refused_early } else { &mut life.refused };
        let told = refused.entry(token.to_owned()).or_insert(Told { first: self.truth, ..Told::default() });
        told.runs.insert(id);
        self.report.refused_early += u64::from(early);
    }

    /// A resource refuses an access token to a process.
    pub(super) fn know_rejected(&mut self, process: usize, token: &str) {
        self.processes[process].known.rejected.insert(token.to_owned());
    }

    /// Whether the server may take the token for valid that a process holds for a want.
    pub(super) fn may_be_held(&self, process: usize, slot: usize) -> bool {
        let now = self.now(process);
        self.processes[process].slots[slot].cell.ends().is_some_and(|end| !now.has_reached(end + LATE))
    }

    /// The same of one that lies in the store.
    pub(super) fn may_be_kept(&self, run: &Run, slot: usize, now: Timestamp) -> bool {
        let here = &self.processes[run.process];
        let wanted = here.slots[slot].want.wanted_resources().next().unwrap_or_default();
        // Long before the end of the one that it holds it would not ask, if that were good.
        let held = here.slots[slot].cell.held().map(|held| held.token.access_token());
        run.seen.kept(now).any(|(token, left)| {
            // That one may have ended by the other clock.
            let known = held != Some(token) || left <= MARGIN && self.may_be_held(run.process, slot);
            known && self.server.resource(token) == wanted && !here.known.rejected.contains(token)
        })
    }

    /// When a refresh token was sent last.
    pub(super) fn last_sent(&self, token: &str) -> Option<Duration> {
        self.story.sent.get(token).copied()
    }

    /// What was sent was not begun: that is no use.
    pub(super) fn know_not_begun(&mut self, token: &str, before: Option<Duration>) {
        match before {
            Some(before) => self.story.sent.insert(token.to_owned(), before),
            None => self.story.sent.remove(token),
        };
    }

    /// Whether the successor of a refresh token had been saved before this, and the store has lost nothing since.
    pub(super) fn was_superseded(&self, token: &str, intent: Option<Duration>) -> bool {
        let superseded = self.story.superseded.get(token).copied();
        superseded
            .zip(intent)
            .is_some_and(|(then, intent)| then < intent && self.story.fell_back.is_none_or(|at| at < then))
    }

    /// The server has surely used a refresh token, and what it gave for it is lost.
    pub(super) fn know_used_up(&mut self, token: &str) {
        let rotates = self.plan.known == Rotation::Rotates || self.server.parent(token).is_some();
        if self.plan.rotates && rotates {
            self.story.used_up.entry(token.to_owned()).or_insert(self.truth);
        }
    }

    /// A process has seen a refresh token answered.
    pub(super) fn know_answered(&mut self, token: &str) {
        self.story.answered.entry(token.to_owned()).or_insert(self.truth);
    }

    pub(super) fn know_superseded(&mut self, token: &str) {
        self.story.superseded.entry(token.to_owned()).or_insert(self.truth);
    }

    /// A process tells that somebody must sign in.
    pub(super) fn judge_sign_out(&mut self, process: usize, seen: &Seen, error: &Error) {
        // What it was just refused, though a replica has shown it an older record since; else what it has read.
        let here = &self.processes[process].known.refused;
        let sent = || seen.sent.clone();
        let told = sent().filter(|sent| here.contains_key(sent));
        let token = told.or_else(|| seen.refresh_token.clone()).or_else(sent).unwrap_or_default();
        // When that was, others know by the record, whose clock may be wrong.
        let over = |since: &Duration| self.plan.clocks || self.truth.saturating_sub(*since) + SECOND >= GRACE;
        let gone = self.story.used_up.get(&token).is_some_and(over);
        let refused = self.processes[process].known.refused.contains_key(&token);
        let alive = self.server.is_alive(&token, self.truth);
        if self.known.signed_out.insert((process, self.processes[process].life, token.clone())) {
            self.report.signed_out += 1;
            self.report.by_server += u64::from(refused);
            self.report.used_up += u64::from(!refused && gone);
            self.report.alive += u64::from(alive && !refused && !gone);
            self.report.alive_by_limit += u64::from(alive && (refused || gone));
        }
        self.rule(Rule::ServerEnds, refused || gone || (seen.outdated && !alive), || {
            let alive = if alive { "the server would take it" } else { "the server did not say so to this process" };
            format!("process {process} says to sign in again, with {token}, and {alive}: {error}")
        });
    }

    /// The advice to sign in again comes with other errors too, late.
    pub(super) fn judge_advice(&mut self, process: usize, seen: &Seen, error: &Error) {
        let advice = error.advice() == Some(Advice::SignInAgain) && !is_final(error);
        let token = seen.refresh_token.clone().unwrap_or_default();
        // A process that died between its intent and its request has used it, as far as others can know.
        let open = seen.open + usize::from(seen.intent_at.is_some());
        let open = self.known.uses(&token).max(u32::try_from(open).unwrap_or(u32::MAX));
        self.rule(Rule::Advice, !advice || open >= 5, || {
            format!("process {process} says to sign in again after {open} uses: {error}")
        });
    }

    /// A process has looked at the record.
    pub(super) fn know_looked(&mut self, process: usize) {
        self.processes[process].known.looked = self.truth;
    }

    /// A process has waited for the store, which is no time in which it could have looked again.
    pub(super) fn know_store_time(&mut self, process: usize, time: Duration) {
        let looked = &mut self.processes[process].known.looked;
        *looked = (*looked + time).min(self.truth);
    }

    /// A process tells a caller of a failure.
    pub(super) fn judge_told(&mut self, process: usize, error: &Error) {
        if !is_final(error) {
            return;
        }
        let kept = self.kept();
        let (here, story, truth) = (&self.processes[process], &self.story, self.truth);
        let other = here.dead.as_ref().is_some_and(|dead| *dead != kept);
        let looked = here.known.looked;
        let there = truth.saturating_sub(story.signed_in);
        let blind = other && truth.saturating_sub(looked.max(story.signed_in)) > LOOK;
        if other {
            self.processes[process].known.revives.get_or_insert(truth);
        }
        self.rule(Rule::Revives, !blind, || {
            let ago = truth.saturating_sub(looked);
            format!("process {process} fails, {kept} is there since {there:?}, and it looked {ago:?} ago: {error}")
        });
    }

    /// A process has a token that its server takes.
    pub(super) fn know_served(&mut self, process: usize) {
        if let Some(since) = self.processes[process].known.revives.take() {
            let took = self.truth.saturating_sub(since);
            self.report.revivals += 1;
            self.report.longest_revival = self.report.longest_revival.max(took);
        }
    }

    /// A process has signed in, or taken over what another did.
    pub(super) fn know_signed_in(&mut self) {
        self.story.signed_in = self.truth;
    }

    /// Whether the metadata has been read, and not too long ago by any clock.
    fn has_metadata(&self, process: usize) -> bool {
        let now = self.now(process);
        self.processes[process].known.metadata.is_some_and(|read| !now.has_reached(read + OLDEST))
    }

    /// A run asks for something.
    pub(super) fn judge_effect(&mut self, id: u64, effect: &Effect) {
        let truth = self.truth;
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.seen.discovers &= matches!(effect, Effect::Http(_) | Effect::Sleep(_));
        if let Effect::Store(StoreOp::Load { .. } | StoreOp::Lease { .. }) = effect {
            self.processes[run.process].known.looked = truth;
        }
        let between = match effect {
            Effect::Sleep(_) => "a pause",
            Effect::Store(StoreOp::Load { .. } | StoreOp::Lease { .. }) => "a look at the store",
            _ => return,
        };
        let intent = std::mem::take(&mut run.seen.ready);
        self.rule(Rule::IntentLast, !intent, || format!("run {id} has saved an intent, and asks for {between}"));
    }

    /// A request begins. One for the metadata has no refresh token.
    pub(super) fn judge_request(&mut self, id: u64, refresh_token: Option<&str>, timeout: Duration) {
        let truth = self.truth;
        let Some(run) = self.runs.get_mut(&id) else { return };
        let process = run.process;
        let (had, now) = (self.has_metadata(process), self.now(process));
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Some(token) = refresh_token else {
            run.seen.had |= had && run.seen.metadata.is_none();
            run.seen.metadata.get_or_insert(truth);
            run.seen.metadata_at.get_or_insert(now);
            run.seen.discovered_leased |= run.seen.leased;
            run.seen.discovers = true;
            let intent = std::mem::take(&mut run.seen.ready);
            return self.rule(Rule::IntentLast, !intent, || {
                format!("run {id} has saved an intent, and asks for the server's metadata")
            });
        };
        run.seen.ready = false;
        run.seen.discovers = false;
        let first = !std::mem::replace(&mut run.seen.requested, true);
        let took = run.seen.metadata.map_or(Duration::ZERO, |since| truth.saturating_sub(since));
        let stopped = !run.seen.stopped.is_zero();
        let waited = run.seen.discovered_leased;
        let had = run.seen.had;
        self.rule(Rule::OldMetadata, !first || !had || stopped || took <= METADATA, || {
            format!("metadata that was read once keeps run {id} waiting for {took:?}")
        });
        self.rule(Rule::OldMetadata, !first || !waited || stopped || timeout >= SHORTEST_USE, || {
            format!("reading the metadata leaves run {id} {timeout:?} to use {token}")
        });
    }

    /// A refresh token leaves its process.
    pub(super) fn judge_use(&mut self, id: u64, token: &str, valid: bool, uses: u32) {
        let run = &self.runs[&id];
        let (process, truth, seen) = (run.process, self.truth, &run.seen);
        let life = &self.processes[process].known;
        let lease = seen.lease_ends;
        let known = |told: &BTreeMap<String, Told>| told.get(token).is_some_and(|told| told.is_known(id, run));
        let again = known(&life.refused) || (known(&life.refused_early) && valid);
        let last = self.story.sent.insert(token.to_owned(), truth);
        let pause = last.map_or(Duration::MAX, |last| truth.saturating_sub(last));
        // With what was saved last the store loses intents too.
        let strict = !self.plan.clocks && seen.stopped.is_zero() && self.story.fell_back.is_none();
        self.rule(Rule::RefusedOnce, !again, || format!("run {id} sends {token}, which was refused to its process"));
        self.rule(Rule::LeaseClock, lease.is_none_or(|end| truth < end), || {
            format!("run {id} sends {token} when its lease has ended")
        });
        let why = match uses {
            0..=2 => None,
            _ if strict && valid => Some("though there is a valid access token"),
            _ if strict && pause + SECOND < SHORTEST => Some("without a pause"),
            _ => None,
        };
        self.rule(Rule::Pauses, why.is_none(), || {
            format!("run {id} sends {token} for the {uses}th time {}", why.unwrap_or_default())
        });
        self.judge_answered(id, token);
    }

    /// Whether somebody alive has seen a refresh token answered that is sent once more.
    fn judge_answered(&mut self, id: u64, token: &str) {
        let (run, truth) = (&self.runs[&id], self.truth);
        let (sender, begun) = (run.process, run.seen.intent_at);
        let mut alive = self.processes.iter().enumerate().filter(|(_, process)| process.alive);
        let Some((knows, _)) = alive.find(|(_, process)| process.used.contains(token)) else { return };
        let own = self.processes[sender].used.contains(token);
        let answered = self.story.answered.get(token).copied().unwrap_or(truth);
        let in_grace = truth.saturating_sub(answered) <= GRACE && self.story.again.insert(token.to_owned());
        let superseded = self.story.superseded.get(token).copied();
        let fell_back = self.story.fell_back.is_some_and(|at| superseded.is_none_or(|then| then <= at));
        let unsaved = superseded.is_none_or(|then| begun.is_some_and(|begun| begun <= then));
        let count = match () {
            () if own => &mut self.report.answered_uses,
            () if in_grace => &mut self.report.answered_in_grace,
            () if fell_back => &mut self.report.answered_after_fall_back,
            () if unsaved => &mut self.report.answered_unsaved,
            () => &mut self.report.answered_uses,
        };
        *count += 1;
        self.rule(Rule::AnsweredOnce, !own && (in_grace || fell_back || unsaved), || {
            format!("run {id} of process {sender} sends {token}, which process {knows} has seen answered")
        });
    }

    /// The server has ended a grant, because a refresh token came too late.
    pub(super) fn judge_end(&mut self, run: u64, token: &str) {
        let known = self.processes.iter().any(|process| process.alive && process.used.contains(token));
        let superseded = self.story.superseded.get(token).copied();
        if !known && superseded.is_none() {
            return;
        }
        let begun = self.runs.get(&run).and_then(|run| run.seen.intent_at);
        let unsaved = superseded.is_none_or(|then| begun.is_none_or(|begun| begun <= then));
        let fell_back = self.story.fell_back.is_some();
        self.report.killed += u64::from(!unsaved && !fell_back);
        self.report.killed_unsaved += u64::from(unsaved || fell_back);
        self.rule(Rule::SuccessorLives, unsaved || fell_back, || {
            format!("run {run} gives the server {token}, whose successor is in use, and that ends the grant")
        });
    }

    /// A record is saved with access tokens of these sizes.
    pub(super) fn judge_size(&mut self, sizes: &[usize]) {
        let small = sizes.iter().all(|size| *size <= LARGEST) && sizes.iter().sum::<usize>() <= LARGEST_SUM;
        self.rule(Rule::TokensGiveWay, small, || format!("a record is saved with access tokens of {sizes:?} bytes"));
    }

    /// A run has ended.
    pub(super) fn judge_run(&mut self, run: &Run, error: Option<&Error>) {
        let seen = &run.seen;
        let process = run.process;
        let back = seen.intent.is_none() || seen.used || seen.taken_back || seen.store_failed || seen.conflict;
        let token = seen.refresh_token.clone().unwrap_or_default();
        let had = seen.had;
        let in_vain = seen.discovers && !seen.requested;
        self.rule(Rule::TakenBack, back, || format!("an intent for {token} stays, and the server has not begun"));
        match error {
            None if seen.metadata_at.is_some() && run.slot().is_some() => {
                self.processes[process].known.metadata = seen.metadata_at;
            }
            None => {}
            Some(error) => self.rule(Rule::OldMetadata, !had || !in_vain, || {
                format!("process {process} fails for want of metadata that it has read once: {error}")
            }),
        }
    }

    /// A refresh of a process has ended, and this is whether there is something left to save.
    pub(super) fn know_unsaved(&mut self, process: usize, unsaved: bool) {
        let since = self.processes[process].known.unsaved;
        self.processes[process].known.unsaved = unsaved.then(|| since.unwrap_or(self.truth));
    }

    /// Something hinders a process from saving.
    pub(super) fn know_hindered(&mut self, process: usize) {
        if let Some(since) = &mut self.processes[process].known.unsaved {
            *since = self.truth;
        }
    }

    /// What must hold after every event: what is not saved will be.
    pub(super) fn judge_unsaved(&mut self) {
        for nth in 0..self.processes.len() {
            let here = &mut self.processes[nth];
            let Some(since) = here.known.unsaved.filter(|_| here.alive && !here.stopped && !self.full) else {
                continue;
            };
            let took = self.truth.saturating_sub(since.max(self.story.well));
            if took > SAVED {
                here.known.unsaved = None;
                self.rule(Rule::SavedLater, false, || format!("process {nth} has not saved a result for {took:?}"));
            }
        }
    }

    /// A process ends, by its own will or another's.
    pub(super) fn judge_last(&mut self, process: usize, killed: bool) {
        let here = &self.processes[process];
        if here.grant.state().save_error().is_none() {
            return;
        }
        let lost = if killed { &mut self.report.unsaved_killed } else { &mut self.report.unsaved_lost };
        *lost += 1;
        let may = killed || self.full || here.known.unsaved.is_none();
        self.rule(Rule::SavedLater, may, || {
            format!("process {process} ends in order, and what it could not save is lost")
        });
    }

    /// What somebody has granted could not be saved.
    pub(super) fn judge_sign_in(&mut self, process: usize, seen: &Seen) {
        let Some(token) = seen.signed_in.clone() else { return };
        let unsaved = self.processes[process].grant.state().save_error().is_some();
        let kept = unsaved || self.kept() == token;
        self.report.sign_ins_lost += u64::from(!kept);
        self.rule(Rule::SignInKept, kept, || {
            format!("what a person granted at process {process} cannot be saved, and is thrown away")
        });
    }

    /// A process is told to end, and may do its last things. It does so when it has nothing under way.
    pub(super) fn shut_down(&mut self, process: usize, life: u64) {
        let busy = self.runs.values().any(|run| run.process == process);
        if self.lives(process, life) && !self.processes[process].stopped && !busy && !self.begin_save(process, true) {
            self.end_in_order(process);
        }
    }

    pub(super) fn end_in_order(&mut self, process: usize) {
        self.judge_last(process, false);
        self.processes[process].known.unsaved = None;
        self.end_life(process, ("anything", "in order"));
    }

    /// Another copy of the store takes over, and what was saved last is lost.
    pub(super) fn fall_back(&mut self) {
        let time = self.rng.time(Duration::from_millis(200), Duration::from_secs(20));
        self.note("the store falls back by {b} ms", 0, time.as_millis() as u64);
        self.shelf.fall_back(self.truth, self.truth.saturating_sub(time));
        self.story.fell_back = Some(self.truth);
        self.report.fall_backs += 1;
    }

    /// Somebody signs in at one of the processes.
    pub(super) fn sign_in_somewhere(&mut self) {
        self.story.sign_in_comes = false;
        let first = self.rng.below(self.processes.len());
        let count = self.processes.len();
        let able = |process: &&usize| self.processes[**process].alive && !self.processes[**process].stopped;
        let somewhere: Vec<usize> = (0..count).map(|nth| (first + nth) % count).collect();
        if let Some(process) = somewhere.iter().find(able) {
            self.begin_sign_in(*process);
        } else if self.season == Season::Quiet {
            self.sign_in_comes();
        }
    }

    /// Somebody will sign in, sooner or later.
    pub(super) fn sign_in_comes(&mut self) {
        if std::mem::replace(&mut self.story.sign_in_comes, true) {
            return;
        }
        let wait = match self.season {
            Season::Storm => self.rng.time(SECOND, 1800 * SECOND),
            _ => 2 * SECOND,
        };
        self.after(wait, super::Event::Weather(super::weather::Weather::SignIn));
    }
}
