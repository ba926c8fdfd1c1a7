//! The process that refreshes, over and over.

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grantflow_store::grantflow::source::{TokenSource as _, Want};
use grantflow_store::grantflow::store::SharedGrant;
use grantflow_store::grantflow::{Advice, ServerMetadata};
use grantflow_ureq::Transport;

use crate::place::{self, key};

/// `STORE ISSUER TOKEN_ENDPOINT CLIENT LABEL PACE COUNT`. Each token is asked for as if the one before would not
/// do any more; with pace `expiry`, when that is so; with `key`, it says which key the store has for it, and no more. It
/// says `ready`, then `token ...` for each, or what went wrong. It ends early when its input does, or the grant is lost.
pub(crate) fn main(args: &[&str]) -> ExitCode {
    let [store, issuer, endpoint, client, label, pace, count] = args else { panic!("not these: {args:?}") };
    let key = key(issuer, client, label);
    let metadata = ServerMetadata::new(place::issuer(issuer)).token_endpoint(endpoint).unwrap();
    let store = place::open(store);
    let transport = Transport::new().unwrap().with_store(store.store.clone());
    // All that are told to make a key are there before the first one has.
    if *pace == place::KEY {
        println!("ready");
        let client = place::client(client, issuer, label, &transport);
        client.dpop_key().into_iter().for_each(|key| println!("token {}", key.thumbprint()));
        return ExitCode::SUCCESS;
    }
    let client = place::client(client, issuer, label, &transport);
    let grant = SharedGrant::new(key, metadata, &client);
    let ended = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let ended = ended.clone();
        move || {
            let _ = std::io::stdin().read(&mut [0]);
            ended.store(true, Ordering::SeqCst);
        }
    });
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(100));
            store.read_keys();
        }
    });
    println!("ready");
    let mut state = grant.first_state();
    for _ in 0..count.parse::<u64>().unwrap() {
        let mut mint = grant.mint(&Want::access_token(""), &state);
        let result = transport.run(&mut mint);
        state.merge(mint.take_change());
        match result {
            Ok(token) => {
                println!("token {}", token.access_token());
                if let (&"expiry", Some(end)) = (pace, token.expires_at()) {
                    let begin = token.issued_at();
                    // A little after it is due, which is when a quarter of its life is left.
                    let due = begin + end.since(begin).mul_f64(0.78);
                    std::thread::sleep(due.since(transport.now().wall).max(Duration::from_millis(1)));
                }
                if let Some(error) = state.save_error() {
                    println!("unsaved {error}");
                }
            }
            Err(error) if error.advice() == Some(Advice::SignInAgain) => {
                println!("lost {error}");
                return ExitCode::SUCCESS;
            }
            Err(error) => println!("again {error}"),
        }
        if ended.load(Ordering::SeqCst) {
            break;
        }
    }
    ExitCode::SUCCESS
}
