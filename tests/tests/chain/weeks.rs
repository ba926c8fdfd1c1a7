//! Weeks of a chain with many wants and failures at every step, from seeds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grantflow::cell::{Acquired, Ticket, TokenCell};
use grantflow::source::{Credential, ExchangedToken, Grant, Mint, Minting as _, Outcome, Turn, Want};
use grantflow::{Effect, Machine as _, Now, Reply, Step, Token};
use grantflow_tests::demo::{self, batch, client};
use grantflow_tests::server::RefreshTokens;
use grantflow_tests::{Fault, Place, Server, World};

/// The life of every token.
const LIFE: u64 = 3600;
/// How often a mint is begun anew.
const ROUNDS: u32 = 3;

/// What may go wrong, each in one of so many requests; 0 is never.
#[derive(Clone, Copy, Default)]
struct Weather {
    lost: u64,
    broken: u64,
    busy: u64,
    slow: u64,
    /// The server forgets all access tokens.
    ended: u64,
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

#[derive(Default)]
struct Seen {
    /// Tokens that the server gave for the base, and for the wants.
    base: u64,
    exchanged: u64,
    /// Why there may be more of the base's than its life asks for.
    excuses: u64,
    failures: u64,
    longest: Duration,
    sign_ins: u64,
}

struct Sim {
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
    /// Uses of the base's refresh token that are under way.
    under_way: u32,
    seen: Seen,
}

impl Sim {
    fn new(seed: u64, wants: usize, weather: Weather) -> Self {
        let rotate = RefreshTokens::Rotate { grace: Duration::from_secs(60) };
        let server = Server::demo().with(|settings| {
            settings.refresh_tokens = rotate;
            settings.lifetime = LIFE;
        });
        let mut world = World::with(server);
        world.latency = Duration::ZERO;
        let grant = Grant::new(Arc::new(source(&mut world)));
        let start = world.now.mono;
        let scopes = ["read", "write", "read write"];
        let want = |nth: usize| {
            Want::access_token(scopes[nth % 3]).audience("orders").resource(&format!("https://{nth}.example/"))
        };
        let wants = (0..wants).map(|nth| (want(nth), TokenCell::new(seed ^ nth as u64))).collect();
        let (runs, agenda, seen) = (BTreeMap::new(), BTreeMap::new(), Seen::default());
        let mut sim =
            Self { world, start, grant, wants, runs, agenda, number: 0, chance: seed, weather, under_way: 0, seen };
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

    fn live(&mut self, time: Duration) {
        while let Some(((at, _), what)) = self.agenda.pop_first() {
            if at - self.start > time {
                break;
            }
            let passed = at - self.world.now.mono;
            self.world.pass(passed);
            match what {
                Ok(want) => {
                    self.ask(want);
                    let again = Duration::from_secs(60) + self.within(240);
                    self.plan(again, Ok(want));
                }
                Err(run) => self.go_on(run),
            }
        }
    }

    /// A caller wants a token.
    fn ask(&mut self, want: usize) {
        let since = self.world.now.mono;
        match self.wants[want].1.acquire(self.world.now) {
            Acquired::Refresh(ticket) | Acquired::Due(_, Some(ticket)) => {
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
            Err(error) => panic!("the grant of a chain has no say: {error}"),
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
                let is_base = self.is_of_base(&effect);
                if is_base {
                    assert_eq!(self.under_way, 0, "the base's refresh token is used twice at once");
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

    fn is_of_base(&self, effect: &Effect) -> bool {
        let shown = format!("{effect:?}");
        shown.contains("form: ") && shown.contains("refresh_token") && !shown.contains("subject_token")
    }

    /// Has it done now, and says how long that takes.
    fn carry_out(&mut self, effect: Effect, is_base: bool, run: &mut Run) -> Duration {
        let Weather { lost, broken, busy, slow, ended } = self.weather;
        let mut lasts = Duration::from_millis(20) + self.within(1) / 5;
        let answers = |sim: &mut Self| sim.world.server().handed_out();
        if self.one_in(ended) {
            self.world.server().end_access_tokens();
            self.seen.excuses += 1;
        }
        if self.one_in(lost) {
            self.world.server().fail(Place::Token, Fault::DropAfter);
        } else if self.one_in(broken) {
            self.world.server().fail(Place::Token, Fault::DropBefore);
        } else if self.one_in(busy) {
            self.world.server().fail(Place::Token, Fault::status(503, ""));
        } else if self.one_in(slow) {
            lasts += self.within(25);
        }
        let before = answers(self);
        run.reply = self.world.carry_out(effect);
        let given = answers(self) > before;
        if is_base {
            self.seen.base += u64::from(given);
            // Nobody heard of it, and another is to be had.
            self.seen.excuses += u64::from(given && matches!(run.reply, Reply::Failed(_)));
        } else {
            self.seen.exchanged += u64::from(given);
        }
        self.world.forget();
        lasts
    }

    fn settle(&mut self, job: Job, result: Result<Token, grantflow::Error>) {
        let waited = self.world.now.mono - job.since;
        self.seen.longest = self.seen.longest.max(waited);
        self.seen.failures += u64::from(result.is_err());
        let over = result.as_ref().err().and_then(grantflow::Error::advice) == Some(grantflow::Advice::SignInAgain);
        self.wants[job.want].1.settle(job.ticket, self.world.now, result);
        // A person signs in again.
        if over && self.grant.state().base().is_some_and(|base| base.status() != Default::default()) {
            let source = source(&mut self.world);
            self.grant.replace(Arc::new(source));
            self.wants.iter_mut().for_each(|(_, cell)| cell.clear());
            self.seen.sign_ins += 1;
            self.seen.excuses += 1;
            self.under_way = 0;
            self.runs.values_mut().for_each(|run| run.uses_base = false);
        }
    }

    /// How many tokens of the base this time asks for: one when a quarter of the life, or five minutes, is left.
    fn lives(&self, time: Duration) -> u64 {
        time.as_secs().div_ceil(LIFE - 360) + 1
    }
}

fn source(world: &mut World) -> ExchangedToken {
    let now: Now = world.now;
    let token = demo::signed_in(world, "read write");
    world.now = now;
    let server = world.server().metadata();
    let base = Credential::refresh_token(&server, &client(), token.refresh_token().unwrap().clone());
    ExchangedToken::new(base, &server, &batch())
}

#[test]
fn a_thousand_wants_take_one_token_of_the_base_per_life_of_it() {
    let day = Duration::from_secs(24 * 3600);
    let mut sim = Sim::new(1, 1000, Weather::default());
    sim.live(day);
    let (base, lives) = (sim.seen.base, sim.lives(day));
    println!(
        "{base} tokens of the base, {} of the wants, {:?} waited at the most",
        sim.seen.exchanged, sim.seen.longest
    );
    assert!(base <= lives && base >= 24, "{base} tokens of the base, {lives} lives");
    assert!(sim.seen.exchanged >= 24_000 && sim.seen.failures == 0, "{} failures", sim.seen.failures);
    assert!(sim.seen.longest < Duration::from_secs(2), "{:?}", sim.seen.longest);
}

#[test]
fn in_weeks_of_failures_the_base_is_used_no_more_than_it_must_be_and_nobody_waits_for_long() {
    let weeks = Duration::from_secs(2 * 7 * 24 * 3600);
    for seed in 1..=3 {
        let weather = Weather { lost: 200, broken: 30, busy: 30, slow: 25, ended: 400 };
        let mut sim = Sim::new(seed, 15, weather);
        sim.live(weeks);
        let (seen, lives) = (&sim.seen, sim.lives(weeks));
        println!(
            "seed {seed}: {} tokens of the base in {lives} lives with {} excuses, {} of the wants, {} failures, {} sign-ins, {:?}",
            seen.base, seen.excuses, seen.exchanged, seen.failures, seen.sign_ins, seen.longest
        );
        assert!(seen.base <= lives + 2 * seen.excuses, "seed {seed}");
        assert!(seen.exchanged > 15 * 2 * 7 * 20, "seed {seed}: {}", seen.exchanged);
        assert!(seen.longest < Duration::from_secs(200), "seed {seed}: {:?}", seen.longest);
        assert!(seen.failures < seen.exchanged / 10, "seed {seed}: {}", seen.failures);
        assert!(sim.runs.len() < 15);
    }
}
