//! The sign-in of an installed application: the sockets, the browser and the terminal around
//! [`grantflow::loopback`], or a code that is shown.

use std::io::{self, ErrorKind as Io, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Receiver as Channel;
use std::time::{Duration, Instant};

use grantflow::loopback::{Connections, Io as Do, Receiver};
use grantflow::{Error, ErrorKind, InstalledApp, Now, Token};

use crate::browser::open;
use crate::limit::LONGEST;
use crate::terminal::Terminal;
use crate::{Limit, Transport};

/// How long to wait between two looks at the sockets.
const PAUSE: Duration = Duration::from_millis(8);
/// How often to look for a port that is free on both loopback addresses.
const PORTS: u32 = 10;
/// The most connections to take at once, so that a flood of them cannot hold up the rest.
const BURST: usize = 64;

impl Transport {
    /// Signs a person in, in their browser: listens on loopback, prints the URL and opens it, waits for the answer, and
    /// exchanges its code for a token. It takes as long as the person takes, at most [`InstalledApp::timeout`].
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
    pub fn sign_in(&self, app: &InstalledApp) -> Result<Token, Error> {
        self.sign_in_until(app, &Limit::new())
    }

    /// As [`sign_in`](Self::sign_in), but no longer than the limit allows.
    pub fn sign_in_until(&self, app: &InstalledApp, limit: &Limit) -> Result<Token, Error> {
        if let Some(request) = app.device_authorization()? {
            let code = self.run_until(request.exchange(), limit)?;
            if let Some(message) = app.announce_code(&code) {
                print(&message);
            }
            return self.run_until(app.poll(code)?, limit);
        }
        let listeners = listen(&app.addresses()?)?;
        let port = listeners[0].local_addr().map_err(|e| loopback("the port that was bound is not known", e))?.port();
        let receiver = self.run_until(app.start(port), limit)?;
        let mut waiting = Waiting::begin(app, receiver, listeners)?;
        let end = Instant::now() + app.time_limit().min(LONGEST);
        while !waiting.go_round(self.now())? && Instant::now() < end {
            limit.sleep(PAUSE);
            if let Some(error) = limit.over("while the person signed in") {
                return Err(error);
            }
        }
        // If the time is over, that is the receiver's error.
        self.run_until(waiting.receiver.finish(), limit)
    }
}

/// Everything that an answer may come from.
struct Waiting<'a> {
    app: &'a InstalledApp,
    receiver: Receiver,
    listeners: Vec<TcpListener>,
    open: Connections<TcpStream>,
    browser: Option<Channel<io::Error>>,
    terminal: Option<Terminal>,
}

impl<'a> Waiting<'a> {
    /// Shows the URL and opens the browser.
    fn begin(app: &'a InstalledApp, receiver: Receiver, listeners: Vec<TcpListener>) -> Result<Self, Error> {
        let mut waiting = Self { app, receiver, listeners, open: Connections::new(), browser: None, terminal: None };
        if let Some(message) = app.announce(waiting.receiver.url()) {
            print(&message);
        }
        if app.takes_paste() {
            waiting.ask();
        }
        if app.opens_browser() {
            waiting.browser = Some(open(app.browser_name(), waiting.receiver.url())?);
        } else if app.is_silent() && waiting.terminal.is_none() {
            return Err(Error::new(ErrorKind::Loopback, "the URL to sign in with would be shown nowhere"));
        }
        Ok(waiting)
    }

    /// Asks on the terminal, if there is one. There the person needs the URL, whatever was shown before.
    fn ask(&mut self) {
        self.terminal = Terminal::open();
        if self.terminal.is_some() {
            if self.app.is_silent() {
                print(&format!("Open this URL in your browser to sign in:\n{}", self.receiver.url()));
            }
            let uri = self.receiver.redirect_uri();
            print(&format!(
                "If that browser is on another machine, it ends at an address it cannot open:\n{uri}?...\nPaste that address here:"
            ));
        }
    }

    /// Moves everything on as far as it goes now. True once the answer is in.
    fn go_round(&mut self, now: Now) -> Result<bool, Error> {
        for listener in &self.listeners {
            for _ in 0..BURST {
                let Ok((socket, _)) = listener.accept() else { break };
                if socket.set_nonblocking(true).is_ok() {
                    drop(self.open.add(socket, now));
                }
                // Before the next one may take the place of this one.
                if self.open.serve(&mut self.receiver, now, perform) {
                    return Ok(true);
                }
            }
        }
        if let Some(error) = self.browser.as_ref().and_then(|browser| browser.try_recv().ok())
            && self.terminal.is_none()
        {
            // It may still be opened by hand, if there is anyone to do so.
            print(&format!("No browser could be opened: {error}."));
            self.ask();
            if self.terminal.is_none() && self.app.is_silent() {
                return Err(loopback("no browser can be opened, and there is no terminal", error));
            }
        }
        while let Some(line) = self.terminal.as_mut().and_then(Terminal::line) {
            match self.receiver.paste(&line, now.wall) {
                Ok(()) => return Ok(true),
                Err(error) => print(&Receiver::paste_again(&line, &error)),
            }
        }
        Ok(self.open.serve(&mut self.receiver, now, perform))
    }
}

fn loopback(message: &'static str, source: io::Error) -> Error {
    Error::new(ErrorKind::Loopback, format!("{message}: {source}")).with_source(source)
}

/// Prints a line for the person, if there is still somewhere to print to.
pub(crate) fn print(text: &str) {
    // The standard output is the program's.
    let mut out = io::stderr().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// One step of a connection, without waiting.
fn perform(socket: &mut TcpStream, step: Do<'_>) -> io::Result<usize> {
    match step {
        Do::Read(buffer) => socket.read(buffer),
        Do::Write(bytes) => socket.write(bytes),
        Do::Close => socket.shutdown(Shutdown::Write).map(|()| 0),
    }
}

/// Binds the first address, and the others on its port. Windows gives an address to one program only by
/// itself, as long as nobody asks to share it.
fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Error> {
    let [first, others @ ..] = addresses else {
        return Err(Error::new(ErrorKind::Loopback, "there is no address to listen on"));
    };
    let mut tries = if first.port() == 0 { PORTS } else { 1 };
    loop {
        tries -= 1;
        match listen_once(*first, others) {
            // Another program holds the port on one of the other addresses: another port, then.
            Err(error) if error.kind() == Io::AddrInUse && tries > 0 => {}
            result => return result.map_err(|error| cannot_listen(addresses, error)),
        }
    }
}

fn cannot_listen(addresses: &[SocketAddr], error: io::Error) -> Error {
    let places: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let what = format!("cannot listen on {} for the browser's answer: {error}", places.join(" and "));
    let what = match error.kind() {
        Io::AddrInUse => format!("{what} (another program holds the port: end it, or choose another port)"),
        _ => what,
    };
    Error::new(ErrorKind::Loopback, what).with_source(error)
}

fn listen_once(first: SocketAddr, others: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = vec![TcpListener::bind(first)?];
    let port = listeners[0].local_addr()?.port();
    for other in others {
        match TcpListener::bind((other.ip(), port)) {
            Ok(listener) => listeners.push(listener),
            // The one that holds it would get the answer (Windows calls it a missing permission).
            Err(error) if matches!(error.kind(), Io::AddrInUse | Io::PermissionDenied) => {
                return Err(io::Error::new(Io::AddrInUse, error));
            }
            // This machine has no such address.
            Err(_) => {}
        }
    }
    listeners.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
    Ok(listeners)
}
