//! Weeks of a chain with many wants and failures at every step, and the same each time from its seed.
//!
//! The grant, the cells and the machines are the real ones. These rules are checked:
//!
//! 1. The base's rotating refresh token is never used twice at the same time.
//! 2. The base has one token for each of its lives, and two more at the most for each excuse: an answer that was lost,
//!    access tokens that their server has forgotten, a person who has signed in again.
//! 3. Nobody waits without bound, and few fail: one in ten at the most.
//!
//! The chain is an exchange over a user's grant, or Google's chain of three (see [`google`]).

pub mod google;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use grantflow::cell::{Acquired, Ticket, TokenCell};
use grantflow::source::{Credential, ExchangedToken, Grant, Mint, Minting as _, Outcome, TokenSource, Turn, Want};
use grantflow::{Effect, Machine as _, Now, Reply, Step, Token};

use crate::demo::{self, batch, client};
use crate::rules;
use crate::seeds::{self, Broken};
use crate::server::RefreshTokens;
use crate::{Fault, Place, Server, World};

/// The life of every token.
const LIFE: u64 = 3600;
/// How often a mint is begun anew.
const ROUNDS: u32 = 3;
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// The longest that a caller may wait.
const PATIENCE: Duration = Duration::from_secs(200);

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many wants there are.
    pub wants: usize,
    /// How long it lasts.
    pub time: Duration,
    /// The longest pause between two callers of one want, in seconds.
    pub pause: u64,
    /// What goes wrong.
    pub weather: Weather,
}

/// What may go wrong, each in one of so many requests; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// The answer is lost.
    pub lost: u64,
    /// The connection breaks before the request is there.
    pub broken: u64,
    /// The server is busy.
    pub busy: u64,
    /// The answer takes up to 25 s.
    pub slow: u64,
    /// The server forgets all access tokens.
    pub ended: u64,
}

struct Job {
    want: usize,
    ticket: Ticket,
    rounds: u32,
    since: Duration,
}

struct Run {
    job: Job,
    turn: Turn<()>,
    mint: Mint,
    reply: Reply,
    uses_base: bool,
}

/// A chain, and the servers that it meets.
trait Scene {
    /// The longest that a caller may wait.
    const PATIENCE: Duration;
    const OF_GOOGLE: bool = false;
    fn world() -> World;
    fn source(world: &mut World) -> Arc<dyn TokenSource>;
    fn want(nth: usize) -> Want;
    /// Whether it has the base's server give a token.
    fn is_of_base(effect: &Effect) -> bool;
    /// Whether it has a token given between the base's and the wants', where there is such a step.
    fn is_of_middle(_: &Effect) -> bool {
        false
    }
    /// How many tokens the servers have given.
    fn handed_out(world: &mut World) -> u64;
    fn end_access_tokens(world: &mut World);
    /// Lets the request of this effect go wrong.
    fn fail(world: &mut World, effect: &Effect, fault: Fault);
}

/// An exchange over a user's refresh token, which is replaced at each use.
struct Exchanged;

/// How a seed went that broke no rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether it is Google's chain of three.
    pub of_google: bool,
    /// How much time passed.
    pub time: Duration,
    /// How many requests were sent.
    pub requests: u64,
    /// How many tokens the server gave for the base.
    pub base: u64,
    /// How many tokens were given at the step between, if there is one.
    pub middle: u64,
    /// How many lives of the base's token there were.
    pub lives: u64,
    /// How often there was a reason for more.
    pub excuses: u64,
    /// How many tokens the server gave for the wants.
    pub exchanged: u64,
    /// How many mints failed.
    pub failures: u64,
    /// How many people had to sign in again.
    pub sign_ins: u32,
    /// The longest time that a mint took.
    pub longest: Duration,
}

