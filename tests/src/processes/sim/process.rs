//! The processes, as the adapters' managers are: a cell for each want, one grant for all, a run for each refresh.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use grantflow::cell::{self, Acquired, Issued, TokenCell};
use grantflow::documents::{Documents, Ticket};
use grantflow::exchange::Received;
use grantflow::source::{Change, Grant, Mint, Outcome, Turn, Want};
use grantflow::store::{LoadGrant, RecordKey, SaveGrant, SavedGrant, Saving, SharedGrant};
use grantflow::{Cx, Error, ErrorKind, Machine, Reply, Step, Token, TokenRequest};

use super::life::Life;
use super::oracle::Seen;
use super::server::{Server, client, issuer};
use super::weather::Season;
use super::{Event, Sim};

/// A process. Its life ends and another begins.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) life: u64,
    pub(super) alive: bool,
    pub(super) stopped: bool,
    /// What happened while it was stopped.
    pub(super) deferred: Vec<Event>,
    /// How far its wall clock is off, in milliseconds.
    pub(super) offset: i64,
    pub(super) grant: Grant<Job>,
    /// How often another took its place.
    epoch: u64,
    pub(super) slots: Vec<Slot>,
    /// Whether somebody is about to sign in here.
    signing_in: bool,
    /// The refresh tokens that it has seen to be used.
    pub(super) used: BTreeSet<String>,
    /// The refresh token that it was told is no good.
    pub(super) dead: Option<String>,
    pub(super) known: Life,
    /// The public documents that it has read.
    pub(super) documents: Documents,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) want: Want,
    pub(super) cell: TokenCell,
    /// When it was served for the first time after all trouble was over.
    pub(super) served: Option<Duration>,
}

/// A refresh that waits for its turn.
#[derive(Debug)]
pub(super) struct Job {
    slot: usize,
    ticket: cell::Ticket,
}

/// A machine under way.
pub(super) struct Run {
    pub(super) process: usize,
    epoch: u64,
    work: Work,
    machine: Box<dyn Running>,
    /// What it has asked for.
    pub(super) op: Option<u64>,
    pub(super) began: Duration,
    pub(super) seen: Seen,
    /// Of a public document that it reads for all of its process.
    pub(super) ticket: Option<Ticket>,
}

enum Work {
    Refresh {
        slot: usize,
        ticket: cell::Ticket,
        turn: Turn<()>,
    },
    /// Looks whether somebody else has signed in.
    Look,
    SignIn {
        token: Box<Token>,
    },
    /// Saves what could not be saved; the last thing of its process, perhaps.
    Save {
        turn: Turn<()>,
        last: bool,
    },
}

#[allow(clippy::large_enum_variant, reason = "an outcome lives for a moment")]
enum Outcomes {
    Minted(Box<Token>),
    Found(Option<SavedGrant>),
    Kept,
}

impl Run {
    /// Whether others wait for it to refresh.
    pub(super) fn is_turn(&self) -> bool {
        matches!(self.work, Work::Refresh { .. } | Work::Save { .. })
    }

    /// The slot that it refreshes.
    pub(super) fn slot(&self) -> Option<usize> {
        if let Work::Refresh { slot, .. } = self.work { Some(slot) } else { None }
    }
}

/// A machine that may change its process's grant.
trait Running: Machine<Output = Outcomes> {
    fn change(&mut self) -> Change {
        Change::default()
    }
}

struct Mints(Mint);

impl Machine for Mints {
    type Output = Outcomes;
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Outcomes> {
        match self.0.resume(cx, reply) {
            Step::Do(effect) => Step::Do(effect),
            Step::Done(result) => Step::Done(result.map(|token| Outcomes::Minted(Box::new(token)))),
        }
    }
}

impl Running for Mints {
    fn change(&mut self) -> Change {
        self.0.take_change()
    }
}

struct Saves(Saving);

impl Machine for Saves {
    type Output = Outcomes;
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Outcomes> {
        match self.0.resume(cx, reply) {
            Step::Do(effect) => Step::Do(effect),
            Step::Done(result) => Step::Done(result.map(|()| Outcomes::Kept)),
        }
    }
}

