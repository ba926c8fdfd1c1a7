//! What a seed chooses once.

use std::time::Duration;

use grantflow::Rotation;

use crate::simulation::rng::Rng;

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) processes: usize,
    pub(super) wants: usize,
    /// The life of access tokens.
    pub(super) lifetime: Duration,
    /// Whether the server replaces refresh tokens, and what is known of that beforehand.
    pub(super) rotates: bool,
    pub(super) known: Rotation,
    /// How long a refresh token that was replaced is still good.
    pub(super) grace: Duration,
    /// Whether the server is known by its issuer alone.
    pub(super) discovered: bool,
    /// Whether leases end by themselves, as Redis's.
    pub(super) expiring: bool,
    /// How old what is read may be.
    pub(super) lag: Duration,
    /// Whether a store that restarts forgets its leases.
    pub(super) forgets: bool,
    /// Whether clocks differ and jump.
    pub(super) clocks: bool,
    /// How often, in so many effects, a process dies or is stopped in the middle of one.
    pub(super) deadly: u64,
    /// Whether the server may take back the grant, as when its user wishes.
    pub(super) withdrawn: bool,
    /// Whether nobody can sign in where a process was refused, but only elsewhere.
    pub(super) daemons: bool,
    /// Whether tokens are not asked for over many of their lives.
    pub(super) idle: bool,
    /// Whether the server refuses refreshes as long as the last access token is good.
    pub(super) early: bool,
    /// How much longer access tokens are than they must be.
    pub(super) padding: usize,
    /// Whether the store is replicated, and falls back to an older copy.
    pub(super) falls_back: bool,
}

/// A grace window that does not end.
pub(super) const ENDLESS: Duration = Duration::from_secs(1_000_000_000);

impl Plan {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let rotates = rng.chance(85);
        let seconds = Duration::from_secs;
        let expiring = rng.chance(50);
        let clocks = rng.chance(40);
        let early = rng.chance(15) && !clocks;
        Self {
            processes: 2 + rng.below(5),
            wants: 1 + rng.below(3),
            lifetime: seconds(rng.pick(&[20, 60, 300, 900, 1800, 3600, 3600])),
            rotates,
            known: match (rotates, rng.below(3)) {
                (_, 0) => Rotation::Unknown,
                (true, _) => Rotation::Rotates,
                (false, _) => Rotation::Never,
            },
            grace: rng.pick(&[Duration::ZERO, Duration::ZERO, seconds(30), seconds(60), ENDLESS, ENDLESS]),
            discovered: rng.chance(20),
            expiring,
            lag: if expiring { seconds(rng.pick(&[0, 0, 1, 5])) } else { Duration::ZERO },
            forgets: expiring && rng.chance(40),
            clocks,
            deadly: rng.pick(&[20, 50, 200, 1_000_000]),
            withdrawn: rng.chance(30),
            daemons: rng.chance(50),
            idle: rng.chance(20),
            early,
            // Where nobody gets a token beside another's, all must find room in the record.
            padding: rng.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 6_000, if early { 0 } else { 20_000 }]),
            falls_back: rng.chance(30) && expiring,
        }
    }
}
