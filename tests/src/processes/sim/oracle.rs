//! The rules, kept apart from the machines: what is known from what happened at the store and at the server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use grantflow::machine::Open;
use grantflow::store::{StoreReply, Stored};
use grantflow::{Error, ErrorKind, Now, Reply, Timestamp, Token};
use serde_json::Value;

use super::Sim;
use super::effects::What;
use super::life::{LARGEST, ON_ITS_WAY};
use super::plan::ENDLESS;
use super::process::{Run, is_final, key};

const SECOND: Duration = Duration::from_secs(1);
/// How long the grace window of a server may be open.
const GRACE: Duration = Duration::from_secs(30);
/// How much later than its client a server may think that a token ends: the client counts from the request.
pub(super) const LATE: Duration = Duration::from_secs(5);
/// How long a use of a refresh token may take.
const USE: Duration = Duration::from_secs(30);
/// The longest that a refresh may take: waiting for the lease, waiting for another's use, discovery, a use, and two
/// connections that take their time.
const LONGEST: Duration = Duration::from_secs(90 + 30 + 30 + 30 + 16 + 1);

/// What a run has seen and done.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) store_time: Duration,
    pub(super) stopped: Duration,
    /// The refresh token that it has read last, and when by its clock.
    pub(super) refresh_token: Option<String>,
    /// The access tokens that lay beside it, and when they end.
    access: Vec<(String, Option<Timestamp>)>,
    /// Whether the server may have taken an access token of its want for valid, when it began or when it sent.
    pub(super) valid: bool,
    /// When a refresh token had been sent before that it has sent.
    sent_before: Option<Duration>,
    /// When its lease ends, by the true time.
    pub(super) lease_ends: Option<Duration>,
    /// When it began to ask for the server's metadata, whether its process had read it before, whether it had the lease
    /// then, and whether it still does so.
    pub(super) metadata: Option<Duration>,
    pub(super) had: bool,
    pub(super) leased: bool,
    pub(super) discovered_leased: bool,
    pub(super) discovers: bool,
    /// The same moment by the clocks of its process.
    pub(super) metadata_at: Option<Now>,
    /// Whether it has begun to send a refresh token.
    pub(super) requested: bool,
    /// Whether an intent is saved, and nothing was asked for since.
    pub(super) ready: bool,
    /// When an intent was saved.
    pub(super) intent_at: Option<Duration>,
    /// Whether the server may have used what was sent.
    pub(super) used: bool,
    /// Whether it has taken its intent back.
    pub(super) taken_back: bool,
    pub(super) store_failed: bool,
    /// What a person granted.
    pub(super) signed_in: Option<String>,
    read_at: Timestamp,
    lease_until: Option<Timestamp>,
    /// The refresh token that it has saved an intent for, and the record's version since.
    pub(super) intent: Option<(String, u64)>,
    /// The deadline of the intent that lay there before.
    previous: Option<i64>,
    pub(super) conflict: bool,
    /// The refresh token that it has sent.
    pub(super) sent: Option<String>,
    /// Whether the last load succeeded.
    loaded: bool,
    /// How many uses of what it has read last had no known end then.
    pub(super) open: usize,
    /// Whether that was outdated even when it was read.
    pub(super) outdated: bool,
}

impl Seen {
    /// Whether this access token lay in the store.
    pub(super) fn knows(&self, token: &str) -> bool {
        self.access.iter().any(|(access, _)| access == token)
    }

    /// The access tokens that lay there and whose server may take them for valid, and for how long.
    pub(super) fn kept(&self, now: Timestamp) -> impl Iterator<Item = (&str, Duration)> {
        let left = move |ends: &Option<Timestamp>| ends.map_or(Duration::MAX, |end| (end + LATE).since(now));
        let kept = self.access.iter().map(move |(access, ends)| (access.as_str(), left(ends)));
        kept.filter(|(_, left)| !left.is_zero())
    }
}

