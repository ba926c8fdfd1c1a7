//! What goes wrong around the processes, and when it is over.

use std::time::Duration;

use super::effects::What;
use super::network::{Host, Trouble};
use super::{Event, Place, Sim};

/// A change in the world.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weather {
    /// The server suffers from something, or not any more.
    Server(Trouble),
    /// The host of the server's metadata does, or not any more.
    Host(Host),
    /// The store can save nothing, or everything again.
    Store { full: bool },
    /// Another copy of the store takes over, which lacks what was saved last.
    FallsBack,
    /// Somebody signs in, at one of the processes.
    SignIn,
    /// A process is told to end, and may do its last things.
    ShutDown,
    /// A process dies, or is stopped, whatever it does.
    Process,
    /// The clock of a process is set.
    Clock,
    /// The store forgets who has a lease.
    Forgets,
    /// The user takes back what they allowed.
    Withdraw,
    /// Another season.
    Season,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Season {
    /// All that can go wrong does.
    Storm,
    /// Nothing goes wrong any more.
    Quiet,
    Over,
}

/// By the end of the quiet time everybody must have been served: the longest lease, the longest wait for it, the
/// longest use, the longest pauses of a cell and between two uses, and as much again.
const QUIET: Duration = Duration::from_secs(2 * (60 + 90 + 60 + 60 + 900));

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

impl Sim {
    pub(super) fn forecast(&mut self) {
        let storm = (self.plan.lifetime * 30).clamp(HOUR / 2, 30 * HOUR);
        self.after(storm, Event::Weather(Weather::Season));
        for weather in [
            Weather::Server(Trouble::Mixed),
            Weather::Host(Host::Hangs),
            Weather::FallsBack,
            Weather::SignIn,
            Weather::ShutDown,
            Weather::Store { full: true },
            Weather::Process,
            Weather::Clock,
            Weather::Forgets,
            Weather::Withdraw,
        ] {
            self.again(weather);
        }
    }

    fn again(&mut self, weather: Weather) {
        let life = self.plan.lifetime;
        let (low, high) = match weather {
            Weather::Server(_) => (MINUTE, 6 * life + MINUTE),
            Weather::Host(_) if self.plan.discovered => (MINUTE, 6 * life + MINUTE),
            Weather::FallsBack if self.plan.falls_back => (MINUTE, 10 * life + MINUTE),
            Weather::SignIn => (10 * life, 100 * life),
            Weather::ShutDown => (MINUTE, 10 * life + MINUTE),
            Weather::Store { .. } | Weather::Process => (MINUTE, 10 * life + MINUTE),
            Weather::Clock if self.plan.clocks => (MINUTE, 10 * life + MINUTE),
            Weather::Forgets if self.plan.forgets => (MINUTE, life + MINUTE),
            Weather::Withdraw if self.plan.withdrawn => (10 * life, 40 * life),
            _ => return,
        };
        let wait = self.rng.time(low, high);
        self.after(wait, Event::Weather(weather));
    }

    pub(super) fn change(&mut self, weather: Weather) {
        if let Weather::Season = weather {
            return self.next_season();
        }
        if self.season != Season::Storm && !(matches!(weather, Weather::SignIn) && self.story.sign_in_comes) {
            return;
        }
        let process = self.rng.below(self.processes.len());
        match weather {
            Weather::Server(Trouble::Calm) => self.trouble = Trouble::Calm,
            Weather::Server(_) => {
                use Trouble::{Connecting, Cut, Gateway, Late, Lossy, Mixed, Slow, Status, Unreachable};
                let acts = self.rng.chance(50);
                let gateway = Gateway { acts };
                let troubles =
                    [Unreachable, Lossy, Lossy, Status, Slow, Mixed, Mixed, gateway, Cut, Late, Connecting, Connecting];
                let nth = self.rng.below(troubles.len());
                self.trouble = troubles[nth];
                self.note("the server falls ill: {a}", nth, 0);
                let time = self.rng.time(SECOND, self.plan.lifetime + MINUTE);
                self.after(time, Event::Weather(Weather::Server(Trouble::Calm)));
                return self.again(weather);
            }
            Weather::Host(Host::Calm) => {
                self.host = Host::Calm;
                return;
            }
            Weather::Host(_) => {
                let refuses = self.rng.chance(30);
                self.host = if refuses { Host::Refuses } else { Host::Hangs };
                self.note("the host of the metadata falls ill", 0, 0);
                let time = self.rng.time(SECOND, 4 * self.plan.lifetime + MINUTE);
                self.after(time, Event::Weather(Weather::Host(Host::Calm)));
            }
            Weather::FallsBack => self.fall_back(),
            Weather::SignIn => {
                let again = !self.story.sign_in_comes;
                self.sign_in_somewhere();
                if !again {
                    return;
                }
            }
            Weather::ShutDown => {
                let life = self.processes[process].life;
                self.shut_down(process, life);
            }
            Weather::Store { full: true } => {
                self.full = true;
                self.note("the store is full", 0, 0);
                let time = self.rng.time(SECOND, self.plan.lifetime / 2 + MINUTE);
                self.after(time, Event::Weather(Weather::Store { full: false }));
                return self.again(weather);
            }
            Weather::Store { full: false } => {
                self.full = false;
                self.story.well = self.truth;
            }
            Weather::Process => {
                let life = self.processes[process].life;
                if self.rng.chance(50) {
                    self.die(process, life, ("anything", "at any time"));
                } else {
                    let time = self.rng.time(SECOND, HOUR / 2);
                    self.stop(process, life, ("anything", "at any time"), time);
                }
            }
            Weather::Clock => {
                self.processes[process].offset = self.offset();
                self.note("the clock of process {a} is off by {b} ms", process, self.processes[process].offset as u64);
            }
            Weather::Forgets => {
                self.note("the store forgets its leases", 0, 0);
                self.shelf.forget_leases();
            }
            Weather::Withdraw => {
                self.note("the user takes back what they allowed", 0, 0);
                self.server.withdraw();
            }
            Weather::Season => {}
        }
        if !matches!(weather, Weather::Server(_) | Weather::Store { .. }) {
            self.again(weather);
        }
    }

