//! One credential in use: its state, and the order of its mints.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::standing::Begun;
use super::{Again, Change, GrantState, GrantStatus, Held, Mint, Minting, TokenSource, Waiting, Want};
use crate::store::Saving;
use crate::{Cx, Effect, Error, ErrorKind, Machine, Now, Reply, Step, Token};

/// A credential in use: its state, and the queue of the jobs that want to mint with it. It is passive and has no lock.
/// `J` is what the holder needs to go on with a job.
///
/// ```text
/// begin ─▶ Some(turn) ─▶ mint ─▶ run it ─▶ finish ─▶ the next turn, if one waits
///    └───▶ None: queued
/// ```
///
/// When a turn ends, the change of its mint is merged into the state, also if other mints ran beside it or the
/// credential was replaced meanwhile. A new refresh token replaces the one that was used for it, and no other.
///
/// A grant ends when its server refuses the refresh token, or has surely replaced it in an answer that cannot be read.
/// After a use of unknown outcome the refresh token is used once more: at once while the server's grace window may be
/// open, otherwise only when no valid token is left and a caller asks, after pauses that grow from 30 s to 15 min. A
/// refused refresh token is not sent again, unless there was a valid access token: some servers refuse refreshes as
/// long as there is one.
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

/// The right to mint with a grant.
#[must_use = "a turn that is not finished keeps all others waiting"]
#[derive(Debug)]
pub struct Turn<J> {
    /// The holder's job.
    pub job: J,
    exclusive: bool,
    /// Of a mint that has begun.
    begun: Option<Begun>,
    epoch: u64,
    number: u64,
}

impl<J> Turn<J> {
    /// Whether other turns wait for the end of this one.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Parts the turn from its job.
    pub fn split(self) -> (J, Turn<()>) {
        let Self { job, exclusive, begun, epoch, number } = self;
        (job, Turn { job: (), exclusive, begun, epoch, number })
    }
}

/// The outcome of a turn.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// The mint brought a token.
    Minted(&'a mut Token),
    /// The mint failed. What is known of the grant may change the error.
    Failed(&'a mut Error),
    /// The mint was abandoned.
    Abandoned,
    /// The turn was no mint: it [saved](Grant::save) what was not saved, or tried to.
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
    /// A grant of a credential that was not used yet.
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

    /// Gives the job its turn, if it may run now. Otherwise the job is queued, and [`finish`](Self::finish) gives it
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

    /// The machine that mints, for the holder of a turn. `held` is what its want holds now:
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

    /// The next waiting turn, if it may run now: several turns may run side by side once the turn that they waited for
    /// is done. Call it after [`finish`](Self::finish) until it returns `None`.
    pub fn next_turn(&mut self) -> Option<Turn<J>> {
        if self.busy && self.source.may_change(&self.state) {
            return None;
        }
        let job = self.queue.pop_front()?;
        self.begin(job)
    }

    /// Ends a turn, takes over the change of its mint ([`Minting::take_change`]) whatever the outcome, and returns the
    /// next turn.
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

    /// Ends the turn that all others wait for, with an unknown outcome, and returns the next turn: for a holder whose
    /// turns run in a place where they may never be driven again. Call it only when no request of that turn can reach
    /// the server any more, or where such a request does no harm. If the turn ends after all, its change is merged by
    /// its lineage.
    pub fn overtake(&mut self, now: Now) -> Option<Turn<J>> {
        let number = self.holder;
        let turn =
            Turn { job: (), exclusive: true, begun: Some(Begun { at: now, ends: None }), epoch: self.epoch, number };
        let why = "the refresh was begun, and is not driven to its end";
        let mut error = Error::new(ErrorKind::Cancelled, why).transient().uncertain();
        if !self.busy {
            return None;
        }
        let next = self.finish(turn, now, Change::default(), Outcome::Failed(&mut error));
        self.overtaken.push(number);
        next
    }

    fn learn(&mut self, turn: &Turn<()>, now: Now, change: Change, outcome: Outcome<'_>) {
        let sent = change.may_be_sent();
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
                self.state.minted();
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

    /// A turn that saves what the store did not take, of this stored grant or of the base of this chain, and the
    /// machine that does it. `None` if all is saved, or if a mint is under way, which saves it. However the machine
    /// ends, its [change](Saving::take_change) goes to [`finish`](Self::finish) with [`Outcome::Saved`].
    ///
    /// Save when it is [due](Self::save_due), and once more before the program ends.
    pub fn save(&mut self) -> Option<(Turn<()>, Saving)> {
        if self.busy {
            return None;
        }
        let saving = saving(&self.state)?;
        self.busy = true;
        self.turns = self.turns.saturating_add(1);
        Some((Turn { job: (), exclusive: true, begun: None, epoch: self.epoch, number: self.turns }, saving))
    }

    /// How long until the grant is to be [saved](Self::save); `None` if there is nothing to save, or a mint is under
    /// way.
    pub fn save_due(&self, now: Now) -> Option<Duration> {
        self.state.save_due(now).filter(|_| !self.busy)
    }

    /// Replaces the credential, as after a new sign-in. A mint under way still ends its turn, but what it learns does
    /// not touch the new credential. No turn waits for it.
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

    /// The token that the credential [came with](TokenSource::first_token), for a want without scopes or with exactly
    /// its scopes. It is handed out once; all other wants mint.
    pub fn take_first(&mut self, want: &Want, now: Now) -> Option<Token> {
        let wanted = |token: &Token| *want == Want::default() || *want == Want::access_token(token.scopes().clone());
        let mut token = *self.first.take_if(|token| wanted(token))?;
        if let Some(headers) = &self.headers {
            token.add_request_headers(headers.clone());
        }
        Some(token).filter(|token| !token.is_expired(now.wall))
    }

    /// The state of the grant: what changes as the credential is used. A program that keeps refresh tokens itself keeps
    /// the one in this state.
    pub fn state(&self) -> &GrantState {
        &self.state
    }

    /// The status of the grant.
    pub fn status(&self) -> GrantStatus {
        self.state.status()
    }

    /// Notes what the mint under way [waits for](Minting::waiting), until its turn ends.
    pub fn wait_for(&mut self, waiting: Option<Waiting>) {
        self.waiting = waiting;
    }

    /// What the mint under way waits for that another process does, as it was [noted](Self::wait_for).
    pub fn waiting(&self) -> Option<Waiting> {
        self.waiting
    }

    /// Whether a mint is under way that others must wait for.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether a mint is under way that could lose a refresh token if it were abandoned.
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
