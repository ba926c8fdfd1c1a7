//! A fleet of machines that serve the grants of many people out of one store, in virtual time: what its store and its
//! issuer have to bear, second by second.
//!
//! Cells, grants and the machines that share them are the real ones, and each grant is in constant use on some machines.
//! What is a model: the time that a request takes, a store that knows versions and leases, and an issuer that replaces
//! each refresh token and never takes one twice. All is the same each time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use grantflow::cell::{Acquired, Ticket, TokenCell};
use grantflow::exchange::Received;
use grantflow::machine::{FailureKind, Rules};
use grantflow::source::{Change, Grant, Held, Mint, Outcome, Turn, Want};
use grantflow::store::{RecordKey, SaveGrant, Saving, SharedGrant, StoreOp, StoreReply, Stored};
use grantflow::{
    Client, Cx, Effect, Error, Failure, Issuer, Machine, Now, Reply, Rotation, ServerMetadata, Step, Timestamp, Token,
    TokenRequest,
};
use http::{Request, Response};
use url::form_urlencoded;

use crate::simulation::rng::Rng;

/// 2026-11-20T12:00:00Z
const BEGIN: i64 = 1_795_176_000_000;
/// The life of access tokens.
const LIFE: Duration = Duration::from_secs(3600);
const HOUR: Duration = Duration::from_secs(3600);

/// How large a fleet is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// How many grants there are.
    pub grants: usize,
    /// On how many machines each of them is in use.
    pub each: usize,
}

/// What is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// The store: nobody can connect to it.
    Store,
    /// The issuer.
    Issuer,
}

/// What was asked for in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// Requests at the issuer, those included that found nobody there.
    pub requests: u64,
    /// How many of them brought a token.
    pub refreshes: u64,
    /// Loads from the store, those included that found nobody there, as with all that follow.
    pub loads: u64,
    /// Saves.
    pub saves: u64,
    /// Leases that were asked for.
    pub leases: u64,
    /// Leases that were given back.
    pub releases: u64,
    /// How many cells had no token that was good, at its end.
    pub without: u64,
}

/// One of the counts.
pub type Count = fn(&Second) -> u64;

/// What happened, second by second.
#[derive(Debug, Default)]
pub struct Account {
    /// All seconds since the beginning.
    pub seconds: Vec<Second>,
    /// How often a refresh token came that had been used before.
    pub reused: u64,
}

impl Account {
    /// The part of it in some of the seconds.
    pub fn part(&self, seconds: std::ops::Range<usize>) -> Self {
        Self { seconds: self.seconds.get(seconds).unwrap_or_default().to_vec(), reused: self.reused }
    }

    /// How many seconds after this one each want has a token again; `None` if that is not so before the end.
    pub fn drained(&self, since: usize) -> Option<usize> {
        self.seconds.iter().skip(since).position(|second| second.without == 0)
    }

    /// Mean and peak of a count in some of the seconds.
    pub fn of(&self, seconds: std::ops::Range<usize>, count: Count) -> (f64, u64) {
        let seconds = self.seconds.get(seconds).unwrap_or_default();
        let sum: u64 = seconds.iter().map(count).sum();
        (sum as f64 / seconds.len().max(1) as f64, seconds.iter().map(count).max().unwrap_or_default())
    }
}

struct Sim {
    size: Size,
    rng: Rng,
    time: Duration,
    queue: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    events: u64,
    cells: Vec<TokenCell>,
    /// By cell, as soon as they are needed.
    grants: HashMap<u32, Grant<Ticket>>,
    runs: HashMap<u32, Run>,
    store: Vec<Option<Stored>>,
    /// Which run has the lease of a grant, and until when.
    leases: HashMap<u32, (u32, Duration)>,
    /// How many refresh tokens each grant has had.
    issued: Vec<u32>,
    metadata: ServerMetadata,
    client: Client,
    want: Want,
    away: Option<(Away, Duration, Duration)>,
    account: Account,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// It is time to look after a cell.
    Wake(u32),
    /// What the run of a cell asked for is done.
    Done(u32),
    /// A save is due.
    Save(u32),
    /// A second is over.
    Second,
}

struct Run {
    machine: Work,
    asked: Option<Effect>,
}

enum Work {
    Mint(Mint, Ticket, Turn<()>),
    Save(Box<Saving>, Turn<()>),
}