impl Running for Saves {
    fn change(&mut self) -> Change {
        self.0.take_change()
    }
}

impl<M: Machine> Running for Into<M> {}

struct Into<M>(M, fn(<M as Machine>::Output) -> Outcomes)
where
    M: Machine;

impl<M: Machine> Machine for Into<M> {
    type Output = Outcomes;
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Outcomes> {
        match self.0.resume(cx, reply) {
            Step::Do(effect) => Step::Do(effect),
            Step::Done(result) => Step::Done(result.map(self.1)),
        }
    }
}

pub(super) fn key() -> RecordKey {
    RecordKey::new(&issuer(), &client(), "alice")
}

fn wants() -> [Want; 3] {
    // Two resources of one grant are two wants.
    let of = |resource| Want::access_token("read").resource(resource);
    [Want::access_token("read"), of("urn:a"), of("urn:b")]
}

impl Sim {
    pub(super) fn add_process(&mut self) {
        let offset = self.offset();
        self.processes.push(Process {
            life: 0,
            alive: false,
            stopped: false,
            deferred: Vec::new(),
            offset,
            grant: self.grant(),
            epoch: 0,
            slots: Vec::new(),
            signing_in: false,
            used: BTreeSet::new(),
            dead: None,
            known: Life::default(),
            documents: Documents::new(),
        });
    }

    fn grant(&self) -> Grant<Job> {
        Grant::new(Arc::new(SharedGrant::new(key(), Server::as_known(&self.plan), &client())))
    }

    pub(super) fn start(&mut self, process: usize) {
        let (grant, life) = (self.grant(), self.id());
        let here = &mut self.processes[process];
        if here.alive {
            return;
        }
        here.life = life;
        here.alive = true;
        here.grant = grant;
        here.slots = wants()
            .into_iter()
            .take(self.plan.wants)
            .map(|want| Slot { want, cell: TokenCell::new(life), served: None })
            .collect();
        here.used.clear();
        here.dead = None;
        here.known = Life::default();
        here.documents = Documents::new();
        here.signing_in = false;
        self.note("process {a} begins", process, 0);
        self.ask_later(process);
    }

    pub(super) fn ask_later(&mut self, process: usize) {
        let wait = match self.season {
            Season::Storm => {
                self.rng.time(Duration::from_millis(50), self.plan.lifetime / 4 * if self.plan.idle { 16 } else { 1 })
            }
            _ => self.rng.time(Duration::from_secs(1), Duration::from_secs(10)),
        };
        let life = self.processes[process].life;
        self.after(wait, Event::Ask { process, life });
    }

    pub(super) fn ask(&mut self, process: usize, life: u64) {
        if !self.lives(process, life) {
            return;
        }
        self.ask_later(process);
        let slot = self.rng.below(self.plan.wants);
        for _ in 0..2 {
            let now = self.now(process);
            let acquired = self.processes[process].slots[slot].cell.acquire(now);
            let issued = match acquired {
                Acquired::Fresh(issued) | Acquired::Due(issued, None) => issued,
                Acquired::Due(issued, Some(ticket)) => {
                    self.refresh(process, slot, ticket);
                    issued
                }
                Acquired::Refresh(ticket) => return self.refresh(process, slot, ticket),
                Acquired::Wait => return,
                Acquired::Failed(error) => {
                    self.judge_told(process, &error);
                    return self.failed(process, &error);
                }
            };
            if self.use_token(process, slot, &issued) {
                return;
            }
        }
    }

    /// Whether there is no reason to ask again: the resource took the token, or will not take another either.
    fn use_token(&mut self, process: usize, slot: usize, issued: &Issued) -> bool {
        let (now, truth) = (self.now(process), self.truth);
        let wanted = self.processes[process].slots[slot].want.wanted_resources().next().unwrap_or_default().to_owned();
        let right = self.server.resource(issued.token.access_token()) == wanted;
        self.require(right, || format!("slot {slot} of process {process} has a token for another resource"));
        if self.server.accepts(issued.token.access_token(), truth) {
            self.report.served += 1;
            self.know_served(process);
            self.processes[process].slots[slot].served.get_or_insert(truth);
            return true;
        }
        self.note("a token of process {a} is refused", process, issued.generation);
        self.know_rejected(process, issued.token.access_token());
        !self.processes[process].slots[slot].cell.reject(issued.generation, now)
    }

