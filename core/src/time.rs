//! Moments: on the wall clock, and by both clocks. Core never reads a clock: every moment comes from [`Cx`](crate::Cx)
//! or from a server's answer.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment on the wall clock: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// Arithmetic saturates, so that no answer of a server can make it overflow.
///
/// ```
/// use grantflow::Timestamp;
/// use std::time::Duration;
///
/// let noon = Timestamp::from_unix(1_795_176_000);
/// assert_eq!(noon.to_string(), "2026-11-20T12:00:00Z");
/// assert_eq!((noon + Duration::from_secs(60)).since(noon), Duration::from_secs(60));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `seconds` after the epoch, as in `exp` and `iat` of a JWT (RFC 7519, section 2).
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// The moment `millis` milliseconds after the epoch.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_unix(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Milliseconds since the epoch.
    pub const fn as_unix_millis(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to this moment; zero if `earlier` is the later of the two.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339 and ISO 8601 as Python writes it: seconds or fractions of them, which are dropped, and
    /// UTC where no offset is given.
    pub(crate) fn from_rfc3339(text: &str) -> Option<Self> {
        let (date, time) = text.split_once(['T', 't', ' '])?;
        let (time, offset) = match time.find(['Z', 'z', '+', '-']) {
            Some(at) => time.split_at_checked(at)?,
            None => (time, "Z"),
        };
        let number = |text: &str, digits: usize| -> Option<i64> {
            let sound = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| sound)
        };
        let pair = |text: &str| -> Option<i64> {
            let (hours, minutes) = text.split_once(':')?;
            number(hours, 2)?.checked_mul(3600)?.checked_add(number(minutes, 2)?.checked_mul(60)?)
        };
        let mut parts = date.split('-');
        let (year, month, day) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let (minutes, seconds) = time.rsplit_once(':')?;
        let seconds = number(seconds.split('.').next()?, 2)?;
        if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) || seconds > 60 {
            return None;
        }
        let offset = match offset {
            "Z" | "z" => 0,
            offset => pair(offset.get(1..)?)?.checked_mul(if offset.starts_with('-') { -1 } else { 1 })?,
        };
        let of_day = pair(minutes)?.checked_add(seconds)?.checked_sub(offset)?;
        Some(Self::from_unix(days(year, month, day).checked_mul(86_400)?.checked_add(of_day)?))
    }

    /// Reads an HTTP date (RFC 9110, section 5.6.7), as in `Retry-After` and `Date`.
    pub(crate) fn from_http_date(text: &str) -> Option<Self> {
        let date = httpdate::parse_http_date(text).ok()?;
        let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Self(i64::try_from(since.as_millis()).ok()?))
    }
}

/// Both clocks, read at one moment.
///
/// An agreed moment, such as the end of a lease, is one by both clocks too: it has come when either clock says so. So
/// it comes although the wall clock is set back, and although a sleep of the machine stops the other clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock. Expiry is judged by it.
    pub wall: Timestamp,
    /// A clock that never goes back, from any origin. Deadlines and waits inside a run go by it.
    pub mono: Duration,
}

impl Now {
    /// The moment at which the wall clock shows `wall`, by both clocks as they go now.
    pub fn at(self, wall: Timestamp) -> Self {
        Self { wall, mono: self.mono.saturating_add(wall.since(self.wall)) }
    }

    /// Whether this moment has come, by either clock.
    pub fn has_reached(self, moment: Self) -> bool {
        self.wall >= moment.wall || self.mono >= moment.mono
    }

    /// The earlier of two moments, by each clock.
    pub fn earlier(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), mono: self.mono.min(other.mono) }
    }
}

impl std::ops::Add<Duration> for Now {
    type Output = Self;
    fn add(self, time: Duration) -> Self {
        Self { wall: self.wall + time, mono: self.mono.saturating_add(time) }
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(millis(time)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(millis(time)))
    }
}

/// RFC 3339, in UTC, to the second.
/// What the system's clock says; a moment that no date has becomes the first or the last one.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(millis(since)),
            Err(before) => Self(millis(before.duration()).saturating_neg()),
        }
    }
}

