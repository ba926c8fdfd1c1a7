//! Grants in a real Redis, which restarts, hangs and hangs up: for blocking programs and for async ones.
#![cfg(unix)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use grantflow_store::grantflow::machine::FailureKind;
use grantflow_store::grantflow::store::{MAX_RECORD, RecordKey, Stored};
use grantflow_store::grantflow::{Client, ErrorKind, Issuer};
use grantflow_store::{AsyncRedisStore, Awaited, RedisStore, Store, conformance, redis};
use grantflow_tests::front::wall_clock;
use grantflow_tests::redis_server::RedisServer;
use tokio::runtime::Runtime;

const LEASE: Duration = Duration::from_secs(60);

fn key() -> RecordKey {
    RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new("app"), "alice")
}

fn stored(version: u64) -> Stored {
    Stored::new(version, format!("the secret of version {version}"))
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// The async store as a blocking one.
fn awaited(store: AsyncRedisStore) -> Arc<dyn Store> {
    Arc::new(Awaited::new(store, |work| RUNTIME.block_on(work)))
}

/// A store of each kind.
fn each(address: &str) -> [Arc<dyn Store>; 2] {
    [Arc::new(RedisStore::new(address).unwrap()), awaited(AsyncRedisStore::new(address).unwrap())]
}

#[test]
fn they_keep_their_promises() {
    let Some(server) = RedisServer::start() else { return };
    conformance::check(|| RedisStore::new(&server.address()).unwrap());
    conformance::check(|| RedisStore::new(&server.address()).unwrap().prefix("mine:"));
    for store in each(&server.address()) {
        conformance::check(|| store.clone());
    }
    let store = awaited(AsyncRedisStore::new(&server.address()).unwrap().prefix("mine:"));
    conformance::check(|| store.clone());
}

#[test]
fn they_share_grants_and_leases() {
    let Some(server) = RedisServer::start() else { return };
    let [one, other] = each(&server.address());
    assert!(one.save(&key(), None, &stored(1)).unwrap());
    assert!(other.save(&key(), Some(1), &stored(2)).unwrap());
    assert_eq!(&one.load(&key()).unwrap().unwrap().value[..], &stored(2).value[..]);
    for [holder, other] in [[&one, &other], [&other, &one]] {
        let lease = holder.try_lease(&key(), LEASE).unwrap().unwrap();
        assert!(other.try_lease(&key(), LEASE).unwrap().is_none());
        drop(lease);
        // The async one gives it back in a moment.
        let end = Instant::now() + Duration::from_secs(5);
        while other.try_lease(&key(), LEASE).unwrap().is_none() {
            assert!(Instant::now() < end, "the lease was not given back");
        }
    }
}

#[test]
fn an_async_store_serves_another_runtime_after_the_first_has_ended() {
    use grantflow_store::AsyncStore as _;
    let Some(server) = RedisServer::start() else { return };
    let store = AsyncRedisStore::new(&server.address()).unwrap();
    let first = Runtime::new().unwrap();
    let lease = first.block_on(async {
        assert!(store.save(&key(), None, &stored(1)).await.unwrap());
        store.try_lease(&key(), LEASE).await.unwrap().unwrap()
    });
    drop(first);
    // Its runtime cannot give it back any more: the next who asks for it does.
    drop(lease);
    Runtime::new().unwrap().block_on(async {
        assert_eq!(store.load(&key()).await.unwrap().unwrap().version, 1);
        let lease = store.try_lease(&key(), LEASE).await.unwrap().expect("it was given back");
        assert!(store.try_lease(&key(), LEASE).await.unwrap().is_none());
        drop(lease);
    });
}

#[test]
fn a_runtime_that_nobody_drives_any_more_holds_up_no_other_one() {
    use grantflow_store::AsyncStore as _;
    let Some(server) = RedisServer::start() else { return };
    let store = AsyncRedisStore::new(&server.address()).unwrap().response_timeout(Duration::from_millis(300));
    let facade = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let [idle, other] = [facade(), facade()];
    idle.block_on(async { drop(store.try_lease(&key(), LEASE).await.unwrap().unwrap()) });
    // The connection and the way back of the lease lie there.
    let start = Instant::now();
    let lease = other.block_on(store.try_lease(&key(), LEASE)).unwrap().expect("another gives it back");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(idle.block_on(store.try_lease(&key(), LEASE)).unwrap().is_none(), "the old owner gave back its own only");
    drop(lease);
}

/// A server that takes connections and never answers, in the middle of whose greeting a runtime is left.
#[test]
fn a_server_that_hangs_while_one_connects_holds_up_nobody_without_end() {
    use grantflow_store::AsyncStore as _;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("redis://{}", silent.local_addr().unwrap());
    let short = Duration::from_millis(200);
    let blocking = RedisStore::new(&address).unwrap().connect_timeout(short).response_timeout(short);
    let store = AsyncRedisStore::new(&address).unwrap().connect_timeout(short).response_timeout(short);
    let facade = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let left = store.clone();
    let connecting = facade.spawn(async move { left.load(&key()).await.map(drop) });
    facade.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    for store in [Arc::new(blocking) as Arc<dyn Store>, awaited(store)] {
        let start = Instant::now();
        assert_eq!(store.load(&key()).unwrap_err().kind(), FailureKind::Timeout);
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        assert!(store.try_lease(&key(), LEASE).is_err());
    }
    drop((connecting, facade));
}

#[test]
fn a_lease_lasts_as_long_as_asked_and_no_less_than_a_minute_and_ends_by_itself() {
    let Some(server) = RedisServer::start() else { return };
    let name = format!("grantflow:{}:lease", key().name());
    for store in each(&server.address()) {
        for (asked, least) in [(1, 60), (60, 60), (300, 300)] {
            let lease = store.try_lease(&key(), Duration::from_secs(asked)).unwrap().unwrap();
            let left = server.ask(&format!("PTTL {name}")).unwrap();
            let left: u64 = left.trim().trim_start_matches(':').parse().unwrap();
            assert!(left > least * 1000 - 5000 && left <= least * 1000, "{left}");
            let ends_there = wall_clock() + Duration::from_millis(left);
            assert!(lease.until().unwrap() <= ends_there, "here it ends no later than there");
            drop(lease);
        }
        // It ends, and another gets it: what the first gives back then is not its own.
        let late = store.try_lease(&key(), LEASE).unwrap().unwrap();
        server.ask(&format!("DEL {name}")).unwrap();
        let newer = store.try_lease(&key(), LEASE).unwrap().unwrap();
        drop(late);
        assert!(store.try_lease(&key(), LEASE).unwrap().is_none(), "a late holder gave back another's lease");
        drop(newer);
        drop(store.try_lease(&key(), LEASE).unwrap().expect("it was given back"));
        server.ask(&format!("DEL {name}")).unwrap();
    }
}

#[test]
fn what_was_saved_is_there_after_a_restart_and_the_store_connects_anew() {
    let Some(mut server) = RedisServer::start() else { return };
    for store in each(&server.address()) {
        assert!(store.save(&key(), None, &stored(1)).unwrap());
        server.begin();
        assert_eq!(store.load(&key()).unwrap().unwrap().version, 1);
        server.begin();
        assert!(store.save(&key(), Some(1), &stored(2)).unwrap());
        server.ask("CLIENT KILL TYPE normal");
        let lease = store.try_lease(&key(), LEASE).unwrap().unwrap();
        server.begin();
        assert!(store.try_lease(&key(), LEASE).unwrap().is_none(), "a lease survives a restart too");
        drop(lease);
        assert!(store.try_lease(&key(), LEASE).unwrap().is_some());
        // Away for a moment in the middle.
        server.kill();
        let saving = std::thread::spawn({
            let store = store.clone();
            move || store.save(&key(), Some(2), &stored(3))
        });
        std::thread::sleep(Duration::from_millis(500));
        server.begin();
        assert!(saving.join().unwrap().unwrap());
        assert_eq!(store.load(&key()).unwrap().unwrap().version, 3);
        assert!(store.delete(&key(), 3).unwrap());
    }
}

#[test]
fn a_server_that_is_away_or_hangs_is_an_error_in_time() {
    let Some(mut server) = RedisServer::start() else { return };
    let short = Duration::from_millis(200);
    let blocking = RedisStore::new(&server.address()).unwrap().connect_timeout(short).response_timeout(short);
    let waiting = AsyncRedisStore::new(&server.address()).unwrap().connect_timeout(short).response_timeout(short);
    for store in [Arc::new(blocking), awaited(waiting)] {
        assert!(store.save(&key(), None, &stored(1)).unwrap());
        server.freeze(true);
        let start = Instant::now();
        let failure = store.load(&key()).unwrap_err();
        server.freeze(false);
        assert_eq!(failure.kind(), FailureKind::Timeout, "{failure}");
        assert!(start.elapsed() < Duration::from_secs(8));
        assert!(store.load(&key()).unwrap().is_some());
        server.kill();
        let failure = store.save(&key(), Some(1), &stored(2)).unwrap_err();
        assert!(failure.kind() == FailureKind::Connect && !failure.to_string().contains("secret"), "{failure}");
        server.begin();
        assert!(store.delete(&key(), 1).unwrap());
    }
}

#[test]
fn errors_show_no_secret() {
    let Some(server) = RedisServer::start() else { return };
    let wrong = "http://user:canary@host";
    for error in [RedisStore::new(wrong).unwrap_err(), AsyncRedisStore::new(wrong).unwrap_err()] {
        assert!(error.kind() == ErrorKind::Config && !format!("{error:?} {error}").contains("canary"));
    }
    let address = server.address().replace("redis://", "redis://user:canary@");
    let shown =
        [format!("{:?}", RedisStore::new(&address).unwrap()), format!("{:?}", AsyncRedisStore::new(&address).unwrap())];
    for (store, shown) in each(&address).iter().zip(shown) {
        let failure = store.load(&key()).unwrap_err();
        assert!(!format!("{failure:?} {failure} {shown}").contains("canary"), "{failure:?}");
    }
    // Redis repeats what it was sent when it does not know the command.
    server.ask("ACL SETUSER default -eval");
    for store in each(&server.address()) {
        let failure = store.save(&key(), None, &stored(1)).unwrap_err();
        assert!(!format!("{failure:?} {failure}").contains("secret"), "{failure:?}");
        assert!(failure.to_string().contains("NOPERM"), "{failure}");
    }
}

#[test]
fn the_rights_that_the_documentation_names_are_enough() {
    let Some(server) = RedisServer::start() else { return };
    let rights = "+hmget +hget +hset +exists +del +get +set +eval";
    server.ask(&format!("ACL SETUSER app on >pw ~grantflow:* {rights}")).unwrap();
    let address = server.address().replace("redis://", "redis://app:pw@");
    for store in each(&address) {
        conformance::check(|| store.clone());
    }
    let elsewhere = RedisStore::new(&address).unwrap().prefix("other:");
    assert!(elsewhere.load(&key()).is_err());
}

#[test]
fn what_is_no_record_is_an_error_and_never_overwritten() {
    let Some(server) = RedisServer::start() else { return };
    let name = format!("grantflow:{}", key().name());
    for store in each(&server.address()) {
        for command in ["SET NAME x", "HSET NAME version 1", "HSET NAME value x", "HSET NAME version x value y"] {
            server.ask(&format!("DEL {name}")).unwrap();
            server.ask(&command.replace("NAME", &name)).unwrap();
            let failure = store.load(&key()).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Store, "{command}: {failure}");
            assert!(!store.save(&key(), None, &stored(1)).unwrap_or(false), "{command}");
        }
        let too_large = Stored::new(1, vec![0; MAX_RECORD + 1]);
        assert!(store.save(&key(), None, &too_large).is_err());
        let mut direct = redis::Client::open(server.address()).unwrap().get_connection().unwrap();
        let value = &too_large.value[..];
        redis::cmd("HSET").arg(&name).arg("version").arg(1).arg("value").arg(value).exec(&mut direct).unwrap();
        assert_eq!(store.load(&key()).unwrap_err().kind(), FailureKind::Store);
    }
}

