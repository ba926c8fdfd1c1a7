//! What changes in the world: troubles of servers, clocks that are set, sleep, lids, people, and the pace.

use std::time::Duration;

use super::account::Kind;
use super::network::{Host, Trouble};
use super::{DAY, EVENTS, Event, Sim, TIME};

#[derive(Clone, Copy, Debug)]
pub(super) enum Weather {
    /// A server falls ill, or its resources refuse every token.
    Trouble,
    Calm(usize),
    /// The host of a server's metadata falls ill.
    Host,
    HostCalm(usize),
    /// A server begins to replace refresh tokens.
    Rotates,
    /// The wall clock is set.
    Jump,
    /// The wall clock is right again.
    Correct,
    Suspend,
    /// A server forgets its access tokens.
    Revoke,
    /// A person takes back what they allowed.
    Withdraw,
    /// A person signs in again without need.
    Replace(usize),
    /// A person signs in again where a credential is permanently gone.
    SignIn(usize),
    Pace,
    /// The next part of the simulation.
    Season,
}

/// How busy the callers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Busy,
    Work,
    Night,
    /// At the end, when all is calm.
    Steady,
}

impl Pace {
    /// The shortest and the longest time between two uses of a caller.
    pub(super) fn between(self) -> (Duration, Duration) {
        let (low, high) = match self {
            Self::Busy => (50, 5_000),
            Self::Work => (1_000, 300_000),
            Self::Night => (300_000, 14_400_000),
            Self::Steady => (10_000, 60_000),
        };
        (Duration::from_millis(low), Duration::from_millis(high))
    }
}

/// The parts of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Season {
    /// Everything goes wrong.
    Storm,
    /// Nothing goes wrong any more; what was broken mends.
    Quiet,
    /// All is well: nobody is refused, nobody waits.
    Steady,
    Over,
}

/// By the end of the quiet time everybody must have been served: the longest `Retry-After` that is honoured,
/// the longest pause and the longest exchange, and a little.
pub(super) const QUIET: Duration = Duration::from_secs(3600 + 60 + 2 * 30 + 180);
const STEADY: Duration = Duration::from_secs(2400);

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

impl Sim {
    pub(super) fn forecast(&mut self) {
        for weather in [
            Weather::Trouble,
            Weather::Host,
            Weather::Rotates,
            Weather::Jump,
            Weather::Suspend,
            Weather::Revoke,
            Weather::Withdraw,
            Weather::Pace,
        ] {
            self.again(weather);
        }
    }

    fn again(&mut self, weather: Weather) {
        let (low, high) = match weather {
            Weather::Trouble => (MINUTE, 6 * HOUR),
            Weather::Host => (HOUR, DAY),
            Weather::Rotates => (HOUR, 10 * DAY),
            Weather::Jump => (HOUR, 2 * DAY),
            Weather::Suspend => (HOUR, DAY),
            Weather::Revoke => (HOUR, DAY),
            Weather::Withdraw => (HOUR, 6 * DAY),
            Weather::Pace => match self.pace {
                Pace::Busy => (5 * SECOND, 40 * SECOND),
                Pace::Work => (MINUTE, HOUR / 2),
                _ => (HOUR, 2 * DAY),
            },
            _ => return,
        };
        let wait = self.rng.time(low, high);
        self.clock.outside(wait, Event::Weather(weather));
    }

    pub(super) fn change(&mut self, weather: Weather) {
        match (self.season, weather) {
            (_, Weather::Season) => return self.next_season(),
            (_, Weather::SignIn(credential)) => return self.sign_in(credential),
            (Season::Storm, _) => {}
            _ => return,
        }
        match weather {
            Weather::Trouble => self.fall_ill(),
            Weather::Calm(credential) => {
                self.credentials[credential].trouble = Trouble::Calm;
                self.credentials[credential].refused = false;
            }
            Weather::Host => self.host_falls_ill(),
            Weather::HostCalm(credential) => self.credentials[credential].host = Host::Calm,
            Weather::Rotates => self.begin_to_rotate(),
            Weather::Jump => self.jump(),
            Weather::Correct => {
                self.clock.offset = 0;
                self.jumped = self.clock.mono;
                self.note("the wall clock is right again", 0, 0);
            }
            Weather::Suspend => self.suspend(),
            Weather::Revoke => {
                let credential = self.rng.below(self.credentials.len());
                self.note("the server of credential {a} forgets its access tokens", credential, 0);
                let account = self.credentials[credential].account;
                self.accounts[account].revoke_access_tokens();
            }
            Weather::Withdraw => {
                let credential = self.rng.below(self.credentials.len());
                self.note("the person of credential {a} takes back what they allowed", credential, 0);
                let account = self.credentials[credential].account;
                self.accounts[account].revoked = true;
            }
            Weather::Replace(credential) => self.replace(credential),
            Weather::Pace => {
                self.pace = match self.pace {
                    Pace::Busy => Pace::Work,
                    Pace::Work => Pace::Night,
                    _ => Pace::Busy,
                };
                self.note("the pace is now {a}", self.pace as usize, 0);
                // Whoever slept through the night wakes up.
                if self.pace == Pace::Busy {
                    self.rouse();
                }
                if self.report.events >= EVENTS && self.clock.truth >= TIME {
                    return self.next_season();
                }
            }
            Weather::SignIn(_) | Weather::Season => {}
        }
        self.again(weather);
    }

