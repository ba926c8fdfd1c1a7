//! Grants in a real PostgreSQL, which restarts, crashes, hangs and hangs up: for blocking programs and for async ones.
#![cfg(unix)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use grantflow_store::grantflow::machine::FailureKind;
use grantflow_store::grantflow::store::{MAX_RECORD, RecordKey, Stored};
use grantflow_store::grantflow::{Client, ErrorKind, Issuer};
use grantflow_store::{AsyncPostgresStore, Awaited, PostgresStore, Store, conformance};
use grantflow_tests::front::wall_clock;
use grantflow_tests::postgres_server::{self, PostgresServer};
use grantflow_tests::secure::{Authority, Certificate};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Runtime;
use tokio_postgres_rustls::MakeRustlsConnect;

const LEASE: Duration = Duration::from_secs(60);

fn key() -> RecordKey {
    RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new("app"), "alice")
}

fn stored(version: u64) -> Stored {
    Stored::new(version, format!("the secret of version {version}"))
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// The async store as a blocking one.
fn awaited(store: AsyncPostgresStore) -> Arc<dyn Store> {
    Arc::new(Awaited::new(store, |work| RUNTIME.block_on(work)))
}

/// A store of each kind, with their table.
fn each(address: &str) -> [Arc<dyn Store>; 2] {
    let store = PostgresStore::new(address).unwrap();
    store.create_table().unwrap();
    [Arc::new(store), awaited(AsyncPostgresStore::new(address).unwrap())]
}

#[test]
fn they_keep_their_promises() {
    let Some(server) = PostgresServer::start() else { return };
    for store in each(&server.address()) {
        conformance::check(|| store.clone());
        conformance::check_listing(|| store.clone());
    }
    conformance::check(|| PostgresStore::new(&server.address()).unwrap());
    server.ask("CREATE SCHEMA app").unwrap();
    let mine = || PostgresStore::new(&server.address()).unwrap().table("app.My grants");
    mine().create_table().unwrap();
    mine().create_table().unwrap();
    conformance::check(mine);
    conformance::check_listing(mine);
}

#[test]
fn they_share_grants_and_leases() {
    let Some(server) = PostgresServer::start() else { return };
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
fn many_processes_may_make_the_table_at_once_and_the_documented_sql_is_what_they_make() {
    let Some(server) = PostgresServer::start() else { return };
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| PostgresStore::new(&server.address()).unwrap().create_table().unwrap());
        }
    });
    let documented = include_str!("../src/postgres_store/blocking.rs");
    let documented: String =
        documented.lines().filter_map(|line| line.strip_prefix("/// ").map(|it| format!("{it}\n"))).collect();
    let store = PostgresStore::new(&server.address()).unwrap();
    assert!(documented.contains(store.table_sql()), "{}", store.table_sql());
    let without = store.table("elsewhere").load(&key()).unwrap_err();
    assert!(without.to_string().contains("create_table"), "{without}");
}