#[test]
fn a_server_that_others_have_taken_over_from_is_left() {
    let (Some(old), Some(new)) = (RedisServer::start(), RedisServer::start()) else { return };
    let port = Arc::new(AtomicU16::new(old.port()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    let target = port.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let redis = TcpStream::connect((Ipv4Addr::LOCALHOST, target.load(Ordering::SeqCst))).unwrap();
            let (mut asking, mut asked) = (client.try_clone().unwrap(), redis.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut asking, &mut asked));
            let (mut answering, mut answered) = (redis, client);
            std::thread::spawn(move || std::io::copy(&mut answering, &mut answered));
        }
    });
    for store in each(&address) {
        port.store(old.port(), Ordering::SeqCst);
        old.ask("REPLICAOF NO ONE").unwrap();
        assert!(store.save(&key(), None, &stored(1)).unwrap());
        assert!(store.delete(&key(), 1).unwrap());
        // The name of the service leads to another one, and the connection still to this.
        port.store(new.port(), Ordering::SeqCst);
        old.ask(&format!("REPLICAOF 127.0.0.1 {}", new.port())).unwrap();
        assert!(store.save(&key(), None, &stored(2)).unwrap());
        assert!(store.delete(&key(), 2).unwrap());
    }
}

#[test]
fn a_lease_goes_back_though_the_connection_was_closed_meanwhile() {
    let Some(server) = RedisServer::start() else { return };
    for store in each(&server.address()) {
        // A person took their time, and Redis closes what lies idle.
        let lease = store.try_lease(&key(), LEASE).unwrap().unwrap();
        server.ask("CLIENT KILL TYPE normal");
        drop(lease);
        drop(store.try_lease(&key(), LEASE).unwrap().expect("it was given back"));
    }
}

