//! The wall clock for readers of a held token. Linux keeps a copy of its clock, which costs a fifth of the clock
//! itself, and is a tick behind at most: a token is shown for so much less time.

use std::time::Duration;

/// By how much [`millis`] may be behind the clock. The longest tick is 10 ms.
pub(super) const BEHIND: Duration = Duration::from_millis(10);

/// Milliseconds since 1970.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
pub(super) fn millis() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::RealtimeCoarse);
    let part = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1000).saturating_add(part)
}

/// Milliseconds since 1970.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[inline]
pub(super) fn millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
