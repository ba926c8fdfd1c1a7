//! What both adapters do around the cell and the grant, as virtual tasks: slots with a published token, a
//! queue of jobs for each credential, refreshes, and one background refresher for all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use grantflow::cell::{Acquired, Issued, Ticket, TokenCell};
use grantflow::source::{Change, Grant, Mint, Minting, Outcome, Turn, Want};
use grantflow::{Cx, Effect, Error, ErrorKind, Machine, Now, Reply, Rotation, Step, Timestamp, Token};

use super::account::{Account, Kind, prefix};
use super::life::Life;
use super::network::{Host, Trouble};
use super::oracle::{Cause, Known};
use super::{Event, Sim};

/// The longest sleep of the background refresher: a clock may have jumped meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// A credential in use.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) grant: Grant<Job>,
    pub(super) account: usize,
    /// How many credentials were here before this one.
    pub(super) epoch: u64,
    pub(super) trouble: Trouble,
    pub(super) host: Host,
    pub(super) life: Life,
    /// Whether its resources refuse every token.
    pub(super) refused: bool,
    pub(super) background: bool,
    /// Jobs in the grant's queue, and turns out of it.
    pub(super) queued: usize,
    pub(super) turns: usize,
}

/// A want of a credential.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) credential: usize,
    pub(super) want: Want,
    pub(super) cell: TokenCell,
    /// Its margin in seconds, if it is not the usual one.
    pub(super) margin: Option<u64>,
    /// What callers read without a lock.
    published: Option<Published>,
    /// Whether somebody has used the token since it was minted.
    used: bool,
    pub(super) waiters: Vec<usize>,
    pub(super) known: Known,
}

#[derive(Debug)]
struct Published {
    issued: Arc<Issued>,
    at: Timestamp,
    due: Timestamp,
}

/// A refresh that waits for its turn.
#[derive(Debug)]
pub(super) struct Job {
    slot: usize,
    ticket: Ticket,
    epoch: u64,
    forced: bool,
}

/// A refresh that has its turn.
pub(super) struct Run {
    pub(super) slot: usize,
    pub(super) epoch: u64,
    ticket: Ticket,
    /// Whether a caller wanted it, whatever was held.
    pub(super) forced: bool,
    turn: Turn<()>,
    /// When the token ends that its want had as it began.
    pub(super) ends: Option<Now>,
    pub(super) began: Now,
    mint: Option<Mint>,
    pub(super) wire: Option<u64>,
    pub(super) requests: u32,
    /// How many of these were for a token.
    pub(super) requests_for_token: u32,
    /// When it asked for the server's metadata, and whether that had been read before.
    pub(super) metadata: Option<(Duration, bool)>,
    /// Whether it asked at the second address, too.
    pub(super) second: bool,
    /// The rotating refresh token that it has sent.
    pub(super) sent: Option<(usize, String)>,
    /// Whether others may send the same.
    pub(super) beside: bool,
    /// Whether an answer has brought another refresh token.
    pub(super) successor: bool,
    /// Of a public document that it reads for all.
    pub(super) reads: Option<grantflow::documents::Ticket>,
}

/// What a caller gets.
pub(super) enum Asked {
    /// From the cell, or from what was published at that moment.
    Token(Arc<Issued>, Option<Timestamp>),
    Waits,
    Failed,
}

impl Sim {
    pub(super) fn add_credential(&mut self) {
        let kind = Kind::random(&mut self.rng);
        let account = self.add_account(kind);
        let credential = self.credentials.len();
        self.credentials.push(Credentials {
            grant: Grant::new(self.accounts[account].source()),
            account,
            epoch: 0,
            trouble: Trouble::Calm,
            host: Host::Calm,
            life: Life::default(),
            refused: false,
            background: self.rng.chance(75),
            queued: 0,
            turns: 0,
        });
        for nth in 0..1 + self.rng.below(5) {
            let want = [
                Want::access_token("read"),
                Want::access_token(""),
                Want::access_token("read write"),
                Want::access_token("read").audience("b"),
                Want::access_token("read").resource("urn:c"),
            ][nth]
                .clone();
            let margin = self.rng.pick(&[None, None, None, Some(1), Some(60), Some(1000)]);
            let cell = TokenCell::new(self.rng.next());
            self.slots.push(Slot {
                credential,
                known: Known::new(prefix(account, &want)),
                want,
                margin,
                cell: margin.into_iter().fold(cell, |cell, margin| cell.margin(Duration::from_secs(margin))),
                published: None,
                used: false,
                waiters: Vec::new(),
            });
        }
    }