impl seeds::Report for Report {
    fn command(&self) -> &'static str {
        if self.of_google { "simulate -- google" } else { "simulate -- chains" }
    }

    fn add(&mut self, other: &Self) {
        self.time += other.time;
        self.requests += other.requests;
        self.base += other.base;
        self.middle += other.middle;
        self.lives += other.lives;
        self.excuses += other.excuses;
        self.exchanged += other.exchanged;
        self.failures += other.failures;
        self.sign_ins += other.sign_ins;
        self.longest = self.longest.max(other.longest);
    }

    fn events(&self) -> u64 {
        self.requests
    }

    fn time(&self) -> Duration {
        self.time
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, base, middle, lives, excuses, exchanged, failures, sign_ins, .. } = *self;
        writeln!(f, "one chain, a thousand wants:")?;
        rules::line(
            f,
            "tokens",
            &[
                ("of the base", base),
                ("between", middle),
                ("lives", lives),
                ("excuses", excuses),
                ("exchanged", exchanged),
            ],
        )?;
        rules::line(f, "mints", &[("requests", requests), ("failed", failures), ("signed in again", sign_ins.into())])?;
        writeln!(f, "  the longest took {:?}", self.longest)
    }
}

/// Two weeks of a thousand wants, with failures at every step.
///
/// # Errors
///
/// If a rule was broken.
pub fn run(seed: u64) -> Result<Report, Box<Broken<Report>>> {
    let weather = Weather { lost: 200, broken: 30, busy: 30, slow: 25, ended: 20_000 };
    run_plan(seed, Plan { wants: 1000, time: 2 * WEEK, pause: 2400, weather })
        .map_err(|(why, report)| Box::new(Broken { seed, why, last: Vec::new(), report }))
}

/// What comes of a plan.
///
/// # Errors
///
/// The rule that was broken, and what had happened until then.
pub fn run_plan(seed: u64, plan: Plan) -> Result<Report, (String, Report)> {
    run_scene::<Exchanged>(seed, plan)
}

fn run_scene<S: Scene>(seed: u64, plan: Plan) -> Result<Report, (String, Report)> {
    let mut sim = Sim::<S>::new(seed, plan);
    sim.live();
    let Report { base, middle, lives, excuses, exchanged, failures, longest, .. } = sim.seen;
    let least = plan.wants as u64 * plan.time.as_secs() / LIFE * 8 / 10;
    let why = match sim.breach {
        Some(why) => why,
        None if base > lives + 2 * excuses => format!("{base} tokens of the base in {lives} lives, {excuses} excuses"),
        None if middle > lives + 2 * excuses => {
            format!("{middle} tokens between in {lives} lives, {excuses} excuses")
        }
        None if exchanged < least => format!("{exchanged} tokens of the wants, less than {least}"),
        None if failures > exchanged / 10 => format!("{failures} mints failed, and {exchanged} did not"),
        None if longest > S::PATIENCE => format!("a mint took {longest:?}"),
        None => return Ok(sim.seen),
    };
    Err((why, sim.seen))
}

struct Sim<S> {
    scene: PhantomData<S>,
    world: World,
    start: Duration,
    grant: Grant<Job>,
    wants: Vec<(Want, TokenCell)>,
    runs: BTreeMap<u64, Run>,
    /// What happens when: a caller asks for a want, or a run goes on.
    agenda: BTreeMap<(Duration, u64), Result<usize, u64>>,
    number: u64,
    chance: u64,
    weather: Weather,
    /// Since when a mint of a want is under way.
    waits: BTreeMap<usize, Duration>,
    /// Uses of the base's refresh token that are under way.
    under_way: u32,
    seen: Report,
    pause: u64,
    time: Duration,
    /// The rule that was broken first.
    breach: Option<String>,
}

impl<S: Scene> Sim<S> {
    fn new(seed: u64, Plan { wants, time, pause, weather }: Plan) -> Self {
        let mut world = S::world();
        world.latency = Duration::ZERO;
        let grant = Grant::new(S::source(&mut world));
        let wants = (0..wants).map(|nth| (S::want(nth), TokenCell::new(seed ^ nth as u64))).collect();
        let mut sim = Self {
            scene: PhantomData,
            start: world.now.mono,
            world,
            grant,
            wants,
            runs: BTreeMap::new(),
            agenda: BTreeMap::new(),
            number: 0,
            chance: seed,
            weather,
            waits: BTreeMap::new(),
            under_way: 0,
            // One when a quarter of the life, or five minutes, is left.
            seen: Report {
                of_google: S::OF_GOOGLE,
                time,
                lives: time.as_secs().div_ceil(LIFE - 360) + 1,
                ..Report::default()
            },
            pause,
            time,
            breach: None,
        };
        for want in 0..sim.wants.len() {
            let at = sim.within(60);
            sim.plan(at, Ok(want));
        }
        sim
    }

