//! Lines from standard input.

use std::io;
use std::task::{Context, Poll};

use zeroize::Zeroizing;

/// The longest line to take.
#[cfg(unix)]
const MAX: usize = 64 * 1024;

/// The lines of a terminal or pipe. Nothing is read unless it is there, and no thread waits for it: once
/// this is dropped, what is typed is the program's again.
#[cfg(unix)]
pub(crate) struct Lines {
    /// Registered anew for each read: what is left is told anew only so, and to read until it "would block"
    /// would block, since a terminal is shared with others and must not be set otherwise.
    input: Option<tokio::net::unix::pipe::Receiver>,
    unread: Zeroizing<Vec<u8>>,
}

#[cfg(unix)]
impl Lines {
    /// The lines of standard input; an error if that is a file.
    pub(crate) fn stdin() -> io::Result<Self> {
        use std::os::fd::AsFd as _;
        Self::of(io::stdin().as_fd().try_clone_to_owned()?)
    }

    fn of(input: std::os::fd::OwnedFd) -> io::Result<Self> {
        let input = Some(tokio::net::unix::pipe::Receiver::from_owned_fd_unchecked(input)?);
        Ok(Self { input, unread: Zeroizing::new(Vec::with_capacity(MAX)) })
    }

    /// The next line; `None` at the end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Zeroizing<String>>> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = Zeroizing::new(self.unread.drain(..=end).collect::<Vec<_>>());
                return Poll::Ready(Some(Zeroizing::new(String::from_utf8_lossy(&line).trim().to_owned())));
            }
            let Some(input) = &self.input else { return Poll::Ready(None) };
            let ready = std::task::ready!(input.poll_read_ready(cx));
            if ready.and_then(|()| self.read()).is_err() {
                return Poll::Ready(None);
            }
        }
    }

    /// Reads what is there.
    fn read(&mut self) -> io::Result<()> {
        let Some(input) = self.input.take() else { return Ok(()) };
        let mut buffer = Zeroizing::new([0; 4096]);
        let count = input.try_read(&mut *buffer)?;
        if count == 0 || self.unread.len() + count > MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend_from_slice(&buffer[..count]);
        self.input = Some(tokio::net::unix::pipe::Receiver::from_owned_fd_unchecked(input.into_nonblocking_fd()?)?);
        Ok(())
    }
}

/// The lines of standard input, from a thread that waits for them.
#[cfg(not(unix))]
pub(crate) struct Lines(tokio::sync::mpsc::Receiver<Zeroizing<String>>);

#[cfg(not(unix))]
impl Lines {
    pub(crate) fn stdin() -> io::Result<Self> {
        let (lines, receiver) = tokio::sync::mpsc::channel(1);
        std::thread::Builder::new().name("paste".into()).spawn(move || {
            for line in io::stdin().lines().map_while(Result::ok) {
                if lines.blocking_send(Zeroizing::new(line)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self(receiver))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Zeroizing<String>>> {
        self.0.poll_recv(cx)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn lines_come_one_by_one_however_they_arrive() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut lines = Lines::of(reader.into()).unwrap();
        let mut next = async || std::future::poll_fn(|cx| lines.poll(cx)).await.map(|line| line.to_string());
        let long = "x".repeat(10_000);
        write!(writer, "one\r\n two \n{long}\nfo").unwrap();
        assert_eq!(next().await.unwrap(), "one");
        assert_eq!(next().await.unwrap(), "two");
        assert_eq!(next().await.unwrap(), long);
        let later = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            writeln!(writer, "ur\nthe rest").unwrap();
        });
        assert_eq!(next().await.unwrap(), "four");
        later.join().unwrap();
        assert_eq!(next().await.unwrap(), "the rest");
        assert_eq!(next().await, None);
        assert_eq!(next().await, None);
    }

    #[tokio::test]
    async fn a_line_without_end_is_given_up() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut lines = Lines::of(reader.into()).unwrap();
        let writing = std::thread::spawn(move || writer.write_all(&[b'x'; MAX + 1]));
        assert!(std::future::poll_fn(|cx| lines.poll(cx)).await.is_none());
        drop(lines);
        let _ = writing.join().unwrap();
    }
}
