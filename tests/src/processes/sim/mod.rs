//! Days in the life of several processes that share one grant, in a moment, and the same each time from its seed.
//!
//! The machines, the cells and the grants' queues are the real ones. The processes around them, the store, the
//! network, the clocks and the server, which replaces refresh tokens and ends the grant when one is used twice, are
//! models. Processes die and are stopped at any effect, before it is carried out and after; their leases end or go
//! with them; saves fail and answers get lost, from the store as from the server; a store may forget its leases and
//! read what is a few seconds old; clocks differ and jump. After every event the rules of [`oracle`](self) hold:
//!
//! 1. A refresh token is sent only under an intent that was saved for it, unless it stays, and not after its successor had
//!    been saved before that.
//! 2. It is not sent by two at the same time, nor a second time without need while the grace window may be over.
//! 3. What is newer is never overwritten.
//! 4. What is handed out was saved; or the failure to save it is on the status; or something newer lies there.
//! 5. With a grace window without end, the server never ends the grant.
//! 6. Nobody waits for longer than a bound, and when the trouble is over, everybody is served.
//! 7. All [`Rule`]s of the life of a grant.
//!
//! Rules about the order of events among processes are relaxed where their clocks differ by more than a second, and for
//! runs that began before the store lost what was saved last: no process can know that its clock is wrong, nor that its
//! lease is gone and what it has read, whose version now comes a second time. Two things are limits, which the architecture names: that somebody holds what is not saved,
//! and that a request of a server that refuses early refreshes took long.

mod effects;
mod life;
mod network;
mod oracle;
mod plan;
mod process;
mod server;
mod weather;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::time::Duration;

use grantflow::{Now, Timestamp};

use super::Shelf;
use crate::rules::{self, Rule};
use crate::seeds::{self, Broken};
use crate::simulation::log::Log;
use crate::simulation::rng::Rng;
use effects::Op;
use life::Story;
use network::{Host, Trouble};
use oracle::Known;
use plan::Plan;
use process::{Process, Run};
use server::Server;
use weather::{Season, Weather};

/// 2026-11-20T12:00:00Z
const BEGIN: i64 = 1_795_176_000_000;
const MONO: Duration = Duration::from_secs(1000);

/// How a seed went that broke no rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many things happened.
    pub events: u64,
    /// How much time passed.
    pub time: Duration,
    /// A digest of everything that happened, in order.
    pub digest: u64,
    /// How often a process was given a token.
    pub served: u64,
    /// How many refreshes began, and how many of them got a token that another process had got.
    pub refreshes: u64,
    /// See [`refreshes`](Self::refreshes).
    pub shared: u64,
    /// How often a refresh token was sent.
    pub sent: u64,
    /// How many of these were the one attempt to recover, and how many of them succeeded.
    pub recoveries: u64,
    /// See [`recoveries`](Self::recoveries).
    pub recovered: u64,
    /// How often a process died or was stopped, by what it had asked for and whether that was done.
    pub deaths: BTreeMap<(&'static str, &'static str), u64>,
    /// See [`deaths`](Self::deaths).
    pub stops: BTreeMap<(&'static str, &'static str), u64>,
    /// How many results could not be saved when they came, and how many were saved later.
    pub unsaved: u64,
    /// See [`unsaved`](Self::unsaved).
    pub saved_later: u64,
    /// How many results came too late to be saved.
    pub too_late: u64,
    /// How often the server ended the grant because a refresh token came twice.
    pub ended: u64,
    /// How many refresh tokens the server refused for good.
    pub refused: u64,
    /// How many refresh tokens were given up because a use of them had surely used them up.
    pub lost: u64,
    /// How many of these the server would still have taken.
    pub lost_though_alive: u64,
    /// How many of these the server had never acted upon.
    pub lost_though_unused: u64,
    /// How often a process said that somebody must sign in again.
    pub signed_out: u64,
    /// How often because the server had refused the refresh token to it.
    pub by_server: u64,
    /// How often because the server surely used it up and its successor was lost.
    pub used_up: u64,
    /// How often though the server would have taken the refresh token, and none of that held.
    pub alive: u64,
    /// How often though the server would have taken it, by its word or the named limit.
    pub alive_by_limit: u64,
    /// How many refresh tokens were refused while an access token was good.
    pub refused_early: u64,
    /// Uses of a refresh token that a living process had seen answered: without excuse,
    pub answered_uses: u64,
    /// the one within the grace time,
    pub answered_in_grace: u64,
    /// after the store had lost the successor,
    pub answered_after_fall_back: u64,
    /// and while the successor could not be saved.
    pub answered_unsaved: u64,
    /// How often such a use ended a grant whose newest refresh token was in use: without excuse,
    pub killed: u64,
    /// and while that could not be saved, or the store had lost it.
    pub killed_unsaved: u64,
    /// How often a process was killed with something that it could not save, and how often it ended in order.
    pub unsaved_killed: u64,
    /// See [`unsaved_killed`](Self::unsaved_killed).
    pub unsaved_lost: u64,
    /// How often the store lost what was saved last.
    pub fall_backs: u64,
    /// How often a process went on that was refused, because somebody had signed in elsewhere.
    pub revivals: u64,
    /// The longest time that one of these took, from the first time that it was asked.
    pub longest_revival: Duration,
    /// How often somebody signed in, and what they granted could not be saved.
    pub sign_ins_lost: u64,
    /// How often somebody signed in again.
    pub sign_ins: u64,
    /// The longest time of one refresh, without the time that its process was stopped and the store took.
    pub longest: Duration,
    /// The longest time from the end of all trouble until a want of a process was served.
    pub recovery: Duration,
}

