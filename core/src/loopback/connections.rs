//! The table of open connections, whatever the sockets are.

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use zeroize::Zeroizing;

use super::receiver::{Heard, MAX_REQUEST, Receiver};
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
    /// Read into this buffer; 0 bytes mean the end.
    Read(&'a mut [u8]),
    /// Write some of these bytes.
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
    /// Of [`MAX_REQUEST`] bytes from the beginning: it holds the code, and must leave no copy behind.
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

    /// Takes a connection in. If there are too many, returns one to be closed: one that has its reply, or else the one
    /// that has been idle for longest. [Serve](Self::serve) after each: a connection of a flood must not take the place
    /// of one that was not read yet.
    pub fn add(&mut self, socket: S, now: Now) -> Option<S> {
        let idle = |(_, connection): &(usize, &Connection<S>)| (connection.reply.is_none(), connection.active);
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
            buffer: Zeroizing::new(vec![0; MAX_REQUEST]),
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

    /// Serves every connection as far as it goes now, and drops those that are over.
    ///
    /// `io` must not wait: where it would, it returns [`ErrorKind::WouldBlock`] (and, if asynchronous,
    /// wakes its task later). Returns true once the receiver has its answer, and the page about it and all others
    /// that were begun are written: it is time to [finish](Receiver::finish).
    #[must_use]
    pub fn serve(
        &mut self,
        receiver: &mut Receiver,
        now: Now,
        mut io: impl FnMut(&mut S, Io<'_>) -> io::Result<usize>,
    ) -> bool {
        self.0.retain_mut(|connection| connection.ends > now.mono && connection.advance(receiver, now, &mut io));
        receiver.is_answered() && self.0.iter().all(|connection| connection.reply.is_none() || connection.closed)
    }

    /// When the next connection ends by itself, on the monotonic clock: time to serve again.
    pub fn wake_at(&self) -> Option<Duration> {
        self.0.iter().map(|connection| connection.ends).min()
    }
}

impl<S> Connection<S> {
    /// Whether it goes on after this.
    fn advance(
        &mut self,
        receiver: &mut Receiver,
        now: Now,
        io: &mut impl FnMut(&mut S, Io<'_>) -> io::Result<usize>,
    ) -> bool {
        loop {
            let done = match &self.reply {
                None => io(&mut self.socket, Io::Read(self.buffer.get_mut(self.read..).unwrap_or_default())),
                Some(reply) => match reply.get(self.written..) {
                    Some(rest) if !rest.is_empty() => io(&mut self.socket, Io::Write(rest)),
                    _ if !self.closed => {
                        self.closed = true;
                        match io(&mut self.socket, Io::Close) {
                            Ok(_) => continue,
                            Err(_) => return false,
                        }
                    }
                    _ => io(&mut self.socket, Io::Read(&mut self.buffer)),
                },
            };
            let count = match done {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            };
            self.active = now.mono;
            if self.closed {
                self.drained = self.drained.saturating_add(count);
                if self.drained > MAX_DRAINED {
                    return false;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::tests::receiver;

    /// A browser's end: what it still sends, how many bytes go through at once, what it got.
    struct Fake {
        name: usize,
        sends: Vec<u8>,
        hangs_up: bool,
        at_once: usize,
        takes: usize,
        got: Vec<u8>,
        closed: bool,
    }

    fn fake(name: usize, sends: &str) -> Fake {
        let sends = sends.as_bytes().to_vec();
        Fake { name, sends, hangs_up: false, at_once: usize::MAX, takes: usize::MAX, got: Vec::new(), closed: false }
    }

    fn io(socket: &mut Fake, io: Io<'_>) -> io::Result<usize> {
        match io {
            Io::Read(_) if socket.sends.is_empty() && socket.hangs_up => Ok(0),
            Io::Read(_) if socket.sends.is_empty() => Err(ErrorKind::WouldBlock.into()),
            Io::Read(buffer) => {
                let count = socket.at_once.min(buffer.len()).min(socket.sends.len());
                buffer[..count].copy_from_slice(&socket.sends[..count]);
                socket.sends.drain(..count);
                Ok(count)
            }
            Io::Write(_) if socket.takes == 0 => Err(ErrorKind::WouldBlock.into()),
            Io::Write(bytes) => {
                let count = socket.at_once.min(bytes.len()).min(socket.takes);
                socket.takes -= count;
                socket.got.extend(&bytes[..count]);
                Ok(count)
            }
            Io::Close => {
                socket.closed = true;
                Ok(0)
            }
        }
    }

    fn at(millis: u64) -> Now {
        Now { mono: Duration::from_millis(millis), ..Now::default() }
    }

    fn names(open: &Connections<Fake>) -> Vec<usize> {
        open.0.iter().map(|connection| connection.socket.name).collect()
    }

    #[test]
    fn an_answer_byte_by_byte_is_done_when_its_page_is_written() {
        let (mut receiver, answer) = receiver();
        let mut open = Connections::new();
        let mut browser = fake(0, &answer.request());
        (browser.at_once, browser.takes) = (1, 100);
        assert!(open.add(browser, at(0)).is_none());
        assert!(open.add(fake(1, ""), at(0)).is_none());
        assert!(!open.serve(&mut receiver, at(1), io), "the page is not written yet");
        assert!(receiver.is_answered());
        open.0[0].socket.takes = usize::MAX;
        assert!(open.serve(&mut receiver, at(2), io));
        let browser = &open.0[0].socket;
        assert!(browser.closed && browser.got.ends_with(b"</html>\n"));
    }

    #[test]
    fn a_browser_that_comes_twice_sees_two_pages() {
        let (mut receiver, answer) = receiver();
        let mut open = Connections::new();
        open.add(fake(0, &answer.request()), at(0));
        let mut again = fake(1, &answer.request());
        again.takes = 100;
        open.add(again, at(0));
        assert!(!open.serve(&mut receiver, at(1), io), "the second page is not written yet");
        open.0[1].socket.takes = usize::MAX;
        assert!(open.serve(&mut receiver, at(2), io));
        let pages = open.0.iter().map(|connection| String::from_utf8_lossy(&connection.socket.got).into_owned());
        let pages: Vec<_> = pages.collect();
        assert!(pages[0].starts_with("HTTP/1.1 200") && pages[1].contains("Sign-in already received"), "{pages:?}");
    }

    #[test]
    fn strays_are_answered_and_the_flow_goes_on() {
        let (mut receiver, answer) = receiver();
        let mut open = Connections::new();
        let strays =
            ["GET /favicon.ico HTTP/1.1\r\nHost: 127.0.0.1:50123\r\n\r\n", "\x16\x03\x01", "\0\0\0\0", "SSH-2.0-x\r\n"];
        for (name, stray) in strays.into_iter().enumerate() {
            open.add(fake(name, stray), at(0));
        }
        let mut half = fake(4, "GET / HT");
        half.hangs_up = true;
        open.add(half, at(0));
        assert!(!open.serve(&mut receiver, at(0), io));
        assert_eq!(names(&open), [0, 1, 2, 3], "the one that hung up is gone");
        assert!(open.0.iter().all(|connection| connection.socket.closed));
        open.add(fake(5, &answer.request()), at(1));
        assert!(open.serve(&mut receiver, at(1), io));
    }

    #[test]
    fn a_connection_lives_ten_seconds_however_busy() {
        let (mut receiver, _) = receiver();
        let mut open = Connections::new();
        open.add(fake(0, "G"), at(0));
        open.add(fake(1, ""), at(5_000));
        assert_eq!(open.wake_at(), Some(Duration::from_secs(10)));
        open.0[0].socket.sends.push(b'E');
        assert!(!open.serve(&mut receiver, at(9_999), io));
        assert_eq!(names(&open), [0, 1]);
        assert!(!open.serve(&mut receiver, at(10_000), io));
        assert_eq!(names(&open), [1]);
        assert_eq!(open.wake_at(), Some(Duration::from_secs(15)));
    }

    #[test]
    fn the_ninth_connection_replaces_one_that_has_its_reply_or_else_the_stillest() {
        let (mut receiver, _) = receiver();
        let mut open = Connections::new();
        for name in 0..8 {
            open.add(fake(name, if name == 5 { "SSH\r\n" } else { "" }), at(name as u64));
        }
        open.0[0].socket.sends.push(b'G');
        assert!(!open.serve(&mut receiver, at(8), io));
        let evicted: Vec<_> = (8..16).map(|name| open.add(fake(name, ""), at(9)).unwrap().name).collect();
        assert_eq!(evicted, [5, 1, 2, 3, 4, 6, 7, 0]);
        assert_eq!(open.0.len(), 8);
    }

    #[test]
    fn a_flood_cannot_push_out_the_answer() {
        let (mut receiver, answer) = receiver();
        let mut open = Connections::new();
        let mut browser = fake(0, &answer.request());
        browser.takes = 10;
        open.add(browser, at(0));
        assert!(!open.serve(&mut receiver, at(0), io));
        for name in 1..100 {
            open.add(fake(name, "G"), at(1));
            assert!(!open.serve(&mut receiver, at(1), io));
        }
        assert!(names(&open).contains(&0));
        assert!(open.serve(&mut receiver, at(10_000), io), "a browser that reads nothing does not hold it up for ever");
    }

    #[test]
    fn endless_bytes_are_cut_off() {
        let (mut receiver, _) = receiver();
        let mut open = Connections::new();
        open.add(fake(0, &"x".repeat(1_000_000)), at(0));
        open.add(fake(1, &format!("GET /{}", "x".repeat(1_000_000))), at(0));
        open.add(fake(2, &"GET / HTTP/1.1\r\nHost: 127.0.0.1:50123\r\n\r\n".repeat(50_000)), at(0));
        assert!(!open.serve(&mut receiver, at(0), io));
        assert!(open.0.is_empty());
    }

    #[test]
    fn a_pasted_answer_ends_the_wait_too() {
        let (mut receiver, answer) = receiver();
        let mut open = Connections::new();
        open.add(fake(0, ""), at(0));
        assert!(!open.serve(&mut receiver, at(0), io));
        receiver.paste(&answer.url(), crate::Timestamp::default()).unwrap();
        assert!(open.serve(&mut receiver, at(0), io));
    }
}