    fn fall_ill(&mut self) {
        let credential = self.rng.below(self.credentials.len());
        let retry_after = self.retry_after();
        let status = self.rng.pick(&[429, 503, 400]);
        let acts = self.rng.chance(50);
        let trouble = self.rng.pick(&[
            Trouble::Busy { status, retry_after },
            Trouble::Internal,
            Trouble::Unreachable,
            Trouble::Lossy,
            Trouble::Cut,
            Trouble::Slow,
            Trouble::Late,
            Trouble::Gateway { acts },
            Trouble::Mixed,
            Trouble::Mixed,
        ]);
        self.credentials[credential].trouble = trouble;
        // Who rejects what its server takes for good would wait for its end.
        let early = self.accounts[self.credentials[credential].account].early;
        self.credentials[credential].refused = self.rng.chance(20) && !early;
        self.note("the server of credential {a} falls ill", credential, 0);
        let time = self.rng.time(SECOND, 3 * HOUR);
        self.clock.outside(time, Event::Weather(Weather::Calm(credential)));
    }

    fn host_falls_ill(&mut self) {
        let credential = self.rng.below(self.credentials.len());
        self.credentials[credential].host = self.rng.pick(&[Host::Hangs, Host::Hangs, Host::Refuses]);
        self.note("the host of the metadata of credential {a} falls ill", credential, 0);
        let time = self.rng.time(MINUTE, DAY);
        self.clock.outside(time, Event::Weather(Weather::HostCalm(credential)));
    }

    fn jump(&mut self) {
        let by = self.rng.pick(&[1, 30, 3600, 86_400, 365 * 86_400, 30 * 365 * 86_400]) * 1000;
        let by = by + (self.rng.next() % 1000) as i64;
        self.clock.offset = if self.rng.chance(50) { by } else { -by };
        self.jumped = self.clock.mono;
        self.note("the wall clock is off by {b} ms", 0, self.clock.offset as u64);
        if self.rng.chance(70) {
            let time = self.rng.time(MINUTE, 6 * HOUR);
            self.clock.outside(time, Event::Weather(Weather::Correct));
        }
    }

    /// The lid is closed, for a while. On some systems the monotonic clock goes on.
    fn suspend(&mut self) {
        let time = self.rng.time(MINUTE, 16 * HOUR);
        let stands = self.rng.chance(50);
        self.note(
            "the machine sleeps for {b} s; the monotonic clock goes on: {a}",
            usize::from(!stands),
            time.as_secs(),
        );
        self.clock.truth += time;
        if !stands {
            self.clock.mono += time;
        }
        self.jumped = self.clock.mono;
    }

    fn next_season(&mut self) {
        match self.season {
            Season::Storm => {
                self.season = Season::Quiet;
                self.pace = Pace::Steady;
                for credential in 0..self.credentials.len() {
                    self.credentials[credential].trouble = Trouble::Calm;
                    self.credentials[credential].host = Host::Calm;
                    self.credentials[credential].refused = false;
                }
                for slot in &mut self.slots {
                    slot.known.served = None;
                }
                self.rouse();
                self.note("all trouble is over", 0, 0);
                self.clock.outside(QUIET, Event::Weather(Weather::Season));
            }
            Season::Quiet => {
                self.season = Season::Steady;
                self.judge_recovery();
                self.clock.outside(STEADY, Event::Weather(Weather::Season));
            }
            Season::Steady | Season::Over => self.season = Season::Over,
        }
        self.season_began = self.clock.truth;
    }

    fn sign_in(&mut self, credential: usize) {
        let gone = |slot: &super::Slot| slot.credential == credential && slot.known.is_final;
        if self.slots.iter().any(gone) {
            self.replace(credential);
        }
    }

    /// A want has failed for good: sooner or later somebody signs in again.
    pub(super) fn sign_in_later(&mut self, credential: usize) {
        let time = match self.season {
            Season::Storm => self.rng.time(MINUTE, 12 * HOUR),
            _ => 5 * SECOND,
        };
        self.clock.outside(time, Event::Weather(Weather::SignIn(credential)));
    }

    /// The slot that a caller uses next: any, and at the end each in its turn.
    pub(super) fn next_slot(&mut self) -> usize {
        match self.season {
            Season::Storm => self.rng.below(self.slots.len()),
            _ => {
                self.turn += 1;
                self.turn % self.slots.len()
            }
        }
    }

    /// Whether a want's tokens are refreshed in the background long before their end.
    pub(super) fn is_comfortable(&self, slot: usize) -> bool {
        let credential = &self.credentials[self.slots[slot].credential];
        let account = &self.accounts[credential.account];
        let margin = self.slots[slot].margin.is_none_or(|margin| margin >= 60);
        credential.background
            && margin
            && account.kind != Kind::Metadata
            && !account.early
            && account.lifetime.is_none_or(|life| life >= 300)
    }
}
