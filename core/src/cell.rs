//! The place that holds one token of one want, and says when to get the next: [`TokenCell`].
//!
//! ```text
//!             acquire          │ no flight, may try │ a flight     │ failing, too early
//!   ───────────────────────────┼────────────────────┼──────────────┼───────────────────
//!   valid, not due             │ Fresh              │ Fresh        │ Fresh
//!   valid, due                 │ Due(Some(ticket))  │ Due(None)    │ Due(None)
//!   expired, rejected, or none │ Refresh(ticket)    │ Wait         │ Failed(error)
//! ```
//!
//! After a failure, a caller gets a ticket again when a pause is over that grows from 1 s to 60 s. The background gets
//! one too, if the failure is transient. A failure that must be mended, such as `invalid_client`, waits for a caller;
//! one that ends the grant waits for another credential.
//!
//! The holder of the [`Ticket`] mints, then settles or abandons. The cell is passive: it has no lock, no
//! clock and no randomness but the salt it was made with.

use std::sync::Arc;
use std::time::Duration;

use crate::source::Held;
use crate::{Advice, Error, ErrorKind, Now, Timestamp, Token};

/// The longest time before its end at which a token is due.
const MARGIN: Duration = Duration::from_secs(300);
/// A token comes due no sooner than this after it was minted.
const SOONEST: Duration = Duration::from_secs(1);
/// The pause after the first failure; it doubles from one to the next.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause of our own making.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause at a server's wish.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The holder of one token of one want, without lock or clock. See the [module](self) for its answers.
#[derive(Debug)]
pub struct TokenCell {
    held: Option<Arc<Issued>>,
    due: Due,
    rejected: bool,
    generation: u64,
    /// Whether a caller holds the ticket with the last number.
    flight: bool,
    tickets: u64,
    failing: Option<Box<Failing>>,
    rejections: Option<Box<Rejections>>,
    /// In milliseconds.
    margin: Option<u32>,
    salt: u64,
}

/// A token, and its number among the tokens of its cell.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: Token,
    /// The number of the token: a later token of the same cell has a higher one.
    pub generation: u64,
}

/// The right to mint the next token of a cell. There is one at a time; it goes back with
/// [`settle`](TokenCell::settle) or [`abandon`](TokenCell::abandon).
#[must_use = "the holder of the ticket mints, and then settles or abandons"]
#[derive(Debug)]
pub struct Ticket(u64);

/// The answer of [`TokenCell::acquire`].
#[derive(Debug)]
pub enum Acquired {
    /// Use this token.
    Fresh(Arc<Issued>),
    /// Use this token; with a ticket, have it refreshed in the background.
    Due(Arc<Issued>, Option<Ticket>),
    /// There is no token: mint one.
    Refresh(Ticket),
    /// There is no token, and another caller mints one: wait for that, then acquire again.
    Wait,
    /// There is no token, and it is too early to try again after this error.
    Failed(Error),
}

#[derive(Clone, Copy, Debug)]
struct Due {
    wall: Timestamp,
    /// In nanoseconds.
    mono: u64,
}

const NEVER: Due = Due { wall: Timestamp::from_unix_millis(i64::MAX), mono: u64::MAX };

impl Due {
    fn after(wait: Duration, now: Now) -> Self {
        let mono = now.mono.saturating_add(wait).as_nanos();
        Self { wall: now.wall + wait, mono: u64::try_from(mono).unwrap_or(u64::MAX) }
    }

    fn mono(self) -> Duration {
        if self.mono == u64::MAX { Duration::MAX } else { Duration::from_nanos(self.mono) }
    }
}

#[derive(Clone, Debug, Default)]
struct Rejections {
    /// How many followed one another.
    count: u32,
    /// When the next one counts.
    next: Duration,
}

#[derive(Clone, Debug)]
struct Failing {
    error: Error,
    tries: u32,
    /// No try before this moment; `None` if none will help until the credential is another one.
    until: Option<Duration>,
}

impl TokenCell {
    /// An empty cell. `salt` spreads its refreshes: give each cell a random one.
    pub fn new(salt: u64) -> Self {
        Self {
            held: None,
            due: NEVER,
            rejected: false,
            generation: 0,
            flight: false,
            tickets: 0,
            failing: None,
            rejections: None,
            margin: None,
            salt,
        }
    }

    /// Another cell that is as this one is. The tickets of the one are none of the other.
    pub(crate) fn copy(&self) -> Self {
        Self {
            held: self.held.clone(),
            failing: self.failing.clone(),
            rejections: self.rejections.clone(),
            flight: false,
            ..*self
        }
    }

