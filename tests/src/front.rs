//! A TCP front: serves a pretend server on a loopback port, by the real clock.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grantflow::{ServerMetadata, Timestamp};
use http::{Request, Response};

use crate::http1::Reader;
use crate::server::{Answer, Ping, Place, Server, Wire};

/// A pretend server, as a front serves it.
pub trait Site: Send + 'static {
    /// Moves it to another origin, such as `http://127.0.0.1:8080`.
    fn move_to(&mut self, origin: &str);

    /// Takes a request and answers it.
    fn answer(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Answer;
}

impl Site for Server {
    fn move_to(&mut self, origin: &str) {
        Server::move_to(self, origin);
    }
    fn answer(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Answer {
        Server::answer(self, now, request)
    }
}

/// A pretend server that listens. It stops, and all its connections close, when this is dropped.
#[derive(Debug)]
pub struct Front<S: Site = Server> {
    address: SocketAddr,
    shared: Arc<Shared<S>>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared<S> {
    server: Mutex<S>,
    stopping: AtomicBool,
    connections: AtomicUsize,
    open: Mutex<BTreeMap<usize, TcpStream>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time now, by this machine's clock.
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl<S: Site> Front<S> {
    /// Binds to any free port of 127.0.0.1, moves the server there and serves it.
    pub fn start(mut server: S) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        server.move_to(&format!("http://{address}"));
        let shared = Arc::new(Shared {
            server: Mutex::new(server),
            stopping: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            open: Mutex::new(BTreeMap::new()),
        });
        let accepting = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// The server, to look at or to change. Nothing is answered while this is held.
    pub fn server(&self) -> MutexGuard<'_, S> {
        lock(&self.shared.server)
    }

    /// The port it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Closes the connections that are open, and goes on listening.
    pub fn hang_up(&self) {
        for stream in lock(&self.shared.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Front {
    /// The issuer, such as `http://127.0.0.1:38123`.
    pub fn issuer(&self) -> String {
        self.server().issuer().to_owned()
    }

    /// What discovery would find, without asking.
    pub fn metadata(&self) -> ServerMetadata {
        self.server().metadata()
    }

    /// The address of one of its places.
    pub fn url(&self, place: Place) -> String {
        self.server().address(place)
    }

    /// Posts the pings that are due (CIBA, section 10.2) to a client's endpoint: the statuses of its answers.
    ///
    /// # Errors
    ///
    /// If it is not there, or answers otherwise than by HTTP.
    pub fn ping(&self, endpoint: SocketAddr) -> io::Result<Vec<u16>> {
        let due = self.server().pings(wall_clock());
        let post = |ping: Ping| {
            let mut stream = TcpStream::connect(endpoint)?;
            let (length, Ping { token, body }) = (ping.body.len(), ping);
            let fields = format!("Host: {endpoint}\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}");
            stream.write_all(format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n{body}").as_bytes())?;
            Ok(Reader::new(stream).response()?.0)
        };
        due.into_iter().map(post).collect()
    }
}

impl<S: Site> Drop for Front<S> {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // One connection more wakes the thread that waits for one.
        let _ = TcpStream::connect(self.address);
        self.hang_up();
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept<S: Site>(listener: &TcpListener, shared: &Arc<Shared<S>>) {
    let mut serving = Vec::new();
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        let Ok(clone) = stream.try_clone() else { continue };
        lock(&shared.open).insert(number, clone);
        let shared = shared.clone();
        serving.push(std::thread::spawn(move || {
            // Whatever breaks here is the peer's to see.
            let _ = serve(&stream, &shared);
            let _ = stream.shutdown(Shutdown::Both);
            lock(&shared.open).remove(&number);
        }));
    }
    for stream in lock(&shared.open).values() {
        let _ = stream.shutdown(Shutdown::Both);
    }
    for thread in serving {
        let _ = thread.join();
    }
}

/// Answers the requests of one connection, one after another.
fn serve<S: Site>(stream: &TcpStream, shared: &Shared<S>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = Reader::new(stream);
    while let Some(request) = reader.request()? {
        let close = request.headers().get("connection").is_some_and(|value| value == "close");
        let answer = lock(&shared.server).answer(wall_clock(), &request);
        shared.sleep(answer.delay)?;
        match answer.wire {
            Wire::Whole(response) => write(stream, &response, response.body().len(), response.body())?,
            Wire::Truncated(response) => {
                let half = &response.body()[..response.body().len() / 2];
                return write(stream, &response, response.body().len(), half);
            }
            Wire::Dripping(response, pause) => {
                write(stream, &response, response.body().len(), &[])?;
                for byte in response.body() {
                    shared.sleep(pause)?;
                    (&mut &*stream).write_all(&[*byte])?;
                }
            }
            Wire::Endless => return endless(stream, shared),
            Wire::Dropped => return Ok(()),
        }
        if close {
            break;
        }
    }
    Ok(())
}

/// Answers the requests of any connection, one after another, until there is no answer to one.
pub(crate) fn answer_on<S: Read + Write>(
    stream: &mut S,
    mut answer: impl FnMut(&S, Request<Vec<u8>>) -> Option<Response<Vec<u8>>>,
) -> io::Result<()> {
    while let Some(request) = Reader::new(&mut *stream).request()? {
        let close = request.headers().get("connection").is_some_and(|value| value == "close");
        let Some(response) = answer(stream, request) else { return Ok(()) };
        write(&mut *stream, &response, response.body().len(), response.body())?;
        stream.flush()?;
        if close {
            break;
        }
    }
    Ok(())
}

fn write(mut stream: impl Write, response: &Response<Vec<u8>>, length: usize, body: &[u8]) -> io::Result<()> {
    let mut bytes = format!("HTTP/1.1 {}\r\ncontent-length: {length}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    stream.write_all(&bytes)
}

/// A body in chunks without an end, until the peer has enough.
fn endless<S>(mut stream: &TcpStream, shared: &Shared<S>) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")?;
    let mut chunk = b"1000\r\n".to_vec();
    chunk.resize(chunk.len() + 0x1000, b' ');
    chunk.extend_from_slice(b"\r\n");
    while !shared.stopping.load(Ordering::SeqCst) {
        stream.write_all(&chunk)?;
    }
    Ok(())
}

impl<S> Shared<S> {
    /// Waits, but not longer than the front lives.
    fn sleep(&self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.stopping.load(Ordering::SeqCst) {
                return Err(io::Error::other("stopping"));
            }
            std::thread::sleep(Duration::from_millis(5).min(end - Instant::now()));
        }
        Ok(())
    }
}
