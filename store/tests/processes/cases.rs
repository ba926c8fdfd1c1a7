//! What the processes go through.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use grantflow_store::PostgresStore;
use grantflow_store::grantflow::store::RewriteGrant;
use grantflow_store::grantflow::{Client, Discovery, InstalledApp};
use grantflow_tests::Front;
use grantflow_tests::postgres_server::PostgresServer;
use grantflow_tests::redis_server::RedisServer;
use grantflow_ureq::Transport;

use crate::outages::outages;
use crate::place::{self, End, Place, Process};
use crate::watched::{Watched, random};

/// A server that lets a replaced refresh token be used again for longer than a lease in Redis lasts.
const GRACE: Duration = Duration::from_secs(600);

/// How much of it all.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) processes: usize,
    refreshes: u64,
    workers: usize,
    rounds: usize,
    stops: usize,
    /// How long until all processes have read new keys.
    settle: Duration,
    /// How often the server crashes, and how long it is there before, at least.
    pub(crate) restarts: usize,
    pub(crate) between: Duration,
}

const SMALL: Numbers = Numbers {
    processes: 4,
    refreshes: 6,
    workers: 8,
    rounds: 1,
    stops: 4,
    settle: Duration::from_secs(1),
    restarts: 3,
    between: Duration::from_millis(250),
};
const FULL: Numbers = Numbers {
    processes: 8,
    refreshes: 500,
    workers: 100,
    rounds: 10,
    stops: 100,
    settle: Duration::from_secs(5),
    restarts: 100,
    between: Duration::from_secs(1),
};