impl seeds::Report for Report {
    fn command(&self) -> &'static str {
        "simulate -- processes"
    }

    fn add(&mut self, other: &Self) {
        macro_rules! sum {
            ($($name:ident)*) => { $(self.$name += other.$name;)* };
        }
        sum!(events time served refreshes shared sent recoveries recovered unsaved saved_later too_late ended refused lost
            lost_though_alive lost_though_unused sign_ins signed_out by_server used_up alive alive_by_limit refused_early
            answered_uses answered_in_grace answered_after_fall_back answered_unsaved killed killed_unsaved
            unsaved_killed unsaved_lost fall_backs revivals sign_ins_lost);
        self.digest ^= other.digest;
        for (mine, theirs) in [(&mut self.deaths, &other.deaths), (&mut self.stops, &other.stops)] {
            theirs.iter().for_each(|(at, count)| *mine.entry(*at).or_default() += count);
        }
        self.longest_revival = self.longest_revival.max(other.longest_revival);
        self.longest = self.longest.max(other.longest);
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
        let Self { served, refreshes, shared, sent, recoveries, recovered, .. } = *self;
        writeln!(f, "processes that share a grant:")?;
        rules::line(f, "tokens served", &[("", served)])?;
        rules::line(f, "refreshes", &[("", refreshes), ("got another's token", shared)])?;
        rules::line(f, "uses of a refresh token", &[("", sent), ("to recover", recoveries), ("recovered", recovered)])?;
        let happened = |what: &BTreeMap<_, u64>| what.values().sum();
        let ends = [("died", happened(&self.deaths)), ("were stopped", happened(&self.stops))];
        rules::line(f, "processes", &ends)?;
        let saved = [("", self.unsaved), ("saved later", self.saved_later), ("too late", self.too_late)];
        rules::line(f, "results that could not be saved", &saved)?;
        let (ended, refused) = (self.ended, self.refused);
        rules::line(f, "refresh tokens", &[("ended by a second use", ended), ("refused for good", refused)])?;
        let alive = [("of them alive", self.lost_though_alive), ("never used", self.lost_though_unused)];
        rules::line(f, "given up without the server's word", &[&[("", self.lost)], &alive[..]].concat())?;
        let by = [("", self.signed_out), ("refused by the server", self.by_server), ("surely used up", self.used_up)];
        rules::line(f, "told to sign in again", &by)?;
        let by_limit = ("by its word or the limit", self.alive_by_limit);
        rules::line(f, "  though the server would go on", &[("", self.alive), by_limit])?;
        rules::line(f, "refused while a token was good", &[("", self.refused_early)])?;
        let answered = [
            ("without excuse", self.answered_uses),
            ("in the grace time", self.answered_in_grace),
            ("after a fall-back", self.answered_after_fall_back),
            ("unsaved elsewhere", self.answered_unsaved),
        ];
        rules::line(f, "uses of tokens seen answered", &answered)?;
        let killed = [("without excuse", self.killed), ("unsaved, or after a fall-back", self.killed_unsaved)];
        rules::line(f, "successors in use ended by that", &killed)?;
        let unsaved = [("killed", self.unsaved_killed), ("ended in order", self.unsaved_lost)];
        rules::line(f, "unsaved results lost", &unsaved)?;
        rules::line(f, "fall-backs of the store", &[("", self.fall_backs)])?;
        rules::line(f, "sign-ins", &[("", self.sign_ins), ("thrown away unsaved", self.sign_ins_lost)])?;
        rules::line(f, "revived by a sign-in elsewhere", &[("", self.revivals)])?;
        writeln!(f, "  {:<36}{:?}", "longest until that", self.longest_revival)?;
        writeln!(f, "  {:<36}{:?}, {:?}", "longest refresh, recovery", self.longest, self.recovery)?;
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
        let Some(Reverse(entry)) = sim.queue.pop() else { break };
        sim.truth = sim.truth.max(entry.at);
        sim.report.events += 1;
        sim.happen(entry.event);
        sim.check();
    }
    if sim.season != Season::Over {
        sim.breaks("everything stands still".to_owned());
    }
    sim.report.time = sim.truth;
    sim.report.digest = sim.log.digest();
    let mut last = sim.log.last();
    last.push(format!("{:?}", sim.plan));
    match sim.broken {
        None => Ok(sim.report),
        Some(why) => Err(Box::new(Broken { seed, why, last, report: sim.report })),
    }
}

