//! The sign-in of an installed application: the sockets, the browser and the terminal around
//! [`grantflow::loopback`] (RFC 8252, section 7.3), or a code that is shown (RFC 8628).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use grantflow::loopback::{Connections, Io, Receiver};
use grantflow::{Error, ErrorKind, InstalledApp, Now, Token};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::terminal::{Terminal, print};
use crate::{Transport, browser, runtime};

/// How often to look for a port that is free on all addresses.
const TRIES: u32 = 10;
/// How long to wait between two looks at the terminal, or at a listener that gave an error, such as too
/// many open files.
const PAUSE: Duration = Duration::from_millis(100);
/// The most connections of a listener to take in before the runtime has looked which of them can be read. With
/// two listeners it is as many as may be open: none of a flood takes the place of one that was not read yet.
const BURST: usize = 4;
/// How long the runtime may take to look.
const MOMENT: Duration = Duration::from_millis(1);

impl Transport {
    /// Signs a person in, in their browser: listens on loopback, prints the URL and opens it, waits for the answer, and
    /// exchanges its code for a token. It takes as long as the person takes, at most [`InstalledApp::timeout`].
    /// Dropping the future ends it and frees the port.
    ///
    /// If no browser can be opened, or [`InstalledApp::paste`] says so, and the standard input is a terminal, the
    /// person may paste into it the address that a browser elsewhere ends at.
    ///
    /// With [`InstalledApp::device`] it prints a code instead, and asks the server until the person has entered it
    /// on another device.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Loopback`] if the port cannot be bound, or the URL cannot be shown;
    /// - [`ErrorKind::Authorization`] if the server sends the person back with an error;
    /// - [`ErrorKind::Timeout`] if they do not come back;
    /// - [`ErrorKind::Expired`] if they do not enter the device's code, [`ErrorKind::Server`] if they refuse there;
    /// - those of the code's exchange.
    pub async fn sign_in(&self, app: &InstalledApp) -> Result<Token, Error> {
        runtime::within(self.sign_in_here(app)).await
    }

    async fn sign_in_here(&self, app: &InstalledApp) -> Result<Token, Error> {
        if let Some(request) = app.device_authorization()? {
            let code = self.run(request.exchange()).await?;
            if let Some(message) = app.announce_code(&code) {
                print(&message);
            }
            return self.run(app.poll(code)?).await;
        }
        let (listeners, port) = listen(&app.addresses()?).await?;
        let mut receiver = self.run(app.start(port)).await?;
        match app.announce(receiver.url()) {
            Some(message) => print(&message),
            None if app.is_silent() && app.takes_paste() => print_url(&receiver),
            None => {}
        }
        let browser = app.opens_browser().then(|| browser::open(app.browser_name(), receiver.url())).transpose()?;
        let mut waiting = Waiting {
            transport: self,
            app,
            listeners,
            open: Connections::new(),
            browser,
            terminal: app.takes_paste().then(|| Terminal::open(receiver.redirect_uri())).flatten(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        };
        let answer = poll_fn(|cx| waiting.poll(cx, &mut receiver));
        if let Ok(Err(error)) = tokio::time::timeout(app.time_limit(), answer).await {
            return Err(error);
        }
        drop(waiting);
        // If the time is over, that is the receiver's error.
        self.run(receiver.finish()).await
    }
}

fn loopback(message: &'static str, source: io::Error) -> Error {
    Error::new(ErrorKind::Loopback, format!("{message}: {source}")).with_source(source)
}

fn print_url(receiver: &Receiver) {
    print(&format!("Open this URL in your browser to sign in:\n{}", receiver.url()));
}

/// Binds the first address, and the others on the port it got.
async fn listen(addresses: &[SocketAddr]) -> Result<(Vec<TcpListener>, u16), Error> {
    let Some((first, others)) = addresses.split_first() else {
        return Err(Error::new(ErrorKind::Loopback, "there is no address to listen on"));
    };
    let mut tries = if first.port() == 0 { TRIES } else { 1 };
    loop {
        tries -= 1;
        match listen_once(first, others).await {
            // Another program holds the port on one of the other addresses: another port, then.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            result => return result.map_err(|error| cannot_listen(addresses, error)),
        }
    }
}

fn cannot_listen(addresses: &[SocketAddr], error: io::Error) -> Error {
    let places: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let what = format!("cannot listen on {} for the browser's answer: {error}", places.join(" and "));
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => format!("{what} (another program holds the port: end it, or choose another port)"),
        _ => what,
    };
    Error::new(ErrorKind::Loopback, what).with_source(error)
}