    fn add_account(&mut self, kind: Kind) -> usize {
        let early = self.rng.chance(15);
        let lives = [Some(1), Some(2), Some(5), Some(10), Some(60), Some(300), Some(1800), Some(3600), Some(3600)];
        let lifetime = match self.rng.below(12) {
            9 => Some(86_400),
            10 if kind != Kind::Metadata => None,
            nth => lives[nth % lives.len()],
        };
        let mut account = Account::new(self.accounts.len(), kind, lifetime);
        account.early = early;
        self.accounts.push(account);
        self.accounts.len() - 1
    }

    /// A caller asks for a token.
    pub(super) fn ask(&mut self, caller: usize, slot: usize) -> Asked {
        let now = self.clock.now();
        if let Some(published) = &self.slots[slot].published
            && published.at <= now.wall
            && now.wall < published.due
        {
            let (issued, at) = (published.issued.clone(), published.at);
            self.slots[slot].used = true;
            return Asked::Token(issued, Some(at));
        }
        let acquired = self.slots[slot].cell.acquire(now);
        self.judge(slot, &acquired);
        self.publish(slot);
        match acquired {
            Acquired::Fresh(issued) | Acquired::Due(issued, None) => {
                self.slots[slot].used = true;
                Asked::Token(issued, None)
            }
            Acquired::Due(issued, Some(ticket)) => {
                self.slots[slot].used = true;
                self.refresh(slot, ticket, Cause::Due);
                Asked::Token(issued, None)
            }
            Acquired::Refresh(ticket) => {
                self.slots[slot].waiters.push(caller);
                self.refresh(slot, ticket, Cause::Demand);
                Asked::Waits
            }
            Acquired::Wait => {
                self.slots[slot].waiters.push(caller);
                Asked::Waits
            }
            Acquired::Failed(error) => {
                self.judge_told(slot, &error);
                Asked::Failed
            }
        }
    }

    /// A caller wants another token, whatever is held.
    pub(super) fn force(&mut self, caller: usize, slot: usize) {
        self.slots[slot].waiters.push(caller);
        if let Some(ticket) = self.slots[slot].cell.force() {
            self.refresh(slot, ticket, Cause::Force);
        }
    }

    /// A server has refused this token.
    pub(super) fn invalidate(&mut self, slot: usize, generation: u64) -> bool {
        let now = self.clock.now();
        let rejected = self.slots[slot].cell.reject(generation, now);
        self.know_rejection(slot, generation, rejected);
        self.publish(slot);
        rejected
    }

    fn publish(&mut self, slot: usize) {
        let now = self.clock.now();
        let slot = &mut self.slots[slot];
        slot.published = match (slot.cell.held(), slot.cell.serves_for(now)) {
            (Some(issued), Some(time)) => {
                Some(Published { issued: issued.clone(), at: now.wall, due: now.wall + time })
            }
            _ => None,
        };
    }

    fn refresh(&mut self, slot: usize, ticket: Ticket, cause: Cause) {
        self.report.refreshes += 1;
        self.note("a refresh of slot {a} is wanted", slot, 0);
        self.know_refresh(slot, cause);
        let credential = self.slots[slot].credential;
        let job = Job { slot, ticket, epoch: self.credentials[credential].epoch, forced: cause == Cause::Force };
        match self.credentials[credential].grant.begin(job) {
            Some(turn) => self.take_turn(credential, turn),
            None => self.credentials[credential].queued += 1,
        }
    }