    /// Sets how long before its end a token is due, which is never before half of its life. By default it is a quarter
    /// of its life, and at most 5 minutes.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = Some(u32::try_from(margin.as_millis()).unwrap_or(u32::MAX));
        self
    }

    /// Asks for a token.
    pub fn acquire(&mut self, now: Now) -> Acquired {
        match self.valid(now) {
            Some(token) if !self.is_due(now) => Acquired::Fresh(token),
            Some(token) => Acquired::Due(token, self.may_try(now).then(|| self.ticket())),
            None if self.flight => Acquired::Wait,
            None => match &self.failing {
                Some(failing) if !self.may_try(now) => Acquired::Failed(failing.error.clone()),
                _ => Acquired::Refresh(self.ticket()),
            },
        }
    }

    /// The ticket for a new token, whatever the cell holds and without a pause; `None` if a token is being minted
    /// already.
    pub fn force(&mut self) -> Option<Ticket> {
        (!self.flight).then(|| self.ticket())
    }

    /// Takes the outcome of a mint. A failure never replaces a token that is valid. A ticket from before a
    /// [`clear`](Self::clear) is ignored.
    pub fn settle(&mut self, ticket: Ticket, now: Now, result: Result<Token, Error>) {
        if !self.is_current(&ticket) {
            return;
        }
        self.flight = false;
        match result {
            Ok(token) if token.is_expired(now.wall) => {
                let why = "the server handed out a token that has expired already";
                self.fail(now, Error::new(ErrorKind::InvalidResponse, why));
            }
            Ok(token) => self.hold(now, token),
            Err(error) => self.fail(now, error),
        }
    }

    /// Gives a ticket back unused, without an outcome: the next caller gets another one.
    pub fn abandon(&mut self, ticket: Ticket) {
        if self.is_current(&ticket) {
            self.flight = false;
        }
    }

    /// Notes that a server refused the token of this generation (see
    /// [`Challenge::rejects_token`](crate::Challenge::rejects_token)): the cell does not hand it out again. Generations
    /// count within one cell: a holder of several cells first compares the refused token with the one
    /// [held](Self::held). Returns whether another token may be obtained: not if a later one is refused so soon after
    /// the last that the token does not seem to be the cause.
    pub fn reject(&mut self, generation: u64, now: Now) -> bool {
        if generation < self.generation {
            return true;
        }
        // Told already; or it was a former credential's, and nothing has come of this one yet.
        if generation == self.generation && (self.rejected || self.held.is_none()) {
            return true;
        }
        let rejections = self.rejections.get_or_insert_default();
        if generation > self.generation || now.mono < rejections.next {
            return false;
        }
        // Rejections long apart have nothing to do with one another.
        if now.mono.saturating_sub(rejections.next) > LONGEST_PAUSE {
            rejections.count = 0;
        }
        rejections.count = rejections.count.saturating_add(1);
        rejections.next = now.mono.saturating_add(pause(rejections.count));
        self.rejected = true;
        // A refusal because this token was good waits for its end no longer.
        if let Some(failing) = self.failing.as_mut().filter(|failing| failing.error.is_early_refusal()) {
            failing.until = Some(now.mono);
        }
        true
    }

    /// Forgets everything, as when the credential is replaced.
    pub fn clear(&mut self) {
        self.held = None;
        self.due = NEVER;
        self.rejected = false;
        self.flight = false;
        self.failing = None;
        self.rejections = None;
    }

    /// How long until it is time to refresh in the background; `None` if there is nothing to wait for.
    pub fn next_wake(&self, now: Now) -> Option<Duration> {
        if self.flight || self.valid(now).is_none() {
            return None;
        }
        let due = self.due.wall.since(now.wall).min(self.due.mono().saturating_sub(now.mono));
        match &self.failing {
            None if self.due.mono == NEVER.mono => None,
            None => Some(due),
            // What must be mended, here or at the server, waits for a caller.
            Some(failing) if failing.error.ends_grant() || must_be_mended(&failing.error) => None,
            Some(failing) => Some(failing.until?.saturating_sub(now.mono).max(due)),
        }
    }

    /// The token held, whether or not it is still good.
    pub fn held(&self) -> Option<&Arc<Issued>> {
        self.held.as_ref()
    }

    /// The last failure, if no mint has succeeded since.
    pub fn error(&self) -> Option<&Error> {
        self.failing.as_ref().map(|failing| &failing.error)
    }

    /// Whether the held token may be handed out without asking the cell, until it is due by either clock:
    /// the fast path of a holder with a copy of its own.
    pub fn is_fresh(&self, now: Now) -> bool {
        self.valid(now).is_some() && !self.is_due(now)
    }

    /// How long the held token may be handed out without asking the cell: the fast path of a holder with a copy of its
    /// own. That is until the token is due; then until it expires, as long as a caller holds the ticket, or until the
    /// next try after a failure. The clock that is first counts. `None` if the cell must be asked.
    pub fn serves_for(&self, now: Now) -> Option<Duration> {
        let left = |moment: Now| {
            let left = moment.wall.since(now.wall).min(moment.mono.saturating_sub(now.mono));
            Some(left).filter(|left| !left.is_zero())
        };
        let end = left(self.ends()?)?;
        if self.flight {
            return Some(end);
        }
        left(Now { wall: self.due.wall, mono: self.due.mono() }).or_else(|| match self.failing.as_deref()?.until {
            None => Some(end),
            Some(until) => until.checked_sub(now.mono).filter(|rest| !rest.is_zero()).map(|rest| rest.min(end)),
        })
    }

    /// When the held token is due: on the wall clock, and on the monotonic one.
    pub fn due(&self) -> (Timestamp, Duration) {
        (self.due.wall, self.due.mono())
    }

    /// Whether a caller holds a ticket.
    pub fn is_refreshing(&self) -> bool {
        self.flight
    }

    /// The token held, if it is still good: by both clocks, since the wall clock may be set back.
    pub fn valid(&self, now: Now) -> Option<Arc<Issued>> {
        self.held.as_ref().filter(|_| self.ends().is_some_and(|end| !now.has_reached(end))).cloned()
    }

    /// What the want of this cell holds, for [`Grant::mint`](crate::source::Grant::mint).
    pub fn holds(&self) -> Held {
        match self.ends() {
            Some(end) => Held::Until(end),
            None if self.held.is_some() => Held::Rejected,
            None => Held::Nothing,
        }
    }

    /// When the held token expires or has expired, by both clocks; `None` if there is none, or a server refused it.
    pub fn ends(&self) -> Option<Now> {
        let held = self.held.as_ref().filter(|_| !self.rejected)?;
        let Some(wall) = held.token.expires_at() else {
            return Some(Now { wall: NEVER.wall, mono: Duration::MAX });
        };
        // The token was due at one moment by both clocks.
        Some(Now { wall, mono: self.due.mono().saturating_add(wall.since(self.due.wall)) })
    }

    fn is_due(&self, now: Now) -> bool {
        now.wall >= self.due.wall || now.mono >= self.due.mono()
    }

    fn may_try(&self, now: Now) -> bool {
        let early = |failing: &Failing| failing.until.is_none_or(|until| now.mono < until);
        !self.flight && !self.failing.as_deref().is_some_and(early)
    }

    fn is_current(&self, ticket: &Ticket) -> bool {
        self.flight && self.tickets == ticket.0
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets = self.tickets.saturating_add(1);
        self.flight = true;
        Ticket(self.tickets)
    }

    fn hold(&mut self, now: Now, token: Token) {
        self.due = self.schedule(now, &token);
        self.generation = self.generation.saturating_add(1);
        self.rejected = false;
        self.failing = None;
        self.held = Some(Arc::new(Issued { token, generation: self.generation }));
    }

    /// When to refresh: when the source says so, or a margin before the end that differs from cell to
    /// cell. Never at once: the same token handed out again is asked for less and less often than it ends.
    fn schedule(&mut self, now: Now, token: &Token) -> Due {
        let left = token.expires_at().map_or(Duration::MAX, |end| end.since(now.wall));
        let in_time = match (token.refresh_after(), token.expires_at()) {
            (Some(moment), _) if moment > now.wall => {
                return Due::after(moment.since(now.wall).max(SOONEST).min(left), now);
            }
            (Some(_), _) => Duration::ZERO,
            (None, Some(end)) => {
                let life = end.since(token.issued_at());
                let margin = match self.margin {
                    Some(margin) => Duration::from_millis(margin.into()).min(life.mul_f64(0.5)),
                    None => MARGIN.min(life.mul_f64(0.25)),
                };
                let spread = margin.mul_f64(0.2 * self.random());
                end.since(now.wall).saturating_sub(margin).saturating_sub(spread)
            }
            (None, None) => return NEVER,
        };
        // Not after the end either: until it is due it is handed out unasked.
        let wait = in_time.max(SOONEST.max(left.min(MARGIN).mul_f64(0.25))).min(left);
        Due::after(wait, now)
    }

    fn fail(&mut self, now: Now, error: Error) {
        let tries = self.failing.as_ref().map_or(0, |failing| failing.tries).saturating_add(1);
        let asked = error.retry_after().map(|asked| asked.min(LONGEST_RETRY_AFTER));
        let until = match asked {
            // No further try can help until the credential is another one, or a person signs in elsewhere.
            _ if error.ends_grant() => asked.map(|asked| now.mono.saturating_add(asked)),
            _ => {
                let pause = pause(tries).mul_f64(0.5 + self.random() / 2.0);
                Some(now.mono.saturating_add(pause.max(asked.unwrap_or_default())))
            }
        };
        self.failing = Some(Box::new(Failing { error, tries, until }));
    }

    /// The next number from 0 to 1 of this cell's own sequence (SplitMix64).
    fn random(&mut self) -> f64 {
        self.salt = self.salt.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.salt;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Whether no time that passes makes the same request succeed, such as after `invalid_client`.
fn must_be_mended(error: &Error) -> bool {
    error.advice() == Some(Advice::FixConfiguration)
}

/// The pause after so many failures in a row.
fn pause(tries: u32) -> Duration {
    PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}
