//! A simulation from many seeds, on all processors.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// After so many seeds that broke a rule the others are left out.
const ENOUGH: usize = 20;

/// How seeds went that broke no rule.
pub trait Report: fmt::Debug + fmt::Display + Default + PartialEq + Send {
    /// What leads to a simulation of this kind on the command line.
    fn command(&self) -> &'static str;

    /// Adds another up.
    fn add(&mut self, other: &Self);

    /// How many things happened.
    fn events(&self) -> u64;

    /// How much time passed.
    fn time(&self) -> Duration;
}

/// A rule was broken.
pub struct Broken<R> {
    /// The seed; it leads here every time.
    pub seed: u64,
    /// Which rule, and how.
    pub why: String,
    /// What had happened last.
    pub last: Vec<String>,
    /// What had happened until then.
    pub report: R,
}

impl<R: Report> fmt::Debug for Broken<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.last {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {} broke a rule at event {}: {}", self.seed, self.report.events(), self.why)?;
        let (command, seed) = (self.report.command(), self.seed);
        write!(f, "again: cargo run --release -p grantflow-tests --bin {command} --seed {seed}")
    }
}

/// One seed of a simulation.
pub type Run<R> = fn(u64) -> Result<R, Box<Broken<R>>>;

/// How many seeds went.
#[derive(Debug)]
pub struct Runs<R: Report> {
    /// How many were run.
    pub ran: u64,
    /// How those went that broke no rule.
    pub total: R,
    /// The others, in order.
    pub broken: Vec<Broken<R>>,
}

/// Runs the seeds from `first` to `last`.
///
/// # Panics
///
/// If a simulation panics.
pub fn run_all<R: Report>(run: Run<R>, first: u64, last: u64) -> Runs<R> {
    let next = AtomicU64::new(first);
    let runs = Mutex::new(Runs { ran: 0, total: R::default(), broken: Vec::new() });
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last || runs.lock().expect("no worker panicked").broken.len() >= ENOUGH {
                return;
            }
            let result = run(seed);
            let mut runs = runs.lock().expect("no worker panicked");
            runs.ran += 1;
            match result {
                Ok(report) => runs.total.add(&report),
                Err(broken) => runs.broken.push(*broken),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let mut runs = runs.into_inner().expect("no worker panicked");
    runs.broken.sort_by_key(|broken| broken.seed);
    runs
}