    pub(super) fn offset(&mut self) -> i64 {
        if !self.plan.clocks {
            return 0;
        }
        self.rng.pick(&[
            0,
            0,
            0,
            500,
            -500,
            20_000,
            -20_000,
            120_000,
            -120_000,
            7_200_000,
            -7_200_000,
            86_400_000 * 400,
        ])
    }

    pub(super) fn die(&mut self, process: usize, life: u64, at: Place) {
        if !self.lives(process, life) {
            return;
        }
        self.judge_last(process, true);
        self.end_life(process, at);
    }

    pub(super) fn end_life(&mut self, process: usize, at: Place) {
        self.note("process {a} dies", process, 0);
        *self.report.deaths.entry(at).or_default() += 1;
        let here = &mut self.processes[process];
        here.alive = false;
        here.stopped = false;
        here.deferred.clear();
        let runs: Vec<_> = self.runs.iter().filter(|(_, run)| run.process == process).map(|(id, _)| *id).collect();
        for run in runs {
            self.runs.remove(&run);
            self.shelf.died(run);
        }
        self.drop_ops_of(process);
        let wait = match self.season {
            Season::Storm => self.rng.time(Duration::from_millis(10), 10 * MINUTE),
            _ => SECOND,
        };
        self.after(wait, Event::Start(process));
    }

    pub(super) fn stop(&mut self, process: usize, life: u64, at: Place, time: Duration) {
        if !self.lives(process, life) || self.processes[process].stopped {
            return;
        }
        self.note("process {a} is stopped for {b} ms", process, time.as_millis() as u64);
        *self.report.stops.entry(at).or_default() += 1;
        self.processes[process].stopped = true;
        for run in self.runs.values_mut().filter(|run| run.process == process) {
            run.seen.stopped += time;
        }
        self.after(time, Event::GoOn { process, life });
    }

    pub(super) fn go_on(&mut self, process: usize, life: u64) {
        if !self.lives(process, life) || !std::mem::take(&mut self.processes[process].stopped) {
            return;
        }
        self.note("process {a} goes on", process, 0);
        self.know_hindered(process);
        // What it had just read when it was stopped, it can only tell now.
        self.know_looked(process);
        for event in std::mem::take(&mut self.processes[process].deferred) {
            self.after(Duration::ZERO, event);
        }
    }

    /// Keeps back what happens inside of a process that is stopped.
    pub(super) fn unless_stopped(&mut self, event: Event) -> Option<Event> {
        let process = match &event {
            Event::Ask { process, .. } | Event::SignIn { process, .. } | Event::Save { process, .. } => *process,
            Event::Send(op) | Event::Back(op) | Event::TimeOut(op) => self.ops.get(op)?.process,
            Event::Carry(op) => {
                let op = self.ops.get(op)?;
                let inside = match op.what {
                    What::Wire(_) => false,
                    What::Store(..) => !self.plan.expiring,
                    _ => true,
                };
                if !inside {
                    return Some(event);
                }
                op.process
            }
            _ => return Some(event),
        };
        // What a dead process had sent is still on its way, and nobody waits for it.
        if self.processes[process].stopped && self.processes[process].alive {
            self.processes[process].deferred.push(event);
            return None;
        }
        Some(event)
    }

    fn next_season(&mut self) {
        self.season_began = self.truth;
        if self.season == Season::Quiet {
            self.season = Season::Over;
            return self.judge_recovery();
        }
        self.season = Season::Quiet;
        self.trouble = Trouble::Calm;
        self.full = false;
        self.host = Host::Calm;
        self.story.well = self.truth;
        self.note("all trouble is over", 0, 0);
        for process in 0..self.processes.len() {
            self.go_on(process, self.processes[process].life);
            self.processes[process].slots.iter_mut().for_each(|slot| slot.served = None);
            let life = self.processes[process].life;
            self.after(SECOND, Event::Start(process));
            self.after(SECOND, Event::SignIn { process, life });
            self.after(SECOND, Event::Ask { process, life });
        }
        self.after(QUIET, Event::Weather(Weather::Season));
    }

    fn judge_recovery(&mut self) {
        for process in 0..self.processes.len() {
            for slot in 0..self.plan.wants {
                let served = self.processes[process].slots.get(slot).and_then(|slot| slot.served);
                match served {
                    Some(at) => {
                        let began = self.season_began - QUIET;
                        self.report.recovery = self.report.recovery.max(at.saturating_sub(began));
                    }
                    None => {
                        let error = self.processes[process].slots.get(slot).and_then(|slot| slot.cell.error());
                        let why = format!("slot {slot} of process {process} is not served: {error:?}");
                        self.breaks(why);
                    }
                }
            }
        }
    }
}
