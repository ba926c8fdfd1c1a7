//! Many processes share one rotating refresh token through a store, at a server that ends the grant when an old
//! refresh token comes back. They are killed and stopped at random moments. This program is its own child.
//!
//! With `GRANTFLOW_FULL` set, the numbers are those of a proof, which takes a quarter of an hour:
//! `GRANTFLOW_FULL=1 cargo test --release -p grantflow-store --features postgres,redis --test processes`
//!
//! With `interop ISSUER` behind it, it does the same at a server that is already running.

#[cfg(unix)]
mod cases;
#[cfg(unix)]
mod child;
#[cfg(unix)]
mod outages;
#[cfg(unix)]
mod place;
#[cfg(unix)]
mod watched;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child", ref rest @ ..] => child::main(rest),
        ["interop", issuer] => cases::interop(issuer),
        ref rest => cases::main(rest),
    }
}

#[cfg(not(unix))]
fn main() {
    println!("processes are killed and stopped by signals, which are not known here");
}