async fn listen_once(first: &SocketAddr, others: &[SocketAddr]) -> io::Result<(Vec<TcpListener>, u16)> {
    let mut listeners = vec![TcpListener::bind(first).await?];
    let port = listeners[0].local_addr()?.port();
    for other in others {
        match TcpListener::bind((other.ip(), port)).await {
            Ok(listener) => listeners.push(listener),
            // The one that holds it would get the answer (Windows calls it a missing permission).
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, error));
            }
            // This machine has no such address.
            Err(_) => {}
        }
    }
    Ok((listeners, port))
}

/// Everything that an answer may come from.
struct Waiting<'a> {
    transport: &'a Transport,
    app: &'a InstalledApp,
    listeners: Vec<TcpListener>,
    open: Connections<TcpStream>,
    browser: Option<oneshot::Receiver<io::Error>>,
    terminal: Option<Terminal>,
    timer: Pin<Box<Sleep>>,
}

impl Waiting<'_> {
    /// Moves everything on as far as it goes now; ready once the receiver has its answer.
    fn poll(&mut self, cx: &mut Context<'_>, receiver: &mut Receiver) -> Poll<Result<(), Error>> {
        self.poll_browser(cx, receiver)?;
        loop {
            let now = self.transport.now();
            let rest = self.accept(cx, now);
            if self.open.serve(receiver, now, |socket, io| perform(socket, io, cx)) || self.paste(receiver) {
                return Poll::Ready(Ok(()));
            }
            let pause = self.terminal.is_some().then_some(PAUSE);
            let end = self.open.wake_at().map(|at| at.saturating_sub(now.mono));
            let Some(time) = rest.into_iter().chain(pause).chain(end).min() else { return Poll::Pending };
            self.timer.as_mut().reset(Instant::now() + time);
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    /// Takes in new connections. If that is not all, says when to go on.
    fn accept(&mut self, cx: &mut Context<'_>, now: Now) -> Option<Duration> {
        let mut rest = None;
        for listener in &self.listeners {
            let mut taken = 0;
            while let Poll::Ready(accepted) = listener.poll_accept(cx) {
                taken += 1;
                match accepted {
                    Ok((socket, _)) => drop(self.open.add(socket, now)),
                    Err(_) => {
                        rest = Some(PAUSE);
                        break;
                    }
                }
                if taken >= BURST {
                    rest = Some(MOMENT);
                    break;
                }
            }
        }
        rest
    }

    /// A browser that cannot be opened by this program may still be by the person, if there is anyone.
    fn poll_browser(&mut self, cx: &mut Context<'_>, receiver: &Receiver) -> Result<(), Error> {
        let Some(browser) = &mut self.browser else { return Ok(()) };
        let Poll::Ready(failure) = Pin::new(browser).poll(cx) else { return Ok(()) };
        self.browser = None;
        // Nothing comes from one that was opened.
        let Ok(error) = failure else { return Ok(()) };
        if self.terminal.is_none() {
            print(&format!("No browser could be opened: {error}."));
            self.terminal = Terminal::open(receiver.redirect_uri());
            match self.terminal {
                Some(_) if self.app.is_silent() => print_url(receiver),
                None if self.app.is_silent() => {
                    return Err(loopback("no browser can be opened, and there is no terminal", error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes the address from the terminal; true if it was the answer.
    fn paste(&mut self, receiver: &mut Receiver) -> bool {
        while let Some(line) = self.terminal.as_mut().and_then(Terminal::line) {
            match receiver.paste(&line, self.transport.now().wall) {
                Ok(()) => return true,
                Err(error) => print(&Receiver::paste_again(&line, &error)),
            }
        }
        false
    }
}

/// One step of a connection, without waiting.
fn perform(socket: &mut TcpStream, io: Io<'_>, cx: &mut Context<'_>) -> io::Result<usize> {
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
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}
