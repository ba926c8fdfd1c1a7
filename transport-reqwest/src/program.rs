//! The effect `Exec`: a program that is run without a shell, within its time, and no longer than its caller waits.
//!
//! ```text
//! start ─▶ step ─▶ step ─▶ ... ─▶ its end, whatever process holds its pipes open
//!            └──▶ out of time, too much output, given up: killed
//! ```

use std::io::{self, Read};
use std::mem;
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use grantflow::machine::{Exited, FailureKind, Program};
use grantflow::{Failure, Reply};
use zeroize::Zeroizing;

/// The longest pause between two looks at a program.
const PAUSE: Duration = Duration::from_millis(10);
/// How much is read at once.
const PART: usize = 4096;
/// How often one look reads. In all that is more than a pipe holds.
const PARTS: usize = 64;
/// How long to wait for the last output of a program that has ended, where nobody can tell that it is the last.
const LINGER: Duration = Duration::from_millis(500);

/// What runs programs. Transports have it as a pointer, so that a program that does not allow any holds none of it.
pub(crate) type Run = fn(Program) -> Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Runs a program. It is killed if this future is dropped.
pub(crate) async fn run(program: Program) -> Reply {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut running = match Running::start(&program) {
        Ok(running) => running,
        Err(failure) => return Reply::Failed(failure),
    };
    loop {
        match running.step() {
            Ok(Some(exited)) => return Reply::Exec(exited),
            Ok(None) => {}
            Err(failure) => return Reply::Failed(failure),
        }
        let left = program.time().saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Reply::Failed(Failure::maybe_sent(FailureKind::Timeout, "the program was killed"));
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(PAUSE);
    }
}

/// A program under way. Dropped before its end, it is killed: on Unix with all that it has started and that did not
/// leave its process group, on Windows by itself.
struct Running {
    child: Child,
    stdout: Output,
    stderr: Output,
    max: usize,
    /// How and when it ended.
    ended: Option<(ExitStatus, Instant)>,
}

impl Running {
    fn start(program: &Program) -> Result<Self, Failure> {
        let mut command = Command::new(program.path());
        command.args(program.arguments()).envs(program.variables());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let failed = |error: io::Error| Failure::not_sent(FailureKind::Program, error);
        let mut child = command.spawn().map_err(failed)?;
        let pipes = (child.stdout.take(), child.stderr.take());
        let max = program.most_output();
        let mut running = Self { child, stdout: Output::default(), stderr: Output::default(), max, ended: None };
        if let (Some(stdout), Some(stderr)) = pipes {
            running.stdout = Output::new(stdout, max.saturating_add(1)).map_err(failed)?;
            running.stderr = Output::new(stderr, Program::MAX_STDERR).map_err(failed)?;
        }
        Ok(running)
    }

    /// Reads what is there, without waiting. The program's end, if that has come.
    fn step(&mut self) -> Result<Option<Exited>, Failure> {
        let failed = |error: io::Error| Failure::maybe_sent(FailureKind::Program, error);
        // Looked at first: what it printed before its end is in the pipes by then. Those that it started may keep them
        // open, and are not waited for.
        if self.ended.is_none() {
            self.ended = self.child.try_wait().map_err(failed)?.map(|status| (status, Instant::now()));
        }
        self.stdout.read().map_err(failed)?;
        self.stderr.read().map_err(failed)?;
        if self.stdout.kept.len() > self.max {
            return Err(Failure::maybe_sent(FailureKind::TooLarge, format!("more than {} bytes of output", self.max)));
        }
        let Some((status, at)) = self.ended else { return Ok(None) };
        let is_read = Output::AT_ONCE || (self.stdout.is_over() && self.stderr.is_over());
        if !is_read && at.elapsed() < LINGER {
            return Ok(None);
        }
        let [stdout, stderr] = [&mut self.stdout, &mut self.stderr].map(|output| mem::take(&mut *output.kept));
        Ok(Some(Exited::new(status.code(), stdout, stderr)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        // Until it is waited for, nobody else has its number.
        #[cfg(unix)]
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        // It ends at once, unless the kernel holds it: then it is left behind.
        for _ in 0..20 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The output of a pipe so far, up to a limit. What is read beyond it is dropped.
#[derive(Default)]
struct Output {
    pipe: Option<Pipe>,
    kept: Zeroizing<Vec<u8>>,
    max: usize,
}

#[cfg(unix)]
type Pipe = Box<dyn Read + Send>;
/// Where a pipe cannot be read without waiting, a thread waits for it. One that those hold open whom the program has
/// started lives as long as they do.
#[cfg(not(unix))]
type Pipe = std::sync::mpsc::Receiver<Zeroizing<Vec<u8>>>;

impl Output {
    /// Whether what is in a pipe is read at once, so that nothing can be left in it.
    const AT_ONCE: bool = cfg!(unix);

    #[cfg(unix)]
    fn new(pipe: impl Read + std::os::fd::AsFd + Send + 'static, max: usize) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&pipe)?;
        rustix::fs::fcntl_setfl(&pipe, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self::of(Box::new(pipe), max))
    }

    #[cfg(not(unix))]
    fn new(mut pipe: impl Read + Send + 'static, max: usize) -> io::Result<Self> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(4);
        std::thread::Builder::new().spawn(move || {
            let mut part = Zeroizing::new([0; PART]);
            while let Ok(length @ 1..) = pipe.read(&mut *part)
                && sender.send(Zeroizing::new(part.get(..length).unwrap_or_default().to_vec())).is_ok()
            {}
        })?;
        Ok(Self::of(receiver, max))
    }

    /// Room for all of it from the start: growth would leave copies behind.
    fn of(pipe: Pipe, max: usize) -> Self {
        Self { pipe: Some(pipe), kept: Zeroizing::new(Vec::with_capacity(max)), max }
    }

    fn is_over(&self) -> bool {
        self.pipe.is_none()
    }

    /// Reads what is there, and not endlessly: a program may print faster than this reads.
    #[cfg(unix)]
    fn read(&mut self) -> io::Result<()> {
        let mut part = Zeroizing::new([0; PART]);
        for _ in 0..PARTS {
            let Some(pipe) = &mut self.pipe else { break };
            match pipe.read(&mut *part) {
                Ok(0) => self.pipe = None,
                Ok(length) => self.keep(part.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    #[cfg(not(unix))]
    fn read(&mut self) -> io::Result<()> {
        use std::sync::mpsc::TryRecvError;
        for _ in 0..PARTS {
            match self.pipe.as_ref().map(|pipe| pipe.try_recv()) {
                Some(Ok(part)) => self.keep(&part),
                Some(Err(TryRecvError::Disconnected)) => self.pipe = None,
                Some(Err(TryRecvError::Empty)) | None => break,
            }
        }
        Ok(())
    }

    fn keep(&mut self, part: &[u8]) {
        let room = self.max.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(part.get(..room).unwrap_or(part));
    }
}
