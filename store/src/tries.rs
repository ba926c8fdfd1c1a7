//! What remote stores have in common: tries, and the owners and times of leases that end by themselves.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grantflow::machine::FailureKind;
use grantflow::store::{MAX_RECORD, Stored};
use grantflow::{Failure, Timestamp};

/// What a lease lasts at least, in case its holder cannot give it back.
pub(crate) const SHORTEST_LEASE: Duration = Duration::from_secs(60);
/// How long to go on trying when the server is away, such as for a restart.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// The tries of one command.
pub(crate) struct Tries {
    start: Instant,
    /// Whether there was one before, which may have been carried out.
    pub(crate) again: bool,
}

impl Tries {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), again: false }
    }

    /// How long to wait before the next one, if there is to be one after an error that may be over in a moment.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        // Twice at least: a process that was suspended finds all its patience gone.
        if self.again && self.start.elapsed() >= PATIENCE {
            return None;
        }
        Some(if std::mem::replace(&mut self.again, true) { PAUSE } else { Duration::ZERO })
    }
}

/// The name of a lease's holder, which no other has: drawn from the system for each lease, since what a process drew
/// when it began is shared by all clones of its virtual machine.
pub(crate) fn owner() -> Result<u128, Failure> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        Failure::not_sent(FailureKind::Store, format!("the system gives no randomness for a lease: {error}"))
    })?;
    Ok(u128::from_ne_bytes(random))
}

/// When a lease ends that is asked for now. Counted from before the first try, it ends here before it ends there.
pub(crate) fn until(time: Duration) -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)) + time
}

pub(crate) fn check_size(stored: &Stored) -> Result<(), Failure> {
    let size = stored.value.len();
    let why = || format!("the record has {size} bytes; no more than {MAX_RECORD} can be kept");
    if size <= MAX_RECORD { Ok(()) } else { Err(Failure::not_sent(FailureKind::TooLarge, why())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lease_has_an_owner_of_its_own() {
        let owners: std::collections::HashSet<_> = (0..1000).map(|_| owner().unwrap()).collect();
        assert_eq!(owners.len(), 1000);
    }

    #[test]
    fn whoever_was_suspended_tries_twice_all_the_same() {
        let Some(start) = Instant::now().checked_sub(PATIENCE) else { return };
        let mut tries = Tries { start, again: false };
        assert_eq!(tries.pause(), Some(Duration::ZERO));
        assert!(tries.again);
        assert_eq!(tries.pause(), None);
        let mut tries = Tries::new();
        assert_eq!([tries.pause(), tries.pause()], [Some(Duration::ZERO), Some(PAUSE)]);
    }
}
