//! The standing of a refresh token that was used: what may be done with it, and what a use makes of it.
//!
//! ```text
//! Settled ─unclear─▶ Open ─token─▶ Settled
//!    │                │ └─ another refresh token ─▶ Settled
//!    └──── refused ───┴──▶ Refused ─▶ (early: once more when the access token has ended)
//! ```
//!
//! Only what is known decides: the server's refusal ends a grant, and that it surely replaced the refresh token in an
//! answer that cannot be read. Of anything else nobody knows, and it is tried again, ever more seldom.

use std::time::Duration;

use crate::{Advice, Error, ErrorKind, Now, Rotation, Timestamp};

/// How long servers that rotate let a refresh token be used again, where they do at all.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// How long after the end that a client counts for an access token its server may take it for valid.
pub(crate) const LATE: Duration = Duration::from_secs(5);
/// The pause between two uses of a refresh token of which nobody knows whether it is good; it doubles.
const PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// After this time and so many uses the advice is to sign in again, though it is tried on.
const HOPELESS: (Duration, u32) = (Duration::from_secs(3600), 5);

/// After so many refreshes without a successor a refresh token counts as one that stays.
const LEARNED: u8 = 5;

/// What is known of a server's habit with refresh tokens after so many refreshes without a successor.
pub(crate) fn learned(rotation: Rotation, staying: u8) -> Rotation {
    match rotation {
        Rotation::Unknown if staying >= LEARNED => Rotation::Never,
        rotation => rotation,
    }
}

/// The status of a grant, as far as it is known.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrantStatus {
    /// Nothing is known against the grant.
    #[default]
    Settled,
    /// The refresh token was used with an unknown outcome: the server may have replaced it. It is tried again, after a
    /// pause, when a caller needs a token.
    Unclear {
        /// The moment since which this is so.
        since: Timestamp,
        /// How often the refresh token was used with an unknown outcome.
        tries: u32,
        /// Whether the server has surely used it up: where refresh tokens are replaced, the grant is lost soon.
        used: bool,
    },
    /// The server has refused the refresh token.
    Refused {
        /// Whether there was a valid access token: the server is then asked once more when that token has expired.
        early: bool,
    },
}

/// The token that a want holds when it asks for a mint: [`TokenCell::holds`](crate::cell::TokenCell::holds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// No token: none that was minted has reached the want, or the want has forgotten it.
    Nothing,
    /// A token that a server refused.
    Rejected,
    /// A token that no server has refused, and the moment at which it expires or has expired.
    Until(Now),
}

impl Held {
    pub(crate) fn ends(self) -> Option<Now> {
        if let Self::Until(end) = self { Some(end) } else { None }
    }
}

/// The standing of the refresh token.
#[derive(Clone, Default)]
pub(crate) enum Standing {
    /// Nothing is known against it.
    #[default]
    Settled,
    /// It was used, and nobody knows whether it is still good.
    Open(Open),
    /// The server has refused it, `early` if there was a valid access token.
    Refused { error: Error, early: bool },
}

/// When a mint began, and when the token ends that its want had then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) at: Now,
    pub(super) ends: Option<Now>,
}

/// Uses of a refresh token whose fate nobody knows.
#[derive(Clone)]
pub(crate) struct Open {
    /// When the first of them ended, and when the last did.
    pub(crate) since: Now,
    pub(crate) last: Now,
    pub(crate) tries: u32,
    /// When one of them has surely used it up, if so.
    pub(crate) used: Option<Now>,
    /// The outcome of the last.
    pub(crate) error: Error,
}

impl Open {
    pub(super) fn after(before: &Standing, error: &Error, now: Now, rotates: bool) -> Self {
        let used = (rotates && error.is_surely_used()).then_some(now);
        match before {
            Standing::Open(open) => Self {
                since: open.since,
                last: now,
                tries: open.tries.saturating_add(1),
                used: open.used.or(used),
                error: error.clone(),
            },
            _ => Self { since: now, last: now, tries: 1, used, error: error.clone() },
        }
    }

    /// Whether the refresh token may be used now, and before which moment that must begin.
    pub(super) fn check(&self, now: Now, valid: bool) -> Result<Option<Now>, Error> {
        let grace = self.since + GRACE;
        if self.tries == 1 && !now.has_reached(grace) {
            return Ok((valid || self.used.is_some()).then_some(grace));
        }
        if let Some(used) = self.used {
            return match used.mono.saturating_add(GRACE).saturating_sub(now.mono) {
                Duration::ZERO => Err(lost()),
                left => Err(self.error.clone().told_again(left)),
            };
        }
        if valid {
            return Err(waits());
        }
        match self.rest(now) {
            Duration::ZERO => Ok(None),
            rest => Err(self.error.clone().told_again(rest)),
        }
    }

    /// How long the refresh token must still rest. What either clock says has passed has passed.
    fn rest(&self, now: Now) -> Duration {
        let end = self.last + pause(self.tries, self.since.mono.subsec_millis());
        end.wall.since(now.wall).min(end.mono.saturating_sub(now.mono))
    }
}

/// The pause after so many uses, spread a little by `salt`.
pub(crate) fn pause(tries: u32, salt: u32) -> Duration {
    let longest = PAUSE.saturating_mul(1 << tries.saturating_sub(2).min(8));
    let spread = f64::from(salt % 1000) / 5000.0;
    longest.mul_f64(1.0 + spread).min(LONGEST_PAUSE)
}

/// Whether nobody can expect any more that a refresh token is good of which nobody knows.
pub(crate) fn is_hopeless(tries: u32, lasts: Duration) -> bool {
    lasts >= HOPELESS.0 && tries >= HOPELESS.1
}

/// What is told of a refresh token whose fate nobody knows as long as there is a valid access token.
pub(crate) fn waits() -> Error {
    let why = "a refresh went out and no answer came; it is tried once more when the token has expired";
    Error::new(ErrorKind::Timeout, why)
}

pub(crate) fn lost() -> Error {
    let why = "the server may have replaced the refresh token in an answer that never arrived";
    Error::new(ErrorKind::GrantLost, why).with_advice(Advice::SignInAgain)
}

/// Whether the server may take an access token for valid that ends at this moment.
pub(crate) fn may_be_valid(ends: Option<Now>, now: Now) -> Option<Duration> {
    let end = ends? + LATE;
    (!now.has_reached(end)).then(|| end.wall.since(now.wall).min(end.mono.saturating_sub(now.mono)))
}
