//! The sockets around core's loopback receiver (RFC 8252, section 7.3).

use std::future::poll_fn;
use std::io::{self, ErrorKind, IsTerminal as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use grantflow::loopback::{Connections, Io, Receiver};
use grantflow::{Error, InstalledApp, TokenRequest};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::paste::Lines;
use crate::{Transport, browser};

/// How often to look for a port that is free on all addresses.
const TRIES: usize = 10;
/// How long to leave a listener alone that gave an error, such as too many open files.
const REST: Duration = Duration::from_millis(100);

/// Sends the user to their browser and waits for what comes back.
pub(crate) async fn receive(transport: &Transport, app: &InstalledApp) -> Result<TokenRequest, Error> {
    let addresses = app.addresses()?;
    let (listeners, port) =
        bind(&addresses).await.map_err(|e| Error::new(grantflow::ErrorKind::Loopback, format!("no port: {e}")))?;
    let mut receiver = app.start(port, &mut transport.cx()?)?;
    let message = app.announce(receiver.url());
    if let Some(message) = &message {
        eprintln!("{message}");
    }
    let opening = app.opens_browser().then(|| {
        let (name, url) = (app.browser_name().map(str::to_owned), receiver.url().to_owned());
        tokio::task::spawn_blocking(move || browser::open(name.as_deref(), &url))
    });
    let mut waiting = Waiting {
        transport,
        listeners,
        open: Connections::new(),
        timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        opening,
        may_paste: message.is_some() && io::stdin().is_terminal(),
        lines: None,
    };
    if app.takes_paste() {
        waiting.take_paste();
    }
    // Without an answer in time, the receiver has the error.
    let _ = tokio::time::timeout(app.time_limit(), poll_fn(|cx| waiting.poll(cx, &mut receiver))).await;
    receiver.finish()
}

/// Binds to the first address, and to the others on the port it got.
async fn bind(addresses: &[SocketAddr]) -> io::Result<(Vec<TcpListener>, u16)> {
    let (first, others) = addresses.split_first().ok_or_else(|| io::Error::other("no address to listen on"))?;
    let mut tries = 0;
    'again: loop {
        tries += 1;
        let mut listeners = vec![TcpListener::bind(first).await?];
        let port = listeners[0].local_addr()?.port();
        for other in others {
            match TcpListener::bind((other.ip(), port)).await {
                Ok(listener) => listeners.push(listener),
                // Whoever holds it would be sent the answer.
                Err(e) if e.kind() == ErrorKind::AddrInUse && first.port() == 0 && tries < TRIES => continue 'again,
                Err(e) if e.kind() == ErrorKind::AddrInUse => return Err(e),
                // This machine does not have that address.
                Err(_) => {}
            }
        }
        return Ok((listeners, port));
    }
}

/// Everything that an answer may come from.
struct Waiting<'a> {
    transport: &'a Transport,
    listeners: Vec<TcpListener>,
    open: Connections<TcpStream>,
    timer: Pin<Box<Sleep>>,
    opening: Option<JoinHandle<io::Result<()>>>,
    /// Whether to ask for the redirect's address if no browser can be opened.
    may_paste: bool,
    lines: Option<Lines>,
}

impl Waiting<'_> {
    /// Moves everything on as far as it goes now; ready once the receiver has its answer.
    fn poll(&mut self, cx: &mut Context<'_>, receiver: &mut Receiver) -> Poll<()> {
        self.poll_browser(cx);
        self.poll_paste(cx, receiver);
        loop {
            let now = self.transport.now();
            let rest = self.accept(cx);
            let io = |socket: &mut TcpStream, io: Io<'_>| serve(socket, io, cx);
            if self.open.serve(receiver, now, io) {
                return Poll::Ready(());
            }
            let wake = self.open.wake_at().map(|at| at.saturating_sub(now.mono)).into_iter().chain(rest).min();
            let Some(wake) = wake else { return Poll::Pending };
            self.timer.as_mut().reset(tokio::time::Instant::now() + wake);
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Takes in whoever connects. If a listener fails, returns how long to leave it alone.
    fn accept(&mut self, cx: &mut Context<'_>) -> Option<Duration> {
        let mut rest = None;
        for listener in &self.listeners {
            loop {
                match listener.poll_accept(cx) {
                    Poll::Ready(Ok((socket, _))) => drop(self.open.add(socket, self.transport.now())),
                    Poll::Ready(Err(_)) => {
                        rest = Some(REST);
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
        rest
    }

    fn poll_browser(&mut self, cx: &mut Context<'_>) {
        let Some(opening) = &mut self.opening else { return };
        let Poll::Ready(opened) = Pin::new(opening).poll(cx) else { return };
        self.opening = None;
        if !matches!(opened, Ok(Ok(()))) && self.may_paste {
            self.take_paste();
        }
    }

    fn take_paste(&mut self) {
        self.lines = Lines::stdin().ok();
        if self.lines.is_some() && self.may_paste {
            eprintln!("If the browser is on another machine, paste the address here that it ends up at:");
        }
    }

    fn poll_paste(&mut self, cx: &mut Context<'_>, receiver: &mut Receiver) {
        while let Some(lines) = &mut self.lines {
            match lines.poll(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.lines = None,
                Poll::Ready(Some(line)) if line.is_empty() => {}
                Poll::Ready(Some(line)) => match receiver.paste(&line, self.transport.now().wall) {
                    Ok(()) => self.lines = None,
                    Err(error) => eprintln!("This is not the address: {error}"),
                },
            }
        }
    }
}

/// What core asks of a socket, without waiting.
fn serve(socket: &mut TcpStream, io: Io<'_>, cx: &mut Context<'_>) -> io::Result<usize> {
    let socket = Pin::new(socket);
    let done = match io {
        Io::Read(bytes) => {
            let mut buffer = ReadBuf::new(bytes);
            socket.poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
        }
        Io::Write(bytes) => socket.poll_write(cx, bytes),
        Io::Close => socket.poll_shutdown(cx).map_ok(|()| 0),
    };
    match done {
        Poll::Ready(done) => done,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}