    fn refresh(&mut self, process: usize, slot: usize, ticket: cell::Ticket) {
        self.report.refreshes += 1;
        if let Some(turn) = self.processes[process].grant.begin(Job { slot, ticket }) {
            self.take_turn(process, turn);
        }
    }

    fn take_turn(&mut self, process: usize, turn: Turn<Job>) {
        let (Job { slot, ticket }, mut turn) = turn.split();
        let now = self.now(process);
        let here = &self.processes[process];
        let held = here.slots[slot].cell.holds();
        match here.grant.mint(&mut turn, &here.slots[slot].want, now, held) {
            Ok(mint) => {
                self.run(process, Work::Refresh { slot, ticket, turn }, None, Box::new(Mints(mint)));
            }
            Err(error) => self.land(process, slot, ticket, turn, (Err(error), Change::default()), None),
        }
    }

    fn run(&mut self, process: usize, work: Work, signed_in: Option<String>, machine: Box<dyn Running>) {
        let id = self.id();
        let epoch = self.processes[process].epoch;
        let mut run =
            Run { process, epoch, work, machine, op: None, began: self.truth, seen: Seen::default(), ticket: None };
        run.seen.signed_in = signed_in;
        run.seen.valid = run.slot().is_some_and(|slot| self.may_be_held(process, slot));
        self.note("process {a} begins run {b}", process, id);
        if let Work::SignIn { .. } = run.work {
            self.known.signers.insert(id);
        }
        self.runs.insert(id, run);
        self.resume(id, Reply::Start);
    }

    /// A run goes on with the reply to what it asked for.
    pub(super) fn resume(&mut self, id: u64, reply: Reply) {
        let reply = self.read(id, reply);
        let Some(run) = self.runs.get(&id) else { return };
        let mut cx = Cx::new(self.now(run.process), self.rng.seed());
        let run = self.runs.get_mut(&id).expect("it is there");
        match run.machine.resume(&mut cx, reply) {
            Step::Do(effect) => self.begin_op(id, effect),
            Step::Done(result) => self.end(id, result),
        }
    }

    /// A public document that was read is there for all of its process.
    fn read(&mut self, id: u64, reply: Reply) -> Reply {
        let Some(run) = self.runs.get_mut(&id) else { return reply };
        let (Some(ticket), process) = (run.ticket.take(), run.process) else { return reply };
        let now = self.now(process);
        let documents = &mut self.processes[process].documents;
        let outcome = match reply {
            Reply::Http(response) => Ok(response),
            Reply::Failed(failure) => Err(failure),
            other => {
                documents.abandon(ticket);
                return other;
            }
        };
        documents.settle(ticket, now, outcome).map_or_else(Reply::Failed, Reply::Http)
    }