#[test]
fn a_lease_goes_back_though_the_server_restarts_just_then() {
    let Some(mut server) = RedisServer::start() else { return };
    let other = RedisStore::new(&server.address()).unwrap();
    for store in each(&server.address()) {
        let lease = store.try_lease(&key(), LEASE).unwrap().unwrap();
        server.kill();
        let giving_back = std::thread::spawn(move || drop(lease));
        std::thread::sleep(Duration::from_millis(300));
        server.begin();
        giving_back.join().unwrap();
        // The async one gives it back in a moment.
        let end = Instant::now() + Duration::from_secs(5);
        while other.try_lease(&key(), LEASE).unwrap().is_none() {
            assert!(Instant::now() < end, "the lease was not given back");
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Answered,
    AnswerLost,
    Lost,
}

/// A way to Redis on which requests, or their answers, are lost.
fn lossy(port: u16, fate: impl Fn(&[u8]) -> Fate + Send + Sync + 'static) -> String {
    let fate = Arc::new(fate);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let fate = fate.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut redis = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
                let (mut client, mut buffer) = (client, vec![0; 1 << 16]);
                loop {
                    let length = client.read(&mut buffer)?;
                    let fate = fate(&buffer[..length]);
                    if length == 0 || fate == Fate::Lost {
                        return client.shutdown(Shutdown::Both);
                    }
                    redis.write_all(&buffer[..length])?;
                    let length = redis.read(&mut buffer)?;
                    if fate == Fate::AnswerLost {
                        return client.shutdown(Shutdown::Both);
                    }
                    client.write_all(&buffer[..length])?;
                }
            });
        }
    });
    address
}

