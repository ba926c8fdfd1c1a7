//! Weeks in the life of a program with many tokens, in a second, and the same each time from its seed.
//!
//! The cell, the grant's queue and the machines that mint are the real ones. The managers around them, the
//! callers, the servers, the network and the clocks are models. After every event these rules are checked:
//!
//! 1. There are never two refreshes in flight for one want of one credential.
//! 2. A rotating refresh token is never sent by two at the same time, and not again when it may have been
//!    used, but for one recovery attempt: within 30 s, or when there is no valid token.
//! 3. No expired, rejected or foreign token is handed out, by the wall clock of that moment.
//! 4. A valid token is never withheld, and a failure never replaces it.
//! 5. Nobody waits without a refresh in flight, and no refresh waits for its turn without one that has it.
//! 6. After the nth failure in a row a want is not minted for 2^(n-1) s, 60 s at the most, less a jitter of up
//!    to a half, and never before `Retry-After`, of which an hour is honoured; after a final failure not until
//!    the credential is replaced. What is due is not minted within a second after the last. One mint makes
//!    12 requests at the most.
//! 7. When all trouble is over, every want is served within 65 minutes (an honoured `Retry-After` and what a
//!    try takes); from then on nobody fails, but for a lost grant whose access token ends only then, and nobody
//!    waits for what is refreshed in the background.
//!
//! ```no_run
//! let report = grantflow_tests::simulation::run(1).unwrap();
//! assert!(report.events > 20_000);
//! ```

mod account;
mod caller;
mod clock;
mod life;
pub(crate) mod log;
mod manager;
mod network;
mod oracle;
pub(crate) mod rng;
mod weather;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::rules::{self, Rule};
use crate::seeds::{self, Broken};
use account::Account;
use caller::Caller;
use clock::Clock;
use log::Log;
use manager::{Credentials, Run, Slot};
use network::Wire;
use rng::Rng;
use weather::{Pace, Season, Weather};

const DAY: Duration = Duration::from_secs(86_400);
/// The simulation is over when both have passed.
const EVENTS: u64 = 20_000;
const TIME: Duration = Duration::from_secs(14 * 86_400);

/// How a seed went that broke no rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many things happened.
    pub events: u64,
    /// How much time passed.
    pub time: Duration,
    /// A digest of everything that happened, in order.
    pub digest: u64,
    /// How many tokens callers were given.
    pub served: u64,
    /// How many callers were told of a failure.
    pub failed: u64,
    /// How many callers had to wait.
    pub waited: u64,
    /// How many refreshes began.
    pub refreshes: u64,
    /// How many requests were sent.
    pub requests: u64,
    /// How many people had to sign in again.
    pub signed_out: u64,
    /// How many of these because the server refused the refresh token.
    pub refused: u64,
    /// How many because the server surely used it up and its successor was lost.
    pub used_up: u64,
    /// How many though the server would have taken the refresh token, and none of that held.
    pub alive: u64,
    /// How many though the server would have taken it, by what it had said or by the named limit.
    pub alive_by_limit: u64,
    /// How many refresh tokens were refused while an access token was good.
    pub refused_early: u64,
    /// How many ended tokens were handed out by one who reads one clock that was set back a little.
    pub ended_by_limit: u64,
    /// How many refresh tokens were given up as lost.
    pub lost: u64,
    /// How many of those the server would still have taken.
    pub lost_though_alive: u64,
    /// How many of those had not been used twice in a way that may have used them up.
    pub lost_though_unsent: u64,
    /// The longest time from the end of all trouble until a want was served.
    pub recovery: Duration,
}

impl seeds::Report for Report {
    fn command(&self) -> &'static str {
        "simulate --"
    }

    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.time += other.time;
        self.digest ^= other.digest;
        self.served += other.served;
        self.failed += other.failed;
        self.waited += other.waited;
        self.refreshes += other.refreshes;
        self.requests += other.requests;
        self.signed_out += other.signed_out;
        self.refused += other.refused;
        self.used_up += other.used_up;
        self.alive += other.alive;
        self.alive_by_limit += other.alive_by_limit;
        self.refused_early += other.refused_early;
        self.ended_by_limit += other.ended_by_limit;
        self.lost += other.lost;
        self.lost_though_alive += other.lost_though_alive;
        self.lost_though_unsent += other.lost_though_unsent;
        self.recovery = self.recovery.max(other.recovery);
    }

    fn events(&self) -> u64 {
        self.events
    }

    fn time(&self) -> Duration {
        self.time
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { served, failed, waited, refreshes, requests, .. } = *self;
        writeln!(f, "one program, many tokens:")?;
        rules::line(f, "callers", &[("served", served), ("told of a failure", failed), ("had to wait", waited)])?;
        rules::line(f, "refreshes", &[("", refreshes), ("requests", requests)])?;
        let by = [("", self.signed_out), ("refused by the server", self.refused), ("surely used up", self.used_up)];
        rules::line(f, "people signed out", &by)?;
        let by_limit = ("by its word or the limit", self.alive_by_limit);
        rules::line(f, "  though the server would go on", &[("", self.alive), by_limit])?;
        let unused = ("used once at most", self.lost_though_unsent);
        let lost = [("", self.lost), ("of them alive", self.lost_though_alive), unused];
        rules::line(f, "given up without the server's word", &lost)?;
        rules::line(f, "refused while a token was good", &[("", self.refused_early)])?;
        rules::line(f, "ended tokens, unseen by one clock", &[("", self.ended_by_limit)])?;
        writeln!(f, "  {:<36}{:?}", "longest recovery", self.recovery)?;
        writeln!(f, "digest {:016x}", self.digest)
    }
}

