//! One credential in use: its state, and the order of its mints.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::standing::Begun;
use super::{Again, Change, GrantState, GrantStatus, Held, Mint, Minting, TokenSource, Waiting, Want};
use crate::store::Saving;
use crate::{Cx, Effect, Error, ErrorKind, Machine, Now, Reply, Step, Token};

/// A credential with its state, and the queue of those who want to mint with it. Passive, without lock;
/// `J` is whatever its holder needs to go on with a job.
///
/// ```text
/// begin ─▶ Some(turn) ─▶ mint ─▶ run it ─▶ finish ─▶ the next turn, if one waits
///    └───▶ None: queued
/// ```
///
/// What a mint changed is merged into the state when its turn ends, whatever the turn was: of this credential, of
/// one that was replaced meanwhile, or beside others. A refresh token goes over the one that it came for, and over
/// no other.
///
/// What is known decides. A grant ends when its server refuses the refresh token, or has surely replaced it in an
/// answer that cannot be read. After a use of which nobody knows the outcome the refresh token is used once more: at
/// once while the server's grace window may be open, else only when there is no valid token left and a caller asks,
/// after pauses that grow from 30 s to 15 min. A refresh token that was refused is not sent again, unless there was
/// a valid access token: some servers refuse refreshes as long as there is.
pub struct Grant<J> {
    source: Arc<dyn TokenSource>,
    state: GrantState,
    /// What the source began with, until it is taken.
    first: Option<Box<Token>>,
    /// What requests with its tokens carry besides.
    headers: Option<Arc<http::HeaderMap>>,
    /// How often the credential was replaced.
    epoch: u64,
    /// How many turns there were.
    turns: u64,
    /// What turns of former credentials changed while one is under way that began without it.
    late: Vec<(Change, u64)>,
    busy: bool,
    /// The number of the last turn that others waited for.
    holder: u64,
    /// The numbers of those that were [overtaken](Self::overtake) and have not ended yet.
    overtaken: Vec<u64>,
    queue: VecDeque<J>,
    /// What the mint under way waits for.
    waiting: Option<Waiting>,
}

/// The right to mint.
#[must_use = "a turn that is not finished keeps all others waiting"]
#[derive(Debug)]
pub struct Turn<J> {
    /// What its holder gave.
    pub job: J,
    exclusive: bool,
    /// Of a mint that has begun.
    begun: Option<Begun>,
    epoch: u64,
    number: u64,
}

impl<J> Turn<J> {
    /// Whether others wait for its end.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// The turn without its job, which goes its own way.
    pub fn split(self) -> (J, Turn<()>) {
        let Self { job, exclusive, begun, epoch, number } = self;
        (job, Turn { job: (), exclusive, begun, epoch, number })
    }
}

/// How a turn went.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// It minted.
    Minted(&'a mut Token),
    /// It failed. What is known of the grant may change what there is to tell.
    Failed(&'a mut Error),
    /// It was given up in the middle.
    Abandoned,
    /// It was no mint, but [saved](Grant::save) what was not saved, or tried to.
    Saved,
}

impl<'a> From<&'a mut Result<Token, Error>> for Outcome<'a> {
    fn from(result: &'a mut Result<Token, Error>) -> Self {
        match result {
            Ok(token) => Self::Minted(token),
            Err(error) => Self::Failed(error),
        }
    }
}

impl<J> Grant<J> {
    /// A credential that was not used yet.
    pub fn new(source: Arc<dyn TokenSource>) -> Self {
        Self {
            state: source.first_state(),
            first: source.first_token().map(Box::new),
            headers: headers(&*source),
            source,
            epoch: 0,
            turns: 0,
            late: Vec::new(),
            busy: false,
            holder: 0,
            overtaken: Vec::new(),
            queue: VecDeque::new(),
            waiting: None,
        }
    }

    /// Gives the job its turn, if it may run now; else it is queued, and [`finish`](Self::finish) gives it
    /// its turn later.
    pub fn begin(&mut self, job: J) -> Option<Turn<J>> {
        let exclusive = self.source.may_change(&self.state);
        if self.busy && exclusive {
            self.queue.push_back(job);
            return None;
        }
        self.busy |= exclusive;
        self.turns = self.turns.saturating_add(1);
        if exclusive {
            self.holder = self.turns;
        }
        Some(Turn { job, exclusive, begun: None, epoch: self.epoch, number: self.turns })
    }

    /// The machine for the holder of a turn. `held` is what its want holds now:
    /// [`TokenCell::holds`](crate::cell::TokenCell::holds).
    ///
    /// # Errors
    ///
    /// If the refresh token may not be sent now, or not at all any more, or if the credential was replaced
    /// since the turn began.
    pub fn mint<K>(&self, turn: &mut Turn<K>, want: &Want, now: Now, held: Held) -> Result<Mint, Error> {
        if turn.epoch != self.epoch {
            return Err(Error::new(ErrorKind::Cancelled, "the credential was replaced"));
        }
        let mint = self.machine(want, now, held)?;
        turn.begun = Some(Begun { at: now, ends: held.ends() });
        Ok(mint)
    }