#[test]
fn an_async_store_serves_another_runtime_after_the_first_has_ended() {
    use grantflow_store::AsyncStore as _;
    let Some(server) = PostgresServer::start() else { return };
    let store = AsyncPostgresStore::new(&server.address()).unwrap();
    let first = Runtime::new().unwrap();
    let lease = first.block_on(async {
        store.create_table().await.unwrap();
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
    let Some(server) = PostgresServer::start() else { return };
    let store = AsyncPostgresStore::new(&server.address()).unwrap().response_timeout(Duration::from_millis(300));
    let facade = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let [idle, other] = [facade(), facade()];
    idle.block_on(async {
        store.create_table().await.unwrap();
        drop(store.try_lease(&key(), LEASE).await.unwrap().unwrap());
    });
    // The connection and the way back of the lease lie there.
    let start = Instant::now();
    let lease = other.block_on(store.try_lease(&key(), LEASE)).unwrap().expect("another gives it back");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(idle.block_on(store.try_lease(&key(), LEASE)).unwrap().is_none(), "the old owner gave back its own only");
    drop(lease);
}

#[test]
fn a_blocking_store_may_be_used_and_dropped_within_a_task() {
    let Some(server) = PostgresServer::start() else { return };
    RUNTIME.block_on(async {
        let store = PostgresStore::new(&server.address()).unwrap();
        store.create_table().unwrap();
        let lease = store.try_lease(&key(), LEASE).unwrap().unwrap();
        assert!(store.save(&key(), None, &stored(1)).unwrap());
        drop(lease);
        drop(store.try_lease(&key(), LEASE).unwrap().expect("it was given back"));
        drop(store);
    });
}

/// A server that takes connections and never answers.
#[test]
fn a_server_that_hangs_while_one_connects_holds_up_nobody_without_end() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = postgres_server::address(silent.local_addr().unwrap().port());
    let short = Duration::from_millis(200);
    let blocking = PostgresStore::new(&address).unwrap().connect_timeout(short).response_timeout(short);
    let waiting = AsyncPostgresStore::new(&address).unwrap().connect_timeout(short).response_timeout(short);
    for store in [Arc::new(blocking) as Arc<dyn Store>, awaited(waiting)] {
        let start = Instant::now();
        assert_eq!(store.load(&key()).unwrap_err().kind(), FailureKind::Timeout);
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        assert!(store.try_lease(&key(), LEASE).is_err());
    }
}

#[test]
fn a_lease_lasts_as_long_as_asked_and_no_less_than_a_minute_and_ends_by_the_clock_of_the_server() {
    let Some(server) = PostgresServer::start() else { return };
    let name = format!("key = '{}:lease'", key().name());
    for store in each(&server.address()) {
        for (asked, least) in [(1, 60), (60, 60), (300, 300)] {
            let lease = store.try_lease(&key(), Duration::from_secs(asked)).unwrap().unwrap();
            let left = format!(
                "SELECT (extract(epoch FROM lease_until - clock_timestamp()) * 1000)::int8 FROM grantflow WHERE {name}"
            );
            let left: u64 = server.ask(&left).unwrap().parse().unwrap();
            assert!(left > least * 1000 - 5000 && left <= least * 1000, "{left}");
            let ends_there = wall_clock() + Duration::from_millis(left + 1);
            assert!(lease.until().unwrap() <= ends_there, "here it ends no later than there");
            drop(lease);
            std::thread::sleep(Duration::from_millis(200));
        }
        // It ends, and another gets it: what the first gives back then is not its own.
        let late = store.try_lease(&key(), LEASE).unwrap().unwrap();
        server.ask(&format!("UPDATE grantflow SET lease_until = now() WHERE {name}")).unwrap();
        let newer = store.try_lease(&key(), LEASE).unwrap().unwrap();
        drop(late);
        std::thread::sleep(Duration::from_millis(200));
        assert!(store.try_lease(&key(), LEASE).unwrap().is_none(), "a late holder gave back another's lease");
        drop(newer);
        drop(store.try_lease(&key(), LEASE).unwrap().expect("it was given back"));
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(server.ask("SELECT count(*) FROM grantflow").unwrap(), "0", "nothing is left of leases");
    }
}

#[test]
fn what_was_saved_is_there_after_a_crash_and_the_store_connects_anew() {
    let Some(mut server) = PostgresServer::start() else { return };
    for store in each(&server.address()) {
        assert!(store.save(&key(), None, &stored(1)).unwrap());
        server.begin();
        assert_eq!(store.load(&key()).unwrap().unwrap().version, 1);
        server.begin();
        assert!(store.save(&key(), Some(1), &stored(2)).unwrap());
        server.cut();
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

/// All sessions are told to confirm what may still be lost.
#[test]
fn a_save_is_durable_whatever_the_database_is_set_to() {
    let settings = ["synchronous_commit=off", "wal_writer_delay=10s", "wal_writer_flush_after=1GB"];
    let Some(mut server) = PostgresServer::start_with(&settings) else { return };
    let mut version = None;
    for store in each(&server.address()) {
        for _ in 0..3 {
            let next = version.unwrap_or(0) + 1;
            assert!(store.save(&key(), version, &stored(next)).unwrap());
            server.begin();
            let found = store.load(&key()).unwrap().expect("it was saved");
            assert_eq!(found.version, next, "a crash has lost what was confirmed");
            version = Some(next);
        }
        let lease = store.try_lease(&key(), LEASE).unwrap().unwrap();
        server.begin();
        assert!(store.try_lease(&key(), LEASE).unwrap().is_none(), "a crash has lost a lease");
        drop(lease);
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_server_that_is_away_or_hangs_is_an_error_in_time() {
    let Some(mut server) = PostgresServer::start() else { return };
    each(&server.address());
    let short = Duration::from_millis(300);
    let blocking = PostgresStore::new(&server.address()).unwrap().connect_timeout(short).response_timeout(short);
    let waiting = AsyncPostgresStore::new(&server.address()).unwrap().connect_timeout(short).response_timeout(short);
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
    let Some(server) = PostgresServer::start() else { return };
    let wrong = "http://user:canary@host";
    for error in [PostgresStore::new(wrong).unwrap_err(), AsyncPostgresStore::new(wrong).unwrap_err()] {
        assert!(error.kind() == ErrorKind::Config && !format!("{error:?} {error}").contains("canary"));
    }
    let stores = each(&server.address());
    // PostgreSQL repeats the whole row when it refuses it.
    server.ask("ALTER TABLE grantflow ADD CHECK (version < 7)").unwrap();
    for store in stores {
        let failure = store.save(&key(), None, &stored(7)).unwrap_err();
        assert!(failure.to_string().contains("23514"), "{failure}");
        let shown = format!("{failure:?} {failure}");
        assert!(!shown.contains("secret") && !shown.contains("736563726574"), "{shown}");
    }
    server.ask("CREATE ROLE app LOGIN PASSWORD 'pw'").unwrap();
    let address = server.address().replace("postgres@", "app:canary@");
    let store = PostgresStore::new(&address).unwrap();
    let failure = store.load(&key()).unwrap_err();
    let shown = format!("{failure:?} {failure} {store:?} {:?}", AsyncPostgresStore::new(&address));
    assert!(failure.to_string().contains("42501: the user has no right"), "{failure}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[test]
fn the_rights_that_the_documentation_names_are_enough() {
    let Some(server) = PostgresServer::start() else { return };
    each(&server.address());
    server.ask("CREATE ROLE app LOGIN").unwrap();
    server.ask("GRANT SELECT, INSERT, UPDATE, DELETE ON grantflow TO app").unwrap();
    let address = server.address().replace("postgres@", "app@");
    conformance::check(|| PostgresStore::new(&address).unwrap());
    conformance::check_listing(|| PostgresStore::new(&address).unwrap());
}

#[test]
fn what_is_no_record_is_an_error_and_never_overwritten() {
    let Some(server) = PostgresServer::start() else { return };
    let name = key().name();
    for store in each(&server.address()) {
        for values in ["NULL, NULL", "1, NULL", "NULL, 'x'", "-1, 'x'"] {
            server.ask("DELETE FROM grantflow").unwrap();
            server.ask(&format!("INSERT INTO grantflow (key, version, value) VALUES ('{name}', {values})")).unwrap();
            let failure = store.load(&key()).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Store, "{values}: {failure}");
            assert!(!store.save(&key(), None, &stored(1)).unwrap_or(false), "{values}");
        }
        let too_large = Stored::new(1, vec![0; MAX_RECORD + 1]);
        assert!(store.save(&key(), None, &too_large).is_err());
        let large = format!("UPDATE grantflow SET version = 1, value = repeat('x', {MAX_RECORD} + 1)::bytea");
        server.ask(&large).unwrap();
        assert_eq!(store.load(&key()).unwrap_err().kind(), FailureKind::Store);
        server.ask("DELETE FROM grantflow").unwrap();
        let long = RecordKey::new(key().issuer(), &Client::new("app"), &"x".repeat(1025));
        assert!(store.save(&long, None, &stored(1)).unwrap_err().to_string().contains("1024 bytes"));
    }
}

#[test]
fn a_lease_goes_back_though_the_connection_was_closed_meanwhile() {
    let Some(server) = PostgresServer::start() else { return };
    for store in each(&server.address()) {
        // A person took their time, and a network closes what lies idle.
        let lease = store.try_lease(&key(), LEASE).unwrap().unwrap();
        server.cut();
        drop(lease);
        drop(store.try_lease(&key(), LEASE).unwrap().expect("it was given back"));
    }
}

#[test]
fn a_lease_goes_back_though_the_server_restarts_just_then() {
    let Some(mut server) = PostgresServer::start() else { return };
    let other = PostgresStore::new(&server.address()).unwrap();
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

/// A way to PostgreSQL on which requests, or their answers, are lost.
fn lossy(port: u16, fate: impl Fn(&[u8]) -> Fate + Send + Sync + 'static) -> String {
    let fate = Arc::new(fate);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = postgres_server::address(listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let fate = fate.clone();
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let (mut asking, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (mut answering, mut answered) = (server, client);
            let lose = Arc::new(AtomicBool::new(false));
            let lost = lose.clone();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(length @ 1..) = answering.read(&mut buffer) {
                    if lost.load(Ordering::SeqCst) || answered.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                let _ = (answered.shutdown(Shutdown::Both), answering.shutdown(Shutdown::Both));
            });
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(length @ 1..) = asking.read(&mut buffer) {
                    match fate(&buffer[..length]) {
                        Fate::Lost => break,
                        Fate::AnswerLost => lose.store(true, Ordering::SeqCst),
                        Fate::Answered => {}
                    }
                    if asked.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                if !lose.load(Ordering::SeqCst) {
                    let _ = (asking.shutdown(Shutdown::Both), asked.shutdown(Shutdown::Both));
                }
            });
        }
    });
    address
}

/// A statement that changes something, but for giving leases back.
fn changes(request: &[u8]) -> bool {
    let has = |word: &[u8]| request.windows(word.len()).any(|part| part == word);
    has(b"synchronous_commit")
}

fn one_less(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[test]
fn what_another_has_saved_in_the_meantime_is_not_taken_for_ones_own() {
    let Some(server) = PostgresServer::start() else { return };
    let direct = PostgresStore::new(&server.address()).unwrap();
    direct.create_table().unwrap();
    let losses = Arc::new(AtomicU32::new(0));
    let fate = {
        let (direct, losses) = (direct.clone(), losses.clone());
        move |request: &[u8]| {
            if !changes(request) || !one_less(&losses) {
                return Fate::Answered;
            }
            assert!(direct.save(&key(), None, &Stored::new(1, "of another")).unwrap());
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
    let Some(server) = PostgresServer::start() else { return };
    let losses = Arc::new(AtomicU32::new(0));
    let fate = {
        let losses = losses.clone();
        move |request: &[u8]| {
            if changes(request) && one_less(&losses) { Fate::AnswerLost } else { Fate::Answered }
        }
    };
    let direct = PostgresStore::new(&server.address()).unwrap();
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
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Nobody knows how a save ended, and says so.
#[test]
fn a_save_whose_end_cannot_be_looked_up_may_have_been_done() {
    let Some(server) = PostgresServer::start() else { return };
    each(&server.address());
    let fate = |request: &[u8]| if changes(request) { Fate::AnswerLost } else { Fate::Answered };
    let address = lossy(server.port(), fate);
    for store in [Arc::new(PostgresStore::new(&address).unwrap()), awaited(AsyncPostgresStore::new(&address).unwrap())]
    {
        let failure = store.save(&key(), None, &stored(1)).unwrap_err();
        assert!(failure.may_have_been_sent() && failure.kind() == FailureKind::Connect, "{failure}");
        assert_eq!(store.load(&key()).unwrap().expect("it was done").version, 1);
        server.ask("DELETE FROM grantflow").unwrap();
    }
}

/// TLS by crate `tokio-postgres-rustls`, which believes this authority alone.
fn tls_by(authority: &Authority) -> MakeRustlsConnect {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate().pem.as_bytes()).unwrap()).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
    MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// Who may come, before all others.
const WHO: [&str; 3] =
    ["hostssl all app 127.0.0.1/32 scram-sha-256", "hostnossl all app 127.0.0.1/32 reject", "# The others:\n"];

/// A server with TLS and a user with a password, who may come by TLS alone; and its address, for this host.
fn with_tls(certificate: &Certificate) -> Option<(PostgresServer, impl Fn(&str) -> String + use<>)> {
    let mut server = PostgresServer::start()?;
    server.ask("CREATE ROLE app LOGIN PASSWORD 'pw'; GRANT ALL ON SCHEMA public TO app").unwrap();
    server.secure(&certificate.pem, &certificate.key, &WHO.join("\n"));
    let port = server.port();
    Some((server, move |host: &str| format!("postgres://app:pw@{host}:{port}/postgres?hostaddr=127.0.0.1")))
}

#[test]
fn by_tls_a_server_is_believed_whose_certificate_is_of_the_right_authority_and_name() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let Some((server, address)) = with_tls(&ours.signs("db.example")) else { return };
    let blocking = |host: &str, tls| PostgresStore::with_tls(&address(host), tls).unwrap();
    let waiting = |host: &str, tls| awaited(AsyncPostgresStore::with_tls(&address(host), tls).unwrap());
    let (one, other_one) = (blocking("db.example", tls_by(&ours)), waiting("db.example", tls_by(&ours)));
    one.create_table().unwrap();
    conformance::check(|| one.clone());
    assert!(other_one.save(&key(), None, &stored(1)).unwrap());
    assert_eq!(one.load(&key()).unwrap().unwrap().version, 1);
    let encrypted = "SELECT bool_and(ssl AND version LIKE 'TLSv1.%') FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE usename = 'app'";
    assert_eq!(server.ask(encrypted).unwrap(), "t");
    // Another authority, another name, and a user who may not come in the clear.
    let clear = format!("{}&sslmode=disable", address("db.example"));
    let clear = PostgresStore::with_tls(&clear, tls_by(&ours)).unwrap();
    let wrong = [
        (blocking("db.example", tls_by(&other)).load(&key()), FailureKind::Tls),
        (waiting("db.example", tls_by(&other)).load(&key()), FailureKind::Tls),
        (blocking("other.example", tls_by(&ours)).load(&key()), FailureKind::Tls),
        (clear.load(&key()), FailureKind::Store),
    ];
    for (answer, kind) in wrong {
        let failure = answer.unwrap_err();
        let shown = format!("{failure:?} {failure}");
        assert!(failure.kind() == kind && !failure.may_have_been_sent() && !shown.contains("pw"), "{shown}");
    }
}

#[test]
fn a_server_without_tls_gets_no_grant_of_one_that_asks_for_it() {
    let Some(server) = PostgresServer::start() else { return };
    let address = format!("{}?sslmode=require", server.address());
    let ours = Authority::new("ours");
    for store in [
        Arc::new(PostgresStore::with_tls(&address, tls_by(&ours)).unwrap()),
        awaited(AsyncPostgresStore::with_tls(&address, tls_by(&ours)).unwrap()),
    ] {
        let failure = store.save(&key(), None, &stored(1)).unwrap_err();
        assert!(failure.kind() == FailureKind::Tls && failure.to_string().contains("TLS"), "{failure}");
    }
}