    /// A task of its own is spawned for whoever has a turn.
    fn take_turn(&mut self, credential: usize, turn: Turn<Job>) {
        self.credentials[credential].turns += 1;
        let (Job { slot, ticket, epoch, forced }, turn) = turn.split();
        let run = self.id();
        let task = Run {
            slot,
            epoch,
            ticket,
            forced,
            turn,
            ends: None,
            began: Now::default(),
            mint: None,
            wire: None,
            requests: 0,
            requests_for_token: 0,
            metadata: None,
            second: false,
            sent: None,
            beside: false,
            successor: false,
            reads: None,
        };
        self.runs.insert(run, task);
        let soon = Duration::from_micros(self.rng.next() % 2000);
        self.clock.after(soon, Event::Begin(run));
        if self.season == super::Season::Storm && self.rng.one_in(500) {
            self.clock.after(soon / 2, Event::Abandon(run));
        }
    }

    pub(super) fn begin_run(&mut self, id: u64) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let slot = &self.slots[run.slot];
        let credential = &self.credentials[slot.credential];
        if run.epoch != credential.epoch {
            let error = Error::new(ErrorKind::Config, "the credential was replaced");
            return self.end_run(id, Err(error));
        }
        let now = self.clock.now();
        run.ends = slot.cell.ends();
        run.began = now;
        run.beside = credential.grant.state().rotation() == Rotation::Never;
        match credential.grant.mint(&mut run.turn, &slot.want, now, slot.cell.holds()) {
            Ok(mint) => {
                run.mint = Some(mint);
                self.resume(id, Reply::Start);
            }
            Err(error) => {
                if error.kind() == ErrorKind::GrantLost {
                    self.know_lost(id);
                }
                self.end_run(id, Err(error));
            }
        }
    }

    /// A refresh goes on with the reply to what it asked for.
    pub(super) fn resume(&mut self, id: u64, reply: Reply) {
        let mut reply = self.read(id, reply);
        loop {
            let mut cx = Cx::new(self.clock.now(), self.rng.seed());
            let Some(mint) = self.runs.get_mut(&id).and_then(|run| run.mint.as_mut()) else { return };
            reply = match mint.resume(&mut cx, reply) {
                Step::Done(result) => return self.end_run(id, result),
                Step::Do(Effect::Http(call)) => return self.send(id, call),
                Step::Do(Effect::Sleep(time)) => return self.clock.after(time, Event::Slept(id)),
                Step::Do(_) => Reply::Refused,
            };
        }
    }

    /// A public document that was read is there for all.
    fn read(&mut self, id: u64, reply: Reply) -> Reply {
        let Some(ticket) = self.runs.get_mut(&id).and_then(|run| run.reads.take()) else { return reply };
        let outcome = match reply {
            Reply::Http(response) => Ok(response),
            Reply::Failed(failure) => Err(failure),
            other => {
                self.documents.abandon(ticket);
                return other;
            }
        };
        let now = self.clock.now();
        self.documents.settle(ticket, now, outcome).map_or_else(Reply::Failed, Reply::Http)
    }

    fn end_run(&mut self, id: u64, mut result: Result<Token, Error>) {
        let now = self.clock.now();
        let run = self.runs.remove(&id).expect("a refresh under way");
        let credential = self.slots[run.slot].credential;
        self.know_end(&run, result.as_ref().err());
        let grant = &mut self.credentials[credential].grant;
        let next = grant.finish(run.turn, now, change(run.mint), Outcome::from(&mut result));
        // Of what was found at the second address the first may be asked again.
        let found = run.metadata.is_some() && run.requests == run.requests_for_token + 1 && !run.second;
        self.know_settled((run.slot, run.epoch), (found, run.successor), &result);
        self.slots[run.slot].cell.settle(run.ticket, now, result);
        self.after_turn(credential, run.slot, run.epoch, next);
    }

    /// The task of a refresh is torn off, as when its runtime ends; its guard puts things right.
    pub(super) fn abandon(&mut self, id: u64) {
        let Some(mut run) = self.runs.remove(&id) else { return };
        run.reads.take().into_iter().for_each(|ticket| self.documents.abandon(ticket));
        // Nobody can say of a connection that was given up whether the request had left.
        run.sent = run.sent.take().or_else(|| self.on_its_way(run.wire?));
        self.note("the refresh of slot {a} is abandoned", run.slot, id);
        let credential = self.slots[run.slot].credential;
        self.know_abandoned(&run);
        let now = self.clock.now();
        let next = self.credentials[credential].grant.finish(run.turn, now, change(run.mint), Outcome::Abandoned);
        self.slots[run.slot].cell.abandon(run.ticket);
        self.after_turn(credential, run.slot, run.epoch, next);
    }

    fn after_turn(&mut self, credential: usize, slot: usize, epoch: u64, next: Option<Turn<Job>>) {
        self.credentials[credential].turns -= 1;
        self.know_state(credential);
        if epoch == self.credentials[credential].epoch {
            self.compare_with_cell(slot);
            self.slots[slot].used = !self.slots[slot].waiters.is_empty();
            self.publish(slot);
            self.wake_waiters(slot);
            if self.credentials[credential].background
                && let Some(wait) = self.slots[slot].cell.next_wake(self.clock.now())
                && self.clock.mono + wait < self.refresher_wakes
            {
                self.wake_refresher_in(wait);
            }
        }
        if let Some(turn) = next {
            self.credentials[credential].queued -= 1;
            self.take_turn(credential, turn);
        }
    }

    fn wake_waiters(&mut self, slot: usize) {
        let mut waiters = VecDeque::from(std::mem::take(&mut self.slots[slot].waiters));
        // In any order.
        while !waiters.is_empty() {
            let nth = self.rng.below(waiters.len());
            if let Some(caller) = waiters.swap_remove_back(nth) {
                self.wake(caller, slot);
            }
        }
    }

    /// Another credential takes the place of this one, as after a new sign-in.
    pub(super) fn replace(&mut self, credential: usize) {
        self.note("credential {a} is replaced", credential, 0);
        let kind = self.accounts[self.credentials[credential].account].kind;
        let account = self.add_account(kind);
        let here = &mut self.credentials[credential];
        here.account = account;
        here.epoch += 1;
        here.life = Life::default();
        here.grant.replace(self.accounts[account].source());
        for slot in 0..self.slots.len() {
            if self.slots[slot].credential == credential {
                let here = &mut self.slots[slot];
                here.cell.clear();
                here.published = None;
                here.known.clear(prefix(account, &here.want));
                self.wake_waiters(slot);
            }
        }
    }

    pub(super) fn wake_refresher_in(&mut self, wait: Duration) {
        let wait = wait.min(LONGEST_SLEEP);
        self.refresher += 1;
        self.refresher_wakes = self.clock.mono + wait;
        self.clock.after(wait, Event::Refresher(self.refresher));
    }

    /// Refreshes what is due and was used, and sleeps until the next is.
    pub(super) fn refresh_in_background(&mut self, nonce: u32) {
        if nonce != self.refresher {
            return;
        }
        let mut next = LONGEST_SLEEP;
        for nth in 0..self.slots.len() {
            let now = self.clock.now();
            let slot = &mut self.slots[nth];
            if !slot.used || !self.credentials[slot.credential].background {
                continue;
            }
            match slot.cell.next_wake(now) {
                Some(Duration::ZERO) => {
                    let acquired = slot.cell.acquire(now);
                    self.judge(nth, &acquired);
                    self.publish(nth);
                    match acquired {
                        Acquired::Due(_, Some(ticket)) => self.refresh(nth, ticket, Cause::Due),
                        other => self.breaks(format!("slot {nth} woke the refresher for {other:?}")),
                    }
                }
                Some(wait) => next = next.min(wait),
                None => {}
            }
        }
        self.wake_refresher_in(next);
    }
}

/// What a mint changed, if it began.
fn change(mint: Option<Mint>) -> Change {
    mint.map(|mut mint| mint.take_change()).unwrap_or_default()
}
