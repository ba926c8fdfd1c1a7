//! Three clocks and what is to happen: the true time, by which servers go; this machine's wall clock, which
//! is set forth and back; and its monotonic clock, which may stand while the machine is suspended.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use grantflow::{Now, Timestamp};

use super::Event;

#[derive(Debug)]
pub(super) struct Clock {
    /// Since the beginning.
    pub(super) truth: Duration,
    pub(super) mono: Duration,
    /// How far the wall clock is off, in milliseconds.
    pub(super) offset: i64,
    /// What this machine waits for: by the monotonic clock.
    timers: BinaryHeap<Entry>,
    /// What comes from outside: by the true time.
    outside: BinaryHeap<Entry>,
    entries: u64,
}

#[derive(Debug)]
struct Entry {
    at: Duration,
    nth: u64,
    event: Event,
}

/// 2026-11-20T12:00:00Z
const BEGIN: i64 = 1_795_176_000_000;

impl Default for Clock {
    fn default() -> Self {
        Self {
            truth: Duration::ZERO,
            mono: Duration::from_secs(1000),
            offset: 0,
            timers: BinaryHeap::new(),
            outside: BinaryHeap::new(),
            entries: 0,
        }
    }
}

impl Clock {
    pub(super) fn now(&self) -> Now {
        Now { wall: self.wall(), mono: self.mono }
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_unix_millis(BEGIN + self.truth.as_millis() as i64 + self.offset)
    }

    /// An event of this machine.
    pub(super) fn after(&mut self, wait: Duration, event: Event) {
        self.entries += 1;
        self.timers.push(Entry { at: self.mono.saturating_add(wait), nth: self.entries, event });
    }

    /// An event that happens whether or not this machine is awake.
    pub(super) fn outside(&mut self, wait: Duration, event: Event) {
        self.entries += 1;
        self.outside.push(Entry { at: self.truth + wait, nth: self.entries, event });
    }

    /// Goes on to the next event, and says at which true time it came: earlier than now, if the machine slept.
    pub(super) fn next(&mut self) -> Option<(Duration, Event)> {
        let wait = |entry: Option<&Entry>, now: Duration| entry.map(|entry| entry.at.saturating_sub(now));
        let (timer, outside) = (wait(self.timers.peek(), self.mono), wait(self.outside.peek(), self.truth));
        let inside = match (timer, outside) {
            (Some(timer), Some(outside)) => timer < outside,
            (timer, None) => timer.is_some(),
            (None, _) => false,
        };
        let wait = if inside { timer } else { outside }?;
        self.truth += wait;
        self.mono += wait;
        let entry = if inside { self.timers.pop() } else { self.outside.pop() }?;
        Some((if inside { self.truth } else { entry.at }, entry.event))
    }
}

impl Ord for Entry {
    /// The first is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.nth).cmp(&(self.at, self.nth))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