/// What is known of the store.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Runs that may put another grant in the place of the one that lies there.
    pub(super) signers: BTreeSet<u64>,
    /// Access tokens that were ever saved.
    access: BTreeSet<String>,
    /// Refresh tokens that were ever saved.
    saved: BTreeSet<String>,
    /// Which runs have saved an intent for a refresh token that the store knows no end of.
    open: BTreeMap<String, BTreeSet<u64>>,
    /// Intents that were ever saved: the refresh token, how often it was used, and the deadline.
    intents: BTreeSet<(String, (u64, i64))>,
    /// How often a refresh token went out so that it may have been used.
    uses: BTreeMap<String, u32>,
    /// Refresh tokens that were given up.
    lost: BTreeSet<String>,
    refused: BTreeSet<String>,
    /// Which process in which life says that somebody must sign in again, and with which refresh token.
    pub(super) signed_out: BTreeSet<(usize, u64, String)>,
}

impl Known {
    /// How often a refresh token went out so that it may have been used, and nobody knows its end.
    pub(super) fn uses(&self, token: &str) -> u32 {
        self.uses.get(token).copied().unwrap_or_default()
    }
}

/// The refresh token in a record.
pub(super) fn refresh_token(stored: &Stored) -> String {
    Record::read(stored).refresh_token
}

/// A record as it lies in the store.
struct Record {
    refresh_token: String,
    intent: Option<(u64, i64)>,
    access: Vec<(String, Option<Timestamp>)>,
}

impl Record {
    fn read(stored: &Stored) -> Self {
        let record: Value = serde_json::from_slice(&stored.value).expect("a record is JSON");
        let intent = record.get("intent").map(|intent| {
            let number = |name: &str| intent[name].as_i64().expect("a number");
            (number("tries") as u64, number("deadline"))
        });
        let tokens = record["tokens"].as_object().into_iter().flatten();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Self {
            refresh_token: text(&record["refresh_token"]),
            intent,
            access: tokens
                .map(|(_, kept)| {
                    let ends = kept["expires_at"].as_i64().map(Timestamp::from_unix_millis);
                    (text(&kept["access_token"]), ends)
                })
                .collect(),
        }
    }
}

impl Sim {
    /// What must hold after every event.
    pub(super) fn check(&mut self) {
        let mut why = None;
        for (nth, process) in self.processes.iter().enumerate().filter(|(_, process)| process.alive) {
            let refreshing = process.slots.iter().any(|slot| slot.cell.is_refreshing());
            if refreshing && !self.runs.values().any(|run| run.process == nth && run.is_turn()) {
                why = Some(format!("process {nth} holds on to a ticket that nobody has"));
            }
        }
        why.into_iter().for_each(|why| self.breaks(why));
        self.judge_unsaved();
    }

    pub(super) fn know_first(&mut self) {
        let record = Record::read(self.shelf.peek(&key()).expect("a record"));
        self.known.access.extend(record.access.into_iter().map(|(access, _)| access));
        self.known.saved.insert(record.refresh_token);
    }

