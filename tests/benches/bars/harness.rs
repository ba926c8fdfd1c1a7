//! Measures pieces of work side by side, in rounds that alternate between them.

use std::fmt::Write as _;
use std::time::Duration;

use cpu_time::ThreadTime;

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(12);

/// A piece of work, done again and again.
pub(crate) struct Work<'a> {
    name: &'static str,
    run: Box<dyn FnMut() + 'a>,
}

impl<'a> Work<'a> {
    /// The work is whatever `run` does, up to and including the drop of what it returns.
    pub(crate) fn new<T>(name: &'static str, mut run: impl FnMut() -> T + 'a) -> Self {
        Self { name, run: Box::new(move || drop(std::hint::black_box(run()))) }
    }

    fn time(&mut self, times: u32) -> Duration {
        // The processor's time, so that other programs add nothing by having their turn.
        let start = ThreadTime::now();
        // The closure reads one thread-local per allocation while it does not count.
        allocation_counter::opt_out(|| (0..times).for_each(|_| (self.run)()));
        start.elapsed() / times
    }
}

/// What one piece of work took.
pub(crate) struct Figures {
    pub(crate) name: &'static str,
    /// Exact: it is the same each time.
    pub(crate) allocations: u64,
    pub(crate) median: Duration,
    /// The quickest round: what noise has added the least to.
    pub(crate) best: Duration,
}

/// Measures all of them, each round one after the other, so that a noisy neighbour meets them all.
pub(crate) fn measure(mut works: Vec<Work<'_>>) -> Vec<Figures> {
    let mut all: Vec<_> = works
        .iter_mut()
        .map(|work| {
            (work.run)();
            let allocations = allocation_counter::measure(|| (work.run)()).count_total;
            let once = work.time(100).max(Duration::from_nanos(1));
            (allocations, (ROUND.as_nanos() / once.as_nanos()).clamp(1, 1_000_000) as u32, Vec::new())
        })
        .collect();
    for _ in 0..ROUNDS {
        for (work, (_, times, rounds)) in works.iter_mut().zip(&mut all) {
            rounds.push(work.time(*times));
        }
    }
    let figures = works.iter().zip(all).map(|(work, (allocations, _, mut rounds))| {
        rounds.sort();
        Figures { name: work.name, allocations, median: rounds[ROUNDS / 2], best: rounds[0] }
    });
    figures.collect()
}

/// A table of several pieces of work; ratios are to the last one, the floor.
pub(crate) fn table(title: &str, figures: &[Figures]) -> String {
    let mut text =
        format!("{title:<28} {:>11} {:>12} {:>10} {:>10}\n", "median", "allocations", "to floor", "quietest");
    let floor = &figures[figures.len() - 1];
    for one in figures {
        let (name, median, allocations) = (one.name, format!("{:.2?}", one.median), one.allocations);
        let (ratio, quiet) = (ratio(one.median, floor.median), ratio(one.best, floor.best));
        let _ = writeln!(text, "  {name:<26} {median:>11} {allocations:>12} {ratio:>9.2}x {quiet:>9.2}x");
    }
    text
}

pub(crate) fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}