/// Runs one seed to its end, or until a rule is broken.
///
/// # Errors
///
/// The rule, and what led there.
pub fn run(seed: u64) -> Result<Report, Box<Broken<Report>>> {
    let mut sim = Sim::new(seed);
    sim.begin();
    while sim.broken.is_none() && sim.season != Season::Over {
        let Some((at, event)) = sim.clock.next() else { break };
        sim.happen(at, event);
        sim.check();
    }
    if sim.season != Season::Over {
        sim.breaks("everything stands still".to_owned());
    }
    sim.report.time = sim.clock.truth;
    sim.report.digest = sim.log.digest();
    match sim.broken {
        None => Ok(sim.report),
        Some(why) => Err(Box::new(Broken { seed, why, last: sim.log.last(), report: sim.report })),
    }
}

/// What can happen.
#[derive(Debug)]
enum Event {
    /// A caller goes on, unless the number says that it was cancelled in between.
    Caller(usize, u32),
    /// A caller is dropped while it waits.
    Cancel(usize, u32),
    /// A refresh that has its turn begins.
    Begin(u64),
    /// A refresh has slept.
    Slept(u64),
    /// A refresh is torn off.
    Abandon(u64),
    /// A call has taken all the time that it may.
    TimeOut { run: u64, wire: u64 },
    /// A request reaches its server.
    Arrive(u64),
    /// The answer is back, or the failure.
    Answer(u64),
    /// The background refresher looks, unless the number says that it was told otherwise.
    Refresher(u32),
    /// Something changes in the world.
    Weather(Weather),
}

struct Sim {
    rng: Rng,
    clock: Clock,
    log: Log,
    accounts: Vec<Account>,
    credentials: Vec<Credentials>,
    slots: Vec<Slot>,
    callers: Vec<Caller>,
    runs: BTreeMap<u64, Run>,
    wires: BTreeMap<u64, Wire>,
    ids: u64,
    refresher: u32,
    refresher_wakes: Duration,
    pace: Pace,
    season: Season,
    season_began: Duration,
    /// Which slot is used next, once all trouble is over.
    turn: usize,
    /// When a clock last jumped or the machine last slept.
    jumped: Duration,
    report: Report,
    broken: Option<String>,
    /// The public documents that were read.
    documents: grantflow::documents::Documents,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut sim = Self {
            rng: Rng::new(seed),
            clock: Clock::default(),
            log: Log::default(),
            accounts: Vec::new(),
            documents: grantflow::documents::Documents::new(),
            credentials: Vec::new(),
            slots: Vec::new(),
            callers: Vec::new(),
            runs: BTreeMap::new(),
            wires: BTreeMap::new(),
            ids: 0,
            refresher: 0,
            refresher_wakes: Duration::MAX,
            pace: Pace::Work,
            season: Season::Storm,
            season_began: Duration::ZERO,
            turn: 0,
            jumped: Duration::ZERO,
            report: Report::default(),
            broken: None,
        };
        for _ in 0..3 + sim.rng.below(4) {
            sim.add_credential();
        }
        for _ in 0..6 + sim.rng.below(18) {
            sim.callers.push(Caller::default());
        }
        sim
    }

    fn begin(&mut self) {
        for caller in 0..self.callers.len() {
            self.think(caller);
        }
        self.forecast();
        self.wake_refresher_in(Duration::from_secs(30));
    }

    fn happen(&mut self, at: Duration, event: Event) {
        // Neither what is only looked at nor what comes too late to matter counts.
        let counts = match &event {
            Event::Refresher(_) => false,
            Event::TimeOut { run, wire } => self.runs.get(run).is_some_and(|run| run.wire == Some(*wire)),
            _ => true,
        };
        self.report.events += u64::from(counts);
        match event {
            Event::Caller(caller, nonce) => self.go_on(caller, nonce),
            Event::Cancel(caller, nonce) => self.cancel(caller, nonce),
            Event::Begin(run) => self.begin_run(run),
            Event::Slept(run) => self.resume(run, grantflow::Reply::Slept),
            Event::Abandon(run) => self.abandon(run),
            Event::TimeOut { run, wire } => self.time_out(run, wire),
            Event::Arrive(wire) => self.arrive(at, wire),
            Event::Answer(wire) => self.deliver(at, wire),
            Event::Refresher(nonce) => self.refresh_in_background(nonce),
            Event::Weather(weather) => self.change(weather),
        }
    }

    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn note(&mut self, what: &'static str, a: usize, b: u64) {
        self.log.note(self.report.events, self.clock.now(), what, a, b);
    }

    /// A rule is broken. The first counts.
    fn breaks(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }

    fn require(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.breaks(why());
        }
    }
}