    fn machine(&self, want: &Want, now: Now, held: Held) -> Result<Mint, Error> {
        let before = self.state.check(now, held.ends())?;
        let mint = match self.state.remembered.is_stored() {
            true => self.source.mint(want, &self.state.holding(held)),
            false => self.source.mint(want, &self.state),
        };
        Ok(match before {
            Some(moment) => Box::new(Before { moment, mint }),
            None => mint,
        })
    }

    /// The next of those who wait, if it need not wait any more: many may run beside one another when the one is done
    /// that they have waited for. To be called until there is none, after [`finish`](Self::finish).
    pub fn next_turn(&mut self) -> Option<Turn<J>> {
        if self.busy && self.source.may_change(&self.state) {
            return None;
        }
        let job = self.queue.pop_front()?;
        self.begin(job)
    }

    /// Ends a turn, takes over what its mint changed ([`Minting::take_change`]), whatever the outcome, and gives the
    /// next one its turn.
    pub fn finish(&mut self, turn: Turn<()>, now: Now, change: Change, outcome: Outcome<'_>) -> Option<Turn<J>> {
        self.waiting = None;
        let (late, known) = (&mut self.overtaken, turn.number);
        let overtaken = late.iter().position(|number| *number == known).map(|at| late.swap_remove(at)).is_some();
        if turn.epoch == self.epoch && !overtaken {
            self.learn(&turn, now, change, outcome);
        } else if !change.is_empty() {
            if self.busy {
                self.late.push((change.clone(), turn.number));
            }
            self.state.merge_former(change, turn.number);
        }
        // The end of a former credential's turn, or of one beside others, is not the end of whoever is busy.
        self.next_turn()
    }

    /// Ends the turn that all others wait for, as one of unknown outcome, and gives the next one its turn: for a holder
    /// whose turns run where nobody may drive them any more. To be called only when nothing of that turn can reach the
    /// server any more, or where that does no harm. Its end, if it comes yet, is that of a former turn: what it changed
    /// is merged by its lineage.
    pub fn overtake(&mut self, now: Now) -> Option<Turn<J>> {
        let number = self.holder;
        let turn =
            Turn { job: (), exclusive: true, begun: Some(Begun { at: now, ends: None }), epoch: self.epoch, number };
        let why = "the refresh was begun, and nobody goes on with it";
        let mut error = Error::new(ErrorKind::Cancelled, why).transient().uncertain();
        if !self.busy {
            return None;
        }
        let next = self.finish(turn, now, Change::default(), Outcome::Failed(&mut error));
        self.overtaken.push(number);
        next
    }

    fn learn(&mut self, turn: &Turn<()>, now: Now, change: Change, outcome: Outcome<'_>) {
        let (successor, sent) = (change.refresh_token().is_some(), change.may_be_sent());
        let settled = self.state.merge_own(change, turn.number);
        if turn.exclusive {
            self.busy = false;
            // The mint that just ended began without these.
            for (change, number) in self.late.drain(..) {
                self.state.merge_former(change, number);
            }
        }
        match (outcome, turn.begun) {
            (Outcome::Minted(token), _) => {
                if let Some(headers) = &self.headers {
                    token.add_request_headers(headers.clone());
                }
                self.state.minted(successor);
            }
            (Outcome::Failed(error), Some(begun)) => {
                let again = self.source.again(error);
                if again == Again::Never {
                    *error = error.clone().never_again();
                }
                if !settled {
                    self.state.failed(error, now, begun);
                }
                if let Again::After(time) = again {
                    *error = error.clone().with_retry_after(Some(time));
                }
            }
            (Outcome::Abandoned, Some(begun)) if sent && !settled => {
                let why = "a refresh was given up when its request was on its way";
                let mut error = Error::new(ErrorKind::Cancelled, why).transient().uncertain();
                self.state.failed(&mut error, now, begun);
            }
            _ => {}
        }
    }

    /// A turn to save what a stored grant brought and the store did not take, be it this one or the base of this chain,
    /// with the machine that does it; `None` if all is saved, or a mint is under way, which does it itself. However the machine ends, its
    /// [change](Saving::take_change) goes to [`finish`](Self::finish) with [`Outcome::Saved`].
    ///
    /// Its holder does so when it is [due](Self::save_due), and once more before it ends.
    pub fn save(&mut self) -> Option<(Turn<()>, Saving)> {
        if self.busy {
            return None;
        }
        let saving = saving(&self.state)?;
        self.busy = true;
        self.turns = self.turns.saturating_add(1);
        Some((Turn { job: (), exclusive: true, begun: None, epoch: self.epoch, number: self.turns }, saving))
    }