    fn end(&mut self, id: u64, result: Result<Outcomes, Error>) {
        let mut run = self.runs.remove(&id).expect("a run");
        let change = run.machine.change();
        self.note(
            "run {b} of process {a} ends",
            run.process,
            id * 100 + result.as_ref().err().map_or(0, |error| error.kind() as u64 + 1),
        );
        // What a driver does however a run ends.
        self.shelf.give_back(id);
        self.judge_time(&run);
        self.judge_run(&run, result.as_ref().err());
        let process = run.process;
        // What a former grant comes to is told to nobody.
        let seen = (run.epoch == self.processes[process].epoch).then_some(&run.seen);
        match (run.work, result) {
            (Work::Refresh { slot, ticket, turn }, Ok(Outcomes::Minted(minted))) => {
                self.land(process, slot, ticket, turn, (Ok(*minted), change), seen);
            }
            (Work::Refresh { slot, ticket, turn }, Err(error)) => {
                self.land(process, slot, ticket, turn, (Err(error), change), seen);
            }
            (Work::Look, Ok(Outcomes::Found(found))) => self.looked(process, found),
            (Work::SignIn { .. }, Ok(Outcomes::Kept)) => {
                self.know_signed_in();
                self.signed_in(process);
            }
            (Work::Save { turn, last }, _) => self.saved(process, turn, change, last),
            (Work::SignIn { token }, Err(error)) => {
                self.know_signed_in();
                let server = Server::as_known(&self.plan);
                let source = SharedGrant::signed_in(key(), server, &client(), &wants()[0], &token, error);
                self.begin_with(process, source.expect("a grant"));
                self.know_unsaved(process, true);
                self.judge_sign_in(process, &run.seen);
                self.save_later(process);
            }
            (Work::Look | Work::SignIn { .. }, _) => {
                self.judge_sign_in(process, &run.seen);
                self.processes[process].signing_in = false;
                self.sign_in_later(process);
            }
            (Work::Refresh { .. }, Ok(_)) => self.breaks("a refresh ends with something else".to_owned()),
        }
    }

    /// A refresh has ended: its turn, and its ticket.
    fn land(
        &mut self,
        process: usize,
        slot: usize,
        ticket: cell::Ticket,
        turn: Turn<()>,
        (mut result, change): (Result<Token, Error>, Change),
        seen: Option<&Seen>,
    ) {
        let now = self.now(process);
        let grant = &mut self.processes[process].grant;
        let before = grant.state().save_error().is_some();
        let next = grant.finish(turn, now, change, Outcome::from(&mut result));
        let after = grant.state().save_error().is_some();
        self.report.unsaved += u64::from(after && !before);
        self.report.saved_later += u64::from(before && !after);
        self.know_unsaved(process, after);
        match (&result, seen) {
            (Ok(token), Some(seen)) => self.judge_token(token, seen, after),
            // What is known of the grant may have changed what there is to tell.
            (Err(error), Some(seen)) => {
                self.judge_failure(process, seen, error);
                if is_final(error) {
                    self.processes[process].dead = seen.refresh_token.clone();
                }
            }
            (_, None) => {}
        }
        self.processes[process].slots[slot].cell.settle(ticket, now, result);
        if let Some(turn) = next {
            self.take_turn(process, turn);
        }
        self.save_later(process);
    }

    /// What is not saved is saved when it is due.
    fn save_later(&mut self, process: usize) {
        let now = self.now(process);
        let life = self.processes[process].life;
        if let Some(wait) = self.processes[process].grant.save_due(now) {
            self.after(wait, Event::Save { process, life });
        }
    }

    /// It may be time to save what is not saved.
    pub(super) fn save(&mut self, process: usize, life: u64) {
        let now = self.now(process);
        if self.lives(process, life) && self.processes[process].grant.save_due(now).is_some_and(|wait| wait.is_zero()) {
            self.begin_save(process, false);
        }
    }

    /// Whether there is something to save, and nobody is at it.
    pub(super) fn begin_save(&mut self, process: usize, last: bool) -> bool {
        let Some((turn, saving)) = self.processes[process].grant.save() else { return false };
        self.run(process, Work::Save { turn, last }, None, Box::new(Saves(saving)));
        true
    }

    fn saved(&mut self, process: usize, turn: Turn<()>, change: Change, last: bool) {
        let now = self.now(process);
        let grant = &mut self.processes[process].grant;
        let before = grant.state().save_error().is_some();
        let next = grant.finish(turn, now, change, Outcome::Saved);
        let after = grant.state().save_error().is_some();
        self.report.saved_later += u64::from(before && !after);
        self.know_unsaved(process, after);
        if last {
            return self.end_in_order(process);
        }
        if let Some(turn) = next {
            self.take_turn(process, turn);
        }
        self.save_later(process);
    }

    /// Somebody is told of a failure.
    fn failed(&mut self, process: usize, error: &Error) {
        if is_final(error) {
            self.sign_in_later(process);
        }
    }