/// What can happen.
#[derive(Debug)]
enum Event {
    /// A process needs a token.
    Ask {
        process: usize,
        life: u64,
    },
    /// What a run asked for leaves its process.
    Send(u64),
    /// It is done.
    Carry(u64),
    /// The reply is there.
    Back(u64),
    /// A request has taken all the time that it may.
    TimeOut(u64),
    /// A process dies.
    Die {
        process: usize,
        life: u64,
        at: Place,
    },
    /// A process is stopped.
    Stop {
        process: usize,
        life: u64,
        at: Place,
        time: Duration,
    },
    /// A process goes on.
    GoOn {
        process: usize,
        life: u64,
    },
    /// A process begins.
    Start(usize),
    /// Somebody has seen that a person must sign in.
    SignIn {
        process: usize,
        life: u64,
    },
    Save {
        process: usize,
        life: u64,
    },
    /// Something changes in the world.
    Weather(Weather),
}

/// In the middle of what something happens, and before or after it is done.
type Place = (&'static str, &'static str);

#[derive(Debug)]
struct Entry {
    at: Duration,
    nth: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.nth).cmp(&(other.at, other.nth))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == std::cmp::Ordering::Equal
    }
}

impl Eq for Entry {}

struct Sim {
    rng: Rng,
    plan: Plan,
    /// The true time, by which the server and the store go.
    truth: Duration,
    queue: BinaryHeap<Reverse<Entry>>,
    log: Log,
    server: Server,
    shelf: Shelf,
    processes: Vec<Process>,
    runs: BTreeMap<u64, Run>,
    /// What was asked for and not answered yet.
    ops: BTreeMap<u64, Op>,
    known: Known,
    story: Story,
    ids: u64,
    trouble: Trouble,
    host: Host,
    /// Whether the store can save nothing.
    full: bool,
    season: Season,
    season_began: Duration,
    report: Report,
    broken: Option<String>,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        Self {
            server: Server::new(&plan),
            shelf: Shelf::new(plan.expiring),
            rng,
            plan,
            truth: Duration::ZERO,
            queue: BinaryHeap::new(),
            log: Log::default(),
            processes: Vec::new(),
            runs: BTreeMap::new(),
            ops: BTreeMap::new(),
            known: Known::default(),
            story: Story::default(),
            ids: 0,
            trouble: Trouble::Calm,
            host: Host::Calm,
            full: false,
            season: Season::Storm,
            season_began: Duration::ZERO,
            report: Report::default(),
            broken: None,
        }
    }

    fn begin(&mut self) {
        self.first_sign_in();
        for process in 0..self.plan.processes {
            self.add_process();
            let wait = self.rng.time(Duration::from_millis(1), Duration::from_secs(60));
            self.after(wait, Event::Start(process));
        }
        self.forecast();
    }

    fn happen(&mut self, event: Event) {
        let Some(event) = self.unless_stopped(event) else { return };
        match event {
            Event::Ask { process, life } => self.ask(process, life),
            Event::Send(op) => self.send(op),
            Event::Carry(op) => self.carry(op),
            Event::Back(op) => self.back(op),
            Event::TimeOut(op) => self.time_out(op),
            Event::Die { process, life, at } => self.die(process, life, at),
            Event::Stop { process, life, at, time } => self.stop(process, life, at, time),
            Event::GoOn { process, life } => self.go_on(process, life),
            Event::Start(process) => self.start(process),
            Event::SignIn { process, life } => self.sign_in(process, life),
            Event::Save { process, life } => self.save(process, life),
            Event::Weather(weather) => self.change(weather),
        }
    }

    fn after(&mut self, wait: Duration, event: Event) {
        let nth = self.id();
        self.queue.push(Reverse(Entry { at: self.truth + wait, nth, event }));
    }

    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// The clocks of a process.
    fn now(&self, process: usize) -> Now {
        Now { wall: self.wall(self.processes[process].offset), mono: MONO + self.truth }
    }

    fn wall(&self, offset: i64) -> Timestamp {
        Timestamp::from_unix_millis(BEGIN + self.truth.as_millis() as i64 + offset)
    }

    fn note(&mut self, what: &'static str, a: usize, b: u64) {
        let now = Now { wall: self.wall(0), mono: MONO + self.truth };
        self.log.note(self.report.events, now, what, a, b);
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