    fn random(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.random().is_multiple_of(times)
    }

    fn within(&mut self, seconds: u64) -> Duration {
        Duration::from_millis(self.random() % (seconds * 1000))
    }

    fn plan(&mut self, wait: Duration, what: Result<usize, u64>) {
        self.number += 1;
        self.agenda.insert((self.world.now.mono + wait, self.number), what);
    }

    fn live(&mut self) {
        while let Some(((at, _), what)) = self.agenda.pop_first() {
            if at - self.start > self.time || self.breach.is_some() {
                break;
            }
            let passed = at - self.world.now.mono;
            self.world.pass(passed);
            match what {
                Ok(want) => {
                    self.ask(want);
                    let again = Duration::from_secs(60) + self.within(self.pause);
                    self.plan(again, Ok(want));
                }
                Err(run) => self.go_on(run),
            }
        }
    }

    /// A caller wants a token. One whose want is being minted waits as long as that does.
    fn ask(&mut self, want: usize) {
        let since = self.world.now.mono;
        if self.waits.get(&want).is_some_and(|begun| since - *begun > S::PATIENCE) {
            self.broke(&format!("want {want} is being minted for more than {:?}", S::PATIENCE));
        }
        match self.wants[want].1.acquire(self.world.now) {
            Acquired::Refresh(ticket) | Acquired::Due(_, Some(ticket)) => {
                self.waits.insert(want, since);
                self.begin(Job { want, ticket, rounds: 0, since });
            }
            _ => {}
        }
    }

    fn begin(&mut self, job: Job) {
        if let Some(turn) = self.grant.begin(job) {
            self.start(turn);
        }
    }

    fn start(&mut self, turn: Turn<Job>) {
        let (job, mut turn) = turn.split();
        let (want, cell) = &self.wants[job.want];
        match self.grant.mint(&mut turn, want, self.world.now, cell.holds()) {
            Ok(mint) => {
                self.number += 1;
                let run = self.number;
                self.runs.insert(run, Run { job, turn, mint, reply: Reply::Start, uses_base: false });
                self.go_on(run);
            }
            Err(error) => self.broke(&format!("the grant of a chain has a say: {error}")),
        }
    }

    fn go_on(&mut self, number: u64) {
        let mut run = self.runs.remove(&number).expect("a run");
        if std::mem::take(&mut run.uses_base) {
            self.under_way -= 1;
        }
        let mut cx = self.world.cx();
        match run.mint.resume(&mut cx, std::mem::take(&mut run.reply)) {
            Step::Do(Effect::Sleep(time)) => {
                run.reply = Reply::Slept;
                self.runs.insert(number, run);
                self.plan(time, Err(number));
            }
            Step::Do(effect) => {
                let is_base = S::is_of_base(&effect);
                if is_base {
                    if self.under_way > 0 {
                        self.broke("the base's refresh token is used twice at once");
                    }
                    self.under_way += 1;
                    run.uses_base = true;
                }
                let lasts = self.carry_out(effect, is_base, &mut run);
                self.runs.insert(number, run);
                self.plan(lasts, Err(number));
            }
            Step::Done(mut result) => {
                let again = run.mint.must_wait();
                let change = run.mint.take_change();
                let next = self.grant.finish(run.turn, self.world.now, change, Outcome::from(&mut result));
                next.into_iter().for_each(|turn| self.start(turn));
                while let Some(turn) = self.grant.next_turn() {
                    self.start(turn);
                }
                if again && run.job.rounds < ROUNDS {
                    self.begin(Job { rounds: run.job.rounds + 1, ..run.job });
                } else {
                    self.settle(run.job, result);
                }
            }
        }
    }

