//! Lines that a person pastes into the terminal, without waiting for them.

use std::io::{self, IsTerminal as _};

use zeroize::{Zeroize as _, Zeroizing};

/// The most bytes of a line to keep.
const MAX_LINE: usize = 64 * 1024;

/// The terminal that the standard input is.
pub(crate) struct Terminal {
    input: os::Input,
    line: Zeroizing<Vec<u8>>,
}

impl Terminal {
    /// The terminal, if the standard input is one.
    pub(crate) fn open() -> Option<Self> {
        io::stdin().is_terminal().then(os::Input::open)?.ok().map(Self::of)
    }

    fn of(input: os::Input) -> Self {
        Self { input, line: Zeroizing::new(Vec::with_capacity(MAX_LINE)) }
    }

    /// The next line that is not empty, if one was entered.
    pub(crate) fn line(&mut self) -> Option<Zeroizing<String>> {
        while let Some(byte) = self.input.byte() {
            if byte != b'\n' {
                if self.line.len() < MAX_LINE {
                    self.line.push(byte);
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

#[cfg(unix)]
mod os {
    use std::fs::{File, OpenOptions};
    use std::io::{self, BufRead as _, BufReader};
    use std::os::unix::fs::OpenOptionsExt as _;

    /// The terminal, opened once more: reading from it need not wait, and no thread is left behind that
    /// would take the program's next line.
    pub(super) struct Input(BufReader<File>);

    impl Input {
        pub(super) fn open() -> io::Result<Self> {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open("/dev/tty").map(Self::of)
        }

        pub(super) fn of(terminal: File) -> Self {
            Self(BufReader::new(terminal))
        }

        pub(super) fn byte(&mut self) -> Option<u8> {
            let byte = *self.0.fill_buf().ok()?.first()?;
            self.0.consume(1);
            Some(byte)
        }
    }
}

#[cfg(not(unix))]
mod os {
    use std::io::{self, Read as _};
    use std::sync::mpsc::{Receiver, channel};

    /// Bytes from a thread, which waits for them: one line entered after the sign-in is lost to it.
    pub(super) struct Input(Receiver<u8>);

    impl Input {
        pub(super) fn open() -> io::Result<Self> {
            let (send, bytes) = channel();
            std::thread::Builder::new()
                .name("grantflow-paste".into())
                .spawn(move || io::stdin().lock().bytes().map_while(Result::ok).try_for_each(|byte| send.send(byte)))?;
            Ok(Self(bytes))
        }

        pub(super) fn byte(&mut self) -> Option<u8> {
            self.0.try_recv().ok()
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_come_as_they_are_entered() {
        // A file at its end is a terminal where nothing more was entered yet.
        let path = std::env::temp_dir().join(format!("grantflow-terminal-{}", std::process::id()));
        let mut entered = File::create(&path).unwrap();
        let mut terminal = Terminal::of(os::Input::of(File::open(&path).unwrap()));
        std::fs::remove_file(&path).unwrap();
        assert!(terminal.line().is_none());
        entered.write_all(b"half").unwrap();
        assert!(terminal.line().is_none());
        entered.write_all(b" a line \r\n\n\nnext\n").unwrap();
        assert_eq!(terminal.line().unwrap().as_str(), "half a line");
        assert_eq!(terminal.line().unwrap().as_str(), "next");
        assert!(terminal.line().is_none());
        entered.write_all(&vec![b'x'; MAX_LINE + 10]).unwrap();
        entered.write_all(b"\n").unwrap();
        assert_eq!(terminal.line().unwrap().len(), MAX_LINE);
    }
}
