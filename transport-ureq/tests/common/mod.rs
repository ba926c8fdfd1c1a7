//! Small hand-made servers on loopback, and machines that ask for one thing.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use grantflow_ureq::grantflow::machine::Reach;
use grantflow_ureq::grantflow::{Call, Cx, Effect, Error, Machine, Reply, Step};

/// A server that answers each connection by a function, on a thread of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gets the connection after the whole request was read.
    pub(crate) fn start(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        let address = Self::accept(move |mut stream| {
            let request = read_request(&mut stream);
            seen.lock().unwrap().push(request);
            answer(stream);
        });
        Self { address, requests }
    }

    /// Always answers with these bytes.
    pub(crate) fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut stream| stream.write_all(&answer).unwrap())
    }

    /// Hands out connections before anything is read.
    pub(crate) fn accept(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
        address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/token?query=canary", self.address)
    }

    /// The requests so far, heads and bodies.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Reads one request whose body, if any, has a `content-length`.
pub(crate) fn read_request(stream: &mut impl Read) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return text,
            Ok(count) => text.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
        }
    }
}

/// A port where nobody listens.
pub(crate) fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A POST of a form to this address, to be sent at most once, with 5 s and 1 MiB; cleartext is allowed.
pub(crate) fn call(url: &str) -> Call {
    let request = http::Request::post(url)
        .header("accept", "application/json")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(b"secret=canary".to_vec());
    Call::new(request.unwrap()).with_timeout(Duration::from_secs(5)).with_reach(Reach::Local)
}

/// A machine that asks for one effect and yields the reply.
pub(crate) struct Once(Option<Effect>);

pub(crate) fn once(effect: Effect) -> Once {
    Once(Some(effect))
}

impl Machine for Once {
    type Output = Reply;
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<Reply> {
        self.0.take().map_or(Step::Done(Ok(reply)), Step::Do)
    }
}

/// A machine that asks for what the function says, forever.
pub(crate) struct Forever<F>(pub(crate) F);

impl<F: FnMut() -> Effect> Machine for Forever<F> {
    type Output = ();
    fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<()> {
        Step::Do((self.0)())
    }
}

/// All that an error says, sources included.
pub(crate) fn whole(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(&format!(" {inner} {inner:?}"));
        source = inner.source();
    }
    text
}