/// Lets a fleet live for some time, `away` from one moment to another.
///
/// # Panics
///
/// If a machine does what it must not.
pub fn run(size: Size, seed: u64, time: Duration, away: Option<(Away, Duration, Duration)>) -> Account {
    let mut sim = Sim::new(size, seed, away);
    sim.begin();
    while let Some(Reverse((at, _, event))) = sim.queue.pop() {
        if at >= time {
            break;
        }
        sim.time = at;
        match event {
            Event::Wake(cell) => sim.wake(cell),
            Event::Done(cell) => sim.done(cell),
            Event::Save(cell) => sim.save(cell),
            Event::Second => sim.second(),
        }
    }
    sim.account
}

impl Sim {
    fn new(size: Size, seed: u64, away: Option<(Away, Duration, Duration)>) -> Self {
        let issuer = Issuer::new("https://as.example").expect("an address");
        let metadata = ServerMetadata::new(issuer)
            .token_endpoint("https://as.example/token")
            .expect("an address")
            .refresh_token_rotation(Rotation::Rotates);
        let mut rng = Rng::new(seed);
        let cells = (0..size.grants * size.each).map(|_| TokenCell::new(rng.next())).collect();
        Self {
            size,
            rng,
            time: Duration::ZERO,
            queue: BinaryHeap::new(),
            events: 0,
            cells,
            grants: HashMap::new(),
            runs: HashMap::new(),
            store: vec![None; size.grants],
            leases: HashMap::new(),
            issued: vec![0; size.grants],
            metadata,
            client: Client::new("service"),
            want: Want::access_token("read"),
            away,
            account: Account::default(),
        }
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp::from_unix_millis(BEGIN) + self.time, mono: HOUR * 2 + self.time }
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.events += 1;
        self.queue.push(Reverse((self.time + wait, self.events, event)));
    }

    fn between(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(low + self.rng.next() % (high - low))
    }

    fn grant_of(&self, cell: u32) -> u32 {
        cell / self.size.each as u32
    }

    fn key(&self, grant: u32) -> RecordKey {
        RecordKey::new(self.metadata.issuer(), &self.client, &format!("person-{grant}"))
    }

    /// People have signed in one after another, as long as a token lives, and each machine has looked since.
    fn begin(&mut self) {
        for grant in 0..self.size.grants as u32 {
            let age = self.between(0, LIFE.as_micros() as u64 * 11 / 12);
            let then = Now { wall: self.now().wall - age, mono: self.now().mono.saturating_sub(age) };
            let (token, now) = (self.first_token(grant, then), self.now());
            let mut machine = SaveGrant::new(self.key(grant), self.want.clone(), &token);
            let mut reply = Reply::Start;
            while let Step::Do(Effect::Store(op)) = machine.resume(&mut Cx::new(then, self.rng.seed()), reply) {
                reply = Reply::Store(self.at_store(grant, u32::MAX, op));
            }
            for nth in 0..self.size.each as u32 {
                let cell = grant * self.size.each as u32 + nth;
                let here = &mut self.cells[cell as usize];
                let ticket = here.force().expect("nobody else");
                here.settle(ticket, then, Ok(token.clone()));
                let wait = here.next_wake(now).unwrap_or_default();
                self.after(wait, Event::Wake(cell));
            }
        }
        self.account = Account::default();
        self.account.seconds.push(Second::default());
        self.after(Duration::from_secs(1), Event::Second);
    }

    fn first_token(&mut self, grant: u32, then: Now) -> Token {
        let response = self.answer(grant, 0);
        let request = TokenRequest::refresh_token(&self.metadata, &self.client, &"none".into());
        let (_, parse) = request.expect("a token endpoint").into_parts();
        let received = Received { response: &response, sent: then.wall, now: then.wall };
        parse(received).0.expect("a token")
    }

    fn second(&mut self) {
        let now = self.now();
        let without = match self.account.seconds.as_slice() {
            seconds if seconds.len().is_multiple_of(10) => {
                self.cells.iter().filter(|cell| cell.valid(now).is_none()).count() as u64
            }
            [.., before, _] => before.without,
            _ => 0,
        };
        self.count(|second| second.without = without);
        self.account.seconds.push(Second::default());
        self.after(Duration::from_secs(1), Event::Second);
    }

    fn count(&mut self, add: impl FnOnce(&mut Second)) {
        if let Some(second) = self.account.seconds.last_mut() {
            add(second);
        }
    }

    fn is_away(&self, what: Away) -> bool {
        self.away.is_some_and(|(away, from, to)| away == what && (from..to).contains(&self.time))
    }

    /// Callers ask all the time, and the background looks after what is due.
    fn wake(&mut self, cell: u32) {
        let now = self.now();
        match self.cells[cell as usize].acquire(now) {
            Acquired::Due(_, Some(ticket)) | Acquired::Refresh(ticket) => self.refresh(cell, ticket),
            Acquired::Fresh(_) | Acquired::Due(_, None) => self.wake_later(cell),
            Acquired::Failed(_) | Acquired::Wait => self.wake_later(cell),
        }
    }

    fn wake_later(&mut self, cell: u32) {
        let now = self.now();
        let here = &self.cells[cell as usize];
        let wait = match here.valid(now) {
            Some(_) => here.next_wake(now).unwrap_or(HOUR),
            // Somebody asks within two seconds.
            None => self.between(0, 2_000_000),
        };
        self.after(wait + Duration::from_millis(1), Event::Wake(cell));
    }

    fn refresh(&mut self, cell: u32, ticket: Ticket) {
        let (now, want) = (self.now(), self.want.clone());
        let held = self.cells[cell as usize].holds();
        let key = self.key(self.grant_of(cell));
        let source = || Grant::new(Arc::new(SharedGrant::new(key, &self.metadata, &self.client)));
        let grant = self.grants.entry(cell).or_insert_with(source);
        // One want of each grant on each machine: nobody waits but for a save.
        let Some(turn) = grant.begin(ticket) else { return };
        self.mint(cell, turn, &want, now, held);
    }

    fn mint(&mut self, cell: u32, turn: Turn<Ticket>, want: &Want, now: Now, held: Held) {
        let (ticket, mut turn) = turn.split();
        let grant = self.grants.get(&cell).expect("a grant");
        match grant.mint(&mut turn, want, now, held) {
            Ok(mint) => {
                self.runs.insert(cell, Run { machine: Work::Mint(mint, ticket, turn), asked: None });
                self.resume(cell, Reply::Start);
            }
            Err(error) => self.land(cell, ticket, turn, Change::default(), Err(error)),
        }
    }

    fn resume(&mut self, cell: u32, reply: Reply) {
        let mut cx = Cx::new(self.now(), self.rng.seed());
        let run = self.runs.get_mut(&cell).expect("a run");
        let step = match &mut run.machine {
            Work::Mint(mint, ..) => match mint.resume(&mut cx, reply) {
                Step::Do(effect) => Step::Do(effect),
                Step::Done(result) => Step::Done(result.map(Some)),
            },
            Work::Save(saving, _) => match saving.resume(&mut cx, reply) {
                Step::Do(effect) => Step::Do(effect),
                Step::Done(_) => Step::Done(Ok(None)),
            },
        };
        match step {
            Step::Do(effect) => self.ask(cell, effect),
            Step::Done(result) => self.end(cell, result),
        }
    }

    /// Something is asked for: how long that takes.
    fn ask(&mut self, cell: u32, effect: Effect) {
        let wait = match &effect {
            Effect::Store(_) if self.is_away(Away::Store) => Duration::from_secs(1),
            Effect::Http(_) if self.is_away(Away::Issuer) => Duration::from_secs(1),
            Effect::Store(_) => self.between(500, 3_000),
            Effect::Http(_) => self.between(30_000, 200_000),
            Effect::Sleep(time) => *time,
            other => panic!("what is {other:?}?"),
        };
        self.runs.get_mut(&cell).expect("a run").asked = Some(effect);
        self.after(wait, Event::Done(cell));
    }

    fn done(&mut self, cell: u32) {
        let Some(effect) = self.runs.get_mut(&cell).and_then(|run| run.asked.take()) else { return };
        let grant = self.grant_of(cell);
        let reply = match effect {
            Effect::Store(op) => {
                self.count(|second| match &op {
                    StoreOp::Load { .. } => second.loads += 1,
                    StoreOp::Save { .. } => second.saves += 1,
                    StoreOp::Lease { .. } => second.leases += 1,
                    _ => second.releases += 1,
                });
                match self.is_away(Away::Store) {
                    true => Reply::Failed(Failure::not_sent(FailureKind::Connect, "nobody answers")),
                    false => Reply::Store(self.at_store(grant, cell, op)),
                }
            }
            Effect::Http(call) => {
                self.count(|second| second.requests += 1);
                match call.open(Rules::V1 | Rules::START_BEFORE) {
                    Err(failure) => Reply::Failed(failure),
                    Ok(_) if self.is_away(Away::Issuer) => {
                        Reply::Failed(Failure::not_sent(FailureKind::Connect, "nobody answers"))
                    }
                    Ok(mut call) => Reply::Http(self.at_issuer(grant, &call.take_request())),
                }
            }
            _ => Reply::Slept,
        };
        self.resume(cell, reply);
    }

    fn at_store(&mut self, grant: u32, cell: u32, op: StoreOp) -> StoreReply {
        let there = &mut self.store[grant as usize];
        match op {
            StoreOp::Load { .. } => StoreReply::Loaded(there.clone()),
            StoreOp::Save { expected, stored, .. } => {
                if there.as_ref().map(|stored| stored.version) != expected {
                    return StoreReply::Conflict;
                }
                *there = Some(stored);
                StoreReply::Saved
            }
            StoreOp::Lease { time, .. } => {
                if self.leases.get(&grant).is_some_and(|(_, until)| self.time < *until) {
                    return StoreReply::Busy;
                }
                self.leases.insert(grant, (cell, self.time + time));
                StoreReply::Leased(Some(self.now().wall + time))
            }
            StoreOp::Release { .. } => {
                if self.leases.get(&grant).is_some_and(|(owner, _)| *owner == cell) {
                    self.leases.remove(&grant);
                }
                StoreReply::Released
            }
            other => panic!("what is {other:?}?"),
        }
    }

    fn at_issuer(&mut self, grant: u32, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let pairs = form_urlencoded::parse(request.body());
        let used = pairs.into_owned().find(|(name, _)| name == "refresh_token").expect("a refresh token").1;
        let nth: u32 = used.rsplit_once('-').and_then(|(_, nth)| nth.parse().ok()).expect("one of ours");
        if nth != self.issued[grant as usize] {
            self.account.reused += 1;
        }
        self.count(|second| second.refreshes += 1);
        self.answer(grant, nth + 1)
    }

    fn answer(&mut self, grant: u32, nth: u32) -> Response<Vec<u8>> {
        self.issued[grant as usize] = nth;
        let life = LIFE.as_secs();
        let body = format!(
            r#"{{"access_token":"access-{grant}-{nth}","token_type":"Bearer","expires_in":{life},"refresh_token":"refresh-{grant}-{nth}"}}"#
        );
        let mut response = Response::new(body.into_bytes());
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        response
    }

    fn end(&mut self, cell: u32, result: Result<Option<Token>, Error>) {
        let run = self.runs.remove(&cell).expect("a run");
        // What a driver does however a run ends.
        let grant = self.grant_of(cell);
        if self.leases.get(&grant).is_some_and(|(owner, _)| *owner == cell) {
            self.leases.remove(&grant);
        }
        match (run.machine, result) {
            (Work::Mint(mut mint, ticket, turn), result) => {
                let result = result.map(|token| token.expect("a mint ends with a token"));
                let change = mint.take_change();
                self.land(cell, ticket, turn, change, result);
            }
            (Work::Save(mut saving, turn), _) => {
                let now = self.now();
                let grant = self.grants.get_mut(&cell).expect("a grant");
                let next = grant.finish(turn, now, saving.take_change(), Outcome::Saved);
                self.go_on(cell, next);
            }
        }
    }

    fn land(&mut self, cell: u32, ticket: Ticket, turn: Turn<()>, change: Change, mut result: Result<Token, Error>) {
        let now = self.now();
        let grant = self.grants.get_mut(&cell).expect("a grant");
        let next = grant.finish(turn, now, change, Outcome::from(&mut result));
        assert!(!result.as_ref().is_err_and(Error::ends_grant), "a person was signed out: {result:?}");
        self.cells[cell as usize].settle(ticket, now, result);
        self.wake_later(cell);
        self.go_on(cell, next);
    }

    fn go_on(&mut self, cell: u32, next: Option<Turn<Ticket>>) {
        let now = self.now();
        if let Some(turn) = next {
            let (held, want) = (self.cells[cell as usize].holds(), self.want.clone());
            return self.mint(cell, turn, &want, now, held);
        }
        if let Some(wait) = self.grants[&cell].save_due(now) {
            self.after(wait, Event::Save(cell));
        }
    }

    fn save(&mut self, cell: u32) {
        let now = self.now();
        let Some(grant) = self.grants.get_mut(&cell) else { return };
        if grant.save_due(now).is_some_and(|wait| wait.is_zero())
            && let Some((turn, saving)) = grant.save()
        {
            self.runs.insert(cell, Run { machine: Work::Save(Box::new(saving), turn), asked: None });
            self.resume(cell, Reply::Start);
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: [(&str, Count); 7] = [
            ("requests at the issuer", |second| second.requests),
            ("refreshes", |second| second.refreshes),
            ("loads", |second| second.loads),
            ("saves", |second| second.saves),
            ("leases", |second| second.leases),
            ("releases", |second| second.releases),
            ("wants without a token", |second| second.without),
        ];
        for (what, count) in rows {
            let (mean, peak) = self.of(0..self.seconds.len(), count);
            writeln!(f, "  {what:<24}{mean:>10.1} a second on average, {peak:>8} at the most")?;
        }
        Ok(())
    }
}