    /// How long until it is time to [save](Self::save); `None` if there is nothing to save, or a mint is under way.
    pub fn save_due(&self, now: Now) -> Option<Duration> {
        self.state.save_due(now).filter(|_| !self.busy)
    }

    /// Puts another credential in this one's place, as after a new sign-in. A mint under way still finishes
    /// its turn, and what it learns is not this one's. Nobody waits for it.
    pub fn replace(&mut self, source: Arc<dyn TokenSource>) {
        self.epoch = self.epoch.saturating_add(1);
        self.busy = false;
        let former = std::mem::replace(&mut self.state, source.first_state());
        self.state.take_over(&former);
        self.late.clear();
        self.waiting = None;
        self.first = source.first_token().map(Box::new);
        self.headers = headers(&*source);
        self.source = source;
    }

    /// The token that the credential [came with](TokenSource::first_token), for a want without scopes or with just the
    /// scopes that it has. It is handed out once; all other wants mint.
    pub fn take_first(&mut self, want: &Want, now: Now) -> Option<Token> {
        let wanted = |token: &Token| *want == Want::default() || *want == Want::access_token(token.scopes().clone());
        let mut token = *self.first.take_if(|token| wanted(token))?;
        if let Some(headers) = &self.headers {
            token.add_request_headers(headers.clone());
        }
        Some(token).filter(|token| !token.is_expired(now.wall))
    }

    /// What changes as it is used. A program that keeps refresh tokens keeps this one's.
    pub fn state(&self) -> &GrantState {
        &self.state
    }

    /// How it stands with the grant.
    pub fn status(&self) -> GrantStatus {
        self.state.status()
    }

    /// Takes note of what the mint under way [waits for](Minting::waiting), until its turn ends.
    pub fn wait_for(&mut self, waiting: Option<Waiting>) {
        self.waiting = waiting;
    }

    /// What the mint under way waits for that another process does, as its holder has [noted](Self::wait_for).
    pub fn waiting(&self) -> Option<Waiting> {
        self.waiting
    }

    /// Whether a mint is under way that others must wait for.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether a mint is under way that could lose a refresh token if it were torn off.
    pub fn is_delicate(&self) -> bool {
        self.busy && self.state.could_be_lost()
    }
}

/// As the base of a chain, whose own turns follow one another where that is needed.
impl Grant<()> {
    pub(super) fn mint_alone(&self, want: &Want, now: Now, held: Held) -> Result<Mint, Error> {
        self.machine(want, now, held)
    }

    /// Takes over the outcome of a mint that began with a token that ends at this moment.
    pub(super) fn replay(&mut self, now: Now, ends: Option<Now>, change: Change, outcome: Outcome<'_>) {
        self.turns = self.turns.saturating_add(1);
        let begun = Some(Begun { at: now, ends });
        let turn = Turn { job: (), exclusive: true, begun, epoch: self.epoch, number: self.turns };
        let _nobody_waits = self.finish(turn, now, change, outcome);
    }

    pub(super) fn merge_saved(&mut self, change: Change) {
        self.state.merge(change);
    }

    pub(super) fn merge_former(&mut self, change: Change) {
        self.state.merge_former(change, self.turns);
    }

    pub(super) fn take_over(&mut self, former: &GrantState) {
        self.state.take_over(former);
    }

    pub(super) fn copy(&self) -> Self {
        Self {
            source: self.source.clone(),
            overtaken: self.overtaken.clone(),
            state: self.state.clone(),
            first: self.first.clone(),
            headers: self.headers.clone(),
            late: self.late.clone(),
            queue: VecDeque::new(),
            ..*self
        }
    }
}

impl<J> std::fmt::Debug for Grant<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("state", &self.state).field("busy", &self.busy).finish_non_exhaustive()
    }
}

/// A mint that sends nothing from a moment on, however long discovery and pauses take it.
struct Before {
    moment: Now,
    mint: Mint,
}

impl Machine for Before {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Token> {
        match self.mint.resume(cx, reply) {
            Step::Do(Effect::Http(call)) => Step::Do(Effect::Http(call.with_start_before(self.moment))),
            step => step,
        }
    }
}

impl Minting for Before {
    fn take_change(&mut self) -> Change {
        self.mint.take_change()
    }

    fn must_wait(&self) -> bool {
        self.mint.must_wait()
    }

    fn waiting(&self) -> Option<Waiting> {
        self.mint.waiting()
    }
}

fn headers(source: &dyn TokenSource) -> Option<Arc<http::HeaderMap>> {
    Some(source.request_headers()).filter(|headers| !headers.is_empty()).map(Arc::new)
}

/// The machine that saves what is not saved, of this grant or of the base of this chain.
fn saving(state: &GrantState) -> Option<Saving> {
    Saving::of(&state.remembered).or_else(|| Some(saving(state.base()?)?.of_base()))
}