/// A name, what happens, and whether it can on files: they have no server, and the lock of a stopped process never ends, so
/// that others wait for it and there is nothing to see.
type Case = (&'static str, fn(&str, Numbers), bool);

pub(crate) fn main(names: &[&str]) -> ExitCode {
    let numbers = if std::env::var_os("GRANTFLOW_FULL").is_some() { FULL } else { SMALL };
    let stores = Stores::start();
    let turns: [&[Case]; 6] = [
        &[("each_token_is_minted_once_per_expiry", expiries, true)],
        &[("none_uses_a_refresh_token_that_another_has_used", haste, true)],
        &[("keys_are_rotated_under_them", rotation, true)],
        &[("nothing_is_lost_while_the_server_crashes_and_connections_are_cut", outages, false)],
        &[("they_share_one_key_and_the_grant_that_is_bound_to_it", bound, true)],
        &[
            ("the_killed_leave_a_grant_that_is_whole", kills, true),
            ("the_stopped_overwrite_nothing_newer", stops, false),
        ],
    ];
    let wanted = |name: &str| {
        let mut names = names.iter().filter(|name| !name.starts_with('-')).peekable();
        names.peek().is_none() || names.any(|part| name.contains(*part))
    };
    let mut failed = false;
    for turn in turns {
        std::thread::scope(|scope| {
            let cases = stores.addresses.iter().flat_map(|store| turn.iter().map(move |case| (store, case)));
            let running: Vec<_> = cases
                .filter(|(store, (name, _, files))| wanted(name) && (*files || kind(store) != "file"))
                .map(|(store, (name, case, _))| (store, name, scope.spawn(|| case(store, numbers))))
                .collect();
            for (store, name, case) in running {
                let result = case.join();
                println!("{name} ({}): {}", kind(store), if result.is_ok() { "ok" } else { "FAILED" });
                failed |= result.is_err();
            }
        });
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// One of each kind that is there.
struct Stores {
    addresses: Vec<String>,
    _servers: (Option<RedisServer>, Option<PostgresServer>, tempfile::TempDir),
}

impl Stores {
    fn start() -> Self {
        // In full there are 200 processes at a time, each with connections of its own.
        let postgres = PostgresServer::start_with(&["max_connections=1000"]);
        let (redis, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
        let file = format!("file:{}", folder.path().join("grants").display());
        let others = [redis.as_ref().map(RedisServer::address), postgres.as_ref().map(PostgresServer::address)];
        for address in postgres.iter().map(PostgresServer::address) {
            PostgresStore::new(&address).unwrap().create_table().unwrap();
        }
        let addresses = [Some(file)].into_iter().chain(others).flatten().collect();
        Self { addresses, _servers: (redis, postgres, folder) }
    }
}

pub(crate) fn kind(store: &str) -> &str {
    store.split(':').next().unwrap_or_default()
}

pub(crate) fn place(store: &str, front: &Front<Watched>, label: &str) -> Place {
    let place = Place::new(store, front.server().issuer(), label);
    place.sign_in();
    place
}

/// All of them ask again when a token is due. Whoever is first mints one, which is all the others' too.
fn expiries(store: &str, numbers: Numbers) {
    let front = Watched::start(Duration::ZERO, 1, Duration::ZERO);
    let start = Instant::now();
    let tokens = together(&place(store, &front, "expiries"), numbers, "expiry");
    let server = front.server();
    no_reuse(&server);
    for pair in server.uses.windows(2) {
        let between = pair[1].at.since(pair[0].at);
        // It is due with a quarter of its life left; its life is counted from when it was asked for.
        assert!(between >= Duration::from_millis(500), "a token was minted {between:?} after another that was good");
    }
    let (mints, time) = (server.uses.len(), start.elapsed());
    println!(
        "{}: {} processes got {} tokens each in {time:?}; {mints} mints, {} of them seen by all; no reuse",
        kind(store),
        tokens.len(),
        numbers.refreshes,
        in_all(&tokens)
    );
}

/// All of them ask for a newer token as fast as they can.
fn haste(store: &str, numbers: Numbers) {
    let front = Watched::start(Duration::ZERO, 3600, Duration::ZERO);
    let start = Instant::now();
    let tokens = together(&place(store, &front, "haste"), numbers, "haste");
    let server = front.server();
    no_reuse(&server);
    let (mints, time) = (server.uses.len(), start.elapsed());
    println!(
        "{}: {} processes got {} tokens each in {time:?}; {mints} mints; no reuse",
        kind(store),
        tokens.len(),
        numbers.refreshes
    );
}

/// All of them ask for a newer token as fast as they can, of a grant that is bound to a key which they make themselves, at a
/// server that wants a nonce in each proof.
fn bound(store: &str, numbers: Numbers) {
    let front = Watched::start(Duration::ZERO, 3600, Duration::ZERO);
    front.server().server.settings.dpop_required = true;
    front.server().server.settings.dpop_nonce = Some("n-1".into());
    let start = Instant::now();
    let unmade = Place::new(store, front.server().issuer(), place::BOUND);
    let making: Vec<_> = (0..numbers.processes).map(|_| unmade.process(place::KEY, 1)).collect();
    let keys: BTreeSet<_> = making.into_iter().map(|making| format!("{:?}", making.end())).collect();
    let own = unmade.client().dpop_key().unwrap().thumbprint().to_owned();
    assert_eq!(keys, BTreeSet::from([format!("{:?}", End::Done(vec![own]))]), "more than one key was made");
    let tokens = together(&place(store, &front, place::BOUND), numbers, "haste");
    let server = front.server();
    no_reuse(&server);
    assert_eq!(server.refused_proofs, 0);
    let (mints, nonces, time) = (server.uses.len(), server.nonces, start.elapsed());
    println!(
        "{}: {} processes with one key got {} tokens each in {time:?}; {mints} mints, {nonces} nonces; no reuse, no refused \
         proof",
        kind(store),
        tokens.len(),
        numbers.refreshes
    );
}

fn together(place: &Place, numbers: Numbers, pace: &str) -> Vec<Vec<String>> {
    let processes: Vec<_> = (0..numbers.processes).map(|_| place.process(pace, numbers.refreshes)).collect();
    let tokens = |end| match end {
        End::Done(tokens) => tokens,
        End::Lost(why) => panic!("the person was signed out: {why}"),
    };
    let all: Vec<Vec<String>> = processes.into_iter().map(|process| tokens(process.end())).collect();
    for tokens in &all {
        assert_eq!(tokens.len() as u64, numbers.refreshes);
        assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len(), "a token was handed out twice as new");
    }
    all
}

/// All of them refresh as fast as they can, while the keys are replaced by which the grant is sealed, again and again.
fn rotation(store: &str, numbers: Numbers) {
    let front = Watched::start(Duration::ZERO, 3600, Duration::ZERO);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    // A file is replaced whole, as an operator does.
    let give = |keys: &str| {
        std::fs::write(folder.path().join("new"), keys).unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
    };
    give("a");
    let place = place(&format!("sealed:{} {store}", file.display()), &front, "rotation");
    let mut processes: Vec<_> = (0..numbers.processes).map(|_| place.process("haste", u64::MAX)).collect();
    let settle = || std::thread::sleep(numbers.settle);
    for (old, new) in [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")] {
        settle();
        give(&format!("{old} {new}"));
        settle();
        give(&format!("{new} {old}"));
        settle();
        place.read_keys();
        place.transport.run(RewriteGrant::new(place.key())).unwrap();
        give(new);
        settle();
        place.read_keys();
    }
    processes.iter_mut().for_each(Process::enough);
    let mut tokens = 0;
    for process in processes {
        match process.end() {
            End::Done(its) => tokens += its.len(),
            End::Lost(why) => panic!("the person was signed out: {why}"),
        }
    }
    no_reuse(&front.server());
    println!("{}: {tokens} tokens while keys were rotated four times; no reuse", kind(store));
}

fn in_all(tokens: &[Vec<String>]) -> usize {
    tokens[0].iter().filter(|token| tokens.iter().all(|others| others.contains(token))).count()
}

pub(crate) fn no_reuse(server: &Watched) {
    assert_eq!(server.reuses(), 0, "the server saw a refresh token twice");
    let used: BTreeSet<_> = server.uses.iter().map(|it| &it.refresh_token).collect();
    assert_eq!(used.len(), server.uses.len());
    assert!(server.uses.iter().all(|it| it.replaced_by.is_some()), "the server refused");
}

/// What became of some grants.
#[derive(Default)]
struct Count {
    rounds: usize,
    /// The server had replaced the refresh token, and what it sent was never saved.
    unsaved: usize,
    lost: usize,
    lost_with_grace: usize,
    /// Signed out by one that had been stopped and went on.
    lost_late: usize,
}

/// A process is killed at a random moment. Then the record reads, and another process refreshes, unless the
/// refresh token was replaced and its successor never arrived.
fn kills(store: &str, numbers: Numbers) {
    let (strict, lenient) = servers();
    let count = Mutex::new(Count::default());
    std::thread::scope(|scope| {
        for worker in 0..numbers.workers {
            let (strict, lenient, count) = (&strict, &lenient, &count);
            scope.spawn(move || {
                let front = if worker % 2 == 0 { strict } else { lenient };
                let place = place(store, front, &format!("kills {worker}"));
                for _ in 0..numbers.rounds {
                    let process = place.process("haste", u64::MAX);
                    std::thread::sleep(random(Duration::from_millis(250)));
                    process.kill();
                    let left = place.saved();
                    let end = place.process("haste", 2).end();
                    judge(&place, front, left.refresh_token.as_ref().unwrap().expose(), &end, worker % 2 == 1, count);
                }
            });
        }
    });
    report(store, "kills", &strict, &lenient, count);
}

fn servers() -> (Front<Watched>, Front<Watched>) {
    // A slow network makes it likely that something happens in between.
    let slow = Duration::from_millis(50);
    (Watched::start(Duration::ZERO, 2, slow), Watched::start(GRACE, 2, slow))
}

fn judge(place: &Place, front: &Front<Watched>, left: &str, end: &End, grace: bool, count: &Mutex<Count>) {
    let replaced = front.server().replaced(left);
    let lost = matches!(end, End::Lost(_));
    // With grace it is replaced once more, by the process that came later.
    let unsaved = if grace { replaced > 1 } else { lost };
    assert!(!lost || replaced > 0, "the person was signed out for nothing: {end:?}");
    if lost {
        place.sign_in();
    }
    let mut count = count.lock().unwrap();
    count.rounds += 1;
    count.unsaved += usize::from(unsaved);
    count.lost += usize::from(lost);
    count.lost_with_grace += usize::from(lost && grace);
}

fn report(store: &str, what: &str, strict: &Front<Watched>, lenient: &Front<Watched>, count: Mutex<Count>) {
    let Count { rounds, unsaved, lost, lost_with_grace, lost_late } = count.into_inner().unwrap();
    let (reuses, with_grace) = (strict.server().reuses(), lenient.server().reuses());
    println!(
        "{}: {rounds} {what}; {unsaved} answers were never saved; signed out: {lost}, and {lost_late} \
         by one that went on, of them with grace at the server {lost_with_grace}; reuse seen by the server: {reuses}, with grace {with_grace}",
        kind(store)
    );
    assert_eq!((lost_with_grace, with_grace), (0, 0), "grace did not help");
    assert_eq!(reuses, lost + lost_late, "the server saw more reuse than there were recoveries that failed");
}

/// A process is stopped at a random moment until its lease has ended and another has refreshed. What it does when
/// it goes on overwrites nothing that is newer.
fn stops(store: &str, numbers: Numbers) {
    let (strict, lenient) = servers();
    let count = Mutex::new(Count::default());
    std::thread::scope(|scope| {
        for worker in 0..numbers.stops {
            let (strict, lenient, count) = (&strict, &lenient, &count);
            scope.spawn(move || {
                let grace = worker % 2 == 1;
                let front = if grace { lenient } else { strict };
                let place = place(store, front, &format!("stops {worker}"));
                let mut stopped = place.process("haste", u64::MAX);
                std::thread::sleep(random(Duration::from_millis(250)));
                stopped.signal("-STOP");
                let since = Instant::now();
                let left = place.saved();
                let end = place.process("haste", 3).end();
                judge(&place, front, left.refresh_token.as_ref().unwrap().expose(), &end, grace, count);
                std::thread::sleep(Duration::from_secs(65).saturating_sub(since.elapsed()));
                let (before, newer) = (place.version(), place.saved());
                stopped.enough();
                stopped.signal("-CONT");
                // Its time was over while it slept: it says so, and asks again.
                let late = stopped.end_with(|trouble| assert!(over(trouble), "{trouble}"));
                let (after, kept) = (place.version(), place.saved());
                assert!(after >= before, "version {before} was followed by {after}");
                if after == before {
                    assert_eq!(
                        kept.refresh_token.as_ref().unwrap().expose(),
                        newer.refresh_token.as_ref().unwrap().expose(),
                        "it was overwritten"
                    );
                }
                let server = front.server();
                let still = kept.refresh_token.as_ref().unwrap().expose();
                let lost = matches!(late, End::Lost(_));
                assert!(lost || grace || server.replaced(still) == 0, "an old one was kept");
                let mut count = count.lock().unwrap();
                count.lost_late += usize::from(lost);
                count.lost_with_grace += usize::from(lost && grace);
            });
        }
    });
    report(store, "stops", &strict, &lenient, count);
}

fn over(trouble: &str) -> bool {
    ["it took too long", "the time to begin has passed"].iter().any(|text| trouble.contains(text))
}

/// The same at a real server, which is no friend of refresh tokens that come twice: all stores at a time, since a process
/// that was killed is waited for.
pub(crate) fn interop(issuer: &str) -> ExitCode {
    let stores = Stores::start();
    std::thread::scope(|scope| {
        for store in &stores.addresses {
            scope.spawn(move || interop_by(store, issuer));
        }
    });
    ExitCode::SUCCESS
}

fn interop_by(store: &str, issuer: &str) {
    let transport = Transport::new().unwrap();
    let server = transport.run(Discovery::new(&place::issuer(issuer))).unwrap();
    let client = Client::new("native-app");
    let app = InstalledApp::new(&server, &client).scopes("openid offline_access").prompt("consent");
    let token = transport.sign_in(&app.login_hint("alice").open_browser(false).show(browse)).unwrap();
    let place = Place { client: "native-app".into(), ..Place::new(store, issuer, "interop") };
    place.keep(&token);
    let numbers = Numbers { processes: 8, refreshes: 25, ..SMALL };
    let tokens = together(&place, numbers, "haste");
    println!("{}: {} processes got {} tokens each", kind(store), tokens.len(), numbers.refreshes);
    for _ in 0..2 {
        let process = place.process("haste", u64::MAX);
        std::thread::sleep(random(Duration::from_millis(250)));
        process.kill();
        // An answer that never arrived ends the grant at this server, and nothing else does.
        let end = place.process("haste", 2).end();
        let lost = matches!(end, End::Lost(_));
        println!(
            "{}: one was killed; {}",
            kind(store),
            if matches!(end, End::Done(_)) { "the next goes on" } else { "the grant is lost" }
        );
        if lost {
            break;
        }
    }
}

/// Curl for a browser: it follows redirects and keeps cookies.
fn browse(url: &str) {
    let url = url.to_owned();
    std::thread::spawn(move || {
        let args = ["--silent", "--location", "--max-time", "20", "--cookie", "", "--output", "/dev/null", &url];
        Command::new("curl").args(args).status().unwrap();
    });
}
