//! What happened last, to be read when a rule is broken.

use std::collections::VecDeque;
use std::hash::Hasher;

use grantflow::Now;

/// How much of it is kept.
const KEPT: usize = 200;

#[derive(Debug, Default)]
pub(crate) struct Log {
    notes: VecDeque<Note>,
    digest: Fnv,
}

#[derive(Debug)]
struct Note {
    event: u64,
    now: Now,
    what: &'static str,
    a: usize,
    b: u64,
}

impl Log {
    /// `what` holds `{a}` and `{b}` where these belong.
    pub(crate) fn note(&mut self, event: u64, now: Now, what: &'static str, a: usize, b: u64) {
        self.digest.write(what.as_bytes());
        self.digest.write(&(now.wall.as_unix_millis() as u64 ^ (a as u64) << 48 ^ b).to_be_bytes());
        if self.notes.len() == KEPT {
            self.notes.pop_front();
        }
        self.notes.push_back(Note { event, now, what, a, b });
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest.0
    }

    pub(crate) fn last(&self) -> Vec<String> {
        let line = |note: &Note| {
            let what = note.what.replace("{a}", &note.a.to_string()).replace("{b}", &note.b.to_string());
            let (wall, mono) = (note.now.wall, note.now.mono.as_secs_f64());
            format!("{:6} {wall}.{:03} {mono:14.3} {what}", note.event, wall.as_unix_millis().rem_euclid(1000))
        };
        self.notes.iter().map(line).collect()
    }
}

/// FNV-1a.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
