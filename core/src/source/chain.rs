//! Sources that work with the token of another: [`Base`], and the machine that mints for all of them.
//!
//! ```text
//! Begin ─▶ Base (if its token is not there, due, or was refused) ─▶ With ─▶ done
//!            ▲                                                       │
//!            └──── once, if its token is refused, for another ◀─────┘
//! ```
//!
//! Mints of a chain run side by side as long as the base's token is valid. A mint that finds it invalid ends, and asks
//! for a turn of its own ([`Minting::must_wait`]): such turns follow one another, and the first of them mints one token
//! of the base for all.

use std::fmt;
use std::sync::Arc;

use super::change::LinkEvent;
use super::link::{Has, Link};
use super::{Change, GrantState, Mint, Minting, TokenSource, Waiting, Want};
use crate::cell::Issued;
use crate::machine::{Machine, ask};
use crate::{Cx, Error, ErrorKind, Now, Reply, Step, Token};

/// The base of a chain: where the chain gets the token that it works with.
///
/// A chain owns its base, and the base cannot be set later, so that no chain leads back to itself. A chain of chains is
/// a source like any other.
#[non_exhaustive]
#[derive(Clone)]
pub enum Base {
    /// This source, whose state and newest token the chain keeps. It must not be in use elsewhere, unless its grant
    /// lies in a store, where processes and credentials share it.
    Own(Arc<dyn TokenSource>),
}

impl<S: TokenSource + 'static> From<S> for Base {
    fn from(source: S) -> Self {
        Self::Own(Arc::new(source))
    }
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(_) => f.write_str("Own(..)"),
        }
    }
}

impl Base {
    /// The state that a chain begins with.
    pub(crate) fn first_state(&self, want: &Want) -> GrantState {
        GrantState { link: Some(self.link(want)), ..GrantState::default() }
    }

    /// A mint that begins from this state and goes on with the base's token.
    pub(crate) fn mint(&self, want: &Want, state: &GrantState, with: With) -> Mint {
        // In a state of another source, all begins anew.
        let link = state.link.clone().unwrap_or_else(|| self.link(want));
        let alone = link.must_mint();
        Box::new(ChainMint { stage: Stage::Begin, alone, must_wait: false, rounds: 0, events: Vec::new(), link, with })
    }

    fn link(&self, want: &Want) -> Arc<Link> {
        let Self::Own(source) = self;
        Arc::new(Link::new(source.clone(), want.clone()))
    }
}

/// How often a base may begin anew in one mint.
const ROUNDS: u8 = 3;

/// What a chain does with the token of its base.
pub(crate) type With = Box<dyn Fn(&Token) -> Result<Mint, Error> + Send>;

struct ChainMint {
    stage: Stage,
    /// Whether this is a turn of its own, so that the base may be used.
    alone: bool,
    must_wait: bool,
    /// How often the base began anew.
    rounds: u8,
    /// What happened that was not told yet.
    events: Vec<LinkEvent>,
    link: Arc<Link>,
    with: With,
}

enum Stage {
    Begin,
    Base { mint: Mint, ends: Option<Now>, now: Now },
    With { used: Arc<Issued>, mint: Mint },
    Ended,
}

impl Machine for ChainMint {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        let now = cx.now();
        loop {
            let next = match &mut self.stage {
                Stage::Begin => match reply {
                    Reply::Start => self.begin(now),
                    _ => Err(misused()),
                },
                Stage::Base { mint, ends, now: last } => {
                    *last = now;
                    let result = ask!(mint, cx, reply);
                    let (change, ends, again) = (mint.take_change(), *ends, mint.must_wait());
                    if again && self.rounds < ROUNDS {
                        // A chain as the base of this one: there is nobody to wait for.
                        self.rounds = self.rounds.saturating_add(1);
                        self.note(LinkEvent::Minted { at: now, ends, outcome: None, change });
                        self.mint_base(now)
                    } else {
                        self.minted(now, ends, result, change)
                    }
                }
                Stage::With { used, mint } => {
                    let result = ask!(mint, cx, reply);
                    let generation = used.generation;
                    match self.ended(now, generation, result) {
                        Ok(Some(token)) => return self.end(Ok(token)),
                        Ok(None) => Ok(Stage::Begin),
                        Err(error) => Err(error),
                    }
                }
                Stage::Ended => return Step::Done(Err(misused())),
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(error) => return self.end(Err(error)),
            }
        }
    }
}

impl ChainMint {
    fn end(&mut self, result: Result<Token, Error>) -> Step<Token> {
        self.stage = Stage::Ended;
        Step::Done(result)
    }