    fn broke(&mut self, why: &str) {
        self.breach.get_or_insert_with(|| why.to_owned());
    }

    /// Has it done now, and says how long that takes.
    fn carry_out(&mut self, effect: Effect, is_base: bool, run: &mut Run) -> Duration {
        let Weather { lost, broken, busy, slow, ended } = self.weather;
        let mut lasts = Duration::from_millis(20) + self.within(1) / 5;
        let answers = |sim: &mut Self| S::handed_out(&mut sim.world);
        if self.one_in(ended) {
            S::end_access_tokens(&mut self.world);
            self.seen.excuses += 1;
        }
        if self.one_in(lost) {
            S::fail(&mut self.world, &effect, Fault::DropAfter);
        } else if self.one_in(broken) {
            S::fail(&mut self.world, &effect, Fault::DropBefore);
        } else if self.one_in(busy) {
            S::fail(&mut self.world, &effect, Fault::status(503, ""));
        } else if self.one_in(slow) {
            lasts += self.within(25);
        }
        self.seen.requests += u64::from(matches!(effect, Effect::Http(_)));
        let is_middle = S::is_of_middle(&effect);
        let before = answers(self);
        run.reply = self.world.carry_out(effect);
        let given = answers(self) > before;
        if is_base || is_middle {
            let step = if is_base { &mut self.seen.base } else { &mut self.seen.middle };
            *step += u64::from(given);
            // Nobody heard of it, and another is to be had.
            self.seen.excuses += u64::from(given && matches!(run.reply, Reply::Failed(_)));
        } else {
            self.seen.exchanged += u64::from(given);
        }
        self.world.forget();
        lasts
    }

    fn settle(&mut self, job: Job, result: Result<Token, grantflow::Error>) {
        self.waits.remove(&job.want);
        let waited = self.world.now.mono - job.since;
        self.seen.longest = self.seen.longest.max(waited);
        self.seen.failures += u64::from(result.is_err());
        let over = result.as_ref().err().and_then(grantflow::Error::advice) == Some(grantflow::Advice::SignInAgain);
        self.wants[job.want].1.settle(job.ticket, self.world.now, result);
        // A person signs in again.
        if over && self.grant.state().base().is_some_and(|base| base.status() != Default::default()) {
            let source = S::source(&mut self.world);
            self.grant.replace(source);
            self.wants.iter_mut().for_each(|(_, cell)| cell.clear());
            self.seen.sign_ins += 1;
            self.seen.excuses += 1;
            self.under_way = 0;
            self.runs.values_mut().for_each(|run| run.uses_base = false);
        }
    }
}

impl Scene for Exchanged {
    const PATIENCE: Duration = PATIENCE;

    fn world() -> World {
        let rotate = RefreshTokens::Rotate { grace: Duration::from_secs(60) };
        World::with(Server::demo().with(|settings| {
            settings.refresh_tokens = rotate;
            settings.lifetime = LIFE;
        }))
    }

    fn source(world: &mut World) -> Arc<dyn TokenSource> {
        let now: Now = world.now;
        let token = demo::signed_in(world, "read write");
        world.now = now;
        let server = world.server().metadata();
        let base = Credential::refresh_token(&server, &client(), token.refresh_token().unwrap().clone());
        Arc::new(ExchangedToken::new(base, &server, &batch()))
    }

    fn want(nth: usize) -> Want {
        let scopes = ["read", "write", "read write"];
        Want::access_token(scopes[nth % 3]).audience("orders").resource(&format!("https://{nth}.example/"))
    }

    fn is_of_base(effect: &Effect) -> bool {
        let shown = format!("{effect:?}");
        shown.contains("form: ") && shown.contains("refresh_token") && !shown.contains("subject_token")
    }

    fn handed_out(world: &mut World) -> u64 {
        world.server().handed_out()
    }

    fn end_access_tokens(world: &mut World) {
        world.server().end_access_tokens();
    }

    fn fail(world: &mut World, _: &Effect, fault: Fault) {
        world.server().fail(Place::Token, fault);
    }
}
