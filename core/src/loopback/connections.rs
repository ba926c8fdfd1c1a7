//! The table of open connections, whatever the sockets are.

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use zeroize::Zeroizing;

use super::receiver::{Heard, MAX_HEAD, Receiver};
use crate::Now;

/// The most connections at a time.
const MAX_OPEN: usize = 8;
/// How long a connection may live.
const LIFE: Duration = Duration::from_secs(10);
/// The most bytes to throw away after the reply, so that closing does not reset the connection
/// before the browser has read the page.
const MAX_DRAINED: usize = 64 * 1024;

/// What to do with a socket, without waiting: see [`Connections::serve`].
#[derive(Debug)]
pub enum Io<'a> {
    /// Read into this; 0 bytes mean the end.
    Read(&'a mut [u8]),
    /// Write some of this.
    Write(&'a [u8]),
    /// Shut down the writing side. The number returned does not matter.
    Close,
}

/// The open connections of a receiver: at most 8, each for at most 10 seconds.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::io::{Read, Write};
/// use std::net::{Shutdown, TcpListener, TcpStream};
///
/// use grantflow::Now;
/// use grantflow::loopback::{Connections, Io, Receiver};
///
/// // One round of a blocking program; one poll of an asynchronous one looks the same.
/// fn round(listener: &TcpListener, open: &mut Connections<TcpStream>, receiver: &mut Receiver, now: Now)
///     -> std::io::Result<bool> {
///     if let Ok((socket, _)) = listener.accept() {
///         socket.set_nonblocking(true)?;
///         drop(open.add(socket, now));
///     }
///     Ok(open.serve(receiver, now, |socket, io| match io {
///         Io::Read(buffer) => socket.read(buffer),
///         Io::Write(bytes) => socket.write(bytes),
///         Io::Close => socket.shutdown(Shutdown::Write).map(|()| 0),
///     }))
/// }
/// # let _ = round; Ok(()) }
/// ```
pub struct Connections<S>(Vec<Connection<S>>);

struct Connection<S> {
    socket: S,
    /// Of [`MAX_HEAD`] bytes from the beginning: it holds the code, and must leave no copy behind.
    buffer: Zeroizing<Vec<u8>>,
    read: usize,
    reply: Option<Vec<u8>>,
    written: usize,
    closed: bool,
    drained: usize,
    answered: bool,
    active: Duration,
    ends: Duration,
}

/// What became of a connection.
enum State {
    Waiting,
    Over,
}

impl<S> Default for Connections<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Connections<S> {
    /// No connections yet.
    pub fn new() -> Self {
        Self(Vec::with_capacity(MAX_OPEN))
    }

    /// Takes a connection in. If there are too many, gives back one to be closed: one that has sent
    /// nothing yet before one that has, and then that which has been still for longest.
    pub fn add(&mut self, socket: S, now: Now) -> Option<S> {
        let idle = |(_, connection): &(usize, &Connection<S>)| (connection.read > 0, connection.active);
        let evicted = if self.0.len() < MAX_OPEN {
            None
        } else {
            let candidates = self.0.iter().enumerate().filter(|(_, connection)| !connection.answered);
            match candidates.min_by_key(idle) {
                Some((index, _)) => Some(self.0.remove(index).socket),
                None => return Some(socket),
            }
        };
        self.0.push(Connection {
            socket,
            buffer: Zeroizing::new(vec![0; MAX_HEAD]),
            read: 0,
            reply: None,
            written: 0,
            closed: false,
            drained: 0,
            answered: false,
            active: now.mono,
            ends: now.mono.saturating_add(LIFE),
        });
        evicted
    }

    /// Moves every connection on as far as it goes now, and closes by dropping those that are over.
    ///
    /// `io` must not wait: where it would, it returns [`ErrorKind::WouldBlock`] (and, if asynchronous,
    /// wakes its task later). Returns true once the receiver has its answer and the page about it is
    /// written: it is time to [finish](Receiver::finish).
    #[must_use]
    pub fn serve(
        &mut self,
        receiver: &mut Receiver,
        now: Now,
        mut io: impl FnMut(&mut S, Io<'_>) -> io::Result<usize>,
    ) -> bool {
        self.0.retain_mut(|connection| {
            connection.ends > now.mono && matches!(connection.advance(receiver, now, &mut io), State::Waiting)
        });
        receiver.is_answered() && !self.0.iter().any(|connection| connection.answered && !connection.closed)
    }

    /// When the next connection ends by itself, on the monotonic clock: time to serve again.
    pub fn wake_at(&self) -> Option<Duration> {
        self.0.iter().map(|connection| connection.ends).min()
    }
}

impl<S> Connection<S> {
    fn advance(
        &mut self,
        receiver: &mut Receiver,
        now: Now,
        io: &mut impl FnMut(&mut S, Io<'_>) -> io::Result<usize>,
    ) -> State {
        loop {
            let done = match &self.reply {
                None => io(&mut self.socket, Io::Read(self.buffer.get_mut(self.read..).unwrap_or_default())),
                Some(reply) => match reply.get(self.written..) {
                    Some(rest) if !rest.is_empty() => io(&mut self.socket, Io::Write(rest)),
                    _ if !self.closed => {
                        self.closed = true;
                        match io(&mut self.socket, Io::Close) {
                            Ok(_) => continue,
                            Err(_) => return State::Over,
                        }
                    }
                    _ => io(&mut self.socket, Io::Read(&mut self.buffer)),
                },
            };
            let count = match done {
                Ok(0) => return State::Over,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return State::Waiting,
                Err(_) => return State::Over,
            };
            self.active = now.mono;
            if self.closed {
                self.drained = self.drained.saturating_add(count);
                if self.drained > MAX_DRAINED {
                    return State::Over;
                }
            } else if self.reply.is_some() {
                self.written = self.written.saturating_add(count);
            } else {
                self.read = self.read.saturating_add(count);
                self.hear(receiver, now);
            }
        }
    }

    fn hear(&mut self, receiver: &mut Receiver, now: Now) {
        match receiver.hear(self.buffer.get(..self.read).unwrap_or(&self.buffer), now.wall) {
            Heard::More => {}
            Heard::Reply(reply) => self.reply = Some(reply),
            Heard::Answered(reply) => {
                self.reply = Some(reply);
                self.answered = true;
            }
        }
    }
}

/// Shows how many there are.
impl<S> fmt::Debug for Connections<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("open", &self.0.len()).finish_non_exhaustive()
    }
}
