//! The person's terminal: what it shows, and what they type.

use std::io::{self, IsTerminal as _, Read, Write as _};

use zeroize::{Zeroize as _, Zeroizing};

/// The longest line to keep.
const MAX_LINE: usize = 64 * 1024;

/// Prints a line for the person, if there is still somewhere to print to.
pub(crate) fn print(text: &str) {
    // The standard output is the program's.
    let mut out = io::stderr().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// The lines typed or pasted into the terminal that standard input is. Nothing waits for them: the
/// sign-in looks now and then.
pub(crate) struct Terminal {
    input: Box<dyn Read + Send>,
    line: Zeroizing<Vec<u8>>,
}

impl Terminal {
    /// Asks for the address, if there is a terminal to read it from.
    pub(crate) fn open(redirect_uri: &str) -> Option<Self> {
        let input = io::stdin().is_terminal().then(input)?.ok()?;
        print(&format!(
            "If the browser runs on another machine, it ends at an address that it cannot show, and that begins with\n\
             {redirect_uri}\nPaste that address here:"
        ));
        Some(Self::of(input))
    }

    fn of(input: impl Read + Send + 'static) -> Self {
        Self { input: Box::new(input), line: Zeroizing::new(Vec::with_capacity(MAX_LINE)) }
    }

    /// The next line that is not empty, if one was entered. What lies behind it stays unread.
    pub(crate) fn line(&mut self) -> Option<Zeroizing<String>> {
        let mut byte = [0];
        while self.input.read(&mut byte).is_ok_and(|count| count == 1) {
            if byte != [b'\n'] {
                if self.line.len() < MAX_LINE {
                    self.line.extend(byte);
                }
                continue;
            }
            let text = Zeroizing::new(String::from_utf8_lossy(&self.line).trim().to_owned());
            self.line.zeroize();
            if !text.is_empty() {
                return Some(text);
            }
        }
        None
    }
}

/// The terminal, opened once more, so that this alone does not wait on it, and the program's own standard
/// input stays as it is.
#[cfg(unix)]
fn input() -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    std::fs::OpenOptions::new().read(true).custom_flags(flags).open("/dev/tty")
}

/// Bytes from a thread that waits for them: a line entered after the sign-in is over is lost.
#[cfg(not(unix))]
fn input() -> io::Result<impl Read + Send> {
    struct Bytes(std::sync::mpsc::Receiver<u8>);

    impl Read for Bytes {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let byte = self.0.try_recv().map_err(|_| io::ErrorKind::WouldBlock)?;
            buffer[..1].fill(byte);
            Ok(1)
        }
    }

    let (sender, bytes) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("grantflow-paste".into())
        .spawn(move || io::stdin().lock().bytes().map_while(Result::ok).try_for_each(|byte| sender.send(byte)))?;
    Ok(Bytes(bytes))
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_come_as_they_are_entered() {
        // A file at its end is a terminal where nothing was entered yet.
        let path = std::env::temp_dir().join(format!("grantflow-reqwest-terminal-{}", std::process::id()));
        let mut entered = File::create(&path).unwrap();
        let mut terminal = Terminal::of(File::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(terminal.line(), None);
        entered.write_all(b"half").unwrap();
        assert_eq!(terminal.line(), None);
        entered.write_all(b" a line \r\n\n \nnext\n").unwrap();
        assert_eq!(terminal.line().unwrap().as_str(), "half a line");
        assert_eq!(terminal.line().unwrap().as_str(), "next");
        assert_eq!(terminal.line(), None);
        entered.write_all(&[b'x'; MAX_LINE + 10]).unwrap();
        entered.write_all(b"\n").unwrap();
        assert_eq!(terminal.line().unwrap().len(), MAX_LINE);
    }
}
