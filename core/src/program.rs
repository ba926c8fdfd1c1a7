//! Programs that a machine asks its driver to run: [`Program`] as it asks for one, [`Exited`] as the program ended.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Shown;

/// A program to run, without a shell.
///
/// Its standard input is closed. The variables of [`env`](Self::env) are added to the environment of the driver's
/// process. Arguments and values are wiped on drop. `Debug` shows the path, the number of arguments and the names of
/// variables, but none of their values.
///
/// ```
/// use std::time::Duration;
/// use grantflow::machine::Program;
///
/// let program = Program::new("gcloud").args(["auth", "print-access-token"]).timeout(Duration::from_secs(20));
/// assert_eq!(format!("{program:?}"), "gcloud with 2 arguments");
/// ```
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    timeout: Duration,
    max_output: usize,
}

impl Program {
    /// The most bytes of standard output that a program may be allowed: see [`max_output`](Self::max_output).
    pub const MOST_OUTPUT: usize = 1024 * 1024;
    /// How many bytes of standard error a driver keeps. It reads the rest, and drops it.
    pub const MAX_STDERR: usize = 4096;

    /// The program at this path, or of this name in the directories of the variable `PATH`: without arguments, within
    /// 30 s, with at most 64 KiB of standard output. On Windows a script is named with its ending, such as `gcloud.cmd`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { path, args: Vec::new(), env: Vec::new(), timeout: Duration::from_secs(30), max_output: 64 * 1024 }
    }

    /// Adds arguments. Each arrives as it is: nothing in it is expanded.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the program's environment, beside those that it inherits.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets the time after which the program is killed.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Sets the most bytes of standard output, [`MOST_OUTPUT`](Self::MOST_OUTPUT) at the most. A program that prints more
    /// is killed, which is a failure of kind [`FailureKind::TooLarge`](crate::machine::FailureKind::TooLarge).
    pub fn max_output(mut self, max: usize) -> Self {
        self.max_output = max.min(Self::MOST_OUTPUT);
        self
    }

    /// The program's path or name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program's arguments, without its own name.
    pub fn arguments(&self) -> impl Iterator<Item = &OsStr> {
        self.args.iter().map(OsString::as_os_str)
    }

    /// The variables that are added to the program's environment; of two of one name the last counts.
    pub fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The time after which the program is killed.
    pub fn time(&self) -> Duration {
        self.timeout
    }

    /// The most bytes of standard output.
    pub fn most_output(&self) -> usize {
        self.max_output
    }
}

/// Wipes the arguments and the values of variables: some programs are given a secret.
impl Drop for Program {
    fn drop(&mut self) {
        let values = self.env.drain(..).map(|(_, value)| value);
        self.args.drain(..).chain(values).for_each(|text| crate::secret::wipe_buffer(&mut text.into_encoded_bytes()));
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} arguments", Shown::path(&self.path), self.args.len())?;
        for (name, _) in &self.env {
            write!(f, " {}=..", Shown::name(&name.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// How a program ended, and what it printed. The output is wiped on drop.
pub struct Exited {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Exited {
    /// A program that ended with this exit code, or, as by a signal, without one. It printed `stdout` to standard
    /// output, and `stderr` to standard error, of which at most [`Program::MAX_STDERR`] bytes are kept.
    pub fn new(code: Option<i32>, stdout: Vec<u8>, mut stderr: Vec<u8>) -> Self {
        if let Some(rest) = stderr.get_mut(Program::MAX_STDERR..) {
            crate::secret::wipe(rest);
            stderr.truncate(Program::MAX_STDERR);
        }
        Self { code, stdout, stderr }
    }

    /// The exit code. `None` if a signal ended the program.
    pub fn code(&self) -> Option<i32> {
        self.code
    }

    /// What the program printed to standard output. It may be a secret.
    pub fn stdout(&self) -> &[u8] {
        &self.stdout
    }

    /// The beginning of what the program printed to standard error. It may hold secrets too.
    pub fn stderr(&self) -> &[u8] {
        &self.stderr
    }
}

impl Drop for Exited {
    fn drop(&mut self) {
        crate::secret::wipe_buffer(&mut self.stdout);
        crate::secret::wipe_buffer(&mut self.stderr);
    }
}

impl fmt::Debug for Exited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "exit code {code}")?,
            None => f.write_str("no exit code")?,
        }
        write!(f, ", {} bytes of output, {} of errors", self.stdout.len(), self.stderr.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_argument_no_value_and_no_output() {
        let program = Program::new("/usr/bin/get-token").args(["--key", "canary"]).env("KEY", "canary");
        assert_eq!(format!("{program:?}"), "/usr/bin/get-token with 2 arguments KEY=..");
        let exited = Exited::new(Some(1), b"canary".to_vec(), b"canary canary".to_vec());
        assert_eq!(format!("{exited:?}"), "exit code 1, 6 bytes of output, 13 of errors");
        assert_eq!(
            format!("{:?}", Exited::new(None, Vec::new(), Vec::new())),
            "no exit code, 0 bytes of output, 0 of errors"
        );
    }

    #[test]
    fn limits_hold_whatever_is_asked_for() {
        assert_eq!(Program::new("x").max_output(usize::MAX).most_output(), Program::MOST_OUTPUT);
        assert_eq!(Exited::new(Some(0), Vec::new(), vec![b'x'; 10_000]).stderr().len(), Program::MAX_STDERR);
    }
}