/// A moment that the system cannot say becomes its epoch.
impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let millis = Duration::from_millis(time.0.unsigned_abs());
        let moment = if time.0 < 0 { UNIX_EPOCH.checked_sub(millis) } else { UNIX_EPOCH.checked_add(millis) };
        moment.unwrap_or(UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.as_unix();
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let time = seconds.rem_euclid(86_400);
        let (h, m, s) = (time / 3600, time / 60 % 60, time % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
/// Years begin in March here, so that the leap day is the last of its year.
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a day count is an i64 of milliseconds divided by 86,400,000: far from any limit"
)]
fn civil(day: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097; // days in 400 years
    let day = day + 719_468; // from 0000-03-01
    let (era, of_era) = (day.div_euclid(ERA), day.rem_euclid(ERA));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// The reverse of [`civil`].
#[allow(clippy::arithmetic_side_effects, reason = "a year has four digits, a month and a day two")]
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_time_and_back() {
        for millis in [0, 1, -1, 1_795_176_000_123, -62_135_596_800_000] {
            let time = Timestamp::from_unix_millis(millis);
            assert_eq!(Timestamp::from(SystemTime::from(time)), time);
        }
        let _ = SystemTime::from(Timestamp::from_unix_millis(i64::MIN));
        let _ = SystemTime::from(Timestamp::from_unix_millis(i64::MAX));
    }

    #[test]
    fn a_moment_has_come_when_either_clock_says_so() {
        let at = |wall, mono| Now { wall: Timestamp::from_unix(wall), mono: Duration::from_secs(mono) };
        let end = at(100, 10).at(Timestamp::from_unix(130));
        assert_eq!((end, at(100, 10) + Duration::from_secs(30)), (at(130, 40), at(130, 40)));
        for (now, come) in [
            (at(100, 10), false),
            (at(129, 39), false),
            (at(130, 39), true),
            (at(129, 40), true),
            // The wall clock was set back; this machine slept.
            (at(50, 40), true),
            (at(130, 11), true),
        ] {
            assert_eq!(now.has_reached(end), come, "{now:?}");
        }
        // One that has passed has come.
        let now = at(100, 10);
        assert!(now.has_reached(now.at(Timestamp::from_unix(99))));
    }

    #[test]
    fn shows_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_795_176_000, "2026-11-20T12:00:00Z"),
        ] {
            assert_eq!(Timestamp::from_unix(seconds).to_string(), text);
        }
    }

    #[test]
    fn reads_rfc_3339_and_what_python_writes() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59Z", -1),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2026-11-20T12:00:00Z", 1_795_176_000),
            ("2026-11-20T12:00:00.123456Z", 1_795_176_000),
            ("2026-11-20T12:00:00", 1_795_176_000),
            ("2026-11-20 12:00:00.5", 1_795_176_000),
            ("2026-11-20T13:30:00+01:30", 1_795_176_000),
            ("2026-11-20T11:00:00-01:00", 1_795_176_000),
        ] {
            assert_eq!(Timestamp::from_rfc3339(text), Some(Timestamp::from_unix(seconds)), "{text}");
        }
        for text in [
            "",
            "2026-11-20",
            "2026-13-20T12:00:00Z",
            "2026-11-20T12:00Z",
            "x-11-20T12:00:00Z",
            "2026-11-20T12:00:00+1",
        ] {
            assert_eq!(Timestamp::from_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn never_overflows() {
        for edge in [i64::MIN, i64::MAX] {
            let moment = Timestamp::from_unix_millis(edge);
            let _ = (moment + Duration::MAX, moment - Duration::MAX, moment.to_string());
            let _ = moment.since(Timestamp::from_unix_millis(i64::MIN));
        }
    }

    #[test]
    fn reads_the_three_http_dates() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(Timestamp::from_http_date(text), Some(Timestamp::from_unix(784_111_777)));
        }
        assert_eq!(Timestamp::from_http_date("soon"), None);
    }
}