    fn sign_in_later(&mut self, process: usize) {
        if self.plan.daemons {
            return self.sign_in_comes();
        }
        if std::mem::replace(&mut self.processes[process].signing_in, true) {
            return;
        }
        let wait = match self.season {
            Season::Storm => self.rng.time(Duration::from_secs(1), Duration::from_secs(1800)),
            _ => Duration::from_secs(2),
        };
        let life = self.processes[process].life;
        self.after(wait, Event::SignIn { process, life });
    }

    /// Somebody wants to sign in, unless somebody else has.
    pub(super) fn sign_in(&mut self, process: usize, life: u64) {
        if self.lives(process, life) && self.processes[process].signing_in {
            let machine = LoadGrant::new(key(), wants()[0].clone());
            self.run(process, Work::Look, None, Box::new(Into(machine, Outcomes::Found)));
        }
    }

    fn looked(&mut self, process: usize, found: Option<SavedGrant>) {
        let here = &self.processes[process];
        let other = found.is_some_and(|found| {
            here.dead.as_deref().is_none_or(|dead| !found.refresh_token.as_ref().is_some_and(|it| it.matches(dead)))
        });
        if other {
            return self.signed_in(process);
        }
        self.begin_sign_in(process);
    }

    pub(super) fn begin_sign_in(&mut self, process: usize) {
        self.report.sign_ins += 1;
        let token = self.new_token(process);
        let machine = SaveGrant::new(key(), wants()[0].clone(), &token);
        self.note("a person signs in at process {a}", process, 0);
        let signed_in = token.refresh_token().map(|token| token.expose().to_owned());
        let work = Work::SignIn { token: Box::new(token) };
        self.run(process, work, signed_in, Box::new(Into(machine, |()| Outcomes::Kept)));
    }

    /// Another grant takes the place of the one that ended.
    fn signed_in(&mut self, process: usize) {
        let source = SharedGrant::new(key(), Server::as_known(&self.plan), &client());
        self.begin_with(process, source);
    }

    fn begin_with(&mut self, process: usize, source: SharedGrant) {
        let here = &mut self.processes[process];
        here.signing_in = false;
        here.dead = None;
        here.epoch += 1;
        here.grant.replace(Arc::new(source));
        here.slots.iter_mut().for_each(|slot| slot.cell.clear());
    }

    /// What a sign-in brings.
    fn new_token(&mut self, process: usize) -> Token {
        let refresh_token = self.server.new_grant();
        let response = self.server.first_answer(self.truth, refresh_token.clone());
        let wall = self.wall(self.processes.get(process).map_or(0, |process| process.offset));
        let metadata = Server::metadata(&self.plan);
        let request = TokenRequest::refresh_token(&metadata, &client(), &refresh_token.as_str().into());
        let (_, parse) = request.expect("a token endpoint").into_parts();
        parse(Received { response: &response, sent: wall, now: wall }).0.expect("a token")
    }

    /// The store as the processes find it.
    pub(super) fn first_sign_in(&mut self) {
        let token = self.new_token(0);
        let mut machine = SaveGrant::new(key(), wants()[0].clone(), &token);
        let mut reply = Reply::Start;
        loop {
            let now = grantflow::Now { wall: self.wall(0), mono: super::MONO };
            reply = match machine.resume(&mut Cx::new(now, self.rng.seed()), reply) {
                Step::Do(grantflow::Effect::Store(op)) => {
                    let at = super::super::Moment { truth: self.truth, wall: now.wall, lag: Duration::ZERO };
                    Reply::Store(self.shelf.perform(0, at, op))
                }
                Step::Do(_) => Reply::Refused,
                Step::Done(result) => break result.expect("the first sign-in"),
            };
        }
        self.know_first();
    }

    pub(super) fn lives(&self, process: usize, life: u64) -> bool {
        let here = &self.processes[process];
        here.alive && here.life == life
    }
}

pub(super) fn is_final(error: &Error) -> bool {
    error.ends_grant() || error.kind() == ErrorKind::NotSignedIn
}
