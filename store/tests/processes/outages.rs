//! The server of a store is killed and starts again, and connections to it are cut at any byte, under processes that share
//! a grant: nothing is lost.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use grantflow_store::PostgresStore;
use grantflow_tests::postgres_server::{self, PostgresServer};
use grantflow_tests::redis_server::RedisServer;

use crate::cases::{Numbers, kind, no_reuse, place};
use crate::place::{End, Process};
use crate::watched::{Watched, random};

/// The most bytes that a connection carries each way: those of some twenty saves.
const MOST: usize = 60_000;

/// All of them ask for a newer token as fast as they can, while the store's server crashes again and again, and no
/// connection to it lasts.
pub(crate) fn outages(store: &str, numbers: Numbers) {
    let front = Watched::start(Duration::ZERO, 3600, Duration::ZERO);
    let mut server = Server::start(store);
    let cutting = Cutting::start(server.port());
    let start = Instant::now();
    let place = place(&server.address_at(cutting.port), &front, "outages");
    let mut processes: Vec<_> = (0..numbers.processes).map(|_| place.process("haste", u64::MAX)).collect();
    for _ in 0..numbers.restarts {
        std::thread::sleep(numbers.between + random(numbers.between));
        server.restart();
    }
    std::thread::sleep(numbers.between);
    processes.iter_mut().for_each(Process::enough);
    let mut tokens = Vec::new();
    for process in processes {
        match process.end() {
            End::Done(its) => tokens.push(its.len()),
            End::Lost(why) => panic!("the person was signed out: {why}"),
        }
    }
    no_reuse(&front.server());
    let kept = place.saved().refresh_token.as_ref().map(|token| token.expose().to_owned()).unwrap_or_default();
    assert_eq!(front.server().replaced(&kept), 0, "what is kept is not the newest");
    let (cuts, least) = (cutting.cuts.load(Ordering::SeqCst), tokens.iter().min().copied().unwrap_or_default());
    assert!(cuts > 0 && least > 0, "{cuts} cuts, {tokens:?} tokens");
    println!(
        "{}: {} processes got {tokens:?} tokens in {:?}, over {} crashes of the server and {cuts} cut connections; no reuse, \
         none lost",
        kind(store),
        numbers.processes,
        start.elapsed(),
        numbers.restarts
    );
}

/// A server of this case alone.
enum Server {
    Redis(RedisServer),
    Postgres(PostgresServer),
}

impl Server {
    /// Of the same kind as this store, which is there.
    fn start(store: &str) -> Self {
        match kind(store) {
            "redis" => Self::Redis(RedisServer::start().unwrap()),
            _ => {
                let server = PostgresServer::start().unwrap();
                PostgresStore::new(&server.address()).unwrap().create_table().unwrap();
                Self::Postgres(server)
            }
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Redis(server) => server.port(),
            Self::Postgres(server) => server.port(),
        }
    }

    fn address_at(&self, port: u16) -> String {
        match self {
            Self::Redis(_) => format!("redis://127.0.0.1:{port}"),
            Self::Postgres(_) => postgres_server::address(port),
        }
    }

    /// Lets it crash, and come back with what is on the disk.
    fn restart(&mut self) {
        match self {
            Self::Redis(server) => server.begin(),
            Self::Postgres(server) => server.begin(),
        }
    }
}

/// A way to a server, on which each connection is cut after some bytes, in the middle of whatever they say.
struct Cutting {
    port: u16,
    cuts: Arc<AtomicUsize>,
}

impl Cutting {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, cuts) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counted = cuts.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // While the server is away, nobody is there.
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)) else { continue };
                let (asking, answered) = (client.try_clone().unwrap(), client);
                let (answering, asked) = (server.try_clone().unwrap(), server);
                for (from, to) in [(asking, asked), (answering, answered)] {
                    let cuts = counted.clone();
                    let most = random(Duration::from_nanos(MOST as u64)).as_nanos() as usize;
                    std::thread::spawn(move || {
                        cuts.fetch_add(usize::from(carry(&from, &to, most)), Ordering::SeqCst);
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { port, cuts }
    }
}

/// Carries at most so many bytes, and says whether there were more.
fn carry(mut from: &TcpStream, mut to: &TcpStream, most: usize) -> bool {
    let mut left = most;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length.min(left)]).is_err() {
            return false;
        }
        if length >= left {
            return true;
        }
        left -= length;
    }
    false
}
