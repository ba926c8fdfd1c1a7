//! The work that has a bar, each beside a floor: the least code that does the same, in the same process.
//! `cargo bench -p grantflow-tests --bench bars`; with `-- --check` it fails where a bar is broken, and with
//! `-- NAME` it does only what has the name in it.

mod authorize;
mod document;
mod harness;
mod service_account_assertion;
mod sign_in;
mod token_answer;
mod verified_id_token;

use std::process::ExitCode;

use harness::{Figures, Work, measure, ratio, table};

/// A piece of work with its bar.
struct Case {
    name: &'static str,
    works: fn() -> Vec<Work<'static>>,
    /// How much longer than its floor it may take.
    bar: f64,
    /// How many allocations it may make, by those of its floor.
    allocations: fn(u64) -> u64,
}

const CASES: [Case; 6] = [
    Case { name: "authorization URL", works: authorize::works, bar: 1.4, allocations: |_| 8 },
    Case { name: "token answer", works: token_answer::plain, bar: 1.3, allocations: |_| 6 },
    Case {
        name: "token answer with ID token",
        works: token_answer::with_id_token,
        // Its header is read as strictly as that of any signed token: 1.25 before that.
        bar: 1.6,
        allocations: |_| u64::MAX,
    },
    Case {
        name: "service account assertion",
        works: service_account_assertion::works,
        bar: 1.03,
        allocations: |floor| floor + 6,
    },
    Case {
        name: "ID token verified by RS256",
        works: verified_id_token::rs256,
        bar: verified_id_token::RS256,
        // ring makes some of its own for RSA.
        allocations: |floor| floor + 8,
    },
    Case {
        name: "ID token verified by ES256",
        works: verified_id_token::es256,
        bar: verified_id_token::ES256,
        allocations: |_| 8,
    },
];
/// How often a broken bar is measured again before it counts: noise only ever adds.
const TRIES: usize = 5;

fn main() -> ExitCode {
    let check = std::env::args().any(|arg| arg == "--check");
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).unwrap_or_default();
    let is_whole = CASES.iter().any(|case| case.name == only);
    let is_meant = |name: &str| if is_whole { name == only } else { name.contains(&only) };
    let mut broken = Vec::new();
    for Case { name, works, bar, allocations } in CASES.into_iter().filter(|case| is_meant(case.name)) {
        let holds = |figures: &[Figures]| {
            figures[0].allocations <= allocations(figures[1].allocations)
                && ratio(figures[0].best, figures[1].best) <= bar
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
            let allowed = allocations(figures[1].allocations);
            broken.push(format!("{name}: more than {bar} times its floor, or more than {allowed} allocations"));
        }
    }
    for (name, works, bar) in [
        (sign_in::NAME, sign_in::works as fn() -> Vec<Work<'static>>, sign_in::BAR),
        (document::NAME, document::works, document::BAR),
    ] {
        if !is_meant(name) {
            continue;
        }
        let figures = measure(works());
        println!("{}", table(name, &figures));
        if figures[0].best > bar {
            broken.push(format!("{name}: more than {bar:?}"));
        }
    }
    broken.iter().for_each(|line| println!("BROKEN: {line}"));
    if check && !broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
