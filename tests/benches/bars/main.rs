//! The work that has a bar, each beside a floor: the least code that does the same, in the same process.
//! `cargo bench -p grantflow-tests --bench bars`; with `-- --check` it fails where a bar is broken, and with
//! `-- NAME` it does only what has the name in it.

mod authorize;
mod harness;
mod token_answer;

use std::process::ExitCode;

use harness::{Figures, Work, measure, ratio, table};

/// How much longer than its floor a piece of work may take.
const BAR: f64 = 1.3;
/// How often a broken bar is measured again before it counts: noise only ever adds.
const TRIES: usize = 5;

fn main() -> ExitCode {
    let check = std::env::args().any(|arg| arg == "--check");
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).unwrap_or_default();
    let cases: [(&str, fn() -> Vec<Work<'static>>, u64); 3] = [
        ("authorization URL", authorize::works, 8),
        ("token answer", token_answer::plain, 6),
        ("token answer with ID token", token_answer::with_id_token, u64::MAX),
    ];
    let mut broken = Vec::new();
    for (name, works, allocations) in cases.into_iter().filter(|(name, ..)| name.contains(&only)) {
        let holds = |figures: &[Figures]| {
            figures[0].allocations <= allocations && ratio(figures[0].best, figures[1].best) <= BAR
        };
        let mut figures = measure(works());
        for _ in 1..TRIES {
            if !check || holds(&figures) {
                break;
            }
            figures = measure(works());
        }
        println!("{}", table(name, &figures));
        if !holds(&figures) {
            broken.push(format!("{name}: more than {BAR} times its floor, or more than {allocations} allocations"));
        }
    }
    broken.iter().for_each(|line| println!("BROKEN: {line}"));
    if check && !broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