    /// Something new lies in the store.
    pub(super) fn know_save(&mut self, run: u64, old: Option<Stored>, new: &Stored) {
        let Some(old) = old else { return self.breaks("the record was gone".to_owned()) };
        self.require(new.version == old.version + 1, || "a version was left out".to_owned());
        let (old, record) = (Record::read(&old), Record::read(new));
        let token = record.refresh_token.clone();
        let sizes: Vec<usize> = record.access.iter().map(|(access, _)| access.len()).collect();
        self.known.access.extend(record.access.into_iter().map(|(access, _)| access));
        self.judge_size(&sizes);
        // What a person has granted goes over anything, once: that its save failed may be known late, and not be so.
        let same = token == old.refresh_token;
        let first = self.known.saved.insert(token.clone()) && token.ends_with("-0");
        if self.known.signers.contains(&run) || first {
            return;
        }
        let next = self.server.descends(&token, &old.refresh_token);
        // To who read it before that, the same version may mean two things.
        let twice = self.began_before_fall_back(run);
        // What the store has lost of a later grant may be saved again.
        let later = self.story.fell_back.is_some() && self.server.is_later_grant(&token, &old.refresh_token);
        // Where it has lost a successor, another process may have got a second one for the same refresh token, from a server
        // that permits that. Neither of the two is the newer: what is alive may give way to what is alive.
        let beside = !self.server.descends(&old.refresh_token, &token)
            && self.server.are_of_one_grant(&token, &old.refresh_token);
        let as_alive =
            self.server.is_alive(&token, self.truth) || !self.server.is_alive(&old.refresh_token, self.truth);
        let fork = self.story.fell_back.is_some() && beside && as_alive;
        self.require(same || next || later || twice || fork, || {
            format!("{token} overwrites {}, which is newer", old.refresh_token)
        });
        if next {
            self.know_superseded(&old.refresh_token.clone());
        }
        let truth = self.truth;
        // What the store has lost is saved once more as it was, with the intent of a use that was under way: that one is
        // of who wrote it first, and nobody is about to use the refresh token by it.
        let anew = record.intent.is_none_or(|intent| self.known.intents.insert((token.clone(), intent)));
        let seen = self.runs.get_mut(&run).map(|run| &mut run.seen);
        let open = self.known.open.entry(old.refresh_token).or_default();
        match (old.intent, record.intent) {
            // Who has read an older record of the same version counts on from that.
            (before, Some((attempts, _))) if anew && before.is_none_or(|(before, _)| attempts > before || twice) => {
                open.insert(run);
                if let Some(seen) = seen {
                    seen.intent_at = Some(truth);
                    // Where refresh tokens stay it is written down after a use, if that is unclear.
                    seen.used &= seen.sent.as_deref() == Some(token.as_str());
                    seen.taken_back = false;
                    seen.previous = before.map(|(_, deadline)| deadline);
                    seen.intent = Some((token, new.version));
                }
            }
            (Some(_), None) => {
                open.clear();
                let recovers = seen.as_ref().is_some_and(|seen| seen.previous.is_some());
                seen.into_iter().for_each(|seen| seen.taken_back = true);
                if same {
                    self.known.uses.remove(&token);
                }
                if next && recovers {
                    self.report.recovered += 1;
                }
            }
            // What lay there knew of no use, nor does what went over it.
            (None, None) => seen.into_iter().for_each(|seen| seen.taken_back = true),
            (Some((before, _)), Some((attempts, _))) if attempts < before => {
                open.remove(&run);
                seen.into_iter().for_each(|seen| seen.taken_back = true);
            }
            _ => {}
        }
    }

    /// Whether a run began before the store lost what was saved last: what it has read, and its lease, may be gone. One
    /// whose process is dead may have something under way at the store yet.
    fn began_before_fall_back(&self, run: u64) -> bool {
        self.story.fell_back.is_some_and(|at| match self.runs.get(&run) {
            Some(run) => run.began <= at + self.plan.lag,
            None => self.truth.saturating_sub(at) < ON_ITS_WAY,
        })
    }

    /// Somebody reads what lies in the store.
    pub(super) fn know_load(&mut self, run: u64, stored: &Stored) {
        let open = self.known.open.get(&Record::read(stored).refresh_token).map_or(0, BTreeSet::len);
        let there = self.shelf.peek(&key()).map_or(0, |stored| stored.version);
        if let Some(run) = self.runs.get_mut(&run) {
            run.seen.open = open;
            run.seen.outdated = there != stored.version;
        }
    }