    /// Notes what happened, here and for the grant.
    fn note(&mut self, event: LinkEvent) -> Option<Result<Token, Error>> {
        let told = Arc::make_mut(&mut self.link).apply(&event);
        self.events.push(event);
        told
    }

    fn begin(&mut self, now: Now) -> Result<Stage, Error> {
        match self.link.look(now) {
            Has::Token(token) => self.with(token),
            Has::Failed(error) => Err(error),
            Has::Nothing if !self.alone => {
                self.note(LinkEvent::Wanted);
                Err(self.wait("the token of its base is to be replaced first"))
            }
            Has::Nothing => {
                if let Some(token) = Arc::make_mut(&mut self.link).first(now) {
                    self.note(LinkEvent::First { at: now, token });
                    return self.begin_with_valid(now, misused());
                }
                self.mint_base(now)
            }
        }
    }

    fn mint_base(&mut self, now: Now) -> Result<Stage, Error> {
        match self.link.mint(now) {
            Ok((mint, ends)) => Ok(Stage::Base { mint, ends, now }),
            Err(error) => {
                self.note(LinkEvent::NotBegun { at: now, error: error.clone() });
                self.begin_with_valid(now, error)
            }
        }
    }

    fn minted(
        &mut self,
        now: Now,
        ends: Option<Now>,
        result: Result<Token, Error>,
        change: Change,
    ) -> Result<Stage, Error> {
        // One that the base gives again would be refused again: in this mint it is not shown twice.
        let same = result.as_ref().ok().and_then(|token| self.link.refusal_of(token)).cloned();
        let told = self.note(LinkEvent::Minted { at: now, ends, outcome: Some(result), change });
        if let Some(error) = same {
            return Err(error.of_no_person());
        }
        let error = match told {
            Some(Err(error)) => error,
            _ => Error::new(ErrorKind::InvalidResponse, "the token of the base has expired already"),
        };
        self.begin_with_valid(now, error)
    }

    /// Goes on with the base's token if there is one that is good, due or not.
    fn begin_with_valid(&mut self, now: Now, error: Error) -> Result<Stage, Error> {
        match self.link.valid(now) {
            Some(token) => self.with(token),
            None => Err(error),
        }
    }

    fn with(&self, used: Arc<Issued>) -> Result<Stage, Error> {
        let mint = (self.with)(&used.token)?;
        Ok(Stage::With { used, mint })
    }

    /// The result of using the base's token. `None` if it was refused and another must be minted first.
    fn ended(&mut self, now: Now, generation: u64, result: Result<Token, Error>) -> Result<Option<Token>, Error> {
        let error = match result {
            Ok(token) => {
                if self.link.is_doubted() {
                    self.note(LinkEvent::Taken);
                }
                return Ok(Some(token));
            }
            Err(error) => error,
        };
        if !refuses_token(&error) || self.link.is_doubted() {
            // An error of the last step says nothing of the grant that the base is of.
            return Err(error.of_no_person());
        }
        self.note(LinkEvent::Refused { generation, at: now, error: error.clone() });
        if !self.link.is_dropped() {
            // Too many followed one another: tokens do not seem to be the matter.
            return Err(error.of_no_person());
        }
        if self.alone { Ok(None) } else { Err(self.wait("the token of its base was refused")) }
    }

    fn wait(&mut self, why: &'static str) -> Error {
        self.must_wait = true;
        Error::new(ErrorKind::Server, why).transient()
    }
}

impl Minting for ChainMint {
    fn take_change(&mut self) -> Change {
        if let Stage::Base { mint, ends, now } = &mut self.stage {
            // It is given up in the middle.
            let (change, ends, at) = (mint.take_change(), *ends, *now);
            self.events.push(LinkEvent::Minted { at, ends, outcome: None, change });
            self.stage = Stage::Ended;
        }
        Change::linked(std::mem::take(&mut self.events))
    }

    fn must_wait(&self) -> bool {
        self.must_wait
    }

    fn waiting(&self) -> Option<Waiting> {
        match &self.stage {
            Stage::Base { mint, .. } | Stage::With { mint, .. } => mint.waiting(),
            Stage::Begin | Stage::Ended => None,
        }
    }
}

/// Whether an error may mean that the base's token is no good any more (RFC 6750, section 3.1; RFC 8693, section 2.2.2).
fn refuses_token(error: &Error) -> bool {
    let code = error.server().map(crate::ServerError::error);
    error.status() == Some(401) && code != Some("invalid_client")
        || matches!(code, Some("invalid_token" | "invalid_grant" | "invalid_request"))
}

fn misused() -> Error {
    Error::misuse("a chain")
}