fn is_script(request: &[u8]) -> bool {
    request.windows(4).any(|part| part == b"EVAL")
}

fn one_less(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[test]
fn what_another_has_saved_in_the_meantime_is_not_taken_for_ones_own() {
    let Some(server) = RedisServer::start() else { return };
    let direct = RedisStore::new(&server.address()).unwrap();
    let losses = Arc::new(AtomicU32::new(0));
    let fate = {
        let (direct, losses) = (direct.clone(), losses.clone());
        move |request: &[u8]| {
            if !is_script(request) || !one_less(&losses) {
                return Fate::Answered;
            }
            let other = Stored::new(1, b"of another".to_vec());
            assert!(direct.save(&key(), None, &other).unwrap());
            Fate::Lost
        }
    };
    for store in each(&lossy(server.port(), fate)) {
        losses.store(1, Ordering::SeqCst);
        assert!(!store.save(&key(), None, &stored(1)).unwrap());
        assert!(direct.delete(&key(), 1).unwrap());
    }
}

#[test]
fn when_the_answer_is_lost_the_store_finds_out_what_was_done() {
    let Some(server) = RedisServer::start() else { return };
    let losses = Arc::new(AtomicU32::new(0));
    let fate = {
        let losses = losses.clone();
        move |request: &[u8]| {
            if is_script(request) && one_less(&losses) { Fate::AnswerLost } else { Fate::Answered }
        }
    };
    let direct = RedisStore::new(&server.address()).unwrap();
    for (store, count) in each(&lossy(server.port(), fate)).iter().flat_map(|store| [(store, 1), (store, 2)]) {
        let lose = || losses.store(count, Ordering::SeqCst);
        lose();
        assert!(store.save(&key(), None, &stored(1)).unwrap(), "it was saved, and the answer lost");
        lose();
        assert!(store.save(&key(), Some(1), &stored(2)).unwrap());
        lose();
        assert!(!store.save(&key(), Some(1), &stored(7)).unwrap(), "it was not saved");
        lose();
        let lease = store.try_lease(&key(), LEASE).unwrap().expect("the lease is ours, and the answer lost");
        assert!(direct.try_lease(&key(), LEASE).unwrap().is_none());
        lose();
        assert!(store.try_lease(&key(), LEASE).unwrap().is_none(), "another's lease is not ours");
        losses.store(0, Ordering::SeqCst);
        drop(lease);
        assert!(store.try_lease(&key(), LEASE).unwrap().is_some());
        lose();
        assert!(!store.delete(&key(), 1).unwrap());
        lose();
        assert!(store.delete(&key(), 2).unwrap(), "it was deleted, and the answer lost");
        assert!(direct.load(&key()).unwrap().is_none());
    }
}
