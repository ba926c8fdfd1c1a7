//! The work that has a bar, each beside a floor: the least code that does the same, in the same process.
//! `cargo bench -p grantflow-tests --bench bars`; with `-- --check` it fails where a bar is broken, and with
//! `-- NAME` it does only what has the name in it.

mod authorize;
mod document;
mod dpop;
mod exchange;
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

const CASES: [Case; 10] = [
    Case { name: "authorization URL", works: authorize::works, bar: 1.3 * TOLERANCE, allocations: |_| 8 },
    Case { name: "token answer", works: token_answer::plain, bar: 1.3 * TOLERANCE, allocations: |_| 6 },
    Case {
        name: "token answer with ID token",
        works: token_answer::with_id_token,
        bar: 1.3,
        // The floor makes a value of each claim.
        allocations: |_| 12,
    },
    Case { name: "refresh with a ready answer", works: exchange::plain, bar: 2.17 * TOLERANCE, allocations: |_| 25 },
    Case { name: "mint of a refresh token", works: exchange::mint, bar: 2.53 * TOLERANCE, allocations: |_| 32 },
    Case {
        name: "service account assertion",
        works: service_account_assertion::works,
        bar: 1.03,
        allocations: |floor| floor + 6,
    },
    Case {
        name: "ID token verified by RS256",
        works: || verified_id_token::Case::rs256().works(),
        bar: verified_id_token::BAR,
        // ring makes some of its own for RSA.
        allocations: |floor| floor + 8,
    },
    Case {
        name: "ID token verified by ES256",
        works: || verified_id_token::Case::es256().works(),
        bar: verified_id_token::BAR,
        allocations: |_| 8,
    },
    Case {
        name: "a document that is there",
        works: document::works,
        bar: 1.75 * TOLERANCE,
        allocations: |floor| floor,
    },
    Case { name: "sign-in in virtual time", works: sign_in::works, bar: 1.0, allocations: |_| u64::MAX },
];
/// By how much what takes less than two microseconds may be above its bar: where the compiler puts its code makes that
/// much of a difference, and other work on the machine does.
const TOLERANCE: f64 = 1.15;
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
    const PROOF: &str = "a DPoP proof";
    if is_meant(PROOF) {
        let over = |figures: &[Figures]| figures[0].best.saturating_sub(figures[1].best);
        let mut figures = measure(dpop::works());
        for _ in 1..TRIES {
            if !check || over(&figures) <= dpop::BAR {
                break;
            }
            figures = measure(dpop::works());
        }
        println!("{}  beside the signature: {:.2?}\n", table(PROOF, &figures), over(&figures));
        if over(&figures) > dpop::BAR {
            broken.push(format!("{PROOF}: more than {:?} beside its signature", dpop::BAR));
        }
    }
    const TWO: &str = "ID token verified by two threads";
    if is_meant(TWO) {
        let case = verified_id_token::Case::rs256();
        let scales = || (0..TRIES).map(|_| case.scale()).inspect(|scale| println!("{TWO}: {scale:.2}x one\n"));
        if !scales().any(|scale| scale >= verified_id_token::SCALE) {
            broken.push(format!("{TWO}: less than {} times one", verified_id_token::SCALE));
        }
    }
    broken.iter().for_each(|line| println!("BROKEN: {line}"));
    if check && !broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