    pub(super) fn know_conflict(&mut self, run: u64) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.seen.conflict = true;
        }
    }

    /// A reply reaches its run.
    pub(super) fn know_reply(&mut self, id: u64, what: &What, reply: &Reply) {
        let Some(run) = self.runs.get(&id) else { return };
        let process = run.process;
        let now = self.now(process).wall;
        let seen = &mut self.runs.get_mut(&id).expect("a run").seen;
        match (what, reply) {
            (_, Reply::Store(StoreReply::Loaded(Some(stored)))) => {
                let Record { refresh_token: token, access, .. } = Record::read(stored);
                seen.access = access;
                seen.refresh_token = Some(token.clone());
                seen.read_at = now;
                seen.loaded = true;
                self.knows_successor(process, &token);
            }
            (_, Reply::Store(StoreReply::Leased(until))) => {
                seen.lease_until = *until;
                seen.leased = true;
            }
            (_, Reply::Store(StoreReply::Saved)) => seen.ready = seen.intent_at.is_some() && seen.sent.is_none(),
            (What::Store(..), Reply::Failed(_)) => {
                seen.loaded = false;
                seen.store_failed = true;
                self.know_hindered(process);
            }
            (What::Wire(wire), Reply::Http(response)) => {
                let Some(token) = wire.refresh_token.clone() else { return };
                let not_done = match response.status().as_u16() {
                    400 => !response.body().ends_with(b"invalid_grant\"}"),
                    401 => true,
                    status => matches!(status, 429 | 503),
                };
                if not_done {
                    seen.used = false;
                    let before = seen.sent_before;
                    self.know_not_begun(&token, before);
                    let uses = self.known.uses.entry(token).or_default();
                    *uses = uses.saturating_sub(1);
                } else if response.status() == 400 {
                    self.know_refusal(id, &token);
                } else if response.status().is_success() && !response.body().ends_with(b"}") {
                    self.know_used_up(&token);
                } else if self.plan.rotates && response.status().is_success() && response.body().ends_with(b"}") {
                    self.know_answered(&token);
                    self.processes[process].used.insert(token);
                }
            }
            _ => {}
        }
    }

    /// Who has seen a refresh token knows that those before it are used.
    fn knows_successor(&mut self, process: usize, token: &str) {
        let mut token = token;
        while let Some(parent) = self.server.parent(token) {
            if !self.processes[process].used.insert(parent.to_owned()) {
                break;
            }
            token = parent;
        }
    }

    /// A request has its limits.
    pub(super) fn judge_call(&mut self, run: u64, call: &Open) {
        let run = &self.runs[&run];
        let is_post = call.request.method() == http::Method::POST;
        let bound = call.start_before.is_some() || (run.seen.intent.is_none() && run.seen.lease_until.is_none());
        let in_lease = match (run.seen.lease_until, call.start_before) {
            (Some(until), Some(moment)) => moment.wall + 10 * SECOND <= until,
            _ => true,
        };
        if is_post {
            self.require(call.timeout <= USE && bound, || format!("a request may take for ever: {call:?}"));
            self.require(in_lease, || "a request may begin after the lease".to_owned());
        }
    }

    /// A refresh token leaves its process.
    pub(super) fn refresh_token_goes_out(&mut self, id: u64, token: &str) {
        self.report.sent += 1;
        let run = self.runs.get_mut(&id).expect("a run");
        run.seen.sent = Some(token.to_owned());
        run.seen.conflict = false;
        run.seen.used = true;
        let run = &self.runs[&id];
        // Where refresh tokens stay, that may be known, or learned.
        if !self.plan.rotates && self.plan.known != grantflow::Rotation::Rotates {
            return;
        }
        let (now, here) = (self.now(run.process), &self.processes[run.process]);
        let same_time = self.ops.iter().any(|(nth, op)| {
            let wire = matches!(&op.what, What::Wire(wire) if wire.refresh_token.as_deref() == Some(token));
            let waits = self.runs.get(&op.run).is_some_and(|run| run.op == Some(*nth) && run.seen.stopped.is_zero());
            let lost = self.began_before_fall_back(op.run);
            wire && waits && !lost && op.run != id && !self.processes[op.process].stopped
        });
        let seen = &run.seen;
        let late = seen.previous.is_some_and(|end| seen.read_at.since(Timestamp::from_unix_millis(end)) > GRACE);
        // A token of another grant does not count.
        let valid = run.slot().and_then(|slot| here.slots[slot].cell.valid(now));
        let valid = valid.is_some_and(|held| seen.knows(held.token.access_token()));
        let early = run.slot().is_some_and(|slot| self.may_be_kept(run, slot, now.wall));
        // With what was saved last the store loses intents and leases too.
        let strict = !self.plan.clocks && !self.began_before_fall_back(id);
        let uses = self.known.uses.get(token).copied().unwrap_or_default() + 1;
        let why = if seen.intent.as_ref().is_none_or(|(intent, _)| intent != token) {
            Some("no intent was saved for it")
        } else if strict && self.was_superseded(token, seen.intent_at) {
            Some("its successor had been saved before its intent")
        } else if strict && same_time && seen.stopped.is_zero() {
            Some("another one uses it at this moment")
        } else if strict && late && valid && seen.stopped.is_zero() {
            Some("a second use without need")
        } else {
            None
        };
        why.into_iter().for_each(|why| self.breaks(format!("run {id} sends {token}: {why}")));
        self.known.uses.insert(token.to_owned(), uses);
        let before = self.last_sent(token);
        let seen = &mut self.runs.get_mut(&id).expect("a run").seen;
        seen.valid |= early;
        seen.sent_before = before;
        self.judge_use(id, token, valid, uses);
        self.report.recoveries += u64::from(self.runs[&id].seen.previous.is_some());
    }

    /// The server has acted on a refresh token.
    pub(super) fn server_got(&mut self, run: u64, token: &str, ended: bool) {
        if ended {
            self.report.ended += 1;
            self.note("the server ends the grant at the request of run {b}", 0, run);
            self.require(self.plan.grace != ENDLESS, || format!("the server was given {token} when it was too late"));
            self.judge_end(run, token);
        }
    }

    /// A token is handed out.
    pub(super) fn judge_token(&mut self, token: &Token, seen: &Seen, unsaved: bool) {
        let saved = self.known.access.contains(token.access_token());
        self.report.shared += u64::from(saved && seen.sent.is_none());
        // What is too large for a record is not kept in it.
        let large = token.access_token().len() > LARGEST;
        if saved || unsaved || large {
            return;
        }
        let there = self.shelf.peek(&key()).map_or(0, |stored| stored.version);
        let newer = seen.intent.as_ref().is_none_or(|(_, version)| there > *version);
        self.report.too_late += 1;
        self.require(seen.conflict && newer, || "what is handed out was not saved, and nobody is told".to_owned());
    }

    /// A refresh has failed.
    pub(super) fn judge_failure(&mut self, process: usize, seen: &Seen, error: &Error) {
        let token = seen.refresh_token.clone().unwrap_or_default();
        if is_final(error) {
            self.judge_sign_out(process, seen, error);
        }
        self.judge_advice(process, seen, error);
        match error.kind() {
            ErrorKind::GrantLost => {
                self.note("{b} is given up by process {a}", process, seen.open as u64);
                if self.known.lost.insert(token.clone()) {
                    self.report.lost += 1;
                    self.report.lost_though_alive += u64::from(self.server.is_alive(&token, self.truth));
                    self.report.lost_though_unused += u64::from(!self.server.was_used(&token));
                }
            }
            ErrorKind::Server if is_final(error) => {
                let sent = seen.sent.clone().unwrap_or_default();
                self.report.refused += u64::from(self.known.refused.insert(sent.clone()));
                // What was not sent was refused before.
                let fails_to_see = seen.loaded && sent != token && !seen.outdated && !sent.is_empty();
                self.require(!fails_to_see, || format!("{sent} is given up, and {token} is there"));
            }
            ErrorKind::Misuse | ErrorKind::Unsupported | ErrorKind::NotSignedIn | ErrorKind::Entropy => {
                self.breaks(format!("process {process} fails: {error:?}"));
            }
            _ => {}
        }
    }

    /// A run has ended.
    pub(super) fn judge_time(&mut self, run: &Run) {
        let took = (self.truth - run.began).saturating_sub(run.seen.stopped + run.seen.store_time);
        self.report.longest = self.report.longest.max(took);
        self.require(took <= LONGEST, || format!("a run takes {took:?}"));
    }
}
